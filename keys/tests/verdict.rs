//! Verdict and findings of the RSA field never contradict each other.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use proptest::prelude::*;
use spark_keys::private_key::Number;
use spark_keys::*;

fn vector(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn codes(field: &[u8]) -> Vec<&'static str> {
    check(field).findings().map(|finding| finding.code()).collect()
}

/// Whether the texts say that the device cannot use the key.
fn denies(finding: &Finding) -> bool {
    let device = finding.device();
    device.contains("cannot") || matches!(finding, Finding::Erased | Finding::HeadErased { .. })
}

fn is_consistent(field: &[u8]) -> Result<(), String> {
    let report = check(field);
    let works = device_view::decrypts(field);
    let denied: Vec<_> = report.findings().filter(denies).collect();
    let loads = load_device_key(field).is_ok();
    match report.device_works() == works && works == denied.is_empty() && (!report.is_clean() || loads) {
        true => Ok(()),
        false => Err(format!("works {works}, {:?}", report.findings().collect::<Vec<_>>())),
    }
}

#[test]
fn every_flipped_bit_is_explained_as_the_device_takes_it() {
    for file in ["rsa1024_608.der", "devgen_v050.bin", "field612_ff.bin"] {
        let key = vector(file);
        let (whole, clean) = (load_device_key(&key).unwrap(), codes(&key));
        let end = RsaPrivateKeyView::parse(&key).unwrap().der_len();
        let mut ignored = 0;
        for bit in 0..key.len() * 8 {
            let mut damaged = key.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            is_consistent(&damaged).unwrap_or_else(|why| panic!("{file}, byte {}: {why}", bit / 8));
            let report = check(&damaged);
            let found: Vec<_> = codes(&damaged).into_iter().filter(|code| !clean.contains(code)).collect();
            assert!(!found.is_empty(), "{file}, bit {bit}: damage is always told");
            if report.device_works() {
                assert_eq!(found.len(), 1, "{file}, byte {}: one damage, one finding: {found:?}", bit / 8);
                ignored += 1;
            }
            if report.device_works() && bit / 8 < end {
                let offset = report.findings().find_map(|finding| match finding {
                    Finding::HeaderDamaged { offset, .. } => Some(offset),
                    _ => None,
                });
                assert!(
                    offset.is_none_or(|offset| offset == bit / 8),
                    "{file}: {offset:?} for byte {}",
                    bit / 8
                );
            }
            if report.device_works() {
                assert_eq!(repair(&damaged).unwrap().key.as_der(), whole.as_der(), "{file}, bit {bit}");
            }
        }
        // d, version, e, headers, leading zeros and what is behind the key
        assert!(ignored > 1200, "{file}: {ignored}");
    }
}

#[test]
fn bytes_that_the_device_steps_over_are_named() {
    let key = vector("rsa1024_608.der");
    let with = |at: usize, value: u8| {
        let mut damaged = key.clone();
        damaged[at] = value;
        damaged
    };
    let header = |number, offset| Finding::HeaderDamaged { number, offset };
    for (damaged, expected) in [
        (with(141, 3), Finding::ExponentDamaged),
        (with(139, 3), header(Number::E, 139)),
        (with(10, 4), header(Number::N, 10)),
        (with(7, 0x12), header(Number::N, 7)),
        (with(4, 3), header(Number::Version, 4)),
        (with(5, 0x81), header(Number::Version, 5)),
        (with(6, 1), Finding::WrongVersion),
        (with(0, 0x31), Finding::BrokenHeader { found: [0x31, 0x82] }),
    ] {
        let report = check(&damaged);
        assert_eq!(report.findings().collect::<Vec<_>>(), [expected]);
        assert!(report.device_works() && report.fingerprint() == check(&key).fingerprint());
    }
    let view = RsaPrivateKeyView::parse(&key).unwrap();
    for number in [Number::P, Number::Q] {
        let integer = view.number(number);
        let zero = integer.offset() + 2;
        assert_eq!(check(&with(zero, 0x20)).findings().collect::<Vec<_>>(), [header(number, zero)]);
    }
}

#[test]
fn damage_beside_bytes_that_the_device_steps_over_is_told_with_them() {
    let mut damaged = vector("rsa1024_608.der");
    let dp = RsaPrivateKeyView::parse(&damaged).unwrap().number(Number::Dp).offset();
    damaged[dp + 20] ^= 1;
    assert_eq!(codes(&damaged), ["dp-mismatch"]);
    for (at, expected) in [
        (10, ["header-damaged", "dp-mismatch"]),
        (141, ["exponent-damaged", "dp-mismatch"]),
        (dp, ["header-damaged", "dp-mismatch"]),
        (5, ["header-damaged", "dp-mismatch"]),
    ] {
        let mut twice = damaged.clone();
        twice[at] ^= 0x10;
        assert_eq!(codes(&twice), expected, "byte {at}");
    }
}

#[test]
fn key_made_for_another_exponent_is_no_damage() {
    let mut scratch = [0; load::MAX_DER];
    let three = load::load(THREE.as_bytes(), &mut scratch).unwrap();
    let mut der = [0; 640];
    let der = three.key.encode_into(KeyForm::Pkcs1Private, &mut der).unwrap();
    assert_eq!(codes(der), ["wrong-exponent"]);
    let mut damaged = der.to_vec();
    damaged[200] ^= 1;
    assert_eq!(codes(&damaged), ["wrong-exponent", "private-exponent-mismatch"]);
}

#[test]
fn key_of_a_server_that_is_cut_off_by_the_field_is_of_a_wrong_size() {
    let key = vector("server2048.pkcs1.der");
    for len in [612, 300, 40, key.len()] {
        let report = check(&key[..len]);
        assert_eq!(report.findings().next(), Some(Finding::WrongSize { bits: 2048 }), "{len}");
        assert_eq!(report.fingerprint(), None, "no device key has one");
        assert!(!report.findings().any(|finding| finding.next_step().starts_with("repair")), "{len}");
    }
    // a key for devices that is cut off stays one
    assert_eq!(codes(&vector("rsa1024_608.der")[..40]), ["truncated"]);
}

#[test]
fn files_that_end_early_are_consistent() {
    for file in ["rsa1024_608.der", "devgen_v050.bin", "rsa1024_608.pkcs8.der", "server2048.pkcs1.der"] {
        let key = vector(file);
        for len in 0..key.len() {
            is_consistent(&key[..len]).unwrap_or_else(|why| panic!("{file}, {len}: {why}"));
        }
    }
}

proptest! {
    #[test]
    fn two_damages_are_consistent(a in 0_usize..608, b in 0_usize..608, x in 1_u8.., y in 1_u8..) {
        for file in ["rsa1024_608.der", "devgen_v050.bin"] {
            let mut damaged = vector(file);
            damaged[a] ^= x;
            damaged[b] ^= y;
            prop_assert_eq!(is_consistent(&damaged), Ok(()));
        }
    }

    #[test]
    fn any_damage_is_consistent(
        at in 0_usize..608, bytes in proptest::collection::vec(any::<u8>(), 0..100), short in any::<bool>()
    ) {
        let mut damaged = vector(if short { "rsa1024_606_short_dp.der" } else { "rsa1024_609.der" });
        for (slot, byte) in damaged.iter_mut().skip(at).zip(bytes) {
            *slot = byte;
        }
        prop_assert_eq!(is_consistent(&damaged), Ok(()));
    }
}

/// An RSA-1024 key whose exponent is 3, made with OpenSSL for this test.
const THREE: &str = "\
-----BEGIN RSA PRIVATE KEY-----
MIICXAIBAAKBgQDX07qa0T/XKVyzoypp2GXvnyKdi7vUWKn3YomyROBF5vVmNAvV
fdQJuDl88aD6bSyTq3Pwr4llNDq0UoIFZkdR/vO9C3SscSn76EgQpDX//esGuxFV
wdGp5hQACTgIwxUxoO5YG+22a3SPUogaklnEJS8bM0XYXdNT+ao4IZt3RQIBAwKB
gQCP4nxnNiqPcOh3whxGkEP1FMG+XSfi5cak7FvMLerZRKOZeAfjqTgGetD99mtR
nh23x6KgdQZDeCci4awDmYTgGuybwt373hQxeCseQ5k3git7E9TfP68vzIh6ZZbX
Xl3gnWFeJnnCDc2hYXNLeUBAySWuHMCdmu9nbxifqGzbawJBAPWXx5K2ijj9VsC7
Z+m8H+O7Uh5T/5l29XIEl9LTycU8SMlayx6rdZeDiduzwLk+GN7latjbDTziKAWq
ryxkFhkCQQDg+QvUcShrDlrzS/tVFAzW7nv+/gdI0+zBQrCeAfvwTBfrgX/Di52/
PJNkp2ijO0oYkSsvSd64ihDNWpl4lBgNAkEAo7qFDHmxe1OPKyeam9K/7SeMFDf/
u6SjoVhlNzfb2NLbMOcyFHJOZQJb580rJill6e5HOzyzfewarnHKHZgOuwJBAJX7
XThLcEde50zdUji4CI9Jp/9UBNs38yuByxQBUqAyup0A/9eyaSooYkMaRcInhrsL
ch+GlHsGtd48ZlBiurMCQHqPF1Rm95Xjzfw764/VrNJvEDA8CwAFML93b8xk97QA
gULJIY4mszAh1waz92fb9+fG+R2Kc1j5vbKjYcUcp4w=
-----END RSA PRIVATE KEY-----
";
