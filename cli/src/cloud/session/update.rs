//! A firmware update: which module is due, and how its transfer goes.

use super::{CallError, Phase, RESET_PATIENCE, Session};
use crate::cloud::Event;
use crate::cloud::catalogue::ModuleFile;
use crate::cloud::plan::{Due, Plan};
use crate::cloud::updates::{Attempts, Next, next_update};
use coap_spark::connection::{SendError, ServerConnection};
use coap_spark::message::describe::Describe;
use coap_spark::message::{Envelope, FromDevice};
use core::time::Duration;
use spark_ota::coap::Upload;
use spark_ota::describe::installed;
use spark_ota::module::{Installed, ModuleFunction};
use spark_ota::transfer::{Failure, Options, Progress, SenderError};
use std::sync::Arc;

/// Progress is reported at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Platform id of a Core, and its message buffer.
const CORE: u16 = 0;
const CORE_BUFFER: usize = 640;

/// Version of system part 2 of Device OS 0.7.0, the first that says whether an image is valid.
const TELLS_RESULT: u16 = 207;

/// By what the device says of its system; of others nothing is expected.
fn tells_result(describe: &Describe) -> bool {
    let part2 = |module: &Installed| (module.function, module.index) == (ModuleFunction::System, 2);
    installed(describe).iter().any(|module| part2(module) && module.version >= TELLS_RESULT)
}

/// Smallest chunks that are sent.
const MIN_CHUNK: u16 = 64;

/// What the device says of updates when it comes online.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Announced {
    /// Bytes of its OTA region. Firmware does not look whether an image fits.
    pub(super) max_binary: Option<u32>,
    /// Bytes of the chunks that it would like.
    pub(super) chunk_size: Option<u32>,
}

/// One module on its way.
#[derive(Debug)]
pub(super) struct Update {
    upload: Upload<Arc<[u8]>>,
    file: ModuleFile,
    /// Its place in the owner's plan, if it is part of one.
    step: Option<usize>,
    since: Duration,
    reported: Duration,
}

impl Update {
    /// `true` if the message belongs to the update.
    pub(super) fn handle_message(&mut self, now: Duration, message: &Envelope<FromDevice<'_>>) -> bool {
        self.upload.handle_message(now, message).is_mine()
    }

    pub(super) fn poll_send(
        &mut self,
        now: Duration,
        connection: &mut ServerConnection<1024>,
        out: &mut [u8],
    ) -> Result<Option<usize>, SendError> {
        // Chunks side by side, as many as fit; all else one by one.
        if let Some(frames) = self.upload.poll_send_batch(connection, out)? {
            return Ok(Some(frames.len()));
        }
        Ok(self.upload.poll_send(now, connection, out)?.map(<[u8]>::len))
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.upload.next_deadline()
    }

    pub(super) fn handle_deadline(&mut self, now: Duration) {
        self.upload.handle_deadline(now);
    }
}

impl Session {
    /// What the owner wants the device to have. It is begun when the device has described itself, which it is asked to do;
    /// not while another update runs.
    pub fn set_plan(&mut self, plan: Option<Plan>) {
        self.plan = plan;
        if matches!(self.phase, Phase::Idle { .. }) && self.plan.as_ref().is_some_and(Plan::is_running) {
            self.phase = Phase::Ask;
        }
    }

    /// What the owner wants the device to have, and how far it is.
    #[must_use]
    pub const fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// A module is on its way.
    #[must_use]
    pub const fn is_updating(&self) -> bool {
        matches!(self.phase, Phase::Updating(_))
    }

    /// How far the module on its way is.
    #[must_use]
    pub fn progress(&self) -> Option<(&str, Progress)> {
        match &self.phase {
            Phase::Updating(update) => Some((&update.file.name, update.upload.progress())),
            _ => None,
        }
    }

    /// Ends the owner's plan; a transfer under way is broken off.
    pub fn cancel_plan(&mut self, now: Duration) {
        if let Some(plan) = &mut self.plan
            && plan.is_running()
        {
            plan.cancel();
            self.tell_plan();
        }
        if let Phase::Updating(update) = &mut self.phase
            && update.step.is_some()
        {
            update.upload.cancel();
            self.watch_update(now);
        }
    }

    fn tell_plan(&mut self) {
        if let Some(plan) = &self.plan {
            let (device, plan) = (self.id, Box::new(plan.clone()));
            self.events.push_back(Event::PlanChanged { device, plan });
        }
    }

    /// What a device that has just described itself needs next: a module of its owner's plan, else one that it lacks.
    pub(super) fn decide(&mut self, now: Duration, describe: &Describe) {
        let device = self.id;
        if !self.claimed {
            return;
        }
        if let Some(plan) = &mut self.plan
            && plan.is_running()
        {
            let before = plan.clone();
            // Hello speaks of the update before this connection, which it says once.
            let due = plan.next(describe, core::mem::take(&mut self.update_succeeded));
            let changed = *plan != before;
            let slow = plan.slow;
            let wanted = match due {
                Due::Send(step) => {
                    plan.steps.get(step).map(|wanted| (step, wanted.sha256.clone(), wanted.why.clone()))
                }
                Due::Nothing => None,
            };
            if changed {
                self.tell_plan();
            }
            if let Some((step, sha256, why)) = wanted {
                match self.catalogue.by_sha256(&sha256) {
                    Some(file) => self.start_update(now, file, why, slow, Some(step)),
                    None => {
                        let reason = "the module is no longer in the store".to_owned();
                        self.fail_plan(step, reason);
                    }
                }
                return;
            }
        }
        if describe.modules.is_none() || !self.options.update {
            return;
        }
        match next_update(describe, &self.catalogue, &self.attempts) {
            Next::Nothing => {
                // What it lacks one day begins anew.
                self.attempts = Attempts::default();
                self.events.push_back(Event::UpToDate { device });
            }
            Next::Impossible(reason) => self.events.push_back(Event::CannotUpdate { device, reason }),
            Next::Send { file, why } => self.start_update(now, file, why, false, None),
        }
    }

    fn fail_plan(&mut self, step: usize, reason: String) {
        if let Some(plan) = &mut self.plan {
            plan.fail(step, reason.clone());
        }
        self.events.push_back(Event::CannotUpdate { device: self.id, reason });
        self.tell_plan();
    }

    fn cannot_update(&mut self, step: Option<usize>, reason: String) {
        match step {
            Some(step) => self.fail_plan(step, reason),
            None => self.events.push_back(Event::CannotUpdate { device: self.id, reason }),
        }
    }

    fn start_update(
        &mut self,
        now: Duration,
        file: ModuleFile,
        why: String,
        slow: bool,
        step: Option<usize>,
    ) {
        let device = self.id;
        let slow = slow || self.options.slow.contains(file.prefix.function.letter());
        let device_buffer = match file.prefix.platform_id {
            CORE => CORE_BUFFER,
            _ => self.options.transfer.device_buffer,
        };
        if let Some(room) = self.announced.max_binary.filter(|room| file.image.len() > *room as usize) {
            let reason =
                format!("{} has {} bytes, the device has room for {room}", file.name, file.image.len());
            self.cannot_update(step, reason);
            return;
        }
        let expects_result = tells_result(&self.known) || self.options.transfer.expects_result;
        let mut options =
            Options { offer_fast: !slow, device_buffer, expects_result, ..self.options.transfer };
        if let Some(size) = self.announced.chunk_size.and_then(|size| u16::try_from(size).ok()) {
            options.chunk_size = options.chunk_size.min(size.max(MIN_CHUNK));
        }
        let mut upload = Upload::new(Arc::clone(&file.image), options);
        // What does not fit the device's buffer goes in smaller chunks.
        while matches!(upload, Err(SenderError::Buffer { .. })) && options.chunk_size > MIN_CHUNK {
            options.chunk_size /= 2;
            upload = Upload::new(Arc::clone(&file.image), options);
        }
        let upload = match upload {
            Ok(upload) => upload,
            Err(error) => {
                self.cannot_update(step, format!("{}: {error}", file.name));
                return;
            }
        };
        self.refuse_calls(&CallError::Updating);
        if let (Some(plan), Some(step)) = (&mut self.plan, step) {
            plan.sending(step);
            self.tell_plan();
        }
        self.events.push_back(Event::UpdateStarted {
            device,
            module: file.name.clone(),
            index: file.prefix.index,
            repair: step.is_none(),
            why,
            bytes: file.image.len(),
        });
        self.connection.set_updating(now, true);
        self.phase = Phase::Updating(Box::new(Update { upload, file, step, since: now, reported: now }));
    }

    pub(super) fn watch_update(&mut self, now: Duration) {
        let Phase::Updating(update) = &mut self.phase else { return };
        let progress = update.upload.progress();
        let Some(outcome) = update.upload.outcome() else {
            if now >= update.reported + PROGRESS_INTERVAL {
                update.reported = now;
                self.events.push_back(Event::UpdateProgress { device: self.id, progress });
            }
            return;
        };
        let failure = outcome.err().map(|failure| failure.to_string());
        match (update.step, &mut self.plan) {
            (Some(step), Some(plan)) => match outcome {
                Ok(_) => plan.arrived(step),
                Err(Failure::ImageRefused) => plan.refused(step, Failure::ImageRefused.to_string()),
                Err(Failure::Refused { .. }) => plan.refused(step, failure.clone().unwrap_or_default()),
                Err(_) => plan.interrupted(step, failure.clone().unwrap_or_default()),
            },
            // A module that arrived and is still missing afterwards, or that the device refused, must not be sent for
            // ever. One that the network lost may.
            _ if matches!(outcome, Ok(_) | Err(Failure::ImageRefused | Failure::Refused { .. })) => {
                let file = update.file.clone();
                self.attempts.count(&file);
            }
            _ => {}
        }
        self.finish_update(now, progress, failure);
    }

    /// The connection ends in the middle of an update.
    pub(super) fn end_update(&mut self, now: Duration, reason: &str) {
        let Phase::Updating(update) = &self.phase else { return };
        let progress = update.upload.progress();
        if let (Some(step), Some(plan)) = (update.step, &mut self.plan) {
            plan.interrupted(step, reason.to_owned());
        }
        // It may have all of it: one that takes a module each time and never runs it is not sent it for ever.
        if update.step.is_none() && progress.sent >= progress.chunks {
            let file = update.file.clone();
            self.attempts.count(&file);
        }
        self.finish_update(now, progress, Some(reason.to_owned()));
    }

    fn finish_update(&mut self, now: Duration, progress: Progress, failure: Option<String>) {
        let after = match failure {
            None => Phase::Updated { until: now + RESET_PATIENCE },
            // A device that has refused to begin does not reset by itself.
            Some(_) => Phase::Idle { ask_at: Some(now + RESET_PATIENCE) },
        };
        let Phase::Updating(update) = core::mem::replace(&mut self.phase, after) else { return };
        self.connection.set_updating(now, false);
        if update.step.is_some() {
            self.tell_plan();
        }
        // The connection lives, and there is something to do.
        if failure.is_some() && self.plan.as_ref().is_some_and(Plan::is_running) {
            self.phase = Phase::Ask;
        }
        self.events.push_back(Event::UpdateFinished {
            device: self.id,
            module: update.file.name,
            progress,
            failure,
            took: now.saturating_sub(update.since),
        });
    }
}
