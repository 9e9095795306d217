//! All connections and all devices of a server.

use super::connection::{
    ARRIVED, Connection, ConnectionId, HEAD, IDLE, Kind, LINGER, Output, Sending, Writing,
};
use super::files::{FileId, Files, Role};
use super::job::{Delivery, Stage};
use super::report::{Rejection, Report};
use super::session::{Event, Policy, Session};
use crate::sonoff::dispatch::{self, DispatchAnswer, DispatchRequest};
use crate::sonoff::frame::{Frame, PONG, server_text};
use crate::sonoff::handshake;
use crate::sonoff::http::{DownloadQuery, HeadError, Pacer, Request, RequestHead, answer, status_response};
use crate::sonoff::limits;
use crate::sonoff::message::{DeviceBody, DeviceMessage, ServerBody, ServerMessage};
use crate::sonoff::secret::ApiKey;
use crate::sonoff::text::{DeviceId, ServerName, Text};
use crate::sonoff::upgrade::{Offer, Refusal, Warning};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

/// What a server is set to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// How often and how fast.
    pub policy: Policy,
    /// A download that names a device has to be signed with that device's factory key, if the key is known.
    pub check_sign: bool,
    /// Connections at once; more are closed.
    pub max_connections: usize,
    /// Devices; the one that was away longest makes room, unless it has an upgrade.
    pub max_devices: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { policy: Policy::default(), check_sign: false, max_connections: 1024, max_devices: 1024 }
    }
}

/// Reports that wait to be polled. What is beyond is not told, except what happens to devices.
const REPORTS: usize = 1024;
/// Requests for the same file in the final stage after which it is sent slowly.
const FINAL_TRIES: u8 = 3;
/// Answers of a connection that wait to be polled. Who makes more is no device.
const OUTPUTS: usize = 1024;
/// Characters of a path in a report.
const PATH: usize = 64;

/// A server for any number of devices: bytes in, bytes out.
///
/// 1. [`Service::connected`] for every connection that is accepted, TLS or not, whichever port.
/// 2. [`Service::handle_input`] with what comes, [`Service::closed`] at its end.
/// 3. [`Service::poll_connection`] says which connections have something to do, [`Service::poll_output`] what.
/// 4. [`Service::handle_deadline`] at [`Service::next_deadline`].
/// 5. [`Service::poll_report`] tells what happens. When a device is ready, [`Service::offer`].
///
/// ```
/// use core::time::Duration;
/// use spark_ota::sonoff::ApiKey;
/// use spark_ota::sonoff::server::{Config, Files, Output, Service};
/// use spark_ota::sonoff::handshake;
///
/// let mut service = Service::new(Config::default(), Files::new(), 1_795_232_913_130);
/// let now = Duration::ZERO;
/// let key = ApiKey::from_random([7; 16]);
/// let connection = service.connected(now, [192, 168, 77, 20].into(), key, "192.168.77.10", 8443)?;
/// service.handle_input(now, connection, &handshake::request());
/// assert_eq!(service.poll_connection(), Some(connection));
/// let Some(Output::Send(answer)) = service.poll_output(now, connection) else { panic!() };
/// assert!(answer.starts_with(handshake::SWITCHING.as_bytes()));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
pub struct Service {
    config: Config,
    files: Files,
    unix_at_zero: u64,
    next_id: u64,
    connections: BTreeMap<ConnectionId, (Connection, Local)>,
    sessions: BTreeMap<DeviceId, Known>,
    to_poll: VecDeque<ConnectionId>,
    reports: VecDeque<Report>,
    /// Requests for each file of the final stage since it was sent as a whole.
    final_tries: BTreeMap<FileId, u8>,
}

/// Where devices reach this server, by the connection that they have taken.
struct Local {
    host: ServerName,
    port: u16,
}

struct Known {
    session: Session,
    /// Its WebSocket.
    connection: Option<ConnectionId>,
    seen: Duration,
}

impl Service {
    /// A server of these files. `unix_milliseconds` is the time of day when the clock of all calls shows zero.
    #[must_use]
    pub fn new(config: Config, files: Files, unix_milliseconds: u64) -> Self {
        Self {
            config,
            files,
            unix_at_zero: unix_milliseconds,
            next_id: 0,
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
            to_poll: VecDeque::new(),
            reports: VecDeque::new(),
            final_tries: BTreeMap::new(),
        }
    }

    /// What is served.
    #[must_use]
    pub const fn files(&self) -> &Files {
        &self.files
    }

    fn unix(&self, now: Duration) -> u64 {
        self.unix_at_zero.saturating_add(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    }

    /// Somebody has connected. `session_key` is random, see [`ApiKey::from_random`]; `host` and `port` are where a device finds
    /// the WebSocket, told in the answer to a dispatch request: usually this end of the connection.
    ///
    /// # Errors
    /// [`Rejection::TooManyConnections`], [`Rejection::Host`]; close it then.
    pub fn connected(
        &mut self,
        now: Duration,
        peer: IpAddr,
        session_key: ApiKey,
        host: &str,
        port: u16,
    ) -> Result<ConnectionId, Rejection> {
        if self.connections.len() >= self.config.max_connections {
            let why = Rejection::TooManyConnections;
            self.report(Report::Rejected { peer, why: why.clone() });
            return Err(why);
        }
        let host = ServerName::new(host).map_err(Rejection::Host)?;
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        self.connections.insert(id, (Connection::new(now, peer, session_key), Local { host, port }));
        Ok(id)
    }

    fn report(&mut self, report: Report) {
        if self.reports.len() < REPORTS || matches!(report, Report::Device { .. }) {
            self.reports.push_back(report);
        }
    }

    fn reject(&mut self, id: ConnectionId, why: Rejection) {
        if let Some((connection, _)) = self.connections.get(&id) {
            let peer = connection.peer;
            self.report(Report::Rejected { peer, why });
        }
    }

    /// The next thing that has happened.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// A connection with something to poll, once each time that it has.
    pub fn poll_connection(&mut self) -> Option<ConnectionId> {
        let id = self.to_poll.pop_front()?;
        if let Some((connection, _)) = self.connections.get_mut(&id) {
            connection.is_listed = false;
        }
        Some(id)
    }

    fn list(&mut self, id: ConnectionId) {
        if let Some((connection, _)) = self.connections.get_mut(&id)
            && !core::mem::replace(&mut connection.is_listed, true)
        {
            self.to_poll.push_back(id);
        }
    }

    /// All devices that are known.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values().map(|known| &known.session)
    }

    /// A device.
    #[must_use]
    pub fn session(&self, device_id: &DeviceId) -> Option<&Session> {
        self.sessions.get(device_id).map(|known| &known.session)
    }

    /// Name and port by which the WebSocket of a device has found this server.
    #[must_use]
    pub fn reached_at(&self, device_id: &DeviceId) -> Option<(ServerName, u16)> {
        let id = self.sessions.get(device_id)?.connection?;
        self.connections.get(&id).map(|(_, local)| (local.host, local.port))
    }

    /// Makes the factory key of a device known, from its access point: another one is refused then.
    pub fn set_factory_key(&mut self, now: Duration, device_id: DeviceId, key: ApiKey) {
        if let Some(known) = self.known(now, device_id, &key) {
            known.session.set_factory_key(key);
        }
    }

    /// Offers an upgrade to a device.
    ///
    /// # Errors
    /// Every [`Refusal`]; nothing is sent then.
    pub fn offer(
        &mut self,
        now: Duration,
        device_id: &DeviceId,
        offer: &Offer,
    ) -> Result<Vec<Warning>, Vec<Refusal>> {
        let unix = self.unix(now);
        let known = self.sessions.get_mut(device_id).ok_or_else(|| Vec::from([Refusal::NotReady]))?;
        let warnings = known.session.offer(now, unix, offer)?;
        self.settle(*device_id);
        Ok(warnings)
    }

    /// The session of a device; `None` if there are too many.
    fn known(&mut self, now: Duration, device_id: DeviceId, session_key: &ApiKey) -> Option<&mut Known> {
        if !self.sessions.contains_key(&device_id) && self.sessions.len() >= self.config.max_devices {
            let idle = |known: &&(&DeviceId, &Known)| {
                known.1.connection.is_none() && !known.1.session.is_upgrading()
            };
            let oldest =
                self.sessions.iter().filter(|known| idle(&known)).min_by_key(|(_, known)| known.seen);
            let oldest = *oldest?.0;
            self.sessions.remove(&oldest);
        }
        let policy = self.config.policy;
        let known = self.sessions.entry(device_id).or_insert_with(|| Known {
            session: Session::new(device_id, session_key.clone(), policy),
            connection: None,
            seen: now,
        });
        known.seen = now;
        Some(known)
    }

    /// Passes on what a session has to say.
    fn settle(&mut self, device_id: DeviceId) {
        let Some(known) = self.sessions.get_mut(&device_id) else { return };
        let mut events = Vec::new();
        while let Some(event) = known.session.poll_event() {
            events.push(event);
        }
        let mut frames = Vec::new();
        while let Some(message) = known.session.poll_message() {
            // Both limits are one: what is a message fits a frame.
            frames.extend(message.to_json().ok().and_then(|json| server_text(&json).ok()));
        }
        let connection = known.connection;
        for event in events {
            self.report(Report::Device { device_id, event });
        }
        if let Some(id) = connection.filter(|_| !frames.is_empty()) {
            if let Some((connection, _)) = self.connections.get_mut(&id) {
                connection.outputs.extend(frames.into_iter().map(Output::Send));
            }
            self.list(id);
        }
    }

    /// Takes what came over a connection.
    pub fn handle_input(&mut self, now: Duration, id: ConnectionId, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some((connection, _)) = self.connections.get_mut(&id) else { return };
            if connection.outputs.len() >= OUTPUTS {
                return self.drop_websocket(now, id);
            }
            match &mut connection.kind {
                Kind::Ending => return,
                Kind::WebSocket { frames, .. } => {
                    let used = frames.handle_input(rest);
                    rest = rest.get(used..).unwrap_or_default();
                    connection.alive(now);
                    self.frames(now, id);
                }
                Kind::Http => {
                    if connection.received.is_empty() && connection.sending.is_none() {
                        connection.deadline = now.saturating_add(HEAD);
                    }
                    let room = connection.room();
                    if room == 0 {
                        // More requests than answers.
                        connection.close();
                        self.list(id);
                        return;
                    }
                    let (part, later) = rest.split_at(rest.len().min(room));
                    connection.received.extend_from_slice(part);
                    rest = later;
                    self.requests(now, id);
                }
            }
        }
    }

    /// Answers the requests that are complete.
    fn requests(&mut self, now: Duration, id: ConnectionId) {
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
    fn behind_handshake(&mut self, now: Duration, id: ConnectionId) {
        let Some((connection, _)) = self.connections.get_mut(&id) else { return };
        if matches!(connection.kind, Kind::WebSocket { .. }) {
            let behind = core::mem::take(&mut connection.received);
            self.handle_input(now, id, &behind);
        }
    }

    fn request(&mut self, now: Duration, id: ConnectionId, request: &Request<'_>) {
        let head = &request.head;
        let path = head.path.chars().take(PATH).collect();
        let answer = match head.path.as_str() {
            dispatch::PATH if head.method == "POST" => return self.dispatch(now, id, request.body),
            handshake::PATH if head.method == "GET" => return self.open_websocket(now, id, head),
            dispatch::PATH | handshake::PATH => {
                self.reject(id, Rejection::Method { path });
                405
            }
            other => match self.files.find(other) {
                Some(file) => return self.download(now, id, head, file),
                None => {
                    self.reject(id, Rejection::NotFound { path });
                    404
                }
            },
        };
        if let Some((connection, _)) = self.connections.get_mut(&id) {
            let bytes = status_response(answer);
            if answer == 404 && head.keeps_alive() {
                connection.outputs.push_back(Output::Send(bytes));
            } else {
                connection.finish(now, bytes);
            }
        }
    }

    fn dispatch(&mut self, now: Duration, id: ConnectionId, body: &[u8]) {
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

    fn open_websocket(&mut self, now: Duration, id: ConnectionId, head: &RequestHead) {
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

    fn download(&mut self, now: Duration, id: ConnectionId, head: &RequestHead, file: FileId) {
        let Some((connection, _)) = self.connections.get(&id) else { return };
        let peer = connection.peer;
        let Some((role, length, name)) =
            self.files.get(file).map(|file| (file.role, file.length, file.name.clone()))
        else {
            return;
        };
        let query = DownloadQuery::parse(head.query.as_deref().unwrap_or_default());
        let device_id = self.whose(peer, role, &query);
        if self.config.check_sign && !self.is_signed(&query) {
            self.reject(id, Rejection::NotSigned);
            if let Some((connection, _)) = self.connections.get_mut(&id) {
                connection.finish(now, status_response(403));
            }
            return;
        }
        let found = answer(head, length, &name);
        let mut delivery = Delivery::Direct;
        if !found.body.is_empty() {
            let range = (found.status == 206).then(|| found.body.clone());
            let session = device_id.and_then(|id| self.sessions.get_mut(&id)).map(|known| &mut known.session);
            match (role, session) {
                (Role::Upgrade(slot), Some(session)) => {
                    delivery = session.requested(now, slot, length, range)
                }
                (Role::Upgrade(_), None) => {}
                (Role::FinalUser2 | Role::FinalImage, session) => {
                    if let Some(session) = session {
                        session.in_final_stage(now, 0, if role == Role::FinalImage { length } else { 0 });
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
        if let Some((connection, _)) = self.connections.get_mut(&id) {
            connection.final_image = role == Role::FinalImage && found.body == (0..length);
            let body_length = found.body.end.saturating_sub(found.body.start);
            connection.deadline = now.saturating_add(limits::DOWNLOAD);
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

    /// The device that a download belongs to: the one that it names; without a name the only one that can be meant.
    fn whose(&self, peer: IpAddr, role: Role, query: &DownloadQuery) -> Option<DeviceId> {
        if let Some(id) = query.device_id {
            return self.sessions.contains_key(&id).then_some(id);
        }
        let may = |known: &&Known| match role {
            Role::Upgrade(_) => known.session.is_upgrading() && known.session.address() == Some(peer),
            Role::FinalUser2 | Role::FinalImage => matches!(
                known.session.stage(),
                Some(Stage::Served | Stage::Installed { .. } | Stage::Final { .. } | Stage::Done { .. })
            ),
        };
        let mut candidates = self.sessions.values().filter(may);
        let one = candidates.next()?;
        candidates.next().is_none().then(|| one.session.device_id())
    }

    /// A name of a device whose key is known is proved.
    fn is_signed(&self, query: &DownloadQuery) -> bool {
        let known = query.device_id.and_then(|id| self.sessions.get(&id));
        known.and_then(|known| known.session.factory_key()).is_none_or(|key| query.is_signed_by(key))
    }

    fn frames(&mut self, now: Duration, id: ConnectionId) {
        loop {
            let Some((connection, _)) = self.connections.get_mut(&id) else { return };
            let Kind::WebSocket { frames, .. } = &mut connection.kind else { return };
            match frames.next_frame() {
                Ok(None) => return,
                Ok(Some(Frame::Text(json))) => self.message(now, id, &json),
                Ok(Some(Frame::Ping)) => {
                    connection.outputs.push_back(Output::Send(PONG.to_vec()));
                    self.list(id);
                }
                Ok(Some(Frame::Close { .. })) => {
                    self.drop_websocket(now, id);
                    return;
                }
                Ok(Some(_)) => {}
                Err(error) => {
                    self.reject(id, Rejection::Frame(error));
                    self.drop_websocket(now, id);
                    return;
                }
            }
        }
    }

    fn message(&mut self, now: Duration, id: ConnectionId, json: &[u8]) {
        let message = match DeviceMessage::parse(json) {
            Ok(message) => message,
            Err(error) => {
                self.reject(id, Rejection::Message(error));
                return self.answer_unreadable(id);
            }
        };
        let unix = self.unix(now);
        let Some((connection, _)) = self.connections.get_mut(&id) else { return };
        let (peer, session_key) = (connection.peer, connection.session_key.clone());
        let Kind::WebSocket { device_id, .. } = &mut connection.kind else { return };
        if let Some(device_id) = device_id.filter(|device_id| *device_id != message.device_id) {
            return self.reject(id, Rejection::OtherDevice { device_id });
        }
        let is_register = matches!(message.body, DeviceBody::Register(_));
        let claimed = message.device_id;
        if device_id.is_none() && is_register {
            let Some(known) = self.known(now, claimed, &session_key) else {
                self.reject(id, Rejection::TooManyDevices);
                return self.drop_websocket(now, id);
            };
            if !known.session.admits(&message.api_key) {
                self.reject(id, Rejection::WrongKey { device_id: claimed });
                return self.drop_websocket(now, id);
            }
            // The newest connection is the device's, with a key of its own.
            known.session.set_session_key(session_key.clone());
            let before = known.connection.replace(id);
            if let Some(before) = before {
                known.session.closed(now);
                self.settle_away(claimed);
                if let Some((connection, _)) = self.connections.get_mut(&before) {
                    connection.close();
                }
                self.list(before);
            }
            if let Some((connection, _)) = self.connections.get_mut(&id)
                && let Kind::WebSocket { device_id, .. } = &mut connection.kind
            {
                *device_id = Some(claimed);
            }
        }
        let is_its_own = self.sessions.get(&claimed).is_some_and(|known| known.connection == Some(id));
        if !is_its_own {
            // Before `register`: an answer that every firmware passes over.
            return self.answer_stranger(id, &session_key, claimed);
        }
        if let Some(known) = self.sessions.get_mut(&claimed) {
            known.seen = now;
            known.session.handle_message(now, unix, Some(peer), &message);
        }
        if let Some((connection, _)) = self.connections.get_mut(&id) {
            connection.alive(now);
        }
        self.settle(claimed);
    }

    /// A device that has registered hears that its message was not understood.
    fn answer_unreadable(&mut self, id: ConnectionId) {
        let Some((connection, _)) = self.connections.get(&id) else { return };
        if let Kind::WebSocket { device_id: Some(device_id), .. } = connection.kind {
            let session_key = connection.session_key.clone();
            self.answer_stranger(id, &session_key, device_id);
        }
    }

    fn answer_stranger(&mut self, id: ConnectionId, session_key: &ApiKey, device_id: DeviceId) {
        let body = ServerBody::Answer { error: 400 };
        let message = ServerMessage { device_id, api_key: session_key.clone(), sequence: None, body };
        let frame = message.to_json().ok().and_then(|json| server_text(&json).ok());
        if let Some((connection, _)) = self.connections.get_mut(&id) {
            connection.outputs.extend(frame.map(Output::Send));
        }
        self.list(id);
    }

    /// Tells that a device has gone, without its last words.
    fn settle_away(&mut self, device_id: DeviceId) {
        let connection = self.sessions.get_mut(&device_id).and_then(|known| known.connection.take());
        self.settle(device_id);
        if let Some(known) = self.sessions.get_mut(&device_id) {
            known.connection = connection;
        }
    }

    fn drop_websocket(&mut self, now: Duration, id: ConnectionId) {
        self.forget(now, id);
        if let Some((connection, _)) = self.connections.get_mut(&id) {
            connection.close();
        }
        self.list(id);
    }

    /// A connection is the WebSocket of a device no more.
    fn forget(&mut self, now: Duration, id: ConnectionId) {
        let Some((connection, _)) = self.connections.get(&id) else { return };
        let Kind::WebSocket { device_id: Some(device_id), .. } = connection.kind else { return };
        if let Some(known) = self.sessions.get_mut(&device_id).filter(|known| known.connection == Some(id)) {
            known.connection = None;
            known.seen = now;
            known.session.closed(now);
            self.settle(device_id);
        }
    }

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
            None => Some(core::mem::replace(&mut sending.body, 0..0)).filter(|body| !body.is_empty()),
        };
        let is_over = sending.pacer.as_ref().is_none_or(Pacer::is_finished);
        let (file, device_id, keep) = (sending.file, sending.device_id, sending.keep);
        if is_over {
            connection.sending = None;
            if !keep {
                connection.finish(now, Vec::new());
            }
            connection.deadline = now.saturating_add(if part.is_some() { limits::DOWNLOAD } else { IDLE });
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
    fn written(&mut self, now: Duration, id: ConnectionId, writing: Writing) {
        let Some((connection, _)) = self.connections.get_mut(&id) else { return };
        let is_over = connection.sending.is_none();
        let is_ending = matches!(connection.kind, Kind::Ending);
        if let Some((role, length)) = self.files.describe(writing.file) {
            connection.final_image_gone = connection.final_image && writing.range.end == length;
            if is_over {
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
            || connection.writing.is_some_and(|writing| {
                connection.final_image
                    && self
                        .files
                        .describe(writing.file)
                        .is_some_and(|(_, length)| writing.range.end == length)
            });
        if orderly && gone {
            self.final_image_arrived(connection.peer, true);
        }
    }

    fn final_image_arrived(&mut self, peer: IpAddr, closed: bool) {
        self.final_tries.clear();
        let in_final = |known: &&mut Known| matches!(known.session.stage(), Some(Stage::Final { .. }));
        let mut found = self.sessions.values_mut().filter(in_final);
        match (found.next(), found.next()) {
            (Some(known), None) => {
                known.session.finished(closed);
                let device_id = known.session.device_id();
                self.settle(device_id);
            }
            _ => self.report(Report::FinalImageArrived { peer, closed }),
        }
    }

    /// When [`Service::handle_deadline`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let connections = self.connections.values().map(|(connection, _)| connection.next_deadline());
        let sessions = self.sessions.values().filter_map(|known| known.session.next_deadline());
        connections.chain(sessions).min()
    }

    /// The deadline has come. Early calls are harmless.
    pub fn handle_deadline(&mut self, now: Duration) {
        let unix = self.unix(now);
        let due = |(id, known): (&DeviceId, &Known)| {
            known.session.next_deadline().filter(|deadline| now >= *deadline).map(|_| *id)
        };
        let devices: Vec<DeviceId> = self.sessions.iter().filter_map(due).collect();
        for device_id in devices {
            if let Some(known) = self.sessions.get_mut(&device_id) {
                known.session.handle_deadline(now, unix);
            }
            self.settle(device_id);
        }
        let due = |(id, (connection, _)): (&ConnectionId, &(Connection, Local))| {
            (now >= connection.next_deadline()).then_some((*id, now >= connection.deadline))
        };
        let connections: Vec<(ConnectionId, bool)> = self.connections.iter().filter_map(due).collect();
        for (id, is_over) in connections {
            if is_over {
                self.timed_out(now, id);
            }
            self.list(id);
        }
    }

    fn timed_out(&mut self, now: Duration, id: ConnectionId) {
        let Some((connection, _)) = self.connections.get_mut(&id) else { return };
        let peer = connection.peer;
        let is_lingering = matches!(connection.kind, Kind::Ending);
        // A device that restarts at once does not close its connection.
        let arrived = is_lingering && core::mem::take(&mut connection.final_image_gone);
        let spoke = matches!(connection.kind, Kind::Http) && connection.received.is_empty();
        if !is_lingering && !spoke {
            self.reject(id, Rejection::Silent);
        }
        if arrived {
            self.final_image_arrived(peer, false);
        }
        self.drop_websocket(now, id);
    }
}

impl Report {
    /// The device that it is about, as far as that is known.
    #[must_use]
    pub fn device_id(&self) -> Option<DeviceId> {
        match self {
            Self::Device { device_id, .. } => Some(*device_id),
            Self::Requested { device_id, .. } => *device_id,
            _ => None,
        }
    }

    /// What happened to it.
    #[must_use]
    pub const fn event(&self) -> Option<&Event> {
        if let Self::Device { event, .. } = self { Some(event) } else { None }
    }
}

impl core::fmt::Debug for Service {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let devices: Vec<_> = self.sessions.keys().map(ToString::to_string).collect();
        f.debug_struct("Service")
            .field("connections", &self.connections.len())
            .field("devices", &devices)
            .finish_non_exhaustive()
    }
}
