//! `spark keys load`.

use super::protocol::Protocol;
use super::secret::{Secret, to_json};
use super::{read_key, shown};
use crate::dfu::DeviceOptions;
use crate::exit::{Code, Failure};
use crate::particle::{self, WriteOptions};
use crate::ui;
use serde_json::json;
use std::path::PathBuf;

/// Write a private key file into the device.
///
/// The file may be PEM or DER, PKCS#1, PKCS#8 or SEC1, or what `save` or a backup kept. It is written in the form that the
/// device needs, and refused if the device could not use it. The cloud has to know the public key: `send-ready` makes
/// it ready; `doctor` does both.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The private key; - is standard input.
    file: PathBuf,
    /// Which of the device's keys; by default the one that the device uses.
    #[arg(long)]
    protocol: Option<Protocol>,
    #[command(flatten)]
    write: WriteOptions,
    #[command(flatten)]
    device: DeviceOptions,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let content = read_key(&args.file)?;
    let secret = Secret::load(&args.file, &content)?;
    particle::open(&args.device, |device| {
        let protocol = Protocol::of(device, args.protocol)?;
        if protocol != secret.protocol() {
            return Err(Failure::new(
                Code::Data,
                format_args!(
                    "{} is a key for {}, but the device talks {protocol}",
                    shown(&args.file),
                    secret.protocol()
                ),
                "give the right key, or choose the device's other key with --protocol",
            ));
        }
        let segment = device.segment(protocol.private_key())?;
        let written = device.write(&segment, secret.field(), &args.write)?;
        device.finish(&args.write)?;
        if args.device.json() {
            return ui::print(json!({ "key": to_json(&secret), "write": written }));
        }
        ui::print(format_args!("{written}\nkey {}: the cloud has to know it", secret.fingerprint().short()))
    })
}
