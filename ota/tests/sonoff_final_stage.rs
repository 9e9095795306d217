//! The intermediate image: which file it asks for, what it refuses, what it does with its flash.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

use core::time::Duration;
use proptest::prelude::*;
use serde_json::Value;
use spark_ota::sonoff::device::final_stage::{
    BLINKING, FINAL_PATH, FinalStage, Goal, MAGIC_ADDRESS, Output, POLL, Restart, State, TIMEOUT, TRIES,
    TryError, USER2_PATH,
};
use spark_ota::sonoff::http::{RequestHead, answer, partial_head};
use spark_ota::sonoff::upgrade::Slot;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/sonoff");
const MIB: usize = 0x10_0000;

fn vector(name: &str) -> Vec<u8> {
    std::fs::read(format!("{VECTORS}/{name}")).unwrap()
}

/// The device with its flash.
struct Bench {
    stage: FinalStage,
    now: Duration,
    flash: Vec<u8>,
    erased: Vec<u32>,
    written: Vec<(u32, usize)>,
    other: Vec<Output>,
}

impl Bench {
    /// The vendor's boot stage and the intermediate image in a slot.
    fn new(running: Slot, magic: u8) -> Self {
        let mut flash = vec![0xee; MIB];
        flash[MAGIC_ADDRESS as usize] = magic;
        let stage = FinalStage::new(Duration::ZERO, running, magic);
        let now = Duration::ZERO;
        Self { stage, now, flash, erased: Vec::new(), written: Vec::new(), other: Vec::new() }
    }

    fn drain(&mut self) {
        while let Some(output) = self.stage.poll_output() {
            match output {
                Output::Erase { address } => {
                    self.flash[address as usize..][..4096].fill(0xff);
                    self.erased.push(address);
                }
                Output::Write { address, data } => {
                    let place = &mut self.flash[address as usize..][..data.len()];
                    assert!(place.iter().all(|byte| *byte == 0xff), "not erased: {address:#x}");
                    place.copy_from_slice(&data);
                    self.written.push((address, data.len()));
                }
                other => self.other.push(other),
            }
        }
    }

    /// To the next deadline; what came out but for flash work.
    fn tick(&mut self) -> Vec<Output> {
        let deadline = self.stage.next_deadline().expect("a deadline");
        self.stage.handle_deadline(deadline.saturating_sub(Duration::from_millis(1)));
        assert_eq!(self.stage.poll_output(), None, "too early");
        self.now = deadline;
        self.stage.handle_deadline(deadline);
        self.drain();
        core::mem::take(&mut self.other)
    }

    fn connected(&mut self) -> Vec<Output> {
        self.stage.connected(self.now);
        self.drain();
        core::mem::take(&mut self.other)
    }

    fn closed(&mut self) -> Vec<Output> {
        self.stage.closed(self.now);
        self.drain();
        core::mem::take(&mut self.other)
    }

    fn input(&mut self, bytes: &[u8]) -> Vec<Output> {
        self.stage.handle_input(self.now, bytes);
        self.drain();
        core::mem::take(&mut self.other)
    }

    /// Up to the request for the file.
    fn asking(running: Slot, magic: u8) -> (Self, RequestHead) {
        let mut bench = Self::new(running, magic);
        assert_eq!(bench.tick(), [Output::OpenAccessPoint]);
        assert_eq!(bench.tick(), [Output::Connect]);
        assert_eq!(bench.connected(), [Output::Close, Output::Connect]);
        let request = bench.request();
        (bench, request)
    }

    fn request(&mut self) -> RequestHead {
        let outputs = self.connected();
        let [Output::Send(bytes)] = &outputs[..] else { panic!("{outputs:?}") };
        let (head, used) = RequestHead::parse(bytes).unwrap().unwrap();
        assert_eq!(used, bytes.len());
        head
    }
}

fn ok(length: usize, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes(), body].concat()
}

#[test]
fn request_is_the_recorded_one() {
    let session: Value = serde_json::from_slice(&vector("sessions/session_range.json")).unwrap();
    let records = session["records"].as_array().unwrap();
    let get = records.iter().find(|record| record["step"] == "final_get").unwrap();
    let (mut bench, _) = Bench::asking(Slot::User2, 0xea);
    bench.stage.closed(bench.now);
    assert_eq!(bench.stage.poll_output(), Some(Output::Close));
    assert_eq!(bench.stage.poll_output(), Some(Output::Failed(TryError::NoAnswer)));
    assert_eq!(bench.stage.poll_output(), Some(Output::Connect));
    bench.stage.connected(bench.now);
    let Some(Output::Send(bytes)) = bench.stage.poll_output() else { panic!() };
    assert_eq!(String::from_utf8(bytes).unwrap(), get["device_request_text"].as_str().unwrap());
    // And the recorded answer is taken.
    let head = get["server_response_head"].as_str().unwrap();
    let image = vector("images/image_arduino.bin");
    assert_eq!(image.len() as u64, get["body_len"].as_u64().unwrap());
    let done = bench.input(&[head.as_bytes(), &image].concat());
    assert_eq!(done, [Output::Close, Output::Restart(Restart::Final)]);
    assert_eq!(bench.flash[..image.len()], image);
}

#[test]
fn slot_and_magic_decide_what_it_gets() {
    for (running, magic, goal) in [
        (Slot::User1, 0xea, Some(Goal::User2)),
        (Slot::User1, 0xe9, None),
        (Slot::User1, 0xff, None),
        (Slot::User2, 0xea, Some(Goal::Final)),
        (Slot::User2, 0xe9, Some(Goal::Final)),
        (Slot::User2, 0xff, None),
        (Slot::User2, 0x00, None),
    ] {
        let mut bench = Bench::new(running, magic);
        assert_eq!(bench.stage.goal(), goal, "{running} {magic:#x}");
        assert_eq!(bench.tick(), [Output::OpenAccessPoint]);
        assert_eq!(bench.tick(), [Output::Connect]);
        let outputs = bench.connected();
        if goal.is_some() {
            assert_eq!(outputs, [Output::Close, Output::Connect]);
            continue;
        }
        // It opens its access point and looks for the server all the same.
        assert_eq!(outputs, [Output::Close]);
        assert_eq!((bench.stage.state(), bench.stage.next_deadline()), (State::NotRecognized, None));
        assert_eq!(bench.closed(), []);
        assert_eq!(bench.input(&ok(4096, &[0xea])), []);
    }
}

#[test]
fn server_is_looked_for_twice_a_second_without_a_byte() {
    let mut bench = Bench::new(Slot::User2, 0xea);
    assert_eq!(bench.stage.state(), State::Blinking);
    assert_eq!(bench.tick(), [Output::OpenAccessPoint]);
    assert_eq!(bench.now, BLINKING);
    for _ in 0..3 {
        let before = bench.now;
        assert_eq!(bench.tick(), [Output::Connect]);
        assert_eq!(bench.now, before + POLL);
        assert_eq!(bench.closed(), []);
    }
    // One that neither connects nor fails.
    assert_eq!(bench.tick(), [Output::Connect]);
    let before = bench.now;
    assert_eq!(bench.tick(), [Output::Close]);
    assert_eq!(bench.now, before + TIMEOUT);
    assert_eq!(bench.tick(), [Output::Connect]);
    assert_eq!(bench.connected(), [Output::Close, Output::Connect]);
    assert_eq!(bench.stage.state(), State::Asking);
    // A late event of an earlier connection is none.
    assert_eq!(bench.input(b"HTTP/1.1 404 Not Found\r\n\r\n"), []);
}

#[test]
fn intermediate_image_goes_to_slot_2_and_starts_there() {
    let (mut bench, request) = Bench::asking(Slot::User1, 0xea);
    assert_eq!((request.path.as_str(), request.minor_version), (USER2_PATH, 0));
    assert_eq!((request.header("Range"), request.keeps_alive()), (None, false));
    let image = vector("images/image_user2-0x81000.bin");
    let answer = answer(&request, u32::try_from(image.len()).unwrap(), "user2.bin");
    assert_eq!(bench.input(&answer.head), []);
    assert_eq!(bench.stage.state(), State::Asking);
    assert_eq!(bench.input(&image[..image.len() - 1]), []);
    let total = u32::try_from(image.len()).unwrap();
    assert_eq!(bench.stage.progress(), Some((total - 1, total)));
    let done = bench.input(&image[image.len() - 1..]);
    assert_eq!(done, [Output::Close, Output::Restart(Restart::Slot2)]);
    assert_eq!((bench.stage.state(), bench.stage.next_deadline()), (State::Restarting, None));
    assert_eq!(bench.flash[0x8_1000..][..image.len()], image);
    assert!(bench.flash[..0x8_0000].iter().skip(1).any(|byte| *byte == 0xee) && bench.flash[0] == 0xee);
    assert_eq!((bench.erased[0], bench.erased.len()), (0x8_0000, 128));
}

#[test]
fn final_image_is_written_in_pieces_and_its_first_sector_last() {
    let (mut bench, request) = Bench::asking(Slot::User2, 0xea);
    assert_eq!(request.path, FINAL_PATH);
    let image = vector("images/image_arduino.bin");
    let head = answer(&request, u32::try_from(image.len()).unwrap(), "a.bin").head;
    assert_eq!(bench.input(&[&head[..], &image[..4095]].concat()), []);
    assert!(bench.erased.is_empty(), "a sector is kept first");
    assert_eq!(bench.input(&image[4095..4096]), []);
    assert_eq!((bench.erased[0], bench.erased.len()), (0x1000, 127));
    assert_eq!(bench.flash[0], 0xee);
    assert_eq!(bench.input(&image[4096..]), [Output::Close, Output::Restart(Restart::Final)]);
    assert_eq!(bench.erased.last(), Some(&0));
    assert_eq!(bench.written.first(), Some(&(0x1000, 1024)));
    assert_eq!(bench.written.last(), Some(&(0, 4096)));
    assert!(bench.written.iter().rev().skip(1).all(|(_, length)| *length <= 1024));
    assert_eq!(bench.flash[..image.len()], image);
    assert_eq!(bench.flash[0x8_0000], 0xee, "what runs is not touched");
}

#[test]
fn lengths_are_limited_on_both_sides() {
    for (running, first, most) in [(Slot::User1, 0xea, 0x7_f000), (Slot::User2, 0xe9, 0x8_0000)] {
        for (length, taken) in [(4095, false), (4096, true), (most, true), (most + 1, false)] {
            let (mut bench, _) = Bench::asking(running, 0xea);
            let mut body = vec![7; length];
            body[0] = first;
            let outputs = bench.input(&ok(length, &body));
            if taken {
                assert!(matches!(outputs[..], [Output::Close, Output::Restart(_)]), "{length}");
            } else {
                let (length, most) = (u32::try_from(length).unwrap(), u32::try_from(most).unwrap());
                let error = TryError::Length { length, least: 4096, most };
                assert_eq!(outputs, [Output::Close, Output::Failed(error), Output::Connect]);
                assert!(bench.erased.is_empty());
            }
        }
    }
}

#[test]
fn what_is_refused_is_tried_three_times_and_then_it_restarts() {
    let partial = partial_head(0..4096, 8192, false);
    let no_length = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n".to_vec();
    let magic = TryError::Magic { found: 0xea, wanted: 0xe9 };
    for (said, error) in [
        (partial, TryError::Status { status: 206 }),
        (b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec(), TryError::Status { status: 404 }),
        (no_length, TryError::NoLength),
        (b"HTTP/1.1 200 OK\r\n\r\n\xe9".to_vec(), TryError::NoLength),
        (b"nothing of HTTP\r\n\r\n".to_vec(), TryError::NotHttp),
        (vec![b'A'; 5000], TryError::NotHttp),
        (ok(4096, &[0xea; 4096]), magic),
    ] {
        let (mut bench, _) = Bench::asking(Slot::User2, 0xea);
        for number in 1..=TRIES {
            let outputs = bench.input(&said);
            let last = if number == TRIES { Output::Restart(Restart::Again) } else { Output::Connect };
            assert_eq!(outputs, [Output::Close, Output::Failed(error), last]);
            if number < TRIES {
                bench.request();
            }
        }
        assert_eq!(bench.stage.next_deadline(), None);
        assert!(bench.erased.is_empty());
    }
}

#[test]
fn silence_and_refused_connections_are_tries_too() {
    let (mut bench, _) = Bench::asking(Slot::User2, 0xea);
    let before = bench.now;
    let outputs = bench.tick();
    assert_eq!(outputs, [Output::Close, Output::Failed(TryError::NoAnswer), Output::Connect]);
    assert_eq!(bench.now, before + TIMEOUT);
    let outputs = bench.tick();
    assert_eq!(outputs, [Output::Close, Output::Failed(TryError::NotConnected), Output::Connect]);
    let outputs = bench.closed();
    let failed = Output::Failed(TryError::NotConnected);
    assert_eq!(outputs, [Output::Close, failed, Output::Restart(Restart::Again)]);
    // A head without a body is silence as well: the first byte decides.
    let (mut bench, _) = Bench::asking(Slot::User2, 0xea);
    assert_eq!(bench.input(&ok(4096, &[])), []);
    let outputs = bench.tick();
    assert_eq!(outputs, [Output::Close, Output::Failed(TryError::NoAnswer), Output::Connect]);
}

#[test]
fn connection_that_is_lost_in_a_file_leaves_it_stuck() {
    for (length, erased) in [(4095, 0), (5000, 127)] {
        let (mut bench, _) = Bench::asking(Slot::User2, 0xea);
        let mut body = vec![7; length];
        body[0] = 0xe9;
        assert_eq!(bench.input(&ok(8192, &body)), []);
        assert_eq!(bench.closed(), []);
        assert_eq!((bench.stage.state(), bench.stage.next_deadline()), (State::Stuck, None));
        assert_eq!(bench.erased.len(), erased);
        assert_eq!(bench.flash[0], 0xee, "the boot stage is still there");
        assert_eq!(bench.input(&body), []);
    }
}

proptest! {
    #[test]
    fn pieces_of_any_size_give_the_same_flash(
        user2: bool,
        length in 4096usize..20_000,
        pieces in proptest::collection::vec(1usize..5000, 1..50),
    ) {
        let (running, first, at) =
            if user2 { (Slot::User1, 0xea, 0x8_1000) } else { (Slot::User2, 0xe9, 0) };
        let mut body: Vec<u8> = (0..length).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect();
        body[0] = first;
        let (mut bench, _) = Bench::asking(running, 0xea);
        // What comes behind the body is nothing.
        let answer = [ok(length, &body), vec![9; 10]].concat();
        let mut rest = &answer[..];
        for piece in pieces.iter().cycle() {
            let (part, behind) = rest.split_at(rest.len().min(*piece));
            bench.input(part);
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(bench.stage.state(), State::Restarting);
        prop_assert_eq!(&bench.flash[at..at + length], &body[..]);
        prop_assert!(bench.flash[at + length..at + length + 10].iter().all(|byte| *byte != 9));
    }
}
