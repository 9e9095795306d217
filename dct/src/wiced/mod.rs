//! The flash container of Photon and P1: two sectors of 16 KiB, one of them current.
//!
//! | offset in the sector | size | content |
//! |---|---|---|
//! | 0 | 388 | [`Header`] |
//! | 388 | 156 | [`MfgInfo`] |
//! | 544 | 6160 | [`Security`] |
//! | 6704 | 844 | [`WifiConfig`] |
//! | 7548 | 8391 | application section, see [`App`](crate::App) |
//! | 15939 | 393 | unused |
//! | 16332 | 36 | [`NetworkConfig`] (v0.7.0 and later) |
//! | 16368 | 16 | [`VersionRecord`] (v0.7.0 and later) |
//!
//! The first sector is at [`SECTOR_ADDRESSES`]`[0]` (`DCT1`), the second behind it (`DCT2`). Which one counts, and
//! how a write moves from one to the other, depends on the [`Generation`] of the firmware.
//!
//! A write is a sequence of flash operations that the caller executes; no operation is assumed to be atomic in
//! flash, but [`Write`] depends only on what was there when it was made. The caller may stop before any of them, as
//! a power cut does, and select again. [`StreamWrite`] does the same without both sectors in memory.
//!
//! ```
//! use spark_dct::wiced::{FlashOp, Generation, Sector, SectorId, Sectors, Write, factory_sector};
//! let mut flash: [Sector; 2] = [[0xFF; 16384]; 2];
//! factory_sector(&[0xFF; 4258], &mut flash[0])?;
//!
//! let before = flash;
//! let sectors = Sectors::new(&before[0], &before[1]);
//! let mut write = Write::new(sectors, Generation::V0_7_0, 1825, b"1")?;
//! while let Some(op) = write.next_op() {
//!     match op {
//!         FlashOp::Erase { sector } => flash[sector.index()] = [0xFF; 16384],
//!         FlashOp::Program { sector, offset, data } => {
//!             for (cell, byte) in flash[sector.index()][offset..].iter_mut().zip(data) {
//!                 *cell &= byte; // NOR flash can only clear bits
//!             }
//!         }
//!         _ => unreachable!("there are no other operations today"),
//!     }
//! }
//! let after = Sectors::new(&flash[0], &flash[1]);
//! assert_eq!(after.current(Generation::V0_7_0), Some(SectorId::Dct2));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Source
//! Library objects of `device-os@v0.5.0` and `@v1.0.0` (photon), executed in a CPU emulator.

mod header;
mod limit;
mod mfg_info;
mod network_config;
mod sector;
mod security;
mod select;
mod steps;
mod stream;
mod version_record;
mod wifi;
mod write;

pub use crate::flash::{FlashOp, SECTOR_ADDRESSES, SECTOR_SIZE, Sector, SectorId};
pub use header::Header;
pub use limit::{Consequence, LimitError, WriteLimit};
pub use mfg_info::{MfgInfo, MfgText};
pub use network_config::NetworkConfig;
pub use sector::{SectionError, SectorMut, SectorView};
pub use security::Security;
pub use select::{CrcCheck, SectorState, Sectors};
pub use stream::StreamWrite;
pub use version_record::{VersionRecord, sector_crc};
pub use wifi::{AccessPoint, SoftAp, Ssid, WifiConfig, WifiConfigMut, WifiSecurity};
pub use write::{Initialise, Write, WriteError};

use crate::field::FirmwareVersion;

/// Where the application section starts in a sector, in all versions. (Headers before v0.7.0 say 8572, which was
/// never used for addressing.)
pub const APP_OFFSET: usize = 7548;
/// Bytes from the start of the application section to the end of the sector.
pub const APP_AREA: usize = SECTOR_SIZE - APP_OFFSET;
/// Last end of a write in the application section that no firmware punishes. Behind it v0.7.0 and later overwrite
/// their network configuration (8785 to 8820) or hang (8821 to 8836), and v0.4.4 to v0.6.4 spill into the other
/// sector.
pub const WRITE_LIMIT: usize = 8784;

/// How a firmware selects and writes sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(non_camel_case_types, reason = "the variants are release numbers")]
#[non_exhaustive]
pub enum Generation {
    /// v0.4.0 and v0.4.1: every change is written to the other sector, the old one is erased last.
    V0_4_0,
    /// v0.4.4 to v0.6.4: first tries to program the live sector in place. When that fails, the field holds the
    /// bitwise AND of old and new until the other sector is complete: **a power cut there corrupts it for good**.
    V0_4_4,
    /// v0.7.0 and later: version record with CRC and sequence; the old sector is never erased by a write.
    V0_7_0,
}

impl Generation {
    /// The generation of a firmware. v0.4.2 and v0.4.3 were not released; they count as v0.4.4.
    #[must_use]
    pub fn of_firmware(version: FirmwareVersion) -> Self {
        if version >= FirmwareVersion::new(0, 7, 0) {
            Generation::V0_7_0
        } else if version >= FirmwareVersion::new(0, 4, 2) {
            Generation::V0_4_4
        } else {
            Generation::V0_4_0
        }
    }
}

/// Makes a valid sector as it leaves the factory: header, application section, FF elsewhere.
///
/// `app` may be shorter than the section; the rest is FF. Put it at DCT1 and leave DCT2 erased.
///
/// # Errors
/// [`WriteError::TooLong`] above [`WRITE_LIMIT`].
pub fn factory_sector(app: &[u8], sector: &mut Sector) -> Result<(), WriteError> {
    if app.len() > WRITE_LIMIT {
        return Err(WriteError::TooLong { end: app.len(), limit: WRITE_LIMIT });
    }
    sector.fill(0xFF);
    for (cell, byte) in sector.iter_mut().zip(Header::FACTORY.as_bytes()) {
        *cell = *byte;
    }
    for (cell, byte) in sector.iter_mut().skip(APP_OFFSET).zip(app) {
        *cell = *byte;
    }
    Ok(())
}
