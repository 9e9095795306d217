//! The last 32 bytes of a sector that v2 wrote.

use super::{APP_OFFSET, WATERMARK};
use crate::crc32;
use crate::flash::{SECTOR_SIZE, Sector};

/// Footer of v0.7.0 and later.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 16 | reserved; whatever was on the firmware's stack at the first write, copied from then on |
/// | 16 | 1 | counter of writes in bits 0 and 1 |
/// | 17 | 3 | reserved |
/// | 20 | 1 | padding |
/// | 21 | 1 | version flags |
/// | 22 | 2 | size; 4 (the size of a pointer, by mistake) at the first write |
/// | 24 | 4 | [`WATERMARK`] |
/// | 28 | 4 | CRC, see [`sector_crc`] |
///
/// Integers are little-endian. Unknown bytes are kept as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Footer {
    raw: [u8; Self::LEN],
}

impl Footer {
    /// Length of the footer.
    pub const LEN: usize = 32;
    /// Where it is in a sector.
    pub const OFFSET: usize = SECTOR_SIZE - Self::LEN;
    /// Where its CRC is in a sector.
    pub const CRC_AT: usize = SECTOR_SIZE - 4;

    /// The first footer: counter 0, size 4, reserved bytes 00 (on a device they are arbitrary).
    pub const FIRST: Footer = {
        let mut raw = [0; Self::LEN];
        raw[22] = 4;
        [raw[24], raw[25], raw[26], raw[27]] = WATERMARK.to_le_bytes();
        Footer { raw }
    };

    /// Takes 32 bytes, whatever they hold.
    #[must_use]
    pub const fn from_bytes(raw: [u8; Self::LEN]) -> Self {
        Self { raw }
    }

    /// The footer of a sector, whatever it holds.
    #[must_use]
    pub fn of_sector(sector: &Sector) -> Self {
        Footer { raw: *sector.last_chunk().unwrap_or(const { &[0xFF; Self::LEN] }) }
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.raw
    }

    /// Whether the watermark is there. The CRC is not looked at.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        let r = &self.raw;
        u32::from_le_bytes([r[24], r[25], r[26], r[27]]) == WATERMARK
    }

    /// Counter of writes, modulo 4.
    #[must_use]
    pub const fn counter(&self) -> u8 {
        self.raw[16] & 3
    }

    /// CRC as stored.
    #[must_use]
    pub const fn crc(&self) -> u32 {
        let r = &self.raw;
        u32::from_le_bytes([r[28], r[29], r[30], r[31]])
    }

    /// The footer that a write puts after this one: everything kept and the counter one up, or [`FIRST`](Self::FIRST)
    /// where this one is not valid.
    #[must_use]
    pub const fn next(&self) -> Footer {
        if !self.is_valid() {
            return Self::FIRST;
        }
        let mut raw = self.raw;
        raw[16] = (raw[16] & !3) | (raw[16].wrapping_add(1) & 3);
        Footer { raw }
    }

    /// The first 28 bytes, which the CRC covers.
    #[must_use]
    pub fn without_crc(&self) -> &[u8] {
        self.raw.split_at(28).0
    }

    pub(crate) fn crc_bytes(&self) -> &[u8] {
        self.raw.split_at(28).1
    }

    pub(crate) fn with_crc(mut self, crc: u32) -> Footer {
        [self.raw[28], self.raw[29], self.raw[30], self.raw[31]] = crc.to_le_bytes();
        self
    }
}

/// The CRC of a sector as v2 computes it: the ordinary CRC-32 of bytes 8 to 16380. The header is not covered, so that a
/// seal can change without it.
#[must_use]
pub fn sector_crc(sector: &Sector) -> u32 {
    crc32::checksum(sector.get(APP_OFFSET..Footer::CRC_AT).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    #[test]
    fn counter_wraps_and_everything_else_is_kept() {
        let raw = hex!("0102030405060708 090A0B0C0D0E0F10 FE112233 44 55 0400 9A271C1E 2051F914");
        let footer = Footer { raw };
        assert!(footer.is_valid());
        assert_eq!((footer.counter(), footer.crc()), (2, 0x14F9_5120));
        let next = footer.next();
        assert_eq!(next.counter(), 3);
        assert_eq!(next.next().counter(), 0);
        assert_eq!(next.as_bytes()[..16], raw[..16]);
        assert_eq!(next.as_bytes()[16..], hex!("FF112233 44 55 0400 9A271C1E 2051F914"));
    }

    #[test]
    fn invalid_footer_is_followed_by_the_first_one() {
        assert_eq!(Footer { raw: [0xFF; 32] }.next(), Footer::FIRST);
        assert_eq!(Footer::FIRST.as_bytes()[16..28], hex!("00000000 0000 0400 9A271C1E"));
    }
}
