//! The side that has the file.

use super::packet::{BlockSize, CANCEL, HEAD, Header, MAX_DATA, MAX_PACKET, NameError, TAIL, control, crc16};
use super::profile::SenderProfile;
use core::fmt;
use core::time::Duration;

/// Why a transfer cannot begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SenderError {
    /// The name does not fit.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The length does not fit the header.
    #[error("a file of {length} bytes is longer than 4 GiB")]
    TooLong {
        /// Bytes of the file.
        length: usize,
    },
}

/// How far a transfer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Place {
    /// The receiver has not asked yet.
    Start,
    /// Name and length.
    Header,
    /// A packet of the file, counted from 1.
    Block(u32),
    /// All packets of the file were taken.
    EndOfFile,
    /// The last packet, which has no name.
    LastPacket,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("the start"),
            Self::Header => f.write_str("the name and length of the file"),
            Self::Block(number) => write!(f, "packet {number}"),
            Self::EndOfFile => f.write_str("the end of the file"),
            Self::LastPacket => f.write_str("the last packet"),
        }
    }
}

/// Why a transfer failed. Nothing can be resumed: start again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SenderFailure {
    /// The receiver never said that it is ready.
    #[error("the receiver did not ask for a file")]
    NotAsked,
    /// Nothing was said to a packet.
    #[error("the receiver did not answer {place}")]
    Unanswered {
        /// To which.
        place: Place,
    },
    /// One packet was refused again and again.
    #[error("the receiver refused {place} {times} times")]
    Refused {
        /// Which.
        place: Place,
        /// How often.
        times: u8,
    },
    /// The receiver ended the transfer: at the header because of name or length, later because it could not write or
    /// somebody stopped it, at the last packet because the file is not valid.
    #[error("the receiver ended the transfer at {place}")]
    CancelledByReceiver {
        /// Where.
        place: Place,
    },
    /// The line is gone.
    #[error("the connection ended at {place}")]
    Closed {
        /// Where.
        place: Place,
    },
    /// The caller gave up.
    #[error("the transfer was cancelled")]
    Cancelled,
}

/// What was sent so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Progress {
    /// Bytes of the file.
    pub total: u32,
    /// Bytes that the receiver has taken.
    pub taken: u32,
    /// Packets that were sent again.
    pub resent: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// For the receiver's `C`.
    Start,
    /// For the answer to the header.
    Header,
    /// For the `C` behind it.
    HeaderTaken,
    /// For the answer to a packet.
    Block(u32),
    /// For the answer to `EOT`.
    EndOfFile,
    /// For the `C` behind it.
    EndTaken,
    /// For the answer to the last packet.
    LastPacket,
    /// For a moment without objections.
    Closing,
    Ended(Result<(), SenderFailure>),
}

/// Sends one file. Give bytes, then poll outputs until `None`; send each whole.
///
/// `I` is whatever holds the file: `&[u8]`, `Vec<u8>`, `Arc<[u8]>`. A packet is kept in the sender, about 1 KiB.
///
/// ```
/// use core::time::Duration;
/// use spark_ota::ymodem::{Sender, SenderProfile};
///
/// let now = Duration::ZERO;
/// let mut sender = Sender::new(now, "binary", &[7; 300], SenderProfile::PARTICLE)?;
/// assert_eq!(sender.handle_input(now, b"C"), 1);
/// let header = sender.poll_output(now).unwrap();
/// assert_eq!(&header[..15], b"\x02\x00\xffbinary\x00300 \0");
/// # Ok::<(), spark_ota::ymodem::SenderError>(())
/// ```
#[derive(Clone)]
pub struct Sender<I> {
    file: I,
    profile: SenderProfile,
    state: State,
    packet: [u8; MAX_PACKET],
    len: usize,
    /// The packet has to be sent.
    due: bool,
    /// The receiver has to be told that it is over.
    cancelling: bool,
    /// Bytes of the file in the packet.
    carried: usize,
    cans: u8,
    /// The receiver has said `C` to a packet of the file: it has not recognised it.
    complained: bool,
    /// The receiver has asked for another file, so it has this one.
    has_file: bool,
    refusals: u8,
    silences: u8,
    sent_at: Duration,
    deadline: Duration,
    progress: Progress,
}

impl<I: AsRef<[u8]>> Sender<I> {
    /// Checks name and length. The receiver has [`SenderProfile::start_timeout`] from `now` on to ask.
    ///
    /// # Errors
    /// [`SenderError`], before anything is sent.
    pub fn new(now: Duration, name: &str, file: I, profile: SenderProfile) -> Result<Self, SenderError> {
        let length = file.as_ref().len();
        let total = u32::try_from(length).map_err(|_| SenderError::TooLong { length })?;
        let mut sender = Self {
            file,
            profile,
            state: State::Start,
            packet: [0; MAX_PACKET],
            len: 0,
            due: false,
            cancelling: false,
            carried: 0,
            cans: 0,
            complained: false,
            has_file: false,
            refusals: 0,
            silences: 0,
            sent_at: now,
            deadline: now.saturating_add(profile.start_timeout),
            progress: Progress { total, ..Progress::default() },
        };
        let header = Header { name: name.as_bytes(), length: Some(total) };
        let mut data = [0; MAX_DATA];
        let small = header.encode_into(BlockSize::Small, &mut data);
        let size = match small {
            Ok(_) if !profile.header_in_block_size => BlockSize::Small,
            _ => profile.block_size,
        };
        let end = header.encode_into(size, &mut data)?;
        if let Some(place) = data.get_mut(end).filter(|_| profile.time_in_header) {
            *place = b'0';
        }
        sender.fill(size, 0, |place| place.copy_from_slice(data.get(..place.len()).unwrap_or_default()));
        Ok(sender)
    }

    /// What it was made with.
    #[must_use]
    pub const fn profile(&self) -> &SenderProfile {
        &self.profile
    }

    /// How far it is.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        self.progress
    }

    /// What it waits for, or where it ended.
    #[must_use]
    pub const fn outcome(&self) -> Option<Result<(), SenderFailure>> {
        match self.state {
            State::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    pub(crate) const fn is_waiting(&self) -> bool {
        matches!(self.state, State::Start)
    }

    /// The receiver is known to be ready, because it said so in another way than by a `C`. Later calls do nothing.
    pub const fn start(&mut self) {
        if matches!(self.state, State::Start) {
            self.state = State::Header;
            self.due = true;
        }
    }

    /// Gives up and tells the receiver.
    pub fn cancel(&mut self) {
        if self.outcome().is_none() {
            self.fail(SenderFailure::Cancelled);
        }
    }

    /// The line is gone.
    pub fn handle_close(&mut self) {
        match self.state {
            State::Ended(_) => {}
            State::Closing => self.end(Ok(())),
            State::LastPacket if self.has_file => self.end(Ok(())),
            _ => self.end(Err(SenderFailure::Closed { place: self.place() })),
        }
    }

    /// Takes what the receiver said and tells how many bytes it has taken: all, unless the transfer ended on the way.
    pub fn handle_input(&mut self, now: Duration, bytes: &[u8]) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            if self.state == State::Closing && !matches!(*byte, control::CAN | control::READY | control::NAK)
            {
                // It goes on to something else.
                self.end(Ok(()));
            }
            if self.outcome().is_some() {
                return at;
            }
            self.take(now, *byte);
        }
        bytes.len()
    }

    fn take(&mut self, now: Duration, byte: u8) {
        if byte == control::CAN {
            self.cans += 1;
            if self.cans == 2 {
                // It knows already.
                self.end(Err(SenderFailure::CancelledByReceiver { place: self.place() }));
            }
            return;
        }
        self.cans = 0;
        // Answers to a packet come after it.
        if self.due {
            return;
        }
        let behind_header = matches!(self.state, State::Block(_) | State::EndOfFile | State::LastPacket);
        if behind_header && byte == control::READY {
            self.complained = true;
        }
        // Devices acknowledge spaces, also those in a packet that they have not recognised.
        if behind_header && byte == control::ACK && self.complained {
            return;
        }
        let refused = byte == control::NAK
            || byte == control::READY && now >= self.sent_at.saturating_add(self.profile.old_ready);
        match (self.state, byte) {
            (State::Start, control::READY) => self.start(),
            (State::Header, control::ACK) => self.wait_for_ready(now, State::HeaderTaken),
            // The device's `C` may be damaged; what it says when nothing follows will do as well.
            (State::HeaderTaken, control::READY | control::NAK) => self.next_block(),
            (State::Block(_), control::ACK) => {
                let carried = u32::try_from(self.carried).unwrap_or(u32::MAX);
                self.progress.taken = self.progress.taken.saturating_add(carried);
                self.next_block();
            }
            (State::EndOfFile, control::ACK) if self.profile.waits_before_end => {
                self.wait_for_ready(now, State::EndTaken);
            }
            (State::EndOfFile, control::ACK) => self.last_packet(),
            (State::EndTaken, control::READY) => {
                self.has_file = true;
                self.last_packet();
            }
            (State::LastPacket, control::ACK) => {
                self.state = State::Closing;
                self.deadline = now.saturating_add(self.profile.settle);
            }
            (State::Closing, _) => {
                self.state = State::LastPacket;
                self.again();
            }
            (State::Header | State::Block(_) | State::EndOfFile | State::LastPacket, _) if refused => {
                self.refusals = self.refusals.saturating_add(1);
                if self.refusals > self.profile.refusal_limit {
                    self.fail(SenderFailure::Refused { place: self.place(), times: self.refusals });
                } else {
                    self.again();
                }
            }
            _ => {}
        }
    }

    const fn place(&self) -> Place {
        match self.state {
            State::Start => Place::Start,
            State::Header | State::HeaderTaken => Place::Header,
            State::Block(number) => Place::Block(number),
            State::EndOfFile | State::EndTaken => Place::EndOfFile,
            State::LastPacket | State::Closing | State::Ended(_) => Place::LastPacket,
        }
    }

    fn again(&mut self) {
        self.due = true;
        self.progress.resent = self.progress.resent.saturating_add(1);
    }

    fn wait_for_ready(&mut self, now: Duration, state: State) {
        self.state = state;
        self.deadline = now.saturating_add(self.profile.answer_timeout);
    }

    fn next_block(&mut self) {
        let number = if let State::Block(number) = self.state { number.saturating_add(1) } else { 1 };
        let start = usize::try_from(self.progress.taken).unwrap_or(usize::MAX);
        let rest = self.file.as_ref().len().saturating_sub(start);
        (self.refusals, self.silences) = (0, 0);
        if rest == 0 {
            self.state = State::EndOfFile;
            self.packet[0] = control::EOT;
            (self.len, self.carried, self.due) = (1, 0, true);
            return;
        }
        let size = if self.profile.small_last_block && rest <= BlockSize::Small.bytes() {
            BlockSize::Small
        } else {
            self.profile.block_size
        };
        self.state = State::Block(number);
        self.carried = rest.min(size.bytes());
        self.due = true;
        self.head(size, number.to_le_bytes()[0]);
        let (packet, file) = (&mut self.packet, self.file.as_ref());
        let data = packet.get_mut(HEAD..HEAD + size.bytes()).unwrap_or_default();
        let (own, filling) = data.split_at_mut_checked(self.carried).unwrap_or_default();
        own.copy_from_slice(file.get(start..start + own.len()).unwrap_or_default());
        filling.fill(0);
        self.checksum(size);
    }

    fn last_packet(&mut self) {
        let length = self.profile.length_in_end;
        let size = if self.profile.header_in_block_size { self.profile.block_size } else { BlockSize::Small };
        self.fill(size, 0, |data| {
            data.fill(0);
            if let Some(place) = data.get_mut(1..3).filter(|_| length) {
                place.copy_from_slice(b"0 ");
            }
        });
        (self.refusals, self.silences) = (0, 0);
        self.state = State::LastPacket;
        self.due = true;
    }

    fn fill(&mut self, size: BlockSize, number: u8, write: impl FnOnce(&mut [u8])) {
        self.head(size, number);
        write(self.packet.get_mut(HEAD..HEAD + size.bytes()).unwrap_or_default());
        self.checksum(size);
    }

    const fn head(&mut self, size: BlockSize, number: u8) {
        self.packet[0] = size.start();
        self.packet[1] = number;
        self.packet[2] = !number;
    }

    fn checksum(&mut self, size: BlockSize) {
        let end = HEAD + size.bytes();
        let data = self.packet.get(HEAD..end).unwrap_or_default();
        let crc = if self.profile.checksums { crc16(data) } else { 0 };
        if let Some(place) = self.packet.get_mut(end..end + TAIL) {
            place.copy_from_slice(&crc.to_be_bytes());
        }
        self.len = end + TAIL;
    }

    fn fail(&mut self, failure: SenderFailure) {
        self.cancelling = true;
        self.end(Err(failure));
    }

    const fn end(&mut self, outcome: Result<(), SenderFailure>) {
        self.state = State::Ended(outcome);
        self.due = false;
    }

    /// What to send next, whole.
    pub fn poll_output(&mut self, now: Duration) -> Option<&[u8]> {
        if core::mem::take(&mut self.cancelling) {
            return Some(&CANCEL);
        }
        if !core::mem::take(&mut self.due) {
            return None;
        }
        self.complained = false;
        self.sent_at = now;
        self.deadline = now.saturating_add(self.profile.answer_timeout);
        self.packet.get(..self.len)
    }

    /// When [`Sender::handle_deadline`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        (self.outcome().is_none() && !self.due).then_some(self.deadline)
    }

    /// The deadline has come. Early calls are harmless.
    pub fn handle_deadline(&mut self, now: Duration) {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.state {
            State::Start => self.fail(SenderFailure::NotAsked),
            // It has taken what was before, so it is ready, whatever became of its word.
            State::HeaderTaken => self.next_block(),
            State::EndTaken => self.last_packet(),
            State::Closing => self.end(Ok(())),
            _ if self.silences < self.profile.silence_limit => {
                self.silences += 1;
                self.again();
            }
            // Its last answer was lost, and it is gone.
            State::LastPacket if self.has_file => self.end(Ok(())),
            _ => self.fail(SenderFailure::Unanswered { place: self.place() }),
        }
    }
}

impl<I> fmt::Debug for Sender<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("state", &self.state)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}
