//! The request of a device for an image.

use super::query::sign;
use crate::sonoff::secret::ApiKey;
use crate::sonoff::text::{DeviceId, Text};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

/// A request for an image, as devices make it: always to the vendor's `Host`, whatever the URL was, and signed with the
/// factory key.
///
/// ```
/// use spark_ota::sonoff::http::{DownloadQuery, DownloadRequest, RequestHead};
/// use spark_ota::sonoff::{ApiKey, DeviceId};
///
/// let key = ApiKey::new("11111111-2222-4333-8444-555555555555")?;
/// let request = DownloadRequest::new("/ota/user2.bin", DeviceId::new("1000abcdef")?, 1_481_765_933, &key);
/// let bytes = request.range(0..4096).to_http();
/// let (head, _) = RequestHead::parse(&bytes)?.unwrap();
/// assert_eq!((head.path.as_str(), head.header("Range")), ("/ota/user2.bin", Some("bytes=0-4095")));
/// assert!(DownloadQuery::parse(head.query.as_deref().unwrap()).is_signed_by(&key));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DownloadRequest {
    path: String,
    device_id: DeviceId,
    ts: u32,
    sign: Text<{ crate::sonoff::limits::DIGEST }>,
    range: Option<Range<u32>>,
}

impl DownloadRequest {
    /// Asks for all of it. `ts` is any number: devices take one of their random generator.
    #[must_use]
    pub fn new(path: &str, device_id: DeviceId, ts: u32, factory_key: &ApiKey) -> Self {
        let sign = sign(device_id.as_str(), &ts.to_string(), factory_key);
        Self { path: path.into(), device_id, ts, sign, range: None }
    }

    /// Asks for these bytes. An empty range is none.
    #[must_use]
    pub fn range(self, range: Range<u32>) -> Self {
        Self { range: Some(range).filter(|range| !range.is_empty()), ..self }
    }

    /// The whole request.
    #[must_use]
    pub fn to_http(&self) -> Vec<u8> {
        let Self { path, device_id, ts, sign, range } = self;
        let range = range.as_ref().map_or_else(String::new, |range| {
            format!("Range: bytes={}-{}\r\n", range.start, range.end.saturating_sub(1))
        });
        format!(
            "GET {path}?deviceid={device_id}&ts={ts}&sign={sign} HTTP/1.1\r\nHost: dl.itead.cn\r\n{range}\
             User-Agent: itead-device\r\n\r\n"
        )
        .into_bytes()
    }
}
