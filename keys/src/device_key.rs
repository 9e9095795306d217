//! A private key in the form that a device takes.

use crate::fingerprint::Fingerprint;
use crate::private_key::{Number, RsaPrivateKeyView, bits};
use zeroize::Zeroize;

/// Bytes of the device's key field that the firmware reads.
pub const FIELD_LEN: usize = 612;
/// Shortest DER of a key that a device can use: n, p and q with their leading zeros, the others without.
pub const MIN_DEVICE_DER: usize = 607;
/// Longest DER that fits the field with 1024 bits: every number with a leading zero.
pub const MAX_DEVICE_DER: usize = 611;

/// A device key ready for the device: canonical RSA-1024 PKCS#1 DER that obeys the device's length rule.
///
/// Its bytes are wiped when it is dropped; `Debug` shows the fingerprint only.
pub struct DeviceKey {
    bytes: [u8; FIELD_LEN],
    len: usize,
}

impl DeviceKey {
    /// Canonicalises a key and checks it for the device.
    ///
    /// # Errors
    /// [`DeviceKeyError`]: not 1024 bits, or a number that the device would misread, or numbers that do not belong
    /// together. Such a key has to be replaced; another encoding does not help.
    pub fn from_view(key: &RsaPrivateKeyView<'_>) -> Result<Self, DeviceKeyError> {
        let bits = bits(key.modulus());
        if bits != 1024 {
            return Err(DeviceKeyError::Bits { bits });
        }
        let mut this = DeviceKey { bytes: [0xFF; FIELD_LEN], len: 0 };
        this.len = match key.encode_into(&mut this.bytes) {
            Ok(der) => der.len(),
            Err(error) => return Err(DeviceKeyError::Length { length: error.needed }),
        };
        let canonical = RsaPrivateKeyView::parse(this.as_der()).map_err(|_| DeviceKeyError::Relation)?;
        if let Some((number, length)) = canonical.device_incompatible() {
            return Err(DeviceKeyError::Incompatible { number, length });
        }
        if key.number(Number::E).magnitude() != [1, 0, 1] {
            return Err(DeviceKeyError::Exponent);
        }
        if !crate::arithmetic::verdict(key).is_key() {
            return Err(DeviceKeyError::Relation);
        }
        Ok(this)
    }

    /// The DER, 607 to 611 bytes as a rule.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// The whole field of 612 bytes: DER, then FF. Write this, so that no stale bytes of a longer key remain.
    #[must_use]
    pub const fn as_field(&self) -> &[u8; FIELD_LEN] {
        &self.bytes
    }

    /// The public key that the device will publish (SPKI, 162 bytes).
    #[must_use]
    pub fn public_key(&self) -> [u8; crate::public_key::SPKI_1024_LEN] {
        crate::public_key::published_by_device(&self.bytes)
    }

    /// Fingerprint of the public key.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_spki(&self.public_key())
    }
}

impl Drop for DeviceKey {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl core::fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("DeviceKey").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

/// Why a key cannot be a device's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DeviceKeyError {
    /// Not RSA-1024.
    #[error("key has {bits} bits where the device takes 1024; generate an RSA-1024 key")]
    Bits {
        /// Bits of the modulus.
        bits: usize,
    },
    /// The DER is longer than the field.
    #[error("key has {length} bytes where the device reads 612; generate another key")]
    Length {
        /// Length of the DER.
        length: usize,
    },
    /// A number that the device reads at a wrong place.
    #[error("number {number} is encoded in {length} bytes, which the device misreads; generate another key")]
    Incompatible {
        /// Which number.
        number: Number,
        /// Its encoded length.
        length: usize,
    },
    /// Another public exponent than 65537, which devices take for granted.
    #[error("public exponent is not 65537, the only one that the device knows; generate another key")]
    Exponent,
    /// The numbers do not belong together.
    #[error("numbers of the key do not belong together; the key is damaged, generate another key")]
    Relation,
}
