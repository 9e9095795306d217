//! `spark dfu` as a user runs it, on the simulated Photon.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

use serde_json::Value;
use sha2::{Digest, Sha256};
use spark_dfu::file::dfuse::{Builder, DfuSeFile};
use spark_dfu::file::suffix::Suffix;
use spark_dfu::host::{Download, Element, Link, Plan, WriteOptions};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

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

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spark"));
        command.arg("dfu").args(arguments).arg("--virtual").arg(self.path("flash"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--json"]].concat();
        let output = self.run(&arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "--json shows nothing else");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Exit code and message of a command that fails.
    fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    fn read(&self, alternate: &str, range: &str) -> Vec<u8> {
        let path = self.path("read");
        let _ = fs::remove_file(&path);
        self.ok(&["upload", "-U", path.to_str().unwrap(), "-a", alternate, "-s", range]);
        fs::read(path).unwrap()
    }

    fn flash(&self) -> Vec<u8> {
        fs::read(self.path("flash")).unwrap()
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((31 * i + 7 + (i >> 8)) & 255).unwrap()).collect()
}

#[test]
fn list_shows_ids_memories_and_what_may_be_done_where() {
    let bench = Bench::new();
    let output = bench.run(&["list"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("2b04:d006") && text.contains("DFU 1.1a (DfuSe), 4096 bytes"), "{text}");
    assert!(text.contains("-a 1  @DCT Flash") && text.contains("0x08020000..=0x080fffff  7 pages"), "{text}");
    let list = bench.ok(&["list"]);
    assert_eq!(list[0]["alternates"][0]["segments"][3]["page_size"], 131_072);
    assert_eq!(bench.ok(&["list", "-d", "1234:*"]).as_array().unwrap().len(), 0);
    assert_eq!(bench.ok(&["list", "-d", "-,2b04:d006"]).as_array().unwrap().len(), 1);
}

#[test]
fn an_image_is_written_read_back_and_left_alone_the_second_time() {
    let bench = Bench::new();
    let image = pattern(300_000);
    let file = bench.file("image", &image);
    let arguments = ["download", "-D", &file, "-a", "0", "-s", "0x08020000:leave", "--skip-unchanged"];
    let first = bench.ok(&arguments);
    assert_eq!(first["memories"][0]["pages_erased"], 3);
    assert_eq!(first["memories"][0]["bytes_verified"], 300_000);
    assert_eq!(first["leave"], "answered");
    assert_eq!(bench.read("0", "0x08020000:300000"), image);
    let second = bench.ok(&arguments);
    assert_eq!(second["memories"][0]["pages_erased"], 0);
    assert_eq!(second["memories"][0]["bytes_written"], 0);
    assert_eq!(second["memories"][0]["bytes_unchanged"], 300_000);
}

#[test]
fn a_key_lands_in_the_dct_without_an_erase_and_its_neighbours_survive() {
    let bench = Bench::new();
    let key = pattern(612);
    let before = bench.read("1", "0:4000");
    let file = bench.file("key", &key);
    let result = bench.ok(&["download", &file, "-a", "1", "-s", "34"]);
    assert_eq!(result["memories"][0]["pages_erased"], 0);
    let after = bench.read("1", "0:4000");
    assert_eq!(after[34..][..612], key);
    assert_eq!((&after[..34], &after[646..]), (&before[..34], &before[646..]));
    // Without a length: to the end of the segment.
    assert_eq!(bench.read("1", "16000").len(), 384);
}

/// What lies behind the last field is no place to write to: the device loses its network record, or hangs, or refuses the
/// block after it has stored those before.
#[test]
fn a_write_that_leaves_the_table_is_refused_before_its_first_block() {
    let bench = Bench::new();
    bench.ok(&["command", "-a", "0", "-s", ":leave"]);
    let before = bench.flash();
    let long = bench.file("long", &pattern(9000));
    let byte = bench.file("byte", &[7]);
    let mut builder = Builder::new(0x2B04, 0xD006);
    builder.target(0, None).element(0x080A_0000, &[1; 100]);
    builder.target(1, None).element(34, &[1; 612]).element(8390, &[1; 2]);
    let dfuse = bench.file("both.dfu", &builder.to_vec().unwrap());
    for (arguments, what) in [
        (&["download", &long, "-a", "1", "-s", "0"][..], "ends at byte 9000"),
        (&["download", &byte, "-a", "1", "-s", "8790"], "overwrites its network configuration"),
        (&["download", &byte, "-a", "1", "-s", "8825"], "hangs"),
        (&["download", &byte, "-a", "1", "-s", "8391"], "ends at byte 8392"),
        (&["download", &byte, "-a", "@DCT Flash   /0x00000000/01*016Kg", "-s", "16383"], "the other sector"),
        (&["download", &dfuse], "ends at byte 8392"),
    ] {
        for dry_run in [&["--dry-run"][..], &[]] {
            let (code, message) = bench.fails(&[arguments, dry_run].concat());
            assert!(code == 64 && message.contains(what) && message.contains("8391"), "{message}");
            assert!(bench.flash() == before, "{arguments:?}");
        }
    }
    let table = bench.file("table", &pattern(8391));
    bench.ok(&["download", &table, "-a", "1", "-s", "0"]);
    assert!(bench.read("1", "0:8391") == pattern(8391));
}

#[test]
fn partial_pages_are_kept_and_blocks_of_any_size_do() {
    let bench = Bench::new();
    let first = bench.file("first", &pattern(200_000));
    bench.ok(&["download", &first, "-a", "0", "-s", "0x08080000"]);
    let second = bench.file("second", &[0x55; 3000]);
    bench.ok(&["download", &second, "-a", "0", "-s", "0x08090001", "--keep-partial-pages", "-t", "1000"]);
    let mut expected = pattern(200_000);
    expected[0x1_0001..][..3000].fill(0x55);
    assert!(bench.read("0", "0x08080000:200000") == expected);
}

#[test]
fn a_device_can_be_treated_as_another_kind() {
    let bench = Bench::new();
    let file = bench.file("image", &pattern(9000));
    let key = bench.file("key", &pattern(612));
    // By the book a page that says erasable is erased, and a Photon says that it did.
    let erased = |kind| {
        let result = bench.ok(&["download", &key, "-a", "1", "-s", "34", "--quirks", kind]);
        result["memories"][0]["pages_erased"].as_u64().unwrap()
    };
    assert_eq!((erased("photon"), erased("none")), (0, 1));
    let (code, message) = bench.fails(&["list", "--quirks", "toaster"]);
    assert!(code == 64 && message.contains("stm32h743"), "{message}");
    let flash =
        ["download", &file, "-a", "0", "-s", "0x080A0000", "--address-every-block", "--quirks", "none"];
    assert_eq!(bench.ok(&flash)["memories"][0]["bytes_verified"], 9000);
}

#[test]
fn a_dfuse_file_goes_to_all_its_memories() {
    let bench = Bench::new();
    let (code, key) = (pattern(5000), pattern(100));
    let mut builder = Builder::new(0x2B04, 0xD006);
    builder.target(0, Some(b"ST...")).element(0x080A_0100, &code[1000..]).element(0x080A_0000, &code[..100]);
    builder.target(1, None).element(34, &key);
    let bytes = builder.to_vec().unwrap();
    assert_eq!(DfuSeFile::parse(&bytes).unwrap().targets().count(), 2);
    let file = bench.file("both.dfu", &bytes);
    let result = bench.ok(&["download", &file, "-s", ":leave"]);
    assert_eq!(result["memories"].as_array().unwrap().len(), 2);
    let flash = bench.read("0", "0x080A0000:5000");
    assert_eq!((&flash[..100], &flash[256..4256]), (&code[..100], &code[1000..]));
    assert_eq!(bench.read("1", "34:100"), key);
    // Only one of them.
    let result = bench.ok(&["download", &file, "-a", "1"]);
    assert_eq!(result["memories"].as_array().unwrap().len(), 1);
    let (code, message) = bench.fails(&["download", &file, "-s", "0x08020000"]);
    assert!(code == 64 && message.contains("its own addresses"), "{message}");
}

#[test]
fn dfuse_files_for_missing_memories_or_other_devices_are_refused_before_anything_is_written() {
    let bench = Bench::new();
    bench.ok(&["command", "-a", "0", "-s", ":leave"]);
    let before = bench.flash();
    let mut builder = Builder::new(0x2B04, 0xD006);
    builder.target(0, None).element(0x080A_0000, &[1; 100]);
    builder.target(5, None).element(0, &[2; 100]);
    let file = bench.file("five.dfu", &builder.to_vec().unwrap());
    let (code, message) = bench.fails(&["download", &file]);
    assert!(code == 64 && message.contains("alternate setting 5"), "{message}");
    let foreign = bench.file("foreign.dfu", &Suffix::new(0x0483, 0xDF11).append_to_vec(&[1; 100]).unwrap());
    let (code, message) = bench.fails(&["download", &foreign, "-a", "0", "-s", "0x080A0000"]);
    assert!(code == 64 && message.contains("0483:df11"), "{message}");
    assert!(bench.flash() == before);
    // Forced, the rest is written.
    let result = bench.ok(&["download", &file, "-s", ":force"]);
    assert_eq!(result["memories"].as_array().unwrap().len(), 1);
}

#[test]
fn damaged_files_are_refused() {
    let bench = Bench::new();
    let mut suffixed = Suffix::new(0x2B04, 0xD006).append_to_vec(&pattern(1000)).unwrap();
    let whole = bench.file("whole", &suffixed);
    bench.ok(&["download", &whole, "-a", "0", "-s", "0x080A0000"]);
    assert_eq!(
        bench.read("0", "0x080A0000:1001")[999..],
        [pattern(1000)[999], 0xFF],
        "no suffix in the flash"
    );
    suffixed[500] ^= 1;
    let damaged = bench.file("damaged", &suffixed);
    let (code, message) = bench.fails(&["download", &damaged, "-a", "0", "-s", "0x080A0000"]);
    assert!(code == 65 && message.contains("CRC"), "{message}");
    let cut = bench.file("cut.dfu", b"DfuSe\x01\x00\x00");
    assert_eq!(bench.fails(&["download", &cut]).0, 65);
    assert_eq!(bench.fails(&["download", "nothing-here", "-a", "0", "-s", "0x080A0000"]).0, 66);
}

#[test]
fn what_the_memory_map_forbids_is_not_even_begun() {
    let bench = Bench::new();
    let file = bench.file("image", &pattern(10_000));
    bench.ok(&["command", "-a", "0", "-s", ":leave"]);
    let before = bench.flash();
    for (range, what) in [
        ("0x08000000", "not writeable"),
        ("0x0800BFFF", "not writeable"),
        ("0x080FFFFF", "outside the memory map"),
        ("0xFFFFFFFF", "beyond the 32-bit address space"),
    ] {
        let (code, message) = bench.fails(&["download", &file, "-a", "0", "-s", range]);
        assert!(code == 64 && message.contains(what), "{range}: {message}");
    }
    assert_eq!(bench.fails(&["download", &file, "-a", "0"]).0, 64);
    assert_eq!(bench.fails(&["download", &file, "-s", "0x080A0000"]).0, 64);
    assert_eq!(bench.fails(&["download", &file, "-a", "7", "-s", "0x080A0000"]).0, 64);
    assert_eq!(bench.fails(&["download", &file, "-a", "0", "-s", "0x080A0000:100"]).0, 64);
    assert_eq!(bench.fails(&["upload", "new", "-a", "0", "-s", "0x080FFFFF:2"]).0, 64);
    assert!(!Path::new("new").exists());
    assert!(bench.flash() == before);
    // The bootloader refuses what its own map allows below 0x08020000.
    let (code, message) = bench.fails(&["download", &file, "-a", "0", "-s", "0x0800C000"]);
    assert!(code == 76 && message.contains("0x0800c000"), "{message}");
}

#[test]
fn dry_run_shows_the_plan_and_writes_nothing() {
    let bench = Bench::new();
    let file = bench.file("image", &pattern(140_000));
    bench.ok(&["command", "-a", "0", "-s", ":leave"]);
    let before = bench.flash();
    let plan = bench.ok(&["download", &file, "-a", "0", "-s", "0x08020000:leave", "--dry-run"]);
    assert_eq!(plan["dry_run"], true);
    assert_eq!(plan["plan"][0]["pages"][1]["start"], 0x0804_0000);
    assert!(bench.flash() == before);
}

#[test]
fn a_journal_of_the_same_job_is_taken_up_and_of_another_refused() {
    let bench = Bench::new();
    let image = pattern(300_000);
    let file = bench.file("image", &image);
    let journal = bench.path("journal").to_str().unwrap().to_owned();
    let arguments = ["download", &file, "-a", "0", "-s", "0x08020000", "--journal", &journal];
    let whole = bench.ok(&arguments);
    assert_eq!(whole["memories"][0]["pages_erased"], 3);
    assert!(!Path::new(&journal).exists(), "removed at the end");
    fs::write(&journal, b"no journal").unwrap();
    let (code, message) = bench.fails(&arguments);
    assert!(code == 65 && message.contains("remove the journal"), "{message}");
}

/// An interrupted job, its journal, and what becomes of them.
#[test]
fn a_job_that_was_interrupted_goes_on_and_a_foreign_journal_is_harmless() {
    let bench = Bench::new();
    let image = pattern(300_000);
    let file = bench.file("image", &image);
    bench.ok(&["command", "-a", "0", "-s", ":leave"]);
    let fresh = bench.flash();
    // The first two pages are there, and a journal says so.
    let two = bench.file("two", &image[..0x4_0000]);
    bench.ok(&["download", &two, "-a", "0", "-s", "0x08020000"]);
    let text = spark_dfu::descriptor::Description::PHOTON_ALTERNATES[0];
    let layout = spark_dfu::layout::MemoryLayout::parse(text.as_bytes()).unwrap();
    let options = WriteOptions { verify: true, ..WriteOptions::DEFAULT };
    let plan = Plan::write(&layout, 0x0802_0000, image.len(), options).unwrap();
    let mut digest = Sha256::new();
    digest.update(Sha256::digest(&image));
    digest.update("2b04:d006 000000000000000000000001");
    let number = u32::from_le_bytes(digest.finalize()[..4].try_into().unwrap());
    let element = Element { address: 0x0802_0000, data: &image };
    let start = Download::new(Link::PHOTON, &plan, element, [0; 4096]).unwrap().journal(number).to_bytes();
    let mut record = start;
    record[12] = 2;
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&record[..16]);
    record[16..].copy_from_slice(&crc.to_le_bytes());
    let journal = bench.file("journal", &record);
    let arguments = ["download", &file, "-a", "0", "-s", "0x08020000", "--journal", &journal];
    let rest = bench.ok(&arguments);
    assert_eq!(rest["memories"][0]["pages_erased"], 1);
    assert_eq!(rest["memories"][0]["bytes_unchanged"], 0x4_0000);
    assert_eq!(bench.read("0", "0x08020000:300000"), image);
    // The same journal on a device where nothing was written: everything is read back, so everything is written.
    fs::write(bench.path("flash"), fresh).unwrap();
    fs::write(&journal, record).unwrap();
    let all = bench.ok(&arguments);
    assert_eq!(all["memories"][0]["pages_erased"], 3);
    assert_eq!(bench.read("0", "0x08020000:300000"), image);
    // And a journal for another file is refused.
    fs::write(&journal, record).unwrap();
    let (code, message) =
        bench.fails(&["download", &two, "-a", "0", "-s", "0x08020000", "--journal", &journal]);
    assert!(code == 65 && message.contains("another file"), "{message}");
}

#[test]
fn the_copy_of_a_kept_page_is_gone_when_the_page_is_complete() {
    let bench = Bench::new();
    let file = bench.file("image", &pattern(1000));
    let journal = bench.path("journal").to_str().unwrap().to_owned();
    let arguments =
        ["download", &file, "-a", "0", "-s", "0x080A1000", "--keep-partial-pages", "--journal", &journal];
    bench.ok(&arguments);
    let left: Vec<_> =
        fs::read_dir(bench.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "image" || name == "flash"), "{left:?}");
    // A folder where nothing can be saved: then the page is not erased either.
    let before = bench.flash();
    let nowhere = bench.path("missing/journal").to_str().unwrap().to_owned();
    let second = bench.file("second", &[7; 1000]);
    let (code, message) = bench.fails(&[
        "download",
        &second,
        "-a",
        "0",
        "-s",
        "0x080A1000",
        "--keep-partial-pages",
        "--journal",
        &nowhere,
    ]);
    assert!(code == 74 && message.contains("cannot write"), "{message}");
    assert!(bench.flash() == before);
}

#[test]
fn output_is_never_overwritten_and_standard_streams_work() {
    let bench = Bench::new();
    let image = pattern(5000);
    let mut child = bench
        .command(&["download", "-D", "-", "-a", "0", "-s", "0x080A0000"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&image).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    let output = bench.run(&["upload", "-", "-a", "0", "-s", "0x080A0000:5000"]);
    assert!(output.status.success() && output.stdout == image);
    let existing = bench.file("existing", b"precious");
    assert_eq!(bench.fails(&["upload", &existing, "-a", "0", "-s", "0x080A0000:5000"]).0, 73);
    assert_eq!(fs::read(existing).unwrap(), b"precious");
}

#[test]
fn commands_need_force_where_they_destroy_and_say_when_a_device_does_not_know_them() {
    let bench = Bench::new();
    assert_eq!(bench.fails(&["command", "-a", "0", "-s", ":mass-erase"]).0, 64);
    assert_eq!(bench.fails(&["command", "-a", "0", "-s", "0"]).0, 64);
    let (code, message) = bench.fails(&["command", "-a", "0", "-s", ":unprotect:force"]);
    assert!(code == 64 && message.contains("does not list the command"), "{message}");
    let (code, message) = bench.fails(&["command", "-a", "0", "-s", ":mass-erase:force"]);
    assert!(code == 76 && message.contains("do not know this command"), "{message}");
    assert_eq!(bench.ok(&["command", "-a", "0", "-s", "0x080A0000:leave"])["leave"], "answered");
    assert_eq!(bench.ok(&["detach"])["already_in_dfu_mode"], true);
}

#[test]
fn a_file_that_is_no_flash_is_not_used_as_one() {
    let bench = Bench::new();
    let wrong = bench.file("flash", b"short");
    let (code, message) = bench.fails(&["upload", "new", "-a", "0", "-s", "0x080A0000:5000"]);
    assert!(code == 65 && message.contains(&wrong), "{message}");
    assert_eq!(fs::read(wrong).unwrap(), b"short");
}
