//! Data and commands of DfuSe: what UPLOAD reads and what a downloaded block does.

use core::time::Duration;

use super::{Device, Failures, Job, Memory, Pending, Stall, access, standard_requests::copy};
use crate::{
    descriptor::Commands,
    dfuse::{self, Command, CommandError},
    layout::{Access, MemoryLayout},
    request::SetupPacket,
    state::State,
    status::Status,
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
        let task = self.task(pending).and_then(|task| self.check(memory, task));
        let task = match (task, self.profile.failures) {
            (Ok(task), _) => task,
            (Err(status), Failures::Error) => {
                let _ = self.fail(status);
                self.poll = Duration::ZERO;
                return Ok(self.reply(State::Error, input));
            }
            // The block is gone, the state stays dfuDNLOAD-SYNC.
            (Err(_), Failures::Stall) => return Err(Stall),
            (Err(_), Failures::Ignore) => Task::Nothing,
        };
        match task {
            Task::Nothing => {}
            Task::SetPointer(address) => {
                self.pointer = address;
                if !self.profile.syncs_after_set_address {
                    self.state = State::DnloadIdle;
                }
            }
            Task::Do(job) => {
                // ST's class code keeps both commands' address in the pointer (recorded session `device_key`).
                if let (true, Job::Erase { address, .. }) = (self.profile.erase_moves_pointer, job) {
                    self.pointer = address;
                }
                self.begin(now, memory, job);
            }
        }
        self.busy_until = now.saturating_add(self.poll);
        Ok(self.reply(State::DnBusy, input))
    }

    fn announce_fixed(&mut self, pending: Pending) {
        let Some(alternate) = self.place(self.pointer) else { return };
        let Some(fixed) = self.fixed_poll(alternate) else { return };
        // Outside the map the firmware leaves the field as it was.
        if self.layout(alternate).is_none_or(|layout| layout.segment_at(self.pointer).is_none()) {
            return;
        }
        let erase =
            pending.block == dfuse::COMMAND_BLOCK && self.block.as_ref().first() == Some(&dfuse::ERASE);
        self.poll = if erase { fixed.erase } else { fixed.other };
    }

    /// The alternate setting whose memory an address belongs to.
    fn place(&self, address: u32) -> Option<u8> {
        let spaces = self.profile.address_spaces;
        if spaces.is_empty() {
            return Some(self.alternate);
        }
        spaces.iter().find(|space| address & space.mask == space.value).map(|space| space.alternate)
    }

    fn commands(&self) -> Commands {
        self.description.commands.and(self.profile.commands)
    }

    fn task(&self, pending: Pending) -> Result<Task, Status> {
        let statuses = &self.profile.statuses;
        let data = self.block.as_ref().get(..pending.len).unwrap_or_default();
        if pending.block != dfuse::COMMAND_BLOCK {
            let transfer_size = self.description.functional.transfer_size;
            let Some(address) = dfuse::block_address(self.pointer, pending.block, transfer_size) else {
                let refused = self.profile.reports_errors();
                return if refused { Err(statuses.reserved_block) } else { Ok(Task::Nothing) };
            };
            let address = u32::try_from(address).map_err(|_| Status::Address)?;
            let alternate = self.place(address).ok_or(Status::Address)?;
            return Ok(Task::Do(Job::Program { alternate, address, len: pending.len }));
        }
        let supported = self.commands();
        match Command::parse(data) {
            Ok(Command::SetAddress(address)) => Ok(Task::SetPointer(address)),
            Ok(Command::ErasePage(address)) => {
                let alternate = self.place(address).ok_or(Status::Target)?;
                Ok(Task::Do(Job::Erase { alternate, address }))
            }
            Ok(Command::MassErase) if supported.mass_erase => {
                Ok(Task::Do(Job::MassErase { alternate: self.alternate }))
            }
            Ok(Command::MassErase) => Err(statuses.mass_erase),
            Ok(Command::ReadUnprotect) if supported.read_unprotect => {
                Ok(Task::Do(Job::ReadUnprotect { alternate: self.alternate }))
            }
            Ok(Command::ReadUnprotect) => Err(statuses.read_unprotect),
            Ok(Command::GetCommands) => Ok(Task::Nothing),
            Err(CommandError::Empty | CommandError::Length { .. } | CommandError::Unknown { .. }) => {
                Err(statuses.unknown_command)
            }
        }
    }

    /// Checks a task against the memory map before any work begins.
    fn check<M: Memory + ?Sized>(&self, memory: &M, task: Task) -> Result<Task, Status> {
        match task {
            Task::Do(Job::ReadUnprotect { .. }) => {}
            Task::Do(job) if memory.protected(job.alternate()) => return Err(Status::Vendor),
            // These firmwares look only where work begins.
            Task::Do(Job::Erase { alternate, address } | Job::Program { alternate, address, .. })
                if !self.profile.checks_range =>
            {
                let layout = self.layout(alternate).ok_or(Status::Firmware)?;
                layout.segment_at(address).ok_or(Status::Target)?;
            }
            Task::SetPointer(address) if self.profile.checks_range => {
                let layout = self.place(address).and_then(|alternate| self.layout(alternate));
                layout.and_then(|layout| layout.segment_at(address)).ok_or(Status::Target)?;
            }
            Task::Do(Job::Erase { alternate, address }) => {
                let layout = self.layout(alternate).ok_or(Status::Firmware)?;
                layout.segment_at(address).ok_or(Status::Target)?;
                if !access::erasable(&layout, address) {
                    return Err(Status::Erase);
                }
            }
            Task::Do(Job::Program { alternate, address, len }) => {
                let layout = self.layout(alternate).ok_or(Status::Firmware)?;
                let (address, len) = (u64::from(address), u64::try_from(len).unwrap_or(u64::MAX));
                if access::stretch(&layout, address, len, |_| true) < len {
                    return Err(Status::Address);
                }
                if access::stretch(&layout, address, len, Access::writeable) < len {
                    return Err(Status::Write);
                }
            }
            Task::Nothing | Task::SetPointer(_) | Task::Do(Job::MassErase { .. } | Job::Manifest { .. }) => {}
        }
        Ok(task)
    }

    pub(super) fn read_memory<M: Memory + ?Sized>(
        &mut self,
        memory: &mut M,
        setup: SetupPacket,
        length: usize,
        input: &mut [u8],
    ) -> Result<usize, Stall> {
        if setup.value == dfuse::COMMAND_BLOCK {
            let (commands, count) = self.commands().reply();
            let len = copy(commands.get(..count).unwrap_or(&commands), input);
            // Photons end the upload by a length rule of their own; for their three bytes it equals the standard's.
            let ends = len < length || self.profile.commands_end_upload;
            self.state = if ends { State::Idle } else { State::UploadIdle };
            return Ok(len);
        }
        let transfer_size = self.description.functional.transfer_size;
        let Some(address) = dfuse::block_address(self.pointer, setup.value, transfer_size) else {
            if self.profile.reports_errors() {
                return Err(self.fail(self.profile.statuses.reserved_block));
            }
            // The firmware puts the error code into the state byte.
            self.state = State::Unknown(Status::StalledPacket.code());
            return Err(Stall);
        };
        let start = u32::try_from(address).unwrap_or(u32::MAX);
        let alternate = self.place(start).unwrap_or(self.alternate);
        if self.profile.reports_errors() && memory.protected(alternate) {
            return Err(self.fail(Status::Vendor));
        }
        let room = self.readable(alternate, address).min(u64::from(setup.length));
        let room = usize::try_from(room).unwrap_or(length).min(length);
        if self.profile.short_frames && room == 0 && length > 0 {
            // An upload that has come to the very end of memory ends with an empty frame.
            if self.state == State::UploadIdle && address > 0 && self.readable(alternate, address - 1) > 0 {
                self.state = State::Idle;
                return Ok(0);
            }
            return Err(self.fail(Status::Address));
        }
        // `room` is at most `length`, which is the length of `input`.
        let (inside, outside) = input.split_at_mut(room);
        let len = if room == 0 { 0 } else { memory.read(alternate, start, inside).min(room) };
        if self.profile.short_frames {
            self.state = if len < length { State::Idle } else { State::UploadIdle };
            return Ok(len);
        }
        inside.get_mut(len..).unwrap_or_default().fill(0);
        outside.fill(0);
        self.state = State::UploadIdle;
        Ok(length)
    }

    /// Readable bytes from an address on, without a gap.
    fn readable(&self, alternate: u8, address: u64) -> u64 {
        let want = u64::from(self.description.functional.transfer_size);
        self.layout(alternate).map_or(0, |layout| access::stretch(&layout, address, want, Access::readable))
    }

    fn layout(&self, alternate: u8) -> Option<MemoryLayout<'d>> {
        MemoryLayout::parse(self.description.alternate(alternate)?.as_bytes()).ok()
    }
}
