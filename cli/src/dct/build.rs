//! `spark dct build`.

use super::effect::Reads;
use super::image::{Container, Firmware, Origin, Reader, Table, dump, sections};
use super::judge::{complete_address, must_work};
use super::value::{Applied, Assignment, apply, check_release, to_json};
use crate::exit::{Code, Failure, chain};
use crate::files;
use crate::ui;
use serde_json::json;
use spark_dct::flash::Sector;
use spark_dct::recovery::{Dump, Judgement, Options, Plan, Target};
use spark_dct::{App, Field, FirmwareVersion, dcd, layout, wiced};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// The newest release that has this table in flash sectors.
const NEWEST: FirmwareVersion = FirmwareVersion::new(2, 3, 1);

/// Build a table from values: an application section, or both sectors as they are in flash.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// What to set; everything else is erased, or as in --from.
    #[arg(value_name = "NAME=VALUE")]
    assignments: Vec<Assignment>,
    /// The new file; - is standard output.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Begin with the table of this dump instead of an erased one; with --pair photon, also with Wi-Fi credentials and whatever else is
    /// in a Photon's sector.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Both sectors, 32768 bytes for 08004000, instead of the application section alone.
    #[arg(long, value_name = "DEVICE")]
    pair: Option<Container>,
    /// The release that shall read it.
    #[arg(long, value_name = "VERSION")]
    firmware: Option<Firmware>,
    /// Overwrite OUT, and set keys that the device could not use.
    #[arg(long)]
    force: bool,
    /// Print the result as JSON on standard output, and nothing else.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let to_stdout = files::is_standard_output(&args.output);
    if to_stdout && args.json {
        return Err(Failure::new(
            Code::Usage,
            "--json and the table both go to standard output",
            "name a file",
        ));
    }
    if !to_stdout && args.output.exists() && !args.force {
        return Err(Failure::new(
            Code::CantCreate,
            format_args!("{} exists already", args.output.display()),
            "choose another name, or overwrite it with --force",
        ));
    }
    let version = args.firmware.map_or(NEWEST, |Firmware(version)| version);
    let target = args.pair.map(|container| match container {
        Container::Photon => Target::Wiced(wiced::Generation::of_firmware(version)),
        Container::Electron => Target::Dcd(dcd::Generation::of_firmware(version)),
    });
    let mut image = Zeroizing::new(vec![0xFF; layout::length(version)]);
    let mut first = Zeroizing::new([0xFF; wiced::SECTOR_SIZE]);
    let mut dropped = Vec::new();
    if let Some(from) = &args.from {
        let table = Table::of_file(from, Reader::default(), None)?;
        let ends = format!("the table of firmware {version} ends before it");
        dropped.extend(beyond(&table.app, image.len()).map(|name| Dropped { name, why: ends.clone() }));
        image.iter_mut().zip(table.app.iter()).for_each(|(slot, byte)| *slot = *byte);
        dropped.extend(take_sections(&table, target, &mut first)?);
    }
    check_release(&args.assignments, version, "leave it out, or give another --firmware")?;
    if apply(&args.assignments, &mut image)? == Applied::BareServerKey {
        complete_address(&mut image, args.force)?;
    }
    let software = |error: &dyn core::error::Error| Failure::new(Code::Software, chain(error), "report this");
    let app = App::new(&image).map_err(|error| software(&error))?;
    if !args.force {
        args.assignments.iter().try_for_each(|assignment| must_work(assignment.entry()?, app))?;
    }
    let warnings = Reads::in_file(target, Some(version)).check(&args.assignments, app)?;
    let content = match target {
        None => image.clone(),
        Some(target) => pair(&image, target, &mut first)?,
    };
    if to_stdout {
        for Dropped { name, why } in dropped {
            ui::Ui::new(false).note(format_args!("{name}: left out, {why}"));
        }
        warnings.iter().for_each(ui::say);
        return ui::write(&content);
    }
    files::write_secret(&args.output, &content)?;
    let entries = args.assignments.iter().map(Assignment::entry).collect::<Result<Vec<_>, _>>()?;
    if args.json {
        let values: Vec<_> = entries.iter().map(|entry| to_json(app, *entry, false)).collect();
        return ui::print(
            json!({ "entries": values, "output": args.output, "bytes": content.len(), "firmware": version.to_string(), "warnings": warnings,
                "dropped": dropped.iter().map(|dropped| dropped.name).collect::<Vec<_>>() }),
        );
    }
    warnings.iter().for_each(ui::say);
    for Dropped { name, why } in dropped {
        ui::print(format_args!("{name}: left out, {why}"))?;
    }
    ui::print(format_args!("{}: {} bytes for firmware {version}", args.output.display(), content.len()))
}

/// Something of --from that the result has no place for.
struct Dropped {
    name: &'static str,
    why: String,
}

/// Fields of a table with something in them behind `len`.
fn beyond(app: &[u8], len: usize) -> impl Iterator<Item = &'static str> {
    let used = move |field: &&Field| {
        let rest = app.get(field.offset().max(len)..field.end().min(app.len())).unwrap_or_default();
        rest.iter().any(|byte| *byte != 0xFF) && !field.is_gap()
    };
    Field::ALL.iter().filter(used).map(Field::name)
}

/// Puts what a Photon's sector has besides the table into `first`; what finds no place is given.
fn take_sections(table: &Table, target: Option<Target>, first: &mut Sector) -> Result<Vec<Dropped>, Failure> {
    let Origin::Pair { pair, target: Target::Wiced(source), selection } = &table.origin else {
        return Ok(Vec::new());
    };
    let dump = dump(pair.sectors())?;
    let Some(sector) = selection.sector.map(|id| dump.sector(id)) else { return Ok(Vec::new()) };
    let kept = |at| matches!(target, Some(Target::Wiced(generation)) if sections(generation).any(|(_, place, _)| place == at));
    if matches!(target, Some(Target::Wiced(_))) {
        let header = wiced::Header::of_sector(sector).for_write(0);
        first.iter_mut().zip(header.as_bytes()).for_each(|(slot, byte)| *slot = *byte);
    }
    let mut dropped = Vec::new();
    for (name, at, len) in sections(*source) {
        let content = sector.get(at..at + len).unwrap_or_default();
        if kept(at) {
            first.iter_mut().skip(at).zip(content).for_each(|(slot, byte)| *slot = *byte);
        } else if content.iter().any(|byte| *byte != 0xFF && *byte != 0) {
            let why = match target {
                None => "it is outside of the application section; --pair photon keeps it".to_owned(),
                Some(target) => format!("{target} has no place for it"),
            };
            dropped.push(Dropped { name, why });
        }
    }
    Ok(dropped)
}

/// The table in the first sector, the second one erased, as they leave the factory. `first` has what is besides the table.
fn pair(image: &[u8], target: Target, first: &mut Sector) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let software = |error: &dyn core::error::Error| Failure::new(Code::Software, chain(error), "report this");
    let mut factory = Zeroizing::new([0xFF; wiced::SECTOR_SIZE]);
    wiced::factory_sector(image, &mut factory).map_err(|error| software(&error))?;
    let header = if wiced::Header::of_sector(first).has_magic() { 0 } else { wiced::Header::LEN };
    for part in [0..header, wiced::APP_OFFSET..wiced::APP_OFFSET + wiced::WRITE_LIMIT] {
        let cells = first.iter_mut().zip(factory.iter()).take(part.end).skip(part.start);
        cells.for_each(|(slot, byte)| *slot = *byte);
    }
    let dump = Dump::new(first, const { &[0xFF; wiced::SECTOR_SIZE] });
    let plan = Plan::new(dump, target, Options::default(), |_, _| Judgement::Unknown)
        .map_err(|error| software(&error))?;
    let mut out: Box<[Sector; 2]> = Box::new([[0xFF; wiced::SECTOR_SIZE]; 2]);
    plan.build_sectors(&mut out).map_err(|error| software(&error))?;
    Ok(Zeroizing::new(out.concat()))
}
