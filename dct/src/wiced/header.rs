//! The first 388 bytes of a sector.

/// Header of a sector.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 4 | full size; the firmware writes 0 |
/// | 4 | 4 | used size; the firmware writes 0 |
/// | 8 | 1 | write incomplete: 0 = complete |
/// | 9 | 1 | is current: 1 = yes |
/// | 10 | 1 | application valid |
/// | 11 | 1 | manufacturing information programmed |
/// | 12 | 4 | `BRCM` |
/// | 16 | 80 | boot detail: two locations of 36 bytes, load once, valid, entry point |
/// | 96 | 288 | eight application locations of 36 bytes |
/// | 384 | 4 | function pointer |
///
/// Integers are little-endian. Everything from byte 16 on is opaque here and copied verbatim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    raw: [u8; Header::LEN],
}

impl Header {
    /// Length of the header.
    pub const LEN: usize = 388;
    /// Bytes 12 to 16 of a valid header.
    pub const MAGIC: [u8; 4] = *b"BRCM";
    /// Where `write_incomplete` is.
    pub const WRITE_INCOMPLETE_AT: usize = 8;
    /// Where `is_current` is.
    pub const IS_CURRENT_AT: usize = 9;

    /// The header of factory images, and the default one of firmware before v0.7.0.
    pub const FACTORY: Header = {
        let mut raw = [0; Self::LEN];
        raw[9] = 1;
        raw[10] = 1;
        raw[12] = b'B';
        raw[13] = b'R';
        raw[14] = b'C';
        raw[15] = b'M';
        Header { raw }
    };

    /// The default header of v0.7.0 and later: one boot location in internal flash, eight placeholders 0x22 apart in
    /// external flash, application not valid.
    pub const DEFAULT_V0_7_0: Header = {
        let mut raw = Self::FACTORY.raw;
        raw[10] = 0;
        raw[52] = 1;
        let mut i = 0;
        let mut address = 0;
        while i < 8 {
            raw[96 + 36 * i] = 2;
            raw[96 + 36 * i + 4] = address;
            i += 1;
            if i < 8 {
                address += 0x22;
            }
        }
        Header { raw }
    };

    /// Takes 388 bytes, whatever they hold.
    #[must_use]
    pub const fn from_bytes(raw: [u8; Self::LEN]) -> Self {
        Self { raw }
    }

    /// The header of a sector.
    #[must_use]
    pub fn of_sector(sector: &super::Sector) -> Self {
        Self { raw: *sector.first_chunk().unwrap_or(const { &[0xFF; Self::LEN] }) }
    }

    /// The 388 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.raw
    }

    /// `full_size`, 0 in everything that the firmware writes.
    #[must_use]
    pub const fn full_size(&self) -> u32 {
        let r = &self.raw;
        u32::from_le_bytes([r[0], r[1], r[2], r[3]])
    }

    /// `used_size`, 0 in everything that the firmware writes.
    #[must_use]
    pub const fn used_size(&self) -> u32 {
        let r = &self.raw;
        u32::from_le_bytes([r[4], r[5], r[6], r[7]])
    }

    /// `write_incomplete`: 0 when the sector is complete.
    #[must_use]
    pub const fn write_incomplete(&self) -> u8 {
        self.raw[Self::WRITE_INCOMPLETE_AT]
    }

    /// `is_current`: 1 for the current sector; v0.7.0 clears it in the old one.
    #[must_use]
    pub const fn is_current(&self) -> u8 {
        self.raw[Self::IS_CURRENT_AT]
    }

    /// `app_valid`.
    #[must_use]
    pub const fn app_valid(&self) -> u8 {
        self.raw[10]
    }

    /// `mfg_info_programmed`.
    #[must_use]
    pub const fn mfg_info_programmed(&self) -> u8 {
        self.raw[11]
    }

    /// Whether bytes 12 to 16 are `BRCM`.
    #[must_use]
    pub const fn has_magic(&self) -> bool {
        let r = &self.raw;
        matches!([r[12], r[13], r[14], r[15]], Self::MAGIC)
    }

    /// Whether a few bits of the mark are wrong: of the sizes, which are 0 in everything that the firmware writes, and of `BRCM`.
    /// No firmware takes such a sector, but it was one.
    #[must_use]
    pub fn has_damaged_magic(&self) -> bool {
        let (sizes, magic) = (self.raw.iter().take(8), self.raw.iter().skip(12));
        let found = sizes.chain(magic.take(Self::MAGIC.len()));
        let expected = [0; 8].into_iter().chain(Self::MAGIC);
        let wrong: u32 = found.zip(expected).map(|(found, expected)| (found ^ expected).count_ones()).sum();
        !self.has_magic() && wrong <= 8
    }

    /// The test of firmware before v0.7.0: complete, current, magic.
    #[must_use]
    pub const fn is_valid_old(&self) -> bool {
        self.write_incomplete() == 0 && self.is_current() == 1 && self.has_magic()
    }

    /// The test of v0.7.0 and later: complete, magic, used size within the full size.
    #[must_use]
    pub const fn is_valid_new(&self) -> bool {
        self.write_incomplete() == 0 && self.has_magic() && self.used_size() <= self.full_size()
    }

    /// This header as a write puts it into the other sector: both sizes 0, current, complete or not; everything else
    /// kept.
    #[must_use]
    pub const fn for_write(&self, write_incomplete: u8) -> Self {
        let mut raw = self.raw;
        let mut i = 0;
        while i < 8 {
            raw[i] = 0;
            i += 1;
        }
        raw[Self::WRITE_INCOMPLETE_AT] = write_incomplete;
        raw[Self::IS_CURRENT_AT] = 1;
        raw[12] = b'B';
        raw[13] = b'R';
        raw[14] = b'C';
        raw[15] = b'M';
        Self { raw }
    }
}
