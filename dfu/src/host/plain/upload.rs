//! Reading an image from a plain DFU device.

use core::time::Duration;

use super::super::{
    Action, HostError, Input, Link, Machine, Place, PlanError, Progress, Step, exchange::Exchange,
};
use crate::{request::SetupPacket, state::State};

/// Reads until the device sends a short frame, which may be empty. Starts and ends in dfuIDLE.
///
/// # Source
/// USB DFU 1.1, section 6.2; DFU 1.0 says wBlockNum 0 for all blocks, but every host counts.
pub struct Upload<'b> {
    link: Link,
    buffer: &'b mut [u8],
    /// Bytes in the buffer.
    done: usize,
    /// Bytes that were taken out of it.
    taken: u64,
    block: u16,
    stage: Stage,
    exchange: Exchange,
    cancelled: bool,
    too_long: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Read,
    /// To dfuIDLE before the device's own end.
    Abort,
    Finished,
}

/// Without the bytes: they may be a private key.
impl core::fmt::Debug for Upload<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Upload").field("done", &self.done).field("stage", &self.stage).finish_non_exhaustive()
    }
}

impl<'b> Upload<'b> {
    /// An upload of at most as many bytes as `buffer` has, unless they are [taken out](Self::take_received) in between; a
    /// device that has more is an error, since part of an image is worth nothing.
    ///
    /// # Errors
    /// [`PlanError::NoTransferSize`].
    pub fn new(link: Link, buffer: &'b mut [u8]) -> Result<Self, PlanError> {
        if link.block_size() == 0 {
            return Err(PlanError::NoTransferSize);
        }
        let exchange = Exchange::new(place(0, 0), State::UploadIdle);
        Ok(Self {
            link,
            buffer,
            done: 0,
            taken: 0,
            block: 0,
            stage: Stage::Read,
            exchange,
            cancelled: false,
            too_long: false,
        })
    }

    /// Bytes at the start of the buffer that are read and were not [taken](Self::take_received).
    #[must_use]
    pub const fn received(&self) -> usize {
        self.done
    }

    /// Takes what was read since the last call out of the buffer. Called after every [`Machine::handle`], a buffer of one
    /// block is enough for any image.
    pub fn take_received(&mut self) -> &[u8] {
        let len = core::mem::take(&mut self.done);
        let bytes = self.buffer.get(..len).unwrap_or_default();
        self.taken = self.taken.saturating_add(bytes.len() as u64);
        bytes
    }

    /// Bytes read in all.
    const fn total(&self) -> u64 {
        self.taken.saturating_add(self.done as u64)
    }

    fn end_early(&mut self) {
        self.stage = Stage::Abort;
        let place = Place { step: Step::Abort, ..self.exchange.place };
        self.exchange = Exchange::new(place, State::Idle);
    }

    fn step(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        let place = self.exchange.place;
        match (self.stage, input) {
            (Stage::Finished, _) => Err(HostError::UnexpectedInput { place }),
            (Stage::Read, Input::InDone(data)) if self.exchange.is_request() => self.take(data).map(Some),
            (Stage::Read, Input::OutDone) if self.exchange.is_request() => {
                Err(HostError::UnexpectedInput { place })
            }
            _ => {
                if self.exchange.handle(now, input, &self.link)?.is_some() {
                    self.stage = Stage::Finished;
                    if self.too_long {
                        return Err(HostError::UploadTooLong { capacity: self.buffer.len() });
                    }
                    if self.cancelled {
                        return Err(HostError::Cancelled { place });
                    }
                }
                Ok(None)
            }
        }
    }

    fn take(&mut self, data: &[u8]) -> Result<Progress, HostError> {
        let expected = self.link.block_size();
        if data.len() > usize::from(expected) {
            let place = self.exchange.place;
            return Err(HostError::FrameLength { place, expected, found: data.len() });
        }
        let rest = self.buffer.get_mut(self.done..).unwrap_or_default();
        if let Some(target) = rest.get_mut(..data.len()) {
            target.copy_from_slice(data);
            self.done += data.len();
        } else {
            self.too_long = true;
        }
        let short = data.len() < usize::from(expected);
        if self.too_long || self.cancelled && !short {
            self.end_early();
        } else if short {
            self.stage = Stage::Finished;
        } else {
            self.block = self.block.wrapping_add(1);
            self.exchange = Exchange::new(place(self.block, self.total()), State::UploadIdle);
        }
        Ok(Progress::Read { done: self.total(), total: None })
    }
}

fn place(block: u16, done: u64) -> Place {
    Place { step: Step::Read, block, address: u32::try_from(done).unwrap_or(u32::MAX) }
}

impl Machine for Upload<'_> {
    fn action(&self) -> Action<'_> {
        let interface = self.link.interface;
        let request = match self.stage {
            Stage::Read => {
                Action::In { setup: SetupPacket::upload(interface, self.block, self.link.block_size()) }
            }
            Stage::Abort => Action::Out { setup: SetupPacket::abort(interface), data: &[] },
            Stage::Finished => return Action::Finished,
        };
        self.exchange.action(interface, request)
    }

    fn handle(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        let result = self.step(now, input);
        if result.is_err() {
            self.stage = Stage::Finished;
        }
        result
    }

    fn cancel(&mut self) {
        self.cancelled = true;
    }
}
