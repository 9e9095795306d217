//! Bringing a device to dfuIDLE, whatever an earlier job left behind.

use core::time::Duration;

use super::{Action, HostError, Input, Link, Machine, Place, Progress, Step, exchange::Exchange};
use crate::{
    request::SetupPacket,
    state::State,
    status::{Status, StatusReply},
};

/// Brings the device to dfuIDLE.
///
/// GETSTATUS decides: dfuERROR gets CLRSTATUS, an interrupted transfer gets ABORT, a busy device gets time, an unknown
/// state gets CLRSTATUS up to twice (a Photon in state 15 needs exactly that). In dfuIDLE an old bStatus does not
/// matter; one ABORT repairs it. CLRSTATUS is never sent in another known state, since many devices answer it with
/// dfuERROR. The number of requests is bounded by [`Policy::max_connect_requests`](super::Policy::max_connect_requests).
///
/// # Source
/// dfu-util 0.11: src/main.c (start-up), with its endless loop bounded; states of Photons: device-os@v2.3.1.
#[derive(Debug, Clone)]
pub struct Connect {
    link: Link,
    stage: Stage,
    waiting: Exchange,
    requests: u32,
    stalls: u8,
    unknown_clears: u8,
    repaired: bool,
    last: Option<StatusReply>,
    cancelled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Status,
    Abort,
    Clear,
    Finished,
}

const PLACE: Place = Place { step: Step::Connect, block: 0, address: 0 };

impl Connect {
    /// A machine for a device in DFU mode.
    #[must_use]
    pub const fn new(link: Link) -> Self {
        Self {
            link,
            stage: Stage::Status,
            waiting: Exchange::new(PLACE, State::Idle),
            requests: 0,
            stalls: 0,
            unknown_clears: 0,
            repaired: false,
            last: None,
            cancelled: false,
        }
    }

    /// The last reply to GETSTATUS.
    #[must_use]
    pub const fn last_reply(&self) -> Option<StatusReply> {
        self.last
    }

    fn step(&mut self, now: Duration, input: Input<'_>) -> Result<(), HostError> {
        let place = PLACE;
        match (self.stage, input) {
            (Stage::Finished, _) => Err(HostError::UnexpectedInput { place }),
            (_, Input::Disconnected) => Err(HostError::Disconnected { place }),
            (_, Input::TimedOut) => Err(HostError::TimedOut { place }),
            (Stage::Status, Input::TimeReached) if self.is_waiting() => {
                self.waiting.handle(now, input, &self.link).map(|_| ())
            }
            (Stage::Status, Input::InDone(bytes)) if !self.is_waiting() => {
                let reply = self.waiting.reply(bytes)?;
                self.last = Some(reply);
                self.judge(now, reply)
            }
            (Stage::Status, Input::Stalled) if !self.is_waiting() => {
                self.stalls += 1;
                if self.stalls > 2 { Err(HostError::Stalled { place }) } else { Ok(()) }
            }
            // A refused ABORT or CLRSTATUS shows in the next GETSTATUS.
            (Stage::Abort | Stage::Clear, Input::OutDone | Input::Stalled) => {
                self.stage = Stage::Status;
                Ok(())
            }
            _ => Err(HostError::UnexpectedInput { place }),
        }
    }

    fn is_waiting(&self) -> bool {
        !self.waiting.is_request() && !self.waiting.is_polling()
    }

    fn judge(&mut self, now: Duration, reply: StatusReply) -> Result<(), HostError> {
        let state = reply.state;
        self.stage = match state {
            State::Idle if reply.status == Status::Ok || self.repaired => Stage::Finished,
            State::Idle => {
                self.repaired = true;
                Stage::Abort
            }
            State::Error => Stage::Clear,
            State::DnloadSync | State::DnloadIdle | State::ManifestSync | State::UploadIdle => Stage::Abort,
            State::DnBusy | State::Manifest => {
                return self.waiting.wait(now, reply.poll_timeout, &self.link);
            }
            State::AppIdle | State::AppDetach => return Err(HostError::RuntimeMode { state }),
            State::ManifestWaitReset => return Err(HostError::NotIdle { state }),
            State::Unknown(_) if self.unknown_clears < 2 => {
                self.unknown_clears += 1;
                Stage::Clear
            }
            State::Unknown(_) => return Err(HostError::NotIdle { state }),
        };
        self.requests = self.requests.saturating_add(1);
        if self.stage != Stage::Finished && self.requests > self.link.policy.max_connect_requests {
            return Err(HostError::NotIdle { state });
        }
        Ok(())
    }
}

impl Machine for Connect {
    fn action(&self) -> Action<'_> {
        let get_status = Action::In { setup: SetupPacket::get_status(self.link.interface) };
        match self.stage {
            Stage::Status => self.waiting.action(self.link.interface, get_status),
            Stage::Abort => Action::Out { setup: SetupPacket::abort(self.link.interface), data: &[] },
            Stage::Clear => Action::Out { setup: SetupPacket::clr_status(self.link.interface), data: &[] },
            Stage::Finished => Action::Finished,
        }
    }

    fn handle(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        let mut result = self.step(now, input);
        if result.is_ok() && self.cancelled && self.stage != Stage::Finished {
            result = Err(HostError::Cancelled { place: PLACE });
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
