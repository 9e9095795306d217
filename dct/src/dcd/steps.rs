//! The order of the operations of a write, an initialisation or a migration.

use super::{APP_OFFSET, Footer, Generation, Header, Seal, WATERMARK, WriteError};
use crate::crc32::Digest;
use crate::flash::{FlashStep, SECTOR_SIZE, SectorId};
use crate::wiced;
use core::ops::Range;

/// Where the content of the new sector comes from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// The sector `from`, with `data` at `start` of it.
    Given { from: SectorId, start: usize, data: &'a [u8] },
    /// The application section of a sector of the other container.
    Old { sector: SectorId },
    /// An empty table.
    Nothing,
}

impl Source<'_> {
    /// The application section in a sector of the other container.
    pub(super) const OLD: Range<usize> = wiced::APP_OFFSET..SECTOR_SIZE;

    /// The sector that is written.
    pub(super) const fn target(&self, generation: Generation) -> SectorId {
        match (self, generation) {
            (Source::Given { from: old, .. } | Source::Old { sector: old }, _) => old.other(),
            (Source::Nothing, Generation::V1) => SectorId::Dct1,
            (Source::Nothing, Generation::V2) => SectorId::Dct2,
        }
    }

    /// The sector that was current before, and whose seal is changed at the end.
    pub(super) const fn from(&self) -> Option<SectorId> {
        match self {
            Source::Given { from, .. } => Some(*from),
            _ => None,
        }
    }
}

/// Erases, programs and copies, once it is known what is in the flash.
pub(super) struct Steps<'a> {
    generation: Generation,
    source: Source<'a>,
    target: SectorId,
    is_target_blank: bool,
    step: Step,
    header: [u8; Header::LEN],
    old_header: [u8; Header::LEN],
    footer: Footer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    EraseTarget,
    CopyBefore,
    Data,
    CopyAfter,
    Footer,
    Crc,
    Header,
    OldHeader,
    Done,
}

impl<'a> Steps<'a> {
    /// Where the data starts in the sector.
    pub(super) const fn start(
        generation: Generation,
        offset: usize,
        data: &[u8],
    ) -> Result<usize, WriteError> {
        let limit = generation.app_len();
        if offset >= limit {
            return Err(WriteError::Offset { offset, limit });
        }
        let end = offset.saturating_add(data.len());
        if end > limit {
            return Err(WriteError::Length { end, limit });
        }
        Ok(APP_OFFSET + offset)
    }

    /// `content` gives the CRC over what the source has, without the blank bytes behind it and the footer.
    pub(super) fn new(
        generation: Generation,
        source: Source<'a>,
        is_target_blank: bool,
        old_footer: Option<Footer>,
        content: impl FnOnce() -> Digest,
    ) -> Self {
        let old_seal = match generation {
            Generation::V1 => Seal::Cleared,
            Generation::V2 => Seal::Replaced,
        };
        let mut footer = old_footer.map_or(Footer::FIRST, |footer| footer.next());
        if generation == Generation::V2 {
            let mut digest = content();
            let end = match source {
                Source::Given { .. } => Footer::OFFSET,
                Source::Old { .. } => APP_OFFSET + Source::OLD.len(),
                Source::Nothing => APP_OFFSET,
            };
            (end..Footer::OFFSET).for_each(|_| digest.update(&[0xFF]));
            digest.update(footer.without_crc());
            footer = footer.with_crc(digest.finalize());
        }
        let mut steps = Steps {
            generation,
            target: source.target(generation),
            source,
            is_target_blank,
            step: Step::EraseTarget,
            header: Header::VALID.encode(),
            old_header: Header { watermark: WATERMARK, seal: old_seal }.encode(),
            footer,
        };
        if let Source::Given { from, data: [], .. } = source {
            steps.target = from;
            steps.step = Step::Done;
        }
        steps
    }

    pub(super) const fn target(&self) -> SectorId {
        self.target
    }

    /// `None` when the write is complete; never a read.
    pub(super) fn next(&mut self) -> Option<FlashStep<'_>> {
        // what would program nothing is no operation, so a step may have to be looked at twice
        loop {
            let step = self.step;
            self.step = self.after(step);
            match step {
                Step::Done => return None,
                Step::EraseTarget if self.is_target_blank => {}
                Step::EraseTarget => return Some(FlashStep::Erase { sector: self.target }),
                _ if self.is_empty(step) => {}
                _ => return self.execute(step),
            }
        }
    }

    fn is_empty(&self, step: Step) -> bool {
        match self.execute(step) {
            Some(FlashStep::Program { data, .. }) => data.is_empty(),
            Some(FlashStep::Copy { len, .. }) => len == 0,
            _ => true,
        }
    }

    fn execute(&self, step: Step) -> Option<FlashStep<'_>> {
        let to = self.target;
        let program = |sector, offset, data| Some(FlashStep::Program { sector, offset, data });
        let copy = |from, from_offset, to_offset, len| {
            Some(FlashStep::Copy { from, from_offset, to, to_offset, len })
        };
        match (step, self.source) {
            (Step::CopyBefore, Source::Given { from, start, .. }) => {
                copy(from, APP_OFFSET, APP_OFFSET, start - APP_OFFSET)
            }
            (Step::Data, Source::Given { start, data, .. }) => program(to, start, data),
            (Step::Data, Source::Old { sector }) => {
                copy(sector, Source::OLD.start, APP_OFFSET, Source::OLD.len())
            }
            (Step::CopyAfter, Source::Given { from, start, data }) => {
                let end = start + data.len();
                copy(from, end, end, self.copy_limit().saturating_sub(end))
            }
            (Step::Footer, _) => program(to, Footer::OFFSET, self.footer.without_crc()),
            (Step::Crc, _) => program(to, Footer::CRC_AT, self.footer.crc_bytes()),
            (Step::Header, _) => program(to, 0, &self.header),
            (Step::OldHeader, source) => program(source.from()?, 0, &self.old_header),
            _ => None,
        }
    }

    fn after(&self, step: Step) -> Step {
        match step {
            Step::EraseTarget => Step::CopyBefore,
            Step::CopyBefore => Step::Data,
            Step::Data => Step::CopyAfter,
            Step::CopyAfter if self.generation == Generation::V2 => Step::Footer,
            Step::CopyAfter => Step::Header,
            Step::Footer => Step::Crc,
            Step::Crc => Step::Header,
            Step::Header => Step::OldHeader,
            Step::OldHeader | Step::Done => Step::Done,
        }
    }

    fn copy_limit(&self) -> usize {
        match self.generation {
            Generation::V1 => SECTOR_SIZE,
            Generation::V2 => Footer::OFFSET,
        }
    }
}

impl core::fmt::Debug for Steps<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Steps")
            .field("generation", &self.generation)
            .field("from", &self.source.from())
            .field("target", &self.target)
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}
