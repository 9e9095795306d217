//! `spark keys save`.

use super::check::{judge, private_field};
use super::files::{Names, exists};
use super::protocol::Protocol;
use super::repair::rebuild;
use super::secret::{Secret, to_json};
use crate::dfu::DeviceOptions;
use crate::exit::{Code, Failure};
use crate::files;
use crate::particle;
use crate::ui;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Read the device's private key into NAME.der and NAME.pem, and its public key into NAME.pub.pem.
///
/// If the bytes in the device are not those of NAME.der with erased flash behind them, they are saved as they are in NAME.bin,
/// for `check`, `repair` and `load`, and it is said how NAME.der differs. If the device cannot use its key, the exit code is
/// 65; then there is only NAME.bin unless other programs can use the key.
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
        let field = private_field(device, &segment, protocol)?;
        save(args, &names, protocol, &field)
    })
}

fn save(args: &Args, names: &Names, protocol: Protocol, field: &[u8]) -> Result<(), Failure> {
    let (_, works) = judge(protocol, field, None);
    let own = Secret::of_field(protocol, field).map(|secret| {
        let how = difference(&secret, field);
        (secret, how)
    });
    // Of a key that works, damage that the device does not notice is all that can be wrong.
    let repaired = || rebuild(protocol, field, None).ok().map(|(secret, how)| (secret, Some(how)));
    let found = if works { own.or_else(repaired) } else { own };
    let as_it_is = !matches!(&found, Some((_, None)));
    let bin = names.der.with_extension("bin");
    if as_it_is {
        if bin.exists() && !args.force {
            return Err(exists(&bin));
        }
        files::write_secret(&bin, field)?;
    }
    if let Some((secret, _)) = &found {
        names.write(secret)?;
    }
    if !works {
        return Err(unusable(found.as_ref(), names, &bin, field.len()));
    }
    let Some((secret, how)) = found else {
        if args.device.json() {
            return ui::print(json!({ "key": null, "bin": bin, "how": null }));
        }
        return ui::print(format_args!(
            "{} has the {} bytes of the device, which can use them; for other programs they are no key",
            bin.display(),
            field.len()
        ));
    };
    if args.device.json() {
        return ui::print(json!({
            "key": to_json(&secret), "der": names.der, "pem": names.pem, "public": names.public,
            "bin": as_it_is.then_some(&bin), "how": how,
        }));
    }
    let fingerprint = secret.fingerprint();
    ui::print(format_args!("key {}: {}", fingerprint.short(), list(names)))?;
    match how {
        Some(how) => ui::print(format_args!(
            "{} has the {} bytes of the device as they are; the other files: {how}",
            bin.display(),
            field.len()
        )),
        None => Ok(()),
    }
}

fn list(names: &Names) -> String {
    format!("{}, {}, {}", names.der.display(), names.pem.display(), names.public.display())
}

/// How the files of a key differ from the bytes in the device.
fn difference(secret: &Secret, field: &[u8]) -> Option<String> {
    if secret.field() == field {
        return None;
    }
    let how = match secret {
        _ if field.starts_with(secret.der()) => "without what is behind the key in the device",
        Secret::Tcp(key) if key.is_padded() => "all numbers at full length, as the device reads them",
        _ => "the key in its canonical form",
    };
    Some(how.to_owned())
}

fn unusable(found: Option<&(Secret, Option<String>)>, names: &Names, bin: &Path, len: usize) -> Failure {
    let what = format!("the device cannot use its key; its {len} bytes are in {}", bin.display());
    match found {
        Some((_, how)) => Failure::new(
            Code::Data,
            format_args!("{what}; {}: {}", list(names), how.as_deref().unwrap_or("the same key")),
            format_args!(
                "`spark keys check {}` says why, `spark keys load {}` writes it as the device reads it",
                bin.display(),
                names.der.display()
            ),
        ),
        None => Failure::new(
            Code::Data,
            what,
            format_args!(
                "`spark keys check {0}` says why, `spark keys repair {0}` repairs what can be",
                bin.display()
            ),
        ),
    }
}
