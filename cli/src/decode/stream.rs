//! One direction of a TCP connection, put in order.

use std::collections::VecDeque;

/// Segments that are kept until those before them come.
const MAX_AHEAD: usize = 256;
/// Bytes in them. The devices' windows are some kilobytes.
const MAX_AHEAD_BYTES: usize = 64 * 1024;
/// Packets of the connection that may pass after the peer acknowledged a segment that the capture has not shown yet: captures
/// of several queues are a little out of order.
const PATIENCE: u32 = 16;

/// What comes next in the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    /// Bytes.
    Data(Vec<u8>),
    /// So many bytes are not in the capture.
    Gap(u64),
}

/// Puts segments in order: what comes early waits, what comes twice is dropped, and of overlapping segments the first
/// counts. Sequence numbers wrap.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The next sequence number; unknown until the first segment.
    next: Option<u32>,
    /// Segments that begin behind it, nearest first.
    ahead: VecDeque<(u32, Vec<u8>)>,
    ahead_bytes: usize,
    /// Packets since the peer acknowledged more than is here.
    overdue: u32,
}

impl Stream {
    /// The connection begins here.
    pub(super) const fn begin(&mut self, syn: u32) {
        self.next = Some(syn.wrapping_add(1));
    }

    /// Nothing was seen yet.
    pub(super) const fn is_new(&self) -> bool {
        self.next.is_none()
    }

    /// Whether a SYN with this number begins what is here already.
    pub(super) fn began_with(&self, syn: u32) -> bool {
        // Seen again before anything else.
        self.next == Some(syn.wrapping_add(1))
    }

    /// Nothing waits for what is missing before it.
    pub(super) fn is_complete(&self) -> bool {
        self.ahead.is_empty()
    }

    /// Takes a segment.
    pub(super) fn push(&mut self, seq: u32, payload: &[u8], out: &mut Vec<Piece>) {
        if payload.is_empty() {
            return;
        }
        let next = *self.next.get_or_insert(seq);
        let distance = distance(next, seq);
        if distance <= 0 {
            self.take(distance, payload, out);
            self.drain(out);
            return;
        }
        let at = self.ahead.iter().position(|(other, _)| self::distance(seq, *other) >= 0);
        let at = at.unwrap_or(self.ahead.len());
        let is_known =
            self.ahead.get(at).is_some_and(|(other, held)| *other == seq && held.len() >= payload.len());
        if is_known {
            return;
        }
        self.ahead.insert(at, (seq, payload.to_vec()));
        self.ahead_bytes += payload.len();
        while self.ahead.len() > MAX_AHEAD || self.ahead_bytes > MAX_AHEAD_BYTES {
            self.skip(out);
        }
    }

    /// The peer has everything up to here: what is missing before it is not merely late.
    pub(super) fn acknowledged(&mut self, ack: u32, out: &mut Vec<Piece>) {
        let is_behind = self.next.is_some_and(|next| distance(next, ack) > 0);
        if !is_behind || self.ahead.is_empty() {
            self.overdue = 0;
            return;
        }
        self.overdue += 1;
        if self.overdue > PATIENCE {
            self.skip(out);
        }
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self, out: &mut Vec<Piece>) {
        while !self.ahead.is_empty() {
            self.skip(out);
        }
    }

    /// Gives up what is missing before the nearest segment.
    fn skip(&mut self, out: &mut Vec<Piece>) {
        self.overdue = 0;
        let (Some(next), Some((seq, _))) = (self.next, self.ahead.front()) else { return };
        if let Ok(missing) = u64::try_from(distance(next, *seq))
            && missing > 0
        {
            out.push(Piece::Gap(missing));
        }
        self.next = Some(*seq);
        self.drain(out);
    }

    /// Takes what is no longer early.
    fn drain(&mut self, out: &mut Vec<Piece>) {
        while let (Some(next), Some((seq, _))) = (self.next, self.ahead.front()) {
            let distance = distance(next, *seq);
            if distance > 0 {
                return;
            }
            if let Some((_, payload)) = self.ahead.pop_front() {
                self.ahead_bytes = self.ahead_bytes.saturating_sub(payload.len());
                self.take(distance, &payload, out);
            }
        }
    }

    /// Takes a segment that begins at the next byte or before it.
    fn take(&mut self, distance: i32, payload: &[u8], out: &mut Vec<Piece>) {
        let known = usize::try_from(distance.unsigned_abs()).unwrap_or(usize::MAX);
        let Some(fresh) = payload.get(known..).filter(|fresh| !fresh.is_empty()) else { return };
        let len = u32::try_from(fresh.len()).unwrap_or(u32::MAX);
        self.next = self.next.map(|next| next.wrapping_add(len));
        out.push(Piece::Data(fresh.to_vec()));
    }
}

/// How far `to` is behind `from`, over the end of the numbers.
const fn distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn joined(pieces: &[Piece]) -> Vec<u8> {
        let data = pieces.iter().map(|piece| match piece {
            Piece::Data(bytes) => bytes.clone(),
            Piece::Gap(len) => panic!("a gap of {len}"),
        });
        data.flatten().collect()
    }

    #[test]
    fn early_repeated_and_overlapping_segments_give_each_byte_once() {
        let mut stream = Stream::default();
        let mut out = Vec::new();
        // The numbers wrap in the middle of it.
        stream.begin(u32::MAX - 4);
        let at = |offset: u32| (u32::MAX - 3).wrapping_add(offset);
        stream.push(at(6), b"ghi", &mut out);
        stream.push(at(2), b"cdef", &mut out);
        assert_eq!(out, []);
        stream.push(at(0), b"abcXX", &mut out);
        stream.push(at(0), b"abc", &mut out);
        stream.push(at(7), b"hij", &mut out);
        // Of the overlapping ones the first in order counts.
        assert_eq!(joined(&out), b"abcXXfghij");
    }

    #[test]
    fn hole_is_told_when_it_was_acknowledged_and_patience_is_over() {
        let mut stream = Stream::default();
        let mut out = Vec::new();
        stream.begin(99);
        stream.push(110, b"later", &mut out);
        for _ in 0..PATIENCE {
            stream.acknowledged(115, &mut out);
        }
        assert_eq!(out, []);
        stream.acknowledged(115, &mut out);
        assert_eq!(out, [Piece::Gap(10), Piece::Data(b"later".to_vec())]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut stream = Stream::default();
        let mut out = Vec::new();
        stream.begin(0);
        for at in 0..10_000_u32 {
            stream.push(10 + at * 1400, &[7; 1300], &mut out);
            assert!(stream.ahead.len() <= MAX_AHEAD && stream.ahead_bytes <= MAX_AHEAD_BYTES);
        }
        assert_eq!(out.first(), Some(&Piece::Gap(9)));
    }

    proptest! {
        #[test]
        fn any_order_of_all_segments_gives_the_stream(
            bytes in proptest::collection::vec(any::<u8>(), 1..600),
            cuts in proptest::collection::vec((any::<prop::sample::Index>(), 1_usize..50), 0..30),
            start: u32,
            seed: u64,
        ) {
            let mut segments: Vec<(usize, usize)> = (0..bytes.len()).step_by(40).map(|at| (at, 40)).collect();
            segments.extend(cuts.iter().map(|(at, len)| (at.index(bytes.len()), *len)));
            let mut order = seed;
            for at in (1..segments.len()).rev() {
                order = order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                segments.swap(at, usize::try_from(order >> 33).unwrap() % (at + 1));
            }
            let mut stream = Stream::default();
            let mut out = Vec::new();
            stream.begin(start);
            for (at, len) in segments {
                let seq = start.wrapping_add(1).wrapping_add(u32::try_from(at).unwrap());
                stream.push(seq, &bytes[at..(at + len).min(bytes.len())], &mut out);
            }
            stream.end(&mut out);
            prop_assert_eq!(joined(&out), bytes);
        }
    }
}
