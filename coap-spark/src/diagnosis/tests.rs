use super::*;
use crate::handshake::{Cause, DeviceId, Failure, Stage};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use proptest::prelude::*;
use serde_json::Value;

const STAGES: [Stage; 12] = [
    Stage::ReceiveNonce,
    Stage::EncryptIdentity,
    Stage::SendIdentity,
    Stage::SendHello,
    Stage::ReceiveIdentity,
    Stage::OpenIdentity,
    Stage::Authorise,
    Stage::SealSession,
    Stage::ReceiveSession,
    Stage::DecryptSession,
    Stage::VerifySession,
    Stage::ReceiveHello,
];

const CAUSES: [Cause; 8] = [
    Cause::Closed,
    Cause::TimedOut,
    Cause::Rejected,
    Cause::Refused,
    Cause::UnusableKey,
    Cause::Frame,
    Cause::NotHello,
    Cause::ForeignResult,
];

fn failures() -> impl Iterator<Item = Failure> {
    STAGES.into_iter().flat_map(|stage| CAUSES.into_iter().map(move |cause| Failure { stage, cause }))
}

fn codes(rows: impl Iterator<Item = &'static Row>) -> Vec<&'static str> {
    rows.map(|row| row.code).collect()
}

#[test]
fn every_number_survives_a_round_trip() {
    let numbers: Vec<u32> = ProtocolError::KNOWN.iter().map(|error| error.code()).collect();
    assert!(numbers.iter().copied().eq((0..=35).chain([0x7_ffff])));
    for &error in ProtocolError::KNOWN {
        assert_eq!(ProtocolError::from_code(error.code()), error);
        let name = error.name().unwrap();
        assert_eq!(error.to_string(), format!("{} {name}", error.code()));
        assert!(!error.meaning().is_empty());
    }
    for unknown in [36, 99, 0x7_fffe, u32::MAX] {
        let error = ProtocolError::from_code(unknown);
        assert_eq!((error.code(), error.name(), error.to_string()), (unknown, None, unknown.to_string()));
        assert_eq!(error.system_error(), Some(SystemError::PROTOCOL));
    }
    for &error in SystemError::KNOWN {
        assert_eq!(SystemError::from_code(error.code()), Some(error));
        assert_eq!(Number::of_code(error.code()), Number::System(error));
    }
    for &error in SocketError::KNOWN {
        assert_eq!(SocketError::from_code(error.code()), Some(error));
        assert_eq!(Number::of_code(error.code()), Number::Socket(error));
    }
    assert_eq!(SystemError::from_code(-99), None);
    assert_eq!(SocketError::from_code(-100), None);
    assert_eq!(SocketError::from_code(0), None);
    assert_eq!(Number::of_code(26), Number::Protocol(ProtocolError::LIGHTSSL_HANDSHAKE_RECV_KEY));
}

#[test]
fn compiled_numbers_are_one_above_the_comments_of_the_source() {
    assert_eq!(ProtocolError::DISCARD_SESSION.code(), 21);
    assert_eq!(ProtocolError::LIGHTSSL_BLOCKING_SEND.code(), 22);
    assert_eq!(ProtocolError::LIGHTSSL_HANDSHAKE_NONCE.code(), 25);
    assert_eq!(ProtocolError::REMOTE_END_CLOSED.code(), 35);
}

#[test]
fn every_protocol_error_but_none_maps_to_a_system_error() {
    let mapped = |code| ProtocolError::from_code(code).system_error().map(SystemError::code);
    assert_eq!(mapped(0), None);
    for code in [2, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 33, 34] {
        assert_eq!(mapped(code), Some(-220), "{code}");
    }
    let others = [(1, -160), (10, -160), (8, -130), (9, -200), (4, -190), (3, -210), (27, -120), (29, -170)];
    for (code, system) in others.into_iter().chain([(30, -260), (35, -201), (6, -240), (7, -240)]) {
        assert_eq!(mapped(code), Some(system), "{code}");
    }
    for code in [5, 11, 12, 13, 14, 15, 28, 31, 32, 0x7_ffff] {
        assert_eq!(mapped(code), Some(-240), "{code}");
    }
    let protocol: Vec<_> = SystemError::TIMEOUT.protocol_errors().map(ProtocolError::code).collect();
    assert_eq!(protocol, [1, 10]);
}

#[test]
fn every_row_has_all_its_texts_and_a_code_of_its_own() {
    for (i, row) in ROWS.iter().enumerate() {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(!row.code.is_empty() && row.code.chars().all(good), "{}", row.code);
        assert!(ROWS.iter().skip(i + 1).all(|other| other.code != row.code), "{}", row.code);
        for text in [row.symptom, row.meaning, row.server, row.action] {
            assert!(text.len() > 10 && !text.ends_with('.') && !text.contains("  "), "{}: {text}", row.code);
        }
        assert_eq!(row.to_string().lines().count(), 4, "{}", row.code);
        if row.end == End::Server {
            assert!(row.signals.is_empty() && row.old.is_empty() && row.new.is_empty(), "{}", row.code);
        }
    }
}

#[test]
fn every_failure_has_a_row_with_advice() {
    for failure in failures() {
        for end in [End::Device, End::Server] {
            let row = by_failure(&failure, end);
            assert!(ROWS.contains(&row));
            if failure.cause == Cause::ForeignResult {
                assert_eq!(row.code, "foreign-result");
                continue;
            }
            // The row says where the device stops, if the failure is one of a device.
            let is_of_server = FailurePoint::of(&failure).is_none();
            if let Some(point) = FailurePoint::of(&failure).filter(|_| end == End::Device) {
                assert_eq!(row.points, [point], "{failure:?}");
                assert_eq!(row.end, End::Device);
                assert_eq!(failure.protocol_error().map(u32::from), row.protocol_error().map(|e| e.code()));
            }
            if is_of_server {
                assert_eq!((row.end, failure.protocol_error()), (End::Server, None), "{failure:?}");
            }
        }
        assert!(failure.advice().len() > 10, "{failure:?}");
    }
}

#[test]
fn numbers_of_failures_are_those_of_the_table() {
    let number = |stage, cause| Failure { stage, cause }.protocol_error();
    assert_eq!(number(Stage::ReceiveNonce, Cause::Closed), Some(25));
    assert_eq!(number(Stage::EncryptIdentity, Cause::UnusableKey), Some(7));
    assert_eq!(number(Stage::ReceiveSession, Cause::TimedOut), Some(26));
    assert_eq!(number(Stage::ReceiveSession, Cause::Closed), Some(26));
    assert_eq!(number(Stage::DecryptSession, Cause::Rejected), Some(6));
    assert_eq!(number(Stage::VerifySession, Cause::Rejected), Some(8));
    assert_eq!(number(Stage::SendHello, Cause::Closed), Some(22));
    assert_eq!(number(Stage::ReceiveHello, Cause::TimedOut), Some(10));
    assert_eq!(number(Stage::ReceiveHello, Cause::Closed), Some(24));
    assert_eq!(number(Stage::DecryptSession, Cause::ForeignResult), Some(6));
}

#[test]
fn every_point_has_rows_of_the_device_texts_and_a_way_back() {
    for (i, point) in FailurePoint::ALL.into_iter().enumerate() {
        assert_eq!(usize::from(point.number()), i + 1);
        assert_eq!(FailurePoint::from_number(point.number()), Some(point));
        assert_eq!(point.to_string(), format!("F{}: {}", i + 1, point.place()));
        assert!(point.rows().any(|row| row.end == End::Device), "{point}");
        assert!(!point.causes().is_empty());
        if let Some(failure) = point.failure() {
            assert_eq!(FailurePoint::of(&failure), Some(point));
        }
        for generation in Generation::ALL {
            for text in point.log(generation) {
                let line = text.replace('N', "-1");
                let found = log::read(&line).unwrap_or_else(|| panic!("{text}"));
                assert!(found.rows().any(|row| row.points == [point]), "{text}");
            }
        }
    }
    assert_eq!(FailurePoint::from_number(0), None);
    assert_eq!(FailurePoint::from_number(9), None);
}

#[test]
fn colours_lead_to_their_rows_by_generation() {
    let rows = |led, blinks, generation| codes(by_led(led, blinks, generation));
    let orange = rows(Led::Orange, Some(1), None);
    assert_eq!(orange, ["device-key-mismatch"]);
    assert_eq!(rows(Led::Magenta, None, None), ["server-key-mismatch"]);
    assert_eq!(rows(Led::Orange, Some(2), None), ["no-internet"]);
    assert_eq!(rows(Led::Orange, Some(3), None), ["cloud-unreachable"]);
    assert_eq!(rows(Led::Red, Some(3), None), ["cloud-unreachable"]);
    // Version 2 shows red only, so red may be anything, and orange never comes once.
    assert_eq!(rows(Led::Orange, Some(1), Some(Generation::V2)), [""; 0]);
    let red = rows(Led::Red, Some(1), Some(Generation::V2));
    assert!(red.contains(&"device-key-mismatch") && red.contains(&"server-key-mismatch"));
    let red = rows(Led::Red, Some(1), Some(Generation::UpTo1_5));
    assert!(!red.contains(&"device-key-mismatch") && red.contains(&"dropped-after-identity"));
    for led in Led::ALL {
        assert_eq!(Led::from_name(&led.name().to_uppercase()), Some(led));
    }
    assert_eq!(Led::from_name("green"), None);
}

#[test]
fn observations_combine_and_nothing_seen_is_nothing_found() {
    assert_eq!(Observation::default().rows().count(), 0);
    let generation = Some(Generation::V2);
    assert_eq!(Observation { generation, ..Observation::default() }.rows().count(), 0);
    let seen = Observation { led: Some(Led::Red), code: Some(-130), generation, ..Observation::default() };
    assert_eq!(codes(seen.rows()), ["server-key-mismatch"]);
    let seen = Observation { blinks: Some(2), ..Observation::default() };
    assert_eq!(codes(seen.rows()), ["no-internet"]);
}

#[test]
fn codes_lead_to_their_rows_by_generation() {
    let rows = |code, generation| codes(by_code(code, generation));
    assert_eq!(rows(6, None), ["device-key-mismatch"]);
    assert_eq!(rows(26, Some(Generation::UpTo1_5)), ["dropped-after-identity", "silent-after-identity"]);
    assert_eq!(rows(26, Some(Generation::UpTo0_7)), [""; 0], "not a number of that firmware");
    assert!(rows(-220, Some(Generation::V2)).contains(&"dropped-after-identity"));
    assert_eq!(rows(-220, Some(Generation::UpTo0_7)), [""; 0]);
    assert_eq!(rows(-240, None), ["server-key-unusable", "device-key-mismatch"]);
    assert_eq!(rows(1234, None), [""; 0]);
    // And back: what a row is printed as leads to the row.
    for row in ROWS {
        for generation in Generation::ALL {
            for code in row.codes(generation) {
                assert!(by_code(code, Some(generation)).any(|found| found == row), "{} {code}", row.code);
            }
        }
    }
    let printed: Vec<i32> = table::NO_SERVER_HELLO.codes(Generation::V2).collect();
    assert_eq!(printed, [-160]);
}

#[test]
fn the_table_for_support_is_complete() {
    // Section by section: fast cyan with red and -19, orange, magenta, three, two, Bad Counter, lost keys.
    let line = log::read("Handshake: Unable to receive key -19").unwrap();
    assert_eq!(codes(line.rows()), ["dropped-after-identity"]);
    let expected = ["device-key-mismatch", "server-key-mismatch", "cloud-unreachable", "no-internet"];
    for (i, (led, blinks)) in
        [(Led::Orange, 1), (Led::Magenta, 1), (Led::Orange, 3), (Led::Orange, 2)].into_iter().enumerate()
    {
        assert_eq!(codes(by_led(led, Some(blinks), Some(Generation::UpTo0_7))), [expected[i]]);
    }
    assert_eq!(codes(log::read("1 : Core disconnected: Bad Counter").unwrap().rows()), ["bad-counter"]);
    let line =
        "key passed to device during handshake doesn'tmatch saved public key: 53ff6d065072534212345667";
    assert_eq!(codes(log::read(line).unwrap().rows()), ["device-key-differs"]);
}

fn vector(name: &str) -> Value {
    let path = format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_string()
}

/// What three firmware versions logged and returned, case by case.
#[test]
fn recorded_device_logs_lead_to_their_point_and_number() {
    let json = vector("handshake_device_outcomes.json");
    let (mut lines, mut outcomes) = (0, 0);
    for case in json["cases"].as_array().unwrap() {
        let name = text(&case["case"]);
        for (version, outcome) in case["outcome"].as_object().unwrap() {
            let generation = match version.as_str() {
                "device-os@v2.3.1" => Generation::V2,
                _ => Generation::UpTo0_7,
            };
            let result = i32::try_from(outcome["result"].as_i64().unwrap()).unwrap();
            let point = match name.as_str() {
                "session message: session_of_32_bytes" if version != "device-os@v0.6.1" => {
                    FailurePoint::ReceiveHello
                }
                _ if name.contains("nonce") && !name.starts_with("nonce, then") => FailurePoint::Nonce,
                _ if name.starts_with("nonce, then") => FailurePoint::SessionMessage,
                _ if name.contains("Hello") => FailurePoint::ReceiveHello,
                _ if result == 6 => FailurePoint::Decrypt,
                _ => FailurePoint::Verify,
            };
            let mut agreed = false;
            for line in outcome["error_logs"].as_array().unwrap().iter().map(text) {
                let found = log::read(&line).unwrap_or_else(|| panic!("{line}"));
                assert_eq!(found.end, End::Device, "{line}");
                let fits = found.rows().any(|row| row.points == [point]);
                assert!(fits, "{name} {version}: {line} leads to {:?}", codes(found.rows()));
                agreed |= found.point() == Some(point);
                if let Some(Number::Protocol(error)) = found.number {
                    assert_eq!(i64::from(error.code()), i64::from(result), "{line}");
                }
                lines += 1;
            }
            // Before 0.8 one line stands for F5 and F6; the returned number tells them apart.
            let needs_number = matches!(point, FailurePoint::Decrypt | FailurePoint::Verify);
            assert!(agreed || (needs_number && generation == Generation::UpTo0_7), "{name} {version}");
            let generation = Some(if result > 0 && generation == Generation::V2 {
                // Recorded below the mapping to system errors.
                Generation::UpTo1_5
            } else {
                generation
            });
            assert!(
                by_code(result, generation).any(|row| row.points == [point]),
                "{name} {version} {result}"
            );
            outcomes += 1;
        }
    }
    assert!(outcomes >= 39 && lines >= 60, "{outcomes} outcomes, {lines} lines");
}

/// Why the JavaScript servers refused, as their handshake reported it.
#[test]
fn recorded_server_reasons_lead_to_their_row() {
    let json = vector("handshake_server_outcomes.json");
    let id: DeviceId = json["device_id"].as_str().unwrap().parse().unwrap();
    let mut read = 0;
    for case in json["cases"].as_array().unwrap() {
        for server in ["brewskey", "particle"] {
            let (name, line) = (text(&case["case"]), text(&case[server]["outcome"]));
            let found = log::read(&line);
            if line == "session message sent, waiting for Hello" {
                assert_eq!(found, None);
                continue;
            }
            let found = found.unwrap_or_else(|| panic!("{line}"));
            let expected = match name.as_str() {
                "legacy_52" | "key_differs_from_stored" | "key_not_der" => "device-key-differs",
                "full_214" => "device-unknown",
                _ => "identity-rejected",
            };
            assert_eq!(codes(found.rows()), [expected], "{line}");
            assert_eq!(found.end, End::Server);
            assert_eq!(found.point(), Some(FailurePoint::SessionMessage));
            assert_eq!(found.device, line.contains("53ff").then_some(id), "{line}");
            match name.as_str() {
                "too_short_51" => assert_eq!(found.number, Some(Number::Length(51))),
                "empty_plaintext" if server == "brewskey" => {
                    assert_eq!(found.number, Some(Number::Length(0)));
                }
                _ => assert_eq!(found.number, None, "{line}"),
            }
            read += 1;
        }
    }
    assert!(read >= 15, "{read}");
}

#[test]
fn lines_are_read_with_whatever_surrounds_them() {
    let cases: &[(&str, &[&str])] = &[
        ("Handshake: Unable to receive key -1", &["silent-after-identity"]),
        (
            "0000012345:ERROR: int SparkProtocol::handshake() (99):Handshake: could not receive nonce: -19",
            &["no-nonce"],
        ),
        ("\u{1b}[31mRSA encrypt error 7\u{1b}[0m", &["server-key-unusable"]),
        ("  ... SIGNATURE VALIDATION FAILED", &["server-key-mismatch"]),
        (
            "0000039715 [system] WARN: Cloud handshake failed, code=26",
            &["dropped-after-identity", "silent-after-identity"],
        ),
        ("Cloud handshake failed, code=-19", &["no-nonce", "dropped-after-identity", "hello-not-sent"]),
        ("Cloud handshake failed, code=8", &["server-key-mismatch"]),
        ("Cloud handshake failed, code=-99999", &[]),
        ("[comm.protocol.handshake] ERROR: handshake failed with code 16", &["dtls-server-key"]),
        (
            "[comm.sparkprotocol.handshake] Could not set key, 6",
            &["device-key-mismatch", "server-key-mismatch"],
        ),
        ("[comm.lightssl.handshake] Could not set key, 6", &["device-key-mismatch"]),
        ("Handling cloud error: 3", &["cloud-unreachable"]),
        ("Cloud socket connection failed: -1", &["no-internet", "cloud-unreachable"]),
        ("Could not send HELLO message", &["hello-not-sent"]),
        (
            "Handshake failed:  error:0407109F:rsa routines:RSA_padding_check_PKCS1_type_2:pkcs decoding \
             error { cache_key: '_64', deviceID: null }",
            &["identity-rejected"],
        ),
        ("Handshake failed:  decryption failed { ip: '10.0.0.7', coreID: null }", &["identity-rejected"]),
        ("Handshake failed:  read_coreid timed out", &["no-identity"]),
        ("Error: wrong device public keys", &["hello-garbled"]),
        ("recovering from early data! ", &[]),
        ("0000346244 [system] ERROR: Cloud: unable to resolve IP for x.udp.particle.io", &["no-internet"]),
        ("0000009000 [system] WARN: Internet test failed: DNS", &["no-internet"]),
        ("0000009000 [system] WARN: Internet available, cloud not reachable", &["cloud-unreachable"]),
        ("connection failed to 10.0.0.7:5683, code=-1", &["no-internet", "cloud-unreachable"]),
        ("[comm.dtls] WARN: unable to parse negotiated pub key: -3b62", &["dtls-server-key"]),
        ("WARN: Disconnecting cloud due to inactivity! 46000, 30000", &["session-silent"]),
        ("[comm.lightssl] WARN: receive timeout", &["no-nonce", "silent-after-identity", "no-server-hello"]),
        ("[comm.protocol] ERROR: Event loop error 1", &["session-silent"]),
        ("Handshake decryption error:  Error: error:0407106B", &["identity-rejected"]),
        ("onSocketData called, but no data sent.", &["no-identity"]),
        ("Failed handling find key for core: 53ff6d065072534212345667", &["record-unusable"]),
        ("Handshake failed:  get_hello timed out", &["hello-missing"]),
        ("Handshake failed:  failed to parse hello", &["hello-garbled", "not-hello"]),
        ("Handshake did not complete in 10 seconds", &["no-identity", "hello-missing", "hello-garbled"]),
    ];
    for (line, expected) in cases {
        let found = log::read(line).unwrap_or_else(|| panic!("{line}"));
        assert_eq!(codes(found.rows()), *expected, "{line}");
    }
    for line in ["", "Cloud connected", "Handshake failed: ", "Cloud handshake failed, code=", "nonce"] {
        assert_eq!(log::read(line), None, "{line}");
    }
}

#[test]
fn the_stored_address_is_read_out_of_its_line() {
    let line = "0000011115:DEBUG: int spark_cloud_socket_connect() (853):HAL_FLASH_Read_ServerAddress() = \
                type:1,domain:device.spark.io,ip: 105.118.101.100, port: 65535";
    let address = log::read(line).unwrap().address.unwrap();
    assert_eq!((address.kind, address.domain, address.port), (1, "device.spark.io", Some(65535)));
    assert!(!address.is_lost());
    let found =
        log::read("HAL_FLASH_Read_ServerAddress() = type:0,domain:,ip: 192.168.1.5, port: 5683").unwrap();
    let address = found.address.unwrap();
    assert_eq!((address.kind, address.ip, address.port), (0, Some([192, 168, 1, 5].into()), Some(5683)));
    assert_eq!(found.rows().count(), 0, "nothing is wrong with it");
    for rest in ["255,domain:,ip: 0.0.0.0, port: 0", "0,domain:,ip: 0.0.0.0, port: 0", "1,domain:,ip: 0", "7"]
    {
        let line = format!("HAL_FLASH_Read_ServerAddress() = type:{rest}");
        assert_eq!(codes(log::read(&line).unwrap().rows()), ["address-lost"], "{rest}");
    }
    for rest in ["", "x", "256", "-1"] {
        assert_eq!(log::read(&format!("Read_ServerAddress() = type:{rest}")), None);
    }
}

#[test]
fn long_lines_are_read_up_to_their_limit() {
    let line = |before: usize| format!("{}nonces didn't match", "ä".repeat(before));
    assert!(log::read(&line(log::MAX_LINE / 2 - 20)).is_some());
    assert_eq!(log::read(&line(log::MAX_LINE / 2)), None);
    assert_eq!(log::read(&format!("code {}", "9".repeat(5000))), None);
}

#[cfg(feature = "serde")]
#[test]
fn rows_serialise_with_their_code() {
    let json = serde_json::to_value(by_failure(
        &Failure { stage: Stage::VerifySession, cause: Cause::Rejected },
        End::Device,
    ));
    let json = json.unwrap();
    assert_eq!(json["code"], "server-key-mismatch");
    assert_eq!(json["points"][0], "Verify");
    assert_eq!(json["signals"][0]["led"], "Magenta");
}

proptest! {
    #[test]
    fn any_line_is_read_without_a_panic(before in ".{0,80}", phrase in 0..7_usize, after in ".{0,80}") {
        let phrases = [
            "could not receive nonce:", "Cloud handshake failed, code=", "read_serveraddress() = type:",
            "read_serveraddress() = type:1,domain:", "could not set key, ", "handling cloud error: ", "",
        ];
        let line = format!("{before}{}{after}", phrases[phrase]);
        if let Some(found) = log::read(&line) {
            prop_assert!(found.rows().count() <= ROWS.len());
            let _ = found.point();
        }
    }

    #[test]
    fn any_code_belongs_to_one_range(code: i32) {
        let number = Number::of_code(code);
        prop_assert_eq!(matches!(number, Number::Protocol(_)), code >= 0);
        prop_assert_eq!(number.code(), code);
        let _ = by_code(code, None).count();
    }
}
