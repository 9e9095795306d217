//! The programs together, from outside: `spark cloud serve`, devices of `spark device`, and whoever uses the HTTP interface.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

mod keys;
mod kills;
mod owner;
mod programs;
mod updates;

use programs::{Cloud, Program};
use serde_json::Value;
use spark_cli::cloud::catalogue::ModuleFile;
use spark_ota::module::{Dependency, ModuleBuilder, ModuleFunction};
use std::collections::BTreeSet;
use std::io::{Cursor, Write};

/// `wanted` for a line of this event and device.
fn is(line: &Value, event: &str, device: &str) -> bool {
    line["event"] == event && line["device"] == device
}

fn wait_online(cloud: &Cloud, mark: usize, device: &str) {
    cloud.program.wait_since(mark, "the device is online and has described itself", |line| {
        is(line, "described", device).then_some(())
    });
}

/// All that `happening` said of different devices.
fn wait_all(devices: &Program, mark: usize, what: &str, count: usize, wanted: impl Fn(&Value) -> bool) {
    let mut seen = BTreeSet::new();
    devices.wait_since(mark, what, |line| {
        if wanted(line) {
            seen.insert(line["device_id"].as_str().unwrap().to_owned());
        }
        (seen.len() == count).then_some(())
    });
}
fn bundle(files: &[&ModuleFile]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for file in files {
        archive
            .start_file(format!("firmware/{}", file.name), zip::write::SimpleFileOptions::default())
            .unwrap();
        archive.write_all(&file.image).unwrap();
    }
    archive.start_file("README.txt", zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(b"two modules").unwrap();
    archive.finish().unwrap().into_inner()
}

/// An application that is like no other: its bytes depend on `number`.
fn application(number: u32, size: usize) -> Vec<u8> {
    let builder = ModuleBuilder::new(6, ModuleFunction::User, 1, 6)
        .depends_on([Dependency::system(2, 207), Dependency::NONE]);
    let body: Vec<u8> = (0_u32..)
        .take(builder.body_len(size).unwrap())
        .map(|at| (at.wrapping_mul(2_654_435_761) ^ number.wrapping_mul(40_503)).to_be_bytes()[1])
        .collect();
    builder.body(&body).build().unwrap()
}
