//! The server's end.

use super::ids::{IdCheck, ReceiveIds};
use super::link::{ConnectionError, Link, Owed, SendError, Sent, is_counted};
use crate::coap::{Token, Type};
use crate::handshake::{Cause, Failure, Stage};
use crate::message::{Envelope, FromDevice, FromServer, Response};
use crate::session::{MAX_SERVER_FRAME, SessionKeys};
use core::time::Duration;

/// What a server demands of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ServerPolicy {
    /// Wait for the device's Hello; both JavaScript servers wait 30 s.
    pub hello_timeout: Duration,
    /// Silence that ends the connection. Devices ping after 15 s and give up 10 s later, so two such rounds.
    pub idle_timeout: Duration,
    /// The same during a firmware update, when devices neither ping nor answer fast chunks.
    pub update_timeout: Duration,
    /// Comparison of message ids.
    pub ids: IdCheck,
    /// Largest ciphertext to send.
    pub max_frame: usize,
}

impl ServerPolicy {
    /// Fits every Photon and P1.
    pub const DEFAULT: Self = Self {
        hello_timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(50),
        update_timeout: Duration::from_secs(600),
        ids: IdCheck::DEFAULT,
        max_frame: MAX_SERVER_FRAME,
    };
}

impl Default for ServerPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[derive(Clone, Copy, Debug)]
enum Reply {
    Hello,
    Ack(u16),
}

/// A connected device, seen from the server. `N` bounds the ciphertext of a frame from the device.
#[derive(Debug)]
pub struct ServerConnection<const N: usize = 1024> {
    link: Link<N>,
    /// `None` until the device's Hello came.
    ids: Option<ReceiveIds>,
    owed: Owed<Reply>,
    policy: ServerPolicy,
    updating: bool,
}

impl<const N: usize> ServerConnection<N> {
    /// Begins after step 3 of the handshake. `first_id` should be random; it becomes the id of the server's Hello.
    #[must_use]
    pub fn new(keys: &SessionKeys, policy: ServerPolicy, first_id: u16, now: Duration) -> Self {
        Self {
            link: Link::new(keys, policy.max_frame, first_id.wrapping_sub(1), 0, now),
            ids: None,
            owed: Owed::new(),
            policy,
            updating: false,
        }
    }

    /// The device's Hello came; everything else may follow.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.ids.is_some()
    }

    /// Tells that a firmware update begins or ends: meanwhile a longer silence is fine.
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
        let hello_failure = |cause| Failure::new(Stage::ReceiveHello, cause);
        let (used, complete) = self.link.take(now, input).map_err(|error| match self.ids {
            None => hello_failure(error.into()).into(),
            Some(_) => ConnectionError::Frame(error),
        })?;
        if !complete {
            return Ok(used);
        }
        let bytes = self.link.message().unwrap_or_default();
        let message = match (Envelope::<FromDevice<'_>>::decode(bytes), self.ids) {
            (Ok(message), _) => message,
            // Only a MAC could tell a wrong key from a wrong message; padding fits by chance once in 256 times.
            (Err(_), None) => return Err(hello_failure(Cause::Frame).into()),
            (Err(error), Some(_)) => return Err(error.into()),
        };
        let (kind, id) = (message.kind, message.id);
        match &mut self.ids {
            None => {
                if !matches!(message.body, FromDevice::Hello(_)) {
                    return Err(hello_failure(Cause::NotHello).into());
                }
                self.ids = Some(ReceiveIds::new(id, self.policy.ids));
                self.owed.push(Reply::Hello);
            }
            Some(ids) if is_counted(kind) => match message.body {
                FromDevice::Ping => ids.count(),
                _ => ids.accept(id).map_err(|expected| ConnectionError::MessageId { expected, found: id })?,
            },
            Some(_) => {}
        }
        let is_ping = matches!(message.body, FromDevice::Ping);
        // A time request is answered in its acknowledgement, a subscription may be refused in it.
        let caller_answers = matches!(message.body, FromDevice::TimeRequest | FromDevice::Subscribe(_));
        if kind == Type::Confirmable && !caller_answers {
            self.owed.push(Reply::Ack(id));
        }
        if is_ping {
            self.link.swallow();
        }
        Ok(used)
    }

    /// The message that [`ServerConnection::handle_input`] completed, once. Pings are answered, not shown.
    pub fn poll_message(&mut self) -> Option<Envelope<FromDevice<'_>>> {
        // It decoded before.
        Envelope::<FromDevice<'_>>::decode(self.link.poll()?).ok()
    }

    /// The same in the caller's buffer, so that the connection is free to send while the message is looked at.
    pub fn take_message<'b>(&mut self, buffer: &'b mut [u8; N]) -> Option<Envelope<FromDevice<'b>>> {
        let bytes = self.link.poll()?;
        let copy = buffer.get_mut(..bytes.len())?;
        copy.copy_from_slice(bytes);
        Envelope::<FromDevice<'_>>::decode(copy).ok()
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
        };
        self.owed.pop();
        Ok(Some(bytes))
    }

    /// Sends a message with the next id and, where the protocol has one, the next token.
    ///
    /// # Errors
    /// [`SendError`]; nothing was counted.
    pub fn send<'o>(&mut self, body: FromServer<'_>, out: &'o mut [u8]) -> Result<Sent<'o>, SendError> {
        let kind = match body {
            FromServer::Hello | FromServer::Event(_) | FromServer::SocketPing => Type::NonConfirmable,
            FromServer::Ack | FromServer::Response(_) => Type::Acknowledgement,
            FromServer::Reset => Type::Reset,
            _ => Type::Confirmable,
        };
        let has_token = kind == Type::Confirmable && !matches!(body, FromServer::Ping);
        let token = if has_token { self.link.next_token() } else { Token::EMPTY };
        let id = self.link.last_id.wrapping_add(1);
        let bytes = self.seal(Envelope { kind, id, token, body }, out)?;
        self.link.last_id = id;
        if let Some(token) = token.as_byte() {
            self.link.last_token = token;
        }
        Ok(Sent { id, token, bytes })
    }

    /// Acknowledges message `id` with nothing more.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn acknowledge<'o>(&mut self, id: u16, out: &'o mut [u8]) -> Result<&'o [u8], SendError> {
        let (kind, token, body) = (Type::Acknowledgement, Token::EMPTY, FromServer::Ack);
        self.seal(Envelope { kind, id, token, body }, out)
    }

    /// Answers the device's request `id` with `token` in the acknowledgement: the time, or a refusal.
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

    fn seal<'o>(
        &mut self,
        envelope: Envelope<FromServer<'_>>,
        out: &'o mut [u8],
    ) -> Result<&'o [u8], SendError> {
        self.link.seal(&envelope, |e, body| e.encode_into(body).map(<[u8]>::len), out)
    }

    /// When [`ServerConnection::handle_deadline`] has something to say.
    #[must_use]
    pub const fn next_deadline(&self) -> Duration {
        self.link.heard.saturating_add(self.patience())
    }

    /// Ends the connection if its deadline has come.
    ///
    /// # Errors
    /// [`ConnectionError::Silent`], or the handshake failure if no Hello came.
    pub fn handle_deadline(&mut self, now: Duration) -> Result<(), ConnectionError> {
        if now < self.next_deadline() {
            return Ok(());
        }
        Err(match self.ids {
            None => Failure::new(Stage::ReceiveHello, Cause::TimedOut).into(),
            Some(_) => ConnectionError::Silent { silence: now.saturating_sub(self.link.heard) },
        })
    }

    const fn patience(&self) -> Duration {
        match self.ids {
            None => self.policy.hello_timeout,
            Some(_) if self.updating => self.policy.update_timeout,
            Some(_) => self.policy.idle_timeout,
        }
    }
}
