//! The server's side of a transfer.

use super::chunks::{Chunk, ChunkError, Chunks, message_fits};
use super::receiver::Begin;
use core::ops::Range;
use core::time::Duration;

/// Answer to `Begin` is awaited this long, three times …
const BEGIN_TIMEOUT: Duration = Duration::from_secs(6);
const BEGIN_TRIES: u8 = 4;
/// … and then this long once more; also after an acknowledgement, for the device may ask its application first.
const BEGIN_PATIENCE: Duration = Duration::from_secs(90);
/// Answer to a slow chunk.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(15);
/// Any answer over a link that repeats by itself: all its repetitions have gone out by then.
const LINK_PATIENCE: Duration = Duration::from_secs(90);
/// Answer to `Done`, and the list of missed chunks after it.
const DONE_TIMEOUT: Duration = Duration::from_secs(10);
const DONE_TRIES: u8 = 3;
/// A device asks for 50 chunks at the most; a longer list is served in parts, for the device asks again.
const REPAIR_LIST: usize = 64;

/// How to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Options {
    /// Bytes per chunk; devices of this family announce 512.
    pub chunk_size: u16,
    /// Offer fast mode; the device decides.
    pub offer_fast: bool,
    /// Fill the last chunk up with zeros.
    pub pad_last: bool,
    /// The device's message buffer: 800 bytes on Photon and P1, 640 on a Core.
    pub device_buffer: usize,
    /// How often one slow chunk may be answered with a bad CRC.
    pub bad_chunk_limit: u8,
    /// Chunks sent again in repair, in multiples of the number of chunks, before giving up.
    pub resend_factor: u8,
    /// The device's firmware tells the result of its validation: from 0.7.0 on. An answer without one then does not count,
    /// for a device that was reset in between says yes to an end that it knows nothing of.
    pub expects_result: bool,
}

impl Options {
    /// Fits Photon and P1 of any firmware.
    pub const DEFAULT: Self = Self {
        chunk_size: 512,
        offer_fast: true,
        pad_last: true,
        device_buffer: 800,
        bad_chunk_limit: 5,
        resend_factor: 4,
        expects_result: false,
    };
}

impl Default for Options {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why a transfer cannot begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SenderError {
    /// The image cannot be cut.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The image is longer than the length field can say.
    #[error("image of {len} bytes is longer than 4 GiB")]
    TooLong {
        /// Bytes of the image.
        len: usize,
    },
    /// Chunks larger than any device takes.
    #[error("chunks of {chunk_size} bytes: at most {limit} fit a message")]
    ChunkSize {
        /// Bytes per chunk.
        chunk_size: u16,
        /// The limit.
        limit: u16,
    },
    /// The device cannot hold a chunk message.
    #[error(
        "{chunks} chunks of {chunk_size} bytes do not fit the device's buffer of {buffer} bytes: take smaller chunks"
    )]
    Buffer {
        /// Bytes per chunk.
        chunk_size: u16,
        /// Number of chunks.
        chunks: u16,
        /// The device's buffer.
        buffer: usize,
    },
}

/// What came from the device, already found to belong to what was sent last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Input<'a> {
    /// `Begin` was acknowledged; the device prepares.
    BeginAccepted,
    /// `Begin` was answered with an error code (CoAP, 4.xx or 5.xx).
    BeginRefused {
        /// The code byte.
        code: u8,
    },
    /// The device is ready.
    Ready {
        /// It agrees to fast mode.
        fast: bool,
    },
    /// The slow chunk that was sent last.
    ChunkReceived {
        /// Its CRC was right.
        good: bool,
    },
    /// An answer to the first sending of a slow chunk that was sent again: if it was good, the device has counted the
    /// chunk twice.
    LateChunkReceived {
        /// Its CRC was right.
        good: bool,
    },
    /// Answer to `Done`.
    DoneAnswered {
        /// Nothing is missing.
        complete: bool,
        /// JSON result, may be empty.
        result: &'a [u8],
    },
    /// Big-endian 16-bit indices of missed chunks.
    Missed {
        /// The list; an odd byte at its end is ignored.
        indices: &'a [u8],
    },
    /// The device announced the end by itself.
    DoneByDevice {
        /// JSON result, may be empty.
        result: &'a [u8],
    },
}

/// What to send next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Output<'a> {
    /// Begin.
    Begin(Begin),
    /// A chunk; with its index in fast mode.
    Chunk {
        /// The chunk.
        chunk: Chunk<'a>,
        /// Fast mode.
        fast: bool,
    },
    /// All chunks were sent.
    Done,
}

/// How far a transfer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Progress {
    /// Fast mode was agreed.
    pub fast: bool,
    /// Chunks of the image.
    pub chunks: u16,
    /// Chunks that were sent for the first time (fast) or answered (slow).
    pub sent: u16,
    /// Chunks that were sent again.
    pub resent: u32,
    /// Lists of missed chunks that came.
    pub repairs: u32,
}

/// The device has the image, it says. It will reset now; the next Hello and Describe tell whether it took it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Success {
    /// The device announced the end by itself.
    pub by_device: bool,
    /// It said that the image is good. Firmware up to 0.6.4 says nothing, and neither does a device that was reset and has
    /// lost the update: then only its next Hello tells.
    pub confirmed: bool,
}

/// Why a transfer failed. Before protocol v3 nothing is resumed: start again with chunk 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Failure {
    /// No answer to `Begin`.
    #[error("the device did not answer the start of the update")]
    BeginUnanswered,
    /// The device acknowledged and then did not get ready: its application refused, or erasing failed.
    #[error("the device took the start of the update and then did not get ready")]
    NeverReady,
    /// The device refused.
    #[error("the device refused the update with code {}.{:02}", code >> 5, code & 0x1f)]
    Refused {
        /// The code byte.
        code: u8,
    },
    /// One chunk was answered with a bad CRC again and again.
    #[error("chunk {index} was reported damaged {times} times")]
    ChunkDamaged {
        /// Its index.
        index: u16,
        /// How often.
        times: u8,
    },
    /// A slow chunk was not answered. It is sent again where the link does not do that, but only one chunk of a transfer,
    /// for nobody knows then what the device has counted.
    #[error("the device did not answer chunk {index}")]
    ChunkUnanswered {
        /// Its index.
        index: u16,
    },
    /// The device counted a chunk twice, so everything behind it would land in the wrong place.
    #[error("the device counted chunk {index} twice")]
    OutOfStep {
        /// Its index.
        index: u16,
    },
    /// No answer to `Done`.
    #[error("the device did not answer the end of the update")]
    DoneUnanswered,
    /// The device says again and again that chunks are missing and names none.
    #[error("the device says that chunks are missing and does not name them")]
    NothingNamed,
    /// The link loses more than repair can mend.
    #[error("{resent} chunks were sent again and some are still missing")]
    TooManyResends {
        /// How many.
        resent: u32,
    },
    /// The end was answered without a result, though the firmware gives one: the device has probably lost the update
    /// in a reset. If it has applied it all the same, its next Hello tells.
    #[error("the device took the end of the update and did not say what came of it")]
    Unconfirmed,
    /// The device has all chunks and found the image invalid.
    #[error("the device has the image and refused it")]
    ImageRefused,
    /// The caller gave up.
    #[error("the update was cancelled")]
    Cancelled,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Begin {
        tries: u8,
        accepted: bool,
    },
    Slow {
        index: u16,
        bad: u8,
    },
    Fast {
        next: u16,
    },
    Repair {
        position: usize,
    },
    Done {
        tries: u8,
    },
    /// `Done` was answered with "incomplete"; the list should follow.
    Incomplete {
        tries: u8,
    },
    /// `Done` was answered without the result that is expected: one that was sent before may follow.
    Unconfirmed,
    Ended(Result<Success, Failure>),
}

/// Sends one image. Give inputs, then poll outputs until `None`; in fast mode the caller sets the pace by polling.
///
/// The pace matters: when `Done` is polled, a clock of three times 10 s begins, and the answer comes only after all chunks
/// before it. What waits in a socket's buffer at that time has to be through by then, or the transfer fails on a slow link:
/// 64 KiB at 20 kbit/s are 26 s. Poll when the socket can take more, and keep its buffer small.
///
/// `I` is whatever holds the image: `&[u8]`, `Vec<u8>`, `Arc<[u8]>`.
#[derive(Clone)]
pub struct Sender<I> {
    chunks: Chunks<I>,
    options: Options,
    state: State,
    /// The state has something to send.
    due: bool,
    deadline: Option<Duration>,
    /// Who sends messages repeats them until they have arrived.
    link_repeats: bool,
    /// The slow chunk that was sent again after silence.
    repeated: Option<u16>,
    repair: [u16; REPAIR_LIST],
    repair_len: usize,
    progress: Progress,
}

impl<I: AsRef<[u8]>> Sender<I> {
    /// Checks the whole job.
    ///
    /// # Errors
    /// [`SenderError`], before anything is sent.
    pub fn new(image: I, options: Options) -> Result<Self, SenderError> {
        let len = image.as_ref().len();
        let chunks = Chunks::new(image, options.chunk_size, options.pad_last)?;
        if u32::try_from(len).is_err() {
            return Err(SenderError::TooLong { len });
        }
        let (chunk_size, count, buffer) = (options.chunk_size, chunks.count(), options.device_buffer);
        if !message_fits(chunk_size, count, buffer) {
            return Err(SenderError::Buffer { chunk_size, chunks: count, buffer });
        }
        Ok(Self {
            progress: Progress { chunks: count, ..Progress::default() },
            chunks,
            options,
            state: State::Begin { tries: 0, accepted: false },
            due: true,
            deadline: None,
            link_repeats: false,
            repeated: None,
            repair: [0; REPAIR_LIST],
            repair_len: 0,
        })
    }

    /// What it was made with.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// How far it is.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        self.progress
    }

    /// The result, once there is one.
    #[must_use]
    pub const fn outcome(&self) -> Option<Result<Success, Failure>> {
        match self.state {
            State::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Gives up. The protocol has no message for it; close the connection or let the device's 30 s watch end it.
    pub fn cancel(&mut self) {
        self.fail(Failure::Cancelled);
    }

    /// Over a link that repeats messages until they have arrived, nothing is sent twice here, and answers are waited for
    /// longer. Not so from the start, as over TCP.
    pub const fn set_link_repeats(&mut self, repeats: bool) {
        self.link_repeats = repeats;
    }

    /// Takes what the device said. Inputs that do not fit the state are ignored, as late answers must be.
    pub fn handle_input(&mut self, now: Duration, input: Input<'_>) {
        match (self.state, input) {
            (State::Begin { tries, .. }, Input::BeginAccepted) => {
                self.state = State::Begin { tries, accepted: true };
                self.due = false;
                self.wait(now, BEGIN_PATIENCE);
            }
            (State::Begin { .. }, Input::BeginRefused { code }) => self.fail(Failure::Refused { code }),
            (State::Begin { .. }, Input::Ready { fast }) => {
                self.progress.fast = fast && self.options.offer_fast;
                self.enter(if self.progress.fast {
                    State::Fast { next: 0 }
                } else {
                    State::Slow { index: 0, bad: 0 }
                });
            }
            (State::Slow { index, .. }, Input::ChunkReceived { good: true }) => {
                self.progress.sent = index + 1;
                self.enter(if index + 1 == self.chunks.count() {
                    State::Done { tries: 0 }
                } else {
                    State::Slow { index: index + 1, bad: 0 }
                });
            }
            (State::Slow { index, bad }, Input::ChunkReceived { good: false }) => {
                let times = bad.saturating_add(1);
                if times > self.options.bad_chunk_limit {
                    return self.fail(Failure::ChunkDamaged { index, times });
                }
                self.progress.resent = self.progress.resent.saturating_add(1);
                self.enter(State::Slow { index, bad: times });
            }
            (
                State::Slow { .. } | State::Done { .. } | State::Incomplete { .. } | State::Unconfirmed,
                Input::LateChunkReceived { good: true },
            ) => {
                if let Some(index) = self.repeated {
                    self.fail(Failure::OutOfStep { index });
                }
            }
            (
                State::Done { .. } | State::Incomplete { .. } | State::Unconfirmed,
                Input::DoneAnswered { complete: true, result },
            ) => {
                if self.options.expects_result && is_good(result).is_none() {
                    self.state = State::Unconfirmed;
                    self.due = false;
                    self.wait(now, DONE_TIMEOUT);
                } else {
                    self.end(result, false);
                }
            }
            (State::Done { tries }, Input::DoneAnswered { complete: false, .. }) => {
                self.state = State::Incomplete { tries };
                self.due = false;
                self.await_answer(now, DONE_TIMEOUT);
            }
            // In slow mode every chunk was answered, so none can be missing.
            (State::Done { tries } | State::Incomplete { tries }, Input::Missed { indices })
                if self.progress.fast =>
            {
                self.repair(indices, tries);
            }
            (State::Repair { .. }, Input::Missed { indices }) => self.repair(indices, 0),
            (
                State::Fast { .. }
                | State::Done { .. }
                | State::Incomplete { .. }
                | State::Repair { .. }
                | State::Unconfirmed,
                Input::DoneByDevice { result },
            ) => self.end(result, true),
            _ => {}
        }
    }

    /// Takes up to `most` chunks that are to be sent for the first time in fast mode, all at once, and says which: look at
    /// them with [`Sender::chunk`]. A last chunk with padding is left to [`Sender::poll_output`], as is all else.
    pub fn poll_fast_chunks(&mut self, most: u16) -> Range<u16> {
        let State::Fast { next } = self.state else { return 0..0 };
        let count = self.chunks.count();
        let whole = count - u16::from(self.chunks.get(count - 1).is_none_or(|last| last.padding > 0));
        let end = next.saturating_add(most).min(whole).max(next);
        self.progress.sent = self.progress.sent.max(end);
        self.state = State::Fast { next: end };
        next..end
    }

    /// A chunk of the image.
    #[must_use]
    pub fn chunk(&self, index: u16) -> Option<Chunk<'_>> {
        self.chunks.get(index)
    }

    /// What to send next, `None` if nothing is due.
    pub fn poll_output(&mut self, now: Duration) -> Option<Output<'_>> {
        if !self.due {
            return None;
        }
        // The last chunk of a list is followed by `Done`.
        match self.state {
            State::Fast { next } if next == self.chunks.count() => self.enter(State::Done { tries: 0 }),
            State::Repair { position } if position >= self.repair_len => self.enter(State::Done { tries: 0 }),
            _ => {}
        }
        match self.state {
            State::Begin { tries, accepted } => {
                let tries = tries + 1;
                self.state = State::Begin { tries, accepted };
                self.due = false;
                let patient = self.link_repeats || tries >= BEGIN_TRIES;
                self.wait(now, if patient { BEGIN_PATIENCE } else { BEGIN_TIMEOUT });
                Some(Output::Begin(Begin {
                    offers_fast: self.options.offer_fast,
                    chunk_size: self.options.chunk_size,
                    // `new` refused what does not fit.
                    file_length: u32::try_from(self.chunks.image().len()).unwrap_or(u32::MAX),
                    store: 0,
                    address: 0,
                }))
            }
            State::Slow { index, .. } => {
                self.due = false;
                self.await_answer(now, CHUNK_TIMEOUT);
                self.chunks.get(index).map(|chunk| Output::Chunk { chunk, fast: false })
            }
            State::Fast { next } => {
                self.progress.sent = next + 1;
                self.state = State::Fast { next: next + 1 };
                self.chunks.get(next).map(|chunk| Output::Chunk { chunk, fast: true })
            }
            State::Repair { position } => {
                self.progress.resent = self.progress.resent.saturating_add(1);
                self.state = State::Repair { position: position + 1 };
                let index = self.repair.get(position).copied()?;
                self.chunks.get(index).map(|chunk| Output::Chunk { chunk, fast: true })
            }
            State::Done { tries } => {
                self.state = State::Done { tries: tries + 1 };
                self.due = false;
                self.await_answer(now, DONE_TIMEOUT);
                Some(Output::Done)
            }
            State::Incomplete { .. } | State::Unconfirmed | State::Ended(_) => None,
        }
    }

    /// When [`Sender::handle_deadline`] has something to do.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Tries again or gives up if the deadline has come. Early calls are harmless.
    pub fn handle_deadline(&mut self, now: Duration) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.state {
            State::Begin { accepted: true, .. } => self.fail(Failure::NeverReady),
            State::Begin { tries, .. } if tries >= BEGIN_TRIES || self.link_repeats => {
                self.fail(Failure::BeginUnanswered);
            }
            State::Begin { .. } => self.due = true,
            State::Slow { index, .. } if self.link_repeats || self.repeated.is_some() => {
                self.fail(Failure::ChunkUnanswered { index });
            }
            State::Slow { index, bad } => {
                self.progress.resent = self.progress.resent.saturating_add(1);
                self.repeated = Some(index);
                self.enter(State::Slow { index, bad });
            }
            State::Done { .. } if self.link_repeats => self.fail(Failure::DoneUnanswered),
            State::Done { tries } | State::Incomplete { tries } if tries >= DONE_TRIES => {
                self.fail(Failure::DoneUnanswered);
            }
            State::Done { tries } | State::Incomplete { tries } => self.enter(State::Done { tries }),
            State::Unconfirmed => self.fail(Failure::Unconfirmed),
            State::Fast { .. } | State::Repair { .. } | State::Ended(_) => self.deadline = None,
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.due = true;
        self.deadline = None;
    }

    fn wait(&mut self, now: Duration, time: Duration) {
        self.deadline = Some(now.saturating_add(time));
    }

    fn await_answer(&mut self, now: Duration, time: Duration) {
        self.wait(now, if self.link_repeats { LINK_PATIENCE } else { time });
    }

    fn fail(&mut self, failure: Failure) {
        if !matches!(self.state, State::Ended(_)) {
            self.state = State::Ended(Err(failure));
        }
        self.due = false;
        self.deadline = None;
    }

    fn end(&mut self, result: &[u8], by_device: bool) {
        let good = is_good(result);
        if good == Some(false) {
            return self.fail(Failure::ImageRefused);
        }
        self.state = State::Ended(Ok(Success { by_device, confirmed: good.is_some() }));
        self.due = false;
        self.deadline = None;
    }

    /// `tries`: how often `Done` was sent since chunks went out.
    fn repair(&mut self, indices: &[u8], tries: u8) {
        self.progress.repairs = self.progress.repairs.saturating_add(1);
        let limit = u32::from(self.options.resend_factor) * u32::from(self.chunks.count());
        if self.progress.resent >= limit {
            return self.fail(Failure::TooManyResends { resent: self.progress.resent });
        }
        self.repair_len = 0;
        for index in indices.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair)) {
            let known = self.repair.get(..self.repair_len).unwrap_or_default();
            if index >= self.chunks.count() || known.contains(&index) {
                continue;
            }
            let Some(place) = self.repair.get_mut(self.repair_len) else { break };
            *place = index;
            self.repair_len += 1;
        }
        if self.repair_len > 0 {
            self.enter(State::Repair { position: 0 });
        } else if tries >= DONE_TRIES {
            self.fail(Failure::NothingNamed);
        } else {
            self.enter(State::Done { tries });
        }
    }
}

impl<I> core::fmt::Debug for Sender<I> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sender")
            .field("state", &self.state)
            .field("progress", &self.progress)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// What a result says, if there is one: `{"r":"error",…}` (0.7 to 1.x) or a negative number (2.x), else success.
fn is_good(json: &[u8]) -> Option<bool> {
    let at = json.windows(4).position(|window| window == b"\"r\":")?;
    let value = json.get(at + 4..)?.trim_ascii_start();
    Some(!value.starts_with(b"-") && !value.starts_with(b"\"error\""))
}
