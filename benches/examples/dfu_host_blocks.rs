//! Writes blocks to a device that says yes, for counting instructions:
//!
//! ```text
//! cargo build --release -p spark-benches --example dfu_host_blocks
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/dfu_host_blocks spark-dfu 800
//! ```
//!
//! The difference between two numbers of blocks, divided by theirs, is the cost of one.
#![allow(clippy::unwrap_used, reason = "a tool for measurements")]

#[path = "../benches/dfu_host/yes.rs"]
mod yes;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [who, blocks] = &*arguments else {
        eprintln!("usage: dfu_host_blocks spark-dfu|naive|dfu-core BLOCKS");
        std::process::exit(64);
    };
    // 896 blocks fit into the flash of a Photon.
    let blocks: usize = blocks.parse().unwrap();
    let image = vec![0x5A; blocks.min(896) * yes::BLOCK];
    let done = match who.as_str() {
        "spark-dfu" => yes::ours(&image),
        "naive" => yes::naive(&image),
        _ => yes::dfu_core(&image),
    };
    println!("{} blocks in {} transfers, sum {}", done.blocks, done.transfers, done.sum);
}
