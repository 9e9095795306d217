//! Recorded sessions of dfu-util 0.11 with the class code of the Photon's bootloader, replayed through the device.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use core::time::Duration;

use common::{PhotonMemory, crc32, pattern, work_off};
use serde_json::Value;
use spark_dfu::{
    SetupPacket,
    descriptor::Description,
    device::{Device, Profile, Stall},
};

fn hex_of(value: &Value) -> u32 {
    u32::from_str_radix(value.as_str().unwrap(), 16).unwrap()
}

/// Replays one session. `payload` is the image that the host wrote, cut into blocks as they come.
fn replay(session: &Value) {
    let name = session["name"].as_str().unwrap();
    let profile = match session["device_code"].as_str().unwrap() {
        code if code.starts_with("device-os@v0.5.3 ") => Profile::PHOTON_0_5_3,
        code if code.starts_with("device-os@v2.3.1 ") => Profile::PHOTON_2_3_1,
        other => panic!("{name}: {other}"),
    };
    let mut device = Device::new(Description::photon("1"), profile, vec![0; 4096]).unwrap();
    let mut memory = PhotonMemory::new();
    let mut erased = Vec::new();
    let mut now = Duration::ZERO;
    let image = match &session["payload"] {
        Value::Null => Vec::new(),
        payload => {
            let rule = payload["rule"].as_str().unwrap();
            let (a, b) = if rule.contains("31*i+7") { (31, 7) } else { (3, 1) };
            let image = pattern(a, b, usize::try_from(payload["len"].as_u64().unwrap()).unwrap());
            assert_eq!(crc32(&image), hex_of(&payload["crc32"]));
            image
        }
    };
    let mut sent = 0;
    for (number, event) in session["trace"].as_array().unwrap().iter().enumerate() {
        let at = format!("{name}, event {number}: {event}");
        if event["host"] == "sleep" {
            now += Duration::from_millis(event["ms"].as_u64().unwrap());
            continue;
        }
        if event["dev"] == "flash_erase_sector" {
            erased.push(u32::from_str_radix(&event["addr"].as_str().unwrap()[2..], 16).unwrap());
            continue;
        }
        if event["dev"] == "dct_write" {
            continue;
        }
        let setup: [u8; 8] = hex::decode(event["setup"].as_str().unwrap()).unwrap().try_into().unwrap();
        let output = match (&event["out"], event["data_len"].as_u64()) {
            (Value::Null, _) => Vec::new(),
            (Value::String(out), None) => hex::decode(out).unwrap(),
            (Value::String(out), Some(len)) => {
                let block = image[sent..][..usize::try_from(len).unwrap()].to_vec();
                sent += block.len();
                assert_eq!(hex::encode(&block[..32]), *out, "{at}");
                assert_eq!(crc32(&block), hex_of(&event["data_crc32"]), "{at}");
                block
            }
            other => panic!("{at}: {other:?}"),
        };
        let mut input = vec![0xEE; 4096];
        let result = device.control(now, &mut memory, &setup, &output, &mut input);
        let result = result.and_then(|len| work_off(&mut device, &mut memory, now).map(|()| len));
        match event["result"].as_i64().unwrap() {
            -9 => assert_eq!(result, Err(Stall), "{at}"),
            _ => {
                let len = result.unwrap_or_else(|_| panic!("{at}: stalled"));
                if let Some(expected) = event["in"].as_str() {
                    assert_eq!(i64::try_from(len).unwrap(), event["result"].as_i64().unwrap(), "{at}");
                    assert_eq!(hex::encode(&input[..len.min(32)]), expected, "{at}");
                    if !event["data_crc32"].is_null() {
                        assert_eq!(crc32(&input[..len]), hex_of(&event["data_crc32"]), "{at}");
                    }
                } else {
                    assert_eq!(len, 0, "{at}");
                }
            }
        }
    }
    assert_eq!(sent, if session["exit"] == 0 { image.len() } else { 0 }, "{name}");
    assert_eq!(memory.erased, erased, "{name}");
    assert_eq!(crc32(&memory.flash), hex_of(&session["flash_crc32_after"]), "{name}: flash");
    assert_eq!(crc32(&memory.dct), hex_of(&session["dct_crc32_after"]), "{name}: DCT");
}

#[test]
fn every_recorded_session_gets_the_same_replies_and_memory() {
    let file: Value = serde_json::from_str(include_str!("vectors/session_photon.json")).unwrap();
    let sessions = file["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 10);
    for session in sessions {
        replay(session);
    }
}

/// Every request in every reachable state, both firmware generations, rows in the order of the recording because
/// pointer, status and poll bytes carry over.
#[test]
fn every_request_in_every_state_is_answered_like_the_firmware() {
    let file: Value = serde_json::from_str(include_str!("vectors/device_photon_matrix.json")).unwrap();
    for (tag, profile) in [("v0.5.3", Profile::PHOTON_0_5_3), ("v2.3.1", Profile::PHOTON_2_3_1)] {
        let mut device = Device::new(Description::photon("1"), profile, vec![0; 4096]).unwrap();
        let mut memory = PhotonMemory::new();
        let rows = file[tag].as_array().unwrap();
        assert_eq!(rows.len(), 135);
        for row in rows {
            let at = format!("{tag}, {}, {}", row["state"], row["request"]);
            let mut transfer = |setup: [u8; 8], output: &[u8]| {
                let now = Duration::ZERO;
                let mut input = vec![0xEE; 4096];
                let result = device.control(now, &mut memory, &setup, output, &mut input);
                let result = result.and_then(|len| work_off(&mut device, &mut memory, now).map(|()| len));
                result.map(|len| hex::encode(&input[..len]))
            };
            let expect = |result: Result<String, Stall>, expected: &Value, what: &str| {
                let expected_in = expected["in"].as_str().unwrap_or("");
                match expected["result"].as_str().unwrap() {
                    "stall" => assert_eq!(result, Err(Stall), "{at}: {what}"),
                    // Long uploads are recorded by their first bytes only.
                    "ok" if expected_in.len() == 32 => {
                        assert!(
                            result.as_ref().is_ok_and(|got| got.starts_with(expected_in)),
                            "{at}: {what} {result:?}"
                        );
                    }
                    "ok" => assert_eq!(result.as_deref(), Ok(expected_in), "{at}: {what}"),
                    other => panic!("{at}: {other}"),
                }
            };
            let bytes = |value: &Value| hex::decode(value.as_str().unwrap_or("")).unwrap();
            let setup_of = |value: &Value| <[u8; 8]>::try_from(bytes(&value["setup"])).unwrap();
            // "Each row starts with a reconfiguration."
            transfer([0x00, 0x09, 0x01, 0, 0, 0, 0, 0], &[]).unwrap();
            for step in row["prepare"].as_array().unwrap() {
                expect(transfer(setup_of(step), &bytes(&step["out"])), step, "prepare");
            }
            let get_state = SetupPacket::get_state(0).to_bytes();
            let get_status = SetupPacket::get_status(0).to_bytes();
            let state = |value: &Value| Ok(value.as_str().unwrap().to_owned());
            assert_eq!(transfer(get_state, &[]), state(&row["state_byte_before"]), "{at}: before");
            let request = &row["transfer"];
            expect(transfer(setup_of(request), &bytes(&request["out"])), request, "request");
            assert_eq!(transfer(get_state, &[]), state(&row["state_byte_after"]), "{at}: after");
            for expected in row["then_getstatus"].as_array().unwrap() {
                let expected = if expected == "stall" { Err(Stall) } else { state(expected) };
                assert_eq!(transfer(get_status, &[]), expected, "{at}: GETSTATUS after");
            }
        }
    }
}

/// The one place where the Photon profiles are better than the firmware on purpose: it overruns its buffer here.
#[test]
fn a_block_longer_than_the_transfer_size_is_stalled() {
    for profile in [Profile::PHOTON_0_5_3, Profile::PHOTON_2_3_1] {
        let mut device = Device::new(Description::photon("1"), profile, vec![0; 8192]).unwrap();
        let mut memory = PhotonMemory::new();
        let setup = SetupPacket::dnload(0, 2, 4097).to_bytes();
        let result = device.control(Duration::ZERO, &mut memory, &setup, &[0; 4097], &mut []);
        assert_eq!(result, Err(Stall));
        assert_eq!(device.state(), spark_dfu::State::Idle);
    }
}
