//! Modules that were checked: their checksums cover hundreds of kilobytes, and firmware looks at them all the time.

use super::{Flash, range};
use core::ops::Range;
use spark_ota::module::{FlashModule, check_in_flash};
use std::sync::{Mutex, PoisonError};

/// Ranges remembered at once: the module places of a Photon, and an update's.
const REMEMBERED: usize = 12;

#[derive(Clone, Copy)]
struct Checked {
    address: u32,
    len: u32,
    module: Option<FlashModule>,
}

/// What the ranges that were asked for hold.
#[derive(Default)]
pub(super) struct CheckedModules {
    known: Mutex<Vec<Checked>>,
}

impl Clone for CheckedModules {
    fn clone(&self) -> Self {
        Self { known: Mutex::new(self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()) }
    }
}

impl CheckedModules {
    /// These bytes change.
    pub(super) fn forget(&mut self, cells: &Range<usize>) {
        let known = self.known.get_mut().unwrap_or_else(PoisonError::into_inner);
        known.retain(|checked| {
            let len = usize::try_from(checked.len).unwrap_or(usize::MAX);
            range(checked.address, len).is_some_and(|own| own.end <= cells.start || cells.end <= own.start)
        });
    }

    fn get(
        &self,
        address: u32,
        len: u32,
        check: impl FnOnce() -> Option<FlashModule>,
    ) -> Option<FlashModule> {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = lock().iter().find(|checked| (checked.address, checked.len) == (address, len)).copied();
        if let Some(checked) = found {
            return checked.module;
        }
        let module = check();
        let mut known = lock();
        if known.len() >= REMEMBERED {
            known.remove(0);
        }
        known.push(Checked { address, len, module });
        module
    }
}

impl Flash {
    /// The module that begins at `address`, of at most `len` bytes, if there is one.
    pub(crate) fn module_at(&self, address: u32, len: u32) -> Option<FlashModule> {
        let check = || {
            let read = |at, out: &mut [u8]| {
                out.copy_from_slice(&self.read(at, out.len()).ok_or(())?);
                Ok::<(), ()>(())
            };
            check_in_flash(address, len, read).ok()
        };
        let cells = range(address, usize::try_from(len).unwrap_or(usize::MAX))?;
        if self.pages.range(super::pages(&cells)).next().is_some() {
            self.modules.get(address, len, check)
        } else {
            self.image.modules.get(address, len, check)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::BASE;
    use super::*;
    use spark_ota::module::{Dependency, ModuleBuilder, ModuleFunction};

    #[test]
    fn a_module_is_found_again_only_while_it_is_the_same() {
        let body = vec![0x5a; 3000];
        let builder = ModuleBuilder::new(6, ModuleFunction::System, 1, 207).depends_on([Dependency::NONE; 2]);
        let image = builder.vector_table(0x2002_0000).body(&body).build().unwrap();
        let (at, len) = (BASE + 0x2_0000, 0x4_0000);
        let mut flash = Flash::new();
        assert_eq!(flash.module_at(at, len), None);
        flash.program(at, &image).unwrap();
        for shared in [false, true] {
            if shared {
                flash.share();
            }
            for _ in 0..2 {
                assert!(flash.module_at(at, len).unwrap().crc_ok());
            }
            let mut damaged = flash.clone();
            damaged.program(at + 1000, &[0; 4]).unwrap();
            assert!(!damaged.module_at(at, len).unwrap().crc_ok());
            damaged.program(at + 1000, &[0; 4]).unwrap();
            assert!(!damaged.module_at(at, len).unwrap().crc_ok());
            damaged.erase_sector(at).unwrap();
            assert_eq!(damaged.module_at(at, len), None);
            assert!(flash.module_at(at, len).unwrap().crc_ok(), "the other chip is as it was");
        }
    }

    #[test]
    fn only_so_many_ranges_are_remembered() {
        let flash = Flash::new();
        for len in 100..200 {
            assert_eq!(flash.module_at(BASE, len), None);
        }
        assert_eq!(flash.image.modules.known.lock().unwrap().len(), REMEMBERED);
    }
}
