//! What is sent, and what has gone.

use super::{Known, Service};
use crate::sonoff::http::Pacer;
use crate::sonoff::server::connection::{
    ARRIVED, ConnectionId, FINAL_PIECE, IDLE, Kind, LINGER, Output, Writing,
};
use crate::sonoff::server::files::Role;
use crate::sonoff::server::job::{FINAL_STAGE, Stage};
use crate::sonoff::server::report::Report;
use crate::sonoff::text::DeviceId;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

impl Service {
    /// What to do next with a connection; poll until `None`, and each time only when the output before has been written: that
    /// is how the service knows. After [`Output::Close`] it need not be told as closed.
    pub fn poll_output(&mut self, now: Duration, id: ConnectionId) -> Option<Output> {
        if let Some(writing) =
            self.connections.get_mut(&id).and_then(|(connection, _)| connection.writing.take())
        {
            self.written(now, id, writing);
        }
        let (connection, _) = self.connections.get_mut(&id)?;
        if let Some(output) = connection.outputs.pop_front() {
            if output == Output::Close {
                self.connections.remove(&id);
            }
            return Some(output);
        }
        let sending = connection.sending.as_mut()?;
        if let Some(head) = sending.head.take() {
            return Some(Output::Send(head));
        }
        let part = match &mut sending.pacer {
            Some(pacer) => pacer.poll(now).map(|part| {
                let start = sending.body.start;
                start.saturating_add(part.start)..start.saturating_add(part.end)
            }),
            None => {
                let piece = if connection.final_image { FINAL_PIECE } else { u32::MAX };
                let end = sending.body.start.saturating_add(piece).min(sending.body.end);
                let part = sending.body.start..end;
                sending.body.start = end;
                Some(part).filter(|part| !part.is_empty())
            }
        };
        let is_over = sending.pacer.as_ref().map_or(sending.body.is_empty(), Pacer::is_finished);
        let (file, device_id, keep) = (sending.file, sending.device_id, sending.keep);
        if is_over {
            connection.sending = None;
            if !keep {
                connection.finish(now, Vec::new());
            }
            connection.deadline =
                now.saturating_add(if part.is_some() { connection.patience() } else { IDLE });
        } else if connection.final_image && part.is_some() {
            connection.deadline = now.saturating_add(connection.patience());
        }
        if let Some(range) = part {
            connection.writing = Some(Writing { file, device_id, range: range.clone() });
            if let (Some((Role::Upgrade(slot), _)), Some(known)) =
                (self.files.describe(file), device_id.and_then(|id| self.sessions.get_mut(&id)))
            {
                known.session.given(slot, range.clone());
            }
            if is_over {
                self.list(id);
            }
            return Some(Output::SendFile { file, range });
        }
        if is_over {
            // Requests that have come meanwhile.
            self.requests(now, id);
            self.list(id);
            return self.poll_output(now, id);
        }
        None
    }

    /// The network has taken bytes of a file.
    pub(super) fn written(&mut self, now: Duration, id: ConnectionId, writing: Writing) {
        let Some((connection, _)) = self.connections.get_mut(&id) else { return };
        let is_over = connection.sending.is_none();
        let is_ending = matches!(connection.kind, Kind::Ending);
        if let Some((role, length)) = self.files.describe(writing.file) {
            connection.final_image_gone |= connection.final_image && writing.range.end == length;
            if is_over {
                connection.wait_until = now.saturating_add(FINAL_STAGE);
                let wait = match connection.final_image_gone {
                    true if is_ending => ARRIVED,
                    _ if is_ending => LINGER,
                    _ => IDLE,
                };
                connection.deadline = now.saturating_add(wait);
            }
            let known = writing.device_id.and_then(|id| self.sessions.get_mut(&id));
            match (role, known) {
                (Role::Upgrade(slot), Some(known)) => known.session.sent(now, slot, writing.range),
                (Role::FinalImage, Some(known)) => {
                    known.session.in_final_stage(now, writing.range.end, length);
                }
                _ => {}
            }
        }
        if let Some(id) = writing.device_id {
            self.settle(id);
        }
        if is_over && !is_ending {
            // Requests that have come meanwhile.
            self.requests(now, id);
        }
    }

    /// A connection has ended: the other end has closed it (`orderly`), or it broke.
    pub fn closed(&mut self, now: Duration, id: ConnectionId, orderly: bool) {
        self.forget(now, id);
        let Some((connection, _)) = self.connections.remove(&id) else { return };
        // The last bytes were written when the other end could close behind them.
        let gone = connection.final_image_gone
            || connection.writing.as_ref().is_some_and(|writing| {
                connection.final_image
                    && self
                        .files
                        .describe(writing.file)
                        .is_some_and(|(_, length)| writing.range.end == length)
            });
        if orderly && gone && connection.is_acknowledged() {
            self.final_image_arrived(connection.peer, connection.final_device, true);
        }
    }

    pub(super) fn final_image_arrived(&mut self, peer: IpAddr, device_id: Option<DeviceId>, closed: bool) {
        self.final_tries.clear();
        let in_final = |known: &&mut Known| matches!(known.session.stage(), Some(Stage::Final { .. }));
        match device_id.and_then(|id| self.sessions.get_mut(&id)).filter(in_final) {
            Some(known) => {
                known.session.finished(closed);
                let device_id = known.session.device_id();
                self.settle(device_id);
            }
            None => self.report(Report::FinalImageArrived { peer, closed }),
        }
    }

    /// A final image is on its way: a device that gets a part of it is of no use any more.
    #[must_use]
    pub fn is_sending_final_image(&self) -> bool {
        self.connections.values().any(|(connection, _)| connection.is_sending_final_image())
    }

    /// How many bytes of what was sent over this connection the other end has not acknowledged yet, where the system tells.
    /// What was only handed to the system may never arrive; as long as they become fewer, it is waited for.
    pub fn unacknowledged(&mut self, now: Duration, id: ConnectionId, bytes: u64) {
        let Some((connection, _)) = self.connections.get_mut(&id) else { return };
        let before = connection.unacknowledged.replace(bytes);
        if connection.final_image && before.is_some_and(|before| bytes < before) {
            connection.wait_until = now.saturating_add(FINAL_STAGE);
            let known = connection.final_device.and_then(|id| self.sessions.get_mut(&id));
            if let Some(known) = known {
                known.session.final_image_moved(now);
            }
        }
    }
}
