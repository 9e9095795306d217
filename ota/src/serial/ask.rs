//! One letter to the device, and all that it says to it.

use super::QUIET;
use core::fmt;
use core::time::Duration;

/// A command that is answered with a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Question {
    /// `i`.
    Identity,
    /// `m`.
    Mac,
    /// `s`.
    Modules,
    /// `v`.
    Version,
    /// `c`.
    Claimed,
    /// `d`.
    Diagnostics,
}

impl Question {
    /// The letter.
    #[must_use]
    pub const fn letter(self) -> u8 {
        match self {
            Self::Identity => b'i',
            Self::Mac => b'm',
            Self::Modules => b's',
            Self::Version => b'v',
            Self::Claimed => b'c',
            Self::Diagnostics => b'd',
        }
    }

    /// By its letter.
    #[must_use]
    pub const fn from_letter(letter: u8) -> Option<Self> {
        Some(match letter {
            b'i' => Self::Identity,
            b'm' => Self::Mac,
            b's' => Self::Modules,
            b'v' => Self::Version,
            b'c' => Self::Claimed,
            b'd' => Self::Diagnostics,
            _ => return None,
        })
    }

    /// Longest wait for the answer, as the vendor's program has it.
    #[must_use]
    pub const fn limit(self) -> Duration {
        match self {
            Self::Identity | Self::Modules => Duration::from_secs(20),
            // Firmware that knows claim codes answers at once, other never.
            Self::Claimed => Duration::from_millis(500),
            _ => Duration::from_secs(5),
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum AskError {
    /// Nothing came in time.
    #[error("the device did not answer `{}`", char::from(question.letter()))]
    Silent {
        /// To what.
        question: Question,
    },
    /// More came than there is room for.
    #[error("the device said more than {limit} bytes to `{}`", char::from(question.letter()))]
    TooLong {
        /// To what.
        question: Question,
        /// The room.
        limit: usize,
    },
}

/// Asks one question and collects the answer, up to `N` bytes: it is complete after a silence of [`QUIET`].
#[derive(Clone)]
pub struct Ask<const N: usize = 4096> {
    question: Question,
    due: bool,
    answer: [u8; N],
    len: usize,
    limit: Duration,
    quiet: Option<Duration>,
    outcome: Option<Result<(), AskError>>,
}

impl<const N: usize> Ask<N> {
    /// Will ask; poll its output.
    #[must_use]
    pub const fn new(now: Duration, question: Question) -> Self {
        Self {
            question,
            due: true,
            answer: [0; N],
            len: 0,
            limit: now.saturating_add(question.limit()),
            quiet: None,
            outcome: None,
        }
    }

    /// What to send next.
    pub const fn poll_output(&mut self) -> Option<u8> {
        if core::mem::replace(&mut self.due, false) { Some(self.question.letter()) } else { None }
    }

    /// Takes what the device said and tells how many bytes it has taken: all, unless there is an outcome.
    pub fn handle_input(&mut self, now: Duration, bytes: &[u8]) -> usize {
        if self.outcome.is_some() {
            return 0;
        }
        // What was said before the question is no answer.
        if self.due {
            return bytes.len();
        }
        let len = bytes.len().min(N - self.len);
        if let (Some(place), Some(bytes)) = (self.answer.get_mut(self.len..self.len + len), bytes.get(..len))
        {
            place.copy_from_slice(bytes);
            self.len += len;
        }
        if len < bytes.len() {
            self.outcome = Some(Err(AskError::TooLong { question: self.question, limit: N }));
        } else if self.len > 0 {
            self.quiet = Some(now.saturating_add(QUIET));
        }
        len
    }

    /// The answer, once it is complete.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<&[u8], AskError>> {
        Some(self.outcome?.map(|()| self.answer.get(..self.len).unwrap_or_default()))
    }

    /// When [`Ask::handle_deadline`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.outcome.is_none().then(|| self.quiet.map_or(self.limit, |quiet| quiet.min(self.limit)))
    }

    /// The deadline has come. Early calls are harmless. A device that is still speaking at the last has answered, too.
    pub fn handle_deadline(&mut self, now: Duration) {
        if self.next_deadline().is_some_and(|deadline| now >= deadline) {
            let silent = AskError::Silent { question: self.question };
            self.outcome = Some(if self.len > 0 { Ok(()) } else { Err(silent) });
        }
    }
}

impl<const N: usize> fmt::Debug for Ask<N> {
    /// Without the answer: it may hold secrets of the device.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask")
            .field("question", &self.question)
            .field("len", &self.len)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const ALL: [Question; 6] = [
        Question::Identity,
        Question::Mac,
        Question::Modules,
        Question::Version,
        Question::Claimed,
        Question::Diagnostics,
    ];

    #[test]
    fn an_answer_is_complete_after_a_silence() {
        let mut ask = Ask::<64>::new(MS(0), Question::Identity);
        assert_eq!(ask.handle_input(MS(0), b"old noise"), 9);
        assert_eq!((ask.poll_output(), ask.poll_output()), (Some(b'i'), None));
        assert_eq!(ask.next_deadline(), Some(MS(20_000)));
        ask.handle_input(MS(100), b"Your dev");
        ask.handle_deadline(MS(349));
        ask.handle_input(MS(349), b"ice id is");
        ask.handle_deadline(MS(350));
        assert_eq!(ask.outcome(), None);
        ask.handle_deadline(MS(599));
        assert_eq!(ask.outcome(), Some(Ok(&b"Your device id is"[..])));
        assert_eq!((ask.handle_input(MS(600), b"late"), ask.next_deadline()), (0, None));
    }

    #[test]
    fn silence_ends_where_the_limit_is() {
        for (question, limit) in ALL.into_iter().zip([20_000, 5_000, 20_000, 5_000, 500, 5_000]) {
            let mut ask = Ask::<64>::new(MS(7), question);
            ask.poll_output();
            ask.handle_deadline(MS(limit + 6));
            assert_eq!(ask.outcome(), None);
            ask.handle_deadline(MS(limit + 7));
            assert_eq!(ask.outcome(), Some(Err(AskError::Silent { question })));
            assert_eq!(Question::from_letter(question.letter()), Some(question));
        }
        assert_eq!(Question::from_letter(b'w'), None);
    }

    #[test]
    fn devices_that_do_not_stop_have_answered_at_the_limit_or_are_cut_off() {
        let mut ask = Ask::<64>::new(MS(0), Question::Claimed);
        ask.poll_output();
        for at in 0..6 {
            ask.handle_input(MS(at * 100), b"x");
            ask.handle_deadline(MS(at * 100));
        }
        assert_eq!(ask.outcome(), Some(Ok(&b"xxxxxx"[..])));

        let mut ask = Ask::<64>::new(MS(0), Question::Version);
        ask.poll_output();
        assert_eq!(ask.handle_input(MS(1), &[b'x'; 64]), 64);
        assert_eq!(ask.handle_input(MS(2), b"y"), 0);
        let error = AskError::TooLong { question: Question::Version, limit: 64 };
        assert_eq!(ask.outcome(), Some(Err(error)));
    }
}
