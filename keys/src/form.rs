//! Which form of key some bytes are.

use crate::ec::EC_PUBLIC_KEY;

/// Form of a key, as far as the first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum KeyForm {
    /// Text with `-----BEGIN`.
    Pem,
    /// RSA private key, `RSAPrivateKey`; what devices take.
    Pkcs1Private,
    /// RSA private key in `PrivateKeyInfo`; what OpenSSL 3 makes by default.
    Pkcs8Private,
    /// EC private key in `PrivateKeyInfo`.
    Pkcs8Ec,
    /// EC private key, `ECPrivateKey`.
    Sec1Ec,
    /// RSA public key, `SubjectPublicKeyInfo`.
    SpkiRsa,
    /// EC public key, `SubjectPublicKeyInfo`.
    SpkiEc,
    /// RSA public key, `RSAPublicKey`.
    Pkcs1Public,
}

impl KeyForm {
    /// Looks at the start of `bytes`; `None` when it is no form that this crate knows.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if is_pem(bytes) {
            return Some(KeyForm::Pem);
        }
        // outer header, then what decides: not read with the strict lengths, so that a cut off key is recognised too
        let content = match bytes {
            [0x30, 0x82, _, _, content @ ..]
            | [0x30, 0x81, _, content @ ..]
            | [0x30, 0..=0x7F, content @ ..] => content,
            _ => return None,
        };
        match content {
            [0x02, 0x01, 0x00, 0x30, _, 0x06, oid @ ..] if holds(oid, &crate::public_key::RSA_ENCRYPTION) => {
                Some(KeyForm::Pkcs8Private)
            }
            [0x02, 0x01, 0x00, 0x30, _, 0x06, oid @ ..] if holds(oid, &EC_PUBLIC_KEY) => {
                Some(KeyForm::Pkcs8Ec)
            }
            [0x02, 0x01, 0x01, 0x04, ..] => Some(KeyForm::Sec1Ec),
            [0x02, 0x01, _, 0x02, ..] => Some(KeyForm::Pkcs1Private),
            [0x30, _, 0x06, oid @ ..] if holds(oid, &crate::public_key::RSA_ENCRYPTION) => {
                Some(KeyForm::SpkiRsa)
            }
            [0x30, _, 0x06, oid @ ..] if holds(oid, &EC_PUBLIC_KEY) => Some(KeyForm::SpkiEc),
            [0x02, 0x81 | 0x82, ..] => Some(KeyForm::Pkcs1Public),
            _ => None,
        }
    }

    /// Whether it is the form of a private key; text may be either.
    #[must_use]
    pub const fn is_private(self) -> bool {
        matches!(self, KeyForm::Pkcs1Private | KeyForm::Pkcs8Private | KeyForm::Pkcs8Ec | KeyForm::Sec1Ec)
    }

    /// Stable name, for instance `pkcs1-private`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            KeyForm::Pem => "pem",
            KeyForm::Pkcs1Private => "pkcs1-private",
            KeyForm::Pkcs8Private => "pkcs8-private",
            KeyForm::Pkcs8Ec => "pkcs8-ec",
            KeyForm::Sec1Ec => "sec1-ec",
            KeyForm::SpkiRsa => "spki-rsa",
            KeyForm::SpkiEc => "spki-ec",
            KeyForm::Pkcs1Public => "pkcs1-public",
        }
    }
}

fn holds(after_tag: &[u8], oid: &[u8]) -> bool {
    after_tag
        .split_first()
        .is_some_and(|(length, rest)| usize::from(*length) == oid.len() && rest.starts_with(oid))
}

fn is_pem(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    text.starts_with(b"-----BEGIN ")
}
