use super::*;
use crate::message::describe::{Dependency, DocumentTooLong, ModuleFunction, ModuleStore};
use alloc::string::String;
use alloc::vec::Vec;
use proptest::prelude::*;

type Buf<'a> = DocumentBuf<'a, 4, 4, 4>;

/// Sent by device-os 0.6.1 in tests/vectors/session_brewskey_v0.6.1.json.
const RECORDED: &str = r#"{"f":["brew","setLed"],"v":{"flag":1,"count":2,"temp":9,"msg":4},"p":6,"m":[{"s":16384,"l":"m","vc":30,"vv":30,"f":"b","n":"0","v":1005,"d":[]}]}"#;
const FULL: &str = r#"{"f":[],"v":{"x":77},"p":10,"m":[{"s":1,"l":"t","vc":30,"vv":28,"d":[]},{"s":262144,"l":"m","vc":30,"vv":30,"u":"ab12","f":"u","n":"1","v":11,"d":[{"f":"s","n":"2","v":207},{"f":"z","n":"255","v":0}]}]}"#;

fn again(json: &str) -> String {
    let document = Buf::from_json(json.as_bytes()).unwrap();
    let mut out = [0; 768];
    String::from_utf8(document.as_document().write_into(&mut out).unwrap().to_vec()).unwrap()
}

#[test]
fn documents_of_devices_survive_a_round_trip() {
    for json in [RECORDED, FULL, "{}", r#"{"f":["brew"],"v":{}}"#] {
        assert_eq!(again(json), json);
    }
}

#[test]
fn recorded_document_has_its_parts() {
    let document = Buf::from_json(RECORDED.as_bytes()).unwrap();
    let document = document.as_document();
    assert_eq!(document.functions, Some(&["brew", "setLed"][..]));
    let types = [
        ("flag", VariableType::Bool),
        ("count", VariableType::Int),
        ("temp", VariableType::Double),
        ("msg", VariableType::String),
    ];
    assert_eq!((document.variables, document.platform_id), (Some(&types[..]), Some(6)));
    let bootloader = Module {
        validity_checked: 30,
        validity_result: 30,
        function: Some(ModuleFunction::Bootloader),
        index: Some(0),
        version: Some(1005),
        ..Module::empty(16_384, ModuleStore::Main)
    };
    assert!(bootloader.is_valid());
    assert_eq!(document.modules, Some(&[bootloader][..]));
}

#[test]
fn further_members_are_written_before_the_modules_and_passed_over_when_read() {
    let need = Dependency { function: ModuleFunction::System, index: Some(1), version: 2 };
    let modules = [Module { dependencies: [Some(need), None], ..Module::empty(1, ModuleStore::Main) }];
    let document = Document {
        platform_id: Some(10),
        others: &[("imei", "35\""), ("iccid", "89")],
        modules: Some(&modules),
        ..Document::default()
    };
    let mut out = [0; 200];
    let json = document.write_into(&mut out).unwrap();
    assert_eq!(
        core::str::from_utf8(json).unwrap(),
        r#"{"p":10,"imei":"35\"","iccid":"89","m":[{"s":1,"l":"m","vc":0,"vv":0,"d":[{"f":"s","n":"1","v":2}]}]}"#
    );
    let read = Buf::from_json(json).unwrap();
    assert_eq!(read.as_document(), Document { others: &[], ..document });
    for len in 0..json.len() {
        assert_eq!(document.write_into(&mut [0; 200][..len]), Err(DocumentTooLong { available: len }));
    }
}

#[test]
fn unknown_members_are_passed_over_everywhere() {
    let json = concat!(
        r#" {"x":[1,{"y":[null,"]}"]}],"m":[{"?":{"a":1},"s":1,"l":"m","d":[{"f":"s","n":"1","v":2,"":""},"#,
        r#"{"f":"s","n":"2","v":3},{"f":"s","n":"3","v":4}]}],"iccid":"\"89"} "#
    );
    assert_eq!(
        again(json),
        r#"{"m":[{"s":1,"l":"m","vc":0,"vv":0,"d":[{"f":"s","n":"1","v":2},{"f":"s","n":"2","v":3}]}]}"#
    );
}

#[test]
fn every_cut_is_an_error_with_its_place() {
    for json in [RECORDED, FULL] {
        for offset in 0..json.len() {
            let error = Buf::from_json(&json.as_bytes()[..offset]).unwrap_err();
            assert_eq!(error, DocumentError::Cut { offset });
        }
    }
}

#[test]
fn more_than_there_is_room_for_names_the_list() {
    let many = |json: &str| DocumentBuf::<1, 1, 1>::from_json(json.as_bytes()).unwrap_err();
    let error = |what| DocumentError::TooMany { what, limit: 1 };
    assert_eq!(many(r#"{"f":["a","b"]}"#), error("functions"));
    assert_eq!(many(r#"{"v":{"a":1,"b":1}}"#), error("variables"));
    assert_eq!(many(r#"{"m":[{},{}]}"#), error("modules"));
    assert!(DocumentBuf::<1, 1, 1>::from_json(br#"{"f":["a"],"v":{"a":1},"m":[{}]}"#).is_ok());
}

#[test]
fn malformed_document_is_an_error_near_its_place() {
    for (json, at) in [
        (r#"{"f":[1]}"#, 6),
        (r#"{"f":["a"],"p":"6"}"#, 15),
        (r#"{"p":65536}"#, 9),
        (r#"{"v":{"a":256}}"#, 12),
        (r#"{"m":[{"l":"mm"}]}"#, 14),
        (r#"{"m":[{"n":"x"}]}"#, 13),
        (r#"{"f":["a\n"]}"#, 10),
        (r#"{"f":[],"f":[]}"#, 10),
        ("{\"f\":[\"\0\"]}", 8),
        ("{} {}", 3),
        ("[]", 0),
        ("12", 0),
    ] {
        assert_eq!(
            Buf::from_json(json.as_bytes()).unwrap_err(),
            DocumentError::Malformed { near: at },
            "{json}"
        );
    }
    assert!(matches!(Buf::from_json(b"{\"f\":[\"\xff\"]}"), Err(DocumentError::Malformed { .. })));
}

#[test]
fn deep_nesting_is_refused_before_it_is_read() {
    let deep = |depth: usize| {
        let json: Vec<u8> = [br#"{"x":"#, &b"[".repeat(depth)[..], &b"]".repeat(depth), b"}"].concat();
        Buf::from_json(&json).map(|_| ())
    };
    assert_eq!(deep(15), Ok(()));
    assert_eq!(deep(16), Err(DocumentError::TooDeep { offset: 20 }));
    assert_eq!(deep(100_000), Err(DocumentError::TooDeep { offset: 20 }));
}

#[cfg(feature = "json")]
#[test]
fn both_readers_say_the_same() {
    use crate::message::describe::Describe;
    for json in [RECORDED, FULL] {
        assert_eq!(Describe::from_json(json.as_bytes()).unwrap().to_json(), again(json));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = Buf::from_json(&bytes);
    }

    #[test]
    fn changed_documents_are_read_or_refused(at in 0..FULL.len(), byte: u8) {
        let mut bytes = FULL.as_bytes().to_vec();
        bytes[at] = byte;
        if let Ok(document) = Buf::from_json(&bytes) {
            let mut out = [0; 768];
            let json = document.as_document().write_into(&mut out).unwrap();
            let read = Buf::from_json(json).unwrap();
            prop_assert_eq!(read.as_document(), document.as_document());
        }
    }
}
