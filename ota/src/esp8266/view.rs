//! One image, checked once, without a copy.

use super::header::{FlashParameters, Header};
use super::slot::{LinkEvidence, Slot};
use super::{CONSTANT_V2, MAGIC_V1, MAGIC_V2};
use crate::checksum::crc32;

/// Why bytes are not an image. Offsets count from the beginning of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// There are no bytes.
    #[error("the file is empty")]
    Empty,
    /// The file ends before the image does.
    #[error("the image needs {needed} bytes up to the end of its {part}, the file has {available}")]
    Truncated {
        /// What is cut.
        part: &'static str,
        /// Bytes up to the end of that, from the beginning of the file.
        needed: usize,
        /// Bytes there are.
        available: usize,
    },
    /// The first byte is that of no image.
    #[error("an image begins with e9 or ea, not with {found:02x}")]
    Magic {
        /// Where.
        offset: usize,
        /// The byte.
        found: u8,
    },
    /// Behind the irom code of a v2 image there is no v1 image.
    #[error("the second header at byte {offset} begins with {found:02x}, not with e9")]
    SecondMagic {
        /// Where.
        offset: usize,
        /// The byte.
        found: u8,
    },
    /// A segment is longer than what is left of the file.
    #[error(
        "segment {index} at byte {offset} (for {address:#010x}) has {length} bytes, of which the file has {available}"
    )]
    Segment {
        /// Its number, from 0, without the irom code.
        index: u8,
        /// Where its header begins.
        offset: usize,
        /// Where it is to be loaded.
        address: u32,
        /// Its bytes, as it says.
        length: u32,
        /// Bytes there are.
        available: usize,
    },
}

impl ImageError {
    /// Where it is, from the beginning of the file.
    #[must_use]
    pub const fn offset(&self) -> usize {
        match *self {
            Self::Empty => 0,
            Self::Truncated { available, .. } => available,
            Self::Magic { offset, .. } | Self::SecondMagic { offset, .. } | Self::Segment { offset, .. } => {
                offset
            }
        }
    }

    /// A word that stays the same.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Truncated { .. } => "truncated",
            Self::Magic { .. } => "bad-magic",
            Self::SecondMagic { .. } => "bad-second-magic",
            Self::Segment { .. } => "bad-segment",
        }
    }
}

/// Layout of an image.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Format {
    /// Started by the ROM, from the beginning of the flash.
    V1,
    /// Started by the vendor's boot stage, out of a slot.
    V2,
}

/// What the first header of a v2 image has in its bytes 2 and 3.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "there are two generators")]
pub enum Style {
    /// The same flash parameters as the second header.
    Esptool,
    /// 0 and the number of the slot, as Espressif's `gen_appbin.py` writes it.
    Sdk(Slot),
}

/// The irom code of a v2 image, which runs out of the flash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Irom<'a> {
    /// Where its header (address and length) begins in the file.
    pub offset: usize,
    /// 0 in all known images.
    pub address: u32,
    /// The code.
    pub data: &'a [u8],
}

/// A piece of an image that is loaded into RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment<'a> {
    /// Where its header (address and length) begins in the file.
    pub offset: usize,
    /// Where it is loaded.
    pub address: u32,
    /// Its content, padding included.
    pub data: &'a [u8],
}

impl<'a> Segment<'a> {
    const HEADER_LEN: usize = 8;

    /// Reads the segment at `offset`. Where its header is cut, the error is that of `index`, too.
    fn read(file: &'a [u8], offset: usize, index: u8) -> Result<Self, ImageError> {
        let available = file.len();
        let behind = file.get(offset..).unwrap_or_default();
        let Some((raw, behind)) = behind.split_first_chunk::<8>() else {
            let needed = offset.saturating_add(Self::HEADER_LEN);
            return Err(ImageError::Truncated { part: "segment headers", needed, available });
        };
        let [a, b, c, d, length @ ..] = *raw;
        let (address, length) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(length));
        let data = usize::try_from(length).ok().and_then(|length| behind.get(..length));
        let available = behind.len();
        let data = data.ok_or(ImageError::Segment { index, offset, address, length, available })?;
        Ok(Self { offset, address, data })
    }

    /// Cannot overflow: all of it is in the file.
    const fn end(&self) -> usize {
        self.offset.saturating_add(Self::HEADER_LEN).saturating_add(self.data.len())
    }
}

/// The segments of an image, in order.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    file: &'a [u8],
    offset: usize,
    left: u8,
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        self.left = self.left.checked_sub(1)?;
        // All were read once before.
        let segment = Segment::read(self.file, self.offset, 0).ok()?;
        self.offset = segment.end();
        Some(segment)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.into(), Some(self.left.into()))
    }
}

impl ExactSizeIterator for Segments<'_> {}
impl core::iter::FusedIterator for Segments<'_> {}

/// An image whose layout was checked: headers, segments and checksum are all in the file. The checksums may still be wrong.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use spark_ota::esp8266::{FlashParameters, Format, Image, ImageBuilder};
///
/// let segments = [(0x4010_0000, &b"code"[..]), (0x3ffe_8000, b"data")];
/// let file = ImageBuilder::v2(FlashParameters::SONOFF, 0x4010_0004, &[7; 100]).segments(&segments).build()?;
///
/// let image = Image::parse(&file).unwrap();
/// assert_eq!((image.format(), image.entry()), (Format::V2, 0x4010_0004));
/// assert_eq!(image.segments().map(|segment| segment.address).collect::<Vec<_>>(), [0x4010_0000, 0x3ffe_8000]);
/// assert!(image.checksum_ok() && image.crc_ok() == Some(true));
/// # }
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Image<'a> {
    file: &'a [u8],
    start: usize,
    first: Header,
    irom: Option<Irom<'a>>,
    header: Header,
    header_offset: usize,
    checksum_offset: usize,
    checksum: u8,
    crc: Option<u32>,
    end: usize,
}

impl<'a> Image<'a> {
    /// Reads the image that `file` begins with.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn parse(file: &'a [u8]) -> Result<Self, ImageError> {
        Self::parse_at(file, 0)
    }

    /// Reads the image that begins at `start`, which in a flash is the beginning of a sector.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn parse_at(file: &'a [u8], start: usize) -> Result<Self, ImageError> {
        let available = file.len();
        let truncated = |part, needed| ImageError::Truncated { part, needed, available };
        if file.is_empty() {
            return Err(ImageError::Empty);
        }
        let first_magic = *file.get(start).ok_or_else(|| truncated("header", start.saturating_add(8)))?;
        if !matches!(first_magic, MAGIC_V1 | MAGIC_V2) {
            return Err(ImageError::Magic { offset: start, found: first_magic });
        }
        let header_at = |offset: usize| {
            let raw = file.get(offset..).and_then(|rest| rest.first_chunk());
            raw.map(Header::decode).ok_or_else(|| truncated("header", offset.saturating_add(Header::LEN)))
        };
        let first = header_at(start)?;
        let mut irom = None;
        let (mut header, mut header_offset) = (first, start);
        if first.magic == MAGIC_V2 {
            let code =
                Segment::read(file, start.saturating_add(Header::LEN), 0).map_err(|error| match error {
                    ImageError::Segment { offset, length, .. } => {
                        let length = usize::try_from(length).unwrap_or(usize::MAX);
                        truncated("irom code", offset.saturating_add(8).saturating_add(length))
                    }
                    _ => truncated("header", start.saturating_add(16)),
                })?;
            header_offset = code.end();
            irom = Some(Irom { offset: code.offset, address: code.address, data: code.data });
            if let Some(&found) = file.get(header_offset)
                && found != MAGIC_V1
            {
                return Err(ImageError::SecondMagic { offset: header_offset, found });
            }
            header = header_at(header_offset)?;
        }
        let mut offset = header_offset.saturating_add(Header::LEN);
        for index in 0..header.count {
            offset = Segment::read(file, offset, index)?.end();
        }
        // The last byte of a block of 16, counted from the start of the image.
        let checksum_offset = start.saturating_add(offset.saturating_sub(start) | 15);
        let end = checksum_offset.saturating_add(1);
        let checksum = *file.get(checksum_offset).ok_or_else(|| truncated("checksum", end))?;
        let mut image = Self {
            file,
            start,
            first,
            irom,
            header,
            header_offset,
            checksum_offset,
            checksum,
            crc: None,
            end,
        };
        if irom.is_some() {
            image.find_trailer();
        }
        Ok(image)
    }

    /// The first four bytes behind the checksum are the CRC trailer if they are all that is there, if they are right, or if
    /// only padding follows them and they are none.
    fn find_trailer(&mut self) {
        let behind = self.file.get(self.end..).unwrap_or_default();
        let Some((raw, rest)) = behind.split_first_chunk::<4>() else { return };
        let stored = u32::from_le_bytes(*raw);
        let padding = |byte: &u8| matches!(byte, 0 | 0xff);
        let uniform = |bytes: &[u8]| bytes.iter().all(|byte| Some(byte) == rest.first());
        let padded = rest.first().is_some_and(padding) && uniform(rest) && !uniform(raw);
        if rest.is_empty() || padded || stored == self.computed_crc() {
            self.crc = Some(stored);
            self.end = self.end.saturating_add(4);
        }
    }

    /// Layout.
    #[must_use]
    pub const fn format(&self) -> Format {
        if self.irom.is_some() { Format::V2 } else { Format::V1 }
    }

    /// Who made the first header of a v2 image, by what it says; `None` for v1. Headers that differ otherwise count as
    /// esptool's. An image for 512 KiB with QIO and 26 or 20 MHz has the same bytes either way and counts as esptool's, too.
    #[must_use]
    pub fn style(&self) -> Option<Style> {
        self.irom?;
        let first = self.first.parameters.to_bytes();
        Some(match first {
            [0, number] if first != self.header.parameters.to_bytes() => {
                Slot::from_number(number).map_or(Style::Esptool, Style::Sdk)
            }
            _ => Style::Esptool,
        })
    }

    /// The header that counts: the only one of v1, the second one of v2.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Where it begins in the file.
    #[must_use]
    pub const fn header_offset(&self) -> usize {
        self.header_offset
    }

    /// The header that the image begins with.
    #[must_use]
    pub const fn first_header(&self) -> &Header {
        &self.first
    }

    /// Where the image begins in the file.
    #[must_use]
    pub const fn start(&self) -> usize {
        self.start
    }

    /// How the flash is read.
    #[must_use]
    pub const fn parameters(&self) -> FlashParameters {
        self.header.parameters
    }

    /// Where the program begins.
    #[must_use]
    pub const fn entry(&self) -> u32 {
        self.header.entry
    }

    /// The irom code of a v2 image.
    #[must_use]
    pub const fn irom(&self) -> Option<Irom<'a>> {
        self.irom
    }

    /// What is loaded into RAM.
    #[must_use]
    pub const fn segments(&self) -> Segments<'a> {
        let offset = self.header_offset.saturating_add(Header::LEN);
        Segments { file: self.file, offset, left: self.header.count }
    }

    /// Where the checksum is in the file.
    #[must_use]
    pub const fn checksum_offset(&self) -> usize {
        self.checksum_offset
    }

    /// The checksum as stored.
    #[must_use]
    pub const fn stored_checksum(&self) -> u8 {
        self.checksum
    }

    /// The checksum as it should be: the XOR of what is loaded into RAM, begun with 0xEF. It covers no header and no irom
    /// code.
    #[must_use]
    pub fn computed_checksum(&self) -> u8 {
        let all = |sum, segment: Segment<'_>| segment.data.iter().fold(sum, |sum, byte| sum ^ byte);
        self.segments().fold(CHECKSUM_START, all)
    }

    /// What is loaded into RAM is what was built.
    #[must_use]
    pub fn checksum_ok(&self) -> bool {
        self.checksum == self.computed_checksum()
    }

    /// The CRC trailer of a v2 image as stored; `None` if it has none, which is usual in older ones.
    #[must_use]
    pub const fn stored_crc(&self) -> Option<u32> {
        self.crc
    }

    /// The CRC trailer as it should be. Goes over the whole image.
    #[must_use]
    pub fn computed_crc(&self) -> u32 {
        crc_trailer(self.covered())
    }

    /// The image is what was built; `None` if it has no trailer.
    #[must_use]
    pub fn crc_ok(&self) -> Option<bool> {
        Some(self.crc? == self.computed_crc())
    }

    fn covered(&self) -> &'a [u8] {
        self.file.get(self.start..=self.checksum_offset).unwrap_or_default()
    }

    /// Exactly the image, with its trailer.
    #[must_use]
    pub fn image(&self) -> &'a [u8] {
        self.file.get(self.start..self.end).unwrap_or_default()
    }

    /// What follows in the file.
    #[must_use]
    pub fn trailing(&self) -> &'a [u8] {
        self.file.get(self.end..).unwrap_or_default()
    }

    /// Where that begins.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.end
    }

    /// Counts the addresses of both slots in irom code and segments. Goes over the whole image.
    #[must_use]
    pub fn link_evidence(&self) -> LinkEvidence {
        let irom = self.irom.map_or_else(LinkEvidence::default, |irom| LinkEvidence::of(irom.data));
        irom + self.segments().map(|segment| LinkEvidence::of(segment.data)).sum()
    }

    /// Byte 1 of a v2 image is what it should be.
    pub(super) const fn constant_ok(&self) -> bool {
        self.irom.is_none() || self.first.count == CONSTANT_V2
    }
}

pub(super) const CHECKSUM_START: u8 = 0xef;

/// The CRC trailer of v2 images: the CRC-32 of zlib, inverted if its highest bit is set, else plus one.
///
/// ```
/// use spark_ota::esp8266::crc_trailer;
///
/// assert_eq!(crc_trailer(&[0x3c]), 0x0292_6cf5);
/// assert_eq!(crc_trailer(&[0x3c, 0xa4, 0x8e]), 0x125b_122d);
/// ```
#[must_use]
pub fn crc_trailer(bytes: &[u8]) -> u32 {
    let crc = crc32(bytes);
    if crc >> 31 == 1 { !crc } else { crc.wrapping_add(1) }
}
