//! `spark flash` as a user runs it, on the simulated Photon.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

use serde_json::{Value, json};
use spark_cli::cloud::catalogue::ModuleFile;
use spark_cli::synthetic;
use spark_ota::module::bundle::{Bundle, BundleFile};
use spark_ota::module::{CompressOptions, ModuleBuilder, ModuleFunction, combine, compress, resign};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A folder with the flash of one simulated Photon.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn module(&self, module: &ModuleFile) -> String {
        self.file(&module.name, &module.image)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spark"));
        command.arg("flash").args(arguments).arg("--virtual").arg(self.path("flash"));
        command.output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "--json shows nothing else");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Exit code and message of a command that fails and leaves the flash alone.
    fn refuses(&self, arguments: &[&str]) -> (i32, String) {
        let before = fs::read(self.path("flash")).ok();
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        if before.is_some() {
            assert_eq!(fs::read(self.path("flash")).ok(), before, "{arguments:?}");
        }
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    /// What is in the flash at an address.
    fn flash(&self, address: u32, len: usize) -> Vec<u8> {
        let flash = fs::read(self.path("flash")).unwrap();
        let start = usize::try_from(address - 0x0800_0000).unwrap();
        flash[start..start + len].to_vec()
    }

    /// The byte of the configuration that tells of an update.
    fn flag(&self) -> u8 {
        let path = self.path("flag");
        let _ = fs::remove_file(&path);
        let mut command = Command::new(env!("CARGO_BIN_EXE_spark"));
        command
            .args(["dfu", "upload", "-a", "1", "-s", "1753:1", "-U"])
            .arg(&path)
            .arg("--virtual")
            .arg(self.path("flash"));
        assert!(command.output().unwrap().status.success());
        fs::read(path).unwrap()[0]
    }
}

/// `purpose alternate address leave`.
fn steps(report: &Value) -> Vec<(String, u64, u64, bool)> {
    let step = |step: &Value| {
        let number = |name: &str| step[name].as_u64().unwrap();
        let purpose = step["purpose"].as_str().unwrap().to_owned();
        (purpose, number("alternate"), number("address"), step["leave"].as_bool().unwrap())
    };
    report["steps"].as_array().unwrap().iter().map(step).collect()
}

#[test]
fn an_application_is_written_where_it_runs_and_started() {
    let bench = Bench::new();
    let application = synthetic::application().unwrap();
    let file = bench.module(&application);
    let report = bench.ok(&[&file]);
    assert_eq!(steps(&report), [("module".to_owned(), 0, 0x080a_0000, true)]);
    assert_eq!((&report["platform"], &report["warnings"]), (&json!("Photon"), &json!([])));
    assert_eq!(bench.flash(0x080a_0000, application.image.len()), *application.image);
    let report = bench.ok(&[&file, "--factory", "--usb"]);
    assert_eq!(steps(&report), [("factory".to_owned(), 0, 0x080e_0000, false)]);
    assert_eq!(bench.flash(0x080e_0000, application.image.len()), *application.image);
    assert!(!steps(&bench.ok(&[&file, "--no-leave"]))[0].3);
}

#[test]
fn a_system_is_written_in_the_order_of_a_photon() {
    let bench = Bench::new();
    let system = synthetic::new_system().unwrap();
    let mut files: Vec<String> = system.iter().map(|module| bench.module(module)).collect();
    files.reverse();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let report = bench.ok(&[&files, &["--update"][..]].concat());
    let expected = [
        ("update", 0, 0x080c_0000, false),
        ("update-flag", 1, 1753, false),
        ("module", 0, 0x0802_0000, false),
        ("module", 0, 0x0806_0000, true),
    ];
    assert_eq!(
        steps(&report),
        expected.map(|(purpose, alternate, address, leave)| (purpose.to_owned(), alternate, address, leave))
    );
    for (address, module) in [0x080c_0000, 0x0802_0000, 0x0806_0000].into_iter().zip(&system) {
        assert_eq!(bench.flash(address, module.image.len()), *module.image);
    }
    assert_eq!(bench.flag(), 0xa5);
    let (code, text) = bench.refuses(&[files[0], files[1], "--update"]);
    assert_eq!(code, 64);
    assert!(text.contains("the bootloader is missing") && text.contains("drop --update"), "{text}");
}

#[test]
fn a_dry_run_shows_the_plan_and_writes_nothing() {
    let bench = Bench::new();
    let file = bench.module(&synthetic::application().unwrap());
    bench.ok(&[&file]);
    let before = fs::read(bench.path("flash")).unwrap();
    let part = bench.module(&synthetic::new_system().unwrap()[1]);
    let report = bench.ok(&[&part, "--dry-run"]);
    assert_eq!((&report["dry_run"], steps(&report).len()), (&json!(true), 1));
    assert_eq!(fs::read(bench.path("flash")).unwrap(), before);
    let output = bench.run(&[&part, "--dry-run"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("1/1 system part 1: 250956 bytes to 0x08020000 of alternate setting 0"), "{text}");
    assert!(text.contains("nothing was written"), "{text}");
}

#[test]
fn every_bad_file_is_refused_before_the_first_write() {
    let bench = Bench::new();
    let application = synthetic::application().unwrap();
    let good = bench.module(&application);
    bench.ok(&[&good]);
    let part = bench.module(&synthetic::new_system().unwrap()[1]);
    let refused = |name: &str, content: &[u8], expected: i32, text: &str| {
        let file = bench.file(name, content);
        let (code, message) = bench.refuses(&[&part, &file]);
        assert!(code == expected && message.contains(name) && message.contains(text), "{code} {message}");
        assert!(message.contains("next: "), "{message}");
    };
    let mut damaged = application.image.to_vec();
    damaged[5000] ^= 1;
    refused("damaged.bin", &damaged, 65, "the CRC of the user part is");
    refused("text.bin", b"not a module", 65, "it is no module");
    refused("cut.bin", &application.image[..9000], 65, "the module in it needs 17780");
    let mut other = application.image.to_vec();
    other[12] = 8;
    resign(&mut other).unwrap();
    refused("p1.bin", &other, 65, "is for P1, not for Photon");
    refused(
        "part.bin",
        &synthetic::new_system().unwrap()[1].image,
        65,
        "both the system part 1 and the system part 1",
    );
    let ncp = ModuleBuilder::new(6, ModuleFunction::Ncp, 0, 1).body(&[1; 64]).build().unwrap();
    refused("ncp.bin", &ncp, 65, "cannot be written over USB");
    let (code, _) = bench.refuses(&[&part, "no-such-file.bin"]);
    assert_eq!(code, 66);

    let forced = bench.file("damaged.bin", &damaged);
    let report = bench.ok(&[&forced, "--force"]);
    assert_eq!(report["warnings"][0]["code"], "bad-crc");
    assert_eq!(bench.flash(0x080a_0000, damaged.len()), damaged);
}

#[test]
fn packed_files_are_unpacked_first() {
    let bench = Bench::new();
    let application = synthetic::application().unwrap();
    let smaller = compress(&application.image, CompressOptions::DEFAULT).unwrap();
    bench.ok(&[&bench.file("compressed.bin", &smaller)]);
    assert_eq!(bench.flash(0x080a_0000, application.image.len()), *application.image);

    let system = synthetic::new_system().unwrap();
    let combined = combine(&[&system[1].image, &application.image]).unwrap();
    let report = bench.ok(&[&bench.file("combined.bin", &combined)]);
    assert_eq!(steps(&report).len(), 2);

    let bundle = Bundle::new("app.bin", &application.image, Vec::new()).unwrap();
    bench.ok(&[&bench.file("bundle.zip", &bundle.write().unwrap())]);
    let asset = BundleFile { name: "cat.jpg".to_owned(), content: b"a picture".to_vec() };
    let bundle = Bundle::new("app.bin", &application.image, vec![asset]).unwrap();
    let file = bench.file("assets.zip", &bundle.write().unwrap());
    let (code, text) = bench.refuses(&[&file]);
    assert!(code == 65 && text.contains("has assets, and only modules can be flashed"), "{text}");
    bench.ok(&[&file, "--force"]);
    assert_eq!(bench.flash(0x080a_0000, bundle.application().content.len()), bundle.application().content);
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let bench = Bench::new();
    let code = |arguments: &[&str]| bench.run(arguments).status.code().unwrap();
    assert_eq!(code(&[]), 64);
    assert_eq!(code(&["x.bin", "--factory", "--update"]), 64);
    assert_eq!(code(&["x.bin", "--leave", "--no-leave"]), 64);
    assert_eq!(code(&["--help"]), 0);
}
