//! What devices announce by mDNS.

use super::DiyInfo;
use crate::sonoff::json::{Fields, Writer};
use crate::sonoff::limits;
use crate::sonoff::message::{Unsendable, within};
use crate::sonoff::text::{DeviceId, Text};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde_json::Value;

/// Type of the mDNS service, with its domain.
pub const SERVICE: &str = "_ewelink._tcp.local.";
/// Names of devices, of the service and of the host, begin with this; their id follows.
pub const NAME_PREFIX: &str = "eWeLink_";

/// The TXT record of a device with the vendor's firmware, in DIY mode or not.
///
/// | name | value |
/// |---|---|
/// | `txtvers`, `apivers` | 1 |
/// | `id` | the device's id |
/// | `type` | `diy_plug`; others outside of DIY mode |
/// | `seq` | counts the announcements |
/// | `data1` … `data4` | JSON object, cut into pieces of 249 bytes |
/// | `encrypt`, `iv` | outside of DIY mode: `true`, and what the data is encrypted with |
///
/// Nobody checks what is announced in a network, so nothing is an error: what is odd is as if it were not there. As RFC 6763
/// has it, names are in any case and the first of a name counts. Encrypted data is not kept.
///
/// ```
/// use spark_ota::sonoff::DeviceId;
/// use spark_ota::sonoff::diy::{AnnouncedData, DiyAnnouncement};
///
/// let pairs = [("id", "1000abcdef"), ("type", "diy_plug"), ("data1", r#"{"switch":"on","#), ("data2", r#""rssi":-40}"#)];
/// let announcement = DiyAnnouncement::from_pairs(pairs.map(|(name, value)| (name, value.as_bytes())));
/// assert_eq!(announcement.device_id, Some(DeviceId::new("1000abcdef")?));
/// let AnnouncedData::Plain(info) = announcement.data else { panic!() };
/// assert_eq!(info.signal_strength, Some(-40));
/// # Ok::<(), spark_ota::sonoff::TextError>(())
/// ```
///
/// # Source
/// itead/Sonoff_Devices_DIY_Tools@cb05718: Protocol Doc v1.4. Announcements of devices that people show have `rssi`, since 3.5 also
/// `fwVersion`, and no `otaUnlock`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DiyAnnouncement {
    /// `txtvers`.
    pub txt_version: Option<u32>,
    /// `id`.
    pub device_id: Option<DeviceId>,
    /// `type`.
    pub kind: Option<Text<{ limits::ANNOUNCED_TYPE }>>,
    /// `apivers`.
    pub api_version: Option<u32>,
    /// `seq`.
    pub seq: Option<u32>,
    /// `data1` to `data4`.
    pub data: AnnouncedData,
}

/// The data of an announcement.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum AnnouncedData {
    /// None, or none that is a JSON object.
    #[default]
    Absent,
    /// Encrypted with a key of the device: it is in LAN mode, paired with the vendor's app.
    Encrypted,
    /// What it tells of itself; fields that are odd are left out. `rssi` is taken for `signalStrength`.
    Plain(DiyInfo),
}

impl DiyAnnouncement {
    /// Reads the bytes of a TXT record: texts `name=value`, each behind its length in one byte. A text that is cut off ends it.
    #[must_use]
    pub fn parse(record: &[u8]) -> Self {
        let mut rest = record;
        let texts = core::iter::from_fn(|| {
            let (&length, behind) = rest.split_first()?;
            let (text, behind) = behind.split_at_checked(length.into())?;
            rest = behind;
            Some(text)
        });
        Self::from_pairs(texts.filter_map(|text| {
            let mut parts = text.splitn(2, |byte| *byte == b'=');
            let name = core::str::from_utf8(parts.next()?).ok()?;
            Some((name, parts.next()?))
        }))
    }

    /// From names and values as a library for mDNS gives them.
    #[must_use]
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut found = [None; NAMES.len()];
        for (name, value) in pairs {
            let known = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name));
            if let Some(place) = known.and_then(|at| found.get_mut(at)) {
                place.get_or_insert(value);
            }
        }
        let [txt_version, id, kind, api_version, seq, encrypt, iv, data @ ..] = found;
        Self {
            txt_version: number(txt_version),
            device_id: text(id),
            kind: text(kind),
            api_version: number(api_version),
            seq: number(seq),
            data: AnnouncedData::new(encrypt, iv, data),
        }
    }

    /// Names and values as a device announces them. Of encrypted data only that it is.
    ///
    /// # Errors
    /// [`Unsendable::TooLong`]: more data than the four pieces hold.
    pub fn to_pairs(&self) -> Result<Vec<(&'static str, Vec<u8>)>, Unsendable> {
        let [txt_version, id, kind, api_version, seq, encrypt, _, pieces @ ..] = NAMES;
        let mut pairs = Vec::new();
        let mut pair = |name, value: Option<String>| {
            pairs.extend(value.map(|value| (name, value.into_bytes())));
        };
        let number = |number: Option<u32>| number.map(|number| number.to_string());
        pair(txt_version, number(self.txt_version));
        pair(id, self.device_id.map(|id| id.to_string()));
        pair(kind, self.kind.map(|kind| kind.to_string()));
        pair(api_version, number(self.api_version));
        pair(seq, number(self.seq));
        match &self.data {
            AnnouncedData::Absent => {}
            AnnouncedData::Encrypted => pair(encrypt, Some("true".into())),
            AnnouncedData::Plain(info) => {
                let json = within(PIECE * pieces.len(), info.write(Writer::object()).finish())?;
                let cut = json.as_bytes().chunks(PIECE).map(<[u8]>::to_vec);
                pairs.extend(pieces.into_iter().zip(cut));
            }
        }
        Ok(pairs)
    }

    /// Whether the device is in DIY mode. `None` if it tells neither data nor a type of that mode.
    #[must_use]
    pub fn is_diy(&self) -> Option<bool> {
        match self.data {
            AnnouncedData::Encrypted => Some(false),
            AnnouncedData::Plain(_) => Some(true),
            AnnouncedData::Absent => {
                let diy = self.kind.as_ref().is_some_and(|kind| kind.as_str().starts_with("diy_"));
                diy.then_some(true)
            }
        }
    }

    /// `otaUnlock`, if it is announced; else ask with [`DiyCall::Info`](super::DiyCall::Info).
    #[must_use]
    pub const fn ota_unlock(&self) -> Option<bool> {
        match &self.data {
            AnnouncedData::Plain(info) => info.ota_unlock,
            _ => None,
        }
    }
}

/// The id in the name of a service or of a host.
///
/// ```
/// # use spark_ota::sonoff::diy::id_in_name;
/// assert_eq!(id_in_name("eWeLink_1000abcdef.local.").unwrap().as_str(), "1000abcdef");
/// assert_eq!(id_in_name("printer.local."), None);
/// ```
#[must_use]
pub fn id_in_name(name: &str) -> Option<DeviceId> {
    let (prefix, rest) = name.split_at_checked(NAME_PREFIX.len())?;
    let id = rest.split('.').next()?;
    prefix.eq_ignore_ascii_case(NAME_PREFIX).then(|| DeviceId::new(id).ok()).flatten()
}

/// Bytes of a piece of the data, behind its name.
const PIECE: usize = 249;

const NAMES: [&str; 11] =
    ["txtvers", "id", "type", "apivers", "seq", "encrypt", "iv", "data1", "data2", "data3", "data4"];

fn text<const MAX: usize>(value: Option<&[u8]>) -> Option<Text<MAX>> {
    Text::new(core::str::from_utf8(value?).ok()?).ok()
}

fn number(value: Option<&[u8]>) -> Option<u32> {
    core::str::from_utf8(value?).ok()?.parse().ok()
}

impl AnnouncedData {
    fn new(encrypt: Option<&[u8]>, iv: Option<&[u8]>, pieces: [Option<&[u8]>; 4]) -> Self {
        if encrypt.is_some_and(|value| value.eq_ignore_ascii_case(b"true")) {
            return Self::Encrypted;
        }
        match Self::object(pieces) {
            Some(Value::Object(data)) => Self::Plain(info(Fields(&data))),
            _ if iv.is_some_and(|iv| !iv.is_empty()) => Self::Encrypted,
            _ => Self::Absent,
        }
    }

    /// The pieces together; nothing if one is missing between others.
    fn object(pieces: [Option<&[u8]>; 4]) -> Option<Value> {
        let pieces = pieces.map(Option::unwrap_or_default);
        let used = pieces.iter().take_while(|piece| !piece.is_empty()).count();
        let (pieces, behind) = pieces.split_at_checked(used)?;
        let fits = pieces.iter().all(|piece| piece.len() <= limits::TXT_TEXT);
        if !fits || behind.iter().any(|piece| !piece.is_empty()) {
            return None;
        }
        let json: Vec<u8> = pieces.concat();
        serde_json::from_slice(&json).ok()
    }
}

fn info(data: Fields<'_>) -> DiyInfo {
    let info = DiyInfo::read(data);
    let strength = info.signal_strength.or_else(|| data.number("rssi").ok().flatten());
    DiyInfo { signal_strength: strength, ..info }
}

#[cfg(test)]
mod tests;
