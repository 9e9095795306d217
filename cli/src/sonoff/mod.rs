//! `spark sonoff`: Itead Sonoff devices, which get other firmware over the vendor's own update protocol.

pub mod check;
pub mod device;
pub mod diy;
pub mod patch;
pub mod provision;
pub mod serve;
pub mod tls;
mod unacknowledged;

use crate::exit::Failure;
use clap::Subcommand;
use std::process::ExitCode;

/// The subcommands.
#[derive(Subcommand, Clone, Debug)]
#[non_exhaustive]
#[allow(missing_docs, reason = "help texts are those of the arguments")]
pub enum Command {
    Check(check::Args),
    Device(Box<device::Args>),
    /// Devices in DIY mode (firmware 3.3 and later): show, unlock, flash.
    Diy {
        #[command(subcommand)]
        command: diy::Command,
    },
    Patch(patch::Args),
    Provision(provision::Args),
    Serve(Box<serve::Args>),
}

/// Runs a subcommand.
///
/// # Errors
/// [`Failure`]; an image that was only looked at is exit code 65 without an error.
pub fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Check(args) => check::run(args),
        Command::Device(args) => device::run(args).map(|()| ExitCode::SUCCESS),
        Command::Diy { command } => diy::run(command).map(|()| ExitCode::SUCCESS),
        Command::Patch(args) => patch::run(args).map(|()| ExitCode::SUCCESS),
        Command::Provision(args) => provision::run(args).map(|()| ExitCode::SUCCESS),
        Command::Serve(args) => serve::run(args),
    }
}

/// Images are read up to here: more than any ESP8266 has.
const LIMIT: u64 = 16 << 20;
