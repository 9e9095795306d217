//! Writes the first corpus from the vectors of the crates' tests: `cargo run --no-default-features --example seed`.
//!
//! Files are named after their vector. Fuzzing adds others; this program never deletes any.

mod coap;
mod dct;
mod dfu;
mod keys;
mod ota;
mod ota_serial;
mod ota_sonoff;

use serde_json::Value;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn json(path: &str) -> Result<Value, Box<dyn Error>> {
    Ok(serde_json::from_slice(&fs::read(root().join(path))?)?)
}

fn bytes(value: &Value) -> Vec<u8> {
    value.as_str().and_then(|text| hex::decode(text).ok()).unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], |list| list)
}

fn put(target: &str, name: &str, data: &[u8]) -> Result<(), Box<dyn Error>> {
    let folder = root().join("fuzz/corpus").join(target);
    fs::create_dir_all(&folder)?;
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    Ok(fs::write(folder.join(name), data)?)
}

/// A length byte and the bytes, cut to 255.
fn block(data: &[u8]) -> Vec<u8> {
    let data = &data[..data.len().min(255)];
    [&[data.len() as u8], data].concat()
}

fn main() -> Result<(), Box<dyn Error>> {
    dfu::dfu()?;
    dfu::dfu_files()?;
    dct::dct()?;
    keys::keys()?;
    coap::coap()?;
    coap::coap_diagnosis()?;
    coap::coap_udp()?;
    coap::coap_sessions()?;
    ota::ota()?;
    ota_serial::ota_serial()?;
    ota_sonoff::ota_sonoff()
}
