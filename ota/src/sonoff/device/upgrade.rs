//! An upgrade: what of it a device checks, the download, and the result.

use super::download::{Head, read_head};
use super::{Device, Downloader, Link, Output, State};
use crate::sonoff::http::{DownloadRequest, hex};
use crate::sonoff::limits;
use crate::sonoff::message::{DeviceBody, Reading};
use crate::sonoff::text::{Sequence, Version};
use crate::sonoff::upgrade::{Slot, UpgradeCode, UrlParts};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// An upgrade that is under way.
#[derive(Clone, Debug)]
pub(super) struct Job {
    slot: Slot,
    host: String,
    port: u16,
    path: String,
    digest: String,
    sequence: Option<Sequence>,
    auto_restart: bool,
    step: Step,
    /// What has come and is not written.
    received: Vec<u8>,
    head: Option<Head>,
    total: Option<u32>,
    /// Bytes in flash.
    written: u32,
    reconnects: u8,
    /// End of the silence, or of the wait in `step`.
    deadline: Duration,
    /// End of the whole download.
    finish_by: Duration,
    /// Bytes that wait to be written, and when that was.
    backlog: (u32, Duration),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Before it connects, for the first time or again.
    Waiting,
    Connecting,
    Receiving,
    Verifying,
}

impl Job {
    pub(super) fn state(&self) -> State {
        if self.step == Step::Verifying { State::Verifying } else { State::Upgrading }
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        (self.step != Step::Verifying).then_some(self.deadline.min(self.finish_by))
    }
}

impl Device {
    /// `upgrade` has come.
    pub(super) fn upgrade(&mut self, now: Duration, reading: Reading<'_>, sequence: Option<Sequence>) {
        // One at a time, and not after a success.
        if self.job.is_some() || self.reboot_at.is_some() {
            return;
        }
        let code = match self.judge(now, reading, sequence) {
            Ok(job) => {
                self.stored = None;
                self.job = Some(job);
                if self.profile.acknowledges_first {
                    self.result(now, 0, sequence);
                }
                return;
            }
            Err(code) => code,
        };
        if code == UpgradeCode::Model && self.profile.closes_on_model {
            self.hang_up(now);
        } else {
            self.result(now, code.code(), sequence);
        }
    }

    fn judge(
        &self,
        now: Duration,
        reading: Reading<'_>,
        sequence: Option<Sequence>,
    ) -> Result<Job, UpgradeCode> {
        let bad = UpgradeCode::BadRequest;
        let model = reading.text("model").ok_or(bad)?;
        let version = reading.text("version").and_then(|text| Version::new(text).ok()).ok_or(bad)?;
        let auto_restart = reading.number("autoRestart");
        if self.profile.wants_auto_restart && auto_restart.is_none() {
            return Err(bad);
        }
        let slot = self.identity.running.other();
        let entry = reading.entries().find(|entry| entry.name == Some(slot.file_name())).ok_or(bad)?;
        let digest = entry.digest.filter(|digest| digest.len() == limits::DIGEST).ok_or(bad)?;
        let url = entry.download_url.ok_or(bad)?;
        if model != self.identity.model.as_str() {
            return Err(UpgradeCode::Model);
        }
        if !version.is_newer_than(&self.identity.rom_version) {
            return Err(UpgradeCode::Version);
        }
        // What is too long would be copied over something else; here it is just no download.
        let url = UrlParts::new(url).map_err(|_| UpgradeCode::Download)?;
        let wait = if self.profile.acknowledges_first { limits::DOWNLOAD_DELAY } else { Duration::ZERO };
        Ok(Job {
            slot,
            host: url.host.to_string(),
            port: url.port,
            path: url.path.to_string(),
            digest: digest.to_string(),
            sequence,
            auto_restart: !self.profile.acknowledges_first
                || auto_restart.is_some_and(|restart| restart != 0),
            step: Step::Waiting,
            received: Vec::new(),
            head: None,
            total: None,
            written: 0,
            reconnects: 0,
            deadline: now.saturating_add(wait),
            finish_by: now.saturating_add(limits::DOWNLOAD),
            backlog: (0, now),
        })
    }

    fn is_ranged(&self) -> bool {
        self.profile.downloader == Downloader::Ranges
    }

    pub(super) fn download_connected(&mut self, now: Duration) {
        if let Some(job) = self.job.as_mut().filter(|job| job.step == Step::Connecting) {
            job.step = Step::Receiving;
            self.ask_for_image(now);
        }
    }

    fn ask_for_image(&mut self, now: Duration) {
        let ranged = self.is_ranged();
        let Some(job) = &mut self.job else { return };
        job.received.clear();
        job.head = None;
        job.deadline = now.saturating_add(limits::DOWNLOAD_SILENCE);
        let id = self.identity.device_id;
        let mut request = DownloadRequest::new(&job.path, id, self.random.next(), &self.identity.factory_key);
        if ranged {
            let end = job.written.saturating_add(limits::CHUNK);
            request = request.range(job.written..job.total.map_or(end, |total| end.min(total)));
        }
        let bytes = request.to_http();
        self.send(Link::Download, bytes);
    }

    pub(super) fn download_closed(&mut self, now: Duration) {
        let ranged = self.is_ranged();
        let Some(job) = &mut self.job else { return };
        match job.step {
            Step::Waiting | Step::Verifying => {}
            Step::Connecting | Step::Receiving if ranged && job.reconnects < limits::RECONNECTS => {
                job.reconnects += 1;
                job.step = Step::Waiting;
                job.deadline = now.saturating_add(Duration::from_secs(job.reconnects.into()));
            }
            Step::Connecting | Step::Receiving => self.finish(now, UpgradeCode::Download),
        }
    }

    pub(super) fn download_deadline(&mut self, now: Duration) {
        let Some(job) = &mut self.job else { return };
        if job.next_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if now >= job.finish_by || job.step != Step::Waiting {
            self.outputs.push_back(Output::Close(Link::Download));
            return self.finish(now, UpgradeCode::Download);
        }
        job.step = Step::Connecting;
        job.deadline = now.saturating_add(limits::DOWNLOAD_SILENCE);
        let (host, port) = (job.host.clone(), job.port);
        self.outputs.push_back(Output::Connect { link: Link::Download, host, port, tls: false });
    }

    pub(super) fn downloaded(&mut self, now: Duration, bytes: &[u8]) {
        let Some(job) = self.job.as_mut().filter(|job| job.step == Step::Receiving) else { return };
        job.deadline = now.saturating_add(limits::DOWNLOAD_SILENCE);
        if let Downloader::Whole { buffer, per_second } = self.profile.downloader {
            let (level, since) = job.backlog;
            let passed = now.saturating_sub(since).as_millis() * u128::from(per_second) / 1000;
            let level = level.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX));
            let level = level.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            job.backlog = (level, now);
            if level > buffer {
                return self.download_failed(now);
            }
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.take(now, rest) {
                Ok(rest) => rest,
                Err(()) => return self.download_failed(now),
            };
            if self.job.as_ref().is_none_or(|job| job.step != Step::Receiving) {
                return;
            }
        }
    }

    fn download_failed(&mut self, now: Duration) {
        self.outputs.push_back(Output::Close(Link::Download));
        self.finish(now, UpgradeCode::Download);
    }

    /// Takes bytes up to the end of a head or of a sector, and gives back what is behind it.
    fn take<'a>(&mut self, now: Duration, bytes: &'a [u8]) -> Result<&'a [u8], ()> {
        let ranged = self.is_ranged();
        let Some(job) = &mut self.job else { return Ok(&[]) };
        let Some(head) = job.head else {
            let before = job.received.len();
            let room = (limits::DOWNLOAD_HEAD + 1).saturating_sub(before);
            job.received.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            let Some(head) = read_head(&job.received, ranged).map_err(|_| ())? else {
                return if bytes.len() >= room { Err(()) } else { Ok(&[]) };
            };
            let total = *job.total.get_or_insert(head.total);
            let expected = if ranged { limits::CHUNK.min(total.saturating_sub(job.written)) } else { total };
            if head.length != expected {
                return Err(());
            }
            job.received.clear();
            job.head = Some(head);
            return Ok(bytes.get(head.head - before..).unwrap_or_default());
        };
        let total = job.total.unwrap_or(head.total);
        let wanted = limits::CHUNK.min(total.saturating_sub(job.written));
        let wanted = usize::try_from(wanted).unwrap_or_default();
        let (part, behind) = bytes.split_at(bytes.len().min(wanted.saturating_sub(job.received.len())));
        job.received.extend_from_slice(part);
        if job.received.len() == wanted {
            self.sector(now, wanted, total);
            // Between two answers nothing is expected.
            return Ok(if ranged { &[] } else { behind });
        }
        Ok(behind)
    }

    /// A sector is whole.
    fn sector(&mut self, now: Duration, bytes: usize, total: u32) {
        let ranged = self.is_ranged();
        let Some(job) = &mut self.job else { return };
        let address = job.slot.flash_offset() + job.written;
        let mut data = core::mem::take(&mut job.received);
        data.resize(usize::try_from(limits::CHUNK).unwrap_or_default(), 0xff);
        job.written += u32::try_from(bytes).unwrap_or_default();
        let whole = job.written >= total;
        if whole {
            job.step = Step::Verifying;
        }
        let slot = job.slot;
        self.outputs.push_back(Output::Erase { address });
        self.outputs.push_back(Output::Write { address, data });
        if whole {
            self.outputs.push_back(Output::Close(Link::Download));
            self.outputs.push_back(Output::Hash { address: slot.flash_offset(), length: total });
        } else if ranged {
            self.ask_for_image(now);
        }
    }

    /// SHA-256 of what is in flash, after [`Output::Hash`].
    pub fn hashed(&mut self, now: Duration, digest: [u8; 32]) {
        let Some(job) = self.job.as_ref().filter(|job| job.step == Step::Verifying) else { return };
        let fits = hex(&digest) == job.digest.as_str();
        self.finish(now, if fits { UpgradeCode::Done } else { UpgradeCode::Digest });
    }

    /// Flash could not be erased or written. Real devices say the same as for a failed download.
    pub fn flash_failed(&mut self, now: Duration) {
        if self.job.is_some() {
            self.download_failed(now);
        }
    }

    fn finish(&mut self, now: Duration, code: UpgradeCode) {
        let Some(job) = self.job.take() else { return };
        if self.profile.acknowledges_first {
            self.say(now, DeviceBody::UpgradeState { code: code.code(), sequence: job.sequence });
        } else {
            self.result(now, code.code(), job.sequence);
        }
        if code == UpgradeCode::Done {
            self.stored = Some(job.slot);
            if job.auto_restart {
                self.reboot_at = Some(now.saturating_add(limits::REBOOT));
            }
        }
    }
}
