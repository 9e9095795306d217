//! Planning: everything is checked against the memory map before the first byte leaves.

use super::pages::{Span, Spans, Unit, Units};
use crate::{
    dfuse::Element,
    layout::{MemoryLayout, Segment},
};

/// What is erased before writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "what DfuSe can erase")]
pub enum EraseMode {
    /// Every erasable page that the image touches, once, right before it is written.
    Pages,
    /// Nothing: for memories that need none, such as a Photon's DCT (although its layout string says erasable).
    None,
    /// Everything on the alternate setting, once, before the first block.
    Mass,
}

/// How to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_structs, reason = "meant for struct update from DEFAULT")]
pub struct WriteOptions {
    /// What is erased.
    pub erase: EraseMode,
    /// Pages that the image covers in part are read first, and what the image does not cover is written back. Without it
    /// those bytes are erased. Needs a buffer of one page: see [`Plan::buffer_len`].
    ///
    /// From the erase to the end of such a page its content is in that buffer only. Save
    /// [`Download::kept_page`](super::Download::kept_page) if the host may fail meanwhile.
    pub keep_partial_pages: bool,
    /// Pages are read first, and those that already hold the right bytes are neither erased nor written.
    pub skip_equal: bool,
    /// Every page is read back and compared after it was written.
    pub verify: bool,
    /// Addresses outside the memory map are written, too, without erasing; memory that is not writeable is written
    /// anyway. For devices whose map is wrong.
    pub force: bool,
    /// The device resets itself as soon as the last block is written, as some do when a boot flag or an option byte
    /// changes: going away then is success, and no ABORT follows. Cannot be combined with what reads (`verify`,
    /// `skip_equal`, `keep_partial_pages`).
    pub will_reset: bool,
}

impl WriteOptions {
    /// Erase the pages, write, nothing more.
    pub const DEFAULT: Self = Self {
        erase: EraseMode::Pages,
        keep_partial_pages: false,
        skip_equal: false,
        verify: false,
        force: false,
        will_reset: false,
    };
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A checked plan to write an image into the memory of one alternate setting.
///
/// The work is cut into [`Unit`]s, the pages in ascending order, whatever the order of the image's elements: each page is
/// erased once and gets all bytes that belong to it. A unit is also what a [`Journal`](super::Journal) counts.
///
/// ```
/// use spark_dfu::{host::{Plan, PlanError, WriteOptions}, layout::MemoryLayout};
/// let layout = MemoryLayout::parse(b"@Flash/0x08000000/03*016Ka,01*016Kg,01*064Kg,07*128Kg")?;
/// let plan = Plan::write(&layout, 0x0802_0000, 140_000, WriteOptions::DEFAULT)?;
/// assert!(plan.units().map(|unit| unit.start).eq([0x0802_0000, 0x0804_0000]));
/// let error = Plan::write(&layout, 0x0800_0000, 1, WriteOptions::DEFAULT);
/// assert_eq!(error, Err(PlanError::NotWriteable { address: 0x0800_0000 }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan<'p> {
    pub(super) layout: MemoryLayout<'p>,
    pub(super) spans: Spans<'p>,
    options: WriteOptions,
    total: u64,
}

impl<'p> Plan<'p> {
    /// The most spans or elements of one plan; checking them against each other takes time by the square.
    pub const MAX_SPANS: usize = 4096;

    /// A plan for `len` bytes from `address` on.
    ///
    /// # Errors
    /// [`PlanError`]: a byte lies outside the map, is not writeable, or not readable where the options need that; there
    /// are no bytes; the map contradicts itself there.
    pub fn write(
        layout: &MemoryLayout<'p>,
        address: u32,
        len: usize,
        options: WriteOptions,
    ) -> Result<Self, PlanError> {
        Self::new(layout, Spans::One(Span::new(address, len)?), options)
    }

    /// A plan for several spans in any order.
    ///
    /// # Errors
    /// As [`Self::write`], and if two spans overlap or there are more than [`Self::MAX_SPANS`].
    pub fn write_spans(
        layout: &MemoryLayout<'p>,
        spans: &'p [Span],
        options: WriteOptions,
    ) -> Result<Self, PlanError> {
        Self::new(layout, Spans::Many(spans), options)
    }

    /// A plan for the elements of an image, in any order; empty ones are left out.
    ///
    /// # Errors
    /// As [`Self::write_spans`].
    pub fn write_elements(
        layout: &MemoryLayout<'p>,
        elements: &'p [Element<'p>],
        options: WriteOptions,
    ) -> Result<Self, PlanError> {
        for element in elements.iter().filter(|element| !element.data.is_empty()) {
            Span::new(element.address, element.data.len())?;
        }
        Self::new(layout, Spans::Elements(elements), options)
    }

    fn new(layout: &MemoryLayout<'p>, spans: Spans<'p>, options: WriteOptions) -> Result<Self, PlanError> {
        let count = spans.count();
        if count > Self::MAX_SPANS {
            return Err(PlanError::TooManySpans { count });
        }
        if spans.iter().next().is_none() {
            return Err(PlanError::Empty);
        }
        let reads = options.verify || options.skip_equal || options.keep_partial_pages;
        if reads && options.will_reset {
            return Err(PlanError::ReadsBeforeReset);
        }
        let total = spans.iter().map(|span| u64::from(span.len)).sum();
        let plan = Self { layout: *layout, spans, options, total };
        for (number, span) in spans.iter().enumerate() {
            span.check()?;
            if let Some(other) = spans.iter().skip(number + 1).find(|other| span.overlaps(other)) {
                return Err(PlanError::Overlap { address: span.address.max(other.address) });
            }
            plan.check_map(span)?;
        }
        for unit in plan.units() {
            // A page that is erased must not reach into another segment either.
            if unit.erase {
                check_unambiguous(layout, Span { address: unit.start, len: unit.size })?;
            }
            let read = options.verify || options.skip_equal || plan.keeps(&unit);
            let part = plan.parts(&unit).next();
            if let (true, Some(part)) = (read, part)
                && layout.segment_at(part.address).is_some_and(|segment| !segment.access.readable())
            {
                return Err(PlanError::NotReadable { address: part.address });
            }
        }
        Ok(plan)
    }

    fn check_map(&self, span: Span) -> Result<(), PlanError> {
        check_unambiguous(&self.layout, span)?;
        for piece in pieces(&self.layout, span) {
            match piece {
                Ok((address, segment)) if !segment.access.writeable() && !self.options.force => {
                    return Err(PlanError::NotWriteable { address });
                }
                Err(address) if !self.options.force => return Err(PlanError::OutsideMemoryMap { address }),
                _ => {}
            }
        }
        Ok(())
    }

    /// What the plan was made with.
    #[must_use]
    pub const fn options(&self) -> &WriteOptions {
        &self.options
    }

    /// Bytes of the image.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The lowest address of the image: where a device that leaves is told to start.
    #[must_use]
    pub fn start(&self) -> u32 {
        self.spans.iter().map(|span| span.address).min().unwrap_or(0)
    }

    /// The units of work in the order in which they are done.
    #[must_use]
    pub const fn units(&self) -> Units<'p> {
        Units::new(*self)
    }

    /// Bytes of the buffer that [`Download`](super::Download) needs: one block, or the largest page of which a part is
    /// kept.
    #[must_use]
    pub fn buffer_len(&self, transfer_size: u16) -> usize {
        let kept = self.units().filter(|unit| self.keeps(unit)).map(|unit| unit.size).max().unwrap_or(0);
        usize::try_from(kept).unwrap_or(usize::MAX).max(usize::from(transfer_size))
    }

    /// Whether some of the unit is to be read and written back.
    pub(super) fn keeps(&self, unit: &Unit) -> bool {
        let covered = || self.parts(unit).next().is_some_and(|part| part.len == unit.size);
        self.options.keep_partial_pages && unit.erase && !covered()
    }
}

/// A checked plan to read contiguous memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadPlan {
    pub(super) span: Span,
}

impl ReadPlan {
    /// A plan to read `len` bytes from `address` on.
    ///
    /// # Errors
    /// [`PlanError`] if any byte lies outside the map or in a segment that is not readable, or if there is none.
    pub fn new(layout: &MemoryLayout<'_>, address: u32, len: usize) -> Result<Self, PlanError> {
        let span = Span::new(address, len)?;
        check_unambiguous(layout, span)?;
        for piece in pieces(layout, span) {
            match piece {
                Ok((address, segment)) if !segment.access.readable() => {
                    return Err(PlanError::NotReadable { address });
                }
                Err(address) => return Err(PlanError::OutsideMemoryMap { address }),
                Ok(_) => {}
            }
        }
        Ok(Self { span })
    }

    /// A plan that asks no memory map, for devices whose map is wrong.
    ///
    /// # Errors
    /// [`PlanError::Empty`], [`PlanError::BeyondAddressSpace`].
    pub fn forced(address: u32, len: usize) -> Result<Self, PlanError> {
        Ok(Self { span: Span::new(address, len)? })
    }

    /// What is read.
    #[must_use]
    pub const fn span(&self) -> Span {
        self.span
    }
}

/// The segments under a span, ascending, each with the first address of the span in it; `Err` with the first address of a
/// hole.
fn pieces(layout: &MemoryLayout<'_>, span: Span) -> impl Iterator<Item = Result<(u32, Segment), u32>> {
    let layout = *layout;
    let mut at = u64::from(span.address);
    core::iter::from_fn(move || {
        let address = u32::try_from(at).ok().filter(|_| at < span.end())?;
        let Some(segment) = layout.segment_at(address) else {
            at = next_segment(&layout, address);
            return Some(Err(address));
        };
        at = segment.end();
        Some(Ok((address, segment)))
    })
}

/// Where the next segment above an address begins; 2^32 if there is none.
pub(super) fn next_segment(layout: &MemoryLayout<'_>, address: u32) -> u64 {
    layout
        .segments()
        .map(|segment| u64::from(segment.start))
        .filter(|start| *start > address.into())
        .min()
        .unwrap_or(1 << 32)
}

/// Two segments that claim the same address leave open how it is erased.
fn check_unambiguous(layout: &MemoryLayout<'_>, span: Span) -> Result<(), PlanError> {
    for (number, one) in layout.segments().enumerate() {
        for other in layout.segments().skip(number + 1) {
            let start = one.start.max(other.start).max(span.address);
            if u64::from(start) < one.end().min(other.end()).min(span.end()) {
                return Err(PlanError::AmbiguousMap { address: start });
            }
        }
    }
    Ok(())
}

/// An image cannot be written, or memory not be read, as asked.
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
    /// Two elements of the image have a byte for the same address.
    #[error("two elements of the image overlap at {address:#010x}; it is not clear which one counts")]
    Overlap {
        /// The first such address.
        address: u32,
    },
    /// Two segments of the map claim the same address.
    #[error("the memory map names {address:#010x} twice; it is not clear how to erase it")]
    AmbiguousMap {
        /// The first such address.
        address: u32,
    },
    /// `will_reset` was combined with an option that reads.
    #[error("a device that resets itself when it is written cannot also be read; drop one of the options")]
    ReadsBeforeReset,
    /// The device does not know how to erase everything, although it says OK.
    #[error("the device ignores the command to erase everything; erase by pages")]
    NoMassErase,
    /// The image has too many pieces.
    #[error("the image has {count} pieces, more than 4096; join adjacent ones")]
    TooManySpans {
        /// Number of pieces.
        count: usize,
    },
    /// The plan was made for another number of bytes than the caller's slice has.
    #[error("the plan is for {planned} bytes but the slice has {given}")]
    LengthDiffers {
        /// Bytes of the plan.
        planned: u32,
        /// Bytes of the slice.
        given: usize,
    },
    /// The image has not the bytes that were planned.
    #[error("the image has no byte for address {address:#010x}; give the one that was planned")]
    UnreadableImage {
        /// The address.
        address: u32,
    },
    /// wTransferSize is 0.
    #[error("the device declares a transfer size of 0; give the real one")]
    NoTransferSize,
    /// The buffer does not hold what has to be in it.
    #[error("the buffer holds {available} bytes but {needed} are needed")]
    BufferTooSmall {
        /// Bytes needed: see [`Plan::buffer_len`].
        needed: usize,
        /// Bytes of the buffer.
        available: usize,
    },
}
