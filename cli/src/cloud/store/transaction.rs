//! The tables, and what a change may do with them.

use super::device::Device;
use super::{MAX_DEVICES, MAX_MODULE_BYTES, MAX_STRANGERS, unusable};
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
/// Names of one module file, and characters of a name.
const MAX_NAMES: usize = 16;
const MAX_NAME: usize = 100;

/// Claim codes that are good, and until when, in seconds since 1970.
const CLAIMS: TableDefinition<'static, &'static str, u64> = TableDefinition::new("claims");
/// Device ids that have no key of their own: all that is known is what strangers offered. With the time, big-endian.
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
            names: vec![short(&file.name)],
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
        transaction.open_table(CLAIMS)?;
        Ok(())
    }

    /// Notes that something was done.
    pub(super) fn note(&self, what: &str) -> Result<(), Failure> {
        let mut meta =
            self.transaction.open_table(super::META).map_err(|error| unusable(self.path, &error))?;
        meta.insert(what, 1).map_err(|error| unusable(self.path, &error))?;
        Ok(())
    }

    /// Keeps a claim code until a time, and forgets those whose time is over; `false` if there are `limit` already.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn put_claim(&self, code: &str, until: u64, now: u64, limit: u64) -> Result<bool, Failure> {
        let failed = |error: redb::StorageError| unusable(self.path, &error);
        let mut claims = self.transaction.open_table(CLAIMS).map_err(|error| unusable(self.path, &error))?;
        claims.retain(|_, until| until > now).map_err(failed)?;
        if claims.len().map_err(failed)? >= limit {
            return Ok(false);
        }
        claims.insert(code, until).map_err(failed)?;
        Ok(true)
    }

    /// Uses a claim code up; `false` if it is not good.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn take_claim(&self, code: &str, now: u64) -> Result<bool, Failure> {
        let failed = |error: redb::StorageError| unusable(self.path, &error);
        let mut claims = self.transaction.open_table(CLAIMS).map_err(|error| unusable(self.path, &error))?;
        let until = claims.remove(code).map_err(failed)?.map(|until| until.value());
        Ok(until.is_some_and(|until| until > now))
    }

    /// A device as it is before the change; an empty record if nothing is known.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn device(&self, id: DeviceId) -> Result<Device, Failure> {
        Ok(self.get(DEVICES, &id.0)?.unwrap_or_default())
    }

    /// Writes a device. When there are too many strangers, the one that came first is forgotten.
    ///
    /// # Errors
    /// [`Failure`] that names the file, or says that it is full.
    pub fn put_device(&self, id: DeviceId, device: &Device) -> Result<(), Failure> {
        let failed = |error: redb::StorageError| unusable(self.path, &error);
        let is_new = {
            let devices = self.open(DEVICES)?;
            let is_new = devices.get(&id.0).map_err(failed)?.is_none();
            if is_new && devices.len().map_err(failed)? >= MAX_DEVICES {
                return Err(Failure::new(
                    Code::Data,
                    format_args!("{MAX_DEVICES} devices are known, this one was not kept"),
                    "forget those that are gone with `spark cloud forget`",
                ));
            }
            is_new
        };
        let mut strangers = self.open(STRANGERS)?;
        let mut oldest = None;
        if !device.is_stranger() {
            strangers.remove(&id.0).map_err(failed)?;
        } else if is_new || strangers.get(&id.0).map_err(failed)?.is_none() {
            if strangers.len().map_err(failed)? >= MAX_STRANGERS {
                oldest = first(&strangers).map_err(failed)?;
            }
            let since = device.keys.last().map_or(0, |key| key.since);
            strangers.insert(&id.0, &since.to_be_bytes()[..]).map_err(failed)?;
        }
        drop(strangers);
        if let Some(oldest) = oldest {
            self.remove_device(DeviceId(oldest))?;
        }
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

    /// Whether there is room for the new ones of these files.
    ///
    /// # Errors
    /// [`Failure`] that says that there is not.
    pub fn has_room(&self, files: &[ModuleFile]) -> Result<(), Failure> {
        let there = self.module_bytes()?;
        let mut more = 0;
        for file in files {
            if self.get::<ModuleRecord, 32>(MODULES, &file.sha256)?.is_none() {
                more += file.image.len() as u64;
            }
        }
        if there + more <= MAX_MODULE_BYTES {
            return Ok(());
        }
        Err(Failure::new(
            Code::Data,
            format_args!(
                "module files take {there} bytes of {MAX_MODULE_BYTES} already, and these have {more}"
            ),
            "remove some that you do not need",
        ))
    }

    /// Keeps a module file. A content that is there already only gets the new name.
    ///
    /// # Errors
    /// [`Failure`] that names the file, or says that the store is full.
    pub fn put_module(&self, file: &ModuleFile) -> Result<ModuleRecord, Failure> {
        let record = match self.get::<ModuleRecord, 32>(MODULES, &file.sha256)? {
            Some(mut record) => {
                let name = short(&file.name);
                if !record.names.contains(&name) && record.names.len() < MAX_NAMES {
                    record.names.push(name);
                }
                record
            }
            None => {
                self.has_room(core::slice::from_ref(file))?;
                self.open(IMAGES)?
                    .insert(&file.sha256, &file.image[..])
                    .map_err(|error| unusable(self.path, &error))?;
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

    fn open<const N: usize>(
        &self,
        table: Table<N>,
    ) -> Result<redb::Table<'_, &'static [u8; N], &'static [u8]>, Failure> {
        self.transaction.open_table(table).map_err(|error| unusable(self.path, &error))
    }

    fn module_bytes(&self) -> Result<u64, Failure> {
        let table = self.open(MODULES)?;
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
        let table = self.open(table)?;
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
        let mut table = self.open(table)?;
        table.insert(key, &content[..]).map_err(|error| unusable(self.path, &error))?;
        Ok(())
    }

    fn remove<const N: usize>(&self, table: Table<N>, key: &[u8; N]) -> Result<bool, Failure> {
        let mut table = self.open(table)?;
        let removed = table.remove(key).map_err(|error| unusable(self.path, &error))?;
        Ok(removed.is_some())
    }
}

/// The stranger that came first.
fn first(
    strangers: &redb::Table<'_, &'static [u8; 12], &'static [u8]>,
) -> Result<Option<[u8; 12]>, redb::StorageError> {
    let mut oldest: Option<(Vec<u8>, [u8; 12])> = None;
    for entry in strangers.iter()? {
        let (id, since) = entry?;
        if oldest.as_ref().is_none_or(|(first, _)| since.value() < &first[..]) {
            oldest = Some((since.value().to_vec(), *id.value()));
        }
    }
    Ok(oldest.map(|(_, id)| id))
}

/// As much of a file's name as is kept.
fn short(name: &str) -> String {
    name.chars().filter(|character| !character.is_control()).take(MAX_NAME).collect()
}

pub(super) fn decode<T: DeserializeOwned>(content: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(content)
}
