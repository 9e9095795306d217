//! `spark dfu`: list, write, read and detach USB DFU devices, with the option letters of dfu-util.

mod access;
mod candidate;
mod command;
#[cfg(test)]
pub(crate) mod double;
mod download;
mod find;
mod finish;
mod firmware;
mod journal;
mod list;
mod options;
mod port;
mod progress;
mod table;
mod upload;
mod write;

pub use access::Access;
pub(crate) use access::access;
pub(crate) use progress::keep_going;

use crate::exit::{Code, Failure, chain};
use crate::ui::Ui;
use clap::{ArgAction, Subcommand};
use options::{DfuseOptions, DfuseTarget, IdFilter};
use spark_dfu::host::{HostError, PlanError, Step};
use spark_dfu::quirk::Quirks;
use std::path::PathBuf;

/// The subcommands.
#[derive(Subcommand, Clone, Debug)]
#[non_exhaustive]
pub enum Command {
    /// List devices with a DFU interface and their memories.
    List(DeviceOptions),
    /// Write a file into a device: a raw image, a file with a DFU suffix, or a DfuSe file.
    ///
    /// The file and the addresses are checked against the device's memory map before anything is written. Pages are
    /// erased once, written, and read back.
    Download(Download),
    /// Read memory of a device into a new file.
    Upload(Upload),
    /// Send a device from its application to DFU mode.
    Detach(DeviceOptions),
    /// Run the commands of -s without a file: leave, mass-erase, unprotect.
    Command(Bare),
}

/// Which device, and how to talk to it.
#[derive(clap::Args, Clone, Debug)]
pub struct DeviceOptions {
    /// USB ids in hex, `VID:PID`; `*` for any. A second pair after a comma is for DFU mode if it differs there.
    #[arg(short = 'd', long = "device", value_name = "VID:PID[,VID:PID]", allow_hyphen_values = true)]
    ids: Option<IdFilter>,
    /// Port where the device is plugged in, as `spark dfu list` shows it.
    #[arg(short = 'p', long, value_name = "BUS-PORT")]
    path: Option<String>,
    /// Serial number; a second one after a comma is for DFU mode.
    #[arg(short = 'S', long, value_name = "SERIAL[,SERIAL]")]
    serial: Option<String>,
    /// Wait until a device appears.
    #[arg(short = 'w', long)]
    wait: bool,
    /// Seconds that a detached device may take to appear in DFU mode.
    #[arg(short = 'E', long = "detach-delay", value_name = "SECONDS", default_value_t = 10)]
    detach_delay: u64,
    /// Bytes of one transfer, if it has to be less than the device says.
    #[arg(short = 't', long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(1..))]
    transfer_size: Option<u16>,
    /// Treat the device as this kind, instead of by its ids.
    #[arg(long, value_name = "KIND")]
    quirks: Option<Kind>,
    /// Set the address for every block, as dfu-util does, instead of numbering blocks on.
    #[arg(long)]
    address_every_block: bool,
    /// Use a simulated Photon instead of USB. With a file, its flash is kept there from one command to the next.
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    #[allow(clippy::option_option, reason = "absent, without a file, with a file")]
    r#virtual: Option<Option<PathBuf>>,
    /// Print the result as JSON on standard output, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Kinds of devices that differ from the standard.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// By the book.
    None,
    /// Photon, P1, Electron, Duo.
    Photon,
    /// Spark Core.
    Core,
    /// Argon, Boron, Xenon and others.
    Nrf52840,
    /// ROM of an STM32.
    Stm32,
    /// ROM of an STM32H743 revision V, which stays busy for ever after an erase.
    Stm32h743,
    /// ROM of a GD32.
    Gd32,
}

impl Kind {
    const fn quirks(self) -> Quirks {
        match self {
            Self::None => Quirks::NONE,
            Self::Photon => Quirks::PHOTON,
            Self::Core => Quirks::CORE,
            Self::Nrf52840 => Quirks::NRF52840,
            Self::Stm32 => Quirks::STM32,
            Self::Stm32h743 => Quirks::STM32H743,
            Self::Gd32 => Quirks::GD32,
        }
    }
}

/// Options of `download`.
#[derive(clap::Args, Clone, Debug)]
pub struct Download {
    /// The file; `-` reads standard input.
    #[arg(short = 'D', long = "download", value_name = "FILE", required_unless_present = "positional")]
    file: Option<PathBuf>,
    /// The file, without a letter.
    #[arg(value_name = "FILE", conflicts_with = "file", id = "positional")]
    positional: Option<PathBuf>,
    /// DfuSe: address and modifiers.
    #[arg(short = 's', long = "dfuse-address", value_name = "ADDR[:MODIFIER...]", long_help = options::LONG_HELP)]
    dfuse: Option<DfuseOptions>,
    /// Do not read back what was written.
    #[arg(long)]
    no_verify: bool,
    /// Compare first, and leave pages alone that already hold the right bytes.
    #[arg(long)]
    skip_unchanged: bool,
    /// Keep what else is in the first and the last page: read it before erasing and write it back.
    #[arg(long)]
    keep_partial_pages: bool,
    /// Keep the progress in this file; if it is there already, go on from where the last job stopped. It is removed at the
    /// end.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Check everything and show what would be done, but write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Reset the bus at the end, so that the device starts its application.
    #[arg(short = 'R', long)]
    reset: bool,
    /// Alternate setting: its number, or its whole name.
    #[arg(short = 'a', long = "alt", value_name = "ALT")]
    alternate: Option<String>,
    #[command(flatten)]
    device: DeviceOptions,
}

/// Options of `upload`.
#[derive(clap::Args, Clone, Debug)]
pub struct Upload {
    /// The new file; `-` writes to standard output.
    #[arg(short = 'U', long = "upload", value_name = "FILE", required_unless_present = "positional")]
    file: Option<PathBuf>,
    /// The new file, without a letter.
    #[arg(value_name = "FILE", conflicts_with = "file", id = "positional")]
    positional: Option<PathBuf>,
    /// DfuSe: address, length and modifiers. Without a length, up to the end of the segment.
    #[arg(short = 's', long = "dfuse-address", value_name = "ADDR[:LEN][:MODIFIER...]", long_help = options::LONG_HELP)]
    dfuse: Option<DfuseOptions>,
    /// Expected size in bytes, for devices that do not tell it: scales the progress bar.
    #[arg(short = 'Z', long, value_name = "BYTES")]
    upload_size: Option<u64>,
    /// Reset the bus at the end, so that the device starts its application.
    #[arg(short = 'R', long)]
    reset: bool,
    /// Alternate setting: its number, or its whole name.
    #[arg(short = 'a', long = "alt", value_name = "ALT")]
    alternate: Option<String>,
    #[command(flatten)]
    device: DeviceOptions,
}

/// Options of `command`.
#[derive(clap::Args, Clone, Debug)]
pub struct Bare {
    /// The commands.
    #[arg(short = 's', long = "dfuse-address", value_name = "[ADDR]:MODIFIER...", long_help = options::LONG_HELP, action = ArgAction::Set)]
    dfuse: DfuseOptions,
    /// Alternate setting: its number, or its whole name.
    #[arg(short = 'a', long = "alt", value_name = "ALT")]
    alternate: Option<String>,
    #[command(flatten)]
    device: DeviceOptions,
}

/// Runs a subcommand.
///
/// # Errors
/// [`Failure`].
pub fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::List(device) => list::run(device),
        Command::Download(args) => download::run(args),
        Command::Upload(args) => upload::run(args),
        Command::Detach(device) => find::detach(device),
        Command::Command(args) => command::run(args),
    }
}

impl DeviceOptions {
    /// Whether the user has named a device.
    pub(crate) const fn is_chosen(&self) -> bool {
        self.ids.is_some() || self.path.is_some() || self.serial.is_some() || self.r#virtual.is_some()
    }

    pub(crate) const fn json(&self) -> bool {
        self.json
    }

    pub(crate) const fn ui(&self) -> Ui {
        Ui::new(self.json)
    }
}

/// A job that the device or the cable ended.
fn job_failed(error: &HostError) -> Failure {
    let (code, next) = match error {
        HostError::Refused { place, .. } if matches!(place.step, Step::MassErase | Step::ReadUnprotect) => (
            Code::Protocol,
            "many devices, Particle's among them, do not know this command; a download erases what it needs",
        ),
        HostError::Disconnected { .. } | HostError::NotFoundAgain => {
            (Code::Io, "plug the device in again, bring it into DFU mode and repeat the command")
        }
        HostError::TimedOut { .. } | HostError::Stalled { .. } | HostError::ResetUnsupported { .. } => {
            (Code::Io, "unplug the device, plug it in again and repeat the command")
        }
        HostError::Mismatch { .. } => {
            (Code::Io, "repeat the command; if it fails there again, the memory is protected or worn out")
        }
        HostError::Cancelled { .. } => (Code::Io, "repeat the command: what was begun is not complete"),
        HostError::Image { .. } | HostError::UploadTooLong { .. } => {
            (Code::Data, "check the file and its size")
        }
        HostError::UnexpectedInput { .. } | HostError::TransferBuffer { .. } => {
            (Code::Software, "report this")
        }
        _ => (Code::Protocol, "unplug the device, plug it in again and repeat the command"),
    };
    Failure::new(code, chain(error), next)
}

/// Arguments that do not fit each other or the device.
fn usage(what: &str, next: &str) -> Failure {
    Failure::new(Code::Usage, what, next)
}

/// A job that cannot be done on this device.
fn impossible(error: &PlanError, target: &DfuseTarget<'_>) -> Failure {
    let next = match error {
        PlanError::OutsideMemoryMap { .. }
        | PlanError::NotWriteable { .. }
        | PlanError::NotReadable { .. } => {
            "see `spark dfu list` for what the memory allows; `:force` overrides it"
        }
        PlanError::NoTransferSize => "give the transfer size with -t",
        _ => "nothing was sent to the device",
    };
    Failure::new(Code::Usage, format_args!("alternate setting {target}: {}", chain(error)), next)
}
