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

pub use announcement::{AnnouncedData, DiyAnnouncement, NAME_PREFIX, SERVICE, id_in_name};

use super::http::{CONTENT_LENGTH, json_response};
use super::json::{FieldProblem, Fields, Writer, required};
use super::limits;
use super::message::{MessageError, Switch, Unsendable, object, within};
use super::provisioning::{Access, AccessError};
use super::secret::Password;
use super::text::{DeviceId, Text, Version};
use super::upgrade::{Format, UrlParts, UrlProblem};
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

/// What a device is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DiyCall {
    /// State and whether updates are unlocked.
    Info,
    /// Unlock updates.
    OtaUnlock,
    /// Get and write an image.
    OtaFlash(DiyImage),
    /// Switch the relay.
    Switch(Switch),
    /// What the relay does when power comes.
    Startup(Startup),
    /// How strong the Wi-Fi is: `signalStrength`.
    SignalStrength,
    /// Whether the relay goes off by itself after it was switched on, and after how many milliseconds: a multiple of 500.
    Pulse {
        /// `pulse`.
        pulse: Switch,
        /// `pulseWidth`.
        width: Option<u32>,
    },
    /// Join another network.
    Wifi(DiyNetwork),
}

/// `startup`: what the relay does when power comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Startup {
    /// `on`.
    On,
    /// `off`.
    Off,
    /// `stay`: as it was.
    Stay,
}

impl Startup {
    const ALL: [Self; 3] = [Self::On, Self::Off, Self::Stay];

    /// As it stands in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Stay => "stay",
        }
    }

    /// By its word.
    #[must_use]
    pub fn from_text(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|startup| startup.as_str() == word)
    }
}

/// A network to join. `Debug` leaves out the password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiyNetwork {
    ssid: String,
    password: Password,
}

impl DiyNetwork {
    /// Checks and takes both.
    ///
    /// # Errors
    /// [`AccessError::Ssid`], [`AccessError::Password`].
    pub fn new(ssid: &str, password: &str) -> Result<Self, AccessError> {
        let access = Access::network(ssid, password)?;
        Ok(Self { ssid: access.0, password: access.1 })
    }

    /// Name of the network.
    #[must_use]
    pub fn ssid(&self) -> &str {
        &self.ssid
    }

    /// Its password. **Secret.**
    #[must_use]
    pub const fn password(&self) -> &Password {
        &self.password
    }
}

impl DiyCall {
    /// Path of the request.
    #[must_use]
    pub const fn path(&self) -> &'static str {
        match self {
            Self::Info => "/zeroconf/info",
            Self::OtaUnlock => "/zeroconf/ota_unlock",
            Self::OtaFlash(_) => "/zeroconf/ota_flash",
            Self::Switch(_) => "/zeroconf/switch",
            Self::Startup(_) => "/zeroconf/startup",
            Self::SignalStrength => "/zeroconf/signal_strength",
            Self::Pulse { .. } => "/zeroconf/pulse",
            Self::Wifi(_) => "/zeroconf/wifi",
        }
    }
}

/// An image for a device in DIY mode, all rules checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiyImage {
    download_url: String,
    sha256sum: String,
}

/// Why an image cannot be given to a device in DIY mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum DiyRefusal {
    /// The URL.
    #[error("the URL of the image cannot be used by a device")]
    Url(#[source] UrlProblem),
    /// Upper case is taken for another digest.
    #[error("the digest is not 64 lower-case hexadecimal digits")]
    Digest,
    /// Nothing in it.
    #[error("the image is empty")]
    Empty,
    /// Too large.
    #[error("the image has {size} bytes, and a device takes {limit}")]
    TooLarge {
        /// Bytes.
        size: u32,
        /// The limit.
        limit: u32,
    },
    /// It is written to address 0, where only v1 starts.
    #[error("the image is not of format v1, which is what starts from address 0")]
    Format {
        /// What it is.
        found: Format,
    },
    /// The flash chips of these devices are wired for DOUT.
    #[error("the flash mode of the image is {mode}, and must be 3 (DOUT)")]
    FlashMode {
        /// Byte 2 of the image.
        mode: u8,
    },
}

impl DiyImage {
    /// Checks an image: its URL, SHA-256, size, format and flash mode (byte 2 of the file).
    ///
    /// # Errors
    /// The first [`DiyRefusal`].
    pub fn new(url: &str, sha256sum: &str, size: u32, format: Format, mode: u8) -> Result<Self, DiyRefusal> {
        UrlParts::new(url).map_err(DiyRefusal::Url)?;
        let limit = limits::DIY_IMAGE;
        if size == 0 {
            return Err(DiyRefusal::Empty);
        }
        if size > limit {
            return Err(DiyRefusal::TooLarge { size, limit });
        }
        if format != Format::V1 {
            return Err(DiyRefusal::Format { found: format });
        }
        if mode != 3 {
            return Err(DiyRefusal::FlashMode { mode });
        }
        Self::checked(url, sha256sum)
    }

    fn checked(url: &str, sha256sum: &str) -> Result<Self, DiyRefusal> {
        UrlParts::new(url).map_err(DiyRefusal::Url)?;
        let digits = sha256sum.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !digits || sha256sum.len() != limits::DIGEST {
            return Err(DiyRefusal::Digest);
        }
        Ok(Self { download_url: url.to_string(), sha256sum: sha256sum.to_string() })
    }

    /// `downloadUrl`.
    #[must_use]
    pub fn download_url(&self) -> &str {
        &self.download_url
    }

    /// `sha256sum`.
    #[must_use]
    pub fn sha256sum(&self) -> &str {
        &self.sha256sum
    }
}

/// A request to a device.
///
/// ```
/// use spark_ota::sonoff::DeviceId;
/// use spark_ota::sonoff::diy::{DiyCall, DiyRequest};
///
/// let request = DiyRequest { device_id: Some(DeviceId::new("1000abcdef")?), call: DiyCall::Info };
/// assert_eq!(*request.to_json(), r#"{"deviceid":"1000abcdef","data":{}}"#);
/// assert_eq!(DiyRequest::parse(request.call.path(), request.to_json().as_bytes()), Ok(request));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiyRequest {
    /// `deviceid`. Some firmware resets the connection if it is empty, so it is left out rather than that.
    pub device_id: Option<DeviceId>,
    /// What is asked.
    pub call: DiyCall,
}

impl DiyRequest {
    /// The body. **Secret** if it is [`DiyCall::Wifi`].
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<String> {
        let id = self.device_id.as_ref();
        let writer =
            Writer::object().with(id, |writer, id| writer.text("deviceid", id.as_str())).open("data", '{');
        let writer = match &self.call {
            DiyCall::Info | DiyCall::OtaUnlock | DiyCall::SignalStrength => writer,
            DiyCall::OtaFlash(image) => {
                writer.text("downloadUrl", image.download_url()).text("sha256sum", image.sha256sum())
            }
            DiyCall::Switch(switch) => writer.text("switch", switch.as_str()),
            DiyCall::Startup(startup) => writer.text("startup", startup.as_str()),
            DiyCall::Pulse { pulse, width } => writer
                .text("pulse", pulse.as_str())
                .with(*width, |writer, width| writer.number("pulseWidth", width)),
            DiyCall::Wifi(network) => {
                writer.text("ssid", network.ssid()).text("password", network.password().expose())
            }
        };
        Zeroizing::new(writer.close('}').finish())
    }

    /// The whole request to `host`. **Secret** if it is [`DiyCall::Wifi`].
    #[must_use]
    pub fn to_http(&self, host: &str) -> Zeroizing<Vec<u8>> {
        post(self.call.path(), &format!("{host}:{PORT}"), &self.to_json())
    }

    /// Reads a request, as a device does it. An empty `deviceid` is none.
    ///
    /// # Errors
    /// The code with which the device answers: [`DiyError::Json`], [`DiyError::Parameters`], [`DiyError::NotFound`] for another
    /// path.
    pub fn parse(path: &str, json: &[u8]) -> Result<Self, DiyError> {
        let value = object(json, limits::REQUEST_BODY).map_err(|_| DiyError::Json)?;
        let fields = Fields(value.as_object().ok_or(DiyError::Json)?);
        let device_id = match fields.str("deviceid").map_err(|_| DiyError::Parameters)? {
            None | Some("") => None,
            Some(id) => Some(DeviceId::new(id).map_err(|_| DiyError::NotFound)?),
        };
        let data = Fields(fields.get("data").and_then(Value::as_object).ok_or(DiyError::Parameters)?);
        let text = |name| data.str(name).ok().flatten().ok_or(DiyError::Parameters);
        let call = match path {
            "/zeroconf/info" => DiyCall::Info,
            "/zeroconf/ota_unlock" => DiyCall::OtaUnlock,
            "/zeroconf/ota_flash" => {
                let image = DiyImage::checked(text("downloadUrl")?, text("sha256sum")?);
                DiyCall::OtaFlash(image.map_err(|_| DiyError::Parameters)?)
            }
            "/zeroconf/switch" => {
                DiyCall::Switch(Switch::from_text(text("switch")?).ok_or(DiyError::Parameters)?)
            }
            "/zeroconf/startup" => {
                DiyCall::Startup(Startup::from_text(text("startup")?).ok_or(DiyError::Parameters)?)
            }
            "/zeroconf/signal_strength" => DiyCall::SignalStrength,
            "/zeroconf/pulse" => DiyCall::Pulse {
                pulse: Switch::from_text(text("pulse")?).ok_or(DiyError::Parameters)?,
                width: data.number("pulseWidth").map_err(|_| DiyError::Parameters)?,
            },
            "/zeroconf/wifi" => {
                let network = DiyNetwork::new(text("ssid")?, text("password")?);
                DiyCall::Wifi(network.map_err(|_| DiyError::Parameters)?)
            }
            _ => return Err(DiyError::NotFound),
        };
        Ok(Self { device_id, call })
    }
}

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
