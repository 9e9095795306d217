//! Sending slowly enough for the old downloader.

use crate::sonoff::limits;
use core::ops::Range;
use core::time::Duration;

/// How slowly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Pace {
    /// Bytes of the body with the head.
    pub first: usize,
    /// Wait after them.
    pub pause: Duration,
    /// Bytes of every piece after that.
    pub piece: usize,
    /// Wait after each.
    pub interval: Duration,
}

impl Pace {
    /// That of SonOTA, found with users: 239 KB take about 51 s.
    pub const SLOW: Self = Self {
        first: limits::PACE_FIRST,
        pause: limits::PACE_PAUSE,
        piece: limits::PACE_PIECE,
        interval: limits::PACE_INTERVAL,
    };

    /// Time that a body of this length takes.
    #[must_use]
    pub fn duration(&self, length: u32) -> Duration {
        let rest = usize::try_from(length).unwrap_or(usize::MAX).saturating_sub(self.first);
        let pieces = rest.div_ceil(self.piece.max(1));
        match u32::try_from(pieces.saturating_sub(1)) {
            _ if pieces == 0 => Duration::ZERO,
            Ok(waits) => self.pause.saturating_add(self.interval.saturating_mul(waits)),
            Err(_) => Duration::MAX,
        }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::SLOW
    }
}

/// When to send which bytes of a body.
///
/// Send the head together with the first piece. Poll until there is `None`, then again at the deadline. After a late call
/// only one piece comes, so that no burst follows a stall.
///
/// ```
/// use core::time::Duration;
/// use spark_ota::sonoff::http::{Pace, Pacer};
///
/// let start = Duration::from_secs(7);
/// let mut pacer = Pacer::new(3000, Pace::SLOW);
/// assert_eq!(pacer.poll(start), Some(0..10));
/// assert_eq!(pacer.poll(start), None);
/// assert_eq!(pacer.next_deadline(), Some(start + Duration::from_millis(900)));
/// assert_eq!(pacer.poll(start + Duration::from_millis(900)), Some(10..1410));
/// ```
#[derive(Clone, Debug)]
pub struct Pacer {
    pace: Pace,
    length: u32,
    sent: u32,
    next: Duration,
}

impl Pacer {
    /// For a body of `length` bytes.
    #[must_use]
    pub const fn new(length: u32, pace: Pace) -> Self {
        Self { pace, length, sent: 0, next: Duration::ZERO }
    }

    /// The piece that is due, if one is.
    pub fn poll(&mut self, now: Duration) -> Option<Range<u32>> {
        if self.is_finished() || now < self.next {
            return None;
        }
        let (bytes, wait) = match self.sent {
            0 => (self.pace.first, self.pace.pause),
            _ => (self.pace.piece, self.pace.interval),
        };
        let start = self.sent;
        let bytes = u32::try_from(bytes.max(1)).unwrap_or(u32::MAX);
        self.sent = start.saturating_add(bytes).min(self.length);
        self.next = now.saturating_add(wait);
        Some(start..self.sent)
    }

    /// When the next piece is due; `None` at the end.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        (!self.is_finished()).then_some(self.next)
    }

    /// Everything was polled.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.sent == self.length
    }

    /// Bytes that were polled.
    #[must_use]
    pub const fn sent(&self) -> u32 {
        self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn usual_image_takes_as_long_as_was_measured() {
        // session_slowstream.json: 23.2 s for 104,276 bytes, in 76 reads.
        let time = Pace::SLOW.duration(104_276);
        assert!((22_900..23_300).contains(&time.as_millis()), "{time:?}");
        assert_eq!(Pace::SLOW.duration(239_220).as_secs(), 51);
        assert_eq!(Pace::SLOW.duration(10), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn pieces_are_the_body_and_take_the_time_that_was_told(length in 0u32..20_000, first in 0usize..50, piece in 1usize..3000) {
            let pace = Pace { first, piece, ..Pace::SLOW };
            let mut pacer = Pacer::new(length, pace);
            let (mut now, mut next) = (Duration::ZERO, 0);
            while let Some(deadline) = pacer.next_deadline() {
                prop_assert!(deadline >= now);
                now = deadline;
                let part = pacer.poll(now).unwrap();
                prop_assert_eq!(part.start, next);
                prop_assert!(part.end > part.start);
                next = part.end;
                prop_assert!(pacer.is_finished() || pacer.poll(now).is_none());
            }
            prop_assert_eq!(next, length);
            if first > 0 {
                prop_assert_eq!(now, pace.duration(length));
            }
        }
    }
}
