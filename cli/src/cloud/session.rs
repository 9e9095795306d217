//! What the cloud does with a connected device, without I/O: Describe, events, the time, and system updates until the
//! application can run.

use super::catalogue::{Catalogue, ModuleFile};
use super::updates::{Attempts, Next, next_update};
use super::{Event, Relayed};
use coap_spark::coap::{Code, Token};
use coap_spark::connection::{ConnectionError, SendError, ServerConnection};
use coap_spark::handshake::DeviceId;
use coap_spark::message::describe::Describe;
use coap_spark::message::{
    Envelope, Event as Publication, FromDevice, FromServer, HelloFlags, Name, Response, Scope, system_event,
};
use coap_spark::session::SealError;
use core::time::Duration;
use spark_ota::coap::Upload;
use spark_ota::transfer::{Failure, Options, Progress};
use std::collections::VecDeque;
use std::sync::Arc;

/// Both JavaScript servers wait this long for an answer.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(15);
/// Progress is reported at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// Answers and events that wait to be sent to one device: above this, no more is read and no more is passed on.
const MAX_WAITING: usize = 64;
/// Names of system events begin with these; they are between one device and the server.
const SYSTEM_PREFIXES: [&str; 2] = ["spark", "particle"];
/// Subscriptions of one device; firmware has 5 or 6.
const MAX_SUBSCRIPTIONS: usize = 16;

/// How sessions behave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionOptions {
    /// Send the modules that a device lacks.
    pub update: bool,
    /// Modules to send in slow mode, by function letter: `b` bootloader, `s` system part, `u` application.
    pub slow: String,
    /// How to send.
    pub transfer: Options,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { update: true, slow: String::new(), transfer: Options::DEFAULT }
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
    describe: Describe,
    phase: Phase,
    subscriptions: Vec<Subscription>,
    /// Sealed frames, to be sent before anything else is sealed.
    sealed: VecDeque<Vec<u8>>,
    waiting: VecDeque<Owed>,
    events: VecDeque<Event>,
    /// Events for other devices.
    published: VecDeque<Relayed>,
}

#[derive(Debug)]
enum Phase {
    /// The device has not said Hello.
    Start,
    /// Nothing to do.
    Idle,
    /// Describe is to be asked for.
    Ask,
    /// Describe was asked for.
    Asked { token: Token, deadline: Duration },
    /// An image is on its way.
    Updating(Box<Update>),
    /// The device has an image and will reset.
    Updated,
}

#[derive(Debug)]
struct Update {
    upload: Upload<Arc<[u8]>>,
    file: ModuleFile,
    since: Duration,
    reported: Duration,
}

#[derive(Debug)]
struct Subscription {
    prefix: String,
    whose: Whose,
}

/// Whose events a subscription is for. All devices of this cloud have one owner.
#[derive(Debug)]
enum Whose {
    /// Public events of everybody.
    All,
    /// All events of the owner's devices.
    Mine,
    /// All events of one device, named by its hex digits.
    Device(String),
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
            describe: Describe::default(),
            phase: Phase::Start,
            subscriptions: Vec::new(),
            sealed: VecDeque::new(),
            waiting: VecDeque::new(),
            events: VecDeque::new(),
            published: VecDeque::new(),
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

    fn handle_message(&mut self, now: Duration, unix_time: u32, message: &Envelope<FromDevice<'_>>) {
        if let Phase::Updating(update) = &mut self.phase
            && update.upload.handle_message(now, message)
        {
            self.watch_update(now);
            return;
        }
        match message.body {
            // Once a connection; a repeated one means nothing.
            FromDevice::Hello(hello) if matches!(self.phase, Phase::Start) => {
                let flags = hello.flags.unwrap_or_default();
                self.events.push_back(Event::Online {
                    device: self.id,
                    platform_id: hello.platform_id,
                    update_succeeded: flags.contains(HelloFlags::OTA_SUCCEEDED),
                });
                self.phase = Phase::Ask;
            }
            FromDevice::Event(event) => self.take_event(&event),
            FromDevice::Subscribe(subscribe) => {
                let whose = match subscribe.scope {
                    Scope::MyDevices => Whose::Mine,
                    Scope::Device(id) => Whose::Device(id.to_string()),
                    Scope::DeviceText(text) => {
                        Whose::Device(String::from_utf8_lossy(text).to_ascii_lowercase())
                    }
                    _ => Whose::All,
                };
                let room = self.subscriptions.len() < MAX_SUBSCRIPTIONS;
                // Everybody's events without a prefix are not for one device to ask for.
                if room && !(matches!(whose, Whose::All) && subscribe.prefix.is_empty()) {
                    self.subscriptions.push(Subscription { prefix: subscribe.prefix.to_text(), whose });
                    self.owe(Owed::Ack { id: message.id });
                } else {
                    self.owe(Owed::Refuse { id: message.id });
                }
            }
            FromDevice::TimeRequest => {
                self.owe(Owed::Time { id: message.id, token: message.token, unix: unix_time });
            }
            // Metrics begin with 0. In the middle of an update the device's modules are known well enough.
            FromDevice::DescribePost { payload, .. }
                if matches!(self.phase, Phase::Idle | Phase::Ask | Phase::Asked { .. })
                    && payload.first() != Some(&0) =>
            {
                self.take_describe(now, payload);
            }
            FromDevice::Response(response) => {
                if let Phase::Asked { token, .. } = self.phase
                    && token == message.token
                {
                    self.take_describe(now, response.payload);
                }
            }
            _ => {}
        }
    }

    fn take_event(&mut self, event: &Publication<'_>) {
        let name = event.name.to_text();
        let is_safe_mode = name == system_event::SAFE_MODE;
        if !SYSTEM_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            self.published.push_back(Relayed {
                device: self.id,
                name: name.clone(),
                data: event.data.map(<[u8]>::to_vec),
                max_age: event.max_age,
                public: event.public,
            });
        }
        self.events.push_back(Event::Published {
            device: self.id,
            name,
            data: event.data.map(|data| String::from_utf8_lossy(data).into_owned()),
            public: event.public,
        });
        if is_safe_mode && matches!(self.phase, Phase::Idle) {
            self.phase = Phase::Ask;
        }
    }

    fn take_describe(&mut self, now: Duration, payload: &[u8]) {
        match Describe::from_json(payload) {
            Ok(mut describe) => {
                core::mem::swap(&mut self.describe, &mut describe);
                // Old firmware sends application and system part as two documents.
                self.describe.merge(describe);
            }
            Err(error) => {
                self.phase = Phase::Idle;
                let reason = error.to_string();
                self.events.push_back(Event::CannotUpdate { device: self.id, reason });
                return;
            }
        }
        if self.describe.modules.is_none() {
            return;
        }
        let describe = core::mem::take(&mut self.describe);
        self.events.push_back(Event::Described { device: self.id, describe: describe.clone() });
        self.phase = Phase::Idle;
        if self.options.update {
            self.decide(now, &describe);
        }
    }

    /// The next module for a device with these modules, if it lacks one.
    fn decide(&mut self, now: Duration, describe: &Describe) {
        let device = self.id;
        match next_update(describe, &self.catalogue, &self.attempts) {
            Next::Nothing => self.events.push_back(Event::UpToDate { device }),
            Next::Impossible(reason) => self.events.push_back(Event::CannotUpdate { device, reason }),
            Next::Send { file, why } => {
                let slow = self.options.slow.contains(file.prefix.function.letter());
                let options = Options { offer_fast: !slow, ..self.options.transfer };
                match Upload::new(Arc::clone(&file.image), options) {
                    Ok(upload) => {
                        self.owe(Owed::Publish {
                            name: system_event::SAFE_MODE_UPDATING.to_owned(),
                            data: Some(file.prefix.index.to_string().into_bytes()),
                            max_age: Some(60),
                            public: false,
                        });
                        self.events.push_back(Event::UpdateStarted {
                            device,
                            module: file.name.clone(),
                            why,
                            bytes: file.image.len(),
                        });
                        self.connection.set_updating(now, true);
                        self.phase =
                            Phase::Updating(Box::new(Update { upload, file, since: now, reported: now }));
                    }
                    Err(error) => {
                        let reason = format!("{}: {error}", file.name);
                        self.events.push_back(Event::CannotUpdate { device, reason });
                    }
                }
            }
        }
    }

    fn watch_update(&mut self, now: Duration) {
        let Phase::Updating(update) = &mut self.phase else { return };
        let progress = update.upload.progress();
        let Some(outcome) = update.upload.outcome() else {
            if now >= update.reported + PROGRESS_INTERVAL {
                update.reported = now;
                self.events.push_back(Event::UpdateProgress { device: self.id, progress });
            }
            return;
        };
        // A module that arrived and is still missing afterwards, or that the device refused, must not be sent for ever.
        // One that the network lost may.
        if matches!(outcome, Ok(_) | Err(Failure::ImageRefused)) {
            let file = update.file.clone();
            self.attempts.count(&file);
        }
        self.finish_update(now, progress, outcome.err().map(|failure| failure.to_string()));
    }

    fn finish_update(&mut self, now: Duration, progress: Progress, failure: Option<String>) {
        let after = if failure.is_none() { Phase::Updated } else { Phase::Idle };
        let Phase::Updating(update) = core::mem::replace(&mut self.phase, after) else { return };
        self.connection.set_updating(now, false);
        self.events.push_back(Event::UpdateFinished {
            device: self.id,
            module: update.file.name,
            progress,
            failure,
            took: now.saturating_sub(update.since),
        });
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
        match &mut self.phase {
            Phase::Ask => {
                let sent = self.connection.send(FromServer::Describe { flags: None }, out)?;
                self.phase = Phase::Asked { token: sent.token, deadline: now + DESCRIBE_TIMEOUT };
                Ok(Some(sent.bytes.len()))
            }
            Phase::Updating(update) => {
                let frame = update.upload.poll_send(now, &mut self.connection, out)?;
                Ok(frame.map(<[u8]>::len))
            }
            _ => Ok(None),
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
        let wanted = |subscription: &Subscription| {
            event.name.starts_with(&subscription.prefix)
                && match &subscription.whose {
                    Whose::All => event.public,
                    Whose::Mine => true,
                    Whose::Device(id) => *id == event.device.to_string(),
                }
        };
        if !matches!(self.phase, Phase::Updating(_))
            && self.subscriptions.iter().any(wanted)
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

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Session::handle_deadline`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Duration {
        let phase = match &self.phase {
            Phase::Asked { deadline, .. } => Some(*deadline),
            Phase::Updating(update) => update.upload.next_deadline(),
            _ => None,
        };
        let connection = self.connection.next_deadline();
        phase.map_or(connection, |phase| phase.min(connection))
    }

    /// Moves on if a deadline has come. Early calls are harmless.
    ///
    /// # Errors
    /// [`ConnectionError`]: close the socket.
    pub fn handle_deadline(&mut self, now: Duration) -> Result<(), ConnectionError> {
        self.connection.handle_deadline(now)?;
        match &mut self.phase {
            Phase::Asked { deadline, .. } if now >= *deadline => {
                self.phase = Phase::Idle;
                let reason = "it does not answer Describe".to_owned();
                self.events.push_back(Event::CannotUpdate { device: self.id, reason });
            }
            Phase::Updating(update) => {
                update.upload.handle_deadline(now);
                self.watch_update(now);
            }
            _ => {}
        }
        Ok(())
    }

    /// The connection is gone. An update that was under way has failed.
    pub fn handle_end(&mut self, now: Duration) {
        if let Phase::Updating(update) = &self.phase {
            let progress = update.upload.progress();
            self.finish_update(now, progress, Some("the connection ended".to_owned()));
        }
    }

    fn owe(&mut self, owed: Owed) {
        self.waiting.push_back(owed);
    }
}
