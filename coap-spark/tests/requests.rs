//! Requests and their answers, from both ends: correlation, order, times, and what goes wrong with them.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod pair;

use coap_spark::coap::{Code, Token, Type};
use coap_spark::connection::{
    DeviceConnection, DeviceRequestKind, IdCheck, Profile, RequestKind, SendError, ServerConnection,
    ServerPolicy,
};
use coap_spark::message::{Chunk, FromDevice, FromServer, Name, Response, Scope, Subscribe};
use coap_spark::session::Sealer;
use core::time::Duration;
use pair::{Asked, ByHand, Pair, event, keys};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn every_generation_s_answers_find_their_requests() {
    for profile in
        [Profile::V0_4_9, Profile::V0_7_0, Profile::CORE, Profile::V0_8_0, Profile::V1_5_0, Profile::V2_3_1]
    {
        let mut asked = Asked::of(profile);
        let bodies = [
            (FromServer::Describe { flags: None }, RequestKind::Describe),
            (FromServer::VariableRequest { name: b"v" }, RequestKind::Variable),
            (FromServer::FunctionCall { name: b"f", argument: b"" }, RequestKind::Function),
            (FromServer::Signal { on: true }, RequestKind::Signal),
        ];
        let ids: Vec<_> = bodies.iter().map(|(body, kind)| (asked.request(*body), *kind)).collect();
        let requests = asked.device_takes();
        assert_eq!(requests.iter().map(|request| (request.id, request.kind)).collect::<Vec<_>>(), ids);
        // The last question is answered first.
        for request in requests.into_iter().rev() {
            asked.reply(request, Code::CONTENT);
        }
        asked.server_takes();
        let answered: Vec<_> =
            asked.answers.iter().filter(|answer| answer.2).map(|&(id, kind, _)| (id, kind)).collect();
        assert!(answered.iter().rev().eq(&ids), "{answered:?} {ids:?}");
        assert_eq!(asked.pair.server.waiting().count(), 0);
    }
}

#[test]
fn acknowledgements_with_ids_of_the_device_s_own_find_their_requests() {
    let mut asked = Asked::of(Profile::V2_3_1);
    let signal = asked.request(FromServer::Signal { on: true });
    let ping = asked.request(FromServer::Ping);
    let token = asked.device_takes()[0].token;
    let mut out = [0; 64];
    // As 2.3.1 does on TCP: both with a fresh id of its own counter.
    let fresh =
        asked.pair.device.send(Type::NonConfirmable, FromDevice::Event(event("e", b"")), &mut out).unwrap();
    let id = fresh.id;
    asked.pair.to_server.extend(fresh.bytes);
    let changed = Response { code: Code::CHANGED, payload: &[] };
    let frame = asked.pair.device.piggyback(id + 1, token, changed, &mut out);
    asked.pair.to_server.extend(frame.unwrap());
    asked.pair.to_server.extend(asked.pair.device.acknowledge(id + 2, &mut out).unwrap());
    asked.server_takes();
    assert_eq!(asked.answers, [(signal, RequestKind::Signal, true), (ping, RequestKind::Ping, true)]);
}

#[test]
fn a_device_that_acknowledges_with_ids_of_its_own_stays_connected() {
    let (mut device, mut server, now) = ByHand::connected(ServerPolicy::DEFAULT);
    let mut out = [0; 64];
    for _ in 0..100 {
        let asked = server.request(now, FromServer::Ping, &mut out).unwrap().id;
        server.handle_input(now, &device.next(Type::Acknowledgement, FromDevice::Ack)).unwrap();
        assert_eq!(server.poll_message().unwrap().answers.map(|answers| answers.id), Some(asked));
    }
    // Its own pings bring the counts together, too.
    device.id += 10;
    server.handle_input(now, &device.next(Type::Confirmable, FromDevice::Ping)).unwrap();
    server.poll_output(&mut out).unwrap().unwrap();
    device.id += 10;
    let event = device.next(Type::NonConfirmable, FromDevice::Event(event("still here", b"")));
    server.handle_input(now, &event).unwrap();
    assert!(matches!(server.poll_message().unwrap().body, FromDevice::Event(_)));
}

#[test]
fn a_message_with_an_odd_field_is_passed_over_and_acknowledged() {
    let (mut device, mut server, now) = ByHand::connected(ServerPolicy::DEFAULT);
    // A Max-Age of five bytes; an odd list of chunks.
    for rest in [&[0xb1, b'e', 0x01, b'x', 0x35, 0, 0, 0, 0, 1][..], &[0xb1, b'c', 0xff, 1]] {
        let code = if rest[1] == b'c' { 1 } else { 2 };
        device.id += 1;
        let [id0, id1] = device.id.to_be_bytes();
        let (mut out, message) = ([0; 64], [&[0x40, code, id0, id1], rest].concat());
        let frame = device.sealer.seal(&message, &mut out).unwrap().to_vec();
        assert_eq!(server.handle_input(now, &frame), Ok(frame.len()));
        assert!(
            matches!(server.poll_message().unwrap().body, FromDevice::Unknown { letter, .. } if letter == rest[1])
        );
        assert!(server.poll_output(&mut out).unwrap().is_some());
    }
    let event = device.next(Type::NonConfirmable, FromDevice::Event(event("e", b"")));
    server.handle_input(now, &event).unwrap();
    assert!(matches!(server.poll_message().unwrap().body, FromDevice::Event(_)));
}

#[test]
fn only_an_id_of_the_device_s_own_answers_by_order() {
    let (mut device, mut server, now) = ByHand::connected(ServerPolicy::DEFAULT);
    let mut out = [0; 1024];
    let change = server.request(now, FromServer::KeyChange { discard_session: false }, &mut out).unwrap().id;
    let chunk = FromServer::Chunk(Chunk { crc: 1, index: None, data: &[1] });
    let id = server.send(chunk, &mut out).unwrap().id;
    server.handle_input(now, &device.say(Type::Acknowledgement, id, Token::EMPTY, FromDevice::Ack)).unwrap();
    assert_eq!(server.poll_message().unwrap().answers, None, "the chunk's acknowledgement");
    server.handle_input(now, &device.next(Type::Acknowledgement, FromDevice::Ack)).unwrap();
    assert_eq!(server.poll_message().unwrap().answers.map(|answers| answers.id), Some(change));
}

#[test]
fn equal_requests_are_answered_in_their_order() {
    let (mut device, mut server, now) = ByHand::connected(ServerPolicy::DEFAULT);
    let mut out = [0; 64];
    let mut ask = |server: &mut ServerConnection| server.request(now, FromServer::Ping, &mut out).unwrap().id;
    let (first, second) = (ask(&mut server), ask(&mut server));
    server
        .handle_input(now, &device.say(Type::Acknowledgement, first, Token::EMPTY, FromDevice::Ack))
        .unwrap();
    server.poll_message().unwrap();
    let third = ask(&mut server);
    for expected in [second, third] {
        server.handle_input(now, &device.next(Type::Acknowledgement, FromDevice::Ack)).unwrap();
        assert_eq!(server.poll_message().unwrap().answers.map(|answers| answers.id), Some(expected));
    }
}

#[test]
fn a_refusal_with_a_token_of_zero_answers_the_message_with_its_id() {
    // The particle-iot server refuses with `61 80 id 00`, whatever it refuses.
    let mut device: DeviceConnection = DeviceConnection::new(&keys(), Profile::V2_3_1, Duration::ZERO);
    let (mut sealer, mut out) = (Sealer::new(&keys()), [0; 256]);
    let hello = sealer.seal(&[0x50, 2, 0, 1, 0xb1, b'h'], &mut out).unwrap().to_vec();
    device.handle_input(Duration::ZERO, &hello).unwrap();
    device.poll_message().unwrap();
    let mut token = 1;
    while token != 0 {
        token = device
            .send(Type::Confirmable, FromDevice::TimeRequest, &mut out)
            .unwrap()
            .token
            .as_byte()
            .unwrap();
        if token == 255 {
            break;
        }
    }
    let time = device.ask_time(Duration::ZERO, &mut out).unwrap();
    assert_eq!(time.token, Token::byte(0));
    let time = time.id;
    let id = device.publish(Duration::ZERO, event("e", b""), true, &mut out).unwrap().id;
    let [id0, id1] = id.to_be_bytes();
    let refusal = sealer.seal(&[0x61, 0x80, id0, id1, 0], &mut out).unwrap().to_vec();
    assert_eq!(told(&mut device, Duration::ZERO, &refusal), Some((id, DeviceRequestKind::Event)));
    let [id0, id1] = time.to_be_bytes();
    let answer = sealer.seal(&[0x61, 0x45, id0, id1, 0, 0xff, 1, 2, 3, 4], &mut out).unwrap().to_vec();
    assert_eq!(told(&mut device, Duration::ZERO, &answer), Some((time, DeviceRequestKind::Time)));
}

#[test]
fn an_answer_that_does_not_fit_leaves_the_session_as_it_was() {
    let mut asked = Asked::of(Profile::V2_3_1);
    asked.request(FromServer::VariableRequest { name: b"v" });
    let request = asked.device_takes()[0];
    let mut out = [0; 1024];
    let long = Response { code: Code::CONTENT, payload: &[1; 790] };
    assert!(matches!(asked.pair.device.reply(request, long, &mut out), Err(SendError::FrameTooLong { .. })));
    for room in 0..36 {
        assert!(
            asked.pair.device.reply(request, Response { payload: &[1], ..long }, &mut out[..room]).is_err()
        );
    }
    asked.reply(request, Code::CONTENT);
    asked.server_takes();
    assert_eq!(asked.answers.last(), Some(&(request.id, RequestKind::Variable, true)));
}

#[test]
fn a_deadline_that_was_handled_is_not_a_deadline_any_more() {
    let mut asked = Asked::of(Profile::V2_3_1);
    asked.request(FromServer::Ping);
    let server = &mut asked.pair.server;
    let due = server.next_deadline();
    server.handle_deadline(due).unwrap();
    assert!(server.next_deadline() > due, "a driver that only handles deadlines does not spin");
    assert!(server.poll_expired(due).is_some() && server.poll_expired(due).is_none());
}

#[test]
fn key_changes_are_acknowledged_by_firmware_that_does_so() {
    for (profile, len) in [(Profile::V0_7_0, 0), (Profile::V2_3_1, 18)] {
        let mut asked = Asked::of(profile);
        asked.request(FromServer::KeyChange { discard_session: true });
        let request = asked.device_takes()[0];
        let response = Response { code: Code::CHANGED, payload: &[] };
        assert_eq!(asked.pair.device.reply(request, response, &mut [0; 64]).unwrap().len(), len);
    }
}

#[test]
fn a_refusal_without_a_token_and_a_reset_end_their_requests() {
    let mut asked = Asked::of(Profile::V0_7_0);
    let function = asked.request(FromServer::FunctionCall { name: b"f", argument: b"" });
    let variable = asked.request(FromServer::VariableRequest { name: b"v" });
    asked.device_takes();
    let mut out = [0; 64];
    let refusal = Response { code: Code::BAD_REQUEST, payload: &[] };
    let frame = asked.pair.device.piggyback(function, Token::EMPTY, refusal, &mut out).unwrap();
    asked.pair.to_server.extend(frame);
    asked.server_takes();
    asked.pair.to_device.clear();
    assert_eq!(asked.answers, [(function, RequestKind::Function, true)]);
    assert!(asked.pair.server.waiting().map(|waiting| waiting.id).eq([variable]));
}

#[test]
fn what_is_not_answered_is_told_once_and_a_late_answer_is_nobody_s() {
    let mut asked = Asked::of(Profile::V2_3_1);
    let first = asked.request(FromServer::FunctionCall { name: b"f", argument: b"" });
    asked.pair.now += SECOND;
    let second = asked.request(FromServer::Describe { flags: None });
    let requests = asked.device_takes();
    let mut out = [0; 64];
    // The function is acknowledged, which is no answer.
    asked.pair.to_server.extend(asked.pair.device.acknowledge(first, &mut out).unwrap());
    asked.server_takes();
    assert_eq!(asked.answers, [(first, RequestKind::Function, false)]);

    let start = asked.pair.now;
    let server = &mut asked.pair.server;
    assert_eq!(server.next_deadline(), start + SECOND * 14);
    assert_eq!(server.poll_expired(start + SECOND * 13), None, "early");
    let told = server.poll_expired(start + SECOND * 14).unwrap();
    assert_eq!((told.id, told.acknowledged), (first, true));
    assert_eq!(server.poll_expired(start + SECOND * 14), None);
    let told = server.poll_expired(start + SECOND * 15).unwrap();
    assert_eq!((told.id, told.acknowledged), (second, false));
    assert_eq!(server.next_deadline(), start + ServerPolicy::DEFAULT.idle_timeout);

    asked.answers.clear();
    asked.reply(requests[0], Code::CHANGED);
    asked.server_takes();
    assert_eq!(asked.answers, []);
}

#[test]
fn a_token_that_is_waited_for_is_not_used_again() {
    let mut asked = Asked::of(Profile::V0_7_0);
    asked.request(FromServer::FunctionCall { name: b"slow", argument: b"" });
    let slow = asked.device_takes()[0];
    let mut seen = [0; 256];
    for _ in 0..600 {
        asked.request(FromServer::VariableRequest { name: b"v" });
        let request = asked.device_takes()[0];
        seen[usize::from(request.token.as_byte().unwrap())] += 1;
        asked.reply(request, Code::CONTENT);
        asked.server_takes();
    }
    assert_eq!(seen[usize::from(slow.token.as_byte().unwrap())], 0);
    assert!(seen.iter().filter(|&&count| count >= 2).count() == 255, "all others, 0 and 255 among them");
    asked.answers.clear();
    asked.reply(slow, Code::CHANGED);
    asked.server_takes();
    assert_eq!(asked.answers.last(), Some(&(slow.id, RequestKind::Function, true)));
}

#[test]
fn requests_are_bounded_and_only_requests_are_waited_for() {
    let mut asked = Asked::of(Profile::V0_7_0);
    let mut out = [0; 1024];
    for _ in 0..8 {
        asked.request(FromServer::Ping);
    }
    let (server, now) = (&mut asked.pair.server, asked.pair.now);
    assert_eq!(
        server.request(now, FromServer::Ping, &mut out).unwrap_err(),
        SendError::TooManyRequests { limit: 8 }
    );
    let before = server.send(FromServer::SocketPing, &mut out).unwrap().id;
    assert_eq!(server.request(now, FromServer::UpdateDone, &mut out).unwrap_err(), SendError::NoRequest);
    assert_eq!(
        server.send(FromServer::SocketPing, &mut out).unwrap().id,
        before.wrapping_add(1),
        "no id is lost"
    );
}

#[test]
fn chunks_of_an_update_and_requests_go_out_in_the_order_in_which_the_caller_sends_them() {
    let mut asked = Asked::of(Profile::V2_3_1);
    let chunk = |index: u16| FromServer::Chunk(Chunk { crc: 7, index: Some(index), data: &[0x5a; 512] });
    let mut requests = Vec::new();
    asked.pair.server.set_updating(asked.pair.now, true);
    for index in 0..64 {
        asked.pair.server_sends(chunk(index));
        if index % 16 == 7 {
            requests.push(asked.request(FromServer::VariableRequest { name: b"v" }));
        }
    }
    let mut order = Vec::new();
    for byte in core::mem::take(&mut asked.pair.to_device) {
        asked.pair.device.handle_input(asked.pair.now, &[byte]).unwrap();
        match asked.pair.device.poll_message().map(|message| (message.id, message.body)) {
            Some((_, FromServer::Chunk(chunk))) => order.push(chunk.index.unwrap()),
            Some((id, _)) => order.push(1000 + id - requests[0]),
            None => {}
        }
    }
    let expected: Vec<u16> = (0..64)
        .flat_map(|index| {
            let request = (index % 16 == 7).then_some(1000 + (index / 16) * 17);
            [Some(index), request].into_iter().flatten()
        })
        .collect();
    assert_eq!(order, expected);
}

#[test]
fn ids_wrap_and_strict_servers_see_no_gap() {
    let policy =
        ServerPolicy { ids: IdCheck::Strict, idle_timeout: SECOND * 100_000, ..ServerPolicy::DEFAULT };
    let mut pair = Pair::with_policy(Profile::V0_7_0, policy);
    pair.run();
    let mut out = [0; 64];
    for _ in 0..70_000_u32 {
        let sent =
            pair.device.send(Type::NonConfirmable, FromDevice::Event(event("e", b"")), &mut out).unwrap();
        assert_eq!(pair.server.handle_input(pair.now, sent.bytes), Ok(sent.bytes.len()));
        assert!(pair.server.poll_message().is_some());
        let sent = pair.server.send(FromServer::SocketPing, &mut out).unwrap();
        assert_eq!(pair.device.handle_input(pair.now, sent.bytes), Ok(sent.bytes.len()));
    }
}

/// A device's message that got its answer, or did not: what the device is told.
fn told(device: &mut DeviceConnection, now: Duration, input: &[u8]) -> Option<(u16, DeviceRequestKind)> {
    assert_eq!(device.handle_input(now, input), Ok(input.len()));
    device.poll_message()?.answers.map(|answers| (answers.id, answers.kind))
}

#[test]
fn a_device_learns_of_acknowledgement_refusal_time_and_silence() {
    let mut pair = Pair::up(Profile::V2_3_1);
    let (mut out, mut reply) = ([0; 1024], [0; 64]);
    let now = pair.now;

    let sent = pair.device.publish(now, event("a", b"1"), true, &mut out).unwrap();
    let id = sent.id;
    pair.server.handle_input(now, sent.bytes).unwrap();
    assert!(matches!(pair.server.poll_message().unwrap().body, FromDevice::Event(_)));
    let ack = pair.server.poll_output(&mut reply).unwrap().unwrap().to_vec();
    assert_eq!(told(&mut pair.device, now, &ack), Some((id, DeviceRequestKind::Event)));

    let all = Subscribe { prefix: Name::new(""), scope: Scope::All };
    assert_eq!(pair.device.subscribe(now, all, &mut out).unwrap_err(), SendError::UnnamedFirehose);
    let all = Subscribe { prefix: Name::new("temp"), scope: Scope::All };
    let sent = pair.device.subscribe(now, all, &mut out).unwrap();
    let id = sent.id;
    pair.server.handle_input(now, sent.bytes).unwrap();
    assert!(pair.server.poll_message().is_some());
    assert_eq!(pair.server.poll_output(&mut reply), Ok(None), "the caller answers");
    let refusal = pair.server.refuse(id, &mut reply).unwrap().to_vec();
    pair.device.handle_input(now, &refusal).unwrap();
    let message = pair.device.poll_message().unwrap();
    assert_eq!(message.answers.map(|answers| answers.id), Some(id));
    assert!(matches!(message.body, FromServer::Response(Response { code: Code::BAD_REQUEST, .. })));

    let sent = pair.device.ask_time(now, &mut out).unwrap();
    let (id, token) = (sent.id, sent.token);
    pair.server.handle_input(now, sent.bytes).unwrap();
    pair.server.poll_message().unwrap();
    let again = pair.device.ask_time(now, &mut [0; 64]).unwrap_err();
    assert_eq!(again, SendError::Busy { reason: "the time was asked for already" });
    let time = pair.server.respond_time(id, token, 1_700_000_000, &mut reply).unwrap().to_vec();
    assert_eq!(told(&mut pair.device, now, &time), Some((id, DeviceRequestKind::Time)));
    pair.device.ask_time(now, &mut out).unwrap();

    let id = pair.device.publish(now, event("b", b"1"), true, &mut out).unwrap().id;
    let later = now + SECOND * 20;
    assert_eq!(pair.device.poll_expired(later - SECOND), None);
    let expired: Vec<_> = core::iter::from_fn(|| pair.device.poll_expired(later)).collect();
    assert_eq!(expired.len(), 2);
    assert!(expired.iter().any(|waiting| (waiting.id, waiting.kind) == (id, DeviceRequestKind::Event)));
}
