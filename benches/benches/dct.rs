//! `spark-dct`: checksums of flash sectors, selection between two, recovery.
#![allow(missing_docs, clippy::unwrap_used, reason = "benchmarks")]

use core::hint::black_box;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use spark_dct::dcd;
use spark_dct::recovery::{Confidence, Dump, Judgement, Options, Plan, Target};
use spark_dct::wiced::{
    CrcCheck, FlashOp, Generation, Sector, SectorId, SectorState, Sectors, Write, factory_sector, sector_crc,
};

type Naive = fn(&[u8]) -> u32;

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

fn apply(flash: &mut [Sector; 2], op: FlashOp<'_>) {
    match op {
        FlashOp::Erase { sector } => flash[sector.index()].fill(0xFF),
        FlashOp::Program { sector, offset, data } => {
            flash[sector.index()].iter_mut().skip(offset).zip(data).for_each(|(cell, byte)| *cell &= byte);
        }
        _ => panic!("unknown operation"),
    }
}

/// Both sectors written by v0.7.0: one current, one replaced.
fn photon() -> Box<[Sector; 2]> {
    let mut flash = Box::new([[0xFF; 16384]; 2]);
    factory_sector(&spark_benches::image(8391), &mut flash[0]).unwrap();
    for value in [b"1", b"0"] {
        let before = flash.clone();
        let sectors = Sectors::new(&before[0], &before[1]);
        let mut write = Write::new(sectors, Generation::V0_7_0, 1825, value).unwrap();
        while let Some(op) = write.next_op() {
            apply(&mut flash, op);
        }
    }
    flash
}

/// Both sectors written by v0.7.0 of the Electron.
fn electron() -> Box<[Sector; 2]> {
    let mut flash = Box::new([[0xFF; 16384]; 2]);
    let before = flash.clone();
    let mut write = dcd::Write::initialise(dcd::Sectors::new(&before[0], &before[1]), dcd::Generation::V2);
    while let Some(op) = write.next_op() {
        apply(&mut flash, op);
    }
    for value in [spark_benches::image(8391), vec![1]] {
        let before = flash.clone();
        let sectors = dcd::Sectors::new(&before[0], &before[1]);
        let mut write = dcd::Write::new(sectors, dcd::Generation::V2, 0, &value).unwrap();
        while let Some(op) = write.next_op() {
            apply(&mut flash, op);
        }
    }
    flash
}

fn sector(c: &mut Criterion) {
    let flash = photon();
    let sector = &flash[0];
    let expected = sector_crc(sector);
    let mut group = c.benchmark_group("dct/sector_crc");
    group.throughput(Throughput::Bytes(sector.len() as u64));
    group.bench_function("spark-dct", |b| b.iter(|| assert_eq!(sector_crc(black_box(sector)), expected)));
    group.bench_function("naive", |b| {
        b.iter(|| assert_eq!(by_formula(black_box(sector), bit_by_bit as Naive), expected));
    });
    group.bench_function("crc32fast, by the formula", |b| {
        b.iter(|| assert_eq!(by_formula(black_box(sector), |bytes| !crc32fast::hash(bytes)), expected));
    });
    let whole = crc32fast::hash(sector);
    group.bench_function("crc32fast alone", |b| {
        b.iter(|| assert_eq!(crc32fast::hash(black_box(sector)), whole))
    });
    group.finish();

    let flash = electron();
    let sector = &flash[0];
    let expected = dcd::sector_crc(sector);
    let covered = &sector[8..16380];
    let small = crc::Crc::<u32, crc::Table<1>>::new(&crc::CRC_32_ISO_HDLC);
    let mut group = c.benchmark_group("dct/dcd_crc");
    group.throughput(Throughput::Bytes(covered.len() as u64));
    group.bench_function("spark-dct, table of 16 KiB", |b| {
        b.iter(|| assert_eq!(dcd::sector_crc(black_box(sector)), expected));
    });
    group.bench_function("table of 1 KiB, as without std", |b| {
        b.iter(|| assert_eq!(small.checksum(black_box(covered)), expected));
    });
    group.bench_function("naive", |b| b.iter(|| assert_eq!(!bit_by_bit(black_box(covered)), expected)));
    group.bench_function("crc32fast", |b| {
        b.iter(|| assert_eq!(crc32fast::hash(black_box(covered)), expected));
    });
    group.finish();
}

/// Selection and validation of both sectors; no peer reads either container, so the checksum alone is the comparison.
fn select(c: &mut Criterion) {
    let flash = photon();
    let sectors = Sectors::new(&flash[0], &flash[1]);
    let both = 2 * 16384;
    let mut group = c.benchmark_group("dct/select");
    group.throughput(Throughput::Bytes(both));
    group.bench_function("spark-dct, photon", |b| {
        b.iter(|| {
            assert_eq!(black_box(sectors).current(Generation::V0_7_0), Some(SectorId::Dct1));
        });
    });
    group.bench_function("crc32fast over both", |b| {
        b.iter(|| black_box(&flash).each_ref().map(|sector| crc32fast::hash(black_box(sector))));
    });
    let electron = electron();
    let sectors = dcd::Sectors::new(&electron[0], &electron[1]);
    let good = [SectorId::Dct1, SectorId::Dct2].map(|id| sectors.state(id).crc);
    assert_eq!(good, [Some(CrcCheck::Good); 2]);
    group.bench_function("spark-dct, electron, both checked", |b| {
        b.iter(|| {
            let states = [SectorId::Dct1, SectorId::Dct2].map(|id| black_box(sectors).state(id).crc);
            assert_eq!(states, good);
        });
    });
    group.finish();
    let states = [SectorId::Dct1, SectorId::Dct2].map(|id| Sectors::new(&flash[0], &flash[1]).state(id));
    assert!(matches!(states[0], SectorState::Versioned { crc: CrcCheck::Good, .. }));

    let mut group = c.benchmark_group("dct/recovery");
    group.throughput(Throughput::Elements(1));
    let target = Target::Wiced(Generation::V0_7_0);
    group.bench_function("spark-dct, plan and sectors", |b| {
        let mut out = Box::new([[0; 16384]; 2]);
        b.iter(|| {
            let dump = Dump::new(black_box(&flash[0]), black_box(&flash[1]));
            let plan = Plan::new(dump, target, Options::default(), |_, _| Judgement::Unknown).unwrap();
            assert_eq!(plan.confidence(), Confidence::Stored);
            plan.build_sectors(&mut out).unwrap();
        });
    });
    group.finish();
}

criterion_group!(all, sector, select);
criterion_main!(all);
