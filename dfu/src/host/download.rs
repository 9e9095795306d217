//! Writing an image to a device by DfuSe, page by page.

mod blocks;
mod compare;

use core::time::Duration;

use super::{
    Action, EraseMode, HostError, Image, Input, Journal, JournalError, Link, Machine, Part, Parts, Place,
    Plan, PlanError, Progress, Step, Unit, Units, exchange::Exchange, reader::Reader,
};
use crate::{
    dfuse::{COMMAND_BLOCK, Command},
    request::SetupPacket,
    state::State,
};

/// Writes an image by a plan: one [`Unit`] (page) after the other is compared, erased, written and read back, as far as
/// the plan's options say so.
///
/// Blocks are numbered on from one SET_ADDRESS as far as numbers and erases allow, which saves half of the transfers of
/// tools that set the address for every block. Starts in dfuIDLE (see [`Connect`](super::Connect)) with the alternate
/// setting selected, ends in dfuIDLE. Nothing is retried: a page that was half written is erased again by the next job,
/// which may start at that page: see [`journal`](Self::journal).
///
/// ```
/// use spark_dfu::host::{Action, Download, Element, Link, Machine, Plan, WriteOptions};
/// use spark_dfu::{SetupPacket, descriptor::Description, layout::MemoryLayout};
/// let layout = MemoryLayout::parse(Description::PHOTON_ALTERNATES[0].as_bytes())?;
/// let image = Element { address: 0x080A_0000, data: &[0x55; 10_000] };
/// let plan = Plan::write(&layout, image.address, image.data.len(), WriteOptions::DEFAULT)?;
/// let download = Download::new(Link::PHOTON, &plan, image, [0; 4096])?;
/// let erase = Action::Out { setup: SetupPacket::dnload(0, 0, 5), data: &[0x41, 0x00, 0x00, 0x0A, 0x08] };
/// assert_eq!(download.action(), erase);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
/// ST AN3156, sections 4.3 and 5; pointer after an erase: recorded sessions with device-os@v0.5.3 and @v2.3.1.
#[derive(Clone)]
pub struct Download<'p, I, B> {
    link: Link,
    plan: Plan<'p>,
    image: I,
    /// One block; or the page that is kept, with the image laid over it.
    buffer: B,
    units: Units<'p>,
    unit: Unit,
    /// Number of the unit.
    number: u32,
    /// The buffer holds the whole unit.
    whole: bool,
    /// What is kept of the unit is in the buffer only.
    keeping: bool,
    /// The unit was erased in this job.
    blank: bool,
    /// What was read of the unit equals the image.
    equal: bool,
    parts: Parts<'p>,
    part: Part,
    /// Next address to write.
    at: u64,
    /// Length of the block at hand, filling included.
    block_len: u16,
    /// Where the address pointer stands, if that is known.
    pointer: Option<u32>,
    /// The device is in dfuIDLE, not in dfuDNLOAD-IDLE.
    idle: bool,
    stage: Stage,
    exchange: Exchange,
    reader: Reader,
    command: [u8; Command::MAX_LEN],
    command_len: u16,
    /// Bytes of the image in the units before this one.
    done: u64,
    /// Bytes of the image in this unit that are written.
    written_here: u64,
    /// Bytes of the image in this unit that are read back.
    verified_here: u64,
    journal: Journal,
    /// Goes on where another job stopped, which had completed so many units.
    resumed: Option<u32>,
    cancelled: bool,
    /// There is no unit left.
    complete: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    MassErase,
    Compare,
    Erase,
    SetAddress,
    Write,
    Verify,
    Abort,
    Finished,
}

/// Without the image: it may be a private key.
impl<I, B> core::fmt::Debug for Download<'_, I, B> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Download")
            .field("unit", &self.unit)
            .field("at", &self.at)
            .field("done", &self.done)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl<'p, I: Image, B: AsRef<[u8]> + AsMut<[u8]>> Download<'p, I, B> {
    /// A download of `image`, which must have the bytes that the plan was made for. `buffer` has at least
    /// [`Plan::buffer_len`] bytes.
    ///
    /// # Errors
    /// [`PlanError::NoTransferSize`], [`PlanError::BufferTooSmall`].
    pub fn new(link: Link, plan: &Plan<'p>, image: I, buffer: B) -> Result<Self, PlanError> {
        if link.block_size() == 0 {
            return Err(PlanError::NoTransferSize);
        }
        let (needed, available) = (plan.buffer_len(link.block_size()), buffer.as_ref().len());
        if available < needed {
            return Err(PlanError::BufferTooSmall { needed, available });
        }
        if plan.options().erase == EraseMode::Mass && link.quirks.mass_erase_is_void {
            return Err(PlanError::NoMassErase);
        }
        let unit = Unit { start: plan.start(), size: 0, erase: false };
        let part = Part { address: unit.start, len: 0 };
        let place = Place { step: Step::Abort, block: 0, address: unit.start };
        let mut machine = Self {
            link,
            plan: *plan,
            image,
            buffer,
            units: plan.units(),
            unit,
            number: 0,
            whole: false,
            keeping: false,
            blank: false,
            equal: true,
            parts: plan.parts(&unit),
            part,
            at: 0,
            block_len: 0,
            pointer: None,
            idle: true,
            stage: Stage::Finished,
            exchange: Exchange::new(place, State::Idle),
            reader: Reader::new(part, Step::Read),
            command: [0; Command::MAX_LEN],
            command_len: 0,
            done: 0,
            written_here: 0,
            verified_here: 0,
            journal: Journal::start(plan),
            resumed: None,
            cancelled: false,
            complete: false,
        };
        if plan.options().erase == EraseMode::Mass {
            machine.command(Stage::MassErase, Step::MassErase, Command::MassErase);
        } else {
            machine.begin_unit();
            machine.set_first_address();
        }
        Ok(machine)
    }

    /// Goes on where another job with the same plan stopped, at the beginning of the unit that it was at. A plan that
    /// verifies takes nothing on trust: it compares the units before, too, and writes what is not as it should be.
    ///
    /// # Errors
    /// [`JournalError`] if the journal belongs to another plan, or the job stopped inside a page of which a part was to be
    /// kept: see [`kept_page`](Self::kept_page).
    pub fn resume(mut self, journal: &Journal) -> Result<Self, JournalError> {
        journal.check(&self.plan)?;
        if journal.units() == 0 && !journal.is_mass_erased() {
            return Ok(self);
        }
        let units = journal.units();
        let mut rest = self.plan.units();
        let mut done = 0;
        for _ in 0..units {
            let unit = rest.next().ok_or(JournalError::TooFar { units })?;
            done += self.plan.bytes_below(&unit, unit.end());
        }
        self.journal = *journal;
        self.resumed = Some(units);
        if self.plan.options().verify {
            self.units = self.plan.units();
        } else {
            (self.units, self.number, self.done) = (rest, units, done);
        }
        self.begin_unit();
        self.set_first_address();
        Ok(self)
    }

    /// A page that is erased, or about to be, and of which a part is kept, with all that it has to hold in the end. Until
    /// the page is complete its content is here only: save it before the action at hand is done if the host may fail.
    #[must_use]
    pub fn kept_page(&self) -> Option<(Unit, &[u8])> {
        if !self.keeping {
            return None;
        }
        let len = usize::try_from(self.unit.size).unwrap_or(usize::MAX);
        Some((self.unit, self.buffer.as_ref().get(..len)?))
    }

    /// How far the job is, to go on from in another one: keep it when a [`Progress`] comes, or after an error.
    ///
    /// `image` is any number that tells images and devices apart, such as a CRC over both; [`resume`](Self::resume) wants a
    /// journal of the same plan, the caller checks the image with [`Journal::image`].
    #[must_use]
    pub const fn journal(&self, image: u32) -> Journal {
        self.journal.with_image(image)
    }

    /// Bytes of the image that are on the device.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.done + self.written_here
    }

    /// Bytes of the image.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.plan.total()
    }

    fn begin(&mut self, stage: Stage, step: Step, block: u16, address: u32) {
        self.stage = stage;
        let expected = if stage == Stage::Abort { State::Idle } else { State::DnloadIdle };
        self.exchange = Exchange::new(Place { step, block, address }, expected);
    }

    fn command(&mut self, stage: Stage, step: Step, command: Command) {
        self.command = command.to_array();
        self.command_len = if matches!(command, Command::MassErase) { 1 } else { 5 };
        let address = match command {
            Command::SetAddress(address) | Command::ErasePage(address) => address,
            _ => self.unit.start,
        };
        self.begin(stage, step, COMMAND_BLOCK, address);
    }

    fn begin_unit(&mut self) {
        let Some(unit) = self.units.next() else {
            self.complete = true;
            self.end();
            return;
        };
        self.unit = unit;
        self.at = unit.start.into();
        let options = *self.plan.options();
        let void = self.link.quirks.erase_is_void(self.link.alternate);
        // After a mass erase everything is blank, but for what an earlier job wrote since.
        let old = self.resumed.is_some_and(|units| self.number <= units);
        let mass = options.erase == EraseMode::Mass;
        self.blank = mass && !old && !void;
        self.unit.erase = !void && (unit.erase || mass && old && self.plan.is_erasable(&unit));
        self.whole = self.plan.keeps(&self.unit);
        self.equal = true;
        if self.whole || options.skip_equal || options.verify && self.resumed.is_some() {
            self.restart_parts();
            self.read_part(Stage::Compare);
        } else {
            self.after_compare();
        }
    }

    /// The very first block of a job: the image is not read before the device has answered once.
    fn set_first_address(&mut self) {
        if self.stage == Stage::Write {
            self.command(Stage::SetAddress, Step::SetAddress, Command::SetAddress(self.part.address));
        }
    }

    /// To dfuIDLE, then done.
    fn end(&mut self) {
        if self.idle || self.complete && self.plan.options().will_reset {
            self.stage = Stage::Finished;
        } else {
            let address = u32::try_from(self.at).unwrap_or(u32::MAX);
            self.begin(Stage::Abort, Step::Abort, 0, address);
        }
    }

    fn after_compare(&mut self) {
        self.journal.doubt(self.number);
        if self.unit.erase {
            if self.whole {
                self.keeping = true;
                self.journal.set_keeping();
            }
            self.command(Stage::Erase, Step::Erase, Command::ErasePage(self.unit.start));
        } else {
            self.begin_writing();
        }
    }

    fn begin_writing(&mut self) {
        self.restart_parts();
        self.at = self.part.address.into();
        self.stage = Stage::Write;
    }

    /// The parts to write and to read back: those of the image, or the whole unit where the rest of it is kept.
    fn restart_parts(&mut self) {
        self.parts = self.plan.parts(&self.unit);
        self.part = if self.whole {
            Part { address: self.unit.start, len: self.unit.size }
        } else {
            self.parts.next().unwrap_or(Part { address: self.unit.start, len: 0 })
        };
    }

    fn next_part(&mut self) -> bool {
        let next = if self.whole { None } else { self.parts.next() };
        self.part = next.unwrap_or(self.part);
        next.is_some()
    }

    fn finish_unit(&mut self) {
        self.done += self.plan.bytes_below(&self.unit, self.unit.end());
        (self.written_here, self.verified_here) = (0, 0);
        self.journal.complete(self.number);
        self.number = self.number.saturating_add(1);
        self.keeping = false;
        if self.cancelled && self.units.clone().next().is_some() {
            self.end();
        } else {
            self.begin_unit();
        }
    }

    fn step(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        match self.stage {
            Stage::Finished => Err(HostError::UnexpectedInput { place: self.exchange.place }),
            Stage::Compare | Stage::Verify => self.read(now, input),
            _ => {
                if self.goes_away(input) {
                    self.advance();
                    let progress = Progress::Written { done: self.written(), total: self.total() };
                    self.finish_unit();
                    return Ok(Some(progress));
                }
                if self.exchange.handle(now, input, &self.link)?.is_none() {
                    return Ok(None);
                }
                self.idle = self.stage == Stage::Abort;
                self.done_with_exchange()
            }
        }
    }

    /// The last block was taken by a device that resets itself then. A stall is no sign of that: failed flash work stalls,
    /// too.
    fn goes_away(&self, input: Input<'_>) -> bool {
        let last = self.written() + u64::from(self.image_bytes()) == self.total();
        self.plan.options().will_reset
            && self.stage == Stage::Write
            && last
            && self.exchange.is_settling()
            && matches!(input, Input::Disconnected | Input::TimedOut)
    }

    fn done_with_exchange(&mut self) -> Result<Option<Progress>, HostError> {
        let place = self.exchange.place;
        let stage = self.stage;
        let progress = match stage {
            Stage::MassErase => {
                self.journal.set_mass_erased();
                Some(Progress::MassErased)
            }
            Stage::Erase => {
                self.blank = true;
                self.pointer = self.link.quirks.erase_sets_pointer.then_some(self.unit.start);
                Some(Progress::Erased { address: self.unit.start, size: self.unit.size })
            }
            Stage::SetAddress => {
                self.pointer = Some(place.address);
                None
            }
            Stage::Write => {
                self.advance();
                Some(Progress::Written { done: self.written(), total: self.total() })
            }
            Stage::Abort => {
                self.stage = Stage::Finished;
                return Ok(None);
            }
            Stage::Compare | Stage::Verify | Stage::Finished => None,
        };
        if self.cancelled && !self.keeping {
            self.end();
            return Ok(progress);
        }
        match stage {
            Stage::MassErase => self.begin_unit(),
            Stage::Erase => self.begin_writing(),
            _ => self.stage = Stage::Write,
        }
        self.next_block()?;
        // Blank blocks that were skipped behind this one are on the device, too.
        Ok(match progress {
            Some(Progress::Written { .. }) => {
                Some(Progress::Written { done: self.written(), total: self.total() })
            }
            other => other,
        })
    }
}

impl<I: Image, B: AsRef<[u8]> + AsMut<[u8]>> Machine for Download<'_, I, B> {
    fn action(&self) -> Action<'_> {
        let interface = self.link.interface;
        let request = match self.stage {
            Stage::Compare | Stage::Verify => return self.reader.action(&self.link),
            Stage::MassErase | Stage::Erase | Stage::SetAddress => Action::Out {
                setup: SetupPacket::dnload(interface, COMMAND_BLOCK, self.command_len),
                data: self.command.get(..usize::from(self.command_len)).unwrap_or(&self.command),
            },
            Stage::Write => {
                let data = self.block();
                Action::Out {
                    setup: SetupPacket::dnload(interface, self.exchange.place.block, self.block_len),
                    data,
                }
            }
            Stage::Abort => Action::Out { setup: SetupPacket::abort(interface), data: &[] },
            Stage::Finished => return Action::Finished,
        };
        self.exchange.action(interface, request)
    }

    fn handle(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        let mut result = self.step(now, input);
        if result.is_ok() && self.stage == Stage::Finished && self.cancelled && !self.complete {
            result = Err(HostError::Cancelled { place: self.exchange.place });
        }
        if result.is_err() {
            self.stage = Stage::Finished;
        }
        result
    }

    fn cancel(&mut self) {
        self.cancelled = true;
    }
}
