//! The two slots.

use core::fmt;

/// One of the two places for an image. Fresh devices usually run from the first and ask for the second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "the flash has two halves")]
pub enum Slot {
    /// From 0x01000.
    User1,
    /// From 0x81000.
    User2,
}

impl Slot {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::User1, Self::User2];

    /// Name in `binList`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User1 => "user1.bin",
            Self::User2 => "user2.bin",
        }
    }

    /// By that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::BOTH.into_iter().find(|slot| slot.name() == name)
    }

    /// The slot that a device which runs from this one asks for.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::User1 => Self::User2,
            Self::User2 => Self::User1,
        }
    }

    /// Where it begins in flash.
    #[must_use]
    pub const fn offset(self) -> u32 {
        match self {
            Self::User1 => 0x0_1000,
            Self::User2 => 0x8_1000,
        }
    }

    /// Bytes up to the vendor's settings, or to the SDK's parameters.
    #[must_use]
    pub const fn size(self) -> u32 {
        match self {
            Self::User1 => 0x7_9000 - 0x0_1000,
            Self::User2 => 0xf_c000 - 0x8_1000,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
