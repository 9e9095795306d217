//! Sender against receiver under a virtual clock, with loss and damage in all six device profiles, and every input
//! in every state of the sender.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

use core::time::Duration;
use proptest::prelude::*;
use spark_ota::transfer::{
    Failure, Options, Profile, Receiver, ReceiverOutput, ResultForm, Sender, SenderError, SenderInput,
    SenderOutput, Success,
};
use std::collections::VecDeque;

const REGION: u32 = 0x4_0000;
const PROFILES: [(&str, Profile); 6] = [
    ("S1", Profile::S1),
    ("S2", Profile::S2),
    ("C1", Profile::C1),
    ("C2", Profile::C2),
    ("C3", Profile::C3),
    ("C4", Profile::C4),
];

fn image(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap()).collect()
}

/// A word from the device, still on its way.
enum Word {
    Accepted,
    Refused,
    Ready(bool),
    ChunkReceived(bool),
    Done(bool, &'static [u8]),
    Missed(Vec<u8>),
    DoneByDevice(&'static [u8]),
}

/// What happens to the n-th chunk on its way, counted over all sendings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Arrives,
    Lost,
    Damaged,
    Twice,
}

struct Pair<F> {
    sender: Sender<Vec<u8>>,
    receiver: Receiver<128>,
    flash: Vec<u8>,
    applied: bool,
    now: Duration,
    chunks: usize,
    fate: F,
    words: VecDeque<Word>,
}

impl<F: FnMut(usize) -> Fate> Pair<F> {
    fn new(image: &[u8], options: Options, profile: Profile, fate: F) -> Self {
        Self {
            sender: Sender::new(image.to_vec(), options).unwrap(),
            receiver: Receiver::new(profile, REGION),
            flash: vec![0xff; usize::try_from(REGION).unwrap()],
            applied: false,
            now: Duration::ZERO,
            chunks: 0,
            fate,
            words: VecDeque::new(),
        }
    }

    /// To the end, or to a clock of one hour.
    fn run(&mut self) -> Result<Success, Failure> {
        loop {
            if let Some(outcome) = self.sender.outcome() {
                return outcome;
            }
            if let Some(word) = self.words.pop_front() {
                let input = match &word {
                    Word::Accepted => SenderInput::BeginAccepted,
                    Word::Refused => SenderInput::BeginRefused { code: 0x80 },
                    Word::Ready(fast) => SenderInput::Ready { fast: *fast },
                    Word::ChunkReceived(good) => SenderInput::ChunkReceived { good: *good },
                    Word::Done(complete, result) => SenderInput::DoneAnswered { complete: *complete, result },
                    Word::Missed(indices) => SenderInput::Missed { indices },
                    Word::DoneByDevice(result) => SenderInput::DoneByDevice { result },
                };
                self.sender.handle_input(self.now, input);
            } else if !self.send() {
                let deadlines = [self.sender.next_deadline(), self.receiver.next_deadline()];
                self.now = deadlines.into_iter().flatten().min().unwrap().max(self.now);
                assert!(self.now < Duration::from_secs(3600), "never ends");
                self.sender.handle_deadline(self.now);
                self.receiver.handle_deadline(self.now);
                self.device_acts(&[]);
            }
        }
    }

    fn send(&mut self) -> bool {
        let Some(output) = self.sender.poll_output(self.now) else { return false };
        match output {
            SenderOutput::Begin(begin) => self.receiver.handle_begin(begin),
            SenderOutput::Done => self.receiver.handle_done(),
            SenderOutput::Chunk { chunk, fast } => {
                let (index, crc) = (fast.then_some(chunk.index), chunk.crc());
                let mut data = chunk.data.to_vec();
                data.resize(data.len() + usize::from(chunk.padding), 0);
                let fate = (self.fate)(self.chunks);
                self.chunks += 1;
                let times = match fate {
                    Fate::Lost => 0,
                    Fate::Arrives => 1,
                    Fate::Damaged => {
                        data[0] ^= 1;
                        1
                    }
                    Fate::Twice => 2,
                };
                for _ in 0..times {
                    self.receiver.handle_chunk(self.now, index, crc, &data);
                    self.device_acts(&data);
                }
                return true;
            }
            _ => unreachable!(),
        }
        self.device_acts(&[]);
        true
    }

    fn device_acts(&mut self, data: &[u8]) {
        while let Some(output) = self.receiver.poll_output() {
            let word = match output {
                ReceiverOutput::Save { offset, len } => {
                    let start = usize::try_from(offset).unwrap();
                    self.flash[start..start + len].copy_from_slice(&data[..len]);
                    self.receiver.work_done(self.now, true);
                    continue;
                }
                ReceiverOutput::Check(_) | ReceiverOutput::Prepare(_) | ReceiverOutput::Validate(_) => {
                    self.receiver.work_done(self.now, true);
                    continue;
                }
                ReceiverOutput::Apply(_) => {
                    self.applied = true;
                    continue;
                }
                // The sender learns of it by the clock.
                ReceiverOutput::Reset { .. } => continue,
                // C1 closes on a repeated chunk after its own end; its word of the end is already on the way.
                ReceiverOutput::AcknowledgeChunk | ReceiverOutput::CloseSession => continue,
                ReceiverOutput::Accept => Word::Accepted,
                ReceiverOutput::Refuse => Word::Refused,
                ReceiverOutput::Ready { fast } => Word::Ready(fast),
                ReceiverOutput::ChunkReceived { good } => Word::ChunkReceived(good),
                ReceiverOutput::DoneAnswer { complete, result } => Word::Done(complete, result),
                ReceiverOutput::Missed { count } => Word::Missed(
                    self.receiver.missing().take(usize::from(count)).flat_map(u16::to_be_bytes).collect(),
                ),
                ReceiverOutput::DoneByDevice { result } => Word::DoneByDevice(result),
                other => panic!("{other:?}"),
            };
            self.words.push_back(word);
        }
    }
}

fn options(fast: bool) -> Options {
    Options { chunk_size: 64, offer_fast: fast, ..Options::DEFAULT }
}

#[test]
fn every_profile_takes_a_whole_image_in_both_modes() {
    for (name, profile) in PROFILES {
        for fast in [false, true] {
            for len in [1, 63, 64, 65, 5000] {
                let image = image(len);
                let mut pair = Pair::new(&image, options(fast), profile, |_| Fate::Arrives);
                let confirmed = profile.result != ResultForm::None;
                assert_eq!(pair.run(), Ok(Success { by_device: false, confirmed }), "{name} {fast} {len}");
                assert!(pair.applied && pair.flash.starts_with(&image), "{name} {fast} {len}");
                assert_eq!(pair.flash[len], 0xff, "padding is not written");
                assert_eq!(pair.sender.progress().fast, fast);
            }
        }
    }
}

#[test]
fn a_third_of_the_chunks_lost_is_repaired_in_every_profile() {
    for (name, profile) in PROFILES {
        let image = image(20_000);
        let mut pair =
            Pair::new(
                &image,
                options(true),
                profile,
                |n| if n % 3 == 1 { Fate::Lost } else { Fate::Arrives },
            );
        assert!(pair.run().is_ok(), "{name}");
        assert!(pair.applied && pair.flash.starts_with(&image), "{name}");
        assert!(pair.sender.progress().repairs > 0 && pair.sender.progress().resent > 100, "{name}");
    }
}

#[test]
fn a_damaged_slow_chunk_is_sent_again_up_to_the_limit() {
    let image = image(200);
    let mut pair = Pair::new(&image, options(false), Profile::S1, |n| match n {
        1..=5 => Fate::Damaged,
        _ => Fate::Arrives,
    });
    assert!(pair.run().is_ok());
    assert_eq!(pair.sender.progress().resent, 5);
    let mut pair = Pair::new(&image, options(false), Profile::C4, |n| match n {
        0 => Fate::Arrives,
        _ => Fate::Damaged,
    });
    assert_eq!(pair.run(), Err(Failure::ChunkDamaged { index: 1, times: 6 }));
}

#[test]
fn a_link_that_loses_everything_ends_in_a_typed_failure() {
    for (name, profile) in PROFILES {
        let image = image(700);
        let mut pair = Pair::new(&image, options(true), profile, |_| Fate::Lost);
        assert!(
            matches!(pair.run(), Err(Failure::TooManyResends { .. } | Failure::DoneUnanswered)),
            "{name}"
        );
        assert!(!pair.applied, "{name}");
        let mut pair = Pair::new(&image, options(false), profile, |_| Fate::Lost);
        assert_eq!(pair.run(), Err(Failure::ChunkUnanswered { index: 0 }), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_on_the_way_an_applied_image_is_whole(
        profile in 0usize..6, len in 1usize..6000, fates in proptest::collection::vec(0u8..10, 1..60),
    ) {
        let image = image(len);
        let fate = move |n: usize| match fates[n % fates.len()] {
            0 | 1 => Fate::Lost,
            2 => Fate::Damaged,
            3 => Fate::Twice,
            _ => Fate::Arrives,
        };
        let mut pair = Pair::new(&image, options(true), PROFILES[profile].1, fate);
        let outcome = pair.run();
        prop_assert!(!pair.applied || pair.flash.starts_with(&image));
        prop_assert!(outcome.is_err() || pair.applied);
    }
}

/// A sender in each of its states.
fn in_state(state: &str) -> Sender<Vec<u8>> {
    let fast = !state.starts_with("slow");
    let mut sender = Sender::new(image(200), options(fast)).unwrap();
    let now = Duration::ZERO;
    sender.poll_output(now);
    if state == "begin" {
        return sender;
    }
    sender.handle_input(now, SenderInput::BeginAccepted);
    if state == "accepted" {
        return sender;
    }
    sender.handle_input(now, SenderInput::Ready { fast });
    sender.poll_output(now);
    if matches!(state, "slow" | "fast") {
        return sender;
    }
    if state == "slow, again" {
        sender.handle_deadline(Duration::from_secs(15));
        assert!(sender.poll_output(now).is_some());
        return sender;
    }
    while sender.poll_output(now).is_some() {}
    if state == "done" {
        return sender;
    }
    sender.handle_input(now, SenderInput::DoneAnswered { complete: false, result: b"" });
    if state == "incomplete" {
        return sender;
    }
    sender.handle_input(now, SenderInput::Missed { indices: &[0, 1] });
    if state == "repair" {
        return sender;
    }
    sender.cancel();
    assert_eq!(state, "ended");
    sender
}

#[test]
fn every_input_in_every_state_is_taken_or_leaves_the_state_alone() {
    let inputs: [(&str, SenderInput<'_>); 9] = [
        ("accepted", SenderInput::BeginAccepted),
        ("refused", SenderInput::BeginRefused { code: 0xa3 }),
        ("ready", SenderInput::Ready { fast: true }),
        ("good", SenderInput::ChunkReceived { good: true }),
        ("late", SenderInput::LateChunkReceived { good: true }),
        ("complete", SenderInput::DoneAnswered { complete: true, result: b"{\"r\":0}" }),
        ("incomplete", SenderInput::DoneAnswered { complete: false, result: b"" }),
        ("missed", SenderInput::Missed { indices: &[0, 2] }),
        ("by device", SenderInput::DoneByDevice { result: b"" }),
    ];
    let taken: [(&str, &[&str]); 9] = [
        ("begin", &["accepted", "refused", "ready"]),
        ("accepted", &["accepted", "refused", "ready"]),
        ("slow", &["good"]),
        ("slow, again", &["good", "late"]),
        ("fast", &["by device"]),
        ("done", &["complete", "incomplete", "missed", "by device"]),
        ("incomplete", &["complete", "missed", "by device"]),
        ("repair", &["missed", "by device"]),
        ("ended", &[]),
    ];
    let now = Duration::from_secs(1);
    for (state, expected) in taken {
        for (name, input) in inputs {
            let mut sender = in_state(state);
            let before = format!("{sender:?}");
            sender.handle_input(now, input);
            let changed = format!("{sender:?}") != before;
            assert_eq!(changed, expected.contains(&name), "{name} in {state}: {sender:?}");
        }
    }
}

#[test]
fn every_wait_ends_in_a_typed_failure() {
    for (state, expected, after) in [
        ("begin", Failure::BeginUnanswered, 6 + 6 + 6 + 90),
        ("accepted", Failure::NeverReady, 90),
        ("slow", Failure::ChunkUnanswered { index: 0 }, 30),
        ("done", Failure::DoneUnanswered, 30),
        ("incomplete", Failure::DoneUnanswered, 30),
    ] {
        let mut sender = in_state(state);
        let mut now = Duration::ZERO;
        while sender.outcome().is_none() {
            sender.poll_output(now);
            now = sender.next_deadline().unwrap();
            sender.handle_deadline(now.saturating_sub(Duration::from_millis(1)));
            assert_eq!(sender.outcome(), None, "early calls are harmless");
            sender.handle_deadline(now);
        }
        assert_eq!((sender.outcome(), now.as_secs()), (Some(Err(expected)), after), "{state}");
    }
}

#[test]
fn missing_chunks_without_names_end_the_transfer() {
    for indices in [&b""[..], &[0xff, 0xff], &[0]] {
        let mut sender = in_state("done");
        for round in 0..3 {
            assert_eq!(sender.outcome(), None, "round {round}");
            sender.handle_input(Duration::ZERO, SenderInput::DoneAnswered { complete: false, result: b"" });
            sender.handle_input(Duration::ZERO, SenderInput::Missed { indices });
            sender.poll_output(Duration::ZERO);
        }
        assert_eq!(sender.outcome(), Some(Err(Failure::NothingNamed)), "{indices:?}");
    }
}

#[test]
fn chunks_named_in_slow_mode_are_not_sent_as_fast_ones() {
    let mut sender = in_state("slow");
    while !matches!(sender.poll_output(Duration::ZERO), Some(SenderOutput::Done)) {
        sender.handle_input(Duration::ZERO, SenderInput::ChunkReceived { good: true });
    }
    sender.handle_input(Duration::ZERO, SenderInput::DoneAnswered { complete: false, result: b"" });
    sender.handle_input(Duration::ZERO, SenderInput::Missed { indices: &[0, 1] });
    assert_eq!(sender.poll_output(Duration::ZERO), None);
}

#[test]
fn results_of_both_generations_are_understood() {
    for (result, good) in [
        (&b""[..], true),
        (b"{\"r\":\"ok\",\"m\":[]}", true),
        (b"{\"r\":0}", true),
        (b"{\"r\":\"error\"}", false),
        (b"{\"r\": -240}", false),
    ] {
        let mut sender = in_state("done");
        sender.handle_input(Duration::ZERO, SenderInput::DoneAnswered { complete: true, result });
        assert_eq!(sender.outcome().unwrap().is_ok(), good, "{}", result.escape_ascii());
    }
}

#[test]
fn answer_without_the_expected_result_is_no_success() {
    let now = Duration::ZERO;
    let silent = || {
        let mut sender = Sender::new(image(200), Options { expects_result: true, ..options(true) }).unwrap();
        sender.poll_output(now);
        sender.handle_input(now, SenderInput::Ready { fast: true });
        while sender.poll_output(now).is_some() {}
        sender.handle_input(now, SenderInput::DoneAnswered { complete: true, result: b"" });
        assert_eq!((sender.outcome(), sender.poll_output(now)), (None, None));
        sender
    };
    let mut sender = silent();
    sender.handle_deadline(sender.next_deadline().unwrap());
    assert_eq!(sender.outcome(), Some(Err(Failure::Unconfirmed)));
    // The device's own word, or an answer to an earlier end, may have been overtaken.
    let mut sender = silent();
    sender.handle_input(now, SenderInput::DoneByDevice { result: b"" });
    assert_eq!(sender.outcome(), Some(Ok(Success { by_device: true, confirmed: false })));
    let mut sender = silent();
    sender.handle_input(now, SenderInput::DoneAnswered { complete: true, result: b"{\"r\":0}" });
    assert_eq!(sender.outcome(), Some(Ok(Success { by_device: false, confirmed: true })));
}

#[test]
fn jobs_that_cannot_work_are_refused_before_anything_is_sent() {
    let too_big = Options { chunk_size: 768, ..Options::DEFAULT };
    let error = SenderError::Buffer { chunk_size: 768, chunks: 1, buffer: 800 };
    assert_eq!(Sender::new(image(10), too_big).unwrap_err(), error);
    let mut receiver = Receiver::<128>::new(Profile::C4, 1000);
    for (begin, why) in [
        ((600, 1001, 0, 0), "longer than the region"),
        ((512, 100, 1, 0), "another store"),
        ((870, 100, 0, 0), "a chunk that no device's buffer holds"),
        ((512, 100, 0, 0x0802_0000), "an address, which firmware would add to its own"),
    ] {
        let (chunk_size, file_length, store, address) = begin;
        receiver.handle_begin(spark_ota::transfer::Begin {
            offers_fast: true,
            chunk_size,
            file_length,
            store,
            address,
        });
        assert_eq!(receiver.poll_output(), Some(ReceiverOutput::Refuse), "{why}");
        assert_eq!(receiver.poll_output(), None);
    }
    // More chunks than bits of bitmap.
    let mut receiver = Receiver::<128>::new(Profile::C4, REGION);
    let begin = spark_ota::transfer::Begin { chunk_size: 1, file_length: 1025, ..Default::default() };
    receiver.handle_begin(begin);
    assert_eq!(receiver.poll_output(), Some(ReceiverOutput::Refuse));
}

#[test]
fn failed_flash_write_counts_as_a_damaged_chunk() {
    let data = image(64);
    let crc = spark_ota::crc32(&data);
    for fast in [false, true] {
        let mut receiver = Receiver::<128>::new(Profile::C4, REGION);
        receiver.handle_begin(spark_ota::transfer::Begin {
            offers_fast: fast,
            chunk_size: 64,
            file_length: 64,
            store: 0,
            address: 0,
        });
        while let Some(output) = receiver.poll_output() {
            if matches!(output, ReceiverOutput::Check(_) | ReceiverOutput::Prepare(_)) {
                receiver.work_done(Duration::ZERO, true);
            }
        }
        receiver.handle_chunk(Duration::ZERO, fast.then_some(0), crc, &data);
        let mut words = Vec::new();
        while let Some(output) = receiver.poll_output() {
            if matches!(output, ReceiverOutput::Save { .. }) {
                receiver.work_done(Duration::ZERO, false);
            }
            words.push(output);
        }
        if fast {
            assert_eq!(words, [ReceiverOutput::Save { offset: 0, len: 64 }]);
            assert!(receiver.missing().eq([0]));
        } else {
            assert_eq!(words.last(), Some(&ReceiverOutput::ChunkReceived { good: false }));
        }
    }
}
