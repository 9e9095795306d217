//! The devices that are connected now, and how to reach their tasks.

use super::plan::Plan;
use super::session::{Answer, Call, CallError, Introduction};
use coap_spark::handshake::DeviceId;
use serde::Serialize;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::{mpsc, oneshot};

/// Requests of the owner that wait for one device's task.
pub(super) const COMMANDS: usize = 32;

/// What the owner wants of a connected device.
#[derive(Debug)]
pub(super) enum Command {
    /// Ask it.
    Call { call: Call, reply: oneshot::Sender<Result<Answer, CallError>> },
    /// Bring it to this plan.
    Plan(Box<Plan>),
    /// End the plan that runs.
    CancelPlan,
    /// It belongs to the owner now, or no longer.
    Claimed(bool),
    /// Its name has changed.
    Introduce(Introduction),
}

/// Why a task is told to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// The device has connected anew.
    Replaced,
    /// Its key is no longer good, or it was forgotten.
    Revoked,
}

/// A module on its way to a device.
#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
#[non_exhaustive]
pub struct Transfer {
    /// Name of the module file.
    pub module: String,
    /// Bytes of the module.
    pub bytes: usize,
    /// Chunks of the module; 0 until the device has agreed.
    pub chunks: u16,
    /// Chunks that were sent.
    pub sent: u16,
    /// Chunks that were sent again.
    pub resent: u32,
}

/// A connected device.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) connection: u64,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) end: oneshot::Sender<Ended>,
    pub(super) since: SystemTime,
    pub(super) address: SocketAddr,
    pub(super) transfer: Option<Transfer>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct LiveDevices(Mutex<HashMap<DeviceId, Live>>);

impl LiveDevices {
    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, Live>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device proved who it is: an older connection of it, which it has lost, ends now.
    pub(super) fn take_over(&self, id: DeviceId, live: Live) {
        if let Some(old) = self.lock().insert(id, live) {
            // It may be ending by itself.
            let _ = old.end.send(Ended::Replaced);
        }
    }

    /// A connection has ended; `false` if the device has another already.
    pub(super) fn give_up(&self, id: DeviceId, connection: u64) -> bool {
        let mut devices = self.lock();
        let is_last = devices.get(&id).is_some_and(|live| live.connection == connection);
        if is_last {
            devices.remove(&id);
        }
        is_last
    }

    /// Ends a device's connection.
    pub(super) fn revoke(&self, id: DeviceId) {
        if let Some(live) = self.lock().remove(&id) {
            // It may be ending by itself.
            let _ = live.end.send(Ended::Revoked);
        }
    }

    /// No newer connection has taken the device over, and its owner has not ended this one.
    pub(super) fn is_current(&self, id: DeviceId, connection: u64) -> bool {
        self.lock().get(&id).is_some_and(|live| live.connection == connection)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn transfers(&self) -> usize {
        self.lock().values().filter(|live| live.transfer.is_some()).count()
    }

    /// Where its task takes commands.
    pub(super) fn commands(&self, id: DeviceId) -> Option<mpsc::Sender<Command>> {
        self.lock().get(&id).map(|live| live.commands.clone())
    }

    /// Looks at a connected device.
    pub(super) fn look<T>(&self, id: DeviceId, look: impl FnOnce(&Live) -> T) -> Option<T> {
        self.lock().get(&id).map(look)
    }

    /// Notes how far an update is.
    pub(super) fn set_transfer(&self, id: DeviceId, connection: u64, transfer: Option<Transfer>) {
        if let Some(live) = self.lock().get_mut(&id)
            && live.connection == connection
        {
            live.transfer = transfer;
        }
    }

    /// Notes the chunks of an update.
    pub(super) fn progress(&self, id: DeviceId, progress: spark_ota::transfer::Progress) {
        if let Some(transfer) = self.lock().get_mut(&id).and_then(|live| live.transfer.as_mut()) {
            (transfer.chunks, transfer.sent) = (progress.chunks, progress.sent);
            transfer.resent = progress.resent;
        }
    }
}
