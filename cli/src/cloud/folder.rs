//! The cloud's data folder: the server's keys and the token as files a person can read, everything else in a database.
//!
//! ```text
//! DIR/server-key.pem       the server's private key (RSA-2048)
//! DIR/server-key.pub.pem   its public key, to be written to devices
//! DIR/token                who has it may use the HTTP interface
//! DIR/cloud.redb           devices, their keys and states, module files, plans of updates
//! DIR/modules/*.bin        module files put here are taken into the database when the cloud starts
//! ```
//!
//! Several programs may have it open: what `spark keys doctor` writes, a running cloud sees at the next connection.
//! Anyone can offer any key for any id: compare the fingerprint before you accept one.

use super::store::{Device, KeyRecord, Store};
use crate::exit::{Code, Failure};
use crate::files;
use crate::ui::say;
use coap_spark::handshake::DeviceId;
use rand_core::CryptoRng;
use rsa::{RsaPrivateKey, RsaPublicKey};
use spark_keys::{DeviceKey, KeyForm, RsaPublicKeyView, load_public_key, pem, rsa_backend};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// The database's name in the folder.
const DATABASE: &str = "cloud.redb";

/// An opened data folder.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    store: Arc<Store>,
}

impl Folder {
    /// Opens a data folder and makes what it lacks; `true` if it was new.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn open(path: &Path, rng: &mut dyn CryptoRng) -> Result<(Self, bool), Failure> {
        files::make_folder(&path.join("modules"))?;
        let folder = Self::with_store(path)?;
        if !folder.token_file().exists() {
            let mut token = Zeroizing::new([0; 24]);
            rng.fill_bytes(token.as_mut_slice());
            files::write_secret(&folder.token_file(), format!("{}\n", hex::encode(*token)).as_bytes())?;
        }
        if folder.server_key_file().exists() {
            return Ok((folder, false));
        }
        let key = rsa_backend::generate_server_key(rng).map_err(|error| {
            Failure::new(Code::Software, format_args!("cannot make a server key: {error}"), "try again")
        })?;
        write_server_key(path, &key)?;
        Ok((folder, true))
    }

    fn with_store(path: &Path) -> Result<Self, Failure> {
        let store = Arc::new(Store::open(&path.join(DATABASE))?);
        // Earlier versions kept devices as files.
        if path.join("devices").is_dir()
            && let Some(imported) = store.import_once(path)?
        {
            for refused in imported.refused {
                say(format_args!(
                    "not taken into the database: {}: {}",
                    refused.file.display(),
                    refused.reason
                ));
            }
        }
        Ok(Self { path: path.to_path_buf(), store })
    }

    /// Gives a cloud that is still to be made the private key of another server, which its devices know.
    ///
    /// # Errors
    /// [`Failure`] if the file holds no RSA-2048 key, or the cloud has another key already.
    pub fn adopt_server_key(path: &Path, file: &Path) -> Result<(), Failure> {
        let key = rsa_backend::load_server_key(&files::read(file)?).map_err(|error| bad_key(file, &error))?;
        let own = path.join("server-key.pem");
        if own.exists() {
            let known = rsa_backend::load_server_key(&files::read(&own)?);
            if known.is_ok_and(|known| known.as_public_key() == key.as_public_key()) {
                return Ok(());
            }
            return Err(Failure::new(
                Code::CantCreate,
                format_args!("{} is there already, and is another key", own.display()),
                "its devices know that one; choose another folder with --data for a new cloud",
            ));
        }
        files::make_folder(path)?;
        write_server_key(path, &key)
    }

    /// Opens a data folder that is there already: who names one in passing does not want a new cloud.
    ///
    /// # Errors
    /// [`Failure`] if it is not the folder of a cloud.
    pub fn open_existing(path: &Path) -> Result<Self, Failure> {
        if path.join("server-key.pem").is_file() {
            return Self::with_store(path);
        }
        Err(Failure::new(
            Code::NoInput,
            format_args!("{} is no data folder of a cloud: it has no server-key.pem", path.display()),
            "check the path; `spark cloud serve --data DIR` makes a new one",
        ))
    }

    /// What the cloud remembers.
    #[must_use]
    pub const fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// `token`.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.path.join("token")
    }

    /// What opens the HTTP interface.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn token(&self) -> Result<Zeroizing<String>, Failure> {
        read_token(&self.token_file())
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
        self.key(id, Device::current_key)
    }

    /// Records a device's public key: from now on it may connect, and it is its owner's.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn enrol(&self, id: DeviceId, spki: &[u8]) -> Result<PathBuf, Failure> {
        let spki = spki.to_vec();
        self.change(id, move |device| {
            device.enrol(&spki, unix_time());
            device.claimed = true;
        })
    }

    /// Records a key that is about to be written into the device. Until [`Folder::accept_next`] both may connect, so that
    /// device and cloud agree whether the write succeeds or not.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn stage(&self, id: DeviceId, spki: &[u8]) -> Result<PathBuf, Failure> {
        let spki = spki.to_vec();
        self.change(id, move |device| {
            device.stage(&spki, unix_time());
            device.claimed = true;
        })
    }

    /// The key that [`Folder::stage`] recorded.
    ///
    /// # Errors
    /// [`Failure`] that names the file if it is there and unusable.
    pub fn next_key(&self, id: DeviceId) -> Result<Option<(RsaPublicKey, Vec<u8>)>, Failure> {
        self.key(id, Device::next_key)
    }

    /// The staged key is in the device: it takes the place of the recorded one.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn accept_next(&self, id: DeviceId) -> Result<(), Failure> {
        // Another connection or the owner may have done it.
        self.change(id, |device| device.accept_next(unix_time())).map(|_| ())
    }

    /// The staged key is not in the device: it is forgotten.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn forget_next(&self, id: DeviceId) -> Result<(), Failure> {
        if self.store.device(id)?.is_none_or(|device| device.next_key().is_none()) {
            return Ok(());
        }
        self.change(id, Device::forget_next).map(|_| ())
    }

    fn key(
        &self,
        id: DeviceId,
        which: fn(&Device) -> Option<&KeyRecord>,
    ) -> Result<Option<(RsaPublicKey, Vec<u8>)>, Failure> {
        let Some(device) = self.store.device(id)? else { return Ok(None) };
        let Some(record) = which(&device) else { return Ok(None) };
        let path = self.path.join(DATABASE);
        read_device_key(&record.spki()).map(Some).map_err(|error| bad_key(&path, &error))
    }

    fn change<T: Send + 'static>(
        &self,
        id: DeviceId,
        change: impl FnOnce(&mut Device) -> T + Send + 'static,
    ) -> Result<PathBuf, Failure> {
        self.store.change_now(move |transaction| transaction.update_device(id, change))?;
        Ok(self.path.join(DATABASE))
    }
}

fn write_server_key(path: &Path, key: &RsaPrivateKey) -> Result<(), Failure> {
    let file = path.join("server-key.pem");
    let text = rsa_backend::private_key_pem(key).map_err(|error| bad_key(&file, &error))?;
    let spki = rsa_backend::server_spki(key.as_public_key()).map_err(|error| bad_key(&file, &error))?;
    files::write_atomically(&path.join("server-key.pub.pem"), public_pem(&spki)?.as_bytes())?;
    files::write_secret(&file, text.as_bytes())
}

/// Seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Reads a token out of its file.
///
/// # Errors
/// [`Failure`] that names the file.
pub fn read_token(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let content = Zeroizing::new(files::read_up_to(path, 1024)?);
    let text = core::str::from_utf8(&content).unwrap_or_default().trim();
    if text.len() < 16 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::new(
            Code::Data,
            format_args!("{} holds no token: 16 or more printable characters are needed", path.display()),
            "remove the file, and the cloud makes a new one",
        ));
    }
    Ok(Zeroizing::new(text.to_owned()))
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
