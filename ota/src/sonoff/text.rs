//! Texts that cannot be longer than a device takes.

use super::limits;
use core::fmt;
use core::str::FromStr;

/// Text of 1 to `MAX` bytes, at most 255: printable ASCII without `"` and `\`, so that it is the same inside JSON and
/// outside.
///
/// ```
/// use spark_ota::sonoff::{DeviceId, TextError};
///
/// assert_eq!(DeviceId::new("1000abcdef")?.as_str(), "1000abcdef");
/// assert_eq!(DeviceId::new("1000abcdef0"), Err(TextError::TooLong { length: 11, limit: 10 }));
/// # Ok::<(), TextError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<const MAX: usize> {
    // Zeros behind the text: the derived order is that of `strcmp`.
    bytes: [u8; MAX],
    len: u8,
}

/// `deviceid`: ten lower-case hexadecimal digits in all known devices.
pub type DeviceId = Text<{ limits::DEVICE_ID }>;
/// `model`, as `ITA-GZ1-GL`.
pub type Model = Text<{ limits::MODEL }>;
/// `romVersion`, `fwVersion` and `version` of an upgrade, as `1.5.5`. What counts is [`Version::compared`].
pub type Version = Text<{ limits::VERSION }>;
/// `sequence`: what an acknowledgement refers to.
pub type Sequence = Text<{ limits::SEQUENCE }>;
/// `serverName`, `IP`: a name, or an address with dots.
pub type ServerName = Text<{ limits::SERVER_NAME }>;

/// Why a text was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum TextError {
    /// Nothing.
    #[error("it is empty")]
    Empty,
    /// Too many bytes.
    #[error("it has {length} bytes, and {limit} fit")]
    TooLong {
        /// Bytes.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Another number of bytes than the only one possible.
    #[error("it has {length} bytes, and must have {expected}")]
    Length {
        /// Bytes.
        length: usize,
        /// What it must have.
        expected: usize,
    },
    /// A character that a device may not read as it is meant.
    #[error("the character at byte {at} is none that a device takes")]
    Character {
        /// Where.
        at: usize,
    },
}

/// Finds what is not plain.
pub(super) fn plain(text: &str, limit: usize) -> Result<(), TextError> {
    if text.is_empty() {
        return Err(TextError::Empty);
    }
    if text.len() > limit {
        return Err(TextError::TooLong { length: text.len(), limit });
    }
    match text.bytes().position(|byte| !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\')) {
        Some(at) => Err(TextError::Character { at }),
        None => Ok(()),
    }
}

impl<const MAX: usize> Text<MAX> {
    /// Checks and takes a text.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn new(text: &str) -> Result<Self, TextError> {
        plain(text, MAX)?;
        let length = text.len();
        let len = u8::try_from(length).map_err(|_| TextError::TooLong { length, limit: 255 })?;
        let mut bytes = [0; MAX];
        for (place, byte) in bytes.iter_mut().zip(text.bytes()) {
            *place = byte;
        }
        Ok(Self { bytes, len })
    }

    /// Of digits and the like.
    pub(super) fn from_plain(bytes: [u8; MAX]) -> Self {
        Self { bytes, len: u8::try_from(MAX).unwrap_or_default() }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl Version {
    /// What a device keeps and compares: the first 5 bytes. They are compared as text, so `10.0.0` is less than `2.0.4`.
    #[must_use]
    pub fn compared(&self) -> &[u8] {
        let text = self.as_str().as_bytes();
        text.get(..limits::VERSION_COMPARED).unwrap_or(text)
    }

    /// Whether a device takes this as newer than `installed`.
    ///
    /// ```
    /// use spark_ota::sonoff::Version;
    ///
    /// let installed = Version::new("2.0.4")?;
    /// assert!(Version::new("23.42.5")?.is_newer_than(&installed));
    /// assert!(!Version::new("10.0.0")?.is_newer_than(&installed));
    /// # Ok::<(), spark_ota::sonoff::TextError>(())
    /// ```
    #[must_use]
    pub fn is_newer_than(&self, installed: &Self) -> bool {
        self.compared() > installed.compared()
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<const MAX: usize> AsRef<str> for Text<MAX> {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl<const MAX: usize> PartialEq<str> for Text<MAX> {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl<const MAX: usize> PartialEq<&str> for Text<MAX> {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl<const MAX: usize> FromStr for Text<MAX> {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        Self::new(text)
    }
}

impl<const MAX: usize> serde::Serialize for Text<MAX> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(feature = "defmt")]
impl<const MAX: usize> defmt::Format for Text<MAX> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=str}", self.as_str());
    }
}

/// Gives each request a `sequence` of its own: Unix milliseconds, as other servers have it, and never the same twice.
///
/// ```
/// use spark_ota::sonoff::Sequences;
///
/// let mut sequences = Sequences::new();
/// assert_eq!(sequences.next(1_795_232_913_133), "1795232913133");
/// assert_eq!(sequences.next(1_795_232_913_133), "1795232913134");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Sequences {
    last: u64,
}

impl Sequences {
    /// None given yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { last: 0 }
    }

    /// The next one; `unix_milliseconds` may be 0 or stand still.
    pub fn next(&mut self, unix_milliseconds: u64) -> Sequence {
        self.last = unix_milliseconds.max(self.last.saturating_add(1));
        let mut text = Sequence { bytes: [0; limits::SEQUENCE], len: 0 };
        let mut divisor = 1;
        while self.last / divisor >= 10 {
            divisor *= 10;
        }
        for place in &mut text.bytes {
            // A digit.
            *place = b'0' + u8::try_from(self.last / divisor % 10).unwrap_or_default();
            text.len += 1;
            divisor /= 10;
            if divisor == 0 {
                break;
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};
    use proptest::prelude::*;

    #[test]
    fn only_plain_text_of_the_right_length_is_taken() {
        assert_eq!(Text::<3>::new(""), Err(TextError::Empty));
        assert_eq!(Text::<3>::new("abc").unwrap(), "abc");
        assert_eq!(Text::<3>::new("abcd"), Err(TextError::TooLong { length: 4, limit: 3 }));
        for (text, at) in [("a\"", 1), ("\\a", 0), ("a\n", 1), ("ab\u{7f}", 2), ("ä", 0)] {
            assert_eq!(Text::<3>::new(text), Err(TextError::Character { at }), "{text}");
        }
    }

    #[test]
    fn versions_are_compared_as_devices_do_it() {
        let newer = |a: &str, b: &str| Version::new(a).unwrap().is_newer_than(&Version::new(b).unwrap());
        for (a, b, expected) in [
            ("9.9.9", "2.0.4", true),
            ("9.9.9", "9.9.9", false),
            ("10.0.0", "2.0.4", false),
            ("23.42.5", "2.0.4", true),
            ("23.42.5", "23.42.1", false),
            ("23.42.5", "3.0.0", false),
            ("1.5", "1.5.0", false),
            ("1.5.0", "1.5", true),
        ] {
            assert_eq!(newer(a, b), expected, "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn sequences_are_decimal_and_never_repeated(times in proptest::collection::vec(any::<u64>(), 1..20)) {
            let mut sequences = Sequences::new();
            let mut last = None;
            for time in times.into_iter().filter(|time| *time < u64::MAX / 2) {
                let sequence: u64 = sequences.next(time).as_str().parse().unwrap();
                prop_assert!(sequence >= time && last.is_none_or(|last| sequence > last));
                last = Some(sequence);
            }
        }

        #[test]
        fn order_is_that_of_the_texts(a in "[ -!#-Z]{1,6}", b in "[ -!#-Z]{1,6}") {
            let [x, y] = [&a, &b].map(|text: &String| Text::<6>::new(text).unwrap());
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(x.to_string(), a);
        }
    }
}
