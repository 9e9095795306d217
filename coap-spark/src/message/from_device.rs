//! What devices say.

use super::describe::DescribeFlags;
use super::event::{Event, Subscribe};
use super::goodbye::Goodbye;
use super::hello::Hello;
use super::update::Indices;
use super::{Body, DecodeError, EncodeError, Response, is_response, letter, path};
use crate::coap::{Code, Message, OptionNumber, Type, Writer};

/// The body of a message from a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FromDevice<'a> {
    /// First message of a session.
    Hello(Hello),
    /// Describe sent unasked (Device OS 2): flags and document.
    DescribePost {
        /// Which parts; 0 if the device did not say.
        flags: DescribeFlags,
        /// JSON or metrics, see [`Description`](super::describe::Description).
        payload: &'a [u8],
    },
    /// A published event.
    Event(Event<'a>),
    /// A subscription.
    Subscribe(Subscribe<'a>),
    /// The device wants to know the time.
    TimeRequest,
    /// Keep-alive; answer with an empty acknowledgement.
    Ping,
    /// Chunks to send again; answer with an empty acknowledgement.
    ChunkMissed(Indices<'a>),
    /// The device finished an update by itself; JSON result or nothing.
    UpdateDone(&'a [u8]),
    /// The device is about to leave (Device OS 2).
    Goodbye {
        /// It does not want an answer: the form on TCP.
        no_response: bool,
        /// Why, and for how long.
        goodbye: Goodbye<'a>,
    },
    /// Answer to a request, found by its token.
    Response(Response<'a>),
    /// Empty acknowledgement.
    Ack,
    /// The device could not process a message.
    Reset,
    /// A code or path this version does not know.
    Unknown {
        /// The code.
        code: Code,
        /// The letter of its path, 0 if there is none.
        letter: u8,
    },
}

impl FromDevice<'_> {
    /// A response that refuses, see [`Response::is_refusal`].
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Response(response) if response.is_refusal())
    }
}

impl<'a> Body<'a> for FromDevice<'a> {
    fn decode(message: &Message<'a>) -> Result<Self, DecodeError> {
        let code = message.code();
        let payload = message.payload().unwrap_or_default();
        let letter = letter(message);
        Ok(match (code, letter) {
            (Code::EMPTY, _) => match message.kind() {
                Type::Confirmable => Self::Ping,
                Type::Acknowledgement => Self::Ack,
                Type::Reset => Self::Reset,
                Type::NonConfirmable => Self::Unknown { code, letter: 0 },
            },
            (Code::POST, Some(b'h')) => Self::Hello(Hello::decode(payload)?),
            (Code::POST, Some(b'e')) => Self::Event(Event::decode(message, true)?),
            (Code::POST, Some(b'E')) => Self::Event(Event::decode(message, false)?),
            (Code::POST, Some(b'd')) => {
                let flags = match message.values(OptionNumber::URI_QUERY).next() {
                    Some(&[flags]) => DescribeFlags(flags),
                    _ => DescribeFlags::default(),
                };
                Self::DescribePost { flags, payload }
            }
            (Code::POST, Some(b'x')) => Self::Goodbye {
                no_response: message.values(OptionNumber::NO_RESPONSE).next().is_some(),
                goodbye: Goodbye::decode(payload)?,
            },
            (Code::GET, Some(b'e' | b'E')) => Self::Subscribe(Subscribe::decode(message)),
            (Code::GET, Some(b't')) => Self::TimeRequest,
            (Code::GET, Some(b'c')) => Self::ChunkMissed(Indices::from_bytes(payload)?),
            (Code::PUT, Some(b'u')) => Self::UpdateDone(payload),
            _ if is_response(message) => Self::Response(Response { code, payload }),
            _ => Self::Unknown { code, letter: letter.unwrap_or(0) },
        })
    }

    fn code(&self) -> Code {
        match self {
            Self::Hello(_) | Self::DescribePost { .. } | Self::Event(_) | Self::Goodbye { .. } => Code::POST,
            Self::Subscribe(_) | Self::TimeRequest | Self::ChunkMissed(_) => Code::GET,
            Self::UpdateDone(_) => Code::PUT,
            Self::Response(response) => response.emitted_code(),
            Self::Ping | Self::Ack | Self::Reset => Code::EMPTY,
            Self::Unknown { code, .. } => *code,
        }
    }

    fn write<'b>(&self, mut writer: Writer<'b>) -> Result<&'b [u8], EncodeError> {
        let w = &mut writer;
        match self {
            Self::Hello(hello) => {
                path(w, b'h')?;
                Ok(writer.payload(hello.encode_into(&mut [0; Hello::MAX_LEN]))?)
            }
            Self::DescribePost { flags, payload } => {
                path(w, b'd')?;
                w.option(OptionNumber::URI_QUERY, &[flags.0])?;
                Ok(writer.payload(payload)?)
            }
            Self::Event(event) => {
                path(w, event.letter())?;
                event.write_from_device(writer)
            }
            Self::Subscribe(subscribe) => {
                path(w, b'e')?;
                Ok(subscribe.write(writer)?)
            }
            Self::TimeRequest => {
                path(w, b't')?;
                Ok(writer.finish())
            }
            Self::ChunkMissed(indices) => {
                path(w, b'c')?;
                Ok(writer.payload(indices.as_bytes())?)
            }
            Self::UpdateDone(result) => {
                path(w, b'u')?;
                Ok(writer.payload(result)?)
            }
            Self::Goodbye { no_response, goodbye } => {
                path(w, b'x')?;
                if *no_response {
                    w.option(OptionNumber::NO_RESPONSE, &[])?;
                }
                Ok(writer.payload(goodbye.encode_into(&mut [0; Goodbye::MAX_LEN])?)?)
            }
            Self::Response(response) => Ok(writer.payload(response.payload)?),
            Self::Ping | Self::Ack | Self::Reset => Ok(writer.finish()),
            Self::Unknown { letter, .. } => {
                if *letter != 0 {
                    path(w, *letter)?;
                }
                Ok(writer.finish())
            }
        }
    }
}
