//! `spark dct`: the Device Configuration Table, in dumps and in devices.

pub mod build;
pub mod diff;
pub mod edit;
mod effect;
pub mod image;
pub(crate) mod judge;
pub mod recover;
pub mod show;
pub(crate) mod value;

use crate::exit::Failure;
use clap::Subcommand;
use std::process::ExitCode;

/// The subcommands.
#[derive(Subcommand, Clone, Debug)]
#[non_exhaustive]
#[allow(missing_docs, reason = "help texts are those of the arguments")]
pub enum Command {
    Show(show::Args),
    Get(show::GetArgs),
    Set(edit::Args),
    Diff(diff::Args),
    Recover(recover::Args),
    Build(build::Args),
}

/// Runs a subcommand.
///
/// # Errors
/// [`Failure`]; a damaged table that was only looked at is exit code 65 without an error.
pub fn run(command: &Command) -> Result<ExitCode, Failure> {
    let done = |()| ExitCode::SUCCESS;
    match command {
        Command::Show(args) => show::run(args).map(done),
        Command::Get(args) => show::get(args).map(done),
        Command::Set(args) => edit::run(args).map(done),
        Command::Diff(args) => diff::run(args).map(done),
        Command::Recover(args) => recover::run(args),
        Command::Build(args) => build::run(args).map(done),
    }
}
