//! The few RSA operations of the handshake, for back ends, HSMs and key services to implement.

use rand_core::CryptoRng;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq, ConstantTimeLess};

/// Why an RSA operation gave nothing. Says nothing about secrets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RsaFailure {
    /// Key, message or buffer have sizes that do not fit each other.
    #[error("the key does not fit the operation")]
    Size,
    /// The operation itself failed: bad padding where the back end tells, a bad signature, a device error.
    #[error("the RSA operation failed")]
    Failed,
}

/// Operations with a public key.
pub trait RsaPublic {
    /// PKCS#1 v1.5 (type 2) encryption of `message` into `out`, which has the length of the modulus.
    ///
    /// # Errors
    /// [`RsaFailure::Size`] if `out` is not as long as the modulus or `message` is longer than that less 11.
    fn encrypt(&self, rng: &mut dyn CryptoRng, message: &[u8], out: &mut [u8]) -> Result<(), RsaFailure>;

    /// Checks a PKCS#1 v1.5 (type 1) signature over the bare 20 bytes, without a DigestInfo.
    ///
    /// # Errors
    /// [`RsaFailure::Failed`] if the signature is not of these bytes by this key.
    fn verify_bare(&self, digest: &[u8; 20], signature: &[u8]) -> Result<(), RsaFailure>;
}

/// Operations with a private key.
pub trait RsaPrivate {
    /// PKCS#1 v1.5 (type 2) decryption into the front of `out`; gives the length of the message.
    ///
    /// A back end may answer bad padding with an error, an empty message or synthetic bytes (implicit rejection); the
    /// handshake treats them alike. It must not let anyone tell one kind of bad padding from another, by result or
    /// by time: [`unpad`] is there for keys that only do the bare RSA operation. Randomness is for blinding.
    ///
    /// # Errors
    /// [`RsaFailure`].
    fn decrypt(
        &self,
        rng: &mut dyn CryptoRng,
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, RsaFailure>;

    /// PKCS#1 v1.5 (type 1) signature over the bare 20 bytes, without a DigestInfo.
    ///
    /// # Errors
    /// [`RsaFailure::Size`] if `signature` is not as long as the modulus.
    fn sign_bare(
        &self,
        rng: &mut dyn CryptoRng,
        digest: &[u8; 20],
        signature: &mut [u8],
    ) -> Result<(), RsaFailure>;
}

impl<K: RsaPublic + ?Sized> RsaPublic for &K {
    fn encrypt(&self, rng: &mut dyn CryptoRng, message: &[u8], out: &mut [u8]) -> Result<(), RsaFailure> {
        (**self).encrypt(rng, message, out)
    }

    fn verify_bare(&self, digest: &[u8; 20], signature: &[u8]) -> Result<(), RsaFailure> {
        (**self).verify_bare(digest, signature)
    }
}

impl<K: RsaPrivate + ?Sized> RsaPrivate for &K {
    fn decrypt(
        &self,
        rng: &mut dyn CryptoRng,
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, RsaFailure> {
        (**self).decrypt(rng, ciphertext, out)
    }

    fn sign_bare(
        &self,
        rng: &mut dyn CryptoRng,
        digest: &[u8; 20],
        signature: &mut [u8],
    ) -> Result<(), RsaFailure> {
        (**self).sign_bare(rng, digest, signature)
    }
}

/// Fewest padding bytes of a type 2 block.
const MIN_PADDING: usize = 8;

/// Removes the padding of a decrypted PKCS#1 v1.5 type 2 block, in place and in constant time: the message moves to the
/// front, everything behind it becomes 0, and the result is its length. For keys (an HSM, OpenSSL) that do the bare RSA
/// operation only.
///
/// ```text
/// 00 02 | 8 or more bytes that are not 00 | 00 | message
/// ```
///
/// Bad padding gives an empty message, which the handshake refuses as it refuses every message of a wrong length. Time and
/// memory accesses depend on the length of the block alone, not on what is in it. Firmware takes shorter padding than
/// 8 bytes too; no server sends it.
///
/// # Source
/// RFC 8017 section 7.2.2.
#[must_use]
pub fn unpad(block: &mut [u8]) -> usize {
    let [first, second, ..] = *block else { return 0 };
    let mut ended = Choice::from(0);
    let mut start = 0u32;
    for (next, byte) in (1u32..).zip(block.iter()).skip(2) {
        let ends = byte.ct_eq(&0) & !ended;
        start.conditional_assign(&next, ends);
        ended |= ends;
    }
    let shortest = u32::try_from(2 + MIN_PADDING + 1).unwrap_or(u32::MAX);
    let good = first.ct_eq(&0) & second.ct_eq(&2) & ended & !start.ct_lt(&shortest);
    let Ok(len) = u32::try_from(block.len()) else { return 0 };
    start.conditional_assign(&len, !good);
    shift_left(block, start);
    usize::try_from(len - start).unwrap_or(0)
}

/// Moves all bytes `by` places to the front, in steps of powers of two that are all gone through.
fn shift_left(block: &mut [u8], by: u32) {
    let mut step = 1;
    while step <= block.len() {
        let wanted = !(by & u32::try_from(step).unwrap_or(0)).ct_eq(&0);
        for at in 0..block.len() {
            let moved = block.get(at + step).copied().unwrap_or(0);
            if let Some(byte) = block.get_mut(at) {
                byte.conditional_assign(&moved, wanted);
            }
        }
        step *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(padding: usize, message: &[u8]) -> [u8; 256] {
        let mut block = [0xA5; 256];
        block[..2].copy_from_slice(&[0, 2]);
        block[2 + padding] = 0;
        block[2 + padding + 1..][..message.len()].copy_from_slice(message);
        block
    }

    #[test]
    fn message_moves_to_the_front_for_every_length() {
        let message: [u8; 245] = core::array::from_fn(|i| u8::try_from(i % 251).unwrap());
        for len in 0..=message.len() {
            let mut block = block(253 - len, &message[..len]);
            assert_eq!(unpad(&mut block), len);
            assert_eq!(block[..len], message[..len]);
            assert!(block[len..].iter().all(|byte| *byte == 0), "length {len}");
        }
    }

    #[test]
    fn every_kind_of_bad_padding_gives_the_same() {
        let good = block(8, &[7; 245]);
        let mut cases = [good; 6];
        cases[0][0] = 1;
        cases[1][1] = 1;
        cases[2][1] = 0;
        cases[3][9] = 0;
        cases[4][2] = 0;
        cases[5][10] = 7;
        for mut block in cases {
            assert_eq!(unpad(&mut block), 0);
            assert_eq!(block, [0; 256]);
        }
        for len in 0..11 {
            assert_eq!(unpad(&mut { good }[..len]), 0, "length {len}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_plain_way(mut block in proptest::collection::vec(0u8..4, 0..300), head in 0u8..3) {
            if let [first, second, ..] = &mut block[..] {
                (*first, *second) = (head / 2, 2);
            }
            let message = match block.as_slice() {
                [0, 2, rest @ ..] => rest.iter().position(|byte| *byte == 0).filter(|at| *at >= 8).map(|at| rest[at + 1..].to_vec()),
                _ => None,
            };
            let len = unpad(&mut block);
            prop_assert_eq!(&block[..len], message.unwrap_or_default());
        }
    }
}
