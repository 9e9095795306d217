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
