//! The back end of the `rsa` crate.

use super::rsa_ops::{RsaFailure, RsaPrivate, RsaPublic};
use rand_core::CryptoRng;
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Encrypt, Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey};
use zeroize::Zeroizing;

impl RsaPublic for RsaPublicKey {
    fn encrypt(&self, mut rng: &mut dyn CryptoRng, message: &[u8], out: &mut [u8]) -> Result<(), RsaFailure> {
        if out.len() != self.size() || message.len() + 11 > out.len() {
            return Err(RsaFailure::Size);
        }
        let ciphertext =
            Self::encrypt(self, &mut rng, Pkcs1v15Encrypt, message).map_err(|_| RsaFailure::Failed)?;
        copy_exact(&ciphertext, out)
    }

    fn verify_bare(&self, digest: &[u8; 20], signature: &[u8]) -> Result<(), RsaFailure> {
        self.verify(Pkcs1v15Sign::new_unprefixed(), digest, signature).map_err(|_| RsaFailure::Failed)
    }
}

impl RsaPrivate for RsaPrivateKey {
    fn decrypt(
        &self,
        mut rng: &mut dyn CryptoRng,
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, RsaFailure> {
        // Since 0.10.0-rc.20 bad padding gives synthetic bytes of a synthetic length, not an error.
        let message = Zeroizing::new(
            self.decrypt_blinded(&mut rng, Pkcs1v15Encrypt, ciphertext).map_err(|_| RsaFailure::Failed)?,
        );
        out.get_mut(..message.len()).ok_or(RsaFailure::Size)?.copy_from_slice(&message);
        Ok(message.len())
    }

    fn sign_bare(
        &self,
        mut rng: &mut dyn CryptoRng,
        digest: &[u8; 20],
        signature: &mut [u8],
    ) -> Result<(), RsaFailure> {
        if signature.len() != self.size() {
            return Err(RsaFailure::Size);
        }
        let bytes = self
            .sign_with_rng(&mut rng, Pkcs1v15Sign::new_unprefixed(), digest)
            .map_err(|_| RsaFailure::Failed)?;
        copy_exact(&bytes, signature)
    }
}

fn copy_exact(from: &[u8], to: &mut [u8]) -> Result<(), RsaFailure> {
    if from.len() != to.len() {
        return Err(RsaFailure::Size);
    }
    to.copy_from_slice(from);
    Ok(())
}
