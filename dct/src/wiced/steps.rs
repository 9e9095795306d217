//! The order of the operations of a write.

use super::{APP_OFFSET, Generation, Header, VersionRecord, WRITE_LIMIT, WriteError};
use crate::flash::{FlashStep, SECTOR_SIZE, SectorId};

/// Piece size of v0.7.0 and later when they copy from sector to sector.
const PIECE: usize = 64;

/// What is in the flash before the write.
pub(super) struct Present {
    /// Header of the current sector.
    pub(super) header: Header,
    /// Whether the data is there already.
    pub(super) is_equal: bool,
    /// Whether the data can be programmed over what is there.
    pub(super) is_programmable: bool,
    /// Whether the other sector is erased.
    pub(super) is_other_blank: bool,
}

/// Erases, programs and copies, once it is known what is in the flash.
pub(super) struct Steps<'a> {
    generation: Generation,
    from: SectorId,
    target: SectorId,
    is_other_blank: bool,
    is_programmable: bool,
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

impl<'a> Steps<'a> {
    /// Where the data starts in the sector.
    pub(super) const fn start(offset: usize, data: &[u8]) -> Result<usize, WriteError> {
        let end = offset.saturating_add(data.len());
        if end > WRITE_LIMIT {
            return Err(WriteError::TooLong { end, limit: WRITE_LIMIT });
        }
        Ok(APP_OFFSET + offset)
    }

    /// `crc` gives the new sector's CRC for its header and record.
    pub(super) fn new(
        generation: Generation,
        from: SectorId,
        start: usize,
        data: &'a [u8],
        present: Present,
        sequence: u8,
        crc: impl FnOnce(&Header, VersionRecord) -> u32,
    ) -> Self {
        let header = present.header.for_write(u8::from(generation == Generation::V0_7_0));
        let stays = match generation {
            Generation::V0_4_0 => present.is_equal,
            Generation::V0_4_4 => present.is_programmable,
            Generation::V0_7_0 => false,
        };
        let mut steps = Steps {
            generation,
            from,
            target: if stays { from } else { from.other() },
            is_other_blank: present.is_other_blank,
            is_programmable: present.is_programmable,
            start,
            data,
            step: Step::Done,
            header,
            record: [0xFF; VersionRecord::LEN],
        };
        steps.step = match generation {
            Generation::V0_4_0 if stays => Step::Done,
            Generation::V0_4_0 => steps.erase_other_or_copy(),
            Generation::V0_4_4 => Step::InPlace,
            Generation::V0_7_0 => {
                let record = VersionRecord {
                    magic: VersionRecord::MAGIC,
                    usage_flags: 0,
                    version: VersionRecord::CURRENT,
                    crc: 0,
                    initial_write: 0,
                    sequence,
                    padding: [0; 2],
                };
                steps.record = VersionRecord { crc: crc(&steps.header, record), ..record }.encode();
                Step::EraseOther
            }
        };
        steps
    }

    pub(super) const fn target(&self) -> SectorId {
        self.target
    }

    pub(super) const fn is_hazardous(&self) -> bool {
        matches!(self.generation, Generation::V0_4_4) && !self.is_programmable
    }

    /// `None` when the write is complete; never a read.
    pub(super) fn next(&mut self) -> Option<FlashStep<'_>> {
        let (from, other) = (self.from, self.from.other());
        let program = |sector, offset, data| Some(FlashStep::Program { sector, offset, data });
        // copying nothing (offset at the very edge) is skipped, so a step may have to be looked at twice
        loop {
            let step = self.step;
            self.step = self.after(step);
            return match step {
                Step::InPlace => program(from, self.start, self.data),
                Step::EraseOther => Some(FlashStep::Erase { sector: other }),
                Step::CopyBefore { at } | Step::CopyAfter { at } => {
                    match self.piece_end(step, at).saturating_sub(at) {
                        0 => continue,
                        len => Some(FlashStep::Copy { from, from_offset: at, to: other, to_offset: at, len }),
                    }
                }
                Step::Data if self.data.is_empty() => continue,
                Step::Data => program(other, self.start, self.data),
                Step::Header => program(other, 0, self.header.as_bytes()),
                Step::Record => program(other, VersionRecord::OFFSET, &self.record),
                Step::ClearWriteIncomplete => program(other, Header::WRITE_INCOMPLETE_AT, &[0]),
                Step::ClearIsCurrent => program(from, Header::IS_CURRENT_AT, &[0]),
                Step::ClearInitialWrite => program(from, VersionRecord::INITIAL_WRITE_AT, &[0]),
                Step::EraseOld => Some(FlashStep::Erase { sector: from }),
                Step::Done => None,
            };
        }
    }

    fn after(&self, step: Step) -> Step {
        let new = self.generation == Generation::V0_7_0;
        match step {
            Step::InPlace if self.is_programmable => Step::Done,
            Step::InPlace => self.erase_other_or_copy(),
            Step::EraseOther => Step::CopyBefore { at: Header::LEN },
            Step::CopyBefore { at } => match self.piece_end(step, at) {
                end if end >= self.start => Step::Data,
                end => Step::CopyBefore { at: end },
            },
            Step::Data => Step::CopyAfter { at: self.start + self.data.len() },
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

    /// End of the bytes that are copied: the new firmware writes its own version record.
    fn copy_limit(&self) -> usize {
        if self.generation == Generation::V0_7_0 { VersionRecord::OFFSET } else { SECTOR_SIZE }
    }

    fn piece_end(&self, step: Step, at: usize) -> usize {
        let limit = if matches!(step, Step::CopyBefore { .. }) { self.start } else { self.copy_limit() };
        if self.generation == Generation::V0_7_0 { limit.min(at + PIECE) } else { limit }
    }

    const fn erase_other_or_copy(&self) -> Step {
        if self.is_other_blank { Step::CopyBefore { at: Header::LEN } } else { Step::EraseOther }
    }
}

impl core::fmt::Debug for Steps<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Steps")
            .field("generation", &self.generation)
            .field("from", &self.from)
            .field("start", &self.start)
            .field("len", &self.data.len())
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}
