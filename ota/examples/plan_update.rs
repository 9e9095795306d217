//! Plans the update of a Photon from Device OS 0.7.0 to 2.2.0 and sends it, module by module, to a device in memory.
//!
//! The modules are built here: same headers as the released ones, made-up content.
//!
//! ```text
//! cargo run -p spark-ota --features alloc --example plan_update
//! ```

use core::error::Error;
use core::time::Duration;
use spark_ota::module::{
    Candidate, Dependency, DependencyRule, FlashLayout, Installed, Module, ModuleBuilder, ModuleFunction,
    Rules, Store, validate,
};
use spark_ota::resolve::{CatalogueEntry, Request, Step, next_step, plan};
use spark_ota::transfer::{Options, Profile, Receiver, ReceiverOutput, Sender, SenderInput, SenderOutput};

const PHOTON: u16 = 6;
const NONE: Dependency = Dependency::NONE;

fn main() -> Result<(), Box<dyn Error>> {
    let files = [
        build(
            ModuleFunction::System,
            2,
            2202,
            [Dependency::system(1, 2202), Dependency::bootloader(1003)],
            260_840,
        )?,
        build(ModuleFunction::System, 1, 2202, [Dependency::system(2, 207), NONE], 250_956)?,
        build(ModuleFunction::Bootloader, 0, 1005, [NONE; 2], 15_124)?,
    ];
    let mut catalogue = Vec::new();
    for file in &files {
        catalogue.push(CatalogueEntry::from(&Module::parse(file)?));
    }
    // From the device's Describe; see `spark_ota::describe`.
    let mut installed = vec![
        Installed::main(ModuleFunction::Bootloader, 0, 7, [NONE; 2]),
        Installed::main(ModuleFunction::System, 1, 207, [NONE; 2]),
        Installed::main(ModuleFunction::System, 2, 207, [Dependency::system(1, 207), NONE]),
        Installed::main(ModuleFunction::User, 1, 6, [Dependency::system(2, 1404), NONE]),
    ];

    println!("The plan:");
    for step in plan(&Request::new(PHOTON, &installed, &catalogue))? {
        println!("  {step}");
    }
    println!("Running it:");
    loop {
        match next_step(&Request::new(PHOTON, &installed, &catalogue)) {
            Step::Flash(step) => {
                let image = files.get(step.entry).ok_or("no such file")?;
                let flash = transfer(image)?;
                let module = accept(&flash, &installed)?;
                installed.retain(|old| old.key() != module.key());
                installed.push(module);
                println!("  {} version {}: {} bytes", step.key, step.version, image.len());
            }
            Step::Done => break,
            Step::Impossible(reason) => return Err(reason.into()),
            _ => return Err("a step that this program does not know".into()),
        }
    }
    println!("The device has all it needs.");
    Ok(())
}

fn build(
    function: ModuleFunction,
    index: u8,
    version: u16,
    dependencies: [Dependency; 2],
    file_len: usize,
) -> Result<Vec<u8>, Box<dyn Error>> {
    let builder = ModuleBuilder::new(PHOTON, function, index, version)
        .depends_on(dependencies)
        .vector_table(0x2002_0000);
    let len = builder.body_len(file_len).ok_or("too short for a module")?;
    let body: Vec<u8> =
        (0..len).map(|at| at.to_le_bytes().into_iter().fold(index, u8::wrapping_add)).collect();
    Ok(builder.body(&body).build()?)
}

/// Both ends of a fast transfer over a perfect link; what the device has in its OTA region then.
fn transfer(image: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let region = FlashLayout::PHOTON.ota;
    let mut flash = vec![0xff; usize::try_from(region.size)?];
    let mut sender = Sender::new(image, Options::DEFAULT)?;
    let mut receiver = Receiver::<128>::new(Profile::C4, region.size);
    let now = Duration::ZERO;
    while sender.outcome().is_none() {
        // What the network would carry.
        let mut data = Vec::new();
        match sender.poll_output(now).ok_or("the sender waits for ever")? {
            SenderOutput::Begin(begin) => receiver.handle_begin(begin),
            SenderOutput::Chunk { chunk, fast } => {
                data.extend(chunk.data);
                data.resize(data.len() + usize::from(chunk.padding), 0);
                receiver.handle_chunk(now, fast.then_some(chunk.index), chunk.crc(), &data);
            }
            SenderOutput::Done => receiver.handle_done(),
            _ => return Err("an output that this program does not know".into()),
        }
        while let Some(output) = receiver.poll_output() {
            match output {
                ReceiverOutput::Save { offset, len } => {
                    let start = usize::try_from(offset)?;
                    let place = flash.get_mut(start..start + len).ok_or("outside the region")?;
                    place.copy_from_slice(data.get(..len).ok_or("short chunk")?);
                    receiver.work_done(now, true);
                }
                ReceiverOutput::Ready { fast } => sender.handle_input(now, SenderInput::Ready { fast }),
                ReceiverOutput::ChunkReceived { good } => {
                    sender.handle_input(now, SenderInput::ChunkReceived { good });
                }
                ReceiverOutput::DoneAnswer { complete, result } => {
                    sender.handle_input(now, SenderInput::DoneAnswered { complete, result });
                }
                ReceiverOutput::Check(_) | ReceiverOutput::Prepare(_) => receiver.work_done(now, true),
                ReceiverOutput::Validate(_) => {
                    let valid = Module::parse(&flash).is_ok_and(|module| module.crc_ok());
                    receiver.work_done(now, valid);
                }
                _ => {}
            }
        }
    }
    sender.outcome().ok_or("no outcome")??;
    Ok(flash)
}

/// What the device does with the image before it copies it to its place.
fn accept(flash: &[u8], installed: &[Installed]) -> Result<Installed, Box<dyn Error>> {
    let module = Module::parse(flash)?;
    let prefix = module.prefix();
    let slot =
        FlashLayout::PHOTON.slot(prefix.function, prefix.index, Store::Main).ok_or("no place for it")?;
    let candidate = Candidate { prefix, crc_ok: module.crc_ok(), region: slot.region, platform_id: PHOTON };
    let validation = validate(&candidate, installed, Rules::ota(DependencyRule::Both, true));
    if !validation.is_valid() {
        return Err(format!("the device refuses the module: {:?}", validation.failed()).into());
    }
    Ok(Installed::from_prefix(prefix, Store::Main, true))
}
