//! The server's side.

use super::super::handled::Handled;
use super::super::link::Ids;
use super::{FromDevice, FromServer};
use crate::v3::{
    Failure, Options, Progress, Sender, SenderError, SenderInput as Input, SenderOutput as Output,
};
use coap_spark::coap::{Code, Message, Token, Type, WriteError};
use core::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Awaited {
    Start,
    Finish,
}

/// Ids of chunks that a reset may name.
const RECENT: usize = 256;

/// One image on its way to one device; see the [module](super) for the loop around it.
///
/// `I` is whatever holds the image: `&[u8]`, `Vec<u8>`, `Arc<[u8]>`.
#[derive(Clone, Debug)]
pub struct Upload<I> {
    sender: Sender<I>,
    awaited: Option<(Awaited, u16, Token)>,
    /// Of the chunks sent last, newest at `sendings`.
    recent: [u16; RECENT],
    sendings: usize,
}

impl<I: AsRef<[u8]>> Upload<I> {
    /// Checks the whole job.
    ///
    /// # Errors
    /// [`SenderError`], before anything is sent.
    pub fn new(image: I, options: Options) -> Result<Self, SenderError> {
        let sender = Sender::new(image, options)?;
        Ok(Self { sender, awaited: None, recent: [0; RECENT], sendings: 0 })
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.sender.progress()
    }

    /// The result, once there is one.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<(), Failure>> {
        self.sender.outcome()
    }

    /// Gives up: the device is told, see [`Sender::cancel`].
    pub fn cancel(&mut self, discard: bool) {
        self.sender.cancel(discard);
    }

    /// When [`Upload::handle_deadline`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.sender.next_deadline()
    }

    /// Sends again or gives up if the deadline has come; poll afterwards.
    pub fn handle_deadline(&mut self, now: Duration) {
        self.sender.handle_deadline(now);
    }

    /// Takes a message of the device, an acknowledgement included. One that makes no sense is left alone.
    ///
    /// What is not to be acknowledged must not be: a device applies the image when its answer to Finish is.
    pub fn handle_message(&mut self, now: Duration, message: &Message<'_>) -> Handled {
        let Ok(Some(body)) = FromDevice::decode(message) else { return Handled::NotMine };
        if let FromDevice::Acknowledgement(acknowledgement) = body {
            self.sender.handle_input(now, Input::Acknowledged(acknowledgement));
            return Handled::Taken;
        }
        let Some((awaited, _, _)) = self.awaited.filter(|(_, _, token)| message.token() == *token) else {
            return Handled::NotMine;
        };
        let input = match (awaited, body) {
            (Awaited::Start, FromDevice::StartAnswer(answer)) => Input::StartAnswered(answer),
            (Awaited::Start, FromDevice::Refusal { code: Code(code), .. }) => Input::StartRefused { code },
            (Awaited::Finish, FromDevice::FinishAnswer(_)) => Input::FinishAnswered,
            (Awaited::Finish, FromDevice::Refusal { code: Code(code), .. }) => Input::FinishRefused { code },
            _ => return Handled::NotMine,
        };
        self.awaited = None;
        // The acknowledgement of a yes makes the device go on, which a transfer that has failed does not want.
        let unwanted = matches!(self.sender.outcome(), Some(Err(_)))
            && matches!(input, Input::StartAnswered(_) | Input::FinishAnswered);
        self.sender.handle_input(now, input);
        match message.kind() {
            Type::Confirmable if !unwanted => Handled::Acknowledge(message.id()),
            _ => Handled::Taken,
        }
    }

    /// Takes a reset message with this id.
    pub fn handle_reset(&mut self, now: Duration, id: u16) {
        let known = self.sendings.min(RECENT);
        let of_request = self.awaited.is_some_and(|(_, awaited, _)| awaited == id);
        if of_request || self.recent.get(..known).is_some_and(|recent| recent.contains(&id)) {
            self.sender.handle_input(now, Input::Reset);
        }
    }

    /// The next message of the transfer, encoded into `out`; `None` if nothing is due. Each call gives a chunk while the
    /// window is open: the caller sets the pace.
    ///
    /// # Errors
    /// [`WriteError`] if `out` is too short for a chunk and 32 bytes more; nothing was taken from the transfer.
    pub fn poll_send<'o>(
        &mut self,
        now: Duration,
        ids: &mut Ids,
        out: &'o mut [u8],
    ) -> Result<Option<&'o [u8]>, WriteError> {
        let needed = usize::from(self.sender.options().chunk_size) + 32;
        if out.len() < needed {
            return Err(WriteError::BufferTooSmall { needed, available: out.len() });
        }
        let Some(output) = self.sender.poll_output(now) else { return Ok(None) };
        let id = ids.id();
        let (message, awaited) = match output {
            Output::Start(start) => (FromServer::Start(start), Some(Awaited::Start)),
            Output::Finish(finish) => (FromServer::Finish(finish), Some(Awaited::Finish)),
            Output::Chunk { index, data } => (FromServer::Chunk { index, data }, None),
        };
        let token = if awaited.is_some() { ids.token() } else { Token::EMPTY };
        let bytes = message.encode_into(id, token, out)?;
        match awaited {
            Some(awaited) => self.awaited = Some((awaited, id, token)),
            None => {
                self.recent[self.sendings % RECENT] = id;
                self.sendings = self.sendings.wrapping_add(1);
            }
        }
        Ok(Some(bytes))
    }
}
