//! Keys from file to file and from file to device and back.

use crate::bench::{Bench, ID};
use crate::{Vectors, text, vector};
use serde_json::Value;
use spark_dct::App;
use spark_dct::wiced::VersionRecord;
use std::fs;

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
fn photon_has_one_protocol() {
    let bench = Bench::new("keys");
    let shown = bench.device(&["protocol"]);
    assert_eq!((text(&shown["protocol"]), &shown["fixed"]), ("tcp", &Value::Bool(true)));
    assert_eq!(bench.device_fails(&["protocol", "udp"]).0, 64);
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

/// A key from another program, for instance from a password manager, is in no file.
#[test]
fn key_may_come_from_standard_input() {
    use std::fs::File;
    use std::process::Command;
    let bench = Bench::new("keys");
    bench.put("key.pem", vector("rsa1024_608.pkcs8.pem"));
    for arguments in [&["check", "-"][..], &["convert", "-", "out.der"], &["load", "-", "--virtual", "flash"]]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spark"));
        command.arg("keys").args(arguments).current_dir(bench.path(""));
        let output = command.stdin(File::open(bench.path("key.pem")).unwrap()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(bench.read("out.der") == vector("rsa1024_608.der"));
    assert!(bench.table()[34..].starts_with(&vector("rsa1024_608.der")));
}

#[test]
fn key_for_a_device_is_converted_into_bytes_that_devices_read() {
    let bench = Bench::new("keys");
    bench.vector("devgen_v050.bin");
    for short in ["rsa1024_606_short_dp.der", "rsa1024_607_short_d.der"] {
        bench.vector(short);
        bench.device(&["load", short]);
        bench.device(&["save", "works", "--force"]);
        for from in [short, "works.der", "works.pem"] {
            let json = bench.ok(&["convert", from, "out.bin", "--field", "--force"]);
            assert!(bench.read("out.bin").len() == 612 && json["warning"].is_null(), "{json}");
            assert_eq!(bench.ok(&["check", "out.bin"])["ok"], true, "{from}");
            bench.ok(&["convert", from, "out.der", "--force"]);
            assert!(bench.read("out.der") == bench.read("works.der"), "{from}");
            assert!(spark_keys::check(&bench.read("out.der")).device_works());
            // Other programs get the canonical key, and a person a word about devices.
            let json = bench.ok(&["convert", from, "other", "--to", "pkcs1", "--force"]);
            assert!(bench.read("other") == vector(short), "{from}");
            assert!(text(&json["warning"]).contains("no device"), "{json}");
            let (code, _, said) = bench.plain(&["convert", from, "other", "--to", "pkcs1", "--force"]);
            assert!(code == 0 && said.contains("no device can use this file as it is"), "{said}");
            let (_, _, said) = bench.plain(&["convert", from, "other.pem", "--force"]);
            assert!(said.is_empty(), "text is for programs: {said}");
        }
    }
    let json = bench.ok(&["convert", "devgen_v050.bin", "out.der", "--to", "pkcs1", "--force"]);
    assert!(json["warning"].is_null(), "{json}");
}

#[test]
fn key_that_no_device_can_use_is_not_converted_for_one() {
    let bench = Bench::new("keys");
    bench.put("three.pem", THREE);
    bench.vector("server2048.pem");
    for arguments in
        [&["three.pem", "out"][..], &["three.pem", "out", "--field"], &["server2048.pem", "out", "--field"]]
    {
        let (code, _, said) = bench.fails(&[&["convert"], arguments].concat());
        assert!(code == 65 && !bench.path("out").exists(), "{arguments:?}: {said}");
    }
    let (_, _, said) = bench.fails(&["convert", "three.pem", "out"]);
    assert!(said.contains("65537") && said.contains("--to"), "{said}");
    let json = bench.ok(&["convert", "three.pem", "out", "--to", "pkcs1"]);
    assert!(text(&json["warning"]).contains("65537"), "{json}");
    // A server's key is for no device, and nobody takes it for one.
    assert!(bench.ok(&["convert", "server2048.pem", "server.der"])["warning"].is_null());
    assert!(bench.read("server.der") == vector("server2048.pkcs1.der"));
}

#[test]
fn public_key_is_made_ready_when_check_calls_the_file_good() {
    let bench = Bench::new("keys");
    for (file, code) in [
        ("rsa1024_606_short_dp.der", 65),
        ("rsa1024_608.der", 0),
        ("rsa1024_608.pkcs8.der", 0),
        ("rsa1024_608.pkcs8.pem", 0),
        ("ec_p256.sec1.der", 0),
        ("devgen_v050.bin", 0),
    ] {
        bench.vector(file);
        assert_eq!(bench.plain(&["check", file]).0, code, "{file}");
        let (ready, _, said) = bench.plain(&["send-ready", file]);
        assert_eq!(ready, code, "{file}: {said}");
        assert_eq!(said.contains("`spark keys load`"), code == 65, "{said}");
    }
}

#[test]
fn firmware_that_mixes_old_and_new_bytes_is_not_to_be_unplugged() {
    let bench = Bench::new("keys");
    for file in ["rsa1024_608.der", "rsa1024_609.der"] {
        bench.vector(file);
    }
    let load = |file| bench.plain(&["load", file, "--virtual", "flash"]);
    // This firmware leaves its version in the table with its first write.
    bench.device(&["load", "rsa1024_609.der"]);
    let (code, _, said) = load("rsa1024_608.der");
    assert!(code == 0 && !said.contains("unplug"), "{said}");
    // A table that firmware before 0.7.0 wrote has no record of its version.
    let mut flash = bench.read("flash");
    for sector in [0x4000, 0x8000] {
        let record = sector + VersionRecord::OFFSET;
        flash[record..record + VersionRecord::LEN].fill(0xFF);
    }
    bench.put("flash", flash);
    let (code, _, said) = load("rsa1024_609.der");
    assert!(code == 0 && said.contains("do not unplug the device now"), "{said}");
}

/// An RSA-1024 key whose exponent is 3, made with OpenSSL for this test.
const THREE: &str = "\
-----BEGIN RSA PRIVATE KEY-----
MIICXAIBAAKBgQDX07qa0T/XKVyzoypp2GXvnyKdi7vUWKn3YomyROBF5vVmNAvV
fdQJuDl88aD6bSyTq3Pwr4llNDq0UoIFZkdR/vO9C3SscSn76EgQpDX//esGuxFV
wdGp5hQACTgIwxUxoO5YG+22a3SPUogaklnEJS8bM0XYXdNT+ao4IZt3RQIBAwKB
gQCP4nxnNiqPcOh3whxGkEP1FMG+XSfi5cak7FvMLerZRKOZeAfjqTgGetD99mtR
nh23x6KgdQZDeCci4awDmYTgGuybwt373hQxeCseQ5k3git7E9TfP68vzIh6ZZbX
Xl3gnWFeJnnCDc2hYXNLeUBAySWuHMCdmu9nbxifqGzbawJBAPWXx5K2ijj9VsC7
Z+m8H+O7Uh5T/5l29XIEl9LTycU8SMlayx6rdZeDiduzwLk+GN7latjbDTziKAWq
ryxkFhkCQQDg+QvUcShrDlrzS/tVFAzW7nv+/gdI0+zBQrCeAfvwTBfrgX/Di52/
PJNkp2ijO0oYkSsvSd64ihDNWpl4lBgNAkEAo7qFDHmxe1OPKyeam9K/7SeMFDf/
u6SjoVhlNzfb2NLbMOcyFHJOZQJb580rJill6e5HOzyzfewarnHKHZgOuwJBAJX7
XThLcEde50zdUji4CI9Jp/9UBNs38yuByxQBUqAyup0A/9eyaSooYkMaRcInhrsL
ch+GlHsGtd48ZlBiurMCQHqPF1Rm95Xjzfw764/VrNJvEDA8CwAFML93b8xk97QA
gULJIY4mszAh1waz92fb9+fG+R2Kc1j5vbKjYcUcp4w=
-----END RSA PRIVATE KEY-----
";
