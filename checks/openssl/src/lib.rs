//! Runs the `openssl` program on keys in memory.
//!
//! The tests convert keys both ways: what spark-keys writes is read by OpenSSL, and what OpenSSL writes by spark-keys.
//! `tests/program.rs` uses the program as a user does, `tests/many_keys.rs` the library, for thousands of keys.

use std::process::Command;

/// Runs `openssl` in an empty folder with `files` in it; gives what it wrote to the file `out`, or to the terminal.
///
/// # Panics
/// When the program is missing or fails; with what it said.
#[must_use]
pub fn openssl(arguments: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let (succeeded, output, said) = try_openssl(arguments, files);
    assert!(succeeded, "openssl {arguments}: {said}");
    output
}

/// As [`openssl`], with whether it succeeded and what it said on its error output.
///
/// # Panics
/// When the program cannot be started.
#[must_use]
pub fn try_openssl(arguments: &str, files: &[(&str, &[u8])]) -> (bool, Vec<u8>, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).expect("a writable folder");
    }
    let run = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder.path())
        .output()
        .expect("the openssl program");
    let written = std::fs::read(folder.path().join("out")).unwrap_or(run.stdout);
    (run.status.success(), written, String::from_utf8_lossy(&run.stderr).into_owned())
}
