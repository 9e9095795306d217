//! What devices in DIY mode are asked.

use super::{DiyError, PORT, post};
use crate::sonoff::json::{Fields, Writer};
use crate::sonoff::limits;
use crate::sonoff::message::{Switch, object};
use crate::sonoff::provisioning::{Access, AccessError};
use crate::sonoff::secret::Password;
use crate::sonoff::text::DeviceId;
use crate::sonoff::upgrade::{Format, UrlParts, UrlProblem};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde_json::Value;
use zeroize::Zeroizing;

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
        let (ssid, password) = Access::network(ssid, password)?;
        Ok(Self { ssid, password })
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
