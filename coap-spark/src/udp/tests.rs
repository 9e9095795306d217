use super::*;
use crate::coap::{Code, OptionNumber, Token, Type, Writer};
use crate::handshake::DeviceId;
use crate::message::{Envelope, FromDevice, FromServer, Hello, HelloFlags, Response};
use alloc::vec::Vec;
use core::time::Duration;
use proptest::prelude::*;

#[test]
fn remembered_message_takes_24_bytes() {
    let more = size_of::<Endpoint<64, 1, 65>>() - size_of::<Small>();
    assert_eq!(more, 24);
}

type Small = Endpoint<64>;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn bytes(kind: Type, code: Code, id: u16, token: Token, payload: &[u8]) -> Vec<u8> {
    let mut out = [0; 256];
    Writer::new(&mut out, kind, code, id, token).unwrap().payload(payload).unwrap().to_vec()
}

fn event(kind: Type, id: u16) -> Vec<u8> {
    bytes(kind, Code::POST, id, Token::EMPTY, &id.to_be_bytes())
}

fn ack(id: u16) -> Vec<u8> {
    bytes(Type::Acknowledgement, Code::EMPTY, id, Token::EMPTY, b"")
}

/// All that goes out now.
fn drain<const M: usize, const P: usize, const S: usize, const R: usize>(
    end: &mut Endpoint<M, P, S, R>,
    now: Duration,
) -> Vec<Vec<u8>> {
    let mut out = [0; 256];
    let mut sent = Vec::new();
    while let Some(datagram) = end.poll_output(now, &mut out).unwrap() {
        sent.push(datagram.to_vec());
    }
    sent
}

#[test]
fn waits_double_and_grow_by_up_to_a_half() {
    let timing = Timing::SERVER;
    for (before, wait) in [(0, 4000), (1, 8000), (2, 16000), (3, 32000)] {
        assert_eq!(timing.wait(before, 0), ms(wait));
        // t + t * 255 / 512.
        assert_eq!(timing.wait(before, 255).as_millis(), u128::from(wait + wait * 255 / 512));
        assert_eq!(timing.wait(before, 128), ms(wait + wait / 4));
    }
    assert!(timing.wait(255, 255) > timing.wait(31, 0), "no overflow");
}

#[test]
fn constants_are_those_of_the_firmware() {
    assert_eq!((ACK_TIMEOUT, MAX_RETRANSMIT, MAX_TRANSMIT_SPAN), (ms(4000), 3, ms(45_000)));
    assert_eq!(KEEP_ALIVE_INTERVAL, ms(23 * 60 * 1000));
    assert_eq!((KEEP_ALIVE_TIMEOUT, KEEP_ALIVE), (ms(30_000), [0]));
}

#[test]
fn unanswered_message_is_sent_four_times_and_ends_the_session() {
    for (random, expected) in [(0, [0, 4000, 12_000, 28_000]), (128, [0, 5000, 15_000, 35_000])] {
        let mut end = Small::new(Timing::SERVER, ms(0));
        let message = event(Type::Confirmable, 7);
        end.send(&message, random).unwrap();
        assert_eq!(end.next_deadline(), None, "it waits to be fetched");
        let mut times = Vec::new();
        let mut now = ms(0);
        let closed = loop {
            for datagram in drain(&mut end, now) {
                assert_eq!(datagram, message);
                times.push(u64::try_from(now.as_millis()).unwrap());
            }
            assert_eq!(end.pending().collect::<Vec<_>>(), [7]);
            let deadline = end.next_deadline().unwrap();
            end.handle_deadline(deadline - ms(1), random).unwrap();
            assert!(drain(&mut end, deadline - ms(1)).is_empty(), "too early is harmless");
            now = deadline;
            if let Err(closed) = end.handle_deadline(now, random) {
                break closed;
            }
            end.handle_deadline(now, random).unwrap();
        };
        assert_eq!(times, expected);
        assert_eq!(now, ms(expected[3]) + Timing::SERVER.wait(3, random));
        assert_eq!(closed, Closed::Unanswered { id: 7, sends: 4 });
        // Over is over, for every call.
        assert_eq!(end.closed(), Some(closed));
        assert_eq!(end.next_deadline(), None);
        assert_eq!(end.handle_deadline(now, 0), Err(closed));
        assert_eq!(end.handle_datagram(now, &ack(7)), Err(InputError::Closed(closed)));
        assert_eq!(end.send(&message, 0), Err(SendError::Closed(closed)));
        assert_eq!(end.acknowledge(1), Err(SendError::Closed(closed)));
        assert!(drain(&mut end, now).is_empty());
        assert_eq!(end.pending().collect::<Vec<_>>(), [7], "it may not have arrived");
    }
}

#[test]
fn acknowledged_message_is_not_repeated_and_its_response_is_shown() {
    let mut end = Small::new(Timing::SERVER, ms(0));
    end.send(&bytes(Type::Confirmable, Code::GET, 7, Token::byte(9), b""), 0).unwrap();
    drain(&mut end, ms(0));
    let response = bytes(Type::Acknowledgement, Code::CONTENT, 7, Token::byte(9), b"data");
    let Ok(Incoming::Acknowledged(message)) = end.handle_datagram(ms(50), &response) else { panic!() };
    assert_eq!((message.code(), message.payload()), (Code::CONTENT, Some(&b"data"[..])));
    assert_eq!((end.next_deadline(), end.pending().count()), (None, 0));
    assert_eq!(end.handle_datagram(ms(51), &response), Ok(Incoming::Stray { id: 7 }));
    end.handle_deadline(ms(60_000), 0).unwrap();
    assert!(drain(&mut end, ms(60_000)).is_empty());
}

#[test]
fn one_message_is_outstanding_unless_more_are_allowed() {
    let (first, second) = (event(Type::Confirmable, 1), event(Type::Confirmable, 2));
    let mut end = Small::new(Timing::SERVER, ms(0));
    end.send(&first, 0).unwrap();
    assert_eq!(end.send(&second, 0), Err(SendError::Busy { waiting: 1 }));
    assert_eq!(end.send(&first, 0), Err(SendError::IdInUse { id: 1 }));
    drain(&mut end, ms(0));
    assert!(matches!(end.handle_datagram(ms(10), &ack(1)), Ok(Incoming::Acknowledged(_))));
    end.send(&second, 0).unwrap();

    let mut wide = Endpoint::<64, 2>::new(Timing::SERVER, ms(0));
    wide.send(&first, 0).unwrap();
    wide.send(&second, 0).unwrap();
    assert_eq!(wide.send(&event(Type::Confirmable, 3), 0), Err(SendError::Busy { waiting: 2 }));
    assert_eq!(drain(&mut wide, ms(0)), [first, second]);
}

#[test]
fn separate_response_stands_for_a_lost_acknowledgement() {
    let mut end = Small::new(Timing::SERVER, ms(0));
    end.send(&bytes(Type::Confirmable, Code::GET, 7, Token::byte(9), b""), 0).unwrap();
    drain(&mut end, ms(0));
    let other = bytes(Type::NonConfirmable, Code::CONTENT, 70, Token::byte(8), b"other");
    assert!(matches!(end.handle_datagram(ms(50), &other), Ok(Incoming::Message(_))));
    assert_eq!(end.pending().count(), 1, "another request's");
    let request = bytes(Type::NonConfirmable, Code::GET, 72, Token::byte(9), b"");
    assert!(matches!(end.handle_datagram(ms(55), &request), Ok(Incoming::Message(_))));
    assert_eq!(end.pending().count(), 1, "the peer's own request under the same token");
    let response = bytes(Type::NonConfirmable, Code::CONTENT, 71, Token::byte(9), b"data");
    assert!(matches!(end.handle_datagram(ms(60), &response), Ok(Incoming::Message(_))));
    assert_eq!(end.pending().count(), 0);
}

#[test]
fn duplicates_get_the_same_reply_for_45_seconds() {
    let mut end = Small::new(Timing::SERVER, ms(0));
    let request = bytes(Type::Confirmable, Code::GET, 7, Token::byte(9), b"");
    let response = bytes(Type::Acknowledgement, Code::CONTENT, 7, Token::byte(9), b"data");
    assert!(matches!(end.handle_datagram(ms(0), &request), Ok(Incoming::Message(_))));
    let early = end.handle_datagram(ms(5), &request);
    assert_eq!(early, Ok(Incoming::Duplicate { id: 7, answered: false }));
    assert!(drain(&mut end, ms(5)).is_empty());
    end.send(&response, 0).unwrap();
    assert_eq!(drain(&mut end, ms(10)), core::slice::from_ref(&response));
    for at in [20, 44_999] {
        let again = end.handle_datagram(ms(at), &request);
        assert_eq!(again, Ok(Incoming::Duplicate { id: 7, answered: true }));
        assert_eq!(drain(&mut end, ms(at)), core::slice::from_ref(&response), "at {at} ms");
    }
    assert!(matches!(end.handle_datagram(ms(45_000), &request), Ok(Incoming::Message(_))), "forgotten");
    assert!(drain(&mut end, ms(45_000)).is_empty(), "and its reply with it");
    end.acknowledge(7).unwrap();
    assert_eq!(drain(&mut end, ms(45_000)), [ack(7)]);
}

#[test]
fn displaced_reply_is_repeated_as_an_empty_acknowledgement() {
    let mut end = Endpoint::<64, 1, 8, 1>::new(Timing::SERVER, ms(0));
    for id in [1, 2] {
        let _ = end.handle_datagram(ms(u64::from(id)), &event(Type::Confirmable, id)).unwrap();
    }
    let reply = |id| bytes(Type::Acknowledgement, Code::CHANGED, id, Token::EMPTY, b"done");
    end.send(&reply(1), 0).unwrap();
    end.send(&reply(1), 0).unwrap();
    assert_eq!(end.send(&reply(2), 0), Err(SendError::Busy { waiting: 1 }), "the first was not fetched");
    assert_eq!(drain(&mut end, ms(10)), [reply(1)]);
    end.send(&reply(2), 0).unwrap();
    assert_eq!(drain(&mut end, ms(11)), [reply(2)]);
    let _ = end.handle_datagram(ms(12), &event(Type::Confirmable, 1)).unwrap();
    let _ = end.handle_datagram(ms(12), &event(Type::Confirmable, 2)).unwrap();
    assert_eq!(drain(&mut end, ms(12)), [ack(1), reply(2)]);
}

#[test]
fn the_oldest_reply_is_displaced_and_an_unfetched_one_can_be_replaced() {
    let mut end = Small::new(Timing::SERVER, ms(0));
    let reply = |id, text: &[u8]| bytes(Type::Acknowledgement, Code::CHANGED, id, Token::EMPTY, text);
    for id in [1, 2, 3] {
        let _ = end.handle_datagram(ms(u64::from(id)), &event(Type::Confirmable, id)).unwrap();
        end.send(&reply(id, b"first thought"), 0).unwrap();
        end.send(&reply(id, b"done"), 0).unwrap();
        assert_eq!(drain(&mut end, ms(10)), [reply(id, b"done")]);
    }
    for (id, expected) in [(1, ack(1)), (2, reply(2, b"done")), (3, reply(3, b"done"))] {
        let _ = end.handle_datagram(ms(20), &event(Type::Confirmable, id)).unwrap();
        assert_eq!(drain(&mut end, ms(20)), [expected]);
    }
}

#[test]
fn reply_that_is_fetched_late_is_not_forgotten() {
    let mut end = Small::new(Timing::SERVER, ms(0));
    let _ = end.handle_datagram(ms(0), &event(Type::Confirmable, 1)).unwrap();
    end.acknowledge(1).unwrap();
    let _ = end.handle_datagram(ms(46_000), &event(Type::Confirmable, 2)).unwrap();
    assert_eq!(drain(&mut end, ms(46_000)), [ack(1)]);
}

#[test]
fn each_wait_has_a_random_part_of_its_own() {
    let mut end = Small::new(Timing::SERVER, ms(0));
    end.send(&event(Type::Confirmable, 7), 0).unwrap();
    drain(&mut end, ms(0));
    assert_eq!(end.next_deadline(), Some(ms(4000)));
    end.handle_deadline(ms(4000), 128).unwrap();
    drain(&mut end, ms(4000));
    assert_eq!(end.next_deadline(), Some(ms(4000 + 10_000)));
    // The wait counts from the sending, however late that is.
    end.handle_deadline(ms(20_000), 0).unwrap();
    drain(&mut end, ms(30_000));
    assert_eq!(end.next_deadline(), Some(ms(30_000 + 16_000)));
}

#[test]
fn full_memory_refuses_without_acknowledging_until_the_oldest_is_45_seconds_old() {
    let mut end = Endpoint::<64, 1, 2, 1>::new(Timing::SERVER, ms(0));
    for id in [1, 2] {
        assert!(matches!(
            end.handle_datagram(ms(0), &event(Type::Confirmable, id)),
            Ok(Incoming::Message(_))
        ));
        end.acknowledge(id).unwrap();
    }
    drain(&mut end, ms(0));
    let third = event(Type::Confirmable, 3);
    assert_eq!(end.handle_datagram(ms(44_999), &third), Ok(Incoming::Refused { id: 3 }));
    assert!(drain(&mut end, ms(44_999)).is_empty());
    assert!(matches!(end.handle_datagram(ms(45_000), &third), Ok(Incoming::Message(_))));
}

#[test]
fn unrepeated_message_goes_out_once_and_takes_no_place() {
    let mut end = Small::new(Timing::SERVER, ms(0));
    end.send(&event(Type::Confirmable, 1), 0).unwrap();
    drain(&mut end, ms(0));
    for id in 2..300 {
        end.send_unrepeated(&event(Type::Confirmable, id)).unwrap();
        let next = end.send_unrepeated(&event(Type::Confirmable, 0)).unwrap_err();
        assert_eq!(next, SendError::Busy { waiting: 1 });
        assert_eq!(drain(&mut end, ms(1)), [event(Type::Confirmable, id)]);
    }
    assert!(end.pending().eq([1]));
    // An acknowledgement that comes all the same is nobody's.
    assert_eq!(end.handle_datagram(ms(2), &ack(7)), Ok(Incoming::Stray { id: 7 }));
    let _ = end.handle_datagram(ms(2), &ack(1)).unwrap();
    assert_eq!(end.next_deadline(), None);
    let long = event(Type::Confirmable, 8);
    let mut end = Endpoint::<6>::new(Timing::SERVER, ms(0));
    assert_eq!(end.send_unrepeated(&long), Err(SendError::TooLong { len: long.len(), limit: 6 }));
    assert!(matches!(end.send_unrepeated(&[1]), Err(SendError::Malformed(_))));
}

#[test]
fn forgotten_message_takes_no_place_and_is_shown_again() {
    let mut end = Small::new(Timing::SERVER, ms(0));
    for id in 0..300 {
        for _ in 0..2 {
            let message = event(Type::Confirmable, id);
            assert!(matches!(end.handle_datagram(ms(1), &message), Ok(Incoming::Message(_))));
            end.forget(id).unwrap();
        }
    }
    assert_eq!(drain(&mut end, ms(1)), [[0_u8; 0]; 0]);
    // What was replied to stays known.
    let message = event(Type::Confirmable, 7);
    let _ = end.handle_datagram(ms(1), &message).unwrap();
    end.acknowledge(7).unwrap();
    assert_eq!(end.forget(7), Err(SendError::NothingToReplyTo { id: 7 }));
    assert_eq!(end.handle_datagram(ms(1), &message), Ok(Incoming::Duplicate { id: 7, answered: true }));
}

#[test]
fn reset_ends_the_session() {
    let mut end = Small::new(Timing::DEVICE, ms(0));
    end.send(&event(Type::Confirmable, 7), 0).unwrap();
    drain(&mut end, ms(0));
    let reset = bytes(Type::Reset, Code::EMPTY, 7, Token::EMPTY, b"");
    assert_eq!(end.handle_datagram(ms(9), &reset), Ok(Incoming::Reset { id: 7 }));
    assert_eq!(end.closed(), Some(Closed::Reset { id: 7 }));
    assert_eq!(end.next_deadline(), None);
}

#[test]
fn reset_is_a_reply_like_another() {
    let mut end = Small::new(Timing::SERVER, ms(0));
    let reset = |id| bytes(Type::Reset, Code::EMPTY, id, Token::EMPTY, b"");
    let _ = end.handle_datagram(ms(0), &event(Type::Confirmable, 7)).unwrap();
    end.send(&reset(7), 0).unwrap();
    assert_eq!(drain(&mut end, ms(0)), [reset(7)]);
    let _ = end.handle_datagram(ms(1), &event(Type::Confirmable, 7)).unwrap();
    assert_eq!(drain(&mut end, ms(1)), [reset(7)]);
    end.send(&reset(8), 0).unwrap();
    assert_eq!(drain(&mut end, ms(2)), [reset(8)], "to a non-confirmable message");
}

#[test]
fn pings_are_acknowledged_without_the_application() {
    let mut end = Small::new(Timing::SERVER, ms(0));
    let ping = bytes(Type::Confirmable, Code::EMPTY, 0, Token::EMPTY, b"");
    assert_eq!(end.handle_datagram(ms(0), &ping), Ok(Incoming::Ping));
    assert_eq!(end.handle_datagram(ms(0), &ping), Ok(Incoming::Duplicate { id: 0, answered: true }));
    assert_eq!(drain(&mut end, ms(0)), [ack(0)]);
}

#[test]
fn device_keeps_the_path_open_after_23_minutes_of_silence() {
    let mut device = Small::new(Timing::DEVICE, ms(0));
    let mut server = Small::new(Timing::SERVER, ms(0));
    assert_eq!(server.next_deadline(), None, "servers do not");
    let minute = |n: u64| Duration::from_secs(60 * n);
    assert_eq!(device.next_deadline(), Some(minute(23)));
    let _ = device.handle_datagram(minute(10), &event(Type::NonConfirmable, 1)).unwrap();
    device.send(&event(Type::NonConfirmable, 2), 0).unwrap();
    drain(&mut device, minute(12));
    assert_eq!(device.next_deadline(), Some(minute(35)), "since the last datagram, either way");
    device.handle_deadline(minute(35) - ms(1), 0).unwrap();
    assert!(drain(&mut device, minute(35) - ms(1)).is_empty());
    device.handle_deadline(minute(35), 0).unwrap();
    assert_eq!(drain(&mut device, minute(35)), [[0]]);
    assert_eq!(device.next_deadline(), Some(minute(35) + ms(30_000)));
    // The server sends it back, and that is no keep-alive of the device's own again.
    assert_eq!(server.handle_datagram(minute(35), &[0]), Ok(Incoming::KeepAlive));
    assert_eq!(drain(&mut server, minute(35)), [[0]]);
    assert_eq!(device.handle_datagram(minute(35) + ms(100), &[0]), Ok(Incoming::KeepAlive));
    assert!(drain(&mut device, minute(35) + ms(100)).is_empty());
    assert_eq!(device.next_deadline(), Some(minute(58) + ms(100)));
}

#[test]
fn unanswered_keep_alive_ends_the_session_after_30_seconds() {
    let mut device = Small::new(Timing::DEVICE, ms(0));
    let start = KEEP_ALIVE_INTERVAL;
    device.handle_deadline(start, 0).unwrap();
    assert_eq!(drain(&mut device, start), [[0]]);
    device.handle_deadline(start + ms(29_999), 0).unwrap();
    let closed = Closed::KeepAlive { waited: ms(30_000) };
    assert_eq!(device.handle_deadline(start + ms(30_000), 0), Err(closed));
    assert_eq!(device.closed(), Some(closed));
}

#[test]
fn malformed_and_oversized_leave_everything_as_it_was() {
    let mut end = Small::new(Timing::DEVICE, ms(0));
    for datagram in [&[][..], &[1], &[0x40, 1, 0], &[0xff; 5], &[0, 0]] {
        assert!(matches!(end.handle_datagram(ms(9), datagram), Err(InputError::Malformed(_))));
    }
    assert_eq!(end.next_deadline(), Some(KEEP_ALIVE_INTERVAL), "nothing was heard");
    assert!(matches!(end.send(&[0x40, 1], 0), Err(SendError::Malformed(_))));
    let long = bytes(Type::Confirmable, Code::POST, 1, Token::EMPTY, &[7; 60]);
    assert_eq!(end.send(&long, 0), Err(SendError::TooLong { len: 65, limit: 64 }));
    assert_eq!(end.send(&ack(4), 0), Err(SendError::NothingToReplyTo { id: 4 }));
    end.send(&event(Type::NonConfirmable, 1), 0).unwrap();
    assert_eq!(end.send(&event(Type::NonConfirmable, 2), 0), Err(SendError::Busy { waiting: 1 }));
    let mut out = [0; 6];
    assert_eq!(end.poll_output(ms(9), &mut out), Err(OutputError { needed: 7, available: 6 }));
    assert_eq!(drain(&mut end, ms(9)), [event(Type::NonConfirmable, 1)]);
}

#[test]
fn hello_and_describe_of_a_udp_device_pass_through() {
    let mut device = Endpoint::<256>::new(Timing::DEVICE, ms(0));
    let mut server = Endpoint::<256>::new(Timing::SERVER, ms(0));
    let mut out = [0; 256];
    let id = DeviceId(*b"123456789abc");
    let hello = Hello { device_id: Some(id), ..Hello::new(10, 3, HelloFlags(0x16), 10) };
    let envelope = |kind, id, body| Envelope { kind, id, token: Token::EMPTY, body };
    let hello = envelope(Type::Confirmable, 1, FromDevice::Hello(hello));
    device.send(hello.encode_into(&mut out).unwrap(), 0).unwrap();
    let sent = drain(&mut device, ms(0));
    let Ok(Incoming::Message(message)) = server.handle_datagram(ms(30), &sent[0]) else { panic!() };
    assert_eq!((message.kind(), message.id()), (Type::Confirmable, 1));
    assert_eq!(Envelope::<FromDevice<'_>>::decode(&sent[0]).unwrap().body, hello.body);
    server.acknowledge(1).unwrap();

    // The server asks for a description; the device acknowledges and answers on its own.
    let (token, flags) = (Token::byte(5), Some(crate::message::describe::DescribeFlags(7)));
    let body = FromServer::Describe { flags };
    let describe = Envelope { kind: Type::Confirmable, id: 0x200, token, body };
    server.send(describe.encode_into(&mut out).unwrap(), 0).unwrap();
    for datagram in drain(&mut server, ms(40)) {
        match device.handle_datagram(ms(70), &datagram).unwrap() {
            Incoming::Acknowledged(ack) => assert_eq!(ack.id(), 1),
            Incoming::Message(message) => {
                assert_eq!(message.values(OptionNumber::URI_PATH).next(), Some(&b"d"[..]));
                device.acknowledge(message.id()).unwrap();
                let response = FromDevice::Response(Response { code: Code::CONTENT, payload: b"{}" });
                let answer = Envelope { kind: Type::Confirmable, id: 2, token, body: response };
                device.send(answer.encode_into(&mut out).unwrap(), 0).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    let answers = drain(&mut device, ms(70));
    assert_eq!(answers.len(), 2);
    // The acknowledgement is lost; the response stands for it.
    assert!(matches!(server.handle_datagram(ms(99), &answers[1]), Ok(Incoming::Message(_))));
    assert_eq!(server.pending().count(), 0);
}

/// Two endpoints, a network with faults, and a clock that jumps to whatever happens next.
struct Pair {
    ends: [Endpoint<64, 3, 64, 2>; 2],
    now: Duration,
    random: u64,
    /// Percent.
    loss: u64,
    duplication: u64,
    /// Milliseconds. With the repeats of 42 s at most, less than the 45 s that messages are remembered.
    delay: u64,
    /// Due time, number (so that equal times keep their order), receiver, bytes.
    network: Vec<(Duration, usize, usize, Vec<u8>)>,
    /// Replies that the applications owe: due time, end, id.
    replies: Vec<(Duration, usize, u16)>,
    next_id: [u16; 2],
    sent: [Vec<u16>; 2],
    acknowledged: [Vec<u16>; 2],
    delivered: [Vec<u16>; 2],
}

impl Pair {
    fn new(seed: u64, loss: u64, duplication: u64) -> Self {
        Self {
            ends: [Endpoint::new(Timing::DEVICE, ms(0)), Endpoint::new(Timing::SERVER, ms(0))],
            now: ms(0),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            loss,
            duplication,
            delay: 2900,
            network: Vec::new(),
            replies: Vec::new(),
            // So that ids wrap.
            next_id: [0xfff0, 0x0100],
            sent: Default::default(),
            acknowledged: Default::default(),
            delivered: Default::default(),
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % limit
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    fn transmit(&mut self) {
        for end in 0..2 {
            for datagram in drain(&mut self.ends[end], self.now) {
                let copies = if self.below(100) < self.duplication { 2 } else { 1 };
                for _ in 0..copies {
                    if self.below(100) >= self.loss {
                        let at = self.now + ms(self.below(self.delay));
                        self.network.push((at, self.network.len(), 1 - end, datagram.clone()));
                    }
                }
            }
        }
    }

    fn receive(&mut self, end: usize, datagram: &[u8]) {
        let late = ms(if self.below(3) == 0 { self.below(3000) } else { 0 });
        match self.ends[end].handle_datagram(self.now, datagram) {
            Ok(Incoming::Message(message)) if message.kind() == Type::Confirmable => {
                self.delivered[end].push(message.id());
                self.replies.push((self.now + late, end, message.id()));
            }
            Ok(Incoming::Acknowledged(message)) => self.acknowledged[end].push(message.id()),
            Ok(Incoming::Message(_) | Incoming::Duplicate { .. } | Incoming::Stray { .. }) => {}
            Ok(Incoming::KeepAlive) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert_eq!(error, InputError::Closed(self.ends[end].closed().unwrap())),
        }
    }

    fn reply(&mut self, end: usize, id: u16) {
        let reply = match self.below(3) {
            0 => bytes(Type::Acknowledgement, Code::CONTENT, id, Token::EMPTY, b"reply"),
            _ => ack(id),
        };
        match self.ends[end].send(&reply, 0) {
            Ok(()) | Err(SendError::Closed(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Until both have sent `count` messages and nothing is under way any more.
    fn run(&mut self, count: usize) {
        for _ in 0..100_000 {
            for end in 0..2 {
                while self.sent[end].len() < count {
                    let id = self.next_id[end];
                    let random = self.byte();
                    if self.ends[end].send(&event(Type::Confirmable, id), random).is_err() {
                        break;
                    }
                    self.sent[end].push(id);
                    self.next_id[end] = id.wrapping_add(1);
                }
            }
            self.transmit();
            let idle = self.ends.iter().all(|end| end.pending().count() == 0 || end.closed().is_some());
            if idle && self.network.is_empty() && self.replies.is_empty() {
                return;
            }
            let deadlines = self.ends.iter().filter_map(Endpoint::next_deadline);
            let arrivals = self.network.iter().map(|&(at, ..)| at);
            let owed = self.replies.iter().map(|&(at, ..)| at);
            self.now = deadlines.chain(arrivals).chain(owed).min().unwrap().max(self.now);
            for end in 0..2 {
                let random = self.byte();
                let _ = self.ends[end].handle_deadline(self.now, random);
            }
            self.network.sort_by_key(|&(at, number, ..)| (at, number));
            while self.network.first().is_some_and(|&(at, ..)| at <= self.now) {
                let (_, _, end, datagram) = self.network.remove(0);
                self.receive(end, &datagram);
            }
            let (now, mut due) = (self.now, Vec::new());
            self.replies.retain(|&(at, end, id)| {
                let is_due = at <= now;
                if is_due {
                    due.push((end, id));
                }
                !is_due
            });
            for (end, id) in due {
                self.reply(end, id);
                self.transmit();
            }
        }
        panic!("no end");
    }

    /// Delivered exactly once, or the sender was told.
    fn check(&self) {
        for end in 0..2 {
            let peer = 1 - end;
            let untold: Vec<u16> = self.ends[end].pending().collect();
            assert!(untold.is_empty() || self.ends[end].closed().is_some());
            for id in &self.sent[end] {
                let times = self.delivered[peer].iter().filter(|other| *other == id).count();
                assert!(times <= 1, "{id:#x} was delivered {times} times");
                if !untold.contains(id) {
                    assert_eq!(times, 1, "{id:#x} was acknowledged and not delivered");
                    assert!(self.acknowledged[end].contains(id));
                }
            }
            assert!(self.delivered[peer].iter().all(|id| self.sent[end].contains(id)));
        }
    }
}

#[test]
fn faultless_network_delivers_each_message_with_one_datagram() {
    let mut pair = Pair::new(1, 0, 0);
    pair.delay = 100;
    pair.run(30);
    pair.check();
    assert!(pair.ends.iter().all(|end| end.closed().is_none()));
    assert!(pair.acknowledged.iter().all(|ids| ids.len() == 30));
}

#[test]
fn loss_duplication_and_reorder_deliver_exactly_once_or_tell_the_sender() {
    let (mut completed, mut told) = (0, 0);
    for seed in 0..400 {
        let mut pair = Pair::new(seed + 1, [0, 10, 30, 50][usize::try_from(seed % 4).unwrap()], seed % 60);
        pair.run(12);
        pair.check();
        if pair.ends.iter().all(|end| end.closed().is_none()) {
            assert!(pair.delivered.iter().all(|ids| ids.len() == 12), "seed {seed}");
            completed += 1;
        } else {
            told += 1;
        }
    }
    assert!(completed > 250 && told > 20, "{completed} completed, {told} told");
}

#[test]
fn dead_network_is_told_to_both() {
    let mut pair = Pair::new(5, 100, 0);
    pair.run(2);
    pair.check();
    for end in &pair.ends {
        assert!(matches!(end.closed(), Some(Closed::Unanswered { sends: 4, .. })));
        assert_eq!(end.pending().count(), 2);
    }
}

proptest! {
    #[test]
    fn any_datagrams_are_taken_without_a_panic(
        datagrams in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..20), 0..90_u64), 0..40),
    ) {
        let mut end = Endpoint::<16, 1, 2, 1>::new(Timing::DEVICE, ms(0));
        let (mut now, mut out) = (ms(0), [0; 16]);
        for (datagram, later) in datagrams {
            now += ms(later * 1000);
            let _ = end.handle_deadline(now, datagram.first().copied().unwrap_or(0));
            if let Ok(Incoming::Message(message)) = end.handle_datagram(now, &datagram) {
                let was_new = message.kind() == Type::Confirmable;
                prop_assert!(end.acknowledge(message.id()).is_ok() || !was_new);
            }
            let _ = end.send(&datagram, 3);
            while end.poll_output(now, &mut out).unwrap().is_some() {}
            prop_assert!(end.closed().is_none() || end.next_deadline().is_none());
            prop_assert!(end.pending().count() <= 1);
        }
    }
}
