//! The files of the command line as modules.

use crate::exit::{Code, Failure, chain};
use crate::files;
use crate::ui::Ui;
use spark_ota::module::bundle::{self, Bundle, Limits};
use spark_ota::module::{Flags, Module, decompress};
use std::path::{Path, PathBuf};

/// No module is longer, nor becomes so when it is inflated.
const LIMIT: usize = 16 << 20;

/// A file, unpacked.
pub(super) struct Input {
    pub(super) name: String,
    pub(super) content: Vec<u8>,
}

/// Reads and unpacks files. `force` leaves the assets of a bundle out.
pub(super) fn read(paths: &[PathBuf], force: bool, ui: &Ui) -> Result<Vec<Input>, Failure> {
    paths.iter().map(|path| one(path, force, ui)).collect()
}

fn one(path: &Path, force: bool, ui: &Ui) -> Result<Input, Failure> {
    let name = path.display().to_string();
    let bad = |error: &dyn core::error::Error| {
        Failure::new(
            Code::Data,
            format_args!("{name}: {}", chain(error)),
            "nothing was written; `spark inspect` shows what the file is",
        )
    };
    let mut content = files::read_up_to(path, LIMIT as u64)?;
    if bundle::is_archive(&content) {
        let bundle = Bundle::read(&content, Limits::DEFAULT).map_err(|error| bad(&error))?;
        bundle.check().map_err(|error| bad(&error))?;
        if !bundle.assets().is_empty() && !force {
            return Err(Failure::new(
                Code::Data,
                format_args!("{name}: the bundle has assets, and only modules can be flashed"),
                "nothing was written; give --force for the application alone",
            ));
        }
        content.clone_from(&bundle.application().content);
    }
    // Nothing unpacks it where it is written to.
    if let Ok(module) = Module::parse(&content)
        && module.crc_ok()
        && module.prefix().flags.contains(Flags::COMPRESSED)
        && !module.prefix().flags.contains(Flags::COMBINED)
    {
        let original = decompress(&module, LIMIT).map_err(|error| bad(&error))?;
        ui.note(format_args!("{name}: {} bytes inflated to {}", content.len(), original.len()));
        content = original;
    }
    Ok(Input { name, content })
}
