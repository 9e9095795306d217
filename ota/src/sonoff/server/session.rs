//! The server's side of one device, whichever connection it comes by.

use super::command::{Command, CommandError, Commands};
use super::event::{Event, Presence};
use super::failure::Diagnosis;
use super::job::{Delivery, Job, Stage, Verdict};
use crate::esp8266::Slot;
use crate::sonoff::dispatch::DispatchRequest;
use crate::sonoff::limits;
use crate::sonoff::message::{Date, DeviceBody, DeviceMessage, Register, ServerBody, ServerMessage, Update};
use crate::sonoff::secret::ApiKey;
use crate::sonoff::text::{DeviceId, Sequence, Sequences};
use crate::sonoff::upgrade::{Offer, Refusal, Registered, Warning};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::Range;
use core::time::Duration;

/// Silence of a device that a server takes for the end of the connection: the interval that it was told, the jitter, and some
/// time for a lost packet. Pings of the server would not do: devices ignore them.
pub const SILENCE: Duration = silence(limits::HEARTBEAT_INTERVAL);

const fn silence(interval: u16) -> Duration {
    Duration::from_secs(interval as u64 + 7 + 30)
}

/// How often and how fast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Policy {
    /// Times that an upgrade is offered in all, on the same connection where there is one.
    pub attempts: u8,
    /// A file without ranges is sent at full speed first, and paced if that fails. Otherwise it is paced at once.
    pub full_speed_first: bool,
    /// The images are intermediate ones, which get a final one: what is installed is not the end.
    pub final_stage: bool,
}

impl Policy {
    /// One attempt, paced at once, without a final stage.
    pub const ONCE: Self = Self { attempts: 1, full_speed_first: false, final_stage: false };
}

impl Default for Policy {
    fn default() -> Self {
        Self { attempts: 3, ..Self::ONCE }
    }
}

/// The server's side of a device.
///
/// | state | event | what follows |
/// |---|---|---|
/// | any | `register` | settings; [`Event::Registered`] |
/// | registered | `date` | the date |
/// | dated | `update` or `query` | an answer; [`Event::Ready`] at the first |
/// | ready | [`Session::offer`] | the offer is checked and sent; [`Stage::Offered`] |
/// | offered | request with a range | [`Stage::Downloading`] |
/// | offered | request without | [`Stage::Streaming`], paced |
/// | offered | code 0 | [`Stage::Accepted`] |
/// | offered, downloading, streaming | code 404 | offered again as often as [`Policy`] says, or [`Stage::Failed`] |
/// | | other codes, no request in time, silence | [`Stage::Failed`] |
/// | downloading, streaming | last byte sent | [`Stage::Served`] |
/// | served | code 0, or `register` with a new version | [`Stage::Installed`] |
/// | before that | `register` with a new version | [`Failure::OtherVersion`](super::Failure::OtherVersion) |
/// | served, installed | `register` with the old version | [`Failure::DidNotBoot`](super::Failure::DidNotBoot) |
/// | registered | [`Session::command`] | the command is sent; [`Event::Answered`] |
/// | any | connection lost | the download is remembered for 180 s |
///
/// Messages to send come from [`Session::poll_message`], and what has happened from [`Session::poll_event`]; poll both until
/// `None` after every call.
#[derive(Clone, Debug)]
pub struct Session {
    device_id: DeviceId,
    session_key: ApiKey,
    factory_key: Option<ApiKey>,
    register: Option<Register>,
    presence: Presence,
    address: Option<IpAddr>,
    policy: Policy,
    sequences: Sequences,
    commands: Commands,
    /// Seconds between signs of life.
    interval: u16,
    job: Option<Job>,
    /// Found in an earlier upgrade.
    paced: bool,
    messages: VecDeque<ServerMessage>,
    events: VecDeque<Event>,
}

/// The messages to a device and what is told of it are bounded: a device that says more than is polled is not heard.
const WAITING: usize = 64;

impl Session {
    /// A device that was not seen yet. The key is the one that it will use once it is registered.
    #[must_use]
    pub fn new(device_id: DeviceId, session_key: ApiKey, policy: Policy) -> Self {
        Self {
            device_id,
            session_key,
            factory_key: None,
            register: None,
            presence: Presence::Away,
            address: None,
            policy,
            sequences: Sequences::new(),
            commands: Commands::default(),
            interval: limits::HEARTBEAT_INTERVAL,
            job: None,
            paced: false,
            messages: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Its id.
    #[must_use]
    pub const fn device_id(&self) -> DeviceId {
        self.device_id
    }

    /// What it has registered with.
    #[must_use]
    pub const fn register(&self) -> Option<&Register> {
        self.register.as_ref()
    }

    /// Its factory key, known from the first `register`.
    #[must_use]
    pub const fn factory_key(&self) -> Option<&ApiKey> {
        self.factory_key.as_ref()
    }

    /// Makes its factory key known, from its access point.
    pub fn set_factory_key(&mut self, key: ApiKey) {
        self.factory_key = Some(key);
    }

    /// Gives it another key for a new connection, before its `register` is handled.
    pub fn set_session_key(&mut self, key: ApiKey) {
        self.session_key = key;
    }

    /// How near it is.
    #[must_use]
    pub const fn presence(&self) -> Presence {
        self.presence
    }

    /// Where its WebSocket came from last.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// How far its upgrade is, if it was offered one.
    #[must_use]
    pub fn stage(&self) -> Option<&Stage> {
        self.job.as_ref().map(|job| &job.stage)
    }

    /// An upgrade can be offered.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.presence == Presence::Ready && !self.is_upgrading()
    }

    /// An upgrade is under way.
    #[must_use]
    pub fn is_upgrading(&self) -> bool {
        self.job.as_ref().is_some_and(Job::is_open)
    }

    /// Something is expected of its upgrade, also of the final stage.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.next_deadline().is_some())
    }

    /// The next message for its WebSocket.
    pub fn poll_message(&mut self) -> Option<ServerMessage> {
        self.messages.pop_front()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() < WAITING || matches!(event, Event::Stage(_)) {
            self.events.push_back(event);
        }
    }

    fn say(&mut self, body: ServerBody) {
        if self.messages.len() < WAITING {
            let (device_id, api_key) = (self.device_id, self.session_key.clone());
            self.messages.push_back(ServerMessage { device_id, api_key, sequence: None, body });
        }
    }

    /// Whether a device that gives this key can be the one that it says it is. The first key that registers is believed.
    #[must_use]
    pub fn admits(&self, factory_key: &ApiKey) -> bool {
        self.factory_key.as_ref().is_none_or(|known| known == factory_key)
    }

    /// It has asked for its server. `false`: with another key than before, refuse it.
    pub fn dispatched(&mut self, request: &DispatchRequest) -> bool {
        if !self.admits(&request.api_key) {
            self.tell(Event::WrongKey);
            return false;
        }
        // Anybody can ask that: the key counts once it has registered.
        self.tell(Event::Dispatched);
        true
    }

    /// Its WebSocket is gone.
    pub fn closed(&mut self, now: Duration) {
        if self.presence == Presence::Away {
            return;
        }
        self.presence = Presence::Away;
        self.messages.clear();
        self.commands.forget();
        self.tell(Event::Away);
        if let Some(job) = &mut self.job {
            job.lost(now);
        }
    }

    /// A message of it. `unix_milliseconds` is the time of day, for its clock and the numbers of requests.
    pub fn handle_message(
        &mut self,
        now: Duration,
        unix_milliseconds: u64,
        address: Option<IpAddr>,
        message: &DeviceMessage,
    ) {
        if message.device_id != self.device_id {
            return self.refuse(Event::Unexpected);
        }
        if let DeviceBody::Register(register) = &message.body {
            return self.registered(now, unix_milliseconds, address, &message.api_key, register);
        }
        if self.presence == Presence::Away {
            // Not an error for the device: it registers, sooner or later.
            return self.refuse(Event::Unexpected);
        }
        let is_known = message.api_key == self.session_key
            || self.factory_key.as_ref().is_some_and(|key| *key == message.api_key);
        if !is_known {
            return self.refuse(Event::WrongKey);
        }
        match &message.body {
            DeviceBody::Register(_) => {}
            DeviceBody::Date => {
                self.say(ServerBody::Date { date: Date::from_unix_milliseconds(unix_milliseconds) });
                self.presence = self.presence.max(Presence::Dated);
            }
            DeviceBody::Update(Update { switches, rssi, .. }) => {
                self.say(ServerBody::Answer { error: 0 });
                let (switches, rssi) = (switches.clone(), rssi.and_then(|rssi| i16::try_from(rssi).ok()));
                self.tell(Event::State { switches, rssi });
                self.ready(now, unix_milliseconds);
            }
            DeviceBody::Query { .. } => {
                self.say(ServerBody::NothingKnown);
                self.ready(now, unix_milliseconds);
            }
            DeviceBody::Result { error, sequence } => {
                let is_job = |job: &&mut Job| Some(job.sequence) == *sequence;
                if let Some(job) = self.job.as_mut().filter(is_job) {
                    let before = job.stage.clone();
                    let verdict = job.result(now, *error, false);
                    self.follow(now, unix_milliseconds, before, verdict);
                } else {
                    self.answered(*sequence, *error, None);
                }
            }
            DeviceBody::State { sequence, state } => self.answered(*sequence, 0, Some(state.clone())),
            DeviceBody::UpgradeState { code, sequence } => {
                self.say(ServerBody::Answer { error: 0 });
                // With one upgrade at a time, a state without its number is that one's.
                let is_job = |job: &&mut Job| sequence.is_none_or(|sequence| sequence == job.sequence);
                if let Some(job) = self.job.as_mut().filter(is_job) {
                    let before = job.stage.clone();
                    let verdict = job.result(now, *code, true);
                    self.follow(now, unix_milliseconds, before, verdict);
                }
            }
            DeviceBody::Unknown { .. } => self.refuse(Event::Unexpected),
        }
    }

    fn answered(&mut self, sequence: Option<Sequence>, error: u16, state: Option<Update>) {
        // An answer to nothing is nothing to tell.
        if let Some(sequence) = self.commands.answered(sequence) {
            self.tell(Event::Answered { sequence, error, state });
        }
    }

    /// Asks something of a device that has registered. Its answer is [`Event::Answered`] with the sequence that is given
    /// here; firmware that does not know the command does not answer.
    ///
    /// # Errors
    /// [`CommandError`]; nothing is sent then.
    pub fn command(&mut self, unix_milliseconds: u64, command: &Command) -> Result<Sequence, CommandError> {
        if self.presence == Presence::Away {
            return Err(CommandError::Away);
        }
        if matches!(command, Command::Notify { hb_interval: 0 } | Command::Redirect { port: 0, .. }) {
            return Err(CommandError::Zero);
        }
        let limit = Commands::LIMIT;
        if self.messages.len() >= limit {
            return Err(CommandError::TooMany { limit });
        }
        let sequence = self.sequences.next(unix_milliseconds);
        let message = ServerMessage {
            device_id: self.device_id,
            api_key: self.session_key.clone(),
            sequence: Some(sequence),
            body: command.body(),
        };
        message.to_json().map_err(CommandError::Unsendable)?;
        match command {
            Command::Notify { hb_interval } => self.interval = *hb_interval,
            Command::Restart => {
                if let Some(job) = &mut self.job {
                    job.restarts();
                }
            }
            _ => {}
        }
        self.commands.sent(sequence, command);
        self.messages.push_back(message);
        Ok(sequence)
    }

    /// How long nothing may be heard of it before its connection is taken for lost.
    #[must_use]
    pub fn silence(&self) -> Duration {
        // What it was told before it has been told the shorter one still counts.
        silence(self.interval).max(SILENCE)
    }

    fn refuse(&mut self, event: Event) {
        self.say(ServerBody::Answer { error: 400 });
        self.tell(event);
    }

    fn registered(
        &mut self,
        now: Duration,
        unix_milliseconds: u64,
        address: Option<IpAddr>,
        key: &ApiKey,
        register: &Register,
    ) {
        if !self.admits(key) {
            return self.refuse(Event::WrongKey);
        }
        if *key == self.session_key {
            // The answer would not be recognised: the two must differ.
            return self.refuse(Event::WrongKey);
        }
        self.factory_key = Some(key.clone());
        self.address = address;
        let away = core::mem::replace(&mut self.presence, Presence::Registered) == Presence::Away;
        self.interval = limits::HEARTBEAT_INTERVAL;
        let (model, rom_version) = (register.model, register.rom_version);
        self.register = Some(register.clone());
        self.say(ServerBody::Registered { hb_interval: limits::HEARTBEAT_INTERVAL });
        self.tell(Event::Registered { model, rom_version });
        if let Some(job) = &mut self.job {
            let before = job.stage.clone();
            let verdict = job.registered(now, rom_version, away);
            self.follow(now, unix_milliseconds, before, verdict);
        }
    }

    fn ready(&mut self, now: Duration, unix_milliseconds: u64) {
        if self.presence != Presence::Dated {
            return;
        }
        self.presence = Presence::Ready;
        self.tell(Event::Ready);
        if let Some(job) = &mut self.job
            && let Some(failure) = job.take_again()
        {
            let before = job.stage.clone();
            self.follow(now, unix_milliseconds, before, Verdict::Again(failure));
        }
    }

    /// Checks an upgrade against everything that is known of the device, and sends it.
    ///
    /// # Errors
    /// Every [`Refusal`]; nothing is sent then.
    pub fn offer(
        &mut self,
        now: Duration,
        unix_milliseconds: u64,
        offer: &Offer,
    ) -> Result<Vec<Warning>, Vec<Refusal>> {
        let Some(register) = self.register.as_ref().filter(|_| self.presence != Presence::Away) else {
            return Err([Refusal::NotReady].into());
        };
        let rom_version = register.rom_version;
        let checked = offer.check(&Registered {
            model: register.model,
            rom_version,
            dated: self.presence >= Presence::Dated,
            upgrading: self.is_upgrading(),
            address: self.address,
        })?;
        let sequence = self.sequences.next(unix_milliseconds);
        let mut job = Job::new(now, checked.upgrade, sequence, rom_version, self.policy);
        job.paced = self.paced;
        self.job = Some(job);
        self.send_offer();
        Ok(checked.warnings)
    }

    fn send_offer(&mut self) {
        let Some(job) = &self.job else { return };
        let message = ServerMessage {
            device_id: self.device_id,
            api_key: self.session_key.clone(),
            sequence: Some(job.sequence),
            body: ServerBody::Upgrade(job.upgrade.clone()),
        };
        let attempt = job.attempt;
        self.messages.push_back(message);
        self.tell(Event::Offered { attempt });
    }

    /// Forgets an upgrade that is not wanted any more. The device is not told: it has no word for that.
    pub fn forget_upgrade(&mut self) {
        self.job = None;
    }

    /// The device asks for the image of this slot, of `total` bytes: for these, or for all. The answer says how to send them.
    pub fn requested(
        &mut self,
        now: Duration,
        slot: Slot,
        total: u32,
        range: Option<Range<u32>>,
    ) -> Delivery {
        let Some(job) = &mut self.job else { return Delivery::Direct };
        let before = job.stage.clone();
        let delivery = job.requested(now, slot, total, range, self.policy.full_speed_first);
        self.tell_stage(&before);
        delivery
    }

    /// These bytes of the image of this slot are handed to the network.
    pub fn given(&mut self, slot: Slot, part: Range<u32>) {
        if let Some(job) = &mut self.job {
            job.given(slot, part);
        }
    }

    /// The network has taken these bytes of the image of this slot.
    pub fn sent(&mut self, now: Duration, slot: Slot, part: Range<u32>) {
        let Some(job) = &mut self.job else { return };
        let before = job.stage.clone();
        job.sent(now, slot, part);
        self.tell_stage(&before);
    }

    /// The intermediate image asks for the final one, of `total` bytes, or for another of its files: 0.
    pub fn final_stage_requested(&mut self, now: Duration, total: u32) {
        let Some(job) = &mut self.job else { return };
        let before = job.stage.clone();
        let hint = job.final_requested(now, total);
        self.tell_stage(&before);
        if let Some(diagnosis) = hint {
            self.tell(Event::Hint(diagnosis));
        }
    }

    /// The intermediate image asks for one of its files that is not served.
    pub fn final_file_missing(&mut self) {
        if let Some(diagnosis) = self.job.as_mut().and_then(|job| job.hint(Diagnosis::FinalStageMissing)) {
            self.tell(Event::Hint(diagnosis));
        }
    }

    /// See [`Job::is_slow`].
    pub(super) fn is_slow(&mut self, now: Duration) -> bool {
        self.job.as_mut().is_some_and(|job| job.is_slow(now))
    }

    /// The intermediate image has got `sent` bytes of the final one.
    pub fn in_final_stage(&mut self, now: Duration, sent: u32, total: u32) {
        let Some(job) = &mut self.job else { return };
        let before = job.stage.clone();
        job.in_final_stage(now, sent, total);
        self.tell_stage(&before);
    }

    /// Bytes of the final image have arrived.
    pub fn final_image_moved(&mut self, now: Duration) {
        if let Some(job) = &mut self.job {
            job.final_image_moved(now);
        }
    }

    /// The final image has arrived: the device has `closed` the connection after the last byte, or nothing more was heard.
    pub fn finished(&mut self, closed: bool) {
        let Some(job) = &mut self.job else { return };
        let before = job.stage.clone();
        job.finished(closed);
        self.tell_stage(&before);
    }

    fn tell_stage(&mut self, before: &Stage) {
        let Some(stage) = self.job.as_ref().map(|job| job.stage.clone()) else { return };
        if core::mem::discriminant(&stage) != core::mem::discriminant(before) {
            self.tell(Event::Stage(stage));
        }
    }

    fn follow(&mut self, now: Duration, unix_milliseconds: u64, before: Stage, verdict: Verdict) {
        match verdict {
            Verdict::Continues => self.tell_stage(&before),
            Verdict::Ended => {
                if let Some(stage) =
                    self.job.as_ref().map(|job| job.stage.clone()).filter(|stage| *stage != before)
                {
                    self.tell(Event::Stage(stage));
                }
            }
            Verdict::Hint(diagnosis) => self.tell(Event::Hint(diagnosis)),
            Verdict::Again(failure) if self.presence < Presence::Dated => {
                // It does not listen yet, or is away.
                if let Some(job) = &mut self.job {
                    job.postpone(now, failure);
                }
            }
            Verdict::Again(failure) => {
                self.tell(Event::Retry { failure });
                let sequence = self.sequences.next(unix_milliseconds);
                if let Some(job) = &mut self.job {
                    self.paced |= job.paced;
                    job.offered(now, sequence);
                }
                self.send_offer();
            }
        }
    }

    /// When [`Session::handle_deadline`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.job.as_ref().and_then(Job::next_deadline)
    }

    /// The deadline has come. Early calls are harmless.
    pub fn handle_deadline(&mut self, now: Duration, unix_milliseconds: u64) {
        let Some(job) = &mut self.job else { return };
        let before = job.stage.clone();
        let verdict = job.expired(now);
        self.follow(now, unix_milliseconds, before, verdict);
    }
}
