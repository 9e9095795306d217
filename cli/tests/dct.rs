//! `spark dct` as a user runs it, on dumps and on the simulated Photon.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

mod bench;
mod tables;

use bench::Bench;
use serde_json::Value;
use spark_dct::wiced::{APP_OFFSET, Generation, Sectors};
use spark_dct::{App, Entry};
use tables::{Vectors, hex, value, vector};

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
fn setting_values_of_a_dump_changes_nothing_else() {
    let bench = Bench::new("dct");
    bench.vector("app_v2.3.1.bin");
    bench.ok(&[
        "set",
        "-f",
        "app_v2.3.1.bin",
        "-o",
        "out",
        "ip_config.host=10.1.2.3",
        "claimed=true",
        "ssid_prefix=Argon",
    ]);
    let (before, after) = (vector("app_v2.3.1.bin"), bench.read("out"));
    assert_eq!(after[1638..1642], [3, 2, 1, 10], "the last octet comes first");
    assert_eq!(after[1825], b'1');
    let allowed = |at: usize| (1638..1642).contains(&at) || at == 1825 || (1826..1852).contains(&at);
    assert!((0..before.len()).all(|at| before[at] == after[at] || allowed(at)));
    assert_eq!(bench.plain(&["set", "-f", "app_v2.3.1.bin", "-o", "out", "claimed=false"]).0, 73);

    for (assignment, code) in [
        ("ip_config.host=1.2.3", 64),
        ("claimed=maybe", 64),
        ("ssid_prefix=abcdefghijklmnopqrstuvwxyz", 64),
        ("no_such_field=1", 64),
        ("device_private_key=@app_v2.3.1.bin", 65),
        ("version", 64),
    ] {
        let (found, _, message) = bench.plain(&["set", "-f", "app_v2.3.1.bin", "-o", "other", assignment]);
        assert_eq!(found, code, "{assignment}: {message}");
        assert!(!bench.path("other").exists(), "{assignment}");
    }
    let old = [
        "set",
        "-f",
        "app_v2.3.1.bin",
        "-o",
        "other",
        "device_secret=ABCDEFGHIJKLMNO",
        "--firmware",
        "0.6.4",
    ];
    let (code, _, message) = bench.plain(&old);
    assert!(code == 64 && message.contains("v1.4.1"), "{message}");
}

#[test]
fn dump_of_both_sectors_is_changed_as_its_firmware_does_it() {
    let bench = Bench::new("dct");
    for (file, generation) in
        [("photon_2_old_swapped.bin", Generation::V0_4_4), ("photon_4_new_second.bin", Generation::V0_7_0)]
    {
        bench.vector(file);
        bench.ok(&["set", "-f", file, "-o", "out", "country_code=DE/0", "--force"]);
        let (before, after) = (vector(file), bench.read("out"));
        let (before, after) = (Sectors::from_slice(&before).unwrap(), Sectors::from_slice(&after).unwrap());
        let app = App::new(after.app(generation).unwrap()).unwrap();
        assert_eq!(app.country_code().unwrap().letters, *b"DE", "{file}");
        if generation == Generation::V0_7_0 {
            let old = before.current(generation).unwrap();
            assert_ne!(after.current(generation), Some(old));
            assert!(
                before.app_of(old) == &after.app_of(old)[..after.app_of(old).len()]
                    || before.app_of(old)[..8800] == after.app_of(old)[..8800],
                "the old generation stays"
            );
        }
    }
    bench.vector("electron_2_v2_second.bin");
    bench.ok(&["set", "-f", "electron_2_v2_second.bin", "-o", "dcd", "cloud_transport=udp"]);
    let shown = bench.ok(&["get", "cloud_transport", "--file", "dcd"]);
    assert_eq!(shown["table"]["selected"], "DCT2", "the other sector");
}

/// The table of older firmware ends at 4258, and its marks are in the sectors.
#[test]
fn device_with_older_firmware_gets_no_field_that_it_does_not_have() {
    let bench = Bench::new("dct");
    bench.device(&["show"]);
    let mut flash = bench.read("flash");
    flash[0x4000..0xC000].copy_from_slice(&vector("photon_2_old_swapped.bin"));
    bench.put("flash", &flash);
    let secret = "device_secret=ABCDEFGHIJKLMNO";
    for arguments in [
        &["set", secret][..],
        &["set", secret, "--dry-run"],
        &["set", "claimed=true", secret],
        &["set", secret, "--firmware", "0.6.4"],
    ] {
        let (code, message) = bench.device_fails(arguments);
        assert!(code == 64 && message.contains("device_secret"), "{message}");
        assert!(bench.read("flash") == flash, "{arguments:?}");
    }
    assert!(
        bench.device_fails(&["set", secret]).1.contains("Photon v0.4.4 to v0.6.4) the fields end at 4258")
    );
    bench.device(&["set", "claimed=true"]);
    // It was updated and did not write its table yet.
    bench.put("flash", &flash);
    bench.device(&["set", secret, "--firmware", "2.3.1"]);
    bench.device(&["set", "device_secret=OABCDEFGHIJKLMN"]);
}

#[test]
fn values_of_a_device_are_backed_up_written_and_read_back() {
    let bench = Bench::new("dct");
    let before = bench.device(&["show"]);
    assert_eq!(value(&before, "claimed"), "true");
    let set = bench.device(&["set", "claimed=false", "country_code=US/4", "--backup", "kept"]);
    let writes = set["writes"].as_array().unwrap();
    assert!(writes.len() == 2 && writes.iter().all(|write| write["changed"] == true), "{set}");
    let table = bench.table();
    let app = App::new(&table).unwrap();
    assert!(!app.claimed() && app.country_code().unwrap().letters == *b"US");
    // `claimed` had a value, the country code had none.
    let backup = |at: usize| writes[at]["backup"].as_str();
    assert_eq!(bench.read(backup(1).unwrap()), b"1", "in the order of addresses");
    assert_eq!(backup(0), None);

    let flash = bench.read("flash");
    let again = bench.device(&["set", "claimed=false", "--backup", "kept"]);
    assert_eq!(again["writes"][0]["changed"], false);
    bench.device(&["set", "claimed=true", "--dry-run"]);
    assert!(bench.read("flash") == flash, "neither an equal value nor a dry run is written");

    bench.put("bad.der", vector("keys/bad_p_bit.der"));
    let (code, _, message) = bench.plain(&["set", "device_private_key=@bad.der", "--virtual", "flash"]);
    assert!(code == 65 && message.contains("--force"), "{message}");
    assert!(bench.read("flash") == flash);
    // A server address can be set beside a key that is not there yet.
    bench.device(&["set", "server_public_key.address=cloud.example:8080"]);
    assert_eq!(value(&bench.device(&["show"]), "server_public_key.address"), "cloud.example:8080");
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

#[test]
fn tables_are_built_for_every_firmware_and_read_back() {
    let bench = Bench::new("dct");
    for (version, len) in [("0.4.4", 4258), ("0.6.4", 4258), ("0.7.0", 8391), ("2.3.1", 8391)] {
        let values = ["claimed=true", "ssid_prefix=Photon", "server_public_key.address=10.0.0.1:5683"];
        let build = |extra: &[&str]| {
            bench
                .ok(&[&["build", "--force", "--firmware", version, "-o", "out"], &values[..], extra].concat())
        };
        build(&[]);
        assert_eq!(bench.read("out").len(), len, "{version}");
        for pair in ["photon", "electron"] {
            build(&["--pair", pair]);
            assert_eq!(bench.read("out").len(), 32768);
            let shown = bench.ok(&["show", "out", "--firmware", version]);
            assert_eq!(value(&shown, "ssid_prefix"), "Photon", "{version} {pair}");
            assert_eq!(shown["table"]["selected"], "DCT1");
        }
    }
    let (code, _, message) =
        bench.plain(&["build", "--firmware", "0.4.4", "-o", "new", "device_secret=ABCDEFGHIJKLMNO"]);
    assert!(code == 64 && message.contains("v1.4.1"), "{message}");
    bench.vector("photon_4_new_second.bin");
    bench.ok(&["build", "--from", "photon_4_new_second.bin", "-o", "copy"]);
    assert_eq!(
        bench.ok(&["diff", "copy", "photon_4_new_second.bin"])["differences"],
        Value::Array(Vec::new())
    );
}

#[test]
fn field_of_a_device_is_written_with_all_of_its_bytes() {
    let bench = Bench::new("dct");
    bench.device(&["show"]);
    let field: Vec<u8> = (0..768_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    bench.put("field", &field);
    let set = bench.device(&["set", "server_public_key=@field", "--force"]);
    assert_eq!(set["writes"][0]["bytes"], 768, "{set}");
    assert!(bench.table()[2082..2850] == field);
    bench.damage(34, &[0x55; 1216]);
    bench.device(&["set", "server_public_key=unset", "device_private_key=unset", "--force"]);
    let table = bench.table();
    assert!(table[2082..2850].iter().chain(&table[34..1250]).all(|byte| *byte == 0xFF));
    assert_ne!(table[1250..], [0xFF; 7141], "nothing else was erased");

    // A field and its first part begin at the same place.
    bench.put("ip", (1..=24).collect::<Vec<u8>>());
    bench.device(&["set", "ip_config=@ip", "ip_config.mode=0"]);
    let mut expected: Vec<u8> = (1..=24).collect();
    expected[0] = 0;
    assert_eq!(bench.table()[1634..1658], expected);
}

/// Runs `spark dct` with a file as its standard input.
#[cfg(unix)]
fn piped(bench: &Bench, arguments: &[&str], input: &[u8]) -> std::process::Output {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut command = Command::new(env!("CARGO_BIN_EXE_spark"));
    command.arg("dct").args(arguments).current_dir(bench.path(""));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[cfg(unix)]
#[test]
fn standard_input_has_its_usual_name() {
    let bench = Bench::new("dct");
    bench.vector("photon_4_new_second.bin");
    let file = bench.read("photon_4_new_second.bin");
    for arguments in [
        &["show", "-"][..],
        &["get", "country_code", "--file", "-"],
        &["diff", "-"],
        &["recover", "-"],
        &["set", "claimed=false", "--file", "-", "-o", "out"],
    ] {
        let name =
            |argument: &&str| if *argument == "-" { "photon_4_new_second.bin" } else { *argument }.to_owned();
        let named: Vec<_> = arguments.iter().map(name).collect();
        let expected = bench.run(
            &named
                .iter()
                .map(String::as_str)
                .chain(["--force"].into_iter().filter(|_| arguments[0] == "set"))
                .collect::<Vec<_>>(),
        );
        let _ = std::fs::remove_file(bench.path("out"));
        let found = piped(&bench, arguments, &file);
        assert!(expected.status.success() && found.stdout == expected.stdout, "{arguments:?}");
    }
}

/// A rename takes the place of whatever is there.
#[cfg(unix)]
#[test]
fn output_takes_the_place_of_files_only() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let bench = Bench::new("dct");
    bench.vector("app_v2.3.1.bin");
    let set = |out: &str| bench.plain(&["set", "-f", "app_v2.3.1.bin", "-o", out, "claimed=true", "--force"]);
    assert!(std::process::Command::new("mkfifo").arg(bench.path("pipe")).status().unwrap().success());
    symlink("nowhere", bench.path("dangling")).unwrap();
    for out in ["pipe", "dangling"] {
        let (code, _, message) = set(out);
        assert!(code == 73 && message.contains(out), "{message}");
    }
    let build = ["build", "-o", "dangling", "claimed=true"];
    assert_eq!(bench.fails(&build).0, 73);
    assert!(bench.path("pipe").symlink_metadata().unwrap().file_type().is_fifo());
    assert!(bench.path("dangling").is_symlink() && !bench.path("nowhere").exists());
    bench.put("file", b"old");
    symlink("file", bench.path("link")).unwrap();
    assert_eq!(set("link").0, 0);
    assert!(bench.path("link").is_symlink() && bench.read("file").len() == 8391);
}

/// A dry run refuses what the real one refuses, with the same words.
#[cfg(unix)]
#[test]
fn dry_run_tells_where_nothing_can_be_written() {
    use std::os::unix::fs::symlink;
    let bench = Bench::new("dct");
    bench.vector("app_v2.3.1.bin");
    bench.vector("photon_4_new_second.bin");
    assert!(std::process::Command::new("mkfifo").arg(bench.path("pipe")).status().unwrap().success());
    symlink("nowhere", bench.path("dangling")).unwrap();
    symlink("pipe", bench.path("to-pipe")).unwrap();
    std::fs::create_dir(bench.path("folder")).unwrap();
    bench.put("file", b"old");
    let entries = || {
        let names = std::fs::read_dir(bench.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let before = entries();
    let both = |arguments: &[&str]| {
        let (code, _, message) = bench.plain(&[arguments, &["--dry-run"]].concat());
        assert_eq!(entries(), before, "{arguments:?}");
        let (real, _, said) = bench.plain(arguments);
        assert_eq!((code, &message), (real, &said), "{arguments:?}");
        assert_ne!(code, 0, "{arguments:?}");
        (code, message)
    };
    for (out, expected) in [
        ("pipe", 73),
        ("dangling", 73),
        ("to-pipe", 73),
        ("folder", 73),
        ("missing/out", 74),
        ("file/out", 74),
    ] {
        let (code, message) = both(&["set", "-f", "app_v2.3.1.bin", "-o", out, "claimed=true", "--force"]);
        assert!(code == expected && message.contains(out), "{code} {message}");
        both(&["recover", "photon_4_new_second.bin", "-o", out]);
        both(&["recover", "photon_4_new_second.bin", "--app", out]);
    }
    assert_eq!(both(&["set", "-f", "app_v2.3.1.bin", "-o", "file", "claimed=true"]).0, 73);
    // Where all is well, nothing is left behind.
    bench.ok(&["set", "-f", "app_v2.3.1.bin", "-o", "file", "claimed=true", "--force", "--dry-run"]);
    bench.ok(&["set", "-f", "app_v2.3.1.bin", "-o", "new", "claimed=true", "--dry-run"]);
    assert!(entries() == before && bench.read("file") == b"old");
}

#[cfg(unix)]
#[test]
fn dry_run_on_a_device_tells_when_nothing_can_be_kept() {
    let bench = Bench::new("dct");
    bench.device(&["set", "claimed=true"]);
    bench.put("file", b"");
    let set = ["set", "claimed=false", "--backup"];
    let flash = bench.read("flash");
    std::os::unix::fs::symlink("nowhere", bench.path("dangling")).unwrap();
    for folder in ["file", "file/kept", "dangling", "dangling/kept"] {
        let arguments = [&set[..], &[folder]].concat();
        let dry = bench.device_fails(&[&arguments[..], &["--dry-run"]].concat());
        assert!(dry.0 == 74 && dry.1.contains(folder), "{dry:?}");
        assert_eq!(dry, bench.device_fails(&arguments));
    }
    bench.device(&[&set[..], &["new/kept", "--dry-run"]].concat());
    assert!(!bench.path("new").exists() && bench.read("flash") == flash);
}

#[test]
fn table_for_older_firmware_says_what_it_leaves_out() {
    let bench = Bench::new("dct");
    bench.vector("app_v2.3.1.bin");
    let build = ["build", "--from", "app_v2.3.1.bin", "--firmware", "0.6.4", "-o"];
    let dropped = bench.ok(&[&build[..], &["one"]].concat())["dropped"].clone();
    for field in ["device_secret", "power_config"] {
        assert!(dropped.as_array().unwrap().contains(&field.into()), "{dropped}");
    }
    let (_, text, _) = bench.plain(&[&build[..], &["two"]].concat());
    assert!(text.contains("device_secret: left out"), "{text}");
    let same = ["build", "--from", "app_v2.3.1.bin", "-o", "three"];
    assert_eq!(bench.ok(&same)["dropped"], Value::Array(Vec::new()));
}

#[test]
fn cleared_values_are_not_set() {
    let bench = Bench::new("dct");
    let mut image = vector("app_v2.3.1.bin");
    image[1762] = 0;
    image[1758..1762].fill(0);
    bench.put("app", &image);
    let shown = bench.ok(&["show", "app", "--all"]);
    for name in ["claim_code", "country_code"] {
        let entry = shown["entries"].as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap();
        assert_eq!((&entry["set"], &entry["malformed"]), (&false.into(), &false.into()), "{entry}");
        assert_eq!(entry["value"], Value::Null);
    }
    assert!(!bench.plain(&["show", "app"]).1.contains("claim_code"));
    // What is left behind an erased first byte is still secret.
    image[1762] = 0xFF;
    bench.put("app", &image);
    assert_eq!(bench.fails(&["get", "claim_code", "--file", "app"]).0, 64);
    let rest = hex(&image[1770..1790]);
    for arguments in [&["show", "app", "--all"][..], &["show", "app", "--all", "--json"]] {
        assert!(!bench.plain(arguments).1.contains(&rest));
    }
    assert!(bench.plain(&["get", "claim_code", "--file", "app", "--secrets"]).1.contains(&rest));
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

#[cfg(unix)]
#[test]
fn file_that_can_be_read_once_is_read_once() {
    let bench = Bench::new("dct");
    let mut whole = vec![0x11; 0x10_0000];
    whole[0x4000..0xC000].copy_from_slice(&vector("photon_4_new_second.bin"));
    let set = piped(&bench, &["set", "-f", "/dev/stdin", "-o", "out", "country_code=DE/0"], &whole);
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    let out = bench.read("out");
    assert_eq!(out.len(), 0x10_0000);
    assert!(out[..0x4000] == whole[..0x4000] && out[0xC000..] == whole[0xC000..]);
    assert!(out[0x4000..0xC000] != whole[0x4000..0xC000]);

    bench.put("whole", &whole);
    let expected = bench.plain(&["diff", "whole"]).1;
    let found = piped(&bench, &["diff", "/dev/stdin"], &whole);
    assert_eq!(String::from_utf8_lossy(&found.stdout), expected);
    assert!(expected.contains("DCT2"), "{expected}");
}

#[test]
fn private_key_is_not_shown_wherever_it_is() {
    let bench = Bench::new("dct");
    bench.vector("app_v2.3.1.bin");
    let key = vector("keys/rsa1024_610.der");
    bench.put("key", &key);
    bench.put("ec", vector("keys/ec_p256.sec1.der"));
    bench.put("ec.pem", vector("keys/ec_p256.pem"));
    let inspect = Bench::new("inspect");
    for (assignment, field, at) in [
        ("server_public_key=@key", "server_public_key.key", 2082),
        ("server_public_key.tail=@ec", "server_public_key.tail", 2594),
        ("server_public_key=@ec.pem", "server_public_key.key", 2082),
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

#[cfg(unix)]
#[test]
fn files_are_read_no_further_than_what_fits() {
    let bench = Bench::new("dct");
    bench.vector("app_v2.3.1.bin");
    let set = ["set", "-f", "app_v2.3.1.bin", "-o", "out", "claimed=@/dev/zero"];
    let (code, _, message) = bench.fails(&set);
    assert!(code == 65 && message.contains("/dev/zero") && message.contains("1 bytes"), "{message}");
    let (code, _, message) = bench.fails(&["show", "/dev/zero"]);
    assert!(code == 65 && message.contains("/dev/zero") && message.contains("1048576"), "{message}");
    bench.vector("photon_4_new_second.bin");
    let written = ["recover", "photon_4_new_second.bin", "--written"];
    let (code, _, message) = bench.fails(&[&written[..], &["device_private_key=@/dev/zero"]].concat());
    assert!(code == 65 && message.contains("1216"), "{message}");
    let (code, _, message) = bench.fails(&[&written[..], &["device_private_key=@/dev/null"]].concat());
    assert!(code == 65 && message.contains("empty"), "{message}");
}
