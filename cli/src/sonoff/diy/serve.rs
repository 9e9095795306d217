//! The server that a device in DIY mode gets its image from. It answers that device only, and has one file.

use core::net::IpAddr;
use core::ops::Range;
use core::time::Duration;
use indicatif::ProgressBar;
use spark_ota::sonoff::diy::{DiyReport, REPORT_PATH};
use spark_ota::sonoff::http::{Request, answer, json_response, status_response};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// Path of the image.
pub(super) const PATH: &str = "/image.bin";
/// A connection on which nothing comes for this long is closed.
const SILENCE: Duration = Duration::from_secs(60);

/// Parts of the image that were sent, in their order and apart from each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent(Vec<Range<u32>>);

impl Sent {
    fn add(&mut self, part: Range<u32>) {
        self.0.push(part);
        self.0.sort_unstable_by_key(|part| part.start);
        self.0.dedup_by(|part, before| {
            let touches = part.start <= before.end;
            if touches {
                before.end = before.end.max(part.end);
            }
            touches
        });
    }

    /// Different bytes.
    pub(super) fn bytes(&self) -> u32 {
        self.0.iter().map(|part| part.end.saturating_sub(part.start)).sum()
    }
}

/// How far it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Requests for the image.
    pub(super) requests: u32,
    /// What of it was sent.
    pub(super) sent: Sent,
    /// What the device said at last.
    pub(super) report: Option<DiyReport>,
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
                tokio::time::sleep(Duration::from_millis(100)).await;
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
        loop {
            let parsed = match Request::parse(&received) {
                Ok(Some((request, used))) => Some((request.head, request.body.to_vec(), used)),
                Ok(None) => None,
                Err(_) => return socket.write_all(&status_response(400)).await,
            };
            let Some((head, body, used)) = parsed else {
                match timeout(SILENCE, socket.read_buf(&mut received)).await {
                    Ok(Ok(count)) if count > 0 => continue,
                    _ => return Ok(()),
                }
            };
            received.drain(..used);
            let keep = match head.path.as_str() {
                PATH => {
                    let length = u32::try_from(self.image.len()).unwrap_or(u32::MAX);
                    let answer = answer(&head, length, "image.bin");
                    self.progress.send_modify(|progress| progress.requests += 1);
                    socket.write_all(&answer.head).await?;
                    let part = range(&self.image, &answer.body);
                    socket.write_all(part).await?;
                    if !part.is_empty() {
                        self.progress.send_modify(|progress| {
                            progress.sent.add(answer.body.clone());
                            self.bar.set_position(progress.sent.bytes().into());
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
                return socket.shutdown().await;
            }
        }
    }
}

fn range<'a>(image: &'a [u8], part: &Range<u32>) -> &'a [u8] {
    let place = |at| usize::try_from(at).unwrap_or(usize::MAX);
    image.get(place(part.start)..place(part.end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_once_in_whatever_order() {
        let mut sent = Sent::default();
        for (part, bytes) in [(10..20, 10), (30..40, 20), (10..20, 20), (0..5, 25), (15..32, 35), (0..40, 40)]
        {
            sent.add(part);
            assert_eq!(sent.bytes(), bytes, "{sent:?}");
        }
        assert_eq!(sent.0.len(), 1);
    }
}
