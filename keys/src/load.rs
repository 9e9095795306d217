//! Reads key files of any form.

use crate::der::DerError;
use crate::device_key::{DeviceKey, DeviceKeyError};
use crate::form::KeyForm;
use crate::pem::{self, PemError};
use crate::private_key::RsaPrivateKeyView;
use crate::public_key::RsaPublicKeyView;
use zeroize::Zeroize;

/// Longest DER that a PEM file may hold here; an RSA-2048 key in PKCS#8 has about 1220 bytes.
pub const MAX_DER: usize = 2048;

/// Reads a device key from a file or from a device's field: PEM or DER, PKCS#1 or PKCS#8, with anything after the DER,
/// also as a device generates it.
///
/// ```
/// # let file = include_bytes!("../tests/vectors/rsa1024_608.pkcs8.pem");
/// let key = spark_keys::load_device_key(file)?;
/// assert_eq!(key.as_der().len(), 608);
/// # Ok::<(), spark_keys::LoadError>(())
/// ```
///
/// # Errors
/// [`LoadError`]. A key that a device would misread is refused.
pub fn load_device_key(file: &[u8]) -> Result<DeviceKey, LoadError> {
    let mut buffer = [0; MAX_DER];
    let key = private_der(file, &mut buffer)
        .and_then(|der| Ok(RsaPrivateKeyView::parse(der)?))
        .and_then(|view| Ok(DeviceKey::from_view(&view)?));
    buffer.zeroize();
    key
}

/// Finds the PKCS#1 key in a private key file. Text is decoded into `buffer`, which the caller wipes.
///
/// # Errors
/// [`LoadError`].
pub fn private_der<'a>(file: &'a [u8], buffer: &'a mut [u8]) -> Result<&'a [u8], LoadError> {
    let (form, der) = der_of(file, buffer)?;
    match form {
        Some(KeyForm::Pkcs1Private) => Ok(der),
        Some(KeyForm::Pkcs8Private) => Ok(crate::pkcs8::unwrap_pkcs8(der)?),
        form => Err(LoadError::Form { form }),
    }
}

/// Reads an RSA public key from a file: PEM or DER, SPKI or PKCS#1, or the host tool's server key file of 512 bytes. Text
/// is decoded into `buffer` ([`MAX_DER`] bytes are enough).
///
/// # Errors
/// [`LoadError`].
pub fn load_public_key<'a>(file: &'a [u8], buffer: &'a mut [u8]) -> Result<RsaPublicKeyView<'a>, LoadError> {
    let (form, der) = der_of(file, buffer)?;
    match form {
        Some(KeyForm::SpkiRsa) => Ok(RsaPublicKeyView::parse_spki(der)?),
        Some(KeyForm::Pkcs1Public) => Ok(RsaPublicKeyView::parse_pkcs1(der)?),
        form => Err(LoadError::Form { form }),
    }
}

fn der_of<'a>(file: &'a [u8], buffer: &'a mut [u8]) -> Result<(Option<KeyForm>, &'a [u8]), LoadError> {
    match KeyForm::of(file) {
        Some(KeyForm::Pem) => {
            let (form, der) = pem::decode(file, buffer)?;
            Ok((Some(form), der))
        }
        // text may stand before the first BEGIN line
        None if file.is_ascii() && !file.is_empty() => match pem::decode(file, buffer) {
            Ok((form, der)) => Ok((Some(form), der)),
            Err(PemError::NoKey) => Ok((None, file)),
            Err(error) => Err(error.into()),
        },
        form => Ok((form, file)),
    }
}

/// Why a key file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LoadError {
    /// Not a key, or a key of another kind.
    #[error("file holds {} where an RSA key is needed; give the right file", form.map_or("no key", KeyForm::name))]
    Form {
        /// The form found.
        form: Option<KeyForm>,
    },
    /// Damaged text.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Damaged DER.
    #[error(transparent)]
    Der(#[from] DerError),
    /// A key that no device can use.
    #[error(transparent)]
    Device(#[from] DeviceKeyError),
}
