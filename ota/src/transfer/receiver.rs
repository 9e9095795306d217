//! The device's side of a transfer.

use super::bitmap::Bitmap;
use super::chunks::{MAX_CHUNKS, message_fits};
use super::profile::{IdleReaction, MAX_MISSED, Profile, ResultForm};
use crate::checksum::crc32;
use core::time::Duration;

/// What a device takes for a missing chunk size.
const DEFAULT_CHUNK_SIZE: u16 = 512;

/// The largest message buffer of any device.
const MAX_BUFFER: usize = 900;

/// What an `UpdateBegin` says. Zeros stand for the device's defaults, as in a message without payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Begin {
    /// The server offers fast mode.
    pub offers_fast: bool,
    /// Bytes per chunk.
    pub chunk_size: u16,
    /// Bytes of the image.
    pub file_length: u32,
    /// 0 firmware, 1 system storage, 128 application.
    pub store: u8,
    /// Offset into the OTA region; 0 for firmware.
    pub address: u32,
}

/// An update that is to run: [`Begin`] with the defaults filled in and all limits checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Plan {
    /// Bytes per chunk, not 0.
    pub chunk_size: u16,
    /// Bytes of the image, not 0; the whole region if the server did not say, and then the image tells its own length.
    pub file_length: u32,
    /// Chunks of the image.
    pub chunks: u16,
    /// Fast mode.
    pub fast: bool,
}

/// Why a device resets without an image to apply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ResetCause {
    /// The image is not valid, or the server ended the transfer before all of it was there.
    BadImage,
    /// No chunk came for the time of [`Profile::watch`].
    Stalled,
}

/// What the device has to do or say next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Output {
    /// Work: may this update run? Answer with [`Receiver::work_done`].
    Check(Plan),
    /// Say: `Begin` is taken.
    Accept,
    /// Say: `Begin` is refused, in the form of [`Profile::refusal`].
    Refuse,
    /// Work: erase the OTA region. Answer with [`Receiver::work_done`].
    Prepare(Plan),
    /// Say: ready.
    Ready {
        /// In fast mode.
        fast: bool,
    },
    /// Say: the chunk arrived (not: it is good).
    AcknowledgeChunk,
    /// Work: write the first `len` bytes of the chunk at hand to `offset` of the OTA region.
    /// Answer with [`Receiver::work_done`].
    Save {
        /// From the start of the region.
        offset: u32,
        /// Bytes; the padding of the last chunk is not among them.
        len: usize,
    },
    /// Say: the chunk is good, or damaged.
    ChunkReceived {
        /// Good.
        good: bool,
    },
    /// Work: validate the image. Answer with [`Receiver::work_done`]; then comes [`Output::Apply`] or
    /// [`Output::Reset`].
    Validate(Plan),
    /// Say: answer to `Done`.
    DoneAnswer {
        /// Nothing is missing.
        complete: bool,
        /// JSON in the form of [`Profile::result`]; empty if there is nothing to tell.
        result: &'static [u8],
    },
    /// Say: list the first `count` of [`Receiver::missing`].
    Missed {
        /// How many.
        count: u16,
    },
    /// Say: the device has everything.
    DoneByDevice {
        /// As in [`Output::DoneAnswer`].
        result: &'static [u8],
    },
    /// Work: apply the image, which is valid, and reset. The update is over; no answer is needed.
    Apply(Plan),
    /// Work: reset; what was written is not to be applied. Firmware resets after every update, good or bad. The update is
    /// over; no answer is needed.
    Reset {
        /// The update.
        plan: Plan,
        /// Why.
        cause: ResetCause,
    },
    /// The session has to be closed.
    CloseSession,
}

impl Output {
    const fn is_work(&self) -> bool {
        matches!(self, Self::Check(_) | Self::Prepare(_) | Self::Save { .. } | Self::Validate(_))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    /// Between `Begin` and `Ready`.
    Preparing,
    Receiving,
    Repairing,
    /// Between the last chunk and the end.
    Validating {
        by_device: bool,
    },
}

/// Receives one image after the other. `N` bytes of bitmap bound the number of chunks to `8 * N`.
///
/// Give one input, then poll outputs until `None`. After an output that is work, nothing more comes until
/// [`Receiver::work_done`].
#[derive(Clone, Debug)]
pub struct Receiver<const N: usize = 128> {
    profile: Profile,
    region_len: u32,
    state: State,
    plan: Plan,
    /// The server said how long the image is.
    knows_length: bool,
    bitmap: Bitmap<N>,
    /// The chunk at hand.
    current: u16,
    slow_index: u16,
    /// Chunk messages since `Begin` or the last `Done`.
    arrived: u32,
    last_chunk: Duration,
    /// When chunks were asked for again.
    asked: Duration,
    last_requested: u16,
    queue: [Option<Output>; 4],
    working: Option<Output>,
}

impl<const N: usize> Receiver<N> {
    /// A receiver for an OTA region of `region_len` bytes.
    #[must_use]
    pub const fn new(profile: Profile, region_len: u32) -> Self {
        Self {
            profile,
            region_len,
            state: State::Idle,
            plan: Plan { chunk_size: 0, file_length: 0, chunks: 0, fast: false },
            knows_length: false,
            bitmap: Bitmap::new(),
            current: 0,
            slow_index: 0,
            arrived: 0,
            last_chunk: Duration::ZERO,
            asked: Duration::ZERO,
            last_requested: 0,
            queue: [None; 4],
            working: None,
        }
    }

    /// The generation that this receiver behaves like.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// An update runs.
    #[must_use]
    pub fn is_updating(&self) -> bool {
        matches!(self.state, State::Receiving | State::Repairing)
    }

    /// The chunks that have not arrived, ascending.
    pub fn missing(&self) -> impl Iterator<Item = u16> + '_ {
        self.bitmap.missing()
    }

    /// The session ended: forgets a running update. Nothing of it can be resumed. `true` if there was one.
    pub fn abort(&mut self) -> bool {
        self.queue = [None; 4];
        self.working = None;
        core::mem::replace(&mut self.state, State::Idle) != State::Idle
    }

    /// `UpdateBegin`, at any time: what ran before is forgotten.
    pub fn handle_begin(&mut self, begin: Begin) {
        self.abort();
        match self.plan(begin) {
            Some(plan) => {
                self.plan = plan;
                self.knows_length = begin.file_length != 0;
                self.push(Output::Check(plan));
            }
            None => self.push(Output::Refuse),
        }
    }

    /// Fills in the defaults; `None` for what cannot be stored. Firmware takes some of that and writes astray.
    fn plan(&mut self, begin: Begin) -> Option<Plan> {
        let chunk_size = if begin.chunk_size == 0 { DEFAULT_CHUNK_SIZE } else { begin.chunk_size };
        let file_length = if begin.file_length == 0 { self.region_len } else { begin.file_length };
        let chunks = file_length.div_ceil(u32::from(chunk_size));
        let fits = file_length <= self.region_len && chunks <= MAX_CHUNKS;
        // Firmware has room for the message and the bits of the chunks in one buffer.
        let fits =
            fits && u16::try_from(chunks).is_ok_and(|chunks| message_fits(chunk_size, chunks, MAX_BUFFER));
        let chunks = u16::try_from(chunks).ok().filter(|_| fits && begin.store == 0 && begin.address == 0)?;
        self.bitmap.reset(chunks, false).then_some(Plan {
            chunk_size,
            file_length,
            chunks,
            fast: begin.offers_fast,
        })
    }

    /// A chunk with the CRC of its option; `index` only from fast chunks. Keep `data` for [`Output::Save`].
    pub fn handle_chunk(&mut self, now: Duration, index: Option<u16>, crc: u32, data: &[u8]) {
        if matches!(self.state, State::Validating { .. }) {
            return;
        }
        if !self.is_updating() {
            match self.profile.idle {
                IdleReaction::Acknowledge => self.push(Output::AcknowledgeChunk),
                IdleReaction::CloseSession => self.push(Output::CloseSession),
                IdleReaction::Silent => {}
            }
            return;
        }
        let slow = index.is_none();
        self.arrived = self.arrived.saturating_add(1);
        self.last_chunk = now;
        let position = index.unwrap_or(self.slow_index);
        if slow || self.profile.answers_fast_chunks {
            self.push(Output::AcknowledgeChunk);
        }
        // In slow mode firmware takes every chunk for one that is there.
        let is_there = !self.plan.fast || self.bitmap.is_set(position);
        if !slow && self.profile.drops_duplicates && is_there {
            return;
        }
        let Some(len) = self.len_of(position, data.len()).filter(|_| crc32(data) == crc) else {
            if slow {
                self.push(Output::ChunkReceived { good: false });
            }
            return;
        };
        self.current = position;
        let offset = u32::from(position) * u32::from(self.plan.chunk_size);
        self.push(Output::Save { offset, len });
        if slow || self.profile.answers_fast_chunks && self.state == State::Receiving {
            self.push(Output::ChunkReceived { good: true });
        }
    }

    /// Bytes of the image in a chunk of this length; `None` if no such chunk exists. Firmware writes any length.
    fn len_of(&self, position: u16, len: usize) -> Option<usize> {
        let start = u32::from(position) * u32::from(self.plan.chunk_size);
        let rest = self.plan.file_length.checked_sub(start).filter(|_| position < self.plan.chunks)?;
        let rest = usize::try_from(rest).unwrap_or(usize::MAX);
        let size = usize::from(self.plan.chunk_size);
        let wanted = rest.min(size);
        (wanted..=size).contains(&len).then_some(wanted)
    }

    /// `UpdateDone`. In slow mode nothing is ever asked for again, as every chunk was answered: if some of a known length
    /// are missing, the image is a bad one.
    pub fn handle_done(&mut self) {
        if matches!(self.state, State::Validating { .. }) {
            return;
        }
        if !self.is_updating() {
            self.push(Output::DoneAnswer { complete: true, result: &[] });
            if self.profile.idle == IdleReaction::CloseSession {
                self.push(Output::CloseSession);
            }
            return;
        }
        let is_missing = self.missing().next().is_some();
        if is_missing && self.plan.fast {
            self.push(Output::DoneAnswer { complete: false, result: &[] });
            self.ask();
            self.state = State::Repairing;
            return;
        }
        if is_missing && self.knows_length {
            self.tell(false, false);
            self.end(false);
        } else {
            self.validate(false);
        }
    }

    /// The word that all is there, before or after the validation.
    fn validate(&mut self, by_device: bool) {
        self.state = State::Validating { by_device };
        if self.profile.result == ResultForm::None {
            self.tell(by_device, true);
        }
        self.push(Output::Validate(self.plan));
    }

    fn tell(&mut self, by_device: bool, valid: bool) {
        let result = self.profile.result.json(valid);
        self.push(match by_device {
            true => Output::DoneByDevice { result },
            false => Output::DoneAnswer { complete: true, result },
        });
    }

    fn validated(&mut self, valid: bool) {
        let State::Validating { by_device } = self.state else { return };
        if self.profile.result != ResultForm::None {
            self.tell(by_device, valid);
        }
        self.end(valid);
    }

    fn end(&mut self, valid: bool) {
        self.state = State::Idle;
        let plan = self.plan;
        self.push(match valid {
            true => Output::Apply(plan),
            false => Output::Reset { plan, cause: ResetCause::BadImage },
        });
    }

    /// Lists missing chunks, as many as the profile allows.
    fn ask(&mut self) {
        let mut limit = u32::from(self.profile.missed_limit.min(MAX_MISSED));
        if self.profile.missed_scaled {
            limit = limit.min(self.arrived.saturating_add((self.arrived / 5).max(2)));
            self.arrived = 0;
        }
        let limit = u16::try_from(limit).unwrap_or(u16::MAX);
        let (count, last) = (1..=limit).zip(self.bitmap.missing()).last().unwrap_or((0, 0));
        self.last_requested = last;
        self.push(Output::Missed { count });
    }

    /// The next thing to do or say.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.working.is_some() {
            return None;
        }
        let output = self.queue[0].take();
        self.queue.rotate_left(1);
        if output.is_some_and(|output| output.is_work()) {
            self.working = output;
        }
        output
    }

    /// The work that was polled last is done, well or not.
    pub fn work_done(&mut self, now: Duration, ok: bool) {
        match self.working.take() {
            Some(Output::Check(plan)) => {
                self.push(if ok { Output::Accept } else { Output::Refuse });
                if ok {
                    self.state = State::Preparing;
                    self.push(Output::Prepare(plan));
                }
            }
            Some(Output::Prepare(plan)) if ok => {
                self.state = State::Receiving;
                self.slow_index = 0;
                self.arrived = 0;
                self.last_chunk = now;
                self.asked = now;
                self.push(Output::Ready { fast: plan.fast });
            }
            // Firmware says nothing in this case; the server's patience ends it.
            Some(Output::Prepare(_)) => self.state = State::Idle,
            Some(Output::Validate(_)) => self.validated(ok),
            Some(Output::Save { .. }) if ok => self.saved(),
            // Firmware ignores write errors. Here the chunk counts as damaged: it will be sent again.
            Some(Output::Save { .. }) => {
                for place in &mut self.queue {
                    match place {
                        Some(Output::ChunkReceived { good }) if !self.plan.fast => *good = false,
                        Some(Output::ChunkReceived { .. }) => *place = None,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn saved(&mut self) {
        self.bitmap.set(self.current);
        self.slow_index = self.current.saturating_add(1);
        if self.state != State::Repairing || !self.profile.self_driven_repair {
            return;
        }
        let lowest = self.missing().next();
        match lowest {
            None => self.validate(true),
            Some(lowest) if lowest > self.last_requested => self.ask(),
            Some(_) => {}
        }
    }

    /// When [`Receiver::handle_deadline`] has something to do: while an update runs.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let watch = self.is_updating().then(|| self.last_chunk.saturating_add(self.profile.watch));
        watch.into_iter().chain(self.repeats_at()).min()
    }

    /// In the repair of older generations.
    fn repeats_at(&self) -> Option<Duration> {
        // "More than", on a clock of milliseconds.
        let silence = self.profile.repeat_after?.saturating_add(Duration::from_millis(1));
        let since = self.last_chunk.max(self.asked);
        (self.state == State::Repairing).then(|| since.saturating_add(silence))
    }

    /// Ends an update whose chunks stopped to come, or asks for the missing ones again, if the deadline has come. Early calls
    /// are harmless.
    pub fn handle_deadline(&mut self, now: Duration) {
        if self.is_updating() && now >= self.last_chunk.saturating_add(self.profile.watch) {
            self.state = State::Idle;
            self.push(Output::Reset { plan: self.plan, cause: ResetCause::Stalled });
        } else if self.repeats_at().is_some_and(|deadline| now >= deadline) {
            self.asked = now;
            self.ask();
        }
    }

    /// An input gives at most four outputs, and every input is given only after the queue was drained.
    fn push(&mut self, output: Output) {
        if let Some(place) = self.queue.iter_mut().find(|place| place.is_none()) {
            *place = Some(output);
        }
    }
}
