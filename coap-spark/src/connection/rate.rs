//! How many events a device may publish.

use core::time::Duration;

/// Events of the application within [`USER_WINDOW`].
const USER_EVENTS: usize = 4;
const USER_WINDOW: Duration = Duration::from_millis(1000);
/// Events of the system within [`SYSTEM_WINDOW`].
const SYSTEM_EVENTS: u8 = 255;
const SYSTEM_WINDOW: Duration = Duration::from_millis(65_536);

/// The limits of device firmware: 4 events of the application in any second, 255 of the system in 65.536 s.
///
/// # Source
/// device-os@v2.3.1: `communication/src/publisher.h`; v0.7.0: `spark_protocol.cpp`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EventRate {
    /// When the last events of the application went out, oldest first.
    user: [Option<Duration>; USER_EVENTS],
    system_since: Option<Duration>,
    system: u8,
}

impl EventRate {
    /// When an event may go out next: `now` or later.
    pub(super) fn due(&self, now: Duration, is_system: bool) -> Duration {
        let due = if is_system {
            self.system_since
                .filter(|_| self.system == SYSTEM_EVENTS)
                .map(|since| since.saturating_add(SYSTEM_WINDOW))
        } else {
            self.user[0].map(|oldest| oldest.saturating_add(USER_WINDOW))
        };
        due.map_or(now, |due| due.max(now))
    }

    /// Counts an event that went out.
    pub(super) fn count(&mut self, now: Duration, is_system: bool) {
        if !is_system {
            self.user[0] = Some(now);
            self.user.rotate_left(1);
        } else if self.system_since.is_some_and(|since| now < since.saturating_add(SYSTEM_WINDOW)) {
            self.system = self.system.saturating_add(1);
        } else {
            (self.system_since, self.system) = (Some(now), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifth_event_within_a_second_waits() {
        let mut rate = EventRate::default();
        let at = Duration::from_millis;
        for now in [0, 100, 200, 300] {
            assert_eq!(rate.due(at(now), false), at(now));
            rate.count(at(now), false);
        }
        assert_eq!(rate.due(at(999), false), at(1000));
        assert_eq!(rate.due(at(1000), false), at(1000));
        rate.count(at(1000), false);
        assert_eq!(rate.due(at(1000), false), at(1100));
        assert_eq!(rate.due(at(1000), true), at(1000), "the system has a limit of its own");
    }

    #[test]
    fn the_system_has_255_events_in_its_window() {
        let mut rate = EventRate::default();
        let start = Duration::from_secs(7);
        for _ in 0..255 {
            assert_eq!(rate.due(start, true), start);
            rate.count(start, true);
        }
        let end = start + SYSTEM_WINDOW;
        assert_eq!(rate.due(start, true), end);
        assert_eq!(rate.due(end, true), end);
        rate.count(end, true);
        assert_eq!(rate.due(end, true), end);
    }
}
