//! Firmware over the serial port, from the host's side: the letter, YMODEM, and what the device says at the end.

use super::{QUIET, end_of, text};
use crate::ymodem::{Progress, Sender, SenderError, SenderFailure, SenderProfile};
use core::fmt;
use core::time::Duration;

/// The name that devices expect.
const NAME: &str = "binary";
/// Longest wait for the texts at the end.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Room for them.
const TAIL: usize = 512;

/// What a device says when it refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Told {
    /// The image is not valid; from 2.x on, with a system error.
    Invalid {
        /// The error.
        code: i32,
    },
    /// It is too long.
    TooLong,
    /// The device cannot write it.
    NotSaved,
    /// Somebody pressed `a`.
    Aborted,
    /// Something else went wrong on the way.
    NotReceived,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { code } => write!(f, "the device found the image not valid (error {code})"),
            Self::TooLong => f.write_str("the image is longer than the device has room for"),
            Self::NotSaved => f.write_str("the device could not write the image"),
            Self::Aborted => f.write_str("the transfer was aborted at the device"),
            Self::NotReceived => f.write_str("the device did not receive the image"),
        }
    }
}

impl Told {
    fn find(said: &[u8]) -> Option<Self> {
        if let Some(end) = end_of(said, text::VALIDATION.as_bytes()) {
            let rest = said.get(end..).unwrap_or_default().trim_ascii_start();
            let end =
                rest.iter().position(|byte| *byte != b'-' && !byte.is_ascii_digit()).unwrap_or(rest.len());
            let number = rest.get(..end).and_then(|text| core::str::from_utf8(text).ok());
            return Some(Self::Invalid { code: number.and_then(|text| text.parse().ok()).unwrap_or(0) });
        }
        [
            (text::TOO_LONG, Self::TooLong),
            (text::NOT_SAVED, Self::NotSaved),
            (text::ABORTED, Self::Aborted),
            (text::NOT_RECEIVED, Self::NotReceived),
        ]
        .into_iter()
        .find_map(|(mark, told)| end_of(said, mark.as_bytes()).map(|_| told))
    }
}

/// The device has the image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Flashed {
    /// It said so in words. Otherwise it acknowledged the last packet and then said nothing, or reset at once; firmware
    /// before 2.x does so before it looks at the image.
    pub confirmed: bool,
}

/// Why the device does not have the image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FlashFailure {
    /// The transfer failed.
    #[error(transparent)]
    Transfer(SenderFailure),
    /// The device says why.
    #[error("{told}")]
    Refused {
        /// What it says.
        told: Told,
        /// How the transfer failed; `None` if it had gone through.
        transfer: Option<SenderFailure>,
    },
}

/// Sends an image to a device in listening mode, or to one that waits for it because of
/// [`BaudTrigger::Ymodem`](super::BaudTrigger::Ymodem).
#[derive(Clone)]
pub struct Flash<I> {
    sender: Sender<I>,
    asked: bool,
    tail: [u8; TAIL],
    len: usize,
    /// The transfer is over, and this is the end of the texts behind it.
    quiet: Option<Duration>,
    limit: Duration,
    outcome: Option<Result<Flashed, FlashFailure>>,
}

impl<I: AsRef<[u8]>> Flash<I> {
    /// Will ask for the transfer; poll the output. Take [`SenderProfile::PARTICLE`] unless there is a reason not to.
    ///
    /// # Errors
    /// [`SenderError`], before anything is sent.
    pub fn new(now: Duration, image: I, profile: SenderProfile) -> Result<Self, SenderError> {
        Ok(Self {
            sender: Sender::new(now, NAME, image, profile)?,
            asked: false,
            tail: [0; TAIL],
            len: 0,
            quiet: None,
            limit: Duration::MAX,
            outcome: None,
        })
    }

    /// How far the transfer is.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        self.sender.progress()
    }

    /// The result, once there is one. After a success the device resets.
    #[must_use]
    pub const fn outcome(&self) -> Option<Result<Flashed, FlashFailure>> {
        self.outcome
    }

    /// The texts at the end of what the device said, up to 512 bytes.
    #[must_use]
    pub fn said(&self) -> &[u8] {
        self.tail.get(..self.len).unwrap_or_default()
    }

    /// Gives up and tells the device: poll the output. There is an outcome at the next deadline.
    pub fn cancel(&mut self, now: Duration) {
        // Who has not been asked for a file needs no word.
        self.asked = true;
        self.sender.cancel();
        self.watch(now);
    }

    /// What to send next, whole.
    pub fn poll_output(&mut self, now: Duration) -> Option<&[u8]> {
        if !core::mem::replace(&mut self.asked, true) {
            return Some(b"f");
        }
        self.sender.poll_output(now)
    }

    /// Takes what the device said and tells how many bytes it has taken: all, unless there is an outcome.
    pub fn handle_input(&mut self, now: Duration, bytes: &[u8]) -> usize {
        if self.outcome.is_some() {
            return 0;
        }
        // What was said before the question is no answer.
        if !self.asked {
            return bytes.len();
        }
        let used = self.sender.handle_input(now, bytes);
        self.watch(now);
        if self.sender.is_waiting() {
            self.keep(bytes);
            self.start_by_text();
        } else if self.quiet.is_some()
            && let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty())
        {
            self.keep(rest);
            self.quiet = Some(now.saturating_add(QUIET));
        }
        bytes.len()
    }

    fn start_by_text(&mut self) {
        if let Some(end) = end_of(self.said(), text::WAITING_MARK)
            && self.said().get(end..).is_some_and(|rest| rest.contains(&b'\n'))
        {
            self.sender.start();
            self.len = 0;
        }
    }

    /// Notices the end of the transfer.
    fn watch(&mut self, now: Duration) {
        if self.sender.outcome().is_some() && self.limit == Duration::MAX {
            self.limit = now.saturating_add(LAST_WORDS);
            // Firmware needs a moment for its words, and some says nothing.
            self.quiet = Some(now.saturating_add(4 * QUIET));
            self.len = 0;
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.len == TAIL {
                self.tail.copy_within(1.., 0);
                self.len -= 1;
            }
            if let Some(place) = self.tail.get_mut(self.len) {
                *place = *byte;
                self.len += 1;
            }
        }
    }

    /// The port is gone. After the transfer that is what a reset looks like.
    pub fn handle_close(&mut self, now: Duration) {
        self.sender.handle_close();
        self.watch(now);
        self.finish();
    }

    /// When [`Flash::handle_deadline`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        if self.outcome.is_some() {
            return None;
        }
        self.quiet.map(|quiet| quiet.min(self.limit)).or_else(|| self.sender.next_deadline())
    }

    /// The deadline has come. Early calls are harmless.
    pub fn handle_deadline(&mut self, now: Duration) {
        if self.quiet.is_none() {
            self.sender.handle_deadline(now);
            self.watch(now);
        } else if self.next_deadline().is_some_and(|deadline| now >= deadline) {
            self.finish();
        }
    }

    fn finish(&mut self) {
        let told = Told::find(self.said());
        let confirmed = end_of(self.said(), text::DOWNLOADED.as_bytes()).is_some();
        self.outcome = self.outcome.or_else(|| {
            Some(match (self.sender.outcome()?, told) {
                (Ok(()), None) => Ok(Flashed { confirmed }),
                (Ok(()), Some(told)) => Err(FlashFailure::Refused { told, transfer: None }),
                (Err(failure), None) => Err(FlashFailure::Transfer(failure)),
                (Err(failure), Some(told)) => Err(FlashFailure::Refused { told, transfer: Some(failure) }),
            })
        });
    }
}

impl<I> fmt::Debug for Flash<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flash")
            .field("sender", &self.sender)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}
