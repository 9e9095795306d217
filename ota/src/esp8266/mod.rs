//! ESP8266 images: what a Sonoff downloads, read, checked, patched, and with `alloc` built.
//!
//! ```text
//! v1   header 0xE9 (8)   segments   zeros   checksum (1, last of a block of 16)
//! v2   header 0xEA (8)   0 (4)  length (4)  irom code   a complete v1 image   CRC trailer (4, or nothing)
//! ```
//!
//! The vendor's boot stage starts v2 images out of two [`Slot`]s; each is linked for one of them. A v1 image is started by
//! the ROM out of the beginning of the flash; Arduino programs are two of them in one file ([`WholeFlash`]).
//! [`ImageFile::parse`] takes any of these apart, and [`ImageFile::check`] says what a device, or the way to it, would not
//! like ([`Finding`]). [`Patch`] changes how the chip reads its flash, in memory: one program may need another mode on another
//! board.
//!
//! | | esptool `image-info` 5.6.0 | here |
//! |---|---|---|
//! | wrong checksum | a line of text, exit code 0 | an error |
//! | wrong CRC trailer | not looked at | an error |
//! | bytes behind the image | not looked at | a warning, or an error ([`Expectations::strict`]) |
//! | headers that differ | a warning, also for the SDK's images, where it means nothing | an error, but not for the SDK's |
//! | the slot that it is linked for, sizes | not looked at | checked for a [`Purpose`] |
//! | changing the flash mode of v2 | not possible | [`Patch`] |
//!
//! # Source
//! Espressif's ESP8266_NONOS_SDK@8e13865: `tools/gen_appbin.py` and linker scripts; output of esptool 5.6.0; images
//! of SonOTA@40dba7c; Espressif2Arduino@330d9f0 for what comes after the vendor's updater.

#[cfg(feature = "alloc")]
mod build;
mod check;
mod digest;
mod header;
mod patch;
mod problem;
mod slot;
mod view;
mod whole_flash;

#[cfg(feature = "alloc")]
pub use build::{BuildError, ImageBuilder};
pub use check::{Expectations, Findings, Purpose};
pub use digest::Sha256Text;
pub use header::{FlashFrequency, FlashMode, FlashParameters, FlashSize, Header, UnknownName};
pub use patch::{Change, Patch, PatchError, Patched};
pub use problem::{Finding, HeaderField, Limit, Problem, Severity};
pub use slot::{
    DIY_LIMIT, FINAL_STAGE_LEAST, FINAL_STAGE_LIMIT, FINAL_STAGE_USER2_LIMIT, IROM_LIMIT, LinkEvidence,
    RANGE_LEN, Slot, UPDATER_LIMIT,
};
pub use view::{Format, Image, ImageError, Irom, Segment, Segments, Style, crc_trailer};
pub use whole_flash::{ImageFile, WholeFlash};

/// First byte of a v1 image, and of the one inside of a v2 image.
pub const MAGIC_V1: u8 = 0xe9;

/// First byte of a v2 image.
pub const MAGIC_V2: u8 = 0xea;

/// Second byte of a v2 image, where a v1 image has its number of segments.
pub const CONSTANT_V2: u8 = 4;

/// The most segments of an image, that of the irom code included; esptool refuses more.
pub const MAX_SEGMENTS: usize = 16;

/// Entry points of programs: the part of the instruction RAM that is always there.
pub const ENTRY_POINTS: core::ops::RangeInclusive<u32> = 0x4010_0000..=0x4010_7fff;

/// Entry points of Arduino's boot stub.
pub const BOOT_STUB_ENTRY_POINTS: core::ops::RangeInclusive<u32> = 0x4010_f000..=0x4010_ffff;
