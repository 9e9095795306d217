//! Why a device does not do what was asked.

use core::fmt;

/// An error code of the system with its words, sent as JSON.
///
/// ```
/// let rejection = spark_ota::v3::Rejection::chunk_size(510);
/// assert_eq!(rejection.to_string(), r#"{"code":-240,"message":"Invalid chunk size: 510"}"#);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Rejection {
    /// Error code of the system, negative.
    pub code: i32,
    message: &'static str,
    number: Option<u32>,
}

impl Rejection {
    /// -210: there is no update.
    pub const INVALID_STATE: Self = Self::new(-210, "Invalid state");
    /// -240: chunks are missing.
    pub const INCOMPLETE: Self = Self::new(-240, "Incomplete file transfer");

    /// Any code, with words. Quotes, backslashes and control characters of `message` are replaced.
    #[must_use]
    pub const fn new(code: i32, message: &'static str) -> Self {
        Self { code, message, number: None }
    }

    /// -240: a chunk size that the device does not take.
    #[must_use]
    pub const fn chunk_size(size: u32) -> Self {
        Self { code: -240, message: "Invalid chunk size", number: Some(size) }
    }

    /// -240: a file size that the device does not take.
    #[must_use]
    pub const fn file_size(size: u32) -> Self {
        Self { code: -240, message: "Invalid file size", number: Some(size) }
    }

    /// In words, without a number.
    #[must_use]
    pub const fn message(&self) -> &'static str {
        self.message
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{\"code\":{},\"message\":\"", self.code)?;
        for character in self.message.chars() {
            let plain = !character.is_control() && !matches!(character, '"' | '\\');
            fmt::Write::write_char(f, if plain { character } else { '?' })?;
        }
        if let Some(number) = self.number {
            write!(f, ": {number}")?;
        }
        f.write_str("\"}")
    }
}
