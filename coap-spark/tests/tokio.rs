//! Both adapters against each other, on pipes with a clock that jumps, and on TCP.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod common;

use coap_spark::coap::{Code, Type};
use coap_spark::connection::{
    ConnectionError, DeviceRequestKind, Profile, Request, RequestKind, ServerPolicy,
};
use coap_spark::handshake::{Cause, DeviceId, Failure, Stage};
use coap_spark::message::{self, FromDevice, FromServer, Hello, HelloFlags, Name, Response};
use coap_spark::tokio::handshake::HandshakeError;
use coap_spark::tokio::{
    AcceptError, ConnectError, DeviceIdentity, DeviceStream, Error, Event, ServerStream,
};
use common::Keys;
use core::time::Duration;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use rsa::{RsaPrivateKey, RsaPublicKey};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

const HELLO: Hello = Hello::new(6, 3, HelloFlags(0x16), 6);
const ID: DeviceId = DeviceId([7; 12]);

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::from_seed([3; 32])
}

fn identity(keys: &Keys) -> DeviceIdentity<RsaPrivateKey, RsaPublicKey> {
    DeviceIdentity {
        id: ID,
        public_key: Some(keys.device_spki),
        device_key: Arc::new(keys.device.clone()),
        server_key: Arc::new(keys.server_public.clone()),
    }
}

async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    keys: &Keys,
    known: Option<RsaPublicKey>,
) -> Result<(DeviceId, ServerStream<S>), AcceptError> {
    let key = Arc::new(keys.server.clone());
    let spki = keys.device_spki;
    let look_up = async move |id, offered| {
        assert_eq!((id, offered), (ID, Some(spki)));
        known
    };
    ServerStream::accept(io, key, ServerPolicy::DEFAULT, rng, look_up).await
}

/// A device and its server on two pipes of so many bytes.
async fn pair(room: usize) -> (DeviceStream<DuplexStream>, ServerStream<DuplexStream>) {
    let keys = Keys::recorded();
    let (at_device, at_server) = duplex(room);
    let serve = async {
        let (id, mut server) = accept(at_server, &keys, Some(keys.device_public.clone())).await.unwrap();
        assert_eq!(id, ID);
        let Event::Message(message) = server.next().await.unwrap() else { panic!("a message") };
        assert!(matches!(message.body, FromDevice::Hello(HELLO)));
        server.flush().await.unwrap();
        server
    };
    let connect = DeviceStream::connect(at_device, identity(&keys), HELLO, Profile::V2_3_1, rng);
    let (device, server) = tokio::join!(connect, serve);
    let mut device: DeviceStream<_> = device.unwrap();
    let Event::Message(message) = device.next().await.unwrap() else { panic!("a message") };
    assert!(matches!(message.body, FromServer::Hello));
    (device, server)
}

#[tokio::test(start_paused = true)]
async fn requests_events_and_answers_cross_narrow_pipes() {
    for room in [1, 7, 4096] {
        let (mut device, mut server) = pair(room).await;
        let at_device = async {
            let id = device
                .publish(
                    message::Event { name: Name::new("e"), public: true, max_age: None, data: Some(b"1") },
                    true,
                )
                .await
                .unwrap();
            let mut told = Vec::new();
            for _ in 0..2 {
                let Event::Message(message) = device.next().await.unwrap() else { panic!("a message") };
                told.extend(message.answers.map(|answers| (answers.id, answers.kind)));
                if let Some(request) = Request::of(&message) {
                    let response = Response { code: Code::CHANGED, payload: &[0, 0, 0, 42] };
                    device.reply(request, response).await.unwrap();
                }
            }
            assert_eq!(told, [(id, DeviceRequestKind::Event)]);
        };
        let at_server = async {
            let call = FromServer::FunctionCall { name: b"brew", argument: b"coffee" };
            let (asked, _) = server.request(call).await.unwrap();
            let mut result = None;
            let mut events = 0;
            while result.is_none() {
                let Event::Message(message) = server.next().await.unwrap() else { panic!("a message") };
                events += usize::from(matches!(message.body, FromDevice::Event(_)));
                if let (FromDevice::Response(response), Some(answers)) = (message.body, message.answers) {
                    assert_eq!((answers.id, answers.kind), (asked, RequestKind::Function));
                    result = Some(response.payload.to_vec());
                }
            }
            server.flush().await.unwrap();
            assert_eq!((result.unwrap(), events), (vec![0, 0, 0, 42], 1));
        };
        tokio::join!(at_device, at_server);
    }
}

#[tokio::test(start_paused = true)]
async fn pings_keep_an_idle_connection_and_silence_ends_it() {
    let (mut device, mut server) = pair(64).await;
    let idle = async {
        let quiet = async { device.next().await.map(|event| panic!("{event:?}")) };
        let served = async { server.next().await.map(|event| panic!("{event:?}")) };
        // Pongs are shown to the device, pings to nobody.
        tokio::join!(quiet, served)
    };
    let start = Instant::now();
    assert!(timeout(Duration::from_secs(14), idle).await.is_err());
    let both = async {
        let device = async {
            loop {
                let Event::Message(message) = device.next().await? else { panic!("a message") };
                assert!(matches!(message.body, FromServer::Ack));
            }
        };
        let server = async { server.next().await.map(|event| panic!("{event:?}")) };
        let result: (Result<(), Error<ConnectionError>>, Result<(), Error<ConnectionError>>) =
            tokio::join!(device, server);
        result
    };
    assert!(timeout(Duration::from_secs(3600), both).await.is_err(), "an hour later all is well");
    assert!(start.elapsed() > Duration::from_secs(3600));
    // The device stops: nobody drives it.
    let silence = Instant::now();
    assert!(matches!(server.next().await, Err(Error::Machine(ConnectionError::Silent { .. }))));
    assert!(silence.elapsed() <= Duration::from_secs(50));
    drop(server);
    let ended = loop {
        match device.next().await {
            Ok(Event::Message(message)) => assert!(matches!(message.body, FromServer::Ack)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(ended, Error::Closed | Error::Io(_)), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_is_told_once_in_time() {
    let (mut device, mut server) = pair(4096).await;
    let (asked, _) = server.request(FromServer::VariableRequest { name: b"v" }).await.unwrap();
    let start = Instant::now();
    let Event::Unanswered(waiting) = server.next().await.unwrap() else { panic!("nobody answered") };
    assert_eq!((waiting.id, waiting.kind), (asked, RequestKind::Variable));
    assert_eq!(start.elapsed().as_secs(), 15);
    let Event::Message(message) = device.next().await.unwrap() else { panic!("a message") };
    assert!(matches!(message.body, FromServer::VariableRequest { name: b"v" }));
}

#[tokio::test(start_paused = true)]
async fn waiting_that_is_dropped_at_any_time_loses_nothing() {
    let (mut device, mut server) = pair(3).await;
    let send = async {
        for number in 0..50_u8 {
            let data = [number; 40];
            let event =
                message::Event { name: Name::new("e"), public: true, max_age: None, data: Some(&data) };
            device.send(Type::NonConfirmable, FromDevice::Event(event)).await.unwrap();
            sleep(Duration::from_millis(10)).await;
        }
    };
    let receive = async {
        let mut expected = 0_u8;
        while expected < 50 {
            // A waker for each poll, a new future for each wake.
            match timeout(Duration::from_millis(1), server.next()).await {
                Err(_) => {}
                Ok(Ok(Event::Message(message))) => {
                    let FromDevice::Event(event) = message.body else { panic!("{message:?}") };
                    assert_eq!(event.data, Some(&[expected; 40][..]));
                    expected += 1;
                }
                Ok(other) => panic!("{other:?}"),
            }
        }
    };
    tokio::join!(send, receive);
}

#[tokio::test(start_paused = true)]
async fn a_refused_device_learns_it_by_the_close() {
    let keys = Keys::recorded();
    let (at_device, at_server) = duplex(4096);
    let serve = async { accept(at_server, &keys, None).await.map(|_| ()) };
    let connect = DeviceStream::<_>::connect(at_device, identity(&keys), HELLO, Profile::V0_7_0, rng);
    let (device, server) = tokio::join!(connect, serve);
    let failure = |stage, cause| Failure { stage, cause };
    let Err(AcceptError::Handshake(HandshakeError::Failure(server))) = server else { panic!("{server:?}") };
    assert_eq!(server, failure(Stage::Authorise, Cause::Refused));
    let Err(ConnectError::Handshake(HandshakeError::Failure(device))) = device else { panic!("{device:?}") };
    assert_eq!(device, failure(Stage::ReceiveSession, Cause::Closed));
}

#[tokio::test(start_paused = true)]
async fn peers_that_say_nothing_time_out_at_their_stage() {
    let keys = Keys::recorded();
    let start = Instant::now();
    let (mut silent, at_server) = duplex(4096);
    let server = accept(at_server, &keys, None).await.map(|_| ());
    let Err(AcceptError::Handshake(HandshakeError::Failure(failure))) = server else { panic!("{server:?}") };
    assert_eq!(failure, Failure { stage: Stage::ReceiveIdentity, cause: Cause::TimedOut });
    assert_eq!(start.elapsed().as_secs(), 30);
    let mut nonce = Vec::new();
    silent.read_to_end(&mut nonce).await.unwrap();
    assert_eq!(nonce.len(), 40);

    let (at_device, _silent) = duplex(4096);
    let device = DeviceStream::<_>::connect(at_device, identity(&keys), HELLO, Profile::V0_7_0, rng).await;
    let Err(ConnectError::Handshake(HandshakeError::Failure(failure))) = device else { panic!("{device:?}") };
    assert_eq!(failure, Failure { stage: Stage::ReceiveNonce, cause: Cause::TimedOut });
    assert_eq!(start.elapsed().as_secs(), 50);
}

#[tokio::test]
async fn it_works_on_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let keys = Keys::recorded();
        let (socket, _) = listener.accept().await.unwrap();
        let (_, mut server) = accept(socket, &keys, Some(keys.device_public.clone())).await.unwrap();
        loop {
            let Event::Message(message) = server.next().await.unwrap() else { panic!("a message") };
            let (id, token) = (message.id, message.token);
            if matches!(message.body, FromDevice::TimeRequest) {
                server.respond_time(id, token, 1_700_000_000).await.unwrap();
                break;
            }
        }
    });
    let socket = TcpStream::connect(address).await.unwrap();
    let identity = identity(&Keys::recorded());
    let mut device: DeviceStream<_> =
        DeviceStream::connect(socket, identity, HELLO, Profile::V2_3_1, rng).await.unwrap();
    device.ask_time().await.unwrap();
    let time = loop {
        let Event::Message(message) = device.next().await.unwrap() else { panic!("a message") };
        if let FromServer::Response(response) = message.body {
            break response.payload.to_vec();
        }
    };
    assert_eq!(time, 1_700_000_000_u32.to_be_bytes());
    server.await.unwrap();
}
