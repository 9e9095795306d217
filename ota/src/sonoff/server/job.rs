//! One upgrade of one device.

use super::coverage::Coverage;
use super::failure::{Diagnosis, Failure};
use super::session::Policy;
use crate::esp8266::Slot;
use crate::sonoff::message::Upgrade;
use crate::sonoff::text::{Sequence, Version};
use crate::sonoff::upgrade::UpgradeCode;
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

/// After an offer the first request has to come within this.
pub const OFFERED: Duration = Duration::from_secs(15);
/// Longest silence within a download: the device's own, and its three attempts to connect again.
pub const STALLED: Duration = Duration::from_secs(45);
/// After the last byte a result has to come within this.
pub const SERVED: Duration = Duration::from_secs(60);
/// Longest download: the device's own limit, and the longest silence.
pub const DOWNLOADED: Duration = Duration::from_secs(180 + 45);
/// After the image is installed, the intermediate one has to ask for its files within this: a person has to change the network.
/// After its first request it has to have them within this again, however often it asks; what is being sent then goes on, each
/// answer for this long at the most.
pub const FINAL_STAGE: Duration = Duration::from_secs(15 * 60);
/// After this silence in the final stage what may be wrong is told, once.
pub const HINT: Duration = Duration::from_secs(120);
/// Requests in the final stage after which files are sent slowly.
pub(super) const FINAL_TRIES: u8 = 3;
/// A device that registers this long after the last byte has restarted in between: it hashes the image, and restarts after 3 s.
const RESTARTED: Duration = Duration::from_secs(10);
/// A download is remembered this long while the device has no connection.
pub const REMEMBERED: Duration = Duration::from_secs(180);

/// How far an upgrade is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Stage {
    /// It was sent to the device.
    Offered,
    /// The device has accepted it, which later firmware says before it begins.
    Accepted,
    /// The device downloads in ranges.
    Downloading {
        /// Different bytes that were sent.
        sent: u32,
        /// Bytes of the image.
        total: u32,
    },
    /// The device downloads the whole file.
    Streaming {
        /// Bytes that were sent.
        sent: u32,
        /// Bytes of the image.
        total: u32,
    },
    /// The last byte was sent.
    Served,
    /// The device has said that it has the image, or came back with new firmware.
    Installed {
        /// The version that it came back with.
        version: Option<Version>,
    },
    /// The intermediate image asks for its files.
    Final {
        /// Bytes of the final image that were sent.
        sent: u32,
        /// Its bytes; 0 while it was not asked for.
        total: u32,
    },
    /// The final image has arrived.
    Done {
        /// The device has closed the connection after the last byte. Otherwise the bytes have gone, and nothing more was heard.
        closed: bool,
    },
    /// It failed.
    Failed(Failure),
}

impl Stage {
    /// A word for it that stays the same.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Accepted => "accepted",
            Self::Downloading { .. } => "downloading",
            Self::Streaming { .. } => "streaming",
            Self::Served => "served",
            Self::Installed { .. } => "installed",
            Self::Final { .. } => "final",
            Self::Done { .. } => "done",
            Self::Failed(_) => "failed",
        }
    }

    /// Nothing more is expected, unless a final stage follows the image that is installed.
    #[must_use]
    pub const fn is_end(&self) -> bool {
        matches!(self, Self::Installed { .. } | Self::Done { .. } | Self::Failed(_))
    }

    /// The device has what it was to have, unless a final stage follows the image that is installed.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Installed { .. } | Self::Done { .. })
    }
}

/// How a file is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "fast or slow")]
pub enum Delivery {
    /// As fast as the connection takes it.
    Direct,
    /// By a [`Pacer`](crate::sonoff::http::Pacer).
    Paced,
}

/// What comes of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Goes on.
    Continues,
    /// Offer it again.
    Again(Failure),
    /// Goes on, and this may be wrong.
    Hint(Diagnosis),
    /// The stage is an end.
    Ended,
}

#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) upgrade: Upgrade,
    pub(super) sequence: Sequence,
    pub(super) stage: Stage,
    /// The version before.
    pub(super) rom_version: Version,
    /// Including this one.
    pub(super) attempt: u8,
    attempts: u8,
    /// The downloader was found to be an old one.
    pub(super) paced: bool,
    /// It is to be offered again, when the device listens.
    again: Option<Failure>,
    final_stage: bool,
    /// What may be wrong, as far as it was told.
    hinted: Vec<Diagnosis>,
    /// The first request in the final stage.
    final_since: Option<Duration>,
    final_requests: u8,
    /// The last request in the final stage …
    final_try: Duration,
    /// … and the last bytes that went or arrived since.
    final_moved: Duration,
    /// Handed to the network.
    given: Coverage,
    /// Taken by the network.
    sent: Coverage,
    slot: Option<Slot>,
    total: u32,
    last: Option<Range<u32>>,
    /// Of the download.
    begun_at: Option<Duration>,
    whole_direct: bool,
    deadline: Option<Duration>,
    /// The device has no connection since.
    lost_at: Option<Duration>,
    /// The connection was closed between the offer and the first request.
    closed_on_offer: bool,
    served_at: Duration,
    /// It restarts by itself, or was told to.
    restarts: bool,
    /// It came back with the old version so soon after the last byte that it may not have restarted yet.
    came_back: bool,
}

impl Job {
    pub(super) fn new(
        now: Duration,
        upgrade: Upgrade,
        sequence: Sequence,
        rom_version: Version,
        policy: Policy,
    ) -> Self {
        let restarts = upgrade.auto_restart != Some(false);
        let mut job = Self {
            upgrade,
            sequence,
            stage: Stage::Offered,
            rom_version,
            attempt: 0,
            attempts: policy.attempts,
            paced: false,
            again: None,
            final_stage: policy.final_stage,
            hinted: Vec::new(),
            final_since: None,
            final_requests: 0,
            final_try: now,
            final_moved: now,
            given: Coverage::default(),
            sent: Coverage::default(),
            slot: None,
            total: 0,
            last: None,
            begun_at: None,
            whole_direct: false,
            deadline: None,
            lost_at: None,
            closed_on_offer: false,
            served_at: now,
            restarts,
            came_back: false,
        };
        job.offered(now, sequence);
        job
    }

    /// It is sent, for the first time or again.
    pub(super) fn offered(&mut self, now: Duration, sequence: Sequence) {
        self.attempt = self.attempt.saturating_add(1);
        (self.stage, self.sequence) = (Stage::Offered, sequence);
        (self.given, self.sent) = (Coverage::default(), Coverage::default());
        (self.last, self.slot, self.begun_at, self.again) = (None, None, None, None);
        (self.whole_direct, self.closed_on_offer, self.lost_at) = (false, false, None);
        self.deadline = Some(now.saturating_add(OFFERED));
    }

    /// A device may still ask for images.
    pub(super) const fn is_open(&self) -> bool {
        !self.stage.is_end() && !matches!(self.stage, Stage::Final { .. })
    }

    pub(super) const fn next_deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Silence of a download, and its end.
    fn download_deadline(&self, now: Duration) -> Duration {
        let begun_at = self.begun_at.unwrap_or(now);
        now.saturating_add(STALLED).min(begun_at.saturating_add(DOWNLOADED))
    }

    /// It is to be offered again; the device does not listen now.
    pub(super) fn postpone(&mut self, now: Duration, failure: Failure) {
        self.again = Some(failure);
        self.deadline = Some(now.saturating_add(REMEMBERED));
    }

    /// Why it is to be offered again, if it is.
    pub(super) fn take_again(&mut self) -> Option<Failure> {
        self.again.take()
    }

    /// A file is asked for: all of it, or a range.
    pub(super) fn requested(
        &mut self,
        now: Duration,
        slot: Slot,
        total: u32,
        range: Option<Range<u32>>,
        full_speed_first: bool,
    ) -> Delivery {
        if !self.is_open() {
            return Delivery::Direct;
        }
        if self.slot != Some(slot) {
            (self.given, self.sent, self.slot) = (Coverage::default(), Coverage::default(), Some(slot));
        }
        self.total = total;
        let is_whole = range.is_none();
        self.last = Some(range.unwrap_or(0..total));
        self.begun_at = Some(self.begun_at.unwrap_or(now));
        self.deadline = Some(self.download_deadline(now));
        let sent = self.sent.bytes();
        if self.stage != Stage::Served {
            self.stage = if is_whole {
                // A whole file begins anew.
                (self.given, self.sent) = (Coverage::default(), Coverage::default());
                Stage::Streaming { sent: 0, total }
            } else {
                Stage::Downloading { sent, total }
            };
        }
        match is_whole {
            true if self.paced || !full_speed_first => Delivery::Paced,
            true => {
                self.whole_direct = true;
                Delivery::Direct
            }
            false => Delivery::Direct,
        }
    }

    /// Bytes of a file are handed to the network.
    pub(super) fn given(&mut self, slot: Slot, part: Range<u32>) {
        if self.is_open() && self.slot == Some(slot) {
            self.given.add(part);
        }
    }

    /// The network has taken bytes of a file.
    pub(super) fn sent(&mut self, now: Duration, slot: Slot, part: Range<u32>) {
        if !self.is_open() || self.slot != Some(slot) {
            return;
        }
        self.sent.add(part);
        let (bytes, total) = (self.sent.bytes(), self.total);
        if self.stage == Stage::Served {
            self.deadline = Some(now.saturating_add(SERVED));
        } else if self.sent.is_whole(total) {
            self.stage = Stage::Served;
            (self.served_at, self.came_back) = (now, false);
            self.deadline = Some(now.saturating_add(SERVED));
        } else {
            self.deadline = Some(self.download_deadline(now));
            if let Stage::Downloading { sent, .. } | Stage::Streaming { sent, .. } = &mut self.stage {
                *sent = bytes;
            }
        }
    }

    /// A code came for this upgrade; `last_word` if it is said to be the result.
    pub(super) fn result(&mut self, now: Duration, code: u16, last_word: bool) -> Verdict {
        if !self.is_open() {
            return Verdict::Continues;
        }
        let failure = match UpgradeCode::new(code) {
            UpgradeCode::Done => {
                match self.stage {
                    // Its word may come before that of the network.
                    _ if self.total != 0 && self.given.is_whole(self.total) => {
                        return self.installed(now, None);
                    }
                    Stage::Offered => {
                        self.stage = Stage::Accepted;
                        self.deadline = Some(now.saturating_add(OFFERED));
                    }
                    _ => {}
                }
                // A device that is content with an image of which not all was sent has not got it from here.
                let (sent, total) = (self.sent.bytes(), self.total);
                return if last_word {
                    self.failed(Failure::NotServed { sent, total })
                } else {
                    Verdict::Continues
                };
            }
            UpgradeCode::Download => return self.download_failed(),
            UpgradeCode::BadRequest => Failure::BadRequest,
            UpgradeCode::Model => Failure::Model { code },
            UpgradeCode::Digest => Failure::Digest,
            UpgradeCode::Version => Failure::Version,
            UpgradeCode::Other(code) => Failure::Code { code },
        };
        self.failed(failure)
    }

    fn download_failed(&mut self) -> Verdict {
        let total = self.total;
        let failure = match self.last.clone() {
            None => Failure::NoDownload { answered: true },
            Some(_) if self.whole_direct => {
                let first = !core::mem::replace(&mut self.paced, true);
                if first {
                    // Not one of the attempts: the server did not know yet how to serve this device.
                    self.attempt = self.attempt.saturating_sub(1);
                    return Verdict::Again(Failure::Overrun);
                }
                Failure::Overrun
            }
            Some(last) if last.start == 0 && last.end < total => Failure::FirstPiece { last, total },
            Some(last) => Failure::Download { sent: self.sent.bytes(), total, last },
        };
        self.failed(failure)
    }

    fn failed(&mut self, failure: Failure) -> Verdict {
        if failure.is_worth_retrying() && self.attempt < self.attempts {
            return Verdict::Again(failure);
        }
        self.end(Stage::Failed(failure))
    }

    fn end(&mut self, stage: Stage) -> Verdict {
        (self.stage, self.deadline, self.again) = (stage, None, None);
        Verdict::Ended
    }

    fn installed(&mut self, now: Duration, version: Option<Version>) -> Verdict {
        self.end(Stage::Installed { version });
        self.deadline = self.final_stage.then(|| now.saturating_add(HINT));
        self.served_at = now;
        Verdict::Ended
    }

    /// The deadline has come.
    pub(super) fn expired(&mut self, now: Duration) -> Verdict {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return Verdict::Continues;
        }
        if matches!(self.stage, Stage::Installed { .. } | Stage::Final { .. }) {
            return self.final_stage_is_silent(now);
        }
        if let Some(failure) = self.again.take() {
            return self.end(Stage::Failed(failure));
        }
        let (sent, total) = (self.sent.bytes(), self.total);
        if let Some(lost_at) = self.lost_at {
            let remembered = lost_at.saturating_add(REMEMBERED);
            if now < remembered {
                self.deadline = Some(remembered);
                return Verdict::Continues;
            }
        }
        let failure = match (&self.stage, self.last.clone()) {
            (Stage::Served, _) if self.came_back => Failure::DidNotBoot { rom_version: self.rom_version },
            (Stage::Served, _) => Failure::NoResult,
            (_, None) if self.closed_on_offer => Failure::ClosedOnUpgrade,
            (_, None) => Failure::NoDownload { answered: false },
            (_, Some(_)) if self.lost_at.is_some() => Failure::Lost { sent, total },
            (_, Some(last)) => Failure::Download { sent, total, last },
        };
        if self.lost_at.is_some() {
            // There is nobody to offer it to.
            return self.end(Stage::Failed(failure));
        }
        self.failed(failure)
    }

    fn final_stage_is_silent(&mut self, now: Duration) -> Verdict {
        let diagnosis = match self.stage {
            Stage::Final { .. } => Diagnosis::FinalStageRepeats,
            _ => Diagnosis::FinalStageSilent,
        };
        let end = self.final_stage_end();
        if now < end {
            self.deadline = Some(end);
            return self.hint(diagnosis).map_or(Verdict::Continues, Verdict::Hint);
        }
        let failure = match self.stage {
            Stage::Final { sent, total } => Failure::FinalStage { sent, total },
            _ if self.hinted.contains(&Diagnosis::FinalStageMissing) => Failure::FinalFileMissing,
            _ => Failure::NoFinalStage,
        };
        self.end(Stage::Failed(failure))
    }

    fn final_stage_end(&self) -> Duration {
        self.final_since.unwrap_or(self.served_at).saturating_add(FINAL_STAGE)
    }

    /// Silence while bytes are on their way; beyond the end they may still be, but what is asked for then puts it off no more.
    fn final_stage_deadline(&self, now: Duration) -> Duration {
        let (silence, end) = (now.saturating_add(HINT), self.final_stage_end());
        if now < end || self.final_try >= end { silence.min(end) } else { silence }
    }

    /// What is to be told, if it was not.
    pub(super) fn hint(&mut self, diagnosis: Diagnosis) -> Option<Diagnosis> {
        let is_new = !self.hinted.contains(&diagnosis);
        is_new.then(|| self.hinted.push(diagnosis)).map(|()| diagnosis)
    }

    /// It was told to restart.
    pub(super) const fn restarts(&mut self) {
        self.restarts = true;
    }

    /// The connection to the device is gone.
    pub(super) fn lost(&mut self, now: Duration) {
        if self.is_open() {
            self.lost_at = Some(now);
            self.closed_on_offer = self.last.is_none();
        }
    }

    /// The device has registered again; over the connection that it had, if it was not `away`.
    pub(super) fn registered(&mut self, now: Duration, version: Version, away: bool) -> Verdict {
        let is_old = version == self.rom_version;
        if is_old && !away {
            // It has not restarted, and goes on.
            return Verdict::Continues;
        }
        // Without a restart it runs what it ran before.
        let restarts = self.restarts;
        match &self.stage {
            Stage::Installed { version: None } if is_old && restarts => {
                return self.end(Stage::Failed(Failure::DidNotBoot { rom_version: version }));
            }
            Stage::Installed { version: None } if !is_old => return self.installed(now, Some(version)),
            _ if !self.is_open() => return Verdict::Continues,
            Stage::Served if !is_old => return self.installed(now, Some(version)),
            _ if !is_old => {
                let (sent, total) = (self.sent.bytes(), self.total);
                return self.end(Stage::Failed(Failure::OtherVersion { rom_version: version, sent, total }));
            }
            Stage::Served if restarts && now >= self.served_at.saturating_add(RESTARTED) => {
                return self.end(Stage::Failed(Failure::DidNotBoot { rom_version: version }));
            }
            Stage::Served => self.came_back = restarts,
            _ => {}
        }
        self.lost_at = None;
        if self.last.is_none() {
            self.deadline = Some(now.saturating_add(STALLED));
            return if self.attempt < self.attempts {
                Verdict::Again(Failure::ClosedOnUpgrade)
            } else {
                self.end(Stage::Failed(Failure::ClosedOnUpgrade))
            };
        }
        self.deadline = Some(match self.stage {
            _ if self.again.is_some() => now.saturating_add(REMEMBERED),
            Stage::Served => now.saturating_add(SERVED),
            _ => self.download_deadline(now),
        });
        Verdict::Continues
    }

    /// The intermediate image has asked for a file. What may be wrong, if it does so too often.
    pub(super) fn final_requested(&mut self, now: Duration, total: u32) -> Option<Diagnosis> {
        let is_new = match self.stage {
            Stage::Final { .. } => false,
            // Also after the end: a device that asks once more has not got it.
            Stage::Served | Stage::Installed { .. } | Stage::Done { .. } => true,
            _ => return None,
        };
        if is_new {
            self.final_since = Some(now);
        }
        self.stage = Stage::Final { sent: 0, total };
        (self.final_try, self.final_moved) = (now, now);
        self.deadline = Some(now.saturating_add(HINT).min(self.final_stage_end()));
        self.final_requests = self.final_requests.saturating_add(1);
        let often = self.final_requests > FINAL_TRIES;
        if often { self.hint(Diagnosis::FinalStageRepeats) } else { None }
    }

    /// The intermediate image has got bytes of the final one.
    pub(super) fn in_final_stage(&mut self, now: Duration, sent: u32, total: u32) {
        if let Stage::Final { .. } = self.stage {
            self.stage = Stage::Final { sent, total };
            self.final_image_moved(now);
        }
    }

    /// Its bytes go, or arrive: that may take as long as it likes.
    pub(super) fn final_image_moved(&mut self, now: Duration) {
        if let Stage::Final { .. } = self.stage {
            self.final_moved = now;
            self.deadline = Some(self.final_stage_deadline(now));
        }
    }

    /// Bytes of the final image are on their way, and may be: it is slow, not silent.
    pub(super) fn is_slow(&mut self, now: Duration) -> bool {
        let may = self.final_try < self.final_stage_end()
            && now < self.final_moved.saturating_add(FINAL_STAGE)
            && matches!(self.stage, Stage::Final { .. });
        if may {
            self.deadline = Some(self.final_stage_deadline(now));
        }
        may
    }

    /// The final image has arrived.
    pub(super) fn finished(&mut self, closed: bool) {
        if let Stage::Final { .. } = self.stage {
            (self.stage, self.deadline) = (Stage::Done { closed }, None);
        }
    }
}
