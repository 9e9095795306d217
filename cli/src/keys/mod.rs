//! `spark keys`: the keys of devices and servers, in files and in devices, without openssl and dfu-util.
//!
//! What writes into a device does it in one order: look, check, keep what was there, write if it differs, read back. Where a
//! cloud has to know, it is told before the device is written, in a way that leaves both of the device's keys valid until
//! the new one was used: see [`doctor`].

pub mod check;
pub(crate) mod check_file;
pub mod convert;
pub mod doctor;
mod files;
pub mod load;
pub mod new;
pub(crate) mod place;
pub mod protocol;
pub mod repair;
pub mod save;
mod secret;
pub mod send_ready;
pub mod server;

use crate::dct::image;
use crate::exit::Failure;
use crate::files::read_input_up_to;
use clap::Subcommand;
use std::path::Path;
use std::process::ExitCode;
use zeroize::Zeroizing;

/// Longest file that is read as a key; text with comments may stand around it.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// Reads a key file, or standard input for `-`. Text in UTF-16, as PowerShell writes what it redirects, becomes plain text.
fn read_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let content = Zeroizing::new(read_input_up_to(path, MAX_KEY_FILE)?);
    image::refuse_sectors(path, &content)?;
    check_file::refuse_table(path, &content)?;
    Ok(from_utf16(&content).unwrap_or(content))
}

/// A file in a sentence.
fn shown(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// A file as the argument of another command, which cannot read again what came over standard input.
pub(crate) fn argument(path: &Path) -> String {
    if path == Path::new("-") { "FILE".to_owned() } else { path.display().to_string() }
}

/// Key text in UTF-16 with its mark, as plain text.
pub(crate) fn from_utf16(content: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (mark, units) = content.split_first_chunk()?;
    let unit = match mark {
        [0xFF, 0xFE] => u16::from_le_bytes,
        [0xFE, 0xFF] => u16::from_be_bytes,
        _ => return None,
    };
    let (units, rest) = units.as_chunks();
    // What is not ASCII is no part of a key.
    let plain = |pair: &[u8; 2]| u8::try_from(unit(*pair)).unwrap_or(b'?');
    let text: Zeroizing<Vec<u8>> = Zeroizing::new(units.iter().map(plain).collect());
    let begin = b"-----BEGIN ";
    let has_block = text.windows(begin.len()).any(|window| window == begin);
    (rest.is_empty() && has_block).then_some(text)
}

/// The subcommands.
#[derive(Subcommand, Clone, Debug)]
#[non_exhaustive]
#[allow(missing_docs, reason = "help texts are those of the arguments")]
pub enum Command {
    New(new::Args),
    Check(check::Args),
    Convert(convert::Args),
    Repair(repair::Args),
    Doctor(doctor::Args),
    Load(load::Args),
    Save(save::Args),
    SendReady(send_ready::Args),
    Server(server::Args),
    Address(server::Address),
    Protocol(protocol::Args),
}

/// Runs a subcommand.
///
/// # Errors
/// [`Failure`]; a bad key that was only looked at, and a device that talks to another cloud after all, are exit code 65 without
/// an error.
pub fn run(command: &Command) -> Result<ExitCode, Failure> {
    let done = |()| ExitCode::SUCCESS;
    match command {
        Command::New(args) => new::run(args).map(done),
        Command::Check(args) => check::run(args),
        Command::Convert(args) => convert::run(args).map(done),
        Command::Repair(args) => repair::run(args).map(done),
        Command::Doctor(args) => doctor::run(args),
        Command::Load(args) => load::run(args).map(done),
        Command::Save(args) => save::run(args).map(done),
        Command::SendReady(args) => send_ready::run(args).map(done),
        Command::Server(args) => server::run(args).map(done),
        Command::Address(args) => server::show(args).map(done),
        Command::Protocol(args) => protocol::run(args).map(done),
    }
}

#[cfg(test)]
mod tests;
