//! `spark keys send-ready`.

use super::check::judge;
use super::check_file::of_private_key;
use super::place::{protocol_of, scratch};
use super::protocol::Protocol;
use super::secret::{Public, Secret, published};
use super::{argument, read_key, shown};
use crate::cloud::folder::Folder;
use crate::dfu::DeviceOptions;
use crate::exit::{Code, Failure};
use crate::particle;
use crate::ui;
use coap_spark::handshake::DeviceId;
use serde_json::json;
use spark_keys::load;
use std::path::PathBuf;

/// Make the public key of a device ready to be sent to its cloud.
///
/// Prints it as PEM; with --json as the object that the vendor's cloud takes (`deviceID`, `publicKey`, `algorithm`), with
/// --cloud into the data folder of `spark cloud serve`. A spark-server takes the PEM as `ID.pub.pem` in its key folder.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The device's private key; without it the device itself is read.
    file: Option<PathBuf>,
    /// The device's id, 24 hex digits; by default the one that the device tells.
    #[arg(long)]
    id: Option<DeviceId>,
    /// Data folder of a local cloud that is to know the key.
    #[arg(long, value_name = "DIR")]
    cloud: Option<PathBuf>,
    /// Which of the device's keys; by default the one that the device uses.
    #[arg(long)]
    protocol: Option<Protocol>,
    #[command(flatten)]
    device: DeviceOptions,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (public, id) = match &args.file {
        Some(file) => {
            let content = read_key(file)?;
            let in_use = || protocol_of(&content).and_then(|protocol| in_use(protocol, &content));
            let public = match Secret::load(file, &content) {
                Ok(secret) if works(&content) => secret.public(),
                Ok(secret) => {
                    return Err(Failure::new(
                        Code::Data,
                        format_args!(
                            "{}: no device can use the key in this form, key {}",
                            shown(file),
                            secret.fingerprint().short()
                        ),
                        format_args!(
                            "`spark keys check {}` says why; `spark keys load` writes it in the form that a device needs",
                            argument(file)
                        ),
                    ));
                }
                // The device does not notice every damage.
                Err(failure) => in_use().ok_or(failure)?,
            };
            (public, args.id)
        }
        None => of_device(args)?,
    };
    if let Some(cloud) = &args.cloud {
        let id = id.ok_or_else(|| {
            Failure::new(Code::Usage, "the device's id is not known", "give it with --id, 24 hex digits")
        })?;
        let path = enrol(cloud, id, &public)?;
        args.device.ui().line(&format!("the cloud knows it now: {}", path.display()));
    }
    if args.device.json() {
        return ui::print(json!({
            "deviceID": id.map(|id| id.to_string()),
            "publicKey": public.pem()?,
            "algorithm": public.algorithm(),
            "fingerprint": public.fingerprint().to_string(),
        }));
    }
    ui::print(public.pem()?.trim_end())?;
    ui::say(format_args!("fingerprint {}", public.fingerprint()));
    Ok(())
}

fn of_device(args: &Args) -> Result<(Public, Option<DeviceId>), Failure> {
    particle::open(&args.device, |device| {
        let protocol = Protocol::of(device, args.protocol)?;
        let segment = device.segment(protocol.private_key())?;
        let field = zeroize::Zeroizing::new(device.read(&segment, protocol.private_key_len())?);
        let public = in_use(protocol, &field).ok_or_else(|| {
            Failure::new(
                Code::Data,
                "the device cannot use its private key, so there is no public key to send",
                "`spark keys check` says why; `spark keys doctor` makes it right",
            )
        })?;
        Ok((public, args.id.or(device.id())))
    })
}

/// As `spark keys check` says of the file, which a device or another tool takes as it is.
fn works(content: &[u8]) -> bool {
    load::load(content, &mut scratch(content)).is_ok_and(|loaded| of_private_key(content, &loaded).0)
}

/// The public key of a field that the device can use.
fn in_use(protocol: Protocol, field: &[u8]) -> Option<Public> {
    published(protocol, field).filter(|_| judge(protocol, field, None).1)
}

/// Records a key in the data folder of a local cloud, which speaks TCP.
fn enrol(cloud: &std::path::Path, id: DeviceId, public: &Public) -> Result<PathBuf, Failure> {
    if public.algorithm() != "rsa" {
        return Err(Failure::new(
            Code::Usage,
            "this is the key of a UDP device, and the local cloud talks TCP",
            "leave --cloud out",
        ));
    }
    let folder = Folder::open_existing(cloud)?;
    folder.enrol(id, &public.spki)
}
