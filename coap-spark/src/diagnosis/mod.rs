//! What a failed connection means, from any of the places where it shows.
//!
//! A device that does not come online says little: a short flash of its LED, a number in its log, a line in the
//! server's log. This module is the table behind them, as static data without a heap:
//!
//! - [`by_failure`] explains a [`Failure`](crate::handshake::Failure) of this crate to the person who runs the server;
//! - [`Observation`] takes what a person sees (colour, number of flashes, a code) and lists the candidates;
//! - [`log::read`] recognises the log lines of devices and of the two JavaScript servers;
//! - [`FailurePoint`] has the eight places where a device's connection stops, F1 to F8, and what each firmware
//!   generation logs there;
//! - [`ProtocolError`], [`SystemError`] and [`SocketError`] name the numbers.
//!
//! All of them lead to a [`Row`] of [`ROWS`]: symptom, meaning, what the server sees, and what to do first. Its
//! [`Row::code`] is a stable word for programs.
//!
//! ```
//! use coap_spark::diagnosis::{End, Led, Observation, by_failure, log};
//! use coap_spark::handshake::{Cause, Failure, Stage};
//!
//! // A server explains why it closed a connection.
//! let failure = Failure { stage: Stage::OpenIdentity, cause: Cause::Rejected };
//! let row = by_failure(&failure, End::Server);
//! assert_eq!(row.code, "identity-rejected");
//! assert!(row.to_string().contains("write this server's public key to it"));
//!
//! // A support tool asks what was seen.
//! let seen = Observation { led: Some(Led::Magenta), ..Observation::default() };
//! assert!(seen.rows().map(|row| row.code).eq(["server-key-mismatch"]));
//!
//! // And reads the device's log.
//! let found = log::read("0000012345 [comm.sparkprotocol.handshake] ERROR: Unable to receive key -19").unwrap();
//! assert!(found.rows().map(|row| row.code).eq(["dropped-after-identity"]));
//! ```
//!
//! # Source
//! The numbers, texts and flashes of device-os@v0.4.9..v2.3.1 (`communication/inc/protocol_defs.h`,
//! `communication/src/handshake.cpp`, `lightssl_message_channel.cpp`, `system/src/system_task.cpp`,
//! `system_cloud_internal.cpp`, `services/inc/system_error.h`, `hal/src/photon/socket_hal.cpp`) and of both
//! JavaScript servers; 0.6.1, 0.7.0, 2.3.1 and the servers were run with good and bad peers, and the tests read what
//! they said then.

mod code;
mod led;
pub mod log;
mod point;
mod row;
mod table;

pub use code::{Number, ProtocolError, SocketError, SystemError};
pub use led::{Led, Signal};
pub use point::FailurePoint;
pub(crate) use row::protocol_error;
pub use row::{Observation, Row, by_code, by_failure, by_led};
pub use table::ROWS;

/// One end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "a connection has two ends")]
pub enum End {
    /// The device.
    Device,
    /// The server.
    Server,
}

/// Firmware of Core, Photon and P1 by how it reports failures.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Generation {
    /// Device OS 0.4.9 to 0.7.0, and every version on the Core: socket errors as they are, [`ProtocolError`] for the
    /// cryptography.
    UpTo0_7,
    /// Device OS 0.8.0-rc.1 to 1.5.2 on Photon and P1: always a [`ProtocolError`].
    UpTo1_5,
    /// Device OS 2.0.0 to 2.3.1: a [`ProtocolError`] mapped to a [`SystemError`].
    V2,
}

impl Generation {
    /// All of them, oldest first.
    pub const ALL: [Self; 3] = [Self::UpTo0_7, Self::UpTo1_5, Self::V2];
}

#[cfg(test)]
mod tests;
