//! Every form of every key: read, written, and what may surround it.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use proptest::prelude::*;
use spark_keys::ec::EcKeyError;
use spark_keys::key::EncodeError;
use spark_keys::load::{Loaded, MAX_DER, load};
use spark_keys::*;

fn vector(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn with<T>(file: &[u8], look: impl FnOnce(Result<Loaded<'_>, LoadError>) -> T) -> T {
    let mut scratch = [0; MAX_DER];
    look(load(file, &mut scratch))
}

/// Every key file of the vectors that holds a working key: form, PEM, length, trailing bytes, bits.
const FILES: &[(&str, KeyForm, bool, usize, usize, usize)] = &[
    ("rsa1024_606_short_dp.der", KeyForm::Pkcs1Private, false, 606, 0, 1024),
    ("rsa1024_607.der", KeyForm::Pkcs1Private, false, 607, 0, 1024),
    ("rsa1024_607_short_d.der", KeyForm::Pkcs1Private, false, 607, 0, 1024),
    ("rsa1024_608.der", KeyForm::Pkcs1Private, false, 608, 0, 1024),
    ("rsa1024_609.der", KeyForm::Pkcs1Private, false, 609, 0, 1024),
    ("rsa1024_610.der", KeyForm::Pkcs1Private, false, 610, 0, 1024),
    ("rsa1024_611.der", KeyForm::Pkcs1Private, false, 611, 0, 1024),
    ("field612_ff.bin", KeyForm::Pkcs1Private, false, 608, 4, 1024),
    ("field612_00.bin", KeyForm::Pkcs1Private, false, 608, 4, 1024),
    ("field612_stale_tail.bin", KeyForm::Pkcs1Private, false, 608, 4, 1024),
    ("field1216_ff.bin", KeyForm::Pkcs1Private, false, 608, 608, 1024),
    ("devgen_v040.bin", KeyForm::Pkcs1Private, false, 611, 1, 1024),
    ("devgen_v050.bin", KeyForm::Pkcs1Private, false, 611, 1, 1024),
    ("rsa1024_608.pkcs1.pem", KeyForm::Pkcs1Private, true, 608, 0, 1024),
    ("rsa1024_608.pkcs8.der", KeyForm::Pkcs8Private, false, 634, 0, 1024),
    ("rsa1024_608.openssl3_default.der", KeyForm::Pkcs8Private, false, 634, 0, 1024),
    ("rsa1024_608.pkcs8.pem", KeyForm::Pkcs8Private, true, 634, 0, 1024),
    ("rsa1024_608.spki.der", KeyForm::SpkiRsa, false, 162, 0, 1024),
    ("rsa1024_608.spki.pem", KeyForm::SpkiRsa, true, 162, 0, 1024),
    ("rsa1024_608.pkcs1_pub.der", KeyForm::Pkcs1Public, false, 140, 0, 1024),
    ("rsa1024_608.pkcs1_pub.pem", KeyForm::Pkcs1Public, true, 140, 0, 1024),
    ("server2048.pem", KeyForm::Pkcs1Private, true, 0, 0, 2048),
    ("server2048.pkcs1.der", KeyForm::Pkcs1Private, false, 0, 0, 2048),
    ("server2048.spki.der", KeyForm::SpkiRsa, false, 294, 0, 2048),
    ("server2048.spki.pem", KeyForm::SpkiRsa, true, 294, 0, 2048),
    ("particle_server_rsa_spki_294.der", KeyForm::SpkiRsa, false, 294, 0, 2048),
    ("particle_server_rsa_512.der", KeyForm::SpkiRsa, false, 294, 218, 2048),
    ("ec_p256.pem", KeyForm::Sec1Ec, true, 121, 0, 256),
    ("ec_p256.sec1.der", KeyForm::Sec1Ec, false, 121, 0, 256),
    ("ec_p256.field192.bin", KeyForm::Sec1Ec, false, 121, 71, 256),
    ("ec_p256.pkcs8.der", KeyForm::Pkcs8Ec, false, 138, 0, 256),
    ("ec_p256.spki.der", KeyForm::SpkiEc, false, 91, 0, 256),
    ("particle_server_ec_spki_91.der", KeyForm::SpkiEc, false, 91, 0, 256),
    ("particle_server_ec_320.der", KeyForm::SpkiEc, false, 91, 229, 256),
];

#[test]
fn every_working_key_file_loads_as_what_it_is() {
    for (file, form, pem, der_len, trailing, bits) in FILES {
        with(&vector(file), |loaded| {
            let loaded = loaded.unwrap_or_else(|error| panic!("{file}: {error}"));
            assert_eq!((loaded.form, loaded.pem), (*form, *pem), "{file}");
            assert_eq!(loaded.key.bits(), *bits, "{file}");
            assert_eq!(loaded.trailing.len(), *trailing, "{file}");
            if *der_len != 0 {
                assert_eq!(loaded.der_len, *der_len, "{file}");
            }
            assert_eq!(loaded.key.is_private(), loaded.form.is_private());
            assert!(loaded.key.fingerprint().is_some());
        });
    }
}

#[test]
fn every_damaged_key_file_is_refused() {
    for file in [
        "bad_and_of_two_keys.der",
        "bad_d_bit.der",
        "bad_erased.der",
        "bad_modulus_bit.der",
        "bad_p_bit.der",
        "bad_seq_len_minus1.der",
        "bad_tag_broken.der",
        "bad_tail_erased_from_256.der",
        "bad_truncated_at_300.der",
        "bad_truncated_last_byte.der",
        "bad_version_1.der",
        "bad_zeroed.der",
    ] {
        with(&vector(file), |loaded| assert!(loaded.is_err(), "{file}"));
    }
    let relation = |file| with(&vector(file), |loaded| loaded.unwrap_err());
    assert_eq!(relation("bad_modulus_bit.der"), LoadError::Relation { relation: Relation::ModulusIsProduct });
    assert_eq!(relation("bad_d_bit.der"), LoadError::Relation { relation: Relation::PrivateExponent });
}

#[test]
fn each_form_is_written_as_openssl_writes_it() {
    let rsa = [
        (KeyForm::Pkcs1Private, "rsa1024_608.der"),
        (KeyForm::Pkcs8Private, "rsa1024_608.pkcs8.der"),
        (KeyForm::SpkiRsa, "rsa1024_608.spki.der"),
        (KeyForm::Pkcs1Public, "rsa1024_608.pkcs1_pub.der"),
    ];
    let ec = [
        (KeyForm::Sec1Ec, "ec_p256.sec1.der"),
        (KeyForm::Pkcs8Ec, "ec_p256.pkcs8.der"),
        (KeyForm::SpkiEc, "ec_p256.spki.der"),
    ];
    let server = [(KeyForm::Pkcs1Private, "server2048.pkcs1.der"), (KeyForm::SpkiRsa, "server2048.spki.der")];
    for forms in [&rsa[..], &ec, &server] {
        for (from, source) in forms {
            for (to, expected) in forms {
                let (file, expected) = (vector(source), vector(expected));
                with(&file, |loaded| {
                    let key = loaded.unwrap().key;
                    let mut out = [0; 1300];
                    if to.is_private() && !from.is_private() {
                        assert_eq!(key.encode_into(*to, &mut out), Err(EncodeError::Form { form: *to }));
                        assert_eq!(key.encoded_len(*to), Err(EncodeError::Form { form: *to }));
                        return;
                    }
                    assert_eq!(key.encode_into(*to, &mut out).unwrap(), expected, "{source} {to:?}");
                    assert_eq!(key.encoded_len(*to).unwrap(), expected.len());
                    let short = key.encode_into(*to, &mut out[..expected.len() - 1]);
                    assert!(matches!(short, Err(EncodeError::Buffer(_))));
                });
            }
        }
    }
}

#[test]
fn keys_are_not_written_in_forms_of_the_other_algorithm_or_as_text() {
    for file in ["rsa1024_608.der", "ec_p256.sec1.der", "rsa1024_608.spki.der", "ec_p256.spki.der"] {
        with(&vector(file), |loaded| {
            let key = loaded.unwrap().key;
            let foreign = match key.algorithm() {
                "rsa" => [KeyForm::Sec1Ec, KeyForm::Pkcs8Ec, KeyForm::SpkiEc, KeyForm::Pem],
                _ => [KeyForm::Pkcs1Private, KeyForm::Pkcs1Public, KeyForm::SpkiRsa, KeyForm::Pem],
            };
            for form in foreign {
                assert_eq!(key.encode_into(form, &mut [0; 1300]), Err(EncodeError::Form { form }));
            }
        });
    }
}

#[test]
fn canonical_forms_of_a_key_are_fixed_points() {
    for (file, ..) in FILES {
        let bytes = vector(file);
        with(&bytes, |loaded| {
            let loaded = loaded.unwrap();
            let (mut once, mut twice) = ([0; 1300], [0; 1300]);
            let once = loaded.key.encode_into(loaded.form, &mut once).unwrap();
            with(once, |again| {
                let again = again.unwrap();
                assert!(again.trailing.is_empty());
                assert_eq!(again.key.encode_into(again.form, &mut twice).unwrap(), once, "{file}");
                assert_eq!(again.key.fingerprint(), loaded.key.fingerprint());
            });
        });
    }
}

#[test]
fn text_is_written_as_openssl_does() {
    let mut out = [0; 2048];
    for (form, der, text) in [
        (KeyForm::Sec1Ec, "ec_p256.sec1.der", "ec_p256.pem"),
        (KeyForm::Pkcs1Private, "rsa1024_608.der", "rsa1024_608.pkcs1.pem"),
    ] {
        let der = vector(der);
        let written = pem::encode(form, &der, &mut out).unwrap();
        assert_eq!(pem::encoded_len(form, &der), Some(written.len()));
        let expected = String::from_utf8(vector(text)).unwrap();
        assert!(expected.ends_with(written), "{text}");
    }
    assert_eq!(pem::encoded_len(KeyForm::Pem, &[]), None);
}

#[test]
fn line_ends_text_and_marks_around_a_pem_block_do_not_matter() {
    for file in ["ec_p256.pem", "rsa1024_608.pkcs8.pem", "rsa1024_608.spki.pem", "server2048.pem"] {
        let text = String::from_utf8(vector(file)).unwrap();
        let expected = with(text.as_bytes(), |loaded| loaded.unwrap().key.fingerprint());
        let mut padded = text.clone().into_bytes();
        padded.resize(2400, 0xFF);
        for changed in [
            text.replace('\n', "\r\n").into_bytes(),
            format!("\u{FEFF}{text}").into_bytes(),
            format!("Schlüssel:\n\n{text}\nEnde").into_bytes(),
            text.trim_end().as_bytes().to_vec(),
            padded,
        ] {
            with(&changed, |loaded| {
                let loaded = loaded.unwrap_or_else(|error| panic!("{file}: {error}"));
                assert!(loaded.pem);
                assert_eq!(loaded.key.fingerprint(), expected, "{file}");
            });
        }
    }
}

#[test]
fn keys_under_a_passphrase_are_named_as_such() {
    for text in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIC\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIC\n-----END RSA PRIVATE KEY-----\n",
    ] {
        with(text.as_bytes(), |loaded| {
            assert_eq!(loaded.unwrap_err(), LoadError::Pem(pem::PemError::Encrypted));
        });
    }
}

#[test]
fn every_truncation_of_every_form_is_refused() {
    for (file, form, pem, ..) in FILES {
        if *pem {
            continue;
        }
        let bytes = vector(file);
        let der_len = with(&bytes, |loaded| loaded.unwrap().der_len);
        // RSA-2048 costs time and is the same code
        let step = if der_len > 1000 { 7 } else { 1 };
        for cut in (0..der_len).step_by(step) {
            with(&bytes[..cut], |loaded| assert!(loaded.is_err(), "{file} {form:?} {cut}"));
        }
    }
    for file in ["ec_p256.pem", "rsa1024_608.pkcs1.pem", "rsa1024_608.spki.pem"] {
        let text = vector(file);
        for cut in 0..text.len() - 6 {
            with(&text[..cut], |loaded| assert!(loaded.is_err(), "{file} {cut}"));
        }
    }
}

/// All numbers of a private key, in the canonical form of its kind.
fn numbers(key: &Key<'_>) -> Vec<u8> {
    let form = if key.algorithm() == "rsa" { KeyForm::Pkcs1Private } else { KeyForm::Sec1Ec };
    let mut out = [0; 1300];
    key.encode_into(form, &mut out).unwrap().to_vec()
}

#[test]
fn a_flipped_bit_makes_no_other_key() {
    for file in ["rsa1024_608.der", "rsa1024_608.pkcs8.der", "ec_p256.sec1.der", "ec_p256.pkcs8.der"] {
        let bytes = vector(file);
        let expected = with(&bytes, |loaded| numbers(&loaded.unwrap().key));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                with(&damaged, |loaded| {
                    if let Ok(loaded) = loaded {
                        assert!(numbers(&loaded.key) == expected, "{file} byte {at} bit {bit}");
                    }
                });
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_a_public_point_is_refused() {
    let bytes = vector("ec_p256.spki.der");
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(EcPublicKeyView::parse_spki(&damaged).is_err(), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn an_ec_key_needs_neither_point_nor_curve_and_gets_both() {
    let sec1 = vector("ec_p256.sec1.der");
    let scalar = &sec1[7..39];
    let bare = [&[0x30, 0x25, 2, 1, 1, 4, 0x20], scalar].concat();
    let named = [&[0x30, 0x31, 2, 1, 1, 4, 0x20], scalar, &sec1[39..51]].concat();
    // x and the parity of y
    let y_is_odd = sec1[120] & 1;
    let mut compressed = [&[0x30, 0x57, 2, 1, 1, 4, 0x20], &sec1[7..51], &[0xA1, 0x24, 3, 0x22, 0]].concat();
    compressed.push(2 + y_is_odd);
    compressed.extend(&sec1[57..89]);
    for der in [&bare, &named, &compressed] {
        let key = load_ec_device_key(der).unwrap();
        assert_eq!(key.as_der()[..], sec1);
    }
    compressed[56] ^= 1;
    assert_eq!(load_ec_device_key(&compressed).unwrap_err(), LoadError::Ec(EcKeyError::Point));
}

#[test]
fn private_numbers_of_an_ec_key_have_a_range() {
    let order = hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551").unwrap();
    let scalar = |bytes: &[u8]| EcDeviceKey::from_scalar(bytes.try_into().unwrap());
    assert_eq!(scalar(&[0; 32]).unwrap_err(), EcKeyError::Range);
    assert_eq!(scalar(&order).unwrap_err(), EcKeyError::Range);
    let mut last = order.clone();
    last[31] -= 1;
    // -1 times the generator: SEC 2 section 2.4.2, y negated
    let key = scalar(&last).unwrap();
    assert_eq!(
        hex::encode(&key.point()[..32]),
        "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    );
    let mut one = [0; 32];
    one[31] = 1;
    assert_eq!(scalar(&one).unwrap().point()[..32], key.point()[..32]);
    // leading zeros are kept
    let short = scalar(&one).unwrap();
    assert_eq!(short.as_der().len(), 121);
    assert_eq!(load_ec_device_key(short.as_field()).unwrap().scalar(), &one);
}

#[test]
fn other_curves_are_refused() {
    let mut der = vector("ec_p256.sec1.der");
    der[50] = 6;
    assert!(matches!(load_ec_device_key(&der), Err(LoadError::Der(der::DerError::Value { .. }))));
    let mut spki = vector("ec_p256.spki.der");
    spki[22] = 6;
    assert!(EcPublicKeyView::parse_spki(&spki).is_err());
}

#[test]
fn ec_device_keys_load_from_every_form_and_nothing_else_does() {
    let sec1 = vector("ec_p256.sec1.der");
    for file in ["ec_p256.pem", "ec_p256.sec1.der", "ec_p256.pkcs8.der", "ec_p256.field192.bin"] {
        let key = load_ec_device_key(&vector(file)).unwrap();
        assert_eq!(key.as_der()[..], sec1, "{file}");
        assert_eq!(key.as_field()[121..], [0xFF; 71]);
        assert_eq!(key.public_key()[..], vector("ec_p256.spki.der"));
        assert_eq!(key.fingerprint(), Fingerprint::of_spki(&vector("ec_p256.spki.der")));
    }
    for file in ["rsa1024_608.der", "ec_p256.spki.der", "bad_erased.der"] {
        assert!(matches!(load_ec_device_key(&vector(file)), Err(LoadError::NotEc { .. })), "{file}");
    }
}

#[test]
fn numbers_that_fit_together_without_primes_are_no_key() {
    let der = vector("made_of_composites.der");
    with(&der, |loaded| assert!(matches!(loaded, Err(LoadError::NotPrime { .. })), "{loaded:?}"));
    assert!(load_device_key(&der).is_err());
    let report = check(&der);
    assert_eq!(report.findings().map(|finding| finding.code()).collect::<Vec<_>>(), ["not-prime"]);
    assert!(!report.device_works());
    assert!(!device_view::decrypts(&der));
    assert!(repair(&der).is_err());
}

#[test]
fn the_bundled_keys_are_those_of_the_host_tool() {
    for (key, file, whole) in [
        (BundledKey::ParticleRsa, "particle_server_rsa_spki_294.der", "particle_server_rsa_512.der"),
        (BundledKey::ParticleEc, "particle_server_ec_spki_91.der", "particle_server_ec_320.der"),
    ] {
        let spki = vector(file);
        assert_eq!(key.spki(), spki);
        assert!(vector(whole).starts_with(&spki));
        assert_eq!(key.fingerprint(), Fingerprint::of_spki(&spki));
        assert_eq!(BundledKey::of_spki(&spki), Some(key));
        assert_eq!(BundledKey::of_fingerprint(&key.fingerprint()), Some(key));
        with(&spki, |loaded| assert_eq!(loaded.unwrap().key.fingerprint(), Some(key.fingerprint())));
    }
    // sha256sum particle_server_rsa_spki_294.der particle_server_ec_spki_91.der
    assert_eq!(
        BundledKey::ALL.map(|key| key.fingerprint().to_string()),
        [
            "aa8aba3c973ed4b668999047a09597948f36eefde525352e705fe8ef98c1677e",
            "a22c78edbbefc04dec7333da227fc6f6904754d17d042099c765a02864555183"
        ]
    );
    assert_eq!(BundledKey::of_spki(&vector("server2048.spki.der")), None);
}

#[test]
fn debug_output_shows_no_secret() {
    let key = load_ec_device_key(&vector("ec_p256.pem")).unwrap();
    let shown = with(&vector("ec_p256.field192.bin"), |loaded| format!("{:?} {key:?}", loaded.unwrap().key));
    let scalar = key.scalar();
    for secret in [hex::encode(&scalar[..4]), format!("{}, {}", scalar[0], scalar[1])] {
        assert!(!shown.contains(&secret), "{shown}");
    }
    assert!(shown.contains(&key.fingerprint().to_string()));
}

proptest! {
    #[test]
    fn any_bytes_load_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
        let private = with(&bytes, |loaded| loaded.is_ok_and(|loaded| loaded.key.is_private()));
        prop_assert!(!private);
        let _ = load_ec_device_key(&bytes);
        let _ = repair(&bytes);
    }

    #[test]
    fn any_bytes_in_a_real_file_never_make_another_key(
        file in 0..FILES.len(), at in 0usize..700, bytes in proptest::collection::vec(any::<u8>(), 1..20)
    ) {
        let mut data = vector(FILES[file].0);
        let expected = with(&data, |loaded| {
            let key = loaded.unwrap().key;
            if key.is_private() { numbers(&key) } else { vec![] }
        });
        let at = at.min(data.len() - 1);
        let end = (at + bytes.len()).min(data.len());
        data[at..end].copy_from_slice(&bytes[..end - at]);
        with(&data, |loaded| {
            if let Ok(loaded) = loaded && loaded.key.is_private() {
                prop_assert!(numbers(&loaded.key) == expected);
            }
            Ok(())
        })?;
    }

    #[test]
    fn any_private_number_survives_every_ec_form(scalar: [u8; 32]) {
        let Ok(key) = EcDeviceKey::from_scalar(&scalar) else { return Ok(()) };
        let mut out = [0; 138];
        let pkcs8 = key.encode_pkcs8_into(&mut out).unwrap().to_vec();
        let mut text = [0; 400];
        let text = pem::encode(KeyForm::Pkcs8Ec, &pkcs8, &mut text).unwrap().to_owned();
        for form in [&key.as_der()[..], key.as_field(), &pkcs8, text.as_bytes()] {
            let again = load_ec_device_key(form).unwrap();
            prop_assert_eq!(again.as_der(), key.as_der());
        }
        prop_assert!(check_ec(key.as_field()).is_clean());
        let public = key.public_key();
        let public = EcPublicKeyView::parse_spki(&public).unwrap();
        prop_assert_eq!(public.point(), key.point());
    }
}
