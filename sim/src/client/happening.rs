//! What happens on a connection, for whoever runs the device; and how it ends.

use coap_spark::connection::{ConnectionError, SendError};
use coap_spark::diagnosis::{self, Row};
use coap_spark::handshake::Failure;
use core::fmt;

/// How a connection ended.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum End {
    /// An update is complete: reset the device with [`Photon::start`](crate::Photon::start).
    Reset,
    /// The server wants the device to restart: reset it.
    Reboot,
    /// The server wants it to restart in safe mode: reset it.
    EnterSafeMode,
    /// The server wants it to restart in DFU mode: reset it.
    EnterDfuMode,
    /// The server wants it to connect to the network anew.
    NetworkReset,
    /// [`Client::leave`](crate::Client::leave) was called.
    Left,
    /// The power failed.
    PowerLost,
    /// The update's chunks stopped coming: the firmware resets the device.
    UpdateStalled,
    /// The handshake failed.
    Handshake(Failure),
    /// The session broke.
    Connection(ConnectionError),
    /// The peer closed the connection, or the network failed.
    Closed,
    /// A message came that this generation takes for a fault.
    Protocol,
}

impl End {
    /// The device resets.
    #[must_use]
    pub const fn is_reset(&self) -> bool {
        matches!(
            self,
            Self::Reset | Self::Reboot | Self::EnterSafeMode | Self::EnterDfuMode | Self::UpdateStalled
        )
    }

    /// What is known about a failure, from the handshake to the server's Hello.
    #[must_use]
    pub const fn diagnosis(&self) -> Option<&'static Row> {
        match self {
            Self::Handshake(failure) | Self::Connection(ConnectionError::Handshake(failure)) => {
                Some(diagnosis::by_failure(failure, diagnosis::End::Device))
            }
            _ => None,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset => f.write_str("the device resets to take an update"),
            Self::Reboot => f.write_str("the server restarts the device"),
            Self::EnterSafeMode => f.write_str("the server restarts the device in safe mode"),
            Self::EnterDfuMode => f.write_str("the server restarts the device in DFU mode"),
            Self::NetworkReset => f.write_str("the server restarts the device's network"),
            Self::Left => f.write_str("the device left"),
            Self::PowerLost => f.write_str("the power failed"),
            Self::UpdateStalled => f.write_str("no chunk for too long: the device resets"),
            Self::Handshake(failure) => failure.fmt(f),
            Self::Connection(error) => error.fmt(f),
            Self::Closed => f.write_str("the connection was closed"),
            Self::Protocol => f.write_str("a message that this firmware takes for a fault"),
        }
    }
}

/// An event that the server sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceivedEvent {
    /// Its name; bytes that are no text are replaced.
    pub name: String,
    /// Its data.
    pub data: Option<Vec<u8>>,
    /// It is public.
    pub public: bool,
    /// Time to live in seconds.
    pub ttl: u32,
    /// Who takes it.
    pub receiver: Receiver,
}

/// Who takes an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Receiver {
    /// The application: its subscription of this number, from 0.
    Application(usize),
    /// The system.
    System,
    /// Nobody: the device has not asked for it.
    Nobody,
}

/// Something that happened on a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Happening {
    /// The server's Hello came: the device is online.
    Connected,
    /// The server asked for Describe.
    Described,
    /// The server called a function.
    FunctionCalled {
        /// Its name.
        name: Vec<u8>,
        /// Its argument.
        argument: Vec<u8>,
        /// What it gave; `None` where no application runs.
        result: Option<i32>,
    },
    /// The server read a variable.
    VariableRead {
        /// Its name.
        name: Vec<u8>,
        /// There is one.
        found: bool,
    },
    /// An event came.
    Event(ReceivedEvent),
    /// The LED signals, or stops to.
    Signal {
        /// Signals.
        on: bool,
    },
    /// The time came, in seconds since 1970.
    Time(u32),
    /// The server's key changed, it says.
    KeyChange,
    /// The server settled the claim: the claim code is gone.
    ClaimSettled,
    /// The server acknowledged an event of this message id.
    Acknowledged(u16),
    /// The server refused an event or a subscription of this message id.
    Refused(u16),
    /// The server did not answer the message of this id.
    Unanswered(u16),
    /// An update began.
    UpdateBegan,
    /// An update ended without effect, and the connection goes on.
    UpdateEnded,
    /// The chunk of this index was lost on purpose.
    ChunkLost(u16),
    /// An answer could not be sent, so the connection ends.
    CannotAnswer(SendError),
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => f.write_str("connected"),
            Self::Described => f.write_str("describes itself"),
            Self::FunctionCalled { name, argument, result: Some(result) } => {
                write!(f, "function {}({}) = {result}", name.escape_ascii(), argument.escape_ascii())
            }
            Self::FunctionCalled { name, argument, result: None } => {
                write!(f, "function {}({}) is not there", name.escape_ascii(), argument.escape_ascii())
            }
            Self::VariableRead { name, found: true } => write!(f, "variable {}", name.escape_ascii()),
            Self::VariableRead { name, found: false } => {
                write!(f, "variable {} is not there", name.escape_ascii())
            }
            Self::Event(event) => {
                let data = event.data.as_deref().unwrap_or_default();
                write!(f, "event {}", event.name.escape_debug())?;
                if !data.is_empty() {
                    write!(f, " = {}", data.escape_ascii())?;
                }
                if event.receiver == Receiver::Nobody {
                    f.write_str(" without a subscription")
                } else {
                    Ok(())
                }
            }
            Self::Signal { on: true } => f.write_str("signals"),
            Self::Signal { on: false } => f.write_str("signals no more"),
            Self::Time(seconds) => write!(f, "the time is {seconds}"),
            Self::KeyChange => f.write_str("the server's key changed, it says"),
            Self::ClaimSettled => f.write_str("the claim is settled"),
            Self::Acknowledged(id) => write!(f, "message {id:#06x} is acknowledged"),
            Self::Refused(id) => write!(f, "message {id:#06x} is refused"),
            Self::Unanswered(id) => write!(f, "message {id:#06x} was not answered"),
            Self::UpdateBegan => f.write_str("an update begins"),
            Self::UpdateEnded => f.write_str("the update ended without effect"),
            Self::ChunkLost(index) => write!(f, "lost chunk {index} on purpose"),
            Self::CannotAnswer(error) => write!(f, "cannot answer: {error}"),
        }
    }
}
