//! The life of a simulated device: it starts, connects, is updated, resets and connects again.

use super::program::Periodic;
use super::run::{self, Publisher};
use crate::exit::{Code, Failure};
use core::time::Duration;
use spark_sim::{End, Photon, Started};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// Connections in a second through a gate.
const SLOWEST: f64 = 0.001;
const FASTEST: f64 = 100_000.0;

/// What a device is told about its life.
#[derive(Clone, Debug)]
pub struct Life {
    /// Host and port of the server; otherwise what is in its flash.
    pub address: Option<String>,
    /// From the end of a connection to the next.
    pub reconnect_after: Duration,
    /// Ends after so many.
    pub connections: Option<u32>,
    /// What it publishes.
    pub events: Arc<[Periodic]>,
    /// The first of each comes after this part of its period, 0 to 1.
    pub phase: f64,
    /// It publishes while this is true; always without it.
    pub publishing: Option<watch::Receiver<bool>>,
    /// RSA work that may be done at once.
    pub jobs: Arc<Semaphore>,
    /// Who connects goes through here, together with all devices that have it.
    pub gate: Option<Arc<Gate>>,
}

/// Lets so many through in a second, evenly, also after a time without any.
#[derive(Debug)]
pub struct Gate {
    next: Mutex<Instant>,
    every: Duration,
}

impl Gate {
    /// `rate` a second.
    #[must_use]
    pub fn new(rate: f64) -> Self {
        let every = Duration::from_secs_f64(1.0 / rate.clamp(SLOWEST, FASTEST));
        Self { next: Mutex::new(Instant::now()), every }
    }

    /// When the next one may pass, who asks.
    fn slot(&self) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = (*next).max(Instant::now());
        *next = slot + self.every;
        slot
    }
}

/// What a device tells of its life.
#[derive(Debug)]
#[non_exhaustive]
pub enum Note<'a> {
    /// It has started.
    Started(Started),
    /// It begins a connection.
    Connecting(&'a str),
    /// There is none.
    CannotConnect(&'a str, &'a std::io::Error),
    /// Something happened on a connection.
    Online(run::Note<'a>),
    /// The connection ended.
    Ended(&'a End),
    /// It ends itself, because it is told to.
    Left,
}

/// Waits until the devices are told to stop.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Who told it is gone: nobody wants it to go on either.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Runs a device until it is told to stop. `keep` gets it whenever its flash has changed.
///
/// # Errors
/// [`Failure`] if it does not start, or of `keep`.
pub async fn live(
    photon: &mut Photon,
    life: &Life,
    mut stop: watch::Receiver<bool>,
    tell: &mut (dyn FnMut(Note<'_>) + Send),
    keep: &mut (dyn FnMut(&Photon) -> Result<(), Failure> + Send),
) -> Result<(), Failure> {
    let mut written = photon.flash().operations();
    let mut connections = 0;
    start(photon, Photon::power_on, life, &mut stop, tell).await?;
    while !*stop.borrow() && life.connections.is_none_or(|limit| connections < limit) {
        if let Some(gate) = &life.gate {
            tokio::select! {
                () = sleep_until(gate.slot()) => {}
                () = stopped(&mut stop) => break,
            }
        }
        let address = life.address.clone().unwrap_or_else(|| {
            let (host, port) = photon.cloud_address();
            format!("{host}:{port}")
        });
        tell(Note::Connecting(&address));
        connections += 1;
        let end = connect(photon, life, &address, &mut stop, tell).await;
        if photon.flash().operations() != written {
            keep(photon)?;
            written = photon.flash().operations();
        }
        match end {
            Ok(None) => {
                tell(Note::Left);
                break;
            }
            Ok(Some(end)) => {
                tell(Note::Ended(&end));
                if end.is_reset() {
                    start(photon, Photon::start, life, &mut stop, tell).await?;
                } else {
                    pause(life.reconnect_after, &mut stop).await;
                }
            }
            Err(error) => {
                tell(Note::CannotConnect(&address, &error));
                pause(life.reconnect_after, &mut stop).await;
            }
        }
    }
    Ok(())
}

/// Starts the device, and again if it is in DFU mode on request: its bootloader waits for a host, and there is none but us.
async fn start(
    photon: &mut Photon,
    start: impl FnOnce(&mut Photon) -> Started,
    life: &Life,
    stop: &mut watch::Receiver<bool>,
    tell: &mut (dyn FnMut(Note<'_>) + Send),
) -> Result<(), Failure> {
    let mut started = start(photon);
    tell(Note::Started(started));
    if started == Started::DfuMode && photon.system_runs() {
        pause(life.reconnect_after, stop).await;
        started = photon.start();
        tell(Note::Started(started));
    }
    if matches!(started, Started::Running | Started::SafeMode) {
        return Ok(());
    }
    let what = format!("{} does not start: {started:?}", photon.id());
    Err(Failure::new(Code::Data, what, "remove the folder to make a new device"))
}

async fn connect(
    photon: &mut Photon,
    life: &Life,
    address: &str,
    stop: &mut watch::Receiver<bool>,
    tell: &mut (dyn FnMut(Note<'_>) + Send),
) -> std::io::Result<Option<End>> {
    let socket = tokio::select! {
        socket = run::open(address) => socket?,
        () = stopped(stop) => return Ok(None),
    };
    let mut publisher = Publisher::new(&life.events, life.phase);
    if let Some(publishing) = &life.publishing {
        publisher = publisher.held_by(publishing.clone());
    }
    Ok(run::run(photon, socket, publisher, &life.jobs, stopped(stop), |note| tell(Note::Online(note))).await)
}

/// Devices wait a moment before they try again.
async fn pause(time: Duration, stop: &mut watch::Receiver<bool>) {
    tokio::select! {
        () = sleep(time) => {}
        () = stopped(stop) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gate_spreads_who_comes_at_once_and_makes_up_for_nothing() {
        let gate = Gate::new(10.0);
        *gate.next.lock().unwrap() = Instant::now() - Duration::from_secs(60);
        let first = gate.slot();
        let later: Vec<Duration> = (0..3).map(|_| gate.slot() - first).collect();
        assert_eq!(later, [100, 200, 300].map(Duration::from_millis));
    }
}
