//! What a server answers to the request for an image.

use super::head::RequestHead;
use super::range::{Ignored, RangeRequest};
use super::response::{partial_head, status_response, unsatisfiable_head, whole_head};
use alloc::vec::Vec;
use core::ops::Range;

/// An answer: the head, and which bytes of the file follow it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Status, as 206.
    pub status: u16,
    /// The head.
    pub head: Vec<u8>,
    /// Bytes of the file behind it; empty for a refusal and for `HEAD`.
    pub body: Range<u32>,
    /// Keep the connection open for the next request.
    pub keep: bool,
    /// What a log should say.
    pub remark: Option<Remark>,
}

/// What is unusual in a request for an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Remark {
    /// A range that did not count.
    #[error(transparent)]
    Ignored(#[from] Ignored),
    /// A range behind the end of the file.
    #[error("the range is behind the end of the file")]
    Unsatisfiable,
    /// Several ranges.
    #[error("several ranges were asked for at once")]
    Several,
    /// Neither GET nor HEAD.
    #[error("another method than GET or HEAD")]
    Method,
}

/// Answers the request for a file of `length` bytes that was found by its path.
///
/// With a range 206, without one 200: the old downloader and the intermediate image of the final stage want the whole
/// file, and the first of them wants it slowly, see [`Pacer`](super::Pacer).
///
/// ```
/// use spark_ota::sonoff::http::{RequestHead, answer};
///
/// let request = b"GET /a HTTP/1.1\r\nRange: bytes=0-4095\r\n\r\n";
/// let (head, _) = RequestHead::parse(request)?.unwrap();
/// // A range that covers the whole file is a range.
/// let small = answer(&head, 1284, "user2.bin");
/// assert_eq!((small.status, small.body), (206, 0..1284));
/// # Ok::<(), spark_ota::sonoff::http::HeadError>(())
/// ```
#[must_use]
pub fn answer(request: &RequestHead, length: u32, file_name: &str) -> Answer {
    let keep = request.keeps_alive();
    if request.method != "GET" && request.method != "HEAD" {
        let remark = Some(Remark::Method);
        return Answer { status: 405, head: status_response(405), body: 0..0, keep: false, remark };
    }
    let refused = |remark| {
        let head = unsatisfiable_head(length, keep);
        Answer { status: 416, head, body: 0..0, keep, remark: Some(remark) }
    };
    let whole = |remark| {
        let head = whole_head(length, file_name, keep);
        Answer { status: 200, head, body: 0..length, keep, remark }
    };
    let mut answer = match RangeRequest::new(request.header("Range"), length) {
        RangeRequest::Whole => whole(None),
        RangeRequest::Ignored(ignored) => whole(Some(Remark::Ignored(ignored))),
        RangeRequest::Part(part) => {
            let head = partial_head(part.clone(), length, keep);
            Answer { status: 206, head, body: part, keep, remark: None }
        }
        RangeRequest::Unsatisfiable => refused(Remark::Unsatisfiable),
        RangeRequest::Several => refused(Remark::Several),
    };
    if request.method == "HEAD" {
        answer.body = 0..0;
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn ask(text: &str) -> Answer {
        answer(&RequestHead::parse(text.as_bytes()).unwrap().unwrap().0, 10_000, "a.bin")
    }

    #[test]
    fn method_range_and_version_decide() {
        let with = |range: &str| ask(&format!("GET / HTTP/1.1\r\nRange: {range}\r\n\r\n"));
        let seen = |answer: Answer| (answer.status, answer.body, answer.keep, answer.remark);
        assert_eq!(seen(with("bytes=4096-8191")), (206, 4096..8192, true, None));
        assert_eq!(seen(with("bytes=0-")), (206, 0..10_000, true, None));
        assert_eq!(seen(with("items=0-1")), (200, 0..10_000, true, Some(Remark::Ignored(Ignored::Unit))));
        assert_eq!(seen(with("bytes=10000-")), (416, 0..0, true, Some(Remark::Unsatisfiable)));
        assert_eq!(seen(with("bytes=0-1,2-3")), (416, 0..0, true, Some(Remark::Several)));
        assert_eq!(seen(ask("GET / HTTP/1.0\r\n\r\n")), (200, 0..10_000, false, None));
        assert_eq!(seen(ask("POST / HTTP/1.1\r\n\r\n")), (405, 0..0, false, Some(Remark::Method)));
        let head = ask("HEAD / HTTP/1.1\r\nRange: bytes=0-4095\r\n\r\n");
        assert_eq!(head.head, with("bytes=0-4095").head);
        assert_eq!(head.body, 0..0);
    }
}
