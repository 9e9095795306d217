//! Emitting a message into a slice.

use super::header::{Code, Token, Type};

/// Why a message could not be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The message does not fit the buffer.
    #[error("message needs at least {needed} bytes, the buffer has {available}")]
    BufferTooSmall {
        /// Bytes needed up to the part that did not fit.
        needed: usize,
        /// Length of the buffer.
        available: usize,
    },
    /// Options must be added in ascending order of their numbers.
    #[error("option {number} added after option {previous}, options go in ascending order")]
    OptionOrder {
        /// The option that was written before.
        previous: u16,
        /// The option that was to be written.
        number: u16,
    },
    /// An option value is at most 65,804 bytes.
    #[error("option {number} of {len} bytes, at most 65804 can be expressed")]
    OptionTooLong {
        /// The option.
        number: u16,
        /// Length of its value.
        len: usize,
    },
}

/// Writes one message, front to back.
///
/// ```
/// use coap_spark::coap::{Code, OptionNumber, Token, Type, Writer};
///
/// let mut out = [0; 32];
/// let mut writer = Writer::new(&mut out, Type::Confirmable, Code::GET, 0x2003, Token::byte(2))?;
/// writer.option(OptionNumber::URI_PATH, b"v")?;
/// writer.option(OptionNumber::URI_PATH, b"temp")?;
/// assert_eq!(writer.finish(), [0x41, 0x01, 0x20, 0x03, 0x02, 0xb1, b'v', 0x04, b't', b'e', b'm', b'p']);
/// # Ok::<(), coap_spark::coap::WriteError>(())
/// ```
#[derive(Debug)]
pub struct Writer<'b> {
    out: &'b mut [u8],
    len: usize,
    number: u16,
}

impl<'b> Writer<'b> {
    /// Starts a message with its header and token.
    ///
    /// # Errors
    /// [`WriteError::BufferTooSmall`].
    pub fn new(out: &'b mut [u8], kind: Type, code: Code, id: u16, token: Token) -> Result<Self, WriteError> {
        let mut writer = Self { out, len: 0, number: 0 };
        let token = token.as_bytes();
        let first = 0x40 | ((kind as u8) << 4) | u8::try_from(token.len()).unwrap_or(0);
        writer.put(&[first, code.0])?;
        writer.put(&id.to_be_bytes())?;
        writer.put(token)?;
        Ok(writer)
    }

    /// Adds an option; equal numbers may follow each other.
    ///
    /// # Errors
    /// [`WriteError`]; after an error the message is unusable.
    pub fn option(&mut self, number: u16, value: &[u8]) -> Result<(), WriteError> {
        let delta = number
            .checked_sub(self.number)
            .ok_or(WriteError::OptionOrder { previous: self.number, number })?;
        let too_long = WriteError::OptionTooLong { number, len: value.len() };
        let (delta_nibble, delta_more) = nibble(usize::from(delta)).ok_or(too_long)?;
        let (len_nibble, len_more) = nibble(value.len()).ok_or(too_long)?;
        self.put(&[(delta_nibble << 4) | len_nibble])?;
        self.put(delta_more.as_bytes())?;
        self.put(len_more.as_bytes())?;
        self.put(value)?;
        self.number = number;
        Ok(())
    }

    /// Adds the payload and ends the message. An empty payload is left out together with its marker.
    ///
    /// # Errors
    /// [`WriteError::BufferTooSmall`].
    pub fn payload(mut self, payload: &[u8]) -> Result<&'b [u8], WriteError> {
        if !payload.is_empty() {
            self.put(&[0xff])?;
            self.put(payload)?;
        }
        Ok(self.finish())
    }

    /// Ends the message without a payload.
    #[must_use]
    pub fn finish(self) -> &'b [u8] {
        self.out.get(..self.len).unwrap_or_default()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let needed = self.len + bytes.len();
        let available = self.out.len();
        self.out
            .get_mut(self.len..needed)
            .ok_or(WriteError::BufferTooSmall { needed, available })?
            .copy_from_slice(bytes);
        self.len = needed;
        Ok(())
    }
}

/// The extension bytes of a delta or length: 0, 1 or 2.
#[derive(Clone, Copy)]
struct More {
    bytes: [u8; 2],
    len: usize,
}

impl More {
    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

fn nibble(value: usize) -> Option<(u8, More)> {
    if let Ok(small @ 0..=12) = u8::try_from(value) {
        return Some((small, More { bytes: [0; 2], len: 0 }));
    }
    if let Ok(byte) = u8::try_from(value - 13) {
        return Some((13, More { bytes: [byte, 0], len: 1 }));
    }
    let long = u16::try_from(value - 269).ok()?;
    Some((14, More { bytes: long.to_be_bytes(), len: 2 }))
}
