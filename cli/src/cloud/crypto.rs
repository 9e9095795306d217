//! RSA work beside the connections: the keys of the back end that was built in, and a pool that bounds how much of it runs
//! and how much waits.

use crate::exit::Failure;
use coap_spark::handshake::{RsaFailure, RsaPrivate, RsaPublic};
use core::sync::atomic::{AtomicUsize, Ordering};
use rand_core::CryptoRng;
use rsa::{RsaPrivateKey, RsaPublicKey};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Which library does the arithmetic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
#[non_exhaustive]
pub enum BackEnd {
    /// The `rsa` crate: no C, some eight times as slow.
    Rsa,
    /// The system's OpenSSL.
    #[cfg(feature = "openssl")]
    Openssl,
}

impl BackEnd {
    /// The fastest that was built in.
    #[must_use]
    pub const fn best() -> Self {
        #[cfg(feature = "openssl")]
        return Self::Openssl;
        #[cfg(not(feature = "openssl"))]
        Self::Rsa
    }
}

/// The server's private key.
pub(super) enum ServerKey {
    Rsa(Box<RsaPrivateKey>),
    #[cfg(feature = "openssl")]
    Openssl(openssl::rsa::Rsa<openssl::pkey::Private>),
}

impl core::fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ServerKey")
    }
}

impl ServerKey {
    pub(super) fn new(key: RsaPrivateKey, back_end: BackEnd) -> Result<Self, Failure> {
        match back_end {
            BackEnd::Rsa => Ok(Self::Rsa(Box::new(key))),
            #[cfg(feature = "openssl")]
            BackEnd::Openssl => {
                let text =
                    spark_keys::rsa_backend::private_key_pem(&key).map_err(|error| unusable(&error))?;
                let key = openssl::rsa::Rsa::private_key_from_pem(text.as_bytes());
                key.map(Self::Openssl).map_err(|error| unusable(&error))
            }
        }
    }
}

impl RsaPrivate for ServerKey {
    fn decrypt(
        &self,
        rng: &mut dyn CryptoRng,
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, RsaFailure> {
        match self {
            Self::Rsa(key) => RsaPrivate::decrypt(&**key, rng, ciphertext, out),
            #[cfg(feature = "openssl")]
            Self::Openssl(key) => RsaPrivate::decrypt(key, rng, ciphertext, out),
        }
    }

    fn sign_bare(
        &self,
        rng: &mut dyn CryptoRng,
        digest: &[u8; 20],
        signature: &mut [u8],
    ) -> Result<(), RsaFailure> {
        match self {
            Self::Rsa(key) => key.sign_bare(rng, digest, signature),
            #[cfg(feature = "openssl")]
            Self::Openssl(key) => key.sign_bare(rng, digest, signature),
        }
    }
}

/// A device's public key.
pub(super) enum DeviceKey {
    Rsa(RsaPublicKey),
    #[cfg(feature = "openssl")]
    Openssl(openssl::rsa::Rsa<openssl::pkey::Public>),
}

impl DeviceKey {
    /// From its SubjectPublicKeyInfo.
    pub(super) fn new(spki: &[u8], back_end: BackEnd) -> Result<Self, spark_keys::rsa_backend::RsaError> {
        // Both take what this reader takes.
        let (key, _) = super::folder::read_device_key(spki)?;
        match back_end {
            BackEnd::Rsa => Ok(Self::Rsa(key)),
            #[cfg(feature = "openssl")]
            BackEnd::Openssl => Ok(match openssl::rsa::Rsa::public_key_from_der(spki) {
                Ok(key) => Self::Openssl(key),
                Err(_) => Self::Rsa(key),
            }),
        }
    }
}

impl RsaPublic for DeviceKey {
    fn encrypt(&self, rng: &mut dyn CryptoRng, message: &[u8], out: &mut [u8]) -> Result<(), RsaFailure> {
        match self {
            Self::Rsa(key) => RsaPublic::encrypt(key, rng, message, out),
            #[cfg(feature = "openssl")]
            Self::Openssl(key) => RsaPublic::encrypt(key, rng, message, out),
        }
    }

    fn verify_bare(&self, digest: &[u8; 20], signature: &[u8]) -> Result<(), RsaFailure> {
        match self {
            Self::Rsa(key) => key.verify_bare(digest, signature),
            #[cfg(feature = "openssl")]
            Self::Openssl(key) => key.verify_bare(digest, signature),
        }
    }
}

#[cfg(feature = "openssl")]
fn unusable(error: &dyn core::fmt::Display) -> Failure {
    Failure::new(
        crate::exit::Code::Data,
        format_args!("the server key is not usable: {error}"),
        "try --back-end rsa",
    )
}

/// Why work was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotDone {
    /// As much waits as may.
    QueueFull,
    /// The program ends, or the work failed by a fault of ours.
    Stopped,
}

/// Work that takes milliseconds, on threads of its own: one processor is left to those who are connected, so that a storm
/// of handshakes queues up here and delays nobody.
#[derive(Debug)]
pub(super) struct Workers {
    places: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    queue: usize,
}

impl Workers {
    pub(super) fn new(queue: usize) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, Into::into);
        Self {
            places: Arc::new(Semaphore::new(processors.saturating_sub(1).max(1))),
            waiting: Arc::default(),
            queue,
        }
    }

    /// Jobs that wait or run.
    pub(super) fn load(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let counted = Counted::new(&self.waiting, self.queue).ok_or(NotDone::QueueFull)?;
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| NotDone::Stopped)?;
        // Whoever wanted it may go; the work goes on, and so do its place and its count.
        let job = tokio::task::spawn_blocking(move || {
            let result = work();
            drop((place, counted));
            result
        });
        job.await.map_err(|_| NotDone::Stopped)
    }
}

struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        // Dropping it counts back.
        let counted = Self(Arc::clone(count));
        (before < limit).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn queue_has_an_end_and_places_come_back() {
        let workers = Arc::new(Workers::new(3));
        let (go, wait) = mpsc::channel::<()>();
        let wait = Arc::new(std::sync::Mutex::new(wait));
        let mut running = Vec::new();
        for _ in 0..3 {
            let (workers, wait) = (Arc::clone(&workers), Arc::clone(&wait));
            running.push(tokio::spawn(async move {
                workers.run(move || wait.lock().unwrap().recv().unwrap()).await
            }));
        }
        while workers.load() < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(workers.run(|| ()).await, Err(NotDone::QueueFull));
        for _ in 0..3 {
            go.send(()).unwrap();
        }
        for task in running {
            assert_eq!(task.await.unwrap(), Ok(()));
        }
        assert_eq!(workers.load(), 0);
        assert_eq!(workers.run(|| 7).await, Ok(7));
    }
}
