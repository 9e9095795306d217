//! `spark-keys`: the check of a key field, the loading of key files, repair and generation.
#![allow(missing_docs, clippy::unwrap_used, reason = "benchmarks")]

use core::hint::black_box;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use rsa::RsaPrivateKey;
use rsa::pkcs1::DecodeRsaPrivateKey;
use spark_keys::private_key::Number;
use spark_keys::{
    RsaPrivateKeyView, check, check_ec, generate, load_device_key, load_ec_device_key, published_by_device,
    repair,
};

const DER: &[u8; 608] = include_bytes!("../../keys/tests/vectors/rsa1024_608.der");

fn field() -> [u8; 612] {
    let mut field = [0xFF; 612];
    field[..608].copy_from_slice(DER);
    field
}

fn checking(c: &mut Criterion) {
    let field = field();
    let mut group = c.benchmark_group("keys/check");
    group.throughput(Throughput::Elements(1));
    group.bench_function("spark-keys", |b| b.iter(|| assert!(check(black_box(&field)).is_clean())));
    // What the device itself does: believe that the modulus is at its place.
    group.bench_function("naive, modulus only", |b| {
        b.iter(|| assert_eq!(published_by_device(black_box(&field))[29..157], DER[11..139]));
    });
    // Reads and validates, but does not look at the stored dp, dq and qinv and knows nothing of the device's own reader.
    group.bench_function("rsa", |b| {
        b.iter(|| RsaPrivateKey::from_pkcs1_der(black_box(DER)).unwrap().validate().unwrap());
    });
    #[cfg(feature = "openssl")]
    group.bench_function("openssl", |b| {
        b.iter(|| {
            assert!(openssl::rsa::Rsa::private_key_from_der(black_box(DER)).unwrap().check_key().unwrap());
        });
    });
    let ec = include_bytes!("../../keys/tests/vectors/ec_p256.field192.bin");
    group.bench_function("spark-keys, EC", |b| b.iter(|| assert!(check_ec(black_box(ec)).is_clean())));
    group.finish();
}

fn reading(c: &mut Criterion) {
    let mut group = c.benchmark_group("keys/read_der");
    group.throughput(Throughput::Bytes(DER.len() as u64));
    group.bench_function("spark-keys, view", |b| {
        b.iter(|| {
            let view = RsaPrivateKeyView::parse(black_box(DER)).unwrap();
            assert_eq!(view.number(Number::Qinv).encoded_len(), 64);
        });
    });
    group.bench_function("rsa, structure", |b| {
        use rsa::pkcs1::der::Decode;
        b.iter(|| {
            let key = rsa::pkcs1::RsaPrivateKeyRef::from_der(black_box(DER)).unwrap();
            assert_eq!(key.coefficient.as_bytes().len(), 64);
        });
    });
    group.bench_function("spark-keys, load_device_key", |b| {
        b.iter(|| assert_eq!(load_device_key(black_box(DER)).unwrap().as_der(), DER));
    });
    group.bench_function("rsa", |b| {
        b.iter(|| assert!(RsaPrivateKey::from_pkcs1_der(black_box(DER)).is_ok()));
    });
    #[cfg(feature = "openssl")]
    group.bench_function("openssl", |b| {
        b.iter(|| assert!(openssl::rsa::Rsa::private_key_from_der(black_box(DER)).is_ok()));
    });
    group.finish();

    let pem = include_str!("../../keys/tests/vectors/rsa1024_608.pkcs1.pem");
    let mut group = c.benchmark_group("keys/load_pem");
    group.throughput(Throughput::Bytes(pem.len() as u64));
    group.bench_function("spark-keys", |b| {
        b.iter(|| assert_eq!(load_device_key(black_box(pem.as_bytes())).unwrap().as_der(), DER));
    });
    group.bench_function("rsa", |b| {
        b.iter(|| assert!(RsaPrivateKey::from_pkcs1_pem(black_box(pem)).is_ok()));
    });
    #[cfg(feature = "openssl")]
    group.bench_function("openssl", |b| {
        b.iter(|| assert!(openssl::rsa::Rsa::private_key_from_pem(black_box(pem.as_bytes())).is_ok()));
    });
    let ec = include_bytes!("../../keys/tests/vectors/ec_p256.pem");
    group.bench_function("spark-keys, EC", |b| {
        b.iter(|| assert_eq!(load_ec_device_key(black_box(ec)).unwrap().as_der().len(), 121));
    });
    group.finish();
}

fn repairing(c: &mut Criterion) {
    let mut group = c.benchmark_group("keys/repair");
    let mut one = field();
    one[400] ^= 1;
    let mut tail = field();
    tail[300..].fill(0xFF);
    let mut modulus_and_prime = field();
    modulus_and_prime[50] ^= 1;
    modulus_and_prime[300] ^= 1;
    for (name, field) in
        [("one prime damaged", one), ("end erased", tail), ("modulus and a prime damaged", modulus_and_prime)]
    {
        group.bench_function(name, |b| {
            b.iter(|| assert_eq!(repair(black_box(&field)).unwrap().key.as_der(), DER));
        });
    }
    let mut lost = field();
    lost[200..].fill(0xFF);
    group.bench_function("lost", |b| b.iter(|| assert!(repair(black_box(&lost)).is_err())));
    group.finish();
}

/// Every program makes keys until one has lengths that a device reads.
fn generating(c: &mut Criterion) {
    let mut group = c.benchmark_group("keys/generate");
    // the time for one key varies, depending on where primes happen to be
    group.sample_size(100).measurement_time(core::time::Duration::from_secs(15));
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    group.bench_function("spark-keys", |b| {
        b.iter(|| assert!(generate::device_key(&mut rng).unwrap().as_der().len() >= 607));
    });
    group.bench_function("rsa", |b| {
        b.iter(|| {
            loop {
                let key = RsaPrivateKey::new(&mut rng, 1024).unwrap();
                let der = spark_keys::rsa_backend::to_pkcs1(&key).unwrap();
                if RsaPrivateKeyView::parse(&der).unwrap().device_incompatible().is_none() {
                    break;
                }
            }
        });
    });
    #[cfg(feature = "openssl")]
    group.bench_function("openssl", |b| {
        b.iter(|| {
            loop {
                let der = openssl::rsa::Rsa::generate(1024).unwrap().private_key_to_der().unwrap();
                if RsaPrivateKeyView::parse(&der).unwrap().device_incompatible().is_none() {
                    break;
                }
            }
        });
    });
    group.finish();
}

criterion_group!(all, checking, reading, repairing, generating);
criterion_main!(all);
