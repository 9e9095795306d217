//! Generation of keys with the OpenSSL library, and conversion to and from the types of the `openssl` crate.
//!
//! The types of `openssl` 0.10 are part of this module's interface; [`openssl`] re-exports it. Works with OpenSSL 3.0. The
//! operations of the handshake are not here.

use crate::device_key::DeviceKey;
use crate::ec::{EcDeviceKey, EcPrivateKeyView, EcPublicKeyView};
use crate::generate::MAX_TRIES;
use crate::key::Key;
use crate::load::{self, LoadError, MAX_DER};
use crate::private_key::{Number, RsaPrivateKeyView};
use crate::public_key::{RsaPublicKeyView, SPKI_1024_LEN, SPKI_2048_LEN, spki_1024, spki_2048};
use alloc::vec::Vec;
use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::ec::{EcGroup, EcKey, EcKeyRef, EcPoint};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, Private, Public};
use openssl::rsa::{Rsa, RsaPrivateKeyBuilder, RsaRef};
use zeroize::Zeroizing;

pub use openssl;

/// Generates a device key: RSA-1024 whose every number is encoded in a length that the device reads right.
///
/// ```
/// let key = spark_keys::openssl_backend::generate_device_key()?;
/// assert!(spark_keys::check(key.as_field()).is_clean());
/// # Ok::<(), spark_keys::openssl_backend::OpensslError>(())
/// ```
///
/// # Errors
/// [`OpensslError::Generate`] when the library fails, or gives [`MAX_TRIES`] unusable keys in a row.
pub fn generate_device_key() -> Result<DeviceKey, OpensslError> {
    for _ in 0..MAX_TRIES {
        let key = Rsa::generate(1024).map_err(|_| OpensslError::Generate)?;
        match device_key(&key) {
            Ok(key) if key.is_padded() => {}
            result => return result,
        }
    }
    Err(OpensslError::Generate)
}

/// Generates a server key: RSA-2048.
///
/// # Errors
/// [`OpensslError::Generate`].
pub fn generate_server_key() -> Result<Rsa<Private>, OpensslError> {
    Rsa::generate(2048).map_err(|_| OpensslError::Generate)
}

/// Generates the key of a UDP device: P-256.
///
/// # Errors
/// [`OpensslError::Generate`].
pub fn generate_ec_device_key() -> Result<EcDeviceKey, OpensslError> {
    let key = group().and_then(|group| EcKey::generate(&group)).map_err(|_| OpensslError::Generate)?;
    ec_device_key(&key)
}

/// The device key with these numbers.
///
/// # Errors
/// [`OpensslError::Load`] when no device can use it.
pub fn device_key(key: &RsaRef<Private>) -> Result<DeviceKey, OpensslError> {
    let der = to_pkcs1(key)?;
    let view = RsaPrivateKeyView::parse(&der).map_err(LoadError::from)?;
    Ok(DeviceKey::from_view(&view).map_err(LoadError::from)?)
}

/// The device key with this private number.
///
/// # Errors
/// [`OpensslError::Refused`] when it is not on P-256.
pub fn ec_device_key(key: &EcKeyRef<Private>) -> Result<EcDeviceKey, OpensslError> {
    let der = Zeroizing::new(key.private_key_to_der()?);
    let view = EcPrivateKeyView::parse_sec1(&der).map_err(|_| OpensslError::Refused)?;
    view.to_device_key().map_err(|_| OpensslError::Refused)
}

/// Canonical PKCS#1 DER of a key.
///
/// # Errors
/// [`OpensslError::Refused`] when the library cannot write it.
pub fn to_pkcs1(key: &RsaRef<Private>) -> Result<Zeroizing<Vec<u8>>, OpensslError> {
    Ok(Zeroizing::new(key.private_key_to_der()?))
}

/// Converts a key, however it was encoded, with the numbers that it holds.
///
/// # Errors
/// [`OpensslError::Refused`] when the numbers do not belong together.
pub fn to_rsa_private(key: &RsaPrivateKeyView<'_>) -> Result<Rsa<Private>, OpensslError> {
    if !crate::arithmetic::verdict(key).is_key() {
        return Err(OpensslError::Refused);
    }
    // the library wipes them with the key
    let number = |which| BigNum::from_slice(key.number(which).magnitude());
    let builder = RsaPrivateKeyBuilder::new(number(Number::N)?, number(Number::E)?, number(Number::D)?)?
        .set_factors(number(Number::P)?, number(Number::Q)?)?
        .set_crt_params(number(Number::Dp)?, number(Number::Dq)?, number(Number::Qinv)?)?;
    Ok(builder.build())
}

/// Converts a public key.
///
/// # Errors
/// [`OpensslError::Refused`].
pub fn to_rsa_public(key: &RsaPublicKeyView<'_>) -> Result<Rsa<Public>, OpensslError> {
    let (n, e) = (BigNum::from_slice(key.modulus())?, BigNum::from_slice(key.exponent())?);
    Ok(Rsa::from_public_components(n, e)?)
}

/// Converts the key of a UDP device.
///
/// # Errors
/// [`OpensslError::Refused`].
pub fn to_ec_private(key: &EcDeviceKey) -> Result<EcKey<Private>, OpensslError> {
    let group = group()?;
    let mut scalar = BigNum::from_slice(key.scalar())?;
    let built = point(&group, key.point()).and_then(|point| {
        let key = EcKey::from_private_components(&group, &scalar, &point)?;
        key.check_key()?;
        Ok(key)
    });
    scalar.clear();
    Ok(built?)
}

/// Converts a public EC key.
///
/// # Errors
/// [`OpensslError::Refused`].
pub fn to_ec_public(key: &EcPublicKeyView<'_>) -> Result<EcKey<Public>, OpensslError> {
    let group = group()?;
    let key = EcKey::from_public_key(&group, &*point(&group, key.point())?)?;
    key.check_key()?;
    Ok(key)
}

/// SPKI of a device's public key.
///
/// # Errors
/// [`OpensslError::Refused`] unless it is RSA-1024 with exponent 65537.
pub fn device_spki<T: HasPublic>(key: &RsaRef<T>) -> Result<[u8; SPKI_1024_LEN], OpensslError> {
    Ok(spki_1024(&modulus(key)?))
}

/// SPKI of a server's public key: what goes into the device's server key region.
///
/// # Errors
/// [`OpensslError::Refused`] unless it is RSA-2048 with exponent 65537.
pub fn server_spki<T: HasPublic>(key: &RsaRef<T>) -> Result<[u8; SPKI_2048_LEN], OpensslError> {
    Ok(spki_2048(&modulus(key)?))
}

/// Reads a server's private key: PEM or DER, PKCS#1 or PKCS#8.
///
/// # Errors
/// [`OpensslError::Load`]; [`OpensslError::Refused`] unless it is RSA-2048 with exponent 65537.
pub fn load_server_key(file: &[u8]) -> Result<Rsa<Private>, OpensslError> {
    let mut scratch = Zeroizing::new([0; MAX_DER]);
    let key = match load::load(file, &mut *scratch)?.key {
        Key::RsaPrivate(view) => to_rsa_private(&view)?,
        _ => return Err(OpensslError::Refused),
    };
    server_spki(&key)?;
    Ok(key)
}

/// A server's private key as PEM text (`RSA PRIVATE KEY`).
///
/// # Errors
/// [`OpensslError::Refused`] when the library cannot write it.
pub fn private_key_pem(key: &RsaRef<Private>) -> Result<Zeroizing<Vec<u8>>, OpensslError> {
    Ok(Zeroizing::new(key.private_key_to_pem()?))
}

fn modulus<T: HasPublic, const N: usize>(key: &RsaRef<T>) -> Result<[u8; N], OpensslError> {
    let fits = |number: &BigNumRef| number.num_bits().unsigned_abs().try_into() == Ok(N * 8);
    if !fits(key.n()) || key.e().to_vec() != [1, 0, 1] {
        return Err(OpensslError::Refused);
    }
    key.n().to_vec().try_into().map_err(|_| OpensslError::Refused)
}

fn group() -> Result<EcGroup, ErrorStack> {
    EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)
}

fn point(group: &EcGroup, coordinates: &[u8; crate::ec::POINT_LEN]) -> Result<EcPoint, ErrorStack> {
    let mut encoded = [4; 1 + crate::ec::POINT_LEN];
    for (slot, byte) in encoded.iter_mut().skip(1).zip(coordinates) {
        *slot = *byte;
    }
    let mut context = BigNumContext::new()?;
    EcPoint::from_bytes(group, &encoded, &mut context)
}

/// Why a key cannot be made or converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum OpensslError {
    /// The generator did not give a usable key.
    #[error("no usable key was generated; check the library's source of randomness")]
    Generate,
    /// The numbers are not a key of the kind that is needed.
    #[error("numbers are no key of the kind that is needed; give another key")]
    Refused,
    /// The file cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl From<ErrorStack> for OpensslError {
    fn from(_: ErrorStack) -> Self {
        OpensslError::Refused
    }
}
