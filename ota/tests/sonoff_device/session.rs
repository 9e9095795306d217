//! From pairing to operation, and what is said there.

use super::bench::{
    MODEL, SECOND, access, dating, dispatching, factory_key, identity, opening, pairing, ready, registering,
    result, session_key,
};
use core::time::Duration;
use spark_ota::sonoff::device::{Link, Output, Profile, State};
use spark_ota::sonoff::dispatch::{DispatchAnswer, DispatchRequest};
use spark_ota::sonoff::frame::PONG;
use spark_ota::sonoff::http::Request;
use spark_ota::sonoff::message::{Date, DeviceBody, ServerBody, Switch, Switches, Update};
use spark_ota::sonoff::{ApiKey, ServerName, Text, limits};

#[test]
fn pairing_is_over_after_its_time_or_with_settings() {
    let mut bench = pairing();
    assert_eq!(bench.tick(), limits::PAIRING);
    assert_eq!((bench.device.state(), bench.device.next_deadline()), (State::Off, None));
    let mut bench = pairing();
    let body = access().to_json();
    let request = format!("POST /ap HTTP/1.1\r\nContent-Length: {}\r\n\r\n{}", body.len(), *body);
    for byte in request.as_bytes() {
        assert_eq!(bench.outputs, []);
        bench.input(Link::AccessPoint, &[*byte]);
    }
    let [Output::Send { .. }, Output::Close(Link::AccessPoint), Output::Join(joined)] = &bench.outputs[..]
    else {
        panic!("{:?}", bench.outputs)
    };
    assert_eq!(joined, &access());
    bench.device.joined(bench.now, false);
    let waited = bench.tick();
    assert!((2..4).contains(&waited.as_secs()), "{waited:?}");
    assert!(matches!(bench.outputs.last(), Some(Output::Join(_))), "it tries again");
}

#[test]
fn request_at_the_access_point_is_complete_in_ten_seconds() {
    let mut bench = pairing();
    let get = b"GET /device HTTP/1.1\r\n\r\n";
    for part in [0, 1, get.len() - 1] {
        bench.connected(Link::AccessPoint);
        bench.input(Link::AccessPoint, &get[..part]);
        assert_eq!(bench.tick(), limits::PACKET, "{part} bytes");
        assert_eq!(bench.take(), [Output::Close(Link::AccessPoint)]);
    }
    // One that is complete is answered, and the next one has as long.
    bench.connected(Link::AccessPoint);
    for _ in 0..2 {
        bench.now += limits::PACKET - Duration::from_millis(1);
        bench.input(Link::AccessPoint, get);
        assert!(matches!(bench.take()[..], [Output::Send { .. }]));
    }
    assert_eq!(bench.tick(), limits::PACKET);
    assert_eq!(bench.take(), [Output::Close(Link::AccessPoint)]);
    // Somebody who goes leaves nothing behind.
    bench.connected(Link::AccessPoint);
    bench.closed(Link::AccessPoint);
    bench.tick();
    assert_eq!((bench.now, bench.device.state()), (limits::PAIRING, State::Off));
}

#[test]
fn dispatch_is_asked_after_its_delay_and_awaited_for_ten_seconds() {
    let mut bench = dispatching(Profile::RANGES);
    bench.take();
    assert_eq!(bench.tick(), limits::DISPATCH_DELAY);
    let [Output::Send { link: Link::Dispatch, bytes }] = &bench.take()[..] else { panic!() };
    let (request, _) = Request::parse(bytes).unwrap().unwrap();
    assert_eq!(DispatchRequest::from_json(request.body).unwrap().api_key, factory_key());
    bench.tick();
    assert_eq!(bench.now, limits::DISPATCH);
    assert_eq!(bench.take(), [Output::Close(Link::Dispatch)]);
}

#[test]
fn failures_are_followed_by_longer_and_longer_waits() {
    let mut bench = dispatching(Profile::RANGES);
    for n in 1..9_u32 {
        bench.take();
        bench.closed(Link::Dispatch);
        let waited = bench.tick().as_secs();
        let expected = if n <= 5 { 1 << n..1 << (n + 1) } else { 60..120 };
        assert!(expected.contains(&waited), "{n}: {waited}");
        assert!(matches!(bench.outputs[..], [Output::Connect { link: Link::Dispatch, .. }]));
    }
}

#[test]
fn server_that_worked_is_tried_after_three_failures_of_dispatch() {
    let mut bench = ready(Profile::RANGES);
    bench.closed(Link::WebSocket);
    for _ in 0..2 {
        bench.tick();
        bench.closed(Link::Dispatch);
    }
    bench.take();
    bench.tick();
    let [Output::Connect { link: Link::WebSocket, host, port: 443, .. }] = &bench.outputs[..] else {
        panic!("{:?}", bench.outputs)
    };
    assert_eq!(host, "192.168.77.11");
    // If it has gone for good, the one that everything begins with is asked again.
    bench.closed(Link::WebSocket);
    bench.take();
    bench.tick();
    assert!(
        matches!(bench.outputs[..], [Output::Connect { link: Link::Dispatch, .. }]),
        "{:?}",
        bench.outputs
    );
}

#[test]
fn refused_dispatch_and_unknown_answers_are_failures() {
    let refused = DispatchAnswer::Refused { error: 400, reason: Text::new("no").unwrap() };
    let body = r#"{"error":0,"IP":"a","port":"443"}"#;
    let text_port = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for (profile, bytes, expected) in [
        (Profile::RANGES, &refused.to_http()[..], State::Dispatching),
        (Profile::RANGES, b"HTTP/1.1 302 Found\r\n", State::Dispatching),
        (Profile::RANGES, text_port.as_bytes(), State::Opening),
        (Profile::LATER, text_port.as_bytes(), State::Dispatching),
    ] {
        let mut bench = dispatching(profile);
        bench.tick();
        bench.take();
        bench.input(Link::Dispatch, bytes);
        assert_eq!(bench.outputs[0], Output::Close(Link::Dispatch));
        assert_eq!(bench.device.state(), expected, "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn device_that_checks_certificates_goes_no_further_than_the_handshake() {
    let mut bench = dispatching(Profile::PINNED);
    assert_eq!(bench.outputs.last(), Some(&Output::Close(Link::Dispatch)));
    assert_eq!(bench.device.state(), State::Dispatching);
    bench.take();
    bench.tick();
    assert!(matches!(bench.outputs[..], [Output::Connect { tls: true, .. }]));
    let plain = dispatching(Profile { plain: true, ..Profile::PINNED });
    assert!(matches!(plain.outputs.last(), Some(Output::Connect { tls: false, .. })));
}

#[test]
fn unregistered_device_begins_again_after_a_minute() {
    for mut bench in [opening(Profile::RANGES), registering(Profile::RANGES)] {
        let opened = bench.now;
        while bench.device.state() != State::Dispatching {
            bench.tick();
            if bench.device.state() == State::Registering {
                bench.input(Link::WebSocket, &PONG);
            }
        }
        assert_eq!(bench.now - opened, limits::REGISTRATION);
        assert_eq!(bench.outputs.last(), Some(&Output::Close(Link::WebSocket)));
    }
}

#[test]
fn register_answer_needs_a_key_of_its_own() {
    let mut bench = registering(Profile::RANGES);
    let [DeviceBody::Register(register)] = &bench.said()[..] else { panic!() };
    assert_eq!(register.model, MODEL);
    let id = identity().device_id;
    for (id, key) in [
        (id.as_str(), factory_key().expose()),
        (id.as_str(), "short"),
        ("1000abcdee", session_key().expose()),
    ] {
        bench.send_json(&format!(
            r#"{{"error":0,"deviceid":"{id}","apikey":"{key}","config":{{"hb":1,"hbInterval":9}}}}"#
        ));
        assert_eq!(bench.device.state(), State::Registering, "{id} {key}");
    }
    bench.send(None, ServerBody::Registered { hb_interval: 145 });
    assert_eq!(bench.said(), [DeviceBody::Date]);
    assert_eq!(bench.device.session_key(), Some(&session_key()));
}

#[test]
fn rejected_device_registers_again_with_the_factory_key() {
    let reject = |error: u16, key: &ApiKey, more: &str| {
        format!(r#"{{"error":{error},"deviceid":"1000abcdef","apikey":"{}"{more}}}"#, key.expose())
    };
    let mut bench = ready(Profile::RANGES);
    bench.send_json(&reject(403, &session_key(), ""));
    bench.send_json(&reject(404, &session_key(), ""));
    assert_eq!(bench.device.state(), State::Ready);
    bench.send_json(&reject(404, &factory_key(), ""));
    assert_eq!(bench.device.state(), State::Registering);
    let waited = bench.tick();
    assert!((2..4).contains(&waited.as_secs()), "{waited:?}");
    assert!(matches!(bench.said()[..], [DeviceBody::Register(_)]));
    bench.send_json(&reject(404, &factory_key(), r#","regInterval":15"#));
    assert_eq!(bench.tick(), 15 * SECOND);
}

#[test]
fn without_a_whole_date_there_is_no_update() {
    let mut bench = dating(Profile::RANGES);
    bench.said();
    bench.send(None, ServerBody::Answer { error: 0 });
    let key = session_key();
    bench.send_json(&format!(
        r#"{{"error":0,"deviceid":"1000abcdef","apikey":"{}","date":"2026-11-21T03:48:33Z"}}"#,
        key.expose()
    ));
    assert_eq!((bench.device.state(), bench.said()), (State::Dating, vec![]));
    bench.send(None, ServerBody::Date { date: Date::from_unix_milliseconds(0) });
    assert_eq!(bench.device.state(), State::Ready);
    assert!(matches!(bench.said()[..], [DeviceBody::Update(_)]));
    bench.send(None, ServerBody::Answer { error: 0 });
    assert!(matches!(bench.said()[..], [DeviceBody::Query { .. }]));
    bench.send(None, ServerBody::NothingKnown);
    assert_eq!(bench.said(), []);
}

#[test]
fn date_is_asked_for_again_after_half_an_hour() {
    let mut bench = dating(Profile::RANGES);
    bench.said();
    let asked = bench.now;
    bench.send(None, ServerBody::Date { date: Date::from_unix_milliseconds(0) });
    bench.said();
    while bench.said() != [DeviceBody::Date] {
        bench.tick();
        bench.input(Link::WebSocket, &PONG);
    }
    assert_eq!(bench.now - asked, limits::DATE_INTERVAL);
}

#[test]
fn two_pings_without_an_answer_end_the_connection() {
    let mut bench = ready(Profile::RANGES);
    for _ in 0..2 {
        let waited = bench.tick();
        assert!((145..152).contains(&waited.as_secs()), "{waited:?}");
        let [Output::Send { bytes, .. }] = &bench.take()[..] else { panic!() };
        assert_eq!(bytes, &[0x89, 0x80, 0, 0, 0, 0]);
    }
    bench.tick();
    assert_eq!(bench.take(), [Output::Close(Link::WebSocket)]);
    let mut bench = ready(Profile::RANGES);
    for _ in 0..5 {
        bench.tick();
        bench.input(Link::WebSocket, &PONG);
    }
    assert_eq!(bench.device.state(), State::Ready);
    // Pings and close frames of a server mean nothing.
    bench.take();
    bench.input(Link::WebSocket, &[0x89, 0, 0x88, 2, 3, 0xe8]);
    assert_eq!((bench.take(), bench.device.state()), (vec![], State::Ready));
}

#[test]
fn message_that_does_not_end_is_awaited_for_ten_seconds() {
    let mut bench = ready(Profile::RANGES);
    bench.input(Link::WebSocket, &[0x81, 20, b'{']);
    assert_eq!(bench.tick(), limits::PACKET);
    assert_eq!(bench.take(), [Output::Close(Link::WebSocket)]);
}

#[test]
fn requests_are_acknowledged_by_their_sequence() {
    let mut bench = ready(Profile::RANGES);
    let switches = Switches::One(Switch::On);
    bench.send(Some("12"), ServerBody::Update { switches: switches.clone() });
    assert_eq!(bench.outputs[0], Output::Switch(switches));
    assert_eq!(bench.said(), [result(0, Some("12"))]);
    bench.send(Some("13"), ServerBody::Notify { hb_interval: 30 });
    assert_eq!(bench.said(), [result(0, None)]);
    assert!((30..37).contains(&bench.tick().as_secs()));
    bench.said();
    bench.send(Some("14"), ServerBody::Restart);
    assert_eq!(bench.said(), [], "only later firmware knows that");
    let ip = ServerName::new("10.0.0.9").unwrap();
    bench.send(Some("15"), ServerBody::Redirect { ip, port: 1 });
    assert_eq!(bench.said(), [result(0, None)]);
    let waited = bench.tick();
    assert!((2..4).contains(&waited.as_secs()));
    let [Output::Close(Link::WebSocket), Output::Connect { link: Link::WebSocket, host, port: 1, .. }] =
        &bench.outputs[..]
    else {
        panic!("{:?}", bench.outputs)
    };
    assert_eq!(host, "10.0.0.9");
}

#[test]
fn later_firmware_tells_what_it_is_asked_for() {
    let query = |names: &[&str]| ServerBody::QueryDevice {
        params: names.iter().map(|name| Text::new(name).unwrap()).collect(),
    };
    let mut bench = ready(Profile::LATER);
    bench.send(Some("16"), query(&["switch", "fwVersion", "unknown"]));
    let state = Update {
        switches: Some(Switches::One(Switch::Off)),
        fw_version: Some(identity().rom_version),
        ..Update::default()
    };
    let sequence = Text::new("16").ok();
    assert_eq!(bench.said(), [DeviceBody::State { sequence, state }]);
    let mut bench = ready(Profile::RANGES);
    bench.send(Some("16"), query(&["switch"]));
    assert_eq!(bench.said(), []);
}

#[test]
fn messages_of_others_and_with_empty_values_are_dropped() {
    let update = |id: &str, key: &ApiKey, extra: &str| {
        let key = key.expose();
        format!(
            r#"{{"action":"update","deviceid":"{id}","apikey":"{key}","sequence":"1","params":{{"switch":"on"}}{extra}}}"#
        )
    };
    let (id, key) = ("1000abcdef", session_key());
    for (profile, json, taken) in [
        (Profile::RANGES, update(id, &key, ""), true),
        (Profile::RANGES, update("1000abcdee", &key, ""), false),
        (Profile::RANGES, update(id, &factory_key(), ""), false),
        (Profile::RANGES, update(id, &key, r#","timers":[]"#), true),
        (Profile::LATER, update(id, &key, r#","timers":[]"#), false),
        (Profile::LATER, update(id, &key, r#","timers":0"#), true),
        (Profile::LATER, "{".to_owned(), false),
    ] {
        let mut bench = ready(profile);
        bench.send_json(&json);
        assert_eq!(!bench.said().is_empty(), taken, "{json}");
        assert_eq!(bench.device.state(), State::Ready);
    }
}
