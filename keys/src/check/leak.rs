//! Which bytes of a secret the device gives away when another form of key is in its RSA field.

use crate::der::INTEGER;
use crate::form::KeyForm;
use crate::private_key::Number;
use core::ops::Range;

/// What the device publishes of its field as its modulus.
pub const PUBLISHED: Range<usize> = 11..139;

/// A secret number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Secret {
    /// The private number of an EC key.
    EcPrivateNumber,
    /// A number of an RSA key.
    Rsa(Number),
}

impl core::fmt::Display for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Secret::EcPrivateNumber => f.write_str("the private EC number"),
            Secret::Rsa(number) => write!(f, "the RSA number {number}"),
        }
    }
}

/// Bytes of a secret number that the device publishes, in every handshake, to whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Leak {
    /// Which number.
    pub secret: Secret,
    /// First published byte of the number as it is encoded, big-endian, counted from 0.
    pub first: usize,
    /// How many bytes are published whole. In text a byte at either end may be published in part besides.
    pub len: usize,
    /// How many bytes the number has.
    pub of: usize,
}

impl Leak {
    /// How many bytes of the number remain secret.
    #[must_use]
    pub const fn unknown(&self) -> usize {
        self.of - self.len
    }
}

/// The secrets that a device with this RSA field publishes: none for every form whose secret numbers lie outside of bytes
/// 11 to 139, as those of an RSA-1024 key in PKCS#1, PKCS#8 or PEM do.
///
/// An EC key in SEC1 gives 28 of 32 bytes away, one in PKCS#8 all of them, and text of one what stands in that window.
/// `field` may be cut off or have anything behind the key.
///
/// ```
/// use spark_keys::check::published_secrets;
/// # let key = include_bytes!("../../tests/vectors/ec_p256.sec1.der");
/// let leak = published_secrets(key).next().expect("an EC key leaks here");
/// assert_eq!((leak.first, leak.len, leak.unknown()), (4, 28, 4));
/// ```
pub fn published_secrets(field: &[u8]) -> impl Iterator<Item = Leak> {
    let mut leaks = [None; 6];
    match KeyForm::of(field) {
        Some(KeyForm::Pem) => text(field, &mut leaks),
        Some(form) => {
            for (slot, (secret, range)) in leaks.iter_mut().zip(secrets(form, field)) {
                *slot = overlap(secret, &range, &PUBLISHED);
            }
        }
        None => {}
    }
    leaks.into_iter().flatten()
}

/// A secret number and where it is.
type Place = (Secret, Range<usize>);

fn overlap(secret: Secret, number: &Range<usize>, published: &Range<usize>) -> Option<Leak> {
    let start = number.start.max(published.start);
    let end = number.end.min(published.end);
    (start < end).then(|| Leak { secret, first: start - number.start, len: end - start, of: number.len() })
}

/// Where the secret numbers of a DER key are.
fn secrets(form: KeyForm, der: &[u8]) -> impl Iterator<Item = Place> {
    let number = |found| [found, None, None, None, None, None];
    let found = match form {
        KeyForm::Sec1Ec => number(ec_number(der, 0)),
        KeyForm::Pkcs8Ec => number(wrapped(der).and_then(|at| ec_number(der, at))),
        KeyForm::Pkcs1Private => rsa_numbers(der, 0).unwrap_or_default(),
        KeyForm::Pkcs8Private => wrapped(der).and_then(|at| rsa_numbers(der, at)).unwrap_or_default(),
        _ => number(None),
    };
    found.into_iter().flatten()
}

/// Content of the element at `at`, which may reach beyond the bytes.
fn element(der: &[u8], at: usize) -> Option<Range<usize>> {
    let (header, length) = match *der.get(at..)? {
        [_, length @ 0..=0x7F, ..] => (2, usize::from(length)),
        [_, 0x81, length, ..] => (3, usize::from(length)),
        [_, 0x82, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
        _ => return None,
    };
    let start = at + header;
    Some(start..start + length)
}

/// Start of the SEQUENCE that a PKCS#8 key wraps: after version and algorithm, in an OCTET STRING.
fn wrapped(der: &[u8]) -> Option<usize> {
    let version = element(der, element(der, 0)?.start)?;
    let algorithm = element(der, version.end)?;
    Some(element(der, algorithm.end)?.start)
}

fn ec_number(der: &[u8], at: usize) -> Option<Place> {
    let version = element(der, element(der, at)?.start)?;
    Some((Secret::EcPrivateNumber, element(der, version.end)?))
}

/// Only when all nine numbers fill the outer length: with a damaged length the places would be wrong.
fn rsa_numbers(der: &[u8], at: usize) -> Option<[Option<Place>; 6]> {
    let mut found = [const { None }; 6];
    let mut slots = found.iter_mut();
    let mut end = element(der, at)?.start;
    for number in Number::ALL {
        let content = element(der, end).filter(|_| der.get(end) == Some(&INTEGER))?;
        end = content.end;
        if !matches!(number, Number::Version | Number::N | Number::E) {
            *slots.next()? = Some((Secret::Rsa(number), content));
        }
    }
    (element(der, at)?.end == end).then_some(found)
}

/// Text: what the characters within the published window say.
fn text(field: &[u8], leaks: &mut [Option<Leak>; 6]) {
    let Some((form, body)) = crate::pem::private_block(field) else { return };
    // enough for every secret that begins within the window
    let mut der = [0; 256];
    let (mut digits, mut bits) = (0_usize, 0_u32);
    let (mut first, mut last) = (None, None);
    for (at, byte) in field.iter().enumerate().skip(body) {
        if *byte == b'-' {
            break;
        }
        let Some(value) = base64_value(*byte) else { continue };
        if PUBLISHED.contains(&at) {
            first = first.or(Some(digits));
            last = Some(digits);
        }
        bits = bits << 6 | u32::from(value);
        digits += 1;
        // four digits make three bytes
        if digits % 4 == 0 {
            let [_, group @ ..] = bits.to_be_bytes();
            let start = digits / 4 * 3 - 3;
            if let Some(target) = der.get_mut(start..start + 3) {
                target.copy_from_slice(&group);
            }
            bits = 0;
        }
    }
    let (Some(first), Some(last)) = (first, last) else { return };
    // byte i lies in the digits 8i/6 to (8i+7)/6
    let from = (0..der.len()).find(|i| i * 8 / 6 >= first).unwrap_or(der.len());
    let to = (0..der.len()).rev().find(|i| (i * 8 + 7) / 6 <= last).map_or(from, |i| (i + 1).max(from));
    let form = match form {
        KeyForm::Pkcs8Private => KeyForm::of(&der).unwrap_or(form),
        form => form,
    };
    for (slot, (secret, range)) in leaks.iter_mut().zip(secrets(form, &der)) {
        *slot = overlap(secret, &range, &(from..to));
    }
    zeroize::Zeroize::zeroize(&mut der);
}

fn base64_value(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}
