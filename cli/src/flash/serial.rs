//! Over a serial port: one module to a device in listening mode.

use super::input::Input;
use crate::cloud::catalogue::ModuleFile;
use crate::exit::{Code, Failure};
use crate::serial::flash::{Options, flash};
use crate::ui::{Ui, print};

/// Flashes the only file.
pub(super) fn run(
    port: Option<&str>,
    (dry_run, force): (bool, bool),
    files: &[Input],
    json: bool,
) -> Result<(), Failure> {
    let [file] = files else {
        return Err(Failure::new(
            Code::Usage,
            format_args!("{} files: a device takes one over its serial port and restarts", files.len()),
            "give one file, bring the device into listening mode again, then the next",
        ));
    };
    let file = ModuleFile::only(&file.name, &file.content)?;
    let report = flash(&file, &Options { dry_run, force, ..Options::new(port) }, &Ui::new(json))?;
    if json { print(serde_json::to_string(&report).unwrap_or_default()) } else { Ok(()) }
}
