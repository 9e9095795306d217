//! Connections put away and taken up again, in memory and as bytes.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod pair;

use coap_spark::coap::Type;
use coap_spark::connection::{
    ConnectionError, EventLimit, ParkError, ParkedConnection, Profile, RequestKind, ServerConnection,
    ServerPolicy,
};
use coap_spark::message::{Event, FromDevice, FromServer, Name};
use coap_spark::session::ImportError;
use core::time::Duration;
use pair::{Pair, keys};
use proptest::prelude::*;

const POLICY: ServerPolicy = ServerPolicy::DEFAULT;
const SECOND: Duration = Duration::from_secs(1);

/// A server with two requests out, the second acknowledged, and the answer to the second on its way.
fn busy() -> Pair {
    let mut pair = Pair::up(Profile::V2_3_1);
    let mut out = [0; 1024];
    for name in [&b"slow"[..], b"fast"] {
        let body = FromServer::FunctionCall { name, argument: b"" };
        let sent = pair.server.request(pair.now, body, &mut out).unwrap();
        if name == b"fast" {
            pair.to_device.extend(sent.bytes);
        } else {
            pair.device.handle_input(pair.now, sent.bytes).unwrap();
            pair.device.poll_message().unwrap();
        }
    }
    let reply = pair.to_device.split_off(0);
    assert_eq!(pair.device.handle_input(pair.now, &reply), Ok(reply.len()));
    let request = coap_spark::connection::Request::of(&pair.device.poll_message().unwrap()).unwrap();
    let response =
        coap_spark::message::Response { code: coap_spark::coap::Code::CHANGED, payload: &[0, 0, 0, 7] };
    let frames = pair.device.reply(request, response, &mut out).unwrap();
    pair.to_server.extend(frames);
    pair
}

/// What is on its way arrives, and the conversation goes on in both directions.
fn goes_on(pair: &mut Pair) {
    let mut answered = Vec::new();
    for byte in core::mem::take(&mut pair.to_server) {
        assert_eq!(pair.server.handle_input(pair.now, &[byte]), Ok(1));
        if let Some(answers) = pair.server.poll_message().and_then(|message| message.answers) {
            answered.push((answers.kind, answers.is_answer));
        }
    }
    assert_eq!(answered, [(RequestKind::Function, false), (RequestKind::Function, true)]);
    assert_eq!(pair.server.waiting().count(), 1, "the slow one");
    let event = Event { name: Name::new("e"), public: true, max_age: None, data: None };
    pair.device_sends(Type::Confirmable, FromDevice::Event(event));
    pair.server_sends(FromServer::Event(event));
    let seen = pair.run();
    assert!(seen.iter().any(|line| line.starts_with("server: Event")), "{seen:?}");
    assert!(seen.iter().any(|line| line.starts_with("device: Event")), "{seen:?}");
    assert!(seen.iter().any(|line| line == "device: Ack"), "{seen:?}");
}

#[test]
fn a_parked_connection_goes_on() {
    let mut pair = busy();
    let (deadline, limits) = (pair.server.next_deadline(), pair.server.limits().copied());
    let parked = pair.server.park().unwrap();
    assert_eq!(parked.next_deadline(&POLICY), deadline);
    pair.server = parked.resume(POLICY);
    assert_eq!((pair.server.next_deadline(), pair.server.limits().copied()), (deadline, limits));
    goes_on(&mut pair);
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<ParkedConnection>() <= 512, "{}", size_of::<ParkedConnection>());
    assert!(
        !core::mem::needs_drop::<u8>() && core::mem::needs_drop::<ParkedConnection>(),
        "it zeroes its keys"
    );
}

#[test]
fn a_connection_is_exported_at_every_byte_of_a_frame_and_goes_on_elsewhere_with_another_clock() {
    let len = busy().to_server.len();
    for taken in 0..len {
        let mut pair = busy();
        let rest = pair.to_server.split_off(taken);
        let mut answered = 0;
        let mut input = &pair.to_server[..];
        while !input.is_empty() {
            let used = pair.server.handle_input(pair.now, input).unwrap();
            input = &input[used..];
            answered += usize::from(pair.server.poll_message().is_some());
        }
        let before = pair.server.next_deadline() - pair.now;
        let mut out = [0; 2048];
        let bytes = pair.server.export_into(pair.now, &mut out).unwrap();

        let now = Duration::from_secs(3);
        pair.server = ServerConnection::import(bytes, POLICY, now).unwrap();
        assert_eq!(pair.server.next_deadline() - now, before);
        pair.now = now;
        if answered == 0 {
            pair.to_server = rest;
            goes_on(&mut pair);
        } else {
            assert_eq!(pair.server.handle_input(now, &rest), Ok(rest.len()));
            let message = pair.server.poll_message().unwrap();
            assert!(message.answers.is_some_and(|answers| answers.is_answer));
        }
    }
}

#[test]
fn a_connection_with_something_to_poll_is_not_put_away() {
    let mut pair = busy();
    let input = pair.to_server.clone();
    let used = pair.server.handle_input(pair.now, &input).unwrap();
    let (mut server, error) = pair.server.park().unwrap_err();
    assert_eq!(error, ParkError::Message);
    server.poll_message().unwrap();
    server.handle_input(pair.now, &input[used..used + 1]).unwrap();
    let (server, error) = server.park().unwrap_err();
    assert_eq!(error, ParkError::Frame, "one byte is the beginning of a frame");
    let (_, error) = server.export_into(pair.now, &mut [0; 99]).unwrap_err();
    assert_eq!(error, ParkError::BufferTooSmall { needed: 96 + 2 * 10 + 1, available: 99 });

    let mut pair = Pair::new(Profile::V0_7_0);
    let hello = core::mem::take(&mut pair.to_server);
    pair.server.handle_input(pair.now, &hello).unwrap();
    pair.server.poll_message().unwrap();
    let (mut server, error) = pair.server.park().unwrap_err();
    assert_eq!(error, ParkError::Reply);
    server.poll_output(&mut [0; 64]).unwrap().unwrap();
    assert!(server.park().is_ok());
}

#[test]
fn damaged_bytes_are_refused_with_the_place() {
    let pair = busy();
    let now = pair.now;
    let mut out = [0; 2048];
    let bytes = pair.server.export_into(now, &mut out).unwrap().to_vec();
    let import = |bytes: &[u8]| ServerConnection::<1024>::import(bytes, POLICY, now).map(|_| ());
    for len in 0..bytes.len() {
        assert!(
            matches!(import(&bytes[..len]), Err(ImportError::Length { found, .. }) if found == len),
            "{len}"
        );
    }
    let mut cases = vec![
        (0, b'X', ImportError::Kind { found: *b"XPC" }),
        (3, 9, ImportError::Version { found: 9, expected: 1 }),
        (4, b'X', ImportError::Kind { found: *b"XPS" }),
        (59, 0x80, ImportError::Field { offset: 59 }),
        (98, 2, ImportError::Field { offset: 98 }),
        (100, 6, ImportError::Field { offset: 100 }),
        (101, 4, ImportError::Field { offset: 101 }),
    ];
    cases.push((95, 9, ImportError::Capacity { what: "waiting requests", limit: 8, found: 9 }));
    for (at, value, error) in cases {
        let mut damaged = bytes.clone();
        damaged[at] = value;
        assert_eq!(import(&damaged), Err(error), "byte {at}");
    }
    let small = ServerConnection::<1024, 1>::import(&bytes, POLICY, now).map(|_| ());
    assert_eq!(small, Err(ImportError::Capacity { what: "waiting requests", limit: 1, found: 2 }));
    // What follows must be the beginning of one frame.
    for partial in [&[0, 1][..], &[0xff, 0xf0], &[[0, 16].as_slice(), &[0; 16]].concat(), &[0; 2000]] {
        let longer = [&bytes[..], partial].concat();
        assert_eq!(import(&longer), Err(ImportError::Field { offset: bytes.len() }), "{}", partial.len());
    }
}

#[test]
fn a_new_connection_survives_too_and_keeps_its_time_for_hello() {
    let now = SECOND * 7;
    let connection: ServerConnection = ServerConnection::new(&keys(), POLICY, 5, now);
    let mut out = [0; 128];
    let bytes = connection.export_into(now + SECOND, &mut out).unwrap();
    let connection: ServerConnection = ServerConnection::import(bytes, POLICY, SECOND * 100).unwrap();
    assert!(!connection.is_up());
    assert_eq!(connection.next_deadline(), SECOND * 99 + POLICY.hello_timeout);
}

#[test]
fn moving_gives_a_silent_peer_no_more_time_and_a_busy_one_no_more_events() {
    let event_limit = Some(EventLimit { events: 1, per: SECOND * 60 });
    let policy = ServerPolicy { event_limit, ..POLICY };
    let mut pair = Pair::with_policy(Profile::V2_3_1, policy);
    pair.run();
    let mut shown = 0;
    for _ in 0..10 {
        let event = Event { name: Name::new("e"), public: true, max_age: None, data: None };
        pair.device_sends(Type::NonConfirmable, FromDevice::Event(event));
        let frame = core::mem::take(&mut pair.to_server);
        pair.server.handle_input(pair.now, &frame).unwrap();
        shown += usize::from(pair.server.poll_message().is_some());
        let mut out = [0; 256];
        let bytes = pair.server.export_into(pair.now, &mut out).unwrap();
        let moved = ServerConnection::<1024>::import(bytes, policy, pair.now).unwrap();
        pair.server = moved.park().unwrap().resume(policy);
    }
    assert_eq!((shown, pair.server.dropped_events()), (1, 9));

    // The other machine's clock has only just begun.
    let late = pair.now + SECOND * 45;
    let mut out = [0; 256];
    let bytes = pair.server.export_into(late, &mut out).unwrap();
    for now in [Duration::ZERO, SECOND, SECOND * 1000] {
        let mut moved = ServerConnection::<1024>::import(bytes, policy, now).unwrap();
        assert_eq!(moved.next_deadline(), now + SECOND * 5);
        let silence = SECOND * 50;
        assert_eq!(moved.handle_deadline(now + SECOND * 5), Err(ConnectionError::Silent { silence }));
        let parked = moved.park().unwrap();
        assert_eq!(parked.next_deadline(&policy), now + SECOND * 5);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_imported_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), is_near: bool) {
        if is_near && bytes.len() > 8 {
            bytes[..8].copy_from_slice(b"SPC\x01SPS\x01");
        }
        if let Ok(connection) = ServerConnection::<1024>::import(&bytes, POLICY, SECOND * 5_000_000) {
            let mut out = [0; 2048];
            let again = connection.export_into(SECOND * 5_000_000, &mut out).unwrap();
            prop_assert_eq!(again.len(), bytes.len());
            let mut out = [0; 2048];
            let connection = ServerConnection::<1024>::import(again, POLICY, SECOND * 5_000_000).unwrap();
            prop_assert_eq!(connection.export_into(SECOND * 5_000_000, &mut out).unwrap(), again);
        }
    }
}
