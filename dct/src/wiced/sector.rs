//! A sector with all its sections.

use super::wifi::{WifiConfig, WifiConfigMut};
use super::{APP_OFFSET, Header, MfgInfo, MfgText, NetworkConfig, Security, VersionRecord, sector_crc};
use crate::flash::Sector;

/// View of a sector: every section of the table in the [module's documentation](super).
#[derive(Clone, Copy)]
pub struct SectorView<'a> {
    sector: &'a Sector,
}

impl<'a> SectorView<'a> {
    /// Looks at a sector; every content is accepted.
    #[must_use]
    pub const fn new(sector: &'a Sector) -> Self {
        Self { sector }
    }

    /// Header.
    #[must_use]
    pub fn header(&self) -> Header {
        Header::of_sector(self.sector)
    }

    /// Manufacturing information.
    #[must_use]
    pub fn mfg_info(&self) -> MfgInfo<'a> {
        MfgInfo::new(part(self.sector, MfgInfo::OFFSET))
    }

    /// Keys of the WICED platform.
    #[must_use]
    pub fn security(&self) -> Security<'a> {
        Security::new(part(self.sector, Security::OFFSET))
    }

    /// Wi-Fi configuration.
    #[must_use]
    pub fn wifi_config(&self) -> WifiConfig<'a> {
        WifiConfig::new(part(self.sector, WifiConfig::OFFSET))
    }

    /// The application section up to the end of the sector, for [`App::new`](crate::App::new).
    #[must_use]
    pub fn app(&self) -> &'a [u8] {
        self.sector.get(APP_OFFSET..).unwrap_or(&[])
    }

    /// Network configuration of v0.7.0 and later.
    #[must_use]
    pub fn network_config(&self) -> NetworkConfig<'a> {
        NetworkConfig::new(part(self.sector, NetworkConfig::OFFSET))
    }

    /// Version record of v0.7.0 and later.
    #[must_use]
    pub fn version_record(&self) -> VersionRecord {
        VersionRecord::of_sector(self.sector)
    }
}

impl core::fmt::Debug for SectorView<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // the sector holds private keys and network keys
        f.debug_struct("SectorView").field("version_record", &self.version_record()).finish_non_exhaustive()
    }
}

/// Editor of a saved sector. Call [`seal`](Self::seal) at the end.
///
/// This changes a file or a buffer. To change a device, plan a [`Write`](super::Write), which survives power cuts.
///
/// ```
/// use spark_dct::wiced::{AccessPoint, SectorMut, WifiSecurity, factory_sector};
/// let mut sector = [0xFF; 16384];
/// factory_sector(&[0xFF; 4258], &mut sector)?;
/// let mut edit = SectorMut::new(&mut sector);
/// let home = AccessPoint::new(b"home", WifiSecurity::WPA2_AES, b"password")?;
/// edit.wifi_config().set_access_point(0, &home)?;
/// edit.seal();
/// assert_eq!(edit.view().wifi_config().access_point(0), Some(home));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
pub struct SectorMut<'a> {
    sector: &'a mut Sector,
}

impl<'a> SectorMut<'a> {
    /// Takes a sector for editing.
    #[must_use]
    pub const fn new(sector: &'a mut Sector) -> Self {
        Self { sector }
    }

    /// The sector as it is now.
    #[must_use]
    pub const fn view(&self) -> SectorView<'_> {
        SectorView { sector: self.sector }
    }

    /// The application section up to 8784 bytes, for [`AppMut::new`](crate::AppMut::new).
    pub fn app(&mut self) -> &mut [u8] {
        self.sector.get_mut(APP_OFFSET..NetworkConfig::OFFSET).unwrap_or_default()
    }

    /// Wi-Fi configuration.
    ///
    /// # Panics
    /// Never: the section lies within every sector.
    pub fn wifi_config(&mut self) -> WifiConfigMut<'_> {
        let section = self.sector.get_mut(WifiConfig::OFFSET..).and_then(<[u8]>::first_chunk_mut);
        #[allow(clippy::expect_used, reason = "6704 + 844 is below 16384")]
        WifiConfigMut::new(section.expect("the section lies within the sector"))
    }

    /// Sets a text of the manufacturing information, cut to its room, with 00 behind it. Marks the information as
    /// programmed in the header.
    ///
    /// # Errors
    /// [`SectionError::Text`](SectionError::Text) when it is too long.
    pub fn set_mfg_text(&mut self, text: MfgText, value: &[u8]) -> Result<(), SectionError> {
        let range = text.range();
        self.set_text(MfgInfo::OFFSET + range.start, range.len(), value)?;
        self.put(11, &[1]);
        Ok(())
    }

    /// Sets the private key of the WICED platform.
    ///
    /// # Errors
    /// [`SectionError::Text`](SectionError::Text) above 2048 bytes.
    pub fn set_private_key(&mut self, key: &[u8]) -> Result<(), SectionError> {
        self.set_text(Security::OFFSET, 2048, key)
    }

    /// Sets the certificate of the WICED platform.
    ///
    /// # Errors
    /// [`SectionError::Text`](SectionError::Text) above 4096 bytes.
    pub fn set_certificate(&mut self, certificate: &[u8]) -> Result<(), SectionError> {
        self.set_text(Security::OFFSET + 2048, 4096, certificate)
    }

    /// Sets the Cooee key.
    pub fn set_cooee_key(&mut self, key: &[u8; 16]) {
        self.put(Security::OFFSET + 6144, key);
    }

    /// Sets interface and host name of the network configuration.
    ///
    /// # Errors
    /// [`SectionError::Text`](SectionError::Text) above 32 bytes.
    pub fn set_network_config(&mut self, interface: u8, hostname: &[u8]) -> Result<(), SectionError> {
        if hostname.len() > 32 {
            return Err(SectionError::Text { length: hostname.len(), room: 32 });
        }
        self.set_text(NetworkConfig::OFFSET + 1, 33, hostname)?;
        self.put(NetworkConfig::OFFSET, &[interface]);
        Ok(())
    }

    /// Computes the CRC again where the sector has a valid version record, so that v0.7.0 and later take the sector.
    /// Older firmware has no CRC.
    pub fn seal(&mut self) {
        let record = VersionRecord::of_sector(self.sector);
        if record.is_valid() && !record.is_unchecked() {
            let crc = sector_crc(self.sector);
            self.put(VersionRecord::OFFSET, &VersionRecord { crc, ..record }.encode());
        }
    }

    fn set_text(&mut self, at: usize, room: usize, value: &[u8]) -> Result<(), SectionError> {
        let error = SectionError::Text { length: value.len(), room };
        let section = self.sector.get_mut(at..at + room).unwrap_or_default();
        let (text, rest) = section.split_at_mut_checked(value.len()).ok_or(error)?;
        text.copy_from_slice(value);
        rest.fill(0xFF);
        if let Some(end) = rest.first_mut() {
            *end = 0;
        }
        Ok(())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.sector.iter_mut().skip(at).zip(bytes).for_each(|(slot, byte)| *slot = *byte);
    }
}

impl core::fmt::Debug for SectorMut<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.view().fmt(f)
    }
}

/// Text that ends with its room or at the first 00 or FF; `None` when nothing is left.
pub(super) fn text(room: &[u8]) -> Option<&[u8]> {
    let end = room.iter().position(|byte| matches!(byte, 0 | 0xFF)).unwrap_or(room.len());
    room.get(..end).filter(|text| !text.is_empty())
}

fn part<const N: usize>(sector: &Sector, at: usize) -> &[u8; N] {
    sector.get(at..).and_then(<[u8]>::first_chunk).unwrap_or(const { &[0xFF; N] })
}

/// Why a section is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SectionError {
    /// Text too long.
    #[error("text of {length} bytes does not fit into {room}; shorten it")]
    Text {
        /// Length of the text.
        length: usize,
        /// Bytes available.
        room: usize,
    },
    /// No such slot.
    #[error("stored access point {slot} does not exist; there are slots 0 to 4")]
    Slot {
        /// Slot asked for.
        slot: usize,
    },
    /// Name of a network too long.
    #[error("network name has {length} bytes where 32 are possible; shorten it")]
    Ssid {
        /// Length of the name.
        length: usize,
    },
    /// Key of a network too long.
    #[error("network key has {length} bytes where 64 are possible; shorten it")]
    Key {
        /// Length of the key.
        length: usize,
    },
}
