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

use super::http::{Framed, HeadError, ResponseHead, find, framed, json_response};
use super::json::{FieldProblem, Fields, Writer, required};
use super::limits;
use super::secret::{ApiKey, Password, printable};
use super::text::{DeviceId, ServerName, TextError};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
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
/// Bytes of an answer.
const LONGEST_ANSWER: usize = 2048;

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
    server_name: ServerName,
    port: u16,
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
        if ssid.is_empty() {
            return Err(AccessError::Ssid(TextError::Empty));
        }
        printable(ssid, limits::SSID).map_err(AccessError::Ssid)?;
        if port == 0 {
            return Err(AccessError::Port);
        }
        Ok(Self {
            ssid: ssid.into(),
            password: Password::new(password).map_err(AccessError::Password)?,
            server_name: ServerName::new(server_name).map_err(AccessError::ServerName)?,
            port,
        })
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
        &self.server_name
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The body of `POST /ap`. **Secret.**
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<String> {
        let writer = Writer::object()
            .number("version", 4)
            .text("ssid", &self.ssid)
            .text("password", self.password.expose())
            .text("serverName", self.server_name.as_str())
            .number("port", self.port);
        Zeroizing::new(writer.finish())
    }

    /// As a device reads it: what is too long is cut. `None` if something is missing, or the port is no number.
    #[must_use]
    fn cut(json: &[u8]) -> Option<Self> {
        let value: Value = serde_json::Deserializer::from_slice(json).into_iter().next()?.ok()?;
        let fields = Fields(value.as_object()?);
        let text = |name, limit| fields.str(name).ok().flatten().map(|text| cut(text, limit));
        let port = fields.get("port").filter(|port| port.is_number())?.as_u64()?;
        let port = u16::try_from(port).ok()?;
        let password = text("password", limits::WIFI_PASSWORD)?;
        let server_name = text("serverName", limits::SERVER_NAME)?;
        Self::new(text("ssid", limits::SSID)?, password, server_name, port).ok()
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

/// What to do next.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Connect to the device, then call [`Provisioning::connected`] or [`Provisioning::closed`].
    Connect,
    /// Send these bytes. **Secret.**
    Send(Zeroizing<Vec<u8>>),
    /// Close the connection.
    Close,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "Connect",
            Self::Send(_) => "Send",
            Self::Close => "Close",
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing is known of the device.
    Asking,
    /// It is known, and is to be told.
    Telling,
    Ended,
}

/// The client: asks who the device is, and tells it its settings.
///
/// Poll outputs until `None` after every call. One answer is kept, 2 KiB.
///
/// ```
/// use core::time::Duration;
/// use spark_ota::sonoff::provisioning::{Access, Output, Provisioning};
///
/// let now = Duration::ZERO;
/// let mut client = Provisioning::new(now, Access::new("testnet", "secret-123", "192.168.77.10", 8443)?);
/// assert_eq!(client.poll_output(), Some(Output::Connect));
/// client.connected(now);
/// let Some(Output::Send(request)) = client.poll_output() else { panic!() };
/// assert!(request.starts_with(b"GET /device HTTP/1.1\r\n"));
/// # Ok::<(), spark_ota::sonoff::provisioning::AccessError>(())
/// ```
pub struct Provisioning {
    access: Access,
    state: State,
    device: Option<DeviceInfo>,
    failure: Option<ProvisioningError>,
    connect: bool,
    is_connected: bool,
    /// The request of this state was sent.
    asked: bool,
    close: bool,
    received: Zeroizing<Vec<u8>>,
    deadline: Duration,
}

impl Provisioning {
    /// Begins; poll its outputs.
    #[must_use]
    pub fn new(now: Duration, access: Access) -> Self {
        Self {
            access,
            state: State::Asking,
            device: None,
            failure: None,
            connect: true,
            is_connected: false,
            asked: false,
            close: false,
            received: Zeroizing::default(),
            deadline: now.saturating_add(ANSWER),
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        if core::mem::take(&mut self.connect) {
            return Some(Output::Connect);
        }
        if core::mem::take(&mut self.close) {
            self.is_connected = false;
            return Some(Output::Close);
        }
        if !self.is_connected || self.asked || self.state == State::Ended {
            return None;
        }
        self.asked = true;
        Some(Output::Send(Zeroizing::new(if self.state == State::Asking {
            format!("GET /device HTTP/1.1\r\nHost: {ADDRESS}\r\n\r\n").into_bytes()
        } else {
            let json = self.access.to_json();
            let mut request = Vec::with_capacity(limits::AP_REQUEST);
            let head = format!(
                "POST /ap HTTP/1.1\r\nHost: {ADDRESS}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                json.len()
            );
            request.extend_from_slice(head.as_bytes());
            request.extend_from_slice(json.as_bytes());
            request
        })))
    }

    /// The connection is there.
    pub fn connected(&mut self, now: Duration) {
        if self.state != State::Ended {
            (self.is_connected, self.asked) = (true, false);
            self.deadline = now.saturating_add(ANSWER);
        }
    }

    /// The connection could not be made, or the device has closed it.
    pub fn closed(&mut self, now: Duration) {
        let was_connected = core::mem::take(&mut self.is_connected);
        match self.state {
            State::Ended => {}
            // Some close after each answer.
            State::Telling if !self.asked && was_connected => {
                self.connect = true;
                self.deadline = now.saturating_add(ANSWER);
            }
            State::Asking | State::Telling if !was_connected => {
                self.end(Some(ProvisioningError::NotConnected))
            }
            State::Asking => self.end(Some(ProvisioningError::NoDevice)),
            State::Telling => self.end(Some(ProvisioningError::NoAnswer)),
        }
    }

    /// Takes what the device said.
    pub fn handle_input(&mut self, now: Duration, bytes: &[u8]) {
        if self.state == State::Ended || !self.asked {
            return;
        }
        if self.received.len() + bytes.len() > LONGEST_ANSWER {
            return self.end(Some(ProvisioningError::TooLong));
        }
        // Grown once: what a vector leaves behind when it grows is not erased.
        let room = LONGEST_ANSWER - self.received.len();
        self.received.reserve_exact(room);
        self.received.extend_from_slice(bytes);
        let body = match whole_answer(&self.received) {
            Ok(Some(body)) => Zeroizing::new(body.to_vec()),
            Ok(None) => return,
            Err(error) => return self.end(Some(error)),
        };
        self.received = Zeroizing::default();
        if self.state == State::Asking {
            match DeviceInfo::from_json(&body) {
                Ok(device) => {
                    self.device = Some(device);
                    (self.state, self.asked) = (State::Telling, false);
                    self.deadline = now.saturating_add(ANSWER);
                }
                Err(error) => self.end(Some(error)),
            }
            return;
        }
        let failure = match ap_code(&body) {
            Ok(ApCode::Taken) => None,
            Ok(code) => Some(ProvisioningError::Refused(code)),
            Err(error) => Some(error),
        };
        self.end(failure);
    }

    fn end(&mut self, failure: Option<ProvisioningError>) {
        self.failure = failure;
        self.state = State::Ended;
        self.connect = false;
        self.close = self.is_connected;
    }

    /// When [`Provisioning::handle_deadline`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        (self.state != State::Ended).then_some(self.deadline)
    }

    /// The deadline has come. Early calls are harmless.
    pub fn handle_deadline(&mut self, now: Duration) {
        if self.state == State::Ended || now < self.deadline {
            return;
        }
        self.end(Some(match self.state {
            _ if !self.is_connected => ProvisioningError::NotConnected,
            State::Telling => ProvisioningError::NoAnswer,
            _ => ProvisioningError::NoDevice,
        }));
    }

    /// Who the device is, as soon as it has told.
    #[must_use]
    pub const fn device(&self) -> Option<&DeviceInfo> {
        self.device.as_ref()
    }

    /// The result, once there is one. After a success the access point closes and the device joins; see [`ApCode::Taken`].
    #[must_use]
    pub fn outcome(&self) -> Option<Result<&DeviceInfo, ProvisioningError>> {
        if self.state != State::Ended {
            return None;
        }
        Some(match (self.failure, &self.device) {
            (None, Some(device)) => Ok(device),
            (failure, _) => Err(failure.unwrap_or(ProvisioningError::NoDevice)),
        })
    }
}

impl fmt::Debug for Provisioning {
    /// Without what was received: it holds the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provisioning")
            .field("state", &self.state)
            .field("device", &self.device)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

/// The body of an answer with status 200, once it is whole.
fn whole_answer(bytes: &[u8]) -> Result<Option<&[u8]>, ProvisioningError> {
    let Some((head, start)) = ResponseHead::parse(bytes).map_err(ProvisioningError::Head)? else {
        return Ok(None);
    };
    if head.status != 200 {
        return Err(ProvisioningError::Status { status: head.status });
    }
    let body = bytes.get(start..).unwrap_or_default();
    match head.content_length().map_err(ProvisioningError::Head)? {
        Some(length) if length > LONGEST_ANSWER => Err(ProvisioningError::TooLong),
        Some(length) => Ok(body.get(..length)),
        // Then it is one object.
        None => Ok(body.ends_with(b"}").then_some(body)),
    }
}

fn ap_code(json: &[u8]) -> Result<ApCode, ProvisioningError> {
    let value: Value = serde_json::from_slice(json).map_err(|_| ProvisioningError::NotJson)?;
    let fields = Fields(value.as_object().ok_or(ProvisioningError::NotJson)?);
    let code = required(fields.number("error"));
    code.map(ApCode::new).map_err(|problem| ProvisioningError::Answer { field: "error", problem })
}

/// A request to the device, found as the device finds it: by these words anywhere in what was received.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ApRequest {
    /// `GET /device HTTP/1.1`: answer with [`ApRequest::device_answer`].
    Device,
    /// `POST /ap HTTP/1.1` with all that is needed, cut to what a device keeps: answer with [`ApRequest::ap_answer`].
    Ap(Access),
    /// `POST /ap HTTP/1.1` in which something is missing: the device does not answer.
    Incomplete,
}

impl ApRequest {
    /// Looks for a request in all bytes of a connection so far, at most 2048; `None` if there is none yet.
    #[must_use]
    pub fn find(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..limits::AP_REQUEST).unwrap_or(bytes);
        let Framed::Whole(_) = framed(bytes)? else { return None };
        if find(bytes, "GET /device HTTP/1.1").is_some() {
            return Some(Self::Device);
        }
        find(bytes, "POST /ap HTTP/1.1")?;
        let json = find(bytes, "{").and_then(|at| bytes.get(at..));
        Some(json.and_then(Access::cut).map_or(Self::Incomplete, Self::Ap))
    }

    /// Answer to `GET /device`. **Secret.**
    #[must_use]
    pub fn device_answer(info: &DeviceInfo) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(json_response(&info.to_json(), true))
    }

    /// Answer to `POST /ap`; devices send 0.
    #[must_use]
    pub fn ap_answer(code: u16) -> Vec<u8> {
        json_response(&Writer::object().number("error", code).finish(), true)
    }
}

#[cfg(test)]
mod tests;
