//! The 20-byte records of `flash_modules`: module copies that the bootloader does at the next start.

/// One entry of `flash_modules`.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 2 | magic, see [`SlotMagic`] |
/// | 2 | 1 | source device: 0 internal flash, 1 serial flash |
/// | 3 | 1 | destination device |
/// | 4 | 4 | source address |
/// | 8 | 4 | destination address |
/// | 12 | 4 | length, the 4-byte CRC included |
/// | 16 | 1 | flags |
/// | 17 | 1 | module function |
/// | 18 | 2 | reserved |
///
/// Integers are little-endian. Slot 0 is the factory copy, slots 1 to 4 are pending copies. The bootloader first
/// sets the magic to FFFF and then copies.
///
/// # Source
/// `device-os@v0.4.0..v2.3.1`: `platform_flash_modules_t`; the layout is the same in every tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FlashModule {
    /// Whether and how the slot is used.
    pub magic: SlotMagic,
    /// Where the copy comes from: 0 internal flash, 1 serial flash.
    pub source_device: u8,
    /// Where the copy goes: 0 internal flash, 1 serial flash.
    pub destination_device: u8,
    /// First byte of the module on the source device.
    pub source_address: u32,
    /// First byte on the destination device.
    pub destination_address: u32,
    /// Bytes to copy, the module's 4-byte CRC included.
    pub length: u32,
    /// What the bootloader verifies, see [`VERIFY_CRC`], [`VERIFY_DESTINATION`] and [`VERIFY_FUNCTION`].
    pub flags: u8,
    /// Module function that is expected.
    pub module_function: u8,
    /// Kept as found.
    pub reserved: [u8; 2],
}

/// Length of a record.
pub const LEN: usize = 20;
/// Number of records in the field.
pub const SLOTS: usize = 5;
/// Bit 1 of the flags: verify the CRC.
pub const VERIFY_CRC: u8 = 1 << 1;
/// Bit 2 of the flags: the destination has to be the module's start address.
pub const VERIFY_DESTINATION: u8 = 1 << 2;
/// Bit 3 of the flags: verify function and length (the firmware has two names for this bit).
pub const VERIFY_FUNCTION: u8 = 1 << 3;

impl FlashModule {
    /// An erased, free slot.
    pub const FREE: FlashModule = FlashModule::decode(&[0xFF; LEN]);

    /// The entry that the firmware makes for the factory copy of a Photon: 080E0000 to 080A0000.
    #[must_use]
    pub const fn photon_factory(length: u32) -> Self {
        FlashModule {
            magic: SlotMagic::Factory,
            source_device: 0,
            destination_device: 0,
            source_address: 0x080E_0000,
            destination_address: 0x080A_0000,
            length,
            flags: VERIFY_CRC | VERIFY_DESTINATION | VERIFY_FUNCTION,
            module_function: 5,
            reserved: [0xFF; 2],
        }
    }

    /// Reads a record; every content is accepted.
    #[must_use]
    pub const fn decode(raw: &[u8; LEN]) -> Self {
        FlashModule {
            magic: SlotMagic::from_u16(u16::from_le_bytes([raw[0], raw[1]])),
            source_device: raw[2],
            destination_device: raw[3],
            source_address: u32::from_le_bytes([raw[4], raw[5], raw[6], raw[7]]),
            destination_address: u32::from_le_bytes([raw[8], raw[9], raw[10], raw[11]]),
            length: u32::from_le_bytes([raw[12], raw[13], raw[14], raw[15]]),
            flags: raw[16],
            module_function: raw[17],
            reserved: [raw[18], raw[19]],
        }
    }

    /// Writes a record.
    #[must_use]
    pub const fn encode(&self) -> [u8; LEN] {
        let [m0, m1] = self.magic.to_u16().to_le_bytes();
        let [s0, s1, s2, s3] = self.source_address.to_le_bytes();
        let [d0, d1, d2, d3] = self.destination_address.to_le_bytes();
        let [l0, l1, l2, l3] = self.length.to_le_bytes();
        let [r0, r1] = self.reserved;
        [
            m0,
            m1,
            self.source_device,
            self.destination_device,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
            l0,
            l1,
            l2,
            l3,
            self.flags,
            self.module_function,
            r0,
            r1,
        ]
    }

    /// Whether the bootloader will act on the slot.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        matches!(self.magic, SlotMagic::Used)
    }
}

/// First two bytes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SlotMagic {
    /// ABCD: a copy is pending.
    Used,
    /// 0FAC: the factory copy (slot 0).
    Factory,
    /// FFFF: free.
    Free,
    /// Anything else; v0.4.x writes 0000 when a copy is done.
    Other(u16),
}

impl SlotMagic {
    /// From the stored number.
    #[must_use]
    pub const fn from_u16(magic: u16) -> Self {
        match magic {
            0xABCD => SlotMagic::Used,
            0x0FAC => SlotMagic::Factory,
            0xFFFF => SlotMagic::Free,
            other => SlotMagic::Other(other),
        }
    }

    /// The stored number.
    #[must_use]
    pub const fn to_u16(self) -> u16 {
        match self {
            SlotMagic::Used => 0xABCD,
            SlotMagic::Factory => 0x0FAC,
            SlotMagic::Free => 0xFFFF,
            SlotMagic::Other(other) => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    #[test]
    fn record_maps_to_its_bytes_both_ways() {
        let cases = [
            (
                FlashModule {
                    magic: SlotMagic::Used,
                    source_device: 0,
                    destination_device: 1,
                    source_address: 0x080C_0000,
                    destination_address: 0x0802_0000,
                    length: 0x1_2345,
                    flags: VERIFY_CRC | VERIFY_DESTINATION | VERIFY_FUNCTION,
                    module_function: 4,
                    reserved: [0, 0],
                },
                hex!("CDAB 00 01 00000C08 00000208 45230100 0E 04 0000"),
            ),
            (FlashModule::photon_factory(0x2_0000), hex!("AC0F 00 00 00000E08 00000A08 00000200 0E 05 FFFF")),
            (FlashModule::FREE, [0xFF; LEN]),
        ];
        for (value, bytes) in cases {
            assert_eq!(value.encode(), bytes);
            assert_eq!(FlashModule::decode(&bytes), value);
        }
    }

    #[test]
    fn only_the_used_magic_is_pending() {
        assert!(!FlashModule::FREE.is_pending());
        assert!(!FlashModule::photon_factory(1).is_pending());
        assert!(FlashModule { magic: SlotMagic::Used, ..FlashModule::FREE }.is_pending());
    }

    proptest! {
        #[test]
        fn any_record_survives_a_round_trip(raw: [u8; LEN]) {
            prop_assert_eq!(FlashModule::decode(&raw).encode(), raw);
        }
    }
}
