//! Values of entries, and the text that shows them.

use crate::app::{App, CountryCode};
use crate::entry::Entry;
use crate::kind::{Kind, Name};
use crate::server_address::{Host, ServerAddress};
use crate::system_flags::{EnabledFeatures, features_from_byte};
use core::fmt;
use core::net::Ipv4Addr;

/// What an entry of an image holds.
///
/// [`Display`](fmt::Display) gives the text that [`AppMut::set_text`](crate::AppMut::set_text) takes: setting it again
/// changes nothing, except that bytes behind the end of a text or a key become padding. It **shows secrets**;
/// [`hidden`](Self::hidden) does not, and neither does `Debug`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    entry: Entry,
    content: Content<'a>,
}

/// The forms that a value takes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content<'a> {
    /// The image ends before the field does.
    Absent,
    /// Erased: FF in all bytes, and FF has no name of its own.
    Unset,
    /// Integer.
    Number {
        /// The number.
        number: u32,
        /// Its name, where it has one.
        name: Option<&'static str>,
    },
    /// Switch or truth value.
    Bool(bool),
    /// Text; may be empty, may hold any bytes.
    Text(&'a [u8]),
    /// Bytes without their padding.
    Bytes(&'a [u8]),
    /// Texts that end with 00, one after the other, without the end of the list.
    Names(&'a [u8]),
    /// IPv4 address.
    Ipv4(Ipv4Addr),
    /// Country of the Wi-Fi limits.
    Country(CountryCode),
    /// Server address.
    Address(ServerAddress<'a>),
    /// Start modes that are allowed.
    Features(EnabledFeatures),
    /// All bytes of the entry: not erased, but firmware looks at the first one only, and takes it for "not set".
    Cleared(&'a [u8]),
    /// All bytes of the entry: not a value of its kind.
    Raw(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The entry that it belongs to.
    #[must_use]
    pub const fn entry(&self) -> Entry {
        self.entry
    }

    /// What it is.
    #[must_use]
    pub const fn content(&self) -> Content<'a> {
        self.content
    }

    /// Whether there is a value: neither erased nor cleared, nor empty, as a text that firmware cleared by one 00.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        match self.content {
            Content::Absent | Content::Unset | Content::Cleared(_) => false,
            Content::Text(bytes) | Content::Bytes(bytes) | Content::Names(bytes) => !bytes.is_empty(),
            _ => true,
        }
    }

    /// Whether the bytes are something else than the kind of the entry.
    #[must_use]
    pub const fn is_malformed(&self) -> bool {
        matches!(self.content, Content::Raw(_))
    }

    /// Shows secrets only as "hidden" and their length.
    #[must_use]
    pub const fn hidden(self) -> Hidden<'a> {
        Hidden(self)
    }
}

impl Entry {
    /// Reads the bytes of the entry. Every content is accepted; `bytes` that are shorter than the entry are
    /// [`Content::Absent`], bytes behind it are not looked at.
    #[must_use]
    pub fn read<'a>(&self, bytes: &'a [u8]) -> Value<'a> {
        let content = match bytes.get(..self.len()) {
            Some(bytes) => content(self.kind(), bytes),
            None => Content::Absent,
        };
        Value { entry: *self, content }
    }
}

impl<'a> App<'a> {
    /// The value of an entry.
    #[must_use]
    pub fn value(&self, entry: Entry) -> Value<'a> {
        entry.read(self.entry_bytes(entry).unwrap_or_default())
    }

    /// The bytes of an entry; `None` where the image ends before its **field** does. Then they are of older firmware, which had
    /// something else there: a table of 4258 bytes has the first bytes of `eap_config` and no such field.
    #[must_use]
    pub fn entry_bytes(&self, entry: Entry) -> Option<&'a [u8]> {
        self.as_bytes().get(entry.range()).filter(|_| entry.field().end() <= self.as_bytes().len())
    }

    /// Whether every byte of an entry is FF, or outside of the image.
    #[must_use]
    pub fn is_unset(&self, entry: Entry) -> bool {
        let end = entry.end().min(self.as_bytes().len());
        self.as_bytes().get(entry.offset()..end).is_none_or(is_erased)
    }
}

pub(crate) fn is_erased(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0xFF)
}

/// Little-endian, at most four bytes.
pub(crate) fn number(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn content(kind: Kind, bytes: &[u8]) -> Content<'_> {
    match kind {
        Kind::Number { names, .. } => {
            let number = number(bytes);
            let name = names.iter().find(|name| name.number == number).map(|Name { name, .. }| *name);
            if name.is_none() && is_erased(bytes) { Content::Unset } else { Content::Number { number, name } }
        }
        Kind::Bit { default: Some(_), .. } if is_erased(bytes) => Content::Unset,
        Kind::Bit { bit, inverted, .. } => Content::Bool((number(bytes) >> (bit & 31) & 1 == 1) != inverted),
        Kind::Claimed => match bytes {
            [b'1'] => Content::Bool(true),
            [0xFF] => Content::Bool(false),
            _ => Content::Raw(bytes),
        },
        Kind::Features => match bytes {
            [byte] => features_from_byte(*byte).map_or(Content::Raw(bytes), Content::Features),
            _ => Content::Raw(bytes),
        },
        _ if is_erased(bytes) => Content::Unset,
        Kind::Record | Kind::Bytes => Content::Bytes(bytes),
        Kind::Padded { room, pad } => {
            let room = bytes.get(..usize::from(room)).unwrap_or(bytes);
            let end = room.iter().rposition(|byte| *byte != pad).map_or(0, |at| at + 1);
            Content::Bytes(room.get(..end).unwrap_or(room))
        }
        Kind::Text => match bytes.iter().position(|byte| matches!(byte, 0 | 0xFF)) {
            Some(0) if bytes.first() == Some(&0xFF) => Content::Cleared(bytes),
            end => Content::Text(bytes.get(..end.unwrap_or(bytes.len())).unwrap_or(bytes)),
        },
        Kind::TextAfterLength { .. } if bytes.first() == Some(&0xFF) => Content::Cleared(bytes),
        Kind::TextAfterLength { max } => match bytes.split_first() {
            Some((length, text)) if *length <= max => {
                Content::Text(text.get(..usize::from(*length)).unwrap_or(text))
            }
            _ => Content::Raw(bytes),
        },
        Kind::Counted { room, text } => counted(bytes, usize::from(room), text),
        Kind::Names => names(bytes),
        Kind::Ipv4 => match bytes {
            [d, c, b, a] => Content::Ipv4(Ipv4Addr::new(*a, *b, *c, *d)),
            _ => Content::Raw(bytes),
        },
        Kind::Country if matches!(bytes.first(), Some(0 | 0xFF)) => Content::Cleared(bytes),
        Kind::Country => match bytes.first_chunk().and_then(CountryCode::decode) {
            Some(country @ CountryCode { letters: [a, b], revision: Some(_) })
                if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() =>
            {
                Content::Country(country)
            }
            _ => Content::Raw(bytes),
        },
        Kind::Address => match bytes.first_chunk().map(ServerAddress::parse) {
            // a domain whose text would mean something else
            Some(Ok(Some(address))) => match address.host() {
                Host::Domain(name)
                    if name.contains(':')
                        || name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') =>
                {
                    Content::Raw(bytes)
                }
                _ => Content::Address(address),
            },
            _ => Content::Raw(bytes),
        },
    }
}

fn counted(bytes: &[u8], room: usize, text: bool) -> Content<'_> {
    let Some((value, length)) = bytes.split_at_checked(room) else { return Content::Raw(bytes) };
    let length = usize::try_from(number(length)).unwrap_or(usize::MAX);
    match value.get(..length) {
        Some(value) if text => Content::Text(value),
        Some(value) => Content::Bytes(value),
        None => Content::Raw(bytes),
    }
}

/// Names up to an empty one, an FF or the end; the last one has to be terminated.
fn names(bytes: &[u8]) -> Content<'_> {
    let mut end = 0;
    loop {
        let rest = bytes.get(end..).unwrap_or_default();
        match rest.iter().position(|byte| matches!(byte, 0 | 0xFF)) {
            Some(0) => break,
            None if rest.is_empty() => break,
            Some(length) if rest.get(length) == Some(&0) => end += length + 1,
            _ => return Content::Raw(bytes),
        }
    }
    Content::Names(bytes.get(..end).unwrap_or(bytes))
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.content {
            Content::Absent => f.write_str("absent"),
            Content::Unset => f.write_str("unset"),
            Content::Number { name: Some(name), .. } => f.write_str(name),
            Content::Number { number, .. } => match self.entry.kind() {
                Kind::Number { hex: true, .. } => {
                    write!(f, "{number:#0width$x}", width = 2 + 2 * self.entry.len())
                }
                _ => write!(f, "{number}"),
            },
            Content::Bool(on) => f.write_str(match (self.entry.kind(), on) {
                (Kind::Bit { .. }, true) => "on",
                (Kind::Bit { .. }, false) => "off",
                (_, true) => "true",
                (_, false) => "false",
            }),
            // the word for erased bytes is taken
            Content::Text(b"unset") => f.write_str("\\x75nset"),
            Content::Text(text) => escaped(f, text, false),
            Content::Bytes(bytes) => hex(f, bytes),
            Content::Names(list) => {
                for (index, name) in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).enumerate()
                {
                    if index > 0 {
                        f.write_str(",")?;
                    }
                    match name {
                        b"unset" if index == 0 => f.write_str("\\x75nset")?,
                        name => escaped(f, name, true)?,
                    }
                }
                Ok(())
            }
            Content::Ipv4(address) => write!(f, "{address}"),
            Content::Country(country) => {
                escaped(f, &country.letters, false)?;
                write!(f, "/{:x}", country.revision.unwrap_or(0))
            }
            Content::Address(address) => write!(f, "{address}"),
            Content::Features(features) => write!(f, "{features}"),
            Content::Raw(bytes) | Content::Cleared(bytes) => {
                f.write_str("0x")?;
                hex(f, bytes)
            }
        }
    }
}

/// `host` or `host:port`.
impl fmt::Display for ServerAddress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host() {
            Host::Ipv4(address) => write!(f, "{address}")?,
            Host::Domain(domain) => f.write_str(domain)?,
        }
        match self.port() {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// `all`, `none`, or the names joined by `+`.
impl fmt::Display for EnabledFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            EnabledFeatures::ALL => f.write_str("all"),
            EnabledFeatures::NONE => f.write_str("none"),
            EnabledFeatures { safe_mode, dfu_mode, factory_reset } => {
                let mut first = true;
                for (on, name) in
                    [(safe_mode, "safe_mode"), (dfu_mode, "dfu_mode"), (factory_reset, "factory_reset")]
                {
                    if on {
                        f.write_str(if first { "" } else { "+" })?;
                        f.write_str(name)?;
                        first = false;
                    }
                }
                Ok(())
            }
        }
    }
}

/// In a list the comma is escaped too, so that it can be taken apart.
fn escaped(f: &mut fmt::Formatter<'_>, text: &[u8], list: bool) -> fmt::Result {
    for byte in text {
        match byte {
            b'\\' => f.write_str("\\\\")?,
            b' '..=b'~' if !(list && *byte == b',') => write!(f, "{}", char::from(*byte))?,
            _ => write!(f, "\\x{byte:02x}")?,
        }
    }
    Ok(())
}

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// A value whose text leaves out secrets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hidden<'a>(Value<'a>);

impl fmt::Display for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hidden(value) = self;
        match value.content {
            Content::Absent | Content::Unset => write!(f, "{value}"),
            Content::Text(bytes) | Content::Bytes(bytes) | Content::Raw(bytes) | Content::Cleared(bytes)
                if value.entry.is_secret() =>
            {
                write!(f, "hidden, {} bytes", bytes.len())
            }
            _ if value.entry.is_secret() => f.write_str("hidden"),
            _ => write!(f, "{value}"),
        }
    }
}

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.entry, self.hidden())
    }
}

/// Without the bytes: a content does not know whether it is secret.
impl fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Absent => f.write_str("Absent"),
            Content::Unset => f.write_str("Unset"),
            Content::Number { number, name } => {
                f.debug_struct("Number").field("number", number).field("name", name).finish()
            }
            Content::Bool(on) => f.debug_tuple("Bool").field(on).finish(),
            Content::Text(bytes) => write!(f, "Text({} bytes)", bytes.len()),
            Content::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Content::Names(bytes) => write!(f, "Names({} bytes)", bytes.len()),
            Content::Ipv4(address) => f.debug_tuple("Ipv4").field(address).finish(),
            Content::Country(country) => f.debug_tuple("Country").field(country).finish(),
            Content::Address(address) => f.debug_tuple("Address").field(address).finish(),
            Content::Features(features) => f.debug_tuple("Features").field(features).finish(),
            Content::Cleared(bytes) => write!(f, "Cleared({} bytes)", bytes.len()),
            Content::Raw(bytes) => write!(f, "Raw({} bytes)", bytes.len()),
        }
    }
}
