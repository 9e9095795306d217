//! RSA public keys: SPKI and PKCS#1, fingerprints, and what a device publishes.

use crate::der::{
    BIT_STRING, BufferTooSmall, DerError, Integer, NULL, OBJECT_IDENTIFIER, Reader, SEQUENCE, Writer,
    header_len, integer_len,
};
use crate::fingerprint::Fingerprint;

/// Length of an RSA-1024 SPKI with exponent 65537.
pub const SPKI_1024_LEN: usize = 162;
/// Length of an RSA-2048 SPKI with exponent 65537.
pub const SPKI_2048_LEN: usize = 294;

/// `1.2.840.113549.1.1.1`
pub(crate) const RSA_ENCRYPTION: [u8; 9] = [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01];

/// `AlgorithmIdentifier { rsaEncryption, NULL }`
pub(crate) const RSA_ALGORITHM: [u8; 15] =
    [0x30, 0x0D, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01, 0x05, 0x00];

const PREFIX_1024: [u8; 29] = [
    0x30, 0x81, 0x9F, 0x30, 0x0D, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01, 0x05,
    0x00, 0x03, 0x81, 0x8D, 0x00, 0x30, 0x81, 0x89, 0x02, 0x81, 0x81, 0x00,
];
const PREFIX_2048: [u8; 33] = [
    0x30, 0x82, 0x01, 0x22, 0x30, 0x0D, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01,
    0x05, 0x00, 0x03, 0x82, 0x01, 0x0F, 0x00, 0x30, 0x82, 0x01, 0x0A, 0x02, 0x82, 0x01, 0x01, 0x00,
];
const EXPONENT: [u8; 5] = [0x02, 0x03, 0x01, 0x00, 0x01];

/// SPKI of an RSA-1024 key with exponent 65537.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 29 | fixed prefix |
/// | 29 | 128 | modulus, big-endian |
/// | 157 | 5 | `02 03 01 00 01` |
///
/// The modulus has to have its top bit set for the result to be DER; a device publishes whatever it finds.
#[must_use]
pub fn spki_1024(modulus: &[u8; 128]) -> [u8; SPKI_1024_LEN] {
    let mut out = [0; SPKI_1024_LEN];
    join(&mut out, &[&PREFIX_1024, modulus, &EXPONENT]);
    out
}

/// SPKI of an RSA-2048 key with exponent 65537: prefix of 33 bytes, modulus of 256, exponent of 5.
#[must_use]
pub fn spki_2048(modulus: &[u8; 256]) -> [u8; SPKI_2048_LEN] {
    let mut out = [0; SPKI_2048_LEN];
    join(&mut out, &[&PREFIX_2048, modulus, &EXPONENT]);
    out
}

fn join(out: &mut [u8], parts: &[&[u8]]) {
    for (slot, byte) in out.iter_mut().zip(parts.iter().copied().flatten()) {
        *slot = *byte;
    }
}

/// The public key that a device with this private key field sends to the cloud.
///
/// The firmware checks nothing: it puts 128 bytes from offset **11** of the field between a constant prefix and the
/// exponent. A field shorter than 139 bytes counts as followed by FF. With a wrong form in the field this publishes
/// other bytes than a modulus, with a SEC1 EC key even 28 bytes of the private number.
///
/// # Source
/// `device-os@v0.4.0..v2.3.1: communication/src/handshake.cpp`
#[must_use]
pub fn published_by_device(field: &[u8]) -> [u8; SPKI_1024_LEN] {
    let mut modulus = [0xFF; 128];
    join(&mut modulus, &[field.get(11..).unwrap_or(&[])]);
    spki_1024(&modulus)
}

/// An RSA public key, borrowed from DER.
#[derive(Clone, Copy)]
pub struct RsaPublicKeyView<'a> {
    modulus: Integer<'a>,
    exponent: Integer<'a>,
    der_len: usize,
    trailing: &'a [u8],
}

/// Without the bytes behind the key: in a dump of a device they may be a private key.
impl core::fmt::Debug for RsaPublicKeyView<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RsaPublicKeyView")
            .field("bits", &self.bits())
            .field("der_len", &self.der_len)
            .field("trailing", &self.trailing.len())
            .finish_non_exhaustive()
    }
}

impl<'a> RsaPublicKeyView<'a> {
    /// Reads a `SubjectPublicKeyInfo` at the start of `input`; any bytes may follow it, as in a dump or in the host
    /// tool's key file of 512 bytes.
    ///
    /// # Errors
    /// Any [`DerError`]; [`DerError::Value`] when it is not an RSA key.
    pub fn parse_spki(input: &'a [u8]) -> Result<Self, DerError> {
        let mut outer = Reader::new(input);
        let spki = outer.element(SEQUENCE)?;
        let mut inner = Reader::inside(&spki);
        let algorithm = inner.element(SEQUENCE)?;
        rsa_algorithm(&mut Reader::inside(&algorithm))?;
        let bits = inner.element(BIT_STRING)?;
        if !inner.rest().is_empty() {
            return Err(DerError::Sum { declared: outer.offset(), found: inner.offset() });
        }
        let mut content = Reader::inside(&bits);
        // first content byte: number of unused bits
        let key = match bits.content.split_first() {
            Some((0, key)) => key,
            _ => return Err(DerError::Value { offset: bits.offset }),
        };
        let base = content.offset() + 1;
        content = Reader::new(key);
        let (modulus, exponent) = numbers(&mut content).map_err(|error| shifted(error, base))?;
        if !content.rest().is_empty() {
            return Err(DerError::Sum { declared: inner.offset(), found: base + content.offset() });
        }
        Ok(Self { modulus, exponent, der_len: outer.offset(), trailing: outer.rest() })
    }

    /// As [`parse_spki`](Self::parse_spki), but refuses bytes after the key and numbers with needless zeros.
    ///
    /// # Errors
    /// As [`parse_spki`](Self::parse_spki), and [`DerError::Sum`] or [`DerError::Integer`] for these.
    pub fn parse_spki_strict(input: &'a [u8]) -> Result<Self, DerError> {
        let view = Self::parse_spki(input)?;
        if !view.trailing.is_empty() {
            return Err(DerError::Sum { declared: view.der_len, found: input.len() });
        }
        match [view.modulus, view.exponent].iter().find(|integer| !integer.is_minimal()) {
            Some(integer) => Err(DerError::Integer { offset: integer.offset() }),
            None => Ok(view),
        }
    }

    /// Reads a PKCS#1 `RSAPublicKey` (two INTEGERs) at the start of `input`.
    ///
    /// # Errors
    /// Any [`DerError`].
    pub fn parse_pkcs1(input: &'a [u8]) -> Result<Self, DerError> {
        let mut outer = Reader::new(input);
        let (modulus, exponent) = numbers(&mut outer)?;
        Ok(Self { modulus, exponent, der_len: outer.offset(), trailing: outer.rest() })
    }

    pub(crate) const fn of_numbers(modulus: Integer<'a>, exponent: Integer<'a>) -> Self {
        Self { modulus, exponent, der_len: 0, trailing: &[] }
    }

    /// The modulus, big-endian without leading zeros.
    #[must_use]
    pub fn modulus(&self) -> &'a [u8] {
        self.modulus.magnitude()
    }

    /// The exponent, big-endian without leading zeros.
    #[must_use]
    pub fn exponent(&self) -> &'a [u8] {
        self.exponent.magnitude()
    }

    /// Bits of the modulus.
    #[must_use]
    pub fn bits(&self) -> usize {
        crate::private_key::bits(self.modulus())
    }

    /// Length of the DER that was read; 0 when the key comes out of a private key.
    #[must_use]
    pub const fn der_len(&self) -> usize {
        self.der_len
    }

    /// What follows the DER.
    #[must_use]
    pub const fn trailing(&self) -> &'a [u8] {
        self.trailing
    }

    /// Length of the canonical PKCS#1 `RSAPublicKey`: 140 bytes for RSA-1024 with exponent 65537.
    #[must_use]
    pub fn pkcs1_len(&self) -> usize {
        let content = self.content_len();
        header_len(content) + content
    }

    /// Writes the key as canonical PKCS#1 `RSAPublicKey`.
    ///
    /// # Errors
    /// [`BufferTooSmall`].
    pub fn encode_pkcs1_into<'b>(&self, out: &'b mut [u8]) -> Result<&'b [u8], BufferTooSmall> {
        let mut writer = Writer::new(out);
        self.write(&mut writer);
        writer.finish()
    }

    /// Length of the canonical SPKI: 162 bytes for RSA-1024 and 294 for RSA-2048 with exponent 65537.
    #[must_use]
    pub fn spki_len(&self) -> usize {
        let content = self.spki_content_len();
        header_len(content) + content
    }

    /// Writes the key as canonical SPKI.
    ///
    /// # Errors
    /// [`BufferTooSmall`].
    pub fn encode_spki_into<'b>(&self, out: &'b mut [u8]) -> Result<&'b [u8], BufferTooSmall> {
        let mut writer = Writer::new(out);
        writer.header(SEQUENCE, self.spki_content_len());
        writer.bytes(&RSA_ALGORITHM);
        writer.header(BIT_STRING, 1 + self.pkcs1_len());
        // no unused bits
        writer.bytes(&[0]);
        self.write(&mut writer);
        writer.finish()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.header(SEQUENCE, self.content_len());
        writer.integer(self.modulus.encoded());
        writer.integer(self.exponent.encoded());
    }

    fn content_len(&self) -> usize {
        integer_len(self.modulus.encoded()) + integer_len(self.exponent.encoded())
    }

    fn spki_content_len(&self) -> usize {
        let bits = 1 + self.pkcs1_len();
        RSA_ALGORITHM.len() + header_len(bits) + bits
    }

    /// Whether two keys have the same modulus: the way to compare a cloud's copy with a device's, as text forms and
    /// paddings differ.
    #[must_use]
    pub fn same_modulus(&self, other: &RsaPublicKeyView<'_>) -> bool {
        self.modulus() == other.modulus()
    }

    /// Fingerprint; `None` unless the modulus has 1024 or 2048 bits and the exponent is 65537, the only keys that
    /// devices handle.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        Fingerprint::of_numbers(self.modulus(), self.exponent())
    }

    /// Whether a device can use this as its server key: RSA-2048 with exponent 65537.
    #[must_use]
    pub fn is_server_key(&self) -> bool {
        self.bits() == 2048 && self.exponent() == [1, 0, 1]
    }
}

pub(crate) fn rsa_algorithm(reader: &mut Reader<'_>) -> Result<(), DerError> {
    let oid = reader.element(OBJECT_IDENTIFIER)?;
    if oid.content != RSA_ENCRYPTION {
        return Err(DerError::Value { offset: oid.offset });
    }
    // the standard demands NULL; some writers leave it out
    if !reader.rest().is_empty() {
        reader.element(NULL)?;
    }
    Ok(())
}

fn numbers<'a>(reader: &mut Reader<'a>) -> Result<(Integer<'a>, Integer<'a>), DerError> {
    let sequence = reader.element(SEQUENCE)?;
    let mut inner = Reader::inside(&sequence);
    let numbers = (inner.integer()?, inner.integer()?);
    if inner.rest().is_empty() {
        Ok(numbers)
    } else {
        Err(DerError::Sum { declared: reader.offset(), found: inner.offset() })
    }
}

/// The same error with its position counted from further out.
pub(crate) fn shifted(error: DerError, base: usize) -> DerError {
    match error {
        DerError::Truncated { offset, needed, available } => {
            DerError::Truncated { offset: offset + base, needed, available }
        }
        DerError::Tag { offset, expected, found } => DerError::Tag { offset: offset + base, expected, found },
        DerError::Length { offset, found } => DerError::Length { offset: offset + base, found },
        DerError::Integer { offset } => DerError::Integer { offset: offset + base },
        DerError::Sum { declared, found } => DerError::Sum { declared: declared + base, found: found + base },
        DerError::Value { offset } => DerError::Value { offset: offset + base },
        DerError::Curve { offset } => DerError::Curve { offset: offset + base },
    }
}
