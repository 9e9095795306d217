//! The first eight bytes of a sector.

use super::WATERMARK;
use crate::flash::Sector;

/// Header of a sector.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 4 | [`WATERMARK`] |
/// | 4 | 4 | [`Seal`] |
///
/// Integers are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Header {
    /// [`WATERMARK`] in a written sector.
    pub watermark: u32,
    /// State of the sector.
    pub seal: Seal,
}

impl Header {
    /// Length of the header.
    pub const LEN: usize = 8;
    /// What both generations write last.
    pub const VALID: Header = Header { watermark: WATERMARK, seal: Seal::Valid };

    /// Reads a header; every content is accepted.
    #[must_use]
    pub const fn decode(raw: &[u8; Self::LEN]) -> Self {
        Header {
            watermark: u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]),
            seal: Seal::from_u32(u32::from_le_bytes([raw[4], raw[5], raw[6], raw[7]])),
        }
    }

    /// Writes a header.
    #[must_use]
    pub const fn encode(&self) -> [u8; Self::LEN] {
        let [a, b, c, d] = self.watermark.to_le_bytes();
        let [e, f, g, h] = self.seal.to_u32().to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }

    /// The header of a sector.
    #[must_use]
    pub fn of_sector(sector: &Sector) -> Self {
        Self::decode(sector.first_chunk().unwrap_or(const { &[0xFF; Self::LEN] }))
    }

    /// Whether up to four bits of the watermark are wrong before a seal that was written. No firmware takes such a sector, but it
    /// was one.
    #[must_use]
    pub const fn has_damaged_watermark(&self) -> bool {
        let wrong = (self.watermark ^ WATERMARK).count_ones();
        wrong != 0 && wrong <= 4 && matches!(self.seal, Seal::Valid | Seal::Replaced | Seal::Cleared)
    }

    /// The test of v1: watermark, and seal valid.
    #[must_use]
    pub const fn is_valid_v1(&self) -> bool {
        self.watermark == WATERMARK && matches!(self.seal, Seal::Valid)
    }

    /// The test of v2: watermark, and seal valid or replaced.
    #[must_use]
    pub const fn is_valid_v2(&self) -> bool {
        self.watermark == WATERMARK && matches!(self.seal, Seal::Valid | Seal::Replaced)
    }
}

/// State of a sector. Each value follows from the one before by clearing bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Seal {
    /// FFFFFFFF: not yet written.
    Initial,
    /// EDA15E00 (bytes `00 5E A1 ED`): complete.
    Valid,
    /// 69A00C00 (bytes `00 0C A0 69`): v2 has written the other sector since.
    Replaced,
    /// 00000000: v1 has written the other sector since.
    Cleared,
    /// Anything else.
    Other(u32),
}

impl Seal {
    /// From the stored number.
    #[must_use]
    pub const fn from_u32(seal: u32) -> Self {
        match seal {
            0xFFFF_FFFF => Seal::Initial,
            0xEDA1_5E00 => Seal::Valid,
            0x69A0_0C00 => Seal::Replaced,
            0 => Seal::Cleared,
            other => Seal::Other(other),
        }
    }

    /// The stored number.
    #[must_use]
    pub const fn to_u32(self) -> u32 {
        match self {
            Seal::Initial => 0xFFFF_FFFF,
            Seal::Valid => 0xEDA1_5E00,
            Seal::Replaced => 0x69A0_0C00,
            Seal::Cleared => 0,
            Seal::Other(other) => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    #[test]
    fn headers_map_to_their_bytes_both_ways() {
        for (seal, bytes) in [
            (Seal::Valid, hex!("9A271C1E 005EA1ED")),
            (Seal::Replaced, hex!("9A271C1E 000CA069")),
            (Seal::Cleared, hex!("9A271C1E 00000000")),
            (Seal::Initial, hex!("9A271C1E FFFFFFFF")),
            (Seal::Other(0x0102_0304), hex!("9A271C1E 04030201")),
        ] {
            let header = Header { watermark: WATERMARK, seal };
            assert_eq!(header.encode(), bytes);
            assert_eq!(Header::decode(&bytes), header);
            assert_eq!(header.is_valid_v1(), seal == Seal::Valid);
            assert_eq!(header.is_valid_v2(), matches!(seal, Seal::Valid | Seal::Replaced));
        }
    }

    #[test]
    fn each_seal_is_reached_by_clearing_bits() {
        for (from, to) in
            [(Seal::Initial, Seal::Valid), (Seal::Valid, Seal::Replaced), (Seal::Replaced, Seal::Cleared)]
        {
            assert_eq!(from.to_u32() & to.to_u32(), to.to_u32());
        }
    }
}
