//! From the dispatch request to the state of being registered, and what is said there.

use super::{Device, Link, Output, State};
use crate::sonoff::dispatch::{DispatchAnswer, DispatchRequest};
use crate::sonoff::frame::{End, Frame, FrameReader, device_ping, device_text};
use crate::sonoff::handshake;
use crate::sonoff::http::find;
use crate::sonoff::limits;
use crate::sonoff::message::{
    Date, DeviceBody, DeviceMessage, Reading, Register, ServerBody, ServerMessage, Switch, Switches, Update,
};
use crate::sonoff::provisioning::Access;
use crate::sonoff::secret::ApiKey;
use crate::sonoff::text::{Sequence, Text};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// The mask of every device.
const MASK: [u8; 4] = [0; 4];
/// Wait before it registers again, unless the server has told another.
const REGISTER_AGAIN: Duration = Duration::from_secs(2);
/// Wait before it follows a `redirect`.
const REDIRECT: Duration = Duration::from_secs(2);

/// What the next answer without an action belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Nothing,
    Update,
    Query,
}

/// The connection to the servers. The states are those up to [`State::Ready`].
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) state: State,
    pub(super) access: Option<Access>,
    /// End of a wait before something is tried again.
    pub(super) retry_at: Option<Duration>,
    pub(super) key: Option<ApiKey>,
    /// End of what is being waited for.
    deadline: Option<Duration>,
    failures: u32,
    /// Where the WebSocket is.
    server: Option<(String, u16)>,
    last_good: Option<(String, u16)>,
    received: Vec<u8>,
    frames: FrameReader,
    is_open: bool,
    /// A frame, or a request at the access point, has begun.
    pub(super) packet_by: Option<Duration>,
    heartbeat: Duration,
    ping_at: Option<Duration>,
    pings: u8,
    send_at: Option<Duration>,
    date_at: Option<Duration>,
    redirect: Option<(Duration, String, u16)>,
    asked: Asked,
    switches: Switches,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            state: State::Off,
            access: None,
            retry_at: None,
            key: None,
            deadline: None,
            failures: 0,
            server: None,
            last_good: None,
            received: Vec::new(),
            frames: FrameReader::new(End::Server),
            is_open: false,
            packet_by: None,
            heartbeat: limits::HEARTBEAT_UNTOLD,
            ping_at: None,
            pings: 0,
            send_at: None,
            date_at: None,
            redirect: None,
            asked: Asked::Nothing,
            switches: Switches::One(Switch::Off),
        }
    }
}

impl Session {
    pub(super) fn pairing(now: Duration) -> Self {
        let deadline = Some(now.saturating_add(limits::PAIRING));
        Self { state: State::Pairing, deadline, ..Self::default() }
    }

    pub(super) fn joining(access: Access) -> Self {
        Self { state: State::Joining, access: Some(access), ..Self::default() }
    }

    /// A connection of this kind is wanted or there.
    pub(super) fn waits_for(&self, link: Link) -> bool {
        match link {
            Link::Dispatch => self.state == State::Dispatching && self.retry_at.is_none(),
            Link::WebSocket => {
                matches!(self.state, State::Opening | State::Registering | State::Dating | State::Ready)
            }
            _ => false,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let redirect = self.redirect.as_ref().map(|(at, ..)| *at);
        [self.retry_at, self.deadline, self.packet_by, self.ping_at, self.send_at, self.date_at, redirect]
            .into_iter()
            .flatten()
            .min()
    }

    /// Forgets the connection, keeps what outlives it.
    fn begin(&mut self, state: State, deadline: Option<Duration>) {
        let old = core::mem::take(self);
        *self = Self {
            state,
            deadline,
            access: old.access,
            failures: old.failures,
            server: old.server,
            last_good: old.last_good,
            switches: old.switches,
            ..Self::default()
        };
    }
}

impl Device {
    /// 2^n to 2^(n+1) seconds for the first failures, then one to two minutes.
    pub(super) fn backoff(&mut self) -> Duration {
        let failures = self.session.failures.saturating_add(1);
        self.session.failures = failures;
        let least = if failures <= 5 { 1 << failures } else { limits::RETRY.as_secs() / 2 };
        let least = Duration::from_secs(least);
        self.random.time(least, least)
    }

    pub(super) fn dispatch(&mut self, now: Duration) {
        let Some(access) = self.session.access.clone() else { return };
        // Every second time from then on, or a server that has gone for ever would be asked for ever.
        let beyond = self.session.failures.checked_sub(limits::DISPATCH_FAILURES);
        if beyond.is_some_and(|beyond| beyond % 2 == 0)
            && let Some(server) = self.session.last_good.clone()
        {
            self.session.server = Some(server);
            return self.open(now);
        }
        self.session.begin(State::Dispatching, Some(now.saturating_add(limits::DISPATCH)));
        let (host, port) = (access.server_name().to_string(), access.port());
        self.connect(Link::Dispatch, host, port, !self.profile.plain);
    }

    fn connect(&mut self, link: Link, host: String, port: u16, tls: bool) {
        self.outputs.push_back(Output::Connect { link, host, port, tls });
    }

    pub(super) fn send(&mut self, link: Link, bytes: Vec<u8>) {
        self.outputs.push_back(Output::Send { link, bytes });
    }

    fn open(&mut self, now: Duration) {
        let Some((host, port)) = self.session.server.clone() else { return };
        self.session.begin(State::Opening, Some(now.saturating_add(limits::REGISTRATION)));
        self.connect(Link::WebSocket, host, port, !self.profile.plain);
    }

    /// The connection is lost or of no use: after a while everything begins again.
    pub(super) fn session_failed(&mut self, now: Duration) {
        self.session.begin(State::Dispatching, None);
        let wait = self.backoff();
        self.session.retry_at = Some(now.saturating_add(wait));
    }

    fn give_up(&mut self, now: Duration, link: Link) {
        self.outputs.push_back(Output::Close(link));
        self.session_failed(now);
    }

    pub(super) fn session_connected(&mut self, now: Duration, link: Link) {
        if !self.session.waits_for(link) {
            return;
        }
        if link == Link::Dispatch {
            self.session.send_at = Some(now.saturating_add(limits::DISPATCH_DELAY));
        } else if self.session.state == State::Opening {
            self.send(Link::WebSocket, handshake::request());
        }
    }

    pub(super) fn dispatched(&mut self, now: Duration, bytes: &[u8]) {
        if !self.session.waits_for(Link::Dispatch) {
            return;
        }
        let room = (limits::DISPATCH_ANSWER + 1).saturating_sub(self.session.received.len());
        self.session.received.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        match DispatchAnswer::read(&self.session.received, self.profile.port_as_text) {
            Ok(None) => {}
            Ok(Some(DispatchAnswer::Server { ip, port })) => {
                self.outputs.push_back(Output::Close(Link::Dispatch));
                self.session.server = Some((ip.to_string(), port));
                self.open(now);
            }
            Ok(Some(DispatchAnswer::Refused { .. })) | Err(_) => self.give_up(now, Link::Dispatch),
        }
    }

    pub(super) fn websocket(&mut self, now: Duration, bytes: &[u8]) {
        if !self.session.waits_for(Link::WebSocket) {
            return;
        }
        if self.session.is_open {
            return self.frames(now, bytes);
        }
        let room = limits::SERVER_FRAME.saturating_sub(self.session.received.len());
        let (part, later) = bytes.split_at(bytes.len().min(room));
        self.session.received.extend_from_slice(part);
        let received = core::mem::take(&mut self.session.received);
        let Some(end) = find(&received, "\r\n\r\n").map(|at| at + 4) else {
            if received.len() < limits::SERVER_FRAME {
                self.session.received = received;
            } else {
                self.give_up(now, Link::WebSocket);
            }
            return;
        };
        let (head, rest) = received.split_at(end);
        if find(head, handshake::SWITCHING).is_none() {
            return self.give_up(now, Link::WebSocket);
        }
        self.session.is_open = true;
        self.register(now);
        self.frames(now, rest);
        self.frames(now, later);
    }

    fn frames(&mut self, now: Duration, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && self.session.is_open {
            let used = self.session.frames.handle_input(rest);
            rest = rest.get(used..).unwrap_or_default();
            loop {
                if !self.session.is_open {
                    return;
                }
                match self.session.frames.next_frame() {
                    Ok(Some(frame)) => self.frame(now, frame),
                    Ok(None) => break,
                    Err(_) => return self.give_up(now, Link::WebSocket),
                }
            }
        }
        let begun = self.session.is_open && self.session.frames.is_within_frame();
        let by = self.session.packet_by.unwrap_or(now.saturating_add(limits::PACKET));
        self.session.packet_by = begun.then_some(by);
    }

    fn frame(&mut self, now: Duration, frame: Frame) {
        self.session.packet_by = None;
        match frame {
            Frame::Text(text) => {
                self.alive(now);
                self.message(now, &text);
            }
            Frame::Pong => self.alive(now),
            // Neither means anything to a device.
            Frame::Ping | Frame::Close { .. } => {}
        }
    }

    /// The server has given a sign of life.
    fn alive(&mut self, now: Duration) {
        self.session.pings = 0;
        self.plan_ping(now);
    }

    fn plan_ping(&mut self, now: Duration) {
        let wait = self.random.time(self.session.heartbeat, limits::HEARTBEAT_JITTER);
        self.session.ping_at = Some(now.saturating_add(wait));
    }

    /// Says something; without a key the factory key.
    pub(super) fn say(&mut self, now: Duration, body: DeviceBody) {
        if !self.session.is_open {
            return;
        }
        let api_key = self.session.key.clone().unwrap_or_else(|| self.identity.factory_key.clone());
        let message = DeviceMessage { device_id: self.identity.device_id, api_key, body };
        let frame = message.to_json().ok().and_then(|json| device_text(&json, MASK).ok());
        if let Some(bytes) = frame {
            self.send(Link::WebSocket, bytes);
            self.plan_ping(now);
        }
    }

    fn register(&mut self, now: Duration) {
        self.session.state = State::Registering;
        self.session.key = None;
        let ts = Some(i64::from(self.random.next() % 1000));
        let (rom_version, model) = (self.identity.rom_version, self.identity.model);
        self.say(now, DeviceBody::Register(Register { rom_version, model, version: Some(2), ts }));
    }

    fn date(&mut self, now: Duration) {
        self.session.date_at = Some(now.saturating_add(limits::DATE_INTERVAL));
        self.say(now, DeviceBody::Date);
    }

    fn update(&mut self, now: Duration) {
        self.session.asked = Asked::Update;
        let state = self.current();
        self.say(now, DeviceBody::Update(state));
    }

    fn current(&self) -> Update {
        Update {
            switches: Some(self.session.switches.clone()),
            fw_version: Some(self.identity.rom_version),
            rssi: Some(-41),
            sta_mac: Text::new("02:00:00:AB:CD:EF").ok(),
            startup: Text::new("off").ok(),
            power: None,
        }
    }

    fn message(&mut self, now: Duration, json: &[u8]) {
        let Ok(reading) = Reading::new(json) else { return };
        if self.profile.refuses_empty && reading.trouble().is_some() {
            return;
        }
        if reading.text("deviceid") != Some(self.identity.device_id.as_str()) {
            return;
        }
        let Some(key) = reading.text("apikey").and_then(|key| ApiKey::cut(key).ok()) else { return };
        let is_factory = key == self.identity.factory_key;
        if reading.has("action") {
            if self.session.key.as_ref() == Some(&key) {
                self.request(now, reading, json);
            }
            return;
        }
        let Some(error) = reading.number("error") else { return };
        match (error, self.session.state) {
            (404, _) if is_factory => {
                let wait = match reading.number("regInterval").and_then(|wait| u64::try_from(wait).ok()) {
                    Some(wait) => Duration::from_secs(wait),
                    None => self.random.time(REGISTER_AGAIN, REGISTER_AGAIN),
                };
                self.session.send_at = Some(now.saturating_add(wait));
                self.session.state = State::Registering;
                self.session.deadline = Some(now.saturating_add(wait).saturating_add(limits::REGISTRATION));
            }
            (0, State::Registering) if !is_factory => self.registered(now, key, reading),
            (0, State::Dating | State::Ready) if self.session.key.as_ref() == Some(&key) => {
                self.answered(now, reading);
            }
            _ => {}
        }
    }

    fn registered(&mut self, now: Duration, key: ApiKey, reading: Reading<'_>) {
        let interval = reading.number("hbInterval").and_then(|seconds| u64::try_from(seconds).ok());
        if let Some(seconds) = interval.filter(|seconds| *seconds > 0) {
            self.session.heartbeat = Duration::from_secs(seconds);
        }
        self.session.key = Some(key);
        self.session.state = State::Dating;
        (self.session.deadline, self.session.send_at, self.session.failures) = (None, None, 0);
        self.session.last_good = self.session.server.clone();
        self.date(now);
    }

    fn answered(&mut self, now: Duration, reading: Reading<'_>) {
        if let Some(date) = reading.text("date") {
            if Date::new(date).is_ok() && self.session.state == State::Dating {
                self.session.state = State::Ready;
                self.update(now);
            }
            return;
        }
        if self.session.asked == Asked::Update {
            self.session.asked = Asked::Query;
            let params = Text::new("timers").into_iter().collect();
            self.say(now, DeviceBody::Query { params });
        } else if self.session.asked == Asked::Query && reading.has("params") {
            self.session.asked = Asked::Nothing;
        }
    }

    /// The result of a request.
    pub(super) fn result(&mut self, now: Duration, error: u16, sequence: Option<Sequence>) {
        self.say(now, DeviceBody::Result { error, sequence });
    }

    fn request(&mut self, now: Duration, reading: Reading<'_>, json: &[u8]) {
        if !matches!(self.session.state, State::Dating | State::Ready) {
            return;
        }
        let sequence = reading.text("sequence").and_then(|text| Text::new(text).ok());
        if reading.text("action") == Some("upgrade") {
            return self.upgrade(now, reading, sequence);
        }
        match ServerMessage::parse(json).map(|message| message.body) {
            Ok(ServerBody::Update { switches }) => {
                self.session.switches = switches.clone();
                self.outputs.push_back(Output::Switch(switches));
                self.result(now, 0, sequence);
            }
            Ok(ServerBody::Redirect { ip, port }) => {
                self.result(now, 0, None);
                let at = now.saturating_add(self.random.time(REDIRECT, REDIRECT));
                self.session.redirect = Some((at, ip.to_string(), port));
            }
            Ok(ServerBody::Notify { hb_interval }) => {
                self.session.heartbeat = Duration::from_secs(hb_interval.max(1).into());
                self.result(now, 0, None);
            }
            Ok(ServerBody::Restart) if self.profile.acknowledges_first => {
                let stored = self.stored.is_some();
                self.result(now, if stored { 0 } else { 400 }, sequence);
                if stored {
                    self.reboot_at = Some(now.saturating_add(limits::REBOOT));
                }
            }
            Ok(ServerBody::QueryDevice { params }) if self.profile.acknowledges_first => {
                let mut state = self.current();
                let is_asked = |name: &str| params.iter().any(|param| param == name);
                let is_switch = is_asked("switch") || is_asked("switches");
                state.switches = state.switches.filter(|_| is_switch);
                state.fw_version = state.fw_version.filter(|_| is_asked("fwVersion"));
                state.rssi = state.rssi.filter(|_| is_asked("rssi"));
                state.sta_mac = state.sta_mac.filter(|_| is_asked("staMac"));
                state.startup = state.startup.filter(|_| is_asked("startup"));
                self.say(now, DeviceBody::State { sequence, state });
            }
            _ => {}
        }
    }

    pub(super) fn session_deadline(&mut self, now: Duration) {
        let due = |at: Option<Duration>| at.is_some_and(|at| now >= at);
        if due(self.session.retry_at) {
            self.session.retry_at = None;
            match self.session.access.clone() {
                Some(access) if self.session.state == State::Joining => {
                    self.outputs.push_back(Output::Join(access));
                }
                _ => self.dispatch(now),
            }
            return;
        }
        if due(self.session.deadline) {
            return match self.session.state {
                State::Pairing => self.session = Session::default(),
                State::Dispatching => self.give_up(now, Link::Dispatch),
                _ => self.give_up(now, Link::WebSocket),
            };
        }
        if due(self.session.packet_by) {
            if self.session.state == State::Pairing {
                self.session.packet_by = None;
                self.received.clear();
                self.outputs.push_back(Output::Close(Link::AccessPoint));
                return;
            }
            return self.give_up(now, Link::WebSocket);
        }
        if let Some((_, host, port)) = self.session.redirect.take_if(|(at, ..)| now >= *at) {
            self.outputs.push_back(Output::Close(Link::WebSocket));
            self.session.server = Some((host, port));
            return self.open(now);
        }
        if due(self.session.send_at) {
            self.session.send_at = None;
            match self.session.state {
                State::Dispatching => self.ask_for_server(),
                _ => self.register(now),
            }
        }
        if due(self.session.date_at) {
            self.date(now);
        }
        if due(self.session.ping_at) {
            if self.session.pings >= limits::PINGS_UNANSWERED {
                return self.give_up(now, Link::WebSocket);
            }
            self.session.pings += 1;
            self.send(Link::WebSocket, device_ping(MASK).to_vec());
            self.plan_ping(now);
        }
    }

    fn ask_for_server(&mut self) {
        let Some(access) = &self.session.access else { return };
        let host = access.server_name().to_string();
        let request = DispatchRequest {
            accept: Text::new("ws;2").ok(),
            version: Some(2),
            ts: Some((self.random.next() % 1000).into()),
            device_id: self.identity.device_id,
            api_key: self.identity.factory_key.clone(),
            model: self.identity.model,
            rom_version: self.identity.rom_version,
        };
        self.send(Link::Dispatch, request.to_http(&host).to_vec());
    }

    /// Closes the WebSocket, as some do when they do not like an upgrade.
    pub(super) fn hang_up(&mut self, now: Duration) {
        self.give_up(now, Link::WebSocket);
    }
}
