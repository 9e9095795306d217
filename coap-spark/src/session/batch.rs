//! Sealing many frames side by side.
//!
//! CBC runs through a frame block by block, each waiting for the one before, so that a processor with AES instructions
//! is idle most of the time. The next frame's IV is the *first* ciphertext block of this one, though, not the last:
//! once the first blocks are known, all frames of a session can run at once, a block of each at a time. Frames of
//! different sessions do not depend on each other in the first place.

use super::cipher::{BLOCK, Block16, SealError, Sealer, lay_out, sealed_len};
use super::eight::EightKeys;
use super::framing::LENGTH_PREFIX;
use aes::cipher::consts::U16;
use aes::cipher::typenum::Unsigned;
use aes::cipher::{
    Array, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, ParBlocks,
};
use aes::hazmat::Block8;

/// Sessions that run side by side.
const LANES: usize = 8;
/// With fewer, one after the other is faster.
const ENOUGH_LANES: usize = 4;
/// So many blocks a session pay for expanding eight keys.
const ENOUGH_BLOCKS: usize = 8;
/// From as many frames on, those of one session run side by side; fewer run beside other sessions' frames.
const FRAMES: usize = 4;

/// A message to seal in place, as one of many.
///
/// ```
/// use coap_spark::session::{Sealer, SessionKeys, Unsealed, sealed_len};
///
/// let keys = SessionKeys::new([7; 40]);
/// let mut buffers = [[0; sealed_len(20)]; 3];
/// let mut frames = buffers.each_mut().map(|buffer| {
///     buffer[2..22].fill(0x42);
///     Unsealed { buffer, len: 20 }
/// });
/// Sealer::new(&keys).seal_batch(&mut frames)?;
///
/// let mut one_by_one = Sealer::new(&keys);
/// for frame in &frames {
///     assert_eq!(one_by_one.seal(&[0x42; 20], &mut [0; 64])?, frame.sealed());
/// }
/// # Ok::<(), coap_spark::session::SealError>(())
/// ```
pub struct Unsealed<'b> {
    /// At least [`sealed_len`] bytes; the message begins at the third.
    pub buffer: &'b mut [u8],
    /// Length of the message.
    pub len: usize,
}

impl core::fmt::Debug for Unsealed<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Unsealed").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Unsealed<'_> {
    /// The frame, prefix included, once it is sealed; nothing if it cannot be.
    #[must_use]
    pub fn sealed(&self) -> &[u8] {
        match self.check() {
            Ok(()) => self.buffer.get(..sealed_len(self.len)).unwrap_or_default(),
            Err(_) => &[],
        }
    }

    fn check(&self) -> Result<(), SealError> {
        super::cipher::check(self.buffer.len(), self.len)
    }

    /// Prefix and padding are written; the blocks of the message are what is left to do.
    fn lay_out(&mut self) -> &mut [Block16] {
        lay_out(self.buffer, self.len).unwrap_or_default()
    }
}

/// A session and its messages, in the order in which they will be sent.
#[derive(Debug)]
pub struct SessionBatch<'s, 'b> {
    /// The sending half.
    pub sealer: &'s mut Sealer,
    /// The messages.
    pub frames: &'s mut [Unsealed<'b>],
}

impl Sealer {
    /// Seals many messages of this session at once: the same bytes as [`Sealer::seal_in_place`] one after the other.
    ///
    /// # Errors
    /// [`SealError`] of the first message that cannot be sealed; then none was, and the IV did not move.
    pub fn seal_batch(&mut self, frames: &mut [Unsealed<'_>]) -> Result<(), SealError> {
        frames.iter().try_for_each(Unsealed::check)?;
        self.aes.encrypt_with_backend(Abreast { iv: &mut self.iv, frames });
        Ok(())
    }
}

/// Seals the messages of many sessions at once, whatever number each has.
///
/// # Errors
/// [`SealError`] of the first message that cannot be sealed; then none was, and no IV moved.
pub fn seal_batches(batches: &mut [SessionBatch<'_, '_>]) -> Result<(), SealError> {
    batches.iter().flat_map(|batch| batch.frames.iter()).try_for_each(Unsealed::check)?;
    let mut lanes = [const { None }; LANES];
    let mut used = 0;
    for SessionBatch { sealer, frames } in batches {
        if frames.len() >= FRAMES {
            sealer.aes.encrypt_with_backend(Abreast { iv: &mut sealer.iv, frames });
        } else if let Some(lane) = lanes.get_mut(used) {
            *lane = Some(Lane { sealer, frames: frames.iter_mut(), rest: &mut [], fresh: false });
            used += 1;
        }
        if used == LANES {
            run(core::mem::replace(&mut lanes, [const { None }; LANES]));
            used = 0;
        }
    }
    run(lanes);
    Ok(())
}

/// A session with few frames; they run one after the other, beside those of other sessions.
struct Lane<'s, 'b> {
    sealer: &'s mut Sealer,
    frames: core::slice::IterMut<'s, Unsealed<'b>>,
    /// What is left of the current frame.
    rest: &'s mut [Block16],
    /// The current frame's first block, the next frame's IV, is still to come.
    fresh: bool,
}

fn run(mut lanes: [Option<Lane<'_, '_>>; LANES]) {
    let sessions = lanes.iter().flatten().count();
    let blocks: usize = lanes
        .iter()
        .flatten()
        .flat_map(|lane| lane.frames.as_slice())
        .map(|frame| sealed_len(frame.len) / BLOCK)
        .sum();
    if sessions < ENOUGH_LANES || blocks < ENOUGH_BLOCKS * sessions {
        for lane in lanes.into_iter().flatten() {
            for frame in lane.frames {
                // It was checked.
                let _ = lane.sealer.seal_in_place(frame.buffer, frame.len);
            }
        }
        return;
    }
    let keys = lanes.each_ref().map(|lane| lane.as_ref().map_or(&[0; BLOCK], |lane| &lane.sealer.key));
    let keys = EightKeys::new(keys);
    let mut chains = Block8::default();
    loop {
        let mut steps = usize::MAX;
        for (lane, chain) in lanes.iter_mut().flatten().zip(chains.iter_mut()) {
            if lane.rest.is_empty()
                && let Some(frame) = lane.frames.next()
            {
                lane.rest = frame.lay_out();
                lane.fresh = true;
                chain.0 = lane.sealer.iv;
            }
            if !lane.rest.is_empty() {
                steps = steps.min(lane.rest.len());
            }
        }
        if steps == usize::MAX {
            return;
        }
        let mut runs: [&mut [Block16]; LANES] = Default::default();
        for (run, lane) in runs.iter_mut().zip(lanes.iter_mut().flatten()) {
            *run = lane.rest.get_mut(..steps).unwrap_or_default();
        }
        for step in 0..steps {
            for (run, chain) in runs.iter().zip(chains.iter_mut()) {
                if let Some(block) = run.get(step) {
                    xor(&mut chain.0, &block.0);
                }
            }
            keys.encrypt(&mut chains);
            for (run, chain) in runs.iter_mut().zip(&chains) {
                if let Some(block) = run.get_mut(step) {
                    *block = *chain;
                }
            }
        }
        for lane in lanes.iter_mut().flatten() {
            if core::mem::take(&mut lane.fresh)
                && let Some(first) = lane.rest.first()
            {
                lane.sealer.iv = first.0;
            }
            lane.rest = core::mem::take(&mut lane.rest).get_mut(steps..).unwrap_or_default();
        }
    }
}

/// Frames of one session, run abreast inside the back end of its key, so that nothing is looked up per block.
struct Abreast<'s, 'f, 'b> {
    iv: &'s mut [u8; BLOCK],
    frames: &'f mut [Unsealed<'b>],
}

impl BlockSizeUser for Abreast<'_, '_, '_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Abreast<'_, '_, '_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        // The chain of first blocks: the only part where a frame waits for the one before.
        for frame in self.frames.iter_mut() {
            if let Some(first) = frame.lay_out().first_mut() {
                xor(&mut first.0, self.iv);
                backend.encrypt_block_inplace(first);
                *self.iv = first.0;
            }
        }
        let mut waiting = self.frames.iter_mut().filter_map(|frame| {
            let body = frame.buffer.get_mut(LENGTH_PREFIX..sealed_len(frame.len))?;
            let (first, rest) = Array::slice_as_chunks_mut(body).0.split_first_mut()?;
            Some((*first, rest)).filter(|(_, rest)| !rest.is_empty())
        });
        let width = B::ParBlocksSize::USIZE;
        let mut chains = ParBlocks::<B>::default();
        let mut rests: Array<&mut [Block16], B::ParBlocksSize> = Array::default();
        let mut used = 0;
        loop {
            while let (Some(chain), Some(rest)) = (chains.get_mut(used), rests.get_mut(used))
                && let Some((first, blocks)) = waiting.next()
            {
                (*chain, *rest, used) = (first, blocks, used + 1);
            }
            let (Some(rests), Some(_)) = (rests.get_mut(..used), used.checked_sub(1)) else { return };
            let steps = rests.iter().map(|rest| rest.len()).min().unwrap_or(0);
            for step in 0..steps {
                for (chain, rest) in chains.iter_mut().zip(rests.iter()) {
                    if let Some(block) = rest.get(step) {
                        xor(&mut chain.0, &block.0);
                    }
                }
                if used == width {
                    backend.encrypt_par_blocks_inplace(&mut chains);
                } else {
                    // Independent of each other: the processor overlaps them by itself.
                    chains.iter_mut().take(used).for_each(|chain| backend.encrypt_block_inplace(chain));
                }
                for (chain, rest) in chains.iter().zip(rests.iter_mut()) {
                    if let Some(block) = rest.get_mut(step) {
                        *block = *chain;
                    }
                }
            }
            // Lanes that have ended are filled from behind.
            let mut lane = 0;
            while lane < used {
                let Some(rest) = rests.get_mut(lane) else { break };
                *rest = core::mem::take(rest).get_mut(steps..).unwrap_or_default();
                if rest.is_empty() {
                    used -= 1;
                    rests.swap(lane, used);
                    chains.swap(lane, used);
                } else {
                    lane += 1;
                }
            }
        }
    }
}

#[inline(always)]
fn xor(a: &mut [u8; BLOCK], b: &[u8; BLOCK]) {
    *a = (u128::from_ne_bytes(*a) ^ u128::from_ne_bytes(*b)).to_ne_bytes();
}
