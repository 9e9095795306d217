//! A trial handshake: what a device does, step by step.

use coap_spark::coap::Type;
use coap_spark::connection::{ConnectionError, DeviceConnection, Profile};
use coap_spark::handshake::device::AwaitNonce;
use coap_spark::handshake::{Cause, DEVICE_PUBLIC_KEY_LEN, DeviceId, Failure, NONCE_LEN, Stage};
use coap_spark::message::{FromDevice, Hello, HelloFlags};
use coap_spark::tokio::handshake::{HandshakeError, read_session, write};
use coap_spark::tokio::{DeviceStream, Error};
use core::time::Duration;
use rsa::{RsaPrivateKey, RsaPublicKey};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// A Photon.
const PLATFORM: u16 = 6;

/// The device whose part is played.
pub(super) struct Device {
    pub(super) id: DeviceId,
    pub(super) public_key: [u8; DEVICE_PUBLIC_KEY_LEN],
    pub(super) private_key: RsaPrivateKey,
    pub(super) server_key: RsaPublicKey,
}

/// The steps behind the nonce, in order.
pub(super) const STEPS: [&str; 4] = ["identity", "session", "keys", "hello"];

/// Plays the device's part behind the nonce. Each step that is done is told with the time that it took; the first that
/// is not ends it.
pub(super) async fn handshake(
    mut socket: TcpStream,
    nonce: [u8; NONCE_LEN],
    device: &Device,
    patience: Duration,
    mut done: impl FnMut(&'static str, Duration),
) -> Result<(), (Failure, Duration)> {
    let started = Instant::now();
    let mut since = started;
    let mut lap = |name: &'static str| {
        let now = Instant::now();
        done(name, now - since);
        since = now;
    };
    let failed = |failure: Failure, begun: Instant| (failure, begun.elapsed());
    let [identity, session, keys, hello] = STEPS;

    let begun = Instant::now();
    let mut waiting = AwaitNonce::start(Duration::ZERO);
    waiting.push(&nonce);
    let Ok((waiting, job)) = waiting.complete(device.id, Some(&device.public_key)) else {
        return Err(failed(Failure { stage: Stage::ReceiveNonce, cause: Cause::Closed }, begun));
    };
    let encrypted = job.run(&device.server_key, &mut rand::rng());
    let (mut waiting, message) =
        waiting.resume(encrypted, started.elapsed()).map_err(|failure| failed(failure, begun))?;
    write(&mut socket, &message, patience, Stage::SendIdentity)
        .await
        .map_err(|error| failed(of_handshake(error, Stage::SendIdentity), begun))?;
    lap(identity);

    let begun = Instant::now();
    read_session(&mut socket, &mut waiting, patience)
        .await
        .map_err(|error| failed(of_handshake(error, Stage::ReceiveSession), begun))?;
    lap(session);

    let begun = Instant::now();
    let Ok((waiting, job)) = waiting.complete() else {
        return Err(failed(Failure { stage: Stage::ReceiveSession, cause: Cause::Closed }, begun));
    };
    let opened = job.run(&device.private_key, &device.server_key, &mut rand::rng());
    let session_keys = waiting.resume(opened).map_err(|failure| failed(failure, begun))?;
    lap(keys);

    let begun = Instant::now();
    let connection = DeviceConnection::<800, 8>::new(&session_keys, Profile::V2_3_1, begun - started);
    let mut stream = DeviceStream::new(socket, connection, started);
    stream.set_write_timeout(patience);
    let exchange = async {
        let hello = Hello::new(PLATFORM, 0, HelloFlags::default(), PLATFORM);
        stream.send(Type::NonConfirmable, FromDevice::Hello(hello)).await?;
        while !stream.machine().is_up() {
            if stream.machine().has_message() {
                // Other messages may come before Hello.
                let _ = stream.machine_mut().poll_message();
            } else {
                stream.turn().await?;
            }
        }
        Ok::<(), Error<ConnectionError>>(())
    };
    let stage = Stage::ReceiveHello;
    match timeout(patience, exchange).await {
        Err(_) => Err(failed(Failure { stage, cause: Cause::TimedOut }, begun)),
        Ok(Err(Error::Machine(ConnectionError::Handshake(failure)))) => Err(failed(failure, begun)),
        Ok(Err(Error::Machine(ConnectionError::Silent { .. }) | Error::Stuck { .. })) => {
            Err(failed(Failure { stage, cause: Cause::TimedOut }, begun))
        }
        Ok(Err(Error::Machine(_))) => Err(failed(Failure { stage, cause: Cause::Frame }, begun)),
        Ok(Err(_)) => Err(failed(Failure { stage, cause: Cause::Closed }, begun)),
        Ok(Ok(())) => {
            lap(hello);
            Ok(())
        }
    }
}

/// A transport that fails has lost the connection, however it says so.
fn of_handshake(error: HandshakeError, stage: Stage) -> Failure {
    match error {
        HandshakeError::Failure(failure) => failure,
        _ => Failure { stage, cause: Cause::Closed },
    }
}
