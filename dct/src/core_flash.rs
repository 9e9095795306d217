//! The Core: no configuration table, but two places in its external flash and a page of flags in the internal one.
//!
//! | where | size | content |
//! |---|---|---|
//! | external flash 01000 | 2048 over DFU | server key region, see [`ServerKeyRegion`]; server address at 01180 |
//! | external flash 02000 | 1024 over DFU | private key, of which firmware reads 612 bytes |
//! | internal flash 08004C00 | 1 page | [`CoreFlags`] |
//!
//! Over DFU both places of the external flash are in alternate setting 1, see
//! [`Segment::for_field`](crate::segment::Segment::for_field). Data has to have an even length there.
//!
//! # Source
//! `particle-cli` device tables; `Load_SystemFlags` of the Core's firmware.

use crate::app::DEVICE_PRIVATE_KEY_READ;
use crate::segment::KeyAlgorithm;
use crate::server_address::{self, AddressError, ServerAddress};
use crate::server_key_region::{RegionView, ServerKeyRegion};

/// Where the server key region starts in the external flash.
pub const SERVER_KEY_AT: usize = 0x1000;
/// Bytes of the server key region.
const SERVER_KEY_LEN: usize = KeyAlgorithm::Rsa.server_region_len();
/// Where the private key starts in the external flash.
pub const PRIVATE_KEY_AT: usize = 0x2000;
/// Shortest image of the external flash that holds both.
pub const MIN_LEN: usize = PRIVATE_KEY_AT + DEVICE_PRIVATE_KEY_READ;
/// Where the page of flags is in the internal flash.
pub const FLAGS_ADDRESS: u32 = 0x0800_4C00;

/// View of an image of the external flash from its address 0 on.
#[derive(Clone, Copy)]
pub struct CoreFlash<'a> {
    key: &'a [u8; DEVICE_PRIVATE_KEY_READ],
    region: RegionView<'a>,
}

impl<'a> CoreFlash<'a> {
    /// Looks at an image; every content is accepted.
    ///
    /// # Errors
    /// [`CoreError::Length`] below 8804 bytes.
    pub fn new(image: &'a [u8]) -> Result<Self, CoreError> {
        let error = CoreError::Length { length: image.len() };
        let key = image.get(PRIVATE_KEY_AT..).and_then(<[u8]>::first_chunk).ok_or(error)?;
        let region = image.get(SERVER_KEY_AT..SERVER_KEY_AT + SERVER_KEY_LEN).ok_or(error)?;
        Ok(Self { key, region: ServerKeyRegion::parse(KeyAlgorithm::Rsa, region).map_err(|_| error)? })
    }

    /// The readable bytes of the private key, `None` when the first one is FF.
    #[must_use]
    pub fn device_private_key(&self) -> Option<&'a [u8; DEVICE_PRIVATE_KEY_READ]> {
        Some(self.key).filter(|key| key[0] != 0xFF)
    }

    /// Server key and address.
    #[must_use]
    pub const fn server_key_region(&self) -> RegionView<'a> {
        self.region
    }

    /// Server address, `None` when there is none.
    ///
    /// # Errors
    /// As [`ServerAddress::parse`].
    pub fn server_address(&self) -> Result<Option<ServerAddress<'a>>, AddressError> {
        self.region.address()
    }
}

impl core::fmt::Debug for CoreFlash<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CoreFlash")
            .field("device_private_key", &self.device_private_key().map(|key| key.len()))
            .field("server_address", &self.server_address())
            .finish()
    }
}

/// Editor of an image of the external flash. Bytes outside of what is set never change.
pub struct CoreFlashMut<'a> {
    image: &'a mut [u8],
}

impl<'a> CoreFlashMut<'a> {
    /// Takes an image for editing.
    ///
    /// # Errors
    /// [`CoreError::Length`] below 8804 bytes.
    pub fn new(image: &'a mut [u8]) -> Result<Self, CoreError> {
        CoreFlash::new(image)?;
        Ok(Self { image })
    }

    /// Writes the private key, and FF up to byte 612.
    ///
    /// # Errors
    /// [`CoreError::Key`] when it is longer than 612 bytes.
    pub fn set_device_private_key(&mut self, der: &[u8]) -> Result<(), CoreError> {
        let room = self.image.get_mut(PRIVATE_KEY_AT..MIN_LEN).unwrap_or_default();
        let error = CoreError::Key { length: der.len() };
        let (key, rest) = room.split_at_mut_checked(der.len()).ok_or(error)?;
        key.copy_from_slice(der);
        rest.fill(0xFF);
        Ok(())
    }

    /// Writes server key and address: 512 bytes.
    ///
    /// # Errors
    /// [`CoreError::ServerKey`] for a region of UDP devices.
    pub fn set_server_key_region(&mut self, region: &ServerKeyRegion<'_>) -> Result<(), CoreError> {
        let room = self.image.get_mut(SERVER_KEY_AT..SERVER_KEY_AT + SERVER_KEY_LEN).unwrap_or_default();
        // the only refusal is for another length, and only the region of the other kind has one
        region.encode_into(room).map_err(|_| CoreError::ServerKey)
    }

    /// Writes the server address and leaves the key.
    pub fn set_server_address(&mut self, address: &ServerAddress<'_>) {
        let at = SERVER_KEY_AT + KeyAlgorithm::Rsa.server_address_at();
        let block: Option<&mut [u8; server_address::LEN]> =
            self.image.get_mut(at..).and_then(<[u8]>::first_chunk_mut);
        if let Some(block) = block {
            address.encode_into(block);
        }
    }
}

impl core::fmt::Debug for CoreFlashMut<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CoreFlashMut").field("len", &self.image.len()).finish_non_exhaustive()
    }
}

/// The flags at [`FLAGS_ADDRESS`]: the first fields of [`SystemFlags`](crate::system_flags::SystemFlags) without its header,
/// each a little-endian u16.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 2 | version |
/// | 2 | 2 | 0001 = reset of the radio's memory requested |
/// | 4 | 2 | 0005 = apply update, 5000 = restore in progress |
/// | 6 | 2 | 0001 = update succeeded |
/// | 8 | 2 | AAAA = factory reset requested |
///
/// What follows differs between releases and is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CoreFlags {
    /// Version of firmware or bootloader.
    pub version: u16,
    /// 0001: a reset of the radio's memory is requested.
    pub nvmem_spark_reset: u16,
    /// 0005: apply update; 5000: restore in progress.
    pub flash_ota_update: u16,
    /// 0001: the update succeeded.
    pub ota_flashed_status: u16,
    /// AAAA: a factory reset is requested.
    pub factory_reset: u16,
}

impl CoreFlags {
    /// Bytes that are read and written.
    pub const LEN: usize = 10;

    /// Reads the first bytes of the page; every content is accepted.
    #[must_use]
    pub const fn decode(raw: &[u8; Self::LEN]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j] = *raw;
        Self {
            version: u16::from_le_bytes([a, b]),
            nvmem_spark_reset: u16::from_le_bytes([c, d]),
            flash_ota_update: u16::from_le_bytes([e, f]),
            ota_flashed_status: u16::from_le_bytes([g, h]),
            factory_reset: u16::from_le_bytes([i, j]),
        }
    }

    /// Writes the first bytes of the page.
    #[must_use]
    pub const fn encode(&self) -> [u8; Self::LEN] {
        let [a, b] = self.version.to_le_bytes();
        let [c, d] = self.nvmem_spark_reset.to_le_bytes();
        let [e, f] = self.flash_ota_update.to_le_bytes();
        let [g, h] = self.ota_flashed_status.to_le_bytes();
        let [i, j] = self.factory_reset.to_le_bytes();
        [a, b, c, d, e, f, g, h, i, j]
    }

    /// Whether a factory reset is requested.
    #[must_use]
    pub const fn factory_reset_requested(&self) -> bool {
        self.factory_reset == 0xAAAA
    }
}

/// Why an image or an edit is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum CoreError {
    /// Too short.
    #[error(
        "image of the Core's external flash has {length} bytes where both keys need 8804; read from address 0"
    )]
    Length {
        /// Length found.
        length: usize,
    },
    /// Server key of another kind.
    #[error("server key is one of UDP devices (P-256); a Core talks TCP, give an RSA-2048 key")]
    ServerKey,
    /// Key too long.
    #[error("private key has {length} bytes where firmware reads 612; check the file's form")]
    Key {
        /// Length of the key.
        length: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_and_address_are_where_dfu_has_them() {
        let mut image = [0xFF; MIN_LEN];
        let region_key = [0x31; 294];
        let mut edit = CoreFlashMut::new(&mut image).unwrap();
        edit.set_device_private_key(&[0x30; 609]).unwrap();
        let address = ServerAddress::from_text("10.0.0.1").unwrap();
        let of_udp = ServerKeyRegion::new(&[0x30; 91], None);
        assert_eq!(edit.set_server_key_region(&of_udp), Err(CoreError::ServerKey));
        edit.set_server_key_region(&ServerKeyRegion::new(&region_key, None)).unwrap();
        edit.set_server_address(&address);
        assert_eq!(edit.set_device_private_key(&[0; 613]), Err(CoreError::Key { length: 613 }));
        assert_eq!(image[0x1180..0x1186], [0, 4, 10, 0, 0, 1]);
        assert_eq!(
            (image[0x1000], image[0x1FFF], image[0x2000], image[0x2000 + 609]),
            (0x31, 0xFF, 0x30, 0xFF)
        );
        let flash = CoreFlash::new(&image).unwrap();
        assert_eq!(flash.server_address(), Ok(Some(address)));
        assert_eq!(flash.server_key_region().key(), Some((&region_key).into()));
        assert_eq!(flash.device_private_key().unwrap()[..609], [0x30; 609]);
    }

    #[test]
    fn shorter_images_are_refused() {
        let image = [0xFF; MIN_LEN];
        for length in (0..MIN_LEN).step_by(311).chain([MIN_LEN - 1]) {
            assert_eq!(CoreFlash::new(&image[..length]).unwrap_err(), CoreError::Length { length });
        }
        assert!(CoreFlash::new(&image).unwrap().device_private_key().is_none());
    }

    proptest! {
        #[test]
        fn any_flags_survive_a_round_trip(raw: [u8; 10]) {
            prop_assert_eq!(CoreFlags::decode(&raw).encode(), raw);
        }
    }
}
