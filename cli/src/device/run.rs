//! One connection of a simulated Photon over TCP: the client of `spark-sim` on a blocking socket.

use core::time::Duration;
use spark_sim::{Client, End, Photon};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Never wait longer, so that a request to stop is seen soon.
const LONGEST_WAIT: Duration = Duration::from_millis(200);

/// Connects and runs the client to the end of the connection. `None` if `stop` ended it.
///
/// # Errors
/// The network's error if there is no connection at all.
pub fn connect(
    photon: &mut Photon,
    address: &str,
    stop: &AtomicBool,
    log: &mut dyn FnMut(&str),
) -> std::io::Result<Option<End>> {
    let mut socket = open(address)?;
    socket.set_nodelay(true)?;
    let started = Instant::now();
    let mut rng = rand::rng();
    let mut client = Client::connect(photon, &mut rng, Duration::ZERO);
    let mut input = [0; 4096];
    loop {
        while let Some(line) = client.poll_log() {
            log(&line);
        }
        while let Some(bytes) = client.poll_output() {
            if socket.write_all(&bytes).is_err() {
                client.handle_close();
            }
        }
        if let Some(end) = client.end() {
            return Ok(Some(end.clone()));
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let now = started.elapsed();
        let wait = client.next_deadline().map_or(LONGEST_WAIT, |deadline| deadline.saturating_sub(now));
        // A timeout of zero would mean to wait forever.
        socket.set_read_timeout(Some(wait.clamp(Duration::from_millis(1), LONGEST_WAIT)))?;
        match socket.read(&mut input) {
            Ok(0) => client.handle_close(),
            Ok(count) => client.handle_input(started.elapsed(), &input[..count]),
            Err(error) if is_timeout(&error) => {}
            Err(_) => client.handle_close(),
        }
        client.handle_deadline(started.elapsed());
    }
}

fn open(address: &str) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, Duration::from_secs(5)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
