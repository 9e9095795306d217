//! The device's side.

use super::{Access, DeviceInfo, ServerPlace};
use crate::sonoff::http::{Framed, find, framed, json_response};
use crate::sonoff::json::{Fields, Writer};
use crate::sonoff::limits;
use alloc::vec::Vec;
use serde_json::Value;
use zeroize::Zeroizing;

/// A request to the device, found as the device finds it: by these words anywhere in what was received.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ApRequest {
    /// `GET /device HTTP/1.1`: answer with [`ApRequest::device_answer`].
    Device,
    /// `POST /ap HTTP/1.1` with all that is needed, cut to what a device keeps: answer with [`ApRequest::ap_answer`].
    Ap(Access),
    /// `POST /ap HTTP/1.1` to a device that is in the network already.
    Server(ServerPlace),
    /// `POST /ap HTTP/1.1` in which something is missing: the device does not answer.
    Incomplete,
}

impl ApRequest {
    /// Looks for a request in all bytes of a connection so far, at most 2048; `None` if there is none yet.
    #[must_use]
    pub fn find(bytes: &[u8]) -> Option<Self> {
        Self::find_with(bytes, |fields| Access::cut(fields).map(Self::Ap))
    }

    /// The same for a device that is in the network already, by ESPTouch: it needs the place of its server only.
    #[must_use]
    pub fn find_in_network(bytes: &[u8]) -> Option<Self> {
        Self::find_with(bytes, |fields| ServerPlace::cut(fields).map(Self::Server))
    }

    fn find_with(bytes: &[u8], read: impl FnOnce(Fields<'_>) -> Option<Self>) -> Option<Self> {
        let bytes = bytes.get(..limits::AP_REQUEST).unwrap_or(bytes);
        let Framed::Whole(_) = framed(bytes)? else { return None };
        if find(bytes, "GET /device HTTP/1.1").is_some() {
            return Some(Self::Device);
        }
        find(bytes, "POST /ap HTTP/1.1")?;
        let json = find(bytes, "{").and_then(|at| bytes.get(at..)).unwrap_or_default();
        let value: Option<Value> =
            serde_json::Deserializer::from_slice(json).into_iter().next().and_then(Result::ok);
        let found = value.as_ref().and_then(Value::as_object).and_then(|object| read(Fields(object)));
        Some(found.unwrap_or(Self::Incomplete))
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
