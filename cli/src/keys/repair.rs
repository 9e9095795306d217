//! `spark keys repair`: a damaged key from its intact parts.

use super::files::Names;
use super::place::{protocol_of, scratch};
use super::protocol::Protocol;
use super::secret::{Secret, to_json};
use super::{read_key, shown};
use crate::cloud::folder::Folder;
use crate::dfu::DeviceOptions;
use crate::exit::{Code, Failure, chain};
use crate::files;
use crate::particle::{self, Particle, WriteOptions};
use crate::ui;
use serde_json::json;
use spark_dct::Field;
use spark_dct::flash::SectorId;
use spark_dct::recovery::Dump;
use spark_keys::{Key, KeyForm, load, repair, repair_ec, repair_with_public_key};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Rebuild a damaged private key from its intact parts: in a file, or in the device.
///
/// The public key stays, so the cloud need not be told. What is lost is said to be lost; no key is guessed. In the device
/// what was there is kept in a file first, and a key that cannot be rebuilt is taken from the older generation of the table, if
/// that has a good one.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The damaged key, for instance what `save` kept; without it the device is repaired.
    file: Option<PathBuf>,
    /// With FILE: name of the new files, without the ending.
    #[arg(short, long, value_name = "NAME", requires = "file")]
    output: Option<PathBuf>,
    /// The public key that the cloud has for the device: with it less of the key has to be intact.
    #[arg(long, value_name = "PUBLIC")]
    public_key: Option<PathBuf>,
    /// Data folder of the local cloud, which has the public key.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["public_key", "file"])]
    cloud: Option<PathBuf>,
    /// Overwrite files.
    #[arg(long)]
    force: bool,
    /// Which of the device's keys; by default the one that the device uses.
    #[arg(long)]
    protocol: Option<Protocol>,
    #[command(flatten)]
    write: WriteOptions,
    #[command(flatten)]
    device: DeviceOptions,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let public = args.public_key.as_ref().map(|path| known_key(path)).transpose()?;
    match &args.file {
        Some(file) => in_file(args, file, public.as_deref()),
        None => in_device(args, public),
    }
}

/// SubjectPublicKeyInfo of the key in the file.
fn known_key(path: &Path) -> Result<Vec<u8>, Failure> {
    let refused = |error: &dyn core::error::Error| {
        Failure::new(
            Code::Data,
            format_args!("--public-key {}: {}", shown(path), chain(error)),
            "give the device's public key as the cloud has it, or leave --public-key out",
        )
    };
    let content = read_key(path)?;
    let mut scratch = scratch(&content);
    let key = load::load(&content, &mut scratch).map_err(|error| refused(&error))?.key;
    let form = if key.algorithm() == "rsa" { KeyForm::SpkiRsa } else { KeyForm::SpkiEc };
    let mut spki = vec![0; key.encoded_len(form).map_err(|error| refused(&error))?];
    key.encode_into(form, &mut spki).map_err(|error| refused(&error))?;
    Ok(spki)
}

fn lost(place: &dyn core::fmt::Display, why: &str) -> Failure {
    Failure::new(
        Code::Data,
        format_args!("{place}: {why}"),
        "`spark keys load` writes a backup, `spark keys doctor` makes a new key and tells the cloud",
    )
}

fn in_file(args: &Args, file: &Path, public: Option<&[u8]>) -> Result<(), Failure> {
    let content = read_key(file)?;
    let by_length = || match content.len() <= Protocol::Udp.private_key_len() {
        true => Protocol::Udp,
        false => Protocol::Tcp,
    };
    let protocol = args.protocol.or_else(|| protocol_of(&content)).unwrap_or_else(by_length);
    let name = args.output.clone().unwrap_or_else(|| file.with_extension("repaired"));
    let names = Names::of(&name);
    names.must_be_new(args.force)?;
    let (secret, how) = rebuild(protocol, &content, public).map_err(|why| lost(&shown(file), &why))?;
    if args.write.dry_run {
        [&names.pem, &names.public, &names.der].into_iter().try_for_each(|path| files::check_write(path))?;
    } else {
        names.write(&secret)?;
    }
    if args.device.json() {
        return ui::print(
            json!({ "key": to_json(&secret), "how": how, "der": names.der, "pem": names.pem, "public": names.public, "dry_run": args.write.dry_run }),
        );
    }
    ui::print(format_args!("key {}: {how}; {}", secret.fingerprint().short(), names.der.display()))
}

fn in_device(args: &Args, public: Option<Vec<u8>>) -> Result<(), Failure> {
    particle::open(&args.device, |device| {
        let protocol = Protocol::of(device, args.protocol)?;
        let public = match &args.cloud {
            Some(cloud) => Some(recorded_key(cloud, device)?),
            None => public.clone(),
        };
        let segment = device.segment(protocol.private_key())?;
        let field = Zeroizing::new(device.read(&segment, protocol.private_key_len())?);
        let (secret, how) = rebuild(protocol, &field, public.as_deref()).or_else(|why| {
            let older = older_generation(protocol, device).ok_or_else(|| lost(&"the device's key", &why))?;
            match &public {
                Some(known) if *known != older.public().spki => Err(lost(
                    &"the device's key",
                    &format!("{why}; the key of the older generation of its table is not the one that the cloud knows"),
                )),
                Some(_) => Ok((older, "from the older generation of the device's table".to_owned())),
                None => {
                    let how = "from the older generation of the device's table; the cloud may know another key";
                    Ok((older, how.to_owned()))
                }
            }
        })?;
        let written = device.write(&segment, secret.field(), &args.write)?;
        device.finish(&args.write)?;
        if args.device.json() {
            return ui::print(json!({ "key": to_json(&secret), "how": how, "write": written }));
        }
        ui::print(format_args!("{written}\nkey {}: {how}", secret.fingerprint().short()))
    })
}

/// SubjectPublicKeyInfo of the key that the local cloud has for the device.
fn recorded_key(cloud: &Path, device: &Particle<'_, '_>) -> Result<Vec<u8>, Failure> {
    let folder = Folder::open_existing(cloud)?;
    let id = device.id().ok_or_else(|| {
        let next = "give the cloud's record with --public-key, or leave --cloud out";
        Failure::new(Code::Usage, "the device does not tell its id", next)
    })?;
    folder.device_key(id)?.map(|(_, spki)| spki).ok_or_else(|| {
        Failure::new(
            Code::Data,
            format_args!("{} knows no device {id}", cloud.display()),
            "leave --cloud out; `spark keys doctor --cloud` makes the repaired key known as well",
        )
    })
}

/// A usable key from what a device's place holds, and how it came about. `public` is the cloud's copy of the public key.
pub(super) fn rebuild(
    protocol: Protocol,
    field: &[u8],
    public: Option<&[u8]>,
) -> Result<(Secret, String), String> {
    let mut scratch = [0; load::MAX_DER];
    let public = public
        .map(|file| load::load(file, &mut scratch))
        .transpose()
        .map_err(|error| format!("the cloud's copy of the public key: {}", chain(&error)))?;
    let public = public.map(|loaded| loaded.key);
    if protocol == Protocol::Udp {
        let key = match public {
            None => repair_ec(field, None),
            Some(Key::EcPublic(key)) => repair_ec(field, Some(&key)),
            Some(_) => return Err("the cloud's copy is not the public key of a UDP device".to_owned()),
        };
        let key = key.map_err(|error| chain(&error))?;
        return Ok((Secret::Udp(key), "the private number is intact, the rest computed anew".to_owned()));
    }
    let repaired = match public {
        None => repair(field),
        Some(Key::RsaPublic(key)) => repair_with_public_key(field, &key),
        Some(_) => return Err("the cloud's copy is not the public key of a TCP device".to_owned()),
    };
    let repaired = repaired.map_err(|error| chain(&error))?;
    let computed: Vec<_> = repaired.recomputed().map(|number| number.name()).collect();
    let how = match &*computed {
        [] => "all numbers are intact, the key is written in its canonical form".to_owned(),
        names => format!("{} computed anew from the others", names.join(", ")),
    };
    Ok((Secret::Tcp(repaired.key), how))
}

/// A key that works, from the sector of the table that the device does not read: firmware leaves the older generation there.
pub(super) fn older_generation(protocol: Protocol, device: &mut Particle<'_, '_>) -> Option<Secret> {
    let field = match protocol {
        Protocol::Tcp => Field::DEVICE_PRIVATE_KEY,
        Protocol::Udp => Field::ALT_DEVICE_PRIVATE_KEY,
    };
    let dump = Dump::from_slice(device.sectors()?).ok()?;
    [SectorId::Dct1, SectorId::Dct2].into_iter().find_map(|id| {
        let range = field.offset()..field.offset() + protocol.private_key_len();
        let bytes = dump.candidate(id).app.get(range)?;
        Secret::of_field(protocol, bytes).filter(|_| super::check::judge(protocol, bytes, None).1)
    })
}
