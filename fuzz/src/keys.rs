//! `spark-keys`: the checks of key fields, key files of any form, and repair.

use spark_keys::check::{
    Knowledge, PublicCache, ServerKeyKind, check_ec_with, check_with, published_secrets,
};
use spark_keys::load::{MAX_DER, load as load_any, unpack};
use spark_keys::{
    DeviceKey, EcPrivateKeyView, EcPublicKeyView, Finding, Key, KeyForm, Report, RsaPrivateKeyView,
    RsaPublicKeyView, check as check_field, check_ec, check_server_key, device_key::FIELD_LEN,
    is_interrupted_write, load_device_key, load_ec_device_key, load_public_key, pem, private_key::Number,
    published_by_device, repair as repair_field, repair_ec, repair_with_public_key,
};

fn texts(report: &Report) {
    for finding in report.findings() {
        assert!(!finding.code().is_empty() && !finding.next_step().is_empty());
        assert!(!finding.device().is_empty() && !finding.cloud().is_empty());
    }
}

/// A clean field works, findings have texts, and the numbers survive encoding.
pub fn check(data: &[u8]) {
    let report = check_field(data);
    texts(&report);
    assert!(!report.is_clean() || report.device_works());
    let _ = (KeyForm::of(data), published_by_device(data), report.fingerprint());
    let (a, b) = data.split_at(data.len() / 2);
    let _ = is_interrupted_write(data, a, b);
    for leak in published_secrets(data) {
        assert!(leak.len > 0 && leak.first + leak.len <= leak.of);
    }
    let knowledge = Knowledge::new().public_cache(b).cloud_copy(b).candidates(a, b);
    texts(&check_with(a, &knowledge));

    let Ok(key) = RsaPrivateKeyView::parse(data) else { return };
    let mut out = [0; 4096];
    if let Ok(der) = key.encode_into(&mut out) {
        assert_eq!(der.len(), key.encoded_len());
        let again = RsaPrivateKeyView::parse(der).expect("canonical DER");
        assert!(again.is_minimal() && again.trailing().is_empty());
        for number in Number::ALL {
            assert_eq!(again.number(number).magnitude(), key.number(number).magnitude());
        }
    }
    let _ = key.fingerprint();
}

/// A key that loads is a clean field, and every form that it is written in loads as the same key.
pub fn load(data: &[u8]) {
    if let Ok(key) = load_device_key(data) {
        assert_eq!(key.as_field().len(), FIELD_LEN);
        assert!(check_field(key.as_field()).device_works());
        assert_eq!(key.public_key(), published_by_device(key.as_field()));
        let mut text = [0; 2048];
        let text = pem::encode(KeyForm::Pkcs1Private, key.as_der(), &mut text).expect("it fits");
        let again: DeviceKey = load_device_key(text.as_bytes()).expect("our own PEM");
        assert_eq!(again.as_der(), key.as_der());
    }
    let mut buffer = [0; 2048];
    if let Ok(key) = load_public_key(data, &mut buffer) {
        let _ = (key.bits(), key.is_server_key(), key.fingerprint());
        assert!(key.same_modulus(&key));
    }
    if let Ok(strict) = RsaPublicKeyView::parse_spki_strict(data) {
        let lenient = RsaPublicKeyView::parse_spki(data).expect("lenient takes what strict takes");
        assert!(strict.same_modulus(&lenient) && strict.der_len() == data.len());
    }

    let mut scratch = [0; MAX_DER];
    let Ok(loaded) = load_any(data, &mut scratch) else { return };
    assert_ne!(loaded.form, KeyForm::Pem);
    for form in [
        KeyForm::Pkcs1Private,
        KeyForm::Pkcs8Private,
        KeyForm::Sec1Ec,
        KeyForm::Pkcs8Ec,
        KeyForm::SpkiRsa,
        KeyForm::SpkiEc,
        KeyForm::Pkcs1Public,
    ] {
        let mut out = [0; 2 * MAX_DER];
        let Ok(der) = loaded.key.encode_into(form, &mut out) else {
            assert!(loaded.form != form && loaded.key.encoded_len(form).is_err());
            continue;
        };
        assert_eq!(Ok(der.len()), loaded.key.encoded_len(form));
        let mut scratch = [0; MAX_DER];
        let again = load_any(der, &mut scratch).expect("our own DER");
        assert!(again.form == form && again.trailing.is_empty() && !again.pem);
        assert_eq!(again.key.fingerprint(), loaded.key.fingerprint());
        let mut twice = [0; 2 * MAX_DER];
        assert_eq!(again.key.encode_into(form, &mut twice), Ok(der));
    }
}

/// What works as an EC key satisfies the curve; the field of a loaded key is clean; caches hold what they say.
pub fn ec(data: &[u8]) {
    let report = check_ec(data);
    texts(&report);
    if report.device_works() {
        let key = load_ec_device_key(data).expect("a working field");
        assert_eq!(report.fingerprint(), Some(key.fingerprint()));
    }
    if let Ok(key) = load_ec_device_key(data) {
        assert!(check_ec(key.as_field()).is_clean());
        let again = load_ec_device_key(key.as_field()).expect("canonical DER");
        assert_eq!(again.as_der(), key.as_der());
        let spki = key.public_key();
        let public = EcPublicKeyView::parse_spki(&spki).expect("a computed point");
        assert_eq!(public.point(), key.point());
    }
    if let Ok(key) = repair_ec(data, None) {
        assert!(check_ec(key.as_field()).is_clean());
        // confirmed by its point, wherever the damage is, in text too
        let mut scratch = [0; MAX_DER];
        let der = unpack(data, &mut scratch).map_or(data, |unpacked| unpacked.der);
        let has_point = |at| der.get(at..).is_some_and(|rest| rest.starts_with(key.point()));
        assert!(load_ec_device_key(data).is_ok() || has_point(57) || has_point(74));
    }
    for key in [EcPrivateKeyView::parse_sec1(data), EcPrivateKeyView::parse_pkcs8(data)].into_iter().flatten()
    {
        let at = key.scalar_offset();
        assert_eq!(&data[at..at + key.scalar().len()], key.scalar());
        assert!(key.der_len() + key.trailing().len() == data.len());
        let _ = (key.stored_point(), key.to_device_key().is_ok());
    }
    if let Ok(key) = EcPublicKeyView::parse_spki(data) {
        let spki = key.spki();
        let again = EcPublicKeyView::parse_spki(&spki).expect("canonical SPKI");
        assert_eq!(again.point(), key.point());
    }
    if let PublicCache::Key { spki, at } = PublicCache::of(data) {
        assert_eq!(&data[at..at + spki.len()], spki);
    }
    for kind in [ServerKeyKind::Rsa, ServerKeyKind::Ec] {
        let report = check_server_key(kind, data);
        texts(&report);
        assert!(!report.device_works() || report.fingerprint().is_some());
    }
    let (a, b) = data.split_at(data.len() / 2);
    texts(&check_ec_with(a, &Knowledge::new().public_cache(b).cloud_copy(b).candidates(a, b)));
}

/// What comes out of a repair is a key, and the repair of a key changes nothing.
///
/// The first byte chooses a good key of the corpus' own kind to be damaged by the rest, so that there is something to
/// repair: offset (2), length, bytes. 0 takes the rest as the field.
pub fn repair(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let mut field =
        GOOD.get(usize::from(*choice).wrapping_sub(1)).map_or_else(|| rest.to_vec(), |key| key.to_vec());
    let original = load_device_key(&field).ok();
    if original.is_some() {
        let mut edits = rest;
        while let [high, low, len, bytes @ ..] = edits {
            let at = usize::from(u16::from_be_bytes([*high, *low])) % field.len();
            let (bytes, next) = bytes.split_at(usize::from(*len).min(bytes.len()));
            for (slot, byte) in field[at..].iter_mut().zip(bytes) {
                *slot ^= byte;
            }
            edits = next;
        }
    }
    if let Ok(repaired) = repair_field(&field) {
        let report = check_field(repaired.key.as_field());
        // a key with a short number comes with its numbers at full length
        let padding = if repaired.key.is_padded() { &[Finding::NotMinimal][..] } else { &[] };
        assert!(report.device_works() && report.findings().eq(padding.iter().copied()));
        assert_eq!(repaired.taken().count() + repaired.recomputed().count(), 9);
        let again = repair_field(repaired.key.as_field()).expect("a good key");
        assert_eq!((again.key.as_der(), again.recomputed().count()), (repaired.key.as_der(), 0));
        if let Some(original) = &original {
            assert_eq!(repaired.key.as_der(), original.as_der(), "another key");
        }
    }
    if let Some(original) = &original {
        let spki = original.public_key();
        let public = RsaPublicKeyView::parse_spki(&spki).expect("our own SPKI");
        if let Ok(repaired) = repair_with_public_key(&field, &public) {
            assert_eq!(repaired.key.as_der(), original.as_der());
        }
    }
    let mut scratch = [0; MAX_DER];
    if let Ok(loaded) = load_any(&field, &mut scratch)
        && let Key::RsaPrivate(view) = loaded.key
        && view.modulus().len() == 128
        && let Err(error) = repair_field(&field)
    {
        // whole by its numbers: only a device could object
        assert!(
            matches!(error, spark_keys::RepairError::Incompatible { .. })
                || view.number(Number::E).magnitude() != [1, 0, 1]
        );
    }
}

const GOOD: [&[u8]; 3] = [
    include_bytes!("../../keys/tests/vectors/field612_ff.bin"),
    include_bytes!("../../keys/tests/vectors/devgen_v050.bin"),
    include_bytes!("../../keys/tests/vectors/rsa1024_611.der"),
];
