//! Benchmarks of the hot paths of the workspace, one file per crate or part of one under `benches/`.
//!
//! Every group sets its throughput, checks its results, and stands beside a naive version and, where one exists, a
//! peer crate that does the same work. `tests/allocations.rs` counts what the heap-free paths allocate: nothing.
//!
//! ```text
//! cargo bench -p spark-benches                # measure; RESULTS.md keeps a record
//! cargo bench -p spark-benches --features openssl   # with OpenSSL as a peer; needs libssl-dev
//! cargo bench -p spark-benches -- --test      # run everything once, as CI does
//! cargo test -p spark-benches                 # count allocations
//! ```
//!
//! This library holds the inputs that benchmarks and counts share.

/// A public event of a Photon: `NON POST /e/temperature/kitchen`, max-age 60, four bytes of payload.
pub const EVENT: [u8; 35] = *b"\x50\x02\xa1\xb6\xb1e\x0btemperature\x07kitchen\x31\x3c\xff21.5\x20\x20";

/// The Hello of a Photon.
pub const HELLO: [u8; 15] = *b"\x50\x02\xa1\xb3\xb1h\xff\0\x06\0\x03\0\0\0\x06";

/// A chunk of a firmware update up to its data: `CON POST /c?crc?index`, one byte of token.
pub const CHUNK_HEAD: [u8; 16] = *b"\x41\x02\x20\x0e\x09\xb1c\x44\x89\xab\xcd\xef\x02\0\x03\xff";

/// The layout string of the Photon's internal flash.
pub const LAYOUT: &[u8] = b"@Internal Flash   /0x08000000/03*016Ka,01*016Kg,01*064Kg,07*128Kg";

/// Bytes that depend on their position.
#[must_use]
pub fn image(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at * 31 + at / 256 * 7 + 7) % 256).unwrap_or(0)).collect()
}
