//! `spark keys check`.

use crate::bench::{Bench, ID};
use crate::{Vectors, codes, text, vector};
use serde_json::Value;
use spark_cli::cloud::folder::read_device_key;
use std::fs::File;
use std::process::Command;

#[test]
fn check_of_a_file_says_what_the_device_would_do_with_it() {
    let bench = Bench::new("keys");
    for (file, works, expected) in [
        ("rsa1024_608.der", true, &[][..]),
        ("rsa1024_608.pkcs8.pem", true, &[]),
        ("rsa1024_608.openssl3_default.der", true, &["pkcs8-file"]),
        ("ec_p256.pkcs8.der", true, &["pkcs8-file"]),
        ("field612_stale_tail.bin", true, &["stale-tail"]),
        ("devgen_v050.bin", true, &["not-minimal"]),
        ("bad_d_bit.der", true, &["private-exponent-mismatch"]),
        ("bad_erased.der", false, &["erased"]),
        ("bad_modulus_bit.der", false, &["modulus-is-not-p-times-q"]),
        ("rsa1024_606_short_dp.der", false, &["device-incompatible"]),
        ("ec_p256.pem", true, &[]),
        ("ec_p256.field192.bin", true, &[]),
        ("server2048.spki.pem", true, &[]),
        ("particle_server_rsa_512.der", true, &[]),
    ] {
        bench.vector(file);
        let output = bench.run(&["check", file, "--json"]);
        let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
        let key = &checked["keys"][0];
        assert_eq!((&key["works"], codes(key)), (&Value::Bool(works), expected.to_vec()), "{file}");
        assert_eq!(output.status.code(), Some(if works { 0 } else { 65 }), "{file}");
    }
    let (_, out, _) = bench.plain(&["check", "rsa1024_608.openssl3_default.der"]);
    assert!(out.contains("works") && out.contains("pkcs8-file") && out.contains("keys load"), "{out}");
    // In a device's place PKCS#8 is wrong, whatever it is in a file.
    let mut field = vector("rsa1024_608.pkcs8.der");
    field.resize(700, 0xFF);
    bench.put("dump", field);
    let (code, out, _) = bench.fails(&["check", "dump"]);
    assert_eq!(code, 65);
    assert!(out.contains("pkcs8-in-rsa-field"), "{out}");
    let bad = bench.fails(&["check", "bad_modulus_bit.der"]).1;
    assert!(bad.contains("DOES NOT WORK") && bad.contains("cloud") && bad.contains("next"), "{bad}");
}

#[test]
fn check_compares_with_the_cloud_and_tells_an_interrupted_write() {
    let bench = Bench::new("keys");
    for file in ["rsa1024_608.der", "rsa1024_608.spki.pem", "rsa1024_609.der", "rsa1024_610.der"] {
        bench.vector(file);
    }
    bench.ok(&["check", "rsa1024_608.der", "--public-key", "rsa1024_608.spki.pem"]);
    let (code, out, _) = bench.fails(&["check", "rsa1024_609.der", "--public-key", "rsa1024_608.spki.pem"]);
    assert_eq!(code, 65);
    assert!(out.contains("cloud-key-mismatch"), "{out}");

    bench.vector("bad_and_of_two_keys.der");
    let candidates = ["--candidate", "rsa1024_608.der", "--candidate", "rsa1024_610.der"];
    let (code, out, _) = bench.fails(&[&["check", "bad_and_of_two_keys.der"], &candidates[..]].concat());
    assert_eq!(code, 65);
    assert!(out.contains("interrupted-write"), "{out}");
    assert_eq!(bench.fails(&["check", "rsa1024_608.der", "--candidate", "rsa1024_609.der"]).0, 64);

    // The older key with what the old tools wrote behind it, or with the end of a still older one.
    let old = vector("rsa1024_609.der");
    bench.put("old.pem", vector("rsa1024_608.pkcs1.pem"));
    for (behind, new) in [(&[0][..], "rsa1024_608.der"), (&[0x37, 0x51], "rsa1024_608.der"), (&[], "old.pem")]
    {
        let mut before = [&old[..], behind].concat();
        before.resize(612, 0xFF);
        let written = vector("rsa1024_608.der");
        let and = |(at, byte): (usize, &u8)| byte & written.get(at).unwrap_or(&0xFF);
        bench.put("field", before.iter().enumerate().map(and).collect::<Vec<_>>());
        bench.put("before", &before);
        let (_, out, _) = bench.fails(&["check", "field", "--candidate", "before", "--candidate", new]);
        assert!(out.contains("interrupted-write"), "{behind:?}: {out}");
        let (_, out, _) =
            bench.fails(&["check", "field", "--candidate", "rsa1024_610.der", "--candidate", new]);
        assert!(!out.contains("interrupted-write"), "{behind:?}: {out}");
        if behind == [0] {
            // Of the key file alone it is known how such tools pad.
            let (_, out, _) =
                bench.fails(&["check", "field", "--candidate", "rsa1024_609.der", "--candidate", new]);
            assert!(out.contains("interrupted-write"), "{out}");
        }
    }
}

#[test]
fn check_of_a_device_looks_at_both_keys_the_cache_the_address_and_the_cloud() {
    let bench = Bench::new("keys");
    bench.vector("rsa1024_608.der");
    bench.device(&["load", "rsa1024_608.der"]);
    bench.device(&["server", "--particle"]);
    let good = bench.device(&["check"]);
    assert_eq!((&good["ok"], text(&good["device_id"])), (&Value::Bool(true), ID));
    assert_eq!(text(&good["keys"][1]["bundled"]), "particle-rsa");

    // The cloud does not know it yet, then it does, then it knows another key.
    bench.cloud("cloud");
    assert_eq!(bench.device_fails(&["check", "--cloud", "cloud"]).0, 65);
    bench.device(&["send-ready", "--cloud", "cloud"]);
    // The device still has the vendor's key and address: it will not reach this cloud.
    let elsewhere = bench.json(&["check", "--cloud", "cloud", "--virtual", "flash"], 65);
    assert_eq!((&elsewhere["ok"], &elsewhere["keys"][0]["works"]), (&Value::Bool(false), &Value::Bool(true)));
    assert_eq!(codes(&elsewhere["keys"][0]), [""; 0]);
    assert_eq!(codes(&elsewhere["keys"][1]), ["cloud-server-key-mismatch"]);
    let (_, out, _) = bench.plain(&["check", "--cloud", "cloud", "--virtual", "flash"]);
    assert!(out.contains("the vendor's own, particle-rsa") && out.contains("--host"), "{out}");
    bench.device(&["server", "--cloud", "cloud", "--host", "10.0.0.1"]);
    bench.device(&["check", "--cloud", "cloud"]);
    // An address that reaches nothing, or the vendor's by default.
    let flash = bench.read("flash");
    let long = [&[1, 200][..], &[b'a'; 126]].concat();
    for block in
        [&[0, 4, 0, 0, 0, 0, 0, 0][..], &[1, 0], &[0; 128], &[&[1, 100][..], &[b'a'; 100]].concat(), &long]
    {
        bench.damage(2466, block);
        assert_eq!(bench.device_fails(&["check", "--cloud", "cloud"]).0, 65, "{block:?}");
        let cured = bench.json(&["doctor", "--cloud", "cloud", "--virtual", "flash"], 65);
        assert_eq!(cured["reaches_cloud"], false, "{block:?}: {cured}");
        bench.put("flash", &flash);
    }
    bench.vector("rsa1024_609.der");
    bench.ok(&["convert", "rsa1024_609.der", "other.pem", "--to", "spki"]);
    let (_, other) = read_device_key(&bench.read("other.pem")).unwrap();
    bench.open("cloud").enrol(ID.parse().unwrap(), &other).unwrap();
    assert_eq!(bench.device_fails(&["check", "--cloud", "cloud"]).0, 65);

    // Another key in the cache; server key and address erased.
    bench.damage(1250, &vector("rsa1024_608.spki.der"));
    bench.vector("rsa1024_610.der");
    bench.device(&["load", "rsa1024_610.der"]);
    bench.damage(2082, &[0xFF; 512]);
    let output = bench.run(&["check", "--virtual", "flash", "--json"]);
    assert_eq!(output.status.code(), Some(65));
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(codes(&checked["keys"][0]).contains(&"cache-mismatch"), "{checked}");
    assert_eq!(codes(&checked["keys"][1]), ["server-key-erased", "server-address-erased"]);
}

#[test]
fn device_that_cannot_connect_is_not_called_good() {
    let bench = Bench::new("keys");
    bench.device(&["server", "--particle"]);
    bench.device(&["check"]);
    let mut block = [0xFF; 128];
    block[..2].copy_from_slice(&[1, 90]);
    block[2..92].fill(b'a');
    for block in [block, [0; 128]] {
        bench.damage(2466, &block);
        let (code, out, _) = bench.plain(&["check", "--virtual", "flash"]);
        assert!(code == 65 && out.contains("server-address-unusable"), "{out}");
    }
}

#[test]
fn unfinished_exchange_is_no_mismatch() {
    let bench = Bench::new("keys");
    bench.cloud("cloud");
    bench.device(&["send-ready", "--cloud", "cloud"]);
    bench.device(&["server", "--cloud", "cloud", "--host", "10.0.0.1"]);
    bench.vector("rsa1024_608.der");
    bench.device(&["load", "rsa1024_608.der"]);
    assert_eq!(bench.device_fails(&["check", "--cloud", "cloud"]).0, 65);
    bench.open("cloud").stage(ID.parse().unwrap(), &vector("rsa1024_608.spki.der")).unwrap();
    let checked = bench.device(&["check", "--cloud", "cloud"]);
    assert_eq!(codes(&checked["keys"][0]), ["key-exchange-unfinished"]);
    bench.device(&["doctor", "--cloud", "cloud"]);
    assert_eq!(bench.recorded("cloud"), (Some(vector("rsa1024_608.spki.der")), None));
}

#[test]
fn next_step_for_what_came_over_standard_input_names_no_file() {
    let bench = Bench::new("keys");
    for (name, command) in [
        ("bad_p_bit.der", &["check", "-"][..]),
        ("rsa1024_606_short_dp.der", &["send-ready", "-"]),
        ("bad_p_bit.der", &["convert", "-", "out"]),
        ("bad_p_bit.der", &["load", "-", "--virtual", "flash"]),
    ] {
        bench.vector(name);
        let mut spark = Command::new(env!("CARGO_BIN_EXE_spark"));
        spark
            .arg("keys")
            .args(command)
            .current_dir(bench.path(""))
            .stdin(File::open(bench.path(name)).unwrap());
        let output = spark.output().unwrap();
        let all = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(65), "{command:?}: {all}");
        assert!(all.contains(" FILE`") && !all.contains(" -`") && !all.contains("-:"), "{command:?}: {all}");
    }
}
