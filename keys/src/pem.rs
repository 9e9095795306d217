//! PEM text.

use crate::form::KeyForm;
use pem_rfc7468::{Base64Decoder, LineEnding};
use zeroize::Zeroize;

/// Decodes the private key in PEM text into `out`, or the first public key if there is no private one.
///
/// Blocks of other kinds before it (`EC PARAMETERS`) and text around it are skipped; any line ends and width, blanks and
/// empty lines are accepted. The form is that of the block's label, unless the DER inside is a key of the same kind (private or
/// public) in another form, as after a change of the label by hand.
///
/// # Errors
/// [`PemError`].
///
/// # Source
/// RFC 7468; `EC PARAMETERS` as `openssl ecparam -genkey` writes it.
pub fn decode<'b>(text: &[u8], out: &'b mut [u8]) -> Result<(KeyForm, &'b [u8]), PemError> {
    match private_block(text) {
        None => decode_first(text, out, |_| true),
        Some((_, start)) if text.get(start..).and_then(private_block).is_some() => {
            Err(PemError::TwoPrivateKeys)
        }
        Some(_) => decode_first(text, out, KeyForm::is_private),
    }
}

/// Decodes the first public key, or what [`decode`] takes if there is none.
pub(crate) fn decode_public<'b>(text: &[u8], out: &'b mut [u8]) -> Result<(KeyForm, &'b [u8]), PemError> {
    let (form, len) = match decode_first(text, out, |form| !form.is_private()) {
        Ok((form, der)) => (form, der.len()),
        Err(_) => return decode(text, out),
    };
    Ok((form, out.get(..len).unwrap_or_default()))
}

fn decode_first<'b>(
    text: &[u8],
    out: &'b mut [u8],
    is_wanted: impl Fn(KeyForm) -> bool,
) -> Result<(KeyForm, &'b [u8]), PemError> {
    let mut missing = if is_utf16(text) { PemError::Utf16 } else { PemError::NoKey };
    let mut rest = text;
    loop {
        let block = Block::first(rest).ok_or(missing)??;
        rest = block.rest;
        if block.label == b"ENCRYPTED PRIVATE KEY" || find(block.body, b",ENCRYPTED").is_some() {
            return Err(PemError::Encrypted);
        }
        let Some(form) = form_of_label(block.label) else {
            missing = match block.label {
                b"OPENSSH PRIVATE KEY" => PemError::OpenSsh,
                b"CERTIFICATE" | b"TRUSTED CERTIFICATE" | b"X509 CERTIFICATE" => PemError::Certificate,
                _ => missing,
            };
            continue;
        };
        if !is_wanted(form) {
            continue;
        }
        let digits = || block.body.iter().copied().filter(|byte| !byte.is_ascii_whitespace());
        let (count, padding) = digits().fold((0_usize, 0), |(count, padding), byte| {
            (count + 1, if byte == b'=' { padding + 1 } else { 0 })
        });
        if count == 0 || count % 4 != 0 {
            return Err(PemError::Malformed);
        }
        let needed = (count / 4 * 3).saturating_sub(padding);
        let available = out.len();
        let der = out.get_mut(..needed).ok_or(PemError::BufferTooSmall { needed, available })?;
        decode_digits(digits(), der).ok_or(PemError::Malformed)?;
        return Ok((form_of(form, der), der));
    }
}

/// Decodes what can be of the first private key in damaged text: without its end, with other characters than those of
/// base64 counting as bits of 0. `None` when there is no private key in the plain.
pub(crate) fn salvage<'b>(text: &[u8], out: &'b mut [u8]) -> Option<(KeyForm, &'b [u8])> {
    let (form, start) = private_block(text)?;
    let body = text.get(start..).filter(|body| {
        // the headers of a key under a passphrase
        let end = find(body, b"-").unwrap_or(body.len());
        !body.get(..end).is_some_and(|body| body.contains(&b':'))
    })?;
    let digits = || {
        let of_body = |byte: &u8| !matches!(byte, b'-' | b'=');
        body.iter().copied().take_while(of_body).filter(|byte| !byte.is_ascii_whitespace()).map(|byte| {
            match byte {
                b'+' | b'/' => byte,
                byte if byte.is_ascii_alphanumeric() => byte,
                _ => b'A',
            }
        })
    };
    let len = (digits().count() / 4 * 3).min(out.len() / 3 * 3);
    let der = out.get_mut(..len).filter(|der| !der.is_empty())?;
    decode_digits(digits(), der)?;
    Some((form_of(form, der), der))
}

/// Fills `out` from base64, 48 bytes from each 64 digits.
fn decode_digits(mut digits: impl Iterator<Item = u8>, out: &mut [u8]) -> Option<()> {
    let mut group = [0; 64];
    let decoded = out.chunks_mut(48).try_for_each(|target| {
        let wanted = target.len().div_ceil(3) * 4;
        for slot in group.get_mut(..wanted)? {
            *slot = digits.next()?;
        }
        let mut decoder = Base64Decoder::new(group.get(..wanted)?).ok()?;
        decoder.decode(target).ok()?;
        decoder.is_finished().then_some(())
    });
    group.zeroize();
    decoded
}

/// Form by the DER, if it is a key of the same kind as the label says.
fn form_of(label: KeyForm, der: &[u8]) -> KeyForm {
    KeyForm::of(der)
        .filter(|form| *form != KeyForm::Pem && form.is_private() == label.is_private())
        .unwrap_or(label)
}

/// A BEGIN line, what follows it, and the END line that belongs to it.
struct Block<'a> {
    label: &'a [u8],
    body: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Block<'a> {
    /// The first block in the text.
    fn first(text: &'a [u8]) -> Option<Result<Self, PemError>> {
        find(text, BEGIN).map(|begin| Self::at(text, begin).ok_or(PemError::Malformed))
    }

    fn at(text: &'a [u8], begin: usize) -> Option<Self> {
        let (label, text) = label(text.get(begin + BEGIN.len()..)?)?;
        let end = find(text, END)?;
        let (body, text) = text.split_at_checked(end)?;
        let rest = text.get(END.len()..)?.strip_prefix(label)?.strip_prefix(DASHES)?;
        Some(Self { label, body, rest })
    }
}

/// The label in front of the next five dashes, on the same line, and what follows these.
fn label(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (label, rest) = text.split_at_checked(find(text, DASHES)?)?;
    let is_label = label.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    is_label.then_some((label, rest.get(DASHES.len()..)?))
}

fn form_of_label(label: &[u8]) -> Option<KeyForm> {
    LABELS.iter().find(|(known, _)| known.as_bytes() == label).map(|(_, form)| *form)
}

/// Length of the text that [`encode`] writes; `None` for [`KeyForm::Pem`].
#[must_use]
pub fn encoded_len(form: KeyForm, der: &[u8]) -> Option<usize> {
    pem_rfc7468::encoded_len(label_of(form)?, LineEnding::LF, der).ok()
}

fn label_of(form: KeyForm) -> Option<&'static str> {
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
    let label = label_of(form).ok_or(PemError::NoKey)?;
    let needed = pem_rfc7468::encoded_len(label, LineEnding::LF, der).map_err(|_| PemError::Malformed)?;
    let error = PemError::BufferTooSmall { needed, available: out.len() };
    pem_rfc7468::encode(label, LineEnding::LF, der, out).map_err(|_| error)
}

/// Form and start of the base64 text of the first private key, which may be cut off.
pub(crate) fn private_block(text: &[u8]) -> Option<(KeyForm, usize)> {
    let mut at = 0;
    loop {
        at += find(text.get(at..)?, BEGIN)? + BEGIN.len();
        if let Some((label, rest)) = label(text.get(at..)?)
            && let Some(form) = form_of_label(label).filter(|form| form.is_private())
        {
            return Some((form, text.len() - rest.len()));
        }
    }
}

pub(crate) fn contains_block(bytes: &[u8]) -> bool {
    find(bytes, BEGIN).is_some() || is_utf16(bytes)
}

/// Text in two bytes for each character, of either order.
fn is_utf16(bytes: &[u8]) -> bool {
    find(bytes, b"-\0B\0E\0G\0I\0N").is_some()
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

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
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PemError {
    /// No block with a key.
    #[error("text holds no key in PEM form; give a file with a BEGIN ... KEY line")]
    NoKey,
    /// A certificate and no key.
    #[error("text holds a certificate; give its key, for instance what openssl x509 -pubkey prints of it")]
    Certificate,
    /// A private key in the form of OpenSSH.
    #[error("key is in a form that only OpenSSH knows; convert a copy with ssh-keygen -p -m PEM")]
    OpenSsh,
    /// Text in UTF-16.
    #[error("text is in UTF-16, as PowerShell writes it; save it as UTF-8 or ASCII")]
    Utf16,
    /// More than one private key.
    #[error("text holds more than one private key; give a file with one of them")]
    TwoPrivateKeys,
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
