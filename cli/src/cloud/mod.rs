//! A local cloud: many devices at once, each in a task of its own, with keys and state as files.
//!
//! Follow a byte: [`serve`](Cloud::serve) accepts, `connection` runs the handshake (RSA on the blocking pool) and
//! moves bytes, [`session`] decides what to say, [`updates`] which module a device lacks.

pub mod catalogue;
mod connection;
mod event;
pub mod folder;
pub mod serve;
pub mod session;
pub mod updates;

pub use event::Event;

use catalogue::Catalogue;
use coap_spark::handshake::DeviceId;
use folder::Folder;
use rsa::RsaPrivateKey;
use session::SessionOptions;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast};
use updates::Attempts;

/// Connections at the same time; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 4096;
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
}

/// A running cloud.
#[derive(Debug)]
pub struct Cloud {
    server_key: RsaPrivateKey,
    folder: Folder,
    catalogue: Arc<Catalogue>,
    options: Options,
    events: broadcast::Sender<Event>,
    /// Places for work that would hold the runtime up.
    workers: Semaphore,
    /// How often which module was sent to whom since the start.
    attempts: Mutex<HashMap<DeviceId, Attempts>>,
}

impl Cloud {
    /// A cloud on this folder.
    ///
    /// # Errors
    /// [`Failure`](crate::exit::Failure) if the server key is not usable.
    pub fn new(
        folder: Folder,
        catalogue: Catalogue,
        options: Options,
    ) -> Result<Arc<Self>, crate::exit::Failure> {
        Ok(Arc::new(Self {
            server_key: folder.server_key()?,
            folder,
            catalogue: Arc::new(catalogue),
            options,
            events: broadcast::Sender::new(EVENT_QUEUE),
            workers: Semaphore::new(std::thread::available_parallelism().map_or(1, Into::into)),
            attempts: Mutex::default(),
        }))
    }

    /// Everything that happens from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Takes connections until the task is dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((socket, _)) => {
                    let cloud = Arc::clone(&self);
                    tokio::spawn(async move {
                        connection::serve(cloud, socket).await;
                        drop(place);
                    });
                }
                // Out of file descriptors, or the peer is gone already: neither ends the service.
                Err(_) => tokio::time::sleep(core::time::Duration::from_millis(50)).await,
            }
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

    fn keep_attempts(&self, id: DeviceId, kept: Attempts) {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).insert(id, kept);
    }

    /// Writes down what an event says about a device.
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
            self.report(Event::CannotUpdate { device: id, reason: failure.to_string() });
        }
    }
}
