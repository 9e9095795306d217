//! What can be wrong with an image whose layout is right.

use super::ENTRY_POINTS;
use super::header::{FlashFrequency, FlashMode, FlashSize};
use super::slot::{LinkEvidence, Slot};
use super::view::Format;
use core::fmt;

/// How much a finding matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "either it is refused or it is not")]
pub enum Severity {
    /// It may work.
    Warning,
    /// It does not work, or was not built like this.
    Error,
}

/// One thing that is wrong with an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What it is.
    pub problem: Problem,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

/// A field that both headers of a v2 image have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum HeaderField {
    /// Byte 2.
    Mode,
    /// Byte 3.
    SizeAndFrequency,
    /// Bytes 4 to 7.
    Entry,
}

impl fmt::Display for HeaderField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mode => "flash mode",
            Self::SizeAndFrequency => "flash size and frequency",
            Self::Entry => "entry point",
        })
    }
}

/// Who sets a limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Limit {
    /// [`UPDATER_LIMIT`](super::UPDATER_LIMIT).
    Updater,
    /// [`Slot::usable_len`].
    Slot(Slot),
    /// [`FINAL_STAGE_LIMIT`](super::FINAL_STAGE_LIMIT).
    FinalStage,
    /// [`DIY_LIMIT`](super::DIY_LIMIT).
    Diy,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Updater => f.write_str("the device's updater takes"),
            Self::Slot(slot) => write!(f, "{slot} has room for"),
            Self::FinalStage => f.write_str("Espressif2Arduino takes"),
            Self::Diy => f.write_str("a device in DIY mode takes"),
        }
    }
}

/// What is wrong. Offsets count from the beginning of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The second byte of a v2 image is not [`CONSTANT_V2`](super::CONSTANT_V2).
    #[error("byte {offset} of a v2 image is always 4, here it is {found}")]
    Constant {
        /// Where.
        offset: usize,
        /// What is there.
        found: u8,
    },
    /// An image without segments, or with more than [`MAX_SEGMENTS`](super::MAX_SEGMENTS).
    #[error("the header at byte {} counts {count} segments; there are 1 to {most}", offset.saturating_sub(1))]
    SegmentCount {
        /// Where the number is.
        offset: usize,
        /// The number, without the irom code.
        count: u8,
        /// The most.
        most: usize,
    },
    /// The length of a segment is no multiple of 4.
    #[error("segment {index} at byte {offset} has {length} bytes, which is no multiple of 4")]
    SegmentLength {
        /// Its number, from 0, without the irom code.
        index: usize,
        /// Where its header begins.
        offset: usize,
        /// Its length.
        length: usize,
    },
    /// The length of the irom code is no multiple of 16.
    #[error("the irom code has {length} bytes, which is no multiple of 16")]
    IromLength {
        /// Where the length is.
        offset: usize,
        /// The length.
        length: usize,
    },
    /// The address of the irom code is not 0.
    #[error("the irom code is for {address:#010x}; this field is always 0")]
    IromAddress {
        /// Where the address is.
        offset: usize,
        /// The address.
        address: u32,
    },
    /// The segments are not what was built.
    #[error("the checksum at byte {offset} is {stored:02x} and should be {computed:02x}")]
    Checksum {
        /// Where it is.
        offset: usize,
        /// As stored.
        stored: u8,
        /// As it should be.
        computed: u8,
    },
    /// The image is not what was built.
    #[error("the CRC at byte {offset} is {stored:08x} and should be {computed:08x}")]
    Crc {
        /// Where it is.
        offset: usize,
        /// As stored.
        stored: u32,
        /// As it should be.
        computed: u32,
    },
    /// A piece of a CRC trailer.
    #[error("{len} bytes at byte {offset} are a piece of a CRC: the end of the file is missing")]
    CutCrc {
        /// Where it begins.
        offset: usize,
        /// Bytes of it.
        len: usize,
    },
    /// Something follows the image.
    #[error("{len} bytes follow the image at byte {offset}{}", Following { padding: *.padding, crc: *.crc })]
    Trailing {
        /// Where it begins.
        offset: usize,
        /// Bytes.
        len: usize,
        /// All are 0xFF, or all are 0.
        padding: bool,
        /// The CRC of a v2 image, where the first four of them may be meant to be it and are not: then the image is damaged.
        crc: Option<u32>,
    },
    /// The two headers of a v2 image say different things.
    #[error("the {field} is {first:#x} in the first header and {second:#x} in the second")]
    HeaderMismatch {
        /// Where it is in the first one.
        offset: usize,
        /// Which field.
        field: HeaderField,
        /// In the first one.
        first: u32,
        /// In the second one.
        second: u32,
    },
    /// The entry point is outside of the instruction RAM.
    #[error(
        "the program begins at {entry:#010x}, outside of {:#010x} to {:#010x}",
        ENTRY_POINTS.start(),
        ENTRY_POINTS.end()
    )]
    Entry {
        /// Where it is.
        offset: usize,
        /// The entry point.
        entry: u32,
    },
    /// No known flash mode.
    #[error("there is no flash mode {:#04x}", mode.byte())]
    UnknownMode {
        /// Where it is.
        offset: usize,
        /// What is there.
        mode: FlashMode,
    },
    /// No known flash size.
    #[error("there is no flash size {:#x}", size.nibble())]
    UnknownSize {
        /// Where it is.
        offset: usize,
        /// What is there.
        size: FlashSize,
    },
    /// No known flash frequency.
    #[error("there is no flash frequency {:#x}", frequency.nibble())]
    UnknownFrequency {
        /// Where it is.
        offset: usize,
        /// What is there.
        frequency: FlashFrequency,
    },
    /// A flash mode that not every board is wired for. Whether the boot stage heeds that of a v2 image is not known.
    #[error("the flash mode is {mode}, for which some boards lack the lines; dout needs the fewest")]
    Mode {
        /// Where it is.
        offset: usize,
        /// What is there.
        mode: FlashMode,
    },
    /// A boot stub alone.
    #[error("this is a boot stub without the program that it starts, at byte {offset:#x}")]
    NoApplication {
        /// Where that should be.
        offset: usize,
    },
    /// Not the format for this purpose.
    #[error("this is a {} image, here a {} one is needed", name(*.found), name(*.wanted))]
    Format {
        /// What it is.
        found: Format,
        /// What it should be.
        wanted: Format,
    },
    /// It is linked for the other slot: it would be installed and then not start.
    #[error(
        "the image is linked for {}, not for {wanted}: {} addresses of slot 1, {} of slot 2",
        wanted.other(), evidence.user1, evidence.user2
    )]
    WrongSlot {
        /// Where it should go.
        wanted: Slot,
        /// What it holds.
        evidence: LinkEvidence,
    },
    /// The SDK's generator built it for the other slot.
    #[error("the first header says {}, not {wanted}", wanted.other())]
    OtherSlotNumber {
        /// Where the number is.
        offset: usize,
        /// Where it should go.
        wanted: Slot,
    },
    /// Its addresses do not tell which slot it is linked for.
    #[error("nothing tells which slot the image is linked for: {} addresses of slot 1, {} of slot 2",
        evidence.user1, evidence.user2)]
    UnknownSlot {
        /// What it holds.
        evidence: LinkEvidence,
    },
    /// It does not fit.
    #[error("the file has {len} bytes, {by} {limit}")]
    TooLong {
        /// Bytes of the file.
        len: usize,
        /// The most.
        limit: usize,
        /// Who sets the limit.
        by: Limit,
    },
    /// It is shorter than Espressif2Arduino takes.
    #[error("the file has {len} bytes, Espressif2Arduino takes none below {least}")]
    TooShort {
        /// Bytes of the file.
        len: usize,
        /// The least.
        least: usize,
    },
    /// The whole file is one range.
    #[error("the file has {len} bytes: the device asks for all of it at once, and needs a 206 as answer")]
    OneRange {
        /// Bytes of the file.
        len: usize,
    },
    /// More irom code than the SDK's linker scripts allow.
    #[error("the irom code has {length} bytes, the SDK's linker allows {limit}")]
    IromTooLong {
        /// Its length.
        length: usize,
        /// The most.
        limit: usize,
    },
}

/// What follows an image, in words.
struct Following {
    padding: bool,
    crc: Option<u32>,
}

impl fmt::Display for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.crc {
            _ if self.padding => f.write_str(", padding"),
            Some(crc) => write!(
                f,
                "; they do not begin with its CRC {crc:08x}: if there was one, the image or the CRC is damaged"
            ),
            None => Ok(()),
        }
    }
}

const fn name(format: Format) -> &'static str {
    match format {
        Format::V1 => "v1",
        Format::V2 => "v2",
    }
}

impl Problem {
    /// A word that stays the same.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Constant { .. } => "bad-constant",
            Self::SegmentCount { .. } => "segment-count",
            Self::SegmentLength { .. } => "segment-length",
            Self::IromLength { .. } => "irom-length",
            Self::IromAddress { .. } => "irom-address",
            Self::Checksum { .. } => "bad-checksum",
            Self::Crc { .. } => "bad-crc",
            Self::CutCrc { .. } => "cut-crc",
            Self::Trailing { .. } => "trailing-data",
            Self::HeaderMismatch { .. } => "header-mismatch",
            Self::Entry { .. } => "entry-point",
            Self::UnknownMode { .. } => "unknown-flash-mode",
            Self::UnknownSize { .. } => "unknown-flash-size",
            Self::UnknownFrequency { .. } => "unknown-flash-frequency",
            Self::Mode { .. } => "flash-mode",
            Self::NoApplication { .. } => "no-application",
            Self::Format { .. } => "wrong-format",
            Self::WrongSlot { .. } => "wrong-slot",
            Self::OtherSlotNumber { .. } => "other-slot-number",
            Self::UnknownSlot { .. } => "unknown-slot",
            Self::TooLong { .. } => "too-long",
            Self::TooShort { .. } => "too-short",
            Self::OneRange { .. } => "one-range",
            Self::IromTooLong { .. } => "irom-too-long",
        }
    }

    /// Where it is, from the beginning of the file; `None` if it is about the whole.
    #[must_use]
    pub const fn offset(&self) -> Option<usize> {
        match *self {
            Self::Constant { offset, .. }
            | Self::SegmentCount { offset, .. }
            | Self::SegmentLength { offset, .. }
            | Self::IromLength { offset, .. }
            | Self::IromAddress { offset, .. }
            | Self::Checksum { offset, .. }
            | Self::Crc { offset, .. }
            | Self::CutCrc { offset, .. }
            | Self::Trailing { offset, .. }
            | Self::HeaderMismatch { offset, .. }
            | Self::Entry { offset, .. }
            | Self::UnknownMode { offset, .. }
            | Self::UnknownSize { offset, .. }
            | Self::UnknownFrequency { offset, .. }
            | Self::Mode { offset, .. }
            | Self::NoApplication { offset }
            | Self::OtherSlotNumber { offset, .. } => Some(offset),
            Self::Format { .. }
            | Self::WrongSlot { .. }
            | Self::UnknownSlot { .. }
            | Self::TooLong { .. }
            | Self::TooShort { .. }
            | Self::OneRange { .. }
            | Self::IromTooLong { .. } => None,
        }
    }

    pub(super) const fn error(self) -> Finding {
        Finding { severity: Severity::Error, problem: self }
    }

    pub(super) const fn warning(self) -> Finding {
        Finding { severity: Severity::Warning, problem: self }
    }
}
