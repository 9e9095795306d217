//! Writes to the container as sequences of flash operations.

use super::select::Rules;
use super::steps::{Source, Steps};
use super::{APP_OFFSET, Footer, Generation, Header, Sectors};
use crate::crc32;
use crate::flash::{FlashOp, SectorId};

/// A write to the application section, an initialisation or a migration, as the firmware of a [`Generation`] does it.
///
/// Call [`next_op`](Self::next_op) and execute until `None`. The machine works on what the sectors held when it was made
/// (give it a copy when the flash is changed in place) and needs nothing back. Where there is no room for a copy,
/// [`StreamWrite`](super::StreamWrite) gives the same operations and reads the flash in pieces.
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
    steps: Steps<'a>,
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
        let start = Steps::start(generation, offset, data)?;
        let from = sectors.current(generation).ok_or(WriteError::NoCurrentSector)?;
        Ok(Self::plan(sectors, generation, Source::Given { from, start, data }))
    }

    /// What firmware does when it finds no valid sector: an empty table, v1 in DCT1, v2 in DCT2. **All data is gone.**
    #[must_use]
    pub fn initialise(sectors: Sectors<'a>, generation: Generation) -> Self {
        Self::plan(sectors, generation, Source::Nothing)
    }

    /// What firmware does at its first start over a table of the other container: the application section from 7548 on
    /// of the sector that is current there (bytes 8 and 9 are 00 01; nothing else is looked at) goes to the other sector.
    /// `None` when there is a valid sector already, or nothing to migrate.
    #[must_use]
    pub fn migrate(sectors: Sectors<'a>, generation: Generation) -> Option<Self> {
        let rules =
            Rules { header: |id| Header::of_sector(sectors.sector(id)), state: |id| sectors.state(id) };
        let is_current = |id| sectors.sector(id).get(8..10) == Some(&[0, 1]);
        let old = rules.to_migrate(generation, is_current)?;
        Some(Self::plan(sectors, generation, Source::Old { sector: old }))
    }

    fn plan(sectors: Sectors<'a>, generation: Generation, source: Source<'a>) -> Self {
        let target = source.target(generation);
        let is_blank = sectors.sector(target).iter().all(|byte| *byte == 0xFF);
        let old_footer = source.from().map(|from| Footer::of_sector(sectors.sector(from)));
        let content = || {
            let mut digest = crc32::digest();
            let mut add = |id, range| digest.update(sectors.sector(id).get(range).unwrap_or(&[]));
            match source {
                Source::Given { from, start, data } => {
                    add(from, APP_OFFSET..start);
                    digest.update(data);
                    let rest = start + data.len()..Footer::OFFSET;
                    digest.update(sectors.sector(from).get(rest).unwrap_or(&[]));
                }
                Source::Old { sector } => add(sector, Source::OLD),
                Source::Nothing => {}
            }
            digest
        };
        Write { sectors, steps: Steps::new(generation, source, is_blank, old_footer, content) }
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
}

impl core::fmt::Debug for Write<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Write").field("steps", &self.steps).finish_non_exhaustive()
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
