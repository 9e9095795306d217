//! Requests over HTTP: dispatch, the WebSocket's beginning, files.

use super::{Known, PATH, Service};
use crate::sonoff::device::final_stage;
use crate::sonoff::dispatch::{self, DispatchAnswer, DispatchRequest};
use crate::sonoff::handshake;
use crate::sonoff::http::{
    DownloadQuery, HeadError, Request, RequestHead, answer, not_allowed_response, status_response,
};
use crate::sonoff::server::connection::{ConnectionId, HEAD, IDLE, Kind, Output, Sending};
use crate::sonoff::server::files::{FileId, Role};
use crate::sonoff::server::job::{Delivery, FINAL_TRIES, Stage};
use crate::sonoff::server::report::{Rejection, Report};
use crate::sonoff::server::session::Session;
use crate::sonoff::text::{DeviceId, Text};
use core::net::IpAddr;
use core::time::Duration;

impl Service {
    /// Answers the requests that are complete.
    pub(super) fn requests(&mut self, now: Duration, id: ConnectionId) {
        loop {
            let Some((connection, _)) = self.connections.get_mut(&id) else { return };
            if connection.sending.is_some() || !matches!(connection.kind, Kind::Http) {
                return;
            }
            let received = core::mem::take(&mut connection.received);
            if received.is_empty() {
                return;
            }
            match Request::parse(&received) {
                Ok(None) => {
                    connection.received = received;
                    return;
                }
                Ok(Some((request, used))) => {
                    connection.deadline = now.saturating_add(IDLE);
                    let behind = received.get(used..).unwrap_or_default().to_vec();
                    connection.received.extend(behind);
                    self.request(now, id, &request);
                    self.list(id);
                    self.behind_handshake(now, id);
                }
                Err(error) => {
                    let status = match error {
                        HeadError::TooLong { .. } | HeadError::TooManyHeaders { .. } => 431,
                        HeadError::BodyTooLong { .. } => 413,
                        _ => 400,
                    };
                    connection.finish(now, status_response(status));
                    self.reject(id, Rejection::Request(error));
                    self.list(id);
                    return;
                }
            }
        }
    }

    /// What came with the request for a WebSocket, behind it.
    pub(super) fn behind_handshake(&mut self, now: Duration, id: ConnectionId) {
        let Some((connection, _)) = self.connections.get_mut(&id) else { return };
        if matches!(connection.kind, Kind::WebSocket { .. }) {
            let behind = core::mem::take(&mut connection.received);
            self.handle_input(now, id, &behind);
        }
    }

    pub(super) fn request(&mut self, now: Duration, id: ConnectionId, request: &Request<'_>) {
        let head = &request.head;
        let path = head.path.chars().take(PATH).collect();
        let answer = match head.path.as_str() {
            dispatch::PATH if head.method == "POST" => return self.dispatch(now, id, request.body),
            handshake::PATH if head.method == "GET" => return self.open_websocket(now, id, head),
            known @ (dispatch::PATH | handshake::PATH) => {
                self.reject(id, Rejection::Method { path });
                let allow = if known == dispatch::PATH { "POST" } else { "GET" };
                if let Some((connection, _)) = self.connections.get_mut(&id) {
                    connection.finish(now, not_allowed_response(allow));
                }
                return;
            }
            other => match self.files.find(other) {
                Some(file) => return self.download(now, id, head, file),
                None => {
                    match Role::of_final_path(other) {
                        Some(role) => self.final_file_missing(id, role),
                        None => self.reject(id, Rejection::NotFound { path }),
                    }
                    404
                }
            },
        };
        if let Some((connection, _)) = self.connections.get_mut(&id) {
            let bytes = status_response(answer);
            if answer == 404 && head.keeps_alive() {
                connection.outputs.push_back(Output::Send(bytes));
                // Who finds nothing is most probably no device.
                connection.deadline = now.saturating_add(HEAD);
            } else {
                connection.finish(now, bytes);
            }
        }
    }

    /// The intermediate image asks for what is not there: that is a dead end.
    fn final_file_missing(&mut self, id: ConnectionId, role: Role) {
        self.reject(id, Rejection::FinalFileMissing { role });
        let Some((connection, _)) = self.connections.get(&id) else { return };
        if let Some(device_id) = self.in_final_stage(connection.peer) {
            if let Some(known) = self.sessions.get_mut(&device_id) {
                known.session.final_file_missing();
            }
            self.settle(device_id);
        }
    }

    pub(super) fn dispatch(&mut self, now: Duration, id: ConnectionId, body: &[u8]) {
        let Some((connection, local)) = self.connections.get(&id) else { return };
        let (session_key, ip, port) = (connection.session_key.clone(), local.host, local.port);
        let refused = |reason: &str| match Text::new(reason) {
            Ok(reason) => DispatchAnswer::Refused { error: 400, reason },
            Err(_) => DispatchAnswer::Server { ip, port },
        };
        let answer = match DispatchRequest::from_json(body) {
            Err(error) => {
                self.reject(id, Rejection::Dispatch(error));
                refused("the request cannot be used")
            }
            Ok(request) => match self.known(now, request.device_id, &session_key) {
                None => {
                    self.reject(id, Rejection::TooManyDevices);
                    refused("too many devices")
                }
                Some(known) => {
                    let is_admitted = known.session.dispatched(&request);
                    self.settle(request.device_id);
                    if is_admitted {
                        DispatchAnswer::Server { ip, port }
                    } else {
                        self.reject(id, Rejection::WrongKey { device_id: request.device_id });
                        refused("another key than before")
                    }
                }
            },
        };
        if let Some((connection, _)) = self.connections.get_mut(&id) {
            connection.finish(now, answer.to_http());
        }
    }

    pub(super) fn open_websocket(&mut self, now: Duration, id: ConnectionId, head: &RequestHead) {
        let answer = handshake::answer(head);
        let Some((connection, _)) = self.connections.get_mut(&id) else { return };
        match answer {
            Ok(bytes) => {
                connection.outputs.push_back(Output::Send(bytes));
                connection.open_websocket(now);
            }
            Err(error) => {
                connection.finish(now, status_response(400));
                self.reject(id, Rejection::Handshake(error));
            }
        }
    }

    pub(super) fn download(&mut self, now: Duration, id: ConnectionId, head: &RequestHead, file: FileId) {
        let Some((connection, _)) = self.connections.get(&id) else { return };
        let peer = connection.peer;
        let Some((role, length, name)) =
            self.files.get(file).map(|file| (file.role, file.length, file.name.clone()))
        else {
            return;
        };
        let query = DownloadQuery::parse(head.query.as_deref().unwrap_or_default());
        let device_id = self.whose(peer, role, &query);
        if self.config.check_sign && matches!(role, Role::Upgrade(_)) && !self.is_signed(&query) {
            self.reject(id, Rejection::NotSigned);
            if let Some((connection, _)) = self.connections.get_mut(&id) {
                connection.finish(now, status_response(403));
            }
            return;
        }
        let found = answer(head, length, &name);
        let mut delivery = Delivery::Direct;
        let is_whole = found.body == (0..length);
        if !found.body.is_empty() {
            let range = (found.status == 206).then(|| found.body.clone());
            let session = device_id.and_then(|id| self.sessions.get_mut(&id)).map(|known| &mut known.session);
            match (role, session) {
                (Role::Upgrade(slot), Some(session)) => {
                    delivery = session.requested(now, slot, length, range)
                }
                (Role::Upgrade(_), None) => {}
                (Role::FinalUser2 | Role::FinalImage, session) => {
                    // Who has got all of it and looks at a part has not lost the rest.
                    let is_done =
                        |session: &&mut Session| matches!(session.stage(), Some(Stage::Done { .. }));
                    if let Some(session) = session.filter(|session| is_whole || !is_done(session)) {
                        let total = if role == Role::FinalImage { length } else { 0 };
                        session.final_stage_requested(now, total);
                    }
                    let tries = self.final_tries.entry(file).or_default();
                    *tries = tries.saturating_add(1);
                    if *tries > FINAL_TRIES {
                        delivery = Delivery::Paced;
                    }
                }
            }
        }
        self.report(Report::Requested {
            device_id,
            peer,
            file,
            range: found.body.clone(),
            status: found.status,
            paced: delivery == Delivery::Paced,
            remark: found.remark,
        });
        let is_final = !matches!(role, Role::Upgrade(_)) && is_whole;
        if is_final {
            // Who asks again has not got what went before. Peers without an id are the same one by their address only.
            for (connection, _) in self.connections.values_mut() {
                if connection.final_device == device_id && (device_id.is_some() || connection.peer == peer) {
                    (connection.final_image, connection.final_image_gone) = (false, false);
                }
            }
        }
        if let Some((connection, _)) = self.connections.get_mut(&id) {
            if is_final {
                connection.final_image = role == Role::FinalImage;
                connection.final_device = device_id;
            }
            let body_length = found.body.end.saturating_sub(found.body.start);
            connection.deadline = now.saturating_add(connection.patience());
            connection.sending = Some(Sending {
                file,
                device_id,
                head: Some(found.head),
                pacer: Sending::pace(delivery, body_length),
                body: found.body,
                keep: found.keep,
            });
        }
        if let Some(id) = device_id {
            self.settle(id);
        }
    }

    /// The device that a download belongs to: one at this address, or that has signed it, since anybody can name any. In the final stage, of which only
    /// one can be under way in a place, the one that has come to it last.
    pub(super) fn whose(&self, peer: IpAddr, role: Role, query: &DownloadQuery) -> Option<DeviceId> {
        let Role::Upgrade(_) = role else { return self.in_final_stage(peer) };
        if let Some(id) = query.device_id {
            let known = self.sessions.get(&id)?;
            // Behind a relay the address is another one; the signature is a proof wherever it comes from.
            return (known.session.address() == Some(peer) || self.is_signed(query)).then_some(id);
        }
        let may = |known: &&Known| known.session.is_upgrading() && known.session.address() == Some(peer);
        let mut candidates = self.sessions.values().filter(may);
        let one = candidates.next()?;
        candidates.next().is_none().then(|| one.session.device_id())
    }

    fn in_final_stage(&self, peer: IpAddr) -> Option<DeviceId> {
        let is_there = matches!(peer, IpAddr::V4(peer) if peer.octets().starts_with(&final_stage::NETWORK));
        let here = |known: &&Known| is_there || known.session.address() == Some(peer);
        let open = |known: &&Known| {
            matches!(
                known.session.stage(),
                Some(Stage::Served | Stage::Installed { .. } | Stage::Final { .. })
            )
        };
        let done = |known: &&Known| matches!(known.session.stage(), Some(Stage::Done { .. }));
        let last = |known: &&Known| known.seen;
        let open = self.sessions.values().filter(here).filter(open).max_by_key(last);
        let found = open.or_else(|| self.sessions.values().filter(here).filter(done).max_by_key(last));
        found.map(|known| known.session.device_id())
    }

    /// The request names a device whose key is known, and that key has signed it.
    pub(super) fn is_signed(&self, query: &DownloadQuery) -> bool {
        let known = query.device_id.and_then(|id| self.sessions.get(&id));
        known.and_then(|known| known.session.factory_key()).is_some_and(|key| query.is_signed_by(key))
    }
}
