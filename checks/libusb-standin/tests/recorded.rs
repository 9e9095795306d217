//! dfu-util against our Photon profiles, compared with what it did against the firmware's own code: exit code, output,
//! every transfer, and the memory.

#![allow(clippy::cast_possible_truncation, reason = "tests")]

mod common;

use common::{Bench, crc32, json, pattern, shown, vectors};
use serde_json::Value;

/// Setup packet, OUT data and IN data of what happened, without enumeration and descriptors.
fn transfers(trace: &[Value], from: usize) -> Vec<[String; 3]> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    trace
        .iter()
        .filter(|event| event["setup"].is_string())
        .skip(from)
        .map(|event| [text(&event["setup"]), text(&event["out"]), text(&event["in"])])
        .collect()
}

/// Descriptors and SET_CONFIGURATION are not part of the recordings.
fn is_enumeration(event: &Value) -> bool {
    let setup = event["setup"].as_str().unwrap_or_default();
    setup.starts_with("8006") || setup.starts_with("0009")
}

fn hex(value: &Value) -> u32 {
    u32::from_str_radix(value.as_str().unwrap(), 16).unwrap()
}

#[test]
fn sessions_are_the_same_transfer_by_transfer() {
    let file = json("session_photon.json");
    for session in file["sessions"].as_array().unwrap() {
        let name = session["name"].as_str().unwrap();
        // The file of this one was not kept; tests/files.rs downloads two targets.
        if name == "dfuse_two_targets" {
            continue;
        }
        let old = session["device_code"].as_str().unwrap().contains("v0.5.3");
        let Some(bench) = Bench::new(if old { "photon-0.5.3" } else { "photon" }) else { return };
        let argv: Vec<_> = session["argv"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        if let Some(rule) = session["payload"]["rule"].as_str() {
            let (a, b) = if rule.contains("31*i+7") { (31, 7) } else { (3, 1) };
            let image = pattern(a, b, session["payload"]["len"].as_u64().unwrap() as usize);
            bench.put(argv.last().unwrap(), &image);
        }
        let run = bench.run(&argv[1..]);
        assert_eq!(i64::from(run.code), session["exit"].as_i64().unwrap(), "{name}: {run:#?}");
        let ours: Vec<_> = bench.log().into_iter().filter(|event| !is_enumeration(event)).collect();
        let recorded: Vec<_> = session["trace"].as_array().unwrap().clone();
        let recorded: Vec<_> = recorded.into_iter().filter(|event| !is_enumeration(event)).collect();
        assert_eq!(transfers(&ours, 0), transfers(&recorded, 0), "{name}");
        if name == "list" {
            // Serial number and place on the bus are not ours to repeat.
            assert_eq!(shown(&run.stdout).len(), 2);
        } else {
            let expected: Vec<_> = session["stdout"].as_str().unwrap().lines().map(str::to_owned).collect();
            assert_eq!(shown(&run.stdout), expected, "{name}");
            assert_eq!(run.stderr.trim(), session["stderr"].as_str().unwrap().trim(), "{name}");
            assert_eq!(crc32(&bench.memory("flash.bin")), hex(&session["flash_crc32_after"]), "{name}");
            assert_eq!(crc32(&bench.memory("dct.bin")), hex(&session["dct_crc32_after"]), "{name}");
        }
        if !session["uploaded"].is_null() {
            let uploaded = bench.get(argv.last().unwrap());
            assert_eq!(crc32(&uploaded), hex(&session["uploaded"]["crc32"]), "{name}");
        }
    }
}

#[test]
fn dfuse_files_good_and_bad_end_as_recorded() {
    let file = json("dfuse_cases.json");
    for case in file["cases"].as_array().unwrap() {
        let Some(bench) = Bench::new("st-0.5.3") else { return };
        let path = vectors().join(case["file"].as_str().unwrap());
        let run = bench.run(&["-d", "0483:df11", "-D", path.to_str().unwrap()]);
        let (name, recorded) = (case["name"].as_str().unwrap(), &case["verdicts"]["dfu_util_download"]);
        assert_eq!(i64::from(run.code), recorded["exit"].as_i64().unwrap(), "{name}: {run:#?}");
        assert_eq!(run.stderr.trim(), recorded["stderr"].as_str().unwrap().trim(), "{name}");
        let expected: Vec<_> = recorded["stdout"].as_str().unwrap().lines().map(str::to_owned).collect();
        assert_eq!(shown(&run.stdout), expected, "{name}");
        if let Some(crc) = recorded["flash_crc32_after"].as_str().filter(|_| run.code != 74) {
            assert_eq!(format!("{:08x}", crc32(&bench.memory("flash.bin"))), crc, "{name}");
        }
    }
}

#[test]
fn files_with_and_without_a_suffix_are_judged_as_recorded() {
    let file = json("suffix_cases.json");
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() > 20);
    for case in cases {
        let Some(bench) = Bench::new("none") else { return };
        let path = vectors().join(case["file"].as_str().unwrap());
        let run = bench.run(&["-D", path.to_str().unwrap()]);
        let (name, recorded) = (case["name"].as_str().unwrap(), &case["verdicts"]["dfu_util_D_no_device"]);
        assert_eq!(i64::from(run.code), recorded["exit"].as_i64().unwrap(), "{name}: {run:#?}");
        assert_eq!(run.stderr.trim(), recorded["stderr"].as_str().unwrap().trim(), "{name}");
    }
}

#[test]
fn a_plain_device_gets_the_payload_and_never_a_valid_suffix() {
    let file = json("suffix_cases.json");
    for case in file["cases"].as_array().unwrap() {
        let Some(bench) = Bench::new("dfu-1.0") else { return };
        let path = vectors().join(case["file"].as_str().unwrap());
        let bytes = std::fs::read(&path).unwrap();
        let name = case["name"].as_str().unwrap();
        let run = bench.run(&["-D", path.to_str().unwrap()]);
        // dfu-suffix -c says whether there is a suffix of 16 bytes; an invalid one is payload.
        let valid = case["verdicts"]["dfu_suffix_check"]["exit"] == 0;
        let payload = &bytes[..bytes.len() - if valid { 16 } else { 0 }];
        if run.code == 0 && !payload.is_empty() {
            assert_eq!(bench.memory("image.bin")[..payload.len()], *payload, "{name}");
            assert!(bench.memory("image.bin")[payload.len()..].iter().all(|byte| *byte == 0xFF), "{name}");
        } else {
            eprintln!("{name}: {} {}", run.code, run.stderr);
        }
    }
}
