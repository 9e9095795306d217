//! DfuSe files (`.dfu`): images for several alternate settings and addresses in one file.
//!
//! ```text
//! file    = prefix 1*target suffix              suffix: crate::file::suffix, with bcdDFU 0x011A
//! target  = target-prefix 1*element             one alternate setting
//! element = address size data
//! ```
//!
//! | offset | size | prefix |
//! |---|---|---|
//! | 0 | 5 | "DfuSe" |
//! | 5 | 1 | version, 1 |
//! | 6 | 4 | `DFUImageSize`, little-endian bytes of the file; see [`ImageSize`] |
//! | 10 | 1 | `bTargets` |
//!
//! | offset | size | target prefix |
//! |---|---|---|
//! | 0 | 6 | "Target" |
//! | 6 | 1 | `bAlternateSetting` |
//! | 7 | 4 | `bTargetNamed`, little-endian; not 0: there is a name |
//! | 11 | 255 | `szTargetName`, NUL-padded |
//! | 266 | 4 | `dwTargetSize`, little-endian bytes of all elements with their headers |
//! | 270 | 4 | `dwNbElements`, little-endian |
//!
//! | offset | size | element |
//! |---|---|---|
//! | 0 | 4 | `dwElementAddress`, little-endian |
//! | 4 | 4 | `dwElementSize`, little-endian bytes |
//! | 8 | | data |
//!
//! [`DfuSeFile`] views a file in memory, [`Reader`] takes one in pieces, [`Image`] and `Builder` (feature `alloc`) write
//! one. Check a whole file before its first byte goes to a device: dfu-util programs the targets before the damaged one.
//!
//! # Source
//! ST UM0391. Where programs disagree (`DFUImageSize`, padding): dfu-util@0.11: dfuse-pack.py, src/dfuse.c;
//! micropython: tools/dfu.py; fwupd@2.0.20.

mod build;
mod error;
mod reader;
#[cfg(test)]
mod tests;
mod view;

#[cfg(feature = "alloc")]
pub use build::{Builder, TargetBuilder};
pub use build::{EncodeError, Image, TargetImage};
pub use error::{DfuSeError, Part};
pub use reader::{Event, Reader};
pub use view::{DfuSeFile, Elements, Target, TargetPrefix, Targets};

pub use crate::dfuse::Element;

use super::suffix::FoundSuffix;

/// The first bytes of a file.
pub const SIGNATURE: [u8; 5] = *b"DfuSe";
/// The first bytes of a target.
pub const TARGET_SIGNATURE: [u8; 6] = *b"Target";
/// Length of the prefix in bytes.
pub const PREFIX_LEN: usize = 11;
/// Length of a target's prefix in bytes.
pub const TARGET_PREFIX_LEN: usize = 274;
/// Length of an element's address and size in bytes.
pub const ELEMENT_HEADER_LEN: usize = 8;
/// Length of the longest name in bytes.
pub const MAX_NAME_LEN: usize = 255;
const VERSION: u8 = 1;

/// Which deviations a reader lets pass. Builders never emit them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::exhaustive_structs, reason = "made to be written with `..ParseOptions::STRICT`")]
pub struct ParseOptions {
    /// `dwTargetSize` may be wrong; the sizes of the elements count. dfu-util ignores the field, so files patched by
    /// hand work there.
    pub trust_elements: bool,
}

impl ParseOptions {
    /// Nothing passes.
    pub const STRICT: Self = Self { trust_elements: false };
}

/// What `DFUImageSize` counts. Programs disagree, so both are read; builders write the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImageSize {
    /// The file without its suffix: ST's text, micropython's dfu.py. fwupd accepts only this.
    WithoutSuffix,
    /// The whole file: dfuse-pack.py of dfu-util 0.10 and later.
    WithSuffix,
}

/// What is known of a file when all of it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct End {
    /// The suffix.
    pub suffix: FoundSuffix,
    /// What `DFUImageSize` counts in this file.
    pub image_size: ImageSize,
}
