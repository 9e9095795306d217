//! The device side: one function answers control transfers, memory work leaves as work items.
//!
//! ```text
//! SETUP (+ OUT data) ──> Device::control ──> IN data or STALL
//!                               │
//!                        Device::work ──> erase, program, manifest, leave ──> Device::work_done
//! ```
//!
//! After every [`Device::control`], and when [`Device::next_deadline`] has passed, ask [`Device::work`] until it gives
//! `None`. Each item is done by the owner of the memory, in its own time, and ended with [`Device::work_done`]. Requests
//! that arrive in between are answered: the device is in dfuDNBUSY or dfuMANIFEST then.
//!
//! [`Device`] is a device in DFU mode, with DfuSe or plain DFU as its bcdDFUVersion says. [`Runtime`] is the application
//! before: it takes DETACH. [`Table`] is what both look their reactions up in, and [`Profile`] the rest of what makes
//! one firmware differ from another.
//!
//! # Transition tables
//!
//! Rows are states, columns events, cells the next state; "stall" is a protocol stall, and a cell "stall, 10" has
//! status errSTALLEDPKT. An acknowledged request without data shows its next state only.
#![doc = include_str!("../../docs/transitions.md")]

mod access;
mod commands;
mod error;
mod memory;
mod plain;
mod profile;
mod reports;
mod runtime;
mod standard_requests;
mod table;

use core::time::Duration;

pub use error::{DeviceError, Stall};
pub use memory::{Memory, Work};
pub use profile::{AddressSpace, Failures, FixedPoll, Profile, Protocol, Rules, Statuses};
pub use runtime::{Runtime, RuntimeWork};
pub use table::{Event, Reaction, Table};

use crate::{
    descriptor::{Description, Mode},
    request::SetupPacket,
    state::State,
    status::Status,
};
use plain::Image;
use runtime::will_detach;
use standard_requests::{Effect, copy};

/// A device in DFU mode, with DfuSe or plain DFU.
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
    /// The next USB reset leaves DFU mode.
    leave_on_reset: bool,
    manifested: bool,
    /// Plain DFU: where the image stands.
    image: Image,
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
    ReadUnprotect { alternate: u8 },
    Program { alternate: u8, address: u32, len: usize },
    Manifest { alternate: u8, len: u64 },
}

impl Job {
    const fn alternate(self) -> u8 {
        match self {
            Self::Erase { alternate, .. }
            | Self::MassErase { alternate }
            | Self::ReadUnprotect { alternate }
            | Self::Program { alternate, .. }
            | Self::Manifest { alternate, .. } => alternate,
        }
    }

    fn work(self, block: &[u8]) -> Work<'_> {
        match self {
            Self::Erase { alternate, address } => Work::Erase { alternate, address },
            Self::MassErase { alternate } => Work::MassErase { alternate },
            Self::ReadUnprotect { alternate } => Work::ReadUnprotect { alternate },
            Self::Manifest { alternate, len } => Work::Manifest { alternate, len },
            Self::Program { alternate, address, len } => {
                Work::Program { alternate, address, data: block.get(..len).unwrap_or(block) }
            }
        }
    }
}

impl<'d, B: AsRef<[u8]> + AsMut<[u8]>> Device<'d, B> {
    /// What a host is asked to wait when work takes longer than announced.
    pub const OVERDUE_POLL: Duration = Duration::from_millis(10);

    /// A device after power-on, in dfuIDLE with alternate setting 0. The description is taken as one of DFU mode,
    /// whatever its `mode` says.
    ///
    /// # Errors
    /// [`DeviceError`] if the description has no transfer size, no alternates or (in DfuSe) a bad layout string, or if
    /// `block` is shorter than wTransferSize.
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
        if !(1..=Description::MAX_ALTERNATES).contains(&count) {
            return Err(DeviceError::Alternates { count });
        }
        let description = Description { mode: Mode::Dfu, ..description };
        if profile.protocol_of(&description.functional) == Protocol::DfuSe
            && let Some((alternate, source)) = description.bad_layout()
        {
            return Err(DeviceError::Layout { alternate, source });
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
            leave_on_reset: false,
            manifested: false,
            image: Image::default(),
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
        let max = self.profile.max_setting.unwrap_or_else(|| self.description.max_setting());
        let (configuration, alternate) = (self.configuration, self.alternate);
        match standard_requests::answer(&self.description, configuration, alternate, max, setup, input)? {
            Effect::Answer(len) => return Ok(len),
            Effect::Select(alternate) => {
                // By device-os the DFU state survives this, and hosts rely on it.
                self.alternate = alternate;
                return Ok(0);
            }
            Effect::Configure(value) => {
                self.restart(false);
                self.configuration = value;
                return Ok(0);
            }
            Effect::Class => {}
        }
        match self.reaction(Event::of(setup)) {
            Reaction::Error => Err(self.fail(self.profile.statuses.illegal_request)),
            Reaction::StallAndForget => {
                self.pending = None;
                Err(Stall)
            }
            Reaction::Stay => Ok(0),
            Reaction::LeaveOnReset => {
                self.leave_on_reset = true;
                Ok(0)
            }
            Reaction::Store => self.store(setup, output),
            Reaction::End => self.end(memory),
            Reaction::Read => self.read(memory, setup, length, input),
            Reaction::Idle => Ok(self.enter_idle(Status::Ok)),
            Reaction::IdleKeepStatus => Ok(self.enter_idle(self.status)),
            Reaction::Report => Ok(self.report(now, input)),
            Reaction::ReportBlock => self.report_block(now, memory, input),
            Reaction::ReportManifest => Ok(self.report_manifest(now, memory, input)),
            Reaction::Tell => Ok(copy(&[self.state.code()], input)),
            Reaction::Confuse => {
                let _ = self.fail(Status::Unknown);
                Ok(0)
            }
            _ => Err(Stall),
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
    /// A failure becomes dfuERROR with the given status ([`Status::Ok`] is read as errUNKNOWN), by the profile's
    /// [`Failures`].
    ///
    /// # Errors
    /// [`Stall`] with [`Failures::Stall`] after a failure: that firmware stalls the GETSTATUS it is still answering,
    /// and reports no error later. An embedder that has not finished the transfer stalls it; others ignore this.
    pub fn work_done(&mut self, now: Duration, result: Result<(), Status>) -> Result<(), Stall> {
        if core::mem::take(&mut self.void) {
            return Ok(());
        }
        self.begun = false;
        let job = self.job.take();
        if job.is_none() && self.leave_at.is_none_or(|at| at > now) {
            return Ok(());
        }
        let failed = match result {
            Ok(()) => None,
            Err(status) => {
                let status = self.profile.statuses.failed_work.unwrap_or(status);
                Some(if status == Status::Ok { Status::Unknown } else { status })
            }
        };
        match (failed, self.profile.failures) {
            (Some(status), Failures::Error) => {
                self.leave_at = None;
                let _ = self.fail(status);
                return Ok(());
            }
            (Some(_), Failures::Stall) if job.is_some() => {
                self.state = State::DnloadSync;
                return Err(Stall);
            }
            _ => {}
        }
        if job.is_none() {
            self.leave_at = None;
            self.manifested = true;
            self.manifest_is_over(State::Manifest);
            return Ok(());
        }
        match self.table().reaction(self.state, Event::Elapsed) {
            Reaction::Sync => self.state = State::DnloadSync,
            Reaction::Manifested => {
                self.manifested = true;
                self.manifest_is_over(self.state);
                let functional = &self.description.functional;
                // WinUSB cannot reset the bus, so a device that can detach does not wait for that.
                if self.state == State::ManifestWaitReset && will_detach(functional) {
                    self.leave_at = Some(now.saturating_add(self.profile.leave_delay));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A USB reset. Hosts send some while they enumerate, so dfuIDLE stays dfuIDLE. SET_CONFIGURATION does the same,
    /// but for a DETACH that waits for a reset.
    ///
    /// Alternate setting 0 is selected, outstanding work is forgotten (finish what was begun, the result is ignored),
    /// and the state follows the [`Table`]: by the standard an interrupted download becomes dfuERROR with errUSBR,
    /// dfuERROR stays, a pending leave and dfuMANIFEST-WAIT-RESET become [`Work::Leave`] at once.
    pub fn bus_reset(&mut self) {
        let leave = core::mem::take(&mut self.leave_on_reset);
        self.restart(leave);
    }

    fn restart(&mut self, leave: bool) {
        let reaction = self.reaction(Event::Reset);
        self.configuration = 0;
        self.alternate = 0;
        self.pending = None;
        self.image = Image::default();
        self.forget_job();
        if !self.profile.stale_poll_timeout {
            self.poll = Duration::ZERO;
        }
        if self.profile.reset_restores_pointer {
            self.pointer = self.profile.initial_pointer;
        }
        match reaction {
            Reaction::Leave => self.leave_at = Some(Duration::ZERO),
            _ if leave => self.leave_at = Some(Duration::ZERO),
            Reaction::UsbReset => drop(self.fail(Status::UsbReset)),
            Reaction::Idle => {
                self.state = State::Idle;
                if !self.profile.stale_status {
                    self.status = Status::Ok;
                }
            }
            _ => {}
        }
    }

    /// Enters dfuERROR for a reason that only the device knows: [`Status::Firmware`] when it starts because the
    /// application is damaged, [`Status::PowerOnReset`] after a power cut in a download, [`Status::Vendor`].
    pub fn report_error(&mut self, status: Status) {
        let _ = self.fail(status);
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

    /// Plain DFU: bytes of the image taken or given so far.
    #[must_use]
    pub const fn image_offset(&self) -> u64 {
        self.image.offset
    }

    /// What the device tells about itself.
    #[must_use]
    pub const fn description(&self) -> &Description<'d> {
        &self.description
    }

    /// The profile.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Plain DFU or DfuSe.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.profile.protocol_of(&self.description.functional)
    }

    /// The transition table in force.
    #[must_use]
    pub const fn table(&self) -> &'static Table {
        self.profile.table(&self.description.functional)
    }

    fn reaction(&self, event: Event) -> Reaction {
        self.table().reaction(self.state, event)
    }

    /// Transitions that happen by time alone: the end of a leave without work.
    fn tick(&mut self, now: Duration) {
        if self.state == State::Manifest && self.leave_at.is_some_and(|at| at <= now) {
            self.manifest_is_over(State::Manifest);
        }
    }

    fn manifest_is_over(&mut self, state: State) {
        if self.table().reaction(state, Event::Elapsed) == Reaction::Manifested {
            let tolerant = self.description.functional.attributes.manifestation_tolerant();
            self.state = if tolerant { State::ManifestSync } else { State::ManifestWaitReset };
        }
    }

    fn fail(&mut self, status: Status) -> Stall {
        self.state = State::Error;
        self.status = status;
        self.pending = None;
        self.image = Image::default();
        self.forget_job();
        self.call_leave_off();
        Stall
    }

    /// Firmwares that are past dfuMANIFEST leave whatever comes.
    const fn call_leave_off(&mut self) {
        if !self.profile.leaves_for_certain() {
            self.leave_at = None;
        }
    }

    fn forget_job(&mut self) {
        self.job = None;
        self.void |= core::mem::take(&mut self.begun);
    }

    fn enter_idle(&mut self, status: Status) -> usize {
        self.state = State::Idle;
        self.status = status;
        self.pending = None;
        self.image = Image::default();
        self.manifested = false;
        self.call_leave_off();
        0
    }

    /// Refuses in the manner of the profile: the standard's error, or a stall that changes nothing.
    fn refuse(&mut self, status: Status) -> Stall {
        if self.profile.reports_errors() { self.fail(status) } else { Stall }
    }

    fn store(&mut self, setup: SetupPacket, output: &[u8]) -> Result<usize, Stall> {
        let limit = usize::from(self.description.functional.transfer_size);
        let len = usize::from(setup.length);
        if self.state == State::Idle {
            self.image = Image::default();
        }
        let in_order = self.protocol() == Protocol::DfuSe || self.in_order(setup.value);
        // Particle's firmware overruns its buffer with wLength above wTransferSize; no profile repeats that.
        let fits = len <= limit
            && output.len() == len
            && in_order
            && self.description.functional.attributes.can_download();
        let target = if fits { self.block.as_mut().get_mut(..len) } else { None };
        let Some(target) = target else { return Err(self.refuse(self.profile.statuses.illegal_request)) };
        target.copy_from_slice(output);
        self.leave_on_reset = false;
        self.pending = Some(Pending { block: setup.value, len });
        self.state = State::DnloadSync;
        Ok(0)
    }

    /// The zero-length DNLOAD: the end of a plain download, or leaving DFU mode. Any block number will do.
    fn end<M: Memory + ?Sized>(&mut self, memory: &M) -> Result<usize, Stall> {
        if !self.description.functional.attributes.can_download() {
            return Err(self.refuse(self.profile.statuses.illegal_request));
        }
        if self.protocol() == Protocol::Plain && !memory.complete(self.alternate, self.image.offset) {
            return Err(self.fail(Status::NotDone));
        }
        self.pending = None;
        self.manifested = false;
        self.state = State::ManifestSync;
        Ok(0)
    }

    fn read<M: Memory + ?Sized>(
        &mut self,
        memory: &mut M,
        setup: SetupPacket,
        length: usize,
        input: &mut [u8],
    ) -> Result<usize, Stall> {
        let functional = &self.description.functional;
        if input.len() != length || setup.length > functional.transfer_size {
            return Err(self.refuse(self.profile.statuses.illegal_request));
        }
        if self.profile.reports_errors() && !functional.attributes.can_upload() {
            return Err(self.fail(self.profile.statuses.illegal_request));
        }
        self.leave_on_reset = false;
        match self.protocol() {
            Protocol::DfuSe => self.read_memory(memory, setup, length, input),
            Protocol::Plain => {
                if self.state == State::Idle {
                    self.image = Image::default();
                }
                self.read_plain(memory, setup, length, input)
            }
        }
    }
}
