//! Messages of a session: requests, events, what the device says by itself.

use super::{Client, End, Happening, ReceivedEvent, Receiver, State};
use crate::application::{Sender, cut};
use crate::firmware::{Saying, UnknownVariable};
use crate::photon::StartMode;
use crate::update::UpdateTarget;
use coap_spark::coap::{Code, Type};
use coap_spark::connection::{Answers, DeviceRequestKind, Received, Request, SendError};
use coap_spark::message::system_event::{LastReset, ResetRequest};
use coap_spark::message::{
    CloudReason, Envelope, Event, FromDevice, FromServer, Goodbye, Name, ResetReason, Response, Scope,
    Subscribe, SystemEvent,
};
use core::time::Duration;
use spark_ota::coap::DownloadError;

/// Where the device would like chunks of this size.
const CHUNK_SIZE: u32 = 512;

impl Client<'_> {
    /// Handles the message that just came and sends what is owed.
    pub(super) fn serve(&mut self, now: Duration) {
        let mut buffer = [0; 800];
        let State::Connected(connection) = &mut self.state else { return };
        if let Some(message) = connection.take_message(&mut buffer) {
            self.handle_message(now, &message);
        }
        self.drain(now);
    }

    pub(super) fn drain(&mut self, now: Duration) {
        let mut out = [0; 64];
        while let State::Connected(connection) = &mut self.state
            && let Ok(Some(frame)) = connection.poll_output(now, &mut out)
        {
            self.output.push_back(frame.to_vec());
        }
    }

    fn handle_message(&mut self, now: Duration, message: &Received<FromServer<'_>, DeviceRequestKind>) {
        if let FromServer::Chunk(chunk) = message.body
            && let Some(index) = chunk.index
        {
            self.chunks += 1;
            if self.photon.loses_chunk(self.chunks) {
                self.tell(Happening::ChunkLost(index));
                return;
            }
        }
        if let Some(answers) = message.answers {
            self.handle_answer(answers, &message.body);
        }
        let State::Connected(connection) = &mut self.state else { return };
        let mut target = UpdateTarget::new(self.photon);
        let output = &mut self.output;
        let result =
            self.download.handle_message(now, message, &mut **connection, &mut target, &mut |frame| {
                output.push_back(frame.to_vec());
            });
        match result {
            Ok(false) => self.handle_request(now, message),
            result => self.after_update_message(result.map(|_| ())),
        }
    }

    /// What an update message changed: it may have ended the connection, or the power.
    pub(super) fn after_update_message(&mut self, result: Result<(), DownloadError>) {
        let updating = self.download.is_updating();
        if !self.photon.flash().is_powered() {
            self.output.clear();
            self.state = State::Ended(End::PowerLost);
        } else if self.photon.wants_reset() {
            self.state = State::Ended(End::Reset);
        } else if let Err(error) = result {
            self.state = State::Ended(match error {
                DownloadError::CloseSession => End::Protocol,
                _ => End::Closed,
            });
        } else if updating && !self.told_update {
            self.told_update = true;
            self.tell(Happening::UpdateBegan);
        } else if self.told_update && !updating {
            self.told_update = false;
            self.tell(Happening::UpdateEnded);
        }
    }

    fn handle_answer(&mut self, answers: Answers<DeviceRequestKind>, body: &FromServer<'_>) {
        match (answers.kind, body) {
            (DeviceRequestKind::Time, FromServer::Response(Response { payload, .. })) => {
                if let Ok(seconds) = <[u8; 4]>::try_from(*payload) {
                    self.tell(Happening::Time(u32::from_be_bytes(seconds)));
                }
            }
            (_, FromServer::Reset) => self.tell(Happening::Refused(answers.id)),
            (_, FromServer::Response(response)) if response.code.is_error() => {
                self.tell(Happening::Refused(answers.id));
            }
            (DeviceRequestKind::Event, _) => self.tell(Happening::Acknowledged(answers.id)),
            _ => {}
        }
    }

    fn handle_request(&mut self, now: Duration, message: &Envelope<FromServer<'_>>) {
        match message.body {
            FromServer::Hello if !self.introduced => {
                self.introduced = true;
                self.tell(Happening::Connected);
                self.introduce(now);
            }
            FromServer::Event(event) => self.handle_event(now, &event),
            _ => {}
        }
        let Some(request) = Request::of(message) else { return };
        let limits = self.photon.firmware().link.limits;
        match message.body {
            FromServer::Describe { .. } => {
                self.tell(Happening::Described);
                self.describe(request);
            }
            FromServer::FunctionCall { name, argument } => {
                let limit = limits.function_name;
                let application = self.photon.application_mut();
                let result = self.running.then(|| application.call_cut(name, argument, limit));
                let (name, argument) = (name.to_vec(), argument.to_vec());
                self.tell(Happening::FunctionCalled { name, argument, result });
                match result {
                    Some(result) => self.reply(request, Response::changed(&result.to_be_bytes())),
                    None => self.reply(request, Response { code: Code::NOT_FOUND, payload: &[] }),
                }
            }
            FromServer::VariableRequest { name } => self.answer_variable(request, name),
            FromServer::Signal { on } => {
                self.tell(Happening::Signal { on });
                self.reply(request, Response::changed(&[]));
            }
            FromServer::KeyChange { .. } => {
                self.tell(Happening::KeyChange);
                self.reply(request, Response::changed(&[]));
            }
            _ => self.reply(request, Response::changed(&[])),
        }
    }

    fn describe(&mut self, request: Request) {
        let firmware = self.photon.firmware();
        let document = self.photon.describe().to_json();
        self.reply(request, Response::content(document.as_bytes()));
        if firmware.describes_twice {
            // The id of the second answer is read from where the first one has been encrypted.
            let last = self.output.back().and_then(|frame| frame.last_chunk::<2>());
            let id = last.map_or(0, |bytes| u16::from_be_bytes(*bytes));
            let document = self.photon.describe_application().to_json();
            self.piggyback(id, request, Response::content(document.as_bytes()));
        }
    }

    fn answer_variable(&mut self, request: Request, name: &[u8]) {
        let firmware = self.photon.firmware();
        let limit = firmware.link.limits.variable_name;
        let content = self.photon.application().variable(name, limit).filter(|_| self.running);
        let mut out = [0; 800];
        // A string is cut to what fits.
        let value = content.and_then(|content| content.value().encode_into(&mut out).ok());
        let value = value.map(<[u8]>::to_vec);
        self.tell(Happening::VariableRead { name: name.to_vec(), found: value.is_some() });
        match (value, firmware.unknown_variable) {
            (Some(value), _) => self.reply(request, Response::content(&value)),
            (None, UnknownVariable::Int) => {
                let word = self.photon.first_word().to_be_bytes();
                self.reply(request, Response::content(&word));
            }
            (None, UnknownVariable::NotFound) => {
                self.piggyback(request.id, request, Response { code: Code::NOT_FOUND, payload: &[] });
            }
        }
    }

    fn handle_event(&mut self, now: Duration, event: &Event<'_>) {
        let system = self.photon.firmware().system_subscriptions;
        let wants = |prefix: &str| event.name.starts_with(prefix);
        let program = self.photon.application().program();
        let receiver = match program.subscriptions().iter().position(|own| wants(&own.prefix)) {
            _ if system.iter().any(|prefix| wants(prefix)) => Receiver::System,
            Some(number) if self.running => Receiver::Application(number),
            _ => Receiver::Nobody,
        };
        self.tell(Happening::Event(ReceivedEvent {
            name: event.name.to_text(),
            data: event.data.map(<[u8]>::to_vec),
            public: event.public,
            ttl: event.ttl(),
            receiver,
        }));
        if receiver == Receiver::System {
            self.handle_system_event(now, &SystemEvent::of(event));
        }
    }

    fn handle_system_event(&mut self, now: Duration, event: &SystemEvent<'_>) {
        if event.clears_claim_code() && self.photon.settle_claim() {
            self.tell(Happening::ClaimSettled);
        }
        let SystemEvent::Reset(request) = event else { return };
        let (mode, reason, end) = match request {
            ResetRequest::Reboot => (StartMode::Normal, ResetReason::User, End::Reboot),
            ResetRequest::SafeMode => (StartMode::SafeMode, ResetReason::SafeMode, End::EnterSafeMode),
            ResetRequest::Dfu => (StartMode::Dfu, ResetReason::DfuMode, End::EnterDfuMode),
            ResetRequest::Network if self.photon.firmware().restarts_network => {
                return self.say_goodbye(now, CloudReason::NetworkDisconnect, None, End::NetworkReset);
            }
            _ => return,
        };
        self.photon.plan_start(mode, reason);
        self.say_goodbye(now, CloudReason::SystemReset, Some(reason), end);
    }

    /// Ends the connection in an orderly way; firmware that can says why.
    pub(super) fn say_goodbye(
        &mut self,
        now: Duration,
        cloud: CloudReason,
        reset_reason: Option<ResetReason>,
        end: End,
    ) {
        self.drain(now);
        if self.is_up() && self.photon.firmware().says_goodbye {
            let goodbye = Goodbye { cloud_reason: Some(cloud), reset_reason, ..Goodbye::default() };
            self.send(Type::NonConfirmable, FromDevice::Goodbye { no_response: true, goodbye });
        }
        self.download.abort();
        self.state = State::Ended(end);
    }

    /// What a device says after the server's Hello, in the order of its firmware.
    fn introduce(&mut self, now: Duration) {
        for saying in self.photon.firmware().introduction {
            let claim_code;
            let event = match saying {
                Saying::ClaimCode => {
                    let Some(code) = self.photon.claim_code() else { continue };
                    claim_code = code;
                    SystemEvent::ClaimCode(&claim_code)
                }
                Saying::MaxBinary => SystemEvent::MaxBinary(self.photon.ota_region_len()),
                Saying::OtaChunkSize => SystemEvent::OtaChunkSize(CHUNK_SIZE),
                Saying::SafeMode if self.running => continue,
                Saying::SafeMode => SystemEvent::SafeMode(&[]),
                Saying::LastReset => {
                    let Some(reason) = self.photon.take_reset_reason() else { continue };
                    SystemEvent::LastReset(LastReset { reason, detail: None })
                }
                Saying::UpdatesEnabled => SystemEvent::UpdatesEnabled(true),
                Saying::UpdatesForced => SystemEvent::UpdatesForced(false),
                Saying::Time => {
                    self.with_connection(|connection, out| {
                        connection.ask_time(now, out).map(|sent| sent.bytes.len())
                    });
                    continue;
                }
                Saying::Subscriptions => {
                    self.subscribe(now);
                    continue;
                }
            };
            let mut data = [0; SystemEvent::DATA_LEN];
            if let Ok(event) = event.to_event(&mut data) {
                self.send(Type::NonConfirmable, FromDevice::Event(event));
            }
        }
    }

    fn subscribe(&mut self, now: Duration) {
        for prefix in self.photon.firmware().system_subscriptions {
            let subscribe = Subscribe { prefix: Name::new(prefix), scope: Scope::MyDevices };
            self.send(Type::Confirmable, FromDevice::Subscribe(subscribe));
        }
        if !self.running {
            return;
        }
        let limit = self.photon.firmware().link.limits.subscription;
        let program = std::sync::Arc::clone(self.photon.application().program());
        for subscription in program.subscriptions() {
            let prefix = core::str::from_utf8(cut(&subscription.prefix, limit)).unwrap_or_default();
            let scope = Sender::scope(subscription.sender);
            let subscribe = Subscribe { prefix: Name::new(prefix), scope };
            self.with_connection(|connection, out| {
                connection.subscribe(now, subscribe, out).map(|sent| sent.bytes.len())
            });
        }
    }

    fn reply(&mut self, request: Request, response: Response<'_>) {
        self.with_connection(|connection, out| connection.reply(request, response, out).map(<[u8]>::len));
    }

    fn piggyback(&mut self, id: u16, request: Request, response: Response<'_>) {
        self.with_connection(|connection, out| {
            connection.piggyback(id, request.token, response, out).map(<[u8]>::len)
        });
    }

    pub(super) fn send(&mut self, kind: Type, body: FromDevice<'_>) {
        self.with_connection(|connection, out| connection.send(kind, body, out).map(|sent| sent.bytes.len()));
    }

    /// Seals something. The buffers fit every message of this client except a Describe that outgrew the frame.
    fn with_connection(
        &mut self,
        seal: impl FnOnce(&mut super::Connection, &mut [u8]) -> Result<usize, SendError>,
    ) {
        let mut out = [0; 2048];
        let State::Connected(connection) = &mut self.state else { return };
        match seal(connection, &mut out) {
            Ok(0) => {}
            Ok(len) => self.output.push_back(out[..len].to_vec()),
            Err(error) => {
                self.tell(Happening::CannotAnswer(error));
                self.state = State::Ended(End::Closed);
            }
        }
    }
}
