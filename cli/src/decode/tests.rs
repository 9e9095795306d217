//! Whatever the bytes: no panic, and what is kept stays bounded.

use super::capture::{Capture, Form};
use super::record::Record;
use super::table::Table;
use super::talk::Talk;
use super::{Known, Speaker, text, view};
use coap_spark::session::{Sealer, SessionKeys};
use pcap_file::DataLink;
use proptest::prelude::*;
use std::rc::Rc;

fn known() -> Known {
    Known {
        sessions: vec![Rc::new(SessionKeys::new([0x5a; 40])), Rc::new(SessionKeys::new([1; 40]))],
        server_private: None,
        server_public: None,
        device_keys: Vec::new(),
        with_bytes: true,
    }
}

/// Shows all that comes out, in both forms.
fn show(records: &[Record]) {
    let mut view = view::View::default();
    for record in records {
        let json = text::json_line(record);
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
        let line = view.line(record);
        let allowed = |c: char| !c.is_control() || matches!(c, '\n' | '\u{1b}');
        assert!(line.chars().all(allowed), "{line:?}");
    }
}

fn decode(file: &[u8]) -> Vec<Record> {
    let (known, mut records) = (known(), Vec::new());
    let mut table = Table::new(vec![5683]);
    if let Some(form) = Form::of(file)
        && let Ok(mut capture) = Capture::open(file, form)
    {
        while let Ok(Some(packet)) = capture.next() {
            table.packet(packet.at, packet.link, packet.bytes, &known, &mut records);
        }
    }
    table.end(&known, &mut records);
    records
}

fn packet(from_device: bool, seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let (from, to) = if from_device { (50_000_u16, 5683_u16) } else { (5683, 50_000) };
    let len = u16::try_from(40 + payload.len()).unwrap().to_be_bytes();
    let mut ip = vec![0x45, 0, len[0], len[1], 0, 0, 0x40, 0, 64, 6, 0, 0];
    ip.extend(if from_device { [10, 0, 0, 2, 10, 0, 0, 1] } else { [10, 0, 0, 1, 10, 0, 0, 2] });
    ip.extend(from.to_be_bytes());
    ip.extend(to.to_be_bytes());
    ip.extend(seq.to_be_bytes());
    ip.extend([0, 0, 0, 9, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    ip.extend(payload);
    ip
}

/// Raw IP, in the byte order of this file.
fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file =
        vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 101, 0, 0, 0];
    for packet in packets {
        let len = u32::try_from(packet.len()).unwrap().to_le_bytes();
        file.extend([0; 8]);
        file.extend(len);
        file.extend(len);
        file.extend(packet);
    }
    file
}

/// A small session, its handshake without meaning.
fn session() -> Vec<Vec<u8>> {
    let mut packets = vec![packet(true, 99, 2, &[]), packet(false, 199, 18, &[])];
    let nonce: [u8; 40] = core::array::from_fn(|at| u8::try_from(at).unwrap());
    packets.push(packet(false, 200, 16, &nonce));
    packets.push(packet(true, 100, 16, &[4; 256]));
    packets.push(packet(false, 240, 16, &[5; 384]));
    let mut sealers = [(); 2].map(|()| Sealer::new(&SessionKeys::new([0x5a; 40])));
    let mut at = [356, 624];
    let hello: [&[u8]; 2] = [&[0x50, 2, 0, 1, 0xb1, b'h'], &[0x50, 2, 1, 0, 0xb1, b'h']];
    let event: &[u8] = &[0x50, 2, 0, 2, 0xb1, b'E', 4, b't', b'e', b'm', b'p', 0xff, b'2', b'1'];
    for (from_device, message) in
        [(true, hello[0]), (false, hello[1]), (true, event), (false, event), (true, event)]
    {
        let side = usize::from(!from_device);
        let mut out = [0; 64];
        let frame = sealers[side].seal(message, &mut out).unwrap();
        packets.push(packet(from_device, at[side], 16, frame));
        at[side] += u32::try_from(frame.len()).unwrap();
    }
    packets
}

fn message_count(records: &[Record]) -> usize {
    records.iter().filter(|record| matches!(record.what, super::record::What::Message(_))).count()
}

#[test]
fn small_session_is_decoded_and_every_truncation_survived() {
    let file = pcap(&session());
    let records = decode(&file);
    assert_eq!((message_count(&records), records.iter().any(Record::is_bad)), (5, false));
    show(&records);
    let mut counts = Vec::new();
    for len in 0..file.len() {
        let records = decode(&file[..len]);
        show(&records);
        counts.push(message_count(&records));
    }
    assert!(counts.is_sorted() && counts.last() == Some(&4));
}

#[test]
fn more_connections_than_are_followed_end_the_oldest() {
    let (known, mut records) = (known(), Vec::new());
    let mut table = Table::new(vec![5683]);
    for number in 0..3000_u32 {
        let mut syn = packet(true, 1, 2, &[]);
        syn[12..16].copy_from_slice(&number.to_be_bytes());
        table.packet(None, DataLink::RAW, &syn, &known, &mut records);
    }
    table.end(&known, &mut records);
    let ends = records.iter().filter(|record| matches!(record.what, super::record::What::End { .. })).count();
    assert_eq!(ends, 3000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn changed_captures_do_not_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut file = pcap(&session());
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        show(&decode(&file));
        file.truncate(cut.index(file.len()));
        show(&decode(&file));
    }

    #[test]
    fn packets_in_any_order_with_any_loss_do_not_panic(
        order in proptest::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let packets = session();
        let chosen: Vec<_> = order.iter().map(|at| packets[at.index(packets.len())].clone()).collect();
        show(&decode(&pcap(&chosen)));
    }

    #[test]
    fn random_packets_do_not_panic(
        link in 0_u32..300,
        packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 0..8),
    ) {
        let (known, mut records) = (known(), Vec::new());
        let mut table = Table::new(vec![5683, 0]);
        for packet in &packets {
            table.packet(None, DataLink::from(link), packet, &known, &mut records);
        }
        table.end(&known, &mut records);
        show(&records);
    }

    #[test]
    fn random_streams_do_not_panic(
        pieces in proptest::collection::vec(
            (any::<bool>(), proptest::option::of(proptest::collection::vec(any::<u8>(), 0..400))),
            0..30,
        ),
        at_start: bool,
    ) {
        let mut talk = Talk::new(known().sessions, at_start, 0, true);
        let mut lines = Vec::new();
        for (from_device, piece) in pieces {
            let speaker = if from_device { Speaker::Device } else { Speaker::Server };
            match piece {
                Some(bytes) => talk.push(speaker, &bytes, &mut lines),
                None => talk.gap(speaker, 0, 7, &mut lines),
            }
        }
        talk.end(&mut lines);
        let record = |(speaker, what)| Record { at: None, connection: None, speaker, what };
        show(&lines.into_iter().map(record).collect::<Vec<_>>());
    }

    #[test]
    fn random_messages_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), from_device: bool) {
        let speaker = if from_device { Speaker::Device } else { Speaker::Server };
        let mut dialogue = super::dialogue::Dialogue::default();
        let _ = super::message::read(speaker, &bytes, None, &mut dialogue);
        let _ = super::message::read(speaker, &bytes, None, &mut dialogue);
    }
}
