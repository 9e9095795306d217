//! One connection of a simulated Photon over TCP: the client of `spark-sim` on a tokio stream.

use super::program::Periodic;
use core::time::Duration;
use spark_sim::{Client, End, Happening, Photon, PublishError};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Between two looks at a request to stop of a caller without a runtime.
const STOP_INTERVAL: Duration = Duration::from_millis(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that takes no bytes for this long is gone: the limit of a device's blocking write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// Nobody waits longer for a last word to be taken.
const LAST_WRITE: Duration = Duration::from_secs(1);
/// Bytes read at once.
const READ: usize = 4096;
/// RSA operations of one caller at a time.
const JOBS: usize = 4;

/// What a connection tells while it lasts.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Note<'a> {
    /// Something happened.
    Happening(&'a Happening),
    /// An event was published.
    Published {
        /// Its name.
        name: &'a str,
        /// Its data.
        data: Option<&'a str>,
        /// Message id.
        id: u16,
    },
    /// An event was due, and the firmware refused it.
    NotPublished {
        /// Its name.
        name: &'a str,
        /// Why.
        error: PublishError,
    },
}

/// Events that are published again and again, and when each is due.
#[derive(Clone, Debug, Default)]
pub struct Publisher<'e> {
    due: Vec<(&'e Periodic, Instant, u64)>,
    phase: f64,
    go: Option<watch::Receiver<bool>>,
}

impl<'e> Publisher<'e> {
    /// The first of each comes after this part of its period.
    #[must_use]
    pub fn new(events: &'e [Periodic], phase: f64) -> Self {
        let mut publisher = Self {
            due: events.iter().map(|event| (event, Instant::now(), 0)).collect(),
            phase: phase.clamp(0.0, 1.0),
            go: None,
        };
        publisher.begin();
        publisher
    }

    /// Publishes only while `go` is true, and begins its periods whenever it becomes true.
    #[must_use]
    pub fn held_by(self, go: watch::Receiver<bool>) -> Self {
        Self { go: Some(go), ..self }
    }

    fn begin(&mut self) {
        let now = Instant::now();
        for (event, due, _) in &mut self.due {
            *due = now + event.every.mul_f64(self.phase);
        }
    }

    fn is_held(&self) -> bool {
        self.go.as_ref().is_some_and(|go| !*go.borrow())
    }

    fn next(&self) -> Option<Instant> {
        self.due.iter().map(|(_, due, _)| *due).min().filter(|_| !self.is_held())
    }

    /// Resolves when it was let go, or held again.
    async fn turned(&mut self) {
        if let Some(go) = &mut self.go
            && go.changed().await.is_ok()
        {
            self.begin();
            return;
        }
        // Nobody can change it any more.
        core::future::pending().await
    }

    fn publish(&mut self, client: &mut Client<'_>, now: Duration, tell: &mut impl FnMut(Note<'_>)) {
        if self.is_held() {
            return;
        }
        let clock = Instant::now();
        for (event, due, count) in &mut self.due {
            if *due > clock || !client.is_up() {
                continue;
            }
            *count += 1;
            // What was missed is not made up for.
            *due = (*due + event.every).max(clock);
            let (name, data) = (event.name.as_str(), event.data(*count));
            let data = data.as_deref();
            tell(match client.publish(now, &event.publication(data)) {
                Ok(id) => Note::Published { name, data, id },
                Err(error) => Note::NotPublished { name, error },
            });
        }
    }
}

/// Connects and runs the client to the end of the connection. `None` if `stop` ended it.
///
/// Blocks; not for async code.
///
/// # Errors
/// The network's error if there is no connection at all.
pub fn connect(
    photon: &mut Photon,
    address: &str,
    stop: &AtomicBool,
    log: &mut dyn FnMut(&str),
) -> std::io::Result<Option<End>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let socket = open(address).await?;
        let stopped = async {
            while !stop.load(Ordering::Relaxed) {
                sleep(STOP_INTERVAL).await;
            }
        };
        let tell = |note: Note<'_>| {
            if let Note::Happening(happening) = note {
                log(&happening.to_string());
            }
        };
        Ok(run(photon, socket, Publisher::default(), &Semaphore::new(JOBS), stopped, tell).await)
    })
}

/// Opens a connection.
///
/// # Errors
/// The network's.
pub async fn open(address: &str) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::new(ErrorKind::NotFound, "the name has no address");
    for candidate in lookup_host(address).await? {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(candidate)).await {
            Ok(Ok(socket)) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = std::io::Error::new(ErrorKind::TimedOut, "it does not answer"),
        }
    }
    Err(last)
}

/// Runs the client on a fresh connection to its end. `None` if `stop` ended it; the device then leaves as its firmware
/// does. RSA work is done on the blocking pool, as much at once as `jobs` allows.
pub async fn run(
    photon: &mut Photon,
    mut socket: TcpStream,
    mut publisher: Publisher<'_>,
    jobs: &Semaphore,
    stop: impl Future<Output = ()>,
    mut tell: impl FnMut(Note<'_>),
) -> Option<End> {
    if photon.lacks_key() {
        let _permit = jobs.acquire().await;
        let mut with_key = photon.clone();
        *photon = spawn_blocking(move || {
            with_key.make_key_if_erased(&mut rand::rng());
            with_key
        })
        .await
        .ok()?;
    }
    let started = Instant::now();
    let mut client = Client::start(photon, Duration::ZERO);
    let mut stop = core::pin::pin!(stop);
    let mut stopped = false;
    loop {
        while let Some(job) = client.take_job() {
            let _permit = jobs.acquire().await;
            let done = spawn_blocking(move || job.run(&mut rand::rng())).await.ok()?;
            client.job_done(started.elapsed(), done);
        }
        while let Some(happening) = client.poll_happening() {
            tell(Note::Happening(&happening));
        }
        publisher.publish(&mut client, started.elapsed(), &mut tell);
        let output = core::iter::from_fn(|| client.poll_output()).flatten().collect::<Vec<u8>>();
        if !output.is_empty() {
            let patience = if client.end().is_some() { LAST_WRITE } else { WRITE_TIMEOUT };
            // The server may be gone; what it said before still counts.
            if !matches!(timeout(patience, socket.write_all(&output)).await, Ok(Ok(()))) {
                client.handle_close();
            }
        }
        if let Some(end) = client.end() {
            // What was sent last is not to be lost with what was not read.
            let _ = timeout(LAST_WRITE, socket.shutdown()).await;
            return (!stopped).then(|| end.clone());
        }
        let publication = publisher.next().filter(|_| client.is_up());
        let deadline = client.next_deadline().and_then(|deadline| started.checked_add(deadline));
        let wake = [publication, deadline].into_iter().flatten().min();
        tokio::select! {
            () = &mut stop, if !stopped => {
                stopped = true;
                client.leave(started.elapsed());
            }
            () = publisher.turned() => {}
            ready = socket.readable() => match ready.and_then(|()| receive(&socket, &mut client, started)) {
                Ok(true) => {}
                Ok(false) | Err(_) => client.handle_close(),
            },
            () = sleep_until(wake.unwrap_or(started)), if wake.is_some() => {
                client.handle_deadline(started.elapsed());
            }
        }
    }
}

/// Reads what there is; `false` at the end. The buffer does not outlive the call, so that idle devices have none.
fn receive(socket: &TcpStream, client: &mut Client<'_>, started: Instant) -> std::io::Result<bool> {
    let mut buffer = [0; READ];
    match socket.try_read(&mut buffer) {
        Ok(count) => {
            client.handle_input(started.elapsed(), buffer.get(..count).unwrap_or_default());
            Ok(count > 0)
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(true),
        Err(error) => Err(error),
    }
}
