//! The server's side: many devices, and what became of each.
//!
//! ```text
//! bytes of a connection --> Service --> bytes, files to send, connections to close
//!                             |  '----> Report: what happened to which device
//!                             '-- Session, one for each device: its messages, its upgrade
//! ```
//!
//! [`Service`] takes connections as they come and looks what they are: a dispatch request, a WebSocket, the download of an image,
//! the intermediate image of the final stage, or a stranger. A caller who has other means for that (a web server, another
//! protocol for messages) uses [`Session`] alone. Why an upgrade failed is a [`Failure`], whose [`Diagnosis`] says what helps.
//!
//! Beside upgrades a device can be asked for other things: [`Command`].
//!
//! Whether an upgrade has succeeded is decided by the bytes that were served and what the device says or does then, never by one
//! of them alone.
//!
//! # Source
//! Firmware of the IoTgo 2.0 generation; SonOTA@40dba7c, Espressif2Arduino@330d9f0, and reports of their users for the
//! diagnoses.

mod command;
mod connection;
mod coverage;
mod event;
mod failure;
mod files;
mod job;
mod report;
mod service;
mod session;

pub use command::{Command, CommandError};
pub use connection::{ConnectionId, Output};
pub use coverage::Coverage;
pub use event::{Event, Presence};
pub use failure::{Diagnosis, Failure};
pub use files::{FileId, FileProblem, Files, Role};
pub use job::{DOWNLOADED, Delivery, FINAL_STAGE, HINT, OFFERED, REMEMBERED, SERVED, STALLED, Stage};
pub use report::{Rejection, Report};
pub use service::{Config, Service};
pub use session::{Policy, SILENCE, Session};
