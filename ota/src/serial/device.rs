//! The device's side: a console of one-letter commands.

use super::ask::Question;
use super::reply::Mac;
use super::text;
use super::wifi::{Cipher, Credentials, Prompt, Security};
use crate::ymodem::{Header, Receiver, ReceiverFailure, ReceiverOutput, ReceiverProfile};
use core::fmt::{self, Write};
use core::time::Duration;

/// What a generation of firmware knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Profile {
    /// How it takes a file.
    pub ymodem: ReceiverProfile,
    /// It says with which error an image was found not valid.
    pub tells_error: bool,
    /// It answers `d`.
    pub diagnostics: bool,
}

impl Profile {
    /// System firmware 0.4.x.
    pub const V0_4: Self = Self { ymodem: ReceiverProfile::V0_4, tells_error: false, diagnostics: false };
    /// System firmware 2.x.
    pub const V2_0: Self = Self { ymodem: ReceiverProfile::V2_0, tells_error: true, diagnostics: true };
}

/// What a device tells of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts<'a> {
    /// 24 hex digits.
    pub device_id: &'a str,
    /// It calls itself a core.
    pub core: bool,
    /// MAC address.
    pub mac: Mac,
    /// The system's part of the Describe document: a JSON object.
    pub modules: &'a str,
    /// Such as `2.2.0`.
    pub version: &'a str,
    /// It has an owner.
    pub claimed: bool,
    /// A JSON object.
    pub diagnostics: &'a str,
}

impl Facts<'_> {
    /// Writes the answer to a question, all of it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, question: Question, out: &mut impl Write) -> fmt::Result {
        let kind = if self.core { "core" } else { "device" };
        match question {
            Question::Identity => write!(out, "Your {kind} id is {}\r\n", self.device_id),
            Question::Mac => write!(out, "Your {kind} MAC address is\r\n{}\r\n", self.mac),
            Question::Modules => write!(out, "{}\r\n", self.modules),
            Question::Version => write!(out, "system firmware version: {}\n\r\n", self.version),
            Question::Claimed => {
                write!(out, "Device claimed: {}\r\n", if self.claimed { "yes" } else { "no" })
            }
            Question::Diagnostics => write!(out, "{}\r\n", self.diagnostics),
        }
    }
}

/// What to do or say next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Output<'a> {
    /// Say these bytes.
    Send(&'a [u8]),
    /// Say the answer, see [`Facts::write`].
    Answer(Question),
    /// Work: keep a network. Answer with [`Listening::work_done`].
    Network(Credentials<'a>),
    /// Keep a claim code.
    ClaimCode(&'a [u8]),
    /// Work: a file begins; erase what is needed. Answer with [`Listening::work_done`].
    Begin(Header<'a>),
    /// Work: write bytes of the file. Answer with [`Listening::work_done`].
    Write {
        /// From the start of the file.
        offset: u32,
        /// The bytes.
        data: &'a [u8],
    },
    /// Work: validate the image. Answer with [`Listening::work_done`].
    Finish {
        /// Bytes of the file.
        length: u32,
    },
    /// Leave listening mode.
    Leave,
    /// Restart, into listening mode or to apply what was flashed.
    Restart {
        /// Into listening mode.
        listening: bool,
    },
}

/// Characters of a claim code.
const CLAIM_CODE: usize = 63;
/// Longest line.
const LINE: usize = Credentials::MAX_ANSWER;
/// Longest name that is told after a transfer.
const NAME: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    Asking(Prompt),
    AskingClaimCode,
    /// For the work of keeping a network.
    Saving,
    Receiving,
}

#[derive(Clone, Copy)]
enum Item {
    Text(&'static str),
    /// The last character of the line.
    Echo,
    /// What is in `words`.
    Words,
    Answer(Question),
    Network,
    ClaimCode,
    Leave,
    Restart {
        listening: bool,
    },
}

/// A line of bounded length.
#[derive(Clone)]
struct Line<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Line<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    fn push(&mut self, byte: u8) -> bool {
        let place = self.bytes.get_mut(self.len);
        let fits = place.is_some();
        if let Some(place) = place {
            *place = byte;
            self.len += 1;
        }
        fits
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl<const N: usize> Write for Line<N> {
    /// What does not fit is cut off.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.push(byte);
        }
        Ok(())
    }
}

/// A device in listening mode.
///
/// Give bytes, then poll outputs until `None`, until all bytes are taken. After an output that is work nothing more is
/// taken until [`Listening::work_done`]. One packet of a transfer and some lines are kept, about 1.5 KiB.
///
/// ```
/// use core::time::Duration;
/// use spark_ota::serial::{Listening, ListeningOutput, Profile, Question};
///
/// let mut console = Listening::new(Profile::V2_0, 0x4_0000);
/// assert_eq!(console.handle_input(Duration::ZERO, b"i"), 1);
/// assert_eq!(console.poll_output(), Some(ListeningOutput::Answer(Question::Identity)));
/// ```
#[derive(Clone)]
pub struct Listening {
    profile: Profile,
    limit: u32,
    state: State,
    receiver: Receiver,
    /// Error that the validation found.
    code: i32,
    line: Line<LINE>,
    after_return: bool,
    ssid: Line<32>,
    security: Security,
    cipher: Cipher,
    name: Line<NAME>,
    words: Line<192>,
    queue: [Option<Item>; 5],
}

impl Listening {
    /// A device with room for images of `limit` bytes.
    #[must_use]
    pub fn new(profile: Profile, limit: u32) -> Self {
        Self {
            profile,
            limit,
            state: State::Idle,
            receiver: Receiver::new(Duration::ZERO, profile.ymodem, 0),
            code: 0,
            line: Line::new(),
            after_return: false,
            ssid: Line::new(),
            security: Security::Open,
            cipher: Cipher::Aes,
            name: Line::new(),
            words: Line::new(),
            queue: [None; 5],
        }
    }

    /// Waits for a file at once, as after [`BaudTrigger::Ymodem`](super::BaudTrigger::Ymodem): it asks with `C`.
    pub fn receive(&mut self, now: Duration) {
        self.receive_with(now, true);
    }

    fn receive_with(&mut self, now: Duration, asks_first: bool) {
        let profile = ReceiverProfile { asks_first, ..self.profile.ymodem };
        self.receiver = Receiver::new(now, profile, self.limit);
        (self.name, self.code) = (Line::new(), 0);
        self.state = State::Receiving;
    }

    /// A file is being received.
    #[must_use]
    pub fn is_receiving(&self) -> bool {
        self.state == State::Receiving
    }

    /// Takes what the host said, up to the next thing to do or say, and tells how many bytes that were.
    pub fn handle_input(&mut self, now: Duration, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while let Some((first, behind)) = rest.split_first() {
            self.close_transfer();
            if self.has_output() || self.state == State::Saving {
                break;
            }
            if self.state == State::Receiving {
                let used = self.receiver.handle_input(now, rest);
                rest = rest.get(used..).unwrap_or_default();
                if used == 0 {
                    break;
                }
                continue;
            }
            rest = behind;
            match self.state {
                State::Idle => self.command(now, *first),
                _ => self.typed(*first),
            }
        }
        bytes.len() - rest.len()
    }

    fn has_output(&self) -> bool {
        self.queue[0].is_some() || self.state == State::Receiving && self.receiver.has_output()
    }

    fn command(&mut self, now: Duration, letter: u8) {
        match letter {
            b'w' => self.ask(Prompt::Ssid),
            b'C' => {
                self.begin_line();
                self.state = State::AskingClaimCode;
                self.push(Item::Text(text::CLAIM_CODE));
            }
            b'f' => {
                self.push(Item::Text(text::WAITING));
                self.receive_with(now, false);
            }
            b'x' => self.push(Item::Leave),
            b'L' => self.push(Item::Restart { listening: true }),
            b'd' if !self.profile.diagnostics => {}
            _ => {
                if let Some(question) = Question::from_letter(letter) {
                    self.push(Item::Answer(question));
                }
            }
        }
    }

    fn begin_line(&mut self) {
        (self.line, self.after_return) = (Line::new(), false);
    }

    fn ask(&mut self, prompt: Prompt) {
        self.begin_line();
        self.state = State::Asking(prompt);
        self.push(Item::Text(match prompt {
            Prompt::Ssid => text::SSID,
            Prompt::Security => text::SECURITY,
            Prompt::Cipher => text::CIPHER,
            Prompt::Password => text::PASSWORD,
        }));
    }

    /// A character of a line.
    fn typed(&mut self, byte: u8) {
        let after_return = core::mem::take(&mut self.after_return);
        match byte {
            b'\n' if after_return => {}
            b'\r' | b'\n' => {
                self.push(Item::Text("\r\n"));
                self.whole_line();
                self.after_return = byte == b'\r';
            }
            0x08 | 0x7f => {
                if self.line.len > 0 {
                    self.line.len -= 1;
                    self.push(Item::Text("\x08 \x08"));
                }
            }
            _ => {
                if self.line.push(byte) {
                    self.push(Item::Echo);
                }
            }
        }
    }

    fn whole_line(&mut self) {
        let digit = if let [digit] = self.line.as_bytes() { *digit } else { 0 };
        match self.state {
            State::Asking(Prompt::Ssid) => {
                self.ssid = Line::new();
                let fits = self.line.len > 0 && self.line.as_bytes().iter().all(|byte| self.ssid.push(*byte));
                self.ask(if fits { Prompt::Security } else { Prompt::Ssid });
            }
            State::Asking(Prompt::Security) => match Security::from_digit(digit) {
                Some(security) => {
                    self.security = security;
                    if security.has_cipher() {
                        self.ask(Prompt::Cipher);
                    } else if security == Security::Open {
                        self.begin_line();
                        self.network();
                    } else {
                        self.ask(Prompt::Password);
                    }
                }
                None => self.ask(Prompt::Security),
            },
            State::Asking(Prompt::Cipher) => match Cipher::from_digit(digit) {
                Some(cipher) => {
                    self.cipher = cipher;
                    self.ask(Prompt::Password);
                }
                None => self.ask(Prompt::Cipher),
            },
            State::Asking(Prompt::Password) => self.network(),
            State::AskingClaimCode => {
                self.state = State::Idle;
                if self.line.len == CLAIM_CODE {
                    self.push(Item::ClaimCode);
                    self.push(Item::Text("Claim code set.\r\n"));
                } else {
                    self.push(Item::Text(
                        "Sorry, claim code is not 63 characters long. Claim code unchanged.\r\n",
                    ));
                }
            }
            State::Idle | State::Saving | State::Receiving => {}
        }
    }

    fn network(&mut self) {
        self.state = State::Saving;
        self.push(Item::Text(text::THANKS));
        self.push(Item::Network);
    }

    /// Says what became of a transfer.
    fn close_transfer(&mut self) {
        if self.state != State::Receiving || self.receiver.has_output() || self.queue[0].is_some() {
            return;
        }
        let Some(outcome) = self.receiver.outcome() else { return };
        self.state = State::Idle;
        self.words = Line::new();
        let name = core::str::from_utf8(self.name.as_bytes()).unwrap_or("?");
        // Lines take every text.
        let _ = match outcome {
            Ok(received) => write!(
                self.words,
                "\r\n{}\r\nName: {name}\r\nSize: {} bytes\r\n\r\n{}\r\n",
                text::DOWNLOADED,
                received.length,
                text::RESTARTING
            ),
            Err(ReceiverFailure::Invalid) if self.profile.tells_error => {
                write!(self.words, "\r\n{}{}\r\n", text::VALIDATION, self.code)
            }
            Err(failure) => write!(
                self.words,
                "\r\n{}\r\n",
                match failure {
                    ReceiverFailure::TooLong { .. } => text::TOO_LONG,
                    ReceiverFailure::NotWritten { .. } | ReceiverFailure::Refused => text::NOT_SAVED,
                    ReceiverFailure::Aborted => text::ABORTED,
                    _ => text::NOT_RECEIVED,
                }
            ),
        };
        self.push(Item::Words);
        if outcome.is_ok() {
            self.push(Item::Restart { listening: false });
        }
    }

    /// The next thing to do or say.
    pub fn poll_output(&mut self) -> Option<Output<'_>> {
        self.close_transfer();
        if let Some(item) = self.queue[0].take() {
            self.queue.rotate_left(1);
            return Some(match item {
                Item::Text(text) => Output::Send(text.as_bytes()),
                Item::Echo => Output::Send(self.line.as_bytes().last_chunk::<1>().map_or(&[], |last| last)),
                Item::Words => Output::Send(self.words.as_bytes()),
                Item::Answer(question) => Output::Answer(question),
                Item::Network => Output::Network(self.credentials()),
                Item::ClaimCode => Output::ClaimCode(self.line.as_bytes()),
                Item::Leave => Output::Leave,
                Item::Restart { listening } => Output::Restart { listening },
            });
        }
        if self.state != State::Receiving {
            return None;
        }
        Some(match self.receiver.poll_output()? {
            ReceiverOutput::Send(bytes) => Output::Send(bytes),
            ReceiverOutput::Begin(header) => {
                self.name = Line::new();
                for byte in header.name {
                    self.name.push(*byte);
                }
                Output::Begin(header)
            }
            ReceiverOutput::Write { offset, data } => Output::Write { offset, data },
            ReceiverOutput::Finish { length } => Output::Finish { length },
        })
    }

    fn credentials(&self) -> Credentials<'_> {
        let password = if self.security == Security::Open { &[] } else { self.line.as_bytes() };
        Credentials { ssid: self.ssid.as_bytes(), security: self.security, cipher: self.cipher, password }
    }

    /// The work that was polled last is done, or failed with this system error. Without such work this does nothing.
    pub fn work_done(&mut self, now: Duration, result: Result<(), i32>) {
        match self.state {
            State::Receiving => {
                self.code = result.err().unwrap_or_default();
                self.receiver.work_done(now, result.is_ok());
            }
            // Not before the work was polled.
            State::Saving if self.queue[0].is_none() => {
                self.state = State::Idle;
                self.begin_line();
                match result {
                    Ok(()) => {
                        self.push(Item::Text(text::SAVED));
                        self.push(Item::Leave);
                    }
                    Err(_) => self.push(Item::Text(text::CREDENTIALS_LOST)),
                }
            }
            _ => {}
        }
    }

    /// When [`Listening::handle_deadline`] has something to do: only while a file is being received.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        if self.state == State::Receiving { self.receiver.next_deadline() } else { None }
    }

    /// The deadline has come. Early calls are harmless.
    pub fn handle_deadline(&mut self, now: Duration) {
        if self.state == State::Receiving {
            self.receiver.handle_deadline(now);
        }
    }

    /// An input gives at most four of them, and is taken only when there are none.
    fn push(&mut self, item: Item) {
        if let Some(place) = self.queue.iter_mut().find(|place| place.is_none()) {
            *place = Some(item);
        }
    }
}

impl fmt::Debug for Listening {
    /// Without what was typed: it may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening")
            .field("state", &self.state)
            .field("receiver", &self.receiver)
            .finish_non_exhaustive()
    }
}
