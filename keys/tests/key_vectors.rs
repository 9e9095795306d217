//! Every key file of the vectors: what the checks say against what the device and other programs did.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use proptest::prelude::*;
use spark_keys::check::check_with_candidates;
use spark_keys::der::DerError;
use spark_keys::private_key::Number;
use spark_keys::public_key::{spki_1024, spki_2048};
use spark_keys::*;

fn vector(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn cases() -> Vec<serde_json::Value> {
    let json: serde_json::Value = serde_json::from_slice(&vector("keys.json")).unwrap();
    json["private_keys"].as_array().unwrap().clone()
}

fn codes(field: &[u8]) -> Vec<&'static str> {
    check(field).findings().map(|finding| finding.code()).collect()
}

#[test]
fn device_works_exactly_when_the_device_code_decrypted() {
    for case in cases() {
        let file = case["file"].as_str().unwrap();
        let works = case["device_parser"]["decrypt_test"] == "decrypts";
        assert_eq!(check(&vector(file)).device_works(), works, "{file}");
    }
}

#[test]
fn files_are_those_that_the_verdicts_are_about() {
    for case in cases() {
        let bytes = vector(case["file"].as_str().unwrap());
        assert_eq!(case["length"].as_u64(), Some(bytes.len() as u64), "{}", case["file"]);
        let digest = Fingerprint::of_spki(&bytes).to_string();
        assert_eq!(case["sha256"], digest, "{}", case["file"]);
    }
}

#[test]
fn numbers_that_the_device_code_read_pass_its_library_as_there() {
    for case in cases() {
        let (file, device) = (case["file"].as_str().unwrap(), &case["device_parser"]);
        let bytes = vector(file);
        let published = published_by_device(&bytes);
        let n = hex::encode(&published[29..157]);
        assert_eq!(device["n"], n.trim_start_matches("00"), "{file}");
        if let Some(code) = device["check_pubkey"].as_i64() {
            // of a modulus the library asks only that it is odd and long enough
            assert_eq!(published[156] % 2 == 1, code == 0, "{file}");
        }
        let passes = device["check_privkey"] == 0;
        assert_eq!(device_view::passes_library_check(&bytes), passes, "{file}");
    }
}

/// What OpenSSL says when a relation fails.
const BY_OPENSSL: [(Relation, &str); 5] = [
    (Relation::ModulusIsProduct, "n does not equal p q"),
    (Relation::PrivateExponent, "d e not congruent to 1"),
    (Relation::Dp, "dmp1 not congruent to d"),
    (Relation::Dq, "dmq1 not congruent to d"),
    (Relation::Qinv, "iqmp not inverse of q"),
];

#[test]
fn other_programs_read_and_refuse_the_same_files() {
    for case in cases() {
        let file = case["file"].as_str().unwrap();
        let bytes = vector(file);
        let mut scratch = [0; load::MAX_DER];
        let loaded = load::load(&bytes, &mut scratch);
        let by_openssl = case["openssl"].as_str().unwrap();
        assert_eq!(loaded.is_ok(), by_openssl == "ok", "{file}: {loaded:?}");
        let by_mbedtls = case["mbedtls_v1.0.0_tree"].as_str().unwrap();
        assert_eq!(
            loaded.is_ok(),
            by_mbedtls.starts_with("-0x0000 check_pub=-0x0 check_priv=-0x0"),
            "{file}"
        );
        match by_openssl.strip_prefix("read but inconsistent: ") {
            Some(texts) => {
                let failed: Vec<_> = check(&bytes)
                    .findings()
                    .filter_map(|finding| match finding {
                        Finding::RelationFailed { relation } => Some(relation),
                        _ => None,
                    })
                    .collect();
                assert!(
                    matches!(loaded, Err(LoadError::Relation { relation }) if relation == failed[0]),
                    "{file}"
                );
                let d_fits = !failed.contains(&Relation::PrivateExponent);
                for (relation, text) in BY_OPENSSL {
                    // OpenSSL compares dp and dq with d, not with e
                    let of_d = !d_fits && matches!(relation, Relation::Dp | Relation::Dq);
                    let (here, there) = (failed.contains(&relation), texts.contains(text));
                    assert!(here == there || of_d && there, "{file}: {text}");
                }
            }
            None => assert!(!matches!(loaded, Err(LoadError::Relation { .. })), "{file}"),
        }
        // strict readers of DER want it canonical and alone
        let strict = loaded.is_ok_and(|loaded| match loaded.key {
            Key::RsaPrivate(key) => key.is_minimal() && loaded.trailing.is_empty(),
            _ => false,
        });
        for reader in ["rust_rsa0.9", "rust_rsa0.10rc"] {
            assert_eq!(strict, case[reader].as_str().unwrap().starts_with("ok"), "{file} {reader}");
        }
    }
}

#[test]
fn keys_are_the_same_by_their_modulus_alone() {
    let (a, b) = (vector("rsa1024_608.spki.pem"), vector("rsa1024_608.pkcs1_pub.der"));
    let other = load_device_key(&vector("rsa1024_609.der")).unwrap().public_key();
    let (mut first, mut second) = ([0; 2048], [0; 2048]);
    let a = load_public_key(&a, &mut first).unwrap();
    let b = load_public_key(&b, &mut second).unwrap();
    let other = RsaPublicKeyView::parse_spki(&other).unwrap();
    assert!(a.same_modulus(&b) && !a.same_modulus(&other));
    for bit in [0, 500, 1023] {
        let mut spki = vector("rsa1024_608.spki.der");
        spki[29 + bit / 8] ^= 0x80 >> (bit % 8);
        // without its top bit the number is shorter, and so is its encoding
        if let Ok(changed) = RsaPublicKeyView::parse_spki(&spki) {
            assert!(!changed.same_modulus(&a), "{bit}");
        }
    }
    // another exponent is another key with the same modulus
    let mut spki = vector("rsa1024_608.spki.der");
    spki[161] = 3;
    assert!(RsaPublicKeyView::parse_spki(&spki).unwrap().same_modulus(&a));
}

#[test]
fn published_key_is_the_one_that_the_device_code_gave() {
    for case in cases() {
        let file = case["file"].as_str().unwrap();
        if let Some(expected) = case["device_parser"]["pub"].as_str() {
            assert_eq!(hex::encode(published_by_device(&vector(file))), expected, "{file}");
        }
    }
}

#[test]
fn each_file_has_its_findings() {
    let stale = "stale-tail";
    let expected: &[(&str, &[&str])] = &[
        ("rsa1024_607.der", &[]),
        ("rsa1024_608.der", &[]),
        ("rsa1024_609.der", &[]),
        ("rsa1024_610.der", &[]),
        ("rsa1024_611.der", &[]),
        ("field612_ff.bin", &[]),
        ("field612_00.bin", &[]),
        ("field612_stale_tail.bin", &[stale]),
        ("devgen_v050.bin", &["not-minimal"]),
        ("devgen_v040.bin", &["not-minimal"]),
        ("bad_erased.der", &["erased"]),
        ("bad_zeroed.der", &["zeroed"]),
        ("bad_truncated_at_300.der", &["truncated"]),
        ("bad_truncated_last_byte.der", &["truncated"]),
        ("bad_tail_erased_from_256.der", &["tail-erased"]),
        ("bad_d_bit.der", &["private-exponent-mismatch"]),
        ("bad_version_1.der", &["wrong-version"]),
        ("bad_tag_broken.der", &["broken-header"]),
        ("bad_seq_len_minus1.der", &["wrong-length"]),
        ("rsa1024_607_short_d.der", &["device-incompatible"]),
        ("rsa1024_606_short_dp.der", &["device-incompatible"]),
        ("rsa1024_608.openssl3_default.der", &["pkcs8-in-rsa-field"]),
        ("rsa1024_608.pkcs8.der", &["pkcs8-in-rsa-field"]),
        ("rsa1024_608.pkcs1.pem", &["pem-in-rsa-field"]),
        ("rsa1024_608.spki.der", &["public-key-in-private-field"]),
        ("rsa1024_608.pkcs1_pub.der", &["public-key-in-private-field"]),
        ("ec_p256.sec1.der", &["ec-key-in-rsa-field", "secret-published"]),
        ("ec_p256.field192.bin", &["ec-key-in-rsa-field", "secret-published"]),
        ("ec_p256.pkcs8.der", &["ec-key-in-rsa-field", "secret-published"]),
        ("ec_p256.pem", &["pem-in-rsa-field", "secret-published"]),
        ("server2048.pkcs1.der", &["wrong-size"]),
    ];
    for (file, codes_expected) in expected {
        assert_eq!(codes(&vector(file)), *codes_expected, "{file}");
    }
}

#[test]
fn damaged_modulus_and_prime_name_the_failed_relations() {
    assert_eq!(codes(&vector("bad_modulus_bit.der")), ["modulus-is-not-p-times-q"]);
    assert_eq!(
        codes(&vector("bad_p_bit.der")),
        ["modulus-is-not-p-times-q", "private-exponent-mismatch", "dp-mismatch", "qinv-mismatch"]
    );
}

#[test]
fn incompatible_number_is_named_with_its_length() {
    let finding = |file| check(&vector(file)).findings().next();
    assert_eq!(
        finding("rsa1024_607_short_d.der"),
        Some(Finding::DeviceIncompatible { number: Number::D, length: 127 })
    );
    assert_eq!(
        finding("rsa1024_606_short_dp.der"),
        Some(Finding::DeviceIncompatible { number: Number::Dp, length: 63 })
    );
}

#[test]
fn and_of_two_keys_is_told_when_both_are_known() {
    let field = vector("bad_and_of_two_keys.der");
    assert!(!check(&field).is_clean());
    let (a, b) = (vector("rsa1024_608.der"), vector("rsa1024_610.der"));
    let report = check_with_candidates(&field, &a, &b);
    assert!(report.findings().any(|finding| finding == Finding::InterruptedWrite));
    assert!(!is_interrupted_write(&field, &a, &vector("rsa1024_609.der")));
    assert!(!is_interrupted_write(&a, &a, &vector("rsa1024_609.der")));
}

#[test]
fn and_of_keys_of_different_length_is_told() {
    let (a, b) = (vector("rsa1024_608.der"), vector("rsa1024_611.der"));
    let field: Vec<u8> = (0..612).map(|i| a.get(i).unwrap_or(&0xFF) & b.get(i).unwrap_or(&0xFF)).collect();
    let report = check_with_candidates(&field, &b, &a);
    assert!(report.findings().any(|finding| finding == Finding::InterruptedWrite));
    assert!(!is_interrupted_write(&a, &a, &b) && !is_interrupted_write(&b, &a, &b));
    assert!(!report.device_works());
}

#[test]
fn misplaced_keys_publish_what_the_device_published() {
    let json: serde_json::Value = serde_json::from_slice(&vector("misplaced.json")).unwrap();
    for case in json["cases"].as_array().unwrap() {
        let field = match case["source_file"].as_str().unwrap() {
            "-" => vec![0xFF; 612],
            file => vector(file),
        };
        assert_eq!(hex::encode(published_by_device(&field)), case["device_published_spki"].as_str().unwrap());
        assert_eq!(check(&field).is_clean(), case["label"] == "good key");
        let passes = case["device_check_private"] == 0;
        assert_eq!(device_view::passes_library_check(&field), passes, "{}", case["label"]);
    }
}

#[test]
fn integer_lengths_are_those_that_were_recorded() {
    for case in cases() {
        let Some(lengths) = case["integer_lengths"].as_array() else { continue };
        let bytes = vector(case["file"].as_str().unwrap());
        let view = RsaPrivateKeyView::parse(&bytes).unwrap();
        let found = view.encoded_lengths();
        assert!(lengths.iter().zip(found).all(|(a, b)| a.as_u64() == Some(b as u64)));
        assert_eq!(view.der_len() as u64, case["length"].as_u64().unwrap());
    }
}

#[test]
fn strict_keys_survive_a_round_trip_and_device_keys_become_minimal() {
    let mut out = [0; 1300];
    for file in [
        "rsa1024_607.der",
        "rsa1024_608.der",
        "rsa1024_611.der",
        "rsa1024_606_short_dp.der",
        "server2048.pkcs1.der",
    ] {
        let bytes = vector(file);
        let view = RsaPrivateKeyView::parse(&bytes).unwrap();
        assert_eq!(view.encode_into(&mut out).unwrap(), bytes, "{file}");
        assert_eq!(view.encoded_len(), bytes.len());
    }
    for file in ["devgen_v040.bin", "devgen_v050.bin"] {
        let bytes = vector(file);
        let view = RsaPrivateKeyView::parse(&bytes).unwrap();
        assert!(!view.is_minimal());
        let canonical = view.encode_into(&mut out).unwrap();
        assert!(canonical.len() < view.der_len());
        let again = RsaPrivateKeyView::parse(canonical).unwrap();
        assert!(again.is_minimal());
        assert_eq!(again.fingerprint(), view.fingerprint());
        assert_eq!(codes(canonical), [""; 0]);
    }
}

#[test]
fn every_form_of_one_key_gives_the_same_device_key() {
    let expected = vector("rsa1024_608.der");
    for file in [
        "rsa1024_608.der",
        "rsa1024_608.pkcs1.pem",
        "rsa1024_608.pkcs8.der",
        "rsa1024_608.pkcs8.pem",
        "rsa1024_608.openssl3_default.der",
        "field612_ff.bin",
        "field612_00.bin",
        "field612_stale_tail.bin",
        "field1216_ff.bin",
    ] {
        let key = load_device_key(&vector(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(key.as_der(), expected, "{file}");
        assert_eq!(key.as_field()[608..], [0xFF; 4]);
        assert_eq!(key.public_key()[..], vector("rsa1024_608.spki.der"));
    }
}

#[test]
fn line_ends_and_text_around_a_pem_block_do_not_matter() {
    let text = String::from_utf8(vector("rsa1024_608.pkcs8.pem")).unwrap();
    let expected = vector("rsa1024_608.der");
    for text in [
        text.replace('\n', "\r\n"),
        format!("Key of my device:\n{text}\n\n"),
        format!("{}{text}", ec_parameters()),
    ] {
        assert_eq!(load_device_key(text.as_bytes()).unwrap().as_der(), expected);
    }
}

fn ec_parameters() -> String {
    let text = String::from_utf8(vector("ec_p256.pem")).unwrap();
    text.split_inclusive("-----END EC PARAMETERS-----\n").next().unwrap().into()
}

#[test]
fn keys_that_no_device_can_use_are_not_loaded() {
    for file in [
        "bad_modulus_bit.der",
        "bad_p_bit.der",
        "bad_version_1.der",
        "bad_tag_broken.der",
        "bad_erased.der",
        "bad_zeroed.der",
        "bad_truncated_at_300.der",
        "bad_seq_len_minus1.der",
        "bad_and_of_two_keys.der",
        "server2048.pem",
        "ec_p256.pem",
        "rsa1024_608.spki.pem",
    ] {
        assert!(load_device_key(&vector(file)).is_err(), "{file}");
    }
}

#[test]
fn keys_that_devices_misread_are_loaded_at_full_length() {
    for file in ["rsa1024_607_short_d.der", "rsa1024_606_short_dp.der"] {
        let der = vector(file);
        assert!(!check(&der).device_works(), "{file}");
        let key = load_device_key(&der).unwrap();
        assert_eq!((key.is_padded(), key.as_der().len()), (true, 611), "{file}");
        let report = check(key.as_field());
        assert!(report.device_works(), "{file}");
        let found: Vec<_> = report.findings().collect();
        assert_eq!(found, [Finding::NotMinimal], "as devices write keys themselves");
        let view = RsaPrivateKeyView::parse(&der).unwrap();
        let padded = RsaPrivateKeyView::parse(key.as_der()).unwrap();
        for number in Number::ALL {
            assert_eq!(padded.number(number).magnitude(), view.number(number).magnitude(), "{file} {number}");
        }
        assert_eq!(load_device_key(key.as_field()).unwrap().as_field(), key.as_field(), "and so again");
    }
    assert!(!load_device_key(&vector("rsa1024_607.der")).unwrap().is_padded());
}

#[test]
fn lengths_in_a_longer_form_are_found_where_the_device_stumbles_over_them() {
    let der = vector("rsa1024_608.der");
    // the length of p in three bytes
    let at = RsaPrivateKeyView::parse(&der).unwrap().number(Number::P).offset();
    let mut long = der.clone();
    long.splice(at + 1..at + 1, [0x82, 0]);
    long[2..4].copy_from_slice(&u16::try_from(der.len() - 2).unwrap().to_be_bytes());
    let report = check(&long);
    assert!(!report.device_works());
    assert_eq!(report.findings().next(), Some(Finding::LongLength { number: Number::P }));
    assert!(check(load_device_key(&long).unwrap().as_field()).is_clean());
}

#[test]
fn debug_of_a_loaded_key_shows_nothing_behind_it() {
    let mut file = vector("rsa1024_608.spki.der");
    file.extend(vector("rsa1024_608.der"));
    let mut scratch = [0; load::MAX_DER];
    let shown = format!("{:?}", load::load(&file, &mut scratch).unwrap());
    assert!(shown.contains("trailing: 608") && shown.len() < 400, "{shown}");
}

#[test]
fn pem_is_written_as_openssl_does() {
    let mut out = [0; 2048];
    for (form, der, text) in [
        (KeyForm::Pkcs1Private, "rsa1024_608.der", "rsa1024_608.pkcs1.pem"),
        (KeyForm::Pkcs8Private, "rsa1024_608.pkcs8.der", "rsa1024_608.pkcs8.pem"),
        (KeyForm::SpkiRsa, "rsa1024_608.spki.der", "rsa1024_608.spki.pem"),
        (KeyForm::Pkcs1Public, "rsa1024_608.pkcs1_pub.der", "rsa1024_608.pkcs1_pub.pem"),
        (KeyForm::SpkiRsa, "server2048.spki.der", "server2048.spki.pem"),
    ] {
        let written = pem::encode(form, &vector(der), &mut out).unwrap();
        assert_eq!(written.trim_end().as_bytes(), vector(text).trim_ascii_end(), "{text}");
        let (found, bytes) = pem::decode(&vector(text), &mut out).unwrap();
        assert_eq!((found, bytes), (form, &vector(der)[..]), "{text}");
    }
}

#[test]
fn public_keys_are_read_in_all_forms_and_rebuilt_byte_for_byte() {
    let spki = vector("rsa1024_608.spki.der");
    for file in [
        "rsa1024_608.spki.der",
        "rsa1024_608.spki.pem",
        "rsa1024_608.pkcs1_pub.der",
        "rsa1024_608.pkcs1_pub.pem",
    ] {
        let (bytes, mut buffer) = (vector(file), [0; 2048]);
        let key = load_public_key(&bytes, &mut buffer).unwrap();
        assert_eq!(spki_1024(key.modulus().try_into().unwrap())[..], spki, "{file}");
        assert_eq!(key.fingerprint(), Some(Fingerprint::of_spki(&spki)));
        assert!(!key.is_server_key());
    }
    for file in [
        "server2048.spki.der",
        "server2048.spki.pem",
        "particle_server_rsa_512.der",
        "particle_server_rsa_spki_294.der",
    ] {
        let (bytes, mut buffer) = (vector(file), [0; 2048]);
        let key = load_public_key(&bytes, &mut buffer).unwrap();
        assert!(key.is_server_key(), "{file}");
        assert_eq!(key.der_len(), 294);
        let built = spki_2048(key.modulus().try_into().unwrap());
        assert_eq!(RsaPublicKeyView::parse_spki_strict(&built).unwrap().modulus(), key.modulus());
        if !file.contains("pem") {
            assert_eq!(built[..], bytes[..294]);
        }
    }
    let padded = vector("particle_server_rsa_512.der");
    assert_eq!(
        RsaPublicKeyView::parse_spki_strict(&padded).unwrap_err(),
        DerError::Sum { declared: 294, found: 512 }
    );
    assert!(load_public_key(&vector("particle_server_ec_320.der"), &mut [0; 2048]).is_err());
}

#[test]
fn fingerprint_is_the_digest_of_the_spki() {
    let key = load_device_key(&vector("rsa1024_608.der")).unwrap();
    let full = key.fingerprint().to_string();
    assert_eq!(full.len(), 64);
    assert_eq!(key.fingerprint().short().to_string(), full[..16]);
    assert_eq!(key.fingerprint(), Fingerprint::of_spki(&vector("rsa1024_608.spki.der")));
    // sha256sum rsa1024_608.spki.der
    assert_eq!(full, "6d5f3f4d2b5489ec2a6aeeaab316a032b7693f266470bbb72ed0e6084bb4802f");
}

#[test]
fn debug_output_shows_no_secret_number() {
    let bytes = vector("rsa1024_608.der");
    let view = RsaPrivateKeyView::parse(&bytes).unwrap();
    let key = load_device_key(&bytes).unwrap();
    let d = view.number(Number::D);
    let shown = format!("{view:?} {key:?} {d:?}");
    assert!(shown.len() < 400);
    assert!(!shown.contains(&format!("{:?}", &d.magnitude()[..4])[1..10]));
}

#[test]
fn every_truncation_is_an_error_and_a_finding() {
    let bytes = vector("rsa1024_608.der");
    for length in 0..bytes.len() {
        let cut = &bytes[..length];
        assert!(matches!(RsaPrivateKeyView::parse(cut).unwrap_err(), DerError::Truncated { .. }), "{length}");
        assert!(!check(cut).is_clean(), "{length}");
        assert!(!check(cut).device_works(), "{length}");
    }
    for (file, length) in [("rsa1024_608.spki.der", 162), ("server2048.spki.der", 294)] {
        let bytes = vector(file);
        for cut in 0..length {
            assert!(RsaPublicKeyView::parse_spki(&bytes[..cut]).is_err());
        }
    }
    let text = vector("rsa1024_608.pkcs8.pem");
    for cut in 0..text.len() - 6 {
        assert!(load_device_key(&text[..cut]).is_err());
    }
}

#[test]
fn every_flipped_bit_of_a_key_is_found() {
    let bytes = vector("rsa1024_608.der");
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(!check(&damaged).is_clean(), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn every_finding_has_texts_and_a_unique_code() {
    let bytes = vector("rsa1024_608.der");
    let mut seen = Vec::new();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x80;
        for finding in check(&damaged).findings() {
            if !seen.contains(&finding.code()) {
                seen.push(finding.code());
            }
            assert!(
                !finding.device().is_empty()
                    && !finding.cloud().is_empty()
                    && !finding.next_step().is_empty()
            );
            assert!(finding.code().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
            assert!(!finding.to_string().contains('\n'));
        }
    }
    assert!(seen.len() > 6);
}

proptest! {
    #[test]
    fn any_field_is_checked_without_panic(field in proptest::collection::vec(any::<u8>(), 0..700)) {
        let report = check(&field);
        prop_assert!(!report.device_works());
        let _ = load_device_key(&field);
        let _ = load_public_key(&field, &mut [0; 2048]);
    }

    #[test]
    fn any_damage_to_a_real_key_is_checked_without_panic(at in 0usize..612, bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
        let mut field = vector("field612_ff.bin");
        let end = (at + bytes.len()).min(612);
        field[at..end].copy_from_slice(&bytes[..end - at]);
        let report = check(&field);
        prop_assert!(report.findings().count() < 24);
    }

    #[test]
    fn any_text_is_refused_without_panic(text in "(-----BEGIN [A-Z ]{0,16}-----\n)?[A-Za-z0-9+/=\n -]{0,200}") {
        let mut out = [0; 256];
        let _ = pem::decode(text.as_bytes(), &mut out);
    }

    #[test]
    fn spki_of_any_modulus_is_read_back(mut modulus: [u8; 32]) {
        modulus[0] |= 0x80;
        let mut wide = [1; 128];
        wide[..32].copy_from_slice(&modulus);
        let spki = spki_1024(&wide);
        prop_assert_eq!(RsaPublicKeyView::parse_spki_strict(&spki).unwrap().modulus(), wide);
    }
}
