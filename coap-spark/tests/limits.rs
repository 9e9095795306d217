//! What is sent and shown by limit and policy: lengths by generation, events, acknowledgements, tokens.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod pair;

use coap_spark::coap::Type;
use coap_spark::connection::{
    EventAcks, EventLimit, Limits, Profile, RequestKind, SendError, ServerConnection, ServerPolicy,
};
use coap_spark::message::{EncodeError, FromDevice, FromServer, Name, Scope, Subscribe};
use core::time::Duration;
use pair::{Asked, ByHand, Pair, event, keys};

const SECOND: Duration = Duration::from_secs(1);

/// A message with something of this length in it.
type Body<'f> = &'f dyn Fn(usize) -> FromServer<'static>;

#[test]
fn times_at_the_end_of_the_clock_are_no_harm() {
    let mut pair = Pair::up(Profile::V2_3_1);
    let (late, mut out) = (Duration::MAX - SECOND, [0; 64]);
    for _ in 0..6 {
        let _ = pair.device.publish(late, event("e", b""), true, &mut out);
        let _ = pair.device.publish(late, event("spark/x", b""), false, &mut out);
    }
    let _ = pair.server.request(late, FromServer::Ping, &mut out).unwrap();
    let _ = (pair.device.next_deadline(), pair.server.next_deadline());
}

#[test]
fn a_server_with_few_tokens_uses_none_twice() {
    let policy = ServerPolicy { last_token: 3, ..ServerPolicy::DEFAULT };
    let (_, mut server, now) = ByHand::connected(policy);
    let mut out = [0; 64];
    let mut tokens = Vec::new();
    for _ in 0..4 {
        let sent = server.request(now, FromServer::VariableRequest { name: b"v" }, &mut out).unwrap();
        tokens.extend(sent.token.as_byte());
    }
    tokens.sort_unstable();
    assert_eq!(tokens, [0, 1, 2, 3]);
    let full = server.send(FromServer::UpdateDone, &mut out).unwrap_err();
    assert_eq!(full, SendError::TooManyRequests { limit: 4 });
}

#[test]
fn what_a_generation_does_not_take_is_not_sent() {
    let long = [b'x'; 800];
    for (profile, limits) in [(Profile::V0_7_0, Limits::V0_7_0), (Profile::V2_3_1, Limits::V0_8_0)] {
        let mut pair = Pair::up(profile);
        assert_eq!(pair.server.limits(), Some(&limits), "learned from Hello");
        let text = core::str::from_utf8(&long).unwrap();
        let bodies: [(&str, u16, Body<'_>); 5] = [
            ("function name", limits.function_name, &|len| FromServer::FunctionCall {
                name: [b'x'; 800][..len].to_vec().leak(),
                argument: b"",
            }),
            ("function argument", limits.function_argument, &|len| FromServer::FunctionCall {
                name: b"f",
                argument: [b'x'; 800][..len].to_vec().leak(),
            }),
            ("variable name", limits.variable_name, &|len| FromServer::VariableRequest {
                name: [b'x'; 800][..len].to_vec().leak(),
            }),
            ("event name", limits.event_name, &|len| FromServer::Event(event("x".repeat(len).leak(), b""))),
            ("event data", limits.event_data, &|len| {
                FromServer::Event(event("e", [b'x'; 800][..len].to_vec().leak()))
            }),
        ];
        let mut out = [0; 1024];
        for (field, limit, body) in bodies {
            let found = usize::from(limit);
            assert!(pair.server.send(body(found), &mut out).is_ok(), "{field} of {found}");
            let error = EncodeError::TooLarge { field, limit: limit.into(), found: found + 1 };
            assert_eq!(pair.server.send(body(found + 1), &mut out).unwrap_err(), SendError::Encode(error));
        }
        // The device keeps to the same limits.
        for (name, data, fits) in [
            (&text[..usize::from(limits.event_name)], &long[..usize::from(limits.event_data)], true),
            (&text[..=usize::from(limits.event_name)], &[][..], false),
            ("e", &long[..=usize::from(limits.event_data)], false),
        ] {
            assert_eq!(pair.device.publish(pair.now, event(name, data), false, &mut out).is_ok(), fits);
        }
        for (len, fits) in [(limits.subscription, true), (limits.subscription + 1, false)] {
            let subscribe =
                Subscribe { prefix: Name::new(&text[..usize::from(len)]), scope: Scope::MyDevices };
            assert_eq!(pair.device.subscribe(pair.now, subscribe, &mut out).is_ok(), fits);
        }
    }
}

#[test]
fn a_device_refuses_an_argument_that_is_too_long_and_does_not_show_the_call() {
    let mut asked = Asked::of(Profile::V0_7_0);
    asked.pair.server.set_limits(None);
    let ids = [63, 64]
        .map(|len| asked.request(FromServer::FunctionCall { name: b"f", argument: &[b'x'; 64][..len] }));
    assert!(asked.device_takes().iter().map(|request| request.id).eq([ids[0]]));
    let mut out = [0; 64];
    asked.pair.to_server.extend(asked.pair.device.poll_output(asked.pair.now, &mut out).unwrap().unwrap());
    asked.server_takes();
    assert_eq!(asked.answers, [(ids[1], RequestKind::Function, true)]);
}

#[test]
fn events_are_limited_by_the_device_as_its_firmware_does() {
    let mut pair = Pair::up(Profile::V0_4_9);
    let mut out = [0; 1024];
    let now = pair.now;
    for _ in 0..4 {
        let sent = pair.device.publish(now, event("e", b""), true, &mut out).unwrap();
        pair.server.handle_input(now, sent.bytes).unwrap();
        let message = pair.server.poll_message().unwrap();
        assert_eq!(message.kind, Type::NonConfirmable, "0.4.9 cannot ask for an acknowledgement");
    }
    let due = now + SECOND;
    assert_eq!(
        pair.device.publish(now, event("e", b""), true, &mut out).unwrap_err(),
        SendError::TooManyEvents { due }
    );
    assert!(pair.device.publish(now, event("SPARK/x", b""), false, &mut out).is_ok(), "the system's");
    assert!(pair.device.publish(due, event("e", b""), false, &mut out).is_ok());
    pair.device.set_updating(true);
    for name in ["e", "spark/x"] {
        let busy = pair.device.publish(due + SECOND, event(name, b""), false, &mut out).unwrap_err();
        assert_eq!(busy, SendError::Busy { reason: "a firmware update is running" });
    }
}

#[test]
fn a_server_drops_events_above_its_limit_and_says_so_where_it_is_asked() {
    let event_limit = Some(EventLimit { events: 3, per: SECOND });
    let policy = ServerPolicy { event_limit, ..ServerPolicy::DEFAULT };
    let mut pair = Pair::with_policy(Profile::V2_3_1, policy);
    pair.run();
    let mut out = [0; 1024];
    let (mut shown, mut replies) = (0, Vec::new());
    for (at, kind) in [(0, 1), (0, 0), (0, 1), (500, 1), (999, 0), (1000, 0)] {
        let now = pair.now + Duration::from_millis(at);
        let kind = [Type::Confirmable, Type::NonConfirmable][kind];
        let sent = pair.device.send(kind, FromDevice::Event(event("e", b"")), &mut out).unwrap();
        pair.server.handle_input(now, sent.bytes).unwrap();
        shown += usize::from(pair.server.poll_message().is_some());
        let mut reply = [0; 64];
        while let Some(frame) = pair.server.poll_output(&mut reply).unwrap() {
            pair.device.handle_input(now, frame).unwrap();
            replies.push(format!("{:?}", pair.device.poll_message().unwrap().body));
        }
    }
    assert_eq!((shown, pair.server.dropped_events()), (4, 2));
    assert_eq!(replies, ["Ack", "Response(Response { code: Code(4.00), payload: [] })", "Ack"]);
}

#[test]
fn servers_acknowledge_events_by_their_policy() {
    for (acks, expected) in [
        (EventAcks::Confirmable, [1, 0, 1, 0]),
        (EventAcks::Every, [1; 4]),
        (EventAcks::SystemOnly, [0, 0, 1, 1]),
    ] {
        let policy = ServerPolicy { event_acks: acks, ..ServerPolicy::DEFAULT };
        let mut pair = Pair::with_policy(Profile::V2_3_1, policy);
        pair.run();
        let mut out = [0; 1024];
        let mut count = [0; 4];
        let sends = [("e", 0), ("e", 1), ("spark/device/ip", 0), ("spark/device/ip", 1)];
        for (acked, (name, kind)) in count.iter_mut().zip(sends) {
            let kind = [Type::Confirmable, Type::NonConfirmable][kind];
            let sent = pair.device.send(kind, FromDevice::Event(event(name, b"")), &mut out).unwrap();
            pair.server.handle_input(pair.now, sent.bytes).unwrap();
            pair.server.poll_message().unwrap();
            while pair.server.poll_output(&mut [0; 64]).unwrap().is_some() {
                *acked += 1;
            }
        }
        assert_eq!(count, expected, "{acks:?}");
    }
}

#[test]
fn a_server_s_first_messages_have_the_tokens_of_its_policy() {
    for (policy, hello, first, wraps) in
        [(ServerPolicy::DEFAULT, None, Some(1), Some(0)), (ServerPolicy::PARTICLE, Some(1), Some(2), Some(2))]
    {
        let mut server = ServerConnection::<256>::new(&keys(), policy, 1, Duration::ZERO);
        let mut out = [0; 64];
        assert_eq!(server.send(FromServer::Hello, &mut out).unwrap().token.as_byte(), hello);
        let tokens: Vec<_> = (0..=255)
            .map(|_| server.send(FromServer::UpdateDone, &mut out).unwrap().token.as_byte())
            .collect();
        assert_eq!((tokens[0], tokens[255]), (first, wraps));
    }
}
