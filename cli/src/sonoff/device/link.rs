//! The sockets of a simulated device: one task each, that connects, reads and writes.

use crate::device::run::open;
use crate::sonoff::tls::Connector;
use core::time::Duration;
use spark_ota::sonoff::device::Link;
use std::collections::HashMap;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Bytes read at once: about what a segment brings.
const READ: usize = 1460;
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
}

struct Ends {
    link: Link,
    generation: u64,
    events: mpsc::Sender<Event>,
    orders: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl Links {
    pub(super) fn new(connector: Option<Connector>, lose_after: Option<usize>) -> Self {
        // Few, so that a server cannot send more than the device takes.
        let (events, received) = mpsc::channel(4);
        Self { open: HashMap::new(), generation: 0, events, received, connector, lose_after }
    }

    fn add(&mut self, link: Link) -> Ends {
        self.generation += 1;
        let generation = self.generation;
        let (to, orders) = mpsc::unbounded_channel();
        self.open.insert(link, Open { generation, to });
        Ends { link, generation, events: self.events.clone(), orders }
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
        self.tell(What::Connected(tls)).await;
        let mut left = lose_after.unwrap_or(usize::MAX);
        let mut buffer = [0; READ];
        loop {
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
                read = stream.read(&mut buffer) => match read {
                    Ok(0) => return self.closed("closed", "the server closed it").await,
                    Ok(count) => {
                        let count = count.min(left);
                        left -= count;
                        self.tell(What::Data(buffer.get(..count).unwrap_or_default().to_vec())).await;
                        if left == 0 {
                            return self.closed("lost", "lost on purpose").await;
                        }
                    }
                    Err(error) => return self.closed("lost", &error.to_string()).await,
                },
            }
        }
    }
}
