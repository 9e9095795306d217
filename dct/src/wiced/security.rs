//! Keys of the WICED platform: 6160 bytes from 544 of a sector. Particle's firmware does not use them.

/// View of the security section.
///
/// | offset | size | content |
/// |---|---|---|
/// | 0 | 2048 | private key, text that ends with 00 |
/// | 2048 | 4096 | certificate, text that ends with 00 |
/// | 6144 | 16 | Cooee key |
///
/// # Source
/// `device-os@v0.5.0: platform_dct.h` (`platform_dct_security_t`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Security<'a> {
    raw: &'a [u8; Security::LEN],
}

impl<'a> Security<'a> {
    /// Length in bytes.
    pub const LEN: usize = 6160;
    /// Where it is in a sector.
    pub const OFFSET: usize = 544;

    /// Looks at the bytes; every content is accepted.
    #[must_use]
    pub const fn new(raw: &'a [u8; Security::LEN]) -> Self {
        Self { raw }
    }

    /// The bytes. **Secret.**
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8; Security::LEN] {
        self.raw
    }

    /// The private key, `None` when unset. **Secret.**
    #[must_use]
    pub fn private_key(&self) -> Option<&'a [u8]> {
        super::sector::text(self.raw.get(..2048).unwrap_or_default())
    }

    /// The certificate, `None` when unset.
    #[must_use]
    pub fn certificate(&self) -> Option<&'a [u8]> {
        super::sector::text(self.raw.get(2048..6144).unwrap_or_default())
    }

    /// The Cooee key, `None` when erased. **Secret.**
    #[must_use]
    pub fn cooee_key(&self) -> Option<&'a [u8; 16]> {
        self.raw.last_chunk().filter(|key| key.iter().any(|byte| *byte != 0xFF))
    }
}

impl core::fmt::Debug for Security<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Security")
            .field("private_key_len", &self.private_key().map(<[u8]>::len))
            .field("certificate_len", &self.certificate().map(<[u8]>::len))
            .finish_non_exhaustive()
    }
}
