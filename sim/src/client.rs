//! The system firmware's cloud client: one connection, from the keys in flash to the reset after an update.
//!
//! Without I/O: the caller owns the socket and the clock. Drive it like the connections of `coap-spark`:
//! [`Client::handle_input`], [`Client::poll_output`] until `None`, [`Client::handle_deadline`] at
//! [`Client::next_deadline`]; after each of them look at [`Client::end`].

use crate::application::Application;
use crate::photon::{Photon, UpdateTarget};
use coap_spark::coap::{Code, Type};
use coap_spark::connection::{ConnectionError, DeviceConnection, Request, SendError};
use coap_spark::handshake::device::{AwaitNonce, AwaitSession};
use coap_spark::handshake::{Cause, Failure, RsaFailure, RsaPrivate, RsaPublic};
use coap_spark::message::{
    Envelope, Event, FromDevice, FromServer, Hello, HelloFlags, Name, Response, Scope, Subscribe,
    system_event,
};
use core::time::Duration;
use rand_core::CryptoRng;
use rsa::{RsaPrivateKey, RsaPublicKey};
use spark_ota::coap::{Download, DownloadError};
use std::collections::VecDeque;

/// Platform id of a Photon.
pub const PLATFORM_ID: u16 = 6;
/// Without chunks for this long the firmware resets itself.
const UPDATE_WATCH: Duration = Duration::from_secs(30);

/// How a connection ended.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum End {
    /// An update is complete: reset the device with [`Photon::start`].
    Reset,
    /// The power failed.
    PowerLost,
    /// The update's chunks stopped coming: the firmware resets the device.
    UpdateStalled,
    /// The handshake failed.
    Handshake(Failure),
    /// The session broke.
    Connection(ConnectionError),
    /// The peer closed the connection, or the network failed.
    Closed,
    /// An update message came that this generation takes for a fault.
    Protocol,
}

impl core::fmt::Display for End {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Reset => f.write_str("the device resets to take an update"),
            Self::PowerLost => f.write_str("the power failed"),
            Self::UpdateStalled => f.write_str("no chunk for 30 s: the device resets"),
            Self::Handshake(failure) => failure.fmt(f),
            Self::Connection(error) => error.fmt(f),
            Self::Closed => f.write_str("the connection was closed"),
            Self::Protocol => f.write_str("unexpected update message"),
        }
    }
}

/// A key of the device's flash that may be none: then its operations fail, as they do in firmware.
struct FromFlash<K>(Option<K>);

impl RsaPrivate for FromFlash<RsaPrivateKey> {
    fn decrypt(
        &self,
        rng: &mut dyn CryptoRng,
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, RsaFailure> {
        let key = self.0.as_ref().ok_or(RsaFailure::Failed)?;
        RsaPrivate::decrypt(key, rng, ciphertext, out)
    }

    fn sign_bare(
        &self,
        rng: &mut dyn CryptoRng,
        digest: &[u8; 20],
        signature: &mut [u8],
    ) -> Result<(), RsaFailure> {
        self.0.as_ref().ok_or(RsaFailure::Failed)?.sign_bare(rng, digest, signature)
    }
}

impl RsaPublic for FromFlash<RsaPublicKey> {
    fn encrypt(&self, rng: &mut dyn CryptoRng, message: &[u8], out: &mut [u8]) -> Result<(), RsaFailure> {
        RsaPublic::encrypt(self.0.as_ref().ok_or(RsaFailure::Failed)?, rng, message, out)
    }

    fn verify_bare(&self, digest: &[u8; 20], signature: &[u8]) -> Result<(), RsaFailure> {
        self.0.as_ref().ok_or(RsaFailure::Failed)?.verify_bare(digest, signature)
    }
}

enum State {
    AwaitNonce(AwaitNonce),
    AwaitSession(Box<AwaitSession>),
    Connected(Box<DeviceConnection<800>>),
    Ended(End),
}

impl core::fmt::Debug for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::AwaitNonce(_) => "AwaitNonce",
            Self::AwaitSession(_) => "AwaitSession",
            Self::Connected(_) => "Connected",
            Self::Ended(_) => "Ended",
        })
    }
}

/// One connection of a Photon to a cloud.
pub struct Client<'p> {
    photon: &'p mut Photon,
    rng: &'p mut dyn CryptoRng,
    device_key: FromFlash<RsaPrivateKey>,
    server_key: FromFlash<RsaPublicKey>,
    state: State,
    download: Download<512>,
    application: Application,
    /// The application runs.
    running: bool,
    /// The last chunk, while an update runs.
    last_chunk: Option<Duration>,
    /// Fast chunks that came, for the planned losses.
    chunks: u64,
    output: VecDeque<Vec<u8>>,
    log: VecDeque<String>,
}

impl core::fmt::Debug for Client<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Client").field("state", &self.state).finish_non_exhaustive()
    }
}

impl<'p> Client<'p> {
    /// Begins on a fresh TCP connection. A device without a key makes one first, as firmware does.
    #[must_use]
    pub fn connect(photon: &'p mut Photon, rng: &'p mut dyn CryptoRng, now: Duration) -> Self {
        photon.make_key_if_erased(rng);
        let device_key = FromFlash(photon.device_key());
        let server_key = FromFlash(photon.server_key());
        let firmware = photon.firmware();
        Self {
            download: Download::new(firmware.transfer, photon.ota_region_len()),
            running: photon.application_runs(),
            photon,
            rng,
            device_key,
            server_key,
            state: State::AwaitNonce(AwaitNonce::start(now)),
            application: Application::default(),
            last_chunk: None,
            chunks: 0,
            output: VecDeque::new(),
            log: VecDeque::new(),
        }
    }

    /// Takes bytes from the server.
    pub fn handle_input(&mut self, now: Duration, mut input: &[u8]) {
        while !input.is_empty() && self.end().is_none() {
            let used = match &mut self.state {
                State::AwaitNonce(waiting) => {
                    let used = waiting.push(input);
                    self.answer_nonce(now);
                    used
                }
                State::AwaitSession(waiting) => {
                    let used = waiting.push(input);
                    self.open_session(now);
                    used
                }
                State::Connected(connection) => match connection.handle_input(now, input) {
                    Ok(used) => {
                        self.serve(now);
                        used
                    }
                    Err(error) => {
                        self.state = State::Ended(End::Connection(error));
                        return;
                    }
                },
                State::Ended(_) => return,
            };
            input = input.get(used..).unwrap_or_default();
        }
    }

    /// The next bytes to send.
    pub fn poll_output(&mut self) -> Option<Vec<u8>> {
        self.output.pop_front()
    }

    /// What happened, in words.
    pub fn poll_log(&mut self) -> Option<String> {
        self.log.pop_front()
    }

    /// How the connection ended, once it has. Send what [`Client::poll_output`] still gives, then close the socket.
    #[must_use]
    pub const fn end(&self) -> Option<&End> {
        match &self.state {
            State::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// The session is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(&self.state, State::Connected(connection) if connection.is_up())
    }

    /// The peer closed, or the network failed.
    pub fn handle_close(&mut self) {
        let end = match core::mem::replace(&mut self.state, State::Ended(End::Closed)) {
            State::AwaitNonce(waiting) => End::Handshake(waiting.fail(Cause::Closed)),
            State::AwaitSession(waiting) => End::Handshake(waiting.fail(Cause::Closed)),
            State::Ended(end) => end,
            State::Connected(_) => End::Closed,
        };
        self.download.abort();
        self.state = State::Ended(end);
    }

    /// When [`Client::handle_deadline`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        match &self.state {
            State::AwaitNonce(waiting) => Some(waiting.next_deadline()),
            State::AwaitSession(waiting) => Some(waiting.next_deadline()),
            State::Connected(connection) => {
                let watch = self.last_chunk.map(|last| last + UPDATE_WATCH);
                [connection.next_deadline(), self.download.next_deadline(), watch].into_iter().flatten().min()
            }
            State::Ended(_) => None,
        }
    }

    /// Does what the clock asks for. Early calls are harmless.
    pub fn handle_deadline(&mut self, now: Duration) {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match core::mem::replace(&mut self.state, State::Ended(End::Closed)) {
            State::AwaitNonce(waiting) => {
                self.state = State::Ended(End::Handshake(waiting.fail(Cause::TimedOut)));
            }
            State::AwaitSession(waiting) => {
                self.state = State::Ended(End::Handshake(waiting.fail(Cause::TimedOut)));
            }
            State::Connected(mut connection) => {
                if self.last_chunk.is_some_and(|last| now >= last + UPDATE_WATCH) {
                    self.state = State::Ended(End::UpdateStalled);
                    return;
                }
                if let Err(error) = connection.handle_deadline(now) {
                    self.state = State::Ended(End::Connection(error));
                    return;
                }
                let mut target = UpdateTarget::new(self.photon);
                let output = &mut self.output;
                let result = self.download.handle_deadline(now, &mut connection, &mut target, &mut |frame| {
                    output.push_back(frame.to_vec());
                });
                self.state = State::Connected(connection);
                self.after_update_message(now, result);
                self.drain(now);
            }
            ended @ State::Ended(_) => self.state = ended,
        }
    }

    /// Step 2, once the nonce is complete.
    fn answer_nonce(&mut self, now: Duration) {
        let State::AwaitNonce(waiting) = core::mem::replace(&mut self.state, State::Ended(End::Closed))
        else {
            return;
        };
        // Published as firmware does: from fixed places of the key field, whatever is in it.
        let spki = self.photon.published_key();
        self.state = match waiting.complete(self.photon.id(), Some(&spki)) {
            Err(waiting) => State::AwaitNonce(waiting),
            Ok((waiting, job)) => match waiting.resume(job.run(&self.server_key, self.rng), now) {
                Ok((waiting, identity)) => {
                    self.output.push_back(identity.to_vec());
                    State::AwaitSession(Box::new(waiting))
                }
                Err(failure) => State::Ended(End::Handshake(failure)),
            },
        };
    }

    /// Step 4, once the session message is complete.
    fn open_session(&mut self, now: Duration) {
        let State::AwaitSession(waiting) = core::mem::replace(&mut self.state, State::Ended(End::Closed))
        else {
            return;
        };
        self.state = match waiting.complete() {
            Err(waiting) => State::AwaitSession(Box::new(waiting)),
            Ok((waiting, job)) => {
                match waiting.resume(job.run(&self.device_key, &self.server_key, self.rng)) {
                    Ok(keys) => {
                        let profile = self.photon.firmware().link;
                        State::Connected(Box::new(DeviceConnection::new(&keys, profile, now)))
                    }
                    Err(failure) => State::Ended(End::Handshake(failure)),
                }
            }
        };
        if matches!(self.state, State::Connected(_)) {
            let flags = if self.photon.update_succeeded() {
                HelloFlags::OTA_SUCCEEDED
            } else {
                HelloFlags::default()
            };
            let flags = flags.union(HelloFlags(self.photon.firmware().hello_flags));
            let hello = Hello::new(PLATFORM_ID, self.photon.application_version(), flags, PLATFORM_ID);
            self.send(Type::NonConfirmable, FromDevice::Hello(hello));
        }
    }

    /// Handles the message that just came and sends what is owed.
    fn serve(&mut self, now: Duration) {
        let mut buffer = [0; 800];
        let State::Connected(connection) = &mut self.state else { return };
        if let Some(message) = connection.take_message(&mut buffer) {
            self.handle_message(now, &message);
        }
        self.drain(now);
    }

    fn drain(&mut self, now: Duration) {
        let mut out = [0; 64];
        while let State::Connected(connection) = &mut self.state
            && let Ok(Some(frame)) = connection.poll_output(now, &mut out)
        {
            self.output.push_back(frame.to_vec());
        }
    }

    fn handle_message(&mut self, now: Duration, message: &Envelope<FromServer<'_>>) {
        if let FromServer::Chunk(chunk) = message.body {
            self.last_chunk = Some(now);
            if let Some(index) = chunk.index {
                self.chunks += 1;
                if self.photon.loses_chunk(self.chunks) {
                    self.log.push_back(format!("lost chunk {index} on purpose"));
                    return;
                }
            }
        }
        let State::Connected(connection) = &mut self.state else { return };
        let mut target = UpdateTarget::new(self.photon);
        let output = &mut self.output;
        let result = self.download.handle_message(now, message, connection, &mut target, &mut |frame| {
            output.push_back(frame.to_vec());
        });
        match result {
            Ok(false) => self.handle_request(message),
            result => self.after_update_message(now, result.map(|_| ())),
        }
    }

    /// What an update message changed: it may have ended the connection, or the power.
    fn after_update_message(&mut self, now: Duration, result: Result<(), DownloadError>) {
        let updating = self.download.is_updating();
        self.last_chunk = updating.then(|| self.last_chunk.unwrap_or(now));
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
        }
    }

    fn handle_request(&mut self, message: &Envelope<FromServer<'_>>) {
        match message.body {
            FromServer::Hello => self.introduce(),
            FromServer::Event(event) => self.log.push_back(format!("event {}", event.name)),
            _ => {}
        }
        let Some(request) = Request::of(message) else { return };
        let changed = |payload: &[u8]| (Code::CHANGED, payload.to_vec());
        let (code, payload) = match message.body {
            FromServer::Describe { .. } => {
                let functions = if self.running { Application::FUNCTIONS } else { &[] };
                (Code::CONTENT, self.photon.describe(functions).to_json().into_bytes())
            }
            FromServer::FunctionCall { name, argument } if self.running => {
                let result = self.application.call(name, argument);
                self.log.push_back(format!(
                    "function {}({}) = {result}",
                    name.escape_ascii(),
                    argument.escape_ascii()
                ));
                changed(&result.to_be_bytes())
            }
            FromServer::FunctionCall { .. } | FromServer::VariableRequest { .. } => {
                (Code::NOT_FOUND, Vec::new())
            }
            _ => changed(&[]),
        };
        let mut out = [0; 2048];
        let State::Connected(connection) = &mut self.state else { return };
        match connection.reply(request, Response { code, payload: &payload }, &mut out) {
            Ok(frames) => self.output.push_back(frames.to_vec()),
            Err(error) => self.fail_send(error),
        }
    }

    /// What a device says after the server's Hello.
    fn introduce(&mut self) {
        self.log.push_back("connected".to_owned());
        let max_binary = self.photon.ota_region_len().to_string();
        let mut events =
            vec![(system_event::MAX_BINARY, max_binary.as_str()), (system_event::OTA_CHUNK_SIZE, "512")];
        if !self.running {
            events.push((system_event::SAFE_MODE, ""));
        }
        for (name, data) in events {
            let data = Some(data.as_bytes());
            let event = Event { name: Name::new(name), public: false, max_age: None, data };
            self.send(Type::NonConfirmable, FromDevice::Event(event));
        }
        let prefix = Name::new(system_event::PREFIX);
        let subscribe = Subscribe { prefix, scope: Scope::MyDevices };
        self.send(Type::Confirmable, FromDevice::Subscribe(subscribe));
        self.send(Type::Confirmable, FromDevice::TimeRequest);
    }

    /// Publishes an event of the application; `false` while it does not run or the connection is not up.
    pub fn publish(&mut self, name: &str, data: &str) -> bool {
        if !self.running || !self.is_up() {
            return false;
        }
        let event =
            Event { name: Name::new(name), public: false, max_age: None, data: Some(data.as_bytes()) };
        self.send(Type::NonConfirmable, FromDevice::Event(event));
        true
    }

    fn send(&mut self, kind: Type, body: FromDevice<'_>) {
        let mut out = [0; 1024];
        let State::Connected(connection) = &mut self.state else { return };
        match connection.send(kind, body, &mut out) {
            Ok(sent) => self.output.push_back(sent.bytes.to_vec()),
            Err(error) => self.fail_send(error),
        }
    }

    /// The buffers fit every message of this client except a Describe that outgrew the frame.
    fn fail_send(&mut self, error: SendError) {
        self.log.push_back(format!("cannot answer: {error}"));
        self.state = State::Ended(End::Closed);
    }
}
