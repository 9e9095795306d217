//! `spark keys` on files that are no good keys, or good ones of another kind.

use crate::bench::Bench;
use crate::vector;
use serde_json::Value;
use spark_keys::{KeyForm, pem};

fn pem_of(form: KeyForm, der: &[u8]) -> String {
    let mut out = vec![0; 8192];
    pem::encode(form, der, &mut out).unwrap().to_owned()
}

fn block(label: &str, body: &str) -> String {
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// Exit code, what it is, whether it works, and the codes of the findings; and all the text.
fn check(bench: &Bench, arguments: &[&str]) -> (i32, String, bool, Vec<String>, String) {
    let output = bench.run(&[&["check", "--json"], arguments].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let checked: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error} {text}"));
    let key = &checked["keys"][0];
    let codes = key["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["code"].as_str().unwrap().to_owned());
    let what = key["what"].as_str().unwrap().to_owned();
    (output.status.code().unwrap(), what, key["works"] == true, codes.collect(), text)
}

#[test]
fn damaged_ec_key_in_a_file_was_never_in_an_rsa_field() {
    let bench = Bench::new("keys");
    let mut sec1 = vector("ec_p256.sec1.der");
    sec1[100] ^= 1;
    let mut pkcs8 = vector("ec_p256.pkcs8.der");
    pkcs8[120] ^= 1;
    let mut curve = vector("ec_p256.sec1.der");
    curve[3] ^= 1;
    let mut longer = sec1.clone();
    longer.resize(300, 0xFF);
    for (file, expected) in [
        (sec1.clone(), &["ec-point-mismatch"][..]),
        (sec1[..90].to_vec(), &["ec-truncated"]),
        (curve, &["ec-unreadable"]),
        (longer, &["ec-point-mismatch"]),
        (pem_of(KeyForm::Sec1Ec, &sec1).into_bytes(), &["ec-point-mismatch"]),
        (pkcs8.clone(), &["pkcs8-in-ec-field", "ec-point-mismatch"]),
        (pem_of(KeyForm::Pkcs8Ec, &pkcs8).into_bytes(), &["pkcs8-in-ec-field", "ec-point-mismatch"]),
    ] {
        bench.put("key", &file);
        let (code, _, works, codes, text) = check(&bench, &["key"]);
        assert_eq!(
            (code, works, codes.iter().map(String::as_str).collect::<Vec<_>>()),
            (65, false, expected.to_vec())
        );
        assert!(!text.contains("secret") && !text.contains("never use"), "{text}");
    }
    // Damaged in an RSA field it is as published as before.
    bench.put("key", &sec1);
    let (_, _, _, codes, _) = check(&bench, &["key", "--protocol", "tcp"]);
    assert!(codes.contains(&"secret-published".to_owned()), "{codes:?}");

    // And `repair` knows it for an EC key, whatever its length.
    let mut padded = sec1;
    padded.resize(300, 0xFF);
    bench.put("padded", padded);
    bench.put("public", vector("ec_p256.spki.der"));
    let (_, _, message) = bench.fails(&["repair", "padded", "-o", "out"]);
    assert!(message.contains("private number may be intact") && !message.contains("p and q"), "{message}");
    bench.ok(&["repair", "padded", "-o", "out", "--public-key", "public"]);
    assert!(bench.read("out.der") == vector("ec_p256.sec1.der"));
}

#[test]
fn damaged_rsa_key_is_explained_and_repaired_in_every_form() {
    let bench = Bench::new("keys");
    let mut damaged = vector("rsa1024_608.der");
    damaged[60] ^= 4;
    let pkcs8 = [&vector("rsa1024_608.pkcs8.der")[..26], &damaged].concat();
    let text = pem_of(KeyForm::Pkcs1Private, &damaged);
    let cut = text[..650].to_owned();
    for (what, file, first) in [
        ("der", damaged.clone(), "modulus-is-not-p-times-q"),
        ("pem", text.into_bytes(), "modulus-is-not-p-times-q"),
        ("pkcs8", pkcs8.clone(), "pkcs8-in-rsa-field"),
        ("pkcs8 pem", pem_of(KeyForm::Pkcs8Private, &pkcs8).into_bytes(), "modulus-is-not-p-times-q"),
        ("cut pem", cut.into_bytes(), "text-unreadable"),
    ] {
        bench.put("key", &file);
        let (code, _, works, codes, _) = check(&bench, &["key"]);
        assert_eq!((code, works, codes[0].as_str()), (65, false, first), "{what}");
        let last = if what == "cut pem" { "truncated" } else { "modulus-is-not-p-times-q" };
        assert!(codes.iter().any(|code| code == last), "{what}: {codes:?}");
        let (_, _, message) = bench.fails(&["convert", "key", "out.der", "--force"]);
        assert!(message.contains("keys check"), "{message}");
        bench.ok(&["repair", "key", "-o", "out", "--force"]);
        assert!(bench.read("out.der") == vector("rsa1024_608.der"), "{what}");
    }
}

#[test]
fn what_is_no_key_of_a_device_is_called_by_its_name() {
    let bench = Bench::new("keys");
    let ed25519 = hex(
        "302e020100300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842",
    );
    let mut p384 = hex("3081a40201010430");
    p384.extend([0x11; 48]);
    p384.extend(hex("a00706052b81040022a16403620004"));
    p384.extend([0x22; 96]);
    for (file, code, says) in [
        (block("CERTIFICATE", "MIIC"), "certificate", "certificate"),
        (block("OPENSSH PRIVATE KEY", "b3Bl"), "openssh-key", "ssh-keygen"),
        (block("ENCRYPTED PRIVATE KEY", "MIIC"), "encrypted-key", "passphrase"),
        (pem_of(KeyForm::Pkcs8Private, &ed25519), "other-algorithm", "another algorithm"),
        (pem_of(KeyForm::Sec1Ec, &p384), "other-curve", "P-256"),
        (pem_of(KeyForm::Pkcs1Private, &big_key(384)), "wrong-size", "3072 bits"),
        (pem_of(KeyForm::Pkcs1Private, &big_key(512)), "wrong-size", "4096 bits"),
        ("remember the milk\n".to_owned(), "no-key", "no key"),
        (String::new(), "no-key", "no key"),
    ] {
        bench.put("file", &file);
        let (exit, _, works, codes, text) = check(&bench, &["file"]);
        assert_eq!((exit, works), (65, false), "{code}");
        assert_eq!(codes, [code], "{text}");
        assert!(text.contains(says), "{code}: {text}");
        assert!(code == "wrong-size" || !text.contains("device private key"), "{code}: {text}");
        let (_, _, message) = bench.fails(&["load", "file", "--virtual", "flash"]);
        assert!(
            !message.contains("larger buffer") && !message.contains("convert the key first"),
            "{message}"
        );
    }
    // Both sectors of a device's table.
    bench.device(&["address"]);
    let flash = bench.read("flash");
    bench.put("sectors", &flash[0x4000..0xC000]);
    for command in [
        &["repair", "sectors"][..],
        &["convert", "sectors", "out", "--to", "spki"],
        &["load", "sectors", "--virtual", "flash"],
    ] {
        let (code, _, message) = bench.fails(command);
        assert!(code == 65 && message.contains("configuration table"), "{command:?}: {message}");
    }
    let (code, _, message) = bench.fails(&["check", "sectors"]);
    assert!(
        code == 65 && message.contains("configuration table") && message.contains("spark inspect"),
        "{message}"
    );
}

#[test]
fn key_of_a_size_that_no_device_has_is_not_to_be_converted() {
    let bench = Bench::new("keys");
    for (modulus, bits) in [(384, "3072 bits"), (512, "4096 bits")] {
        let key = big_key(modulus);
        bench.put("pkcs1", &key);
        bench.put("pkcs8", pkcs8(&key));
        bench.put("text", pem_of(KeyForm::Pkcs8Private, &pkcs8(&key)));
        for file in ["pkcs1", "pkcs8", "text"] {
            for arguments in [&[file][..], &[file, "--protocol", "tcp"]] {
                let (exit, what, works, codes, text) = check(&bench, arguments);
                assert_eq!((exit, what.as_str(), works), (65, "device private key", false), "{arguments:?}");
                assert_eq!(codes, ["wrong-size"], "{arguments:?}");
                assert!(text.contains(bits) && !text.contains("convert"), "{arguments:?}: {text}");
            }
        }
    }
    // A good key in the wrapper is another matter.
    bench.put("pkcs8", vector("rsa1024_608.pkcs8.der"));
    assert_eq!(check(&bench, &["pkcs8"]).3, ["pkcs8-file"]);
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The structure of an RSA key with a modulus of so many bytes.
fn big_key(modulus: usize) -> Vec<u8> {
    let number = |len: usize| vec![0x99_u8; len];
    let half = number(modulus / 2);
    let (n, d) = (number(modulus), number(modulus));
    let mut out = vec![0; 8 * modulus];
    spark_keys::private_key::encode_pkcs1([&n, &[1, 0, 1], &d, &half, &half, &half, &half, &half], &mut out)
        .unwrap()
        .to_vec()
}

/// In the wrapper that OpenSSL 3 puts around it.
fn pkcs8(pkcs1: &[u8]) -> Vec<u8> {
    let long = |len: usize| [&[0x82][..], &u16::try_from(len).unwrap().to_be_bytes()].concat();
    let head = hex("020100300d06092a864886f70d0101010500");
    let content = [&head, &[0x04][..], &long(pkcs1.len()), pkcs1].concat();
    [&[0x30][..], &long(content.len()), &content].concat()
}

#[test]
fn dumps_of_a_device_s_place_are_still_judged_as_such() {
    let bench = Bench::new("keys");
    for (file, expected) in [
        (vec![0xFF; 612], "erased"),
        (vec![0; 192], "zeroed"),
        (vector("bad_and_of_two_keys.der"), "unreadable"),
        ([&[0x11; 8], &vector("field612_ff.bin")[8..]].concat(), "broken-header"),
        ([&[0xFF; 8], &vector("field612_ff.bin")[8..]].concat(), "head-erased"),
        ([&[0xFF; 8], &vector("ec_p256.field192.bin")[8..]].concat(), "head-erased"),
        ((0..612_u32).map(|i| (i * 37 % 251).to_le_bytes()[0]).collect(), "broken-header"),
    ] {
        bench.put("dump", &file);
        let (code, what, works, codes, _) = check(&bench, &["dump"]);
        assert!(
            (code == 65 || expected == "broken-header") && codes.contains(&expected.to_owned()),
            "{codes:?}"
        );
        assert_eq!((what.as_str(), works), ("device private key", code == 0));
    }
}

#[test]
fn good_keys_of_another_kind_are_good() {
    let bench = Bench::new("keys");
    for (file, what, codes) in [
        ("server2048.pem", "server private key", &["key-of-a-server"][..]),
        ("server2048.pkcs1.der", "server private key", &["key-of-a-server"]),
        ("server2048.spki.pem", "server public key", &[]),
        ("rsa1024_608.spki.der", "device public key", &[]),
        ("rsa1024_608.spki.pem", "device public key", &[]),
        ("rsa1024_608.pkcs1_pub.pem", "device public key", &[]),
        ("ec_p256.spki.der", "public key of a UDP device or its server", &[]),
    ] {
        bench.put(file, vector(file));
        let found = check(&bench, &[file]);
        assert_eq!(
            (found.0, found.1.as_str(), found.2, found.3),
            (0, what, true, codes.iter().map(ToString::to_string).collect()),
            "{file}"
        );
    }
    // For a device's place it is the wrong one.
    assert_eq!(check(&bench, &["server2048.pem", "--protocol", "tcp"]).0, 65);
}

#[test]
fn copy_of_the_cloud_is_compared_with_a_public_key_or_refused() {
    let bench = Bench::new("keys");
    for file in [
        "rsa1024_608.spki.der",
        "rsa1024_608.spki.pem",
        "ec_p256.spki.der",
        "server2048.spki.der",
        "server2048.pem",
        "rsa1024_609.der",
    ] {
        bench.put(file, vector(file));
    }
    bench.put("junk", "junk");
    for (file, copy, code) in [
        ("rsa1024_608.spki.der", "rsa1024_608.spki.pem", None),
        ("rsa1024_608.spki.der", "rsa1024_609.der", Some("cloud-key-mismatch")),
        ("rsa1024_608.spki.der", "ec_p256.spki.der", Some("cloud-key-of-other-kind")),
        ("rsa1024_608.spki.der", "junk", Some("cloud-key-unreadable")),
        ("ec_p256.spki.der", "ec_p256.spki.der", None),
        ("ec_p256.spki.der", "rsa1024_609.der", Some("cloud-key-of-other-kind")),
    ] {
        let found = check(&bench, &[file, "--public-key", copy]);
        assert_eq!(
            (found.0, found.3.first().map(String::as_str)),
            (if code.is_some() { 65 } else { 0 }, code),
            "{file} {copy}"
        );
    }
    for file in ["server2048.spki.der", "server2048.pem"] {
        let (code, _, message) = bench.fails(&["check", file, "--public-key", "rsa1024_608.spki.der"]);
        assert!(code == 64 && message.contains("--public-key"), "{message}");
    }
    let candidates = ["--candidate", "rsa1024_609.der", "--candidate", "rsa1024_609.der"];
    assert_eq!(bench.fails(&[&["check", "rsa1024_608.spki.der"], &candidates[..]].concat()).0, 64);
    // `repair` says which of the two files is the bad one.
    bench.put("bad", vector("bad_d_bit.der"));
    let (code, _, message) = bench.fails(&["repair", "bad", "-o", "out", "--public-key", "junk"]);
    assert!(code == 65 && message.contains("--public-key junk"), "{message}");
}

#[test]
fn file_of_a_key_with_a_short_number_is_for_tools_canonical_and_for_the_device_padded() {
    let bench = Bench::new("keys");
    bench.put("short.der", vector("rsa1024_606_short_dp.der"));
    bench.device(&["load", "short.der"]);
    bench.device(&["save", "saved"]);
    assert_eq!(bench.read("saved.der").len(), 611);
    let text = pem_of(KeyForm::Pkcs1Private, &vector("rsa1024_606_short_dp.der"));
    assert!(bench.read("saved.pem") == text.as_bytes(), "as openssl writes it");
    // Judged by what `load` makes of it, with a word about other tools.
    let (code, _, works, codes, _) = check(&bench, &["saved.pem"]);
    assert_eq!((code, works, codes), (0, true, vec!["short-number-file".to_owned()]));
    let loaded = bench.device(&["load", "saved.pem"]);
    assert_eq!(loaded["write"]["changed"], false);
    assert_eq!(check(&bench, &["short.der"]).3, ["device-incompatible"]);
}

#[test]
fn text_that_windows_wrote_is_read() {
    let bench = Bench::new("keys");
    let text = String::from_utf8(vector("rsa1024_608.pkcs8.pem")).unwrap().replace('\n', "\r\n");
    for (mark, order) in
        [([0xFF, 0xFE], u16::to_le_bytes as fn(u16) -> [u8; 2]), ([0xFE, 0xFF], u16::to_be_bytes)]
    {
        let wide: Vec<u8> = text.encode_utf16().flat_map(order).collect();
        bench.put("wide.pem", [&mark, &wide[..]].concat());
        assert_eq!(check(&bench, &["wide.pem"]).0, 0);
        bench.ok(&["convert", "wide.pem", "out.der", "--force"]);
        assert!(bench.read("out.der") == vector("rsa1024_608.der"));
        bench.device(&["load", "wide.pem"]);
    }
}
