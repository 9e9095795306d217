//! Both ends of a connection against each other under a virtual clock, and against damaged frames.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

use coap_spark::coap::{Code, Type};
use coap_spark::connection::{
    ConnectionError, DeviceConnection, Profile, SendError, ServerConnection, ServerPolicy,
};
use coap_spark::handshake::{Cause, Failure, Stage};
use coap_spark::message::{EncodeError, Event, FromDevice, FromServer, Name, Response};
use coap_spark::session::{FrameError, Sealer, SessionKeys};
use core::time::Duration;

mod pair;

use pair::{Pair, keys};

#[test]
fn both_generations_answer_requests_and_events_are_acknowledged() {
    for profile in [Profile::V0_7_0, Profile::V2_3_1] {
        let mut pair = Pair::up(profile);
        pair.server_sends(FromServer::Describe { flags: None });
        pair.server_sends(FromServer::VariableRequest { name: b"temp" });
        pair.server_sends(FromServer::FunctionCall { name: b"brew", argument: b"" });
        pair.server_sends(FromServer::Signal { on: true });
        let event = Event { name: Name::new("a/b"), public: true, max_age: Some(5), data: Some(b"x") };
        pair.device_sends(Type::Confirmable, FromDevice::Event(event));
        let seen = pair.run();
        assert_eq!(seen.iter().filter(|line| line.contains("server: Response")).count(), 4, "{seen:#?}");
        assert!(seen.iter().any(|line| line.starts_with("server: Event")), "{seen:#?}");
        assert!(seen.iter().any(|line| line == "device: Ack"), "{seen:#?}");
    }
}

#[test]
fn short_buffer_loses_no_owed_reply() {
    let mut pair = Pair::new(Profile::V0_7_0);
    let mut out = [0; 64];
    let hello = core::mem::take(&mut pair.to_server);
    assert_eq!(pair.server.handle_input(pair.now, &hello), Ok(hello.len()));
    pair.server.poll_message().unwrap();
    for short in 0..18 {
        assert!(matches!(
            pair.server.poll_output(&mut out[..short]),
            Err(SendError::Seal(_) | SendError::Encode(_))
        ));
    }
    let answer = pair.server.poll_output(&mut out).unwrap().unwrap().to_vec();
    assert_eq!(pair.server.poll_output(&mut out).unwrap(), None);
    assert_eq!(pair.device.handle_input(pair.now, &answer), Ok(answer.len()));
    pair.device.poll_message().unwrap();
    assert!(pair.device.is_up());

    pair.now = pair.device.next_deadline().unwrap();
    pair.device.handle_deadline(pair.now).unwrap();
    for short in 0..18 {
        assert!(pair.device.poll_output(pair.now, &mut out[..short]).is_err());
    }
    let ping = pair.device.poll_output(pair.now, &mut out).unwrap().unwrap().to_vec();
    assert_eq!(pair.device.poll_output(pair.now, &mut out).unwrap(), None);
    assert_eq!(pair.server.handle_input(pair.now, &ping), Ok(ping.len()));
    assert!(pair.server.poll_output(&mut out[..4]).is_err());
    pair.to_device.extend(pair.server.poll_output(&mut out).unwrap().unwrap());
    pair.run();

    pair.server_sends(FromServer::Ping);
    let ping = core::mem::take(&mut pair.to_device);
    assert_eq!(pair.device.handle_input(pair.now, &ping), Ok(ping.len()));
    assert!(pair.device.poll_output(pair.now, &mut out[..17]).is_err());
    assert!(pair.device.poll_output(pair.now, &mut out).unwrap().is_some());
}

#[test]
fn idle_device_pings_and_both_ends_stay_up_for_an_hour() {
    let mut pair = Pair::up(Profile::V0_7_0);
    let end = pair.now + Duration::from_secs(3600);
    let mut pings = 0;
    while pair.now < end {
        pair.now = pair.device.next_deadline().unwrap().min(pair.server.next_deadline());
        pair.device.handle_deadline(pair.now).unwrap();
        pair.server.handle_deadline(pair.now).unwrap();
        let mut out = [0; 64];
        while let Some(frame) = pair.device.poll_output(pair.now, &mut out).unwrap() {
            pings += 1;
            pair.to_server.extend(frame);
        }
        assert!(
            pair.run().iter().all(|line| line == "device: Ack"),
            "pings are not shown, their answers are"
        );
    }
    assert_eq!(pings, 3600 / 15);
}

#[test]
fn silence_ends_both_ends_at_their_limits() {
    let mut pair = Pair::up(Profile::V2_3_1);
    let start = pair.now;
    let mut out = [0; 64];
    pair.device.handle_deadline(start + Duration::from_secs(14)).unwrap();
    assert_eq!(pair.device.poll_output(start, &mut out).unwrap(), None, "early calls are harmless");
    pair.device.handle_deadline(start + Duration::from_secs(15)).unwrap();
    assert!(pair.device.poll_output(start + Duration::from_secs(15), &mut out).unwrap().is_some());
    let silence = Duration::from_secs(25);
    assert_eq!(pair.device.next_deadline(), Some(start + silence));
    assert_eq!(pair.device.handle_deadline(start + silence), Err(ConnectionError::Silent { silence }));
    let silence = ServerPolicy::DEFAULT.idle_timeout;
    assert_eq!(pair.server.handle_deadline(start + silence), Err(ConnectionError::Silent { silence }));
}

#[test]
fn update_suspends_the_device_pings() {
    let mut pair = Pair::up(Profile::V0_7_0);
    pair.device.set_updating(true);
    assert_eq!(pair.device.next_deadline(), None);
    assert_eq!(pair.device.handle_deadline(pair.now + Duration::from_secs(600)), Ok(()));
}

#[test]
fn the_end_of_an_update_does_not_count_the_silence_in_it() {
    let mut pair = Pair::up(Profile::V0_7_0);
    pair.server.set_updating(pair.now, true);
    let end = pair.now + Duration::from_secs(300);
    assert_eq!(pair.server.handle_deadline(end), Ok(()));
    pair.server.set_updating(end, false);
    assert_eq!(pair.server.handle_deadline(end), Ok(()));
    assert_eq!(pair.server.next_deadline(), end + ServerPolicy::DEFAULT.idle_timeout);
}

#[test]
fn a_message_that_is_not_polled_holds_the_next_one_back() {
    let mut pair = Pair::up(Profile::V0_7_0);
    for name in ["one", "two"] {
        let event = Event { name: Name::new(name), public: true, max_age: None, data: None };
        pair.device_sends(Type::NonConfirmable, FromDevice::Event(event));
    }
    let stream = core::mem::take(&mut pair.to_server);
    let used = pair.server.handle_input(pair.now, &stream).unwrap();
    assert_eq!(pair.server.handle_input(pair.now, &stream[used..]), Ok(0));
    assert!(pair.server.has_message());
    let FromDevice::Event(event) = pair.server.poll_message().unwrap().body else { panic!("an event") };
    assert!(event.name == "one");
    assert_eq!(pair.server.handle_input(pair.now, &stream[used..]), Ok(stream.len() - used));
    let FromDevice::Event(event) = pair.server.poll_message().unwrap().body else { panic!("an event") };
    assert!(event.name == "two");
}

#[test]
fn the_server_s_hello_goes_out_before_anything_else() {
    let mut pair = Pair::new(Profile::V2_3_1);
    let mut out = [0; 64];
    let hello = core::mem::take(&mut pair.to_server);
    pair.server.handle_input(pair.now, &hello).unwrap();
    pair.server.poll_message().unwrap();
    let early = pair.server.request(pair.now, FromServer::Ping, &mut out).unwrap_err();
    assert_eq!(early, SendError::Busy { reason: "Hello is to be polled and sent first" });
    pair.server.poll_output(&mut out).unwrap().unwrap();
    assert_eq!(pair.server.send(FromServer::Ping, &mut out).unwrap().id, 0xffff, "no id was lost");
}

#[test]
fn replies_are_no_messages_of_their_own() {
    let mut pair = Pair::up(Profile::V0_7_0);
    let mut out = [0; 64];
    let response = Response { code: Code::CONTENT, payload: &[] };
    for body in [FromServer::Ack, FromServer::Reset, FromServer::Response(response)] {
        assert_eq!(pair.server.send(body, &mut out).unwrap_err(), SendError::Reply);
    }
}

#[test]
fn what_cannot_be_sent_is_not_left_in_the_buffer() {
    let mut pair = Pair::up(Profile::V2_3_1);
    pair.server.set_limits(None);
    let event = Event { name: Name::new("e"), public: true, max_age: None, data: Some(&[0xAB; 800]) };
    let mut out = [0; 1024];
    assert!(matches!(
        pair.server.send(FromServer::Event(event), &mut out),
        Err(SendError::FrameTooLong { .. })
    ));
    assert!(!out.contains(&0xAB));
    assert!(Sealer::new(&keys()).seal(&[0xAB; 65_520], &mut vec![0; 70_000]).is_err());
}

#[test]
fn missing_hello_is_a_handshake_failure_of_either_end() {
    let mut pair = Pair::new(Profile::V0_7_0);
    let expected = Failure { stage: Stage::ReceiveHello, cause: Cause::TimedOut };
    let at = pair.server.next_deadline();
    assert_eq!(pair.server.handle_deadline(at), Err(expected.into()));
    let at = pair.device.next_deadline().unwrap();
    assert_eq!(at - pair.now, Duration::from_secs(2));
    assert_eq!(pair.device.handle_deadline(at), Err(expected.into()));
}

#[test]
fn garbage_instead_of_hello_is_a_handshake_failure_of_either_end() {
    let keys = SessionKeys::new([3; 40]);
    let mut out = [0; 64];
    let frame = Sealer::new(&keys).seal(&[0xff; 8], &mut out).unwrap().to_vec();
    let expected = Failure { stage: Stage::ReceiveHello, cause: Cause::Frame };
    let mut server = ServerConnection::<1024>::new(&keys, ServerPolicy::DEFAULT, 1, Duration::ZERO);
    assert_eq!(server.handle_input(Duration::ZERO, &frame), Err(expected.into()));
    let mut device: DeviceConnection = DeviceConnection::new(&keys, Profile::V2_3_1, Duration::ZERO);
    assert_eq!(device.handle_input(Duration::ZERO, &frame), Err(expected.into()));
}

#[test]
fn other_first_message_than_hello_is_refused() {
    let keys = SessionKeys::new([3; 40]);
    let mut server = ServerConnection::<1024>::new(&keys, ServerPolicy::DEFAULT, 1, Duration::ZERO);
    let mut out = [0; 64];
    let frame = Sealer::new(&keys).seal(&[0x40, 0, 0, 1], &mut out).unwrap().to_vec();
    let expected = Failure { stage: Stage::ReceiveHello, cause: Cause::NotHello };
    assert_eq!(server.handle_input(Duration::ZERO, &frame), Err(expected.into()));
}

#[test]
fn cut_first_frame_waits_for_the_rest() {
    let pair = Pair::new(Profile::V0_7_0);
    for len in 0..pair.to_server.len() {
        let mut server = ServerConnection::<1024>::new(&keys(), ServerPolicy::DEFAULT, 1, pair.now);
        assert_eq!(server.handle_input(pair.now, &pair.to_server[..len]), Ok(len));
        assert!(server.poll_message().is_none() && !server.is_up());
    }
}

#[test]
fn wrong_keys_show_at_the_first_frame() {
    let pair = Pair::new(Profile::V0_7_0);
    let mut server =
        ServerConnection::<1024>::new(&SessionKeys::new([1; 40]), ServerPolicy::DEFAULT, 1, pair.now);
    let expected = Failure { stage: Stage::ReceiveHello, cause: Cause::Frame };
    assert_eq!(server.handle_input(pair.now, &pair.to_server), Err(expected.into()));
}

#[test]
fn frame_that_the_device_would_refuse_is_not_sent() {
    let mut pair = Pair::up(Profile::V0_7_0);
    let data = [b'x'; 800];
    let event = Event { name: Name::new("big"), public: false, max_age: None, data: Some(&data) };
    let mut out = [0; 1024];
    let before = pair.server.send(FromServer::Ping, &mut out).unwrap().id;
    let refused = pair.server.send(FromServer::Event(event), &mut out).unwrap_err();
    let too_large = EncodeError::TooLarge { field: "event data", limit: 255, found: 800 };
    assert_eq!(refused, SendError::Encode(too_large), "by the limits of its generation");
    pair.server.set_limits(None);
    let refused = pair.server.send(FromServer::Event(event), &mut out).unwrap_err();
    assert_eq!(refused, SendError::FrameTooLong { found: 816, limit: 768 });
    let after = pair.server.send(FromServer::Ping, &mut out).unwrap().id;
    assert_eq!(after, before.wrapping_add(1), "the refused message took no id");
}

#[test]
fn frame_above_the_receive_limit_ends_the_session() {
    let mut pair = Pair::up(Profile::V0_7_0);
    let expected = FrameError::Length { found: 816, limit: 800 };
    let result = pair.device.handle_input(pair.now, &816u16.to_be_bytes());
    assert_eq!(result, Err(ConnectionError::Frame(expected)));
}
