//! The whole way of a chunk out of a server against OpenSSL's AES-128-CBC alone over the same chunks, in turns:
//!
//! ```text
//! cargo run --release -p spark-benches --features openssl --example ota_ratios
//! cargo build --release -p spark-benches --features openssl --example ota_ratios
//! valgrind --tool=callgrind target/release/examples/ota_ratios batches|one-by-one|openssl|none
//! ```
//!
//! With an argument, one of them runs ten rounds of 200 chunks, to count its instructions; `none` is what the others
//! have in common.
#![allow(clippy::unwrap_used, reason = "a tool for measurements")]

use coap_spark::session::SessionKeys;
use core::hint::black_box;
use path::{CHUNK, CHUNKS, Path};
use shared::OpenSsl;
use std::time::Instant;

#[path = "../benches/ota/path.rs"]
mod path;
#[path = "../benches/coap/shared.rs"]
mod shared;

const SLICES: usize = 2000;

fn main() {
    let image = spark_benches::image(CHUNKS * CHUNK);
    let (mut server, mut peer) = (Path::new(&image), OpenSsl::sealer(&SessionKeys::new([7; 40])));
    let mut out = [0; 600];
    let mut openssl = || image.chunks(CHUNK).map(|chunk| peer.seal(black_box(chunk), &mut out).len()).sum();
    let sent: usize = match std::env::args().nth(1).as_deref() {
        Some("batches") => (0..10).map(|_| server.batches()).sum(),
        Some("one-by-one") => (0..10).map(|_| server.one_by_one()).sum(),
        Some("openssl") => (0..10).map(|_| openssl()).sum(),
        Some("none") => 0,
        Some(other) => panic!("{other}: batches, one-by-one, openssl or none"),
        None => {
            let mut other = Path::new(&image);
            compare("eight at a time", &mut || server.batches(), &mut openssl);
            compare("one by one", &mut || other.one_by_one(), &mut openssl);
            return;
        }
    };
    println!("{sent} bytes");
}

/// Nanoseconds a chunk of each, at best, and the median of the ratios of neighbouring slices.
fn compare<'w>(name: &str, ours: &'w mut dyn FnMut() -> usize, theirs: &'w mut dyn FnMut() -> usize) {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..SLICES {
        for (times, work) in times.iter_mut().zip([&mut *ours, &mut *theirs]) {
            let start = Instant::now();
            assert!(work() > CHUNKS * CHUNK);
            times.push(start.elapsed().as_secs_f64() / CHUNKS as f64 * 1e9);
        }
    }
    let [ours, theirs] = &mut times;
    let mut ratios: Vec<_> = ours.iter().zip(&*theirs).map(|(ours, theirs)| ours / theirs).collect();
    [&mut *ours, theirs, &mut ratios].into_iter().for_each(|values| values.sort_by(f64::total_cmp));
    println!(
        "{name}: {:.0} ns, OpenSSL {:.0} ns, {:.2} times; neighbours {:.2} times",
        ours[0],
        theirs[0],
        ours[0] / theirs[0],
        ratios[SLICES / 2]
    );
}
