//! `spark sonoff serve`: dispatch, WebSocket and images, for any number of devices at once.
//!
//! ```text
//! sockets (network) --> Service (spark_ota::sonoff::server) --> reports (story) --> the person
//!      ^ images (images)          ^ offers, when a device is ready
//! ```

mod address;
mod images;
mod network;
mod story;

use super::tls::Acceptor;
use crate::exit::{Code, Failure};
use crate::interrupt::interrupted;
use crate::ui::Ui;
use core::net::IpAddr;
use core::time::Duration;
use images::Images;
use network::Server;
use spark_ota::esp8266::Slot;
use spark_ota::sonoff::server::{Config, Policy};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use story::{End, Story};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Without a device for so long, what may be wrong is said.
const NOBODY: Duration = Duration::from_secs(90);

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
    /// Send images only to devices that prove who they are by the signature of their request.
    #[arg(long)]
    check_sign: bool,
    /// Stop after the first device, with exit code 0 if it has succeeded and 76 if not.
    #[arg(long)]
    once: bool,
    /// Print what happens as JSON, one object a line, on standard output.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let ui = Ui::new(args.json);
    let running = args.running.and_then(Slot::from_number);
    let images = Images::load(&args.images, args.final_image.as_deref(), running, &ui)?;
    let acceptor =
        if args.no_tls { Acceptor::plain() } else { Acceptor::new().map_err(|error| error.failure())? };
    if acceptor.has_tls() {
        ui.line(
            "TLS 1.0 to 1.2 at security level 0, for the devices' port only: old devices know nothing better",
        );
    }
    let runtime = tokio::runtime::Runtime::new().map_err(|error| {
        Failure::new(Code::Software, format_args!("cannot start: {error}"), "free some memory or threads")
    })?;
    runtime.block_on(serve(args, images, acceptor, ui))
}

async fn serve(args: &Args, images: Images, acceptor: Acceptor, ui: Ui) -> Result<ExitCode, Failure> {
    let mut listeners = Vec::new();
    for port in &args.port {
        listeners.push((listen(args.listen, *port, "--port").await?, acceptor.clone()));
    }
    let http = listen(args.listen, args.http_port, "--http-port").await?;
    let http_port = http.local_addr().map_or(args.http_port, |address| address.port());
    listeners.push((http, Acceptor::plain()));
    let has_final = images.has_final();
    let config = Config {
        policy: Policy {
            attempts: args.attempts,
            full_speed_first: args.full_speed_first,
            final_stage: has_final,
        },
        check_sign: args.check_sign,
        ..Config::default()
    };
    let (told, mut news) = mpsc::unbounded_channel();
    let mut story = Story::new(ui.clone(), args.json, images.names(), has_final);
    let port = listeners.first().and_then(|(listener, _)| listener.local_addr().ok());
    let ports = [port.map_or(8443, |address| address.port()), http_port];
    address::say(&ui, args.listen, args.address.as_deref(), has_final, ports);
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
    let server = Arc::new(Server::new(config, images, args, http_port, told));
    for (listener, acceptor) in listeners {
        tokio::spawn(Arc::clone(&server).accept(listener, acceptor));
    }
    tokio::spawn(Arc::clone(&server).keep_time());
    let stop = interrupted();
    tokio::pin!(stop);
    let mut nobody = Some(tokio::time::Instant::now() + NOBODY);
    let mut end = None;
    loop {
        let leave_at = story.leave_at().filter(|_| args.once);
        let wake = [nobody, leave_at].into_iter().flatten().min();
        tokio::select! {
            () = &mut stop => return Ok(story.end(end)),
            () = wait_until(wake) => {
                if leave_at.is_some_and(|at| at <= tokio::time::Instant::now()) {
                    return Ok(story.end(end));
                }
                nobody = None;
                story.nobody();
            }
            item = news.recv() => {
                let Some(item) = item else { return Ok(story.end(end)) };
                if item.is_of_a_device() {
                    nobody = None;
                }
                let progress = server.progress();
                if let Some(found) = story.tell(&item, &progress)? {
                    end = Some(if end == Some(End::Failed) { End::Failed } else { found });
                }
            }
            () = tokio::time::sleep(Duration::from_millis(250)), if story.is_watching() => {
                story.show(&server.progress());
            }
        }
    }
}

async fn wait_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => core::future::pending().await,
    }
}

async fn listen(address: IpAddr, port: u16, option: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind((address, port)).await.map_err(|error| {
        Failure::new(
            Code::Unavailable,
            format_args!("cannot listen on {address}:{port}: {error}"),
            format_args!("choose another port with {option}, or stop what uses this one"),
        )
    })
}
