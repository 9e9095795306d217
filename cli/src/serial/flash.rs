//! `spark serial flash`: a module over YMODEM.

use super::PortOptions;
use super::inspect::inspect;
use super::link::{LISTEN, Link};
use super::ports;
use crate::cloud::catalogue::ModuleFile;
use crate::dfu::keep_going;
use crate::exit::{Code, Failure, chain};
use crate::files;
use crate::ui::{self, Ui};
use serde::Serialize;
use spark_ota::serial::{BAUD, BaudTrigger, Flash, FlashFailure, Identity, Question, Told};
use spark_ota::ymodem::{BlockSize, Place, SenderFailure, SenderProfile};
use std::path::PathBuf;
use std::time::Instant;

/// Platform of a Core, which has no flashing over its serial port.
const CORE: u16 = 0;

/// Options of `flash`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The module file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The device is not in listening mode but runs its application: make it wait for the file with the port's speed.
    ///
    /// It then cannot be asked what it is; its USB ids tell that.
    #[arg(long)]
    trigger: bool,
    /// Bytes of a packet.
    #[arg(long, value_name = "BYTES", default_value = "1024")]
    packet: Packet,
    /// Send it to whatever kind of device is there.
    #[arg(long)]
    force: bool,
    /// Check everything and show what would be sent, but send nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    port: PortOptions,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Packet {
    /// 128 bytes.
    #[value(name = "128")]
    Small,
    /// 1024 bytes.
    #[value(name = "1024")]
    Large,
}

/// How to flash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options<'a> {
    /// The port; `None` is the only one with a device.
    pub port: Option<&'a str>,
    /// The device runs its application: the port's speed makes it wait for the file.
    pub trigger: bool,
    /// Bytes of a packet.
    pub block_size: BlockSize,
    /// Whatever kind of device is there.
    pub force: bool,
    /// Only look.
    pub dry_run: bool,
}

impl<'a> Options<'a> {
    /// A device in listening mode at this port.
    #[must_use]
    pub const fn new(port: Option<&'a str>) -> Self {
        Self { port, trigger: false, block_size: BlockSize::Large, force: false, dry_run: false }
    }
}

/// What was sent where.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// The port.
    pub port: String,
    /// Id of the device, if it was asked.
    pub device_id: Option<String>,
    /// Its platform, if it is known.
    pub platform_id: Option<u16>,
    /// The file.
    pub file: String,
    /// What it is, such as `system part 2`.
    pub module: String,
    /// Its version.
    pub version: u16,
    /// Bytes of the module.
    pub bytes: usize,
    /// It was sent.
    pub flashed: bool,
    /// The device said in words that it has it.
    pub confirmed: bool,
    /// Packets that were sent again.
    pub resent: u32,
    /// How long it took.
    pub seconds: f64,
}

/// Flashes a module that was checked already. The device restarts afterwards.
///
/// # Errors
/// [`Failure`]: no device, a device of another kind, a transfer that failed, an image that the device refused.
pub fn flash(file: &ModuleFile, options: &Options<'_>, ui: &Ui) -> Result<Report, Failure> {
    if file.prefix.platform_id == CORE {
        return Err(Failure::new(
            Code::Usage,
            format_args!("{} is for a Core, which cannot be flashed over its serial port", file.name),
            "bring it into DFU mode and use `spark dfu download`",
        ));
    }
    let port = ports::one(options.port)?;
    let mut report = Report {
        port: port.port.clone(),
        device_id: port.serial_number.clone(),
        platform_id: port.platform_id,
        file: file.name.clone(),
        module: file.key().to_string(),
        version: file.prefix.version,
        bytes: file.image.len(),
        flashed: false,
        confirmed: false,
        resent: 0,
        seconds: 0.0,
    };
    let baud = if options.trigger { BaudTrigger::Ymodem.baud() } else { BAUD };
    if options.trigger {
        check_platform(file, &report, options)?;
        if options.dry_run {
            return Ok(report);
        }
    }
    let mut link = Link::open(&port, baud)?;
    if !options.trigger {
        let reply = link.must_tell(Question::Identity)?;
        let identity =
            Identity::parse(&reply).map_err(|error| super::identify::unclear(link.name(), error))?;
        report.device_id = Some(identity.device_id.to_owned());
        let core = if identity.core { Some(CORE) } else { None };
        report.platform_id = match inspect(&mut link) {
            Ok(inspection) => inspection.describe.platform_id.or(core),
            Err(failure) if options.force => {
                ui.note(format_args!("{}; sent all the same", failure.what()));
                core
            }
            Err(failure) => return Err(failure),
        };
        check_platform(file, &report, options)?;
        ui.note(format_args!("{} at {}", identity.device_id, port.port));
    }
    if options.dry_run {
        return Ok(report);
    }
    transfer(file, options, ui, &mut link, &mut report)?;
    Ok(report)
}

fn check_platform(file: &ModuleFile, report: &Report, options: &Options<'_>) -> Result<(), Failure> {
    let wanted = file.prefix.platform_id;
    let what = match report.platform_id {
        _ if options.force => return Ok(()),
        Some(platform) if platform == wanted => return Ok(()),
        Some(CORE) => "a Core cannot be flashed over its serial port".to_owned(),
        Some(platform) => {
            format!("{} is for platform {wanted}, and the device is platform {platform}", file.name)
        }
        None => format!("what is at {} does not tell which kind of device it is", report.port),
    };
    Err(Failure::new(Code::Usage, what, "nothing was sent; get the file for this device, or give --force"))
}

fn transfer(
    file: &ModuleFile,
    options: &Options<'_>,
    ui: &Ui,
    link: &mut Link,
    report: &mut Report,
) -> Result<(), Failure> {
    let profile = SenderProfile { block_size: options.block_size, ..SenderProfile::PARTICLE };
    let mut flash = Flash::new(link.now(), &file.image, profile)
        .map_err(|error| Failure::new(Code::Data, chain(&error), "nothing was sent"))?;
    let bar = ui.bar(&format!("{} (bytes)", report.module), u64::from(flash.progress().total));
    let began = Instant::now();
    let driven = link.drive(&mut flash, |flash, now| {
        if !keep_going() {
            flash.cancel(now);
        }
        bar.set_position(u64::from(flash.progress().taken));
    });
    bar.finish_and_clear();
    driven?;
    report.seconds = began.elapsed().as_secs_f64();
    report.resent = flash.progress().resent;
    match flash.outcome() {
        Some(Ok(flashed)) => {
            (report.flashed, report.confirmed) = (true, flashed.confirmed);
            Ok(())
        }
        Some(Err(failure)) => Err(failed(&report.port, failure)),
        None => Err(Failure::new(Code::Software, "the transfer has no result", "report this")),
    }
}

fn failed(port: &str, failure: FlashFailure) -> Failure {
    let again = "repeat the command: nothing was changed but the room for updates";
    let (code, next) = match failure {
        FlashFailure::Refused { told: Told::Invalid { .. }, .. }
        | FlashFailure::Transfer(SenderFailure::CancelledByReceiver { place: Place::LastPacket }) => (
            Code::Protocol,
            "see `spark serial inspect` for what the device has: the module may need newer ones first, in the order \
             bootloader, system part 1, system part 2; otherwise repeat the command",
        ),
        FlashFailure::Refused { told: Told::TooLong, .. }
        | FlashFailure::Transfer(SenderFailure::CancelledByReceiver { place: Place::Header }) => {
            (Code::Protocol, "the device has no room for it: check that the file is for this kind of device")
        }
        FlashFailure::Transfer(SenderFailure::NotAsked) => (Code::Unavailable, LISTEN),
        FlashFailure::Transfer(_) => (Code::Io, again),
        _ => (Code::Protocol, again),
    };
    Failure::new(code, format_args!("{port}: {}", chain(&failure)), next)
}

/// `spark serial flash`.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let name = args.file.file_name().unwrap_or_default().to_string_lossy();
    let file = ModuleFile::only(&name, &files::read(&args.file)?)?;
    let ui = args.port.ui();
    let block_size = if args.packet == Packet::Small { BlockSize::Small } else { BlockSize::Large };
    let options = Options {
        port: args.port.port.as_deref(),
        trigger: args.trigger,
        block_size,
        force: args.force,
        dry_run: args.dry_run,
    };
    let report = flash(&file, &options, &ui)?;
    if args.port.json {
        return ui::print(serde_json::to_string(&report).unwrap_or_default());
    }
    let Report { module, version, bytes, port, seconds, .. } = &report;
    if !report.flashed {
        let packets = bytes.div_ceil(block_size.bytes());
        return ui::print(format_args!(
            "{module} version {version}, {bytes} bytes in {packets} packets, would be sent to {port}"
        ));
    }
    let seen = if report.confirmed { "the device has it" } else { "the device took it without a word" };
    ui::print(format_args!(
        "{module} version {version}, {bytes} bytes in {seconds:.1} s: {seen}, restarts and puts it in its place"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic;

    fn report(platform_id: Option<u16>) -> Report {
        Report {
            port: "/dev/ttyACM0".to_owned(),
            device_id: None,
            platform_id,
            file: String::new(),
            module: String::new(),
            version: 1,
            bytes: 1,
            flashed: false,
            confirmed: false,
            resent: 0,
            seconds: 0.0,
        }
    }

    #[test]
    fn only_devices_of_the_same_kind_get_a_module() {
        let file = synthetic::application().unwrap();
        let options = Options::new(None);
        assert!(check_platform(&file, &report(Some(6)), &options).is_ok());
        for platform in [None, Some(CORE), Some(8), Some(10)] {
            let failure = check_platform(&file, &report(platform), &options).unwrap_err();
            assert_eq!(failure.code(), Code::Usage, "{failure}");
            assert!(check_platform(&file, &report(platform), &Options { force: true, ..options }).is_ok());
        }
    }

    #[test]
    fn modules_of_a_core_are_refused_before_a_port_is_opened() {
        let mut file = synthetic::application().unwrap();
        file.prefix.platform_id = CORE;
        let failure = flash(&file, &Options::new(Some("/nowhere")), &Ui::new(true)).unwrap_err();
        assert!(failure.what().contains("Core") && failure.next().contains("dfu"), "{failure}");
    }

    #[test]
    fn every_failure_says_what_to_do() {
        for (failure, code) in [
            (FlashFailure::Transfer(SenderFailure::NotAsked), Code::Unavailable),
            (FlashFailure::Transfer(SenderFailure::Unanswered { place: Place::Block(3) }), Code::Io),
            (FlashFailure::Refused { told: Told::Invalid { code: -240 }, transfer: None }, Code::Protocol),
            (FlashFailure::Refused { told: Told::TooLong, transfer: None }, Code::Protocol),
            (FlashFailure::Refused { told: Told::NotSaved, transfer: None }, Code::Protocol),
        ] {
            let failed = failed("/dev/ttyACM0", failure);
            assert_eq!(failed.code(), code, "{failed}");
            assert!(failed.what().starts_with("/dev/ttyACM0: ") && !failed.next().is_empty());
        }
    }
}
