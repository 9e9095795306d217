//! Confirmable messages of ours that wait for their acknowledgement.

use super::Timing;
use crate::coap::{Message, Token};
use core::time::Duration;

#[derive(Debug)]
pub(super) struct Pending<const MESSAGE: usize> {
    pub(super) id: u16,
    /// Of a request: the response may come without an acknowledgement before.
    token: Token,
    bytes: [u8; MESSAGE],
    len: usize,
    /// Sendings so far.
    pub(super) sends: u8,
    random: u8,
    /// When the answer should be there; `None` while it waits to be sent.
    pub(super) due: Option<Duration>,
}

impl<const MESSAGE: usize> Pending<MESSAGE> {
    /// `None` if the message is longer than the buffer.
    pub(super) fn new(message: &Message<'_>, bytes: &[u8], random: u8) -> Option<Self> {
        let mut buffer = [0; MESSAGE];
        buffer.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let token = if message.code().is_request() { message.token() } else { Token::EMPTY };
        Some(Self { id: message.id(), token, bytes: buffer, len: bytes.len(), sends: 0, random, due: None })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub(super) fn sent(&mut self, now: Duration, timing: &Timing) {
        self.due = Some(now.saturating_add(timing.wait(self.sends, self.random)));
        self.sends = self.sends.saturating_add(1);
    }

    pub(super) const fn repeat(&mut self, random: u8) {
        self.random = random;
        self.due = None;
    }

    /// Whether a message of the peer answers this request, which then needs no acknowledgement any more.
    pub(super) fn is_answered_by(&self, message: &Message<'_>) -> bool {
        message.code().class() >= 2 && !self.token.is_empty() && self.token == message.token()
    }
}
