//! PKCS#8 wrapping.

use crate::der::{
    BufferTooSmall, DerError, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE, Writer, header_len,
};
use crate::private_key::RsaPrivateKeyView;
use crate::public_key::{RSA_ALGORITHM, rsa_algorithm};

/// The PKCS#1 key inside of a PKCS#8 `PrivateKeyInfo`; bytes after it are accepted.
///
/// ```text
/// PrivateKeyInfo ::= SEQUENCE { version 0, SEQUENCE { rsaEncryption, NULL }, OCTET STRING { RSAPrivateKey } }
/// ```
///
/// # Errors
/// Any [`DerError`]; [`DerError::Value`] when it is not an RSA key.
///
/// # Source
/// RFC 5958 section 2.
pub fn unwrap_pkcs8(der: &[u8]) -> Result<&[u8], DerError> {
    unwrap_with_len(der).map(|(key, _)| key)
}

/// The key inside, and the length of the whole.
pub(crate) fn unwrap_with_len(der: &[u8]) -> Result<(&[u8], usize), DerError> {
    let mut outer = Reader::new(der);
    let info = outer.element(SEQUENCE)?;
    let mut inner = Reader::inside(&info);
    let version = inner.integer()?;
    if !version.magnitude().is_empty() {
        return Err(DerError::Value { offset: version.offset() });
    }
    let algorithm = inner.element(SEQUENCE)?;
    rsa_algorithm(&mut Reader::inside(&algorithm))?;
    Ok((inner.element(OCTET_STRING)?.content, outer.offset()))
}

/// The key inside, without looking at lengths that may be damaged.
pub(crate) fn inside(der: &[u8]) -> &[u8] {
    /// Bytes before the key when the lengths are those of RSA-1024.
    const HEADER: usize = 26;
    unwrap_pkcs8(der).unwrap_or_else(|_| der.get(HEADER..).unwrap_or(&[]))
}

/// Whether it is a private or public key of an algorithm that this crate does not know.
pub(crate) fn is_of_other_algorithm(der: &[u8]) -> bool {
    /// Ed25519, Ed448, X25519 and X448; DSA; Diffie-Hellman; RSASSA-PSS.
    const OTHERS: [&[u8]; 7] = [
        &[0x2B, 0x65, 0x6E],
        &[0x2B, 0x65, 0x6F],
        &[0x2B, 0x65, 0x70],
        &[0x2B, 0x65, 0x71],
        &[0x2A, 0x86, 0x48, 0xCE, 0x38, 0x04, 0x01],
        &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x03, 0x01],
        &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A],
    ];
    let algorithm = || {
        let mut outer = Reader::new(der);
        let mut inner = Reader::inside(&outer.element(SEQUENCE)?);
        if inner.rest().first() == Some(&INTEGER) {
            inner.integer()?;
        }
        let algorithm = inner.element(SEQUENCE)?;
        Reader::inside(&algorithm).element(OBJECT_IDENTIFIER)
    };
    algorithm().is_ok_and(|oid| OTHERS.contains(&oid.content))
}

/// Whether it is a private key under a passphrase.
///
/// ```text
/// EncryptedPrivateKeyInfo ::= SEQUENCE { SEQUENCE { algorithm, parameters }, OCTET STRING }
/// ```
///
/// # Source
/// RFC 5958 section 3; the names of algorithms are those of RFC 8018 appendix A and RFC 7292 appendix C.
pub(crate) fn is_encrypted(der: &[u8]) -> bool {
    /// PKCS#5 and the passphrase algorithms of PKCS#12, without the last number.
    const SCHEMES: [&[u8]; 2] = [
        &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x05],
        &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x0C, 0x01],
    ];
    let algorithm = || {
        let mut inner = Reader::inside(&Reader::new(der).element(SEQUENCE)?);
        let algorithm = inner.element(SEQUENCE)?;
        inner.element(OCTET_STRING)?;
        Reader::inside(&algorithm).element(OBJECT_IDENTIFIER)
    };
    algorithm().is_ok_and(|oid| SCHEMES.iter().any(|scheme| oid.content.starts_with(scheme)))
}

/// Length of an RSA key in PKCS#8.
#[must_use]
pub fn rsa_pkcs8_len(key: &RsaPrivateKeyView<'_>) -> usize {
    let content = content_len(key);
    header_len(content) + content
}

/// Writes an RSA key in PKCS#8, its numbers in canonical DER.
///
/// # Errors
/// [`BufferTooSmall`].
pub fn encode_rsa_pkcs8<'b>(
    key: &RsaPrivateKeyView<'_>,
    out: &'b mut [u8],
) -> Result<&'b [u8], BufferTooSmall> {
    let mut writer = Writer::new(out);
    writer.header(SEQUENCE, content_len(key));
    writer.integer(&[]);
    writer.bytes(&RSA_ALGORITHM);
    writer.header(OCTET_STRING, key.encoded_len());
    key.write(&mut writer);
    writer.finish()
}

fn content_len(key: &RsaPrivateKeyView<'_>) -> usize {
    let version = 3;
    let inner = key.encoded_len();
    version + RSA_ALGORITHM.len() + header_len(inner) + inner
}
