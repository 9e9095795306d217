//! Writes to the container as sequences of flash operations.

use super::version_record::combine;
use super::{APP_OFFSET, Generation, Header, SectorState, Sectors, VersionRecord, WRITE_LIMIT};
use crate::flash::{FlashOp, SECTOR_SIZE, SectorId};

/// Piece size of v0.7.0 and later when they copy from sector to sector.
const PIECE: usize = 64;

/// A write to the application section, as the firmware of a [`Generation`] does it.
///
/// Call [`next_op`](Self::next_op) and execute until `None`. The machine works on what the sectors held when it was
/// made (give it a copy when the flash is changed in place) and needs nothing back: whether the in-place attempt of
/// v0.4.4 to v0.6.4 will read back right is known beforehand, as flash only clears bits.
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
    from: SectorId,
    generation: Generation,
    /// Start in the sector.
    start: usize,
    data: &'a [u8],
    step: Step,
    header: Header,
    record: [u8; VersionRecord::LEN],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    InPlace,
    EraseOther,
    CopyBefore { at: usize },
    Data,
    CopyAfter { at: usize },
    Header,
    Record,
    ClearWriteIncomplete,
    ClearIsCurrent,
    ClearInitialWrite,
    EraseOld,
    Done,
}

impl<'a> Write<'a> {
    /// Plans a write of `data` at `offset` of the application section.
    ///
    /// # Errors
    /// [`WriteError::TooLong`] when it ends behind [`WRITE_LIMIT`]; [`WriteError::NoCurrentSector`] when there is
    /// nothing to write to.
    pub fn new(
        sectors: Sectors<'a>,
        generation: Generation,
        offset: usize,
        data: &'a [u8],
    ) -> Result<Self, WriteError> {
        let end = offset.saturating_add(data.len());
        if end > WRITE_LIMIT {
            return Err(WriteError::TooLong { end, limit: WRITE_LIMIT });
        }
        let from = sectors.current(generation).ok_or(WriteError::NoCurrentSector)?;
        let incomplete = u8::from(generation == Generation::V0_7_0);
        let mut write = Write {
            sectors,
            from,
            generation,
            start: APP_OFFSET + offset,
            data,
            step: Step::Done,
            header: Header::of_sector(sectors.sector(from)).for_write(incomplete),
            record: [0xFF; VersionRecord::LEN],
        };
        write.step = match generation {
            Generation::V0_4_0 if write.present() == data => Step::Done,
            Generation::V0_4_0 => write.erase_other_or_copy(),
            Generation::V0_4_4 => Step::InPlace,
            Generation::V0_7_0 => {
                write.record = write.new_record().encode();
                Step::EraseOther
            }
        };
        Ok(write)
    }

    /// The next operation, `None` when the write is complete.
    pub fn next_op(&mut self) -> Option<FlashOp<'_>> {
        let other = self.from.other();
        // copying nothing (offset at the very edge) is skipped, so a step may have to be looked at twice
        loop {
            let step = self.step;
            self.step = self.after(step);
            return Some(match step {
                Step::InPlace => FlashOp::Program { sector: self.from, offset: self.start, data: self.data },
                Step::EraseOther => FlashOp::Erase { sector: other },
                Step::CopyBefore { at } | Step::CopyAfter { at } => {
                    let data = self.source(at..self.piece_end(step, at));
                    if data.is_empty() {
                        continue;
                    }
                    FlashOp::Program { sector: other, offset: at, data }
                }
                Step::Data if self.data.is_empty() => continue,
                Step::Data => FlashOp::Program { sector: other, offset: self.start, data: self.data },
                Step::Header => FlashOp::Program { sector: other, offset: 0, data: self.header.as_bytes() },
                Step::Record => {
                    FlashOp::Program { sector: other, offset: VersionRecord::OFFSET, data: &self.record }
                }
                Step::ClearWriteIncomplete => {
                    FlashOp::Program { sector: other, offset: Header::WRITE_INCOMPLETE_AT, data: &[0] }
                }
                Step::ClearIsCurrent => {
                    FlashOp::Program { sector: self.from, offset: Header::IS_CURRENT_AT, data: &[0] }
                }
                Step::ClearInitialWrite => FlashOp::Program {
                    sector: self.from,
                    offset: VersionRecord::INITIAL_WRITE_AT,
                    data: &[0],
                },
                Step::EraseOld => FlashOp::Erase { sector: self.from },
                Step::Done => return None,
            });
        }
    }

    /// The sector that is current once the write is complete.
    #[must_use]
    pub fn target(&self) -> SectorId {
        match self.generation {
            Generation::V0_4_0 if self.present() == self.data => self.from,
            Generation::V0_4_4 if self.fits_in_place() => self.from,
            _ => self.from.other(),
        }
    }

    /// Whether this write passes through a state in which the stored bytes are neither old nor new but their
    /// bitwise AND: a firmware of v0.4.4 to v0.6.4 that has to set bits again.
    #[must_use]
    pub fn is_hazardous(&self) -> bool {
        self.generation == Generation::V0_4_4 && !self.fits_in_place()
    }

    fn after(&self, step: Step) -> Step {
        let new = self.generation == Generation::V0_7_0;
        match step {
            Step::InPlace if self.fits_in_place() => Step::Done,
            Step::InPlace => self.erase_other_or_copy(),
            Step::EraseOther => Step::CopyBefore { at: Header::LEN },
            Step::CopyBefore { at } => match self.piece_end(step, at) {
                end if end >= self.start => Step::Data,
                end => Step::CopyBefore { at: end },
            },
            Step::Data => Step::CopyAfter { at: self.end() },
            Step::CopyAfter { at } => match self.piece_end(step, at) {
                end if end >= self.copy_limit() => Step::Header,
                end => Step::CopyAfter { at: end },
            },
            Step::Header if new => Step::Record,
            Step::Header => Step::EraseOld,
            Step::Record => Step::ClearWriteIncomplete,
            Step::ClearWriteIncomplete => Step::ClearIsCurrent,
            Step::ClearIsCurrent => Step::ClearInitialWrite,
            Step::ClearInitialWrite | Step::EraseOld | Step::Done => Step::Done,
        }
    }

    fn end(&self) -> usize {
        self.start + self.data.len()
    }

    /// End of the bytes that are copied: the new firmware writes its own version record.
    fn copy_limit(&self) -> usize {
        if self.generation == Generation::V0_7_0 { VersionRecord::OFFSET } else { SECTOR_SIZE }
    }

    fn piece_end(&self, step: Step, at: usize) -> usize {
        let limit = if matches!(step, Step::CopyBefore { .. }) { self.start } else { self.copy_limit() };
        if self.generation == Generation::V0_7_0 { limit.min(at + PIECE) } else { limit }
    }

    fn source(&self, range: core::ops::Range<usize>) -> &'a [u8] {
        self.sectors.sector(self.from).get(range).unwrap_or(&[])
    }

    /// What the sector holds where the data will go.
    fn present(&self) -> &'a [u8] {
        self.source(self.start..self.end())
    }

    fn fits_in_place(&self) -> bool {
        self.present().iter().zip(self.data).all(|(old, new)| old & new == *new)
    }

    fn erase_other_or_copy(&self) -> Step {
        if self.sectors.sector(self.from.other()).iter().all(|byte| *byte == 0xFF) {
            Step::CopyBefore { at: Header::LEN }
        } else {
            Step::EraseOther
        }
    }

    fn new_record(&self) -> VersionRecord {
        let sequence = match self.sectors.state(self.from) {
            SectorState::Versioned { sequence, .. } => sequence.wrapping_add(1),
            SectorState::Legacy | SectorState::Unknown => 1,
        };
        let record = VersionRecord {
            magic: VersionRecord::MAGIC,
            usage_flags: 0,
            version: VersionRecord::CURRENT,
            crc: 0,
            initial_write: 0,
            sequence,
            padding: [0; 2],
        };
        let source = self.sectors.sector(self.from);
        let crc = combine(&self.header, record, source, self.start, self.data);
        VersionRecord { crc, ..record }
    }
}

impl core::fmt::Debug for Write<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Write")
            .field("generation", &self.generation)
            .field("from", &self.from)
            .field("start", &self.start)
            .field("len", &self.data.len())
            .field("step", &self.step)
            .finish_non_exhaustive()
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
        /// [`WRITE_LIMIT`].
        limit: usize,
    },
    /// Neither sector is valid.
    #[error("no valid sector in the configuration flash; initialise it first, which starts from empty data")]
    NoCurrentSector,
}
