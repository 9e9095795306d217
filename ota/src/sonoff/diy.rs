//! Devices in DIY mode: firmware 3.3 and later, over HTTP in the home network.
//!
//! They are found by mDNS as `_ewelink._tcp`, port 8081, with `type=diy_plug` and their `id`: [`DiyAnnouncement`]. Every request is a POST of
//! [`DiyRequest`] to its [`DiyCall::path`], at least [`DIY_INTERVAL`](super::limits::DIY_INTERVAL) after the one before:
//!
//! 1. `info`: is `otaUnlock` true?
//! 2. `ota_unlock` if it is not; the device asks the vendor, so it needs the internet.
//! 3. `ota_flash` with URL and digest of an image of format v1 for address 0, flash mode DOUT, at most 508 KiB. The device
//!    gets it in ranges, as [`http::answer`](super::http::answer) serves it, and tells the image server how that ended:
//!    `POST` to [`REPORT_PATH`], [`DiyReport`].
//!
//! # Source
//! itead/Sonoff_Devices_DIY_Tools@cb05718: Protocol Doc v1.4; its issues, and those of njh/sonoff-ota-flash-cli.

mod announcement;
mod request;

pub use announcement::{AnnouncedData, DiyAnnouncement, NAME_PREFIX, SERVICE, id_in_name};
pub use request::{DiyCall, DiyImage, DiyNetwork, DiyRefusal, DiyRequest, Startup};

use super::http::{CONTENT_LENGTH, json_response};
use super::json::{FieldProblem, Fields, Writer, required};
use super::limits;
use super::message::{MessageError, Switch, Unsendable, object, within};
use super::text::{DeviceId, Text, Version};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// Port of a device.
pub const PORT: u16 = 8081;
/// Path to which a device tells the image server how an update ended.
pub const REPORT_PATH: &str = "/api/device/otaFlash";

/// `error` of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DiyError {
    /// 400.
    #[error("the request was no JSON")]
    Json,
    /// 401.
    #[error("the device wants its requests encrypted: it is not in DIY mode")]
    NotDiy,
    /// 403.
    #[error("updates are locked: send ota_unlock first")]
    Locked,
    /// 404.
    #[error("the device has another deviceid, or does not know the request")]
    NotFound,
    /// 408.
    #[error("the device could not get the image in time: is the image server reachable from it?")]
    Timeout,
    /// 413.
    #[error("the image is too large")]
    TooLarge,
    /// 422.
    #[error("parameters of the request are wrong")]
    Parameters,
    /// 424.
    #[error("the image could not be downloaded: the server must answer ranges with 206")]
    NotDownloadable,
    /// 471.
    #[error(
        "the digest differs: it must be in lower case and that of the file; do not restart the device, send it again"
    )]
    Digest,
    /// 500.
    #[error("the vendor's server refuses to unlock the device: update its firmware in the vendor's app")]
    UnlockRefused,
    /// 503.
    #[error("the device cannot reach the vendor's server, which it needs to unlock: give it the internet")]
    VendorUnreachable,
    /// Any other.
    #[error("the device answers with the unknown code {0}")]
    Other(u16),
}

impl DiyError {
    const KNOWN: [(u16, Self); 11] = [
        (400, Self::Json),
        (401, Self::NotDiy),
        (403, Self::Locked),
        (404, Self::NotFound),
        (408, Self::Timeout),
        (413, Self::TooLarge),
        (422, Self::Parameters),
        (424, Self::NotDownloadable),
        (471, Self::Digest),
        (500, Self::UnlockRefused),
        (503, Self::VendorUnreachable),
    ];

    /// By its number; `None` for 0.
    #[must_use]
    pub fn new(code: u16) -> Option<Self> {
        let known = Self::KNOWN.into_iter().find(|(known, _)| *known == code);
        (code != 0).then(|| known.map_or(Self::Other(code), |(_, error)| error))
    }

    /// Its number.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Other(code) => code,
            known => Self::KNOWN.into_iter().find(|(_, error)| *error == known).map_or(400, |(code, _)| code),
        }
    }
}

/// An answer of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiyAnswer {
    /// `seq`: counts the answers.
    pub seq: Option<u32>,
    /// What went wrong.
    pub result: Result<DiyInfo, DiyError>,
}

/// `data` of the answer to `info`, or to `signal_strength`; other answers have nothing of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DiyInfo {
    /// `switch`.
    pub switch: Option<Switch>,
    /// `startup`: `on`, `off` or `stay`.
    pub startup: Option<Text<8>>,
    /// `pulse`: `on` or `off`.
    pub pulse: Option<Switch>,
    /// `pulseWidth` in milliseconds.
    pub pulse_width: Option<u32>,
    /// `ssid`: the network that it is in.
    pub ssid: Option<String>,
    /// `otaUnlock`: updates are unlocked.
    pub ota_unlock: Option<bool>,
    /// `fwVersion`, since 3.5.
    pub fw_version: Option<Version>,
    /// `deviceid`, since 3.5.
    pub device_id: Option<DeviceId>,
    /// `bssid`, since 3.5.
    pub bssid: Option<Text<17>>,
    /// `signalStrength` in dBm, since 3.5.
    pub signal_strength: Option<i32>,
}

impl DiyAnswer {
    /// Reads the body. `data` is an object, or such an object as JSON text (3.3); what is neither, and fields in it that cannot
    /// be read, are as if they were not there: only `error` says whether the device has done what it was asked.
    ///
    /// ```
    /// use spark_ota::sonoff::diy::DiyAnswer;
    ///
    /// let text = br#"{"seq":2,"error":0,"data":"{\"switch\":\"off\",\"otaUnlock\":true}"}"#;
    /// let object = br#"{"seq":2,"error":0,"data":{"switch":"off","otaUnlock":true}}"#;
    /// assert_eq!(DiyAnswer::parse(text)?, DiyAnswer::parse(object)?);
    /// assert_eq!(DiyAnswer::parse(text)?.result.unwrap().ota_unlock, Some(true));
    /// # Ok::<(), spark_ota::sonoff::message::MessageError>(())
    /// ```
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn parse(json: &[u8]) -> Result<Self, MessageError> {
        let value = object(json, limits::DIY_ANSWER)?;
        let fields = Fields(value.as_object().ok_or(MessageError::NotAnObject)?);
        let seq = fields.number("seq").map_err(in_field("seq"))?;
        let error = required(fields.number("error")).map_err(in_field("error"))?;
        let result = match DiyError::new(error) {
            Some(error) => Err(error),
            None => Ok(info(fields.get("data"))),
        };
        Ok(Self { seq, result })
    }

    /// The body, with `data` as an object.
    ///
    /// # Errors
    /// [`Unsendable`].
    pub fn to_json(&self) -> Result<String, Unsendable> {
        let error = self.result.as_ref().err().map_or(0, |error| error.code());
        let mut writer = Writer::object().with(self.seq, |writer, seq| writer.number("seq", seq));
        writer = writer.number("error", error);
        if let Ok(info) = &self.result {
            writer = info.write(writer.open("data", '{')).close('}');
        }
        within(limits::DIY_ANSWER, writer.finish())
    }

    /// The whole answer.
    ///
    /// # Errors
    /// [`Unsendable`].
    pub fn to_http(&self) -> Result<Vec<u8>, Unsendable> {
        Ok(json_response(&self.to_json()?, true))
    }
}

fn post(path: &str, host: &str, json: &str) -> Zeroizing<Vec<u8>> {
    let length = json.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{CONTENT_LENGTH}{length}\r\n\r\n"
    );
    Zeroizing::new([head.as_bytes(), json.as_bytes()].concat())
}

fn in_field(field: &'static str) -> impl Fn(FieldProblem) -> MessageError {
    move |problem| MessageError::Field { field, problem }
}

fn info(data: Option<&Value>) -> DiyInfo {
    let object: Cow<'_, Map<String, Value>> = match data {
        Some(Value::Object(object)) => Cow::Borrowed(object),
        Some(Value::String(text)) => match serde_json::from_str(text) {
            Ok(Value::Object(object)) => Cow::Owned(object),
            _ => return DiyInfo::default(),
        },
        _ => return DiyInfo::default(),
    };
    DiyInfo::read(Fields(&object))
}

impl DiyInfo {
    /// What cannot be read is left out.
    fn read(data: Fields<'_>) -> Self {
        let word = |name| data.str(name).ok().flatten().map(str::to_ascii_lowercase);
        let switch = |name| word(name).and_then(|word| Switch::from_text(&word));
        let unlocked = |value: &Value| match value {
            Value::Bool(unlocked) => Some(*unlocked),
            Value::Number(number) => number.as_u64().map(|number| number != 0),
            Value::String(text) => match &*text.to_ascii_lowercase() {
                "true" | "1" | "on" => Some(true),
                "false" | "0" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        };
        Self {
            switch: switch("switch"),
            startup: data.text("startup").ok().flatten(),
            pulse: switch("pulse"),
            pulse_width: data.number("pulseWidth").ok().flatten(),
            ssid: data.str("ssid").ok().flatten().map(ToString::to_string),
            ota_unlock: data.get("otaUnlock").and_then(unlocked),
            fw_version: data.text("fwVersion").ok().flatten(),
            device_id: data.text("deviceid").ok().flatten(),
            bssid: data.text("bssid").ok().flatten(),
            signal_strength: data.number("signalStrength").ok().flatten(),
        }
    }

    fn write(&self, writer: Writer) -> Writer {
        let text = |name| move |writer: Writer, text: &str| writer.text(name, text);
        writer
            .with(self.switch.map(Switch::as_str), text("switch"))
            .with(self.startup.as_ref().map(Text::as_str), text("startup"))
            .with(self.pulse.map(Switch::as_str), text("pulse"))
            .with(self.pulse_width, |writer, width| writer.number("pulseWidth", width))
            .with(self.ssid.as_deref(), text("ssid"))
            .with(self.ota_unlock, |writer, unlocked| writer.boolean("otaUnlock", unlocked))
            .with(self.fw_version.as_ref().map(Text::as_str), text("fwVersion"))
            .with(self.device_id.as_ref().map(Text::as_str), text("deviceid"))
            .with(self.bssid.as_ref().map(Text::as_str), text("bssid"))
            .with(self.signal_strength, |writer, strength| writer.number("signalStrength", strength))
    }
}

/// How an update ended: what a device POSTs to [`REPORT_PATH`] of the image server. Answer with 200.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DiyReport {
    /// 0.
    Done,
    /// 404.
    Download,
    /// 406.
    Request,
    /// 409.
    Digest,
    /// 410.
    Internal,
    /// Any other.
    Other(u16),
}

impl DiyReport {
    /// Reads the body.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn parse(json: &[u8]) -> Result<Self, MessageError> {
        let value = object(json, limits::REQUEST_BODY)?;
        let fields = Fields(value.as_object().ok_or(MessageError::NotAnObject)?);
        Ok(match required(fields.number("error")).map_err(in_field("error"))? {
            0 => Self::Done,
            404 => Self::Download,
            406 => Self::Request,
            409 => Self::Digest,
            410 => Self::Internal,
            other => Self::Other(other),
        })
    }

    /// Its number.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Done => 0,
            Self::Download => 404,
            Self::Request => 406,
            Self::Digest => 409,
            Self::Internal => 410,
            Self::Other(code) => code,
        }
    }

    /// The body.
    #[must_use]
    pub fn to_json(self) -> String {
        Writer::object().number("error", self.code()).finish()
    }

    /// The whole request to the image server at `host`, with its port.
    #[must_use]
    pub fn to_http(self, host: &str) -> Vec<u8> {
        post(REPORT_PATH, host, &self.to_json()).to_vec()
    }
}

impl fmt::Display for DiyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "the image was written",
            Self::Download => "the download failed (404)",
            Self::Request => "the request was wrong (406)",
            Self::Digest => "the digest differs (409): do not restart the device, send it again",
            Self::Internal => "the device failed (410)",
            Self::Other(code) => return write!(f, "code {code}"),
        })
    }
}

#[cfg(test)]
mod tests;
