//! Telling a device, at its own access point, which network to join and which server to ask.
//!
//! After a long press a device opens the access point `ITEAD-` and its id, password `12345678`, with a small HTTP server at
//! 10.10.7.1:80. [`Provisioning`] is the client: `GET /device`, then `POST /ap`. [`ApRequest`] is the device's side.
//!
//! The device's answer 0 comes before it tries to join: it does not mean that the password is right. When a field is
//! missing it does not answer at all, and what is too long it cuts silently, so nothing of that is sent.
//!
//! # Source
//! Firmware of the IoTgo 2.0 generation; recorded requests of SonOTA@40dba7c.

mod client;
mod request;

pub use client::{Output, Provisioning};
pub use request::ApRequest;

use super::http::HeadError;
use super::json::{FieldProblem, Fields, Writer, required};
use super::limits;
use super::secret::{ApiKey, Password, printable};
use super::text::{DeviceId, ServerName, TextError};
use alloc::string::String;
use core::fmt;
use core::time::Duration;
use serde_json::Value;
use zeroize::Zeroizing;

/// Address of a device at its access point.
pub const ADDRESS: &str = "10.10.7.1";
/// Port of its HTTP server.
pub const PORT: u16 = 80;
/// Name of the access point is this and the device id.
pub const AP_PREFIX: &str = "ITEAD-";
/// Password of the access point.
pub const AP_PASSWORD: &str = "12345678";

/// An answer has to come within this time. Devices answer at once, or never.
pub const ANSWER: Duration = Duration::from_secs(10);

/// What a device tells of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceInfo {
    /// `deviceid`.
    pub device_id: DeviceId,
    /// `apikey`: its factory key.
    pub api_key: ApiKey,
}

impl DeviceInfo {
    /// Reads the body of the answer to `GET /device`.
    ///
    /// # Errors
    /// [`ProvisioningError::Answer`].
    pub fn from_json(json: &[u8]) -> Result<Self, ProvisioningError> {
        let value: Value = serde_json::from_slice(json).map_err(|_| ProvisioningError::NotJson)?;
        let fields = Fields(value.as_object().ok_or(ProvisioningError::NotJson)?);
        let answer = |field| move |problem| ProvisioningError::Answer { field, problem };
        let key = required(fields.str("apikey")).map_err(answer("apikey"))?;
        Ok(Self {
            device_id: required(fields.text("deviceid")).map_err(answer("deviceid"))?,
            api_key: ApiKey::new(key).map_err(FieldProblem::Text).map_err(answer("apikey"))?,
        })
    }

    /// The body that a device sends. **Secret.**
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<String> {
        let writer = Writer::object().text("deviceid", self.device_id.as_str());
        Zeroizing::new(writer.text("apikey", self.api_key.expose()).text("accept", "post").finish())
    }
}

/// What a device is told. Made by [`Access::new`], which checks all limits. `Debug` leaves out the password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    ssid: String,
    password: Password,
    server: ServerPlace,
}

/// What a device is told that is in the network already, by ESPTouch: where its server is. For 30 seconds it has its HTTP server
/// there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerPlace {
    server_name: ServerName,
    port: u16,
}

impl ServerPlace {
    /// Checks and takes both.
    ///
    /// # Errors
    /// [`AccessError::ServerName`], [`AccessError::Port`].
    pub fn new(server_name: &str, port: u16) -> Result<Self, AccessError> {
        if port == 0 {
            return Err(AccessError::Port);
        }
        Ok(Self { server_name: ServerName::new(server_name).map_err(AccessError::ServerName)?, port })
    }

    /// Name or address of the dispatch server.
    #[must_use]
    pub const fn server_name(&self) -> &ServerName {
        &self.server_name
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The body of `POST /ap`.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.write(Writer::object().number("version", 4)).finish()
    }

    fn write(&self, writer: Writer) -> Writer {
        writer.text("serverName", self.server_name.as_str()).number("port", self.port)
    }

    /// As a device reads it: what is too long is cut.
    fn cut(fields: Fields<'_>) -> Option<Self> {
        let server_name = cut(fields.str("serverName").ok().flatten()?, limits::SERVER_NAME);
        let port = fields.get("port").filter(|port| port.is_number())?.as_u64()?;
        Self::new(server_name, u16::try_from(port).ok()?).ok()
    }
}

/// What a device is told: at its access point everything, in the network where its server is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums, reason = "devices have these two modes of pairing")]
pub enum Settings {
    /// At its access point.
    Access(Access),
    /// In the network.
    Server(ServerPlace),
}

impl From<Access> for Settings {
    fn from(access: Access) -> Self {
        Self::Access(access)
    }
}

impl From<ServerPlace> for Settings {
    fn from(place: ServerPlace) -> Self {
        Self::Server(place)
    }
}

impl Settings {
    /// The body of `POST /ap`. **Secret.**
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<String> {
        match self {
            Self::Access(access) => access.to_json(),
            Self::Server(place) => Zeroizing::new(place.to_json()),
        }
    }
}

/// Why a device cannot be told that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// Name of the network, 1 to 31 bytes.
    #[error("the name of the network cannot be used")]
    Ssid(#[source] TextError),
    /// Its password, at most 63 bytes.
    #[error("the password of the network cannot be used")]
    Password(#[source] TextError),
    /// Name or address of the server, at most 50 bytes.
    #[error("the name of the server cannot be used")]
    ServerName(#[source] TextError),
    /// Port 0.
    #[error("0 is no port")]
    Port,
}

impl Access {
    /// Checks and takes all of it.
    ///
    /// ```
    /// use spark_ota::sonoff::provisioning::{Access, AccessError};
    /// use spark_ota::sonoff::TextError;
    ///
    /// Access::new("testnet", "secret-123", "192.168.77.10", 8443)?;
    /// let long = "n".repeat(32);
    /// let error = AccessError::Ssid(TextError::TooLong { length: 32, limit: 31 });
    /// assert_eq!(Access::new(&long, "secret-123", "192.168.77.10", 8443), Err(error));
    /// # Ok::<(), AccessError>(())
    /// ```
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn new(ssid: &str, password: &str, server_name: &str, port: u16) -> Result<Self, AccessError> {
        let (ssid, password) = Self::network(ssid, password)?;
        Ok(Self { ssid, password, server: ServerPlace::new(server_name, port)? })
    }

    /// Name and password of a network.
    pub(super) fn network(ssid: &str, password: &str) -> Result<(String, Password), AccessError> {
        if ssid.is_empty() {
            return Err(AccessError::Ssid(TextError::Empty));
        }
        printable(ssid, limits::SSID).map_err(AccessError::Ssid)?;
        Ok((ssid.into(), Password::new(password).map_err(AccessError::Password)?))
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

    /// Name or address of the dispatch server.
    #[must_use]
    pub const fn server_name(&self) -> &ServerName {
        self.server.server_name()
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.server.port()
    }

    /// The body of `POST /ap`. **Secret.**
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<String> {
        let writer = Writer::object()
            .number("version", 4)
            .text("ssid", &self.ssid)
            .text("password", self.password.expose());
        Zeroizing::new(self.server.write(writer).finish())
    }

    /// As a device reads it: what is too long is cut. `None` if something is missing, or the port is no number.
    fn cut(fields: Fields<'_>) -> Option<Self> {
        let text = |name, limit| fields.str(name).ok().flatten().map(|text| cut(text, limit));
        let (ssid, password) =
            Self::network(text("ssid", limits::SSID)?, text("password", limits::WIFI_PASSWORD)?).ok()?;
        Some(Self { ssid, password, server: ServerPlace::cut(fields)? })
    }
}

fn cut(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or(text)
}

/// `error` of the answer to `POST /ap`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ApCode {
    /// 0: taken. Whether the device can join is not known yet.
    Taken,
    /// 400.
    Timeout,
    /// 401.
    WrongPassword,
    /// 402.
    NoApFound,
    /// 403.
    ConnectFailed,
    /// 404.
    UnknownException,
    /// Any other.
    Other(i64),
}

impl ApCode {
    /// By its number.
    #[must_use]
    pub const fn new(code: i64) -> Self {
        match code {
            0 => Self::Taken,
            400 => Self::Timeout,
            401 => Self::WrongPassword,
            402 => Self::NoApFound,
            403 => Self::ConnectFailed,
            404 => Self::UnknownException,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for ApCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Taken => "taken",
            Self::Timeout => "timeout (400)",
            Self::WrongPassword => "wrong password (401)",
            Self::NoApFound => "no access point of that name found (402)",
            Self::ConnectFailed => "connect failed (403)",
            Self::UnknownException => "unknown exception (404)",
            Self::Other(code) => return write!(f, "code {code}"),
        })
    }
}

/// Why a device was not told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvisioningError {
    /// Nothing answers there.
    #[error("nothing answers at {ADDRESS}: is this computer in the network {AP_PREFIX}…?")]
    NotConnected,
    /// It did not tell who it is.
    #[error("the device does not tell who it is")]
    NoDevice,
    /// It did not answer to `POST /ap`. It may have taken it all the same.
    #[error("the device does not answer to its settings; whether it has taken them cannot be told")]
    NoAnswer,
    /// No HTTP.
    #[error("what answers there is no device")]
    Head(#[source] HeadError),
    /// Another status than 200.
    #[error("the device answers with status {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// More than a device has to say.
    #[error("the answer is too long for one of a device")]
    TooLong,
    /// No JSON.
    #[error("the answer of the device is no JSON object")]
    NotJson,
    /// A field of an answer.
    #[error("the field {field} of the device's answer cannot be used")]
    Answer {
        /// Its name.
        field: &'static str,
        /// Why.
        #[source]
        problem: FieldProblem,
    },
    /// The device has refused.
    #[error("the device refuses its settings: {0}")]
    Refused(ApCode),
}

#[cfg(test)]
mod tests;
