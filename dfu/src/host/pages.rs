//! Spans of an image, and the pages they touch.

use super::plan::{EraseMode, Plan, PlanError, next_segment};
use crate::dfuse::Element;

/// Contiguous addresses; never empty, never beyond 4 GiB once checked by [`Span::new`] or a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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

#[cfg(test)]
mod tests {
    use super::super::plan::WriteOptions;
    use super::*;
    use crate::layout::MemoryLayout;
    use alloc::{format, vec, vec::Vec};
    use proptest::prelude::*;

    const fn span(address: u32, len: u32) -> Span {
        Span { address, len }
    }

    fn options(erase: EraseMode) -> WriteOptions {
        WriteOptions { erase, ..WriteOptions::DEFAULT }
    }

    #[test]
    fn holes_and_protected_segments_are_found_before_anything_is_sent() {
        let layout = MemoryLayout::parse(b"@x/0x1000/1*1Kg,1*1Ka,1*1Kd/0x2000/1*1Kg").unwrap();
        let write = |address, len| Plan::write(&layout, address, len, WriteOptions::DEFAULT).map(|_| ());
        assert_eq!(write(0x1000, 1024), Ok(()));
        assert_eq!(write(0x1000, 1025), Err(PlanError::NotWriteable { address: 0x1400 }));
        assert_eq!(write(0x0FFF, 1), Err(PlanError::OutsideMemoryMap { address: 0x0FFF }));
        assert_eq!(write(0x1BFF, 2), Err(PlanError::OutsideMemoryMap { address: 0x1C00 }));
        assert_eq!(write(0x2000, 0), Err(PlanError::Empty));
        let beyond = PlanError::BeyondAddressSpace { address: u32::MAX, len: 2 };
        assert_eq!(write(u32::MAX, 2), Err(beyond));
        let read = |address, len| super::super::ReadPlan::new(&layout, address, len).map(|_| ());
        assert_eq!(read(0x1000, 2048), Ok(()));
        assert_eq!(read(0x1000, 2049), Err(PlanError::NotReadable { address: 0x1800 }));
        assert_eq!(read(0x2400, 1), Err(PlanError::OutsideMemoryMap { address: 0x2400 }));
    }

    #[test]
    fn force_writes_everywhere_but_erases_only_what_is_known() {
        let layout = MemoryLayout::parse(b"@x/0x1000/1*1Kg,1*1Ka/0x2000/1*1Kg").unwrap();
        let options = WriteOptions { force: true, ..WriteOptions::DEFAULT };
        let plan = Plan::write(&layout, 0x0F00, 0x1200, options).unwrap();
        let units: Vec<_> = plan.units().map(|unit| (unit.start, unit.size, unit.erase)).collect();
        assert_eq!(
            units,
            [
                (0x0F00, 0x100, false),
                (0x1000, 0x400, true),
                (0x1400, 0x400, false),
                (0x1800, 0x800, false),
                (0x2000, 0x400, true)
            ]
        );
        let plan = Plan::write(&layout, 0xFFFF_F000, 0x1000, options).unwrap();
        assert_eq!(plan.units().map(|unit| unit.end()).collect::<Vec<_>>(), [1 << 32]);
    }

    #[test]
    fn what_is_read_has_to_be_readable() {
        let layout = MemoryLayout::parse(b"@x/0x0/4*1Kf").unwrap();
        let plan = |options| Plan::write(&layout, 0, 100, options).map(|_| ());
        let all = WriteOptions::DEFAULT;
        assert_eq!(plan(all), Ok(()));
        let unreadable = Err(PlanError::NotReadable { address: 0 });
        assert_eq!(plan(WriteOptions { verify: true, ..all }), unreadable);
        assert_eq!(plan(WriteOptions { skip_equal: true, ..all }), unreadable);
        assert_eq!(plan(WriteOptions { keep_partial_pages: true, ..all }), unreadable);
    }

    #[test]
    fn overlaps_and_ambiguous_maps_are_refused() {
        let layout = MemoryLayout::parse(b"@x/0x0/8*1Kg").unwrap();
        let spans = [span(0x400, 16), span(0x0, 0x401)];
        let overlap = Plan::write_spans(&layout, &spans, WriteOptions::DEFAULT);
        assert_eq!(overlap, Err(PlanError::Overlap { address: 0x400 }));
        let nothing = [span(0, 0)];
        let empty = Plan::write_spans(&layout, &nothing, WriteOptions::DEFAULT);
        assert_eq!(empty, Err(PlanError::Empty));
        let many = vec![span(0, 1); Plan::MAX_SPANS + 1];
        let count = many.len();
        let error = Plan::write_spans(&layout, &many, WriteOptions::DEFAULT);
        assert_eq!(error, Err(PlanError::TooManySpans { count }));
        let twice = MemoryLayout::parse(b"@x/0x0/8*1Kg/0x800/1*2Ka").unwrap();
        let write = |address| Plan::write(&twice, address, 16, WriteOptions::DEFAULT).map(|_| ());
        assert_eq!(write(0x7F0), Ok(()));
        assert_eq!(write(0x7F1), Err(PlanError::AmbiguousMap { address: 0x800 }));
        // The image avoids the common part, but an erase would not.
        let twice = MemoryLayout::parse(b"@x/0x0/1*2Kg/0x400/4*2Kg").unwrap();
        let error = Plan::write(&twice, 0, 16, WriteOptions::DEFAULT);
        assert_eq!(error, Err(PlanError::AmbiguousMap { address: 0x400 }));
    }

    #[test]
    fn each_page_comes_once_with_all_its_parts_whatever_the_order() {
        let layout = MemoryLayout::parse(b"@x/0x0/10*3 g").unwrap();
        let (a, b, c) = ([1; 2], [2; 4], [3; 1]);
        let elements = [
            Element { address: 10, data: &b },
            Element { address: 8, data: &a },
            Element { address: 100, data: &[] },
            Element { address: 0, data: &c },
        ];
        let plan = Plan::write_elements(&layout, &elements, WriteOptions::DEFAULT).unwrap();
        let units: Vec<_> = plan
            .units()
            .map(|unit| {
                (unit.start, plan.parts(&unit).map(|part| (part.address, part.len)).collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(units, [(0, vec![(0, 1)]), (6, vec![(8, 1)]), (9, vec![(9, 3)]), (12, vec![(12, 2)])]);
        assert_eq!((plan.total(), plan.start()), (7, 0));
    }

    #[test]
    fn memory_that_is_not_erased_is_cut_into_stretches_of_whole_pages() {
        let layout = MemoryLayout::parse(b"@x/0x100/100*3Ke,1*100Ke").unwrap();
        let plan = Plan::write(&layout, 0x100, 400 * 1024, options(EraseMode::Pages)).unwrap();
        let sizes: Vec<_> = plan.units().map(|unit| (unit.size / 1024, unit.erase)).collect();
        assert_eq!(sizes, [(63, false), (63, false), (63, false), (63, false), (48, false), (100, false)]);
        assert_eq!(plan.buffer_len(4096), 4096);
    }

    #[test]
    fn buffer_holds_the_largest_page_of_which_a_part_is_kept() {
        let layout = MemoryLayout::parse(b"@x/0x0/1*64Kg,1*128Kg,1*16Kg").unwrap();
        let keep = WriteOptions { keep_partial_pages: true, ..WriteOptions::DEFAULT };
        let len = |address, len| Plan::write(&layout, address, len, keep).unwrap().buffer_len(4096);
        assert_eq!(len(0, 64 * 1024), 4096);
        assert_eq!(len(0, 64 * 1024 + 1), 128 * 1024);
        assert_eq!(len(1, 10), 64 * 1024);
        assert_eq!(len(64 * 1024, 128 * 1024 + 5), 16 * 1024);
    }

    proptest! {
        #[test]
        fn units_are_disjoint_and_their_parts_are_the_image(
            sectors in proptest::collection::vec((1_u32..20, 1_u32..300, 0_usize..2), 1..6),
            cuts in proptest::collection::btree_set(0_u32..12_000, 2..12),
            mode in 0_usize..3,
            turn in 0_usize..12,
        ) {
            let base = 0x4000_u32;
            let text: Vec<_> = sectors
                .iter()
                .map(|(pages, size, access)| format!("{pages}*{size} {}", ["e", "g"][*access]))
                .collect();
            let text = format!("@x/0x{base:X}/{}", text.join(","));
            let layout = MemoryLayout::parse(text.as_bytes()).unwrap();
            let size: u32 = sectors.iter().map(|(pages, size, _)| pages * size).sum();
            let cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(size)).collect();
            let mut spans: Vec<_> = cuts
                .windows(2)
                .step_by(2)
                .filter(|pair| pair[0] < pair[1])
                .map(|pair| span(base + pair[0], pair[1] - pair[0]))
                .collect();
            prop_assume!(!spans.is_empty());
            let count = spans.len();
            spans.rotate_left(turn % count);
            let mode = [EraseMode::Pages, EraseMode::None, EraseMode::Mass][mode];
            let plan = Plan::write_spans(&layout, &spans, options(mode)).unwrap();
            let (mut end, mut covered) = (0, Vec::new());
            for unit in plan.units() {
                prop_assert!(u64::from(unit.start) >= end);
                end = unit.end();
                if unit.erase {
                    let page = layout.page_at(unit.start).unwrap();
                    prop_assert_eq!((page.start, page.size), (unit.start, unit.size));
                    prop_assert!(page.access.erasable() && mode == EraseMode::Pages);
                }
                let mut at = 0;
                for part in plan.parts(&unit) {
                    prop_assert!(u64::from(part.address) > at || at == 0);
                    prop_assert!(part.address >= unit.start && part.end() <= unit.end());
                    at = part.end();
                    covered.extend(part.address..part.address + part.len);
                }
                prop_assert!(at > 0, "a unit without a part");
            }
            let mut wanted: Vec<_> = spans.iter().flat_map(|span| span.address..span.address + span.len).collect();
            wanted.sort_unstable();
            prop_assert_eq!(covered, wanted);
        }
    }
}
