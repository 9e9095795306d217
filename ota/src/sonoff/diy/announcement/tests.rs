use super::*;
use crate::sonoff::message::Switch;
use alloc::format;
use alloc::string::String;
use proptest::prelude::*;

const DATA: &str = concat!(
    r#"{"switch":"off","startup":"stay","pulse":"off","pulseWidth":500,"ssid":"n\u00e4t","otaUnlock":true,"#,
    r#""fwVersion":"3.6.0","deviceid":"1000abcdef","bssid":"ec:17:2f:3d:15:e","rssi":-28}"#
);
const HEAD: [&str; 5] = ["txtvers=1", "id=1000abcdef", "type=diy_plug", "apivers=1", "seq=853"];

fn record<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut record = Vec::new();
    for text in texts {
        record.push(u8::try_from(text.as_ref().len()).unwrap());
        record.extend_from_slice(text.as_ref());
    }
    record
}

/// A whole record with this data, cut as the device does it.
fn with_data(data: &str, piece: usize) -> Vec<u8> {
    let mut bytes = record(HEAD);
    for (at, part) in data.as_bytes().chunks(piece).enumerate() {
        let mut text = format!("data{}=", at + 1).into_bytes();
        text.extend_from_slice(part);
        bytes.extend_from_slice(&record([text]));
    }
    bytes
}

fn plain(announcement: &DiyAnnouncement) -> &DiyInfo {
    match &announcement.data {
        AnnouncedData::Plain(info) => info,
        other => panic!("{other:?}"),
    }
}

#[test]
fn announcements_are_read_however_they_are_cut() {
    let whole = DiyAnnouncement::parse(&with_data(DATA, 249));
    assert_eq!((whole.txt_version, whole.api_version, whole.seq), (Some(1), Some(1), Some(853)));
    assert_eq!(whole.device_id, DeviceId::new("1000abcdef").ok());
    assert_eq!(whole.kind.unwrap(), "diy_plug");
    assert_eq!((whole.is_diy(), whole.ota_unlock()), (Some(true), Some(true)));
    let info = plain(&whole);
    assert_eq!((info.switch, info.pulse_width), (Some(Switch::Off), Some(500)));
    assert_eq!((info.signal_strength, info.ssid.as_deref()), (Some(-28), Some("n\u{e4}t")));
    assert_eq!(info.fw_version.unwrap(), "3.6.0");
    for piece in DATA.len().div_ceil(4)..249 {
        assert_eq!(DiyAnnouncement::parse(&with_data(DATA, piece)), whole, "{piece}");
    }
    // Also inside of a character.
    let umlaut = DATA.replace("\\u00e4", "\u{e4}");
    for piece in umlaut.len().div_ceil(4)..249 {
        assert_eq!(DiyAnnouncement::parse(&with_data(&umlaut, piece)), whole, "{piece}");
    }
}

#[test]
fn every_truncation_is_read_as_far_as_it_goes() {
    let bytes = with_data(DATA, 100);
    let whole = DiyAnnouncement::parse(&bytes);
    let head = record(HEAD).len();
    for end in 0..bytes.len() {
        let cut = DiyAnnouncement::parse(&bytes[..end]);
        assert_eq!(cut.data, AnnouncedData::Absent, "{end}");
        assert_eq!(cut.seq, whole.seq.filter(|_| end >= head), "{end}");
        assert_eq!(cut.device_id, whole.device_id.filter(|_| end >= 24), "{end}");
        assert_eq!(cut.is_diy(), (end >= 24 + 14).then_some(true), "{end}");
    }
}

#[test]
fn encrypted_data_is_neither_read_nor_kept() {
    let secret = "S3cr3tCiphertext==";
    let texts = |encrypt: &'static str| {
        [
            "id=1000abcdef".into(),
            "type=plug".into(),
            encrypt.into(),
            "iv=SW5pdFZlY3Rvcg==".into(),
            format!("data1={secret}"),
        ]
    };
    for encrypt in ["encrypt=true", "ENCRYPT=True", "other=1"] {
        let announcement = DiyAnnouncement::parse(&record::<String>(texts(encrypt)));
        assert_eq!(announcement.data, AnnouncedData::Encrypted, "{encrypt}");
        assert_eq!((announcement.is_diy(), announcement.ota_unlock()), (Some(false), None));
        let shown = format!("{announcement:?}");
        assert!(shown.contains("plug") && !shown.contains(secret) && !shown.contains("SW5p"), "{shown}");
    }
    // What is said to be encrypted is not looked at.
    let json = DiyAnnouncement::parse(&record(["encrypt=true", "data1={\"otaUnlock\":true}"]));
    assert_eq!(json.data, AnnouncedData::Encrypted);
    let not = DiyAnnouncement::parse(&record(["encrypt=false", "iv=", "data1={\"otaUnlock\":true}"]));
    assert_eq!(not.ota_unlock(), Some(true));
}

#[test]
fn odd_texts_are_left_out_alone() {
    let odd = [
        &b""[..],
        b"=x",
        b"txtvers",
        b"\xff=1",
        b"id=1000abcdef0",
        b"id=1000abcdef",
        b"TYPE=diy_plug",
        b"apivers=-1",
        b"seq=4294967296",
        b"data1={\"switch\":7,\"startup\":\"forever and ever\",\"pulseWidth\":\"x\",\"otaUnlock\":\"yes\",\"rssi\":-9}",
        b"data5=}",
    ];
    let announcement = DiyAnnouncement::parse(&record(odd));
    let info = DiyInfo { signal_strength: Some(-9), ..DiyInfo::default() };
    let expected = DiyAnnouncement {
        kind: Text::new("diy_plug").ok(),
        data: AnnouncedData::Plain(info),
        ..DiyAnnouncement::default()
    };
    // The first id counts, and is none.
    assert_eq!(announcement, expected);

    for data in ["data1=[]", "data1=7", "data1=", "data1", "data2={}", "data1=\u{1}"] {
        assert_eq!(DiyAnnouncement::parse(&record([data])), DiyAnnouncement::default(), "{data}");
    }
    let gap = DiyAnnouncement::parse(&record(["data1={", "data3=}"]));
    assert_eq!(gap.data, AnnouncedData::Absent);
    assert_eq!(gap.is_diy(), None);
    let gap = DiyAnnouncement::parse(&record(["data1={}", "data3=x"]));
    assert_eq!(gap.data, AnnouncedData::Absent);
    let empty_last = DiyAnnouncement::parse(&record(["data1={}", "data2=", "data3="]));
    assert_eq!(plain(&empty_last), &DiyInfo::default());
    // Longer than any text of a record, and deeper than anybody needs.
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(249));
    let announcement = DiyAnnouncement::from_pairs([("data1", long.as_bytes())]);
    assert_eq!(announcement.data, AnnouncedData::Absent);
    let deep = "[".repeat(255);
    let deep = ["data1", "data2", "data3", "data4"].map(|name| (name, deep.as_bytes()));
    assert_eq!(DiyAnnouncement::from_pairs(deep).data, AnnouncedData::Absent);
}

#[test]
fn ids_are_in_names() {
    let id = DeviceId::new("1000abcdef").ok();
    assert_eq!(id_in_name("eWeLink_1000abcdef._ewelink._tcp.local."), id);
    assert_eq!(id_in_name("ewelink_1000abcdef"), id);
    for name in ["", "eWeLink_", "eWeLink_.local.", "eWeLink\u{e4}1000abcdef", "eWeLink_1000abcdef0", "x"] {
        assert_eq!(id_in_name(name), None, "{name}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes: Vec<u8>, texts in proptest::collection::vec(
        "(id|type|seq|encrypt|iv|data[0-5])=[{}\":a-z0-9\\\\é]{0,30}", 0..12
    ), cut in 0..400_usize) {
        let _ = DiyAnnouncement::parse(&bytes);
        let record = record(&texts);
        let end = cut.min(record.len());
        let read = DiyAnnouncement::parse(&record[..end]);
        // The same as with the texts that are whole.
        let mut left = end;
        let whole = texts.iter().take_while(|text| {
            let fits = text.len() < left;
            left = left.saturating_sub(text.len() + 1);
            fits
        });
        let pairs = whole.filter_map(|text| text.split_once('='));
        prop_assert_eq!(read, DiyAnnouncement::from_pairs(pairs.map(|(name, value)| (name, value.as_bytes()))));
    }

    #[test]
    fn any_name_is_read(name: String, rest in "eWeLink_.{0,12}") {
        let _ = id_in_name(&name);
        if let Some(id) = id_in_name(&rest) {
            prop_assert!(rest[8..].starts_with(id.as_str()));
        }
    }
}

proptest! {
    #[test]
    fn what_is_announced_is_read_back(
        (seq, strength) in (proptest::option::of(any::<u32>()), proptest::option::of(any::<i32>())),
        ssid in proptest::option::of("\\PC{0,200}"),
        (kind, unlocked) in (0..3_usize, proptest::option::of(any::<bool>())),
    ) {
        let info = DiyInfo { ssid, ota_unlock: unlocked, signal_strength: strength, ..DiyInfo::default() };
        let data = [AnnouncedData::Absent, AnnouncedData::Encrypted, AnnouncedData::Plain(info)];
        let announcement = DiyAnnouncement {
            txt_version: Some(1),
            device_id: DeviceId::new("1000abcdef").ok(),
            kind: Text::new("diy_plug").ok(),
            api_version: Some(1),
            seq,
            data: data.into_iter().nth(kind).unwrap(),
        };
        let pairs = announcement.to_pairs().unwrap();
        let texts = pairs.iter().map(|(name, value)| [name.as_bytes(), b"=", value].concat());
        prop_assert_eq!(&DiyAnnouncement::parse(&record(texts)), &announcement);
        let pairs = pairs.iter().map(|(name, value)| (*name, &value[..]));
        prop_assert_eq!(DiyAnnouncement::from_pairs(pairs), announcement);
    }
}

#[test]
fn data_fits_four_texts_or_is_refused() {
    let announce = |length: usize| {
        let data =
            AnnouncedData::Plain(DiyInfo { ssid: Some("s".repeat(length - 11)), ..DiyInfo::default() });
        DiyAnnouncement { data, ..DiyAnnouncement::default() }.to_pairs()
    };
    let pieces: Vec<_> =
        announce(996).unwrap().into_iter().map(|(name, value)| (name, value.len())).collect();
    assert_eq!(pieces, [("data1", 249), ("data2", 249), ("data3", 249), ("data4", 249)]);
    assert_eq!(announce(997), Err(Unsendable::TooLong { length: 997, limit: 996 }));
}
