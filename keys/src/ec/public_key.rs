//! EC public keys: SPKI.

use super::{EC_PUBLIC_KEY, PRIME256V1, decode_point};
use crate::der::{BIT_STRING, DerError, Element, OBJECT_IDENTIFIER, Reader, SEQUENCE};
use crate::fingerprint::Fingerprint;

/// Length of the SPKI of a P-256 key.
pub const SPKI_P256_LEN: usize = 91;
/// Length of the two coordinates.
pub const POINT_LEN: usize = 64;

const PREFIX: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A, 0x86,
    0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

/// SPKI of a P-256 key.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 27 | fixed prefix, ends with `04` for an uncompressed point |
/// | 27 | 32 | x, big-endian |
/// | 59 | 32 | y, big-endian |
#[must_use]
pub fn spki_p256(point: &[u8; POINT_LEN]) -> [u8; SPKI_P256_LEN] {
    let mut out = [0; SPKI_P256_LEN];
    for (slot, byte) in out.iter_mut().zip(PREFIX.iter().chain(point)) {
        *slot = *byte;
    }
    out
}

/// A P-256 public key whose point is on the curve.
#[derive(Clone, Copy)]
pub struct EcPublicKeyView<'a> {
    point: [u8; POINT_LEN],
    der_len: usize,
    trailing: &'a [u8],
}

impl<'a> EcPublicKeyView<'a> {
    /// Reads a `SubjectPublicKeyInfo` at the start of `input`; any bytes may follow it, as in a dump or in the host
    /// tool's key file of 320 bytes. A compressed point is accepted.
    ///
    /// # Errors
    /// Any [`DerError`]; [`DerError::Value`] when it is not a P-256 key or the point is not on the curve.
    pub fn parse_spki(input: &'a [u8]) -> Result<Self, DerError> {
        let mut outer = Reader::new(input);
        let spki = outer.element(SEQUENCE)?;
        let mut inner = Reader::inside(&spki);
        ec_algorithm(&mut inner)?;
        let bits = inner.element(BIT_STRING)?;
        if !inner.rest().is_empty() {
            return Err(DerError::Sum { declared: outer.offset(), found: inner.offset() });
        }
        let point = point_of_bits(bits.content).ok_or(DerError::Value { offset: bits.offset })?;
        Ok(Self { point, der_len: outer.offset(), trailing: outer.rest() })
    }

    /// x and y, 32 bytes each, big-endian.
    #[must_use]
    pub const fn point(&self) -> &[u8; POINT_LEN] {
        &self.point
    }

    /// The key in canonical form.
    #[must_use]
    pub fn spki(&self) -> [u8; SPKI_P256_LEN] {
        spki_p256(&self.point)
    }

    /// Fingerprint: of the canonical SPKI.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_spki(&self.spki())
    }

    /// Length of the DER.
    #[must_use]
    pub const fn der_len(&self) -> usize {
        self.der_len
    }

    /// What follows the DER.
    #[must_use]
    pub const fn trailing(&self) -> &'a [u8] {
        self.trailing
    }
}

/// Without the bytes behind the key: in a dump of a device they may be a private key.
impl core::fmt::Debug for EcPublicKeyView<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EcPublicKeyView")
            .field("fingerprint", &self.fingerprint())
            .field("der_len", &self.der_len)
            .finish_non_exhaustive()
    }
}

/// Reads `AlgorithmIdentifier { id-ecPublicKey, prime256v1 }`.
pub(super) fn ec_algorithm(reader: &mut Reader<'_>) -> Result<(), DerError> {
    let algorithm = reader.element(SEQUENCE)?;
    let mut inner = Reader::inside(&algorithm);
    let oid = inner.element(OBJECT_IDENTIFIER)?;
    if oid.content != EC_PUBLIC_KEY {
        return Err(DerError::Value { offset: oid.offset });
    }
    curve(&mut inner)?;
    match inner.rest() {
        [] => Ok(()),
        _ => Err(DerError::Sum { declared: reader.offset(), found: inner.offset() }),
    }
}

/// The name of P-256.
pub(super) fn curve(reader: &mut Reader<'_>) -> Result<(), DerError> {
    /// `1.3.132.0`, the curves of SECG: all others in use, and too far from P-256's name to be its damage.
    const SECG: [u8; 4] = [0x2B, 0x81, 0x04, 0x00];
    let Element { content, offset, .. } = reader.element(OBJECT_IDENTIFIER)?;
    if content == PRIME256V1 {
        Ok(())
    } else if content.starts_with(&SECG) {
        Err(DerError::Curve { offset })
    } else {
        Err(DerError::Value { offset })
    }
}

/// The point in the content of a BIT STRING, whose first byte is the number of unused bits.
pub(super) fn point_of_bits(content: &[u8]) -> Option<[u8; POINT_LEN]> {
    match content.split_first() {
        Some((0, point)) => decode_point(point),
        _ => None,
    }
}
