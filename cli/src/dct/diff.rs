//! `spark dct diff`.

use super::image::{Container, File, Firmware, Reader, Table, Which, dump, name};
use super::value::{is_hidden, text, to_json};
use crate::dfu::DeviceOptions;
use crate::exit::Failure;
use crate::ui;
use serde_json::{Value, json};
use spark_dct::App;
use spark_dct::flash::SectorId;
use spark_dct::recovery::{Difference, diff};
use std::path::PathBuf;

/// Compare two tables, value by value: two dumps, a dump and the device, or both sectors of one dump.
///
/// What looks like damage against the other table is said: lost bits, an erased tail, a mixture of both.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The first dump; - is standard input.
    first: PathBuf,
    /// The second dump; without it the device, or, if the first one has both sectors and no device is chosen, these.
    second: Option<PathBuf>,
    /// Show private keys, passwords and claim codes.
    #[arg(long)]
    secrets: bool,
    /// With both sectors: the release of the firmware that reads them; by default the one whose marks are there.
    #[arg(long, value_name = "VERSION")]
    firmware: Option<Firmware>,
    /// With both sectors: the device that reads them; by default the one whose marks are there.
    #[arg(long, value_name = "DEVICE")]
    platform: Option<Container>,
    #[command(flatten)]
    device: DeviceOptions,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let file = File::read(&args.first)?;
    let reader = Reader { firmware: args.firmware, platform: args.platform };
    if let (File::Pair(pair), None, false) = (&file, &args.second, args.device.is_chosen()) {
        let dump = dump(pair.sectors())?;
        let [one, two] = [SectorId::Dct1, SectorId::Dct2].map(|id| dump.candidate(id));
        let view = |candidate: &spark_dct::recovery::Candidate<'_>| {
            let file = File::Pair(pair.clone());
            Table::of(file, &args.first, reader, Some(which(candidate.id)))
        };
        let (first, second) = (view(&one)?, view(&two)?);
        return show(args, (name(one.id), first.view()?), (name(two.id), second.view()?));
    }
    let first = Table::of(file, &args.first, reader, None)?;
    let second = Table::load(args.second.as_deref(), reader, None, &args.device)?;
    let names = (
        args.first.display().to_string(),
        match &args.second {
            Some(path) => path.display().to_string(),
            None => "the device".to_owned(),
        },
    );
    show(args, (&names.0, first.view()?), (&names.1, second.view()?))
}

const fn which(id: SectorId) -> Which {
    match id {
        SectorId::Dct1 => Which::One,
        SectorId::Dct2 => Which::Two,
    }
}

fn show(args: &Args, first: (&str, App<'_>), second: (&str, App<'_>)) -> Result<(), Failure> {
    let mut differences = diff(first.1, second.1).peekable();
    if args.device.json() {
        let apps = [first.1, second.1];
        let found: Vec<Value> = differences.map(|difference| of(&difference, apps, args.secrets)).collect();
        return ui::print(json!({ "first": first.0, "second": second.0, "differences": found }));
    }
    if differences.peek().is_none() {
        return ui::print(format_args!("{} and {} have the same values", first.0, second.0));
    }
    for difference in differences {
        ui::print(format_args!("{}", difference.entry))?;
        let Difference { entry, first_sign, second_sign, .. } = difference;
        for ((label, app), sign) in [(first, first_sign), (second, second_sign)] {
            let sign = sign.map(|sign| format!("  ({sign})")).unwrap_or_default();
            ui::print(format_args!("  {label}: {}{sign}", text(app, entry, args.secrets)))?;
        }
    }
    Ok(())
}

/// One difference between two tables for machines.
pub(super) fn of(difference: &Difference<'_>, tables: [App<'_>; 2], secrets: bool) -> Value {
    let entry = difference.entry;
    let [first, second] = tables.map(|app| to_json(app, entry, secrets)["value"].take());
    json!({
        "name": entry.to_string(),
        "offset": entry.offset(),
        "first": first,
        "second": second,
        "secret": tables.into_iter().any(|app| is_hidden(app, entry)),
        "first_sign": difference.first_sign.map(|sign| sign.to_string()),
        "second_sign": difference.second_sign.map(|sign| sign.to_string()),
    })
}
