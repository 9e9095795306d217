//! The client's side.

use super::{ADDRESS, ANSWER, ApCode, DeviceInfo, ProvisioningError, Settings};
use crate::sonoff::http::ResponseHead;
use crate::sonoff::json::{Fields, required};
use crate::sonoff::limits;
use alloc::format;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use serde_json::Value;
use zeroize::Zeroizing;

/// Bytes of an answer.
const LONGEST_ANSWER: usize = 2048;

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
    settings: Settings,
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
    /// Begins; poll its outputs. A device at its access point gets an [`Access`](super::Access), one that has come into the
    /// network by ESPTouch a [`ServerPlace`](super::ServerPlace).
    #[must_use]
    pub fn new(now: Duration, settings: impl Into<Settings>) -> Self {
        Self {
            settings: settings.into(),
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
            let json = self.settings.to_json();
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
