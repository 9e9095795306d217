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
/// itself is confirmable; the transport, [`coap_spark::udp::Endpoint`] for instance, repeats it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Datagrams {
    /// Next message id and token of the session.
    pub ids: Ids,
    updating: bool,
}

impl Datagrams {
    /// Goes on with these ids.
    #[must_use]
    pub const fn new(ids: Ids) -> Self {
        Self { ids, updating: false }
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
