//! EC private keys: SEC1, alone or in PKCS#8.

use super::public_key::{curve, ec_algorithm, point_of_bits};
use super::{EcDeviceKey, POINT_LEN, SIZE};
use crate::der::{BIT_STRING, DerError, Element, OCTET_STRING, Reader, SEQUENCE, strip};

/// `[0]`, the curve.
const PARAMETERS: u8 = 0xA0;
/// `[1]`, the point.
const PUBLIC_KEY: u8 = 0xA1;

/// An EC private key (SEC1 `ECPrivateKey`), borrowed from DER.
///
/// ```text
/// ECPrivateKey ::= SEQUENCE { version 1, OCTET STRING number, [0] curve OPTIONAL, [1] BIT STRING point OPTIONAL }
/// ```
///
/// Holding one means that the structure is right and a named curve is P-256, not that the numbers belong together:
/// [`EcDeviceKey::from_view`] says that. `Debug` shows no secret.
///
/// # Source
/// RFC 5915 section 3.
#[derive(Clone, Copy)]
pub struct EcPrivateKeyView<'a> {
    scalar: &'a [u8],
    scalar_offset: usize,
    curve_is_named: bool,
    point: Option<&'a [u8]>,
    der_len: usize,
    trailing: &'a [u8],
}

impl<'a> EcPrivateKeyView<'a> {
    /// Reads a SEC1 key at the start of `input`; any bytes may follow it. Curve and point may be missing.
    ///
    /// # Errors
    /// Any [`DerError`]; [`DerError::Value`] for another version or curve, or a private number that is not in 32 bytes.
    pub fn parse_sec1(input: &'a [u8]) -> Result<Self, DerError> {
        let mut outer = Reader::new(input);
        let sequence = outer.element(SEQUENCE)?;
        let mut view = Self::inside(&sequence)?;
        view.der_len = outer.offset();
        view.trailing = outer.rest();
        Ok(view)
    }

    /// Reads a PKCS#8 `PrivateKeyInfo` with a P-256 key at the start of `input`; any bytes may follow it.
    ///
    /// # Errors
    /// As [`parse_sec1`](Self::parse_sec1); [`DerError::Value`] also when it is not an EC key.
    pub fn parse_pkcs8(input: &'a [u8]) -> Result<Self, DerError> {
        let mut outer = Reader::new(input);
        let info = outer.element(SEQUENCE)?;
        let mut inner = Reader::inside(&info);
        let version = inner.integer()?;
        if !version.magnitude().is_empty() {
            return Err(DerError::Value { offset: version.offset() });
        }
        ec_algorithm(&mut inner)?;
        let key = inner.element(OCTET_STRING)?;
        let sequence = Reader::inside(&key).element(SEQUENCE)?;
        let mut view = Self::inside(&sequence)?;
        view.curve_is_named = true;
        view.der_len = outer.offset();
        view.trailing = outer.rest();
        Ok(view)
    }

    fn inside(sequence: &Element<'a>) -> Result<Self, DerError> {
        let mut inner = Reader::inside(sequence);
        let version = inner.integer()?;
        if version.magnitude() != [1] {
            return Err(DerError::Value { offset: version.offset() });
        }
        let number = inner.element(OCTET_STRING)?;
        let scalar = strip(number.content);
        let mut view = Self {
            scalar,
            scalar_offset: number.content_offset + number.content.len() - scalar.len(),
            curve_is_named: false,
            point: None,
            der_len: 0,
            trailing: &[],
        };
        if inner.rest().first() == Some(&PARAMETERS) {
            let parameters = inner.element(PARAMETERS)?;
            curve(&mut Reader::inside(&parameters))?;
            view.curve_is_named = true;
        }
        if scalar.len() > SIZE {
            return Err(DerError::Value { offset: number.offset });
        }
        if inner.rest().first() == Some(&PUBLIC_KEY) {
            let public = inner.element(PUBLIC_KEY)?;
            view.point = Some(Reader::inside(&public).element(BIT_STRING)?.content);
        }
        match inner.rest() {
            [] => Ok(view),
            _ => Err(DerError::Sum { declared: inner.offset() + inner.rest().len(), found: inner.offset() }),
        }
    }

    /// The private number, big-endian, without leading zeros: at most 32 bytes.
    #[must_use]
    pub const fn scalar(&self) -> &'a [u8] {
        self.scalar
    }

    /// Where the private number starts in the DER.
    #[must_use]
    pub const fn scalar_offset(&self) -> usize {
        self.scalar_offset
    }

    /// Whether the key says that its curve is P-256; a bare SEC1 key need not.
    #[must_use]
    pub const fn curve_is_named(&self) -> bool {
        self.curve_is_named
    }

    /// Whether the key holds a point.
    #[must_use]
    pub const fn has_point(&self) -> bool {
        self.point.is_some()
    }

    /// The point that is stored, x and y; `None` when there is none or it is not on the curve.
    #[must_use]
    pub fn stored_point(&self) -> Option<[u8; POINT_LEN]> {
        self.point.and_then(point_of_bits)
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

    /// The key in canonical form, with its point computed.
    ///
    /// # Errors
    /// As [`EcDeviceKey::from_view`].
    pub fn to_device_key(&self) -> Result<EcDeviceKey, EcKeyError> {
        EcDeviceKey::from_view(self)
    }
}

impl core::fmt::Debug for EcPrivateKeyView<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EcPrivateKeyView")
            .field("curve_is_named", &self.curve_is_named)
            .field("has_point", &self.point.is_some())
            .field("der_len", &self.der_len)
            .finish_non_exhaustive()
    }
}

/// Why an EC key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum EcKeyError {
    /// The private number is 0 or not below the order of the curve.
    #[error("private number is out of range for P-256; the key is damaged, generate another key")]
    Range,
    /// The stored point is not on the curve or belongs to another private number.
    #[error(
        "public point does not belong to the private number; the key is damaged, restore it from a backup"
    )]
    Point,
}
