//! PEM text.

use crate::form::KeyForm;
use pem_rfc7468::{Decoder, LineEnding};

/// Decodes the first key in PEM text into `out`.
///
/// Blocks of other kinds before it (`EC PARAMETERS`) and text around it are skipped; LF and CRLF and any line width are
/// accepted. The form is that of the block's label, for `PRIVATE KEY` and `PUBLIC KEY` that of the DER inside.
///
/// # Errors
/// [`PemError`].
///
/// # Source
/// RFC 7468; `EC PARAMETERS` as `openssl ecparam -genkey` writes it.
pub fn decode<'b>(text: &[u8], out: &'b mut [u8]) -> Result<(KeyForm, &'b [u8]), PemError> {
    let mut rest = text;
    loop {
        let start = find(rest, BEGIN).ok_or(PemError::NoKey)?;
        rest = rest.get(start..).unwrap_or(&[]);
        let line_end = rest.iter().position(|byte| *byte == b'\n').ok_or(PemError::Malformed)?;
        let label = rest
            .get(BEGIN.len()..line_end)
            .and_then(|line| line.trim_ascii_end().strip_suffix(b"-----"))
            .ok_or(PemError::Malformed)?;
        let end = find(rest, END).ok_or(PemError::Malformed)?;
        let end = end + END.len() + label.len() + DASHES;
        let block = rest.get(..end).ok_or(PemError::Malformed)?;
        rest = rest.get(end..).unwrap_or(&[]);
        if label == b"ENCRYPTED PRIVATE KEY" || find(block, b"Proc-Type: 4,ENCRYPTED").is_some() {
            return Err(PemError::Encrypted);
        }
        let Some((_, form)) = LABELS.iter().find(|(known, _)| known.as_bytes() == label) else { continue };

        let mut decoder = Decoder::new_detect_wrap(block).map_err(|_| PemError::Malformed)?;
        let needed = decoder.remaining_len();
        let available = out.len();
        let target = out.get_mut(..needed).ok_or(PemError::BufferTooSmall { needed, available })?;
        let der = decoder.decode(target).map_err(|_| PemError::Malformed)?;
        let form = match form {
            KeyForm::Pkcs8Private | KeyForm::SpkiRsa => KeyForm::of(der).unwrap_or(*form),
            form => *form,
        };
        return Ok((form, der));
    }
}

/// Length of the text that [`encode`] writes; `None` for [`KeyForm::Pem`].
#[must_use]
pub fn encoded_len(form: KeyForm, der: &[u8]) -> Option<usize> {
    pem_rfc7468::encoded_len(label(form)?, LineEnding::LF, der).ok()
}

fn label(form: KeyForm) -> Option<&'static str> {
    match form {
        KeyForm::Pkcs8Ec => Some("PRIVATE KEY"),
        KeyForm::SpkiEc => Some("PUBLIC KEY"),
        form => LABELS.iter().find(|(_, known)| *known == form).map(|(label, _)| *label),
    }
}

/// Writes DER as PEM text with LF and lines of 64 characters.
///
/// # Errors
/// [`PemError::NoKey`] for [`KeyForm::Pem`]; [`PemError::BufferTooSmall`].
pub fn encode<'b>(form: KeyForm, der: &[u8], out: &'b mut [u8]) -> Result<&'b str, PemError> {
    let label = label(form).ok_or(PemError::NoKey)?;
    let needed = pem_rfc7468::encoded_len(label, LineEnding::LF, der).map_err(|_| PemError::Malformed)?;
    let error = PemError::BufferTooSmall { needed, available: out.len() };
    pem_rfc7468::encode(label, LineEnding::LF, der, out).map_err(|_| error)
}

/// Form and start of the base64 text of the first private key, which may be cut off.
pub(crate) fn private_block(text: &[u8]) -> Option<(KeyForm, usize)> {
    let mut at = 0;
    loop {
        at += find(text.get(at..)?, BEGIN)? + BEGIN.len();
        let rest = text.get(at..)?;
        let line_end = rest.iter().position(|byte| *byte == b'\n')?;
        let label = rest.get(..line_end)?.trim_ascii_end().strip_suffix(b"-----");
        let known = LABELS.iter().find(|(known, _)| Some(known.as_bytes()) == label);
        if let Some((name, form)) = known
            && name.ends_with("PRIVATE KEY")
        {
            return Some((*form, at + line_end + 1));
        }
    }
}

pub(crate) fn contains_block(bytes: &[u8]) -> bool {
    find(bytes, BEGIN).is_some()
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: usize = 5;

const LABELS: [(&str, KeyForm); 5] = [
    ("RSA PRIVATE KEY", KeyForm::Pkcs1Private),
    ("PRIVATE KEY", KeyForm::Pkcs8Private),
    ("EC PRIVATE KEY", KeyForm::Sec1Ec),
    ("PUBLIC KEY", KeyForm::SpkiRsa),
    ("RSA PUBLIC KEY", KeyForm::Pkcs1Public),
];

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern)
}

/// Why PEM text cannot be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PemError {
    /// No block with a key.
    #[error("text holds no key in PEM form; give a file with a BEGIN ... KEY line")]
    NoKey,
    /// Broken lines, base64 or labels.
    #[error("key in PEM form is damaged; copy the file again")]
    Malformed,
    /// A key under a passphrase.
    #[error(
        "key is protected by a passphrase; take it off, for instance with openssl pkey, and give the plain key"
    )]
    Encrypted,
    /// The caller's buffer is too small.
    #[error("result needs {needed} bytes but the buffer has {available}; give a larger buffer")]
    BufferTooSmall {
        /// Bytes needed.
        needed: usize,
        /// Bytes available.
        available: usize,
    },
}
