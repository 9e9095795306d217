//! `spark serial` against `spark device --listening`, both as programs, at a real pseudo-terminal.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

use serde_json::Value;
use spark_cli::synthetic;
use spark_ota::module::{Dependency, ModuleBuilder, ModuleFunction, resign};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

const ID: &str = "3a0027001747343338303599";

fn spark(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spark")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// A device at a port, and what it tells.
struct Device {
    child: Child,
    lines: BufReader<ChildStdout>,
    port: String,
}

impl Device {
    fn start(folder: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_spark"))
            .args(["device", "--listening", "--json", "--id", ID, "--data"])
            .arg(folder)
            .args(more)
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut device = Self { child, lines, port: String::new() };
        device.port = device.next("serial-port")["port"].as_str().unwrap().to_owned();
        device.next("listening");
        device
    }

    /// The next line of this kind.
    fn next(&mut self, happening: &str) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "no {happening}");
            let line: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(line["device_id"], ID);
            if line["happening"] == happening {
                return line;
            }
        }
    }

    /// `spark serial` with its port.
    fn serial(&self, arguments: &[&str]) -> Output {
        spark(&[&["serial"], arguments, &["--port", &self.port]].concat())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.serial(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "--json shows nothing else");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What a failing command says, and its code.
    fn failure(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.serial(arguments);
        assert!(output.stdout.is_empty());
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    /// The version of the installed application.
    fn application(&self) -> Value {
        let report = self.json(&["inspect"]);
        let modules = report["modules"].as_array().unwrap();
        modules.iter().find(|module| module["function"] == "u").unwrap()["version"].clone()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn file(folder: &Path, name: &str, content: &[u8]) -> String {
    let path: PathBuf = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn application(platform: u16, version: u16) -> Vec<u8> {
    let needs = [Dependency::system(2, 1404), Dependency::NONE];
    let body: Vec<u8> = (0..20_000_u32).map(|at| (at * 7 + at / 251).to_le_bytes()[0]).collect();
    ModuleBuilder::new(platform, ModuleFunction::User, 1, version)
        .depends_on(needs)
        .body(&body)
        .build()
        .unwrap()
}

#[test]
fn devices_tell_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::start(&folder.path().join("photon"), &[]);
    let told = device.json(&["identify"]);
    assert_eq!(told["device_id"], ID);
    assert_eq!(told["firmware_version"], "2.0.0");
    assert_eq!(told["mac_address"], "6c:0b:84:30:35:99");
    assert_eq!((&told["claimed"], &told["core"]), (&true.into(), &false.into()));
    assert_eq!(told["port"], device.port.as_str());
    let text = String::from_utf8(device.serial(&["identify"]).stdout).unwrap();
    assert!(text.contains(&format!("device id       {ID}\n")), "{text}");

    let report = device.json(&["inspect"]);
    assert_eq!((&report["platform_id"], &report["valid"]), (&6.into(), &true.into()));
    assert_eq!(report["modules"].as_array().unwrap().len(), 4);
    let text = String::from_utf8(device.serial(&["inspect"]).stdout).unwrap();
    assert!(text.contains("system part 2 version 2202") && text.contains("  Integrity: PASS\n"), "{text}");
}

#[test]
fn modules_that_lack_something_show_it() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::start(&folder.path().join("photon"), &["--outdated"]);
    let output = device.serial(&["inspect"]);
    assert_eq!(output.status.code(), Some(65));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("  Dependencies: FAIL\n  needs system part 2 version 1404 or newer\n"), "{text}");
}

#[test]
fn firmware_is_flashed_and_runs_after_the_restart() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("photon");
    let image = application(6, 42);
    let path = file(folder.path(), "app.bin", &image);
    let mut device = Device::start(&home, &[]);
    assert_eq!(device.application(), 6);

    let plan = device.json(&["flash", &path, "--dry-run"]);
    assert_eq!((&plan["flashed"], &plan["bytes"]), (&false.into(), &image.len().into()));
    assert_eq!(device.application(), 6);

    let report = device.json(&["flash", &path]);
    assert_eq!(
        (&report["flashed"], &report["confirmed"], &report["resent"]),
        (&true.into(), &true.into(), &0.into())
    );
    assert_eq!((&report["device_id"], &report["version"]), (&ID.into(), &42.into()));
    assert_eq!(device.next("reset")["code"], "update");
    assert_eq!(device.next("started")["mode"], "running");
    device.next("listening");
    assert_eq!(device.application(), 42);

    // Small packets, and a whole system part.
    let part = synthetic::new_system().unwrap().swap_remove(1);
    let path = file(folder.path(), "part1.bin", &part.image);
    let output = device.serial(&["flash", &path, "--packet", "128"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().contains("system part 1 version 2202, 250956 bytes"));
    device.next("reset");
    device.next("listening");
    drop(device);

    let device = Device::start(&home, &[]);
    assert_eq!(device.application(), 42, "it was kept");
}

#[test]
fn wrong_files_are_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::start(&folder.path().join("photon"), &[]);
    let mut damaged = application(6, 42);
    damaged[100] ^= 1;
    for (name, content, code, words) in [
        ("no.bin", b"not a module".to_vec(), 65, "not a module"),
        ("damaged.bin", damaged, 65, "its CRC is"),
        ("cut.bin", application(6, 42)[..9000].to_vec(), 65, "the module in it needs"),
        ("p1.bin", application(8, 42), 64, "for platform 8, and the device is platform 6"),
        ("core.bin", application(0, 42), 64, "cannot be flashed over its serial port"),
    ] {
        let path = file(folder.path(), name, &content);
        let (found, text) = device.failure(&["flash", &path]);
        assert_eq!(found, code, "{text}");
        assert!(text.contains(words) && text.contains("next: "), "{text}");
    }
    assert_eq!(device.failure(&["flash", "/nowhere.bin"]).0, 66);
    assert_eq!(device.application(), 6);
}

#[test]
fn images_that_the_device_refuses_are_told_with_its_error() {
    let folder = tempfile::tempdir().unwrap();
    for (profile, words) in [("2.3.1", "(error -240)"), ("0.4.9", "did not receive the image")] {
        let home = folder.path().join(profile);
        let device = Device::start(&home, &["--profile", profile]);
        // Forced upon it.
        let mut image = application(8, 42);
        resign(&mut image).unwrap();
        let path = file(folder.path(), "p1.bin", &image);
        let (code, text) = device.failure(&["flash", &path, "--force"]);
        assert_eq!(code, 76, "{text}");
        assert!(text.contains(words) && text.contains("next: "), "{text}");
        assert_eq!(device.application(), 6, "and it listens again");
    }
}

#[test]
fn networks_are_kept_and_the_device_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = Device::start(&folder.path().join("photon"), &[]);
    let (code, text) = device.failure(&["wifi", "--ssid", "home", "--password", "short"]);
    assert_eq!(code, 64);
    assert!(
        text.contains("a WPA password has 8 to 64 characters, and this password has 5 characters"),
        "{text}"
    );
    let secret = file(folder.path(), "secret", b"top secret\nmore");
    let wifi = ["wifi", "--ssid", "home", "--password-file", &secret, "--cipher", "aes-tkip"];
    assert_eq!(device.json(&[&wifi[..], &["--dry-run"]].concat())["sent"], false);
    let told = device.json(&wifi);
    assert_eq!((&told["sent"], &told["security"]), (&true.into(), &"wpa2".into()));
    device.next("listening-left");

    let (code, text) = device.failure(&wifi);
    assert_eq!(code, 69, "{text}");
    assert!(text.contains("did not ask for a network") && text.contains("SETUP"), "{text}");
}

#[test]
fn a_running_device_is_flashed_by_the_speed_of_its_port() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = Device::start(&folder.path().join("photon"), &[]);
    device.json(&["wifi", "--ssid", "open"]);
    device.next("listening-left");
    let path = file(folder.path(), "app.bin", &application(6, 42));
    let (code, text) = device.failure(&["flash", &path, "--trigger"]);
    assert_eq!(code, 64, "a pseudo-terminal does not tell its device: {text}");
    let report = device.json(&["flash", &path, "--trigger", "--force"]);
    assert_eq!(report["confirmed"], true);
    device.next("reset");
    device.next("listening");
    assert_eq!(device.application(), 42);
}

#[test]
fn ports_that_are_none_are_told() {
    let output = spark(&["serial", "identify", "--port", "/nowhere"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(74), "{text}");
    assert!(text.contains("cannot open /nowhere") && text.contains("spark serial list"), "{text}");
    let output = spark(&["serial", "list", "--json"]);
    assert!(output.status.success());
    assert!(serde_json::from_slice::<Value>(&output.stdout).unwrap().is_array());
}

#[test]
fn listening_does_not_go_with_a_server() {
    for arguments in [&["--connect", "localhost:5683"][..], &["--count", "2"]] {
        let output = spark(&[&["device", "--data", "/nowhere", "--listening"], arguments].concat());
        assert_eq!(output.status.code(), Some(64));
    }
}
