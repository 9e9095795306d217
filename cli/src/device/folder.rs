//! The folder of one simulated device.
//!
//! ```text
//! DIR/device.json   its id and profile, and for people what its flash holds
//! DIR/flash.bin     its flash: keys, configuration, modules
//! DIR/ID.pub.pem    its public key, for the server
//! DIR/ID.pem        its private key
//! ```

use crate::cloud::folder::{private_pem, public_pem};
use crate::exit::{Code, Failure};
use crate::{files, photons};
use coap_spark::handshake::DeviceId;
use coap_spark::message::describe::Describe;
use serde::{Deserialize, Serialize};
use spark_keys::DeviceKey;
use spark_sim::{Firmware, Flash, Photon};
use std::path::{Path, PathBuf};

/// `device.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct State {
    /// 24 hex digits.
    device_id: String,
    /// Release whose behaviour the device was told; otherwise its modules decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    /// Where the device connects to by itself.
    #[serde(default)]
    cloud_address: String,
    /// What its flash holds; written for people, never read back.
    #[serde(default)]
    describe: Describe,
}

/// An opened folder.
#[derive(Clone, Debug)]
pub struct DeviceFolder {
    path: PathBuf,
    /// As it is kept.
    profile: Option<&'static Firmware>,
}

impl DeviceFolder {
    /// Whether there is a device.
    #[must_use]
    pub fn exists(path: &Path) -> bool {
        path.join("device.json").exists()
    }

    /// Makes the folder of a new device.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn create(
        path: &Path,
        photon: &Photon,
        key: &DeviceKey,
        profile: Option<&'static Firmware>,
    ) -> Result<Self, Failure> {
        files::make_folder(path)?;
        files::write_atomically(
            &public_key_file(path, photon.id()),
            public_pem(&key.public_key())?.as_bytes(),
        )?;
        files::write_secret(&path.join(format!("{}.pem", photon.id())), private_pem(key)?.as_bytes())?;
        let folder = Self { path: path.to_owned(), profile };
        folder.keep(photon)?;
        Ok(folder)
    }

    /// Opens the folder; the device behaves by the profile that it was given before, or by `profile`, which replaces
    /// that.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn open(path: &Path, profile: Option<&'static Firmware>) -> Result<(Self, Photon), Failure> {
        let (state_file, flash_file) = (path.join("device.json"), path.join("flash.bin"));
        let bad = |error: &dyn core::fmt::Display| {
            let what = format!("{}: {error}", state_file.display());
            Failure::new(Code::Data, what, "repair the file, or remove the folder to make a new device")
        };
        let state: State = serde_json::from_slice(&files::read(&state_file)?).map_err(|error| bad(&error))?;
        let id: DeviceId = state.device_id.parse().map_err(|error| bad(&error))?;
        let stored = state.profile.as_deref().map(by_name).transpose().map_err(|error| bad(&error))?;
        let flash = Flash::with_contents(&files::read(&flash_file)?).ok_or_else(|| {
            Failure::new(
                Code::Data,
                format_args!("{} is not the 1 MiB of a Photon's flash", flash_file.display()),
                "put the right file there, or remove the folder to make a new device",
            )
        })?;
        let folder = Self { path: path.to_owned(), profile: profile.or(stored) };
        let mut photon = Photon::new(id, flash);
        photon.set_firmware(folder.profile);
        if profile.is_some() && profile != stored {
            folder.keep(&photon)?;
        }
        Ok((folder, photon))
    }

    /// Keeps flash and state.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn keep(&self, photon: &Photon) -> Result<(), Failure> {
        files::write_secret(&self.path.join("flash.bin"), &photon.flash().contents())?;
        let (host, port) = photon.cloud_address();
        let state = State {
            device_id: photon.id().to_string(),
            profile: self.profile.map(|firmware| firmware_name(firmware).to_owned()),
            cloud_address: format!("{host}:{port}"),
            describe: photon.describe(),
        };
        let mut text = serde_json::to_vec_pretty(&state).unwrap_or_default();
        text.push(b'\n');
        files::write_atomically(&self.path.join("device.json"), &text)
    }

    /// Replaces the server key of the device.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn write_server_key(&self, photon: &mut Photon, server_key: &[u8; 294]) -> Result<(), Failure> {
        photons::write_server_key(photon, server_key)?;
        self.keep(photon)
    }

    /// Where the server finds the device's public key.
    #[must_use]
    pub fn public_key_file(&self, id: DeviceId) -> PathBuf {
        public_key_file(&self.path, id)
    }
}

fn public_key_file(folder: &Path, id: DeviceId) -> PathBuf {
    folder.join(format!("{id}.pub.pem"))
}

/// The name that [`by_name`] takes.
pub(super) const fn firmware_name(firmware: &'static Firmware) -> &'static str {
    if firmware.since.is_some() { firmware.release } else { firmware.profile }
}

pub(super) fn by_name(name: &str) -> Result<&'static Firmware, spark_sim::UnknownFirmware> {
    Firmware::named(name)
}
