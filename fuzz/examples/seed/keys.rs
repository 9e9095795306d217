//! Seeds of spark-keys.

use super::{put, root};
use std::error::Error;
use std::fs;

pub(crate) fn keys() -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(root().join("keys/tests/vectors"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".json") || name.ends_with(".md") {
            continue;
        }
        let data = fs::read(&path)?;
        let is_field = name.starts_with("bad_") || name.starts_with("field") || name.starts_with("devgen");
        if is_field || name.contains("rsa1024_60") {
            put("keys_check", &name, &data)?;
        }
        if !is_field {
            put("keys_load", &name, &data)?;
        }
        if name.contains("ec_") || name.contains("server") && name.ends_with("der") {
            put("keys_ec", &name, &data)?;
        }
        if name.starts_with("bad_") && data.len() > 300 || name.contains("short_") {
            put("keys_repair", &name, &[&[0][..], &data].concat())?;
        }
    }
    let cache = fs::read(root().join("keys/tests/vectors/ec_p256.spki.der"))?;
    put("keys_ec", "cache_right_aligned", &[&[0; 37][..], &cache].concat())?;
    // places of d, of the end of p, of the modulus, of dp and qinv, of all headers
    for (name, edits) in [
        ("d", &[0_u8, 160, 1, 9][..]),
        ("p", &[1, 60, 1, 1]),
        ("modulus", &[0, 50, 2, 1, 1]),
        ("modulus_and_p", &[0, 50, 1, 8, 1, 40, 1, 8]),
        ("dp_and_qinv", &[1, 170, 1, 8, 2, 40, 1, 8]),
        ("headers", &[0, 0, 11, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 144, 3, 2, 2, 2]),
    ] {
        for key in 1..=3_u8 {
            put("keys_repair", &format!("{name}_{key}"), &[&[key][..], edits].concat())?;
        }
    }
    Ok(())
}
