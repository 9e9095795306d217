//! The cloud's data folder: keys and state as files a person can read.
//!
//! ```text
//! DIR/server-key.pem           the server's private key (RSA-2048)
//! DIR/server-key.pub.pem       its public key, to be written to devices
//! DIR/devices/ID.pub.pem       public key of a device that may connect
//! DIR/devices/ID.next.pub.pem  key that its owner is writing into it; the first connection with it makes it the key
//! DIR/devices/ID.json          what is known about it
//! DIR/pending/ID-FP.pub.pem    key that a device offered; FP is the start of its fingerprint
//! DIR/modules/*.bin            module files for system updates
//! ```
//!
//! A device is enrolled by moving its key from `pending` to `devices/ID.pub.pem`; the folder is read at every
//! connection. Anyone can offer any key for any id: compare the fingerprint.

use crate::exit::{Code, Failure};
use crate::files;
use coap_spark::handshake::DeviceId;
use rand_core::CryptoRng;
use rsa::{RsaPrivateKey, RsaPublicKey};
use serde::{Deserialize, Serialize};
use spark_keys::{DeviceKey, Fingerprint, KeyForm, RsaPublicKeyView, load_public_key, pem, rsa_backend};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Keys of unknown devices that are kept; who knows the server's public key can offer any number.
const MAX_PENDING: usize = 1000;

/// Whether a device's key was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Enrolled {
    /// By this call.
    Now,
    /// It was known already; nothing was changed.
    Before,
}

/// An opened data folder.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

/// What the cloud knows about a device, one JSON file each.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DeviceState {
    /// Platform id from the last Hello.
    pub platform_id: Option<u16>,
    /// The last Describe document.
    pub describe: Option<coap_spark::message::describe::Describe>,
    /// Seconds since 1970 of the last Hello.
    pub last_seen: u64,
}

impl Folder {
    /// Opens a data folder and makes what it lacks; `true` if it was new.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn open(path: &Path, rng: &mut dyn CryptoRng) -> Result<(Self, bool), Failure> {
        let folder = Self { path: path.to_path_buf() };
        for part in ["devices", "pending", "modules"] {
            files::make_folder(&folder.path.join(part))?;
        }
        let key_file = folder.server_key_file();
        if key_file.exists() {
            return Ok((folder, false));
        }
        let key = rsa_backend::generate_server_key(rng).map_err(|error| {
            Failure::new(Code::Software, format_args!("cannot make a server key: {error}"), "try again")
        })?;
        folder.write_server_key(&key)?;
        Ok((folder, true))
    }

    /// Opens a data folder that is there already: who names one in passing does not want a new cloud.
    ///
    /// # Errors
    /// [`Failure`] if it is not the folder of a cloud.
    pub fn open_existing(path: &Path) -> Result<Self, Failure> {
        let folder = Self { path: path.to_path_buf() };
        if folder.server_key_file().is_file() {
            return Ok(folder);
        }
        Err(Failure::new(
            Code::NoInput,
            format_args!("{} is no data folder of a cloud: it has no server-key.pem", path.display()),
            "check the path; `spark cloud serve --data DIR` makes a new one",
        ))
    }

    /// The server's public key as devices hold it, from the private one that the server uses.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn server_spki(&self) -> Result<[u8; 294], Failure> {
        let key = self.server_key()?;
        rsa_backend::server_spki(key.as_public_key())
            .map_err(|error| bad_key(&self.server_key_file(), &error))
    }

    fn write_server_key(&self, key: &RsaPrivateKey) -> Result<(), Failure> {
        let text =
            rsa_backend::private_key_pem(key).map_err(|error| bad_key(&self.server_key_file(), &error))?;
        let spki = rsa_backend::server_spki(key.as_public_key())
            .map_err(|error| bad_key(&self.server_key_file(), &error))?;
        files::write_atomically(&self.server_public_key_file(), public_pem(&spki)?.as_bytes())?;
        files::write_secret(&self.server_key_file(), text.as_bytes())
    }

    /// `server-key.pem`.
    #[must_use]
    pub fn server_key_file(&self) -> PathBuf {
        self.path.join("server-key.pem")
    }

    /// `server-key.pub.pem`.
    #[must_use]
    pub fn server_public_key_file(&self) -> PathBuf {
        self.path.join("server-key.pub.pem")
    }

    /// The folder with module files.
    #[must_use]
    pub fn modules(&self) -> PathBuf {
        self.path.join("modules")
    }

    /// Reads the server's private key.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn server_key(&self) -> Result<RsaPrivateKey, Failure> {
        let path = self.server_key_file();
        rsa_backend::load_server_key(&files::read(&path)?).map_err(|error| bad_key(&path, &error))
    }

    /// The recorded public key of a device, `None` if it is unknown.
    ///
    /// # Errors
    /// [`Failure`] that names the file if it is there and unusable.
    pub fn device_key(&self, id: DeviceId) -> Result<Option<(RsaPublicKey, Vec<u8>)>, Failure> {
        key_file(&self.device_key_file(id))
    }

    /// Records a device's public key: from now on it may connect.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn enrol(&self, id: DeviceId, spki: &[u8]) -> Result<PathBuf, Failure> {
        let path = self.device_key_file(id);
        files::write_atomically(&path, public_pem(spki)?.as_bytes())?;
        Ok(path)
    }

    /// Records a key that is about to be written into the device. Until [`Folder::accept_next`] both may connect, so that
    /// device and cloud agree whether the write succeeds or not.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn stage(&self, id: DeviceId, spki: &[u8]) -> Result<PathBuf, Failure> {
        let path = self.next_key_file(id);
        files::write_atomically(&path, public_pem(spki)?.as_bytes())?;
        Ok(path)
    }

    /// The key that [`Folder::stage`] recorded.
    ///
    /// # Errors
    /// [`Failure`] that names the file if it is there and unusable.
    pub fn next_key(&self, id: DeviceId) -> Result<Option<(RsaPublicKey, Vec<u8>)>, Failure> {
        key_file(&self.next_key_file(id))
    }

    /// The staged key is in the device: it takes the place of the recorded one.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn accept_next(&self, id: DeviceId) -> Result<(), Failure> {
        let (from, to) = (self.next_key_file(id), self.device_key_file(id));
        match std::fs::rename(from, &to) {
            // Another connection or the owner did it.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::writing(&to, &error)),
            _ => Ok(()),
        }
    }

    /// The staged key is not in the device: it is forgotten.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn forget_next(&self, id: DeviceId) -> Result<(), Failure> {
        let path = self.next_key_file(id);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::writing(&path, &error))
            }
            _ => Ok(()),
        }
    }

    /// As [`Folder::enrol`], but only if the device is still unknown.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn enrol_new(&self, id: DeviceId, spki: &[u8]) -> Result<Enrolled, Failure> {
        let new = files::write_if_new(&self.device_key_file(id), public_pem(spki)?.as_bytes())?;
        Ok(if new { Enrolled::Now } else { Enrolled::Before })
    }

    /// Keeps a key that a device offered, for the operator to decide.
    ///
    /// # Errors
    /// [`Failure`] that names the file, or says that the folder is full.
    pub fn keep_pending(&self, id: DeviceId, spki: &[u8]) -> Result<PathBuf, Failure> {
        let folder = self.path.join("pending");
        let path = folder.join(format!("{id}-{}.pub.pem", Fingerprint::of_spki(spki).short()));
        if path.exists() {
            return Ok(path);
        }
        let kept = std::fs::read_dir(&folder).map_err(|error| Failure::reading(&folder, &error))?.count();
        if kept >= MAX_PENDING {
            return Err(Failure::new(
                Code::Data,
                format_args!("{} holds {kept} keys already, this one was not kept", folder.display()),
                "remove those that you do not know",
            ));
        }
        files::write_atomically(&path, public_pem(spki)?.as_bytes())?;
        Ok(path)
    }

    /// Changes what is known about a device.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn update_state(&self, id: DeviceId, change: impl FnOnce(&mut DeviceState)) -> Result<(), Failure> {
        let path = self.path.join("devices").join(format!("{id}.json"));
        let mut state: DeviceState = match std::fs::read(&path) {
            Ok(content) => serde_json::from_slice(&content).map_err(|error| {
                Failure::new(
                    Code::Data,
                    format_args!("{} is not a device state: {error}", path.display()),
                    "repair or remove the file",
                )
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => DeviceState::default(),
            Err(error) => return Err(Failure::reading(&path, &error)),
        };
        change(&mut state);
        let mut content = serde_json::to_vec_pretty(&state).unwrap_or_default();
        content.push(b'\n');
        files::write_atomically(&path, &content)
    }

    fn device_key_file(&self, id: DeviceId) -> PathBuf {
        self.path.join("devices").join(format!("{id}.pub.pem"))
    }

    fn next_key_file(&self, id: DeviceId) -> PathBuf {
        self.path.join("devices").join(format!("{id}.next.pub.pem"))
    }
}

fn key_file(path: &Path) -> Result<Option<(RsaPublicKey, Vec<u8>)>, Failure> {
    if !path.exists() {
        return Ok(None);
    }
    let content = files::read(path)?;
    read_device_key(&content).map(Some).map_err(|error| bad_key(path, &error))
}

/// Reads a device's public key: PEM or DER; gives its SubjectPublicKeyInfo, too.
///
/// # Errors
/// What is wrong with it.
pub fn read_device_key(file: &[u8]) -> Result<(RsaPublicKey, Vec<u8>), rsa_backend::RsaError> {
    let mut buffer = [0; 1024];
    let view: RsaPublicKeyView<'_> = load_public_key(file, &mut buffer)?;
    let key = rsa_backend::to_rsa_public(&view)?;
    let spki = rsa_backend::device_spki(&key)?;
    Ok((key, spki.to_vec()))
}

/// A SubjectPublicKeyInfo as PEM.
///
/// # Errors
/// [`Failure`] if it is longer than any key.
pub fn public_pem(spki: &[u8]) -> Result<String, Failure> {
    let mut text = vec![0; spki.len() * 3 / 2 + 128];
    pem::encode(KeyForm::SpkiRsa, spki, &mut text).map(str::to_owned).map_err(|error| {
        Failure::new(Code::Software, format_args!("cannot write a public key: {error}"), "report this")
    })
}

/// A device's private key as PEM.
///
/// # Errors
/// [`Failure`] if it is longer than any key.
pub fn private_pem(key: &DeviceKey) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(vec![0; key.as_der().len() * 3 / 2 + 128]);
    let encoded = pem::encode(KeyForm::Pkcs1Private, key.as_der(), &mut text).map(str::to_owned);
    encoded.map(Zeroizing::new).map_err(|error| {
        Failure::new(Code::Software, format_args!("cannot write a private key: {error}"), "report this")
    })
}

fn bad_key(path: &Path, error: &dyn core::error::Error) -> Failure {
    Failure::new(
        Code::Data,
        format_args!("{} is no usable key: {}", path.display(), crate::exit::chain(error)),
        "put the right key there, or remove the file",
    )
}
