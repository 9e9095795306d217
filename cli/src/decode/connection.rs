//! One TCP connection between a device and its server.

use super::Speaker;
use super::record::{Record, What};
use super::segment::Segment;
use super::stream::{Piece, Stream};
use super::talk::{Line, Talk};
use super::{Known, frames};
use coap_spark::handshake::{
    DeviceId, NONCE_LEN, RsaPrivate, SEALED_IDENTITY_LEN, SESSION_CIPHERTEXT_LEN, SESSION_MESSAGE_LEN,
    device, server,
};
use coap_spark::session::SessionKeys;
use core::time::Duration;
use rsa::{RsaPrivateKey, RsaPublicKey};
use spark_keys::Fingerprint;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use zeroize::Zeroizing;

/// A message of the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Nonce,
    Identity,
    Session,
}

impl Step {
    const fn len(self) -> usize {
        match self {
            Self::Nonce => NONCE_LEN,
            Self::Identity => SEALED_IDENTITY_LEN,
            Self::Session => SESSION_MESSAGE_LEN,
        }
    }
}

/// What a direction still has of the handshake.
#[derive(Default)]
struct Lead {
    steps: VecDeque<Step>,
    /// Of the first of them.
    bytes: Vec<u8>,
    /// Bytes of it that are not there.
    missing: usize,
}

/// One direction.
struct Half {
    stream: Stream,
    lead: Lead,
    /// Bytes so far.
    offset: u64,
    has_ended: bool,
}

/// A connection.
pub(super) struct Connection {
    label: Rc<str>,
    device: Half,
    server: Half,
    /// Whether the handshake's place in the directions is known.
    is_placed: bool,
    nonce: Option<[u8; NONCE_LEN]>,
    talk: Talk,
}

impl Connection {
    /// A connection that is seen for the first time: with its beginning, or in the middle.
    pub(super) fn new(device: SocketAddr, server: SocketAddr, at_start: bool, known: &Known) -> Self {
        let half = |steps: &[Step]| Half {
            stream: Stream::default(),
            lead: Lead { steps: steps.iter().copied().collect(), ..Lead::default() },
            offset: 0,
            has_ended: false,
        };
        let (of_device, of_server): (&[Step], &[Step]) =
            if at_start { (&[Step::Identity], &[Step::Nonce, Step::Session]) } else { (&[], &[]) };
        Self {
            label: format!("{device} > {server}").into(),
            device: half(of_device),
            server: half(of_server),
            is_placed: at_start,
            nonce: None,
            talk: Talk::new(known.sessions.clone(), at_start, 0, known.with_bytes),
        }
    }

    /// Whether a SYN with this number is the one that began this connection.
    pub(super) fn began_with(&self, syn: u32) -> bool {
        self.device.stream.began_with(syn)
    }

    /// Both ends have said that they are done, and nothing is missing.
    pub(super) fn is_over(&self) -> bool {
        [&self.device, &self.server].iter().all(|half| half.has_ended && half.stream.is_complete())
    }

    /// The line that begins it.
    pub(super) fn opened(&self, at: Option<Duration>) -> Record {
        let begins = if self.is_placed { "start" } else { "middle" };
        self.record(at, (None, What::Connection { begins }))
    }

    fn record(&self, at: Option<Duration>, (speaker, what): Line) -> Record {
        Record { at, connection: Some(Rc::clone(&self.label)), speaker, what }
    }

    /// Takes a segment.
    pub(super) fn handle(
        &mut self,
        speaker: Speaker,
        segment: &Segment<'_>,
        at: Option<Duration>,
        known: &Known,
        out: &mut Vec<Record>,
    ) {
        if segment.syn && self.half(speaker).stream.is_new() {
            self.half(speaker).stream.begin(segment.seq);
        }
        let mut lines = Vec::new();
        let mut pieces = Vec::new();
        if !self.is_placed && !segment.payload.is_empty() {
            self.place(speaker, segment.payload);
        }
        let data_at = if segment.syn { segment.seq.wrapping_add(1) } else { segment.seq };
        self.half(speaker).stream.push(data_at, segment.payload, &mut pieces);
        self.take(speaker, pieces, known, &mut lines);
        if let Some(ack) = segment.ack {
            let mut pieces = Vec::new();
            let peer = speaker.other();
            self.half(peer).stream.acknowledged(ack, &mut pieces);
            self.take(peer, pieces, known, &mut lines);
        }
        if segment.fin {
            self.half(speaker).has_ended = true;
        }
        out.extend(lines.into_iter().map(|line| self.record(at, line)));
    }

    /// Nothing more comes.
    pub(super) fn end(mut self, at: Option<Duration>, known: &Known, out: &mut Vec<Record>) {
        let mut lines = Vec::new();
        for speaker in [Speaker::Device, Speaker::Server] {
            let mut pieces = Vec::new();
            self.half(speaker).stream.end(&mut pieces);
            self.take(speaker, pieces, known, &mut lines);
        }
        for speaker in [Speaker::Server, Speaker::Device] {
            let half = self.half(speaker);
            let step = half.lead.steps.front().copied();
            let (bytes, offset) = (half.lead.bytes.len(), half.offset);
            if bytes > 0
                && let Some(step) = step
            {
                let message =
                    format!("the connection ends after {bytes} of the {} bytes of {step:?}", step.len());
                let trouble =
                    What::Trouble { code: "incomplete-handshake", message, next: None, offset: Some(offset) };
                lines.push((Some(speaker), trouble));
            }
        }
        self.talk.end(&mut lines);
        let [device_frames, server_frames] = self.talk.counts();
        lines.push((None, What::End { device_frames, server_frames }));
        out.extend(lines.into_iter().map(|line| self.record(at, line)));
    }

    const fn half(&mut self, speaker: Speaker) -> &mut Half {
        match speaker {
            Speaker::Device => &mut self.device,
            Speaker::Server => &mut self.server,
        }
    }

    /// The first bytes of a connection whose beginning is not in the capture: it may still be the handshake.
    fn place(&mut self, speaker: Speaker, first: &[u8]) {
        self.is_placed = true;
        if frames::looks_like_frames(first) {
            return;
        }
        let (device, server): (&[Step], &[Step]) = match (speaker, first.len()) {
            (Speaker::Server, NONCE_LEN) => (&[Step::Identity], &[Step::Nonce, Step::Session]),
            (Speaker::Device, SEALED_IDENTITY_LEN) => (&[Step::Identity], &[Step::Session]),
            (Speaker::Server, SESSION_MESSAGE_LEN) => (&[], &[Step::Session]),
            _ => return,
        };
        self.device.lead.steps.extend(device);
        self.server.lead.steps.extend(server);
        self.talk.begin(Speaker::Device, 0);
        self.talk.begin(Speaker::Server, 0);
    }

    fn take(&mut self, speaker: Speaker, pieces: Vec<Piece>, known: &Known, lines: &mut Vec<Line>) {
        for piece in pieces {
            match piece {
                Piece::Data(bytes) => self.take_bytes(speaker, &bytes, known, lines),
                Piece::Gap(length) => self.take_gap(speaker, length, lines),
            }
        }
    }

    fn take_bytes(&mut self, speaker: Speaker, mut bytes: &[u8], known: &Known, lines: &mut Vec<Line>) {
        while !bytes.is_empty() {
            let half = self.half(speaker);
            let Some(step) = half.lead.steps.front().copied() else {
                half.offset += bytes.len() as u64;
                return self.talk.push(speaker, bytes, lines);
            };
            let have = half.lead.bytes.len() + half.lead.missing;
            let (now, rest) = bytes.split_at(bytes.len().min(step.len() - have));
            half.lead.bytes.extend_from_slice(now);
            half.offset += now.len() as u64;
            bytes = rest;
            if have + now.len() == step.len() {
                let message = core::mem::take(&mut half.lead.bytes);
                self.finish_step(speaker);
                if message.len() == step.len() {
                    self.shake(step, &message, known, lines);
                }
            }
        }
    }

    fn take_gap(&mut self, speaker: Speaker, mut length: u64, lines: &mut Vec<Line>) {
        let offset = self.half(speaker).offset;
        let mut inside = 0;
        while length > 0 {
            let half = self.half(speaker);
            let Some(step) = half.lead.steps.front().copied() else { break };
            let have = half.lead.bytes.len() + half.lead.missing;
            let now = usize::try_from(length).unwrap_or(usize::MAX).min(step.len() - have);
            half.lead.missing += now;
            half.offset += now as u64;
            length -= now as u64;
            inside += now as u64;
            if have + now == step.len() {
                half.lead.bytes.clear();
                self.finish_step(speaker);
            }
        }
        if inside > 0 {
            lines.push((Some(speaker), What::Gap { offset, length: inside }));
        }
        if length > 0 {
            let half = self.half(speaker);
            let offset = half.offset;
            half.offset += length;
            self.talk.gap(speaker, offset, length, lines);
        }
    }

    fn finish_step(&mut self, speaker: Speaker) {
        let half = self.half(speaker);
        half.lead.steps.pop_front();
        half.lead.missing = 0;
        if half.lead.steps.is_empty() {
            let offset = half.offset;
            self.talk.begin(speaker, offset);
        }
    }

    /// A whole message of the handshake.
    fn shake(&mut self, step: Step, message: &[u8], known: &Known, lines: &mut Vec<Line>) {
        match step {
            Step::Nonce => {
                self.nonce = message.try_into().ok();
                lines.push((Some(Speaker::Server), What::Nonce { nonce: hex::encode(message) }));
                if message.iter().all(|byte| Some(byte) == message.first()) {
                    lines.push((
                        Some(Speaker::Server),
                        What::Trouble {
                            code: "constant-nonce",
                            message: "all bytes of the nonce are the same".to_owned(),
                            next: Some("the server must send 40 random bytes"),
                            offset: Some(0),
                        },
                    ));
                }
            }
            Step::Identity => self.identify(message, known, lines),
            Step::Session => self.open_session(message, known, lines),
        }
    }

    /// Step 2: with the server's private key it says who the device is.
    fn identify(&mut self, message: &[u8], known: &Known, lines: &mut Vec<Line>) {
        let trouble = |code, message: &str, next| {
            let what = What::Trouble { code, message: message.to_owned(), next: Some(next), offset: Some(0) };
            (Some(Speaker::Device), what)
        };
        let unread = (Some(Speaker::Device), What::Identity { device_id: None, offered_key: None });
        let Some(key) = &known.server_private else { return lines.push(unread) };
        let Some(nonce) = self.nonce else {
            lines.push(unread);
            let what = "the nonce that belongs to this identity is not in the capture";
            return lines.push(trouble("no-nonce", what, "capture from the beginning of the connection"));
        };
        let mut waiting = server::AwaitIdentity::start(nonce, Duration::ZERO);
        waiting.push(message);
        let Ok((waiting, job)) = waiting.complete() else { return lines.push(unread) };
        match waiting.resume(job.run(key, &mut rand::rng())) {
            Ok(identified) => {
                let offered = identified.offered_key().map(|spki| Fingerprint::of_spki(spki).to_string());
                let device_id = Some(identified.device_id().to_string());
                lines.push((Some(Speaker::Device), What::Identity { device_id, offered_key: offered }));
            }
            Err(_) => {
                lines.push(unread);
                let what = "the identity does not open with this server key: the device used another one";
                lines.push(trouble(
                    "identity-rejected",
                    what,
                    "give the private key of the server it connected to",
                ));
            }
        }
    }

    /// Step 3: with the device's private key it gives the session bytes.
    fn open_session(&mut self, message: &[u8], known: &Known, lines: &mut Vec<Line>) {
        let mut opened = false;
        let mut signature_good = None;
        for key in &known.device_keys {
            let Some(session) = decrypt(key, message) else { continue };
            let good = known.server_public.as_ref().map(|server| is_signed(key, server, message));
            opened = true;
            signature_good = signature_good.max(good);
            self.talk.propose(session);
        }
        lines.push((Some(Speaker::Server), What::Session { opened, signature_good }));
        let mut trouble = |code, message: &str, next| {
            let what = What::Trouble { code, message: message.to_owned(), next: Some(next), offset: None };
            lines.push((Some(Speaker::Server), what));
        };
        if !opened && !known.device_keys.is_empty() {
            let what =
                "the session message does not open with this device key: the server used another public key";
            trouble(
                "session-rejected",
                what,
                "give the private key of the device whose public key the server has",
            );
        } else if signature_good == Some(false) {
            let what = "the session message is not signed by the server whose key was given";
            trouble(
                "signature-wrong",
                what,
                "a device with this server key refuses it: look at which key it holds",
            );
        }
    }
}

/// The session bytes, if this is the device's key.
fn decrypt(key: &RsaPrivateKey, message: &[u8]) -> Option<SessionKeys> {
    let ciphertext = message.get(..SESSION_CIPHERTEXT_LEN)?;
    let mut plaintext = Zeroizing::new([0; SESSION_CIPHERTEXT_LEN]);
    let len = RsaPrivate::decrypt(key, &mut rand::rng(), ciphertext, plaintext.as_mut_slice()).ok()?;
    let session: [u8; SessionKeys::LEN] = plaintext.get(..len)?.try_into().ok()?;
    Some(SessionKeys::new(session))
}

/// What a device checks before it takes the session bytes: the server's signature over their HMAC.
fn is_signed(key: &RsaPrivateKey, server: &RsaPublicKey, message: &[u8]) -> bool {
    let mut rng = rand::rng();
    let mut waiting = device::AwaitNonce::start(Duration::ZERO);
    // The check does not depend on nonce and id.
    waiting.push(&[0; NONCE_LEN]);
    let Ok((waiting, job)) = waiting.complete(DeviceId([0; DeviceId::LEN]), None) else { return false };
    let Ok((mut waiting, _)) = waiting.resume(job.run(server, &mut rng), Duration::ZERO) else {
        return false;
    };
    waiting.push(message);
    let Ok((waiting, job)) = waiting.complete() else { return false };
    waiting.resume(job.run(key, server, &mut rng)).is_ok()
}
