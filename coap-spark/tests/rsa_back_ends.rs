//! The RSA operations of each back end against recorded values, Wycheproof's, and each other.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod common;

use coap_spark::handshake::server::AwaitIdentity;
use coap_spark::handshake::{Cause, Failure, RsaFailure, RsaPrivate, RsaPublic, Stage};
use coap_spark::session::{FrameError, Opener, SessionKeys};
use common::{array, bytes, rng, vector};
use core::time::Duration;
use rand_core::{TryCryptoRng, TryRng};
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use rsa::traits::PublicKeyParts;
use wycheproof::{TestResult, cipher, rsa_pkcs1_decrypt};

/// The same key in every back end.
struct Key {
    name: &'static str,
    private: Box<dyn RsaPrivate>,
    public: Box<dyn RsaPublic>,
}

fn keys(pkcs8: &[u8]) -> Vec<Key> {
    let key = rsa::RsaPrivateKey::from_pkcs8_der(pkcs8).unwrap();
    let public = key.to_public_key();
    vec![
        Key { name: "rsa", private: Box::new(key), public: Box::new(public) },
        #[cfg(feature = "openssl")]
        {
            let key = openssl::pkey::PKey::private_key_from_der(pkcs8).unwrap().rsa().unwrap();
            Key { name: "openssl", private: Box::new(key.clone()), public: Box::new(key) }
        },
    ]
}

fn recorded(file: &str) -> Vec<Key> {
    let path = format!("{}/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let pem = std::fs::read_to_string(path).unwrap();
    let key = rsa::RsaPrivateKey::from_pkcs1_pem(&pem)
        .or_else(|_| rsa::RsaPrivateKey::from_pkcs8_pem(&pem).map_err(|_| rsa::pkcs1::Error::Version))
        .unwrap();
    keys(key.to_pkcs8_der().unwrap().as_bytes())
}

fn decrypt(key: &Key, ciphertext: &[u8]) -> Result<Vec<u8>, RsaFailure> {
    let mut out = [0; 256];
    let len = key.private.decrypt(&mut rng(1), ciphertext, &mut out)?;
    Ok(out[..len].to_vec())
}

fn identify(key: &Key, nonce: [u8; 40], message: &[u8]) -> Result<([u8; 12], bool), Failure> {
    let mut waiting = AwaitIdentity::start(nonce, Duration::ZERO);
    assert_eq!(waiting.push(message), 256);
    let (waiting, job) = waiting.complete().unwrap();
    let identified = waiting.resume(job.run(&&*key.private, &mut rng(2)))?;
    Ok((identified.device_id().0, identified.offered_key().is_some()))
}

const REJECTED: Failure = Failure { stage: Stage::OpenIdentity, cause: Cause::Rejected };

#[test]
fn recorded_credentials_are_decrypted_and_ours_are_too() {
    let json = vector("pkcs1v15.json");
    let plaintext = bytes(&json["credentials"]["plaintext"]);
    let by_device =
        (&json["credentials"]["device_code_decrypt_rc"], &json["credentials"]["device_code_plaintext"]);
    assert!(*by_device.0 == 0 && bytes(by_device.1) == plaintext, "the device's own code");
    for key in recorded("device1024.pem") {
        let name = key.name;
        assert_eq!(
            decrypt(&key, &bytes(&json["credentials"]["ciphertext"])),
            Ok(plaintext.clone()),
            "{name}"
        );
        let mut ciphertext = [0; 128];
        key.public.encrypt(&mut rng(3), &plaintext, &mut ciphertext).unwrap();
        for other in recorded("device1024.pem") {
            assert_eq!(decrypt(&other, &ciphertext), Ok(plaintext.clone()), "{name} to {}", other.name);
        }
    }
}

#[test]
fn bare_signatures_are_made_and_checked_as_recorded_and_those_with_a_digest_info_are_refused() {
    let json = vector("pkcs1v15.json");
    let digest: [u8; 20] = array(&json["signature"]["hmac_sha1"]);
    let recorded_signature = bytes(&json["signature"]["signature"]);
    let with_digest_info = bytes(&json["signature_with_digestinfo_of_sha1"]["signature"]);
    // The device's code accepts the one and refuses the other, with what was padded here as there.
    assert_eq!(json["signature"]["device_code_verify_rc"], 0);
    assert_eq!(json["signature_with_digestinfo_of_sha1"]["device_code_verify_rc"], -1040);
    let encoded = [&[0, 1][..], &[0xFF; 233], &[0], &digest].concat();
    assert_eq!(bytes(&json["signature"]["encoded_message"]), encoded);
    #[cfg(feature = "openssl")]
    {
        let pem =
            std::fs::read(format!("{}/tests/vectors/server2048.pem", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let key = openssl::pkey::PKey::private_key_from_pem(&pem).unwrap().rsa().unwrap();
        let mut raw = [0; 256];
        key.public_decrypt(&recorded_signature, &mut raw, openssl::rsa::Padding::NONE).unwrap();
        assert_eq!(raw[..], encoded);
    }
    for key in recorded("server2048.pem") {
        let name = key.name;
        let mut signature = [0; 256];
        key.private.sign_bare(&mut rng(4), &digest, &mut signature).unwrap();
        assert_eq!(signature[..], recorded_signature, "{name}");
        assert_eq!(key.public.verify_bare(&digest, &recorded_signature), Ok(()), "{name}");
        assert_eq!(key.public.verify_bare(&digest, &with_digest_info), Err(RsaFailure::Failed), "{name}");
        for bit in 0..8 * 20 {
            let mut other = digest;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                key.public.verify_bare(&other, &recorded_signature),
                Err(RsaFailure::Failed),
                "{name}"
            );
        }
        for len in [0, 1, 128, 255] {
            assert!(key.public.verify_bare(&digest, &recorded_signature[..len]).is_err(), "{name} {len}");
        }
    }
}

#[test]
fn recorded_identities_are_opened() {
    let json = vector("pkcs1v15.json");
    let nonce = array(&json["hello52"]["nonce"]);
    let id = array(&json["hello52"]["device_id"]);
    for key in recorded("server2048.pem") {
        let open = |name: &str| identify(&key, nonce, &bytes(&json[name]["ciphertext"]));
        assert_eq!(open("hello52"), Ok((id, false)), "{}", key.name);
        assert_eq!(open("hello214"), Ok((id, true)), "{}", key.name);
    }
}

/// What the device's code answers to a decrypted block: it looks for 00 02 and a 00 somewhere behind, and at the length.
fn device_code(block: &[u8]) -> i64 {
    match block {
        [0, 2, rest @ ..] => match rest.iter().position(|byte| *byte == 0) {
            Some(end) if rest.len() - end - 1 > 40 => -1136,
            Some(_) => 0,
            None => -1040,
        },
        _ => -1040,
    }
}

#[test]
fn no_recorded_bad_padding_gives_40_session_bytes() {
    let json = vector("pkcs1v15.json");
    let cases = json["bad_padding"].as_array().unwrap();
    assert_eq!(cases.len(), 7);
    for key in recorded("device1024.pem") {
        for case in cases {
            let name = case["case"].as_str().unwrap();
            let result = decrypt(&key, &bytes(&case["ciphertext"]));
            assert_ne!(result.as_ref().map_or(0, Vec::len), 40, "{} {name}", key.name);
            let by_device = case["device_code_decrypt_rc"].as_i64().unwrap();
            assert_eq!(by_device, device_code(&bytes(&case["block"])), "{name}");
            if by_device == 0 {
                // What the device's code takes with stale bytes behind it is known here by its length.
                assert!(result.as_ref().is_ok_and(|message| message.len() < 40), "{} {name}", key.name);
            }
            let by_openssl = case["OpenSSL_3.0.19_27_Jan_2026"].as_str().unwrap();
            if let Some(message) = by_openssl.strip_prefix("plaintext ") {
                assert_eq!(result, Ok(hex::decode(message).unwrap()), "{} {name}", key.name);
            } else if key.name == "openssl" {
                assert_eq!(result, Ok(Vec::new()), "{name}");
            } else {
                // Implicit rejection: synthetic bytes, the same each time.
                assert_eq!(result, decrypt(&key, &bytes(&case["ciphertext"])), "{name}");
            }
        }
    }
}

/// Counts what is drawn, to tell one way through the code from another.
struct Counting<R> {
    rng: R,
    drawn: usize,
}

impl<R: TryRng> TryRng for Counting<R> {
    type Error = R::Error;

    fn try_next_u32(&mut self) -> Result<u32, R::Error> {
        self.drawn += 4;
        self.rng.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, R::Error> {
        self.drawn += 8;
        self.rng.try_next_u64()
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), R::Error> {
        self.drawn += out.len();
        self.rng.try_fill_bytes(out)
    }
}

impl<R: TryCryptoRng> TryCryptoRng for Counting<R> {}

/// Anyone can see without the key whether a ciphertext has the right length and is below the modulus.
fn is_block(ciphertext: &[u8], modulus: &[u8]) -> bool {
    ciphertext.len() == modulus.len() && ciphertext < modulus
}

#[test]
fn wycheproof_messages_are_decrypted_and_all_bad_ones_look_alike() {
    let set = rsa_pkcs1_decrypt::TestSet::load(rsa_pkcs1_decrypt::TestName::Rsa2048).unwrap();
    let (mut good, mut bad) = (0, 0);
    for group in &set.test_groups {
        let modulus = rsa::RsaPrivateKey::from_pkcs8_der(&group.pkcs8).unwrap().n_bytes();
        for key in keys(&group.pkcs8) {
            for test in &group.tests {
                let name = format!("{} {}: {}", key.name, test.tc_id, test.comment);
                let result = decrypt(&key, &test.ct);
                match test.result {
                    TestResult::Invalid => {
                        bad += 1;
                        match result {
                            // Implicit rejection: synthetic bytes. Otherwise nothing.
                            Ok(message) if key.name == "rsa" => assert_ne!(message, *test.pt, "{name}"),
                            Ok(message) => assert!(message.is_empty(), "{name}"),
                            Err(error) => assert!(!is_block(&test.ct, &modulus), "{name}: {error}"),
                        }
                    }
                    _ => {
                        good += 1;
                        assert_eq!(result, Ok(test.pt.to_vec()), "{name}");
                    }
                }
                // None of them is an identity. Good padding around another message looks like bad padding.
                if test.ct.len() == 256 {
                    assert_eq!(identify(&key, [7; 40], &test.ct), Err(REJECTED), "{name}");
                }
                if is_block(&test.ct, &modulus) {
                    let mut counting = Counting { rng: rng(5), drawn: 0 };
                    let mut out = [0; 256];
                    let _ = key.private.decrypt(&mut counting, &test.ct, &mut out);
                    let blinding = if key.name == "rsa" { 256 } else { 0 };
                    assert_eq!(counting.drawn, blinding, "{name}");
                }
            }
        }
    }
    let back_ends = 1 + usize::from(cfg!(feature = "openssl"));
    assert_eq!((good % back_ends, bad % back_ends), (0, 0));
    assert!(good / back_ends > 20 && bad / back_ends > 20, "{good} good, {bad} bad");
}

#[test]
fn wycheproof_cbc_messages_are_opened_and_bad_padding_is_one_error() {
    let set = cipher::TestSet::load(cipher::TestName::AesCbcPkcs5).unwrap();
    let (mut good, mut bad) = (0, 0);
    for test in set.test_groups.iter().filter(|group| group.key_size == 128).flat_map(|group| &group.tests) {
        let mut session = [0; SessionKeys::LEN];
        session[..16].copy_from_slice(&test.key);
        session[16..32].copy_from_slice(&test.nonce);
        let mut body = test.ct.to_vec();
        let opened = Opener::new(&SessionKeys::new(session)).open_in_place(&mut body);
        let name = format!("{}: {}", test.tc_id, test.comment);
        if test.result == TestResult::Invalid {
            bad += 1;
            let expected = if test.ct.is_empty() || test.ct.len() % 16 != 0 {
                FrameError::Length { found: test.ct.len(), limit: 65520 }
            } else {
                FrameError::Corrupt
            };
            assert_eq!(opened, Err(expected), "{name}");
        } else {
            good += 1;
            assert_eq!(opened.map(|len| &body[..len]), Ok(&test.pt[..]), "{name}");
        }
    }
    assert!(good > 20 && bad > 20, "{good} good, {bad} bad");
}

#[test]
fn sizes_that_do_not_fit_are_refused_alike() {
    for key in recorded("server2048.pem") {
        let mut out = [0; 256];
        let mut random = rng(6);
        let size = Err(RsaFailure::Size);
        assert_eq!(key.public.encrypt(&mut random, &[1; 246], &mut out), size, "{}", key.name);
        assert_eq!(key.public.encrypt(&mut random, &[1; 40], &mut out[..255]), size, "{}", key.name);
        assert_eq!(key.private.sign_bare(&mut random, &[1; 20], &mut out[..255]), size, "{}", key.name);
        assert!(key.private.decrypt(&mut random, &[1; 255], &mut out).is_err(), "{}", key.name);
        assert!(key.private.decrypt(&mut random, &[1; 257], &mut out).is_err(), "{}", key.name);
        assert!(key.public.encrypt(&mut random, &[1; 245], &mut out).is_ok(), "{}", key.name);
    }
}
