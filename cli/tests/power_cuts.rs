//! The power fails at any flash operation of the rescue, and the device can still be rescued.
//!
//! All cut points of small images, a sample of those of full-sized ones; each both before the operation and in its
//! middle. What helps afterwards is written down in [`Help`]: usually nothing but starting again. While the system
//! firmware replaces the bootloader a real Photon is lost to everything but a programmer, and so is this one.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

mod common;

use common::{Kit, connect};
use spark_cli::cloud::session::SessionOptions;
use spark_cli::cloud::updates::Attempts;
use spark_cli::rescue::{on_usb, usb};
use spark_cli::synthetic;
use spark_cli::ui::Ui;
use spark_dct::{App, Field};
use spark_ota::module::ModuleFunction;
use spark_sim::{End, Photon, PowerCut, Started};
use std::collections::BTreeMap;

/// What it took after the power came back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Help {
    /// The fields were right or were written again, and the cloud went on.
    StartAgain,
    /// A system part was half copied: the bootloader waits in DFU mode and takes the parts over USB.
    PartsOverUsb,
    /// The bootloader was half copied.
    Programmer,
}

fn small() -> (Photon, Kit) {
    Kit::new(
        &synthetic::small(false).unwrap(),
        synthetic::application().unwrap(),
        synthetic::small(true).unwrap(),
    )
}

fn full() -> (Photon, Kit) {
    Kit::new(
        &synthetic::old_system().unwrap(),
        synthetic::application().unwrap(),
        synthetic::new_system().unwrap(),
    )
}

/// Step 3 of the story.
fn write_fields(photon: &mut Photon, kit: &Kit) -> bool {
    on_usb(photon, &Ui::new(true), |usb| usb::repair(usb, &kit.device_key, &kit.region)).is_ok()
}

fn fields_are_right(photon: &Photon, kit: &Kit) -> bool {
    let table = photon.configuration();
    let key = Field::DEVICE_PRIVATE_KEY.offset();
    let server = Field::SERVER_PUBLIC_KEY.offset();
    table[key..key + 612] == kit.device_key.as_field()[..] && table[server..server + 512] == kit.region
}

/// Connects, updates and resets until the application runs; false if the power failed.
fn update(photon: &mut Photon, kit: &Kit, mut before_each: impl FnMut(&Photon)) -> bool {
    let options = SessionOptions::default();
    let mut attempts = Attempts::default();
    for _ in 0..8 {
        before_each(photon);
        match connect(photon, kit, &mut attempts, &options).end {
            None => return true,
            Some(End::Reset) => {
                if photon.start() == Started::PowerLost {
                    return false;
                }
            }
            Some(End::PowerLost) => return false,
            Some(end) => panic!("{end}"),
        }
    }
    panic!("it never ends");
}

/// The power is back: whatever the state is, ends with a healthy device.
fn heal(photon: &mut Photon, kit: &Kit) -> Help {
    let mut help = Help::StartAgain;
    let mut started = photon.power_on();
    if started == Started::Dead {
        help = Help::Programmer;
        let is_bootloader = |file: &&spark_cli::cloud::catalogue::ModuleFile| {
            file.prefix.function == ModuleFunction::Bootloader
        };
        let file = kit.catalogue.files().iter().find(is_bootloader).unwrap().clone();
        photon.flash_mut().erase_sector(file.prefix.start_address).unwrap();
        photon.flash_mut().program(file.prefix.start_address, &file.image).unwrap();
        started = photon.power_on();
    }
    if started == Started::DfuMode {
        help = help.max(Help::PartsOverUsb);
        for file in kit.catalogue.files().iter().filter(|file| file.prefix.function == ModuleFunction::System)
        {
            on_usb(photon, &Ui::new(true), |usb| usb.write(0, file.prefix.start_address, &file.image))
                .unwrap();
        }
        started = photon.power_on();
    }
    assert!(matches!(started, Started::SafeMode | Started::Running), "{started:?}");
    if !fields_are_right(photon, kit) {
        assert!(write_fields(photon, kit));
        photon.start();
    }
    assert!(update(photon, kit, |_| ()));
    assert!(photon.application_runs());
    assert!(fields_are_right(photon, kit));
    for file in kit.expected() {
        let on_device = photon.flash().read(file.prefix.start_address, file.image.len()).unwrap();
        assert!(on_device == &file.image[..], "{}", file.name);
    }
    let table = photon.configuration();
    let app = App::new(&table).unwrap();
    assert!(app.claimed() && app.device_code() == Some(b"RSCU42"), "the neighbours survive");
    help
}

/// Cuts the power after each of `cuts` operations of `stage`, before and within the next one, and heals.
fn cut_at(
    photon: &Photon,
    kit: &Kit,
    cuts: impl Iterator<Item = u64>,
    stage: impl Fn(&mut Photon, &Kit) -> bool,
) -> BTreeMap<Help, usize> {
    let mut helped = BTreeMap::new();
    for after in cuts {
        for torn in [false, true] {
            let mut victim = photon.clone();
            victim.cut_power(PowerCut { after, torn });
            assert!(!stage(&mut victim, kit), "no power cut after {after} operations");
            *helped.entry(heal(&mut victim, kit)).or_default() += 1;
        }
    }
    helped
}

fn operations(photon: &Photon, kit: &Kit, stage: impl Fn(&mut Photon, &Kit) -> bool) -> u64 {
    let mut whole = photon.clone();
    let before = whole.flash().operations();
    assert!(stage(&mut whole, kit));
    whole.flash().operations() - before
}

#[test]
fn any_cut_while_the_keys_are_written_over_usb() {
    let (photon, kit) = small();
    let total = operations(&photon, &kit, write_fields);
    assert!(total > 400, "{total} operations");
    let helped = cut_at(&photon, &kit, 0..total, write_fields);
    assert_eq!(helped.keys().collect::<Vec<_>>(), [&Help::StartAgain]);
}

/// The device before each connection of the update, with the operations of that connection and the reset behind it.
fn connections(photon: &Photon, kit: &Kit) -> Vec<(Photon, u64)> {
    let mut whole = photon.clone();
    let mut before: Vec<Photon> = Vec::new();
    assert!(update(&mut whole, kit, |photon| before.push(photon.clone())));
    let ends: Vec<u64> =
        before.iter().skip(1).chain([&whole]).map(|photon| photon.flash().operations()).collect();
    before
        .into_iter()
        .zip(ends)
        .map(|(photon, end)| {
            let start = photon.flash().operations();
            (photon, end - start)
        })
        .collect()
}

fn one_connection(photon: &mut Photon, kit: &Kit) -> bool {
    match connect(photon, kit, &mut Attempts::default(), &SessionOptions::default()).end {
        Some(End::Reset) => photon.start() != Started::PowerLost,
        Some(End::PowerLost) => false,
        end => panic!("{end:?}"),
    }
}

fn cut_updates(photon: &Photon, kit: &Kit, step: usize) -> Vec<BTreeMap<Help, usize>> {
    let connections = connections(photon, kit);
    let updates = connections.iter().filter(|(_, operations)| *operations > 0);
    updates
        .map(|(before, operations)| cut_at(before, kit, (0..*operations).step_by(step), one_connection))
        .collect()
}

#[test]
fn any_cut_while_small_modules_come_over_the_air() {
    let (mut photon, kit) = small();
    assert!(write_fields(&mut photon, &kit));
    photon.start();
    let helped = cut_updates(&photon, &kit, 1);
    assert_eq!(helped.len(), 3, "bootloader, part 1, part 2");
    assert!(helped[0].keys().eq([&Help::StartAgain, &Help::Programmer]), "{helped:?}");
    for parts in &helped[1..] {
        assert!(parts.keys().eq([&Help::StartAgain, &Help::PartsOverUsb]), "{helped:?}");
    }
    assert!(helped.iter().flat_map(|help| help.values()).sum::<usize>() > 2000, "{helped:?}");
}

#[test]
fn sampled_cuts_while_full_modules_come_over_the_air() {
    let (mut photon, kit) = full();
    assert!(write_fields(&mut photon, &kit));
    photon.start();
    let helped = cut_updates(&photon, &kit, 173);
    assert_eq!(helped.len(), 3);
    assert!(helped.iter().flat_map(|help| help.values()).sum::<usize>() >= 20, "{helped:?}");
}
