//! `spark dfu command`: what concerns a whole memory.

use super::find::{in_dfu_mode, memory, prepare};
use super::finish::leave;
use super::options::DfuseTarget;
use super::port::Port;
use super::{Bare, impossible, job_failed, usage};
use crate::exit::Failure;
use crate::ui;
use serde_json::json;
use spark_dfu::dfuse::READ_UNPROTECT;
use spark_dfu::host::{GetCommands, Special, drive};

/// `spark dfu command`.
pub(super) fn run(args: &Bare) -> Result<(), Failure> {
    let (options, dfuse) = (&args.device, args.dfuse);
    if dfuse.length.is_some() || dfuse.will_reset {
        return Err(usage("a length and will-reset belong to transfers", "drop them from -s"));
    }
    if !(dfuse.leave || dfuse.mass_erase || dfuse.unprotect) {
        return Err(usage("there is nothing to do", "add leave, mass-erase or unprotect to -s"));
    }
    in_dfu_mode(options, |port, candidate, _| {
        let link = candidate.link;
        if !link.is_dfuse() {
            return Err(usage(
                "the device speaks plain DFU, which has no commands",
                "-s is for DfuSe devices",
            ));
        }
        let memory = memory(args.alternate.as_deref(), candidate)?;
        prepare(port, link, memory.alternate)?;
        let special = |port: &mut dyn Port, mut command: Special| {
            drive(&mut command, port, &mut [0; 64], |_| ()).map_err(|error| job_failed(&error))
        };
        if dfuse.unprotect {
            let mut ask = GetCommands::new(link);
            drive(&mut ask, port, &mut [0; 64], |_| ()).map_err(|error| job_failed(&error))?;
            if !ask.commands().is_some_and(|commands| commands.has(READ_UNPROTECT)) {
                return Err(usage(
                    "the device does not list the command to lift a read protection",
                    "it has none to lift",
                ));
            }
            special(port, Special::read_unprotect(link))?;
            options
                .ui()
                .line("the device lifts its protection, which takes up to 40 seconds, and resets itself");
        } else if dfuse.mass_erase {
            let target = DfuseTarget { alternate: memory.alternate, name: &memory.name };
            special(port, Special::mass_erase(link).map_err(|error| impossible(&error, &target))?)?;
            options.ui().line("all memory is erased");
        }
        let left = match dfuse.leave && !dfuse.unprotect {
            true => Some(leave(&options.ui(), port, link, dfuse.address)?),
            false => None,
        };
        if options.json {
            ui::print(
                json!({ "device": candidate.to_json(), "mass_erased": dfuse.mass_erase, "unprotected": dfuse.unprotect, "leave": left }),
            )?;
        }
        Ok(())
    })
}
