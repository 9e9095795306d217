//! The device that `--once` is about.

use super::story::{End, Outcome};
use core::time::Duration;
use spark_ota::sonoff::DeviceId;
use tokio::time::Instant;

/// After the end of the first device a server that is there for one stays so long, in case it asks again.
pub(super) const STAY: Duration = Duration::from_secs(8);

/// The first device that comes to an end, and how. What becomes of others does not count.
#[derive(Debug, Default)]
pub(super) struct First {
    device: Option<DeviceId>,
    pub(super) outcome: Option<Outcome>,
    /// When it has not asked again.
    pub(super) leave_at: Option<Instant>,
}

impl First {
    pub(super) fn take(&mut self, now: Instant, end: End) {
        if self.device.is_none() && end.outcome != Outcome::Open {
            self.device = Some(end.device_id);
        }
        if self.device != Some(end.device_id) {
            return;
        }
        if end.outcome == Outcome::Open {
            (self.outcome, self.leave_at) = (None, None);
        } else {
            self.outcome = Some(end.outcome);
            self.leave_at = self.leave_at.or_else(|| now.checked_add(STAY));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ends: &[(u64, &str, Outcome)]) -> (Option<Outcome>, Option<u64>) {
        let start = Instant::now();
        let mut first = First::default();
        for (second, id, outcome) in ends {
            let end = End { device_id: DeviceId::new(id).unwrap(), outcome: *outcome };
            first.take(start + Duration::from_secs(*second), end);
        }
        (first.outcome, first.leave_at.map(|at| at.duration_since(start).as_secs()))
    }

    #[test]
    fn first_device_counts_and_others_put_nothing_off() {
        use Outcome::{Failed, Open, Succeeded};
        let (one, other) = ("1000000001", "1000000002");
        assert_eq!(after(&[]), (None, None));
        assert_eq!(after(&[(0, one, Failed), (5, other, Succeeded)]), (Some(Failed), Some(8)));
        assert_eq!(after(&[(0, one, Succeeded), (5, other, Failed)]), (Some(Succeeded), Some(8)));
        assert_eq!(after(&[(0, one, Succeeded), (5, other, Open)]), (Some(Succeeded), Some(8)));
        // One that has begun is not one that has ended.
        assert_eq!(after(&[(0, other, Open), (5, one, Succeeded)]), (Some(Succeeded), Some(13)));
        // It asks once more, or comes back with the old firmware.
        assert_eq!(after(&[(0, one, Succeeded), (5, one, Open)]), (None, None));
        assert_eq!(after(&[(0, one, Succeeded), (5, one, Open), (6, other, Succeeded)]), (None, None));
        assert_eq!(
            after(&[(0, one, Succeeded), (5, one, Open), (90, one, Succeeded)]),
            (Some(Succeeded), Some(98))
        );
        assert_eq!(after(&[(0, one, Succeeded), (5, one, Failed)]), (Some(Failed), Some(8)));
    }
}
