//! Tests of the view and the editor.

use super::*;
use crate::flash_module::SlotMagic;
use crate::ip_config::IpMode;
use proptest::prelude::*;

#[test]
fn lengths_outside_of_the_known_range_are_refused() {
    let image = [0xFF; MAX_LEN + 1];
    for length in [0, 1, 4257, MAX_LEN + 1] {
        assert_eq!(App::new(&image[..length]).unwrap_err(), AppError::Length { length });
    }
    for length in [4258, 4260, 8391, MAX_LEN] {
        assert!(App::new(&image[..length]).is_ok());
    }
}

#[test]
fn fields_beyond_a_short_image_read_as_ff() {
    let image = [0; LEN_OLD];
    let app = App::new(&image).unwrap();
    let mut out = [1; 4296];
    let eap = app.read_into(Field::EAP_CONFIG, &mut out).unwrap();
    assert!(eap[..435].iter().all(|b| *b == 0));
    assert!(eap[435..].iter().all(|b| *b == 0xFF));
    assert_eq!(app.array::<4>(Field::POWER_CONFIG.offset()), [0xFF; 4]);
    assert_eq!(app.bytes(Field::EAP_CONFIG).len(), 435);
    assert!(app.bytes(Field::POWER_CONFIG).is_empty());
}

#[test]
fn binary_one_is_not_claimed() {
    let mut image = [0xFF; LEN];
    image[1825] = 1;
    assert!(!App::new(&image).unwrap().claimed());
    image[1825] = b'1';
    assert!(App::new(&image).unwrap().claimed());
}

#[test]
fn text_fields_are_unset_for_ff_and_for_00() {
    for fill in [0, 0xFF] {
        let image = [fill; LEN];
        let app = App::new(&image).unwrap();
        assert_eq!(app.claim_code(), None);
        assert_eq!(app.ssid_prefix(), None);
        assert_eq!(app.device_code(), None);
        assert_eq!(app.country_code(), None);
    }
}

#[test]
fn ssid_prefix_above_25_characters_is_unset() {
    let mut image = [b'x'; LEN];
    image[1826] = 25;
    assert_eq!(App::new(&image).unwrap().ssid_prefix().map(<[u8]>::len), Some(25));
    image[1826] = 26;
    assert_eq!(App::new(&image).unwrap().ssid_prefix(), None);
}

#[test]
fn clearing_the_claim_code_keeps_its_other_62_bytes() {
    let mut image = [b'c'; LEN];
    AppMut::new(&mut image).unwrap().clear_claim_code().unwrap();
    assert_eq!(image.iter().filter(|b| **b != b'c').count(), 1);
    assert_eq!(App::new(&image).unwrap().claim_code(), None);
}

#[test]
fn shorter_private_key_leaves_no_stale_tail() {
    let mut image = [7; LEN];
    AppMut::new(&mut image).unwrap().set_device_private_key(&[0x30; 608]).unwrap();
    assert_eq!(image[33], 7);
    assert_eq!(image[34 + 607], 0x30);
    assert_eq!(image[34 + 608..34 + 612], [0xFF; 4]);
    assert_eq!(image[34 + 612], 7);
    let error = AppMut::new(&mut image).unwrap().set_device_private_key(&[0x30; 613]).unwrap_err();
    assert_eq!(error, AppError::FieldLength { field: "device_private_key", expected: 612, found: 613 });
}

#[test]
fn slots_are_written_one_by_one() {
    let mut image = [0xFF; LEN];
    let module = FlashModule { magic: SlotMagic::Used, length: 5, ..FlashModule::FREE };
    let mut edit = AppMut::new(&mut image).unwrap();
    edit.set_flash_module(4, &module).unwrap();
    assert_eq!(edit.set_flash_module(5, &module), Err(AppError::Slot { slot: 5 }));
    let slots = edit.view().flash_modules();
    assert_eq!(slots[4], module);
    assert_eq!(slots[3], FlashModule::FREE);
}

#[test]
fn flags_and_settings_are_edited_in_place() {
    let mut image = [0xFF; LEN];
    let mut edit = AppMut::new(&mut image).unwrap();
    edit.system_flags().set_factory_reset(true);
    edit.set_feature(1, false).unwrap();
    edit.set_country_code(Some(CountryCode { letters: *b"US", revision: Some(12) })).unwrap();
    let power = PowerConfig { vin_min_mv: 3880, ..PowerConfig::decode(&[0; 32]) };
    edit.set_power_config(&power).unwrap();
    let app = edit.view();
    assert!(app.system_flags().factory_reset_requested());
    assert!(app.is_feature_on(0) && !app.is_feature_on(1));
    assert_eq!(app.country_code(), Some(CountryCode { letters: *b"US", revision: Some(12) }));
    assert_eq!(app.power_config(), Some(power));
    assert_eq!(App::new(&[0xFF; LEN]).unwrap().power_config(), None, "unset, and not disabled");
    assert!(!app.mode_button_mirror().is_active() && app.led_mirrors().iter().all(|led| !led.is_set()));
    edit.set_country_code(None).unwrap();
    assert_eq!(edit.view().country_code(), None);
    assert!(App::new(&[0xFF; LEN_OLD]).unwrap().eap_config().is_none());
}

/// One value of the byte means UDP, and one of two of its bits that the clock is off.
#[test]
fn transport_and_radio_flags_are_read_as_firmware_reads_them() {
    let mut image = [0xFF; LEN];
    for byte in 0..=u8::MAX {
        image[2977] = byte;
        image[3630] = byte;
        let app = App::new(&image).unwrap();
        let transport = if byte == 0xFF { CloudTransport::Udp } else { CloudTransport::Tcp };
        assert_eq!(app.cloud_transport(), transport, "{byte:02x}");
        assert_eq!(app.is_wlan_sleep_clock_on(), byte % 4 != 2, "{byte:02x}");
        for on in [true, false] {
            let mut edit = AppMut::new(&mut image).unwrap();
            edit.set_wlan_sleep_clock(on).unwrap();
            assert_eq!(edit.view().is_wlan_sleep_clock_on(), on);
            assert_eq!(image[3630] >> 2, byte >> 2, "the other bits stay");
        }
        let mut edit = AppMut::new(&mut image).unwrap();
        for (transport, byte) in [(CloudTransport::Tcp, 0), (CloudTransport::Udp, 0xFF)] {
            edit.set_cloud_transport(transport).unwrap();
            assert_eq!((edit.view().cloud_transport(), edit.view().as_bytes()[2977]), (transport, byte));
        }
    }
}

#[test]
fn fields_that_the_image_does_not_hold_are_not_written() {
    let mut image = [0; LEN_OLD];
    let mut edit = AppMut::new(&mut image).unwrap();
    let error = edit.erase(Field::DEVICE_SECRET).unwrap_err();
    assert_eq!(error, AppError::OutsideImage { field: "device_secret", end: 8134, length: LEN_OLD });
    assert_eq!(image, [0; LEN_OLD]);
}

proptest! {
    #[test]
    fn setting_a_field_changes_nothing_else(index in 0..Field::ALL.len(), fill: u8, seed: u8) {
        let field = Field::ALL[index];
        let mut image: [u8; LEN] = core::array::from_fn(|i| u8::try_from((i + usize::from(seed)) % 251).unwrap());
        let before = image;
        let value = [fill; 4296];
        AppMut::new(&mut image).unwrap().set(field, &value[..field.len()]).unwrap();
        for (at, (old, new)) in before.iter().zip(&image).enumerate() {
            prop_assert_eq!(*new, if field.range().contains(&at) { fill } else { *old });
        }
    }
}

#[test]
fn both_server_key_regions_have_their_places() {
    let mut image = [0xFF; LEN];
    let (rsa, ec) = ([0x30; 294], [0x31; 91]);
    let address = ServerAddress::from_text("10.0.0.1").unwrap();
    let alt = ServerAddress::from_text("$id.udp.example.org:5000").unwrap();
    let mut edit = AppMut::new(&mut image).unwrap();
    edit.set_server_key_region(&ServerKeyRegion::new(&rsa, Some(address))).unwrap();
    edit.set_server_key_region(&ServerKeyRegion::new(&ec, Some(alt))).unwrap();
    let app = App::new(&image).unwrap();
    assert_eq!((app.server_address(), app.alt_server_address()), (Ok(Some(address)), Ok(Some(alt))));
    assert_eq!(app.server_public_key(), Some(&rsa));
    for (algorithm, key, address) in
        [(KeyAlgorithm::Rsa, (&rsa).into(), address), (KeyAlgorithm::Ec, (&ec).into(), alt)]
    {
        let region = app.server_key_region(algorithm).unwrap();
        assert_eq!((region.key(), region.address()), (Some(key), Ok(Some(address))));
    }
    image[2082..2850].fill(0xFF);
    image[3298..3618].fill(0xFF);
    assert!(image.iter().all(|byte| *byte == 0xFF), "nothing else was written");
}

#[test]
fn texts_and_addresses_are_read_back_and_written_as_text_is() {
    let mut image = [0xFF; LEN];
    let mut edit = AppMut::new(&mut image).unwrap();
    let ip = IpConfig { host: [10, 0, 0, 2].into(), mode: IpMode::Static, ..IpConfig::decode(&[0xFF; 24]) };
    let address = ServerAddress::domain("$id.udp.example.org", Some(5684)).unwrap();
    let code = [b'c'; 63];
    edit.set_ip_config(&ip).unwrap();
    edit.set_alt_server_address(&address).unwrap();
    edit.set_claim_code(&code).unwrap();
    edit.set_ssid_prefix(b"Photon").unwrap();
    edit.set_device_code(b"AB12").unwrap();
    let app = edit.view();
    assert_eq!((app.ip_config(), app.alt_server_address()), (ip, Ok(Some(address))));
    assert_eq!(app.claim_code(), Some(&code[..]));
    assert_eq!((app.ssid_prefix(), app.device_code()), (Some(&b"Photon"[..]), Some(&b"AB12"[..])));

    let mut by_text = [0xFF; LEN];
    let mut text = AppMut::new(&mut by_text).unwrap();
    for (name, value) in [
        ("ip_config.mode", "static"),
        ("ip_config.host", "10.0.0.2"),
        ("alt_server_address", "$id.udp.example.org:5684"),
        ("claim_code", core::str::from_utf8(&code).unwrap()),
        ("ssid_prefix", "Photon"),
        ("device_code", "AB12"),
    ] {
        text.set_text(crate::Entry::by_name(name).unwrap(), value).unwrap();
    }
    assert_eq!(image, by_text);

    let mut edit = AppMut::new(&mut image).unwrap();
    edit.set_ssid_prefix(&[]).unwrap();
    edit.set_device_code(&[]).unwrap();
    edit.set_claim_code(&[]).unwrap();
    let app = edit.view();
    assert_eq!((app.ssid_prefix(), app.device_code(), app.claim_code()), (None, None, None));
}

#[test]
fn texts_that_do_not_fit_are_refused_and_change_nothing() {
    let mut image = [0x41; LEN];
    let mut edit = AppMut::new(&mut image).unwrap();
    let too_long =
        |field: Field, expected, found| Err(AppError::FieldLength { field: field.name(), expected, found });
    assert_eq!(edit.set_claim_code(&[b'c'; 64]), too_long(Field::CLAIM_CODE, 63, 64));
    assert_eq!(edit.set_device_code(b"1234567"), too_long(Field::DEVICE_CODE, 6, 7));
    assert_eq!(edit.set_ssid_prefix(&[b's'; 26]), too_long(Field::SSID_PREFIX, 25, 26));
    for byte in [0, 0xFF] {
        assert_eq!(
            edit.set_claim_code(&[b'c', byte]),
            Err(AppError::Character { field: "claim_code", at: 1 })
        );
    }
    assert_eq!(image, [0x41; LEN]);
}
