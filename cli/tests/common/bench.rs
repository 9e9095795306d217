//! The program in a folder of its own, with a simulated Photon whose flash is the file `flash`.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code, each file uses its part of it"
)]

use serde_json::Value;
use spark_dct::wiced::Generation;
use spark_sim::{Flash, config};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The id that the simulated Photon tells over USB.
pub const ID: &str = "000000000000000000000001";

pub struct Bench {
    command: &'static str,
    folder: tempfile::TempDir,
}

impl Bench {
    /// For `spark COMMAND`.
    pub fn new(command: &'static str) -> Self {
        Self { command, folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spark"));
        command.arg(self.command).args(arguments).current_dir(self.folder.path()).output().unwrap()
    }

    /// The result of `--json` and nothing else, with that exit code.
    pub fn json(&self, arguments: &[&str], code: i32) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
        assert!(output.stderr.is_empty(), "--json shows nothing else: {message}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn ok(&self, arguments: &[&str]) -> Value {
        self.json(arguments, 0)
    }

    /// On the simulated Photon.
    pub fn device(&self, arguments: &[&str]) -> Value {
        self.ok(&[arguments, &["--virtual", "flash"]].concat())
    }

    /// Exit code, standard output and standard error.
    pub fn plain(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.run(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    /// As [`Self::plain`], for what has to fail.
    pub fn fails(&self, arguments: &[&str]) -> (i32, String, String) {
        let said = self.plain(arguments);
        assert_ne!(said.0, 0, "{arguments:?}: {}", said.1);
        said
    }

    /// Exit code and message of what has to fail on the simulated Photon.
    pub fn device_fails(&self, arguments: &[&str]) -> (i32, String) {
        let (code, _, message) = self.fails(&[arguments, &["--virtual", "flash"]].concat());
        (code, message)
    }

    pub fn flash(&self) -> Flash {
        Flash::with_contents(&self.read("flash")).unwrap()
    }

    /// The configuration that the simulated Photon uses.
    pub fn table(&self) -> Vec<u8> {
        config::read(&self.flash(), Generation::V0_7_0)
    }

    /// Damages the configuration of the simulated Photon.
    pub fn damage(&self, offset: usize, bytes: &[u8]) {
        let mut flash = self.flash();
        config::write(&mut flash, Generation::V0_7_0, offset, bytes).unwrap();
        self.put("flash", flash.contents());
    }
}

/// A vector file of a crate.
pub fn vector(krate: &str, name: &str) -> Vec<u8> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read(workspace.join(krate).join("tests/vectors").join(name)).unwrap()
}
