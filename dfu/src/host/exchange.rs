//! One request and the status polling after it: what all host machines are made of.

use core::time::Duration;

use super::{Action, HostError, Input, Link, Place, Step};
use crate::{
    request::SetupPacket,
    state::State,
    status::{Status, StatusReply},
};

/// A request, then GETSTATUS until the device is no longer busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) place: Place,
    expected: State,
    phase: Phase,
    polls: u32,
    retries: u32,
    /// When the device first said that it is busy.
    since: Option<Duration>,
    last_wait: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The request itself.
    Request,
    /// GETSTATUS.
    Poll,
    /// Waiting before the next GETSTATUS.
    Wait { until: Duration },
    /// GETSTATUS after a stall.
    Cause,
    /// CLRSTATUS because of dfuERROR.
    Clear { state: State, status: Status },
    /// CLRSTATUS because the device would say busy for ever; so many are left.
    Free { left: u8 },
    /// GETSTATUS after that.
    Freed { left: u8 },
}

/// What an STM32F405 announces for a mass erase of many seconds.
const UNDERSTATED: Duration = Duration::from_millis(100);

impl Exchange {
    /// The request is expected to end in a state.
    pub(super) const fn new(place: Place, expected: State) -> Self {
        let last_wait = Duration::ZERO;
        Self { place, expected, phase: Phase::Request, polls: 0, retries: 0, since: None, last_wait }
    }

    pub(super) fn is_request(&self) -> bool {
        self.phase == Phase::Request
    }

    /// The request was acknowledged and its outcome is being asked for.
    pub(super) fn is_settling(&self) -> bool {
        matches!(self.phase, Phase::Poll | Phase::Wait { .. })
    }

    pub(super) fn is_polling(&self) -> bool {
        self.phase == Phase::Poll
    }

    /// Waits as the device asks, then polls again.
    pub(super) fn wait(&mut self, now: Duration, timeout: Duration, link: &Link) -> Result<(), HostError> {
        self.phase = Phase::Wait { until: self.busy(now, timeout, link)? };
        Ok(())
    }

    /// A reply that shows dfuERROR or another unwanted state.
    pub(super) fn give_up(&mut self, reply: StatusReply) -> Result<(), HostError> {
        self.refused(reply.state, reply.status).map(|_| ())
    }

    /// The action of this moment; `request` is the one of the first phase.
    pub(super) fn action<'a>(&self, interface: u8, request: Action<'a>) -> Action<'a> {
        match self.phase {
            Phase::Request => request,
            Phase::Poll | Phase::Cause => Action::In { setup: SetupPacket::get_status(interface) },
            Phase::Wait { until } => Action::Wait { until },
            Phase::Freed { .. } => Action::In { setup: SetupPacket::get_status(interface) },
            Phase::Clear { .. } | Phase::Free { .. } => {
                Action::Out { setup: SetupPacket::clr_status(interface), data: &[] }
            }
        }
    }

    /// Moves on; `Some` when the expected state is reached.
    pub(super) fn handle(
        &mut self,
        now: Duration,
        input: Input<'_>,
        link: &Link,
    ) -> Result<Option<StatusReply>, HostError> {
        let place = self.place;
        match (self.phase, input) {
            (Phase::Clear { state, status }, Input::OutDone | Input::Stalled | Input::TimedOut) => {
                Err(HostError::Refused { place, state, status })
            }
            (Phase::Clear { state, status }, Input::Disconnected) => {
                Err(HostError::Refused { place, state, status })
            }
            (_, Input::Disconnected) => Err(HostError::Disconnected { place }),
            (Phase::Request, Input::OutDone) => {
                self.phase = Phase::Poll;
                Ok(None)
            }
            (Phase::Request, Input::Stalled) => {
                self.phase = Phase::Cause;
                Ok(None)
            }
            (Phase::Poll, Input::InDone(bytes)) => self.judge(now, bytes, link),
            (Phase::Poll, Input::Stalled | Input::TimedOut)
                if self.polls > 0 && self.retries < link.quirks.busy_retries =>
            {
                self.retries += 1;
                self.phase = Phase::Wait { until: now.saturating_add(self.last_wait) };
                Ok(None)
            }
            (Phase::Poll, Input::Stalled) => {
                self.phase = Phase::Cause;
                Ok(None)
            }
            (Phase::Wait { until }, Input::TimeReached) => {
                // An early call is harmless: the same wait is shown again.
                if now >= until {
                    self.phase = Phase::Poll;
                }
                Ok(None)
            }
            (Phase::Cause, Input::InDone(bytes)) => {
                let reply = self.reply(bytes)?;
                self.refused(reply.state, reply.status)
            }
            (Phase::Cause, Input::Stalled) => Err(HostError::Stalled { place }),
            (Phase::Free { left }, Input::OutDone) => {
                self.phase = Phase::Freed { left: left.saturating_sub(1) };
                Ok(None)
            }
            (Phase::Freed { left }, Input::InDone(bytes)) => {
                let reply = self.reply(bytes)?;
                match (reply.state, left) {
                    // The erase counts as done: that is how the vendor's own tool ends it.
                    (State::Idle, _) => Ok(Some(reply)),
                    (state, 0) => self.refused(state, reply.status),
                    (_, left) => {
                        self.phase = Phase::Free { left };
                        Ok(None)
                    }
                }
            }
            (Phase::Free { .. } | Phase::Freed { .. }, Input::Stalled) => Err(HostError::Stalled { place }),
            (_, Input::TimedOut) => Err(HostError::TimedOut { place }),
            _ => Err(HostError::UnexpectedInput { place }),
        }
    }

    pub(super) fn reply(&self, bytes: &[u8]) -> Result<StatusReply, HostError> {
        StatusReply::parse(bytes).map_err(|source| HostError::BadReply { place: self.place, source })
    }

    fn judge(&mut self, now: Duration, bytes: &[u8], link: &Link) -> Result<Option<StatusReply>, HostError> {
        let reply = self.reply(bytes)?;
        match reply.state {
            // bState rules in dfuIDLE: Photons from v0.6.4 keep an old bStatus there.
            state if state == self.expected && (reply.status == Status::Ok || state == State::Idle) => {
                Ok(Some(reply))
            }
            State::DnBusy if self.is_stuck(link) => {
                self.phase = Phase::Free { left: 2 };
                Ok(None)
            }
            State::DnloadSync | State::DnBusy => {
                self.wait(now, reply.poll_timeout, link)?;
                Ok(None)
            }
            state => self.refused(state, reply.status),
        }
    }

    /// An erase that is still busy when its announced time is over, on a device that never says otherwise.
    fn is_stuck(&self, link: &Link) -> bool {
        let erase = matches!(self.place.step, Step::Erase | Step::MassErase);
        erase && link.quirks.stuck_after_erase && self.polls > 0
    }

    /// Counts a busy reply and says until when to wait.
    fn busy(&mut self, now: Duration, timeout: Duration, link: &Link) -> Result<Duration, HostError> {
        self.polls = self.polls.saturating_add(1);
        let policy = &link.policy;
        let mut timeout = link.quirks.poll_timeout.unwrap_or(timeout);
        if let (Step::MassErase, Some(real), UNDERSTATED) = (self.place.step, link.quirks.mass_erase, timeout)
        {
            timeout = real;
        }
        let since = *self.since.get_or_insert(now);
        if self.polls > policy.max_polls || now.saturating_sub(since) >= policy.max_busy {
            return Err(HostError::BusyTooLong { place: self.place, polls: self.polls });
        }
        let floor = if link.quirks.holds_status { Duration::ZERO } else { policy.busy_floor };
        self.last_wait = timeout.clamp(floor, policy.max_wait.max(floor));
        Ok(now.saturating_add(self.last_wait))
    }

    fn refused(&mut self, state: State, status: Status) -> Result<Option<StatusReply>, HostError> {
        if state == State::Error {
            self.phase = Phase::Clear { state, status };
            return Ok(None);
        }
        Err(HostError::Refused { place: self.place, state, status })
    }
}
