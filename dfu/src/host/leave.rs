//! Leaving DFU mode.

use core::time::Duration;

use super::{Action, HostError, Input, Link, Machine, Place, Progress, Step, exchange::Exchange};
use crate::{
    dfuse::{COMMAND_BLOCK, Command, FIRST_DATA_BLOCK},
    request::SetupPacket,
    state::State,
    status::Status,
};

/// How a device answered the request to leave. All but [`Refused`](Self::Refused) are success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LeaveOutcome {
    /// It answered GETSTATUS: dfuMANIFEST by the book, dfuDNLOAD-IDLE from a Photon, dfuMANIFEST-WAIT-RESET from a
    /// device that waits for a bus reset, dfuIDLE from one that stays.
    Answered(State),
    /// It disconnected before it answered, as ROMs and old bootloaders do.
    Disconnected,
    /// It stalled or did not answer GETSTATUS, on its way out.
    Unanswered,
    /// It stays in DFU mode and says so; [`Machine::handle`] returned [`HostError::Refused`].
    Refused {
        /// bState of its last reply.
        state: State,
        /// bStatus of its last reply.
        status: Status,
    },
}

/// Leaves DFU mode: ABORT, SET_ADDRESS to the start of the application, zero-length DNLOAD, GETSTATUS.
///
/// A device that goes away after it accepted the zero-length DNLOAD did what was asked;
/// [`outcome`](Self::outcome) tells which way it took. Before that, going away is an error.
///
/// # Source
/// ST AN3156, section 4.4; quartiq/stabilizer issue 69 and particle-cli issue 68 for false failures of tools.
#[derive(Debug, Clone)]
pub struct Leave {
    link: Link,
    stage: Stage,
    exchange: Exchange,
    start: Option<u32>,
    command: [u8; Command::MAX_LEN],
    outcome: Option<LeaveOutcome>,
    cancelled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Abort,
    SetAddress,
    Zero,
    Finished,
}

impl Leave {
    /// A machine that leaves to `start`; without it the address pointer stays where it is.
    #[must_use]
    pub fn new(link: Link, start: Option<u32>) -> Self {
        let command = Command::SetAddress(start.unwrap_or(0)).to_array();
        let exchange = Exchange::new(Place { step: Step::Abort, block: 0, address: 0 }, State::Idle);
        Self { link, stage: Stage::Abort, exchange, start, command, outcome: None, cancelled: false }
    }

    /// How the device left; `None` until then.
    #[must_use]
    pub const fn outcome(&self) -> Option<LeaveOutcome> {
        self.outcome
    }

    fn begin(&mut self, stage: Stage) {
        let address = self.start.unwrap_or(0);
        let (step, block) = match stage {
            Stage::SetAddress => (Step::SetAddress, COMMAND_BLOCK),
            _ => (Step::Leave, FIRST_DATA_BLOCK),
        };
        self.stage = stage;
        self.exchange = Exchange::new(Place { step, block, address }, State::DnloadIdle);
    }

    fn end(&mut self, outcome: LeaveOutcome) {
        self.outcome = Some(outcome);
        self.stage = Stage::Finished;
    }

    fn step(&mut self, now: Duration, input: Input<'_>) -> Result<(), HostError> {
        if self.stage == Stage::Finished {
            return Err(HostError::UnexpectedInput { place: self.exchange.place });
        }
        if self.stage == Stage::Zero && self.exchange.is_settling() {
            match input {
                Input::Disconnected => self.end(LeaveOutcome::Disconnected),
                Input::Stalled | Input::TimedOut if self.exchange.is_polling() => {
                    self.end(LeaveOutcome::Unanswered)
                }
                Input::InDone(bytes) if self.exchange.is_polling() => {
                    let reply = self.exchange.reply(bytes)?;
                    match (reply.state, reply.status) {
                        (State::DnloadSync | State::DnBusy | State::ManifestSync, _) => {
                            self.exchange.wait(now, reply.poll_timeout, &self.link)?;
                        }
                        (
                            state @ (State::Manifest
                            | State::ManifestWaitReset
                            | State::AppIdle
                            | State::AppDetach),
                            _,
                        )
                        | (state @ (State::Idle | State::DnloadIdle), Status::Ok) => {
                            self.end(LeaveOutcome::Answered(state));
                        }
                        _ => self.exchange.give_up(reply)?,
                    }
                }
                _ => {
                    self.exchange.handle(now, input, &self.link)?;
                }
            }
            return Ok(());
        }
        if self.exchange.handle(now, input, &self.link)?.is_some() {
            match self.stage {
                Stage::Abort if self.start.is_some() => self.begin(Stage::SetAddress),
                _ => self.begin(Stage::Zero),
            }
        }
        Ok(())
    }
}

impl Machine for Leave {
    fn action(&self) -> Action<'_> {
        let request = match self.stage {
            Stage::Abort => Action::Out { setup: SetupPacket::abort(self.link.interface), data: &[] },
            Stage::SetAddress => Action::Out {
                setup: SetupPacket::dnload(self.link.interface, COMMAND_BLOCK, 5),
                data: &self.command,
            },
            Stage::Zero => Action::Out {
                setup: SetupPacket::dnload(self.link.interface, FIRST_DATA_BLOCK, 0),
                data: &[],
            },
            Stage::Finished => return Action::Finished,
        };
        self.exchange.action(self.link.interface, request)
    }

    fn handle(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        let leaving = self.stage == Stage::Zero;
        let mut result = self.step(now, input);
        if let (true, Err(HostError::Refused { state, status, .. })) = (leaving, result) {
            self.outcome = Some(LeaveOutcome::Refused { state, status });
        }
        // Once the zero-length DNLOAD is on its way nothing can be taken back.
        if result.is_ok() && self.cancelled && self.stage != Stage::Finished && self.exchange.is_request() {
            result = Err(HostError::Cancelled { place: self.exchange.place });
        }
        if result.is_err() {
            self.stage = Stage::Finished;
        }
        result.map(|()| None)
    }

    fn cancel(&mut self) {
        self.cancelled = true;
    }
}
