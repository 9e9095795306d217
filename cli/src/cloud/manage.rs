//! `spark cloud accept|forget|import|export`: the data folder by hand, beside a running cloud or without one.

use super::folder::{Folder, unix_time};
use super::store::{self, KeyError, KeyState};
use crate::exit::{Code, Failure};
use crate::ui::{print, say};
use coap_spark::handshake::DeviceId;
use serde_json::json;
use std::path::PathBuf;

/// Lets a device in with a key that it offered.
///
/// Without an id it lists the devices that wait. Compare the fingerprint with the device's: anyone can offer any key for any id.
#[derive(Clone, Debug, clap::Args)]
pub struct AcceptArgs {
    /// The device's id, 24 hex digits.
    pub id: Option<DeviceId>,
    /// Fingerprint of the key, or the beginning of it; may be left out if the device offered one key only.
    pub fingerprint: Option<String>,
    /// Data folder of the cloud.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Forgets a device: its keys, what is known about it, and its update.
#[derive(Clone, Debug, clap::Args)]
pub struct ForgetArgs {
    /// The device's id, 24 hex digits.
    pub id: DeviceId,
    /// Data folder of the cloud.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
}

/// Takes devices and module files from a folder: one that `spark cloud export` wrote, or the data folder of spark-server.
///
/// A device's key that differs from the recorded one is not taken. The cloud may run.
#[derive(Clone, Debug, clap::Args)]
pub struct ImportArgs {
    /// The folder.
    pub from: PathBuf,
    /// Data folder of the cloud; made if it is missing.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// For a new cloud: the server's private key that the devices know already, for instance spark-server's default_key.pem.
    #[arg(long, value_name = "FILE")]
    pub server_key: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Writes devices and module files as plain files: keys as PEM, the rest as JSON. The cloud may run.
#[derive(Clone, Debug, clap::Args)]
pub struct ExportArgs {
    /// The folder; made if it is missing.
    pub to: PathBuf,
    /// Data folder of the cloud.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs `spark cloud accept`.
///
/// # Errors
/// [`Failure`].
pub fn accept(args: &AcceptArgs) -> Result<(), Failure> {
    let folder = Folder::open_existing(&args.data)?;
    let Some(id) = args.id else { return list(&folder, args.json) };
    let device = folder.store().device(id)?.unwrap_or_default();
    let offered: Vec<_> = device.keys.iter().filter(|key| key.state == KeyState::Offered).collect();
    let choose = |what: &dyn core::fmt::Display| {
        Failure::new(
            Code::Usage,
            format_args!("{id}: {what}"),
            format_args!("`spark cloud accept --data {}` lists the keys that wait", args.data.display()),
        )
    };
    let fingerprint = match (&args.fingerprint, &offered[..]) {
        (Some(given), _) => device.find_key(given).map_err(|error| choose(&error))?.fingerprint().to_string(),
        (None, [key]) => key.fingerprint().to_string(),
        (None, []) => return Err(choose(&"it has offered no key")),
        (None, _) => return Err(choose(&"it has offered several keys, name one by its fingerprint")),
    };
    let wanted = fingerprint.clone();
    let accepted = folder.store().change_now(move |transaction| {
        transaction.update_device(id, |device| {
            device.accept(&wanted, unix_time())?;
            device.claimed = true;
            Ok::<_, KeyError>(())
        })
    })?;
    accepted.map_err(|error| choose(&error))?;
    if args.json {
        return print(json!({ "device": id.to_string(), "fingerprint": fingerprint }));
    }
    print(format_args!("{id} gets in with {}", fingerprint.get(..16).unwrap_or_default()))
}

fn list(folder: &Folder, as_json: bool) -> Result<(), Failure> {
    let mut none = true;
    for (id, device) in folder.store().devices()? {
        let changed = device.current_key().is_some();
        for key in device.keys.iter().filter(|key| key.state == KeyState::Offered) {
            none = false;
            let fingerprint = key.fingerprint().to_string();
            if as_json {
                print(json!({
                    "device": id.to_string(), "fingerprint": fingerprint, "since": key.since, "key_changed": changed,
                }))?;
                continue;
            }
            let why = if changed { "key changed: it had another one" } else { "unknown device" };
            print(format_args!("{id} {} {why}", fingerprint.get(..16).unwrap_or_default()))?;
        }
    }
    if none && !as_json {
        say("no device waits");
    }
    Ok(())
}

/// Runs `spark cloud forget`.
///
/// # Errors
/// [`Failure`].
pub fn forget(args: &ForgetArgs) -> Result<(), Failure> {
    let folder = Folder::open_existing(&args.data)?;
    let id = args.id;
    let known = folder.store().change_now(move |transaction| transaction.remove_device(id))?;
    if !known {
        let what = format!("nothing is known about {id}");
        return Err(Failure::new(Code::NoInput, what, "check the id; GET /v1/devices lists them"));
    }
    print(format_args!("{id} is forgotten; a connection that it has lasts until it ends"))
}

/// Runs `spark cloud import`.
///
/// # Errors
/// [`Failure`]; [`Code::Data`] if something was not taken, and all else was.
pub fn import(args: &ImportArgs) -> Result<(), Failure> {
    if let Some(file) = &args.server_key {
        Folder::adopt_server_key(&args.data, file)?;
    }
    let (folder, _) = Folder::open(&args.data, &mut rand::rng())?;
    let imported = store::import(folder.store(), &args.from)?;
    if args.json {
        print(serde_json::to_string(&imported).unwrap_or_default())?;
    } else {
        let (devices, keys, modules) = (imported.devices, imported.keys, imported.modules);
        print(format_args!("{devices} devices, {keys} keys, {modules} module files"))?;
        for refused in &imported.refused {
            say(format_args!("not taken: {}: {}", refused.file.display(), refused.reason));
        }
    }
    match imported.refused.len() {
        0 => Ok(()),
        count => Err(Failure::new(
            Code::Data,
            format_args!("{count} files were not taken"),
            "mend or remove them, and import again; what was taken stays",
        )),
    }
}

/// Runs `spark cloud export`.
///
/// # Errors
/// [`Failure`].
pub fn export(args: &ExportArgs) -> Result<(), Failure> {
    let folder = Folder::open_existing(&args.data)?;
    let exported = store::export(folder.store(), &args.to)?;
    if args.json {
        return print(serde_json::to_string(&exported).unwrap_or_default());
    }
    print(format_args!(
        "{} devices and {} module files in {}",
        exported.devices,
        exported.modules,
        args.to.display()
    ))
}
