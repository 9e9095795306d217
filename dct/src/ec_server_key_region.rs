//! The two fields that hold server key and server address of UDP devices, which host tools read and write as one.

use crate::server_address::{self, ServerAddress};

/// Length of the server's public key: a P-256 SPKI in DER.
pub const KEY_LEN: usize = 91;
/// Where the address block starts.
pub const ADDRESS_AT: usize = 192;
/// Length of both fields, and what host tools write.
pub const LEN: usize = 320;

/// Content of `alt_server_public_key` and `alt_server_address`, which lie side by side: key, then FF, then address.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 91 | P-256 SPKI in DER |
/// | 91 | 101 | FF |
/// | 192 | 128 | [`ServerAddress`] |
///
/// The key's bytes are opaque to this crate; check them before writing, the firmware does not.
///
/// ```
/// use spark_dct::{EcServerKeyRegion, ServerAddress};
/// let key = [0x30; 91];
/// let address = ServerAddress::domain("$id.udp.example.org", None)?;
/// let bytes = EcServerKeyRegion::new(&key, Some(address)).to_bytes();
/// let view = EcServerKeyRegion::parse(&bytes);
/// assert_eq!((view.key(), view.address()?), (Some(&key), Some(address)));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
///
/// # Source
/// `device-os@v0.4.9..v2.3.1: dct.h`, `particle-cli: src/cmd/keys.js`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EcServerKeyRegion<'a> {
    key: &'a [u8; KEY_LEN],
    address: Option<ServerAddress<'a>>,
}

impl<'a> EcServerKeyRegion<'a> {
    /// A region with that key; without address a UDP device cannot connect, it has no default.
    #[must_use]
    pub const fn new(key: &'a [u8; KEY_LEN], address: Option<ServerAddress<'a>>) -> Self {
        Self { key, address }
    }

    /// Reads a region: a DFU read, or a key file of the host tool.
    ///
    /// An unreadable address is no error of the region: see [`EcRegionView::address`].
    #[must_use]
    pub const fn parse(region: &'a [u8; LEN]) -> EcRegionView<'a> {
        EcRegionView { region }
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

    /// The bytes of both fields.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut out = [0xFF; LEN];
        if let Some(key) = out.first_chunk_mut() {
            *key = *self.key;
        }
        if let (Some(address), Some(block)) =
            (self.address, out.get_mut(ADDRESS_AT..).and_then(<[u8]>::first_chunk_mut))
        {
            address.encode_into(block);
        }
        out
    }
}

/// A region as found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EcRegionView<'a> {
    region: &'a [u8; LEN],
}

impl<'a> EcRegionView<'a> {
    /// The 91 key bytes, `None` when all are FF. They are not checked any further.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8; KEY_LEN]> {
        self.region.first_chunk().filter(|key: &&[u8; KEY_LEN]| key.iter().any(|byte| *byte != 0xFF))
    }

    /// The address, `None` when there is none.
    ///
    /// # Errors
    /// As [`ServerAddress::parse`].
    pub fn address(&self) -> Result<Option<ServerAddress<'a>>, server_address::AddressError> {
        self.region.last_chunk().map_or(Ok(None), ServerAddress::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_address_have_their_places_and_the_rest_is_ff() {
        let key = core::array::from_fn(|i| u8::try_from(i).unwrap());
        let address = ServerAddress::domain("$id.udp.example.org", Some(8080)).unwrap();
        let bytes = EcServerKeyRegion::new(&key, Some(address)).to_bytes();
        assert!(bytes[KEY_LEN..ADDRESS_AT].iter().all(|byte| *byte == 0xFF));
        assert_eq!(bytes[ADDRESS_AT..ADDRESS_AT + 2], [1, 19]);
        let view = EcServerKeyRegion::parse(&bytes);
        assert_eq!((view.key(), view.address()), (Some(&key), Ok(Some(address))));
    }

    #[test]
    fn erased_fields_hold_neither() {
        let view = EcServerKeyRegion::parse(&[0xFF; LEN]);
        assert_eq!((view.key(), view.address()), (None, Ok(None)));
        let bytes = EcServerKeyRegion::new(&[7; KEY_LEN], None).to_bytes();
        assert_eq!(EcServerKeyRegion::parse(&bytes).address(), Ok(None));
    }
}
