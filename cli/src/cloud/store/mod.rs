//! What the cloud remembers, in one database file: devices with their keys, module files, and plans of updates.
//!
//! Every change is one transaction: after a power cut the file holds all of it or nothing. A call returns when the change is on
//! the disk. Changes that come together are written together, so that a storm of connections costs a few writes.
//!
//! Several processes may have the file open, so that `spark keys doctor` or `spark cloud import` work beside a running
//! cloud; nothing is cached here that another process may change.

mod archive;
mod device;
mod transaction;
mod writer;

pub use archive::{Exported, Imported, Refused, export, import};
pub use device::{Device, Failed, KeyError, KeyRecord, KeyState, MAX_ATTRIBUTES, MAX_KEYS, NameError};
pub use transaction::{ModuleRecord, Transaction};

use crate::cloud::plan::Plan;
use crate::exit::{Code, Failure};
use coap_spark::handshake::DeviceId;
use redb::{
    Builder, ConcurrencyMode, Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use transaction::{DEVICES, IMAGES, MODULES, PLANS, decode};
use writer::Writer;

/// Memory for pages of the file.
const CACHE: usize = 8 << 20;
/// Version of the records' form. A file of a later one is not opened.
const FORMAT: u64 = 1;
const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");

/// Devices without a key of their own that are kept: who knows the server's public key can offer any number.
pub const MAX_STRANGERS: u64 = 1000;
/// Devices of one cloud.
pub const MAX_DEVICES: u64 = 100_000;
/// Bytes of all module files.
pub const MAX_MODULE_BYTES: u64 = 256 << 20;

/// An open database.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    database: Arc<Database>,
    writer: Writer,
}

impl Store {
    /// Opens the file; makes it if it is missing.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &dyn core::fmt::Display| unusable(path, error);
        let database = Builder::new()
            .set_cache_size(CACHE)
            .set_concurrency_mode(ConcurrencyMode::MultiWriter)
            .create(path)
            .map_err(|error| failed(&error))?;
        let new = database.begin_write().map_err(|error| failed(&error))?;
        let format = {
            let mut meta = new.open_table(META).map_err(|error| failed(&error))?;
            let found = meta.get("format").map_err(|error| failed(&error))?.map(|found| found.value());
            match found {
                Some(found) => found,
                None => {
                    meta.insert("format", FORMAT).map_err(|error| failed(&error))?;
                    FORMAT
                }
            }
        };
        if format != FORMAT {
            return Err(Failure::new(
                Code::Data,
                format_args!("{} has form {format}, this program knows form {FORMAT}", path.display()),
                "use the program that wrote it",
            ));
        }
        Transaction::make_tables(&new).map_err(|error| failed(&error))?;
        new.commit().map_err(|error| failed(&error))?;
        let database = Arc::new(database);
        let writer = Writer::start(Arc::clone(&database), path)?;
        Ok(Self { path: path.to_path_buf(), database, writer })
    }

    /// Runs `change` in a transaction of its own or one shared with others and waits until it is on the disk.
    ///
    /// `change` looks first and writes last: what it wrote before an error stays.
    ///
    /// # Errors
    /// Those of `change`, or of the file.
    pub async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.writer.change(change).await
    }

    /// The same for code without a runtime. Blocks.
    ///
    /// # Errors
    /// As [`Store::change`].
    pub fn change_now<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.writer.change_now(change)
    }

    /// A device, `None` if nothing is known about it.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn device(&self, id: DeviceId) -> Result<Option<Device>, Failure> {
        let table = self.read()?.open_table(DEVICES).map_err(|error| self.unusable(&error))?;
        let found = table.get(&id.0).map_err(|error| self.unusable(&error))?;
        found.map(|found| decode(found.value()).map_err(|error| self.unusable(&error))).transpose()
    }

    /// All devices, by their ids.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn devices(&self) -> Result<Vec<(DeviceId, Device)>, Failure> {
        let table = self.read()?.open_table(DEVICES).map_err(|error| self.unusable(&error))?;
        let mut devices = Vec::new();
        for entry in table.iter().map_err(|error| self.unusable(&error))? {
            let (id, device) = entry.map_err(|error| self.unusable(&error))?;
            let device = decode(device.value()).map_err(|error| self.unusable(&error))?;
            devices.push((DeviceId(*id.value()), device));
        }
        Ok(devices)
    }

    /// The plan of a device's update, the last one if it has ended.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn plan(&self, id: DeviceId) -> Result<Option<Plan>, Failure> {
        let table = self.read()?.open_table(PLANS).map_err(|error| self.unusable(&error))?;
        let found = table.get(&id.0).map_err(|error| self.unusable(&error))?;
        found.map(|found| decode(found.value()).map_err(|error| self.unusable(&error))).transpose()
    }

    /// The module files, without their content.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn modules(&self) -> Result<Vec<ModuleRecord>, Failure> {
        let table = self.read()?.open_table(MODULES).map_err(|error| self.unusable(&error))?;
        let mut modules = Vec::new();
        for entry in table.iter().map_err(|error| self.unusable(&error))? {
            let (_, module) = entry.map_err(|error| self.unusable(&error))?;
            modules.push(decode(module.value()).map_err(|error| self.unusable(&error))?);
        }
        Ok(modules)
    }

    /// The content of a module file.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn image(&self, sha256: &[u8; 32]) -> Result<Option<Vec<u8>>, Failure> {
        let table = self.read()?.open_table(IMAGES).map_err(|error| self.unusable(&error))?;
        let found = table.get(sha256).map_err(|error| self.unusable(&error))?;
        Ok(found.map(|found| found.value().to_vec()))
    }

    /// Takes the files of an earlier version, once, whatever else is there already.
    ///
    /// # Errors
    /// As [`import`].
    pub fn import_once(&self, folder: &Path) -> Result<Option<Imported>, Failure> {
        let table = self.read()?.open_table(META).map_err(|error| self.unusable(&error))?;
        if table.get("files-imported").map_err(|error| self.unusable(&error))?.is_some() {
            return Ok(None);
        }
        let imported = import(self, folder)?;
        self.change_now(|transaction| transaction.note("files-imported"))?;
        Ok(Some(imported))
    }

    fn read(&self) -> Result<ReadTransaction, Failure> {
        self.database.begin_read().map_err(|error| self.unusable(&error))
    }

    fn unusable(&self, error: &dyn core::fmt::Display) -> Failure {
        unusable(&self.path, error)
    }
}

fn unusable(path: &Path, error: &dyn core::fmt::Display) -> Failure {
    Failure::new(
        Code::Io,
        format_args!("{}: {error}", path.display()),
        "check the disk and the permissions; `spark cloud export` on a copy tells what can be read",
    )
}
