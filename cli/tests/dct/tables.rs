//! Vector files and shown values, for the tests of `spark dct`.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code, each file uses its part of it"
)]

use crate::bench::{self, Bench};
use serde_json::Value;

/// A file of the table's vectors, or of another crate: `keys/NAME`.
pub fn vector(name: &str) -> Vec<u8> {
    let (krate, name) = name.split_once('/').unwrap_or(("dct", name));
    bench::vector(krate, name)
}

/// Puts a vector file into the folder.
pub trait Vectors {
    fn vector(&self, name: &str);
}

impl Vectors for Bench {
    fn vector(&self, name: &str) {
        self.put(name, vector(name));
    }
}

/// A value that was shown as JSON.
pub fn value<'v>(shown: &'v Value, name: &str) -> &'v Value {
    let entries = shown["entries"].as_array().unwrap();
    &entries.iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("no {name}"))["value"]
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
