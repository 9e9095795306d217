//! The device's side: a [`Receiver`] whose words go through a connection and whose work goes to the flash.

use super::link::DeviceLink;
use crate::transfer::{
    Begin, MAX_MISSED, Plan, Profile, Receiver, ReceiverOutput as Output, Refusal, ResetCause,
};
use coap_spark::coap::{Code, Token};
use coap_spark::connection::SendError;
use coap_spark::message::{Envelope, FromDevice, FromServer, Indices, Response};
use core::time::Duration;

/// The flash under a transfer.
pub trait Target {
    /// Whether this update may run.
    fn check(&mut self, plan: &Plan) -> bool;
    /// Erases the OTA region.
    fn prepare(&mut self, plan: &Plan) -> bool;
    /// Writes to `offset` of the OTA region.
    fn save(&mut self, offset: u32, data: &[u8]) -> bool;
    /// Whether the image in the OTA region may be applied. Asked once all of it is there, in every generation; its
    /// chunks were checked one by one, the image was not.
    fn validate(&mut self, plan: &Plan) -> bool;
    /// Applies the image, which is valid. The device resets soon after.
    fn apply(&mut self, plan: &Plan);
    /// Resets the device soon; nothing is to be applied.
    fn reset(&mut self, plan: &Plan, cause: ResetCause);
}

/// Why a message could not be handled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// An answer could not be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// This firmware generation closes the session on an unexpected update message.
    #[error("an update message came while no update runs")]
    CloseSession,
}

/// The receiving end on one device; lives across connections. `N` bytes of bitmap bound the chunks to `8 * N`.
#[derive(Clone, Debug)]
pub struct Download<const N: usize = 128> {
    receiver: Receiver<N>,
}

impl<const N: usize> Download<N> {
    /// A receiver for an OTA region of `region_len` bytes.
    #[must_use]
    pub const fn new(profile: Profile, region_len: u32) -> Self {
        Self { receiver: Receiver::new(profile, region_len) }
    }

    /// An update runs: tell the connection, so that it does not ping.
    #[must_use]
    pub fn is_updating(&self) -> bool {
        self.receiver.is_updating()
    }

    /// The session ended; `true` if an update was lost with it.
    pub fn abort(&mut self) -> bool {
        self.receiver.abort()
    }

    /// When [`Download::handle_deadline`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.receiver.next_deadline()
    }

    /// Takes a message if it belongs to a transfer, does its work on `target` and gives every frame to `send`.
    /// Says whether it did.
    ///
    /// # Errors
    /// [`DownloadError`]; close the connection.
    pub fn handle_message(
        &mut self,
        now: Duration,
        message: &Envelope<FromServer<'_>>,
        connection: &mut impl DeviceLink,
        target: &mut impl Target,
        send: &mut impl FnMut(&[u8]),
    ) -> Result<bool, DownloadError> {
        let mut data: &[u8] = &[];
        match message.body {
            FromServer::UpdateBegin(begin) | FromServer::SaveBegin(begin) => {
                self.receiver.handle_begin(Begin {
                    offers_fast: begin.flags & 1 != 0,
                    chunk_size: begin.chunk_size,
                    file_length: begin.file_length,
                    store: begin.store.0,
                    address: begin.address,
                });
            }
            FromServer::Chunk(chunk) => {
                data = chunk.data;
                self.receiver.handle_chunk(now, chunk.index, chunk.crc, data);
            }
            FromServer::UpdateDone => self.receiver.handle_done(),
            _ => return Ok(false),
        }
        let request = (message.id, message.token);
        self.drain(now, Some(request), data, connection, target, send).map(|()| true)
    }

    /// Resets the device when chunks stopped to come, or asks for missing ones again, if the deadline has come.
    ///
    /// # Errors
    /// [`DownloadError`]; close the connection.
    pub fn handle_deadline(
        &mut self,
        now: Duration,
        connection: &mut impl DeviceLink,
        target: &mut impl Target,
        send: &mut impl FnMut(&[u8]),
    ) -> Result<(), DownloadError> {
        self.receiver.handle_deadline(now);
        self.drain(now, None, &[], connection, target, send)
    }

    fn drain(
        &mut self,
        now: Duration,
        request: Option<(u16, Token)>,
        data: &[u8],
        connection: &mut impl DeviceLink,
        target: &mut impl Target,
        send: &mut impl FnMut(&[u8]),
    ) -> Result<(), DownloadError> {
        let (id, token) = request.unwrap_or_default();
        let mut out = [0; 512];
        while let Some(output) = self.receiver.poll_output() {
            match output {
                Output::Check(plan) => {
                    let ok = target.check(&plan);
                    self.receiver.work_done(now, ok);
                }
                Output::Prepare(plan) => {
                    let ok = target.prepare(&plan);
                    self.receiver.work_done(now, ok);
                }
                Output::Save { offset, len } => {
                    let ok = data.get(..len).is_some_and(|data| target.save(offset, data));
                    self.receiver.work_done(now, ok);
                }
                Output::Validate(plan) => {
                    let valid = target.validate(&plan);
                    self.receiver.work_done(now, valid);
                }
                Output::Apply(plan) => target.apply(&plan),
                Output::Reset { plan, cause } => target.reset(&plan, cause),
                Output::Accept | Output::AcknowledgeChunk => send(connection.acknowledge(id, &mut out)?),
                Output::Refuse => {
                    let (code, token) = match self.receiver.profile().refusal {
                        Refusal::ServiceUnavailable => (Code::SERVICE_UNAVAILABLE, token),
                        Refusal::BadRequestWithoutToken => (Code::BAD_REQUEST, Token::EMPTY),
                    };
                    send(connection.piggyback(id, token, answer(code, &[]), &mut out)?);
                }
                Output::Ready { fast } => {
                    let ready = [u8::from(fast)];
                    let response = answer(Code::CHANGED, &ready);
                    send(connection.respond(token, response, &mut out)?);
                }
                Output::ChunkReceived { good } => {
                    let code = if good { Code::CHANGED } else { Code::BAD_REQUEST };
                    let response = answer(code, &[]);
                    send(connection.respond(token, response, &mut out)?);
                }
                Output::DoneAnswer { complete, result } => {
                    let code = if complete { Code::CHANGED } else { Code::BAD_REQUEST };
                    send(connection.piggyback(id, token, answer(code, result), &mut out)?);
                }
                Output::Missed { count } => {
                    let mut list = [0; 2 * MAX_MISSED as usize];
                    let missing = self.receiver.missing().take(usize::from(count));
                    let body = FromDevice::ChunkMissed(Indices::encode_into(missing, &mut list));
                    let confirmable = self.receiver.profile().missed_confirmable;
                    send(connection.send(body, confirmable, &mut out)?);
                }
                Output::DoneByDevice { result } => {
                    let body = FromDevice::UpdateDone(result);
                    send(connection.send(body, false, &mut out)?);
                }
                Output::CloseSession => return Err(DownloadError::CloseSession),
            }
        }
        connection.set_updating(self.receiver.is_updating());
        Ok(())
    }
}

const fn answer(code: Code, payload: &[u8]) -> Response<'_> {
    Response { code, payload }
}
