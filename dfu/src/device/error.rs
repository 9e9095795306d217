//! Refusals, and devices that cannot be.

use crate::{descriptor::Description, layout::LayoutError};

/// The device refuses the transfer: answer the setup packet with a protocol stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the device stalls this control transfer")]
pub struct Stall;

/// A device cannot be built from these parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The block buffer is shorter than wTransferSize.
    #[error("the block buffer holds {available} bytes but one block may have {needed}")]
    BlockBufferTooSmall {
        /// wTransferSize.
        needed: usize,
        /// Bytes of the buffer.
        available: usize,
    },
    /// wTransferSize is 0.
    #[error("a transfer size of 0 leaves no room for data")]
    NoTransferSize,
    /// There is no alternate setting, or more than [`Description::MAX_ALTERNATES`].
    #[error("a device has 1 to {max} alternate settings, not {count}", max = Description::MAX_ALTERNATES)]
    Alternates {
        /// Number of alternate settings.
        count: usize,
    },
    /// An alternate setting of a DfuSe device has no usable layout string.
    #[error("the layout string of alternate setting {alternate} is invalid")]
    Layout {
        /// Number of the alternate setting.
        alternate: u8,
        /// What is wrong with it.
        #[source]
        source: LayoutError,
    },
}
