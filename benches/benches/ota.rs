//! `spark-ota`: cutting an image into chunks with their CRC, the list of missing chunks, and checking a module.
#![allow(missing_docs, clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "benchmarks")]

use coap_spark::session::{Sealer, SessionKeys, sealed_len};
use core::hint::black_box;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use path::Path;
use sha2::{Digest, Sha256};
use spark_benches::image;
use spark_ota::module::{
    CompressOptions, Dependency, Module, ModuleBuilder, ModuleFunction, check_in_flash, compress, decompress,
};
use spark_ota::transfer::{Bitmap, Chunks};
use std::collections::BTreeSet;

#[path = "ota/esp8266.rs"]
mod esp8266;
#[path = "ota/path.rs"]
mod path;
#[path = "ota/program.rs"]
mod program;
#[cfg(feature = "openssl")]
#[path = "coap/shared.rs"]
mod shared;

fn bit_by_bit(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

fn chunks(c: &mut Criterion) {
    // A whole number of chunks: the naive and the peer version know no padding.
    let image = image(200 * 512);
    let expected = image.chunks(512).fold(0, |all, chunk| all ^ crc32fast::hash(chunk));
    let mut group = c.benchmark_group("ota/chunks");
    group.throughput(Throughput::Bytes(image.len() as u64));
    group.bench_function("spark-ota", |b| {
        b.iter(|| {
            let chunks = Chunks::new(black_box(&image), 512, true).unwrap();
            assert_eq!(chunks.iter().fold(0, |all, chunk| all ^ chunk.crc()), expected);
        });
    });
    group.bench_function("naive", |b| {
        b.iter(|| {
            let crc = black_box(&image).chunks(512).fold(0, |all, chunk| all ^ bit_by_bit(chunk));
            assert_eq!(crc, expected);
        });
    });
    group.bench_function("crc32fast", |b| {
        b.iter(|| {
            let crc = black_box(&image).chunks(512).fold(0, |all, chunk| all ^ crc32fast::hash(chunk));
            assert_eq!(crc, expected);
        });
    });
    group.finish();

    let mut group = c.benchmark_group("ota/one_chunk");
    group.throughput(Throughput::Bytes(512));
    let first = crc32fast::hash(&image[..512]);
    group.bench_function("spark-ota", |b| {
        let chunks = Chunks::new(&image, 512, true).unwrap();
        b.iter(|| assert_eq!(black_box(&chunks).get(0).unwrap().crc(), first));
    });
    group.finish();
}

/// The whole way of a chunk out of a server: chunk, CRC, message, frame. Throughput is that of the image.
fn sender_path(c: &mut Criterion) {
    let image = image(path::CHUNKS * path::CHUNK);
    Path::new(&image).check(&image);
    let mut group = c.benchmark_group("ota/sender_path/200 chunks");
    group.throughput(Throughput::Bytes(image.len() as u64));
    let frames = path::CHUNKS * sealed_len(16 + path::CHUNK);
    let mut server = Path::new(&image);
    group.bench_function("spark-ota, eight at a time", |b| b.iter(|| assert_eq!(server.batches(), frames)));
    group.bench_function("spark-ota, one by one", |b| b.iter(|| assert_eq!(server.one_by_one(), frames)));
    // Everything made anew for each chunk, as the JavaScript servers do.
    let keys = SessionKeys::new([7; 40]);
    group.bench_function("naive", |b| {
        b.iter(|| {
            let mut sent = 0;
            for (index, chunk) in (0_u16..).zip(black_box(&image).chunks(path::CHUNK)) {
                let mut message = vec![0x41, 2, 0, 0, 0, 0xb1, b'c', 0x44];
                message.extend(bit_by_bit(chunk).to_be_bytes());
                message.extend([2, index.to_be_bytes()[0], index.to_be_bytes()[1], 0xff]);
                message.extend(chunk);
                let mut frame = vec![0; sealed_len(message.len())];
                sent += Sealer::new(&keys).seal(&message, &mut frame).unwrap().len();
            }
            assert_eq!(sent, frames);
        });
    });
    #[cfg(feature = "openssl")]
    {
        let mut peer = shared::OpenSsl::sealer(&keys);
        let mut out = [0; 600];
        group.bench_function("openssl, AES-128-CBC of the chunks alone", |b| {
            b.iter(|| {
                let seal = |chunk: &[u8]| peer.seal(black_box(chunk), &mut out).len();
                assert_eq!(image.chunks(path::CHUNK).map(seal).sum::<usize>(), path::CHUNKS * 530);
            });
        });
    }
    group.finish();
}

const COUNT: u16 = 1000;

/// Every tenth chunk is lost.
fn arrived() -> impl Iterator<Item = u16> {
    (0..COUNT).filter(|index| index % 10 != 3)
}

fn bitmap(c: &mut Criterion) {
    let mut group = c.benchmark_group("ota/missing");
    group.throughput(Throughput::Elements(u64::from(COUNT)));
    let (number, sum) = (100_usize, (0..COUNT).filter(|index| index % 10 == 3).map(u32::from).sum::<u32>());
    let judge = |missing: &mut dyn Iterator<Item = u16>| {
        let found = missing.fold((0_usize, 0_u32), |(n, sum), index| (n + 1, sum + u32::from(index)));
        assert_eq!(found, (number, sum));
    };
    group.bench_function("spark-ota", |b| {
        b.iter(|| {
            let mut bitmap = Bitmap::<128>::new();
            assert!(bitmap.reset(COUNT, false));
            black_box(arrived()).for_each(|index| bitmap.set(index));
            judge(&mut bitmap.missing());
        });
    });
    group.bench_function("naive, Vec<bool>", |b| {
        b.iter(|| {
            let mut there = vec![false; usize::from(COUNT)];
            black_box(arrived()).for_each(|index| there[usize::from(index)] = true);
            judge(&mut (0..COUNT).filter(|index| !there[usize::from(*index)]));
        });
    });
    group.bench_function("naive, BTreeSet", |b| {
        b.iter(|| {
            let mut missing: BTreeSet<u16> = (0..COUNT).collect();
            black_box(arrived()).for_each(|index| {
                missing.remove(&index);
            });
            judge(&mut missing.iter().copied());
        });
    });
    group.finish();
}

/// As large as a real system part 1.
fn part() -> Vec<u8> {
    let builder = ModuleBuilder::new(6, ModuleFunction::System, 1, 2202)
        .depends_on([Dependency::system(2, 207), Dependency::NONE])
        .vector_table(0x2002_0000);
    let body = image(builder.body_len(250_956).unwrap());
    builder.body(&body).build().unwrap()
}

fn module(c: &mut Criterion) {
    let file = part();
    let expected = Module::parse(&file).unwrap().suffix().sha256;
    let hashed = &file[..file.len() - 38];
    let mut group = c.benchmark_group("ota/module_check");
    group.throughput(Throughput::Bytes(file.len() as u64));
    group.bench_function("spark-ota", |b| {
        b.iter(|| {
            let module = Module::parse(black_box(&file)).unwrap();
            assert!(module.crc_ok() && module.sha256_ok());
        });
    });
    group.bench_function("spark-ota, CRC alone", |b| {
        b.iter(|| assert!(Module::parse(black_box(&file)).unwrap().crc_ok()));
    });
    group.bench_function("spark-ota, in flash by 256 bytes", |b| {
        b.iter(|| {
            let found = check_in_flash(0, u32::try_from(file.len()).unwrap(), |address, out| {
                let start = usize::try_from(address).unwrap();
                out.copy_from_slice(&black_box(&file)[start..start + out.len()]);
                Ok::<(), ()>(())
            });
            assert!(found.is_ok_and(|found| found.crc_ok() && found.sha256_ok));
        });
    });
    group.bench_function("sha2 alone", |b| {
        b.iter(|| assert_eq!(Sha256::digest(black_box(hashed)).as_slice(), expected));
    });
    group.finish();

    let smaller = compress(&file, CompressOptions::DEFAULT).unwrap();
    let mut group = c.benchmark_group("ota/module_inflate");
    group.throughput(Throughput::Bytes(file.len() as u64));
    group.bench_function("spark-ota", |b| {
        b.iter(|| {
            let module = Module::parse(black_box(&smaller)).unwrap();
            assert_eq!(decompress(&module, 1 << 20).unwrap().len(), file.len());
        });
    });
    group.finish();
}

criterion_group!(all, chunks, sender_path, bitmap, module, esp8266::all);
criterion_main!(all);
