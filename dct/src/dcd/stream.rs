//! Writes to the container without the sectors in memory.

use super::select::Rules;
use super::steps::{Source, Steps};
use super::{APP_OFFSET, Footer, Generation, Header, SectorState, WriteError};
use crate::crc32::{self, Digest};
use crate::flash::{FlashStep, Reader, SectorId, keep, overlap};

/// A [`Write`](super::Write) that reads the flash in pieces of at most 256 bytes, and then gives the same operations: for a
/// bootloader, which has no room for both sectors and changes them in place.
///
/// Call [`next_step`](Self::next_step) and execute until `None`; give what a [`FlashStep::Read`] asks for to
/// [`handle_read`](Self::handle_read). Both sectors are read once, 128 pieces; the steps behind copy from sector to sector and
/// need nothing back. Stopping before any step is a power cut. It holds some 250 bytes.
///
/// ```
/// use spark_dct::dcd::{Generation, Sectors, StreamWrite};
/// use spark_dct::flash::{FlashStep, READ_LEN, Sector, SectorId};
///
/// fn run(flash: &mut [Sector; 2], mut write: StreamWrite<'_>) -> Result<(), spark_dct::dcd::WriteError> {
///     let mut buffer = [0; READ_LEN];
///     while let Some(step) = write.next_step()? {
///         match step {
///             FlashStep::Read { sector, offset, len } => {
///                 buffer[..len].copy_from_slice(&flash[sector.index()][offset..offset + len]);
///                 write.handle_read(&buffer[..len]);
///             }
///             FlashStep::Erase { sector } => flash[sector.index()].fill(0xFF),
///             FlashStep::Program { sector, offset, data } => program(&mut flash[sector.index()][offset..], data),
///             FlashStep::Copy { from, from_offset, to, to_offset, len } => {
///                 for at in (0..len).step_by(READ_LEN) {
///                     let piece = &mut buffer[..READ_LEN.min(len - at)];
///                     piece.copy_from_slice(&flash[from.index()][from_offset + at..][..piece.len()]);
///                     program(&mut flash[to.index()][to_offset + at..], piece);
///                 }
///             }
///             _ => unreachable!("there are no other steps today"),
///         }
///     }
///     Ok(())
/// }
/// fn program(cells: &mut [u8], data: &[u8]) {
///     cells.iter_mut().zip(data).for_each(|(cell, byte)| *cell &= byte); // NOR flash can only clear bits
/// }
///
/// let mut flash: [Sector; 2] = [[0xFF; 16384]; 2];
/// run(&mut flash, StreamWrite::initialise(Generation::V2))?;
/// run(&mut flash, StreamWrite::new(Generation::V2, 1825, b"1")?)?;
/// assert_eq!(Sectors::new(&flash[0], &flash[1]).current(Generation::V2), Some(SectorId::Dct1));
/// # Ok::<(), spark_dct::dcd::WriteError>(())
/// ```
#[derive(Debug)]
pub struct StreamWrite<'a> {
    generation: Generation,
    stage: Stage<'a>,
}

#[derive(Debug)]
enum Stage<'a> {
    Reading {
        task: Task<'a>,
        reader: Reader,
        seen: [Seen; 2],
    },
    Writing(Steps<'a>),
    /// There is nothing to migrate.
    Nothing,
}

#[derive(Clone, Copy)]
enum Task<'a> {
    /// `start` is in the sector.
    Write {
        start: usize,
        data: &'a [u8],
    },
    Initialise,
    Migrate,
}

impl<'a> StreamWrite<'a> {
    /// Plans a write of `data` at `offset` of the application section. Empty data is no operation, as for the firmware.
    ///
    /// # Errors
    /// [`WriteError::Offset`] and [`WriteError::Length`], as the firmware refuses.
    pub const fn new(generation: Generation, offset: usize, data: &'a [u8]) -> Result<Self, WriteError> {
        match Steps::start(generation, offset, data) {
            Ok(start) => Ok(Self::of(generation, Task::Write { start, data })),
            Err(error) => Err(error),
        }
    }

    /// As [`Write::initialise`](super::Write::initialise): an empty table. **All data is gone.**
    #[must_use]
    pub const fn initialise(generation: Generation) -> Self {
        Self::of(generation, Task::Initialise)
    }

    /// As [`Write::migrate`](super::Write::migrate). Where there is nothing to migrate the steps end with the reads, and
    /// [`target`](Self::target) stays `None`.
    #[must_use]
    pub const fn migrate(generation: Generation) -> Self {
        Self::of(generation, Task::Migrate)
    }

    const fn of(generation: Generation, task: Task<'a>) -> Self {
        let stage = Stage::Reading { task, reader: Reader::new(), seen: [Seen::new(), Seen::new()] };
        Self { generation, stage }
    }

    /// The next step, `None` when the write is complete. A read is repeated until its bytes are there.
    ///
    /// # Errors
    /// [`WriteError::NoCurrentSector`] once both sectors are read, when there is nothing to write to: firmware would
    /// [initialise](Self::initialise) first. Nothing has been changed then.
    pub fn next_step(&mut self) -> Result<Option<FlashStep<'_>>, WriteError> {
        if let Stage::Reading { task, reader, seen } = &self.stage {
            if let Some((sector, offset, len)) = reader.next() {
                return Ok(Some(FlashStep::Read { sector, offset, len }));
            }
            self.stage = steps(self.generation, *task, seen)?.map_or(Stage::Nothing, Stage::Writing);
        }
        match &mut self.stage {
            Stage::Writing(steps) => Ok(steps.next()),
            Stage::Reading { .. } | Stage::Nothing => Ok(None),
        }
    }

    /// Takes the bytes that the last read asked for. They may be fewer, and the rest is asked for again; what is more is not
    /// looked at.
    pub fn handle_read(&mut self, bytes: &[u8]) {
        if let Stage::Reading { task, reader, seen: [one, two] } = &mut self.stage
            && let Some((sector, at, bytes)) = reader.take(bytes)
        {
            let seen = match sector {
                SectorId::Dct1 => one,
                SectorId::Dct2 => two,
            };
            seen.add(at, bytes, *task);
        }
    }

    /// The sector that is current once the write is complete; `None` until both are read, and where nothing is written.
    #[must_use]
    pub const fn target(&self) -> Option<SectorId> {
        match &self.stage {
            Stage::Writing(steps) => Some(steps.target()),
            Stage::Reading { .. } | Stage::Nothing => None,
        }
    }
}

/// `None` where there is nothing to migrate.
fn steps<'a>(
    generation: Generation,
    task: Task<'a>,
    [one, two]: &[Seen; 2],
) -> Result<Option<Steps<'a>>, WriteError> {
    let seen = |id| match id {
        SectorId::Dct1 => one,
        SectorId::Dct2 => two,
    };
    let rules = Rules { header: |id| seen(id).header(), state: |id| seen(id).state() };
    let source = match task {
        Task::Write { start, data } => {
            let from = rules.select(generation).sector.ok_or(WriteError::NoCurrentSector)?;
            Source::Given { from, start, data }
        }
        Task::Initialise => Source::Nothing,
        Task::Migrate => match rules.to_migrate(generation, |id| seen(id).mark == [0, 1]) {
            Some(sector) => Source::Old { sector },
            None => return Ok(None),
        },
    };
    let target = source.target(generation);
    let old_footer = source.from().map(|from| Footer::from_bytes(seen(from).footer));
    let content = || match source {
        Source::Nothing => crc32::digest(),
        _ => seen(target.other()).content.clone(),
    };
    Ok(Some(Steps::new(generation, source, seen(target).is_blank, old_footer, content)))
}

/// What a write has to know of a sector.
struct Seen {
    header: [u8; Header::LEN],
    /// Bytes 8 and 9, which mark a current sector of the other container.
    mark: [u8; 2],
    footer: [u8; Footer::LEN],
    is_blank: bool,
    /// As [`sector_crc`](super::sector_crc).
    crc: Digest,
    /// Over what goes into the other sector if this one is the source.
    content: Digest,
}

impl Seen {
    const fn new() -> Self {
        Seen {
            header: [0xFF; Header::LEN],
            mark: [0xFF; 2],
            footer: [0xFF; Footer::LEN],
            is_blank: true,
            crc: crc32::digest(),
            content: crc32::digest(),
        }
    }

    /// Takes each byte once, in order.
    fn add(&mut self, at: usize, bytes: &[u8], task: Task<'_>) {
        keep(&mut self.header, 0, at, bytes);
        keep(&mut self.mark, Header::LEN, at, bytes);
        keep(&mut self.footer, Footer::OFFSET, at, bytes);
        self.is_blank &= bytes.iter().all(|byte| *byte == 0xFF);
        self.crc.update(overlap(at, bytes, APP_OFFSET..Footer::CRC_AT).1);
        match task {
            Task::Write { start, data } => {
                let end = start + data.len();
                self.content.update(overlap(at, bytes, APP_OFFSET..start).1);
                let (first, old) = overlap(at, bytes, start..end);
                self.content.update(data.get(first..first + old.len()).unwrap_or_default());
                self.content.update(overlap(at, bytes, end..Footer::OFFSET).1);
            }
            Task::Migrate => self.content.update(overlap(at, bytes, Source::OLD).1),
            Task::Initialise => {}
        }
    }

    const fn header(&self) -> Header {
        Header::decode(&self.header)
    }

    fn state(&self) -> SectorState {
        SectorState::of(self.header(), Footer::from_bytes(self.footer), || self.crc.clone().finalize())
    }
}

impl core::fmt::Debug for Seen {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Seen").field("header", &self.header()).finish_non_exhaustive()
    }
}

impl core::fmt::Debug for Task<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // the data may be a private key
        match self {
            Task::Write { start, data } => {
                f.debug_struct("Write").field("start", start).field("len", &data.len()).finish()
            }
            Task::Initialise => f.write_str("Initialise"),
            Task::Migrate => f.write_str("Migrate"),
        }
    }
}
