//! `spark-keys`: the check of a key field and the loading of a key file.
#![allow(missing_docs, clippy::unwrap_used, reason = "benchmarks")]

use core::hint::black_box;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rsa::RsaPrivateKey;
use rsa::pkcs1::DecodeRsaPrivateKey;
use spark_keys::{check, load_device_key, published_by_device};

fn keys(c: &mut Criterion) {
    let der = include_bytes!("../../keys/tests/vectors/rsa1024_608.der");
    let mut field = [0xFF; 612];
    field[..608].copy_from_slice(der);
    let mut group = c.benchmark_group("keys/check");
    group.throughput(Throughput::Elements(1));
    group.bench_function("spark-keys", |b| b.iter(|| assert!(check(black_box(&field)).is_clean())));
    // What the device itself does: believe that the modulus is at its place.
    group.bench_function("naive, modulus only", |b| {
        b.iter(|| assert_eq!(published_by_device(black_box(&field))[29..157], der[11..139]));
    });
    // Reads and validates, but knows nothing of the device's own reader.
    group.bench_function("rsa", |b| {
        b.iter(|| RsaPrivateKey::from_pkcs1_der(black_box(der)).unwrap().validate().unwrap());
    });
    group.finish();

    let pem = include_str!("../../keys/tests/vectors/rsa1024_608.pkcs1.pem");
    let mut group = c.benchmark_group("keys/load_pem");
    group.throughput(Throughput::Bytes(pem.len() as u64));
    group.bench_function("spark-keys", |b| {
        b.iter(|| assert_eq!(load_device_key(black_box(pem.as_bytes())).unwrap().as_der(), der));
    });
    group.bench_function("rsa", |b| {
        b.iter(|| assert!(RsaPrivateKey::from_pkcs1_pem(black_box(pem)).is_ok()));
    });
    group.finish();
}

criterion_group!(all, keys);
criterion_main!(all);
