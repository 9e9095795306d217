//! Generation and conversion with OpenSSL.
#![cfg(feature = "openssl")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use spark_keys::openssl_backend::openssl::ec::EcGroup;
use spark_keys::openssl_backend::openssl::nid::Nid;
use spark_keys::openssl_backend::openssl::rsa::{Padding, Rsa};
use spark_keys::openssl_backend::*;
use spark_keys::*;

fn vector(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn generated_keys_work_on_the_device() {
    for _ in 0..8 {
        let key = generate_device_key().unwrap();
        assert!(check(key.as_field()).is_clean());
        let key = generate_ec_device_key().unwrap();
        assert!(check_ec(key.as_field()).is_clean());
    }
    let server = generate_server_key().unwrap();
    let spki = server_spki(&server).unwrap();
    assert!(RsaPublicKeyView::parse_spki_strict(&spki).unwrap().is_server_key());
    assert_eq!(device_spki(&server).unwrap_err(), OpensslError::Refused);
}

#[test]
fn keys_are_converted_with_the_numbers_that_they_hold() {
    for file in ["devgen_v040.bin", "devgen_v050.bin", "rsa1024_607.der", "rsa1024_607_short_d.der"] {
        let bytes = vector(file);
        let view = RsaPrivateKeyView::parse(&bytes).unwrap();
        let key = to_rsa_private(&view).unwrap();
        assert!(key.check_key().unwrap());
        let mut canonical = [0; 700];
        assert_eq!(to_pkcs1(&key).unwrap()[..], *view.encode_into(&mut canonical).unwrap(), "{file}");
        assert_eq!(device_spki(&key).unwrap(), published_by_device(&bytes));
        let device = device_key(&key).unwrap();
        assert!(check(device.as_field()).device_works(), "{file}");
        assert_eq!(device.is_padded(), file == "rsa1024_607_short_d.der", "{file}");
        // encrypted with the public half, decrypted with the private one
        let public = to_rsa_public(&view.public_key()).unwrap();
        let (mut sent, mut received) = ([0; 128], [0; 128]);
        public.public_encrypt(&[7; 40], &mut sent, Padding::PKCS1).unwrap();
        assert_eq!(key.private_decrypt(&sent, &mut received, Padding::PKCS1).unwrap(), 40);
        assert_eq!(received[..40], [7; 40]);
    }
}

#[test]
fn damaged_numbers_are_refused() {
    for file in ["bad_modulus_bit.der", "bad_p_bit.der", "bad_d_bit.der", "made_of_composites.der"] {
        let bytes = vector(file);
        let view = RsaPrivateKeyView::parse(&bytes).unwrap();
        assert_eq!(to_rsa_private(&view).unwrap_err(), OpensslError::Refused, "{file}");
    }
}

#[test]
fn server_keys_are_read_and_written() {
    let key = load_server_key(&vector("server2048.pem")).unwrap();
    assert_eq!(server_spki(&key).unwrap()[..], vector("server2048.spki.der"));
    assert_eq!(to_pkcs1(&key).unwrap()[..], vector("server2048.pkcs1.der"));
    let text = private_key_pem(&key).unwrap();
    assert_eq!(to_pkcs1(&load_server_key(&text).unwrap()).unwrap(), to_pkcs1(&key).unwrap());
    for file in ["rsa1024_608.pkcs1.pem", "ec_p256.pem", "server2048.spki.pem"] {
        assert_eq!(load_server_key(&vector(file)).unwrap_err(), OpensslError::Refused, "{file}");
    }
    assert!(matches!(load_server_key(b"nothing"), Err(OpensslError::Load(_))));
}

#[test]
fn ec_keys_are_converted_both_ways() {
    let key = load_ec_device_key(&vector("ec_p256.pem")).unwrap();
    let private = to_ec_private(&key).unwrap();
    assert_eq!(ec_device_key(&private).unwrap().as_der(), key.as_der());
    assert_eq!(private.private_key_to_der().unwrap(), key.as_der());
    let spki = vector("ec_p256.spki.der");
    let public = to_ec_public(&EcPublicKeyView::parse_spki(&spki).unwrap()).unwrap();
    assert_eq!(public.public_key_to_der().unwrap(), spki);
    let other = EcGroup::from_curve_name(Nid::SECP256K1).unwrap();
    let other = openssl::ec::EcKey::generate(&other).unwrap();
    assert_eq!(ec_device_key(&other).unwrap_err(), OpensslError::Refused);
}

#[test]
fn an_rsa_2048_key_is_no_device_key() {
    let key = Rsa::generate(2048).unwrap();
    assert!(matches!(device_key(&key), Err(OpensslError::Load(LoadError::Device(_)))));
}
