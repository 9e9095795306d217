//! `spark sonoff serve`: dispatch, WebSocket and images, for any number of devices at once.
//!
//! ```text
//! sockets (network) --> Service (spark_ota::sonoff::server) --> reports (story) --> the person
//!      ^ images (images)          ^ offers, when a device is ready
//! ```

mod address;
mod first;
mod images;
mod network;
mod notes;
mod places;
mod story;

use super::tls::Acceptor;
use crate::exit::{Code, Failure, chain};
use crate::interrupt::{Interrupt, Interrupts};
use crate::ui::{self, Ui};
use core::net::{IpAddr, SocketAddr};
use first::{First, STAY};
use images::Images;
use network::Server;
use notes::Notes;
use spark_ota::esp8266::Slot;
use spark_ota::sonoff::upgrade::UrlParts;
use spark_ota::sonoff::{ServerName, Version};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use story::{Outcome, Story};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Said when the server is to stop and must not.
const WRITING: &str = "a device is getting its final image, and is of no use with a part of it: the server stops when that is written";
/// Files beside the sockets of connections.
const OTHER_FILES: u64 = 64;
/// Connections that may wait in the kernel until they are accepted.
const BACKLOG: u32 = 1024;

/// Give Sonoff devices other firmware: everything that they talk to, in one server.
///
/// Devices that were provisioned with this computer's address (`spark sonoff provision`) come here for dispatch, over their
/// WebSocket, and for the images. Give user1.bin and user2.bin, in any order if they tell the slot that they are linked
/// for: a device asks for the one of the slot that it does not run from. With --final, they are the intermediate image of
/// SonOTA, which then fetches that last file as the network FinalStage.
///
/// Old devices speak TLS 1.0 to 1.2 with ciphers that nobody should use any more. The security level of OpenSSL is lowered
/// for these connections, and for nothing else.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The images for the two slots; one of them is enough with --running.
    #[arg(value_name = "IMAGE", num_args = 1..=2, required = true)]
    images: Vec<PathBuf>,
    /// The final image, written to the beginning of the flash by the intermediate one.
    #[arg(long = "final", value_name = "IMAGE")]
    final_image: Option<PathBuf>,
    /// The slot that all devices run from: only the image for the other one is needed.
    #[arg(long, value_name = "1|2", value_parser = clap::value_parser!(u8).range(1..=2))]
    running: Option<u8>,
    /// Address to listen on.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0")]
    listen: IpAddr,
    /// Port for dispatch and WebSocket, with TLS and without; may be given several times.
    #[arg(long, value_name = "PORT", default_values_t = [8443])]
    port: Vec<u16>,
    /// Port of the images. The final stage wants 8080.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    http_port: u16,
    /// Address or name of this computer as devices see it; without it, the one that they have connected to.
    #[arg(long, value_name = "HOST")]
    address: Option<String>,
    /// Without TLS, for devices that were built so.
    #[arg(long)]
    no_tls: bool,
    /// Version that the images are offered as. Devices compare five characters as text.
    #[arg(long = "as", value_name = "VERSION", default_value = "9.9.9")]
    offered_as: String,
    /// Times that a device is offered the images before it has failed.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    attempts: u8,
    /// Send at full speed first to devices that do not ask for ranges, and slowly after that has failed.
    #[arg(long)]
    full_speed_first: bool,
    /// Send the images of an upgrade only to devices that prove who they are by the signature of their request.
    #[arg(long)]
    check_sign: bool,
    /// Stop after the first device, with exit code 0 if it has succeeded, 76 if not, and 69 if it was interrupted before that.
    #[arg(long)]
    once: bool,
    /// Print what happens as JSON, one object a line, on standard output.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    check(args)?;
    let notes = Notes::new(args.json);
    let running = args.running.and_then(Slot::from_number);
    let images = Images::load(&args.images, args.final_image.as_deref(), running, &notes)?;
    let acceptor =
        if args.no_tls { Acceptor::plain() } else { Acceptor::new().map_err(|error| error.failure())? };
    if acceptor.has_tls() {
        notes.hint(
            "TLS 1.0 to 1.2 at security level 0, for the devices' port only: old devices know nothing better",
        )?;
    }
    // If that is not allowed, there are fewer connections at once.
    let _ = rlimit::increase_nofile_limit(network::CONNECTIONS as u64 + OTHER_FILES);
    let runtime = tokio::runtime::Runtime::new().map_err(|error| {
        Failure::new(Code::Software, format_args!("cannot start: {error}"), "free some memory or threads")
    })?;
    let ended = runtime.block_on(serve(args, images, acceptor, notes));
    // What is still open is of no interest.
    runtime.shutdown_background();
    ended
}

async fn serve(args: &Args, images: Images, acceptor: Acceptor, notes: Notes) -> Result<ExitCode, Failure> {
    // Before it says that it listens: who knows that may interrupt it.
    let mut interrupts = Interrupts::new();
    let mut listeners = Vec::new();
    for port in &args.port {
        listeners.push((listen(args.listen, *port, "--port")?, acceptor.clone()));
    }
    let http = listen(args.listen, args.http_port, "--http-port")?;
    let http_port = http.local_addr().map_or(args.http_port, |address| address.port());
    listeners.push((http, Acceptor::plain()));
    let port = listeners.first().and_then(|(listener, _)| listener.local_addr().ok());
    let ports = [port.map_or(8443, |address| address.port()), http_port];
    address::say(&notes, args.listen, args.address.as_deref(), images.has_final(), ports)?;
    let (told, news) = mpsc::unbounded_channel();
    let (ends, mut ended) = mpsc::unbounded_channel();
    let story = Story::new(Ui::new(args.json), args.json, images.names(), images.has_final());
    for (listener, acceptor) in &listeners {
        if let Ok(address) = listener.local_addr() {
            let what = match (address.port() == http_port, acceptor.has_tls()) {
                (true, _) => "images",
                (false, true) => "devices, with TLS and without",
                (false, false) => "devices, without TLS",
            };
            story.listening(address, what)?;
        }
    }
    let server = Arc::new(Server::new(images, args, http_port, told, ends));
    for (listener, acceptor) in listeners {
        tokio::spawn(Arc::clone(&server).accept(listener, acceptor));
    }
    tokio::spawn(Arc::clone(&server).keep_time());
    let mut telling = story.begin(news, Arc::clone(&server));
    let mut first = First::default();
    let (mut is_stopping, mut was_asked, mut is_telling, mut failure) = (false, false, true, None);
    loop {
        tokio::select! {
            how = interrupts.next() => {
                let insists = was_asked && how == Interrupt::Asked;
                if insists || !server.is_writing() {
                    break;
                }
                is_stopping = true;
                was_asked |= how == Interrupt::Asked;
                warn(format!("{WRITING}; {}", if was_asked { "interrupt again to stop nevertheless" } else { "interrupt twice to stop nevertheless" }));
            }
            Some(end) = ended.recv() => first.take(Instant::now(), end),
            () = wait_until(first.leave_at), if args.once => {
                if !server.is_writing() {
                    break;
                }
                first.leave_at = Some(Instant::now() + STAY);
            }
            told = telling.ended(), if is_telling => {
                is_telling = false;
                if let Err(problem) = told {
                    if server.is_writing() {
                        warn(format!("{problem}\n{WRITING}"));
                    }
                    failure = Some(problem);
                }
                is_stopping = true;
            }
            () = server.written(), if is_stopping => break,
        }
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    telling.stop().await?;
    Ok(match first.outcome {
        _ if !args.once => ExitCode::SUCCESS,
        Some(Outcome::Succeeded) => ExitCode::SUCCESS,
        Some(Outcome::Failed) => ExitCode::from(Code::Protocol as u8),
        Some(Outcome::Open) | None => ExitCode::from(Code::Unavailable as u8),
    })
}

/// Said to the person, also with `--json`. An output that nobody reads must not keep the next interrupt out.
fn warn(text: impl core::fmt::Display + Send + 'static) {
    std::thread::spawn(move || ui::say(text));
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => core::future::pending().await,
    }
}

fn listen(address: IpAddr, port: u16, option: &str) -> Result<TcpListener, Failure> {
    let listening = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind((address, port).into())?;
        socket.listen(BACKLOG)
    };
    listening().map_err(|error: std::io::Error| {
        let next = match error.kind() {
            ErrorKind::AddrNotAvailable => "give an address of this computer with --listen".to_owned(),
            ErrorKind::PermissionDenied => {
                format!("choose a port from 1024 on with {option}, or run this with the right to use {port}")
            }
            _ => format!("choose another port with {option}, or stop what uses this one"),
        };
        let what = format_args!("cannot listen on {}: {error}", SocketAddr::new(address, port));
        Failure::new(Code::Unavailable, what, next)
    })
}

/// What devices could not be told.
fn check(args: &Args) -> Result<(), Failure> {
    if args.address.is_none() && args.listen.is_ipv6() && !args.listen.is_unspecified() {
        return Err(Failure::new(
            Code::Usage,
            format_args!("devices have no IPv6, and would be told {}", args.listen),
            "give an IPv4 address with --listen, or tell them where to come with --address",
        ));
    }
    if let Some(address) = &args.address {
        // As it will stand in the answer to a dispatch request, and in the URLs.
        let name = ServerName::new(address).map_err(|error| error.to_string());
        let url = format!("http://{address}:{}/ota/user1.bin", args.http_port.max(1));
        let whole = name.and_then(|_| UrlParts::new(&url).map_err(|error| chain(&error)));
        if let Err(problem) = whole {
            return Err(Failure::new(
                Code::Usage,
                format_args!("devices cannot be told the address {address:?}: {problem}"),
                "give an address like 192.168.1.10, or a short name, without a port",
            ));
        }
    }
    Version::new(&args.offered_as).map(|_| ()).map_err(|error| {
        Failure::new(
            Code::Usage,
            format_args!("devices cannot be told the version {:?}: {error}", args.offered_as),
            "give one like 9.9.9",
        )
    })
}
