//! `spark flash`: firmware modules onto a device, over a cable or over the air.

mod cloud;
mod input;
mod serial;
mod usb;

use crate::dfu::DeviceOptions;
use crate::exit::{Code, Failure};
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
    cloud: cloud::CloudOptions,
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
    /// Over a serial port, to a device in listening mode: one module. Without a name the only port with a device; a name
    /// needs the equals sign, as in --serial=/dev/ttyACM0.
    #[arg(long = "serial", value_name = "PORT", num_args = 0..=1, require_equals = true)]
    serial_port: Option<Option<String>>,
    /// Over the air, by the `spark cloud serve` with its HTTP interface at this URL; with --to and --data or --token-file.
    #[arg(long = "cloud", value_name = "URL")]
    cloud_url: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] with the file that it is about.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (ui, json) = (args.device.ui(), args.device.json());
    if args.way.serial_port.is_none() && args.way.cloud_url.is_none() {
        return usb::run(args);
    }
    if args.factory || args.update || args.leave || args.no_leave {
        return Err(Failure::new(
            Code::Usage,
            "--factory, --update, --leave and --no-leave are for USB",
            "leave them out: the device itself decides where the module goes and restarts",
        ));
    }
    let files = input::read(&args.files, args.force, &ui)?;
    match (&args.way.serial_port, &args.way.cloud_url) {
        (Some(port), _) => serial::run(port.as_deref(), (args.dry_run, args.force), &files, json),
        (None, Some(url)) => cloud::run(url, args, &files, json),
        (None, None) => usb::run(args),
    }
}
