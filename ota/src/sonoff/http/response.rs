//! Answers in the spelling that devices look for.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// Status line of every answer that a device takes.
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\n";
/// Status line of an answer with a range.
pub(crate) const PARTIAL: &str = "HTTP/1.1 206 Partial Content\r\n";
/// Header with the length of the body, as devices look for it.
pub(crate) const CONTENT_LENGTH: &str = "Content-Length: ";
/// Header with the place in the file.
pub(crate) const CONTENT_RANGE: &str = "Content-Range: bytes ";

fn connection(keep: bool) -> &'static str {
    if keep { "keep-alive" } else { "close" }
}

/// Head of 206 for the bytes `part` of a file of `total`. It has about 200 bytes; a device has room for 1024.
///
/// ```
/// let head = spark_ota::sonoff::http::partial_head(0..4096, 104_276, true);
/// assert!(head.starts_with(b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4095/104276\r\nContent-Length: 4096\r\n"));
/// ```
#[must_use]
pub fn partial_head(part: Range<u32>, total: u32, keep: bool) -> Vec<u8> {
    let length = part.end.saturating_sub(part.start);
    format!(
        "{PARTIAL}{CONTENT_RANGE}{}-{}/{total}\r\n{CONTENT_LENGTH}{length}\r\n\
         Content-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\nConnection: {}\r\n\r\n",
        part.start,
        part.end.saturating_sub(1),
        connection(keep)
    )
    .into_bytes()
}

/// Head of 200 for a whole file, in the manner of the vendor's server, which the old downloader was made for.
#[must_use]
pub fn whole_head(total: u32, file_name: &str, keep: bool) -> Vec<u8> {
    // A name never ends the header or its quotes.
    let file_name: String =
        file_name.chars().filter(|char| matches!(char, ' '..='~') && *char != '"' && *char != '\\').collect();
    format!(
        "{OK}{CONTENT_LENGTH}{total}\r\nX-Powered-By: Express\r\n\
         Content-Disposition: attachment; filename=\"{file_name}\"\r\nAccept-Ranges: bytes\r\n\
         Cache-Control: public, max-age=0\r\nContent-Type: application/octet-stream\r\nConnection: {}\r\n\r\n",
        connection(keep)
    )
    .into_bytes()
}

/// Head of 416.
#[must_use]
pub fn unsatisfiable_head(total: u32, keep: bool) -> Vec<u8> {
    format!(
        "HTTP/1.1 416 Range Not Satisfiable\r\n{CONTENT_RANGE}*/{total}\r\n{CONTENT_LENGTH}0\r\nConnection: {}\r\n\r\n",
        connection(keep)
    )
    .into_bytes()
}

/// 200 with a JSON body.
#[must_use]
pub fn json_response(json: &str, keep: bool) -> Vec<u8> {
    format!(
        "{OK}Content-Type: application/json\r\nConnection: {}\r\n{CONTENT_LENGTH}{}\r\n\r\n{json}",
        connection(keep),
        json.len()
    )
    .into_bytes()
}

/// An answer without a body and with a status of 400, 403, 404, 405, 408, 413, 431, 500 or 503; others are sent as 500. The
/// connection closes, except with 404. With 405 it allows GET and HEAD, see [`not_allowed_response`] for other methods.
#[must_use]
pub fn status_response(status: u16) -> Vec<u8> {
    let (status, reason) = match status {
        400 => (400, "Bad Request"),
        403 => (403, "Forbidden"),
        404 => (404, "Not Found"),
        405 => return not_allowed_response("GET, HEAD"),
        408 => (408, "Request Timeout"),
        413 => (413, "Content Too Large"),
        431 => (431, "Request Header Fields Too Large"),
        503 => (503, "Service Unavailable"),
        _ => (500, "Internal Server Error"),
    };
    let connection = connection(status == 404);
    format!("HTTP/1.1 {status} {reason}\r\n{CONTENT_LENGTH}0\r\nConnection: {connection}\r\n\r\n")
        .into_bytes()
}

/// 405 with the methods that the path has.
#[must_use]
pub fn not_allowed_response(allow: &str) -> Vec<u8> {
    let connection = connection(false);
    format!(
        "HTTP/1.1 405 Method Not Allowed\r\nAllow: {allow}\r\n{CONTENT_LENGTH}0\r\nConnection: {connection}\r\n\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sonoff::http::ResponseHead;
    use crate::sonoff::limits;
    use proptest::prelude::*;

    #[test]
    fn heads_are_heads_and_small() {
        let longest = partial_head(u32::MAX - 1..u32::MAX, u32::MAX, true);
        assert!(longest.len() <= limits::DOWNLOAD_HEAD);
        for (bytes, status, length) in [
            (longest, 206, 1),
            (whole_head(7, "a.bin", false), 200, 7),
            (unsatisfiable_head(7, true), 416, 0),
            (status_response(404), 404, 0),
            (status_response(999), 500, 0),
        ] {
            let (head, used) = ResponseHead::parse(&bytes).unwrap().unwrap();
            assert_eq!((head.status, head.content_length(), used), (status, Ok(Some(length)), bytes.len()));
        }
        for status in 0..600 {
            assert!(ResponseHead::parse(&status_response(status)).unwrap().is_some());
        }
    }

    proptest! {
        #[test]
        fn file_names_stay_in_their_header(name: String) {
            let bytes = whole_head(1, &name, true);
            let (head, used) = ResponseHead::parse(&bytes).unwrap().unwrap();
            prop_assert_eq!(used, bytes.len());
            prop_assert_eq!(head.header("Connection"), Some("keep-alive"));
        }
    }
}
