//! The 40 secret bytes that server and device share after the handshake.

use core::fmt;
use zeroize::Zeroize;

/// The session bytes: secret, zeroed on drop, not printed.
///
/// | off | size | use |
/// |---|---|---|
/// | 0 | 16 | AES-128 key, both directions |
/// | 16 | 16 | initial IV, both directions |
/// | 32 | 8 | salt: start of the device's message ids and tokens |
pub struct SessionKeys {
    bytes: [u8; Self::LEN],
}

impl SessionKeys {
    /// Length of the session bytes on the wire.
    pub const LEN: usize = 40;

    /// Takes the 40 bytes over. They must come from a cryptographic random source.
    #[must_use]
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        Self { bytes }
    }

    /// All 40 bytes. Secret.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.bytes
    }

    /// The AES-128 key. Secret.
    #[must_use]
    pub fn key(&self) -> [u8; 16] {
        self.part(0)
    }

    /// The IV of the first frame of each direction.
    #[must_use]
    pub fn iv(&self) -> [u8; 16] {
        self.part(16)
    }

    /// The salt, from which devices derive their first message id and token.
    #[must_use]
    pub fn salt(&self) -> [u8; 8] {
        self.part(32)
    }

    fn part<const N: usize>(&self, from: usize) -> [u8; N] {
        core::array::from_fn(|i| self.bytes.get(from + i).copied().unwrap_or_default())
    }
}

impl Drop for SessionKeys {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKeys(secret)")
    }
}
