//! What the output of `spark dct` may be, and dry runs.

use crate::bench::Bench;
use crate::tables::Vectors;

/// A rename takes the place of whatever is there.
#[cfg(unix)]
#[test]
fn output_takes_the_place_of_files_only() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let bench = Bench::new("dct");
    bench.vector("app_v2.3.1.bin");
    let set = |out: &str| bench.plain(&["set", "-f", "app_v2.3.1.bin", "-o", out, "claimed=true", "--force"]);
    assert!(std::process::Command::new("mkfifo").arg(bench.path("pipe")).status().unwrap().success());
    symlink("nowhere", bench.path("dangling")).unwrap();
    for out in ["pipe", "dangling"] {
        let (code, _, message) = set(out);
        assert!(code == 73 && message.contains(out), "{message}");
    }
    let build = ["build", "-o", "dangling", "claimed=true"];
    assert_eq!(bench.fails(&build).0, 73);
    assert!(bench.path("pipe").symlink_metadata().unwrap().file_type().is_fifo());
    assert!(bench.path("dangling").is_symlink() && !bench.path("nowhere").exists());
    bench.put("file", b"old");
    symlink("file", bench.path("link")).unwrap();
    assert_eq!(set("link").0, 0);
    assert!(bench.path("link").is_symlink() && bench.read("file").len() == 8391);
}

/// A dry run refuses what the real one refuses, with the same words.
#[cfg(unix)]
#[test]
fn dry_run_tells_where_nothing_can_be_written() {
    use std::os::unix::fs::symlink;
    let bench = Bench::new("dct");
    bench.vector("app_v2.3.1.bin");
    bench.vector("photon_4_new_second.bin");
    assert!(std::process::Command::new("mkfifo").arg(bench.path("pipe")).status().unwrap().success());
    symlink("nowhere", bench.path("dangling")).unwrap();
    symlink("pipe", bench.path("to-pipe")).unwrap();
    std::fs::create_dir(bench.path("folder")).unwrap();
    bench.put("file", b"old");
    let entries = || {
        let names = std::fs::read_dir(bench.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let before = entries();
    let both = |arguments: &[&str]| {
        let (code, _, message) = bench.plain(&[arguments, &["--dry-run"]].concat());
        assert_eq!(entries(), before, "{arguments:?}");
        let (real, _, said) = bench.plain(arguments);
        assert_eq!((code, &message), (real, &said), "{arguments:?}");
        assert_ne!(code, 0, "{arguments:?}");
        (code, message)
    };
    for (out, expected) in [
        ("pipe", 73),
        ("dangling", 73),
        ("to-pipe", 73),
        ("folder", 73),
        ("missing/out", 74),
        ("file/out", 74),
    ] {
        let (code, message) = both(&["set", "-f", "app_v2.3.1.bin", "-o", out, "claimed=true", "--force"]);
        assert!(code == expected && message.contains(out), "{code} {message}");
        both(&["recover", "photon_4_new_second.bin", "-o", out]);
        both(&["recover", "photon_4_new_second.bin", "--app", out]);
    }
    assert_eq!(both(&["set", "-f", "app_v2.3.1.bin", "-o", "file", "claimed=true"]).0, 73);
    // Where all is well, nothing is left behind.
    bench.ok(&["set", "-f", "app_v2.3.1.bin", "-o", "file", "claimed=true", "--force", "--dry-run"]);
    bench.ok(&["set", "-f", "app_v2.3.1.bin", "-o", "new", "claimed=true", "--dry-run"]);
    assert!(entries() == before && bench.read("file") == b"old");
}

#[cfg(unix)]
#[test]
fn dry_run_on_a_device_tells_when_nothing_can_be_kept() {
    let bench = Bench::new("dct");
    bench.device(&["set", "claimed=true"]);
    bench.put("file", b"");
    let set = ["set", "claimed=false", "--backup"];
    let flash = bench.read("flash");
    std::os::unix::fs::symlink("nowhere", bench.path("dangling")).unwrap();
    for folder in ["file", "file/kept", "dangling", "dangling/kept"] {
        let arguments = [&set[..], &[folder]].concat();
        let dry = bench.device_fails(&[&arguments[..], &["--dry-run"]].concat());
        assert!(dry.0 == 74 && dry.1.contains(folder), "{dry:?}");
        assert_eq!(dry, bench.device_fails(&arguments));
    }
    bench.device(&[&set[..], &["new/kept", "--dry-run"]].concat());
    assert!(!bench.path("new").exists() && bench.read("flash") == flash);
}
