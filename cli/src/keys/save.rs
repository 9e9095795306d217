//! `spark keys save`.

use super::files::{Names, exists};
use super::protocol::Protocol;
use super::secret::{Secret, to_json};
use crate::dfu::DeviceOptions;
use crate::exit::{Code, Failure};
use crate::files;
use crate::particle;
use crate::ui;
use serde_json::json;
use std::path::PathBuf;

/// Read the device's private key into NAME.der, and its public key into NAME.pub.pem.
///
/// If the device could not use the key, all bytes of its place are saved in NAME.bin instead, for `check` and `repair`, and
/// the exit code is 65.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Name of the files, without the ending; by default the device's id.
    name: Option<PathBuf>,
    /// Which of the device's keys; by default the one that the device uses.
    #[arg(long)]
    protocol: Option<Protocol>,
    /// Overwrite files.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceOptions,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    particle::open(&args.device, |device| {
        let protocol = Protocol::of(device, args.protocol)?;
        let segment = device.segment(protocol.private_key())?;
        let name = args.name.clone().unwrap_or_else(|| PathBuf::from(device.name()));
        let names = Names::of(&name);
        names.must_be_new(args.force)?;
        let field = zeroize::Zeroizing::new(device.read(&segment, protocol.private_key_len())?);
        let Some(secret) = Secret::of_field(protocol, &field) else {
            let path = names.der.with_extension("bin");
            if path.exists() && !args.force {
                return Err(exists(&path));
            }
            files::write_secret(&path, &field)?;
            return Err(Failure::new(
                Code::Data,
                format_args!(
                    "the device's key is not usable; its {} bytes are in {}",
                    field.len(),
                    path.display()
                ),
                format_args!(
                    "`spark keys check {0}` says why, `spark keys repair {0}` repairs what can be",
                    path.display()
                ),
            ));
        };
        names.write(&secret)?;
        if args.device.json() {
            return ui::print(
                json!({ "key": to_json(&secret), "der": names.der, "pem": names.pem, "public": names.public }),
            );
        }
        ui::print(format_args!(
            "key {}: {}, {}",
            secret.fingerprint().short(),
            names.der.display(),
            names.public.display()
        ))
    })
}
