//! `spark keys repair`.

use crate::bench::Bench;
use crate::{Vectors, text, vector};

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
