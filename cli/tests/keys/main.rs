//! `spark keys` as a user runs it, on files and on the simulated Photon.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

mod agree;
#[path = "../common/bench.rs"]
mod bench;
mod check;
mod convert;
mod doctor;
mod files;
mod repair;
mod server;

use bench::{Bench, ID};
use serde_json::Value;
use spark_cli::cloud::folder::Folder;

/// Puts a vector file into the folder.
trait Vectors {
    fn vector(&self, name: &str);
    /// Makes the data folder of a cloud.
    fn cloud(&self, name: &str);
    /// Opens it.
    fn open(&self, name: &str) -> Folder;
    /// The device's recorded key and the one that is being written into it.
    fn recorded(&self, name: &str) -> (Option<Vec<u8>>, Option<Vec<u8>>);
    /// Damages a device that may not have been there yet.
    fn damage_device(&self, offset: usize, bytes: &[u8]);
}

impl Vectors for Bench {
    fn vector(&self, name: &str) {
        self.put(name, vector(name));
    }

    fn cloud(&self, name: &str) {
        Folder::open(&self.path(name), &mut rand::rng()).unwrap();
    }

    fn open(&self, name: &str) -> Folder {
        Folder::open_existing(&self.path(name)).unwrap()
    }

    fn recorded(&self, name: &str) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let (folder, id) = (self.open(name), ID.parse().unwrap());
        let spki = |key: Option<(rsa::RsaPublicKey, Vec<u8>)>| key.map(|(_, spki)| spki);
        (spki(folder.device_key(id).unwrap()), spki(folder.next_key(id).unwrap()))
    }

    fn damage_device(&self, offset: usize, bytes: &[u8]) {
        self.device(&["address"]);
        self.damage(offset, bytes);
    }
}

fn vector(name: &str) -> Vec<u8> {
    bench::vector("keys", name)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn codes(examined: &Value) -> Vec<&str> {
    examined["findings"].as_array().unwrap().iter().map(|finding| text(&finding["code"])).collect()
}
