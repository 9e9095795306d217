//! Kind `esp8266-image`: programs for the ESP8266, as Sonoff devices download them.

use super::Scan;
use super::report::{Fields, Problem};
use crate::files::{hex, sha256};
use core::fmt;
use serde::Serialize;
use spark_ota::esp8266::{
    BOOT_STUB_ENTRY_POINTS, CONSTANT_V2, ENTRY_POINTS, Expectations, FlashParameters, Format, Header, Image,
    ImageFile, MAGIC_V1, MAGIC_V2, MAX_SEGMENTS, Severity, Style,
};

#[derive(Debug, Serialize)]
pub(super) struct Esp8266Image {
    size: u64,
    sha256: Option<String>,
    #[serde(flatten)]
    first: Option<Described>,
    /// The program behind a boot stub.
    application: Option<Described>,
    /// Bytes behind the last image.
    trailing: usize,
    /// What may be wrong, but need not be.
    warnings: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Described {
    /// `v1`, `v2`, or `whole-flash` for a boot stub in front of a program.
    format: &'static str,
    /// Whose first header a v2 image has: `esptool` or `sdk`.
    style: Option<&'static str>,
    /// Where it begins in the file.
    offset: usize,
    /// `null` if it has no name; the bytes are in `flash_parameters`.
    flash_mode: Option<&'static str>,
    flash_size: Option<&'static str>,
    flash_freq: Option<&'static str>,
    flash_parameters: String,
    entry: u32,
    irom: Option<Piece>,
    segments: Vec<Piece>,
    /// `null` if the file ends before it.
    checksum: Option<u8>,
    checksum_ok: bool,
    /// `null` if there is none.
    crc: Option<u32>,
    crc_ok: Option<bool>,
    /// The slot that it is linked for, if that can be told.
    slot: Option<u8>,
}

/// Irom code or a segment.
#[derive(Debug, Serialize)]
struct Piece {
    /// Where its header begins in the file.
    offset: usize,
    address: u32,
    length: u32,
}

/// Whether the file has the headers of an image, perhaps of a damaged or cut one. Other chips of the family begin with the same
/// byte, but not with an entry point in this RAM.
pub(super) fn looks_like_image(scan: &Scan) -> bool {
    let Some(header) = scan.head.first_chunk().map(Header::decode) else { return false };
    let in_ram = ENTRY_POINTS.contains(&header.entry) || BOOT_STUB_ENTRY_POINTS.contains(&header.entry);
    match header.magic {
        MAGIC_V1 => in_ram && (1..=MAX_SEGMENTS).contains(&header.count.into()),
        MAGIC_V2 if header.count == CONSTANT_V2 => {
            let whole = || scan.whole().is_some_and(|file| Image::parse(file).is_ok());
            in_ram && scan.head.get(8..12).is_none_or(|address| address == [0; 4]) || whole()
        }
        _ => false,
    }
}

pub(super) fn explain(scan: &Scan) -> (Vec<Problem>, Fields) {
    let mut fields = Esp8266Image {
        size: scan.len(),
        sha256: None,
        first: None,
        application: None,
        trailing: 0,
        warnings: Vec::new(),
    };
    let Some(file) = scan.whole() else {
        let message = format_args!("{} bytes are more than any ESP8266 has", scan.len());
        return (vec![Problem::new("too-long", message, None)], Fields::Esp8266Image(fields));
    };
    fields.sha256 = Some(sha256(file));
    let mut problems = Vec::new();
    match ImageFile::parse(file) {
        Ok(parsed) => {
            fields.first = Some(describe(parsed.image()));
            if let ImageFile::WholeFlash(both) = &parsed {
                fields.first = fields.first.map(|stub| Described { format: "whole-flash", ..stub });
                fields.application = Some(describe(both.application()));
            }
            fields.trailing = parsed.program().trailing().len();
            for finding in parsed.check(&Expectations::default()) {
                let problem = finding.problem;
                let list =
                    if finding.severity == Severity::Error { &mut problems } else { &mut fields.warnings };
                list.push(Problem::new(problem.code(), problem, problem.offset().and_then(place)));
            }
        }
        Err(error) => {
            problems.push(Problem::new(error.code(), error, place(error.offset())));
            fields.first = match Image::parse(file) {
                // It is the program behind it that is damaged.
                Ok(stub) => Some(describe(&stub)),
                Err(_) => partly(file),
            };
        }
    }
    (problems, Fields::Esp8266Image(fields))
}

fn place(offset: usize) -> Option<u64> {
    u64::try_from(offset).ok()
}

fn of_header(format: &'static str, offset: usize, header: &Header) -> Described {
    let FlashParameters { mode, size, frequency, .. } = header.parameters;
    Described {
        format,
        style: None,
        offset,
        flash_mode: mode.name(),
        flash_size: size.name(),
        flash_freq: frequency.name(),
        flash_parameters: hex(&header.parameters.to_bytes()),
        entry: header.entry,
        irom: None,
        segments: Vec::new(),
        checksum: None,
        checksum_ok: false,
        crc: None,
        crc_ok: None,
        slot: None,
    }
}

fn describe(image: &Image<'_>) -> Described {
    let format = if image.format() == Format::V1 { "v1" } else { "v2" };
    let length = |data: &[u8]| u32::try_from(data.len()).unwrap_or(u32::MAX);
    Described {
        style: image.style().map(|style| match style {
            Style::Esptool => "esptool",
            Style::Sdk(_) => "sdk",
        }),
        irom: image.irom().map(|irom| Piece {
            offset: irom.offset,
            address: irom.address,
            length: length(irom.data),
        }),
        segments: image
            .segments()
            .map(|segment| Piece {
                offset: segment.offset,
                address: segment.address,
                length: length(segment.data),
            })
            .collect(),
        checksum: Some(image.stored_checksum()),
        checksum_ok: image.checksum_ok(),
        crc: image.stored_crc(),
        crc_ok: image.crc_ok(),
        slot: image.linked_slot().map(|slot| slot.number()),
        ..of_header(format, image.start(), image.header())
    }
}

/// What can be read of an image that is cut or damaged.
fn partly(file: &[u8]) -> Option<Described> {
    let header_at = |at: usize| file.get(at..)?.first_chunk().map(Header::decode);
    let piece_at = |offset: usize| {
        let raw: &[u8; 8] = file.get(offset..)?.first_chunk()?;
        let [a, b, c, d, length @ ..] = *raw;
        Some(Piece { offset, address: u32::from_le_bytes([a, b, c, d]), length: u32::from_le_bytes(length) })
    };
    let end = |piece: &Piece| {
        let length = usize::try_from(piece.length).unwrap_or(usize::MAX);
        piece.offset.saturating_add(8).saturating_add(length)
    };
    let first = header_at(0)?;
    let (mut described, mut at) = match first.magic {
        MAGIC_V1 => (of_header("v1", 0, &first), 0),
        MAGIC_V2 => {
            let irom = piece_at(8);
            let at = irom.as_ref().map_or(usize::MAX, end);
            let second = header_at(at).filter(|header| header.magic == MAGIC_V1);
            let described = of_header("v2", 0, second.as_ref().unwrap_or(&first));
            (Described { irom, ..described }, if second.is_some() { at } else { usize::MAX })
        }
        _ => return None,
    };
    // Up to the one that is damaged, with that one.
    let count = header_at(at).map_or(0, |header| header.count);
    at = at.saturating_add(Header::LEN);
    for _ in 0..count {
        let Some(piece) = piece_at(at) else { break };
        at = end(&piece);
        described.segments.push(piece);
    }
    Some(described)
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = match self.style {
            Some("sdk") => ", made by Espressif's SDK",
            _ => "",
        };
        let what = if self.format == "whole-flash" { "boot stub" } else { self.format };
        write!(f, "  image     {what}{style}")?;
        if self.offset > 0 {
            write!(f, ", at byte {:#x}", self.offset)?;
        }
        let name = |name: Option<&'static str>| name.unwrap_or("unknown");
        let [mode, size, freq] = [self.flash_mode, self.flash_size, self.flash_freq].map(name);
        write!(f, "\n  flash     {mode}, {size}, {freq} ({})", self.flash_parameters)?;
        write!(f, "\n  entry     {:#010x}", self.entry)?;
        if let Some(irom) = &self.irom {
            write!(f, "\n  irom      {} bytes", irom.length)?;
            match self.slot {
                Some(slot) => write!(f, ", linked for slot {slot}")?,
                None => f.write_str(", nothing tells for which slot")?,
            }
        }
        for segment in &self.segments {
            write!(f, "\n  segment   {:#010x}, {} bytes", segment.address, segment.length)?;
        }
        let word = |ok| if ok { "right" } else { "WRONG" };
        let Some(checksum) = self.checksum else { return f.write_str("\n  checks    checksum is missing") };
        write!(f, "\n  checks    checksum {checksum:02x} {}", word(self.checksum_ok))?;
        match (self.crc, self.crc_ok) {
            (Some(crc), Some(ok)) => write!(f, ", CRC {crc:08x} {}", word(ok)),
            _ if self.format == "v2" => f.write_str(", no CRC"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Esp8266Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "  warning   {warning}")?;
        }
        let Some(first) = &self.first else { return write!(f, "  size      {} bytes", self.size) };
        first.fmt(f)?;
        if let Some(application) = &self.application {
            write!(f, "\n{application}")?;
        }
        if self.trailing > 0 {
            write!(f, "\n  behind    {} more bytes", self.trailing)?;
        }
        write!(f, "\n  size      {} bytes", self.size)?;
        if let Some(sha256) = &self.sha256 {
            write!(f, "\n  sha256    {sha256}")?;
        }
        Ok(())
    }
}
