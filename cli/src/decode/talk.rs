//! Both directions after the handshake: which session bytes they have, and what they say.

use super::Speaker;
use super::dialogue::Dialogue;
use super::frames::{Choice, Found, Frame, Frames, Left};
use super::message::{self, Problem, Reading};
use super::record::{Told, What};
use coap_spark::session::SessionKeys;
use std::rc::Rc;

/// One connection's frames.
pub(super) struct Talk {
    frames: [Frames; 2],
    dialogue: Dialogue,
    /// Session bytes that may be the right ones.
    candidates: Vec<Rc<SessionKeys>>,
    /// Before the first frame of raw bytes.
    lead: usize,
    is_decided: bool,
    with_bytes: bool,
}

/// A line, and who caused it.
pub(super) type Line = (Option<Speaker>, What);

impl Talk {
    /// Directions that begin with the session, or somewhere in it.
    pub(super) fn new(
        candidates: Vec<Rc<SessionKeys>>,
        at_start: bool,
        lead: usize,
        with_bytes: bool,
    ) -> Self {
        Self {
            frames: [Speaker::Device, Speaker::Server].map(|speaker| Frames::new(speaker, 0, at_start)),
            dialogue: Dialogue::default(),
            candidates,
            lead,
            is_decided: false,
            with_bytes,
        }
    }

    fn frames(&mut self, speaker: Speaker) -> &mut Frames {
        let [device, server] = &mut self.frames;
        match speaker {
            Speaker::Device => device,
            Speaker::Server => server,
        }
    }

    /// Frames of device and server so far.
    pub(super) fn counts(&self) -> [u64; 2] {
        self.frames.each_ref().map(Frames::count)
    }

    /// The frames of a direction begin at this offset, with the session.
    pub(super) fn begin(&mut self, speaker: Speaker, offset: u64) {
        *self.frames(speaker) = Frames::new(speaker, offset, true);
    }

    /// Session bytes that were found in the handshake: more likely than those that were there before.
    pub(super) fn propose(&mut self, keys: SessionKeys) {
        self.candidates.insert(0, Rc::new(keys));
    }

    /// Bytes of frames.
    pub(super) fn push(&mut self, speaker: Speaker, bytes: &[u8], out: &mut Vec<Line>) {
        let mut found = Vec::new();
        self.frames(speaker).push(bytes, &mut found);
        self.tell(speaker, found, out);
        if !self.is_decided {
            self.decide(speaker, false, out);
        }
    }

    /// Bytes that are not there.
    pub(super) fn gap(&mut self, speaker: Speaker, offset: u64, length: u64, out: &mut Vec<Line>) {
        out.push((Some(speaker), What::Gap { offset, length }));
        let mut found = Vec::new();
        self.frames(speaker).gap(length, &mut found);
        self.tell(speaker, found, out);
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self, out: &mut Vec<Line>) {
        for speaker in [Speaker::Device, Speaker::Server] {
            if !self.is_decided && self.frames(speaker).is_waiting() {
                self.decide(speaker, true, out);
            }
        }
        if !self.is_decided && self.frames.iter().any(Frames::is_waiting) {
            self.refuse(out);
        }
        for speaker in [Speaker::Device, Speaker::Server] {
            let mut found = Vec::new();
            self.frames(speaker).end(&mut found);
            self.tell(speaker, found, out);
        }
    }

    /// Looks whether one of the candidates opens what is there.
    fn decide(&mut self, speaker: Speaker, ended: bool, out: &mut Vec<Line>) {
        if self.candidates.is_empty() {
            return self.refuse(out);
        }
        let candidates = core::mem::take(&mut self.candidates);
        let lead = self.lead;
        let choice = self.frames(speaker).choose(&candidates, lead, ended);
        match choice {
            Choice::Fits { candidate, at, from_start } => {
                if let Some(keys) = candidates.get(candidate) {
                    self.is_decided = true;
                    self.use_keys(keys, speaker, (at, from_start), out);
                }
            }
            // A device's first frame is always Hello; a server's may be something else.
            Choice::None if speaker == Speaker::Device && !ended => {
                self.candidates = candidates;
                return self.refuse(out);
            }
            Choice::None | Choice::NotYet => {}
        }
        self.candidates = candidates;
    }

    fn use_keys(&mut self, keys: &Rc<SessionKeys>, by: Speaker, chosen: (usize, bool), out: &mut Vec<Line>) {
        for speaker in [Speaker::Device, Speaker::Server] {
            let frames = self.frames(speaker);
            let chosen = if speaker == by {
                Some(chosen)
            } else {
                match frames.choose(core::slice::from_ref(keys), 0, false) {
                    Choice::Fits { at, from_start, .. } => Some((at, from_start)),
                    Choice::NotYet | Choice::None => None,
                }
            };
            let mut found = Vec::new();
            frames.set_keys(keys, chosen, &mut found);
            self.tell(speaker, found, out);
        }
    }

    /// There is no way to read this connection.
    fn refuse(&mut self, out: &mut Vec<Line>) {
        self.is_decided = true;
        self.frames.iter_mut().for_each(Frames::give_up);
        let (code, message, next) = if self.candidates.is_empty() {
            (
                "no-session",
                "the session bytes are not known, without which frames cannot be read".to_owned(),
                "give the 40 session bytes with --session HEX, or the device's private key with --device-key FILE if the \
                 handshake is in the capture; the server's key alone does not open them",
            )
        } else {
            (
                "wrong-session",
                format!("none of the {} session bytes at hand opens the frames", self.candidates.len()),
                "give the session bytes of this very connection: every connection has its own",
            )
        };
        out.push((None, What::Trouble { code, message, next: Some(next), offset: None }));
    }

    fn tell(&mut self, speaker: Speaker, found: Vec<Found>, out: &mut Vec<Line>) {
        for found in found {
            let what = self.told(speaker, found);
            out.push((Some(speaker), what));
        }
    }

    fn told(&mut self, speaker: Speaker, found: Found) -> What {
        let trouble =
            |code, message, offset| What::Trouble { code, message, next: None, offset: Some(offset) };
        match found {
            Found::Message(frame) => {
                let reading =
                    message::read(speaker, &frame.plaintext, Some(frame.number), &mut self.dialogue);
                self.framed(frame, reading)
            }
            Found::Garbled(frame) => {
                let reading = message::garbled(&frame.plaintext);
                self.framed(frame, reading)
            }
            Found::Corrupt(frame) => {
                let message = "the frame does not decrypt to a padded message: bytes of it were changed";
                let problem = Problem { code: "corrupt-frame", message: message.to_owned(), offset: None };
                self.framed(frame, Reading::unreadable("corrupt", problem))
            }
            Found::Lost { frame, offset } => {
                trouble("lost-frame", format!("frame {frame} is not whole in the capture"), offset)
            }
            Found::BadLength { offset, length } => {
                trouble("bad-length", format!("{length} is no length of a frame"), offset)
            }
            Found::Resumed { offset, skipped } => What::Resumed { offset, skipped },
            Found::Left { offset, bytes, reason } => match reason {
                Left::Incomplete => {
                    trouble("incomplete-frame", format!("the last {bytes} bytes are no whole frame"), offset)
                }
                Left::NoBeginning => {
                    let message = format!("in {bytes} bytes behind the lost ones no frame begins for sure");
                    trouble("no-frame-found", message, offset)
                }
                Left::NoSession => {
                    trouble("undecoded", format!("{bytes} bytes of frames were not decoded"), offset)
                }
            },
        }
    }

    fn framed(&self, frame: Frame, reading: Reading) -> What {
        let shown = |bytes: &[u8]| self.with_bytes.then(|| hex::encode(bytes));
        What::Message(Box::new(Told {
            frame: Some(frame.number),
            offset: Some(frame.offset),
            length: frame.plaintext.len(),
            reading,
            plaintext: shown(&frame.plaintext),
            ciphertext: shown(&frame.ciphertext),
        }))
    }
}
