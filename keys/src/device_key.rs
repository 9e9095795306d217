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

/// A device key ready for the device: RSA-1024 PKCS#1 DER that obeys the device's length rule.
///
/// It is canonical DER if the device reads that right. About one key in 100 has a number that is too short for it; such a key is
/// [padded](Self::is_padded): every number has the length that devices since v0.4.8 give it when they generate keys themselves.
/// Devices, OpenSSL and mbedtls read that; strict readers of DER refuse it.
///
/// Its bytes are wiped when it is dropped; `Debug` shows the fingerprint only.
pub struct DeviceKey {
    bytes: [u8; FIELD_LEN],
    len: usize,
}

impl DeviceKey {
    /// Encodes a key as the device reads it and checks it.
    ///
    /// # Errors
    /// [`DeviceKeyError`]: not 1024 bits, a prime that is longer than 64 bytes, another exponent, or numbers that do not
    /// belong together. Such a key has to be replaced; another encoding does not help.
    pub fn from_view(key: &RsaPrivateKeyView<'_>) -> Result<Self, DeviceKeyError> {
        let bits = bits(key.modulus());
        if bits != 1024 {
            return Err(DeviceKeyError::Bits { bits });
        }
        if key.number(Number::E).magnitude() != [1, 0, 1] {
            return Err(DeviceKeyError::Exponent);
        }
        let mut this = DeviceKey { bytes: [0xFF; FIELD_LEN], len: 0 };
        this.len = match key.encode_into(&mut this.bytes) {
            Ok(der) => der.len(),
            Err(error) => return Err(DeviceKeyError::Length { length: error.needed }),
        };
        let canonical = RsaPrivateKeyView::parse(this.as_der()).map_err(|_| DeviceKeyError::Relation)?;
        if let Some((number, length)) = canonical.device_incompatible() {
            this.pad(key).ok_or(DeviceKeyError::Incompatible { number, length })?;
        }
        if !crate::arithmetic::verdict(key).is_key() {
            return Err(DeviceKeyError::Relation);
        }
        Ok(this)
    }

    /// Every number at full length; `None` when one is longer.
    fn pad(&mut self, key: &RsaPrivateKeyView<'_>) -> Option<()> {
        /// SEQUENCE of 607 bytes, and version 0.
        const HEADER: [u8; 7] = [0x30, 0x82, 0x02, 0x5F, 0x02, 0x01, 0x00];
        const LONG: &[u8] = &[0x02, 0x81, 0x81];
        const SHORT: &[u8] = &[0x02, 0x41];
        self.bytes.fill(0xFF);
        let mut rest = self.bytes.as_mut_slice();
        let mut put = |bytes: &[u8]| {
            let (front, behind) = core::mem::take(&mut rest).split_at_mut_checked(bytes.len())?;
            front.copy_from_slice(bytes);
            rest = behind;
            Some(())
        };
        put(&HEADER)?;
        for number in Number::ALL.into_iter().skip(1) {
            let magnitude = key.number(number).magnitude();
            let (header, len) = match number {
                Number::E => {
                    put(&[0x02, 0x03])?;
                    put(magnitude.get(..3)?)?;
                    continue;
                }
                Number::N | Number::D => (LONG, 129),
                _ => (SHORT, 65),
            };
            put(header)?;
            for _ in 0..usize::checked_sub(len, magnitude.len()).filter(|zeros| *zeros > 0)? {
                put(&[0])?;
            }
            put(magnitude)?;
        }
        self.len = MAX_DEVICE_DER;
        Some(())
    }

    /// Whether the numbers have needless zeros, because the device would misread the shortest form of one of them.
    #[must_use]
    pub fn is_padded(&self) -> bool {
        RsaPrivateKeyView::parse(self.as_der()).is_ok_and(|key| !key.is_minimal())
    }

    /// The DER, 607 to 611 bytes.
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
    /// A number that the device reads at a wrong place, and that padding does not bring to the right one.
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
