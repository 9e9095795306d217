//! Reads key files of any form.

use crate::der::DerError;
use crate::device_key::{DeviceKey, DeviceKeyError};
use crate::ec::{EcDeviceKey, EcKeyError, EcPrivateKeyView, EcPublicKeyView};
use crate::form::KeyForm;
use crate::key::Key;
use crate::pem::{self, PemError};
use crate::pkcs8::{self, unwrap_pkcs8};
use crate::private_key::{Number, RsaPrivateKeyView};
use crate::public_key::RsaPublicKeyView;
use crate::{Relation, arithmetic};
use zeroize::Zeroize;

/// Longest DER that a PEM file may hold here; an RSA-2048 key in PKCS#8 has about 1220 bytes.
pub const MAX_DER: usize = 2048;

/// A key and the form it was found in.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Loaded<'a> {
    /// The key.
    pub key: Key<'a>,
    /// Form of the DER; never [`KeyForm::Pem`].
    pub form: KeyForm,
    /// Whether the DER was in PEM text.
    pub pem: bool,
    /// Length of the DER, without what follows it.
    pub der_len: usize,
    /// Bytes after the DER: padding, or the end of an older, longer key. In a PEM file, those inside of the text.
    pub trailing: &'a [u8],
}

impl core::fmt::Debug for Loaded<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // what follows may be the end of another private key
        f.debug_struct("Loaded")
            .field("key", &self.key)
            .field("form", &self.form)
            .field("pem", &self.pem)
            .field("der_len", &self.der_len)
            .field("trailing", &self.trailing.len())
            .finish()
    }
}

/// Reads any key file, or a key field: RSA-1024, RSA-2048 and P-256, private and public, in every form of [`KeyForm`].
///
/// Of text with a public and a private key the private one is taken; two private keys are refused.
///
/// Accepted are text around a PEM block, CRLF, an `EC PARAMETERS` block before the key, anything after the DER, and the
/// integers with needless zeros that devices generate. Text is decoded into `scratch` ([`MAX_DER`] bytes are enough),
/// which the caller wipes after a private key.
///
/// ```
/// # let file = include_bytes!("../tests/vectors/ec_p256.pem");
/// use spark_keys::{KeyForm, load};
/// let mut scratch = [0; load::MAX_DER];
/// let loaded = load::load(file, &mut scratch)?;
/// assert_eq!(loaded.form, KeyForm::Sec1Ec);
/// // the file that a UDP device takes
/// let mut der = [0; 192];
/// assert_eq!(loaded.key.encode_into(KeyForm::Sec1Ec, &mut der)?.len(), 121);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`LoadError`]. What loads is a key: the numbers of a private key satisfy all relations and its primes pass a
/// primality test, the point of an EC key is on the curve and belongs to the private number. Whether a *device* can use it
/// is another question, see [`check`](crate::check()).
pub fn load<'a>(file: &'a [u8], scratch: &'a mut [u8]) -> Result<Loaded<'a>, LoadError> {
    let pem = looks_like_pem(file);
    let (form, der) = der_of(file, scratch)?;
    if pkcs8::is_of_other_algorithm(der) {
        return Err(LoadError::Algorithm);
    }
    let form = form.ok_or(LoadError::NoKey)?;
    let (key, der_len) = match form {
        KeyForm::Pkcs1Private => {
            let key = rsa_private(der)?;
            (Key::RsaPrivate(key), key.der_len())
        }
        KeyForm::Pkcs8Private => {
            let (inner, der_len) = pkcs8::unwrap_with_len(der)?;
            (Key::RsaPrivate(rsa_private(inner)?), der_len)
        }
        KeyForm::Sec1Ec | KeyForm::Pkcs8Ec => {
            let key = match form {
                KeyForm::Sec1Ec => EcPrivateKeyView::parse_sec1(der)?,
                _ => EcPrivateKeyView::parse_pkcs8(der)?,
            };
            key.to_device_key()?;
            (Key::EcPrivate(key), key.der_len())
        }
        KeyForm::SpkiRsa | KeyForm::Pkcs1Public => {
            let key = match form {
                KeyForm::SpkiRsa => RsaPublicKeyView::parse_spki(der)?,
                _ => RsaPublicKeyView::parse_pkcs1(der)?,
            };
            size(key.bits())?;
            if [key.modulus(), key.exponent()].iter().any(|number| !is_odd(number)) || key.exponent() == [1] {
                return Err(LoadError::Even);
            }
            (Key::RsaPublic(key), key.der_len())
        }
        KeyForm::SpkiEc => {
            let key = EcPublicKeyView::parse_spki(der)?;
            (Key::EcPublic(key), key.der_len())
        }
        KeyForm::Pem => return Err(LoadError::NoKey),
    };
    Ok(Loaded { key, form, pem, der_len, trailing: der.get(der_len..).unwrap_or(&[]) })
}

fn rsa_private(der: &[u8]) -> Result<RsaPrivateKeyView<'_>, LoadError> {
    let key = RsaPrivateKeyView::parse(der)?;
    size(key.public_key().bits())?;
    let verdict = arithmetic::verdict(&key);
    if let Some(relation) = verdict.failed().next() {
        return Err(LoadError::Relation { relation });
    }
    match verdict.composite {
        Some(number) => Err(LoadError::NotPrime { number }),
        None => Ok(key),
    }
}

/// Whether the file is a key by its numbers, whatever a device thinks of it.
pub(crate) fn is_whole_rsa_key(file: &[u8]) -> bool {
    let mut scratch = [0; MAX_DER];
    let whole = matches!(load(file, &mut scratch), Ok(Loaded { key: Key::RsaPrivate(_), .. }));
    scratch.zeroize();
    whole
}

fn size(bits: usize) -> Result<(), LoadError> {
    match bits {
        1024 | 2048 => Ok(()),
        bits => Err(LoadError::Bits { bits }),
    }
}

fn is_odd(number: &[u8]) -> bool {
    number.last().is_some_and(|last| last % 2 == 1)
}

/// Reads the key of a UDP device from a file or from a device's field: PEM or DER, SEC1 or PKCS#8.
///
/// # Errors
/// [`LoadError`].
pub fn load_ec_device_key(file: &[u8]) -> Result<EcDeviceKey, LoadError> {
    let mut buffer = [0; MAX_DER];
    let key = match der_of(file, &mut buffer).map_err(LoadError::of_own_buffer) {
        Ok((Some(KeyForm::Sec1Ec), der)) => EcPrivateKeyView::parse_sec1(der).map_err(LoadError::from),
        Ok((Some(KeyForm::Pkcs8Ec), der)) => EcPrivateKeyView::parse_pkcs8(der).map_err(LoadError::from),
        Ok((form, _)) => Err(LoadError::NotEc { form }),
        Err(error) => Err(error),
    }
    .and_then(|view| Ok(view.to_device_key()?));
    buffer.zeroize();
    key
}

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
/// [`LoadError`]. A key that a device would misread in its shortest form comes
/// [padded](DeviceKey::is_padded).
pub fn load_device_key(file: &[u8]) -> Result<DeviceKey, LoadError> {
    let mut buffer = [0; MAX_DER];
    let key = private_der(file, &mut buffer)
        .map_err(LoadError::of_own_buffer)
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
        Some(KeyForm::Pkcs8Private) => Ok(unwrap_pkcs8(der)?),
        form => Err(LoadError::Form { form }),
    }
}

/// Reads an RSA public key from a file: PEM or DER, SPKI or PKCS#1, or the host tool's server key file of 512 bytes. Text
/// is decoded into `buffer` ([`MAX_DER`] bytes are enough).
///
/// # Errors
/// [`LoadError`].
pub fn load_public_key<'a>(file: &'a [u8], buffer: &'a mut [u8]) -> Result<RsaPublicKeyView<'a>, LoadError> {
    let (form, der) = match looks_like_pem(file) {
        true => pem::decode_public(file, buffer).map(|(form, der)| (Some(form), der))?,
        false => der_of(file, buffer)?,
    };
    match form {
        Some(KeyForm::SpkiRsa) => Ok(RsaPublicKeyView::parse_spki(der)?),
        Some(KeyForm::Pkcs1Public) => Ok(RsaPublicKeyView::parse_pkcs1(der)?),
        form => Err(LoadError::Form { form }),
    }
}

/// Also when text stands before the first BEGIN line, or a byte order mark.
fn looks_like_pem(file: &[u8]) -> bool {
    match KeyForm::of(file) {
        Some(form) => form == KeyForm::Pem,
        None => pem::contains_block(file),
    }
}

/// What a file holds, taken apart without judging the key.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Unpacked<'a> {
    /// Form of the DER; never [`KeyForm::Pem`].
    pub form: KeyForm,
    /// Whether it was in PEM text.
    pub pem: bool,
    /// The DER and what follows it; for [`KeyForm::Pkcs8Private`] the key inside, from its own header on.
    pub der: &'a [u8],
}

impl core::fmt::Debug for Unpacked<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Unpacked")
            .field("form", &self.form)
            .field("pem", &self.pem)
            .field("der_len", &self.der.len())
            .finish()
    }
}

/// Takes a file apart whose key may be damaged, for [`check`](crate::check()) to explain or a repair to rebuild it: decodes text, even
/// if the text itself is damaged, and unwraps PKCS#8.
///
/// `None` for bytes that look like no form of key, and for text without a key in the plain. Text is decoded into `scratch`
/// ([`MAX_DER`] bytes are enough), which the caller wipes.
///
/// ```
/// # let mut file = *include_bytes!("../tests/vectors/rsa1024_608.pkcs8.pem");
/// use spark_keys::{KeyForm, check, load};
/// // a letter of the text was changed by mistake
/// file[300] = if file[300] == b'x' { b'y' } else { b'x' };
/// let mut scratch = [0; load::MAX_DER];
/// assert!(load::load(&file, &mut scratch).is_err());
/// let unpacked = load::unpack(&file, &mut scratch).expect("text of a private key");
/// assert_eq!(unpacked.form, KeyForm::Pkcs8Private);
/// assert!(!check(unpacked.der).is_clean());
/// ```
#[must_use]
pub fn unpack<'a>(file: &'a [u8], scratch: &'a mut [u8]) -> Option<Unpacked<'a>> {
    let pem = looks_like_pem(file);
    let (form, der) = if pem {
        // a failed try may leave something in the buffer, which the next one overwrites
        let len = pem::decode(file, scratch).map(|(form, der)| (form, der.len()));
        match len.ok().or_else(|| pem::salvage(file, scratch).map(|(form, der)| (form, der.len()))) {
            Some((form, len)) => (form, scratch.get(..len)?),
            None => return None,
        }
    } else {
        (KeyForm::of(file)?, file)
    };
    let der = match form {
        KeyForm::Pkcs8Private => pkcs8::inside(der),
        _ => der,
    };
    Some(Unpacked { form, pem, der })
}

fn der_of<'a>(file: &'a [u8], buffer: &'a mut [u8]) -> Result<(Option<KeyForm>, &'a [u8]), LoadError> {
    if !looks_like_pem(file) {
        return match pkcs8::is_encrypted(file) {
            true => Err(LoadError::Encrypted),
            false => Ok((KeyForm::of(file), file)),
        };
    }
    let (form, der) = pem::decode(file, buffer)?;
    Ok((Some(form), der))
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
    /// Not a key, as far as this crate knows them.
    #[error("file holds no key in DER or PEM; give a key file")]
    NoKey,
    /// Not a key, or not an EC private key.
    #[error("file holds {} where an EC private key is needed; give the right file", form.map_or("no key", KeyForm::name))]
    NotEc {
        /// The form found.
        form: Option<KeyForm>,
    },
    /// Another algorithm than RSA and ECDSA, for instance Ed25519 or RSASSA-PSS.
    #[error(
        "key is of another algorithm than RSA and P-256, which devices and their servers have; give another key"
    )]
    Algorithm,
    /// A key under a passphrase, in DER.
    #[error(
        "key is protected by a passphrase; take it off, for instance with openssl pkey, and give the plain key"
    )]
    Encrypted,
    /// Text of a longer key than devices and servers have.
    #[error("key has {length} bytes, more than any key of devices and servers; give another key")]
    TooLong {
        /// Bytes of its DER.
        length: usize,
    },
    /// RSA of another size.
    #[error("key has {bits} bits where 1024 or 2048 are supported; give another key")]
    Bits {
        /// Bits of the modulus.
        bits: usize,
    },
    /// An RSA public key whose modulus or exponent is even, or whose exponent is 1.
    #[error("modulus or exponent of the public key cannot be right; the key is damaged, copy it again")]
    Even,
    /// The numbers of an RSA private key do not belong together.
    #[error("relation {relation} does not hold; the key is damaged, check or repair it")]
    Relation {
        /// The first relation that fails.
        relation: Relation,
    },
    /// All relations hold, but a number that has to be prime is not.
    #[error("number {number} is not prime; this is no working key, generate another one")]
    NotPrime {
        /// p or q.
        number: Number,
    },
    /// The numbers of an EC key.
    #[error(transparent)]
    Ec(#[from] EcKeyError),
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

impl LoadError {
    /// The buffer is not the caller's.
    fn of_own_buffer(self) -> Self {
        match self {
            LoadError::Pem(PemError::BufferTooSmall { needed, .. }) => LoadError::TooLong { length: needed },
            error => error,
        }
    }
}
