//! The date as devices want it.

use crate::sonoff::limits;
use crate::sonoff::text::{Text, TextError};
use core::fmt;

/// A date in UTC of exactly 24 characters, `YYYY-MM-DDTHH:MM:SS.mmmZ`.
///
/// ```
/// use spark_ota::sonoff::message::Date;
///
/// assert_eq!(Date::from_unix_milliseconds(1_795_232_913_130).as_str(), "2026-11-21T03:48:33.130Z");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Date(Text<{ limits::DATE }>);

const DAY: u64 = 24 * 60 * 60 * 1000;
const LAST: u64 = 253_402_300_799_999;

impl Date {
    /// From Unix time. What is later than the year 9999 is its end.
    #[must_use]
    pub fn from_unix_milliseconds(milliseconds: u64) -> Self {
        let milliseconds = milliseconds.min(LAST);
        let (day, time) = (milliseconds / DAY, milliseconds % DAY);
        // Years begin in March here: the leap day is the last one, and months have a regular pattern.
        let day = day + 719_468;
        let (era, day) = (day / 146_097, day % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day_of_month = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year + u64::from(month <= 2);
        let text = alloc::format!(
            "{year:04}-{month:02}-{day_of_month:02}T{:02}:{:02}:{:02}.{:03}Z",
            time / 3_600_000,
            time / 60_000 % 60,
            time / 1000 % 60,
            time % 1000
        );
        // 24 digits and signs.
        Self(Text::new(&text).unwrap_or_else(|_| Self::from_unix_milliseconds(0).0))
    }

    /// Checks the form of a date, not its numbers.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn new(text: &str) -> Result<Self, TextError> {
        let date = Text::new(text)?;
        if text.len() != limits::DATE {
            return Err(TextError::Length { length: text.len(), expected: limits::DATE });
        }
        let pattern = "dddd-dd-ddTdd:dd:dd.dddZ";
        let fits = |(found, wanted): (u8, u8)| {
            if wanted == b'd' { found.is_ascii_digit() } else { found == wanted }
        };
        match text.bytes().zip(pattern.bytes()).position(|pair| !fits(pair)) {
            Some(at) => Err(TextError::Character { at }),
            None => Ok(Self(date)),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // From `date -u -d @N`.
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_799, "2000-02-29T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (253_402_300_799, "9999-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(Date::from_unix_milliseconds(seconds * 1000).as_str(), expected);
        }
        assert_eq!(Date::from_unix_milliseconds(u64::MAX).as_str(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn other_forms_are_refused() {
        for text in ["2026-11-21T03:48:33Z", "2026-11-21 03:48:33.130Z", "2026-11-21T03:48:33.1300", ""] {
            assert!(Date::new(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_date_has_the_form(milliseconds: u64) {
            let date = Date::from_unix_milliseconds(milliseconds);
            prop_assert_eq!(Date::new(date.as_str()), Ok(date));
        }
    }
}
