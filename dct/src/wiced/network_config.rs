//! Network configuration of v0.7.0 and later: 36 bytes from 16332 of a sector.

/// Network configuration.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 1 | interface |
/// | 1 | 33 | host name, ends with 00 |
/// | 34 | 2 | padding |
///
/// A write to the application section that ends at 8785 to 8820 overwrites it, see [`WriteLimit`](super::WriteLimit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkConfig<'a> {
    raw: &'a [u8; NetworkConfig::LEN],
}

impl<'a> NetworkConfig<'a> {
    /// Length in bytes.
    pub const LEN: usize = 36;
    /// Where it is in a sector.
    pub const OFFSET: usize = 16332;

    /// Looks at the bytes; every content is accepted.
    #[must_use]
    pub const fn new(raw: &'a [u8; NetworkConfig::LEN]) -> Self {
        Self { raw }
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8; NetworkConfig::LEN] {
        self.raw
    }

    /// Interface, raw.
    #[must_use]
    pub const fn interface(&self) -> u8 {
        self.raw[0]
    }

    /// Host name, `None` when unset.
    #[must_use]
    pub fn hostname(&self) -> Option<&'a [u8]> {
        super::sector::text(self.raw.get(1..34).unwrap_or_default())
    }
}
