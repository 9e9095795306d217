//! What the owner does with the cloud and its devices; the HTTP interface calls this, and so may a program of your own.

use super::catalogue::ModuleFile;
use super::folder::{read_device_key, unix_time};
use super::live::{Command, Live};
use super::plan::{self, Plan, PlanError, PlanStep};
use super::router::Streamed;
use super::session::{Answer, Call, CallError, Introduction};
use super::store::{Device, KeyError, KeyState, MAX_ATTRIBUTES, ModuleRecord, NameError, Transaction};
use super::updates::Attempts;
use super::{Cloud, Relayed, Transfer};
use crate::exit::{Code, Failure};
use coap_spark::handshake::DeviceId;
use coap_spark::message::Name;
use coap_spark::message::system_event::SystemNames;
use core::time::Duration;
use rand_core::Rng;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::sync::{broadcast, oneshot};

/// A claim code is good for so long, as with the vendor's cloud.
const CLAIM_CODE_LIFE: Duration = Duration::from_secs(300);
/// Claim codes that are good at the same time.
const MAX_CLAIM_CODES: u64 = 256;
/// Bytes of an event's name, its data, and its longest time to live; devices have no more.
const MAX_EVENT_NAME: usize = 64;
const MAX_EVENT_DATA: usize = 622;
const MAX_EVENT_TTL: u32 = 0xff_ffff;
/// Bytes of an attribute's name, and of its value.
const MAX_ATTRIBUTE: usize = 1024;
/// Longer than a session waits for its device.
const CALL_PATIENCE: Duration = Duration::from_secs(40);

/// Why the owner did not get what he asked for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Nothing is known about this device.
    #[error("there is no device {0}")]
    NoDevice(String),
    /// The device belongs to nobody.
    #[error("the device {0} is not claimed")]
    Unclaimed(DeviceId),
    /// The device's answer, or that there is none.
    #[error(transparent)]
    Call(#[from] CallError),
    /// There is no way to bring the device there.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The keys stay as they are.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The public key cannot be used.
    #[error("the public key cannot be used: {0}")]
    BadKey(String),
    /// What was given is out of range.
    #[error("{what}: {found}, at most {limit}")]
    TooMuch {
        /// What.
        what: &'static str,
        /// How much there is.
        found: usize,
        /// How much there may be.
        limit: usize,
    },
    /// This event is the cloud's own business.
    #[error("events whose names begin with spark or particle are the cloud's own")]
    SystemEvent,
    /// There is no such module file.
    #[error("there is no module file {0}")]
    NoModule(String),
    /// Another update of this device is under way.
    #[error("update {0} of this device is under way; cancel it first")]
    UnderWay(u64),
    /// No update of this device is under way.
    #[error("no update of this device is under way")]
    NothingToCancel,
    /// The disk, or what lies on it.
    #[error("{0}")]
    Store(Failure),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Store(failure)
    }
}

/// What an update is to bring.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Requested {
    /// Whatever the device lacks.
    System,
    /// These modules, and what they need.
    Modules(Vec<ModuleFile>),
}

/// What is known of a device's connection.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Presence {
    /// Since when it is connected.
    pub since: SystemTime,
    /// From where.
    pub address: SocketAddr,
    /// The module on its way to it.
    pub transfer: Option<Transfer>,
}

impl Presence {
    fn of(live: &Live) -> Self {
        Self { since: live.since, address: live.address, transfer: live.transfer.clone() }
    }
}

impl Cloud {
    /// The device of this id or name.
    ///
    /// # Errors
    /// [`Refused::NoDevice`], or what the disk says.
    pub async fn find(&self, id_or_name: &str) -> Result<(DeviceId, Device), Refused> {
        let unknown = || Refused::NoDevice(id_or_name.to_owned());
        if let Ok(id) = id_or_name.parse::<DeviceId>() {
            return Ok((id, self.store.device(id)?.ok_or_else(unknown)?));
        }
        let devices = self.devices().await?;
        let mut named = devices.into_iter().filter(|(_, device)| device.name.as_deref() == Some(id_or_name));
        // A name that two devices have names none of them.
        match (named.next(), named.next()) {
            (Some(found), None) => Ok(found),
            _ => Err(unknown()),
        }
    }

    /// The same for devices that are claimed.
    ///
    /// # Errors
    /// [`Refused::Unclaimed`] and as [`Cloud::find`].
    pub async fn find_claimed(&self, id_or_name: &str) -> Result<(DeviceId, Device), Refused> {
        let (id, device) = self.find(id_or_name).await?;
        if device.claimed { Ok((id, device)) } else { Err(Refused::Unclaimed(id)) }
    }

    /// Whether and from where a device is connected.
    #[must_use]
    pub fn presence(&self, id: DeviceId) -> Option<Presence> {
        self.live.look(id, Presence::of)
    }

    /// Devices that are connected, and how many of them take an update.
    #[must_use]
    pub fn online(&self) -> (usize, usize) {
        (self.live.len(), self.live.transfers())
    }

    /// How long the cloud runs.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Asks a device and waits for its answer.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(&self, id: DeviceId, call: Call) -> Result<Answer, CallError> {
        let kind = match &call {
            Call::Function { .. } => "function",
            Call::Variable { .. } => "variable",
            Call::Signal { .. } => "signal",
            Call::Ping => "ping",
            Call::Describe => "describe",
        };
        let started = Instant::now();
        let asked = tokio::time::timeout(CALL_PATIENCE, self.ask(id, call)).await;
        let result = asked.unwrap_or(Err(CallError::TimedOut));
        let word = match &result {
            Ok(_) => "ok",
            Err(CallError::Offline) => "offline",
            Err(CallError::TimedOut) => "timed-out",
            Err(CallError::NoSuch { .. }) => "no-such",
            Err(CallError::Busy | CallError::Updating) => "busy",
            Err(_) => "refused",
        };
        self.metrics.call(kind, word, started.elapsed().as_secs_f64());
        result
    }

    async fn ask(&self, id: DeviceId, call: Call) -> Result<Answer, CallError> {
        let commands = self.live.commands(id).ok_or(CallError::Offline)?;
        let (reply, answer) = oneshot::channel();
        commands.try_send(Command::Call { call, reply }).map_err(|error| match error {
            tokio::sync::mpsc::error::TrySendError::Full(_) => CallError::Busy,
            tokio::sync::mpsc::error::TrySendError::Closed(_) => CallError::Offline,
        })?;
        answer.await.unwrap_or(Err(CallError::Offline))
    }

    /// Publishes an event of the owner to the devices that have subscribed to it, and to watchers.
    ///
    /// # Errors
    /// [`Refused::TooMuch`] and [`Refused::SystemEvent`].
    pub fn publish(&self, name: &str, data: Option<Vec<u8>>, ttl: u32, public: bool) -> Result<(), Refused> {
        let at_most = |what, found, limit| {
            if found <= limit { Ok(()) } else { Err(Refused::TooMuch { what, found, limit }) }
        };
        at_most("bytes of the event's name", name.len(), MAX_EVENT_NAME)?;
        at_most("bytes of the event's data", data.as_ref().map_or(0, Vec::len), MAX_EVENT_DATA)?;
        let most = usize::try_from(MAX_EVENT_TTL).unwrap_or(usize::MAX);
        at_most("seconds to live", usize::try_from(ttl).unwrap_or(usize::MAX), most)?;
        if Name::new(name).is_system(SystemNames::SparkOrParticle) {
            return Err(Refused::SystemEvent);
        }
        self.metrics.events_published.inc();
        self.router.publish(Relayed {
            device: None,
            name: name.to_owned(),
            data,
            max_age: Some(ttl),
            public,
        });
        Ok(())
    }

    /// Everything that is published from now on.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Arc<Streamed>> {
        self.router.watch()
    }

    /// A code that a device tells to be claimed.
    ///
    /// # Errors
    /// [`Refused::TooMuch`] if too many are open, or what the disk says.
    pub async fn claim_code(&self) -> Result<String, Refused> {
        // 63 characters, as devices have room for.
        let mut random = [0; 32];
        rand::rng().fill_bytes(&mut random);
        let code = hex::encode(random).get(..63).unwrap_or_default().to_owned();
        let (kept, now) = (code.clone(), unix_time());
        let until = now + CLAIM_CODE_LIFE.as_secs();
        let made =
            self.store.change(move |transaction| transaction.put_claim(&kept, until, now, MAX_CLAIM_CODES));
        if made.await? {
            return Ok(code);
        }
        let limit = usize::try_from(MAX_CLAIM_CODES).unwrap_or(usize::MAX);
        Err(Refused::TooMuch { what: "open claim codes, each lives for 5 minutes", found: limit + 1, limit })
    }

    /// All devices. Reading thousands takes a moment, and nobody is to wait for it.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn devices(&self) -> Result<Vec<(DeviceId, Device)>, Refused> {
        let store = Arc::clone(&self.store);
        let read = tokio::task::spawn_blocking(move || store.devices()).await;
        let stopped = || Failure::new(Code::Software, "the cloud is stopping", "try again later");
        Ok(read.unwrap_or_else(|_| Err(stopped()))?)
    }

    /// Changes what is known about a device.
    ///
    /// # Errors
    /// [`Refused::NoDevice`], those of `change`, or what the disk says.
    pub async fn change_device<T: Send + 'static>(
        &self,
        id: DeviceId,
        change: impl FnOnce(&mut Device) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        let changed = self.store.change(move |transaction: &mut Transaction<'_>| {
            let mut device = transaction.device(id)?;
            if device == Device::default() {
                return Ok(Err(Refused::NoDevice(id.to_string())));
            }
            let result = change(&mut device);
            if result.is_ok() {
                transaction.put_device(id, &device)?;
            }
            Ok(result)
        });
        changed.await?
    }

    /// Claims a device, or gives it up: then it is neither listed nor called nor updated, and neither hears nor is heard.
    ///
    /// # Errors
    /// As [`Cloud::change_device`].
    pub async fn set_claimed(&self, id: DeviceId, claimed: bool) -> Result<(), Refused> {
        let changed = self.store.change(move |transaction| {
            let mut device = transaction.device(id)?;
            if device == Device::default() {
                return Ok(Err(Refused::NoDevice(id.to_string())));
            }
            device.claimed = claimed;
            transaction.put_device(id, &device)?;
            if let Some(mut plan) = transaction.plan(id)?.filter(|plan| !claimed && plan.is_running()) {
                plan.cancel();
                transaction.put_plan(id, &plan)?;
            }
            Ok(Ok(()))
        });
        changed.await??;
        if let Some(commands) = self.live.commands(id) {
            // A task that has gone meanwhile reads it from the disk when it comes back.
            let _ = commands.send(Command::Claimed(claimed)).await;
        }
        Ok(())
    }

    /// Gives a device a name.
    ///
    /// # Errors
    /// [`Refused::Name`] and as [`Cloud::change_device`].
    pub async fn rename(&self, id: DeviceId, name: String) -> Result<(), Refused> {
        let renamed = self.change_device(id, move |device| {
            device.rename(&name)?;
            Ok(device.name.clone().unwrap_or_default())
        });
        let name = renamed.await?;
        if let (Some(commands), Some(presence)) = (self.live.commands(id), self.presence(id)) {
            let address = presence.address.ip().to_canonical().to_string();
            // A task with a full mailbox tells the old name once more.
            let _ = commands.try_send(Command::Introduce(Introduction { name, address }));
        }
        Ok(())
    }

    /// Sets attributes of a device, or removes those that are `None`.
    ///
    /// # Errors
    /// [`Refused::TooMuch`] and as [`Cloud::change_device`].
    pub async fn set_attributes(
        &self,
        id: DeviceId,
        attributes: BTreeMap<String, Option<String>>,
    ) -> Result<(), Refused> {
        if let Some(found) = attributes
            .iter()
            .map(|(name, value)| name.len().max(value.as_deref().map_or(0, str::len)))
            .find(|found| *found > MAX_ATTRIBUTE)
        {
            return Err(Refused::TooMuch { what: "bytes of an attribute", found, limit: MAX_ATTRIBUTE });
        }
        self.change_device(id, move |device| {
            for (name, value) in attributes {
                match value {
                    Some(value) => device.attributes.insert(name, value),
                    None => device.attributes.remove(&name),
                };
            }
            match device.attributes.len() {
                0..=MAX_ATTRIBUTES => Ok(()),
                found => Err(Refused::TooMuch { what: "attributes", found, limit: MAX_ATTRIBUTES }),
            }
        })
        .await
    }

    /// Forgets a device: its keys, its state and its plan.
    ///
    /// # Errors
    /// [`Refused::NoDevice`], or what the disk says.
    pub async fn forget(&self, id: DeviceId) -> Result<(), Refused> {
        let known = self.store.change(move |transaction| transaction.remove_device(id)).await?;
        self.live.revoke(id);
        self.keep_attempts(id, Attempts::default());
        if known { Ok(()) } else { Err(Refused::NoDevice(id.to_string())) }
    }

    /// Records a device's public key (PEM or DER). Another key that is recorded already goes only with `replace`.
    ///
    /// # Errors
    /// [`Refused::BadKey`], [`Refused::Key`], or what the disk says.
    pub async fn enrol(&self, id: DeviceId, file: &[u8], replace: bool) -> Result<(), Refused> {
        let (_, spki) = read_device_key(file).map_err(|error| Refused::BadKey(crate::exit::chain(&error)))?;
        let enrolled = self.store.change(move |transaction| {
            let mut device = transaction.device(id)?;
            let result = match replace {
                true => {
                    device.enrol(&spki, unix_time());
                    Ok(())
                }
                false => device.enrol_first(&spki, unix_time()),
            };
            if result.is_ok() {
                device.claimed = true;
                transaction.put_device(id, &device)?;
            }
            Ok(result)
        });
        enrolled.await??;
        if replace {
            // Whoever is connected has the old one.
            self.live.revoke(id);
        }
        Ok(())
    }

    /// Lets a device in with a key that it offered.
    ///
    /// # Errors
    /// [`Refused::Key`] and as [`Cloud::change_device`].
    pub async fn accept_key(&self, id: DeviceId, fingerprint: String) -> Result<(), Refused> {
        self.change_device(id, move |device| {
            device.accept(&fingerprint, unix_time())?;
            device.claimed = true;
            Ok(())
        })
        .await?;
        // Whoever is connected has the old one.
        self.live.revoke(id);
        Ok(())
    }

    /// Forgets a key. If it was the one that the device gets in with, it is thrown out.
    ///
    /// # Errors
    /// [`Refused::Key`] and as [`Cloud::change_device`].
    pub async fn forget_key(&self, id: DeviceId, fingerprint: String) -> Result<(), Refused> {
        let state = self.change_device(id, move |device| Ok(device.forget_key(&fingerprint)?)).await?;
        if state == KeyState::Current {
            self.live.revoke(id);
        }
        Ok(())
    }

    /// Keeps module files: all of them, or none.
    ///
    /// # Errors
    /// [`Failure`] that says that the store is full, or what the disk says.
    pub async fn add_modules(&self, files: &[ModuleFile]) -> Result<Vec<ModuleRecord>, Refused> {
        let kept = files.to_vec();
        let records = self.store.change(move |transaction| {
            transaction.has_room(&kept)?;
            kept.iter().map(|file| transaction.put_module(file)).collect::<Result<Vec<_>, _>>()
        });
        let records = records.await?;
        for file in files {
            self.catalogue.add(file.clone());
        }
        Ok(records)
    }

    /// Removes a module file. An update that still needs it fails.
    ///
    /// # Errors
    /// [`Refused::NoModule`], or what the disk says.
    pub async fn remove_module(&self, sha256: &str) -> Result<(), Refused> {
        let unknown = || Refused::NoModule(sha256.to_owned());
        let file = self.catalogue.by_sha256(&sha256.to_ascii_lowercase()).ok_or_else(unknown)?;
        self.store.change(move |transaction| transaction.remove_module(&file.sha256)).await?;
        self.catalogue.remove(&file.sha256);
        Ok(())
    }

    /// What an update would send, in order; empty if the device has it all.
    ///
    /// # Errors
    /// [`Refused::Plan`].
    pub fn plan(&self, device: &Device, requested: &Requested) -> Result<Vec<PlanStep>, Refused> {
        let mut describe = device.describe.clone().ok_or(PlanError::NoDescribe)?;
        describe.platform_id = describe.platform_id.or(device.platform_id);
        Ok(match requested {
            Requested::System => plan::system_update(&describe, &self.catalogue)?,
            Requested::Modules(files) => plan::bundle(&describe, &self.catalogue, files)?,
        })
    }

    /// Writes a plan down and begins it as soon as the device is there. The plan's modules have to be in the catalogue.
    ///
    /// # Errors
    /// [`Refused::UnderWay`], or what the disk says.
    pub async fn update(&self, id: DeviceId, steps: Vec<PlanStep>, slow: bool) -> Result<Plan, Refused> {
        let begun = self.store.change(move |transaction| {
            let before = transaction.plan(id)?;
            if let Some(running) = before.as_ref().filter(|plan| plan.is_running()) {
                return Ok(Err(Refused::UnderWay(running.number)));
            }
            let number = before.map_or(1, |plan| plan.number + 1);
            let plan = Plan::new(number, unix_time(), slow, steps);
            transaction.put_plan(id, &plan)?;
            Ok(Ok(plan))
        });
        let plan = begun.await??;
        if let Some(commands) = self.live.commands(id) {
            // A task that has gone meanwhile comes back with the plan from the disk.
            let _ = commands.send(Command::Plan(Box::new(plan.clone()))).await;
        }
        Ok(plan)
    }

    /// Ends the plan of a device.
    ///
    /// # Errors
    /// [`Refused::NothingToCancel`], or what the disk says.
    pub async fn cancel(&self, id: DeviceId) -> Result<Plan, Refused> {
        let cancelled = self.store.change(move |transaction| {
            let Some(mut plan) = transaction.plan(id)?.filter(Plan::is_running) else {
                return Ok(Err(Refused::NothingToCancel));
            };
            plan.cancel();
            transaction.put_plan(id, &plan)?;
            Ok(Ok(plan))
        });
        let plan = cancelled.await??;
        if let Some(commands) = self.live.commands(id) {
            // A task that has gone meanwhile comes back with the plan from the disk.
            let _ = commands.send(Command::CancelPlan).await;
        }
        Ok(plan)
    }

    /// The counters as text.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        self.metrics.text(self.levels())
    }
}
