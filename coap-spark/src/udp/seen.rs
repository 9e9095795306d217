//! Confirmable messages of the peer, and what was replied.

use crate::coap::Type;
use core::time::Duration;

/// One message of the peer.
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: u16,
    at: Duration,
    answered: bool,
    /// Its reply waits to be sent.
    owed: bool,
}

/// A reply that is more than an empty acknowledgement.
#[derive(Clone, Copy, Debug)]
struct Reply<const MESSAGE: usize> {
    id: u16,
    at: Duration,
    bytes: [u8; MESSAGE],
    len: usize,
}

/// What a message of the peer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Arrival {
    New,
    /// It was there before; whether a reply goes out again.
    Again {
        answered: bool,
    },
    /// No room to remember it.
    Full,
}

/// Bounded memory of messages and replies. An entry is free once it is as old as the span.
#[derive(Debug)]
pub(super) struct Seen<const MESSAGE: usize, const SEEN: usize, const REPLIES: usize> {
    span: Duration,
    entries: [Option<Entry>; SEEN],
    replies: [Option<Reply<MESSAGE>>; REPLIES],
}

impl<const MESSAGE: usize, const SEEN: usize, const REPLIES: usize> Seen<MESSAGE, SEEN, REPLIES> {
    pub(super) const fn new(span: Duration) -> Self {
        Self { span, entries: [const { None }; SEEN], replies: [const { None }; REPLIES] }
    }

    /// Remembers a message that came, or asks for its reply again.
    pub(super) fn arrive(&mut self, now: Duration, id: u16) -> Arrival {
        for slot in &mut self.entries {
            // One whose reply was not fetched yet stays.
            if slot.is_some_and(|entry| !entry.owed && now >= entry.at.saturating_add(self.span)) {
                *slot = None;
            }
        }
        if let Some(entry) = self.entries.iter_mut().flatten().find(|entry| entry.id == id) {
            entry.owed = entry.answered;
            return Arrival::Again { answered: entry.answered };
        }
        let Some(slot) = self.entries.iter_mut().find(|slot| slot.is_none()) else { return Arrival::Full };
        *slot = Some(Entry { id, at: now, answered: false, owed: false });
        // The id may have had a reply in its former life.
        for slot in &mut self.replies {
            if slot.as_ref().is_some_and(|reply| reply.id == id) {
                *slot = None;
            }
        }
        Arrival::New
    }

    pub(super) fn knows(&self, id: u16) -> bool {
        self.entries.iter().flatten().any(|entry| entry.id == id)
    }

    /// Owes an empty acknowledgement. `false` if there is no such message.
    pub(super) fn acknowledge(&mut self, id: u16) -> bool {
        let Some(entry) = self.entries.iter_mut().flatten().find(|entry| entry.id == id) else {
            return false;
        };
        (entry.answered, entry.owed) = (true, true);
        true
    }

    /// Forgets a message that nothing was replied to. `false` if there is no such message.
    pub(super) fn forget(&mut self, id: u16) -> bool {
        let entry = |slot: &&mut Option<Entry>| slot.is_some_and(|entry| entry.id == id && !entry.answered);
        self.entries.iter_mut().find(entry).and_then(Option::take).is_some()
    }

    /// Keeps a longer reply to a message that is known, in place of the oldest one whose own was sent.
    /// `false` if it is too long or all replies still wait.
    pub(super) fn keep(&mut self, id: u16, bytes: &[u8]) -> bool {
        let Some(at) = self.entries.iter().flatten().find(|entry| entry.id == id).map(|entry| entry.at)
        else {
            return false;
        };
        let mut buffer = [0; MESSAGE];
        let Some(part) = buffer.get_mut(..bytes.len()) else { return false };
        part.copy_from_slice(bytes);
        let entries = &self.entries;
        let waits = |reply: &Reply<MESSAGE>| {
            reply.id != id && entries.iter().flatten().any(|entry| entry.id == reply.id && entry.owed)
        };
        let rank = |slot: &Option<Reply<MESSAGE>>| match slot {
            Some(reply) if reply.id == id => (0, Duration::ZERO),
            None => (1, Duration::ZERO),
            Some(reply) => (2, reply.at),
        };
        let slots = self.replies.iter_mut().filter(|slot| !slot.as_ref().is_some_and(waits));
        let Some(slot) = slots.min_by_key(|slot| rank(slot)) else { return false };
        *slot = Some(Reply { id, at, bytes: buffer, len: bytes.len() });
        true
    }

    /// The next reply that is owed: kept bytes, or an empty acknowledgement. Forgotten when `write` took it.
    pub(super) fn poll<R>(
        &mut self,
        write: impl FnOnce(&[u8]) -> Result<R, usize>,
    ) -> Option<Result<R, usize>> {
        let entry = self.entries.iter_mut().flatten().find(|entry| entry.owed)?;
        let kept = self.replies.iter().flatten().find(|reply| reply.id == entry.id);
        let [high, low] = entry.id.to_be_bytes();
        let empty = [0x40 | (Type::Acknowledgement as u8) << 4, 0, high, low];
        let result = write(kept.and_then(|reply| reply.bytes.get(..reply.len)).unwrap_or(&empty));
        entry.owed = result.is_err();
        Some(result)
    }
}
