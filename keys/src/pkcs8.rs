//! PKCS#8 wrapping.

use crate::der::{DerError, OCTET_STRING, Reader, SEQUENCE};
use crate::public_key::rsa_algorithm;

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
    let info = Reader::new(der).element(SEQUENCE)?;
    let mut inner = Reader::inside(&info);
    let version = inner.integer()?;
    if !version.magnitude().is_empty() {
        return Err(DerError::Value { offset: version.offset() });
    }
    let algorithm = inner.element(SEQUENCE)?;
    rsa_algorithm(&mut Reader::inside(&algorithm))?;
    Ok(inner.element(OCTET_STRING)?.content)
}
