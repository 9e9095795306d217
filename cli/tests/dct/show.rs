//! `spark dct show`, `get` and `diff`, and what is taken for a table.

use crate::bench::Bench;
use crate::tables::{Vectors, hex, value, vector};
use serde_json::Value;
use spark_dct::Entry;
use spark_dct::wiced::APP_OFFSET;

/// As every device has them whose power settings nobody changed.
#[test]
fn erased_power_settings_are_unset() {
    let bench = Bench::new("dct");
    bench.ok(&["build", "claimed=true", "-o", "app"]);
    assert!(!bench.plain(&["show", "app"]).1.contains("power_config"));
    let all = bench.ok(&["show", "app", "--all"]);
    for switch in ["pmic_detection", "disabled", "use_vin_settings_with_usb_host"] {
        let name = format!("power_config.flags.{switch}");
        let entry = all["entries"].as_array().unwrap().iter().find(|entry| entry["name"] == *name).unwrap();
        assert_eq!((&entry["set"], &entry["value"]), (&false.into(), &Value::Null), "{entry}");
    }
    bench.ok(&["build", "power_config.flags.pmic_detection=off", "power_config.version=0", "-o", "set"]);
    let got = bench.ok(&["get", "power_config.flags", "power_config.flags.disabled", "--file", "set"]);
    assert_eq!(value(&got, "power_config.flags"), "0x000000ff");
    assert_eq!(value(&got, "power_config.flags.disabled"), "off");
}

#[test]
fn tables_of_every_firmware_are_shown_as_the_firmware_reads_them() {
    let bench = Bench::new("dct");
    for (file, expected) in [
        ("app_v0.4.0.bin", &[("claimed", "true"), ("ssid_prefix", "Photon"), ("device_code", "ABC123")][..]),
        ("app_v0.6.1.bin", &[("country_code", "JP/3"), ("device_id", "33002c000447343339373536")]),
        (
            "app_v2.3.1.bin",
            &[
                ("ota_update_flag", "apply"),
                ("ext_low_speed_clock_disable", "disabled"),
                ("power_config.vin_min_mv", "3880"),
            ],
        ),
    ] {
        bench.vector(file);
        let shown = bench.ok(&["show", file]);
        for (name, text) in expected {
            assert_eq!(value(&shown, name), text, "{file} {name}");
        }
        // Secrets only when asked for.
        assert_eq!(value(&shown, "claim_code"), &Value::Null);
        assert_eq!(value(&bench.ok(&["show", file, "--secrets"]), "claim_code").as_str().unwrap().len(), 63);
        let plain = bench.plain(&["show", file]).1;
        let key = hex(&vector(file)[34..60]);
        assert!(!plain.contains(&key), "the key is not shown");
        assert!(bench.plain(&["show", file, "--secrets"]).1.contains(&key[..40]));
    }
    assert_eq!(
        bench.ok(&["show", "app_v2.3.1.bin", "--all"])["entries"].as_array().unwrap().len(),
        Entry::leaves().count()
    );
}

#[test]
fn containers_are_read_as_each_firmware_selects() {
    let bench = Bench::new("dct");
    for (file, sector, of) in [
        ("photon_0_factory.bin", "DCT1", "Photon v0.4.4"),
        ("photon_2_old_swapped.bin", "DCT2", "Photon v0.4.4"),
        ("photon_3_new_first.bin", "DCT1", "Photon v0.7.0"),
        ("photon_4_new_second.bin", "DCT2", "Photon v0.7.0"),
        ("electron_1_v2_written.bin", "DCT2", "Electron v0.7.0"),
        ("electron_2_v2_second.bin", "DCT1", "Electron v0.7.0"),
        ("electron_0_factory.bin", "DCT1", "Electron up to"),
    ] {
        bench.vector(file);
        let table = &bench.ok(&["show", file])["table"];
        assert_eq!((&table["type"], &table["selected"]), (&"dct-flash".into(), &sector.into()), "{file}");
        assert!(table["firmware"].as_str().unwrap().starts_with(of), "{table}");
    }
    // Another firmware, another sector; and whichever is asked for.
    let old = bench.ok(&["show", "photon_4_new_second.bin", "--firmware", "0.6.4"]);
    assert_eq!(old["table"]["firmware"], "Photon v0.4.4 to v0.6.4");
    bench.ok(&["show", "photon_4_new_second.bin", "--sector", "1"]);
    // The whole flash.
    let mut flash = vec![0xFF; 0x10_0000];
    flash[0x4000..0xC000].copy_from_slice(&vector("photon_4_new_second.bin"));
    bench.put("whole", flash);
    let whole = bench.ok(&["show", "whole"]);
    assert_eq!(whole["entries"], bench.ok(&["show", "photon_4_new_second.bin"])["entries"]);
    // Nothing that is no table.
    bench.put("short", [0; 4257]);
    assert_eq!(bench.plain(&["show", "short"]).0, 65);
    bench.put("blank", [0xFF; 32768]);
    let (code, _, message) = bench.plain(&["show", "blank"]);
    assert!(code == 65 && message.contains("recover"), "{message}");
}

/// What alternate setting 1 shows of an Electron ends with the first bytes of the next sector.
#[test]
fn whole_read_of_an_electron_is_an_application_section() {
    let bench = Bench::new("dct");
    for file in [
        "electron_0_factory.bin",
        "electron_1_v2_written.bin",
        "electron_2_v2_second.bin",
        "electron_3_v1_after_v2.bin",
    ] {
        let mut flash = vector(file);
        flash.resize(40_000, 0xFF);
        for (start, len) in [(8, 16384), (8, 16383), (8, 8391)] {
            bench.put("section", &flash[start..start + len]);
            let shown = bench.ok(&["show", "section"]);
            assert_eq!(shown["table"]["type"], "dct-app", "{file} {len}");
        }
    }
}

/// One sector is as long as the longest application section, and its bytes are not at those places.
#[test]
fn raw_sector_is_not_taken_for_an_application_section() {
    let bench = Bench::new("dct");
    let inspect = Bench::new("inspect");
    for file in ["photon_3_new_first.bin", "electron_2_v2_second.bin"] {
        for len in [16384, 8391] {
            bench.put("one", &vector(file)[..len]);
            for arguments in [
                &["show", "one"][..],
                &["get", "claimed", "--file", "one"],
                &["set", "-f", "one", "-o", "out", "claimed=true"],
                &["diff", "one", "one"],
                &["build", "--from", "one", "-o", "out"],
            ] {
                let (code, _, message) = bench.fails(arguments);
                assert!(code == 65 && message.contains("0x08004000:0x8000"), "{arguments:?}: {message}");
                assert!(!bench.path("out").exists());
            }
            inspect.put("one", bench.read("one"));
            let (code, text, _) = inspect.plain(&["one", "--as", "dct-app"]);
            assert!(code == 65 && text.contains("raw-sector"), "{text}");
        }
    }
    // A write that was cut before its header: the other end tells.
    let mut cut = vector("photon_3_new_first.bin");
    cut.truncate(16384);
    cut[..388].fill(0xFF);
    bench.put("one", &cut);
    assert_eq!(bench.fails(&["show", "one"]).0, 65);
    inspect.put("one", &cut);
    assert_eq!(inspect.json(&["one"], 65)["kind"], "dct-flash");
}

/// Firmware from v0.7.0 on writes an empty table with version 0 when it finds none.
#[test]
fn default_table_of_new_firmware_is_of_new_firmware() {
    let bench = Bench::new("dct");
    bench.vector("photon_5_new_blank_init.bin");
    let table = &bench.ok(&["show", "photon_5_new_blank_init.bin"])["table"];
    assert_eq!(table["firmware"], "Photon v0.7.0 and later");
    bench.ok(&["set", "-f", "photon_5_new_blank_init.bin", "-o", "out", "device_secret=ABCDEFGHIJKLMNO"]);
    let record = |name: &str, at: usize| {
        let file = bench.read(name);
        spark_dct::wiced::VersionRecord::of_sector(file[at..].first_chunk().unwrap())
    };
    assert!(record("out", 16384).is_valid(), "written as v0.7.0 writes");
    bench.ok(&["recover", "photon_5_new_blank_init.bin", "-o", "recovered"]);
    assert!(record("recovered", 0).is_valid());
}

/// An Electron keeps what it was migrated from until its next write.
#[test]
fn migrated_electron_is_read_as_an_electron_unless_told_otherwise() {
    let bench = Bench::new("dct");
    let mut pair = vector("photon_3_new_first.bin");
    pair[16384..].fill(0xFF);
    pair[APP_OFFSET + 1825] = b'1';
    let before = pair.clone();
    let sectors = spark_dct::dcd::Sectors::from_slice(&before).unwrap();
    let mut write = spark_dct::dcd::Write::migrate(sectors, spark_dct::dcd::Generation::V2).unwrap();
    while let Some(op) = write.next_op() {
        if let spark_dct::wiced::FlashOp::Program { sector, offset, data } = op {
            let at = sector.index() * 16384 + offset;
            pair[at..at + data.len()].copy_from_slice(data);
        }
    }
    // Not claimed any more: only the older table says that it is.
    pair[16384 + 8 + 1825] = 0xFF;
    let crc = spark_dct::dcd::sector_crc(pair[16384..].first_chunk().unwrap());
    pair[32764..].copy_from_slice(&crc.to_le_bytes());
    bench.put("pair", &pair);
    let shown = bench.ok(&["show", "pair"]);
    assert_eq!(
        (&shown["table"]["firmware"], &shown["table"]["selected"], value(&shown, "claimed")),
        (&"Electron v0.7.0 and later".into(), &"DCT2".into(), &"false".into())
    );
    let photon = bench.ok(&["show", "pair", "--platform", "photon"]);
    assert_eq!((&photon["table"]["selected"], value(&photon, "claimed")), (&"DCT1".into(), &"true".into()));
    let get = ["get", "claimed", "--file", "pair", "--platform", "photon"];
    assert_eq!(bench.plain(&get).1, "true\n");
    bench.ok(&["set", "-f", "pair", "-o", "out", "claimed=true"]);
    let shown = bench.ok(&["show", "out"]);
    assert_eq!((&shown["table"]["selected"], value(&shown, "claimed")), (&"DCT1".into(), &"true".into()));
    assert_eq!(bench.ok(&["recover", "pair"])["target"], "Electron v0.7.0 and later");
    let other = ["recover", "pair", "--platform", "photon", "--firmware", "0.6.4"];
    assert_eq!(bench.ok(&other)["target"], "Photon v0.4.4 to v0.6.4");
    // A device says what it is.
    bench.device(&["show"]);
    let mut flash = bench.read("flash");
    flash[0x4000..0xC000].copy_from_slice(&pair);
    bench.put("flash", flash);
    assert_eq!(bench.device(&["recover"])["target"], "Photon v0.7.0 and later");
}

#[test]
fn values_are_got_and_secrets_have_to_be_asked_for() {
    let bench = Bench::new("dct");
    bench.vector("app_v0.4.0.bin");
    let get = |names: &[&str]| bench.plain(&[&["get", "--file", "app_v0.4.0.bin"], names].concat());
    assert_eq!(get(&["ssid_prefix", "claimed"]), (0, "Photon\ntrue\n".to_owned(), String::new()));
    assert_eq!(get(&["claim_code"]).0, 64);
    assert_eq!(get(&["claim_code", "--secrets"]).1.trim_end().len(), 63);
    let (code, _, message) = get(&["ip_config.hosts"]);
    assert!(code == 64 && message.contains("ip_config.host"), "{message}");
    assert_eq!(get(&["device_private_key", "--raw", "key"]).0, 0);
    assert!(bench.read("key") == vector("app_v0.4.0.bin")[34..1250]);
    assert_eq!(get(&["device_private_key", "--raw", "key"]).0, 73);
}

#[test]
fn differences_are_named_and_secrets_are_not_shown() {
    let bench = Bench::new("dct");
    bench.vector("app_v2.3.1.bin");
    bench.ok(&["set", "-f", "app_v2.3.1.bin", "-o", "b", "ip_config.host=10.1.2.3", "claim_code=unset"]);
    let found = bench.ok(&["diff", "app_v2.3.1.bin", "b"]);
    let names: Vec<_> =
        found["differences"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ip_config.host", "claim_code"]);
    assert_eq!(found["differences"][0]["second"], "10.1.2.3");
    assert_eq!(found["differences"][1]["first"], Value::Null);
    let (_, text, _) = bench.plain(&["diff", "app_v2.3.1.bin", "b"]);
    assert!(text.contains("hidden, 63 bytes") && text.contains("unset"), "{text}");
    assert!(bench.plain(&["diff", "b", "b"]).1.contains("the same values"));
    // Both sectors of one dump, and a dump with the device.
    bench.vector("photon_3_new_first.bin");
    assert_eq!(bench.ok(&["diff", "photon_3_new_first.bin"])["first"], "DCT1");
    assert!(!bench.device(&["diff", "b"])["differences"].as_array().unwrap().is_empty());
}

/// A device or the host tool made sense of these, but not the sense that was meant.
#[test]
fn odd_addresses_are_explained_where_they_are() {
    let bench = Bench::new("dct");
    let inspect = Bench::new("inspect");
    let keys = Bench::new("keys");
    let mut app = vector("app_v0.4.0.bin");
    let block = |front: &[u8], fill: u8| {
        let mut block = [0xFF; 128];
        block[2..].fill(fill);
        block[..front.len()].copy_from_slice(front);
        block
    };
    for (address, problem, remark) in [
        (block(b"\x01\x64", b'a'), Some("has 100 bytes and runs over the port"), None),
        (block(b"\x01\xc8", b'a'), Some("length byte 200"), None),
        (block(b"\x01\x00", 0xFF), Some("is empty"), None),
        (block(b"\x00\x03\x00\x01\x02\x00", 0xFF), None, Some("length 3 in place of 4")),
        (block(b"\x01\x0fdevice.spark.io\x00", 0xFF), None, None),
    ] {
        app[2466..2594].copy_from_slice(&address);
        inspect.put("app", &app);
        bench.put("app", &app);
        let report = inspect.json(&["app"], if problem.is_some() { 65 } else { 0 });
        let problems = report["problems"].as_array().unwrap();
        let remarks = report["remarks"].as_array().unwrap();
        assert_eq!(
            (problems.len(), remarks.len()),
            (problem.iter().count(), remark.iter().count()),
            "{report:#}"
        );
        for (said, found) in [(problem, problems), (remark, remarks)] {
            if let Some(said) = said {
                assert_eq!(found[0]["offset"], 2466);
                let message = found[0]["message"].as_str().unwrap();
                assert!(
                    message.starts_with("server_public_key.address: ") && message.contains(said),
                    "{message}"
                );
            }
        }
        let (_, shown, _) = bench.plain(&["show", "app"]);
        assert!(remark.is_none_or(|remark| shown.contains(remark)), "{shown}");
        let (_, text, _) = inspect.plain(&["app"]);
        assert!(remark.is_none_or(|remark| text.contains(remark)), "{text}");
        // The same in a file of the host tool.
        inspect.put("region", &app[2082..2594]);
        let (_, text, _) = inspect.plain(&["region"]);
        let said = problem.or(remark).unwrap_or_default();
        assert!(text.contains(said), "{text}");
    }
    // Both sectors of a table are no key.
    keys.put("pair", vector("photon_4_new_second.bin"));
    let (code, _, message) = keys.fails(&["check", "pair"]);
    assert!(code == 65 && message.contains("sectors of a configuration table"), "{message}");
}

#[test]
fn own_tables_are_recognised() {
    let bench = Bench::new("dct");
    let inspect = Bench::new("inspect");
    let mut ec = vector("keys/ec_p256.sec1.der");
    ec.resize(192, 0xFF);
    bench.put("ec", &ec);
    bench.put("server", vector("keys/particle_server_ec_spki_91.der"));
    for version in ["0.4.4", "0.6.4", "0.7.0", "2.3.1"] {
        let build = ["build", "--force", "--firmware", version, "-o", "out"];
        for (values, valid) in [
            (&["ssid_prefix=Photon"][..], true),
            // Claimed, and without the key that it was claimed with.
            (&["claimed=true"], false),
            (&["version_string=mine", "product_store.3=7"], true),
        ] {
            bench.ok(&[&build[..], values].concat());
            inspect.put("out", bench.read("out"));
            let report = inspect.json(&["out"], if valid { 0 } else { 65 });
            assert_eq!((&report["kind"], &report["valid"]), (&"dct-app".into(), &valid.into()), "{report:#}");
        }
    }
    // The third generation has keys for UDP only, in a file of its own length or in what is read over USB.
    let keys = ["build", "--force", "-o", "out", "alt_device_private_key=@ec", "claimed=true"];
    bench.ok(&keys);
    let mut gen3 = bench.read("out");
    for len in [8391, 16384] {
        gen3.resize(len, 0xFF);
        inspect.put("out", &gen3);
        assert_eq!(inspect.ok(&["out"])["kind"], "dct-app", "{len}");
    }
    // Nothing else of that length.
    for other in [vec![0xFF; 8391], vec![0; 8391], (0..8391_u32).map(|at| (at * at % 251) as u8).collect()] {
        inspect.put("other", other);
        assert_ne!(inspect.json(&["other"], 65)["kind"], "dct-app");
    }
}

#[test]
fn private_key_is_not_shown_wherever_it_is() {
    let bench = Bench::new("dct");
    bench.vector("app_v2.3.1.bin");
    let key = vector("keys/rsa1024_610.der");
    bench.put("key", &key);
    bench.put("ec", vector("keys/ec_p256.sec1.der"));
    bench.put("ec.pem", vector("keys/ec_p256.pem"));
    // Also if it does not begin where the field does, or its beginning is damaged.
    bench.put("damaged", [&[0xFF], &key[1..]].concat());
    bench.put("behind", [&[0; 4], &key[..]].concat());
    let wide: Vec<u8> = vector("keys/ec_p256.pem").iter().flat_map(|byte| [*byte, 0]).collect();
    bench.put("wide", &wide[..wide.len().min(768)]);
    let inspect = Bench::new("inspect");
    for (assignment, field, at) in [
        ("server_public_key=@key", "server_public_key.key", 2082),
        ("server_public_key.tail=@ec", "server_public_key.tail", 2594),
        ("server_public_key=@ec.pem", "server_public_key.key", 2082),
        ("server_public_key=@damaged", "server_public_key.key", 2082),
        ("server_public_key=@behind", "server_public_key.key", 2082),
        ("server_public_key=@wide", "server_public_key.key", 2082),
        ("alt_server_public_key=@ec", "alt_server_public_key", 3298),
    ] {
        let (_, set, _) = bench.plain(&["set", "--force", "-f", "app_v2.3.1.bin", "-o", "out", assignment]);
        let secret = hex(&bench.read("out")[at + 40..at + 60]);
        inspect.put("out", bench.read("out"));
        for text in [
            set,
            bench.plain(&["show", "out"]).1,
            bench.ok(&["show", "out"]).to_string(),
            bench.plain(&["diff", "app_v2.3.1.bin", "out"]).1,
            bench.ok(&["diff", "app_v2.3.1.bin", "out"]).to_string(),
            bench.plain(&["get", field, "--file", "out"]).2,
            inspect.plain(&["out", "--json"]).1,
        ] {
            assert!(!text.contains(&secret) && text.contains(field.split('.').next().unwrap()), "{text}");
        }
        assert_eq!(bench.fails(&["get", field, "--file", "out"]).0, 64, "{assignment}");
        assert!(bench.plain(&["get", field, "--file", "out", "--secrets"]).1.contains(&secret));
    }
    // The other half of the key is in the part behind it.
    bench.ok(&["set", "--force", "-f", "app_v2.3.1.bin", "-o", "out", "server_public_key=@key"]);
    let shown = bench.plain(&["show", "out"]).1;
    assert!(!shown.contains(&hex(&key[384..400])) && !shown.contains(&hex(&key[512..528])), "{shown}");
}
