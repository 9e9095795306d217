//! The program `spark`.

use clap::{Parser, Subcommand};
use spark_cli::exit::Failure;
use spark_cli::{cloud, dct, decode, device, dfu, flash, inspect, keys, rescue, serial, sonoff, ui};
use std::process::ExitCode;

/// Rescues, serves and simulates Particle (formerly Spark) devices, and explains their files.
///
/// Exit codes are those of sysexits(3): 0 fine, 64 usage, 65 bad data, 66 no input, 69 unavailable, 70 internal,
/// 73 output exists, 74 I/O, 76 protocol.
#[derive(Parser, Debug)]
#[command(name = "spark", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Rescue(rescue::Args),
    /// A local cloud.
    Cloud {
        #[command(subcommand)]
        command: Cloud,
    },
    Device(device::command::Args),
    Flash(flash::Args),
    /// Write, read and detach USB DFU devices: Photon, Core, Electron, STM32 and others.
    Dfu {
        #[command(subcommand)]
        command: dfu::Command,
    },
    /// The Device Configuration Table: show, change, compare, recover and build.
    Dct {
        #[command(subcommand)]
        command: dct::Command,
    },
    /// Keys of devices and servers: make, check, convert, repair, read and write.
    Keys {
        #[command(subcommand)]
        command: keys::Command,
    },
    /// Devices in listening mode (blinking blue) at a serial port: identify, inspect, Wi-Fi, flash.
    Serial {
        #[command(subcommand)]
        command: serial::Command,
    },
    /// Itead Sonoff devices: other firmware over the vendor's protocol or in DIY mode; images, provisioning, a simulated device.
    Sonoff {
        #[command(subcommand)]
        command: sonoff::Command,
    },
    Inspect(inspect::Args),
    Decode(decode::Args),
}

#[derive(Subcommand, Debug)]
enum Cloud {
    Serve(cloud::serve::Args),
    Status(cloud::status::Args),
    Accept(cloud::manage::AcceptArgs),
    Forget(cloud::manage::ForgetArgs),
    Import(cloud::manage::ImportArgs),
    Export(cloud::manage::ExportArgs),
    Debug(cloud::debug::Args),
}

fn cloud(command: &Cloud) -> Result<ExitCode, Failure> {
    match command {
        Cloud::Serve(args) => cloud::serve::run(args),
        Cloud::Status(args) => cloud::status::run(args),
        Cloud::Accept(args) => cloud::manage::accept(args),
        Cloud::Forget(args) => cloud::manage::forget(args),
        Cloud::Import(args) => cloud::manage::import(args),
        Cloud::Export(args) => cloud::manage::export(args),
        Cloud::Debug(args) => return cloud::debug::run(args),
    }
    .map(|()| ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let usage = error.use_stderr();
            // A closed pipe is no reason to complain.
            let _ = error.print();
            return if usage { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    let result = match &cli.command {
        Command::Rescue(args) => rescue::run(args).map(|()| ExitCode::SUCCESS),
        Command::Cloud { command } => cloud(command),
        Command::Device(args) => device::command::run(args).map(|()| ExitCode::SUCCESS),
        Command::Flash(args) => flash::run(args).map(|()| ExitCode::SUCCESS),
        Command::Dfu { command } => dfu::run(command).map(|()| ExitCode::SUCCESS),
        Command::Dct { command } => dct::run(command),
        Command::Keys { command } => keys::run(command),
        Command::Serial { command } => serial::run(command),
        Command::Sonoff { command } => sonoff::run(command),
        Command::Inspect(args) => inspect::run(args),
        Command::Decode(args) => decode::run(args),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            ui::say(format_args!("spark: {failure}"));
            failure.exit_code()
        }
    }
}
