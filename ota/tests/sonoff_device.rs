//! The device machine: every state against every event, and every limit of real devices.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

use core::time::Duration;
use serde_json::Value;
use sha2::{Digest, Sha256};
use spark_ota::sonoff::device::{Device, Identity, Link, Output, Profile, State};
use spark_ota::sonoff::dispatch::{DispatchAnswer, DispatchRequest};
use spark_ota::sonoff::frame::{Decoded, End, Frame, PONG, decode, server_text};
use spark_ota::sonoff::http::{Pace, Request, RequestHead, answer};
use spark_ota::sonoff::message::{
    Date, DeviceBody, DeviceMessage, Entry, ServerBody, ServerMessage, Switch, Switches, Upgrade,
};
use spark_ota::sonoff::provisioning::Access;
use spark_ota::sonoff::upgrade::Slot;
use spark_ota::sonoff::{ApiKey, DeviceId, Model, Sequence, ServerName, Text, Version, handshake, limits};

const NOW: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);
const MODEL: &str = "ITA-GZ1-GL";

fn factory_key() -> ApiKey {
    ApiKey::new("11111111-2222-4333-8444-555555555555").unwrap()
}

fn session_key() -> ApiKey {
    ApiKey::from_random([7; 16])
}

fn access() -> Access {
    Access::new("testnet", "secret-123", "192.168.77.10", 8443).unwrap()
}

fn identity() -> Identity {
    Identity {
        device_id: DeviceId::new("1000abcdef").unwrap(),
        factory_key: factory_key(),
        model: Model::new(MODEL).unwrap(),
        rom_version: Version::new("1.5.5").unwrap(),
        running: Slot::User1,
    }
}

fn image() -> Vec<u8> {
    (0..10_000u32).map(|i| (i * 7 % 251) as u8).collect()
}

/// A device and what has come out of it.
struct Bench {
    device: Device,
    now: Duration,
    outputs: Vec<Output>,
}

impl Bench {
    fn new(device: Device) -> Self {
        let mut bench = Self { device, now: NOW, outputs: Vec::new() };
        bench.drain();
        bench
    }

    fn drain(&mut self) {
        while let Some(output) = self.device.poll_output() {
            self.outputs.push(output);
        }
    }

    fn input(&mut self, link: Link, bytes: &[u8]) {
        self.device.handle_input(self.now, link, bytes);
        self.drain();
    }

    fn connected(&mut self, link: Link) {
        self.device.connected(self.now, link);
        self.drain();
    }

    fn closed(&mut self, link: Link) {
        self.device.closed(self.now, link);
        self.drain();
    }

    /// To the next deadline.
    fn tick(&mut self) -> Duration {
        let deadline = self.device.next_deadline().expect("a deadline");
        self.device.handle_deadline(deadline.saturating_sub(Duration::from_millis(1)));
        assert_eq!(self.device.poll_output(), None, "too early");
        let waited = deadline.saturating_sub(self.now);
        self.now = self.now.max(deadline);
        self.device.handle_deadline(self.now);
        self.drain();
        waited
    }

    fn send(&mut self, sequence: Option<&str>, body: ServerBody) {
        let message = ServerMessage {
            device_id: identity().device_id,
            api_key: session_key(),
            sequence: sequence.map(|text| Sequence::new(text).unwrap()),
            body,
        };
        self.send_json(&message.to_json().unwrap());
    }

    fn send_json(&mut self, json: &str) {
        self.input(Link::WebSocket, &server_text(json).unwrap());
    }

    /// Messages that were sent since the last call.
    fn said(&mut self) -> Vec<DeviceBody> {
        let mut said = Vec::new();
        for output in core::mem::take(&mut self.outputs) {
            if let Output::Send { link: Link::WebSocket, bytes } = &output
                && let Ok(Decoded::Frame { frame: Frame::Text(json), .. }) = decode(End::Device, bytes)
            {
                said.push(DeviceMessage::parse(&json).unwrap().body);
            }
        }
        said
    }

    fn take(&mut self) -> Vec<Output> {
        core::mem::take(&mut self.outputs)
    }

    fn gets(&mut self) -> Vec<RequestHead> {
        self.take()
            .into_iter()
            .filter_map(|output| match output {
                Output::Send { link: Link::Download, bytes } => {
                    Some(RequestHead::parse(&bytes).unwrap().unwrap().0)
                }
                _ => None,
            })
            .collect()
    }
}

fn joining(profile: Profile) -> Bench {
    Bench::new(Device::with_access(NOW, identity(), profile, access()))
}

fn dispatching(profile: Profile) -> Bench {
    let mut bench = joining(profile);
    bench.device.joined(NOW, true);
    bench.drain();
    bench.connected(Link::Dispatch);
    bench
}

fn opening(profile: Profile) -> Bench {
    let mut bench = dispatching(profile);
    assert_eq!(bench.tick(), limits::DISPATCH_DELAY);
    let server = DispatchAnswer::Server { ip: ServerName::new("192.168.77.11").unwrap(), port: 443 };
    bench.input(Link::Dispatch, &server.to_http());
    bench.connected(Link::WebSocket);
    bench
}

fn registering(profile: Profile) -> Bench {
    let mut bench = opening(profile);
    let (head, _) = RequestHead::parse(&handshake::request()).unwrap().unwrap();
    bench.input(Link::WebSocket, &handshake::answer(&head).unwrap());
    bench
}

fn dating(profile: Profile) -> Bench {
    let mut bench = registering(profile);
    bench.send(None, ServerBody::Registered { hb_interval: 145 });
    bench
}

fn ready(profile: Profile) -> Bench {
    let mut bench = dating(profile);
    bench.send(None, ServerBody::Date { date: Date::from_unix_milliseconds(0) });
    bench.said();
    bench
}

fn entry(slot: Slot) -> Entry {
    Entry {
        name: Text::new(slot.file_name()).unwrap(),
        download_url: Text::new(&format!("http://192.168.77.10:8080/ota/{}", slot.file_name())).unwrap(),
        digest: Text::new(&hex::encode(Sha256::digest(image()))).unwrap(),
    }
}

fn upgrade() -> Upgrade {
    Upgrade {
        model: Model::new(MODEL).unwrap(),
        version: Version::new("9.9.9").unwrap(),
        auto_restart: Some(true),
        bin_list: Slot::ALL.map(entry).to_vec(),
    }
}

fn upgrading(profile: Profile) -> Bench {
    let mut bench = ready(profile);
    bench.send(Some("7"), ServerBody::Upgrade(upgrade()));
    bench.tick();
    bench.connected(Link::Download);
    bench
}

/// Answers the request for a chunk as our server does it.
fn serve(bench: &mut Bench, get: &RequestHead) {
    let image = image();
    let answer = answer(get, u32::try_from(image.len()).unwrap(), "user2.bin");
    let body = &image[answer.body.start as usize..answer.body.end as usize];
    let bytes = [&answer.head[..], body].concat();
    bench.input(Link::Download, &bytes);
}

fn verifying(profile: Profile) -> Bench {
    let mut bench = upgrading(profile);
    for _ in 0..3 {
        let gets = bench.gets();
        serve(&mut bench, &gets[0]);
    }
    bench
}

fn hashed(bench: &mut Bench) {
    bench.device.hashed(bench.now, Sha256::digest(image()).into());
    bench.drain();
}

fn rebooting(profile: Profile) -> Bench {
    let mut bench = verifying(profile);
    hashed(&mut bench);
    bench
}

fn off() -> Bench {
    let mut bench = rebooting(Profile::RANGES);
    bench.tick();
    bench
}

fn pairing() -> Bench {
    Bench::new(Device::pairing(NOW, identity(), Profile::RANGES))
}

fn result(error: u16, sequence: Option<&str>) -> DeviceBody {
    DeviceBody::Result { error, sequence: sequence.map(|text| Text::new(text).unwrap()) }
}

#[test]
fn every_state_takes_every_event_and_only_those_that_belong_to_it_change_it() {
    type Make = fn() -> Bench;
    let states: [(State, Make); 11] = [
        (State::Pairing, pairing),
        (State::Joining, || joining(Profile::RANGES)),
        (State::Dispatching, || dispatching(Profile::RANGES)),
        (State::Opening, || opening(Profile::RANGES)),
        (State::Registering, || registering(Profile::RANGES)),
        (State::Dating, || dating(Profile::RANGES)),
        (State::Ready, || ready(Profile::RANGES)),
        (State::Upgrading, || upgrading(Profile::RANGES)),
        (State::Verifying, || verifying(Profile::RANGES)),
        (State::Rebooting, || rebooting(Profile::RANGES)),
        (State::Off, off),
    ];
    type Event = fn(&mut Bench);
    let events: [(&str, Event); 13] = [
        ("joined", |bench| bench.device.joined(bench.now, true)),
        ("not joined", |bench| bench.device.joined(bench.now, false)),
        ("dispatch connected", |bench| bench.connected(Link::Dispatch)),
        ("dispatch closed", |bench| bench.closed(Link::Dispatch)),
        ("socket connected", |bench| bench.connected(Link::WebSocket)),
        ("socket closed", |bench| bench.closed(Link::WebSocket)),
        ("download connected", |bench| bench.connected(Link::Download)),
        ("download closed", |bench| bench.closed(Link::Download)),
        ("nonsense from the dispatcher", |bench| bench.input(Link::Dispatch, b"nonsense")),
        ("nonsense on the socket", |bench| bench.input(Link::WebSocket, &[0xff; 3000])),
        ("nonsense as image", |bench| bench.input(Link::Download, b"nonsense")),
        ("nonsense at the access point", |bench| bench.input(Link::AccessPoint, b"GET / HTTP/1.1\r\n\r\n")),
        ("hash", |bench| bench.device.hashed(bench.now, [0; 32])),
    ];
    for (state, make) in states {
        for (event, happens) in events {
            let mut bench = make();
            assert_eq!(bench.device.state(), state);
            happens(&mut bench);
            bench.drain();
            let expected = match (state, event) {
                (State::Joining, "joined") => State::Dispatching,
                (
                    State::Opening | State::Registering | State::Dating | State::Ready,
                    "socket closed" | "nonsense on the socket",
                ) => State::Dispatching,
                (State::Upgrading, "nonsense as image") | (State::Verifying, "hash") => State::Ready,
                _ => state,
            };
            assert_eq!(bench.device.state(), expected, "{event} in {state:?}");
        }
    }
}

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

#[test]
fn each_fault_of_an_upgrade_has_its_code() {
    let code = |profile: Profile, change: &dyn Fn(&mut Upgrade)| {
        let mut bench = ready(profile);
        let mut upgrade = upgrade();
        change(&mut upgrade);
        bench.send(Some("7"), ServerBody::Upgrade(upgrade));
        match bench.said()[..] {
            [DeviceBody::Result { error, sequence }] => {
                assert_eq!(sequence.unwrap(), "7");
                Some(error)
            }
            _ => None,
        }
    };
    let later = Profile::LATER;
    assert_eq!(code(later, &|_| {}), Some(0), "accepted");
    assert_eq!(code(Profile::RANGES, &|_| {}), None, "not answered yet");
    assert_eq!(code(later, &|upgrade| upgrade.auto_restart = None), Some(400));
    assert_eq!(code(Profile::RANGES, &|upgrade| upgrade.auto_restart = None), None);
    assert_eq!(code(later, &|upgrade| upgrade.bin_list.truncate(1)), Some(400), "it runs from the first");
    assert_eq!(code(later, &|upgrade| upgrade.bin_list = vec![entry(Slot::User2)]), Some(0));
    assert_eq!(code(later, &|upgrade| upgrade.bin_list[1].digest = Text::new("ab").unwrap()), Some(400));
    assert_eq!(code(later, &|upgrade| upgrade.model = Model::new("other").unwrap()), Some(406));
    assert_eq!(code(later, &|upgrade| upgrade.version = Version::new("1.5.5").unwrap()), Some(410));
    assert_eq!(code(later, &|upgrade| upgrade.version = Version::new("1.5.55").unwrap()), Some(410));
    let https = |upgrade: &mut Upgrade| upgrade.bin_list[1].download_url = Text::new("https://a/b").unwrap();
    assert_eq!(code(later, &https), Some(404));
    for field in ["model", "version", "binList", "downloadUrl", "digest", "name"] {
        let mut bench = ready(later);
        let message = ServerMessage {
            device_id: identity().device_id,
            api_key: session_key(),
            sequence: Some(Text::new("7").unwrap()),
            body: ServerBody::Upgrade(upgrade()),
        };
        bench.send_json(&message.to_json().unwrap().replace(field, "other"));
        assert_eq!(bench.said(), [result(400, Some("7"))], "{field}");
    }
}

#[test]
fn what_is_longer_than_a_device_keeps_is_of_no_use_to_it() {
    let answered = |from: &str, to: &str| {
        let mut bench = ready(Profile::LATER);
        let message = ServerMessage {
            device_id: identity().device_id,
            api_key: session_key(),
            sequence: Some(Text::new("7").unwrap()),
            body: ServerBody::Upgrade(upgrade()),
        };
        bench.send_json(&message.to_json().unwrap().replace(from, to));
        bench.said()
    };
    let path = |length: usize| format!("/{}", "p".repeat(length - 1));
    let host = |length: usize| format!("{}:80/", "h".repeat(length));
    assert_eq!(answered("/ota/user2.bin", &path(99)), [result(0, Some("7"))]);
    assert_eq!(answered("/ota/user2.bin", &path(100)), [result(404, Some("7"))]);
    assert_eq!(answered("192.168.77.10:8080/", &host(49)), [result(0, Some("7"))]);
    assert_eq!(answered("192.168.77.10:8080/", &host(50)), [result(404, Some("7"))]);
    // 149 bytes in all, with the longest host.
    let url = |length: usize| {
        let host = format!("http://{}/", "h".repeat(49));
        format!("{host}{}", "p".repeat(length - host.len()))
    };
    let whole = "http://192.168.77.10:8080/ota/user2.bin";
    assert_eq!(answered(whole, &url(149)), [result(0, Some("7"))]);
    assert_eq!(answered(whole, &url(150)), [result(404, Some("7"))]);
    assert_eq!(answered("/ota/user2.bin", "/ota:user2.bin"), [result(404, Some("7"))]);
    assert_eq!(answered("9.9.9", &"9".repeat(40)), [result(400, Some("7"))]);
    assert_eq!(answered("\"7\"", &format!("\"{}\"", "7".repeat(50))), [result(0, Some(&"7".repeat(50)))]);
    assert_eq!(answered("\"7\"", &format!("\"{}\"", "7".repeat(51))), [result(0, None)]);
}

#[test]
fn older_firmware_closes_the_connection_on_another_model() {
    let mut bench = ready(Profile::RANGES);
    let other = Upgrade { model: Model::new("other").unwrap(), ..upgrade() };
    bench.send(Some("7"), ServerBody::Upgrade(other));
    assert_eq!(bench.take(), [Output::Close(Link::WebSocket)]);
}

#[test]
fn second_upgrade_at_once_is_passed_over() {
    for mut bench in [upgrading(Profile::LATER), verifying(Profile::LATER), rebooting(Profile::LATER)] {
        let state = bench.device.state();
        bench.said();
        bench.send(Some("8"), ServerBody::Upgrade(upgrade()));
        assert_eq!((bench.said(), bench.device.state()), (vec![], state));
    }
}

#[test]
fn image_is_asked_for_in_ranges_one_after_the_other() {
    let mut bench = upgrading(Profile::RANGES);
    for (k, range) in ["bytes=0-4095", "bytes=4096-8191", "bytes=8192-9999"].into_iter().enumerate() {
        let outputs = bench.take();
        let Some(Output::Send { link: Link::Download, bytes }) = outputs.last() else {
            panic!("{outputs:?}")
        };
        let (get, _) = RequestHead::parse(bytes).unwrap().unwrap();
        assert_eq!((get.path.as_str(), get.header("Range")), ("/ota/user2.bin", Some(range)));
        if k > 0 {
            let address = 0x8_1000 + 4096 * (u32::try_from(k).unwrap() - 1);
            assert_eq!(outputs[0], Output::Erase { address });
            assert!(
                matches!(&outputs[1], Output::Write { address: at, data } if *at == address && data.len() == 4096)
            );
        }
        serve(&mut bench, &get);
    }
    let outputs = bench.take();
    let [
        Output::Erase { .. },
        Output::Write { data, .. },
        Output::Close(Link::Download),
        Output::Hash { address: 0x8_1000, length: 10_000 },
    ] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(&data[..1808], &image()[8192..]);
    assert!(data[1808..].iter().all(|byte| *byte == 0xff));
}

#[test]
fn device_in_the_second_slot_takes_the_first_image() {
    let running = Identity { running: Slot::User2, ..identity() };
    let mut bench = Bench::new(Device::with_access(NOW, running, Profile::RANGES, access()));
    let ready = ready(Profile::RANGES).device;
    bench.device.joined(NOW, true);
    bench.connected(Link::Dispatch);
    bench.tick();
    let server = DispatchAnswer::Server { ip: ServerName::new("a").unwrap(), port: 1 };
    bench.input(Link::Dispatch, &server.to_http());
    bench.connected(Link::WebSocket);
    let (head, _) = RequestHead::parse(&handshake::request()).unwrap().unwrap();
    bench.input(Link::WebSocket, &handshake::answer(&head).unwrap());
    bench.send(None, ServerBody::Registered { hb_interval: 145 });
    bench.send(None, ServerBody::Date { date: Date::from_unix_milliseconds(0) });
    assert_eq!(bench.device.state(), ready.state());
    bench.send(Some("7"), ServerBody::Upgrade(upgrade()));
    bench.tick();
    bench.connected(Link::Download);
    let gets = bench.gets();
    assert_eq!(gets[0].path, "/ota/user1.bin");
    serve(&mut bench, &gets[0]);
    assert!(bench.outputs.contains(&Output::Erase { address: 0x1000 }));
}

#[test]
fn result_comes_once_or_after_an_acknowledgement() {
    let mut bench = rebooting(Profile::RANGES);
    assert_eq!(bench.said(), [result(0, Some("7"))]);
    assert_eq!(bench.tick(), limits::REBOOT);
    assert_eq!(bench.take(), [Output::Reboot(Slot::User2)]);
    assert_eq!(bench.device.next_deadline(), None);

    let mut bench = rebooting(Profile::LATER);
    let state = |code| DeviceBody::UpgradeState { code, sequence: Some(Text::new("7").unwrap()) };
    assert_eq!(bench.said(), [state(0)]);
    bench.tick();
    assert_eq!(bench.take(), [Output::Reboot(Slot::User2)]);

    let mut bench = verifying(Profile::LATER);
    bench.said();
    bench.device.hashed(bench.now, [0; 32]);
    bench.drain();
    assert_eq!(bench.said(), [state(409)]);
    assert_eq!((bench.device.state(), bench.device.stored()), (State::Ready, None));
}

#[test]
fn later_firmware_waits_for_restart_when_it_shall_not_by_itself() {
    let mut bench = ready(Profile::LATER);
    bench.send(Some("6"), ServerBody::Restart);
    assert_eq!(bench.said(), [result(400, Some("6"))], "there is nothing to start");
    bench.send(Some("7"), ServerBody::Upgrade(Upgrade { auto_restart: Some(false), ..upgrade() }));
    assert_eq!(bench.tick(), limits::DOWNLOAD_DELAY);
    bench.connected(Link::Download);
    for _ in 0..3 {
        let gets = bench.gets();
        serve(&mut bench, &gets[0]);
    }
    hashed(&mut bench);
    assert_eq!((bench.device.state(), bench.device.stored()), (State::Ready, Some(Slot::User2)));
    bench.said();
    bench.send(Some("8"), ServerBody::Restart);
    assert_eq!(bench.said(), [result(0, Some("8"))]);
    assert_eq!(bench.tick(), limits::REBOOT);
    assert_eq!(bench.take(), [Output::Reboot(Slot::User2)]);
}

#[test]
fn broken_download_goes_on_at_its_chunk_three_times() {
    let mut bench = upgrading(Profile::RANGES);
    let gets = bench.gets();
    serve(&mut bench, &gets[0]);
    for n in 1..=3 {
        bench.take();
        bench.input(Link::Download, b"HTTP/1.1 206 Partial Con");
        bench.closed(Link::Download);
        assert_eq!(bench.tick(), n * SECOND);
        assert!(matches!(bench.take()[..], [Output::Connect { link: Link::Download, .. }]));
        bench.connected(Link::Download);
        let gets = bench.gets();
        assert_eq!(gets[0].header("Range"), Some("bytes=4096-8191"));
    }
    bench.closed(Link::Download);
    assert_eq!(bench.said(), [result(404, Some("7"))]);
    assert_eq!(bench.device.state(), State::Ready);
}

#[test]
fn silence_and_slowness_end_a_download() {
    let mut bench = upgrading(Profile::RANGES);
    bench.take();
    assert_eq!(bench.tick(), limits::DOWNLOAD_SILENCE);
    assert_eq!(bench.outputs[0], Output::Close(Link::Download));
    assert_eq!(bench.said(), [result(404, Some("7"))]);

    let mut bench = upgrading(Profile::RANGES);
    let begun = bench.now;
    let gets = bench.gets();
    let bytes = answer(&gets[0], 10_000, "").head;
    bench.input(Link::Download, &bytes);
    while bench.device.state() == State::Upgrading {
        bench.now = (bench.now + 9 * SECOND).min(begun + limits::DOWNLOAD);
        bench.input(Link::Download, &[0]);
        bench.device.handle_deadline(bench.now);
        bench.drain();
    }
    assert_eq!(bench.now - begun, limits::DOWNLOAD);
    assert_eq!(bench.said(), [result(404, Some("7"))]);
}

#[test]
fn answers_that_the_downloader_does_not_take_end_in_404() {
    let good = String::from_utf8({
        let mut bench = upgrading(Profile::RANGES);
        answer(&bench.gets()[0], 10_000, "").head
    })
    .unwrap();
    for (from, to) in [
        ("206 Partial Content", "200 OK"),
        ("Content-Length: 4096", "Content-Length: 4095"),
        ("Content-Length: 4096", "Content-Length: 4097"),
        ("/10000", "/471041"),
        ("Accept-Ranges", &format!("ETag: {}\r\nAccept-Ranges", "e".repeat(1024))),
    ] {
        let mut bench = upgrading(Profile::RANGES);
        bench.input(Link::Download, good.replace(from, to).as_bytes());
        assert_eq!(bench.said(), [result(404, Some("7"))], "{from} -> {to}");
    }
    let mut bench = upgrading(Profile::RANGES);
    bench.input(Link::Download, good.as_bytes());
    assert_eq!(bench.said(), []);
    assert_eq!(bench.device.state(), State::Upgrading);
    bench.device.flash_failed(bench.now);
    bench.drain();
    assert_eq!(bench.said(), [result(404, Some("7"))]);
}

#[test]
fn old_downloader_takes_a_paced_file_and_no_burst() {
    let paced = |burst: usize| {
        let mut bench = upgrading(Profile::OLD);
        let gets = bench.gets();
        assert_eq!(gets[0].header("Range"), None);
        let image = image();
        let head = answer(&gets[0], 10_000, "user2.bin").head;
        bench.input(Link::Download, &head);
        for piece in image.chunks(burst) {
            bench.now += Pace::SLOW.interval;
            bench.input(Link::Download, piece);
        }
        hashed(&mut bench);
        bench.device.state()
    };
    assert_eq!(paced(Pace::SLOW.piece), State::Rebooting);
    assert_eq!(paced(10_000), State::Ready);
    let mut bench = upgrading(Profile::OLD);
    bench.said();
    bench.closed(Link::Download);
    assert_eq!(bench.said(), [result(404, Some("7"))], "it does not come again");
}

#[test]
fn download_goes_on_when_the_socket_is_lost_and_its_result_is_not_told() {
    let mut bench = upgrading(Profile::RANGES);
    bench.closed(Link::WebSocket);
    assert_eq!(bench.device.state(), State::Upgrading);
    for _ in 0..3 {
        let gets = bench.gets();
        serve(&mut bench, &gets[0]);
    }
    hashed(&mut bench);
    assert_eq!((bench.said(), bench.device.state()), (vec![], State::Rebooting));
}

#[test]
fn whatever_is_said_fits_the_limits_and_holds_no_secret_in_debug() {
    let bench = ready(Profile::LATER);
    let debug = format!("{:?}", bench.device);
    assert!(!debug.contains("secret-123") && !debug.contains("55555555"), "{debug}");
    let value: Value = serde_json::from_str(&access().to_json()).unwrap();
    assert_eq!(value["version"], 4);
}
