//! The device's side.

use super::window::Window;
use super::{
    ACK_DELAY, Acknowledgement, Finish, MAX_WINDOW, MIN_CHUNK_SIZE, Rejection, SILENCE, Start, StartAnswer,
    WINDOW_BYTES, chunk_count,
};
use core::fmt;
use core::time::Duration;

/// Unacknowledged chunks after which one acknowledgement is sent.
const ACK_EVERY: u32 = 2;

/// An update that is to run: a [`Start`] whose limits are checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Plan {
    /// What the server asked for.
    pub start: Start,
    /// Bytes of the image that were there before this transfer.
    pub offset: u32,
    /// Chunks behind them.
    pub chunks: u32,
}

/// Counts of one transfer, as a device tells them at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Statistics {
    /// Chunks that came, once or more often.
    pub received: u32,
    /// Of them, those that were there already.
    pub duplicates: u32,
    /// Those that came before one in front of them.
    pub out_of_order: u32,
    /// Acknowledgements that were sent.
    pub acknowledgements: u32,
    /// Milliseconds in which chunks were written.
    pub processing_ms: u32,
}

impl fmt::Display for Statistics {
    /// The JSON of the answer to Finish.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received, duplicates, out_of_order, acknowledgements, processing_ms } = self;
        write!(
            f,
            "{{\"recv_chunks\":{received},\"dup_chunks\":{duplicates},\"ooo_chunks\":{out_of_order},\
             \"sent_acks\":{acknowledgements},\"proc_time\":{processing_ms}}}"
        )
    }
}

/// What the device has to do or say next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Output {
    /// Say: the request at hand came (an empty acknowledgement).
    AcknowledgeRequest,
    /// Say: Start is refused (in the acknowledgement).
    RefuseStart(Rejection),
    /// Work: look how much of this image is there, and make room for the rest. Answer with [`Receiver::begun`].
    Begin(Start),
    /// Say: Start is answered (a message of its own).
    StartAnswer(StartAnswer),
    /// Say: Start failed (a message of its own).
    StartFailed(Rejection),
    /// Work: write the chunk at hand to `offset` of the image. Answer with [`Receiver::saved`].
    Save {
        /// From the start of the image.
        offset: u32,
    },
    /// Say: [`Receiver::acknowledgement`].
    Acknowledge,
    /// Say: a reset message with the id of the chunk at hand.
    Reset,
    /// Work: validate the image. Answer with [`Receiver::validated`].
    Validate(Plan),
    /// Say: Finish is answered, a confirmable message of its own; with [`Receiver::statistics`] unless the update was
    /// cancelled. When it is acknowledged, call [`Receiver::handle_acknowledged`].
    FinishAnswer {
        /// With statistics.
        complete: bool,
    },
    /// Say: Finish failed, a confirmable message of its own. When it is acknowledged, call
    /// [`Receiver::handle_acknowledged`].
    FinishFailed(Rejection),
    /// Work: apply the image and reset. The update is over; no answer is needed.
    Apply(Plan),
    /// Work: forget the update, and if `discard`, what came of it. No answer is needed.
    Cancel {
        /// Nothing of it can be resumed.
        discard: bool,
    },
    /// The session has to be closed.
    CloseSession,
}

impl Output {
    const fn is_work(&self) -> bool {
        matches!(self, Self::Begin(_) | Self::Save { .. } | Self::Validate(_))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    Beginning(Start),
    Receiving,
    Validating,
    /// Waits for the acknowledgement of its last word.
    Finished,
    Failed {
        discard: bool,
        rejection: Rejection,
    },
}

/// Receives one image after the other.
///
/// Give one input, then poll outputs until `None`. After an output that is work, nothing more comes until it is
/// answered.
#[derive(Clone, Debug)]
pub struct Receiver {
    max_chunk_size: u16,
    max_file_size: u32,
    state: State,
    plan: Plan,
    window_size: u16,
    in_order: u32,
    window: Window,
    /// The chunk at hand, and when it came.
    current: u32,
    came: Duration,
    last_chunk: Duration,
    unacknowledged: u32,
    statistics: Statistics,
    queue: [Option<Output>; 4],
    working: bool,
}

impl Receiver {
    /// For images of up to `max_file_size` bytes in chunks of up to `max_chunk_size`, see
    /// [`max_chunk_size`](super::max_chunk_size).
    #[must_use]
    pub const fn new(max_chunk_size: u16, max_file_size: u32) -> Self {
        let start = Start {
            file_size: 0,
            chunk_size: MIN_CHUNK_SIZE,
            sha256: None,
            discard: false,
            module_function: None,
        };
        Self {
            max_chunk_size,
            max_file_size,
            state: State::Idle,
            plan: Plan { start, offset: 0, chunks: 0 },
            window_size: 0,
            in_order: 0,
            window: Window::new(),
            current: 0,
            came: Duration::ZERO,
            last_chunk: Duration::ZERO,
            unacknowledged: 0,
            statistics: Statistics {
                received: 0,
                duplicates: 0,
                out_of_order: 0,
                acknowledgements: 0,
                processing_ms: 0,
            },
            queue: [None; 4],
            working: false,
        }
    }

    /// An update runs.
    #[must_use]
    pub fn is_updating(&self) -> bool {
        self.state != State::Idle
    }

    /// Bytes of the image that are there in order, those before this transfer included: where it can be resumed.
    #[must_use]
    pub fn received_len(&self) -> u32 {
        let bytes = self.in_order.saturating_mul(u32::from(self.plan.start.chunk_size));
        self.plan.offset.saturating_add(bytes).min(self.plan.start.file_size)
    }

    /// Counts of the transfer.
    #[must_use]
    pub const fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// What has arrived, for [`Output::Acknowledge`]. The bitmap is laid into `bitmap`.
    pub fn acknowledgement<'b>(&self, bitmap: &'b mut [u8; MAX_WINDOW as usize / 8]) -> Acknowledgement<'b> {
        let (bytes, len) = self.window.bytes();
        *bitmap = bytes;
        Acknowledgement { in_order: self.in_order, bitmap: bitmap.get(..len).unwrap_or_default() }
    }

    /// The session ended: forgets a running update without a word. `true` if there was one. What was saved may be
    /// resumed, see [`Receiver::received_len`].
    pub fn abort(&mut self) -> bool {
        self.queue = [None; 4];
        self.working = false;
        core::mem::replace(&mut self.state, State::Idle) != State::Idle
    }

    /// Start, at any time: what ran before is forgotten.
    pub fn handle_start(&mut self, start: Start) {
        self.abort();
        let size = start.chunk_size;
        if !(MIN_CHUNK_SIZE..=self.max_chunk_size).contains(&size) || !size.is_multiple_of(4) {
            self.push(Output::RefuseStart(Rejection::chunk_size(size.into())));
        } else if !(1..=self.max_file_size).contains(&start.file_size) {
            self.push(Output::RefuseStart(Rejection::file_size(start.file_size)));
        } else {
            self.state = State::Beginning(start);
            self.push(Output::AcknowledgeRequest);
            self.push(Output::Begin(start));
        }
    }

    /// Answer to [`Output::Begin`]: so many bytes of this image are there. What is not resumable begins at 0.
    pub fn begun(&mut self, now: Duration, result: Result<u32, Rejection>) {
        let State::Beginning(start) = self.state else { return };
        self.working = false;
        match result {
            Ok(there) => {
                let resumable = start.sha256.is_some() && !start.discard;
                let offset = if resumable { there.min(start.file_size) } else { 0 };
                let chunks = chunk_count(start.file_size - offset, start.chunk_size);
                self.plan = Plan { start, offset, chunks };
                // At most 256 for chunks of 512 bytes and more.
                let window = WINDOW_BYTES / u32::from(start.chunk_size);
                self.window_size = u16::try_from(window).unwrap_or(MAX_WINDOW).min(MAX_WINDOW);
                self.window = Window::new();
                (self.in_order, self.unacknowledged) = (0, 0);
                self.statistics = Statistics::default();
                self.last_chunk = now;
                self.state = State::Receiving;
                self.push(Output::StartAnswer(StartAnswer { window: self.window_size, offset }));
            }
            Err(rejection) => {
                self.state = State::Idle;
                // Nothing is known to be there any more.
                (self.plan.offset, self.in_order) = (0, 0);
                self.push(Output::StartFailed(rejection));
            }
        }
    }

    /// A chunk; keep its data for [`Output::Save`]. One that cannot be of this image ends the update, as in firmware. One
    /// that is late, when all are there, is ignored.
    pub fn handle_chunk(&mut self, now: Duration, index: u32, len: usize) {
        if self.state != State::Receiving {
            if self.state == State::Idle {
                self.push(Output::Reset);
            }
            return;
        }
        if self.len_of(index) != Some(len) {
            self.push(Output::Reset);
            self.push(Output::Cancel { discard: false });
            self.push(Output::CloseSession);
            self.state = State::Idle;
            return;
        }
        self.came = now;
        if self.has(index) {
            self.count(now);
            self.statistics.duplicates = self.statistics.duplicates.saturating_add(1);
            self.acknowledge();
        } else if index - self.in_order <= u32::from(self.window_size) {
            self.current = index;
            let offset = (index - 1).saturating_mul(u32::from(self.plan.start.chunk_size));
            self.push(Output::Save { offset: self.plan.offset.saturating_add(offset) });
        }
    }

    fn count(&mut self, now: Duration) {
        self.statistics.received = self.statistics.received.saturating_add(1);
        self.last_chunk = now;
    }

    fn has(&self, index: u32) -> bool {
        index <= self.in_order || self.window.is_set(index - self.in_order - 1)
    }

    /// Bytes of the chunk with this index, counted from 1.
    fn len_of(&self, index: u32) -> Option<usize> {
        let size = u32::from(self.plan.start.chunk_size);
        let before = index.checked_sub(1).filter(|_| index <= self.plan.chunks)?.checked_mul(size)?;
        let rest = (self.plan.start.file_size - self.plan.offset).checked_sub(before)?;
        usize::try_from(rest.min(size)).ok()
    }

    /// Answer to [`Output::Save`]. Without success the chunk counts as lost: the server sends it again.
    pub fn saved(&mut self, now: Duration, ok: bool) {
        self.working = false;
        if self.state != State::Receiving || !ok || self.has(self.current) {
            return;
        }
        let came = self.came;
        let pause = came.saturating_sub(self.last_chunk);
        self.count(came);
        let took = u32::try_from(now.saturating_sub(came).as_millis()).unwrap_or(u32::MAX);
        self.statistics.processing_ms = self.statistics.processing_ms.saturating_add(took);
        let gaps_before = !self.window.is_empty();
        self.window.set(self.current - self.in_order - 1);
        let in_order = self.window.advance();
        if in_order == 0 {
            self.statistics.out_of_order = self.statistics.out_of_order.saturating_add(1);
        }
        self.in_order += in_order;
        self.unacknowledged += 1;
        let gaps = gaps_before || !self.window.is_empty();
        let complete = self.in_order == self.plan.chunks;
        if gaps || complete || self.unacknowledged >= ACK_EVERY || pause >= ACK_DELAY {
            self.acknowledge();
        }
    }

    fn acknowledge(&mut self) {
        self.unacknowledged = 0;
        self.statistics.acknowledgements = self.statistics.acknowledgements.saturating_add(1);
        self.push(Output::Acknowledge);
    }

    /// Finish. When it comes again, as a new request, its answer is the same; it may still be cancelled until the answer is
    /// acknowledged.
    pub fn handle_finish(&mut self, finish: Finish) {
        self.push(Output::AcknowledgeRequest);
        let lost = matches!(self.state, State::Failed { discard: true, .. });
        match self.state {
            State::Receiving | State::Finished | State::Failed { .. } if finish.cancel => {
                self.state = State::Idle;
                self.push(Output::Cancel { discard: finish.discard || lost });
                self.push(Output::FinishAnswer { complete: false });
            }
            State::Receiving if self.in_order < self.plan.chunks => {
                let rejection = Rejection::INCOMPLETE;
                self.state = State::Failed { discard: finish.discard, rejection };
                self.push(Output::FinishFailed(rejection));
            }
            State::Receiving => {
                self.state = State::Validating;
                self.push(Output::Validate(self.plan));
            }
            // The answer follows.
            State::Validating => {}
            State::Finished => self.push(Output::FinishAnswer { complete: true }),
            State::Failed { rejection, .. } => self.push(Output::FinishFailed(rejection)),
            State::Idle | State::Beginning(_) => {
                self.push(Output::FinishFailed(Rejection::INVALID_STATE));
            }
        }
    }

    /// Answer to [`Output::Validate`].
    pub fn validated(&mut self, result: Result<(), Rejection>) {
        if self.state != State::Validating {
            return;
        }
        self.working = false;
        match result {
            Ok(()) => {
                self.state = State::Finished;
                self.push(Output::FinishAnswer { complete: true });
            }
            Err(rejection) => {
                self.state = State::Failed { discard: true, rejection };
                self.push(Output::FinishFailed(rejection));
            }
        }
    }

    /// The server has acknowledged the answer to Finish: only now is the image applied, or the update given up.
    pub fn handle_acknowledged(&mut self) {
        match self.state {
            State::Finished => {
                self.state = State::Idle;
                self.push(Output::Apply(self.plan));
            }
            State::Failed { discard, .. } => {
                self.state = State::Idle;
                self.push(Output::Cancel { discard });
                self.push(Output::CloseSession);
            }
            _ => {}
        }
    }

    /// The next thing to do or say.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.working {
            return None;
        }
        let output = self.queue[0].take();
        self.queue.rotate_left(1);
        self.working = output.is_some_and(|output| output.is_work());
        output
    }

    /// When [`Receiver::handle_deadline`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let wait = if self.unacknowledged > 0 { ACK_DELAY } else { SILENCE };
        (self.state == State::Receiving).then(|| self.last_chunk.saturating_add(wait))
    }

    /// Acknowledges a lone chunk, or gives up, if the deadline has come. Early calls are harmless.
    pub fn handle_deadline(&mut self, now: Duration) {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.unacknowledged > 0 {
            self.acknowledge();
        } else {
            self.state = State::Idle;
            self.push(Output::Cancel { discard: false });
            self.push(Output::CloseSession);
        }
    }

    /// An input gives at most three outputs, and every input is given only after the queue was drained.
    fn push(&mut self, output: Output) {
        if let Some(place) = self.queue.iter_mut().find(|place| place.is_none()) {
            *place = Some(output);
        }
    }
}
