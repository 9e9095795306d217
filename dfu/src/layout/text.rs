//! Writes memory-layout strings.

use core::fmt::{self, Write};

use super::Segment;
use crate::error::BufferTooSmall;

/// A memory-layout string to be written, for the descriptors of a device.
///
/// Counts have at least two digits, sizes three, addresses eight, the largest multiplier that divides the page size is
/// taken, and a segment that starts where the one before it ends needs no address: the form of ST's and Particle's
/// strings. `Display` gives the text; what it gives parses with [`ParseOptions::STRICT`](super::ParseOptions::STRICT).
///
/// ```
/// use spark_dfu::layout::{LayoutText, MemoryLayout};
/// # #[cfg(feature = "alloc")] {
/// let photon = "@Internal Flash   /0x08000000/03*016Ka,01*016Kg,01*064Kg,07*128Kg";
/// let segments = MemoryLayout::parse(photon.as_bytes())?.to_segments();
/// assert_eq!(LayoutText::new("Internal Flash   ", &segments)?.to_string(), photon);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayoutText<'a> {
    name: &'a str,
    segments: &'a [Segment],
}

impl<'a> LayoutText<'a> {
    /// Checks that the name and the segments can be written.
    ///
    /// # Errors
    /// See [`LayoutTextError`].
    pub fn new(name: &'a str, segments: &'a [Segment]) -> Result<Self, LayoutTextError> {
        if name.is_empty() || name.contains(['/', '\0']) {
            return Err(LayoutTextError::Name);
        }
        if segments.is_empty() {
            return Err(LayoutTextError::NoSegments);
        }
        for (index, segment) in segments.iter().enumerate() {
            if segment.page_size == 0 || segment.pages == 0 {
                return Err(LayoutTextError::EmptySegment { index });
            }
            if segment.end() > 1 << 32 {
                return Err(LayoutTextError::BeyondAddressSpace { index });
            }
            if segment.access.is_none() {
                return Err(LayoutTextError::NoAccess { index });
            }
        }
        Ok(Self { name, segments })
    }

    /// Length of the text in bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let mut nothing = Buffer { out: &mut [], needed: 0 };
        // Counting cannot fail.
        let _ = write!(nothing, "{self}");
        nothing.needed
    }

    /// Writes the text to the start of `out`.
    ///
    /// # Errors
    /// [`BufferTooSmall`].
    pub fn encode_into<'o>(&self, out: &'o mut [u8]) -> Result<&'o [u8], BufferTooSmall> {
        let available = out.len();
        let mut buffer = Buffer { out: &mut *out, needed: 0 };
        let _ = write!(buffer, "{self}");
        let needed = buffer.needed;
        out.get(..needed).ok_or(BufferTooSmall { needed, available })
    }
}

impl fmt::Display for LayoutText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.name)?;
        let mut end = None;
        for segment in self.segments {
            match end {
                Some(end) if end == u64::from(segment.start) => f.write_char(',')?,
                _ => write!(f, "/0x{:08X}/", segment.start)?,
            }
            end = Some(segment.end());
            let (unit, letter) = match segment.page_size {
                size if size % (1 << 20) == 0 => (1 << 20, 'M'),
                size if size % (1 << 10) == 0 => (1 << 10, 'K'),
                _ => (1, ' '),
            };
            let (pages, size, access) = (segment.pages, segment.page_size / unit, segment.access.letter());
            write!(f, "{pages:02}*{size:03}{letter}{access}")?;
        }
        Ok(())
    }
}

/// Keeps what fits and counts all.
struct Buffer<'o> {
    out: &'o mut [u8],
    needed: usize,
}

impl Write for Buffer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.needed.saturating_add(text.len());
        if let Some(place) = self.out.get_mut(self.needed..end) {
            place.copy_from_slice(text.as_bytes());
        }
        self.needed = end;
        Ok(())
    }
}

/// Why a layout cannot be written as text. Indexes count segments from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutTextError {
    /// The name is empty, or holds a slash or a NUL.
    #[error("the name of a memory has at least one character, no slash and no NUL")]
    Name,
    /// There is no segment.
    #[error("a memory layout has at least one segment")]
    NoSegments,
    /// A page count or a page size of zero.
    #[error("segment {index} is empty")]
    EmptySegment {
        /// Which segment.
        index: usize,
    },
    /// A segment that ends after 4 GiB.
    #[error("segment {index} reaches beyond 4 GiB")]
    BeyondAddressSpace {
        /// Which segment.
        index: usize,
    },
    /// A segment that can be neither read, erased nor written has no type letter.
    #[error("segment {index} can be neither read, erased nor written, for which there is no type letter")]
    NoAccess {
        /// Which segment.
        index: usize,
    },
}
