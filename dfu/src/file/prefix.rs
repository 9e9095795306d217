//! Prefixes that some boot loaders want before the payload: TI Stellaris (LMDFU) and NXP LPC.

use crate::error::BufferTooSmall;

/// Length of the TI prefix in bytes.
pub const LMDFU_LEN: usize = 8;
/// Length of the NXP prefix in bytes.
pub const LPC_LEN: usize = 16;
const LPC_BLOCK: u64 = 512;

/// A prefix.
///
/// TI Stellaris LMDFU, 8 bytes:
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 1 | 0x01, the program command |
/// | 1 | 1 | 0x00 |
/// | 2 | 2 | flash address / 1024, little-endian |
/// | 4 | 4 | length of the payload in bytes, little-endian |
///
/// NXP LPC without encryption, 16 bytes:
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 1 | 0x1A |
/// | 1 | 1 | 0x3F |
/// | 2 | 2 | 512-byte blocks of the payload, rounded up, little-endian |
/// | 4 | 8 | 0x00 |
/// | 12 | 4 | 0xFF |
///
/// ```
/// use spark_dfu::file::prefix::{Prefix, PrefixedContent};
/// let mut out = [0; 12];
/// let content = Prefix::Lmdfu { address: 0x2000 }.prepend_into(b"code", &mut out)?;
/// assert_eq!(content, b"\x01\x00\x08\x00\x04\x00\x00\x00code");
/// assert_eq!(PrefixedContent::parse(content)?.payload(), b"code");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
/// dfu-util@0.11: src/dfu_file.c, src/prefix.c.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Prefix {
    /// TI Stellaris.
    Lmdfu {
        /// Where the payload goes: a multiple of 1024, at most [`Prefix::MAX_LMDFU_ADDRESS`].
        address: u32,
    },
    /// NXP LPC, not encrypted.
    Lpc,
}

impl Prefix {
    /// The largest address of an LMDFU prefix.
    pub const MAX_LMDFU_ADDRESS: u32 = 0x03FF_FC00;

    /// Looks for a prefix in the first bytes of a content (a file without its suffix); sixteen are enough.
    ///
    /// The rules are those of dfu-util: LMDFU if its length field is exact, LPC by the low six bits of two bytes alone,
    /// so that one in 4096 files without prefix is taken for an LPC one; see [`PrefixedContent::is_canonical`].
    ///
    /// # Errors
    /// [`PrefixError`]: why the content has no prefix. dfu-util reports an LPC prefix in a content of 8 to 15 bytes;
    /// here that is [`PrefixError::Truncated`].
    pub fn recognise(head: &[u8], content_len: u64) -> Result<Self, PrefixError> {
        let truncated = |needed| PrefixError::Truncated { needed, available: head.len() };
        let &[first, second, ..] = head else { return Err(truncated(LMDFU_LEN)) };
        if (first, second) == (1, 0) {
            let &[_, _, a0, a1, l0, l1, l2, l3, ..] = head else { return Err(truncated(LMDFU_LEN)) };
            let stored = u32::from_le_bytes([l0, l1, l2, l3]);
            let payload_len = content_len.saturating_sub(LMDFU_LEN as u64);
            if u64::from(stored) != payload_len {
                return Err(PrefixError::LmdfuLength { stored, payload_len });
            }
            return Ok(Self::Lmdfu { address: u32::from(u16::from_le_bytes([a0, a1])) * 1024 });
        }
        if first & 0x3F != 0x1A || second & 0x3F != 0x3F {
            return Err(PrefixError::Unknown { found: [first, second] });
        }
        if head.len() < LPC_LEN { Err(truncated(LPC_LEN)) } else { Ok(Self::Lpc) }
    }

    /// Length of the encoded prefix: 8 or 16.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        match self {
            Self::Lmdfu { .. } => LMDFU_LEN,
            Self::Lpc => LPC_LEN,
        }
    }

    /// Encodes the prefix of a payload of `payload_len` bytes at the start of `out`.
    ///
    /// # Errors
    /// See [`PrefixBuildError`]. dfu-prefix drops the low bits of an address; here that is an error.
    pub fn encode_into<'o>(
        &self,
        payload_len: usize,
        out: &'o mut [u8],
    ) -> Result<&'o [u8], PrefixBuildError> {
        let (bytes, len) = self.encode(payload_len)?;
        let small = BufferTooSmall { needed: len, available: out.len() };
        let target = out.get_mut(..len).ok_or(PrefixBuildError::Buffer(small))?;
        for (to, from) in target.iter_mut().zip(bytes) {
            *to = from;
        }
        Ok(target)
    }

    /// Writes the prefix and the payload to the start of `out`.
    ///
    /// The payload must be without suffix: append that afterwards, since its checksum covers the prefix.
    ///
    /// # Errors
    /// See [`PrefixBuildError`].
    pub fn prepend_into<'o>(&self, payload: &[u8], out: &'o mut [u8]) -> Result<&'o [u8], PrefixBuildError> {
        let (needed, available) = (self.encoded_len().saturating_add(payload.len()), out.len());
        let small = PrefixBuildError::Buffer(BufferTooSmall { needed, available });
        let target = out.get_mut(..needed).ok_or(small)?;
        let (start, end) = target.split_at_mut_checked(self.encoded_len()).ok_or(small)?;
        self.encode_into(payload.len(), start)?;
        end.copy_from_slice(payload);
        Ok(target)
    }

    /// [`Self::prepend_into`] a new vector.
    ///
    /// # Errors
    /// See [`PrefixBuildError`].
    #[cfg(feature = "alloc")]
    pub fn prepend_to_vec(&self, payload: &[u8]) -> Result<alloc::vec::Vec<u8>, PrefixBuildError> {
        let (bytes, len) = self.encode(payload.len())?;
        Ok(bytes.iter().take(len).chain(payload).copied().collect())
    }

    fn encode(&self, payload_len: usize) -> Result<([u8; LPC_LEN], usize), PrefixBuildError> {
        let too_large = || PrefixBuildError::PayloadTooLarge { payload_len: payload_len as u64 };
        let mut bytes = [0; LPC_LEN];
        match *self {
            Self::Lmdfu { address } => {
                let bad_address = PrefixBuildError::Address { address };
                if address % 1024 != 0 {
                    return Err(bad_address);
                }
                let [a0, a1] = u16::try_from(address / 1024).map_err(|_| bad_address)?.to_le_bytes();
                let [l0, l1, l2, l3] = u32::try_from(payload_len).map_err(|_| too_large())?.to_le_bytes();
                let [start @ .., _, _, _, _, _, _, _, _] = &mut bytes;
                *start = [1, 0, a0, a1, l0, l1, l2, l3];
            }
            Self::Lpc => {
                let blocks = (payload_len as u64).div_ceil(LPC_BLOCK);
                let [b0, b1] = u16::try_from(blocks).map_err(|_| too_large())?.to_le_bytes();
                bytes = [0x1A, 0x3F, b0, b1, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF];
            }
        }
        Ok((bytes, self.encoded_len()))
    }
}

/// The content of a file (without suffix) that begins with a known prefix.
///
/// To remove the prefix of a whole file, take the payload and append the suffix anew:
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use spark_dfu::file::{prefix::{Prefix, PrefixedContent}, suffix::{Suffix, SuffixedFile}};
/// # let prefixed = Prefix::Lpc.prepend_to_vec(b"code")?;
/// # let bytes = Suffix::new(0x1FC9, 0x000C).append_to_vec(&prefixed)?;
/// let file = SuffixedFile::parse(&bytes)?;
/// let payload = PrefixedContent::parse(file.content())?.payload();
/// let without = file.suffix().append_to_vec(payload)?;
/// assert_eq!(without.len(), bytes.len() - 16);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixedContent<'a> {
    prefix: Prefix,
    raw: &'a [u8],
    payload: &'a [u8],
}

impl<'a> PrefixedContent<'a> {
    /// Looks for a prefix, see [`Prefix::recognise`].
    ///
    /// # Errors
    /// [`PrefixError`]: why the content has no prefix.
    pub fn parse(content: &'a [u8]) -> Result<Self, PrefixError> {
        let prefix = Prefix::recognise(content, content.len() as u64)?;
        let (needed, available) = (prefix.encoded_len(), content.len());
        let (raw, payload) =
            content.split_at_checked(needed).ok_or(PrefixError::Truncated { needed, available })?;
        Ok(Self { prefix, raw, payload })
    }

    /// What the prefix says.
    #[must_use]
    pub const fn prefix(&self) -> Prefix {
        self.prefix
    }

    /// The bytes of the prefix.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// What follows the prefix.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The block count of an LPC prefix, `None` for the other kind.
    #[must_use]
    pub const fn blocks(&self) -> Option<u16> {
        match (self.prefix, self.raw) {
            (Prefix::Lpc, &[_, _, a, b, ..]) => Some(u16::from_le_bytes([a, b])),
            _ => None,
        }
    }

    /// Whether the prefix is byte for byte what [`Prefix::encode_into`] writes for this payload. Always so for LMDFU; an
    /// LPC prefix for which it is not may be an accident of the payload.
    #[must_use]
    pub fn is_canonical(&self) -> bool {
        self.prefix
            .encode(self.payload.len())
            .is_ok_and(|(bytes, len)| bytes.get(..len).is_some_and(|bytes| bytes == self.raw))
    }
}

/// Why a content has no prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrefixError {
    /// It does not begin like one.
    #[error("no known prefix begins with {:02x} {:02x}", found[0], found[1])]
    Unknown {
        /// The first two bytes.
        found: [u8; 2],
    },
    /// It ends inside the prefix.
    #[error("a prefix needs {needed} bytes but the content has {available}")]
    Truncated {
        /// Bytes of the prefix.
        needed: usize,
        /// Bytes of the content.
        available: usize,
    },
    /// It begins as LMDFU, but with the length of another payload.
    #[error("the LMDFU prefix is for a payload of {stored} bytes, not of {payload_len}")]
    LmdfuLength {
        /// The length in the prefix.
        stored: u32,
        /// Bytes after the prefix.
        payload_len: u64,
    },
}

/// A prefix cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrefixBuildError {
    /// The address is no multiple of 1024 or too high.
    #[error(
        "an LMDFU address is a multiple of 1024 up to {:#x}, not {address:#x}",
        Prefix::MAX_LMDFU_ADDRESS
    )]
    Address {
        /// The address.
        address: u32,
    },
    /// The length field cannot hold the payload's length.
    #[error("a payload of {payload_len} bytes is too large for this prefix")]
    PayloadTooLarge {
        /// Bytes of the payload.
        payload_len: u64,
    },
    /// The output is too small.
    #[error(transparent)]
    Buffer(#[from] BufferTooSmall),
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{vec, vec::Vec};
    use hex_literal::hex;
    use proptest::prelude::*;

    #[test]
    fn an_lmdfu_prefix_counts_only_with_the_exact_length() {
        let content = hex!("01 00 0800 02000000 AABB");
        let read = PrefixedContent::parse(&content).unwrap();
        assert_eq!((read.prefix(), read.payload()), (Prefix::Lmdfu { address: 0x2000 }, &hex!("AABB")[..]));
        let error = PrefixError::LmdfuLength { stored: 2, payload_len: 1 };
        assert_eq!(PrefixedContent::parse(&content[..9]), Err(error));
        assert_eq!(
            PrefixedContent::parse(&content[..7]).unwrap_err(),
            PrefixError::Truncated { needed: 8, available: 7 }
        );
    }

    #[test]
    fn an_lpc_prefix_is_known_by_twelve_bits() {
        let mut content = [0; 20];
        content[..2].copy_from_slice(&hex!("DA FF"));
        let read = PrefixedContent::parse(&content).unwrap();
        assert_eq!((read.prefix(), read.blocks(), read.payload().len()), (Prefix::Lpc, Some(0), 4));
        assert!(!read.is_canonical());
        let error = PrefixError::Truncated { needed: 16, available: 15 };
        assert_eq!(PrefixedContent::parse(&content[..15]), Err(error));
        content[0] = 0x1B;
        assert_eq!(PrefixedContent::parse(&content), Err(PrefixError::Unknown { found: [0x1B, 0xFF] }));
    }

    #[test]
    fn what_a_field_cannot_hold_is_refused() {
        let mut out = [0; 16];
        for address in [1023, 0x0400_0000, u32::MAX] {
            let error = PrefixBuildError::Address { address };
            assert_eq!(Prefix::Lmdfu { address }.encode_into(1, &mut out), Err(error));
        }
        let largest = Prefix::Lmdfu { address: Prefix::MAX_LMDFU_ADDRESS };
        assert_eq!(largest.encode_into(1, &mut out).unwrap(), hex!("01 00 FFFF 01000000"));
        assert!(Prefix::Lpc.encode_into(512 * 65535, &mut out).is_ok());
        let error = PrefixBuildError::PayloadTooLarge { payload_len: 512 * 65535 + 1 };
        assert_eq!(Prefix::Lpc.encode_into(512 * 65535 + 1, &mut out), Err(error));
        let small = BufferTooSmall { needed: 16, available: 15 };
        assert_eq!(Prefix::Lpc.encode_into(0, &mut out[..15]), Err(PrefixBuildError::Buffer(small)));
    }

    proptest! {
        #[test]
        fn what_is_prepended_is_read_back(payload: Vec<u8>, kilobytes: Option<u16>) {
            let prefix = kilobytes.map_or(Prefix::Lpc, |at| Prefix::Lmdfu { address: u32::from(at) * 1024 });
            let mut out = vec![0; payload.len() + 20];
            let content = prefix.prepend_into(&payload, &mut out).unwrap();
            let read = PrefixedContent::parse(content).unwrap();
            prop_assert_eq!((read.prefix(), read.payload()), (prefix, &payload[..]));
            prop_assert!(read.is_canonical());
            #[cfg(feature = "alloc")]
            prop_assert_eq!(prefix.prepend_to_vec(&payload).unwrap(), content);
        }

        #[test]
        fn any_bytes_parse_without_panic(bytes: Vec<u8>) {
            let _ = PrefixedContent::parse(&bytes).map(|read| read.is_canonical());
        }
    }
}
