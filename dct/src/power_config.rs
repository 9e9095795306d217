//! Power management settings (v1.5.0 and later).

/// The `power_config` field.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 4 | flags, **the lowest byte inverted**: bit 0 is 0 to detect the PMIC; bit 8 management off, bit 9 use the VIN settings with a USB host |
/// | 4 | 1 | version |
/// | 5 | 1 | size |
/// | 6 | 2 | lowest voltage at VIN, mV |
/// | 8 | 2 | highest current at VIN, mA |
/// | 10 | 2 | charge current, mA |
/// | 12 | 2 | termination voltage, mV |
/// | 14 | 18 | reserved |
///
/// Integers are little-endian.
///
/// # Source
/// `device-os@v1.5.0..v2.3.1`: `hal_power_config`, `hal_power_load_config` (which inverts the lowest byte of the flags),
/// `PowerManager::loadConfig` (which settings count).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PowerConfig {
    /// Flags as they are stored, see [`DO_NOT_DETECT_PMIC`], [`DISABLE`] and [`USE_VIN_SETTINGS_WITH_USB_HOST`]. Of an unset
    /// field firmware takes [`DEFAULT_FLAGS`]; but beside a version and a size it takes erased flags for set ones.
    pub flags: u32,
    /// Version of the structure.
    pub version: u8,
    /// Size of the structure.
    pub size: u8,
    /// Lowest voltage at VIN, in mV.
    pub vin_min_mv: u16,
    /// Highest current at VIN, in mA.
    pub vin_max_ma: u16,
    /// Charge current, in mA.
    pub charge_ma: u16,
    /// Termination voltage, in mV.
    pub termination_mv: u16,
    /// Kept as found.
    pub reserved: [u8; 18],
}

/// Length of the field.
pub const LEN: usize = 32;
/// Flag: do not detect the power management chip. The firmware's own flag says the opposite; it inverts the lowest byte of the
/// flags when it reads and writes them, so that an erased one means "no detection" as it did before v1.5.0.
pub const DO_NOT_DETECT_PMIC: u32 = 1;
/// Flag: no power management.
pub const DISABLE: u32 = 1 << 8;
/// Flag: use the VIN settings with a USB host, too.
pub const USE_VIN_SETTINGS_WITH_USB_HOST: u32 = 1 << 9;
/// What erased flags stand for: nothing is on. (The lowest byte is stored inverted.)
pub const DEFAULT_FLAGS: u32 = 0xFF;

impl PowerConfig {
    /// What firmware makes of an erased field: no flag, version 0, and its own limits, which are unset here (FFFF). A change of an
    /// unset field begins from here.
    pub const DEFAULT: PowerConfig = PowerConfig {
        flags: DEFAULT_FLAGS,
        version: 0,
        size: 32,
        vin_min_mv: 0xFFFF,
        vin_max_ma: 0xFFFF,
        charge_ma: 0xFFFF,
        termination_mv: 0xFFFF,
        reserved: [0xFF; 18],
    };

    /// Whether firmware takes these settings: version and size are there. If not it takes its defaults, and of the flags only
    /// whether the PMIC is detected.
    #[must_use]
    pub const fn is_taken(&self) -> bool {
        self.version != 0xFF && self.size != 0xFF
    }

    /// A flag other than [`DO_NOT_DETECT_PMIC`] as firmware takes it: off where the settings are not [taken](Self::is_taken).
    const fn is_flag_on(&self, flag: u32) -> bool {
        self.is_taken() && self.flags & flag != 0
    }

    /// Whether firmware leaves the power management alone.
    #[must_use]
    pub const fn is_management_disabled(&self) -> bool {
        self.is_flag_on(DISABLE)
    }

    /// Whether firmware uses the VIN settings with a USB host, too.
    #[must_use]
    pub const fn uses_vin_settings_with_usb_host(&self) -> bool {
        self.is_flag_on(USE_VIN_SETTINGS_WITH_USB_HOST)
    }

    /// Whether firmware looks for the power management chip.
    #[must_use]
    pub const fn detects_pmic(&self) -> bool {
        self.flags & DO_NOT_DETECT_PMIC == 0
    }

    /// Reads the field; every content is accepted.
    #[must_use]
    pub fn decode(raw: &[u8; LEN]) -> Self {
        let [f0, f1, f2, f3, version, size, a0, a1, b0, b1, c0, c1, d0, d1, reserved @ ..] = *raw;
        PowerConfig {
            flags: u32::from_le_bytes([f0, f1, f2, f3]),
            version,
            size,
            vin_min_mv: u16::from_le_bytes([a0, a1]),
            vin_max_ma: u16::from_le_bytes([b0, b1]),
            charge_ma: u16::from_le_bytes([c0, c1]),
            termination_mv: u16::from_le_bytes([d0, d1]),
            reserved,
        }
    }

    /// Writes the field.
    #[must_use]
    pub fn encode(&self) -> [u8; LEN] {
        let mut raw = [0; LEN];
        let bytes = self.flags.to_le_bytes().into_iter().chain([self.version, self.size]);
        let numbers = [self.vin_min_mv, self.vin_max_ma, self.charge_ma, self.termination_mv];
        let bytes = bytes.chain(numbers.into_iter().flat_map(u16::to_le_bytes)).chain(self.reserved);
        raw.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = byte);
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    #[test]
    fn field_maps_to_its_bytes_both_ways() {
        let value = PowerConfig {
            flags: DO_NOT_DETECT_PMIC | DISABLE,
            version: 0,
            size: 32,
            vin_min_mv: 3880,
            vin_max_ma: 900,
            charge_ma: 896,
            termination_mv: 4112,
            reserved: [0; 18],
        };
        let bytes = hex!("01010000 00 20 280F 8403 8003 1010 000000000000000000000000000000000000");
        assert_eq!(value.encode(), bytes);
        assert_eq!(PowerConfig::decode(&bytes), value);
    }

    #[test]
    fn nothing_is_on_in_settings_that_are_not_taken() {
        for config in [PowerConfig::decode(&[0xFF; LEN]), PowerConfig::DEFAULT] {
            assert!(!config.is_management_disabled() && !config.uses_vin_settings_with_usb_host());
            assert!(!config.detects_pmic());
        }
        let config = PowerConfig { flags: DISABLE, ..PowerConfig::DEFAULT };
        assert!(config.is_taken() && config.is_management_disabled() && config.detects_pmic());
        for config in [PowerConfig { version: 0xFF, ..config }, PowerConfig { size: 0xFF, ..config }] {
            assert!(!config.is_taken() && !config.is_management_disabled() && config.detects_pmic());
        }
    }

    proptest! {
        #[test]
        fn any_field_survives_a_round_trip(raw: [u8; LEN]) {
            prop_assert_eq!(PowerConfig::decode(&raw).encode(), raw);
        }
    }
}
