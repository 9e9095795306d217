//! Puts the parts of a firmware into one DfuSe file, and checks it the way a flashing tool would before it begins.
//!
//! ```text
//! cargo run -p spark-dfu --example make_dfuse_file
//! ```

use core::error::Error;
use spark_dfu::descriptor::Description;
use spark_dfu::file::dfuse::{DfuSeFile, Element, Event, Image, ParseOptions, Reader, TargetImage};
use spark_dfu::file::suffix::UsbIds;
use spark_dfu::file::{Kind, recognise};
use spark_dfu::host::{Plan, WriteOptions};
use spark_dfu::layout::MemoryLayout;

fn main() -> Result<(), Box<dyn Error>> {
    // Two parts of the system for the internal flash, and a key for the configuration table.
    let (part1, part2, key) = (vec![0x11; 70_000], vec![0x22; 90_000], [0x30; 612]);
    let flash =
        [Element { address: 0x0802_0000, data: &part1 }, Element { address: 0x0806_0000, data: &part2 }];
    let table = [Element { address: 34, data: &key }];
    let targets = [
        TargetImage { alternate: 0, name: Some(b"Internal Flash"), elements: &flash },
        TargetImage { alternate: 1, name: Some(b"DCT Flash"), elements: &table },
    ];
    let image = Image::new(0x2B04, 0xD006, &targets);
    let mut buffer = vec![0; image.encoded_len()?];
    let bytes = image.encode_into(&mut buffer)?;
    println!("{} bytes with {} targets", bytes.len(), DfuSeFile::parse(bytes)?.targets().len());

    // First pass, here in pieces as they come from a disk: is all of it there, for this device, and inside its memory?
    let mut reader = Reader::new(ParseOptions::STRICT);
    let mut layout = None;
    for mut piece in bytes.chunks(4096) {
        while let Some(event) = reader.read(&mut piece)? {
            match event {
                Event::Target(target) => {
                    let text = Description::PHOTON_ALTERNATES
                        .get(usize::from(target.alternate()))
                        .ok_or("the device has no such alternate setting")?;
                    layout = Some(MemoryLayout::parse(text.as_bytes())?);
                }
                Event::Element { address, size, .. } => {
                    let layout = layout.as_ref().ok_or("an element comes after its target")?;
                    let plan = Plan::write(layout, address, usize::try_from(size)?, WriteOptions::DEFAULT)?;
                    println!("{size} bytes at {address:#010x}, {} pages to erase", plan.units().count());
                }
                _ => {}
            }
        }
    }
    let end = reader.finish()?;
    let photon = UsbIds { id_vendor: 0x2B04, id_product: 0xD006 };
    println!("for the Photon: {}", end.suffix.suffix.matches(None, photon));

    // A damaged copy is never taken for a raw image.
    buffer[1000] ^= 1;
    if let Kind::DfuSeDamaged { reason } = recognise(&buffer) {
        println!("damaged: {reason}: {}", reason.source().map(ToString::to_string).unwrap_or_default());
    }
    Ok(())
}
