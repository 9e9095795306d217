//! The serial port of the simulated Photon, driven by the host's machines of `spark-ota`.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod common;

use common::{APPLICATION, ID, application, configured, fields, flash_at, part2, whole};
use core::time::Duration;
use spark_dct::Field;
use spark_dct::wiced::WifiSecurity;
use spark_ota::serial::{
    BaudTrigger, Cipher, Credentials, Flash, FlashFailure, Flashed, Inspection, Mac, Security, Told,
    WifiSetup,
};
use spark_ota::ymodem::{Place, SenderFailure, SenderProfile};
use spark_sim::serial::{SerialEnd, SerialMode, SerialPort};
use spark_sim::{Photon, PowerCut, Started, config};

const NOW: Duration = Duration::ZERO;

fn photon(version: u16) -> Photon {
    let mut photon = configured(&whole(version), None, None);
    assert_eq!(photon.power_on(), Started::Running);
    photon
}

fn say(photon: &mut Photon, bytes: &[u8]) -> String {
    let mut port = photon.serial(SerialMode::Listening);
    String::from_utf8(port.handle_input(NOW, bytes)).unwrap()
}

#[test]
fn answers_are_those_of_the_device() {
    let mut photon = photon(2202);
    assert_eq!(say(&mut photon, b"i"), format!("Your device id is {ID}\r\n"));
    assert_eq!(
        say(&mut photon, b"m"),
        "Your device MAC address is\r\n6c:0b:84:30:35:99\r\n",
        "made of its id"
    );
    assert_eq!(say(&mut photon, b"v"), "system firmware version: 2.0.0\n\r\n");
    assert_eq!(say(&mut photon, b"c"), "Device claimed: yes\r\n");
    let inspection = Inspection::parse(say(&mut photon, b"s").as_bytes()).unwrap();
    assert_eq!(inspection.describe.modules, photon.describe().modules);
    assert!(inspection.modules().all(|module| module.module().is_some() && module.is_valid()));

    let generation = photon.firmware().configuration;
    config::write_wifi(photon.flash_mut(), generation, |wifi| wifi.set_mac_address([1, 2, 3, 4, 5, 6]))
        .unwrap();
    assert_eq!(photon.mac_address(), Mac([1, 2, 3, 4, 5, 6]));
}

#[test]
fn a_running_application_has_no_use_for_commands() {
    let mut photon = photon(2202);
    let mut port = photon.serial(SerialMode::Running);
    assert_eq!((port.handle_input(NOW, b"ixLf"), port.end()), (vec![], None));
}

#[test]
fn leaving_and_restarting() {
    for (letter, end) in [(b"x", SerialEnd::Left), (b"L", SerialEnd::Restarted { listening: true })] {
        let mut photon = photon(1512);
        let mut port = photon.serial(SerialMode::Listening);
        port.handle_input(NOW, letter);
        assert_eq!(port.end(), Some(end));
        assert!(port.handle_input(NOW, b"i").is_empty(), "nobody is there");
        assert_eq!(photon.start(), Started::Running);
    }
}

#[test]
fn claim_codes_are_kept() {
    let mut photon = photon(2202);
    let code = "c".repeat(63);
    say(&mut photon, format!("C{code}\n").as_bytes());
    assert_eq!(photon.claim_code().unwrap(), code.as_bytes());
}

fn set_up(photon: &mut Photon, credentials: Credentials<'_>) {
    let mut port = photon.serial(SerialMode::Listening);
    let mut setup = WifiSetup::new(NOW, credentials).unwrap();
    let mut now = NOW;
    while setup.outcome().is_none() {
        if let Some(bytes) = setup.poll_output().map(<[u8]>::to_vec) {
            let said = port.handle_input(now, &bytes);
            setup.handle_input(now, &said);
        }
        if let Some(deadline) = setup.next_deadline() {
            now = deadline;
            setup.handle_deadline(now);
        }
    }
    assert_eq!((setup.outcome(), port.end()), (Some(Ok(())), Some(SerialEnd::Left)));
}

#[test]
fn networks_are_kept_by_every_generation_and_nothing_else_changes() {
    for version in [11, 108, 207, 2202] {
        let mut photon = photon(version);
        let before = fields(&photon);
        assert!(photon.networks().is_empty());
        for name in ["one", "two", "three", "one", "four", "five", "six"] {
            let credentials = Credentials {
                ssid: name.as_bytes(),
                security: Security::Wpa2,
                cipher: Cipher::AesTkip,
                password: b"12345678",
            };
            set_up(&mut photon, credentials);
        }
        assert_eq!(photon.networks(), ["six", "five", "four", "one", "three"], "{version}");
        let generation = photon.firmware().configuration;
        let first = config::view(photon.flash(), generation, |sector| {
            let wifi = sector.wifi_config();
            assert!(wifi.is_configured());
            wifi.access_point(0).unwrap()
        });
        let first = first.unwrap();
        assert_eq!((first.security, first.key()), (WifiSecurity::WPA2_MIXED, Some(&b"12345678"[..])));
        assert_eq!(fields(&photon), before, "{version}");
        // And a later write to the application section takes them along.
        config::write(photon.flash_mut(), generation, Field::CLAIMED.offset(), b"0").unwrap();
        assert_eq!((photon.networks().len(), photon.power_on()), (5, Started::Running));
    }
}

/// Flashes as a host does; the device may lose its power.
fn flash(port: &mut SerialPort<'_>, image: &[u8]) -> (Result<Flashed, FlashFailure>, String) {
    let mut flash = Flash::new(NOW, image, SenderProfile::PARTICLE).unwrap();
    let mut now = NOW;
    loop {
        let mut said = Vec::new();
        while let Some(bytes) = flash.poll_output(now).map(<[u8]>::to_vec) {
            said.extend(port.handle_input(now, &bytes));
        }
        if port.end() == Some(SerialEnd::PowerLost) {
            flash.handle_close(now);
        }
        if !said.is_empty() {
            flash.handle_input(now, &said);
            continue;
        }
        if let Some(outcome) = flash.outcome() {
            return (outcome, String::from_utf8_lossy(flash.said()).into_owned());
        }
        let deadlines = [flash.next_deadline(), port.next_deadline()];
        now = now.max(deadlines.into_iter().flatten().min().unwrap());
        flash.handle_deadline(now);
        let said = port.handle_deadline(now);
        flash.handle_input(now, &said);
    }
}

#[test]
fn firmware_is_flashed_and_copied_by_the_next_start() {
    for version in [11, 207, 1512, 2202] {
        let mut photon = photon(version);
        let image = application(7, version);
        let mut port = photon.serial(SerialMode::Listening);
        let (outcome, said) = flash(&mut port, &image);
        assert_eq!(outcome, Ok(Flashed { confirmed: true }));
        assert!(said.contains(&format!("Size: {} bytes", image.len())), "{said}");
        assert_eq!(port.end(), Some(SerialEnd::Updated));
        assert_ne!(flash_at(&photon, APPLICATION, &image), image, "not yet");
        assert_eq!(photon.start(), Started::Running);
        assert_eq!(flash_at(&photon, APPLICATION, &image), image);
    }
}

#[test]
fn images_that_are_not_valid_change_nothing() {
    let mut damaged = application(7, 2202);
    damaged[300] ^= 1;
    let not_for_it = part2(2999);
    let refused = SenderFailure::CancelledByReceiver { place: Place::LastPacket };
    for image in [damaged, not_for_it] {
        let mut photon = photon(2202);
        let mut port = photon.serial(SerialMode::Listening);
        let (outcome, said) = flash(&mut port, &image);
        let told = Told::Invalid { code: -240 };
        assert_eq!(outcome, Err(FlashFailure::Refused { told, transfer: Some(refused) }));
        assert!(said.contains("Validation failed: -240"), "{said}");
        assert_eq!((port.end(), port.is_receiving()), (None, false), "it listens again");
        let old = application(6, 2202);
        assert_eq!(
            (photon.power_on(), flash_at(&photon, APPLICATION, &old) == old),
            (Started::Running, true)
        );
    }
    let mut photon = photon(2202);
    let (outcome, _) = flash(&mut photon.serial(SerialMode::Listening), &vec![7; 0x4_0001]);
    let refused = SenderFailure::CancelledByReceiver { place: Place::Header };
    assert_eq!(outcome, Err(FlashFailure::Refused { told: Told::TooLong, transfer: Some(refused) }));
}

#[test]
fn a_power_cut_at_any_time_leaves_the_old_or_the_new_application() {
    let whole = photon(2202);
    let (old, new) = (application(6, 2202), application(7, 2202));
    let (mut old_ones, mut new_ones) = (0, 0);
    for after in 0.. {
        let mut photon = whole.clone();
        photon.cut_power(PowerCut { after, torn: after % 2 == 0 });
        let mut port = photon.serial(SerialMode::Listening);
        let (outcome, _) = flash(&mut port, &new);
        let lost = port.end() == Some(SerialEnd::PowerLost);
        photon.power_on();
        assert_eq!(photon.power_on(), Started::Running, "cut after {after}");
        let found = flash_at(&photon, APPLICATION, &new);
        assert!(found == new || found == old, "cut after {after}");
        assert!(found == new || lost, "cut after {after}: {outcome:?}");
        (old_ones, new_ones) = (old_ones + u32::from(found == old), new_ones + u32::from(found == new));
        if !lost {
            break;
        }
    }
    assert!(old_ones > 3 && new_ones > 0, "{old_ones} {new_ones}");
}

#[test]
fn speeds_are_commands_while_the_application_runs() {
    let mut photon = photon(2202);
    let mut port = photon.serial(SerialMode::Running);
    port.set_baud(NOW, 9600);
    assert!(port.end().is_none() && !port.is_receiving());
    port.set_baud(NOW, BaudTrigger::Dfu.baud());
    assert_eq!(port.end(), Some(SerialEnd::DfuMode));
    assert_eq!((photon.start(), photon.start()), (Started::DfuMode, Started::Running));

    let image = application(7, 2202);
    let mut port = photon.serial(SerialMode::Running);
    port.set_baud(NOW, BaudTrigger::Ymodem.baud());
    assert!(port.is_receiving());
    assert_eq!(flash(&mut port, &image).0, Ok(Flashed { confirmed: true }));
    assert_eq!(photon.start(), Started::Running);
    assert_eq!(flash_at(&photon, APPLICATION, &image), image);

    let mut port = photon.serial(SerialMode::Listening);
    port.set_baud(NOW, BaudTrigger::Dfu.baud());
    assert_eq!(port.end(), None, "in listening mode they are just speeds");
}
