//! A DfuSe file in memory.

use super::reader::Reader;
use super::{
    DfuSeError, ELEMENT_HEADER_LEN, End, ImageSize, MAX_NAME_LEN, PREFIX_LEN, ParseOptions, TARGET_PREFIX_LEN,
};
use crate::dfuse::Element;
use crate::file::suffix::FoundSuffix;

/// The 274 bytes before the elements of a target; see [the module](super) for the layout.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TargetPrefix<'a> {
    raw: &'a [u8; TARGET_PREFIX_LEN],
    offset: u64,
}

impl<'a> TargetPrefix<'a> {
    pub(super) const fn new(raw: &'a [u8; TARGET_PREFIX_LEN], offset: u64) -> Self {
        Self { raw, offset }
    }

    /// Where it starts in the file.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) const fn signature(&self) -> [u8; 6] {
        self.chunk::<0, 6>()
    }

    /// `bAlternateSetting`.
    #[must_use]
    pub const fn alternate(&self) -> u8 {
        self.raw[6]
    }

    /// Whether `bTargetNamed` is not zero. dfu-util looks at its lowest byte only.
    #[must_use]
    pub const fn is_named(&self) -> bool {
        u32::from_le_bytes(self.chunk::<7, 4>()) != 0
    }

    /// The name up to the first NUL, `None` if the target has none. Not necessarily UTF-8.
    #[must_use]
    pub fn name(&self) -> Option<&'a [u8]> {
        self.is_named().then(|| self.name_field().split(|byte| *byte == 0).next().unwrap_or_default())
    }

    /// All 255 bytes of `szTargetName`, whatever they hold.
    #[must_use]
    pub fn name_field(&self) -> &'a [u8] {
        self.raw.get(11..11 + MAX_NAME_LEN).unwrap_or_default()
    }

    /// `dwTargetSize`: bytes of the elements with their headers.
    #[must_use]
    pub const fn size(&self) -> u32 {
        u32::from_le_bytes(self.chunk::<266, 4>())
    }

    /// `dwNbElements`.
    #[must_use]
    pub const fn element_count(&self) -> u32 {
        u32::from_le_bytes(self.chunk::<270, 4>())
    }

    const fn chunk<const AT: usize, const N: usize>(&self) -> [u8; N] {
        const { assert!(AT + N <= TARGET_PREFIX_LEN) };
        let mut out = [0; N];
        let mut at = 0;
        while at < N {
            out[at] = self.raw[AT + at];
            at += 1;
        }
        out
    }
}

impl core::fmt::Debug for TargetPrefix<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TargetPrefix")
            .field("offset", &self.offset)
            .field("alternate", &self.alternate())
            .field("name", &self.name())
            .field("size", &self.size())
            .field("element_count", &self.element_count())
            .finish()
    }
}

/// A DfuSe file in memory, checked as a whole.
///
/// ```
/// use spark_dfu::file::dfuse::{DfuSeFile, Element, Image, TargetImage};
/// # let elements = [Element { address: 0x0802_0000, data: b"code" }];
/// # let targets = [TargetImage { alternate: 0, name: Some(b"ST..."), elements: &elements }];
/// # let mut buffer = [0; 400];
/// # let bytes = Image::new(0x0483, 0xDF11, &targets).encode_into(&mut buffer)?;
/// let file = DfuSeFile::parse(bytes)?;
/// for target in file.targets() {
///     for element in target.elements() {
///         println!("alternate {}: {} bytes at {:#x}", target.alternate(), element.data.len(), element.address);
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DfuSeFile<'a> {
    /// From the first target to the end of the last.
    targets: &'a [u8],
    count: u8,
    image_size: u32,
    end: End,
}

impl<'a> DfuSeFile<'a> {
    /// Checks a whole file strictly.
    ///
    /// # Errors
    /// See [`DfuSeError`].
    pub fn parse(file: &'a [u8]) -> Result<Self, DfuSeError> {
        Self::parse_with(file, ParseOptions::STRICT)
    }

    /// Checks a whole file.
    ///
    /// # Errors
    /// See [`DfuSeError`].
    pub fn parse_with(file: &'a [u8], options: ParseOptions) -> Result<Self, DfuSeError> {
        // One machine judges files in memory and files in pieces, so that they cannot disagree.
        let mut reader = Reader::new(options);
        let mut rest = file;
        while reader.read(&mut rest)?.is_some() {}
        let end = reader.finish()?;
        let targets = file.get(PREFIX_LEN..reader.targets_end(file.len())).unwrap_or_default();
        Ok(Self { targets, count: reader.target_count(), image_size: reader.image_size(), end })
    }

    /// The targets in the order of the file. Two may have the same alternate setting.
    #[must_use]
    pub const fn targets(&self) -> Targets<'a> {
        Targets { rest: self.targets, left: self.count, offset: PREFIX_LEN as u64 }
    }

    /// The suffix.
    #[must_use]
    pub const fn suffix(&self) -> FoundSuffix {
        self.end.suffix
    }

    /// `DFUImageSize`.
    #[must_use]
    pub const fn image_size(&self) -> u32 {
        self.image_size
    }

    /// What [`Self::image_size`] counts.
    #[must_use]
    pub const fn image_size_convention(&self) -> ImageSize {
        self.end.image_size
    }
}

/// One target of a [`DfuSeFile`]: what goes to one alternate setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    prefix: TargetPrefix<'a>,
    elements: &'a [u8],
}

impl<'a> Target<'a> {
    /// The bytes before the elements.
    #[must_use]
    pub const fn prefix(&self) -> TargetPrefix<'a> {
        self.prefix
    }

    /// `bAlternateSetting`.
    #[must_use]
    pub const fn alternate(&self) -> u8 {
        self.prefix.alternate()
    }

    /// The name up to the first NUL, `None` if the target has none. Not necessarily UTF-8.
    #[must_use]
    pub fn name(&self) -> Option<&'a [u8]> {
        self.prefix.name()
    }

    /// The elements in the order of the file; at least one.
    #[must_use]
    pub const fn elements(&self) -> Elements<'a> {
        Elements { rest: self.elements, left: self.prefix.element_count() }
    }
}

/// Iterator over the targets of a [`DfuSeFile`].
#[derive(Debug, Clone)]
pub struct Targets<'a> {
    rest: &'a [u8],
    left: u8,
    offset: u64,
}

impl<'a> Iterator for Targets<'a> {
    type Item = Target<'a>;

    fn next(&mut self) -> Option<Target<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (raw, after) = self.rest.split_first_chunk()?;
        let prefix = TargetPrefix::new(raw, self.offset);
        let mut elements = Elements { rest: after, left: prefix.element_count() };
        elements.by_ref().for_each(drop);
        let len = after.len().saturating_sub(elements.rest.len());
        self.rest = elements.rest;
        self.offset += (TARGET_PREFIX_LEN + len) as u64;
        Some(Target { prefix, elements: after.get(..len)? })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.into(), Some(self.left.into()))
    }
}

impl ExactSizeIterator for Targets<'_> {}
impl core::iter::FusedIterator for Targets<'_> {}

/// Iterator over the elements of a [`Target`].
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (header, after) = self.rest.split_first_chunk()?;
        let (address, size) = element_header(header);
        let (data, after) = after.split_at_checked(usize::try_from(size).ok()?)?;
        self.rest = after;
        Some(Element { address, data })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.left).ok();
        (left.unwrap_or(usize::MAX), left)
    }
}

impl core::iter::FusedIterator for Elements<'_> {}

pub(super) const fn element_header(header: &[u8; ELEMENT_HEADER_LEN]) -> (u32, u32) {
    let [a0, a1, a2, a3, s0, s1, s2, s3] = *header;
    (u32::from_le_bytes([a0, a1, a2, a3]), u32::from_le_bytes([s0, s1, s2, s3]))
}
