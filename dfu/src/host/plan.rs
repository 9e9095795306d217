//! Planning: a range is checked against the memory map before the first byte leaves.

use crate::layout::{MemoryLayout, Page};

/// Whether pages are erased before writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a page is erased or not")]
pub enum EraseMode {
    /// Erase every erasable page the image touches, once, before the first block is written. What else is in these
    /// pages is lost.
    Pages,
    /// Erase nothing: for memories that need none, such as a Photon's DCT (although its layout string says erasable).
    None,
}

/// A range that the memory map allows to be written or read.
///
/// ```
/// use spark_dfu::{host::{EraseMode, Plan, PlanError}, layout::MemoryLayout};
/// let layout = MemoryLayout::parse(b"@Flash/0x08000000/03*016Ka,01*016Kg,01*064Kg,07*128Kg")?;
/// let plan = Plan::write(&layout, 0x0802_0000, 140_000, EraseMode::Pages)?;
/// assert!(plan.pages().map(|page| page.start).eq([0x0802_0000, 0x0804_0000]));
/// let error = Plan::write(&layout, 0x0800_0000, 1, EraseMode::Pages);
/// assert_eq!(error, Err(PlanError::NotWriteable { address: 0x0800_0000 }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan<'l> {
    layout: MemoryLayout<'l>,
    address: u32,
    len: u32,
    erase: EraseMode,
}

impl<'l> Plan<'l> {
    /// A plan to write `len` bytes from `address` on.
    ///
    /// # Errors
    /// [`PlanError`] if any byte lies outside the map or in a segment that is not writeable, or if there is none.
    pub fn write(
        layout: &MemoryLayout<'l>,
        address: u32,
        len: usize,
        erase: EraseMode,
    ) -> Result<Self, PlanError> {
        let plan = Self::check(layout, address, len, erase)?;
        for segment in plan.segment_starts() {
            let (address, segment) = segment?;
            if !segment.access.writeable() {
                return Err(PlanError::NotWriteable { address });
            }
        }
        Ok(plan)
    }

    /// A plan to read `len` bytes from `address` on.
    ///
    /// # Errors
    /// [`PlanError`] if any byte lies outside the map or in a segment that is not readable, or if there is none.
    pub fn read(layout: &MemoryLayout<'l>, address: u32, len: usize) -> Result<Self, PlanError> {
        let plan = Self::check(layout, address, len, EraseMode::None)?;
        for segment in plan.segment_starts() {
            let (address, segment) = segment?;
            if !segment.access.readable() {
                return Err(PlanError::NotReadable { address });
            }
        }
        Ok(plan)
    }

    fn check(
        layout: &MemoryLayout<'l>,
        address: u32,
        len: usize,
        erase: EraseMode,
    ) -> Result<Self, PlanError> {
        if len == 0 {
            return Err(PlanError::Empty);
        }
        let too_long = PlanError::BeyondAddressSpace { address, len };
        let len = u32::try_from(len).map_err(|_| too_long)?;
        if u64::from(address) + u64::from(len) > 1 << 32 {
            return Err(too_long);
        }
        Ok(Self { layout: *layout, address, len, erase })
    }

    /// The segments under the range, in ascending order, each with the first address of the range in it.
    fn segment_starts(&self) -> impl Iterator<Item = Result<(u32, crate::layout::Segment), PlanError>> {
        let layout = self.layout;
        let end = self.end();
        let mut at = u64::from(self.address);
        core::iter::from_fn(move || {
            let address = u32::try_from(at).ok().filter(|_| at < end)?;
            let Some(segment) = layout.segment_at(address) else {
                at = end;
                return Some(Err(PlanError::OutsideMemoryMap { address }));
            };
            at = segment.end();
            Some(Ok((address, segment)))
        })
    }

    /// First address.
    #[must_use]
    pub const fn address(&self) -> u32 {
        self.address
    }

    /// Number of bytes; never 0.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// First address after the range; at most 2^32.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.address as u64 + self.len as u64
    }

    /// The pages to erase, ascending, each once; none with [`EraseMode::None`]. Pages that are not erasable are left
    /// out.
    #[must_use]
    pub const fn pages(&self) -> Pages<'l> {
        let end = match self.erase {
            EraseMode::Pages => self.end(),
            EraseMode::None => 0,
        };
        Pages { layout: self.layout, at: self.address as u64, end }
    }
}

/// Iterator of [`Plan::pages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pages<'l> {
    layout: MemoryLayout<'l>,
    at: u64,
    end: u64,
}

impl Iterator for Pages<'_> {
    type Item = Page;

    fn next(&mut self) -> Option<Page> {
        loop {
            let address = u32::try_from(self.at).ok().filter(|_| self.at < self.end)?;
            let segment = self.layout.segment_at(address)?;
            let page = segment.page_at(address)?;
            if page.access.erasable() {
                self.at = page.end();
                return Some(page);
            }
            self.at = segment.end();
        }
    }
}

impl core::iter::FusedIterator for Pages<'_> {}

/// A range cannot be written or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// There is nothing to do.
    #[error("there are no bytes to transfer")]
    Empty,
    /// The range ends after 4 GiB.
    #[error("{len} bytes from {address:#010x} reach beyond the 32-bit address space")]
    BeyondAddressSpace {
        /// First address.
        address: u32,
        /// Number of bytes.
        len: usize,
    },
    /// A byte is in no segment.
    #[error("address {address:#010x} is outside the memory map; check the address and the alternate setting")]
    OutsideMemoryMap {
        /// The first such address.
        address: u32,
    },
    /// A byte is in a segment that cannot be written.
    #[error("the memory at {address:#010x} is not writeable; check the address and the alternate setting")]
    NotWriteable {
        /// The first such address.
        address: u32,
    },
    /// A byte is in a segment that cannot be read.
    #[error("the memory at {address:#010x} is not readable; check the address and the alternate setting")]
    NotReadable {
        /// The first such address.
        address: u32,
    },
    /// The plan was made for another number of bytes than the caller's slice has.
    #[error("the plan is for {planned} bytes but the slice has {given}")]
    LengthDiffers {
        /// Bytes of the plan.
        planned: u32,
        /// Bytes of the slice.
        given: usize,
    },
    /// wTransferSize is 0.
    #[error("the device declares a transfer size of 0; give the real one")]
    NoTransferSize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{format, vec::Vec};
    use proptest::prelude::*;

    #[test]
    fn holes_and_protected_segments_are_found_before_anything_is_sent() {
        let layout = MemoryLayout::parse(b"@x/0x1000/1*1Kg,1*1Ka,1*1Kd/0x2000/1*1Kg").unwrap();
        let write = |address, len| Plan::write(&layout, address, len, EraseMode::Pages).map(|_| ());
        assert_eq!(write(0x1000, 1024), Ok(()));
        assert_eq!(write(0x1000, 1025), Err(PlanError::NotWriteable { address: 0x1400 }));
        assert_eq!(write(0x0FFF, 1), Err(PlanError::OutsideMemoryMap { address: 0x0FFF }));
        assert_eq!(write(0x1BFF, 2), Err(PlanError::OutsideMemoryMap { address: 0x1C00 }));
        assert_eq!(write(0x2000, 0), Err(PlanError::Empty));
        let beyond = PlanError::BeyondAddressSpace { address: u32::MAX, len: 2 };
        assert_eq!(write(u32::MAX, 2), Err(beyond));
        assert_eq!(Plan::read(&layout, 0x1000, 2048).map(|_| ()), Ok(()));
        let unreadable = PlanError::NotReadable { address: 0x1800 };
        assert_eq!(Plan::read(&layout, 0x1000, 2049).map(|_| ()), Err(unreadable));
    }

    #[test]
    fn writeable_pages_that_cannot_be_erased_are_not_erased() {
        let layout = MemoryLayout::parse(b"@x/0x1000/1*1Kg,4294*1 d,1*3 g").unwrap();
        let plan = Plan::write(&layout, 0x1001, 1024 + 4294, EraseMode::Pages).unwrap();
        assert!(plan.pages().map(|page| page.start).eq([0x1000, 0x1000 + 1024 + 4294]));
        let plan = Plan::write(&layout, 0x1001, 1024, EraseMode::None).unwrap();
        assert_eq!(plan.pages().next(), None);
    }

    proptest! {
        #[test]
        fn pages_cover_exactly_the_image(
            sectors in proptest::collection::vec((1_u32..20, 1_u32..300), 1..6),
            from in 0.0..1.0_f64,
            to in 0.0..1.0_f64,
        ) {
            let base = 0x4000_u32;
            let text: Vec<_> = sectors.iter().map(|(pages, size)| format!("{pages}*{size} g")).collect();
            let text = format!("@x/0x{base:X}/{}", text.join(","));
            let layout = MemoryLayout::parse(text.as_bytes()).unwrap();
            let total: u32 = sectors.iter().map(|(pages, size)| pages * size).sum();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "fractions of a small range")]
            let (start, len) = {
                let start = (from * f64::from(total)) as u32;
                (base + start, 1 + (to * f64::from(total - start - 1)) as u32)
            };
            let plan = Plan::write(&layout, start, len as usize, EraseMode::Pages).unwrap();
            let pages: Vec<_> = plan.pages().collect();
            prop_assert!(pages[0].start <= start && u64::from(start) < pages[0].end());
            for pair in pages.windows(2) {
                prop_assert_eq!(pair[0].end(), u64::from(pair[1].start));
            }
            let last = pages[pages.len() - 1];
            prop_assert!(u64::from(last.start) < plan.end() && plan.end() <= last.end());
        }
    }
}
