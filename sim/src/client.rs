//! The system firmware's cloud client: one connection, from the keys in flash to the reset after an update.
//!
//! Without I/O: the caller owns the socket and the clock. Drive it like the connections of `coap-spark`:
//! [`Client::handle_input`], [`Client::poll_output`] until `None`, [`Client::handle_deadline`] at
//! [`Client::next_deadline`]; after each of them look at [`Client::end`]. A client made by [`Client::start`] leaves the RSA
//! work to the caller: [`Client::take_job`] after `handle_input`, and no more input until [`Client::job_done`].

mod happening;
mod keys;
mod publication;
mod session;

pub use happening::{End, Happening, ReceivedEvent, Receiver};
pub use keys::{Job, JobDone};
pub use publication::{Publication, PublishError};

use crate::photon::Photon;
use crate::update::UpdateTarget;
use coap_spark::coap::Type;
use coap_spark::connection::DeviceConnection;
use coap_spark::handshake::device::{AwaitEncryption, AwaitNonce, AwaitOpening, AwaitSession};
use coap_spark::handshake::{Cause, Failure, Stage};
use coap_spark::message::{CloudReason, FromDevice, Hello, HelloFlags};
use core::time::Duration;
use keys::{Done, Stored};
use rand_core::CryptoRng;
use spark_ota::coap::Download;
use std::collections::VecDeque;

/// Platform id of a Photon.
pub const PLATFORM_ID: u16 = 6;
/// Happenings that wait to be polled; what comes on top is not kept.
const MAX_HAPPENINGS: usize = 256;
/// Input that came while a job was out.
const MAX_HELD: usize = 4096;

type Connection = DeviceConnection<800>;

enum State {
    AwaitNonce(AwaitNonce),
    AwaitEncryption(AwaitEncryption),
    AwaitSession(Box<AwaitSession>),
    AwaitOpening(AwaitOpening),
    Connected(Box<Connection>),
    Ended(End),
}

impl core::fmt::Debug for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::AwaitNonce(_) => "AwaitNonce",
            Self::AwaitEncryption(_) => "AwaitEncryption",
            Self::AwaitSession(_) => "AwaitSession",
            Self::AwaitOpening(_) => "AwaitOpening",
            Self::Connected(_) => "Connected",
            Self::Ended(_) => "Ended",
        })
    }
}

/// One connection of a Photon to a cloud.
pub struct Client<'p> {
    photon: &'p mut Photon,
    /// Without one, jobs are the caller's.
    rng: Option<&'p mut (dyn CryptoRng + Send)>,
    job: Option<Job>,
    keys: Option<Stored>,
    held: Vec<u8>,
    state: State,
    download: Download<512>,
    /// The application runs.
    running: bool,
    said_hello: bool,
    /// The device has said who it is.
    introduced: bool,
    /// An update runs, and that was told.
    told_update: bool,
    /// Fast chunks that came, for the planned losses.
    chunks: u64,
    output: VecDeque<Vec<u8>>,
    happenings: VecDeque<Happening>,
}

impl core::fmt::Debug for Client<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Client").field("state", &self.state).finish_non_exhaustive()
    }
}

impl<'p> Client<'p> {
    /// Begins on a fresh TCP connection, with the RSA work done on the way. A device without a key makes one first, as
    /// firmware does.
    #[must_use]
    pub fn connect(photon: &'p mut Photon, rng: &'p mut (dyn CryptoRng + Send), now: Duration) -> Self {
        photon.make_key_if_erased(rng);
        Self::begin(photon, Some(rng), now)
    }

    fn begin(photon: &'p mut Photon, rng: Option<&'p mut (dyn CryptoRng + Send)>, now: Duration) -> Self {
        let firmware = photon.firmware();
        Self {
            download: Download::new(firmware.transfer, photon.ota_region_len()),
            running: photon.application_runs(),
            keys: Some(Stored::of(photon)),
            photon,
            rng,
            job: None,
            held: Vec::new(),
            state: State::AwaitNonce(AwaitNonce::start(now)),
            said_hello: false,
            introduced: false,
            told_update: false,
            chunks: 0,
            output: VecDeque::new(),
            happenings: VecDeque::new(),
        }
    }

    /// The same, but the RSA work is the caller's: on another thread, for instance, while this one serves others. A
    /// device without a key does not get one here, see [`Photon::make_key_if_erased`].
    #[must_use]
    pub fn start(photon: &'p mut Photon, now: Duration) -> Self {
        Self::begin(photon, None, now)
    }

    /// The RSA work that is to be done before the handshake goes on.
    pub fn take_job(&mut self) -> Option<Job> {
        self.job.take()
    }

    /// Goes on with the result of a job.
    pub fn job_done(&mut self, now: Duration, done: JobDone) {
        self.state = match (core::mem::replace(&mut self.state, State::Ended(End::Closed)), done.0) {
            (State::AwaitEncryption(waiting), Done::Encrypted(result)) => {
                match waiting.resume(*result, now) {
                    Ok((waiting, identity)) => {
                        self.output.push_back(identity.to_vec());
                        State::AwaitSession(Box::new(waiting))
                    }
                    Err(failure) => State::Ended(End::Handshake(failure)),
                }
            }
            (State::AwaitOpening(waiting), Done::Opened(result)) => match waiting.resume(*result) {
                Ok(keys) => {
                    let profile = self.photon.firmware().link;
                    State::Connected(Box::new(DeviceConnection::new(&keys, profile, now)))
                }
                Err(failure) => State::Ended(End::Handshake(failure)),
            },
            (state, _) => state,
        };
        if matches!(self.state, State::Connected(_)) && !self.said_hello {
            self.said_hello = true;
            self.say_hello();
        }
        let held = core::mem::take(&mut self.held);
        self.handle_input(now, &held);
    }

    fn say_hello(&mut self) {
        let flags =
            if self.photon.update_succeeded() { HelloFlags::OTA_SUCCEEDED } else { HelloFlags::default() };
        let flags = flags.union(self.photon.firmware().hello_flags);
        let hello = Hello::new(PLATFORM_ID, self.photon.application_version(), flags, PLATFORM_ID);
        self.send(Type::NonConfirmable, FromDevice::Hello(hello));
    }

    /// Gives a job to whoever does it.
    fn give(&mut self, now: Duration, job: Job) {
        match &mut self.rng {
            Some(rng) => {
                let done = job.run(&mut **rng);
                self.job_done(now, done);
            }
            None => self.job = Some(job),
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
                State::AwaitEncryption(_) | State::AwaitOpening(_) => {
                    if self.held.len() + input.len() > MAX_HELD {
                        self.state = State::Ended(End::Protocol);
                    } else {
                        self.held.extend_from_slice(input);
                    }
                    return;
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

    /// What happened. Call until `None`.
    pub fn poll_happening(&mut self) -> Option<Happening> {
        self.happenings.pop_front()
    }

    fn tell(&mut self, happening: Happening) {
        if self.happenings.len() < MAX_HAPPENINGS {
            self.happenings.push_back(happening);
        }
    }

    /// Ends the connection because the device is switched off or its application wants so. Send what
    /// [`Client::poll_output`] still gives: firmware of 2.0.0 and later says Goodbye.
    pub fn leave(&mut self, now: Duration) {
        if self.end().is_none() {
            self.say_goodbye(now, CloudReason::User, None, End::Left);
        }
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
            State::Connected(connection) if !connection.is_up() => {
                End::Handshake(Failure { stage: Stage::ReceiveHello, cause: Cause::Closed })
            }
            State::AwaitEncryption(_) | State::AwaitOpening(_) | State::Connected(_) => End::Closed,
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
                connection.next_deadline().into_iter().chain(self.download.next_deadline()).min()
            }
            State::AwaitEncryption(_) | State::AwaitOpening(_) | State::Ended(_) => None,
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
                let mut target = UpdateTarget::new(self.photon);
                let output = &mut self.output;
                let result =
                    self.download.handle_deadline(now, &mut *connection, &mut target, &mut |frame| {
                        output.push_back(frame.to_vec());
                    });
                if target.stalled {
                    self.state = State::Ended(End::UpdateStalled);
                    return;
                }
                if let Err(error) = connection.handle_deadline(now) {
                    self.state = State::Ended(End::Connection(error));
                    return;
                }
                while let Some(waiting) = connection.poll_expired(now) {
                    self.tell(Happening::Unanswered(waiting.id));
                }
                self.state = State::Connected(connection);
                self.after_update_message(result);
                self.drain(now);
            }
            other => self.state = other,
        }
    }

    /// Step 2, once the nonce is complete.
    fn answer_nonce(&mut self, now: Duration) {
        let State::AwaitNonce(waiting) = core::mem::replace(&mut self.state, State::Ended(End::Closed))
        else {
            return;
        };
        // Published as firmware does: from fixed places of the key field, whatever is in it.
        let spki = self.photon.public_key();
        match waiting.complete(self.photon.id(), Some(&spki)) {
            Err(waiting) => self.state = State::AwaitNonce(waiting),
            Ok((waiting, job)) => {
                self.state = State::AwaitEncryption(waiting);
                if let Some(keys) = self.keys.clone() {
                    self.give(now, Job::encrypt(job, keys));
                }
            }
        }
    }

    /// Step 4, once the session message is complete.
    fn open_session(&mut self, now: Duration) {
        let State::AwaitSession(waiting) = core::mem::replace(&mut self.state, State::Ended(End::Closed))
        else {
            return;
        };
        match waiting.complete() {
            Err(waiting) => self.state = State::AwaitSession(Box::new(waiting)),
            Ok((waiting, job)) => {
                self.state = State::AwaitOpening(waiting);
                // They are not needed any more.
                if let Some(keys) = self.keys.take() {
                    self.give(now, Job::open(job, keys));
                }
            }
        }
    }
}
