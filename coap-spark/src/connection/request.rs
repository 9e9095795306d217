//! What either end asks of the other.

use super::waiting::{Answers, Kind};
use crate::coap::{Code, Token};
use crate::message::{Envelope, FromDevice, FromServer};
use core::ops::Deref;

/// What a server's request asks for; on the device it decides the form of the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RequestKind {
    /// Describe. Firmware 0.4.x answers twice.
    Describe,
    /// A variable.
    Variable,
    /// A function call: always an empty acknowledgement, then a non-confirmable result.
    Function,
    /// Signal: answered in the acknowledgement.
    Signal,
    /// The server's key changed: firmware before 0.8.0 does not answer.
    KeyChange,
    /// Ping: the empty acknowledgement is the answer.
    Ping,
}

impl RequestKind {
    /// The kind of a message that asks for something; `None` for others, those of firmware updates included.
    #[must_use]
    pub const fn of(body: &FromServer<'_>) -> Option<Self> {
        Some(match body {
            FromServer::Describe { .. } => Self::Describe,
            FromServer::VariableRequest { .. } => Self::Variable,
            FromServer::FunctionCall { .. } => Self::Function,
            FromServer::Signal { .. } => Self::Signal,
            FromServer::KeyChange { .. } => Self::KeyChange,
            FromServer::Ping => Self::Ping,
            _ => return None,
        })
    }

    pub(super) const ALL: [Self; 6] =
        [Self::Describe, Self::Variable, Self::Function, Self::Signal, Self::KeyChange, Self::Ping];
}

impl Kind for RequestKind {
    fn ends_with_acknowledgement(self) -> bool {
        matches!(self, Self::Signal | Self::KeyChange | Self::Ping)
    }

    fn has_several_answers(self) -> bool {
        self == Self::Describe
    }

    // Device OS 0.8 to 2.3.1 on TCP; Signal has a token to go by.
    fn may_lose_its_id(self) -> bool {
        matches!(self, Self::KeyChange | Self::Ping)
    }
}

/// A server's request that waits for its answer, seen from the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Request {
    /// Its id.
    pub id: u16,
    /// Its token.
    pub token: Token,
    /// What it asks for.
    pub kind: RequestKind,
}

impl Request {
    /// The request in a message, if it is one that the application answers. Pings never get there.
    #[must_use]
    pub const fn of(message: &Envelope<FromServer<'_>>) -> Option<Self> {
        match RequestKind::of(&message.body) {
            Some(kind) => Some(Self { id: message.id, token: message.token, kind }),
            None => None,
        }
    }
}

/// What a device's message waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DeviceRequestKind {
    /// An event: its acknowledgement.
    Event,
    /// A subscription: its acknowledgement, or a refusal.
    Subscribe,
    /// The time.
    Time,
    /// A Describe sent unasked: its acknowledgement.
    Describe,
}

impl DeviceRequestKind {
    /// The kind of a message whose answer a device waits for.
    #[must_use]
    pub const fn of(body: &FromDevice<'_>) -> Option<Self> {
        Some(match body {
            FromDevice::Event(_) => Self::Event,
            FromDevice::Subscribe(_) => Self::Subscribe,
            FromDevice::TimeRequest => Self::Time,
            FromDevice::DescribePost { .. } => Self::Describe,
            _ => return None,
        })
    }
}

impl Kind for DeviceRequestKind {
    fn ends_with_acknowledgement(self) -> bool {
        self != Self::Time
    }

    fn has_several_answers(self) -> bool {
        false
    }

    fn may_lose_its_id(self) -> bool {
        false
    }
}

/// A message that came, and which message of ours it answers. Reads like its [`Envelope`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received<B, K> {
    /// The message.
    pub envelope: Envelope<B>,
    /// What it answers, of what was sent with `request`.
    pub answers: Option<Answers<K>>,
}

impl<B, K> Deref for Received<B, K> {
    type Target = Envelope<B>;

    fn deref(&self) -> &Envelope<B> {
        &self.envelope
    }
}

/// The code that counts for correlation: `None` for messages that answer nothing.
pub(super) const fn answer_code_from_device(body: &FromDevice<'_>) -> Option<Code> {
    match body {
        FromDevice::Response(response) => Some(response.code),
        FromDevice::Ack | FromDevice::Reset => Some(Code::EMPTY),
        _ => None,
    }
}

/// The same at the device.
pub(super) const fn answer_code_from_server(body: &FromServer<'_>) -> Option<Code> {
    match body {
        FromServer::Response(response) => Some(response.code),
        FromServer::Ack | FromServer::Reset => Some(Code::EMPTY),
        _ => None,
    }
}
