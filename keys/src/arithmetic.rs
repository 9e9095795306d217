//! The relations between the numbers of an RSA key, in fixed-size integers.
//!
//! Everything is generic in the limbs of one prime: 512 bits for device keys, 1024 bits for server keys. Numbers of twice
//! that size are pairs of a low and a high half.

use crate::complete::E;
use crate::der::strip;
use crate::private_key::{Number, RsaPrivateKeyView, bits};
use crypto_bigint::{NonZero, U512, U1024, Uint};
use crypto_primes::hazmat::MillerRabin;
use zeroize::Zeroize;

/// Limbs of a prime of a device key.
pub(crate) const DEVICE: usize = U512::LIMBS;
/// Limbs of a prime of a server key.
const SERVER: usize = U1024::LIMBS;

/// A relation that has to hold in every key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "these are all relations of a two-prime key")]
pub enum Relation {
    /// n = p * q
    ModulusIsProduct,
    /// d * e = 1 mod p-1 and mod q-1
    PrivateExponent,
    /// dp * e = 1 mod p-1
    Dp,
    /// dq * e = 1 mod q-1
    Dq,
    /// qinv * q = 1 mod p
    Qinv,
}

impl Relation {
    pub(crate) const ALL: [Relation; 5] =
        [Relation::ModulusIsProduct, Relation::PrivateExponent, Relation::Dp, Relation::Dq, Relation::Qinv];
}

impl core::fmt::Display for Relation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Relation::ModulusIsProduct => "n = p * q",
            Relation::PrivateExponent => "d * e = 1 mod p-1 and mod q-1",
            Relation::Dp => "dp * e = 1 mod p-1",
            Relation::Dq => "dq * e = 1 mod q-1",
            Relation::Qinv => "qinv * q = 1 mod p",
        })
    }
}

/// Low and high half.
pub(crate) type Pair<const L: usize> = (Uint<L>, Uint<L>);

/// The numbers as integers; the secret ones are wiped when the check is done.
pub(crate) struct Numbers<const L: usize> {
    pub(crate) n: Pair<L>,
    pub(crate) e: Uint<L>,
    pub(crate) d: Pair<L>,
    pub(crate) p: Uint<L>,
    pub(crate) q: Uint<L>,
    pub(crate) dp: Uint<L>,
    pub(crate) dq: Uint<L>,
    pub(crate) qinv: Uint<L>,
}

impl<const L: usize> Drop for Numbers<L> {
    fn drop(&mut self) {
        for number in [
            &mut self.d.0,
            &mut self.d.1,
            &mut self.p,
            &mut self.q,
            &mut self.dp,
            &mut self.dq,
            &mut self.qinv,
        ] {
            number.zeroize();
        }
    }
}

impl<const L: usize> Numbers<L> {
    /// `None` when a number is too long for this size.
    pub(crate) fn of(key: &RsaPrivateKeyView<'_>) -> Option<Self> {
        let number = |which| key.number(which).magnitude();
        Some(Numbers {
            n: wide(number(Number::N))?,
            e: narrow(number(Number::E))?,
            d: wide(number(Number::D))?,
            p: narrow(number(Number::P))?,
            q: narrow(number(Number::Q))?,
            dp: narrow(number(Number::Dp))?,
            dq: narrow(number(Number::Dq))?,
            qinv: narrow(number(Number::Qinv))?,
        })
    }

    pub(crate) fn holds(&self, relation: Relation) -> bool {
        match relation {
            Relation::ModulusIsProduct => self.p.widening_mul(&self.q) == self.n,
            Relation::PrivateExponent => [&self.p, &self.q].into_iter().all(|prime| {
                less_one(prime)
                    .is_some_and(|modulus| is_inverse(&Uint::rem_wide(self.d, &modulus), &self.e, &modulus))
            }),
            Relation::Dp => less_one(&self.p).is_some_and(|modulus| is_inverse(&self.dp, &self.e, &modulus)),
            Relation::Dq => less_one(&self.q).is_some_and(|modulus| is_inverse(&self.dq, &self.e, &modulus)),
            Relation::Qinv => non_zero(&self.p).is_some_and(|p| is_inverse(&self.qinv, &self.q, &p)),
        }
    }

    /// As a device reads them, without the bytes that stand for leading zeros; a number that is too long all the same is 0,
    /// for which no relation holds.
    fn as_read(key: &RsaPrivateKeyView<'_>) -> Self {
        let number = |which| key.number(which).without_leading_byte();
        let half = |which| narrow(number(which)).unwrap_or(Uint::ZERO);
        let long = |which| wide(number(which)).unwrap_or((Uint::ZERO, Uint::ZERO));
        Numbers {
            n: long(Number::N),
            e: narrow(key.number(Number::E).magnitude()).unwrap_or(Uint::ZERO),
            d: long(Number::D),
            p: half(Number::P),
            q: half(Number::Q),
            dp: half(Number::Dp),
            dq: half(Number::Dq),
            qinv: half(Number::Qinv),
        }
    }

    /// The first of p and q that is certainly not a prime. The relations hold for any two odd numbers as well.
    pub(crate) fn composite(&self) -> Option<Number> {
        [(Number::P, &self.p), (Number::Q, &self.q)]
            .into_iter()
            .find(|(_, prime)| !may_be_prime(prime))
            .map(|(number, _)| number)
    }
}

/// The numbers of a device's key that may be damaged, and whether it was made for another exponent than the device's.
///
/// Where the key has another exponent, d, dp and dq tell: if they do not fit it better than 65537, only e is damaged.
pub(crate) fn device_numbers(key: &RsaPrivateKeyView<'_>) -> (Numbers<DEVICE>, bool) {
    let mut numbers = Numbers::as_read(key);
    let fitting = |numbers: &Numbers<DEVICE>| {
        [Relation::PrivateExponent, Relation::Dp, Relation::Dq]
            .into_iter()
            .filter(|relation| numbers.holds(*relation))
            .count()
    };
    let stored = numbers.e;
    if stored == Uint::from_u32(E) {
        return (numbers, false);
    }
    let by_stored = fitting(&numbers);
    numbers.e = Uint::from_u32(E);
    let is_other = by_stored > fitting(&numbers);
    if is_other {
        numbers.e = stored;
    }
    (numbers, is_other)
}

/// What the relations say about a key.
#[derive(Clone, Copy)]
pub(crate) struct Verdict {
    holds: [bool; 5],
    /// A number that has to be prime and is not; looked for only when all relations hold.
    pub(crate) composite: Option<Number>,
}

impl Verdict {
    pub(crate) fn failed(self) -> impl Iterator<Item = Relation> {
        Relation::ALL.into_iter().zip(self.holds).filter(|(_, holds)| !holds).map(|(relation, _)| relation)
    }

    pub(crate) fn is_key(self) -> bool {
        self.holds == [true; 5] && self.composite.is_none()
    }
}

/// Checks the relations of a key of up to 2048 bits; all of them fail when a number is too long for the modulus.
pub(crate) fn verdict(key: &RsaPrivateKeyView<'_>) -> Verdict {
    if bits(key.modulus()) <= 1024 {
        verdict_of(Numbers::<DEVICE>::of(key))
    } else {
        verdict_of(Numbers::<SERVER>::of(key))
    }
}

fn verdict_of<const L: usize>(numbers: Option<Numbers<L>>) -> Verdict {
    let Some(numbers) = numbers else { return Verdict { holds: [false; 5], composite: None } };
    let holds = Relation::ALL.map(|relation| numbers.holds(relation));
    let composite = if holds == [true; 5] { numbers.composite() } else { None };
    Verdict { holds, composite }
}

/// One round to base 2: no number that damage or a mistake leaves behind passes it but a prime, save by a chance that
/// is not worth speaking of. Keys made here get [`is_prime`].
pub(crate) fn may_be_prime<const L: usize>(number: &Uint<L>) -> bool {
    match number.to_odd().into_option() {
        Some(odd) if *number > Uint::from_u32(3) => MillerRabin::new(odd).test_base_two().is_probably_prime(),
        _ => false,
    }
}

/// Baillie-PSW.
pub(crate) fn is_prime<const L: usize>(number: &Uint<L>) -> bool {
    crypto_primes::is_prime(crypto_primes::Flavor::Any, number)
}

pub(crate) fn wide<const L: usize>(number: &[u8]) -> Option<Pair<L>> {
    let number = strip(number);
    let (high, low) = number.split_at(number.len().saturating_sub(Uint::<L>::BYTES));
    Some((narrow(low)?, narrow(high)?))
}

pub(crate) fn narrow<const L: usize>(number: &[u8]) -> Option<Uint<L>> {
    let number = strip(number);
    let mut padded = [0; SERVER_PRIME_LEN];
    let size = Uint::<L>::BYTES;
    let padded = padded.get_mut(..size)?;
    padded.get_mut(size.checked_sub(number.len())?..)?.copy_from_slice(number);
    let integer = Uint::from_be_slice(padded);
    padded.zeroize();
    Some(integer)
}

const SERVER_PRIME_LEN: usize = 128;

pub(crate) fn non_zero<const L: usize>(number: &Uint<L>) -> Option<NonZero<Uint<L>>> {
    NonZero::new(*number).into_option()
}

pub(crate) fn less_one<const L: usize>(number: &Uint<L>) -> Option<NonZero<Uint<L>>> {
    non_zero(&number.wrapping_sub(&Uint::ONE))
}

/// Whether a * b = 1 mod modulus.
pub(crate) fn is_inverse<const L: usize>(a: &Uint<L>, b: &Uint<L>, modulus: &NonZero<Uint<L>>) -> bool {
    Uint::rem_wide(a.widening_mul(b), modulus) == Uint::ONE
}
