//! CRC-32, the one of zlib, for both containers.

use crc::{CRC_32_ISO_HDLC, Crc, Table};

// A bootloader has 16 KiB in all, so it gets the table of 1 KiB; a host has room for the one of 16 KiB.
#[cfg(feature = "std")]
type Size = Table<16>;
#[cfg(not(feature = "std"))]
type Size = Table<1>;

static CRC: Crc<u32, Size> = Crc::<u32, Size>::new(&CRC_32_ISO_HDLC);

pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

/// A CRC whose bytes come in pieces.
pub(crate) type Digest = crc::Digest<'static, u32, Size>;

pub(crate) const fn digest() -> Digest {
    CRC.digest()
}
