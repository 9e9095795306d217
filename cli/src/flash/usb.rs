//! `spark flash --usb`.

use super::Args;
use super::input::{self, Input};
use crate::dfu::{Access, access};
use crate::exit::{Code, Failure, chain};
use crate::ui;
use serde_json::{Value, json};
use spark_ota::flashing::{Options, Plan, Purpose, Refusal, Step, Target, Warning, plan};
use spark_ota::module::{Module, platform_name};

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let ui = args.device.ui();
    let inputs = input::read(&args.files, args.force, &ui)?;
    let contents: Vec<&[u8]> = inputs.iter().map(|input| &*input.content).collect();
    let leave = match (args.leave, args.no_leave) {
        (false, false) => None,
        (leave, _) => Some(leave),
    };
    let options = Options { factory: args.factory, update: args.update, force: args.force, leave };
    // What cannot be right on any device is refused before one is disturbed.
    let first = contents.first().and_then(|file| Module::parse(file).ok());
    if let Some(target) = first.and_then(|module| Target::of(module.prefix().platform_id)) {
        plan(target, &contents, options).map_err(|refusal| refused(&refusal, &inputs))?;
    }
    access(&args.device, |access| {
        let (id_vendor, id_product) = (access.device().id_vendor, access.device().id_product);
        let target = Target::from_usb_id(id_vendor, id_product).ok_or_else(|| {
            Failure::new(
                Code::Unavailable,
                format_args!("{}: it is not known where modules lie on this device", access.device()),
                "choose another device with -d, -p or --serial-number, or give addresses to `spark dfu download`",
            )
        })?;
        let plan = plan(target, &contents, options).map_err(|refusal| refused(&refusal, &inputs))?;
        for warning in &plan.warnings {
            ui.line(&format!("warning: {}: {warning}", name(&inputs, warning.file())));
        }
        // The device may have less memory than its platform.
        for step in &plan.steps {
            access.check(step.alternate, step.address, step.bytes.len())?;
        }
        let count = plan.steps.len();
        for (number, step) in plan.steps.iter().enumerate() {
            ui.line(&format!("{}/{count} {}", number + 1, shown(step, &inputs)));
            if !args.dry_run {
                if !step.pause_before.is_zero() {
                    std::thread::sleep(step.pause_before);
                }
                write(access, step).map_err(|failure| half_done(&failure, number, &plan))?;
            }
        }
        let leave = plan.steps.last().is_some_and(|step| step.leave);
        if args.dry_run {
            ui.line("dry run: nothing was written");
        } else if leave {
            access.leave()?;
        }
        if args.device.json() { ui::print(report(&plan, &inputs, args.dry_run, access)) } else { Ok(()) }
    })
}

fn write(access: &mut Access<'_>, step: &Step<'_>) -> Result<(), Failure> {
    match step.purpose {
        // Other settings are beside it.
        Purpose::UpdateFlag => access.write(step.alternate, step.address, &step.bytes),
        _ => access.replace(step.alternate, step.address, &step.bytes),
    }
}

fn half_done(failure: &Failure, number: usize, plan: &Plan<'_>) -> Failure {
    let step = plan.steps.get(number).map(|step| step.purpose.to_string()).unwrap_or_default();
    Failure::new(
        failure.code(),
        format_args!("step {} of {}, {step}: {}", number + 1, plan.steps.len(), failure.what()),
        format_args!("{}; all steps can be repeated", failure.next()),
    )
}

fn name(inputs: &[Input], file: usize) -> &str {
    inputs.get(file).map_or("", |input| &input.name)
}

fn shown(step: &Step<'_>, inputs: &[Input]) -> String {
    let Step { purpose, alternate, address, bytes, .. } = step;
    let len = bytes.len();
    let text = format!("{purpose}: {len} bytes to {address:#010x} of alternate setting {alternate}");
    match step.file {
        Some(file) => format!("{text}, from {}", name(inputs, file)),
        None => text,
    }
}

fn refused(refusal: &Refusal, inputs: &[Input]) -> Failure {
    let (code, next) = match refusal {
        Refusal::Nothing | Refusal::TooMany { .. } => (Code::Usage, "name the files to write"),
        Refusal::NotAModule { .. } | Refusal::Crc { .. } | Refusal::NotFinalised { .. } => {
            (Code::Data, "get the file again or build it anew; `spark inspect` shows what is wrong with it")
        }
        Refusal::Platform { .. } => {
            (Code::Data, "take the file for this device, or choose another device with -d")
        }
        Refusal::Packed { .. } => (Code::Data, "take the module as it was before it was packed"),
        Refusal::NotOverUsb { .. } => (Code::Data, "leave it out here, and update it over the cloud"),
        Refusal::Incomplete { .. } => (Code::Usage, "add it, or drop --update to write only some modules"),
        Refusal::NoSystem { .. } => (Code::Usage, "drop --update"),
        Refusal::Factory { .. } => (Code::Usage, "drop --factory, or give an application"),
        Refusal::Overlap { .. } => (Code::Data, "leave one of them out"),
        _ => (Code::Data, "nothing was written; check what the module was built for with `spark inspect`"),
    };
    let what = chain(refusal);
    match refusal.file() {
        Some(file) => Failure::new(code, format_args!("{}: {what}", name(inputs, file)), next),
        None => Failure::new(code, what, next),
    }
}

fn report(plan: &Plan<'_>, inputs: &[Input], dry_run: bool, access: &Access<'_>) -> Value {
    let steps = plan.steps.iter().map(|step| {
        json!({
            "file": step.file.map(|file| name(inputs, file)),
            "purpose": purpose(step.purpose),
            "function": step.purpose.key().map(|key| key.function.number()),
            "index": step.purpose.key().map(|key| key.index),
            "alternate": step.alternate,
            "address": step.address,
            "bytes": step.bytes.len(),
            "leave": step.leave,
        })
    });
    let warnings = plan.warnings.iter().map(|warning| {
        json!({ "file": name(inputs, warning.file()), "code": code(warning), "message": warning.to_string() })
    });
    let platform_id = plan.target.platform_id;
    json!({
        "dry_run": dry_run,
        "device": { "id_vendor": access.device().id_vendor, "id_product": access.device().id_product, "serial": access.device().serial },
        "platform_id": platform_id,
        "platform": platform_name(platform_id),
        "steps": steps.collect::<Vec<_>>(),
        "warnings": warnings.collect::<Vec<_>>(),
    })
}

const fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Module(_) => "module",
        Purpose::Factory(_) => "factory",
        Purpose::Update(_) => "update",
        Purpose::UpdateFlag => "update-flag",
        Purpose::FormerApplication => "former-application",
        _ => "other",
    }
}

const fn code(warning: &Warning) -> &'static str {
    match warning {
        Warning::BlankSuffix { .. } => "blank-suffix",
        Warning::Crc { .. } => "bad-crc",
        Warning::Platform { .. } => "other-platform",
        Warning::Unknown { .. } => "unknown-content",
        _ => "other",
    }
}
