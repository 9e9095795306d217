//! The 1 MiB of flash in the STM32F205, with its sectors, its rules and its enemy: the power cut.

use core::ops::Range;

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

/// NOR flash: erasing sets a whole sector to FF, programming can only clear bits.
#[derive(Clone)]
pub struct Flash {
    bytes: Vec<u8>,
    cut: Option<PowerCut>,
    powered: bool,
    operations: u64,
}

impl core::fmt::Debug for Flash {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Flash")
            .field("operations", &self.operations)
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
        Self { bytes: vec![0xff; index(BASE + SIZE)], cut: None, powered: true, operations: 0 }
    }

    /// A chip with these contents, `None` unless they are exactly [`SIZE`] bytes.
    #[must_use]
    pub fn with_contents(contents: &[u8]) -> Option<Self> {
        let mut flash = Self::new();
        if contents.len() != flash.bytes.len() {
            return None;
        }
        flash.bytes.copy_from_slice(contents);
        Some(flash)
    }

    /// All bytes from [`BASE`].
    #[must_use]
    pub fn contents(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of a range, `None` if it is not in the flash.
    #[must_use]
    pub fn read(&self, address: u32, len: usize) -> Option<&[u8]> {
        self.bytes.get(range(address, len)?)
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
            self.bytes[cells].fill(0xff);
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
            .filter(|cells| cells.end <= self.bytes.len())
            .ok_or(FlashError::OutOfRange { address, len: data.len() })?;
        let (complete, torn) = self.spend();
        let len = match (complete, torn) {
            (true, _) => data.len(),
            (false, true) => data.len() / 2,
            (false, false) => 0,
        };
        for (cell, byte) in self.bytes[cells].iter_mut().zip(&data[..len]) {
            *cell &= *byte;
        }
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
        assert_eq!(flash.read(0x0802_0000, 2).unwrap(), [0x30, 0x0f]);
        flash.erase_sector(0x0803_ffff).unwrap();
        assert_eq!(flash.read(0x0802_0000, 2).unwrap(), [0xff, 0xff]);
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
            assert_eq!(flash.read(BASE + 4, 4).unwrap(), expected);
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
}
