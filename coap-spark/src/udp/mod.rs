//! Reliable messages for UDP devices: retransmission, duplicates, keep-alive, either end.
//!
//! Electron and the third generation send the same [messages](crate::message) over UDP. There is no handshake of this
//! crate, no length prefix and no AES frame: each CoAP message is one DTLS record. What TCP did for the others is the
//! work of [`Endpoint`]: it repeats confirmable messages until they are acknowledged, answers repeated ones with the
//! same reply as before, and keeps the path through address translation open.
//!
//! | | value | what for |
//! |---|---|---|
//! | [`ACK_TIMEOUT`] | 4 s | wait after the first sending; doubled for each further one |
//! | random part | t times 0..=255, divided by 512 | added to each wait |
//! | [`MAX_RETRANSMIT`] | 3 | so 4 sendings; without an answer the session is over |
//! | NSTART | 1 | outstanding confirmable messages, `PENDING` of [`Endpoint`] |
//! | [`MAX_TRANSMIT_SPAN`] | 45 s | how long replies are kept for duplicates |
//! | [`KEEP_ALIVE_INTERVAL`] | 23 min | silence after which a device sends the byte `00` |
//! | [`KEEP_ALIVE_TIMEOUT`] | 30 s | how long it waits for anything to come after that |
//!
//! # How to put DTLS under it
//! This is an extension point: the module knows no DTLS. With a DTLS library of the caller's choice,
//!
//! 1. finish the DTLS handshake (both ends know each other's public key beforehand) and make an [`Endpoint`];
//! 2. give the plaintext of each record to [`Endpoint::handle_datagram`], and act on what it is: an
//!    [`Incoming::Message`] is read with [`Envelope::decode`](crate::message::Envelope::decode) and, if it is
//!    confirmable, replied to with [`Endpoint::acknowledge`] or an acknowledgement given to [`Endpoint::send`];
//! 3. give each encoded message to [`Endpoint::send`];
//! 4. after each of these, call [`Endpoint::poll_output`] until `None` and send each datagram as **one** record;
//! 5. set a timer to [`Endpoint::next_deadline`] and call [`Endpoint::handle_deadline`], then go to 4;
//! 6. when the endpoint is [closed](Endpoint::closed), discard the DTLS session and begin again with its handshake.
//!
//! A device's first message is a confirmable Hello with its id behind the payload, and events are confirmable unless
//! asked otherwise. Records must not be handed on twice after a resumption of the DTLS session: what was seen before
//! is known to this endpoint only.
//!
//! # What it does not do
//! No DTLS: no records, no encryption, no session resumption, and none of the checksums with which firmware skips
//! Describe and subscriptions after one. No choice of message ids and tokens, no block-wise transfer, no congestion
//! control beyond NSTART. It does not limit how often non-confirmable messages come, nor see whether they come twice.
//!
//! ```
//! use coap_spark::coap::{Token, Type};
//! use coap_spark::handshake::DeviceId;
//! use coap_spark::message::{Envelope, FromDevice, Hello, HelloFlags};
//! use coap_spark::udp::{Endpoint, Incoming, Timing};
//! use core::time::Duration;
//!
//! let now = Duration::ZERO;
//! let mut device = Endpoint::<128>::new(Timing::DEVICE, now);
//! let mut server = Endpoint::<128>::new(Timing::SERVER, now);
//!
//! let mut hello = Hello::new(10, 1, HelloFlags::DIAGNOSTICS, 10);
//! hello.device_id = Some(DeviceId([7; 12]));
//! let hello = Envelope { kind: Type::Confirmable, id: 1, token: Token::EMPTY, body: FromDevice::Hello(hello) };
//! let (mut message, mut datagram) = ([0; 128], [0; 128]);
//! device.send(hello.encode_into(&mut message)?, 99)?; // 99 comes from a random source
//! // The first sending is lost, four seconds and a random part later it is repeated.
//! assert!(device.poll_output(now, &mut datagram)?.is_some());
//! let now = device.next_deadline().unwrap();
//! device.handle_deadline(now, 17)?;
//! let record = device.poll_output(now, &mut datagram)?.unwrap();
//!
//! let Incoming::Message(received) = server.handle_datagram(now, record)? else { panic!("a message") };
//! assert_eq!((received.kind(), received.id()), (Type::Confirmable, 1));
//! server.acknowledge(1)?;
//! let record = server.poll_output(now, &mut datagram)?.unwrap();
//! assert!(matches!(device.handle_datagram(now, record)?, Incoming::Acknowledged(ack) if ack.id() == 1));
//! assert!(device.pending().next().is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Source
//! device-os@v2.3.1: `communication/src/coap_channel.h`, `coap_channel.cpp`, `coap_util.h`, `dtls_protocol.cpp`,
//! `ping.h`; RFC 7252 section 4. What acknowledges the keep-alive byte is not recorded anywhere: a device here takes
//! any datagram for it, a server sends the byte back.

mod endpoint;
mod pending;
mod seen;
mod timing;

pub use endpoint::{Closed, Endpoint, Incoming, InputError, OutputError, SendError};
pub use timing::{
    ACK_TIMEOUT, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, KeepAlive, MAX_RETRANSMIT, MAX_TRANSMIT_SPAN,
    Timing,
};

/// The datagram that keeps the path open: one byte.
pub const KEEP_ALIVE: [u8; 1] = [0];

#[cfg(test)]
mod tests;
