//! The device machine: every state against every event, and every limit of real devices.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod bench;
mod session;
mod states;
mod upgrade;
