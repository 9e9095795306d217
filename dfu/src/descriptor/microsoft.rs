//! Microsoft's descriptors that make Windows load WinUSB without an .inf file ("WCID").
//!
//! # Source
//! Microsoft OS 1.0 Descriptors Specification; device-os@v0.6.0 and later answer vendor code 0xEE.

use super::STRING;

/// Index of the string that announces the vendor code.
pub const STRING_INDEX: u8 = 0xEE;
/// The vendor code of Particle's bootloaders.
pub const PARTICLE_VENDOR_CODE: u8 = 0xEE;
/// wIndex of the vendor request for [`compatible_id`]; bmRequestType is 0xC0, bRequest the vendor code.
pub const COMPATIBLE_ID_INDEX: u16 = 4;

/// The OS string descriptor: "MSFT100" and the vendor code.
///
/// | offset | size | field | |
/// |---|---|---|---|
/// | 0 | 1 | `bLength` | 18 |
/// | 1 | 1 | `bDescriptorType` | 3 |
/// | 2 | 14 | `qwSignature` | "MSFT100" in UTF-16 |
/// | 16 | 1 | `bMS_VendorCode` | bRequest of the request to come |
/// | 17 | 1 | `bPad` | 0 |
#[must_use]
pub const fn os_string(vendor_code: u8) -> [u8; 18] {
    [18, STRING, b'M', 0, b'S', 0, b'F', 0, b'T', 0, b'1', 0, b'0', 0, b'0', 0, vendor_code, 0]
}

/// The extended compat ID descriptor: one function, `WINUSB`.
///
/// | offset | size | field | |
/// |---|---|---|---|
/// | 0 | 4 | `dwLength` | 40 |
/// | 4 | 2 | `bcdVersion` | 0x0100 |
/// | 6 | 2 | `wIndex` | 4 |
/// | 8 | 1 | `bCount` | 1, then 7 reserved bytes |
/// | 16 | 1 | `bFirstInterfaceNumber` | then one byte 1 |
/// | 18 | 8 | `compatibleID` | "WINUSB" and two zeros |
/// | 26 | 8 | `subCompatibleID` | zeros, then 6 reserved bytes |
#[must_use]
pub const fn compatible_id(interface: u8) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[0] = 40;
    bytes[5] = 1;
    bytes[6] = 4;
    bytes[8] = 1;
    bytes[16] = interface;
    bytes[17] = 1;
    let name = b"WINUSB";
    let mut at = 0;
    while at < name.len() {
        bytes[18 + at] = name[at];
        at += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    #[test]
    fn descriptors_have_the_bytes_of_the_specification() {
        assert_eq!(os_string(0xEE), hex!("12 03 4D00 5300 4600 5400 3100 3000 3000 EE 00"));
        assert_eq!(
            compatible_id(2),
            hex!(
                "28000000 0001 0400 01 00000000000000
                 02 01 57494E5553420000 0000000000000000 000000000000"
            )
        );
    }
}
