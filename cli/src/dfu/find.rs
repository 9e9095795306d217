//! Choosing one device, waiting for it, and bringing it into DFU mode.

use super::candidate::{Candidate, Memory};
use super::port::{self, Port};
use super::{DeviceOptions, Kind, job_failed};
use crate::exit::{Code, Failure};
use crate::ui;
use core::time::Duration;
use serde_json::json;
use spark_dfu::descriptor::Mode;
use spark_dfu::host::{Connect, Detach, DetachOutcome, Link, Policy, drive};
use spark_dfu::quirk::Quirks;

/// The devices that the options let pass.
pub(super) fn matching(options: &DeviceOptions) -> Result<Vec<Candidate>, Failure> {
    let mut all = port::all(options)?;
    all.retain(|candidate| fits(options, candidate));
    Ok(all)
}

fn fits(options: &DeviceOptions, candidate: &Candidate) -> bool {
    let serial = options.serial.as_deref().map(|text| match text.split_once(',') {
        Some((_, dfu)) if candidate.mode == Mode::Dfu => dfu,
        Some((runtime, _)) => runtime,
        None => text,
    });
    options.ids.is_none_or(|filter| filter.fits(candidate.mode, candidate.id_vendor, candidate.id_product))
        && options.path.as_ref().is_none_or(|path| *path == candidate.path)
        && serial.is_none_or(|serial| serial == candidate.serial)
}

/// The one device that is meant.
fn one(options: &DeviceOptions) -> Result<Candidate, Failure> {
    let mut noted = false;
    loop {
        let mut found = match matching(options) {
            // At first only root may open a new device; udev changes that a moment later.
            Err(failure) if options.wait => {
                if !core::mem::replace(&mut noted, true) {
                    options.ui().note(format_args!("{}; waiting", failure.what()));
                }
                Vec::new()
            }
            found => found?,
        };
        match found.len() {
            0 if options.wait => port::pause(),
            0 => {
                return Err(Failure::new(
                    Code::Io,
                    "no device with a DFU interface was found",
                    "plug it in, bring it into DFU mode (a Photon blinks yellow), see `spark dfu list`; -w waits for it",
                ));
            }
            1 => return Ok(found.swap_remove(0)),
            _ => {
                let names: Vec<_> = found.iter().map(ToString::to_string).collect();
                return Err(Failure::new(
                    Code::Io,
                    format_args!("several devices fit:\n  {}", names.join("\n  ")),
                    "choose one with -p, -S or -d",
                ));
            }
        }
    }
}

/// Opens the device, brings it into DFU mode, and works with it. `work` gets the device as it is now and as it was found.
pub(super) fn in_dfu_mode<T>(
    options: &DeviceOptions,
    work: impl FnOnce(&mut dyn Port, &Candidate, &Candidate) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let candidate = one(options)?;
    port::open(options, &candidate, |port| {
        if candidate.mode == Mode::Runtime {
            leave_application(options, port, &candidate)?;
        }
        let mut now = port.candidate();
        now.link = link(options, &now);
        work(port, &now, &candidate)
    })
}

/// The link with the limits of the command line.
fn link(options: &DeviceOptions, candidate: &Candidate) -> Link {
    let reenumeration = Duration::from_secs(options.detach_delay);
    let known = options.quirks.map_or(candidate.link.quirks, Kind::quirks);
    let address_every_block = known.address_every_block || options.address_every_block;
    let link = candidate.link.with_quirks(Quirks { address_every_block, ..known });
    let link = link.with_policy(Policy { reenumeration, ..Policy::DEFAULT });
    match options.transfer_size {
        // A device that says 0 has to be told.
        Some(size) if link.transfer_size == 0 => Link { transfer_size: size, ..link },
        Some(size) => Link { max_block: link.max_block.min(size), ..link },
        None => link,
    }
}

fn leave_application(
    options: &DeviceOptions,
    port: &mut dyn Port,
    candidate: &Candidate,
) -> Result<DetachOutcome, Failure> {
    options.ui().note(format_args!("{candidate}: detaching"));
    let mut detach = Detach::new(link(options, candidate));
    drive(&mut detach, port, &mut [0; 64], |_| ()).map_err(|error| job_failed(&error))?;
    detach.outcome().ok_or_else(|| Failure::new(Code::Software, "detaching has no outcome", "report this"))
}

/// Selects a memory and brings the device to dfuIDLE.
pub(super) fn prepare(port: &mut dyn Port, link: Link, alternate: u8) -> Result<(), Failure> {
    port.select(alternate)?;
    drive(&mut Connect::new(link), port, &mut [0; 64], |_| ()).map_err(|error| job_failed(&error))
}

/// The memory that `-a` names, or the only one.
pub(super) fn memory<'c>(alternate: Option<&str>, candidate: &'c Candidate) -> Result<&'c Memory, Failure> {
    let Some(wanted) = alternate else {
        if let [only] = &*candidate.memories {
            return Ok(only);
        }
        return Err(choose(candidate, "the device has several memories"));
    };
    let by_number = wanted.parse().ok().and_then(|number: u8| candidate.memory(number));
    let by_name = || candidate.memories.iter().find(|memory| memory.name == wanted);
    by_number
        .or_else(by_name)
        .ok_or_else(|| choose(candidate, &format!("the device has no memory `{wanted}`")))
}

fn choose(candidate: &Candidate, what: &str) -> Failure {
    let names: Vec<_> =
        candidate.memories.iter().map(|memory| format!("{}: {}", memory.alternate, memory.name)).collect();
    Failure::new(Code::Usage, format_args!("{what}:\n  {}", names.join("\n  ")), "choose one with -a")
}

/// `spark dfu detach`.
pub(super) fn detach(options: &DeviceOptions) -> Result<(), Failure> {
    let candidate = one(options)?;
    port::open(options, &candidate, |port| {
        let outcome = leave_application(options, port, &candidate)?;
        let now = port.candidate();
        if options.json {
            let already = matches!(outcome, DetachOutcome::AlreadyInDfuMode(_));
            return ui::print(json!({ "already_in_dfu_mode": already, "device": now.to_json() }));
        }
        match outcome {
            DetachOutcome::AlreadyInDfuMode(state) => {
                ui::say(format_args!("{now}: was there already, in {state}"))
            }
            _ => ui::say(format_args!("{now}: ready")),
        }
        Ok(())
    })
}
