//! Where the numbers of a device key can stand.

use crate::complete::Complete;
use crate::private_key::{Number, RsaPrivateKeyView};
use crypto_bigint::{U512, U1024};

/// The field, and the numbers as a reader of DER finds them if it can.
///
/// The modulus is always at byte 11. From there on a position depends on how many of the numbers before it have a leading
/// zero, or are a byte short: p and q always have one, d, dp and dq may.
pub(super) struct Candidates<'a> {
    field: &'a [u8],
    walked: Option<RsaPrivateKeyView<'a>>,
}

impl<'a> Candidates<'a> {
    /// `field` holds the key in PKCS#1, whatever it was found in.
    pub(super) fn of(field: &'a [u8]) -> Self {
        Self { field, walked: RsaPrivateKeyView::walk(field).ok() }
    }

    pub(super) const fn field(&self) -> &'a [u8] {
        self.field
    }

    /// First byte and length of each place where a number can stand.
    fn places(number: Number) -> impl Iterator<Item = (usize, usize)> {
        let (first, count, len) = match number {
            Number::Version => (6, 1, 1),
            Number::N => (11, 1, 128),
            Number::E => (141, 1, 3),
            // 145: a number of 127 bytes behind its short length byte is read from 146
            Number::D => (147, 2, 128),
            Number::P => (276, 4, 64),
            Number::Q => (343, 4, 64),
            Number::Dp => (409, 5, 64),
            Number::Dq => (474, 7, 64),
            Number::Qinv => (539, 9, 64),
        };
        let short = matches!(number, Number::D).then_some((146, 127));
        (first..first + count).map(move |at| (at, len)).chain(short)
    }

    /// The bytes at each place, then those that the reader found.
    fn bytes(&self, number: Number) -> impl Iterator<Item = &'a [u8]> {
        let field = self.field;
        let walked = self.walked.map(|view| view.number(number).magnitude());
        Self::places(number).filter_map(move |(at, len)| field.get(at..at + len)).chain(walked)
    }

    pub(super) fn modulus(&self) -> impl Iterator<Item = U1024> {
        self.bytes(Number::N).filter_map(wide)
    }

    pub(super) fn private_exponent(&self) -> impl Iterator<Item = U1024> {
        self.bytes(Number::D).filter_map(wide)
    }

    /// p, q, dp, dq or qinv.
    pub(super) fn half(&self, number: Number) -> impl Iterator<Item = U512> {
        // erased bytes would cost time and prove nothing
        self.bytes(number).filter_map(crate::arithmetic::narrow).filter(|number| *number != U512::MAX)
    }

    /// Which numbers the field holds.
    pub(super) fn taken(&self, numbers: &Complete) -> [bool; 9] {
        let holds = |number, value: &[u8]| {
            let value = crate::der::strip(value);
            self.bytes(number).any(|bytes| crate::der::strip(bytes) == value)
        };
        [
            holds(Number::Version, &[0]),
            holds(Number::N, &numbers.n),
            holds(Number::E, &[1, 0, 1]),
            holds(Number::D, &numbers.d),
            holds(Number::P, &numbers.p),
            holds(Number::Q, &numbers.q),
            holds(Number::Dp, &numbers.dp),
            holds(Number::Dq, &numbers.dq),
            holds(Number::Qinv, &numbers.qinv),
        ]
    }
}

fn wide(bytes: &[u8]) -> Option<U1024> {
    crate::arithmetic::narrow(bytes)
}
