//! Writes to the container as sequences of flash operations.

use super::steps::{Present, Steps};
use super::version_record::combine;
use super::{Generation, Header, SectorState, Sectors, VersionRecord};
use crate::flash::{FlashOp, SectorId};

/// A write to the application section, as the firmware of a [`Generation`] does it.
///
/// Call [`next_op`](Self::next_op) and execute until `None`. The machine works on what the sectors held when it was
/// made (give it a copy when the flash is changed in place) and needs nothing back: whether the in-place attempt of
/// v0.4.4 to v0.6.4 will read back right is known beforehand, as flash only clears bits. Where there is no room for a copy,
/// [`StreamWrite`](super::StreamWrite) gives the same operations and reads the flash in pieces.
///
/// | generation | operations |
/// |---|---|
/// | v0.4.0, v0.4.1 | nothing when equal; else erase other (unless blank), copy 388.. , data, copy rest, header, erase old |
/// | v0.4.4 to v0.6.4 | **program data in place**; when that cannot give the data, go on as v0.4.0 |
/// | v0.7.0 and later | erase other, copy in pieces of 64, data, copy rest to 16368, header (incomplete), version record, clear `write_incomplete`, clear `is_current` in old, clear `initial_write` in old |
///
/// The new header keeps bytes 10 to 388 of the old one; the sequence of the version record is one more than the old
/// one, and 1 after a legacy sector.
pub struct Write<'a> {
    sectors: Sectors<'a>,
    steps: Steps<'a>,
}

impl<'a> Write<'a> {
    /// Plans a write of `data` at `offset` of the application section.
    ///
    /// # Errors
    /// [`WriteError::TooLong`] when it ends behind [`WRITE_LIMIT`](super::WRITE_LIMIT); [`WriteError::NoCurrentSector`] when
    /// there is nothing to write to.
    pub fn new(
        sectors: Sectors<'a>,
        generation: Generation,
        offset: usize,
        data: &'a [u8],
    ) -> Result<Self, WriteError> {
        let start = Steps::start(offset, data)?;
        let from = sectors.current(generation).ok_or(WriteError::NoCurrentSector)?;
        let source = sectors.sector(from);
        let old = source.get(start..start + data.len()).unwrap_or(&[]);
        let is_other_blank = || sectors.sector(from.other()).iter().all(|byte| *byte == 0xFF);
        let present = Present {
            header: Header::of_sector(source),
            is_equal: old == data,
            is_programmable: old.iter().zip(data).all(|(old, new)| old & new == *new),
            is_other_blank: generation != Generation::V0_7_0 && is_other_blank(),
        };
        let sequence = match generation {
            Generation::V0_7_0 => next_sequence(sectors.state(from)),
            _ => 0,
        };
        let crc = |header: &Header, record| combine(header, record, source, start, data);
        Ok(Write { sectors, steps: Steps::new(generation, from, start, data, present, sequence, crc) })
    }

    /// The next operation, `None` when the write is complete.
    pub fn next_op(&mut self) -> Option<FlashOp<'_>> {
        self.steps.next()?.over(|sector| self.sectors.sector(sector))
    }

    /// The sector that is current once the write is complete.
    #[must_use]
    pub const fn target(&self) -> SectorId {
        self.steps.target()
    }

    /// Whether this write passes through a state in which the stored bytes are neither old nor new but their
    /// bitwise AND: a firmware of v0.4.4 to v0.6.4 that has to set bits again.
    #[must_use]
    pub const fn is_hazardous(&self) -> bool {
        self.steps.is_hazardous()
    }
}

/// The one that follows a sector's, 1 after a legacy one.
pub(super) const fn next_sequence(state: SectorState) -> u8 {
    match state {
        SectorState::Versioned { sequence, .. } => sequence.wrapping_add(1),
        SectorState::Legacy | SectorState::Unknown => 1,
    }
}

impl core::fmt::Debug for Write<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Write").field("steps", &self.steps).finish_non_exhaustive()
    }
}

/// What firmware does when it finds no valid sector: a default table in DCT1. **All data is gone.**
///
/// Before v0.7.0: erase DCT1, header. From v0.7.0 on: erase DCT1, header (incomplete), version record with version 0,
/// clear `write_incomplete`, erase DCT2.
#[derive(Debug)]
pub struct Initialise {
    generation: Generation,
    done: u8,
    header: Header,
    record: [u8; VersionRecord::LEN],
}

impl Initialise {
    /// Plans it.
    #[must_use]
    pub const fn new(generation: Generation) -> Self {
        let header = match generation {
            Generation::V0_7_0 => Header::DEFAULT_V0_7_0.for_write(1),
            _ => Header::FACTORY,
        };
        let record = VersionRecord {
            magic: VersionRecord::MAGIC,
            usage_flags: 0,
            version: 0,
            crc: 0,
            initial_write: 1,
            sequence: 1,
            padding: [0; 2],
        };
        Self { generation, done: 0, header, record: record.encode() }
    }

    /// The next operation, `None` when the table is there.
    pub fn next_op(&mut self) -> Option<FlashOp<'_>> {
        let sector = SectorId::Dct1;
        let index = self.done;
        self.done = index.saturating_add(1);
        match (index, self.generation) {
            (0, _) => Some(FlashOp::Erase { sector }),
            (1, _) => Some(FlashOp::Program { sector, offset: 0, data: self.header.as_bytes() }),
            (2, Generation::V0_7_0) => {
                Some(FlashOp::Program { sector, offset: VersionRecord::OFFSET, data: &self.record })
            }
            (3, Generation::V0_7_0) => {
                Some(FlashOp::Program { sector, offset: Header::WRITE_INCOMPLETE_AT, data: &[0] })
            }
            (4, Generation::V0_7_0) => Some(FlashOp::Erase { sector: SectorId::Dct2 }),
            _ => None,
        }
    }
}

/// Why a write is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum WriteError {
    /// Ends behind what every firmware survives.
    #[error(
        "write to the application section ends at {end}, and behind {limit} firmware damages other data or hangs; write less or lower"
    )]
    TooLong {
        /// Offset plus length.
        end: usize,
        /// [`WRITE_LIMIT`](super::WRITE_LIMIT).
        limit: usize,
    },
    /// Neither sector is valid.
    #[error("no valid sector in the configuration flash; initialise it first, which starts from empty data")]
    NoCurrentSector,
}
