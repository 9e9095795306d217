//! The checked view of one message.

use super::header::{Code, Token, Type};
use super::options::{OptionIter, long, short};

/// Which deviations from RFC 7252 a parser lets pass. Emitters never produce them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ParseOptions {
    /// An empty message (code 0.00) with a token: the particle-iot server acknowledges with `61 00 id id 00`.
    pub allow_empty_with_token: bool,
    /// `ff` with nothing behind it: device-os emits it for an event with empty data.
    pub allow_bare_marker: bool,
    /// Version bits 0: device-os never checks them.
    pub allow_version_0: bool,
}

impl ParseOptions {
    /// RFC 7252 to the letter.
    pub const STRICT: Self =
        Self { allow_empty_with_token: false, allow_bare_marker: false, allow_version_0: false };
    /// What Spark devices and servers are known to send.
    pub const SPARK: Self =
        Self { allow_empty_with_token: true, allow_bare_marker: true, allow_version_0: true };
}

/// Why bytes are not a CoAP message. Offsets count from the first byte of the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Fewer bytes than the header or the token needs.
    #[error("message of {available} bytes ends inside its header, {needed} are needed")]
    Truncated {
        /// Bytes that header and token need.
        needed: usize,
        /// Bytes at hand.
        available: usize,
    },
    /// The version is not 1.
    #[error("version {found} instead of 1")]
    Version {
        /// The two version bits.
        found: u8,
    },
    /// Token length 9 to 15 is reserved.
    #[error("token length {found} is reserved, at most 8 is allowed")]
    TokenLength {
        /// The four length bits.
        found: u8,
    },
    /// Code 0.00 with a token, options or payload.
    #[error("an empty message has {len} bytes instead of 4")]
    EmptyNotEmpty {
        /// Length of the whole message.
        len: usize,
    },
    /// Delta or length nibble 15 outside the payload marker.
    #[error("reserved nibble 15 in the option at byte {offset}")]
    ReservedNibble {
        /// Where the option starts.
        offset: usize,
    },
    /// An option ends behind the message.
    #[error("option at byte {offset} needs {needed} more bytes, {available} are left")]
    OptionTruncated {
        /// Where the option starts.
        offset: usize,
        /// Bytes that the option still needs.
        needed: usize,
        /// Bytes that are left.
        available: usize,
    },
    /// The sum of the deltas is above 65,535.
    #[error("option at byte {offset} has a number above 65535")]
    OptionNumberTooLarge {
        /// Where the option starts.
        offset: usize,
    },
    /// A payload marker with nothing behind it.
    #[error("payload marker at byte {offset} with no payload")]
    BareMarker {
        /// Where the marker is.
        offset: usize,
    },
}

/// A checked message. Holding one means that all of it parsed.
///
/// ```
/// use coap_spark::coap::{Code, Message, OptionNumber, ParseOptions, Type};
///
/// let describe = Message::parse(&[0x41, 0x01, 0x20, 0x02, 0x01, 0xb1, 0x64], ParseOptions::STRICT)?;
/// assert_eq!((describe.kind(), describe.code(), describe.id()), (Type::Confirmable, Code::GET, 0x2002));
/// assert_eq!(describe.token().as_byte(), Some(1));
/// assert!(describe.options().all(|o| o.number == OptionNumber::URI_PATH && o.value == b"d"));
/// # Ok::<(), coap_spark::coap::ParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Message<'a> {
    kind: Type,
    code: Code,
    id: u16,
    token: Token,
    options: &'a [u8],
    payload: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// Checks header, token and every option.
    ///
    /// # Errors
    /// See [`ParseError`]; the message is never partly accepted.
    pub fn parse(input: &'a [u8], allow: ParseOptions) -> Result<Self, ParseError> {
        let cut = |needed| ParseError::Truncated { needed, available: input.len() };
        let (&[first, code, id0, id1], rest) = input.split_first_chunk::<4>().ok_or_else(|| cut(4))?;
        match first >> 6 {
            1 => {}
            0 if allow.allow_version_0 => {}
            found => return Err(ParseError::Version { found }),
        }
        let token_len = first & 0x0f;
        if token_len > 8 {
            return Err(ParseError::TokenLength { found: token_len });
        }
        let (token, body) =
            rest.split_at_checked(usize::from(token_len)).ok_or_else(|| cut(4 + usize::from(token_len)))?;
        let token = match token {
            [] => Token::EMPTY,
            [byte] => Token::byte(*byte),
            _ => Token::new(token).map_err(|_| ParseError::TokenLength { found: token_len })?,
        };
        if code == 0 && !(body.is_empty() && (token_len == 0 || allow.allow_empty_with_token)) {
            return Err(ParseError::EmptyNotEmpty { len: input.len() });
        }

        let (mut rest, mut number) = (body, 0);
        let payload = loop {
            let offset = || input.len() - rest.len();
            match rest {
                [] => break None,
                [0xff] if !allow.allow_bare_marker => {
                    return Err(ParseError::BareMarker { offset: offset() });
                }
                [0xff, payload @ ..] => break Some(payload),
                _ => {}
            }
            let (option, after) = match short(rest, number) {
                Some(read) => read,
                None => long(rest, number, offset())?,
            };
            number = option.number;
            rest = after;
        };
        let options = body.get(..body.len() - rest.len()).unwrap_or_default();
        Ok(Self {
            kind: Type::from_bits(first >> 4),
            code: Code(code),
            id: u16::from_be_bytes([id0, id1]),
            token,
            options,
            payload,
        })
    }

    /// Message type.
    #[inline]
    #[must_use]
    pub const fn kind(&self) -> Type {
        self.kind
    }

    /// Request method or response code.
    #[inline]
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Message id.
    #[inline]
    #[must_use]
    pub const fn id(&self) -> u16 {
        self.id
    }

    /// Token.
    #[inline]
    #[must_use]
    pub const fn token(&self) -> Token {
        self.token
    }

    /// All options in order.
    #[inline]
    #[must_use]
    pub const fn options(&self) -> OptionIter<'a> {
        OptionIter::new(self.options)
    }

    /// The coded option list, for keeping names without copying.
    #[inline]
    pub(crate) const fn raw_options(&self) -> &'a [u8] {
        self.options
    }

    /// The values of all options with this number, in order.
    #[inline]
    pub fn values(&self, number: u16) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.options().filter(move |option| option.number == number).map(|option| option.value)
    }

    /// The payload; `Some(&[])` for a bare marker.
    #[inline]
    #[must_use]
    pub const fn payload(&self) -> Option<&'a [u8]> {
        self.payload
    }
}
