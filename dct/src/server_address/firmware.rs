//! How firmware reads the block, errors included.

use super::{LEN, PORT_AT};
use crate::field::FirmwareVersion;
use core::net::Ipv4Addr;

/// A parser of the firmware, as released.
///
/// It copies the block into a structure that the caller has zeroed. Both generations take a domain length of up to 126,
/// also where their buffer is shorter; nothing is refused, so what comes out has to be described:
///
/// | length of the domain | v0.4.0 to v0.4.7 (buffer 127, no port) | v0.4.9 and later (buffer 64, then port) |
/// |---|---|---|
/// | 0 to 63 | the name | name and port |
/// | 64 | the name | the end mark falls on the port and is overwritten: the port's bytes belong to the **name**, too |
/// | 65 to 126 | the name | the **port** is taken from characters 65 and 66, which change places in the **name** |
/// | 126 | the name | and the end mark is written **one byte behind** the structure |
/// | 127 and more | none | none |
///
/// # Source
/// `device-os@v0.4.0`, `@v0.5.0`, `@v1.0.0`: `hal/shared/parse_server_address.h`, compiled and run up to 63 bytes and for the
/// write behind the structure; the rows between follow from its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(non_camel_case_types, reason = "the variants are release numbers")]
#[non_exhaustive]
pub enum FirmwareParser {
    /// v0.4.0 to v0.4.7.
    V0_4_0,
    /// v0.4.9 and later.
    V0_4_9,
}

/// What a firmware makes of a block.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FirmwareAddress {
    /// What the address is.
    pub kind: FirmwareHost,
    /// Port as stored, `None` where the structure has no port or the kind is none. 0 and FFFF mean the default.
    pub port: Option<u16>,
    /// Bytes that the parser wrote behind its structure: 1 for a domain of 126 bytes.
    pub bytes_past_struct: usize,
    memory: [u8; LEN + 2],
}

/// What an address is to the firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum FirmwareHost {
    /// IPv4 address.
    Ipv4(Ipv4Addr),
    /// Domain, see [`FirmwareAddress::name`].
    Domain,
    /// No address: TCP falls back to `device.spark.io:5683`, UDP has no default and fails.
    None,
}

impl FirmwareParser {
    /// The parser of a release. v0.4.8 was not released; it counts as v0.4.9.
    #[must_use]
    pub fn of_firmware(version: FirmwareVersion) -> Self {
        if version >= FirmwareVersion::new(0, 4, 8) { FirmwareParser::V0_4_9 } else { FirmwareParser::V0_4_0 }
    }

    /// Bytes that the structure has for the name, the end mark included.
    #[must_use]
    pub const fn capacity(self) -> usize {
        match self {
            FirmwareParser::V0_4_0 => 127,
            FirmwareParser::V0_4_9 => 64,
        }
    }

    /// Bytes of the structure that the block is read into.
    #[must_use]
    pub const fn struct_len(self) -> usize {
        match self {
            FirmwareParser::V0_4_0 => 129,
            FirmwareParser::V0_4_9 => 128,
        }
    }

    /// Reads a block as the firmware does; every content is accepted.
    #[must_use]
    pub fn parse(self, block: &[u8; LEN]) -> FirmwareAddress {
        let mut found = FirmwareAddress {
            kind: FirmwareHost::None,
            port: None,
            bytes_past_struct: 0,
            memory: [0; LEN + 2],
        };
        let stored = [block[PORT_AT], block[PORT_AT + 1]];
        let port = match self {
            FirmwareParser::V0_4_0 => None,
            FirmwareParser::V0_4_9 => Some(u16::from_be_bytes(stored)),
        };
        match block {
            [0, _, a, b, c, d, ..] => {
                found.kind = FirmwareHost::Ipv4(Ipv4Addr::new(*a, *b, *c, *d));
                found.port = port;
            }
            [1, length @ 0..=126, value @ ..] => {
                let length = usize::from(*length);
                found.kind = FirmwareHost::Domain;
                found.port = port;
                found
                    .memory
                    .iter_mut()
                    .skip(2)
                    .zip(value)
                    .take(length)
                    .for_each(|(slot, byte)| *slot = *byte);
                let end = 2 + length;
                if let Some(slot) = found.memory.get_mut(end) {
                    *slot = 0;
                }
                found.bytes_past_struct = (end + 1).saturating_sub(self.struct_len());
                if let Some(port) = port {
                    // the structure has it as the processor does, the block the other way round
                    found
                        .memory
                        .iter_mut()
                        .skip(PORT_AT)
                        .zip(port.to_le_bytes())
                        .for_each(|(slot, byte)| *slot = byte);
                }
            }
            _ => {}
        }
        found
    }
}

impl FirmwareAddress {
    /// The name that is looked up (after `$id` is [replaced](super::expand_id)); empty for an IPv4 address and for none.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        let room = self.memory.get(2..).unwrap_or_default();
        let end = room.iter().position(|byte| *byte == 0).unwrap_or(room.len());
        room.get(..end).unwrap_or(room)
    }

    /// Port to connect to, with the default of the protocol, for instance [`DEFAULT_PORT_TCP`](super::DEFAULT_PORT_TCP).
    #[must_use]
    pub const fn port_or(&self, default: u16) -> u16 {
        match self.port {
            Some(0 | 0xFFFF) | None => default,
            Some(port) => port,
        }
    }
}

impl core::fmt::Debug for FirmwareAddress {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("FirmwareAddress")
            .field("kind", &self.kind)
            .field("name", &format_args!("\"{}\"", self.name().escape_ascii()))
            .field("port", &self.port)
            .field("bytes_past_struct", &self.bytes_past_struct)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(length: u8) -> [u8; LEN] {
        let mut block = [0xFF; LEN];
        block[0] = 1;
        block[1] = length;
        let name = (b'a'..=b'z').cycle().take(usize::from(length));
        block[2..].iter_mut().zip(name).for_each(|(slot, byte)| *slot = byte);
        block
    }

    #[test]
    fn names_up_to_63_bytes_are_the_same_for_both() {
        for length in 0..=63 {
            let mut block = domain(length);
            block[66..68].copy_from_slice(&[0x16, 0x33]);
            let old = FirmwareParser::V0_4_0.parse(&block);
            let new = FirmwareParser::V0_4_9.parse(&block);
            assert_eq!(old.name(), &block[2..2 + usize::from(length)]);
            assert_eq!(new.name(), old.name());
            assert_eq!((old.port, new.port), (None, Some(5683)));
            assert_eq!(new.port_or(1), 5683);
            assert_eq!((old.bytes_past_struct, new.bytes_past_struct), (0, 0));
        }
    }

    #[test]
    fn name_of_64_bytes_grows_by_the_port() {
        let block = domain(64);
        assert_eq!(FirmwareParser::V0_4_0.parse(&block).name(), &block[2..66]);
        let new = FirmwareParser::V0_4_9.parse(&block);
        assert_eq!(new.name(), [&block[2..66], &[0xFF, 0xFF]].concat());
        assert_eq!(new.port_or(5683), 5683);
    }

    #[test]
    fn longer_names_give_their_characters_for_the_port() {
        for length in 66..=126 {
            let block = domain(length);
            let new = FirmwareParser::V0_4_9.parse(&block);
            assert_eq!(new.port, Some(u16::from_be_bytes([block[66], block[67]])));
            let mut name = block[2..2 + usize::from(length)].to_vec();
            name.swap(64, 65);
            assert_eq!(new.name(), name, "{length}");
            assert_eq!(new.bytes_past_struct, usize::from(length == 126), "{length}");
            assert_eq!(FirmwareParser::V0_4_0.parse(&block).name(), &block[2..2 + usize::from(length)]);
        }
        for length in 127..=255 {
            assert_eq!(FirmwareParser::V0_4_9.parse(&domain(length)).kind, FirmwareHost::None);
            assert_eq!(FirmwareParser::V0_4_0.parse(&domain(length)).kind, FirmwareHost::None);
        }
    }
}
