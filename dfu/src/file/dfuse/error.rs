//! Why a file is no DfuSe file.

use crate::file::suffix::SuffixError;

/// A part of a DfuSe file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// The prefix of the file, 11 bytes.
    Prefix,
    /// The prefix of a target, 274 bytes.
    Target,
    /// Address and size of an element, 8 bytes.
    Element,
    /// The data of an element.
    Data,
}

impl core::fmt::Display for Part {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Prefix => "DfuSe prefix",
            Self::Target => "target prefix",
            Self::Element => "element header",
            Self::Data => "element data",
        })
    }
}

/// Why a file is no valid DfuSe file. Offsets count bytes from the start of the file.
///
/// A file with several faults gets the first of: structure from the front to the back, suffix, `bcdDFU`, leftover
/// bytes, `DFUImageSize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DfuSeError {
    /// The file, or what is before its suffix, ends inside a part.
    #[error("the {part} at byte {offset} has {needed} bytes but {available} are left")]
    Truncated {
        /// The part that is cut.
        part: Part,
        /// Where it starts.
        offset: u64,
        /// Bytes it has or claims.
        needed: u64,
        /// Bytes from there to the end.
        available: u64,
    },
    /// Not "DfuSe" at byte 0.
    #[error("a DfuSe file starts with \"DfuSe\", not with the bytes {found:02x?}")]
    BadSignature {
        /// The first bytes.
        found: [u8; 5],
    },
    /// A version other than 1 at byte 5.
    #[error("DfuSe file version {found} is not supported; version 1 is the only one known")]
    Version {
        /// `bVersion`.
        found: u8,
    },
    /// `bTargets` at byte 10 is zero.
    #[error("the DfuSe file has no target")]
    NoTargets,
    /// Not "Target" at the start of a target.
    #[error("target {target} at byte {offset} starts with the bytes {found:02x?} instead of \"Target\"")]
    BadTargetSignature {
        /// Which target, from 0.
        target: u8,
        /// Where it starts.
        offset: u64,
        /// What stands there.
        found: [u8; 6],
    },
    /// `dwNbElements` is zero.
    #[error("target {target} at byte {offset} has no element")]
    NoElements {
        /// Which target, from 0.
        target: u8,
        /// Where it starts.
        offset: u64,
    },
    /// `dwTargetSize` is not the sum of the elements.
    ///
    /// [`ParseOptions::trust_elements`](super::ParseOptions::trust_elements) lets it pass.
    #[error(
        "target {target} at byte {offset} claims {stored} bytes but its elements have {elements} or more"
    )]
    TargetSize {
        /// Which target, from 0.
        target: u8,
        /// Where it starts.
        offset: u64,
        /// `dwTargetSize`.
        stored: u32,
        /// Bytes of the elements, their headers included, up to the one that shows the fault.
        elements: u64,
    },
    /// An element that ends after 4 GiB.
    #[error("the element at byte {offset}, {size} bytes at {address:#010x}, reaches beyond 4 GiB")]
    BeyondAddressSpace {
        /// Where its header starts.
        offset: u64,
        /// `dwElementAddress`.
        address: u32,
        /// `dwElementSize`.
        size: u32,
    },
    /// The suffix is missing or wrong.
    #[error("the DfuSe file has no valid suffix")]
    Suffix(#[source] SuffixError),
    /// `bcdDFU` of the suffix is not 0x011A.
    #[error("the suffix says bcdDFU {found:#06x}; a DfuSe file has 0x011a")]
    SuffixVersion {
        /// `bcdDFU`.
        found: u16,
    },
    /// Bytes between the last target and the suffix.
    #[error("{len} bytes at byte {offset} are left over between the last target and the suffix")]
    Leftover {
        /// Where they start.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// `DFUImageSize` at byte 6 fits neither convention.
    #[error(
        "DFUImageSize is {stored}; it should be {without_suffix}, or {with_suffix} as dfuse-pack writes it"
    )]
    ImageSize {
        /// `DFUImageSize`.
        stored: u32,
        /// Bytes of the file without its suffix.
        without_suffix: u64,
        /// Bytes of the whole file.
        with_suffix: u64,
    },
}

impl DfuSeError {
    /// Where the fault is, counted from the start of the file; `None` for faults of the suffix.
    #[must_use]
    pub const fn offset(&self) -> Option<u64> {
        match self {
            Self::Truncated { offset, .. }
            | Self::BadTargetSignature { offset, .. }
            | Self::NoElements { offset, .. }
            | Self::TargetSize { offset, .. }
            | Self::BeyondAddressSpace { offset, .. }
            | Self::Leftover { offset, .. } => Some(*offset),
            Self::BadSignature { .. } => Some(0),
            Self::Version { .. } => Some(5),
            Self::ImageSize { .. } => Some(6),
            Self::NoTargets => Some(10),
            Self::Suffix(_) | Self::SuffixVersion { .. } => None,
        }
    }
}
