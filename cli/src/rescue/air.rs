//! The part of the rescue that goes over the air: a cloud on a real port, and the device in a thread, until the device
//! has every module and its application runs.

use super::report::Transfer;
use crate::cloud::catalogue::Catalogue;
use crate::cloud::folder::Folder;
use crate::cloud::session::SessionOptions;
use crate::cloud::{Cloud, Enrolment, Event, Options};
use crate::device::run;
use crate::exit::{Code, Failure};
use crate::ui::Ui;
use coap_spark::message::describe::Describe;
use coap_spark::message::system_event;
use core::time::Duration;
use indicatif::ProgressBar;
use spark_ota::transfer::Progress;
use spark_sim::{End, Photon, Started};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::sync::broadcast;

/// The whole update; a real one over Wi-Fi takes minutes, this one seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// The second update is the first fast one; these of its chunks are lost on purpose.
const LOSSY_CONNECTION: u32 = 2;
const LOST_CHUNKS: [u64; 5] = [3, 77, 78, 200, 410];

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Module transfers in order.
    pub transfers: Vec<Transfer>,
    /// The last Describe.
    pub describe: Option<Describe>,
    /// Everything that cloud and device said.
    pub log: Vec<String>,
}

/// Serves `catalogue` from `folder` on `listener` and runs the device until nothing is missing.
///
/// # Errors
/// [`Failure`] if the device does not get there.
pub fn update(
    photon: &mut Photon,
    folder: Folder,
    catalogue: Catalogue,
    listener: TcpListener,
    ui: &Ui,
) -> Result<Outcome, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::new(
            Code::Software,
            format_args!("cannot start the cloud: {error}"),
            "free memory or threads",
        )
    };
    // The bootloader is small enough for one chunk, one answer.
    let session = SessionOptions { slow: "b".to_owned(), ..SessionOptions::default() };
    let cloud = Cloud::new(folder, catalogue, Options { enrolment: Enrolment::Manual, session })?;
    let address = listener.local_addr().map_err(cannot)?.to_string();
    listener.set_nonblocking(true).map_err(cannot)?;
    let mut events = cloud.subscribe();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(cannot)?;
    let entered = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener).map_err(cannot)?;
    drop(entered);
    runtime.spawn(cloud.serve(listener));
    ui.note(format_args!("the cloud listens on {address}"));

    let stop = AtomicBool::new(false);
    let mut watch = Watch { ui, outcome: Outcome::default(), bar: None, current: None };
    let result = std::thread::scope(|scope| {
        let device = scope.spawn(|| run_device(photon, &address, &stop));
        let started = Instant::now();
        let mut result = Err(late());
        while started.elapsed() < PATIENCE && !device.is_finished() {
            match events.try_recv() {
                Ok(event) => {
                    if let Some(end) = watch.take(&event) {
                        result = end;
                        break;
                    }
                }
                Err(broadcast::error::TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(2)),
                Err(_) => {}
            }
        }
        stop.store(true, Ordering::Relaxed);
        match device.join() {
            Ok((Ok(()), log)) => {
                watch.outcome.log.extend(log);
                result
            }
            Ok((Err(failure), log)) => {
                watch.outcome.log.extend(log);
                result.and(Err(failure))
            }
            Err(_) => Err(Failure::new(Code::Software, "the simulated device crashed", "report this")),
        }
    });
    runtime.shutdown_background();
    if let Some(bar) = watch.bar.take() {
        bar.finish_and_clear();
    }
    result.map(|()| watch.outcome)
}

fn late() -> Failure {
    let what = format!("the device was not up to date after {} s", PATIENCE.as_secs());
    Failure::new(Code::Unavailable, what, "look at the log with --keep")
}

/// Boots, connects, takes what comes, resets; until told to stop.
fn run_device(photon: &mut Photon, address: &str, stop: &AtomicBool) -> (Result<(), Failure>, Vec<String>) {
    let mut log = Vec::new();
    let mut connection = 0;
    let mut started = photon.power_on();
    while !stop.load(Ordering::Relaxed) {
        if !matches!(started, Started::SafeMode | Started::Running) {
            let what = format!("the device does not start its system: {started:?}");
            return (Err(Failure::new(Code::Software, what, "look at the log with --keep")), log);
        }
        connection += 1;
        log.push(format!("device: starts ({started:?}), connection {connection}"));
        let losses: &[u64] = if connection == LOSSY_CONNECTION { &LOST_CHUNKS } else { &[] };
        photon.lose_chunks(losses.iter().copied());
        match run::connect(photon, address, stop, &mut |line| log.push(format!("device: {line}"))) {
            Ok(Some(end)) => {
                log.push(format!("device: {end}"));
                if !matches!(end, End::Reset) {
                    std::thread::sleep(Duration::from_millis(200));
                }
                started = photon.start();
            }
            Ok(None) => {}
            Err(error) => {
                let what = format!("the device cannot connect to {address}: {error}");
                return (Err(Failure::new(Code::Unavailable, what, "check the loopback interface")), log);
            }
        }
    }
    (Ok(()), log)
}

/// Turns the cloud's events into notes, bars and the outcome.
struct Watch<'u> {
    ui: &'u Ui,
    outcome: Outcome,
    bar: Option<ProgressBar>,
    current: Option<(String, usize)>,
}

impl Watch<'_> {
    /// The end of the story, if this event is it.
    fn take(&mut self, event: &Event) -> Option<Result<(), Failure>> {
        self.outcome.log.push(format!("cloud: {event}"));
        match event {
            Event::Online { .. } if self.outcome.transfers.is_empty() => {
                self.ui.note("the handshake is through and the Photon says Hello");
            }
            Event::Published { name, .. }
                if name == system_event::SAFE_MODE && self.outcome.transfers.is_empty() =>
            {
                self.ui.note("it is in safe mode: the application lacks something");
            }
            Event::Described { describe, .. } => {
                if self.outcome.describe.is_none() {
                    self.ui.note(format_args!("it describes itself: {}", describe.to_json()));
                }
                self.outcome.describe = Some(describe.clone());
            }
            Event::UpdateStarted { module, why, bytes, .. } => {
                if self.outcome.transfers.is_empty() {
                    self.ui.step(5, "The modules that it lacks, over the air");
                }
                self.ui.note(format_args!("{module}: {why}"));
                self.bar = Some(self.ui.bar(module, 0));
                self.current = Some((why.clone(), *bytes));
            }
            Event::UpdateProgress { progress, .. } => {
                if let Some(bar) = &self.bar {
                    bar.set_length(progress.chunks.into());
                    bar.set_position(progress.sent.into());
                }
            }
            Event::UpdateFinished { module, progress, failure, took, .. } => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
                let (why, bytes) = self.current.take().unwrap_or_default();
                if failure.is_none() {
                    let mode = if progress.fast { "fast" } else { "slow" };
                    let Progress { chunks, resent, .. } = progress;
                    self.ui
                        .note(format_args!("  {chunks} chunks in {mode} mode, {resent} lost and sent again"));
                }
                self.outcome.transfers.push(Transfer {
                    module: module.clone(),
                    why,
                    bytes,
                    progress: *progress,
                    seconds: took.as_secs_f64(),
                    failure: failure.clone(),
                });
            }
            Event::Refused { reason, advice, .. } => {
                return Some(Err(Failure::new(Code::Protocol, reason, advice)));
            }
            Event::CannotUpdate { reason, .. } => {
                let next = "give the modules that are named, with --modules";
                return Some(Err(Failure::new(Code::Data, reason, next)));
            }
            Event::UpToDate { .. } => {
                self.ui.note("it has every module it needs, and the application runs");
                return Some(Ok(()));
            }
            _ => {}
        }
        None
    }
}
