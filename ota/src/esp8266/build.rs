//! Building images.

use super::header::{FlashParameters, Header};
use super::slot::Slot;
use super::view::{CHECKSUM_START, crc_trailer};
use super::{CONSTANT_V2, MAGIC_V1, MAGIC_V2, MAX_SEGMENTS};
use alloc::vec::Vec;

/// Why an image cannot be built.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An image has segments, but not more than [`MAX_SEGMENTS`].
    #[error("an image has 1 to {most} segments, not {count}")]
    SegmentCount {
        /// Their number, without the irom code.
        count: usize,
        /// The most.
        most: usize,
    },
    /// A piece is longer than its length can say, or ends behind the last address.
    #[error("{len} bytes are too long for a segment at {address:#010x}")]
    SegmentTooLong {
        /// Where it is to be loaded; 0 for irom code.
        address: u32,
        /// Its bytes.
        len: usize,
    },
    /// In the SDK's style, these parameters would make both headers equal.
    #[error("with {parameters} nobody could tell the slot's number from flash parameters")]
    Ambiguous {
        /// The parameters.
        parameters: FlashParameters,
    },
}

/// Builds an image from its segments, with a right checksum and, for v2, a right CRC trailer.
///
/// ```
/// use spark_ota::esp8266::{FlashParameters, ImageBuilder};
///
/// let file = ImageBuilder::v1(FlashParameters::SONOFF, 0x4010_0004).segments(&[(0x4010_0000, b"code")]).build()?;
/// assert_eq!(file[..20], *b"\xe9\x01\x03\x20\x04\0\x10\x40\0\0\x10\x40\x04\0\0\0code");
/// assert_eq!((file.len(), file[31]), (32, 0xef ^ b'c' ^ b'o' ^ b'd' ^ b'e'));
/// # Ok::<(), spark_ota::esp8266::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ImageBuilder<'a> {
    parameters: FlashParameters,
    entry: u32,
    segments: &'a [(u32, &'a [u8])],
    irom: Option<&'a [u8]>,
    sdk: Option<Slot>,
    trailer: bool,
}

impl<'a> ImageBuilder<'a> {
    /// A v1 image.
    pub const fn v1(parameters: FlashParameters, entry: u32) -> Self {
        Self { parameters, entry, segments: &[], irom: None, sdk: None, trailer: false }
    }

    /// A v2 image in esptool's style, with a CRC trailer. `irom` is linked for [`Slot::link_address`].
    pub const fn v2(parameters: FlashParameters, entry: u32, irom: &'a [u8]) -> Self {
        Self { irom: Some(irom), trailer: true, ..Self::v1(parameters, entry) }
    }

    /// What is loaded into RAM: addresses and content. Content is padded with zeros to a multiple of 4.
    pub const fn segments(mut self, segments: &'a [(u32, &'a [u8])]) -> Self {
        self.segments = segments;
        self
    }

    /// Makes the first header of a v2 image as the SDK's generator makes it, with the number of the slot. Nothing for v1.
    pub const fn sdk(mut self, slot: Slot) -> Self {
        self.sdk = Some(slot);
        self
    }

    /// Leaves the CRC trailer of a v2 image out, as older tools did.
    pub const fn without_trailer(mut self) -> Self {
        self.trailer = false;
        self
    }

    /// The image.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(&self) -> Result<Vec<u8>, BuildError> {
        let (count, most) = (self.segments.len(), MAX_SEGMENTS - usize::from(self.irom.is_some()));
        let number = u8::try_from(count).ok().filter(|number| (1..=most).contains(&usize::from(*number)));
        let number = number.ok_or(BuildError::SegmentCount { count, most })?;
        let header =
            Header { magic: MAGIC_V1, count: number, parameters: self.parameters, entry: self.entry };

        let mut file = Vec::new();
        if let Some(irom) = self.irom {
            let mut parameters = self.parameters;
            if let Some(slot) = self.sdk {
                parameters = FlashParameters::from_bytes([0, slot.number()]);
                if parameters.to_bytes() == self.parameters.to_bytes() {
                    return Err(BuildError::Ambiguous { parameters });
                }
            }
            file.extend(Header { magic: MAGIC_V2, count: CONSTANT_V2, parameters, ..header }.encode());
            append(&mut file, 0, irom, 16)?;
        }
        file.extend(header.encode());
        let mut checksum = CHECKSUM_START;
        for &(address, content) in self.segments {
            append(&mut file, address, content, 4)?;
            checksum = content.iter().fold(checksum, |sum, byte| sum ^ byte);
        }
        while file.len() % 16 != 15 {
            file.push(0);
        }
        file.push(checksum);
        if self.irom.is_some() && self.trailer {
            file.extend(crc_trailer(&file).to_le_bytes());
        }
        Ok(file)
    }
}

/// Address, length and content, padded to a multiple of `unit`.
fn append(file: &mut Vec<u8>, address: u32, content: &[u8], unit: usize) -> Result<(), BuildError> {
    let len = content.len();
    let too_long = BuildError::SegmentTooLong { address, len };
    let padded = len.checked_next_multiple_of(unit).ok_or(too_long)?;
    let length = u32::try_from(padded).ok().filter(|length| address.checked_add(*length).is_some());
    file.extend(address.to_le_bytes());
    file.extend(length.ok_or(too_long)?.to_le_bytes());
    file.extend(content);
    file.resize(file.len().saturating_add(padded - len), 0);
    Ok(())
}
