//! Which of the two sectors counts.

use super::{APP_OFFSET, Generation, Header, VersionRecord, sector_crc};
use crate::flash::{SECTOR_SIZE, Sector, SectorId};
use crate::select::{Reason, Selection};

/// Both sectors, read only.
#[derive(Clone, Copy)]
pub struct Sectors<'a> {
    dct1: &'a Sector,
    dct2: &'a Sector,
}

/// What v0.7.0 and later see in a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SectorState {
    /// No valid header: erased, incomplete or foreign.
    Unknown,
    /// Valid header without valid version record: written by older firmware, or a default table.
    Legacy,
    /// Valid header and version record.
    Versioned {
        /// Version of the record.
        version: u16,
        /// `initial_write` of the record.
        initial_write: u8,
        /// Sequence of the record.
        sequence: u8,
        /// Result of the CRC check.
        crc: CrcCheck,
    },
}

/// Result of a CRC check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum CrcCheck {
    /// Not checked: stored CRC 0 and `initial_write` 1.
    Skipped,
    /// Stored and computed CRC agree.
    Good,
    /// They differ. Normal for the previous generation, whose `is_current` was cleared after the CRC was made.
    Bad {
        /// CRC in the record.
        stored: u32,
        /// CRC of the content.
        computed: u32,
    },
}

impl<'a> Sectors<'a> {
    /// Both sectors.
    #[must_use]
    pub const fn new(dct1: &'a Sector, dct2: &'a Sector) -> Self {
        Self { dct1, dct2 }
    }

    /// Both sectors back to back, as read from 08004000; `None` unless there are at least 32768 bytes.
    #[must_use]
    pub fn from_slice(bytes: &'a [u8]) -> Option<Self> {
        let dct1 = bytes.first_chunk()?;
        let dct2 = bytes.get(SECTOR_SIZE..)?.first_chunk()?;
        Some(Self { dct1, dct2 })
    }

    /// One sector.
    #[must_use]
    pub const fn sector(&self, id: SectorId) -> &'a Sector {
        match id {
            SectorId::Dct1 => self.dct1,
            SectorId::Dct2 => self.dct2,
        }
    }

    /// The sector that a firmware of that generation uses; `None` when neither is valid. Firmware then
    /// [initialises](super::Initialise) DCT1, and all data is gone.
    #[must_use]
    pub fn current(&self, generation: Generation) -> Option<SectorId> {
        self.select(generation).sector
    }

    /// The same with the reason.
    #[must_use]
    pub fn select(&self, generation: Generation) -> Selection {
        let rules = Rules { header: |id| Header::of_sector(self.sector(id)), state: |id| self.state(id) };
        rules.select(generation)
    }

    /// The application section of the current sector up to the end of the sector (8836 bytes), for
    /// [`App::new`](crate::App::new). DFU address N of alternate setting 1 is byte N of it.
    #[must_use]
    pub fn app(&self, generation: Generation) -> Option<&'a [u8]> {
        self.current(generation).map(|id| self.app_of(id))
    }

    /// The application section of a sector, current or not: the other one often holds the previous generation.
    #[must_use]
    pub fn app_of(&self, id: SectorId) -> &'a [u8] {
        self.sector(id).get(APP_OFFSET..).unwrap_or(&[])
    }

    /// What v0.7.0 and later see in a sector.
    #[must_use]
    pub fn state(&self, id: SectorId) -> SectorState {
        let sector = self.sector(id);
        let (header, record) = (Header::of_sector(sector), VersionRecord::of_sector(sector));
        SectorState::of(&header, record, || sector_crc(sector))
    }
}

impl SectorState {
    /// The CRC is asked for only if something depends on it.
    pub(super) fn of(header: &Header, record: VersionRecord, crc: impl FnOnce() -> u32) -> Self {
        if !header.is_valid_new() {
            return SectorState::Unknown;
        }
        if !record.is_valid() {
            return SectorState::Legacy;
        }
        let crc = if record.is_unchecked() {
            CrcCheck::Skipped
        } else {
            match crc() {
                computed if computed == record.crc => CrcCheck::Good,
                computed => CrcCheck::Bad { stored: record.crc, computed },
            }
        };
        SectorState::Versioned {
            version: record.version,
            initial_write: record.initial_write,
            sequence: record.sequence,
            crc,
        }
    }
}

/// The rules, for whoever knows the headers of both sectors and can tell their states.
pub(super) struct Rules<H, S> {
    pub(super) header: H,
    pub(super) state: S,
}

impl<H: Fn(SectorId) -> Header, S: Fn(SectorId) -> SectorState> Rules<H, S> {
    pub(super) fn select(&self, generation: Generation) -> Selection {
        match generation {
            Generation::V0_4_0 | Generation::V0_4_4 => self.select_old(),
            Generation::V0_7_0 => self.select_new(),
        }
    }

    fn select_old(&self) -> Selection {
        let valid = |id| (self.header)(id).is_valid_old();
        match (valid(SectorId::Dct1), valid(SectorId::Dct2)) {
            (true, true) => Selection::new(SectorId::Dct1, Reason::BothValid),
            (true, false) => Selection::new(SectorId::Dct1, Reason::OnlyValid),
            (false, true) => Selection::new(SectorId::Dct2, Reason::OnlyValid),
            (false, false) => Selection::NONE,
        }
    }

    fn select_new(&self) -> Selection {
        use core::cmp::Ordering::{Equal, Greater, Less};
        let one = Rank::of((self.state)(SectorId::Dct1));
        let two = Rank::of((self.state)(SectorId::Dct2));
        let (one, two) = match (one, two) {
            (None, None) => return Selection::NONE,
            (Some(_), None) => return Selection::new(SectorId::Dct1, Reason::OnlyValid),
            (None, Some(_)) => return Selection::new(SectorId::Dct2, Reason::OnlyValid),
            (Some(one), Some(two)) => (one, two),
        };
        // the sequence of a failed CRC is below every other
        let newer = |higher: &Rank, lower: &Rank| match higher.sequence - lower.sequence {
            _ if lower.sequence == Rank::BAD_CRC => Reason::OnlyGoodCrc,
            // they are bytes, and one goes on behind 255
            129.. => Reason::SequenceWrapped,
            _ => Reason::Newer,
        };
        let (sector, reason) = match one.version.cmp(&two.version) {
            Greater => (SectorId::Dct1, Reason::HigherVersion),
            Less => (SectorId::Dct2, Reason::HigherVersion),
            Equal if one.version == VersionRecord::LEGACY => (SectorId::Dct1, Reason::BothValid),
            Equal if !matches!(two.initial_write, 0 | 255) => (SectorId::Dct2, Reason::InitialWrite),
            Equal if !matches!(one.initial_write, 0 | 255) => (SectorId::Dct1, Reason::InitialWrite),
            Equal => match one.sequence.cmp(&two.sequence) {
                Greater => (SectorId::Dct1, newer(&one, &two)),
                Less => (SectorId::Dct2, newer(&two, &one)),
                Equal if one.sequence != Rank::BAD_CRC => (SectorId::Dct1, Reason::Tie),
                Equal if (self.header)(SectorId::Dct1).is_current() == 0 => {
                    (SectorId::Dct2, Reason::BothCrcBad)
                }
                Equal => (SectorId::Dct1, Reason::BothCrcBad),
            },
        };
        Selection::new(sector, reason)
    }
}

impl core::fmt::Debug for Sectors<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // the sectors hold a private key
        f.debug_struct("Sectors")
            .field("dct1", &self.state(SectorId::Dct1))
            .field("dct2", &self.state(SectorId::Dct2))
            .finish()
    }
}

/// What the new selection compares. The sequence is kept wider than its byte, so that the -1 of a failed CRC is below
/// every stored one.
struct Rank {
    version: u16,
    initial_write: u8,
    sequence: i16,
}

impl Rank {
    const BAD_CRC: i16 = -1;

    fn of(state: SectorState) -> Option<Self> {
        match state {
            SectorState::Unknown => None,
            SectorState::Legacy => {
                Some(Rank { version: VersionRecord::LEGACY, initial_write: 0, sequence: 0 })
            }
            SectorState::Versioned { version, crc: CrcCheck::Bad { .. }, .. } => {
                Some(Rank { version, initial_write: 255, sequence: Self::BAD_CRC })
            }
            SectorState::Versioned { version, initial_write, sequence, .. } => {
                Some(Rank { version, initial_write, sequence: i16::from(sequence) })
            }
        }
    }
}
