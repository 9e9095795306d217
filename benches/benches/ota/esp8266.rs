//! ESP8266 images: checking and patching a program as long as those of SonOTA.

use super::program::{check, program, toggle};
use core::hint::black_box;
use criterion::{Criterion, Throughput};
use sha2::{Digest, Sha256};
use spark_ota::esp8266::{Image, Sha256Text, Slot};

pub(crate) fn all(c: &mut Criterion) {
    let mut file = program();
    let dout = Sha256Text::of(&file);
    let mut qio_file = file.clone();
    let qio = toggle(&mut qio_file);
    assert!(qio == Sha256Text::of(&qio_file) && qio != dout);
    let expected: [u8; 32] = Sha256::digest(&file).into();

    let mut group = c.benchmark_group("ota/esp8266");
    group.throughput(Throughput::Bytes(file.len() as u64));
    group.bench_function("check for an upgrade", |b| b.iter(|| check(black_box(&file))));
    group.bench_function("CRC alone", |b| {
        b.iter(|| assert_eq!(Image::parse(black_box(&file)).unwrap().crc_ok(), Some(true)));
    });
    group.bench_function("link evidence alone", |b| {
        b.iter(|| assert_eq!(Image::parse(black_box(&file)).unwrap().linked_slot(), Some(Slot::User2)));
    });
    group.bench_function("patch, with the new digest", |b| {
        b.iter(|| {
            let digest = toggle(black_box(&mut file));
            assert!(digest == qio || digest == dout);
        });
    });
    let file = program();
    group.bench_function("sha2 alone", |b| {
        b.iter(|| assert_eq!(Sha256::digest(black_box(&file)).as_slice(), expected));
    });
    let crc = crc32fast::hash(&file);
    group
        .bench_function("crc32fast alone", |b| b.iter(|| assert_eq!(crc32fast::hash(black_box(&file)), crc)));
    group.finish();
}
