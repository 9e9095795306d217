//! Messages that wait for an answer, and the rules by which an answer finds its message.

use super::link::SendError;
use crate::coap::{Code, Token, Type};
use core::time::Duration;

/// A message of ours that waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Waiting<K> {
    /// Its id.
    pub id: u16,
    /// Its token, if it had one.
    pub token: Option<u8>,
    /// What it asked for.
    pub kind: K,
    /// When its time is over.
    pub deadline: Duration,
    /// An empty acknowledgement came; the answer follows.
    pub acknowledged: bool,
    /// An answer came; more may follow. Only for requests that have several answers.
    pub answered: bool,
    /// Its time is over; it waits to be told.
    pub(super) expired: bool,
}

impl<K> Waiting<K> {
    pub(super) const fn new(id: u16, token: Option<u8>, kind: K, deadline: Duration) -> Self {
        Self { id, token, kind, deadline, acknowledged: false, answered: false, expired: false }
    }
}

/// What came for a message of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Answers<K> {
    /// The message's id.
    pub id: u16,
    /// Its token.
    pub token: Option<u8>,
    /// What it asked for.
    pub kind: K,
    /// `false` for an acknowledgement that announces the answer.
    pub is_answer: bool,
}

/// How a kind of message is answered.
pub(super) trait Kind: Copy + PartialEq {
    /// An empty acknowledgement is all the answer there is.
    fn ends_with_acknowledgement(self) -> bool;
    /// Several answers may come.
    fn has_several_answers(self) -> bool;
    /// Some firmware acknowledges it with an id of its own.
    fn may_lose_its_id(self) -> bool;
}

/// Up to `P` messages that wait, the oldest first.
#[derive(Clone, Debug)]
pub(super) struct Table<K, const P: usize> {
    places: [Option<Waiting<K>>; P],
}

/// An answer, and whether the acknowledgement had an id of the sender's own instead of the message's.
pub(super) struct Resolved<K> {
    pub(super) answers: Answers<K>,
    pub(super) has_own_id: bool,
}

impl<K: Kind, const P: usize> Table<K, P> {
    pub(super) const fn new() -> Self {
        Self { places: [const { None }; P] }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Waiting<K>> {
        self.places.iter().flatten()
    }

    pub(super) fn has_token(&self, token: u8) -> bool {
        self.iter().any(|waiting| waiting.token == Some(token))
    }

    /// A message that was answered already gives its place up.
    pub(super) fn room(&self) -> Result<(), SendError> {
        if self.iter().filter(|waiting| !waiting.answered).count() < P {
            Ok(())
        } else {
            Err(SendError::TooManyRequests { limit: P })
        }
    }

    /// There is room, see [`Table::room`].
    pub(super) fn insert(&mut self, waiting: Waiting<K>) {
        if self.iter().count() == P
            && let Some(spent) = self.position(|other| other.answered)
        {
            self.remove(spent);
        }
        if let Some(place) = self.places.iter_mut().find(|place| place.is_none()) {
            *place = Some(waiting);
        }
    }

    /// Where the oldest is for which this holds.
    fn position(&self, holds: impl Fn(&Waiting<K>) -> bool) -> Option<usize> {
        self.iter().position(holds)
    }

    /// Takes one out; the younger ones move up.
    fn remove(&mut self, at: usize) -> Option<Waiting<K>> {
        let rest = self.places.get_mut(at..)?;
        let waiting = rest.first_mut()?.take();
        rest.rotate_left(1);
        waiting
    }

    /// Finds the message that this one answers. An acknowledgement or reset with the id of a message without a token is
    /// meant for it, whatever token it carries: one server refuses so. Then the token counts, then the id, and then, for
    /// those that firmware acknowledges with an id of its own, the order, if `may_be_own_id`.
    pub(super) fn resolve(
        &mut self,
        kind: Type,
        code: Code,
        id: u16,
        token: Token,
        may_be_own_id: bool,
    ) -> Option<Resolved<K>> {
        let is_reply = matches!(kind, Type::Acknowledgement | Type::Reset);
        let is_empty_ack = kind == Type::Acknowledgement && code == Code::EMPTY;
        let of_id = |waiting: &Waiting<K>| is_reply && waiting.id == id;
        let of_token = |waiting: &Waiting<K>| {
            code != Code::EMPTY && waiting.token.is_some() && waiting.token == token.as_byte()
        };
        let by_order = |waiting: &Waiting<K>| {
            is_empty_ack && may_be_own_id && waiting.kind.may_lose_its_id() && !waiting.expired
        };
        let at = self
            .position(|waiting| of_id(waiting) && waiting.token.is_none())
            .or_else(|| self.position(of_token))
            .or_else(|| self.position(of_id))
            .or_else(|| self.position(by_order))?;
        let waiting = self.places.get_mut(at)?.as_mut()?;
        let answers = Answers {
            id: waiting.id,
            token: waiting.token,
            kind: waiting.kind,
            is_answer: !is_empty_ack || waiting.kind.ends_with_acknowledgement(),
        };
        let has_own_id = is_reply && waiting.id != id;
        if !answers.is_answer {
            waiting.acknowledged = true;
        } else if code.is_success() && waiting.kind.has_several_answers() {
            waiting.answered = true;
        } else {
            self.remove(at);
        }
        Some(Resolved { answers, has_own_id })
    }

    /// The next time at which [`Table::look_at_clock`] finds something.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.iter().filter(|waiting| !waiting.expired).map(|waiting| waiting.deadline).min()
    }

    /// Finds those whose time is over. What was answered leaves, the rest waits to be told.
    pub(super) fn look_at_clock(&mut self, now: Duration) {
        while let Some(at) = self.position(|waiting| waiting.answered && now >= waiting.deadline) {
            self.remove(at);
        }
        for waiting in self.places.iter_mut().flatten() {
            waiting.expired |= now >= waiting.deadline;
        }
    }

    /// Takes a message out whose time is over and that was never answered. Call until `None`.
    pub(super) fn expire(&mut self, now: Duration) -> Option<Waiting<K>> {
        self.look_at_clock(now);
        let at = self.position(|waiting| waiting.expired)?;
        self.remove(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Test {
        Once,
        Acknowledged,
        Several,
    }

    impl Kind for Test {
        fn ends_with_acknowledgement(self) -> bool {
            self == Self::Acknowledged
        }

        fn has_several_answers(self) -> bool {
            self == Self::Several
        }

        fn may_lose_its_id(self) -> bool {
            self == Self::Acknowledged
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn waiting(id: u16, token: Option<u8>, kind: Test, deadline: Duration) -> Waiting<Test> {
        Waiting::new(id, token, kind, deadline)
    }

    fn answer(
        table: &mut Table<Test, 3>,
        kind: Type,
        code: Code,
        id: u16,
        token: Option<u8>,
    ) -> Option<(u16, bool)> {
        let token = token.map_or(Token::EMPTY, Token::byte);
        table.resolve(kind, code, id, token, true).map(|found| (found.answers.id, found.answers.is_answer))
    }

    #[test]
    fn answers_are_found_by_token_then_id_then_order() {
        use Type::{Acknowledgement as Ack, NonConfirmable as Non, Reset};
        let mut table = Table::new();
        table.insert(waiting(1, Some(7), Test::Once, SECOND));
        table.insert(waiting(2, None, Test::Acknowledged, SECOND * 2));
        table.insert(waiting(3, None, Test::Acknowledged, SECOND * 3));
        assert!(matches!(table.room(), Err(SendError::TooManyRequests { limit: 3 })));
        assert_eq!(answer(&mut table, Ack, Code::EMPTY, 1, None), Some((1, false)), "the answer follows");
        assert_eq!(answer(&mut table, Non, Code::CHANGED, 1, Some(8)), None, "another token");
        assert_eq!(answer(&mut table, Non, Code::CHANGED, 99, Some(7)), Some((1, true)), "any id");
        assert_eq!(answer(&mut table, Non, Code::CHANGED, 99, Some(7)), None, "once");
        assert_eq!(answer(&mut table, Reset, Code::EMPTY, 3, None), Some((3, true)));
        assert_eq!(answer(&mut table, Non, Code::EMPTY, 50, None), None);
        assert_eq!(
            answer(&mut table, Ack, Code::EMPTY, 50, None),
            Some((2, true)),
            "an id of the device's own"
        );
        assert_eq!(answer(&mut table, Ack, Code::EMPTY, 50, None), None);
    }

    #[test]
    fn a_refusal_without_a_token_ends_the_request() {
        let mut table = Table::<_, 3>::new();
        table.insert(waiting(1, Some(7), Test::Once, SECOND));
        assert_eq!(answer(&mut table, Type::Acknowledgement, Code::BAD_REQUEST, 1, None), Some((1, true)));
        assert_eq!(table.iter().count(), 0);
    }

    #[test]
    fn a_request_with_several_answers_keeps_its_place_until_it_is_needed() {
        let mut table = Table::<_, 3>::new();
        table.insert(waiting(1, Some(7), Test::Several, SECOND));
        for _ in 0..2 {
            assert_eq!(
                answer(&mut table, Type::Acknowledgement, Code::CONTENT, 40_000, Some(7)),
                Some((1, true))
            );
        }
        for id in 2..5 {
            table.room().unwrap();
            table.insert(waiting(id, Some(id.to_le_bytes()[0]), Test::Once, SECOND));
        }
        assert!(!table.has_token(7) && table.has_token(4) && table.room().is_err());
    }

    #[test]
    fn only_what_was_not_answered_expires() {
        let mut table = Table::<_, 3>::new();
        table.insert(waiting(1, Some(7), Test::Several, SECOND));
        table.insert(waiting(2, Some(8), Test::Once, SECOND * 2));
        assert_eq!(table.next_deadline(), Some(SECOND));
        answer(&mut table, Type::Acknowledgement, Code::CONTENT, 1, Some(7));
        assert_eq!(table.expire(SECOND / 2), None);
        assert_eq!(table.expire(SECOND * 2).map(|waiting| waiting.id), Some(2));
        assert_eq!(table.expire(SECOND * 2), None);
        assert_eq!((table.iter().count(), table.next_deadline()), (0, None));
    }
}
