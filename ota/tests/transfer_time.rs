//! How long an image takes over a link of 1 Mbit/s under a virtual clock: ours in fast mode, slow chunks as both open
//! JavaScript servers send them, and what the link allows.
//!
//! What those servers do is recorded in `tests/vectors/session/e2e-brewskey-slow.json` and `e2e-particle-slow.json`: chunks of
//! 256 bytes, each after the answer to the one before; `recorded_transfers.rs` shows that our sender in slow mode sends the
//! same messages, so it stands in for them here. Their time-outs are not in the recordings but in their `Flasher.js`.
//! particle-iot's server has no other mode. Brewskey's has a fast one that repairs nothing
//! (`e2e-brewskey-fast-loss-not-recovered.json`).
//!
//! `cargo test -p spark-ota --features coap-spark --test transfer_time -- --nocapture` prints the table.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

use coap_spark::coap::Type;
use coap_spark::connection::{DeviceConnection, Profile as LinkProfile, ServerConnection, ServerPolicy};
use coap_spark::message::{Envelope, FromDevice, FromServer, Hello, HelloFlags};
use coap_spark::session::SessionKeys;
use core::time::Duration;
use spark_ota::coap::{Download, Target, Upload};
use spark_ota::transfer::{Options, Plan, Profile, ResetCause};
use std::collections::VecDeque;

/// Bytes of an application of ordinary size.
const IMAGE: usize = 250_956;
const BITS_PER_SECOND: f64 = 1e6;

/// Brewskey/spark-protocol (2021) gives up when this has not been enough for all chunks …
const BREWSKEY_LIMIT: Duration = Duration::from_secs(60);
/// … and particle-iot/spark-protocol (2017) after this.
const PARTICLE_LIMIT: Duration = Duration::from_secs(600);

/// One direction of the link.
struct Direction {
    latency: Duration,
    /// The last bit is on the wire.
    free_at: Duration,
    frames: VecDeque<(Duration, Vec<u8>)>,
}

fn wire_time(len: usize) -> Duration {
    Duration::from_secs_f64(f64::from(u32::try_from(len).unwrap()) * 8.0 / BITS_PER_SECOND)
}

impl Direction {
    fn send(&mut self, now: Duration, frame: &[u8]) {
        self.free_at = self.free_at.max(now) + wire_time(frame.len());
        self.frames.push_back((self.free_at + self.latency, frame.to_vec()));
    }

    fn next(&self) -> Option<Duration> {
        self.frames.front().map(|(at, _)| *at)
    }
}

#[derive(Default)]
struct Flash(Vec<u8>, bool);

impl Target for Flash {
    fn check(&mut self, _: &Plan) -> bool {
        true
    }

    fn prepare(&mut self, plan: &Plan) -> bool {
        self.0 = vec![0xff; usize::try_from(plan.file_length).unwrap()];
        true
    }

    fn save(&mut self, offset: u32, data: &[u8]) -> bool {
        let start = usize::try_from(offset).unwrap();
        self.0[start..start + data.len()].copy_from_slice(data);
        true
    }

    fn validate(&mut self, plan: &Plan) -> bool {
        u32::try_from(self.0.len()) == Ok(plan.file_length)
    }

    fn apply(&mut self, _: &Plan) {
        self.1 = true;
    }

    fn reset(&mut self, _: &Plan, cause: ResetCause) {
        panic!("{cause:?}");
    }
}

/// From the first byte of the transfer to the answer that all is there.
fn transfer(image: &[u8], options: Options, round_trip: Duration) -> Duration {
    let keys = SessionKeys::new([7; 40]);
    let mut now = Duration::from_secs(1);
    let mut server = ServerConnection::<1024>::new(&keys, ServerPolicy::DEFAULT, 0, now);
    let mut device = DeviceConnection::<800>::new(&keys, LinkProfile::V2_3_1, now);
    let mut out = [0; 6000];
    let mut first = [0; 800];
    let hello = FromDevice::Hello(Hello::new(6, 1, HelloFlags(0), 6));
    let said = device.send(Type::NonConfirmable, hello, &mut first).unwrap();
    server.handle_input(now, said.bytes).unwrap();
    server.poll_message().unwrap();
    let answer = server.poll_output(&mut out).unwrap().unwrap().to_vec();
    device.handle_input(now, &answer).unwrap();
    device.poll_message();

    let latency = round_trip / 2;
    let direction = || Direction { latency, free_at: now, frames: VecDeque::new() };
    let (mut down, mut up) = (direction(), direction());
    let mut upload = Upload::new(image, options).unwrap();
    let mut download = Download::<128>::new(Profile::C4, 0x4_0000);
    let mut flash = Flash::default();
    let started = now;
    while upload.outcome().is_none() {
        // A socket takes what its buffer holds: here one batch.
        while down.free_at <= now {
            if let Some(frames) = upload.poll_send_batch(&mut server, &mut out).unwrap() {
                let frames = frames.to_vec();
                let mut rest = &frames[..];
                while let [high, low, ..] = rest {
                    let (frame, behind) = rest.split_at(2 + usize::from(u16::from_be_bytes([*high, *low])));
                    down.send(now, frame);
                    rest = behind;
                }
            } else if let Some(frame) = upload.poll_send(now, &mut server, &mut out).unwrap() {
                down.send(now, frame);
            } else {
                break;
            }
        }
        let next =
            [down.next(), up.next(), (down.free_at > now).then_some(down.free_at), upload.next_deadline()];
        now = next.into_iter().flatten().min().unwrap().max(now);
        while down.next().is_some_and(|at| at <= now) {
            let (_, frame) = down.frames.pop_front().unwrap();
            assert_eq!(device.handle_input(now, &frame), Ok(frame.len()));
            let Some(message) = device.poll_message() else { continue };
            let mut copy = [0; 1024];
            let copy = message.encode_into(&mut copy).unwrap().to_vec();
            let message = Envelope::<FromServer<'_>>::decode(&copy).unwrap();
            let mut say = |frame: &[u8]| up.send(now, frame);
            download.handle_message(now, &message, &mut device, &mut flash, &mut say).unwrap();
        }
        while up.next().is_some_and(|at| at <= now) {
            let (_, frame) = up.frames.pop_front().unwrap();
            server.handle_input(now, &frame).unwrap();
            let Some(message) = server.poll_message() else { continue };
            let mut copy = [0; 1024];
            let copy = message.encode_into(&mut copy).unwrap().to_vec();
            let _ = upload.handle_message(now, &Envelope::<FromDevice<'_>>::decode(&copy).unwrap());
        }
        upload.handle_deadline(now);
    }
    assert!(upload.outcome().unwrap().is_ok() && flash.1 && flash.0 == image);
    assert_eq!(upload.progress().resent, 0);
    now - started
}

/// The chunk size of a recorded server, which waits for each answer before it sends the next chunk.
fn recorded_chunk_size(name: &str) -> u16 {
    let path = format!("{}/tests/vectors/session/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let recorded: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (mut waits_for, mut chunks) = (None, 0);
    for entry in recorded["log"].as_array().unwrap() {
        let Some(message) = entry.get("hex").map(|hex| hex::decode(hex.as_str().unwrap()).unwrap()) else {
            continue;
        };
        if entry["name"] == "Chunk" {
            assert_eq!(waits_for, None, "{name}");
            waits_for = Some(message[4]);
            chunks += 1;
        } else if message[0] & 0x30 == 0x10 && waits_for == message.get(4).copied() {
            waits_for = None;
        }
    }
    assert!(chunks > 2 && waits_for.is_none(), "{name}");
    recorded["chunk_size"].as_u64().unwrap().try_into().unwrap()
}

#[test]
fn fast_mode_is_near_to_what_the_link_allows() {
    let image: Vec<u8> = (0..IMAGE).map(|at| u8::try_from((at * 31 + at / 250) % 251).unwrap()).collect();
    let chunk_size = recorded_chunk_size("e2e-brewskey-slow");
    assert_eq!(recorded_chunk_size("e2e-particle-slow"), chunk_size);
    println!(
        "| round trip | the link's limit | ours, fast, 512 | ours, fast, 672 | JavaScript servers, slow, {chunk_size} | who gives up |"
    );
    println!("|---|---|---|---|---|---|");
    for millis in [20, 100, 300] {
        let round_trip = Duration::from_millis(millis);
        // The image's bytes alone, and the two round trips that nobody can do without: may I, and is it there.
        let limit = wire_time(IMAGE) + 2 * round_trip;
        let fast = transfer(&image, Options::DEFAULT, round_trip);
        let large = transfer(&image, Options { chunk_size: 672, ..Options::DEFAULT }, round_trip);
        let slow = Options { chunk_size, offer_fast: false, ..Options::DEFAULT };
        let slow = transfer(&image, slow, round_trip);
        let gives_up = match slow {
            slow if slow > PARTICLE_LIMIT => "both",
            slow if slow > BREWSKEY_LIMIT => "Brewskey",
            _ => "none",
        };
        let ratio = |time: Duration| time.as_secs_f64() / limit.as_secs_f64();
        println!(
            "| {millis} ms | {:.2} s | {:.2} s ({:.2}) | {:.2} s ({:.2}) | {:.2} s ({:.1}) | {gives_up} |",
            limit.as_secs_f64(),
            fast.as_secs_f64(),
            ratio(fast),
            large.as_secs_f64(),
            ratio(large),
            slow.as_secs_f64(),
            ratio(slow),
        );
        assert!(ratio(fast) < 1.1 && ratio(large) < ratio(fast), "{}", ratio(fast));
        // Each chunk waits for its answer.
        let chunks = u32::try_from(IMAGE.div_ceil(chunk_size.into())).unwrap();
        assert!(slow > chunks * round_trip);
        assert_eq!(gives_up, if millis == 20 { "none" } else { "Brewskey" });
    }
}
