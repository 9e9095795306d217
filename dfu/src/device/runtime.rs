//! The run-time device: what an application does so that a host can bring it into DFU mode.

use core::time::Duration;

use super::{
    Event, Profile, Reaction, Stall,
    standard_requests::{self, Effect, copy},
};
use crate::{
    descriptor::{Description, FunctionalDescriptor, Mode},
    request::SetupPacket,
    state::State,
    status::{Status, StatusReply},
};

/// What an application does after DETACH. Both end the run-time mode: go on with a DFU-mode
/// [`Device`](super::Device).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RuntimeWork {
    /// bitWillDetach: disconnect from the bus and attach again in DFU mode, after the reply to DETACH was sent.
    Detach,
    /// The bus was reset in appDETACH: answer from now on in DFU mode.
    EnterDfuMode,
}

/// The DFU interface of a run-time application: appIDLE and appDETACH.
///
/// It answers class requests to its interface, and the standard requests of a device that has no other interface. In a
/// composite device hand over only the class requests whose wIndex is the interface number.
///
/// ```
/// use core::time::Duration;
/// use spark_dfu::{SetupPacket, descriptor::Description};
/// use spark_dfu::device::{Runtime, RuntimeWork};
///
/// let mut device = Runtime::new(Description::photon("1")); // 0x0B includes bitWillDetach
/// let now = Duration::ZERO;
/// device.control(now, &SetupPacket::detach(0, 1000).to_bytes(), &mut [])?;
/// assert_eq!(device.work(), Some(RuntimeWork::Detach));
/// # Ok::<(), spark_dfu::device::Stall>(())
/// ```
///
/// # Source
/// USB DFU 1.1, section 5 and appendix A.1.
#[derive(Debug, Clone)]
pub struct Runtime<'d> {
    description: Description<'d>,
    configuration: u8,
    state: State,
    until: Option<Duration>,
    work: Option<RuntimeWork>,
}

impl<'d> Runtime<'d> {
    /// An application in appIDLE. The description is taken as one of run-time mode, whatever its `mode` says.
    #[must_use]
    pub const fn new(description: Description<'d>) -> Self {
        let description = Description { mode: Mode::Runtime, ..description };
        Self { description, configuration: 0, state: State::AppIdle, until: None, work: None }
    }

    /// Answers one control transfer; `input` takes the IN data.
    ///
    /// # Errors
    /// [`Stall`]: send a protocol stall.
    pub fn control(&mut self, now: Duration, setup: &[u8; 8], input: &mut [u8]) -> Result<usize, Stall> {
        self.tick(now);
        if self.work == Some(RuntimeWork::EnterDfuMode) {
            // These requests are for the DFU-mode device.
            return Err(Stall);
        }
        let setup = SetupPacket::from_bytes(*setup);
        let cut = usize::from(setup.length).min(input.len());
        let input = input.get_mut(..cut).ok_or(Stall)?;
        match standard_requests::answer(&self.description, self.configuration, 0, 0, setup, input)? {
            Effect::Answer(len) => return Ok(len),
            Effect::Select(_) => return Ok(0),
            Effect::Configure(value) => {
                self.configuration = value;
                return Ok(0);
            }
            Effect::Class => {}
        }
        match self.reaction(Event::of(setup)) {
            Reaction::Report => {
                let reply = StatusReply {
                    status: Status::Ok,
                    poll_timeout: Duration::ZERO,
                    state: self.state,
                    string_index: 0,
                };
                Ok(copy(&reply.to_bytes(), input))
            }
            Reaction::Tell => Ok(copy(&[self.state.code()], input)),
            Reaction::Detach => {
                self.detach(now, setup.value);
                Ok(0)
            }
            Reaction::StallToAppIdle => {
                self.state = State::AppIdle;
                self.until = None;
                self.work = None;
                Err(Stall)
            }
            _ => Err(Stall),
        }
    }

    /// A USB reset.
    pub fn bus_reset(&mut self, now: Duration) {
        self.tick(now);
        self.configuration = 0;
        if self.reaction(Event::Reset) == Reaction::EnterDfu {
            self.until = None;
            self.work = Some(RuntimeWork::EnterDfuMode);
        }
    }

    /// What to do now, if anything. Ask after every [`control`](Self::control) and
    /// [`bus_reset`](Self::bus_reset). After [`RuntimeWork::EnterDfuMode`] every transfer is stalled.
    #[must_use]
    pub const fn work(&self) -> Option<RuntimeWork> {
        self.work
    }

    /// When the detach timer ends. Nothing has to be done then; it is for those who show the state.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Duration> {
        self.until
    }

    /// appIDLE or appDETACH.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// What the device tells about itself.
    #[must_use]
    pub const fn description(&self) -> &Description<'d> {
        &self.description
    }

    fn reaction(&self, event: Event) -> Reaction {
        Profile::STRICT.table(&self.description.functional).reaction(self.state, event)
    }

    fn tick(&mut self, now: Duration) {
        if self.until.is_some_and(|until| until <= now) && self.reaction(Event::Elapsed) == Reaction::AppIdle
        {
            self.until = None;
            self.state = State::AppIdle;
        }
    }

    fn detach(&mut self, now: Duration, wanted_ms: u16) {
        let functional = &self.description.functional;
        self.state = State::AppDetach;
        if will_detach(functional) {
            self.work = Some(RuntimeWork::Detach);
        } else {
            let wait = wanted_ms.min(functional.detach_timeout_ms);
            self.until = Some(now.saturating_add(Duration::from_millis(u64::from(wait))));
        }
    }
}

/// bitWillDetach, which DFU 1.0 does not have.
pub(super) fn will_detach(functional: &FunctionalDescriptor) -> bool {
    functional.dfu_version != FunctionalDescriptor::VERSION_1_0 && functional.attributes.will_detach()
}
