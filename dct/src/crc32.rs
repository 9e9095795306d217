//! CRC-32, the one of zlib, for both containers.

use crc::{CRC_32_ISO_HDLC, Crc, Digest, Table};

static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISO_HDLC);

pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

pub(crate) fn digest() -> Digest<'static, u32, Table<16>> {
    CRC.digest()
}
