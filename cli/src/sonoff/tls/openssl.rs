//! TLS by OpenSSL.

use super::failure::{Alert, Ciphers, HandshakeFailure, Version};
use super::{Knows, TlsError};
use core::ffi::c_int;
use core::future::poll_fn;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{
    self, ClientHelloResponse, ErrorCode, Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslRef,
    SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use openssl::x509::{X509, X509NameBuilder};
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

/// For the server: other clients than devices first, in the order that we prefer, then what devices know.
const SERVER_CIPHERS: &str = "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-SHA:\
    ECDHE-RSA-AES128-SHA:AES128-SHA256:AES256-SHA256:AES128-SHA:AES256-SHA:@SECLEVEL=0";
/// What the relatives of axTLS in devices know, without RC4.
const DEVICE_CIPHERS: &str = "AES128-SHA256:AES256-SHA256:AES128-SHA:AES256-SHA:@SECLEVEL=0";

const KEY_BITS: u32 = 2048;
const SUBJECT: &str = "sonoff";

/// Where OpenSSL's server waits when the device has gone on after the certificate.
const PAST_CERTIFICATE: [&str; 2] =
    ["SSLv3/TLS read client key exchange", "SSLv3/TLS read change cipher spec"];

/// `ERR_LIB_SSL`, and its reasons that mean something to a person.
const SSL: c_int = 20;
mod reason {
    use core::ffi::c_int;

    pub(super) const HTTPS_PROXY_REQUEST: c_int = 155;
    pub(super) const HTTP_REQUEST: c_int = 156;
    pub(super) const NO_SHARED_CIPHER: c_int = 193;
    pub(super) const UNKNOWN_PROTOCOL: c_int = 252;
    pub(super) const UNSUPPORTED_PROTOCOL: c_int = 258;
    pub(super) const WRONG_VERSION_NUMBER: c_int = 267;
    pub(super) const BAD_RECORD_MAC: c_int = 281;
    pub(super) const UNEXPECTED_EOF: c_int = 294;
    pub(super) const VERSION_TOO_LOW: c_int = 396;
    /// An alert of the other end is this and its number.
    pub(super) const ALERT: c_int = 1000;
}

fn refused(error: &ErrorStack) -> TlsError {
    TlsError::Refused(words(error))
}

/// The last error: the ones before it are its causes.
fn words(error: &ErrorStack) -> String {
    let words = error.errors().last().and_then(|error| error.reason().map(str::to_owned));
    words.unwrap_or_else(|| "no reason told".to_owned())
}

/// What a device has said in its first message.
#[derive(Clone)]
struct Hello {
    version: Option<SslVersion>,
    ciphers: Ciphers,
}

impl Hello {
    fn of(ssl: &SslRef) -> Self {
        let bytes = ssl.client_hello_ciphers().unwrap_or_default();
        // The old form has three bytes each, the first of which is 0 for suites of TLS.
        let ciphers = if ssl.client_hello_isv2() {
            let suites = bytes.as_chunks::<3>().0.iter();
            suites
                .filter(|suite| suite[0] == 0)
                .map(|suite| u16::from_be_bytes([suite[1], suite[2]]))
                .collect()
        } else {
            bytes.as_chunks::<2>().0.iter().map(|suite| u16::from_be_bytes(*suite)).collect()
        };
        Self { version: ssl.client_hello_legacy_version(), ciphers: Ciphers(ciphers) }
    }

    fn asked(&self) -> Version {
        match self.version {
            Some(SslVersion::TLS1) => Version::Tls10,
            Some(SslVersion::TLS1_1) => Version::Tls11,
            // A client of 1.3 says 1.2 here and the truth in an extension; one of 1.2 would have been taken.
            Some(SslVersion::TLS1_2 | SslVersion::TLS1_3) => Version::Tls13,
            _ => Version::Ssl3,
        }
    }
}

/// The server's end.
#[derive(Clone)]
pub(super) struct Server {
    context: SslContext,
    hello: Index<Ssl, Hello>,
}

impl Server {
    pub(super) fn new() -> Result<Self, TlsError> {
        let hello = Ssl::new_ex_index().map_err(|error| refused(&error))?;
        let context = Self::context(hello, SERVER_CIPHERS).map_err(|error| refused(&error))?;
        Ok(Self { context, hello })
    }

    fn context(hello: Index<Ssl, Hello>, ciphers: &str) -> Result<SslContext, ErrorStack> {
        let mut builder = SslContextBuilder::new(SslMethod::tls_server())?;
        common(&mut builder, ciphers, SslVersion::TLS1_2)?;
        builder.set_options(SslOptions::CIPHER_SERVER_PREFERENCE | SslOptions::NO_TICKET);
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        builder.set_client_hello_callback(move |ssl, _| {
            let said = Hello::of(ssl);
            ssl.set_ex_data(hello, said);
            Ok(ClientHelloResponse::SUCCESS)
        });
        let key = PKey::from_rsa(Rsa::generate(KEY_BITS)?)?;
        let certificate = certificate(&key)?;
        builder.set_private_key(&key)?;
        builder.set_certificate(&certificate)?;
        Ok(builder.build())
    }

    pub(super) async fn accept(&self, socket: TcpStream) -> Result<SslStream<TcpStream>, HandshakeFailure> {
        let ssl = Ssl::new(&self.context).map_err(|error| HandshakeFailure::Other(words(&error)))?;
        let mut stream =
            SslStream::new(ssl, socket).map_err(|error| HandshakeFailure::Other(words(&error)))?;
        // After an error the state is "error".
        let mut waited_in = "";
        let accepted = poll_fn(|context| {
            let polled = Pin::new(&mut stream).poll_accept(context);
            if polled.is_pending() {
                waited_in = stream.ssl().state_string_long();
            }
            polled
        })
        .await;
        accepted.map_err(|error| {
            // Between the device's first message and our flight with the certificate nothing is waited for.
            let hello = stream.ssl().ex_data(self.hello);
            let at_certificate = hello.is_some() && !PAST_CERTIFICATE.contains(&waited_in);
            classify(&error, hello, at_certificate)
        })?;
        Ok(stream)
    }
}

/// The device's end.
#[derive(Clone)]
pub(super) struct Client {
    context: SslContext,
    pins_certificate: bool,
}

impl Client {
    pub(super) fn new(knows: Knows) -> Result<Self, TlsError> {
        let max = match knows.max {
            Version::Ssl3 => SslVersion::SSL3,
            Version::Tls10 => SslVersion::TLS1,
            Version::Tls11 => SslVersion::TLS1_1,
            Version::Tls12 => SslVersion::TLS1_2,
            Version::Tls13 => SslVersion::TLS1_3,
        };
        let context = || {
            let mut builder = SslContextBuilder::new(SslMethod::tls_client())?;
            common(&mut builder, DEVICE_CIPHERS, max)?;
            builder.set_verify(SslVerifyMode::NONE);
            Ok(builder.build())
        };
        let context = context().map_err(|error: ErrorStack| refused(&error))?;
        Ok(Self { context, pins_certificate: knows.pins_certificate })
    }

    pub(super) async fn connect(&self, socket: TcpStream) -> Result<SslStream<TcpStream>, HandshakeFailure> {
        let other = |error: ErrorStack| HandshakeFailure::Other(words(&error));
        let mut ssl = Ssl::new(&self.context).map_err(other)?;
        let dropped = Arc::new(AtomicBool::new(false));
        if self.pins_certificate {
            let dropped = Arc::clone(&dropped);
            let below = socket2::SockRef::from(&socket).try_clone().map_err(|_| HandshakeFailure::Lost)?;
            // A device resets the connection and sends no alert, as OpenSSL would after this.
            ssl.set_verify_callback(SslVerifyMode::PEER, move |_, _| {
                dropped.store(true, Ordering::Relaxed);
                let _ = below.set_linger(Some(core::time::Duration::ZERO));
                let _ = below.shutdown(Shutdown::Both);
                false
            });
        }
        let mut stream = SslStream::new(ssl, socket).map_err(other)?;
        match Pin::new(&mut stream).connect().await {
            Ok(()) => Ok(stream),
            Err(_) if dropped.load(Ordering::Relaxed) => Err(HandshakeFailure::Pinned),
            Err(error) => Err(classify(&error, None, false)),
        }
    }
}

fn common(builder: &mut SslContextBuilder, ciphers: &str, max: SslVersion) -> Result<(), ErrorStack> {
    builder.set_cipher_list(ciphers)?;
    builder.set_min_proto_version(Some(SslVersion::TLS1))?;
    builder.set_max_proto_version(Some(max))?;
    // Empty records, which OpenSSL puts before others in TLS 1.0, are nothing that a device expects.
    builder.set_options(
        SslOptions::NO_COMPRESSION | SslOptions::NO_RENEGOTIATION | SslOptions::DONT_INSERT_EMPTY_FRAGMENTS,
    );
    Ok(())
}

/// Self-signed, RSA-2048, SHA-1: what is known to work. Devices have 4096 bytes for a TLS message.
fn certificate(key: &PKey<Private>) -> Result<X509, ErrorStack> {
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_nid(Nid::COMMONNAME, SUBJECT)?;
    let name = name.build();
    let mut builder = X509::builder()?;
    let serial = BigNum::from_u32(1)?.to_asn1_integer()?;
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(&name)?;
    // Devices do not know the time, and nothing is verified.
    builder.set_not_before(Asn1Time::from_str("20160101000000Z")?.as_ref())?;
    builder.set_not_after(Asn1Time::from_str("20371231235959Z")?.as_ref())?;
    builder.set_pubkey(key)?;
    builder.sign(key, MessageDigest::sha1())?;
    Ok(builder.build())
}

fn classify(error: &ssl::Error, hello: Option<&Hello>, at_certificate: bool) -> HandshakeFailure {
    let stack = error.ssl_error().map_or(&[][..], ErrorStack::errors);
    let reasons: Vec<_> =
        stack.iter().filter(|error| error.library_code() == SSL).map(|error| error.reason_code()).collect();
    let has = |wanted: &[c_int]| reasons.iter().any(|reason| wanted.contains(reason));
    let alert = reasons.iter().find_map(|reason| u8::try_from(reason - reason::ALERT).ok()).map(Alert);
    if let Some(alert) = alert {
        return match alert {
            alert if hello.is_some() && alert.is_of_certificate() => {
                HandshakeFailure::CertificateRefused { alert: Some(alert) }
            }
            Alert(20) => HandshakeFailure::BadRecord,
            alert => HandshakeFailure::Refused(alert),
        };
    }
    if has(&[reason::HTTP_REQUEST, reason::HTTPS_PROXY_REQUEST]) {
        return HandshakeFailure::PlainHttp;
    }
    if has(&[reason::NO_SHARED_CIPHER]) {
        let offered = hello.map(|hello| hello.ciphers.clone()).unwrap_or_default();
        return HandshakeFailure::NoSharedCipher { offered };
    }
    if has(&[reason::UNSUPPORTED_PROTOCOL, reason::VERSION_TOO_LOW])
        && let Some(hello) = hello
    {
        return HandshakeFailure::Protocol { asked: hello.asked() };
    }
    if has(&[reason::BAD_RECORD_MAC]) {
        return HandshakeFailure::BadRecord;
    }
    if has(&[reason::WRONG_VERSION_NUMBER, reason::UNKNOWN_PROTOCOL]) {
        return HandshakeFailure::NotTls;
    }
    let gone = error.io_error().is_some_and(|error| {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        matches!(error.kind(), ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof)
    });
    let gone = gone || has(&[reason::UNEXPECTED_EOF]);
    let ended = gone || error.code() == ErrorCode::SYSCALL || error.code() == ErrorCode::ZERO_RETURN;
    match error.ssl_error() {
        _ if ended && at_certificate => HandshakeFailure::CertificateRefused { alert: None },
        _ if ended => HandshakeFailure::Lost,
        Some(stack) => HandshakeFailure::Other(words(stack)),
        None => HandshakeFailure::Other(error.to_string()),
    }
}
