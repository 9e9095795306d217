//! The little HTTP that devices speak: heads, ranges, downloads.
//!
//! A device's own reader is literal: it looks for `HTTP/1.1 206 Partial Content`, `Content-Length: ` and `Content-Range` in
//! exactly this spelling, and knows neither chunked encoding nor redirects. What is emitted here has that spelling. What
//! is read here is read by the rules of HTTP, with `httparse`.
//!
//! Paths come from anyone in the network. They are looked up in a fixed table ([`Routes`]), as they are: nothing is decoded,
//! nothing is opened.
//!
//! # Source
//! RFC 9110, RFC 9112; firmware of the IoTgo 2.0 generation; recorded downloads of SonOTA@40dba7c.

mod download;
mod head;
mod literal;
mod pace;
mod query;
mod range;
mod request;
mod response;
mod routes;

pub use download::{Answer, Remark, answer};
pub use head::{HeadError, Request, RequestHead, ResponseHead};
pub use pace::{Pace, Pacer};
pub use query::{DownloadQuery, sign};
pub use range::{Ignored, RangeRequest};
pub use request::DownloadRequest;
pub use response::{
    json_response, not_allowed_response, partial_head, status_response, unsatisfiable_head, whole_head,
};
pub use routes::{PathError, Routes};

pub(crate) use literal::{Framed, find, framed, number_behind};
pub(crate) use query::hex;
pub(crate) use response::{CONTENT_LENGTH, CONTENT_RANGE, OK, PARTIAL};
pub(crate) use routes::check_path;
