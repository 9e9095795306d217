//! Where writes to the application section end well, per generation of firmware.

use super::{APP_AREA, Generation, WRITE_LIMIT};
use crate::app::{LEN, LEN_OLD};

/// What a firmware does with a write whose end lies in a range.
///
/// | end of the write | v0.4.0, v0.4.1 | v0.4.4 to v0.6.4 | v0.7.0 and later |
/// |---|---|---|---|
/// | up to the structure's end (4258; 8391 from v0.7.0) | stored | stored | stored |
/// | up to 8784 | stored, nobody reads it | the same | the same |
/// | 8785 to 8820 | stored, nobody reads it | the same | **network configuration overwritten** |
/// | 8821 to 8836 | stored, nobody reads it | the same | **hangs** |
/// | above 8836 | refused | **over erased flash spills into the other sector and reports success** | refused |
///
/// # Source
/// Library objects of `device-os@v0.5.0` and `@v1.0.0` (photon), executed in a CPU emulator; v0.4.0 by its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WriteLimit {
    /// Last end of the range; it starts behind the range before.
    pub until: usize,
    /// What happens.
    pub consequence: Consequence,
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Consequence {
    /// Stored within the structure.
    Stored,
    /// Stored behind the structure, where no field is.
    Unread,
    /// Overwrites the network configuration without an error.
    OverwritesNetworkConfig,
    /// The device hangs in the middle of the write.
    Hangs,
    /// Runs into the other sector and reports success.
    SpillsOver,
    /// Refused with an error; nothing is written.
    Refused,
}

impl core::fmt::Display for Consequence {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Consequence::Stored => "stores it",
            Consequence::Unread => "stores it behind the last field, where nothing reads it",
            Consequence::OverwritesNetworkConfig => "overwrites its network configuration without an error",
            Consequence::Hangs => "hangs in the middle of the write",
            Consequence::SpillsOver => "writes on into the other sector and reports success",
            Consequence::Refused => "refuses it and writes nothing",
        })
    }
}

impl Generation {
    /// What this generation does, by the end of the write; ranges follow each other.
    #[must_use]
    pub const fn write_limits(self) -> &'static [WriteLimit] {
        const fn row(until: usize, consequence: Consequence) -> WriteLimit {
            WriteLimit { until, consequence }
        }
        const V0_4_0: &[WriteLimit] = &[
            row(LEN_OLD, Consequence::Stored),
            row(APP_AREA, Consequence::Unread),
            row(usize::MAX, Consequence::Refused),
        ];
        const V0_4_4: &[WriteLimit] = &[
            row(LEN_OLD, Consequence::Stored),
            row(APP_AREA, Consequence::Unread),
            row(usize::MAX, Consequence::SpillsOver),
        ];
        const V0_7_0: &[WriteLimit] = &[
            row(LEN, Consequence::Stored),
            row(WRITE_LIMIT, Consequence::Unread),
            row(APP_AREA - 16, Consequence::OverwritesNetworkConfig),
            row(APP_AREA, Consequence::Hangs),
            row(usize::MAX, Consequence::Refused),
        ];
        match self {
            Generation::V0_4_0 => V0_4_0,
            Generation::V0_4_4 => V0_4_4,
            Generation::V0_7_0 => V0_7_0,
        }
    }

    /// What this generation does with a write that ends at `end`.
    #[must_use]
    pub fn consequence(self, end: usize) -> Consequence {
        let row = self.write_limits().iter().find(|row| end <= row.until);
        row.map_or(Consequence::Refused, |row| row.consequence)
    }

    /// Length of the structure: 4258, 8391 from v0.7.0 on.
    #[must_use]
    pub const fn structure_len(self) -> usize {
        match self {
            Generation::V0_4_0 | Generation::V0_4_4 => LEN_OLD,
            Generation::V0_7_0 => LEN,
        }
    }

    /// For a host: whether a write ends within the structure of this generation.
    ///
    /// # Errors
    /// [`LimitError`] with what the device would do.
    pub fn check_write(self, offset: usize, length: usize) -> Result<(), LimitError> {
        let end = offset.saturating_add(length);
        let limit = self.structure_len();
        if end <= limit {
            return Ok(());
        }
        Err(LimitError { end, limit, consequence: self.consequence(end) })
    }
}

/// A write that a host should not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error(
    "write ends at {end} but the fields end at {limit}, and this firmware {consequence}; write less or lower"
)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct LimitError {
    /// Offset plus length.
    pub end: usize,
    /// End of the structure.
    pub limit: usize,
    /// What the device would do.
    pub consequence: Consequence,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn table_is_the_emulated_one() {
        use Consequence::{Hangs, OverwritesNetworkConfig, Refused, SpillsOver, Stored, Unread};
        for (end, v0_4_0, v0_4_4, v0_7_0) in [
            (0, Stored, Stored, Stored),
            (4258, Stored, Stored, Stored),
            (4259, Unread, Unread, Stored),
            (8391, Unread, Unread, Stored),
            (8392, Unread, Unread, Unread),
            (8784, Unread, Unread, Unread),
            (8785, Unread, Unread, OverwritesNetworkConfig),
            (8820, Unread, Unread, OverwritesNetworkConfig),
            (8821, Unread, Unread, Hangs),
            (8836, Unread, Unread, Hangs),
            (8837, Refused, SpillsOver, Refused),
            (usize::MAX, Refused, SpillsOver, Refused),
        ] {
            assert_eq!(Generation::V0_4_0.consequence(end), v0_4_0, "{end}");
            assert_eq!(Generation::V0_4_4.consequence(end), v0_4_4, "{end}");
            assert_eq!(Generation::V0_7_0.consequence(end), v0_7_0, "{end}");
        }
    }

    #[test]
    fn host_stays_within_the_structure_and_hears_what_would_happen() {
        assert_eq!(Generation::V0_7_0.check_write(34, 612), Ok(()));
        assert_eq!(Generation::V0_7_0.check_write(8390, 1), Ok(()));
        assert_eq!(Generation::V0_4_4.check_write(4258, 0), Ok(()));
        assert!(Generation::V0_4_4.check_write(8119, 15).is_err());
        assert_eq!(
            Generation::V0_7_0.check_write(8200, 630).unwrap_err().to_string(),
            "write ends at 8830 but the fields end at 8391, and this firmware hangs in the middle of the write; write less or lower"
        );
        assert_eq!(
            Generation::V0_4_4.check_write(usize::MAX, 2).unwrap_err().consequence,
            Consequence::SpillsOver
        );
    }
}
