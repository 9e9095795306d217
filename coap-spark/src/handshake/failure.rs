//! Where and why a handshake ended.

use crate::diagnosis::{self, End};
use crate::session::FrameError;
use core::fmt;

/// The step that did not complete.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Stage {
    /// Device: waiting for the 40-byte nonce.
    ReceiveNonce,
    /// Device: encrypting the identity with the server's public key.
    EncryptIdentity,
    /// Device: sending the 256-byte identity. Reported by whoever owns the socket.
    SendIdentity,
    /// Server: waiting for the 256-byte identity.
    ReceiveIdentity,
    /// Server: decrypting and checking the identity.
    OpenIdentity,
    /// Server: the caller's decision about device id and key.
    Authorise,
    /// Server: encrypting and signing the session bytes.
    SealSession,
    /// Device: waiting for the 384-byte session message.
    ReceiveSession,
    /// Device: decrypting the session bytes with its private key.
    DecryptSession,
    /// Device: checking the signature with the server's public key.
    VerifySession,
    /// Device: sending its Hello. Reported by whoever owns the socket.
    SendHello,
    /// Either end: waiting for the peer's Hello.
    ReceiveHello,
}

/// What went wrong in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Cause {
    /// The peer closed the connection.
    Closed,
    /// The time for this step is over.
    TimedOut,
    /// The peer's RSA block is not what it has to be. On purpose no more is said.
    Rejected,
    /// The caller refused the device: unknown id, or a key that differs from the record.
    Refused,
    /// The key cannot do the operation: wrong size or not usable.
    UnusableKey,
    /// The peer's first frame does not decrypt: the two ends hold different session bytes, so the server
    /// used a public key that does not belong to the device.
    Frame,
    /// The peer's first frame decrypts but is not a Hello.
    NotHello,
    /// The caller gave a job's result to another connection's state.
    ForeignResult,
}

/// A handshake that ended. The connection has to be closed; nothing is said to the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Failure {
    /// Where.
    pub stage: Stage,
    /// Why.
    pub cause: Cause,
}

impl Failure {
    pub(crate) const fn new(stage: Stage, cause: Cause) -> Self {
        Self { stage, cause }
    }

    /// The `ProtocolError` number that Device OS 0.8 to 2.3.1 reports for a device-side failure.
    ///
    /// `None` for stages that only a server has. [`crate::diagnosis`] knows the number's name, and what version 2
    /// makes of it.
    #[must_use]
    pub const fn protocol_error(&self) -> Option<u16> {
        match diagnosis::protocol_error(self) {
            // The rows have none above 35.
            Some(error) => {
                let [_, _, high, low] = error.code().to_be_bytes();
                Some(u16::from_be_bytes([high, low]))
            }
            None => None,
        }
    }

    /// What a person at the device should do first.
    ///
    /// [`diagnosis::by_failure`] has more, and knows which end asks.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match (self.stage, self.cause) {
            (Stage::ReceiveHello, Cause::Closed | Cause::TimedOut) => {
                "look at the other end's log: it accepted the keys and then went away"
            }
            _ => diagnosis::by_failure(self, End::Server).action,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::ReceiveNonce => "waiting for the server's nonce",
            Stage::EncryptIdentity => "encrypting the device's identity",
            Stage::SendIdentity => "sending the device's identity",
            Stage::ReceiveIdentity => "waiting for the device's identity",
            Stage::OpenIdentity => "opening the device's identity",
            Stage::Authorise => "deciding about the device",
            Stage::SealSession => "sealing the session keys",
            Stage::ReceiveSession => "waiting for the session message",
            Stage::DecryptSession => "decrypting the session keys",
            Stage::VerifySession => "checking the server's signature",
            Stage::SendHello => "sending Hello",
            Stage::ReceiveHello => "waiting for Hello",
        };
        let cause = match self.cause {
            Cause::Closed => "the peer closed the connection",
            Cause::TimedOut => "time ran out",
            Cause::Rejected => "the message was rejected",
            Cause::Refused => "the device was refused",
            Cause::UnusableKey => "a key is unusable",
            Cause::Frame => "the first frame does not decrypt",
            Cause::NotHello => "the first message is not a Hello",
            Cause::ForeignResult => "the result belongs to another connection",
        };
        write!(f, "handshake ended while {stage}: {cause}")
    }
}

impl core::error::Error for Failure {}

impl From<FrameError> for Cause {
    fn from(_: FrameError) -> Self {
        Self::Frame
    }
}
