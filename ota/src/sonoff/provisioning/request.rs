//! The device's side.

use super::{Access, DeviceInfo};
use crate::sonoff::http::{Framed, find, framed, json_response};
use crate::sonoff::json::Writer;
use crate::sonoff::limits;
use alloc::vec::Vec;
use zeroize::Zeroizing;

/// A request to the device, found as the device finds it: by these words anywhere in what was received.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ApRequest {
    /// `GET /device HTTP/1.1`: answer with [`ApRequest::device_answer`].
    Device,
    /// `POST /ap HTTP/1.1` with all that is needed, cut to what a device keeps: answer with [`ApRequest::ap_answer`].
    Ap(Access),
    /// `POST /ap HTTP/1.1` in which something is missing: the device does not answer.
    Incomplete,
}

impl ApRequest {
    /// Looks for a request in all bytes of a connection so far, at most 2048; `None` if there is none yet.
    #[must_use]
    pub fn find(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..limits::AP_REQUEST).unwrap_or(bytes);
        let Framed::Whole(_) = framed(bytes)? else { return None };
        if find(bytes, "GET /device HTTP/1.1").is_some() {
            return Some(Self::Device);
        }
        find(bytes, "POST /ap HTTP/1.1")?;
        let json = find(bytes, "{").and_then(|at| bytes.get(at..));
        Some(json.and_then(Access::cut).map_or(Self::Incomplete, Self::Ap))
    }

    /// Answer to `GET /device`. **Secret.**
    #[must_use]
    pub fn device_answer(info: &DeviceInfo) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(json_response(&info.to_json(), true))
    }

    /// Answer to `POST /ap`; devices send 0.
    #[must_use]
    pub fn ap_answer(code: u16) -> Vec<u8> {
        json_response(&Writer::object().number("error", code).finish(), true)
    }
}
