//! Arithmetic that finds the primes of a key, and from them everything else.

use super::RepairError;
use super::candidates::Candidates;
use crate::arithmetic::{is_inverse, is_prime, less_one, may_be_prime, non_zero};
use crate::complete::{Complete, E};
use crate::private_key::Number;
use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Limb, NonZero, U64, U512, U1024, U2048};
use zeroize::Zeroize;

/// p and q in the order of the key.
pub(super) struct Primes {
    p: U512,
    q: U512,
}

impl Drop for Primes {
    fn drop(&mut self) {
        self.p.zeroize();
        self.q.zeroize();
    }
}

impl Primes {
    /// Only two primes of 512 bits whose product has 1024.
    fn new(p: U512, q: U512) -> Option<Self> {
        let product: U1024 = p.concatenating_mul(&q);
        let long_enough = p.bits() == 512 && q.bits() == 512 && product.bits() == 1024;
        (long_enough && p != q && is_prime(&p) && is_prime(&q)).then_some(Self { p, q })
    }

    /// The whole key, with the d of the field if it fits.
    pub(super) fn complete(&self, candidates: &Candidates<'_>) -> Option<Complete> {
        let fits = |d: &U1024| {
            [&self.p, &self.q].into_iter().all(|prime| {
                less_one(prime)
                    .is_some_and(|modulus| is_inverse(&reduce(d, &modulus), &U512::from_u32(E), &modulus))
            })
        };
        Complete::of_primes(&self.p, &self.q, candidates.private_exponent().find(fits))
    }

    /// The factors of `n`, one of them given.
    fn of_factor(n: &U1024, p: &U512) -> Option<Self> {
        if p.bits() != 512 {
            return None;
        }
        let (q, rest) = n.div_rem(&non_zero(p)?);
        if rest != U512::ZERO {
            return None;
        }
        Self::new(*p, q.resize_checked().into_option()?)
    }
}

/// Finds the primes; in the order in which the field has them.
pub(super) fn primes(candidates: &Candidates<'_>, modulus: Option<U1024>) -> Result<Primes, RepairError> {
    let found = match modulus {
        Some(n) => from_modulus(&n, candidates),
        None => candidates.modulus().find_map(|n| from_modulus(&n, candidates)),
    };
    match found {
        Some(primes) => Ok(in_order(primes, candidates)),
        None if modulus.is_some() => Err(RepairError::LOST),
        None => without_modulus(candidates),
    }
}

/// A factor of n is its own proof: nothing damaged divides n.
fn from_modulus(n: &U1024, candidates: &Candidates<'_>) -> Option<Primes> {
    if n.bits() != 1024 {
        return None;
    }
    let params = FixedMontyParams::new(n.to_odd().into_option()?);
    let direct = [Number::P, Number::Q]
        .into_iter()
        .flat_map(|number| candidates.half(number))
        .find_map(|prime| Primes::of_factor(n, &prime));
    direct.or_else(|| candidates.private_exponent().find_map(|d| factor_by_exponent(n, &params, &d))).or_else(
        || {
            [Number::Dp, Number::Dq]
                .into_iter()
                .flat_map(|number| candidates.half(number))
                .find_map(|exponent| factor_by_half_exponent(n, &params, &exponent))
        },
    )
}

/// d*e - 1 is a multiple of the order of every number, so halving it comes to a square root of 1 other than 1 and -1 for
/// half of all bases.
fn factor_by_exponent(n: &U1024, params: &FixedMontyParams<{ U1024::LIMBS }>, d: &U1024) -> Option<Primes> {
    let multiple: U2048 = d.concatenating_mul(&U1024::from_u32(E)).wrapping_sub(&U2048::ONE);
    if *d == U1024::ZERO || multiple.is_odd().to_bool() {
        return None;
    }
    let twos = multiple.trailing_zeros();
    let odd = multiple.wrapping_shr(twos);
    let one = FixedMontyForm::one(params);
    let minus_one = -one;
    for base in [2_u32, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37] {
        let mut root = FixedMontyForm::new(&U1024::from_u32(base), params).pow_bounded_exp(&odd, odd.bits());
        for _ in 0..twos {
            let square = root.square();
            if square == one {
                break;
            }
            root = square;
        }
        if root.square() != one {
            // no multiple of the order: this is not the d of this n
            return None;
        }
        if root != one && root != minus_one {
            return common_factor(n, &root.retrieve().wrapping_sub(&U1024::ONE));
        }
    }
    None
}

/// m^(e*dp) = m mod p, and hardly ever mod q.
fn factor_by_half_exponent(
    n: &U1024,
    params: &FixedMontyParams<{ U1024::LIMBS }>,
    exponent: &U512,
) -> Option<Primes> {
    let exponent: U1024 = exponent.concatenating_mul(&U512::from_u32(E));
    [2_u32, 3].into_iter().find_map(|base| {
        let base = FixedMontyForm::new(&U1024::from_u32(base), params);
        let power = base.pow_bounded_exp(&exponent, exponent.bits());
        common_factor(n, &(power - base).retrieve())
    })
}

fn common_factor(n: &U1024, multiple: &U1024) -> Option<Primes> {
    let factor: U512 = n.gcd(multiple).resize_checked().into_option()?;
    Primes::of_factor(n, &factor)
}

/// The modulus is damaged. Being prime proves too little here, one in 350 damaged numbers is: another number has to confirm
/// both.
fn without_modulus(candidates: &Candidates<'_>) -> Result<Primes, RepairError> {
    let mut unconfirmed = false;
    for p in candidates.half(Number::P).filter(is_long_odd) {
        for q in candidates.half(Number::Q).filter(is_long_odd) {
            if confirmed(&p, &q, candidates) {
                if let Some(primes) = Primes::new(p, q) {
                    return Ok(primes);
                }
            } else {
                unconfirmed = unconfirmed || (may_be_prime(&p) && may_be_prime(&q));
            }
        }
    }
    // the exponent cannot confirm what it gave, so that qinv has to
    let derived =
        [(Number::P, Number::Dq), (Number::Q, Number::Dp)].into_iter().find_map(|(known, exponent)| {
            candidates.half(exponent).find_map(|exponent| {
                primes_of_exponent(&exponent).find_map(|other| {
                    candidates.half(known).filter(is_long_odd).find_map(|prime| {
                        let (p, q) = if known == Number::P { (prime, other) } else { (other, prime) };
                        if inverse_fits(&p, &q, candidates) { Primes::new(p, q) } else { None }
                    })
                })
            })
        });
    derived.ok_or(if unconfirmed { RepairError::Unconfirmed } else { RepairError::LOST })
}

fn is_long_odd(number: &U512) -> bool {
    number.bits() == 512 && number.is_odd().to_bool()
}

fn confirmed(p: &U512, q: &U512, candidates: &Candidates<'_>) -> bool {
    let confirms = |prime: &U512, half: Number| {
        less_one(prime).is_some_and(|modulus| {
            candidates
                .private_exponent()
                .any(|d| is_inverse(&reduce(&d, &modulus), &U512::from_u32(E), &modulus))
                || candidates.half(half).any(|half| is_inverse(&half, &U512::from_u32(E), &modulus))
        })
    };
    inverse_fits(p, q, candidates) || (confirms(p, Number::Dp) && confirms(q, Number::Dq))
}

fn inverse_fits(p: &U512, q: &U512, candidates: &Candidates<'_>) -> bool {
    non_zero(p).is_some_and(|p| candidates.half(Number::Qinv).any(|qinv| is_inverse(&qinv, q, &p)))
}

fn reduce(number: &U1024, modulus: &NonZero<U512>) -> U512 {
    number.rem(modulus)
}

/// dp*e - 1 = k * (p-1) with k below e: the p of 512 bits for every k that divides.
fn primes_of_exponent(exponent: &U512) -> impl Iterator<Item = U512> {
    let product: U1024 = exponent.concatenating_mul(&U512::from_u32(E));
    let multiple = product.wrapping_sub(&U1024::ONE);
    // for a quotient of 512 bits
    let high = multiple.shr(511).resize_checked::<{ U64::LIMBS }>().into_option().map_or(0, u64::from);
    (high / 2..=high)
        .filter_map(|k| u32::try_from(k).ok())
        .filter(|k| (1..E).contains(k))
        .filter_map(move |k| {
            let divisor = NonZero::new(Limb::from_u32(k)).into_option()?;
            if multiple.rem_limb(divisor) != Limb::ZERO {
                return None;
            }
            let (quotient, _) = multiple.div_rem_limb(divisor);
            quotient.wrapping_add(&U1024::ONE).resize_checked().into_option()
        })
        .filter(is_long_odd)
}

/// Which prime the field calls p: by its place, else by what belongs to it.
fn in_order(primes: Primes, candidates: &Candidates<'_>) -> Primes {
    let (a, b) = (primes.p, primes.q);
    let holds = |number, prime: &U512| candidates.half(number).any(|candidate| candidate == *prime);
    let belongs = |half: Number, prime: &U512| {
        less_one(prime).is_some_and(|modulus| {
            candidates.half(half).any(|half| is_inverse(&half, &U512::from_u32(E), &modulus))
        })
    };
    let is_order = |p: &U512, q: &U512| {
        holds(Number::P, p)
            || holds(Number::Q, q)
            || inverse_fits(p, q, candidates)
            || belongs(Number::Dp, p)
            || belongs(Number::Dq, q)
    };
    let keep = if is_order(&a, &b) { true } else { !is_order(&b, &a) && a > b };
    // when nothing tells, the larger first as OpenSSL has it
    if keep { Primes { p: a, q: b } } else { Primes { p: b, q: a } }
}
