//! The relations between the numbers of an RSA-1024 key, in fixed-size integers.

use crate::der::strip;
use crate::private_key::{Number, RsaPrivateKeyView};
use crypto_bigint::{NonZero, U512, U1024};

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
    const ALL: [Relation; 5] =
        [Relation::ModulusIsProduct, Relation::PrivateExponent, Relation::Dp, Relation::Dq, Relation::Qinv];
}

/// The numbers as integers; the secret ones are wiped when the check is done.
pub(crate) struct Numbers {
    pub(crate) n: U1024,
    pub(crate) e: U512,
    pub(crate) d: U1024,
    pub(crate) p: U512,
    pub(crate) q: U512,
    pub(crate) dp: U512,
    pub(crate) dq: U512,
    pub(crate) qinv: U512,
}

impl Drop for Numbers {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.d.zeroize();
        self.p.zeroize();
        self.q.zeroize();
        self.dp.zeroize();
        self.dq.zeroize();
        self.qinv.zeroize();
    }
}

impl Numbers {
    /// `None` when a number is too long for RSA-1024.
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
            Relation::ModulusIsProduct => {
                let product: U1024 = self.p.concatenating_mul(&self.q);
                product == self.n
            }
            Relation::PrivateExponent => [&self.p, &self.q].into_iter().all(|prime| {
                non_zero(&prime.wrapping_sub(&U512::ONE))
                    .is_some_and(|modulus| is_inverse(&self.d.rem(&modulus), &self.e, &modulus))
            }),
            Relation::Dp => self.crt_exponent(&self.dp, &self.p),
            Relation::Dq => self.crt_exponent(&self.dq, &self.q),
            Relation::Qinv => non_zero(&self.p).is_some_and(|p| is_inverse(&self.qinv, &self.q, &p)),
        }
    }

    fn crt_exponent(&self, exponent: &U512, prime: &U512) -> bool {
        non_zero(&prime.wrapping_sub(&U512::ONE))
            .is_some_and(|modulus| is_inverse(exponent, &self.e, &modulus))
    }
}

/// Relations that do not hold; all five when a number is too long for RSA-1024.
pub(crate) fn failed_relations(key: &RsaPrivateKeyView<'_>) -> impl Iterator<Item = Relation> {
    let numbers = Numbers::of(key);
    Relation::ALL
        .into_iter()
        .filter(move |relation| !numbers.as_ref().is_some_and(|numbers| numbers.holds(*relation)))
}

pub(crate) fn wide(number: &[u8]) -> Option<U1024> {
    padded(number).map(|bytes: [u8; 128]| U1024::from_be_slice(&bytes))
}

pub(crate) fn narrow(number: &[u8]) -> Option<U512> {
    padded(number).map(|bytes: [u8; 64]| U512::from_be_slice(&bytes))
}

fn padded<const N: usize>(number: &[u8]) -> Option<[u8; N]> {
    let number = strip(number);
    let mut bytes = [0; N];
    bytes.get_mut(N.checked_sub(number.len())?..)?.copy_from_slice(number);
    Some(bytes)
}

fn non_zero(number: &U512) -> Option<NonZero<U512>> {
    NonZero::new(*number).into_option()
}

fn is_inverse(a: &U512, b: &U512, modulus: &NonZero<U512>) -> bool {
    let product: U1024 = a.concatenating_mul(b);
    product.rem(modulus) == U512::ONE
}
