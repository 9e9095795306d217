//! What both flash containers share: two sectors of the microcontroller's flash, and operations on them.

/// Bytes of a sector.
pub const SECTOR_SIZE: usize = 16384;
/// Address of DCT1 and DCT2 in the microcontroller's flash.
pub const SECTOR_ADDRESSES: [u32; 2] = [0x0800_4000, 0x0800_8000];

/// A sector.
pub type Sector = [u8; SECTOR_SIZE];

/// One of the two sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "the container has exactly two sectors")]
pub enum SectorId {
    /// At 08004000.
    Dct1,
    /// At 08008000.
    Dct2,
}

impl SectorId {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            SectorId::Dct1 => SectorId::Dct2,
            SectorId::Dct2 => SectorId::Dct1,
        }
    }

    /// 0 or 1.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            SectorId::Dct1 => 0,
            SectorId::Dct2 => 1,
        }
    }

    /// Address in the microcontroller's flash.
    #[must_use]
    pub const fn address(self) -> u32 {
        SECTOR_ADDRESSES[self.index()]
    }
}

/// One operation on the flash.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlashOp<'m> {
    /// Set all bytes of a sector to FF.
    Erase {
        /// Sector to erase.
        sector: SectorId,
    },
    /// Clear bits: every byte becomes `old & data`, as NOR flash does.
    Program {
        /// Sector to program.
        sector: SectorId,
        /// First byte in the sector.
        offset: usize,
        /// Bytes to program.
        data: &'m [u8],
    },
}

/// One step of a write that reads the flash in pieces, as [`wiced::StreamWrite`](crate::wiced::StreamWrite) and
/// [`dcd::StreamWrite`](crate::dcd::StreamWrite) give them.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlashStep<'m> {
    /// Read bytes and give them to `handle_read`. These steps come first; nothing has been changed before the last one of them.
    Read {
        /// Sector to read.
        sector: SectorId,
        /// First byte in the sector.
        offset: usize,
        /// Number of bytes, at most [`READ_LEN`].
        len: usize,
    },
    /// As [`FlashOp::Erase`].
    Erase {
        /// Sector to erase.
        sector: SectorId,
    },
    /// As [`FlashOp::Program`].
    Program {
        /// Sector to program.
        sector: SectorId,
        /// First byte in the sector.
        offset: usize,
        /// Bytes to program.
        data: &'m [u8],
    },
    /// Program the bytes of one sector into the other, in pieces of whatever length. No step before changes these bytes.
    Copy {
        /// Sector to read.
        from: SectorId,
        /// First byte in it.
        from_offset: usize,
        /// Sector to program.
        to: SectorId,
        /// First byte in it.
        to_offset: usize,
        /// Number of bytes.
        len: usize,
    },
}

impl<'m> FlashStep<'m> {
    /// As an operation, for whoever has the sectors in memory; `None` for a read.
    pub(crate) fn over(self, sector: impl FnOnce(SectorId) -> &'m Sector) -> Option<FlashOp<'m>> {
        Some(match self {
            FlashStep::Read { .. } => return None,
            FlashStep::Erase { sector } => FlashOp::Erase { sector },
            FlashStep::Program { sector, offset, data } => FlashOp::Program { sector, offset, data },
            FlashStep::Copy { from, from_offset, to, to_offset, len } => {
                let data = sector(from).get(from_offset..from_offset + len)?;
                FlashOp::Program { sector: to, offset: to_offset, data }
            }
        })
    }
}

/// Longest piece that a [`FlashStep::Read`] asks for.
pub const READ_LEN: usize = 256;

/// Where a write is in reading both sectors from the first byte to the last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader {
    done: usize,
}

impl Reader {
    pub(crate) const fn new() -> Self {
        Self { done: 0 }
    }

    /// The next piece: sector, offset, length. `None` when all has been read.
    pub(crate) fn next(self) -> Option<(SectorId, usize, usize)> {
        let (sector, offset) = match self.done {
            done @ ..SECTOR_SIZE => (SectorId::Dct1, done),
            done => (SectorId::Dct2, done - SECTOR_SIZE),
        };
        let len = SECTOR_SIZE.checked_sub(offset)?.min(READ_LEN);
        (len > 0).then_some((sector, offset, len))
    }

    /// Takes bytes of that piece; what is more than it is not looked at. The place of the bytes.
    pub(crate) fn take<'b>(&mut self, bytes: &'b [u8]) -> Option<(SectorId, usize, &'b [u8])> {
        let (sector, offset, len) = self.next()?;
        let bytes = bytes.get(..len).unwrap_or(bytes);
        self.done += bytes.len();
        Some((sector, offset, bytes))
    }
}

/// The bytes of a piece at `at` that lie in a range, and where they are in it.
pub(crate) fn overlap(at: usize, bytes: &[u8], range: core::ops::Range<usize>) -> (usize, &[u8]) {
    let start = range.start.max(at);
    let end = range.end.min(at + bytes.len());
    let part = start.checked_sub(at).zip(end.checked_sub(at)).and_then(|(from, to)| bytes.get(from..to));
    (start - range.start, part.unwrap_or_default())
}

/// Keeps the bytes of a piece that lie in `range`.
pub(crate) fn keep(slot: &mut [u8], range_start: usize, at: usize, bytes: &[u8]) {
    let (first, part) = overlap(at, bytes, range_start..range_start + slot.len());
    slot.iter_mut().skip(first).zip(part).for_each(|(slot, byte)| *slot = *byte);
}

impl core::fmt::Debug for FlashStep<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            FlashStep::Read { sector, offset, len } => f
                .debug_struct("Read")
                .field("sector", &sector)
                .field("offset", &offset)
                .field("len", &len)
                .finish(),
            FlashStep::Erase { sector } => FlashOp::Erase { sector }.fmt(f),
            FlashStep::Program { sector, offset, data } => FlashOp::Program { sector, offset, data }.fmt(f),
            FlashStep::Copy { from, from_offset, to, to_offset, len } => f
                .debug_struct("Copy")
                .field("from", &from)
                .field("from_offset", &from_offset)
                .field("to", &to)
                .field("to_offset", &to_offset)
                .field("len", &len)
                .finish(),
        }
    }
}

impl core::fmt::Debug for FlashOp<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            FlashOp::Erase { sector } => f.debug_struct("Erase").field("sector", sector).finish(),
            // the bytes may be a private key
            FlashOp::Program { sector, offset, data } => f
                .debug_struct("Program")
                .field("sector", sector)
                .field("offset", offset)
                .field("len", &data.len())
                .finish(),
        }
    }
}
