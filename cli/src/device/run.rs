//! One connection of a simulated Photon over TCP: the client of `spark-sim` on a tokio stream.

use coap_spark::connection::{Machine, SendError};
use coap_spark::tokio::Framed;
use core::convert::Infallible;
use core::time::Duration;
use spark_sim::{Client, End, Photon};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

/// Never wait longer, so that a request to stop is seen soon.
const LONGEST_WAIT: Duration = Duration::from_millis(200);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
        socket.set_nodelay(true)?;
        Ok(run(photon, socket, stop, log).await)
    })
}

async fn run(
    photon: &mut Photon,
    socket: TcpStream,
    stop: &AtomicBool,
    log: &mut dyn FnMut(&str),
) -> Option<End> {
    let started = Instant::now();
    let mut rng = rand::rng();
    let device = Device { client: Client::connect(photon, &mut rng, Duration::ZERO), rest: Vec::new() };
    let mut framed = Framed::new(socket, device, started);
    loop {
        while let Some(line) = framed.machine_mut().client.poll_log() {
            log(&line);
        }
        if let Some(end) = framed.machine().client.end().cloned() {
            // What it still had to say; the server may be gone.
            let _ = framed.flush().await;
            return Some(end);
        }
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        if let Ok(Err(_)) = timeout(LONGEST_WAIT, framed.turn()).await {
            framed.machine_mut().client.handle_close();
        }
    }
}

/// The client as a machine; it ends by [`Client::end`].
struct Device<'p> {
    client: Client<'p>,
    /// Of an output that was longer than the room for it.
    rest: Vec<u8>,
}

impl Machine for Device<'_> {
    type Error = Infallible;

    fn handle_input(&mut self, now: Duration, input: &[u8]) -> Result<usize, Infallible> {
        self.client.handle_input(now, input);
        Ok(input.len())
    }

    fn poll_output<'o>(&mut self, _: Duration, out: &'o mut [u8]) -> Result<Option<&'o [u8]>, SendError> {
        if self.rest.is_empty() {
            let Some(output) = self.client.poll_output() else { return Ok(None) };
            self.rest = output;
        }
        let len = self.rest.len().min(out.len());
        for (to, from) in out.iter_mut().zip(self.rest.drain(..len)) {
            *to = from;
        }
        Ok(out.get(..len))
    }

    fn next_deadline(&self) -> Option<Duration> {
        self.client.next_deadline()
    }

    fn handle_deadline(&mut self, now: Duration) -> Result<(), Infallible> {
        self.client.handle_deadline(now);
        Ok(())
    }
}

async fn open(address: &str) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    for candidate in lookup_host(address).await? {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(candidate)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => last = error,
            Err(_) => last = std::io::Error::new(std::io::ErrorKind::TimedOut, "it does not answer"),
        }
    }
    Err(last)
}
