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
    pub(crate) const fn new(options: &'a [u8]) -> Self {
        Self { rest: options, number: 0 }
    }
}

impl<'a> Iterator for OptionIter<'a> {
    type Item = OptionView<'a>;

    fn next(&mut self) -> Option<OptionView<'a>> {
        // The view checked the list once, so an error cannot occur; ending early is the harmless answer.
        let Ok(Step::Option { option, rest }) = step(self.rest, self.number, 0) else {
            self.rest = &[];
            return None;
        };
        self.number = option.number;
        self.rest = rest;
        Some(option)
    }
}

impl core::iter::FusedIterator for OptionIter<'_> {}

pub(super) enum Step<'a> {
    Option {
        option: OptionView<'a>,
        rest: &'a [u8],
    },
    /// `ff`: the payload follows.
    Marker {
        payload: &'a [u8],
    },
    End,
}

/// Reads one option, the payload marker or the end. `offset` is only for errors.
pub(super) fn step(input: &[u8], previous: u16, offset: usize) -> Result<Step<'_>, ParseError> {
    let Some((&first, rest)) = input.split_first() else {
        return Ok(Step::End);
    };
    if first == 0xff {
        return Ok(Step::Marker { payload: rest });
    }
    let (delta, rest) = extended(first >> 4, rest, offset)?;
    let (len, rest) = extended(first & 0x0f, rest, offset)?;
    let number = u16::try_from(u32::from(previous) + delta)
        .map_err(|_| ParseError::OptionNumberTooLarge { offset })?;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let Some((value, rest)) = rest.split_at_checked(len) else {
        return Err(ParseError::OptionTruncated { offset, needed: len, available: rest.len() });
    };
    Ok(Step::Option { option: OptionView { number, value }, rest })
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
