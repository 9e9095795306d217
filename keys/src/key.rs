//! A key of any kind.

use crate::der::BufferTooSmall;
use crate::ec::{EC_DER_LEN, EC_PKCS8_LEN, EcKeyError, EcPrivateKeyView, EcPublicKeyView, SPKI_P256_LEN};
use crate::fingerprint::Fingerprint;
use crate::form::KeyForm;
use crate::pkcs8;
use crate::private_key::RsaPrivateKeyView;
use crate::public_key::RsaPublicKeyView;

/// A key of any kind that this crate knows.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_enums, reason = "two algorithms, private and public: devices have no others")]
pub enum Key<'a> {
    /// RSA private key.
    RsaPrivate(RsaPrivateKeyView<'a>),
    /// P-256 private key.
    EcPrivate(EcPrivateKeyView<'a>),
    /// RSA public key.
    RsaPublic(RsaPublicKeyView<'a>),
    /// P-256 public key.
    EcPublic(EcPublicKeyView<'a>),
}

impl<'a> Key<'a> {
    /// Whether it is a private key.
    #[must_use]
    pub const fn is_private(&self) -> bool {
        matches!(self, Key::RsaPrivate(_) | Key::EcPrivate(_))
    }

    /// Name of the algorithm: `rsa` or `ec-p256`.
    #[must_use]
    pub const fn algorithm(&self) -> &'static str {
        match self {
            Key::RsaPrivate(_) | Key::RsaPublic(_) => "rsa",
            Key::EcPrivate(_) | Key::EcPublic(_) => "ec-p256",
        }
    }

    /// Bits of the modulus, or of the curve.
    #[must_use]
    pub fn bits(&self) -> usize {
        self.rsa_public().map_or(256, |key| key.bits())
    }

    /// Fingerprint of the public key; `None` for RSA keys with another exponent than 65537 and for EC keys whose private
    /// number is out of range, which do not [`load`](crate::load::load).
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        match self {
            Key::RsaPrivate(key) => key.fingerprint(),
            Key::RsaPublic(key) => key.fingerprint(),
            Key::EcPrivate(key) => key.to_device_key().ok().map(|key| key.fingerprint()),
            Key::EcPublic(key) => Some(key.fingerprint()),
        }
    }

    fn rsa_public(&self) -> Option<RsaPublicKeyView<'a>> {
        match self {
            Key::RsaPrivate(key) => Some(key.public_key()),
            Key::RsaPublic(key) => Some(*key),
            Key::EcPrivate(_) | Key::EcPublic(_) => None,
        }
    }

    /// Length of the key in another form.
    ///
    /// # Errors
    /// [`EncodeError::Form`].
    pub fn encoded_len(&self, form: KeyForm) -> Result<usize, EncodeError> {
        let refused = EncodeError::Form { form };
        match (form, self) {
            (KeyForm::Pkcs1Private, Key::RsaPrivate(key)) => Ok(key.encoded_len()),
            (KeyForm::Pkcs8Private, Key::RsaPrivate(key)) => Ok(pkcs8::rsa_pkcs8_len(key)),
            (KeyForm::SpkiRsa, key) => Ok(key.rsa_public().ok_or(refused)?.spki_len()),
            (KeyForm::Pkcs1Public, key) => Ok(key.rsa_public().ok_or(refused)?.pkcs1_len()),
            (KeyForm::Sec1Ec, Key::EcPrivate(_)) => Ok(EC_DER_LEN),
            (KeyForm::Pkcs8Ec, Key::EcPrivate(_)) => Ok(EC_PKCS8_LEN),
            (KeyForm::SpkiEc, Key::EcPrivate(_) | Key::EcPublic(_)) => Ok(SPKI_P256_LEN),
            _ => Err(refused),
        }
    }

    /// Writes the key in another form, in canonical DER. A private key can be written in the public forms as well. For
    /// text give the result to [`pem::encode`](crate::pem::encode).
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn encode_into<'b>(&self, form: KeyForm, out: &'b mut [u8]) -> Result<&'b [u8], EncodeError> {
        let refused = EncodeError::Form { form };
        Ok(match (form, self) {
            (KeyForm::Pkcs1Private, Key::RsaPrivate(key)) => key.encode_into(out)?,
            (KeyForm::Pkcs8Private, Key::RsaPrivate(key)) => pkcs8::encode_rsa_pkcs8(key, out)?,
            (KeyForm::SpkiRsa, key) => key.rsa_public().ok_or(refused)?.encode_spki_into(out)?,
            (KeyForm::Pkcs1Public, key) => key.rsa_public().ok_or(refused)?.encode_pkcs1_into(out)?,
            (KeyForm::Sec1Ec, Key::EcPrivate(key)) => copy(key.to_device_key()?.as_der(), out)?,
            (KeyForm::Pkcs8Ec, Key::EcPrivate(key)) => key.to_device_key()?.encode_pkcs8_into(out)?,
            (KeyForm::SpkiEc, Key::EcPrivate(key)) => copy(&key.to_device_key()?.public_key(), out)?,
            (KeyForm::SpkiEc, Key::EcPublic(key)) => copy(&key.spki(), out)?,
            _ => return Err(refused),
        })
    }
}

fn copy<'b>(bytes: &[u8], out: &'b mut [u8]) -> Result<&'b [u8], BufferTooSmall> {
    let mut writer = crate::der::Writer::new(out);
    writer.bytes(bytes);
    writer.finish()
}

/// Why a key cannot be written in a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum EncodeError {
    /// The form is for another kind of key; text is made by [`pem::encode`](crate::pem::encode).
    #[error("key cannot be written as {}; choose a form of its own kind", form.name())]
    Form {
        /// The form asked for.
        form: KeyForm,
    },
    /// An EC key whose numbers do not belong together.
    #[error(transparent)]
    Ec(#[from] EcKeyError),
    /// The caller's buffer.
    #[error(transparent)]
    Buffer(#[from] BufferTooSmall),
}
