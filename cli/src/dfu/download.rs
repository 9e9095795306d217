//! `spark dfu download`.

use super::candidate::{Candidate, Memory};
use super::find::{in_dfu_mode, memory, prepare};
use super::finish::{leave, reset};
use super::firmware::Firmware;
use super::journal::JournalFile;
use super::options::{DfuseOptions, DfuseTarget};
use super::port::Port;
use super::progress::{Bars, Counts, keep_going};
use super::table;
use super::write::write;
use super::{Download as Args, impossible, job_failed, usage};
use crate::exit::{Code, Failure, chain};
use crate::ui;
use serde_json::{Value, json};
use spark_dfu::file::suffix::UsbIds;
use spark_dfu::host::{Download, EraseMode, Plan, Span, WriteOptions, drive_while, plain};

/// What goes into one memory.
struct Job {
    memory: Memory,
    spans: Vec<Span>,
    options: WriteOptions,
}

impl Job {
    fn target(&self) -> DfuseTarget<'_> {
        DfuseTarget { alternate: self.memory.alternate, name: &self.memory.name }
    }

    fn plan(&self) -> Result<Plan<'_>, Failure> {
        let layout = self.memory.layout().ok_or_else(|| {
            Failure::new(
                Code::Io,
                format_args!("the memory map of alternate setting {} cannot be read", self.target()),
                "the device's interface string is broken; report it with the output of `spark dfu list --json`",
            )
        })?;
        Plan::write_spans(&layout, &self.spans, self.options)
            .map_err(|error| impossible(&error, &self.target()))
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let path = args.file.as_ref().or(args.positional.as_ref());
    let path = path.ok_or_else(|| usage("no file", "name the file to write"))?;
    let firmware = Firmware::open(path)?;
    let dfuse = args.dfuse.unwrap_or_default();
    if dfuse.length.is_some() {
        return Err(usage("a download has the length of its file", "drop the length from -s"));
    }
    if dfuse.unprotect {
        let next = "run `spark dfu command -s :unprotect:force` first; the device resets itself then";
        return Err(usage("unprotect is a job of its own", next));
    }
    if firmware.is_dfuse() && dfuse.address.is_some() {
        return Err(usage("a DfuSe file has its own addresses", "drop the address from -s"));
    }
    in_dfu_mode(&args.device, |port, candidate, origin| {
        check_ids(&firmware, candidate, origin)?;
        let result = if candidate.link.is_dfuse() {
            write_dfuse(args, dfuse, &firmware, port, candidate)?
        } else {
            write_plain(args, &firmware, port, candidate)?
        };
        if args.reset && !args.dry_run {
            reset(&args.device, port);
        }
        if args.device.json { ui::print(result) } else { Ok(()) }
    })
}

fn check_ids(firmware: &Firmware, candidate: &Candidate, origin: &Candidate) -> Result<(), Failure> {
    let ids =
        |candidate: &Candidate| UsbIds { id_vendor: candidate.id_vendor, id_product: candidate.id_product };
    match firmware.suffix() {
        Some(suffix) if !suffix.matches(Some(ids(origin)), ids(candidate)) => Err(usage(
            &format!(
                "the file is for {:04x}:{:04x}, not for {candidate}",
                suffix.id_vendor, suffix.id_product
            ),
            "take the file for this device",
        )),
        _ => Ok(()),
    }
}

/// The jobs for the memories that the file has something for.
fn jobs(
    args: &Args,
    dfuse: DfuseOptions,
    firmware: &Firmware,
    candidate: &Candidate,
) -> Result<Vec<Job>, Failure> {
    let job = |memory: &Memory| {
        let alternate = memory.alternate;
        let erase = match () {
            () if dfuse.mass_erase => EraseMode::Mass,
            () if candidate.link.quirks.erase_is_void(alternate) => EraseMode::None,
            () => EraseMode::Pages,
        };
        let options = WriteOptions {
            erase,
            keep_partial_pages: args.keep_partial_pages,
            skip_equal: args.skip_unchanged,
            verify: !args.no_verify && !dfuse.will_reset,
            force: dfuse.force,
            will_reset: dfuse.will_reset,
        };
        let spans = firmware.spans(alternate, dfuse.address)?;
        Ok(Job { memory: memory.clone(), spans, options })
    };
    if !firmware.is_dfuse() {
        if dfuse.address.is_none() {
            return Err(usage(
                "a file without addresses needs one on a DfuSe device",
                "give it with -s, as in `-s 0x080A0000:leave`",
            ));
        }
        let memory = memory(args.alternate.as_deref(), candidate)?;
        return Ok(vec![job(memory)?]);
    }
    let only = args.alternate.as_ref().map(|_| memory(args.alternate.as_deref(), candidate)).transpose()?;
    let mut jobs = Vec::new();
    for alternate in firmware.alternates() {
        if only.is_some_and(|only| only.alternate != alternate) {
            continue;
        }
        match candidate.memory(alternate) {
            Some(memory) => jobs.push(job(memory)?),
            None if dfuse.force => args
                .device
                .ui()
                .note(format_args!("alternate setting {alternate}: left out, the device has none")),
            None => {
                let what = format!(
                    "the file writes to alternate setting {alternate}, which the device does not have"
                );
                return Err(usage(&what, "take the file for this device; `:force` leaves that part out"));
            }
        }
    }
    jobs.retain(|job| !job.spans.is_empty());
    // The device resets itself once, behind all of them.
    let last = jobs.len().saturating_sub(1);
    for job in jobs.iter_mut().take(last) {
        job.options.will_reset = false;
    }
    if jobs.is_empty() {
        return Err(usage("the file has nothing for this device", "see `spark inspect` for what it has"));
    }
    Ok(jobs)
}

fn write_dfuse(
    args: &Args,
    dfuse: DfuseOptions,
    firmware: &Firmware,
    port: &mut dyn Port,
    candidate: &Candidate,
) -> Result<Value, Failure> {
    let ui = args.device.ui();
    let jobs = jobs(args, dfuse, firmware, candidate)?;
    // All of them are checked before the first byte leaves.
    let plans = jobs.iter().map(Job::plan).collect::<Result<Vec<_>, _>>()?;
    for job in &jobs {
        table::check(candidate, job.memory.alternate, &job.spans)?;
    }
    for (job, plan) in jobs.iter().zip(&plans) {
        let erase = match job.options.erase {
            EraseMode::Mass => "all memory".to_owned(),
            _ => {
                let most = if job.options.skip_equal { "at most " } else { "" };
                format!("{most}{}", pages(plan.units().filter(|unit| unit.erase).count() as u64))
            }
        };
        let (start, total) = (plan.start(), plan.total());
        ui.line(&format!(
            "alternate setting {}: {total} bytes from {start:#010x}, erases {erase}",
            job.target()
        ));
    }
    if args.dry_run {
        ui.line("dry run: nothing was written");
        return Ok(
            json!({ "dry_run": true, "device": candidate.to_json(), "plan": plans.iter().zip(&jobs).map(describe).collect::<Vec<_>>() }),
        );
    }
    let image_number = firmware.fingerprint(&candidate.identity());
    let mut journal = JournalFile::open(args.journal.as_deref(), image_number)?;
    let mut written = Vec::new();
    for (number, (job, plan)) in jobs.iter().zip(&plans).enumerate() {
        let link = candidate.link.with_alternate(job.memory.alternate);
        prepare(port, link, job.memory.alternate)?;
        let image = firmware.image(job.memory.alternate, dfuse.address)?;
        let buffer = vec![0; plan.buffer_len(link.block_size())];
        let mut download =
            Download::new(link, plan, image, buffer).map_err(|error| impossible(&error, &job.target()))?;
        if let Some(record) = journal.record(number) {
            download = download.resume(record).map_err(|error| {
                Failure::new(Code::Data, chain(&error), "remove the journal to start the job anew")
            })?;
            ui.line(&format!("goes on: {} complete so far", pages(record.units())));
        }
        let bars = Bars::new(&ui, Some(plan));
        let counts = write(download, link, port, bars, (&mut journal, number, image_number))?;
        ui.line(&format!("alternate setting {}: {}", job.target(), summary(counts, job.options.verify)));
        written.push((job.memory.alternate, plan.start(), counts));
    }
    if let Err(failure) = journal.remove() {
        ui.line(&format!("the job is done, but {}", failure.what()));
    }
    let left = match (dfuse.leave && !dfuse.will_reset, jobs.first(), plans.first()) {
        (true, Some(job), Some(plan)) => {
            let link = candidate.link.with_alternate(job.memory.alternate);
            // The address belongs to the first memory, and the last one is still selected.
            if jobs.len() > 1 {
                prepare(port, link, job.memory.alternate)?;
            }
            Some(leave(&args.device.ui(), port, link, Some(dfuse.address.unwrap_or_else(|| plan.start())))?)
        }
        _ => None,
    };
    Ok(json!({
        "device": candidate.to_json(),
        "memories": written.iter().map(counted).collect::<Vec<_>>(),
        "verified": !args.no_verify && !dfuse.will_reset,
        "leave": left,
    }))
}

fn pages(count: impl TryInto<u64>) -> String {
    match count.try_into() {
        Ok(1) => "1 page".to_owned(),
        count => format!("{} pages", count.unwrap_or(u64::MAX)),
    }
}

fn describe((plan, job): (&Plan<'_>, &Job)) -> Value {
    json!({
        "alternate": job.memory.alternate,
        "start": plan.start(),
        "bytes": plan.total(),
        "pages": plan.units().map(|unit| json!({ "start": unit.start, "size": unit.size, "erase": unit.erase })).collect::<Vec<_>>(),
    })
}

fn counted((alternate, start, counts): &(u8, u32, Counts)) -> Value {
    json!({
        "alternate": alternate,
        "start": start,
        "pages_erased": counts.pages_erased,
        "mass_erased": counts.mass_erased,
        "bytes_written": counts.bytes_written,
        "bytes_unchanged": counts.bytes_unchanged,
        "bytes_verified": counts.bytes_verified,
    })
}

fn summary(counts: Counts, verify: bool) -> String {
    let mut text = format!("{} bytes written", counts.bytes_written);
    if counts.bytes_unchanged > 0 {
        text += &format!(", {} unchanged", counts.bytes_unchanged);
    }
    text += match verify {
        true if counts.bytes_written > 0 => ", read back and equal",
        true => "",
        false => ", not read back",
    };
    text
}

fn write_plain(
    args: &Args,
    firmware: &Firmware,
    port: &mut dyn Port,
    candidate: &Candidate,
) -> Result<Value, Failure> {
    let ui = args.device.ui();
    if args.journal.is_some() || args.skip_unchanged || args.keep_partial_pages {
        let what = "the device speaks plain DFU, which cannot read what it holds page by page";
        return Err(usage(what, "drop --journal, --skip-unchanged and --keep-partial-pages"));
    }
    if args.dfuse.is_some() || firmware.is_dfuse() {
        return Err(usage(
            "the device speaks plain DFU, which knows no addresses",
            "drop -s, and take a plain file",
        ));
    }
    let memory = memory(args.alternate.as_deref(), candidate)?;
    let target = DfuseTarget { alternate: memory.alternate, name: &memory.name };
    let (link, len) = (candidate.link, firmware.plain_len());
    if !link.attributes.can_download() {
        return Err(usage(
            "the device takes no downloads (bitCanDnload is 0)",
            "nothing can be written to it",
        ));
    }
    ui.line(&format!("alternate setting {target}: {len} bytes"));
    if args.dry_run {
        ui.line("dry run: nothing was written");
        return Ok(json!({ "dry_run": true, "device": candidate.to_json(), "bytes": len }));
    }
    prepare(port, link, memory.alternate)?;
    let mut block = vec![0; usize::from(link.block_size())];
    let size = usize::try_from(len).unwrap_or(usize::MAX);
    let mut download = plain::Download::new(link, firmware.plain_image(), size, block.clone())
        .map_err(|error| impossible(&error, &target))?;
    let mut bars = Bars::new(&ui, None);
    drive_while(&mut download, port, &mut block, |progress| bars.take(progress), keep_going)
        .map_err(|error| job_failed(&error))?;
    drop(bars);
    let outcome = match download.outcome() {
        Some(plain::Manifested::Idle) => "idle",
        Some(plain::Manifested::Reset) => "reset",
        Some(plain::Manifested::NeedsReset) => {
            ui.line("the device waits for a reset, which this system cannot give: unplug it");
            "needs-reset"
        }
        _ => "disconnected",
    };
    ui.line(&format!("{len} bytes written; plain DFU cannot read back what it wrote"));
    Ok(
        json!({ "device": candidate.to_json(), "bytes_written": len, "verified": false, "manifestation": outcome }),
    )
}
