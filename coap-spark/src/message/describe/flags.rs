//! What is asked for, and which of the two forms came back.

use super::Metrics;
use crate::message::DecodeError;

/// Parts of a description, one bit each, in the one byte of a Uri-Query.
///
/// Device OS 0.4 numbers the parts inside differently (system 02, application 04) and 0.5.2 likewise, but neither reads
/// the flags of a request: both always send everything, in two answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DescribeFlags(pub u8);

impl DescribeFlags {
    /// Platform, key values and modules.
    pub const SYSTEM: Self = Self(0x01);
    /// Functions and variables.
    pub const APPLICATION: Self = Self(0x02);
    /// Metrics in binary form, since 0.8.0; alone only.
    pub const METRICS: Self = Self(0x04);
    /// What a request without flags, or with wrong ones, asks for.
    pub const DEFAULT: Self = Self(0x03);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What a device answers a request with these flags with: above 7 they are wrong and stand for
    /// [`DescribeFlags::DEFAULT`].
    #[must_use]
    pub const fn effective(asked: Option<Self>) -> Self {
        match asked {
            Some(flags) if flags.0 <= 7 => flags,
            _ => Self::DEFAULT,
        }
    }
}

/// The payload of a description: JSON or metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Description<'a> {
    /// A JSON document. Old firmware cuts one that outgrows its buffer.
    Json(&'a [u8]),
    /// Metrics.
    Metrics(Metrics<'a>),
}

impl<'a> Description<'a> {
    /// Tells the forms apart by the first byte: 0 begins metrics.
    ///
    /// # Errors
    /// [`DecodeError::Field`] for metrics that are none; JSON is not looked at.
    pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        match payload.first() {
            Some(0) => Ok(Self::Metrics(Metrics::parse(payload)?)),
            _ => Ok(Self::Json(payload)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_or_missing_flags_stand_for_the_default() {
        for (asked, effective) in
            [(None, 3), (Some(8), 3), (Some(255), 3), (Some(4), 4), (Some(7), 7), (Some(0), 0)]
        {
            assert_eq!(DescribeFlags::effective(asked.map(DescribeFlags)), DescribeFlags(effective));
        }
    }

    #[test]
    fn first_byte_tells_metrics_from_json() {
        assert_eq!(Description::decode(b"{}"), Ok(Description::Json(b"{}")));
        assert_eq!(Description::decode(b""), Ok(Description::Json(b"")));
        assert!(matches!(Description::decode(&[0, 4, 0, 2, 0, 4, 0]), Ok(Description::Metrics(_))));
        assert!(Description::decode(&[0, 4]).is_err());
    }
}
