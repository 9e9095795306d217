//! TLS of `spark sonoff`: OpenSSL's client in all the ways in which devices and others use it, and what is no TLS.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

#[path = "common/sonoff.rs"]
mod common;

use spark_cli::sonoff::tls::{Acceptor, HandshakeFailure, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What came of one connection to the acceptor: `client` gets a socket of its own.
async fn accepted<F, T>(
    acceptor: &Acceptor,
    client: impl FnOnce(TcpStream) -> F,
) -> (Result<Stream, HandshakeFailure>, T)
where
    F: Future<Output = T>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async { acceptor.accept(listener.accept().await.unwrap().0).await };
    let client = async { client(TcpStream::connect(address).await.unwrap()).await };
    tokio::join!(server, client)
}

async fn sends(acceptor: &Acceptor, bytes: &[u8]) -> Result<Stream, HandshakeFailure> {
    let client = |mut socket: TcpStream| async move {
        socket.write_all(bytes).await.unwrap();
        socket.shutdown().await.unwrap();
        // Kept open in the other direction: alerts are let through.
        socket
    };
    accepted(acceptor, client).await.0
}

#[tokio::test]
async fn plain_server_tells_tls_from_http_and_from_nothing() {
    let acceptor = Acceptor::plain();
    assert!(!acceptor.has_tls());
    let mut stream = sends(&acceptor, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(matches!(stream, Stream::Plain(_)) && stream.tls().is_none());
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "GET / HTTP/1.1\r\n\r\n");
    for (bytes, code, words) in [
        (&b""[..], "silent", "nothing was said"),
        (b"\x16\x03\x01\x00\x05", "without-tls", "runs without it"),
        (b"\0\0\0", "not-http", "binary data that begin with the byte 0x00"),
        (b"\x17\x03\x03", "not-http", "a piece of a TLS connection"),
        (b"hello\r\n", "not-http", "text that begins with 'h'"),
    ] {
        let failure = sends(&acceptor, bytes).await.unwrap_err();
        assert_eq!(failure.code(), code, "{failure}");
        assert!(failure.to_string().contains(words) && !failure.to_string().contains("not TLS"), "{failure}");
    }
}

#[cfg(not(feature = "openssl"))]
#[test]
fn without_the_feature_tls_says_how_to_get_it() {
    use spark_cli::exit::Code;
    use spark_cli::sonoff::tls::{Connector, Knows, TlsError, Version};

    let knows = Knows { max: Version::Tls12, pins_certificate: false };
    assert_eq!(Connector::new(knows).unwrap_err(), TlsError::NotBuilt);
    let failure = Acceptor::new().unwrap_err().failure();
    assert_eq!(failure.code(), Code::Unavailable);
    assert!(
        failure.next().contains("--features openssl") && failure.next().contains("--no-tls"),
        "{failure}"
    );
}

#[cfg(feature = "openssl")]
mod with_tls {
    use super::*;
    use core::pin::Pin;
    use openssl::nid::Nid;
    use openssl::pkey::Id;
    use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};
    use serde_json::Value;
    use spark_cli::sonoff::tls::{Alert, Ciphers, Connector, Knows, Version};
    use std::sync::LazyLock;
    use tokio_openssl::SslStream;

    static ACCEPTOR: LazyLock<Acceptor> = LazyLock::new(|| Acceptor::new().unwrap());

    /// A client of OpenSSL.
    struct Client {
        versions: [SslVersion; 2],
        ciphers: &'static str,
        verify: bool,
    }

    const ALL: &str = "ALL:@SECLEVEL=0";

    impl Client {
        const fn only(version: SslVersion) -> Self {
            Self { versions: [version; 2], ciphers: ALL, verify: false }
        }

        async fn connect(&self, socket: TcpStream) -> Result<SslStream<TcpStream>, String> {
            let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
            builder.set_cipher_list(self.ciphers).unwrap();
            builder.set_min_proto_version(Some(self.versions[0])).unwrap();
            builder.set_max_proto_version(Some(self.versions[1])).unwrap();
            let verify = if self.verify { SslVerifyMode::PEER } else { SslVerifyMode::NONE };
            builder.set_verify(verify);
            let mut configuration = builder.build().configure().unwrap();
            configuration.set_verify_hostname(false);
            let ssl = configuration.into_ssl("localhost").unwrap();
            let mut stream = SslStream::new(ssl, socket).unwrap();
            Pin::new(&mut stream).connect().await.map_err(|error| error.to_string())?;
            Ok(stream)
        }
    }

    async fn with(
        client: Client,
    ) -> (Result<Stream, HandshakeFailure>, Result<SslStream<TcpStream>, String>) {
        accepted(&ACCEPTOR, |socket| async move { client.connect(socket).await }).await
    }

    fn version(text: &str) -> SslVersion {
        match text {
            "TLS 1.0" => SslVersion::TLS1,
            "TLS 1.1" => SslVersion::TLS1_1,
            "TLS 1.2 only" => SslVersion::TLS1_2,
            "TLS 1.3 only" => SslVersion::TLS1_3,
            other => panic!("{other}"),
        }
    }

    /// Every row of the matrix, with what is wanted here where the recorded server has TLS 1.1 only.
    #[tokio::test]
    async fn matrix_of_versions_and_suites() {
        let text = std::fs::read(format!("{}/tls_matrix.json", common::VECTORS)).unwrap();
        let matrix: Value = serde_json::from_slice(&text).unwrap();
        let mut seen = 0;
        for row in matrix["cases"].as_array().unwrap() {
            let (client, result) = (row["client"].as_str().unwrap(), row["result"].as_str().unwrap());
            if client == "any version" {
                // The security level of OpenSSL 3: what broke the recorded server does not break this one.
                assert!(result.starts_with("NO_CIPHERS_AVAILABLE"));
                let client = Client { ciphers: "DEFAULT:@SECLEVEL=0", ..Client::only(SslVersion::TLS1) };
                with(client).await.0.unwrap();
                seen += 1;
                continue;
            }
            let (asked, ciphers) = match client.split_once(", ") {
                Some((asked, "all ciphers")) => (asked, ALL),
                Some((asked, "AES128-SHA only")) => (asked, "AES128-SHA:@SECLEVEL=0"),
                Some((asked, "AES256-SHA only")) => (asked, "AES256-SHA:@SECLEVEL=0"),
                None => (client, ALL),
                Some((_, other)) => panic!("{other}"),
            };
            let (ours, theirs) = with(Client { ciphers, ..Client::only(version(asked)) }).await;
            match (asked, result.strip_prefix("ok, ")) {
                ("TLS 1.3 only", None) => {
                    assert_eq!(ours.unwrap_err(), HandshakeFailure::Protocol { asked: Version::Tls13 });
                    assert!(theirs.is_err());
                }
                ("TLS 1.0", None) => {
                    assert_eq!(ours.unwrap().tls(), Some(("TLSv1", "ECDHE-RSA-AES256-SHA")));
                }
                ("TLS 1.2 only", None) => {
                    assert_eq!(ours.unwrap().tls(), Some(("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384")));
                }
                ("TLS 1.1", Some(suite)) => {
                    assert_eq!(ours.unwrap().tls(), Some(("TLSv1.1", suite)), "{client}");
                }
                other => panic!("{other:?}"),
            }
            seen += 1;
        }
        assert_eq!(seen, 7);
    }

    #[tokio::test]
    async fn every_version_has_every_suite_of_devices() {
        let old = ["AES128-SHA", "AES256-SHA"];
        let new = ["AES128-SHA256", "AES256-SHA256"];
        for (version, name, suites) in [
            (SslVersion::TLS1, "TLSv1", &old[..]),
            (SslVersion::TLS1_1, "TLSv1.1", &old),
            (SslVersion::TLS1_2, "TLSv1.2", &[old, new].concat()),
        ] {
            for suite in suites {
                let list: &'static str = format!("{suite}:@SECLEVEL=0").leak();
                let (ours, theirs) = with(Client { ciphers: list, ..Client::only(version) }).await;
                let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
                assert_eq!(ours.tls(), Some((name, *suite)));
                theirs.write_all(b"over TLS").await.unwrap();
                let mut bytes = [0; 8];
                ours.read_exact(&mut bytes).await.unwrap();
                assert_eq!(&bytes, b"over TLS");
            }
        }
    }

    #[tokio::test]
    async fn certificate_is_small_and_old() {
        let (_ours, theirs) = with(Client::only(SslVersion::TLS1_2)).await;
        let theirs = theirs.unwrap();
        let certificate = theirs.ssl().peer_certificate().unwrap();
        let key = certificate.public_key().unwrap();
        assert_eq!((key.id(), key.bits()), (Id::RSA, 2048));
        let algorithm = certificate.signature_algorithm().object().nid();
        assert_eq!(algorithm, Nid::SHA1WITHRSAENCRYPTION);
        assert!(certificate.verify(&key).unwrap());
        assert_eq!(theirs.ssl().peer_cert_chain().unwrap().len(), 1);
        let length = certificate.to_der().unwrap().len();
        assert!(length < 1000, "{length} bytes");
    }

    #[tokio::test]
    async fn plain_http_is_served_on_the_same_port() {
        let stream = sends(&ACCEPTOR, b"POST /dispatch/device HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(matches!(stream, Stream::Plain(_)));
    }

    #[tokio::test]
    async fn what_is_no_tls_is_told() {
        assert_eq!(sends(&ACCEPTOR, b"").await.unwrap_err(), HandshakeFailure::Silent);
        for bytes in [&[0; 64][..], &[0xff; 64], b"\x01\x02\x03 something else entirely, and long enough"] {
            let failure = sends(&ACCEPTOR, bytes).await.unwrap_err();
            assert_eq!(failure, HandshakeFailure::NotTls, "{bytes:?}");
        }
        // The beginning of a record, and no more.
        let failure = sends(&ACCEPTOR, b"\x16\x03\x01\x00").await.unwrap_err();
        assert_eq!(failure, HandshakeFailure::Lost);
    }

    /// A first message with this version and these suites, as no OpenSSL sends it.
    fn hello(version: [u8; 2], suites: &[u16]) -> Vec<u8> {
        let mut body = version.to_vec();
        body.extend([7; 32]);
        body.push(0);
        body.extend(u16::try_from(suites.len() * 2).unwrap().to_be_bytes());
        suites.iter().for_each(|suite| body.extend(suite.to_be_bytes()));
        body.extend([1, 0]);
        let length = u16::try_from(body.len()).unwrap();
        let mut record = vec![0x16, 3, 0];
        record.extend((length + 4).to_be_bytes());
        record.extend([1, 0]);
        record.extend(length.to_be_bytes());
        record.extend(body);
        record
    }

    #[tokio::test]
    async fn versions_and_suites_that_nobody_has_are_named() {
        let failure = sends(&ACCEPTOR, &hello([3, 0], &[0x2f])).await.unwrap_err();
        assert_eq!(failure, HandshakeFailure::Protocol { asked: Version::Ssl3 });
        let failure = sends(&ACCEPTOR, &hello([3, 2], &[4, 5])).await.unwrap_err();
        assert_eq!(failure, HandshakeFailure::NoSharedCipher { offered: Ciphers(vec![4, 5]) });
        assert!(failure.to_string().contains("RC4-MD5, RC4-SHA"), "{failure}");
        let (ours, _) = with(Client {
            ciphers: "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0",
            ..Client::only(SslVersion::TLS1_2)
        })
        .await;
        let Err(HandshakeFailure::NoSharedCipher { offered }) = ours else { panic!("{ours:?}") };
        assert!(offered.0.contains(&0xc009), "{offered}");
    }

    #[tokio::test]
    async fn device_that_goes_at_the_certificate_is_told_from_one_that_is_lost_before() {
        for version in [SslVersion::TLS1, SslVersion::TLS1_1, SslVersion::TLS1_2] {
            let (ours, theirs) = with(Client { verify: true, ..Client::only(version) }).await;
            assert!(theirs.is_err());
            let refused = HandshakeFailure::CertificateRefused { alert: Some(Alert(48)) };
            assert_eq!(ours.unwrap_err(), refused);
        }
        for abortive in [true, false] {
            let client = |mut socket: TcpStream| async move {
                socket.write_all(&hello([3, 2], &[0x2f])).await.unwrap();
                // Up to the end of the server's flight: the message with the certificate is in it.
                let mut bytes = Vec::new();
                while !bytes.ends_with(&[0x0e, 0, 0, 0]) {
                    assert_ne!(socket.read_buf(&mut bytes).await.unwrap(), 0);
                }
                if abortive {
                    socket2::SockRef::from(&socket).set_linger(Some(core::time::Duration::ZERO)).unwrap();
                }
            };
            let failure = accepted(&ACCEPTOR, client).await.0.unwrap_err();
            assert_eq!(failure, HandshakeFailure::CertificateRefused { alert: None }, "abortive: {abortive}");
            assert!(failure.to_string().contains("1.6 to < 2.0, or 2.6 and newer"));
        }
    }

    #[tokio::test]
    async fn our_device_connects_with_each_version_and_pins_as_real_ones_do() {
        for (max, name) in
            [(Version::Tls10, "TLSv1"), (Version::Tls11, "TLSv1.1"), (Version::Tls12, "TLSv1.2")]
        {
            let connector = Connector::new(Knows { max, pins_certificate: false }).unwrap();
            let (ours, device) =
                accepted(&ACCEPTOR, |socket| async move { connector.connect(socket).await }).await;
            let (ours, device) = (ours.unwrap(), device.unwrap());
            assert_eq!((ours.tls(), ours.tls().unwrap().0), (device.tls(), name));
            assert!(ours.tls().unwrap().1.starts_with("AES128-SHA"), "{:?}", ours.tls());

            let connector = Connector::new(Knows { max, pins_certificate: true }).unwrap();
            let (ours, device) =
                accepted(&ACCEPTOR, |socket| async move { connector.connect(socket).await }).await;
            assert_eq!(device.unwrap_err(), HandshakeFailure::Pinned);
            assert_eq!(ours.unwrap_err(), HandshakeFailure::CertificateRefused { alert: None });
        }
    }

    #[tokio::test]
    async fn our_device_says_what_a_server_lacks() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connector = Connector::new(Knows { max: Version::Tls12, pins_certificate: false }).unwrap();
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 64];
            assert_ne!(socket.read(&mut bytes).await.unwrap(), 0);
            socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        };
        let device = async { connector.connect(TcpStream::connect(address).await.unwrap()).await };
        let ((), device) = tokio::join!(server, device);
        assert_eq!(device.unwrap_err(), HandshakeFailure::NotTls);
    }
}
