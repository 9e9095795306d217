//! `spark rescue`: the whole story of a Photon that blinks cyan-red, on one machine.
//!
//! [`usb`] repairs the keys, [`air`] brings the modules, [`report`] says what happened.

pub mod air;
pub mod report;
pub mod usb;

use crate::cloud::catalogue::{Catalogue, ModuleFile};
use crate::cloud::folder::Folder;
use crate::dfu::Access;
use crate::exit::{Code, Failure};
use crate::ui::{Ui, print};
use crate::{files, photons, synthetic};
use core::net::Ipv4Addr;
use report::{Compared, Report};
use spark_dct::{ServerAddress, ServerKeyRegion};
use spark_keys::{check, rsa_backend};
use spark_ota::module::ModuleFunction;
use spark_sim::{Photon, Started};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Rescues a simulated Photon whose keys are gone and whose system is too old, and reports every step.
///
/// A device key that a power cut destroyed, an erased server key, an application built for a newer system: this
/// repairs the keys over (simulated) USB and the system over a (real) TCP connection to a local cloud.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder with real module files: a bootloader, system parts and one application for the Photon.
    /// Without it modules are synthesised.
    #[arg(long, value_name = "DIR")]
    pub modules: Option<PathBuf>,
    /// Folder for keys, dumps and a log; without it they are kept only while the rescue runs.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Print the report as JSON on standard output and nothing else.
    #[arg(long)]
    pub json: bool,
}

/// Runs the rescue and prints its report.
///
/// # Errors
/// [`Failure`], also if the device is not rescued in the end.
pub fn run(args: &Args) -> Result<(), Failure> {
    let ui = Ui::new(args.json);
    let temporary;
    let folder = match &args.keep {
        Some(folder) => folder.as_path(),
        None => {
            temporary =
                tempfile::tempdir().map_err(|error| Failure::writing(Path::new("a folder"), &error))?;
            temporary.path()
        }
    };
    let modules = match &args.modules {
        Some(folder) => Modules::load(folder)?,
        None => Modules::synthetic()?,
    };
    let report = rescue(&modules, folder, args.keep.is_some(), &ui)?;
    let json = serde_json::to_string_pretty(&report).unwrap_or_default();
    if args.keep.is_some() {
        files::write_atomically(&folder.join("report.json"), json.as_bytes())?;
    }
    if args.json {
        print(&json)?;
    } else {
        print(format_args!("\n{report}"))?;
    }
    if report.is_rescued() {
        Ok(())
    } else {
        Err(Failure::new(Code::Software, "the device is not rescued", "look at the report above"))
    }
}

/// The modules of a rescue.
#[derive(Clone, Debug)]
pub struct Modules {
    /// On the device at the start.
    pub old_system: Vec<ModuleFile>,
    /// On the device at the start; too new for the old system.
    pub application: ModuleFile,
    /// What the cloud can send.
    pub new_system: Vec<ModuleFile>,
}

impl Modules {
    /// Made here.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn synthetic() -> Result<Self, Failure> {
        Ok(Self {
            old_system: synthetic::old_system()?,
            application: synthetic::application()?,
            new_system: synthetic::new_system()?,
        })
    }

    /// From files; the old system is made here all the same. Of each function and index the newest is taken, the
    /// application is the one that needs the newest system that there is.
    ///
    /// # Errors
    /// [`Failure`] if a part is missing.
    pub fn load(folder: &Path) -> Result<Self, Failure> {
        let (catalogue, refused) = Catalogue::load(folder)?;
        let missing = |what: &dyn core::fmt::Display| {
            let mut next = "put one there, or leave --modules out to synthesise all".to_owned();
            for failure in &refused {
                next = format!("{next}\n  left out: {}", failure.what());
            }
            let what = format_args!("{} has no {what} for the Photon", folder.display());
            Failure::new(Code::NoInput, what, next)
        };
        let photon = |file: &&ModuleFile| file.prefix.platform_id == spark_sim::PLATFORM_ID;
        let newest = |function: ModuleFunction, index: u8| {
            let of_key = |file: &&ModuleFile| (file.prefix.function, file.prefix.index) == (function, index);
            let files = catalogue.files();
            let found = files.iter().filter(photon).filter(of_key);
            let newest = found.max_by_key(|file| file.prefix.version).cloned();
            newest.ok_or_else(|| missing(&format_args!("{function} {index}")))
        };
        let new_system = vec![
            newest(ModuleFunction::Bootloader, 0)?,
            newest(ModuleFunction::System, 1)?,
            newest(ModuleFunction::System, 2)?,
        ];
        let part_2 = new_system[2].prefix.version;
        let need = |file: &ModuleFile| file.prefix.dependencies[0].version;
        let application = catalogue
            .files()
            .iter()
            .filter(photon)
            .filter(|file| file.prefix.function == ModuleFunction::User && need(file) <= part_2)
            .max_by_key(|file| need(file))
            .cloned()
            .ok_or_else(|| missing(&"application"))?;
        Ok(Self { old_system: synthetic::old_system()?, application, new_system })
    }
}

/// The story, step by step. Keys, dumps and cloud data go to `folder`.
///
/// # Errors
/// [`Failure`] of the step that failed.
pub fn rescue(modules: &Modules, folder: &Path, keep: bool, ui: &Ui) -> Result<Report, Failure> {
    let started = Instant::now();
    let mut rng = rand::rng();

    ui.step(1, "A Photon blinks cyan-red");
    let (mut photon, candidates) = photons::broken(&modules.old_system, &modules.application, &mut rng)?;
    let before = photon.power_on();
    ui.note(format_args!("device {}, starts into {}", photon.id(), name(before)));
    let (host, port) = photon.cloud_address();
    ui.note(format_args!("it would connect to {host}:{port}, with keys that nobody knows"));
    if keep {
        files::make_folder(folder)?;
        files::write_secret(&folder.join("flash-before.bin"), &photon.flash().contents())?;
    }

    ui.step(2, "What is wrong, over DFU");
    let fields = on_usb(&mut photon, ui, usb::read_fields)?;
    let damages =
        usb::diagnose(&fields, (candidates.old.as_field().as_slice(), candidates.new.as_field().as_slice()));
    for damage in &damages {
        for finding in &damage.findings {
            ui.note(format_args!("{}: {} ({})", damage.field, finding.what, finding.code));
        }
    }

    ui.step(3, "Back up, make a new key, write it with the server's, read back, leave");
    let (cloud_folder, _) = Folder::open(&folder.join("cloud"), &mut rng)?;
    let server_key = cloud_folder.server_key()?;
    let spki = rsa_backend::server_spki(server_key.as_public_key()).map_err(|error| {
        Failure::new(Code::Software, format_args!("the server key is not usable: {error}"), "try again")
    })?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| {
        let next = "check that the loopback interface is up";
        Failure::new(Code::Unavailable, format_args!("cannot listen on 127.0.0.1: {error}"), next)
    })?;
    let port = listener.local_addr().map_or(0, |address| address.port());
    let mut backups = Vec::new();
    for (file, content) in
        [("device-key-field.bin", &fields.device_key), ("server-key-region.bin", &fields.server_key)]
    {
        let path = folder.join(format!("{}-{file}", photon.id()));
        files::write_secret(&path, content)?;
        let place =
            if keep { path.display().to_string() } else { format!("{file} (not kept without --keep)") };
        backups.push(place);
    }
    let key = rsa_backend::generate_device_key(&mut rng).map_err(|error| {
        Failure::new(Code::Software, format_args!("cannot make a device key: {error}"), "try again")
    })?;
    if !check(key.as_field()).is_clean() {
        return Err(Failure::new(Code::Software, "the new key is not clean", "try again"));
    }
    if keep {
        files::write_secret(&folder.join(format!("{}.der", photon.id())), key.as_der())?;
    }
    let region = ServerKeyRegion::new(&spki, Some(ServerAddress::ipv4(Ipv4Addr::LOCALHOST, Some(port))));
    let mut region_bytes = [0; 512];
    region.encode_into(&mut region_bytes).map_err(|error| {
        Failure::new(Code::Software, format_args!("the server key region is wrong: {error}"), "report this")
    })?;
    let writes = on_usb(&mut photon, ui, |usb| usb::repair(usb, &key, &region_bytes))?;
    for write in &writes {
        ui.note(format_args!("{} at alternate {} address {}", write.field, write.alternate, write.address));
    }
    let spki = key.public_key();
    cloud_folder.enrol(photon.id(), &spki)?;
    ui.note(format_args!("new key {}, known to the cloud", key.fingerprint().short()));

    ui.step(4, "A local cloud; the Photon connects and describes itself");
    let catalogue = Catalogue::new(modules.new_system.clone());
    let (outcome, result) = air::update(&mut photon, cloud_folder, catalogue, listener, ui);
    if keep {
        files::write_secret(&folder.join("flash-after.bin"), &photon.flash().contents())?;
        files::write_atomically(&folder.join("log.txt"), outcome.log.join("\n").as_bytes())?;
    }
    result?;

    ui.step(6, "Report");
    let mut expected = modules.new_system.clone();
    expected.push(modules.application.clone());
    let compared = expected.iter().map(|file| compare(&photon, file)).collect();
    Ok(Report {
        device_id: photon.id().to_string(),
        damages,
        backups,
        writes,
        device_key_fingerprint: key.fingerprint().to_string(),
        cloud_address: format!("127.0.0.1:{port}"),
        transfers: outcome.transfers,
        modules: compared,
        describe: outcome.describe,
        application_runs: photon.application_runs(),
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Holds SETUP, does something over USB, pulls the cable.
///
/// # Errors
/// Those of the work.
pub fn on_usb<T>(
    photon: &mut Photon,
    ui: &Ui,
    work: impl FnOnce(&mut Access<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut port = photon.dfu().map_err(|error| {
        Failure::new(Code::Software, format_args!("the simulated bootloader: {error}"), "report this")
    })?;
    work(&mut Access::to_photon(&mut port, ui))
}

fn compare(photon: &Photon, file: &ModuleFile) -> Compared {
    let on_device = photon.flash().read(file.prefix.start_address, file.image.len()).unwrap_or_default();
    Compared {
        module: file.name.clone(),
        file_sha256: files::sha256(&file.image),
        device_sha256: files::sha256(&on_device),
        equal: on_device == &file.image[..],
    }
}

fn name(started: Started) -> &'static str {
    match started {
        Started::Running => "its application",
        Started::SafeMode => "safe mode",
        Started::DfuMode => "DFU mode",
        Started::Dead => "nothing",
        _ => "a power cut",
    }
}
