//! Rebuilds damaged device keys from the parts that are intact.

mod candidates;
mod ec;
mod recover;

pub use ec::repair_ec;

use crate::device_key::{DeviceKey, DeviceKeyError};
use crate::fingerprint::Fingerprint;
use crate::form::KeyForm;
use crate::load::{LoadError, MAX_DER, load_device_key, unpack};
use crate::private_key::Number;
use crate::public_key::RsaPublicKeyView;
use candidates::Candidates;
use crypto_bigint::U1024;
use recover::Primes;
use zeroize::Zeroize;

/// Rebuilds the key in a device's private key field.
///
/// Which numbers are intact is found by arithmetic alone, at the places where they can stand: headers, tags and lengths
/// may be damaged as well. In PKCS#8 and in text they are looked for, too, even if the text is cut off. The key comes back when any of these is intact, everything else being lost:
///
/// - the modulus and one of p, q, d, dp or dq;
/// - p and q, and d, qinv, or both of dp and dq to confirm them;
/// - p, dq and qinv, or q, dp and qinv.
///
/// So any two numbers may be damaged at once, and the end may be erased from the first byte behind d on. The public exponent
/// is 65537. When d has to be computed it is the inverse of e modulo (p-1)(q-1), as devices and OpenSSL have it for this
/// size.
///
/// ```
/// # let mut field = *include_bytes!("../../tests/vectors/field612_ff.bin");
/// # let good = spark_keys::load_device_key(&field)?;
/// // the second half was erased
/// field[300..].fill(0xFF);
/// let repaired = spark_keys::repair(&field)?;
/// assert_eq!(repaired.key.as_der(), good.as_der());
/// for number in repaired.recomputed() {
///     println!("{number} was computed anew");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The result satisfies all relations, its primes pass a primality test, and devices can use it. The work is bounded: some
/// forty exponentiations of 1024 bits and, if the modulus is damaged, a million divisions by a small number; some 60 ms on a PC.
///
/// # Errors
/// [`RepairError`]; a key is never guessed.
pub fn repair(field: &[u8]) -> Result<Repaired, RepairError> {
    repair_for(field, None)
}

/// As [`repair`], with the public key known from elsewhere, for instance the cloud's copy: then one intact number of p, q, d,
/// dp and dq is enough.
///
/// # Errors
/// [`RepairError`]; [`RepairError::OtherKey`] when the field holds the key of another public key.
pub fn repair_with_public_key(field: &[u8], public: &RsaPublicKeyView<'_>) -> Result<Repaired, RepairError> {
    let modulus: &[u8; 128] = match public.modulus().try_into() {
        Ok(modulus) if public.bits() == 1024 && public.exponent() == [1, 0, 1] => modulus,
        _ => return Err(RepairError::PublicKey { bits: public.bits() }),
    };
    let repaired = repair_for(field, Some(modulus)).or_else(|error| match error {
        // with the modulus as the field has it
        RepairError::Lost { .. } => repair_for(field, None).map_err(|_| error),
        error => Err(error),
    })?;
    let fingerprint = repaired.key.fingerprint();
    match public.fingerprint() {
        Some(wanted) if wanted == fingerprint => Ok(repaired),
        _ => Err(RepairError::OtherKey { fingerprint }),
    }
}

/// A key that was rebuilt.
#[derive(Debug)]
#[non_exhaustive]
pub struct Repaired {
    /// The key, ready for the device.
    pub key: DeviceKey,
    taken: [bool; 9],
}

impl Repaired {
    /// The numbers that the field holds unchanged.
    pub fn taken(&self) -> impl Iterator<Item = Number> {
        self.select(true)
    }

    /// The numbers that were computed, because the field has something else in their places.
    pub fn recomputed(&self) -> impl Iterator<Item = Number> {
        self.select(false)
    }

    fn select(&self, wanted: bool) -> impl Iterator<Item = Number> {
        let taken = self.taken;
        Number::ALL
            .into_iter()
            .zip(taken)
            .filter(move |(_, taken)| *taken == wanted)
            .map(|(number, _)| number)
    }
}

fn repair_for(field: &[u8], modulus: Option<&[u8; 128]>) -> Result<Repaired, RepairError> {
    for (fill, error) in [(0xFF, RepairError::Erased), (0x00, RepairError::Zeroed)] {
        if field.iter().all(|byte| *byte == fill) {
            return Err(error);
        }
    }
    match load_device_key(field) {
        Ok(key) => return Ok(Repaired { key, taken: [true; 9] }),
        Err(LoadError::Device(DeviceKeyError::Incompatible { number, length }))
            if crate::load::is_whole_rsa_key(field) =>
        {
            return Err(RepairError::Incompatible { number, length });
        }
        Err(_) => {}
    }
    let mut scratch = [0; MAX_DER];
    let unpacked = unpack(field, &mut scratch);
    let candidates = Candidates::of(unpacked.map_or(field, |unpacked| unpacked.der));
    let repaired = match recover::primes(&candidates, modulus.map(|modulus| U1024::from_be_slice(modulus))) {
        Ok(primes) => build(&primes, &candidates),
        Err(error) => Err(match (unpacked.map(|unpacked| unpacked.form), KeyForm::of(field)) {
            (Some(KeyForm::Pkcs1Private | KeyForm::Pkcs8Private), _) | (None, None) => {
                error.with_tail(candidates.field())
            }
            (Some(form), _) | (None, Some(form)) => RepairError::Form { form },
        }),
    };
    scratch.zeroize();
    repaired
}

fn build(primes: &Primes, candidates: &Candidates<'_>) -> Result<Repaired, RepairError> {
    let complete = primes.complete(candidates).ok_or(RepairError::LOST)?;
    let taken = candidates.taken(&complete);
    match complete.device_key() {
        Ok(key) => Ok(Repaired { key, taken }),
        Err(DeviceKeyError::Incompatible { number, length }) => {
            Err(RepairError::Incompatible { number, length })
        }
        Err(_) => Err(RepairError::LOST),
    }
}

/// Why a key cannot be rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RepairError {
    /// All FF.
    #[error("field is erased, nothing is left of a key; write a new key")]
    Erased,
    /// All 00.
    #[error("field is zeroed, nothing is left of a key; write a new key")]
    Zeroed,
    /// Another form of key, and not a key for this field in that form.
    #[error("field holds {} and no private key for it that could be rebuilt; write a new key", form.name())]
    Form {
        /// The form.
        form: KeyForm,
    },
    /// An EC key of another curve than P-256.
    #[error("field holds a key of another curve than P-256, the only one that devices know; write a new key")]
    OtherCurve,
    /// Too few numbers are intact.
    #[error(
        "too few numbers of the key are intact; restore it from a backup, or write a new key and send its public key to the cloud"
    )]
    Lost {
        /// First byte of an erased end, if it is erased.
        tail_erased_from: Option<usize>,
    },
    /// p and q are there, but nothing confirms that they are the right ones.
    #[error(
        "p and q are primes, but nothing in the field confirms them; give the cloud's copy of the public key as well"
    )]
    Unconfirmed,
    /// The private number of an EC key can be one, as nearly all are, but nothing confirms that it is the right one.
    #[error(
        "private number may be intact, but nothing in the field confirms it; give the cloud's copy of the public key as well"
    )]
    UnconfirmedNumber,
    /// The key is, or was before the damage, one that devices misread in every encoding: a prime is longer than 64 bytes.
    #[error("number {number} is encoded in {length} bytes, which the device misreads; generate another key")]
    Incompatible {
        /// Which number.
        number: Number,
        /// Its encoded length.
        length: usize,
    },
    /// The field holds the key of another public key.
    #[error(
        "field holds the key with fingerprint {fingerprint}, not that of the given public key; give the right one"
    )]
    OtherKey {
        /// Fingerprint of the key in the field.
        fingerprint: Fingerprint,
    },
    /// The public key given cannot be that of a device.
    #[error(
        "public key of {bits} bits is not one of a device, which has 1024 and exponent 65537; give the right one"
    )]
    PublicKey {
        /// Bits of its modulus.
        bits: usize,
    },
}

impl RepairError {
    const LOST: Self = RepairError::Lost { tail_erased_from: None };

    fn with_tail(self, field: &[u8]) -> Self {
        let from = field.len() - field.iter().rev().take_while(|byte| **byte == 0xFF).count();
        match self {
            RepairError::Lost { .. } if from + 8 <= field.len().min(crate::device_key::MIN_DEVICE_DER) => {
                RepairError::Lost { tail_erased_from: Some(from) }
            }
            error => error,
        }
    }
}
