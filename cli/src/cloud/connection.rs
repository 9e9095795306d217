//! One TCP connection: bytes from the socket through handshake and session, RSA work on the blocking pool.

use super::folder::{Enrolled, read_device_key};
use super::session::Session;
use super::{Cloud, Enrolment, Event};
use coap_spark::connection::{ConnectionError, Machine, SendError, ServerConnection};
use coap_spark::handshake::server::{Accepted, AwaitIdentity, Identified};
use coap_spark::handshake::{Cause, DeviceId, Failure, Stage};
use coap_spark::session::SessionKeys;
use coap_spark::tokio::handshake::{HandshakeError, read_identity};
use coap_spark::tokio::{Error, Framed};
use core::time::Duration;
use rand_core::Rng;
use rsa::RsaPublicKey;
use spark_keys::Fingerprint;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Bytes that the kernel may keep for a device. With more, a whole image would count as sent at once, and the wait for
/// the device's answer would begin minutes too early.
const SEND_BUFFER: usize = 16 * 1024;

/// Runs one connection to its end and reports how it ended. `stranger` is a place among the unknown.
pub(super) async fn serve(cloud: Arc<Cloud>, mut socket: TcpStream, stranger: OwnedSemaphorePermit) {
    // Chunks are small and each waits for nothing: do not let the kernel collect them. Neither is worth failing for.
    let _ = socket.set_nodelay(true);
    let _ = socket2::SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER);
    let mut claimed = None;
    match handshake(&cloud, &mut socket, &mut claimed).await {
        Ok((accepted, record)) => {
            drop(stranger);
            converse(&cloud, &mut socket, &accepted, record).await;
        }
        Err(refusal) => {
            cloud.report(Event::Refused { device: claimed, reason: refusal.reason, advice: refusal.advice })
        }
    }
}

/// Which of a device's keys it holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Record {
    Current,
    /// The one that its owner has just written into it.
    Next,
}

struct Refusal {
    reason: String,
    advice: String,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { reason: failure.to_string(), advice: failure.advice().to_owned() }
    }
}

impl From<HandshakeError> for Refusal {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Failure(failure) => failure.into(),
            HandshakeError::Io(error) => Self::io(&error),
            other => Self::io(&std::io::Error::other(other)),
        }
    }
}

impl Refusal {
    fn io(error: &std::io::Error) -> Self {
        Self { reason: error.to_string(), advice: "look at the network between device and server".to_owned() }
    }

    fn stopping(error: &dyn core::fmt::Display) -> Self {
        Self { reason: format!("the server is stopping: {error}"), advice: "connect again later".to_owned() }
    }

    fn of_folder(failure: &crate::exit::Failure) -> Self {
        Self { reason: failure.what().to_owned(), advice: failure.next().to_owned() }
    }
}

/// Steps 1 to 3. Reads no byte behind the identity: what follows belongs to the session.
async fn handshake(
    cloud: &Arc<Cloud>,
    socket: &mut TcpStream,
    claimed: &mut Option<DeviceId>,
) -> Result<(Accepted, Record), Refusal> {
    let mut nonce = [0; 40];
    rand::rng().fill_bytes(&mut nonce);
    let mut waiting = AwaitIdentity::start(nonce, Duration::ZERO);
    write(cloud, socket, &nonce).await.map_err(|error| Refusal::io(&error))?;

    read_identity(socket, &mut waiting, cloud.options.identity_timeout).await?;
    let Ok((waiting, job)) = waiting.complete() else {
        return Err(Failure { stage: Stage::ReceiveIdentity, cause: Cause::Closed }.into());
    };
    let worker = Arc::clone(cloud);
    let decrypted = blocking(cloud, move || job.run(&worker.server_key, &mut rand::rng())).await?;
    let identified = waiting.resume(decrypted)?;
    *claimed = Some(identified.device_id());

    let (worker, asking) = (Arc::clone(cloud), identified.clone());
    let (device_key, record) = blocking(cloud, move || authorise(&worker, &asking)).await??;
    let mut session = Zeroizing::new([0; SessionKeys::LEN]);
    rand::rng().fill_bytes(session.as_mut_slice());
    let (waiting, job) = identified.accept(SessionKeys::new(*session));
    let worker = Arc::clone(cloud);
    let sealed = blocking(cloud, move || job.run(&device_key, &worker.server_key, &mut rand::rng())).await?;
    let accepted = waiting.resume(sealed)?;
    write(cloud, socket, &accepted.message).await.map_err(|error| Refusal::io(&error))?;
    Ok((accepted, record))
}

/// Work that takes milliseconds, beside the connections: only as much at once as there are processors, so that a
/// storm of handshakes queues up here and delays nobody who is connected.
async fn blocking<T: Send + 'static>(
    cloud: &Cloud,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let _place = cloud.workers.acquire().await.map_err(|error| Refusal::stopping(&error))?;
    tokio::task::spawn_blocking(work).await.map_err(|error| Refusal::stopping(&error))
}

/// A device that does not take bytes for as long as it may be silent is gone.
async fn write(cloud: &Cloud, socket: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    match tokio::time::timeout(cloud.options.policy.idle_timeout, socket.write_all(bytes)).await {
        Ok(result) => result,
        Err(_) => {
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the device does not take any bytes"))
        }
    }
}

/// The recorded key decides; an offered one is only compared, or enrolled where the operator said so.
fn authorise(cloud: &Cloud, identified: &Identified) -> Result<(RsaPublicKey, Record), Refusal> {
    let id = identified.device_id();
    let failed = |failure: crate::exit::Failure| Refusal::of_folder(&failure);
    let recorded = cloud.folder.device_key(id).map_err(failed)?;
    let Some(offered) = identified.offered_key() else {
        // It does not say which of two keys it holds; a wrong guess is made good when it connects again.
        if let Some((key, _)) = cloud.folder.next_key(id).map_err(failed)?
            && rand::rng().next_u32().is_multiple_of(2)
        {
            return Ok((key, Record::Next));
        }
        return recorded.map(|(key, _)| (key, Record::Current)).ok_or_else(|| Refusal {
            reason: "unknown device that offers no key".to_owned(),
            advice: format!("put its public key into the data folder as devices/{id}.pub.pem"),
        });
    };
    let fingerprint = Fingerprint::of_spki(offered);
    let unusable = |error: spark_keys::rsa_backend::RsaError| Refusal {
        reason: format!("the device offers an unusable key: {error}"),
        advice: "write a new key to the device".to_owned(),
    };
    let is_offered = |(_, spki): &(RsaPublicKey, Vec<u8>)| offered[..] == spki[..];
    if let Some((key, _)) = cloud.folder.next_key(id).map_err(failed)?.filter(is_offered) {
        return Ok((key, Record::Next));
    }
    if let Some((key, spki)) = recorded {
        if offered[..] == spki[..] {
            return Ok((key, Record::Current));
        }
        read_device_key(offered).map_err(unusable)?;
        let kept = cloud.folder.keep_pending(id, offered).map_err(failed)?;
        return Err(Refusal {
            reason: format!("key changed: the device offers {}, not the recorded key", fingerprint.short()),
            advice: format!(
                "if you gave this device a new key of this fingerprint, move {} to devices/{id}.pub.pem",
                kept.display()
            ),
        });
    }
    let (key, spki) = read_device_key(offered).map_err(unusable)?;
    if cloud.options.enrolment == Enrolment::FirstUse {
        return match cloud.folder.enrol_new(id, &spki).map_err(failed)? {
            Enrolled::Now => Ok((key, Record::Current)),
            Enrolled::Before => Err(Refusal {
                reason: "another connection has just enrolled this device".to_owned(),
                advice: "it will connect again by itself".to_owned(),
            }),
        };
    }
    let kept = cloud.folder.keep_pending(id, &spki).map_err(failed)?;
    Err(Refusal {
        reason: format!("unknown device, its key is {}", fingerprint.short()),
        advice: format!(
            "if this is the device's fingerprint, move {} to devices/{id}.pub.pem",
            kept.display()
        ),
    })
}

/// Everything after the handshake.
async fn converse(cloud: &Arc<Cloud>, socket: &mut TcpStream, accepted: &Accepted, record: Record) {
    let started = Instant::now();
    let id = accepted.device_id;
    let mut first_id = [0; 2];
    rand::rng().fill_bytes(&mut first_id);
    let connection = ServerConnection::new(
        &accepted.session,
        cloud.options.policy,
        u16::from_le_bytes(first_id),
        Duration::ZERO,
    );
    let mut session =
        Session::new(id, connection, Arc::clone(&cloud.catalogue), cloud.options.session.clone());
    session.set_attempts(cloud.attempts_of(id));
    let mut framed = Framed::new(socket, session, started);
    framed.set_write_timeout(cloud.options.policy.idle_timeout);
    let mut place = None;
    let reason = exchange(cloud, &mut framed, record, &mut place).await;
    let mut session = framed.into_parts().machine;
    session.handle_end(started.elapsed());
    tell(cloud, id, &mut session).await;
    if let Some(connection) = place {
        cloud.give_up(id, connection);
    }
    cloud.report(Event::Offline { device: id, reason });
}

/// Moves bytes until the connection ends; gives the reason. `place` is the device's place once it has said Hello.
async fn exchange(
    cloud: &Arc<Cloud>,
    framed: &mut Framed<&mut TcpStream, Session>,
    record: Record,
    place: &mut Option<u64>,
) -> String {
    let id = framed.machine().device_id();
    let mut published = cloud.published.subscribe();
    let mut replaced: Option<oneshot::Receiver<()>> = None;
    loop {
        if tell(cloud, id, framed.machine_mut()).await && replaced.is_none() {
            let (connection, end) = cloud.take_over(id);
            (*place, replaced) = (Some(connection), Some(end));
            // Hello shows that the device holds the private key; offering the public one shows nothing.
            if record == Record::Next {
                let worker = Arc::clone(cloud);
                let accepted = blocking(cloud, move || worker.folder.accept_next(id)).await;
                if let Ok(Err(failure)) = accepted {
                    return failure.to_string();
                }
            }
        }
        tokio::select! {
            turned = framed.turn() => match turned {
                Ok(()) => {}
                Err(Error::Closed) => return "the device closed the connection".to_owned(),
                Err(Error::Stuck { .. }) => return "the device does not take any bytes".to_owned(),
                Err(Error::Io(error)) => return error.to_string(),
                Err(error) => return error.to_string(),
            },
            event = published.recv() => match event {
                Ok(event) => framed.machine_mut().offer(&event),
                // A slow connection misses events rather than holding the others up.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return "the server stopped".to_owned(),
            },
            () = gone(&mut replaced) => return "the device has connected anew".to_owned(),
        }
    }
}

impl Machine for Session {
    type Error = ConnectionError;

    fn handle_input(&mut self, now: Duration, input: &[u8]) -> Result<usize, ConnectionError> {
        // Send first, then read.
        if !self.wants_input() {
            return Ok(0);
        }
        self.handle_input(now, unix_time(), input)?;
        Ok(input.len())
    }

    fn poll_output<'o>(&mut self, now: Duration, out: &'o mut [u8]) -> Result<Option<&'o [u8]>, SendError> {
        self.poll_send(now, out)
    }

    fn next_deadline(&self) -> Option<Duration> {
        Some(self.next_deadline())
    }

    fn handle_deadline(&mut self, now: Duration) -> Result<(), ConnectionError> {
        self.handle_deadline(now)
    }
}

/// Resolves when the connection was replaced; never before the device has a place.
async fn gone(replaced: &mut Option<oneshot::Receiver<()>>) {
    match replaced {
        // An error means that the other end was dropped, which is how it is told.
        Some(end) => drop(end.await),
        None => core::future::pending().await,
    }
}

/// Reports and writes down what happened in the session, and passes events on. `true` if the device said Hello.
async fn tell(cloud: &Arc<Cloud>, id: DeviceId, session: &mut Session) -> bool {
    while let Some(event) = session.poll_published() {
        // Nobody listening is fine.
        let _ = cloud.published.send(Arc::new(event));
    }
    let mut online = false;
    while let Some(event) = session.poll_event() {
        online |= matches!(event, Event::Online { .. });
        if matches!(event, Event::Online { .. } | Event::Described { .. }) {
            let (worker, copy) = (Arc::clone(cloud), event.clone());
            // The folder's own failures are reported there.
            let _ = blocking(cloud, move || worker.note(id, &copy)).await;
        }
        if matches!(event, Event::UpdateFinished { .. }) {
            cloud.keep_attempts(id, session.attempts().clone());
        }
        cloud.report(event);
    }
    online
}

fn unix_time() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}
