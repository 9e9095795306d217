//! What binary-version-reader has made of our modules.

use serde_json::Value;
use spark_ota::module::bundle::{Bundle, BundleFile, Limits};
use spark_ota::module::{Asset, Module, Modules, decompress, separate};
use std::error::Error;
use std::fs;
use std::path::Path;

const LIMIT: usize = 1 << 20;

/// Reads `theirs.jsonl` and fails with the first file that is not what it should be.
pub fn judge(folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut count = 0;
    for line in fs::read_to_string(folder.join("theirs.jsonl"))?.lines() {
        let line: Value = serde_json::from_str(line)?;
        one(folder, &line).map_err(|error| format!("{line}: {error}"))?;
        count += 1;
    }
    println!("{count} files of binary-version-reader are what they should be");
    Ok(())
}

fn one(folder: &Path, line: &Value) -> Result<(), Box<dyn Error>> {
    let read = |name: &Value| fs::read(folder.join(name.as_str().unwrap_or_default()));
    let file = read(&line["file"])?;
    match line["kind"].as_str() {
        Some("compressed") => {
            let module = Module::parse(&file)?;
            equal(&decompress(&module, LIMIT)?, &read(&line["original"])?)
        }
        Some("combined") => {
            let mut modules = Modules::of(&file);
            for part in line["parts"].as_array().ok_or("no parts")? {
                let placed = modules.next().ok_or("a part is missing")??;
                equal(&separate(&placed.module)?, &read(part)?)?;
            }
            if modules.next().is_some() {
                Err("one part more".into())
            } else {
                equal(modules.trailing(), &[])
            }
        }
        Some("asset") => {
            let module = Module::parse(&file)?;
            let asset = Asset::new(&module)?;
            let content = asset.unwrap_content(LIMIT)?;
            if !asset.is_content(&content)
                || asset.name() != line["name"].as_str().unwrap_or_default().as_bytes()
            {
                return Err("another name or hash".into());
            }
            equal(&content, &read(&line["content"])?)
        }
        Some("bundle") => {
            let bundle = Bundle::read(&file, Limits::DEFAULT)?;
            bundle.check()?;
            // With the same assets, ours has the same application, byte by byte.
            let assets: Vec<BundleFile> = bundle.assets().to_vec();
            let ours = Bundle::new(&bundle.application().name, &read(&line["bare"])?, assets)?;
            equal(&ours.application().content, &bundle.application().content)
        }
        _ => Err("an unknown kind".into()),
    }
}

fn equal(found: &[u8], expected: &[u8]) -> Result<(), Box<dyn Error>> {
    if found == expected {
        return Ok(());
    }
    let at = found.iter().zip(expected).position(|(found, expected)| found != expected);
    Err(format!("{} bytes, not the {} expected ones; first difference: {at:?}", found.len(), expected.len())
        .into())
}
