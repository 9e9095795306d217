//! A bounded, lenient reader for the little DER that keys consist of.
//!
//! Strict DER readers refuse keys that devices generate themselves: their integers have a needless leading zero. This
//! one accepts that and tells so. It accepts long-form lengths where a short one would do, and nothing else that is
//! not DER. Lengths are at most 65535.

/// Tag of SEQUENCE.
pub const SEQUENCE: u8 = 0x30;
/// Tag of INTEGER.
pub const INTEGER: u8 = 0x02;
/// Tag of BIT STRING.
pub const BIT_STRING: u8 = 0x03;
/// Tag of OCTET STRING.
pub const OCTET_STRING: u8 = 0x04;
/// Tag of NULL.
pub const NULL: u8 = 0x05;
/// Tag of OBJECT IDENTIFIER.
pub const OBJECT_IDENTIFIER: u8 = 0x06;

/// Reads one element after the other.
#[derive(Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

/// One element: tag, content and where it is.
#[derive(Clone, Copy)]
pub struct Element<'a> {
    /// Tag byte.
    pub tag: u8,
    /// Content bytes.
    pub content: &'a [u8],
    /// Where the tag is, counted from the start of the outermost input.
    pub offset: usize,
    /// Where the content is.
    pub content_offset: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the start of `input`.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self { rest: input, offset: 0 }
    }

    /// Reads the content of an element, keeping offsets of the outermost input.
    #[must_use]
    pub const fn inside(element: &Element<'a>) -> Self {
        Self { rest: element.content, offset: element.content_offset }
    }

    /// Position in the outermost input.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next element, whatever its tag.
    ///
    /// # Errors
    /// [`DerError::Truncated`] or [`DerError::Length`].
    pub fn any(&mut self) -> Result<Element<'a>, DerError> {
        let offset = self.offset;
        let available = self.rest.len();
        let (tag, header, length) = match *self.rest {
            [tag, length @ 0..=0x7F, ..] => (tag, 2, usize::from(length)),
            [tag, 0x81, length, ..] => (tag, 3, usize::from(length)),
            [tag, 0x82, high, low, ..] => (tag, 4, usize::from(u16::from_be_bytes([high, low]))),
            [_, first, ..] if !matches!(first, 0x81 | 0x82) => {
                return Err(DerError::Length { offset, found: first });
            }
            _ => return Err(DerError::Truncated { offset, needed: available + 1, available }),
        };
        let needed = header + length;
        let content =
            self.rest.get(header..needed).ok_or(DerError::Truncated { offset, needed, available })?;
        self.rest = self.rest.get(needed..).unwrap_or(&[]);
        self.offset += needed;
        Ok(Element { tag, content, offset, content_offset: offset + header })
    }

    /// The next element, which has to have that tag.
    ///
    /// # Errors
    /// As [`any`](Self::any), and [`DerError::Tag`].
    pub fn element(&mut self, expected: u8) -> Result<Element<'a>, DerError> {
        let offset = self.offset;
        match self.rest.first() {
            Some(found) if *found != expected => Err(DerError::Tag { offset, expected, found: *found }),
            _ => self.any(),
        }
    }

    /// The next element, which has to be a non-negative INTEGER.
    ///
    /// # Errors
    /// As [`element`](Self::element), and [`DerError::Integer`] for an empty or negative one.
    pub fn integer(&mut self) -> Result<Integer<'a>, DerError> {
        let element = self.element(INTEGER)?;
        match element.content.first() {
            Some(0..=0x7F) => {
                let header = element.content_offset - element.offset;
                Ok(Integer {
                    content: element.content,
                    // what has four billion bytes before it is no key
                    offset: u32::try_from(element.offset).unwrap_or(u32::MAX),
                    header: u8::try_from(header).unwrap_or(u8::MAX),
                })
            }
            _ => Err(DerError::Integer { offset: element.offset }),
        }
    }
}

impl core::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // the input may be a private key
        f.debug_struct("Reader").field("offset", &self.offset).field("rest_len", &self.rest.len()).finish()
    }
}

impl core::fmt::Debug for Element<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Element")
            .field("tag", &self.tag)
            .field("offset", &self.offset)
            .field("content_len", &self.content.len())
            .finish()
    }
}

/// A non-negative INTEGER as it is encoded.
#[derive(Clone, Copy)]
pub struct Integer<'a> {
    content: &'a [u8],
    offset: u32,
    /// Bytes of tag and length.
    header: u8,
}

impl<'a> Integer<'a> {
    /// Content bytes with the leading zeros that the encoding has.
    #[must_use]
    pub const fn encoded(&self) -> &'a [u8] {
        self.content
    }

    /// Length of the content: what the device's fixed-position reader depends on.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        self.content.len()
    }

    /// The number, big-endian, without leading zeros; empty for 0.
    #[must_use]
    pub fn magnitude(&self) -> &'a [u8] {
        strip(self.content)
    }

    /// The bytes behind the one that has to be 0 in a number of 129 or 65 bytes, which the device steps over; all bytes of a
    /// number of another length.
    pub(crate) fn without_leading_byte(&self) -> &'a [u8] {
        match self.content {
            [_, number @ ..] if matches!(number.len(), 128 | 64) => number,
            number => number,
        }
    }

    /// Where such a byte is that is not 0.
    pub(crate) fn damaged_leading_byte(&self) -> Option<usize> {
        match self.content {
            [lead, number @ ..] if *lead != 0 && matches!(number.len(), 128 | 64) => {
                Some(self.offset() + usize::from(self.header))
            }
            _ => None,
        }
    }

    /// Whether DER would encode the number in the same bytes.
    #[must_use]
    pub const fn is_minimal(&self) -> bool {
        !matches!(self.content, [0, 0..=0x7F, ..])
    }

    /// Whether the length is in a longer form than DER has it.
    #[must_use]
    pub const fn has_long_length(&self) -> bool {
        self.header as usize > header_len(self.content.len())
    }

    /// Where the tag is.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset as usize
    }
}

impl core::fmt::Debug for Integer<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // may be a secret number
        f.debug_struct("Integer")
            .field("offset", &self.offset)
            .field("encoded_len", &self.content.len())
            .finish()
    }
}

pub(crate) fn strip(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or(&[])
}

/// Writes DER into a caller's buffer; remembers an overflow instead of failing at every step.
pub(crate) struct Writer<'b> {
    out: &'b mut [u8],
    len: usize,
}

impl<'b> Writer<'b> {
    pub(crate) fn new(out: &'b mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(slot) = self.out.get_mut(self.len) {
                *slot = *byte;
            }
            self.len += 1;
        }
    }

    pub(crate) fn header(&mut self, tag: u8, length: usize) {
        self.bytes(&[tag]);
        // callers never encode more than 65535 bytes
        let [.., high, low] = length.to_be_bytes();
        match length {
            0..=0x7F => self.bytes(&[low]),
            0x80..=0xFF => self.bytes(&[0x81, low]),
            _ => self.bytes(&[0x82, high, low]),
        }
    }

    /// The number without its needless zeros.
    pub(crate) fn integer(&mut self, number: &[u8]) {
        let number = strip(number);
        let pad = number.first().is_none_or(|first| *first >= 0x80);
        self.header(INTEGER, number.len() + usize::from(pad));
        if pad {
            self.bytes(&[0]);
        }
        self.bytes(number);
    }

    pub(crate) fn finish(self) -> Result<&'b [u8], BufferTooSmall> {
        let available = self.out.len();
        let needed = self.len;
        self.out.get(..needed).ok_or(BufferTooSmall { needed, available })
    }
}

pub(crate) const fn header_len(length: usize) -> usize {
    match length {
        0..=0x7F => 2,
        0x80..=0xFF => 3,
        _ => 4,
    }
}

pub(crate) fn integer_len(number: &[u8]) -> usize {
    let number = strip(number);
    let content = number.len() + usize::from(number.first().is_none_or(|first| *first >= 0x80));
    header_len(content) + content
}

/// The caller's buffer is too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("result needs {needed} bytes but the buffer has {available}; give a larger buffer")]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct BufferTooSmall {
    /// Bytes needed.
    pub needed: usize,
    /// Bytes available.
    pub available: usize,
}

/// Why bytes are not the DER that was expected. Offsets count from the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DerError {
    /// An element ends behind the input.
    #[error(
        "element at byte {offset} needs {needed} bytes but only {available} are left; the key is cut off"
    )]
    Truncated {
        /// Where the element starts.
        offset: usize,
        /// Bytes that the element needs at least.
        needed: usize,
        /// Bytes that there are.
        available: usize,
    },
    /// Another kind of element.
    #[error(
        "byte {offset} is {found:#04x} where {expected:#04x} starts the element; this is not the expected form"
    )]
    Tag {
        /// Where the tag is.
        offset: usize,
        /// Tag expected.
        expected: u8,
        /// Tag found.
        found: u8,
    },
    /// A length in a form that no key needs.
    #[error("length byte {found:#04x} of the element at byte {offset} is not supported; this is not a key")]
    Length {
        /// Where the element starts.
        offset: usize,
        /// First length byte.
        found: u8,
    },
    /// An empty or negative number.
    #[error("integer at byte {offset} is empty or negative; the key is damaged there")]
    Integer {
        /// Where the element starts.
        offset: usize,
    },
    /// An outer element is longer or shorter than what it holds.
    #[error("element ends at byte {declared} but its content at byte {found}; the outer length is damaged")]
    Sum {
        /// End as declared.
        declared: usize,
        /// End of the content.
        found: usize,
    },
    /// A number or identifier that makes this another kind of key.
    #[error(
        "element at byte {offset} has a value that does not belong there; the key is damaged or of another kind"
    )]
    Value {
        /// Where the element starts.
        offset: usize,
    },
    /// An EC key of another curve than P-256.
    #[error("key is of another curve than P-256, the only one that devices know; give a P-256 key")]
    Curve {
        /// Where the name of the curve starts.
        offset: usize,
    },
}

impl DerError {
    /// Where the element starts that is wrong, or for [`DerError::Sum`] where it should end.
    #[must_use]
    pub const fn offset(&self) -> usize {
        match self {
            DerError::Truncated { offset, .. }
            | DerError::Tag { offset, .. }
            | DerError::Length { offset, .. }
            | DerError::Integer { offset }
            | DerError::Value { offset }
            | DerError::Curve { offset } => *offset,
            DerError::Sum { declared, .. } => *declared,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate alloc;
    use super::*;
    use alloc::vec::Vec;
    use hex_literal::hex;
    use proptest::prelude::*;

    #[test]
    fn all_length_forms_are_read() {
        for input in [&hex!("02 01 05")[..], &hex!("02 81 01 05"), &hex!("02 82 00 01 05")] {
            assert_eq!(Reader::new(input).integer().unwrap().magnitude(), [5]);
        }
        assert_eq!(
            Reader::new(&hex!("02 84 00 00 00 01 05")).any().unwrap_err(),
            DerError::Length { offset: 0, found: 0x84 }
        );
    }

    #[test]
    fn needless_zeros_are_accepted_and_told() {
        let not_minimal = hex!("02 02 00 05");
        let integer = Reader::new(&not_minimal).integer().unwrap();
        assert!(!integer.is_minimal());
        assert_eq!((integer.encoded_len(), integer.magnitude()), (2, &[5][..]));
        let needed = hex!("02 02 00 85");
        assert!(Reader::new(&needed).integer().unwrap().is_minimal());
        let zero = hex!("02 01 00");
        assert!(Reader::new(&zero).integer().unwrap().is_minimal());
    }

    #[test]
    fn negative_and_empty_integers_are_refused() {
        for input in [hex!("02 01 80"), hex!("02 00 00")] {
            assert_eq!(Reader::new(&input).integer().unwrap_err(), DerError::Integer { offset: 0 });
        }
    }

    #[test]
    fn every_prefix_is_truncated() {
        let input = hex!("30 82 00 03 02 01 05");
        for length in 0..input.len() {
            let error = Reader::new(&input[..length]).element(SEQUENCE).unwrap_err();
            assert!(matches!(error, DerError::Truncated { offset: 0, .. }), "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_input_is_read_without_panic_and_offsets_advance(input: Vec<u8>) {
            let mut reader = Reader::new(&input);
            while !reader.rest().is_empty() {
                let before = reader.offset();
                if reader.any().is_err() { break; }
                prop_assert!(reader.offset() > before && reader.offset() + reader.rest().len() == input.len());
            }
        }

        #[test]
        fn written_integers_are_minimal_and_read_back(number: Vec<u8>) {
            let mut out = [0; 128];
            let mut writer = Writer::new(&mut out);
            writer.integer(&number);
            let bytes = writer.finish().unwrap();
            prop_assert_eq!(bytes.len(), integer_len(&number));
            let integer = Reader::new(bytes).integer().unwrap();
            prop_assert!(integer.is_minimal());
            prop_assert_eq!(integer.magnitude(), strip(&number));
        }
    }
}
