//! Field table, application images, server addresses and segments against their vectors.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{json, vector};
use spark_dct::segment::{HostTable, Platform};
use spark_dct::server_address::{
    DEFAULT_PORT_TCP, DEFAULT_PORT_UDP, FirmwareHost, FirmwareParser, deviations,
};
use spark_dct::{App, Entry, Field, FirmwareVersion, Host, Kind, ServerAddress};

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
    for layout in json("layouts.json")["layouts"].as_array().unwrap() {
        let tag = layout["tag"].as_str().unwrap();
        let place =
            |place: &serde_json::Value| (place["offset"].as_u64().unwrap(), place["size"].as_u64().unwrap());
        let mut expected: Vec<_> = layout["fields"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| *name != "end")
            .map(|(name, found)| (place(found), name.clone()))
            .collect();
        expected.sort();
        let ours: Vec<_> = spark_dct::layout::of(version(tag))
            .map(|span| ((span.offset as u64, span.len as u64), span.name.to_owned()))
            .collect();
        assert_eq!(ours, expected, "{tag}");
        let end = layout["fields"]["end"]["offset"].as_u64().unwrap();
        assert_eq!(spark_dct::layout::length(version(tag)) as u64, end, "{tag}");
    }
}

#[test]
fn parts_of_records_are_where_the_newest_tag_has_them() {
    let layouts = json("layouts.json");
    let newest = layouts["layouts"].as_array().unwrap().last().unwrap();
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
        for (name, place) in newest[record].as_object().unwrap() {
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
            checked += 1;
        }
    }
    assert!(checked > 35, "{checked}");
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
                let found = FirmwareParser::of_firmware(version(tag)).parse(&block);
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
