//! Country of the Wi-Fi limits.

/// Country of the Wi-Fi limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CountryCode {
    /// Two letters, as stored.
    pub letters: [u8; 2],
    /// Revision 0 to 15: the third byte as an ASCII hexadecimal digit, or, where that is unset, the fourth byte as a
    /// plain number. Both forms are met; `None` for anything else.
    pub revision: Option<u8>,
}

impl CountryCode {
    /// Reads the four bytes; `None` when the first one is FF or 00, which means "not set".
    #[must_use]
    pub fn decode(raw: &[u8; 4]) -> Option<Self> {
        let [first, second, revision, last] = *raw;
        if matches!(first, 0 | 0xFF) {
            return None;
        }
        let revision = match (char::from(revision).to_digit(16), last) {
            (Some(digit), _) => u8::try_from(digit).ok(),
            (None, 0..=15) if matches!(revision, 0 | 0xFF) => Some(last),
            _ => None,
        };
        Some(CountryCode { letters: [first, second], revision })
    }

    /// The four bytes: letters, revision as an ASCII hexadecimal digit (`0` where there is none), FF.
    #[must_use]
    pub const fn encode(&self) -> [u8; 4] {
        let digit = match self.revision {
            Some(revision @ 0..=9) => b'0' + revision,
            Some(revision @ 10..=15) => b'A' + revision - 10,
            _ => b'0',
        };
        let [first, second] = self.letters;
        [first, second, digit, 0xFF]
    }
}
