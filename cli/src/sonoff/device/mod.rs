//! `spark sonoff device`.

pub mod flash;

mod final_stage;
mod link;
mod report;
mod vendor;

use super::tls::{Connector, Knows, Version as TlsVersion};
use crate::exit::{Code, Failure, chain};
use crate::files;
use core::time::Duration;
use flash::Flash;
use link::Links;
use report::Report;
use serde_json::json;
use spark_ota::sonoff::device::{Identity, Profile};
use spark_ota::sonoff::provisioning::Access;
use spark_ota::sonoff::upgrade::Slot;
use spark_ota::sonoff::{ApiKey, DeviceId, Model, Version};
use std::path::PathBuf;
use tokio::net::TcpListener;
use tokio::time::Instant;

/// Simulate a Sonoff against any server.
///
/// It does what a device of its generation does, over real sockets: without --server it opens its "access point", where
/// `spark sonoff provision --at` tells it a server; then it asks that server, registers, waits for an upgrade, downloads the image into
/// its flash, checks it, and starts it if it would start on a real one. Then it comes back with another version (--new-rom-version),
/// or, with --final-stage, it is the intermediate image that gets a final one. There it ends.
///
/// Exit code 0: the new image runs (or it was interrupted). 65: an image was installed that does not start. 69: it did not come
/// so far in time, or the access point was not used. 74: a connection broke where the device cannot go on.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Firmware generation: 1.2 to 1.5.2 (old), 1.5.5 and 2.0.x (ranges), later, or one that takes the vendor's certificate only.
    #[arg(long, value_enum, default_value = "ranges")]
    profile: Generation,
    /// Its id; without this option, a random one.
    #[arg(long, value_name = "ID", value_parser = DeviceId::new)]
    id: Option<DeviceId>,
    /// Its factory key, 36 characters; without this option, a random one. It is never shown.
    #[arg(long, value_name = "KEY", value_parser = ApiKey::new, hide_default_value = true)]
    key: Option<ApiKey>,
    /// Its model.
    #[arg(long, value_name = "MODEL", value_parser = Model::new, default_value = "ITA-GZ1-GL")]
    model: Model,
    /// Its firmware; without this option, one of its generation.
    #[arg(long, value_name = "VERSION", value_parser = Version::new)]
    rom_version: Option<Version>,
    /// The slot that it runs from.
    #[arg(long, value_enum, default_value = "user1")]
    running: Running,

    /// Host and port of the server: the device knows its network already.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "ap")]
    server: Option<String>,
    /// Address of the access point's HTTP server; the one of a real device is 10.10.7.1:80. It is printed.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    ap: String,
    /// Firmware without TLS.
    #[arg(long)]
    plain: bool,
    /// The newest TLS that it knows.
    #[arg(long, value_enum, value_name = "VERSION", default_value = "1.2", conflicts_with = "plain")]
    tls_max: TlsMax,

    /// What an installed image does once it runs.
    #[arg(long, value_enum, default_value = "rom-version")]
    boots: Boots,
    /// Version with which the device comes back when the image runs.
    #[arg(long, value_name = "VERSION", value_parser = Version::new, default_value = "9.9.9")]
    new_rom_version: Version,
    /// The same as --boots final-stage.
    #[arg(long, conflicts_with = "boots")]
    final_stage: bool,
    /// Where the intermediate image looks for its server.
    #[arg(long, value_name = "HOST:PORT", default_value = "192.168.4.2:8080")]
    final_server: String,
    /// Leave out the ten seconds that the intermediate image blinks at every start.
    #[arg(long)]
    hurry: bool,

    /// Flash of 1 MiB: read if it is there, and written at the end.
    #[arg(long, value_name = "FILE")]
    flash: Option<PathBuf>,
    /// Lose the first download after so many bytes.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    lose_after: Option<u32>,
    /// Milliseconds that the network adds to every way there and back.
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=60_000))]
    latency: u64,
    /// End after so many seconds; without this option it tries for ever, as a device does.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    give_up_after: Option<u64>,
    /// One JSON object a line on standard output for everything that happens.
    #[arg(long)]
    json: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Generation {
    Old,
    Ranges,
    Later,
    Pinned,
}

impl Generation {
    const fn profile(self) -> Profile {
        match self {
            Self::Old => Profile::OLD,
            Self::Ranges => Profile::RANGES,
            Self::Later => Profile::LATER,
            Self::Pinned => Profile::PINNED,
        }
    }

    const fn version(self) -> &'static str {
        match self {
            Self::Old => "1.5.2",
            Self::Ranges => "1.5.5",
            Self::Later => "2.1.0",
            Self::Pinned => "2.6.0",
        }
    }
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Running {
    User1,
    User2,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum TlsMax {
    #[value(name = "1.0")]
    Tls10,
    #[value(name = "1.1")]
    Tls11,
    #[value(name = "1.2")]
    Tls12,
}

impl TlsMax {
    const fn version(self) -> TlsVersion {
        match self {
            Self::Tls10 => TlsVersion::Tls10,
            Self::Tls11 => TlsVersion::Tls11,
            Self::Tls12 => TlsVersion::Tls12,
        }
    }
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Boots {
    /// It is firmware of the same kind, with another version.
    RomVersion,
    /// It is the intermediate image.
    FinalStage,
    /// It does not start, though nothing is wrong with it.
    Nothing,
}

/// What is the same for all that runs on the device.
struct Simulation {
    flash: Flash,
    links: Links,
    report: Report,
    started: Instant,
    /// Time that was left out.
    skipped: Duration,
    until: Option<Instant>,
}

/// Why it stopped where it was.
enum Stop {
    Interrupted,
    Failed(Failure),
}

impl Simulation {
    fn now(&self) -> Duration {
        self.started.elapsed().saturating_add(self.skipped)
    }

    /// When a deadline of a machine is.
    fn instant(&self, deadline: Duration) -> Instant {
        self.started.checked_add(deadline.saturating_sub(self.skipped)).unwrap_or_else(Instant::now)
    }

    /// The person's patience has ended, with the last trouble there was.
    fn given_up(&self, doing: &str, trouble: Option<&str>) -> Stop {
        let trouble = trouble.map(|trouble| format!("; last: {trouble}")).unwrap_or_default();
        Stop::Failed(Failure::new(
            Code::Unavailable,
            format_args!("{}: no end in time, {doing}{trouble}", self.report.id),
            "look at what the server says, or wait longer with --give-up-after",
        ))
    }
}

/// Cuts `HOST:PORT`.
fn address(text: &str) -> Result<(&str, u16), Failure> {
    let cut = text.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains(':'));
    let cut = cut.and_then(|(host, port)| Some((host, port.parse().ok().filter(|port| *port != 0)?)));
    cut.ok_or_else(|| {
        Failure::new(
            Code::Usage,
            format_args!("{text:?} is no address"),
            "give a name or an IPv4 address, and a port: 192.168.1.10:8443",
        )
    })
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let running = match args.running {
        Running::User1 => Slot::User1,
        Running::User2 => Slot::User2,
    };
    let version =
        |text| Version::new(text).map_err(|error| Failure::new(Code::Software, error, "report this"));
    let id = args.id.map_or_else(|| DeviceId::new(&format!("1000{:06x}", rand::random::<u32>() >> 8)), Ok);
    let identity = Identity {
        device_id: id.map_err(|error| Failure::new(Code::Software, error, "report this"))?,
        factory_key: args.key.clone().unwrap_or_else(|| ApiKey::from_random(rand::random())),
        model: args.model,
        rom_version: args.rom_version.map_or_else(|| version(args.profile.version()), Ok)?,
        running,
    };
    let mut profile = args.profile.profile();
    profile.plain = args.plain;
    let access = match &args.server {
        Some(server) => {
            let (host, port) = address(server)?;
            let access = Access::new("simulated", "", host, port);
            Some(access.map_err(|error| Failure::new(Code::Usage, chain(&error), "see --server"))?)
        }
        None => None,
    };
    let (host, port) = address(&args.final_server)?;
    let final_server = (host.to_owned(), port);
    let connector = if args.plain {
        None
    } else {
        let knows = Knows { max: args.tls_max.version(), pins_certificate: profile.pins_certificate };
        Some(Connector::new(knows).map_err(|error| error.failure())?)
    };
    if let Some(path) = &args.flash {
        files::check_write(path)?;
    }
    let flash = match &args.flash {
        Some(path) if path.exists() => Flash::read(path)?,
        _ => Flash::new(running)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::new(Code::Software, format_args!("cannot start: {error}"), "free some memory or threads")
    })?;
    let (flash, result) = runtime.block_on(async {
        let lose_after = args.lose_after.and_then(|bytes| usize::try_from(bytes).ok());
        let started = Instant::now();
        let mut simulation = Simulation {
            flash,
            links: Links::new(connector, lose_after, Duration::from_millis(args.latency)),
            report: Report { id: identity.device_id, json: args.json },
            started,
            skipped: Duration::ZERO,
            until: args.give_up_after.and_then(|seconds| started.checked_add(Duration::from_secs(seconds))),
        };
        let result = tokio::select! {
            result = live(&mut simulation, args, identity, profile, access, final_server) => result,
            () = crate::interrupt::interrupted() => Err(Stop::Interrupted),
        };
        simulation.links.close_all();
        (simulation.flash, result)
    });
    // Tasks that still say goodbye have a moment.
    runtime.shutdown_timeout(Duration::from_millis(200));
    if let Some(path) = &args.flash {
        files::write_atomically(path, flash.bytes())?;
    }
    match result {
        Ok(()) | Err(Stop::Interrupted) => Ok(()),
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

/// From the first start to the end.
async fn live(
    simulation: &mut Simulation,
    args: &Args,
    identity: Identity,
    profile: Profile,
    access: Option<Access>,
    final_server: (String, u16),
) -> Result<(), Stop> {
    let listener = match &access {
        Some(_) => None,
        None => Some(access_point(simulation.report, &args.ap).await?),
    };
    let mut device = vendor::start(simulation.now(), identity.clone(), profile, access);
    let installed =
        vendor::until_reboot(simulation, &mut device.machine, listener, &mut device.access).await?;
    let nothing = args.boots == Boots::Nothing && !args.final_stage;
    let boots = match simulation.flash.boots(installed) {
        Ok(()) if nothing => Err("it was told not to start".to_owned()),
        Ok(()) => Ok(()),
        Err(error) => Err(error.to_string()),
    };
    let report = simulation.report;
    if let Err(reason) = boots {
        let fields = json!({ "slot": installed.file_name(), "boots": false, "reason": reason });
        report.tell(format_args!("the image in {installed} does not start: {reason}"), "booted", fields);
        vendor::come_back(simulation, identity, profile, device.access).await?;
        return Err(Stop::Failed(Failure::new(
            Code::Data,
            format_args!("{}: the image was installed and does not start: {reason}", report.id),
            "check both images with `spark sonoff check`",
        )));
    }
    if args.final_stage || args.boots == Boots::FinalStage {
        let fields = json!({ "slot": installed.file_name(), "boots": true, "as": "final-stage" });
        report.tell(format_args!("{installed} starts: the intermediate image"), "booted", fields);
        return final_stage::run(simulation, installed, &final_server, args.hurry).await;
    }
    let fields =
        json!({ "slot": installed.file_name(), "boots": true, "rom_version": args.new_rom_version.as_str() });
    let text = format_args!("{installed} starts: firmware {}", args.new_rom_version.as_str());
    report.tell(text, "booted", fields);
    let identity = Identity { rom_version: args.new_rom_version, running: installed, ..identity };
    vendor::come_back(simulation, identity, profile, device.access).await?;
    report.tell("done: the new firmware is registered", "done", json!({}));
    Ok(())
}

async fn access_point(report: Report, address: &str) -> Result<TcpListener, Stop> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, address))
    };
    let (listener, address) = bound.await.map_err(|error| {
        Stop::Failed(Failure::new(
            Code::Io,
            format_args!("cannot listen on {address}: {error}"),
            "give another address with --ap",
        ))
    })?;
    let text =
        format_args!("access point at {address}; `spark sonoff provision --at {address}` finds it there");
    report.tell(text, "access-point", json!({ "address": address.to_string() }));
    Ok(listener)
}
