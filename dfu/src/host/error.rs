//! Why a host machine stops.

use core::fmt;

use super::image::Unreadable;
use crate::{
    state::State,
    status::{Status, StatusReplyError},
};

/// What the host was doing when something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Step {
    /// Nothing was sent yet.
    Start,
    /// Bringing the device to dfuIDLE.
    Connect,
    /// Sending the device from run-time to DFU mode.
    Detach,
    /// Asking for the state or the commands.
    Query,
    /// Erasing a page.
    Erase,
    /// Erasing everything.
    MassErase,
    /// Lifting the read protection.
    ReadUnprotect,
    /// Setting the address pointer.
    SetAddress,
    /// Writing a block.
    Write,
    /// Reading a block.
    Read,
    /// Reading back what was written.
    Verify,
    /// Going back to dfuIDLE with ABORT.
    Abort,
    /// Waiting for the device to put the new firmware in place.
    Manifest,
    /// Leaving DFU mode.
    Leave,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "starting",
            Self::Connect => "connecting",
            Self::Detach => "detaching",
            Self::Query => "asking the device",
            Self::Erase => "erasing",
            Self::MassErase => "erasing everything",
            Self::ReadUnprotect => "lifting the read protection",
            Self::SetAddress => "setting the address",
            Self::Write => "writing",
            Self::Read => "reading",
            Self::Verify => "reading back",
            Self::Abort => "returning to dfuIDLE",
            Self::Manifest => "finishing the download",
            Self::Leave => "leaving DFU mode",
        })
    }
}

/// Where the host was: step, block number and address. Block and address are 0 where they mean nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_structs, reason = "three facts of one transfer")]
pub struct Place {
    /// What was being done.
    pub step: Step,
    /// wBlockNum of the transfer.
    pub block: u16,
    /// The memory address concerned.
    pub address: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (block {}, address {:#010x})", self.step, self.block, self.address)
    }
}

/// A host machine gave up. Run [`Connect`](super::Connect) before anything else is tried with the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The device refused or failed: it stalled, or reported a state or status that means failure. A device in dfuERROR
    /// was sent CLRSTATUS.
    #[error("the device failed while {place}: it reports {state} with {status}")]
    Refused {
        /// Where.
        place: Place,
        /// bState of its last reply.
        state: State,
        /// bStatus of its last reply; Particle's bootloaders say OK even after a failure.
        status: Status,
    },
    /// The device stalls and does not even answer GETSTATUS.
    #[error("the device stalls GETSTATUS while {place}; unplug it or reset the bus")]
    Stalled {
        /// Where.
        place: Place,
    },
    /// A transfer timed out.
    #[error("the device did not answer in time while {place}; unplug it or reset the bus")]
    TimedOut {
        /// Where.
        place: Place,
    },
    /// The device went away.
    #[error("the device disconnected while {place}")]
    Disconnected {
        /// Where.
        place: Place,
    },
    /// The reply to GETSTATUS is malformed.
    #[error("the device sent a malformed reply while {place}")]
    BadReply {
        /// Where.
        place: Place,
        /// What is wrong.
        #[source]
        source: StatusReplyError,
    },
    /// The device stays busy beyond the limits of the policy.
    #[error(
        "the device was still busy after {polls} polls while {place}; raise the limit if its memory is slow"
    )]
    BusyTooLong {
        /// Where.
        place: Place,
        /// Number of GETSTATUS replies that said busy.
        polls: u32,
    },
    /// The device does not reach dfuIDLE.
    #[error("the device stays in {state} whatever is sent; unplug it")]
    NotIdle {
        /// Its last state.
        state: State,
    },
    /// The device runs its application, not DFU mode.
    #[error("the device is in run-time mode ({state}); bring it into DFU mode first")]
    RuntimeMode {
        /// Its state.
        state: State,
    },
    /// An UPLOAD returned fewer or more bytes than its block has.
    #[error("the device sent {found} of {expected} bytes while {place}")]
    FrameLength {
        /// Where.
        place: Place,
        /// Bytes asked for.
        expected: u16,
        /// Bytes that came.
        found: usize,
    },
    /// Memory differs from what was expected.
    #[error("memory at {address:#010x} holds {found:#04x} instead of {expected:#04x}")]
    Mismatch {
        /// The first address that differs.
        address: u32,
        /// The byte expected there.
        expected: u8,
        /// The byte read there.
        found: u8,
    },
    /// The device did not appear in DFU mode after it was detached.
    #[error(
        "the device did not come back in DFU mode; it may need a longer time, or this user may not open it there"
    )]
    NotFoundAgain,
    /// The bus has to be reset, and this transport cannot do that.
    #[error(
        "the bus has to be reset while {place} and this transport cannot do it; unplug the device and plug it in again"
    )]
    ResetUnsupported {
        /// Where.
        place: Place,
    },
    /// The device sends more than the buffer holds.
    #[error("the device sends more than {capacity} bytes; pass a larger buffer")]
    UploadTooLong {
        /// Bytes of the buffer.
        capacity: usize,
    },
    /// The image could not be read where it was needed.
    #[error("the image cannot be read while {place}")]
    Image {
        /// Where.
        place: Place,
        /// What the image said.
        #[source]
        source: Unreadable,
    },
    /// The caller cancelled the job. A device that was being read or written is in dfuIDLE; what was begun is not complete.
    #[error("cancelled while {place}")]
    Cancelled {
        /// Where.
        place: Place,
    },
    /// The input does not answer the action that the machine showed: a mistake in the caller's driver.
    #[error("the input does not answer the action shown while {place}; feed back what the action asked for")]
    UnexpectedInput {
        /// Where.
        place: Place,
    },
    /// [`drive`](super::drive), or the machine itself, got a buffer too short for the device's blocks.
    #[error(
        "the transfer buffer holds {available} bytes but {needed} are needed; pass one of the transfer size"
    )]
    TransferBuffer {
        /// Bytes needed.
        needed: usize,
        /// Bytes of the buffer.
        available: usize,
    },
}
