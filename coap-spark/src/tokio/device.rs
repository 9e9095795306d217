//! The connection to a server.

use super::error::{Error, Event};
use super::framed::Framed;
use super::handshake::{HandshakeError, read_nonce, read_session, write};
use crate::coap::{Token, Type};
use crate::connection::{ConnectionError, DeviceConnection, DeviceRequestKind, Profile, Request};
use crate::handshake::device::{AwaitNonce, READ_TIMEOUT};
use crate::handshake::{Cause, DEVICE_PUBLIC_KEY_LEN, DeviceId, Failure, RsaPrivate, RsaPublic, Stage};
use crate::message::{self, FromDevice, FromServer, Hello, Response, Subscribe};
use alloc::sync::Arc;
use core::time::Duration;
use rand_core::CryptoRng;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::Instant;

/// A server, seen from a device.
pub type DeviceStream<S, const N: usize = 800, const P: usize = 8> = Framed<S, DeviceConnection<N, P>>;

/// Why there is no session with the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The handshake failed, up to the wait for the server's Hello.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// Hello was not sent, or something impossible came instead of an answer.
    #[error(transparent)]
    Hello(Error<ConnectionError>),
    /// The runtime is shutting down.
    #[error("the blocking pool is gone")]
    Pool(#[from] JoinError),
}

impl From<Failure> for ConnectError {
    fn from(failure: Failure) -> Self {
        Self::Handshake(failure.into())
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self::Handshake(error.into())
    }
}

impl From<Error<ConnectionError>> for ConnectError {
    fn from(error: Error<ConnectionError>) -> Self {
        match error {
            Error::Closed => incomplete(Stage::ReceiveHello).into(),
            Error::Machine(ConnectionError::Handshake(failure)) => failure.into(),
            Error::Io(error) => error.into(),
            error => Self::Hello(error),
        }
    }
}

/// What a device is and holds.
#[derive(Clone, Debug)]
pub struct DeviceIdentity<K, C> {
    /// Its id.
    pub id: DeviceId,
    /// Its public key as SubjectPublicKeyInfo; `None` for the oldest firmware, which does not offer it.
    pub public_key: Option<[u8; DEVICE_PUBLIC_KEY_LEN]>,
    /// Its private key.
    pub device_key: Arc<K>,
    /// The public key of its server.
    pub server_key: Arc<C>,
}

impl<S: AsyncRead + AsyncWrite + Unpin, const N: usize, const P: usize> DeviceStream<S, N, P> {
    /// The handshake over a fresh connection, up to the server's Hello. RSA operations run on the blocking pool. `rng`
    /// makes a cryptographic random source wherever it is called, `rand::rng` for instance.
    ///
    /// Hello is then the first message of [`DeviceStream::next`]. Firmware takes other messages before it as well: should
    /// one come, this returns at once, for it has to be looked at before Hello can be; `machine().is_up()` tells the two
    /// apart, and `next` gives up in time if no Hello follows.
    ///
    /// # Errors
    /// [`ConnectError`]; close the stream.
    pub async fn connect<K, C, R>(
        mut io: S,
        identity: DeviceIdentity<K, C>,
        hello: Hello,
        profile: Profile,
        rng: impl Fn() -> R + Copy + Send + 'static,
    ) -> Result<Self, ConnectError>
    where
        K: RsaPrivate + Send + Sync + 'static,
        C: RsaPublic + Send + Sync + 'static,
        R: CryptoRng,
    {
        let DeviceIdentity { id, public_key, device_key, server_key } = identity;
        let started = Instant::now();
        let mut waiting = AwaitNonce::start(Duration::ZERO);
        read_nonce(&mut io, &mut waiting, READ_TIMEOUT).await?;
        let (waiting, job) =
            waiting.complete(id, public_key.as_ref()).map_err(|_| incomplete(Stage::ReceiveNonce))?;
        let key = Arc::clone(&server_key);
        let encrypted = spawn_blocking(move || job.run(&*key, &mut rng())).await?;
        let (mut waiting, message) = waiting.resume(encrypted, started.elapsed())?;
        write(&mut io, &message, READ_TIMEOUT, Stage::SendIdentity).await?;
        read_session(&mut io, &mut waiting, READ_TIMEOUT).await?;
        let (waiting, job) = waiting.complete().map_err(|_| incomplete(Stage::ReceiveSession))?;
        let opened = spawn_blocking(move || job.run(&*device_key, &*server_key, &mut rng())).await?;
        let keys = waiting.resume(opened)?;

        let connection = DeviceConnection::new(&keys, profile, started.elapsed());
        let mut stream = Self::new(io, connection, started);
        stream.send(Type::NonConfirmable, FromDevice::Hello(hello)).await.map_err(|error| match error {
            // The wait for the server's Hello has begun already.
            Error::Stuck { .. } | Error::Machine(ConnectionError::Handshake(_)) => {
                Failure { stage: Stage::SendHello, cause: Cause::TimedOut }.into()
            }
            error => ConnectError::from(error),
        })?;
        while !stream.machine.is_up() && !stream.machine.has_message() {
            stream.turn().await?;
        }
        Ok(stream)
    }

    /// The next message, or one of ours that was not acknowledged in time. May be dropped at any time without loss.
    ///
    /// # Errors
    /// [`Error`]; close the stream.
    pub async fn next(&mut self) -> Result<Event<FromServer<'_>, DeviceRequestKind>, Error<ConnectionError>> {
        loop {
            if self.machine.has_message() {
                // There is one.
                return self.machine.poll_message().map(Event::Message).ok_or(Error::Closed);
            }
            let now = self.now();
            if let Some(waiting) = self.machine.poll_expired(now) {
                return Ok(Event::Unanswered(waiting));
            }
            self.turn().await?;
        }
    }

    /// Answers a request as this firmware generation does. If this is dropped, see [the module](super).
    ///
    /// # Errors
    /// [`Error::Send`] for an answer that does not fit, after any other close the stream.
    pub async fn reply(
        &mut self,
        request: Request,
        response: Response<'_>,
    ) -> Result<(), Error<ConnectionError>> {
        self.send_sealed(|machine, _, frame| {
            machine.reply(request, response, frame).map(|bytes| ((), bytes.len()))
        })
        .await
    }

    /// Publishes an event within the limits of this firmware generation.
    ///
    /// # Errors
    /// As [`DeviceStream::reply`].
    pub async fn publish(
        &mut self,
        event: message::Event<'_>,
        acknowledged: bool,
    ) -> Result<u16, Error<ConnectionError>> {
        self.send_sealed(|machine, now, frame| {
            machine.publish(now, event, acknowledged, frame).map(|sent| (sent.id, sent.bytes.len()))
        })
        .await
    }

    /// Subscribes to events.
    ///
    /// # Errors
    /// As [`DeviceStream::reply`].
    pub async fn subscribe(&mut self, subscribe: Subscribe<'_>) -> Result<u16, Error<ConnectionError>> {
        self.send_sealed(|machine, now, frame| {
            machine.subscribe(now, subscribe, frame).map(|sent| (sent.id, sent.bytes.len()))
        })
        .await
    }

    /// Asks for the time.
    ///
    /// # Errors
    /// As [`DeviceStream::reply`].
    pub async fn ask_time(&mut self) -> Result<u16, Error<ConnectionError>> {
        self.send_sealed(|machine, now, frame| {
            machine.ask_time(now, frame).map(|sent| (sent.id, sent.bytes.len()))
        })
        .await
    }

    /// Sends a message of another kind.
    ///
    /// # Errors
    /// As [`DeviceStream::reply`].
    pub async fn send(
        &mut self,
        kind: Type,
        body: FromDevice<'_>,
    ) -> Result<(u16, Token), Error<ConnectionError>> {
        self.send_sealed(|machine, _, frame| {
            machine.send(kind, body, frame).map(|sent| ((sent.id, sent.token), sent.bytes.len()))
        })
        .await
    }
}

const fn incomplete(stage: Stage) -> Failure {
    Failure { stage, cause: Cause::Closed }
}
