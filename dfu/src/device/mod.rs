//! The device side: one function answers control transfers, memory work leaves as work items.
//!
//! ```text
//! SETUP (+ OUT data) ──> Device::control ──> IN data or STALL
//!                               │
//!                        Device::work ──> erase, program, leave ──> Device::work_done
//! ```
//!
//! After every [`Device::control`], and when [`Device::next_deadline`] has passed, ask [`Device::work`] until it gives
//! `None`. Each item is done by the owner of the memory, in its own time, and ended with [`Device::work_done`]. Requests
//! that arrive in between are answered: the device is in dfuDNBUSY then.

mod blocks;
mod memory;
mod profile;
mod standard_requests;
mod table;

use core::time::Duration;

pub use memory::{Memory, Work};
pub use profile::{FixedPoll, Profile, Rules};

use crate::{
    descriptor::Description,
    dfuse,
    layout::MemoryLayout,
    request::{Kind, SetupPacket},
    state::State,
    status::{Status, StatusReply},
};
use standard_requests::{Effect, copy};
use table::Reaction;

/// The device refuses the transfer: answer the setup packet with a protocol stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the device stalls this control transfer")]
pub struct Stall;

/// A device cannot be built from these parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The block buffer is shorter than wTransferSize.
    #[error("the block buffer holds {available} bytes but one block may have {needed}")]
    BlockBufferTooSmall {
        /// wTransferSize.
        needed: usize,
        /// Bytes of the buffer.
        available: usize,
    },
    /// wTransferSize is 0.
    #[error("a transfer size of 0 leaves no room for data")]
    NoTransferSize,
    /// There is no alternate setting, or more than 249.
    #[error("a device has 1 to 249 alternate settings, not {count}")]
    Alternates {
        /// Number of layout strings.
        count: usize,
    },
    /// An alternate setting has no usable layout string.
    #[error("the layout string of alternate setting {alternate} is invalid")]
    Layout {
        /// Number of the alternate setting.
        alternate: u8,
        /// What is wrong with it.
        #[source]
        source: crate::layout::LayoutError,
    },
}

/// A DFU-mode device with DfuSe.
///
/// `B` stores one block: `[u8; 4096]`, `&mut [u8]`, `Vec<u8>`. Nothing else is stored but a few words.
///
/// The whole job of an embedder, here with a memory that takes no time:
///
/// ```
/// use core::time::Duration;
/// use spark_dfu::{SetupPacket, State, StatusReply, descriptor::Description};
/// use spark_dfu::device::{Device, Memory, Profile, Work};
///
/// struct Ram([u8; 16384]);
/// impl Memory for Ram {
///     fn read(&mut self, _alternate: u8, address: u32, out: &mut [u8]) -> usize {
///         let from = self.0.get(address as usize..).unwrap_or_default();
///         let len = from.len().min(out.len());
///         out[..len].copy_from_slice(&from[..len]);
///         len
///     }
///     fn estimate(&self, _work: &Work<'_>) -> Duration {
///         Duration::from_millis(1)
///     }
/// }
///
/// let now = Duration::ZERO;
/// let mut ram = Ram([0; 16384]);
/// let mut device = Device::new(Description::photon("1"), Profile::STRICT, [0_u8; 4096])?;
/// let mut reply = [0; 4096];
/// let setup = SetupPacket::get_status(0).to_bytes();
/// let len = device.control(now, &mut ram, &setup, &[], &mut reply)?;
/// assert_eq!(StatusReply::parse(&reply[..len])?.state, State::Idle);
/// while let Some(work) = device.work(now) {
///     if let Work::Program { address, data, .. } = work {
///         ram.0[address as usize..][..data.len()].copy_from_slice(data);
///     }
///     let _ = device.work_done(now, Ok(()));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
/// USB DFU 1.1, appendix A; ST AN3156; profiles: see [`Profile`].
#[derive(Clone)]
pub struct Device<'d, B> {
    description: Description<'d>,
    profile: Profile,
    block: B,
    configuration: u8,
    alternate: u8,
    pointer: u32,
    state: State,
    status: Status,
    /// bwPollTimeout of the next reply.
    poll: Duration,
    pending: Option<Pending>,
    job: Option<Job>,
    /// The job was handed out.
    begun: bool,
    /// A job that was handed out is forgotten; its end is still to come and means nothing.
    void: bool,
    /// When the announced poll time is over.
    busy_until: Duration,
    leave_at: Option<Duration>,
    manifested: bool,
}

/// Without the block buffer: what passes through it may be a private key.
impl<B> core::fmt::Debug for Device<'_, B> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Device")
            .field("alternate", &self.alternate)
            .field("pointer", &self.pointer)
            .field("state", &self.state)
            .field("status", &self.status)
            .field("pending", &self.pending)
            .field("job", &self.job)
            .finish_non_exhaustive()
    }
}

/// A block that waits for GETSTATUS; its bytes are in the block buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pending {
    block: u16,
    len: usize,
}

/// Work handed out; the data of `Program` is in the block buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Erase { alternate: u8, address: u32 },
    MassErase { alternate: u8 },
    Program { alternate: u8, address: u32, len: usize },
}

impl Job {
    fn work(self, block: &[u8]) -> Work<'_> {
        match self {
            Self::Erase { alternate, address } => Work::Erase { alternate, address },
            Self::MassErase { alternate } => Work::MassErase { alternate },
            Self::Program { alternate, address, len } => {
                Work::Program { alternate, address, data: block.get(..len).unwrap_or(block) }
            }
        }
    }
}

impl<'d, B: AsRef<[u8]> + AsMut<[u8]>> Device<'d, B> {
    /// The reply to UPLOAD of block 0: get commands, set address, erase.
    pub const COMMANDS: [u8; 3] = [dfuse::GET_COMMANDS, dfuse::SET_ADDRESS, dfuse::ERASE];

    /// What a host is asked to wait when work takes longer than announced.
    pub const OVERDUE_POLL: Duration = Duration::from_millis(10);

    /// A device after power-on, in dfuIDLE with alternate setting 0.
    ///
    /// # Errors
    /// [`DeviceError`] if the description has no transfer size, no alternates or a bad layout string, or if `block`
    /// is shorter than wTransferSize.
    pub fn new(description: Description<'d>, profile: Profile, block: B) -> Result<Self, DeviceError> {
        let needed = usize::from(description.functional.transfer_size);
        let available = block.as_ref().len();
        let count = description.alternates.len();
        if needed == 0 {
            return Err(DeviceError::NoTransferSize);
        }
        if available < needed {
            return Err(DeviceError::BlockBufferTooSmall { needed, available });
        }
        if !(1..=249).contains(&count) {
            return Err(DeviceError::Alternates { count });
        }
        for (alternate, text) in (0..).zip(description.alternates) {
            MemoryLayout::parse(text.as_bytes())
                .map_err(|source| DeviceError::Layout { alternate, source })?;
        }
        Ok(Self {
            description,
            profile,
            block,
            configuration: 0,
            alternate: 0,
            pointer: profile.initial_pointer,
            state: State::Idle,
            status: Status::Ok,
            poll: Duration::ZERO,
            pending: None,
            job: None,
            begun: false,
            void: false,
            busy_until: Duration::ZERO,
            leave_at: None,
            manifested: false,
        })
    }

    /// Answers one control transfer: eight setup bytes and the OUT data give the number of bytes of IN data.
    ///
    /// `input` must hold at least wLength bytes up to wTransferSize, or the transfer is stalled; 4096 always suffices
    /// on a Photon. Its content is unspecified after a stall. `output` is the data stage of an OUT transfer, empty
    /// otherwise. `now` is the time since any fixed start.
    ///
    /// # Errors
    /// [`Stall`]: send a protocol stall. This is an answer, not a failure of the machine.
    pub fn control<M: Memory + ?Sized>(
        &mut self,
        now: Duration,
        memory: &mut M,
        setup: &[u8; 8],
        output: &[u8],
        input: &mut [u8],
    ) -> Result<usize, Stall> {
        self.tick(now);
        let setup = SetupPacket::from_bytes(*setup);
        let length = usize::from(setup.length);
        let cut = length.min(input.len());
        let input = input.get_mut(..cut).ok_or(Stall)?;
        if setup.kind() == Kind::Standard {
            let effect = standard_requests::answer(
                &self.description,
                self.configuration,
                self.alternate,
                setup,
                input,
            )?;
            return Ok(match effect {
                Effect::Answer(len) => len,
                Effect::Select(alternate) => {
                    // By device-os the DFU state survives this, and hosts rely on it.
                    self.alternate = alternate;
                    0
                }
                Effect::Configure(value) => {
                    self.bus_reset();
                    self.configuration = value;
                    0
                }
            });
        }
        if setup.kind() != Kind::Class || setup.index != 0 {
            return Err(Stall);
        }
        let request = setup.dfu_request();
        match table::reaction(self.profile.rules, self.state, request, setup) {
            Reaction::Fault => Err(self.fail(Status::StalledPacket)),
            Reaction::Refuse => Err(Stall),
            Reaction::Forget => {
                self.pending = None;
                Err(Stall)
            }
            Reaction::Ignore => Ok(0),
            Reaction::Store => self.store(setup, output),
            Reaction::Leave => self.begin_leave(),
            Reaction::Read => self.read(memory, setup, length, input),
            Reaction::ToIdle => Ok(self.enter_idle(Status::Ok)),
            Reaction::ToIdleKeepStatus => Ok(self.enter_idle(self.status)),
            Reaction::Report => self.report(now, memory, input),
            Reaction::Tell => Ok(copy(&[self.state.code()], input)),
            Reaction::Confuse => {
                let _ = self.fail(Status::Unknown);
                Ok(0)
            }
        }
    }

    /// Work that is due, the same item until [`work_done`](Self::work_done). Call it after every
    /// [`control`](Self::control), after the reply was sent, and when a deadline has passed.
    ///
    /// Every item that was given has to be ended, also after a bus reset: until then there is no other.
    #[must_use]
    pub fn work(&mut self, now: Duration) -> Option<Work<'_>> {
        if self.void {
            return None;
        }
        if let Some(job) = self.job {
            self.begun = true;
            return Some(job.work(self.block.as_ref()));
        }
        let due = self.leave_at.is_some_and(|at| at <= now);
        due.then_some(Work::Leave { address: self.pointer })
    }

    /// Ends the work item that [`work`](Self::work) gave. The end of an item that was forgotten meanwhile (by a bus
    /// reset, or a request that the standard punishes) means nothing; without an item nothing happens.
    ///
    /// A failure becomes dfuERROR with the given status ([`Status::Ok`] is read as errUNKNOWN).
    ///
    /// # Errors
    /// [`Stall`] in [`Rules::Stm32`] after a failure: that firmware stalls the GETSTATUS it is still answering, and
    /// reports no error later. An embedder that has not finished the transfer stalls it; others ignore this.
    pub fn work_done(&mut self, now: Duration, result: Result<(), Status>) -> Result<(), Stall> {
        if core::mem::take(&mut self.void) {
            return Ok(());
        }
        self.begun = false;
        if self.job.take().is_none() {
            if self.leave_at.is_some_and(|at| at <= now) {
                self.leave_at = None;
                self.manifested = true;
                let tolerant = self.description.functional.attributes.manifestation_tolerant();
                self.state = if tolerant { State::ManifestSync } else { State::ManifestWaitReset };
            }
            return Ok(());
        }
        self.state = State::DnloadSync;
        match (result, self.profile.rules) {
            (Ok(()), _) => Ok(()),
            (Err(_), Rules::Stm32) => Err(Stall),
            (Err(status), Rules::Strict) => {
                let status = if status == Status::Ok { Status::Unknown } else { status };
                let _ = self.fail(status);
                Ok(())
            }
        }
    }

    /// A USB reset. Hosts send some while they enumerate, so dfuIDLE stays dfuIDLE.
    ///
    /// Alternate setting 0 is selected, outstanding work is forgotten (finish what was begun, the result is ignored).
    /// [`Rules::Strict`]: an interrupted download becomes dfuERROR with errUSBR, dfuERROR stays, a pending leave
    /// happens at once, anything else becomes dfuIDLE, and the pointer is restored. [`Rules::Stm32`]: dfuIDLE.
    pub fn bus_reset(&mut self) {
        self.configuration = 0;
        self.alternate = 0;
        self.pending = None;
        self.forget_job();
        if !self.profile.stale_poll_timeout {
            self.poll = Duration::ZERO;
        }
        match (self.profile.rules, self.state) {
            (Rules::Stm32, _) => {
                self.state = State::Idle;
                if !self.profile.stale_status {
                    self.status = Status::Ok;
                }
            }
            (Rules::Strict, state) => {
                self.pointer = self.profile.initial_pointer;
                match state {
                    State::DnloadSync | State::DnBusy | State::DnloadIdle | State::ManifestSync => {
                        let _ = self.fail(Status::UsbReset);
                    }
                    State::Manifest | State::ManifestWaitReset => self.leave_at = Some(Duration::ZERO),
                    State::Error => {}
                    _ => self.state = State::Idle,
                }
            }
        }
    }

    /// When [`work`](Self::work) will have something to do by itself: the time to leave DFU mode.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Duration> {
        self.leave_at
    }

    /// The state as GETSTATE would tell it.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The status as GETSTATUS would tell it.
    #[must_use]
    pub const fn status(&self) -> Status {
        self.status
    }

    /// The selected alternate setting.
    #[must_use]
    pub const fn alternate(&self) -> u8 {
        self.alternate
    }

    /// The address pointer.
    #[must_use]
    pub const fn pointer(&self) -> u32 {
        self.pointer
    }

    /// What the device tells about itself.
    #[must_use]
    pub const fn description(&self) -> &Description<'d> {
        &self.description
    }

    /// Transitions that happen by time alone.
    fn tick(&mut self, now: Duration) {
        if self.state == State::Manifest && self.leave_at.is_some_and(|at| at <= now) {
            let tolerant = self.description.functional.attributes.manifestation_tolerant();
            self.state = if tolerant { State::ManifestSync } else { State::ManifestWaitReset };
        }
    }

    fn fail(&mut self, status: Status) -> Stall {
        self.state = State::Error;
        self.status = status;
        self.pending = None;
        self.forget_job();
        if self.profile.rules == Rules::Strict {
            self.leave_at = None;
        }
        Stall
    }

    fn forget_job(&mut self) {
        self.job = None;
        self.void |= core::mem::take(&mut self.begun);
    }

    fn enter_idle(&mut self, status: Status) -> usize {
        self.state = State::Idle;
        self.status = status;
        self.pending = None;
        if self.profile.rules == Rules::Strict {
            self.leave_at = None;
        }
        0
    }

    /// Refuses in the manner of the rules: the standard's error, or a stall that changes nothing.
    fn refuse(&mut self, status: Status) -> Stall {
        match self.profile.rules {
            Rules::Strict => self.fail(status),
            Rules::Stm32 => Stall,
        }
    }

    fn store(&mut self, setup: SetupPacket, output: &[u8]) -> Result<usize, Stall> {
        let limit = usize::from(self.description.functional.transfer_size);
        let len = usize::from(setup.length);
        // Particle's firmware overruns its buffer with wLength above wTransferSize; no profile repeats that.
        let fits =
            len <= limit && output.len() == len && self.description.functional.attributes.can_download();
        let target = if fits { self.block.as_mut().get_mut(..len) } else { None };
        let Some(target) = target else { return Err(self.refuse(Status::StalledPacket)) };
        target.copy_from_slice(output);
        self.pending = Some(Pending { block: setup.value, len });
        self.state = State::DnloadSync;
        Ok(0)
    }

    fn begin_leave(&mut self) -> Result<usize, Stall> {
        if !self.description.functional.attributes.can_download() {
            return Err(self.refuse(Status::StalledPacket));
        }
        self.pending = None;
        self.manifested = false;
        self.state = State::ManifestSync;
        Ok(0)
    }

    fn report<M: Memory + ?Sized>(
        &mut self,
        now: Duration,
        memory: &M,
        input: &mut [u8],
    ) -> Result<usize, Stall> {
        if !self.profile.stale_poll_timeout {
            self.poll = Duration::ZERO;
        }
        match (self.state, self.pending) {
            (State::DnloadSync, Some(pending)) => {
                self.pending = None;
                self.execute(now, memory, pending, input)
            }
            (State::DnloadSync, None) => {
                self.state = State::DnloadIdle;
                Ok(self.reply(self.state, input))
            }
            (State::DnBusy, _) => {
                let left = self.busy_until.saturating_sub(now);
                self.poll = if left.is_zero() { Self::OVERDUE_POLL } else { left };
                Ok(self.reply(State::DnBusy, input))
            }
            (State::ManifestSync, _) if self.manifested => {
                self.manifested = false;
                self.state = State::Idle;
                Ok(self.reply(State::Idle, input))
            }
            (State::ManifestSync, _) => {
                let delay = self.profile.leave_delay;
                if self.profile.rules == Rules::Strict {
                    // Asked again before the work was done: the time does not begin anew.
                    let at = *self.leave_at.get_or_insert(now.saturating_add(delay));
                    let left = at.saturating_sub(now);
                    self.poll = if left.is_zero() { Self::OVERDUE_POLL } else { left };
                    self.state = State::Manifest;
                } else {
                    self.leave_at = Some(now.saturating_add(delay));
                    self.state = State::ManifestWaitReset;
                }
                Ok(self.reply(self.profile.leave_reply, input))
            }
            (State::Manifest, _) => {
                self.poll = self.leave_at.unwrap_or(now).saturating_sub(now);
                Ok(self.reply(State::Manifest, input))
            }
            (state, _) => Ok(self.reply(state, input)),
        }
    }

    fn reply(&self, state: State, input: &mut [u8]) -> usize {
        let reply = StatusReply { status: self.status, poll_timeout: self.poll, state, string_index: 0 };
        copy(&reply.to_bytes(), input)
    }
}
