//! What servers say.

use super::describe::DescribeFlags;
use super::event::Event;
use super::update::{Chunk, UpdateBegin};
use super::{Body, DecodeError, EncodeError, Response, is_response, letter, path};
use crate::coap::{Code, Message, OptionNumber, Type, Writer};

/// The body of a message from a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FromServer<'a> {
    /// First message of a session.
    Hello,
    /// Asks for the device's description; `None` for everything.
    Describe {
        /// Which parts; a device reads them with [`DescribeFlags::effective`].
        flags: Option<DescribeFlags>,
    },
    /// Calls a function.
    FunctionCall {
        /// Its name, up to 12 bytes (64 since 0.8.0).
        name: &'a [u8],
        /// Its argument, up to 63 bytes (622 since 0.8.0).
        argument: &'a [u8],
    },
    /// Reads a variable.
    VariableRequest {
        /// Its name.
        name: &'a [u8],
    },
    /// An event for a subscription of the device.
    Event(Event<'a>),
    /// Starts or stops signalling with the LED.
    Signal {
        /// Start.
        on: bool,
    },
    /// Keep-alive; answer with an empty acknowledgement.
    Ping,
    /// Keep-alive without an answer (code 0.00 in a non-confirmable message).
    SocketPing,
    /// The server's key changed; no known server sends it.
    KeyChange {
        /// The device is to forget its session (query 1; UDP devices only).
        discard_session: bool,
    },
    /// Begins a firmware update.
    UpdateBegin(UpdateBegin),
    /// The same under its older name; devices treat both alike.
    SaveBegin(UpdateBegin),
    /// A chunk of an update.
    Chunk(Chunk<'a>),
    /// All chunks were sent.
    UpdateDone,
    /// Answer to a request, or an acknowledgement with a code.
    Response(Response<'a>),
    /// Empty acknowledgement.
    Ack,
    /// The server could not process a message.
    Reset,
    /// A code or path this version does not know.
    Unknown {
        /// The code.
        code: Code,
        /// The letter of its path, 0 if there is none.
        letter: u8,
    },
}

impl FromServer<'_> {
    /// A response that refuses, see [`Response::is_refusal`].
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Response(response) if response.is_refusal())
    }
}

impl<'a> Body<'a> for FromServer<'a> {
    fn decode(message: &Message<'a>) -> Result<Self, DecodeError> {
        let code = message.code();
        let payload = message.payload();
        let query = || message.values(OptionNumber::URI_QUERY).next();
        let name = || message.values(OptionNumber::URI_PATH).nth(1).unwrap_or_default();
        let letter = letter(message);
        Ok(match (code, letter) {
            (Code::EMPTY, _) => match message.kind() {
                Type::Confirmable => Self::Ping,
                Type::NonConfirmable => Self::SocketPing,
                Type::Acknowledgement => Self::Ack,
                Type::Reset => Self::Reset,
            },
            (Code::GET, Some(b'd')) => {
                Self::Describe { flags: query().and_then(|q| q.first()).map(|&flags| DescribeFlags(flags)) }
            }
            (Code::GET, Some(b'v')) => Self::VariableRequest { name: name() },
            (Code::POST, Some(b'h')) => Self::Hello,
            (Code::POST, Some(b'f')) => {
                Self::FunctionCall { name: name(), argument: query().unwrap_or_default() }
            }
            (Code::POST, Some(b'e')) => Self::Event(Event::decode(message, true)?),
            (Code::POST, Some(b'E')) => Self::Event(Event::decode(message, false)?),
            (Code::POST, Some(b'u')) => Self::UpdateBegin(UpdateBegin::decode(payload)?),
            (Code::POST, Some(b's')) => Self::SaveBegin(UpdateBegin::decode(payload)?),
            (Code::POST, Some(b'c')) => Self::Chunk(Chunk::decode(message)?),
            (Code::PUT, Some(b's')) => {
                Self::Signal { on: query().and_then(|q| q.first()).is_some_and(|&byte| byte != 0) }
            }
            (Code::PUT, Some(b'k')) => Self::KeyChange { discard_session: query() == Some(&[1]) },
            (Code::PUT, Some(b'u')) => Self::UpdateDone,
            _ if is_response(message) => {
                Self::Response(Response { code, payload: payload.unwrap_or_default() })
            }
            _ => Self::Unknown { code, letter: letter.unwrap_or(0) },
        })
    }

    fn code(&self) -> Code {
        match self {
            Self::Describe { .. } | Self::VariableRequest { .. } => Code::GET,
            Self::Hello
            | Self::FunctionCall { .. }
            | Self::Event(_)
            | Self::UpdateBegin(_)
            | Self::SaveBegin(_)
            | Self::Chunk(_) => Code::POST,
            Self::Signal { .. } | Self::KeyChange { .. } | Self::UpdateDone => Code::PUT,
            Self::Response(response) => response.emitted_code(),
            Self::Ping | Self::SocketPing | Self::Ack | Self::Reset => Code::EMPTY,
            Self::Unknown { code, .. } => *code,
        }
    }

    fn write<'b>(&self, mut writer: Writer<'b>) -> Result<&'b [u8], EncodeError> {
        let w = &mut writer;
        match self {
            Self::Hello => path(w, b'h')?,
            Self::Describe { flags } => {
                path(w, b'd')?;
                if let Some(flags) = flags {
                    w.option(OptionNumber::URI_QUERY, &[flags.0])?;
                }
            }
            Self::FunctionCall { name, argument } => {
                path(w, b'f')?;
                w.option(OptionNumber::URI_PATH, name)?;
                // Also when empty: without the option both firmware generations read behind the message.
                w.option(OptionNumber::URI_QUERY, argument)?;
            }
            Self::VariableRequest { name } => {
                path(w, b'v')?;
                w.option(OptionNumber::URI_PATH, name)?;
            }
            Self::Event(event) => {
                path(w, event.letter())?;
                return event.write_from_server(writer);
            }
            Self::Signal { on } => {
                path(w, b's')?;
                w.option(OptionNumber::URI_QUERY, &[u8::from(*on)])?;
            }
            Self::KeyChange { discard_session } => {
                path(w, b'k')?;
                if *discard_session {
                    w.option(OptionNumber::URI_QUERY, &[1])?;
                }
            }
            Self::UpdateBegin(begin) => {
                path(w, b'u')?;
                return Ok(writer.payload(&begin.encode())?);
            }
            Self::SaveBegin(begin) => {
                path(w, b's')?;
                return Ok(writer.payload(&begin.encode())?);
            }
            Self::Chunk(chunk) => {
                path(w, b'c')?;
                return Ok(chunk.write(writer)?);
            }
            Self::UpdateDone => path(w, b'u')?,
            Self::Response(response) => return Ok(writer.payload(response.payload)?),
            Self::Ping | Self::SocketPing | Self::Ack | Self::Reset => {}
            Self::Unknown { letter: 0, .. } => {}
            Self::Unknown { letter, .. } => path(w, *letter)?,
        }
        Ok(writer.finish())
    }
}
