//! How a device reads the answers of an image server.

use crate::sonoff::http::{CONTENT_LENGTH, CONTENT_RANGE, OK, PARTIAL, find, number_behind};
use crate::sonoff::limits;

/// What a device understands of a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    /// Bytes of the head.
    pub(super) head: usize,
    /// Bytes of the body.
    pub(super) length: u32,
    /// Bytes of the file.
    pub(super) total: u32,
}

/// The answer is none that the device takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unusable;

/// Reads a head; `None` if bytes are missing.
pub(super) fn read_head(bytes: &[u8], ranged: bool) -> Result<Option<Head>, Unusable> {
    let status = if ranged { PARTIAL } else { OK };
    if !status.as_bytes().starts_with(bytes.get(..status.len()).unwrap_or(bytes)) {
        return Err(Unusable);
    }
    let Some(end) = find(bytes, "\r\n\r\n").map(|at| at + 4) else {
        let too_long = bytes.len() > limits::DOWNLOAD_HEAD;
        return if too_long { Err(Unusable) } else { Ok(None) };
    };
    if end > limits::DOWNLOAD_HEAD {
        return Err(Unusable);
    }
    let head = bytes.get(..end).unwrap_or_default();
    let number = |number: usize| u32::try_from(number).map_err(|_| Unusable);
    let length = number(number_behind(head, CONTENT_LENGTH).ok_or(Unusable)?)?;
    let total = if ranged {
        let range = find(head, CONTENT_RANGE).and_then(|at| head.get(at..)).ok_or(Unusable)?;
        let line = range.get(..find(range, "\r\n").unwrap_or(range.len())).unwrap_or(range);
        number(number_behind(line, "/").ok_or(Unusable)?)?
    } else {
        length
    };
    if length == 0 || total == 0 || total > limits::IMAGE {
        return Err(Unusable);
    }
    Ok(Some(Head { head: end, length, total }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sonoff::http::{partial_head, whole_head};
    use alloc::format;
    use alloc::string::String;

    #[test]
    fn heads_of_our_servers_are_understood_and_every_truncation_needs_more() {
        let ranged = partial_head(4096..8192, 104_276, true);
        let whole = whole_head(471_040, "user2.bin", true);
        for (bytes, is_ranged, length, total) in
            [(&ranged, true, 4096, 104_276), (&whole, false, 471_040, 471_040)]
        {
            let head = Head { head: bytes.len(), length, total };
            assert_eq!(read_head(bytes, is_ranged), Ok(Some(head)));
            for end in 0..bytes.len() {
                assert_eq!(read_head(&bytes[..end], is_ranged), Ok(None), "cut at {end}");
            }
            assert_eq!(read_head(bytes, !is_ranged), Err(Unusable), "another status");
        }
    }

    #[test]
    fn only_this_spelling_is_understood() {
        let good = String::from_utf8(partial_head(0..4096, 104_276, true)).unwrap();
        let change = |from: &str, to: &str| read_head(good.replace(from, to).as_bytes(), true);
        assert!(change("Accept", "accept").is_ok());
        for (from, to) in [
            ("206 Partial Content", "206 OK"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("Content-Length: ", "content-length: "),
            ("Content-Length: ", "Content-Length:"),
            ("Content-Range", "Content-range"),
            ("/104276", "/*"),
            ("/104276", ""),
            ("/104276", "/471041"),
            ("/104276", "/0"),
            ("/104276", "/99999999999999999999"),
        ] {
            assert_eq!(change(from, to), Err(Unusable), "{from} -> {to}");
        }
        assert!(change("/104276", "/471040").is_ok());
    }

    #[test]
    fn heads_have_at_most_1024_bytes() {
        let good = String::from_utf8(partial_head(0..4096, 104_276, true)).unwrap();
        let etag = |length: usize| {
            let fill = "e".repeat(length - good.len() - "ETag: \r\n".len());
            good.replace("Accept", &format!("ETag: {fill}\r\nAccept"))
        };
        assert_eq!(etag(1024).len(), 1024);
        assert!(matches!(read_head(etag(1024).as_bytes(), true), Ok(Some(_))));
        assert_eq!(read_head(etag(1025).as_bytes(), true), Err(Unusable));
        assert_eq!(read_head(&etag(3000).as_bytes()[..1025], true), Err(Unusable));
    }
}
