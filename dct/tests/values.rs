//! Every entry read and set by its name.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::vector;
use proptest::prelude::*;
use spark_dct::app::LEN;
use spark_dct::{App, AppMut, Content, Entry, Kind, ValueError};

fn entry(name: &str) -> Entry {
    Entry::by_name(name).unwrap_or_else(|| panic!("{name}"))
}

fn shown(image: &[u8], name: &str) -> String {
    App::new(image).unwrap().value(entry(name)).to_string()
}

#[test]
fn images_of_three_tags_are_shown_as_they_were_made() {
    let image = vector("app_v0.4.0.bin");
    assert_eq!(shown(&image, "claimed"), "true");
    assert_eq!(shown(&image, "ssid_prefix"), "Photon");
    assert_eq!(shown(&image, "device_code"), "ABC123");
    assert_eq!(shown(&image, "version"), "1");
    assert_eq!(shown(&image, "system_flags.factory_reset"), "requested");
    assert_eq!(shown(&image, "system_flags.iwdg_enable"), "on");
    assert_eq!(shown(&image, "power_config.flags"), "absent");

    let image = vector("app_v0.6.1.bin");
    assert_eq!(shown(&image, "ip_config.mode"), "static");
    // this image was initialised in the order of the header's comment; the firmware's code reads the last octet first
    assert_eq!(shown(&image, "ip_config.host"), "5.0.168.192");
    assert_eq!(shown(&image, "country_code"), "JP/3");
    assert_eq!(shown(&image, "device_id"), "33002c000447343339373536");
    assert_eq!(shown(&image, "cloud_transport"), "tcp");
    assert_eq!(shown(&image, "radio_flags"), "sleep_clock_off");
    assert_eq!(shown(&image, "feature_flags"), "0xfffffffc");
    assert_eq!(shown(&image, "feature_flags.reset_info"), "off");
    assert_eq!(shown(&image, "mode_button_mirror").len(), 64);

    let image = vector("app_v2.3.1.bin");
    assert_eq!(shown(&image, "ota_update_flag"), "apply");
    assert_eq!(shown(&image, "system_flags.features_enabled"), "safe_mode");
    assert_eq!(shown(&image, "ssid_prefix"), "Argus");
    assert_eq!(shown(&image, "device_secret"), "ABCDEFGHIJKLMNO");
    assert_eq!(shown(&image, "eap_config.type"), "tls");
    assert_eq!(shown(&image, "eap_config.inner_identity"), "user@example.org");
    assert_eq!(shown(&image, "eap_config.outer_identity"), "anonymous");
    assert_eq!(shown(&image, "eap_config.security_key"), "secret");
    assert_eq!(shown(&image, "eap_config.ca_certificate").len(), 2 * 27);
    assert_eq!(shown(&image, "power_config.flags"), "0x00000301");
    assert_eq!(shown(&image, "power_config.flags.disabled"), "on");
    assert_eq!(
        shown(&image, "power_config.flags.pmic_detection"),
        "off",
        "the lowest byte is stored inverted"
    );
    assert_eq!(shown(&image, "power_config.vin_min_mv"), "3880");
    assert_eq!(shown(&image, "ext_low_speed_clock_disable"), "disabled");
}

#[test]
fn texts_become_the_bytes_that_firmware_reads() {
    let cases: &[(&str, &str, &str)] = &[
        ("claimed", "true", "31"),
        ("claimed", "1", "31"),
        ("claimed", "false", "ff"),
        ("claimed", "0x01", "01"),
        ("ip_config.host", "192.168.0.5", "0500a8c0"),
        ("ip_config.mode", "static", "01"),
        ("country_code", "US", "555330ff"),
        ("country_code", "jp/b", "6a7042ff"),
        ("antenna_selection", "auto", "03"),
        ("antenna_selection", "2", "02"),
        ("product_store.3", "513", "0102"),
        ("product_store.11", "0xabcd", "cdab"),
        ("flash_modules.1.magic", "used", "cdab"),
        ("flash_modules.4.source_address", "0x080c0000", "00000c08"),
        ("system_flags.factory_reset", "requested", "aaaa"),
        ("system_flags.features_enabled", "none", "78"),
        ("system_flags.features_enabled", "safe_mode+dfu_mode", "4b"),
        ("device_code", "AB", "414200ffffff"),
        ("device_code", "ABCDEF", "414243444546"),
        ("version", "unset", "ffff"),
        ("power_config.flags.disabled", "off", "ff000000"),
        ("power_config.flags.disabled", "on", "ff010000"),
        ("power_config.flags.pmic_detection", "on", "fe000000"),
        ("power_config.flags.pmic_detection", "off", "ff000000"),
        ("feature_flags.led_overridden", "off", "fdffffff"),
        ("ext_low_speed_clock_disable", "disabled", "5ed117fa"),
        ("ota_update_flag", "apply", "a5"),
        ("device_secret", "abc", "61626300ffffffffffffffffffffff"),
    ];
    for (name, text, expected) in cases {
        let mut image = [0xFF; LEN];
        AppMut::new(&mut image).unwrap().set_text(entry(name), text).unwrap();
        assert_eq!(hex::encode(&image[entry(name).range()]), *expected, "{name} = {text}");
    }
    let mut image = [0xFF; LEN];
    let mut edit = AppMut::new(&mut image).unwrap();
    edit.set_text(entry("eap_config.outer_identity"), "anonymous").unwrap();
    edit.set_text(entry("ssid_prefix"), "Photon").unwrap();
    edit.set_text(entry("dns_resolve"), "setup,ap.example").unwrap();
    edit.set_text(entry("server_public_key.address"), "cloud.example.org:5683").unwrap();
    assert_eq!(image[3823 + 66..][..9], *b"anonymous");
    assert_eq!(image[3823 + 130], 9);
    assert_eq!(image[1826..1833], *b"\x06Photon");
    assert_eq!(image[1890..1908], *b"setup\0ap.example\0\0");
    assert_eq!(image[2466..2468], [1, 17]);
    assert_eq!(image[2466 + 66..2466 + 68], [0x16, 0x33]);
}

#[test]
fn switches_of_erased_power_settings_are_unset_and_those_of_features_are_on() {
    let image = [0xFF; LEN];
    for name in ["pmic_detection", "disabled", "use_vin_settings_with_usb_host"] {
        let switch = entry(&format!("power_config.flags.{name}"));
        let app = App::new(&image).unwrap();
        assert_eq!(app.value(switch).content(), Content::Unset, "{name}");
        assert!(!app.value(switch).is_set(), "{name}");
        for text in ["on", "off"] {
            let mut image = image;
            AppMut::new(&mut image).unwrap().set_text(switch, text).unwrap();
            for other in ["pmic_detection", "disabled", "use_vin_settings_with_usb_host"] {
                let expected = if other == name { text } else { "off" };
                assert_eq!(shown(&image, &format!("power_config.flags.{other}")), expected, "{name}={text}");
            }
        }
    }
    assert_eq!(shown(&image, "feature_flags.reset_info"), "on");
}

#[test]
fn clearing_a_text_takes_one_byte_as_firmware_does_it() {
    let mut image = [b'c'; LEN];
    AppMut::new(&mut image).unwrap().set_text(entry("claim_code"), "").unwrap();
    assert_eq!(image.iter().filter(|byte| **byte != b'c').count(), 1);
    assert_eq!(shown(&image, "claim_code"), "");
}

#[test]
fn refusals_name_the_entry_and_what_it_takes() {
    let cases = [
        (
            "antenna_selection",
            "256",
            "antenna_selection takes internal, external, auto, unset or a number from 0 to 255, decimal or 0x…",
        ),
        ("version", "+1", "version takes a number from 0 to 65535, decimal or 0x…"),
        (
            "ip_config.host",
            "256.1.2",
            "ip_config.host takes an IPv4 address of four numbers from 0 to 255 with dots between them",
        ),
        ("claimed", "maybe", "claimed takes true or false, or 0x and two digits for the byte itself"),
        ("device_code", "ABCDEFG", "device_code takes 0 to 6 bytes but the value has 7; pad or shorten it"),
        ("device_code", "A\\x00", "device_code cannot hold the byte 0x00 at position 1, which ends a text"),
        (
            "ssid_prefix",
            "x\\",
            "ssid_prefix has a backslash at byte 1 that starts no escape; write \\\\ or \\x and two digits",
        ),
        ("device_id", "3300", "device_id takes 12 to 12 bytes but the value has 2; pad or shorten it"),
        (
            "device_id",
            "zz",
            "device_id takes pairs of hexadecimal digits but position 0 has none; give the bytes as digits only",
        ),
        (
            "country_code",
            "Japan",
            "country_code takes two letters, or two letters, '/' and one hexadecimal digit, such as JP/3",
        ),
        ("dns_resolve", "a,,b", "dns_resolve takes names separated by single commas, or unset for none"),
        ("server_public_key.address", "host:0", "server_public_key.address takes host or host:port"),
        ("feature_flags.reset_info", "maybe", "feature_flags.reset_info takes on or off"),
    ];
    for (name, text, message) in cases {
        let mut image = [0x55; LEN];
        let error = AppMut::new(&mut image).unwrap().set_text(entry(name), text).expect_err(message);
        assert_eq!(error.to_string(), message);
        assert_eq!(image, [0x55; LEN], "{name}");
    }
    let mut image = [0x55; 4258];
    let error = AppMut::new(&mut image).unwrap().set_text(entry("power_config.size"), "1").unwrap_err();
    assert!(matches!(error, ValueError::OutsideImage { .. }));
    assert_eq!(
        error.to_string(),
        "the field of power_config.size ends at 8166 but the image has only 4258 bytes; use an image of newer firmware"
    );
}

#[test]
fn secrets_are_hidden_unless_asked_for() {
    let mut image = vector("app_v2.3.1.bin");
    AppMut::new(&mut image).unwrap().set_text(entry("claim_code"), "abcdefgh").unwrap();
    let app = App::new(&image).unwrap();
    let secret: Vec<_> = Entry::all().filter(Entry::is_secret).map(|entry| entry.to_string()).collect();
    assert_eq!(
        secret,
        [
            "device_private_key",
            "claim_code",
            "alt_device_private_key",
            "eap_config",
            "eap_config.security_key",
            "device_secret"
        ]
    );
    for name in ["claim_code", "eap_config.security_key", "device_secret", "eap_config", "device_private_key"]
    {
        let value = app.value(entry(name));
        let (open, hidden, debug) = (value.to_string(), value.hidden().to_string(), format!("{value:?}"));
        assert!(hidden.starts_with("hidden"), "{hidden}");
        assert!(!debug.contains(&open), "{debug}");
        assert!(!format!("{:?}", value.content()).contains(&open));
    }
    assert_eq!(app.value(entry("ip_config.host")).hidden().to_string(), "5.0.168.192");
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let all: Vec<_> = Entry::all().collect();
    (0..all.len()).prop_map(move |index| all[index])
}

/// Content that the kinds find interesting more often than noise is.
fn any_content(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), len),
        proptest::collection::vec(
            prop_oneof![Just(0xFF), Just(0), Just(1), Just(b'1'), b'a'..b'h', Just(b'\\'), Just(b',')],
            len
        ),
        (proptest::collection::vec(b'!'..b'~', len), 0..=len).prop_map(|(mut bytes, end)| {
            bytes[end..].fill(0xFF);
            bytes
        }),
        (0u8..3, 0u8..70, proptest::collection::vec(b'-'..b'z', len)).prop_map(
            |(kind, length, mut bytes)| {
                bytes[0] = kind;
                if bytes.len() > 1 {
                    bytes[1] = length
                }
                bytes
            }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn setting_what_is_shown_changes_nothing_but_padding(
        (entry, content) in any_entry().prop_flat_map(|entry| (Just(entry), any_content(entry.len())))
    ) {
        let mut image = [0x5A; LEN];
        image[entry.range()].copy_from_slice(&content);
        let before = image;
        let value = entry.read(&content);
        AppMut::new(&mut image).unwrap().set_text(entry, &value.to_string()).unwrap();
        prop_assert!(entry.read(&image[entry.range()]).content() == value.content());
        prop_assert!(image[..entry.offset()] == before[..entry.offset()] && image[entry.end()..] == before[entry.end()..]);
        let padded = matches!(
            value.content(),
            Content::Text(_) | Content::Names(_) | Content::Address(_)
        ) || matches!(entry.kind(), Kind::Counted { .. });
        if !padded {
            prop_assert!(image == before, "{entry} = {value}");
        }
    }

    #[test]
    fn any_text_is_taken_whole_or_changes_nothing(
        entry in any_entry(), text in prop_oneof![".*", "[0-9a-f]{0,64}", "(0x)?[0-9a-fx]{0,9}", "[a-z.:,0-9]{0,30}"], fill: u8
    ) {
        let mut image = [fill; LEN];
        let mut edit = AppMut::new(&mut image).unwrap();
        match edit.set_text(entry, &text) {
            Err(error) => {
                prop_assert!(image == [fill; LEN], "{error}");
                prop_assert!(error.to_string().starts_with(&entry.to_string()));
            }
            Ok(()) => {
                let once = image;
                let again = App::new(&once).unwrap().value(entry).to_string();
                AppMut::new(&mut image).unwrap().set_text(entry, &again).unwrap();
                prop_assert!(App::new(&image).unwrap().value(entry) == App::new(&once).unwrap().value(entry), "{again}");
                let (before, after) = (entry.offset(), entry.end());
                prop_assert!(image[..before].iter().chain(&image[after..]).all(|byte| *byte == fill));
            }
        }
    }

    #[test]
    fn every_truncation_is_absent_or_whole(len in 4258usize..=LEN) {
        let image = vec![b'1'; len];
        let app = App::new(&image).unwrap();
        for entry in Entry::all() {
            let value = app.value(entry);
            prop_assert_eq!(value.content() == Content::Absent, entry.field().end() > len, "{}", entry);
        }
    }
}

/// Firmware looks at the first byte: FF and 00 both mean that nothing is set.
#[test]
fn cleared_values_are_not_set_and_not_malformed() {
    let mut image = vec![0xFF; 8391];
    AppMut::new(&mut image).unwrap().set_text(entry("claim_code"), &"c".repeat(63)).unwrap();
    AppMut::new(&mut image).unwrap().set_text(entry("ssid_prefix"), "Photon").unwrap();
    AppMut::new(&mut image).unwrap().set_text(entry("country_code"), "US/4").unwrap();
    let all = ["claim_code", "ssid_prefix", "country_code"];
    for name in all {
        assert!(App::new(&image).unwrap().value(entry(name)).is_set(), "{name}");
    }
    let mut zeroed = image.clone();
    zeroed[1762] = 0;
    zeroed[1826] = 0;
    zeroed[1758..1762].fill(0);
    let mut erased = image.clone();
    (erased[1762], erased[1826], erased[1758]) = (0xFF, 0xFF, 0xFF);
    for image in [&zeroed, &erased] {
        for name in &all {
            let value = App::new(image).unwrap().value(entry(name));
            assert!(!value.is_set() && !value.is_malformed(), "{name}: {value}");
            let text = value.to_string();
            let mut copy = image.clone();
            AppMut::new(&mut copy).unwrap().set_text(entry(name), &text).unwrap();
            assert!(App::new(&copy).unwrap().value(entry(name)) == value, "{name} = {text}");
            assert!(!value.hidden().to_string().contains("ccc"), "{name}");
        }
    }
    assert!(!App::new(&[0xFF; 8391]).unwrap().value(entry("claim_code")).is_set());
    image[1759] = 0;
    assert!(App::new(&image).unwrap().value(entry("country_code")).is_malformed());
}

/// Before v0.7.0 there was something else where the first parts of the field are now.
#[test]
fn parts_of_a_field_that_the_image_has_not_whole_are_absent() {
    for len in [4258, 4260, 8118] {
        let mut image = vec![0x0D; len];
        for part in ["type", "inner_identity", "outer_identity", "security_key", "ca_certificate"] {
            let part = entry(&format!("eap_config.{part}"));
            assert_eq!(App::new(&image).unwrap().value(part).content(), Content::Absent, "{len} {part}");
            let error = AppMut::new(&mut image).unwrap().set_text(part, "0x0d").unwrap_err();
            assert!(matches!(error, ValueError::OutsideImage { end: 8119, .. }), "{len} {part}");
        }
        assert!(image.iter().all(|byte| *byte == 0x0D));
    }
}
