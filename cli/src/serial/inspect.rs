//! `spark serial inspect`.

use super::PortOptions;
use super::link::{LISTEN, Link};
use super::ports;
use crate::exit::{Code, Failure, chain};
use crate::ui;
use serde_json::{Value, json};
use spark_ota::module::{ModuleKey, Store};
use spark_ota::serial::{BAUD, Check, Inspected, Inspection, Question};
use std::process::ExitCode;

/// Asks for the modules.
pub(super) fn inspect(link: &mut Link) -> Result<Inspection, Failure> {
    let reply = link.must_tell(Question::Modules)?;
    Inspection::parse(&reply).map_err(|error| {
        Failure::new(Code::Protocol, format_args!("{}: {}", link.name(), chain(&error)), LISTEN)
    })
}

pub(super) fn run(options: &PortOptions) -> Result<ExitCode, Failure> {
    let mut link = Link::open(&ports::one(options.port.as_deref())?, BAUD)?;
    let inspection = inspect(&mut link)?;
    let valid = inspection.modules().all(|module| module.module().is_none() || module.is_valid());
    if options.json {
        let modules: Vec<Value> = inspection.modules().map(|module| to_json(&module)).collect();
        ui::print(json!({
            "port": link.name(),
            "platform_id": inspection.describe.platform_id,
            "valid": valid,
            "modules": modules,
        }))?;
    } else {
        if let Some(platform) = inspection.describe.platform_id {
            ui::print(format_args!("platform {platform}"))?;
        }
        inspection.modules().try_for_each(|module| show(&module))?;
    }
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::from(Code::Data as u8) })
}

fn show(place: &Inspected<'_>) -> Result<(), Failure> {
    let store = &place.info.store;
    let size = place.info.maximum_size;
    let Some(module) = place.module() else {
        return ui::print(format_args!("a place for {size} bytes (store {store}): no module"));
    };
    let copy = if module.store == Store::Main { String::new() } else { format!(" (store {store})") };
    ui::print(format_args!("{} version {}{copy}", module.key(), module.version))?;
    for check in Check::ALL {
        if let Some(passes) = place.passes(check) {
            ui::print(format_args!("  {check}: {}", if passes { "PASS" } else { "FAIL" }))?;
        }
    }
    for need in module.dependencies.iter().filter(|need| !need.is_none()) {
        ui::print(format_args!("  needs {} version {} or newer", ModuleKey::from(*need), need.version))?;
    }
    Ok(())
}

fn to_json(place: &Inspected<'_>) -> Value {
    let info = place.info;
    let result = |check| place.passes(check);
    json!({
        "function": info.function,
        "index": info.index,
        "version": info.version,
        "store": info.store,
        "maximum_size": info.maximum_size,
        "valid": place.is_valid(),
        "checks": {
            "integrity": result(Check::Integrity),
            "address_range": result(Check::AddressRange),
            "platform": result(Check::Platform),
            "dependencies": result(Check::Dependencies),
        },
        "dependencies": info.dependencies.iter().map(|need| json!({
            "function": need.function, "index": need.index, "version": need.version,
        })).collect::<Vec<_>>(),
    })
}
