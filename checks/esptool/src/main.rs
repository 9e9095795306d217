//! Writes ESP8266 images of every kind that we build, patched ones and damaged ones, each with what we read in it, for
//! `check.py`.

use serde_json::{Value, json};
use spark_ota::esp8266::{
    Expectations, FlashFrequency, FlashMode, FlashParameters, FlashSize, Format, Image, ImageBuilder,
    ImageFile, MAX_SEGMENTS, Patch, Purpose, Slot,
};
use std::error::Error;
use std::path::{Path, PathBuf};

/// Bytes that depend on their position and on the number of the piece.
fn content(len: usize, number: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 256 * 7 + number * 13 + 7) as u8).collect()
}

fn all_parameters() -> Vec<FlashParameters> {
    let mut all = Vec::new();
    for mode in FlashMode::KNOWN {
        for size in FlashSize::KNOWN {
            for frequency in FlashFrequency::KNOWN {
                all.push(FlashParameters { mode: *mode, size: *size, frequency: *frequency });
            }
        }
    }
    all
}

/// The kinds of images.
#[derive(Clone, Copy, Debug)]
enum Kind {
    V1,
    V2,
    V2NoTrailer,
    Sdk(Slot),
}

const KINDS: [Kind; 5] =
    [Kind::V1, Kind::V2, Kind::V2NoTrailer, Kind::Sdk(Slot::User1), Kind::Sdk(Slot::User2)];

/// An image with this many segments; `None` if it would be one that nobody can tell apart.
fn build(kind: Kind, parameters: FlashParameters, count: usize) -> Result<Option<Vec<u8>>, Box<dyn Error>> {
    let contents: Vec<_> = (0..count).map(|number| content(4 + number * 20 % 300, number)).collect();
    let address = |number: u32| if number == 0 { 0x4010_0000 } else { 0x3ffe_8000 + number * 0x200 };
    let segments: Vec<_> =
        (0..).zip(&contents).map(|(number, content)| (address(number), &content[..])).collect();
    let irom = content(100 + count * 33, 99);
    let builder = match kind {
        Kind::V1 => ImageBuilder::v1(parameters, 0x4010_0004),
        Kind::V2 => ImageBuilder::v2(parameters, 0x4010_0004, &irom),
        Kind::V2NoTrailer => ImageBuilder::v2(parameters, 0x4010_0004, &irom).without_trailer(),
        Kind::Sdk(slot) if parameters.to_bytes() == [0, slot.number()] => return Ok(None),
        Kind::Sdk(slot) => ImageBuilder::v2(parameters, 0x4010_0004, &irom).sdk(slot),
    };
    Ok(Some(builder.segments(&segments).build()?))
}

struct Output {
    folder: PathBuf,
    cases: Vec<Value>,
}

impl Output {
    /// Writes the file and notes what we read in it.
    fn put(&mut self, what: &str, file: &[u8]) -> Result<(), Box<dyn Error>> {
        let image = Image::parse(file)?;
        let name = format!("{:04}.bin", self.cases.len());
        std::fs::write(self.folder.join(&name), file)?;
        let pieces = image.irom().map(|irom| json!([irom.address, irom.data.len(), irom.offset]));
        let segments =
            image.segments().map(|segment| json!([segment.address, segment.data.len(), segment.offset]));
        let parameters = image.parameters();
        let expectations = Expectations { purpose: Purpose::Any, strict: true };
        let error = ImageFile::parse(file)?.check(&expectations).error();
        self.cases.push(json!({
            "file": name,
            "what": what,
            "version": if image.format() == Format::V1 { 1 } else { 2 },
            "entry": image.entry(),
            "mode": parameters.mode.name(),
            "size": parameters.size.name(),
            "freq": parameters.frequency.name(),
            "segments": pieces.into_iter().chain(segments).collect::<Vec<_>>(),
            "checksum": image.stored_checksum(),
            "computed": image.computed_checksum(),
            "crc": image.stored_crc(),
            "crc_computed": image.computed_crc(),
            "crc_covers": image.checksum_offset() + 1,
            "headers_differ": image.first_header().parameters != parameters,
            "error": error.map(|finding| finding.problem.code()),
        }));
        Ok(())
    }
}

fn generate(folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut output = Output { folder: folder.to_owned(), cases: Vec::new() };
    let set = |parameters: FlashParameters| Patch {
        mode: Some(parameters.mode),
        size: Some(parameters.size),
        frequency: Some(parameters.frequency),
    };
    for (number, parameters) in all_parameters().into_iter().enumerate() {
        for kind in KINDS {
            let most = if matches!(kind, Kind::V1) { MAX_SEGMENTS } else { MAX_SEGMENTS - 1 };
            let count = 1 + number % most;
            let Some(file) = build(kind, parameters, count)? else { continue };
            output.put(&format!("built {kind:?}, {parameters}, {count} segments"), &file)?;

            // From anything else to the same.
            let other = FlashParameters::from_bytes([(parameters.mode.byte() + 1) % 4, 0x43]);
            let Some(mut patched) = build(kind, other, count)? else { continue };
            if set(parameters).apply(&mut patched).is_ok() {
                if patched != file {
                    return Err(format!("{kind:?} patched to {parameters} is not the one built").into());
                }
                output.put(&format!("patched {kind:?}, {parameters}"), &patched)?;
            }
        }
    }
    for kind in KINDS {
        for count in [1, 3, 15] {
            let Some(file) = build(kind, FlashParameters::SONOFF, count)? else { continue };
            let image = Image::parse(&file)?;
            let (checksum, last) = (image.checksum_offset(), image.segments().last());
            let data = last.map_or(0, |last| last.offset + 8);
            for (what, at) in [("checksum", checksum), ("data", data)] {
                let mut damaged = file.clone();
                damaged[at] ^= 0x20;
                output.put(&format!("damaged {what} of {kind:?}"), &damaged)?;
            }
        }
    }
    std::fs::write(folder.join("cases.json"), serde_json::to_string(&output.cases)?)?;
    println!("{} images", output.cases.len());
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: esptool-check FOLDER")?;
    generate(Path::new(&folder))
}
