//! Data and commands of DfuSe: what UPLOAD reads and what a downloaded block does.

use core::time::Duration;

use super::{Device, Job, Memory, Pending, Rules, Stall, standard_requests::copy};
use crate::{
    dfuse::{self, Command, CommandError},
    layout::{Access, MemoryLayout},
    request::SetupPacket,
    state::State,
    status::{Status, StatusReply},
};

/// What a block asks for when GETSTATUS executes it.
enum Task {
    Nothing,
    SetPointer(u32),
    Do(Job),
}

impl<'d, B: AsRef<[u8]> + AsMut<[u8]>> Device<'d, B> {
    /// Executes a block: DfuSe acts when GETSTATUS is answered, not on DNLOAD.
    pub(super) fn execute<M: Memory + ?Sized>(
        &mut self,
        now: Duration,
        memory: &M,
        pending: Pending,
        input: &mut [u8],
    ) -> Result<usize, Stall> {
        self.announce_fixed(pending);
        let task = match self.profile.rules {
            Rules::Strict => self.task(pending).and_then(|task| self.check(task)),
            Rules::Stm32 => self.task(pending).and_then(|task| self.check_start(task)),
        };
        let task = match (task, self.profile.rules) {
            (Ok(task), _) => task,
            (Err(status), Rules::Strict) => {
                let _ = self.fail(status);
                self.poll = Duration::ZERO;
                return Ok(self.reply(State::Error, input));
            }
            // The block is gone, the state stays dfuDNLOAD-SYNC.
            (Err(_), Rules::Stm32) => return Err(Stall),
        };
        match task {
            Task::Nothing => {}
            Task::SetPointer(address) => self.pointer = address,
            Task::Do(job) => {
                // ST's class code keeps both commands' address in the pointer (recorded session `device_key`).
                if let (Rules::Stm32, Job::Erase { address, .. }) = (self.profile.rules, job) {
                    self.pointer = address;
                }
                let work = job.work(self.block.as_ref());
                if self.profile.fixed_poll.get(usize::from(self.alternate)).is_none() {
                    self.poll = memory.estimate(&work).min(StatusReply::MAX_POLL_TIMEOUT);
                }
                self.job = Some(job);
                self.state = State::DnBusy;
            }
        }
        self.busy_until = now.saturating_add(self.poll);
        Ok(self.reply(State::DnBusy, input))
    }

    fn announce_fixed(&mut self, pending: Pending) {
        let Some(fixed) = self.profile.fixed_poll.get(usize::from(self.alternate)) else { return };
        // Outside the map the firmware leaves the field as it was.
        if self.layout().is_none_or(|layout| layout.segment_at(self.pointer).is_none()) {
            return;
        }
        let erase =
            pending.block == dfuse::COMMAND_BLOCK && self.block.as_ref().first() == Some(&dfuse::ERASE);
        self.poll = if erase { fixed.erase } else { fixed.other };
    }

    fn task(&self, pending: Pending) -> Result<Task, Status> {
        let strict = self.profile.rules == Rules::Strict;
        let alternate = self.alternate;
        let data = self.block.as_ref().get(..pending.len).unwrap_or_default();
        if pending.block != dfuse::COMMAND_BLOCK {
            let transfer_size = self.description.functional.transfer_size;
            let Some(address) = dfuse::block_address(self.pointer, pending.block, transfer_size) else {
                return if strict { Err(Status::Target) } else { Ok(Task::Nothing) };
            };
            let address = u32::try_from(address).map_err(|_| Status::Address)?;
            return Ok(Task::Do(Job::Program { alternate, address, len: pending.len }));
        }
        match Command::parse(data) {
            Ok(Command::SetAddress(address)) => Ok(Task::SetPointer(address)),
            Ok(Command::ErasePage(address)) => Ok(Task::Do(Job::Erase { alternate, address })),
            Ok(Command::MassErase) if strict => Ok(Task::Do(Job::MassErase { alternate })),
            Ok(Command::GetCommands) => Ok(Task::Nothing),
            Ok(Command::MassErase | Command::ReadUnprotect)
            | Err(CommandError::Empty | CommandError::Length { .. } | CommandError::Unknown { .. }) => {
                Err(Status::StalledPacket)
            }
        }
    }

    /// Checks a task against the memory map before any work begins.
    fn check(&self, task: Task) -> Result<Task, Status> {
        let layout = self.layout().ok_or(Status::Firmware)?;
        match task {
            Task::SetPointer(address) => {
                layout.segment_at(address).ok_or(Status::Target)?;
            }
            Task::Do(Job::Erase { address, .. }) => {
                let segment = layout.segment_at(address).ok_or(Status::Target)?;
                if !segment.access.erasable() {
                    return Err(Status::Erase);
                }
            }
            Task::Do(Job::Program { address, len, .. }) => {
                let (address, len) = (u64::from(address), u64::try_from(len).unwrap_or(u64::MAX));
                if self.stretch(address, len, |_| true) < len {
                    return Err(Status::Address);
                }
                if self.stretch(address, len, |access| access.writeable()) < len {
                    return Err(Status::Write);
                }
            }
            Task::Nothing | Task::Do(Job::MassErase { .. }) => {}
        }
        Ok(task)
    }

    /// The firmware looks only where work begins.
    fn check_start(&self, task: Task) -> Result<Task, Status> {
        if let Task::Do(Job::Erase { address, .. } | Job::Program { address, .. }) = task {
            let layout = self.layout().ok_or(Status::Firmware)?;
            layout.segment_at(address).ok_or(Status::Target)?;
        }
        Ok(task)
    }

    pub(super) fn read<M: Memory + ?Sized>(
        &mut self,
        memory: &mut M,
        setup: SetupPacket,
        length: usize,
        input: &mut [u8],
    ) -> Result<usize, Stall> {
        let transfer_size = self.description.functional.transfer_size;
        let strict = self.profile.rules == Rules::Strict;
        if input.len() != length || setup.length > transfer_size {
            return Err(self.refuse(Status::StalledPacket));
        }
        if strict && !self.description.functional.attributes.can_upload() {
            return Err(self.fail(Status::StalledPacket));
        }
        if setup.value == dfuse::COMMAND_BLOCK {
            let len = copy(&Self::COMMANDS, input);
            // The firmware ends the upload by its own length rule; for these three bytes it equals the standard's.
            self.state = if len < length { State::Idle } else { State::UploadIdle };
            return Ok(len);
        }
        let Some(address) = dfuse::block_address(self.pointer, setup.value, transfer_size) else {
            if strict {
                return Err(self.fail(Status::Target));
            }
            // The firmware puts the error code into the state byte.
            self.state = State::Unknown(Status::StalledPacket.code());
            return Err(Stall);
        };
        let room = self.readable(address).min(u64::from(setup.length));
        let room = usize::try_from(room).unwrap_or(length).min(length);
        if strict && room == 0 && length > 0 {
            // An upload that has come to the very end of memory ends with an empty frame.
            if self.state == State::UploadIdle && address > 0 && self.readable(address - 1) > 0 {
                self.state = State::Idle;
                return Ok(0);
            }
            return Err(self.fail(Status::Address));
        }
        // `room` is at most `length`, which is the length of `input`.
        let (inside, outside) = input.split_at_mut(room);
        let start = u32::try_from(address).unwrap_or(u32::MAX);
        let len = if room == 0 { 0 } else { memory.read(self.alternate, start, inside).min(room) };
        if strict {
            self.state = if len < length { State::Idle } else { State::UploadIdle };
            return Ok(len);
        }
        // No short frames here: what cannot be read is zero.
        inside.get_mut(len..).unwrap_or_default().fill(0);
        outside.fill(0);
        self.state = State::UploadIdle;
        Ok(length)
    }

    /// Readable bytes from an address on, without a gap.
    fn readable(&self, address: u64) -> u64 {
        self.stretch(address, u64::from(self.description.functional.transfer_size), |access| {
            access.readable()
        })
    }

    /// How far, up to `want` bytes, every segment from an address on has an access.
    fn stretch(&self, address: u64, want: u64, wanted: impl Fn(Access) -> bool) -> u64 {
        let Some(layout) = self.layout() else { return 0 };
        let end = address.saturating_add(want);
        let mut at = address;
        while at < end {
            let Some(segment) = u32::try_from(at).ok().and_then(|at| layout.segment_at(at)) else { break };
            if !wanted(segment.access) {
                break;
            }
            at = segment.end();
        }
        at.min(end).saturating_sub(address)
    }

    fn layout(&self) -> Option<MemoryLayout<'d>> {
        MemoryLayout::parse(self.description.alternate(self.alternate)?.as_bytes()).ok()
    }
}
