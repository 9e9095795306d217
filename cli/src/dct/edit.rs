//! `spark dct set`.

use super::effect::{Reads, Warning};
use super::image::{Container, Firmware, Origin, Reader, Table, dump, target_by_marks};
use super::judge::{complete_address, must_work};
use super::value::{Applied, Assignment, apply, check_release, text, to_json};
use crate::dfu::DeviceOptions;
use crate::exit::{Code, Failure, chain};
use crate::files;
use crate::particle::{self, Particle, WriteOptions, Written};
use crate::ui;
use serde_json::json;
use spark_dct::flash::{FlashOp, SECTOR_SIZE, SectorId};
use spark_dct::recovery::Target;
use spark_dct::segment::Segment;
use spark_dct::{App, Entry, dcd, wiced};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Set values in the device, or in a copy of a dump.
///
/// `NAME=VALUE` takes what `show` prints, `NAME=unset` erases, `NAME=@FILE` takes the bytes of a file. Nothing else changes: a
/// bare key of the server, too, leaves the address behind it, which the table has to have then. In the device every value is kept in a
/// file before it is written, and read back.
///
/// A dump of both sectors is changed as its firmware would do it. From v0.7.0 on the new table goes to the other sector, and
/// the old one stays. Before that no old table is left: a Photon programs the new bytes over the old ones, and where that does
/// not give them, it writes the table to the other sector and erases the old one; an Electron marks the old one as void.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// What to set.
    #[arg(value_name = "NAME=VALUE", required = true)]
    assignments: Vec<Assignment>,
    /// An application section, both sectors, or the whole flash (- is standard input); without it the device is changed.
    #[arg(short, long, requires = "output")]
    file: Option<PathBuf>,
    /// The changed copy of FILE; - is standard output.
    #[arg(short, long, value_name = "OUT", requires = "file")]
    output: Option<PathBuf>,
    /// Overwrite OUT, and set keys that the device could not use.
    #[arg(long)]
    force: bool,
    /// The release of the firmware: fields that it does not have are refused.
    #[arg(long, value_name = "VERSION")]
    firmware: Option<Firmware>,
    /// With both sectors: the device that reads them; by default the one whose marks are there.
    #[arg(long, value_name = "DEVICE")]
    platform: Option<Container>,
    #[command(flatten)]
    write: WriteOptions,
    #[command(flatten)]
    device: DeviceOptions,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(Firmware(version)) = args.firmware {
        check_release(&args.assignments, version, "leave it out, or update the device first")?;
    }
    match (&args.file, &args.output) {
        (Some(file), Some(output)) => in_file(args, file, output),
        _ => particle::open(&args.device, |device| in_device(args, device)),
    }
}

fn set_all(args: &Args, image: &mut [u8]) -> Result<(), Failure> {
    match apply(&args.assignments, image)? {
        Applied::BareServerKey => complete_address(image, args.force),
        Applied::Whole => Ok(()),
    }
}

/// Keys among the changed fields have to work; what has no effect is told.
fn check(args: &Args, app: App<'_>, reads: Reads) -> Result<Vec<Warning>, Failure> {
    if !args.force {
        args.assignments.iter().try_for_each(|assignment| must_work(assignment.entry()?, app))?;
    }
    reads.check(&args.assignments, app)
}

fn in_file(args: &Args, file: &Path, output: &Path) -> Result<(), Failure> {
    let to_stdout = files::is_standard_output(output);
    if to_stdout && args.device.json() {
        return Err(Failure::new(
            Code::Usage,
            "--json and the table both go to standard output",
            "name a file",
        ));
    }
    if !to_stdout && output.exists() && !args.force {
        return Err(Failure::new(
            Code::CantCreate,
            format_args!("{} exists already", output.display()),
            "choose another name, or overwrite it with --force",
        ));
    }
    let reader = Reader { firmware: args.firmware, platform: args.platform };
    let table = Table::of_file(file, reader, None)?;
    let mut image = table.app.clone();
    set_all(args, &mut image)?;
    let app = App::new(&image).map_err(|error| Failure::new(Code::Data, chain(&error), "give a table"))?;
    let target = match &table.origin {
        Origin::Pair { target, .. } => Some(*target),
        _ => None,
    };
    let version = args.firmware.map(|Firmware(version)| version);
    let warnings = check(args, app, Reads::in_file(target, version))?;
    let changed = changed(&table.app, &image);
    let content = match &table.origin {
        // The whole flash comes out as the whole flash.
        Origin::Pair { pair, target, .. } => {
            pair.file_with(&write_pair(pair.sectors(), *target, &image, changed)?)
        }
        _ => image.clone(),
    };
    match (args.write.dry_run, to_stdout) {
        (false, true) => {
            warnings.iter().for_each(ui::say);
            return ui::write(&content);
        }
        (true, true) => {}
        (dry_run, false) => files::write_secret_unless(dry_run, output, &content)?,
    }
    report(args, app, &warnings, None, Some(output))
}

/// The bytes that differ, as one range.
fn changed(before: &[u8], after: &[u8]) -> core::ops::Range<usize> {
    let differs = |at: &usize| before.get(*at) != after.get(*at);
    let start = (0..after.len()).find(differs);
    let end = (0..after.len()).rev().find(differs);
    match (start, end) {
        (Some(start), Some(end)) => start..end + 1,
        _ => 0..0,
    }
}

/// One write, as the firmware does it.
fn write_pair(
    pair: &[u8],
    target: Target,
    image: &[u8],
    range: core::ops::Range<usize>,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut after = Zeroizing::new(pair.to_vec());
    if range.is_empty() {
        return Ok(after);
    }
    let data = image.get(range.clone()).unwrap_or_default();
    let refused = |error: &dyn core::error::Error| {
        Failure::new(Code::Data, chain(error), "`spark dct recover` makes a good pair of a damaged one")
    };
    let mut execute = |op: FlashOp<'_>| match op {
        FlashOp::Erase { sector } => sector_of(&mut after, sector).fill(0xFF),
        FlashOp::Program { sector, offset, data } => {
            let cells = sector_of(&mut after, sector).iter_mut().skip(offset);
            cells.zip(data).for_each(|(cell, byte)| *cell &= byte);
        }
        _ => {}
    };
    let missing = || Failure::new(Code::Software, "the pair has two sectors", "report this");
    match target {
        Target::Wiced(generation) => {
            let sectors = wiced::Sectors::from_slice(pair).ok_or_else(missing)?;
            let mut write =
                wiced::Write::new(sectors, generation, range.start, data).map_err(|error| refused(&error))?;
            while let Some(op) = write.next_op() {
                execute(op);
            }
        }
        Target::Dcd(generation) => {
            let sectors = dcd::Sectors::from_slice(pair).ok_or_else(missing)?;
            let mut write =
                dcd::Write::new(sectors, generation, range.start, data).map_err(|error| refused(&error))?;
            while let Some(op) = write.next_op() {
                execute(op);
            }
        }
        _ => return Err(missing()),
    }
    Ok(after)
}

fn sector_of(pair: &mut [u8], id: SectorId) -> &mut [u8] {
    let at = id.index() * SECTOR_SIZE;
    pair.get_mut(at..at + SECTOR_SIZE).unwrap_or_default()
}

fn in_device(args: &Args, device: &mut Particle<'_, '_>) -> Result<(), Failure> {
    device.set_firmware(args.firmware.map(|Firmware(version)| version));
    let table = Table::of_device(device)?;
    let mut image = table.app.clone();
    set_all(args, &mut image)?;
    let app = App::new(&image).map_err(|error| Failure::new(Code::Data, chain(&error), "report this"))?;
    let version = args.firmware.map(|Firmware(version)| version);
    let target = device.sectors().and_then(|pair| dump(pair).ok()).and_then(|dump| target_by_marks(&dump));
    let warnings = check(args, app, Reads::in_device(device.platform(), target, version))?;
    // Each entry with all of its bytes, once, in the order of addresses, and nothing before all of them are known to fit.
    let mut places: BTreeMap<usize, (Segment, Entry)> = BTreeMap::new();
    for assignment in &args.assignments {
        let entry = assignment.entry()?;
        let segment = Segment::in_table(device.platform(), entry).ok_or_else(|| {
            Failure::new(Code::Usage, format_args!("DFU does not reach {entry}"), "use a dump")
        })?;
        segment
            .plan_write(entry.len(), version)
            .map_err(|error| Failure::new(Code::Usage, chain(&error), "nothing was written"))?;
        // A part is there only if its field is.
        device.check_table(&segment, entry.field().end() - entry.offset())?;
        // A field and its first part begin at the same place.
        if places.get(&entry.offset()).is_none_or(|(_, present)| present.len() < entry.len()) {
            places.insert(entry.offset(), (segment, entry));
        }
    }
    let mut writes = Vec::new();
    for (segment, entry) in places.into_values() {
        let data = image.get(entry.range()).unwrap_or_default();
        writes.push(device.write(&segment, data, &args.write)?);
    }
    device.finish(&args.write)?;
    report(args, app, &warnings, Some(writes), None)
}

fn report(
    args: &Args,
    app: App<'_>,
    warnings: &[Warning],
    writes: Option<Vec<Written>>,
    output: Option<&Path>,
) -> Result<(), Failure> {
    let entries = args.assignments.iter().map(Assignment::entry).collect::<Result<Vec<_>, _>>()?;
    if args.device.json() {
        let values: Vec<_> = entries.iter().map(|entry| to_json(app, *entry, false)).collect();
        return ui::print(
            json!({ "entries": values, "warnings": warnings, "writes": writes, "output": output, "dry_run": args.write.dry_run }),
        );
    }
    warnings.iter().for_each(ui::say);
    for entry in entries {
        ui::print(format_args!("{entry} = {}", text(app, entry, false)))?;
    }
    for written in writes.iter().flatten() {
        ui::print(written)?;
    }
    match output {
        Some(path) if args.write.dry_run => ui::print(format_args!("{} would be written", path.display())),
        Some(path) => ui::print(format_args!("written to {}", path.display())),
        None => Ok(()),
    }
}
