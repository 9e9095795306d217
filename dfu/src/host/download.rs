//! Writing an image to a device by DfuSe.

use core::time::Duration;

use super::{
    Action, HostError, Input, Machine, Pages, Place, Plan, PlanError, Policy, Progress, Step,
    exchange::Exchange,
};
use crate::{
    dfuse::{COMMAND_BLOCK, Command, FIRST_DATA_BLOCK},
    layout::Page,
    request::SetupPacket,
    state::State,
};

/// Writes an image: erases the pages of the plan, then sends SET_ADDRESS and one block (number 2) for every
/// wTransferSize bytes, and returns to dfuIDLE with ABORT.
///
/// Starts in dfuIDLE (see [`Connect`](super::Connect)) with the alternate setting selected. Nothing is retried: flash
/// that was half written has to be erased again.
///
/// # Source
/// ST AN3156, sections 4.3 and 5; the order of dfu-util 0.11 (all erases first, one SET_ADDRESS a block).
#[derive(Clone)]
pub struct Download<'a> {
    interface: u8,
    transfer_size: u16,
    policy: Policy,
    image: &'a [u8],
    address: u32,
    total: u32,
    done: u32,
    pages: Pages<'a>,
    page: Option<Page>,
    stage: Stage,
    exchange: Exchange,
    command: [u8; Command::MAX_LEN],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Erase,
    SetAddress,
    Write,
    Abort,
    Finished,
}

/// Without the image: it may be a private key.
impl core::fmt::Debug for Download<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Download")
            .field("address", &self.address)
            .field("total", &self.total)
            .field("done", &self.done)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl<'a> Download<'a> {
    /// A download of `image` by a plan made with [`Plan::write`]. `transfer_size` is the device's wTransferSize.
    ///
    /// # Errors
    /// [`PlanError::LengthDiffers`] if the plan is for another length, [`PlanError::NoTransferSize`].
    pub fn new(
        interface: u8,
        transfer_size: u16,
        plan: &Plan<'a>,
        image: &'a [u8],
        policy: Policy,
    ) -> Result<Self, PlanError> {
        check(plan, image.len(), transfer_size)?;
        let place = Place { step: Step::Abort, block: 0, address: 0 };
        let mut machine = Self {
            interface,
            transfer_size,
            policy,
            image,
            address: plan.address(),
            total: plan.len(),
            done: 0,
            pages: plan.pages(),
            page: None,
            stage: Stage::Erase,
            exchange: Exchange::new(place, State::Idle),
            command: [0; Command::MAX_LEN],
        };
        machine.next_page();
        Ok(machine)
    }

    /// Bytes that are on the device.
    #[must_use]
    pub const fn written(&self) -> u32 {
        self.done
    }

    fn begin(&mut self, stage: Stage, step: Step, block: u16, address: u32) {
        self.stage = stage;
        let expected = if stage == Stage::Abort { State::Idle } else { State::DnloadIdle };
        self.exchange = Exchange::new(Place { step, block, address }, expected);
    }

    fn next_page(&mut self) {
        self.page = self.pages.next();
        match self.page {
            Some(page) => {
                self.command = Command::ErasePage(page.start).to_array();
                self.begin(Stage::Erase, Step::Erase, COMMAND_BLOCK, page.start);
            }
            None => self.next_block(),
        }
    }

    fn next_block(&mut self) {
        let address = self.address.saturating_add(self.done);
        if self.done < self.total {
            self.command = Command::SetAddress(address).to_array();
            self.begin(Stage::SetAddress, Step::SetAddress, COMMAND_BLOCK, address);
        } else {
            self.begin(Stage::Abort, Step::Abort, 0, address);
        }
    }

    /// The block at hand and its length; the last one is short.
    fn block(&self) -> (&'a [u8], u16) {
        let rest =
            usize::try_from(self.done).ok().and_then(|done| self.image.get(done..)).unwrap_or_default();
        let len = u16::try_from(rest.len()).map_or(self.transfer_size, |rest| rest.min(self.transfer_size));
        (rest.get(..usize::from(len)).unwrap_or(rest), len)
    }

    fn step(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        if self.stage == Stage::Finished {
            return Err(HostError::UnexpectedInput { place: self.exchange.place });
        }
        if self.exchange.handle(now, input, &self.policy)?.is_none() {
            return Ok(None);
        }
        match self.stage {
            Stage::Erase => {
                let progress =
                    self.page.map(|page| Progress::Erased { address: page.start, size: page.size });
                self.next_page();
                Ok(progress)
            }
            Stage::SetAddress => {
                let address = self.exchange.place.address;
                self.begin(Stage::Write, Step::Write, FIRST_DATA_BLOCK, address);
                Ok(None)
            }
            Stage::Write => {
                let (_, len) = self.block();
                self.done = self.done.saturating_add(u32::from(len));
                self.next_block();
                Ok(Some(Progress::Written { done: self.done, total: self.total }))
            }
            Stage::Abort | Stage::Finished => {
                self.stage = Stage::Finished;
                Ok(None)
            }
        }
    }
}

impl Machine for Download<'_> {
    fn action(&self) -> Action<'_> {
        let request = match self.stage {
            Stage::Erase | Stage::SetAddress => Action::Out {
                setup: SetupPacket::dnload(self.interface, COMMAND_BLOCK, 5),
                data: &self.command,
            },
            Stage::Write => {
                let (data, len) = self.block();
                Action::Out { setup: SetupPacket::dnload(self.interface, FIRST_DATA_BLOCK, len), data }
            }
            Stage::Abort => Action::Out { setup: SetupPacket::abort(self.interface), data: &[] },
            Stage::Finished => return Action::Finished,
        };
        self.exchange.action(self.interface, request)
    }

    fn handle(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        let result = self.step(now, input);
        if result.is_err() {
            self.stage = Stage::Finished;
        }
        result
    }
}

/// A plan and the caller's slice belong together.
pub(super) fn check(plan: &Plan<'_>, given: usize, transfer_size: u16) -> Result<(), PlanError> {
    if usize::try_from(plan.len()) != Ok(given) {
        return Err(PlanError::LengthDiffers { planned: plan.len(), given });
    }
    if transfer_size == 0 { Err(PlanError::NoTransferSize) } else { Ok(()) }
}
