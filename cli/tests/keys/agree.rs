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

#[test]
fn inspect_and_check_have_one_judgement() {
    let bench = Bench::new("keys");
    let block = |label: &str, body: &str| {
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n").into_bytes()
    };
    let trad = block("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIC");
    let ed25519 =
        "302e020100300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842";
    let hex = |text: &str| -> Vec<u8> {
        let byte = |pair: &[u8]| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap();
        text.as_bytes().chunks(2).map(byte).collect()
    };
    let encrypted = hex("301106092a864886f70d01050d0404010203043000");
    let encrypted = [&[0x30, 0x13][..], &[0x30, 0x0B], &encrypted[2..13], &[0x04, 4, 1, 2, 3, 4]].concat();
    let mut no_point = hex("303102010104 20".replace(' ', "").as_str());
    no_point.extend(&vector("ec_p256.sec1.der")[7..39]);
    no_point.extend(hex("a00a06082a8648ce3d030107"));
    let mut padded = vector("rsa1024_608.pkcs1.pem");
    padded.resize(1216, 0xFF);
    let mut wrapped = vector("rsa1024_608.pkcs8.der");
    wrapped.resize(1216, 0xFF);
    let short = spark_keys::pem::encode(
        spark_keys::KeyForm::Pkcs1Private,
        &vector("rsa1024_606_short_dp.der"),
        &mut [0; 2048],
    )
    .unwrap()
    .as_bytes()
    .to_vec();
    for (name, file, works, codes_of) in [
        ("OpenSSL 3", vector("rsa1024_608.openssl3_default.der"), true, &["pkcs8-file"][..]),
        ("PKCS#8 in the place", wrapped, false, &["pkcs8-in-rsa-field"]),
        ("text in the place", padded, false, &["pem-in-rsa-field"]),
        ("SEC1 without point", no_point, false, &["ec-not-canonical"]),
        ("short number", vector("rsa1024_606_short_dp.der"), false, &["device-incompatible"]),
        ("text with a short number", short, true, &["short-number-file"]),
        ("passphrase", trad, false, &["encrypted-key"]),
        ("passphrase in DER", encrypted, false, &["encrypted-key"]),
        ("Ed25519", hex(ed25519), false, &["other-algorithm"]),
        (
            "Ed25519 text",
            block("PRIVATE KEY", "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC"),
            false,
            &["other-algorithm"],
        ),
        ("broken tag", vector("bad_tag_broken.der"), true, &["broken-header"]),
        ("damaged d", vector("bad_d_bit.der"), true, &["private-exponent-mismatch"]),
        (
            "two keys",
            [vector("rsa1024_608.pkcs1.pem"), vector("ec_p256.pem")].concat(),
            false,
            &["two-private-keys"],
        ),
    ] {
        bench.put("key", &file);
        let (_, out, _) = bench.plain(&["check", "key", "--json"]);
        let checked: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            (&checked["keys"][0]["works"], codes(&checked["keys"][0])),
            (&Value::Bool(works), codes_of.to_vec()),
            "{name}"
        );
        let path = bench.path("key");
        let inspect = std::process::Command::new(env!("CARGO_BIN_EXE_spark"))
            .args(["inspect", "--json", path.to_str().unwrap()])
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&inspect.stdout).unwrap();
        assert_eq!(
            (&report["kind"], &report["device_compatible"]),
            (&"private-key".into(), &Value::Bool(works)),
            "{name}"
        );
        let problems = report["problems"].as_array().unwrap().iter().map(|problem| text(&problem["code"]));
        let remarks = report["remarks"].as_array().unwrap().iter().map(text);
        assert_eq!(problems.chain(remarks).collect::<Vec<_>>(), codes_of, "{name}");
    }
}

#[test]
fn text_in_a_device_s_place_or_table_is_no_key_file() {
    let bench = Bench::new("keys");
    for (name, len) in [
        ("rsa1024_608.pkcs1.pem", 1216),
        ("rsa1024_608.pkcs1.pem", 612),
        ("ec_p256.pem", 612),
        ("ec_p256.pem", 192),
    ] {
        let mut field = vector(name);
        field.resize(len, 0xFF);
        bench.put("field", &field);
        let (code, out, _) = bench.plain(&["check", "field"]);
        let expected = if len == 192 { "pem-in-ec-field" } else { "pem-in-rsa-field" };
        assert!(code == 65 && out.contains("DOES NOT WORK") && out.contains(expected), "{name} {len}: {out}");
    }
    // With other text before it, a mark of its coding, or what was in the place before.
    let key = vector("rsa1024_608.pkcs1.pem");
    for (before, after) in
        [(&b"Bag Attributes\n"[..], &[0xFF][..]), (b"\xEF\xBB\xBF", &[0xFF]), (b"", &[0x93, b'a'])]
    {
        let mut field = [before, &key].concat();
        field.extend(after.iter().cycle().take(1216 - field.len()));
        bench.put("field", &field);
        let (code, out, _) = bench.plain(&["check", "field"]);
        assert!(code == 65 && out.contains("DOES NOT WORK"), "{before:?}: {out}");
        assert_eq!(bench.fails(&["send-ready", "field"]).0, 65, "{before:?}");
    }
    // Text in the place of a server's key.
    bench.put("ec.der", vector("ec_p256.spki.der"));
    bench.ok(&["convert", "ec.der", "ec.pem"]);
    let (rsa, ec) = (vector("server2048.spki.pem"), bench.read("ec.pem"));
    for (name, len, text) in [("rsa", 768, &rsa), ("rsa", 512, &rsa), ("ec", 192, &ec)] {
        let mut region = text.clone();
        region.resize(len, 0xFF);
        bench.put("region", &region);
        let (code, out, _) = bench.plain(&["check", "region"]);
        assert!(code == 65 && out.contains("server public key: DOES NOT WORK"), "{name} {len}: {out}");
        let inspect = Bench::new("inspect");
        inspect.put("region", &region);
        assert_eq!(inspect.plain(&["region"]).0, 65, "{name} {len}");
    }
    // A key of another kind in the place of a TCP device's key.
    for (name, code) in [("ec_p256.sec1.der", "ec-key-in-rsa-field"), ("server2048.spki.der", "public-key")] {
        for len in [612, 1216] {
            let mut field = vector(name);
            field.resize(len, 0xFF);
            bench.put("field", &field);
            let (exit, out, _) = bench.plain(&["check", "field"]);
            assert!(exit == 65 && out.contains(code), "{name} {len}: {out}");
        }
    }
    // Blanks behind the text of a file are no padding of a place.
    bench.put("file", [&vector("rsa1024_608.pkcs1.pem")[..], &[b'\n'; 1216 - 887]].concat());
    bench.ok(&["check", "file"]);

    put_key(&bench, &vector("rsa1024_608.pkcs1.pem"));
    let table = bench.table();
    bench.put("table", &table);
    for command in
        [&["check", "table"][..], &["load", "table", "--virtual", "flash"], &["convert", "table", "out"]]
    {
        let (code, _, message) = bench.fails(command);
        assert!(
            code == 65 && message.contains("dct-app") && message.contains("dct get"),
            "{command:?}: {message}"
        );
    }
}

#[test]
fn private_key_behind_a_public_one_is_what_is_loaded_and_two_are_refused() {
    let bench = Bench::new("keys");
    let both = [vector("rsa1024_608.spki.pem"), vector("rsa1024_608.pkcs8.pem")].concat();
    bench.put("both.pem", &both);
    bench.device(&["load", "both.pem"]);
    assert!(bench.table()[34..34 + 608] == vector("rsa1024_608.der"));
    bench.ok(&["convert", "both.pem", "private.der", "--to", "pkcs1"]);
    assert!(bench.read("private.der") == vector("rsa1024_608.der"));
    bench.ok(&["convert", "both.pem", "public.pem", "--to", "spki"]);
    assert!(bench.read("public.pem") == vector("rsa1024_608.spki.pem"));
    bench.put("two.pem", [both, vector("ec_p256.pem")].concat());
    for command in [
        &["load", "two.pem", "--virtual", "flash"][..],
        &["convert", "two.pem", "out"],
        &["send-ready", "two.pem"],
    ] {
        let (code, _, message) = bench.fails(command);
        assert!(code == 65 && message.contains("more than one private key"), "{command:?}: {message}");
        assert!(message.contains("keys check two.pem"), "{command:?}: {message}");
    }
}

#[test]
fn texts_name_the_next_command_and_what_the_device_does() {
    let bench = Bench::new("keys");
    bench.vector("bad_version_1.der");
    let (_, out, _) = bench.plain(&["check", "bad_version_1.der"]);
    assert!(out.contains("spark keys repair bad_version_1.der"), "{out}");
    bench.ok(&["repair", "bad_version_1.der"]);
    // A small key in a file has not been in any device, one in a dump has.
    let number = |len: usize| vec![0x99; len];
    let mut out = [0; 2048];
    let (n, half) = (number(64), number(32));
    let small = spark_keys::private_key::encode_pkcs1(
        [&n, &[1, 0, 1], &n, &half, &half, &half, &half, &half],
        &mut out,
    )
    .unwrap();
    let mut dump = small.to_vec();
    dump.resize(612, 0xFF);
    for (file, published) in [(small.to_vec(), false), (dump, true)] {
        bench.put("small", file);
        let (_, out, _) = bench.plain(&["check", "small"]);
        assert!(out.contains("wrong-size") && out.contains("secret-published") == published, "{out}");
    }
    let mut out = [0; 2048];
    let (n, half) = (number(192), number(96));
    let middle = spark_keys::private_key::encode_pkcs1(
        [&n, &[1, 0, 1], &n, &half, &half, &half, &half, &half],
        &mut out,
    )
    .unwrap();
    bench.put("middle", middle);
    let (_, out, _) = bench.plain(&["check", "middle"]);
    assert!(
        out.starts_with("device private key") && out.contains("1536 bits") && out.contains("wrong-size"),
        "{out}"
    );
    // The vendor's key and no address: that device does connect, to the vendor.
    bench.device(&["server", "--particle"]);
    bench.damage(2466, &[0xFF; 128]);
    let checked = bench.device(&["check"]);
    let finding = &checked["keys"][1]["findings"][0];
    assert_eq!(text(&finding["code"]), "server-address-erased");
    assert!(text(&finding["cloud"]).contains("vendor"), "{finding}");
}

#[test]
fn public_key_that_no_device_takes_is_good_for_neither_inspect_nor_check() {
    let bench = Bench::new("keys");
    let inspect = Bench::new("inspect");
    let rsa = vector("server2048.spki.der");
    let mut three = rsa.clone();
    // e of one byte, and everything around it two bytes shorter.
    three.truncate(289);
    three.extend([2, 1, 3]);
    for at in [3, 22, 27] {
        three[at] -= 2;
    }
    let ec = vector("ec_p256.spki.der");
    let mut compressed = ec[..59].to_vec();
    (compressed[1], compressed[24], compressed[26]) = (0x39, 0x22, 2 + (ec[90] & 1));
    for (name, key, code) in [
        ("three", three, Some("server-key-wrong-exponent")),
        ("compressed", compressed, Some("server-key-not-canonical")),
        ("rsa", rsa, None),
        ("ec", ec, None),
        ("device", vector("rsa1024_608.spki.der"), None),
    ] {
        bench.put(name, &key);
        inspect.put(name, &key);
        let exit = if code.is_some() { 65 } else { 0 };
        let checked = bench.json(&["check", name], exit);
        let found = inspect.json(&[name], exit);
        assert_eq!(found["kind"], "public-key", "{found}");
        let problems = found["problems"].as_array().unwrap();
        assert_eq!(problems.first().map(|problem| text(&problem["code"])), code, "{found}");
        assert!(code.is_none_or(|code| codes(&checked["keys"][0]).contains(&code)), "{checked}");
    }
}
