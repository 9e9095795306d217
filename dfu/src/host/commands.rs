//! The two DfuSe commands that concern all memory at once.

use core::time::Duration;

use super::{Action, HostError, Input, Link, Machine, Place, PlanError, Progress, Step, exchange::Exchange};
use crate::{
    dfuse::{COMMAND_BLOCK, ERASE, READ_UNPROTECT},
    request::SetupPacket,
    state::State,
};

/// Mass erase, or read unprotect. Starts in dfuIDLE; mass erase also ends there.
///
/// Read unprotect erases everything and resets the device, which then has to be found anew: that it goes away, or is silent,
/// is the sign of success.
///
/// # Source
/// ST AN3156, sections 4.3 and 5.4; dfu-util 0.11: src/dfuse.c.
#[derive(Debug, Clone)]
pub struct Special {
    link: Link,
    stage: Stage,
    exchange: Exchange,
    unprotect: bool,
    outcome: Option<SpecialOutcome>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Command,
    Abort,
    Finished,
}

/// How a [`Special`] command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SpecialOutcome {
    /// Done, and the device is in dfuIDLE.
    Done,
    /// The device took the command and goes away, or is gone.
    Disconnects,
}

impl Special {
    /// Erases all memory of the selected alternate setting.
    ///
    /// # Errors
    /// [`PlanError::NoMassErase`] for a device that is known to say OK and do nothing.
    pub const fn mass_erase(link: Link) -> Result<Self, PlanError> {
        if link.quirks.mass_erase_is_void { Err(PlanError::NoMassErase) } else { Ok(Self::new(link, false)) }
    }

    /// Lifts the read protection, which erases all memory. Ask [`GetCommands`](super::GetCommands) first whether the device
    /// knows the command.
    #[must_use]
    pub const fn read_unprotect(link: Link) -> Self {
        Self::new(link, true)
    }

    const fn new(link: Link, unprotect: bool) -> Self {
        let step = if unprotect { Step::ReadUnprotect } else { Step::MassErase };
        let exchange = Exchange::new(Place { step, block: COMMAND_BLOCK, address: 0 }, State::DnloadIdle);
        Self { link, stage: Stage::Command, exchange, unprotect, outcome: None }
    }

    /// How it ended; `None` until then.
    #[must_use]
    pub const fn outcome(&self) -> Option<SpecialOutcome> {
        self.outcome
    }

    fn end(&mut self, outcome: SpecialOutcome) {
        self.outcome = Some(outcome);
        self.stage = Stage::Finished;
    }

    fn step(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        let place = self.exchange.place;
        if self.stage == Stage::Finished {
            return Err(HostError::UnexpectedInput { place });
        }
        // Once it took the command, that it is silent or gone is what was asked for. One that still answers when its time
        // is over has done nothing.
        let gone = matches!(input, Input::Disconnected | Input::TimedOut);
        if self.unprotect && self.stage == Stage::Command && gone && !self.exchange.is_request() {
            self.end(SpecialOutcome::Disconnects);
            return Ok(None);
        }
        let Some(reply) = self.exchange.handle(now, input, &self.link)? else { return Ok(None) };
        match self.stage {
            Stage::Command if self.unprotect => {
                Err(HostError::Refused { place, state: reply.state, status: reply.status })
            }
            Stage::Command => {
                self.stage = Stage::Abort;
                let place = Place { step: Step::Abort, ..place };
                self.exchange = Exchange::new(place, State::Idle);
                Ok(Some(Progress::MassErased))
            }
            Stage::Abort | Stage::Finished => {
                self.end(SpecialOutcome::Done);
                Ok(None)
            }
        }
    }
}

impl Machine for Special {
    fn action(&self) -> Action<'_> {
        let interface = self.link.interface;
        let data: &[u8] = if self.unprotect { &[READ_UNPROTECT] } else { &[ERASE] };
        let request = match self.stage {
            Stage::Command => Action::Out { setup: SetupPacket::dnload(interface, COMMAND_BLOCK, 1), data },
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

    /// Does nothing: the job is a single request, and what that erases is gone.
    fn cancel(&mut self) {}
}
