//! Repair of damaged device keys: the original comes back, or a typed refusal, never another key.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use core::ops::Range;
use spark_keys::private_key::Number;
use spark_keys::*;

fn vector(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

const GOOD: [&str; 8] = [
    "rsa1024_607.der",
    "rsa1024_608.der",
    "rsa1024_609.der",
    "rsa1024_610.der",
    "rsa1024_611.der",
    "field612_stale_tail.bin",
    "devgen_v040.bin",
    "devgen_v050.bin",
];

/// Where the content of each number is.
type Places = Vec<(Number, Range<usize>)>;
/// Bytes, and what becomes of each.
type Damage = (Range<usize>, fn(u8) -> u8);

/// The field, its canonical key, and where the content of each number is.
fn good(name: &str) -> (Vec<u8>, DeviceKey, Places) {
    let mut field = vector(name);
    field.resize(612, 0xFF);
    let view = RsaPrivateKeyView::parse(&field).unwrap();
    let places = Number::ALL
        .into_iter()
        .map(|number| {
            let integer = view.number(number);
            // behind tag and length
            let start = integer.offset() + if integer.encoded_len() < 128 { 2 } else { 3 };
            (number, start..start + integer.encoded_len())
        })
        .collect();
    let key = load_device_key(&field).unwrap();
    (field, key, places)
}

/// Every way in which a number gets damaged here.
fn damages(range: &Range<usize>) -> Vec<Damage> {
    let middle = range.start + range.len() / 2;
    vec![
        (range.clone(), |_| 0xFF),
        (range.clone(), |_| 0x00),
        (range.end - 1..range.end, |byte| byte ^ 1),
        (range.end - 1..range.end, |byte| byte ^ 2),
        (middle..middle + 1, |byte| byte ^ 0x40),
    ]
}

fn damage(field: &mut [u8], (range, change): &Damage) {
    for byte in &mut field[range.clone()] {
        *byte = change(*byte);
    }
}

#[test]
fn any_one_damaged_number_is_recomputed() {
    for name in GOOD {
        let (field, key, places) = good(name);
        for (number, range) in &places {
            for way in damages(range) {
                let mut damaged = field.clone();
                damage(&mut damaged, &way);
                let repaired = repair(&damaged).unwrap_or_else(|error| panic!("{name} {number}: {error}"));
                assert_eq!(repaired.key.as_der(), key.as_der(), "{name} {number}");
                let recomputed: Vec<_> = repaired.recomputed().collect();
                let expected = if damaged == field { vec![] } else { vec![*number] };
                assert_eq!(recomputed, expected, "{name} {number}");
                assert_eq!(repaired.taken().count() + recomputed.len(), 9);
            }
        }
    }
}

#[test]
fn any_two_damaged_numbers_are_recomputed() {
    for name in GOOD {
        let (field, key, places) = good(name);
        for (i, (first, a)) in places.iter().enumerate() {
            for (second, b) in &places[i + 1..] {
                for way in [0, 4] {
                    let mut damaged = field.clone();
                    damage(&mut damaged, &damages(a)[way]);
                    damage(&mut damaged, &damages(b)[way]);
                    let repaired = repair(&damaged)
                        .unwrap_or_else(|error| panic!("{name} {first} and {second} way {way}: {error}"));
                    assert_eq!(repaired.key.as_der(), key.as_der(), "{name} {first} {second}");
                }
            }
        }
    }
}

#[test]
fn headers_tags_and_lengths_do_not_matter() {
    let (field, key, places) = good("rsa1024_610.der");
    let mut damaged = field.clone();
    damaged[..4].fill(0xA5);
    for (_, range) in &places {
        damaged[range.start - 2..range.start].fill(0x5A);
    }
    assert_eq!(repair(&damaged).unwrap().key.as_der(), key.as_der());
    for name in ["bad_tag_broken.der", "bad_version_1.der", "bad_seq_len_minus1.der", "bad_d_bit.der"] {
        assert!(repair(&vector(name)).is_ok(), "{name}");
    }
}

#[test]
fn an_erased_end_is_restored_as_long_as_one_number_is_left() {
    for name in ["rsa1024_607.der", "rsa1024_611.der", "devgen_v050.bin"] {
        let (field, key, places) = good(name);
        let needed = places.iter().find(|(number, _)| *number == Number::D).unwrap().1.end;
        for from in 0..=field.len() {
            let mut damaged = field.clone();
            damaged[from..].fill(0xFF);
            match repair(&damaged) {
                Ok(repaired) => {
                    assert_eq!(repaired.key.as_der(), key.as_der(), "{name} from {from}");
                    assert!(from >= needed - 1, "{name} from {from}");
                }
                Err(RepairError::Erased) => assert_eq!(from, 0),
                Err(error) => {
                    assert!(from < needed, "{name} from {from}: {error}");
                    // the key may have an FF of its own before the place
                    let own = field[..from].iter().rev().take_while(|byte| **byte == 0xFF).count();
                    assert_eq!(error, RepairError::Lost { tail_erased_from: Some(from - own) });
                }
            }
        }
    }
}

#[test]
fn a_truncated_file_is_restored_as_long_as_one_number_is_left() {
    let (_, key, _) = good("rsa1024_608.der");
    for len in 1..608 {
        match repair(&key.as_der()[..len]) {
            Ok(repaired) => assert!(repaired.key.as_der() == key.as_der() && len >= 275),
            Err(error) => assert!(len < 275 && matches!(error, RepairError::Lost { .. }), "{len}: {error}"),
        }
    }
}

#[test]
fn with_the_clouds_public_key_a_damaged_modulus_costs_nothing() {
    let (field, key, places) = good("rsa1024_609.der");
    let spki = key.public_key();
    let public = RsaPublicKeyView::parse_spki(&spki).unwrap();
    for intact in [Number::D, Number::P, Number::Q, Number::Dp, Number::Dq] {
        let mut damaged = vec![0xFF; 612];
        let (_, range) = places.iter().find(|(number, _)| *number == intact).unwrap();
        damaged[range.clone()].copy_from_slice(&field[range.clone()]);
        assert!(repair(&damaged).is_err(), "{intact} alone is too little");
        let repaired = repair_with_public_key(&damaged, &public).unwrap();
        assert_eq!(repaired.key.as_der(), key.as_der(), "{intact}");
        assert_eq!(repaired.taken().collect::<Vec<_>>(), [intact]);
    }
    let (_, qinv) = places.last().unwrap();
    let mut damaged = vec![0xFF; 612];
    damaged[qinv.clone()].copy_from_slice(&field[qinv.clone()]);
    assert!(matches!(repair_with_public_key(&damaged, &public), Err(RepairError::Lost { .. })));
}

#[test]
fn p_and_q_alone_are_not_taken_without_confirmation() {
    let (field, key, places) = good("rsa1024_608.der");
    let mut damaged = vec![0x11; 612];
    for (number, range) in places {
        if matches!(number, Number::P | Number::Q) {
            damaged[range.clone()].copy_from_slice(&field[range]);
        }
    }
    assert_eq!(repair(&damaged).unwrap_err(), RepairError::Unconfirmed);
    let spki = key.public_key();
    let public = RsaPublicKeyView::parse_spki(&spki).unwrap();
    assert_eq!(repair_with_public_key(&damaged, &public).unwrap().key.as_der(), key.as_der());
}

#[test]
fn the_key_of_another_public_key_is_refused_and_named() {
    let (field, key, _) = good("rsa1024_608.der");
    let other = vector("rsa1024_608.spki.der");
    let same = RsaPublicKeyView::parse_spki(&other).unwrap();
    assert!(repair_with_public_key(&field, &same).is_ok());
    let (_, other, _) = good("rsa1024_609.der");
    let other = other.public_key();
    let other = RsaPublicKeyView::parse_spki(&other).unwrap();
    let refused = RepairError::OtherKey { fingerprint: key.fingerprint() };
    assert_eq!(repair_with_public_key(&field, &other).unwrap_err(), refused);
    let mut damaged = field.clone();
    damaged[400..].fill(0xFF);
    assert_eq!(repair_with_public_key(&damaged, &other).unwrap_err(), refused);
    let server = vector("server2048.spki.der");
    let server = RsaPublicKeyView::parse_spki(&server).unwrap();
    assert_eq!(repair_with_public_key(&field, &server).unwrap_err(), RepairError::PublicKey { bits: 2048 });
}

#[test]
fn keys_that_devices_misread_come_back_in_the_encoding_that_they_read() {
    for file in ["rsa1024_607_short_d.der", "rsa1024_606_short_dp.der"] {
        let mut field = vector(file);
        let whole = repair(&field).unwrap().key;
        assert!(whole.is_padded() && check(whole.as_field()).device_works(), "{file}");
        // the modulus: p and q give it back
        field[100] ^= 4;
        assert_eq!(repair(&field).unwrap().key.as_field(), whole.as_field(), "{file}");
    }
}

#[test]
fn keys_written_over_each_other_are_lost() {
    assert!(matches!(repair(&vector("bad_and_of_two_keys.der")), Err(RepairError::Lost { .. })));
    let fields: Vec<_> = GOOD.iter().skip(1).step_by(2).map(|name| good(name)).collect();
    for (a, _, _) in &fields {
        for (b, key, _) in &fields {
            // the write got so far
            for end in [139, 200, 276, 345, 411, 608] {
                let field: Vec<u8> = (0..612).map(|i| if i < end { a[i] & b[i] } else { b[i] }).collect();
                match repair(&field) {
                    Ok(repaired) => assert_eq!(repaired.key.as_der(), key.as_der(), "{end}"),
                    Err(error) => assert!(matches!(error, RepairError::Lost { .. }), "{end}: {error}"),
                }
            }
        }
    }
}

#[test]
fn an_interrupted_write_leaves_the_old_key_recoverable_at_first() {
    // n is mixed, d is half mixed, p and the rest are still of the old key
    let ((old, key, _), (new, _, _)) = (good("rsa1024_608.der"), good("rsa1024_611.der"));
    let field: Vec<u8> = (0..612).map(|i| if i < 200 { old[i] & new[i] } else { old[i] }).collect();
    assert!(is_interrupted_write(&field, &old, &new) && !check(&field).device_works());
    assert_eq!(repair(&field).unwrap().key.as_der(), key.as_der());
}

#[test]
fn what_holds_no_rsa_key_is_refused_by_its_form() {
    assert_eq!(repair(&[0xFF; 612]).unwrap_err(), RepairError::Erased);
    assert_eq!(repair(&[]).unwrap_err(), RepairError::Erased);
    assert_eq!(repair(&[0; 612]).unwrap_err(), RepairError::Zeroed);
    for (file, form) in [
        ("ec_p256.sec1.der", KeyForm::Sec1Ec),
        ("ec_p256.pkcs8.der", KeyForm::Pkcs8Ec),
        ("ec_p256.pem", KeyForm::Sec1Ec),
        ("rsa1024_608.spki.der", KeyForm::SpkiRsa),
        ("rsa1024_608.pkcs1_pub.der", KeyForm::Pkcs1Public),
    ] {
        assert_eq!(repair(&vector(file)).unwrap_err(), RepairError::Form { form }, "{file}");
    }
    assert!(matches!(repair(&vector("server2048.pkcs1.der")), Err(RepairError::Lost { .. })));
}

#[test]
fn other_forms_of_the_right_key_are_converted() {
    let (_, key, _) = good("rsa1024_608.der");
    for file in ["rsa1024_608.pkcs1.pem", "rsa1024_608.pkcs8.pem", "rsa1024_608.openssl3_default.der"] {
        let repaired = repair(&vector(file)).unwrap();
        assert_eq!(repaired.key.as_der(), key.as_der());
        assert_eq!(repaired.recomputed().count(), 0);
    }
    // as it was written to a device: the end of the wrapper fell over the edge of what was read, and one number is damaged
    let mut field = vector("rsa1024_608.openssl3_default.der");
    field.truncate(612);
    field[200] ^= 1;
    assert_eq!(repair(&field).unwrap().key.as_der(), key.as_der());
}

#[test]
fn an_ec_key_is_restored_when_its_number_is_confirmed() {
    let field = vector("ec_p256.field192.bin");
    let key = load_ec_device_key(&field).unwrap();
    let spki = vector("ec_p256.spki.der");
    let public = EcPublicKeyView::parse_spki(&spki).unwrap();
    let other = EcPublicKeyView::parse_spki(BundledKey::ParticleEc.spki()).unwrap();
    assert_eq!(repair_ec(&field, None).unwrap().as_der(), key.as_der());
    let refused = RepairError::OtherKey { fingerprint: key.fingerprint() };
    assert_eq!(repair_ec(&field, Some(&other)).unwrap_err(), refused);
    for at in 0..192 {
        let mut damaged = field.clone();
        damaged[at] ^= 1;
        let number = (7..39).contains(&at);
        let point = (57..121).contains(&at);
        match repair_ec(&damaged, None) {
            Ok(repaired) => assert!(repaired.as_der() == key.as_der() && !number && !point, "{at}"),
            Err(error) => {
                assert!((number || point) && error == RepairError::UnconfirmedNumber, "{at}: {error}")
            }
        }
        match repair_ec(&damaged, Some(&public)) {
            Ok(repaired) => assert!(repaired.as_der() == key.as_der() && !number, "{at}"),
            Err(error) => assert!(number && matches!(error, RepairError::Lost { .. }), "{at}: {error}"),
        }
        assert!(repair_ec(&damaged, Some(&other)).is_err());
        let mut erased = field.clone();
        erased[at..].fill(0xFF);
        match repair_ec(&erased, Some(&public)) {
            Ok(repaired) => assert!(repaired.as_der() == key.as_der() && at >= 39),
            Err(_) => assert!(at < 39, "{at}"),
        }
    }
    assert_eq!(repair_ec(&[0xFF; 192], None).unwrap_err(), RepairError::Erased);
    assert_eq!(repair_ec(&[0; 192], None).unwrap_err(), RepairError::Zeroed);
    let form = KeyForm::Pkcs1Private;
    assert_eq!(repair_ec(&vector("rsa1024_608.der"), None).unwrap_err(), RepairError::Form { form });
    assert!(repair_ec(&vector("ec_p256.pem"), None).is_ok());
}
