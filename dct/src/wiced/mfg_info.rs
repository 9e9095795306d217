//! Manufacturing information: 156 bytes from 388 of a sector.

/// View of the manufacturing information.
///
/// | offset | size | text |
/// |---|---|---|
/// | 0 | 32 | manufacturer |
/// | 32 | 32 | product |
/// | 64 | 24 | bill of materials |
/// | 88 | 8 | its revision |
/// | 96 | 20 | serial number |
/// | 116 | 20 | date |
/// | 136 | 12 | location |
/// | 148 | 8 | bootloader version |
///
/// Every text ends with its field or at the first 00 or FF.
///
/// # Source
/// `device-os@v0.5.0: platform_dct.h` (`platform_dct_mfg_info_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MfgInfo<'a> {
    raw: &'a [u8; MfgInfo::LEN],
}

/// One text of the manufacturing information.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum MfgText {
    /// Manufacturer, 32 bytes.
    Manufacturer,
    /// Product, 32 bytes.
    Product,
    /// Bill of materials, 24 bytes.
    Bom,
    /// Revision of the bill of materials, 8 bytes.
    BomRevision,
    /// Serial number, 20 bytes.
    Serial,
    /// Date, 20 bytes.
    Date,
    /// Location, 12 bytes.
    Location,
    /// Bootloader version, 8 bytes.
    BootloaderVersion,
}

impl MfgText {
    /// All of them, in the order of their offsets.
    pub const ALL: [MfgText; 8] = [
        MfgText::Manufacturer,
        MfgText::Product,
        MfgText::Bom,
        MfgText::BomRevision,
        MfgText::Serial,
        MfgText::Date,
        MfgText::Location,
        MfgText::BootloaderVersion,
    ];

    /// Byte range in the 156 bytes.
    #[must_use]
    pub const fn range(self) -> core::ops::Range<usize> {
        match self {
            MfgText::Manufacturer => 0..32,
            MfgText::Product => 32..64,
            MfgText::Bom => 64..88,
            MfgText::BomRevision => 88..96,
            MfgText::Serial => 96..116,
            MfgText::Date => 116..136,
            MfgText::Location => 136..148,
            MfgText::BootloaderVersion => 148..156,
        }
    }
}

impl<'a> MfgInfo<'a> {
    /// Length in bytes.
    pub const LEN: usize = 156;
    /// Where it is in a sector.
    pub const OFFSET: usize = 388;

    /// Looks at the bytes; every content is accepted.
    #[must_use]
    pub const fn new(raw: &'a [u8; MfgInfo::LEN]) -> Self {
        Self { raw }
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8; MfgInfo::LEN] {
        self.raw
    }

    /// One text, `None` when unset.
    #[must_use]
    pub fn text(&self, text: MfgText) -> Option<&'a [u8]> {
        super::sector::text(self.raw.get(text.range()).unwrap_or_default())
    }
}
