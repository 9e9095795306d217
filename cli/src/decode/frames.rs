//! One direction's bytes after the handshake: frames, opened with the session bytes.
//!
//! The length before each frame is all that marks its beginning. After lost bytes the next beginning is known if they
//! were inside one frame. Otherwise it is searched for: a place where two frames follow each other and the second opens
//! and holds a message, which random bytes do one time in 10^9. A frame's IV is the beginning of the frame before it,
//! so that of the first frame behind lost bytes the first 16 bytes cannot be read, unless the beginning of the
//! lost frame is there.

use super::Speaker;
use coap_spark::coap::{Message, ParseOptions};
use coap_spark::message::{Envelope, FromDevice, FromServer};
use coap_spark::session::{LENGTH_PREFIX, Opener, SessionKeys};
use std::rc::Rc;

/// Longest ciphertext of a frame; devices take 800 bytes, servers are sent no more.
pub(super) const MAX_FRAME: usize = 4096;
/// Bytes that are kept until the session bytes are known.
const MAX_HELD: usize = 16 * 1024;
/// One AES block: what cannot be read behind lost bytes.
pub(super) const BLOCK: usize = 16;

/// What is found in the bytes.
#[derive(Debug)]
pub(super) enum Found {
    /// A frame that opened.
    Message(Frame),
    /// The first frame behind lost bytes: all but the first 16 bytes of its message, or nothing of a shorter one.
    Garbled(Frame),
    /// A frame that does not open.
    Corrupt(Frame),
    /// A frame of which bytes are not in the capture.
    Lost { frame: u64, offset: u64 },
    /// A length that no frame has.
    BadLength { offset: u64, length: usize },
    /// After lost bytes or a bad length, frames were found again behind so many bytes.
    Resumed { offset: u64, skipped: u64 },
    /// Bytes at the end in which no frame was found, or not all of one.
    Left { offset: u64, bytes: u64, reason: Left },
}

/// Why bytes are left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Left {
    /// The last frame is not complete.
    Incomplete,
    /// Behind lost bytes no beginning of a frame was found.
    NoBeginning,
    /// The session bytes are not known.
    NoSession,
}

/// A frame.
#[derive(Debug)]
pub(super) struct Frame {
    /// Counted from 1, those of which is known that they are missing too.
    pub(super) number: u64,
    /// Of its length prefix in the direction's bytes, the handshake included.
    pub(super) offset: u64,
    pub(super) plaintext: Vec<u8>,
    pub(super) ciphertext: Vec<u8>,
}

/// Whether session bytes fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Choice {
    /// These do, and frames begin here; from the start of the session or not.
    Fits { candidate: usize, at: usize, from_start: bool },
    /// More bytes are needed.
    NotYet,
    /// None of them opens the first frame.
    None,
}

enum State {
    /// No session bytes yet.
    Held,
    /// At the beginning of a frame. The first `skip` bytes belong to one that is lost.
    InStep { skip: usize },
    /// Looking for a beginning; this many bytes were passed over.
    Searching { skipped: u64 },
    /// No session bytes will come.
    Given,
}

/// One direction.
pub(super) struct Frames {
    speaker: Speaker,
    state: State,
    /// Bytes not taken yet; the first is at `offset`.
    buffer: Vec<u8>,
    offset: u64,
    /// The session starts with the buffer's first byte.
    at_start: bool,
    keys: Option<(Rc<SessionKeys>, Opener)>,
    /// The IV of the next frame is not known.
    is_garbled: bool,
    number: u64,
    /// Bytes that were given up without session bytes, and where they began.
    given: u64,
    given_at: u64,
}

impl Frames {
    /// A direction whose bytes begin here: at the start of the session, or somewhere in it.
    pub(super) const fn new(speaker: Speaker, offset: u64, at_start: bool) -> Self {
        Self {
            speaker,
            state: State::Held,
            buffer: Vec::new(),
            offset,
            at_start,
            keys: None,
            is_garbled: !at_start,
            number: 0,
            given: 0,
            given_at: offset,
        }
    }

    /// Frames found so far.
    pub(super) const fn count(&self) -> u64 {
        self.number
    }

    /// Whether bytes wait for session bytes.
    pub(super) const fn is_waiting(&self) -> bool {
        matches!(self.state, State::Held) && !self.buffer.is_empty()
    }

    /// Which of these session bytes fit. `lead` is what may be before the first frame of raw bytes.
    pub(super) fn choose(&self, candidates: &[Rc<SessionKeys>], lead: usize, ended: bool) -> Choice {
        let mut verdict = Choice::None;
        let starts: &[usize] = if lead == 0 { &[0] } else { &[0, lead] };
        for &at in starts {
            let bytes = self.buffer.get(at..).unwrap_or_default();
            let first = match first_frame(bytes) {
                First::Frame(body) => body,
                First::NotYet => {
                    verdict = Choice::NotYet;
                    continue;
                }
                First::Bad => continue,
            };
            for (candidate, keys) in candidates.iter().enumerate() {
                if begins_session(self.speaker, keys, first) {
                    return Choice::Fits { candidate, at, from_start: true };
                }
            }
        }
        // Bytes of one direction may be from anywhere in it.
        if lead == 0 && self.at_start {
            return if ended { Choice::None } else { verdict };
        }
        for (candidate, keys) in candidates.iter().enumerate() {
            match self.search(keys, 0, ended) {
                Search::Begins(at) => return Choice::Fits { candidate, at, from_start: false },
                Search::Undecided(_) => verdict = Choice::NotYet,
            }
        }
        if ended { Choice::None } else { verdict }
    }

    /// These session bytes are the right ones.
    pub(super) fn set_keys(
        &mut self,
        keys: &Rc<SessionKeys>,
        chosen: Option<(usize, bool)>,
        out: &mut Vec<Found>,
    ) {
        self.keys = Some((Rc::clone(keys), Opener::new(keys)));
        let (at, from_start) = chosen.unwrap_or((0, self.at_start));
        self.is_garbled = !from_start;
        if at > 0 && !from_start {
            out.push(Found::Resumed { offset: self.offset + at as u64, skipped: at as u64 });
        }
        self.drop_front(at);
        self.state = if from_start || chosen.is_some() {
            State::InStep { skip: 0 }
        } else {
            State::Searching { skipped: 0 }
        };
        self.work(false, out);
    }

    /// There are no session bytes for this connection.
    pub(super) fn give_up(&mut self) {
        self.give_buffer();
        self.state = State::Given;
    }

    fn give_buffer(&mut self) {
        if self.given == 0 {
            self.given_at = self.offset;
        }
        self.given += self.buffer.len() as u64;
        self.drop_front(self.buffer.len());
    }

    /// Takes bytes.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<Found>) {
        self.buffer.extend_from_slice(bytes);
        match self.state {
            State::Held if self.buffer.len() > MAX_HELD => {
                self.give_buffer();
                self.at_start = false;
            }
            State::Held => {}
            State::Given => self.give_buffer(),
            State::InStep { .. } | State::Searching { .. } => self.work(false, out),
        }
    }

    /// So many bytes are not there.
    pub(super) fn gap(&mut self, len: u64, out: &mut Vec<Found>) {
        let have = self.buffer.len();
        match self.state {
            State::Held | State::Given => {
                self.give_buffer();
                self.at_start = false;
            }
            State::Searching { skipped } => {
                self.drop_front(have);
                self.state = State::Searching { skipped: skipped + have as u64 };
            }
            State::InStep { skip } if skip as u64 >= len => {
                self.state = State::InStep { skip: skip - usize::try_from(len).unwrap_or(0) };
            }
            State::InStep { .. } => self.gap_in_step(len, out),
        }
        self.offset += len;
    }

    fn gap_in_step(&mut self, len: u64, out: &mut Vec<Found>) {
        let have = self.buffer.len();
        let total = prefix(&self.buffer).map(|length| LENGTH_PREFIX + length);
        let after = total.and_then(|total| (total as u64).checked_sub(have as u64 + len));
        self.state = match after.and_then(|after| usize::try_from(after).ok()) {
            Some(after) => {
                self.number += 1;
                out.push(Found::Lost { frame: self.number, offset: self.offset });
                let first: Option<[u8; BLOCK]> =
                    self.buffer.get(LENGTH_PREFIX..).and_then(|body| body.first_chunk()).copied();
                match (first, &mut self.keys) {
                    (Some(mut first), Some((_, opener))) => {
                        // Only to move the IV; whether it opens does not matter.
                        let _ = opener.open_in_place(&mut first);
                        self.is_garbled = false;
                    }
                    _ => self.is_garbled = true,
                }
                State::InStep { skip: after }
            }
            None => {
                self.is_garbled = true;
                State::Searching { skipped: have as u64 }
            }
        };
        self.drop_front(have);
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self, out: &mut Vec<Found>) {
        self.work(true, out);
        let mut left = |offset, bytes, reason| {
            if bytes > 0 {
                out.push(Found::Left { offset, bytes, reason });
            }
        };
        left(self.given_at, self.given, Left::NoSession);
        let (reason, before) = match self.state {
            State::Held | State::Given => (Left::NoSession, 0),
            State::InStep { .. } => (Left::Incomplete, 0),
            State::Searching { skipped } => (Left::NoBeginning, skipped),
        };
        left(self.offset.saturating_sub(before), self.buffer.len() as u64 + before, reason);
        self.drop_front(self.buffer.len());
        self.given = 0;
        self.state = State::Given;
    }

    fn work(&mut self, ended: bool, out: &mut Vec<Found>) {
        loop {
            match self.state {
                State::Held | State::Given => return,
                State::InStep { skip } if skip > 0 => {
                    let now = skip.min(self.buffer.len());
                    self.drop_front(now);
                    self.state = State::InStep { skip: skip - now };
                    if now < skip {
                        return;
                    }
                }
                State::InStep { .. } => match first_frame(&self.buffer) {
                    First::NotYet => return,
                    First::Frame(body) => {
                        let body = body.to_vec();
                        self.open(body, out);
                    }
                    First::Bad => {
                        let length =
                            self.buffer.first_chunk().map_or(0, |prefix| u16::from_be_bytes(*prefix));
                        out.push(Found::BadLength { offset: self.offset, length: length.into() });
                        self.is_garbled = true;
                        self.drop_front(1);
                        self.state = State::Searching { skipped: 1 };
                    }
                },
                State::Searching { skipped } => {
                    let Some((keys, _)) = &self.keys else { return };
                    let found = self.search(&Rc::clone(keys), 0, ended);
                    let (Search::Begins(at) | Search::Undecided(at)) = found;
                    self.drop_front(at);
                    let skipped = skipped + at as u64;
                    if matches!(found, Search::Undecided(_)) {
                        self.state = State::Searching { skipped };
                        return;
                    }
                    out.push(Found::Resumed { offset: self.offset, skipped });
                    self.state = State::InStep { skip: 0 };
                }
            }
        }
    }

    fn open(&mut self, ciphertext: Vec<u8>, out: &mut Vec<Found>) {
        let Some((_, opener)) = &mut self.keys else { return };
        self.number += 1;
        let mut plaintext = ciphertext.clone();
        let opened = opener.open_in_place(&mut plaintext);
        plaintext.truncate(opened.unwrap_or(0));
        let was_garbled = core::mem::replace(&mut self.is_garbled, false);
        let used = LENGTH_PREFIX + ciphertext.len();
        let frame = Frame { number: self.number, offset: self.offset, plaintext, ciphertext };
        out.push(match opened {
            _ if was_garbled => Found::Garbled(frame),
            Ok(_) => Found::Message(frame),
            Err(_) => Found::Corrupt(frame),
        });
        self.drop_front(used);
    }

    /// The first place from `from` where a frame begins.
    fn search(&self, keys: &SessionKeys, from: usize, ended: bool) -> Search {
        for at in from..self.buffer.len() {
            match begins(self.speaker, keys, self.buffer.get(at..).unwrap_or_default(), ended) {
                Some(true) => return Search::Begins(at),
                Some(false) => {}
                None => return Search::Undecided(at),
            }
        }
        Search::Undecided(self.buffer.len())
    }

    fn drop_front(&mut self, len: usize) {
        let len = len.min(self.buffer.len());
        self.buffer.drain(..len);
        self.offset += len as u64;
    }
}

enum Search {
    Begins(usize),
    /// Not before here.
    Undecided(usize),
}

enum First<'a> {
    Frame(&'a [u8]),
    NotYet,
    Bad,
}

/// The length in a prefix, if a frame can have it.
fn prefix(bytes: &[u8]) -> Option<usize> {
    let length = usize::from(u16::from_be_bytes(*bytes.first_chunk::<LENGTH_PREFIX>()?));
    (length > 0 && length.is_multiple_of(BLOCK) && length <= MAX_FRAME).then_some(length)
}

/// Whether these bytes could be the beginning of frames.
pub(super) fn looks_like_frames(bytes: &[u8]) -> bool {
    prefix(bytes).is_some()
}

fn first_frame(bytes: &[u8]) -> First<'_> {
    if bytes.len() < LENGTH_PREFIX {
        return First::NotYet;
    }
    let Some(length) = prefix(bytes) else { return First::Bad };
    bytes.get(LENGTH_PREFIX..LENGTH_PREFIX + length).map_or(First::NotYet, First::Frame)
}

/// The first frame of a session: from a device always Hello, from a server Hello or an answer to an early Ping.
fn begins_session(speaker: Speaker, keys: &SessionKeys, body: &[u8]) -> bool {
    let mut body = body.to_vec();
    let Ok(len) = Opener::new(keys).open_in_place(&mut body) else { return false };
    let message = body.get(..len).unwrap_or_default();
    match speaker {
        Speaker::Device => {
            Envelope::<FromDevice<'_>>::decode(message).is_ok_and(|m| matches!(m.body, FromDevice::Hello(_)))
        }
        Speaker::Server => Envelope::<FromServer<'_>>::decode(message)
            .is_ok_and(|m| matches!(m.body, FromServer::Hello | FromServer::Ack)),
    }
}

/// Whether a frame begins here; `None` if that cannot be said yet.
fn begins(speaker: Speaker, keys: &SessionKeys, bytes: &[u8], ended: bool) -> Option<bool> {
    let undecided = if ended { Some(false) } else { None };
    let (first, rest) = match first_frame(bytes) {
        First::Bad => return Some(false),
        First::NotYet => return undecided,
        First::Frame(body) => (body, bytes.get(LENGTH_PREFIX + body.len()..).unwrap_or_default()),
    };
    let mut opener = Opener::new(keys);
    // With a wrong IV the last block is right if it is not the first as well.
    let opened = opener.open_in_place(&mut first.to_vec()).is_ok();
    if first.len() > BLOCK && !opened {
        return Some(false);
    }
    match first_frame(rest) {
        First::Bad => Some(false),
        // The very last frame has none behind it.
        First::NotYet if ended => Some(first.len() > BLOCK && rest.is_empty()),
        First::NotYet => None,
        First::Frame(body) => {
            let mut body = body.to_vec();
            let message = opener.open_in_place(&mut body).ok().and_then(|len| body.get(..len));
            Some(message.is_some_and(|message| is_message(speaker, message)))
        }
    }
}

fn is_message(speaker: Speaker, bytes: &[u8]) -> bool {
    Message::parse(bytes, ParseOptions::SPARK).is_ok()
        && match speaker {
            Speaker::Device => Envelope::<FromDevice<'_>>::decode(bytes)
                .is_ok_and(|m| !matches!(m.body, FromDevice::Unknown { .. })),
            Speaker::Server => Envelope::<FromServer<'_>>::decode(bytes)
                .is_ok_and(|m| !matches!(m.body, FromServer::Unknown { .. })),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coap_spark::session::Sealer;

    const KEYS: [u8; 40] = [0x5a; 40];

    /// Frames of events with these data lengths, and where each begins.
    fn sealed(lengths: &[usize]) -> (Vec<u8>, Vec<usize>) {
        let mut sealer = Sealer::new(&SessionKeys::new(KEYS));
        let mut bytes = Vec::new();
        let mut starts = Vec::new();
        for (id, len) in (0_u8..).zip(lengths) {
            let mut message = vec![0x50, 2, 0, id, 0xb1, b'E', 1, b'n', 0xff];
            message.extend(core::iter::repeat_n(id, *len));
            starts.push(bytes.len());
            let mut out = vec![0; len + 64];
            bytes.extend_from_slice(sealer.seal(&message, &mut out).unwrap());
        }
        (bytes, starts)
    }

    fn started() -> Frames {
        let mut frames = Frames::new(Speaker::Device, 0, true);
        frames.set_keys(&Rc::new(SessionKeys::new(KEYS)), None, &mut Vec::new());
        frames
    }

    fn words(found: &[Found]) -> Vec<String> {
        let word = |found: &Found| match found {
            Found::Message(frame) => format!("message {}", frame.plaintext[3]),
            Found::Garbled(frame) => format!("garbled {}", frame.plaintext.len()),
            Found::Corrupt(_) => "corrupt".to_owned(),
            Found::Lost { frame, .. } => format!("lost {frame}"),
            Found::BadLength { .. } => "bad length".to_owned(),
            Found::Resumed { skipped, .. } => format!("resumed {skipped}"),
            Found::Left { bytes, reason, .. } => format!("left {bytes} {reason:?}"),
        };
        found.iter().map(word).collect()
    }

    #[test]
    fn gap_inside_a_frame_loses_that_frame_and_garbles_the_next_only_without_its_beginning() {
        let (bytes, starts) = sealed(&[3, 100, 30, 3]);
        for (from, len, expected) in [
            // The IV of the third is there.
            (starts[1] + 20, 50, ["message 0", "lost 2", "message 2", "message 3"]),
            (starts[1] + 10, 50, ["message 0", "lost 2", "garbled 39", "message 3"]),
        ] {
            let (mut frames, mut out) = (started(), Vec::new());
            frames.push(&bytes[..from], &mut out);
            frames.gap(len as u64, &mut out);
            frames.push(&bytes[from + len..], &mut out);
            frames.end(&mut out);
            assert_eq!(words(&out), expected, "{from} {len}");
        }
    }

    #[test]
    fn gap_over_frames_is_searched_to_the_next_beginning() {
        let (bytes, starts) = sealed(&[3, 30, 40, 50, 60, 70]);
        for gap_to in starts[2]..=starts[3] {
            let (mut frames, mut out) = (started(), Vec::new());
            frames.push(&bytes[..starts[1]], &mut out);
            frames.gap((gap_to - starts[1]) as u64, &mut out);
            for byte in &bytes[gap_to..] {
                frames.push(&[*byte], &mut out);
            }
            frames.end(&mut out);
            let (first, garbled) = if gap_to == starts[2] { (2, 49) } else { (3, 59) };
            let skipped = starts[first] - gap_to;
            let mut expected =
                vec!["message 0".to_owned(), format!("resumed {skipped}"), format!("garbled {garbled}")];
            expected.extend((first + 1..6).map(|id| format!("message {id}")));
            assert_eq!(words(&out), expected, "gap to {gap_to}");
        }
    }

    #[test]
    fn every_gap_is_survived_and_no_wrong_message_appears() {
        let (bytes, _) = sealed(&[3, 30, 40, 3, 60, 70]);
        for from in 0..bytes.len() {
            for len in [1, 2, 15, 16, 17, 40, 100, 150] {
                let (mut frames, mut out) = (started(), Vec::new());
                frames.push(&bytes[..from], &mut out);
                frames.gap(len as u64, &mut out);
                frames.push(bytes.get(from + len..).unwrap_or_default(), &mut out);
                frames.end(&mut out);
                for found in &out {
                    if let Found::Message(frame) = found {
                        assert_eq!(frame.plaintext[..3], [0x50, 2, 0], "{from} {len}");
                    }
                }
            }
        }
    }

    #[test]
    fn bad_length_is_told_and_what_follows_is_found_again() {
        let (bytes, starts) = sealed(&[3, 30, 40, 50]);
        let (mut frames, mut out) = (started(), Vec::new());
        frames.push(&bytes[..starts[1]], &mut out);
        frames.push(&[0xff, 0x01, 0x02], &mut out);
        frames.push(&bytes[starts[1]..], &mut out);
        frames.end(&mut out);
        // The bytes that do not belong there changed no IV, but nobody can know that.
        assert_eq!(
            words(&out),
            ["message 0", "bad length", "resumed 3", "garbled 39", "message 2", "message 3"]
        );
    }

    #[test]
    fn wrong_session_bytes_fit_nothing() {
        let (bytes, _) = sealed(&[3, 30, 40]);
        let wrong = [Rc::new(SessionKeys::new([7; 40]))];
        for at_start in [true, false] {
            let mut frames = Frames::new(Speaker::Device, 0, at_start);
            frames.push(&bytes, &mut Vec::new());
            assert_eq!(frames.choose(&wrong, 0, true), Choice::None);
        }
    }
}
