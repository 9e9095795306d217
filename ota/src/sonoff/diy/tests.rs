use super::*;
use crate::sonoff::http::Request;
use crate::sonoff::provisioning::AccessError;
use crate::sonoff::text::TextError;
use crate::sonoff::upgrade::{Format, UrlProblem};
use alloc::vec;
use proptest::option::of;
use proptest::prelude::*;

const DIGEST: &str = "a5885cf13bac84da5930f74d26e9bac91eb6967d6b3c5d79ba7778bd45ea1eb7";
const URL: &str = "http://192.168.1.2:8080/sonoff.bin";

#[test]
fn images_are_checked_by_all_rules() {
    let new = |size, format, mode| DiyImage::new(URL, DIGEST, size, format, mode).map(|_| ());
    assert_eq!(new(520_192, Format::V1, 3), Ok(()));
    assert_eq!(new(0, Format::V1, 3), Err(DiyRefusal::Empty));
    assert_eq!(new(520_193, Format::V1, 3), Err(DiyRefusal::TooLarge { size: 520_193, limit: 520_192 }));
    assert_eq!(new(1, Format::V2, 3), Err(DiyRefusal::Format { found: Format::V2 }));
    assert_eq!(new(1, Format::V1, 0), Err(DiyRefusal::FlashMode { mode: 0 }));
    let https = DiyImage::new("https://a/b", DIGEST, 1, Format::V1, 3);
    assert_eq!(https, Err(DiyRefusal::Url(UrlProblem::Scheme)));
    for digest in [&DIGEST.to_uppercase(), &DIGEST[1..], ""] {
        assert_eq!(DiyImage::new(URL, digest, 1, Format::V1, 3), Err(DiyRefusal::Digest), "{digest}");
    }
}

#[test]
fn every_request_is_read_back() {
    let image = DiyImage::new(URL, DIGEST, 1, Format::V1, 3).unwrap();
    let id = DeviceId::new("1000abcdef").ok();
    let network = DiyNetwork::new("home \"net\"", "secret \\ 1").unwrap();
    assert!(!format!("{network:?}").contains("secret"));
    let calls = [
        DiyCall::Info,
        DiyCall::OtaUnlock,
        DiyCall::OtaFlash(image),
        DiyCall::Switch(Switch::On),
        DiyCall::Startup(Startup::On),
        DiyCall::Startup(Startup::Off),
        DiyCall::Startup(Startup::Stay),
        DiyCall::SignalStrength,
        DiyCall::Pulse { pulse: Switch::Off, width: None },
        DiyCall::Pulse { pulse: Switch::On, width: Some(2000) },
        DiyCall::Wifi(network),
    ];
    for call in calls {
        for device_id in [id, None] {
            let request = DiyRequest { device_id, call: call.clone() };
            let bytes = request.to_http("192.168.1.3");
            let (http, used) = Request::parse(&bytes).unwrap().unwrap();
            assert_eq!((http.head.method.as_str(), used), ("POST", bytes.len()));
            assert_eq!(DiyRequest::parse(&http.head.path, http.body), Ok(request.clone()));
            for end in 0..http.body.len() {
                assert_eq!(DiyRequest::parse(&http.head.path, &http.body[..end]), Err(DiyError::Json));
            }
        }
    }
    let parse = |path: &str, json: &str| DiyRequest::parse(path, json.as_bytes());
    assert_eq!(parse("/zeroconf/info", r#"{"deviceid":"","data":{}}"#).unwrap().device_id, None);
    assert_eq!(parse("/zeroconf/info", r#"{"deviceid":""}"#), Err(DiyError::Parameters));
    assert_eq!(parse("/zeroconf/subDevices", r#"{"data":{}}"#), Err(DiyError::NotFound));
    assert_eq!(parse("/zeroconf/pulse", r#"{"data":{}}"#), Err(DiyError::Parameters));
    assert_eq!(parse("/zeroconf/startup", r#"{"data":{"startup":"later"}}"#), Err(DiyError::Parameters));
    assert_eq!(parse("/zeroconf/wifi", r#"{"data":{"ssid":"","password":""}}"#), Err(DiyError::Parameters));
    assert_eq!(
        DiyNetwork::new(&"n".repeat(32), ""),
        Err(AccessError::Ssid(TextError::TooLong { length: 32, limit: 31 }))
    );
    assert!(DiyNetwork::new(&"n".repeat(31), &"p".repeat(63)).is_ok());
    assert!(DiyNetwork::new("n", &"p".repeat(64)).is_err());
    assert_eq!(parse("/zeroconf/switch", r#"{"data":{"switch":"maybe"}}"#), Err(DiyError::Parameters));
    assert_eq!(parse("/zeroconf/ota_flash", r#"{"data":{"downloadUrl":"x"}}"#), Err(DiyError::Parameters));
}

#[test]
fn answers_may_have_their_data_as_text() {
    let answer = |data: &str| DiyAnswer::parse(format!(r#"{{"seq":1,"error":0,"data":{data}}}"#).as_bytes());
    let newer = concat!(
        r#"{"switch":"on","startup":"stay","pulse":"off","pulseWidth":"500","ssid":"net","otaUnlock":false,"#,
        r#""fwVersion":"3.6.0","deviceid":"1000abcdef","bssid":"ec:17:2f:3d:15:e","signalStrength":-25}"#
    );
    let info = answer(newer).unwrap().result.unwrap();
    assert_eq!(
        (info.pulse_width, info.ota_unlock, info.signal_strength),
        (Some(500), Some(false), Some(-25))
    );
    let as_text = serde_json::to_string(newer).unwrap();
    assert_eq!(answer(&as_text).unwrap().result, Ok(info));
    assert_eq!(answer("\"\"").unwrap().result, Ok(DiyInfo::default()));
    // Only `error` decides; what cannot be read is left out.
    let odd = r#"{"switch":"dim","startup":"","bssid":"","fwVersion":7,"otaUnlock":"maybe","deviceid":[]}"#;
    for data in ["[]", "7", "\"x\"", "\"[]\"", "\"ok\"", "false", odd] {
        assert_eq!(answer(data).unwrap().result, Ok(DiyInfo::default()), "{data}");
    }
    for (unlocked, found) in [("1", true), ("\"true\"", true), ("0", false), ("\"OFF\"", false)] {
        let info = answer(&format!(r#"{{"otaUnlock":{unlocked},"bssid":"","switch":"ON"}}"#)).unwrap();
        let expected = DiyInfo { ota_unlock: Some(found), switch: Some(Switch::On), ..DiyInfo::default() };
        assert_eq!(info.result, Ok(expected), "{unlocked}");
    }
    assert!(matches!(
        DiyAnswer::parse(br#"{"seq":1,"data":{}}"#),
        Err(MessageError::Field { field: "error", .. })
    ));
    let too_long = MessageError::TooLong { length: 4097, limit: 4096 };
    assert_eq!(DiyAnswer::parse(&vec![b' '; 4097]), Err(too_long));
}

#[test]
fn every_code_has_its_name_and_back() {
    for code in 1..600 {
        assert_eq!(DiyError::new(code).unwrap().code(), code);
        assert!(!format!("{}", DiyError::new(code).unwrap()).is_empty());
    }
    assert_eq!(DiyError::new(0), None);
    assert_eq!(DiyError::new(471), Some(DiyError::Digest));
    for code in [0, 404, 406, 409, 410, 7] {
        let report = DiyReport::parse(format!(r#"{{"error":{code}}}"#).as_bytes()).unwrap();
        assert_eq!(report.code(), code);
        assert_eq!(DiyReport::parse(report.to_json().as_bytes()), Ok(report));
        let bytes = report.to_http("192.168.1.2:8080");
        let (http, _) = Request::parse(&bytes).unwrap().unwrap();
        assert_eq!((http.head.path.as_str(), DiyReport::parse(http.body)), (REPORT_PATH, Ok(report)));
        assert!(!format!("{report}").is_empty());
    }
    assert!(DiyReport::parse(b"{}").is_err() && DiyReport::parse(b"").is_err());
}

fn text<const MAX: usize>() -> impl Strategy<Value = Text<MAX>> {
    "[a-z0-9.:]{1,8}".prop_map(|text| Text::new(&text).unwrap())
}

proptest! {
    #[test]
    fn answers_survive(
        seq in of(any::<u32>()),
        code in 0u16..600,
        (startup, ssid, unlocked) in (of(text()), of(".{0,20}"), of(any::<bool>())),
        (version, id, bssid) in (of(text()), of(text()), of(text())),
        (width, strength) in (of(any::<u32>()), of(any::<i32>())),
    ) {
        let info = DiyInfo {
            switch: Some(Switch::On),
            startup,
            pulse: None,
            pulse_width: width,
            ssid,
            ota_unlock: unlocked,
            fw_version: version,
            device_id: id,
            bssid,
            signal_strength: strength,
        };
        let result = match DiyError::new(code) { Some(error) => Err(error), None => Ok(info) };
        let answer = DiyAnswer { seq, result };
        prop_assert_eq!(DiyAnswer::parse(answer.to_json().unwrap().as_bytes()), Ok(answer));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, json in r#"[{}":a-e0-9\\]{0,50}"#) {
        for bytes in [&bytes[..], json.as_bytes()] {
            let _ = DiyAnswer::parse(bytes);
            let _ = DiyReport::parse(bytes);
            let _ = DiyRequest::parse("/zeroconf/info", bytes);
        }
    }
}
