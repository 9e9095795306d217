//! Where modules lie in the DFU address space of each platform.

use crate::module::{ModuleFunction, Region};
use core::time::Duration;

/// Memory behind one alternate setting.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Area {
    /// Alternate setting.
    pub alternate: u8,
    /// Where it is. Where nobody says how large it is, it reaches to the end of the address space.
    pub region: Region,
}

/// Where modules of one function are written to directly, in alternate setting 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Place {
    /// Function of the modules.
    pub function: ModuleFunction,
    /// Index of the modules; `None` for any.
    pub index: Option<u8>,
    /// Modules begin where it begins.
    pub region: Region,
    /// It is the application's: after writing here the firmware is usually started.
    pub is_application: bool,
}

/// What writing modules to one platform over USB needs to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Target {
    /// Platform id in modules.
    pub platform_id: u16,
    /// USB vendor id in DFU mode.
    pub id_vendor: u16,
    /// USB product id in DFU mode.
    pub id_product: u16,
    /// Where modules lie.
    pub places: &'static [Place],
    /// Copy of the application for the factory reset.
    pub factory: Option<Area>,
    /// Where an update arrives, and so a bootloader, which DFU does not reach.
    pub ota: Option<Area>,
    /// The byte that makes the device look there, and what it has to become.
    pub ota_flag: Option<(Area, u8)>,
    /// The modules of a system, in the order in which they are written: the function, and the index where there are several.
    pub system: &'static [(ModuleFunction, u8)],
    /// The flag comes right after the bootloader; else it is the last of the system.
    pub flag_early: bool,
    /// Every write is a multiple of this many bytes.
    pub write_padding: u8,
    /// How long to wait between two writes.
    pub pause: Duration,
    /// Where applications were before they became larger, and the version of the system from which on they are. Larger ones
    /// need what is left there to be erased.
    pub former_user: Option<(Region, u16)>,
}

const fn place(function: ModuleFunction, index: Option<u8>, address: u32, size: u32) -> Place {
    let is_application = matches!(function, ModuleFunction::User);
    Place { function, index, region: Region { address, size }, is_application }
}

const fn area(alternate: u8, address: u32, size: u32) -> Area {
    Area { alternate, region: Region { address, size } }
}

const fn endless(alternate: u8, address: u32) -> Area {
    area(alternate, address, u32::MAX - address)
}

/// "Look into the OTA region" in the configuration of all platforms that have one.
const OTA_FLAG: Option<(Area, u8)> = Some((area(1, 1753, 1), 0xa5));
const PARTICLE: u16 = 0x2b04;

const CORE: Target = Target {
    platform_id: 0,
    id_vendor: 0x1d50,
    id_product: 0x607f,
    places: &[Place {
        is_application: true,
        ..place(ModuleFunction::Monolithic, None, 0x0800_5000, 0x1_b000)
    }],
    factory: Some(area(1, 0x2_0000, 0x2_0000)),
    ota: None,
    ota_flag: None,
    system: &[],
    flag_early: false,
    write_padding: 2,
    pause: Duration::ZERO,
    former_user: None,
};

const PHOTON: Target = Target {
    platform_id: 6,
    id_vendor: PARTICLE,
    id_product: 0xd006,
    places: &[
        place(ModuleFunction::System, Some(1), 0x0802_0000, 0x4_0000),
        place(ModuleFunction::System, Some(2), 0x0806_0000, 0x4_0000),
        place(ModuleFunction::User, Some(1), 0x080a_0000, 0x2_0000),
        place(ModuleFunction::Monolithic, None, 0x0802_0000, 0x6_0000),
    ],
    factory: Some(area(0, 0x080e_0000, 0x2_0000)),
    ota: Some(area(0, 0x080c_0000, 0x4_0000)),
    ota_flag: OTA_FLAG,
    // The parts move the functions by which the DFU mode reaches the configuration.
    system: &[(ModuleFunction::Bootloader, 0), (ModuleFunction::System, 1), (ModuleFunction::System, 2)],
    flag_early: true,
    write_padding: 1,
    pause: Duration::ZERO,
    former_user: None,
};

const ELECTRON: Target = Target {
    platform_id: 10,
    id_product: 0xd00a,
    places: &[
        place(ModuleFunction::System, Some(1), 0x0802_0000, 0x2_0000),
        place(ModuleFunction::System, Some(2), 0x0804_0000, 0x2_0000),
        place(ModuleFunction::System, Some(3), 0x0806_0000, 0x2_0000),
        place(ModuleFunction::User, Some(1), 0x0808_0000, 0x2_0000),
        place(ModuleFunction::Monolithic, None, 0x0802_0000, 0x6_0000),
    ],
    factory: Some(area(0, 0x080a_0000, 0x2_0000)),
    ota: Some(area(0, 0x080c_0000, 0x2_0000)),
    system: &[
        (ModuleFunction::System, 1),
        (ModuleFunction::System, 2),
        (ModuleFunction::System, 3),
        (ModuleFunction::Bootloader, 0),
    ],
    flag_early: false,
    ..PHOTON
};

/// Address behind the application.
const GEN3_USER_END: u32 = 0xf_4000;

const ARGON: Target = Target {
    platform_id: 12,
    id_product: 0xd00c,
    places: &[
        place(ModuleFunction::System, Some(1), 0x3_0000, 0xd_4000 - 0x3_0000),
        place(ModuleFunction::RadioStack, None, 0x1000, 0x3_0000 - 0x1000),
        place(ModuleFunction::User, None, 0xd_4000, GEN3_USER_END - 0xd_4000),
        place(ModuleFunction::User, None, 0xb_4000, GEN3_USER_END - 0xb_4000),
    ],
    factory: Some(endless(2, 0x20_0000)),
    ota: Some(endless(2, 0x8028_9000)),
    system: &[(ModuleFunction::System, 1), (ModuleFunction::RadioStack, 0), (ModuleFunction::Bootloader, 0)],
    flag_early: false,
    pause: Duration::from_secs(2),
    former_user: Some((Region { address: 0xd_4000, size: GEN3_USER_END - 0xd_4000 }, 3103)),
    ..PHOTON
};

const fn gen3(platform_id: u16, id_product: u16) -> Target {
    Target { platform_id, id_product, ..ARGON }
}

/// Larger external flash, with the factory copy further back.
const fn gen3_large(platform_id: u16, id_product: u16) -> Target {
    Target { factory: Some(endless(2, 0x60_0000)), ..gen3(platform_id, id_product) }
}

impl Target {
    /// Every platform that can be written over USB.
    pub const ALL: &'static [Self] = &[
        CORE,
        PHOTON,
        Self { platform_id: 8, id_product: 0xd008, ..PHOTON },
        ELECTRON,
        ARGON,
        gen3(13, 0xd00d),
        gen3(14, 0xd00e),
        gen3(22, 0xd016),
        gen3(23, 0xd017),
        gen3(24, 0xd018),
        gen3_large(25, 0xd019),
        gen3_large(26, 0xd01a),
    ];

    /// The platform with this id in its modules.
    #[must_use]
    pub fn of(platform_id: u16) -> Option<&'static Self> {
        Self::ALL.iter().find(|target| target.platform_id == platform_id)
    }

    /// The platform with these USB ids in DFU mode.
    #[must_use]
    pub fn from_usb_id(id_vendor: u16, id_product: u16) -> Option<&'static Self> {
        Self::ALL.iter().find(|target| target.id_vendor == id_vendor && target.id_product == id_product)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::{FlashLayout, Store, platform_name};

    #[test]
    fn every_platform_is_found_by_both_its_ids() {
        for target in Target::ALL {
            assert!(platform_name(target.platform_id).is_some());
            assert_eq!(Target::of(target.platform_id), Some(target));
            assert_eq!(Target::from_usb_id(target.id_vendor, target.id_product), Some(target));
        }
        assert_eq!((Target::of(32), Target::from_usb_id(0x0483, 0xdf11)), (None, None));
    }

    #[test]
    fn places_are_those_of_the_firmware() {
        for platform_id in [6, 8, 10] {
            let (target, layout) = (Target::of(platform_id).unwrap(), FlashLayout::of(platform_id).unwrap());
            for place in target.places {
                let Some(index) = place.index else { continue };
                assert_eq!(layout.slot(place.function, index, Store::Main).unwrap().region, place.region);
            }
            let factory = layout.slot(ModuleFunction::User, 1, Store::Factory).unwrap();
            assert_eq!(target.factory.unwrap().region, factory.region);
            assert_eq!(target.ota.unwrap().region, layout.ota);
        }
    }

    #[test]
    fn table_of_gen_3_is_that_of_the_vendor() {
        let tracker = Target::of(26).unwrap();
        assert_eq!(tracker.factory.unwrap().region.address, 0x60_0000);
        assert_eq!(Target::of(13).unwrap().factory.unwrap().region.address, 0x20_0000);
        assert_eq!(Target::of(25).unwrap().id_product, 0xd019);
        for target in &Target::ALL[4..] {
            assert_eq!((target.ota.unwrap().alternate, target.ota.unwrap().region.address), (2, 0x8028_9000));
            assert_eq!(
                target.ota_flag,
                Some((Area { alternate: 1, region: Region { address: 1753, size: 1 } }, 0xa5))
            );
        }
    }
}
