//! The device's end.

use super::link::{ConnectionError, Counters, FrameLimits, Link, Owed, SendError, Sent};
use super::profile::{Profile, ReplyStyle};
use super::rate::EventRate;
use super::request::{DeviceRequestKind, Received, Request, RequestKind, answer_code_from_server};
use super::server::{at_most, check_event};
use super::waiting::{Answers, Table, Waiting};
use crate::coap::{Code, Token, Type};
use crate::handshake::{Cause, Failure, Stage};
use crate::message::{Envelope, Event, FromDevice, FromServer, Response, Subscribe};
use crate::session::{SealError, SessionKeys, sealed_len};
use core::time::Duration;

/// Firmware gives an acknowledgement this long (`SEND_EVENT_ACK_TIMEOUT`).
const ACK_TIMEOUT: Duration = Duration::from_secs(20);

/// The frame of an acknowledgement without a token.
const EMPTY_ACK: usize = sealed_len(4);

#[derive(Clone, Copy, Debug)]
enum Reply {
    Ack(u16),
    /// 4.00 in the acknowledgement: the function's argument is too long.
    Refusal(u16),
}

/// The connection to the server, seen from the device. `N` bounds the ciphertext of a frame from the server, `P` the
/// messages that wait for an acknowledgement or answer.
#[derive(Debug)]
pub struct DeviceConnection<const N: usize = 800, const P: usize = 8> {
    link: Link<N>,
    profile: Profile,
    is_up: bool,
    /// When the connection began or the last ping was sent.
    since: Duration,
    ping_sent: bool,
    updating: bool,
    owed: Owed<Reply>,
    ping_owed: bool,
    waiting: Table<DeviceRequestKind, P>,
    /// What the message in the buffer answers.
    answers: Option<Answers<DeviceRequestKind>>,
    rate: EventRate,
}

impl<const N: usize, const P: usize> DeviceConnection<N, P> {
    /// Begins after step 3 of the handshake. Send Hello first.
    #[must_use]
    pub fn new(keys: &SessionKeys, profile: Profile, now: Duration) -> Self {
        let salt = keys.salt();
        let last = Counters { id: profile.id_base(salt), token: profile.token_base(salt) };
        let limits = FrameLimits { sent: profile.max_frame, received: profile.max_received };
        Self {
            link: Link::new(keys, limits, last, now),
            profile,
            is_up: false,
            since: now,
            ping_sent: false,
            updating: false,
            owed: Owed::new(),
            ping_owed: false,
            waiting: Table::new(),
            answers: None,
            rate: EventRate::default(),
        }
    }

    /// The server's Hello came.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.is_up
    }

    /// Suspends pings and the silence limit during a firmware update, as devices do.
    pub const fn set_updating(&mut self, updating: bool) {
        self.updating = updating;
    }

    /// Takes bytes up to the end of one frame and says how many. Takes none while four replies are owed or a
    /// message was not polled.
    ///
    /// # Errors
    /// [`ConnectionError`]; the connection is over.
    pub fn handle_input(&mut self, now: Duration, input: &[u8]) -> Result<usize, ConnectionError> {
        if self.owed.is_full() {
            return Ok(0);
        }
        let is_up = self.is_up;
        let (used, complete) = self.link.take(now, input).map_err(|error| {
            if is_up {
                ConnectionError::Frame(error)
            } else {
                Failure::new(Stage::ReceiveHello, Cause::Frame).into()
            }
        })?;
        if !complete {
            return Ok(used);
        }
        self.answers = None;
        self.ping_sent = false;
        let bytes = self.link.message().unwrap_or_default();
        let message = Envelope::<FromServer<'_>>::decode_or_unknown(bytes).map_err(|error| {
            if is_up {
                ConnectionError::Malformed(error)
            } else {
                Failure::new(Stage::ReceiveHello, Cause::Frame).into()
            }
        })?;
        let limits = &self.profile.limits;
        match message.body {
            FromServer::Hello => {
                self.is_up = true;
                if message.kind == Type::Confirmable {
                    self.owed.push(Reply::Ack(message.id));
                }
            }
            FromServer::Ping => {
                self.owed.push(Reply::Ack(message.id));
                self.link.swallow();
            }
            FromServer::SocketPing => self.link.swallow(),
            FromServer::FunctionCall { name, argument }
                if name.len() > usize::from(limits.function_name)
                    || argument.len() > usize::from(limits.function_argument) =>
            {
                self.owed.push(Reply::Refusal(message.id));
                self.link.swallow();
            }
            _ => {
                if let Some(code) = answer_code_from_server(&message.body) {
                    let found = self.waiting.resolve(message.kind, code, message.id, message.token, false);
                    self.answers = found.map(|found| found.answers);
                }
            }
        }
        Ok(used)
    }

    /// A message can be polled.
    #[must_use]
    pub const fn has_message(&self) -> bool {
        self.link.has_message()
    }

    /// The message that [`DeviceConnection::handle_input`] completed, once. Pings are answered, and calls whose argument
    /// is too long refused, without being shown.
    pub fn poll_message(&mut self) -> Option<Received<FromServer<'_>, DeviceRequestKind>> {
        let answers = self.answers;
        // It decoded before.
        let envelope = Envelope::<FromServer<'_>>::decode_or_unknown(self.link.poll()?).ok()?;
        Some(Received { envelope, answers })
    }

    /// The same in the caller's buffer, so that the connection is free to send while the message is looked at.
    pub fn take_message<'b>(
        &mut self,
        buffer: &'b mut [u8; N],
    ) -> Option<Received<FromServer<'b>, DeviceRequestKind>> {
        let bytes = self.link.poll()?;
        let copy = buffer.get_mut(..bytes.len())?;
        copy.copy_from_slice(bytes);
        let envelope = Envelope::<FromServer<'_>>::decode_or_unknown(copy).ok()?;
        Some(Received { envelope, answers: self.answers })
    }

    /// The next owed acknowledgement or ping, sealed into `out` (32 bytes are enough). Call until `None`.
    ///
    /// # Errors
    /// [`SendError`] for a short buffer; the message is still owed.
    pub fn poll_output<'o>(
        &mut self,
        now: Duration,
        out: &'o mut [u8],
    ) -> Result<Option<&'o [u8]>, SendError> {
        if let Some(reply) = self.owed.first() {
            let bytes = match reply {
                Reply::Ack(id) => self.acknowledge(id, out)?,
                Reply::Refusal(id) => {
                    let response = Response { code: Code::BAD_REQUEST, payload: &[] };
                    self.piggyback(id, Token::EMPTY, response, out)?
                }
            };
            self.owed.pop();
            return Ok(Some(bytes));
        }
        if !self.ping_owed {
            return Ok(None);
        }
        let sent = self.send(Type::Confirmable, FromDevice::Ping, out)?;
        self.ping_owed = false;
        self.ping_sent = true;
        self.since = now;
        Ok(Some(sent.bytes))
    }

    /// Publishes an event within the limits of this firmware generation, as [`Profile`] has them. `acknowledged` asks the server to acknowledge it
    /// and waits 20 s for that; generations that cannot send it without.
    ///
    /// # Errors
    /// [`SendError`]: too long, too many, or an update is running. Nothing was counted.
    pub fn publish<'o>(
        &mut self,
        now: Duration,
        event: Event<'_>,
        acknowledged: bool,
        out: &'o mut [u8],
    ) -> Result<Sent<'o>, SendError> {
        check_event(&self.profile.limits, &event)?;
        let is_system = event.name.is_system(self.profile.system_names);
        if self.updating {
            return Err(SendError::Busy { reason: "a firmware update is running" });
        }
        let due = self.rate.due(now, is_system);
        if due > now {
            return Err(SendError::TooManyEvents { due });
        }
        let body = FromDevice::Event(event);
        let sent = if acknowledged && self.profile.confirmable_events {
            self.request(now, body, out)
        } else {
            self.send(Type::NonConfirmable, body, out)
        }?;
        self.rate.count(now, is_system);
        Ok(sent)
    }

    /// Subscribes to events; the server acknowledges or refuses it.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn subscribe<'o>(
        &mut self,
        now: Duration,
        subscribe: Subscribe<'_>,
        out: &'o mut [u8],
    ) -> Result<Sent<'o>, SendError> {
        if subscribe.is_unnamed_firehose() {
            return Err(SendError::UnnamedFirehose);
        }
        at_most("subscription", self.profile.limits.subscription, subscribe.prefix.len())?;
        self.request(now, FromDevice::Subscribe(subscribe), out)
    }

    /// Asks for the time, one question at a time.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn ask_time<'o>(&mut self, now: Duration, out: &'o mut [u8]) -> Result<Sent<'o>, SendError> {
        if self.waiting.iter().any(|waiting| waiting.kind == DeviceRequestKind::Time) {
            return Err(SendError::Busy { reason: "the time was asked for already" });
        }
        self.request(now, FromDevice::TimeRequest, out)
    }

    /// Sends a confirmable message and waits 20 s for its acknowledgement or answer: it is told with the message in
    /// [`Received::answers`], or by [`DeviceConnection::poll_expired`].
    ///
    /// # Errors
    /// [`SendError`]; nothing was counted.
    pub fn request<'o>(
        &mut self,
        now: Duration,
        body: FromDevice<'_>,
        out: &'o mut [u8],
    ) -> Result<Sent<'o>, SendError> {
        let kind = DeviceRequestKind::of(&body).ok_or(SendError::NoRequest)?;
        self.waiting.room()?;
        let sent = self.send(Type::Confirmable, body, out)?;
        let (id, token, deadline) = (sent.id, sent.token.as_byte(), now.saturating_add(ACK_TIMEOUT));
        self.waiting.insert(Waiting::new(id, token, kind, deadline));
        Ok(sent)
    }

    /// A message that was not acknowledged in time. Call until `None` after [`DeviceConnection::handle_deadline`].
    pub fn poll_expired(&mut self, now: Duration) -> Option<Waiting<DeviceRequestKind>> {
        self.waiting.expire(now)
    }

    /// Sends a message with the next id. A time request gets the next token. Nothing is waited for.
    ///
    /// # Errors
    /// [`SendError`]; nothing was counted.
    pub fn send<'o>(
        &mut self,
        kind: Type,
        body: FromDevice<'_>,
        out: &'o mut [u8],
    ) -> Result<Sent<'o>, SendError> {
        let is_request = matches!(body, FromDevice::TimeRequest);
        let token = if is_request { Token::byte(self.link.last_token.wrapping_add(1)) } else { Token::EMPTY };
        let sent = self.seal_next(kind, token, body, out)?;
        if let Some(token) = token.as_byte() {
            self.link.last_token = token;
        }
        Ok(sent)
    }

    /// Acknowledges message `id` with nothing more.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn acknowledge<'o>(&mut self, id: u16, out: &'o mut [u8]) -> Result<&'o [u8], SendError> {
        let (kind, token, body) = (Type::Acknowledgement, Token::EMPTY, FromDevice::Ack);
        self.seal(Envelope { kind, id, token, body }, out)
    }

    /// Answers message `id` in the acknowledgement.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn piggyback<'o>(
        &mut self,
        id: u16,
        token: Token,
        response: Response<'_>,
        out: &'o mut [u8],
    ) -> Result<&'o [u8], SendError> {
        let (kind, body) = (Type::Acknowledgement, FromDevice::Response(response));
        self.seal(Envelope { kind, id, token, body }, out)
    }

    /// Sends a response of its own, with a new id and the request's token.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn respond<'o>(
        &mut self,
        kind: Type,
        token: Token,
        response: Response<'_>,
        out: &'o mut [u8],
    ) -> Result<Sent<'o>, SendError> {
        self.seal_next(kind, token, FromDevice::Response(response), out)
    }

    /// Answers a request the way this firmware generation does: one frame or two, both in `out`.
    ///
    /// # Errors
    /// [`SendError`]; nothing was counted.
    pub fn reply<'o>(
        &mut self,
        request: Request,
        response: Response<'_>,
        out: &'o mut [u8],
    ) -> Result<&'o [u8], SendError> {
        let style = match request.kind {
            RequestKind::Describe => self.profile.describe,
            RequestKind::Variable => self.profile.variable,
            RequestKind::Function => ReplyStyle::SeparateNonConfirmable,
            RequestKind::KeyChange if self.profile.answers_key_change => {
                return self.acknowledge(request.id, out);
            }
            RequestKind::KeyChange => return Ok(&[]),
            _ => ReplyStyle::Piggybacked,
        };
        let kind = match style {
            ReplyStyle::Piggybacked => {
                return self.piggyback(request.id, request.token, response, out);
            }
            ReplyStyle::SeparateConfirmable => Type::Confirmable,
            ReplyStyle::SeparateNonConfirmable => Type::NonConfirmable,
        };
        // The second frame is encoded first: if it does not fit, nothing was sealed.
        let (body, id) = (FromDevice::Response(response), self.link.last_id.wrapping_add(1));
        let answer = Envelope { kind, id, token: request.token, body };
        let available = out.len();
        let (first, second) = out
            .split_at_mut_checked(EMPTY_ACK)
            .ok_or(SealError::BufferTooSmall { needed: 2 * EMPTY_ACK, available })?;
        let len = self.link.encode(|body| answer.encode_into(body).map(<[u8]>::len), second)?;
        self.acknowledge(request.id, first)?;
        let second = self.link.seal_encoded(second, len)?.len();
        self.link.last_id = id;
        Ok(out.get(..EMPTY_ACK + second).unwrap_or_default())
    }

    fn seal_next<'o>(
        &mut self,
        kind: Type,
        token: Token,
        body: FromDevice<'_>,
        out: &'o mut [u8],
    ) -> Result<Sent<'o>, SendError> {
        let id = self.link.last_id.wrapping_add(1);
        let bytes = self.seal(Envelope { kind, id, token, body }, out)?;
        self.link.last_id = id;
        Ok(Sent { id, token, bytes })
    }

    fn seal<'o>(
        &mut self,
        envelope: Envelope<FromDevice<'_>>,
        out: &'o mut [u8],
    ) -> Result<&'o [u8], SendError> {
        self.link.seal(|body| envelope.encode_into(body).map(<[u8]>::len), out)
    }

    /// When [`DeviceConnection::handle_deadline`] has something to do; `None` during an update while nothing waits.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        [self.silence_deadline(), self.waiting.next_deadline()].into_iter().flatten().min()
    }

    fn silence_deadline(&self) -> Option<Duration> {
        if !self.is_up {
            return Some(self.since.saturating_add(self.profile.hello_timeout));
        }
        if self.updating {
            return None;
        }
        Some(if self.ping_sent {
            self.since.saturating_add(self.profile.ping_timeout)
        } else {
            self.link.silent_for(self.profile.ping_interval)
        })
    }

    /// Owes a ping or ends the connection if the time has come, and finds the messages that
    /// [`DeviceConnection::poll_expired`] tells of. Early calls are harmless.
    ///
    /// # Errors
    /// [`ConnectionError::Silent`] if a ping was not answered; the handshake failure if no Hello came.
    pub fn handle_deadline(&mut self, now: Duration) -> Result<(), ConnectionError> {
        self.waiting.look_at_clock(now);
        if self.silence_deadline().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        if !self.is_up {
            return Err(Failure::new(Stage::ReceiveHello, Cause::TimedOut).into());
        }
        if self.ping_sent {
            return Err(ConnectionError::Silent { silence: self.link.silence(now) });
        }
        self.ping_owed = true;
        Ok(())
    }
}
