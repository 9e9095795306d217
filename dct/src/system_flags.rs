//! The 32 bytes of flags that firmware and bootloader exchange (before v0.7.0).

/// View of the `system_flags` field.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 4 | header, `C0 AC DE 1A` when initialised; factory images hold `C0 FF FF FF` |
/// | 4 | 2 | bootloader version |
/// | 6 | 2 | 0001 = NVMEM reset requested (Core) |
/// | 8 | 2 | 0005 = apply update, 5000 = restore in progress |
/// | 10 | 2 | 0001 = update succeeded |
/// | 12 | 2 | AAAA = factory reset requested |
/// | 14 | 2 | D001 = watchdog on |
/// | 16 | 1 | enter DFU when no firmware |
/// | 17 | 1 | 5A = the bootloader just did a factory reset |
/// | 18 | 1 | 01 = start in safe mode |
/// | 19 | 1 | enabled features, see [`enabled_features`](Self::enabled_features) |
/// | 20 | 4 | cause of the last reset (`RCC_CSR`) |
/// | 24 | 8 | reserved |
///
/// Integers are little-endian; FFFF means "nothing requested". From v0.7.0 on the flags live in RTC backup
/// registers and this field keeps its last content.
///
/// # Source
/// `device-os@v0.4.0..v0.6.4`: `platform_system_flags_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemFlags<'a> {
    raw: &'a [u8; 32],
}

/// `header` of initialised flags, as u32 (bytes `C0 AC DE 1A`).
pub const HEADER: u32 = 0x1ADE_ACC0;

impl<'a> SystemFlags<'a> {
    /// Looks at the 32 bytes of the field; every content is accepted.
    #[must_use]
    pub const fn new(raw: &'a [u8; 32]) -> Self {
        Self { raw }
    }

    /// The bytes themselves.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8; 32] {
        self.raw
    }

    /// Header word; [`HEADER`] when the firmware has initialised the flags.
    #[must_use]
    pub const fn header(&self) -> u32 {
        let r = self.raw;
        u32::from_le_bytes([r[0], r[1], r[2], r[3]])
    }

    /// Bootloader version, `None` when erased.
    #[must_use]
    pub const fn bootloader_version(&self) -> Option<u16> {
        let r = self.raw;
        match u16::from_le_bytes([r[4], r[5]]) {
            0xFFFF => None,
            version => Some(version),
        }
    }

    /// Whether a reset of the radio's non-volatile memory is requested (Core only).
    #[must_use]
    pub const fn nvmem_reset_requested(&self) -> bool {
        let r = self.raw;
        u16::from_le_bytes([r[6], r[7]]) == 0x0001
    }

    /// State of a monolithic update.
    #[must_use]
    pub const fn flash_update(&self) -> FlashUpdate {
        let r = self.raw;
        match u16::from_le_bytes([r[8], r[9]]) {
            0xFFFF => FlashUpdate::None,
            0x0005 => FlashUpdate::Apply,
            0x5000 => FlashUpdate::Restore,
            other => FlashUpdate::Other(other),
        }
    }

    /// Whether the last update succeeded.
    #[must_use]
    pub const fn update_succeeded(&self) -> bool {
        let r = self.raw;
        u16::from_le_bytes([r[10], r[11]]) == 0x0001
    }

    /// Whether a factory reset is requested.
    #[must_use]
    pub const fn factory_reset_requested(&self) -> bool {
        let r = self.raw;
        u16::from_le_bytes([r[12], r[13]]) == 0xAAAA
    }

    /// Whether the independent watchdog is switched on.
    #[must_use]
    pub const fn watchdog_enabled(&self) -> bool {
        let r = self.raw;
        u16::from_le_bytes([r[14], r[15]]) == 0xD001
    }

    /// `dfu_on_no_firmware`, raw.
    #[must_use]
    pub const fn dfu_on_no_firmware(&self) -> u8 {
        self.raw[16]
    }

    /// Whether the bootloader has just done a factory reset.
    #[must_use]
    pub const fn factory_reset_done(&self) -> bool {
        self.raw[17] == 0x5A
    }

    /// Whether the next start shall be in safe mode.
    #[must_use]
    pub const fn safe_mode_requested(&self) -> bool {
        self.raw[18] == 0x01
    }

    /// The start modes that are allowed.
    ///
    /// Bits 0 (safe mode), 1 (DFU mode) and 2 (factory reset) of byte 19. When a bit of the low nibble is cleared,
    /// the high nibble has to be the inverse of the low one; otherwise the byte is corrupt and all are enabled.
    #[must_use]
    pub const fn enabled_features(&self) -> EnabledFeatures {
        let raw = self.raw[19];
        let low = raw & 0x0F;
        let believed = low == 0x0F || (raw >> 4) == (!low & 0x0F);
        let bits = if believed { low } else { 0x0F };
        EnabledFeatures { safe_mode: bits & 1 != 0, dfu_mode: bits & 2 != 0, factory_reset: bits & 4 != 0 }
    }

    /// Cause of the last reset as read from `RCC_CSR`.
    #[must_use]
    pub const fn rcc_csr(&self) -> u32 {
        let r = self.raw;
        u32::from_le_bytes([r[20], r[21], r[22], r[23]])
    }
}

/// Value of `FLASH_OTA_Update`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FlashUpdate {
    /// FFFF: nothing to do.
    None,
    /// 0005: apply the update.
    Apply,
    /// 5000: a restore is in progress.
    Restore,
    /// Any other value.
    Other(u16),
}

/// Start modes that the device allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct EnabledFeatures {
    /// Safe mode.
    pub safe_mode: bool,
    /// DFU mode.
    pub dfu_mode: bool,
    /// Factory reset.
    pub factory_reset: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(offset: usize, bytes: &[u8]) -> [u8; 32] {
        let mut raw = [0xFF; 32];
        raw[offset..offset + bytes.len()].copy_from_slice(bytes);
        raw
    }

    #[test]
    fn erased_flags_request_nothing_and_enable_everything() {
        let raw = [0xFF; 32];
        let flags = SystemFlags::new(&raw);
        assert_eq!(flags.flash_update(), FlashUpdate::None);
        assert!(!flags.factory_reset_requested());
        assert!(!flags.safe_mode_requested());
        assert_eq!(flags.bootloader_version(), None);
        assert_eq!(
            flags.enabled_features(),
            EnabledFeatures { safe_mode: true, dfu_mode: true, factory_reset: true }
        );
    }

    #[test]
    fn each_flag_is_read_at_its_offset() {
        assert_eq!(SystemFlags::new(&with(0, &[0xC0, 0xAC, 0xDE, 0x1A])).header(), HEADER);
        assert_eq!(SystemFlags::new(&with(4, &[7, 0])).bootloader_version(), Some(7));
        assert!(SystemFlags::new(&with(6, &[1, 0])).nvmem_reset_requested());
        assert_eq!(SystemFlags::new(&with(8, &[5, 0])).flash_update(), FlashUpdate::Apply);
        assert_eq!(SystemFlags::new(&with(8, &[0, 0x50])).flash_update(), FlashUpdate::Restore);
        assert_eq!(SystemFlags::new(&with(8, &[1, 0])).flash_update(), FlashUpdate::Other(1));
        assert!(SystemFlags::new(&with(10, &[1, 0])).update_succeeded());
        assert!(SystemFlags::new(&with(12, &[0xAA, 0xAA])).factory_reset_requested());
        assert!(SystemFlags::new(&with(14, &[0x01, 0xD0])).watchdog_enabled());
        assert_eq!(SystemFlags::new(&with(16, &[3])).dfu_on_no_firmware(), 3);
        assert!(SystemFlags::new(&with(17, &[0x5A])).factory_reset_done());
        assert!(SystemFlags::new(&with(18, &[1])).safe_mode_requested());
        assert_eq!(SystemFlags::new(&with(20, &[1, 2, 3, 4])).rcc_csr(), 0x0403_0201);
    }

    #[test]
    fn disabled_features_need_the_inverse_in_the_high_nibble() {
        // low nibble 1110 (safe mode off), high nibble 0001
        assert!(!SystemFlags::new(&with(19, &[0x1E])).enabled_features().safe_mode);
        // corrupt: everything stays enabled
        assert!(SystemFlags::new(&with(19, &[0xFE])).enabled_features().safe_mode);
        assert!(SystemFlags::new(&with(19, &[0x00])).enabled_features().factory_reset);
    }
}
