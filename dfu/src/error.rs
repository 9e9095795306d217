//! Errors that several modules share.

/// The caller's output buffer cannot hold the encoded value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the output buffer holds {available} bytes but {needed} are needed; pass a larger one")]
pub struct BufferTooSmall {
    /// Bytes the value needs.
    pub needed: usize,
    /// Bytes the buffer has.
    pub available: usize,
}
