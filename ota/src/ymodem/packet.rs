//! Packets and headers.

use crc::{CRC_16_XMODEM, Crc, Table};

/// The single bytes of the protocol.
pub mod control {
    /// `SOH`: a packet of 128 bytes follows.
    pub const SOH: u8 = 0x01;
    /// `STX`: a packet of 1024 bytes follows.
    pub const STX: u8 = 0x02;
    /// `EOT`: the file ends.
    pub const EOT: u8 = 0x04;
    /// `ACK`: taken.
    pub const ACK: u8 = 0x06;
    /// `NAK`: send that again.
    pub const NAK: u8 = 0x15;
    /// `CAN`: twice in a row ends the transfer.
    pub const CAN: u8 = 0x18;
    /// `C`: the receiver is ready.
    pub const READY: u8 = b'C';
}

/// Data of the longest packet.
pub(super) const MAX_DATA: usize = 1024;
/// Bytes before the data.
pub(super) const HEAD: usize = 3;
/// Bytes of the checksum.
pub(super) const TAIL: usize = 2;
/// The longest packet.
pub(super) const MAX_PACKET: usize = HEAD + MAX_DATA + TAIL;
/// What ends a transfer from either side.
pub(super) const CANCEL: [u8; 2] = [control::CAN; 2];

static CRC: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_XMODEM);

/// CRC-16/XMODEM of `bytes`.
///
/// ```
/// assert_eq!(spark_ota::ymodem::crc16(b"123456789"), 0x31c3);
/// ```
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    CRC.checksum(bytes)
}

/// Data of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "the protocol has two")]
pub enum BlockSize {
    /// 128 bytes.
    Small,
    /// 1024 bytes.
    Large,
}

impl BlockSize {
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Small => 128,
            Self::Large => MAX_DATA,
        }
    }

    /// The first byte of a packet of this size.
    #[must_use]
    pub const fn start(self) -> u8 {
        match self {
            Self::Small => control::SOH,
            Self::Large => control::STX,
        }
    }

    /// By the first byte of a packet.
    #[must_use]
    pub const fn from_start(byte: u8) -> Option<Self> {
        match byte {
            control::SOH => Some(Self::Small),
            control::STX => Some(Self::Large),
            _ => None,
        }
    }
}

/// Why a file cannot be announced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// A header without a name is the end of all files.
    #[error("the name is empty")]
    Empty,
    /// The name ends where the first 00 is.
    #[error("the name has a zero byte at {offset}")]
    Zero {
        /// Where.
        offset: usize,
    },
    /// The header has no room for it.
    #[error("the name has {length} bytes, and no more than {limit} fit")]
    TooLong {
        /// Bytes of the name.
        length: usize,
        /// Bytes that fit.
        limit: usize,
    },
}

/// What the first packet says of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Header<'a> {
    /// Name of the file, in no particular encoding; empty at the end of all files.
    pub name: &'a [u8],
    /// Its length in bytes, if the sender tells it.
    pub length: Option<u32>,
}

/// Digits of the longest length, the zero before it, the space behind it and a time of 0.
const LENGTH_FIELD: usize = 13;

impl<'a> Header<'a> {
    /// Bytes that a name can have in a packet of this size.
    #[must_use]
    pub const fn name_limit(size: BlockSize) -> usize {
        size.bytes() - LENGTH_FIELD
    }

    /// Reads the data of a packet; whatever it is, it says something. A number that is not one, or too large, is no
    /// length. What follows the length (time, mode) is left out.
    #[must_use]
    pub fn parse(data: &'a [u8]) -> Self {
        let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
        let (name, rest) = data.split_at(end);
        let digits = rest.get(1..).unwrap_or_default();
        let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
        let text = core::str::from_utf8(digits.get(..end).unwrap_or_default());
        Self { name, length: text.ok().and_then(|text| text.parse().ok()) }
    }

    /// Writes the data of a packet and says how many bytes it has before the filling.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn encode_into(&self, size: BlockSize, out: &mut [u8; MAX_DATA]) -> Result<usize, NameError> {
        let (length, limit) = (self.name.len(), Self::name_limit(size));
        if length == 0 {
            return Err(NameError::Empty);
        }
        if length > limit {
            return Err(NameError::TooLong { length, limit });
        }
        if let Some(offset) = self.name.iter().position(|byte| *byte == 0) {
            return Err(NameError::Zero { offset });
        }
        let digits = self.length.map(Decimal::new);
        let digits = digits.as_ref().map_or(&[][..], |number| number.digits());
        let space: &[u8] = if digits.is_empty() { b"" } else { b" " };
        let mut len = 0;
        for byte in [self.name, &[0], digits, space].into_iter().flatten() {
            if let Some(place) = out.get_mut(len) {
                *place = *byte;
                len += 1;
            }
        }
        Ok(len)
    }
}

/// A number in decimal.
struct Decimal {
    digits: [u8; 10],
    start: usize,
}

impl Decimal {
    fn new(number: u32) -> Self {
        let (mut digits, mut start, mut rest) = ([b'0'; 10], 10, number);
        for place in digits.iter_mut().rev() {
            if rest == 0 && start < 10 {
                break;
            }
            *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            start -= 1;
            rest /= 10;
        }
        Self { digits, start }
    }

    fn digits(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    #[test]
    fn headers_are_written_as_the_vendor_writes_them_and_read_back() {
        let cases: [(&[u8], Option<u32>, &[u8]); 5] = [
            (b"binary", Some(300), &hex!("62696e617279 00 333030 20")),
            (b"a", Some(0), b"a\x000 "),
            (b"a", Some(u32::MAX), b"a\x004294967295 "),
            (b"a", Some(1_000_000_000), b"a\x001000000000 "),
            (b"name only", None, b"name only\0"),
        ];
        for (name, length, expected) in cases {
            let header = Header { name, length };
            let mut out = [0; MAX_DATA];
            let len = header.encode_into(BlockSize::Small, &mut out).unwrap();
            assert_eq!(&out[..len], expected);
            assert_eq!(Header::parse(&out), header);
        }
    }

    #[test]
    fn headers_of_other_senders_are_understood() {
        let cases: [(&[u8], &[u8], Option<u32>); 7] = [
            (b"file.bin\x001025 14717562510 100644 0 1 1025\0\0", b"file.bin", Some(1025)),
            (b"\x000 \0", b"", Some(0)),
            (b"\0\0\0", b"", None),
            (b"a\x0099999999999 \0", b"a", None),
            (b"a\0 12\0", b"a", None),
            (b"no end", b"no end", None),
            (b"", b"", None),
        ];
        for (data, name, length) in cases {
            assert_eq!(Header::parse(data), Header { name, length });
        }
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        let mut out = [0; MAX_DATA];
        let mut encode =
            |name: &[u8], size| Header { name, length: Some(u32::MAX) }.encode_into(size, &mut out);
        assert_eq!(encode(b"", BlockSize::Small), Err(NameError::Empty));
        assert_eq!(encode(b"ab\0c", BlockSize::Small), Err(NameError::Zero { offset: 2 }));
        let limit = Header::name_limit(BlockSize::Small);
        assert_eq!(encode(&[b'x'; 115], BlockSize::Small), Ok(127));
        assert_eq!(encode(&[b'x'; 116], BlockSize::Small), Err(NameError::TooLong { length: 116, limit }));
        assert_eq!(encode(&[b'x'; 1011], BlockSize::Large), Ok(1023));
    }

    #[test]
    fn checksum_is_that_of_xmodem() {
        assert_eq!(crc16(&[]), 0);
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }
}
