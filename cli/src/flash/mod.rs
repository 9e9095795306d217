//! `spark flash`: firmware modules onto a device.

mod input;
mod usb;

use crate::dfu::DeviceOptions;
use crate::exit::Failure;
use std::path::PathBuf;

/// Write firmware modules to a device: applications, system parts, bootloaders.
///
/// Everything is checked before anything is written: each file has to be a good module for this device, to lie where such
/// modules belong, and to be in no other's way. They are written in the order that the device needs, whatever the order
/// here, read back and compared.
#[derive(clap::Args, Clone, Debug)]
// That option is the port of a serial line here.
#[command(mut_arg("serial", |argument| argument.long("serial-number")))]
pub struct Args {
    /// Modules (.bin), several in one file, compressed ones, or an application in a bundle (.zip).
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    way: Way,
    /// Check everything and show what would be written, but write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Write the application to the copy for the factory reset, instead of to where it runs.
    #[arg(long)]
    factory: bool,
    /// Refuse unless the files are a whole system, and start the firmware at the end.
    #[arg(long, conflicts_with = "factory")]
    update: bool,
    /// Take modules with a wrong CRC or for another platform. Never a good idea twice.
    #[arg(long)]
    force: bool,
    /// Start the firmware at the end; without these two, if the application was written.
    #[arg(long, conflicts_with = "no_leave")]
    leave: bool,
    /// Stay in DFU mode at the end.
    #[arg(long)]
    no_leave: bool,
    #[command(flatten)]
    device: DeviceOptions,
}

/// How the modules get to the device.
#[derive(clap::Args, Clone, Debug)]
#[group(multiple = false)]
struct Way {
    /// Over USB, to a device in DFU mode. This is the way if no other is chosen.
    #[arg(long)]
    usb: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] with the file that it is about.
pub fn run(args: &Args) -> Result<(), Failure> {
    usb::run(args)
}
