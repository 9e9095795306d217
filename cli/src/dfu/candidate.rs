//! A DFU interface as the commands see it, wherever it is.

use core::fmt;
use serde_json::{Value, json};
use spark_dfu::descriptor::{Configuration, Description, Mode};
use spark_dfu::host::Link;
use spark_dfu::layout::{MemoryLayout, ParseOptions};
use spark_dfu::quirk::Quirks;
use spark_dfu::usb::Found;

/// One memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Memory {
    pub(super) alternate: u8,
    pub(super) name: String,
    /// How the name is read as a memory map.
    pub(super) options: ParseOptions,
}

/// A device with a DFU interface.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) id_vendor: u16,
    pub(crate) id_product: u16,
    pub(super) bcd_device: u16,
    pub(crate) serial: String,
    pub(super) path: String,
    pub(super) mode: Mode,
    pub(super) link: Link,
    pub(super) memories: Vec<Memory>,
}

impl Candidate {
    pub(super) fn of_usb(found: &Found) -> Self {
        let memories = found
            .memories
            .iter()
            .map(|memory| Memory {
                alternate: memory.alternate,
                name: memory.name.clone().unwrap_or_default(),
                options: found.quirks.layout_options(),
            })
            .collect();
        Self {
            id_vendor: found.id_vendor,
            id_product: found.id_product,
            bcd_device: found.bcd_device,
            serial: found.serial_number.clone().unwrap_or_default(),
            path: found.path.to_string(),
            mode: found.mode,
            link: found.link(),
            memories,
        }
    }

    /// A device that is described by a value instead of by a bus.
    pub(super) fn of_description(description: &Description<'_>, path: &str) -> Self {
        let bytes = description.configuration_descriptor_to_vec();
        let interface = Configuration::parse(&bytes)
            .ok()
            .and_then(|configuration| configuration.alternates().next())
            .map_or(0, |alternate| alternate.interface);
        let quirks = Quirks::of(description.id_vendor, description.id_product, description.bcd_device);
        let memories = (0..)
            .zip(description.alternates)
            .map(|(alternate, name)| Memory {
                alternate,
                name: (*name).to_owned(),
                options: quirks.layout_options(),
            })
            .collect();
        Self {
            id_vendor: description.id_vendor,
            id_product: description.id_product,
            bcd_device: description.bcd_device,
            serial: description.serial_number.to_owned(),
            path: path.to_owned(),
            mode: Mode::Dfu,
            link: Link::new(interface, &description.functional).with_quirks(quirks),
            memories,
        }
    }

    /// What stays the same when the device is plugged in again, elsewhere if it has a serial number.
    pub(super) fn identity(&self) -> String {
        let which = if self.serial.is_empty() { &self.path } else { &self.serial };
        format!("{:04x}:{:04x} {which}", self.id_vendor, self.id_product)
    }

    pub(super) fn memory(&self, alternate: u8) -> Option<&Memory> {
        self.memories.iter().find(|memory| memory.alternate == alternate)
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "id_vendor": self.id_vendor,
            "id_product": self.id_product,
            "bcd_device": self.bcd_device,
            "serial": self.serial,
            "path": self.path,
            "mode": if self.mode == Mode::Dfu { "dfu" } else { "runtime" },
            "interface": self.link.interface,
            "dfu_version": self.link.dfu_version,
            "transfer_size": self.link.transfer_size,
            "attributes": self.link.attributes.0,
            "alternates": self.memories.iter().map(Memory::to_json).collect::<Vec<_>>(),
        })
    }
}

impl Memory {
    pub(super) fn layout(&self) -> Option<MemoryLayout<'_>> {
        MemoryLayout::parse_with(self.name.as_bytes(), self.options).ok()
    }

    fn to_json(&self) -> Value {
        let segments = self.layout().map(|layout| {
            layout
                .segments()
                .map(|segment| {
                    json!({
                        "start": segment.start,
                        "page_size": segment.page_size,
                        "pages": segment.pages,
                        "access": segment.access.letter().to_string(),
                    })
                })
                .collect::<Vec<_>>()
        });
        json!({ "alternate": self.alternate, "name": self.name, "segments": segments })
    }
}

/// `2b04:d006 "serial" at 1-2, DFU mode`.
impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.id_vendor, self.id_product)?;
        if !self.serial.is_empty() {
            write!(f, " serial {}", self.serial)?;
        }
        let mode = if self.mode == Mode::Dfu { "DFU mode" } else { "run-time mode" };
        write!(f, " at {}, {mode}", self.path)
    }
}
