//! `spark dfu list`.

use super::DeviceOptions;
use super::find::matching;
use crate::exit::Failure;
use crate::ui;
use serde_json::Value;
use spark_dfu::layout::{MemoryLayout, Segment};

pub(super) fn run(options: &DeviceOptions) -> Result<(), Failure> {
    let found = matching(options)?;
    if options.json {
        return ui::print(Value::from_iter(found.iter().map(super::candidate::Candidate::to_json)));
    }
    if found.is_empty() {
        ui::say("no device with a DFU interface; `--virtual` simulates one");
        return Ok(());
    }
    for candidate in &found {
        let link = &candidate.link;
        let version = link.dfu_version;
        let kind = if link.is_dfuse() { " (DfuSe)" } else { "" };
        ui::print(format_args!(
            "{candidate}\n  interface {}, DFU {}.{:x}{kind}, {} bytes a transfer",
            link.interface,
            version >> 8,
            version & 0xFF,
            link.transfer_size
        ))?;
        for memory in &candidate.memories {
            ui::print(format_args!("  -a {}  {}", memory.alternate, memory.name))?;
            if let Some(layout) = memory.layout() {
                show(&layout)?;
            }
        }
    }
    Ok(())
}

fn show(layout: &MemoryLayout<'_>) -> Result<(), Failure> {
    for segment in layout.segments() {
        let Segment { start, pages, page_size, access } = segment;
        let can = [(access.readable(), "read"), (access.erasable(), "erase"), (access.writeable(), "write")];
        let can: Vec<_> = can.into_iter().filter(|(yes, _)| *yes).map(|(_, what)| what).collect();
        let last = segment.end() - 1;
        ui::print(format_args!(
            "        {start:#010x}..={last:#010x}  {pages} {} of {page_size} bytes: {}",
            if pages == 1 { "page" } else { "pages" },
            can.join(", ")
        ))?;
    }
    Ok(())
}
