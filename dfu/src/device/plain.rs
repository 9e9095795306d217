//! Plain DFU: one image from offset 0, block numbers that count.

use core::time::Duration;

use super::{Device, Job, Memory, Pending, Stall};
use crate::{request::SetupPacket, state::State, status::Status};

/// Where the image stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Image {
    /// Bytes taken or given so far. 64 bits, so that an upload may go on while the block number wraps.
    pub(super) offset: u64,
    /// The block number that has to come next.
    block: u16,
}

impl Image {
    fn advance(&mut self, len: usize) {
        self.offset = self.offset.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
        self.block = self.block.wrapping_add(1);
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Device<'_, B> {
    /// Whether a block follows the one before. The first of a transfer is number 0.
    pub(super) const fn in_order(&self, block: u16) -> bool {
        block == self.image.block
    }

    /// Turns a block into work.
    pub(super) fn begin_plain<M: Memory + ?Sized>(
        &mut self,
        now: Duration,
        memory: &M,
        pending: Pending,
        input: &mut [u8],
    ) -> usize {
        let Ok(address) = u32::try_from(self.image.offset) else {
            let _ = self.fail(Status::Address);
            return self.reply(State::Error, input);
        };
        self.image.advance(pending.len);
        let job = Job::Program { alternate: self.alternate, address, len: pending.len };
        self.begin(now, memory, job);
        self.reply(State::DnBusy, input)
    }

    pub(super) fn read_plain<M: Memory + ?Sized>(
        &mut self,
        memory: &mut M,
        setup: SetupPacket,
        length: usize,
        input: &mut [u8],
    ) -> Result<usize, Stall> {
        // DFU 1.0 asks for block number 0, and hosts count nevertheless.
        let counted = self.description.functional.dfu_version != 0x0100;
        if counted && !self.in_order(setup.value) {
            return Err(self.fail(self.profile.statuses.illegal_request));
        }
        let Ok(address) = u32::try_from(self.image.offset) else {
            return Err(self.fail(Status::Address));
        };
        let len = memory.read(self.alternate, address, input).min(length);
        self.image.advance(len);
        self.state = if len < length { State::Idle } else { State::UploadIdle };
        Ok(len)
    }
}
