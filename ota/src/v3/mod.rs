//! Transfer of one image by protocol v3 (Device OS 3 and later), both ends, without a transport.
//!
//! Chunks of a window are sent without waiting and arrive in any order. The device acknowledges with the number of
//! chunks that are there in order, and a bitmap of those behind the first gap. A broken transfer of an image with a
//! SHA-256 goes on where it was.
//!
//! ```text
//! sender                               receiver
//!   Start { size, chunk size, SHA } ->   Begin: where does it go on?
//!          <--------------------------   StartAnswer { window, offset }
//!   Chunk 1, 2, 3, ... -------------->   Save
//!          <--------------------------   Ack { in order, bitmap }
//!   ...
//!   Finish -------------------------->   Validate
//!          <--------------------------   FinishAnswer { statistics }
//!   (acknowledgement) --------------->   Apply
//! ```
//!
//! Start and Finish, and their answers, are confirmable messages: the transport repeats them until they are
//! acknowledged. Chunks and their acknowledgements are not; here their loss is mended.
//!
//! | limit | value |
//! |---|---|
//! | chunk size | [`MIN_CHUNK_SIZE`] to [`max_chunk_size`], multiple of 4 |
//! | window | [`WINDOW_BYTES`] divided by the chunk size, so at most [`MAX_WINDOW`] chunks |
//! | acknowledgement | at once, or [`ACK_DELAY`] after a chunk |
//! | silence | [`SILENCE`], then the device cancels |
//!
//! # Source
//! device-os@v6.2.0: `communication/src/firmware_update.cpp`.

mod acknowledgement;
mod receiver;
mod rejection;
mod sender;
mod window;

pub use acknowledgement::Acknowledgement;
pub use receiver::{Output as ReceiverOutput, Plan, Receiver, Statistics};
pub use rejection::Rejection;
pub use sender::{
    Failure, Input as SenderInput, Options, Output as SenderOutput, Progress, Sender, SenderError,
};

use core::time::Duration;

/// Smallest chunk that a device takes.
pub const MIN_CHUNK_SIZE: u16 = 512;
/// Bytes that may be on their way.
pub const WINDOW_BYTES: u32 = 128 * 1024;
/// Chunks that may be on their way, at most.
pub const MAX_WINDOW: u16 = 256;
/// A lone chunk is acknowledged this long after it came.
pub const ACK_DELAY: Duration = Duration::from_millis(200);
/// Without a chunk for this long, a device cancels.
pub const SILENCE: Duration = Duration::from_secs(300);

/// The longest chunk for a device whose CoAP messages have up to `buffer` bytes: 1136 for 1152, 944 for 960; less than
/// [`MIN_CHUNK_SIZE`] if none fits.
///
/// ```
/// assert_eq!(spark_ota::v3::max_chunk_size(1152), 1136);
/// assert_eq!(spark_ota::v3::max_chunk_size(960), 944);
/// ```
#[must_use]
pub const fn max_chunk_size(buffer: u16) -> u16 {
    buffer.saturating_sub(14) / 4 * 4
}

/// Begins a transfer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Start {
    /// Bytes of the image.
    pub file_size: u32,
    /// Bytes of a chunk.
    pub chunk_size: u16,
    /// SHA-256 of the image, by which a broken transfer is known again. Without it nothing is resumed.
    pub sha256: Option<[u8; 32]>,
    /// What there is of an earlier transfer is discarded.
    pub discard: bool,
    /// Function of the module; newer versions only.
    pub module_function: Option<u8>,
}

/// Answer to [`Start`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct StartAnswer {
    /// Chunks that may be on their way.
    pub window: u16,
    /// Bytes that are there already; chunk 1 begins here.
    pub offset: u32,
}

/// Ends a transfer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Finish {
    /// The image is not complete and will not be.
    pub cancel: bool,
    /// What came of it is not to be resumed.
    pub discard: bool,
}

/// Chunks of `len` bytes.
const fn chunk_count(len: u32, chunk_size: u16) -> u32 {
    len.div_ceil(chunk_size as u32)
}
