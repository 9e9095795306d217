//! Ours against OpenSSL where both run in turns, so that what else happens on the machine meets both:
//!
//! ```text
//! cargo run --release -p spark-benches --features openssl --example coap_ratios
//! ```
//!
//! Each runs for a short slice, then the other. Two ratios are printed: of the shortest slice of each, and the median of
//! those of neighbouring slices, which the processor's changing clock disturbs least.
#![allow(clippy::unwrap_used, reason = "a tool for measurements")]

use coap_spark::session::{Opener, Sealer, SessionKeys, Unsealed, sealed_len};
use core::hint::black_box;
use shared::{BareOperations, Handshake, KEYS, OpenSsl, OpenSslServer};
use std::time::Instant;

#[path = "../benches/coap/shared.rs"]
mod shared;

const SLICES: usize = 2000;
const FRAMES: usize = 64;

fn main() {
    for len in [32, 512] {
        seal(len);
        open(len);
        batch(len);
    }
    let Handshake { server_pem, identity, .. } = Handshake::new();
    let (mut server, mut bare) = (OpenSslServer::new(), BareOperations::new(server_pem, identity));
    compare("handshake, two bare private operations", 1, &mut || server.answer(), &mut || bare.run());
    bare.check();
}

fn seal(len: usize) {
    let (keys, message) = (SessionKeys::new(KEYS), spark_benches::image(len));
    let (mut sealer, mut peer) = (Sealer::new(&keys), OpenSsl::sealer(&keys));
    let (mut out, mut other) = ([0; 600], [0; 600]);
    compare(
        &format!("seal {len}"),
        100,
        &mut || assert_eq!(sealer.seal(black_box(&message), &mut out).unwrap().len(), sealed_len(len)),
        &mut || assert_eq!(peer.seal(black_box(&message), &mut other).len(), sealed_len(len)),
    );
}

/// Both in place, after a copy of the frame.
fn open(len: usize) {
    let (keys, message) = (SessionKeys::new(KEYS), spark_benches::image(len));
    let (mut opener, mut peer) = (Opener::new(&keys), OpenSsl::opener(&keys));
    let mut frame = vec![0; sealed_len(len)];
    Sealer::new(&keys).seal(&message, &mut frame).unwrap();
    let body = &frame[2..];
    let (mut ours, mut theirs) = (vec![0; body.len()], vec![0; body.len() + 16]);
    compare(
        &format!("open {len}"),
        100,
        &mut || {
            ours.copy_from_slice(black_box(body));
            assert_eq!(opener.open_in_place(&mut ours), Ok(len));
        },
        &mut || {
            theirs[..body.len()].copy_from_slice(black_box(body));
            assert_eq!(peer.open_in_place(&mut theirs), len);
        },
    );
}

/// Frames of one session: ours all at once, OpenSSL's one after the other.
fn batch(len: usize) {
    let (keys, message) = (SessionKeys::new(KEYS), spark_benches::image(len));
    let (mut sealer, mut peer) = (Sealer::new(&keys), OpenSsl::sealer(&keys));
    let mut buffers = vec![[0; 600]; FRAMES];
    let mut other = [0; 600];
    compare(
        &format!("seal {len}, {FRAMES} at once"),
        2,
        &mut || {
            buffers.iter_mut().for_each(|buffer| buffer[2..2 + len].copy_from_slice(black_box(&message)));
            let mut frames: Vec<_> = buffers.iter_mut().map(|buffer| Unsealed { buffer, len }).collect();
            sealer.seal_batch(&mut frames).unwrap();
        },
        &mut || {
            for _ in 0..FRAMES {
                assert_eq!(peer.seal(black_box(&message), &mut other).len(), sealed_len(len));
            }
        },
    );
}

fn compare<'w>(name: &str, rounds: u32, ours: &'w mut dyn FnMut(), theirs: &'w mut dyn FnMut()) {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..SLICES {
        for (times, work) in times.iter_mut().zip([&mut *ours, &mut *theirs]) {
            let start = Instant::now();
            (0..rounds).for_each(|_| work());
            times.push(start.elapsed().as_secs_f64() / f64::from(rounds) * 1e9);
        }
    }
    let [ours, theirs] = &mut times;
    let mut ratios: Vec<_> = ours.iter().zip(&*theirs).map(|(ours, theirs)| ours / theirs).collect();
    [&mut *ours, theirs, &mut ratios].into_iter().for_each(|values| values.sort_by(f64::total_cmp));
    println!(
        "{name}: {:.0} and {:.0} ns at best, {:.2} times; neighbours {:.2} times",
        ours[0],
        theirs[0],
        ours[0] / theirs[0],
        ratios[SLICES / 2]
    );
}
