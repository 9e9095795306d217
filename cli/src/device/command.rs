//! `spark device`: a simulated Photon against any server.

use super::run;
use crate::cloud::folder::{private_pem, public_pem};
use crate::exit::{Code, Failure};
use crate::ui::say;
use crate::{files, photons};
use coap_spark::handshake::DeviceId;
use coap_spark::message::describe::Describe;
use core::time::Duration;
use serde::{Deserialize, Serialize};
use spark_keys::load_public_key;
use spark_sim::{Flash, Photon, Started};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs a simulated Photon that connects to a server.
///
/// On the first start it makes a device in DIR: device.json with its id, flash.bin with keys and modules, its key pair
/// as PEM files; the server needs the public one. It connects again and again, takes updates and keeps its flash and
/// what is in it (in device.json) up to date.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Host and port of the server; without it the address in the device's flash.
    #[arg(long, value_name = "ADDR")]
    pub connect: Option<String>,
    /// Folder of the device; made if it is missing.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The server's public key, PEM or DER; needed on the first start, later it replaces the stored one.
    #[arg(long, value_name = "FILE")]
    pub server_key: Option<PathBuf>,
    /// On the first start: install Device OS 0.7.0, too old for the application, so that a cloud can update it.
    #[arg(long)]
    pub outdated: bool,
    /// Stop after this many connections.
    #[arg(long, value_name = "N")]
    pub connections: Option<u32>,
}

/// `device.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct State {
    /// 24 hex digits.
    device_id: String,
    /// Where the device connects to by itself.
    #[serde(default)]
    cloud_address: String,
    /// What its flash holds; written for people, never read back.
    #[serde(default)]
    describe: Describe,
}

/// Keeps flash and state.
fn save(photon: &Photon, folder: &Path) -> Result<(), Failure> {
    files::write_secret(&folder.join("flash.bin"), photon.flash().contents())?;
    let (host, port) = photon.cloud_address();
    let state = State {
        device_id: photon.id().to_string(),
        cloud_address: format!("{host}:{port}"),
        describe: photon.describe(&[]),
    };
    let mut text = serde_json::to_vec_pretty(&state).unwrap_or_default();
    text.push(b'\n');
    files::write_atomically(&folder.join("device.json"), &text)
}

/// Runs the device until it is interrupted.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Args) -> Result<(), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    watch_interrupt(&stop)?;
    let mut photon = open(args)?;
    let mut written = photon.flash().operations();
    let mut connections = 0;
    let mut started = photon.power_on();
    while !stop.load(Ordering::Relaxed) && args.connections.is_none_or(|limit| connections < limit) {
        match started {
            Started::Running => say(format_args!("{}: the application runs", photon.id())),
            Started::SafeMode => {
                say(format_args!("{}: safe mode: the application lacks something", photon.id()))
            }
            other => {
                let what = format!("{} does not start: {other:?}", photon.id());
                return Err(Failure::new(Code::Data, what, "remove the folder to make a new device"));
            }
        }
        let (host, port) = photon.cloud_address();
        let address = args.connect.clone().unwrap_or_else(|| format!("{host}:{port}"));
        say(format_args!("{}: connecting to {address}", photon.id()));
        let id = photon.id();
        let result =
            run::connect(&mut photon, &address, &stop, &mut |line| say(format_args!("{id}: {line}")));
        connections += 1;
        if photon.flash().operations() != written {
            save(&photon, &args.data)?;
            written = photon.flash().operations();
        }
        match result {
            Ok(None) => break,
            Ok(Some(end)) => {
                say(format_args!("{id}: {end}"));
                started = photon.start();
                if !matches!(end, spark_sim::End::Reset) {
                    pause(&stop);
                }
            }
            Err(error) => {
                say(format_args!("{id}: cannot connect to {address}: {error}; trying again"));
                pause(&stop);
            }
        }
    }
    Ok(())
}

/// Devices wait a moment before they try again.
fn pause(stop: &AtomicBool) {
    for _ in 0..10 {
        if !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn watch_interrupt(stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| {
        Failure::new(Code::Software, format_args!("cannot start: {error}"), "free some memory or threads")
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        runtime.block_on(crate::interrupt::interrupted());
        stop.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// Opens the device in the folder, or makes one.
fn open(args: &Args) -> Result<Photon, Failure> {
    let server_key = args.server_key.as_deref().map(read_server_key).transpose()?;
    let (state_file, flash_file) = (args.data.join("device.json"), args.data.join("flash.bin"));
    if !state_file.exists() {
        let Some(server_key) = server_key else {
            return Err(Failure::new(
                Code::NoInput,
                "a new device needs the server's public key",
                "give it with --server-key FILE; `spark cloud serve` keeps it as server-key.pub.pem",
            ));
        };
        files::make_folder(&args.data)?;
        let (photon, key) = photons::healthy(&server_key, args.outdated, &mut rand::rng())?;
        let public_file = args.data.join(format!("{}.pub.pem", photon.id()));
        files::write_atomically(&public_file, public_pem(&key.public_key())?.as_bytes())?;
        let private_file = args.data.join(format!("{}.pem", photon.id()));
        files::write_secret(&private_file, private_pem(&key)?.as_bytes())?;
        save(&photon, &args.data)?;
        say(format_args!("{} is a new device. Next, let the server know its key:", photon.id()));
        say(format_args!("  {}", public_file.display()));
        return Ok(photon);
    }
    let bad = |error: &dyn core::fmt::Display| {
        let what = format!("{}: {error}", state_file.display());
        Failure::new(Code::Data, what, "repair the file, or remove the folder to make a new device")
    };
    let state: State = serde_json::from_slice(&files::read(&state_file)?).map_err(|error| bad(&error))?;
    let id: DeviceId = state.device_id.parse().map_err(|error| bad(&error))?;
    let mut photon = Photon::new(id, Flash::with_contents(&files::read(&flash_file)?));
    if let Some(server_key) = server_key {
        photons::write_server_key(&mut photon, &server_key)?;
    }
    Ok(photon)
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
