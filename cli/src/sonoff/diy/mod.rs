//! `spark sonoff diy`: devices in DIY mode, which take an image over HTTP.

pub mod find;

mod client;
mod serve;

use super::LIMIT;
use crate::exit::{Code, Failure, chain};
use crate::files;
use crate::ui::{self, Ui};
use clap::Subcommand;
use client::Client;
use core::fmt::Write as _;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use serde_json::json;
use serve::{ImageServer, PATH, Progress};
use spark_ota::esp8266::{self, Expectations, ImageFile, Purpose, Severity, Sha256Text};
use spark_ota::sonoff::DeviceId;
use spark_ota::sonoff::diy::{DiyCall, DiyError, DiyImage, DiyInfo, DiyReport};
use spark_ota::sonoff::message::Switch;
use spark_ota::sonoff::upgrade::Format;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

/// The device may answer to `ota_flash` at once, or when it has the image.
const FLASH: Duration = Duration::from_secs(240);
/// How much later than the device this side may know that everything has arrived.
const SEEN: Duration = Duration::from_secs(1);
/// After that it tells how it ended.
const REPORT: Duration = Duration::from_secs(60);
/// A device whose answer was lost asks for the image within this, or was not asked.
const BEGINS: Duration = Duration::from_secs(15);

/// The subcommands.
#[derive(Subcommand, Clone, Debug)]
#[non_exhaustive]
#[allow(missing_docs, reason = "help texts are those of the arguments")]
pub enum Command {
    Find(find::Args),
    /// Show what a device tells of itself, and whether updates are unlocked.
    Info(DeviceArgs),
    /// Unlock updates. The device asks the vendor's server for that, so it needs the internet.
    Unlock(DeviceArgs),
    Flash(FlashArgs),
}

/// Which device.
#[derive(clap::Args, Clone, Debug)]
pub struct DeviceArgs {
    /// Its address or name; the port is 8081 if none is given.
    #[arg(value_name = "ADDRESS")]
    device: String,
    /// Its id; newer firmware tells it by itself.
    #[arg(long, value_name = "ID", value_parser = DeviceId::new)]
    id: Option<DeviceId>,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    json: bool,
}

/// Send an image to a device whose updates are unlocked.
///
/// The image is checked first: format v1 for the beginning of the flash, flash mode DOUT, at most 520,192 bytes. The device gets it from
/// this computer, over HTTP. Do not power-cycle it before this command says that it is done.
#[derive(clap::Args, Clone, Debug)]
pub struct FlashArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// The image.
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// Port on which the device gets the image; 0 takes any.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
}

/// Runs a subcommand.
///
/// # Errors
/// [`Failure`].
pub fn run(command: &Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::new(Code::Software, format_args!("cannot start: {error}"), "free some memory or threads")
    })?;
    runtime.block_on(async {
        match command {
            Command::Find(args) => find::run(args),
            Command::Info(args) => info(args).await,
            Command::Unlock(args) => unlock(args).await,
            Command::Flash(args) => flash(args).await,
        }
    })
}

async fn info(args: &DeviceArgs) -> Result<(), Failure> {
    let mut client = Client::open(&args.device, args.id).await?;
    let info = client.info().await?;
    if args.json {
        return ui::print(json!({
            "address": client.address.to_string(),
            "device_id": client.id.map(|id| id.to_string()),
            "fw_version": info.fw_version.map(|version| version.to_string()),
            "ota_unlock": info.ota_unlock,
            "switch": info.switch.map(Switch::as_str),
            "startup": info.startup.map(|startup| startup.to_string()),
            "pulse": info.pulse.map(Switch::as_str),
            "pulse_width_ms": info.pulse_width,
            "ssid": info.ssid,
            "bssid": info.bssid.map(|bssid| bssid.to_string()),
            "signal_strength_dbm": info.signal_strength,
        }));
    }
    ui::print(lines(&client, &info))
}

fn lines(client: &Client, info: &DiyInfo) -> String {
    let mut text = format!("{}: ", client.address);
    match client.id {
        Some(id) => text.push_str(id.as_str()),
        None => text.push_str("a device that does not tell its id"),
    }
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            // Writing to a string does not fail.
            let _ = write!(text, "\n  {name:9} {value}");
        }
    };
    line("firmware", info.fw_version.map(|version| version.to_string()));
    line("updates", info.ota_unlock.map(|open| if open { "unlocked" } else { "locked" }.to_owned()));
    line("switch", info.switch.map(|switch| switch.as_str().to_owned()));
    // Names of networks are anything.
    line("network", info.ssid.as_ref().map(|ssid| format!("{ssid:?}")));
    line("signal", info.signal_strength.map(|strength| format!("{strength} dBm")));
    text
}

async fn unlock(args: &DeviceArgs) -> Result<(), Failure> {
    let mut client = Client::open(&args.device, args.id).await?;
    let was_unlocked = client.info().await?.ota_unlock == Some(true);
    if !was_unlocked {
        // It asks the vendor before it answers.
        let answer = client.call(DiyCall::OtaUnlock, client::ANSWER * 2).await;
        let answer = answer.map_err(|unanswered| unanswered.failure)?;
        answer.map_err(|error| client.refused(error))?;
    }
    if args.json {
        let id = client.id.map(|id| id.to_string());
        return ui::print(json!({ "device_id": id, "unlocked": true, "was_unlocked": was_unlocked }));
    }
    let text = if was_unlocked { "updates are unlocked already" } else { "updates are unlocked" };
    ui::print(format_args!("{}: {text}", client.address))
}

/// Refuses what a device would not take, or not start.
fn check(path: &std::path::Path, content: &[u8]) -> Result<(), Failure> {
    let next = format!("`spark sonoff check {} --for diy` shows all; nothing was sent", path.display());
    let data = |what: String| Failure::new(Code::Data, format_args!("{}: {what}", path.display()), &next);
    let file = ImageFile::parse(content).map_err(|error| data(error.to_string()))?;
    let findings = file.check(&Expectations::of(Purpose::Diy));
    let errors: Vec<_> = findings
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| finding.problem.to_string())
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(data(errors.join("; "))) }
}

async fn flash(args: &FlashArgs) -> Result<(), Failure> {
    let ui = Ui::new(args.device.json);
    let content = files::read_up_to(&args.image, LIMIT)?;
    check(&args.image, &content)?;
    let mut client = Client::open(&args.device.device, args.device.id).await?;
    if client.info().await?.ota_unlock == Some(false) {
        return Err(client.refused(DiyError::Locked));
    }
    let listener = listen(client.own, args.port).await?;
    let place = listener.local_addr().map_err(|error| cannot_listen(args.port, &error))?;
    let url = format!("http://{place}{PATH}");
    let sha256 = Sha256Text::of(&content).to_string();
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let mode = content.get(2).copied().unwrap_or_default();
    let format = match content.first() {
        Some(&esp8266::MAGIC_V1) => Format::V1,
        Some(&esp8266::MAGIC_V2) => Format::V2,
        _ => Format::Other,
    };
    let image = DiyImage::new(&url, &sha256, length, format, mode)
        .map_err(|error| Failure::new(Code::Data, chain(&error), "nothing was sent"))?;
    ui.line(&format!("{} gets {length} bytes from {url}; do not power-cycle it", client.address));

    let (progress, watched) = watch::channel(Progress::default());
    let bar = ui.bar("image", length.into());
    let server = ImageServer { image: content, device: client.address.ip(), bar: bar.clone(), progress };
    let serving = tokio::spawn(Arc::new(server).run(listener));
    let outcome = send(&mut client, image, watched, length, &url, &ui).await;
    serving.abort();
    bar.finish_and_clear();
    let confirmed = outcome?;
    if args.device.json {
        return ui::print(json!({
            "device_id": client.id.map(|id| id.to_string()), "size": length, "sha256": sha256, "url": url,
            "served": true, "confirmed": confirmed,
        }));
    }
    let text = if confirmed {
        "the image was written; the device restarts with it"
    } else {
        "the device has the whole image and accepted it, but did not say that it was written: wait for its restart"
    };
    ui::print(format_args!("{}: {text}", client.address))
}

/// The URL has to be one that the device can use, so it is IPv4.
async fn listen(own: IpAddr, port: u16) -> Result<TcpListener, Failure> {
    let own = own.to_canonical();
    if !own.is_ipv4() {
        return Err(Failure::new(
            Code::Usage,
            "these devices have no IPv6, and the image would come over it",
            "give the device's IPv4 address",
        ));
    }
    TcpListener::bind(SocketAddr::new(own, port)).await.map_err(|error| cannot_listen(port, &error))
}

fn cannot_listen(port: u16, error: &std::io::Error) -> Failure {
    Failure::new(
        Code::Io,
        format_args!("cannot listen on port {port}: {error}"),
        "give another one with --port",
    )
}

/// Whether the device has said that the image was written; else it has taken all of it.
async fn send(
    client: &mut Client,
    image: DiyImage,
    mut progress: watch::Receiver<Progress>,
    length: u32,
    url: &str,
    ui: &Ui,
) -> Result<bool, Failure> {
    let reported = |progress: &Progress| progress.report.is_some();
    let answer = tokio::select! {
        biased;
        // Some tell how it ended before they answer.
        Ok(_) = async { progress.wait_for(reported).await.map(drop) } => None,
        answer = client.call(DiyCall::OtaFlash(image), FLASH) => match answer {
            Ok(answer) => Some(answer),
            // It may have begun: what it asks for decides, not what it says.
            Err(unanswered) if unanswered.asked => {
                ui.line(&format!("{}; waiting whether it gets the image", unanswered.failure.what()));
                let has_begun = |progress: &Progress| progress.requests > 0 || reported(progress);
                let begun = timeout_at(Instant::now() + BEGINS, progress.wait_for(has_begun)).await;
                if !matches!(begun, Ok(Ok(_))) {
                    return Err(unanswered.failure);
                }
                None
            }
            Err(unanswered) => return Err(unanswered.failure),
        },
    };
    if let Some(Err(error)) = answer {
        sleep(SEEN / 4).await;
        let network = matches!(error, DiyError::Timeout | DiyError::NotDownloadable);
        return Err(with_requests(client.refused(error), &progress.borrow(), url, network));
    }
    let until = Instant::now() + if progress.borrow().sent().is_whole(length) { REPORT } else { FLASH };
    let _ = timeout_at(until, progress.wait_for(reported)).await;
    // That its last bytes have arrived may be seen later than what it says of them.
    let is_whole = |progress: &Progress| progress.sent().is_whole(length);
    let _ = timeout_at(Instant::now() + SEEN, progress.wait_for(is_whole)).await;
    let end = progress.borrow().clone();
    let sent = end.sent().bytes();
    match end.report {
        Some(DiyReport::Done) if sent >= length => Ok(true),
        Some(DiyReport::Done) => {
            let code = if sent == 0 { Code::Unavailable } else { Code::Protocol };
            let what = format_args!(
                "{}: the device says it is done, of which {sent} bytes of {length} were sent",
                client.address
            );
            let next = "look in a minute what it runs, with `spark sonoff diy info`; if it is the old firmware, repeat this command";
            Err(with_requests(Failure::new(code, what, next), &end, url, false))
        }
        Some(report) => {
            let next = match report {
                DiyReport::Digest => "repeat this command; do not power-cycle the device before it succeeds",
                _ => "repeat this command closer to the access point",
            };
            let failure = Failure::new(Code::Protocol, format_args!("{}: {report}", client.address), next);
            Err(with_requests(failure, &end, url, report == DiyReport::Download))
        }
        None if sent >= length => Ok(false),
        None => {
            let next = "let the port through the firewall, and keep this computer in the device's network";
            let what = format_args!("{}: the device has not got the image", client.address);
            Err(with_requests(Failure::new(Code::Unavailable, what, next), &end, url, true))
        }
    }
}

/// Says how far the download came, and what may have kept it from coming if that may be the `network`.
fn with_requests(failure: Failure, progress: &Progress, url: &str, network: bool) -> Failure {
    let how_far = match progress.requests {
        0 if network => format!("it never asked for {url}: a firewall, or another network"),
        0 => format!("it never asked for {url}"),
        requests => format!("it asked {requests} times and got {} bytes", progress.sent().bytes()),
    };
    Failure::new(failure.code(), format_args!("{}; {how_far}", failure.what()), failure.next())
}
