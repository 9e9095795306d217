//! The words of the four-byte header: type, code, token.

use core::fmt;

/// Message type, bits 5..4 of the first byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "RFC 7252 closes the set: two bits")]
pub enum Type {
    /// CON: asks for an acknowledgement.
    Confirmable = 0,
    /// NON: no acknowledgement.
    NonConfirmable = 1,
    /// ACK: acknowledges the message with the same id.
    Acknowledgement = 2,
    /// RST: the message with the same id could not be processed.
    Reset = 3,
}

impl Type {
    #[inline]
    pub(super) const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Confirmable,
            1 => Self::NonConfirmable,
            2 => Self::Acknowledgement,
            _ => Self::Reset,
        }
    }
}

/// Code, class and detail in one byte: `c.dd`. Unknown codes survive a round trip.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Code(pub u8);

impl Code {
    /// 0.00: ping, empty acknowledgement or reset.
    pub const EMPTY: Self = Self(0x00);
    /// 0.01
    pub const GET: Self = Self(0x01);
    /// 0.02
    pub const POST: Self = Self(0x02);
    /// 0.03
    pub const PUT: Self = Self(0x03);
    /// 0.04. Spark has no such request; the Brewskey server writes it where it means 4.00.
    pub const DELETE: Self = Self(0x04);
    /// 2.04
    pub const CHANGED: Self = Self(0x44);
    /// 2.05
    pub const CONTENT: Self = Self(0x45);
    /// 4.00
    pub const BAD_REQUEST: Self = Self(0x80);
    /// 4.04
    pub const NOT_FOUND: Self = Self(0x84);
    /// 5.00
    pub const INTERNAL_SERVER_ERROR: Self = Self(0xa0);
    /// 5.03
    pub const SERVICE_UNAVAILABLE: Self = Self(0xa3);

    /// The class, 0 (request) to 7.
    #[inline]
    #[must_use]
    pub const fn class(self) -> u8 {
        self.0 >> 5
    }

    /// The detail, 0 to 31.
    #[must_use]
    pub const fn detail(self) -> u8 {
        self.0 & 0x1f
    }

    /// Class 0 and not [`Code::EMPTY`].
    #[must_use]
    pub const fn is_request(self) -> bool {
        self.class() == 0 && self.0 != 0
    }

    /// Class 2: success.
    #[inline]
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.class() == 2
    }

    /// Class 4 or 5: the peer refused or failed.
    #[inline]
    #[must_use]
    pub const fn is_error(self) -> bool {
        matches!(self.class(), 4 | 5)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.class(), self.detail())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({self})")
    }
}

/// A token of 0 to 8 bytes. The Spark protocol uses 0 or 1.
///
/// The one-byte token `00` and the absent token are different things.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Token {
    len: u8,
    bytes: [u8; 8],
}

impl Token {
    /// No token.
    pub const EMPTY: Self = Self { len: 0, bytes: [0; 8] };

    /// The one-byte token that Spark requests carry.
    #[inline]
    #[must_use]
    pub const fn byte(value: u8) -> Self {
        Self { len: 1, bytes: [value, 0, 0, 0, 0, 0, 0, 0] }
    }

    /// A token from bytes.
    ///
    /// # Errors
    /// [`TokenTooLong`] above 8 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, TokenTooLong> {
        let mut token = Self::EMPTY;
        let len = u8::try_from(bytes.len()).map_err(|_| TokenTooLong { len: bytes.len() })?;
        token.bytes.get_mut(..bytes.len()).ok_or(TokenTooLong { len: bytes.len() })?.copy_from_slice(bytes);
        token.len = len;
        Ok(token)
    }

    /// The bytes, 0 to 8.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }

    /// The value of a one-byte token, `None` for any other length.
    #[inline]
    #[must_use]
    pub const fn as_byte(&self) -> Option<u8> {
        if self.len == 1 { Some(self.bytes[0]) } else { None }
    }

    /// No token at all.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(")?;
        for byte in self.as_bytes() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// A token of more than 8 bytes cannot be expressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a token has at most 8 bytes, {len} were given")]
pub struct TokenTooLong {
    /// The length that was given.
    pub len: usize,
}
