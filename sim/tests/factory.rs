//! The factory copy of the application: the reset that brings it back, and what destroys it.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod common;

use common::{APPLICATION, OTA, application, configured, damage, flash_at, part1, whole};
use spark_dct::flash_module::{FlashModule, LEN};
use spark_dct::{App, Field};
use spark_ota::module::FlashLayout;
use spark_sim::{Photon, PowerCut, Started, config};

const FACTORY: u32 = 0x080e_0000;

/// A device of this system with application 6, and application 3 as its factory copy.
fn photon(system: u16) -> (Photon, Vec<u8>, Vec<u8>) {
    let (now, factory) = (application(6, system), application(3, system));
    let mut photon = configured(&whole(system), None, None);
    photon.flash_mut().program(FACTORY, &factory).unwrap();
    (photon, now, factory)
}

#[test]
fn factory_reset_brings_the_factory_application_back() {
    for system in [11, 207, 1512, 2202] {
        let (mut photon, now, factory) = photon(system);
        assert_eq!(photon.power_on(), Started::Running);
        assert_eq!(flash_at(&photon, APPLICATION, &now), now);
        assert_eq!(photon.factory_reset(), Started::Running, "{system}");
        assert_eq!(flash_at(&photon, APPLICATION, &factory), factory);
        assert_eq!(flash_at(&photon, FACTORY, &factory), factory);
        // Only the once.
        photon.flash_mut().erase_range(APPLICATION, now.len()).unwrap();
        photon.flash_mut().program(APPLICATION, &now).unwrap();
        assert_eq!(photon.start(), Started::Running);
        assert_eq!(flash_at(&photon, APPLICATION, &now), now);
    }
}

#[test]
fn factory_reset_without_a_good_copy_changes_nothing() {
    let (mut photon, now, _) = photon(2202);
    damage(&mut photon, FACTORY);
    assert_eq!(photon.factory_reset(), Started::Running);
    assert_eq!(flash_at(&photon, APPLICATION, &now), now);
    let mut photon = configured(&whole(2202), None, None);
    assert_eq!(photon.factory_reset(), Started::Running);
    assert_eq!(flash_at(&photon, APPLICATION, &now), now);
}

#[test]
fn factory_entry_of_the_configuration_table_is_obeyed() {
    let (mut photon, now, factory) = photon(2202);
    let generation = photon.firmware().configuration;
    // One that speaks of another module's place is not carried out.
    for (entry, expected) in [
        (FlashModule { module_function: 4, ..FlashModule::photon_factory(0x2_0000) }, &now),
        (FlashModule { destination_address: 0x0806_0000, ..FlashModule::photon_factory(0x2_0000) }, &now),
        (FlashModule { length: 100, ..FlashModule::photon_factory(0x2_0000) }, &now),
        (FlashModule::photon_factory(u32::try_from(factory.len()).unwrap()), &factory),
    ] {
        let offset = Field::FLASH_MODULES.offset();
        config::write(photon.flash_mut(), generation, offset, &entry.encode()).unwrap();
        assert_eq!(photon.factory_reset(), Started::Running, "{entry:?}");
        assert_eq!(flash_at(&photon, APPLICATION, expected), *expected, "{entry:?}");
        let table = photon.configuration();
        assert_eq!(App::new(&table).unwrap().flash_modules()[0], entry, "it stays, {LEN} bytes of it");
    }
}

#[test]
fn damaged_application_is_replaced_by_device_os_0_4_only() {
    for (system, started) in [(11, Started::Running), (108, Started::SafeMode), (2202, Started::SafeMode)] {
        let (mut photon, _, factory) = photon(system);
        damage(&mut photon, APPLICATION);
        assert_eq!(photon.power_on(), started, "{system}");
        assert_eq!(flash_at(&photon, APPLICATION, &factory) == factory, started == Started::Running);
    }
}

/// The OTA region reaches over the factory copy.
#[test]
fn update_of_more_than_128_kilobytes_destroys_the_factory_copy() {
    let ota = FlashLayout::PHOTON.ota;
    for (len, survives) in [(0x2_0000, true), (0x2_0001, false)] {
        let (mut photon, _, factory) = photon(2202);
        assert_eq!(ota.address, OTA);
        photon.flash_mut().erase_range(OTA, len).unwrap();
        assert_eq!(flash_at(&photon, FACTORY, &factory) == factory, survives, "{len:#x}");
        assert_eq!(photon.factory_reset(), Started::Running);
        assert_eq!(flash_at(&photon, APPLICATION, &factory) == factory, survives, "{len:#x}");
    }
    assert!(part1(2202).len() < 0x2_0000, "a real part 1 is longer than these");
}

#[test]
fn power_cut_during_a_factory_reset_leaves_a_device_that_can_do_it_again() {
    let (photon, now, factory) = photon(2202);
    for torn in [false, true] {
        for after in 0.. {
            let mut cut = photon.clone();
            cut.cut_power(PowerCut { after, torn });
            let started = cut.factory_reset();
            if started != Started::PowerLost {
                assert!(after > 3, "nothing was copied");
                break;
            }
            let started = cut.power_on();
            let application = flash_at(&cut, APPLICATION, &now);
            let whole = application == now || application.starts_with(&factory);
            assert_eq!(started, if whole { Started::Running } else { Started::SafeMode }, "{after} {torn}");
            assert_eq!(cut.factory_reset(), Started::Running, "{after} {torn}");
            assert_eq!(flash_at(&cut, APPLICATION, &factory), factory);
        }
    }
}
