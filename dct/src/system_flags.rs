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
        match features_from_byte(self.raw[19]) {
            Some(features) => features,
            None => EnabledFeatures::ALL,
        }
    }

    /// Cause of the last reset as read from `RCC_CSR`.
    #[must_use]
    pub const fn rcc_csr(&self) -> u32 {
        let r = self.raw;
        u32::from_le_bytes([r[20], r[21], r[22], r[23]])
    }
}

/// `None` when the byte is corrupt, which enables everything.
pub(crate) const fn features_from_byte(raw: u8) -> Option<EnabledFeatures> {
    let low = raw & 0x0F;
    if low == 0x0F || (raw >> 4) == (!low & 0x0F) {
        Some(EnabledFeatures { safe_mode: low & 1 != 0, dfu_mode: low & 2 != 0, factory_reset: low & 4 != 0 })
    } else {
        None
    }
}

/// Editor of the `system_flags` field; the layout is that of [`SystemFlags`]. Every setter changes only its own bytes.
///
/// From v0.7.0 on firmware keeps these flags in backup registers: what is set here is not looked at.
#[derive(Debug)]
pub struct SystemFlagsMut<'a> {
    raw: &'a mut [u8; 32],
}

impl<'a> SystemFlagsMut<'a> {
    /// Takes the 32 bytes of the field for editing.
    #[must_use]
    pub const fn new(raw: &'a mut [u8; 32]) -> Self {
        Self { raw }
    }

    /// The flags as they are now.
    #[must_use]
    pub const fn view(&self) -> SystemFlags<'_> {
        SystemFlags { raw: self.raw }
    }

    /// Writes [`HEADER`], as firmware does when it initialises the flags.
    pub fn set_header(&mut self) {
        self.put(0, HEADER.to_le_bytes());
    }

    /// Sets the bootloader version, `None` erases it.
    pub fn set_bootloader_version(&mut self, version: Option<u16>) {
        self.put(4, version.unwrap_or(0xFFFF).to_le_bytes());
    }

    /// Requests a reset of the radio's non-volatile memory (Core only).
    pub fn set_nvmem_reset(&mut self, requested: bool) {
        self.put_u16(6, requested, 0x0001, 0xFFFF);
    }

    /// Sets the state of a monolithic update.
    pub fn set_flash_update(&mut self, update: FlashUpdate) {
        let number: u16 = match update {
            FlashUpdate::None => 0xFFFF,
            FlashUpdate::Apply => 0x0005,
            FlashUpdate::Restore => 0x5000,
            FlashUpdate::Other(other) => other,
        };
        self.put(8, number.to_le_bytes());
    }

    /// Sets whether the last update succeeded.
    pub fn set_update_succeeded(&mut self, succeeded: bool) {
        self.put_u16(10, succeeded, 0x0001, 0x0000);
    }

    /// Requests a factory reset.
    pub fn set_factory_reset(&mut self, requested: bool) {
        self.put_u16(12, requested, 0xAAAA, 0xFFFF);
    }

    /// Switches the independent watchdog.
    pub fn set_watchdog(&mut self, on: bool) {
        self.put_u16(14, on, 0xD001, 0xFFFF);
    }

    /// Sets `dfu_on_no_firmware`, raw.
    pub fn set_dfu_on_no_firmware(&mut self, value: u8) {
        self.put(16, [value]);
    }

    /// Sets or clears the bootloader's "just did a factory reset".
    pub fn set_factory_reset_done(&mut self, done: bool) {
        self.put(17, [if done { 0x5A } else { 0xFF }]);
    }

    /// Requests safe mode for the next start.
    pub fn set_safe_mode(&mut self, requested: bool) {
        self.put(18, [u8::from(requested)]);
    }

    /// Sets the allowed start modes, with the inverse in the high nibble where one is off.
    pub fn set_enabled_features(&mut self, features: EnabledFeatures) {
        self.put(19, [features.to_byte()]);
    }

    /// Sets the cause of the last reset.
    pub fn set_rcc_csr(&mut self, cause: u32) {
        self.put(20, cause.to_le_bytes());
    }

    fn put_u16(&mut self, at: usize, set: bool, on: u16, off: u16) {
        self.put(at, if set { on } else { off }.to_le_bytes());
    }

    fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        self.raw.iter_mut().skip(at).zip(bytes).for_each(|(slot, byte)| *slot = byte);
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

impl EnabledFeatures {
    /// Everything, as erased flash has it.
    pub const ALL: EnabledFeatures = EnabledFeatures { safe_mode: true, dfu_mode: true, factory_reset: true };
    /// Nothing: the device starts its application and nothing else.
    pub const NONE: EnabledFeatures =
        EnabledFeatures { safe_mode: false, dfu_mode: false, factory_reset: false };

    /// The byte that firmware believes: bits 0 to 2, bit 3 set, and in the high nibble the inverse of the low one; FF
    /// when everything is on.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        let low = 8 | self.safe_mode as u8 | (self.dfu_mode as u8) << 1 | (self.factory_reset as u8) << 2;
        if low == 0x0F { 0xFF } else { (!low & 0x0F) << 4 | low }
    }
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
    fn each_setter_is_read_back_and_changes_its_own_bytes_only() {
        type Set = fn(&mut SystemFlagsMut<'_>);
        let cases: [(Set, core::ops::Range<usize>, &[u8]); 12] = [
            (|f| f.set_header(), 0..4, &[0xC0, 0xAC, 0xDE, 0x1A]),
            (|f| f.set_bootloader_version(Some(7)), 4..6, &[7, 0]),
            (|f| f.set_nvmem_reset(true), 6..8, &[1, 0]),
            (|f| f.set_flash_update(FlashUpdate::Restore), 8..10, &[0, 0x50]),
            (|f| f.set_update_succeeded(true), 10..12, &[1, 0]),
            (|f| f.set_factory_reset(true), 12..14, &[0xAA, 0xAA]),
            (|f| f.set_watchdog(true), 14..16, &[0x01, 0xD0]),
            (|f| f.set_dfu_on_no_firmware(1), 16..17, &[1]),
            (|f| f.set_factory_reset_done(true), 17..18, &[0x5A]),
            (|f| f.set_safe_mode(true), 18..19, &[1]),
            (
                |f| f.set_enabled_features(EnabledFeatures { dfu_mode: false, ..EnabledFeatures::ALL }),
                19..20,
                &[0x2D],
            ),
            (|f| f.set_rcc_csr(0x0102_0304), 20..24, &[4, 3, 2, 1]),
        ];
        for (set, range, bytes) in cases {
            let mut raw = [0x77; 32];
            set(&mut SystemFlagsMut::new(&mut raw));
            assert_eq!(&raw[range.clone()], bytes);
            let others = raw.iter().enumerate().filter(|(at, _)| !range.contains(at));
            assert!(others.into_iter().all(|(_, byte)| *byte == 0x77), "{range:?}");
        }
    }

    #[test]
    fn every_set_of_features_survives_its_byte() {
        for bits in 0..8 {
            let features = EnabledFeatures {
                safe_mode: bits & 1 != 0,
                dfu_mode: bits & 2 != 0,
                factory_reset: bits & 4 != 0,
            };
            assert_eq!(features_from_byte(features.to_byte()), Some(features));
        }
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
