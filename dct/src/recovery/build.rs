//! Sectors from a plan.

use super::{Format, Plan, Target};
use crate::dcd;
use crate::flash::{SECTOR_SIZE, Sector};
use crate::wiced::{self, Header, VersionRecord, WRITE_LIMIT};

impl Plan<'_> {
    /// Writes both sectors as the target firmware reads them: the repaired table in DCT1, DCT2 erased.
    ///
    /// On a Photon everything outside of the application section (manufacturing information, Wi-Fi credentials, network
    /// configuration) comes from the base where the base is a Photon's sector; for v0.7.0 and later a version record with a
    /// right CRC is made, and for older firmware there is none. On an Electron v2 gets a first footer.
    ///
    /// # Errors
    /// [`BuildError::Given`] when a given value is longer than its field.
    pub fn build_sectors(&self, out: &mut [Sector; 2]) -> Result<(), BuildError> {
        let [dct1, dct2] = out;
        dct1.fill(0xFF);
        dct2.fill(0xFF);
        match self.target() {
            Target::Wiced(generation) => self.build_wiced(generation, dct1),
            Target::Dcd(generation) => self.build_dcd(generation, dct1),
        }
    }

    fn build_wiced(&self, generation: wiced::Generation, out: &mut Sector) -> Result<(), BuildError> {
        let base = self.base();
        let source = self.dump().sector(base.id);
        let mut header = Header::FACTORY;
        if base.format == Some(Format::Wiced) {
            *out = *source;
            let found = Header::of_sector(source);
            if found.has_magic() {
                header = found.for_write(0);
            }
        }
        put(out, 0, header.as_bytes());
        let app = out.get_mut(wiced::APP_OFFSET..wiced::APP_OFFSET + WRITE_LIMIT).unwrap_or_default();
        self.put_fields(app)?;
        match generation {
            wiced::Generation::V0_7_0 => {
                let record = VersionRecord {
                    magic: VersionRecord::MAGIC,
                    usage_flags: 0,
                    version: VersionRecord::CURRENT,
                    crc: 0,
                    initial_write: 0,
                    sequence: 1,
                    padding: [0; 2],
                };
                put(out, VersionRecord::OFFSET, &record.encode());
                let crc = wiced::sector_crc(out);
                put(out, VersionRecord::OFFSET, &VersionRecord { crc, ..record }.encode());
            }
            _ => put(out, VersionRecord::OFFSET, &[0xFF; VersionRecord::LEN]),
        }
        Ok(())
    }

    fn build_dcd(&self, generation: dcd::Generation, out: &mut Sector) -> Result<(), BuildError> {
        let app = out.get_mut(dcd::APP_OFFSET..dcd::Footer::OFFSET).unwrap_or_default();
        self.put_fields(app)?;
        put(out, 0, &dcd::Header::VALID.encode());
        if generation == dcd::Generation::V2 {
            put(out, dcd::Footer::OFFSET, dcd::Footer::FIRST.as_bytes());
            let crc = dcd::sector_crc(out);
            put(out, dcd::Footer::CRC_AT, &crc.to_le_bytes());
        }
        Ok(())
    }
}

const _: () = assert!(wiced::APP_OFFSET + WRITE_LIMIT == wiced::NetworkConfig::OFFSET);
const _: () = assert!(dcd::Footer::OFFSET < SECTOR_SIZE);

fn put(sector: &mut Sector, at: usize, bytes: &[u8]) {
    sector.iter_mut().skip(at).zip(bytes).for_each(|(slot, byte)| *slot = *byte);
}

/// Why an image is not built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum BuildError {
    /// The caller's buffer is too short.
    #[error("repaired image needs {needed} bytes but the buffer has {available}; give a larger buffer")]
    BufferTooSmall {
        /// Bytes needed.
        needed: usize,
        /// Bytes available.
        available: usize,
    },
    /// A given value is too long.
    #[error("value given for field {field} has {length} bytes where {room} are possible; shorten it")]
    Given {
        /// Name of the field.
        field: &'static str,
        /// Length of the value.
        length: usize,
        /// Length of the field.
        room: usize,
    },
}
