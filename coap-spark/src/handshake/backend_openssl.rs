//! The back end of OpenSSL.

use super::rsa_ops::{RsaFailure, RsaPrivate, RsaPublic, unpad};
use alloc::vec;
use openssl::pkey::{HasPrivate, HasPublic};
use openssl::rsa::{Padding, Rsa};
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Bytes that a padded block has more than its message.
const OVERHEAD: usize = 11;

/// OpenSSL takes its padding from its own random source, not from `rng`.
impl<T: HasPublic> RsaPublic for Rsa<T> {
    fn encrypt(&self, _: &mut dyn CryptoRng, message: &[u8], out: &mut [u8]) -> Result<(), RsaFailure> {
        let size = size(self);
        if out.len() != size || message.len() + OVERHEAD > size {
            return Err(RsaFailure::Size);
        }
        whole(self.public_encrypt(message, out, Padding::PKCS1), size)
    }

    fn verify_bare(&self, digest: &[u8; 20], signature: &[u8]) -> Result<(), RsaFailure> {
        let size = size(self);
        if signature.len() != size {
            return Err(RsaFailure::Failed);
        }
        let mut message = vec![0; size];
        let len =
            self.public_decrypt(signature, &mut message, Padding::PKCS1).map_err(|_| RsaFailure::Failed)?;
        let signed = message.get(..len).unwrap_or_default();
        if bool::from(signed.ct_eq(digest)) { Ok(()) } else { Err(RsaFailure::Failed) }
    }
}

/// OpenSSL blinds with its own random source, not with `rng`.
impl<T: HasPrivate> RsaPrivate for Rsa<T> {
    /// The padding is removed here: what OpenSSL says of it depends on its version, and before 3.2 bad padding went another
    /// way than good.
    fn decrypt(&self, _: &mut dyn CryptoRng, ciphertext: &[u8], out: &mut [u8]) -> Result<usize, RsaFailure> {
        let size = size(self);
        if ciphertext.len() != size || out.len() + OVERHEAD < size {
            return Err(RsaFailure::Size);
        }
        let mut block = Zeroizing::new(vec![0; size]);
        whole(self.private_decrypt(ciphertext, &mut block, Padding::NONE), size)?;
        let len = unpad(&mut block);
        for (to, from) in out.iter_mut().zip(block.iter()) {
            *to = *from;
        }
        Ok(len)
    }

    fn sign_bare(
        &self,
        _: &mut dyn CryptoRng,
        digest: &[u8; 20],
        signature: &mut [u8],
    ) -> Result<(), RsaFailure> {
        let size = size(self);
        if signature.len() != size || digest.len() + OVERHEAD > size {
            return Err(RsaFailure::Size);
        }
        whole(self.private_encrypt(digest, signature, Padding::PKCS1), size)
    }
}

fn size<T: HasPublic>(key: &Rsa<T>) -> usize {
    usize::try_from(key.size()).unwrap_or(0)
}

fn whole<E>(result: Result<usize, E>, size: usize) -> Result<(), RsaFailure> {
    match result {
        Ok(len) if len == size => Ok(()),
        _ => Err(RsaFailure::Failed),
    }
}
