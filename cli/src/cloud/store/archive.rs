//! Devices and modules as plain files: out, in, and in from the folders of the JavaScript servers.
//!
//! ```text
//! DIR/devices/ID.pub.pem        public key that the device gets in with
//! DIR/devices/ID.next.pub.pem   key that its owner is writing into it
//! DIR/devices/ID.json           everything else that is known about it, past keys included
//! DIR/devices/ID.update.json    the plan of its update
//! DIR/modules/NAME.bin          module files
//! ```
//!
//! Read are these, and what `spark-server` keeps, wherever in the folder it lies: `ID.pub.pem` or `ID.pem` with a public key, `ID.json`
//! with the device's name and attributes, or with its key as `{"algorithm", "deviceID", "key"}`.

use super::device::{Device, KeyState};
use super::{MAX_ATTRIBUTES, MAX_KEYS, Store};
use crate::cloud::catalogue::ModuleFile;
use crate::cloud::folder::{public_pem, read_device_key, unix_time};
use crate::cloud::plan::Plan;
use crate::exit::Failure;
use crate::files;
use coap_spark::handshake::DeviceId;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Folders within folders that are looked into.
const DEPTH: usize = 4;
/// Files that are looked at.
const MAX_FILES: usize = 200_000;
/// Bytes of a file.
const MAX_FILE: u64 = 4 << 20;

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Exported {
    /// Devices.
    pub devices: usize,
    /// Module files.
    pub modules: usize,
}

/// A file that was not taken, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct Refused {
    /// Which.
    pub file: PathBuf,
    /// Why.
    pub reason: String,
}

/// What was taken.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Imported {
    /// Devices that got a key or anything else.
    pub devices: usize,
    /// Keys that were recorded.
    pub keys: usize,
    /// Module files.
    pub modules: usize,
    /// Plans of updates.
    pub plans: usize,
    /// Files that look like ours and were not taken.
    pub refused: Vec<Refused>,
}

/// Writes everything as files.
///
/// # Errors
/// [`Failure`] that names the file.
pub fn export(store: &Store, folder: &Path) -> Result<Exported, Failure> {
    let (devices, modules) = (folder.join("devices"), folder.join("modules"));
    files::make_folder(&devices)?;
    files::make_folder(&modules)?;
    let mut exported = Exported::default();
    for (id, device) in store.devices()? {
        for (key, name) in [(device.current_key(), "pub.pem"), (device.next_key(), "next.pub.pem")] {
            if let Some(key) = key {
                let pem = public_pem(&key.spki())?;
                files::write_atomically(&devices.join(format!("{id}.{name}")), pem.as_bytes())?;
            }
        }
        write_json(&devices.join(format!("{id}.json")), &device)?;
        if let Some(plan) = store.plan(id)? {
            write_json(&devices.join(format!("{id}.update.json")), &plan)?;
        }
        exported.devices += 1;
    }
    let mut written = BTreeSet::new();
    for module in store.modules()? {
        let mut sha256 = [0; 32];
        let image = match hex::decode_to_slice(&module.sha256, &mut sha256) {
            Ok(()) => store.image(&sha256)?,
            Err(_) => None,
        };
        let Some(image) = image else { continue };
        // Names were given by people; a file's name is only the last part of it.
        let name = module.names.first().map(Path::new).and_then(Path::file_stem).unwrap_or_default();
        let name = name.to_string_lossy();
        let short = module.sha256.get(..8).unwrap_or_default();
        let mut file = format!("{name}.bin");
        if name.is_empty() || !written.insert(file.clone()) {
            file = format!("{name}-{short}.bin");
            written.insert(file.clone());
        }
        files::write_atomically(&modules.join(file), &image)?;
        exported.modules += 1;
    }
    Ok(exported)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let mut content = serde_json::to_vec_pretty(value).unwrap_or_default();
    content.push(b'\n');
    files::write_atomically(path, &content)
}

/// What a folder says about a device.
#[derive(Default)]
struct Found {
    record: Option<Device>,
    key: Option<Vec<u8>>,
    next: Option<Vec<u8>>,
    name: Option<String>,
    attributes: BTreeMap<String, String>,
    plan: Option<Plan>,
}

/// Takes what a folder holds. What is known already stays, unless the file says something else about it; a key that differs from the
/// recorded one is refused, for the recorded one lets the device in.
///
/// # Errors
/// [`Failure`] if the folder cannot be read or the database not be written. Files that are no good are left out and told.
pub fn import(store: &Store, folder: &Path) -> Result<Imported, Failure> {
    let mut paths = Vec::new();
    collect(folder, DEPTH, &mut paths)?;
    paths.sort();
    let mut imported = Imported::default();
    let mut found: BTreeMap<[u8; 12], Found> = BTreeMap::new();
    let mut modules = Vec::new();
    for path in paths {
        if let Err(reason) = look(&path, &mut found, &mut modules) {
            imported.refused.push(Refused { file: path, reason });
        }
    }
    // Plans need them.
    for file in modules {
        store.change_now(move |transaction| transaction.put_module(&file))?;
        imported.modules += 1;
    }
    for (id, found) in found {
        let id = DeviceId(id);
        let has_key = found.key.is_some();
        let (done, plan) = store.change_now(move |transaction| {
            let mut device = transaction.device(id)?;
            let refused = take(&mut device, &found);
            transaction.put_device(id, &device)?;
            let has_plan = found.plan.is_some();
            if let (Some(plan), None) = (found.plan, transaction.plan(id)?) {
                transaction.put_plan(id, &plan)?;
            }
            Ok((refused, has_plan))
        })?;
        imported.devices += 1;
        imported.plans += usize::from(plan);
        match done {
            Ok(()) => imported.keys += usize::from(has_key),
            Err(reason) => {
                imported.refused.push(Refused { file: folder.join(format!("{id}.pub.pem")), reason });
            }
        }
    }
    Ok(imported)
}

/// Puts what was found into a device's record.
fn take(device: &mut Device, found: &Found) -> Result<(), String> {
    let now = unix_time();
    // One that only offered a key is new, too: nobody has decided anything about it.
    let is_new = device.is_stranger();
    if let (true, Some(record)) = (is_new, &found.record) {
        *device = record.clone();
    }
    device.name = device.name.take().or_else(|| found.name.clone());
    for (name, value) in &found.attributes {
        if device.attributes.len() < MAX_ATTRIBUTES {
            device.attributes.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    if let Some(spki) = &found.key {
        device.enrol_first(spki, now).map_err(|error| error.to_string())?;
    }
    // What the owner decided here since then counts.
    if is_new {
        device.claimed = found.record.as_ref().map_or(found.key.is_some(), |record| record.claimed);
        if let Some(spki) = &found.next {
            device.stage(spki, now);
        }
    }
    Ok(())
}

fn collect(folder: &Path, depth: usize, paths: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let reading = |error| Failure::reading(folder, &error);
    for entry in std::fs::read_dir(folder).map_err(reading)? {
        let entry = entry.map_err(reading)?;
        // Links may lead anywhere, the folder itself included.
        let kind = entry.file_type().map_err(reading)?;
        if kind.is_dir() && depth != 0 {
            collect(&entry.path(), depth - 1, paths)?;
        } else if kind.is_file() && paths.len() < MAX_FILES {
            paths.push(entry.path());
        }
    }
    Ok(())
}

/// Looks at one file. Files of other kinds are passed over.
fn look(
    path: &Path,
    found: &mut BTreeMap<[u8; 12], Found>,
    modules: &mut Vec<ModuleFile>,
) -> Result<(), String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = |failure: Failure| failure.what().to_owned();
    if let Some((_, "bin")) = name.rsplit_once('.') {
        let content = files::read_up_to(path, MAX_FILE).map_err(text)?;
        // A folder of a server has other binary files, too.
        if let Ok(files) = ModuleFile::all_of(&name, &content) {
            modules.extend(files);
        }
        return Ok(());
    }
    let Some((id, kind)) = name.split_once('.') else { return Ok(()) };
    // Earlier versions kept offered keys as ID-FINGERPRINT; nobody has accepted those.
    let Ok(id) = id.parse::<DeviceId>() else { return Ok(()) };
    let key = |content: &[u8]| {
        read_device_key(content).map(|(_, spki)| spki).map_err(|error| crate::exit::chain(&error))
    };
    match kind {
        "pub.pem" | "pem" | "pub.der" => {
            let content = files::read_up_to(path, MAX_FILE).map_err(text)?;
            // Private keys lie about with the servers' command line tools.
            if kind == "pem" && !content.windows(10).any(|part| part == b"PUBLIC KEY") {
                return Ok(());
            }
            let spki = key(&content)?;
            found.entry(id.0).or_default().key = Some(spki);
        }
        "next.pub.pem" => {
            let spki = key(&files::read_up_to(path, MAX_FILE).map_err(text)?)?;
            found.entry(id.0).or_default().next = Some(spki);
        }
        "update.json" => {
            let content = files::read_up_to(path, MAX_FILE).map_err(text)?;
            let plan = serde_json::from_slice(&content).map_err(|error| error.to_string())?;
            found.entry(id.0).or_default().plan = Some(plan);
        }
        "json" => {
            let content = files::read_up_to(path, MAX_FILE).map_err(text)?;
            let value: Value = serde_json::from_slice(&content).map_err(|error| error.to_string())?;
            look_at_json(found.entry(id.0).or_default(), value, key)?;
        }
        _ => {}
    }
    Ok(())
}

fn look_at_json(
    found: &mut Found,
    value: Value,
    key: impl Fn(&[u8]) -> Result<Vec<u8>, String>,
) -> Result<(), String> {
    let Value::Object(members) = &value else { return Err("it is no JSON object".to_owned()) };
    if let Some(Value::String(pem)) = members.get("key") {
        found.key = Some(key(pem.as_bytes())?);
        return Ok(());
    }
    if members.contains_key("keys") {
        let record: Device = serde_json::from_value(value).map_err(|error| error.to_string())?;
        if record.keys.len() > MAX_KEYS {
            return Err(format!("a device has at most {MAX_KEYS} keys"));
        }
        for known in &record.keys {
            if key(&known.spki())? != known.spki() {
                return Err("a key is not in the form that devices have".to_owned());
            }
        }
        let current = record.keys.iter().filter(|key| key.state == KeyState::Current).count();
        let next = record.keys.iter().filter(|key| key.state == KeyState::Next).count();
        if current > 1 || next > 1 {
            return Err("a device has one current key and one next key at most".to_owned());
        }
        found.record = Some(record);
        return Ok(());
    }
    for (name, value) in members {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Null | Value::Object(_) | Value::Array(_) => continue,
            other => other.to_string(),
        };
        // A claim code is used up or dead, and not for keeping.
        match name.as_str() {
            "name" => found.name = Some(value),
            "claimCode" | "deviceID" | "coreID" => {}
            _ if found.attributes.len() < MAX_ATTRIBUTES => {
                found.attributes.insert(name.clone(), value);
            }
            _ => {}
        }
    }
    Ok(())
}
