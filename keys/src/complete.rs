//! A whole RSA-1024 key from its primes.

use crate::arithmetic::{less_one, non_zero};
use crate::device_key::{DeviceKey, DeviceKeyError};
use crate::private_key::{RsaPrivateKeyView, encode_pkcs1};
use crypto_bigint::{NonZero, U512, U1024};
use zeroize::Zeroize;

/// The only public exponent that devices know.
pub(crate) const E: u32 = 65537;

/// The numbers of a key, big-endian; wiped when dropped.
pub(crate) struct Complete {
    pub(crate) n: [u8; 128],
    pub(crate) d: [u8; 128],
    pub(crate) p: [u8; 64],
    pub(crate) q: [u8; 64],
    pub(crate) dp: [u8; 64],
    pub(crate) dq: [u8; 64],
    pub(crate) qinv: [u8; 64],
}

impl Complete {
    /// Computes everything that follows from p and q. A given `d` below n is used, else d is the inverse of e modulo
    /// (p-1)(q-1). `None` when e has no inverse, or p and q are equal.
    pub(crate) fn of_primes(p: &U512, q: &U512, d: Option<U1024>) -> Option<Self> {
        let (p_less_one, q_less_one) = (less_one(p)?, less_one(q)?);
        let n: U1024 = p.concatenating_mul(q);
        let mut d = match d.filter(|d| *d < n) {
            Some(d) => d,
            None => {
                let totient: U1024 = p_less_one.as_ref().concatenating_mul(q_less_one.as_ref());
                U1024::from_u32(E).invert_mod(&NonZero::new(totient).into_option()?).into_option()?
            }
        };
        let qinv = q.rem(&non_zero(p)?).invert_odd_mod(&p.to_odd().into_option()?).into_option()?;
        let complete = Self {
            n: bytes(n.to_be_bytes().as_ref()),
            d: bytes(d.to_be_bytes().as_ref()),
            p: bytes(p.to_be_bytes().as_ref()),
            q: bytes(q.to_be_bytes().as_ref()),
            dp: bytes(d.rem(&p_less_one).to_be_bytes().as_ref()),
            dq: bytes(d.rem(&q_less_one).to_be_bytes().as_ref()),
            qinv: bytes(qinv.to_be_bytes().as_ref()),
        };
        d.zeroize();
        Some(complete)
    }

    /// The key for a device, checked as any other.
    pub(crate) fn device_key(&self) -> Result<DeviceKey, DeviceKeyError> {
        // longer than any key of this size, so that writing and reading cannot fail
        let mut der = [0; 640];
        let numbers: [&[u8]; 8] =
            [&self.n, &[1, 0, 1], &self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qinv];
        let key = match encode_pkcs1(numbers, &mut der).map(RsaPrivateKeyView::parse) {
            Ok(Ok(view)) => DeviceKey::from_view(&view),
            _ => Err(DeviceKeyError::Relation),
        };
        der.zeroize();
        key
    }
}

impl Drop for Complete {
    fn drop(&mut self) {
        self.d.zeroize();
        for number in [&mut self.p, &mut self.q, &mut self.dp, &mut self.dq, &mut self.qinv] {
            number.zeroize();
        }
    }
}

fn bytes<const N: usize>(number: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    for (slot, byte) in out.iter_mut().zip(number) {
        *slot = *byte;
    }
    out
}
