//! What a device finds in an answer: not by rules, but by looking for words.

use super::response::CONTENT_LENGTH;

/// What a device finds behind the blank line.
pub(crate) enum Framed<'a> {
    Whole(&'a [u8]),
    Missing { total: usize },
}

/// The body behind a blank line, as long as `Content-Length: ` says; without it, whatever has come. `None`
/// without a blank line.
pub(crate) fn framed(bytes: &[u8]) -> Option<Framed<'_>> {
    let start = find(bytes, "\r\n\r\n")? + 4;
    let (head, body) = bytes.split_at_checked(start)?;
    Some(match number_behind(head, CONTENT_LENGTH) {
        Some(length) => match body.get(..length) {
            Some(body) => Framed::Whole(body),
            None => Framed::Missing { total: start.saturating_add(length) },
        },
        None => Framed::Whole(body),
    })
}

/// Where `needle` begins.
pub(crate) fn find(bytes: &[u8], needle: &str) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle.as_bytes())
}

/// The number behind the first occurrence of `name`.
pub(crate) fn number_behind(bytes: &[u8], name: &str) -> Option<usize> {
    let bytes = bytes.get(find(bytes, name)? + name.len()..)?;
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
    core::str::from_utf8(bytes.get(..end)?).ok()?.parse().ok()
}
