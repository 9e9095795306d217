//! `spark device`: simulated Photons against any server.

use super::fleet::{Fleet, Orders, Watch};
use super::members;
use super::program::{self, FunctionOption, Periodic, VariableOption};
use super::report::Report;
use super::serial;
use crate::exit::{Code, Failure};
use crate::ui::say;
use coap_spark::handshake::DeviceId;
use core::time::Duration;
use spark_sim::Firmware;
use std::path::PathBuf;
use tokio::time::interval;

/// More devices than this are told of in a line now and then.
const TOLD_ONE_BY_ONE: usize = 20;
/// From one of these lines to the next.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(5);

/// Runs simulated Photons that connect to a server.
///
/// On the first start it makes a device in DIR: device.json with its id, flash.bin with keys and modules, its key pair
/// as PEM files; the server needs the public one. It connects again and again, takes updates and keeps its flash and
/// what is in it (in device.json) up to date. With --count it makes that many, in DIR/0001, DIR/0002 and so on, and
/// runs all of them; each folder can be run alone later.
#[derive(Clone, Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "options of a command line")]
pub struct Args {
    /// Host and port of the server; without it the address in the device's flash.
    #[arg(long, value_name = "ADDR")]
    pub connect: Option<String>,
    /// Folder of the device or of the fleet; made if it is missing.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The server's public key, PEM or DER; needed on the first start, later it replaces the stored one.
    #[arg(long, value_name = "FILE")]
    pub server_key: Option<PathBuf>,
    /// On the first start: install Device OS 0.7.0, too old for the application, so that a cloud can update it.
    #[arg(long)]
    pub outdated: bool,
    /// On the first start: the device's id, 24 hex digits. The devices of a fleet count on from it.
    #[arg(long, value_name = "ID")]
    pub id: Option<DeviceId>,
    /// On the first start: use this private key (RSA-1024, PEM or DER) instead of making one.
    #[arg(long, value_name = "FILE")]
    pub device_key: Option<PathBuf>,
    /// Stop after this many connections (of each device).
    #[arg(long, value_name = "N")]
    pub connections: Option<u32>,
    /// Seconds from the end of a connection to the next.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub reconnect_after: Duration,

    /// Behave as this firmware instead of the installed one: S1, S2, C1, C2, C3, C4, a release such as 1.2.1, or `mixed`.
    ///
    /// A profile's name stands for its first release. `mixed` gives each device of a fleet the next of all. On real
    /// devices C1 and C2 exist over UDP only. Describe lists the installed modules all the same. It is kept in
    /// device.json.
    #[arg(long, value_name = "PROFILE", value_parser = profile, help_heading = "Firmware and application")]
    pub profile: Option<Profile>,
    /// A function: NAME gives the length of its argument, NAME=echo its argument, NAME=7 the number. Repeatable.
    #[arg(long = "function", value_name = "NAME[=RESULT]", value_parser = program::function, help_heading = "Firmware and application")]
    pub functions: Vec<FunctionOption>,
    /// A variable: NAME=TYPE:VALUE with the types bool, int, double, string; NAME=VALUE guesses the type. Repeatable.
    #[arg(long = "variable", value_name = "NAME=VALUE", value_parser = program::variable, help_heading = "Firmware and application")]
    pub variables: Vec<VariableOption>,
    /// Publish an event every so many seconds; in DATA {n} is a counter, {t} the time in microseconds since 1970.
    /// Repeatable.
    #[arg(long = "event", value_name = "NAME[=DATA]@SECONDS", value_parser = program::event, help_heading = "Firmware and application")]
    pub events: Vec<Periodic>,
    /// Subscribe to events of the owner's devices whose names begin so. Repeatable, up to four.
    #[arg(long = "subscribe", value_name = "PREFIX", help_heading = "Firmware and application")]
    pub subscriptions: Vec<String>,
    /// Tell the server this claim code until it says that the claim is settled.
    #[arg(long, value_name = "CODE", help_heading = "Firmware and application")]
    pub claim_code: Option<String>,

    /// Run this many devices.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Fleets")]
    pub count: Option<u32>,
    /// New devices share one key pair, DIR/fleet-key.pem: keys for thousands take minutes. For load tests only.
    #[arg(long, requires = "count", help_heading = "Fleets")]
    pub shared_key: bool,
    /// Make no folders. DIR/fleet.json lists the ids, DIR/ID.pub.pem are the public keys; flash is not kept.
    #[arg(long, requires = "count", help_heading = "Fleets")]
    pub in_memory: bool,
    /// Connections that are begun in a second.
    #[arg(long, value_name = "N", value_parser = rate, help_heading = "Fleets")]
    pub connect_rate: Option<f64>,
    /// Write all public keys into this folder, too, as ID.pub.pem; `spark cloud import` takes it.
    #[arg(long, value_name = "DIR", help_heading = "Fleets")]
    pub public_keys: Option<PathBuf>,

    /// Connect to no server: wait in listening mode at a serial port, a pseudo-terminal whose name is told, for `spark
    /// serial` and other programs. The device listens again after each restart. Unix only.
    #[arg(long, conflicts_with_all = ["connect", "count", "events", "connections"])]
    pub listening: bool,

    /// One JSON object a line on standard output for everything that happens.
    #[arg(long)]
    pub json: bool,
}

/// Which firmware devices behave as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Profile {
    /// All as the same.
    One(&'static Firmware),
    /// Each as the next of all.
    Mixed,
}

impl Profile {
    /// The firmware of a device.
    #[must_use]
    pub fn of(self, at: usize) -> &'static Firmware {
        match self {
            Self::One(firmware) => firmware,
            Self::Mixed => {
                let all = Firmware::all();
                &all[at % all.len()]
            }
        }
    }
}

fn profile(text: &str) -> Result<Profile, spark_sim::UnknownFirmware> {
    if text == "mixed" { Ok(Profile::Mixed) } else { Firmware::named(text).map(Profile::One) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    if !(0.0..=86_400.0).contains(&seconds) {
        return Err("give 0 to 86400 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (0.001..=100_000.0).contains(rate))
        .ok_or_else(|| format!("{text:?} is no rate: give connections in a second, 0.001 to 100000"))
}

/// Runs the devices until they are interrupted.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Args) -> Result<(), Failure> {
    let members = members::open(args)?;
    if args.listening {
        return serial::run(members, args.json);
    }
    let fleet = Fleet::of(members);
    let count = fleet.devices().count();
    if count > TOLD_ONE_BY_ONE {
        // A socket each. If that is not allowed, connections fail and say so.
        let _ = rlimit::increase_nofile_limit(u64::MAX);
    }
    let summary = count > TOLD_ONE_BY_ONE && !args.json;
    let report = if args.json { Report::Json } else { Report::Text };
    let orders = Orders {
        address: args.connect.clone(),
        connect_rate: args.connect_rate,
        reconnect_after: args.reconnect_after,
        connections: args.connections,
        events: args.events.clone(),
        hold_events: false,
        report: (!summary).then_some(report),
    };
    let mut builder = if count > 1 {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = builder.enable_all().build().map_err(|error| {
        Failure::new(Code::Software, format_args!("cannot start: {error}"), "free some memory or threads")
    })?;
    runtime.block_on(async {
        let mut running = fleet.start(&orders);
        let watch = running.watch();
        tokio::select! {
            ended = running.join() => return ended.map(drop),
            () = crate::interrupt::interrupted() => {}
            () = summarise(&watch, count, summary) => {}
        }
        running.stop().await.map(drop)
    })
}

/// Tells how a large fleet is doing; never ends.
async fn summarise(watch: &Watch, count: usize, wanted: bool) {
    let mut clock = interval(SUMMARY_INTERVAL);
    let mut told = None;
    loop {
        clock.tick().await;
        let counts = watch.counts();
        if !wanted || told == Some(counts) {
            continue;
        }
        told = Some(counts);
        say(format_args!(
            "{} of {count} devices online; {} connections lost, {} handshakes failed, {} not connected; {} events \
             published, {} received, {} functions called",
            counts.online,
            counts.lost,
            counts.handshakes_failed,
            counts.unreachable,
            counts.published,
            counts.events,
            counts.functions
        ));
        if let Some((id, error)) = watch.last_errors().last().filter(|_| counts.online < count as u64) {
            say(format_args!("  last trouble: {id}: {error}"));
        }
    }
}
