//! The DFU functional descriptor.

use core::time::Duration;

use super::{DFU_FUNCTIONAL, DescriptorError};
use crate::error::BufferTooSmall;

/// `bmAttributes` of the functional descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_structs, reason = "one byte of bits")]
pub struct Attributes(pub u8);

impl Attributes {
    /// What Photon, P1, Electron and Core declare: 0x0B, that is download, upload, will detach.
    pub const PARTICLE: Self = Self(0x0B);

    /// `bitCanDnload` (bit 0).
    #[must_use]
    pub const fn can_download(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// `bitCanUpload` (bit 1).
    #[must_use]
    pub const fn can_upload(self) -> bool {
        self.0 & 0x02 != 0
    }

    /// `bitManifestationTolerant` (bit 2): still talks after manifestation.
    #[must_use]
    pub const fn manifestation_tolerant(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// `bitWillDetach` (bit 3, DFU 1.1): detaches by itself after DFU_DETACH.
    #[must_use]
    pub const fn will_detach(self) -> bool {
        self.0 & 0x08 != 0
    }
}

/// A checked functional descriptor in the bytes of a foreign device.
///
/// | offset | size | field | |
/// |---|---|---|---|
/// | 0 | 1 | `bLength` | 9; 7 in DFU 1.0; longer ones have an unknown tail |
/// | 1 | 1 | `bDescriptorType` | 0x21 |
/// | 2 | 1 | `bmAttributes` | see [`Attributes`] |
/// | 3 | 2 | `wDetachTimeOut` | little-endian milliseconds |
/// | 5 | 2 | `wTransferSize` | little-endian bytes |
/// | 7 | 2 | `bcdDFUVersion` | little-endian BCD; absent in the 7-byte form |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionalDescriptorView<'a> {
    common: &'a [u8; 7],
    version: Option<&'a [u8; 2]>,
    tail: &'a [u8],
}

impl<'a> FunctionalDescriptorView<'a> {
    /// Reads a descriptor at the start of `input` and returns what follows it.
    ///
    /// Lengths 7, 9 and more are accepted.
    ///
    /// # Errors
    /// [`DescriptorError::Length`] for 0 to 6 and 8, [`DescriptorError::Type`] for another type,
    /// [`DescriptorError::Truncated`] if `bLength` is more than there is.
    ///
    /// # Source
    /// USB DFU 1.1, table 4.2; DFU 1.0, section 4.1.3 (seven bytes).
    pub fn parse_prefix(input: &'a [u8]) -> Result<(Self, &'a [u8]), DescriptorError> {
        let available = input.len();
        let truncated = |needed| DescriptorError::Truncated { offset: 0, needed, available };
        let &[length, found, ..] = input else { return Err(truncated(2)) };
        if found != DFU_FUNCTIONAL {
            return Err(DescriptorError::Type { expected: DFU_FUNCTIONAL, found });
        }
        if length < 7 || length == 8 {
            return Err(DescriptorError::Length { offset: 0, length });
        }
        let needed = usize::from(length);
        let (raw, rest) = input.split_at_checked(needed).ok_or_else(|| truncated(needed))?;
        let (common, tail) = raw.split_first_chunk().ok_or_else(|| truncated(7))?;
        let (version, tail) = match tail.split_first_chunk() {
            Some((version, tail)) => (Some(version), tail),
            None => (None, tail),
        };
        Ok((Self { common, version, tail }, rest))
    }

    /// Reads a descriptor that fills `input`.
    ///
    /// # Errors
    /// As [`Self::parse_prefix`], and [`DescriptorError::Length`] if bytes are left over.
    pub fn parse(input: &'a [u8]) -> Result<Self, DescriptorError> {
        let (view, rest) = Self::parse_prefix(input)?;
        let [length, ..] = view.common;
        if rest.is_empty() { Ok(view) } else { Err(DescriptorError::Length { offset: 0, length: *length }) }
    }

    /// `bmAttributes`.
    #[must_use]
    pub const fn attributes(&self) -> Attributes {
        Attributes(self.common[2])
    }

    /// `wDetachTimeOut`.
    #[must_use]
    pub const fn detach_timeout(&self) -> Duration {
        Duration::from_millis(u16::from_le_bytes([self.common[3], self.common[4]]) as u64)
    }

    /// `wTransferSize` in bytes. Zero occurs; a host cannot transfer anything then.
    #[must_use]
    pub const fn transfer_size(&self) -> u16 {
        u16::from_le_bytes([self.common[5], self.common[6]])
    }

    /// `bcdDFUVersion`; 0x0100 for the seven-byte form.
    #[must_use]
    pub const fn dfu_version(&self) -> u16 {
        match self.version {
            Some(version) => u16::from_le_bytes(*version),
            None => 0x0100,
        }
    }

    /// Bytes after the nine known ones.
    #[must_use]
    pub const fn tail(&self) -> &'a [u8] {
        self.tail
    }

    /// The fields as an owned value; a tail is dropped.
    #[must_use]
    pub const fn to_value(&self) -> FunctionalDescriptor {
        FunctionalDescriptor {
            attributes: self.attributes(),
            detach_timeout_ms: u16::from_le_bytes([self.common[3], self.common[4]]),
            transfer_size: self.transfer_size(),
            dfu_version: self.dfu_version(),
        }
    }
}

/// The DFU functional descriptor as a value.
///
/// ```
/// use spark_dfu::descriptor::FunctionalDescriptor;
/// let bytes = FunctionalDescriptor::PHOTON.to_bytes();
/// assert_eq!(bytes, [0x09, 0x21, 0x0B, 0xFF, 0x00, 0x00, 0x10, 0x1A, 0x01]);
/// assert_eq!(FunctionalDescriptor::parse(&bytes), Ok(FunctionalDescriptor::PHOTON));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_structs, reason = "the standard fixes the fields")]
pub struct FunctionalDescriptor {
    /// `bmAttributes`.
    pub attributes: Attributes,
    /// `wDetachTimeOut` in milliseconds.
    pub detach_timeout_ms: u16,
    /// `wTransferSize`: most bytes of one DNLOAD or UPLOAD.
    pub transfer_size: u16,
    /// `bcdDFUVersion`: 0x0100, 0x0110, or 0x011A for DfuSe.
    pub dfu_version: u16,
}

impl FunctionalDescriptor {
    /// Length of the encoded descriptor in bytes.
    pub const ENCODED_LEN: usize = 9;
    /// `bcdDFUVersion` of DFU 1.0, which is also what the seven-byte form means.
    pub const VERSION_1_0: u16 = 0x0100;
    /// `bcdDFUVersion` of DFU 1.1.
    pub const VERSION_1_1: u16 = 0x0110;
    /// `bcdDFUVersion` of ST DfuSe.
    pub const DFUSE_VERSION: u16 = 0x011A;
    /// What is assumed of a device that has no functional descriptor: DFU 1.0, nothing else known. The transfer size has to
    /// be given by hand.
    pub const UNKNOWN: Self =
        Self { attributes: Attributes(0), detach_timeout_ms: 0, transfer_size: 0, dfu_version: 0x0100 };
    /// Photon, P1 and Electron: 4096 bytes, 255 ms.
    pub const PHOTON: Self = Self {
        attributes: Attributes::PARTICLE,
        detach_timeout_ms: 255,
        transfer_size: 4096,
        dfu_version: Self::DFUSE_VERSION,
    };

    /// Reads a descriptor that fills `input`, by the rules of [`FunctionalDescriptorView`].
    ///
    /// # Errors
    /// See [`FunctionalDescriptorView::parse`].
    pub fn parse(input: &[u8]) -> Result<Self, DescriptorError> {
        FunctionalDescriptorView::parse(input).map(|view| view.to_value())
    }

    /// Encodes the nine-byte form.
    #[must_use]
    pub const fn to_bytes(&self) -> [u8; Self::ENCODED_LEN] {
        let [d0, d1] = self.detach_timeout_ms.to_le_bytes();
        let [t0, t1] = self.transfer_size.to_le_bytes();
        let [v0, v1] = self.dfu_version.to_le_bytes();
        [9, DFU_FUNCTIONAL, self.attributes.0, d0, d1, t0, t1, v0, v1]
    }

    /// Encodes the seven-byte form of DFU 1.0, which has no bcdDFUVersion.
    #[must_use]
    pub const fn to_bytes_1_0(&self) -> [u8; 7] {
        let [_, kind, attributes, d0, d1, t0, t1, ..] = self.to_bytes();
        [7, kind, attributes, d0, d1, t0, t1]
    }

    /// What a device sends: seven bytes with version 1.0, else nine.
    pub(crate) fn wire<'o>(&self, out: &'o mut [u8; Self::ENCODED_LEN]) -> &'o [u8] {
        *out = self.to_bytes();
        if self.dfu_version != Self::VERSION_1_0 {
            return out;
        }
        let (short, _) = out.split_at_mut(7);
        short.copy_from_slice(&self.to_bytes_1_0());
        short
    }

    /// Length of the encoded descriptor: always nine.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        Self::ENCODED_LEN
    }

    /// Encodes the nine-byte form at the start of `out`.
    ///
    /// # Errors
    /// [`BufferTooSmall`] if `out` is shorter than nine bytes.
    pub fn encode_into<'o>(&self, out: &'o mut [u8]) -> Result<&'o [u8], BufferTooSmall> {
        let available = out.len();
        let target = out
            .get_mut(..Self::ENCODED_LEN)
            .ok_or(BufferTooSmall { needed: Self::ENCODED_LEN, available })?;
        target.copy_from_slice(&self.to_bytes());
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use hex_literal::hex;
    use proptest::prelude::*;

    #[test]
    fn seven_bytes_are_dfu_1_0_and_a_tail_is_ignored() {
        let short = FunctionalDescriptor::parse(&hex!("07 21 03 FA00 8000")).unwrap();
        assert_eq!((short.dfu_version, short.transfer_size, short.detach_timeout_ms), (0x0100, 128, 250));
        assert_eq!(short.to_bytes_1_0(), hex!("07 21 03 FA00 8000"));
        assert_eq!(short.wire(&mut [0; 9]), short.to_bytes_1_0());
        assert_eq!(FunctionalDescriptor::PHOTON.wire(&mut [0; 9]), FunctionalDescriptor::PHOTON.to_bytes());
        let long = hex!("0B 21 0B FF00 0010 1A01 AABB");
        assert_eq!(FunctionalDescriptor::parse(&long).unwrap(), FunctionalDescriptor::PHOTON);
        assert_eq!(FunctionalDescriptorView::parse(&long).unwrap().tail(), hex!("AABB"));
    }

    #[test]
    fn impossible_lengths_and_other_types_are_refused() {
        let mut bytes = FunctionalDescriptor::PHOTON.to_bytes();
        for length in [0, 1, 2, 3, 4, 5, 6, 8] {
            bytes[0] = length;
            let error = DescriptorError::Length { offset: 0, length };
            assert_eq!(FunctionalDescriptor::parse(&bytes), Err(error));
        }
        bytes[0] = 10;
        let error = DescriptorError::Truncated { offset: 0, needed: 10, available: 9 };
        assert_eq!(FunctionalDescriptor::parse(&bytes), Err(error));
        bytes[1] = 0x22;
        let error = DescriptorError::Type { expected: 0x21, found: 0x22 };
        assert_eq!(FunctionalDescriptor::parse(&bytes), Err(error));
    }

    #[test]
    fn every_truncation_is_an_error_and_no_bit_flip_panics() {
        let bytes = FunctionalDescriptor::PHOTON.to_bytes();
        for len in 0..bytes.len() {
            assert!(FunctionalDescriptor::parse(&bytes[..len]).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = FunctionalDescriptor::parse(&flipped);
        }
    }

    proptest! {
        #[test]
        fn encoding_and_decoding_is_identity(a: u8, d: u16, t: u16, v: u16) {
            let value = FunctionalDescriptor {
                attributes: Attributes(a), detach_timeout_ms: d, transfer_size: t, dfu_version: v,
            };
            prop_assert_eq!(FunctionalDescriptor::parse(&value.to_bytes()), Ok(value));
        }

        #[test]
        fn any_bytes_parse_without_panic(bytes: Vec<u8>) {
            let _ = FunctionalDescriptorView::parse_prefix(&bytes);
        }
    }
}
