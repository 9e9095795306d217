//! Every event in every state of the receiver.

use crate::{Disk, NOW, drain, give, give_with, small};
use core::time::Duration;
use spark_ota::ymodem::{Received, Receiver, ReceiverFailure, ReceiverProfile};

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
