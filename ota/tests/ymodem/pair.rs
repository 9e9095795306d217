//! Both ends under a virtual clock, on bad links.

use crate::{Disk, NOW, drain, give, give_with, image, sent};
use core::time::Duration;
use proptest::prelude::*;
use spark_ota::crc32;
use spark_ota::ymodem::{
    BlockSize, ChecksumRule, FinishAt, Received, Receiver, ReceiverFailure, ReceiverProfile, Sender,
    SenderFailure, SenderProfile,
};
use std::collections::VecDeque;

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
        let checked = ReceiverProfile { checksums: ChecksumRule::RightOrZero, ..ReceiverProfile::V2_0 };
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
        if outcome.sender.is_ok() && to.finish_at != FinishAt::AfterLastPacket {
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
