//! The region that holds server key and server address together.

use crate::segment::KeyAlgorithm;
use crate::server_address::{self, AddressError, ServerAddress};

/// Length of a TCP device's server key: an RSA-2048 SPKI in DER.
pub const RSA_KEY_LEN: usize = 294;
/// Length of a UDP device's server key: a P-256 SPKI in DER.
pub const EC_KEY_LEN: usize = 91;

/// Measures of the region with the server's key of each kind.
impl KeyAlgorithm {
    /// Length of the server's public key.
    #[must_use]
    pub const fn server_key_len(self) -> usize {
        match self {
            KeyAlgorithm::Rsa => RSA_KEY_LEN,
            KeyAlgorithm::Ec => EC_KEY_LEN,
        }
    }

    /// Where the server's address starts in the region.
    #[must_use]
    pub const fn server_address_at(self) -> usize {
        match self {
            KeyAlgorithm::Rsa => 384,
            KeyAlgorithm::Ec => 192,
        }
    }

    /// Where the port of the server's address is in the region: 450 or 258.
    #[must_use]
    pub const fn server_port_at(self) -> usize {
        self.server_address_at() + server_address::PORT_AT
    }

    /// Length of key and address together, which is what host tools read and write.
    #[must_use]
    pub const fn server_region_len(self) -> usize {
        self.server_address_at() + server_address::LEN
    }

    /// Length of all bytes that the table has for them.
    #[must_use]
    pub const fn server_field_len(self) -> usize {
        match self {
            KeyAlgorithm::Rsa => 768,
            KeyAlgorithm::Ec => self.server_region_len(),
        }
    }
}

/// A server's public key as devices have it. Its bytes are opaque to this crate; check them before writing, the firmware
/// does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerKey<'a> {
    /// RSA-2048 SPKI, of TCP devices.
    Rsa(&'a [u8; RSA_KEY_LEN]),
    /// P-256 SPKI, of UDP devices.
    Ec(&'a [u8; EC_KEY_LEN]),
}

impl<'a> ServerKey<'a> {
    /// The key that has this SPKI, which its length tells; `None` for any other length.
    #[must_use]
    pub fn from_spki(spki: &'a [u8]) -> Option<Self> {
        let rsa = spki.try_into().map(ServerKey::Rsa);
        rsa.or_else(|_| spki.try_into().map(ServerKey::Ec)).ok()
    }

    /// Its kind.
    #[must_use]
    pub const fn algorithm(&self) -> KeyAlgorithm {
        match self {
            ServerKey::Rsa(_) => KeyAlgorithm::Rsa,
            ServerKey::Ec(_) => KeyAlgorithm::Ec,
        }
    }

    /// The SPKI.
    #[must_use]
    pub const fn as_spki(&self) -> &'a [u8] {
        match self {
            ServerKey::Rsa(spki) => *spki,
            ServerKey::Ec(spki) => *spki,
        }
    }

    fn first_of(region: &'a [u8], algorithm: KeyAlgorithm) -> Option<Self> {
        match algorithm {
            KeyAlgorithm::Rsa => region.first_chunk().map(ServerKey::Rsa),
            KeyAlgorithm::Ec => region.first_chunk().map(ServerKey::Ec),
        }
    }
}

impl<'a> From<&'a [u8; RSA_KEY_LEN]> for ServerKey<'a> {
    fn from(spki: &'a [u8; RSA_KEY_LEN]) -> Self {
        ServerKey::Rsa(spki)
    }
}

impl<'a> From<&'a [u8; EC_KEY_LEN]> for ServerKey<'a> {
    fn from(spki: &'a [u8; EC_KEY_LEN]) -> Self {
        ServerKey::Ec(spki)
    }
}

/// Key and address of the server, for TCP in `server_public_key`, for UDP in `alt_server_public_key` and
/// `alt_server_address`, which lie side by side: key, then FF, then address, then FF.
///
/// | offset RSA (TCP) | EC (UDP) | meaning |
/// |---|---|---|
/// | 0 to 294 | 0 to 91 | SPKI in DER, RSA-2048 or P-256; the firmware reads exactly these bytes of the RSA key |
/// | 294 to 384 | 91 to 192 | FF |
/// | 384 to 512 | 192 to 320 | [`ServerAddress`] |
/// | 512 to 768 | | FF (only in the whole field) |
///
/// ```
/// use spark_dct::segment::KeyAlgorithm;
/// use spark_dct::{ServerAddress, ServerKeyRegion};
/// let key = [0x30; 294];
/// let region = ServerKeyRegion::new(&key, Some(ServerAddress::domain("cloud.example.org", None)?));
/// let mut bytes = [0; 512];
/// region.encode_into(&mut bytes)?;
/// assert_eq!(ServerKeyRegion::parse(KeyAlgorithm::Rsa, &bytes)?.key(), Some((&key).into()));
///
/// let key = [0x30; 91];
/// let address = ServerAddress::domain("$id.udp.example.org", None)?;
/// let mut bytes = [0; 320];
/// ServerKeyRegion::new(&key, Some(address)).encode_into(&mut bytes)?;
/// assert_eq!(ServerKeyRegion::parse(KeyAlgorithm::Ec, &bytes)?.address()?, Some(address));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
///
/// # Source
/// `device-os@v0.4.0..v2.3.1: dct.h`, `particle-cli: src/cmd/keys.js`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerKeyRegion<'a> {
    key: ServerKey<'a>,
    block: [u8; server_address::LEN],
}

impl<'a> ServerKeyRegion<'a> {
    /// A region with that key. Without address a TCP device falls back to `device.spark.io`; a UDP device cannot connect,
    /// it has no default.
    #[must_use]
    pub fn new(key: impl Into<ServerKey<'a>>, address: Option<ServerAddress<'_>>) -> Self {
        let mut block = [0xFF; server_address::LEN];
        if let Some(address) = address {
            address.encode_into(&mut block);
        }
        Self { key: key.into(), block }
    }

    /// A region with that key and an address that stays as it was found, oddities included.
    #[must_use]
    pub fn with_address_block(key: impl Into<ServerKey<'a>>, block: &[u8; server_address::LEN]) -> Self {
        Self { key: key.into(), block: *block }
    }

    /// Reads a region: a DFU read, a key file of the host tool, or the whole field.
    ///
    /// An unreadable address is no error of the region: see [`RegionView::address`].
    ///
    /// # Errors
    /// [`RegionError::Length`] when shorter than [`KeyAlgorithm::server_region_len`].
    pub fn parse(algorithm: KeyAlgorithm, region: &'a [u8]) -> Result<RegionView<'a>, RegionError> {
        let error = RegionError::Length { algorithm, length: region.len() };
        let key = ServerKey::first_of(region, algorithm).ok_or(error)?;
        let block = region.get(algorithm.server_address_at()..).and_then(<[u8]>::first_chunk).ok_or(error)?;
        Ok(RegionView { key, block })
    }

    /// Server key.
    #[must_use]
    pub const fn key(&self) -> ServerKey<'a> {
        self.key
    }

    /// The address block.
    #[must_use]
    pub const fn address_block(&self) -> &[u8; server_address::LEN] {
        &self.block
    }

    /// Writes the region; `out` has to have [`KeyAlgorithm::server_region_len`] bytes (for a DFU write) or
    /// [`KeyAlgorithm::server_field_len`] (the whole field).
    ///
    /// # Errors
    /// [`RegionError::Length`] for any other length.
    pub fn encode_into(&self, out: &mut [u8]) -> Result<(), RegionError> {
        let (algorithm, length) = (self.key.algorithm(), out.len());
        if length != algorithm.server_region_len() && length != algorithm.server_field_len() {
            return Err(RegionError::Length { algorithm, length });
        }
        out.fill(0xFF);
        let spki = self.key.as_spki();
        if let Some(slot) = out.get_mut(..spki.len()) {
            slot.copy_from_slice(spki);
        }
        if let Some(block) = out.get_mut(algorithm.server_address_at()..).and_then(<[u8]>::first_chunk_mut) {
            *block = self.block;
        }
        Ok(())
    }
}

/// A region as found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionView<'a> {
    key: ServerKey<'a>,
    block: &'a [u8; server_address::LEN],
}

impl<'a> RegionView<'a> {
    /// Kind of the region.
    #[must_use]
    pub const fn algorithm(&self) -> KeyAlgorithm {
        self.key.algorithm()
    }

    /// The key, `None` when all of its bytes are FF. They are not checked any further.
    #[must_use]
    pub fn key(&self) -> Option<ServerKey<'a>> {
        if self.key.as_spki().iter().all(|byte| *byte == 0xFF) { None } else { Some(self.key) }
    }

    /// The address, `None` when there is none.
    ///
    /// # Errors
    /// As [`ServerAddress::parse`].
    pub fn address(&self) -> Result<Option<ServerAddress<'a>>, AddressError> {
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

/// The address block that a key file has behind a key of `key_len` bytes, where it has its place and nothing but padding
/// before it. What the file lacks at its end is erased: files of 402 bytes went around, which end with the name.
///
/// ```
/// use spark_dct::segment::KeyAlgorithm;
/// use spark_dct::server_key_region::address_block_of_file;
/// let mut file = vec![0x30; 294];
/// assert_eq!(address_block_of_file(KeyAlgorithm::Rsa, &file, 294), None);
/// file.resize(384, 0xFF);
/// file.extend(b"\x01\x0fdevice.spark.io");
/// let block = address_block_of_file(KeyAlgorithm::Rsa, &file, 294).ok_or("no address")?;
/// assert_eq!(block[2..18], *b"device.spark.io\xff");
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[must_use]
pub fn address_block_of_file(
    algorithm: KeyAlgorithm,
    file: &[u8],
    key_len: usize,
) -> Option<[u8; server_address::LEN]> {
    let at = algorithm.server_address_at();
    let is_padding = |bytes: &[u8]| [0xFF, 0x00].iter().any(|fill| bytes.iter().all(|byte| byte == fill));
    let (gap, found) = (file.get(key_len..at)?, file.get(at..)?);
    if !is_padding(gap) || is_padding(found) {
        return None;
    }
    let mut block = [0xFF; server_address::LEN];
    block.iter_mut().zip(found).for_each(|(slot, byte)| *slot = *byte);
    Some(block)
}

/// Why a region cannot be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RegionError {
    /// Wrong length.
    #[error("server key region has {length} bytes; {}", match algorithm {
        KeyAlgorithm::Rsa => "read at least 512, write 512 or 768",
        KeyAlgorithm::Ec => "read at least 320, write 320",
    })]
    Length {
        /// Kind of the region.
        algorithm: KeyAlgorithm,
        /// Length found.
        length: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Field;
    use alloc::vec;
    use alloc::vec::Vec;

    const BOTH: [KeyAlgorithm; 2] = [KeyAlgorithm::Rsa, KeyAlgorithm::Ec];

    fn spki(algorithm: KeyAlgorithm) -> Vec<u8> {
        (0..algorithm.server_key_len()).map(|i| u8::try_from(i % 251).unwrap()).collect()
    }

    #[test]
    fn port_is_where_the_host_tool_has_it() {
        assert_eq!((KeyAlgorithm::Rsa.server_port_at(), KeyAlgorithm::Ec.server_port_at()), (450, 258));
    }

    #[test]
    fn key_and_address_have_their_places_and_the_rest_is_ff() {
        let address = ServerAddress::domain("$id.udp.example.org", Some(8080)).unwrap();
        for algorithm in BOTH {
            let spki = spki(algorithm);
            let key = ServerKey::from_spki(&spki).unwrap();
            assert_eq!((key.algorithm(), key.as_spki()), (algorithm, &*spki));
            let region = ServerKeyRegion::new(key, Some(address));
            for length in [algorithm.server_region_len(), algorithm.server_field_len()] {
                let mut out = vec![0; length];
                region.encode_into(&mut out).unwrap();
                let at = algorithm.server_address_at();
                assert_eq!(out[..spki.len()], spki);
                assert!(out[spki.len()..at].iter().all(|byte| *byte == 0xFF));
                assert_eq!(out[at..at + 2], [1, 19]);
                assert!(out[algorithm.server_region_len()..].iter().all(|byte| *byte == 0xFF));
                let view = ServerKeyRegion::parse(algorithm, &out).unwrap();
                assert_eq!((view.key(), view.address()), (Some(key), Ok(Some(address))));
                assert_eq!((view.algorithm(), view.address_block()), (algorithm, region.address_block()));
                assert!(!view.is_lost());
            }
        }
    }

    #[test]
    fn measures_are_those_of_the_fields() {
        let rsa = Field::SERVER_PUBLIC_KEY;
        assert_eq!(KeyAlgorithm::Rsa.server_field_len(), rsa.len());
        let (key, address) = (Field::ALT_SERVER_PUBLIC_KEY, Field::ALT_SERVER_ADDRESS);
        assert_eq!(key.offset() + KeyAlgorithm::Ec.server_address_at(), address.offset());
        assert_eq!(key.offset() + KeyAlgorithm::Ec.server_field_len(), address.end());
    }

    #[test]
    fn every_shorter_length_is_refused() {
        for algorithm in BOTH {
            let bytes = vec![0xFF; algorithm.server_region_len()];
            for length in 0..bytes.len() {
                let error = RegionError::Length { algorithm, length };
                assert_eq!(ServerKeyRegion::parse(algorithm, &bytes[..length]), Err(error));
            }
        }
    }

    #[test]
    fn erased_regions_hold_neither() {
        for algorithm in BOTH {
            let mut bytes = vec![0xFF; algorithm.server_region_len()];
            let view = ServerKeyRegion::parse(algorithm, &bytes).unwrap();
            assert_eq!((view.key(), view.address(), view.is_lost()), (None, Ok(None), true));
            let spki = spki(algorithm);
            let key = ServerKey::from_spki(&spki).unwrap();
            ServerKeyRegion::new(key, None).encode_into(&mut bytes).unwrap();
            let view = ServerKeyRegion::parse(algorithm, &bytes).unwrap();
            assert_eq!((view.key(), view.address(), view.is_lost()), (Some(key), Ok(None), false));
        }
    }

    #[test]
    fn other_lengths_are_not_written() {
        for (algorithm, lengths) in [
            (KeyAlgorithm::Rsa, [0, 294, 320, 511, 513, 767]),
            (KeyAlgorithm::Ec, [0, 91, 319, 321, 512, 768]),
        ] {
            let spki = spki(algorithm);
            let region = ServerKeyRegion::new(ServerKey::from_spki(&spki).unwrap(), None);
            for length in lengths {
                let mut out = [7; 768];
                let error = RegionError::Length { algorithm, length };
                assert_eq!(region.encode_into(&mut out[..length]), Err(error));
                assert_eq!(out, [7; 768]);
            }
        }
    }

    #[test]
    fn spki_of_another_length_is_no_key_for_a_region() {
        for length in (0..300).filter(|length| ![EC_KEY_LEN, RSA_KEY_LEN].contains(length)) {
            assert_eq!(ServerKey::from_spki(&vec![0x30; length]), None, "{length}");
        }
    }

    #[test]
    fn an_address_stays_as_it_was_found() {
        let mut block = [0xFF; 128];
        block[..6].copy_from_slice(&[0, 3, 0, 1, 2, 0]);
        let key = [0x30; EC_KEY_LEN];
        let mut out = [0; 320];
        ServerKeyRegion::with_address_block(&key, &block).encode_into(&mut out).unwrap();
        assert_eq!(out[192..], block);
    }

    #[test]
    fn a_file_has_an_address_only_in_its_place_and_behind_padding() {
        for algorithm in BOTH {
            let at = algorithm.server_address_at();
            let key_len = algorithm.server_key_len();
            let of = |file: &[u8]| address_block_of_file(algorithm, file, key_len);
            for fill in [0xFF, 0x00] {
                let mut file = spki(algorithm);
                assert_eq!(of(&file), None, "a bare key");
                file.resize(at, fill);
                assert_eq!(of(&file), None, "a padded key");
                file.extend([fill; 128]);
                assert_eq!(of(&file), None, "an empty place");
                file[at..at + 4].copy_from_slice(b"\x01\x02ab");
                assert_eq!(of(&file).unwrap(), file[at..]);
                let block = of(&file[..at + 4]).unwrap();
                assert_eq!((&block[..4], &block[4..]), (&b"\x01\x02ab"[..], &[0xFF; 124][..]));
                file[key_len + 1] = 0x20;
                assert_eq!(of(&file), None, "something else between");
            }
        }
    }
}
