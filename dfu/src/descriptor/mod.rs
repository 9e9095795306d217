//! Descriptors: the DFU functional descriptor, what a device sends, and what a host looks for.
//!
//! [`FunctionalDescriptor`] is the nine bytes that both sides need. [`Description`] generates every descriptor of a
//! DFU-mode device from one value. [`Configuration`] walks the descriptors of a foreign device.

mod configuration;
mod description;
mod functional;
pub mod microsoft;

pub use configuration::{Alternate, Alternates, Configuration, Mode, RawDescriptor, RawDescriptors};
pub use description::{Commands, Description};
pub use functional::{Attributes, FunctionalDescriptor, FunctionalDescriptorView};

/// Descriptor type of the device descriptor.
pub const DEVICE: u8 = 1;
/// Descriptor type of the configuration descriptor.
pub const CONFIGURATION: u8 = 2;
/// Descriptor type of a string descriptor.
pub const STRING: u8 = 3;
/// Descriptor type of the interface descriptor.
pub const INTERFACE: u8 = 4;
/// Descriptor type of the DFU functional descriptor.
pub const DFU_FUNCTIONAL: u8 = 0x21;

/// Bytes that are not the descriptor they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptorError {
    /// The input ends inside the descriptor.
    #[error("the descriptor at byte {offset} needs {needed} bytes but {available} are left")]
    Truncated {
        /// Where the descriptor starts.
        offset: usize,
        /// Bytes the descriptor claims or needs.
        needed: usize,
        /// Bytes at hand.
        available: usize,
    },
    /// `bLength` has a value that no descriptor of this type can have.
    #[error("the descriptor at byte {offset} claims an impossible length of {length}")]
    Length {
        /// Where the descriptor starts.
        offset: usize,
        /// The value of `bLength`.
        length: u8,
    },
    /// `bDescriptorType` is another one.
    #[error("expected a descriptor of type {expected:#04x} but found type {found:#04x}")]
    Type {
        /// The type looked for.
        expected: u8,
        /// The type found.
        found: u8,
    },
}

/// Decodes a string descriptor (UTF-16) into UTF-8, cut at the first NUL.
///
/// `bLength` is not trusted beyond what arrived: the ROM of the STM32F427 declares more than it sends. Characters that
/// are not valid UTF-16 become U+FFFD. Text that does not fit into `out` is cut at a character.
///
/// # Errors
/// [`DescriptorError`] if this is no string descriptor.
///
/// # Source
/// USB 2.0, section 9.6.7; trailing NULs: device-os@v0.5.3: bootloader/src/core/usb_desc.c.
pub fn decode_string<'o>(descriptor: &[u8], out: &'o mut [u8]) -> Result<&'o str, DescriptorError> {
    let units = string_units(descriptor)?;
    let mut len = 0_usize;
    for character in characters(units) {
        let mut utf8 = [0; 4];
        let utf8 = character.encode_utf8(&mut utf8).as_bytes();
        let Some(target) = out.get_mut(len..len.saturating_add(utf8.len())) else { break };
        target.copy_from_slice(utf8);
        len += utf8.len();
    }
    let written = out.get(..len).unwrap_or_default();
    // Only whole characters were copied, so the fallback is never taken.
    Ok(core::str::from_utf8(written).unwrap_or_default())
}

/// [`decode_string`] into a new `String`.
///
/// # Errors
/// [`DescriptorError`] if this is no string descriptor.
#[cfg(feature = "alloc")]
pub fn decode_string_owned(descriptor: &[u8]) -> Result<alloc::string::String, DescriptorError> {
    Ok(characters(string_units(descriptor)?).collect())
}

fn string_units(descriptor: &[u8]) -> Result<&[u8], DescriptorError> {
    let &[length, found, ref units @ ..] = descriptor else {
        return Err(DescriptorError::Truncated { offset: 0, needed: 2, available: descriptor.len() });
    };
    if found != STRING {
        return Err(DescriptorError::Type { expected: STRING, found });
    }
    let Some(claimed) = usize::from(length).checked_sub(2) else {
        return Err(DescriptorError::Length { offset: 0, length });
    };
    Ok(units.get(..claimed).unwrap_or(units))
}

fn characters(units: &[u8]) -> impl Iterator<Item = char> + '_ {
    let units = units.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit));
    char::decode_utf16(units.take_while(|unit| *unit != 0)).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    #[test]
    fn string_is_cut_at_nul_and_at_what_arrived() {
        let mut out = [0; 8];
        assert_eq!(decode_string(&hex!("0A 03 4000 4200 0000 4300"), &mut out), Ok("@B"));
        assert_eq!(decode_string(&hex!("FF 03 4000 4200 43"), &mut out), Ok("@B"));
        assert_eq!(decode_string(&hex!("06 03 3DD8 00DE"), &mut out), Ok("\u{1F600}"));
        assert_eq!(decode_string(&hex!("04 03 3DD8"), &mut out), Ok("\u{FFFD}"));
    }

    #[test]
    fn string_that_does_not_fit_is_cut_at_a_character() {
        let mut out = [0; 3];
        assert_eq!(decode_string(&hex!("06 03 E400 E400"), &mut out), Ok("\u{E4}"));
    }

    #[test]
    fn other_descriptors_are_no_strings() {
        let mut out = [0; 8];
        assert_eq!(
            decode_string(&[4], &mut out),
            Err(DescriptorError::Truncated { offset: 0, needed: 2, available: 1 })
        );
        assert_eq!(decode_string(&[1, 3], &mut out), Err(DescriptorError::Length { offset: 0, length: 1 }));
        assert_eq!(
            decode_string(&[4, 2, 0, 0], &mut out),
            Err(DescriptorError::Type { expected: 3, found: 2 })
        );
    }
}
