//! Simulated Photons on a real network, one or thousands, and the program `spark device`.
//!
//! | module | is |
//! |---|---|
//! | [`run`] | one connection over TCP |
//! | [`life`] | a device that starts, connects, resets and connects again |
//! | [`fleet`] | many of them in one process, with counters |
//! | [`folder`] | where one device is kept |
//! | [`serial`] | a device at a serial port instead |
//! | [`program`], [`report`] | what the application does, and what is told |

pub mod command;
pub mod fleet;
pub mod folder;
pub mod life;
mod members;
pub mod program;
pub mod report;
pub mod run;
pub mod serial;
