//! Memory-layout strings: the interface string of each alternate setting, which says what can be read, erased and
//! written where.

mod grammar;
mod options;
#[cfg(test)]
mod tests;
mod text;

use options::Rules;

pub use options::ParseOptions;
pub use text::{LayoutText, LayoutTextError};

/// What may be done with a segment: the low three bits of the type letter.
///
/// `a` read, `b` erase, `c` read and erase, `d` write, `e` read and write, `f` erase and write, `g` all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Access(u8);

impl Access {
    /// The access of a type letter `a` to `g`.
    #[must_use]
    pub const fn from_letter(letter: u8) -> Option<Self> {
        match letter {
            b'a'..=b'g' => Some(Self(letter & 7)),
            _ => None,
        }
    }

    /// The type letter; `h`, which is outside of the grammar, if nothing may be done.
    #[must_use]
    pub const fn letter(self) -> char {
        match self.0 & 7 {
            0 => 'h',
            bits => (0x60 | bits) as char,
        }
    }

    /// Whether nothing may be done; only letters outside of the grammar say so.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 & 7 == 0
    }

    /// Bit 0: can be read.
    #[must_use]
    pub const fn readable(self) -> bool {
        self.0 & 1 != 0
    }

    /// Bit 1: can be erased by pages.
    #[must_use]
    pub const fn erasable(self) -> bool {
        self.0 & 2 != 0
    }

    /// Bit 2: can be written.
    #[must_use]
    pub const fn writeable(self) -> bool {
        self.0 & 4 != 0
    }
}

/// A run of equal pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_structs, reason = "the grammar fixes the fields")]
pub struct Segment {
    /// First address.
    pub start: u32,
    /// Bytes of one page, at least 1.
    pub page_size: u32,
    /// Number of pages, at least 1.
    pub pages: u32,
    /// What may be done here.
    pub access: Access,
}

impl Segment {
    /// First address after the segment; at most 2^32.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.start as u64 + self.page_size as u64 * self.pages as u64
    }

    /// Whether the address lies in the segment.
    #[must_use]
    pub const fn contains(&self, address: u32) -> bool {
        self.start <= address && (address as u64) < self.end()
    }

    /// The page that holds the address, `None` outside the segment. Page sizes need not be powers of two.
    #[must_use]
    pub const fn page_at(&self, address: u32) -> Option<Page> {
        if !self.contains(address) || self.page_size == 0 {
            return None;
        }
        let start = address - (address - self.start) % self.page_size;
        Some(Page { start, size: self.page_size, access: self.access })
    }
}

/// One page: the unit of erasing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_structs, reason = "the grammar fixes the fields")]
pub struct Page {
    /// First address.
    pub start: u32,
    /// Length in bytes.
    pub size: u32,
    /// What may be done here.
    pub access: Access,
}

impl Page {
    /// First address after the page; at most 2^32.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.start as u64 + self.size as u64
    }
}

/// A parsed memory-layout string. It borrows the text and keeps no list; iterate over [`segments`](Self::segments).
///
/// ```text
/// layout   = "@" name 1*( "/" address "/" sectors )
/// address  = "0x" 1*8hex
/// sectors  = sector *( "," sector )
/// sector   = count "*" size mult type        count, size: decimal; mult: " " B K M; type: a..g
/// ```
///
/// [`ParseOptions`] names what is accepted beyond the grammar, because devices send it. [`parse`](Self::parse) takes
/// [`ParseOptions::WILD`]: spaces after a comma or a type, a trailing comma, no multiplier (bytes), an empty name, NULs
/// at the end (cut there), and garbage after a valid part, which [`trailing`](Self::trailing) shows. Segments may overlap
/// and need not ascend; look-ups take the first match.
///
/// ```
/// use spark_dfu::layout::MemoryLayout;
/// let layout = MemoryLayout::parse(b"@Internal Flash   /0x08000000/03*016Ka,01*016Kg,01*064Kg,07*128Kg")?;
/// let page = layout.page_at(0x080A_1234).ok_or("not in the map")?;
/// assert_eq!((page.start, page.size), (0x080A_0000, 128 * 1024));
/// assert!(page.access.writeable());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
/// ST UM0424, section 4.3.2; malformed strings: BIGTREETECH-OCTOPUS-Pro issue 42 (random text after the last segment),
/// device-os@v0.4.9: bootloader/src/core/usb_desc.c (NULs).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLayout<'a> {
    name: &'a [u8],
    /// From the first "/" to the end of the valid part.
    body: &'a [u8],
    trailing: &'a [u8],
    segments: usize,
    rules: Rules,
}

impl<'a> MemoryLayout<'a> {
    /// The most segments [`parse`](Self::parse) accepts; known devices have up to 6, a string descriptor fits 20.
    pub const MAX_SEGMENTS: usize = 64;

    /// Parses the string of a device: [`ParseOptions::WILD`].
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn parse(text: &'a [u8]) -> Result<Self, LayoutError> {
        Self::parse_with(text, ParseOptions::WILD)
    }

    /// Parses the string of a device with up to `max_segments` segments.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn parse_bounded(text: &'a [u8], max_segments: usize) -> Result<Self, LayoutError> {
        Self::parse_with(text, ParseOptions { max_segments, ..ParseOptions::WILD })
    }

    /// Parses a string, letting pass what the options name.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn parse_with(text: &'a [u8], options: ParseOptions) -> Result<Self, LayoutError> {
        let text = match text.iter().position(|byte| *byte == 0) {
            Some(end) if options.nul_padding => text.get(..end).unwrap_or(text),
            _ => text,
        };
        let (body, name) = grammar::name(text)?;
        if name.is_empty() && !options.empty_name {
            return Err(LayoutError::EmptyName);
        }
        let max_segments = options.max_segments;
        let rules = Rules::new(options, name);
        let mut segments = Segments::new(body, usize::MAX, rules);
        let mut count = 0_usize;
        let failure = loop {
            match segments.step() {
                Ok(Some(_)) if count == max_segments => {
                    return Err(LayoutError::TooManySegments { max: max_segments });
                }
                Ok(Some(_)) => count += 1,
                Ok(None) => break None,
                Err(failure) => break Some(failure),
            }
        };
        let offset = |rest: &[u8]| text.len().saturating_sub(rest.len());
        match failure {
            Some(grammar::Failure::Value { at, problem }) => Err(problem.at(offset(at))),
            Some(grammar::Failure::Syntax { at }) if count == 0 => {
                Err(LayoutError::NoSegment { offset: offset(at) })
            }
            Some(grammar::Failure::Syntax { at }) if !options.trailing_garbage => {
                Err(LayoutError::TrailingGarbage { offset: offset(at) })
            }
            None if count == 0 => Err(LayoutError::NoSegment { offset: text.len() }),
            _ => {
                let trailing = segments.rest;
                let valid = body.len().saturating_sub(trailing.len());
                let body = body.get(..valid).unwrap_or(body);
                Ok(Self { name, body, trailing, segments: count, rules })
            }
        }
    }

    /// The name after "@", usually padded with spaces; not necessarily UTF-8.
    #[must_use]
    pub const fn name(&self) -> &'a [u8] {
        self.name
    }

    /// Text after the last valid segment that is none; empty for a clean string.
    #[must_use]
    pub const fn trailing(&self) -> &'a [u8] {
        self.trailing
    }

    /// The segments in the order of the string.
    #[must_use]
    pub const fn segments(&self) -> Segments<'a> {
        Segments::new(self.body, self.segments, self.rules)
    }

    /// The segments in a new vector.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn to_segments(&self) -> alloc::vec::Vec<Segment> {
        self.segments().collect()
    }

    /// The first segment that holds the address.
    #[must_use]
    pub fn segment_at(&self, address: u32) -> Option<Segment> {
        self.segments().find(|segment| segment.contains(address))
    }

    /// The page that holds the address.
    #[must_use]
    pub fn page_at(&self, address: u32) -> Option<Page> {
        self.segment_at(address)?.page_at(address)
    }
}

/// Iterator over the segments of a [`MemoryLayout`].
#[derive(Debug, Clone)]
pub struct Segments<'a> {
    rest: &'a [u8],
    /// Where the next segment of the current block starts; `None` before the first block.
    next: Option<u64>,
    left: usize,
    rules: Rules,
}

impl<'a> Segments<'a> {
    const fn new(body: &'a [u8], left: usize, rules: Rules) -> Self {
        Self { rest: body, next: None, left, rules }
    }

    /// Reads one segment. On an error `rest` stays at the end of the last good one.
    fn step(&mut self) -> Result<Option<Segment>, grammar::Failure<'a>> {
        let Some((rest, start, sector)) = grammar::item(self.rest, self.next, self.rules)? else {
            return Ok(None);
        };
        let segment = sector.segment(start)?;
        self.rest = rest;
        self.next = Some(segment.end());
        Ok(Some(segment))
    }
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        self.left = self.left.checked_sub(1)?;
        self.step().ok().flatten()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

impl core::iter::FusedIterator for Segments<'_> {}

/// Text that is no memory-layout string. Offsets count bytes from the start of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The text does not start with "@".
    #[error("a memory-layout string starts with '@'")]
    NoAtSign,
    /// There is nothing between "@" and the first "/".
    #[error("the memory-layout string has no name")]
    EmptyName,
    /// What follows the last valid segment is none.
    #[error("the text after the last memory segment, at byte {offset}, makes no sense")]
    TrailingGarbage {
        /// Where it starts.
        offset: usize,
    },
    /// There is no valid segment.
    #[error("no memory segment found; the text stops making sense at byte {offset}")]
    NoSegment {
        /// Where reading stopped.
        offset: usize,
    },
    /// More segments than the caller allows.
    #[error("the string has more than {max} segments")]
    TooManySegments {
        /// The limit.
        max: usize,
    },
    /// A page count or a page size of zero.
    #[error("the segment at byte {offset} is empty")]
    EmptySegment {
        /// Where the segment starts.
        offset: usize,
    },
    /// A number does not fit, or the segment ends after 4 GiB.
    #[error("the segment at byte {offset} reaches beyond 4 GiB")]
    BeyondAddressSpace {
        /// Where the segment starts.
        offset: usize,
    },
}
