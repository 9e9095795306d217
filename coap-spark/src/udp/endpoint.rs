//! The machine.

use super::pending::Pending;
use super::seen::{Arrival, Seen};
use super::{KEEP_ALIVE, Timing};
use crate::coap::{Code, Message, ParseError, ParseOptions, Type};
use core::time::Duration;

/// What a datagram of the peer was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use]
#[non_exhaustive]
pub enum Incoming<'a> {
    /// A message for the application, not seen before if it is confirmable. A confirmable one wants
    /// [`Endpoint::acknowledge`] or a reply with its id within the wait of the peer, 4 s at least.
    Message(Message<'a>),
    /// The acknowledgement of a message of ours, with the response in it if it has one.
    Acknowledged(Message<'a>),
    /// A confirmable message that came before.
    Duplicate {
        /// Its id.
        id: u16,
        /// The reply goes out again; otherwise the application has not replied yet.
        answered: bool,
    },
    /// A confirmable message that cannot be remembered, since too many came within the span. It was neither
    /// acknowledged nor may it be acted on: the peer sends it again.
    Refused {
        /// Its id.
        id: u16,
    },
    /// An empty confirmable message: its acknowledgement goes out.
    Ping,
    /// A keep-alive. An end without keep-alives of its own sends it back.
    KeepAlive,
    /// The peer does not know the session any more: it is over.
    Reset {
        /// The message that the peer could not place.
        id: u16,
    },
    /// An acknowledgement of something that waits for none: mostly one that came twice.
    Stray {
        /// Its id.
        id: u16,
    },
}

/// Why a session is over. The DTLS session has to be discarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Closed {
    /// A confirmable message was never acknowledged.
    #[error("message {id} was sent {sends} times and not acknowledged")]
    Unanswered {
        /// Its id.
        id: u16,
        /// How often it was sent.
        sends: u8,
    },
    /// The peer answered with a reset.
    #[error("the peer reset the session at message {id}")]
    Reset {
        /// The message that it could not place.
        id: u16,
    },
    /// Nothing came after a keep-alive.
    #[error("nothing came for {} s after a keep-alive", waited.as_secs())]
    KeepAlive {
        /// How long was waited.
        waited: Duration,
    },
}

/// Why a datagram was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// Not a CoAP message. The endpoint is as before; the datagram is to be dropped.
    #[error("not a CoAP message")]
    Malformed(#[from] ParseError),
    /// The session is over.
    #[error("the session is over")]
    Closed(#[from] Closed),
}

/// Why a message cannot be sent. The endpoint is as before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Not a CoAP message.
    #[error("not a CoAP message")]
    Malformed(#[from] ParseError),
    /// Longer than the endpoint's buffers.
    #[error("message of {len} bytes, at most {limit} can be kept")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit: `MESSAGE`.
        limit: usize,
    },
    /// As many messages as allowed wait: for their acknowledgements, or to be fetched with [`Endpoint::poll_output`].
    #[error("{waiting} messages wait already")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// A message with this id waits for its acknowledgement.
    #[error("message {id} waits for its acknowledgement")]
    IdInUse {
        /// The id.
        id: u16,
    },
    /// No confirmable message of the peer has this id, or it was too long ago.
    #[error("no message {id} to reply to")]
    NothingToReplyTo {
        /// The id.
        id: u16,
    },
    /// The session is over.
    #[error("the session is over")]
    Closed(#[from] Closed),
}

/// The buffer for a datagram is too short. The datagram is still there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("datagram of {needed} bytes, the buffer has {available}")]
pub struct OutputError {
    /// Length of the datagram.
    pub needed: usize,
    /// Length of the buffer.
    pub available: usize,
}

/// One end of a session with a UDP device.
///
/// | parameter | bounds | default |
/// |---|---|---|
/// | `MESSAGE` | bytes of a message to send | 1024 |
/// | `PENDING` | confirmable messages of ours that wait for an acknowledgement (NSTART) | 1 |
/// | `SEEN` | confirmable messages of the peer that are remembered for 45 s, 24 bytes each | 64 |
/// | `REPLIES` | replies longer than an empty acknowledgement that are kept for duplicates | 2 |
///
/// A reply that was displaced by newer ones is repeated as an empty acknowledgement. Messages beyond `SEEN` are
/// refused and come again: nothing is delivered twice within the span. Time is any monotonic clock; every method takes
/// work bounded by the parameters, and calls that come too early or too often do nothing.
#[derive(Debug)]
pub struct Endpoint<
    const MESSAGE: usize = 1024,
    const PENDING: usize = 1,
    const SEEN: usize = 64,
    const REPLIES: usize = 2,
> {
    timing: Timing,
    pending: [Option<Pending<MESSAGE>>; PENDING],
    seen: Seen<MESSAGE, SEEN, REPLIES>,
    /// A non-confirmable message, or a reset.
    loose: Option<([u8; MESSAGE], usize)>,
    keep_alive_owed: bool,
    /// When a keep-alive was sent that nothing followed.
    keep_alive_sent: Option<Duration>,
    /// When a datagram came or went last.
    active: Duration,
    closed: Option<Closed>,
}

impl<const MESSAGE: usize, const PENDING: usize, const SEEN: usize, const REPLIES: usize>
    Endpoint<MESSAGE, PENDING, SEEN, REPLIES>
{
    /// Begins when the DTLS handshake is done.
    #[must_use]
    pub const fn new(timing: Timing, now: Duration) -> Self {
        Self {
            timing,
            pending: [const { None }; PENDING],
            seen: Seen::new(timing.max_transmit_span),
            loose: None,
            keep_alive_owed: false,
            keep_alive_sent: None,
            active: now,
            closed: None,
        }
    }

    /// Takes the plaintext of one record. Call [`Endpoint::poll_output`] afterwards: a reply may be owed.
    ///
    /// # Errors
    /// [`InputError`].
    pub fn handle_datagram<'a>(
        &mut self,
        now: Duration,
        datagram: &'a [u8],
    ) -> Result<Incoming<'a>, InputError> {
        self.open()?;
        if datagram == KEEP_ALIVE {
            self.heard(now);
            self.keep_alive_owed |= self.timing.keep_alive.is_none();
            return Ok(Incoming::KeepAlive);
        }
        let message = Message::parse(datagram, ParseOptions::SPARK)?;
        self.heard(now);
        let id = message.id();
        match message.kind() {
            Type::Reset => {
                self.close(Closed::Reset { id });
                return Ok(Incoming::Reset { id });
            }
            Type::Acknowledgement => {
                let found = self.take_pending(|pending| pending.id == id);
                return Ok(if found { Incoming::Acknowledged(message) } else { Incoming::Stray { id } });
            }
            Type::Confirmable => match self.seen.arrive(now, id) {
                Arrival::New => {}
                Arrival::Again { answered } => return Ok(Incoming::Duplicate { id, answered }),
                Arrival::Full => return Ok(Incoming::Refused { id }),
            },
            Type::NonConfirmable => {}
        }
        if message.kind() == Type::Confirmable && message.code() == Code::EMPTY {
            self.seen.acknowledge(id);
            return Ok(Incoming::Ping);
        }
        // A response stands for the acknowledgement that was lost on its way.
        self.take_pending(|pending| pending.is_answered_by(&message));
        Ok(Incoming::Message(message))
    }

    /// Sends an encoded message: call [`Endpoint::poll_output`] afterwards.
    ///
    /// A confirmable one is repeated until it is acknowledged; `random` spreads its waits. An acknowledgement or a
    /// reset is the reply to the peer's message of that id. Not more than one non-confirmable message waits to be
    /// fetched.
    ///
    /// # Errors
    /// [`SendError`]; with [`SendError::Busy`] try again after the next acknowledgement or output.
    pub fn send(&mut self, message: &[u8], random: u8) -> Result<(), SendError> {
        self.open()?;
        let bytes = message;
        let message = Message::parse(bytes, ParseOptions::STRICT)?;
        if bytes.len() > MESSAGE {
            return Err(SendError::TooLong { len: bytes.len(), limit: MESSAGE });
        }
        let id = message.id();
        match message.kind() {
            Type::Confirmable => {
                if self.pending().any(|pending| pending == id) {
                    return Err(SendError::IdInUse { id });
                }
                let Some(slot) = self.pending.iter_mut().find(|slot| slot.is_none()) else {
                    return Err(SendError::Busy { waiting: PENDING });
                };
                *slot = Pending::new(&message, bytes, random);
                Ok(())
            }
            Type::Acknowledgement | Type::Reset if self.seen.knows(id) => {
                let is_empty_ack = message.kind() == Type::Acknowledgement && message.code() == Code::EMPTY;
                if !is_empty_ack && !self.seen.keep(id, bytes) {
                    return Err(SendError::Busy { waiting: REPLIES });
                }
                self.acknowledge(id)
            }
            Type::Acknowledgement => Err(SendError::NothingToReplyTo { id }),
            Type::NonConfirmable | Type::Reset => self.send_once(bytes),
        }
    }

    /// Sends an encoded confirmable message as if it were not: it goes out once and is not waited for. For what the peer
    /// does not acknowledge, as devices do with the chunks of a fast update.
    ///
    /// Not more than one waits to be fetched.
    ///
    /// # Errors
    /// [`SendError`]; with [`SendError::Busy`] try again after the next output.
    pub fn send_unrepeated(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.open()?;
        Message::parse(message, ParseOptions::STRICT)?;
        if message.len() > MESSAGE {
            return Err(SendError::TooLong { len: message.len(), limit: MESSAGE });
        }
        self.send_once(message)
    }

    fn send_once(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        if self.loose.is_some() {
            return Err(SendError::Busy { waiting: 1 });
        }
        let mut buffer = [0; MESSAGE];
        if let Some(part) = buffer.get_mut(..bytes.len()) {
            part.copy_from_slice(bytes);
            self.loose = Some((buffer, bytes.len()));
        }
        Ok(())
    }

    /// Acknowledges the peer's message with nothing more: call [`Endpoint::poll_output`] afterwards.
    ///
    /// # Errors
    /// [`SendError::NothingToReplyTo`], [`SendError::Closed`].
    pub fn acknowledge(&mut self, id: u16) -> Result<(), SendError> {
        self.open()?;
        if self.seen.acknowledge(id) { Ok(()) } else { Err(SendError::NothingToReplyTo { id }) }
    }

    /// Leaves the peer's message unanswered and does not remember it: if it comes again, it is shown again. For messages
    /// that come in numbers and need no reply, as the chunks of a fast update.
    ///
    /// # Errors
    /// [`SendError::NothingToReplyTo`] also if it was replied to; [`SendError::Closed`].
    pub fn forget(&mut self, id: u16) -> Result<(), SendError> {
        self.open()?;
        if self.seen.forget(id) { Ok(()) } else { Err(SendError::NothingToReplyTo { id }) }
    }

    /// The next datagram to send as one record, written into `out`. Call until `None`, after every other call.
    ///
    /// # Errors
    /// [`OutputError`] for a buffer shorter than the datagram, which is still there.
    pub fn poll_output<'o>(
        &mut self,
        now: Duration,
        out: &'o mut [u8],
    ) -> Result<Option<&'o [u8]>, OutputError> {
        if self.closed.is_some() {
            return Ok(None);
        }
        let available = out.len();
        let len = self.write_next(now, |bytes| {
            out.get_mut(..bytes.len()).ok_or(bytes.len())?.copy_from_slice(bytes);
            Ok(bytes.len())
        });
        match len {
            None => Ok(None),
            Some(Err(needed)) => Err(OutputError { needed, available }),
            Some(Ok(len)) => {
                self.active = self.active.max(now);
                Ok(out.get(..len))
            }
        }
    }

    /// Replies first, so that the peer need not repeat. What `write` does not take stays.
    fn write_next(
        &mut self,
        now: Duration,
        mut write: impl FnMut(&[u8]) -> Result<usize, usize>,
    ) -> Option<Result<usize, usize>> {
        if let Some(result) = self.seen.poll(&mut write) {
            return Some(result);
        }
        if self.keep_alive_owed {
            let result = write(&KEEP_ALIVE);
            if result.is_ok() {
                self.keep_alive_owed = false;
                self.keep_alive_sent = self.timing.keep_alive.map(|_| now);
            }
            return Some(result);
        }
        if let Some((bytes, len)) = &self.loose {
            let result = write(bytes.get(..*len).unwrap_or_default());
            if result.is_ok() {
                self.loose = None;
            }
            return Some(result);
        }
        let pending = self.pending.iter_mut().flatten().find(|pending| pending.due.is_none())?;
        let result = write(pending.bytes());
        if result.is_ok() {
            pending.sent(now, &self.timing);
        }
        Some(result)
    }

    /// When [`Endpoint::handle_deadline`] has something to do. `None` if nothing is awaited: nothing was sent, or what
    /// was is waiting for [`Endpoint::poll_output`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        if self.closed.is_some() {
            return None;
        }
        let repeats = self.pending.iter().flatten().filter_map(|pending| pending.due);
        repeats.chain(self.keep_alive_deadline()).min()
    }

    fn keep_alive_deadline(&self) -> Option<Duration> {
        let keep_alive = self.timing.keep_alive.filter(|_| !self.keep_alive_owed)?;
        Some(match self.keep_alive_sent {
            Some(sent) => sent.saturating_add(keep_alive.timeout),
            None => self.active.saturating_add(keep_alive.interval),
        })
    }

    /// Repeats what was not acknowledged in time, owes a keep-alive, or ends the session. Call
    /// [`Endpoint::poll_output`] afterwards. `random` spreads the waits of what is repeated.
    ///
    /// # Errors
    /// [`Closed`]: the session is over. Messages that are still [pending](Endpoint::pending) may or may not have
    /// arrived.
    pub fn handle_deadline(&mut self, now: Duration, random: u8) -> Result<(), Closed> {
        self.open()?;
        for pending in self.pending.iter_mut().flatten() {
            if pending.due.is_none_or(|due| now < due) {
                continue;
            }
            if pending.sends > self.timing.max_retransmit {
                let closed = Closed::Unanswered { id: pending.id, sends: pending.sends };
                self.close(closed);
                return Err(closed);
            }
            pending.repeat(random);
        }
        if self.keep_alive_deadline().is_some_and(|deadline| now >= deadline) {
            if let Some(sent) = self.keep_alive_sent {
                let closed = Closed::KeepAlive { waited: now.saturating_sub(sent) };
                self.close(closed);
                return Err(closed);
            }
            self.keep_alive_owed = true;
        }
        Ok(())
    }

    /// Ids of confirmable messages that are not acknowledged, in no order. After the end of the session these are the
    /// ones that may not have arrived.
    pub fn pending(&self) -> impl Iterator<Item = u16> {
        self.pending.iter().flatten().map(|pending| pending.id)
    }

    /// Why the session is over, `None` while it lasts.
    #[must_use]
    pub const fn closed(&self) -> Option<Closed> {
        self.closed
    }

    fn open(&self) -> Result<(), Closed> {
        self.closed.map_or(Ok(()), Err)
    }

    fn close(&mut self, why: Closed) {
        self.closed = Some(why);
    }

    fn heard(&mut self, now: Duration) {
        self.active = self.active.max(now);
        self.keep_alive_sent = None;
    }

    fn take_pending(&mut self, which: impl Fn(&Pending<MESSAGE>) -> bool) -> bool {
        let slot = self.pending.iter_mut().find(|slot| slot.as_ref().is_some_and(&which));
        slot.and_then(Option::take).is_some()
    }
}
