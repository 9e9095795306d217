//! The side that gets the file.

use super::packet::{BlockSize, CANCEL, HEAD, Header, MAX_PACKET, TAIL, control, crc16};
use super::profile::{ChecksumRule, FinishAt, ReceiverProfile};
use core::fmt;
use core::time::Duration;

/// What to do or say next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Output<'a> {
    /// Say these bytes.
    Send(&'a [u8]),
    /// Work: a file begins; get ready for it. Answer with [`Receiver::work_done`].
    Begin(Header<'a>),
    /// Work: write bytes of the file. Answer with [`Receiver::work_done`].
    Write {
        /// From the start of the file.
        offset: u32,
        /// The bytes; at the end of the file with its filling, if the profile has it so.
        data: &'a [u8],
    },
    /// Work: the file is whole; check it and close it. Answer with [`Receiver::work_done`].
    Finish {
        /// Bytes that the sender had announced, or those that were written.
        length: u32,
    },
}

/// What was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Received {
    /// Files.
    pub files: u32,
    /// Bytes of the last one.
    pub length: u32,
}

/// Why nothing was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ReceiverFailure {
    /// Too many errors, or too long a silence.
    #[error("the transfer was ended after {errors} errors or silences in a row")]
    TooManyErrors {
        /// How many.
        errors: u8,
    },
    /// The file is longer than there is room.
    #[error("the file has {length} bytes, and there is room for {limit}")]
    TooLong {
        /// Bytes of the file.
        length: u32,
        /// The room.
        limit: u32,
    },
    /// The length of the file is missing or 0.
    #[error("the sender did not tell how long the file is")]
    NoLength,
    /// The caller does not want the file.
    #[error("the file was refused")]
    Refused,
    /// The caller could not write.
    #[error("{offset} bytes were written and the next could not be")]
    NotWritten {
        /// Bytes before.
        offset: u32,
    },
    /// The caller found the whole file wrong.
    #[error("the file is not valid")]
    Invalid,
    /// Sender and receiver count differently.
    #[error("packet {found} came in place of {expected}")]
    OutOfStep {
        /// Number of the packet.
        found: u8,
        /// What was due.
        expected: u8,
    },
    /// The sender ended the transfer.
    #[error("the sender ended the transfer")]
    CancelledBySender,
    /// Somebody pressed the key for it.
    #[error("the transfer was aborted with a key")]
    Aborted,
    /// The caller gave up.
    #[error("the transfer was cancelled")]
    Cancelled,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// For a header.
    Header,
    /// For packets of a file.
    File,
    /// For the last packet, or the header of another file.
    Next,
    Ended(Result<Received, ReceiverFailure>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Work {
    Begin,
    Write { len: usize },
    Finish,
}

/// Receives files, one after the other if the profile allows it.
///
/// Give bytes, then poll outputs until `None`, until all bytes are taken. After an output that is work nothing more is
/// taken until [`Receiver::work_done`]. A packet is kept in the receiver, about 1 KiB.
#[derive(Clone)]
pub struct Receiver {
    profile: ReceiverProfile,
    limit: u32,
    state: State,
    packet: [u8; MAX_PACKET],
    filled: usize,
    /// What was received is not looked at until it is silent.
    purging: bool,
    said: [u8; 4],
    say_len: usize,
    work: Option<Work>,
    shown: bool,
    /// Number of the next packet.
    expected: u8,
    errors: u8,
    /// The sender leaves its checksums out, or not; unknown before its first packet.
    zero_checksums: Option<bool>,
    announced: Option<u32>,
    written: u32,
    received: Received,
    deadline: Duration,
}

impl Receiver {
    /// A receiver with room for files of `limit` bytes. Poll its outputs: it may have something to say already.
    #[must_use]
    pub fn new(now: Duration, profile: ReceiverProfile, limit: u32) -> Self {
        let mut receiver = Self {
            profile,
            limit,
            state: State::Header,
            packet: [0; MAX_PACKET],
            filled: 0,
            purging: false,
            said: [0; 4],
            say_len: 0,
            work: None,
            shown: false,
            expected: 0,
            errors: 0,
            zero_checksums: None,
            announced: None,
            written: 0,
            received: Received::default(),
            deadline: now.saturating_add(profile.byte_timeout),
        };
        if profile.asks_first {
            receiver.say(&[control::READY]);
        }
        receiver
    }

    /// What it was made with.
    #[must_use]
    pub const fn profile(&self) -> &ReceiverProfile {
        &self.profile
    }

    /// Bytes of the file at hand that were written, and those that the sender announced.
    #[must_use]
    pub const fn progress(&self) -> (u32, Option<u32>) {
        (self.written, self.announced)
    }

    /// The result, once there is one. There may still be something to say.
    #[must_use]
    pub const fn outcome(&self) -> Option<Result<Received, ReceiverFailure>> {
        match self.state {
            State::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    pub(crate) const fn has_output(&self) -> bool {
        self.say_len > 0 || self.work.is_some() && !self.shown
    }

    /// Gives up and tells the sender.
    pub fn cancel(&mut self) {
        if self.outcome().is_none() {
            self.fail(ReceiverFailure::Cancelled);
        }
    }

    /// Takes what the sender said, up to the next thing to do or say, and tells how many bytes that were.
    pub fn handle_input(&mut self, now: Duration, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while let Some((first, behind)) = rest.split_first() {
            if self.outcome().is_some() || self.work.is_some() || self.say_len > 0 {
                break;
            }
            self.deadline = now.saturating_add(self.profile.byte_timeout);
            if self.purging {
                // A silence is what it waits for.
                rest = &[];
            } else if self.filled == 0 {
                rest = behind;
                self.begin(*first);
            } else if self.packet[0] == control::CAN {
                rest = behind;
                self.filled = 0;
                if *first == control::CAN {
                    self.say(&[control::ACK]);
                    self.end(Err(ReceiverFailure::CancelledBySender));
                } else {
                    self.error();
                }
            } else {
                let wanted = self.wanted();
                let (part, later) = rest.split_at(rest.len().min(wanted - self.filled));
                if let Some(place) = self.packet.get_mut(self.filled..self.filled + part.len()) {
                    place.copy_from_slice(part);
                }
                rest = later;
                self.filled += part.len();
                if self.filled == wanted {
                    self.filled = 0;
                    self.whole_packet();
                }
            }
        }
        if let Some(silence) = self.profile.purge.filter(|_| self.purging) {
            self.deadline = now.saturating_add(silence);
        }
        bytes.len() - rest.len()
    }

    fn size(&self) -> BlockSize {
        BlockSize::from_start(self.packet[0]).unwrap_or(BlockSize::Small)
    }

    fn wanted(&self) -> usize {
        HEAD + self.size().bytes() + TAIL
    }

    /// The first byte of something.
    fn begin(&mut self, byte: u8) {
        match byte {
            control::SOH | control::STX | control::CAN => {
                self.packet[0] = byte;
                self.filled = 1;
            }
            control::EOT => self.end_of_file(),
            b'A' | b'a' if self.profile.abort_letters => self.fail(ReceiverFailure::Aborted),
            b' ' if self.profile.acknowledges_space => self.say(&[control::ACK]),
            _ => self.error(),
        }
    }

    fn data(&self) -> &[u8] {
        self.packet.get(HEAD..HEAD + self.size().bytes()).unwrap_or_default()
    }

    fn checksum_fits(&mut self) -> bool {
        if self.profile.checksums == ChecksumRule::Ignored {
            return true;
        }
        let stored = self.packet.get(HEAD + self.size().bytes()..).and_then(<[u8]>::first_chunk);
        let stored = stored.map_or(0, |bytes| u16::from_be_bytes(*bytes));
        let right = stored == crc16(self.data());
        let may_be_zero =
            self.profile.checksums == ChecksumRule::RightOrZero && self.zero_checksums != Some(false);
        let fits = right || may_be_zero && stored == 0;
        // A checksum that is 0 by chance shows nothing.
        if fits && (stored != 0 || !right) {
            self.zero_checksums = Some(stored == 0);
        }
        fits
    }

    fn whole_packet(&mut self) {
        let number = self.packet[1];
        if self.packet[2] != !number || !self.checksum_fits() {
            return self.error();
        }
        if number != self.expected {
            return self.wrong_number(number);
        }
        self.errors = 0;
        match self.state {
            State::Header | State::Next => self.header(),
            State::File => {
                let room =
                    self.profile.cuts_filling.then_some(self.announced).flatten().unwrap_or(self.limit);
                let left = usize::try_from(room.saturating_sub(self.written)).unwrap_or(usize::MAX);
                let len = self.data().len().min(left);
                if len == 0 {
                    let length = self.announced.unwrap_or(self.written).saturating_add(1);
                    return self.fail(ReceiverFailure::TooLong { length, limit: room });
                }
                self.work = Some(Work::Write { len });
            }
            State::Ended(_) => {}
        }
    }

    fn wrong_number(&mut self, number: u8) {
        let repeated = number == self.expected.wrapping_sub(1) && self.state == State::File;
        let is_header = self.written == 0 && number == 0;
        // The last packet in place of the first is none.
        let is_last = is_header && Header::parse(self.data()).name.is_empty();
        if repeated && !is_last && !self.profile.refuses_repeated {
            // Its answer was lost. The header is answered with two bytes.
            return self.say(if is_header { &[control::ACK, control::READY] } else { &[control::ACK] });
        }
        if self.profile.refuses_repeated {
            self.count_error();
            if self.outcome().is_none() {
                self.say(&[control::NAK]);
            }
            return;
        }
        self.fail(ReceiverFailure::OutOfStep { found: number, expected: self.expected });
    }

    fn header(&mut self) {
        let header = Header::parse(self.data());
        let (no_name, length) = (header.name.is_empty(), header.length);
        if no_name {
            if self.state == State::Next && self.profile.finish_at == FinishAt::LastPacket {
                self.work = Some(Work::Finish);
            } else {
                self.say(&[control::ACK]);
                if self.state == State::Next && self.profile.finish_at == FinishAt::AfterLastPacket {
                    self.work = Some(Work::Finish);
                } else {
                    self.end(Ok(self.received));
                }
            }
            return;
        }
        if self.state == State::Next && self.profile.finish_at != FinishAt::EndOfFile {
            // One file is all it takes.
            return self.fail(ReceiverFailure::Refused);
        }
        if self.profile.needs_length && length.is_none_or(|length| length == 0) {
            return self.fail(ReceiverFailure::NoLength);
        }
        if let Some(length) = length.filter(|length| *length > self.limit) {
            return self.fail(ReceiverFailure::TooLong { length, limit: self.limit });
        }
        (self.announced, self.written) = (length, 0);
        self.work = Some(Work::Begin);
    }

    fn end_of_file(&mut self) {
        match self.state {
            // Its answer was lost.
            State::Next => self.say_end_of_file(),
            State::File if self.announced.is_none_or(|length| self.written >= length) => {
                self.errors = 0;
                if self.profile.finish_at == FinishAt::EndOfFile {
                    self.work = Some(Work::Finish);
                } else {
                    self.next_file();
                }
            }
            // Not the end: bytes are missing.
            _ => self.error(),
        }
    }

    fn next_file(&mut self) {
        (self.state, self.expected) = (State::Next, 0);
        self.say_end_of_file();
    }

    fn say_end_of_file(&mut self) {
        self.say(if self.profile.asks_for_next { &[control::ACK, control::READY] } else { &[control::ACK] });
    }

    /// Damage, or something that is nothing.
    fn error(&mut self) {
        if self.profile.purge.is_some() {
            self.purging = true;
            return;
        }
        self.answer_error();
    }

    fn count_error(&mut self) {
        self.errors = self.errors.saturating_add(1);
        if self.errors > self.profile.error_limit {
            self.fail(ReceiverFailure::TooManyErrors { errors: self.errors });
        }
    }

    fn answer_error(&mut self) {
        self.count_error();
        if self.outcome().is_none() {
            let answer = if self.state == State::File { self.profile.error_answer } else { control::READY };
            self.say(&[answer]);
        }
    }

    fn fail(&mut self, failure: ReceiverFailure) {
        self.say(&CANCEL);
        self.end(Err(failure));
    }

    const fn end(&mut self, outcome: Result<Received, ReceiverFailure>) {
        self.state = State::Ended(outcome);
        self.work = None;
    }

    fn say(&mut self, bytes: &[u8]) {
        if let Some(place) = self.said.get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
            self.say_len = bytes.len();
        }
    }

    /// The next thing to do or say.
    pub fn poll_output(&mut self) -> Option<Output<'_>> {
        let len = core::mem::take(&mut self.say_len);
        if len > 0 {
            return self.said.get(..len).map(Output::Send);
        }
        let work = self.work?;
        if core::mem::replace(&mut self.shown, true) {
            return None;
        }
        Some(match work {
            Work::Begin => Output::Begin(Header::parse(self.data())),
            Work::Write { len } => {
                Output::Write { offset: self.written, data: self.data().get(..len).unwrap_or_default() }
            }
            Work::Finish => Output::Finish { length: self.announced.unwrap_or(self.written) },
        })
    }

    /// The work that was polled last is done, well or not. Without such work this does nothing.
    pub fn work_done(&mut self, now: Duration, ok: bool) {
        if !core::mem::take(&mut self.shown) {
            return;
        }
        self.deadline = now.saturating_add(self.profile.byte_timeout);
        match (self.work.take(), ok) {
            (Some(Work::Begin), true) => {
                (self.state, self.expected) = (State::File, 1);
                self.say(&[control::ACK, control::READY]);
            }
            (Some(Work::Begin), false) => self.fail(ReceiverFailure::Refused),
            (Some(Work::Write { len }), true) => {
                self.written = self.written.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
                self.expected = self.expected.wrapping_add(1);
                self.say(&[control::ACK]);
            }
            (Some(Work::Write { .. }), false) => {
                self.fail(ReceiverFailure::NotWritten { offset: self.written })
            }
            (Some(Work::Finish), true) => {
                self.received.files = self.received.files.saturating_add(1);
                self.received.length = self.announced.unwrap_or(self.written);
                match self.profile.finish_at {
                    FinishAt::EndOfFile => self.next_file(),
                    FinishAt::LastPacket => {
                        self.say(&[control::ACK]);
                        self.end(Ok(self.received));
                    }
                    FinishAt::AfterLastPacket => self.end(Ok(self.received)),
                }
            }
            // The sender has its answer already.
            (Some(Work::Finish), false) if self.profile.finish_at == FinishAt::AfterLastPacket => {
                self.end(Err(ReceiverFailure::Invalid));
            }
            (Some(Work::Finish), false) => self.fail(ReceiverFailure::Invalid),
            (None, _) => {}
        }
    }

    /// When [`Receiver::handle_deadline`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        (self.outcome().is_none() && self.work.is_none()).then_some(self.deadline)
    }

    /// The deadline has come: silence. Early calls are harmless.
    pub fn handle_deadline(&mut self, now: Duration) {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        self.deadline = now.saturating_add(self.profile.byte_timeout);
        (self.filled, self.purging) = (0, false);
        if self.state == State::Next && self.profile.finish_at == FinishAt::EndOfFile {
            // All files are whole. The last packet is a formality that some senders leave out.
            self.count_error();
            if self.errors > 2 || self.outcome().is_some() {
                self.say_len = 0;
                self.end(Ok(self.received));
            } else {
                self.say(&[control::READY]);
            }
            return;
        }
        self.answer_error();
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("state", &self.state)
            .field("expected", &self.expected)
            .field("progress", &self.progress())
            .field("errors", &self.errors)
            .finish_non_exhaustive()
    }
}
