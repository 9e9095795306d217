//! Generates keys, without a heap and without features.

use crate::complete::{Complete, E};
use crate::device_key::{DeviceKey, DeviceKeyError};
use crypto_bigint::U512;
use crypto_primes::hazmat::{SetBits, SmallFactorsSieveFactory};
use crypto_primes::{Flavor, is_prime, sieve_and_find};
pub use rand_core::CryptoRng;
use zeroize::Zeroize;

/// How often [`device_key`] tries before it gives up. One try in 100 fails with a good source of randomness.
pub const MAX_TRIES: usize = 32;

/// Generates a device key: RSA-1024 with exponent 65537 whose every number is encoded in a length that the device reads
/// right, p the larger prime.
///
/// ```
/// use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
/// let mut rng = ChaCha20Rng::seed_from_u64(1); // use the operating system's source instead
/// let key = spark_keys::generate::device_key(&mut rng)?;
/// assert!(spark_keys::check(key.as_field()).is_clean());
/// # Ok::<(), spark_keys::generate::GenerateError>(())
/// ```
///
/// The primes are random numbers of 512 bits with the two top bits set, sieved and then tested with Baillie-PSW. They are
/// drawn anew while they lie too close to each other (100 bits, FIPS 186-5 A.1.3) or e divides one less than one of them.
///
/// # Errors
/// [`GenerateError`] when [`MAX_TRIES`] keys in a row were unusable, which means a broken source of randomness.
pub fn device_key<R: CryptoRng + ?Sized>(rng: &mut R) -> Result<DeviceKey, GenerateError> {
    for _ in 0..MAX_TRIES {
        match candidate(rng)? {
            // A key that needs no padding is one that every program reads.
            Some(Ok(key)) if !key.is_padded() => return Ok(key),
            None | Some(Ok(_) | Err(DeviceKeyError::Incompatible { .. })) => {}
            Some(Err(_)) => return Err(GenerateError),
        }
    }
    Err(GenerateError)
}

/// One try; `None` when the primes are too close to each other.
fn candidate<R: CryptoRng + ?Sized>(
    rng: &mut R,
) -> Result<Option<Result<DeviceKey, DeviceKeyError>>, GenerateError> {
    let (mut p, mut q) = (prime(rng)?, prime(rng)?);
    if p < q {
        core::mem::swap(&mut p, &mut q);
    }
    let far_apart = p.wrapping_sub(&q).bits() > 512 - 100;
    let complete = if far_apart { Complete::of_primes(&p, &q, None) } else { None };
    p.zeroize();
    q.zeroize();
    Ok(complete.map(|key| key.device_key()))
}

fn prime<R: CryptoRng + ?Sized>(rng: &mut R) -> Result<U512, GenerateError> {
    let sieve = SmallFactorsSieveFactory::<U512>::new(Flavor::Any, 512, SetBits::TwoMsb)
        .map_err(|_| GenerateError)?;
    // the cheap condition first: a prime p with p = 1 mod e has no inverse of e
    let usable = |_: &mut R, candidate: &U512| {
        candidate.rem_limb(LIMB_E) != crypto_bigint::Limb::ONE && is_prime(Flavor::Any, candidate)
    };
    sieve_and_find(rng, sieve, usable).ok().flatten().ok_or(GenerateError)
}

const LIMB_E: crypto_bigint::NonZero<crypto_bigint::Limb> =
    crypto_bigint::NonZero::<crypto_bigint::Limb>::new_unwrap(crypto_bigint::Limb::from_u32(E));

/// No usable key was generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[error("no usable key was generated; check the source of randomness")]
#[non_exhaustive]
pub struct GenerateError;

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn a_key_with_a_short_number_is_not_given_out_but_made_anew() {
        // the first key of this seed has a number that is too short for devices
        let rng = || ChaCha20Rng::seed_from_u64(59);
        let mut tries = rng();
        let first = candidate(&mut tries).unwrap().unwrap().unwrap();
        assert!(first.is_padded());
        let second = candidate(&mut tries).unwrap().unwrap().unwrap();
        assert!(!second.is_padded());
        let given = device_key(&mut rng()).unwrap();
        assert_eq!(given.as_der(), second.as_der());
    }
}
