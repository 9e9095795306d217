//! AES-128 on eight blocks at once, each under a key of its own.
//!
//! The `aes` crate encrypts blocks in parallel under one key; for eight sessions it offers the round function only. The
//! key expansion and the last round, which has no MixColumns, are put together from it here; all of it takes the same
//! time whatever the keys and blocks are.
//!
//! # Source
//! FIPS 197, sections 5.1 and 5.2.

use super::cipher::BLOCK;
use aes::hazmat::{Block8, cipher_round_par, inv_mix_columns};
use zeroize::Zeroize;

const ROUNDS: usize = 10;
const ROUND_CONSTANTS: [u8; ROUNDS] = [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x1b, 0x36];

/// Expanded keys of eight lanes.
pub(super) struct EightKeys {
    rounds: [Block8; ROUNDS + 1],
}

impl Drop for EightKeys {
    fn drop(&mut self) {
        self.rounds.iter_mut().flatten().for_each(|key| key.0.zeroize());
    }
}

impl EightKeys {
    pub(super) fn new(keys: [&[u8; BLOCK]; 8]) -> Self {
        let mut rounds: [Block8; ROUNDS + 1] = Default::default();
        let mut previous = Block8::from_fn(|lane| keys.get(lane).map(|key| **key).unwrap_or_default().into());
        for (round, constant) in rounds.iter_mut().zip([0].into_iter().chain(ROUND_CONSTANTS)) {
            if constant != 0 {
                next_round_key(&mut previous, constant);
            }
            *round = previous;
        }
        // The last round key leads back to the first.
        previous.iter_mut().for_each(|key| key.0.zeroize());
        Self { rounds }
    }

    /// Encrypts a block of each lane.
    #[inline]
    pub(super) fn encrypt(&self, blocks: &mut Block8) {
        let [whitening, middle @ .., last] = &self.rounds;
        xor(blocks, whitening);
        for round_keys in middle {
            cipher_round_par(blocks, round_keys);
        }
        cipher_round_par(blocks, &Block8::default());
        blocks.iter_mut().for_each(inv_mix_columns);
        xor(blocks, last);
    }
}

/// One step of the key expansion in all lanes.
fn next_round_key(keys: &mut Block8, constant: u8) {
    // A column in all four places: ShiftRows changes nothing, and without MixColumns SubWord is left.
    let mut words = Block8::from_fn(|lane| {
        let key = keys.get(lane).map(|key| key.0).unwrap_or_default();
        let rotated = [key[13], key[14], key[15], key[12]];
        core::array::from_fn(|i| rotated[i % 4]).into()
    });
    cipher_round_par(&mut words, &Block8::default());
    words.iter_mut().for_each(inv_mix_columns);
    for (key, word) in keys.iter_mut().zip(&mut words) {
        word[0] ^= constant;
        let mut column = [word[0], word[1], word[2], word[3]];
        for old in key.0.as_chunks_mut::<4>().0 {
            for (byte, before) in old.iter_mut().zip(&mut column) {
                *byte ^= *before;
                *before = *byte;
            }
        }
        word.0.zeroize();
    }
}

#[inline]
fn xor(blocks: &mut Block8, others: &Block8) {
    for (block, other) in blocks.iter_mut().zip(others) {
        block.0 = (u128::from_ne_bytes(block.0) ^ u128::from_ne_bytes(other.0)).to_ne_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aes::Aes128;
    use aes::cipher::{BlockCipherEncrypt, KeyInit};
    use hex_literal::hex;

    #[test]
    fn the_standard_s_example_and_the_aes_crate_agree() {
        let example = (
            hex!("000102030405060708090a0b0c0d0e0f"),
            hex!("00112233445566778899aabbccddeeff"),
            hex!("69c4e0d86a7b0430d8cdb78070b4c55a"),
        );
        let keys: [[u8; 16]; 8] = core::array::from_fn(|lane| {
            example.0.map(|byte| byte.wrapping_mul(u8::try_from(lane + 1).unwrap()))
        });
        let eight = EightKeys::new(keys.each_ref());
        let mut blocks = Block8::from_fn(|lane| {
            example.1.map(|byte| byte.rotate_left(u32::try_from(lane).unwrap())).into()
        });
        for _ in 0..100 {
            let mut expected = blocks;
            for (block, key) in expected.iter_mut().zip(keys) {
                Aes128::new(&key.into()).encrypt_block(block);
            }
            eight.encrypt(&mut blocks);
            assert_eq!(blocks, expected);
        }
        let mut first = Block8::from_fn(|_| example.1.into());
        eight.encrypt(&mut first);
        assert_eq!(first[0].0, example.2);
    }
}
