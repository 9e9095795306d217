//! What people do with dfu-util, against every kind of device.

mod common;

use common::{Bench, pattern};

const DFUSE: [&str; 4] = ["photon", "photon-0.5.3", "strict", "tolerant"];

#[test]
fn list_shows_every_device() {
    for (device, lines, text) in [
        ("none", 0, ""),
        ("photon", 2, "Found DFU: [2b04:d006] ver=0250"),
        ("dfu-1.0", 1, "name=\"Firmware\", serial=\"12345\""),
        ("runtime", 1, "Found Runtime: [2b04:c0de]"),
    ] {
        let Some(bench) = Bench::new(device) else { return };
        let run = bench.succeed(&["-l"]);
        assert_eq!(run.stdout.matches("Found ").count(), lines, "{device}: {}", run.stdout);
        assert!(run.stdout.contains(text), "{device}: {}", run.stdout);
    }
}

#[test]
fn a_device_key_is_written_and_read_back() {
    for device in DFUSE {
        let Some(bench) = Bench::new(device) else { return };
        let key = pattern(31, 7, 612);
        bench.put("key.der", &key);
        bench.succeed(&["-d", "2b04:d006", "-a", "1", "-s", "34", "-D", "key.der"]);
        bench.succeed(&["-d", "2b04:d006", "-a", "1", "-s", "34:612", "-U", "back.der"]);
        assert_eq!(bench.get("back.der"), key, "{device}");
        let mut expected = pattern(7, 3, 16384);
        expected[34..646].copy_from_slice(&key);
        assert_eq!(bench.memory("dct.bin"), expected, "{device}: neighbours survive");
    }
}

#[test]
fn an_image_of_300000_bytes_is_flashed_started_and_read_back() {
    for device in DFUSE {
        let Some(bench) = Bench::new(device) else { return };
        let image = pattern(13, 5, 300_000);
        bench.put("app.bin", &image);
        let run = bench.succeed(&["-a", "0", "-s", "0x080A0000:leave", "-D", "app.bin"]);
        assert!(run.stdout.contains("File downloaded successfully"), "{run:#?}");
        // A Photon answers dfuDNLOAD-IDLE and leaves half a second later; the others are waited for.
        let last = bench.log().last().cloned().unwrap_or_default();
        let answered = last["in"].as_str().is_some_and(|reply| reply.ends_with("0500"));
        assert!(answered || bench.logged("detached", ""), "{device}: {last}");
        bench.succeed(&["-a", "0", "-s", "0x080A0000:300000", "-U", "back.bin"]);
        assert_eq!(bench.get("back.bin"), image, "{device}");
        // The two whole sectors and the third are erased behind the image, nothing else is touched.
        let flash = bench.memory("flash.bin");
        assert!(flash[0xA_0000 + 300_000..0x10_0000].iter().all(|byte| *byte == 0xFF), "{device}");
        let fresh = |i: usize| 0xA5 ^ i.to_le_bytes()[0] ^ (i >> 8).to_le_bytes()[0];
        assert!(flash[..0xA_0000].iter().enumerate().all(|(i, byte)| *byte == fresh(i)), "{device}");
    }
}

#[test]
fn mass_erase_and_read_unprotect_where_the_device_has_them() {
    for device in ["strict", "tolerant"] {
        let Some(bench) = Bench::new(device) else { return };
        bench.succeed(&["-a", "0", "-s", ":mass-erase:force"]);
        assert!(bench.memory("flash.bin")[0x2_0000..].iter().all(|byte| *byte == 0xFF), "{device}");
        assert!(bench.logged("sleep", "12000"), "{device}: the announced time is waited for");
        bench.put("key.der", &[1; 612]);
        bench.succeed(&["-a", "1", "-s", "34", "-D", "key.der"]);
        let run = bench.run(&["-a", "0", "-s", ":unprotect:force"]);
        assert_eq!(run.code, 0, "{device}: {run:#?}");
        assert!(run.stdout.contains("Device disconnects, erases flash and resets now"), "{run:#?}");
        assert!(bench.logged("work", "ReadUnprotect"), "{device}");
        assert!(bench.logged("attached", "dfu"), "{device}: it comes back in DFU mode");
    }
    let Some(bench) = Bench::new("photon") else { return };
    let run = bench.run(&["-a", "0", "-s", ":mass-erase:force"]);
    assert_ne!(run.code, 0, "a Photon stalls it: {run:#?}");
}

#[test]
fn addresses_outside_the_map_are_refused_without_a_transfer() {
    for device in DFUSE {
        let Some(bench) = Bench::new(device) else { return };
        bench.put("app.bin", &[1; 16]);
        let run = bench.run(&["-a", "0", "-s", "0x08000000", "-D", "app.bin"]);
        assert_eq!(run.code, 64, "{device}: {run:#?}");
        assert!(run.stderr.contains("is not writeable"), "{device}: {run:#?}");
        assert!(!bench.logged("work", ""), "{device}");
    }
}

#[test]
fn what_dfu_util_forces_the_strict_device_refuses_with_its_own_status() {
    for device in ["strict", "tolerant"] {
        let Some(bench) = Bench::new(device) else { return };
        bench.put("app.bin", &[1; 16]);
        let run = bench.run(&["-a", "0", "-s", "0x08000000:force", "-D", "app.bin"]);
        assert_ne!(run.code, 0, "{device}: {run:#?}");
        assert!(run.stdout.contains("dfuERROR") || run.stderr.contains("dfuERROR"), "{device}: {run:#?}");
        assert!(!bench.logged("work", ""), "{device}");
    }
}

#[test]
fn a_run_time_device_is_detached_and_updated() {
    // The first is not manifestation tolerant: dfu-util resets it by itself, and -R would find nobody (exit code 251).
    for (device, and) in [("runtime", "-v"), ("runtime-detaches", "-R")] {
        let Some(bench) = Bench::new(device) else { return };
        let image = pattern(5, 9, 50_000);
        bench.put("app.bin", &image);
        let run = bench.succeed(&["-E", "1", "-d", "2b04:c0de,2b04:d0df", "-D", "app.bin", and]);
        assert!(run.stdout.contains("Device really in Run-Time Mode, send DFU detach request"), "{run:#?}");
        assert_eq!(bench.memory("image.bin")[..50_000], image, "{device}");
        assert!(bench.logged("work", "Manifest { alternate: 0, len: 50000 }"), "{device}");
        // It was reset and is an application again.
        assert!(bench.succeed(&["-l"]).stdout.contains("Found Runtime: [2b04:c0de]"), "{device}");
        // -e: only into DFU mode, where it stays; then read it.
        bench.succeed(&["-e", "-d", "2b04:c0de,2b04:d0df"]);
        assert!(bench.succeed(&["-l"]).stdout.contains("Found DFU: [2b04:d0df]"), "{device}");
        bench.succeed(&["-d", ",2b04:d0df", "-U", "back.bin"]);
        assert_eq!(bench.get("back.bin")[..50_000], image, "{device}");
        assert_eq!(bench.get("back.bin").len(), 100_000, "{device}: a short frame ends it");
    }
}

#[test]
fn dfu_1_0_is_written_and_read() {
    let Some(bench) = Bench::new("dfu-1.0") else { return };
    let image = pattern(3, 1, 10_240);
    bench.put("app.bin", &image);
    let run = bench.succeed(&["-D", "app.bin"]);
    assert!(run.stdout.contains("DFU mode device DFU version 0100"), "{run:#?}");
    bench.succeed(&["-U", "back.bin"]);
    assert_eq!(bench.get("back.bin")[..10_240], image);
}

#[test]
fn a_dfuse_file_fills_two_alternates() {
    let Some(bench) = Bench::new("st-0.5.3") else { return };
    let path = common::vectors().join("dfuse/two_targets.dfu");
    let run = bench.succeed(&["-D", path.to_str().unwrap_or_default()]);
    assert!(run.stdout.contains("File contains 2 DFU images"), "{run:#?}");
    let log = bench.log();
    let selected: Vec<_> = log.iter().filter(|line| line["setup"].to_string().contains("010b0")).collect();
    assert!(selected.len() >= 2, "both alternates are selected");
    assert_ne!(bench.memory("dct.bin"), pattern(7, 3, 16384));
}
