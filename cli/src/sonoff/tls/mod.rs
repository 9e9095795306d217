//! Connections of Sonoff devices, with TLS or without: the server's end, and the end of a simulated device.
//!
//! Devices know TLS 1.0 to 1.2 with RSA key exchange and a SHA-1 world around it, which nothing modern offers unasked.
//! [`Acceptor`] lowers the security level of OpenSSL to 0, for its own connections only. What it does not have is RC4: the
//! default provider of OpenSSL 3 lacks it, so a device that knows nothing else cannot be served.
//!
//! The first byte tells TLS from plain HTTP, so one port serves devices that were built with and without TLS.
//!
//! TLS is there with feature `openssl`; without it, everything else here is.

mod failure;
#[cfg(feature = "openssl")]
mod openssl;

pub use failure::{Alert, Ciphers, FirstByte, HandshakeFailure, Version};

use crate::exit::{Code, Failure};
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A handshake ends within this time. A device needs some seconds for its share.
pub const HANDSHAKE: Duration = Duration::from_secs(20);

/// TLS cannot be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The program was built without it.
    #[error("this program was built without TLS")]
    NotBuilt,
    /// OpenSSL refuses what devices need.
    #[error("OpenSSL does not do what these devices need: {0}")]
    Refused(String),
}

impl TlsError {
    /// For `main`, with the next step.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let next = match self {
            Self::NotBuilt => {
                "build it with `cargo build --release --features openssl`, or do without TLS: --plain for a device, \
                 --no-tls for the server"
            }
            Self::Refused(_) => {
                "the system forbids old TLS (a FIPS or crypto policy): use another system, or --plain, --no-tls"
            }
        };
        Failure::new(Code::Unavailable, self, next)
    }
}

/// A connection, with TLS or without.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stream {
    /// Without.
    Plain(TcpStream),
    /// With.
    #[cfg(feature = "openssl")]
    Tls(tokio_openssl::SslStream<TcpStream>),
}

impl Stream {
    /// The socket below.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            #[cfg(feature = "openssl")]
            Self::Tls(stream) => stream.get_ref(),
        }
    }

    /// Version and cipher suite, as `TLSv1.1` and `AES128-SHA`; `None` without TLS.
    #[must_use]
    pub fn tls(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Plain(_) => None,
            #[cfg(feature = "openssl")]
            Self::Tls(stream) => {
                let ssl = stream.ssl();
                Some((ssl.version_str(), ssl.current_cipher().map_or("no cipher", |cipher| cipher.name())))
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            #[cfg(feature = "openssl")]
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            #[cfg(feature = "openssl")]
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            #[cfg(feature = "openssl")]
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            #[cfg(feature = "openssl")]
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// The server's end of connections.
#[derive(Clone)]
pub struct Acceptor {
    #[cfg(feature = "openssl")]
    tls: Option<openssl::Server>,
}

impl Acceptor {
    /// For TLS and plain HTTP on one port, with a new certificate. Takes a moment: the certificate has a new key.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new() -> Result<Self, TlsError> {
        #[cfg(feature = "openssl")]
        return Ok(Self { tls: Some(openssl::Server::new()?) });
        #[cfg(not(feature = "openssl"))]
        Err(TlsError::NotBuilt)
    }

    /// For plain HTTP only; who wants TLS is refused.
    #[must_use]
    pub const fn plain() -> Self {
        Self {
            #[cfg(feature = "openssl")]
            tls: None,
        }
    }

    /// It takes TLS.
    #[must_use]
    pub const fn has_tls(&self) -> bool {
        #[cfg(feature = "openssl")]
        return self.tls.is_some();
        #[cfg(not(feature = "openssl"))]
        false
    }

    /// Takes a connection, within [`HANDSHAKE`].
    ///
    /// # Errors
    /// [`HandshakeFailure`].
    pub async fn accept(&self, socket: TcpStream) -> Result<Stream, HandshakeFailure> {
        let mut first = [0; 1];
        match timeout(HANDSHAKE, socket.peek(&mut first)).await {
            Ok(Ok(1)) => {}
            _ => return Err(HandshakeFailure::Silent),
        }
        timeout(HANDSHAKE, self.take(socket, first)).await.unwrap_or(Err(HandshakeFailure::TimedOut))
    }

    async fn take(&self, socket: TcpStream, first: [u8; 1]) -> Result<Stream, HandshakeFailure> {
        match first {
            // A method of HTTP.
            [b'A'..=b'Z'] => Ok(Stream::Plain(socket)),
            #[cfg(feature = "openssl")]
            _ if self.tls.is_some() => match &self.tls {
                Some(tls) => tls.accept(socket).await.map(Stream::Tls),
                None => Err(HandshakeFailure::WithoutTls),
            },
            [failure::HANDSHAKE_RECORD] => Err(HandshakeFailure::WithoutTls),
            [other] => Err(HandshakeFailure::NotHttp(FirstByte(other))),
        }
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("tls", &self.has_tls()).finish()
    }
}

/// What a simulated device knows of TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Knows {
    /// The newest version.
    pub max: Version,
    /// It takes the vendor's certificate only, and drops the connection at any other.
    pub pins_certificate: bool,
}

/// The device's end of connections.
#[derive(Clone)]
pub struct Connector {
    #[cfg(feature = "openssl")]
    tls: openssl::Client,
    #[cfg(not(feature = "openssl"))]
    tls: core::convert::Infallible,
}

impl Connector {
    /// With the cipher suites of devices: RSA key exchange, AES, SHA-1 or SHA-256.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(knows: Knows) -> Result<Self, TlsError> {
        #[cfg(feature = "openssl")]
        return Ok(Self { tls: openssl::Client::new(knows)? });
        #[cfg(not(feature = "openssl"))]
        {
            let _ = knows;
            Err(TlsError::NotBuilt)
        }
    }

    /// Does the handshake, within [`HANDSHAKE`].
    ///
    /// # Errors
    /// [`HandshakeFailure`].
    pub async fn connect(&self, socket: TcpStream) -> Result<Stream, HandshakeFailure> {
        #[cfg(feature = "openssl")]
        {
            let connected = timeout(HANDSHAKE, self.tls.connect(socket)).await;
            connected.unwrap_or(Err(HandshakeFailure::TimedOut)).map(Stream::Tls)
        }
        #[cfg(not(feature = "openssl"))]
        {
            drop(socket);
            match self.tls {}
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}
