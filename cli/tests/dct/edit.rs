//! `spark dct set` and `spark dct build`.

use crate::bench::Bench;
use crate::tables::{Vectors, hex, value, vector};
use serde_json::Value;
use spark_dct::App;
use spark_dct::wiced::{Generation, Sectors};

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

/// A field and parts of it in one command, in any order.
#[test]
fn part_is_set_in_its_field_and_nothing_twice() {
    let bench = Bench::new("dct");
    bench.vector("app_v2.3.1.bin");
    bench.put("server.der", vector("keys/server2048.spki.der"));
    let (field, part) = ("server_public_key=@server.der", "server_public_key.address=foo.example");
    for (out, assignments) in [("one", [field, part]), ("two", [part, field])] {
        let set = [&["set", "-f", "app_v2.3.1.bin", "-o", out], &assignments[..]].concat();
        bench.ok(&set);
        let got = bench.ok(&["get", "server_public_key.address", "--file", out]);
        assert_eq!(value(&got, "server_public_key.address"), "foo.example", "{assignments:?}");
        assert!(bench.read(out)[2082..].starts_with(&vector("keys/server2048.spki.der")));
    }
    // A switch and its integer are in the same place.
    let (integer, switch) = ("power_config.flags=0", "power_config.flags.disabled=true");
    for assignments in [[integer, switch], [switch, integer]] {
        bench.ok(&[&["set", "-f", "app_v2.3.1.bin", "--force", "-o", "flags"], &assignments[..]].concat());
        let got = bench.ok(&["get", "power_config.flags.disabled", "--file", "flags"]);
        assert_eq!(value(&got, "power_config.flags.disabled"), "on", "{assignments:?}");
    }
    for twice in [["claimed=true", "claimed=false"], [part, part]] {
        let set = [&["set", "-f", "app_v2.3.1.bin", "-o", "no"], &twice[..]].concat();
        let (code, _, message) = bench.fails(&set);
        assert!(code == 64 && message.contains("given twice"), "{message}");
        assert_eq!(bench.fails(&[&["build", "-o", "no"], &twice[..]].concat()).0, 64);
    }
    assert!(!bench.path("no").exists());
}

/// What a Photon's sectors have besides the table.
#[test]
fn built_pair_keeps_what_is_besides_the_table_or_says_that_it_does_not() {
    use spark_dct::wiced::{AccessPoint, MfgText, SectorMut, SectorView, WifiSecurity};
    let bench = Bench::new("dct");
    let mut pair = vector("photon_0_factory.bin");
    let mut edit = SectorMut::new(pair.first_chunk_mut().unwrap());
    let home = AccessPoint::new(b"home", WifiSecurity::WPA2_AES, b"password").unwrap();
    edit.wifi_config().set_access_point(0, &home).unwrap();
    edit.set_mfg_text(MfgText::Manufacturer, b"Somebody").unwrap();
    let header = pair[..388].to_vec();
    bench.put("pair", &pair);
    for firmware in ["0.6.4", "1.0.0"] {
        let built = bench.ok(&[
            "build",
            "--from",
            "pair",
            "--pair",
            "photon",
            "--firmware",
            firmware,
            "--force",
            "-o",
            "out",
            "claimed=true",
        ]);
        assert_eq!(built["dropped"], serde_json::json!([]));
        let out = bench.read("out");
        let view = SectorView::new(out.first_chunk().unwrap());
        assert_eq!(view.wifi_config().access_point(0), Some(home), "{firmware}");
        assert_eq!(out[388..7548], pair[388..7548], "{firmware}");
        assert_eq!(out[..388], header, "{firmware}");
        assert_eq!(value(&bench.ok(&["get", "claimed", "--file", "out"]), "claimed"), "true");
    }
    let named = ["manufacturing information", "Wi-Fi credentials"];
    for arguments in [&[][..], &["--pair", "electron"]] {
        let build = [&["build", "--from", "pair", "--force", "-o", "out"], arguments].concat();
        assert_eq!(bench.ok(&build)["dropped"], serde_json::json!(named), "{arguments:?}");
        let (code, text, _) = bench.plain(&build);
        assert!(code == 0 && named.iter().all(|name| text.contains(&format!("{name}: left out"))), "{text}");
    }
}

/// As `spark keys server` does it.
#[test]
fn bare_server_key_leaves_the_address() {
    const ADDRESS: &str = "server_public_key.address";
    let bench = Bench::new("dct");
    let key = vector("keys/server2048.spki.der");
    bench.put("key", &key);
    let key_only = "server_public_key=@key";
    let address_in = |file: &str| value(&bench.ok(&["get", ADDRESS, "--file", file]), ADDRESS).clone();
    bench.device(&["show"]);
    bench.device(&["set", "server_public_key.address=cloud.example:8080"]);
    bench.device(&["set", key_only]);
    assert_eq!(value(&bench.device(&["show"]), ADDRESS), "cloud.example:8080");
    assert!(bench.table()[2082..].starts_with(&key));

    // Where there is none, it has to be given.
    bench.device(&["set", "server_public_key.address=unset"]);
    let flash = bench.read("flash");
    let (code, message) = bench.device_fails(&["set", key_only]);
    assert!(code == 64 && message.contains("server_public_key.address=HOST"), "{message}");
    assert!(bench.read("flash") == flash);
    let (code, _, message) = bench.fails(&["build", key_only, "-o", "none"]);
    assert!(code == 64 && message.contains("server_public_key.address=HOST"), "{message}");
    assert!(!bench.path("none").exists());
    bench.ok(&["build", key_only, "server_public_key.address=10.0.0.1", "-o", "given"]);
    assert_eq!(address_in("given"), "10.0.0.1");
    bench.ok(&["build", key_only, "--force", "-o", "forced"]);
    assert_eq!(address_in("forced"), Value::Null);

    // The vendor's is known.
    bench.put("vendor", spark_keys::BundledKey::ParticleRsa.spki());
    bench.ok(&["build", "server_public_key=@vendor", "-o", "of_vendor"]);
    assert_eq!(address_in("of_vendor"), "device.spark.io");

    // A whole region replaces all.
    let mut region = vec![0xFF; 512];
    region[..key.len()].copy_from_slice(&key);
    region[384..389].copy_from_slice(b"\x01\x03own");
    bench.put("region", &region);
    bench.ok(&["set", "-f", "given", "server_public_key=@region", "-o", "replaced"]);
    assert_eq!(address_in("replaced"), "own");
    region[384..].fill(0xFF);
    bench.put("region", &region);
    bench.ok(&["set", "-f", "given", "server_public_key=@region", "-o", "erased"]);
    assert_eq!(address_in("erased"), Value::Null);
}

fn warnings(done: &Value) -> Vec<&str> {
    done["warnings"].as_array().unwrap().iter().map(|warning| warning["name"].as_str().unwrap()).collect()
}

/// Each is written as it was asked for, and said.
#[test]
fn values_that_no_firmware_reads_are_warned_of() {
    let bench = Bench::new("dct");
    bench.vector("app_v2.3.1.bin");
    bench.vector("photon_4_new_second.bin");
    bench.vector("photon_2_old_swapped.bin");
    bench.vector("electron_2_v2_second.bin");
    let (reset, transport) = ("system_flags.factory_reset=requested", "cloud_transport=tcp");
    let flag = "system_flags.factory_reset";
    for (file, firmware, value, expected) in [
        ("app_v2.3.1.bin", Some("2.3.1"), reset, &[flag][..]),
        ("app_v2.3.1.bin", Some("0.7.0"), reset, &[flag]),
        ("app_v2.3.1.bin", Some("0.6.4"), reset, &[]),
        ("app_v2.3.1.bin", None, reset, &[]),
        ("photon_4_new_second.bin", None, reset, &[flag]),
        ("photon_2_old_swapped.bin", None, reset, &[]),
        ("electron_2_v2_second.bin", None, reset, &[flag]),
        ("photon_4_new_second.bin", None, transport, &["cloud_transport"]),
        ("electron_2_v2_second.bin", None, transport, &[]),
    ] {
        let mut set = vec!["set", "-f", file, "-o", "out", "--force", value];
        set.extend(firmware.iter().flat_map(|version| ["--firmware", version]));
        assert_eq!(warnings(&bench.ok(&set)), expected, "{file} {firmware:?} {value}");
    }
    let set = ["set", "-f", "photon_4_new_second.bin", "-o", "out", "--force", reset];
    let (_, _, said) = bench.plain(&set);
    assert!(said.contains("warning: system_flags.factory_reset: "), "{said}");
    assert_eq!(warnings(&bench.ok(&["build", "--force", "-o", "out", reset])), [flag]);
    assert_eq!(warnings(&bench.device(&["set", transport, "--dry-run"])), ["cloud_transport"]);
    assert_eq!(warnings(&bench.device(&["set", reset, "--firmware", "2.3.1", "--dry-run"])), [flag]);

    for (values, expected) in [
        (&["power_config.flags.disabled=on"][..], &["power_config"][..]),
        (&["power_config.version=0", "power_config.size=32"], &["power_config"]),
        (&["power_config.version=0", "power_config.size=32", "power_config.flags.disabled=off"], &[]),
    ] {
        let build = [&["build", "--force", "-o", "out"], values].concat();
        assert_eq!(warnings(&bench.ok(&build)), expected, "{values:?}");
    }

    bench.put("key", vector("keys/server2048.spki.der"));
    for (address, expected) in [("device.spark.io", &["server_public_key"][..]), ("own.example", &[])] {
        let address = format!("server_public_key.address={address}");
        let build = ["build", "--force", "-o", "out", "server_public_key=@key", &address];
        assert_eq!(warnings(&bench.ok(&build)), expected, "{address}");
    }
}

#[test]
fn port_is_refused_for_firmware_that_has_none() {
    let bench = Bench::new("dct");
    for (firmware, address, code) in [
        ("0.4.5", "h.example:9999", 64),
        ("0.4.7", "10.0.0.1:9999", 64),
        ("0.4.5", "h.example:5683", 0),
        ("0.4.5", "h.example", 0),
        ("0.4.9", "h.example:9999", 0),
    ] {
        let address = format!("server_public_key.address={address}");
        let build = ["build", "--force", "--firmware", firmware, "-o", "out", &address];
        let (found, _, message) = bench.plain(&build);
        assert_eq!(found, code, "{firmware} {address}: {message}");
        assert!(code == 0 || message.contains("5683") && message.contains("9999"), "{message}");
    }
    bench.vector("app_v0.4.0.bin");
    let set = ["set", "-f", "app_v0.4.0.bin", "-o", "no", "--firmware", "0.4.5"];
    assert_eq!(bench.fails(&[&set[..], &["server_public_key.address=h.example:9999"]].concat()).0, 64);
    assert!(!bench.path("no").exists());
}

#[test]
fn fields_of_newer_firmware_are_neither_shown_nor_set_in_part() {
    let bench = Bench::new("dct");
    bench.vector("app_v0.4.0.bin");
    let all = bench.ok(&["show", "app_v0.4.0.bin", "--all"]);
    assert_eq!(value(&all, "eap_config.type"), &Value::Null);
    let shown = bench.ok(&["show", "app_v0.4.0.bin"]);
    let names = shown["entries"].as_array().unwrap();
    assert!(
        !names.iter().any(|entry| entry["name"].as_str().unwrap().starts_with("eap_config")),
        "{names:?}"
    );
    for part in ["type=tls", "inner_identity=bob", "ca_certificate=00"] {
        let value = format!("eap_config.{part}");
        let (code, _, message) = bench.fails(&["set", "-f", "app_v0.4.0.bin", "-o", "out", &value]);
        assert!(code == 64 && message.contains("older firmware"), "{value}: {message}");
    }
    assert!(!bench.path("out").exists());
    assert_eq!(bench.fails(&["get", "eap_config.type", "-f", "app_v0.4.0.bin", "--raw", "raw"]).0, 65);

    // A device shows as many bytes whatever its firmware is.
    bench.device(&["show"]);
    let mut flash = bench.read("flash");
    flash[0x4000..0xC000].copy_from_slice(&vector("photon_2_old_swapped.bin"));
    bench.put("flash", &flash);
    let (code, message) = bench.device_fails(&["set", "eap_config.inner_identity=bob"]);
    assert!(code == 64 && message.contains("eap_config.inner_identity"), "{message}");
    assert!(bench.read("flash") == flash);
}

#[test]
fn field_that_was_missing_for_two_releases_is_said_to_come_back() {
    let bench = Bench::new("dct");
    bench.vector("app_v2.3.1.bin");
    let value = "ext_low_speed_clock_disable=disabled";
    for (version, with) in [("2.0.1", "came with v2.0.2"), ("2.1.0", "left out until v2.3.0")] {
        let set = ["set", "-f", "app_v2.3.1.bin", "-o", "out", "--firmware", version, value];
        let (code, _, message) = bench.fails(&set);
        assert!(code == 64 && message.contains(with), "{message}");
        let (code, _, message) = bench.fails(&["build", "-o", "out", "--firmware", version, value]);
        assert!(code == 64 && message.contains(with), "{message}");
    }
}

#[test]
fn places_and_backups_have_the_whole_name() {
    let bench = Bench::new("dct");
    let values = ["flash_modules.1.magic=used", "server_public_key.address=own.example"];
    let set = bench.device(&[&["set"], &values[..], &["--force", "--backup", "kept"]].concat());
    let names: Vec<_> = set["writes"].as_array().unwrap().iter().map(|write| &write["segment"]).collect();
    assert_eq!(names, ["server_public_key.address", "flash_modules.1.magic"]);
    let again = bench.device(&["set", "flash_modules.1.magic=free", "--backup", "kept"]);
    assert!(again["writes"][0]["backup"].as_str().unwrap().contains("-flash_modules.1.magic-"), "{again}");
}
