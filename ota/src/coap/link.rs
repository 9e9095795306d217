//! Where messages go: a connection of the TCP session, or datagrams.

use coap_spark::coap::{Token, Type};
use coap_spark::connection::{DeviceConnection, SendError, Sent, ServerConnection};
use coap_spark::message::{Envelope, FromDevice, FromServer, Response};
use coap_spark::session::sealed_len;

/// What an [`Upload`](super::Upload) sends through.
pub trait ServerLink {
    /// Bytes that a message of `len` bytes takes on the way.
    fn sent_len(&self, len: usize) -> usize;

    /// Sends a request with a new id and token, confirmable.
    ///
    /// # Errors
    /// [`SendError`].
    fn send<'o>(&mut self, body: FromServer<'_>, out: &'o mut [u8]) -> Result<Sent<'o>, SendError>;

    /// Messages that are not acknowledged are repeated by the link itself, so the transfer does not.
    fn repeats(&self) -> bool;

    /// [`ServerLink::send_batch`] is faster than sending one by one.
    fn can_batch(&self) -> bool;

    /// Sends up to [`MAX_BATCH`](coap_spark::connection::MAX_BATCH) requests at once, one behind the other in `out`.
    ///
    /// # Errors
    /// [`SendError`]; then nothing was sent.
    fn send_batch<'o>(&mut self, bodies: &[FromServer<'_>], out: &'o mut [u8])
    -> Result<&'o [u8], SendError>;
}

/// What a [`Download`](super::Download) speaks through.
pub trait DeviceLink {
    /// Acknowledges message `id`.
    ///
    /// # Errors
    /// [`SendError`].
    fn acknowledge<'o>(&mut self, id: u16, out: &'o mut [u8]) -> Result<&'o [u8], SendError>;

    /// Answers message `id` in the acknowledgement.
    ///
    /// # Errors
    /// [`SendError`].
    fn piggyback<'o>(
        &mut self,
        id: u16,
        token: Token,
        response: Response<'_>,
        out: &'o mut [u8],
    ) -> Result<&'o [u8], SendError>;

    /// Sends a response of its own, with a new id.
    ///
    /// # Errors
    /// [`SendError`].
    fn respond<'o>(
        &mut self,
        token: Token,
        response: Response<'_>,
        out: &'o mut [u8],
    ) -> Result<&'o [u8], SendError>;

    /// Sends a message; `confirmable` where the link leaves a choice.
    ///
    /// # Errors
    /// [`SendError`].
    fn send<'o>(
        &mut self,
        body: FromDevice<'_>,
        confirmable: bool,
        out: &'o mut [u8],
    ) -> Result<&'o [u8], SendError>;

    /// An update runs, or does not any more.
    fn set_updating(&mut self, updating: bool);
}

impl<const N: usize> ServerLink for ServerConnection<N> {
    fn sent_len(&self, len: usize) -> usize {
        sealed_len(len)
    }

    fn send<'o>(&mut self, body: FromServer<'_>, out: &'o mut [u8]) -> Result<Sent<'o>, SendError> {
        Self::send(self, body, out)
    }

    fn send_batch<'o>(
        &mut self,
        bodies: &[FromServer<'_>],
        out: &'o mut [u8],
    ) -> Result<&'o [u8], SendError> {
        Self::send_batch(self, bodies, out)
    }

    fn repeats(&self) -> bool {
        false
    }

    fn can_batch(&self) -> bool {
        true
    }
}

impl<const N: usize> DeviceLink for DeviceConnection<N> {
    fn acknowledge<'o>(&mut self, id: u16, out: &'o mut [u8]) -> Result<&'o [u8], SendError> {
        Self::acknowledge(self, id, out)
    }

    fn piggyback<'o>(
        &mut self,
        id: u16,
        token: Token,
        response: Response<'_>,
        out: &'o mut [u8],
    ) -> Result<&'o [u8], SendError> {
        Self::piggyback(self, id, token, response, out)
    }

    fn respond<'o>(
        &mut self,
        token: Token,
        response: Response<'_>,
        out: &'o mut [u8],
    ) -> Result<&'o [u8], SendError> {
        Ok(Self::respond(self, Type::NonConfirmable, token, response, out)?.bytes)
    }

    fn send<'o>(
        &mut self,
        body: FromDevice<'_>,
        confirmable: bool,
        out: &'o mut [u8],
    ) -> Result<&'o [u8], SendError> {
        let kind = if confirmable { Type::Confirmable } else { Type::NonConfirmable };
        Ok(Self::send(self, kind, body, out)?.bytes)
    }

    fn set_updating(&mut self, updating: bool) {
        Self::set_updating(self, updating);
    }
}

/// The next message id and token of a session; all who send in it share one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Ids {
    /// Next message id.
    pub id: u16,
    /// Next token.
    pub token: u8,
}

impl Ids {
    /// Takes a message id.
    pub const fn id(&mut self) -> u16 {
        let id = self.id;
        self.id = id.wrapping_add(1);
        id
    }

    /// Takes a token of one byte.
    pub const fn token(&mut self) -> Token {
        let token = self.token;
        self.token = token.wrapping_add(1);
        Token::byte(token)
    }
}

/// Messages as they are, each for one DTLS record: for Electron and all others that use UDP. All that asks or answers by
/// itself is confirmable; the transport, [`coap_spark::udp::Endpoint`] for instance, repeats it, but for fast chunks, which
/// devices do not acknowledge: see [`Datagrams::is_repeated`]. The server's loop over it:
///
/// ```no_run
/// # use coap_spark::{message::{Envelope, FromDevice}, udp::{Endpoint, Incoming}};
/// # fn f(image: &[u8], endpoint: &mut Endpoint<1200>, mut socket: impl FnMut(&[u8]), mut received: impl FnMut() -> Vec<u8>,
/// #     clock: impl Fn() -> core::time::Duration) -> Result<(), Box<dyn core::error::Error>> {
/// # use spark_ota::{coap::{Datagrams, Ids, Upload}, transfer::Options};
/// let (mut upload, mut link) = (Upload::new(image, Options::DEFAULT)?, Datagrams::new(Ids::default()));
/// let mut out = [0; 1200];
/// while upload.outcome().is_none() {
///     // One request waits at a time.
///     if endpoint.pending().next().is_none()
///         && let Some(message) = upload.poll_send(clock(), &mut link, &mut out)?
///     {
///         if link.is_repeated() { endpoint.send(message, 0)? } else { endpoint.send_unrepeated(message)? }
///     }
///     while let Some(record) = endpoint.poll_output(clock(), &mut out)? { socket(record); }
///     let bytes = received(); // or nothing: soon while there are chunks, else after `next_deadline()` of both
///     if let Ok(Incoming::Message(_) | Incoming::Acknowledged(_)) = endpoint.handle_datagram(clock(), &bytes)
///         && let Some(id) = upload.handle_message(clock(), &Envelope::<FromDevice>::decode(&bytes)?).acknowledge()
///     {
///         endpoint.acknowledge(id)?;
///     }
///     endpoint.handle_deadline(clock(), 0)?;
///     upload.handle_deadline(clock());
/// }
/// # Ok(()) }
/// ```
///
/// A device leaves fast chunks unanswered with [`forget`](coap_spark::udp::Endpoint::forget), or they would soon fill what
/// its endpoint remembers. Its endpoint needs room for several messages that wait (`PENDING` 4), for it may ask for chunks
/// while earlier words are still on their way.
/// In slow mode both ends have to remember every chunk or answer of 45 s (`SEEN`), as a late copy must not be counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Datagrams {
    /// Next message id and token of the session.
    pub ids: Ids,
    updating: bool,
    unrepeated: bool,
}

impl Datagrams {
    /// Goes on with these ids.
    #[must_use]
    pub const fn new(ids: Ids) -> Self {
        Self { ids, updating: false, unrepeated: false }
    }

    /// The request that was written last is to be repeated until it is acknowledged. A fast chunk is not: it goes out once.
    #[must_use]
    pub const fn is_repeated(&self) -> bool {
        !self.unrepeated
    }

    /// An update runs: a device does not send keep-alives.
    #[must_use]
    pub const fn is_updating(&self) -> bool {
        self.updating
    }
}

fn encode<'o>(
    kind: Type,
    id: u16,
    token: Token,
    body: FromDevice<'_>,
    out: &'o mut [u8],
) -> Result<&'o [u8], SendError> {
    Ok(Envelope { kind, id, token, body }.encode_into(out)?)
}

impl ServerLink for Datagrams {
    fn sent_len(&self, len: usize) -> usize {
        len
    }

    fn send<'o>(&mut self, body: FromServer<'_>, out: &'o mut [u8]) -> Result<Sent<'o>, SendError> {
        let (id, token) = (self.ids.id, Token::byte(self.ids.token));
        let bytes = Envelope { kind: Type::Confirmable, id, token, body }.encode_into(out)?;
        self.ids.id();
        self.ids.token();
        self.unrepeated = matches!(body, FromServer::Chunk(chunk) if chunk.index.is_some());
        Ok(Sent { id, token, bytes })
    }

    fn repeats(&self) -> bool {
        true
    }

    /// Each message is a record of its own.
    fn can_batch(&self) -> bool {
        false
    }

    fn send_batch<'o>(&mut self, _: &[FromServer<'_>], _: &'o mut [u8]) -> Result<&'o [u8], SendError> {
        Err(SendError::Busy { reason: "datagrams are sent one by one" })
    }
}

impl DeviceLink for Datagrams {
    fn acknowledge<'o>(&mut self, id: u16, out: &'o mut [u8]) -> Result<&'o [u8], SendError> {
        encode(Type::Acknowledgement, id, Token::EMPTY, FromDevice::Ack, out)
    }

    fn piggyback<'o>(
        &mut self,
        id: u16,
        token: Token,
        response: Response<'_>,
        out: &'o mut [u8],
    ) -> Result<&'o [u8], SendError> {
        encode(Type::Acknowledgement, id, token, FromDevice::Response(response), out)
    }

    fn respond<'o>(
        &mut self,
        token: Token,
        response: Response<'_>,
        out: &'o mut [u8],
    ) -> Result<&'o [u8], SendError> {
        encode(Type::Confirmable, self.ids.id(), token, FromDevice::Response(response), out)
    }

    fn send<'o>(&mut self, body: FromDevice<'_>, _: bool, out: &'o mut [u8]) -> Result<&'o [u8], SendError> {
        encode(Type::Confirmable, self.ids.id(), Token::EMPTY, body, out)
    }

    fn set_updating(&mut self, updating: bool) {
        self.updating = updating;
    }
}
