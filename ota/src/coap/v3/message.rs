//! The messages.

use crate::v3::{Acknowledgement, Finish, Start, StartAnswer};
use coap_spark::coap::{Code, Message, OptionNumber, Token, Type, WriteError, Writer};

/// Option numbers of protocol v3. Numbers are sent in as few bytes as they need, 0 in none.
pub mod option {
    /// Index of a chunk, from 1; in [`Acknowledgement`](crate::v3::Acknowledgement) chunks that are there in order.
    pub const CHUNK_INDEX: u16 = 2049;
    /// Chunks that may be on their way.
    pub const WINDOW_SIZE: u16 = 2053;
    /// Bytes of the image; in the answer, bytes that are there.
    pub const FILE_SIZE: u16 = 2057;
    /// SHA-256 of the image, 32 bytes.
    pub const FILE_SHA_256: u16 = 2061;
    /// Bytes of a chunk.
    pub const CHUNK_SIZE: u16 = 2065;
    /// Nothing of the update can be resumed; empty.
    pub const DISCARD_DATA: u16 = 2069;
    /// The update ends without an image; empty.
    pub const CANCEL_UPDATE: u16 = 2073;
    /// Function of the module.
    pub const MODULE_FUNCTION: u16 = 2077;
}

/// What is wrong with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// An option is missing.
    #[error("option {number} is missing")]
    Missing {
        /// Its number.
        number: u16,
    },
    /// An option has a length or a value that it cannot have.
    #[error("option {number} of {len} bytes has no meaning")]
    Option {
        /// Its number.
        number: u16,
        /// Bytes of its value.
        len: usize,
    },
}

/// A number in as few bytes as it needs.
struct Uint([u8; 4], usize);

impl Uint {
    fn new(value: u32) -> Self {
        Self(value.to_be_bytes(), usize::try_from(value.leading_zeros() / 8).unwrap_or(4))
    }

    fn as_bytes(&self) -> &[u8] {
        self.0.get(self.1..).unwrap_or_default()
    }
}

fn find<'a>(message: &Message<'a>, number: u16) -> Option<&'a [u8]> {
    message.values(number).next()
}

fn uint(message: &Message<'_>, number: u16) -> Result<Option<u32>, MessageError> {
    let Some(value) = find(message, number) else { return Ok(None) };
    if value.len() > 4 {
        return Err(MessageError::Option { number, len: value.len() });
    }
    Ok(Some(value.iter().fold(0, |all, byte| all << 8 | u32::from(*byte))))
}

fn needed(message: &Message<'_>, number: u16) -> Result<u32, MessageError> {
    uint(message, number)?.ok_or(MessageError::Missing { number })
}

fn path<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    let mut segments = message.values(OptionNumber::URI_PATH);
    let path = segments.next();
    path.filter(|_| segments.next().is_none() && message.code() == Code::POST)
}

/// A request of the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FromServer<'a> {
    /// `UpdateStart`: confirmable POST to `S`, with a token.
    Start(Start),
    /// `UpdateChunk`: non-confirmable POST to `C`, without a token.
    Chunk {
        /// Counted from 1.
        index: u32,
        /// Its bytes.
        data: &'a [u8],
    },
    /// `UpdateFinish`: confirmable POST to `F`, with a token.
    Finish(Finish),
}

impl<'a> FromServer<'a> {
    /// Reads a message; `None` if it is no request of protocol v3.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn decode(message: &Message<'a>) -> Result<Option<Self>, MessageError> {
        let has = |number| find(message, number).is_some();
        Ok(match path(message) {
            Some(b"S") => {
                let sha256 = match find(message, option::FILE_SHA_256) {
                    None => None,
                    Some(value) => Some(value.try_into().map_err(|_| MessageError::Option {
                        number: option::FILE_SHA_256,
                        len: value.len(),
                    })?),
                };
                let short = |number, value: Option<u32>| {
                    let len = find(message, number).map_or(0, <[u8]>::len);
                    value.map(|value| u8::try_from(value).map_err(|_| MessageError::Option { number, len }))
                };
                let size = needed(message, option::CHUNK_SIZE)?;
                let module_function = uint(message, option::MODULE_FUNCTION)?;
                Some(Self::Start(Start {
                    file_size: needed(message, option::FILE_SIZE)?,
                    // No device takes any of these.
                    chunk_size: u16::try_from(size).unwrap_or(u16::MAX),
                    sha256,
                    discard: has(option::DISCARD_DATA),
                    module_function: short(option::MODULE_FUNCTION, module_function).transpose()?,
                }))
            }
            Some(b"C") => Some(Self::Chunk {
                index: needed(message, option::CHUNK_INDEX)?,
                data: message.payload().unwrap_or_default(),
            }),
            Some(b"F") => Some(Self::Finish(Finish {
                cancel: has(option::CANCEL_UPDATE),
                discard: has(option::DISCARD_DATA),
            })),
            _ => None,
        })
    }

    /// Writes the message; a chunk has no token.
    ///
    /// # Errors
    /// [`WriteError`] if `out` is too short.
    pub fn encode_into<'o>(&self, id: u16, token: Token, out: &'o mut [u8]) -> Result<&'o [u8], WriteError> {
        let request = |out, path: &[u8]| {
            let mut writer = Writer::new(out, Type::Confirmable, Code::POST, id, token)?;
            writer.option(OptionNumber::URI_PATH, path)?;
            Ok(writer)
        };
        match self {
            Self::Start(start) => {
                let mut writer = request(out, b"S")?;
                writer.option(option::FILE_SIZE, Uint::new(start.file_size).as_bytes())?;
                if let Some(sha256) = &start.sha256 {
                    writer.option(option::FILE_SHA_256, sha256)?;
                }
                writer.option(option::CHUNK_SIZE, Uint::new(start.chunk_size.into()).as_bytes())?;
                if start.discard {
                    writer.option(option::DISCARD_DATA, &[])?;
                }
                if let Some(function) = start.module_function {
                    writer.option(option::MODULE_FUNCTION, Uint::new(function.into()).as_bytes())?;
                }
                Ok(writer.finish())
            }
            Self::Chunk { index, data } => {
                let mut writer = Writer::new(out, Type::NonConfirmable, Code::POST, id, Token::EMPTY)?;
                writer.option(OptionNumber::URI_PATH, b"C")?;
                writer.option(option::CHUNK_INDEX, Uint::new(*index).as_bytes())?;
                writer.payload(data)
            }
            Self::Finish(finish) => {
                let mut writer = request(out, b"F")?;
                if finish.discard {
                    writer.option(option::DISCARD_DATA, &[])?;
                }
                if finish.cancel {
                    writer.option(option::CANCEL_UPDATE, &[])?;
                }
                Ok(writer.finish())
            }
        }
    }
}

/// What a device says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FromDevice<'a> {
    /// Answer to `UpdateStart`: 2.01, a confirmable message of its own.
    StartAnswer(StartAnswer),
    /// `UpdateAck`: non-confirmable POST to `A`, without a token.
    Acknowledgement(Acknowledgement<'a>),
    /// Answer to `UpdateFinish`: 2.04, a confirmable message of its own, with JSON unless the update was cancelled.
    FinishAnswer(&'a [u8]),
    /// A refusal with its JSON.
    Refusal {
        /// Mostly 5.03.
        code: Code,
        /// `{"code":…,"message":…}`.
        json: &'a [u8],
    },
}

impl<'a> FromDevice<'a> {
    /// Reads a message; `None` if it is none of protocol v3. Whether a response answers the request at hand is told by
    /// its token.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn decode(message: &Message<'a>) -> Result<Option<Self>, MessageError> {
        let code = message.code();
        let payload = message.payload().unwrap_or_default();
        Ok(if path(message) == Some(b"A") {
            Some(Self::Acknowledgement(Acknowledgement {
                in_order: needed(message, option::CHUNK_INDEX)?,
                bitmap: payload,
            }))
        } else if code == CREATED {
            let window = needed(message, option::WINDOW_SIZE)?;
            Some(Self::StartAnswer(StartAnswer {
                window: u16::try_from(window).unwrap_or(u16::MAX),
                offset: needed(message, option::FILE_SIZE)?,
            }))
        } else if code == Code::CHANGED {
            Some(Self::FinishAnswer(payload))
        } else if code.is_error() {
            Some(Self::Refusal { code, json: payload })
        } else {
            None
        })
    }

    /// Writes the message; an acknowledgement of chunks has no token. `kind` is that of a response.
    ///
    /// # Errors
    /// [`WriteError`] if `out` is too short.
    pub fn encode_into<'o>(
        &self,
        kind: Type,
        id: u16,
        token: Token,
        out: &'o mut [u8],
    ) -> Result<&'o [u8], WriteError> {
        match self {
            Self::StartAnswer(answer) => {
                let mut writer = Writer::new(out, kind, CREATED, id, token)?;
                writer.option(option::WINDOW_SIZE, Uint::new(answer.window.into()).as_bytes())?;
                writer.option(option::FILE_SIZE, Uint::new(answer.offset).as_bytes())?;
                Ok(writer.finish())
            }
            Self::Acknowledgement(acknowledgement) => {
                let mut writer = Writer::new(out, Type::NonConfirmable, Code::POST, id, Token::EMPTY)?;
                writer.option(OptionNumber::URI_PATH, b"A")?;
                writer.option(option::CHUNK_INDEX, Uint::new(acknowledgement.in_order).as_bytes())?;
                writer.payload(acknowledgement.bitmap)
            }
            Self::FinishAnswer(json) => Writer::new(out, kind, Code::CHANGED, id, token)?.payload(json),
            Self::Refusal { code, json } => Writer::new(out, kind, *code, id, token)?.payload(json),
        }
    }
}

/// 2.01.
const CREATED: Code = Code(0x41);
