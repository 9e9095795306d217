//! The server's side.

use super::{Acknowledgement, Finish, MAX_WINDOW, MIN_CHUNK_SIZE, SILENCE, Start, StartAnswer, chunk_count};
use core::time::Duration;
use sha2::{Digest, Sha256};

/// Chunks that overtake another one before that counts as lost.
const REORDERING: u32 = 3;
/// Silence after which the first missing chunk is sent again; doubled each time.
const FIRST_PROBE: Duration = Duration::from_secs(2);
const LAST_PROBE: Duration = Duration::from_secs(16);
/// In `sent`: the chunk arrived.
const ARRIVED: u32 = u32::MAX;

/// How to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Options {
    /// Bytes per chunk, a multiple of 4 from 512 to what [`max_chunk_size`](super::max_chunk_size) says.
    pub chunk_size: u16,
    /// Send the SHA-256, so that a broken transfer can go on.
    pub resumable: bool,
    /// What there is of an earlier transfer is discarded.
    pub discard: bool,
    /// Function of the module, for Device OS that wants it.
    pub module_function: Option<u8>,
    /// Chunks that may be on their way; the device may want fewer.
    pub window: u16,
    /// How long answers to Start and Finish may take, the transport's repetitions included. Devices erase and validate
    /// meanwhile.
    pub patience: Duration,
    /// How long nothing may be acknowledged during the transfer.
    pub silence: Duration,
    /// Chunks sent again, in multiples of the number of chunks, before giving up.
    pub resend_factor: u8,
}

impl Options {
    /// Fits all devices with v3.
    pub const DEFAULT: Self = Self {
        chunk_size: MIN_CHUNK_SIZE,
        resumable: true,
        discard: false,
        module_function: None,
        window: MAX_WINDOW,
        patience: Duration::from_secs(90),
        silence: SILENCE,
        resend_factor: 4,
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
    /// Nothing to send.
    #[error("the image is empty")]
    Empty,
    /// The image is longer than the length field can say.
    #[error("image of {len} bytes is longer than 4 GiB")]
    TooLong {
        /// Bytes of the image.
        len: usize,
    },
    /// No device takes chunks of this size.
    #[error("chunks of {chunk_size} bytes: devices take multiples of 4 from 512")]
    ChunkSize {
        /// Bytes per chunk.
        chunk_size: u16,
    },
    /// Nothing may be on its way.
    #[error("a window of 0 chunks moves nothing")]
    Window,
}

/// What came from the device, already found to belong to what was sent last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Input<'a> {
    /// Start is answered.
    StartAnswered(StartAnswer),
    /// Start is refused or failed, with a code of CoAP.
    StartRefused {
        /// The code byte.
        code: u8,
    },
    /// Chunks arrived.
    Acknowledged(Acknowledgement<'a>),
    /// A chunk or a request was answered with a reset message: the device has no such update.
    Reset,
    /// Finish is answered.
    FinishAnswered,
    /// The device did not take the image, with a code of CoAP.
    FinishRefused {
        /// The code byte.
        code: u8,
    },
}

/// What to send next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Output<'a> {
    /// Start, confirmable.
    Start(Start),
    /// A chunk, not confirmable.
    Chunk {
        /// Counted from 1.
        index: u32,
        /// Its bytes.
        data: &'a [u8],
    },
    /// Finish, confirmable.
    Finish(Finish),
}

/// How far a transfer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Progress {
    /// Bytes that the device had before.
    pub resumed_at: u32,
    /// Chunks to be sent.
    pub chunks: u32,
    /// Chunks that were sent for the first time.
    pub sent: u32,
    /// Chunks that arrived in order.
    pub arrived: u32,
    /// Chunks that were sent again.
    pub resent: u32,
}

/// Why a transfer failed. With a SHA-256 the next one goes on where this one was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Failure {
    /// No answer to Start.
    #[error("the device did not answer the start of the update")]
    StartUnanswered,
    /// The device refused.
    #[error("the device refused the update with code {}.{:02}", code >> 5, code & 0x1f)]
    Refused {
        /// The code byte.
        code: u8,
    },
    /// The device has more than the image, or takes no chunks.
    #[error(
        "the device wants a window of {window} chunks from byte {offset}, which is no way to send this image"
    )]
    Unusable {
        /// Its window.
        window: u16,
        /// Its offset.
        offset: u32,
    },
    /// The device acknowledged nothing for too long.
    #[error("the device has acknowledged nothing since chunk {arrived}")]
    Silence {
        /// Chunks that arrived in order.
        arrived: u32,
    },
    /// The device acknowledged what was not sent.
    #[error("the device acknowledged {in_order} chunks, {sent} were sent")]
    AcknowledgedTooMuch {
        /// What it acknowledged.
        in_order: u32,
        /// What was sent.
        sent: u32,
    },
    /// The device has given the update up.
    #[error("the device has no such update any more")]
    Reset,
    /// The link loses more than can be mended.
    #[error("{resent} chunks were sent again and some are still missing")]
    TooManyResends {
        /// How many.
        resent: u32,
    },
    /// No answer to Finish.
    #[error("the device did not answer the end of the update")]
    FinishUnanswered,
    /// The device has all chunks and did not take the image.
    #[error("the device has the image and refused it with code {}.{:02}", code >> 5, code & 0x1f)]
    ImageRefused {
        /// The code byte.
        code: u8,
    },
    /// The caller gave up.
    #[error("the update was cancelled")]
    Cancelled,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Start,
    /// Cancelled while Start waits for its answer: the device has an update, or is about to.
    CancellingStart {
        discard: bool,
    },
    Sending,
    Finish,
    Cancelling {
        discard: bool,
    },
    Ended(Result<(), Failure>),
}

/// Sends one image. Give inputs, then poll outputs until `None`; the caller sets the pace by polling.
///
/// `I` is whatever holds the image: `&[u8]`, `Vec<u8>`, `Arc<[u8]>`.
#[derive(Clone)]
pub struct Sender<I> {
    image: I,
    options: Options,
    start: Start,
    state: State,
    /// Start or Finish is to be sent.
    due: bool,
    deadline: Option<Duration>,
    last_news: Duration,
    probe_after: Duration,
    offset: usize,
    window: u32,
    chunks: u32,
    /// Chunks that arrived in order, and those that were sent once.
    arrived: u32,
    next: u32,
    /// Sendings so far, and for each chunk of the window which of them was its last: 0 is to be sent again.
    sendings: u32,
    sent: [u32; MAX_WINDOW as usize],
    lost: u32,
    resent: u32,
}

impl<I> core::fmt::Debug for Sender<I> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { state, due, arrived, next, chunks, resent, .. } = self;
        f.debug_struct("Sender")
            .field("state", state)
            .field("due", due)
            .field("arrived", arrived)
            .field("next", next)
            .field("chunks", chunks)
            .field("resent", resent)
            .finish_non_exhaustive()
    }
}

const fn slot(index: u32) -> usize {
    (index % MAX_WINDOW as u32) as usize
}

impl<I: AsRef<[u8]>> Sender<I> {
    /// Checks the whole job.
    ///
    /// # Errors
    /// [`SenderError`], before anything is sent.
    pub fn new(image: I, options: Options) -> Result<Self, SenderError> {
        let len = image.as_ref().len();
        let file_size = u32::try_from(len).map_err(|_| SenderError::TooLong { len })?;
        let chunk_size = options.chunk_size;
        if file_size == 0 {
            return Err(SenderError::Empty);
        }
        if chunk_size < MIN_CHUNK_SIZE || !chunk_size.is_multiple_of(4) {
            return Err(SenderError::ChunkSize { chunk_size });
        }
        if options.window == 0 {
            return Err(SenderError::Window);
        }
        let start = Start {
            file_size,
            chunk_size,
            sha256: options.resumable.then(|| Sha256::digest(image.as_ref()).into()),
            discard: options.discard,
            module_function: options.module_function,
        };
        Ok(Self {
            image,
            options,
            start,
            state: State::Start,
            due: true,
            deadline: None,
            last_news: Duration::ZERO,
            probe_after: FIRST_PROBE,
            offset: 0,
            window: 0,
            chunks: 0,
            arrived: 0,
            next: 0,
            sendings: 0,
            sent: [0; MAX_WINDOW as usize],
            lost: 0,
            resent: 0,
        })
    }

    /// What it was made with.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            resumed_at: u32::try_from(self.offset).unwrap_or(u32::MAX),
            chunks: self.chunks,
            sent: self.next,
            arrived: self.arrived,
            resent: self.resent,
        }
    }

    /// The result, once there is one. After a success the device resets once its answer is acknowledged.
    #[must_use]
    pub const fn outcome(&self) -> Option<Result<(), Failure>> {
        match self.state {
            State::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Gives up: the device is told, and may keep what it has for the next try. If Finish is on its way already, the
    /// transfer ends at once, and the answer must not be acknowledged: without that the device applies nothing.
    pub fn cancel(&mut self, discard: bool) {
        match (self.state, self.due) {
            (State::Start, true) | (State::Finish, false) => self.end(Err(Failure::Cancelled)),
            (State::Start, false) => self.state = State::CancellingStart { discard },
            (State::Sending, _) | (State::Finish, true) => self.tell_cancelled(discard),
            (State::CancellingStart { .. } | State::Cancelling { .. } | State::Ended(_), _) => {}
        }
    }

    fn tell_cancelled(&mut self, discard: bool) {
        self.state = State::Cancelling { discard };
        self.due = true;
        self.deadline = None;
    }

    /// Takes what the device said. Inputs that do not fit the state are ignored, as late answers must be.
    pub fn handle_input(&mut self, now: Duration, input: Input<'_>) {
        match (self.state, input) {
            (State::Start, Input::StartAnswered(answer)) => self.begin(now, answer),
            (State::Start, Input::StartRefused { code }) => self.end(Err(Failure::Refused { code })),
            (State::Sending, Input::Acknowledged(acknowledgement)) => {
                self.acknowledged(now, &acknowledgement);
            }
            (State::Start | State::Sending | State::Finish, Input::Reset) => self.end(Err(Failure::Reset)),
            (State::CancellingStart { discard }, Input::StartAnswered(_)) => self.tell_cancelled(discard),
            (State::CancellingStart { .. }, Input::StartRefused { .. } | Input::Reset) => {
                self.end(Err(Failure::Cancelled));
            }
            (State::Finish, Input::FinishAnswered) => self.end(Ok(())),
            (State::Finish, Input::FinishRefused { code }) => self.end(Err(Failure::ImageRefused { code })),
            (
                State::Cancelling { .. },
                Input::FinishAnswered | Input::FinishRefused { .. } | Input::Reset,
            ) => {
                self.end(Err(Failure::Cancelled));
            }
            _ => {}
        }
    }

    fn begin(&mut self, now: Duration, answer: StartAnswer) {
        let StartAnswer { window, offset } = answer;
        let resumes = self.options.resumable && !self.options.discard;
        let misplaced = offset > self.start.file_size || (offset > 0 && !resumes);
        if window == 0 || misplaced {
            return self.end(Err(Failure::Unusable { window, offset }));
        }
        self.chunks = chunk_count(self.start.file_size - offset, self.start.chunk_size);
        self.offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.window = u32::from(window.min(self.options.window).min(MAX_WINDOW));
        self.last_news = now;
        self.state = State::Sending;
        self.due = false;
        self.deadline = None;
        self.finish_if_complete();
    }

    fn finish_if_complete(&mut self) {
        if self.arrived == self.chunks {
            self.state = State::Finish;
            self.due = true;
            self.deadline = None;
        }
    }

    fn acknowledged(&mut self, now: Duration, acknowledgement: &Acknowledgement<'_>) {
        let in_order = acknowledgement.in_order;
        let last = acknowledgement.beyond().last().unwrap_or(in_order);
        if in_order > self.next || last > self.next {
            let in_order = in_order.max(last);
            return self.end(Err(Failure::AcknowledgedTooMuch { in_order, sent: self.next }));
        }
        let (mut news, mut latest) = (in_order > self.arrived, 0);
        for index in self.arrived + 1..=in_order {
            latest = latest.max(self.arrive(index));
        }
        self.arrived = self.arrived.max(in_order);
        for index in acknowledgement.beyond().filter(|index| *index > in_order) {
            // An old acknowledgement may come late.
            if index > self.arrived {
                let sending = self.arrive(index);
                news |= sending > 0;
                latest = latest.max(sending);
            }
        }
        // What was sent well before something that arrived is lost.
        for index in self.arrived + 1..=self.next {
            let place = &mut self.sent[slot(index)];
            if *place != 0 && *place != ARRIVED && place.saturating_add(REORDERING) <= latest {
                *place = 0;
                self.lost += 1;
            }
        }
        if news {
            self.last_news = now;
            self.probe_after = FIRST_PROBE;
            self.wait(now);
        }
        self.finish_if_complete();
    }

    /// Notes that a chunk arrived, and says which sending that was; 0 if it was known.
    fn arrive(&mut self, index: u32) -> u32 {
        let place = &mut self.sent[slot(index)];
        let sending = core::mem::replace(place, ARRIVED);
        if sending == 0 {
            // It was given up for lost.
            self.lost = self.lost.saturating_sub(1);
        }
        if sending == ARRIVED { 0 } else { sending.max(1) }
    }

    fn wait(&mut self, now: Duration) {
        self.deadline = Some(now.saturating_add(self.probe_after));
    }

    /// What to send next, `None` if nothing is due.
    pub fn poll_output(&mut self, now: Duration) -> Option<Output<'_>> {
        let request = match self.state {
            State::Start => Output::Start(self.start),
            State::Finish => Output::Finish(Finish::default()),
            State::Cancelling { discard } => Output::Finish(Finish { cancel: true, discard }),
            State::Sending => return self.chunk(now),
            State::CancellingStart { .. } | State::Ended(_) => return None,
        };
        if !core::mem::take(&mut self.due) {
            return None;
        }
        self.deadline = Some(now.saturating_add(self.options.patience));
        Some(request)
    }

    fn chunk(&mut self, now: Duration) -> Option<Output<'_>> {
        let index = if self.lost > 0 {
            let index = (self.arrived + 1..=self.next).find(|index| self.sent[slot(*index)] == 0)?;
            self.lost -= 1;
            self.resent = self.resent.saturating_add(1);
            let most = self.chunks.saturating_mul(u32::from(self.options.resend_factor));
            if self.resent > most.max(u32::from(MAX_WINDOW)) {
                self.end(Err(Failure::TooManyResends { resent: self.resent }));
                return None;
            }
            index
        } else if self.next < self.chunks && self.next - self.arrived < self.window {
            self.next += 1;
            self.next
        } else {
            return None;
        };
        self.sendings = self.sendings.saturating_add(1);
        self.sent[slot(index)] = self.sendings.min(ARRIVED - 1);
        self.wait(now);
        let size = usize::from(self.options.chunk_size);
        let start = usize::try_from(index - 1).ok()?.checked_mul(size)?.checked_add(self.offset)?;
        let rest = self.image.as_ref().get(start..)?;
        Some(Output::Chunk { index, data: rest.get(..size).unwrap_or(rest) })
    }

    /// When [`Sender::handle_deadline`] has something to do.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Sends again or gives up if the deadline has come; poll afterwards. Early calls are harmless.
    pub fn handle_deadline(&mut self, now: Duration) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.state {
            State::Start => self.end(Err(Failure::StartUnanswered)),
            State::Finish => self.end(Err(Failure::FinishUnanswered)),
            State::CancellingStart { .. } | State::Cancelling { .. } => self.end(Err(Failure::Cancelled)),
            State::Sending if now.saturating_sub(self.last_news) >= self.options.silence => {
                self.end(Err(Failure::Silence { arrived: self.arrived }));
            }
            State::Sending => {
                // The first one that is missing: the answer tells of all others.
                let place = &mut self.sent[slot(self.arrived + 1)];
                if self.arrived < self.next && *place != 0 {
                    *place = 0;
                    self.lost += 1;
                }
                self.probe_after = (self.probe_after * 2).min(LAST_PROBE);
                self.wait(now);
            }
            State::Ended(_) => {}
        }
    }

    fn end(&mut self, outcome: Result<(), Failure>) {
        self.state = State::Ended(outcome);
        self.due = false;
        self.deadline = None;
    }
}
