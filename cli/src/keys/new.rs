//! `spark keys new`.

use super::files::Names;
use super::protocol::Protocol;
use super::secret::{Secret, to_json};
use crate::exit::Failure;
use crate::ui;
use serde_json::json;
use std::path::PathBuf;

/// Make a new device key: NAME.der for the device, NAME.pem, and NAME.pub.pem for the cloud.
///
/// An RSA key is made anew until all of its numbers have lengths that devices read right: one key in 100 that other programs
/// make does not.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Name of the files, without the ending.
    #[arg(default_value = "device")]
    name: PathBuf,
    /// For devices that talk TCP (RSA-1024) or UDP (EC P-256).
    #[arg(long, default_value = "tcp")]
    protocol: Protocol,
    /// Overwrite files.
    #[arg(long)]
    force: bool,
    /// Print the result as JSON on standard output, and nothing else.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let names = Names::of(&args.name);
    names.must_be_new(args.force)?;
    let secret = Secret::generate(args.protocol)?;
    names.write(&secret)?;
    if args.json {
        return ui::print(
            json!({ "key": to_json(&secret), "der": names.der, "pem": names.pem, "public": names.public }),
        );
    }
    ui::print(format_args!(
        "new key {}\n  for the device  {}\n  for tools       {}\n  for the cloud   {}",
        secret.fingerprint().short(),
        names.der.display(),
        names.pem.display(),
        names.public.display()
    ))
}
