//! Reading a unit: before it is written, to keep or to skip it, and afterwards, to check it.

use core::time::Duration;

use super::{Download, HostError, Image, Input, Part, Place, Progress, Reader, Stage, Step, Unit};
use crate::host::upload::mismatch;

/// How many bytes of the image are laid over a kept page at a time.
const PIECE: usize = 64;

impl<I: Image, B: AsRef<[u8]> + AsMut<[u8]>> Download<'_, I, B> {
    pub(super) fn read_part(&mut self, stage: Stage) {
        let purpose = if stage == Stage::Verify { Step::Verify } else { Step::Read };
        self.reader = Reader::new(self.part, purpose);
        self.stage = stage;
    }

    pub(super) fn read(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        let frame = self.reader.handle(now, input, &self.link)?;
        let mut progress = match frame {
            Some((address, data)) if self.stage == Stage::Verify => self.verify(address, data).map(Some)?,
            Some((address, data)) => {
                self.compare(address, data)?;
                None
            }
            None => None,
        };
        let decided = self.stage == Stage::Compare && !self.equal && !self.whole;
        let stopped = self.cancelled && !self.keeping;
        if stopped || decided {
            self.reader.stop();
        }
        if !self.reader.is_finished() {
            return Ok(progress);
        }
        self.idle = true;
        self.pointer = None;
        if stopped {
            self.end();
        } else if self.stage == Stage::Verify {
            if self.next_part() { self.read_part(Stage::Verify) } else { self.finish_unit() }
        } else if (self.equal || self.whole) && self.next_part() {
            self.read_part(Stage::Compare);
        } else if self.equal {
            self.finish_unit();
            progress = Some(Progress::Unchanged { done: self.done, total: self.total() });
        } else {
            self.after_compare();
        }
        if self.stage == Stage::Write {
            self.next_block()?;
        }
        Ok(progress)
    }

    /// Compares a frame with the image; in a kept page also lays the image over it.
    fn compare(&mut self, address: u32, data: &[u8]) -> Result<(), HostError> {
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        if !self.whole {
            self.load(Part { address, len }, Step::Read)?;
            self.equal &= self.buffer.as_ref().get(..data.len()) == Some(data);
            return Ok(());
        }
        let offset = usize::try_from(address.saturating_sub(self.unit.start)).unwrap_or(usize::MAX);
        let (needed, available) = (offset.saturating_add(data.len()), self.buffer.as_ref().len());
        let target = self.buffer.as_mut().get_mut(offset..needed);
        let target = target.ok_or(HostError::TransferBuffer { needed, available })?;
        target.copy_from_slice(data);
        let frame = Unit { start: address, size: len, erase: false };
        for part in self.plan.parts(&frame) {
            let from = usize::try_from(part.address.saturating_sub(address)).unwrap_or(usize::MAX);
            let part_len = usize::try_from(part.len).unwrap_or(usize::MAX);
            let cells = target.get_mut(from..).unwrap_or_default();
            let cells = cells.get_mut(..part_len).unwrap_or_default();
            let mut at = part.address;
            for cells in cells.chunks_mut(PIECE) {
                let mut piece = [0; PIECE];
                let piece = piece.get_mut(..cells.len()).unwrap_or_default();
                self.image.read(at, piece).map_err(|source| {
                    let place = Place { step: Step::Read, block: 0, address: at };
                    HostError::Image { place, source }
                })?;
                self.equal &= cells == piece;
                cells.copy_from_slice(piece);
                at = at.saturating_add(u32::try_from(cells.len()).unwrap_or(u32::MAX));
            }
        }
        Ok(())
    }

    fn verify(&mut self, address: u32, data: &[u8]) -> Result<Progress, HostError> {
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let offset = if self.whole {
            usize::try_from(address.saturating_sub(self.unit.start)).unwrap_or(usize::MAX)
        } else {
            self.load(Part { address, len }, Step::Verify)?;
            0
        };
        let expected = self.buffer.as_ref().get(offset..).unwrap_or_default();
        if let Some(error) = mismatch(address, expected, data) {
            return Err(error);
        }
        self.verified_here = if self.whole {
            self.plan.bytes_below(&self.unit, u64::from(address) + u64::from(len))
        } else {
            self.verified_here + u64::from(len)
        };
        Ok(Progress::Verified { done: self.done + self.verified_here, total: self.total() })
    }
}
