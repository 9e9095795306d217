//! The server's side: a [`Sender`] whose outputs go through a connection.

use super::handled::Handled;
use super::link::ServerLink;
use crate::transfer::{
    Failure, Options, Progress, Sender, SenderError, SenderInput as Input, SenderOutput as Output, Success,
};
use coap_spark::coap::{Token, Type};
use coap_spark::connection::{MAX_BATCH, SendError};
use coap_spark::message::{Chunk, Envelope, FromDevice, FromServer, Store, UpdateBegin};
use coap_spark::session::SealError;
use core::time::Duration;

/// Room for the padded last chunk; larger chunks do not fit any device's frame.
const MAX_CHUNK: u16 = 1024;

/// `Done` goes out up to three times in a row, and each of them may be answered.
const DONES: usize = 3;

/// Most that a message has besides a chunk: 20 bytes of `UpdateBegin`, 16 around the data of `Chunk`.
const MESSAGE_OVERHEAD: usize = 20;

/// What the message sent last waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Awaited {
    Begin,
    SlowChunk,
}

/// One image on its way to one device.
///
/// ```no_run
/// # fn f<const N: usize>(connection: &mut coap_spark::connection::ServerConnection<N>, image: &[u8],
/// #     mut socket: impl FnMut(&[u8]), mut received: impl FnMut() -> Vec<u8>, clock: impl Fn() -> core::time::Duration)
/// #     -> Result<(), Box<dyn core::error::Error>> {
/// use spark_ota::coap::Upload;
/// use spark_ota::transfer::Options;
///
/// let mut upload = Upload::new(image, Options::DEFAULT)?;
/// let mut out = [0; 1024];
/// while upload.outcome().is_none() {
///     while let Some(frame) = upload.poll_send(clock(), connection, &mut out)? {
///         socket(frame);
///     }
///     let bytes = received(); // or nothing after `upload.next_deadline()`
///     let mut rest = &bytes[..];
///     while !rest.is_empty() {
///         rest = &rest[connection.handle_input(clock(), rest)?..];
///         if let Some(message) = connection.poll_message() {
///             let _ = upload.handle_message(clock(), &message);
///         }
///         while let Some(frame) = connection.poll_output(&mut out)? {
///             socket(frame);
///         }
///     }
///     upload.handle_deadline(clock());
/// }
/// # Ok(()) }
/// ```
///
/// `I` is whatever holds the image: `&[u8]`, `Vec<u8>`, `Arc<[u8]>`.
#[derive(Clone, Debug)]
pub struct Upload<I> {
    sender: Sender<I>,
    awaited: Option<(Awaited, u16, Token)>,
    /// Token of a slow chunk that was sent again because of silence; its answer may come at any time until the end.
    superseded: Option<Token>,
    /// Ids of `Done` since chunks went out.
    dones: [Option<u16>; DONES],
}

impl<I: AsRef<[u8]>> Upload<I> {
    /// Checks the whole job.
    ///
    /// # Errors
    /// [`SenderError`], before anything is sent.
    pub fn new(image: I, options: Options) -> Result<Self, SenderError> {
        if options.chunk_size > MAX_CHUNK {
            return Err(SenderError::ChunkSize { chunk_size: options.chunk_size, limit: MAX_CHUNK });
        }
        let sender = Sender::new(image, options)?;
        Ok(Self { sender, awaited: None, superseded: None, dones: [None; DONES] })
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.sender.progress()
    }

    /// The result, once there is one.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<Success, Failure>> {
        self.sender.outcome()
    }

    /// Gives up.
    pub fn cancel(&mut self) {
        self.sender.cancel();
    }

    /// When [`Upload::handle_deadline`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.sender.next_deadline()
    }

    /// Tries again or gives up if the deadline has come; poll afterwards.
    pub fn handle_deadline(&mut self, now: Duration) {
        self.sender.handle_deadline(now);
    }

    /// Takes a message if it belongs to the transfer, and says whether it did. Over datagrams the caller acknowledges it.
    ///
    /// Answers to fast chunks, which only Device OS up to 0.6.4 sends, are not claimed: nothing waits for them.
    pub fn handle_message(&mut self, now: Duration, message: &Envelope<FromDevice<'_>>) -> Handled {
        let is_ack = message.kind == Type::Acknowledgement;
        let input = match (message.body, self.awaited) {
            (FromDevice::ChunkMissed(indices), _) => Input::Missed { indices: indices.as_bytes() },
            (FromDevice::UpdateDone(result), _) => Input::DoneByDevice { result },
            (FromDevice::Ack, Some((Awaited::Begin, id, _))) if message.id == id => Input::BeginAccepted,
            // By its id: the token may be that of a fast chunk long ago, whose answer is still on its way.
            (FromDevice::Response(response), _) if is_ack && self.dones.contains(&Some(message.id)) => {
                Input::DoneAnswered { complete: response.code.is_success(), result: response.payload }
            }
            (FromDevice::Response(response), Some((Awaited::Begin, id, token)))
                if message.token == token || is_ack && message.id == id =>
            {
                // Up to 1.1 a refusal has no token, so it is found by its id.
                if response.is_refusal() {
                    Input::BeginRefused { code: response.code.0 }
                } else if message.token == token && !is_ack && response.code.is_success() {
                    Input::Ready { fast: response.payload.first().is_some_and(|byte| byte & 1 != 0) }
                } else {
                    return Handled::NotMine;
                }
            }
            (FromDevice::Response(response), Some((Awaited::SlowChunk, _, token)))
                if !is_ack && message.token == token =>
            {
                Input::ChunkReceived { good: response.code.is_success() }
            }
            (FromDevice::Response(response), _) if !is_ack && self.superseded == Some(message.token) => {
                Input::LateChunkReceived { good: response.code.is_success() }
            }
            _ => return Handled::NotMine,
        };
        if matches!(input, Input::BeginRefused { .. } | Input::Ready { .. } | Input::ChunkReceived { .. }) {
            self.awaited = None;
        }
        self.sender.handle_input(now, input);
        match message.kind {
            Type::Confirmable => Handled::Acknowledge(message.id),
            _ => Handled::Taken,
        }
    }

    /// The next message of the transfer, sealed into `out`; `None` if nothing is due. In fast mode each call gives
    /// a chunk: the caller sets the pace.
    ///
    /// # Errors
    /// [`SendError::Seal`] if `out` is too short for a full chunk, so 1024 bytes are enough for 512; nothing was taken
    /// from the transfer. Otherwise the connection's own limits, which no transfer that fits the device exceeds.
    pub fn poll_send<'o>(
        &mut self,
        now: Duration,
        link: &mut impl ServerLink,
        out: &'o mut [u8],
    ) -> Result<Option<&'o [u8]>, SendError> {
        let needed = link.sent_len(MESSAGE_OVERHEAD + usize::from(self.sender.options().chunk_size));
        let available = out.len();
        if available < needed {
            return Err(SealError::BufferTooSmall { needed, available }.into());
        }
        self.sender.set_link_repeats(link.repeats());
        let Some(output) = self.sender.poll_output(now) else { return Ok(None) };
        let mut scratch = [0; MAX_CHUNK as usize];
        let is_done = matches!(output, Output::Done);
        let (awaited, body) = match output {
            Output::Begin(begin) => {
                let begin = UpdateBegin {
                    flags: u8::from(begin.offers_fast),
                    chunk_size: begin.chunk_size,
                    file_length: begin.file_length,
                    store: Store(begin.store),
                    address: begin.address,
                };
                (Some(Awaited::Begin), FromServer::UpdateBegin(begin))
            }
            Output::Chunk { chunk, fast } => {
                let len = chunk.data.len();
                let crc = chunk.crc();
                let padded = scratch.get_mut(..len + usize::from(chunk.padding));
                let data = match padded {
                    Some(padded) if chunk.padding > 0 => {
                        if let Some(front) = padded.get_mut(..len) {
                            front.copy_from_slice(chunk.data);
                        }
                        padded
                    }
                    _ => chunk.data,
                };
                let index = fast.then_some(chunk.index);
                ((!fast).then_some(Awaited::SlowChunk), FromServer::Chunk(Chunk { crc, index, data }))
            }
            Output::Done => (None, FromServer::UpdateDone),
        };
        let sent = link.send(body, out)?;
        match (self.awaited, awaited) {
            // Still waiting for the answer to a chunk that now goes out again.
            (Some((Awaited::SlowChunk, _, token)), Some(Awaited::SlowChunk)) => self.superseded = Some(token),
            // Tokens come again after 256 messages.
            _ if self.superseded == Some(sent.token) => self.superseded = None,
            _ => {}
        }
        if is_done {
            self.dones.rotate_right(1);
            self.dones[0] = Some(sent.id);
        } else {
            self.dones = [None; DONES];
        }
        self.awaited = awaited.map(|awaited| (awaited, sent.id, sent.token));
        Ok(Some(sent.bytes))
    }

    /// Whole chunks of fast mode that are due, sealed side by side into `out`: up to [`MAX_BATCH`] frames at once, one
    /// behind the other, which costs a fraction of as many calls of [`Upload::poll_send`]. `None` if there are none, or
    /// the link cannot: ask `poll_send` then, for all else comes from there.
    ///
    /// # Errors
    /// As [`Upload::poll_send`]. As many chunks are taken as fit `out`; it has to hold one at least.
    pub fn poll_send_batch<'o>(
        &mut self,
        link: &mut impl ServerLink,
        out: &'o mut [u8],
    ) -> Result<Option<&'o [u8]>, SendError> {
        let needed = link.sent_len(MESSAGE_OVERHEAD + usize::from(self.sender.options().chunk_size));
        let fit = out.len() / needed;
        if fit == 0 {
            return Err(SealError::BufferTooSmall { needed, available: out.len() }.into());
        }
        if !link.can_batch() {
            return Ok(None);
        }
        let due = self.sender.poll_fast_chunks(u16::try_from(fit.min(MAX_BATCH)).unwrap_or(1));
        let empty = FromServer::Chunk(Chunk { crc: 0, index: None, data: &[] });
        let mut bodies = [empty; MAX_BATCH];
        let mut count = 0;
        for (place, chunk) in bodies.iter_mut().zip(due.filter_map(|index| self.sender.chunk(index))) {
            let (crc, index) = (chunk.crc(), Some(chunk.index));
            *place = FromServer::Chunk(Chunk { crc, index, data: chunk.data });
            count += 1;
        }
        match bodies.get(..count) {
            Some(bodies @ [_, ..]) => link.send_batch(bodies, out).map(Some),
            _ => Ok(None),
        }
    }
}
