//! Generated keys are keys that devices can use.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use core::convert::Infallible;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{SeedableRng, TryCryptoRng, TryRng};
use spark_keys::private_key::Number;
use spark_keys::{EcDeviceKey, RsaPrivateKeyView, check, check_ec, generate};

#[test]
fn generated_device_keys_are_clean_and_differ() {
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    let mut seen = Vec::new();
    for _ in 0..12 {
        let key = generate::device_key(&mut rng).unwrap();
        let report = check(key.as_field());
        assert!(report.is_clean() && report.device_works());
        let view = RsaPrivateKeyView::parse(key.as_der()).unwrap();
        assert!(view.is_minimal() && view.device_incompatible().is_none());
        assert_eq!(view.number(Number::E).magnitude(), [1, 0, 1]);
        assert!(view.number(Number::P).magnitude() > view.number(Number::Q).magnitude());
        seen.push(key.fingerprint().to_string());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 12);
}

#[test]
fn generated_ec_keys_are_clean_and_differ() {
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    let (a, b) = (EcDeviceKey::generate(&mut rng), EcDeviceKey::generate(&mut rng));
    assert!(check_ec(a.as_field()).is_clean() && check_ec(b.as_field()).is_clean());
    assert_ne!(a.fingerprint(), b.fingerprint());
}

#[test]
fn the_same_seed_gives_the_same_key() {
    let key = || generate::device_key(&mut ChaCha20Rng::seed_from_u64(5)).unwrap().fingerprint();
    assert_eq!(key(), key());
}

/// Always the same bytes.
struct Stuck;

impl TryRng for Stuck {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(0x5555_5555)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(0x5555_5555_5555_5555)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        out.fill(0x55);
        Ok(())
    }
}

impl TryCryptoRng for Stuck {}

#[test]
fn a_stuck_source_of_randomness_is_an_error() {
    assert!(generate::device_key(&mut Stuck).is_err());
}
