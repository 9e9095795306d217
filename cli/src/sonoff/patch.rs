//! `spark sonoff patch`.

use super::LIMIT;
use crate::exit::{Code, Failure, chain};
use crate::files;
use crate::ui;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use core::fmt;
use core::str::FromStr;
use serde_json::json;
use spark_ota::esp8266::{
    FlashFrequency, FlashMode, FlashParameters, FlashSize, ImageFile, Patch, PatchError,
};
use std::path::{Path, PathBuf};

/// Change how an image has the chip read its flash, without building it anew.
///
/// A board that is not wired for the mode does not start; `dout` needs the fewest lines. Headers and CRC are put right, nothing else
/// changes; the new digest is the one for the device. A damaged image is refused.
#[derive(clap::Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("what").args(["mode", "size", "freq"]).multiple(true).required(true))]
pub struct Args {
    /// The image.
    image: PathBuf,
    /// Lines that the flash is read over.
    #[arg(long, value_parser = named::<FlashMode>(FlashMode::NAMES), ignore_case = true)]
    mode: Option<FlashMode>,
    /// Size of the flash.
    #[arg(long, value_parser = named::<FlashSize>(FlashSize::NAMES), ignore_case = true)]
    size: Option<FlashSize>,
    /// Clock of the flash.
    #[arg(long, value_parser = named::<FlashFrequency>(FlashFrequency::NAMES), ignore_case = true)]
    freq: Option<FlashFrequency>,
    /// The new file; without it, IMAGE with what is set in its name, such as user1-dout.bin.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the new file, which may be IMAGE itself.
    #[arg(long)]
    force: bool,
    /// Print the result as JSON on standard output, and nothing else.
    #[arg(long)]
    json: bool,
}

fn named<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: core::error::Error + Send + Sync + 'static> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse())
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let patch = Patch { mode: args.mode, size: args.size, frequency: args.freq };
    let output = args.output.clone().unwrap_or_else(|| beside(&args.image, &patch));
    let exists = || {
        Failure::new(
            Code::CantCreate,
            format_args!("{} exists already", output.display()),
            "choose another name with -o, or overwrite it with --force",
        )
    };
    let mut content = files::read_up_to(&args.image, LIMIT)?;
    if output.exists() && !args.force {
        return Err(exists());
    }
    let patched = patch.apply(&mut content).map_err(|error| refusal(&args.image, &error))?;
    // What is written is read again first.
    if ImageFile::parse(&content).map(|image| image.parameters()) != Ok(patched.after) {
        return Err(Failure::new(
            Code::Software,
            "the patched image reads otherwise",
            "report this as a fault of the program",
        ));
    }
    if args.force {
        files::write_atomically(&output, &content)?;
    } else if !files::write_if_new(&output, &content)? {
        return Err(exists());
    }
    let changes: Vec<_> = patched.changes().collect();
    if args.json {
        let changes: Vec<_> = changes
            .iter()
            .map(|change| json!({ "offset": change.offset, "before": change.before, "after": change.after }))
            .collect();
        let crc = patched.crc.map(|(before, after)| json!({ "before": before, "after": after }));
        return ui::print(json!({
            "file": args.image, "output": output, "before": parameters(patched.before), "after": parameters(patched.after),
            "changes": changes, "crc": crc, "size": content.len(), "sha256": patched.sha256.as_str(),
        }));
    }
    let (before, after, bytes) = (patched.before, patched.after, changes.len());
    ui::print(format_args!("{}: {before} is now {after}, {bytes} bytes changed", output.display()))?;
    for change in &changes {
        ui::print(format_args!(
            "  byte {}: {:02x} is now {:02x}",
            change.offset, change.before, change.after
        ))?;
    }
    ui::print(format_args!("  size      {} bytes\n  sha256    {}", content.len(), patched.sha256))
}

fn parameters(parameters: FlashParameters) -> serde_json::Value {
    let FlashParameters { mode, size, frequency, .. } = parameters;
    json!({ "flash_mode": mode.name(), "flash_size": size.name(), "flash_freq": frequency.name() })
}

/// `folder/user1.bin` as `folder/user1-dout-1MB.bin`.
fn beside(image: &Path, patch: &Patch) -> PathBuf {
    let mut name = image.file_stem().unwrap_or(image.as_os_str()).to_owned();
    let parts = [
        patch.mode.and_then(FlashMode::name),
        patch.size.and_then(FlashSize::name),
        patch.frequency.and_then(FlashFrequency::name),
    ];
    for part in parts.into_iter().flatten() {
        name.push("-");
        name.push(part);
    }
    if let Some(extension) = image.extension() {
        name.push(".");
        name.push(extension);
    }
    image.with_file_name(name)
}

fn refusal(image: &Path, error: &PatchError) -> Failure {
    let next: &dyn fmt::Display = match error {
        PatchError::Image(_) => {
            &"give the file that a device is to download; `spark inspect` says what a file is"
        }
        PatchError::Damaged(_) => &"get it again; `spark sonoff check` says all that is wrong with it",
        _ => &"choose other parameters",
    };
    Failure::new(Code::Data, format_args!("{}: {}", image.display(), chain(error)), next)
}
