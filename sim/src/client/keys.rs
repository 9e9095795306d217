//! The RSA work of the handshake, with keys as they are in the device's flash.

use crate::photon::Photon;
use coap_spark::handshake::device::{EncryptJob, Encrypted, OpenJob, Opened};
use coap_spark::handshake::{RsaFailure, RsaPrivate, RsaPublic};
use rand_core::CryptoRng;
use rsa::{RsaPrivateKey, RsaPublicKey};

/// A key of the device's flash that may be none: then its operations fail, as they do in firmware.
#[derive(Clone)]
struct FromFlash<K>(Option<K>);

impl RsaPrivate for FromFlash<RsaPrivateKey> {
    fn decrypt(
        &self,
        rng: &mut dyn CryptoRng,
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, RsaFailure> {
        let key = self.0.as_ref().ok_or(RsaFailure::Failed)?;
        RsaPrivate::decrypt(key, rng, ciphertext, out)
    }

    fn sign_bare(
        &self,
        rng: &mut dyn CryptoRng,
        digest: &[u8; 20],
        signature: &mut [u8],
    ) -> Result<(), RsaFailure> {
        self.0.as_ref().ok_or(RsaFailure::Failed)?.sign_bare(rng, digest, signature)
    }
}

impl RsaPublic for FromFlash<RsaPublicKey> {
    fn encrypt(&self, rng: &mut dyn CryptoRng, message: &[u8], out: &mut [u8]) -> Result<(), RsaFailure> {
        RsaPublic::encrypt(self.0.as_ref().ok_or(RsaFailure::Failed)?, rng, message, out)
    }

    fn verify_bare(&self, digest: &[u8; 20], signature: &[u8]) -> Result<(), RsaFailure> {
        self.0.as_ref().ok_or(RsaFailure::Failed)?.verify_bare(digest, signature)
    }
}

/// Where the keys are, as bytes: they become keys where the work is done, and nowhere else.
#[derive(Clone)]
pub(super) struct Stored {
    private: Box<[u8; 612]>,
    server: Box<Option<[u8; 256]>>,
}

impl Stored {
    pub(super) fn of(photon: &Photon) -> Self {
        Self { private: Box::new(photon.key_field()), server: Box::new(photon.server_modulus()) }
    }

    fn private(&self) -> FromFlash<RsaPrivateKey> {
        FromFlash(crate::photon::device_key(&self.private))
    }

    fn server(&self) -> FromFlash<RsaPublicKey> {
        FromFlash(self.server.as_ref().as_ref().and_then(crate::photon::server_key))
    }
}

enum Step {
    Encrypt(Box<EncryptJob>),
    Open(Box<OpenJob>),
}

/// RSA work of a handshake that waits to be done, on any thread.
pub struct Job {
    step: Step,
    keys: Stored,
}

impl core::fmt::Debug for Job {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Job").finish_non_exhaustive()
    }
}

impl Job {
    pub(super) fn encrypt(job: EncryptJob, keys: Stored) -> Self {
        Self { step: Step::Encrypt(Box::new(job)), keys }
    }

    pub(super) fn open(job: OpenJob, keys: Stored) -> Self {
        Self { step: Step::Open(Box::new(job)), keys }
    }

    /// Does it; some milliseconds at the most.
    #[must_use]
    pub fn run(self, rng: &mut dyn CryptoRng) -> JobDone {
        let server = self.keys.server();
        JobDone(match self.step {
            Step::Encrypt(job) => Done::Encrypted(Box::new(job.run(&server, rng))),
            Step::Open(job) => Done::Opened(Box::new(job.run(&self.keys.private(), &server, rng))),
        })
    }
}

pub(super) enum Done {
    Encrypted(Box<Encrypted>),
    Opened(Box<Opened>),
}

/// The result of a [`Job`], for [`Client::job_done`](crate::Client::job_done).
pub struct JobDone(pub(super) Done);

impl core::fmt::Debug for JobDone {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("JobDone(secret)")
    }
}
