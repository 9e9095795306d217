//! The numbers: protocol errors, system errors, socket results.

use core::fmt;

macro_rules! numbers {
    ($type:ident($int:ty): $($number:literal $name:ident $meaning:literal;)*) => {
        impl $type {
            $(
                #[doc = concat!($meaning, " (", stringify!($number), ").")]
                pub const $name: Self = Self($number);
            )*

            /// Every number that has a name, in the order of the source.
            pub const KNOWN: &'static [Self] = &[$(Self::$name),*];

            /// The number as logs print it.
            #[must_use]
            pub const fn code(self) -> $int {
                self.0
            }

            /// Its name in the firmware, `None` for a number that has none.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// What it means, in a few words.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)*
                    _ => "not a number that this firmware has a name for",
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => write!(f, "{} {name}", self.0),
                    None => write!(f, "{}", self.0),
                }
            }
        }
    };
}

/// A number of the firmware's `ProtocolError`. Numbers without a name survive a round trip.
///
/// 0 to 13 are the same since 0.4.9, 14 and above exist since 0.6.1. The names 16 to 26 and 33 to 35 begin with
/// `IO_ERROR_` in the source.
///
/// **Trap:** the comments beside the names in the sources of 0.6.1 and 0.7.0, and the table that the Brewskey server
/// copied from them, count 21 twice. From [`LIGHTSSL_BLOCKING_SEND`](Self::LIGHTSSL_BLOCKING_SEND) on they are one
/// too low: what they call 25 is printed as 26. The numbers here are the compiled ones.
///
/// # Source
/// device-os@v2.3.1: `communication/inc/protocol_defs.h`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ProtocolError(u32);

numbers! { ProtocolError(u32):
    0 NO_ERROR "no error";
    1 PING_TIMEOUT "the server did not answer a ping";
    2 IO_ERROR "sending or receiving failed";
    3 INVALID_STATE "not possible in this state";
    4 INSUFFICIENT_STORAGE "a frame or message is larger than the buffer";
    5 MALFORMED_MESSAGE "a message cannot be read";
    6 DECRYPTION_ERROR "the session message does not decrypt with the device's private key";
    7 ENCRYPTION_ERROR "the identity cannot be encrypted with the stored server key";
    8 AUTHENTICATION_ERROR "the session message is not signed by the server whose key is stored";
    9 BANDWIDTH_EXCEEDED "too many events in too short a time";
    10 MESSAGE_TIMEOUT "an expected message did not come in time";
    11 MISSING_MESSAGE_ID "a message has no id";
    12 MESSAGE_RESET "the peer answered with a reset";
    13 SESSION_RESUMED "a session was resumed; not a failure";
    14 FORWARD_MESSAGE_CHANNEL "the message is for another channel";
    15 SET_DATA_MAX_EXCEEDED "more data than a message takes";
    16 PARSING_SERVER_PUBLIC_KEY "the stored server key cannot be parsed (UDP devices)";
    17 GENERIC_ESTABLISH "the secure connection could not be established";
    18 GENERIC_RECEIVE "receiving failed";
    19 GENERIC_SEND "sending failed";
    20 MBEDTLS_SSL_WRITE "writing a DTLS record failed";
    21 DISCARD_SESSION "the session has to be discarded";
    22 LIGHTSSL_BLOCKING_SEND "sending failed while the device waited for it to end";
    23 LIGHTSSL_BLOCKING_RECEIVE "receiving failed while the device waited for it to end";
    24 LIGHTSSL_RECEIVE "receiving a frame failed";
    25 LIGHTSSL_HANDSHAKE_NONCE "the server's nonce did not come";
    26 LIGHTSSL_HANDSHAKE_RECV_KEY "the session message did not come";
    27 NOT_IMPLEMENTED "not implemented";
    28 MISSING_REQUEST_TOKEN "a request has no token";
    29 NOT_FOUND "not found";
    30 NO_MEMORY "out of memory";
    31 INTERNAL "a fault inside the firmware";
    32 OTA_UPDATE_ERROR "a firmware update failed";
    33 SOCKET_SEND_FAILED "the socket does not send";
    34 SOCKET_RECV_FAILED "the socket does not receive";
    35 REMOTE_END_CLOSED "the server closed the connection";
    0x7ffff UNKNOWN "no more is known";
}

impl ProtocolError {
    /// A number as a log shows it; unknown ones are kept.
    #[must_use]
    pub const fn from_code(code: u32) -> Self {
        Self(code)
    }

    /// What Device OS 2 prints in its place as `Cloud handshake failed, code=`; `None` for 0, which is no error.
    ///
    /// Everything that begins with `IO_ERROR` becomes [`SystemError::IO`], but 35; what is not in the list becomes
    /// [`SystemError::PROTOCOL`], 6 and 7 as well: then neither number nor LED tells them apart.
    #[must_use]
    pub const fn system_error(self) -> Option<SystemError> {
        Some(match self.0 {
            0 => return None,
            1 | 10 => SystemError::TIMEOUT,
            2 | 16..=26 | 33 | 34 => SystemError::IO,
            3 => SystemError::INVALID_STATE,
            4 => SystemError::TOO_LARGE,
            8 => SystemError::NOT_ALLOWED,
            9 => SystemError::LIMIT_EXCEEDED,
            27 => SystemError::NOT_SUPPORTED,
            29 => SystemError::NOT_FOUND,
            30 => SystemError::NO_MEMORY,
            35 => SystemError::END_OF_STREAM,
            _ => SystemError::PROTOCOL,
        })
    }
}

/// A negative number of the firmware's list of system errors, -100 and below.
///
/// # Source
/// device-os@v2.3.1: `services/inc/system_error.h`; only those that a [`ProtocolError`] is mapped to have a name here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SystemError(i32);

numbers! { SystemError(i32):
    -120 NOT_SUPPORTED "not supported";
    -130 NOT_ALLOWED "not allowed: the server's signature is wrong";
    -160 TIMEOUT "time-out: no answer to a ping, or no Hello of the server";
    -170 NOT_FOUND "not found";
    -190 TOO_LARGE "too large";
    -200 LIMIT_EXCEEDED "limit exceeded: too many events";
    -201 END_OF_STREAM "end of stream: the server closed the connection";
    -210 INVALID_STATE "invalid state";
    -220 IO "input or output failed: mostly the server closed the connection";
    -240 PROTOCOL "protocol error: everything that has no number of its own, encryption and decryption among it";
    -260 NO_MEMORY "out of memory";
}

impl SystemError {
    /// The highest number that is read as a system error.
    pub const HIGHEST: i32 = -100;

    /// A number as a log shows it, `None` above -100: those are no system errors. Unknown ones are kept.
    #[must_use]
    pub const fn from_code(code: i32) -> Option<Self> {
        if code <= Self::HIGHEST { Some(Self(code)) } else { None }
    }

    /// The protocol errors that are mapped to this one, by number.
    pub fn protocol_errors(self) -> impl Iterator<Item = ProtocolError> + Clone {
        ProtocolError::KNOWN.iter().copied().filter(move |error| error.system_error() == Some(self))
    }
}

/// A negative result of the Photon's socket functions, -1 to -99: WICED's number with the sign changed.
///
/// # Source
/// device-os@v0.6.1: `hal/src/photon/socket_hal.cpp`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SocketError(i32);

numbers! { SocketError(i32):
    -1 LOCAL "time-out at the device (20 s), Wi-Fi reset or sleep, or a socket that was closed here";
    -11 LOST "the connection was lost";
    -17 ABORTED "the connection was aborted";
    -18 RESET "the peer reset the connection";
    -19 CLOSED "the peer closed the connection";
    -20 NOT_CONNECTED "the socket is not connected";
}

impl SocketError {
    /// A number as a log shows it, `None` outside -99 to -1. Unknown ones are kept.
    #[must_use]
    pub const fn from_code(code: i32) -> Option<Self> {
        if matches!(code, -99..=-1) { Some(Self(code)) } else { None }
    }
}

/// A number out of a log line, by what it counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Number {
    /// A protocol error.
    Protocol(ProtocolError),
    /// A system error.
    System(SystemError),
    /// A socket result.
    Socket(SocketError),
    /// An error of the device's TLS library, such as -16640 (4100 hex: bad padding) and -17408 (4400 hex: the output
    /// is too large).
    Library(i32),
    /// Flashes of the LED.
    Blinks(i32),
    /// Bytes.
    Length(i32),
    /// Seconds.
    Seconds(i32),
}

impl Number {
    /// The number behind `code=`, and what the handshake function returns: 0 and above is a protocol error, -1 to -99
    /// a socket result, below that a system error. The ranges do not overlap.
    #[must_use]
    pub const fn of_code(code: i32) -> Self {
        if let Some(error) = SystemError::from_code(code) {
            return Self::System(error);
        }
        if let Some(error) = SocketError::from_code(code) {
            return Self::Socket(error);
        }
        Self::Protocol(ProtocolError(code.unsigned_abs()))
    }

    /// The number itself. A protocol error above the range of an `i32` is shown as the largest one.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Protocol(error) => i32::try_from(error.code()).unwrap_or(i32::MAX),
            Self::System(SystemError(code)) | Self::Socket(SocketError(code)) => code,
            Self::Library(number) | Self::Blinks(number) | Self::Length(number) | Self::Seconds(number) => {
                number
            }
        }
    }
}
