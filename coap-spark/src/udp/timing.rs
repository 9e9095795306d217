//! Waits and limits.

use core::time::Duration;

/// `ACK_TIMEOUT`: the wait after the first sending, 4 s (2 s in RFC 7252).
pub const ACK_TIMEOUT: Duration = Duration::from_secs(4);
/// `MAX_RETRANSMIT`: sendings after the first one.
pub const MAX_RETRANSMIT: u8 = 3;
/// `MAX_TRANSMIT_SPAN`: how long a message can be repeated, so how long its reply is kept.
pub const MAX_TRANSMIT_SPAN: Duration = Duration::from_secs(45);
/// Silence after which a device sends a keep-alive.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(23 * 60);
/// How long a device waits for anything to come after a keep-alive.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(30);

/// How an endpoint repeats, remembers and keeps alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Timing {
    /// Wait after the first sending, without its random part. Each further wait is twice the one before.
    pub ack_timeout: Duration,
    /// Sendings after the first one.
    pub max_retransmit: u8,
    /// How long confirmable messages are remembered, and replies with them.
    pub max_transmit_span: Duration,
    /// Keep-alives of this end. The end that has none sends those of the peer back.
    pub keep_alive: Option<KeepAlive>,
}

/// When a keep-alive is sent, and what follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct KeepAlive {
    /// Silence in both directions after which it is sent.
    pub interval: Duration,
    /// How long to wait for any datagram after it; then the session is over.
    pub timeout: Duration,
}

impl Timing {
    /// A server, or a device whose application keeps the path open itself.
    pub const SERVER: Self = Self {
        ack_timeout: ACK_TIMEOUT,
        max_retransmit: MAX_RETRANSMIT,
        max_transmit_span: MAX_TRANSMIT_SPAN,
        keep_alive: None,
    };

    /// A device.
    pub const DEVICE: Self = Self {
        keep_alive: Some(KeepAlive { interval: KEEP_ALIVE_INTERVAL, timeout: KEEP_ALIVE_TIMEOUT }),
        ..Self::SERVER
    };

    /// How long to wait for an acknowledgement after the sending that `before` others went before: `ack_timeout`
    /// times 2 to the power of `before`, and up to half of that more, by `random`.
    #[must_use]
    pub const fn wait(&self, before: u8, random: u8) -> Duration {
        let factor = match 1_u32.checked_shl(before as u32) {
            Some(factor) => factor,
            None => u32::MAX,
        };
        let wait = self.ack_timeout.saturating_mul(factor);
        let more = match wait.saturating_mul(random as u32).checked_div(512) {
            Some(more) => more,
            None => Duration::ZERO,
        };
        wait.saturating_add(more)
    }
}
