//! The 1 MiB of flash in the STM32F205, with its sectors, its rules and its enemy: the power cut.
//!
//! In memory a chip is an image that it shares with others and the pages that differ from it, so that thousands of
//! devices with the same modules take the room of one.

mod modules;

use core::ops::Range;
use modules::CheckedModules;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// First address.
pub const BASE: u32 = 0x0800_0000;
/// Bytes.
pub const SIZE: u32 = 0x10_0000;

/// Sector sizes in KiB, in the order of their addresses.
const SECTORS_KIB: [u32; 12] = [16, 16, 16, 16, 64, 128, 128, 128, 128, 128, 128, 128];

/// Why an operation did not happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlashError {
    /// The power is off. Nothing works until [`Flash::restore_power`].
    #[error("the power is off")]
    PowerLost,
    /// The range is not in the flash.
    #[error("{len} bytes at {address:#010x} are not in the flash")]
    OutOfRange {
        /// First address.
        address: u32,
        /// Bytes.
        len: usize,
    },
}

/// When the power fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PowerCut {
    /// Erase and program operations that still complete.
    pub after: u64,
    /// The operation that is interrupted is half done: the first half of a sector is erased, the first half of the
    /// bytes is programmed. Otherwise it has not begun.
    pub torn: bool,
}

/// Bytes that are kept together once one of them differs from the image. Small, as most devices differ in a key only.
const PAGE: usize = 1024;
type Page = [u8; PAGE];

/// What chips share. Nobody writes to it, so what was found in it stays true.
struct Image {
    bytes: Box<[u8]>,
    modules: CheckedModules,
}

static ERASED_IMAGE: LazyLock<Arc<Image>> = LazyLock::new(|| Image::new(vec![0xff; index(BASE + SIZE)]));
static ERASED_PAGE: LazyLock<Arc<Page>> = LazyLock::new(|| Arc::new([0xff; PAGE]));

impl Image {
    fn new(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { bytes: bytes.into_boxed_slice(), modules: CheckedModules::default() })
    }
}

/// NOR flash: erasing sets a whole sector to FF, programming can only clear bits.
///
/// A clone shares everything until one of the two is written to. [`Flash::share`] makes that last for chips that are to
/// be cloned often.
#[derive(Clone)]
pub struct Flash {
    image: Arc<Image>,
    /// Pages that differ from the image, by their number.
    pages: BTreeMap<u16, Arc<Page>>,
    /// Modules that reach into those pages.
    modules: CheckedModules,
    cut: Option<PowerCut>,
    powered: bool,
    operations: u64,
}

impl core::fmt::Debug for Flash {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Flash")
            .field("operations", &self.operations)
            .field("own", &self.own_len())
            .field("powered", &self.powered)
            .field("cut", &self.cut)
            .finish_non_exhaustive()
    }
}

impl Default for Flash {
    fn default() -> Self {
        Self::new()
    }
}

impl Flash {
    /// An erased chip.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Arc::clone(&ERASED_IMAGE))
    }

    fn of(image: Arc<Image>) -> Self {
        Self {
            image,
            pages: BTreeMap::new(),
            modules: CheckedModules::default(),
            cut: None,
            powered: true,
            operations: 0,
        }
    }

    /// A chip with these contents, `None` unless they are exactly [`SIZE`] bytes.
    #[must_use]
    pub fn with_contents(contents: &[u8]) -> Option<Self> {
        (contents.len() == index(BASE + SIZE)).then(|| Self::of(Image::new(contents.to_vec())))
    }

    /// All bytes from [`BASE`].
    #[must_use]
    pub fn contents(&self) -> Vec<u8> {
        self.collect(0..index(BASE + SIZE))
    }

    /// The bytes of a range, `None` if it is not in the flash. They are copied if some of them differ from the image.
    #[must_use]
    pub fn read(&self, address: u32, len: usize) -> Option<Cow<'_, [u8]>> {
        let cells = range(address, len)?;
        let in_image = self.image.bytes.get(cells.clone())?;
        if let Some((at, page)) = self.pages.range(pages(&cells)).next() {
            // Nearly all reads are short.
            let start = usize::from(*at) * PAGE;
            if let Some(within) = cells.start.checked_sub(start).and_then(|at| page.get(at..at + len)) {
                return Some(Cow::Borrowed(within));
            }
            return Some(Cow::Owned(self.collect(cells)));
        }
        Some(Cow::Borrowed(in_image))
    }

    /// Puts what differs into the image, so that clones made from now on share all of it.
    pub fn share(&mut self) {
        if !self.pages.is_empty() {
            self.image = Image::new(self.contents());
            self.pages.clear();
            self.modules = CheckedModules::default();
        }
    }

    /// Shares with another chip whatever is the same in both.
    pub fn share_with(&mut self, other: &Self) {
        let contents = self.contents();
        let image = Arc::clone(&other.image);
        let pages = contents.as_chunks::<PAGE>().0.iter().zip(image.bytes.as_chunks::<PAGE>().0).enumerate();
        self.pages = pages
            .filter(|(_, (own, shared))| own != shared)
            .filter_map(|(at, (own, _))| Some((u16::try_from(at).ok()?, Arc::new(*own))))
            .collect();
        self.image = image;
        self.modules = CheckedModules::default();
    }

    /// Bytes that this chip has for itself.
    #[must_use]
    pub fn own_len(&self) -> usize {
        self.pages.values().filter(|page| !Arc::ptr_eq(page, &ERASED_PAGE)).count() * PAGE
    }

    fn collect(&self, cells: Range<usize>) -> Vec<u8> {
        let mut bytes = self.image.bytes[cells.clone()].to_vec();
        for (at, page) in self.pages.range(pages(&cells)) {
            let (start, place) = place(*at, &cells);
            let from = start + place.start - cells.start;
            bytes[from..from + place.len()].copy_from_slice(&page[place]);
        }
        bytes
    }

    /// Sets bytes to FF.
    fn fill(&mut self, cells: Range<usize>) {
        self.modules.forget(&cells);
        for at in pages(&cells) {
            let (start, place) = place(at, &cells);
            if place.len() == PAGE {
                self.pages.insert(at, Arc::clone(&ERASED_PAGE));
            } else {
                Arc::make_mut(self.own_page(at, start))[place].fill(0xff);
            }
        }
    }

    /// Clears the bits that are 0 in `data`. Pages that stay as they are stay shared.
    fn clear(&mut self, cells: Range<usize>, data: &[u8]) {
        self.modules.forget(&cells);
        for at in pages(&cells) {
            let (start, place) = place(at, &cells);
            let data = &data[start + place.start - cells.start..][..place.len()];
            let page = self.pages.get(&at).map_or(&self.image.bytes[start..start + PAGE], |page| &page[..]);
            if page[place.clone()].iter().zip(data).any(|(cell, byte)| cell & byte != *cell) {
                let page = Arc::make_mut(self.own_page(at, start));
                page[place].iter_mut().zip(data).for_each(|(cell, byte)| *cell &= *byte);
            }
        }
    }

    fn own_page(&mut self, at: u16, start: usize) -> &mut Arc<Page> {
        self.pages.entry(at).or_insert_with(|| {
            let mut page = [0xff; PAGE];
            page.copy_from_slice(&self.image.bytes[start..start + PAGE]);
            Arc::new(page)
        })
    }

    /// Erases the sector that contains `address`.
    ///
    /// # Errors
    /// [`FlashError`].
    pub fn erase_sector(&mut self, address: u32) -> Result<(), FlashError> {
        let sector = sector_of(address).ok_or(FlashError::OutOfRange { address, len: 1 })?;
        let (complete, torn) = self.spend();
        let mut cells = index(sector.start)..index(sector.end);
        if torn {
            cells.end -= cells.len() / 2;
        }
        if complete || torn {
            self.fill(cells);
        }
        if complete { Ok(()) } else { Err(FlashError::PowerLost) }
    }

    /// Erases every sector that a range touches.
    ///
    /// # Errors
    /// [`FlashError`].
    pub fn erase_range(&mut self, address: u32, len: usize) -> Result<(), FlashError> {
        let out_of_range = FlashError::OutOfRange { address, len };
        let end = u32::try_from(len).ok().and_then(|len| address.checked_add(len)).ok_or(out_of_range)?;
        let mut at = address;
        while at < end {
            self.erase_sector(at)?;
            at = sector_of(at).ok_or(out_of_range)?.end;
        }
        Ok(())
    }

    /// Programs bytes. Bits that are 0 stay 0.
    ///
    /// # Errors
    /// [`FlashError`].
    pub fn program(&mut self, address: u32, data: &[u8]) -> Result<(), FlashError> {
        let cells = range(address, data.len())
            .filter(|cells| cells.end <= index(BASE + SIZE))
            .ok_or(FlashError::OutOfRange { address, len: data.len() })?;
        let (complete, torn) = self.spend();
        let len = match (complete, torn) {
            (true, _) => data.len(),
            (false, true) => data.len() / 2,
            (false, false) => 0,
        };
        self.clear(cells.start..cells.start + len, data);
        if complete { Ok(()) } else { Err(FlashError::PowerLost) }
    }

    /// Lets the power fail later on. Replaces an earlier plan.
    pub fn cut_power(&mut self, cut: PowerCut) {
        self.cut = Some(cut);
    }

    /// Ends a power cut, also one that has not happened yet.
    pub fn restore_power(&mut self) {
        self.cut = None;
        self.powered = true;
    }

    /// Whether there is power.
    #[must_use]
    pub const fn is_powered(&self) -> bool {
        self.powered
    }

    /// Erase and program operations since the chip was made.
    #[must_use]
    pub const fn operations(&self) -> u64 {
        self.operations
    }

    /// Takes one operation off the plan: (it completes, it is torn).
    fn spend(&mut self) -> (bool, bool) {
        if !self.powered {
            return (false, false);
        }
        match &mut self.cut {
            Some(cut) if cut.after == 0 => {
                let torn = cut.torn;
                self.powered = false;
                return (false, torn);
            }
            Some(cut) => cut.after -= 1,
            None => {}
        }
        self.operations += 1;
        (true, false)
    }
}

/// The sector that contains an address.
#[must_use]
pub fn sector_of(address: u32) -> Option<Range<u32>> {
    let mut start = BASE;
    for kib in SECTORS_KIB {
        let end = start + kib * 1024;
        if (start..end).contains(&address) {
            return Some(start..end);
        }
        start = end;
    }
    None
}

fn range(address: u32, len: usize) -> Option<Range<usize>> {
    let start = usize::try_from(address.checked_sub(BASE)?).ok()?;
    Some(start..start.checked_add(len)?)
}

/// The pages that these bytes touch.
fn pages(cells: &Range<usize>) -> Range<u16> {
    let page = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
    if cells.is_empty() { 0..0 } else { page(cells.start / PAGE)..page(cells.end.div_ceil(PAGE)) }
}

/// Where a page starts, and which of its bytes are among these.
fn place(page: u16, cells: &Range<usize>) -> (usize, Range<usize>) {
    let start = usize::from(page) * PAGE;
    (start, cells.start.max(start) - start..cells.end.min(start + PAGE) - start)
}

/// Of an address that is known to be in the flash or at its end.
const fn index(address: u32) -> usize {
    (address - BASE) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programming_clears_bits_and_erasing_sets_a_sector() {
        let mut flash = Flash::new();
        flash.program(0x0802_0000, &[0xf0, 0x0f]).unwrap();
        flash.program(0x0802_0000, &[0x3c, 0xff]).unwrap();
        assert_eq!(*flash.read(0x0802_0000, 2).unwrap(), [0x30, 0x0f]);
        flash.erase_sector(0x0803_ffff).unwrap();
        assert_eq!(*flash.read(0x0802_0000, 2).unwrap(), [0xff, 0xff]);
        assert_eq!(flash.operations(), 3);
    }

    #[test]
    fn sectors_are_those_of_the_chip() {
        let sizes: Vec<u32> = core::iter::successors(sector_of(BASE), |sector| sector_of(sector.end))
            .map(|sector| (sector.end - sector.start) / 1024)
            .collect();
        assert_eq!(sizes, SECTORS_KIB);
        assert_eq!(sector_of(BASE + SIZE), None);
        assert_eq!(sector_of(BASE - 1), None);
    }

    #[test]
    fn power_cut_leaves_the_interrupted_operation_undone_or_torn() {
        for torn in [false, true] {
            let mut flash = Flash::new();
            flash.cut_power(PowerCut { after: 1, torn });
            flash.program(BASE, &[0; 4]).unwrap();
            assert_eq!(flash.program(BASE + 4, &[0; 4]), Err(FlashError::PowerLost));
            assert_eq!(flash.erase_sector(BASE), Err(FlashError::PowerLost), "nothing works without power");
            let expected = if torn { [0, 0, 0xff, 0xff] } else { [0xff; 4] };
            assert_eq!(*flash.read(BASE + 4, 4).unwrap(), expected);
            flash.restore_power();
            assert_eq!(flash.erase_sector(BASE), Ok(()));
        }
    }

    #[test]
    fn ranges_outside_the_chip_are_errors() {
        let mut flash = Flash::new();
        assert!(flash.read(BASE + SIZE - 1, 2).is_none() && flash.read(BASE - 1, 1).is_none());
        let expected = FlashError::OutOfRange { address: BASE + SIZE - 1, len: 2 };
        assert_eq!(flash.program(BASE + SIZE - 1, &[0, 0]), Err(expected));
        assert!(flash.erase_range(BASE + SIZE - 1, 2).is_err());
    }

    #[test]
    fn every_range_reads_as_if_the_chip_were_one_piece() {
        let mut contents: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
        let mut flash = Flash::with_contents(&contents).unwrap();
        // Within a page, across pages, and a sector with its neighbours.
        for (at, len) in [(5000, 3), (8190, 4), (20_000, 5000)] {
            flash.program(BASE + at, &vec![0x5a; len]).unwrap();
            let at = usize::try_from(at).unwrap();
            contents[at..at + len].iter_mut().for_each(|cell| *cell &= 0x5a);
        }
        flash.erase_sector(BASE + 0x8000).unwrap();
        contents[0x8000..0xc000].fill(0xff);
        assert!(flash.contents() == contents);
        for (at, len) in [
            (0, 4),
            (5000, 3),
            (4999, 5),
            (4096, 1024),
            (4000, 2000),
            (8191, 2),
            (0x7fff, 2),
            (0, 0),
            (30_000, 9000),
        ] {
            let expected = &contents[at..at + len];
            assert!(*flash.read(BASE + u32::try_from(at).unwrap(), len).unwrap() == *expected, "{at} {len}");
        }
    }

    #[test]
    fn clones_share_what_neither_has_written() {
        let mut first = Flash::new();
        first.program(BASE, &[0; 5000]).unwrap();
        assert_eq!(first.own_len(), 5 * PAGE);
        first.share();
        assert_eq!(first.own_len(), 0);
        let mut second = first.clone();
        second.program(BASE + 6000, &[1]).unwrap();
        second.erase_sector(BASE + 0x2_0000).unwrap();
        assert_eq!((first.own_len(), second.own_len()), (0, PAGE), "erased pages are one for all");
        assert!(Arc::ptr_eq(&first.image, &second.image));
        let mut third = Flash::with_contents(&second.contents()).unwrap();
        third.share_with(&first);
        assert_eq!(third.own_len(), PAGE, "the erased sector was erased before");
        assert!(third.contents() == second.contents() && Arc::ptr_eq(&first.image, &third.image));
        assert_eq!(first.read(BASE + 6000, 1).unwrap()[0], 0xff);
        assert_eq!(second.read(BASE + 6000, 1).unwrap()[0], 1);
    }
}
