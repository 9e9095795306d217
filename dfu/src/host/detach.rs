//! From run-time to DFU mode.

use core::time::Duration;

use super::{Action, HostError, Input, Link, Machine, Place, Progress, Step};
use crate::{request::SetupPacket, state::State, status::StatusReply};

/// How a device came into DFU mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DetachOutcome {
    /// It already was in DFU mode; nothing was sent but GETSTATUS.
    AlreadyInDfuMode(State),
    /// It detached and was found again. Ids, serial number, interface number and alternates may all differ from before:
    /// read its descriptors anew.
    Detached,
}

/// Sends a device from its run-time application to DFU mode: GETSTATUS, DETACH, a bus reset unless the device says that
/// it will detach by itself (bitWillDetach), and then [`Action::FindAgain`].
///
/// Many applications stall GETSTATUS; they are taken for appIDLE. A device that disconnects during DETACH does what it
/// was asked for.
///
/// # Source
/// USB DFU 1.1, section 5.1; dfu-util 0.11: src/main.c.
#[derive(Debug, Clone)]
pub struct Detach {
    link: Link,
    stage: Stage,
    outcome: Option<DetachOutcome>,
    cancelled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Status,
    Detach,
    Reset,
    Find { until: Duration },
    Finished,
}

const PLACE: Place = Place { step: Step::Detach, block: 0, address: 0 };

impl Detach {
    /// A machine for a device in run-time mode; the link is made of its run-time descriptors.
    #[must_use]
    pub const fn new(link: Link) -> Self {
        Self { link, stage: Stage::Status, outcome: None, cancelled: false }
    }

    /// How it ended; `None` until then.
    #[must_use]
    pub const fn outcome(&self) -> Option<DetachOutcome> {
        self.outcome
    }

    /// wTimeout: the policy's, but not longer than the device can wait.
    fn timeout_ms(&self) -> u16 {
        let wanted = u16::try_from(self.link.policy.detach_timeout.as_millis()).unwrap_or(u16::MAX);
        match self.link.detach_timeout_ms {
            0 => wanted,
            longest => wanted.min(longest),
        }
    }

    /// DFU 1.0 has no bitWillDetach; whatever is in its place means nothing.
    fn will_detach(&self) -> bool {
        self.link.attributes.will_detach() && self.link.dfu_version != 0x0100
    }

    fn look(&mut self, now: Duration) {
        self.stage = Stage::Find { until: now.saturating_add(self.link.policy.reenumeration) };
    }

    fn step(&mut self, now: Duration, input: Input<'_>) -> Result<(), HostError> {
        let place = PLACE;
        match (self.stage, input) {
            (Stage::Status, Input::InDone(bytes)) => {
                let reply =
                    StatusReply::parse(bytes).map_err(|source| HostError::BadReply { place, source })?;
                self.stage = match reply.state {
                    State::AppIdle => Stage::Detach,
                    State::AppDetach => Stage::Reset,
                    state => {
                        self.outcome = Some(DetachOutcome::AlreadyInDfuMode(state));
                        Stage::Finished
                    }
                };
            }
            (Stage::Status, Input::Stalled | Input::TimedOut) => self.stage = Stage::Detach,
            (Stage::Detach, Input::OutDone) if !self.will_detach() => self.stage = Stage::Reset,
            // Some devices are gone before the request is complete.
            (Stage::Detach, Input::OutDone | Input::Disconnected | Input::TimedOut) => self.look(now),
            (Stage::Detach, Input::Stalled) => {
                return Err(HostError::Stalled { place });
            }
            (Stage::Reset, Input::BusReset | Input::Disconnected) => self.look(now),
            (Stage::Reset, Input::Unsupported) => return Err(HostError::ResetUnsupported { place }),
            (Stage::Find { .. }, Input::Found) => {
                self.outcome = Some(DetachOutcome::Detached);
                self.stage = Stage::Finished;
            }
            (Stage::Find { until }, Input::TimeReached) if now < until => {}
            (Stage::Find { .. }, Input::TimeReached | Input::Unsupported) => {
                return Err(HostError::NotFoundAgain);
            }
            (Stage::Status, Input::Disconnected) => return Err(HostError::Disconnected { place }),
            (Stage::Reset, Input::Stalled | Input::TimedOut) => return Err(HostError::TimedOut { place }),
            _ => return Err(HostError::UnexpectedInput { place }),
        }
        Ok(())
    }
}

impl Machine for Detach {
    fn action(&self) -> Action<'_> {
        let interface = self.link.interface;
        match self.stage {
            Stage::Status => Action::In { setup: SetupPacket::get_status(interface) },
            Stage::Detach => {
                Action::Out { setup: SetupPacket::detach(interface, self.timeout_ms()), data: &[] }
            }
            Stage::Reset => Action::ResetBus,
            Stage::Find { until } => Action::FindAgain { until },
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
