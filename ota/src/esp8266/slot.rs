//! The two places of v2 images in the flash, the limits on them, and which of them an image is linked for.

use core::fmt;
use core::iter::Sum;
use core::ops::{Add, Range};

/// The vendor's updater takes no image that is longer (460 KiB), for either slot. Seen in firmware later than 1.5.5; users
/// of older units report that images of 479 kB fail as well.
pub const UPDATER_LIMIT: usize = 471_040;

/// The linker scripts of Espressif's SDK leave this many bytes for the irom code of a slot.
pub const IROM_LIMIT: usize = 438_272;

/// The newer updater loads pieces of this length. An image that is no longer than one of them can only be installed by a
/// server that answers 206 to a range that is the whole file; many answer 200.
pub const RANGE_LEN: usize = 4096;

/// The longest file that Espressif2Arduino writes to the beginning of the flash.
pub const FINAL_STAGE_LIMIT: usize = 0x8_0000;

/// The longest image that Espressif2Arduino writes to slot 2.
pub const FINAL_STAGE_USER2_LIMIT: usize = 0x7_f000;

/// The shortest file that Espressif2Arduino takes.
pub const FINAL_STAGE_LEAST: usize = 4096;

/// The longest file that a device in DIY mode takes (508 KiB, by the vendor's document).
pub const DIY_LIMIT: usize = 520_192;

/// One of the two places that the vendor's boot stage starts images from, in a flash of 1 MiB. A device updates the one
/// that it does not run from.
///
/// | | user1 | user2 |
/// |---|---|---|
/// | flash offset | 0x01000 | 0x81000 |
/// | address of the irom code | 0x40201010 | 0x40281010 |
/// | usable | 0x78000, then the vendor's settings | 0x7b000, then the SDK's parameters |
///
/// # Source
/// ESP8266_NONOS_SDK@8e13865: `ld/eagle.app.v6.new.1024.app1.ld`, `ld/eagle.app.v6.new.1024.app2.ld`; firmware of the
/// IoTgo 2.0 generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "the boot stage knows two")]
pub enum Slot {
    /// Slot 1.
    User1,
    /// Slot 2.
    User2,
}

impl Slot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::User1, Self::User2];

    /// 1 or 2.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::User1 => 1,
            Self::User2 => 2,
        }
    }

    /// The slot of this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::User1),
            2 => Some(Self::User2),
            _ => None,
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::User1 => Self::User2,
            Self::User2 => Self::User1,
        }
    }

    /// `name` of its image in the list of an `upgrade` message.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::User1 => "user1.bin",
            Self::User2 => "user2.bin",
        }
    }

    /// The slot whose image has this `name`.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|slot| slot.file_name() == name)
    }

    /// Where it begins in the flash.
    #[must_use]
    pub const fn flash_offset(self) -> u32 {
        match self {
            Self::User1 => 0x0_1000,
            Self::User2 => 0x8_1000,
        }
    }

    /// The same as a number of sectors of 4096 bytes.
    #[must_use]
    pub const fn flash_sector(self) -> u32 {
        self.flash_offset() / 4096
    }

    /// Address of the first byte of the irom code, behind the header of 16 bytes.
    #[must_use]
    pub const fn link_address(self) -> u32 {
        0x4020_0010 + self.flash_offset()
    }

    /// Addresses of irom code of this slot.
    #[must_use]
    pub const fn addresses(self) -> Range<u32> {
        let start = 0x4020_0000 + self.flash_offset();
        start..start + SPAN
    }

    /// Bytes that may be written there: behind them are the vendor's settings with the Wi-Fi password (slot 1), or the SDK's
    /// system parameters (slot 2).
    #[must_use]
    pub const fn usable_len(self) -> usize {
        match self {
            Self::User1 => 0x7_8000,
            Self::User2 => 0x7_b000,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {}", self.number())
    }
}

const SPAN: u32 = 0x7_f000;

/// How many aligned words of an image are addresses of either slot.
///
/// The same program built for both slots differs in these words only. Other words look like one with a chance of about
/// 1 in 8000.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LinkEvidence {
    /// Words that are addresses of slot 1.
    pub user1: u32,
    /// Words that are addresses of slot 2.
    pub user2: u32,
    /// Words looked at.
    pub words: u32,
}

impl LinkEvidence {
    /// Counts the words of a piece whose first byte is aligned.
    #[must_use]
    pub fn of(piece: &[u8]) -> Self {
        let (words, _) = piece.as_chunks::<4>();
        let [user1, user2] = Slot::ALL.map(|slot| slot.addresses().start);
        // Sums, which compilers make vectors of.
        let (user1, user2) = words.iter().fold((0_u32, 0_u32), |(sum1, sum2), word| {
            let word = u32::from_le_bytes(*word);
            let is = |start| u32::from(word.wrapping_sub(start) < SPAN);
            (sum1.wrapping_add(is(user1)), sum2.wrapping_add(is(user2)))
        });
        Self { user1, user2, words: u32::try_from(words.len()).unwrap_or(u32::MAX) }
    }

    /// The slot, if the words tell: more of them than chance gives, and four times as many as of the other.
    #[must_use]
    pub const fn slot(&self) -> Option<Slot> {
        let (slot, most, least) = if self.user1 >= self.user2 {
            (Slot::User1, self.user1, self.user2)
        } else {
            (Slot::User2, self.user2, self.user1)
        };
        let noise = self.words / 8192;
        if most >= 8 + 4 * noise && most / 4 >= least { Some(slot) } else { None }
    }
}

impl Add for LinkEvidence {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            user1: self.user1.wrapping_add(other.user1),
            user2: self.user2.wrapping_add(other.user2),
            words: self.words.wrapping_add(other.words),
        }
    }
}

impl Sum for LinkEvidence {
    fn sum<I: Iterator<Item = Self>>(pieces: I) -> Self {
        pieces.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn numbers_are_those_of_the_sdk() {
        let numbers = Slot::ALL.map(|slot| (slot.flash_sector(), slot.link_address(), slot.usable_len()));
        assert_eq!(numbers, [(0x01, 0x4020_1010, 491_520), (0x81, 0x4028_1010, 503_808)]);
        assert_eq!(Slot::User1.addresses(), 0x4020_1000..0x4028_0000);
        assert_eq!(Slot::User2.addresses(), 0x4028_1000..0x4030_0000);
        for slot in Slot::ALL {
            assert_eq!(Slot::from_number(slot.number()), Some(slot));
            assert_eq!(slot.other().other(), slot);
        }
        assert_eq!((Slot::from_number(0), Slot::from_number(3)), (None, None));
    }

    fn words(list: &[(u32, usize)]) -> LinkEvidence {
        let bytes: Vec<u8> =
            list.iter().flat_map(|(word, count)| word.to_le_bytes().repeat(*count)).collect();
        LinkEvidence::of(&bytes)
    }

    #[test]
    fn first_and_last_address_of_a_slot_count_and_their_neighbours_do_not() {
        let ends = [(0x4020_0fff, 1), (0x4020_1000, 1), (0x4027_ffff, 1), (0x4028_0000, 1)];
        assert_eq!(words(&ends), LinkEvidence { user1: 2, user2: 0, words: 4 });
        let ends = [(0x4028_0fff, 1), (0x4028_1000, 1), (0x402f_ffff, 1), (0x4030_0000, 1)];
        assert_eq!(words(&ends), LinkEvidence { user1: 0, user2: 2, words: 4 });
    }

    #[test]
    fn few_or_mixed_addresses_tell_nothing() {
        assert_eq!(words(&[(0x4020_1234, 7), (0, 100)]).slot(), None);
        assert_eq!(words(&[(0x4020_1234, 8), (0, 100)]).slot(), Some(Slot::User1));
        assert_eq!(words(&[(0x4028_1234, 40), (0x4020_1234, 10)]).slot(), Some(Slot::User2));
        assert_eq!(words(&[(0x4028_1234, 40), (0x4020_1234, 11)]).slot(), None);
        // As many as noise gives.
        assert_eq!(words(&[(0x4028_1234, 20), (0, 60_000)]).slot(), None);
        assert_eq!(words(&[(0x4028_1234, 489), (0x4020_1234, 7), (0, 59_000)]).slot(), Some(Slot::User2));
    }

    #[test]
    fn bytes_behind_the_last_word_are_left_out() {
        assert_eq!(LinkEvidence::of(&[0x10, 0x10, 0x20, 0x40, 0x10, 0x10, 0x20]).words, 1);
        assert_eq!(LinkEvidence::of(&[]), LinkEvidence::default());
    }
}
