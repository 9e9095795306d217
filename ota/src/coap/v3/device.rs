//! The device's side.

use super::super::link::Ids;
use super::{FromDevice, FromServer, MessageError};
use crate::v3::{MAX_WINDOW, Plan, Receiver, ReceiverOutput as Output, Rejection, Start};
use coap_spark::coap::{Code, Message, Token, Type, WriteError, Writer};
use core::fmt::{Display, Write};
use core::time::Duration;

/// The flash under a transfer.
pub trait Target {
    /// How many bytes of this image are there in order; makes room for the rest.
    ///
    /// # Errors
    /// [`Rejection`] if it cannot run.
    fn begin(&mut self, start: &Start) -> Result<u32, Rejection>;
    /// Writes to `offset` of the image.
    fn save(&mut self, offset: u32, data: &[u8]) -> bool;
    /// Validates the image.
    ///
    /// # Errors
    /// [`Rejection`] if it is not to be applied.
    fn validate(&mut self, plan: &Plan) -> Result<(), Rejection>;
    /// Applies the image. The device resets soon after.
    fn apply(&mut self, plan: &Plan);
    /// The update is given up; if not `discard`, it may be resumed.
    fn cancel(&mut self, discard: bool);
}

/// Why a message could not be handled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// A message could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The device gave the update up and ends the session.
    #[error("the update was given up, and the session with it")]
    CloseSession,
}

/// Longest JSON in an answer.
const MAX_JSON: usize = 200;
/// Longest message of a device.
const MAX_MESSAGE: usize = 256;

struct Json([u8; MAX_JSON], usize);

impl Json {
    fn of(value: &impl Display) -> Self {
        let mut json = Self([0; MAX_JSON], 0);
        // What does not fit is left out as a whole.
        if write!(json, "{value}").is_err() {
            json.1 = 0;
        }
        json
    }

    fn as_bytes(&self) -> &[u8] {
        self.0.get(..self.1).unwrap_or_default()
    }
}

impl Write for Json {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let end = self.1 + text.len();
        let place = self.0.get_mut(self.1..end).ok_or(core::fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.1 = end;
        Ok(())
    }
}

/// The receiving end on one device; lives across sessions.
#[derive(Clone, Debug)]
pub struct Download {
    receiver: Receiver,
    /// Token of Start, then of Finish.
    token: Token,
    /// Ids of the last word about Finish, newest first, until one is acknowledged. If Finish comes again, so does the
    /// word.
    last_words: [Option<u16>; 4],
}

impl Download {
    /// For images of up to `max_file_size` bytes in chunks of up to `max_chunk_size`.
    #[must_use]
    pub const fn new(max_chunk_size: u16, max_file_size: u32) -> Self {
        Self {
            receiver: Receiver::new(max_chunk_size, max_file_size),
            token: Token::EMPTY,
            last_words: [None; 4],
        }
    }

    /// The state behind it.
    #[must_use]
    pub const fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// The session ended; `true` if an update was interrupted.
    pub fn abort(&mut self) -> bool {
        self.last_words = [None; 4];
        self.receiver.abort()
    }

    /// When [`Download::handle_deadline`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.receiver.next_deadline()
    }

    /// Takes a message if it belongs to a transfer, an acknowledgement included, does its work on `target` and gives
    /// every message to `send`. Says whether it did.
    ///
    /// # Errors
    /// [`DownloadError`]; end the session.
    pub fn handle_message(
        &mut self,
        now: Duration,
        message: &Message<'_>,
        ids: &mut Ids,
        target: &mut impl Target,
        send: &mut impl FnMut(&[u8]),
    ) -> Result<bool, DownloadError> {
        let id = message.id();
        if message.kind() == Type::Acknowledgement {
            if !self.last_words.contains(&Some(id)) {
                return Ok(false);
            }
            self.last_words = [None; 4];
            self.receiver.handle_acknowledged();
            return self.drain(now, id, &[], ids, target, send).map(|()| true);
        }
        let mut data: &[u8] = &[];
        match FromServer::decode(message) {
            Ok(None) => return Ok(false),
            Ok(Some(FromServer::Start(start))) => {
                self.last_words = [None; 4];
                self.token = message.token();
                self.receiver.handle_start(start);
            }
            Ok(Some(FromServer::Chunk { index, data: bytes })) => {
                data = bytes;
                self.receiver.handle_chunk(now, index, data.len());
            }
            Ok(Some(FromServer::Finish(finish))) => {
                if finish.cancel {
                    self.last_words = [None; 4];
                }
                self.token = message.token();
                self.receiver.handle_finish(finish);
            }
            Err(error) if message.kind() == Type::Confirmable => {
                self.token = message.token();
                let mut out = [0; MAX_MESSAGE];
                send(self.refusal(Type::Acknowledgement, id, &rejection(error), &mut out)?);
            }
            // A chunk without an index is none of this image.
            Err(_) => self.receiver.handle_chunk(now, 0, 0),
        }
        self.drain(now, id, data, ids, target, send).map(|()| true)
    }

    /// Acknowledges chunks, or gives up, if the deadline has come.
    ///
    /// # Errors
    /// [`DownloadError`]; end the session.
    pub fn handle_deadline(
        &mut self,
        now: Duration,
        ids: &mut Ids,
        target: &mut impl Target,
        send: &mut impl FnMut(&[u8]),
    ) -> Result<(), DownloadError> {
        self.receiver.handle_deadline(now);
        self.drain(now, 0, &[], ids, target, send)
    }

    fn last_word(&mut self, ids: &mut Ids) -> u16 {
        let id = ids.id();
        self.last_words.rotate_right(1);
        self.last_words[0] = Some(id);
        id
    }

    fn refusal<'o>(
        &self,
        kind: Type,
        id: u16,
        rejection: &Rejection,
        out: &'o mut [u8],
    ) -> Result<&'o [u8], WriteError> {
        let json = Json::of(rejection);
        let refusal = FromDevice::Refusal { code: Code::SERVICE_UNAVAILABLE, json: json.as_bytes() };
        refusal.encode_into(kind, id, self.token, out)
    }

    fn drain(
        &mut self,
        now: Duration,
        request: u16,
        data: &[u8],
        ids: &mut Ids,
        target: &mut impl Target,
        send: &mut impl FnMut(&[u8]),
    ) -> Result<(), DownloadError> {
        let mut out = [0; MAX_MESSAGE];
        let out = &mut out;
        let mut closes = false;
        while let Some(output) = self.receiver.poll_output() {
            match output {
                Output::Begin(start) => self.receiver.begun(now, target.begin(&start)),
                Output::Save { offset } => self.receiver.saved(now, target.save(offset, data)),
                Output::Validate(plan) => self.receiver.validated(target.validate(&plan)),
                Output::Apply(plan) => target.apply(&plan),
                Output::Cancel { discard } => target.cancel(discard),
                Output::CloseSession => closes = true,
                Output::AcknowledgeRequest => {
                    let kind = Type::Acknowledgement;
                    send(Writer::new(out, kind, Code::EMPTY, request, Token::EMPTY)?.finish());
                }
                Output::Reset => {
                    send(Writer::new(out, Type::Reset, Code::EMPTY, request, Token::EMPTY)?.finish());
                }
                Output::RefuseStart(rejection) => {
                    send(self.refusal(Type::Acknowledgement, request, &rejection, out)?);
                }
                Output::StartFailed(rejection) => {
                    send(self.refusal(Type::Confirmable, ids.id(), &rejection, out)?);
                }
                Output::FinishFailed(rejection) => {
                    let id = self.last_word(ids);
                    send(self.refusal(Type::Confirmable, id, &rejection, out)?);
                }
                Output::StartAnswer(answer) => {
                    let answer = FromDevice::StartAnswer(answer);
                    send(answer.encode_into(Type::Confirmable, ids.id(), self.token, out)?);
                }
                Output::Acknowledge => {
                    let mut bitmap = [0; MAX_WINDOW as usize / 8];
                    let body = FromDevice::Acknowledgement(self.receiver.acknowledgement(&mut bitmap));
                    send(body.encode_into(Type::NonConfirmable, ids.id(), Token::EMPTY, out)?);
                }
                Output::FinishAnswer { complete } => {
                    let id = self.last_word(ids);
                    let json = Json::of(&self.receiver.statistics());
                    let json = if complete { json.as_bytes() } else { &[] };
                    let answer = FromDevice::FinishAnswer(json);
                    send(answer.encode_into(Type::Confirmable, id, self.token, out)?);
                }
            }
        }
        if closes { Err(DownloadError::CloseSession) } else { Ok(()) }
    }
}

const fn rejection(error: MessageError) -> Rejection {
    match error {
        MessageError::Missing { .. } => Rejection::new(-240, "Missing option"),
        MessageError::Option { .. } => Rejection::new(-240, "Invalid option"),
    }
}
