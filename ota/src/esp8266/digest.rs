//! Digests as the protocol has them.

use core::fmt;
use sha2::{Digest, Sha256};

/// A SHA-256 as 64 lower-case hex digits. The devices compare it as text, so upper case is another digest to them.
///
/// ```
/// use spark_ota::esp8266::Sha256Text;
///
/// let digest = Sha256Text::of(b"abc");
/// assert_eq!(digest.as_str(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
/// assert_eq!(Sha256Text::parse(digest.as_str()), Some(digest));
/// assert_eq!(Sha256Text::parse(&digest.as_str().to_uppercase()), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Sha256Text([u8; Self::LEN]);

impl Sha256Text {
    /// Digits.
    pub const LEN: usize = 64;

    /// The digest of a file.
    #[must_use]
    pub fn of(file: &[u8]) -> Self {
        Self::from_bytes(&Sha256::digest(file).into())
    }

    /// A digest that was computed elsewhere.
    #[must_use]
    pub fn from_bytes(digest: &[u8; 32]) -> Self {
        let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        let mut text = [0; Self::LEN];
        let (pairs, _) = text.as_chunks_mut::<2>();
        for (pair, byte) in pairs.iter_mut().zip(digest) {
            *pair = [digit(byte >> 4), digit(byte & 0x0f)];
        }
        Self(text)
    }

    /// A digest out of a message; `None` unless it is exactly 64 lower-case digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let raw: [u8; Self::LEN] = text.as_bytes().try_into().ok()?;
        raw.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')).then_some(Self(raw))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Sha256Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Sha256Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256Text({self})")
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Sha256Text {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_is_that_of_hex(digest: [u8; 32]) {
            let text = Sha256Text::from_bytes(&digest);
            prop_assert_eq!(text.as_str(), hex::encode(digest));
            prop_assert_eq!(Sha256Text::parse(text.as_str()), Some(text));
        }

        #[test]
        fn other_text_is_no_digest(text in "[0-9a-fA-F]{60,68}") {
            let good = text.len() == 64 && !text.bytes().any(|digit| digit.is_ascii_uppercase());
            prop_assert_eq!(Sha256Text::parse(&text).is_some(), good);
        }
    }
}
