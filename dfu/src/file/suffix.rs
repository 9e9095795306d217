//! The DFU suffix: sixteen bytes at the end of a file that say what it is for and whether it is whole.

#[cfg(test)]
mod tests;

use crc::{CRC_32_JAMCRC, Crc, Digest, Table};

use crate::error::BufferTooSmall;

static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_JAMCRC);

/// `ucDfuSignature` as it stands in the file: "DFU" reversed.
pub const SIGNATURE: [u8; 3] = *b"UFD";
/// Any vendor, product or version.
pub const ANY: u16 = 0xFFFF;
/// `bcdDFU` of a plain file.
pub const PLAIN_VERSION: u16 = 0x0100;
/// `bcdDFU` of a DfuSe file.
pub const DFUSE_VERSION: u16 = 0x011A;
const LEN: usize = 16;
const LENGTH: u8 = 16;

/// A vendor and product id of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_structs, reason = "USB fixes the fields")]
pub struct UsbIds {
    /// `idVendor`.
    pub id_vendor: u16,
    /// `idProduct`.
    pub id_product: u16,
}

/// What a DFU suffix says, as a value.
///
/// | offset | size | field | |
/// |---|---|---|---|
/// | 0 | 2 | `bcdDevice` | little-endian BCD; 0xFFFF any |
/// | 2 | 2 | `idProduct` | little-endian; 0xFFFF any |
/// | 4 | 2 | `idVendor` | little-endian; 0xFFFF any |
/// | 6 | 2 | `bcdDFU` | little-endian; 0x0100, or 0x011A for DfuSe |
/// | 8 | 3 | `ucDfuSignature` | 55 46 44 |
/// | 11 | 1 | `bLength` | 16; more means extra bytes of the vendor before these sixteen |
/// | 12 | 4 | `dwCRC` | little-endian; CRC-32/JAMCRC of every byte of the file before this field |
///
/// ```
/// use spark_dfu::file::suffix::{Suffix, SuffixedFile};
/// let mut out = [0; 20];
/// let file = Suffix::new(0x2B04, 0xD006).append_into(b"code", &mut out)?;
/// let read = SuffixedFile::parse(file)?;
/// assert_eq!((read.content(), read.suffix().id_product), (&b"code"[..], 0xD006));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
/// USB DFU 1.1, appendix B.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_structs, reason = "the standard fixes the fields")]
pub struct Suffix {
    /// `bcdDevice`: version of the firmware; never compared with a device.
    pub bcd_device: u16,
    /// `idProduct`.
    pub id_product: u16,
    /// `idVendor`.
    pub id_vendor: u16,
    /// `bcdDFU`: version of the file format.
    pub bcd_dfu: u16,
}

impl Suffix {
    /// Length of the encoded suffix in bytes.
    pub const ENCODED_LEN: usize = LEN;
    /// A plain file for any device.
    pub const ANY_DEVICE: Self = Self::new(ANY, ANY);

    /// A plain file of any version for one device.
    #[must_use]
    pub const fn new(id_vendor: u16, id_product: u16) -> Self {
        Self { bcd_device: ANY, id_product, id_vendor, bcd_dfu: PLAIN_VERSION }
    }

    /// Whether a file with this suffix is for the device.
    ///
    /// It is unless the ids of the file fit neither the pair of the run-time firmware nor that of DFU mode. 0xFFFF fits
    /// everything; `bcd_device` is not compared. `run_time` is `None` if the device was already in DFU mode.
    ///
    /// ```
    /// use spark_dfu::file::suffix::{Suffix, UsbIds};
    /// let photon = UsbIds { id_vendor: 0x2B04, id_product: 0xD006 };
    /// assert!(Suffix::new(0x2B04, 0xFFFF).matches(None, photon));
    /// assert!(!Suffix::new(0x2B04, 0xD008).matches(None, photon));
    /// ```
    ///
    /// # Source
    /// dfu-util@0.11: src/main.c.
    #[must_use]
    pub fn matches(&self, run_time: Option<UsbIds>, dfu_mode: UsbIds) -> bool {
        let fits = |ids: UsbIds| {
            (self.id_vendor == ANY || self.id_vendor == ids.id_vendor)
                && (self.id_product == ANY || self.id_product == ids.id_product)
        };
        fits(dfu_mode) || run_time.is_some_and(fits)
    }

    /// The sixteen bytes that follow `content`, with the checksum over both.
    #[must_use]
    pub fn encode(&self, content: &[u8]) -> [u8; LEN] {
        let mut digest = CRC.digest();
        digest.update(content);
        self.seal(digest, LENGTH)
    }

    /// Length of the encoded suffix: always sixteen.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        LEN
    }

    /// Writes `content` and the suffix to the start of `out`.
    ///
    /// # Errors
    /// [`EditError::AlreadySuffixed`] if `content` ends with a suffix that verifies, and [`EditError::Buffer`].
    pub fn append_into<'o>(&self, content: &[u8], out: &'o mut [u8]) -> Result<&'o [u8], EditError> {
        Self::refuse_suffixed(content)?;
        let needed = content.len().saturating_add(LEN);
        let small = BufferTooSmall { needed, available: out.len() };
        let target = out.get_mut(..needed).ok_or(EditError::Buffer(small))?;
        if let Some((start, end)) = target.split_at_mut_checked(content.len()) {
            start.copy_from_slice(content);
            end.copy_from_slice(&self.encode(content));
        }
        Ok(target)
    }

    /// `content` and the suffix in a new vector.
    ///
    /// # Errors
    /// [`EditError::AlreadySuffixed`] if `content` ends with a suffix that verifies.
    #[cfg(feature = "alloc")]
    pub fn append_to_vec(&self, content: &[u8]) -> Result<alloc::vec::Vec<u8>, EditError> {
        Self::refuse_suffixed(content)?;
        Ok([content, &self.encode(content)].concat())
    }

    /// Replaces the suffix of a file whose present one verifies. Length, extra vendor bytes and content stay.
    ///
    /// To remove a suffix no copy is needed: [`SuffixedFile::content`] is the file without it.
    ///
    /// # Errors
    /// [`SuffixError`] if there is no valid suffix; the file is then unchanged.
    pub fn replace_in(&self, file: &mut [u8]) -> Result<(), SuffixError> {
        let length = SuffixedFile::parse(file)?.length();
        if let Some((before, end)) = file.split_last_chunk_mut::<LEN>() {
            let mut digest = CRC.digest();
            digest.update(before);
            *end = self.seal(digest, length);
        }
        Ok(())
    }

    /// A copy of a file with this suffix instead of its own, see [`Self::replace_in`].
    ///
    /// # Errors
    /// [`SuffixError`] if there is no valid suffix.
    #[cfg(feature = "alloc")]
    pub fn replace_to_vec(&self, file: &[u8]) -> Result<alloc::vec::Vec<u8>, SuffixError> {
        let mut copy = file.to_vec();
        self.replace_in(&mut copy)?;
        Ok(copy)
    }

    fn refuse_suffixed(content: &[u8]) -> Result<(), EditError> {
        match SuffixedFile::parse(content) {
            Ok(file) => Err(EditError::AlreadySuffixed { found: file.suffix() }),
            Err(_) => Ok(()),
        }
    }

    fn seal(&self, mut digest: Digest<'static, u32, Table<16>>, length: u8) -> [u8; LEN] {
        let ([d0, d1], [p0, p1]) = (self.bcd_device.to_le_bytes(), self.id_product.to_le_bytes());
        let ([v0, v1], [s0, s1]) = (self.id_vendor.to_le_bytes(), self.bcd_dfu.to_le_bytes());
        let [u, f, d] = SIGNATURE;
        digest.update(&[d0, d1, p0, p1, v0, v1, s0, s1, u, f, d, length]);
        let [c0, c1, c2, c3] = digest.finalize().to_le_bytes();
        [d0, d1, p0, p1, v0, v1, s0, s1, u, f, d, length, c0, c1, c2, c3]
    }
}

/// The last sixteen bytes of a file, read as a suffix without any check. For showing a damaged one; see [`Suffix`] for
/// the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawSuffix([u8; LEN]);

impl RawSuffix {
    /// The bytes as they are.
    #[must_use]
    pub const fn new(bytes: [u8; LEN]) -> Self {
        Self(bytes)
    }

    /// The last sixteen bytes of a file, `None` if it has fewer.
    #[must_use]
    pub fn of(file: &[u8]) -> Option<Self> {
        file.last_chunk().copied().map(Self)
    }

    /// The fields.
    #[must_use]
    pub const fn suffix(&self) -> Suffix {
        let [d0, d1, p0, p1, v0, v1, s0, s1, ..] = self.0;
        Suffix {
            bcd_device: u16::from_le_bytes([d0, d1]),
            id_product: u16::from_le_bytes([p0, p1]),
            id_vendor: u16::from_le_bytes([v0, v1]),
            bcd_dfu: u16::from_le_bytes([s0, s1]),
        }
    }

    /// `ucDfuSignature`.
    #[must_use]
    pub const fn signature(&self) -> [u8; 3] {
        let [.., u, f, d, _, _, _, _, _] = self.0;
        [u, f, d]
    }

    /// `bLength`.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.0[11]
    }

    /// `dwCRC`.
    #[must_use]
    pub const fn crc(&self) -> u32 {
        let [.., a, b, c, d] = self.0;
        u32::from_le_bytes([a, b, c, d])
    }

    /// The verdict, in the order of the reference program; `digest` covers what stands before these bytes.
    fn judge(
        &self,
        mut digest: Digest<'static, u32, Table<16>>,
        file_len: u64,
    ) -> Result<FoundSuffix, SuffixError> {
        if self.signature() != SIGNATURE {
            return Err(SuffixError::BadSignature { found: self.signature() });
        }
        let [covered @ .., _, _, _, _] = &self.0;
        digest.update(covered);
        let (stored, computed) = (self.crc(), digest.finalize());
        if stored != computed {
            return Err(SuffixError::BadCrc { stored, computed });
        }
        let length = self.length();
        match file_len.checked_sub(u64::from(length)) {
            Some(content_len) if usize::from(length) >= LEN => {
                Ok(FoundSuffix { suffix: self.suffix(), length, crc: stored, content_len })
            }
            _ => Err(SuffixError::BadLength { length, file_len }),
        }
    }
}

/// A suffix that verifies, and where it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundSuffix {
    /// The fields.
    pub suffix: Suffix,
    /// `bLength`, at least 16.
    pub length: u8,
    /// `dwCRC`.
    pub crc: u32,
    /// Bytes of the file before the suffix and its extra bytes.
    pub content_len: u64,
}

/// A file in memory whose suffix verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuffixedFile<'a> {
    content: &'a [u8],
    extra: &'a [u8],
    found: FoundSuffix,
}

impl<'a> SuffixedFile<'a> {
    /// Checks the suffix of a whole file.
    ///
    /// # Errors
    /// [`SuffixError`]. Do not send a file with [`SuffixError::BadCrc`] or [`SuffixError::BadLength`] to a device: it
    /// has a suffix and is damaged. The other two mean that there is none.
    pub fn parse(file: &'a [u8]) -> Result<Self, SuffixError> {
        let file_len = file.len() as u64;
        let (before, raw) = file.split_last_chunk::<LEN>().ok_or(SuffixError::TooShort { file_len })?;
        let raw = RawSuffix(*raw);
        // Without the signature the verdict is known, and reading the whole file is saved.
        let mut digest = CRC.digest();
        if raw.signature() == SIGNATURE {
            digest.update(before);
        }
        let found = raw.judge(digest, file_len)?;
        let bad_length = || SuffixError::BadLength { length: found.length, file_len };
        let content_len = file.len().checked_sub(usize::from(found.length)).ok_or_else(bad_length)?;
        let (content, extra) = before.split_at_checked(content_len).ok_or_else(bad_length)?;
        Ok(Self { content, extra, found })
    }

    /// Everything before the suffix: the prefix, if there is one, and the payload. Plain DFU sends this.
    #[must_use]
    pub const fn content(&self) -> &'a [u8] {
        self.content
    }

    /// Bytes of the vendor between the content and the sixteen of the standard; mostly none.
    #[must_use]
    pub const fn extra(&self) -> &'a [u8] {
        self.extra
    }

    /// The fields.
    #[must_use]
    pub const fn suffix(&self) -> Suffix {
        self.found.suffix
    }

    /// `bLength`, at least 16.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.found.length
    }

    /// `dwCRC`.
    #[must_use]
    pub const fn crc(&self) -> u32 {
        self.found.crc
    }
}

/// Checks the suffix of a file that comes in pieces. Keeps the last sixteen bytes and a checksum, nothing else.
///
/// ```
/// use spark_dfu::file::suffix::{Suffix, SuffixDigest};
/// let mut file = [0x5A; 1016];
/// let end = Suffix::new(0x2B04, 0xD006).encode(&file[..1000]);
/// file[1000..].copy_from_slice(&end);
///
/// let mut digest = SuffixDigest::new();
/// for piece in file.chunks(100) {
///     digest.update(piece);
/// }
/// assert_eq!(digest.finish()?.content_len, 1000);
/// # Ok::<(), spark_dfu::file::suffix::SuffixError>(())
/// ```
#[derive(Clone)]
pub struct SuffixDigest {
    /// Covers everything before `tail`.
    digest: Digest<'static, u32, Table<16>>,
    tail: [u8; LEN],
    len: u64,
}

impl SuffixDigest {
    /// Starts with an empty file.
    #[must_use]
    pub fn new() -> Self {
        Self { digest: CRC.digest(), tail: [0; LEN], len: 0 }
    }

    /// Adds the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        let held = self.tail_len();
        self.len = self.len.saturating_add(bytes.len() as u64);
        if let Some((before, last)) = bytes.split_last_chunk() {
            self.digest.update(self.tail.get(..held).unwrap_or_default());
            self.digest.update(before);
            self.tail = *last;
            return;
        }
        // Fewer than sixteen: what they push out of the tail is covered, the rest moves up.
        let out = (held + bytes.len()).saturating_sub(LEN);
        self.digest.update(self.tail.get(..out).unwrap_or_default());
        self.tail.copy_within(out..held, 0);
        if let Some(free) = self.tail.get_mut(held - out..held - out + bytes.len()) {
            free.copy_from_slice(bytes);
        }
    }

    /// Bytes of the file so far.
    #[must_use]
    pub const fn file_len(&self) -> u64 {
        self.len
    }

    /// The last sixteen bytes so far, `None` while there are fewer.
    #[must_use]
    pub fn raw(&self) -> Option<RawSuffix> {
        (self.tail_len() == LEN).then_some(RawSuffix(self.tail))
    }

    /// The verdict if the file ends here: the same as that of [`SuffixedFile::parse`].
    ///
    /// # Errors
    /// See [`SuffixError`].
    pub fn finish(&self) -> Result<FoundSuffix, SuffixError> {
        let raw = self.raw().ok_or(SuffixError::TooShort { file_len: self.len })?;
        raw.judge(self.digest.clone(), self.len)
    }

    fn tail_len(&self) -> usize {
        usize::try_from(self.len).map_or(LEN, |len| len.min(LEN))
    }
}

impl Default for SuffixDigest {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for SuffixDigest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SuffixDigest")
            .field("tail", &self.tail)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// Why a file has no valid suffix. The first two mean that it has none at all; the others, that it has one and is
/// damaged.
///
/// The order of the checks is that of dfu-util, which treats all four alike and sends such a file whole, suffix
/// included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuffixError {
    /// The file cannot hold a suffix.
    #[error("a file of {file_len} bytes is too short for a DFU suffix of 16")]
    TooShort {
        /// Bytes of the file.
        file_len: u64,
    },
    /// Not "UFD" eight bytes before the end.
    #[error("there is no DFU suffix: the signature is {found:02x?} instead of 55 46 44")]
    BadSignature {
        /// What stands there.
        found: [u8; 3],
    },
    /// The checksum is another one.
    #[error(
        "the file is damaged: its DFU suffix has the CRC {stored:#010x}, the bytes have {computed:#010x}"
    )]
    BadCrc {
        /// `dwCRC`.
        stored: u32,
        /// The checksum of the bytes at hand.
        computed: u32,
    },
    /// `bLength` below 16 or beyond the file.
    #[error("the DFU suffix claims {length} bytes, which is below 16 or above the {file_len} of the file")]
    BadLength {
        /// `bLength`.
        length: u8,
        /// Bytes of the file.
        file_len: u64,
    },
}

impl SuffixError {
    /// Whether the file has a suffix nonetheless, so that it must not be taken for a raw image.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::BadCrc { .. } | Self::BadLength { .. })
    }
}

/// A suffix or prefix cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// There is one already, and it verifies.
    #[error(
        "the file has a DFU suffix for {:04x}:{:04x} already; replace or remove it", found.id_vendor, found.id_product
    )]
    AlreadySuffixed {
        /// What the present suffix says.
        found: Suffix,
    },
    /// The output is too small.
    #[error(transparent)]
    Buffer(#[from] BufferTooSmall),
}
