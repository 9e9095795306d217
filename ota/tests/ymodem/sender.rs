//! Every event in every state of the sender.

use crate::{NOW, image, sent, small};
use core::time::Duration;
use spark_ota::ymodem::{
    BlockSize, Header, NameError, Place, Sender, SenderError, SenderFailure, SenderProfile,
};

/// What a sender says, in a word.
fn word(bytes: &[u8]) -> String {
    match bytes {
        [] => "-".to_owned(),
        [0x04] => "EOT".to_owned(),
        [0x18, 0x18] => "CAN".to_owned(),
        [1 | 2, number, _, data @ ..] => match (number, data[0]) {
            (0, 0) => "last".to_owned(),
            (0, b'n') => "header".to_owned(),
            (number, _) => format!("block {number}"),
        },
        other => panic!("{other:02x?}"),
    }
}

const SENDER_STATES: [&str; 9] = [
    "start",
    "header",
    "header taken",
    "block 1",
    "block 2",
    "end of file",
    "end taken",
    "last packet",
    "closing",
];

/// A standard sender of two packets in this state, with its last output polled at time 0.
fn sender_in(state: &str) -> Sender<Vec<u8>> {
    let profile = SenderProfile { refusal_limit: 2, silence_limit: 1, ..SenderProfile::STANDARD };
    let file: Vec<u8> = image(1024 + 60);
    let mut sender = Sender::new(NOW, "n", file, profile).unwrap();
    let at = SENDER_STATES.iter().position(|name| *name == state).unwrap();
    for answer in [b"C", b"\x06", b"C", b"\x06", b"\x06", b"\x06", b"C", b"\x06"].into_iter().take(at) {
        sender.handle_input(NOW, answer);
        sent(&mut sender, NOW);
    }
    sender
}

#[test]
fn every_event_in_every_state_of_the_sender() {
    const LATE: Duration = Duration::from_secs(3);
    const SILENCE: Duration = Duration::from_secs(60);
    let events: [(&str, Duration, &[u8]); 7] = [
        ("C", NOW, b"C"),
        ("late C", LATE, b"C"),
        ("ACK", NOW, b"\x06"),
        ("NAK", NOW, b"\x15"),
        ("one CAN", NOW, b"\x18?\x18"),
        ("noise", NOW, b"\x00ca\xff\n"),
        ("silence", SILENCE, b""),
    ];
    let table = [
        // C, late C, ACK, NAK, one CAN, noise, silence
        ("start", ["header", "header", "-", "-", "-", "-", "CAN"]),
        ("header", ["-", "header", "-", "header", "-", "-", "header"]),
        ("header taken", ["block 1", "block 1", "-", "block 1", "-", "-", "block 1"]),
        ("block 1", ["-", "block 1", "block 2", "block 1", "-", "-", "block 1"]),
        ("block 2", ["-", "block 2", "EOT", "block 2", "-", "-", "block 2"]),
        ("end of file", ["-", "EOT", "-", "EOT", "-", "-", "EOT"]),
        ("end taken", ["last", "last", "-", "-", "-", "-", "last"]),
        ("last packet", ["-", "last", "-", "last", "-", "-", "last"]),
        ("closing", ["last", "last", "-", "last", "-", "-", "-"]),
    ];
    for (state, expected) in table {
        for ((event, now, bytes), expected) in events.iter().zip(expected) {
            let mut sender = sender_in(state);
            let deadline = sender.next_deadline().unwrap();
            sender.handle_deadline(deadline - Duration::from_nanos(1));
            assert_eq!(sent(&mut sender, NOW), Vec::<u8>::new(), "early calls are harmless");
            if bytes.is_empty() {
                assert!(deadline <= *now);
                sender.handle_deadline(*now);
            } else {
                let ends = state == "closing" && ["ACK", "noise"].contains(event);
                let one_can = usize::from(state == "closing" && *event == "one CAN");
                let expected = if ends {
                    0
                } else if one_can == 1 {
                    1
                } else {
                    bytes.len()
                };
                assert_eq!(sender.handle_input(*now, bytes), expected, "{event} in {state}");
            }
            assert_eq!(word(&sent(&mut sender, *now)), expected, "{event} in {state}");
            let ended = (state == "start" && *event == "silence").then_some(Err(SenderFailure::NotAsked));
            let closed = state == "closing" && ["ACK", "one CAN", "noise", "silence"].contains(event);
            let ended = if closed { Some(Ok(())) } else { ended };
            assert_eq!(sender.outcome(), ended, "{event} in {state}");
        }
    }
}

fn place_of(state: &str) -> Place {
    match state {
        "start" => Place::Start,
        "header" | "header taken" => Place::Header,
        "block 1" => Place::Block(1),
        "block 2" => Place::Block(2),
        "end of file" | "end taken" => Place::EndOfFile,
        _ => Place::LastPacket,
    }
}

#[test]
fn two_cans_in_a_row_end_the_transfer_and_what_follows_is_not_taken() {
    for state in SENDER_STATES {
        for bytes in [&b"\x18\x18text"[..], b"?\x18\x18text"] {
            let mut sender = sender_in(state);
            if state == "closing" && bytes[0] == b'?' {
                continue;
            }
            assert_eq!(sender.handle_input(NOW, bytes), bytes.len() - 4);
            assert_eq!(sent(&mut sender, NOW), Vec::<u8>::new(), "the receiver knows already");
            let failure = SenderFailure::CancelledByReceiver { place: place_of(state) };
            assert_eq!(sender.outcome(), Some(Err(failure)), "{state}");
            assert_eq!((sender.handle_input(NOW, b"C"), sender.next_deadline()), (0, None));
        }
    }
}

#[test]
fn cancelling_tells_the_receiver_once() {
    for state in SENDER_STATES {
        let mut sender = sender_in(state);
        sender.cancel();
        sender.cancel();
        assert_eq!(sent(&mut sender, NOW), [0x18; 2]);
        assert_eq!(sender.outcome(), Some(Err(SenderFailure::Cancelled)));
    }
    let mut done = sender_in("last packet");
    done.handle_input(NOW, b"\x06\r");
    done.cancel();
    assert_eq!((done.outcome(), sent(&mut done, NOW)), (Some(Ok(())), vec![]), "too late");
}

#[test]
fn sender_gives_up_where_its_limits_are() {
    let place = Place::Block(1);
    let mut sender = sender_in("block 1");
    for _ in 0..2 {
        sender.handle_input(NOW, b"\x15");
        assert_eq!(word(&sent(&mut sender, NOW)), "block 1");
    }
    sender.handle_input(NOW, b"\x15");
    assert_eq!(word(&sent(&mut sender, NOW)), "CAN");
    assert_eq!(sender.outcome(), Some(Err(SenderFailure::Refused { place, times: 3 })));

    let mut sender = sender_in("block 1");
    for (now, expected) in [(60, "block 1"), (120, "CAN")] {
        let now = Duration::from_secs(now);
        sender.handle_deadline(now);
        assert_eq!(word(&sent(&mut sender, now)), expected);
    }
    assert_eq!(sender.outcome(), Some(Err(SenderFailure::Unanswered { place })));
    assert_eq!(sender.progress().resent, 1);
}

#[test]
fn limits_count_anew_for_each_packet() {
    let mut sender = sender_in("block 1");
    sender.handle_input(NOW, b"\x15");
    sent(&mut sender, NOW);
    sender.handle_input(NOW, b"\x15");
    sent(&mut sender, NOW);
    for expected in ["block 2", "block 2", "block 2"] {
        let answer: &[u8] = if sender.progress().taken == 0 { b"\x06" } else { b"\x15" };
        sender.handle_input(NOW, answer);
        assert_eq!(word(&sent(&mut sender, NOW)), expected);
    }
}

#[test]
fn answers_that_come_before_a_packet_was_sent_do_not_count() {
    let mut sender = sender_in("block 1");
    sender.handle_input(NOW, b"\x15\x15\x15\x15\x06");
    assert_eq!(word(&sent(&mut sender, NOW)), "block 1");
    sender.handle_input(NOW, b"\x06\x06\x06");
    assert_eq!(word(&sent(&mut sender, NOW)), "block 2");
}

#[test]
fn times_of_the_vendors_program() {
    let mut sender =
        Sender::new(Duration::from_secs(3), "binary", [7; 300], SenderProfile::PARTICLE).unwrap();
    assert_eq!(sender.next_deadline(), Some(Duration::from_secs(13)), "10 s for the first answer");
    sender.start();
    assert_eq!(sender.next_deadline(), None, "there is something to send");
    sent(&mut sender, Duration::from_secs(4));
    assert_eq!(sender.next_deadline(), Some(Duration::from_secs(74)), "70 s for a packet");
    sender.handle_deadline(Duration::from_secs(74));
    assert_eq!(sender.outcome(), Some(Err(SenderFailure::Unanswered { place: Place::Header })));
}

#[test]
fn files_that_cannot_be_announced_are_refused_before_anything_is_sent() {
    let new = |name: &str, profile| Sender::new(NOW, name, [1; 3], profile).map(|_| ());
    assert_eq!(new("", SenderProfile::STANDARD), Err(NameError::Empty.into()));
    assert_eq!(new("a\0b", SenderProfile::PARTICLE), Err(NameError::Zero { offset: 1 }.into()));
    let long = "x".repeat(Header::name_limit(BlockSize::Large));
    assert_eq!(new(&long, SenderProfile::STANDARD), Ok(()), "in a large packet");
    let error = NameError::TooLong { length: long.len() + 1, limit: long.len() };
    assert_eq!(new(&format!("{long}x"), SenderProfile::STANDARD), Err(SenderError::Name(error)));
}

#[test]
fn packets_of_a_standard_sender_carry_checksums_and_numbers_that_wrap() {
    let file = image(256 * 128 + 5);
    let profile = SenderProfile { block_size: BlockSize::Small, ..SenderProfile::STANDARD };
    let mut sender = Sender::new(NOW, "n", &file, profile).unwrap();
    sender.handle_input(NOW, b"C");
    assert_eq!(sent(&mut sender, NOW), small(0, b"n\x0032773 0"));
    sender.handle_input(NOW, b"\x06C");
    for (at, data) in file.chunks(128).enumerate() {
        let number = u8::try_from((at + 1) % 256).unwrap();
        assert_eq!(sent(&mut sender, NOW), small(number, data), "{at}");
        sender.handle_input(NOW, b"\x06");
    }
    assert_eq!(sent(&mut sender, NOW), [0x04]);
    sender.handle_input(NOW, b"\x06C");
    assert_eq!(sent(&mut sender, NOW), small(0, &[]));
    assert_eq!(usize::try_from(sender.progress().taken).unwrap(), file.len());
}

#[test]
fn an_empty_file_is_a_header_and_an_end() {
    let mut sender = Sender::new(NOW, "n", [], SenderProfile::STANDARD).unwrap();
    let mut said = Vec::new();
    for answer in [&b"C"[..], b"\x06C", b"\x06C", b"\x06\r"] {
        sender.handle_input(NOW, answer);
        said.push(word(&sent(&mut sender, NOW)));
    }
    assert_eq!(said, ["header", "EOT", "last", "-"]);
    assert_eq!(sender.outcome(), Some(Ok(())));
}
