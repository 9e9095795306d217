//! Where and why a handshake ended.

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
    /// `None` for stages that only a server has.
    #[must_use]
    pub const fn protocol_error(&self) -> Option<u16> {
        Some(match (self.stage, self.cause) {
            (Stage::ReceiveNonce, _) => 25,
            (Stage::EncryptIdentity, _) => 7,
            (Stage::ReceiveSession, _) => 26,
            (Stage::DecryptSession, _) => 6,
            (Stage::VerifySession, _) => 8,
            (Stage::ReceiveHello, Cause::TimedOut) => 10,
            (Stage::ReceiveHello, _) => 24,
            _ => return None,
        })
    }

    /// What a person at the device should do first.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match (self.stage, self.cause) {
            (Stage::ReceiveNonce, _) => "check that a Spark server listens at this address and port",
            (Stage::EncryptIdentity, _) => "write the server's public key to the device again",
            (Stage::ReceiveIdentity, _) => {
                "the device connected but said nothing: look for a port scanner or a proxy"
            }
            (Stage::OpenIdentity, _) => {
                "the device holds another server's key: write this server's public key to it"
            }
            (Stage::Authorise, _) => {
                "enrol the device's public key, or replace the recorded one if the device got a new key"
            }
            (Stage::SealSession, _) => {
                "the recorded device key or the server key is not usable: enrol the device again"
            }
            (Stage::ReceiveSession, _) => {
                "the server refused: write its public key to the device and enrol the device's key there"
            }
            (Stage::DecryptSession, _) => {
                "the server used another public key: enrol this device's key at the server"
            }
            (Stage::VerifySession, _) => "write the server's public key to the device again",
            (Stage::ReceiveHello, Cause::Frame) => {
                "the recorded public key is not this device's: enrol it again"
            }
            (Stage::ReceiveHello, _) => {
                "look at the other end's log: it accepted the keys and then went away"
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::ReceiveNonce => "waiting for the server's nonce",
            Stage::EncryptIdentity => "encrypting the device's identity",
            Stage::ReceiveIdentity => "waiting for the device's identity",
            Stage::OpenIdentity => "opening the device's identity",
            Stage::Authorise => "deciding about the device",
            Stage::SealSession => "sealing the session keys",
            Stage::ReceiveSession => "waiting for the session message",
            Stage::DecryptSession => "decrypting the session keys",
            Stage::VerifySession => "checking the server's signature",
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
