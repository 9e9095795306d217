//! Taking a stream apart and putting it together.

use alloc::vec::Vec;
use core::fmt;
use tokio::time::Instant;

/// What a [`Framed`](super::Framed) is made of.
#[allow(clippy::exhaustive_structs, reason = "made by callers")]
pub struct Parts<S, M> {
    /// The transport.
    pub io: S,
    /// The machine.
    pub machine: M,
    /// Read, and not taken by the machine.
    pub unread: Vec<u8>,
    /// Sealed by the machine, and not written: perhaps the rest of a frame. Nothing may be written before it.
    pub output: Vec<u8>,
    /// When the machine's clock began.
    pub started: Instant,
}

impl<S: fmt::Debug, M: fmt::Debug> fmt::Debug for Parts<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("io", &self.io)
            .field("machine", &self.machine)
            .field("unread", &self.unread.len())
            .field("output", &self.output.len())
            .field("started", &self.started)
            .finish()
    }
}
