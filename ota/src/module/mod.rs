//! Module files: bootloaders, system parts and user parts as they lie in files and in flash.
//!
//! ```text
//! [vector table] prefix (24) [prefix extensions] body [product fields | extensions] suffix (36) CRC-32 (4)
//! ^ start address                                                                              ^ end address
//! ```
//!
//! A file is read by [`Module::parse`]: the prefix is searched, and everything behind it is found by the length that
//! the prefix gives, not from the end of the file, so padded and concatenated files are read right. A module in flash
//! is checked by [`check_in_flash`] without being read into memory as a whole. [`validate()`] says about an installed
//! module what the device's own firmware would say.
//!
//! Compressed and combined modules are read as what they are: their prefix, suffix and checksums describe the stored
//! bytes. [`Modules`] goes through all modules of a file, [`Compressed`] describes what a compressed one holds, and the
//! feature `inflate` brings that back (`decompress`). [`Extensions`] is what newer modules say
//! beyond prefix and suffix.
//!
//! # Source
//! device-os@v2.3.1: `module_info.h`, `module_info.inc`; binary-version-reader@4.2.0:
//! `lib/HalModuleParser.js`.

mod asset;
#[cfg(feature = "alloc")]
mod build;
#[cfg(feature = "bundle")]
pub mod bundle;
mod combined;
mod compressed;
#[cfg(feature = "alloc")]
mod edit;
mod extension;
mod flash;
mod installed;
mod prefix;
mod region;
mod search;
mod suffix;
mod validate;
mod view;

#[cfg(feature = "alloc")]
pub use asset::AssetBuilder;
pub use asset::{Asset, AssetError};
#[cfg(feature = "alloc")]
pub use build::{BuildError, ModuleBuilder};
pub use combined::{Arrangement, Modules, PlacedModule};
#[cfg(feature = "alloc")]
pub use combined::{CombineError, combine, separate};
#[cfg(feature = "inflate")]
pub use compressed::{CompressError, CompressOptions, InflateError, compress, decompress};
pub use compressed::{Compressed, CompressedError, CompressedHeader};
#[cfg(feature = "alloc")]
pub use edit::{EditError, ExtensionPlace, ModuleEditor};
pub use extension::{
    AssetDependency, DynamicLocation, Extension, ExtensionEncodeError, ExtensionError, Extensions,
    HASH_SHA256, ModuleHash, PlacedExtension, ProductData,
};
pub use flash::{FlashError, FlashModule, check_in_flash, check_in_flash_at};
pub use installed::{Installed, ModuleKey, Store};
pub use prefix::{Dependency, Flags, ModuleFunction, Prefix, platform_name};
pub use region::{FlashLayout, Region, Slot};
pub use search::{FoundPrefix, MAXIMUM_SCORE, find_prefix, score};
pub use suffix::{Product, Suffix};
pub use validate::{Candidate, DependencyRule, Rules, Validation, Validity, validate};
pub use view::{Module, ModuleError, Parts, resign, resign_at};

/// Where the prefix begins in modules of the STM32 platforms that start with their vector table.
pub const VECTOR_TABLE_LEN: u16 = 0x184;

/// Whether the first word of a module is the initial stack pointer of a vector table, which moves the prefix to
/// [`VECTOR_TABLE_LEN`]. This is how a Photon, P1 or Electron decides.
///
/// # Source
/// device-os@v2.3.1: `APP_START_MASK` in `flash_mal.h` of `platform/MCU/STM32F2xx`.
#[must_use]
pub const fn is_stack_pointer(word: u32) -> bool {
    word & 0x2ff1_0000 == 0x2000_0000
}
