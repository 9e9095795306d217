//! What a device tells behind the path of a download.

use crate::sonoff::limits;
use crate::sonoff::secret::ApiKey;
use crate::sonoff::text::{DeviceId, Text};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// `deviceid`, `ts` and `sign` of a download.
///
/// The id is a claim; with the factory key of that device, [`DownloadQuery::is_signed_by`] makes it a proof. `ts` is no time
/// but the device's random generator, the same numbers after every start: never check how fresh it is.
///
/// ```
/// use spark_ota::sonoff::ApiKey;
/// use spark_ota::sonoff::http::DownloadQuery;
///
/// let query = DownloadQuery::parse(
///     "deviceid=1000abcdef&ts=1481765933&sign=41323c2075bc09afdfd641a5885bdbc1af59352dff7669731f7b68e5c7366419",
/// );
/// let key = ApiKey::new("11111111-2222-4333-8444-555555555555")?;
/// assert!(query.is_signed_by(&key));
/// # Ok::<(), spark_ota::sonoff::TextError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DownloadQuery {
    /// `deviceid`, if it can be one.
    pub device_id: Option<DeviceId>,
    /// `ts`: text of a number.
    pub ts: Option<Text<20>>,
    /// `sign`: 64 digits.
    pub sign: Option<Text<{ limits::DIGEST }>>,
}

impl DownloadQuery {
    /// Reads what is behind `?`. Other fields, and those that cannot be what they should, are passed over.
    #[must_use]
    pub fn parse(query: &str) -> Self {
        let value = |wanted| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value)
        };
        let sign = value("sign").and_then(|sign| Text::new(sign).ok());
        Self {
            device_id: value("deviceid").and_then(|id| Text::new(id).ok()),
            ts: value("ts").and_then(|ts| Text::new(ts).ok()),
            sign: sign.filter(|sign| sign.as_str().len() == limits::DIGEST),
        }
    }

    /// Whether it is complete and was signed with this factory key. Compared in constant time.
    #[must_use]
    pub fn is_signed_by(&self, factory_key: &ApiKey) -> bool {
        let Self { device_id: Some(id), ts: Some(ts), sign: Some(found) } = self else { return false };
        let right = sign(id.as_str(), ts.as_str(), factory_key);
        right.as_str().as_bytes().ct_eq(found.as_str().as_bytes()).into()
    }
}

/// The `sign` of a device: lower-case SHA-256 of id, `ts` and factory key, one behind the other.
#[must_use]
pub fn sign(device_id: &str, ts: &str, factory_key: &ApiKey) -> Text<{ limits::DIGEST }> {
    let mut hash = Sha256::new();
    for part in [device_id, ts, factory_key.expose()] {
        hash.update(part);
    }
    hex(&hash.finalize().into())
}

/// A digest as text.
pub(crate) fn hex(digest: &[u8; 32]) -> Text<{ limits::DIGEST }> {
    let mut text = [0; limits::DIGEST];
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    for (place, digit) in text.iter_mut().zip(digits) {
        *place = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
    }
    Text::from_plain(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_complete_is_not_signed() {
        let key = ApiKey::new("11111111-2222-4333-8444-555555555555").unwrap();
        let sign = sign("1000abcdef", "7", &key);
        let parse = |query: &str| DownloadQuery::parse(query);
        let good = alloc::format!("x&sign={sign}&ts=7&deviceid=1000abcdef&new=1");
        assert!(parse(&good).is_signed_by(&key));
        assert!(!parse(&good).is_signed_by(&ApiKey::from_random([1; 16])));
        for (from, to) in
            [("ts=7", "ts=8"), ("ts=7", "ts"), ("cdef", "cdee"), ("deviceid", "id"), ("sign=", "sign=0")]
        {
            assert!(!parse(&good.replace(from, to)).is_signed_by(&key), "{from} -> {to}");
        }
        assert_eq!(parse(""), DownloadQuery::default());
        assert_eq!(parse("deviceid=1000abcdef0&ts=&sign=ab"), DownloadQuery::default());
    }
}
