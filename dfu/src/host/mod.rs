//! The host side: machines that download, upload, verify and leave, one outstanding request at a time.
//!
//! Every machine shows an [`Action`] until [`Machine::handle`] is told how it ended, so asking twice is harmless. Order
//! of a whole job: read the layout string and make a [`Plan`], select the alternate setting with SET_INTERFACE, then run
//! [`Connect`], [`Download`], [`Verify`], [`Leave`]; each of them starts and (except the last) ends in dfuIDLE.
//! [`drive`] runs one machine over a blocking transport.

mod connect;
mod download;
mod drive;
mod error;
mod exchange;
mod leave;
mod plan;
mod policy;
mod upload;

use core::time::Duration;

pub use connect::Connect;
pub use download::Download;
pub use drive::{Clock, ControlTransfer, TransferFailure, drive};
pub use error::{HostError, Place, Step};
pub use leave::{Leave, LeaveOutcome};
pub use plan::{EraseMode, Pages, Plan, PlanError};
pub use policy::Policy;
pub use upload::{Upload, Verify};

use crate::request::SetupPacket;

/// What the caller has to do next.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
#[allow(
    clippy::exhaustive_enums,
    reason = "a driver has to handle each of them; another one would break all drivers"
)]
pub enum Action<'m> {
    /// A control transfer from host to device; answer with [`Input::OutDone`] or a failure.
    Out {
        /// The setup packet.
        setup: SetupPacket,
        /// The data stage, `setup.length` bytes.
        data: &'m [u8],
    },
    /// A control transfer from device to host; answer with [`Input::InDone`] or a failure.
    In {
        /// The setup packet; `setup.length` is the most bytes that may come.
        setup: SetupPacket,
    },
    /// Nothing to send before this time; answer with [`Input::TimeReached`].
    Wait {
        /// On the clock of [`Machine::handle`]'s `now`.
        until: Duration,
    },
    /// The machine is done; it takes no more input.
    Finished,
}

/// Without the data: it may be a private key.
impl core::fmt::Debug for Action<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Out { setup, data } => {
                f.debug_struct("Out").field("setup", setup).field("len", &data.len()).finish()
            }
            Self::In { setup } => f.debug_struct("In").field("setup", setup).finish(),
            Self::Wait { until } => f.debug_struct("Wait").field("until", until).finish(),
            Self::Finished => f.write_str("Finished"),
        }
    }
}

/// How an [`Action`] ended.
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "the ways a control transfer or a wait can end")]
pub enum Input<'d> {
    /// The OUT transfer was acknowledged.
    OutDone,
    /// The IN transfer brought these bytes.
    InDone(&'d [u8]),
    /// The device stalled.
    Stalled,
    /// The transfer was not answered in time. 5 s suit all known devices.
    TimedOut,
    /// The device is gone; also right for an error of the bus that will not heal.
    Disconnected,
    /// The time of [`Action::Wait`] has come. Too early is harmless.
    TimeReached,
}

/// Without the data: it may be a private key.
impl core::fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::OutDone => f.write_str("OutDone"),
            Self::InDone(data) => f.debug_struct("InDone").field("len", &data.len()).finish(),
            Self::Stalled => f.write_str("Stalled"),
            Self::TimedOut => f.write_str("TimedOut"),
            Self::Disconnected => f.write_str("Disconnected"),
            Self::TimeReached => f.write_str("TimeReached"),
        }
    }
}

/// What a machine achieved with one input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Progress {
    /// A page is erased.
    Erased {
        /// Its first address.
        address: u32,
        /// Its length in bytes.
        size: u32,
    },
    /// Bytes written so far.
    Written {
        /// Bytes on the device.
        done: u32,
        /// Bytes of the image.
        total: u32,
    },
    /// Bytes read (and, in [`Verify`], found equal) so far.
    Read {
        /// Bytes read.
        done: u32,
        /// Bytes wanted.
        total: u32,
    },
}

/// A host machine.
pub trait Machine {
    /// What to do now. Pure: the same until [`handle`](Self::handle) is called.
    fn action(&self) -> Action<'_>;

    /// Takes the end of the action and moves on. Bounded work: at most one copy or comparison of one block.
    ///
    /// # Errors
    /// [`HostError`]: the job failed. The machine shows [`Action::Finished`] from then on.
    fn handle(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError>;
}
