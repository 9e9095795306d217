//! The load in small, so that it cannot rot. It needs the program `spark` beside it, which the tests of `spark-cli` build.
#![allow(clippy::unwrap_used, clippy::std_instead_of_core, reason = "test code")]

use std::process::Command;

#[test]
#[ignore = "needs the program spark in the same folder"]
fn hundred_devices_lose_nothing() {
    let load = Command::new(env!("CARGO_BIN_EXE_cloud_load"))
        .args(["--devices", "100", "--seconds", "1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&load.stdout);
    assert!(load.status.success(), "{said}\n{}", String::from_utf8_lossy(&load.stderr));
    assert!(said.contains("100"), "{said}");
}
