//! Setting entries from text.

use crate::app::{AppMut, CountryCode};
use crate::entry::Entry;
use crate::kind::Kind;
use crate::server_address::{AddressError, ServerAddress};
use crate::system_flags::EnabledFeatures;
use crate::value::{Content, is_erased, number};
use core::fmt;
use core::net::Ipv4Addr;

impl AppMut<'_> {
    /// Sets an entry from the text that [`Value`](crate::Value) shows for it; [`Kind`] lists the forms. Nothing changes
    /// when there is an error; bytes outside of the entry never change.
    ///
    /// # Errors
    /// [`ValueError`], which names the entry and what it takes.
    pub fn set_text(&mut self, entry: Entry, text: &str) -> Result<(), ValueError> {
        let length = self.view().as_bytes().len();
        let end = entry.field().end();
        match self.as_bytes_mut().get_mut(entry.range()) {
            Some(bytes) if end <= length => entry.write_text(text, bytes),
            _ => Err(ValueError::OutsideImage { entry, end, length }),
        }
    }
}

impl Entry {
    /// Writes the text's value into the bytes of the entry, which hold their present content (or FF): switches keep the
    /// other bits, or begin from the firmware's defaults where their integer is unset; a key keeps what is behind its room.
    ///
    /// For writing over DFU without an image at hand: start from FF, or from what was read.
    ///
    /// # Errors
    /// [`ValueError`]; `bytes` are unchanged then. [`ValueError::Buffer`] unless `bytes` has the entry's length.
    pub fn write_text(&self, text: &str, bytes: &mut [u8]) -> Result<(), ValueError> {
        let entry = *self;
        if bytes.len() != self.len() {
            return Err(ValueError::Buffer { entry, expected: self.len(), found: bytes.len() });
        }
        if text == "unset" {
            bytes.fill(0xFF);
            return Ok(());
        }
        if let Some(digits) = text.strip_prefix("0x").filter(|digits| digits.len() == 2 * bytes.len())
            && !matches!(self.kind(), Kind::Number { .. })
        {
            return hex(entry, digits, bytes.len(), bytes.len(), |at, byte| put(bytes, at, byte));
        }
        match self.kind() {
            Kind::Record | Kind::Bytes => {
                let digits = text.strip_prefix("0x").unwrap_or(text);
                hex(entry, digits, bytes.len(), bytes.len(), |at, byte| put(bytes, at, byte))
            }
            Kind::Padded { room, pad } => {
                let digits = text.strip_prefix("0x").unwrap_or(text);
                let room = usize::from(room).min(bytes.len());
                hex(entry, digits, 0, room, |_, _| {})?;
                bytes.iter_mut().take(room).for_each(|byte| *byte = pad);
                hex(entry, digits, 0, room, |at, byte| put(bytes, at, byte))
            }
            Kind::Text => fill_text(entry, text, bytes),
            Kind::TextAfterLength { max } => {
                let length = unescape(entry, text, usize::from(max), |_, _| true)?;
                bytes.fill(0xFF);
                unescape(entry, text, usize::from(max), |at, byte| put(bytes, at + 1, byte))?;
                put(bytes, 0, low(length));
                Ok(())
            }
            Kind::Counted { room, text: is_text } => {
                let room = usize::from(room);
                let digits = text.strip_prefix("0x").unwrap_or(text);
                let length = if is_text {
                    let length = unescape(entry, text, room, |_, _| true)?;
                    bytes.fill(0xFF);
                    unescape(entry, text, room, |at, byte| put(bytes, at, byte))?;
                    length
                } else {
                    hex(entry, digits, 0, room, |_, _| {})?;
                    bytes.fill(0xFF);
                    hex(entry, digits, 0, room, |at, byte| put(bytes, at, byte))?;
                    digits.len() / 2
                };
                let length = u16::try_from(length).unwrap_or(0).to_le_bytes();
                bytes.iter_mut().skip(room).zip(length).for_each(|(slot, byte)| *slot = byte);
                Ok(())
            }
            Kind::Names => fill_names(entry, text, bytes),
            Kind::Number { names, .. } => {
                let number = match names.iter().find(|name| name.name == text) {
                    Some(name) => name.number,
                    None => parse_number(text)
                        .filter(|number| *number <= max(bytes.len()))
                        .ok_or(ValueError::Number { entry, max: max(bytes.len()) })?,
                };
                bytes.iter_mut().zip(number.to_le_bytes()).for_each(|(slot, byte)| *slot = byte);
                Ok(())
            }
            Kind::Bit { bit, inverted, default } => {
                let on = match text {
                    "on" | "true" | "1" => true,
                    "off" | "false" | "0" => false,
                    _ => return Err(ValueError::Switch { entry }),
                };
                let mask = 1_u32 << (bit & 31);
                let present = default.filter(|_| is_erased(bytes)).unwrap_or_else(|| number(bytes));
                let number = if on != inverted { present | mask } else { present & !mask };
                bytes.iter_mut().zip(number.to_le_bytes()).for_each(|(slot, byte)| *slot = byte);
                Ok(())
            }
            Kind::Claimed => {
                let byte = match text {
                    "true" | "yes" | "1" => b'1',
                    "false" | "no" | "0" => 0xFF,
                    _ => return Err(ValueError::Bool { entry }),
                };
                bytes.fill(byte);
                Ok(())
            }
            Kind::Features => {
                let features = parse_features(text).ok_or(ValueError::Features { entry })?;
                // bit 3 means nothing and may be either; a byte that says the same already stays
                if !matches!(entry.read(bytes).content(), Content::Features(old) if old == features) {
                    bytes.fill(features.to_byte());
                }
                Ok(())
            }
            Kind::Ipv4 => {
                let address: Ipv4Addr = text.parse().map_err(|_| ValueError::Ipv4 { entry })?;
                bytes.iter_mut().zip(address.octets().iter().rev()).for_each(|(slot, byte)| *slot = *byte);
                Ok(())
            }
            Kind::Country => {
                let country = parse_country(text).ok_or(ValueError::Country { entry })?;
                // the revision has two forms; one that says the same already stays
                if !matches!(entry.read(bytes).content(), Content::Country(old) if old == country) {
                    bytes.iter_mut().zip(country.encode()).for_each(|(slot, byte)| *slot = byte);
                }
                Ok(())
            }
            Kind::Address => {
                let address =
                    ServerAddress::from_text(text).map_err(|source| ValueError::Address { entry, source })?;
                if !matches!(entry.read(bytes).content(), Content::Address(old) if old == address)
                    && let Some(block) = bytes.first_chunk_mut()
                {
                    address.encode_into(block);
                }
                Ok(())
            }
        }
    }
}

/// Clears by one 00 as firmware does when the text is empty; else text, 00 where there is room, FF.
fn fill_text(entry: Entry, text: &str, bytes: &mut [u8]) -> Result<(), ValueError> {
    let length = unescape(entry, text, bytes.len(), |_, byte| !matches!(byte, 0 | 0xFF))?;
    if length > 0 {
        bytes.iter_mut().skip(length).for_each(|byte| *byte = 0xFF);
    }
    put(bytes, length, 0);
    unescape(entry, text, bytes.len(), |at, byte| put(bytes, at, byte))?;
    Ok(())
}

/// Every name and a 00, then one more 00 as the end of the list, then FF. An empty list is one 00.
fn fill_names(entry: Entry, text: &str, bytes: &mut [u8]) -> Result<(), ValueError> {
    if text.is_empty() {
        put(bytes, 0, 0);
        return Ok(());
    }
    let names = || text.split(',');
    let mut end = 0;
    for name in names() {
        if name.is_empty() {
            return Err(ValueError::EmptyName { entry });
        }
        let length = unescape(entry, name, usize::MAX, |_, byte| !matches!(byte, 0 | 0xFF))?;
        end += length + 1;
    }
    if end > bytes.len() {
        return Err(ValueError::Length { entry, found: end, min: 0, max: bytes.len() });
    }
    bytes.fill(0xFF);
    let mut start = 0;
    for name in names() {
        start += unescape(entry, name, usize::MAX, |at, byte| put(bytes, start + at, byte))?;
        put(bytes, start, 0);
        start += 1;
    }
    put(bytes, start, 0);
    Ok(())
}

/// True, so that it serves as the visitor of `unescape`.
fn put(bytes: &mut [u8], at: usize, byte: u8) -> bool {
    if let Some(slot) = bytes.get_mut(at) {
        *slot = byte;
    }
    true
}

fn low(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(0)
}

const fn max(width: usize) -> u32 {
    match width {
        1 => 0xFF,
        2 => 0xFFFF,
        _ => 0xFFFF_FFFF,
    }
}

/// Calls `visit` for each byte and returns their number; the visitor refuses a byte with `false`.
fn unescape(
    entry: Entry,
    text: &str,
    max: usize,
    mut visit: impl FnMut(usize, u8) -> bool,
) -> Result<usize, ValueError> {
    let mut rest = text.as_bytes();
    let mut length = 0;
    loop {
        let (byte, after) = match rest {
            [] => break,
            [b'\\', b'\\', after @ ..] => (b'\\', after),
            [b'\\', b'x', high, low, after @ ..] => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => return Err(ValueError::Escape { entry, at: length }),
            },
            [b'\\', ..] => return Err(ValueError::Escape { entry, at: length }),
            [byte, after @ ..] => (*byte, after),
        };
        if length < max && !visit(length, byte) {
            return Err(ValueError::Character { entry, at: length, byte });
        }
        rest = after;
        length += 1;
    }
    if length > max {
        return Err(ValueError::Length { entry, found: length, min: 0, max });
    }
    Ok(length)
}

/// Checks everything before the first `visit`.
fn hex<T>(
    entry: Entry,
    digits: &str,
    min: usize,
    max: usize,
    mut visit: impl FnMut(usize, u8) -> T,
) -> Result<(), ValueError> {
    if let Some(at) = digits.bytes().position(|byte| digit(byte).is_none()) {
        return Err(ValueError::Hex { entry, at });
    }
    let found = digits.len().div_ceil(2);
    if !digits.len().is_multiple_of(2) {
        return Err(ValueError::Hex { entry, at: digits.len() });
    }
    if found < min || found > max {
        return Err(ValueError::Length { entry, found, min, max });
    }
    for (at, pair) in digits.as_bytes().chunks_exact(2).enumerate() {
        if let [high, low] = pair {
            visit(at, digit(*high).unwrap_or(0) << 4 | digit(*low).unwrap_or(0));
        }
    }
    Ok(())
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn parse_number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        // a sign is no digit, though the standard library takes one
        Some(digits) if !digits.starts_with('+') => u32::from_str_radix(digits, 16).ok(),
        None if !text.starts_with('+') => text.parse().ok(),
        _ => None,
    }
}

fn parse_features(text: &str) -> Option<EnabledFeatures> {
    match text {
        "all" => return Some(EnabledFeatures::ALL),
        "none" => return Some(EnabledFeatures::NONE),
        _ => {}
    }
    text.split('+').try_fold(EnabledFeatures::NONE, |features, name| match name {
        "safe_mode" => Some(EnabledFeatures { safe_mode: true, ..features }),
        "dfu_mode" => Some(EnabledFeatures { dfu_mode: true, ..features }),
        "factory_reset" => Some(EnabledFeatures { factory_reset: true, ..features }),
        _ => None,
    })
}

fn parse_country(text: &str) -> Option<CountryCode> {
    let (letters, revision) = match text.as_bytes() {
        [a, b] => ([*a, *b], 0),
        [a, b, b'/', revision] => ([*a, *b], digit(*revision)?),
        _ => return None,
    };
    letters.iter().all(u8::is_ascii_alphabetic).then_some(CountryCode { letters, revision: Some(revision) })
}

/// Why a text is no value of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// No number, or too large a one.
    #[error("{entry} takes {}a number from 0 to {max}, decimal or 0x…", Names(*entry))]
    Number {
        /// The entry.
        entry: Entry,
        /// Largest number.
        max: u32,
    },
    /// Neither on nor off.
    #[error("{entry} takes on or off")]
    Switch {
        /// The entry.
        entry: Entry,
    },
    /// Neither true nor false.
    #[error("{entry} takes true or false, or 0x and two digits for the byte itself")]
    Bool {
        /// The entry.
        entry: Entry,
    },
    /// No list of start modes.
    #[error("{entry} takes all, none, or safe_mode, dfu_mode and factory_reset joined by '+'")]
    Features {
        /// The entry.
        entry: Entry,
    },
    /// No IPv4 address.
    #[error("{entry} takes an IPv4 address of four numbers from 0 to 255 with dots between them")]
    Ipv4 {
        /// The entry.
        entry: Entry,
    },
    /// No country.
    #[error("{entry} takes two letters, or two letters, '/' and one hexadecimal digit, such as JP/3")]
    Country {
        /// The entry.
        entry: Entry,
    },
    /// No server address.
    #[error("{entry} takes host or host:port")]
    Address {
        /// The entry.
        entry: Entry,
        /// What is wrong with it.
        #[source]
        source: AddressError,
    },
    /// Not hexadecimal.
    #[error(
        "{entry} takes pairs of hexadecimal digits but position {at} has none; give the bytes as digits only"
    )]
    Hex {
        /// The entry.
        entry: Entry,
        /// Position in the digits.
        at: usize,
    },
    /// Too short or too long.
    #[error("{entry} takes {min} to {max} bytes but the value has {found}; pad or shorten it")]
    Length {
        /// The entry.
        entry: Entry,
        /// Bytes of the value.
        found: usize,
        /// Shortest value.
        min: usize,
        /// Longest value.
        max: usize,
    },
    /// A backslash that starts nothing.
    #[error("{entry} has a backslash at byte {at} that starts no escape; write \\\\ or \\x and two digits")]
    Escape {
        /// The entry.
        entry: Entry,
        /// Number of bytes before it.
        at: usize,
    },
    /// A byte that would end the text.
    #[error("{entry} cannot hold the byte {byte:#04x} at position {at}, which ends a text")]
    Character {
        /// The entry.
        entry: Entry,
        /// Position in the text.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// Two commas without a name between them.
    #[error("{entry} takes names separated by single commas, or unset for none")]
    EmptyName {
        /// The entry.
        entry: Entry,
    },
    /// The image ends before the field does.
    #[error(
        "the field of {entry} ends at {end} but the image has only {length} bytes; use an image of newer firmware"
    )]
    OutsideImage {
        /// The entry.
        entry: Entry,
        /// First byte after the field.
        end: usize,
        /// Length of the image.
        length: usize,
    },
    /// The caller's bytes are not those of the entry.
    #[error("{entry} has {expected} bytes but {found} were given; give the bytes of the whole entry")]
    Buffer {
        /// The entry.
        entry: Entry,
        /// Length of the entry.
        expected: usize,
        /// Length found.
        found: usize,
    },
}

/// The names that a number has, each with a comma behind it.
struct Names(Entry);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Kind::Number { names, .. } = self.0.kind() {
            names.iter().try_for_each(|name| write!(f, "{}, ", name.name))?;
            if !names.is_empty() {
                f.write_str("unset or ")?;
            }
        }
        Ok(())
    }
}
