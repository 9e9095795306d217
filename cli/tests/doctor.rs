//! `spark keys doctor` through power cuts at every flash operation: device and cloud never disagree.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

use clap::Parser;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use spark_cli::cloud::folder::Folder;
use spark_cli::dfu::Access;
use spark_cli::exit::Failure;
use spark_cli::keys::doctor::{self, Cured};
use spark_cli::photons;
use spark_cli::ui::Ui;
use spark_dct::wiced::Generation;
use spark_dct::{App, Field};
use spark_keys::{DeviceKey, load_device_key};
use spark_sim::{Photon, PowerCut, config};
use std::path::Path;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: doctor::Args,
}

fn cure(photon: &mut Photon, folder: &Path, options: &[&str]) -> Result<Cured, Failure> {
    Folder::open(&folder.join("cloud"), &mut rand::rng()).unwrap();
    let (cloud, backup) = (folder.join("cloud"), folder.join("kept"));
    let paths = ["--json", "--cloud", cloud.to_str().unwrap(), "--backup", backup.to_str().unwrap()];
    let arguments = ["doctor"].into_iter().chain(paths).chain(options.iter().copied());
    let Cli { args } = Cli::parse_from(arguments);
    let id = photon.id().to_string();
    let mut port = photon.dfu().unwrap();
    // The simulated bootloader's serial number is its own; the id is given instead.
    let result = doctor::cure_open(&args, &mut Access::to_photon(&mut port, &Ui::new(true)));
    assert_eq!(id.len(), 24);
    result
}

fn key_of(photon: &Photon) -> Option<DeviceKey> {
    let table = photon.configuration();
    load_device_key(App::new(&table).unwrap().device_private_key_field()).ok()
}

/// The id that the simulated Photon tells over USB.
fn usb_id() -> coap_spark::handshake::DeviceId {
    "000000000000000000000001".parse().unwrap()
}

struct Cloud {
    recorded: Option<Vec<u8>>,
    next: Option<Vec<u8>>,
}

fn cloud(folder: &Path) -> Cloud {
    let (folder, _) = Folder::open(&folder.join("cloud"), &mut rand::rng()).unwrap();
    Cloud {
        recorded: folder.device_key(usb_id()).unwrap().map(|(_, spki)| spki),
        next: folder.next_key(usb_id()).unwrap().map(|(_, spki)| spki),
    }
}

fn agree(photon: &Photon, folder: &Path) -> bool {
    let Cloud { recorded, next } = cloud(folder);
    // A device without a usable key has nothing to disagree with.
    let Some(key) = key_of(photon) else { return true };
    let public = key.public_key().to_vec();
    recorded.as_ref() == Some(&public) || next.as_ref() == Some(&public)
}

/// A device whose key the cloud knows.
fn known_device(folder: &Path, outdated: bool) -> (Photon, DeviceKey) {
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let (photon, key) = photons::healthy(&[0x30; 294], outdated, &mut rng).unwrap();
    let (cloud, _) = Folder::open(&folder.join("cloud"), &mut rng).unwrap();
    cloud.enrol(usb_id(), &key.public_key()).unwrap();
    (photon, key)
}

/// Cuts the power after that many flash operations, then runs the doctor again. `true` if the first run was complete.
fn survives(after: u64, torn: bool, outdated: bool) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (mut photon, old) = known_device(folder, outdated);
    photon.flash_mut().cut_power(PowerCut { after, torn });
    let result = cure(&mut photon, folder, &["--new"]);
    photon.flash_mut().restore_power();
    assert!(agree(&photon, folder), "cut after {after}, torn {torn}: {result:?}");
    if result.is_ok() {
        return true;
    }
    let left = key_of(&photon).unwrap();
    assert!(cloud(folder).next.is_some(), "it is not known yet which key is in the device");
    let options: &[&str] = if left.public_key() == old.public_key() { &["--new"] } else { &[] };
    cure(&mut photon, folder, options).unwrap();
    let key = key_of(&photon).unwrap().public_key();
    assert_ne!(key, old.public_key());
    let cloud = cloud(folder);
    assert_eq!((cloud.recorded, cloud.next), (Some(key.to_vec()), None));
    false
}

#[test]
fn device_and_cloud_agree_after_a_power_cut_at_any_operation_and_the_next_run_finishes() {
    // Copying a sector is hundreds of operations that are all alike; those at its end are not.
    for (stride, torn, outdated) in
        [(7, true, false), (29, false, false), (29, true, true), (29, false, true)]
    {
        let end = (0..).step_by(stride).find(|after| survives(*after, torn, outdated)).unwrap();
        assert!(end > 100, "a write has some hundred operations, not {end}");
        for after in (end + 1).saturating_sub(stride as u64 + 8)..end {
            survives(after, torn, outdated);
        }
    }
}

#[test]
fn key_that_was_being_written_is_taken_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut photon, _) = known_device(folder.path(), false);
    photon.flash_mut().cut_power(PowerCut { after: 0, torn: false });
    cure(&mut photon, folder.path(), &["--new"]).unwrap_err();
    photon.flash_mut().restore_power();
    let next = cloud(folder.path()).next.unwrap();

    // As firmware of 0.4.4 to 0.6.4 leaves the field when power fails: the AND of both keys.
    let fingerprint = spark_keys::Fingerprint::of_spki(&next).short();
    let file = folder.path().join("kept").join(format!("{}-{fingerprint}.der", usb_id()));
    let new = load_device_key(&std::fs::read(file).unwrap()).unwrap();
    photon.flash_mut().cut_power(PowerCut { after: 1, torn: false });
    let offset = Field::DEVICE_PRIVATE_KEY.offset();
    config::write(photon.flash_mut(), Generation::V0_4_4, offset, new.as_field()).unwrap_err();
    photon.flash_mut().restore_power();
    assert!(key_of(&photon).is_none());

    let cured = cure(&mut photon, folder.path(), &[]).unwrap();
    assert_eq!(serde_json::to_value(&cured).unwrap()["remedy"], "resume");
    assert_eq!(key_of(&photon).unwrap().public_key()[..], next[..]);
    assert_eq!(cloud(folder.path()).recorded, Some(next));
}

#[test]
fn key_that_works_stays_and_the_cloud_learns_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let (mut photon, key) = photons::healthy(&[0x30; 294], false, &mut rng).unwrap();
    let before = photon.flash().contents().to_vec();
    for _ in 0..2 {
        let cured = cure(&mut photon, folder.path(), &[]).unwrap();
        assert_eq!(serde_json::to_value(&cured).unwrap()["remedy"], "keep");
        assert!(photon.flash().contents() == before, "nothing was written");
        assert_eq!(cloud(folder.path()).recorded, Some(key.public_key().to_vec()));
    }
}

#[test]
fn dry_run_changes_neither_device_nor_cloud() {
    let folder = tempfile::tempdir().unwrap();
    let (mut photon, key) = known_device(folder.path(), false);
    let before = photon.flash().contents().to_vec();
    cure(&mut photon, folder.path(), &["--new", "--dry-run", "--host", "10.0.0.1"]).unwrap();
    assert!(photon.flash().contents() == before);
    let cloud = cloud(folder.path());
    assert_eq!((cloud.recorded, cloud.next), (Some(key.public_key().to_vec()), None));
    assert!(!folder.path().join("kept").exists());
}

#[test]
fn another_device_than_the_named_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut photon, _) = known_device(folder.path(), false);
    let failure = cure(&mut photon, folder.path(), &["000000000000000000000002"]).unwrap_err();
    assert_eq!(failure.code() as u8, 64);
}

#[test]
fn key_that_is_in_the_device_already_is_recorded_before_another_is_announced() {
    for after in [0, 3, 400] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let (mut photon, key) = known_device(folder, false);
        // An earlier run wrote the device and was ended before the cloud took the key.
        let (_, other) = photons::healthy(&[0x30; 294], false, &mut ChaCha20Rng::seed_from_u64(8)).unwrap();
        let (cloud_folder, _) = Folder::open(&folder.join("cloud"), &mut rand::rng()).unwrap();
        cloud_folder.enrol(usb_id(), &other.public_key()).unwrap();
        cloud_folder.stage(usb_id(), &key.public_key()).unwrap();
        photon.flash_mut().cut_power(PowerCut { after, torn: false });
        let result = cure(&mut photon, folder, &["--new"]);
        photon.flash_mut().restore_power();
        assert!(agree(&photon, folder), "cut after {after}: {result:?}");
    }
}
