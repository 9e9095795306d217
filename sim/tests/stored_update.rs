//! An image that a host has put into the OTA region, with the flag of the configuration table that tells the system.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod common;

use common::{APPLICATION, BOOTLOADER, OTA, application, configured, flash_at, whole};
use spark_dct::{App, Field};
use spark_ota::module::{ModuleBuilder, ModuleFunction};
use spark_sim::{Photon, PowerCut, Started, config};

const FLAG: u8 = 0xa5;

fn newer_bootloader() -> Vec<u8> {
    let module = ModuleBuilder::new(6, ModuleFunction::Bootloader, 0, 1006);
    module.body(&[0x5a; 1_500]).vector_table(0x2002_0000).build().unwrap()
}

/// What a programmer or DFU program does: the image, then the flag.
fn store(photon: &mut Photon, image: &[u8]) {
    photon.flash_mut().erase_range(OTA, image.len()).unwrap();
    photon.flash_mut().program(OTA, image).unwrap();
    let generation = photon.firmware().configuration;
    config::write(photon.flash_mut(), generation, Field::OTA_UPDATE_FLAG.offset(), &[FLAG]).unwrap();
}

fn flag(photon: &Photon) -> u8 {
    App::new(&photon.configuration()).unwrap().bytes(Field::OTA_UPDATE_FLAG)[0]
}

#[test]
fn bootloader_and_application_are_installed_once() {
    for system in [1210, 1512, 2202] {
        for (image, at) in [(newer_bootloader(), BOOTLOADER), (application(7, system), APPLICATION)] {
            let mut photon = configured(&whole(system), None, None);
            let before = flash_at(&photon, at, &image);
            assert_ne!(before, image);
            store(&mut photon, &image);
            assert_eq!(photon.start(), Started::Running, "{system}");
            assert_eq!(flash_at(&photon, at, &image), image, "{system}");
            assert_eq!(flag(&photon), 0xff, "{system}");
            // The image that is still in the region is not installed again.
            photon.flash_mut().erase_range(at, before.len()).unwrap();
            photon.flash_mut().program(at, &before).unwrap();
            photon.start();
            assert_eq!(flash_at(&photon, at, &before), before, "{system}");
        }
    }
}

#[test]
fn system_before_1_2_1_does_not_know_the_flag() {
    for system in [11, 207, 1202] {
        let mut photon = configured(&whole(system), None, None);
        let image = newer_bootloader();
        store(&mut photon, &image);
        assert_eq!(photon.start(), Started::Running, "{system}");
        assert_ne!(flash_at(&photon, BOOTLOADER, &image), image, "{system}");
        assert_eq!(flag(&photon), FLAG, "{system}");
    }
}

#[test]
fn damaged_or_foreign_image_is_refused_and_the_flag_cleared() {
    let mut damaged = newer_bootloader();
    damaged[600] ^= 1;
    let of_electron = ModuleBuilder::new(10, ModuleFunction::Bootloader, 0, 1006);
    let of_electron = of_electron.body(&[0x5a; 1_500]).vector_table(0x2002_0000).build().unwrap();
    for image in [damaged, of_electron, vec![0; 64]] {
        let mut photon = configured(&whole(2202), None, None);
        let places = [(BOOTLOADER, 4_000), (APPLICATION, 4_000)];
        let look = |photon: &Photon| places.map(|(at, len)| flash_at(photon, at, &vec![0; len]));
        let before = look(&photon);
        store(&mut photon, &image);
        assert_eq!(photon.start(), Started::Running);
        assert_eq!(look(&photon), before);
        assert_eq!(flag(&photon), 0xff);
    }
}

#[test]
fn power_cut_leaves_the_old_application_or_installs_the_new_one() {
    let (old, new) = (application(6, 2202), application(7, 2202));
    let mut photon = configured(&whole(2202), None, None);
    store(&mut photon, &new);
    let (mut kept, mut installed) = (0, 0);
    for torn in [false, true] {
        for after in 0.. {
            let mut cut = photon.clone();
            cut.cut_power(PowerCut { after, torn });
            if cut.start() != Started::PowerLost {
                assert!(after > 6, "nothing was installed");
                break;
            }
            let started = cut.power_on();
            // The bootloader frees an entry before it copies, so a cut in its copy costs the application; the host then
            // stores it again.
            if started == Started::SafeMode {
                store(&mut cut, &new);
                assert_eq!(cut.start(), Started::Running, "{after} {torn}");
            }
            let application = flash_at(&cut, APPLICATION, &new);
            assert!(application == new || application == old, "{after} {torn}");
            if application == new { installed += 1 } else { kept += 1 }
        }
    }
    assert!(kept > 0 && installed > 0, "{kept} {installed}");
}
