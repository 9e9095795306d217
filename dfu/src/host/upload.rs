//! Reading memory by DfuSe: into a buffer, or to compare it.

use core::time::Duration;

use super::{
    Action, HostError, Input, Machine, Place, Plan, PlanError, Policy, Progress, Step, download::check,
    exchange::Exchange,
};
use crate::{
    dfuse::{COMMAND_BLOCK, Command, FIRST_DATA_BLOCK},
    request::SetupPacket,
    state::State,
};

/// Reads the range of a plan into a buffer: SET_ADDRESS, ABORT, then blocks 2, 3, 4 and so on, and ABORT.
///
/// The length is the plan's, since a Photon never ends an upload by itself. Before block numbers run out the pointer is
/// set anew, so blocks never wrap into the reserved numbers 0 and 1. Starts and ends in dfuIDLE.
///
/// # Source
/// ST AN3156, section 4.2; dfu-util 0.11: src/dfuse.c.
pub struct Upload<'b> {
    reader: Reader,
    buffer: &'b mut [u8],
}

/// Without the bytes: they may be a private key.
impl core::fmt::Debug for Upload<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Upload").field("reader", &self.reader).finish_non_exhaustive()
    }
}

impl<'b> Upload<'b> {
    /// An upload by a plan made with [`Plan::read`]. `transfer_size` is the device's wTransferSize.
    ///
    /// # Errors
    /// [`PlanError::LengthDiffers`] if the buffer has another length, [`PlanError::NoTransferSize`].
    pub fn new(
        interface: u8,
        transfer_size: u16,
        plan: &Plan<'_>,
        buffer: &'b mut [u8],
        policy: Policy,
    ) -> Result<Self, PlanError> {
        check(plan, buffer.len(), transfer_size)?;
        Ok(Self { reader: Reader::new(interface, transfer_size, plan, policy), buffer })
    }

    /// Bytes at the start of the buffer that are read.
    #[must_use]
    pub const fn received(&self) -> u32 {
        self.reader.done
    }
}

impl Machine for Upload<'_> {
    fn action(&self) -> Action<'_> {
        self.reader.action()
    }

    fn handle(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        let Some((offset, data)) = self.reader.handle(now, input)? else { return Ok(None) };
        let target = self.buffer.get_mut(offset..).unwrap_or_default();
        for (to, from) in target.iter_mut().zip(data) {
            *to = *from;
        }
        Ok(Some(self.reader.progress()))
    }
}

/// Reads like [`Upload`] and compares with the expected bytes while they come; stops at the first difference.
#[derive(Clone)]
pub struct Verify<'a> {
    reader: Reader,
    expected: &'a [u8],
}

/// Without the bytes: they may be a private key.
impl core::fmt::Debug for Verify<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Verify").field("reader", &self.reader).finish_non_exhaustive()
    }
}

impl<'a> Verify<'a> {
    /// A comparison by a plan made with [`Plan::read`]. `transfer_size` is the device's wTransferSize.
    ///
    /// # Errors
    /// [`PlanError::LengthDiffers`] if `expected` has another length, [`PlanError::NoTransferSize`].
    pub fn new(
        interface: u8,
        transfer_size: u16,
        plan: &Plan<'_>,
        expected: &'a [u8],
        policy: Policy,
    ) -> Result<Self, PlanError> {
        check(plan, expected.len(), transfer_size)?;
        Ok(Self { reader: Reader::new(interface, transfer_size, plan, policy), expected })
    }
}

impl Machine for Verify<'_> {
    fn action(&self) -> Action<'_> {
        self.reader.action()
    }

    fn handle(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        let Some((offset, data)) = self.reader.handle(now, input)? else { return Ok(None) };
        let wanted = self.expected.get(offset..).unwrap_or_default();
        let difference =
            (offset..).zip(wanted.iter().zip(data)).find(|(_, (expected, found))| expected != found);
        if let Some((at, (&expected, &found))) = difference {
            self.reader.stage = Stage::Finished;
            let address = self.reader.start.saturating_add(u32::try_from(at).unwrap_or(u32::MAX));
            return Err(HostError::Mismatch { address, expected, found });
        }
        Ok(Some(self.reader.progress()))
    }
}

/// The part that [`Upload`] and [`Verify`] share: it hands the data out.
#[derive(Debug, Clone)]
struct Reader {
    interface: u8,
    transfer_size: u16,
    policy: Policy,
    start: u32,
    total: u32,
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
    /// From dfuUPLOAD-IDLE to dfuIDLE, because the block numbers ran out.
    Reseat,
    /// From dfuUPLOAD-IDLE to dfuIDLE, because all is read.
    Ending,
    Finished,
}

impl Reader {
    fn new(interface: u8, transfer_size: u16, plan: &Plan<'_>, policy: Policy) -> Self {
        let place = Place { step: Step::SetAddress, block: 0, address: plan.address() };
        let mut reader = Self {
            interface,
            transfer_size,
            policy,
            start: plan.address(),
            total: plan.len(),
            done: 0,
            block: FIRST_DATA_BLOCK,
            stage: Stage::SetAddress,
            exchange: Exchange::new(place, State::DnloadIdle),
            command: [0; Command::MAX_LEN],
        };
        reader.begin(Stage::SetAddress);
        reader
    }

    fn begin(&mut self, stage: Stage) {
        let address = self.start.saturating_add(self.done);
        let (step, block, expected) = match stage {
            Stage::SetAddress => {
                self.command = Command::SetAddress(address).to_array();
                self.block = FIRST_DATA_BLOCK;
                (Step::SetAddress, COMMAND_BLOCK, State::DnloadIdle)
            }
            Stage::Read => (Step::Read, self.block, State::UploadIdle),
            _ => (Step::Abort, 0, State::Idle),
        };
        self.stage = stage;
        self.exchange = Exchange::new(Place { step, block, address }, expected);
    }

    fn want(&self) -> u16 {
        let left = self.total.saturating_sub(self.done);
        u16::try_from(left).map_or(self.transfer_size, |left| left.min(self.transfer_size))
    }

    const fn progress(&self) -> Progress {
        Progress::Read { done: self.done, total: self.total }
    }

    fn action(&self) -> Action<'_> {
        let request = match self.stage {
            Stage::SetAddress => Action::Out {
                setup: SetupPacket::dnload(self.interface, COMMAND_BLOCK, 5),
                data: &self.command,
            },
            Stage::Read => Action::In { setup: SetupPacket::upload(self.interface, self.block, self.want()) },
            Stage::Aborting | Stage::Reseat | Stage::Ending => {
                Action::Out { setup: SetupPacket::abort(self.interface), data: &[] }
            }
            Stage::Finished => return Action::Finished,
        };
        self.exchange.action(self.interface, request)
    }

    /// Moves on; `Some` with the offset from the start when data came.
    fn handle<'d>(
        &mut self,
        now: Duration,
        input: Input<'d>,
    ) -> Result<Option<(usize, &'d [u8])>, HostError> {
        let result = self.step(now, input);
        if result.is_err() {
            self.stage = Stage::Finished;
        }
        result
    }

    fn step<'d>(&mut self, now: Duration, input: Input<'d>) -> Result<Option<(usize, &'d [u8])>, HostError> {
        let place = self.exchange.place;
        match (self.stage, input) {
            (Stage::Finished, _) => return Err(HostError::UnexpectedInput { place }),
            (Stage::Read, Input::InDone(data)) if self.exchange.is_request() => {
                return self.take(place, data).map(Some);
            }
            (Stage::Read, Input::OutDone) if self.exchange.is_request() => {
                return Err(HostError::UnexpectedInput { place });
            }
            _ => {}
        }
        if self.exchange.handle(now, input, &self.policy)?.is_some() {
            match self.stage {
                Stage::SetAddress => self.begin(Stage::Aborting),
                Stage::Aborting => self.begin(Stage::Read),
                Stage::Reseat => self.begin(Stage::SetAddress),
                Stage::Read | Stage::Ending | Stage::Finished => self.stage = Stage::Finished,
            }
        }
        Ok(None)
    }

    fn take<'d>(&mut self, place: Place, data: &'d [u8]) -> Result<(usize, &'d [u8]), HostError> {
        let expected = self.want();
        if data.len() != usize::from(expected) {
            return Err(HostError::FrameLength { place, expected, found: data.len() });
        }
        let offset = usize::try_from(self.done).unwrap_or(usize::MAX);
        self.done = self.done.saturating_add(u32::from(expected));
        if self.done >= self.total {
            self.begin(Stage::Ending);
        } else if let Some(block) = self.block.checked_add(1) {
            self.block = block;
            self.begin(Stage::Read);
        } else {
            self.begin(Stage::Reseat);
        }
        Ok((offset, data))
    }
}
