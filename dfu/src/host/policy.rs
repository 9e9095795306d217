//! Limits of a host: how long it waits, how often it asks.

use core::time::Duration;

/// Limits on waiting. A device may ask for waits of 4.6 hours and stay busy forever; a host must not follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "meant for struct update from the default")]
pub struct Policy {
    /// Shortest wait after a reply that says busy, so that the bus is not flooded when bwPollTimeout is 0. Other replies
    /// are followed up at once.
    pub busy_floor: Duration,
    /// Longest single wait; a longer bwPollTimeout is cut to this and the device asked again then.
    pub max_wait: Duration,
    /// Longest time a device may stay busy with one request.
    pub max_busy: Duration,
    /// Most busy replies to one request.
    pub max_polls: u32,
    /// Most requests of [`Connect`](super::Connect).
    pub max_connect_requests: u32,
    /// wTimeout of DETACH: how long the device waits for the bus reset. A shorter wDetachTimeOut is used instead.
    pub detach_timeout: Duration,
    /// How long a detached device may take to appear in DFU mode.
    pub reenumeration: Duration,
}

impl Policy {
    /// 2 ms floor, 35 s for one wait (an STM32F405's mass erase), 60 s and 10 000 polls for one request, 10 s to
    /// appear again.
    pub const DEFAULT: Self = Self {
        busy_floor: Duration::from_millis(2),
        max_wait: Duration::from_secs(35),
        max_busy: Duration::from_secs(60),
        max_polls: 10_000,
        detach_timeout: Duration::from_secs(1),
        reenumeration: Duration::from_secs(10),
        max_connect_requests: 16,
    };
}

impl Default for Policy {
    fn default() -> Self {
        Self::DEFAULT
    }
}
