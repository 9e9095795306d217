//! Writes a file with the crate dfu-libusb, as its own example does: `dfu-libusb VENDOR PRODUCT ALTERNATE ADDRESS FILE`,
//! numbers in hex.

use std::error::Error;
use std::fs;

use dfu_libusb::DfuLibusb;
use rusb::Context;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [vendor, product, alternate, address, file] = &arguments[..] else {
        return Err("usage: dfu-libusb VENDOR PRODUCT ALTERNATE ADDRESS FILE (numbers in hex)".into());
    };
    let vendor = u16::from_str_radix(vendor, 16)?;
    let product = u16::from_str_radix(product, 16)?;
    let alternate = u8::from_str_radix(alternate, 16)?;
    let mut device = DfuLibusb::open(&Context::new()?, vendor, product, 0, alternate)?;
    device.override_address(u32::from_str_radix(address, 16)?);
    let image = fs::read(file)?;
    // The device that is left over has to be reset.
    if let Some(device) = device.download_from_slice(&image)? {
        device.usb_reset()?;
    }
    println!("written");
    Ok(())
}
