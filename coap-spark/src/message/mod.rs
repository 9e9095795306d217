//! Every message of the Spark protocol as a typed value.
//!
//! One CoAP message is an [`Envelope`] around a body: [`FromDevice`] or [`FromServer`]. Decoding accepts what real
//! devices and servers send; encoding emits exactly the bytes that every firmware generation understands.
//!
//! | message | from | type code path |
//! |---|---|---|
//! | Hello | device, then server | NON POST `/h` |
//! | Describe | server | CON GET `/d` |
//! | Function call | server | CON POST `/f/name?arg` |
//! | Variable | server | CON GET `/v/name` |
//! | Event | both | NON or CON POST `/e/name` (public), `/E/name` (private) |
//! | Subscribe | device | CON GET `/e/name` |
//! | Signal | server | CON PUT `/s?01`, `/s?00` |
//! | Time | device | CON GET `/t` |
//! | Ping | both | CON 0.00 |
//! | Update begin, chunk, done | server | CON POST `/u`, POST `/c?crc?index`, PUT `/u` |
//! | Chunk missed, update done | device | GET `/c`, PUT `/u` |
//! | Goodbye | device | POST `/x` |
//! | Key change | server | CON PUT `/k` |
//!
//! Outside of a session there is the [`PresenceAnnouncement`]. What events mean to the system is a [`SystemEvent`], what
//! a response means is asked of the [`Response`].
//!
//! # Source
//! device-os@v2.3.1: `communication/src/messages.cpp`; v0.7.0: `spark_protocol.cpp`.

pub mod describe;
mod event;
mod from_device;
mod from_server;
mod goodbye;
mod hello;
mod name;
mod presence;
mod reason;
mod response;
pub mod system_event;
mod update;
mod value;

pub use event::{Event, Scope, Subscribe};
pub use from_device::FromDevice;
pub use from_server::FromServer;
pub use goodbye::{Goodbye, GoodbyeError};
pub use hello::{Hello, HelloFlags};
pub use name::Name;
pub use presence::PresenceAnnouncement;
pub use reason::{CloudReason, NetworkReason, ResetReason};
pub use response::{Response, ResponseError};
pub use system_event::SystemEvent;
pub use update::{Chunk, Indices, Store, UpdateBegin, UpdateReady, UpdateResult};
pub use value::{Value, VariableType};

use crate::coap::{Code, Message, OptionNumber, ParseError, ParseOptions, Token, Type, WriteError, Writer};

/// Type, id and token around a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Envelope<B> {
    /// Message type.
    pub kind: Type,
    /// Message id.
    pub id: u16,
    /// Token: one byte on server requests and the answers to them, none elsewhere.
    pub token: Token,
    /// What is said.
    pub body: B,
}

/// Whether a message without a class of responses is one all the same: the Brewskey server writes 4.00 as 0.04.
fn is_response(message: &Message<'_>) -> bool {
    let code = message.code();
    code.is_success() || code.is_error() || (code == Code::DELETE && letter(message).unwrap_or(0) == 0)
}

/// Why bytes are not a message of this protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not CoAP.
    #[error("not a CoAP message")]
    Coap(#[from] ParseError),
    /// A field of a known message has a length or value that no peer sends.
    #[error("{field} has {found} bytes, {expected} were expected")]
    Field {
        /// Which one.
        field: &'static str,
        /// What it must have.
        expected: &'static str,
        /// What it has.
        found: usize,
    },
    /// The payload of a Goodbye is cut or has an integer above 32 bits.
    #[error("not a Goodbye payload")]
    Goodbye(#[source] GoodbyeError),
}

/// Why a message cannot be emitted. Nothing is truncated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Does not fit the buffer or CoAP.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A value is above what the wire form or every device takes.
    #[error("{field} is {found}, at most {limit} can be sent")]
    TooLarge {
        /// Which one.
        field: &'static str,
        /// The limit.
        limit: u32,
        /// The value or length.
        found: usize,
    },
}

/// A body with the code and options that carry it.
pub(crate) trait Body<'a>: Sized {
    fn decode(message: &Message<'a>) -> Result<Self, DecodeError>;
    fn code(&self) -> Code;
    fn write<'b>(&self, writer: Writer<'b>) -> Result<&'b [u8], EncodeError>;
}

macro_rules! envelope_of {
    ($body:ident) => {
        impl<'a> Envelope<$body<'a>> {
            /// Decodes one message with the tolerances of [`ParseOptions::SPARK`].
            ///
            /// # Errors
            /// [`DecodeError`]. Unknown codes and paths are no error: they become `Unknown`.
            pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
                let message = Message::parse(bytes, ParseOptions::SPARK)?;
                let body = $body::decode(&message)?;
                Ok(Self { kind: message.kind(), id: message.id(), token: message.token(), body })
            }

            /// The same, but a message whose fields are not what they should be is one that is not known.
            pub(crate) fn decode_or_unknown(bytes: &'a [u8]) -> Result<Self, DecodeError> {
                match Self::decode(bytes) {
                    Ok(message) => Ok(message),
                    Err(error @ DecodeError::Coap(_)) => Err(error),
                    Err(_) => {
                        let message = Message::parse(bytes, ParseOptions::SPARK)?;
                        let letter = letter(&message).unwrap_or(0);
                        let body = $body::Unknown { code: message.code(), letter };
                        Ok(Self { kind: message.kind(), id: message.id(), token: message.token(), body })
                    }
                }
            }

            /// Emits the message into `out`.
            ///
            /// # Errors
            /// [`EncodeError`].
            pub fn encode_into<'b>(&self, out: &'b mut [u8]) -> Result<&'b [u8], EncodeError> {
                let writer = Writer::new(out, self.kind, self.body.code(), self.id, self.token)?;
                self.body.write(writer)
            }

            /// Emits the message into a vector.
            ///
            /// # Errors
            /// [`EncodeError`].
            #[cfg(feature = "alloc")]
            pub fn to_vec(&self) -> Result<alloc::vec::Vec<u8>, EncodeError> {
                let mut out = alloc::vec::Vec::new();
                grow(&mut out, |len, out| out.resize(len, 0), |out| self.encode_into(out).map(<[u8]>::len))?;
                Ok(out)
            }

            /// Emits the message behind what is in `out`.
            ///
            /// # Errors
            /// [`EncodeError`]; `out` is as it was.
            #[cfg(feature = "bytes")]
            pub fn encode_to(&self, out: &mut bytes::BytesMut) -> Result<(), EncodeError> {
                let mut message = out.split_off(out.len());
                grow(
                    &mut message,
                    |len, out| out.resize(len, 0),
                    |out| self.encode_into(out).map(<[u8]>::len),
                )?;
                out.unsplit(message);
                Ok(())
            }
        }
    };
}

/// Most messages are shorter.
#[cfg(feature = "alloc")]
const FIRST_GUESS: usize = 64;

/// Encodes into a buffer that is resized until the message fits, and then to its length.
#[cfg(feature = "alloc")]
fn grow<B: AsMut<[u8]>>(
    buffer: &mut B,
    resize: impl Fn(usize, &mut B),
    encode: impl Fn(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), EncodeError> {
    let mut room = FIRST_GUESS;
    loop {
        resize(room, buffer);
        match encode(buffer.as_mut()) {
            Err(EncodeError::Write(WriteError::BufferTooSmall { needed, .. })) => room = needed.max(2 * room),
            Err(error) => return Err(error),
            Ok(len) => {
                resize(len, buffer);
                return Ok(());
            }
        }
    }
}

envelope_of!(FromDevice);
envelope_of!(FromServer);

/// The one-letter name of a request, from its first Uri-Path option.
#[inline]
fn letter(message: &Message<'_>) -> Option<u8> {
    match message.values(OptionNumber::URI_PATH).next()? {
        [letter] => Some(*letter),
        _ => None,
    }
}

fn path(writer: &mut Writer<'_>, letter: u8) -> Result<(), WriteError> {
    writer.option(OptionNumber::URI_PATH, &[letter])
}

#[cfg(test)]
mod tests;
