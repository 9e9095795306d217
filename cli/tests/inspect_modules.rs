//! `spark inspect` on firmware modules and bundles.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

use serde_json::{Value, json};
use spark_ota::module::bundle::{Bundle, BundleFile};
use spark_ota::module::{Extension, Flags, ModuleBuilder, ModuleFunction, ModuleHash, combine, resign};
use std::io::Write;
use std::process::{Command, Output, Stdio};

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ota/tests/vectors/modules");
const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/ota-particle/modules");

fn spark(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_spark"))
        .arg("inspect")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// The report of `--json`, which agrees with the exit code.
fn inspect(arguments: &[&str], input: &[u8]) -> Value {
    let output = spark(&[arguments, &["--json"]].concat(), input);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let valid = report["valid"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(if valid { 0 } else { 65 }), "{report:#}");
    assert_eq!(report["problems"].as_array().unwrap().is_empty(), valid, "{report:#}");
    report
}

fn content(content: &[u8]) -> Value {
    inspect(&["-"], content)
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(format!("{VECTORS}/{name}")).unwrap()
}

fn codes(report: &Value) -> Vec<&str> {
    report["problems"].as_array().unwrap().iter().map(|problem| problem["code"].as_str().unwrap()).collect()
}

/// What `binary-version-reader` says of a file.
fn compare(report: &Value, entry: &Value) {
    let (prefix, suffix) = (&entry["parsed"]["prefixInfo"], &entry["parsed"]["suffixInfo"]);
    for (ours, theirs) in [
        ("platform_id", "platformID"),
        ("function", "moduleFunction"),
        ("index", "moduleIndex"),
        ("version", "moduleVersion"),
        ("flags", "moduleFlags"),
        ("prefix_offset", "prefixOffset"),
    ] {
        assert_eq!(report[ours], prefix[theirs], "{ours}");
    }
    let hex = |number: &Value| json!(format!("{:x}", number.as_u64().unwrap()));
    assert_eq!(
        (&hex(&report["start_address"]), &hex(&report["end_address"])),
        (&prefix["moduleStartAddy"], &prefix["moduleEndAddy"])
    );
    assert_eq!((&report["sha256"], &report["suffix_size"]), (&suffix["fwUniqueId"], &suffix["suffixSize"]));
    assert_eq!(report["crc_ok"], entry["parsed"]["crc"]["ok"]);
    let extensions = ["prefixInfo", "suffixInfo"]
        .map(|place| entry["parsed"][place]["extensions"].as_array().map_or(0, Vec::len));
    assert_eq!(report["extensions"].as_array().unwrap().len(), extensions.iter().sum::<usize>());
}

fn entries() -> Vec<Value> {
    serde_json::from_slice(&read("parsed.json")).unwrap()
}

#[test]
fn modules_are_shown_as_the_reference_program_reads_them() {
    let mut seen = 0;
    for entry in entries() {
        let name = entry["file"].as_str().unwrap();
        if !name.starts_with("synth-") {
            continue;
        }
        let report = content(&read(name));
        assert_eq!(
            (&report["kind"], &report["valid"]),
            (&json!("module"), &json!(true)),
            "{name}: {report:#}"
        );
        if name != "synth-photon-combined.bin" {
            compare(&report, &entry);
            assert_eq!((&report["arrangement"], &report["modules"]), (&json!("single"), &json!([])));
        }
        seen += 1;
    }
    assert_eq!(seen, 16);
}

#[test]
#[ignore = "needs ../shared"]
fn vendor_modules_are_shown_as_the_reference_program_reads_them() {
    for entry in entries() {
        let name = entry["file"].as_str().unwrap();
        if name.starts_with("synth-") {
            continue;
        }
        let file = std::fs::read(format!("{SHARED}/{name}")).unwrap();
        let report = content(&file);
        let expected: (&str, &[&str]) = match name {
            "damaged-body-bit.bin" => ("module", &["bad-crc"]),
            "damaged-truncated.bin" => ("module", &["truncated"]),
            // Nothing tells these from other files but a number of the user's.
            "RC2_bootloader.bin" | "RC4_bootloader_pad_BM-09.bin" => ("unknown", &["unknown-kind"]),
            _ => ("module", &[]),
        };
        assert_eq!((report["kind"].as_str().unwrap(), &codes(&report)[..]), expected, "{name}");
        match name {
            "combined-p1.bin" => {
                assert_eq!((&report["arrangement"], &report["trailing"]), (&json!("flash-image"), &json!(0)));
                let offsets: Vec<_> =
                    report["modules"].as_array().unwrap().iter().map(|module| &module["offset"]).collect();
                assert_eq!(offsets, [0x4_0000, 0x8_0000]);
            }
            "damaged-padded.bin" => assert_eq!(report["trailing"], 16),
            _ if expected.1.is_empty() => compare(&report, &entry),
            "RC2_bootloader.bin" | "RC4_bootloader_pad_BM-09.bin" => {
                let report = inspect(&["-", "--as", "module"], &file);
                let why = if name.starts_with("RC2") { "bad-crc" } else { "not-finalised" };
                assert_eq!((codes(&report), &report["version"]), (vec!["not-a-module", why], &json!(2)));
                let length = report["length"].as_u64().unwrap() + report["trailing"].as_u64().unwrap();
                assert_eq!(length, entry["size"].as_u64().unwrap());
            }
            _ => {}
        }
    }
}

#[test]
fn product_dependencies_and_extensions_have_their_fields() {
    let report = content(&read("synth-photon-part2.bin"));
    assert_eq!(report["platform"], "Photon");
    assert_eq!(report["dependencies"].as_array().unwrap().len(), 2);
    assert_eq!(report["dependencies"][1]["function_name"], "bootloader");
    let user = content(&read("synth-photon-user.bin"));
    assert_eq!(user["product"], json!({ "id": 1234, "version": 5 }));
    let report = content(&read("synth-p2-user-with-asset-dep.bin"));
    let need = &report["extensions"][0];
    assert_eq!(
        (&need["type"], &need["name"], &need["offset"]),
        (&json!("asset-dependency"), &json!("blob1.dat"), &json!(24))
    );
    assert_eq!(report["flag_names"], json!(["prefix-extensions"]));
    let report = content(&read("synth-gen3-system.compressed-w9.bin"));
    let expected = json!({ "method": 0, "window_bits": 9, "original_size": 2068, "body_only": false });
    assert_eq!(report["compressed"], expected);
    let report = content(&read("synth-asset-compressed.bin"));
    let asset = &report["asset"];
    assert_eq!(
        (&asset["name"], &asset["length"], &asset["sha256_ok"]),
        (&json!("blob1.dat"), &json!(333), &json!(true))
    );
}

#[test]
fn combined_files_show_every_module() {
    let report = content(&read("synth-photon-combined.bin"));
    assert_eq!(report["arrangement"], "combined");
    assert_eq!(report["modules"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&report["function_name"], &report["modules"][1]["function_name"]),
        (&json!("system part"), &json!("user part"))
    );
    let file = read("synth-photon-combined.bin");
    let cut = content(&file[..file.len() - 10]);
    assert_eq!((codes(&cut), &cut["problems"][0]["offset"]), (vec!["truncated"], &json!(2512)));
    let junk = content(&[&file[..], b"junk"].concat());
    assert_eq!((codes(&junk), &junk["trailing"]), (vec!["trailing-data"], &json!(4)));
    let padded = content(&[&file[..], &[0xff; 100]].concat());
    assert_eq!((&padded["valid"], &padded["trailing"]), (&json!(true), &json!(100)));
}

#[test]
fn damage_is_named_and_what_is_left_is_shown() {
    let builder = ModuleBuilder::new(6, ModuleFunction::User, 1, 6).body(&[7; 200]);
    let good = builder.build().unwrap();
    let len = good.len();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = good.clone();
        change(&mut file);
        content(&file)
    };
    let crc = changed(&|file| file[100] ^= 1);
    assert_eq!((codes(&crc), &crc["problems"][0]["offset"]), (vec!["bad-crc"], &json!(len - 4)));
    assert_eq!((&crc["crc_ok"], &crc["version"]), (&json!(false), &json!(6)));
    let sha = changed(&|file| {
        file[len - 20] ^= 1;
        let crc = spark_ota::crc32(&file[..len - 4]);
        file[len - 4..].copy_from_slice(&crc.to_be_bytes());
    });
    assert_eq!((codes(&sha), &sha["sha256_ok"]), (vec!["bad-sha256"], &json!(false)));
    let unfinished = changed(&|file| file[len - 4..].copy_from_slice(&0x7856_3412_u32.to_be_bytes()));
    assert_eq!((codes(&unfinished), &unfinished["finalised"]), (vec!["not-finalised"], &json!(false)));
    let cut = changed(&|file| file.truncate(100));
    assert_eq!((codes(&cut), &cut["version"], &cut["crc"]), (vec!["truncated"], &json!(6), &Value::Null));

    let bad = [Extension::Unknown { kind: 1, data: b"x" }];
    let file = builder.clone().suffix_extensions(&bad).build().unwrap();
    assert_eq!(codes(&content(&file)), ["bad-extension"]);
    let mut file = builder.clone().flags(Flags::COMPRESSED).build().unwrap();
    assert_eq!(codes(&content(&file)), ["bad-compressed-data"]);
    file[9] = 0;
    resign(&mut file).unwrap();
    assert_eq!(codes(&content(&file)), [""; 0]);
    let digest = [3; 32];
    let list = [Extension::Hash(ModuleHash::sha256(&digest)), Extension::Name(b"a")];
    let asset = ModuleBuilder::new(0, ModuleFunction::Asset, 0, 0).body(b"content").suffix_extensions(&list);
    assert_eq!(codes(&content(&asset.clone().build().unwrap())), ["bad-asset"]);
    assert_eq!(codes(&content(&asset.flags(Flags::DROP_INFO).build().unwrap())), ["bad-asset"]);
}

#[test]
fn bundles_show_application_and_assets() {
    let report = content(&read("synth-p2-bundle.zip"));
    assert_eq!((&report["kind"], &report["valid"]), (&json!("module-bundle"), &json!(true)), "{report:#}");
    assert_eq!(
        (&report["application"]["name"], &report["application"]["platform_id"]),
        (&json!("app.bin"), &json!(32))
    );
    let asset = &report["assets"][0];
    assert_eq!(
        (&asset["name"], &asset["length"], &asset["needed"]),
        (&json!("blob1.dat"), &json!(333), &json!(true))
    );

    let application = ModuleBuilder::new(12, ModuleFunction::User, 1, 6).body(&[7; 100]).build().unwrap();
    let asset = BundleFile { name: "cat.jpg".to_owned(), content: b"a picture".to_vec() };
    let bundle = Bundle::new("app.bin", &application, vec![asset.clone()]).unwrap();
    let archive = bundle.write().unwrap();
    assert_eq!(content(&archive)["valid"], true);
    // The same name, with other content of the same length.
    let other =
        Bundle::new("app.bin", &application, vec![BundleFile { content: b"a picturE".to_vec(), ..asset }])
            .unwrap();
    assert_ne!(other.application(), bundle.application());
    assert_eq!(codes(&content(&archive[..archive.len() - 5])), ["bad-archive"]);
    assert_eq!(codes(&inspect(&["-", "--as", "module-bundle"], &application)), ["bad-archive"]);
    assert_eq!(codes(&inspect(&["-", "--as", "module"], &archive)), ["not-a-module"]);
}

#[test]
fn people_read_what_a_module_is() {
    let show = |file: &[u8]| {
        let output = spark(&["-"], file);
        assert!(output.stderr.is_empty());
        String::from_utf8(output.stdout).unwrap()
    };
    let text = show(&read("synth-photon-part2.bin"));
    assert!(text.contains("firmware module, valid") && text.contains("system part 2 version"), "{text}");
    assert!(text.contains("for Photon") && text.contains("needs     system part 1 version"), "{text}");
    assert!(text.contains("SHA-256 right"), "{text}");
    let text = show(&read("synth-p2-bundle.zip"));
    assert!(
        text.contains("application and assets, valid") && text.contains("asset     blob1.dat, 333 bytes"),
        "{text}"
    );
    let part = ModuleBuilder::new(6, ModuleFunction::System, 1, 6).vector_table(0x2002_0000).build().unwrap();
    let text = show(&combine(&[&part, &part]).unwrap());
    assert!(text.contains("388 before the prefix") && text.contains("flags     combined"), "{text}");
}

#[test]
fn larger_files_than_any_module_are_still_judged() {
    let mut file = vec![0x5a; 17 << 20];
    file[0] = 1;
    assert_eq!(content(&file)["kind"], "unknown");
    assert_eq!(codes(&inspect(&["-", "--as", "module"], &file)), ["too-long"]);
}
