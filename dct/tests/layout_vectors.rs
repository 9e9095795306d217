//! Field table, application images, server addresses and segments against their vectors.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{json, vector};
use spark_dct::kind::ByteOrder;
use spark_dct::layout::{self, Span};
use spark_dct::mirror::{ButtonMirror, LedMirror};
use spark_dct::segment::{HostTable, KeyAlgorithm, Platform};
use spark_dct::server_address::{
    DEFAULT_PORT_TCP, DEFAULT_PORT_UDP, FirmwareHost, FirmwareParser, deviations,
};
use spark_dct::server_key_region::ServerKey;
use spark_dct::{App, Entry, Field, FirmwareVersion, Host, Kind, ServerAddress, ServerKeyRegion};

fn version(tag: &str) -> FirmwareVersion {
    let mut parts = tag.trim_start_matches('v').split('.').map(|part| part.parse().unwrap());
    FirmwareVersion::new(parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap())
}

#[test]
fn fields_are_where_every_tag_has_them() {
    // gaps that newer fields were carved out of, and one field that was renamed
    let gaps = ["unused", "reserved1", "reserved2", "padding"];
    for layout in json("layouts.json")["layouts"].as_array().unwrap() {
        let tag = version(layout["tag"].as_str().unwrap());
        for field in Field::ALL.iter().filter(|field| field.since() <= tag && !gaps.contains(&field.name())) {
            let name = match field.name() {
                "device_code" if layout["fields"].get("device_code").is_none() => "device_id",
                name => name,
            };
            if name == "ext_low_speed_clock_disable" && layout["fields"].get(name).is_none() {
                continue; // missing again in v2.1.0 and v2.2.0
            }
            let found = &layout["fields"][name];
            assert_eq!(found["offset"], field.offset(), "{tag} {name}");
            assert_eq!(found["size"], field.len(), "{tag} {name}");
        }
    }
}

#[test]
fn layout_of_every_tag_is_the_compiled_one() {
    for compiled in json("layouts.json")["layouts"].as_array().unwrap() {
        let tag = compiled["tag"].as_str().unwrap();
        let place =
            |place: &serde_json::Value| (place["offset"].as_u64().unwrap(), place["size"].as_u64().unwrap());
        let mut expected: Vec<_> = compiled["fields"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| *name != "end")
            .map(|(name, found)| (place(found), name.clone()))
            .collect();
        expected.sort();
        let ours: Vec<_> = layout::of(version(tag))
            .map(|span| ((span.offset as u64, span.len as u64), span.name.to_owned()))
            .collect();
        assert_eq!(ours, expected, "{tag}");
        let end = compiled["fields"]["end"]["offset"].as_u64().unwrap();
        assert_eq!(layout::length(version(tag)) as u64, end, "{tag}");
        assert_eq!(layout::size_of(version(tag)) as u64, compiled["sizeof"].as_u64().unwrap(), "{tag}");
    }
}

#[test]
fn parts_of_records_are_where_every_tag_has_them() {
    let layouts = json("layouts.json");
    let mut checked = 0;
    for compiled in layouts["layouts"].as_array().unwrap() {
        checked += parts_of_records(compiled);
    }
    assert!(checked > 18 * 20, "{checked}");
}

/// Compares the records of one tag.
fn parts_of_records(compiled: &serde_json::Value) -> usize {
    let tag = version(compiled["tag"].as_str().unwrap());
    let mut checked = 0;
    for (record, field, renamed) in [
        (
            "system_flags",
            "system_flags",
            &[
                ("Bootloader_Version_SysFlag", "bootloader_version"),
                ("NVMEM_SPARK_Reset_SysFlag", "nvmem_spark_reset"),
                ("FLASH_OTA_Update_SysFlag", "flash_ota_update"),
                ("OTA_FLASHED_Status_SysFlag", "ota_flashed_status"),
                ("Factory_Reset_SysFlag", "factory_reset"),
                ("IWDG_Enable_SysFlag", "iwdg_enable"),
                ("Factory_Reset_Done_SysFlag", "factory_reset_done"),
                ("StartupMode_SysFlag", "startup_mode"),
                ("FeaturesEnabled_SysFlag", "features_enabled"),
                ("RCC_CSR_SysFlag", "rcc_csr"),
            ][..],
        ),
        ("ip", "ip_config", &[("config_mode", "mode")][..]),
        ("eap", "eap_config", &[][..]),
        (
            "pwr",
            "power_config",
            &[
                ("vin_min_voltage", "vin_min_mv"),
                ("vin_max_current", "vin_max_ma"),
                ("charge_current", "charge_ma"),
                ("termination_voltage", "termination_mv"),
                ("reserved2", "reserved"),
            ][..],
        ),
        (
            "flash_module",
            "flash_modules",
            &[
                ("magicNumber", "0.magic"),
                ("sourceDeviceID", "0.source_device"),
                ("destinationDeviceID", "0.destination_device"),
                ("sourceAddress", "0.source_address"),
                ("destinationAddress", "0.destination_address"),
                ("length", "0.length"),
                ("flags", "0.flags"),
                ("module_function", "0.module_function"),
                ("reserved", "0.reserved"),
            ][..],
        ),
    ] {
        let Some(places) = compiled[record].as_object() else {
            assert!(Field::by_name(field).unwrap().since() > tag, "{tag} has no {record}");
            continue;
        };
        for (name, place) in places {
            // the byte was unused before it had a meaning
            if record == "system_flags" && name == "unused" {
                let entry = Entry::by_name("system_flags.features_enabled").unwrap();
                assert_eq!(place["offset"].as_u64(), Some(entry.offset() as u64));
                assert!(!entry.exists_in(tag), "{tag}");
                continue;
            }
            // lengths belong to their values, and the reserved words of power_config are one part
            if name.ends_with("_len") || (record == "pwr" && name == "reserved3") {
                continue;
            }
            let ours =
                renamed.iter().find(|(theirs, _)| theirs == name).map_or(name.as_str(), |(_, ours)| ours);
            let entry =
                Entry::by_name(&format!("{field}.{ours}")).unwrap_or_else(|| panic!("{record} {name}"));
            let offset = entry.offset() - entry.field().offset();
            assert_eq!(place["offset"].as_u64(), Some(offset as u64), "{entry}");
            let size = usize::try_from(place["size"].as_u64().unwrap()).unwrap();
            match entry.kind() {
                Kind::Counted { room, .. } => assert_eq!(usize::from(room), size, "{entry}"),
                _ if entry.len() == 18 => assert_eq!(size, 2),
                _ => assert_eq!(entry.len(), size, "{entry}"),
            }
            assert!(entry.exists_in(tag), "{tag} {entry}");
            checked += 1;
        }
    }
    checked
}

#[test]
fn mirrors_of_the_bootloader_are_laid_out_as_every_tag_has_them() {
    let mut checked = 0;
    for compiled in json("layouts.json")["layouts"].as_array().unwrap() {
        let tag = version(compiled["tag"].as_str().unwrap());
        for (record, ours, len, field) in [
            ("btn", &ButtonMirror::LAYOUT[..], 32, Field::MODE_BUTTON_MIRROR),
            ("led", &LedMirror::LAYOUT[..], 24, Field::LED_MIRROR),
        ] {
            let Some(places) = compiled[record].as_object() else {
                assert!(field.since() > tag);
                continue;
            };
            assert_eq!(places.len(), ours.len());
            for Span { name, offset, len: size, .. } in ours {
                let place = &places[*name];
                let found = (place["offset"].as_u64(), place["size"].as_u64());
                assert_eq!(found, (Some(*offset as u64), Some(*size as u64)), "{tag} {record} {name}");
                assert!(offset + size <= len);
            }
            checked += 1;
        }
    }
    assert_eq!(checked, 20);
    // what is read of them is at these places
    let at = |layout: &[Span], name| layout.iter().find(|span| span.name == name).unwrap().offset;
    let mut button = [0; 32];
    button[at(&ButtonMirror::LAYOUT, "active")] = 0xAA;
    button[at(&ButtonMirror::LAYOUT, "debounce_time")..][..2].copy_from_slice(&[0xCC, 0xBB]);
    assert!(ButtonMirror::new(&button).is_active());
    let mut led = [0; 24];
    led[at(&LedMirror::LAYOUT, "flags")] = 1;
    assert!(LedMirror::new(&led).is_active());
    led[at(&LedMirror::LAYOUT, "version")] = 0xFF;
    assert!(!LedMirror::new(&led).is_set());
}

/// The field table of the specification: what FF means, and how numbers are stored.
#[test]
fn every_field_says_what_erased_means_and_in_which_order_its_bytes_are() {
    use ByteOrder::{BigPort, Little, ReversedOctets};
    let expected: [(&str, &str, Option<ByteOrder>); 36] = [
        ("system_flags", "nothing requested, all features on", None),
        ("version", "unset", Some(Little)),
        ("device_private_key", "no key: the device generates one", None),
        ("device_public_key", "not cached: recomputed from the private key", None),
        ("ip_config", "unset, the device uses DHCP", None),
        ("unused", "not read", None),
        ("ota_update_flag", "no update waits", Some(Little)),
        ("feature_flags", "all features on", Some(Little)),
        ("country_code", "not set: the limits of Japan apply", None),
        ("claim_code", "none", None),
        ("claimed", "not claimed", None),
        ("ssid_prefix", "unset: the firmware generates and stores its default", None),
        ("device_code", "unset: the firmware generates one", None),
        ("version_string", "unset", None),
        ("dns_resolve", "the default names", None),
        ("reserved1", "not read", None),
        ("server_public_key", "no key and no address: no session", None),
        ("padding", "not read", None),
        ("flash_modules", "all slots free", None),
        ("product_store", "no product", None),
        ("antenna_selection", "unset", Some(Little)),
        ("cloud_transport", "UDP", Some(Little)),
        ("alt_device_public_key", "not cached", None),
        ("alt_device_private_key", "no key: the device generates one", None),
        ("alt_server_public_key", "no key: no session over UDP", None),
        ("alt_server_address", "no address, and UDP has no default", Some(BigPort)),
        ("device_id", "not yet copied", None),
        ("radio_flags", "the WLAN sleep clock is on", Some(Little)),
        ("mode_button_mirror", "no valid record", None),
        ("led_mirror", "no valid record", None),
        ("led_theme", "the default theme", None),
        ("eap_config", "no WPA Enterprise settings", None),
        ("device_secret", "none", None),
        ("power_config", "defaults", None),
        ("ext_low_speed_clock_disable", "not disabled", Some(Little)),
        ("reserved2", "not read", None),
    ];
    let found: Vec<_> = Field::ALL
        .iter()
        .map(|field| (field.name(), field.erased_meaning(), field.kind().byte_order()))
        .collect();
    assert_eq!(found, expected);
    for (part, order) in [
        ("ip_config.host", Some(ReversedOctets)),
        ("ip_config.dns2", Some(ReversedOctets)),
        ("ip_config.mode", Some(Little)),
        ("server_public_key.address", Some(BigPort)),
        ("server_public_key.key", None),
        ("flash_modules.0.length", Some(Little)),
        ("product_store.11", Some(Little)),
        ("eap_config.ca_certificate", Some(Little)),
        ("power_config.vin_min_mv", Some(Little)),
        ("system_flags.rcc_csr", Some(Little)),
    ] {
        assert_eq!(Entry::by_name(part).unwrap().kind().byte_order(), order, "{part}");
    }
}

#[test]
fn every_named_field_of_the_newest_tag_is_in_the_table() {
    let layouts = json("layouts.json");
    let newest = layouts["layouts"].as_array().unwrap().last().unwrap();
    for (name, place) in newest["fields"].as_object().unwrap().iter().filter(|(name, _)| *name != "end") {
        let field = Field::by_name(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(
            (place["offset"].as_u64(), place["size"].as_u64()),
            (Some(field.offset() as u64), Some(field.len() as u64))
        );
    }
}

#[test]
fn since_is_the_first_tag_that_has_the_field() {
    for layout in json("layouts.json")["layouts"].as_array().unwrap() {
        let tag = version(layout["tag"].as_str().unwrap());
        for field in Field::ALL.iter().filter(|field| field.since() > tag && field.name() != "device_id") {
            let has = layout["fields"]
                .get(field.name())
                .is_some_and(|place| place["offset"] == field.offset() && place["size"] == field.len());
            assert!(!has, "{tag} already has {}", field.name());
        }
    }
}

/// What the vectors say of the images, all of it.
#[test]
fn images_are_read_as_recorded() {
    use sha2::Digest;
    // the length that the DER says
    let der_len = |key: &[u8]| 4 + u64::from(u16::from_be_bytes([key[2], key[3]]));
    let mut checked = 0;
    for recorded in json("app_images.json")["images"].as_array().unwrap() {
        let file = recorded["file"].as_str().unwrap();
        let image = vector(file);
        assert_eq!(hex::encode(sha2::Sha256::digest(&image)), recorded["sha256"].as_str().unwrap(), "{file}");
        let tag = version(recorded["tag"].as_str().unwrap());
        assert_eq!(image.len() as u64, recorded["length"].as_u64().unwrap());
        assert_eq!(image.len(), layout::size_of(tag), "{file}");
        let app = App::new(&image).unwrap();
        for (what, expected) in recorded["expect"].as_object().unwrap() {
            let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
            let found: serde_json::Value = match what.as_str() {
                "version" => u16::from_le_bytes(app.array(Field::VERSION.offset())).into(),
                "key_der_len" => der_len(app.device_private_key().unwrap()).into(),
                "server_key_der_len" => der_len(app.server_public_key().unwrap()).into(),
                "claimed_byte" => app.array::<1>(Field::CLAIMED.offset())[0].into(),
                "ssid_prefix" => text(app.ssid_prefix()).into(),
                "device_code" => text(app.device_code()).into(),
                "country" => {
                    let country = app.country_code().unwrap();
                    format!("{} rev {}", text(Some(&country.letters)), country.revision.unwrap()).into()
                }
                "device_id" => hex::encode(app.device_id().unwrap()).into(),
                "radio_flags" => app.array::<1>(Field::RADIO_FLAGS.offset())[0].into(),
                "antenna" => app.array::<1>(Field::ANTENNA_SELECTION.offset())[0].into(),
                "cloud_transport" => app.array::<1>(Field::CLOUD_TRANSPORT.offset())[0].into(),
                "feature_flags" => app.feature_flags().into(),
                "ota_update_flag" => app.array::<1>(Field::OTA_UPDATE_FLAG.offset())[0].into(),
                "device_secret" => text(Some(app.bytes(Field::DEVICE_SECRET))).into(),
                "power.flags" => app.power_config().unwrap().flags.into(),
                "power.vin_min_voltage" => app.power_config().unwrap().vin_min_mv.into(),
                "ext_low_speed_clock_disable" => {
                    u32::from_le_bytes(app.array(Field::EXT_LOW_SPEED_CLOCK_DISABLE.offset())).into()
                }
                "eap.type" => app.eap_config().unwrap().method().into(),
                "eap.ca_certificate_len" => {
                    app.eap_config().unwrap().ca_certificate().map(<[u8]>::len).into()
                }
                "bytes_not_initialised" => {
                    assert!(app.bytes(Field::RESERVED1).iter().all(|byte| *byte == 0));
                    continue;
                }
                other => panic!("{other} is not compared"),
            };
            assert_eq!(&found, expected, "{file} {what}");
            checked += 1;
        }
    }
    assert_eq!(checked, 20);
    let image = vector("app_v0.6.1.bin");
    let app = App::new(&image).unwrap();
    assert_eq!(app.cloud_transport(), spark_dct::app::CloudTransport::Tcp);
    assert!(!app.is_wlan_sleep_clock_on());
}

#[test]
fn image_of_v0_4_0_is_read() {
    let image = vector("app_v0.4.0.bin");
    let app = App::new(&image).unwrap();
    assert_eq!(app.array(Field::VERSION.offset()), [1, 0]);
    assert_eq!(app.device_private_key().unwrap()[..2], [0x30, 0x82]);
    assert!(app.claimed());
    assert_eq!(app.ssid_prefix(), Some(&b"Photon"[..]));
    assert_eq!(app.device_code(), Some(&b"ABC123"[..]));
    assert_eq!(app.server_public_key().unwrap()[..4], [0x30, 0x82, 0x01, 0x22]);
}

#[test]
fn image_of_v0_6_1_is_read() {
    let image = vector("app_v0.6.1.bin");
    let app = App::new(&image).unwrap();
    let country = app.country_code().unwrap();
    assert_eq!((&country.letters, country.revision), (b"JP", Some(3)));
    assert_eq!(hex::encode(app.device_id().unwrap()), "33002c000447343339373536");
    assert_eq!(app.array(Field::RADIO_FLAGS.offset()), [254]);
    assert_eq!(app.array(Field::ANTENNA_SELECTION.offset()), [2]);
    assert_eq!(app.array(Field::CLOUD_TRANSPORT.offset()), [0]);
    assert_eq!(app.feature_flags(), 0xFFFF_FFFC);
}

#[test]
fn image_of_v2_3_1_is_read() {
    let image = vector("app_v2.3.1.bin");
    let app = App::new(&image).unwrap();
    assert!(app.ota_update_flag());
    assert_eq!(app.bytes(Field::DEVICE_SECRET), b"ABCDEFGHIJKLMNO");
    let power = app.power_config().unwrap();
    assert_eq!((power.flags, power.vin_min_mv), (769, 3880));
    assert_eq!(u32::from_le_bytes(app.array(Field::EXT_LOW_SPEED_CLOCK_DISABLE.offset())), 0xFA17_D15E);
    let eap = app.eap_config().unwrap();
    assert_eq!((eap.method(), eap.ca_certificate().map(<[u8]>::len)), (13, Some(27)));
    assert_eq!(eap.inner_identity(), Some(&b"user@example.org"[..]));
    assert_eq!(eap.security_key(), Some(&b"secret"[..]));
}

#[test]
fn address_blocks_mean_what_tool_and_firmware_take_them_for() {
    let all = json("server_address.json");
    for case in all["cli_cases"].as_array().unwrap() {
        let label = case["label"].as_str().unwrap();
        let block: [u8; 128] =
            hex::decode(case["address_block_128"].as_str().unwrap()).unwrap().try_into().unwrap();
        let parsed = ServerAddress::parse(&block).unwrap();
        let (scheme, default) =
            if case["protocol"] == "tcp" { ("tcp", DEFAULT_PORT_TCP) } else { ("udp", DEFAULT_PORT_UDP) };
        let host = match parsed.map(|address| address.host()) {
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Domain(domain)) => domain.to_string(),
            // the tool shows its default for an erased block
            None => "device.spark.io".to_string(),
        };
        let port = parsed.map_or(default, |address| address.port_or(default));
        assert_eq!(format!("{scheme}://{host}:{port}"), case["cli_reads_back"].as_str().unwrap(), "{label}");
        check_against_firmware(label, case, parsed);

        // our own block means the same to us; where the tool pads with FF it is the same block
        if let Some(address) = parsed {
            let mut own = [0; 128];
            address.encode_into(&mut own);
            assert_eq!(ServerAddress::parse(&own), Ok(Some(address)));
            let tail = 2 + usize::from(block[1]);
            if block[tail..66].iter().all(|byte| *byte == 0xFF) {
                assert_eq!(own, block, "{label}");
            }
        }
    }
    for case in all["parser_only_cases"].as_array().unwrap() {
        let label = case["label"].as_str().unwrap();
        let block: [u8; 128] =
            hex::decode(case["address_block_128"].as_str().unwrap()).unwrap().try_into().unwrap();
        match ServerAddress::parse(&block) {
            Ok(parsed) => check_against_firmware(label, case, parsed),
            Err(_) => assert!(label.contains("domain length"), "{label}"),
        }
    }
}

/// Where the tool puts key and address, and what it puts before the address.
#[test]
fn key_regions_of_the_tool_are_ours() {
    use sha2::Digest;
    let flash = common::Flash::load("photon_0_factory.bin");
    // the keys that the tool brings along are those of factory images
    let photon = flash.sectors().app_of(spark_dct::flash::SectorId::Dct1).to_vec();
    let electron = common::Flash::load("electron_0_factory.bin");
    let electron = electron.dcd().app(spark_dct::dcd::Generation::V1).unwrap().to_vec();
    let ec = electron[Field::ALT_SERVER_PUBLIC_KEY.offset()..].first_chunk().unwrap();
    let rsa = photon[Field::SERVER_PUBLIC_KEY.offset()..].first_chunk().unwrap();
    for case in json("server_address.json")["cli_cases"].as_array().unwrap() {
        let label = case["label"].as_str().unwrap();
        let (platform, algorithm, name) = match (case["platform"].as_str().unwrap(), &case["protocol"]) {
            ("core", _) => (Platform::Core, KeyAlgorithm::Rsa, "tcpServerKey"),
            ("photon", _) => (Platform::Photon, KeyAlgorithm::Rsa, "tcpServerKey"),
            ("electron", _) => (Platform::Electron, KeyAlgorithm::Ec, "udpServerKey"),
            ("argon", _) => (Platform::Gen3, KeyAlgorithm::Ec, "udpServerKey"),
            other => panic!("{other:?}"),
        };
        let (segment, recorded) = (platform.segment(name).unwrap(), &case["segment"]);
        assert_eq!(number(&recorded["address"]), Some(segment.address.into()), "{label}");
        assert_eq!(number(&recorded["alt"]), Some(segment.alternate.into()), "{label}");
        assert_eq!(number(&recorded["size"]), segment.size.map(u64::from), "{label}");
        assert_eq!(number(&case["len"]), segment.size.map(u64::from), "{label}");
        let address_at = segment.server_address_at.unwrap();
        assert_eq!(number(&recorded["addressOffset"]), Some(address_at.into()), "{label}");
        assert_eq!(number(&recorded["portOffset"]), Some(u64::from(address_at) + 66), "{label}");
        assert_eq!(recorded["format"], "der", "{label}");
        assert_eq!(segment.key_algorithm(), Some(algorithm), "{label}");
        assert_eq!(recorded["alg"], if algorithm == KeyAlgorithm::Rsa { "rsa" } else { "ec" }, "{label}");

        let block: [u8; 128] =
            hex::decode(case["address_block_128"].as_str().unwrap()).unwrap().try_into().unwrap();
        let address = ServerAddress::parse(&block).unwrap();
        assert_eq!(algorithm.server_address_at(), address_at as usize, "{label}");
        let key = match algorithm {
            KeyAlgorithm::Rsa => ServerKey::Rsa(rsa),
            _ => ServerKey::Ec(ec),
        };
        let mut region = vec![0; algorithm.server_region_len()];
        ServerKeyRegion::new(key, address).encode_into(&mut region).unwrap();
        let front = &region[..address_at as usize];
        let digest = hex::encode(sha2::Sha256::digest(front));
        assert_eq!(digest, case["key_sha256"].as_str().unwrap(), "{label}");
    }
}

#[test]
fn three_parsers_of_the_firmware_read_every_block_as_recorded() {
    let all = json("server_address.json");
    let mut checked = 0;
    for set in ["cli_cases", "parser_only_cases"] {
        for case in all[set].as_array().unwrap() {
            let label = case["label"].as_str().unwrap();
            let block: [u8; 128] =
                hex::decode(case["address_block_128"].as_str().unwrap()).unwrap().try_into().unwrap();
            for (tag, recorded) in case["firmware"].as_object().unwrap() {
                let parser = FirmwareParser::of_firmware(version(tag));
                assert_eq!(recorded["sizeof"].as_u64(), Some(parser.struct_len() as u64), "{tag}");
                let found = parser.parse(&block);
                match recorded["type"].as_u64().unwrap() {
                    0 => {
                        let ip = recorded["ip"].as_str().unwrap().parse().unwrap();
                        assert_eq!(found.kind, FirmwareHost::Ipv4(ip), "{label} {tag}");
                    }
                    1 => {
                        assert_eq!(found.kind, FirmwareHost::Domain, "{label} {tag}");
                        assert_eq!(
                            hex::encode(found.name()),
                            recorded["domain_hex"].as_str().unwrap(),
                            "{label} {tag}"
                        );
                    }
                    _ => assert_eq!(found.kind, FirmwareHost::None, "{label} {tag}"),
                }
                // without an address the structure keeps the zeros of the caller
                let port = recorded.get("port").map(|port| port.as_u64().unwrap());
                match (port, found.kind) {
                    (Some(port), FirmwareHost::None) => assert_eq!((port, found.port), (0, None)),
                    (port, _) => assert_eq!(found.port.map(u64::from), port, "{label} {tag}"),
                }
                let past = recorded["wrote_past_struct_bytes"].as_u64().unwrap();
                assert_eq!(found.bytes_past_struct as u64, past, "{label} {tag}");
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 3 * 18);
}

#[test]
fn oddities_of_the_tools_blocks_are_named() {
    let all = json("server_address.json");
    for (label, expected) in [
        ("default key, no address: file already 512 bytes, written as is", &["terminator"][..]),
        ("bare 294-byte SPKI padded to 512 with FF", &[]),
        ("IPv4, no port", &["stale-tail"]),
        ("domain with port", &[]),
        ("UDP: shorter domain over file that already embeds a longer one", &["stale-tail"]),
        ("UDP IPv4", &[]),
        ("type 2", &["unknown-type"]),
        ("domain length 0", &["domain-empty"]),
        ("IP with length byte 16", &["ipv4-length"]),
    ] {
        let cases =
            ["cli_cases", "parser_only_cases"].map(|set| all[set].as_array().unwrap().clone()).concat();
        let case = cases.iter().find(|case| case["label"] == label).unwrap();
        let block: [u8; 128] =
            hex::decode(case["address_block_128"].as_str().unwrap()).unwrap().try_into().unwrap();
        let found: Vec<_> = deviations(&block).map(|deviation| deviation.code()).collect();
        assert_eq!(found, expected, "{label}");
    }
}

fn check_against_firmware(label: &str, case: &serde_json::Value, parsed: Option<ServerAddress<'_>>) {
    let firmware = &case["firmware"]["v1.0.0"];
    match parsed.map(|address| address.host()) {
        None => assert_eq!(firmware["type"], 255, "{label}"),
        Some(Host::Ipv4(ip)) => assert_eq!(firmware["ip"], ip.to_string(), "{label}"),
        Some(Host::Domain(domain)) => assert_eq!(firmware["domain_hex"], hex::encode(domain), "{label}"),
    }
    if let Some(address) = parsed {
        match firmware["port"].as_u64().unwrap() {
            0 | 65535 => assert_eq!(address.port(), None, "{label}"),
            port => assert_eq!(address.port().map(u64::from), Some(port), "{label}"),
        }
    }
}

fn number(value: &serde_json::Value) -> Option<u64> {
    if let Some(number) = value.as_u64() {
        return Some(number);
    }
    let text = value.as_str()?;
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[test]
fn segments_are_those_of_the_tool() {
    let all = json("dfu_segments.json");
    let mut checked = 0;
    for (table, ours) in [
        ("v1.8.0", HostTable::V1_8_0),
        ("v1.21.0", HostTable::V1_21_0),
        ("v1.29.0", HostTable::V1_21_0),
        ("v2.0.0", HostTable::V2_0_0),
        ("current", HostTable::Current),
    ] {
        for (id, entries) in all["tables"][table].as_object().unwrap() {
            let parse = |text| u16::from_str_radix(text, 16).unwrap();
            let platforms = match id.split_once(':') {
                Some((vendor, product)) => vec![
                    Platform::from_usb_id(parse(vendor), parse(product)).unwrap_or_else(|| panic!("{id}")),
                ],
                None if id == "generation1" => vec![Platform::Core],
                None => {
                    vec![Platform::Photon, Platform::P1, Platform::Electron, Platform::Duo, Platform::Gen3]
                }
            };
            for platform in platforms {
                let mut expected: Vec<_> = entries
                    .as_object()
                    .unwrap()
                    .iter()
                    .filter(|(_, entry)| entry.is_object())
                    .map(|(name, entry)| {
                        (
                            name.clone(),
                            number(&entry["alt"]).unwrap(),
                            number(&entry["address"]).unwrap(),
                            number(&entry["size"]),
                            number(&entry["addressOffset"]),
                        )
                    })
                    .collect();
                expected.sort();
                let padding = number(&entries["writePadding"]);
                let mut found = Vec::new();
                for segment in ours.segments(platform) {
                    if let Some(padding) = padding {
                        assert_eq!(u64::from(segment.write_padding), padding, "{table} {id}");
                    } else if platform != Platform::Core {
                        assert_eq!(segment.write_padding, 1, "{table} {id}");
                    }
                    let entry = &entries[segment.name];
                    let algorithm = segment.key_algorithm();
                    assert_eq!(
                        entry["format"] == "der",
                        algorithm.is_some(),
                        "{table} {id} {}",
                        segment.name
                    );
                    // the older tables say it of some keys only
                    let says = entry["alg"].as_str().map(|text| match text {
                        "rsa" => KeyAlgorithm::Rsa,
                        "ec" => KeyAlgorithm::Ec,
                        other => panic!("{other}"),
                    });
                    assert!(says.is_none() || says == algorithm, "{table} {id} {}", segment.name);
                    if let Some(at) = segment.server_address_at {
                        let port = number(&entries[segment.name]["portOffset"]);
                        assert_eq!(port, Some(u64::from(at) + 66), "{table} {id}");
                    }
                    found.push((
                        segment.name.to_owned(),
                        segment.alternate.into(),
                        segment.address.into(),
                        segment.size.map(u64::from),
                        segment.server_address_at.map(u64::from),
                    ));
                }
                found.sort();
                checked += found.len();
                assert_eq!(found, expected, "{table} {id}");
            }
        }
    }
    assert!(checked > 120, "{checked}");
}
