//! Keys that are damaged in other forms than the device's own, and fields that a device takes for empty ones.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use spark_keys::check::{ServerKeyKind, check_server_key};
use spark_keys::der::DerError;
use spark_keys::load::{MAX_DER, load, unpack};
use spark_keys::pem::PemError;
use spark_keys::*;

fn vector(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn text(form: KeyForm, der: &[u8]) -> String {
    let mut out = [0; 4096];
    pem::encode(form, der, &mut out).unwrap().to_owned()
}

fn codes(report: &Report) -> Vec<&'static str> {
    report.findings().map(|finding| finding.code()).collect()
}

fn error(file: &[u8]) -> LoadError {
    load(file, &mut [0; MAX_DER]).unwrap_err()
}

#[test]
fn a_first_byte_of_ff_makes_the_device_replace_the_key() {
    for erased in [1, 2, 5, 20, 200] {
        let mut field = vector("field612_ff.bin");
        field[..erased].fill(0xFF);
        let report = check(&field);
        assert_eq!(report.findings().next(), Some(Finding::HeadErased { len: erased }));
        assert_eq!(codes(&report), ["head-erased"], "nothing is said about what the device reads");
        assert!(!report.device_works() && report.fingerprint().is_none());
        assert!(!device_view::decrypts(&field) && device_view::counts_as_empty(&field));
        if erased < 200 {
            let repaired = repair(&field).unwrap();
            assert!(check(repaired.key.as_field()).is_clean());
            assert_eq!(repaired.key.as_der(), vector("rsa1024_608.der"));
        }
    }
    // what else is wrong is told as well
    let mut field = vector("bad_p_bit.der");
    field[0] = 0xFF;
    assert!(codes(&check(&field)).contains(&"modulus-is-not-p-times-q"));
    for first in 0..=0xFE {
        let mut field = vector("field612_ff.bin");
        field[0] = first;
        assert!(check(&field).device_works(), "{first}: the device looks for FF only");
    }

    for erased in [1, 5, 40] {
        let mut field = vector("ec_p256.field192.bin");
        field[..erased].fill(0xFF);
        let report = check_ec(&field);
        assert_eq!((codes(&report), report.device_works()), (vec!["head-erased"], false));
        assert_eq!(report.findings().next(), Some(Finding::HeadErased { len: erased }));
    }
}

#[test]
fn damage_inside_of_other_forms_is_named_and_repaired() {
    let good = vector("rsa1024_608.der");
    let mut damaged = good.clone();
    damaged[60] ^= 4;
    let header = vector("rsa1024_608.pkcs8.der")[..26].to_vec();
    let pkcs8 = [&header, &damaged[..]].concat();
    for (file, form) in [
        (pkcs8.clone(), "pkcs8-in-rsa-field"),
        (text(KeyForm::Pkcs1Private, &damaged).into_bytes(), "pem-in-rsa-field"),
        (text(KeyForm::Pkcs8Private, &pkcs8).into_bytes(), "pem-in-rsa-field"),
    ] {
        assert_eq!(codes(&check(&file)), [form, "modulus-is-not-p-times-q"]);
        assert_eq!(error(&file), LoadError::Relation { relation: Relation::ModulusIsProduct });
        let mut scratch = [0; MAX_DER];
        let unpacked = unpack(&file, &mut scratch).unwrap();
        assert!(unpacked.der == damaged, "the key itself");
        let repaired = repair(&file).unwrap();
        assert_eq!(repaired.key.as_der(), good);
        let names: Vec<_> = repaired.recomputed().map(|number| number.name()).collect();
        assert_eq!(names, ["n"]);
    }
    // good ones have nothing to add
    assert_eq!(codes(&check(&vector("rsa1024_608.pkcs8.pem"))), ["pem-in-rsa-field"]);
    assert_eq!(codes(&check(&vector("server2048.pem"))), ["pem-in-rsa-field", "wrong-size"]);

    let mut sec1 = vector("ec_p256.sec1.der");
    sec1[100] ^= 1;
    let file = text(KeyForm::Sec1Ec, &sec1);
    assert_eq!(codes(&check_ec(file.as_bytes())), ["pem-in-ec-field", "ec-point-mismatch"]);
    assert_eq!(repair_ec(file.as_bytes(), None).unwrap_err(), RepairError::UnconfirmedNumber);
    let spki = vector("ec_p256.spki.der");
    let public = EcPublicKeyView::parse_spki(&spki).unwrap();
    let repaired = repair_ec(file.as_bytes(), Some(&public)).unwrap();
    assert_eq!(repaired.as_der()[..], vector("ec_p256.sec1.der"));
    let mut pkcs8 = vector("ec_p256.pkcs8.der");
    pkcs8[120] ^= 1;
    assert_eq!(codes(&check_ec(&pkcs8)), ["pkcs8-in-ec-field", "ec-point-mismatch"]);
    let repaired = repair_ec(&pkcs8, Some(&public)).unwrap();
    assert_eq!(repaired.as_der()[..], vector("ec_p256.sec1.der"));
    // headers only: the point confirms the number
    let mut pkcs8 = vector("ec_p256.pkcs8.der");
    pkcs8[30] ^= 1;
    assert_eq!(repair_ec(&pkcs8, None).unwrap().as_der()[..], vector("ec_p256.sec1.der"));
}

#[test]
fn damaged_text_is_repaired_from_what_can_be_read() {
    let good = vector("rsa1024_608.der");
    for file in ["rsa1024_608.pkcs1.pem", "rsa1024_608.pkcs8.pem"] {
        let whole = vector(file);
        let mut star = whole.clone();
        star[400] = b'*';
        let cut = &whole[..600];
        let mut lost = whole.clone();
        lost[100..150].fill(b'?');
        for damaged in [&star[..], cut, &lost] {
            assert_eq!(error(damaged), LoadError::Pem(PemError::Malformed), "{file}");
            let report = check(damaged);
            let first = [
                Finding::WrongForm { form: KeyForm::Pem },
                Finding::UnreadableText { error: PemError::Malformed },
            ];
            assert!(report.findings().take(2).eq(first), "{report:?}");
            assert!(report.findings().count() > 2, "and what is wrong with the key: {report:?}");
            assert_eq!(repair(damaged).unwrap().key.as_der(), good, "{file}");
        }
        assert!(matches!(repair(&whole[..200]), Err(RepairError::Lost { .. })));
    }
    let whole = vector("ec_p256.pem");
    let cut = &whole[..whole.len() - 60];
    let spki = vector("ec_p256.spki.der");
    let public = EcPublicKeyView::parse_spki(&spki).unwrap();
    assert_eq!(repair_ec(cut, Some(&public)).unwrap().as_der()[..], vector("ec_p256.sec1.der"));
}

#[test]
fn text_that_people_and_programs_have_touched_is_read() {
    for file in ["ec_p256.pem", "rsa1024_608.pkcs8.pem", "rsa1024_608.spki.pem", "server2048.pem"] {
        let whole = String::from_utf8(vector(file)).unwrap();
        let fingerprint =
            |text: &str| load(text.as_bytes(), &mut [0; MAX_DER]).map(|loaded| loaded.key.fingerprint());
        let expected = fingerprint(&whole).unwrap();
        for (what, changed) in [
            ("CR only", whole.replace('\n', "\r")),
            ("indented", whole.replace('\n', "\n    ")),
            ("tabs", whole.replace('\n', "\n\t")),
            ("trailing blanks", whole.replace('\n', "  \n")),
            ("empty lines", whole.replace('\n', "\n\n")),
            ("one line", whole.replace('\n', "")),
            ("short lines", whole.replace("AA", "A\nA")),
        ] {
            assert_eq!(fingerprint(&changed), Ok(expected), "{file}: {what}");
        }
    }
    // the label was changed, the key inside was not
    let labelled =
        String::from_utf8(vector("rsa1024_608.pkcs8.pem")).unwrap().replace("PRIVATE", "RSA PRIVATE");
    let mut scratch = [0; MAX_DER];
    assert_eq!(load(labelled.as_bytes(), &mut scratch).unwrap().form, KeyForm::Pkcs8Private);
    assert_eq!(load_device_key(labelled.as_bytes()).unwrap().as_der(), vector("rsa1024_608.der"));
    // a private key is not taken for a public one, nor the reverse
    let lying = String::from_utf8(vector("rsa1024_608.spki.pem")).unwrap().replace("PUBLIC", "PRIVATE");
    assert!(load(lying.as_bytes(), &mut [0; MAX_DER]).is_err());
}

#[test]
fn what_is_no_key_for_devices_is_called_by_its_name() {
    let block = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    assert_eq!(error(block("CERTIFICATE", "MIIC").as_bytes()), LoadError::Pem(PemError::Certificate));
    assert_eq!(error(block("OPENSSH PRIVATE KEY", "b3Bl").as_bytes()), LoadError::Pem(PemError::OpenSsh));
    assert_eq!(error(block("X", "MIIC").as_bytes()), LoadError::Pem(PemError::NoKey));
    // certificate and key in one file, as servers have them
    let mut both = block("CERTIFICATE", "MIIC").into_bytes();
    both.extend(vector("server2048.pem"));
    assert!(load(&both, &mut [0; MAX_DER]).is_ok());
    let wide: Vec<u8> = String::from_utf8(vector("rsa1024_608.pkcs1.pem"))
        .unwrap()
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(error(&[&[0xFF, 0xFE], &wide[..]].concat()), LoadError::Pem(PemError::Utf16));
    let mut swapped = wide;
    swapped.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
    assert_eq!(error(&swapped), LoadError::Pem(PemError::Utf16));

    // openssl genpkey -algorithm ed25519
    let ed25519 = hex::decode(
        "302e020100300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842",
    )
    .unwrap();
    assert_eq!(error(&ed25519), LoadError::Algorithm);
    assert_eq!(error(text(KeyForm::Pkcs8Private, &ed25519).as_bytes()), LoadError::Algorithm);

    // openssl ecparam -name secp384r1 -genkey: the structure, a number and a point
    let mut p384 = hex::decode("3081a40201010430").unwrap();
    p384.extend([0x11; 48]);
    p384.extend(hex::decode("a00706052b81040022a16403620004").unwrap());
    p384.extend([0x22; 96]);
    for file in [p384.clone(), text(KeyForm::Sec1Ec, &p384).into_bytes()] {
        assert!(matches!(error(&file), LoadError::Der(DerError::Curve { .. })));
        assert_eq!(codes(&check_ec(&file)).last(), Some(&"ec-other-curve"));
        assert_eq!(repair_ec(&file, None).unwrap_err(), RepairError::OtherCurve);
    }
    // RSA-4096 in text: more than the loaders of device keys have room for
    let long = text(KeyForm::Pkcs8Private, &[0x30; 2374]);
    assert_eq!(load_device_key(long.as_bytes()).unwrap_err(), LoadError::TooLong { length: 2374 });
    assert_eq!(load_ec_device_key(long.as_bytes()).unwrap_err(), LoadError::TooLong { length: 2374 });
}

#[test]
fn another_exponent_is_named_before_any_length() {
    // a key that is whole but for e = 3: what counts is that it is looked at first
    let der = vector("rsa1024_608.der");
    let view = RsaPrivateKeyView::parse(&der).unwrap();
    let number = |number| view.number(number).magnitude();
    use private_key::Number::{D, Dp, Dq, N, P, Q, Qinv};
    let mut out = [0; 700];
    let e3 = private_key::encode_pkcs1(
        [number(N), &[3], number(D), number(P), number(Q), number(Dp), number(Dq), number(Qinv)],
        &mut out,
    )
    .unwrap();
    let error = DeviceKey::from_view(&RsaPrivateKeyView::parse(e3).unwrap()).unwrap_err();
    assert_eq!(error, device_key::DeviceKeyError::Exponent);
}

#[test]
fn private_key_is_taken_of_text_with_a_public_key_before_it() {
    let (public, private) = (vector("rsa1024_608.spki.pem"), vector("rsa1024_608.pkcs8.pem"));
    let both = [&public[..], &private].concat();
    for text in [both.clone(), [&private[..], &public].concat()] {
        let mut scratch = [0; MAX_DER];
        let loaded = load(&text, &mut scratch).unwrap();
        assert_eq!((loaded.form, loaded.key.is_private()), (KeyForm::Pkcs8Private, true));
        assert_eq!(load_device_key(&text).unwrap().as_der(), vector("rsa1024_608.der"));
        // Who asks for a public key gets the one that is there.
        let mut scratch = [0; MAX_DER];
        assert_eq!(load_public_key(&text, &mut scratch).unwrap().bits(), 1024);
    }
    let other = vector("ec_p256.pem");
    let mut scratch = [0; MAX_DER];
    let two = load(&[&both[..], &other].concat(), &mut scratch).unwrap_err();
    assert_eq!(two, LoadError::Pem(PemError::TwoPrivateKeys));
    assert!(two.to_string().contains("more than one"), "{two}");
    // Damage of the private key is not passed over for the public one.
    let cut = &both[..both.len() - 100];
    assert_eq!(load(cut, &mut scratch).unwrap_err(), LoadError::Pem(PemError::Malformed));
}

#[test]
fn key_under_a_passphrase_is_recognised_in_der() {
    // openssl pkcs8 -topk8 of ec_p256.pkcs8.der
    let file = hex(
        "3081ec305706092a864886f70d01050d304a302906092a864886f70d01050c301c04086f0d168f32f3b6a902020800300c06082a86\
         4886f70d02090500301d060960864801650304012a041085050d1b0325348224ad7d39d8e887b30481908099f1cc59fe18bd2d6abc\
         02bf67587228c60e4909fc8b180e12c36c56f8e7ca9e339e0608e916c5d43f72bacbbdb0b5a64b4ede6fb63a955e1726268b32d757\
         7a1deea2433ac588adf3638d6a6c569a99be9cc822ab2a5c37099fdb7c338ce789b36bc1e1e2b5550a9b2a2e8753381a6c6bd300d7\
         b372599f664bd3c6ab3fdf03204f7e6f2d4560938f77e71a269dfa",
    );
    let mut scratch = [0; MAX_DER];
    assert_eq!(load(&file, &mut scratch).unwrap_err(), LoadError::Encrypted);
    assert_eq!(load_device_key(&file).unwrap_err(), LoadError::Encrypted);
    assert_eq!(load(&file[..200], &mut scratch).unwrap_err(), LoadError::NoKey);
    // PBES1 of PKCS#5 and the passphrases of PKCS#12 are the same to the reader.
    for oid in ["06092a864886f70d010503", "060a2a864886f70d010c0103"] {
        let oid = hex(oid);
        let len = u8::try_from(oid.len()).unwrap();
        let file = [&[0x30, len + 6, 0x30, len][..], &oid, &[0x04, 2, 1, 2]].concat();
        assert_eq!(load(&file, &mut scratch).unwrap_err(), LoadError::Encrypted);
    }
}

#[test]
fn key_of_more_than_two_primes_is_called_so() {
    // Version 1, nine integers, and one more prime with its exponent and coefficient.
    let number = |len: usize| [&[0x02, u8::try_from(len).unwrap()][..], &vec![0x55; len]].concat();
    let long = |len: usize| [&[0x02, 0x81, u8::try_from(len).unwrap()][..], &vec![0x55; len]].concat();
    let mut content = [&[2, 1, 1][..], &long(128), &[2, 3, 1, 0, 1], &long(128)].concat();
    content.extend((0..5).flat_map(|_| number(43)));
    let others: Vec<u8> = (0..3).flat_map(|_| number(42)).collect();
    let other = [&[0x30, u8::try_from(others.len()).unwrap()][..], &others].concat();
    content.extend([&[0x30, 0x81, u8::try_from(other.len()).unwrap()][..], &other].concat());
    let key = [&[0x30, 0x82][..], &u16::try_from(content.len()).unwrap().to_be_bytes(), &content].concat();
    let report = check(&key);
    assert_eq!((codes(&report), report.device_works()), (vec!["multi-prime"], false));
    // Without the other primes it is only a wrong version.
    let mut plain = vector("bad_version_1.der");
    plain.extend(other);
    assert!(check(&plain).findings().all(|finding| finding.code() != "multi-prime"));
    let finding = check(&vector("bad_version_1.der")).findings().next().unwrap();
    assert!(finding.next_step().starts_with("repair the key"), "{}", finding.next_step());
}

#[test]
fn server_s_key_of_another_size_or_with_a_compressed_point_is_called_so() {
    for bits in [3072_usize, 4096] {
        let modulus = vec![0x99; bits / 8];
        let long = |tag: u8, content: &[u8]| {
            [&[tag, 0x82][..], &u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
        };
        let numbers = [long(2, &[&[0][..], &modulus].concat()), vec![2, 3, 1, 0, 1]].concat();
        let algorithm = hex("300d06092a864886f70d0101010500");
        let spki = long(0x30, &[algorithm, long(3, &[vec![0], long(0x30, &numbers)].concat())].concat());
        let report = check_server_key(ServerKeyKind::Rsa, &spki);
        assert_eq!((codes(&report), report.device_works()), (vec!["server-key-wrong-size"], false), "{bits}");
    }
    let compressed = compressed_point();
    let report = check_server_key(ServerKeyKind::Ec, &compressed);
    let finding = report.findings().next().unwrap();
    assert_eq!((finding.code(), report.device_works()), ("server-key-not-canonical", false));
    assert!(!finding.device().contains("modulus"), "{}", finding.device());
    assert_eq!(
        report.fingerprint(),
        check_server_key(ServerKeyKind::Ec, &vector("ec_p256.spki.der")).fingerprint()
    );
}

/// The public key of `ec_p256.spki.der`, as OpenSSL writes it with `-conv_form compressed`.
fn compressed_point() -> Vec<u8> {
    let whole = vector("ec_p256.spki.der");
    let mut short = [&hex("3039")[..], &whole[2..23]].concat();
    short.extend(hex("032200"));
    short.push(2 + (whole[90] & 1));
    short.extend(&whole[27..59]);
    short
}

fn hex(text: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.as_bytes().chunks(2).map(byte).collect()
}
