//! `spark sonoff check` and `patch`, and `spark inspect` on ESP8266 images.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

use serde_json::{Value, json};
use spark_ota::esp8266::{FlashMode, FlashParameters, ImageBuilder, Slot};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ota/tests/vectors/sonoff");

fn spark(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spark")).args(arguments).output().unwrap()
}

/// The JSON of a command, with its exit code.
fn answer(arguments: &[&str]) -> (Option<i32>, Value) {
    let output = spark(&[arguments, &["--json"]].concat());
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

fn refusal(arguments: &[&str], code: i32) -> String {
    let output = spark(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

fn codes(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap()).collect()
}

fn vector(name: &str) -> String {
    format!("{VECTORS}/images/{name}")
}

/// An image with code that calls itself, as a real one does.
fn image(slot: Slot, mode: FlashMode, len: usize) -> Vec<u8> {
    let mut code = vec![7; len];
    for (at, word) in (0..400_u32).zip(code.as_chunks_mut::<4>().0) {
        *word = (slot.link_address() + at * 8).to_le_bytes();
    }
    let parameters = FlashParameters { mode, ..FlashParameters::SONOFF };
    let segments = [(0x4010_0000, &[1; 300][..]), (0x3ffe_8000, &[2; 40])];
    ImageBuilder::v2(parameters, 0x4010_0004, &code).segments(&segments).build().unwrap()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, content: &[u8]) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.name(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn pair_is_good_in_any_order_and_bad_when_both_are_for_one_slot() {
    let folder = Folder::new();
    let one = folder.put("a.bin", &image(Slot::User1, FlashMode::Dout, 8000));
    let two = folder.put("b.bin", &image(Slot::User2, FlashMode::Dout, 8000));
    for files in [[&one, &two], [&two, &one]] {
        let (code, report) = answer(&["sonoff", "check", files[0], files[1]]);
        assert_eq!((code, &report["valid"]), (Some(0), &json!(true)), "{report:#}");
        assert_eq!((&report["problems"], &report["warnings"]), (&json!([]), &json!([])));
        let images = report["images"].as_array().unwrap();
        for (image, (file, name, slot)) in images.iter().zip([(&one, "user1.bin", 1), (&two, "user2.bin", 2)])
        {
            assert_eq!((&image["file"], &image["name"]), (&json!(file), &json!(name)));
            assert_eq!((&image["linked_slot"], &image["purpose"]), (&json!(slot), &json!("upgrade")));
            assert_eq!((&image["problems"], &image["warnings"]), (&json!([]), &json!([])));
        }
    }
    // Another build for the same slot.
    let again = folder.put("c.bin", &image(Slot::User2, FlashMode::Dout, 9000));
    let (code, report) = answer(&["sonoff", "check", &two, &again]);
    assert_eq!((code, &report["valid"]), (Some(65), &json!(false)));
    assert_eq!(codes(&report["images"][0]["problems"]), ["wrong-slot"]);
    assert_eq!(codes(&report["images"][1]["problems"]), [""; 0]);
    let (code, report) = answer(&["sonoff", "check", &two, &two]);
    assert_eq!((code, codes(&report["problems"])), (Some(65), vec!["same-image"]));
}

#[test]
fn pair_without_addresses_is_taken_in_order_with_a_warning() {
    let (one, two) = (vector("image_user1-0x01000.bin"), vector("image_user2-0x81000.bin"));
    let (code, report) = answer(&["sonoff", "check", &one, &two]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(codes(&report["warnings"]), ["slots-by-order"]);
    assert_eq!(codes(&report["images"][0]["warnings"]), ["unknown-slot"]);
    assert_eq!(report["images"][1]["name"], "user2.bin");

    // The SDK's generator writes the number of the slot down.
    let (one, two) = (vector("sdk_user1_dout_1mb.bin"), vector("sdk_user2_dout_1mb.bin"));
    let (code, report) = answer(&["sonoff", "check", &two, &one]);
    assert_eq!((code, &report["warnings"]), (Some(0), &json!([])));
    assert_eq!(report["images"][0]["file"], json!(one));
}

#[test]
fn pair_that_is_read_differently_or_too_long_is_told() {
    let folder = Folder::new();
    let one = folder.put("1.bin", &image(Slot::User1, FlashMode::Qio, 8000));
    let two = folder.put("2.bin", &image(Slot::User2, FlashMode::Dout, 480_000));
    let (code, report) = answer(&["sonoff", "check", &one, &two]);
    assert_eq!((code, codes(&report["warnings"])), (Some(65), vec!["different-flash-parameters"]));
    assert_eq!(codes(&report["images"][0]["warnings"]), ["flash-mode"]);
    assert_eq!(codes(&report["images"][1]["problems"]), ["too-long"]);
    assert_eq!(codes(&report["images"][1]["warnings"]), ["irom-too-long"]);
    let output = spark(&["sonoff", "check", &one, &two]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("the device's updater takes 471040") && text.contains("--mode dout"), "{text}");
    // Nothing that is no image is a member of a pair.
    let none = folder.put("3.bin", b"nothing");
    let (code, report) = answer(&["sonoff", "check", &one, &none]);
    assert_eq!(code, Some(65));
    assert_eq!(codes(&report["images"][0]["problems"]), ["bad-magic"], "{report:#}");
}

#[test]
fn single_image_is_checked_for_its_purpose() {
    let folder = Folder::new();
    let two = folder.put("2.bin", &image(Slot::User2, FlashMode::Dout, 8000));
    let (code, report) = answer(&["sonoff", "check", &two]);
    assert_eq!((code, &report["images"][0]["name"]), (Some(0), &json!("user2.bin")));
    assert_eq!(codes(&report["warnings"]), ["one-image"]);
    let (code, report) = answer(&["sonoff", "check", &two, "--slot", "1"]);
    assert_eq!((code, codes(&report["images"][0]["problems"])), (Some(65), vec!["wrong-slot"]));
    let (code, report) = answer(&["sonoff", "check", &two, "--for", "diy"]);
    assert_eq!((code, codes(&report["images"][0]["problems"])), (Some(65), vec!["wrong-format"]));

    let whole = vector("image_arduino.bin");
    for (arguments, purpose) in [(&[][..], "final-stage"), (&["--for", "diy"], "diy")] {
        let (code, report) = answer(&[&["sonoff", "check", &whole, "--strict"], arguments].concat());
        assert_eq!((code, &report["images"][0]["purpose"]), (Some(0), &json!(purpose)));
        assert_eq!(report["images"][0]["sha256"].as_str().unwrap().len(), 64);
    }
    let (code, report) = answer(&["sonoff", "check", &whole, "--slot", "2"]);
    assert_eq!((code, codes(&report["images"][0]["problems"])), (Some(65), vec!["wrong-format"]));
    refusal(&["sonoff", "check", &two, &two, "--slot", "1"], 64);
    refusal(&["sonoff", "check", &two, "--slot", "3"], 64);
    refusal(&["sonoff", "check"], 64);
    refusal(&["sonoff", "check", "/nowhere/user1.bin"], 66);
}

#[test]
fn patched_file_is_the_one_that_the_tool_builds() {
    let folder = Folder::new();
    let qio = std::fs::read(vector("small_u2_v2_qio.bin")).unwrap();
    let from = folder.put("user2.bin", &qio);
    let (code, report) = answer(&["sonoff", "patch", &from, "--mode", "DOUT"]);
    assert_eq!(code, Some(0));
    let to = folder.name("user2-dout.bin");
    assert_eq!((&report["file"], &report["output"]), (&json!(from), &json!(to)));
    let dout = std::fs::read(vector("small_u2_v2_dout.bin")).unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), dout);
    assert_eq!(std::fs::read(&from).unwrap(), qio);
    assert_eq!(report["sha256"], "be2196e257eb6b127761b15bb34ae823e8bd06cd1a45cb219a3562dc363658bb");
    assert_eq!(report["changes"].as_array().unwrap().len(), 6);
    assert_eq!(report["changes"][1], json!({ "offset": 850, "before": 0, "after": 3 }));
    assert_eq!(
        (&report["before"]["flash_mode"], &report["after"]["flash_mode"]),
        (&json!("qio"), &json!("dout"))
    );

    // Not over anything that is there, unless told.
    refusal(&["sonoff", "patch", &from, "--mode", "dout"], 73);
    refusal(&["sonoff", "patch", &from, "--mode", "dout", "-o", &from], 73);
    assert_eq!(std::fs::read(&from).unwrap(), qio);
    let output = spark(&["sonoff", "patch", &from, "--mode", "dout", "-o", &from, "--force"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("byte 850: 00 is now 03"));
    assert_eq!(std::fs::read(&from).unwrap(), dout);
    assert_eq!(folder.names(), ["user2-dout.bin", "user2.bin"]);

    let output = spark(&["sonoff", "patch", &from, "--size", "4MB", "--freq", "80m"]);
    assert_eq!(output.status.code(), Some(0));
    let (code, report) = answer(&["inspect", &folder.name("user2-4MB-80m.bin")]);
    assert_eq!((code, &report["flash_size"], &report["flash_freq"]), (Some(0), &json!("4MB"), &json!("80m")));
}

#[test]
fn nothing_is_written_for_what_cannot_be_patched() {
    let folder = Folder::new();
    let mut damaged = image(Slot::User1, FlashMode::Qio, 8000);
    damaged[5000] ^= 1;
    let path = folder.put("damaged.bin", &damaged);
    let said = refusal(&["sonoff", "patch", &path, "--mode", "dout"], 65);
    assert!(said.contains("the CRC at byte") && said.contains("spark sonoff check"), "{said}");
    let path = folder.put("text.bin", b"no image");
    refusal(&["sonoff", "patch", &path, "--mode", "dout"], 65);
    refusal(&["sonoff", "patch", &path], 64);
    refusal(&["sonoff", "patch", &path, "--mode", "fast"], 64);
    let sdk = folder.put("sdk.bin", &std::fs::read(vector("sdk_user1_dout_1mb.bin")).unwrap());
    let said = refusal(&["sonoff", "patch", &sdk, "--mode", "qio", "--size", "512KB", "--freq", "26m"], 65);
    assert!(said.contains("both headers would be equal"), "{said}");
    assert_eq!(folder.names(), ["damaged.bin", "sdk.bin", "text.bin"]);
    assert_eq!(std::fs::read(folder.path("damaged.bin")).unwrap(), damaged);
}

#[test]
fn inspect_recognises_every_image_and_says_what_the_tool_says() {
    let info: Value =
        serde_json::from_slice(&std::fs::read(format!("{VECTORS}/image_info.json")).unwrap()).unwrap();
    for case in info["cases"].as_array().unwrap() {
        let name = case["file"].as_str().unwrap();
        let (code, report) = answer(&["inspect", &vector(name)]);
        assert_eq!((code, &report["kind"]), (Some(0), &json!("esp8266-image")), "{name}");
        let tool = &case["tool"];
        assert_eq!(report["flash_mode"], json!(tool["flash_mode"].as_str().unwrap().to_lowercase()));
        assert_eq!(
            (&report["flash_size"], &report["flash_freq"]),
            (&tool["flash_size"], &tool["flash_freq"])
        );
        assert_eq!(json!(format!("{:#010x}", report["entry"].as_u64().unwrap())), tool["entry"]);
        assert_eq!((&report["sha256"], &report["size"]), (&case["sha256"], &case["size"]));
        let version = if tool["image_version"] == 2 { "v2" } else { "v1" };
        let format = if name == "image_arduino.bin" { "whole-flash" } else { version };
        assert_eq!(report["format"], format);
        let irom = usize::from(!report["irom"].is_null());
        let segments = report["segments"].as_array().unwrap().len();
        assert_eq!(segments + irom, tool["segments"].as_array().unwrap().len());
        assert_eq!(report["checksum_ok"], true);
        assert_eq!(report["crc_ok"].is_null(), case["crc_trailer_hex"].is_null());
        assert_eq!(report["application"].is_null(), format != "whole-flash");
        let slot = name.strip_prefix("sdk_user").map(|rest| rest[..1].parse::<u8>().unwrap());
        assert_eq!(report["slot"], json!(slot));
        let text = spark(&["inspect", &vector(name)]);
        assert!(String::from_utf8_lossy(&text.stdout).contains("ESP8266 image, valid"));
    }
}

#[test]
fn inspect_shows_what_is_left_of_damaged_images() {
    let faults: Value =
        serde_json::from_slice(&std::fs::read(format!("{VECTORS}/image_faults.json")).unwrap()).unwrap();
    let folder = Folder::new();
    for case in faults["cases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        let data = hex::decode(case["data_hex"].as_str().unwrap()).unwrap();
        let file = folder.put("image.bin", &data);
        let (_, recognised) = answer(&["inspect", &file]);
        // The rest has nothing of an image.
        let expected = if matches!(id, "magic_00" | "empty" | "hdr7" | "v1_segcount_0") {
            "unknown"
        } else {
            "esp8266-image"
        };
        assert_eq!(recognised["kind"], expected, "{id}");
        let (code, report) = answer(&["inspect", &file, "--as", "esp8266-image"]);
        let valid = report["valid"].as_bool().unwrap();
        assert_eq!(code, Some(if valid { 0 } else { 65 }));
        let warned = codes(&report["warnings"]);
        match id {
            "v2_ok" | "v2_no_crc" | "v1_ok" => assert!(valid && warned.is_empty()),
            "v2_trailing" => assert!(valid && warned == ["trailing-data"] && report["trailing"] == 12),
            "v1_mode_9" => {
                assert!(valid && warned == ["unknown-flash-mode"]);
                assert_eq!(
                    (&report["flash_mode"], &report["flash_parameters"]),
                    (&json!(null), &json!("0920"))
                );
            }
            _ => assert!(!valid, "{id}"),
        }
        if id == "v2_trunc" {
            assert_eq!((&report["flash_mode"], &report["checksum"]), (&json!("dout"), &json!(null)));
            assert_eq!(report["segments"], json!([{ "offset": 856, "address": 0x4010_0000, "length": 292 }]));
            assert_eq!(report["problems"][0]["offset"], 856);
        }
    }
}

#[test]
fn other_chips_and_other_kinds_are_not_taken_for_it() {
    let folder = Folder::new();
    // An image of the ESP32: the same first byte, an entry point in other RAM.
    let mut esp32 = vec![0xe9, 2, 2, 0x20, 0x80, 0x04, 0x08, 0x40];
    esp32.extend([0xee; 100]);
    let file = folder.put("esp32.bin", &esp32);
    assert_eq!(answer(&["inspect", &file]).1["kind"], "unknown");
    let modules = Path::new(VECTORS).join("../modules");
    let mut count = 0;
    for entry in std::fs::read_dir(modules).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "bin" || end == "zip") {
            let (_, report) = answer(&["inspect", path.to_str().unwrap()]);
            assert_ne!(report["kind"], "esp8266-image", "{}", path.display());
            count += 1;
        }
    }
    assert!(count > 5);
}
