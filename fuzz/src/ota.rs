//! `spark-ota`: both ends of a firmware transfer.

use crate::input::Input;
use core::time::Duration;
use spark_ota::crc32;
use spark_ota::transfer::{
    Begin, Options, Plan, Profile, Receiver, ReceiverOutput, Sender, SenderInput, SenderOutput,
};

const PROFILES: [Profile; 6] = [Profile::S1, Profile::S2, Profile::C1, Profile::C2, Profile::C3, Profile::C4];

/// The owner of the OTA region: what was written of the update that runs.
#[derive(Default)]
struct Region {
    plan: Option<Plan>,
    written: Vec<bool>,
}

impl Region {
    /// Polls until `None` and does what is asked, with success except for every byte of `luck` that is 0.
    fn drain(&mut self, receiver: &mut Receiver<16>, now: Duration, chunk: &[u8], luck: u8, limit: u32) {
        let mut steps = 0;
        while let Some(output) = receiver.poll_output() {
            steps += 1;
            assert!(steps < 16, "outputs do not end");
            match output {
                ReceiverOutput::Check(plan) => {
                    assert!(plan.file_length <= limit && plan.chunk_size > 0 && plan.chunks <= 128);
                    receiver.work_done(now, luck & 1 == 0);
                }
                ReceiverOutput::Prepare(plan) => {
                    (self.plan, self.written) = (Some(plan), vec![false; plan.file_length as usize]);
                    receiver.work_done(now, luck & 2 == 0);
                }
                ReceiverOutput::Save { offset, len } => {
                    assert!(len <= chunk.len(), "more than the chunk holds");
                    let end = offset as usize + len;
                    assert!(end <= self.written.len(), "outside of the plan");
                    let ok = luck & 4 == 0;
                    if ok {
                        self.written[offset as usize..end].fill(true);
                    }
                    receiver.work_done(now, ok);
                }
                ReceiverOutput::Validate(_) => receiver.work_done(now, true),
                ReceiverOutput::Missed { count } => {
                    assert!(usize::from(count) <= receiver.missing().count());
                }
                ReceiverOutput::Apply(plan) => {
                    assert_eq!(Some(plan), self.plan);
                    // In slow mode each chunk was answered, and the server counts.
                    assert!(!plan.fast || self.written.iter().all(|written| *written), "an image with holes");
                }
                _ => {}
            }
        }
    }
}

/// Any messages, in any order: nothing is written outside of the plan, no fast image with holes is applied.
pub fn receiver(data: &[u8]) {
    let mut input = Input::new(data);
    let profile = PROFILES[usize::from(input.byte() % 6)];
    let limit = u32::from(input.word());
    let mut receiver = Receiver::<16>::new(profile, limit);
    let mut region = Region::default();
    let mut now = Duration::ZERO;
    while !input.is_empty() {
        let (kind, luck) = (input.byte(), input.byte());
        let chunk = &mut Vec::new();
        match kind % 8 {
            0 => receiver.handle_begin(Begin {
                offers_fast: kind & 8 != 0,
                chunk_size: input.word(),
                file_length: if kind & 16 != 0 { input.long() } else { u32::from(input.word()) },
                store: kind >> 5,
                address: 0,
            }),
            1..=4 => {
                let index = (kind % 8 != 4).then(|| u16::from(input.byte()) | u16::from(kind >> 7) << 8);
                chunk.extend(input.block());
                // Most chunks have their real length.
                if let Some(plan) = region.plan.filter(|_| kind & 8 != 0 && kind & 16 == 0) {
                    chunk.resize(usize::from(plan.chunk_size), 0);
                }
                let crc = if kind & 32 == 0 { crc32(chunk) } else { input.long() };
                receiver.handle_chunk(now, index, crc, chunk);
            }
            5 => receiver.handle_done(),
            6 => {
                now += Duration::from_millis(u64::from(input.word()));
                receiver.handle_deadline(now);
            }
            _ => drop(receiver.abort()),
        }
        region.drain(&mut receiver, now, chunk, luck, limit);
        let _ = (receiver.next_deadline(), receiver.is_updating());
    }
}

/// Any answers of a device: chunks are the image's, and without further answers the transfer ends.
pub fn sender(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let options = Options {
        chunk_size: u16::from(input.byte()),
        offer_fast: choice & 1 != 0,
        pad_last: choice & 2 != 0,
        device_buffer: usize::from(input.word()),
        bad_chunk_limit: choice >> 4,
        resend_factor: 2,
    };
    let image: Vec<u8> = (0..input.word() % 2000).map(|i| (i % 251) as u8).collect();
    let Ok(mut sender) = Sender::new(&image, options) else { return };
    let mut now = Duration::ZERO;
    let poll = |sender: &mut Sender<'_>, now| {
        let mut steps = 0;
        while let Some(output) = sender.poll_output(now) {
            steps += 1;
            assert!(steps <= image.len() + 100, "outputs do not end");
            if let SenderOutput::Chunk { chunk, fast } = output {
                // A list of missing chunks is answered with indexed chunks in slow mode, too.
                assert!(!fast || options.offer_fast || sender.progress().repairs > 0);
                let start = chunk.offset as usize;
                assert_eq!(chunk.data, &image[start..start + chunk.data.len()]);
                assert_eq!(start, usize::from(chunk.index) * usize::from(options.chunk_size));
                let mut wire = chunk.data.to_vec();
                wire.resize(wire.len() + usize::from(chunk.padding), 0);
                assert_eq!(chunk.crc(), crc32(&wire));
            }
        }
    };
    poll(&mut sender, now);
    while !input.is_empty() && sender.outcome().is_none() {
        let kind = input.byte();
        match kind % 9 {
            0 => sender.handle_input(now, SenderInput::BeginAccepted),
            1 => sender.handle_input(now, SenderInput::BeginRefused { code: input.byte() }),
            2 => sender.handle_input(now, SenderInput::Ready { fast: kind & 128 != 0 }),
            3 => sender.handle_input(now, SenderInput::ChunkReceived { good: kind & 128 == 0 }),
            4 => sender.handle_input(now, SenderInput::LateChunkReceived),
            5 => {
                let result = input.block();
                sender.handle_input(now, SenderInput::DoneAnswered { complete: kind & 128 != 0, result });
            }
            6 => sender.handle_input(now, SenderInput::Missed { indices: input.block() }),
            7 => sender.handle_input(now, SenderInput::DoneByDevice { result: input.block() }),
            _ => {
                now += Duration::from_secs(u64::from(input.byte()));
                sender.handle_deadline(now);
            }
        }
        poll(&mut sender, now);
        let progress = sender.progress();
        assert!(progress.sent <= progress.chunks);
    }
    for _ in 0..50 {
        let Some(deadline) = sender.next_deadline() else { break };
        now = now.max(deadline);
        sender.handle_deadline(now);
        poll(&mut sender, now);
    }
    assert!(sender.outcome().is_some(), "a silent device keeps the transfer open");
    sender.cancel();
}
