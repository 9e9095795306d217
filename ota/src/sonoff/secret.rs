//! Keys and passwords: erased when dropped, never in `Debug`.

use super::limits;
use super::text::{TextError, plain};
use alloc::string::String;
use core::fmt;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// `apikey`: the factory key of a device, or the session key that a server has chosen. **Secret.**
///
/// 36 characters of printable ASCII, compared in constant time. The factory key is lasting: it identifies the device to
/// the vendor and signs its downloads.
#[derive(Clone)]
pub struct ApiKey {
    bytes: [u8; limits::API_KEY],
}

impl ApiKey {
    /// Checks and takes a key.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn new(text: &str) -> Result<Self, TextError> {
        plain(text, usize::MAX)?;
        let bytes = text.as_bytes().try_into();
        let bytes = bytes.map_err(|_| TextError::Length { length: text.len(), expected: limits::API_KEY })?;
        Ok(Self { bytes })
    }

    /// As a device takes it: what is too long is cut. simple-sonoff-server sends 37 characters.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn cut(text: &str) -> Result<Self, TextError> {
        Self::new(text.get(..limits::API_KEY).unwrap_or(text))
    }

    /// A key out of random bytes, in the form of a random UUID, as all known ones have it.
    ///
    /// ```
    /// use spark_ota::sonoff::ApiKey;
    ///
    /// let key = ApiKey::from_random([0xab; 16]);
    /// assert_eq!(key.expose(), "abababab-abab-4bab-abab-abababababab");
    /// ```
    #[must_use]
    pub fn from_random(mut random: [u8; 16]) -> Self {
        random[6] = 0x40 | random[6] & 0x0f;
        random[8] = 0x80 | random[8] & 0x3f;
        let mut bytes = [b'-'; limits::API_KEY];
        let places = (0..limits::API_KEY).filter(|at| !matches!(at, 8 | 13 | 18 | 23));
        let digits = random.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        for (at, digit) in places.zip(digits) {
            if let Some(place) = bytes.get_mut(at) {
                *place = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
            }
        }
        random.zeroize();
        Self { bytes }
    }

    /// The key itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        core::str::from_utf8(&self.bytes).unwrap_or_default()
    }
}

impl PartialEq for ApiKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes.ct_eq(&other.bytes).into()
    }
}

impl Eq for ApiKey {}

impl Drop for ApiKey {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

/// The password of a Wi-Fi network, at most 63 bytes; empty for an open one. **Secret.**
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Checks and takes a password.
    ///
    /// # Errors
    /// [`TextError`]: longer than a device keeps, or with a control character.
    pub fn new(text: &str) -> Result<Self, TextError> {
        printable(text, limits::WIFI_PASSWORD)?;
        Ok(Self(Zeroizing::new(text.into())))
    }

    /// The password itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// In place of bytes that may hold keys or passwords, in `Debug`.
pub(crate) struct Hidden<'a>(pub(crate) &'a [u8]);

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Refuses control characters only: names and passwords of networks are anything else.
pub(super) fn printable(text: &str, limit: usize) -> Result<(), TextError> {
    if text.len() > limit {
        return Err(TextError::TooLong { length: text.len(), limit });
    }
    match text.find(char::is_control) {
        Some(at) => Err(TextError::Character { at }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn keys_have_36_characters_and_longer_ones_are_cut_by_devices() {
        let key = "111111111-1111-1111-1111-111111111111";
        assert_eq!(ApiKey::new(key), Err(TextError::Length { length: 37, expected: 36 }));
        assert_eq!(ApiKey::cut(key).unwrap().expose(), &key[..36]);
        assert!(ApiKey::cut("").is_err() && ApiKey::cut("short").is_err());
        assert!(ApiKey::cut(&"ä".repeat(30)).is_err());
    }

    #[test]
    fn nothing_of_a_secret_is_in_debug() {
        let secret = (ApiKey::from_random([7; 16]), Password::new("secret-123").unwrap());
        assert_eq!(format!("{secret:?}"), "(ApiKey, Password)");
    }

    #[test]
    fn passwords_are_limited() {
        assert!(Password::new(&"a".repeat(63)).is_ok() && Password::new("").is_ok());
        assert_eq!(Password::new(&"a".repeat(64)), Err(TextError::TooLong { length: 64, limit: 63 }));
        assert_eq!(Password::new("a\u{7}"), Err(TextError::Character { at: 1 }));
        assert!(Password::new("ä\"\\").unwrap() != Password::new("ä").unwrap());
    }
}
