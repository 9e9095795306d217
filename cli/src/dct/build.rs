//! `spark dct build`.

use super::image::{Container, Firmware, Reader, Table};
use super::judge::must_work;
use super::value::{Assignment, apply, to_json};
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
    /// The new file.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Begin with the table of this dump instead of an erased one.
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
    if args.output.exists() && !args.force {
        return Err(Failure::new(
            Code::CantCreate,
            format_args!("{} exists already", args.output.display()),
            "choose another name, or overwrite it with --force",
        ));
    }
    let version = args.firmware.map_or(NEWEST, |Firmware(version)| version);
    let mut image = Zeroizing::new(vec![0xFF; layout::length(version)]);
    let mut dropped = Vec::new();
    if let Some(from) = &args.from {
        let table = Table::of_file(from, Reader::default(), None)?;
        dropped = beyond(&table.app, image.len());
        image.iter_mut().zip(table.app.iter()).for_each(|(slot, byte)| *slot = *byte);
    }
    for assignment in &args.assignments {
        let entry = assignment.entry()?;
        if !entry.exists_in(version) {
            return Err(Failure::new(
                Code::Usage,
                format_args!("firmware {version} does not have {entry}, which came with {}", entry.since()),
                "leave it out, or give another --firmware",
            ));
        }
    }
    apply(&args.assignments, &mut image)?;
    let software = |error: &dyn core::error::Error| Failure::new(Code::Software, chain(error), "report this");
    let app = App::new(&image).map_err(|error| software(&error))?;
    if !args.force {
        args.assignments.iter().try_for_each(|assignment| must_work(assignment.entry()?, app))?;
    }
    let content = match args.pair {
        None => image.clone(),
        Some(container) => {
            let target = match container {
                Container::Photon => Target::Wiced(wiced::Generation::of_firmware(version)),
                Container::Electron => Target::Dcd(dcd::Generation::of_firmware(version)),
            };
            pair(&image, target)?
        }
    };
    files::write_secret(&args.output, &content)?;
    let entries = args.assignments.iter().map(Assignment::entry).collect::<Result<Vec<_>, _>>()?;
    if args.json {
        let values: Vec<_> = entries.iter().map(|entry| to_json(app, *entry, false)).collect();
        return ui::print(
            json!({ "entries": values, "output": args.output, "bytes": content.len(), "firmware": version.to_string(), "dropped": dropped }),
        );
    }
    for name in dropped {
        ui::print(format_args!("{name}: left out, the table of firmware {version} ends before it"))?;
    }
    ui::print(format_args!("{}: {} bytes for firmware {version}", args.output.display(), content.len()))
}

/// Fields of a table with something in them behind `len`.
fn beyond(app: &[u8], len: usize) -> Vec<&'static str> {
    let used = |field: &&Field| {
        let rest = app.get(field.offset().max(len)..field.end().min(app.len())).unwrap_or_default();
        rest.iter().any(|byte| *byte != 0xFF) && !field.is_gap()
    };
    Field::ALL.iter().filter(used).map(Field::name).collect()
}

/// The table in the first sector, the second one erased, as they leave the factory.
fn pair(image: &[u8], target: Target) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let software = |error: &dyn core::error::Error| Failure::new(Code::Software, chain(error), "report this");
    let mut factory: Box<[Sector; 2]> = Box::new([[0xFF; wiced::SECTOR_SIZE]; 2]);
    let [first, second] = &mut *factory;
    wiced::factory_sector(image, first).map_err(|error| software(&error))?;
    let dump = Dump::new(first, second);
    let plan = Plan::new(dump, target, Options::default(), |_, _| Judgement::Unknown)
        .map_err(|error| software(&error))?;
    let mut out: Box<[Sector; 2]> = Box::new([[0xFF; wiced::SECTOR_SIZE]; 2]);
    plan.build_sectors(&mut out).map_err(|error| software(&error))?;
    Ok(Zeroizing::new(out.concat()))
}
