//! Sealing and opening frames.

use super::framing::{FrameError, LENGTH_PREFIX};
use super::keys::SessionKeys;
use aes::cipher::{Array, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit};
use aes::{Aes128Dec, Aes128Enc};
use core::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

pub(super) const BLOCK: usize = 16;
/// The longest message: its frame's length is the largest multiple of 16 that the prefix can express, less one byte.
const MAX_PLAIN: usize = 65_519;

pub(super) type Block16 = aes::Block;

/// Why a message could not be sealed. Nothing was written and the IV did not move.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The frame does not fit the output.
    #[error("frame needs {needed} bytes, the buffer has {available}")]
    BufferTooSmall {
        /// Length of the frame with its prefix.
        needed: usize,
        /// Length of the buffer.
        available: usize,
    },
    /// The ciphertext is longer than 65,520 bytes, which the prefix cannot express.
    #[error("message of {len} bytes is longer than a frame can carry, 65519")]
    TooLong {
        /// Length of the message.
        len: usize,
    },
}

/// Length on the wire of a message of `plain` bytes: prefix, message, 1 to 16 bytes of padding.
#[must_use]
pub const fn sealed_len(plain: usize) -> usize {
    (plain / BLOCK).saturating_add(1).saturating_mul(BLOCK).saturating_add(LENGTH_PREFIX)
}

/// The sending half of a session.
pub struct Sealer {
    pub(super) aes: Aes128Enc,
    pub(super) key: [u8; BLOCK],
    pub(super) iv: [u8; BLOCK],
}

impl Sealer {
    /// The sending half at the start of a session. Server and device start alike.
    #[must_use]
    pub fn new(keys: &SessionKeys) -> Self {
        Self::resumed(&keys.key(), keys.iv())
    }

    pub(super) fn resumed(key: &[u8; BLOCK], iv: [u8; BLOCK]) -> Self {
        Self { aes: Aes128Enc::new(key.into()), key: *key, iv }
    }

    /// Encrypts one message into `out` and returns the frame, prefix included.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal<'o>(&mut self, message: &[u8], out: &'o mut [u8]) -> Result<&'o [u8], SealError> {
        check(out.len(), message.len())?;
        if let Some(plain) = out.get_mut(LENGTH_PREFIX..LENGTH_PREFIX + message.len()) {
            plain.copy_from_slice(message);
        }
        self.seal_in_place(out, message.len())
    }

    /// As [`Sealer::seal`], with the message already at `frame[2..2 + len]`.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal_in_place<'o>(&mut self, frame: &'o mut [u8], len: usize) -> Result<&'o [u8], SealError> {
        check(frame.len(), len)?;
        let mut cbc = cbc::Encryptor::<&Aes128Enc>::inner_iv_init(&self.aes, &Array(self.iv));
        let blocks = lay_out(frame, len).unwrap_or_default();
        cbc.encrypt_blocks(blocks);
        if let Some(first) = blocks.first() {
            self.iv = first.0;
        }
        Ok(frame.get(..sealed_len(len)).unwrap_or_default())
    }
}

/// A buffer of `available` bytes takes the frame of a message of `len` bytes.
pub(super) fn check(available: usize, len: usize) -> Result<(), SealError> {
    if len > MAX_PLAIN {
        return Err(SealError::TooLong { len });
    }
    let needed = sealed_len(len);
    if available < needed { Err(SealError::BufferTooSmall { needed, available }) } else { Ok(()) }
}

/// Writes prefix and padding around the message at `frame[2..2 + len]`, which was checked, and gives the blocks to
/// encrypt.
pub(super) fn lay_out(frame: &mut [u8], len: usize) -> Option<&mut [Block16]> {
    let frame = frame.get_mut(..sealed_len(len))?;
    let (prefix, body) = frame.split_first_chunk_mut::<LENGTH_PREFIX>()?;
    *prefix = u16::try_from(body.len()).ok()?.to_be_bytes();
    let padding = body.get_mut(len..)?;
    // 1..=16, so it fits.
    padding.fill(u8::try_from(padding.len()).ok()?);
    Some(Block16::slice_as_chunks_mut(body).0)
}

/// The receiving half of a session.
pub struct Opener {
    aes: Aes128Dec,
    pub(super) iv: [u8; BLOCK],
}

impl Opener {
    /// The receiving half at the start of a session.
    #[must_use]
    pub fn new(keys: &SessionKeys) -> Self {
        Self::resumed(&keys.key(), keys.iv())
    }

    pub(super) fn resumed(key: &[u8; BLOCK], iv: [u8; BLOCK]) -> Self {
        Self { aes: Aes128Dec::new(key.into()), iv }
    }

    /// Decrypts the ciphertext of one frame in place and returns the length of the message.
    ///
    /// The padding is checked in constant time: 1 to 16 equal bytes.
    ///
    /// # Errors
    /// [`FrameError`]; the session cannot go on.
    pub fn open_in_place(&mut self, body: &mut [u8]) -> Result<usize, FrameError> {
        let found = body.len();
        let length = FrameError::Length { found, limit: usize::from(u16::MAX) / BLOCK * BLOCK };
        let (blocks, rest) = Block16::slice_as_chunks_mut(body);
        if !rest.is_empty() {
            return Err(length);
        }
        let next = blocks.first().ok_or(length)?.0;
        let mut cbc = cbc::Decryptor::<&Aes128Dec>::inner_iv_init(&self.aes, &Array(self.iv));
        cbc.decrypt_blocks(blocks);
        self.iv = next;
        let last = blocks.last().map(|block| block.0).ok_or(length)?;
        match padding_len(&last) {
            Some(pad) => Ok(found - pad),
            None => {
                body.zeroize();
                Err(FrameError::Corrupt)
            }
        }
    }
}

/// PKCS#7: all of the last `pad` bytes say `pad`. Every byte is looked at in the same way; what is wrong shows at the end.
fn padding_len(last: &[u8; BLOCK]) -> Option<usize> {
    let pad = last[BLOCK - 1];
    // All ones for a byte of the padding: the high byte of a negative number.
    let masks: [u8; BLOCK] = core::array::from_fn(|at| {
        let from_end = u16::try_from(BLOCK - at).unwrap_or_default();
        let [_, mask] = from_end.wrapping_sub(u16::from(pad) + 1).to_le_bytes();
        mask
    });
    // Without this the compiler turns the masks back into branches (seen on x86-64).
    let masks = core::hint::black_box(masks);
    let wrong = last.iter().zip(masks).fold(0, |wrong, (byte, mask)| wrong | mask & (byte ^ pad));
    // 1 to 16, less one, has no high bits.
    let wrong = wrong | pad.wrapping_sub(1) & 0xf0;
    bool::from(wrong.ct_eq(&0)).then_some(usize::from(pad))
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(secret)")
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        self.key.zeroize();
        self.iv.zeroize();
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener(secret)")
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        self.iv.zeroize();
    }
}
