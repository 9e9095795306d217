//! The private key field as the device's own code reads it: at fixed positions, without looking at DER.

use crate::arithmetic::{DEVICE, Numbers, Relation, narrow, wide};
use crate::complete::E;
use crate::device_key::FIELD_LEN;
use crypto_bigint::U512;

/// Whether a device with this field decrypts what is encrypted for the public key that it publishes.
///
/// The device takes byte 9 for the low length byte of n. A number starts one byte later when its length byte is odd (a
/// leading zero), and each next length byte is found by stepping over a number of exactly 128 or 64 bytes. It decrypts
/// with p, q, dp, dq and qinv; d, the version, tags and outer lengths are never looked at, so damage there does not
/// show. FF in the first byte is another matter: the device takes it for no key at all, and puts a new one there. A field shorter
/// than 612 bytes counts as followed by FF.
///
/// # Source
/// `device-os@v0.4.0..v2.3.1: communication/src/handshake.cpp`, run.
#[must_use]
pub fn decrypts(field: &[u8]) -> bool {
    Reading::of(field).is_some_and(|reading| reading.decrypts())
}

/// Whether the crypto library of the firmware takes what the device reads for a key: n = p * q, and d fits p and q.
///
/// It does not look at dp, dq and qinv, with which the device decrypts, and the device does decrypt with a damaged d: passing
/// says nothing about [`decrypts`], nor does failing.
///
/// # Source
/// `device-os@v0.5.0`: its handshake and its bundled library, run.
#[must_use]
pub fn passes_library_check(field: &[u8]) -> bool {
    Reading::of(field).is_some_and(|reading| {
        [Relation::ModulusIsProduct, Relation::PrivateExponent]
            .into_iter()
            .all(|relation| reading.numbers.holds(relation))
    })
}

/// Whether the device takes the field for one without a key, and generates a new one over whatever else is there.
#[must_use]
pub const fn counts_as_empty(field: &[u8]) -> bool {
    matches!(field, [0xFF, ..])
}

/// What the device takes out of its field.
pub(crate) struct Reading {
    /// With 65537 for e, wherever the field has another one.
    pub(crate) numbers: Numbers<DEVICE>,
    /// First byte of n, d, p, q, dp, dq and qinv, behind the leading zero.
    pub(crate) starts: [usize; 7],
}

impl Reading {
    /// `None` when the device takes the field for an empty one, or publishes another modulus than it loads.
    pub(crate) fn of(field: &[u8]) -> Option<Self> {
        if counts_as_empty(field) {
            return None;
        }
        let mut padded = [0xFF; FIELD_LEN];
        for (slot, byte) in padded.iter_mut().zip(field) {
            *slot = *byte;
        }
        let reading = Self::of_padded(&padded);
        zeroize::Zeroize::zeroize(&mut padded);
        reading
    }

    fn of_padded(field: &[u8; FIELD_LEN]) -> Option<Self> {
        // the published modulus, which is where the loader looks too when n has its leading zero
        let published = field.get(11..139)?;
        let n = start(field, 9)?;
        let d = start(field, n + 128 + 7)?;
        let p = start(field, d + 129)?;
        let q = start(field, p + 65)?;
        let dp = start(field, q + 65)?;
        let dq = start(field, dp + 65)?;
        let qinv = start(field, dq + 65)?;
        let prime = |at: usize| field.get(at..at + 64).and_then(narrow);
        let numbers = Numbers {
            n: wide(field.get(n..n + 128)?)?,
            e: U512::from_u32(E),
            d: wide(field.get(d..d + 128)?)?,
            p: prime(p)?,
            q: prime(q)?,
            dp: prime(dp)?,
            dq: prime(dq)?,
            qinv: prime(qinv)?,
        };
        let loads_what_it_publishes = wide(published)? == numbers.n;
        loads_what_it_publishes.then_some(Self { numbers, starts: [n, d, p, q, dp, dq, qinv] })
    }

    pub(crate) fn decrypts(&self) -> bool {
        USED.into_iter().all(|relation| self.numbers.holds(relation)) && self.numbers.composite().is_none()
    }

    /// Whether at least some of the numbers are where the device looks for them: relations do not hold by chance.
    pub(crate) fn finds_numbers(&self) -> bool {
        // they do for zeros
        let is_zero = self.numbers.n == (U512::ZERO, U512::ZERO);
        !is_zero && USED.into_iter().any(|relation| self.numbers.holds(relation))
    }
}

/// The relations without which the device cannot decrypt.
pub(crate) const USED: [Relation; 4] =
    [Relation::ModulusIsProduct, Relation::Dp, Relation::Dq, Relation::Qinv];

/// Where the number starts whose low length byte is at `at`.
fn start(field: &[u8], at: usize) -> Option<usize> {
    field.get(at).map(|length| at + 1 + usize::from(length & 1))
}
