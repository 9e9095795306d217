//! Findings beyond the RSA field itself: leaked secrets, copies of the public key, EC fields, server keys.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use proptest::prelude::*;
use spark_keys::check::{
    Knowledge, Leak, PublicCache, Secret, ServerKeyKind, check_ec_with, check_with, published_secrets,
};
use spark_keys::private_key::Number;
use spark_keys::*;

fn vector(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn codes(report: &Report) -> Vec<&'static str> {
    for finding in report.findings() {
        assert!(
            !finding.device().is_empty() && !finding.cloud().is_empty() && !finding.next_step().is_empty()
        );
        assert!(finding.to_string().ends_with(finding.device()));
    }
    report.findings().map(|finding| finding.code()).collect()
}

fn leak(field: &[u8]) -> Option<(Secret, usize, usize, usize)> {
    let mut leaks = published_secrets(field);
    let first = leaks.next().map(|Leak { secret, first, len, of, .. }| (secret, first, len, of));
    assert!(leaks.next().is_none());
    first
}

#[test]
fn an_ec_key_in_the_rsa_field_leaks_what_the_device_published() {
    let json: serde_json::Value = serde_json::from_slice(&vector("misplaced.json")).unwrap();
    let case = json["cases"]
        .as_array()
        .unwrap()
        .iter()
        .find(|case| case["source_file"] == "ec_p256.sec1.der")
        .unwrap();
    let published = hex::decode(case["device_published_spki"].as_str().unwrap()).unwrap();
    let key = load_ec_device_key(&vector("ec_p256.pem")).unwrap();
    let (secret, first, len, of) = leak(&vector("ec_p256.sec1.der")).unwrap();
    assert_eq!((secret, first, len, of), (Secret::EcPrivateNumber, 4, 28, 32));
    assert_eq!(published[29..29 + len], key.scalar()[first..first + len]);
    assert_eq!(leak(&vector("ec_p256.field192.bin")), leak(&vector("ec_p256.sec1.der")));
}

#[test]
fn an_ec_key_in_pkcs8_leaks_all_of_its_number() {
    let field = vector("ec_p256.pkcs8.der");
    assert_eq!(leak(&field), Some((Secret::EcPrivateNumber, 0, 32, 32)));
    let key = load_ec_device_key(&field).unwrap();
    let published = published_by_device(&field);
    assert!(published.windows(32).any(|window| window == key.scalar()));
    assert_eq!(codes(&check(&field)), ["ec-key-in-rsa-field", "secret-published"]);
}

#[test]
fn text_of_an_ec_key_leaks_what_its_published_characters_say() {
    let whole = String::from_utf8(vector("ec_p256.pem")).unwrap();
    let (_, bare) = whole.split_once("-----END EC PARAMETERS-----\n").unwrap();
    let mut pkcs8 = [0; 400];
    let pkcs8 = pem::encode(KeyForm::Pkcs8Ec, &vector("ec_p256.pkcs8.der"), &mut pkcs8).unwrap();
    for (text, first, len) in [
        // header 31 characters, then 4 for 3 bytes; the number starts at byte 7 of the DER:
        // characters 32 to 108 of the base64 text are of bytes 0 to 80
        (bare.to_owned(), 0, 32),
        // 107 characters before, so 32 characters make 24 bytes, 7 of them before the number
        (whole.clone(), 0, 17),
        (whole.replace('\n', "\r\n"), 0, 14),
        // 28 characters before; characters up to 139 are 110 with one line end: 82 bytes, the number at 36
        (pkcs8.to_owned(), 0, 32),
        (format!("\n\n\n{bare}"), 0, 32),
    ] {
        let (secret, at, found, of) = leak(text.as_bytes()).unwrap();
        assert_eq!((secret, at, found, of), (Secret::EcPrivateNumber, first, len, 32), "{text}");
        // decoded from the published bytes alone
        let published = published_by_device(text.as_bytes());
        let window = &published[29..157];
        let base64_at = text.find("KEY-----").unwrap() + 8;
        let characters: String = window[base64_at - 11..]
            .iter()
            .map(|byte| char::from(*byte))
            .take_while(|c| *c != '-')
            .filter(|c| !c.is_whitespace())
            .collect();
        let complete: Vec<_> = characters.as_bytes().chunks_exact(4).flatten().copied().collect();
        let complete: Vec<_> = complete.chunks(64).map(|line| core::str::from_utf8(line).unwrap()).collect();
        let complete = complete.join("\n");
        let block = format!("-----BEGIN X-----\n{complete}\n-----END X-----\n");
        let mut der = [0; 128];
        let (_, der) = pem_rfc7468::decode(block.as_bytes(), &mut der).unwrap();
        let key = load_ec_device_key(&vector("ec_p256.pem")).unwrap();
        let known = key.scalar();
        assert!(der.windows(found).any(|window| window == &known[..found]), "{text}");
        assert!(found == 32 || !der.windows(found + 1).any(|window| window == &known[..=found]));
    }
}

#[test]
fn rsa_keys_of_1024_bits_leak_nothing_in_any_form() {
    for file in [
        "rsa1024_608.der",
        "rsa1024_607_short_d.der",
        "rsa1024_608.pkcs8.der",
        "rsa1024_608.openssl3_default.der",
        "rsa1024_608.pkcs1.pem",
        "rsa1024_608.pkcs8.pem",
        "server2048.pkcs1.der",
        "server2048.pem",
        "devgen_v050.bin",
        "bad_erased.der",
        "ec_p256.spki.der",
    ] {
        assert_eq!(leak(&vector(file)), None, "{file}");
    }
}

#[test]
fn a_short_rsa_key_leaks_its_private_exponent() {
    // the structure of `openssl genrsa -traditional 512`
    let mut der = vec![0x30, 0x82, 0x01, 0x3B, 2, 1, 0, 2, 0x41, 0];
    der.extend([0x99; 64]);
    der.extend([2, 3, 1, 0, 1, 2, 0x40]);
    der.extend([0x44; 64]);
    for _ in 0..2 {
        der.extend([2, 0x21, 0]);
        der.extend([0xAA; 32]);
    }
    for _ in 0..3 {
        der.extend([2, 0x20]);
        der.extend([0x55; 32]);
    }
    der[3] = u8::try_from(der.len() - 4 - 256).unwrap();
    // n is in bytes 10 to 74, d in 81 to 145
    assert_eq!(leak(&der), Some((Secret::Rsa(Number::D), 0, 58, 64)));
    assert_eq!(codes(&check(&der)), ["wrong-size", "secret-published"]);
    // with a damaged length nobody knows where d is
    der[3] -= 1;
    assert_eq!(leak(&der), None);
}

#[test]
fn every_form_of_the_cache_that_firmware_leaves_is_accepted() {
    let field = vector("rsa1024_608.der");
    let spki = vector("rsa1024_608.spki.der");
    let other = load_device_key(&vector("rsa1024_609.der")).unwrap().public_key();
    let padded = |spki: &[u8], fill| {
        let mut cache = vec![fill; 384];
        cache[..spki.len()].copy_from_slice(spki);
        cache
    };
    for cache in [padded(&spki, 0), padded(&spki, 0xFF), vec![0xFF; 384], vec![0; 384], spki.clone()] {
        assert_eq!(codes(&check_with(&field, &Knowledge::new().public_cache(&cache))), [""; 0]);
    }
    let mut damaged = padded(&spki, 0);
    damaged[3] ^= 1;
    let mut flipped = padded(&spki, 0);
    flipped[60] ^= 1;
    let mut stale = padded(&spki, 0);
    stale[200] = 7;
    for (cache, code) in [
        (padded(&other, 0), "cache-mismatch"),
        (flipped, "cache-mismatch"),
        (damaged, "cache-unknown"),
        (stale, "cache-unknown"),
    ] {
        assert_eq!(codes(&check_with(&field, &Knowledge::new().public_cache(&cache))), [code]);
    }

    let field = vector("ec_p256.field192.bin");
    let spki = vector("ec_p256.spki.der");
    let mut left = vec![0xFF; 128];
    left[..91].copy_from_slice(&spki);
    let right = [&[0; 37][..], &spki].concat();
    assert_eq!(PublicCache::of(&right), PublicCache::Key { spki: &spki, at: 37 });
    assert_eq!(PublicCache::of(&left), PublicCache::Key { spki: &spki, at: 0 });
    for cache in [left.clone(), right.clone(), vec![0; 128], vec![0xFF; 128]] {
        assert_eq!(codes(&check_ec_with(&field, &Knowledge::new().public_cache(&cache))), [""; 0]);
    }
    let foreign = [&[0; 37][..], &vector("particle_server_ec_spki_91.der")].concat();
    let mut marked = right.clone();
    marked[36] = 1;
    for (cache, code) in [(foreign, "cache-mismatch"), (marked, "cache-unknown")] {
        assert_eq!(codes(&check_ec_with(&field, &Knowledge::new().public_cache(&cache))), [code]);
    }
}

#[test]
fn the_clouds_record_is_compared_by_key_and_not_by_text() {
    let field = vector("rsa1024_608.der");
    let with = |record: &[u8]| codes(&check_with(&field, &Knowledge::new().cloud_copy(record)));
    let text = String::from_utf8(vector("rsa1024_608.spki.pem")).unwrap();
    for record in [
        text.clone().into_bytes(),
        text.replace('\n', "\r\n").into_bytes(),
        vector("rsa1024_608.spki.der"),
        vector("rsa1024_608.pkcs1_pub.pem"),
        vector("rsa1024_608.pkcs1_pub.der"),
    ] {
        assert_eq!(with(&record), [""; 0]);
    }
    let other = load_device_key(&vector("rsa1024_609.der")).unwrap().public_key();
    assert_eq!(with(&other), ["cloud-key-mismatch"]);
    // the key of a UDP device was sent for a TCP device
    assert_eq!(with(&vector("ec_p256.spki.der")), ["cloud-key-of-other-kind"]);
    assert_eq!(with(&vector("server2048.spki.pem")), ["cloud-key-of-other-kind"]);
    assert_eq!(with(b"not a key"), ["cloud-key-unreadable"]);
    assert_eq!(with(&[]), ["cloud-key-unreadable"]);

    let field = vector("ec_p256.field192.bin");
    let with = |record: &[u8]| codes(&check_ec_with(&field, &Knowledge::new().cloud_copy(record)));
    assert_eq!(with(&vector("ec_p256.spki.der")), [""; 0]);
    assert_eq!(with(&vector("particle_server_ec_spki_91.der")), ["cloud-key-mismatch"]);
    assert_eq!(with(&vector("rsa1024_608.spki.pem")), ["cloud-key-of-other-kind"]);
}

#[test]
fn a_device_with_a_damaged_modulus_publishes_another_key_than_the_cloud_has() {
    let mut field = vector("field612_ff.bin");
    field[50] ^= 8;
    let spki = vector("rsa1024_608.spki.der");
    let report = check_with(&field, &Knowledge::new().cloud_copy(&spki));
    assert_eq!(codes(&report), ["modulus-is-not-p-times-q", "cloud-key-mismatch"]);
}

#[test]
fn ec_fields_have_their_findings() {
    let good = vector("ec_p256.field192.bin");
    let report = check_ec(&good);
    assert!(report.is_clean() && report.device_works());
    assert_eq!(report.fingerprint(), Some(Fingerprint::of_spki(&vector("ec_p256.spki.der"))));
    let change = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut field = good.clone();
        change(&mut field);
        let report = check_ec(&field);
        (codes(&report), report.device_works())
    };
    let named = |codes: &[&'static str], works| (codes.to_vec(), works);
    assert_eq!(change(&|field| field.fill(0xFF)), named(&["erased"], false));
    assert_eq!(change(&|field| field.fill(0)), named(&["zeroed"], false));
    assert_eq!(change(&|field| field.clear()), named(&["ec-truncated"], false));
    assert_eq!(change(&|field| field.truncate(121)), named(&[], true));
    assert_eq!(change(&|field| field.truncate(100)), named(&["ec-truncated"], false));
    assert_eq!(change(&|field| field[20] ^= 1), named(&["ec-point-mismatch"], false));
    assert_eq!(change(&|field| field[100] ^= 1), named(&["ec-point-mismatch"], false));
    assert_eq!(change(&|field| field[7..39].fill(0)), named(&["ec-number-out-of-range"], false));
    assert_eq!(change(&|field| field[7..39].fill(0xFF)), named(&["ec-number-out-of-range"], false));
    assert_eq!(change(&|field| field[50] ^= 1), named(&["ec-unreadable"], false));
    assert_eq!(change(&|field| field[0] ^= 1), named(&["ec-unreadable"], false));
    assert_eq!(
        change(&|field| field[80..].fill(0xFF)),
        named(&["ec-tail-erased", "ec-point-mismatch"], false)
    );
    assert_eq!(change(&|field| field[45..].fill(0xFF)), named(&["ec-tail-erased", "ec-unreadable"], false));
    assert_eq!(change(&|field| field[150] = 1), named(&["stale-tail"], true));
    assert_eq!(change(&|field| field[121..].fill(0)), named(&[], true));
    for (file, codes) in [
        ("ec_p256.sec1.der", &[][..]),
        ("ec_p256.pkcs8.der", &["pkcs8-in-ec-field"]),
        ("ec_p256.pem", &["pem-in-ec-field"]),
        ("ec_p256.spki.der", &["public-key-in-ec-field"]),
        ("rsa1024_608.der", &["rsa-key-in-ec-field"]),
        ("rsa1024_608.pkcs8.der", &["rsa-key-in-ec-field"]),
    ] {
        let report = check_ec(&vector(file));
        assert_eq!(self::codes(&report), codes, "{file}");
        assert_eq!(report.device_works(), codes.is_empty(), "{file}");
    }
    // without the curve, and without the point
    let bare = [&[0x30, 0x25, 2, 1, 1, 4, 0x20], &good[7..39]].concat();
    assert_eq!(codes(&check_ec(&bare)), ["ec-curve-not-named"]);
    let pointless = [&[0x30, 0x31, 2, 1, 1, 4, 0x20], &good[7..51]].concat();
    assert_eq!(codes(&check_ec(&pointless)), ["ec-not-canonical"]);
}

#[test]
fn interrupted_writes_are_told_for_ec_keys_and_wherever_they_stopped() {
    let a = load_ec_device_key(&vector("ec_p256.pem")).unwrap();
    let b = EcDeviceKey::from_scalar(&[0x5A; 32]).unwrap();
    let (a, b) = (a.as_field(), b.as_field());
    let both: Vec<u8> = a.iter().zip(b).map(|(a, b)| a & b).collect();
    let report = check_ec_with(&both, &Knowledge::new().candidates(a, b));
    assert!(codes(&report).contains(&"interrupted-write") && !report.device_works());
    for end in 8..192 {
        let field = [&both[..end], &a[end..]].concat();
        assert_eq!(is_interrupted_write(&field, a, b), field != a, "{end}");
    }
    assert!(!is_interrupted_write(a, a, b) && !is_interrupted_write(b, a, b));
    let torn = [&a[..60], &b[60..]].concat();
    assert!(!is_interrupted_write(&torn, a, b));
}

#[test]
fn server_keys_have_their_findings() {
    use ServerKeyKind::{Ec, Rsa};
    for (kind, file, bundled) in [
        (Rsa, "particle_server_rsa_spki_294.der", Some(BundledKey::ParticleRsa)),
        (Rsa, "particle_server_rsa_512.der", Some(BundledKey::ParticleRsa)),
        (Rsa, "server2048.spki.der", None),
        (Ec, "particle_server_ec_spki_91.der", Some(BundledKey::ParticleEc)),
        (Ec, "particle_server_ec_320.der", Some(BundledKey::ParticleEc)),
        (Ec, "ec_p256.spki.der", None),
    ] {
        let report = check_server_key(kind, &vector(file));
        assert!(report.is_clean() && report.device_works(), "{file} {:?}", codes(&report));
        assert_eq!(report.bundled(), bundled, "{file}");
        assert!(report.fingerprint().is_some());
    }
    let check_file = |kind, file| codes(&check_server_key(kind, &vector(file)));
    for (kind, file, codes) in [
        (Rsa, "bad_erased.der", &["server-key-erased"][..]),
        (Ec, "bad_erased.der", &["server-key-erased"]),
        (Rsa, "bad_zeroed.der", &["server-key-zeroed"]),
        (Rsa, "server2048.spki.pem", &["server-key-pem"]),
        (Rsa, "server2048.pem", &["server-private-key"]),
        (Rsa, "server2048.pkcs1.der", &["server-private-key"]),
        (Ec, "ec_p256.field192.bin", &["server-private-key"]),
        (Ec, "ec_p256.pem", &["server-private-key"]),
        (Rsa, "rsa1024_608.spki.der", &["server-key-wrong-size"]),
        (Rsa, "rsa1024_608.pkcs1_pub.der", &["server-key-pkcs1"]),
        (Rsa, "ec_p256.spki.der", &["server-key-wrong-form"]),
        (Ec, "server2048.spki.der", &["server-key-wrong-form"]),
    ] {
        assert_eq!(check_file(kind, file), codes, "{file}");
    }
}

#[test]
fn damaged_server_keys_are_told_apart() {
    let good = vector("particle_server_rsa_512.der");
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut field = good.clone();
        change(&mut field);
        let report = check_server_key(ServerKeyKind::Rsa, &field);
        assert_eq!(
            report.bundled().is_some(),
            report.fingerprint() == Some(BundledKey::ParticleRsa.fingerprint())
        );
        (codes(&report), report.device_works())
    };
    let named = |codes: &[&'static str], works| (codes.to_vec(), works);
    // the address behind the key is not this check's
    assert_eq!(with(&|field| field[400] ^= 1), named(&[], true));
    assert_eq!(with(&|field| field.truncate(294)), named(&[], true));
    assert_eq!(with(&|field| field[300] = 7), named(&["stale-tail"], true));
    assert_eq!(with(&|field| field.truncate(200)), named(&["server-key-truncated"], false));
    assert_eq!(with(&|field| field.clear()), named(&["server-key-truncated"], false));
    assert_eq!(with(&|field| field[288] ^= 1), named(&["server-key-even-modulus"], false));
    assert_eq!(with(&|field| field[293] = 3), named(&["server-key-wrong-exponent"], false));
    assert_eq!(with(&|field| field[200..384].fill(0xFF)), named(&["server-key-tail-erased"], false));
    assert_eq!(with(&|field| field[0] = 0x31), named(&["server-key-unreadable"], false));
    // the same key, its length in a longer form: every reader of DER takes it, the device does not
    let mut longer = good[..294].to_vec();
    longer.splice(4..6, [0x30, 0x81, 0x0D]);
    longer[3] += 1;
    let report = check_server_key(ServerKeyKind::Rsa, &longer);
    assert_eq!((codes(&report), report.device_works()), named(&["server-key-not-canonical"], false));
    assert_eq!(report.bundled(), Some(BundledKey::ParticleRsa));

    let mut point = vector("particle_server_ec_spki_91.der");
    point[60] ^= 1;
    assert_eq!(codes(&check_server_key(ServerKeyKind::Ec, &point)), ["server-key-unreadable"]);
}

#[test]
fn findings_tell_their_place() {
    let good = vector("field612_ff.bin");
    let offsets = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut field = good.clone();
        change(&mut field);
        check(&field).findings().map(|finding| (finding.code(), finding.offset())).collect::<Vec<_>>()
    };
    assert_eq!(offsets(&|field| field[300..].fill(0xFF)), [("tail-erased", Some(300))]);
    assert_eq!(offsets(&|field| field[610] = 1), [("stale-tail", Some(608))]);
    assert_eq!(offsets(&|field| field.truncate(400)), [("truncated", Some(400))]);
    assert_eq!(offsets(&|field| field[0] = 0), [("broken-header", Some(0))]);
    assert_eq!(offsets(&|field| field[144] = 7), [("header-damaged", Some(144))]);
    // the length of n, by which the device goes
    assert_eq!(offsets(&|field| field[9] ^= 1), [("unreadable", Some(138))]);
    assert_eq!(offsets(&|field| field[6] = 3), [("wrong-version", None)]);
}

proptest! {
    #[test]
    fn any_bytes_are_checked_without_panic(
        field in proptest::collection::vec(any::<u8>(), 0..700), other in proptest::collection::vec(any::<u8>(), 0..400)
    ) {
        let knowledge = Knowledge::new().public_cache(&other).cloud_copy(&other).candidates(&field, &other);
        prop_assert!(!check_with(&field, &knowledge).device_works());
        prop_assert!(!check_ec_with(&field, &knowledge).device_works());
        for kind in [ServerKeyKind::Rsa, ServerKeyKind::Ec] {
            prop_assert!(!check_server_key(kind, &field).device_works());
        }
        let _ = PublicCache::of(&other);
        prop_assert_eq!(published_secrets(&field).map(|leak| leak.unknown()).filter(|n| *n > 65535).count(), 0);
    }

    #[test]
    fn a_damaged_ec_field_works_only_as_the_same_key(at in 0usize..192, bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
        let mut field = vector("ec_p256.field192.bin");
        let good = check_ec(&field).fingerprint();
        let end = (at + bytes.len()).min(192);
        field[at..end].copy_from_slice(&bytes[..end - at]);
        let report = check_ec(&field);
        prop_assert!(!report.device_works() || report.fingerprint() == good);
    }
}
