//! `spark dct show` and `spark dct get`.

use super::image::{Container, Firmware, Reader, Table, Which};
use super::value::{entry, is_hidden, is_there, oddities, text, to_json};
use crate::dfu::DeviceOptions;
use crate::exit::{Code, Failure};
use crate::files;
use crate::ui;
use serde_json::{Value, json};
use spark_dct::Entry;
use std::path::PathBuf;

/// Show the table of a device or a dump: every field with its value, secrets hidden.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// An application section, both sectors, or the whole flash (- is standard input); without it the device is read.
    file: Option<PathBuf>,
    /// Show fields without a value as well.
    #[arg(long)]
    all: bool,
    /// Show private keys, passwords and claim codes.
    #[arg(long)]
    secrets: bool,
    /// With both sectors: the release of the firmware that reads them; by default the one whose marks are there.
    #[arg(long, value_name = "VERSION")]
    firmware: Option<Firmware>,
    /// With both sectors: the device that reads them; by default the one whose marks are there.
    #[arg(long, value_name = "DEVICE")]
    platform: Option<Container>,
    /// With both sectors: this one, whichever is current.
    #[arg(long)]
    sector: Option<Which>,
    #[command(flatten)]
    device: DeviceOptions,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let reader = Reader { firmware: args.firmware, platform: args.platform };
    let table = Table::load(args.file.as_deref(), reader, args.sector, &args.device)?;
    let app = table.view()?;
    let shown = Entry::leaves().map(|entry| app.value(entry)).filter(|value| {
        // Gaps are worth a line only if something is in them.
        args.all || value.is_set() && !(value.entry().field().is_gap() && is_padding(*value))
    });
    if args.device.json() {
        let entries: Vec<Value> = shown.map(|value| to_json(app, value.entry(), args.secrets)).collect();
        return ui::print(json!({ "table": table.to_json(), "entries": entries }));
    }
    ui::print(&table)?;
    for value in shown {
        let name = value.entry().to_string();
        let text = short(text(app, value.entry(), args.secrets), value.entry().len());
        ui::print(format_args!("{:>5}  {name:<36} {text}", value.entry().offset()))?;
        for oddity in oddities(app, value.entry()) {
            ui::print(format_args!("       {:<36} ({oddity})", ""))?;
        }
    }
    Ok(())
}

/// Long keys and certificates would hide everything else; `get` prints them.
fn short(text: String, len: usize) -> String {
    const LONGEST: usize = 72;
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}... ({len} bytes)", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

fn is_padding(value: spark_dct::value::Value<'_>) -> bool {
    use spark_dct::value::Content;
    match value.content() {
        Content::Bytes(bytes) | Content::Raw(bytes) => bytes.iter().all(|byte| *byte == 0),
        _ => false,
    }
}

/// Print values of a device or a dump, one a line.
#[derive(clap::Args, Clone, Debug)]
pub struct GetArgs {
    /// Names as `show --all` lists them.
    #[arg(required = true)]
    names: Vec<String>,
    /// An application section, both sectors, or the whole flash (- is standard input); without it the device is read.
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// Show private keys, passwords and claim codes.
    #[arg(long)]
    secrets: bool,
    /// Write the bytes of the only name into this new file.
    #[arg(long, value_name = "FILE")]
    raw: Option<PathBuf>,
    /// With both sectors: the release of the firmware that reads them; by default the one whose marks are there.
    #[arg(long, value_name = "VERSION")]
    firmware: Option<Firmware>,
    /// With both sectors: the device that reads them; by default the one whose marks are there.
    #[arg(long, value_name = "DEVICE")]
    platform: Option<Container>,
    /// With both sectors: this one, whichever is current.
    #[arg(long)]
    sector: Option<Which>,
    #[command(flatten)]
    device: DeviceOptions,
}

pub(super) fn get(args: &GetArgs) -> Result<(), Failure> {
    let entries = args.names.iter().map(|name| entry(name)).collect::<Result<Vec<_>, _>>()?;
    let reader = Reader { firmware: args.firmware, platform: args.platform };
    let table = Table::load(args.file.as_deref(), reader, args.sector, &args.device)?;
    let app = table.view()?;
    if let Some(path) = &args.raw {
        let [entry] = *entries else {
            return Err(Failure::new(Code::Usage, "--raw writes one value", "give one name"));
        };
        let bytes = app.entry_bytes(entry).ok_or_else(|| {
            Failure::new(Code::Data, format_args!("the table ends before {entry}"), "it is of older firmware")
        })?;
        if files::is_standard_output(path) {
            return ui::write(bytes);
        }
        if path.exists() {
            return Err(Failure::new(
                Code::CantCreate,
                format_args!("{} exists already", path.display()),
                "choose another name or remove it",
            ));
        }
        return files::write_secret(path, bytes);
    }
    let secret = entries.iter().find(|entry| is_hidden(app, **entry) && is_there(&app.value(**entry)));
    if let (Some(entry), false) = (secret, args.secrets) {
        return Err(Failure::new(
            Code::Usage,
            format_args!(
                "{entry} is a secret{}",
                if entry.is_secret() { "" } else { ": it holds a private key" }
            ),
            "--secrets prints it, --raw FILE writes it into a file that only you can read",
        ));
    }
    if args.device.json() {
        let values = entries.iter().map(|entry| to_json(app, *entry, true)).collect::<Vec<_>>();
        return ui::print(json!({ "table": table.to_json(), "entries": values }));
    }
    entries.iter().try_for_each(|entry| ui::print(app.value(*entry)))
}
