//! `spark dct recover`: what both sectors still hold, what is damaged, and a repaired table.

use super::diff;
use super::image::{Container, File, Firmware, PAIR, Reader, Which, dump, name, sections, target};
use super::judge;
use super::value::{content_for, entry};
use crate::dfu::DeviceOptions;
use crate::exit::{Code, Failure, chain};
use crate::files;
use crate::particle::{self, Particle, WriteOptions, Written};
use crate::ui;
use serde::Serialize;
use serde_json::{Value, json};
use spark_dct::flash::{Sector, SectorId};
use spark_dct::recovery::{
    Confidence, Decision, Dump, Options, Plan, Source, Standing, Target, Why, diff as differences,
};
use spark_dct::segment::{DCT_ALTERNATE, Platform, Segment};
use spark_dct::{App, Field, wiced};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zeroize::Zeroizing;

/// Find out what a table lost and propose a repaired one.
///
/// Both sectors are looked at: each holds a generation of the table, even when no firmware would read it. The result says what
/// each sector is, which one each firmware reads, how they differ, which fields are damaged, and where every
/// field of the repaired table comes from. Private keys are judged by computing with them; RSA public keys can only be
/// read, and are judged good only where a private key or a known key confirms them. Exit code 65: something remains
/// damaged.
///
/// A device is read through alternate setting 0. Its sectors cannot be written that way; --apply writes the fields that
/// differ through alternate setting 1. What is outside of the application section, as Wi-Fi credentials, is not written; the
/// result says so where it matters.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Both sectors (32768 bytes from 08004000), or the whole flash; - is standard input. Without it the device is read.
    file: Option<PathBuf>,
    /// The firmware that shall read the result; by default the one whose marks are there.
    #[arg(long, value_name = "VERSION")]
    firmware: Option<Firmware>,
    /// The device that shall read it; by default the one whose marks are there. Sectors whose marks are gone are taken for its
    /// own.
    #[arg(long, value_name = "DEVICE")]
    platform: Option<Container>,
    /// Allow fields from different sectors in one table.
    #[arg(long)]
    mix: bool,
    /// A value that was being written when the power failed; explains damage, and with --mix replaces it.
    #[arg(long, value_name = "FIELD=@FILE")]
    written: Vec<String>,
    /// Take this sector where nothing speaks against it.
    #[arg(long)]
    base: Option<Which>,
    /// Write the repaired sectors into this new file.
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Write the repaired application section into this new file.
    #[arg(long, value_name = "OUT")]
    app: Option<PathBuf>,
    /// Write repaired fields into the device.
    #[arg(long, conflicts_with = "file")]
    apply: bool,
    /// Show private keys, passwords and claim codes.
    #[arg(long)]
    secrets: bool,
    #[command(flatten)]
    write: WriteOptions,
    #[command(flatten)]
    device: DeviceOptions,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    for path in [&args.output, &args.app].into_iter().flatten() {
        if path.exists() {
            return Err(Failure::new(
                Code::CantCreate,
                format_args!("{} exists already", path.display()),
                "choose another name or remove it",
            ));
        }
    }
    if let (Some(sectors), Some(app)) = (&args.output, &args.app)
        && is_same_place(sectors, app)
    {
        return Err(Failure::new(
            Code::Usage,
            format_args!("{} cannot be the file of both --output and --app", app.display()),
            "give two names",
        ));
    }
    match &args.file {
        Some(path) => match File::read(path)? {
            File::Pair(pair) => recover(args, pair.sectors(), None),
            File::App(_) => Err(Failure::new(
                Code::Data,
                format_args!("{} holds one table, and what it lost is not in it", path.display()),
                "save both sectors, 32768 bytes from 08004000: `spark dfu upload -a 0 -s 0x08004000:0x8000 FILE`",
            )),
        },
        None => particle::open(&args.device, |device| {
            if !matches!(device.platform(), Platform::Photon | Platform::P1 | Platform::Electron) {
                return Err(Failure::new(
                    Code::Usage,
                    format_args!("a {:?} does not keep its table in two sectors", device.platform()),
                    "`spark dct show` and `spark keys check` look at what it has",
                ));
            }
            let pair = Zeroizing::new(device.read_at(0, wiced::SECTOR_ADDRESSES[0], PAIR)?);
            recover(args, &pair, Some(device))
        }),
    }
}

/// Whether two paths of files that do not exist yet are one.
fn is_same_place(one: &Path, two: &Path) -> bool {
    let place = |path: &Path| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(folder.canonicalize().ok()?.join(path.file_name()?))
    };
    one == two || place(one).is_some_and(|place_of_one| place(two) == Some(place_of_one))
}

/// A decision for machines.
#[derive(Serialize)]
struct Decided {
    field: &'static str,
    source: String,
    why: String,
    confidence: String,
    sign: Option<String>,
    agrees: Option<bool>,
    better: Option<String>,
}

impl From<&Decision> for Decided {
    fn from(decision: &Decision) -> Self {
        Self {
            field: decision.field.name(),
            source: decision.source.to_string(),
            why: decision.why.to_string(),
            confidence: decision.confidence.to_string(),
            sign: decision.sign.map(|sign| sign.to_string()),
            agrees: decision.agrees,
            better: decision.better.map(|source: Source| source.to_string()),
        }
    }
}

fn recover(args: &Args, pair: &[u8], device: Option<&mut Particle<'_, '_>>) -> Result<ExitCode, Failure> {
    let dump = dump(pair)?;
    let dump = args.platform.map_or(dump, |platform| dump.assume(platform.into()));
    // A device says what it is, whatever the marks of its sectors.
    let platform = device.as_ref().map(|device| match device.platform() {
        Platform::Electron => Container::Electron,
        _ => Container::Photon,
    });
    let reader = Reader { firmware: args.firmware, platform: args.platform.or(platform) };
    let target = target(&dump, reader).ok_or_else(|| {
        Failure::new(
            Code::Data,
            "neither sector has the mark of a table",
            "if they are those of 08004000, say with --platform photon or electron how to read them",
        )
    })?;
    let written = args.written.iter().map(|text| given(text)).collect::<Result<Vec<_>, _>>()?;
    let written: Vec<(Field, &[u8])> =
        written.iter().map(|(field, bytes)| (*field, bytes.as_slice())).collect();
    let mut options = Options::default().mix(args.mix).written(&written);
    if let Some(base) = args.base {
        options = options.base(base.into());
    }
    let plan = judge::plan(dump, target, options).map_err(|error| {
        let next = match args.platform {
            Some(_) => "nothing can be recovered from these bytes",
            None => "if they are those of 08004000, say with --platform photon or electron how to read them",
        };
        Failure::new(Code::Data, chain(&error), next)
    })?;
    let other_base = other_base(&plan, options.base(plan.base().id.other()));
    let software = |error: &dyn core::error::Error| {
        Failure::new(Code::Data, chain(error), "check the values of --written")
    };
    let mut app = Zeroizing::new(vec![0xFF; target.structure_len()]);
    plan.build_app(&mut app).map_err(|error| software(&error))?;
    let mut sectors: Box<[Sector; 2]> = Box::new([[0xFF; wiced::SECTOR_SIZE]; 2]);
    plan.build_sectors(&mut sectors).map_err(|error| software(&error))?;
    if let Some(path) = &args.output {
        files::write_secret_unless(args.write.dry_run, path, &Zeroizing::new(sectors.concat()))?;
    }
    if let Some(path) = &args.app {
        files::write_secret_unless(args.write.dry_run, path, &app)?;
    }
    let writes = match device {
        Some(device) if args.apply => Some(write_back(args, device, &plan, &app)?),
        _ => None,
    };
    if args.device.json() {
        ui::print(to_json(args, &plan, other_base, writes.as_deref()))?;
    } else {
        show(args, &plan, other_base, writes.as_deref())?;
    }
    Ok(if plan.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(Code::Data as u8) })
}

/// The other sector, if no field of it shows damage where this one does.
fn other_base(plan: &Plan<'_>, options: Options<'_>) -> Option<SectorId> {
    let other = || judge::plan(plan.dump(), plan.target(), options.mix(false)).ok();
    if plan.is_whole() {
        return None;
    }
    let shows_no_damage = |plan: &Plan<'_>| {
        let only_mark =
            plan.base().standing == Standing::MarkDamaged && plan.confidence() > Confidence::Damaged;
        plan.is_whole() || only_mark
    };
    other().filter(shows_no_damage).map(|plan| plan.base().id)
}

/// `FIELD=@FILE`.
fn given(text: &str) -> Result<(Field, Zeroizing<Vec<u8>>), Failure> {
    let usage = || Failure::new(Code::Usage, format_args!("--written {text}"), "write FIELD=@FILE");
    let (name, path) = text.split_once("=@").ok_or_else(usage)?;
    let field = entry(name)?;
    if field.part_name().is_some() {
        return Err(usage());
    }
    let content = content_for(field, path.as_ref())?;
    if content.is_empty() {
        return Err(Failure::new(
            Code::Data,
            format_args!("{path} is empty, and explains no damage"),
            "give the file with the bytes that were being written",
        ));
    }
    Ok((field.field(), content))
}

/// Writes the fields that differ from what the device reads now.
fn write_back(
    args: &Args,
    device: &mut Particle<'_, '_>,
    plan: &Plan<'_>,
    app: &[u8],
) -> Result<Vec<Written>, Failure> {
    device.set_firmware(args.firmware.map(|Firmware(version)| version));
    let present = Zeroizing::new(device.read_at(DCT_ALTERNATE, 0, app.len())?);
    let mut writes = Vec::new();
    for decision in plan.decisions() {
        let field = decision.field;
        let Some(segment) = Segment::in_table(device.platform(), field.into()) else { continue };
        let range = field.range();
        let (Some(now), Some(repaired)) = (present.get(range.clone()), app.get(range)) else { continue };
        if now == repaired || decision.confidence == Confidence::Damaged {
            continue;
        }
        writes.push(device.write(&segment, repaired, &args.write)?);
    }
    device.finish(&args.write)?;
    Ok(writes)
}

/// The decisions that are more than "taken as it is".
fn noteworthy<'p>(plan: &'p Plan<'_>) -> impl Iterator<Item = &'p Decision> {
    plan.decisions().iter().filter(|decision| {
        decision.why != Why::Base && decision.why != Why::JudgedValid
            || decision.sign.is_some()
            || decision.confidence == Confidence::Damaged
    })
}

fn targets(plan: &Plan<'_>) -> impl Iterator<Item = Target> {
    let wanted = core::mem::discriminant(&plan.target());
    Target::ALL.into_iter().filter(move |target| core::mem::discriminant(target) == wanted)
}

/// What is outside of the application section and therefore not written by `--apply`.
#[derive(Serialize)]
struct Outside {
    /// The sector that the firmware reads now.
    current: Option<&'static str>,
    /// Sections in which the base differs from it, or has something if there is none.
    differs: Vec<&'static str>,
}

impl Outside {
    fn of(plan: &Plan<'_>) -> Self {
        let (dump, base) = (plan.dump(), plan.base());
        let current = dump.select(plan.target()).sector;
        let mut differs = Vec::new();
        // An Electron has nothing else in its sectors.
        if let Target::Wiced(generation) = plan.target()
            && current != Some(base.id)
        {
            for (name, at, len) in sections(generation) {
                let bytes = |id| dump.sector(id).get(at..at + len).unwrap_or_default();
                let same = match current {
                    Some(current) => bytes(base.id) == bytes(current),
                    None => bytes(base.id).iter().all(|byte| *byte == 0xFF),
                };
                if !same {
                    differs.push(name);
                }
            }
        }
        Self { current: current.map(name), differs }
    }
}

fn both<'a>(dump: &Dump<'a>) -> Option<(App<'a>, App<'a>)> {
    let app = |id| App::new(dump.candidate(id).app).ok();
    Some((app(SectorId::Dct1)?, app(SectorId::Dct2)?))
}

fn show(
    args: &Args,
    plan: &Plan<'_>,
    other_base: Option<SectorId>,
    writes: Option<&[Written]>,
) -> Result<(), Failure> {
    let dump = plan.dump();
    let newer = dump.newer();
    for id in [SectorId::Dct1, SectorId::Dct2] {
        let candidate = dump.candidate(id);
        let age = if newer == Some(id) { ", the newer one" } else { "" };
        ui::print(format_args!("{}: {}{age}", name(id), candidate.standing))?;
    }
    for target in targets(plan) {
        let selection = dump.select(target);
        match selection.sector {
            Some(id) => ui::print(format_args!("{target} reads {}: {}", name(id), selection.reason))?,
            None => ui::print(format_args!("{target}: {}", selection.reason))?,
        }
    }
    if let Some((first, second)) = both(&dump) {
        let count = differences(first, second).count();
        ui::print(format_args!("the sectors differ in {count} values; `spark dct diff` shows them"))?;
    }
    ui::print(format_args!(
        "repaired table for {}: from {}, {}",
        plan.target(),
        name(plan.base().id),
        if plan.is_mixed() { "with fields from elsewhere" } else { "as a whole" }
    ))?;
    for decision in noteworthy(plan) {
        ui::print(format_args!("  {decision}"))?;
        if let Some(better) = decision.better {
            ui::print(format_args!("    {better} has a better value: --mix takes it"))?;
        }
    }
    if let Some(other) = other_base {
        ui::print(format_args!(
            "  the table of {} shows no damage: --base {} takes it as a whole",
            name(other),
            other.index() + 1
        ))?;
    }
    let Outside { current, differs } = Outside::of(plan);
    if !differs.is_empty() {
        let (base, differs) = (name(plan.base().id), differs.join(", "));
        match current {
            Some(current) => ui::print(format_args!(
                "outside of the application section {base} differs from {current}, which the device reads now: {differs}\n  \
                 --output has those of {base}; --apply does not write them, the device keeps those of {current}"
            ))?,
            None => ui::print(format_args!(
                "outside of the application section {base} has what no firmware reads now: {differs}\n  \
                 --output has them; --apply does not write them"
            ))?,
        }
    }
    let server = plan.decision(Field::SERVER_PUBLIC_KEY);
    if matches!(server.confidence, Confidence::Unknown | Confidence::Plausible)
        && plan.bytes(&server).iter().any(|byte| *byte != 0xFF)
    {
        ui::print(format_args!(
            "  {}: {}; it reads as a key, and nothing proves that it is whole: compare it with the server's",
            server.field.name(),
            server.confidence
        ))?;
    }
    for (field, next) in lost_keys(plan) {
        ui::print(format_args!("  {}: no sector has a good one; {next}", field.name()))?;
    }
    let base = plan.base();
    if !base.standing.is_complete() {
        let rest = if plan.is_whole() {
            "with the value that was replaced it has that CRC, so nothing else of it was damaged"
        } else {
            "what of it is damaged cannot be told, and the result holds it; a checksum that is made anew proves nothing"
        };
        ui::print(format_args!("  {} is {}: {rest}", name(base.id), base.standing))?;
    }
    for written in writes.into_iter().flatten() {
        ui::print(written)?;
    }
    for path in [&args.output, &args.app].into_iter().flatten() {
        if args.write.dry_run {
            ui::print(format_args!("{} would be written", path.display()))?;
        } else {
            ui::print(format_args!("written to {}", path.display()))?;
        }
    }
    Ok(())
}

/// Keys that remain damaged, and what helps.
fn lost_keys<'p>(plan: &'p Plan<'_>) -> impl Iterator<Item = (Field, &'static str)> + 'p {
    let fields = [Field::DEVICE_PRIVATE_KEY, Field::ALT_DEVICE_PRIVATE_KEY, Field::SERVER_PUBLIC_KEY];
    fields.into_iter().filter_map(|field| {
        let decision = plan.decision(field);
        let bad = decision.confidence == Confidence::Damaged && decision.better.is_none();
        let erased = plan.bytes(&decision).iter().all(|byte| *byte == 0xFF);
        bad.then_some(match field {
            Field::SERVER_PUBLIC_KEY => (field, "`spark keys server` writes it, with its address"),
            _ if erased => (field, "it is erased; `spark keys doctor` makes a new one"),
            _ => (field, "`spark keys repair` may rebuild it, `spark keys doctor` makes a new one"),
        })
    })
}

fn to_json(args: &Args, plan: &Plan<'_>, other_base: Option<SectorId>, writes: Option<&[Written]>) -> Value {
    let dump = plan.dump();
    let newer = dump.newer();
    let sectors: Vec<Value> = [SectorId::Dct1, SectorId::Dct2]
        .into_iter()
        .map(|id| {
            let candidate = dump.candidate(id);
            json!({
                "sector": name(id), "format": candidate.format, "standing": candidate.standing.to_string(),
                "crc_ok": candidate.standing.is_crc_good(), "newer": newer == Some(id),
            })
        })
        .collect();
    let selections: Vec<Value> = targets(plan)
        .map(|target| {
            let selection = dump.select(target);
            json!({ "firmware": target.to_string(), "sector": selection.sector.map(name), "reason": selection.reason.to_string() })
        })
        .collect();
    let found: Vec<Value> = both(&dump)
        .map(|(first, second)| {
            let one = |difference| diff::of(&difference, [first, second], args.secrets);
            differences(first, second).map(one).collect()
        })
        .unwrap_or_default();
    let decisions: Vec<Decided> = plan.decisions().iter().map(Decided::from).collect();
    json!({
        "sectors": sectors, "selections": selections, "differences": found, "target": plan.target().to_string(),
        "base": name(plan.base().id), "mixed": plan.is_mixed(), "confidence": plan.confidence().to_string(),
        "whole": plan.is_whole(),
        "other_base": other_base.map(name), "decisions": decisions, "outside": Outside::of(plan), "dry_run": args.write.dry_run, "output": args.output, "app": args.app, "writes": writes,
    })
}
