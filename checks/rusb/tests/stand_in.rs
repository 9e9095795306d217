//! The programs of this crate, with the stand-in for libusb in the place of libusb.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

const DFU: &str = env!("CARGO_BIN_EXE_dfu");
const DFU_LIBUSB: &str = env!("CARGO_BIN_EXE_dfu-libusb");

/// SET_INTERFACE to alternate settings 0 and 1 of interface 0.
const SELECT: [&str; 2] = ["010b000000000000", "010b010000000000"];

/// One device with its folder.
struct Bench {
    device: &'static str,
    folder: TempDir,
}

impl Bench {
    fn new(device: &'static str) -> Self {
        let folder = TempDir::new().unwrap();
        // This test runs from target/debug/deps, where cargo puts libraries for tests, too.
        let tests = std::env::current_exe().unwrap();
        let library = tests.with_file_name("libusb_standin.so");
        assert!(library.exists(), "{}", library.display());
        std::os::unix::fs::symlink(library, folder.path().join("libusb-1.0.so.0")).unwrap();
        Self { device, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn memory(&self, name: &str) -> Vec<u8> {
        fs::read(self.path("state").join(name)).unwrap()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let _ = fs::remove_file(self.path("log"));
        Command::new(program)
            .args(arguments)
            .current_dir(self.folder.path())
            .env("LD_LIBRARY_PATH", self.folder.path())
            .env("SPARK_USB_DEVICE", self.device)
            .env("SPARK_USB_STATE", self.path("state"))
            .env("SPARK_USB_LOG", self.path("log"))
            .output()
            .unwrap()
    }

    /// Runs, demands exit code 0 and returns what was printed.
    fn succeed(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        assert!(output.status.success(), "{}: {arguments:?}: {output:?}", self.device);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs, demands a failure and returns what was complained about.
    fn fail(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        assert!(!output.status.success(), "{}: {arguments:?}: {output:?}", self.device);
        String::from_utf8(output.stderr).unwrap()
    }

    /// The log of the last run.
    fn log(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The setup packets of the last run, and what happened in between.
    fn events(&self) -> Vec<String> {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        self.log().iter().map(|line| text(&line["setup"]) + &text(&line["event"])).collect()
    }

    fn logged(&self, event: &str, part: &str) -> bool {
        self.log().iter().any(|line| line["event"] == event && line.to_string().contains(part))
    }
}

/// Byte i = (a*i+b) mod 256.
fn pattern(a: usize, b: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (a * i + b).to_le_bytes()[0]).collect()
}

/// A new flash of the stand-in's devices.
fn fresh(i: usize) -> u8 {
    0xA5 ^ i.to_le_bytes()[0] ^ (i >> 8).to_le_bytes()[0]
}

/// Devices that behave as their ids promise: the host takes its quirks from those.
const HONEST: [&str; 3] = ["photon", "photon-0.5.3", "st-0.5.3"];

/// All profiles, with the ids of a Photon.
const PROFILES: [&str; 4] = ["photon", "photon-0.5.3", "strict", "tolerant"];

#[test]
fn a_photon_is_listed_with_its_memories() {
    let shown = Bench::new("photon").succeed(DFU, &["list"]);
    assert_eq!(
        shown.lines().collect::<Vec<_>>(),
        [
            "2b04:d006 DFU mode",
            "0 @Internal Flash   /0x08000000/03*016Ka,01*016Kg,01*064Kg,07*128Kg",
            "1 @DCT Flash   /0x00000000/01*016Kg",
        ]
    );
    assert_eq!(Bench::new("runtime").succeed(DFU, &["list"]), "2b04:c0de run-time mode\n0 DFU\n");
    assert!(Bench::new("none").fail(DFU, &["list"]).contains("NotFound"));
}

#[test]
fn a_key_is_written_to_alternate_1_and_read_back() {
    for device in PROFILES {
        let bench = Bench::new(device);
        let key = pattern(31, 7, 612);
        bench.put("key", &key);
        bench.succeed(DFU, &["write", "1", "0x22", "key"]);
        let events = bench.events();
        let selected = events.iter().position(|event| event == SELECT[1]);
        let first = events.iter().position(|event| event.starts_with("21") || event.starts_with("a1"));
        assert!(
            selected.is_some() && selected < first,
            "{device}: selected before the first request: {events:?}"
        );
        assert!(events.iter().any(|event| event.starts_with("a102")), "{device}: verified by reading");
        let mut expected = pattern(7, 3, 16384);
        expected[34..646].copy_from_slice(&key);
        assert_eq!(bench.memory("dct.bin"), expected, "{device}: neighbours survive");
        bench.succeed(DFU, &["read", "1", "0x22", "612", "back"]);
        assert_eq!(fs::read(bench.path("back")).unwrap(), key, "{device}");
        bench.succeed(DFU, &["reset-and-read", "1", "0x22", "612", "again"]);
        assert!(bench.logged("bus reset", ""), "{device}");
        assert_eq!(fs::read(bench.path("again")).unwrap(), key, "{device}: selected again");
    }
}

#[test]
fn an_image_is_written_to_alternate_0_and_the_device_leaves() {
    for device in HONEST {
        let bench = Bench::new(device);
        let image = pattern(13, 5, 150_001);
        bench.put("image", &image);
        bench.succeed(DFU, &["write", "0", "0x080A0000", "image"]);
        assert!(bench.events().contains(&SELECT[0].to_owned()), "{device}");
        let mut expected: Vec<_> = (0..1 << 20).map(fresh).collect();
        expected[0xA_0000..0xE_0000].fill(0xFF);
        expected[0xA_0000..0xA_0000 + image.len()].copy_from_slice(&image);
        assert_eq!(bench.memory("flash.bin"), expected, "{device}: two pages are erased, the others survive");
        bench.succeed(DFU, &["read", "0", "0x080A0000", "150001", "back"]);
        assert_eq!(fs::read(bench.path("back")).unwrap(), image, "{device}");
        let left = bench.succeed(DFU, &["leave", "0x080A0000"]);
        assert_eq!(left, "Some(Answered(DnloadIdle))\n", "{device}");
    }
}

#[test]
fn what_the_map_forbids_is_refused_without_a_block() {
    for device in PROFILES {
        let bench = Bench::new(device);
        bench.put("image", &[1; 16]);
        let complaint = bench.fail(DFU, &["write", "0", "0x08000000", "image"]);
        assert!(complaint.contains("NotWriteable"), "{device}: {complaint}");
        assert!(!bench.events().iter().any(|event| event.starts_with("2101")), "{device}");
    }
}

#[test]
fn a_run_time_device_is_reset_found_again_and_updated() {
    for (device, resets) in [("runtime", true), ("runtime-detaches", false)] {
        let bench = Bench::new(device);
        assert_eq!(bench.succeed(DFU, &["detach"]), "Some(Detached)\n", "{device}");
        assert_eq!(bench.logged("bus reset", ""), resets, "{device}");
        assert!(bench.logged("attached", "dfu"), "{device}");
        assert!(bench.succeed(DFU, &["list"]).starts_with("2b04:d0df DFU mode"), "{device}");
        let image = pattern(5, 9, 50_000);
        bench.put("image", &image);
        let outcome = bench.succeed(DFU, &["write", "0", "0", "image"]);
        assert_eq!(outcome, if resets { "Some(Reset)\n" } else { "Some(Idle)\n" }, "{device}");
        assert_eq!(bench.logged("bus reset", ""), resets, "{device}");
        assert!(bench.logged("work", "Manifest { alternate: 0, len: 50000 }"), "{device}");
        assert_eq!(bench.memory("image.bin")[..50_000], image, "{device}");
    }
}

#[test]
fn dfu_libusb_writes_the_same_memory() {
    let image = pattern(13, 5, 150_001);
    let ours = Bench::new("photon");
    ours.put("image", &image);
    ours.succeed(DFU, &["write", "0", "0x080A0000", "image"]);
    for device in PROFILES {
        let theirs = Bench::new(device);
        theirs.put("image", &image);
        let arguments = ["2b04", "d006", "0", "080a0000", "image"];
        if device.starts_with("photon") {
            // It leaves with dfuDNLOAD-IDLE, which dfu-core takes for a failure after everything is written.
            let complaint = theirs.fail(DFU_LIBUSB, &arguments);
            assert!(complaint.contains("got: DfuDnloadIdle, expected: DfuManifest"), "{device}: {complaint}");
        } else {
            assert_eq!(theirs.succeed(DFU_LIBUSB, &arguments), "written\n", "{device}");
        }
        assert!(theirs.memory("flash.bin") == ours.memory("flash.bin"), "{device}");
        assert!(theirs.memory("dct.bin") == ours.memory("dct.bin"), "{device}");
    }
}
