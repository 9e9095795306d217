//! The device's side of steps 1 to 3.

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

/// Limit for each read of steps 1 to 3 in every firmware.
pub const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Connected; waiting for the nonce of step 1.
#[derive(Clone, Debug)]
pub struct AwaitNonce {
    received: Exactly<NONCE_LEN>,
    deadline: Duration,
}

impl AwaitNonce {
    /// Starts a handshake on a fresh TCP connection.
    #[must_use]
    pub fn start(now: Duration) -> Self {
        Self { received: Exactly::new(), deadline: now.saturating_add(READ_TIMEOUT) }
    }

    /// Takes bytes from the server up to the 40th and says how many it took.
    pub fn push(&mut self, input: &[u8]) -> usize {
        self.received.push(input)
    }

    /// Bytes still to come.
    #[must_use]
    pub const fn missing(&self) -> usize {
        self.received.missing()
    }

    /// When to give up.
    #[must_use]
    pub const fn next_deadline(&self) -> Duration {
        self.deadline
    }

    /// The failure to report when the deadline has passed ([`Cause::TimedOut`]) or the peer closed.
    #[must_use]
    pub const fn fail(self, cause: Cause) -> Failure {
        Failure::new(Stage::ReceiveNonce, cause)
    }

    /// Once nothing is missing: says who this device is. The key is its SubjectPublicKeyInfo, 162 bytes.
    ///
    /// # Errors
    /// Gives the state back while bytes are missing.
    pub fn complete(
        self,
        device_id: DeviceId,
        public_key: Option<&[u8; DEVICE_PUBLIC_KEY_LEN]>,
    ) -> Result<(AwaitEncryption, EncryptJob), Self> {
        let Some(nonce) = self.received.get() else { return Err(self) };
        let mut plaintext = [0; IDENTITY_WITH_KEY];
        let len = Identity { device_id, public_key }.encode_into(&nonce, &mut plaintext).len();
        let ticket = Ticket::of(&nonce);
        Ok((AwaitEncryption { ticket }, EncryptJob { ticket, plaintext, len }))
    }
}

/// Encrypting the identity with the server's public key.
#[derive(Clone, Debug)]
pub struct EncryptJob {
    ticket: Ticket,
    plaintext: [u8; IDENTITY_WITH_KEY],
    len: usize,
}

impl EncryptJob {
    /// Encrypts. The server key must be RSA-2048.
    #[must_use]
    pub fn run(self, server_key: &impl RsaPublic, rng: &mut dyn CryptoRng) -> Encrypted {
        let mut ciphertext = [0; SEALED_IDENTITY_LEN];
        let plaintext = self.plaintext.get(..self.len).unwrap_or_default();
        let result = server_key.encrypt(rng, plaintext, &mut ciphertext);
        Encrypted { ticket: self.ticket, ciphertext: result.map(|()| ciphertext) }
    }
}

/// The result of an [`EncryptJob`].
#[derive(Clone, Debug)]
pub struct Encrypted {
    ticket: Ticket,
    ciphertext: Result<[u8; SEALED_IDENTITY_LEN], RsaFailure>,
}

/// Waiting for the result of the [`EncryptJob`].
#[derive(Clone, Debug)]
pub struct AwaitEncryption {
    ticket: Ticket,
}

impl AwaitEncryption {
    /// The 256 bytes of step 2 to send, and the state that waits for the answer.
    ///
    /// # Errors
    /// [`Cause::UnusableKey`] if the stored server key is not a usable RSA-2048 key; [`Cause::ForeignResult`].
    pub fn resume(
        self,
        result: Encrypted,
        now: Duration,
    ) -> Result<(AwaitSession, [u8; SEALED_IDENTITY_LEN]), Failure> {
        if result.ticket != self.ticket {
            return Err(Failure::new(Stage::EncryptIdentity, Cause::ForeignResult));
        }
        let bytes =
            result.ciphertext.map_err(|_| Failure::new(Stage::EncryptIdentity, Cause::UnusableKey))?;
        let deadline = now.saturating_add(READ_TIMEOUT);
        Ok((AwaitSession { ticket: self.ticket, received: Exactly::new(), deadline }, bytes))
    }
}

/// Step 2 is sent; waiting for the 384 bytes of step 3.
#[derive(Clone, Debug)]
pub struct AwaitSession {
    ticket: Ticket,
    received: Exactly<SESSION_MESSAGE_LEN>,
    deadline: Duration,
}

impl AwaitSession {
    /// Takes bytes from the server up to the 384th and says how many it took. The rest belongs to the session.
    pub fn push(&mut self, input: &[u8]) -> usize {
        self.received.push(input)
    }

    /// Bytes still to come.
    #[must_use]
    pub const fn missing(&self) -> usize {
        self.received.missing()
    }

    /// When to give up.
    #[must_use]
    pub const fn next_deadline(&self) -> Duration {
        self.deadline
    }

    /// The failure to report when the deadline has passed or the peer closed. The latter is how a server says no.
    #[must_use]
    pub const fn fail(self, cause: Cause) -> Failure {
        Failure::new(Stage::ReceiveSession, cause)
    }

    /// Once nothing is missing: opening the message as a job.
    ///
    /// # Errors
    /// Gives the state back while bytes are missing.
    #[allow(clippy::result_large_err, reason = "the state comes back; there is no heap to box it on")]
    pub fn complete(self) -> Result<(AwaitOpening, OpenJob), Self> {
        let Some(message) = self.received.get() else { return Err(self) };
        Ok((AwaitOpening { ticket: self.ticket }, OpenJob { ticket: self.ticket, message }))
    }
}

/// Decrypting the session bytes with the device's private key and checking the server's signature.
#[derive(Clone, Debug)]
pub struct OpenJob {
    ticket: Ticket,
    message: [u8; SESSION_MESSAGE_LEN],
}

impl OpenJob {
    /// Does both operations.
    #[must_use]
    pub fn run(
        self,
        device_key: &impl RsaPrivate,
        server_key: &impl RsaPublic,
        rng: &mut dyn CryptoRng,
    ) -> Opened {
        Opened { ticket: self.ticket, session: self.open(device_key, server_key, rng) }
    }

    fn open(
        &self,
        device_key: &impl RsaPrivate,
        server_key: &impl RsaPublic,
        rng: &mut dyn CryptoRng,
    ) -> Result<SessionKeys, Stage> {
        let (ciphertext, signature) =
            self.message.split_first_chunk::<SESSION_CIPHERTEXT_LEN>().ok_or(Stage::DecryptSession)?;
        let mut plaintext = Zeroizing::new([0; SESSION_CIPHERTEXT_LEN]);
        let len = device_key
            .decrypt(rng, ciphertext, plaintext.as_mut_slice())
            .map_err(|_| Stage::DecryptSession)?;
        // Firmware takes shorter plaintexts and fills up with what was in memory; exactly 40 is right.
        let session = plaintext
            .get(..len)
            .and_then(|bytes| <&[u8; SessionKeys::LEN]>::try_from(bytes).ok())
            .map(|bytes| SessionKeys::new(*bytes))
            .ok_or(Stage::DecryptSession)?;
        let digest = session_hmac(&session, ciphertext);
        server_key.verify_bare(&digest, signature).map_err(|_| Stage::VerifySession)?;
        Ok(session)
    }
}

/// The result of an [`OpenJob`].
pub struct Opened {
    ticket: Ticket,
    session: Result<SessionKeys, Stage>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened(secret)")
    }
}

/// Waiting for the result of the [`OpenJob`].
#[derive(Clone, Debug)]
pub struct AwaitOpening {
    ticket: Ticket,
}

impl AwaitOpening {
    /// The keys of the session that begins now; the device sends its Hello next.
    ///
    /// # Errors
    /// [`Stage::DecryptSession`] if the server used another public key than this device's, [`Stage::VerifySession`]
    /// if it signed with another key than the one this device holds. With a back end that rejects bad padding
    /// implicitly (`rsa`) the first may rarely show as the second.
    pub fn resume(self, result: Opened) -> Result<SessionKeys, Failure> {
        if result.ticket != self.ticket {
            return Err(Failure::new(Stage::DecryptSession, Cause::ForeignResult));
        }
        result.session.map_err(|stage| Failure::new(stage, Cause::Rejected))
    }
}
