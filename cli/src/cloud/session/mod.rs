//! What the cloud does with a connected device, without I/O: Describe, events, the time, its owner's calls, and updates.

mod call;
mod describe;
mod update;

pub use call::{Answer, Call, CallError, Ticket, VariableValue};

use super::catalogue::Catalogue;
use super::plan::Plan;
use super::updates::Attempts;
use super::{Event, Relayed};
use call::{Pending, Queued};
use coap_spark::coap::{Code, Token};
use coap_spark::connection::{ConnectionError, Received, RequestKind, SendError, ServerConnection};
use coap_spark::handshake::DeviceId;
use coap_spark::message::describe::Describe;
use coap_spark::message::system_event::SystemNames;
use coap_spark::message::{
    Event as Publication, FromDevice, FromServer, Hello, HelloFlags, Name, Response, Scope, Subscribe,
    SystemEvent, system_event,
};
use coap_spark::session::SealError;
use core::time::Duration;
use spark_ota::transfer::Options;
use std::collections::VecDeque;
use std::sync::Arc;
use update::{Announced, Update};

/// Answers and events that wait to be sent to one device: above this, no more is read and no more is passed on.
const MAX_WAITING: usize = 64;
/// A device that has an image resets within seconds. One whose application forbids it is asked what it runs.
const RESET_PATIENCE: Duration = Duration::from_secs(60);
/// Any name that begins with [`system_event::CLAIM_PREFIX`] would do.
const CLAIM_SETTLED: &str = "spark/device/claim/settled";
/// Subscriptions of one device; firmware has 5 or 6.
pub const MAX_SUBSCRIPTIONS: usize = 16;

/// How sessions behave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionOptions {
    /// Send the modules that a device lacks.
    pub update: bool,
    /// Modules to send in slow mode, by function letter: `b` bootloader, `s` system part, `u` application.
    pub slow: String,
    /// How to send.
    pub transfer: Options,
    /// Bytes of an event's data that are passed on; longer ones are dropped and counted.
    pub max_event: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { update: true, slow: String::new(), transfer: Options::DEFAULT, max_event: 1024 }
    }
}

/// One connected device.
#[derive(Debug)]
pub struct Session {
    id: DeviceId,
    connection: ServerConnection<1024>,
    catalogue: Arc<Catalogue>,
    options: SessionOptions,
    attempts: Attempts,
    /// What its owner wants it to have.
    plan: Option<Plan>,
    /// Its Hello said that the update before it succeeded.
    update_succeeded: bool,
    announced: Announced,
    /// The parts of the answer to the Describe that was asked for.
    describe: Describe,
    /// How many.
    parts: u8,
    /// The last whole one.
    known: Describe,
    /// When it last described itself without being asked.
    posted: Option<Duration>,
    /// It belongs to the owner: it hears his events and is updated.
    claimed: bool,
    phase: Phase,
    /// What it answers to questions about itself.
    introduction: Introduction,
    subscriptions: Vec<Subscription>,
    /// Sealed frames, to be sent before anything else is sealed.
    sealed: VecDeque<Vec<u8>>,
    waiting: VecDeque<Owed>,
    calls: VecDeque<Queued>,
    pending: Option<Pending>,
    describe_tickets: Vec<Ticket>,
    answers: VecDeque<(Ticket, Result<Answer, CallError>)>,
    events: VecDeque<Event>,
    /// Events for other devices.
    published: VecDeque<Relayed>,
    /// Subscriptions that nobody has been told of.
    subscribed: VecDeque<Subscription>,
}

/// What a device may ask about itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Introduction {
    /// The name that its owner gave it.
    pub name: String,
    /// The address that it connected from.
    pub address: String,
}

#[derive(Debug)]
enum Phase {
    /// The device has not said Hello.
    Start,
    /// Nothing to do, or nothing until then.
    Idle { ask_at: Option<Duration> },
    /// Describe is to be asked for.
    Ask,
    /// Describe was asked for. A part of the answer came: what follows follows soon.
    Asked { id: u16, until: Option<Duration> },
    /// An image is on its way.
    Updating(Box<Update>),
    /// The device has an image and will reset, by then at the latest.
    Updated { until: Duration },
}

/// Events that a device wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// Their names begin so.
    pub prefix: String,
    /// Whose they are.
    pub whose: Whose,
}

/// Whose events a subscription is for. All devices of this cloud have one owner.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Whose {
    /// Public events of everybody.
    All,
    /// All events of the owner's devices.
    Mine,
    /// All events of one device, named by its hex digits.
    Device(String),
}

impl Subscription {
    /// Whether an event is one of them.
    #[must_use]
    pub fn wants(&self, event: &Relayed) -> bool {
        event.name.starts_with(&self.prefix)
            && match &self.whose {
                Whose::All => event.public,
                Whose::Mine => true,
                Whose::Device(id) => event.device.is_some_and(|device| *id == device.to_string()),
            }
    }
}

/// Something to send that is no part of an update.
#[derive(Debug)]
enum Owed {
    Time { id: u16, token: Token, unix: u32 },
    Ack { id: u16 },
    Refuse { id: u16 },
    Publish { name: String, data: Option<Vec<u8>>, max_age: Option<u32>, public: bool },
}

impl Session {
    /// Begins with a connection that waits for the device's Hello.
    #[must_use]
    pub fn new(
        id: DeviceId,
        connection: ServerConnection<1024>,
        catalogue: Arc<Catalogue>,
        options: SessionOptions,
    ) -> Self {
        Self {
            id,
            connection,
            catalogue,
            options,
            attempts: Attempts::default(),
            plan: None,
            update_succeeded: false,
            announced: Announced::default(),
            describe: Describe::default(),
            parts: 0,
            known: Describe::default(),
            posted: None,
            claimed: true,
            phase: Phase::Start,
            introduction: Introduction::default(),
            subscriptions: Vec::new(),
            sealed: VecDeque::new(),
            waiting: VecDeque::new(),
            calls: VecDeque::new(),
            pending: None,
            describe_tickets: Vec::new(),
            answers: VecDeque::new(),
            events: VecDeque::new(),
            published: VecDeque::new(),
            subscribed: VecDeque::new(),
        }
    }

    /// Which device this is.
    #[must_use]
    pub const fn device_id(&self) -> DeviceId {
        self.id
    }

    /// Tells how often modules were sent to this device before, so that a module it never takes is not sent forever.
    pub fn set_attempts(&mut self, attempts: Attempts) {
        self.attempts = attempts;
    }

    /// How often modules were sent to this device.
    #[must_use]
    pub const fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// Tells whether the device belongs to the owner. Others only connect.
    pub fn set_claimed(&mut self, now: Duration, claimed: bool) {
        let before = core::mem::replace(&mut self.claimed, claimed);
        if !claimed {
            self.cancel_plan(now);
        } else if !before && matches!(self.phase, Phase::Idle { .. }) {
            self.phase = Phase::Ask;
        }
    }

    /// Events that came faster than the policy allows, and were dropped.
    #[must_use]
    pub const fn dropped_events(&self) -> u64 {
        self.connection.dropped_events()
    }

    /// Tells what the device may ask about itself.
    pub fn set_introduction(&mut self, introduction: Introduction) {
        self.introduction = introduction;
    }

    /// Whether there is room for what more input may ask for. Send first, then read.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.sealed.len() + self.waiting.len() < MAX_WAITING
    }

    /// Takes received bytes. `unix_time` is for devices that ask.
    ///
    /// # Errors
    /// [`ConnectionError`]: close the socket.
    pub fn handle_input(
        &mut self,
        now: Duration,
        unix_time: u32,
        mut input: &[u8],
    ) -> Result<(), ConnectionError> {
        while !input.is_empty() {
            self.seal_replies();
            let used = self.connection.handle_input(now, input)?;
            input = input.get(used..).unwrap_or_default();
            let mut buffer = [0; 1024];
            if let Some(message) = self.connection.take_message(&mut buffer) {
                self.handle_message(now, unix_time, &message);
            }
        }
        self.seal_replies();
        Ok(())
    }

    /// The replies that the connection owes, sealed in order: it takes no more input while many are waiting.
    fn seal_replies(&mut self) {
        let mut out = [0; 64];
        while let Ok(Some(frame)) = self.connection.poll_output(&mut out) {
            self.sealed.push_back(frame.to_vec());
        }
    }

    fn handle_message(
        &mut self,
        now: Duration,
        unix_time: u32,
        message: &Received<FromDevice<'_>, RequestKind>,
    ) {
        if let Phase::Updating(update) = &mut self.phase
            && update.handle_message(now, message)
        {
            self.watch_update(now);
            return;
        }
        match message.body {
            // Once a connection; a repeated one means nothing.
            FromDevice::Hello(hello) if matches!(self.phase, Phase::Start) => self.take_hello(&hello),
            FromDevice::Event(event) => self.take_event(&event),
            FromDevice::Subscribe(subscribe) => self.take_subscription(message.id, &subscribe),
            FromDevice::TimeRequest => {
                self.owe(Owed::Time { id: message.id, token: message.token, unix: unix_time });
            }
            // Metrics begin with 0. In the middle of an update the device's modules are known well enough.
            FromDevice::DescribePost { payload, .. }
                if matches!(self.phase, Phase::Idle { .. } | Phase::Ask | Phase::Asked { .. })
                    && payload.first() != Some(&0) =>
            {
                self.take_post(now, payload);
            }
            FromDevice::Goodbye { ref goodbye, .. } => {
                let reason =
                    goodbye.cloud_reason.map_or_else(|| "none".to_owned(), |reason| reason.to_string());
                self.events.push_back(Event::Goodbye { device: self.id, reason });
            }
            ref body => {
                let Some(answers) = message.answers else { return };
                match (&self.phase, body) {
                    (Phase::Asked { id, .. }, FromDevice::Response(response))
                        if *id == answers.id && answers.is_answer =>
                    {
                        self.take_describe(now, response.payload);
                    }
                    _ => self.take_answer(answers, body),
                }
            }
        }
    }

    fn take_hello(&mut self, hello: &Hello) {
        let flags = hello.flags.unwrap_or_default();
        self.update_succeeded = flags.contains(HelloFlags::OTA_SUCCEEDED);
        self.events.push_back(Event::Online {
            device: self.id,
            platform_id: hello.platform_id,
            product_id: hello.product.map(|(id, _)| id),
            product_version: hello.product.map(|(_, version)| version),
            update_succeeded: self.update_succeeded,
        });
        self.phase = Phase::Ask;
    }

    fn take_subscription(&mut self, id: u16, subscribe: &Subscribe<'_>) {
        let whose = match subscribe.scope {
            Scope::MyDevices => Whose::Mine,
            Scope::Device(id) => Whose::Device(id.to_string()),
            Scope::DeviceText(text) => Whose::Device(String::from_utf8_lossy(text).to_ascii_lowercase()),
            _ => Whose::All,
        };
        let subscription = Subscription { prefix: subscribe.prefix.to_text(), whose };
        // A device that has lost the acknowledgement asks again.
        if self.subscriptions.contains(&subscription) {
            self.owe(Owed::Ack { id });
            return;
        }
        let room = self.subscriptions.len() < MAX_SUBSCRIPTIONS;
        // Everybody's events without a prefix are not for one device to ask for.
        if room && !(subscription.whose == Whose::All && subscription.prefix.is_empty()) {
            self.subscribed.push_back(subscription.clone());
            self.subscriptions.push(subscription);
            self.owe(Owed::Ack { id });
        } else {
            self.owe(Owed::Refuse { id });
            self.events
                .push_back(Event::SubscriptionRefused { device: self.id, prefix: subscription.prefix });
        }
    }

    fn take_event(&mut self, event: &Publication<'_>) {
        let name = event.name.to_text();
        if event.data.is_some_and(|data| data.len() > self.options.max_event) {
            let limit = self.options.max_event;
            self.events.push_back(Event::EventDropped { device: self.id, name, limit });
            return;
        }
        if event.name.is_system(SystemNames::SparkOrParticle) {
            self.take_system_event(event);
        } else {
            self.published.push_back(Relayed {
                device: Some(self.id),
                name: name.clone(),
                data: event.data.map(<[u8]>::to_vec),
                max_age: event.max_age,
                public: event.public,
            });
        }
        // A claim code gives a device to whoever made it; it is not for everyone who watches.
        let secret = name == system_event::CLAIM_CODE;
        let data = event.data.filter(|_| !secret).map(|data| String::from_utf8_lossy(data).into_owned());
        self.events.push_back(Event::Published {
            device: self.id,
            name,
            data,
            max_age: event.max_age,
            public: event.public,
        });
    }

    fn take_system_event(&mut self, event: &Publication<'_>) {
        let answer = match SystemEvent::of(event) {
            SystemEvent::SafeMode(_) => {
                if matches!(self.phase, Phase::Idle { .. }) {
                    self.phase = Phase::Ask;
                }
                return;
            }
            SystemEvent::MaxBinary(size) => return self.announced.max_binary = Some(size),
            SystemEvent::OtaChunkSize(size) => return self.announced.chunk_size = Some(size),
            SystemEvent::ClaimCode(code) => {
                let code = String::from_utf8_lossy(code).into_owned();
                self.events.push_back(Event::ClaimCode { device: self.id, code });
                return;
            }
            SystemEvent::DeviceName(_) => (system_event::DEVICE_NAME, self.introduction.name.clone()),
            SystemEvent::DeviceIp(_) => (system_event::DEVICE_IP, self.introduction.address.clone()),
            SystemEvent::DeviceRandom(_) => {
                self.events.push_back(Event::WantsRandom { device: self.id });
                return;
            }
            _ => return,
        };
        // In an update the device has no ear for it; it asks again.
        if !matches!(self.phase, Phase::Updating(_)) && self.waiting.len() < MAX_WAITING {
            self.owe_event(answer.0, answer.1.into_bytes());
        }
    }

    /// Gives the device the random bytes that it asked for.
    pub fn give_random(&mut self, bytes: &[u8]) {
        if !matches!(self.phase, Phase::Updating(_)) && self.waiting.len() < MAX_WAITING {
            self.owe_event(system_event::DEVICE_RANDOM, bytes.to_vec());
        }
    }

    /// Tells the device that it belongs to its owner: it forgets its claim code, which it would tell on every connection.
    pub fn settle_claim(&mut self) {
        if !matches!(self.phase, Phase::Updating(_)) && self.waiting.len() < MAX_WAITING {
            self.owe_event(CLAIM_SETTLED, Vec::new());
        }
    }

    fn owe_event(&mut self, name: &str, data: Vec<u8>) {
        self.owe(Owed::Publish { name: name.to_owned(), data: Some(data), max_age: Some(60), public: false });
    }

    /// The next frame to send, sealed into `out` (1024 bytes); `None` if nothing is due.
    ///
    /// # Errors
    /// [`SendError`]: close the socket.
    pub fn poll_send<'o>(&mut self, now: Duration, out: &'o mut [u8]) -> Result<Option<&'o [u8]>, SendError> {
        let len = match self.seal_next(now, out)? {
            Some(len) => len,
            None => return Ok(None),
        };
        self.watch_update(now);
        Ok(out.get(..len))
    }

    fn seal_next(&mut self, now: Duration, out: &mut [u8]) -> Result<Option<usize>, SendError> {
        if let Some(frame) = self.sealed.pop_front() {
            let available = out.len();
            let needed = frame.len();
            let place = out.get_mut(..needed).ok_or(SealError::BufferTooSmall { needed, available })?;
            place.copy_from_slice(&frame);
            return Ok(Some(needed));
        }
        while let Some(owed) = self.waiting.pop_front() {
            match self.seal_owed(&owed, out) {
                // Another device's event that this one could not take is no reason to part.
                Err(SendError::FrameTooLong { .. } | SendError::Encode(_))
                    if matches!(owed, Owed::Publish { .. }) => {}
                sealed => return sealed.map(Some),
            }
        }
        let needs_description = self.next_call_needs_description();
        match &mut self.phase {
            Phase::Ask => {
                let sent = self.connection.request(now, FromServer::Describe { flags: None }, out)?;
                self.phase = Phase::Asked { id: sent.id, until: None };
                Ok(Some(sent.bytes.len()))
            }
            Phase::Updating(update) => update.poll_send(now, &mut self.connection, out),
            Phase::Start | Phase::Updated { .. } => Ok(None),
            // What the device has is known when it has described itself.
            Phase::Asked { .. } if needs_description => Ok(None),
            Phase::Idle { .. } | Phase::Asked { .. } => self.seal_call(now, out),
        }
    }

    fn seal_owed(&mut self, owed: &Owed, out: &mut [u8]) -> Result<usize, SendError> {
        let answer = |code, payload| Response { code, payload };
        let frame = match owed {
            Owed::Ack { id } => self.connection.acknowledge(*id, out)?,
            Owed::Refuse { id } => {
                self.connection.respond(*id, Token::EMPTY, answer(Code::BAD_REQUEST, &[]), out)?
            }
            Owed::Time { id, token, unix } => {
                let time = unix.to_be_bytes();
                self.connection.respond(*id, *token, answer(Code::CONTENT, &time), out)?
            }
            Owed::Publish { name, data, max_age, public } => {
                let (name, data) = (Name::new(name), data.as_deref());
                let event = Publication { name, public: *public, max_age: *max_age, data };
                self.connection.send(FromServer::Event(event), out)?.bytes
            }
        };
        Ok(frame.len())
    }

    /// An event of any device, this one included; it is sent on if this device subscribed to it.
    ///
    /// During an update it is not: devices up to 1.x keep their list of chunks in the buffer that a message comes to.
    /// A device that does not take its events fast enough misses some. Events carry no promise.
    pub fn offer(&mut self, event: &Relayed) {
        if self.claimed
            && !matches!(self.phase, Phase::Updating(_))
            && self.subscriptions.iter().any(|subscription| subscription.wants(event))
            && self.waiting.len() < MAX_WAITING
        {
            self.owe(Owed::Publish {
                name: event.name.clone(),
                data: event.data.clone(),
                max_age: event.max_age,
                public: event.public,
            });
        }
    }

    /// The next event for other devices.
    pub fn poll_published(&mut self) -> Option<Relayed> {
        self.published.pop_front()
    }

    /// The next subscription since the last call.
    pub fn poll_subscribed(&mut self) -> Option<Subscription> {
        self.subscribed.pop_front()
    }

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Session::handle_deadline`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Duration {
        let own = match &self.phase {
            Phase::Updating(update) => update.next_deadline(),
            Phase::Idle { ask_at } => *ask_at,
            Phase::Asked { until, .. } => *until,
            Phase::Updated { until } => Some(*until),
            Phase::Start | Phase::Ask => None,
        };
        let connection = self.connection.next_deadline();
        [own, self.call_deadline()].into_iter().flatten().fold(connection, Duration::min)
    }

    /// Moves on if a deadline has come. Early calls are harmless.
    ///
    /// # Errors
    /// [`ConnectionError`]: close the socket.
    pub fn handle_deadline(&mut self, now: Duration) -> Result<(), ConnectionError> {
        self.connection.handle_deadline(now)?;
        while let Some(expired) = self.connection.poll_expired(now) {
            match &self.phase {
                Phase::Asked { id, .. } if *id == expired.id => {
                    self.answer_describe(&Err(CallError::TimedOut));
                    self.give_up_describe(now, "it does not answer Describe".to_owned());
                }
                _ => self.expire_call(&expired),
            }
        }
        self.expire_waiting_calls(now);
        match &mut self.phase {
            Phase::Updating(update) => {
                update.handle_deadline(now);
                self.watch_update(now);
            }
            Phase::Asked { until: Some(until), .. } if now >= *until => self.finish_parts(now),
            Phase::Idle { ask_at: Some(at) } if now >= *at => self.phase = Phase::Ask,
            Phase::Updated { until } if now >= *until => self.phase = Phase::Ask,
            _ => {}
        }
        Ok(())
    }

    /// The connection is gone. An update that was under way was interrupted, and no call is answered any more.
    pub fn handle_end(&mut self, now: Duration) {
        self.end_update(now, "the connection ended");
        self.refuse_calls(&CallError::Offline);
    }

    fn owe(&mut self, owed: Owed) {
        self.waiting.push_back(owed);
    }
}
