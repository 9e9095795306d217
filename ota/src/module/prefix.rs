//! The 24 bytes that say what a module is.

use core::fmt;
use core::ops::BitOr;

/// What a module is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ModuleFunction {
    /// 0: no module, "depends on nothing".
    None,
    /// 1: resource.
    Resource,
    /// 2: bootloader.
    Bootloader,
    /// 3: system and application in one.
    Monolithic,
    /// 4: part of the system firmware; the index tells which.
    System,
    /// 5: application.
    User,
    /// 6: settings.
    Settings,
    /// 7: firmware of the network co-processor.
    Ncp,
    /// 8: radio stack (soft device).
    RadioStack,
    /// 9: asset of an application.
    Asset,
    /// Any other number.
    Other(u8),
}

impl ModuleFunction {
    /// From the number in a prefix.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Resource,
            2 => Self::Bootloader,
            3 => Self::Monolithic,
            4 => Self::System,
            5 => Self::User,
            6 => Self::Settings,
            7 => Self::Ncp,
            8 => Self::RadioStack,
            9 => Self::Asset,
            other => Self::Other(other),
        }
    }

    /// The number in a prefix.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Resource => 1,
            Self::Bootloader => 2,
            Self::Monolithic => 3,
            Self::System => 4,
            Self::User => 5,
            Self::Settings => 6,
            Self::Ncp => 7,
            Self::RadioStack => 8,
            Self::Asset => 9,
            Self::Other(other) => other,
        }
    }

    /// The letter in a Describe document. Settings and unknown functions share `_`.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::None => 'n',
            Self::Resource => 'r',
            Self::Bootloader => 'b',
            Self::Monolithic => 'm',
            Self::System => 's',
            Self::User => 'u',
            Self::Settings | Self::Other(_) => '_',
            Self::Ncp => 'c',
            Self::RadioStack => 'a',
            Self::Asset => 't',
        }
    }

    /// From the letter in a Describe document; `_` is read as settings.
    #[must_use]
    pub const fn from_letter(letter: char) -> Option<Self> {
        Some(match letter {
            'n' => Self::None,
            'r' => Self::Resource,
            'b' => Self::Bootloader,
            'm' => Self::Monolithic,
            's' => Self::System,
            'u' => Self::User,
            '_' => Self::Settings,
            'c' => Self::Ncp,
            'a' => Self::RadioStack,
            't' => Self::Asset,
            _ => return None,
        })
    }

    pub(super) const fn is_known(self) -> bool {
        !matches!(self, Self::Other(_))
    }
}

impl fmt::Display for ModuleFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no module",
            Self::Resource => "resource",
            Self::Bootloader => "bootloader",
            Self::Monolithic => "monolithic firmware",
            Self::System => "system part",
            Self::User => "user part",
            Self::Settings => "settings",
            Self::Ncp => "NCP firmware",
            Self::RadioStack => "radio stack",
            Self::Asset => "asset",
            Self::Other(number) => return write!(f, "module of function {number}"),
        })
    }
}

/// The name of a platform, `None` if the number is not known.
///
/// ```
/// assert_eq!(spark_ota::module::platform_name(6), Some("Photon"));
/// ```
#[must_use]
pub const fn platform_name(platform_id: u16) -> Option<&'static str> {
    Some(match platform_id {
        0 => "Core",
        3 => "GCC",
        6 => "Photon",
        8 => "P1",
        10 => "Electron",
        12 => "Argon",
        13 => "Boron",
        14 => "Xenon",
        15 => "E SoM X",
        22 => "A SoM",
        23 => "B SoM",
        24 => "X SoM",
        25 => "B5 SoM",
        26 => "Tracker",
        28 => "Tracker M",
        31 => "Raspberry Pi",
        32 => "P2",
        35 => "M SoM",
        37 => "Electron 2",
        82 => "Digistump Oak",
        88 => "RedBear Duo",
        103 => "Bluz",
        _ => return None,
    })
}

/// A module that another one needs, and its lowest version.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 1 | function |
/// | 1 | 1 | index |
/// | 2 | 2 | version, little-endian |
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Dependency {
    /// Function of the other module.
    pub function: ModuleFunction,
    /// Index of the other module.
    pub index: u8,
    /// Lowest version that will do.
    pub version: u16,
}

impl Dependency {
    /// Needs nothing.
    pub const NONE: Self = Self { function: ModuleFunction::None, index: 0, version: 0 };

    /// Needs system part `index` of at least `version`.
    #[must_use]
    pub const fn system(index: u8, version: u16) -> Self {
        Self { function: ModuleFunction::System, index, version }
    }

    /// Needs a bootloader of at least `version`.
    #[must_use]
    pub const fn bootloader(version: u16) -> Self {
        Self { function: ModuleFunction::Bootloader, index: 0, version }
    }

    /// Needs nothing.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        matches!(self.function, ModuleFunction::None)
    }

    const fn decode(raw: [u8; 4]) -> Self {
        let [function, index, low, high] = raw;
        Self {
            function: ModuleFunction::from_number(function),
            index,
            version: u16::from_le_bytes([low, high]),
        }
    }

    const fn encode(self) -> [u8; 4] {
        let [low, high] = self.version.to_le_bytes();
        [self.function.number(), self.index, low, high]
    }
}

/// Flags of a module; 0 up to Device OS 1.1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Flags(pub u8);

impl Flags {
    /// The prefix is not written to the target.
    pub const DROP_INFO: Self = Self(0x01);
    /// The body is compressed.
    pub const COMPRESSED: Self = Self(0x02);
    /// Another module follows in the same file.
    pub const COMBINED: Self = Self(0x04);
    /// The body is encrypted.
    pub const ENCRYPTED: Self = Self(0x08);
    /// Extensions follow the prefix.
    pub const PREFIX_EXTENSIONS: Self = Self(0x10);

    /// All bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those of `self` that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The words for the bits that are set, the lowest first; bits without a meaning are left out.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let names = ["drop-info", "compressed", "combined", "encrypted", "prefix-extensions"];
        names.into_iter().enumerate().filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| name)
    }

    /// Bits without a meaning.
    #[must_use]
    pub const fn unknown_bits(self) -> u8 {
        self.0 & !0x1f
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The prefix of a module.
///
/// | offset | size | field, little-endian |
/// |---|---|---|
/// | 0 | 4 | start address: of the file's first byte, so of the vector table if there is one |
/// | 4 | 4 | end address, exclusive; the CRC lies there |
/// | 8 | 1 | reserved |
/// | 9 | 1 | flags |
/// | 10 | 2 | version |
/// | 12 | 2 | platform id |
/// | 14 | 1 | function |
/// | 15 | 1 | index |
/// | 16 | 4 | first dependency |
/// | 20 | 4 | second dependency; 0 before Device OS 0.7 |
///
/// # Source
/// device-os@v2.3.1: `module_info_t` in `module_info.h`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Prefix {
    /// Address of the module's first byte.
    pub start_address: u32,
    /// Address behind the last byte, where the CRC lies.
    pub end_address: u32,
    /// Reserved; MCU target on Gen 3.
    pub reserved: u8,
    /// Flags.
    pub flags: Flags,
    /// Version.
    pub version: u16,
    /// Platform id, see [`platform_name`].
    pub platform_id: u16,
    /// What the module is for.
    pub function: ModuleFunction,
    /// Which one of this function. An Electron's file `system-part1` has index 3: trust this, not the name.
    pub index: u8,
    /// What the module needs.
    pub dependencies: [Dependency; 2],
}

impl Prefix {
    /// Bytes of a prefix.
    pub const LEN: usize = 24;

    /// Reads a prefix. Any 24 bytes are one; [`find_prefix`](super::find_prefix) judges them.
    #[must_use]
    #[rustfmt::skip] // one line per field
    pub const fn decode(raw: &[u8; Self::LEN]) -> Self {
        let [
            s0, s1, s2, s3,
            e0, e1, e2, e3,
            reserved, flags, v0, v1,
            p0, p1, function, index,
            a0, a1, a2, a3,
            b0, b1, b2, b3,
        ] = *raw;
        Self {
            start_address: u32::from_le_bytes([s0, s1, s2, s3]),
            end_address: u32::from_le_bytes([e0, e1, e2, e3]),
            reserved,
            flags: Flags(flags),
            version: u16::from_le_bytes([v0, v1]),
            platform_id: u16::from_le_bytes([p0, p1]),
            function: ModuleFunction::from_number(function),
            index,
            dependencies: [Dependency::decode([a0, a1, a2, a3]), Dependency::decode([b0, b1, b2, b3])],
        }
    }

    /// The bytes.
    #[must_use]
    #[rustfmt::skip] // one line per field
    pub const fn encode(&self) -> [u8; Self::LEN] {
        let [s0, s1, s2, s3] = self.start_address.to_le_bytes();
        let [e0, e1, e2, e3] = self.end_address.to_le_bytes();
        let [v0, v1] = self.version.to_le_bytes();
        let [p0, p1] = self.platform_id.to_le_bytes();
        let [first, second] = self.dependencies;
        let [a0, a1, a2, a3] = first.encode();
        let [b0, b1, b2, b3] = second.encode();
        [
            s0, s1, s2, s3,
            e0, e1, e2, e3,
            self.reserved, self.flags.0, v0, v1,
            p0, p1, self.function.number(), self.index,
            a0, a1, a2, a3,
            b0, b1, b2, b3,
        ]
    }

    /// Bytes of the module without its CRC; `None` if the end is not behind the start.
    #[must_use]
    pub const fn length(&self) -> Option<u32> {
        match self.end_address.checked_sub(self.start_address) {
            Some(0) | None => None,
            length => length,
        }
    }

    /// Function and index.
    #[must_use]
    pub const fn key(&self) -> super::ModuleKey {
        super::ModuleKey { function: self.function, index: self.index }
    }
}

/// `system part 2 version 2202 for Photon`.
impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} version {} for ", self.key(), self.version)?;
        match platform_name(self.platform_id) {
            Some(name) => f.write_str(name),
            None => write!(f, "platform {}", self.platform_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;
    use hex_literal::hex;
    use proptest::prelude::*;

    #[test]
    fn modules_and_flags_have_names() {
        let mut prefix = Prefix::decode(&[0; 24]);
        (prefix.function, prefix.index, prefix.version) = (ModuleFunction::System, 2, 2202);
        prefix.platform_id = 6;
        assert_eq!(prefix.to_string(), "system part 2 version 2202 for Photon");
        prefix.platform_id = 999;
        assert_eq!(prefix.to_string(), "system part 2 version 2202 for platform 999");
        assert_eq!(
            Flags(0xf7).names().collect::<Vec<_>>(),
            ["drop-info", "compressed", "combined", "prefix-extensions"]
        );
    }

    #[test]
    fn prefix_of_the_photon_part_2_reads_and_writes_the_same() {
        let raw = hex!(
            "00000608 e4fa0908  00 00 9a08  0600 04 02"
            "04 01 9a08  02 00 eb03"
        );
        let prefix = Prefix::decode(&raw);
        assert_eq!(
            prefix,
            Prefix {
                start_address: 0x0806_0000,
                end_address: 0x0809_fae4,
                reserved: 0,
                flags: Flags(0),
                version: 2202,
                platform_id: 6,
                function: ModuleFunction::System,
                index: 2,
                dependencies: [Dependency::system(1, 2202), Dependency::bootloader(1003)],
            }
        );
        assert_eq!(prefix.encode(), raw);
        assert_eq!(prefix.length(), Some(260_836));
    }

    #[test]
    fn empty_and_reversed_ranges_have_no_length() {
        let mut prefix = Prefix::decode(&[0; 24]);
        assert_eq!(prefix.length(), None);
        prefix.start_address = 1;
        assert_eq!(prefix.length(), None);
    }

    #[test]
    fn every_number_is_a_function_and_known_letters_come_back() {
        for number in 0..=u8::MAX {
            let function = ModuleFunction::from_number(number);
            assert_eq!(function.number(), number);
            let letter = ModuleFunction::from_letter(function.letter()).unwrap();
            assert_eq!(letter == function, number < 10, "{number}");
        }
        assert_eq!(ModuleFunction::from_letter('x'), None);
    }

    proptest! {
        #[test]
        fn any_24_bytes_survive_a_round_trip(raw: [u8; 24]) {
            prop_assert_eq!(Prefix::decode(&raw).encode(), raw);
        }
    }
}
