//! What the server does with a decrypted identity block, for an instruction counter to look at.
//!
//! `same-path KIND` puts one kind of block through [`judge`]: removing the padding, comparing the nonce, deciding. The RSA
//! operation before it is left out; it is the back end's, and blinded.

use coap_spark::handshake::server::{AwaitDecryption, AwaitIdentity, DecryptJob};
use coap_spark::handshake::{Cause, Failure, RsaFailure, RsaPrivate, unpad};
use core::time::Duration;
use rand_chacha::ChaCha8Rng;
use rand_core::{CryptoRng, SeedableRng};
use std::process::ExitCode;

/// A key for which ciphertext and plaintext are the same.
struct NoKey;

impl RsaPrivate for NoKey {
    fn decrypt(&self, _: &mut dyn CryptoRng, ciphertext: &[u8], out: &mut [u8]) -> Result<usize, RsaFailure> {
        out.copy_from_slice(ciphertext);
        Ok(unpad(out))
    }

    fn sign_bare(&self, _: &mut dyn CryptoRng, _: &[u8; 20], _: &mut [u8]) -> Result<(), RsaFailure> {
        Err(RsaFailure::Failed)
    }
}

const NONCE: [u8; 40] = [7; 40];

/// An identity of `len` bytes in a type 2 block.
fn block(len: usize) -> [u8; 256] {
    let mut block = [0xA5; 256];
    block[..2].copy_from_slice(&[0, 2]);
    let start = 256 - len;
    block[start - 1] = 0;
    block[start..].fill(9);
    let nonce = len.min(40);
    block[start..start + nonce].copy_from_slice(&NONCE[..nonce]);
    block
}

fn damaged(len: usize, at: usize, byte: u8) -> [u8; 256] {
    let mut block = block(len);
    block[at] = byte;
    block
}

/// The kinds, and which of them are an identity.
fn kinds() -> Vec<(&'static str, [u8; 256], bool)> {
    vec![
        ("good-52", block(52), true),
        ("good-214", block(214), true),
        ("first-byte", damaged(52, 0, 1), false),
        ("type-1", damaged(52, 1, 1), false),
        ("short-padding", damaged(52, 9, 0), false),
        ("no-padding", damaged(52, 2, 0), false),
        ("no-separator", damaged(0, 255, 9), false),
        ("empty", block(0), false),
        ("shorter", block(51), false),
        ("longer", block(53), false),
        ("longest", block(245), false),
        ("another-nonce", damaged(52, 204, 8), false),
        ("another-nonce-end", damaged(52, 204 + 39, 8), false),
        ("another-nonce-with-key", damaged(214, 42, 8), false),
    ]
}

/// The measured part.
#[inline(never)]
fn judge(waiting: AwaitDecryption, job: DecryptJob, rng: &mut ChaCha8Rng) -> Result<bool, Failure> {
    waiting.resume(job.run(&NoKey, rng)).map(|identified| identified.offered_key().is_some())
}

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1);
    let Some(wanted) = wanted else {
        for (name, _, good) in kinds() {
            println!("{name} {}", if good { "good" } else { "bad" });
        }
        return ExitCode::SUCCESS;
    };
    let kinds = kinds();
    let Some((_, block, good)) = kinds.iter().find(|(name, ..)| *name == wanted) else {
        eprintln!("no kind {wanted}");
        return ExitCode::from(64);
    };
    let mut waiting = AwaitIdentity::start(NONCE, Duration::ZERO);
    waiting.push(block);
    let Ok((waiting, job)) = waiting.complete() else { return ExitCode::FAILURE };
    let result = judge(waiting, job, &mut ChaCha8Rng::seed_from_u64(1));
    let expected = match result {
        Ok(_) => *good,
        Err(failure) => !good && failure.cause == Cause::Rejected,
    };
    if expected { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
