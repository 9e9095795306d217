//! A local cloud: many devices at once, each in a task of its own, with keys and state as files.
//!
//! Follow a byte: [`serve`](Cloud::serve) accepts, `connection` runs the handshake (RSA on the blocking pool) and
//! moves bytes, [`session`] decides what to say, [`updates`] which module a device lacks.

pub mod catalogue;
mod connection;
pub mod debug;
mod event;
pub mod folder;
pub mod serve;
pub mod session;
pub mod updates;

pub use event::{Event, Relayed};

use crate::exit::Failure;
use catalogue::Catalogue;
use coap_spark::connection::ServerPolicy;
use coap_spark::handshake::{DeviceId, server::IDENTITY_TIMEOUT};
use core::time::Duration;
use folder::Folder;
use rsa::RsaPrivateKey;
use session::SessionOptions;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast, oneshot};
use updates::Attempts;

/// Connections at the same time; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 4096;
/// Of these, connections whose device is not known yet: strangers cannot take all places.
const MAX_HANDSHAKES: usize = 256;
/// Events that a slow listener may be behind before it misses some.
const EVENT_QUEUE: usize = 4096;

/// Who may connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
#[non_exhaustive]
pub enum Enrolment {
    /// Only devices whose key is in `devices/`; others' keys go to `pending/`.
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
    /// How long a stranger may take to say who it is.
    pub identity_timeout: Duration,
    /// How long a device may be silent, and what else is demanded of it.
    pub policy: ServerPolicy,
}

impl Options {
    /// These, with the usual limits.
    #[must_use]
    pub const fn new(enrolment: Enrolment, session: SessionOptions) -> Self {
        Self { enrolment, session, identity_timeout: IDENTITY_TIMEOUT, policy: ServerPolicy::DEFAULT }
    }
}

/// A running cloud.
#[derive(Debug)]
pub struct Cloud {
    server_key: RsaPrivateKey,
    folder: Folder,
    catalogue: Arc<Catalogue>,
    options: Options,
    /// For whoever watches.
    events: broadcast::Sender<Event>,
    /// From device to device.
    published: broadcast::Sender<Arc<Relayed>>,
    /// Places for work that would hold the runtime up.
    workers: Semaphore,
    devices: Mutex<HashMap<DeviceId, Known>>,
    next_connection: AtomicU64,
}

/// What is known about a device since the start.
#[derive(Debug, Default)]
struct Known {
    /// How often which module was sent to it.
    attempts: Attempts,
    /// Its connection, and how to end it.
    connection: Option<(u64, oneshot::Sender<()>)>,
}

impl Cloud {
    /// A cloud on this folder.
    ///
    /// # Errors
    /// [`Failure`] if the server key is not usable.
    pub fn new(folder: Folder, catalogue: Catalogue, options: Options) -> Result<Arc<Self>, Failure> {
        Ok(Arc::new(Self {
            server_key: folder.server_key()?,
            folder,
            catalogue: Arc::new(catalogue),
            options,
            events: broadcast::Sender::new(EVENT_QUEUE),
            published: broadcast::Sender::new(EVENT_QUEUE),
            workers: Semaphore::new(std::thread::available_parallelism().map_or(1, Into::into)),
            devices: Mutex::default(),
            next_connection: AtomicU64::new(0),
        }))
    }

    /// Everything that happens from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Takes connections until the task is dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        let mut told = None;
        loop {
            let Ok(connection) = Arc::clone(&connections).acquire_owned().await else { return };
            let Ok(handshake) = Arc::clone(&handshakes).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((socket, _)) => {
                    told = None;
                    let cloud = Arc::clone(&self);
                    tokio::spawn(async move {
                        connection::serve(cloud, socket, handshake).await;
                        drop(connection);
                    });
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

    fn report(&self, event: Event) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }

    fn devices(&self) -> MutexGuard<'_, HashMap<DeviceId, Known>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempts_of(&self, id: DeviceId) -> Attempts {
        self.devices().get(&id).map(|known| known.attempts.clone()).unwrap_or_default()
    }

    fn keep_attempts(&self, id: DeviceId, attempts: Attempts) {
        self.devices().entry(id).or_default().attempts = attempts;
    }

    /// A device proved who it is: an older connection of it, which it has lost, ends now. The receiver resolves when
    /// this one is replaced in turn.
    fn take_over(&self, id: DeviceId) -> (u64, oneshot::Receiver<()>) {
        let (end, replaced) = oneshot::channel();
        let connection = self.next_connection.fetch_add(1, Ordering::Relaxed);
        self.devices().entry(id).or_default().connection = Some((connection, end));
        (connection, replaced)
    }

    fn give_up(&self, id: DeviceId, connection: u64) {
        if let Some(known) = self.devices().get_mut(&id)
            && known.connection.as_ref().is_some_and(|(current, _)| *current == connection)
        {
            known.connection = None;
        }
    }

    /// Writes down what an event says about a device. Small files, but a disk may be slow: never call it on a task.
    fn note(&self, id: DeviceId, event: &Event) {
        let written = match event {
            Event::Online { platform_id, .. } => self.folder.update_state(id, |state| {
                state.platform_id = *platform_id;
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                state.last_seen = since.as_secs();
            }),
            Event::Described { describe, .. } => {
                self.folder.update_state(id, |state| state.describe = Some(describe.clone()))
            }
            _ => Ok(()),
        };
        if let Err(failure) = written {
            self.report(Event::Trouble { what: failure.to_string() });
        }
    }
}
