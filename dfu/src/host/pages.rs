//! Spans of an image, and the pages they touch.

use super::{
    image::Element,
    plan::{EraseMode, Plan, PlanError, next_segment},
};

/// Contiguous addresses; never empty, never beyond 4 GiB once checked by [`Span::new`] or a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[allow(clippy::exhaustive_structs, reason = "an address and a length")]
pub struct Span {
    /// First address.
    pub address: u32,
    /// Number of bytes.
    pub len: u32,
}

impl Span {
    /// `len` bytes from `address` on.
    ///
    /// # Errors
    /// [`PlanError::Empty`], [`PlanError::BeyondAddressSpace`].
    pub fn new(address: u32, len: usize) -> Result<Self, PlanError> {
        let len32 = u32::try_from(len).map_err(|_| PlanError::BeyondAddressSpace { address, len })?;
        let span = Self { address, len: len32 };
        span.check()?;
        Ok(span)
    }

    pub(super) fn check(&self) -> Result<(), PlanError> {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        match self.len {
            0 => Err(PlanError::Empty),
            _ if self.end() > 1 << 32 => Err(PlanError::BeyondAddressSpace { address: self.address, len }),
            _ => Ok(()),
        }
    }

    /// First address after the span; at most 2^32.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.address as u64 + self.len as u64
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        u64::from(self.address) < other.end() && u64::from(other.address) < self.end()
    }
}

/// The spans of a plan, wherever they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spans<'p> {
    One(Span),
    Many(&'p [Span]),
    Elements(&'p [Element<'p>]),
}

impl<'p> Spans<'p> {
    pub(super) const fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(spans) => spans.len(),
            Self::Elements(elements) => elements.len(),
        }
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Span> + 'p {
        let at = move |number: usize| match self {
            Self::One(span) => Some(span),
            Self::Many(spans) => spans.get(number).copied(),
            Self::Elements(elements) => elements.get(number).map(|element| Span {
                address: element.address,
                len: u32::try_from(element.data.len()).unwrap_or(u32::MAX),
            }),
        };
        (0..self.count())
            .filter_map(at)
            .filter(move |span| !matches!(self, Self::Elements(_)) || span.len > 0)
    }

    /// The first address of the image that is not below `from`.
    fn next_from(self, from: u64) -> Option<u64> {
        self.iter().filter(|span| span.end() > from).map(|span| u64::from(span.address).max(from)).min()
    }

    /// The end of the contiguous bytes that begin at `from`.
    fn end_of_run(self, from: u64) -> u64 {
        let mut end = from;
        while let Some(span) = self.iter().find(|span| u64::from(span.address) <= end && end < span.end()) {
            end = span.end();
        }
        end
    }
}

/// The unit of work: an erasable page, or a stretch of memory that is written without erasing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "a range and what happens to it")]
pub struct Unit {
    /// First address.
    pub start: u32,
    /// Length in bytes.
    pub size: u32,
    /// Whether it is erased as a page before it is written.
    pub erase: bool,
}

impl Unit {
    /// First address after the unit; at most 2^32.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.start as u64 + self.size as u64
    }
}

/// What is written without erasing is cut into pieces of about this size, so that a journal advances.
const STRETCH: u32 = 64 * 1024;

impl<'p> Plan<'p> {
    /// The unit that an address of the image belongs to.
    fn unit_at(&self, address: u32) -> Unit {
        let Some((segment, page)) =
            self.layout.segment_at(address).and_then(|segment| Some((segment, segment.page_at(address)?)))
        else {
            // Only with `force`: outside the map nothing is known.
            let end = next_segment(&self.layout, address).min(u64::from(address) + u64::from(STRETCH));
            let size = u32::try_from(end - u64::from(address)).unwrap_or(STRETCH);
            return Unit { start: address, size, erase: false };
        };
        let erase = self.options().erase;
        if erase != EraseMode::None && page.access.erasable() {
            return Unit { start: page.start, size: page.size, erase: erase == EraseMode::Pages };
        }
        // Whole pages as far as they fit, counted from the start of the segment.
        let stretch = (STRETCH / page.size).max(1).saturating_mul(page.size);
        let start = address - (address - segment.start) % stretch;
        let size = u32::try_from(segment.end() - u64::from(start)).map_or(stretch, |rest| rest.min(stretch));
        Unit { start, size, erase: false }
    }

    /// Whether a unit is a page that can be erased alone.
    pub(super) fn is_erasable(&self, unit: &Unit) -> bool {
        self.layout.page_at(unit.start).is_some_and(|page| page.access.erasable() && page.size == unit.size)
    }

    /// The contiguous parts of the image in a unit, ascending.
    #[must_use]
    pub const fn parts(&self, unit: &Unit) -> Parts<'p> {
        Parts { spans: self.spans, at: unit.start as u64, end: unit.end() }
    }

    /// How many bytes of the image lie in a unit below an address.
    pub(super) fn bytes_below(&self, unit: &Unit, address: u64) -> u64 {
        self.parts(unit).map(|part| part.end().min(address).saturating_sub(part.address.into())).sum()
    }
}

/// A contiguous part of the image.
pub type Part = Span;

/// Iterator of [`Plan::parts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'p> {
    spans: Spans<'p>,
    at: u64,
    end: u64,
}

impl Iterator for Parts<'_> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        let start = self.spans.next_from(self.at).filter(|start| *start < self.end)?;
        let end = self.spans.end_of_run(start).min(self.end);
        self.at = end;
        Some(Part { address: u32::try_from(start).ok()?, len: u32::try_from(end - start).ok()? })
    }
}

impl core::iter::FusedIterator for Parts<'_> {}

/// Iterator of [`Plan::units`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units<'p> {
    plan: Plan<'p>,
    at: u64,
}

impl<'p> Units<'p> {
    pub(super) const fn new(plan: Plan<'p>) -> Self {
        Self { plan, at: 0 }
    }
}

impl Iterator for Units<'_> {
    type Item = Unit;

    fn next(&mut self) -> Option<Unit> {
        let address = u32::try_from(self.plan.spans.next_from(self.at)?).ok()?;
        let unit = self.plan.unit_at(address);
        self.at = unit.end();
        Some(unit)
    }
}

impl core::iter::FusedIterator for Units<'_> {}
