use super::*;
use crate::sonoff::limits;
use crate::sonoff::secret::ApiKey;
use crate::sonoff::text::{DeviceId, TextError, Version};
use alloc::string::ToString;
use alloc::{format, vec};
use proptest::option::of;
use proptest::prelude::*;

const KEY: &str = "33f0c783-06d6-476c-a590-30bb4cf724c3";

fn device(rest: &str) -> Result<DeviceMessage, MessageError> {
    let json = format!(r#"{{"apikey":"{KEY}","deviceid":"1000abcdef",{rest}}}"#);
    DeviceMessage::parse(json.as_bytes())
}

fn plain<const MAX: usize>() -> impl Strategy<Value = Text<MAX>> {
    let text = proptest::string::string_regex(&format!("[ !#-\\[\\]-~]{{1,{MAX}}}")).unwrap();
    text.prop_map(|text| Text::new(&text).unwrap())
}

fn key() -> impl Strategy<Value = ApiKey> {
    any::<[u8; 16]>().prop_map(ApiKey::from_random)
}

fn switches() -> impl Strategy<Value = Switches> {
    let switch = || prop_oneof![Just(Switch::Off), Just(Switch::On)];
    prop_oneof![
        switch().prop_map(Switches::One),
        proptest::collection::vec((switch(), any::<u8>()), 1..=OUTLETS).prop_map(Switches::Several),
    ]
}

fn server_body() -> impl Strategy<Value = ServerBody> {
    let entry = (plain(), plain(), plain()).prop_map(|(name, download_url, digest)| Entry {
        name,
        download_url,
        digest,
    });
    let upgrade = (plain(), plain(), of(any::<bool>()), proptest::collection::vec(entry, 1..=ENTRIES))
        .prop_map(|(model, version, auto_restart, bin_list)| {
            ServerBody::Upgrade(Upgrade { model, version, auto_restart, bin_list })
        });
    prop_oneof![
        any::<u16>().prop_map(|error| ServerBody::Answer { error }),
        any::<u16>().prop_map(|hb_interval| ServerBody::Registered { hb_interval }),
        any::<u64>().prop_map(|time| ServerBody::Date { date: Date::from_unix_milliseconds(time) }),
        Just(ServerBody::NothingKnown),
        switches().prop_map(|switches| ServerBody::Update { switches }),
        upgrade,
        (plain(), any::<u16>()).prop_map(|(ip, port)| ServerBody::Redirect { ip, port }),
        any::<u16>().prop_map(|hb_interval| ServerBody::Notify { hb_interval }),
        Just(ServerBody::Restart),
        proptest::collection::vec(plain(), 1..=NAMES).prop_map(|params| ServerBody::QueryDevice { params }),
        any::<u16>().prop_map(|reg_interval| ServerBody::RegisterAgain { reg_interval }),
        ("[a-z]{1,12}", any::<i32>()).prop_filter_map("reserved", |(name, value)| {
            let json = format!(r#"{{"{name}":[{{"at":"07:00","do":{{"{name}x":{value}}}}}]}}"#);
            Parameters::new(&json).ok().map(ServerBody::Known)
        }),
    ]
}

fn server_message() -> impl Strategy<Value = ServerMessage> {
    (plain(), key(), plain(), server_body()).prop_map(|(device_id, api_key, sequence, body)| {
        let answer = matches!(
            body,
            ServerBody::Answer { .. }
                | ServerBody::Registered { .. }
                | ServerBody::Date { .. }
                | ServerBody::NothingKnown
                | ServerBody::RegisterAgain { .. }
                | ServerBody::Known(_)
        );
        ServerMessage { device_id, api_key, sequence: (!answer).then_some(sequence), body }
    })
}

fn update() -> impl Strategy<Value = Update> {
    (of(switches()), of(plain()), of(any::<i32>()), of(plain()), of(plain()), of(plain())).prop_map(
        |(switches, fw_version, rssi, sta_mac, startup, power)| Update {
            switches,
            fw_version,
            rssi,
            sta_mac,
            startup,
            power,
        },
    )
}

fn device_body() -> impl Strategy<Value = DeviceBody> {
    let register = (plain(), plain(), of(any::<u32>()), of(any::<i64>())).prop_map(
        |(rom_version, model, version, ts)| {
            DeviceBody::Register(Register { rom_version, model, version, ts })
        },
    );
    let unknown = "[a-z]{1,32}"
        .prop_filter("known", |name| !["register", "date", "update", "query"].contains(&name.as_str()));
    prop_oneof![
        register,
        Just(DeviceBody::Date),
        update().prop_map(DeviceBody::Update),
        (of(plain()), update()).prop_map(|(sequence, state)| DeviceBody::State { sequence, state }),
        (any::<u16>(), of(plain())).prop_map(|(code, sequence)| DeviceBody::UpgradeState { code, sequence }),
        proptest::collection::vec(plain(), 0..=NAMES).prop_map(|params| DeviceBody::Query { params }),
        (any::<u16>(), of(plain())).prop_map(|(error, sequence)| DeviceBody::Result { error, sequence }),
        unknown.prop_map(|action| DeviceBody::Unknown { action: Text::new(&action).unwrap() }),
    ]
}

proptest! {
    #[test]
    fn devices_read_what_servers_emit(message in server_message()) {
        let json = message.to_json().unwrap();
        let reading = Reading::new(json.as_bytes()).unwrap();
        prop_assert_eq!(reading.trouble(), None);
        prop_assert_eq!(reading.repeated(), None);
        prop_assert_eq!(ServerMessage::parse(json.as_bytes()), Ok(message));
    }

    #[test]
    fn servers_read_what_devices_emit(device_id in plain(), api_key in key(), body in device_body()) {
        let message = DeviceMessage { device_id, api_key, body };
        let json = message.to_json().unwrap();
        prop_assert_eq!(DeviceMessage::parse(json.as_bytes()), Ok(message));
    }

    #[test]
    fn first_occurrence_is_what_json_says_where_names_are_unique(message in server_message()) {
        let json = message.to_json().unwrap();
        let value: Value = serde_json::from_str(&json).unwrap();
        let reading = Reading::new(json.as_bytes()).unwrap();
        for (name, value) in value.as_object().unwrap() {
            prop_assert!(reading.has(name));
            prop_assert_eq!(reading.text(name), value.as_str());
            prop_assert_eq!(reading.number(name), value.as_i64());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text in r#"[{}\[\]",:a-c0-9 \\]{0,60}"#) {
        for json in [&bytes[..], text.as_bytes()] {
            let _ = DeviceMessage::parse(json);
            let _ = ServerMessage::parse(json);
        }
    }
}

#[test]
fn numbers_in_quotes_are_numbers() {
    let DeviceBody::Update(update) =
        device(r#""action":"update","params":{"rssi":"-41","power":12.5,"switch":"on","new":{"a":[1]}}"#)
            .unwrap()
            .body
    else {
        panic!()
    };
    assert_eq!((update.rssi, update.power.unwrap().as_str()), (Some(-41), "12.5"));
    let result = device(r#""error":"404","sequence":"7""#).unwrap().body;
    assert_eq!(result, DeviceBody::Result { error: 404, sequence: Some(Text::new("7").unwrap()) });
}

#[test]
fn what_is_missing_or_too_long_is_told_by_name() {
    let problem = |rest: &str| match device(rest) {
        Err(MessageError::Field { field, problem }) => (field, problem),
        other => panic!("{rest}: {other:?}"),
    };
    assert_eq!(problem(r#""action":"register","model":"a""#), ("romVersion", FieldProblem::Missing));
    assert_eq!(problem(r#""action":7"#), ("action", FieldProblem::NotText));
    assert_eq!(problem(r#""error":true"#), ("error", FieldProblem::NotNumber));
    assert_eq!(problem(r#""error":-1"#), ("error", FieldProblem::NotNumber));
    assert_eq!(problem(r#""error":65536"#), ("error", FieldProblem::NotNumber));
    // Of a query what can be read is, up to as many names as there can be.
    let asked = |params: &str| match device(&format!(r#""action":"query","params":{params}"#)).unwrap().body {
        DeviceBody::Query { params } => params.iter().map(ToString::to_string).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(asked(&format!("[{}\"a\"]", r#""a","#.repeat(NAMES))).len(), NAMES);
    assert_eq!(asked(r#"["timers",7,"123456789012345678901"]"#), ["timers"]);
    assert_eq!((asked("\"timers\""), asked("{}")), (vec!["timers".to_string()], vec![]));
    // A state that cannot be read is left out, up to as many switches as there can be.
    for (count, is_read) in [(OUTLETS, true), (OUTLETS + 1, false)] {
        let switches = vec![r#"{"switch":"on","outlet":0}"#; count].join(",");
        let rest = format!(r#""action":"update","params":{{"switches":[{switches}]}}"#);
        let Ok(DeviceMessage { body: DeviceBody::Update(update), .. }) = device(&rest) else { panic!() };
        assert_eq!(update.switches.is_some(), is_read);
    }
    let long = "1".repeat(limits::MODEL + 1);
    let too_long = FieldProblem::Text(TextError::TooLong { length: 21, limit: 20 });
    assert_eq!(
        problem(&format!(r#""action":"register","romVersion":"1","model":"{long}""#)),
        ("model", too_long)
    );
    let long = "1".repeat(limits::SEQUENCE + 1);
    let too_long = FieldProblem::Text(TextError::TooLong { length: 51, limit: 50 });
    assert_eq!(problem(&format!(r#""error":0,"sequence":"{long}""#)), ("sequence", too_long));
    let longest = &long[1..];
    assert!(device(&format!(r#""error":0,"sequence":"{longest}""#)).is_ok());
    for (length, is_read) in [(limits::ENTRY_NAME, true), (limits::ENTRY_NAME + 1, false)] {
        let json = format!(
            r#"{{"action":"upgrade","deviceid":"1000abcdef","apikey":"{KEY}","sequence":"7","params":{{"model":"m","version":"9","binList":[{{"name":"{}","downloadUrl":"http://a/b","digest":"{}"}}]}}}}"#,
            "n".repeat(length),
            "0".repeat(64),
        );
        assert_eq!(ServerMessage::parse(json.as_bytes()).is_ok(), is_read, "{length}");
    }
    assert_eq!(device(r#""a":1"#), Err(MessageError::NoKind));
    assert_eq!(DeviceMessage::parse(b"[]"), Err(MessageError::NotAnObject));
    assert_eq!(DeviceMessage::parse(b""), Err(MessageError::NotJson { column: 0 }));
    let id = format!(r#"{{"apikey":"{KEY}","deviceid":"1000abcdef0","action":"date"}}"#);
    let too_long = FieldProblem::Text(TextError::TooLong { length: 11, limit: 10 });
    let error = MessageError::Field { field: "deviceid", problem: too_long };
    assert_eq!(DeviceMessage::parse(id.as_bytes()), Err(error));
}

#[test]
fn long_messages_are_refused_before_they_are_read_or_sent() {
    let json = format!(r#"{{"apikey":"{KEY}","deviceid":"1000abcdef","action":"date"}}"#);
    let spaces = " ".repeat(limits::DEVICE_MESSAGE - json.len());
    assert!(DeviceMessage::parse(format!("{json}{spaces}").as_bytes()).is_ok());
    let error = MessageError::TooLong { length: 1025, limit: 1024 };
    assert_eq!(DeviceMessage::parse(format!("{json}{spaces} ").as_bytes()), Err(error));
    let error = MessageError::TooLong { length: 2045, limit: 2044 };
    assert_eq!(ServerMessage::parse(&[b' '; 2045]), Err(error));

    let entry = Entry {
        name: Text::new("user1.bin").unwrap(),
        download_url: Text::new(&"u".repeat(limits::URL)).unwrap(),
        digest: Text::new(&"0".repeat(limits::DIGEST)).unwrap(),
    };
    let upgrade = |count| ServerMessage {
        device_id: DeviceId::new("1000abcdef").unwrap(),
        api_key: ApiKey::new(KEY).unwrap(),
        sequence: Some(Text::new(&"5".repeat(limits::SEQUENCE)).unwrap()),
        body: ServerBody::Upgrade(Upgrade {
            model: Text::new(&"m".repeat(limits::MODEL)).unwrap(),
            version: Version::new("9.9.9").unwrap(),
            auto_restart: Some(true),
            bin_list: vec![entry.clone(); count],
        }),
    };
    assert!(upgrade(2).to_json().unwrap().len() < 1024, "two maximal entries");
    assert!(upgrade(4).to_json().unwrap().len() < 2044, "as many as there may be");
    let known = |length: usize| {
        let parameters = Parameters::new(&format!(r#"{{"a":"{}"}}"#, "b".repeat(length))).unwrap();
        ServerMessage { sequence: None, body: ServerBody::Known(parameters), ..upgrade(1) }.to_json()
    };
    let least = known(1).unwrap().len() - 1;
    assert_eq!(known(2044 - least).unwrap().len(), 2044);
    assert_eq!(known(2045 - least), Err(Unsendable::TooLong { length: 2045, limit: 2044 }));
}

#[test]
fn every_truncation_is_refused() {
    let json = format!(
        r#"{{"apikey":"{KEY}","deviceid":"1000abcdef","action":"update","params":{{"switch":"on"}}}}"#
    );
    for end in 0..json.len() {
        let cut = &json.as_bytes()[..end];
        assert!(matches!(DeviceMessage::parse(cut), Err(MessageError::NotJson { .. })), "cut at {end}");
        assert!(matches!(ServerMessage::parse(cut), Err(MessageError::NotJson { .. })), "cut at {end}");
    }
}

#[test]
fn what_troubles_devices_is_found() {
    let trouble = |json: &str| Reading::new(json.as_bytes()).unwrap().trouble();
    assert_eq!(trouble(r#"{"params":{}}"#), Some(Trouble::Empty));
    assert_eq!(trouble(r#"{"params":[ ]}"#), Some(Trouble::Empty));
    assert_eq!(trouble(r#"{"a":null}"#), Some(Trouble::Word));
    assert_eq!(trouble(r#"{"a":[true]}"#), Some(Trouble::Word));
    assert_eq!(trouble(r#"{"a":"\u0041"}"#), Some(Trouble::Escape));
    assert_eq!(trouble(r#"{"a":"null","b":[{"c":0}]}"#), None);
    let repeated = |json: &str| Reading::new(json.as_bytes()).unwrap().repeated();
    assert_eq!(repeated(r#"{"config":{"error":1},"error":0}"#), Some("error"));
    assert_eq!(repeated(r#"{"error":0,"sequence":"error"}"#), None);
}

#[test]
fn reader_takes_escaped_quotes_as_part_of_a_text() {
    let reading = Reading::new(br#"{"a":"x\"b\":1","b":2,"c\\":3,"d" : "e"}"#).unwrap();
    assert_eq!(reading.text("a"), Some(r#"x\"b\":1"#));
    assert_eq!((reading.number("b"), reading.text("d"), reading.number("d")), (Some(2), Some("e"), None));
}

#[test]
fn codes_of_refusals_are_not_taken_for_other_answers() {
    let json = format!(r#"{{"error":404,"deviceid":"1","apikey":"{KEY}","date":"x"}}"#);
    assert_eq!(ServerMessage::parse(json.as_bytes()).unwrap().body, ServerBody::Answer { error: 404 });
    assert_eq!(Switch::On.to_string(), "on");
    let unknown = format!(r#"{{"action":"reboot","deviceid":"1","apikey":"{KEY}"}}"#);
    let action = Text::new("reboot").unwrap();
    assert_eq!(ServerMessage::parse(unknown.as_bytes()).unwrap().body, ServerBody::Unknown { action });
}

#[test]
fn lists_are_neither_empty_nor_longer_than_what_reads_them() {
    let sent = |body| {
        let (device_id, api_key) = (DeviceId::new("1000abcdef").unwrap(), ApiKey::new(KEY).unwrap());
        ServerMessage { device_id, api_key, sequence: None, body }.to_json().map(|_| ())
    };
    let told = |body| {
        let (device_id, api_key) = (DeviceId::new("1000abcdef").unwrap(), ApiKey::new(KEY).unwrap());
        DeviceMessage { device_id, api_key, body }.to_json().map(|_| ())
    };
    let entry = Entry {
        name: Text::new("user1.bin").unwrap(),
        download_url: Text::new("http://a/b").unwrap(),
        digest: Text::new("0").unwrap(),
    };
    let switches = |count| Switches::Several(vec![(Switch::On, 0); count]);
    let names = |count| vec![Text::new("timers").unwrap(); count];
    let upgrade = |count| {
        ServerBody::Upgrade(Upgrade {
            model: Text::new("m").unwrap(),
            version: Version::new("9").unwrap(),
            auto_restart: None,
            bin_list: vec![entry.clone(); count],
        })
    };
    let state = |count| Update { switches: Some(switches(count)), ..Update::default() };
    for count in [0, 1, OUTLETS, OUTLETS + 1] {
        let error = Unsendable::Elements { field: "switches", count, limit: OUTLETS };
        let expected = if (1..=OUTLETS).contains(&count) { Ok(()) } else { Err(error) };
        assert_eq!(sent(ServerBody::Update { switches: switches(count) }), expected);
        assert_eq!(told(DeviceBody::Update(state(count))), expected);
        assert_eq!(told(DeviceBody::State { sequence: None, state: state(count) }), expected);
    }
    for count in [0, 1, NAMES, NAMES + 1] {
        let error = Unsendable::Elements { field: "params", count, limit: NAMES };
        let expected = if (1..=NAMES).contains(&count) { Ok(()) } else { Err(error) };
        assert_eq!(sent(ServerBody::QueryDevice { params: names(count) }), expected);
        // A device that asks for everything says so with an empty list.
        let expected = if count == 0 { Ok(()) } else { expected };
        assert_eq!(told(DeviceBody::Query { params: names(count) }), expected);
    }
    for count in [0, 1, ENTRIES, ENTRIES + 1] {
        let error = Unsendable::Elements { field: "binList", count, limit: ENTRIES };
        let expected = if (1..=ENTRIES).contains(&count) { Ok(()) } else { Err(error) };
        assert_eq!(sent(upgrade(count)), expected);
    }
    // Nor are they read.
    let read = |rest: &str| {
        let json = format!(r#"{{"deviceid":"1","apikey":"{KEY}",{rest}}}"#);
        ServerMessage::parse(json.as_bytes()).map(|message| message.body)
    };
    let missing = Err(MessageError::Field { field: "params", problem: FieldProblem::Missing });
    assert_eq!(read(r#""action":"queryDev","params":[]"#), missing);
    assert_eq!(read(r#""action":"update","params":{"switches":[]}"#), missing);
    let DeviceBody::Update(update) = device(r#""action":"update","params":{"switches":[]}"#).unwrap().body
    else {
        panic!()
    };
    assert_eq!(update.switches, None);
}

#[test]
fn settings_are_only_what_devices_can_read() {
    for (json, error) in [
        ("", ParametersError::NotAnObject),
        ("[1]", ParametersError::NotAnObject),
        ("{}", ParametersError::Trouble(Trouble::Empty)),
        (r#"{"timers":[]}"#, ParametersError::Trouble(Trouble::Empty)),
        (r#"{"a":null}"#, ParametersError::Trouble(Trouble::Word)),
        (r#"{"a":[{"b":true}]}"#, ParametersError::Trouble(Trouble::Word)),
        (r#"{"a":"\""}"#, ParametersError::Trouble(Trouble::Escape)),
        (r#"{"port":1}"#, ParametersError::Reserved("port")),
        (r#"{"a":[{"deviceid":1}]}"#, ParametersError::Reserved("deviceid")),
    ] {
        assert_eq!(Parameters::new(json), Err(error), "{json}");
    }
    let long = |length: usize| Parameters::new(&format!(r#"{{"a":"{}"}}"#, "b".repeat(length - 8)));
    assert!(long(limits::SERVER_MESSAGE).is_ok());
    assert_eq!(long(limits::SERVER_MESSAGE + 1), Err(ParametersError::NotAnObject));
    // What a server knows, and what it does not.
    let read = |rest: &str| {
        let json = format!(r#"{{"error":0,"deviceid":"1","apikey":"{KEY}",{rest}}}"#);
        ServerMessage::parse(json.as_bytes()).unwrap().body
    };
    let timers = Parameters::new(r#"{"timers":[{"at":1}]}"#).unwrap();
    assert_eq!(read(r#""params":{ "timers": [{"at":1}] }"#), ServerBody::Known(timers));
    for nothing in ["0", "{}", r#"{"timers":[]}"#] {
        assert_eq!(read(&format!(r#""params":{nothing}"#)), ServerBody::NothingKnown, "{nothing}");
    }
}

#[test]
fn answer_with_a_state_is_told_from_one_without() {
    let sequence = Some(Text::new("7").unwrap());
    let state = device(r#""error":0,"sequence":"7","params":{"switch":"on"}"#).unwrap().body;
    let expected = Update { switches: Some(Switches::One(Switch::On)), ..Update::default() };
    assert_eq!(state, DeviceBody::State { sequence, state: expected });
    // Numbers are numbers of requests, too; a refusal has no state.
    let refused = device(r#""error":400,"sequence":7,"params":{"switch":"on"}"#).unwrap().body;
    assert_eq!(refused, DeviceBody::Result { error: 400, sequence });
}
