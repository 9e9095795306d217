//! The few RSA operations of the handshake, for back ends, HSMs and key services to implement.

use rand_core::CryptoRng;

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
    /// A back end may answer bad padding with an error or with synthetic bytes (implicit rejection); the
    /// handshake treats both alike. Randomness is for blinding.
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
