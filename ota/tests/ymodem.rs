//! YMODEM: recorded senders, every event in every state, and pairs under a virtual clock on bad links.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

use core::time::Duration;
use proptest::prelude::*;
use serde_json::Value;
use spark_ota::crc32;
use spark_ota::ymodem::{
    BlockSize, Header, NameError, Place, Received, Receiver, ReceiverFailure, ReceiverOutput,
    ReceiverProfile, Sender, SenderError, SenderFailure, SenderProfile, crc16,
};
use std::collections::VecDeque;

const NOW: Duration = Duration::ZERO;

fn image(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap()).collect()
}

fn sent<I: AsRef<[u8]>>(sender: &mut Sender<I>, now: Duration) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = sender.poll_output(now) {
        all.extend_from_slice(bytes);
    }
    all
}

/// A packet as a standard sender makes it.
fn packet(size: BlockSize, number: u8, data: &[u8]) -> Vec<u8> {
    let mut padded = data.to_vec();
    padded.resize(size.bytes(), 0);
    let mut packet = vec![size.start(), number, !number];
    packet.extend_from_slice(&padded);
    packet.extend(crc16(&padded).to_be_bytes());
    packet
}

fn small(number: u8, data: &[u8]) -> Vec<u8> {
    packet(BlockSize::Small, number, data)
}

fn vector(name: &str) -> Value {
    let path = format!("{}/tests/vectors/ymodem/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn sender_says_byte_for_byte_what_the_vendors_program_says() {
    for (name, block_size) in [("ymodem-128", BlockSize::Small), ("ymodem-1024", BlockSize::Large)] {
        let vector = vector(name);
        let file = hex::decode(vector["image_hex"].as_str().unwrap()).unwrap();
        let profile = SenderProfile { block_size, ..SenderProfile::PARTICLE };
        let mut sender = Sender::new(NOW, "binary", &file, profile).unwrap();
        let log = vector["log"].as_array().unwrap();
        // The first word is the letter of listening mode; the answer to it may be a text.
        let bytes = |at: usize| hex::decode(log[at]["hex"].as_str().unwrap()).unwrap();
        sender.handle_input(NOW, &bytes(1));
        if vector["start"] == "listening" {
            assert_eq!(sender.poll_output(NOW), None, "a text is no `C`");
            sender.start();
        }
        for at in (2..log.len()).step_by(2) {
            assert_eq!(sent(&mut sender, NOW), bytes(at), "{name}, entry {at}");
            let answer = bytes(at + 1);
            assert_eq!(sender.handle_input(NOW, &answer), answer.len());
        }
        assert_eq!((sender.outcome(), sender.next_deadline()), (None, Some(Duration::from_millis(250))));
        sender.handle_deadline(Duration::from_millis(250));
        assert_eq!(sender.outcome(), Some(Ok(())));
    }
}

/// What a receiver was asked to do, and said: hex, `begin`, `write N`, `finish`, joined by spaces.
#[derive(Default, Debug, PartialEq, Eq)]
struct Disk {
    log: Vec<String>,
    said: Vec<u8>,
    files: Vec<(String, Vec<u8>)>,
    finished: u32,
}

impl Disk {
    fn log(&mut self) -> String {
        core::mem::take(&mut self.log).join(" ")
    }
}

/// Does and says everything that is due; `luck` decides whether work succeeds.
fn drain(receiver: &mut Receiver, now: Duration, disk: &mut Disk, luck: &mut dyn FnMut(&str, &Disk) -> bool) {
    while let Some(output) = receiver.poll_output() {
        let work = match output {
            ReceiverOutput::Send(bytes) => {
                disk.said.extend_from_slice(bytes);
                disk.log.push(hex::encode(bytes));
                continue;
            }
            ReceiverOutput::Begin(header) => {
                disk.files.push((String::from_utf8_lossy(header.name).into_owned(), Vec::new()));
                "begin".to_owned()
            }
            ReceiverOutput::Write { offset, data } => {
                let file = &mut disk.files.last_mut().unwrap().1;
                assert_eq!(usize::try_from(offset).unwrap(), file.len(), "without gaps");
                file.extend_from_slice(data);
                format!("write {}", data.len())
            }
            ReceiverOutput::Finish { .. } => {
                disk.finished += 1;
                "finish".to_owned()
            }
            other => panic!("{other:?}"),
        };
        let ok = luck(&work, disk);
        disk.log.push(work);
        assert_eq!(receiver.poll_output(), None, "nothing more before the work is done");
        assert_eq!(receiver.handle_input(now, b"C"), 0, "and nothing is taken");
        receiver.work_done(now, ok);
    }
}

fn give_with(
    receiver: &mut Receiver,
    now: Duration,
    bytes: &[u8],
    disk: &mut Disk,
    luck: &mut dyn FnMut(&str, &Disk) -> bool,
) -> usize {
    drain(receiver, now, disk, luck);
    let mut rest = bytes;
    while !rest.is_empty() && receiver.outcome().is_none() {
        let used = receiver.handle_input(now, rest);
        assert!(used > 0, "stuck");
        rest = &rest[used..];
        drain(receiver, now, disk, luck);
    }
    bytes.len() - rest.len()
}

fn give(receiver: &mut Receiver, bytes: &[u8], disk: &mut Disk) -> usize {
    give_with(receiver, NOW, bytes, disk, &mut |_, _| true)
}

#[test]
fn device_takes_what_the_vendors_program_says_and_answers_as_recorded() {
    for (name, profile) in [("ymodem-128", ReceiverProfile::V0_4), ("ymodem-1024", ReceiverProfile::V2_0)] {
        let vector = vector(name);
        let file = hex::decode(vector["image_hex"].as_str().unwrap()).unwrap();
        for piece in [1, 7, 4096] {
            let mut receiver = Receiver::new(NOW, profile, 0x4_0000);
            let mut disk = Disk::default();
            give(&mut receiver, &[], &mut disk);
            assert_eq!(core::mem::take(&mut disk.said), b"C");
            for pair in vector["log"].as_array().unwrap()[2..].chunks(2) {
                let [sent, answer] =
                    [&pair[0], &pair[1]].map(|it| hex::decode(it["hex"].as_str().unwrap()).unwrap());
                for piece in sent.chunks(piece) {
                    assert_eq!(give(&mut receiver, piece, &mut disk), piece.len());
                }
                assert_eq!(core::mem::take(&mut disk.said), answer, "{name}");
            }
            let length = u32::try_from(file.len()).unwrap();
            assert_eq!(receiver.outcome(), Some(Ok(Received { files: 1, length })));
            assert_eq!((disk.files[0].0.as_str(), disk.finished), ("binary", 1));
            let written = &disk.files[0].1;
            let packet = usize::try_from(vector["packet_length"].as_u64().unwrap()).unwrap();
            assert_eq!(written.len(), file.len().next_multiple_of(packet), "with the filling");
            assert_eq!(written[..file.len()], file);
        }
    }
}

// ---- every event in every state of the sender

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

// ---- every event in every state of the receiver

/// Name of the profile, profile, event, its bytes, what is done and said in each state.
type Row = (&'static str, ReceiverProfile, &'static str, Vec<u8>, [&'static str; 5]);

fn receiver_in(state: &str, profile: ReceiverProfile) -> Receiver {
    let mut receiver = Receiver::new(NOW, profile, 1000);
    let mut disk = Disk::default();
    give(&mut receiver, &[], &mut disk);
    let steps = [small(0, b"n\x00130 "), small(1, &[5; 128]), small(2, &[6; 2]), vec![0x04]];
    let at = ["header", "block 1", "block 2", "end", "last"].iter().position(|name| *name == state).unwrap();
    for step in steps.iter().take(at) {
        give(&mut receiver, step, &mut disk);
    }
    receiver
}

#[test]
fn every_event_in_every_state_of_the_receiver() {
    let broken = |at: usize, number: u8| {
        let mut packet = small(number, &[9; 128]);
        packet[at] ^= 0x40;
        packet
    };
    let long = small(0, b"n\x001001 ");
    let nameless = small(0, b"");
    let states = ["header", "block 1", "block 2", "end", "last"];
    let device = ReceiverProfile::V2_0;
    let standard = ReceiverProfile { purge: None, ..ReceiverProfile::STANDARD };
    #[rustfmt::skip]
    let table: [Row; 24] = [
        ("D", device, "header", small(0, b"n\x00130 "), ["begin 0643", "15", "15", "15", "1818"]),
        ("D", device, "header, too long", long.clone(), ["1818", "15", "15", "15", "1818"]),
        ("D", device, "header, no length", small(0, b"n\0"), ["1818", "15", "15", "15", "1818"]),
        ("D", device, "packet 1", small(1, &[5; 128]), ["15", "write 128 06", "15", "15", "15"]),
        ("D", device, "packet 2", small(2, &[5; 128]), ["15", "15", "write 128 06", "15", "15"]),
        ("D", device, "no complement", broken(2, 1), ["43", "43", "43", "43", "43"]),
        ("D", device, "no name", nameless.clone(), ["06", "15", "15", "15", "finish 06"]),
        ("D", device, "EOT", vec![4], ["43", "43", "43", "06", "06"]),
        ("D", device, "CAN CAN", vec![0x18, 0x18], ["06"; 5]),
        ("D", device, "CAN ?", vec![0x18, b'?'], ["43"; 5]),
        ("D", device, "A", b"A".to_vec(), ["1818"; 5]),
        ("D", device, "a", b"a".to_vec(), ["1818"; 5]),
        ("D", device, "space", b" ".to_vec(), ["06"; 5]),
        ("D", device, "noise", b"?".to_vec(), ["43"; 5]),
        ("S", standard, "header", small(0, b"n\x00130 "), ["begin 0643", "0643", "1818", "1818", "begin 0643"]),
        ("S", standard, "packet 1", small(1, &[5; 128]), ["1818", "write 128 06", "06", "1818", "1818"]),
        ("S", standard, "packet 2", small(2, &[5; 2]), ["1818", "1818", "write 2 06", "06", "1818"]),
        ("S", standard, "no complement", broken(2, 1), ["43", "15", "15", "15", "43"]),
        ("S", standard, "no checksum", broken(9, 1), ["43", "15", "15", "15", "43"]),
        ("S", standard, "no name", nameless, ["06", "1818", "1818", "1818", "06"]),
        ("S", standard, "EOT", vec![4], ["43", "15", "15", "finish 0643", "0643"]),
        ("S", standard, "A", b"A".to_vec(), ["43", "15", "15", "15", "43"]),
        ("S", standard, "space", b" ".to_vec(), ["43", "15", "15", "15", "43"]),
        ("S", standard, "too much", small(3, &[5; 128]), ["1818", "1818", "1818", "1818", "1818"]),
    ];
    for (which, profile, event, bytes, expected) in &table {
        for (state, expected) in states.iter().zip(expected) {
            let mut receiver = receiver_in(state, *profile);
            let mut disk =
                Disk { files: vec![(String::new(), vec![0; 128 * receiver_len(state)])], ..Disk::default() };
            give(&mut receiver, bytes, &mut disk);
            assert_eq!(disk.log(), *expected, "{which}: {event} in {state}");
            let said_end = ["1818", "finish 06"].contains(expected)
                || *event == "CAN CAN"
                || event.starts_with("no name") && *expected == "06";
            assert_eq!(receiver.outcome().is_some(), said_end, "{which}: {event} in {state}");
        }
    }
    let due = small(3, &[5; 128]);
    let mut receiver = receiver_in("end", standard);
    give(&mut receiver, &due, &mut Disk::default());
    let too_long = ReceiverFailure::TooLong { length: 131, limit: 130 };
    assert_eq!(receiver.outcome(), Some(Err(too_long)), "more than was announced");
}

/// Packets that were written on the way to a state.
fn receiver_len(state: &str) -> usize {
    match state {
        "block 2" => 1,
        "end" | "last" => 2,
        _ => 0,
    }
}

#[test]
fn silence_is_answered_until_the_limit() {
    for (profile, state, answer) in [
        (ReceiverProfile::V2_0, "header", "43"),
        (ReceiverProfile::V2_0, "block 1", "43"),
        (ReceiverProfile::V2_0, "last", "43"),
        (ReceiverProfile::STANDARD, "header", "43"),
        (ReceiverProfile::STANDARD, "block 1", "15"),
    ] {
        let mut receiver = receiver_in(state, profile);
        let mut disk = Disk::default();
        let mut now = NOW;
        for _ in 0..profile.error_limit {
            let deadline = receiver.next_deadline().unwrap();
            assert_eq!(deadline, now + Duration::from_secs(5));
            receiver.handle_deadline(now);
            now = deadline;
            receiver.handle_deadline(now);
            drain(&mut receiver, now, &mut disk, &mut |_, _| true);
            assert_eq!(disk.log(), answer);
        }
        now += Duration::from_secs(5);
        receiver.handle_deadline(now);
        drain(&mut receiver, now, &mut disk, &mut |_, _| true);
        assert_eq!(disk.log(), "1818");
        let errors = profile.error_limit + 1;
        assert_eq!(receiver.outcome(), Some(Err(ReceiverFailure::TooManyErrors { errors })));
    }
}

#[test]
fn whole_files_stay_whole_when_the_last_packet_never_comes() {
    let mut receiver = receiver_in("end", ReceiverProfile::STANDARD);
    let mut disk = Disk::default();
    give(&mut receiver, &[4], &mut disk);
    let mut now = NOW;
    while receiver.outcome().is_none() {
        now += Duration::from_secs(5);
        receiver.handle_deadline(now);
        drain(&mut receiver, now, &mut disk, &mut |_, _| true);
    }
    assert_eq!(disk.log(), "finish 0643 43 43");
    assert_eq!(receiver.outcome(), Some(Ok(Received { files: 1, length: 130 })));
}

#[test]
fn work_that_fails_ends_the_transfer() {
    let stream =
        [small(0, b"n\x00130 "), small(1, &[5; 128]), small(2, &[6; 2]), vec![0x04], small(0, &[])].concat();
    for (profile, failing, log, failure) in [
        (ReceiverProfile::V2_0, "begin", "43 begin 1818", ReceiverFailure::Refused),
        (
            ReceiverProfile::V2_0,
            "write",
            "43 begin 0643 write 128 1818",
            ReceiverFailure::NotWritten { offset: 0 },
        ),
        (
            ReceiverProfile::V2_0,
            "finish",
            "43 begin 0643 write 128 06 write 128 06 06 finish 1818",
            ReceiverFailure::Invalid,
        ),
        (
            ReceiverProfile::V0_4,
            "finish",
            "43 begin 0643 write 128 06 write 128 06 06 06 finish",
            ReceiverFailure::Invalid,
        ),
        (
            ReceiverProfile::STANDARD,
            "finish",
            "43 begin 0643 write 128 06 write 2 06 finish 1818",
            ReceiverFailure::Invalid,
        ),
    ] {
        let mut receiver = Receiver::new(NOW, profile, 1000);
        let mut disk = Disk::default();
        give_with(&mut receiver, NOW, &stream, &mut disk, &mut |work, _| !work.starts_with(failing));
        assert_eq!(disk.log(), log);
        assert_eq!(receiver.outcome(), Some(Err(failure)));
    }
}

#[test]
fn damage_is_answered_when_the_line_is_silent() {
    let mut receiver = receiver_in("block 1", ReceiverProfile::STANDARD);
    let mut disk = Disk { files: vec![Default::default()], ..Disk::default() };
    let mut damaged = small(1, &[5; 128]);
    damaged[0] = 0x7f;
    // All of it is taken for noise, an `EOT` in it included.
    damaged[50] = 4;
    give(&mut receiver, &damaged, &mut disk);
    assert_eq!((disk.log().as_str(), receiver.next_deadline()), ("", Some(Duration::from_secs(1))));
    receiver.handle_deadline(Duration::from_secs(1));
    give_with(&mut receiver, Duration::from_secs(1), &small(1, &[5; 128]), &mut disk, &mut |_, _| true);
    assert_eq!(disk.log(), "15 write 128 06");
}

#[test]
fn zeros_in_place_of_checksums_are_taken_only_from_senders_that_begin_so() {
    let without = |number, data: &[u8]| {
        let mut packet = small(number, data);
        let end = packet.len();
        packet[end - 2..].fill(0);
        packet
    };
    let cases = [
        (
            ReceiverProfile::STANDARD,
            without(0, b"n\x00130 "),
            without(1, &[5; 128]),
            "begin 0643 write 128 06",
        ),
        (ReceiverProfile::STANDARD, small(0, b"n\x00130 "), without(1, &[5; 128]), "begin 0643 15"),
        (ReceiverProfile::STRICT, small(0, b"n\x00130 "), small(1, &[5; 128]), "begin 0643 write 128 06"),
        (ReceiverProfile::STRICT, without(0, b"n\x00130 "), small(1, &[5; 128]), "43 1818"),
        (ReceiverProfile::V2_0, small(0, b"n\x00130 "), without(1, &[5; 128]), "begin 0643 write 128 06"),
    ];
    for (profile, header, block, log) in cases {
        let mut receiver =
            Receiver::new(NOW, ReceiverProfile { asks_first: false, purge: None, ..profile }, 1000);
        let mut disk = Disk::default();
        give(&mut receiver, &header, &mut disk);
        give(&mut receiver, &block, &mut disk);
        assert_eq!(disk.log(), log);
    }
}

#[test]
fn several_files_in_a_row() {
    let mut receiver = Receiver::new(NOW, ReceiverProfile::STANDARD, 1000);
    let mut disk = Disk::default();
    for (name, data) in [("one", &[1; 5][..]), ("two", &[]), ("three", &[3; 128])] {
        give(&mut receiver, &small(0, format!("{name}\0{} 123 644", data.len()).as_bytes()), &mut disk);
        if !data.is_empty() {
            give(&mut receiver, &small(1, data), &mut disk);
        }
        give(&mut receiver, &[4], &mut disk);
    }
    give(&mut receiver, &small(0, &[]), &mut disk);
    assert_eq!(receiver.outcome(), Some(Ok(Received { files: 3, length: 128 })));
    let files: Vec<_> = disk.files.iter().map(|(name, data)| (name.as_str(), data.len())).collect();
    assert_eq!(files, [("one", 5), ("two", 0), ("three", 128)]);
}

// ---- pairs

/// What happens to the n-th transmission of one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Arrives,
    Lost,
    /// One bit is wrong.
    Damaged(usize),
    /// The first bytes are missing.
    Cut(usize),
    /// All of it comes twice.
    Twice,
    Late(Duration),
}

impl Fate {
    fn apply(self, bytes: &[u8]) -> Vec<u8> {
        let mut out = bytes.to_vec();
        match self {
            Self::Lost => out.clear(),
            Self::Damaged(bit) => out[bit / 8 % bytes.len()] ^= 1 << (bit % 8),
            Self::Cut(len) => drop(out.drain(..len % (bytes.len() + 1))),
            Self::Twice => out.extend_from_slice(bytes),
            Self::Arrives | Self::Late(_) => {}
        }
        out
    }
}

#[derive(Default)]
struct Wire {
    on_the_way: VecDeque<(Duration, Vec<u8>)>,
    count: usize,
}

impl Wire {
    fn put(&mut self, now: Duration, bytes: &[u8], fates: &dyn Fn(usize) -> Fate) {
        let fate = fates(self.count);
        self.count += 1;
        let late = if let Fate::Late(time) = fate { time } else { Duration::ZERO };
        let last = self.on_the_way.back().map_or(NOW, |(at, _)| *at);
        // Nothing overtakes on a wire.
        let arrival = (now + Duration::from_millis(2) + late).max(last);
        self.on_the_way.push_back((arrival, fate.apply(bytes)));
    }

    fn take(&mut self, now: Duration) -> Option<Vec<u8>> {
        self.on_the_way.pop_front_if(|(at, _)| *at <= now).map(|(_, bytes)| bytes)
    }

    fn next(&self) -> Option<Duration> {
        self.on_the_way.front().map(|(at, _)| *at)
    }
}

struct Outcome {
    sender: Result<(), SenderFailure>,
    receiver: Result<Received, ReceiverFailure>,
    disk: Disk,
    /// What the receiver did and said.
    history: String,
    took: Duration,
}

/// Runs both ends until both have ended.
fn run(
    file: &[u8],
    from: SenderProfile,
    to: ReceiverProfile,
    there: &dyn Fn(usize) -> Fate,
    back: &dyn Fn(usize) -> Fate,
) -> Outcome {
    let mut sender = Sender::new(NOW, "binary", file, from).unwrap();
    let mut receiver = Receiver::new(NOW, to, 0x4_0000);
    let (mut forth, mut home) = (Wire::default(), Wire::default());
    let mut disk = Disk::default();
    let mut now = NOW;
    // Firmware looks at the whole image before it says that it is valid.
    let expected = crc32(file);
    let mut luck = |work: &str, disk: &Disk| {
        let data = &disk.files.last().unwrap().1;
        work != "finish" || crc32(&data[..data.len().min(file.len())]) == expected
    };
    for _ in 0..100_000 {
        while let Some(bytes) = sender.poll_output(now) {
            forth.put(now, bytes, there);
        }
        drain(&mut receiver, now, &mut disk, &mut luck);
        let said = core::mem::take(&mut disk.said);
        if !said.is_empty() {
            home.put(now, &said, back);
        }
        if let Some(bytes) = forth.take(now) {
            give_with(&mut receiver, now, &bytes, &mut disk, &mut luck);
            continue;
        }
        if let Some(bytes) = home.take(now) {
            sender.handle_input(now, &bytes);
            continue;
        }
        if let (Some(sender), Some(receiver)) = (sender.outcome(), receiver.outcome()) {
            let history = disk.log();
            return Outcome { sender, receiver, disk, history, took: now };
        }
        let events = [forth.next(), home.next(), sender.next_deadline(), receiver.next_deadline()];
        now = now.max(events.into_iter().flatten().min().unwrap());
        sender.handle_deadline(now);
        receiver.handle_deadline(now);
    }
    panic!("it does not end");
}

const fn fine(_: usize) -> Fate {
    Fate::Arrives
}

#[test]
fn pairs_exchange_files_of_all_sizes() {
    let device = ReceiverProfile { cuts_filling: true, ..ReceiverProfile::V0_4 };
    for len in [1, 127, 128, 129, 1023, 1024, 1025, 128 * 256 + 1, 250_956] {
        let file = image(len);
        for (from, to) in [
            (SenderProfile::PARTICLE, ReceiverProfile::V0_4),
            (SenderProfile::PARTICLE, ReceiverProfile::V2_0),
            (
                SenderProfile { block_size: BlockSize::Small, ..SenderProfile::PARTICLE },
                ReceiverProfile::V2_0,
            ),
            (SenderProfile { checksums: true, ..SenderProfile::PARTICLE }, device),
            (SenderProfile::STANDARD, ReceiverProfile::STANDARD),
            (SenderProfile::STANDARD, ReceiverProfile::STRICT),
        ] {
            let outcome = run(&file, from, to, &fine, &fine);
            let length = u32::try_from(len).unwrap();
            assert_eq!((outcome.sender, outcome.receiver), (Ok(()), Ok(Received { files: 1, length })));
            assert_eq!(outcome.disk.files[0].1[..len], file);
            assert!(outcome.took < Duration::from_secs(20), "{:?}", outcome.took);
        }
    }
}

#[test]
fn standard_pairs_survive_any_single_fault() {
    let file = image(3000);
    let from = SenderProfile::STANDARD;
    let fates = [
        Fate::Lost,
        Fate::Damaged(3),
        Fate::Damaged(12),
        Fate::Damaged(4001),
        Fate::Cut(1),
        Fate::Cut(70),
        Fate::Twice,
        Fate::Late(Duration::from_millis(700)),
        Fate::Late(Duration::from_millis(1400)),
    ];
    for fate in fates {
        for at in 0..12 {
            let once = |n: usize| if n == at { fate } else { Fate::Arrives };
            for (there, back) in
                [(&once as &dyn Fn(usize) -> Fate, &fine as &dyn Fn(usize) -> Fate), (&fine, &once)]
            {
                let outcome = run(&file, from, ReceiverProfile::STANDARD, there, back);
                let way = if core::ptr::eq(there, &once) { "there" } else { "back" };
                assert_eq!(outcome.sender, Ok(()), "{fate:?} at {at} {way}");
                assert_eq!(outcome.disk.files.last().unwrap().1, file, "{fate:?} at {at} {way}");
                assert!(outcome.receiver.is_ok(), "{fate:?} at {at} {way}");
            }
        }
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        12 => Just(Fate::Arrives),
        1 => Just(Fate::Lost),
        1 => any::<u16>().prop_map(|bit| Fate::Damaged(bit.into())),
        1 => (1..300_usize).prop_map(Fate::Cut),
        1 => Just(Fate::Twice),
        1 => (0..1_400_u64).prop_map(|ms| Fate::Late(Duration::from_millis(ms))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_success_is_claimed_for_a_wrong_file(
        len in 1..6000_usize,
        choice in 0..6_usize,
        there in proptest::collection::vec(fate(), 60),
        back in proptest::collection::vec(fate(), 60),
    ) {
        let file = image(len);
        let checked = ReceiverProfile { checksums: spark_ota::ymodem::ChecksumRule::RightOrZero, ..ReceiverProfile::V2_0 };
        let (from, to) = [
            (SenderProfile::STANDARD, ReceiverProfile::STANDARD),
            (SenderProfile::STANDARD, ReceiverProfile::STRICT),
            (SenderProfile { block_size: BlockSize::Small, ..SenderProfile::STANDARD }, ReceiverProfile::STRICT),
            (SenderProfile::PARTICLE, ReceiverProfile::V2_0),
            (SenderProfile { checksums: true, ..SenderProfile::PARTICLE }, checked),
            (SenderProfile { block_size: BlockSize::Small, ..SenderProfile::PARTICLE }, ReceiverProfile::V0_4),
        ][choice];
        let outcome = run(
            &file,
            from,
            to,
            &|n| there.get(n).copied().unwrap_or(Fate::Arrives),
            &|n| back.get(n).copied().unwrap_or(Fate::Arrives),
        );
        let last = outcome.disk.files.last().map(|(_, data)| &data[..data.len().min(len)]);
        if outcome.receiver.is_ok() {
            prop_assert_eq!(last, Some(&file[..]));
        }
        // A device of old acknowledges first and looks then.
        if outcome.sender.is_ok() && to.finish_at != spark_ota::ymodem::FinishAt::AfterLastPacket {
            prop_assert_eq!(last, Some(&file[..]));
            prop_assert_eq!(outcome.disk.finished, 1, "{} {:?}", outcome.history, outcome.receiver);
        }
        prop_assert!(outcome.took < Duration::from_secs(3600));
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..3000), device: bool) {
        let profile = if device { ReceiverProfile::V2_0 } else { ReceiverProfile::STANDARD };
        let mut receiver = Receiver::new(NOW, profile, 1000);
        give(&mut receiver, &bytes, &mut Disk::default());
        let mut sender = Sender::new(NOW, "n", image(3000), SenderProfile::STANDARD).unwrap();
        for part in bytes.chunks(3) {
            sender.handle_input(NOW, part);
            sent(&mut sender, NOW);
        }
    }
}
