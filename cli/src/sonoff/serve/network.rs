//! Sockets and time for the service.

use super::Args;
use super::images::Images;
use super::story::News;
use crate::sonoff::tls::{Acceptor, Stream};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use spark_ota::sonoff::server::{Config, ConnectionId, Event, Files, Output, Report, Service, Stage};
use spark_ota::sonoff::upgrade::Offer;
use spark_ota::sonoff::{ApiKey, DeviceId};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};

/// A peer that takes nothing for so long is gone.
const WRITING: Duration = Duration::from_secs(30);
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
}

struct Inner {
    service: Service,
    /// Tasks of connections, to be woken.
    tasks: HashMap<ConnectionId, Arc<Notify>>,
}

impl Server {
    pub(super) fn new(
        config: Config,
        images: Images,
        args: &Args,
        http_port: u16,
        told: mpsc::UnboundedSender<News>,
    ) -> Self {
        // It was checked when the images were loaded.
        let files = images.table().unwrap_or_else(|_| Files::new());
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let service = Service::new(config, files, u64::try_from(unix.as_millis()).unwrap_or(u64::MAX));
        Self {
            inner: Mutex::new(Inner { service, tasks: HashMap::new() }),
            images,
            start: Instant::now(),
            address: args.address.clone(),
            http_port,
            version: args.offered_as.clone(),
            clock: Notify::new(),
            told,
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
        let result = act(&mut inner.service, now);
        while let Some(report) = inner.service.poll_report() {
            let offered = match &report {
                Report::Device { device_id, event: Event::Ready } => {
                    self.offer(&mut inner.service, now, *device_id)
                }
                _ => None,
            };
            // Nobody listens only at the end.
            let _ = self.told.send(News::Report(report));
            if let Some(news) = offered {
                let _ = self.told.send(news);
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
                    let (server, acceptor) = (Arc::clone(&self), acceptor.clone());
                    tokio::spawn(async move {
                        // Small answers are waited for.
                        let _ = socket.set_nodelay(true);
                        let local = socket.local_addr();
                        match (acceptor.accept(socket).await, local) {
                            (Ok(stream), Ok(local)) => server.connection(stream, peer, local).await,
                            (Ok(_), Err(_)) => {}
                            (Err(failure), _) => {
                                let peer = peer.ip().to_canonical();
                                let _ = server.told.send(News::NoTls { peer, failure });
                            }
                        }
                    });
                }
                // Out of descriptors: some will be free again.
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn connection(&self, stream: Stream, peer: SocketAddr, local: SocketAddr) {
        let host = match &self.address {
            Some(address) => address.clone(),
            None => local.ip().to_canonical().to_string(),
        };
        let peer: IpAddr = peer.ip().to_canonical();
        let key = ApiKey::from_random(rand::random());
        let task = Arc::new(Notify::new());
        let Ok(id) = self.with(|service, now| service.connected(now, peer, key, &host, local.port())) else {
            return;
        };
        self.lock().tasks.insert(id, Arc::clone(&task));
        let orderly = self.talk(stream, id, &task).await;
        self.lock().tasks.remove(&id);
        if let Some(orderly) = orderly {
            self.with(|service, now| service.closed(now, id, orderly));
        }
    }

    /// Until its end: `true` if the peer has closed, `None` if we have.
    async fn talk(&self, stream: Stream, id: ConnectionId, task: &Notify) -> Option<bool> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut buffer = vec![0; 4096];
        loop {
            while let Some(output) = self.with(|service, now| service.poll_output(now, id)) {
                let written = match output {
                    Output::Send(bytes) => timeout(WRITING, send(&mut writer, &bytes)).await,
                    Output::SendFile { file, range } => {
                        let content = self.images.content(file);
                        let part = content.get(range.start as usize..range.end as usize).unwrap_or_default();
                        timeout(WRITING, send(&mut writer, part)).await
                    }
                    // What cannot be said any more is no loss.
                    Output::Finish => Ok(writer.shutdown().await.or(Ok(()))),
                    _ => {
                        let _ = timeout(WRITING, writer.shutdown()).await;
                        return None;
                    }
                };
                if !matches!(written, Ok(Ok(()))) {
                    return Some(false);
                }
            }
            tokio::select! {
                read = reader.read(&mut buffer) => match read {
                    Ok(0) => return Some(true),
                    Ok(count) => {
                        let bytes = buffer.get(..count).unwrap_or_default();
                        self.with(|service, now| service.handle_input(now, id, bytes));
                    }
                    Err(_) => return Some(false),
                },
                () = task.notified() => {}
            }
        }
    }
}

async fn send(writer: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}
