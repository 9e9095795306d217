//! The devices that `spark device` runs: from their folders, from a list with keys, or new.

use super::command::{Args, Profile};
use super::fleet::{Member, count_on};
use super::folder::{DeviceFolder, by_name, firmware_name};
use super::program::program;
use crate::cloud::folder::{private_pem, public_pem};
use crate::exit::{Code, Failure};
use crate::files;
use crate::photons::{self, Mould};
use crate::ui::{Ui, say};
use coap_spark::handshake::DeviceId;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use spark_keys::{DeviceKey, load_device_key, load_public_key};
use spark_sim::{Application, Firmware, Flash, Photon};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Key of all devices of a fleet.
const FLEET_KEY: &str = "fleet-key.pem";

/// `fleet.json`: devices without folders.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct List {
    devices: Vec<Listed>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Listed {
    device_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    /// File of the public key, in the same folder.
    public_key: String,
    /// File of the private key, in the same folder.
    private_key: String,
}

/// Opens or makes the devices.
///
/// # Errors
/// [`Failure`].
pub(super) fn open(args: &Args) -> Result<Vec<Member>, Failure> {
    let wrong =
        |error: &dyn core::fmt::Display| Failure::new(Code::Usage, error, "see `spark device --help`");
    let program = program(&args.functions, &args.variables, &args.subscriptions);
    let program = Arc::new(program.map_err(|error| wrong(&error))?);
    if args.device_key.is_some() && args.count.is_some_and(|count| count > 1) && !args.shared_key {
        return Err(wrong(
            &"--device-key gives one key, and each device of a fleet has its own without --shared-key",
        ));
    }
    let server_key = args.server_key.as_deref().map(read_server_key).transpose()?;
    let maker = Maker { args, server_key, mould: None };
    let mut members = if args.in_memory { maker.in_memory()? } else { maker.in_folders()? };
    for member in &mut members {
        member.photon.set_application(Application::new(Arc::clone(&program)));
        if let Some(code) = &args.claim_code {
            set_claim_code(member, code)?;
        }
    }
    if let Some(folder) = &args.public_keys {
        files::make_folder(folder)?;
        for member in &members {
            write_public(folder, member.photon.id(), &member.public_key)?;
        }
    }
    Ok(members)
}

fn set_claim_code(member: &mut Member, code: &str) -> Result<(), Failure> {
    if member.photon.claim_code().as_deref() == Some(code.as_bytes()) {
        return Ok(());
    }
    member
        .photon
        .set_claim_code(code)
        .map_err(|_| Failure::new(Code::Usage, "the claim code is too long", "give up to 63 characters"))?;
    member.folder.as_ref().map_or(Ok(()), |folder| folder.keep(&member.photon))
}

struct Maker<'a> {
    args: &'a Args,
    server_key: Option<[u8; 294]>,
    mould: Option<Mould>,
}

impl Maker<'_> {
    fn count(&self) -> usize {
        self.args.count.and_then(|count| usize::try_from(count).ok()).unwrap_or(1)
    }

    fn profile(&self, at: usize) -> Option<&'static Firmware> {
        self.args.profile.map(|profile: Profile| profile.of(at))
    }

    /// What new devices are made of.
    fn mould(&mut self) -> Result<&Mould, Failure> {
        if self.mould.is_none() {
            // At a serial port no server is needed.
            let none = self.args.listening.then_some([0xff; 294]);
            let server_key = self.server_key.or(none).ok_or_else(|| {
                Failure::new(
                    Code::NoInput,
                    "a new device needs the server's public key",
                    "give it with --server-key FILE; `spark cloud serve` keeps it as server-key.pub.pem",
                )
            })?;
            self.mould = Some(Mould::new(&server_key, self.args.outdated)?);
        }
        // It was put there.
        self.mould.as_ref().ok_or_else(|| photons::impossible(&"no mould"))
    }

    /// Keys for so many new devices.
    fn keys(&self, count: usize) -> Result<Vec<Arc<DeviceKey>>, Failure> {
        let one = match &self.args.device_key {
            _ if self.args.shared_key => Arc::new(self.shared_key()?),
            Some(path) => Arc::new(read_device_key(path)?),
            None => return Ok(make_keys(count)?.into_iter().map(Arc::new).collect()),
        };
        Ok(vec![one; count])
    }

    fn shared_key(&self) -> Result<DeviceKey, Failure> {
        let path = self.args.data.join(FLEET_KEY);
        if path.exists() {
            return read_device_key(&path);
        }
        let key = match &self.args.device_key {
            Some(path) => read_device_key(path)?,
            None => photons::make_key(&mut rand::rng())?,
        };
        files::make_folder(&self.args.data)?;
        files::write_secret(&path, private_pem(&key)?.as_bytes())?;
        Ok(key)
    }

    fn id(&self, at: usize) -> DeviceId {
        self.args.id.map_or_else(|| photons::random_id(&mut rand::rng()), |first| count_on(first, at))
    }

    fn folder(&self, at: usize) -> PathBuf {
        let data = &self.args.data;
        if self.args.count.is_some() { data.join(format!("{:04}", at + 1)) } else { data.clone() }
    }

    fn in_folders(mut self) -> Result<Vec<Member>, Failure> {
        let is_new = |at: &usize| !DeviceFolder::exists(&self.folder(*at));
        let new = (0..self.count()).filter(is_new).count();
        if new > 0 {
            self.mould()?;
        }
        let mut keys = self.keys(new)?.into_iter();
        let bar = bar("devices", self.count());
        let mut members: Vec<Member> = Vec::with_capacity(self.count());
        for at in 0..self.count() {
            let (path, profile) = (self.folder(at), self.profile(at));
            let member = if DeviceFolder::exists(&path) {
                self.open_folder(&path, at, members.first())?
            } else {
                let key = keys.next().ok_or_else(|| photons::impossible(&"too few keys"))?;
                let mut photon = Photon::new(self.id(at), self.mould()?.chip(&key)?);
                photon.set_firmware(profile);
                let folder = DeviceFolder::create(&path, &photon, &key, profile)?;
                if self.count() == 1 {
                    say(format_args!("{} is a new device. Next, let the server know its key:", photon.id()));
                    say(format_args!("  {}", folder.public_key_file(photon.id()).display()));
                }
                Member { photon, public_key: key.public_key(), folder: Some(folder) }
            };
            members.push(member);
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(members)
    }

    fn open_folder(&self, path: &Path, at: usize, first: Option<&Member>) -> Result<Member, Failure> {
        let (folder, mut photon) = DeviceFolder::open(path, self.profile(at))?;
        if let Some(id) = self.args.id.map(|first| count_on(first, at)).filter(|id| *id != photon.id()) {
            let what = format!("{} has the device {}, not {id}", path.display(), photon.id());
            return Err(Failure::new(Code::Usage, what, "leave --id out, or give another folder"));
        }
        if let Some(server_key) = &self.server_key {
            folder.write_server_key(&mut photon, server_key)?;
        }
        if let Some(first) = first {
            photon.flash_mut().share_with(first.photon.flash());
        }
        let public_key = photon.public_key();
        Ok(Member { photon, public_key, folder: Some(folder) })
    }

    fn in_memory(mut self) -> Result<Vec<Member>, Failure> {
        let data = self.args.data.clone();
        let list_file = data.join("fleet.json");
        let mut list = read_list(&list_file)?;
        self.mould()?;
        let known = list.devices.len();
        let new = self.count().saturating_sub(known);
        files::make_folder(&data)?;
        for (key, at) in self.keys(new)?.iter().zip(known..) {
            let id = self.id(at);
            let private_key = if self.args.shared_key { FLEET_KEY.to_owned() } else { format!("{id}.pem") };
            if !self.args.shared_key {
                files::write_secret(&data.join(&private_key), private_pem(key)?.as_bytes())?;
            }
            let public_key = write_public(&data, id, &key.public_key())?;
            list.devices.push(Listed { device_id: id.to_string(), profile: None, public_key, private_key });
        }
        for (at, listed) in list.devices.iter_mut().enumerate().take(self.count()) {
            if let Some(firmware) = self.profile(at) {
                listed.profile = Some(firmware_name(firmware).to_owned());
            }
        }
        let mut text = serde_json::to_vec_pretty(&list).unwrap_or_default();
        text.push(b'\n');
        files::write_atomically(&list_file, &text)?;

        let mut shared: Option<(&str, DeviceKey, Flash)> = None;
        let mut members = Vec::with_capacity(self.count());
        for listed in list.devices.iter().take(self.count()) {
            let bad = |error: &dyn core::fmt::Display| {
                let what = format!("{}: {}: {error}", list_file.display(), listed.device_id);
                Failure::new(Code::Data, what, "repair the file, or remove it to make new devices")
            };
            let id: DeviceId = listed.device_id.parse().map_err(|error| bad(&error))?;
            let profile = listed.profile.as_deref().map(by_name).transpose().map_err(|error| bad(&error))?;
            let (public_key, flash) = match &shared {
                Some((file, key, flash)) if *file == listed.private_key => (key.public_key(), flash.clone()),
                _ => {
                    // A name, not a path: the list stays in its folder.
                    let name = Path::new(&listed.private_key).file_name().unwrap_or_default();
                    let key = read_device_key(&data.join(name))?;
                    let flash = self.mould()?.chip(&key)?;
                    let made = (key.public_key(), flash.clone());
                    shared = Some((&listed.private_key, key, flash));
                    made
                }
            };
            let mut photon = Photon::new(id, flash);
            photon.set_firmware(profile);
            members.push(Member { photon, public_key, folder: None });
        }
        Ok(members)
    }
}

fn read_list(path: &Path) -> Result<List, Failure> {
    if !path.exists() {
        return Ok(List::default());
    }
    serde_json::from_slice(&files::read(path)?).map_err(|error| {
        let what = format!("{}: {error}", path.display());
        Failure::new(Code::Data, what, "repair the file, or remove it to make new devices")
    })
}

/// Writes `ID.pub.pem` and gives its name. Thousands are written at once, and each can be written again.
fn write_public(folder: &Path, id: DeviceId, key: &[u8; 162]) -> Result<String, Failure> {
    let name = format!("{id}.pub.pem");
    let path = folder.join(&name);
    std::fs::write(&path, public_pem(key)?).map_err(|error| Failure::writing(&path, &error))?;
    Ok(name)
}

/// Makes keys on all processors.
fn make_keys(count: usize) -> Result<Vec<DeviceKey>, Failure> {
    let bar = bar("keys", count);
    let processors = std::thread::available_parallelism().map_or(1, core::num::NonZero::get);
    let share = |worker: usize| (0..count).skip(worker).step_by(processors).len();
    let made = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..processors)
            .map(|worker| {
                let bar = &bar;
                scope.spawn(move || {
                    let one = |_| photons::make_key(&mut rand::rng()).inspect(|_| bar.inc(1));
                    (0..share(worker)).map(one).collect::<Result<Vec<_>, _>>()
                })
            })
            .collect();
        let crashed = |_| photons::impossible(&"making a key crashed");
        let results = workers.into_iter().map(|worker| worker.join().map_err(crashed)?);
        results.collect::<Result<Vec<_>, Failure>>()
    })?;
    bar.finish_and_clear();
    Ok(made.into_iter().flatten().collect())
}

fn bar(what: &str, count: usize) -> ProgressBar {
    Ui::new(count < 10).bar(what, count as u64)
}

fn read_device_key(path: &Path) -> Result<DeviceKey, Failure> {
    load_device_key(&files::read(path)?).map_err(|error| {
        let what = format!("{} is no device key: {}", path.display(), crate::exit::chain(&error));
        Failure::new(Code::Data, what, "give an RSA-1024 private key, PEM or DER; `spark keys new` makes one")
    })
}

fn read_server_key(path: &Path) -> Result<[u8; 294], Failure> {
    let content = files::read(path)?;
    let mut buffer = [0; 1024];
    let unusable = |error: &dyn core::fmt::Display| {
        Failure::new(
            Code::Data,
            format_args!("{} is no server key: {error}", path.display()),
            "give the server's RSA-2048 public key, PEM or DER",
        )
    };
    let key = load_public_key(&content, &mut buffer).map_err(|error| unusable(&error))?;
    let key = spark_keys::rsa_backend::to_rsa_public(&key).map_err(|error| unusable(&error))?;
    spark_keys::rsa_backend::server_spki(&key).map_err(|error| unusable(&error))
}
