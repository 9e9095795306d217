//! The region that holds server key and server address together.

use crate::server_address::{self, ServerAddress};

/// Length of the server's public key: an RSA-2048 SPKI in DER.
pub const KEY_LEN: usize = 294;
/// Where the address block starts.
pub const ADDRESS_AT: usize = 384;
/// Length that host tools write.
pub const DFU_LEN: usize = 512;
/// Length of the whole field.
pub const FIELD_LEN: usize = 768;

/// Content of `server_public_key`: key, then FF, then address, then FF.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 294 | RSA-2048 SPKI in DER; the firmware reads exactly these bytes |
/// | 294 | 90 | FF |
/// | 384 | 128 | [`ServerAddress`] |
/// | 512 | 256 | FF (only in the whole field) |
///
/// The key's bytes are opaque to this crate; check them before writing, the firmware does not.
///
/// ```
/// use spark_dct::{ServerAddress, ServerKeyRegion};
/// let key = [0x30; 294];
/// let region = ServerKeyRegion::new(&key, Some(ServerAddress::domain("cloud.example.org", None)?));
/// let mut bytes = [0; 512];
/// region.encode_into(&mut bytes)?;
/// assert_eq!(ServerKeyRegion::parse(&bytes)?.key(), Some(&key));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
///
/// # Source
/// `device-os@v0.4.0..v2.3.1: dct.h`, `particle-cli: src/cmd/keys.js`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerKeyRegion<'a> {
    key: &'a [u8; KEY_LEN],
    address: Option<ServerAddress<'a>>,
}

impl<'a> ServerKeyRegion<'a> {
    /// A region with that key; without address a TCP device falls back to `device.spark.io`.
    #[must_use]
    pub const fn new(key: &'a [u8; KEY_LEN], address: Option<ServerAddress<'a>>) -> Self {
        Self { key, address }
    }

    /// Reads a region of at least 512 bytes (a DFU read, a key file of the host tool, or the whole field).
    ///
    /// An unreadable address is no error of the region: see [`RegionView::address`].
    ///
    /// # Errors
    /// [`RegionError::Length`] when shorter than 512 bytes.
    pub fn parse(region: &'a [u8]) -> Result<RegionView<'a>, RegionError> {
        let error = RegionError::Length { length: region.len() };
        let key = region.first_chunk::<KEY_LEN>().ok_or(error)?;
        let block = region.get(ADDRESS_AT..).and_then(<[u8]>::first_chunk).ok_or(error)?;
        Ok(RegionView { key, block })
    }

    /// Server key.
    #[must_use]
    pub const fn key(&self) -> &'a [u8; KEY_LEN] {
        self.key
    }

    /// Server address.
    #[must_use]
    pub const fn address(&self) -> Option<ServerAddress<'a>> {
        self.address
    }

    /// Writes the region; `out` has to have 512 (for a DFU write) or 768 bytes (the whole field).
    ///
    /// # Errors
    /// [`RegionError::Length`] for any other length.
    pub fn encode_into(&self, out: &mut [u8]) -> Result<(), RegionError> {
        let length = out.len();
        if length != DFU_LEN && length != FIELD_LEN {
            return Err(RegionError::Length { length });
        }
        out.fill(0xFF);
        if let Some(key) = out.first_chunk_mut() {
            *key = *self.key;
        }
        if let (Some(address), Some(block)) =
            (self.address, out.get_mut(ADDRESS_AT..).and_then(<[u8]>::first_chunk_mut))
        {
            address.encode_into(block);
        }
        Ok(())
    }
}

/// A region as found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionView<'a> {
    key: &'a [u8; KEY_LEN],
    block: &'a [u8; server_address::LEN],
}

impl<'a> RegionView<'a> {
    /// The 294 key bytes, `None` when all are FF. They are not checked any further.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8; KEY_LEN]> {
        if self.key.iter().all(|byte| *byte == 0xFF) { None } else { Some(self.key) }
    }

    /// The address, `None` when there is none.
    ///
    /// # Errors
    /// As [`ServerAddress::parse`].
    pub fn address(&self) -> Result<Option<ServerAddress<'a>>, server_address::AddressError> {
        ServerAddress::parse(self.block)
    }

    /// The address block, whatever it holds.
    #[must_use]
    pub const fn address_block(&self) -> &'a [u8; server_address::LEN] {
        self.block
    }

    /// Whether key **and** address are erased: the sign of a lost region rather than of a default address, because
    /// factory images and the host tool's own key file always carry an explicit address.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.key().is_none() && self.block.iter().all(|byte| *byte == 0xFF)
    }
}

/// Why a region cannot be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RegionError {
    /// Wrong length.
    #[error("server key region has {length} bytes; read at least 512, write 512 or 768")]
    Length {
        /// Length found.
        length: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lengths_carry_key_address_and_ff() {
        let key = core::array::from_fn(|i| u8::try_from(i % 251).unwrap());
        let address = ServerAddress::domain("cloud.example.org", Some(8080)).unwrap();
        let region = ServerKeyRegion::new(&key, Some(address));
        for length in [DFU_LEN, FIELD_LEN] {
            let mut buffer = [0; FIELD_LEN];
            let out = &mut buffer[..length];
            region.encode_into(out).unwrap();
            assert!(out[KEY_LEN..ADDRESS_AT].iter().all(|b| *b == 0xFF));
            assert!(out[DFU_LEN..].iter().all(|b| *b == 0xFF));
            let view = ServerKeyRegion::parse(out).unwrap();
            assert_eq!(view.key(), Some(&key));
            assert_eq!(view.address(), Ok(Some(address)));
            assert!(!view.is_lost());
        }
    }

    #[test]
    fn every_shorter_length_is_refused() {
        let bytes = [0xFF; DFU_LEN];
        for length in 0..DFU_LEN {
            assert_eq!(ServerKeyRegion::parse(&bytes[..length]), Err(RegionError::Length { length }));
        }
        assert!(ServerKeyRegion::parse(&bytes).unwrap().is_lost());
    }

    #[test]
    fn other_lengths_are_not_written() {
        let region = ServerKeyRegion::new(&[0; KEY_LEN], None);
        for length in [0, 294, 511, 513, 767] {
            let mut out = [7; FIELD_LEN];
            assert_eq!(region.encode_into(&mut out[..length]), Err(RegionError::Length { length }));
            assert_eq!(out, [7; FIELD_LEN]);
        }
    }
}
