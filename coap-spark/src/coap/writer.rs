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
    #[inline]
    pub fn new(out: &'b mut [u8], kind: Type, code: Code, id: u16, token: Token) -> Result<Self, WriteError> {
        let (available, token) = (out.len(), token.as_bytes());
        let len = 4 + token.len();
        let too_small = WriteError::BufferTooSmall { needed: len, available };
        let head = out.get_mut(..len).ok_or(too_small)?;
        let (fixed, rest) = head.split_first_chunk_mut::<4>().ok_or(too_small)?;
        let [id0, id1] = id.to_be_bytes();
        let token_len = u8::try_from(token.len()).unwrap_or(0);
        *fixed = [0x40 | ((kind as u8) << 4) | token_len, code.0, id0, id1];
        rest.iter_mut().zip(token).for_each(|(to, byte)| *to = *byte);
        Ok(Self { out, len, number: 0 })
    }

    /// Adds an option; equal numbers may follow each other.
    ///
    /// # Errors
    /// [`WriteError`]; after an error the message is unusable.
    #[inline]
    pub fn option(&mut self, number: u16, value: &[u8]) -> Result<(), WriteError> {
        let delta = number.checked_sub(self.number);
        if let (Some(delta @ 0..=12), len @ 0..=12) = (delta, value.len()) {
            let [delta, _] = delta.to_le_bytes();
            let [len, ..] = len.to_le_bytes();
            self.put((delta << 4) | len, value)?;
            self.number = number;
            return Ok(());
        }
        self.long_option(number, value)
    }

    /// An option whose delta or length needs an extension, or one that cannot be written.
    fn long_option(&mut self, number: u16, value: &[u8]) -> Result<(), WriteError> {
        self.option_head(number, value.len())?;
        self.append(value)
    }

    /// An option whose value of `len` bytes is put together as it is written.
    pub(crate) fn option_of(
        &mut self,
        number: u16,
        len: usize,
        value: impl Iterator<Item = u8>,
    ) -> Result<(), WriteError> {
        self.option_head(number, len)?;
        let (available, needed) = (self.out.len(), self.len + len);
        let to =
            self.out.get_mut(self.len..needed).ok_or(WriteError::BufferTooSmall { needed, available })?;
        to.iter_mut().zip(value).for_each(|(to, byte)| *to = byte);
        self.len = needed;
        Ok(())
    }

    fn option_head(&mut self, number: u16, len: usize) -> Result<(), WriteError> {
        let delta = number
            .checked_sub(self.number)
            .ok_or(WriteError::OptionOrder { previous: self.number, number })?;
        let too_long = WriteError::OptionTooLong { number, len };
        let (delta_nibble, delta_more) = nibble(usize::from(delta)).ok_or(too_long)?;
        let (len_nibble, len_more) = nibble(len).ok_or(too_long)?;
        self.put((delta_nibble << 4) | len_nibble, delta_more.as_bytes())?;
        self.append(len_more.as_bytes())?;
        self.number = number;
        Ok(())
    }

    /// Adds the payload and ends the message. An empty payload is left out together with its marker.
    ///
    /// # Errors
    /// [`WriteError::BufferTooSmall`].
    #[inline]
    pub fn payload(mut self, payload: &[u8]) -> Result<&'b [u8], WriteError> {
        if !payload.is_empty() {
            self.put(0xff, payload)?;
        }
        Ok(self.finish())
    }

    /// Ends the message without a payload.
    #[inline]
    #[must_use]
    pub fn finish(self) -> &'b [u8] {
        self.out.get(..self.len).unwrap_or_default()
    }

    /// A byte and what belongs to it.
    #[inline]
    fn put(&mut self, first: u8, bytes: &[u8]) -> Result<(), WriteError> {
        let (available, needed) = (self.out.len(), self.len + 1 + bytes.len());
        match self.out.get_mut(self.len..needed) {
            Some([to, rest @ ..]) => {
                *to = first;
                rest.copy_from_slice(bytes);
                self.len = needed;
                Ok(())
            }
            _ => Err(WriteError::BufferTooSmall { needed, available }),
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let (available, needed) = (self.out.len(), self.len + bytes.len());
        let to =
            self.out.get_mut(self.len..needed).ok_or(WriteError::BufferTooSmall { needed, available })?;
        to.copy_from_slice(bytes);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coap::{Message, ParseError, ParseOptions};
    use alloc::vec::Vec;

    /// Options with every form of delta and length, and a payload.
    fn write(out: &mut [u8]) -> Result<&[u8], WriteError> {
        let mut writer =
            Writer::new(out, Type::Confirmable, Code::POST, 0x1234, Token::new(&[1, 2, 3]).unwrap())?;
        for (number, len) in [(11, 0), (11, 12), (24, 13), (281, 269), (65_000, 1)] {
            writer.option(number, &[7; 269][..len])?;
        }
        writer.payload(b"end")
    }

    #[test]
    fn every_shorter_buffer_is_an_error_that_says_what_is_needed() {
        let mut out = [0; 400];
        let len = write(&mut out).unwrap().len();
        for available in 0..len {
            match write(&mut [0; 400][..available]) {
                Err(WriteError::BufferTooSmall { needed, available: found }) => {
                    assert!(available < needed && needed <= len && found == available);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn every_form_of_option_is_read_again_and_every_cut_is_not_the_same() {
        let mut out = [0; 400];
        let bytes = write(&mut out).unwrap();
        let message = Message::parse(bytes, ParseOptions::STRICT).unwrap();
        let options: Vec<_> = message.options().map(|option| (option.number, option.value.len())).collect();
        assert_eq!(options, [(11, 0), (11, 12), (24, 13), (281, 269), (65_000, 1)]);
        for len in 0..bytes.len() {
            assert_ne!(Message::parse(&bytes[..len], ParseOptions::STRICT), Ok(message), "{len}");
        }
    }

    #[test]
    fn options_out_of_order_and_numbers_above_16_bits_are_errors() {
        let mut out = [0; 64];
        let mut writer = Writer::new(&mut out, Type::Confirmable, Code::GET, 1, Token::EMPTY).unwrap();
        writer.option(15, b"x").unwrap();
        assert_eq!(writer.option(11, b"x"), Err(WriteError::OptionOrder { previous: 15, number: 11 }));
        // 65,535, then one more in the short form.
        let bytes = [0x40, 1, 0, 1, 0xe0, 0xfe, 0xf2, 0x10];
        let error = ParseError::OptionNumberTooLarge { offset: 7 };
        assert_eq!(Message::parse(&bytes, ParseOptions::STRICT), Err(error));
        assert!(Message::parse(&bytes[..7], ParseOptions::STRICT).is_ok());
    }
}
