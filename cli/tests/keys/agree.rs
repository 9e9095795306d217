//! Commands that look at the same key say the same of it.

use crate::bench::Bench;
use crate::{Vectors, codes, text, vector};
use serde_json::Value;

/// Puts the bytes into the device's place of its key, padded.
fn put_key(bench: &Bench, bytes: &[u8]) {
    let mut field = bytes.to_vec();
    field.resize(1216, 0xFF);
    bench.damage_device(34, &field);
}

#[test]
fn save_and_send_ready_succeed_when_the_device_can_use_its_key_and_only_then() {
    for (file, works, canonical, how) in [
        ("rsa1024_608.der", true, Some("rsa1024_608.der"), None),
        ("field612_stale_tail.bin", true, None, Some("behind the key")),
        ("devgen_v050.bin", true, None, Some("canonical")),
        ("bad_d_bit.der", true, Some("rsa1024_608.der"), Some("d computed anew")),
        ("bad_version_1.der", true, Some("rsa1024_608.der"), Some("version")),
        ("rsa1024_606_short_dp.der", false, None, Some("full length")),
        ("bad_p_bit.der", false, None, None),
        ("bad_erased.der", false, None, None),
    ] {
        let bench = Bench::new("keys");
        put_key(&bench, &vector(file));
        let code = if works { 0 } else { 65 };
        let checked = bench.run(&["check", "--virtual", "flash", "--json"]);
        let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
        assert_eq!(checked["keys"][0]["works"], works, "{file}");
        let (save, out, message) = bench.plain(&["save", "kept", "--virtual", "flash"]);
        assert_eq!(save, code, "{file}: {message}");
        let ready = bench.run(&["send-ready", "--virtual", "flash", "--json"]);
        assert_eq!(ready.status.code(), Some(code), "{file}");
        if works {
            let ready: Value = serde_json::from_slice(&ready.stdout).unwrap();
            assert_eq!(ready["fingerprint"], checked["keys"][0]["fingerprint"], "{file}");
            assert_eq!(text(&ready["publicKey"]).as_bytes(), bench.read("kept.pub.pem"), "{file}");
            for name in ["kept.der", "kept.pem", "kept.pub.pem"] {
                assert!(out.contains(name) && bench.path(name).exists(), "{file}: {out}");
            }
        }
        // What is not as it is in the device is beside the device's own bytes, and said to be so.
        let as_it_is = bench.path("kept.bin").exists();
        assert_eq!(as_it_is, how.is_some() || !works, "{file}");
        if as_it_is {
            let mut own = vector(file);
            own.resize(612, 0xFF);
            assert!(bench.read("kept.bin") == own[..612], "{file}");
            assert!([&*out, &*message].concat().contains("kept.bin"), "{file}: {out}{message}");
        }
        if let Some(how) = how {
            assert!([&*out, &*message].concat().contains(how), "{file}: {out}{message}");
            assert!(bench.path("kept.der").exists(), "{file}");
        }
        if let Some(canonical) = canonical {
            assert!(bench.read("kept.der") == vector(canonical), "{file}");
        }
    }
    // A file with damage that no device notices is sent like the key it is.
    let bench = Bench::new("keys");
    bench.vector("bad_d_bit.der");
    bench.vector("bad_p_bit.der");
    assert_eq!(
        text(&bench.ok(&["send-ready", "bad_d_bit.der"])["publicKey"]).as_bytes(),
        vector("rsa1024_608.spki.pem")
    );
    assert_eq!(bench.fails(&["send-ready", "bad_p_bit.der"]).0, 65);
}
