//! Generation and conversion with the `rsa` crate.
#![cfg(feature = "rsa")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use spark_keys::rsa_backend::rsa::traits::PublicKeyParts;
use spark_keys::rsa_backend::*;
use spark_keys::*;

fn vector(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn generated_device_keys_work_on_the_device() {
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    for _ in 0..8 {
        let key = generate_device_key(&mut rng).unwrap();
        let report = check(key.as_field());
        assert!(report.is_clean() && report.device_works());
        assert_eq!(report.fingerprint(), Some(key.fingerprint()));
    }
}

#[test]
fn device_generated_keys_are_converted_although_the_rsa_crate_refuses_their_der() {
    for file in ["devgen_v040.bin", "devgen_v050.bin", "rsa1024_607.der", "rsa1024_607_short_d.der"] {
        let bytes = vector(file);
        let view = RsaPrivateKeyView::parse(&bytes).unwrap();
        let key = to_rsa_private(&view).unwrap();
        let mut canonical = [0; 700];
        assert_eq!(to_pkcs1(&key).unwrap()[..], *view.encode_into(&mut canonical).unwrap(), "{file}");
        assert_eq!(device_spki(key.as_public_key()).unwrap(), published_by_device(&bytes));
    }
}

#[test]
fn damaged_numbers_are_refused() {
    for file in ["bad_modulus_bit.der", "bad_p_bit.der", "bad_d_bit.der"] {
        let bytes = vector(file);
        let view = RsaPrivateKeyView::parse(&bytes).unwrap();
        assert_eq!(to_rsa_private(&view).unwrap_err(), RsaError::Refused, "{file}");
    }
}

#[test]
fn server_key_is_read_and_written_as_openssl_does() {
    let key = load_server_key(&vector("server2048.pem")).unwrap();
    assert_eq!(server_spki(key.as_public_key()).unwrap()[..], vector("server2048.spki.der"));
    assert_eq!(to_pkcs1(&key).unwrap()[..], vector("server2048.pkcs1.der"));
    let text = private_key_pem(&key).unwrap();
    assert_eq!(load_server_key(text.as_bytes()).unwrap(), key);
    assert_eq!(load_server_key(&vector("server2048.pkcs1.der")).unwrap(), key);
    assert_eq!(load_server_key(&vector("rsa1024_608.pkcs1.pem")).unwrap_err(), RsaError::Refused);
}

#[test]
fn generated_server_key_has_2048_bits() {
    let key = generate_server_key(&mut ChaCha20Rng::seed_from_u64(3)).unwrap();
    assert_eq!(key.n().bits(), 2048);
    assert!(
        RsaPublicKeyView::parse_spki_strict(&server_spki(key.as_public_key()).unwrap())
            .unwrap()
            .is_server_key()
    );
}

#[test]
fn public_keys_are_converted_both_ways() {
    for file in ["rsa1024_608.spki.der", "server2048.spki.der"] {
        let bytes = vector(file);
        let key = to_rsa_public(&RsaPublicKeyView::parse_spki(&bytes).unwrap()).unwrap();
        let back = match bytes.len() {
            162 => device_spki(&key).unwrap().to_vec(),
            _ => server_spki(&key).unwrap().to_vec(),
        };
        assert_eq!(back, bytes);
    }
}

#[test]
fn the_back_end_takes_what_its_crate_took_and_what_that_refused_for_its_der_alone() {
    let json: serde_json::Value = serde_json::from_slice(&vector("keys.json")).unwrap();
    let mut lenient = 0;
    for case in json["private_keys"].as_array().unwrap() {
        let file = case["file"].as_str().unwrap();
        let bytes = vector(file);
        let Ok(view) = RsaPrivateKeyView::parse(&bytes) else {
            assert!(case["rust_rsa0.10rc"] != "ok", "{file}");
            continue;
        };
        let taken = to_rsa_private(&view).is_ok();
        match case["rust_rsa0.10rc"].as_str().unwrap() {
            "ok" => assert!(taken, "{file}"),
            refused if refused.contains("KeyMalformed") => assert!(!taken, "{file}"),
            // padding behind the key, needless zeros in its numbers
            _ => {
                assert!(taken, "{file}");
                lenient += 1;
            }
        }
    }
    assert!(lenient > 3, "{lenient}");
}
