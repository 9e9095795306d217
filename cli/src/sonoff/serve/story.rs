//! What happens, for a person or as JSON.

use super::network::Server;
use crate::exit::{Failure, chain};
use crate::sonoff::tls::HandshakeFailure;
use crate::ui::{Ui, print};
use core::fmt::Write;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use spark_ota::sonoff::DeviceId;
use spark_ota::sonoff::message::{Switch, Switches};
use spark_ota::sonoff::server::{Diagnosis, Event, Failure as Reason, Rejection, Report, Stage};
use spark_ota::sonoff::upgrade::{Refusal, Warning};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

/// Without a device for so long, what may be wrong is said.
const NOBODY: Duration = Duration::from_secs(90);
/// Between two looks at the downloads.
const TICK: Duration = Duration::from_millis(250);
/// At the end, an output that nobody reads is not waited for longer.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Something to tell.
pub(super) enum News {
    Report(Report),
    /// What was said when the images were offered.
    Warnings {
        device_id: DeviceId,
        warnings: Vec<Warning>,
    },
    /// The images are not offered.
    Refused {
        device_id: DeviceId,
        refusals: Vec<Refusal>,
    },
    /// A connection that did not get as far as its first byte.
    NoTls {
        peer: IpAddr,
        failure: HandshakeFailure,
    },
    /// A connection that had asked for nothing when all places were taken.
    GaveWay {
        peer: IpAddr,
        silence: Duration,
        places: usize,
    },
}

impl News {
    const fn is_of_a_device(&self) -> bool {
        matches!(self, Self::Report(Report::Device { .. }))
    }

    /// It is told, however much else waits to be.
    pub(super) const fn is_needed(&self) -> bool {
        match self {
            Self::Report(report) => report.is_needed(),
            Self::Warnings { .. } | Self::Refused { .. } => true,
            Self::NoTls { .. } | Self::GaveWay { .. } => false,
        }
    }

    /// How it ended for a device, if it is that.
    pub(super) const fn end(&self, has_final: bool) -> Option<End> {
        let (device_id, outcome) = match self {
            Self::Refused { device_id, .. } => (*device_id, Outcome::Failed),
            Self::Report(Report::Device { device_id, event: Event::Stage(stage) }) => {
                let outcome = match stage {
                    Stage::Installed { .. } if !has_final => Outcome::Succeeded,
                    Stage::Done { .. } => Outcome::Succeeded,
                    Stage::Failed(_) => Outcome::Failed,
                    Stage::Final { .. } => Outcome::Open,
                    _ => return None,
                };
                (*device_id, outcome)
            }
            _ => return None,
        };
        Some(End { device_id, outcome })
    }
}

/// An end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct End {
    pub(super) device_id: DeviceId,
    pub(super) outcome: Outcome,
}

/// How it ended for a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    Succeeded,
    Failed,
    /// It has not, or not after all: it asks for the final image.
    Open,
}

/// The time without a device, which ends with the first one, or when it is told.
struct Nobody {
    due: Option<Instant>,
}

impl Nobody {
    fn since(start: Instant) -> Self {
        Self { due: start.checked_add(NOBODY) }
    }

    fn take(&mut self, news: &News) {
        if news.is_of_a_device() {
            self.due = None;
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }
}

pub(super) struct Story {
    ui: Ui,
    json: bool,
    /// Names of the files.
    names: Vec<String>,
    has_final: bool,
    bars: BTreeMap<DeviceId, ProgressBar>,
}

/// The story while it is told, in a thread of its own: an output that nobody reads stops nothing else.
pub(super) struct Telling {
    is_over: Arc<AtomicBool>,
    result: oneshot::Receiver<Result<(), Failure>>,
}

impl Telling {
    /// It cannot be told any more.
    pub(super) async fn ended(&mut self) -> Result<(), Failure> {
        (&mut self.result).await.unwrap_or(Ok(()))
    }

    /// Lets it come to its end.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        self.is_over.store(true, Ordering::Relaxed);
        if self.result.is_terminated() {
            return Ok(());
        }
        timeout(LAST_WORDS, self.ended()).await.unwrap_or(Ok(()))
    }
}

impl Story {
    pub(super) const fn new(ui: Ui, json: bool, names: Vec<String>, has_final: bool) -> Self {
        Self { ui, json, names, has_final, bars: BTreeMap::new() }
    }

    /// Begins to tell.
    pub(super) fn begin(self, news: mpsc::UnboundedReceiver<News>, server: Arc<Server>) -> Telling {
        let is_over = Arc::new(AtomicBool::new(false));
        let (ended, result) = oneshot::channel();
        let (runtime, over) = (Handle::current(), Arc::clone(&is_over));
        std::thread::spawn(move || {
            // Nobody waits for it any more only at the end.
            let _ = ended.send(self.run(&runtime, news, &server, &over));
        });
        Telling { is_over, result }
    }

    fn run(
        mut self,
        runtime: &Handle,
        mut news: mpsc::UnboundedReceiver<News>,
        server: &Server,
        is_over: &AtomicBool,
    ) -> Result<(), Failure> {
        let mut nobody = Nobody::since(Instant::now());
        loop {
            match runtime.block_on(async { timeout(TICK, news.recv()).await }) {
                Ok(Some(item)) => {
                    server.told();
                    nobody.take(&item);
                    self.tell(&item)?;
                }
                Ok(None) => return Ok(()),
                Err(_) if is_over.load(Ordering::Relaxed) => return Ok(()),
                Err(_) => {}
            }
            self.show(&server.progress());
            if nobody.is_due(Instant::now()) {
                self.nobody()?;
            }
        }
    }

    fn line(&self, who: impl core::fmt::Display, text: impl core::fmt::Display) {
        let text = format!("{who}  {text}");
        match self.bars.values().next() {
            Some(bar) if !bar.is_hidden() => bar.suspend(|| self.ui.line(&text)),
            _ => self.ui.line(&text),
        }
    }

    fn object(&self, value: &Value) -> Result<(), Failure> {
        if self.json { print(value) } else { Ok(()) }
    }

    pub(super) fn listening(&self, address: SocketAddr, what: &str) -> Result<(), Failure> {
        self.ui.line(&format!("listening on {address}: {what}"));
        self.object(&json!({"event": "listening", "address": address.to_string(), "for": what}))
    }

    /// Nobody has come.
    fn nobody(&self) -> Result<(), Failure> {
        let diagnosis = Diagnosis::NeverCame;
        let text = "no device has come yet";
        self.ui.line(&format!("{text}. If one was provisioned: {}", diagnosis.advice()));
        self.object(&json!({
            "event": "hint", "text": text, "diagnosis": diagnosis.code(), "advice": diagnosis.advice(),
        }))
    }

    fn tell(&mut self, news: &News) -> Result<(), Failure> {
        match news {
            News::Report(Report::Device { device_id, event }) => {
                return self.device(*device_id, event);
            }
            News::Report(Report::Requested { device_id, peer, file, range, status, paced, remark }) => {
                let name = self.names.get(file.index()).map_or("?", String::as_str);
                let slowly = if *paced { ", slowly" } else { "" };
                // Ranges are in the bar.
                if *status != 206 || range.start == 0 {
                    let who = device_id.map_or_else(|| peer.to_string(), |id| id.to_string());
                    self.line(who, format_args!("asks for {name}: {status}{slowly}"));
                }
                if let Some(remark) = remark {
                    self.line(peer, remark);
                }
                self.object(&json!({
                    "event": "requested", "device": device_id, "peer": peer, "file": name, "status": status,
                    "first": range.start, "end": range.end, "paced": paced,
                    "remark": remark.map(|remark| remark.to_string()),
                }))?;
            }
            News::Report(Report::FinalImageArrived { peer, closed }) => {
                self.line(peer, arrived(*closed));
                self.object(&json!({"event": "final-image-arrived", "peer": peer, "closed": closed}))?;
            }
            News::Report(Report::Rejected { peer, why }) => self.rejected(*peer, why)?,
            News::Report(_) => {}
            News::Warnings { device_id, warnings } => {
                for warning in warnings {
                    self.line(device_id, format_args!("warning: {warning}"));
                    self.object(
                        &json!({"event": "warning", "device": device_id, "text": warning.to_string()}),
                    )?;
                }
            }
            News::Refused { device_id, refusals } => {
                for refusal in refusals {
                    self.line(device_id, format_args!("is not offered the images: {}", chain(refusal)));
                    self.object(&json!({"event": "refused", "device": device_id, "text": chain(refusal)}))?;
                }
            }
            News::NoTls { peer, failure } => {
                // Devices of the final stage look whether somebody is there, and say nothing.
                if !matches!(failure, HandshakeFailure::Silent) {
                    self.line(peer, format_args!("{}\n  next: {}", chain(failure), failure.next()));
                }
                let diagnosis = diagnosis(failure).map(Diagnosis::code);
                self.object(
                    &json!({"event": "no-connection", "peer": peer, "code": failure.code(), "diagnosis": diagnosis}),
                )?;
            }
            News::GaveWay { peer, silence, places } => {
                let seconds = silence.as_secs();
                self.line(
                    peer,
                    format_args!(
                        "gives way to another connection: all {places} places are taken, and it has said nothing for {seconds} s"
                    ),
                );
                self.object(
                    &json!({"event": "no-connection", "peer": peer, "code": "gave-way", "diagnosis": null, "silent": seconds}),
                )?;
            }
        }
        Ok(())
    }

    fn rejected(&self, peer: IpAddr, why: &Rejection) -> Result<(), Failure> {
        let silent = matches!(why, Rejection::Silent);
        if !silent {
            let next = why.diagnosis().map(|diagnosis| format!("\n  next: {}", diagnosis.advice()));
            self.line(peer, format_args!("was refused: {}{}", chain(why), next.unwrap_or_default()));
        }
        let mut object = json!({"event": "rejected", "peer": peer, "text": chain(why)});
        if let Some(diagnosis) = why.diagnosis() {
            (object["diagnosis"], object["advice"]) = (json!(diagnosis.code()), json!(diagnosis.advice()));
        }
        self.object(&object)
    }

    fn device(&mut self, device_id: DeviceId, event: &Event) -> Result<(), Failure> {
        let (name, text) = match event {
            Event::Dispatched => ("dispatched", "asks for its server".to_owned()),
            Event::Registered { model, rom_version } => {
                ("registered", format!("is a {model} with {rom_version}"))
            }
            Event::Ready => ("ready", "is ready".to_owned()),
            Event::Away => ("away", "has closed its connection".to_owned()),
            Event::State { .. } => ("state", String::new()),
            Event::Offered { attempt: 1 } => ("offered", "is offered the images".to_owned()),
            Event::Offered { attempt } => {
                ("offered", format!("is offered the images again, attempt {attempt}"))
            }
            Event::Hint(diagnosis) => ("hint", format!("{}: {}", diagnosis.cause(), diagnosis.advice())),
            Event::Retry { failure } => ("retry", format!("{failure}: {}", failure.diagnosis().cause())),
            Event::WrongKey => (
                "wrong-key",
                "was refused: its key is another one than before; start the server anew if it is right"
                    .to_owned(),
            ),
            Event::Unexpected => ("unexpected", "has said something that does not belong here".to_owned()),
            Event::Stage(stage) => ("stage", describe(stage)),
            _ => ("other", String::new()),
        };
        if !text.is_empty() {
            self.line(device_id, text);
        }
        if let Event::Stage(Stage::Installed { version: None }) = event
            && self.has_final
        {
            self.line(device_id, FINAL_STAGE);
        }
        if let Event::Stage(Stage::Failed(_)) = event {
            self.line(device_id, AGAIN);
        }
        let mut object = json!({"event": name, "device": device_id});
        match event {
            Event::Registered { model, rom_version } => {
                (object["model"], object["romVersion"]) = (json!(model), json!(rom_version));
            }
            Event::State { switches, rssi } => {
                // In the words of the message.
                match switches {
                    Some(Switches::One(switch)) => object["switch"] = json!(switch.as_str()),
                    Some(Switches::Several(outlets)) => {
                        let outlet = |(switch, outlet): &(Switch, u8)| json!({"switch": switch.as_str(), "outlet": outlet});
                        object["switches"] = outlets.iter().map(outlet).collect();
                    }
                    None => {}
                }
                if let Some(rssi) = rssi {
                    object["rssi"] = json!(rssi);
                }
            }
            Event::Offered { attempt } => object["attempt"] = json!(attempt),
            Event::Hint(diagnosis) => {
                (object["diagnosis"], object["advice"]) =
                    (json!(diagnosis.code()), json!(diagnosis.advice()));
            }
            Event::Retry { failure } => add(&mut object, failure),
            Event::Stage(stage) => {
                object["stage"] = json!(stage.code());
                match stage {
                    Stage::Failed(failure) => add(&mut object, failure),
                    Stage::Installed { version } => object["romVersion"] = json!(version),
                    Stage::Done { closed } => object["closed"] = json!(closed),
                    _ => {}
                }
            }
            _ => {}
        }
        self.object(&object)
    }

    /// Draws the bars.
    fn show(&mut self, progress: &[(DeviceId, Stage)]) {
        for (device_id, stage) in progress {
            let (sent, total) = match stage {
                Stage::Downloading { sent, total } | Stage::Streaming { sent, total } => (*sent, *total),
                Stage::Final { sent, total } if *total != 0 => (*sent, *total),
                _ => {
                    if let Some(bar) = self.bars.remove(device_id) {
                        bar.finish_and_clear();
                    }
                    continue;
                }
            };
            let new = || self.ui.bar(device_id.as_str(), total.into());
            let bar = self.bars.entry(*device_id).or_insert_with(new);
            bar.set_length(total.into());
            bar.set_position(sent.into());
        }
    }
}

fn add(object: &mut Value, failure: &Reason) {
    object["failure"] = json!(failure.code());
    object["diagnosis"] = json!(failure.diagnosis().code());
    object["text"] = json!(failure.to_string());
    object["advice"] = json!(failure.advice());
}

/// A device is offered the images once, in so many attempts.
const AGAIN: &str = "is not offered the images again by this server: start it anew to try once more";

/// What a person does between the two stages.
const FINAL_STAGE: &str = "has the intermediate image. Join the open network FinalStage now, which it opens in 10 to 20 s; \
    this computer must get the address 192.168.4.2";

/// What a connection that did not come about is called by.
const fn diagnosis(failure: &HandshakeFailure) -> Option<Diagnosis> {
    match failure {
        HandshakeFailure::CertificateRefused { .. } => Some(Diagnosis::Certificate),
        HandshakeFailure::WithoutTls
        | HandshakeFailure::Protocol { .. }
        | HandshakeFailure::NoSharedCipher { .. }
        | HandshakeFailure::BadRecord => Some(Diagnosis::TlsSettings),
        _ => None,
    }
}

const fn arrived(closed: bool) -> &'static str {
    if closed {
        "has got the whole final image: done"
    } else {
        "all bytes of the final image have gone, and it has not asked again: done, most probably"
    }
}

fn describe(stage: &Stage) -> String {
    let mut text = String::new();
    let _ = match stage {
        Stage::Offered => write!(text, "is offered the images"),
        Stage::Accepted => write!(text, "has accepted them"),
        Stage::Downloading { total, .. } => write!(text, "downloads {total} bytes in ranges"),
        Stage::Streaming { total, .. } => write!(text, "downloads {total} bytes at once"),
        Stage::Served => write!(text, "has got all bytes"),
        Stage::Installed { version: Some(version) } => write!(text, "came back with {version}"),
        Stage::Installed { version: None } => write!(text, "has installed the image and restarts"),
        Stage::Final { total: 0, .. } => write!(text, "is in the final stage"),
        Stage::Final { total, .. } => write!(text, "fetches the final image of {total} bytes"),
        Stage::Done { closed } => write!(text, "{}", arrived(*closed)),
        Stage::Failed(failure) => {
            let diagnosis = failure.diagnosis();
            write!(text, "FAILED: {failure}\n  why:  {}\n  next: {}", diagnosis.cause(), diagnosis.advice())
        }
        _ => Ok(()),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_nobody_came_is_told_once_and_only_without_a_device() {
        let start = Instant::now();
        let end = start + NOBODY;
        let device_id = DeviceId::new("1000000001").unwrap();
        let device = News::Report(Report::Device { device_id, event: Event::Ready });
        // A browser is no device.
        let peer = IpAddr::from([192, 168, 1, 2]);
        let why = Rejection::NotFound { path: "/favicon.ico".into() };
        let stranger = News::Report(Report::Rejected { peer, why });

        let mut nobody = Nobody::since(start);
        nobody.take(&stranger);
        assert!(!nobody.is_due(end.checked_sub(TICK).unwrap()));
        assert!(nobody.is_due(end));
        assert!(!nobody.is_due(end + NOBODY));

        let mut nobody = Nobody::since(start);
        nobody.take(&device);
        assert!(!nobody.is_due(end + NOBODY));
    }
}
