//! `spark inspect` as a user runs it, over all vector files.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn vectors(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../dfu/tests/vectors")).join(path)
}

fn cases(list: &str) -> Vec<Value> {
    let list: Value = serde_json::from_slice(&std::fs::read(vectors(list)).unwrap()).unwrap();
    list["cases"].as_array().unwrap().clone()
}

fn spark(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_spark"))
        .arg("inspect")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that needs no input may end before it takes any.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// The report of `--json`, which agrees with the exit code and is all that is said.
fn inspect(arguments: &[&str], input: &[u8]) -> Value {
    let output = spark(&[arguments, &["--json"]].concat(), input);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let valid = report["valid"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(if valid { 0 } else { 65 }), "{report:#}");
    assert_eq!(report["problems"].as_array().unwrap().is_empty(), valid, "{report:#}");
    report
}

fn file(path: &str, arguments: &[&str]) -> Value {
    let path = vectors(path);
    inspect(&[&[path.to_str().unwrap()], arguments].concat(), b"")
}

fn codes(report: &Value) -> Vec<&str> {
    report["problems"].as_array().unwrap().iter().map(|problem| problem["code"].as_str().unwrap()).collect()
}

/// The number after a label in what dfu-suffix printed.
fn printed(text: &str, label: &str) -> Option<u64> {
    let word = text.split_once(label)?.1.split_whitespace().next()?;
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

#[test]
fn suffixes_are_shown_and_judged_as_dfu_suffix_does_it() {
    for case in cases("suffix_cases.json") {
        let (name, path) = (case["name"].as_str().unwrap(), case["file"].as_str().unwrap());
        let report = file(path, &["--as", "dfu-suffix"]);
        let check = &case["verdicts"]["dfu_suffix_check"];
        assert_eq!(report["kind"], "dfu-suffix");
        assert_eq!(report["valid"], check["exit"] == 0, "{name}");
        let text = check["stdout"].as_str().unwrap();
        if report["valid"] == true {
            for (field, label) in [
                ("bcd_device", "BCD device:"),
                ("id_product", "Product ID:"),
                ("id_vendor", "Vendor ID:"),
                ("bcd_dfu", "BCD DFU:"),
                ("length", "Length:"),
                ("crc", "CRC:"),
            ] {
                assert_eq!(report[field].as_u64(), printed(text, label), "{name}: {field}");
            }
        }
        let text = case["verdicts"]["dfu_prefix_check"]["stdout"].as_str().unwrap();
        let prefix = match &report["prefix"] {
            Value::Null => None,
            prefix => Some(prefix["type"].as_str().unwrap()),
        };
        assert_eq!(prefix == Some("lmdfu"), text.contains("TI Stellaris"), "{name}");
        assert_eq!(prefix == Some("lpc"), text.contains("LPC"), "{name}");
        if prefix == Some("lmdfu") {
            assert_eq!(report["prefix"]["address"].as_u64(), printed(text, "Address:"));
        }
    }
}

#[test]
fn every_suffix_file_has_its_codes() {
    for (name, kind, expected, payload_len) in [
        ("plain_0", "dfu-suffix", vec![], 0),
        ("photon_ids", "dfu-suffix", vec![], 64),
        ("spec_011a", "dfu-suffix", vec![], 64),
        ("lmdfu_prefix_suffix", "dfu-suffix", vec![], 64),
        ("lpc_prefix_suffix", "dfu-suffix", vec![], 1000),
        ("lmdfu_prefix", "dfu-suffix", vec!["bad-signature"], 64),
        ("lpc_prefix", "dfu-suffix", vec!["bad-signature"], 64),
        ("bad_crc", "dfu-suffix", vec!["bad-crc"], 64),
        ("bad_payload", "dfu-suffix", vec!["bad-crc"], 64),
    ] {
        let report = file(&format!("suffix/{name}.bin"), &[]);
        assert_eq!((&report["kind"], codes(&report)), (&json!(kind), expected), "{name}");
        assert_eq!(report["payload_len"], payload_len, "{name}");
    }
    for name in ["no_suffix_64", "empty", "too_short_15", "trailing_byte", "truncated_suffix", "bad_sig"] {
        let report = file(&format!("suffix/{name}.bin"), &[]);
        assert_eq!((&report["kind"], codes(&report)), (&json!("unknown"), vec!["unknown-kind"]), "{name}");
        let asked = file(&format!("suffix/{name}.bin"), &["--as", "dfu-suffix"]);
        let short = matches!(name, "empty" | "too_short_15");
        assert_eq!(codes(&asked), [if short { "too-short" } else { "bad-signature" }], "{name}");
        assert_eq!(asked["crc"], Value::Null);
    }
    let damaged = file("suffix/bad_crc.bin", &[]);
    assert_eq!((&damaged["id_vendor"], &damaged["problems"][0]["offset"]), (&json!(0x2B04), &json!(76)));
}

#[test]
fn dfuse_files_have_their_codes_and_still_show_what_can_be_read() {
    for (name, expected, elements) in [
        ("one_element", vec![], 1),
        ("three_elements", vec![], 3),
        ("two_targets", vec![], 2),
        ("photon_id", vec![], 1),
        ("unnamed", vec![], 1),
        ("alt_5", vec![], 1),
        ("micropython_one", vec![], 1),
        ("micropython_two", vec![], 2),
        ("bad_crc", vec!["bad-crc"], 1),
        ("bad_magic", vec!["bad-prefix-signature"], 0),
        ("version_2", vec!["bad-version"], 0),
        ("bad_target_sig", vec!["bad-target-signature"], 0),
        ("element_size_too_big", vec!["target-size-mismatch", "truncated"], 1),
        ("zero_targets", vec!["no-targets"], 0),
        ("two_targets_claimed", vec!["truncated"], 1),
        ("suffix_0100", vec!["suffix-version"], 1),
        ("truncated_half", vec!["truncated", "bad-signature"], 0),
    ] {
        let report = file(&format!("dfuse/{name}.dfu"), &[]);
        assert_eq!((&report["kind"], codes(&report)), (&json!("dfuse"), expected), "{name}");
        assert_eq!(report, file(&format!("dfuse/{name}.dfu"), &["--as", "dfuse"]));
        let targets = report["targets"].as_array().unwrap();
        let found: usize = targets.iter().map(|target| target["elements"].as_array().unwrap().len()).sum();
        assert_eq!(found, elements, "{name}");
    }
    assert_eq!(cases("dfuse_cases.json").len(), 17, "all of them are above");
}

#[test]
fn a_dfuse_file_is_explained_to_the_byte() {
    let report = file("dfuse/two_targets.dfu", &[]);
    let bytes = std::fs::read(vectors("dfuse/two_targets.dfu")).unwrap();
    let crc = |range: std::ops::Range<usize>| spark_ota::crc32(&bytes[range]);
    assert_eq!(
        report["targets"],
        json!([
            { "alt": 0, "name": "ST...", "size": 48, "element_count": 1,
              "elements": [{ "address": 0x080A_0000, "size": 40, "crc32": crc(293..333) }] },
            { "alt": 1, "name": "ST...", "size": 28, "element_count": 1,
              "elements": [{ "address": 34, "size": 20, "crc32": crc(615..635) }] },
        ])
    );
    assert_eq!((&report["image_size"], &report["image_size_includes_suffix"]), (&json!(651), &json!(true)));
    assert_eq!((&report["id_vendor"], &report["bcd_dfu"]), (&json!(0x0483), &json!(0x011A)));
    let cut = file("dfuse/element_size_too_big.dfu", &[]);
    let element = json!({ "address": 0x080A_0000, "size": 140, "crc32": null });
    assert_eq!(cut["targets"][0]["elements"], json!([element]));
    assert_eq!(cut["problems"][0]["offset"], 11);
    assert_eq!(file("dfuse/unnamed.dfu", &[])["targets"][0]["name"], Value::Null);
}

#[test]
fn a_dfuse_file_is_not_shown_as_another_kind_unless_asked() {
    let report = file("dfuse/one_element.dfu", &["--as", "dfu-suffix"]);
    assert_eq!((&report["valid"], &report["payload_len"]), (&json!(true), &json!(333)));
    let report = file("suffix/plain_64.bin", &["--as", "dfuse"]);
    assert_eq!(codes(&report), ["bad-prefix-signature", "suffix-version"]);
}

#[test]
fn layouts_of_devices_are_explained_from_standard_input() {
    for case in cases("memlayout_cases.json") {
        let text = case["string"].as_str().unwrap();
        let report = inspect(&["-"], format!("{text}\n").as_bytes());
        assert_eq!((&report["kind"], &report["valid"]), (&json!("memory-layout"), &json!(true)), "{text}");
        let theirs = &case["dfu_util_0_11"];
        assert_eq!(report["name"], theirs["name"]);
        assert_eq!(report["deviations"], json!([]), "{text}");
        let ours = report["segments"].as_array().unwrap();
        let theirs = theirs["segments"].as_array().unwrap();
        assert_eq!(ours.len(), theirs.len());
        for (our, their) in ours.iter().zip(theirs) {
            assert_eq!((&our["start"], &our["page_size"]), (&their["start"], &their["page_size"]), "{text}");
            assert_eq!(our["end"].as_u64().unwrap(), their["end_inclusive"].as_u64().unwrap() + 1);
            let bit = |name: &str| u64::from(our[name].as_bool().unwrap());
            let bits = bit("readable") | bit("erasable") << 1 | bit("writeable") << 2;
            assert_eq!(bits, their["type_bits"].as_u64().unwrap());
        }
    }
}

#[test]
fn broken_layouts_are_read_as_far_as_they_go() {
    let deviations = |text: &str| inspect(&["-"], text.as_bytes())["deviations"].clone();
    assert_eq!(deviations("@x/0x0/1*1Kg\0\0"), json!(["nul-padding"]));
    assert_eq!(deviations("@x/0x0/1*1Kg\u{5021}*"), json!(["trailing-garbage"]));
    assert_eq!(
        deviations("@/0x0/1*512g , 1*1Kg,"),
        json!([
            "missing-multiplier",
            "space-after-comma",
            "space-after-type",
            "trailing-comma",
            "empty-name"
        ])
    );
    let report = inspect(&["-"], b"@Flash/0x0/2*1Kg,1*000Kg,1*1Kg");
    assert_eq!(codes(&report), ["empty-segment"]);
    assert_eq!((&report["name"], &report["segments"][0]["pages"]), (&json!("Flash"), &json!(2)));
    for (text, code) in [
        ("x", "no-at-sign"),
        ("@x", "no-segment"),
        ("@x/0xFFFFFFFF/1*2 g", "beyond-address-space"),
        (&format!("@x/0x0/{}", "1*1 g,".repeat(65)), "too-many-segments"),
    ] {
        assert_eq!(codes(&inspect(&["-", "--as", "memory-layout"], text.as_bytes())), [code]);
    }
    let endless = format!("@x/0x0/1*1 g{}", "!".repeat(100_000));
    assert_eq!(codes(&inspect(&["-", "--as", "memory-layout"], endless.as_bytes())), ["too-long"]);
}

#[test]
fn a_large_file_from_standard_input_is_judged_like_a_small_one() {
    let mut bytes = vec![0x5A; 5_000_001];
    let suffix = spark_dfu::file::suffix::Suffix::new(0x2B04, 0xD006);
    let end = suffix.encode(&bytes);
    bytes.extend(end);
    let report = inspect(&["-"], &bytes);
    assert_eq!((&report["valid"], &report["payload_len"]), (&json!(true), &json!(5_000_001)));
    bytes[4_000_000] ^= 1;
    assert_eq!(codes(&inspect(&["-"], &bytes)), ["bad-crc"]);
}

#[test]
fn people_are_told_what_and_where() {
    let show = |path: &str| {
        let output = spark(&[vectors(path).to_str().unwrap()], b"");
        assert!(output.stderr.is_empty());
        String::from_utf8(output.stdout).unwrap()
    };
    let good = show("dfuse/one_element.dfu");
    assert!(good.contains("DfuSe file, valid"), "{good}");
    assert!(
        good.contains("vendor 0483, product df11") && good.contains("0x080a0000  40 bytes, CRC-32"),
        "{good}"
    );
    let bad = show("suffix/bad_crc.bin");
    assert!(
        bad.contains("NOT VALID") && bad.contains("problem bad-crc at byte 76: the file is damaged"),
        "{bad}"
    );
    assert!(show("suffix/lmdfu_prefix_suffix.bin").contains("TI LMDFU, address 0x2000"));
    assert!(show("suffix/empty.bin").contains("unknown-kind"));
}

#[test]
fn missing_files_and_unknown_kinds_have_their_exit_codes() {
    let code = |arguments: &[&str]| spark(arguments, b"").status.code().unwrap();
    assert_eq!(code(&["no-such-file.dfu"]), 66);
    assert_eq!(code(&[]), 64);
    assert_eq!(code(&["-", "--as", "poem"]), 64);
    assert_eq!(code(&["--help"]), 0);
    let output = spark(&["no-such-file.dfu", "--json"], b"");
    assert!(String::from_utf8(output.stderr).unwrap().contains("next: check the path"));
}

fn key_bytes(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../keys/tests/vectors");
    std::fs::read(PathBuf::from(folder).join(name)).unwrap()
}

fn key_file(name: &str) -> Value {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../keys/tests/vectors")).join(name);
    inspect(&[path.to_str().unwrap()], b"")
}

#[test]
fn private_keys_are_recognised_in_every_form_and_damage_is_named() {
    for (name, form, pem, der_len) in [
        ("rsa1024_608.der", "pkcs1-private", false, 608),
        ("rsa1024_608.pkcs1.pem", "pkcs1-private", true, 608),
        ("rsa1024_608.pkcs8.der", "pkcs8-private", false, 634),
        ("rsa1024_608.pkcs8.pem", "pkcs8-private", true, 634),
        ("field612_ff.bin", "pkcs1-private", false, 608),
        ("ec_p256.pem", "sec1-ec", true, 121),
        ("ec_p256.pkcs8.der", "pkcs8-ec", false, 138),
    ] {
        let report = key_file(name);
        let read = (&report["kind"], &report["form"], &report["pem"], &report["der_len"]);
        assert_eq!(read, (&json!("private-key"), &json!(form), &json!(pem), &json!(der_len)), "{name}");
        assert_eq!((&report["valid"], &report["device_compatible"]), (&json!(true), &json!(true)), "{name}");
        let algorithm = if name.starts_with("ec") { "ec-p256" } else { "rsa" };
        assert_eq!(report["algorithm"], algorithm, "{name}");
    }
    let fingerprint = "6d5f3f4d2b5489ec2a6aeeaab316a032b7693f266470bbb72ed0e6084bb4802f";
    assert_eq!(key_file("rsa1024_608.pkcs8.pem")["fingerprint"], fingerprint);

    let odd = key_file("rsa1024_606_short_dp.der");
    assert_eq!((&odd["valid"], &odd["device_compatible"]), (&json!(true), &json!(false)));
    assert_eq!(odd["remarks"], json!(["device-incompatible"]));
    let server = key_file("server2048.pem");
    assert_eq!((&server["valid"], &server["bits"]), (&json!(true), &json!(2048)));
    assert_eq!(server["device_compatible"], false);

    let cut = key_file("bad_truncated_at_300.der");
    assert_eq!((codes(&cut), &cut["kind"]), (vec!["truncated"], &json!("private-key")));
    let damaged = key_file("bad_d_bit.der");
    assert_eq!((&damaged["fingerprint"], &damaged["der_len"]), (&json!(fingerprint), &json!(608)));
    assert_eq!(codes(&damaged), ["private-exponent-mismatch"]);
    assert_eq!(codes(&key_file("bad_seq_len_minus1.der")), ["wrong-length"]);
}

#[test]
fn public_keys_and_regions_are_recognised_and_the_vendors_are_named() {
    for name in
        ["rsa1024_608.spki.der", "rsa1024_608.spki.pem", "rsa1024_608.pkcs1_pub.pem", "ec_p256.spki.der"]
    {
        let report = key_file(name);
        assert_eq!((&report["kind"], &report["valid"]), (&json!("public-key"), &json!(true)), "{name}");
        assert_eq!(report["server_key"], name.starts_with("ec"), "{name}");
    }
    let server = key_file("server2048.spki.pem");
    assert_eq!((&server["server_key"], &server["bundled"]), (&json!(true), &Value::Null));
    assert_eq!(key_file("particle_server_rsa_spki_294.der")["bundled"], "particle-rsa");

    let tcp = key_file("particle_server_rsa_512.der");
    assert_eq!((&tcp["kind"], &tcp["bundled"]), (&json!("server-key-region"), &json!("particle-rsa")));
    assert_eq!(tcp["address"], json!({ "type": "domain", "host": "device.spark.io", "port": null }));
    let udp = key_file("particle_server_ec_320.der");
    assert_eq!(
        (&udp["bundled"], &udp["address"]["host"]),
        (&json!("particle-ec"), &json!("$id.udp.particle.io"))
    );

    // One damaged bit of a header does not hide what they are.
    for (name, len, kind, code) in [
        ("server2048.spki.der", 512, "server-key-region", "server-key-unreadable"),
        ("server2048.spki.der", 294, "public-key", "damaged-key"),
        ("rsa1024_608.spki.der", 162, "public-key", "damaged-key"),
        ("ec_p256.spki.der", 320, "server-key-region", "server-key-unreadable"),
    ] {
        let mut damaged = key_bytes(name);
        damaged.resize(len, 0xFF);
        damaged[6] ^= 4;
        let report = inspect(&["-"], &damaged);
        assert_eq!((&report["kind"], codes(&report)[0]), (&json!(kind), code), "{name} {len}");
    }

    // Named, damaged ones are explained as well.
    let erased = inspect(&["-", "--as", "server-key-region"], &[0xFF; 512]);
    assert_eq!(codes(&erased), ["server-key-erased"]);
    let mixed = inspect(
        &["-", "--as", "public-key"],
        b"-----BEGIN PUBLIC KEY-----\nno base64!\n-----END PUBLIC KEY-----\n",
    );
    assert_eq!(codes(&mixed), ["unreadable"]);
}

#[test]
fn keys_behind_other_text_are_recognised() {
    let pem =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../keys/tests/vectors/rsa1024_608.pkcs8.pem"))
            .unwrap();
    for before in [&b"\xEF\xBB\xBF"[..], b"Private-Key: (1024 bit, 2 primes)\nmodulus:\n    00:b3\n"] {
        let report = inspect(&["-"], &[before, &pem].concat());
        let read = (&report["kind"], &report["valid"], &report["pem"], &report["remarks"]);
        assert_eq!(read, (&json!("private-key"), &json!(true), &json!(true), &json!([])), "{before:?}");
    }
    let bare =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../keys/tests/vectors/server2048.spki.der"))
            .unwrap();
    let report = inspect(&["-", "--as", "server-key-region"], &bare);
    assert_eq!(
        (&report["algorithm"], &report["address"], &report["valid"]),
        (&json!("rsa"), &Value::Null, &json!(true))
    );
}

#[test]
fn key_text_in_utf16_is_named_and_read_all_the_same() {
    let text = |name: &str| String::from_utf8(key_bytes(name)).unwrap().replace('\n', "\r\n");
    for (name, kind) in [("rsa1024_608.pkcs8.pem", "private-key"), ("server2048.spki.pem", "public-key")] {
        let plain = key_file(name);
        for (mark, order) in [
            (&[0xFF, 0xFE][..], u16::to_le_bytes as fn(u16) -> [u8; 2]),
            (&[0xFE, 0xFF], u16::to_be_bytes),
            (&[], u16::to_le_bytes),
            (&[], u16::to_be_bytes),
        ] {
            let wide: Vec<u8> = text(name).encode_utf16().flat_map(order).collect();
            let report = inspect(&["-"], &[mark, &wide].concat());
            assert_eq!(report["kind"], kind, "{mark:?}");
            // With its mark `spark keys` reads it, and `check` calls it good.
            if mark.is_empty() {
                assert_eq!((codes(&report), &report["remarks"]), (vec!["text-utf16"], &json!([])));
                let message = report["problems"][0]["message"].as_str().unwrap();
                assert!(message.contains("UTF-16") && message.contains("save it as UTF-8"), "{message}");
            } else {
                assert_eq!((&report["valid"], &report["remarks"]), (&json!(true), &json!(["text-utf16"])));
            }
            for field in ["fingerprint", "form", "pem", "der_len", "bits"] {
                assert_eq!(report[field], plain[field], "{name} {field}");
            }
        }
    }
    let other: Vec<u8> = "remember the milk".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(inspect(&["-"], &other)["kind"], "unknown");
}

#[test]
fn key_whose_first_byte_is_erased_is_no_key_for_the_device() {
    for (name, algorithm) in
        [("field612_ff.bin", "rsa"), ("rsa1024_608.der", "rsa"), ("ec_p256.field192.bin", "ec-p256")]
    {
        for erased in [1, 4] {
            let mut field = key_bytes(name);
            field[..erased].fill(0xFF);
            let report = inspect(&["-"], &field);
            let read = (&report["kind"], &report["algorithm"], &report["device_compatible"]);
            assert_eq!(read, (&json!("private-key"), &json!(algorithm), &json!(false)), "{name}");
            assert!(codes(&report).contains(&"head-erased"), "{name}: {report:#}");
        }
    }
    // Erased flash and what only begins like it are no keys.
    assert_eq!(inspect(&["-"], &[0xFF; 612])["kind"], "unknown");
    // The unknown bytes may be a key's place all the same, and this is who knows more.
    for (bytes, code) in [(vec![0xFF; 612], "erased"), (vec![0; 612], "zeroed"), (vec![0xFF; 192], "erased")]
    {
        let unknown = inspect(&["-"], &bytes);
        let message = unknown["problems"][0]["message"].as_str().unwrap();
        assert!(message.contains("`spark keys check FILE`"), "{message}");
        assert_eq!(codes(&inspect(&["-", "--as", "key"], &bytes)), [code]);
    }
    let other = inspect(&["-"], &[0xFF; 1300])["problems"][0]["message"].to_string();
    assert!(!other.contains("keys check"), "{other}");
    let broken = inspect(&["-"], &key_bytes("bad_tag_broken.der"));
    assert_eq!((&broken["kind"], codes(&broken)), (&json!("private-key"), vec!["broken-header"]));
    let mut noise: Vec<u8> = (0..612_u32).map(|i| (i * 37 % 251).to_le_bytes()[0]).collect();
    noise[0] = 0xFF;
    assert_eq!(inspect(&["-"], &noise)["kind"], "unknown");
}

#[test]
fn no_truncation_of_a_key_is_valid_or_ends_badly() {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../keys/tests/vectors/ec_p256.sec1.der"));
    let der = std::fs::read(path).unwrap();
    for len in 1..der.len() {
        assert_eq!(inspect(&["-"], &der[..len])["valid"], false, "{len}");
    }
}

fn table_file(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../dct/tests/vectors")).join(name)
}

#[test]
fn configuration_tables_are_recognised_and_secrets_stay_hidden() {
    let path = table_file("app_v0.4.0.bin");
    let app = inspect(&[path.to_str().unwrap()], b"");
    assert_eq!(
        (&app["kind"], &app["valid"], &app["length"]),
        (&json!("dct-app"), &json!(true), &json!(4260))
    );
    assert_eq!(
        (&app["fields"]["ssid_prefix"], &app["fields"]["claimed"]),
        (&json!("Photon"), &json!("true"))
    );
    assert_eq!(app["fields"]["device_private_key"], Value::Null);
    assert!(app["fields"].as_object().unwrap().contains_key("device_private_key"), "it is set");

    // A damaged key, and a name longer than its place.
    let mut image = std::fs::read(&path).unwrap();
    image[34 + 300] ^= 1;
    image[1826] = 200;
    let damaged = inspect(&["-"], &image);
    let problems = damaged["problems"].as_array().unwrap();
    let found: Vec<_> = problems.iter().map(|problem| problem["offset"].as_u64().unwrap()).collect();
    assert_eq!(found, [34, 1826], "{problems:?}");
    assert!(codes(&damaged).contains(&"malformed-value"));
    assert_eq!(codes(&inspect(&["-", "--as", "dct-app"], &[0; 100])), ["bad-length"]);
}

#[test]
fn flash_sectors_are_recognised_alone_and_in_a_whole_flash() {
    for (name, format, selected) in [
        ("photon_4_new_second.bin", "Wiced", "DCT2"),
        ("photon_2_old_swapped.bin", "Wiced", "DCT2"),
        ("electron_2_v2_second.bin", "Dcd", "DCT1"),
    ] {
        let bytes = std::fs::read(table_file(name)).unwrap();
        let mut flash = vec![0xFF; 0x10_0000];
        flash[0x4000..0xC000].copy_from_slice(&bytes);
        for (bytes, at) in [(&bytes, 0), (&flash, 0x4000)] {
            let report = inspect(&["-"], bytes);
            let read = (&report["kind"], &report["valid"], &report["sectors_at"]);
            assert_eq!(read, (&json!("dct-flash"), &json!(true), &json!(at)), "{name}: {report:#}");
            let sectors = report["sectors"].as_array().unwrap();
            assert!(sectors.iter().any(|sector| sector["format"] == format), "{name}");
            let selections = report["selections"].as_array().unwrap();
            assert_eq!(selections.last().unwrap()["sector"], selected, "{name}");
        }
    }
    // A flipped bit in a sector with a checksum.
    let mut bytes = std::fs::read(table_file("photon_4_new_second.bin")).unwrap();
    bytes[16384 + 9000] ^= 1;
    let report = inspect(&["-"], &bytes);
    assert!(codes(&report).contains(&"bad-crc"), "{report:#}");
    assert_eq!(report["problems"][0]["offset"], 16384);
    assert_eq!(codes(&inspect(&["-", "--as", "dct-flash"], &[0xFF; 32768])), ["no-table"]);
    assert_eq!(codes(&inspect(&["-", "--as", "dct-flash"], &[0xFF; 32767])), ["bad-length"]);
}
