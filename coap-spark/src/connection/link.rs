//! What both ends share: the sealed byte stream, ids, the queue of owed replies.

use crate::coap::{Token, Type};
use crate::handshake::Failure;
use crate::message::{DecodeError, EncodeError};
use crate::session::{
    FrameBuffer, FrameError, FrameLimit, LENGTH_PREFIX, Opener, SavedSession, SealError, Sealer, SessionKeys,
    Unsealed, sealed_len,
};
use core::time::Duration;
use zeroize::Zeroize;

/// Why a connection ended. Close the socket; the protocol has no goodbye for errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// No Hello came, or something else came first.
    #[error(transparent)]
    Handshake(#[from] Failure),
    /// The peer's frame cannot be opened.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The frame opens but holds no message of this protocol.
    #[error("malformed message from the peer")]
    Malformed(#[from] DecodeError),
    /// The peer's message id is neither the next nor in the tolerated window.
    #[error("message id {found:#06x} from the peer, {expected:#06x} was expected")]
    MessageId {
        /// The next id.
        expected: u16,
        /// The id that came.
        found: u16,
    },
    /// Nothing came for this long.
    #[error("nothing heard from the peer for {silence:?}")]
    Silent {
        /// How long.
        silence: Duration,
    },
}

/// Why a message was not sent. The connection is unharmed and no id was used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The message cannot be emitted.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The frame does not fit the buffer.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// As many requests as there is room for wait for their answers. Send it when one has come.
    #[error("{limit} requests wait for their answers, which is as many as there is room for")]
    TooManyRequests {
        /// The room.
        limit: usize,
    },
    /// A reply was to be sent as a message of its own; use `acknowledge` or `respond`.
    #[error("this message answers another one and is sent with the id of that")]
    Reply,
    /// Everybody's events were to be subscribed to without a name, which firmware refuses to send.
    #[error("a subscription to the events of everybody needs a name")]
    UnnamedFirehose,
    /// A message that has no answer was to be sent as a request.
    #[error("this message has no answer to wait for, send it without")]
    NoRequest,
    /// A server says Hello before anything else. Devices publish no events while a firmware update runs, and ask for the
    /// time once at a time.
    #[error("not now: {reason}")]
    Busy {
        /// What runs.
        reason: &'static str,
    },
    /// More events than firmware lets pass.
    #[error("too many events, the next may be sent at {due:?}")]
    TooManyEvents {
        /// When there is room again.
        due: Duration,
    },
    /// The peer would refuse a frame of this length.
    #[error("frame of {found} bytes, the peer takes at most {limit}")]
    FrameTooLong {
        /// Ciphertext length of the message.
        found: usize,
        /// The limit.
        limit: usize,
    },
}

/// A message that was sealed for sending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent<'o> {
    /// Its id.
    pub id: u16,
    /// Its token; the answer carries the same.
    pub token: Token,
    /// The bytes to write to the socket.
    pub bytes: &'o [u8],
}

/// Replies that the protocol owes, oldest first.
#[derive(Debug)]
pub(super) struct Owed<R> {
    queue: [Option<R>; 4],
}

impl<R: Copy> Owed<R> {
    pub(super) const fn new() -> Self {
        Self { queue: [None, None, None, None] }
    }

    /// One message owes one reply at the most and no input is taken while the queue is full, so a place is free.
    pub(super) fn push(&mut self, reply: R) {
        if let Some(place) = self.queue.iter_mut().find(|place| place.is_none()) {
            *place = Some(reply);
        }
    }

    pub(super) const fn first(&self) -> Option<R> {
        self.queue[0]
    }

    /// Forgets the first: it was sent.
    pub(super) const fn pop(&mut self) {
        self.queue[0] = None;
        self.queue.rotate_left(1);
    }

    pub(super) const fn is_full(&self) -> bool {
        self.queue[3].is_some()
    }
}

/// Largest ciphertexts.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameLimits {
    pub(super) sent: usize,
    pub(super) received: usize,
}

/// The last id and token used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counters {
    pub(super) id: u16,
    pub(super) token: u8,
}

/// Both directions of the sealed stream.
#[derive(Debug)]
pub(super) struct Link<const N: usize> {
    opener: Opener,
    sealer: Sealer,
    rx: FrameBuffer<N>,
    /// Length of the opened message in `rx`.
    message: Option<usize>,
    /// The message was not polled yet.
    fresh: bool,
    /// Limit for sent frames.
    pub(super) max_frame: usize,
    /// Own id counter: the last used.
    pub(super) last_id: u16,
    /// Own token counter: the last used.
    pub(super) last_token: u8,
    /// When the last frame came.
    pub(super) heard: Duration,
    /// How long nothing had come before this clock began.
    pub(super) silent_before: Duration,
}

impl<const N: usize> Link<N> {
    pub(super) fn new(keys: &SessionKeys, limits: FrameLimits, last: Counters, now: Duration) -> Self {
        Self::resumed((Sealer::new(keys), Opener::new(keys)), limits, last, now)
    }

    pub(super) fn resumed(
        (sealer, opener): (Sealer, Opener),
        limits: FrameLimits,
        last: Counters,
        now: Duration,
    ) -> Self {
        Self {
            opener,
            sealer,
            rx: FrameBuffer::with_limit(FrameLimit::new(limits.received)),
            message: None,
            fresh: false,
            max_frame: limits.sent,
            last_id: last.id,
            last_token: last.token,
            heard: now,
            silent_before: Duration::ZERO,
        }
    }

    /// Key and IVs.
    pub(super) fn saved(&self) -> SavedSession {
        SavedSession::of(&self.sealer, &self.opener)
    }

    /// A message is open and was not polled.
    pub(super) const fn has_message(&self) -> bool {
        self.fresh
    }

    /// What came of a frame that is not complete.
    pub(super) fn partial(&self) -> (&[u8], &[u8]) {
        if self.message.is_some() { (&[], &[]) } else { self.rx.partial() }
    }

    /// Puts the beginning of a frame back.
    pub(super) fn restore(&mut self, partial: &[u8]) -> Result<bool, FrameError> {
        Ok(self.rx.push(partial)? == partial.len() && self.rx.frame().is_none())
    }

    /// Silence is counted from now on.
    pub(super) const fn hear(&mut self, now: Duration) {
        (self.heard, self.silent_before) = (now, Duration::ZERO);
    }

    /// How long nothing has come.
    pub(super) const fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(self.heard).saturating_add(self.silent_before)
    }

    /// When the silence will have been as long as this.
    pub(super) const fn silent_for(&self, patience: Duration) -> Duration {
        self.heard.saturating_add(patience.saturating_sub(self.silent_before))
    }

    /// Takes bytes up to the end of one frame; `true` when a message is complete and open.
    pub(super) fn take(&mut self, now: Duration, input: &[u8]) -> Result<(usize, bool), FrameError> {
        if self.fresh {
            return Ok((0, false));
        }
        if self.message.take().is_some() {
            self.rx.clear();
        }
        let used = self.rx.push(input)?;
        let Some(body) = self.rx.frame() else { return Ok((used, false)) };
        let len = self.opener.open_in_place(body)?;
        self.message = Some(len);
        self.fresh = true;
        self.hear(now);
        Ok((used, true))
    }

    /// The open message, whether polled or not.
    pub(super) fn message(&self) -> Option<&[u8]> {
        self.message.map(|len| self.rx.opened(len))
    }

    /// The open message, once.
    pub(super) fn poll(&mut self) -> Option<&[u8]> {
        if core::mem::take(&mut self.fresh) { self.message() } else { None }
    }

    /// The message is for the connection itself.
    pub(super) const fn swallow(&mut self) {
        self.fresh = false;
    }

    /// Encodes through `encode` and seals. Ids and tokens are counted by the caller, after success.
    pub(super) fn seal<'o>(
        &mut self,
        encode: impl FnOnce(&mut [u8]) -> Result<usize, EncodeError>,
        out: &'o mut [u8],
    ) -> Result<&'o [u8], SendError> {
        let len = self.encode(encode, out)?;
        self.seal_encoded(out, len)
    }

    /// Puts a message where its frame will be, if that can be sealed; what cannot be is not left behind.
    pub(super) fn encode(
        &self,
        encode: impl FnOnce(&mut [u8]) -> Result<usize, EncodeError>,
        out: &mut [u8],
    ) -> Result<usize, SendError> {
        let available = out.len();
        let body = out
            .get_mut(LENGTH_PREFIX..)
            .ok_or(SealError::BufferTooSmall { needed: LENGTH_PREFIX + 16, available })?;
        let len = encode(body)?;
        let needed = sealed_len(len);
        let found = needed - LENGTH_PREFIX;
        let error = if found > self.max_frame {
            SendError::FrameTooLong { found, limit: self.max_frame }
        } else if needed > available {
            SealError::BufferTooSmall { needed, available }.into()
        } else {
            return Ok(len);
        };
        body.zeroize();
        Err(error)
    }

    /// Seals what was encoded.
    /// Seals messages that lie where their frames will be, in this order.
    pub(super) fn seal_batch(&mut self, frames: &mut [Unsealed<'_>]) -> Result<(), SendError> {
        Ok(self.sealer.seal_batch(frames)?)
    }

    pub(super) fn seal_encoded<'o>(&mut self, out: &'o mut [u8], len: usize) -> Result<&'o [u8], SendError> {
        Ok(self.sealer.seal_in_place(out, len)?)
    }
}

/// Type of a reply to a message of this type.
pub(super) const fn is_counted(kind: Type) -> bool {
    matches!(kind, Type::Confirmable | Type::NonConfirmable)
}
