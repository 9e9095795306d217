//! The program as a user runs it.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

use core::time::Duration;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

fn spark(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spark")).args(arguments).output().unwrap()
}

fn code(arguments: &[&str]) -> i32 {
    spark(arguments).status.code().unwrap()
}

fn rescue(arguments: &[&str]) -> Value {
    let output = spark(&[&["rescue", "--json"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "--json shows nothing else");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn check_report(report: &Value, modules: [&str; 4]) {
    let damages = report["damages"].as_array().unwrap();
    let codes: Vec<&str> = damages
        .iter()
        .flat_map(|d| d["findings"].as_array().unwrap())
        .map(|f| f["code"].as_str().unwrap())
        .collect();
    assert!(codes.contains(&"interrupted-write") && codes.contains(&"server-key-region-lost"), "{codes:?}");
    let writes = report["writes"].as_array().unwrap();
    let places: Vec<(u64, u64)> =
        writes.iter().map(|w| (w["alternate"].as_u64().unwrap(), w["address"].as_u64().unwrap())).collect();
    assert_eq!(places, [(1, 34), (1, 2082)]);

    let transfers = report["transfers"].as_array().unwrap();
    let order: Vec<&str> = transfers.iter().map(|t| t["module"].as_str().unwrap()).collect();
    assert_eq!(order, modules[..3], "bootloader, part 1, part 2: the dependencies force it");
    assert_eq!(transfers[0]["progress"]["fast"], false, "one in slow mode");
    assert!(transfers[1..].iter().all(|t| t["progress"]["fast"] == true), "the others in fast mode");
    assert_eq!(transfers[1]["progress"]["resent"], 5, "lost on purpose and repaired");
    assert!(transfers.iter().all(|t| t["failure"].is_null()));

    let compared = report["modules"].as_array().unwrap();
    let names: Vec<&str> = compared.iter().map(|m| m["module"].as_str().unwrap()).collect();
    assert_eq!(names, modules);
    for module in compared {
        assert_eq!(module["file_sha256"], module["device_sha256"]);
    }
    assert_eq!(report["application_runs"], true);
}

#[test]
fn rescue_ends_with_every_module_on_the_device() {
    let report = rescue(&[]);
    check_report(
        &report,
        [
            "synthetic-bootloader@2.2.0.bin",
            "synthetic-system-part1@2.2.0.bin",
            "synthetic-system-part2@2.2.0.bin",
            "synthetic-application.bin",
        ],
    );
    assert_eq!(report["transfers"][1]["bytes"], 250_956, "as in the field report");
    assert_eq!(report["describe"]["m"].as_array().unwrap().len(), 4);
}

#[test]
#[ignore = "needs ../shared"]
fn rescue_with_real_modules_ends_with_them_on_the_device() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/ota-particle/modules");
    check_report(
        &rescue(&["--modules", folder]),
        [
            "photon-bootloader@2.2.0+lto.bin",
            "photon-system-part1@2.2.0.bin",
            "photon-system-part2@2.2.0.bin",
            "photon.bin",
        ],
    );
}

#[test]
fn rescue_keeps_keys_dumps_and_log_where_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let report = rescue(&["--keep", folder.path().to_str().unwrap()]);
    let id = report["device_id"].as_str().unwrap();
    let size = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
    assert_eq!(size(&format!("{id}-device-key-field.bin")), 612);
    assert_eq!(size(&format!("{id}-server-key-region.bin")), 512);
    assert_eq!((size("flash-before.bin"), size("flash-after.bin")), (1 << 20, 1 << 20));
    assert!(size(&format!("{id}.der")) >= 600 && size("log.txt") > 500 && size("report.json") > 1000);
    assert!(size("cloud/server-key.pem") > 1000);
}

#[test]
fn exit_codes_are_those_of_sysexits() {
    assert_eq!(code(&["--help"]), 0);
    assert_eq!(code(&["rescue", "--help"]), 0);
    assert_eq!(code(&[]), 64);
    assert_eq!(code(&["rescue", "--nonsense"]), 64);
    assert_eq!(code(&["rescue", "--modules", "/nonexistent"]), 66);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert_eq!(code(&["rescue", "--modules", path]), 66, "no modules in it");
    assert_eq!(code(&["device", "--data", path, "--connect", "127.0.0.1:1"]), 66, "no server key");
    std::fs::write(folder.path().join("key.pem"), "nonsense").unwrap();
    let key = folder.path().join("key.pem");
    assert_eq!(code(&["device", "--data", path, "--server-key", key.to_str().unwrap()]), 65);
    assert_eq!(code(&["cloud", "serve", "--data", path, "--listen", "203.0.113.1:1"]), 69);
}

#[test]
fn errors_say_what_to_do_next() {
    let output = spark(&["rescue", "--modules", "/nonexistent"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("/nonexistent") && text.contains("next:"), "{text}");
}

/// A child that is not left behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_cloud(folder: &Path) -> (Running, String, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_spark"))
        .args(["cloud", "serve", "--listen", "127.0.0.1:0", "--api", "off", "--json", "--data"])
        .arg(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut events = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    events.read_line(&mut line).unwrap();
    let started: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(started["event"], "started", "{line}");
    (Running(child), started["listen"].as_str().unwrap().to_owned(), events)
}

#[test]
fn cloud_and_device_run_as_two_programs() {
    let folder = tempfile::tempdir().unwrap();
    let (cloud_folder, device_folder) = (folder.path().join("cloud"), folder.path().join("device"));
    let modules = cloud_folder.join("modules");
    std::fs::create_dir_all(&modules).unwrap();
    for file in spark_cli::synthetic::new_system().unwrap() {
        std::fs::write(modules.join(&file.name), &file.image).unwrap();
    }
    let (_cloud, address, mut events) = start_cloud(&cloud_folder);

    // The first connection is refused: the key is not known yet.
    let device = |connections: &'static str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spark"));
        command.args(["device", "--connect", &address, "--outdated", "--connections", connections]);
        command
            .arg("--data")
            .arg(&device_folder)
            .arg("--server-key")
            .arg(cloud_folder.join("server-key.pub.pem"));
        command
    };
    let output = device("1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut line = String::new();
    events.read_line(&mut line).unwrap();
    let refused: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(refused["event"], "refused");
    assert!(refused["reason"].as_str().unwrap().starts_with("unknown device"), "{line}");
    let id = refused["device"].as_str().unwrap();
    // The cloud runs, and the database is open in both programs.
    let accept = Command::new(env!("CARGO_BIN_EXE_spark"))
        .args(["cloud", "accept", id, "--data"])
        .arg(&cloud_folder)
        .output()
        .unwrap();
    assert!(accept.status.success(), "{}", String::from_utf8_lossy(&accept.stderr));

    // Three updates, three resets, one more connection.
    let _device = Running(device("100").stderr(Stdio::null()).spawn().unwrap());
    let started = Instant::now();
    let mut updates = 0;
    loop {
        let mut line = String::new();
        events.read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        match event["event"].as_str().unwrap() {
            "update-finished" if event["failure"].is_null() => updates += 1,
            "up-to-date" => break,
            "cannot-update" | "refused" => panic!("{line}"),
            _ => {}
        }
        assert!(started.elapsed() < Duration::from_secs(60));
    }
    assert_eq!(updates, 3);
}
