//! The flash container of the Electron: the "DCD" in the same two sectors of 16 KiB.
//!
//! | offset in the sector | size | content |
//! |---|---|---|
//! | 0 | 4 | watermark 1E1C279A (bytes `9A 27 1C 1E`) |
//! | 4 | 4 | [`Seal`] |
//! | 8 | 16376 (v1), 16344 (v2) | application section, see [`App`](crate::App) |
//! | 16352 | 32 | [`Footer`] (v2) |
//!
//! As in the other container, the first sector is at 08004000 and the second one behind it; here they are called
//! `SectorId::Dct1` and `SectorId::Dct2` as well, where the firmware says sector 0 and sector 1.
//!
//! [`Sectors::select`] tells which one a [`Generation`] of the firmware reads and why. [`Write`] gives the flash
//! operations of its writes, first initialisation and migration; the caller executes them and may stop before any, as a
//! power cut does. [`StreamWrite`] does the same without both sectors in memory.
//!
//! ```
//! use spark_dct::dcd::{Generation, Sectors, Write};
//! use spark_dct::flash::{FlashOp, Sector, SectorId};
//! let mut flash: [Sector; 2] = [[0xFF; 16384]; 2];
//! let run = |flash: &mut [Sector; 2], mut write: Write<'_>| {
//!     while let Some(op) = write.next_op() {
//!         match op {
//!             FlashOp::Erase { sector } => flash[sector.index()] = [0xFF; 16384],
//!             FlashOp::Program { sector, offset, data } => {
//!                 for (cell, byte) in flash[sector.index()][offset..].iter_mut().zip(data) {
//!                     *cell &= byte; // NOR flash can only clear bits
//!                 }
//!             }
//!             _ => unreachable!("there are no other operations today"),
//!         }
//!     }
//! };
//! let before = flash;
//! run(&mut flash, Write::initialise(Sectors::new(&before[0], &before[1]), Generation::V2));
//! let before = flash;
//! run(&mut flash, Write::new(Sectors::new(&before[0], &before[1]), Generation::V2, 1825, b"1")?);
//! let after = Sectors::new(&flash[0], &flash[1]);
//! assert_eq!(after.current(Generation::V2), Some(SectorId::Dct1));
//! # Ok::<(), spark_dct::dcd::WriteError>(())
//! ```
//!
//! # Source
//! `device-os@v0.5.0`, `device-os@v1.0.0: services/inc/dcd.h`, `bootloader/src/electron/dcd_flash_impl.cpp`; compiled and run on modelled flash.

mod footer;
mod header;
mod select;
mod steps;
mod stream;
mod write;

pub use footer::{Footer, sector_crc};
pub use header::{Header, Seal};
pub use select::{SectorState, Sectors};
pub use stream::StreamWrite;
pub use write::{Write, WriteError};

use crate::field::FirmwareVersion;
use crate::flash::SECTOR_SIZE;

/// Bytes 0 to 4 of a valid sector, and bytes 24 to 28 of a valid footer, as a little-endian number.
pub const WATERMARK: u32 = 0x1E1C_279A;
/// Where the application section starts in a sector.
pub const APP_OFFSET: usize = 8;

/// How a firmware selects and writes sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Generation {
    /// Up to v0.6.4: a seal, no checksum.
    V1,
    /// v0.7.0 and later: footer with counter and CRC.
    V2,
}

impl Generation {
    /// The generation of a firmware.
    #[must_use]
    pub fn of_firmware(version: FirmwareVersion) -> Self {
        if version >= FirmwareVersion::new(0, 7, 0) { Generation::V2 } else { Generation::V1 }
    }

    /// Bytes of the application section: writes end there.
    #[must_use]
    pub const fn app_len(self) -> usize {
        match self {
            Generation::V1 => SECTOR_SIZE - APP_OFFSET,
            Generation::V2 => SECTOR_SIZE - APP_OFFSET - Footer::LEN,
        }
    }
}
