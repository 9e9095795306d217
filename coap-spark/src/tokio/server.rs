//! A connected device.

use super::error::{Error, Event};
use super::framed::Framed;
use super::handshake::{HandshakeError, read_identity, write};
use crate::coap::Token;
use crate::connection::{ConnectionError, RequestKind, ServerConnection, ServerPolicy};
use crate::handshake::server::{AwaitIdentity, IDENTITY_TIMEOUT};
use crate::handshake::{Cause, DEVICE_PUBLIC_KEY_LEN, DeviceId, Failure, RsaPrivate, RsaPublic, Stage};
use crate::message::{FromDevice, FromServer, Response};
use crate::session::SessionKeys;
use alloc::sync::Arc;
use core::time::Duration;
use rand_core::CryptoRng;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// A device, seen from its server.
pub type ServerStream<S, const N: usize = 1024, const P: usize = 8> = Framed<S, ServerConnection<N, P>>;

/// Why a device was not accepted. The advice for it is in the [`Failure`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The runtime is shutting down.
    #[error("the blocking pool is gone")]
    Pool(#[from] JoinError),
}

impl From<Failure> for AcceptError {
    fn from(failure: Failure) -> Self {
        Self::Handshake(failure.into())
    }
}

impl From<io::Error> for AcceptError {
    fn from(error: io::Error) -> Self {
        Self::Handshake(error.into())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, const N: usize, const P: usize> ServerStream<S, N, P> {
    /// The handshake with a device that has just connected. RSA operations run on the blocking pool, one for each wait.
    ///
    /// `rng` makes a cryptographic random source wherever it is called, `rand::rng` for instance. `look_up` gets the id
    /// that the device claims and the key that it offers, and gives the recorded public key; `None` refuses the device.
    ///
    /// Each wait for the device ends in 30 s. `look_up` is the caller's to bound, as is the whole: `tokio::time::timeout`
    /// around it only drops the connection (an RSA operation that has begun on the pool runs to its end).
    ///
    /// The device's Hello is the first message of [`ServerStream::next`]; the server's goes out before any other.
    ///
    /// # Errors
    /// [`AcceptError`]; close the stream.
    pub async fn accept<K, D, R>(
        mut io: S,
        server_key: Arc<K>,
        policy: ServerPolicy,
        rng: impl Fn() -> R + Copy + Send + 'static,
        look_up: impl AsyncFnOnce(DeviceId, Option<[u8; DEVICE_PUBLIC_KEY_LEN]>) -> Option<D>,
    ) -> Result<(DeviceId, Self), AcceptError>
    where
        K: RsaPrivate + Send + Sync + 'static,
        D: RsaPublic + Send + 'static,
        R: CryptoRng,
    {
        let started = Instant::now();
        let mut waiting = AwaitIdentity::start(*random(rng), Duration::ZERO);
        write(&mut io, waiting.nonce(), IDENTITY_TIMEOUT, Stage::ReceiveIdentity).await?;
        read_identity(&mut io, &mut waiting, IDENTITY_TIMEOUT).await?;
        let Ok((waiting, job)) = waiting.complete() else {
            return Err(Failure { stage: Stage::ReceiveIdentity, cause: Cause::Closed }.into());
        };
        let key = Arc::clone(&server_key);
        let identified = waiting.resume(spawn_blocking(move || job.run(&*key, &mut rng())).await?)?;
        let id = identified.device_id();
        let Some(device_key) = look_up(id, identified.offered_key().copied()).await else {
            return Err(identified.refuse().into());
        };
        let (waiting, job) = identified.accept(SessionKeys::new(*random(rng)));
        let sealed = spawn_blocking(move || job.run(&device_key, &*server_key, &mut rng())).await?;
        let accepted = waiting.resume(sealed)?;
        write(&mut io, &accepted.message, IDENTITY_TIMEOUT, Stage::SealSession).await?;
        let first_id = u16::from_be_bytes(*random(rng));
        let connection = ServerConnection::new(&accepted.session, policy, first_id, started.elapsed());
        Ok((id, Self::new(io, connection, started)))
    }

    /// The next message, or a request that was not answered in time. May be dropped at any time without loss.
    ///
    /// # Errors
    /// [`Error`]; close the stream.
    pub async fn next(&mut self) -> Result<Event<FromDevice<'_>, RequestKind>, Error<ConnectionError>> {
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

    /// Sends a request; its answer comes with [`ServerStream::next`], named in its
    /// [`Received::answers`](crate::connection::Received::answers). If this is dropped, see [the module](super).
    ///
    /// # Errors
    /// [`Error::Send`] leaves the stream unharmed, after any other close it.
    pub async fn request(&mut self, body: FromServer<'_>) -> Result<(u16, Token), Error<ConnectionError>> {
        self.send_sealed(|machine, now, frame| {
            machine.request(now, body, frame).map(|sent| ((sent.id, sent.token), sent.bytes.len()))
        })
        .await
    }

    /// Sends a message that has no answer, or one whose answer the caller finds by its token.
    ///
    /// # Errors
    /// As [`ServerStream::request`].
    pub async fn send(&mut self, body: FromServer<'_>) -> Result<(u16, Token), Error<ConnectionError>> {
        self.send_sealed(|machine, _, frame| {
            machine.send(body, frame).map(|sent| ((sent.id, sent.token), sent.bytes.len()))
        })
        .await
    }

    /// Answers a message of the device in the acknowledgement.
    ///
    /// # Errors
    /// As [`ServerStream::request`].
    pub async fn respond(
        &mut self,
        id: u16,
        token: Token,
        response: Response<'_>,
    ) -> Result<(), Error<ConnectionError>> {
        self.send_sealed(|machine, _, frame| {
            machine.respond(id, token, response, frame).map(|bytes| ((), bytes.len()))
        })
        .await
    }

    /// Answers a time request.
    ///
    /// # Errors
    /// As [`ServerStream::request`].
    pub async fn respond_time(
        &mut self,
        id: u16,
        token: Token,
        unix_time: u32,
    ) -> Result<(), Error<ConnectionError>> {
        self.send_sealed(|machine, _, frame| {
            machine.respond_time(id, token, unix_time, frame).map(|bytes| ((), bytes.len()))
        })
        .await
    }

    /// Acknowledges a message, a subscription for instance.
    ///
    /// # Errors
    /// As [`ServerStream::request`].
    pub async fn acknowledge(&mut self, id: u16) -> Result<(), Error<ConnectionError>> {
        self.send_sealed(|machine, _, frame| machine.acknowledge(id, frame).map(|bytes| ((), bytes.len())))
            .await
    }
}

fn random<const N: usize, R: CryptoRng>(rng: impl Fn() -> R) -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    rng().fill_bytes(bytes.as_mut_slice());
    bytes
}
