//! What `spark inspect` says, for machines and for people.

use super::dct::{DctApp, DctFlash};
use super::dfu_suffix::{DfuSuffix, Prefix};
use super::dfuse::Dfuse;
use super::esp8266::Esp8266Image;
use super::key::{PrivateKey, PublicKey, ServerKeyRegion};
use super::memory_layout::Layout;
use super::module::{ModuleBundle, ModuleFile};
use core::fmt;
use serde::Serialize;

/// One file.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) file: String,
    pub(super) kind: &'static str,
    pub(super) valid: bool,
    pub(super) problems: Vec<Problem>,
    #[serde(flatten)]
    pub(super) fields: Fields,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    /// A stable word.
    pub(super) code: &'static str,
    message: String,
    /// Bytes from the start of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<u64>,
}

impl Problem {
    pub(super) fn new(code: &'static str, message: impl fmt::Display, offset: Option<u64>) -> Self {
        Self { code, message: message.to_string(), offset }
    }
}

impl Problem {
    /// Whether the message is about that field, or a part of it.
    pub(super) fn names(&self, field: &str) -> bool {
        self.message.strip_prefix(field).is_some_and(|rest| rest.starts_with([':', '.']))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, message, offset } = self;
        f.write_str(code)?;
        // Many messages say it themselves.
        if let Some(offset) = offset.filter(|offset| !message.contains(&format!("byte {offset}"))) {
            write!(f, " at byte {offset}")?;
        }
        write!(f, ": {message}")
    }
}

/// What a kind has to say.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Fields {
    DfuSuffix(DfuSuffix),
    Dfuse(Dfuse),
    MemoryLayout(Layout),
    PrivateKey(PrivateKey),
    PublicKey(PublicKey),
    ServerKeyRegion(ServerKeyRegion),
    DctApp(DctApp),
    DctFlash(DctFlash),
    Module(ModuleFile),
    ModuleBundle(ModuleBundle),
    Esp8266Image(Esp8266Image),
    Unknown(Unknown),
}

#[derive(Debug, Serialize)]
pub(super) struct Unknown {
    pub(super) size: u64,
}

/// The fields of a suffix; all `null` if there is none.
#[derive(Debug, Default, Serialize)]
pub(super) struct SuffixFields {
    pub(super) bcd_device: Option<u16>,
    pub(super) id_product: Option<u16>,
    pub(super) id_vendor: Option<u16>,
    pub(super) bcd_dfu: Option<u16>,
    pub(super) length: Option<u8>,
    pub(super) crc: Option<u32>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.fields {
            Fields::DfuSuffix(_) => "firmware with a DFU suffix",
            Fields::Dfuse(_) => "DfuSe file",
            Fields::MemoryLayout(_) => "memory-layout string",
            Fields::PrivateKey(_) => "private key",
            Fields::PublicKey(_) => "public key",
            Fields::ServerKeyRegion(_) => "server's public key and address",
            Fields::DctApp(_) => "configuration table",
            Fields::DctFlash(_) => "flash sectors of a configuration table",
            Fields::Module(_) => "firmware module",
            Fields::ModuleBundle(_) => "application and assets",
            Fields::Esp8266Image(_) => "ESP8266 image",
            Fields::Unknown(_) => "unknown",
        };
        writeln!(f, "{}: {what}, {}", self.file, if self.valid { "valid" } else { "NOT VALID" })?;
        for problem in &self.problems {
            writeln!(f, "  problem {problem}")?;
        }
        match &self.fields {
            Fields::DfuSuffix(fields) => fields.fmt(f),
            Fields::Dfuse(fields) => fields.fmt(f),
            Fields::MemoryLayout(fields) => fields.fmt(f),
            Fields::PrivateKey(fields) => fields.fmt(f),
            Fields::PublicKey(fields) => fields.fmt(f),
            Fields::ServerKeyRegion(fields) => fields.fmt(f),
            Fields::DctApp(fields) => fields.fmt(f),
            Fields::DctFlash(fields) => fields.fmt(f),
            Fields::Module(fields) => fields.fmt(f),
            Fields::ModuleBundle(fields) => fields.fmt(f),
            Fields::Esp8266Image(fields) => fields.fmt(f),
            Fields::Unknown(Unknown { size }) => write!(f, "  size      {size} bytes"),
        }
    }
}

/// An id or version; `any` for the wildcard.
fn id(value: Option<u16>) -> String {
    match value {
        None => "unknown".to_owned(),
        Some(0xFFFF) => "any".to_owned(),
        Some(value) => format!("{value:04x}"),
    }
}

impl fmt::Display for SuffixFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(length), Some(crc)) = (self.length, self.crc) else { return write!(f, "  suffix    none") };
        let (vendor, product, version) = (id(self.id_vendor), id(self.id_product), id(self.bcd_device));
        writeln!(f, "  device    vendor {vendor}, product {product}, version {version}")?;
        write!(f, "  suffix    {length} bytes, bcdDFU {}, CRC {crc:#010x}", id(self.bcd_dfu))
    }
}

impl fmt::Display for DfuSuffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.suffix)?;
        match &self.prefix {
            None => {}
            Some(Prefix::Lmdfu { address, .. }) => writeln!(f, "  prefix    TI LMDFU, address {address:#x}")?,
            Some(Prefix::Lpc { blocks, canonical, .. }) => {
                let doubt = if *canonical { "" } else { " (perhaps only bytes that look like one)" };
                writeln!(f, "  prefix    NXP LPC, {blocks} blocks of 512 bytes{doubt}")?;
            }
        }
        write!(f, "  payload   {} bytes", self.payload_len)
    }
}

impl fmt::Display for Dfuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.suffix)?;
        for target in &self.targets {
            let name = target.name.as_ref().map_or("no name".to_owned(), |name| format!("{name:?}"));
            write!(f, "\n  target    alternate {}, {name}, {} bytes", target.alt, target.size)?;
            for element in &target.elements {
                write!(f, "\n    {:#010x}  {} bytes", element.address, element.size)?;
                match element.crc32 {
                    Some(crc) => write!(f, ", CRC-32 {crc:#010x}")?,
                    None => write!(f, ", cut off")?,
                }
            }
        }
        match self.elements_omitted {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more elements"),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  name      {:?}", self.name.as_deref().unwrap_or_default())?;
        for segment in &self.segments {
            write!(
                f,
                "\n  {:#010x} to {:#010x}  {} pages of {} bytes,",
                segment.start,
                segment.end.saturating_sub(1),
                segment.pages,
                segment.page_size
            )?;
            let access =
                [(segment.readable, " read"), (segment.erasable, " erase"), (segment.writeable, " write")];
            access.iter().filter(|(may, _)| *may).try_for_each(|(_, word)| f.write_str(word))?;
        }
        if !self.deviations.is_empty() {
            write!(f, "\n  accepted  {}", self.deviations.join(", "))?;
        }
        Ok(())
    }
}
