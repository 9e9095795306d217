//! The host side: machines that download, upload, verify and leave, one outstanding request at a time.
//!
//! Every machine shows an [`Action`] until [`Machine::handle`] is told how it ended, so asking twice is harmless.
//!
//! | job | machines in order |
//! |---|---|
//! | from run-time to DFU mode | [`Detach`] |
//! | DfuSe: write, check, start the firmware | [`Connect`], [`Download`] by a [`Plan`], [`Leave`] |
//! | DfuSe: read or compare | [`Connect`], [`Upload`] or [`Verify`] by a [`ReadPlan`] |
//! | DfuSe: erase everything, lift the read protection | [`Connect`], [`Special`] |
//! | DFU 1.0 and 1.1 | [`Connect`], [`plain::Download`] or [`plain::Upload`] |
//! | ask | [`GetState`], [`GetCommands`] |
//!
//! Select the alternate setting with SET_INTERFACE before [`Connect`], and again each time the interface was claimed.
//! [`drive`] runs one machine over a blocking transport.

mod commands;
mod connect;
mod detach;
mod download;
mod drive;
mod error;
mod exchange;
mod image;
mod journal;
mod leave;
mod link;
mod pages;
pub mod plain;
mod plan;
mod policy;
mod query;
mod reader;
mod upload;

use core::time::Duration;

pub use commands::{Special, SpecialOutcome};
pub use connect::Connect;
pub use detach::{Detach, DetachOutcome};
pub use download::Download;
pub use drive::{Clock, ControlTransfer, TransferFailure, drive, drive_while};
pub use error::{HostError, Place, Step};
pub use image::{Image, Unreadable};
pub use journal::{Journal, JournalError};
pub use leave::{Leave, LeaveOutcome};
pub use link::Link;
pub use pages::{Part, Parts, Span, Unit, Units};
pub use plan::{EraseMode, Plan, PlanError, ReadPlan, WriteOptions};
pub use policy::Policy;
pub use query::{CommandSet, GetCommands, GetState};
pub use upload::{Upload, Verify};

pub use crate::dfuse::Element;
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
    /// Reset the bus; answer with [`Input::BusReset`], [`Input::Unsupported`] (Windows cannot do it) or a failure. Only
    /// [`Detach`] and [`plain::Download`] ask for it.
    ResetBus,
    /// Find the device again, in DFU mode, with whatever ids it has there, and send the next transfers to it. Answer with
    /// [`Input::Found`], or with [`Input::TimeReached`] if it has not come by then. Only [`Detach`] asks for it.
    FindAgain {
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
            Self::ResetBus => f.write_str("ResetBus"),
            Self::FindAgain { until } => f.debug_struct("FindAgain").field("until", until).finish(),
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
    /// The time of [`Action::Wait`] or [`Action::FindAgain`] has come. Too early is harmless while one of them is shown.
    TimeReached,
    /// The bus was reset.
    BusReset,
    /// The device is there again, in DFU mode.
    Found,
    /// This transport cannot do what was asked for.
    Unsupported,
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
            Self::BusReset => f.write_str("BusReset"),
            Self::Found => f.write_str("Found"),
            Self::Unsupported => f.write_str("Unsupported"),
        }
    }
}

/// What a machine achieved with one input. `done` and `total` count bytes of the whole job.
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
    /// All memory of the alternate setting is erased.
    MassErased,
    /// Bytes that are on the device, whether they were written now or were there before.
    Written {
        /// Bytes on the device.
        done: u64,
        /// Bytes of the image.
        total: u64,
    },
    /// Bytes that already were on the device and are not written.
    Unchanged {
        /// Bytes on the device.
        done: u64,
        /// Bytes of the image.
        total: u64,
    },
    /// Bytes read back and found equal.
    Verified {
        /// Bytes compared.
        done: u64,
        /// Bytes of the image.
        total: u64,
    },
    /// Bytes read by an upload.
    Read {
        /// Bytes read.
        done: u64,
        /// Bytes wanted; `None` if only the device knows.
        total: Option<u64>,
    },
}

/// A host machine.
pub trait Machine {
    /// What to do now. Pure: the same until [`handle`](Self::handle) or [`cancel`](Self::cancel) is called.
    fn action(&self) -> Action<'_>;

    /// Takes the end of the action and moves on. Bounded work: at most one page is copied or compared (after a mass erase,
    /// all blank blocks that follow each other).
    ///
    /// # Errors
    /// [`HostError`]: the job failed. The machine shows [`Action::Finished`] from then on.
    fn handle(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError>;

    /// Asks the machine to stop at the next moment that leaves the device in order: a block or an erase that was begun is
    /// waited for, a page whose content is kept is finished, then ABORT is sent. Feed the answer to the action at hand
    /// first, and go on until the job ends with [`HostError::Cancelled`], or well, if it was done by then. A machine whose
    /// first action was not carried out yet is simply dropped.
    fn cancel(&mut self);
}

impl<M: Machine + ?Sized> Machine for &mut M {
    fn action(&self) -> Action<'_> {
        (**self).action()
    }

    fn handle(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        (**self).handle(now, input)
    }

    fn cancel(&mut self) {
        (**self).cancel();
    }
}
