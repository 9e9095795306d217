//! Where modules lie in the flash of the STM32 platforms.

use super::installed::Store;
use super::prefix::{ModuleFunction, Prefix};

/// A piece of flash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Region {
    /// First byte.
    pub address: u32,
    /// Bytes.
    pub size: u32,
}

impl Region {
    /// Address behind the last byte.
    #[must_use]
    pub const fn end(&self) -> u32 {
        self.address.saturating_add(self.size)
    }

    /// Whether a device finds the module of `prefix` in its range here.
    ///
    /// The device looks at the end address only, and lets it be the region's end, so that the CRC would lie behind it.
    #[must_use]
    pub const fn accepts(&self, prefix: &Prefix) -> bool {
        self.address <= prefix.end_address && prefix.end_address <= self.end()
    }
}

/// A place for one module.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Slot {
    /// Function of the module.
    pub function: ModuleFunction,
    /// Index of the module.
    pub index: u8,
    /// What the place is for.
    pub store: Store,
    /// Where it is.
    pub region: Region,
}

/// Module regions of one platform.
///
/// On a Photon the OTA region reaches over the factory copy: an update of more than 0x20000 bytes destroys it.
///
/// # Source
/// device-os@v2.3.1: `ota_module_bounds.c` in `hal/src/photon` and `hal/src/electron`. Up to 0.4.9 an
/// Electron kept its factory copy at 0x080e0000.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FlashLayout {
    /// Places of modules, in the order in which a device describes them.
    pub slots: &'static [Slot],
    /// Where an update arrives.
    pub ota: Region,
}

const fn slot(function: ModuleFunction, index: u8, store: Store, address: u32, size: u32) -> Slot {
    Slot { function, index, store, region: Region { address, size } }
}

impl FlashLayout {
    /// Photon and P1.
    pub const PHOTON: Self = Self {
        slots: &[
            slot(ModuleFunction::Bootloader, 0, Store::Main, 0x0800_0000, 0x4000),
            slot(ModuleFunction::System, 1, Store::Main, 0x0802_0000, 0x40000),
            slot(ModuleFunction::System, 2, Store::Main, 0x0806_0000, 0x40000),
            slot(ModuleFunction::User, 1, Store::Main, 0x080a_0000, 0x20000),
            slot(ModuleFunction::User, 1, Store::Factory, 0x080e_0000, 0x20000),
        ],
        ota: Region { address: 0x080c_0000, size: 0x40000 },
    };

    /// Electron.
    pub const ELECTRON: Self = Self {
        slots: &[
            slot(ModuleFunction::Bootloader, 0, Store::Main, 0x0800_0000, 0x4000),
            slot(ModuleFunction::System, 1, Store::Main, 0x0802_0000, 0x20000),
            slot(ModuleFunction::System, 2, Store::Main, 0x0804_0000, 0x20000),
            slot(ModuleFunction::System, 3, Store::Main, 0x0806_0000, 0x20000),
            slot(ModuleFunction::User, 1, Store::Main, 0x0808_0000, 0x20000),
            slot(ModuleFunction::User, 1, Store::Factory, 0x080a_0000, 0x20000),
        ],
        ota: Region { address: 0x080c_0000, size: 0x20000 },
    };

    /// The layout of platform 6 (Photon), 8 (P1) or 10 (Electron).
    #[must_use]
    pub const fn of(platform_id: u16) -> Option<&'static Self> {
        match platform_id {
            6 | 8 => Some(&Self::PHOTON),
            10 => Some(&Self::ELECTRON),
            _ => None,
        }
    }

    /// The place of a module.
    #[must_use]
    pub fn slot(&self, function: ModuleFunction, index: u8, store: Store) -> Option<&'static Slot> {
        self.slots.iter().find(|slot| slot.function == function && slot.index == index && slot.store == store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_slots_of_a_platform_do_not_overlap() {
        for layout in [FlashLayout::PHOTON, FlashLayout::ELECTRON] {
            let mut end = 0;
            for slot in layout.slots {
                assert!(slot.region.address >= end, "{slot:?}");
                end = slot.region.end();
            }
        }
    }

    #[test]
    fn photon_ota_region_overlaps_the_factory_copy_and_the_electron_one_does_not() {
        let overlap = |layout: &FlashLayout| {
            let factory = layout.slot(ModuleFunction::User, 1, Store::Factory).unwrap().region;
            layout.ota.address < factory.end() && factory.address < layout.ota.end()
        };
        assert!(overlap(FlashLayout::of(6).unwrap()));
        assert!(!overlap(FlashLayout::of(10).unwrap()));
        assert_eq!(FlashLayout::of(0), None);
    }

    #[test]
    fn module_may_end_where_its_region_ends() {
        let region = Region { address: 0x100, size: 0x100 };
        let mut prefix = Prefix::decode(&[0; 24]);
        for (end, accepted) in [(0xff, false), (0x100, true), (0x200, true), (0x201, false)] {
            prefix.end_address = end;
            assert_eq!(region.accepts(&prefix), accepted, "{end:#x}");
        }
    }
}
