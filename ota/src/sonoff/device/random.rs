//! The generator that devices use, which starts with every boot in the same way.

use core::time::Duration;

/// `rand()` of the device's C library.
///
/// ```
/// let mut random = spark_ota::sonoff::device::Random::new();
/// assert_eq!(random.next(), 1_481_765_933);
/// ```
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// As after a boot.
    #[must_use]
    pub const fn new() -> Self {
        Self(1)
    }

    /// The next number, 31 bits.
    #[allow(clippy::should_implement_trait, reason = "it is no iterator: it has no end")]
    pub fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u32::try_from(self.0 >> 32 & 0x7fff_ffff).unwrap_or_default()
    }

    /// A time from `least` to before `least` and `range` more.
    pub(super) fn time(&mut self, least: Duration, range: Duration) -> Duration {
        let range = u32::try_from(range.as_millis()).unwrap_or(u32::MAX).max(1);
        least.saturating_add(Duration::from_millis((self.next() % range).into()))
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}
