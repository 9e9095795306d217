//! Options: numbers, delta/length coding, iteration.

use super::view::ParseError;

/// The option numbers that the Spark protocol understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OptionNumber;

impl OptionNumber {
    /// Uri-Path: the first is the one-letter message name, then name segments.
    pub const URI_PATH: u16 = 11;
    /// Max-Age: ttl of an event.
    pub const MAX_AGE: u16 = 14;
    /// Uri-Query: argument, flags, CRC, index.
    pub const URI_QUERY: u16 = 15;
    /// No-Response: only in the Goodbye message of Device OS 2.
    pub const NO_RESPONSE: u16 = 258;
}

/// One option of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct OptionView<'a> {
    /// Option number (the sum of the deltas so far).
    pub number: u16,
    /// The value, 0 to 65,804 bytes.
    pub value: &'a [u8],
}

/// The options of a checked message, in order.
#[derive(Clone, Debug)]
pub struct OptionIter<'a> {
    rest: &'a [u8],
    number: u16,
}

impl<'a> OptionIter<'a> {
    #[inline]
    pub(crate) const fn new(options: &'a [u8]) -> Self {
        Self { rest: options, number: 0 }
    }
}

impl<'a> Iterator for OptionIter<'a> {
    type Item = OptionView<'a>;

    #[inline]
    fn next(&mut self) -> Option<OptionView<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        // The view checked the list once, so an error cannot occur; ending early is the harmless answer.
        let (option, rest) = match short(self.rest, self.number) {
            Some(read) => read,
            None => long(self.rest, self.number, 0).ok()?,
        };
        self.number = option.number;
        self.rest = rest;
        Some(option)
    }
}

impl core::iter::FusedIterator for OptionIter<'_> {}

/// Reads an option whose delta and length need no extension, as nearly all do; `None` for everything else.
#[inline]
pub(super) fn short(input: &[u8], previous: u16) -> Option<(OptionView<'_>, &[u8])> {
    let (&first, rest) = input.split_first()?;
    let (delta, len) = (first >> 4, first & 0x0f);
    if delta > 12 || len > 12 {
        return None;
    }
    let (value, rest) = rest.split_at_checked(usize::from(len))?;
    let number = previous.checked_add(u16::from(delta))?;
    Some((OptionView { number, value }, rest))
}

/// Reads any option; the input is not empty. `offset` is only for errors.
pub(super) fn long(
    input: &[u8],
    previous: u16,
    offset: usize,
) -> Result<(OptionView<'_>, &[u8]), ParseError> {
    let truncated = ParseError::OptionTruncated { offset, needed: 1, available: 0 };
    let (&first, rest) = input.split_first().ok_or(truncated)?;
    let (delta, rest) = extended(first >> 4, rest, offset)?;
    let (len, rest) = extended(first & 0x0f, rest, offset)?;
    let number = u16::try_from(u32::from(previous) + delta)
        .map_err(|_| ParseError::OptionNumberTooLarge { offset })?;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let Some((value, rest)) = rest.split_at_checked(len) else {
        return Err(ParseError::OptionTruncated { offset, needed: len, available: rest.len() });
    };
    Ok((OptionView { number, value }, rest))
}

fn extended(nibble: u8, rest: &[u8], offset: usize) -> Result<(u32, &[u8]), ParseError> {
    let truncated = |needed| ParseError::OptionTruncated { offset, needed, available: rest.len() };
    match nibble {
        0..=12 => Ok((u32::from(nibble), rest)),
        13 => {
            let (&byte, rest) = rest.split_first().ok_or_else(|| truncated(1))?;
            Ok((u32::from(byte) + 13, rest))
        }
        14 => {
            let (bytes, rest) = rest.split_first_chunk::<2>().ok_or_else(|| truncated(2))?;
            Ok((u32::from(u16::from_be_bytes(*bytes)) + 269, rest))
        }
        _ => Err(ParseError::ReservedNibble { offset }),
    }
}
