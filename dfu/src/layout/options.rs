//! Which deviations from the grammar a parser lets pass.

use super::{Access, MemoryLayout};

/// Which deviations from the grammar [`MemoryLayout::parse_with`] lets pass. [`LayoutText`](super::LayoutText) never
/// emits them.
///
/// ```
/// use spark_dfu::layout::{LayoutError, MemoryLayout, ParseOptions};
/// let text = b"@Flash/0x0/4*256g";
/// assert!(MemoryLayout::parse_with(text, ParseOptions::STRICT).is_err());
/// let only_this = ParseOptions { missing_multiplier: true, ..ParseOptions::STRICT };
/// assert_eq!(MemoryLayout::parse_with(text, only_this)?.segments().count(), 1);
/// # Ok::<(), LayoutError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "made to be written with `..ParseOptions::STRICT`")]
pub struct ParseOptions {
    /// The most segments.
    pub max_segments: usize,
    /// The text ends at the first NUL: the Core declares string descriptors longer than its strings
    /// (device-os@v0.4.9: bootloader/src/core/usb_desc.c).
    pub nul_padding: bool,
    /// Anything may follow the last segment; [`MemoryLayout::trailing`] shows it. The ROM of the STM32F429 on the
    /// BIGTREETECH Octopus Pro sends nine random characters (BIGTREETECH-OCTOPUS-Pro issue 42).
    pub trailing_garbage: bool,
    /// `512g`: no multiplier means bytes, as dfu-util@0.11 reads it.
    pub missing_multiplier: bool,
    /// Spaces after a comma, as dfu-util@0.11 and webdfu read them.
    pub space_after_comma: bool,
    /// Spaces after a type letter, as webdfu reads them; dfu-util loses the segment.
    pub space_after_type: bool,
    /// A comma after the last sector of a block, as dfu-util@0.11 and webdfu read it.
    pub trailing_comma: bool,
    /// `@/0x…`: no name, as webdfu reads it; dfu-util refuses it.
    pub empty_name: bool,
    /// Any ASCII letter is a type and its low three bits count (`h` nothing, `z` erase, `G` all), as dfu-util@0.11
    /// does it.
    pub any_type_letter: bool,
    /// `004kg`, `001Gg`: a letter before the type that is no multiplier means bytes, as dfu-util@0.11 reads it.
    pub unknown_multiplier: bool,
    /// More than one slash between blocks, as webdfu reads it; dfu-util stops there.
    pub double_slash: bool,
    /// A memory of the name "Device Feature" can be read and written whatever its letter says: ROM of the STM32F4, quirk
    /// of dfu-util@0.11 (src/dfuse_mem.c).
    pub device_feature: bool,
}

impl ParseOptions {
    /// The grammar of ST UM0424 and nothing else, up to [`MemoryLayout::MAX_SEGMENTS`] segments.
    pub const STRICT: Self = Self {
        max_segments: MemoryLayout::MAX_SEGMENTS,
        nul_padding: false,
        trailing_garbage: false,
        missing_multiplier: false,
        space_after_comma: false,
        space_after_type: false,
        trailing_comma: false,
        empty_name: false,
        any_type_letter: false,
        unknown_multiplier: false,
        double_slash: false,
        device_feature: false,
    };
    /// What devices are known to send, as far as its meaning is beyond doubt. [`MemoryLayout::parse`] uses this.
    pub const WILD: Self = Self {
        nul_padding: true,
        trailing_garbage: true,
        missing_multiplier: true,
        space_after_comma: true,
        space_after_type: true,
        trailing_comma: true,
        empty_name: true,
        ..Self::STRICT
    };
    /// Every deviation, guesses included.
    pub const LENIENT: Self = Self {
        any_type_letter: true,
        unknown_multiplier: true,
        double_slash: true,
        device_feature: true,
        ..Self::WILD
    };
}

impl Default for ParseOptions {
    fn default() -> Self {
        Self::WILD
    }
}

/// The options for one string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) options: ParseOptions,
    /// What the name says about every segment.
    forced: Option<Access>,
}

impl Rules {
    pub(super) fn new(options: ParseOptions, name: &[u8]) -> Self {
        let forced = options.device_feature && name.trim_ascii_end() == b"Device Feature";
        Self { options, forced: if forced { Access::from_letter(b'e') } else { None } }
    }

    /// What a type letter means, `None` if it is none.
    pub(super) fn access(&self, letter: u8) -> Option<Access> {
        let access = match Access::from_letter(letter) {
            None if letter.is_ascii_alphabetic() && self.options.any_type_letter => Some(Access(letter & 7)),
            None if letter.is_ascii_alphabetic() => self.forced,
            access => access,
        };
        access.map(|access| self.forced.unwrap_or(access))
    }
}
