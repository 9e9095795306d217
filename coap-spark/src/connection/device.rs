//! The device's end.

use super::link::{ConnectionError, Link, Owed, SendError, Sent};
use super::profile::{Profile, ReplyStyle};
use crate::coap::{Token, Type};
use crate::handshake::{Cause, Failure, Stage};
use crate::message::{Envelope, FromDevice, FromServer, Response};
use crate::session::SessionKeys;
use core::time::Duration;

/// What a request asks for; it decides the form of the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RequestKind {
    /// Describe.
    Describe,
    /// A variable.
    Variable,
    /// A function call: always an empty acknowledgement, then a non-confirmable result.
    Function,
    /// Signal and everything else: answered in the acknowledgement.
    Other,
}

/// A server's request that waits for its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Request {
    /// Its id.
    pub id: u16,
    /// Its token.
    pub token: Token,
    /// What it asks for.
    pub kind: RequestKind,
}

impl Request {
    /// The request in a message, if it is one that wants an answer.
    #[must_use]
    pub const fn of(message: &Envelope<FromServer<'_>>) -> Option<Self> {
        let kind = match message.body {
            FromServer::Describe { .. } => RequestKind::Describe,
            FromServer::VariableRequest { .. } => RequestKind::Variable,
            FromServer::FunctionCall { .. } => RequestKind::Function,
            FromServer::Signal { .. } | FromServer::KeyChange { .. } => RequestKind::Other,
            _ => return None,
        };
        Some(Self { id: message.id, token: message.token, kind })
    }
}

/// The connection to the server, seen from the device. `N` bounds the ciphertext of a frame from the server.
#[derive(Debug)]
pub struct DeviceConnection<const N: usize = 800> {
    link: Link<N>,
    profile: Profile,
    is_up: bool,
    /// When the connection began or the last ping was sent.
    since: Duration,
    ping_sent: bool,
    updating: bool,
    owed: Owed<u16>,
    ping_owed: bool,
}

impl<const N: usize> DeviceConnection<N> {
    /// Begins after step 3 of the handshake. Send Hello first.
    #[must_use]
    pub fn new(keys: &SessionKeys, profile: Profile, now: Duration) -> Self {
        let salt = keys.salt();
        let (id, token) = (profile.id_base(salt), profile.token_base(salt));
        Self {
            link: Link::new(keys, profile.max_frame, id, token, now),
            profile,
            is_up: false,
            since: now,
            ping_sent: false,
            updating: false,
            owed: Owed::new(),
            ping_owed: false,
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

    /// Takes bytes up to the end of one frame and says how many. Takes none while four replies are owed.
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
        self.ping_sent = false;
        let message = Envelope::<FromServer<'_>>::decode(self.link.message().unwrap_or_default())?;
        let swallow = match message.body {
            FromServer::Hello => {
                self.is_up = true;
                if message.kind == Type::Confirmable {
                    self.owed.push(message.id);
                }
                false
            }
            FromServer::Ping => {
                self.owed.push(message.id);
                true
            }
            FromServer::SocketPing => true,
            _ => false,
        };
        if swallow {
            self.link.swallow();
        }
        Ok(used)
    }

    /// The message that [`DeviceConnection::handle_input`] completed, once. Pings are answered, not shown.
    pub fn poll_message(&mut self) -> Option<Envelope<FromServer<'_>>> {
        // It decoded before.
        Envelope::<FromServer<'_>>::decode(self.link.poll()?).ok()
    }

    /// The same in the caller's buffer, so that the connection is free to send while the message is looked at.
    pub fn take_message<'b>(&mut self, buffer: &'b mut [u8; N]) -> Option<Envelope<FromServer<'b>>> {
        let bytes = self.link.poll()?;
        let copy = buffer.get_mut(..bytes.len())?;
        copy.copy_from_slice(bytes);
        Envelope::<FromServer<'_>>::decode(copy).ok()
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
        if let Some(id) = self.owed.first() {
            let bytes = self.acknowledge(id, out)?;
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

    /// Sends a message with the next id. A time request gets the next token.
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
        let token = if is_request { self.link.next_token() } else { Token::EMPTY };
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
    /// [`SendError`]. If the second frame fails the first one has been counted: close the connection.
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
            RequestKind::Other => ReplyStyle::Piggybacked,
        };
        let kind = match style {
            ReplyStyle::Piggybacked => {
                return self.piggyback(request.id, request.token, response, out);
            }
            ReplyStyle::SeparateConfirmable => Type::Confirmable,
            ReplyStyle::SeparateNonConfirmable => Type::NonConfirmable,
        };
        let first = self.acknowledge(request.id, out)?.len();
        let rest = out.get_mut(first..).unwrap_or_default();
        let second = self.respond(kind, request.token, response, rest)?.bytes.len();
        Ok(out.get(..first + second).unwrap_or_default())
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
        self.link.seal(&envelope, |e, body| e.encode_into(body).map(<[u8]>::len), out)
    }

    /// When [`DeviceConnection::handle_deadline`] has something to do; `None` during an update.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        if !self.is_up {
            return Some(self.since.saturating_add(self.profile.hello_timeout));
        }
        if self.updating {
            return None;
        }
        Some(if self.ping_sent {
            self.since.saturating_add(self.profile.ping_timeout)
        } else {
            self.link.heard.saturating_add(self.profile.ping_interval)
        })
    }

    /// Owes a ping or ends the connection if the deadline has come.
    ///
    /// # Errors
    /// [`ConnectionError::Silent`] if a ping was not answered; the handshake failure if no Hello came.
    pub fn handle_deadline(&mut self, now: Duration) -> Result<(), ConnectionError> {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        if !self.is_up {
            return Err(Failure::new(Stage::ReceiveHello, Cause::TimedOut).into());
        }
        if self.ping_sent {
            return Err(ConnectionError::Silent { silence: now.saturating_sub(self.link.heard) });
        }
        self.ping_owed = true;
        Ok(())
    }
}
