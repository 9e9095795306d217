//! The sockets of a simulated device: one task each, that connects, reads and writes.

use crate::device::run::open;
use crate::sonoff::tls::Connector;
use core::time::Duration;
use spark_ota::sonoff::device::Link;
use std::collections::{HashMap, VecDeque};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Bytes read at once: about what a segment brings.
const READ: usize = 1460;
/// So many of these are on their way at once, as with the window of a device.
const WINDOW: usize = 4;
/// Nobody waits longer for the other end to take a last word.
const LAST_WORD: Duration = Duration::from_secs(2);

/// What happens at a connection.
#[derive(Debug)]
pub(super) enum What {
    /// It is there; with the version and the cipher suite of TLS.
    Connected(Option<(&'static str, &'static str)>),
    Data(Vec<u8>),
    /// It was closed, or never was.
    Closed {
        code: &'static str,
        reason: String,
    },
}

#[derive(Debug)]
pub(super) struct Event {
    pub(super) link: Link,
    generation: u64,
    pub(super) what: What,
}

struct Open {
    generation: u64,
    to: mpsc::UnboundedSender<Vec<u8>>,
}

/// All connections.
pub(super) struct Links {
    open: HashMap<Link, Open>,
    generation: u64,
    events: mpsc::Sender<Event>,
    received: mpsc::Receiver<Event>,
    connector: Option<Connector>,
    /// The next download is lost after so many bytes.
    lose_after: Option<usize>,
    latency: Duration,
}

struct Ends {
    link: Link,
    generation: u64,
    latency: Duration,
    events: mpsc::Sender<Event>,
    orders: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl Links {
    /// `latency` is added to every way there and back.
    pub(super) fn new(connector: Option<Connector>, lose_after: Option<usize>, latency: Duration) -> Self {
        // Few, so that a server cannot send more than the device takes.
        let (events, received) = mpsc::channel(WINDOW);
        Self { open: HashMap::new(), generation: 0, events, received, connector, lose_after, latency }
    }

    fn add(&mut self, link: Link) -> Ends {
        self.generation += 1;
        let generation = self.generation;
        let (to, orders) = mpsc::unbounded_channel();
        self.open.insert(link, Open { generation, to });
        Ends { link, generation, latency: self.latency, events: self.events.clone(), orders }
    }

    pub(super) fn connect(&mut self, link: Link, host: &str, port: u16, tls: bool) {
        let ends = self.add(link);
        let connector = self.connector.clone().filter(|_| tls);
        let lose_after = if link == Link::Download { self.lose_after.take() } else { None };
        let address = format!("{host}:{port}");
        tokio::spawn(async move {
            let socket = match open(&address).await {
                Ok(socket) => socket,
                Err(error) => return ends.closed("not-connected", &error.to_string()).await,
            };
            let Some(connector) = connector else { return ends.run(socket, None, lose_after).await };
            match connector.connect(socket).await {
                Ok(stream) => {
                    let tls = stream.tls();
                    ends.run(stream, tls, lose_after).await;
                }
                Err(failure) => ends.closed(failure.code(), &failure.to_string()).await,
            }
        });
    }

    /// Somebody has connected to us.
    pub(super) fn adopt(&mut self, link: Link, socket: TcpStream) {
        let ends = self.add(link);
        tokio::spawn(ends.run(socket, None, None));
    }

    pub(super) fn has(&self, link: Link) -> bool {
        self.open.contains_key(&link)
    }

    pub(super) fn send(&self, link: Link, bytes: Vec<u8>) {
        if let Some(open) = self.open.get(&link) {
            // A task that has ended has told so.
            let _ = open.to.send(bytes);
        }
    }

    /// What was sent before still goes out.
    pub(super) fn close(&mut self, link: Link) {
        self.open.remove(&link);
    }

    pub(super) fn close_all(&mut self) {
        self.open.clear();
    }

    /// The next event of a connection that is not closed.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            let Some(event) = self.received.recv().await else {
                // We hold a sender ourselves.
                return core::future::pending().await;
            };
            if self.open.get(&event.link).is_none_or(|open| open.generation != event.generation) {
                continue;
            }
            if matches!(event.what, What::Closed { .. }) {
                self.open.remove(&event.link);
            }
            return event;
        }
    }
}

impl Ends {
    async fn tell(&self, what: What) {
        let event = Event { link: self.link, generation: self.generation, what };
        let _ = self.events.send(event).await;
    }

    async fn closed(&self, code: &'static str, reason: &str) {
        self.tell(What::Closed { code, reason: reason.to_owned() }).await;
    }

    async fn run(
        mut self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        tls: Option<(&'static str, &'static str)>,
        lose_after: Option<usize>,
    ) {
        // All of the way there and back is on the way back: whoever waits for an answer sees no difference.
        sleep(self.latency).await;
        self.tell(What::Connected(tls)).await;
        let mut coming = VecDeque::new();
        let mut left = lose_after.unwrap_or(usize::MAX);
        let mut buffer = [0; READ];
        loop {
            let next = coming.front().map_or_else(Instant::now, |(arrives, _)| *arrives);
            let is_over = matches!(coming.back(), Some((_, What::Closed { .. })));
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(bytes) => {
                        if let Err(error) = stream.write_all(&bytes).await {
                            return self.closed("lost", &error.to_string()).await;
                        }
                    }
                    None => {
                        let _ = timeout(LAST_WORD, stream.shutdown()).await;
                        return;
                    }
                },
                read = stream.read(&mut buffer), if coming.len() < WINDOW && !is_over => {
                    let arrives = Instant::now() + self.latency;
                    let closed = |code, reason| What::Closed { code, reason };
                    match read {
                        Ok(0) => {
                            coming.push_back((arrives, closed("closed", "the server closed it".to_owned())));
                        }
                        Ok(count) => {
                            let count = count.min(left);
                            left -= count;
                            let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                            coming.push_back((arrives, What::Data(bytes)));
                            if left == 0 {
                                coming.push_back((arrives, closed("lost", "lost on purpose".to_owned())));
                            }
                        }
                        Err(error) => coming.push_back((arrives, closed("lost", error.to_string()))),
                    }
                }
                () = sleep_until(next), if !coming.is_empty() => {
                    if let Some((_, what)) = coming.pop_front() {
                        let is_end = matches!(what, What::Closed { .. });
                        self.tell(what).await;
                        if is_end {
                            return;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const LATENCY: Duration = Duration::from_millis(300);

    #[tokio::test(start_paused = true)]
    async fn all_that_comes_is_late_by_the_latency_and_not_one_after_the_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut links = Links::new(None, None, LATENCY);
        let started = Instant::now();
        links.connect(Link::Dispatch, "127.0.0.1", listener.local_addr().unwrap().port(), false);
        let (mut server, _) = listener.accept().await.unwrap();
        assert!(matches!(links.next().await.what, What::Connected(None)));
        assert!((LATENCY..LATENCY * 3 / 2).contains(&started.elapsed()), "{:?}", started.elapsed());

        server.write_all(&[7; 3 * READ]).await.unwrap();
        server.shutdown().await.unwrap();
        let (started, mut count) = (Instant::now(), 0);
        loop {
            match links.next().await.what {
                What::Data(bytes) => count += bytes.len(),
                What::Closed { code, .. } => break assert_eq!(code, "closed"),
                other => panic!("{other:?}"),
            }
            assert!(started.elapsed() >= LATENCY, "{:?}", started.elapsed());
        }
        assert_eq!(count, 3 * READ);
        assert!(started.elapsed() < LATENCY * 2, "{:?}", started.elapsed());
    }
}
