//! `spark cloud serve`: the local cloud as a program.

use super::catalogue::{Catalogue, ModuleFile};
use super::folder::Folder;
use super::limits::Limits;
use super::log::{self, Logbook};
use super::session::SessionOptions;
use super::{BackEnd, Cloud, Enrolment, Event, Options, api};
use crate::exit::{Code, Failure};
use crate::interrupt::Interrupts;
use crate::ui::{print, say};
use core::num::NonZeroU32;
use core::time::Duration;
use spark_ota::transfer::Options as Transfer;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{broadcast, watch};

/// Connections that may wait in the kernel until they are accepted.
const BACKLOG: u32 = 4096;
/// File descriptors for everything that is no device.
const OTHER_FILES: u64 = 1100;

/// Runs a local cloud that devices connect to.
///
/// On the first start it makes a server key, the data folder and a token and says what to do next. Devices whose public key is
/// known may connect; the key of an unknown device is kept, and `spark cloud accept` lets the device in. Module files in
/// DIR/modules are taken into the store and sent to devices that lack them. The HTTP interface, for everything else, is on
/// --api; docs/cloud.md shows it, and /openapi.json describes it.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address and port to listen on; devices expect port 5683.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:5683")]
    pub listen: String,
    /// Address and port of the HTTP interface; `off` for none. Without a TLS proxy before it, keep it on the loopback.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub api: String,
    /// Folder with keys, token and database; made if it is missing.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// How devices become known.
    #[arg(long, value_enum, default_value = "manual")]
    pub enrolment: Enrolment,
    /// Do not send modules to devices that lack them; only updates that were asked for.
    #[arg(long)]
    pub no_update: bool,
    /// Send all modules in slow mode: one chunk, one answer.
    #[arg(long)]
    pub slow: bool,
    /// Bytes per chunk.
    #[arg(long, value_name = "BYTES", default_value_t = 512, value_parser = clap::value_parser!(u16).range(64..=720))]
    pub chunk_size: u16,
    /// Print events as JSON, one a line, on standard output.
    #[arg(long)]
    pub json: bool,
    /// How log lines look.
    #[arg(long, value_enum, default_value = "text")]
    pub log: log::Format,
    /// What is logged: error, warn, info, debug, or a filter as of RUST_LOG.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// On an interrupt, devices in the middle of an update get so long to finish it.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub grace: u64,
    /// Which library does the RSA arithmetic; by default the fastest that was built in.
    #[arg(long, value_enum)]
    pub back_end: Option<BackEnd>,
    /// Append the 40 bytes of every session to this file, for `spark decode --session @FILE`. Whoever has it reads everything.
    #[arg(long, value_name = "FILE")]
    pub session_log: Option<PathBuf>,
    /// What strangers and devices may cost.
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// What strangers and devices may cost.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Connections at the same time.
    #[arg(long, value_name = "N", default_value_t = Limits::DEFAULT.connections)]
    pub max_connections: usize,
    /// Of these, connections that have not said Hello yet. More wait in the kernel's queue.
    #[arg(long, value_name = "N", default_value_t = Limits::DEFAULT.half_open)]
    pub max_half_open: usize,
    /// Connections accepted per second; a burst may be four times as many.
    #[arg(long, value_name = "N", default_value_t = Limits::DEFAULT.accepts)]
    pub accept_rate: NonZeroU32,
    /// The same from one address.
    #[arg(long, value_name = "N", default_value_t = Limits::DEFAULT.accepts_per_address)]
    pub accept_rate_per_address: NonZeroU32,
    /// Seconds of silence that end a connection; devices speak every 15 to 25 s.
    #[arg(long, value_name = "SECONDS", default_value_t = 50, value_parser = clap::value_parser!(u64).range(30..=86_400))]
    pub idle_timeout: u64,
    /// Bytes of an event's data.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub max_event: usize,
    /// Events of one device in 10 s; more are dropped. Firmware publishes at most 4 per second.
    #[arg(long, value_name = "N", default_value_t = 80)]
    pub event_rate: u16,
}

impl Args {
    fn options(&self, connections: usize) -> Options {
        let session = SessionOptions {
            update: !self.no_update,
            slow: if self.slow { "bsu".to_owned() } else { String::new() },
            transfer: Transfer { chunk_size: self.chunk_size, ..Transfer::DEFAULT },
            max_event: self.limits.max_event,
        };
        let mut options = Options::new(self.enrolment, session);
        options.policy.idle_timeout = Duration::from_secs(self.limits.idle_timeout);
        options.policy.event_limit = Some(coap_spark::connection::EventLimit {
            events: self.limits.event_rate,
            per: Duration::from_secs(10),
        });
        options.limits = Limits {
            connections,
            half_open: self.limits.max_half_open.min(connections).max(1),
            accepts: self.limits.accept_rate,
            accepts_per_address: self.limits.accept_rate_per_address,
            work_queue: self.limits.max_half_open.saturating_mul(2).max(1),
            ..Limits::DEFAULT
        };
        options.session_log.clone_from(&self.session_log);
        options.back_end = self.back_end.unwrap_or(BackEnd::best());
        options
    }
}

/// Runs the cloud until it is interrupted.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Args) -> Result<(), Failure> {
    log::start(args.log, &args.log_level).map_err(|error| {
        Failure::new(
            Code::Usage,
            format_args!("no such log level: {error}"),
            "give error, warn, info or debug",
        )
    })?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| {
        Failure::new(Code::Software, format_args!("cannot start: {error}"), "free some memory or threads")
    })?;
    runtime.block_on(serve(args))
}

async fn serve(args: &Args) -> Result<(), Failure> {
    let (folder, new) = Folder::open(&args.data, &mut rand::rng())?;
    let catalogue = load(&folder).await?;
    let connections = allowed_connections(args.limits.max_connections);
    let cloud = Cloud::new(folder, catalogue, args.options(connections))?;
    let listener = listen(&args.listen, "--listen").await?;
    let address = listener.local_addr().map_err(|error| {
        Failure::new(Code::Io, format_args!("cannot listen on {}: {error}", args.listen), "try again")
    })?;
    let interface = match args.api.as_str() {
        "off" => None,
        api => Some(listen(api, "--api").await?),
    };
    let api_address = interface.as_ref().and_then(|listener| listener.local_addr().ok());
    // Subscribed before anything can happen.
    let events = cloud.subscribe();
    cloud.report(Event::Started { listen: address, api: api_address });
    let (stop_api, api_stops) = watch::channel(false);
    let serving = tokio::spawn(Arc::clone(&cloud).serve(listener));
    let answering = match interface {
        Some(listener) => {
            let (cloud, token) = (Arc::clone(&cloud), cloud.folder().token()?);
            Some(tokio::spawn(async move { api::serve(cloud, listener, &token, api_stops).await }))
        }
        None => None,
    };
    let modules = cloud.catalogue().files().len();
    tracing::info!("listening on {address}, {modules} module files, at most {connections} connections");
    if let Some(api) = api_address {
        tracing::info!(
            "HTTP interface on http://{api}, its token is in {}",
            cloud.folder().token_file().display()
        );
    }
    if new {
        introduce(args, cloud.folder(), api_address);
    }
    let json = args.json;
    let logging = tokio::spawn(keep_log(events, json));
    let mut interrupts = Interrupts::new();
    interrupts.next().await;
    tracing::info!("stopping; updates under way get {} s, a second interrupt ends at once", args.grace);
    let grace = Duration::from_secs(args.grace);
    tokio::select! {
        () = cloud.stop(grace) => {}
        () = interrupts.asked() => {}
    }
    // The receiver is gone without an interface.
    let _ = stop_api.send(true);
    if let Some(answering) = answering {
        let _ = tokio::time::timeout(Duration::from_secs(2), answering).await;
    }
    serving.abort();
    drop(cloud);
    // What was reported last is still to be written.
    let written = tokio::time::timeout(Duration::from_secs(1), logging).await;
    tracing::info!("stopped");
    match written {
        Ok(Ok(result)) => result,
        _ => Ok(()),
    }
}

/// What to type next.
fn introduce(args: &Args, folder: &Folder, api: Option<std::net::SocketAddr>) {
    let data = args.data.display();
    say(format_args!("this is a new cloud; its public key is {}", folder.server_public_key_file().display()));
    say(
        "next, with a device in DFU mode, give it the cloud's key and address, and let the cloud know its key:",
    );
    say(format_args!("  spark keys doctor --cloud {data} --host THIS-HOST"));
    say("or try it with a simulated device:");
    say(format_args!(
        "  spark device --data photon --server-key {} --connect 127.0.0.1:5683",
        folder.server_public_key_file().display()
    ));
    if let Some(api) = api {
        say("then look at your devices:");
        say(format_args!(
            "  curl -H \"Authorization: Bearer $(cat {})\" http://{api}/v1/devices",
            folder.token_file().display()
        ));
    }
}

/// The module files of the store, and those that were put into the folder.
async fn load(folder: &Folder) -> Result<Catalogue, Failure> {
    let (put, refused) = Catalogue::load(&folder.modules())?;
    for failure in refused {
        tracing::warn!(next = failure.next(), "left out: {}", failure.what());
    }
    for file in put.files().iter() {
        let file = file.clone();
        let name = file.name.clone();
        if let Err(failure) = folder.store().change(move |transaction| transaction.put_module(&file)).await {
            tracing::warn!(next = failure.next(), "left out: {name}: {}", failure.what());
        }
    }
    let mut files = Vec::new();
    for record in folder.store().modules()? {
        let mut sha256 = [0; 32];
        let image = match hex::decode_to_slice(&record.sha256, &mut sha256) {
            Ok(()) => folder.store().image(&sha256)?,
            Err(_) => None,
        };
        let name = record.names.first().map_or("module.bin", String::as_str);
        match image.map(|image| ModuleFile::new(name, &image)) {
            Some(Ok(file)) => files.push(file),
            Some(Err(failure)) => tracing::warn!(next = failure.next(), "left out: {}", failure.what()),
            None => tracing::warn!("left out: {name}: its content is not in the database"),
        }
    }
    Ok(Catalogue::new(files))
}

/// As many connections as there are file descriptors for.
fn allowed_connections(wanted: usize) -> usize {
    let needed = u64::try_from(wanted).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    // Where there is no such limit, nothing has to be raised.
    let limit = rlimit::increase_nofile_limit(needed).unwrap_or(u64::MAX);
    let allowed = usize::try_from(limit.saturating_sub(OTHER_FILES).max(limit / 2)).unwrap_or(usize::MAX);
    if allowed < wanted {
        tracing::warn!(
            next = "raise it with `ulimit -n`, or LimitNOFILE= of systemd",
            "only {allowed} connections of {wanted}: the limit of open files is {limit}"
        );
    }
    allowed.min(wanted)
}

async fn listen(address: &str, option: &str) -> Result<TcpListener, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::new(
            Code::Unavailable,
            format_args!("cannot listen on {address}: {error}"),
            format_args!("choose another address with {option}, or stop what uses this one"),
        )
    };
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    for candidate in tokio::net::lookup_host(address).await.map_err(cannot)? {
        let socket = if candidate.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let listening = socket.and_then(|socket| {
            socket.set_reuseaddr(true)?;
            socket.bind(candidate)?;
            socket.listen(BACKLOG)
        });
        match listening {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(cannot(last))
}

/// Writes events down until there are no more.
async fn keep_log(mut events: broadcast::Receiver<Event>, json: bool) -> Result<(), Failure> {
    let mut book = Logbook::default();
    loop {
        match events.recv().await {
            Ok(event) => {
                book.write(&event);
                if json {
                    print(serde_json::to_string(&event).unwrap_or_default())?;
                }
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!("{missed} events were not written down");
            }
            Err(broadcast::error::RecvError::Closed) => return Ok(()),
        }
    }
}
