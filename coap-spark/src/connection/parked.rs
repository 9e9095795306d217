//! A server's connection put away: small while it idles, or as bytes for another process.

use super::ids::ReceiveIds;
use super::limits::Limits;
use super::link::{Counters, Link};
use super::policy::ServerPolicy;
use super::request::RequestKind;
use super::server::{Events, ServerConnection};
use super::waiting::{Table, Waiting};
use crate::session::{ImportError, SavedSession, check_magic};
use core::time::Duration;
use zeroize::{Zeroize, Zeroizing};

/// A connection without its frame buffer and key schedules: at most 512 bytes, for servers with many idle devices.
///
/// [`ServerConnection::park`] makes one between two frames, [`ParkedConnection::resume`] goes on in a fraction of the time
/// that a frame takes. Secret, like the session in it.
///
/// ```
/// use coap_spark::connection::{ServerConnection, ServerPolicy};
/// use coap_spark::session::SessionKeys;
/// use core::time::Duration;
///
/// let (keys, now) = (SessionKeys::new([7; 40]), Duration::from_secs(5));
/// let connection: ServerConnection = ServerConnection::new(&keys, ServerPolicy::DEFAULT, 1, now);
/// let deadline = connection.next_deadline();
/// let parked = connection.park().unwrap();
/// assert!(size_of_val(&parked) <= 512);
/// assert_eq!(parked.next_deadline(&ServerPolicy::DEFAULT), deadline);
///
/// let connection: ServerConnection = parked.resume(ServerPolicy::DEFAULT);
/// assert_eq!(connection.next_deadline(), deadline);
/// ```
#[derive(Debug)]
pub struct ParkedConnection<const P: usize = 8> {
    session: SavedSession,
    last: Counters,
    heard: Duration,
    silent_before: Duration,
    /// The last id of the device; `None` before its Hello.
    received: Option<u16>,
    limits: Option<Limits>,
    updating: bool,
    events: Events,
    waiting: Table<RequestKind, P>,
}

/// Why a connection cannot be put away just now. It goes on as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ParkError {
    /// A message was not polled.
    #[error("a message is waiting to be polled")]
    Message,
    /// A reply was not polled.
    #[error("a reply is waiting to be sent")]
    Reply,
    /// A frame has begun; as bytes the connection can be saved all the same.
    #[error("a frame has begun")]
    Frame,
    /// The buffer for the bytes is too small.
    #[error("a saved connection needs {needed} bytes, the buffer has {available}")]
    BufferTooSmall {
        /// Bytes needed.
        needed: usize,
        /// Bytes there are.
        available: usize,
    },
}

impl<const N: usize, const P: usize> ServerConnection<N, P> {
    /// Puts the connection away. Do so when nothing was received for a while.
    ///
    /// # Errors
    /// The connection and [`ParkError`].
    #[allow(clippy::result_large_err, reason = "the connection comes back; there is no heap to box it on")]
    pub fn park(self) -> Result<ParkedConnection<P>, (Self, ParkError)> {
        let error = match self.settled() {
            Ok(()) if self.link.partial().0.is_empty() => return Ok(self.state()),
            Ok(()) => ParkError::Frame,
            Err(error) => error,
        };
        Err((self, error))
    }

    /// Ends this end of the connection and writes all of it into `out`, for another process or machine that takes the
    /// socket over: a frame that has begun included, what waits in the socket not. Versioned; secret. The clock of the
    /// other side may differ, so times are kept as durations.
    ///
    /// # Errors
    /// The connection and [`ParkError`].
    #[allow(clippy::result_large_err, reason = "the connection comes back; there is no heap to box it on")]
    pub fn export_into(self, now: Duration, out: &mut [u8]) -> Result<&[u8], (Self, ParkError)> {
        if let Err(error) = self.settled() {
            return Err((self, error));
        }
        let (prefix, body) = self.link.partial();
        let state = self.state();
        let needed = state.encoded_len() + prefix.len() + body.len();
        let available = out.len();
        let Some(bytes) = out.get_mut(..needed) else {
            return Err((self, ParkError::BufferTooSmall { needed, available }));
        };
        let mut put = Put { out: bytes, at: 0 };
        state.encode(now, &mut put);
        put.bytes(prefix);
        put.bytes(body);
        Ok(bytes)
    }

    /// Goes on with what [`ServerConnection::export_into`] wrote. The policy is this side's own.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn import(bytes: &[u8], policy: ServerPolicy, now: Duration) -> Result<Self, ImportError> {
        let (state, partial) = ParkedConnection::<P>::decode(bytes, now)?;
        let offset = bytes.len() - partial.len();
        let mut connection = state.resume(policy);
        match connection.link.restore(partial) {
            Ok(true) => Ok(connection),
            _ => Err(ImportError::Field { offset }),
        }
    }

    /// Nothing is left to poll.
    fn settled(&self) -> Result<(), ParkError> {
        if self.link.has_message() {
            return Err(ParkError::Message);
        }
        if self.owed.first().is_some() { Err(ParkError::Reply) } else { Ok(()) }
    }

    fn state(&self) -> ParkedConnection<P> {
        ParkedConnection {
            session: self.link.saved(),
            last: Counters { id: self.link.last_id, token: self.link.last_token },
            heard: self.link.heard,
            silent_before: self.link.silent_before,
            received: self.ids.as_ref().map(ReceiveIds::last),
            limits: self.limits,
            updating: self.updating,
            events: self.events,
            waiting: self.waiting.clone(),
        }
    }
}

impl<const P: usize> ParkedConnection<P> {
    /// The connection as it was. The policy may be another than before.
    #[must_use]
    pub fn resume<const N: usize>(self, policy: ServerPolicy) -> ServerConnection<N, P> {
        let limits = ServerConnection::<N, P>::frame_limits(&policy);
        let mut link = Link::resumed(self.session.resume(), limits, self.last, self.heard);
        link.silent_before = self.silent_before;
        let ids = self.received.map(|last| ReceiveIds::new(last, policy.ids));
        let mut connection = ServerConnection::with_link(link, policy, ids);
        connection.set_limits(self.limits);
        connection.events = self.events;
        connection.updating = self.updating;
        connection.waiting = self.waiting;
        connection
    }

    /// When to resume at the latest: the deadline of the connection.
    #[must_use]
    pub fn next_deadline(&self, policy: &ServerPolicy) -> Duration {
        let silence = policy.patience(self.received.is_some(), self.updating);
        let silence = self.heard.saturating_add(silence.saturating_sub(self.silent_before));
        self.waiting.next_deadline().map_or(silence, |request| request.min(silence))
    }

    fn encoded_len(&self) -> usize {
        HEAD_LEN + WAITING_LEN * self.waiting.iter().count()
    }

    fn encode(&self, now: Duration, put: &mut Put<'_>) {
        let mut session = self.session.to_bytes();
        put.bytes(&MAGIC);
        put.bytes(session.as_slice());
        session.zeroize();
        put.bytes(&self.last.id.to_be_bytes());
        put.bytes(&[self.last.token]);
        let flags =
            [(self.received.is_some(), UP), (self.updating, UPDATING), (self.limits.is_some(), LIMITED)];
        put.bytes(&[flags.iter().fold(0, |all, &(is_set, flag)| if is_set { all | flag } else { all })]);
        put.bytes(&self.received.unwrap_or(0).to_be_bytes());
        put.bytes(&millis(now.saturating_sub(self.heard).saturating_add(self.silent_before)));
        put.bytes(&self.events.dropped.to_be_bytes());
        put.bytes(&self.events.count.to_be_bytes());
        put.bytes(&millis(now.saturating_sub(self.events.since)));
        limit_fields(self.limits.unwrap_or(Limits::V0_7_0))
            .iter()
            .for_each(|limit| put.bytes(&limit.to_be_bytes()));
        put.bytes(&u16::try_from(self.waiting.iter().count()).unwrap_or(u16::MAX).to_be_bytes());
        for waiting in self.waiting.iter() {
            put.bytes(&waiting.id.to_be_bytes());
            put.bytes(&[u8::from(waiting.token.is_some()), waiting.token.unwrap_or(0)]);
            let kind = RequestKind::ALL.iter().position(|kind| *kind == waiting.kind).unwrap_or(0);
            let flags = u8::from(waiting.acknowledged) | u8::from(waiting.answered) << 1;
            put.bytes(&[u8::try_from(kind).unwrap_or(0), flags]);
            put.bytes(&millis(waiting.deadline.saturating_sub(now)));
        }
    }

    /// The state, and the bytes behind it.
    fn decode(bytes: &[u8], now: Duration) -> Result<(Self, &[u8]), ImportError> {
        let mut take = Take { bytes, at: 0 };
        check_magic(take.array()?, MAGIC)?;
        let session = SavedSession::from_bytes(&Zeroizing::new(take.array::<{ SavedSession::LEN }>()?)[..])?;
        let id = u16::from_be_bytes(take.array()?);
        let [token, flags] = take.array()?;
        if flags & !(UP | UPDATING | LIMITED) != 0 {
            return Err(take.damaged(1));
        }
        let received = u16::from_be_bytes(take.array()?);
        let silence = take.millis()?;
        let dropped = u64::from_be_bytes(take.array()?);
        let count = u16::from_be_bytes(take.array()?);
        let events = Events { since: now.saturating_sub(take.millis()?), count, dropped };
        let mut limits = [0; 7];
        for limit in &mut limits {
            *limit = u16::from_be_bytes(take.array()?);
        }
        let found = usize::from(u16::from_be_bytes(take.array()?));
        if found > P {
            return Err(ImportError::Capacity { what: "waiting requests", limit: P, found });
        }
        let mut waiting = Table::new();
        for _ in 0..found {
            let id = u16::from_be_bytes(take.array()?);
            let [has_token, token] = take.array()?;
            let [kind, flags] = take.array()?;
            let kind = *RequestKind::ALL.get(usize::from(kind)).ok_or_else(|| take.damaged(2))?;
            if has_token > 1 || flags > 3 {
                return Err(take.damaged(if has_token > 1 { 4 } else { 1 }));
            }
            let token = (has_token == 1).then_some(token);
            let deadline = now.saturating_add(take.millis()?);
            waiting.insert(Waiting {
                acknowledged: flags & 1 != 0,
                answered: flags & 2 != 0,
                ..Waiting::new(id, token, kind, deadline)
            });
        }
        let state = Self {
            session,
            last: Counters { id, token },
            heard: now.saturating_sub(silence),
            silent_before: silence.saturating_sub(now),
            received: (flags & UP != 0).then_some(received),
            limits: (flags & LIMITED != 0).then_some(limits_of(limits)),
            updating: flags & UPDATING != 0,
            events,
            waiting,
        };
        Ok((state, bytes.get(take.at..).unwrap_or_default()))
    }
}

/// | off | size | field |
/// |---|---|---|
/// | 0 | 4 | `SPC`, version 1 |
/// | 4 | 52 | the session |
/// | 56 | 2 | last id sent |
/// | 58 | 1 | last token |
/// | 59 | 1 | flags |
/// | 60 | 2 | last id received |
/// | 62 | 4 | milliseconds since the device was heard |
/// | 66 | 8 | dropped events |
/// | 74 | 2 | events counted against the limit |
/// | 76 | 4 | milliseconds since that count began |
/// | 80 | 14 | limits of the device, seven numbers |
/// | 94 | 2 | count of waiting requests |
/// | 96 | 10 each | id, token (present, value), kind, flags, milliseconds left |
/// | | | the beginning of a frame, to the end |
const MAGIC: [u8; 4] = *b"SPC\x01";
const HEAD_LEN: usize = 44 + SavedSession::LEN;
const WAITING_LEN: usize = 10;

const UP: u8 = 1;
const UPDATING: u8 = 2;
const LIMITED: u8 = 4;

const fn limit_fields(limits: Limits) -> [u16; 7] {
    let Limits {
        function_name,
        function_argument,
        variable_name,
        event_name,
        event_data,
        subscription,
        frame,
    } = limits;
    [function_name, function_argument, variable_name, event_name, event_data, subscription, frame]
}

const fn limits_of(fields: [u16; 7]) -> Limits {
    let [function_name, function_argument, variable_name, event_name, event_data, subscription, frame] =
        fields;
    Limits { function_name, function_argument, variable_name, event_name, event_data, subscription, frame }
}

fn millis(duration: Duration) -> [u8; 4] {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).to_be_bytes()
}

/// The buffer was measured before.
struct Put<'o> {
    out: &'o mut [u8],
    at: usize,
}

impl Put<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        if let Some(to) = self.out.get_mut(self.at..self.at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
        self.at += bytes.len();
    }
}

struct Take<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Take<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ImportError> {
        let found = self.bytes.len();
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let array = rest.first_chunk().ok_or(ImportError::Length { needed: self.at + N, found })?;
        self.at += N;
        Ok(*array)
    }

    fn millis(&mut self) -> Result<Duration, ImportError> {
        Ok(Duration::from_millis(u32::from_be_bytes(self.array()?).into()))
    }

    /// The field that began this many bytes ago has a value that is never written.
    const fn damaged(&self, back: usize) -> ImportError {
        ImportError::Field { offset: self.at - back }
    }
}
