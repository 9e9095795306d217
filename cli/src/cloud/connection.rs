//! One TCP connection: bytes from the socket through handshake and session, RSA work on the blocking pool.

use super::session::Session;
use super::{Cloud, Enrolment, Event};
use coap_spark::connection::{ServerConnection, ServerPolicy};
use coap_spark::handshake::server::{Accepted, AwaitIdentity, Identified};
use coap_spark::handshake::{Cause, DeviceId, Failure, Stage};
use coap_spark::session::SessionKeys;
use core::time::Duration;
use rand_core::Rng;
use rsa::RsaPublicKey;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::broadcast::error::RecvError;

/// Bytes read at once: a few frames.
const READ: usize = 4096;

/// Runs one connection to its end and reports how it ended.
pub(super) async fn serve(cloud: Arc<Cloud>, mut socket: TcpStream) {
    // Chunks are small and each waits for nothing: do not let the kernel collect them.
    let _ = socket.set_nodelay(true);
    let mut claimed = None;
    match handshake(&cloud, &mut socket, &mut claimed).await {
        Ok(accepted) => {
            let device = accepted.device_id;
            let reason = converse(&cloud, &mut socket, &accepted).await;
            cloud.report(Event::Offline { device, reason });
        }
        Err(refusal) => {
            cloud.report(Event::Refused { device: claimed, reason: refusal.reason, advice: refusal.advice })
        }
    }
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

impl Refusal {
    fn io(error: &std::io::Error) -> Self {
        Self { reason: error.to_string(), advice: "look at the network between device and server".to_owned() }
    }
}

/// Steps 1 to 3. Reads no byte behind the identity: what follows belongs to the session.
async fn handshake(
    cloud: &Arc<Cloud>,
    socket: &mut TcpStream,
    claimed: &mut Option<DeviceId>,
) -> Result<Accepted, Refusal> {
    let mut nonce = [0; 40];
    rand::rng().fill_bytes(&mut nonce);
    let mut waiting = AwaitIdentity::start(nonce, Duration::ZERO);
    socket.write_all(&nonce).await.map_err(|error| Refusal::io(&error))?;

    let mut buffer = [0; READ];
    let patience = waiting.next_deadline();
    let read_identity = async {
        while waiting.missing() > 0 {
            let missing = waiting.missing();
            let count = socket.read(&mut buffer[..missing]).await.map_err(|error| Refusal::io(&error))?;
            if count == 0 {
                return Err(Refusal::from(Failure { stage: Stage::ReceiveIdentity, cause: Cause::Closed }));
            }
            waiting.push(&buffer[..count]);
        }
        Ok(())
    };
    match tokio::time::timeout(patience, read_identity).await {
        Ok(result) => result?,
        Err(_) => return Err(waiting.time_out().into()),
    }

    let Ok((waiting, job)) = waiting.complete() else {
        return Err(Failure { stage: Stage::ReceiveIdentity, cause: Cause::Closed }.into());
    };
    let worker = Arc::clone(cloud);
    let decrypted = blocking(move || job.run(&worker.server_key, &mut rand::rng())).await?;
    let identified = waiting.resume(decrypted)?;
    *claimed = Some(identified.device_id());

    let (worker, asking) = (Arc::clone(cloud), identified.clone());
    let device_key = blocking(move || authorise(&worker, &asking)).await??;
    let mut session = [0; 40];
    rand::rng().fill_bytes(&mut session);
    let (waiting, job) = identified.accept(SessionKeys::new(session));
    let worker = Arc::clone(cloud);
    let sealed = blocking(move || job.run(&device_key, &worker.server_key, &mut rand::rng())).await?;
    let accepted = waiting.resume(sealed)?;
    socket.write_all(&accepted.message).await.map_err(|error| Refusal::io(&error))?;
    Ok(accepted)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Refusal {
        reason: format!("the server is stopping: {error}"),
        advice: "connect again later".to_owned(),
    })
}

/// The recorded key decides; an offered one is only compared, or enrolled where the operator said so.
fn authorise(cloud: &Cloud, identified: &Identified) -> Result<RsaPublicKey, Refusal> {
    let id = identified.device_id();
    let failure = |error: crate::exit::Failure| Refusal {
        reason: error.to_string(),
        advice: "repair the data folder".to_owned(),
    };
    let offered = identified.offered_key();
    if let Some((key, recorded)) = cloud.folder.device_key(id).map_err(failure)? {
        if offered.is_some_and(|offered| offered[..] != recorded[..]) {
            let kept = match offered {
                Some(offered) => cloud.folder.keep_pending(id, offered).map_err(failure)?,
                None => return Ok(key),
            };
            return Err(Refusal {
                reason: "key changed: the device offers another public key than the recorded one".to_owned(),
                advice: format!(
                    "if you gave this device a new key, move {} over the recorded one in devices/",
                    kept.display()
                ),
            });
        }
        return Ok(key);
    }
    let Some(offered) = offered else {
        return Err(Refusal {
            reason: "unknown device that offers no key".to_owned(),
            advice: format!("put its public key into the data folder as devices/{id}.pub.pem"),
        });
    };
    if cloud.options.enrolment == Enrolment::FirstUse {
        // A key that cannot be used must not be recorded.
        let (key, spki) = super::folder::read_device_key(offered).map_err(|error| Refusal {
            reason: format!("unknown device that offers an unusable key: {error}"),
            advice: "write a new key to the device".to_owned(),
        })?;
        cloud.folder.enrol(id, &spki).map_err(failure)?;
        return Ok(key);
    }
    let kept = cloud.folder.keep_pending(id, offered).map_err(failure)?;
    Err(Refusal {
        reason: "unknown device".to_owned(),
        advice: format!("to let it in, move {} to devices/", kept.display()),
    })
}

/// Everything after the handshake; gives the reason of the end.
async fn converse(cloud: &Arc<Cloud>, socket: &mut TcpStream, accepted: &Accepted) -> String {
    let started = Instant::now();
    let now = || started.elapsed();
    let first_id = u16::from_le_bytes({
        let mut bytes = [0; 2];
        rand::rng().fill_bytes(&mut bytes);
        bytes
    });
    let connection = ServerConnection::new(&accepted.session, ServerPolicy::DEFAULT, first_id, now());
    let id = accepted.device_id;
    let mut session =
        Session::new(id, connection, Arc::clone(&cloud.catalogue), cloud.options.session.clone());
    session.set_attempts(cloud.attempts_of(id));
    let mut published = cloud.subscribe();
    let mut input = [0; READ];
    let mut out = [0; 2048];
    loop {
        while let Some(event) = session.poll_event() {
            if matches!(event, Event::UpdateStarted { .. }) {
                cloud.keep_attempts(id, session.attempts().clone());
            }
            // Small files, but a disk may be slow: other devices must not wait for it.
            tokio::task::block_in_place(|| cloud.note(id, &event));
            cloud.report(event);
        }
        match session.poll_send(now(), &mut out) {
            Ok(Some(frame)) => {
                if let Err(error) = socket.write_all(frame).await {
                    return error.to_string();
                }
                // Between two chunks of a fast transfer, look whether the device said something.
                match socket.try_read(&mut input) {
                    Ok(0) => return end(cloud, &mut session, now(), "the device closed the connection"),
                    Ok(count) => {
                        if let Err(error) = session.handle_input(now(), unix_time(), &input[..count]) {
                            return error.to_string();
                        }
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => return error.to_string(),
                }
                continue;
            }
            Ok(None) => {}
            Err(error) => return error.to_string(),
        }
        let wait = session.next_deadline().saturating_sub(now());
        tokio::select! {
            read = socket.read(&mut input) => match read {
                Ok(0) => return end(cloud, &mut session, now(), "the device closed the connection"),
                Ok(count) => {
                    if let Err(error) = session.handle_input(now(), unix_time(), &input[..count]) {
                        return error.to_string();
                    }
                }
                Err(error) => return end(cloud, &mut session, now(), &error.to_string()),
            },
            () = tokio::time::sleep(wait) => {
                if let Err(error) = session.handle_deadline(now()) {
                    return error.to_string();
                }
            }
            event = published.recv() => match event {
                Ok(event) => session.offer(&event),
                // A slow connection misses events rather than holding the others up.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return "the server stopped".to_owned(),
            },
        }
    }
}

/// The device is gone, which is how a successful update ends.
fn end(cloud: &Cloud, session: &mut Session, now: Duration, reason: &str) -> String {
    session.handle_end(now);
    while let Some(event) = session.poll_event() {
        cloud.report(event);
    }
    reason.to_owned()
}

fn unix_time() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}
