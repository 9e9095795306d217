//! Cutting an image into chunks.

use crate::checksum::Crc32;
use core::iter::FusedIterator;

/// Devices refuse this many chunks and more: index 65,535 is reserved.
pub const MAX_CHUNKS: u32 = 65_534;

/// Why an image cannot be cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// Nothing to send.
    #[error("the image is empty")]
    Empty,
    /// A chunk of no bytes.
    #[error("the chunk size is 0")]
    ZeroSize,
    /// The image needs more chunks than there are indices.
    #[error(
        "an image of {len} bytes makes {chunks} chunks of {size}, at most {MAX_CHUNKS} can be sent: take larger chunks"
    )]
    TooMany {
        /// Bytes of the image.
        len: usize,
        /// Bytes of a chunk.
        size: u16,
        /// Chunks this would make.
        chunks: usize,
    },
}

/// One piece of an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Chunk<'a> {
    /// Position, from 0.
    pub index: u16,
    /// First byte in the image.
    pub offset: u32,
    /// The image's bytes: the chunk size, fewer only in the last chunk.
    pub data: &'a [u8],
    /// Zeros to add behind `data` on the wire.
    pub padding: u16,
}

impl Chunk<'_> {
    /// CRC-32 over what goes over the wire, padding included.
    #[must_use]
    pub fn crc(&self) -> u32 {
        let mut crc = Crc32::new();
        crc.update(self.data);
        let mut padding = usize::from(self.padding);
        let zeros = [0; 64];
        while padding > 0 {
            let piece = padding.min(zeros.len());
            crc.update(zeros.get(..piece).unwrap_or_default());
            padding -= piece;
        }
        crc.finish()
    }
}

/// The chunks of an image, in order or by index. All limits are checked in [`Chunks::new`].
///
/// The last chunk is short, or filled up with zeros: devices take both, a Core before 0.4 only the second.
///
/// `I` is whatever holds the image: `&[u8]`, `Vec<u8>`, `Arc<[u8]>`.
///
/// ```
/// use spark_ota::transfer::Chunks;
///
/// let image = [7; 700];
/// let chunks = Chunks::new(&image, 256, true)?;
/// assert_eq!(chunks.count(), 3);
/// let last = chunks.get(2).unwrap();
/// assert_eq!((last.offset, last.data.len(), last.padding), (512, 188, 68));
/// # Ok::<(), spark_ota::transfer::ChunkError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Chunks<I> {
    image: I,
    size: u16,
    count: u16,
    pad_last: bool,
}

impl<I: AsRef<[u8]>> Chunks<I> {
    /// Cuts `image` into chunks of `size` bytes.
    ///
    /// # Errors
    /// [`ChunkError`].
    pub fn new(image: I, size: u16, pad_last: bool) -> Result<Self, ChunkError> {
        let len = image.as_ref().len();
        if len == 0 {
            return Err(ChunkError::Empty);
        }
        if size == 0 {
            return Err(ChunkError::ZeroSize);
        }
        let chunks = len.div_ceil(usize::from(size));
        let count = u16::try_from(chunks)
            .ok()
            .filter(|count| u32::from(*count) <= MAX_CHUNKS)
            .ok_or(ChunkError::TooMany { len, size, chunks })?;
        Ok(Self { image, size, count, pad_last })
    }

    /// How many there are, 1 to [`MAX_CHUNKS`].
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// Bytes of a chunk.
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.size
    }

    /// The image.
    #[must_use]
    pub fn image(&self) -> &[u8] {
        self.image.as_ref()
    }

    /// The chunk at `index`.
    #[must_use]
    pub fn get(&self, index: u16) -> Option<Chunk<'_>> {
        if index >= self.count {
            return None;
        }
        let start = usize::from(index) * usize::from(self.size);
        let data = self.image().get(start..)?;
        let data = data.get(..usize::from(self.size)).unwrap_or(data);
        let missing = usize::from(self.size) - data.len();
        let padding = if self.pad_last { u16::try_from(missing).ok()? } else { 0 };
        Some(Chunk { index, offset: u32::try_from(start).ok()?, data, padding })
    }

    /// All of them in order.
    #[must_use]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Chunk<'_>> + FusedIterator {
        (0..self.count).filter_map(|index| self.get(index))
    }
}

/// Whether a chunk message fits the device's message buffer: 640 bytes on a Core, 800 on Photon and P1.
///
/// The device keeps the message (padded to AES blocks), its answer and, at the end of the same buffer, one bit per
/// chunk.
#[must_use]
pub const fn message_fits(chunk_size: u16, chunks: u16, buffer: usize) -> bool {
    let message = 16 + chunk_size as usize;
    let padded = (message / 16 + 1) * 16;
    let answer = 18;
    padded + answer + (chunks as usize).div_ceil(8) <= buffer
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn limits_are_checked_before_the_first_chunk() {
        assert_eq!(Chunks::new([], 256, true).unwrap_err(), ChunkError::Empty);
        assert_eq!(Chunks::new([1], 0, true).unwrap_err(), ChunkError::ZeroSize);
        let image = alloc::vec![0; 65_535];
        assert_eq!(Chunks::new(&image[1..], 1, true).unwrap().count(), 65_534);
        let error = ChunkError::TooMany { len: 65_535, size: 1, chunks: 65_535 };
        assert_eq!(Chunks::new(&image, 1, true).unwrap_err(), error);
    }

    #[test]
    fn buffer_rule_matches_the_worked_example() {
        // fast 512: 528, padded 544, answer 18, bitmap of 512 chunks 64: 626
        assert!(message_fits(512, 512, 626) && !message_fits(512, 512, 625));
    }

    proptest! {
        #[test]
        fn chunks_concatenate_to_the_image(image in proptest::collection::vec(any::<u8>(), 1..3000), size in 1u16..600, pad: bool) {
            let chunks = Chunks::new(&image, size, pad).unwrap();
            let joined: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.data.iter().copied()).collect();
            prop_assert_eq!(&joined, &image);
            for chunk in chunks.iter() {
                prop_assert_eq!(usize::try_from(chunk.offset).unwrap(), usize::from(chunk.index) * usize::from(size));
                let mut wire = chunk.data.to_vec();
                wire.resize(wire.len() + usize::from(chunk.padding), 0);
                prop_assert_eq!(crate::crc32(&wire), chunk.crc());
                prop_assert!(!pad || wire.len() == usize::from(size));
            }
            prop_assert_eq!(chunks.get(chunks.count()), None);
        }
    }
}
