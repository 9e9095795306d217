//! RSA private keys in PKCS#1 form.

use crate::der::{
    BufferTooSmall, DerError, Integer, Reader, SEQUENCE, Writer, header_len, integer_len, strip,
};
use crate::fingerprint::Fingerprint;
use crate::public_key::RsaPublicKeyView;

/// The numbers of a private key, in the order of the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "PKCS#1 closes the set for two primes")]
pub enum Number {
    /// `version`: 0 for two primes.
    Version,
    /// `modulus`.
    N,
    /// `publicExponent`.
    E,
    /// `privateExponent`.
    D,
    /// `prime1`.
    P,
    /// `prime2`.
    Q,
    /// `exponent1`: d mod p-1.
    Dp,
    /// `exponent2`: d mod q-1.
    Dq,
    /// `coefficient`: inverse of q mod p.
    Qinv,
}

impl Number {
    /// All of them, in the order of the standard.
    pub const ALL: [Number; 9] = [
        Number::Version,
        Number::N,
        Number::E,
        Number::D,
        Number::P,
        Number::Q,
        Number::Dp,
        Number::Dq,
        Number::Qinv,
    ];

    /// Short name: `version`, `n`, `e`, `d`, `p`, `q`, `dp`, `dq`, `qinv`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Number::Version => "version",
            Number::N => "n",
            Number::E => "e",
            Number::D => "d",
            Number::P => "p",
            Number::Q => "q",
            Number::Dp => "dp",
            Number::Dq => "dq",
            Number::Qinv => "qinv",
        }
    }

    /// Whether the device reads a number of that encoded length at the right place: 128 or 129 bytes for n and d, 64
    /// or 65 for p, q, dp, dq and qinv.
    #[must_use]
    pub const fn device_reads(self, encoded_len: usize) -> bool {
        match self {
            Number::Version => encoded_len == 1,
            Number::E => encoded_len == 3,
            Number::N | Number::D => matches!(encoded_len, 128 | 129),
            Number::P | Number::Q | Number::Dp | Number::Dq | Number::Qinv => matches!(encoded_len, 64 | 65),
        }
    }
}

impl core::fmt::Display for Number {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// An RSA private key (PKCS#1 `RSAPrivateKey`), borrowed from DER.
///
/// ```text
/// RSAPrivateKey ::= SEQUENCE { version, n, e, d, p, q, dp, dq, qinv }   -- nine INTEGERs
/// ```
///
/// Lenient where devices need it: integers with needless zeros and any bytes after the DER are accepted; both can be
/// asked for. `Debug` shows no secret.
///
/// # Source
/// RFC 8017 appendix A.1.2; `device-os@v0.4.0..v2.3.1: communication/src/dsakeygen.cpp` for the non-minimal form.
#[derive(Clone, Copy)]
pub struct RsaPrivateKeyView<'a> {
    integers: [Integer<'a>; 9],
    der_len: usize,
    trailing: &'a [u8],
}

impl<'a> RsaPrivateKeyView<'a> {
    /// Reads a key at the start of `input`.
    ///
    /// # Errors
    /// Any [`DerError`]; [`DerError::Value`] for a version other than 0, [`DerError::Sum`] when the outer length does
    /// not match.
    pub fn parse(input: &'a [u8]) -> Result<Self, DerError> {
        let view = Self::parse_any_version(input)?;
        match view.number(Number::Version).magnitude() {
            [] => Ok(view),
            _ => Err(DerError::Value { offset: view.number(Number::Version).offset() }),
        }
    }

    /// As [`parse`](Self::parse), but with any version number.
    pub(crate) fn parse_any_version(input: &'a [u8]) -> Result<Self, DerError> {
        let mut outer = Reader::new(input);
        let sequence = outer.element(SEQUENCE)?;
        let mut inner = Reader::inside(&sequence);
        let integers = nine(&mut inner)?;
        if !inner.rest().is_empty() {
            return Err(DerError::Sum { declared: outer.offset(), found: inner.offset() });
        }
        Ok(Self { integers, der_len: outer.offset(), trailing: outer.rest() })
    }

    /// Reads the nine integers behind a header of four bytes that is not looked at.
    pub(crate) fn walk(input: &'a [u8]) -> Result<Self, DerError> {
        const HEADER: usize = 4;
        let mut inner = Reader::new(input.get(HEADER..).unwrap_or(&[]));
        let integers = nine(&mut inner).map_err(|error| crate::public_key::shifted(error, HEADER))?;
        Ok(Self { integers, der_len: HEADER + inner.offset(), trailing: inner.rest() })
    }

    /// One of the numbers.
    #[must_use]
    pub fn number(&self, number: Number) -> Integer<'a> {
        let [version, n, e, d, p, q, dp, dq, qinv] = self.integers;
        match number {
            Number::Version => version,
            Number::N => n,
            Number::E => e,
            Number::D => d,
            Number::P => p,
            Number::Q => q,
            Number::Dp => dp,
            Number::Dq => dq,
            Number::Qinv => qinv,
        }
    }

    /// Encoded length of every number, in the order of [`Number::ALL`].
    #[must_use]
    pub fn encoded_lengths(&self) -> [usize; 9] {
        self.integers.map(|integer| integer.encoded_len())
    }

    /// The modulus without leading zeros.
    #[must_use]
    pub fn modulus(&self) -> &'a [u8] {
        self.number(Number::N).magnitude()
    }

    /// Length of the DER.
    #[must_use]
    pub const fn der_len(&self) -> usize {
        self.der_len
    }

    /// What follows the DER: FF, 00, or the end of an older, longer key.
    #[must_use]
    pub const fn trailing(&self) -> &'a [u8] {
        self.trailing
    }

    /// Whether every integer is encoded as DER demands.
    #[must_use]
    pub fn is_minimal(&self) -> bool {
        self.integers.iter().all(Integer::is_minimal)
    }

    /// The first number that the device would read at a wrong place, with its encoded length.
    ///
    /// About one in 100 freshly generated RSA-1024 keys has one: the key is valid for every other program, yet the
    /// device cannot decrypt with it. The lengths are those of *this* encoding; judge a canonical one before writing.
    #[must_use]
    pub fn device_incompatible(&self) -> Option<(Number, usize)> {
        Number::ALL
            .into_iter()
            .zip(self.encoded_lengths())
            .find(|(number, encoded_len)| !number.device_reads(*encoded_len))
    }

    /// Length of the canonical encoding.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let content = self.content_len();
        header_len(content) + content
    }

    /// Writes the key in canonical DER: minimal integers, nothing after it.
    ///
    /// # Errors
    /// [`BufferTooSmall`].
    pub fn encode_into<'b>(&self, out: &'b mut [u8]) -> Result<&'b [u8], BufferTooSmall> {
        let mut writer = Writer::new(out);
        self.write(&mut writer);
        writer.finish()
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.header(SEQUENCE, self.content_len());
        for integer in &self.integers {
            writer.integer(integer.encoded());
        }
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> RsaPublicKeyView<'a> {
        RsaPublicKeyView::of_numbers(self.number(Number::N), self.number(Number::E))
    }

    /// Fingerprint of the public key; `None` unless the modulus has 1024 or 2048 bits and e is 65537.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        Fingerprint::of_numbers(self.modulus(), self.number(Number::E).magnitude())
    }

    fn content_len(&self) -> usize {
        self.integers.iter().map(|integer| integer_len(integer.encoded())).sum()
    }
}

impl core::fmt::Debug for RsaPrivateKeyView<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RsaPrivateKeyView")
            .field("fingerprint", &self.fingerprint())
            .field("encoded_lengths", &self.encoded_lengths())
            .finish_non_exhaustive()
    }
}

fn nine<'a>(reader: &mut Reader<'a>) -> Result<[Integer<'a>; 9], DerError> {
    let mut integer = || reader.integer();
    Ok([
        integer()?,
        integer()?,
        integer()?,
        integer()?,
        integer()?,
        integer()?,
        integer()?,
        integer()?,
        integer()?,
    ])
}

/// Length of the canonical DER of a key with these numbers (n, e, d, p, q, dp, dq, qinv; big-endian).
#[must_use]
pub fn pkcs1_len(numbers: [&[u8]; 8]) -> usize {
    let content = 3 + numbers.iter().map(|number| integer_len(number)).sum::<usize>();
    header_len(content) + content
}

/// Writes a key with these numbers (n, e, d, p, q, dp, dq, qinv; big-endian, leading zeros allowed) in canonical DER.
///
/// # Errors
/// [`BufferTooSmall`].
pub fn encode_pkcs1<'b>(numbers: [&[u8]; 8], out: &'b mut [u8]) -> Result<&'b [u8], BufferTooSmall> {
    let content = 3 + numbers.iter().map(|number| integer_len(number)).sum::<usize>();
    let mut writer = Writer::new(out);
    writer.header(SEQUENCE, content);
    writer.integer(&[]);
    for number in numbers {
        writer.integer(strip(number));
    }
    writer.finish()
}

/// Number of bits of a big-endian number without leading zeros.
pub(crate) fn bits(number: &[u8]) -> usize {
    let number = strip(number);
    number.first().map_or(0, |first| number.len() * 8 - usize::try_from(first.leading_zeros()).unwrap_or(0))
}
