//! Replies to GETSTATUS, and the work that they announce.

use core::time::Duration;

use super::{Device, FixedPoll, Job, Memory, Protocol, Stall, standard_requests::copy};
use crate::{
    state::State,
    status::{Status, StatusReply},
};

impl<B: AsRef<[u8]> + AsMut<[u8]>> Device<'_, B> {
    /// Makes work of a job and announces how long it takes.
    pub(super) fn begin<M: Memory + ?Sized>(&mut self, now: Duration, memory: &M, job: Job) {
        let work = job.work(self.block.as_ref());
        if self.fixed_poll(job.alternate()).is_none() {
            self.poll = memory.estimate(&work).min(StatusReply::MAX_POLL_TIMEOUT);
        }
        self.job = Some(job);
        self.state = State::DnBusy;
        self.busy_until = now.saturating_add(self.poll);
    }

    pub(super) fn fixed_poll(&self, alternate: u8) -> Option<FixedPoll> {
        self.profile.fixed_poll.get(usize::from(alternate)).copied().flatten()
    }

    fn forget_poll(&mut self) {
        if !self.profile.stale_poll_timeout {
            self.poll = Duration::ZERO;
        }
    }

    /// What is left of an announced time.
    fn remaining(until: Duration, now: Duration) -> Duration {
        let left = until.saturating_sub(now);
        if left.is_zero() { Self::OVERDUE_POLL } else { left }
    }

    pub(super) fn report(&mut self, now: Duration, input: &mut [u8]) -> usize {
        self.forget_poll();
        match self.state {
            State::DnBusy => self.poll = Self::remaining(self.busy_until, now),
            State::Manifest if self.job.is_some() => self.poll = Self::remaining(self.busy_until, now),
            State::Manifest => self.poll = self.leave_at.unwrap_or(now).saturating_sub(now),
            _ => {}
        }
        self.reply(self.state, input)
    }

    pub(super) fn report_block<M: Memory + ?Sized>(
        &mut self,
        now: Duration,
        memory: &M,
        input: &mut [u8],
    ) -> Result<usize, Stall> {
        self.forget_poll();
        match (self.pending.take(), self.protocol()) {
            (Some(pending), Protocol::DfuSe) => self.execute(now, memory, pending, input),
            (Some(pending), Protocol::Plain) => Ok(self.begin_plain(now, memory, pending, input)),
            (None, _) => {
                self.state = State::DnloadIdle;
                Ok(self.reply(self.state, input))
            }
        }
    }

    pub(super) fn report_manifest<M: Memory + ?Sized>(
        &mut self,
        now: Duration,
        memory: &M,
        input: &mut [u8],
    ) -> usize {
        self.forget_poll();
        if core::mem::take(&mut self.manifested) {
            self.enter_idle(self.status);
            return self.reply(State::Idle, input);
        }
        if self.protocol() == Protocol::Plain {
            let job = Job::Manifest { alternate: self.alternate, len: self.image.offset };
            self.begin(now, memory, job);
            self.state = State::Manifest;
            return self.reply(State::Manifest, input);
        }
        let delay = self.profile.leave_delay;
        if self.profile.leaves_for_certain() {
            self.leave_at = Some(now.saturating_add(delay));
        } else {
            // Asked again before the work was done: the time does not begin anew.
            let at = *self.leave_at.get_or_insert(now.saturating_add(delay));
            self.poll = Self::remaining(at, now);
        }
        self.state = self.profile.leave_state;
        self.reply(self.profile.leave_reply, input)
    }

    pub(super) fn reply(&self, state: State, input: &mut [u8]) -> usize {
        let string_index =
            if self.status == Status::Vendor { self.description.vendor_error_index() } else { 0 };
        let reply = StatusReply { status: self.status, poll_timeout: self.poll, state, string_index };
        copy(&reply.to_bytes(), input)
    }
}
