//! Sockets and time for the service.

use super::Args;
use super::images::Images;
use super::places::{Place, Places};
use super::story::{End, News};
use crate::sonoff::tls::{Acceptor, Stream};
use crate::sonoff::unacknowledged;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use spark_ota::sonoff::server::{
    Config, ConnectionId, Event, FINAL_STAGE, Files, Output, Policy, Report, Service, Stage,
};
use spark_ota::sonoff::upgrade::Offer;
use spark_ota::sonoff::{ApiKey, DeviceId, limits};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};

/// A peer that takes nothing for so long is gone.
const WRITING: Duration = Duration::from_secs(30);
/// Bytes that are handed to the system at once.
const PIECE: usize = 4096;
/// Between two looks whether the last bytes have arrived.
const LOOK: Duration = Duration::from_millis(500);
/// Connections at once, also those that have not said anything.
pub(super) const CONNECTIONS: usize = 1024;
/// News that wait to be told. Of what is beyond only what happens to devices is kept, so that an output that nobody reads
/// stops nothing.
const NEWS: usize = 4096;
/// Deadlines are looked at no more often than this.
const TICK: Duration = Duration::from_millis(5);

pub(super) struct Server {
    inner: Mutex<Inner>,
    images: Images,
    start: Instant,
    /// Address that devices are told, if it is not the one that they have found.
    address: Option<String>,
    http_port: u16,
    version: String,
    /// Something may be due earlier than before.
    clock: Notify,
    told: mpsc::UnboundedSender<News>,
    /// News that were not told yet.
    waiting: AtomicUsize,
    /// How it ended for each device.
    ends: mpsc::UnboundedSender<End>,
    places: Arc<Places>,
}

struct Inner {
    service: Service,
    /// Tasks of connections, to be woken.
    tasks: HashMap<ConnectionId, Arc<Notify>>,
}

impl Server {
    pub(super) fn new(
        images: Images,
        args: &Args,
        http_port: u16,
        told: mpsc::UnboundedSender<News>,
        ends: mpsc::UnboundedSender<End>,
    ) -> Self {
        // It was checked when the images were loaded.
        let files = images.table().unwrap_or_else(|_| Files::new());
        let config = Config {
            policy: Policy {
                attempts: args.attempts,
                full_speed_first: args.full_speed_first,
                final_stage: images.has_final(),
            },
            check_sign: args.check_sign,
            ..Config::default()
        };
        let service = Service::new(config, files, unix_milliseconds());
        Self {
            inner: Mutex::new(Inner { service, tasks: HashMap::new() }),
            images,
            start: Instant::now(),
            address: args.address.clone(),
            http_port,
            version: args.offered_as.clone(),
            clock: Notify::new(),
            told,
            waiting: AtomicUsize::new(0),
            ends,
            places: Places::new(CONNECTIONS),
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere has left it whole: every call ends with a valid state.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the service, and then what follows of it.
    fn with<T>(&self, act: impl FnOnce(&mut Service, Duration) -> T) -> T {
        let mut inner = self.lock();
        let now = self.now();
        // A computer may get the time from the network long after this has begun.
        inner.service.set_clock(now, unix_milliseconds());
        let result = act(&mut inner.service, now);
        while let Some(report) = inner.service.poll_report() {
            let offered = match &report {
                Report::Device { device_id, event: Event::Ready } => {
                    self.offer(&mut inner.service, now, *device_id)
                }
                _ => None,
            };
            self.tell(News::Report(report));
            if let Some(news) = offered {
                self.tell(news);
            }
        }
        while let Some(id) = inner.service.poll_connection() {
            if let Some(task) = inner.tasks.get(&id) {
                task.notify_one();
            }
        }
        drop(inner);
        self.clock.notify_one();
        result
    }

    fn tell(&self, news: News) {
        if let Some(end) = news.end(self.images.has_final()) {
            // Whoever waits for it has gone only at the end.
            let _ = self.ends.send(end);
        }
        if news.is_needed() || self.waiting.load(Ordering::Relaxed) < NEWS {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let _ = self.told.send(news);
        }
    }

    /// One of the news was told.
    pub(super) fn told(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// A device writes what it gets over its firmware.
    pub(super) fn is_writing(&self) -> bool {
        self.lock().service.is_sending_final_image()
    }

    /// Waits until no device writes. The end of one connection may be followed by the next, and what is not known to have
    /// arrived is looked for after a moment: so it is asked twice.
    pub(super) async fn written(&self) {
        let mut quiet = 0;
        while quiet < 2 {
            if quiet > 0 || self.is_writing() {
                sleep(LOOK).await;
            }
            quiet = if self.is_writing() { 0 } else { quiet + 1 };
        }
    }

    /// Offers the images to a device that is ready, once.
    fn offer(&self, service: &mut Service, now: Duration, device_id: DeviceId) -> Option<News> {
        let session = service.session(&device_id).filter(|session| session.stage().is_none())?;
        let register = session.register()?;
        let (host, _) = service.reached_at(&device_id)?;
        let candidates = self.images.candidates(host.as_str(), self.http_port);
        let offer = Offer {
            running: self.images.running,
            version: self.version.clone(),
            ..Offer::new(register.model.as_str(), candidates)
        };
        Some(match service.offer(now, &device_id, &offer) {
            Ok(warnings) => News::Warnings { device_id, warnings },
            Err(refusals) => News::Refused { device_id, refusals },
        })
    }

    /// How far the downloads are.
    pub(super) fn progress(&self) -> Vec<(DeviceId, Stage)> {
        let inner = self.lock();
        inner
            .service
            .sessions()
            .filter_map(|session| Some((session.device_id(), session.stage()?.clone())))
            .collect()
    }

    /// Calls the service at its deadlines.
    pub(super) async fn keep_time(self: Arc<Self>) {
        loop {
            let deadline = self.lock().service.next_deadline();
            let wait = async {
                match deadline {
                    Some(deadline) => sleep(deadline.saturating_sub(self.now())).await,
                    None => core::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => self.with(|service, now| service.handle_deadline(now)),
                () = self.clock.notified() => {}
            }
            sleep(TICK).await;
        }
    }

    /// Takes connections.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener, acceptor: Acceptor) {
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => {
                    let place = self.places.take().await;
                    let (server, acceptor) = (Arc::clone(&self), acceptor.clone());
                    tokio::spawn(async move { server.welcome(socket, peer, place, &acceptor).await });
                }
                // It was gone before it was here.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => {
                    // Out of descriptors, before the places are.
                    self.places.make_room();
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn welcome(&self, socket: TcpStream, peer: SocketAddr, mut place: Place, acceptor: &Acceptor) {
        // Small answers are waited for.
        let _ = socket.set_nodelay(true);
        let local = socket.local_addr();
        let accepted = tokio::select! {
            accepted = acceptor.accept(socket) => accepted,
            () = place.is_wanted() => return self.gives_way(peer, &place),
        };
        match (accepted, local) {
            (Ok(stream), Ok(local)) => self.connection(stream, peer, local, &mut place).await,
            (Ok(_), Err(_)) => {}
            (Err(failure), _) => self.tell(News::NoTls { peer: peer.ip().to_canonical(), failure }),
        }
    }

    fn gives_way(&self, peer: SocketAddr, place: &Place) {
        let (peer, silence) = (peer.ip().to_canonical(), place.silence());
        self.tell(News::GaveWay { peer, silence, places: self.places.limit() });
    }

    async fn connection(&self, stream: Stream, peer: SocketAddr, local: SocketAddr, place: &mut Place) {
        place.heard();
        let host = match &self.address {
            Some(address) => address.clone(),
            None => local.ip().to_canonical().to_string(),
        };
        let ip: IpAddr = peer.ip().to_canonical();
        let key = ApiKey::from_random(rand::random());
        let task = Arc::new(Notify::new());
        let Ok(id) = self.with(|service, now| service.connected(now, ip, key, &host, local.port())) else {
            return;
        };
        self.lock().tasks.insert(id, Arc::clone(&task));
        let end = self.talk(stream, id, &task, place).await;
        self.lock().tasks.remove(&id);
        if end == Ending::GaveWay {
            self.gives_way(peer, place);
        }
        if end != Ending::Ours {
            self.with(|service, now| service.closed(now, id, end == Ending::Theirs));
        }
    }

    /// Until its end.
    async fn talk(&self, mut stream: Stream, id: ConnectionId, task: &Notify, place: &mut Place) -> Ending {
        let ends = stream.tcp().local_addr().ok().zip(stream.tcp().peer_addr().ok());
        let mut buffer = vec![0; PIECE];
        // What has gone is looked after until it has arrived.
        let mut is_watched = false;
        loop {
            while let Some(output) = self.with(|service, now| service.poll_output(now, id)) {
                if !place.keep() {
                    return Ending::GaveWay;
                }
                let written = match output {
                    Output::Send(bytes) => send(&mut stream, &bytes, WRITING).await,
                    Output::SendFile { file, range } => {
                        let content = self.images.content(file);
                        let part = content.get(range.start as usize..range.end as usize).unwrap_or_default();
                        if self.images.is_final(file) {
                            // One that takes little takes it in large pieces.
                            let sent = send(&mut stream, part, FINAL_STAGE).await;
                            is_watched = true;
                            self.look(id, ends);
                            sent
                        } else {
                            send_within(limits::DOWNLOAD, &mut stream, part).await
                        }
                    }
                    Output::Finish => {
                        is_watched = true;
                        finish(&mut stream).await;
                        self.look(id, ends);
                        Ok(())
                    }
                    _ => {
                        finish(&mut stream).await;
                        return Ending::Ours;
                    }
                };
                if written.is_err() {
                    return Ending::Broken;
                }
            }
            tokio::select! {
                read = stream.read(&mut buffer) => match read {
                    Ok(0) => {
                        return if is_watched { self.acknowledged(id, ends, &stream).await } else { Ending::Theirs };
                    }
                    Ok(count) => {
                        place.heard();
                        let bytes = buffer.get(..count).unwrap_or_default();
                        self.with(|service, now| service.handle_input(now, id, bytes));
                    }
                    Err(_) => return Ending::Broken,
                },
                () = place.is_wanted() => return Ending::GaveWay,
                () = task.notified() => {}
                () = sleep(LOOK), if is_watched => self.look(id, ends),
            }
        }
    }

    /// Tells the service whether everything has arrived.
    fn look(&self, id: ConnectionId, ends: Option<(SocketAddr, SocketAddr)>) {
        if let Some(bytes) = ends.and_then(|(local, peer)| unacknowledged::bytes(local, peer)) {
            self.with(|service, now| service.unacknowledged(now, id, bytes));
        }
    }

    /// The same, after what may still be on its way.
    async fn acknowledged(
        &self,
        id: ConnectionId,
        ends: Option<(SocketAddr, SocketAddr)>,
        stream: &Stream,
    ) -> Ending {
        for _ in 0..10 {
            let bytes = ends.and_then(|(local, peer)| unacknowledged::bytes(local, peer));
            if bytes.is_none_or(|bytes| bytes == 0) {
                break;
            }
            sleep(LOOK).await;
        }
        self.look(id, ends);
        // One that was reset has nothing on its way any more either.
        match stream.tcp().take_error() {
            Ok(None) => Ending::Theirs,
            _ => Ending::Broken,
        }
    }
}

fn unix_milliseconds() -> u64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)
}

/// How a connection has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    /// The peer has closed it.
    Theirs,
    /// We have, as the service wanted it.
    Ours,
    /// It broke, or nothing was taken any more.
    Broken,
    /// Its place is another's.
    GaveWay,
}

/// Says that nothing more comes. What cannot be said any more is no loss.
async fn finish(writer: &mut (impl AsyncWriteExt + Unpin)) {
    let _ = timeout(WRITING, writer.shutdown()).await;
}

/// Piece by piece: a slow peer is no dead one, unless it takes nothing for so long.
async fn send(writer: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8], patience: Duration) -> io::Result<()> {
    for piece in bytes.chunks(PIECE) {
        timeout(patience, async {
            writer.write_all(piece).await?;
            writer.flush().await
        })
        .await??;
    }
    Ok(())
}

/// The same, for who has no use for it later.
async fn send_within(
    limit: Duration,
    writer: &mut (impl AsyncWriteExt + Unpin),
    bytes: &[u8],
) -> io::Result<()> {
    timeout(limit, send(writer, bytes, WRITING)).await?
}

#[cfg(test)]
mod tests;
