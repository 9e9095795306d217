//! Heads of requests and answers.

use crate::sonoff::limits;
use crate::sonoff::secret::Hidden;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// Why bytes are no head.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum HeadError {
    /// Not HTTP/1.0 or 1.1.
    #[error("the bytes are no head of HTTP/1")]
    Malformed,
    /// No end within the limit.
    #[error("the head has more than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// More lines than anybody sends.
    #[error("the head has more than {limit} lines")]
    TooManyHeaders {
        /// The limit.
        limit: usize,
    },
    /// A proxy's form of a target, or none.
    #[error("the target of the request is no path")]
    NoPath,
    /// `Content-Length` is no number, or two that differ.
    #[error("the length of the body is not clear")]
    Length,
    /// `Transfer-Encoding`; devices do not know it.
    #[error("the body is in a transfer encoding")]
    Encoded,
    /// More than is taken.
    #[error("the body has {length} bytes, and at most {limit} are taken")]
    BodyTooLong {
        /// Bytes.
        length: usize,
        /// The limit.
        limit: usize,
    },
}

/// Head of a request.
///
/// ```
/// use spark_ota::sonoff::http::RequestHead;
///
/// let bytes = b"GET /ota/user2.bin?deviceid=1000abcdef HTTP/1.1\r\nHost: dl.itead.cn\r\nRange: bytes=0-4095\r\n\r\n";
/// let (head, used) = RequestHead::parse(bytes)?.unwrap();
/// assert_eq!((head.method.as_str(), head.path.as_str(), used), ("GET", "/ota/user2.bin", bytes.len()));
/// assert_eq!(head.query.as_deref(), Some("deviceid=1000abcdef"));
/// assert_eq!(head.header("range"), Some("bytes=0-4095"));
/// # Ok::<(), spark_ota::sonoff::http::HeadError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestHead {
    /// The method, as `GET`.
    pub method: String,
    /// What is before `?`, as it came.
    pub path: String,
    /// What is behind `?`, as it came.
    pub query: Option<String>,
    /// 0 or 1.
    pub minor_version: u8,
    headers: Vec<(String, String)>,
}

impl RequestHead {
    /// Reads a head from the start of `bytes`, and tells how many it has; `None` if more are needed.
    ///
    /// # Errors
    /// [`HeadError`].
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeadError> {
        let mut headers = [httparse::EMPTY_HEADER; limits::HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let Some(used) = complete(request.parse(within(bytes)), bytes)? else { return Ok(None) };
        let target = request.path.unwrap_or_default();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_string())),
            None => (target, None),
        };
        if !path.starts_with('/') {
            return Err(HeadError::NoPath);
        }
        let head = Self {
            method: request.method.unwrap_or_default().to_string(),
            path: path.to_string(),
            query,
            minor_version: request.version.unwrap_or_default(),
            headers: owned(request.headers),
        };
        Ok(Some((head, used)))
    }

    /// Value of the first header of that name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Bytes of the body; 0 without `Content-Length`.
    ///
    /// # Errors
    /// [`HeadError::Length`], [`HeadError::Encoded`].
    pub fn content_length(&self) -> Result<usize, HeadError> {
        Ok(length(&self.headers)?.unwrap_or_default())
    }

    /// The other end keeps the connection open for another request.
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        let says = |wanted| {
            self.header("Connection")
                .is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(wanted)))
        };
        if self.minor_version == 0 { says("keep-alive") } else { !says("close") }
    }
}

/// A request with its body.
#[derive(Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Its head.
    pub head: RequestHead,
    /// Its body. It may hold secrets.
    pub body: &'a [u8],
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("head", &self.head).field("body", &Hidden(self.body)).finish()
    }
}

impl<'a> Request<'a> {
    /// Reads a request from the start of `bytes`, and tells how many it has; `None` if more are needed.
    ///
    /// # Errors
    /// [`HeadError`]; bodies have at most 2048 bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, HeadError> {
        let Some((head, start)) = RequestHead::parse(bytes)? else { return Ok(None) };
        let (length, limit) = (head.content_length()?, limits::REQUEST_BODY);
        if length > limit {
            return Err(HeadError::BodyTooLong { length, limit });
        }
        let end = start + length;
        Ok(bytes.get(start..end).map(|body| (Self { head, body }, end)))
    }
}

/// Head of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResponseHead {
    /// Status, as 200.
    pub status: u16,
    headers: Vec<(String, String)>,
}

impl ResponseHead {
    /// Reads a head from the start of `bytes`, and tells how many it has; `None` if more are needed.
    ///
    /// # Errors
    /// [`HeadError`].
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeadError> {
        let mut headers = [httparse::EMPTY_HEADER; limits::HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let Some(used) = complete(response.parse(within(bytes)), bytes)? else { return Ok(None) };
        let head = Self { status: response.code.unwrap_or_default(), headers: owned(response.headers) };
        Ok(Some((head, used)))
    }

    /// Value of the first header of that name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Bytes of the body, if it is told.
    ///
    /// # Errors
    /// [`HeadError::Length`], [`HeadError::Encoded`].
    pub fn content_length(&self) -> Result<Option<usize>, HeadError> {
        length(&self.headers)
    }
}

fn within(bytes: &[u8]) -> &[u8] {
    bytes.get(..limits::REQUEST_HEAD).unwrap_or(bytes)
}

fn complete(parsed: httparse::Result<usize>, bytes: &[u8]) -> Result<Option<usize>, HeadError> {
    match parsed {
        Ok(httparse::Status::Complete(used)) => Ok(Some(used)),
        Ok(httparse::Status::Partial) if bytes.len() >= limits::REQUEST_HEAD => {
            Err(HeadError::TooLong { limit: limits::REQUEST_HEAD })
        }
        Ok(httparse::Status::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(HeadError::TooManyHeaders { limit: limits::HEADERS }),
        Err(_) => Err(HeadError::Malformed),
    }
}

fn owned(headers: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    // Other bytes than those of UTF-8 are in no value that counts.
    let value = |value| core::str::from_utf8(value).unwrap_or_default().trim().to_string();
    headers.iter().map(|header| (header.name.to_string(), value(header.value))).collect()
}

fn find<'a>(headers: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
    headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.as_str())
}

fn length(headers: &[(String, String)]) -> Result<Option<usize>, HeadError> {
    // SonOTA's framework writes an empty one.
    let encoded = |(name, value): &(String, String)| {
        name.eq_ignore_ascii_case("Transfer-Encoding") && !value.is_empty()
    };
    if headers.iter().any(encoded) {
        return Err(HeadError::Encoded);
    }
    let mut found = None;
    for (name, value) in headers {
        if !name.eq_ignore_ascii_case("Content-Length") {
            continue;
        }
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(HeadError::Length);
        }
        let length: usize = value.parse().map_err(|_| HeadError::Length)?;
        if found.is_some_and(|found| found != length) {
            return Err(HeadError::Length);
        }
        found = Some(length);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use proptest::prelude::*;

    const RANGED: &str = "GET /ota/a.bin?deviceid=1000abcdef&ts=1 HTTP/1.1\r\nHost: dl.itead.cn\r\n\
                          Range: bytes=0-4095\r\nUser-Agent: itead-device\r\n\r\n";

    #[test]
    fn every_truncation_needs_more() {
        for end in 0..RANGED.len() {
            assert_eq!(RequestHead::parse(&RANGED.as_bytes()[..end]), Ok(None), "cut at {end}");
        }
        let post = "POST /ap HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody";
        for end in 0..post.len() {
            assert_eq!(Request::parse(&post.as_bytes()[..end]), Ok(None), "cut at {end}");
        }
        let two = format!("{post}{post}");
        let (request, used) = Request::parse(two.as_bytes()).unwrap().unwrap();
        assert_eq!((request.body, used), (&b"body"[..], post.len()));
    }

    #[test]
    fn heads_are_bounded() {
        let long = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(limits::REQUEST_HEAD));
        let error = HeadError::TooLong { limit: limits::REQUEST_HEAD };
        assert_eq!(RequestHead::parse(long.as_bytes()), Err(error));
        assert_eq!(RequestHead::parse(format!("{long}\r\n\r\n").as_bytes()), Err(error));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(limits::HEADERS + 1));
        let error = HeadError::TooManyHeaders { limit: limits::HEADERS };
        assert_eq!(RequestHead::parse(many.as_bytes()), Err(error));
    }

    #[test]
    fn bodies_are_bounded_and_their_length_is_clear() {
        let post = |header: &str| {
            Request::parse(format!("POST / HTTP/1.1\r\n{header}\r\n\r\n").as_bytes()).map(|_| ())
        };
        let error = HeadError::BodyTooLong { length: 2049, limit: 2048 };
        assert_eq!(post("Content-Length: 2049"), Err(error));
        assert_eq!(post("Content-Length: 2048"), Ok(()));
        assert_eq!(post("content-length: 1\r\nContent-Length: 1"), Ok(()));
        for header in [
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: +1",
            "Content-Length:",
            "Content-Length: x",
        ] {
            assert_eq!(post(header), Err(HeadError::Length), "{header}");
        }
        assert_eq!(post("Transfer-Encoding: chunked"), Err(HeadError::Encoded));
        assert_eq!(post("Transfer-Encoding: "), Ok(()));
    }

    #[test]
    fn targets_are_paths() {
        let target = |target: &str| RequestHead::parse(format!("GET {target} HTTP/1.0\r\n\r\n").as_bytes());
        assert_eq!(target("*"), Err(HeadError::NoPath));
        assert_eq!(target("http://a/b"), Err(HeadError::NoPath));
        let (head, _) = target("/slowota/../%2e%2e/x?").unwrap().unwrap();
        assert_eq!((head.path.as_str(), head.query.as_deref()), ("/slowota/../%2e%2e/x", Some("")));
        assert_eq!(RequestHead::parse(b"GET / HTTP/2\r\n\r\n"), Err(HeadError::Malformed));
        assert_eq!(RequestHead::parse(b"\x16\x03\x01\x02\x00"), Err(HeadError::Malformed), "TLS");
    }

    #[test]
    fn connections_are_kept_by_version_and_header() {
        for (version, header, kept) in [
            (1, "A: b", true),
            (1, "Connection: Close", false),
            (0, "A: b", false),
            (0, "Connection: Keep-Alive", true),
        ] {
            let bytes = format!("GET / HTTP/1.{version}\r\n{header}\r\n\r\n");
            assert_eq!(
                RequestHead::parse(bytes.as_bytes()).unwrap().unwrap().0.keeps_alive(),
                kept,
                "{bytes}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_head_or_none(bytes: Vec<u8>, text in "[ -~\r\n]{0,80}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                let _ = Request::parse(bytes);
                let _ = ResponseHead::parse(bytes);
            }
        }
    }
}
