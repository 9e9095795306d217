//! YMODEM: recorded senders, every event in every state, and pairs under a virtual clock on bad links.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod pair;
mod receiver;
mod sender;

use core::time::Duration;
use serde_json::Value;
use spark_ota::ymodem::{
    BlockSize, Received, Receiver, ReceiverOutput, ReceiverProfile, Sender, SenderProfile, crc16,
};

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
