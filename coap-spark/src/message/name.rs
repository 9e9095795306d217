//! Names in Uri-Path options: whole from devices, in segments from servers.

use crate::coap::{Message, OptionIter, OptionNumber, WriteError, Writer};
use core::fmt;

/// The name of an event or the prefix of a subscription.
///
/// Devices send the whole name in one option, slashes included; servers send one option per segment and the device
/// joins them with slashes. Both mean the same, so names compare by their joined bytes.
#[derive(Clone, Copy)]
pub struct Name<'a> {
    repr: Repr<'a>,
}

#[derive(Clone, Copy)]
enum Repr<'a> {
    Text(&'a [u8]),
    /// The coded options of a message; the first Uri-Path is the letter.
    Options(&'a [u8]),
}

impl<'a> Name<'a> {
    /// A name to send.
    #[must_use]
    pub const fn new(text: &'a str) -> Self {
        Self { repr: Repr::Text(text.as_bytes()) }
    }

    pub(super) const fn of(message: &Message<'a>) -> Self {
        Self { repr: Repr::Options(message.raw_options()) }
    }

    /// The parts between the slashes.
    pub fn segments(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let (text, options) = match self.repr {
            Repr::Text(text) => (Some(text), &[][..]),
            Repr::Options(options) => (None, options),
        };
        let text = text.filter(|text| !text.is_empty());
        text.into_iter()
            .flat_map(|text| text.split(|&byte| byte == b'/'))
            .chain(options_after_letter(options).flat_map(|value| value.split(|&byte| byte == b'/')))
    }

    /// The joined name, byte by byte.
    pub fn bytes(&self) -> impl Iterator<Item = u8> + Clone + use<'a> {
        let segments = self.segments().enumerate();
        segments.flat_map(|(i, segment)| {
            let slash = if i == 0 { &[][..] } else { b"/" };
            slash.iter().chain(segment).copied()
        })
    }

    /// Length of the joined name.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes().count()
    }

    /// No name at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes().next().is_none()
    }

    /// Whether the joined name begins with `prefix`, as subscriptions match: byte by byte, case counts.
    #[must_use]
    pub fn starts_with(&self, prefix: &str) -> bool {
        let mut bytes = self.bytes();
        prefix.bytes().all(|expected| bytes.next() == Some(expected))
    }

    /// The joined name in `out`, `None` if it does not fit.
    #[must_use]
    pub fn join_into<'b>(&self, out: &'b mut [u8]) -> Option<&'b [u8]> {
        let mut len = 0;
        for byte in self.bytes() {
            *out.get_mut(len)? = byte;
            len += 1;
        }
        out.get(..len)
    }

    /// The joined name as text; bytes that are not UTF-8 are replaced.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn to_text(&self) -> alloc::string::String {
        let bytes: alloc::vec::Vec<u8> = self.bytes().collect();
        alloc::string::String::from_utf8_lossy(&bytes).into_owned()
    }

    /// One option for the whole name, none for an empty one.
    pub(super) fn write_whole(&self, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        match self.repr {
            Repr::Text([]) => Ok(()),
            Repr::Text(text) => writer.option(OptionNumber::URI_PATH, text),
            Repr::Options(_) if self.is_empty() => Ok(()),
            Repr::Options(_) => writer.option_of(OptionNumber::URI_PATH, self.len(), self.bytes()),
        }
    }

    /// One option per segment.
    pub(super) fn write_split(&self, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        self.segments().try_for_each(|segment| writer.option(OptionNumber::URI_PATH, segment))
    }
}

fn options_after_letter(options: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    OptionIter::new(options)
        .filter(|option| option.number == OptionNumber::URI_PATH)
        .skip(1)
        .map(|option| option.value)
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes().eq(other.bytes())
    }
}

impl Eq for Name<'_> {}

impl PartialEq<str> for Name<'_> {
    fn eq(&self, other: &str) -> bool {
        self.bytes().eq(other.bytes())
    }
}

impl PartialEq<&str> for Name<'_> {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.segments().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { "/" }, segment.escape_ascii())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}
