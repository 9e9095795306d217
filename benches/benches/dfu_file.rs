//! `spark-dfu`: a DfuSe file of 1 MiB, checked in memory and in pieces, and written.
#![allow(missing_docs, clippy::unwrap_used, reason = "benchmarks")]

use core::hint::black_box;
use crc::{CRC_32_JAMCRC, Crc, Table};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use spark_benches::image;
use spark_dfu::file::dfuse::{DfuSeFile, Element, Event, Image, ParseOptions, Reader, TargetImage};

const SIZE: usize = 1 << 20;
static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_JAMCRC);
static SMALL_CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_JAMCRC);

/// Sixteen elements of 64 KiB in one target.
fn elements(data: &[u8]) -> Vec<Element<'_>> {
    (0x0800_0000..)
        .step_by(65536)
        .zip(data.chunks(65536))
        .map(|(address, data)| Element { address, data })
        .collect()
}

fn encode(elements: &[Element<'_>], out: &mut [u8]) -> usize {
    let targets = [TargetImage { alternate: 0, name: Some(b"ST..."), elements }];
    Image::new(0x0483, 0xDF11, &targets).encode_into(out).unwrap().len()
}

/// What dfuse-pack.py and dfu.py do: copies of every part, and the checksum a byte at a time.
fn naive_parse(file: &[u8]) -> Option<Vec<(u32, Vec<u8>)>> {
    let (content, crc) = file.split_last_chunk::<4>()?;
    if SMALL_CRC.checksum(content) != u32::from_le_bytes(*crc) || !file.starts_with(b"DfuSe\x01") {
        return None;
    }
    let mut rest = content.get(11..)?.to_vec();
    let mut found = Vec::new();
    for _ in 0..content[10] {
        let count = u32::from_le_bytes(rest.get(270..274)?.try_into().ok()?);
        rest = rest.split_off(274);
        for _ in 0..count {
            let address = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?);
            let size = usize::try_from(u32::from_le_bytes(rest.get(4..8)?.try_into().ok()?)).ok()?;
            found.push((address, rest.get(8..8 + size)?.to_vec()));
            rest.drain(..8 + size);
        }
    }
    Some(found)
}

fn parse(c: &mut Criterion) {
    let data = image(SIZE);
    let mut file = vec![0; SIZE + 1024];
    let len = encode(&elements(&data), &mut file);
    file.truncate(len);
    let stored = u32::from_le_bytes(*file.last_chunk().unwrap());
    let mut group = c.benchmark_group("dfu_file/parse");
    group.throughput(Throughput::Bytes(len as u64));
    group.bench_function("crc alone", |b| {
        b.iter(|| assert_eq!(CRC.checksum(&black_box(&file)[..len - 4]), stored));
    });
    group.bench_function("spark-dfu, view", |b| {
        b.iter(|| {
            let parsed = DfuSeFile::parse(black_box(&file)).unwrap();
            let total: usize =
                parsed.targets().flat_map(|target| target.elements()).map(|e| e.data.len()).sum();
            assert_eq!(total, SIZE);
        });
    });
    group.bench_function("spark-dfu, reader, pieces of 4 KiB", |b| {
        b.iter(|| {
            let (mut reader, mut total) = (Reader::new(ParseOptions::STRICT), 0);
            for mut piece in black_box(&file).chunks(4096) {
                while let Some(event) = reader.read(&mut piece).unwrap() {
                    if let Event::Data { bytes, .. } = event {
                        total += bytes.len();
                    }
                }
            }
            assert_eq!((total, reader.finish().unwrap().suffix.crc), (SIZE, stored));
        });
    });
    group.bench_function("naive", |b| {
        b.iter(|| {
            let found = naive_parse(black_box(&file)).unwrap();
            assert_eq!(found.iter().map(|(_, data)| data.len()).sum::<usize>(), SIZE);
        });
    });
    group.finish();
}

fn write(c: &mut Criterion) {
    let data = image(SIZE);
    let elements = elements(&data);
    let mut out = vec![0; SIZE + 1024];
    let len = encode(&elements, &mut out);
    let expected = u32::from_le_bytes(*out[..len].last_chunk().unwrap());
    let mut group = c.benchmark_group("dfu_file/write");
    group.throughput(Throughput::Bytes(len as u64));
    group.bench_function("spark-dfu, encode_into", |b| {
        b.iter(|| {
            assert_eq!(encode(black_box(&elements), &mut out), len);
            assert_eq!(out[..len].last_chunk(), Some(&expected.to_le_bytes()));
        });
    });
    group.bench_function("naive", |b| {
        b.iter(|| {
            let mut body = Vec::new();
            for element in black_box(&elements) {
                body = [&body, &element.address.to_le_bytes()[..], &(65536_u32).to_le_bytes(), element.data]
                    .concat();
            }
            let size = u32::try_from(body.len()).unwrap();
            let mut file =
                [&b"DfuSe\x01"[..], &(size + 285).to_le_bytes(), b"\x01Target\x00\x01\x00\x00\x00ST..."]
                    .concat();
            file.extend([0; 250]);
            file.extend([size.to_le_bytes(), 16_u32.to_le_bytes()].concat());
            file.extend(body);
            file.extend(b"\x00\x00\x11\xdf\x83\x04\x1a\x01UFD\x10");
            file.extend(SMALL_CRC.checksum(&file).to_le_bytes());
            assert_eq!(file.last_chunk(), Some(&expected.to_le_bytes()));
        });
    });
    group.finish();
}

criterion_group!(all, parse, write);
criterion_main!(all);
