//! Power management settings (v1.5.0 and later).

/// The `power_config` field.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 4 | flags: bit 0 detect the PMIC, bit 8 management off, bit 9 use the VIN settings with a USB host |
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
/// `device-os@v1.5.0..v2.3.1`: `hal_power_config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PowerConfig {
    /// Flags, see [`DETECT_PMIC`], [`DISABLE`] and [`USE_VIN_SETTINGS_WITH_USB_HOST`].
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
/// Flag: detect the power management chip.
pub const DETECT_PMIC: u32 = 1;
/// Flag: no power management.
pub const DISABLE: u32 = 1 << 8;
/// Flag: use the VIN settings with a USB host, too.
pub const USE_VIN_SETTINGS_WITH_USB_HOST: u32 = 1 << 9;

impl PowerConfig {
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
            flags: DETECT_PMIC | DISABLE,
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

    proptest! {
        #[test]
        fn any_field_survives_a_round_trip(raw: [u8; LEN]) {
            prop_assert_eq!(PowerConfig::decode(&raw).encode(), raw);
        }
    }
}
