//! The tables, and what a change may do with them.

use super::device::Device;
use super::{MAX_MODULE_BYTES, MAX_STRANGERS, unusable};
use crate::cloud::catalogue::ModuleFile;
use crate::cloud::plan::Plan;
use crate::exit::{Code, Failure};
use coap_spark::handshake::DeviceId;
use redb::{ReadableTable, ReadableTableMetadata, TableDefinition, TableError, WriteTransaction};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::Path;

pub(super) type Table<const N: usize> = TableDefinition<'static, &'static [u8; N], &'static [u8]>;

/// Device id to [`Device`].
pub(super) const DEVICES: Table<12> = TableDefinition::new("devices");
/// Device id to [`Plan`].
pub(super) const PLANS: Table<12> = TableDefinition::new("plans");
/// SHA-256 of the content to [`ModuleRecord`].
pub(super) const MODULES: Table<32> = TableDefinition::new("modules");
/// SHA-256 to the content.
pub(super) const IMAGES: Table<32> = TableDefinition::new("images");
/// Device ids that have no key of their own: all that is known is what strangers offered.
const STRANGERS: Table<12> = TableDefinition::new("strangers");

/// A module file without its content.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModuleRecord {
    /// SHA-256 of the whole file, hex.
    pub sha256: String,
    /// Names it was given; the same content is kept once.
    pub names: Vec<String>,
    /// Bytes.
    pub size: u32,
    /// Platform id, 6 for a Photon.
    pub platform_id: u16,
    /// Function letter as in Describe: `b`, `s`, `u` and others.
    pub function: char,
    /// Index within the function.
    pub index: u8,
    /// Version of the module.
    pub version: u16,
}

impl ModuleRecord {
    /// What is kept of a checked file.
    #[must_use]
    pub fn of(file: &ModuleFile) -> Self {
        Self {
            sha256: hex::encode(file.sha256),
            names: vec![file.name.clone()],
            size: u32::try_from(file.image.len()).unwrap_or(u32::MAX),
            platform_id: file.prefix.platform_id,
            function: file.prefix.function.letter(),
            index: file.prefix.index,
            version: file.prefix.version,
        }
    }
}

/// A change under way.
pub struct Transaction<'t> {
    transaction: &'t WriteTransaction,
    path: &'t Path,
}

impl core::fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Transaction").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<'t> Transaction<'t> {
    pub(super) const fn new(transaction: &'t WriteTransaction, path: &'t Path) -> Self {
        Self { transaction, path }
    }

    /// A reader finds every table.
    pub(super) fn make_tables(transaction: &WriteTransaction) -> Result<(), TableError> {
        for table in [DEVICES, PLANS, STRANGERS] {
            transaction.open_table(table)?;
        }
        for table in [MODULES, IMAGES] {
            transaction.open_table(table)?;
        }
        Ok(())
    }

    /// A device as it is before the change; an empty record if nothing is known.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn device(&self, id: DeviceId) -> Result<Device, Failure> {
        Ok(self.get(DEVICES, &id.0)?.unwrap_or_default())
    }

    /// Writes a device.
    ///
    /// # Errors
    /// [`Failure`] that names the file, or says that too many strangers are kept already.
    pub fn put_device(&self, id: DeviceId, device: &Device) -> Result<(), Failure> {
        let mut strangers =
            self.transaction.open_table(STRANGERS).map_err(|error| unusable(self.path, &error))?;
        let failed = |error: redb::StorageError| unusable(self.path, &error);
        if device.is_stranger() {
            let known = strangers.get(&id.0).map_err(failed)?.is_some();
            if !known && strangers.len().map_err(failed)? >= MAX_STRANGERS {
                return Err(Failure::new(
                    Code::Data,
                    format_args!("{MAX_STRANGERS} unknown devices have offered keys, this one was not kept"),
                    "accept those you know with `spark cloud accept`, and forget the others with `spark cloud forget`",
                ));
            }
            strangers.insert(&id.0, &[][..]).map_err(failed)?;
        } else {
            strangers.remove(&id.0).map_err(failed)?;
        }
        drop(strangers);
        self.put(DEVICES, &id.0, device)
    }

    /// Changes a device.
    ///
    /// # Errors
    /// As [`Transaction::put_device`].
    pub fn update_device<T>(
        &self,
        id: DeviceId,
        change: impl FnOnce(&mut Device) -> T,
    ) -> Result<T, Failure> {
        let mut device = self.device(id)?;
        let result = change(&mut device);
        self.put_device(id, &device)?;
        Ok(result)
    }

    /// Forgets a device and its plan; `false` if nothing was known.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn remove_device(&self, id: DeviceId) -> Result<bool, Failure> {
        self.remove(PLANS, &id.0)?;
        self.remove(STRANGERS, &id.0)?;
        self.remove(DEVICES, &id.0)
    }

    /// The plan of a device's update.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn plan(&self, id: DeviceId) -> Result<Option<Plan>, Failure> {
        self.get(PLANS, &id.0)
    }

    /// Writes a plan.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn put_plan(&self, id: DeviceId, plan: &Plan) -> Result<(), Failure> {
        self.put(PLANS, &id.0, plan)
    }

    /// Keeps a module file. A content that is there already only gets the new name.
    ///
    /// # Errors
    /// [`Failure`] that names the file, or says that the store is full.
    pub fn put_module(&self, file: &ModuleFile) -> Result<ModuleRecord, Failure> {
        let record = match self.get::<ModuleRecord, 32>(MODULES, &file.sha256)? {
            Some(mut record) => {
                if !record.names.contains(&file.name) {
                    record.names.push(file.name.clone());
                }
                record
            }
            None => {
                let there = self.module_bytes()?;
                if there + file.image.len() as u64 > MAX_MODULE_BYTES {
                    return Err(Failure::new(
                        Code::Data,
                        format_args!("module files take {there} bytes of {MAX_MODULE_BYTES} already"),
                        "remove some that you do not need",
                    ));
                }
                let mut images =
                    self.transaction.open_table(IMAGES).map_err(|error| unusable(self.path, &error))?;
                images.insert(&file.sha256, &file.image[..]).map_err(|error| unusable(self.path, &error))?;
                ModuleRecord::of(file)
            }
        };
        self.put(MODULES, &file.sha256, &record)?;
        Ok(record)
    }

    /// Removes a module file; `false` if it was not there.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn remove_module(&self, sha256: &[u8; 32]) -> Result<bool, Failure> {
        self.remove(IMAGES, sha256)?;
        self.remove(MODULES, sha256)
    }

    fn module_bytes(&self) -> Result<u64, Failure> {
        let table = self.transaction.open_table(MODULES).map_err(|error| unusable(self.path, &error))?;
        let mut sum = 0;
        for entry in table.iter().map_err(|error| unusable(self.path, &error))? {
            let (_, record) = entry.map_err(|error| unusable(self.path, &error))?;
            let record: ModuleRecord = decode(record.value()).map_err(|error| unusable(self.path, &error))?;
            sum += u64::from(record.size);
        }
        Ok(sum)
    }

    fn get<T: DeserializeOwned, const N: usize>(
        &self,
        table: Table<N>,
        key: &[u8; N],
    ) -> Result<Option<T>, Failure> {
        let table = self.transaction.open_table(table).map_err(|error| unusable(self.path, &error))?;
        let found = table.get(key).map_err(|error| unusable(self.path, &error))?;
        found.map(|found| decode(found.value()).map_err(|error| unusable(self.path, &error))).transpose()
    }

    fn put<T: Serialize, const N: usize>(
        &self,
        table: Table<N>,
        key: &[u8; N],
        value: &T,
    ) -> Result<(), Failure> {
        let content = serde_json::to_vec(value).map_err(|error| unusable(self.path, &error))?;
        let mut table = self.transaction.open_table(table).map_err(|error| unusable(self.path, &error))?;
        table.insert(key, &content[..]).map_err(|error| unusable(self.path, &error))?;
        Ok(())
    }

    fn remove<const N: usize>(&self, table: Table<N>, key: &[u8; N]) -> Result<bool, Failure> {
        let mut table = self.transaction.open_table(table).map_err(|error| unusable(self.path, &error))?;
        let removed = table.remove(key).map_err(|error| unusable(self.path, &error))?;
        Ok(removed.is_some())
    }
}

pub(super) fn decode<T: DeserializeOwned>(content: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(content)
}
