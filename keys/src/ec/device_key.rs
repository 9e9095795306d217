//! The private key of a UDP device.

use super::{EC_PUBLIC_KEY, EcKeyError, EcPrivateKeyView, POINT_LEN, PRIME256V1, SIZE, SPKI_P256_LEN};
use super::{point_of, spki_p256};
use crate::der::{BufferTooSmall, Writer};
use crate::fingerprint::Fingerprint;
use rand_core::CryptoRng;
use zeroize::Zeroize;

/// Bytes of the device's field for an EC private key.
pub const EC_FIELD_LEN: usize = 192;
/// Length of the canonical SEC1 DER.
pub const EC_DER_LEN: usize = 121;
/// Length of the canonical PKCS#8 DER, as OpenSSL writes it.
pub const EC_PKCS8_LEN: usize = 138;

/// A P-256 key ready for the device.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 7 | `30 77 02 01 01 04 20` |
/// | 7 | 32 | private number, big-endian |
/// | 39 | 12 | curve prime256v1 |
/// | 51 | 6 | `A1 44 03 42 00 04` |
/// | 57 | 64 | point |
///
/// Its bytes are wiped when it is dropped; `Debug` shows the fingerprint only.
pub struct EcDeviceKey {
    scalar: [u8; SIZE],
    point: [u8; POINT_LEN],
    der: [u8; EC_DER_LEN],
    field: [u8; EC_FIELD_LEN],
}

impl EcDeviceKey {
    /// Canonicalises a key: the point is computed, and compared when one is stored.
    ///
    /// # Errors
    /// [`EcKeyError`].
    pub fn from_view(key: &EcPrivateKeyView<'_>) -> Result<Self, EcKeyError> {
        let mut scalar = [0; SIZE];
        for (slot, byte) in scalar.iter_mut().rev().zip(key.scalar().iter().rev()) {
            *slot = *byte;
        }
        let this = Self::from_scalar(&scalar);
        scalar.zeroize();
        let this = this?;
        if key.has_point() && key.stored_point().as_ref() != Some(this.point()) {
            return Err(EcKeyError::Point);
        }
        Ok(this)
    }

    /// The key with this private number, big-endian.
    ///
    /// # Errors
    /// [`EcKeyError::Range`].
    pub fn from_scalar(scalar: &[u8; SIZE]) -> Result<Self, EcKeyError> {
        let point = point_of(scalar).ok_or(EcKeyError::Range)?;
        let mut this = Self { scalar: *scalar, point, der: [0; EC_DER_LEN], field: [0xFF; EC_FIELD_LEN] };
        let parts: [&[u8]; 6] = [
            &[0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20],
            scalar,
            &[0xA0, 0x0A, 0x06, 0x08],
            &PRIME256V1,
            &[0xA1, 0x44, 0x03, 0x42, 0x00, 0x04],
            &point,
        ];
        for (i, byte) in parts.into_iter().flatten().enumerate() {
            for out in [this.der.get_mut(i), this.field.get_mut(i)].into_iter().flatten() {
                *out = *byte;
            }
        }
        Ok(this)
    }

    /// Generates a key.
    ///
    /// ```
    /// use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
    /// let mut rng = ChaCha20Rng::seed_from_u64(1); // use the operating system's source instead
    /// let key = spark_keys::EcDeviceKey::generate(&mut rng);
    /// assert!(spark_keys::check_ec(key.as_field()).is_clean());
    /// ```
    ///
    /// Takes further random bytes when the first are out of range, once in 4 billion times.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut scalar = [0; SIZE];
        loop {
            rng.fill_bytes(&mut scalar);
            if let Ok(key) = Self::from_scalar(&scalar) {
                scalar.zeroize();
                return key;
            }
        }
    }

    /// The SEC1 DER.
    #[must_use]
    pub const fn as_der(&self) -> &[u8; EC_DER_LEN] {
        &self.der
    }

    /// The whole field of 192 bytes: DER, then FF.
    #[must_use]
    pub const fn as_field(&self) -> &[u8; EC_FIELD_LEN] {
        &self.field
    }

    /// The private number, big-endian. Secret.
    #[must_use]
    pub const fn scalar(&self) -> &[u8; SIZE] {
        &self.scalar
    }

    /// The point, x and y of 32 bytes each.
    #[must_use]
    pub const fn point(&self) -> &[u8; POINT_LEN] {
        &self.point
    }

    /// The public key (SPKI, 91 bytes).
    #[must_use]
    pub fn public_key(&self) -> [u8; SPKI_P256_LEN] {
        spki_p256(&self.point)
    }

    /// Fingerprint of the public key.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_spki(&self.public_key())
    }

    /// Writes the key in PKCS#8, [`EC_PKCS8_LEN`] bytes, as OpenSSL does: the curve in the outer structure only.
    ///
    /// # Errors
    /// [`BufferTooSmall`].
    pub fn encode_pkcs8_into<'b>(&self, out: &'b mut [u8]) -> Result<&'b [u8], BufferTooSmall> {
        let mut writer = Writer::new(out);
        writer.bytes(&[0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07]);
        writer.bytes(&EC_PUBLIC_KEY);
        writer.bytes(&[0x06, 0x08]);
        writer.bytes(&PRIME256V1);
        writer.bytes(&[0x04, 0x6D, 0x30, 0x6B, 0x02, 0x01, 0x01, 0x04, 0x20]);
        writer.bytes(&self.scalar);
        writer.bytes(&[0xA1, 0x44, 0x03, 0x42, 0x00, 0x04]);
        writer.bytes(&self.point);
        writer.finish()
    }
}

impl Drop for EcDeviceKey {
    fn drop(&mut self) {
        self.scalar.zeroize();
        self.der.zeroize();
        self.field.zeroize();
    }
}

impl core::fmt::Debug for EcDeviceKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EcDeviceKey").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}
