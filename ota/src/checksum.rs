//! CRC-32/ISO-HDLC: of chunks on the wire and of module files.

use crc::{CRC_32_ISO_HDLC, Crc, Digest, Table};

static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISO_HDLC);

/// CRC-32/ISO-HDLC (the zlib CRC) of `bytes`.
///
/// ```
/// assert_eq!(spark_ota::crc32(b"123456789"), 0xcbf4_3926);
/// ```
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

/// The same over several pieces.
pub struct Crc32 {
    digest: Digest<'static, u32, Table<16>>,
}

impl Crc32 {
    /// Starts a checksum.
    #[must_use]
    pub fn new() -> Self {
        Self { digest: CRC.digest() }
    }

    /// Adds a piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    /// The checksum of all pieces.
    #[must_use]
    pub fn finish(self) -> u32 {
        self.digest.finalize()
    }
}

impl Default for Crc32 {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for Crc32 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Crc32")
    }
}
