//! A DfuSe file that comes in pieces.

use super::view::{TargetPrefix, element_header};
use super::{
    DfuSeError, ELEMENT_HEADER_LEN, End, ImageSize, PREFIX_LEN, ParseOptions, Part, SIGNATURE,
    TARGET_PREFIX_LEN, TARGET_SIGNATURE, VERSION,
};
use crate::file::suffix::{DFUSE_VERSION, SuffixDigest};

/// What a [`Reader`] found next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'e> {
    /// The prefix of the file.
    Prefix {
        /// `DFUImageSize`; judged at the end.
        image_size: u32,
        /// `bTargets`, at least 1.
        targets: u8,
    },
    /// A target begins.
    Target(TargetPrefix<'e>),
    /// An element begins.
    Element {
        /// Where its header starts in the file.
        offset: u64,
        /// `dwElementAddress`.
        address: u32,
        /// `dwElementSize` in bytes.
        size: u32,
    },
    /// Some data of the element.
    Data {
        /// Where it goes.
        address: u32,
        /// At least one byte, borrowed from the input.
        bytes: &'e [u8],
    },
}

/// Reads a DfuSe file in pieces of any size, and keeps nothing of it but the header it is in: some 400 bytes.
///
/// Call [`read`](Self::read) with each piece until it returns `None`, and [`finish`](Self::finish) after the last piece.
/// The checksum stands at the end of a file, so **nothing read is known to be good before `finish`**: to program a
/// device, read the file twice.
///
/// ```
/// use spark_dfu::file::dfuse::{Event, Reader, ParseOptions};
/// # use spark_dfu::file::dfuse::{Element, Image, TargetImage};
/// # let elements = [Element { address: 0x0802_0000, data: &[7; 1000] }];
/// # let targets = [TargetImage { alternate: 0, name: None, elements: &elements }];
/// # let mut buffer = [0; 1400];
/// # let file = Image::new(0x0483, 0xDF11, &targets).encode_into(&mut buffer)?;
/// let mut reader = Reader::new(ParseOptions::STRICT);
/// let mut total = 0;
/// for mut piece in file.chunks(100) {
///     while let Some(event) = reader.read(&mut piece)? {
///         if let Event::Data { bytes, .. } = event {
///             total += bytes.len();
///         }
///     }
/// }
/// let end = reader.finish()?;
/// assert_eq!((total, end.suffix.suffix.id_vendor), (1000, 0x0483));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Reader {
    options: ParseOptions,
    state: State,
    digest: SuffixDigest,
    /// The header that is being read; its first `held` bytes count.
    header: [u8; TARGET_PREFIX_LEN],
    held: usize,
    /// Bytes taken so far.
    at: u64,
    image_size: u32,
    target_count: u8,
    /// Targets of which all elements were begun.
    targets_done: u8,
    target: TargetState,
    element: ElementState,
}

#[derive(Debug, Clone, Copy, Default)]
struct TargetState {
    offset: u64,
    stored_size: u32,
    elements_left: u32,
    elements_size: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct ElementState {
    offset: u64,
    size: u32,
    left: u32,
    address: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Prefix,
    Target,
    Element,
    Data,
    /// Behind the last target.
    Tail,
    Failed(DfuSeError),
}

impl Reader {
    /// Starts at the first byte of a file.
    #[must_use]
    pub fn new(options: ParseOptions) -> Self {
        Self {
            options,
            state: State::Prefix,
            digest: SuffixDigest::new(),
            header: [0; TARGET_PREFIX_LEN],
            held: 0,
            at: 0,
            image_size: 0,
            target_count: 0,
            targets_done: 0,
            target: TargetState::default(),
            element: ElementState::default(),
        }
    }

    /// Takes bytes from the front of `input` up to the next event. `None`: all of the input was taken.
    ///
    /// # Errors
    /// See [`DfuSeError`]. Every later call returns the same error.
    pub fn read<'e, 'i: 'e>(&'e mut self, input: &mut &'i [u8]) -> Result<Option<Event<'e>>, DfuSeError> {
        match self.step(input) {
            Ok(Some(Step::Target(offset))) => {
                Ok(Some(Event::Target(TargetPrefix::new(&self.header, offset))))
            }
            Ok(Some(Step::Event(event))) => Ok(Some(event)),
            Ok(None) => Ok(None),
            Err(error) => {
                self.state = State::Failed(error);
                Err(error)
            }
        }
    }

    /// The verdict if the file ends here.
    ///
    /// # Errors
    /// See [`DfuSeError`].
    pub fn finish(&self) -> Result<End, DfuSeError> {
        let offset = self.at.saturating_sub(self.held as u64);
        let truncated = |part, offset, needed: u64| {
            let available = self.end_before_suffix().saturating_sub(offset);
            Err(DfuSeError::Truncated { part, offset, needed, available })
        };
        let state = match self.state {
            State::Data if self.element.left == 0 => self.after_data(),
            state => state,
        };
        match state {
            State::Failed(error) => return Err(error),
            State::Prefix => return truncated(Part::Prefix, offset, PREFIX_LEN as u64),
            State::Target => return truncated(Part::Target, offset, TARGET_PREFIX_LEN as u64),
            State::Element => return truncated(Part::Element, offset, ELEMENT_HEADER_LEN as u64),
            State::Data => return truncated(Part::Data, self.data_offset(), self.element.size.into()),
            State::Tail => {}
        }
        let suffix = self.digest.finish().map_err(DfuSeError::Suffix)?;
        let targets_end = self.data_offset() + u64::from(self.element.size);
        let Some(leftover) = suffix.content_len.checked_sub(targets_end) else {
            // The sizes of the last element or of the suffix make the two overlap.
            return truncated(Part::Data, self.data_offset(), self.element.size.into());
        };
        let found = suffix.suffix.bcd_dfu;
        if found != DFUSE_VERSION {
            return Err(DfuSeError::SuffixVersion { found });
        }
        if leftover != 0 {
            return Err(DfuSeError::Leftover { offset: targets_end, len: leftover });
        }
        let (stored, without_suffix, with_suffix) = (self.image_size, suffix.content_len, self.at);
        let image_size = match u64::from(stored) {
            size if size == without_suffix => ImageSize::WithoutSuffix,
            size if size == with_suffix => ImageSize::WithSuffix,
            _ => return Err(DfuSeError::ImageSize { stored, without_suffix, with_suffix }),
        };
        Ok(End { suffix, image_size })
    }

    pub(super) const fn image_size(&self) -> u32 {
        self.image_size
    }

    pub(super) const fn target_count(&self) -> u8 {
        self.target_count
    }

    /// Where the last target ends in a file of `len` bytes that passed.
    pub(super) fn targets_end(&self, len: usize) -> usize {
        usize::try_from(self.data_offset() + u64::from(self.element.size)).map_or(len, |end| end.min(len))
    }

    fn data_offset(&self) -> u64 {
        self.element.offset + ELEMENT_HEADER_LEN as u64
    }

    /// The end of the file so far, less the suffix if what ends it is one.
    fn end_before_suffix(&self) -> u64 {
        self.digest.finish().map_or(self.at, |suffix| suffix.content_len)
    }

    fn step<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Step<'i>>, DfuSeError> {
        loop {
            match self.state {
                State::Failed(error) => return Err(error),
                State::Prefix => return Ok(self.prefix(input)?.map(Step::Event)),
                State::Target => return Ok(self.target(input)?.map(Step::Target)),
                State::Element => return Ok(self.element(input)?.map(Step::Event)),
                State::Data if self.element.left == 0 => self.state = self.after_data(),
                State::Data => return Ok(self.data(input).map(Step::Event)),
                State::Tail => {
                    self.take(input, input.len());
                    return Ok(None);
                }
            }
        }
    }

    fn prefix<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Event<'i>>, DfuSeError> {
        let Some(header) = self.hold::<PREFIX_LEN>(input) else { return Ok(None) };
        let [found @ .., version, s0, s1, s2, s3, targets] = header;
        if found != SIGNATURE {
            return Err(DfuSeError::BadSignature { found });
        }
        if version != VERSION {
            return Err(DfuSeError::Version { found: version });
        }
        if targets == 0 {
            return Err(DfuSeError::NoTargets);
        }
        self.image_size = u32::from_le_bytes([s0, s1, s2, s3]);
        self.target_count = targets;
        self.state = State::Target;
        Ok(Some(Event::Prefix { image_size: self.image_size, targets }))
    }

    /// The offset of the target whose prefix `header` then holds.
    fn target(&mut self, input: &mut &[u8]) -> Result<Option<u64>, DfuSeError> {
        let Some(header) = self.hold::<TARGET_PREFIX_LEN>(input) else { return Ok(None) };
        let offset = self.at - TARGET_PREFIX_LEN as u64;
        let prefix = TargetPrefix::new(&header, offset);
        let (target, found) = (self.targets_done, prefix.signature());
        if found != TARGET_SIGNATURE {
            return Err(DfuSeError::BadTargetSignature { target, offset, found });
        }
        if prefix.element_count() == 0 {
            return Err(DfuSeError::NoElements { target, offset });
        }
        let (stored_size, elements_left) = (prefix.size(), prefix.element_count());
        self.target = TargetState { offset, stored_size, elements_left, elements_size: 0 };
        self.state = State::Element;
        Ok(Some(offset))
    }

    fn element<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Event<'i>>, DfuSeError> {
        let Some(header) = self.hold(input) else { return Ok(None) };
        let (address, size) = element_header(&header);
        let offset = self.at - ELEMENT_HEADER_LEN as u64;
        let target = &mut self.target;
        target.elements_left = target.elements_left.saturating_sub(1);
        target.elements_size =
            target.elements_size.saturating_add(ELEMENT_HEADER_LEN as u64 + u64::from(size));
        let (stored, elements) = (target.stored_size, target.elements_size);
        // As early as it shows, so that no data of a target that lies about its size is passed on.
        let fits = match target.elements_left {
            0 => elements == u64::from(stored),
            _ => elements <= u64::from(stored),
        };
        if !fits && !self.options.trust_elements {
            let (number, offset) = (self.targets_done, target.offset);
            return Err(DfuSeError::TargetSize { target: number, offset, stored, elements });
        }
        if u64::from(address) + u64::from(size) > 1 << 32 {
            return Err(DfuSeError::BeyondAddressSpace { offset, address, size });
        }
        if target.elements_left == 0 {
            self.targets_done = self.targets_done.saturating_add(1);
        }
        self.element = ElementState { offset, size, left: size, address };
        self.state = State::Data;
        Ok(Some(Event::Element { offset, address, size }))
    }

    fn data<'i>(&mut self, input: &mut &'i [u8]) -> Option<Event<'i>> {
        let left = usize::try_from(self.element.left).unwrap_or(usize::MAX);
        let bytes = self.take(input, left.min(input.len()));
        let len = u32::try_from(bytes.len()).ok().filter(|len| *len != 0)?;
        let address = self.element.address;
        self.element.left = self.element.left.saturating_sub(len);
        // The last byte may be at 0xFFFF_FFFF; the address behind it is never shown.
        self.element.address = address.wrapping_add(len);
        Some(Event::Data { address, bytes })
    }

    const fn after_data(&self) -> State {
        match self.target.elements_left {
            0 if self.targets_done == self.target_count => State::Tail,
            0 => State::Target,
            _ => State::Element,
        }
    }

    /// Takes bytes, for the checksum as well.
    fn take<'i>(&mut self, input: &mut &'i [u8], len: usize) -> &'i [u8] {
        let Some((bytes, rest)) = input.split_at_checked(len) else { return &[] };
        *input = rest;
        self.digest.update(bytes);
        self.at = self.at.saturating_add(len as u64);
        bytes
    }

    /// Collects a header; `None` while it is not complete.
    fn hold<const N: usize>(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        let missing = N.saturating_sub(self.held);
        let bytes = self.take(input, missing.min(input.len()));
        if let Some(free) = self.header.get_mut(self.held..self.held + bytes.len()) {
            free.copy_from_slice(bytes);
        }
        self.held += bytes.len();
        if self.held < N {
            return None;
        }
        self.held = 0;
        self.header.first_chunk().copied()
    }
}

enum Step<'i> {
    Event(Event<'i>),
    /// The prefix of a target is complete; it starts here.
    Target(u64),
}
