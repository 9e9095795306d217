//! The server's end.

use super::ids::ReceiveIds;
use super::limits::Limits;
use super::link::{ConnectionError, Counters, FrameLimits, Link, Owed, SendError, Sent, is_counted};
use super::policy::{EventAcks, EventLimit, ServerPolicy};
use super::request::{Received, RequestKind, answer_code_from_device};
use super::waiting::{Answers, Table, Waiting};
use crate::coap::{Code, Token, Type};
use crate::handshake::{Cause, Failure, Stage};
use crate::message::system_event::SystemNames;
use crate::message::{EncodeError, Envelope, Event, FromDevice, FromServer, Response};
use crate::session::{SessionKeys, Unsealed, sealed_len};
use core::time::Duration;

/// Most messages that are sealed side by side.
pub const MAX_BATCH: usize = 8;

#[derive(Clone, Copy, Debug)]
pub(super) enum Reply {
    Hello,
    Ack(u16),
    /// 4.00 without a token, as devices expect it.
    Refusal(u16),
}

/// A connected device, seen from the server. `N` bounds the ciphertext of a frame from the device, `P` the requests that
/// wait for an answer.
#[derive(Debug)]
pub struct ServerConnection<const N: usize = 1024, const P: usize = 8> {
    pub(super) link: Link<N>,
    /// `None` until the device's Hello came.
    pub(super) ids: Option<ReceiveIds>,
    pub(super) owed: Owed<Reply>,
    pub(super) waiting: Table<RequestKind, P>,
    /// What the message in the buffer answers.
    answers: Option<Answers<RequestKind>>,
    policy: ServerPolicy,
    pub(super) limits: Option<Limits>,
    pub(super) updating: bool,
    pub(super) events: Events,
}

/// Events counted against the limit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Events {
    pub(super) since: Duration,
    pub(super) count: u16,
    pub(super) dropped: u64,
}

impl<const N: usize, const P: usize> ServerConnection<N, P> {
    /// Begins after step 3 of the handshake. `first_id` should be random; it becomes the id of the server's Hello.
    #[must_use]
    pub fn new(keys: &SessionKeys, policy: ServerPolicy, first_id: u16, now: Duration) -> Self {
        let last = Counters { id: first_id.wrapping_sub(1), token: 0 };
        Self::with_link(Link::new(keys, Self::frame_limits(&policy), last, now), policy, None)
    }

    pub(super) const fn frame_limits(policy: &ServerPolicy) -> FrameLimits {
        FrameLimits { sent: policy.max_frame, received: N }
    }

    pub(super) fn with_link(link: Link<N>, policy: ServerPolicy, ids: Option<ReceiveIds>) -> Self {
        let (owed, waiting) = (Owed::new(), Table::new());
        let (answers, limits, events) = (None, None, Events::default());
        Self { link, ids, owed, waiting, answers, policy, limits, updating: false, events }
    }

    /// The device's Hello came; everything else may follow.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.ids.is_some()
    }

    /// Tells that a firmware update begins or ends: meanwhile a longer silence is fine. Afterwards it counts anew.
    pub const fn set_updating(&mut self, now: Duration, updating: bool) {
        if self.updating && !updating {
            self.link.hear(now);
        }
        self.updating = updating;
    }

    /// What the device takes: learned from its Hello if the policy says so. `None` means that nothing is checked.
    #[must_use]
    pub const fn limits(&self) -> Option<&Limits> {
        self.limits.as_ref()
    }

    /// Sets what the device takes.
    pub fn set_limits(&mut self, limits: Option<Limits>) {
        self.limits = limits;
        let device = limits.map_or(usize::MAX, |limits| usize::from(limits.frame));
        self.link.max_frame = self.policy.max_frame.min(device);
    }

    /// Events that were not shown because the device sent too many.
    #[must_use]
    pub const fn dropped_events(&self) -> u64 {
        self.events.dropped
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
        let hello_failure = |cause| Failure::new(Stage::ReceiveHello, cause);
        let (used, complete) = self.link.take(now, input).map_err(|error| match self.ids {
            None => hello_failure(error.into()).into(),
            Some(_) => ConnectionError::Frame(error),
        })?;
        if !complete {
            return Ok(used);
        }
        self.answers = None;
        let bytes = self.link.message().unwrap_or_default();
        let message =
            Envelope::<FromDevice<'_>>::decode_or_unknown(bytes).map_err(|error| match self.ids {
                // Only a MAC could tell a wrong key from a wrong message; padding fits by chance once in 256 times.
                None => hello_failure(Cause::Frame).into(),
                Some(_) => ConnectionError::Malformed(error),
            })?;
        let (kind, id) = (message.kind, message.id);
        match &mut self.ids {
            None => {
                let FromDevice::Hello(hello) = message.body else {
                    return Err(hello_failure(Cause::NotHello).into());
                };
                self.ids = Some(ReceiveIds::new(id, self.policy.ids));
                self.owed.push(Reply::Hello);
                if self.policy.learn_limits {
                    self.set_limits(Some(Limits::of_hello(&hello)));
                }
                return Ok(used);
            }
            Some(ids) if is_counted(kind) => match message.body {
                FromDevice::Ping => ids.count(id),
                _ => ids.accept(id).map_err(|expected| ConnectionError::MessageId { expected, found: id })?,
            },
            Some(_) => {}
        }
        let ack = Reply::Ack(id);
        let asks = (kind == Type::Confirmable).then_some(ack);
        let (reply, is_shown) = match message.body {
            FromDevice::Ping => (Some(ack), false),
            // Answered in the acknowledgement, or refused in it, by the caller.
            FromDevice::TimeRequest | FromDevice::Subscribe(_) => (None, true),
            FromDevice::Event(event) => {
                let reply = match self.policy.event_acks {
                    EventAcks::Confirmable => asks,
                    EventAcks::Every => Some(ack),
                    EventAcks::SystemOnly => event.name.starts_with("spark").then_some(ack),
                };
                let is_system = event.name.is_system(SystemNames::SparkInAnyCase);
                match self.policy.event_limit {
                    Some(limit) if !is_system && !self.events.admit(now, limit) => {
                        (reply.and(Some(Reply::Refusal(id))), false)
                    }
                    _ => (reply, true),
                }
            }
            FromDevice::Response(_) if !self.policy.acknowledges_describe => (None, true),
            _ => (asks, true),
        };
        if let (Some(code), Some(ids)) = (answer_code_from_device(&message.body), &mut self.ids) {
            let found = self.waiting.resolve(kind, code, id, message.token, ids.is_next(id));
            if found.as_ref().is_some_and(|found| found.has_own_id) {
                ids.adopt(id);
            }
            self.answers = found.map(|found| found.answers);
        }
        if let Some(reply) = reply {
            self.owed.push(reply);
        }
        if !is_shown {
            self.link.swallow();
        }
        Ok(used)
    }

    /// A message can be polled.
    #[must_use]
    pub const fn has_message(&self) -> bool {
        self.link.has_message()
    }

    /// The message that [`ServerConnection::handle_input`] completed, once. Pings are answered, not shown.
    pub fn poll_message(&mut self) -> Option<Received<FromDevice<'_>, RequestKind>> {
        let answers = self.answers;
        // It decoded before.
        let envelope = Envelope::<FromDevice<'_>>::decode_or_unknown(self.link.poll()?).ok()?;
        Some(Received { envelope, answers })
    }

    /// The same in the caller's buffer, so that the connection is free to send while the message is looked at.
    pub fn take_message<'b>(
        &mut self,
        buffer: &'b mut [u8; N],
    ) -> Option<Received<FromDevice<'b>, RequestKind>> {
        let bytes = self.link.poll()?;
        let copy = buffer.get_mut(..bytes.len())?;
        copy.copy_from_slice(bytes);
        let envelope = Envelope::<FromDevice<'_>>::decode_or_unknown(copy).ok()?;
        Some(Received { envelope, answers: self.answers })
    }

    /// The next owed reply, sealed into `out` (64 bytes are enough). Call until `None` after each input.
    ///
    /// # Errors
    /// [`SendError`] for a short buffer; the reply is still owed.
    pub fn poll_output<'o>(&mut self, out: &'o mut [u8]) -> Result<Option<&'o [u8]>, SendError> {
        let Some(reply) = self.owed.first() else { return Ok(None) };
        let bytes = match reply {
            Reply::Hello => self.send(FromServer::Hello, out)?.bytes,
            Reply::Ack(id) => self.acknowledge(id, out)?,
            Reply::Refusal(id) => self.refuse(id, out)?,
        };
        self.owed.pop();
        Ok(Some(bytes))
    }

    /// Sends a request and waits for its answer: it is told with the message in [`Received::answers`], or, when none has
    /// come in the policy's time, by [`ServerConnection::poll_expired`].
    ///
    /// # Errors
    /// [`SendError`]; nothing was counted.
    pub fn request<'o>(
        &mut self,
        now: Duration,
        body: FromServer<'_>,
        out: &'o mut [u8],
    ) -> Result<Sent<'o>, SendError> {
        let kind = RequestKind::of(&body).ok_or(SendError::NoRequest)?;
        self.waiting.room()?;
        let deadline = now.saturating_add(self.policy.request_timeout);
        let sent = self.send(body, out)?;
        let (id, token) = (sent.id, sent.token.as_byte());
        self.waiting.insert(Waiting::new(id, token, kind, deadline));
        Ok(sent)
    }

    /// The requests that wait for an answer.
    pub fn waiting(&self) -> impl Iterator<Item = &Waiting<RequestKind>> {
        self.waiting.iter().filter(|waiting| !waiting.answered)
    }

    /// A request whose time is over without an answer. Call until `None` after [`ServerConnection::handle_deadline`].
    pub fn poll_expired(&mut self, now: Duration) -> Option<Waiting<RequestKind>> {
        self.waiting.expire(now)
    }

    /// Sends a message with the next id and, where the protocol has one, the next token. Nobody waits for an answer:
    /// chunks of an update and events are sent so, or requests whose answers the caller finds by the token.
    ///
    /// # Errors
    /// [`SendError`]; nothing was counted.
    pub fn send<'o>(&mut self, body: FromServer<'_>, out: &'o mut [u8]) -> Result<Sent<'o>, SendError> {
        let (kind, token) = self.head(&body)?;
        let id = self.link.last_id.wrapping_add(1);
        let bytes = self.seal(Envelope { kind, id, token, body }, out)?;
        self.link.last_id = id;
        if let Some(token) = token.as_byte() {
            self.link.last_token = token;
        }
        Ok(Sent { id, token, bytes })
    }

    /// Sends up to [`MAX_BATCH`] messages at once: their frames, one behind the other. They are the same as those of
    /// [`ServerConnection::send`], and cost a fraction: all are sealed side by side.
    ///
    /// # Errors
    /// [`SendError`]; nothing was counted. With [`SendError::Busy`] there are too many, or requests wait for their
    /// answers: send one by one.
    pub fn send_batch<'o>(
        &mut self,
        bodies: &[FromServer<'_>],
        out: &'o mut [u8],
    ) -> Result<&'o [u8], SendError> {
        if bodies.len() > MAX_BATCH {
            return Err(SendError::Busy { reason: "a batch has up to 8 messages" });
        }
        let (id, token) = (self.link.last_id, self.link.last_token);
        let result = self.seal_batch(bodies, out);
        if result.is_err() {
            (self.link.last_id, self.link.last_token) = (id, token);
        }
        let len = result?;
        Ok(out.get(..len).unwrap_or_default())
    }

    fn seal_batch(&mut self, bodies: &[FromServer<'_>], out: &mut [u8]) -> Result<usize, SendError> {
        let mut frames: [Unsealed<'_>; MAX_BATCH] =
            core::array::from_fn(|_| Unsealed { buffer: &mut [], len: 0 });
        let (mut rest, mut whole) = (out, 0);
        for (body, place) in bodies.iter().zip(&mut frames) {
            let (kind, token) = self.head(body)?;
            let id = self.link.last_id.wrapping_add(1);
            let envelope = Envelope { kind, id, token, body: *body };
            let len = self.link.encode(|body| envelope.encode_into(body).map(<[u8]>::len), rest)?;
            let needed = sealed_len(len);
            let (buffer, behind) = rest.split_at_mut(needed.min(rest.len()));
            (rest, whole) = (behind, whole + needed);
            *place = Unsealed { buffer, len };
            self.link.last_id = id;
            if let Some(token) = token.as_byte() {
                self.link.last_token = token;
            }
        }
        self.link.seal_batch(frames.get_mut(..bodies.len()).unwrap_or_default())?;
        Ok(whole)
    }

    /// Type and token of a message that is sent now.
    fn head(&self, body: &FromServer<'_>) -> Result<(Type, Token), SendError> {
        if matches!(self.owed.first(), Some(Reply::Hello)) && !matches!(body, FromServer::Hello) {
            return Err(SendError::Busy { reason: "Hello is to be polled and sent first" });
        }
        self.check(body)?;
        let kind = match body {
            FromServer::Hello | FromServer::Event(_) | FromServer::SocketPing => Type::NonConfirmable,
            FromServer::Ack | FromServer::Response(_) | FromServer::Reset => return Err(SendError::Reply),
            _ => Type::Confirmable,
        };
        let has_token = match body {
            FromServer::Hello => self.policy.hello_token,
            FromServer::Ping => false,
            _ => kind == Type::Confirmable,
        };
        Ok((kind, if has_token { self.next_token()? } else { Token::EMPTY }))
    }

    /// The next token that no waiting request has.
    fn next_token(&self) -> Result<Token, SendError> {
        let tokens = usize::from(self.policy.last_token) + 1;
        let mut token = self.link.last_token;
        for _ in 0..tokens {
            token = if token >= self.policy.last_token { 0 } else { token + 1 };
            if !self.waiting.has_token(token) {
                return Ok(Token::byte(token));
            }
        }
        Err(SendError::TooManyRequests { limit: tokens })
    }

    /// What the device would cut, misread or refuse is not sent.
    fn check(&self, body: &FromServer<'_>) -> Result<(), SendError> {
        let Some(limits) = &self.limits else { return Ok(()) };
        match body {
            FromServer::FunctionCall { name, argument } => {
                at_most("function name", limits.function_name, name.len())?;
                at_most("function argument", limits.function_argument, argument.len())
            }
            FromServer::VariableRequest { name } => {
                at_most("variable name", limits.variable_name, name.len())
            }
            FromServer::Event(event) => check_event(limits, event),
            _ => Ok(()),
        }
    }

    /// Acknowledges message `id` with nothing more.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn acknowledge<'o>(&mut self, id: u16, out: &'o mut [u8]) -> Result<&'o [u8], SendError> {
        let (kind, token, body) = (Type::Acknowledgement, Token::EMPTY, FromServer::Ack);
        self.seal(Envelope { kind, id, token, body }, out)
    }

    /// Refuses message `id`, a subscription for instance: 4.00 in the acknowledgement.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn refuse<'o>(&mut self, id: u16, out: &'o mut [u8]) -> Result<&'o [u8], SendError> {
        self.respond(id, Token::EMPTY, Response { code: Code::BAD_REQUEST, payload: &[] }, out)
    }

    /// Answers the device's request `id` with `token` in the acknowledgement.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn respond<'o>(
        &mut self,
        id: u16,
        token: Token,
        response: Response<'_>,
        out: &'o mut [u8],
    ) -> Result<&'o [u8], SendError> {
        let (kind, body) = (Type::Acknowledgement, FromServer::Response(response));
        self.seal(Envelope { kind, id, token, body }, out)
    }

    /// Answers a time request: seconds since 1970. Devices take every 2.05 for the time, so there is no other.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn respond_time<'o>(
        &mut self,
        id: u16,
        token: Token,
        unix_time: u32,
        out: &'o mut [u8],
    ) -> Result<&'o [u8], SendError> {
        let payload = &unix_time.to_be_bytes();
        self.respond(id, token, Response { code: Code::CONTENT, payload }, out)
    }

    fn seal<'o>(
        &mut self,
        envelope: Envelope<FromServer<'_>>,
        out: &'o mut [u8],
    ) -> Result<&'o [u8], SendError> {
        self.link.seal(|body| envelope.encode_into(body).map(<[u8]>::len), out)
    }

    /// When [`ServerConnection::handle_deadline`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Duration {
        let silence = self.silence_deadline();
        self.waiting.next_deadline().map_or(silence, |request| request.min(silence))
    }

    const fn silence_deadline(&self) -> Duration {
        self.link.silent_for(self.policy.patience(self.ids.is_some(), self.updating))
    }

    /// Ends the connection if it was silent for too long, and finds the requests that
    /// [`ServerConnection::poll_expired`] tells of. Early calls are harmless.
    ///
    /// # Errors
    /// [`ConnectionError::Silent`], or the handshake failure if no Hello came.
    pub fn handle_deadline(&mut self, now: Duration) -> Result<(), ConnectionError> {
        self.waiting.look_at_clock(now);
        if now < self.silence_deadline() {
            return Ok(());
        }
        Err(match self.ids {
            None => Failure::new(Stage::ReceiveHello, Cause::TimedOut).into(),
            Some(_) => ConnectionError::Silent { silence: self.link.silence(now) },
        })
    }
}

impl Events {
    /// Counts an event; `false` if it is one too many.
    fn admit(&mut self, now: Duration, limit: EventLimit) -> bool {
        if self.count == 0 || now >= self.since.saturating_add(limit.per) {
            (self.since, self.count) = (now, 0);
        }
        let admitted = self.count < limit.events;
        if admitted {
            self.count += 1;
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
        admitted
    }
}

pub(super) fn check_event(limits: &Limits, event: &Event<'_>) -> Result<(), SendError> {
    at_most("event name", limits.event_name, event.name.len())?;
    at_most("event data", limits.event_data, event.data.unwrap_or_default().len())
}

pub(super) fn at_most(field: &'static str, limit: u16, found: usize) -> Result<(), SendError> {
    if found <= usize::from(limit) {
        return Ok(());
    }
    Err(EncodeError::TooLarge { field, limit: limit.into(), found }.into())
}
