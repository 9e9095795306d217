//! What the simulated Photon does at power-on, by what is in its flash.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod common;

use common::{
    APPLICATION, BOOTLOADER, OTA, PART1, PART2, application, bootloader, configured, damage, flash_at, part2,
    photon_with, system, whole,
};
use spark_dct::flash_module::{FlashModule, LEN, SlotMagic, VERIFY_CRC, VERIFY_DESTINATION, VERIFY_FUNCTION};
use spark_dct::{App, Field};
use spark_ota::module::ModuleFunction;
use spark_sim::{Flash, Photon, PowerCut, Started, config};

/// Versions of system part 2 of each generation that copies as the simulated bootloader does.
const VERSIONS: [u16; 4] = [207, 1002, 1512, 2202];

fn slot_for(image: &[u8], to: u32, function: ModuleFunction) -> FlashModule {
    FlashModule {
        magic: SlotMagic::Used,
        source_device: 0,
        destination_device: 0,
        source_address: OTA,
        destination_address: to,
        length: u32::try_from(image.len()).unwrap(),
        flags: VERIFY_CRC | VERIFY_DESTINATION | VERIFY_FUNCTION,
        module_function: function.number(),
        reserved: [0xff; 2],
    }
}

/// Leaves an image in the OTA region and an entry for it, as the system firmware does.
fn leave_for_bootloader(photon: &mut Photon, slot: usize, image: &[u8], entry: &FlashModule) {
    photon.flash_mut().erase_range(OTA, image.len()).unwrap();
    photon.flash_mut().program(OTA, image).unwrap();
    let generation = photon.firmware().configuration;
    let offset = Field::FLASH_MODULES.offset() + slot * LEN;
    config::write(photon.flash_mut(), generation, offset, &entry.encode()).unwrap();
}

fn slots(photon: &Photon) -> [FlashModule; 5] {
    App::new(&photon.configuration()).unwrap().flash_modules()
}

#[test]
fn empty_chip_is_dead() {
    assert_eq!(Photon::new(common::ID, Flash::new()).power_on(), Started::Dead);
}

#[test]
fn bootloader_alone_waits_in_dfu_mode() {
    assert_eq!(photon_with(&[(BOOTLOADER, bootloader())]).power_on(), Started::DfuMode);
}

#[test]
fn one_system_part_without_the_other_waits_in_dfu_mode() {
    for missing in [1, 2] {
        let mut modules = whole(2202);
        modules.remove(missing);
        assert_eq!(photon_with(&modules).power_on(), Started::DfuMode, "without part {missing}");
    }
}

#[test]
fn system_without_application_is_in_safe_mode() {
    for version in VERSIONS {
        assert_eq!(photon_with(&system(version)).power_on(), Started::SafeMode, "{version}");
    }
}

#[test]
fn application_for_a_newer_system_leaves_the_device_in_safe_mode() {
    for version in VERSIONS {
        let mut modules = system(version);
        modules.push((APPLICATION, application(6, version + 1)));
        assert_eq!(photon_with(&modules).power_on(), Started::SafeMode, "{version}");
    }
}

#[test]
fn whole_device_runs() {
    for version in VERSIONS {
        let mut photon = photon_with(&whole(version));
        assert_eq!(photon.power_on(), Started::Running, "{version}");
        assert_eq!(photon.start(), Started::Running, "{version} after a reset");
        assert!(photon.application_runs());
    }
}

#[test]
fn damaged_system_part_waits_in_dfu_mode() {
    for part in [PART1, PART2] {
        let mut photon = photon_with(&whole(2202));
        damage(&mut photon, part);
        assert_eq!(photon.power_on(), Started::DfuMode, "{part:#x}");
    }
}

#[test]
fn damaged_application_leaves_the_device_in_safe_mode() {
    let mut photon = photon_with(&whole(2202));
    damage(&mut photon, APPLICATION);
    assert_eq!(photon.power_on(), Started::SafeMode);
}

#[test]
fn damaged_bootloader_is_dead() {
    let mut photon = photon_with(&whole(2202));
    damage(&mut photon, BOOTLOADER);
    assert_eq!(photon.power_on(), Started::Dead);
}

#[test]
fn pending_slot_is_copied_at_start_and_freed() {
    for version in VERSIONS {
        for slot in 1..5 {
            let mut photon = configured(&whole(version), None, None);
            let image = application(9, version);
            let entry = slot_for(&image, APPLICATION, ModuleFunction::User);
            leave_for_bootloader(&mut photon, slot, &image, &entry);
            assert_eq!(slots(&photon)[slot], entry);
            assert_eq!(photon.start(), Started::Running, "{version}, slot {slot}");
            assert_eq!(flash_at(&photon, APPLICATION, &image), image, "{version}, slot {slot}");
            assert_eq!(slots(&photon)[slot], FlashModule::FREE, "{version}, slot {slot}");
        }
    }
}

#[test]
fn copied_system_part_is_what_runs_afterwards() {
    let mut photon = configured(&system(2202), None, None);
    let image = part2(2203);
    let entry = slot_for(&image, PART2, ModuleFunction::System);
    leave_for_bootloader(&mut photon, 1, &image, &entry);
    assert_eq!(photon.start(), Started::SafeMode);
    assert_eq!(flash_at(&photon, PART2, &image), image);
}

#[test]
fn slot_of_a_damaged_image_is_freed_and_not_copied() {
    for version in VERSIONS {
        let mut photon = configured(&whole(version), None, None);
        let (before, image) = (application(6, version), application(9, version));
        let entry = slot_for(&image, APPLICATION, ModuleFunction::User);
        leave_for_bootloader(&mut photon, 1, &image, &entry);
        damage(&mut photon, OTA);
        assert_eq!(photon.start(), Started::Running, "{version}");
        assert_eq!(flash_at(&photon, APPLICATION, &before), before, "{version}");
        assert_eq!(slots(&photon)[1], FlashModule::FREE, "{version}");
    }
}

#[test]
fn slot_that_promises_something_else_than_the_image_is_freed_and_not_copied() {
    let image = application(9, 2202);
    let right = slot_for(&image, APPLICATION, ModuleFunction::User);
    let wrong = [
        FlashModule { destination_address: PART1, ..right },
        FlashModule { module_function: ModuleFunction::System.number(), ..right },
        FlashModule { length: right.length - 4, ..right },
        FlashModule { length: right.length + 4, ..right },
        FlashModule { source_address: 0x0810_0000, ..right },
    ];
    for entry in wrong {
        let mut photon = configured(&whole(2202), None, None);
        let before = whole(2202);
        leave_for_bootloader(&mut photon, 2, &image, &entry);
        assert_eq!(photon.start(), Started::Running, "{entry:?}");
        for (address, module) in before {
            assert_eq!(flash_at(&photon, address, &module), module, "{entry:?}");
        }
        assert_eq!(slots(&photon)[2], FlashModule::FREE, "{entry:?}");
    }
}

#[test]
fn factory_slot_is_left_alone() {
    let mut photon = configured(&whole(2202), None, None);
    let (before, image) = (application(6, 2202), application(9, 2202));
    let entry = slot_for(&image, APPLICATION, ModuleFunction::User);
    leave_for_bootloader(&mut photon, 0, &image, &entry);
    assert_eq!(photon.start(), Started::Running);
    assert_eq!(flash_at(&photon, APPLICATION, &before), before);
    assert_eq!(slots(&photon)[0], entry);
}

#[test]
fn power_cut_during_the_copy_leaves_a_device_that_starts() {
    let mut photon = configured(&whole(2202), None, None);
    let (before, image) = (application(6, 2202), application(9, 2202));
    let entry = slot_for(&image, APPLICATION, ModuleFunction::User);
    leave_for_bootloader(&mut photon, 1, &image, &entry);
    for torn in [false, true] {
        for after in 0.. {
            let mut cut = photon.clone();
            cut.cut_power(PowerCut { after, torn });
            let started = cut.start();
            if started != Started::PowerLost {
                assert_eq!(started, Started::Running);
                assert!(after > 3, "nothing was copied");
                break;
            }
            let started = cut.power_on();
            let application = flash_at(&cut, APPLICATION, &before);
            let whole = application == before || application == image[..before.len()];
            // Freed before it is copied: the copy is not done again.
            assert_eq!(started, if whole { Started::Running } else { Started::SafeMode }, "{after} {torn}");
            assert_eq!(slots(&cut)[1], FlashModule::FREE, "{after} {torn}");
        }
    }
}
