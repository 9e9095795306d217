//! Generation of keys and conversion to and from the types of the `rsa` crate.
//!
//! The types of the exact release `rsa` 0.10.0-rc.20 are part of this module's interface; [`rsa`] re-exports it.
//! The operations of the handshake are not here.

use crate::device_key::DeviceKey;
use crate::form::KeyForm;
use crate::generate;
use crate::load::{self, LoadError, MAX_DER};
use crate::pem;
use crate::private_key::{Number, RsaPrivateKeyView, encode_pkcs1, pkcs1_len};
use crate::public_key::{RsaPublicKeyView, SPKI_1024_LEN, SPKI_2048_LEN, spki_1024, spki_2048};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
pub use rand_core::CryptoRng;
pub use rsa;
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use rsa::{BoxedUint, RsaPrivateKey, RsaPublicKey};
use zeroize::{Zeroize, Zeroizing};

/// Generates a device key: RSA-1024 whose every number is encoded in a length that the device reads right. Same as
/// [`generate::device_key`], with this module's error.
///
/// # Errors
/// [`RsaError::Generate`].
pub fn generate_device_key<R: CryptoRng + ?Sized>(rng: &mut R) -> Result<DeviceKey, RsaError> {
    generate::device_key(rng).map_err(|_| RsaError::Generate)
}

/// Generates a server key: RSA-2048.
///
/// # Errors
/// [`RsaError::Generate`].
pub fn generate_server_key<R: CryptoRng + ?Sized>(rng: &mut R) -> Result<RsaPrivateKey, RsaError> {
    RsaPrivateKey::new(rng, 2048).map_err(|_| RsaError::Generate)
}

/// Converts a key, however it was encoded. Stored dp, dq and qinv are not used: the `rsa` crate computes its own.
///
/// # Errors
/// [`RsaError::Refused`] when the numbers do not belong together or are out of bounds.
pub fn to_rsa_private(key: &RsaPrivateKeyView<'_>) -> Result<RsaPrivateKey, RsaError> {
    // all numbers in the precision of the modulus, as the crate's own reader does
    let precision = precision(key.modulus())?;
    let number = |which| {
        BoxedUint::from_be_slice(key.number(which).magnitude(), precision).map_err(|_| RsaError::Refused)
    };
    let e = exponent(key.number(Number::E).magnitude())?;
    let primes = vec![number(Number::P)?, number(Number::Q)?];
    RsaPrivateKey::from_components(number(Number::N)?, e, number(Number::D)?, primes)
        .map_err(|_| RsaError::Refused)
}

/// Converts a public key.
///
/// # Errors
/// [`RsaError::Refused`] when the modulus or exponent is out of bounds.
pub fn to_rsa_public(key: &RsaPublicKeyView<'_>) -> Result<RsaPublicKey, RsaError> {
    let n =
        BoxedUint::from_be_slice(key.modulus(), precision(key.modulus())?).map_err(|_| RsaError::Refused)?;
    RsaPublicKey::new(n, exponent(key.exponent())?).map_err(|_| RsaError::Refused)
}

/// Canonical PKCS#1 DER of a key.
///
/// # Errors
/// [`RsaError::Refused`] for a key of more than two primes.
pub fn to_pkcs1(key: &RsaPrivateKey) -> Result<Zeroizing<Vec<u8>>, RsaError> {
    let [p, q] = key.primes() else { return Err(RsaError::Refused) };
    // a copy with the CRT values computed; the given key may lack them
    let mut key = key.clone();
    key.precompute().map_err(|_| RsaError::Refused)?;
    let secret = |number: &BoxedUint| Zeroizing::new(number.to_be_bytes().into_vec());
    let (Some(dp), Some(dq), Some(mut qinv)) = (key.dp(), key.dq(), key.crt_coefficient()) else {
        return Err(RsaError::Refused);
    };
    let numbers =
        [secret(key.d()), secret(p.as_ref()), secret(q.as_ref()), secret(dp), secret(dq), secret(&qinv)];
    qinv.zeroize();
    let (n, e) = (key.n_bytes(), key.e_bytes());
    let [d, p, q, dp, dq, qinv] = &numbers;
    let numbers: [&[u8]; 8] = [&n, &e, d, p, q, dp, dq, qinv];
    let mut der = Zeroizing::new(vec![0; pkcs1_len(numbers)]);
    encode_pkcs1(numbers, &mut der).map_err(|_| RsaError::Refused)?;
    Ok(der)
}

/// SPKI of a device's public key.
///
/// # Errors
/// [`RsaError::Refused`] unless it is RSA-1024 with exponent 65537.
pub fn device_spki(key: &RsaPublicKey) -> Result<[u8; SPKI_1024_LEN], RsaError> {
    Ok(spki_1024(&modulus(key)?))
}

/// SPKI of a server's public key: what goes into the device's server key region.
///
/// # Errors
/// [`RsaError::Refused`] unless it is RSA-2048 with exponent 65537.
pub fn server_spki(key: &RsaPublicKey) -> Result<[u8; SPKI_2048_LEN], RsaError> {
    Ok(spki_2048(&modulus(key)?))
}

/// Reads a server's private key: PEM or DER, PKCS#1 or PKCS#8.
///
/// # Errors
/// [`RsaError::Load`]; [`RsaError::Refused`] unless it is RSA-2048 with exponent 65537.
pub fn load_server_key(file: &[u8]) -> Result<RsaPrivateKey, RsaError> {
    let mut buffer = Zeroizing::new([0; MAX_DER]);
    let der = load::private_der(file, &mut *buffer)?;
    let view = RsaPrivateKeyView::parse(der).map_err(LoadError::from)?;
    let key = to_rsa_private(&view)?;
    server_spki(key.as_public_key())?;
    Ok(key)
}

/// A server's private key as PEM text (`RSA PRIVATE KEY`).
///
/// # Errors
/// [`RsaError::Refused`] for a key of more than two primes.
pub fn private_key_pem(key: &RsaPrivateKey) -> Result<Zeroizing<String>, RsaError> {
    let der = to_pkcs1(key)?;
    // base64 takes 4 bytes for 3, and each line one more for 64
    let mut text = Zeroizing::new(vec![0; der.len() * 3 / 2 + 128]);
    let text = pem::encode(KeyForm::Pkcs1Private, &der, &mut text).map_err(LoadError::from)?;
    Ok(Zeroizing::new(String::from(text)))
}

fn modulus<const N: usize>(key: &RsaPublicKey) -> Result<[u8; N], RsaError> {
    if crate::der::strip(&key.e_bytes()) != [1, 0, 1] {
        return Err(RsaError::Refused);
    }
    let n = key.n_bytes();
    match <[u8; N]>::try_from(crate::der::strip(&n)) {
        Ok(modulus) if modulus.first().is_some_and(|first| *first >= 0x80) => Ok(modulus),
        _ => Err(RsaError::Refused),
    }
}

fn precision(modulus: &[u8]) -> Result<u32, RsaError> {
    u32::try_from(modulus.len() * 8).map_err(|_| RsaError::Refused)
}

fn exponent(bytes: &[u8]) -> Result<BoxedUint, RsaError> {
    BoxedUint::from_be_slice(bytes, precision(bytes)?.max(64)).map_err(|_| RsaError::Refused)
}

/// Why a key cannot be made or converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum RsaError {
    /// The generator did not give a usable key.
    #[error("no usable key was generated; check the source of randomness")]
    Generate,
    /// The numbers are not a key of the kind that is needed.
    #[error("numbers are no RSA key of the size that is needed; give another key")]
    Refused,
    /// The file cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl From<pem::PemError> for RsaError {
    fn from(error: pem::PemError) -> Self {
        RsaError::Load(error.into())
    }
}
