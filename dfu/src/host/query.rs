//! Asking a device for its state and its commands.

use core::time::Duration;

use super::{Action, HostError, Input, Link, Machine, Place, Progress, Step, exchange::Exchange};
use crate::{dfuse::COMMAND_BLOCK, request::SetupPacket, state::State};

const PLACE: Place = Place { step: Step::Query, block: 0, address: 0 };

/// Asks for the state with GETSTATE, which changes nothing.
#[derive(Debug, Clone)]
pub struct GetState {
    link: Link,
    state: Option<State>,
    finished: bool,
}

impl GetState {
    /// One question.
    #[must_use]
    pub const fn new(link: Link) -> Self {
        Self { link, state: None, finished: false }
    }

    /// The answer.
    #[must_use]
    pub const fn state(&self) -> Option<State> {
        self.state
    }
}

impl Machine for GetState {
    fn action(&self) -> Action<'_> {
        if self.finished {
            return Action::Finished;
        }
        Action::In { setup: SetupPacket::get_state(self.link.interface) }
    }

    fn handle(&mut self, _now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        let place = PLACE;
        if core::mem::replace(&mut self.finished, true) {
            return Err(HostError::UnexpectedInput { place });
        }
        match input {
            Input::InDone(&[state]) => {
                self.state = Some(State::from_code(state));
                Ok(None)
            }
            Input::InDone(data) => Err(HostError::FrameLength { place, expected: 1, found: data.len() }),
            Input::Stalled => Err(HostError::Stalled { place }),
            Input::TimedOut => Err(HostError::TimedOut { place }),
            Input::Disconnected => Err(HostError::Disconnected { place }),
            _ => Err(HostError::UnexpectedInput { place }),
        }
    }

    /// Does nothing: the job is a single request.
    fn cancel(&mut self) {}
}

/// The command codes that a DfuSe device lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandSet {
    codes: [u8; Self::CAPACITY],
    len: usize,
}

impl CommandSet {
    /// The most codes that are kept; known devices list three or four.
    pub const CAPACITY: usize = 16;

    /// The codes in the order of the device.
    #[must_use]
    pub fn codes(&self) -> &[u8] {
        self.codes.get(..self.len).unwrap_or(&self.codes)
    }

    /// Whether the device lists a code, such as [`READ_UNPROTECT`](crate::dfuse::READ_UNPROTECT). Mass erase has the code
    /// of page erase, so the list does not tell whether it is supported.
    #[must_use]
    pub fn has(&self, code: u8) -> bool {
        self.codes().contains(&code)
    }
}

/// Asks a DfuSe device for its commands: UPLOAD of block 0, then ABORT. Starts and ends in dfuIDLE.
///
/// # Source
/// ST AN3156, section 4.1.
#[derive(Debug, Clone)]
pub struct GetCommands {
    link: Link,
    commands: Option<CommandSet>,
    stage: Stage,
    exchange: Exchange,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Read,
    Abort,
    Finished,
}

impl GetCommands {
    /// One question.
    #[must_use]
    pub const fn new(link: Link) -> Self {
        let exchange = Exchange::new(PLACE, State::UploadIdle);
        Self { link, commands: None, stage: Stage::Read, exchange }
    }

    /// The answer.
    #[must_use]
    pub const fn commands(&self) -> Option<CommandSet> {
        self.commands
    }

    /// More than known devices have to say, so that they end the upload with a short frame.
    fn want(&self) -> u16 {
        u16::try_from(CommandSet::CAPACITY).unwrap_or(16).min(self.link.block_size())
    }

    fn step(&mut self, now: Duration, input: Input<'_>) -> Result<(), HostError> {
        match (self.stage, input) {
            (Stage::Finished, _) => Err(HostError::UnexpectedInput { place: PLACE }),
            (Stage::Read, Input::InDone(data)) if self.exchange.is_request() => {
                let mut commands = CommandSet { codes: [0; CommandSet::CAPACITY], len: 0 };
                for (to, from) in commands.codes.iter_mut().zip(data) {
                    *to = *from;
                    commands.len += 1;
                }
                self.commands = Some(commands);
                self.stage = Stage::Abort;
                self.exchange = Exchange::new(Place { step: Step::Abort, ..PLACE }, State::Idle);
                Ok(())
            }
            (Stage::Read, Input::OutDone) => Err(HostError::UnexpectedInput { place: PLACE }),
            _ => {
                if self.exchange.handle(now, input, &self.link)?.is_some() {
                    self.stage = Stage::Finished;
                }
                Ok(())
            }
        }
    }
}

impl Machine for GetCommands {
    fn action(&self) -> Action<'_> {
        let interface = self.link.interface;
        let request = match self.stage {
            Stage::Read => Action::In { setup: SetupPacket::upload(interface, COMMAND_BLOCK, self.want()) },
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
        result.map(|()| None)
    }

    /// Does nothing: the job is two requests.
    fn cancel(&mut self) {}
}
