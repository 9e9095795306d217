//! The server's side of steps 1 to 3.

use super::failure::{Cause, Failure, Stage};
use super::identity::{DeviceId, IDENTITY_WITH_KEY, Identity};
use super::job::{Exactly, Ticket, session_hmac};
use super::rsa_ops::{RsaFailure, RsaPrivate, RsaPublic};
use super::{
    DEVICE_PUBLIC_KEY_LEN, NONCE_LEN, SEALED_IDENTITY_LEN, SESSION_CIPHERTEXT_LEN, SESSION_MESSAGE_LEN,
};
use crate::session::SessionKeys;
use core::fmt;
use core::time::Duration;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// Time for the device to answer the nonce; the particle-iot server waits as long, a device takes up to 20 s.
pub const IDENTITY_TIMEOUT: Duration = Duration::from_secs(30);

/// Step 1 is sent; waiting for the 256 bytes of step 2.
#[derive(Clone, Debug)]
pub struct AwaitIdentity {
    nonce: [u8; NONCE_LEN],
    received: Exactly<SEALED_IDENTITY_LEN>,
    deadline: Duration,
}

impl AwaitIdentity {
    /// Starts a handshake. The nonce must come from a cryptographic random source and be used once.
    #[must_use]
    pub fn start(nonce: [u8; NONCE_LEN], now: Duration) -> Self {
        Self { nonce, received: Exactly::new(), deadline: now.saturating_add(IDENTITY_TIMEOUT) }
    }

    /// Step 1: the bytes to send.
    #[must_use]
    pub const fn nonce(&self) -> &[u8; NONCE_LEN] {
        &self.nonce
    }

    /// Takes bytes from the device up to the 256th and says how many it took. The rest belongs to the session.
    pub fn push(&mut self, input: &[u8]) -> usize {
        self.received.push(input)
    }

    /// Bytes still to come.
    #[must_use]
    pub const fn missing(&self) -> usize {
        self.received.missing()
    }

    /// When to give up, see [`AwaitIdentity::time_out`].
    #[must_use]
    pub const fn next_deadline(&self) -> Duration {
        self.deadline
    }

    /// The failure to report when the deadline has passed.
    #[must_use]
    pub const fn time_out(self) -> Failure {
        Failure::new(Stage::ReceiveIdentity, Cause::TimedOut)
    }

    /// Once nothing is missing: the decryption as a job, and the state that waits for its result.
    ///
    /// # Errors
    /// Gives the state back while bytes are missing.
    #[allow(clippy::result_large_err, reason = "the state comes back; there is no heap to box it on")]
    pub fn complete(self) -> Result<(AwaitDecryption, DecryptJob), Self> {
        let Some(ciphertext) = self.received.get() else { return Err(self) };
        let ticket = Ticket::of(&self.nonce);
        Ok((AwaitDecryption { nonce: self.nonce }, DecryptJob { ticket, ciphertext }))
    }
}

/// The private-key operation on the device's identity. Owned: run it anywhere.
#[derive(Clone, Debug)]
pub struct DecryptJob {
    ticket: Ticket,
    ciphertext: [u8; SEALED_IDENTITY_LEN],
}

impl DecryptJob {
    /// The 256 bytes to decrypt, for a key service that takes them as they are; see [`DecryptJob::finish`].
    #[must_use]
    pub const fn ciphertext(&self) -> &[u8; SEALED_IDENTITY_LEN] {
        &self.ciphertext
    }

    /// Decrypts with a local key.
    #[must_use]
    pub fn run(self, server_key: &impl RsaPrivate, rng: &mut dyn CryptoRng) -> Decrypted {
        let mut plaintext = Zeroizing::new([0; SEALED_IDENTITY_LEN]);
        // A failure takes the same way as a message of a wrong length.
        let len = server_key.decrypt(rng, &self.ciphertext, plaintext.as_mut_slice()).unwrap_or(0);
        let mut front = Zeroizing::new([0; IDENTITY_WITH_KEY]);
        front.copy_from_slice(plaintext.first_chunk().unwrap_or(&[0; IDENTITY_WITH_KEY]));
        Decrypted { ticket: self.ticket, plaintext: front, len }
    }

    /// Takes the result of a decryption that was done elsewhere; `None` if it failed.
    #[must_use]
    pub fn finish(self, message: Option<&[u8]>) -> Decrypted {
        let mut plaintext = Zeroizing::new([0; IDENTITY_WITH_KEY]);
        let message = message.unwrap_or_default();
        for (to, from) in plaintext.iter_mut().zip(message) {
            *to = *from;
        }
        Decrypted { ticket: self.ticket, plaintext, len: message.len() }
    }
}

/// The result of a [`DecryptJob`]; good and bad ones look alike.
pub struct Decrypted {
    ticket: Ticket,
    plaintext: Zeroizing<[u8; IDENTITY_WITH_KEY]>,
    len: usize,
}

impl fmt::Debug for Decrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decrypted(secret)")
    }
}

/// Waiting for the result of the [`DecryptJob`].
#[derive(Clone, Debug)]
pub struct AwaitDecryption {
    nonce: [u8; NONCE_LEN],
}

impl AwaitDecryption {
    /// Checks the plaintext: 52 or 214 bytes that begin with this connection's nonce.
    ///
    /// # Errors
    /// [`Cause::Rejected`] whatever is wrong with the message; [`Cause::ForeignResult`] if the result is not of
    /// this connection's job. Close the connection.
    pub fn resume(self, result: Decrypted) -> Result<Identified, Failure> {
        let ticket = Ticket::of(&self.nonce);
        if result.ticket != ticket {
            return Err(Failure::new(Stage::OpenIdentity, Cause::ForeignResult));
        }
        Identity::parse(&result.plaintext, result.len, &self.nonce)
            .map(|identity| Identified {
                ticket,
                device_id: identity.device_id,
                offered_key: identity.public_key.copied(),
            })
            .ok_or(Failure::new(Stage::OpenIdentity, Cause::Rejected))
    }
}

/// The device said who it is. The caller now decides, after any look-up it needs.
///
/// The id and the key are what the device **claims**: only a device that holds the private key of the public key
/// given to [`SealJob::run`] can read the session bytes. Compare the offered key with the record and do not take
/// it over silently: anyone who knows the server's public key can offer one.
#[derive(Clone, Debug)]
pub struct Identified {
    ticket: Ticket,
    device_id: DeviceId,
    offered_key: Option<[u8; DEVICE_PUBLIC_KEY_LEN]>,
}

impl Identified {
    /// The id that the device claims.
    #[must_use]
    pub const fn device_id(&self) -> DeviceId {
        self.device_id
    }

    /// The public key that the device offers: SubjectPublicKeyInfo, not checked. `None` from the oldest firmware.
    #[must_use]
    pub const fn offered_key(&self) -> Option<&[u8; DEVICE_PUBLIC_KEY_LEN]> {
        self.offered_key.as_ref()
    }

    /// Refuses the device. Close the connection.
    #[must_use]
    pub const fn refuse(self) -> Failure {
        Failure::new(Stage::Authorise, Cause::Refused)
    }

    /// Goes on with fresh session bytes from a cryptographic random source.
    #[must_use]
    pub fn accept(self, session: SessionKeys) -> (AwaitSeal, SealJob) {
        let job = SealJob { ticket: self.ticket, session: SessionKeys::new(*session.as_bytes()) };
        (AwaitSeal { ticket: self.ticket, device_id: self.device_id, session }, job)
    }
}

/// Encrypting the session bytes for the device and signing them: one public-key and one private-key operation.
#[derive(Debug)]
pub struct SealJob {
    ticket: Ticket,
    session: SessionKeys,
}

impl SealJob {
    /// Does both operations with the device's recorded public key and the server's private key.
    #[must_use]
    pub fn run(
        self,
        device_key: &impl RsaPublic,
        server_key: &impl RsaPrivate,
        rng: &mut dyn CryptoRng,
    ) -> Sealed {
        Sealed { ticket: self.ticket, message: self.seal(device_key, server_key, rng) }
    }

    fn seal(
        &self,
        device_key: &impl RsaPublic,
        server_key: &impl RsaPrivate,
        rng: &mut dyn CryptoRng,
    ) -> Result<[u8; SESSION_MESSAGE_LEN], RsaFailure> {
        let mut ciphertext = [0; SESSION_CIPHERTEXT_LEN];
        device_key.encrypt(rng, self.session.as_bytes(), &mut ciphertext)?;
        let digest = session_hmac(&self.session, &ciphertext);
        let mut message = [0; SESSION_MESSAGE_LEN];
        let (front, signature) = message.split_at_mut(SESSION_CIPHERTEXT_LEN);
        front.copy_from_slice(&ciphertext);
        server_key.sign_bare(rng, &digest, signature)?;
        Ok(message)
    }
}

/// The result of a [`SealJob`].
#[derive(Clone, Debug)]
pub struct Sealed {
    ticket: Ticket,
    message: Result<[u8; SESSION_MESSAGE_LEN], RsaFailure>,
}

/// Waiting for the result of the [`SealJob`].
#[derive(Debug)]
pub struct AwaitSeal {
    ticket: Ticket,
    device_id: DeviceId,
    session: SessionKeys,
}

impl AwaitSeal {
    /// The message of step 3 and the session.
    ///
    /// # Errors
    /// [`Cause::UnusableKey`] if the recorded device key is not RSA-1024 or the server key not RSA-2048;
    /// [`Cause::ForeignResult`].
    pub fn resume(self, result: Sealed) -> Result<Accepted, Failure> {
        if result.ticket != self.ticket {
            return Err(Failure::new(Stage::SealSession, Cause::ForeignResult));
        }
        let message = result.message.map_err(|_| Failure::new(Stage::SealSession, Cause::UnusableKey))?;
        Ok(Accepted { message, device_id: self.device_id, session: self.session })
    }
}

/// Step 3: send [`Accepted::message`], then go on with the connection.
#[derive(Debug)]
pub struct Accepted {
    /// The 384 bytes to send.
    pub message: [u8; SESSION_MESSAGE_LEN],
    /// Who the device says it is.
    pub device_id: DeviceId,
    /// The keys of the session that begins now.
    pub session: SessionKeys,
}

/// Steps 2 and 3 in one call, for simple servers and tests that may block.
///
/// `look_up` gets the device's id and offered key and gives the recorded public key, or `None` to refuse.
///
/// # Errors
/// [`Failure`].
pub fn answer<K: RsaPublic>(
    waiting: AwaitIdentity,
    server_key: &impl RsaPrivate,
    look_up: impl FnOnce(DeviceId, Option<&[u8; DEVICE_PUBLIC_KEY_LEN]>) -> Option<K>,
    session: SessionKeys,
    rng: &mut dyn CryptoRng,
) -> Result<Accepted, Failure> {
    let (waiting, job) =
        waiting.complete().map_err(|_| Failure::new(Stage::ReceiveIdentity, Cause::Closed))?;
    let identified = waiting.resume(job.run(server_key, rng))?;
    let Some(device_key) = look_up(identified.device_id(), identified.offered_key()) else {
        return Err(identified.refuse());
    };
    let (waiting, job) = identified.accept(session);
    waiting.resume(job.run(&device_key, server_key, rng))
}
