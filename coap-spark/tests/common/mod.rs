//! Recorded keys and randomness, shared by the tests.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    reason = "each test file uses its part of it"
)]

use num_bigint::BigUint;
use rand_chacha::ChaCha8Rng;
use rand_core::{SeedableRng, TryCryptoRng, TryRng};
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use rsa::{RsaPrivateKey, RsaPublicKey};
use serde_json::Value;
use std::collections::VecDeque;

pub fn vector(name: &str) -> Value {
    let path = format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

pub fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

pub struct Keys {
    pub server: RsaPrivateKey,
    pub server_public: RsaPublicKey,
    pub device: RsaPrivateKey,
    pub device_public: RsaPublicKey,
    pub device_spki: [u8; 162],
}

impl Keys {
    pub fn recorded() -> Self {
        let json = vector("keys.json");
        let pem = |name: &str| RsaPrivateKey::from_pkcs1_pem(json[name].as_str().unwrap()).unwrap();
        let (server, device) = (pem("server_private_pem"), pem("device_private_pem"));
        Self {
            server_public: server.to_public_key(),
            device_public: device.to_public_key(),
            device_spki: array(&json["device_public_spki_der_hex"]),
            server,
            device,
        }
    }
}

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// The non-zero padding bytes inside a recorded PKCS#1 v1.5 block, in order to make the same block again.
pub fn recorded_padding(key: &RsaPrivateKey, ciphertext: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8]| BigUint::from_bytes_be(bytes);
    let (n, d) = (number(&key.n_bytes()), number(&key.d().to_be_bytes()));
    let block = number(ciphertext).modpow(&d, &n).to_bytes_be();
    // The leading 00 is gone: 02, padding, 00, message.
    assert_eq!(block[0], 2);
    block[1..].iter().copied().take_while(|&byte| byte != 0).collect()
}

/// Recorded bytes first, then a seeded generator (for blinding).
pub struct Replayed {
    recorded: VecDeque<u8>,
    then: ChaCha8Rng,
}

impl Replayed {
    pub fn new(recorded: Vec<u8>) -> Self {
        Self { recorded: recorded.into(), then: rng(0) }
    }
}

impl TryRng for Replayed {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        for byte in out {
            match self.recorded.pop_front() {
                Some(recorded) => *byte = recorded,
                None => self.then.try_fill_bytes(core::slice::from_mut(byte))?,
            }
        }
        Ok(())
    }
}

impl TryCryptoRng for Replayed {}
