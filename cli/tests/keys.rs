//! `spark keys` as a user runs it, on files and on the simulated Photon.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

mod bench;

use bench::{Bench, ID};
use serde_json::Value;
use spark_cli::cloud::folder::{Folder, read_device_key};
use spark_dct::segment::KeyAlgorithm;
use spark_dct::{App, ServerKeyRegion};
use std::fs;

/// Puts a vector file into the folder.
trait Vectors {
    fn vector(&self, name: &str);
    /// Makes the data folder of a cloud.
    fn cloud(&self, name: &str);
    /// Opens it.
    fn open(&self, name: &str) -> Folder;
    /// The device's recorded key and the one that is being written into it.
    fn recorded(&self, name: &str) -> (Option<Vec<u8>>, Option<Vec<u8>>);
    /// Damages a device that may not have been there yet.
    fn damage_device(&self, offset: usize, bytes: &[u8]);
}

impl Vectors for Bench {
    fn vector(&self, name: &str) {
        self.put(name, vector(name));
    }

    fn cloud(&self, name: &str) {
        Folder::open(&self.path(name), &mut rand::rng()).unwrap();
    }

    fn open(&self, name: &str) -> Folder {
        Folder::open_existing(&self.path(name)).unwrap()
    }

    fn recorded(&self, name: &str) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let (folder, id) = (self.open(name), ID.parse().unwrap());
        let spki = |key: Option<(rsa::RsaPublicKey, Vec<u8>)>| key.map(|(_, spki)| spki);
        (spki(folder.device_key(id).unwrap()), spki(folder.next_key(id).unwrap()))
    }

    fn damage_device(&self, offset: usize, bytes: &[u8]) {
        self.device(&["address"]);
        self.damage(offset, bytes);
    }
}

fn vector(name: &str) -> Vec<u8> {
    bench::vector("keys", name)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn new_key_is_written_in_three_files_that_agree_and_never_over_others() {
    let bench = Bench::new("keys");
    for (protocol, name, len) in [("tcp", "a", 600..612), ("udp", "b", 121..122)] {
        let made = bench.ok(&["new", name, "--protocol", protocol]);
        assert!(len.contains(&bench.read(&format!("{name}.der")).len()));
        for file in ["der", "pem"] {
            let file = format!("{name}.{file}");
            let converted = bench.ok(&["convert", &file, &format!("{file}.pub"), "--to", "spki", "--pem"]);
            assert_eq!(converted["fingerprint"], made["key"]["fingerprint"], "{file}");
            assert_eq!(bench.read(&format!("{file}.pub")), bench.read(&format!("{name}.pub.pem")));
        }
        let (code, _, message) = bench.fails(&["new", &format!("{name}.der"), "--protocol", protocol]);
        assert_eq!(code, 73);
        assert!(message.contains("--force"), "{message}");
        let again = bench.ok(&["new", name, "--protocol", protocol, "--force"]);
        assert_ne!(again["key"]["fingerprint"], made["key"]["fingerprint"]);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        for file in ["a.der", "a.pem", "b.der", "b.pem"] {
            assert_eq!(fs::metadata(bench.path(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
        }
    }
}

#[test]
fn every_form_of_a_key_is_converted_into_every_other_as_openssl_writes_it() {
    let bench = Bench::new("keys");
    let forms = [
        ("rsa1024_608.der", "pkcs1", false),
        ("rsa1024_608.pkcs1.pem", "pkcs1", true),
        ("rsa1024_608.pkcs8.der", "pkcs8", false),
        ("rsa1024_608.pkcs8.pem", "pkcs8", true),
        ("rsa1024_608.spki.der", "spki", false),
        ("rsa1024_608.spki.pem", "spki", true),
        ("rsa1024_608.pkcs1_pub.der", "pkcs1-public", false),
        ("rsa1024_608.pkcs1_pub.pem", "pkcs1-public", true),
    ];
    for (from, form, _) in forms {
        bench.vector(from);
        for (to, wanted, pem) in forms {
            let is_public = |form: &str| form == "spki" || form == "pkcs1-public";
            let arguments =
                ["convert", from, "out", "--force", "--to", wanted, if pem { "--pem" } else { "--der" }];
            if is_public(form) && !is_public(wanted) {
                assert_eq!(bench.fails(&arguments).0, 64, "{from} as {wanted}");
                continue;
            }
            bench.ok(&arguments);
            assert!(bench.read("out") == vector(to), "{from} as {wanted}");
        }
    }
    // The form that devices take, without being told; and the whole place in the device.
    bench.ok(&["convert", "rsa1024_608.pkcs8.pem", "device.der"]);
    assert!(bench.read("device.der") == vector("rsa1024_608.der"));
    bench.ok(&["convert", "rsa1024_608.pkcs8.pem", "field.bin", "--field"]);
    assert!(bench.read("field.bin") == vector("field612_ff.bin")[..612]);
    bench.vector("ec_p256.pem");
    bench.ok(&["convert", "ec_p256.pem", "ec.der"]);
    assert!(bench.read("ec.der") == vector("ec_p256.sec1.der"));
    bench.ok(&["convert", "ec_p256.pem", "ec.bin", "--field"]);
    assert!(bench.read("ec.bin") == vector("ec_p256.field192.bin"));
}

#[test]
fn key_is_loaded_backed_up_read_back_and_not_written_twice() {
    let bench = Bench::new("keys");
    bench.vector("rsa1024_610.der");
    bench.vector("rsa1024_608.pkcs8.pem");
    let first = bench.device(&["load", "rsa1024_610.der", "--backup", "kept"]);
    assert_eq!((&first["write"]["changed"], &first["write"]["bytes"]), (&Value::Bool(true), &612.into()));
    let backup = bench.read(text(&first["write"]["backup"]));
    assert!(spark_keys::check(&backup).is_clean(), "the key that the device had");

    // Nothing of the longer key stays behind the shorter one.
    let second = bench.device(&["load", "rsa1024_608.pkcs8.pem", "--backup", "kept"]);
    assert_eq!(bench.read(text(&second["write"]["backup"]))[..610], vector("rsa1024_610.der"));
    let table = bench.table();
    let field = App::new(&table).unwrap().device_private_key_field().to_vec();
    assert!(field[..608] == vector("rsa1024_608.der") && field[608..] == [0xFF; 4]);

    let before = bench.read("flash");
    let again = bench.device(&["load", "rsa1024_608.pkcs8.pem", "--backup", "kept"]);
    assert_eq!((&again["write"]["changed"], &again["write"]["backup"]), (&Value::Bool(false), &Value::Null));
    assert!(bench.read("flash") == before, "an equal key is not written");

    let dry = bench.device(&["load", "rsa1024_610.der", "--backup", "kept", "--dry-run"]);
    assert_eq!(
        (&dry["write"]["changed"], &dry["write"]["dry_run"]),
        (&Value::Bool(true), &Value::Bool(true))
    );
    assert!(bench.read("flash") == before);
    // Two keys, and each time both sectors, of which the first write ends the older one.
    assert_eq!(fs::read_dir(bench.path("kept")).unwrap().count(), 4);
}

#[test]
fn keys_that_the_device_could_not_use_are_refused_before_anything_is_written() {
    let bench = Bench::new("keys");
    bench.device(&["address"]);
    let before = bench.read("flash");
    for (file, why) in [
        ("bad_p_bit.der", "n"),
        ("bad_erased.der", "no key"),
        ("rsa1024_608.spki.der", "public"),
        ("server2048.pem", "2048"),
        ("ec_p256.pem", "udp"),
    ] {
        bench.vector(file);
        let (code, message) = bench.device_fails(&["load", file]);
        assert_eq!(code, 65, "{file}: {message}");
        assert!(message.contains(why), "{file}: {message}");
        assert!(bench.read("flash") == before, "{file}");
    }
    assert_eq!(bench.device_fails(&["load", "no-such-file"]).0, 66);
}

#[test]
fn saved_key_is_the_device_key_and_a_broken_one_is_kept_as_it_is() {
    let bench = Bench::new("keys");
    bench.vector("rsa1024_609.der");
    bench.device(&["load", "rsa1024_609.der"]);
    let saved = bench.device(&["save"]);
    assert_eq!(saved["der"], format!("{ID}.der"));
    assert!(bench.read(&format!("{ID}.der")) == vector("rsa1024_609.der"));
    assert_eq!(bench.device_fails(&["save"]).0, 73);
    bench.device(&["save", "--force"]);

    bench.damage(34, &vector("bad_and_of_two_keys.der"));
    let (code, message) = bench.device_fails(&["save", "broken"]);
    assert_eq!(code, 65);
    assert!(message.contains("keys check broken.bin"), "{message}");
    let kept = bench.read("broken.bin");
    assert!(kept.len() == 612 && kept.starts_with(&vector("bad_and_of_two_keys.der")[..600]));
    assert!(!bench.path("broken.der").exists());
}

#[test]
fn udp_key_goes_to_its_own_place() {
    let bench = Bench::new("keys");
    bench.vector("ec_p256.pkcs8.der");
    let loaded = bench.device(&["load", "ec_p256.pkcs8.der", "--protocol", "udp"]);
    assert_eq!(loaded["write"]["address"], 3106);
    let table = bench.table();
    assert!(table[3106..3106 + 192] == vector("ec_p256.field192.bin"));
    let saved = bench.device(&["save", "--protocol", "udp", "ec"]);
    assert_eq!(saved["key"]["algorithm"], "ecc");
    assert!(bench.read("ec.der") == vector("ec_p256.sec1.der"));
}

#[test]
fn public_key_is_made_ready_as_text_as_object_and_in_the_local_cloud() {
    let bench = Bench::new("keys");
    bench.vector("rsa1024_608.der");
    bench.device(&["load", "rsa1024_608.der"]);
    let ready = bench.device(&["send-ready"]);
    assert_eq!(text(&ready["deviceID"]), ID);
    assert_eq!(text(&ready["algorithm"]), "rsa");
    assert_eq!(text(&ready["publicKey"]).as_bytes(), vector("rsa1024_608.spki.pem"));
    assert_eq!(bench.device_fails(&["send-ready", "--cloud", "typo"]).0, 66);
    assert!(!bench.path("typo").exists(), "a mistyped folder is not a new cloud");
    bench.cloud("cloud");
    bench.device(&["send-ready", "--cloud", "cloud"]);
    assert_eq!(bench.recorded("cloud"), (Some(vector("rsa1024_608.spki.der")), None));
    // From the file, without a device.
    let file = bench.ok(&["send-ready", "rsa1024_608.der", "--id", ID]);
    assert_eq!(file, ready);

    bench.damage(34, &[0; 40]);
    assert_eq!(bench.device_fails(&["send-ready"]).0, 65);
}

#[test]
fn server_key_and_address_are_written_in_every_form() {
    let bench = Bench::new("keys");
    let region = |bench: &Bench| bench.table()[2082..2082 + 512].to_vec();
    for file in ["server2048.spki.der", "server2048.spki.pem", "server2048.pkcs1.der", "server2048.pem"] {
        bench.vector(file);
        bench.device(&["server", file, "--host", "cloud.example.org", "--port", "8080"]);
        let bytes = region(&bench);
        let view = ServerKeyRegion::parse(KeyAlgorithm::Rsa, &bytes).unwrap();
        assert!(view.key().unwrap().as_spki() == vector("server2048.spki.der"), "{file}");
        let address = view.address().unwrap().unwrap();
        assert_eq!(address.port(), Some(8080), "{file}");
        bench.device(&["server", "--particle"]);
    }
    // The tool's own file differs in a 00 behind the name, which means nothing.
    let mut tool = vector("particle_server_rsa_512.der");
    tool[384 + 2 + 15] = 0xFF;
    assert!(region(&bench) == tool);
    assert_eq!(text(&bench.device(&["address"])["host"]), "device.spark.io");

    // A bare key leaves the address alone, a file with an address brings its own.
    bench.device(&["server", "server2048.spki.der", "--host", "10.0.0.7"]);
    bench.device(&["server", "server2048.pem"]);
    assert_eq!(text(&bench.device(&["address"])["host"]), "10.0.0.7");
    bench.put("both.der", region(&bench));
    bench.device(&["server", "--particle"]);
    bench.device(&["server", "both.der"]);
    assert_eq!(text(&bench.device(&["address"])["host"]), "10.0.0.7");

    // UDP has its own place and form.
    bench.device(&["server", "--particle", "--protocol", "udp"]);
    let mut tool = vector("particle_server_ec_320.der");
    tool[192 + 2 + 19] = 0xFF;
    assert!(bench.table()[3298..3298 + 320] == tool);
    let address = bench.device(&["address", "--protocol", "udp"]);
    assert_eq!(text(&address["expanded"]), format!("{ID}.udp.particle.io"));
}

#[test]
fn wrong_server_keys_and_addresses_are_refused() {
    let bench = Bench::new("keys");
    bench.vector("server2048.spki.der");
    bench.vector("rsa1024_608.spki.der");
    bench.vector("ec_p256.spki.der");
    bench.device(&["address"]);
    let before = bench.read("flash");
    let long = "a".repeat(64);
    for (arguments, code) in [
        (["rsa1024_608.spki.der", "--host", "a.example"], 65),
        (["ec_p256.spki.der", "--host", "a.example"], 65),
        (["server2048.spki.der", "--host", "256.1.2"], 64),
        (["server2048.spki.der", "--host", "1.2.3.4.5"], 64),
        (["server2048.spki.der", "--host", "fe80::1"], 64),
        (["server2048.spki.der", "--host", &long], 64),
        (["server2048.spki.der", "--host", "bücher.example"], 64),
        (["server2048.spki.der", "--port", "80"], 64),
    ] {
        let (found, message) = bench.device_fails(&[&["server"], &arguments[..]].concat());
        assert_eq!(found, code, "{arguments:?}: {message}");
        assert!(message.contains("next: "), "{message}");
    }
    // No address anywhere: the device would go to the vendor's cloud with another server's key.
    let (code, message) = bench.device_fails(&["server", "server2048.spki.der"]);
    assert_eq!(code, 64);
    assert!(message.contains("--host"), "{message}");
    assert!(bench.read("flash") == before);
}

#[test]
fn photon_has_one_protocol() {
    let bench = Bench::new("keys");
    let shown = bench.device(&["protocol"]);
    assert_eq!((text(&shown["protocol"]), &shown["fixed"]), ("tcp", &Value::Bool(true)));
    assert_eq!(bench.device_fails(&["protocol", "udp"]).0, 64);
}

fn codes(examined: &Value) -> Vec<&str> {
    examined["findings"].as_array().unwrap().iter().map(|finding| text(&finding["code"])).collect()
}

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
fn damaged_key_is_repaired_in_a_file_and_in_the_device_and_a_lost_one_is_not() {
    let bench = Bench::new("keys");
    for file in [
        "bad_d_bit.der",
        "bad_p_bit.der",
        "bad_modulus_bit.der",
        "bad_tag_broken.der",
        "bad_truncated_at_300.der",
    ] {
        bench.vector(file);
        bench.ok(&["repair", file, "-o", "repaired", "--force"]);
        assert!(bench.read("repaired.der") == vector("rsa1024_608.der"), "{file}");
        bench.damage_device(34, &[&vector(file)[..], &[0xFF; 400]].concat()[..612]);
        let repaired = bench.device(&["repair", "--backup", "kept"]);
        assert_eq!(repaired["write"]["changed"], true, "{file}");
        assert!(bench.table()[34..34 + 608] == vector("rsa1024_608.der"), "{file}");
    }
    for file in
        ["bad_tail_erased_from_256.der", "bad_and_of_two_keys.der", "bad_erased.der", "bad_zeroed.der"]
    {
        bench.vector(file);
        let (code, _, message) = bench.fails(&["repair", file, "-o", "lost"]);
        assert_eq!(code, 65, "{file}");
        assert!(message.contains("next: "), "{message}");
        assert!(!bench.path("lost.der").exists());
    }
}

#[test]
fn dry_run_of_a_repair_tells_where_nothing_can_be_written() {
    let bench = Bench::new("keys");
    bench.vector("bad_truncated_at_300.der");
    let both = |out: &str| {
        let arguments = ["repair", "bad_truncated_at_300.der", "-o", out];
        let dry = bench.fails(&[&arguments[..], &["--dry-run"]].concat());
        assert_eq!(dry, bench.fails(&arguments));
        dry.0
    };
    assert_eq!(both("missing/key"), 74);
    bench.ok(&["repair", "bad_truncated_at_300.der", "-o", "key", "--dry-run"]);
    assert!(!bench.path("key.der").exists());
}

#[test]
fn ec_key_is_repaired_when_something_confirms_its_number() {
    let bench = Bench::new("keys");
    let mut field = vector("ec_p256.field192.bin");
    // The header is damaged, the point is whole.
    field[0] = 0x20;
    bench.put("header", &field);
    bench.ok(&["repair", "header", "-o", "a"]);
    assert!(bench.read("a.der") == vector("ec_p256.sec1.der"));
    // The point is lost: only the cloud's copy tells whether the number is right.
    field[60..].fill(0xFF);
    bench.put("point", &field);
    bench.vector("ec_p256.spki.der");
    assert_eq!(bench.fails(&["repair", "point", "-o", "b"]).0, 65);
    bench.ok(&["repair", "point", "-o", "b", "--public-key", "ec_p256.spki.der"]);
    assert!(bench.read("b.der") == vector("ec_p256.sec1.der"));
}

#[test]
fn doctor_repairs_what_can_be_repaired_and_renews_the_rest() {
    let bench = Bench::new("keys");
    let doctor = ["doctor", "--cloud", "cloud", "--host", "10.0.0.1", "--backup", "kept"];
    bench.cloud("cloud");
    bench.damage_device(34, &vector("bad_p_bit.der"));
    let cured = bench.device(&doctor);
    assert_eq!(text(&cured["remedy"]), "repair");
    let repaired = bench.table()[34..34 + 608] == vector("rsa1024_608.der");
    assert!(repaired && bench.device(&["check", "--cloud", "cloud"])["ok"] == true);
    assert_eq!(text(&bench.device(&["address"])["host"]), "10.0.0.1");

    // Damage in one sector is cured from the other, damage in both is not.
    bench.damage_device(34, &vector("bad_and_of_two_keys.der"));
    let cured = bench.device(&doctor);
    assert_eq!(text(&cured["remedy"]), "restore");
    assert!(bench.table()[34..34 + 608] == vector("rsa1024_608.der"));
    bench.damage(34, &vector("bad_and_of_two_keys.der"));
    bench.damage(34, &vector("bad_and_of_two_keys.der"));
    let cured = bench.device(&doctor);
    assert_eq!(text(&cured["remedy"]), "renew");
    assert_eq!(bench.device(&["check", "--cloud", "cloud"])["ok"], true);

    // Without a cloud folder the public key is in a file that the result names.
    bench.damage(34, &[0; 612]);
    bench.damage(34, &[0; 612]);
    let cured = bench.device(&["doctor", "--backup", "kept"]);
    assert_eq!(text(&cured["remedy"]), "renew");
    let ready = bench.device(&["send-ready"]);
    assert_eq!(bench.read(text(&cured["public"])), text(&ready["publicKey"]).as_bytes());
}

#[test]
fn key_that_programs_read_and_the_device_does_not_is_rewritten() {
    let bench = Bench::new("keys");
    // PKCS#8 in the place of SEC1: fine for openssl, not for the device.
    let mut field = vector("ec_p256.pkcs8.der");
    field.resize(192, 0xFF);
    bench.damage_device(3106, &field);
    assert_eq!(bench.device_fails(&["check", "--protocol", "udp"]).0, 65);
    let cured = bench.device(&["doctor", "--protocol", "udp"]);
    assert_eq!(text(&cured["remedy"]), "repair");
    assert!(bench.table()[3106..3106 + 192] == vector("ec_p256.field192.bin"));
}

#[test]
fn key_that_only_the_device_reads_is_kept_saved_and_written_back() {
    let bench = Bench::new("keys");
    bench.vector("rsa1024_606_short_dp.der");
    assert_eq!(bench.fails(&["check", "rsa1024_606_short_dp.der"]).0, 65);
    let loaded = bench.device(&["load", "rsa1024_606_short_dp.der"]);
    assert_eq!(loaded["key"]["der_len"], 611, "all numbers at full length");
    bench.cloud("cloud");
    bench.device(&["server", "--cloud", "cloud", "--host", "10.0.0.1"]);
    let cured = bench.device(&["doctor", "--cloud", "cloud"]);
    assert_eq!((text(&cured["remedy"]), &cured["reaches_cloud"]), ("keep", &Value::Bool(true)));
    assert_eq!(bench.device(&["check", "--cloud", "cloud"])["keys"][0]["works"], true);
    bench.device(&["save", "saved"]);
    bench.vector("rsa1024_608.der");
    let other = bench.device(&["load", "rsa1024_608.der", "--backup", "kept"]);
    let back = bench.device(&["load", text(&other["write"]["backup"])]);
    assert_eq!(back["key"]["fingerprint"], loaded["key"]["fingerprint"]);
    assert_eq!(bench.device(&["load", "saved.der"])["write"]["changed"], false);
}

#[test]
fn address_comes_from_where_an_address_is_and_nowhere_else() {
    let bench = Bench::new("keys");
    bench.vector("server2048.spki.der");
    bench.device(&["server", "server2048.spki.der", "--host", "10.0.0.7"]);
    let host = || text(&bench.device(&["address"])["host"]).to_owned();
    // Padded with zeros, with garbage, cut off behind the address.
    let padded = |fill: u8, len: usize| {
        let mut file = vector("server2048.spki.der");
        file.resize(len, fill);
        file
    };
    bench.put("zeros", padded(0, 512));
    bench.device(&["server", "zeros"]);
    assert_eq!(host(), "10.0.0.7", "zeros are no address");
    let mut garbage = padded(0x11, 512);
    garbage[384..390].copy_from_slice(&[0, 4, 1, 2, 3, 4]);
    bench.put("garbage", garbage);
    bench.device(&["server", "garbage"]);
    assert_eq!(host(), "10.0.0.7", "what is not behind padding is no address");
    let mut short = padded(0xFF, 402);
    short[384..402].copy_from_slice(b"\x01\x10cloud.example.or");
    bench.put("short", short);
    bench.device(&["server", "short"]);
    assert_eq!(host(), "cloud.example.or");
    let mut long = padded(0xFF, 512);
    long[384] = 1;
    long[385] = 90;
    long[386..386 + 90].fill(b'a');
    bench.put("long", long);
    let (code, message) = bench.device_fails(&["server", "long"]);
    assert!(code == 65 && message.contains("90"), "{message}");
}

#[test]
fn hosts_are_host_names_and_addresses_and_may_have_a_port() {
    let bench = Bench::new("keys");
    bench.vector("server2048.spki.der");
    let server = |host: &str, more: &[&str]| {
        let arguments =
            [&["server", "server2048.spki.der", "--host", host, "--virtual", "flash"], more].concat();
        bench.run(&arguments).status.code().unwrap()
    };
    for (host, shown) in [
        ("192.168.1.5:8080", "tcp://192.168.1.5:8080"),
        ("cloud.example.org:80", "tcp://cloud.example.org:80"),
        ("$id.cloud.example.org", "tcp://$id.cloud.example.org:5683"),
        ("my_cloud", "tcp://my_cloud:5683"),
    ] {
        assert_eq!(server(host, &[]), 0, "{host}");
        assert_eq!(bench.plain(&["address", "--virtual", "flash"]).1.trim_end(), shown);
    }
    for host in
        ["http://example.org/", "x/y", "a..b", "-", "$id.$id.$id.$id.x", "0.0.0.0", "a:0", "a:65535", "a:b"]
    {
        assert_eq!(server(host, &[]), 64, "{host}");
    }
    assert_eq!(server("a:80", &["--port", "81"]), 64);
    assert_eq!(server("a", &["--port", "65535"]), 64);
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
fn odd_address_is_explained_wherever_it_is_shown() {
    let bench = Bench::new("keys");
    bench.vector("server2048.spki.der");
    bench.device(&["server", "server2048.spki.der", "--host", "10.0.0.7"]);
    let odd = |value: &Value| !value["remarks"].as_array().unwrap().is_empty();
    assert!(!odd(&bench.device(&["address"])));
    // What the host tool makes of 256.1.2.
    let mut block = [0xFF; 128];
    block[..6].copy_from_slice(&[0, 3, 0, 1, 2, 0]);
    bench.damage(2466, &block);
    assert!(odd(&bench.device(&["address"])));
    let (code, out, _) = bench.plain(&["address", "--virtual", "flash"]);
    assert!(code == 0 && out.contains("0.1.2.0") && out.contains("length 3 in place of 4"), "{out}");
    let (code, out, _) = bench.plain(&["check", "--virtual", "flash"]);
    assert!(code == 0 && out.contains("server-address-ipv4-length"), "{out}");
    assert!(out.contains("connects to 0.1.2.0") && out.contains("length 3 in place of 4"), "{out}");
    // It is kept as it is, and said.
    let written = bench.device(&["server", "server2048.spki.der"]);
    assert!(written["write"]["changed"] == false && odd(&written["address"]), "{written}");
    let (_, out, _) = bench.plain(&["server", "server2048.spki.der", "--virtual", "flash"]);
    assert!(out.contains("length 3 in place of 4"), "{out}");
    // The same in a file of the host tool.
    let mut file = vector("server2048.spki.der");
    file.resize(384, 0xFF);
    file.extend(block);
    bench.put("file", file);
    let (code, out, _) = bench.plain(&["check", "file"]);
    assert!(code == 0 && out.contains("server-address-ipv4-length"), "{out}");
    bench.device(&["server", "server2048.spki.der", "--host", "10.0.0.7"]);
    assert_eq!(codes(&bench.device(&["check"])["keys"][1]), [""; 0]);
}

#[test]
fn server_key_of_a_cloud_is_the_one_that_it_uses() {
    let bench = Bench::new("keys");
    bench.cloud("cloud");
    let key = bench.read("cloud/server-key.pub.pem");
    bench.put("cloud/server-key.pub.pem", vector("server2048.spki.pem"));
    bench.device(&["server", "--cloud", "cloud", "--host", "10.0.0.1"]);
    bench.put("right.pem", key);
    let right = bench.ok(&["check", "right.pem"]);
    let written = bench.device(&["check"]);
    assert_eq!(written["keys"][1]["fingerprint"], right["keys"][0]["fingerprint"]);
}

#[test]
fn nothing_is_written_when_the_cloud_cannot_be_told() {
    let bench = Bench::new("keys");
    bench.cloud("cloud");
    bench.device(&["server", "--particle"]);
    let before = bench.read("flash");
    bench.put("cloud/cloud.redb", "junk");
    let doctor = ["doctor", "--cloud", "cloud", "--host", "10.0.0.1", "--backup", "kept"];
    assert_eq!(bench.device_fails(&doctor).0, 74);
    assert!(bench.read("flash") == before, "neither key nor address");
    // A mistyped folder and a dry run make no cloud.
    for command in [&["doctor", "--dry-run"][..], &["doctor"], &["check"], &["repair"]] {
        assert_eq!(bench.device_fails(&[command, &["--cloud", "typo"]].concat()).0, 66, "{command:?}");
    }
    assert_eq!(bench.device_fails(&["server", "--host", "a", "--cloud", "typo"]).0, 66);
    assert!(!bench.path("typo").exists());
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

#[cfg(unix)]
#[test]
fn flash_of_the_simulated_device_is_private_and_written_only_when_it_changes() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let bench = Bench::new("keys");
    bench.device(&["address"]);
    let about = || fs::metadata(bench.path("flash")).unwrap();
    assert_eq!(about().permissions().mode() & 0o777, 0o600);
    let inode = about().ino();
    bench.device(&["address"]);
    assert_eq!(about().ino(), inode, "looking changes nothing");
}

#[cfg(unix)]
#[test]
fn file_that_never_ends_is_refused() {
    let bench = Bench::new("keys");
    let (code, _, message) = bench.fails(&["check", "/dev/zero"]);
    assert!(code == 65 && message.contains("/dev/zero"), "{message}");
}

#[test]
fn own_key_does_not_go_to_the_vendors_address() {
    let bench = Bench::new("keys");
    bench.cloud("cloud");
    bench.vector("server2048.spki.der");
    bench.device(&["server", "--particle"]);
    let before = bench.read("flash");
    for key in [&["--cloud", "cloud"][..], &["server2048.spki.der"]] {
        let (code, message) = bench.device_fails(&[&["server"], key].concat());
        assert!(code == 64 && message.contains("device.spark.io") && message.contains("--host"), "{message}");
        assert!(bench.read("flash") == before);
    }
    bench.device(&["server", "--cloud", "cloud", "--host", "10.0.0.1"]);
    bench.device(&["server", "server2048.spki.der"]);
    assert_eq!(text(&bench.device(&["address"])["host"]), "10.0.0.1");
    bench.device(&["check"]);

    // Written so by another tool, or with the address erased, it is found.
    for host in ["udp.particle.io", "device.spark.io"] {
        bench.device(&["server", "server2048.spki.der", "--host", host]);
        let checked = bench.json(&["check", "--virtual", "flash"], 65);
        assert_eq!(codes(&checked["keys"][1]), ["server-address-of-vendor"], "{host}");
    }
    bench.damage(2466, &[0xFF; 128]);
    let checked = bench.json(&["check", "--virtual", "flash"], 65);
    assert_eq!(codes(&checked["keys"][1]), ["server-address-erased", "server-address-of-vendor"]);
    // A name of others that only looks alike.
    bench.device(&["server", "server2048.spki.der", "--host", "notparticle.io"]);
    bench.device(&["check"]);
}

#[test]
fn doctor_says_when_the_device_talks_to_another_cloud() {
    let bench = Bench::new("keys");
    bench.cloud("cloud");
    bench.device(&["server", "--particle"]);
    let doctor = ["doctor", "--cloud", "cloud", "--backup", "kept", "--virtual", "flash"];
    let cured = bench.json(&doctor, 65);
    assert_eq!((text(&cured["remedy"]), &cured["reaches_cloud"]), ("keep", &Value::Bool(false)));
    assert_eq!(codes(&cured), ["cloud-server-key-mismatch"]);
    let (code, out, _) = bench.plain(&doctor);
    assert!(code == 65 && out.contains("--host"), "{out}");
    let cured = bench.json(&[&doctor[..], &["--host", "10.0.0.1"]].concat(), 0);
    assert_eq!((&cured["reaches_cloud"], codes(&cured)), (&Value::Bool(true), vec![]));
    bench.json(&doctor, 0);
    // Without a cloud nothing is known of one.
    assert_eq!(bench.device(&["doctor", "--backup", "kept"])["reaches_cloud"], Value::Null);
}

#[test]
fn repair_takes_a_lost_key_from_the_older_generation() {
    let bench = Bench::new("keys");
    bench.vector("rsa1024_608.der");
    bench.vector("rsa1024_609.der");
    bench.cloud("cloud");
    bench.device(&["load", "rsa1024_608.der"]);
    // The cloud has to know the device if it is asked.
    let (code, message) = bench.device_fails(&["repair", "--cloud", "cloud"]);
    assert!(code == 65 && message.contains("knows no device"), "{message}");
    bench.device(&["send-ready", "--cloud", "cloud"]);

    bench.damage(34, &vector("bad_and_of_two_keys.der"));
    assert_eq!(bench.device_fails(&["check"]).0, 65);
    bench.ok(&["convert", "rsa1024_609.der", "other.pem", "--to", "spki"]);
    let (code, message) = bench.device_fails(&["repair", "--public-key", "other.pem"]);
    assert!(code == 65 && message.contains("older generation"), "{message}");
    let repaired = bench.device(&["repair", "--cloud", "cloud", "--backup", "kept"]);
    assert!(text(&repaired["how"]).contains("older generation"), "{repaired}");
    assert!(bench.table()[34..34 + 608] == vector("rsa1024_608.der"));
    // Lost in both: nothing is invented.
    bench.damage(34, &vector("bad_and_of_two_keys.der"));
    bench.damage(34, &vector("bad_and_of_two_keys.der"));
    assert_eq!(bench.device_fails(&["repair"]).0, 65);
}

#[cfg(unix)]
#[test]
fn reader_that_goes_away_is_no_error_of_convert() {
    use std::process::{Command, Stdio};
    let bench = Bench::new("keys");
    bench.vector("rsa1024_608.der");
    let mut command = Command::new(env!("CARGO_BIN_EXE_spark"));
    command.args(["keys", "convert", "rsa1024_608.der", "-"]).current_dir(bench.path(""));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
