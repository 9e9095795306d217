//! What people do with a Photon, over rusb.

use std::error::Error;
use std::fs;

use dfu_rusb::{Bus, Found};
use rusb::GlobalContext;
use spark_dfu::descriptor::Mode;
use spark_dfu::host::{
    Connect, ControlTransfer, Detach, Download, Element, EraseMode, Leave, Machine, Plan, ReadPlan, Upload,
    WriteOptions, drive, plain,
};
use spark_dfu::layout::MemoryLayout;

const USAGE: &str = "usage: dfu list | detach | write ALTERNATE ADDRESS FILE | read ALTERNATE ADDRESS LENGTH FILE | \
                     reset-and-read ALTERNATE ADDRESS LENGTH FILE | leave ADDRESS   (numbers in decimal, addresses in hex)";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let found = Found::first(&GlobalContext::default())?;
    match arguments[..] {
        ["list"] => list(&found),
        ["detach"] => {
            let mut detach = Detach::new(found.link);
            run(&mut open(&found, 0)?, &mut detach)?;
            println!("{:?}", detach.outcome());
        }
        ["write", alternate, address, file] => {
            write(&found, alternate.parse()?, hex(address)?, &fs::read(file)?)?;
        }
        [command @ ("read" | "reset-and-read"), alternate, address, length, file] => {
            let mut bytes = vec![0; length.parse()?];
            let alternate = alternate.parse()?;
            let mut bus = open(&found, alternate)?;
            if command == "reset-and-read" {
                bus.reset_bus()?;
            }
            read(&mut bus, &found, alternate, hex(address)?, &mut bytes)?;
            fs::write(file, bytes)?;
        }
        ["leave", address] => {
            let mut leave = Leave::new(found.link, Some(hex(address)?));
            let mut bus = open(&found, 0)?;
            run(&mut bus, &mut Connect::new(found.link))?;
            run(&mut bus, &mut leave)?;
            println!("{:?}", leave.outcome());
        }
        _ => return Err(USAGE.into()),
    }
    Ok(())
}

type AnyFound = Found<GlobalContext>;
type AnyBus = Bus<GlobalContext>;

fn list(found: &AnyFound) {
    let mode = if found.mode == Mode::Dfu { "DFU mode" } else { "run-time mode" };
    println!("{:04x}:{:04x} {mode}", found.id_vendor, found.id_product);
    for (number, memory) in found.memories.iter().enumerate() {
        println!("{number} {memory}");
    }
}

fn write(found: &AnyFound, alternate: u8, address: u32, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let link = found.link;
    let mut bus = open(found, alternate)?;
    run(&mut bus, &mut Connect::new(link))?;
    if !link.is_dfuse() {
        let buffer = vec![0; usize::from(link.block_size())];
        let image = Element { address: 0, data: bytes };
        let mut download = plain::Download::new(link, image, bytes.len(), buffer)?;
        run(&mut bus, &mut download)?;
        println!("{:?}", download.outcome());
        return Ok(());
    }
    let layout = layout(found, alternate)?;
    let erase = if link.quirks.erase_is_void(alternate) { EraseMode::None } else { EraseMode::Pages };
    let options = WriteOptions { erase, verify: true, ..WriteOptions::DEFAULT };
    let plan = Plan::write(&layout, address, bytes.len(), options)?;
    let buffer = vec![0; plan.buffer_len(link.transfer_size)];
    run(&mut bus, &mut Download::new(link, &plan, Element { address, data: bytes }, buffer)?)
}

fn read(
    bus: &mut AnyBus,
    found: &AnyFound,
    alternate: u8,
    address: u32,
    bytes: &mut [u8],
) -> Result<(), Box<dyn Error>> {
    let plan = ReadPlan::new(&layout(found, alternate)?, address, bytes.len())?;
    run(bus, &mut Connect::new(found.link))?;
    run(bus, &mut Upload::new(found.link, &plan, bytes)?)
}

fn layout(found: &AnyFound, alternate: u8) -> Result<MemoryLayout<'_>, Box<dyn Error>> {
    let text = found.memories.get(usize::from(alternate)).ok_or("there is no such alternate setting")?;
    Ok(MemoryLayout::parse(text.as_bytes())?)
}

fn open(found: &AnyFound, alternate: u8) -> Result<AnyBus, Box<dyn Error>> {
    Ok(Bus::open(&found.device, found.interface, alternate)?)
}

fn run(bus: &mut AnyBus, machine: &mut dyn Machine) -> Result<(), Box<dyn Error>> {
    Ok(drive(machine, bus, &mut [0; 4096], |_| ())?)
}

fn hex(text: &str) -> Result<u32, Box<dyn Error>> {
    Ok(u32::from_str_radix(text.trim_start_matches("0x"), 16)?)
}
