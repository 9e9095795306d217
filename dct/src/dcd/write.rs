//! Writes to the container as sequences of flash operations.

use super::{APP_OFFSET, Footer, Generation, Header, Seal, Sectors, WATERMARK};
use crate::crc32;
use crate::flash::{FlashOp, SECTOR_SIZE, SectorId};
use crate::wiced;

/// A write to the application section, an initialisation or a migration, as the firmware of a [`Generation`] does it.
///
/// Call [`next_op`](Self::next_op) and execute until `None`. The machine works on what the sectors held when it was made
/// (give it a copy when the flash is changed in place) and needs nothing back.
///
/// | generation | operations of a write |
/// |---|---|
/// | v1 | erase other (unless blank), copy before, data, copy rest to 16384, header, old seal cleared |
/// | v2 | erase other (unless blank), copy before, data, copy rest to 16352, footer, CRC, header, old seal replaced |
///
/// There is no comparison: equal data is written too. v1 copies a footer of v2 as it is and so leaves a wrong CRC; v2
/// does not look at it as long as the other sector's seal is the cleared one of v1.
pub struct Write<'a> {
    sectors: Sectors<'a>,
    target: SectorId,
    /// The sector that is copied, and whose seal is changed at the end.
    from: Option<SectorId>,
    generation: Generation,
    /// Start in the sector.
    start: usize,
    data: &'a [u8],
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

impl<'a> Write<'a> {
    /// Plans a write of `data` at `offset` of the application section. Empty data is no operation, as for the firmware.
    ///
    /// # Errors
    /// [`WriteError::Offset`] and [`WriteError::Length`], as the firmware refuses; [`WriteError::NoCurrentSector`] when
    /// there is nothing to write to: firmware would [initialise](Self::initialise) first.
    pub fn new(
        sectors: Sectors<'a>,
        generation: Generation,
        offset: usize,
        data: &'a [u8],
    ) -> Result<Self, WriteError> {
        let limit = generation.app_len();
        if offset >= limit {
            return Err(WriteError::Offset { offset, limit });
        }
        let end = offset.saturating_add(data.len());
        if end > limit {
            return Err(WriteError::Length { end, limit });
        }
        let from = sectors.current(generation).ok_or(WriteError::NoCurrentSector)?;
        let mut write = Self::plan(sectors, generation, from.other(), Some(from), offset, data);
        if data.is_empty() {
            write.target = from;
            write.step = Step::Done;
        }
        Ok(write)
    }

    /// What firmware does when it finds no valid sector: an empty table, v1 in DCT1, v2 in DCT2. **All data is gone.**
    #[must_use]
    pub fn initialise(sectors: Sectors<'a>, generation: Generation) -> Self {
        let target = match generation {
            Generation::V1 => SectorId::Dct1,
            Generation::V2 => SectorId::Dct2,
        };
        Self::plan(sectors, generation, target, None, 0, &[])
    }

    /// What firmware does at its first start over a table of the other container: the application section from 7548 on
    /// of the sector that is current there (bytes 8 and 9 are 00 01; nothing else is looked at) goes to the other sector.
    /// `None` when there is a valid sector already, or nothing to migrate.
    #[must_use]
    pub fn migrate(sectors: Sectors<'a>, generation: Generation) -> Option<Self> {
        let both = [SectorId::Dct1, SectorId::Dct2];
        let valid = |id: &SectorId| {
            let header = Header::of_sector(sectors.sector(*id));
            match generation {
                Generation::V1 => header.is_valid_v1(),
                Generation::V2 => header.is_valid_v2(),
            }
        };
        if both.iter().any(valid) {
            return None;
        }
        let old = both.into_iter().find(|id| sectors.sector(*id).get(8..10) == Some(&[0, 1]))?;
        let data = sectors.sector(old).get(wiced::APP_OFFSET..)?;
        Some(Self::plan(sectors, generation, old.other(), None, 0, data))
    }

    fn plan(
        sectors: Sectors<'a>,
        generation: Generation,
        target: SectorId,
        from: Option<SectorId>,
        offset: usize,
        data: &'a [u8],
    ) -> Self {
        let old_seal = match generation {
            Generation::V1 => Seal::Cleared,
            Generation::V2 => Seal::Replaced,
        };
        let footer = from.map_or(Footer::FIRST, |from| Footer::of_sector(sectors.sector(from)).next());
        let mut write = Write {
            sectors,
            target,
            from,
            generation,
            start: APP_OFFSET + offset,
            data,
            step: Step::EraseTarget,
            header: Header::VALID.encode(),
            old_header: Header { watermark: WATERMARK, seal: old_seal }.encode(),
            footer,
        };
        if generation == Generation::V2 {
            write.footer = footer.with_crc(write.crc());
        }
        write
    }

    /// The next operation, `None` when the write is complete.
    pub fn next_op(&mut self) -> Option<FlashOp<'_>> {
        // what would program nothing is no operation, so a step may have to be looked at twice
        loop {
            let step = self.step;
            self.step = self.after(step);
            match step {
                Step::Done => return None,
                Step::EraseTarget if self.is_target_blank() => {}
                Step::EraseTarget => return Some(FlashOp::Erase { sector: self.target }),
                _ if self.program(step).2.is_empty() => {}
                _ => {
                    let (sector, offset, data) = self.program(step);
                    return Some(FlashOp::Program { sector, offset, data });
                }
            }
        }
    }

    /// Sector, offset and bytes that a step programs.
    fn program(&self, step: Step) -> (SectorId, usize, &[u8]) {
        let target = self.target;
        match step {
            Step::CopyBefore => (target, APP_OFFSET, self.copied(APP_OFFSET..self.start)),
            Step::Data => (target, self.start, self.data),
            Step::CopyAfter => (target, self.end(), self.copied(self.end()..self.copy_limit())),
            Step::Footer => (target, Footer::OFFSET, self.footer.without_crc()),
            Step::Crc => (target, Footer::CRC_AT, self.footer.crc_bytes()),
            Step::Header => (target, 0, &self.header),
            Step::OldHeader => match self.from {
                Some(from) => (from, 0, &self.old_header),
                None => (target, 0, &[]),
            },
            Step::EraseTarget | Step::Done => (target, 0, &[]),
        }
    }

    fn is_target_blank(&self) -> bool {
        self.sectors.sector(self.target).iter().all(|byte| *byte == 0xFF)
    }

    /// The sector that is current once the write is complete.
    #[must_use]
    pub const fn target(&self) -> SectorId {
        self.target
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

    fn end(&self) -> usize {
        self.start + self.data.len()
    }

    fn copy_limit(&self) -> usize {
        match self.generation {
            Generation::V1 => SECTOR_SIZE,
            Generation::V2 => Footer::OFFSET,
        }
    }

    /// Bytes that come from the old sector; none when there is no old one.
    fn copied(&self, range: core::ops::Range<usize>) -> &'a [u8] {
        self.from.and_then(|from| self.sectors.sector(from).get(range)).unwrap_or(&[])
    }

    /// CRC of the sector that the operations make.
    fn crc(&self) -> u32 {
        let mut digest = crc32::digest();
        digest.update(self.copied(APP_OFFSET..self.start));
        digest.update(self.data);
        if self.from.is_some() {
            digest.update(self.copied(self.end()..Footer::OFFSET));
        } else {
            let blank = [0xFF; 64];
            let mut at = self.end();
            while let Some(rest @ 1..) = Footer::OFFSET.checked_sub(at) {
                let part = blank.get(..rest).unwrap_or(&blank);
                digest.update(part);
                at += part.len();
            }
        }
        digest.update(self.footer.without_crc());
        digest.finalize()
    }
}

impl core::fmt::Debug for Write<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Write")
            .field("generation", &self.generation)
            .field("from", &self.from)
            .field("target", &self.target)
            .field("start", &self.start)
            .field("len", &self.data.len())
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

/// Why a write is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum WriteError {
    /// Starts behind the section. The firmware's `DCD_INVALID_OFFSET`, 1.
    #[error("write starts at {offset} but the application section has {limit} bytes; write lower")]
    Offset {
        /// Start of the write.
        offset: usize,
        /// Length of the section.
        limit: usize,
    },
    /// Ends behind the section. The firmware's `DCD_INVALID_LENGTH`, 2.
    #[error("write ends at {end} but the application section has {limit} bytes; write less or lower")]
    Length {
        /// Offset plus length.
        end: usize,
        /// Length of the section.
        limit: usize,
    },
    /// Neither sector is valid.
    #[error("no valid sector in the configuration flash; initialise it first, which starts from empty data")]
    NoCurrentSector,
}

impl WriteError {
    /// The number that the firmware returns for it.
    #[must_use]
    pub const fn code(&self) -> Option<u8> {
        match self {
            WriteError::Offset { .. } => Some(1),
            WriteError::Length { .. } => Some(2),
            WriteError::NoCurrentSector => None,
        }
    }
}
