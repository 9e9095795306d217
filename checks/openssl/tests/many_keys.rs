//! Thousands of keys of OpenSSL's and ours, by the device's rule of lengths.
#![allow(missing_docs)]

use openssl::rsa::Rsa;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use spark_keys::private_key::Number;
use spark_keys::{RsaPrivateKeyView, check, generate, load_device_key, openssl_backend};
use std::collections::BTreeMap;

/// As many as were counted once with the device's own code: 34 misread, by number d 11, dp 10, dq 6, qinv 7.
const KEYS: usize = 2500;

#[test]
fn about_one_in_a_hundred_openssl_keys_is_misread_by_the_device() {
    let mut by_number: BTreeMap<&str, usize> = BTreeMap::new();
    let mut by_length: BTreeMap<usize, [usize; 2]> = BTreeMap::new();
    for _ in 0..KEYS {
        let der = Rsa::generate(1024).expect("a key").private_key_to_der().expect("its DER");
        let view = RsaPrivateKeyView::parse(&der).expect("a key of OpenSSL");
        assert!(view.is_minimal() && view.der_len() == der.len());
        let report = check(&der);
        let incompatible = view.device_incompatible();
        // by the rule, and by what the device would compute: one answer
        assert_eq!(incompatible.is_none(), report.device_works());
        assert_eq!(incompatible.is_none(), report.is_clean());
        // loaded it is padded where that helps the device, and OpenSSL reads it all the same
        let loaded = load_device_key(&der).expect("a key of 1024 bits");
        assert_eq!(incompatible.is_some(), loaded.is_padded());
        assert!(check(loaded.as_field()).device_works());
        assert!(
            Rsa::private_key_from_der(loaded.as_der())
                .is_ok_and(|key| key.check_key().is_ok_and(|good| good))
        );
        let [works, fails] = by_length.entry(der.len()).or_default();
        match incompatible {
            None => *works += 1,
            Some((number, length)) => {
                *fails += 1;
                assert!(length < if number == Number::D { 128 } else { 64 }, "{number} {length}");
                *by_number.entry(number.name()).or_default() += 1;
            }
        }
    }
    println!("misread by number: {by_number:?}");
    println!("works and misread by length: {by_length:?}");
    let misread: usize = by_number.values().sum();
    // d is below 2^1015 once in 370 times, each of the others below 2^503 once in 435: 24 of 2500; less than 6 or more than 64
    // is no chance
    assert!((6..=64).contains(&misread), "{misread} of {KEYS}");
    assert!(by_number.keys().all(|name| ["d", "dp", "dq", "qinv"].contains(name)), "{by_number:?}");
    assert!(by_length.keys().all(|length| (604..=611).contains(length)), "{by_length:?}");
    for (length, [works, fails]) in by_length {
        match length {
            // no usable key is that short, and none with a short number that long
            ..=606 => assert_eq!(works, 0, "{length}"),
            610.. => assert_eq!(fails, 0, "{length}"),
            _ => assert!(works > fails, "{length}"),
        }
    }
}

#[test]
fn our_generators_never_give_a_key_that_the_device_misreads() {
    let mut rng = ChaCha20Rng::seed_from_u64(99);
    for _ in 0..100 {
        for key in [
            generate::device_key(&mut rng).expect("a key"),
            openssl_backend::generate_device_key().expect("a key"),
        ] {
            let report = check(key.as_field());
            assert!(report.is_clean() && report.device_works());
            // and OpenSSL agrees that it is a key
            let theirs = Rsa::private_key_from_der(key.as_der()).expect("a key");
            assert!(theirs.check_key().expect("a check"));
            assert_eq!(theirs.private_key_to_der().expect("its DER"), key.as_der());
        }
    }
}
