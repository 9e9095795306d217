//! `spark-dfu` as host: what a block costs beside the transfers, against dfu-core and a loop without any checks.
#![allow(missing_docs, clippy::unwrap_used, reason = "benchmarks")]

#[path = "dfu_host/yes.rs"]
mod yes;

use core::hint::black_box;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use spark_benches::image;
use yes::{BLOCK, Yes};

const BLOCKS: usize = 200;

fn block(c: &mut Criterion) {
    let image = image(BLOCKS * BLOCK);
    let sum = image.chunks(BLOCK).map(|block| u64::from(block[0]) + u64::from(block[BLOCK - 1])).sum::<u64>();
    let check = |yes: Yes| assert_eq!((yes.blocks, yes.sum), (BLOCKS as u64, sum));
    let mut group = c.benchmark_group("dfu_host/200 blocks");
    group.throughput(Throughput::Elements(BLOCKS as u64));
    group.bench_function("spark-dfu", |b| b.iter(|| check(yes::ours(black_box(&image)))));
    group.bench_function("naive", |b| b.iter(|| check(yes::naive(black_box(&image)))));
    group.bench_function("dfu-core", |b| b.iter(|| check(yes::dfu_core(black_box(&image)))));
    group.finish();
    let transfers = [yes::ours(&image), yes::naive(&image), yes::dfu_core(&image)].map(|yes| yes.transfers);
    println!("transfers: spark-dfu {}, naive {}, dfu-core {}", transfers[0], transfers[1], transfers[2]);
    assert!(transfers[0] <= transfers[2]);
}

criterion_group!(all, block);
criterion_main!(all);
