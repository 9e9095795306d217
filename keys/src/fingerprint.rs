//! Fingerprints of public keys.

use crate::public_key::{spki_1024, spki_2048};
use sha2::{Digest, Sha256};

/// SHA-256 of the SPKI in canonical DER. Displays as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(crate) const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Of an SPKI; the caller makes sure that it is canonical and nothing follows it.
    #[must_use]
    pub fn of_spki(spki: &[u8]) -> Self {
        Self(Sha256::digest(spki).into())
    }

    /// Of a modulus of 1024 or 2048 bits with exponent 65537.
    pub(crate) fn of_numbers(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        if exponent != [1, 0, 1] || modulus.first().is_none_or(|first| *first < 0x80) {
            return None;
        }
        if let Ok(modulus) = modulus.try_into() {
            return Some(Self::of_spki(&spki_1024(modulus)));
        }
        modulus.try_into().ok().map(|modulus| Self::of_spki(&spki_2048(modulus)))
    }

    /// All 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 8 bytes, for people.
    #[must_use]
    pub const fn short(&self) -> ShortFingerprint {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        ShortFingerprint([a, b, c, d, e, f, g, h])
    }
}

impl core::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl core::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

/// The first 8 bytes of a [`Fingerprint`]. Displays as 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ShortFingerprint([u8; 8]);

impl core::fmt::Display for ShortFingerprint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl core::fmt::Debug for ShortFingerprint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}
