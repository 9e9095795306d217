//! The simulated system firmware in the cloud: keys, functions, Describe, against the server's end of `coap-spark`.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod common;

use coap_spark::coap::{Code, Type};
use coap_spark::handshake::{Cause, Stage};
use coap_spark::message::describe::Describe;
use coap_spark::message::{FromServer, Hello, HelloFlags};
use common::server::{Cloud, Heard, connected, healthy, in_safe_mode, recorded, rng, shake_hands};
use common::{KEYS, configured, fields, whole};
use core::time::Duration;
use spark_dct::{App, Field};
use spark_ota::describe::installed;
use spark_ota::module::ModuleFunction;
use spark_sim::{Client, End, Photon, Publication, PublishError, config};

const VERSIONS: [u16; 4] = [207, 1002, 1512, 2202];
const NOW: Duration = Duration::ZERO;

/// The end of a connection whose handshake cannot succeed.
fn failed_handshake(photon: &mut Photon) -> (Stage, Cause) {
    let mut rng = rng();
    let mut client = Client::connect(photon, &mut rng, NOW);
    shake_hands(&mut client, Some(&recorded(&KEYS.device)));
    let Some(End::Handshake(failure)) = client.end() else { panic!("{:?}", client.end()) };
    assert!(!client.is_up());
    assert_eq!(client.next_deadline(), None);
    (failure.stage, failure.cause)
}

#[test]
fn device_with_an_erased_key_makes_one_and_publishes_it() {
    for version in VERSIONS {
        let mut photon = configured(&whole(version), None, Some(&KEYS.server));
        let before = fields(&photon);
        assert!(App::new(&before).unwrap().is_erased(Field::DEVICE_PRIVATE_KEY));
        let mut offered = Vec::new();
        for _ in 0..2 {
            let mut rng = rng();
            let mut client = Client::connect(&mut photon, &mut rng, NOW);
            let opened = shake_hands(&mut client, None);
            offered.push(opened.offered.unwrap());
            let (_, heard) = Cloud::open(&mut client, &opened.session.unwrap());
            assert!(matches!(heard.first(), Some(Heard::Hello(_))), "{version}: {heard:?}");
            drop(client);
            photon.power_on();
        }
        let after = fields(&photon);
        let key = App::new(&after).unwrap().device_private_key_field().to_vec();
        let stored = spark_keys::load_device_key(&key).unwrap();
        assert_eq!(offered, [stored.public_key(); 2], "{version}");
        let field = Field::DEVICE_PRIVATE_KEY.offset();
        assert!(before[..field] == after[..field] && before[field + 612..] == after[field + 612..]);
    }
}

#[test]
fn device_with_a_key_keeps_and_publishes_it() {
    let mut photon = healthy(2202);
    let before = fields(&photon);
    let mut rng = rng();
    let mut client = Client::connect(&mut photon, &mut rng, NOW);
    let opened = shake_hands(&mut client, None);
    assert_eq!(opened.offered, Some(KEYS.device.public_key()));
    drop(client);
    assert!(fields(&photon) == before);
}

#[test]
fn mixture_of_two_keys_fails_the_handshake_at_the_device() {
    for version in VERSIONS {
        let mut photon = healthy(version);
        let mixed: Vec<u8> =
            KEYS.device.as_field().iter().zip(KEYS.other.as_field()).map(|(old, new)| old & new).collect();
        let generation = photon.firmware().configuration;
        let at = Field::DEVICE_PRIVATE_KEY.offset();
        config::write(photon.flash_mut(), generation, at, &mixed).unwrap();
        let end = failed_handshake(&mut photon);
        assert_eq!(end.0, Stage::DecryptSession, "{version}: {end:?}");
    }
}

#[test]
fn another_devices_key_fails_the_handshake_at_the_device() {
    let mut photon = configured(&whole(2202), Some(&KEYS.other), Some(&KEYS.server));
    assert_eq!(failed_handshake(&mut photon).0, Stage::DecryptSession);
}

#[test]
fn erased_server_key_fails_the_handshake() {
    for version in VERSIONS {
        let mut photon = configured(&whole(version), Some(&KEYS.device), None);
        // It encrypts to FF…FF, which nobody can decrypt, so the server hangs up.
        let expected = (Stage::ReceiveSession, Cause::Closed);
        assert_eq!(failed_handshake(&mut photon), expected, "{version}");
    }
}

#[test]
fn silent_server_ends_the_handshake_in_time() {
    let mut photon = healthy(2202);
    let mut rng = rng();
    let mut client = Client::connect(&mut photon, &mut rng, NOW);
    client.handle_deadline(NOW);
    assert_eq!(client.end(), None);
    client.handle_deadline(client.next_deadline().unwrap());
    let Some(End::Handshake(failure)) = client.end() else { panic!("{:?}", client.end()) };
    assert_eq!((failure.stage, failure.cause), (Stage::ReceiveNonce, Cause::TimedOut));
}

#[test]
fn hello_tells_the_generation() {
    for (version, flags) in [(207, 0x00), (1002, 0x02), (1512, 0x06), (2202, 0x16)] {
        connected(&mut healthy(version), |_, _, heard| {
            let expected = Hello::new(6, 0xffff, HelloFlags(flags), 6);
            assert_eq!(heard.first(), Some(&Heard::Hello(expected)), "{version}");
        });
    }
}

#[test]
fn functions_of_the_application_are_answered_while_it_runs() {
    for version in VERSIONS {
        connected(&mut healthy(version), |client, cloud, _| {
            let mut call = |name: &[u8], argument: &[u8]| {
                let (code, payload) = cloud.call(client, name, argument);
                assert_eq!(code, Code::CHANGED, "{version}");
                i32::from_be_bytes(payload.try_into().unwrap())
            };
            assert_eq!(call(b"digitalread", b"D7"), 0);
            assert_eq!(call(b"digitalwrite", b"D7,HIGH"), 1);
            assert_eq!(call(b"digitalread", b"D7"), 1);
            assert_eq!(call(b"analogwrite", b"A5,200"), 1);
            assert_eq!(call(b"analogread", b"A5"), 200);
            assert_eq!(call(b"digitalwrite", b"D9,HIGH"), -1);
        });
    }
}

#[test]
fn functions_are_not_found_in_safe_mode() {
    for version in VERSIONS {
        connected(&mut in_safe_mode(version), |client, cloud, heard| {
            assert!(heard.contains(&Heard::event("spark/device/safemode", "")), "{version}: {heard:?}");
            for name in [&b"digitalread"[..], b"brew"] {
                assert_eq!(cloud.call(client, name, b"D7"), (Code::NOT_FOUND, Vec::new()), "{version}");
            }
            let event = Publication::new("temperature", b"20");
            assert_eq!(client.publish(NOW, &event), Err(PublishError::NotRunning));
        });
    }
}

#[test]
fn running_application_publishes_and_says_nothing_of_safe_mode() {
    for version in VERSIONS {
        connected(&mut healthy(version), |client, cloud, heard| {
            assert!(!heard.contains(&Heard::event("spark/device/safemode", "")), "{version}");
            client.publish(NOW, &Publication::new("temperature", b"20")).unwrap();
            assert_eq!(cloud.exchange(client), [Heard::event("temperature", "20")], "{version}");
        });
    }
}

#[test]
fn describe_comes_in_the_form_of_each_generation() {
    for version in VERSIONS {
        let mut photon = healthy(version);
        let expected = photon.describe();
        connected(&mut photon, |client, cloud, _| {
            let (id, token, heard) = cloud.ask(client, FromServer::Describe { flags: None });
            let payload = if version < 2000 {
                let [Heard::Response { kind, id: to, token: of, code, payload }] = &heard[..] else {
                    panic!("{version}: {heard:?}")
                };
                assert_eq!((*kind, *to), (Type::Acknowledgement, id), "{version}");
                assert_eq!((*of, *code), (token, Code::CONTENT), "{version}");
                payload
            } else {
                let [Heard::Ack { id: to }, Heard::Response { kind, token: of, code, payload, .. }] =
                    &heard[..]
                else {
                    panic!("{version}: {heard:?}")
                };
                assert_eq!((*to, *kind), (id, Type::Confirmable), "{version}");
                assert_eq!((*of, *code), (token, Code::CONTENT), "{version}");
                payload
            };
            let document = Describe::from_json(payload).unwrap();
            assert_eq!(document, expected, "{version}");
            let modules = installed(&document);
            let system = modules.iter().filter(|module| module.function == ModuleFunction::System);
            assert_eq!(system.map(|module| module.version).collect::<Vec<_>>(), [version; 2]);
            assert!(modules.iter().all(|module| module.integrity_ok), "{version}");
        });
    }
}

#[test]
fn describe_in_safe_mode_has_no_functions_and_names_what_is_missing() {
    for version in VERSIONS {
        connected(&mut in_safe_mode(version), |client, cloud, _| {
            let (_, _, heard) = cloud.ask(client, FromServer::Describe { flags: None });
            let Some(Heard::Response { payload, .. }) = heard.last() else { panic!("{version}: {heard:?}") };
            let document = Describe::from_json(payload).unwrap();
            assert_eq!(document.functions, Some(Vec::new()), "{version}");
            let modules = document.modules.unwrap();
            let invalid: Vec<_> = modules.iter().filter(|module| !module.is_valid()).collect();
            let [application] = invalid[..] else { panic!("{version}: {invalid:?}") };
            assert_eq!(application.function.as_deref(), Some("u"), "{version}");
            assert_eq!(application.dependencies[0].version, version + 1, "{version}");
        });
    }
}
