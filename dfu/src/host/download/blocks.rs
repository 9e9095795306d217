//! Which block is written next, and with which bytes.

use super::{Download, HostError, Image, Part, Place, Stage, Step};
use crate::dfuse::{Command, FIRST_DATA_BLOCK};

impl<I: Image, B: AsRef<[u8]> + AsMut<[u8]>> Download<'_, I, B> {
    /// Prepares the next block of the unit that has to be written; after the last one goes on with reading back or with
    /// the next unit.
    pub(super) fn next_block(&mut self) -> Result<(), HostError> {
        while self.stage == Stage::Write {
            if self.at >= self.part.end() {
                if self.next_part() {
                    self.at = self.part.address.into();
                } else if self.plan.options().verify {
                    self.restart_parts();
                    self.read_part(Stage::Verify);
                } else {
                    self.finish_unit();
                }
                continue;
            }
            let address = u32::try_from(self.at).unwrap_or(u32::MAX);
            self.fill(address)?;
            // The last block of a device that resets itself has to be sent, blank or not.
            let skips = self.blank && !self.plan.options().will_reset;
            let erased = self.link.quirks.erased_byte.filter(|_| skips);
            if erased.is_some_and(|erased| self.block().iter().all(|byte| *byte == erased)) {
                self.advance();
                continue;
            }
            match self.block_number(address) {
                Some(block) => self.begin(Stage::Write, Step::Write, block, address),
                None => self.command(Stage::SetAddress, Step::SetAddress, Command::SetAddress(address)),
            }
            return Ok(());
        }
        Ok(())
    }

    /// The number of the block at an address, if the pointer allows one.
    fn block_number(&self, address: u32) -> Option<u16> {
        let offset = address.checked_sub(self.pointer?)?;
        if offset > 0 && self.link.quirks.address_every_block {
            return None;
        }
        let size = u32::from(self.link.transfer_size);
        let blocks = u16::try_from(offset / size).ok()?;
        if offset % size == 0 { blocks.checked_add(FIRST_DATA_BLOCK) } else { None }
    }

    /// Puts the block at an address into the buffer, filled up to the multiple that the device needs.
    fn fill(&mut self, address: u32) -> Result<(), HostError> {
        let left = self.part.end().saturating_sub(self.at);
        let size = self.link.block_size();
        let len = u16::try_from(left).map_or(size, |left| left.min(size));
        self.block_len = len;
        if self.whole {
            return Ok(());
        }
        let multiple = self.link.quirks.write_multiple.max(1);
        let filled = len.checked_next_multiple_of(multiple).filter(|filled| *filled <= size).unwrap_or(len);
        self.load(Part { address, len: len.into() }, Step::Write)?;
        let filling = self.buffer.as_mut().get_mut(usize::from(len)..usize::from(filled));
        filling.unwrap_or_default().fill(0xFF);
        self.block_len = filled;
        Ok(())
    }

    /// Puts bytes of the image at the start of the buffer.
    pub(super) fn load(&mut self, part: Part, step: Step) -> Result<(), HostError> {
        let needed = usize::try_from(part.len).unwrap_or(usize::MAX);
        let available = self.buffer.as_ref().len();
        let target = self.buffer.as_mut().get_mut(..needed);
        let target = target.ok_or(HostError::TransferBuffer { needed, available })?;
        self.image.read(part.address, target).map_err(|source| {
            let place = Place { step, block: 0, address: part.address };
            HostError::Image { place, source }
        })
    }

    /// The bytes of the block at hand.
    pub(super) fn block(&self) -> &[u8] {
        let buffer = self.buffer.as_ref();
        let offset = if self.whole { self.at.saturating_sub(self.unit.start.into()) } else { 0 };
        let from = usize::try_from(offset).ok().and_then(|offset| buffer.get(offset..)).unwrap_or_default();
        from.get(..usize::from(self.block_len)).unwrap_or(from)
    }

    /// The block at hand is on the device.
    pub(super) fn advance(&mut self) {
        let len = u64::from(self.image_bytes());
        self.at += len;
        // Of a kept page only a part is the image.
        self.written_here =
            if self.whole { self.plan.bytes_below(&self.unit, self.at) } else { self.written_here + len };
    }

    /// Length of the block at hand without the filling.
    pub(super) fn image_bytes(&self) -> u16 {
        let left = self.part.end().saturating_sub(self.at);
        u16::try_from(left).map_or(self.block_len, |left| left.min(self.block_len))
    }
}
