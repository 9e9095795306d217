//! Runs the real dfu-util against the stand-in.
#![allow(dead_code, reason = "every binary uses another part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The folder of the recorded vectors.
pub fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dfu/tests/vectors")
}

pub fn json(name: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(vectors().join(name)).unwrap()).unwrap()
}

pub fn crc32(bytes: &[u8]) -> u32 {
    crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(bytes)
}

/// Byte i = (a*i+b) mod 256.
pub fn pattern(a: usize, b: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (a * i + b).to_le_bytes()[0]).collect()
}

/// What dfu-util did.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// One device with its folder.
pub struct Bench {
    device: &'static str,
    folder: TempDir,
}

impl Bench {
    /// `None` where dfu-util is not installed; in CI that is a failure.
    pub fn new(device: &'static str) -> Option<Self> {
        if Command::new("dfu-util").arg("-V").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "dfu-util is not installed: apt-get install dfu-util");
            eprintln!("SKIPPED: dfu-util is not installed");
            return None;
        }
        let folder = TempDir::new().unwrap();
        // This test runs from target/debug/deps, where cargo puts the library for tests, too.
        let tests = std::env::current_exe().unwrap();
        let library = tests.with_file_name("libusb_standin.so");
        std::os::unix::fs::symlink(library, folder.path().join("libusb-1.0.so.0")).unwrap();
        Some(Self { device, folder })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub fn get(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// The memory of an alternate setting.
    pub fn memory(&self, name: &str) -> Vec<u8> {
        fs::read(self.path("state").join(name)).unwrap()
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        let _ = fs::remove_file(self.path("log"));
        let output = Command::new("dfu-util")
            .args(arguments)
            .current_dir(self.folder.path())
            .env("LD_LIBRARY_PATH", self.folder.path())
            .env("SPARK_USB_DEVICE", self.device)
            .env("SPARK_USB_STATE", self.path("state"))
            .env("SPARK_USB_LOG", self.path("log"))
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Runs and demands exit code 0.
    pub fn succeed(&self, arguments: &[&str]) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "{}: {arguments:?}: {run:#?}", self.device);
        run
    }

    /// The log of the last run.
    pub fn log(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Whether the last run logged such an event.
    pub fn logged(&self, event: &str, part: &str) -> bool {
        self.log().iter().any(|line| line["event"] == event && line.to_string().contains(part))
    }
}

/// What a terminal shows in the end, without the banner.
pub fn shown(stdout: &str) -> Vec<String> {
    stdout
        .lines()
        .skip_while(|line| !line.is_empty())
        .skip(1)
        .skip_while(|line| !line.is_empty())
        .map(|line| line.rsplit('\r').next().unwrap_or(line).trim_end().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}
