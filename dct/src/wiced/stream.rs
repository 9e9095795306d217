//! Writes to the container without the sectors in memory.

use super::select::Rules;
use super::steps::{Present, Steps};
use super::version_record::{Pieces, crc_of};
use super::write::next_sequence;
use super::{Generation, Header, SectorState, VersionRecord, WriteError};
use crate::flash::{FlashStep, Reader, SectorId, keep, overlap};

/// A [`Write`](super::Write) that reads the flash in pieces of at most 256 bytes, and then gives the same operations: for a
/// bootloader, which has no room for both sectors and changes them in place.
///
/// Call [`next_step`](Self::next_step) and execute until `None`; give what a [`FlashStep::Read`] asks for to
/// [`handle_read`](Self::handle_read). Both sectors are read once, 128 pieces; the steps behind copy from sector to sector and
/// need nothing back. Stopping before any step is a power cut. It holds some 1100 bytes.
///
/// ```
/// use spark_dct::flash::{FlashStep, READ_LEN};
/// use spark_dct::wiced::{Generation, Sector, SectorId, Sectors, StreamWrite, factory_sector};
/// let mut flash: [Sector; 2] = [[0xFF; 16384]; 2];
/// factory_sector(&[0xFF; 4258], &mut flash[0])?;
///
/// fn program(cells: &mut [u8], data: &[u8]) {
///     cells.iter_mut().zip(data).for_each(|(cell, byte)| *cell &= byte); // NOR flash can only clear bits
/// }
/// let mut buffer = [0; READ_LEN];
/// let mut write = StreamWrite::new(Generation::V0_7_0, 1825, b"1")?;
/// while let Some(step) = write.next_step()? {
///     match step {
///         FlashStep::Read { sector, offset, len } => {
///             buffer[..len].copy_from_slice(&flash[sector.index()][offset..offset + len]);
///             write.handle_read(&buffer[..len]);
///         }
///         FlashStep::Erase { sector } => flash[sector.index()].fill(0xFF),
///         FlashStep::Program { sector, offset, data } => program(&mut flash[sector.index()][offset..], data),
///         FlashStep::Copy { from, from_offset, to, to_offset, len } => {
///             for at in (0..len).step_by(READ_LEN) {
///                 let piece = &mut buffer[..READ_LEN.min(len - at)];
///                 piece.copy_from_slice(&flash[from.index()][from_offset + at..][..piece.len()]);
///                 program(&mut flash[to.index()][to_offset + at..], piece);
///             }
///         }
///         _ => unreachable!("there are no other steps today"),
///     }
/// }
/// let after = Sectors::new(&flash[0], &flash[1]);
/// assert_eq!(after.current(Generation::V0_7_0), Some(SectorId::Dct2));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct StreamWrite<'a> {
    generation: Generation,
    /// Start in the sector.
    start: usize,
    data: &'a [u8],
    stage: Stage<'a>,
}

#[allow(clippy::large_enum_variant, reason = "there is no heap")]
#[derive(Debug)]
enum Stage<'a> {
    Reading { reader: Reader, seen: [Seen; 2] },
    Writing(Steps<'a>),
}

impl<'a> StreamWrite<'a> {
    /// Plans a write of `data` at `offset` of the application section.
    ///
    /// # Errors
    /// [`WriteError::TooLong`] when it ends behind [`WRITE_LIMIT`](super::WRITE_LIMIT).
    pub const fn new(generation: Generation, offset: usize, data: &'a [u8]) -> Result<Self, WriteError> {
        match Steps::start(offset, data) {
            Ok(start) => {
                let stage = Stage::Reading { reader: Reader::new(), seen: [Seen::NOTHING; 2] };
                Ok(Self { generation, start, data, stage })
            }
            Err(error) => Err(error),
        }
    }

    /// The next step, `None` when the write is complete. A read is repeated until its bytes are there.
    ///
    /// # Errors
    /// [`WriteError::NoCurrentSector`] once both sectors are read, when there is nothing to write to. Nothing has been changed
    /// then.
    pub fn next_step(&mut self) -> Result<Option<FlashStep<'_>>, WriteError> {
        if let Stage::Reading { reader, seen } = &self.stage {
            if let Some((sector, offset, len)) = reader.next() {
                return Ok(Some(FlashStep::Read { sector, offset, len }));
            }
            self.stage = Stage::Writing(self.steps(seen)?);
        }
        match &mut self.stage {
            Stage::Writing(steps) => Ok(steps.next()),
            Stage::Reading { .. } => Ok(None),
        }
    }

    /// Takes the bytes that the last read asked for. They may be fewer, and the rest is asked for again; what is more is not
    /// looked at.
    pub fn handle_read(&mut self, bytes: &[u8]) {
        if let Stage::Reading { reader, seen: [one, two] } = &mut self.stage
            && let Some((sector, at, bytes)) = reader.take(bytes)
        {
            let seen = match sector {
                SectorId::Dct1 => one,
                SectorId::Dct2 => two,
            };
            seen.add(at, bytes, self.start, self.data);
        }
    }

    /// The sector that is current once the write is complete; `None` until both are read.
    #[must_use]
    pub const fn target(&self) -> Option<SectorId> {
        match &self.stage {
            Stage::Writing(steps) => Some(steps.target()),
            Stage::Reading { .. } => None,
        }
    }

    fn steps(&self, [one, two]: &[Seen; 2]) -> Result<Steps<'a>, WriteError> {
        let seen = |id| match id {
            SectorId::Dct1 => one,
            SectorId::Dct2 => two,
        };
        let rules = Rules { header: |id| Header::from_bytes(seen(id).header), state: |id| seen(id).state() };
        let from = rules.select(self.generation).sector.ok_or(WriteError::NoCurrentSector)?;
        let old = seen(from);
        let present = Present {
            header: Header::from_bytes(old.header),
            is_equal: old.is_equal,
            is_programmable: old.is_programmable,
            is_other_blank: seen(from.other()).is_blank,
        };
        let crc = |header: &Header, record| {
            let mut pieces = old.around;
            pieces.add(self.start, self.data);
            crc_of(header, record, &pieces)
        };
        let sequence = next_sequence(old.state());
        Ok(Steps::new(self.generation, from, self.start, self.data, present, sequence, crc))
    }
}

/// What a write has to know of a sector.
struct Seen {
    header: [u8; Header::LEN],
    record: [u8; VersionRecord::LEN],
    is_blank: bool,
    is_equal: bool,
    is_programmable: bool,
    pieces: Pieces,
    /// Without the bytes in whose place the data goes.
    around: Pieces,
}

impl Seen {
    const NOTHING: Seen = Seen {
        header: [0xFF; Header::LEN],
        record: [0xFF; VersionRecord::LEN],
        is_blank: true,
        is_equal: true,
        is_programmable: true,
        pieces: Pieces::new(),
        around: Pieces::new(),
    };

    /// Takes each byte once.
    fn add(&mut self, at: usize, bytes: &[u8], start: usize, data: &[u8]) {
        keep(&mut self.header, 0, at, bytes);
        keep(&mut self.record, VersionRecord::OFFSET, at, bytes);
        self.is_blank &= bytes.iter().all(|byte| *byte == 0xFF);
        let end = start + data.len();
        let (first, old) = overlap(at, bytes, start..end);
        for (old, new) in old.iter().zip(data.iter().skip(first)) {
            self.is_equal &= old == new;
            self.is_programmable &= old & new == *new;
        }
        let add = |pieces: &mut Pieces, from: usize, to: usize| {
            let (first, part) = overlap(at, bytes, from..to);
            if !part.is_empty() {
                pieces.add(from + first, part);
            }
        };
        add(&mut self.pieces, Header::LEN, VersionRecord::OFFSET);
        add(&mut self.around, Header::LEN, start);
        add(&mut self.around, end, VersionRecord::OFFSET);
    }

    fn state(&self) -> SectorState {
        let (header, record) = (Header::from_bytes(self.header), VersionRecord::decode(&self.record));
        SectorState::of(&header, record, || crc_of(&header, record, &self.pieces))
    }
}

impl core::fmt::Debug for Seen {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Seen").field("is_blank", &self.is_blank).finish_non_exhaustive()
    }
}
