//! `spark serial`: devices in listening mode at a serial port.
//!
//! | module | is |
//! |---|---|
//! | [`ports`] | which ports there are, and which one is meant |
//! | `link` | a machine of `spark_ota::serial` at an open port |
//! | `identify`, `inspect`, [`wifi`] | one command each |
//! | [`flash`](mod@flash) | firmware over YMODEM, also for other commands |

pub mod flash;
mod identify;
mod inspect;
mod link;
pub mod ports;
pub mod wifi;

pub use flash::flash;

use crate::exit::Failure;
use crate::ui::Ui;
use clap::Subcommand;
use std::process::ExitCode;

/// The subcommands.
#[derive(Subcommand, Clone, Debug)]
#[non_exhaustive]
pub enum Command {
    /// List serial ports with devices.
    List(ports::ListArgs),
    /// Ask a device for its id, its firmware, its MAC address and whether it is claimed.
    Identify(PortOptions),
    /// Ask a device for its modules, and what it thinks of them. Exits with 65 if one is not valid.
    Inspect(PortOptions),
    /// Give a Wi-Fi network to a device.
    ///
    /// The device keeps up to five and tries the last one first. It leaves listening mode then.
    Wifi(wifi::Args),
    /// Flash a module over the serial port.
    ///
    /// The file is checked before the device is asked for anything, and the device's kind before the first byte is sent.
    /// The device validates the whole image once it has it, then restarts and puts it in its place. A Core cannot do this.
    Flash(flash::Args),
}

/// Which port, and how to talk to it.
#[derive(clap::Args, Clone, Debug)]
pub struct PortOptions {
    /// Serial port, such as /dev/ttyACM0 or COM3; without it the only one with a device of Particle's.
    #[arg(short, long, value_name = "PORT")]
    pub port: Option<String>,
    /// Print the result as JSON on standard output, and nothing else.
    #[arg(long)]
    pub json: bool,
}

impl PortOptions {
    const fn ui(&self) -> Ui {
        Ui::new(self.json)
    }
}

/// Runs a subcommand.
///
/// # Errors
/// [`Failure`].
pub fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List(args) => ports::list(args),
        Command::Identify(options) => identify::run(options),
        Command::Inspect(options) => return inspect::run(options),
        Command::Wifi(args) => wifi::run(args),
        Command::Flash(args) => flash::run(args),
    }
    .map(|()| ExitCode::SUCCESS)
}
