//! A local cloud: many devices at once, each in a task of its own.
//!
//! Follow a byte: [`serve`](Cloud::serve) accepts, `limits` lets in, `handshake` finds out who it is (RSA in `crypto`),
//! `connection` moves bytes, [`session`] decides what to say, [`updates`] and [`plan`] which module a device gets, `router` who else
//! hears an event. Follow a request of the owner: [`api`] takes it, `live` finds the device's task, [`session`] asks the
//! device. What has to be remembered goes to [`store`].

pub mod api;
pub mod catalogue;
pub(crate) mod client;
mod connection;
mod crypto;
pub mod debug;
mod event;
pub mod folder;
mod handshake;
pub mod limits;
mod live;
pub mod log;
pub mod manage;
mod metrics;
mod operate;
pub mod plan;
mod refusal;
mod router;
pub mod serve;
pub mod session;
pub mod status;
pub mod store;
pub mod updates;

pub use crypto::BackEnd;
pub use event::{Event, Relayed};
pub use limits::Limits;
pub use live::Transfer;
pub use operate::{Presence, Refused, Requested};
pub use router::Streamed;

use crate::exit::Failure;
use crate::files;
use catalogue::{Catalogue, ModuleFile};
use coap_spark::connection::ServerPolicy;
use coap_spark::handshake::DeviceId;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use crypto::{ServerKey, Workers};
use folder::{Folder, unix_time};
use limits::Door;
use live::LiveDevices;
use metrics::{Levels, Metrics};
use plan::Plan;
use refusal::Refusal;
use router::Router;
use session::SessionOptions;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use store::{Failed, Store};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use updates::Attempts;
use zeroize::Zeroizing;

/// Events that a slow listener may be behind before it misses some.
const EVENT_QUEUE: usize = 4096;
/// Failures of strangers and devices that are kept for whoever asks.
const RECENT_FAILURES: usize = 256;

/// Who may connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
#[non_exhaustive]
pub enum Enrolment {
    /// Only devices whose key is recorded; others' keys wait until somebody accepts them.
    Manual,
    /// The key that an unknown device offers first is recorded.
    FirstUse,
}

/// How a cloud behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who may connect.
    pub enrolment: Enrolment,
    /// What is done with connected devices.
    pub session: SessionOptions,
    /// What is demanded of a device.
    pub policy: ServerPolicy,
    /// What strangers may cost.
    pub limits: Limits,
    /// Which library does the RSA arithmetic.
    pub back_end: BackEnd,
    /// File that gets the 40 bytes of every session, for `spark decode --session @FILE`. Whoever has it reads everything.
    pub session_log: Option<PathBuf>,
}

impl Options {
    /// These, with the usual limits.
    #[must_use]
    pub const fn new(enrolment: Enrolment, session: SessionOptions) -> Self {
        Self {
            enrolment,
            session,
            policy: ServerPolicy::DEFAULT,
            limits: Limits::DEFAULT,
            back_end: BackEnd::best(),
            session_log: None,
        }
    }
}

/// A failure of a device or a stranger.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RecentFailure {
    /// The device that it claims to be, if it came that far.
    pub device: Option<DeviceId>,
    /// What happened.
    pub failed: Failed,
}

/// A running cloud.
#[derive(Debug)]
pub struct Cloud {
    server_key: ServerKey,
    folder: Folder,
    store: Arc<Store>,
    catalogue: Arc<Catalogue>,
    options: Options,
    door: Door,
    workers: Workers,
    live: LiveDevices,
    router: Router,
    metrics: Metrics,
    /// For whoever watches.
    events: broadcast::Sender<Event>,
    attempts: Mutex<HashMap<DeviceId, Attempts>>,
    failures: Mutex<VecDeque<RecentFailure>>,
    next_connection: AtomicU64,
    started: Instant,
    session_log: Option<Mutex<File>>,
    /// When all transfers have to be over, once the cloud stops.
    stopping: watch::Sender<Option<Instant>>,
}

impl Cloud {
    /// A cloud on this folder.
    ///
    /// # Errors
    /// [`Failure`] if the server key is not usable, or the session log cannot be written.
    pub fn new(folder: Folder, catalogue: Catalogue, options: Options) -> Result<Arc<Self>, Failure> {
        let session_log = options.session_log.as_deref().map(files::open_secret).transpose()?;
        Ok(Arc::new(Self {
            server_key: ServerKey::new(folder.server_key()?, options.back_end)?,
            store: Arc::clone(folder.store()),
            folder,
            catalogue: Arc::new(catalogue),
            door: Door::new(options.limits.clone()),
            workers: Workers::new(options.limits.work_queue),
            options,
            live: LiveDevices::default(),
            router: Router::new(),
            metrics: Metrics::new(),
            events: broadcast::Sender::new(EVENT_QUEUE),
            attempts: Mutex::default(),
            failures: Mutex::default(),
            next_connection: AtomicU64::new(0),
            started: Instant::now(),
            session_log: session_log.map(Mutex::new),
            stopping: watch::Sender::new(None),
        }))
    }

    /// Everything that happens from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Takes connections until the cloud stops, or the task is dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut stopping = self.stopping.subscribe();
        let mut told = None;
        loop {
            // Whoever waits here waits in the listener's queue.
            let place = tokio::select! {
                place = self.door.place() => place,
                _ = stopping.wait_for(Option::is_some) => return,
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopping.wait_for(Option::is_some) => return,
            };
            match accepted {
                Ok((socket, address)) => {
                    told = None;
                    self.metrics.connections.inc();
                    match self.door.admit(address.ip()) {
                        Ok(connection) => {
                            let place = self.door.seat(address.ip(), place);
                            let cloud = Arc::clone(&self);
                            tokio::spawn(async move {
                                connection::serve(cloud, socket, address, place).await;
                                drop(connection);
                            });
                        }
                        Err(turned) => self.refuse(None, Some(address), Refusal::turned(turned)),
                    }
                }
                Err(error) => {
                    // Out of file descriptors, or the peer is gone already: neither ends the service. Once is enough.
                    if told != Some(error.kind()) {
                        told = Some(error.kind());
                        self.report(Event::Trouble { what: format!("cannot take a connection: {error}") });
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Takes no more connections and ends those that are open: at once, but for devices in the middle of an update, which get
    /// `grace` to finish. What is not finished then goes on when the device connects again.
    pub async fn stop(&self, grace: Duration) {
        // Only the first call counts.
        self.stopping.send_if_modified(|stopping| {
            let first = stopping.is_none();
            stopping.get_or_insert(Instant::now() + grace);
            first
        });
        let patience = Instant::now() + grace + Duration::from_secs(2);
        while self.live.len() != 0 && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The module files that can be sent.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// What the cloud remembers.
    #[must_use]
    pub const fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Its data folder.
    #[must_use]
    pub const fn folder(&self) -> &Folder {
        &self.folder
    }

    /// How it behaves.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// The last failures, the newest first.
    #[must_use]
    pub fn failures(&self) -> Vec<RecentFailure> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    /// Writes a session's bytes down, if that was asked for.
    fn log_session(&self, session: &[u8; 40]) {
        let Some(log) = &self.session_log else { return };
        let mut line = Zeroizing::new(hex::encode(session));
        line.push('\n');
        let mut file = log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(line.as_bytes()) {
            self.report(Event::Trouble { what: format!("cannot write the session log: {error}") });
        }
    }

    /// Another program may have put modules into the store since the start.
    fn load_modules(&self, plan: &Plan) -> Result<(), Failure> {
        for step in plan.steps.iter().filter(|_| plan.is_running()) {
            let mut sha256 = [0; 32];
            if self.catalogue.by_sha256(&step.sha256).is_none()
                && hex::decode_to_slice(&step.sha256, &mut sha256).is_ok()
                && let Some(image) = self.store.image(&sha256)?
            {
                self.catalogue.add(ModuleFile::new(&step.name, &image)?);
            }
        }
        Ok(())
    }

    fn levels(&self) -> Levels {
        let (open, half_open) = self.door.load();
        Levels {
            online: self.live.len(),
            open,
            half_open,
            work: self.workers.load(),
            missed: self.router.missed(),
            watchers: self.router.watchers(),
        }
    }

    fn report(&self, event: Event) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }

    fn attempts_of(&self, id: DeviceId) -> Attempts {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.get(&id).cloned().unwrap_or_default()
    }

    fn keep_attempts(&self, id: DeviceId, attempts: Attempts) {
        let mut known = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        match attempts == Attempts::default() {
            true => known.remove(&id),
            false => known.insert(id, attempts),
        };
    }

    fn new_connection(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    /// A connection ended before its device was known, or was refused.
    fn refuse(&self, device: Option<DeviceId>, address: Option<SocketAddr>, refusal: Refusal) {
        self.metrics.refuse(refusal.cause);
        self.remember(device, address, &refusal);
        self.report(Event::Refused {
            device,
            address,
            cause: refusal.cause,
            reason: refusal.reason,
            advice: refusal.advice,
        });
    }

    /// Keeps a failure for whoever asks; that of a known device in its record, too.
    fn remember(&self, device: Option<DeviceId>, address: Option<SocketAddr>, refusal: &Refusal) {
        let failed = Failed {
            at: unix_time(),
            reason: refusal.reason.clone(),
            advice: refusal.advice.clone(),
            row: refusal.row.map(|row| row.code.to_owned()),
            address: address.map(|address| address.to_string()),
            times: 1,
        };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let same =
            failures.iter().position(|known| known.device == device && known.failed.reason == failed.reason);
        let before = same.and_then(|at| failures.remove(at)).map_or(0, |known| known.failed.times);
        if failures.len() >= RECENT_FAILURES {
            failures.pop_front();
        }
        failures.push_back(RecentFailure {
            device,
            failed: Failed { times: before.saturating_add(1), ..failed },
        });
    }
}
