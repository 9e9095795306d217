//! Reading contiguous memory by DfuSe: what uploads, comparisons and read-backs are made of.

use core::time::Duration;

use super::{Action, HostError, Input, Link, Place, Step, exchange::Exchange, pages::Span};
use crate::{
    dfuse::{COMMAND_BLOCK, Command, FIRST_DATA_BLOCK},
    request::SetupPacket,
    state::State,
};

/// SET_ADDRESS, ABORT, blocks 2, 3, 4 and so on, ABORT. Starts in dfuIDLE or dfuDNLOAD-IDLE, ends in dfuIDLE; hands the
/// data out.
///
/// The pointer is set each time, even if it should be right already: a read-back that trusted it would find what a
/// lost pointer had written to a wrong place.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    span: Span,
    purpose: Step,
    done: u32,
    block: u16,
    stage: Stage,
    exchange: Exchange,
    command: [u8; Command::MAX_LEN],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    SetAddress,
    /// From dfuDNLOAD-IDLE to dfuIDLE, where UPLOAD is legal.
    Aborting,
    Read,
    /// From dfuUPLOAD-IDLE to dfuIDLE, because no block number reaches the next address.
    Reseat,
    /// From dfuUPLOAD-IDLE to dfuIDLE, because all is read or no more is wanted.
    Ending,
    Finished,
}

impl Reader {
    /// `purpose` is what errors name: [`Step::Read`] or [`Step::Verify`].
    pub(super) fn new(span: Span, purpose: Step) -> Self {
        let place = Place { step: Step::SetAddress, block: 0, address: span.address };
        let mut reader = Self {
            span,
            purpose,
            done: 0,
            block: FIRST_DATA_BLOCK,
            stage: Stage::SetAddress,
            exchange: Exchange::new(place, State::DnloadIdle),
            command: [0; Command::MAX_LEN],
        };
        reader.begin(Stage::SetAddress);
        reader
    }

    pub(super) const fn done(&self) -> u32 {
        self.done
    }

    pub(super) fn is_finished(&self) -> bool {
        self.stage == Stage::Finished
    }

    pub(super) const fn place(&self) -> Place {
        self.exchange.place
    }

    /// Reads no more; the device still has to be brought to dfuIDLE.
    pub(super) fn stop(&mut self) {
        if self.stage == Stage::Read && self.exchange.is_request() {
            self.begin(Stage::Ending);
        }
    }

    fn begin(&mut self, stage: Stage) {
        let address = self.span.address.saturating_add(self.done);
        let (step, block, expected) = match stage {
            Stage::SetAddress => {
                self.command = Command::SetAddress(address).to_array();
                self.block = FIRST_DATA_BLOCK;
                (Step::SetAddress, COMMAND_BLOCK, State::DnloadIdle)
            }
            Stage::Read => (self.purpose, self.block, State::UploadIdle),
            _ => (Step::Abort, 0, State::Idle),
        };
        self.stage = stage;
        self.exchange = Exchange::new(Place { step, block, address }, expected);
    }

    fn want(&self, link: &Link) -> u16 {
        let left = self.span.len.saturating_sub(self.done);
        u16::try_from(left).map_or(link.block_size(), |left| left.min(link.block_size()))
    }

    pub(super) fn action(&self, link: &Link) -> Action<'_> {
        let request = match self.stage {
            Stage::SetAddress => Action::Out {
                setup: SetupPacket::dnload(link.interface, COMMAND_BLOCK, 5),
                data: &self.command,
            },
            Stage::Read => {
                Action::In { setup: SetupPacket::upload(link.interface, self.block, self.want(link)) }
            }
            Stage::Aborting | Stage::Reseat | Stage::Ending => {
                Action::Out { setup: SetupPacket::abort(link.interface), data: &[] }
            }
            Stage::Finished => return Action::Finished,
        };
        self.exchange.action(link.interface, request)
    }

    /// Moves on; `Some` with the address when data came.
    pub(super) fn handle<'d>(
        &mut self,
        now: Duration,
        input: Input<'d>,
        link: &Link,
    ) -> Result<Option<(u32, &'d [u8])>, HostError> {
        let place = self.exchange.place;
        match (self.stage, input) {
            (Stage::Finished, _) => return Err(HostError::UnexpectedInput { place }),
            (Stage::Read, Input::InDone(data)) if self.exchange.is_request() => {
                return self.take(place, data, link).map(Some);
            }
            (Stage::Read, Input::OutDone) if self.exchange.is_request() => {
                return Err(HostError::UnexpectedInput { place });
            }
            _ => {}
        }
        if self.exchange.handle(now, input, link)?.is_some() {
            match self.stage {
                Stage::SetAddress => self.begin(Stage::Aborting),
                Stage::Aborting => self.begin(Stage::Read),
                Stage::Reseat => self.begin(Stage::SetAddress),
                Stage::Read | Stage::Ending | Stage::Finished => self.stage = Stage::Finished,
            }
        }
        Ok(None)
    }

    fn take<'d>(&mut self, place: Place, data: &'d [u8], link: &Link) -> Result<(u32, &'d [u8]), HostError> {
        let expected = self.want(link);
        if data.len() != usize::from(expected) {
            return Err(HostError::FrameLength { place, expected, found: data.len() });
        }
        self.done = self.done.saturating_add(u32::from(expected));
        // Only a whole block reaches up to the next block number.
        let next = if expected == link.transfer_size { self.block.checked_add(1) } else { None };
        if self.done >= self.span.len {
            self.begin(Stage::Ending);
        } else if let Some(block) = next {
            self.block = block;
            self.begin(Stage::Read);
        } else {
            self.begin(Stage::Reseat);
        }
        Ok((place.address, data))
    }
}
