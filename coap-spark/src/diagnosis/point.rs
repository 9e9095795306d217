//! The eight places where a device's connection stops.

use super::{End, Generation, ROWS, Row};
use crate::handshake::{Cause, Failure, Stage};
use core::fmt;

/// Where a device's way to the cloud ends, F1 to F8 in the order of the way.
///
/// | point | log up to 0.7.0 | code there | log from 0.8.0 | code there |
/// |---|---|---|---|---|
/// | F1 | `Cloud socket connection failed: N` | none | the same | none |
/// | F2 | `Could not receive nonce: -19` | -19, or -1 after 20 s | the same | 25 |
/// | F3 | `RSA encrypt error N` | 7 | the same | 7 |
/// | F4 | `Unable to receive key -19` | -19, or -1 after 20 s | the same | 26 |
/// | F5 | `Could not set key` | 6 | `decryption failed with code -16640` | 6 |
/// | F6 | `Could not set key` | 8 | `signature validation failed with code -17280` | 8 |
/// | F7 | `Could not send HELLO message` | the socket's | the same | 22 |
/// | F8 | `Could not receive HELLO response` | -1 | the same and the code | 10 on time-out, 24 |
///
/// 0.4.9 and 0.5 put `Handshake: ` before their texts. Device OS 2 maps the code once more, see
/// [`ProtocolError::system_error`](super::ProtocolError::system_error).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FailurePoint {
    /// F1: no TCP connection at all.
    Connect,
    /// F2: the nonce does not come.
    Nonce,
    /// F3: the identity cannot be encrypted.
    Encrypt,
    /// F4: the session message does not come.
    SessionMessage,
    /// F5: the session message does not decrypt.
    Decrypt,
    /// F6: the session message's signature is wrong.
    Verify,
    /// F7: the device's Hello cannot be sent.
    SendHello,
    /// F8: the server's Hello does not come.
    ReceiveHello,
}

impl FailurePoint {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Connect,
        Self::Nonce,
        Self::Encrypt,
        Self::SessionMessage,
        Self::Decrypt,
        Self::Verify,
        Self::SendHello,
        Self::ReceiveHello,
    ];

    /// 1 to 8.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Connect => 1,
            Self::Nonce => 2,
            Self::Encrypt => 3,
            Self::SessionMessage => 4,
            Self::Decrypt => 5,
            Self::Verify => 6,
            Self::SendHello => 7,
            Self::ReceiveHello => 8,
        }
    }

    /// The point of this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|point| point.number() == number)
    }

    /// Where a device with this failure stops; `None` for the stages of a server.
    ///
    /// [`Stage::ReceiveHello`] belongs to both ends: here it is read as the device's.
    #[must_use]
    pub const fn of(failure: &Failure) -> Option<Self> {
        Some(match failure.stage {
            Stage::ReceiveNonce => Self::Nonce,
            Stage::EncryptIdentity => Self::Encrypt,
            // Firmware has no point of its own for it: the server closed before it had the identity.
            Stage::SendIdentity | Stage::ReceiveSession => Self::SessionMessage,
            Stage::DecryptSession => Self::Decrypt,
            Stage::VerifySession => Self::Verify,
            Stage::SendHello => Self::SendHello,
            Stage::ReceiveHello => Self::ReceiveHello,
            Stage::ReceiveIdentity | Stage::OpenIdentity | Stage::Authorise | Stage::SealSession => {
                return None;
            }
        })
    }

    /// The failure that a device of this crate reports here when its connection was closed, or when what it got is
    /// wrong; `None` for F1, which belongs to whoever owns the socket.
    #[must_use]
    pub const fn failure(self) -> Option<Failure> {
        let (stage, cause) = match self {
            Self::Connect => return None,
            Self::SendHello => (Stage::SendHello, Cause::Closed),
            Self::Nonce => (Stage::ReceiveNonce, Cause::Closed),
            Self::Encrypt => (Stage::EncryptIdentity, Cause::UnusableKey),
            Self::SessionMessage => (Stage::ReceiveSession, Cause::Closed),
            Self::Decrypt => (Stage::DecryptSession, Cause::Rejected),
            Self::Verify => (Stage::VerifySession, Cause::Rejected),
            Self::ReceiveHello => (Stage::ReceiveHello, Cause::Closed),
        };
        Some(Failure { stage, cause })
    }

    /// Where it stops, in words.
    #[must_use]
    pub const fn place(self) -> &'static str {
        match self {
            Self::Connect => "no TCP connection",
            Self::Nonce => "the server's nonce did not come",
            Self::Encrypt => "the identity could not be encrypted",
            Self::SessionMessage => "the session message did not come",
            Self::Decrypt => "the session message did not decrypt",
            Self::Verify => "the server's signature was wrong",
            Self::SendHello => "Hello could not be sent",
            Self::ReceiveHello => "the server's Hello did not come",
        }
    }

    /// What firmware of this generation logs there, without prefixes; `N` stands for a number.
    ///
    /// Up to 0.7.0 the number behind `Could not set key` has no meaning: nothing was passed for it.
    #[must_use]
    pub const fn log(self, generation: Generation) -> &'static [&'static str] {
        let old = matches!(generation, Generation::UpTo0_7);
        match self {
            Self::Connect => &["Cloud socket connection failed: N"],
            Self::Nonce => &["Could not receive nonce: N"],
            Self::Encrypt => &["RSA encrypt error N"],
            Self::SessionMessage => &["Unable to receive key N"],
            Self::Decrypt | Self::Verify if old => &["Could not set key, N"],
            Self::Decrypt => &["decryption failed with code N", "Could not set key, 6"],
            Self::Verify => &["signature validation failed with code N", "Could not set key, 8"],
            Self::SendHello => &["Could not send HELLO message"],
            Self::ReceiveHello if old => &["Could not receive HELLO response"],
            Self::ReceiveHello => &["Handshake: could not receive HELLO response N"],
        }
    }

    /// What is behind it, the likeliest first.
    #[must_use]
    pub const fn causes(self) -> &'static [&'static str] {
        match self {
            Self::Connect => &[
                "DNS (the address is 0.0.0.0)",
                "a firewall",
                "a wrong server address beside the server key on the device",
            ],
            Self::Nonce => &[
                "the server accepts and closes at once",
                "something that is not a Spark server listens there and says nothing",
                "a port forwarder without its server",
            ],
            Self::Encrypt => &["the stored server key is not usable, for instance all zeros"],
            Self::SessionMessage => &[
                "the server could not decrypt the identity: the device holds another server's key",
                "the server does not know the device id",
                "the server has another public key for this id",
            ],
            Self::Decrypt => &["the device's private key does not belong to the public key the server used"],
            Self::Verify => &[
                "the server's private key does not belong to the public key stored on the device",
                "the server put a DigestInfo into its signature",
            ],
            Self::SendHello => &["the connection was lost"],
            Self::ReceiveHello => &[
                "the server could not decrypt the device's Hello",
                "the server's Hello had an unknown path",
                "the connection was lost",
            ],
        }
    }

    /// The rows that lead here: those that a device finds out, then what a server does or finds out at such a device.
    pub fn rows(self) -> impl Iterator<Item = &'static Row> + Clone {
        let of = move |end: End| {
            ROWS.iter().copied().filter(move |row| row.end == end && row.points.contains(&self))
        };
        of(End::Device).chain(of(End::Server))
    }
}

impl fmt::Display for FailurePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "F{}: {}", self.number(), self.place())
    }
}
