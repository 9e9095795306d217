//! `spark-dct`: the checksum over a flash sector.
#![allow(missing_docs, clippy::unwrap_used, reason = "benchmarks")]

use core::hint::black_box;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use spark_dct::wiced::{Sector, SectorId, SectorState, Sectors, factory_sector, sector_crc};

/// The firmware's formula over any CRC-32 without final inversion.
fn by_formula(sector: &Sector, raw: impl Fn(&[u8]) -> u32) -> u32 {
    let mut header = [0; 388];
    header.copy_from_slice(&sector[..388]);
    header[8] = 0;
    let mut record = [0; 16];
    record.copy_from_slice(&sector[16368..]);
    record[8..13].fill(0);
    let pieces = sector[388..16368].chunks(32).fold(0, |crc, piece| crc ^ raw(piece));
    !0 ^ raw(&header) ^ pieces ^ raw(&record)
}

fn bit_by_bit(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
    bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

fn sector(c: &mut Criterion) {
    let mut sector = [0xFF; 16384];
    factory_sector(&spark_benches::image(8391), &mut sector).unwrap();
    let expected = sector_crc(&sector);
    let mut group = c.benchmark_group("dct/sector_crc");
    group.throughput(Throughput::Bytes(sector.len() as u64));
    group.bench_function("spark-dct", |b| b.iter(|| assert_eq!(sector_crc(black_box(&sector)), expected)));
    group.bench_function("naive", |b| {
        b.iter(|| assert_eq!(by_formula(black_box(&sector), bit_by_bit), expected));
    });
    group.bench_function("crc32fast", |b| {
        b.iter(|| assert_eq!(by_formula(black_box(&sector), |bytes| !crc32fast::hash(bytes)), expected));
    });
    group.finish();

    // No peer reads this container; the naive version is the comparison of one byte.
    let erased = [0xFF; 16384];
    let sectors = Sectors::new(&sector, &erased);
    let mut group = c.benchmark_group("dct/select");
    group.throughput(Throughput::Elements(1));
    group.bench_function("spark-dct", |b| {
        b.iter(|| {
            let states = [SectorId::Dct1, SectorId::Dct2].map(|id| black_box(sectors).state(id));
            assert_eq!(states, [SectorState::Legacy, SectorState::Unknown]);
        });
    });
    group.finish();
}

criterion_group!(all, sector);
criterion_main!(all);
