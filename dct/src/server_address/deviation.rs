//! What is odd about a block.

use super::{LEN, MAX_DOMAIN, PORT_AT};

/// Something that a block has and our encoder never writes. Most of it comes from the host tool, and some of it stops a
/// device from connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Deviation {
    /// Type byte other than 0, 1 and FF: no address.
    UnknownType {
        /// The byte.
        kind: u8,
    },
    /// Type 0 with a length other than 4. Firmware does not look at it; the host tool shows that many octets. It wrote it
    /// for a text with more or fewer numbers than four.
    Ipv4Length {
        /// The byte.
        length: u8,
    },
    /// Domain without a character: the look-up fails.
    EmptyDomain,
    /// Domain of 64 to 126 bytes, see [`FirmwareParser`](super::FirmwareParser): the look-up or the port fails.
    DomainTooLong {
        /// Length byte.
        length: u8,
    },
    /// Length byte of 127 and more: no address for the firmware.
    DomainLengthInvalid {
        /// Length byte.
        length: u8,
    },
    /// A byte of the domain is not ASCII. The host tool counts characters and writes bytes, so the end of such a name is
    /// missing, too.
    NotAscii {
        /// Position in the domain.
        at: u8,
    },
    /// Port 0000. Firmware takes its default; the host tool shows 0.
    PortZero,
    /// One 00 behind the domain, as factory images and the host tool's own key file have it. Harmless.
    Terminator,
    /// Other bytes than FF behind the value or the port: the rest of an earlier, longer address. Harmless.
    StaleTail {
        /// First such byte in the block.
        at: u8,
    },
}

impl Deviation {
    /// A word that does not change between releases of this crate.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Deviation::UnknownType { .. } => "unknown-type",
            Deviation::Ipv4Length { .. } => "ipv4-length",
            Deviation::EmptyDomain => "domain-empty",
            Deviation::DomainTooLong { .. } => "domain-too-long",
            Deviation::DomainLengthInvalid { .. } => "domain-length-invalid",
            Deviation::NotAscii { .. } => "domain-not-ascii",
            Deviation::PortZero => "port-zero",
            Deviation::Terminator => "terminator",
            Deviation::StaleTail { .. } => "stale-tail",
        }
    }

    /// Whether devices connect all the same.
    #[must_use]
    pub const fn is_harmless(&self) -> bool {
        matches!(
            self,
            Deviation::Ipv4Length { .. }
                | Deviation::PortZero
                | Deviation::Terminator
                | Deviation::StaleTail { .. }
        )
    }
}

impl core::fmt::Display for Deviation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Deviation::UnknownType { kind } => write!(f, "type {kind} is no address"),
            Deviation::Ipv4Length { length } => {
                write!(
                    f,
                    "address of type IPv4 has length {length} in place of 4, as the host tool writes for a text that is none"
                )
            }
            Deviation::EmptyDomain => f.write_str("domain is empty"),
            Deviation::DomainTooLong { length } => {
                write!(f, "domain of {length} bytes runs into the port; devices take 63")
            }
            Deviation::DomainLengthInvalid { length } => {
                write!(f, "domain length {length} is above 126, which devices take for no address")
            }
            Deviation::NotAscii { at } => {
                write!(f, "domain is not ASCII from byte {at} on and its end is probably missing")
            }
            Deviation::PortZero => f.write_str("port is 0, which devices take for their default"),
            Deviation::Terminator => f.write_str("domain is followed by a 00"),
            Deviation::StaleTail { at } => write!(f, "bytes of an earlier address are left from {at} on"),
        }
    }
}

/// What is odd about a block, in the order of the bytes; nothing for an erased one and for what our encoder writes.
///
/// ```
/// use spark_dct::server_address::deviations;
/// let mut block = [0xFF; 128];
/// block[..18].copy_from_slice(b"\x01\x0fdevice.spark.io\0");
/// let codes: Vec<_> = deviations(&block).map(|deviation| deviation.code()).collect();
/// assert_eq!(codes, ["terminator"]);
/// ```
pub fn deviations(block: &[u8; LEN]) -> impl Iterator<Item = Deviation> {
    let [kind, length, rest @ ..] = block;
    let used = match kind {
        0 => 4,
        _ => usize::from(*length).min(rest.len()),
    };
    let value = rest.get(..used).unwrap_or_default();
    let mut found = [None; 5];
    match (kind, length) {
        (0, 4) => {}
        (0, length) => found[0] = Some(Deviation::Ipv4Length { length: *length }),
        (1, 0) => found[0] = Some(Deviation::EmptyDomain),
        (1, length) if usize::from(*length) <= MAX_DOMAIN => {}
        (1, length @ ..=126) => found[0] = Some(Deviation::DomainTooLong { length: *length }),
        (1, length) => found[0] = Some(Deviation::DomainLengthInvalid { length: *length }),
        (0xFF, _) => {}
        (kind, _) => found[0] = Some(Deviation::UnknownType { kind: *kind }),
    }
    if *kind == 1 {
        let at = value.iter().position(|byte| !byte.is_ascii()).and_then(|at| u8::try_from(at).ok());
        found[1] = at.map(|at| Deviation::NotAscii { at });
    }
    if matches!(kind, 0 | 1) {
        let end = 2 + used;
        let left = |from: usize, to: usize| {
            let bytes = block.get(from..to).unwrap_or_default();
            let at = bytes.iter().position(|byte| *byte != 0xFF).map(|at| from + at);
            at.and_then(|at| u8::try_from(at).ok()).map(|at| Deviation::StaleTail { at })
        };
        let terminated = *kind == 1 && end < PORT_AT && block.get(end) == Some(&0);
        found[2] = match left(end + usize::from(terminated), PORT_AT) {
            None if terminated => Some(Deviation::Terminator),
            stale => stale,
        };
        if end <= PORT_AT && block.get(PORT_AT..PORT_AT + 2) == Some(&[0, 0]) {
            found[3] = Some(Deviation::PortZero);
        }
        found[4] = left((PORT_AT + 2).max(end), LEN);
    }
    found.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::super::ServerAddress;
    use super::*;
    use alloc::vec::Vec;

    fn codes(block: &[u8; LEN]) -> Vec<&'static str> {
        deviations(block).map(|deviation| deviation.code()).collect()
    }

    fn block(front: &[u8]) -> [u8; LEN] {
        let mut block = [0xFF; LEN];
        block[..front.len()].copy_from_slice(front);
        block
    }

    #[test]
    fn each_oddity_has_its_word() {
        assert_eq!(codes(&[0xFF; LEN]), [""; 0]);
        assert_eq!(codes(&[0; LEN]), ["ipv4-length", "stale-tail", "port-zero", "stale-tail"]);
        assert_eq!(codes(&block(b"\x02\x04abcd")), ["unknown-type"]);
        assert_eq!(codes(&block(b"\x00\x03\x00\x01\x02\x00")), ["ipv4-length"]);
        assert_eq!(codes(&block(b"\x01\x00")), ["domain-empty"]);
        assert_eq!(codes(&block(b"\x01\x05short\x00")), ["terminator"]);
        assert_eq!(codes(&block(b"\x01\x05shorter.name")), ["stale-tail"]);
        assert_eq!(codes(&block("\u{1}\u{6}m\u{fc}nche".as_bytes())), ["domain-not-ascii", "stale-tail"]);
        let mut long = [b'x'; LEN];
        (long[0], long[1]) = (1, 100);
        assert_eq!(codes(&long), ["domain-too-long", "stale-tail"]);
        long[1] = 200;
        assert_eq!(codes(&long), ["domain-length-invalid"]);
        let mut zero = block(b"\x01\x05short");
        zero[66..68].fill(0);
        assert_eq!(codes(&zero), ["port-zero"]);
    }

    #[test]
    fn what_we_write_has_none() {
        for text in ["a", "cloud.example.org:5683", "192.168.1.5", "$id.udp.example.net:5684"] {
            let mut block = [0; LEN];
            ServerAddress::from_text(text).unwrap().encode_into(&mut block);
            assert_eq!(codes(&block), [""; 0], "{text}");
        }
    }
}
