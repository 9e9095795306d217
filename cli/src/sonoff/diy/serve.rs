//! The server that a device in DIY mode gets its image from. It answers that device only, and has one file.

use crate::sonoff::unacknowledged;
use core::net::IpAddr;
use core::ops::Range;
use core::time::Duration;
use indicatif::ProgressBar;
use spark_ota::sonoff::diy::{DiyReport, REPORT_PATH};
use spark_ota::sonoff::http::{Request, answer, json_response, status_response};
use spark_ota::sonoff::server::Coverage;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Path of the image.
pub(super) const PATH: &str = "/image.bin";
/// A connection on which nothing comes for this long is closed.
const SILENCE: Duration = Duration::from_secs(60);
/// How often is looked whether everything has arrived.
const LOOK: Duration = Duration::from_millis(50);

/// How far it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Requests for the image.
    pub(super) requests: u32,
    /// What of it has arrived.
    arrived: Coverage,
    /// What has been acknowledged of answers with the whole image, and may not have been read: a reset takes it back.
    acknowledged: Vec<Range<u32>>,
    /// What the device said at last.
    pub(super) report: Option<DiyReport>,
}

impl Progress {
    /// What of the image the device has got, as far as this side can know.
    pub(super) fn sent(&self) -> Coverage {
        let mut all = self.arrived.clone();
        self.acknowledged.iter().cloned().for_each(|part| all.add(part));
        all
    }

    /// What becomes of a part that was acknowledged, and of which nobody knew whether it was read.
    fn settle(&mut self, part: Option<Range<u32>>, was_read: bool) {
        let Some(part) = part else { return };
        if let Some(found) = self.acknowledged.iter().position(|known| *known == part) {
            self.acknowledged.swap_remove(found);
        }
        if was_read {
            self.arrived.add(part);
        }
    }
}

/// What is served, and to whom.
#[derive(Debug)]
pub(super) struct ImageServer {
    pub(super) image: Vec<u8>,
    pub(super) device: IpAddr,
    pub(super) bar: ProgressBar,
    pub(super) progress: watch::Sender<Progress>,
}

impl ImageServer {
    /// Serves for ever.
    pub(super) async fn run(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((socket, peer)) = listener.accept().await else {
                // Too many open files, or the like: others end first.
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            if peer.ip().to_canonical() == self.device.to_canonical() {
                let server = Arc::clone(&self);
                // When the device closes, that is its right.
                tokio::spawn(async move { server.connection(socket).await.ok() });
            }
        }
    }

    async fn connection(&self, mut socket: TcpStream) -> std::io::Result<()> {
        let mut received = Vec::new();
        let mut last = None;
        loop {
            let parsed = match Request::parse(&received) {
                Ok(Some((request, used))) => Some((request.head, request.body.to_vec(), used)),
                Ok(None) => None,
                Err(_) => return socket.write_all(&status_response(400)).await,
            };
            let Some((head, body, used)) = parsed else {
                match timeout(SILENCE, socket.read_buf(&mut received)).await {
                    Ok(Ok(count)) if count > 0 => continue,
                    Ok(Err(error)) => {
                        self.settle(last.take(), false);
                        return Err(error);
                    }
                    _ => {
                        self.settle(last.take(), true);
                        return Ok(());
                    }
                }
            };
            received.drain(..used);
            self.settle(last.take(), true);
            let keep = match head.path.as_str() {
                PATH => {
                    let length = u32::try_from(self.image.len()).unwrap_or(u32::MAX);
                    let answer = answer(&head, length, "image.bin");
                    self.progress.send_modify(|progress| progress.requests += 1);
                    socket.write_all(&answer.head).await?;
                    let part = range(&self.image, &answer.body);
                    socket.write_all(part).await?;
                    if !part.is_empty() {
                        acknowledged(&socket).await?;
                        // Who asks part by part reads them; how such a connection ends is no matter.
                        last = Some(answer.body.clone()).filter(|part| part.len() == self.image.len());
                        self.progress.send_modify(|progress| {
                            match &last {
                                Some(part) => progress.acknowledged.push(part.clone()),
                                None => progress.arrived.add(answer.body.clone()),
                            }
                            self.bar.set_position(progress.sent().bytes().into());
                        });
                    }
                    answer.keep
                }
                REPORT_PATH if head.method == "POST" => {
                    let Ok(report) = DiyReport::parse(&body) else {
                        return socket.write_all(&status_response(400)).await;
                    };
                    socket.write_all(&json_response("{\"error\":0}", false)).await?;
                    self.progress.send_modify(|progress| progress.report = Some(report));
                    false
                }
                _ => {
                    socket.write_all(&status_response(404)).await?;
                    head.keeps_alive()
                }
            };
            if !keep {
                socket.shutdown().await?;
                // What comes behind the end is of no interest, but whether the end is one.
                let mut rest = [0; 512];
                let end = loop {
                    match timeout(SILENCE, socket.read(&mut rest)).await {
                        Ok(Ok(count)) if count > 0 => {}
                        Ok(Err(error)) => break Err(error),
                        _ => break Ok(()),
                    }
                };
                self.settle(last.take(), end.is_ok());
                return end;
            }
        }
    }

    fn settle(&self, part: Option<Range<u32>>, was_read: bool) {
        self.progress.send_modify(|progress| progress.settle(part, was_read));
    }
}

/// Waits until the other end has acknowledged everything, where the system tells.
async fn acknowledged(socket: &TcpStream) -> std::io::Result<()> {
    let (local, peer) = (socket.local_addr()?, socket.peer_addr()?);
    let all = async {
        while unacknowledged::bytes(local, peer).is_some_and(|bytes| bytes > 0) {
            sleep(LOOK).await;
        }
    };
    timeout(SILENCE, all).await?;
    socket.take_error()?.map_or(Ok(()), Err)
}

fn range<'a>(image: &'a [u8], part: &Range<u32>) -> &'a [u8] {
    let place = |at| usize::try_from(at).unwrap_or(usize::MAX);
    image.get(place(part.start)..place(part.end)).unwrap_or_default()
}
