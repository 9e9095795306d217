//! What jobs and waits for bytes have in common.

use super::{NONCE_LEN, SESSION_CIPHERTEXT_LEN};
use crate::session::SessionKeys;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// Binds a job's result to the connection that asked for it: the start of the connection's nonce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ticket([u8; 16]);

impl Ticket {
    pub(super) fn of(nonce: &[u8; NONCE_LEN]) -> Self {
        Self(core::array::from_fn(|i| nonce[i]))
    }
}

/// Collects exactly `N` bytes, whatever way TCP splits them.
#[derive(Clone, Debug)]
pub(super) struct Exactly<const N: usize> {
    bytes: [u8; N],
    have: usize,
}

impl<const N: usize> Exactly<N> {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; N], have: 0 }
    }

    pub(super) fn push(&mut self, input: &[u8]) -> usize {
        let used = input.len().min(N - self.have);
        if let (Some(to), Some(from)) = (self.bytes.get_mut(self.have..self.have + used), input.get(..used)) {
            to.copy_from_slice(from);
        }
        self.have += used;
        used
    }

    pub(super) const fn missing(&self) -> usize {
        N - self.have
    }

    pub(super) const fn get(&self) -> Option<[u8; N]> {
        if self.have == N { Some(self.bytes) } else { None }
    }
}

/// The 20 bytes that are signed in step 3: HMAC-SHA1 of the ciphertext, keyed with the session bytes.
pub(super) fn session_hmac(session: &SessionKeys, ciphertext: &[u8; SESSION_CIPHERTEXT_LEN]) -> [u8; 20] {
    let mut key = hmac::digest::Key::<Hmac<Sha1>>::default();
    key[..SessionKeys::LEN].copy_from_slice(session.as_bytes());
    // HMAC pads keys shorter than its 64-byte block with zeros, so this is the 40-byte key.
    let mut mac = Hmac::<Sha1>::new(&key);
    zeroize::Zeroize::zeroize(key.as_mut_slice());
    mac.update(ciphertext);
    mac.finalize().into_bytes().0
}
