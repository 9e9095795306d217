//! `spark keys doctor`.

use crate::bench::Bench;
use crate::{Vectors, codes, text, vector};
use serde_json::Value;

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
fn fresh_device_gets_its_first_key_and_the_folder_for_its_files() {
    let bench = Bench::new("keys");
    bench.damage_device(34, &[0xFF; 612]);
    bench.damage(34, &[0xFF; 612]);
    bench.device(&["doctor", "--backup", "new/folder", "--dry-run"]);
    assert!(!bench.path("new").exists());
    let cured = bench.device(&["doctor", "--backup", "new/folder"]);
    assert_eq!(text(&cured["remedy"]), "renew");
    assert!(bench.path(text(&cured["public"])).starts_with(bench.path("new/folder")));
    assert_eq!(
        bench.read(text(&cured["public"])),
        text(&bench.device(&["send-ready"])["publicKey"]).as_bytes()
    );
}

#[test]
fn key_that_programs_read_and_the_device_does_not_is_rewritten() {
    let bench = Bench::new("keys");
    // PKCS#8 in the place of SEC1: fine for openssl, not for the device.
    let mut field = vector("ec_p256.pkcs8.der");
    field.resize(192, 0xFF);
    bench.damage_device(3106, &field);
    assert_eq!(bench.device_fails(&["check", "--protocol", "udp"]).0, 65);
    // This device was never told of a server to talk UDP with.
    let cured = bench.json(&["doctor", "--protocol", "udp", "--virtual", "flash"], 65);
    assert_eq!((text(&cured["remedy"]), &cured["server_works"]), ("repair", &Value::Bool(false)));
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
fn doctor_looks_at_server_key_and_address_without_a_cloud() {
    let doctor = ["doctor", "--backup", "kept", "--virtual", "flash"];
    let bench = Bench::new("keys");
    // As from the factory: with the vendor's key and no address, which leads to the vendor.
    let cured = bench.device(&["doctor", "--backup", "kept"]);
    assert_eq!((&cured["server_works"], codes(&cured)), (&Value::Bool(true), vec!["server-address-erased"]));
    bench.cloud("cloud");
    let own = ["server", "--cloud", "cloud", "--host", "10.0.0.1"];
    // Key, address beside an own key, both.
    for (offset, len, code) in [
        (2082, 294, "server-key-erased"),
        (2466, 128, "server-address-of-vendor"),
        (2082, 512, "server-key-erased"),
    ] {
        bench.device(&own);
        bench.damage(offset, &vec![0xFF; len]);
        assert_eq!(bench.device_fails(&["check"]).0, 65);
        let cured = bench.json(&doctor, 65);
        assert_eq!((text(&cured["remedy"]), &cured["server_works"]), ("keep", &Value::Bool(false)));
        assert!(codes(&cured).contains(&code), "{cured}");
        let (exit, out, said) = bench.plain(&doctor);
        assert!(
            exit == 65 && out.contains("keys server KEY --host HOST") && out.contains("--cloud DIR"),
            "{out}"
        );
        assert!(said.contains(code), "{said}");
        bench.device(&["doctor", "--cloud", "cloud", "--host", "10.0.0.1", "--backup", "kept"]);
        bench.device(&["doctor", "--backup", "kept"]);
    }
}

#[test]
fn doctor_of_a_device_without_anything_says_what_is_still_missing() {
    let bench = Bench::new("keys");
    bench.device(&["address"]);
    // Both sectors of the table.
    let mut flash = bench.read("flash");
    flash[0x4000..0xC000].fill(0xFF);
    bench.put("flash", flash);
    let cured = bench.json(&["doctor", "--backup", "kept", "--virtual", "flash"], 65);
    assert_eq!((text(&cured["remedy"]), &cured["server_works"]), ("renew", &Value::Bool(false)));
    assert!(codes(&cured).contains(&"server-key-erased"), "{cured}");
}

#[test]
fn key_in_a_longer_form_is_looked_at_as_a_whole() {
    let bench = Bench::new("keys");
    bench.damage_device(34, &vector("rsa1024_608.pkcs8.der"));
    let checked = bench.json(&["check", "--virtual", "flash"], 65);
    assert_eq!(codes(&checked["keys"][0]), ["pkcs8-in-rsa-field"]);
    let (code, _, _) = bench.plain(&["save", "saved", "--virtual", "flash"]);
    assert!(code == 65 && bench.read("saved.der") == vector("rsa1024_608.der"));
    assert!(bench.read("saved.bin").starts_with(&vector("rsa1024_608.pkcs8.der")));
    let cured = bench.device(&["doctor", "--backup", "kept"]);
    assert_eq!(
        (text(&cured["remedy"]), codes(&cured)),
        ("repair", vec!["pkcs8-in-rsa-field", "server-address-erased"])
    );
}
