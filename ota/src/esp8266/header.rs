//! The eight bytes that every image begins with, and the flash parameters in them.

use core::fmt;
use core::str::FromStr;

/// How many lines the flash is read over, and in which way. A mode that the board is not wired for does not start;
/// [`FlashMode::Dout`] needs the fewest lines.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FlashMode {
    /// 0: address and data over four lines.
    Qio,
    /// 1: data over four lines.
    Qout,
    /// 2: address and data over two lines.
    Dio,
    /// 3: data over two lines.
    Dout,
    /// Another byte.
    Other(u8),
}

/// Size of the flash, and how the vendor's boot stage divides it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FlashSize {
    /// 0: 512 KiB.
    Kb512,
    /// 1: 256 KiB.
    Kb256,
    /// 2: 1 MiB, as halves of 512 KiB.
    Mb1,
    /// 3: 2 MiB, slots of 512 KiB.
    Mb2,
    /// 4: 4 MiB, slots of 512 KiB.
    Mb4,
    /// 5: 2 MiB, slots of 1 MiB.
    Mb2C1,
    /// 6: 4 MiB, slots of 1 MiB.
    Mb4C1,
    /// 8: 8 MiB.
    Mb8,
    /// 9: 16 MiB.
    Mb16,
    /// Another number; only its low four bits can be stored.
    Other(u8),
}

/// Clock of the flash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FlashFrequency {
    /// 0: 40 MHz.
    Mhz40,
    /// 1: 26 MHz.
    Mhz26,
    /// 2: 20 MHz.
    Mhz20,
    /// 15: 80 MHz.
    Mhz80,
    /// Another number; only its low four bits can be stored.
    Other(u8),
}

/// No flash mode, size or frequency has this name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("none of {}", Names(.known))]
pub struct UnknownName {
    /// Those there are.
    pub known: &'static [&'static str],
}

struct Names(&'static [&'static str]);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(at, name)| {
            f.write_str(if at == 0 { "" } else { ", " })?;
            f.write_str(name)
        })
    }
}

/// Code, name and value of each known one, in one table.
macro_rules! known {
    ($type:ident, $from:ident, $to:ident, $mask:literal, $what:literal, $(($code:literal, $name:literal, $value:ident)),+) => {
        impl $type {
            #[doc = concat!("Every known ", $what, ".")]
            pub const KNOWN: &'static [Self] = &[$(Self::$value),+];

            /// Their names, as esptool has them.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            #[doc = concat!("The ", $what, " that has this number.")]
            #[must_use]
            pub const fn $from(number: u8) -> Self {
                match number & $mask {
                    $($code => Self::$value,)+
                    other => Self::Other(other),
                }
            }

            /// Its number.
            #[must_use]
            pub const fn $to(self) -> u8 {
                match self {
                    $(Self::$value => $code,)+
                    Self::Other(other) => other & $mask,
                }
            }

            /// Its name, as esptool has it; `None` if it is not known.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$value => Some($name),)+
                    Self::Other(_) => None,
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.pad(name),
                    None => write!(f, "unknown ({:#x})", self.$to()),
                }
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            /// By name, in any case.
            fn from_str(text: &str) -> Result<Self, UnknownName> {
                let known = |other: &&Self| other.name().is_some_and(|name| name.eq_ignore_ascii_case(text));
                Self::KNOWN.iter().find(known).copied().ok_or(UnknownName { known: Self::NAMES })
            }
        }
    };
}

known! { FlashMode, from_byte, byte, 0xff, "flash mode",
(0, "qio", Qio), (1, "qout", Qout), (2, "dio", Dio), (3, "dout", Dout) }
known! { FlashSize, from_nibble, nibble, 0x0f, "flash size",
(1, "256KB", Kb256), (0, "512KB", Kb512), (2, "1MB", Mb1), (3, "2MB", Mb2), (4, "4MB", Mb4),
(5, "2MB-c1", Mb2C1), (6, "4MB-c1", Mb4C1), (8, "8MB", Mb8), (9, "16MB", Mb16) }
known! { FlashFrequency, from_nibble, nibble, 0x0f, "flash frequency",
(2, "20m", Mhz20), (1, "26m", Mhz26), (0, "40m", Mhz40), (15, "80m", Mhz80) }

/// Mode, size and frequency, as they stand in bytes 2 and 3 of a header.
///
/// | offset | bits | field |
/// |---|---|---|
/// | 2 | 8 | [`FlashMode`] |
/// | 3 | 7–4 | [`FlashSize`] |
/// | 3 | 3–0 | [`FlashFrequency`] |
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FlashParameters {
    /// Lines.
    pub mode: FlashMode,
    /// Size and slots.
    pub size: FlashSize,
    /// Clock.
    pub frequency: FlashFrequency,
}

impl FlashParameters {
    /// What SonOTA and Espressif2Arduino build for a Sonoff with 1 MiB: DOUT, 40 MHz.
    pub const SONOFF: Self =
        Self { mode: FlashMode::Dout, size: FlashSize::Mb1, frequency: FlashFrequency::Mhz40 };

    /// Reads both bytes; nothing is lost.
    #[must_use]
    pub const fn from_bytes([mode, rest]: [u8; 2]) -> Self {
        Self {
            mode: FlashMode::from_byte(mode),
            size: FlashSize::from_nibble(rest >> 4),
            frequency: FlashFrequency::from_nibble(rest & 0x0f),
        }
    }

    /// Both bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 2] {
        [self.mode.byte(), self.size.nibble() << 4 | self.frequency.nibble()]
    }
}

impl fmt::Display for FlashParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.mode, self.size, self.frequency)
    }
}

/// A header.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 1 | magic |
/// | 1 | 1 | number of segments; the constant 4 in the first header of v2 |
/// | 2 | 2 | [`FlashParameters`]; in the first header of the SDK's v2 images 0 and the slot's number |
/// | 4 | 4 | entry point, little-endian |
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Header {
    /// [`MAGIC_V1`](super::MAGIC_V1) or [`MAGIC_V2`](super::MAGIC_V2) in images.
    pub magic: u8,
    /// Number of segments, or the constant.
    pub count: u8,
    /// How the flash is read.
    pub parameters: FlashParameters,
    /// Where the program begins.
    pub entry: u32,
}

impl Header {
    /// Bytes of a header.
    pub const LEN: usize = 8;

    /// Reads a header, whatever it says.
    #[must_use]
    pub const fn decode(raw: &[u8; Self::LEN]) -> Self {
        let [magic, count, mode, rest, entry @ ..] = *raw;
        let parameters = FlashParameters::from_bytes([mode, rest]);
        Self { magic, count, parameters, entry: u32::from_le_bytes(entry) }
    }

    /// Its bytes.
    #[must_use]
    pub const fn encode(&self) -> [u8; Self::LEN] {
        let [mode, rest] = self.parameters.to_bytes();
        let [a, b, c, d] = self.entry.to_le_bytes();
        [self.magic, self.count, mode, rest, a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use hex_literal::hex;

    #[test]
    fn table_of_codes_is_read_and_written() {
        let cases = [
            (hex!("0000"), "qio 512KB 40m"),
            (hex!("0111"), "qout 256KB 26m"),
            (hex!("0222"), "dio 1MB 20m"),
            (hex!("033f"), "dout 2MB 80m"),
            (hex!("0340"), "dout 4MB 40m"),
            (hex!("0350"), "dout 2MB-c1 40m"),
            (hex!("0360"), "dout 4MB-c1 40m"),
            (hex!("0380"), "dout 8MB 40m"),
            (hex!("0390"), "dout 16MB 40m"),
            (hex!("0973"), "unknown (0x9) unknown (0x7) unknown (0x3)"),
        ];
        for (bytes, text) in cases {
            let parameters = FlashParameters::from_bytes(bytes);
            assert_eq!(parameters.to_string(), text);
            assert_eq!(parameters.to_bytes(), bytes);
        }
    }

    #[test]
    fn every_byte_pair_survives() {
        for bytes in 0..=u16::MAX {
            let bytes = bytes.to_be_bytes();
            assert_eq!(FlashParameters::from_bytes(bytes).to_bytes(), bytes);
        }
    }

    #[test]
    fn names_are_read_in_any_case() {
        assert_eq!("DOUT".parse(), Ok(FlashMode::Dout));
        assert_eq!("1mb".parse(), Ok(FlashSize::Mb1));
        assert_eq!("80m".parse(), Ok(FlashFrequency::Mhz80));
        let error = "fast".parse::<FlashMode>().unwrap_err();
        assert_eq!(error.to_string(), "none of qio, qout, dio, dout");
        for (value, name) in FlashSize::KNOWN.iter().zip(FlashSize::NAMES) {
            assert_eq!(name.parse(), Ok(*value));
            assert_eq!(FlashSize::from_nibble(value.nibble()), *value);
        }
    }

    #[test]
    fn header_has_the_bytes_of_the_layout() {
        let raw = hex!("e9 03 03 20 04001040");
        let header = Header::decode(&raw);
        let expected =
            Header { magic: 0xe9, count: 3, parameters: FlashParameters::SONOFF, entry: 0x4010_0004 };
        assert_eq!((header, header.encode()), (expected, raw));
    }
}
