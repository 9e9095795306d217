//! Whatever else comes over the network: refused with a reason, bounded, and without a trace on the devices.

use super::client::{Bench, FACTORY_KEY, HOST, ID, MODEL, SESSION_KEY, Sent, id};
use core::time::Duration;
use spark_ota::sonoff::frame::{PONG, device_ping, device_text};
use spark_ota::sonoff::http::sign;
use spark_ota::sonoff::server::{Config, ConnectionId, Event, Presence, Rejection, Report, SILENCE};
use spark_ota::sonoff::{ApiKey, DeviceId, handshake};

fn rejections(bench: &mut Bench) -> Vec<Rejection> {
    bench
        .reports
        .drain(..)
        .filter_map(|report| if let Report::Rejected { why, .. } = report { Some(why) } else { None })
        .collect()
}

fn dispatch(key: &str) -> String {
    let body = format!(
        r#"{{"accept":"ws;2","version":2,"ts":933,"deviceid":"{ID}","apikey":"{key}","model":"{MODEL}","romVersion":"1.5.5"}}"#
    );
    format!("POST /dispatch/device HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn only_offered_paths_are_served() {
    let mut bench = Bench::new(Config::default());
    for path in [
        "/",
        "/ota",
        "/ota/",
        "/ota/user3.bin",
        "/ota/../ota/user1.bin",
        "/ota/./user1.bin",
        "//ota/user1.bin",
        "/ota//user1.bin",
        "/ota/%75ser1.bin",
        "/ota/%2e%2e/ota/user1.bin",
        "/ota/user1.bin%00",
        "/ota/user1.bin/",
        "/OTA/USER1.BIN",
        "/etc/passwd",
        "/../../etc/passwd",
        "/ota/..%2f..%2fetc%2fpasswd",
        "/ota\\user1.bin",
    ] {
        let (status, sent) = bench.ask(&format!("GET {path} HTTP/1.1\r\n\r\n"));
        assert_eq!((status, sent.len()), (404, 1), "{path}");
        assert!(matches!(&rejections(&mut bench)[..], [Rejection::NotFound { .. }]), "{path}");
    }
    for target in ["http://evil/ota/user1.bin", "*", "user1.bin"] {
        assert_eq!(bench.ask(&format!("GET {target} HTTP/1.1\r\n\r\n")).0, 400, "{target}");
    }
    for (request, expected) in [
        ("DELETE /ota/user1.bin HTTP/1.1\r\n\r\n", 405),
        ("GET /dispatch/device HTTP/1.1\r\n\r\n", 405),
        ("POST /api/ws HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405),
        ("GET /api/ws HTTP/1.1\r\n\r\n", 400),
        ("GET /ota/user1.bin HTTP/1.1\r\n\r\n", 200),
        ("GET /ota/user1.bin HTTP/1.1\r\nRange: bytes=0-4095\r\n\r\n", 206),
        ("GET /ota/user1.bin HTTP/1.1\r\nRange: bytes=0-99999\r\n\r\n", 206),
        ("GET /ota/user1.bin HTTP/1.1\r\nRange: bytes=10000-\r\n\r\n", 416),
        ("GET /ota/user1.bin HTTP/1.1\r\nRange: bytes=0-1,4-5\r\n\r\n", 416),
    ] {
        assert_eq!(bench.ask(request).0, expected, "{request}");
    }
    for (request, allow) in
        [("DELETE /ota/user1.bin", "GET, HEAD"), ("GET /dispatch/device", "POST"), ("POST /api/ws", "GET")]
    {
        let (_, sent) = bench.ask(&format!("{request} HTTP/1.1\r\nContent-Length: 0\r\n\r\n"));
        let Some(Sent::Bytes(head)) = sent.first() else { panic!("{sent:?}") };
        let head = String::from_utf8_lossy(head);
        assert!(head.contains(&format!("\r\nAllow: {allow}\r\n")), "{head}");
    }
}

#[test]
fn what_is_no_request_is_answered_and_closed() {
    let mut bench = Bench::new(Config::default());
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(5000));
    let headers = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(40));
    for (request, expected) in [
        ("\x16\x03\x01 no HTTP\r\n\r\n", 400),
        ("GET / SPDY/3\r\n\r\n", 400),
        ("POST /dispatch/device HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        ("POST /dispatch/device HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding:\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST /dispatch/device HTTP/1.1\r\nContent-Length: 2049\r\n\r\n", 413),
        (&long, 431),
        (&headers, 431),
    ] {
        let (status, sent) = bench.ask(request);
        assert_eq!((status, sent.last()), (expected, Some(&Sent::Finish)), "{request}");
        assert!(matches!(&rejections(&mut bench)[..], [Rejection::Request(_)]));
    }
}

#[test]
fn dispatch_needs_a_right_body_and_always_the_same_key() {
    let mut bench = Bench::new(Config::default());
    let body = |sent: &[Sent]| match &sent[0] {
        Sent::Bytes(bytes) => {
            String::from_utf8(bytes.clone()).unwrap().split("\r\n\r\n").nth(1).unwrap().to_owned()
        }
        other => panic!("{other:?}"),
    };
    let (status, sent) = bench.ask(&dispatch(FACTORY_KEY));
    let good = format!(r#"{{"error":0,"reason":"ok","IP":"{HOST}","port":8443}}"#);
    assert_eq!((status, body(&sent)), (200, good));
    assert_eq!(bench.events(), [Event::Dispatched]);
    // Anybody can ask that. The key of who has registered counts.
    let other = dispatch(&FACTORY_KEY.replace('1', "2"));
    assert_eq!(&body(&bench.ask(&other).1)[..10], r#"{"error":0"#);
    bench.ready();
    bench.reports.clear();
    let (status, sent) = bench.ask(&other);
    assert_eq!((status, &body(&sent)[..12]), (200, r#"{"error":400"#));
    assert_eq!(rejections(&mut bench), [Rejection::WrongKey { device_id: id() }]);
    let broken = dispatch(FACTORY_KEY).replace("deviceid", "device_i");
    assert_eq!(&body(&bench.ask(&broken).1)[..12], r#"{"error":400"#);
    assert!(matches!(&rejections(&mut bench)[..], [Rejection::Dispatch(_)]));
    // However it is cut.
    let connection = bench.connect();
    for byte in dispatch(FACTORY_KEY).bytes() {
        let sent = bench.input(connection, &[byte]);
        assert!(sent.is_empty() || byte == b'}');
    }
}

#[test]
fn register_with_another_key_does_not_disturb_the_device() {
    let mut bench = Bench::new(Config::default());
    let honest = bench.ready();
    let stranger = bench.websocket();
    let json = format!(
        r#"{{"userAgent":"device","apikey":"{}","deviceid":"{ID}","action":"register","romVersion":"1.5.5","model":"{MODEL}"}}"#,
        FACTORY_KEY.replace('1', "9")
    );
    bench.reports.clear();
    bench.service.handle_input(bench.now, stranger, &device_text(&json, [0; 4]).unwrap());
    assert_eq!(bench.drain(stranger), [Sent::Close]);
    assert_eq!(rejections(&mut bench), [Rejection::WrongKey { device_id: id() }]);
    assert_eq!(bench.service.session(&id()).unwrap().presence(), Presence::Ready);
    assert_eq!(bench.act(honest, r#""action":"date""#).len(), 1);
    // The same with a message: a foreign key is refused, an other device's message too.
    let json = format!(r#"{{"apikey":"{}","deviceid":"{ID}","action":"date"}}"#, "x".repeat(36));
    assert_eq!(bench.say(honest, &json)[0]["error"], 400);
    assert!(bench.events().contains(&Event::WrongKey));
    let json = format!(r#"{{"apikey":"{SESSION_KEY}","deviceid":"1000abcdee","action":"date"}}"#);
    assert!(bench.say(honest, &json).is_empty());
    assert!(matches!(&rejections(&mut bench)[..], [Rejection::OtherDevice { .. }]));
}

#[test]
fn newest_connection_is_the_devices() {
    let mut bench = Bench::new(Config::default());
    let first = bench.ready();
    let second = bench.ready();
    assert_eq!(bench.drain(first), [Sent::Close]);
    assert_eq!(bench.service.session(&id()).unwrap().presence(), Presence::Ready);
    assert_eq!(bench.act(second, r#""action":"date""#).len(), 1);
}

#[test]
fn broken_frames_and_messages() {
    for bytes in [&[0x81, 0x00][..], &[0x82, 0x80], &[0x01, 0x80], &[0x81, 0xff], &[0xc1, 0x80]] {
        let mut bench = Bench::new(Config::default());
        let connection = bench.ready();
        let mut frame = bytes.to_vec();
        frame.resize(20, 0);
        assert_eq!(bench.input(connection, &frame).last(), Some(&Sent::Close), "{bytes:x?}");
        assert!(matches!(&rejections(&mut bench)[..], [Rejection::Frame(_)]));
        assert_eq!(bench.service.session(&id()).unwrap().presence(), Presence::Away);
    }
    let mut bench = Bench::new(Config::default());
    let connection = bench.ready();
    for json in ["", "{", "[]", "{}", r#"{"deviceid":"1000abcdef"}"#, r#"{"action":"date"}"#] {
        bench.reports.clear();
        assert_eq!(bench.say(connection, json)[0]["error"], 400, "{json}");
        assert!(matches!(&rejections(&mut bench)[..], [Rejection::Message(_)]), "{json}");
    }
    assert_eq!(bench.act(connection, r#""action":"date""#).len(), 1, "nothing is lost by that");
    // Fields that can be done without may be anything.
    for rest in [
        r#""action":"update","params":{"switch":"","rssi":-50.5,"startup":"a very long word","fwVersion":2}"#,
        r#""action":"update","params":{"switches":{},"power":[]}"#,
        r#""action":"update","params":[]"#,
        r#""action":"update""#,
    ] {
        assert_eq!(bench.act(connection, rest)[0]["error"], 0, "{rest}");
    }
}

#[test]
fn pings_are_answered_and_silence_ends_the_connection() {
    let mut bench = Bench::new(Config::default());
    let connection = bench.ready();
    for _ in 0..5 {
        assert!(bench.pass(connection, SILENCE - Duration::from_millis(1)).is_empty());
        assert_eq!(bench.input(connection, &device_ping([0; 4])), [Sent::Bytes(PONG.to_vec())]);
    }
    assert_eq!(bench.pass(connection, SILENCE), [Sent::Close]);
    assert!(rejections(&mut bench).contains(&Rejection::Silent));
    assert_eq!(bench.service.session(&id()).unwrap().presence(), Presence::Away);
    // Who never registers is not waited for, whatever pings it sends.
    let connection = bench.websocket();
    for _ in 0..9 {
        bench.pass(connection, Duration::from_secs(1));
        bench.input(connection, &device_ping([0; 4]));
    }
    assert_eq!(bench.pass(connection, Duration::from_secs(1)), [Sent::Close]);
}

#[test]
fn slow_heads_and_idle_connections_end() {
    let mut bench = Bench::new(Config::default());
    let empty = bench.connect();
    assert_eq!(bench.pass(empty, Duration::from_secs(10)), [Sent::Close]);
    let slow = bench.connect();
    for _ in 0..9 {
        bench.pass(slow, Duration::from_secs(1));
        bench.input(slow, b"G");
    }
    assert_eq!(bench.pass(slow, Duration::from_secs(11)).last(), Some(&Sent::Close));
    // Who finds nothing is waited for no longer than one who says nothing.
    for (request, seconds) in
        [("GET /x HTTP/1.1\r\n\r\n", 10), ("GET /ota/user1.bin HTTP/1.1\r\nRange: bytes=0-4095\r\n\r\n", 120)]
    {
        let idle = bench.connect();
        bench.input(idle, request.as_bytes());
        assert!(bench.pass(idle, Duration::from_secs(seconds - 1)).is_empty(), "{request}");
        assert_eq!(bench.pass(idle, Duration::from_secs(1)), [Sent::Close], "{request}");
    }
}

#[test]
fn signatures_are_checked_if_that_is_wanted() {
    let key = ApiKey::new(FACTORY_KEY).unwrap();
    let get = |id: &str, sign: &str| {
        format!("GET /ota/user2.bin?deviceid={id}&ts=7&sign={sign} HTTP/1.1\r\nRange: bytes=0-4095\r\n\r\n")
    };
    let right = sign(ID, "7", &key);
    for (check_sign, request, expected) in [
        (true, get(ID, right.as_str()), 206),
        (true, get(ID, &"0".repeat(64)), 403),
        (true, get("1000abcdee", &"0".repeat(64)), 403),
        (true, "GET /ota/user2.bin HTTP/1.1\r\nRange: bytes=0-4095\r\n\r\n".to_owned(), 403),
        (true, "GET /ota/image_arduino.bin HTTP/1.1\r\nRange: bytes=0-4095\r\n\r\n".to_owned(), 206),
        (false, get(ID, &"0".repeat(64)), 206),
    ] {
        let mut bench = Bench::new(Config { check_sign, ..Config::default() });
        bench.ready();
        assert_eq!(bench.ask(&request).0, expected, "{check_sign} {request}");
        assert_eq!(rejections(&mut bench).contains(&Rejection::NotSigned), expected == 403);
    }
}

#[test]
fn signed_download_is_the_devices_from_whatever_address() {
    let mut bench = Bench::new(Config::default());
    let socket = bench.ready();
    bench.offer(socket);
    let right = sign(ID, "7", &ApiKey::new(FACTORY_KEY).unwrap());
    for (sign, code) in [("0".repeat(64), "offered"), (right.to_string(), "downloading")] {
        let relay = bench.connect_from([10, 0, 0, 7], SESSION_KEY);
        let request = format!(
            "GET /ota/user2.bin?deviceid={ID}&ts=7&sign={sign} HTTP/1.1\r\nRange: bytes=0-4095\r\n\r\n"
        );
        bench.input(relay, request.as_bytes());
        assert_eq!(bench.service.session(&id()).unwrap().stage().unwrap().code(), code);
    }
}

#[test]
fn connections_and_devices_are_bounded() {
    let config = Config { max_connections: 3, max_devices: 2, ..Config::default() };
    let mut bench = Bench::new(config);
    let connections: Vec<ConnectionId> = (0..3).map(|_| bench.connect()).collect();
    let key = ApiKey::new(SESSION_KEY).unwrap();
    let refused = bench.service.connected(bench.now, [10, 0, 0, 1].into(), key.clone(), HOST, 1);
    assert_eq!(refused, Err(Rejection::TooManyConnections));
    for connection in connections {
        bench.service.closed(bench.now, connection, true);
    }
    assert!(matches!(
        bench.service.connected(bench.now, [10, 0, 0, 1].into(), key, &"x".repeat(51), 1),
        Err(Rejection::Host(_))
    ));
    // The one that was away longest makes room; one that is there does not.
    let other = |id: &str| dispatch(FACTORY_KEY).replace(ID, id);
    bench.ask(&other("1000000001"));
    bench.now += Duration::from_secs(1);
    bench.ask(&other("1000000002"));
    bench.now += Duration::from_secs(20);
    bench.service.handle_deadline(bench.now);
    bench.ask(&other("1000000003"));
    let known = |bench: &Bench| {
        bench.service.sessions().map(|session| session.device_id().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(known(&bench), ["1000000002", "1000000003"]);
    assert!(bench.service.session(&DeviceId::new("1000000001").unwrap()).is_none());
}

#[test]
fn endless_input_is_not_kept() {
    let mut bench = Bench::new(Config::default());
    let connection = bench.connect();
    let request = "GET /ota/user2.bin HTTP/1.1\r\n\r\n";
    // A body that nobody takes, and requests behind it.
    bench.service.handle_input(bench.now, connection, request.as_bytes());
    let mut closed = false;
    for _ in 0..1000 {
        bench.service.handle_input(bench.now, connection, request.as_bytes());
    }
    while let Some(output) = bench.service.poll_output(bench.now, connection) {
        closed |= output == spark_ota::sonoff::server::Output::Close;
    }
    assert!(closed);
    let connection = bench.websocket();
    bench.service.handle_input(bench.now, connection, &vec![0x89; 1 << 20]);
    assert_eq!(bench.drain(connection).last(), Some(&Sent::Close));
}

#[test]
fn first_message_may_come_with_the_handshake() {
    let mut bench = Bench::new(Config::default());
    let connection = bench.connect();
    let mut bytes = handshake::request();
    let json = format!(
        r#"{{"apikey":"{FACTORY_KEY}","deviceid":"{ID}","action":"register","romVersion":"1.5.5","model":"{MODEL}"}}"#
    );
    bytes.extend(device_text(&json, [1, 2, 3, 4]).unwrap());
    let sent = bench.input(connection, &bytes);
    assert_eq!(super::client::messages(&sent).len(), 1);
    assert_eq!(bench.service.session(&id()).unwrap().presence(), Presence::Registered);
}
