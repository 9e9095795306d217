//! All connections and all devices of a server.

mod message;
mod request;
mod sending;

use super::command::{Command, CommandError};
use super::connection::{ARRIVED, Connection, ConnectionId, HEAD, Kind, Output};
use super::files::{FileId, Files};
use super::report::{Rejection, Report};
use super::session::{Policy, Session};
use crate::sonoff::frame::server_text;
use crate::sonoff::secret::ApiKey;
use crate::sonoff::text::{DeviceId, Sequence, ServerName};
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
    /// The image of an upgrade is sent only to who proves by a signature that it is a device whose factory key is known.
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
/// Answers of a connection that wait to be polled. Who makes more is no device.
const OUTPUTS: usize = 1024;
/// Characters of a path in a report.
const PATH: usize = 64;

/// A server for any number of devices: bytes in, bytes out.
///
/// 1. [`Service::connected`] for every connection that is accepted, TLS or not, whichever port.
/// 2. [`Service::handle_input`] with what comes, [`Service::closed`] at its end.
///    [`Service::unacknowledged`] makes the end of the final stage certain where the system tells it.
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

    /// Sets the time of day, when the clock of the computer was put right: devices are told it.
    pub fn set_clock(&mut self, now: Duration, unix_milliseconds: u64) {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.unix_at_zero = unix_milliseconds.saturating_sub(now);
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
        if self.reports.len() < REPORTS || report.is_needed() {
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

    /// Asks something of a device, see [`Session::command`].
    ///
    /// # Errors
    /// [`CommandError`]; nothing is sent then.
    pub fn command(
        &mut self,
        now: Duration,
        device_id: &DeviceId,
        command: &Command,
    ) -> Result<Sequence, CommandError> {
        let unix = self.unix(now);
        let known = self.sessions.get_mut(device_id).ok_or(CommandError::Away)?;
        let sequence = known.session.command(unix, command)?;
        if let Some(id) = known.connection {
            self.alive(now, id);
        }
        self.settle(*device_id);
        Ok(sequence)
    }

    /// The session of a device; `None` if there are too many.
    fn known(&mut self, now: Duration, device_id: DeviceId, session_key: &ApiKey) -> Option<&mut Known> {
        if !self.sessions.contains_key(&device_id) && self.sessions.len() >= self.config.max_devices {
            let idle =
                |known: &&(&DeviceId, &Known)| known.1.connection.is_none() && !known.1.session.is_awaited();
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
                    self.alive(now, id);
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
            let is_sending = |(connection, _): &(Connection, Local)| {
                connection.final_device == Some(device_id) && connection.is_sending_final_image()
            };
            let is_sending = self.connections.values().any(is_sending);
            if let Some(known) = self.sessions.get_mut(&device_id)
                && !(is_sending && known.session.is_slow(now))
            {
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
        if connection.is_sending_final_image() && now < connection.wait_until {
            // It has not arrived, and may still.
            connection.deadline = now.saturating_add(ARRIVED).min(connection.wait_until);
            return;
        }
        let gone = core::mem::take(&mut connection.final_image_gone);
        let arrived = is_lingering && gone && connection.is_acknowledged();
        let device_id = connection.final_device;
        let spoke = matches!(connection.kind, Kind::Http) && connection.received.is_empty();
        if !is_lingering && !spoke {
            self.reject(id, Rejection::Silent);
        }
        if arrived {
            self.final_image_arrived(peer, device_id, false);
        }
        self.drop_websocket(now, id);
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
