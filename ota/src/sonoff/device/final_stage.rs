//! The image between the vendor's firmware and another one: it opens an access point, gets the final image, and writes it over
//! everything, itself and the boot stage included.
//!
//! ```text
//! blinks 10 s -> access point FinalStage -> connects to 192.168.4.2:8080 twice a second, sends nothing
//!   in slot 1, v2 at 0x1000:        GET user2 -> 0x81000 -> starts again in slot 2
//!   in slot 2, v1 or v2 at 0x1000:  GET final image -> 0x1000 and up, then the first sector -> restarts
//!   otherwise:                      nothing, for ever
//! ```
//!
//! It checks status, length and first byte. There is no digest, and no time limit on a body: when the connection is lost
//! there, it waits for ever.
//!
//! # Source
//! sillyfrog/Espressif2Arduino@330d9f0; a recorded request.

use crate::sonoff::http::ResponseHead;
use crate::sonoff::limits;
use crate::sonoff::upgrade::Slot;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

/// Name of the access point; it has no password.
pub const AP_NAME: &str = "FinalStage";
/// Where the server has to be: the first client of the access point gets this address.
pub const SERVER: &str = "192.168.4.2";
/// The network of the access point, 192.168.4.x.
pub const NETWORK: [u8; 3] = [192, 168, 4];
/// Port of the server.
pub const PORT: u16 = 8080;
/// What the image in slot 1 asks for.
pub const USER2_PATH: &str = "/ota/image_user2-0x81000.bin";
/// What the image in slot 2 asks for.
pub const FINAL_PATH: &str = "/ota/image_arduino.bin";

/// It blinks this long after every start.
pub const BLINKING: Duration = Duration::from_secs(10);
/// Between two looks whether the server is there.
pub const POLL: Duration = Duration::from_millis(500);
/// A connection, and the head of an answer, have to come within this time.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// Downloads that are begun before it restarts.
pub const TRIES: u8 = 3;

/// Where the byte is that it decides by.
pub const MAGIC_ADDRESS: u32 = 0x1000;

const MAGIC_V1: u8 = 0xe9;
const MAGIC_V2: u8 = 0xea;
/// Bytes that are written at once.
const PIECE: usize = 1024;

/// What it gets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "the image knows two")]
pub enum Goal {
    /// The intermediate image for slot 2.
    User2,
    /// The final image.
    Final,
}

impl Goal {
    /// Path of the request.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::User2 => USER2_PATH,
            Self::Final => FINAL_PATH,
        }
    }

    /// Bytes of the largest file.
    #[must_use]
    pub const fn limit(self) -> u32 {
        match self {
            Self::User2 => limits::FINAL_USER2,
            Self::Final => limits::FINAL_IMAGE,
        }
    }

    const fn magic(self) -> u8 {
        match self {
            Self::User2 => MAGIC_V2,
            Self::Final => MAGIC_V1,
        }
    }

    const fn address(self) -> u32 {
        match self {
            Self::User2 => Slot::User2.flash_offset(),
            Self::Final => 0,
        }
    }

    /// Addresses of the sectors that are erased before anything is written.
    fn sectors(self) -> impl Iterator<Item = u32> {
        let sectors = match self {
            Self::User2 => 128..256,
            Self::Final => 1..128,
        };
        sectors.map(|sector: u32| sector * limits::CHUNK)
    }
}

/// Why a download did not begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum TryError {
    /// No connection.
    #[error("the server cannot be reached any more")]
    NotConnected,
    /// Nothing usable within five seconds, or the connection was closed before.
    #[error("no answer came")]
    NoAnswer,
    /// No HTTP.
    #[error("the answer is no HTTP")]
    NotHttp,
    /// Another status than 200; 206 is another.
    #[error("the status is {status}, and must be 200")]
    Status {
        /// The status.
        status: u16,
    },
    /// No `Content-Length`, or a transfer encoding.
    #[error("the answer does not tell its length")]
    NoLength,
    /// Less than a sector, or more than there is room for.
    #[error("the file has {length} bytes, and must have {least} to {most}")]
    Length {
        /// Bytes.
        length: u32,
        /// The least.
        least: u32,
        /// The most.
        most: u32,
    },
    /// The file begins otherwise.
    #[error("the file begins with {found:#04x}, and must begin with {wanted:#04x}")]
    Magic {
        /// Its first byte.
        found: u8,
        /// What it must be.
        wanted: u8,
    },
}

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Output {
    /// Open the access point [`AP_NAME`].
    OpenAccessPoint,
    /// Connect to [`SERVER`], [`PORT`], then call [`FinalStage::connected`] or [`FinalStage::closed`].
    Connect,
    /// Send these bytes.
    Send(Vec<u8>),
    /// Close the connection, also one that is not there yet. [`FinalStage::closed`] need not be called.
    Close,
    /// A try failed; the next follows, or [`Restart::Again`].
    Failed(TryError),
    /// Erase the sector of 4096 bytes at this address.
    Erase {
        /// Address in flash.
        address: u32,
    },
    /// Write bytes to erased flash.
    Write {
        /// Address in flash.
        address: u32,
        /// At most 4096 bytes.
        data: Vec<u8>,
    },
    /// The machine is at its end.
    Restart(Restart),
}

/// How it ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Restart {
    /// From slot 2, which has a new image.
    Slot2,
    /// From the beginning of the flash: the final image is there.
    Final,
    /// As it is: all tries have failed.
    Again,
}

/// Where it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum State {
    /// It has just started.
    Blinking,
    /// Its access point is open, and it looks for the server.
    Polling,
    /// It asks for its file.
    Asking,
    /// The file comes.
    Receiving,
    /// The connection was lost in a file. It waits for ever; what is erased stays erased.
    Stuck,
    /// It found nothing that it knows at 0x1000, and does nothing for ever.
    NotRecognized,
    /// It restarts.
    Restarting,
}

/// The intermediate image.
///
/// Poll outputs until `None` after every call. It keeps 5 KiB at most.
///
/// ```
/// use core::time::Duration;
/// use spark_ota::sonoff::device::final_stage::{BLINKING, FinalStage, Output, POLL};
/// use spark_ota::sonoff::upgrade::Slot;
///
/// let mut stage = FinalStage::new(Duration::ZERO, Slot::User2, 0xea);
/// stage.handle_deadline(BLINKING);
/// assert_eq!(stage.poll_output(), Some(Output::OpenAccessPoint));
/// stage.handle_deadline(BLINKING + POLL);
/// assert_eq!(stage.poll_output(), Some(Output::Connect));
/// // The first connection is closed without a byte.
/// stage.connected(BLINKING + POLL);
/// assert_eq!(stage.poll_output(), Some(Output::Close));
/// assert_eq!(stage.poll_output(), Some(Output::Connect));
/// ```
#[derive(Clone, Debug)]
pub struct FinalStage {
    goal: Option<Goal>,
    state: State,
    is_connecting: bool,
    deadline: Option<Duration>,
    tries: u8,
    /// The head, then what is not written yet.
    received: Vec<u8>,
    /// The first sector of the final image.
    first: Vec<u8>,
    download: Option<Download>,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Copy, Debug)]
struct Download {
    length: u32,
    /// Bytes that have not come.
    missing: u32,
    /// Where the next piece goes.
    address: u32,
    /// Sectors are erased.
    erased: bool,
}

impl FinalStage {
    /// It was started from a slot, and `magic` is the byte at [`MAGIC_ADDRESS`].
    #[must_use]
    pub fn new(now: Duration, running: Slot, magic: u8) -> Self {
        let goal = match (running, magic) {
            (Slot::User1, MAGIC_V2) => Some(Goal::User2),
            (Slot::User2, MAGIC_V1 | MAGIC_V2) => Some(Goal::Final),
            _ => None,
        };
        Self {
            goal,
            state: State::Blinking,
            is_connecting: false,
            deadline: Some(now.saturating_add(BLINKING)),
            tries: 0,
            received: Vec::new(),
            first: Vec::new(),
            download: None,
            outputs: VecDeque::new(),
        }
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// What it gets, if it knows.
    #[must_use]
    pub const fn goal(&self) -> Option<Goal> {
        self.goal
    }

    /// Bytes that have come of how many, while a file comes.
    #[must_use]
    pub fn progress(&self) -> Option<(u32, u32)> {
        self.download.map(|download| (download.length.saturating_sub(download.missing), download.length))
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`FinalStage::handle_deadline`] has something to do.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// The deadline has come. Early calls are harmless.
    pub fn handle_deadline(&mut self, now: Duration) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.state {
            State::Blinking => {
                self.state = State::Polling;
                self.outputs.push_back(Output::OpenAccessPoint);
                self.deadline = Some(now.saturating_add(POLL));
            }
            State::Polling if self.is_connecting => {
                self.outputs.push_back(Output::Close);
                self.poll_later(now);
            }
            State::Polling => self.connect(now),
            State::Asking => {
                let error = if self.is_connecting { TryError::NotConnected } else { TryError::NoAnswer };
                self.fail(now, error);
            }
            State::Receiving | State::Stuck | State::NotRecognized | State::Restarting => {}
        }
    }

    fn connect(&mut self, now: Duration) {
        self.is_connecting = true;
        self.deadline = Some(now.saturating_add(TIMEOUT));
        self.outputs.push_back(Output::Connect);
    }

    fn poll_later(&mut self, now: Duration) {
        self.is_connecting = false;
        self.deadline = Some(now.saturating_add(POLL));
    }

    fn ask(&mut self, now: Duration) {
        self.state = State::Asking;
        self.received.clear();
        self.first.clear();
        self.download = None;
        self.connect(now);
    }

    /// The connection is there.
    pub fn connected(&mut self, now: Duration) {
        if !core::mem::take(&mut self.is_connecting) {
            return;
        }
        match (self.state, self.goal) {
            (State::Polling, Some(_)) => {
                self.outputs.push_back(Output::Close);
                self.ask(now);
            }
            (State::Polling, None) => {
                self.outputs.push_back(Output::Close);
                (self.state, self.deadline) = (State::NotRecognized, None);
            }
            (_, Some(goal)) => {
                self.deadline = Some(now.saturating_add(TIMEOUT));
                let request = format!(
                    "GET {} HTTP/1.0\r\nHost: {SERVER}\r\nUser-Agent: ESP8266HTTPClient\r\nConnection: close\r\n\
                     Accept-Encoding: identity;q=1,chunked;q=0.1,*;q=0\r\n\r\n",
                    goal.path()
                );
                self.outputs.push_back(Output::Send(request.into_bytes()));
            }
            _ => {}
        }
    }

    /// The connection could not be made, or was closed by the other end.
    pub fn closed(&mut self, now: Duration) {
        match self.state {
            State::Polling if self.is_connecting => self.poll_later(now),
            State::Asking if self.is_connecting => self.fail(now, TryError::NotConnected),
            State::Asking => self.fail(now, TryError::NoAnswer),
            State::Receiving => (self.state, self.deadline) = (State::Stuck, None),
            _ => {}
        }
    }

    fn fail(&mut self, now: Duration, error: TryError) {
        self.tries += 1;
        self.outputs.push_back(Output::Close);
        self.outputs.push_back(Output::Failed(error));
        if self.tries < TRIES { self.ask(now) } else { self.restart(Restart::Again) }
    }

    fn restart(&mut self, restart: Restart) {
        (self.state, self.deadline, self.is_connecting) = (State::Restarting, None, false);
        self.outputs.push_back(Output::Restart(restart));
    }

    /// Takes what came over the connection.
    pub fn handle_input(&mut self, now: Duration, bytes: &[u8]) {
        match self.state {
            State::Asking if !self.is_connecting => {
                // An answer whose head does not fit here is none for this device.
                let room = (limits::REQUEST_HEAD + 1).saturating_sub(self.received.len());
                let (part, later) = bytes.split_at(bytes.len().min(room));
                self.received.extend_from_slice(part);
                match self.read_head() {
                    Ok(None) => {}
                    Ok(Some(body)) => {
                        (self.state, self.deadline) = (State::Receiving, None);
                        self.body(&body);
                        self.body(later);
                    }
                    Err(error) => self.fail(now, error),
                }
            }
            State::Receiving => self.body(bytes),
            _ => {}
        }
    }

    /// The body as far as it has come, at least its first byte, once the answer is good.
    fn read_head(&mut self) -> Result<Option<Vec<u8>>, TryError> {
        let Some(goal) = self.goal else { return Ok(None) };
        let Some((head, used)) = ResponseHead::parse(&self.received).map_err(|_| TryError::NotHttp)? else {
            return Ok(None);
        };
        if head.status != 200 {
            return Err(TryError::Status { status: head.status });
        }
        let length = head.content_length().ok().flatten().ok_or(TryError::NoLength)?;
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let (least, most) = (limits::FINAL_SMALLEST, goal.limit());
        if !(least..=most).contains(&length) {
            return Err(TryError::Length { length, least, most });
        }
        let Some(&found) = self.received.get(used) else { return Ok(None) };
        let wanted = goal.magic();
        if found != wanted {
            return Err(TryError::Magic { found, wanted });
        }
        let body = self.received.get(used..).unwrap_or_default().to_vec();
        self.received.clear();
        let address = goal.address();
        self.download = Some(Download { length, missing: length, address, erased: false });
        Ok(Some(body))
    }

    fn body(&mut self, bytes: &[u8]) {
        let (Some(goal), Some(download)) = (self.goal, &mut self.download) else { return };
        if self.state != State::Receiving {
            return;
        }
        let take = bytes.len().min(usize::try_from(download.missing).unwrap_or(usize::MAX));
        let mut rest = bytes.get(..take).unwrap_or(bytes);
        download.missing -= u32::try_from(take).unwrap_or_default();
        let sector = usize::try_from(limits::CHUNK).unwrap_or_default();
        if goal == Goal::Final && self.first.len() < sector {
            let (part, behind) = rest.split_at(rest.len().min(sector - self.first.len()));
            self.first.extend_from_slice(part);
            rest = behind;
            if self.first.len() < sector {
                return;
            }
        }
        if !core::mem::replace(&mut download.erased, true) {
            self.outputs.extend(goal.sectors().map(|address| Output::Erase { address }));
            if goal == Goal::Final {
                download.address += limits::CHUNK;
            }
        }
        self.received.extend_from_slice(rest);
        let whole = download.missing == 0;
        let ready = self.received.len() / PIECE * PIECE;
        let ready = if whole { self.received.len() } else { ready };
        let pieces: Vec<u8> = self.received.drain(..ready).collect();
        for data in pieces.chunks(PIECE) {
            self.outputs.push_back(Output::Write { address: download.address, data: data.to_vec() });
            download.address += u32::try_from(data.len()).unwrap_or_default();
        }
        if !whole {
            return;
        }
        self.outputs.push_back(Output::Close);
        match goal {
            Goal::User2 => self.restart(Restart::Slot2),
            Goal::Final => {
                // The boot stage last: until here the device still starts, from slot 2.
                let data = core::mem::take(&mut self.first);
                self.outputs.push_back(Output::Erase { address: 0 });
                self.outputs.push_back(Output::Write { address: 0, data });
                self.restart(Restart::Final);
            }
        }
    }
}
