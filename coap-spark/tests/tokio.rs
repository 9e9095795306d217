//! Both adapters against each other, on pipes with a clock that jumps, and on TCP.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod common;

use coap_spark::coap::{Code, Type};
use coap_spark::connection::{
    ConnectionError, DeviceRequestKind, Machine, Profile, Request, RequestKind, SendError, ServerPolicy,
};
use coap_spark::handshake::{Cause, DeviceId, Failure, Stage};
use coap_spark::message::{self, FromDevice, FromServer, Hello, HelloFlags, Name, Response};
use coap_spark::tokio::handshake::HandshakeError;
use coap_spark::tokio::{
    AcceptError, ConnectError, DeviceIdentity, DeviceStream, Error, Event, Framed, ServerStream,
};
use common::Keys;
use core::time::Duration;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use rsa::{RsaPrivateKey, RsaPublicKey};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream, DuplexStream, duplex};
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
    accept_with(io, keys, known, ServerPolicy::DEFAULT).await
}

async fn accept_with<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    keys: &Keys,
    known: Option<RsaPublicKey>,
    policy: ServerPolicy,
) -> Result<(DeviceId, ServerStream<S>), AcceptError> {
    let key = Arc::new(keys.server.clone());
    let spki = keys.device_spki;
    let look_up = async move |id, offered| {
        assert_eq!((id, offered), (ID, Some(spki)));
        known
    };
    ServerStream::accept(io, key, policy, rng, look_up).await
}

/// A device and its server on two pipes of so many bytes.
async fn pair(room: usize) -> (DeviceStream<DuplexStream>, ServerStream<DuplexStream>) {
    pair_with(room, ServerPolicy::DEFAULT).await
}

async fn pair_with(
    room: usize,
    policy: ServerPolicy,
) -> (DeviceStream<DuplexStream>, ServerStream<DuplexStream>) {
    let keys = Keys::recorded();
    let (at_device, at_server) = duplex(room);
    let serve = async {
        let known = Some(keys.device_public.clone());
        let (id, mut server) = accept_with(at_server, &keys, known, policy).await.unwrap();
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

fn event(name: &str) -> message::Event<'_> {
    message::Event { name: Name::new(name), public: true, max_age: None, data: Some(b"1") }
}

/// Connects to a server that does `serve` with its stream.
async fn connect_to<T>(
    serve: impl AsyncFnOnce(ServerStream<DuplexStream>) -> T,
) -> (Result<DeviceStream<DuplexStream>, ConnectError>, T) {
    let keys = Keys::recorded();
    let (at_device, at_server) = duplex(4096);
    let serve = async {
        let (_, server) = accept(at_server, &keys, Some(keys.device_public.clone())).await.unwrap();
        serve(server).await
    };
    tokio::join!(DeviceStream::connect(at_device, identity(&keys), HELLO, Profile::V2_3_1, rng), serve)
}

#[tokio::test(start_paused = true)]
async fn hello_is_the_first_message_of_a_server_that_asks_at_once() {
    let (device, _server) = connect_to(async |mut server| {
        let Event::Message(message) = server.next().await.unwrap() else { panic!("a message") };
        assert!(matches!(message.body, FromDevice::Hello(_)));
        server.request(FromServer::Describe { flags: None }).await.unwrap();
        server
    })
    .await;
    let mut device = device.unwrap();
    assert!(device.machine().is_up());
    let Event::Message(message) = device.next().await.unwrap() else { panic!("a message") };
    assert!(matches!(message.body, FromServer::Hello));
    let Event::Message(message) = device.next().await.unwrap() else { panic!("a message") };
    assert!(matches!(message.body, FromServer::Describe { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_message_before_hello_is_told_before_hello() {
    let (device, _server) = connect_to(async |mut server| {
        server.send(FromServer::Event(event("early"))).await.unwrap();
        server.next().await.unwrap();
        server.flush().await.unwrap();
        server
    })
    .await;
    let mut device = device.unwrap();
    let Event::Message(message) = device.next().await.unwrap() else { panic!("a message") };
    assert!(matches!(message.body, FromServer::Event(early) if early.name == Name::new("early")));
    let Event::Message(message) = device.next().await.unwrap() else { panic!("a message") };
    assert!(matches!(message.body, FromServer::Hello));
    assert!(device.machine().is_up());
}

#[tokio::test(start_paused = true)]
async fn a_close_or_silence_instead_of_hello_fails_the_handshake() {
    let (device, ()) = connect_to(async |mut server| {
        server.next().await.unwrap();
    })
    .await;
    let Err(ConnectError::Handshake(HandshakeError::Failure(failure))) = device else { panic!("{device:?}") };
    assert_eq!(failure, Failure { stage: Stage::ReceiveHello, cause: Cause::Closed });
    let (device, _silent) = connect_to(async |server| server).await;
    let Err(ConnectError::Handshake(HandshakeError::Failure(failure))) = device else { panic!("{device:?}") };
    assert_eq!(failure, Failure { stage: Stage::ReceiveHello, cause: Cause::TimedOut });
}

/// Counts messages until the end.
async fn drain<S: AsyncRead + AsyncWrite + Unpin>(
    server: &mut ServerStream<S>,
) -> (usize, Error<ConnectionError>) {
    let mut count = 0;
    loop {
        match server.next().await {
            Ok(Event::Message(_)) => count += 1,
            Ok(other) => panic!("{other:?}"),
            Err(error) => return (count, error),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn messages_before_a_close_are_told_although_they_cannot_be_acknowledged() {
    let (mut device, mut server) = pair(4096).await;
    for _ in 0..7 {
        device.send(Type::Confirmable, FromDevice::Event(event("e"))).await.unwrap();
    }
    drop(device);
    let (count, end) = drain(&mut server).await;
    assert!(matches!(end, Error::Io(_)), "{end:?}");
    assert_eq!(count, 7);
    let asked = server.request(FromServer::Describe { flags: None }).await;
    assert!(matches!(asked, Err(Error::Io(_))), "{asked:?}");
}

#[tokio::test]
async fn messages_before_a_close_are_told_on_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (closed, is_closed) = tokio::sync::oneshot::channel();
    let server = tokio::spawn(async move {
        let keys = Keys::recorded();
        let (socket, _) = listener.accept().await.unwrap();
        let (_, mut server) = accept(socket, &keys, Some(keys.device_public.clone())).await.unwrap();
        server.next().await.unwrap();
        server.flush().await.unwrap();
        is_closed.await.unwrap();
        drain(&mut server).await.0
    });
    let socket = TcpStream::connect(address).await.unwrap();
    let mut device: DeviceStream<_> =
        DeviceStream::connect(socket, identity(&Keys::recorded()), HELLO, Profile::V2_3_1, rng)
            .await
            .unwrap();
    device.next().await.unwrap();
    for _ in 0..4 {
        device.publish(event("e"), true).await.unwrap();
    }
    drop(device);
    closed.send(()).unwrap();
    assert_eq!(server.await.unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn buffered_transports_are_flushed() {
    let keys = Keys::recorded();
    let (at_device, at_server) = duplex(64);
    let serve = async {
        let known = Some(keys.device_public.clone());
        let (_, mut server) = accept(BufStream::new(at_server), &keys, known).await.unwrap();
        server.next().await.unwrap();
        server.request(FromServer::VariableRequest { name: b"v" }).await.unwrap();
        let Event::Message(message) = server.next().await.unwrap() else { panic!("a message") };
        assert!(matches!(message.body, FromDevice::Event(_)));
    };
    let device = async {
        let io = BufStream::new(at_device);
        let mut device: DeviceStream<_> =
            DeviceStream::connect(io, identity(&keys), HELLO, Profile::V2_3_1, rng).await.unwrap();
        device.next().await.unwrap();
        let Event::Message(message) = device.next().await.unwrap() else { panic!("a message") };
        assert!(matches!(message.body, FromServer::VariableRequest { .. }));
        device.publish(event("e"), false).await.unwrap();
    };
    timeout(Duration::from_secs(5), async { tokio::join!(device, serve) }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn endless_patience_is_no_overflow() {
    let policy = ServerPolicy { idle_timeout: Duration::MAX, ..ServerPolicy::DEFAULT };
    let (_device, mut server) = pair_with(4096, policy).await;
    server.set_write_timeout(Duration::MAX);
    server.send(FromServer::Event(event("e"))).await.unwrap();
    assert!(timeout(Duration::from_secs(3600), server.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn peers_that_take_nothing_time_out_at_their_stage() {
    let keys = Keys::recorded();
    let start = Instant::now();
    let (_deaf, at_server) = duplex(16);
    let server = accept(at_server, &keys, None).await.map(|_| ());
    let Err(AcceptError::Handshake(HandshakeError::Failure(failure))) = server else { panic!("{server:?}") };
    assert_eq!(failure, Failure { stage: Stage::ReceiveIdentity, cause: Cause::TimedOut });
    assert_eq!(start.elapsed().as_secs(), 30);

    let (at_device, mut deaf) = duplex(64);
    deaf.write_all(&[1; 40]).await.unwrap();
    let device = DeviceStream::<_>::connect(at_device, identity(&keys), HELLO, Profile::V0_7_0, rng).await;
    let Err(ConnectError::Handshake(HandshakeError::Failure(failure))) = device else { panic!("{device:?}") };
    assert_eq!(failure, Failure { stage: Stage::SendIdentity, cause: Cause::TimedOut });
    assert_eq!(start.elapsed().as_secs(), 50);
}

/// Takes a byte every 20 seconds and says nothing.
async fn drip(mut io: DuplexStream) {
    loop {
        sleep(Duration::from_secs(20)).await;
        io.read_u8().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_a_byte_now_and_then_is_given_up() {
    let data = [7; 600];
    let long = message::Event { data: Some(&data), ..event("e") };
    let minute = Duration::from_secs(60);
    // By the time for writing, and by the machine, which hears nothing.
    for (patience, is_stuck) in [(Duration::from_secs(40), true), (Duration::MAX, false)] {
        let (device, mut server) = pair(1).await;
        server.set_write_timeout(patience);
        let sent = tokio::select! {
            sent = timeout(minute, server.send(FromServer::Event(long))) => sent.unwrap().map(|_| ()),
            () = drip(device.into_parts().io) => unreachable!(),
        };
        match sent {
            Err(Error::Stuck { waited }) => assert!(is_stuck && waited == patience),
            Err(Error::Machine(ConnectionError::Silent { .. })) => assert!(!is_stuck),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_sends_do_not_pile_up_and_break_no_frame() {
    let (mut device, mut server) = pair(64).await;
    let data = [7; 600];
    let long = message::Event { data: Some(&data), ..event("long") };
    for _ in 0..100 {
        assert!(timeout(Duration::from_millis(1), server.send(FromServer::Event(long))).await.is_err());
    }
    let parts = server.into_parts();
    assert!((1..700).contains(&parts.output.len()), "{parts:?}");
    let mut server = ServerStream::from_parts(parts);
    let send = async { server.send(FromServer::Event(event("short"))).await.unwrap() };
    let receive = async {
        for name in ["long", "short"] {
            let Event::Message(message) = device.next().await.unwrap() else { panic!("a message") };
            assert!(matches!(message.body, FromServer::Event(event) if event.name == Name::new(name)));
        }
    };
    tokio::join!(send, receive);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_outlives_taking_a_stream_apart() {
    let (mut device, mut server) = pair(4096).await;
    for name in ["a", "b"] {
        device.send(Type::NonConfirmable, FromDevice::Event(event(name))).await.unwrap();
    }
    server.next().await.unwrap();
    let parts = server.into_parts();
    assert!(!parts.unread.is_empty() && parts.output.is_empty());
    let mut server = ServerStream::from_parts(parts);
    let Event::Message(message) = server.next().await.unwrap() else { panic!("a message") };
    assert!(matches!(message.body, FromDevice::Event(event) if event.name == Name::new("b")));
}

#[tokio::test(start_paused = true)]
async fn a_refused_message_leaves_no_trace() {
    let (mut device, mut server) = pair(4096).await;
    let refused = server.send(FromServer::Response(Response::content(&[0xAB; 900]))).await;
    assert!(matches!(refused, Err(Error::Send(_))), "{refused:?}");
    let shown = format!("{server:?}");
    assert!(!shown.contains("171, 171"), "{shown}");
    server.send(FromServer::Event(event("e"))).await.unwrap();
    let Event::Message(message) = device.next().await.unwrap() else { panic!("a message") };
    assert!(matches!(message.body, FromServer::Event(_)));
}

/// Its time is always over, and it does nothing about it.
struct Late;

impl Machine for Late {
    type Error = core::convert::Infallible;

    fn handle_input(&mut self, _: Duration, input: &[u8]) -> Result<usize, Self::Error> {
        // One byte stays for ever.
        Ok(input.len() - 1)
    }

    fn poll_output<'o>(&mut self, _: Duration, _: &'o mut [u8]) -> Result<Option<&'o [u8]>, SendError> {
        Ok(None)
    }

    fn next_deadline(&self) -> Option<Duration> {
        Some(Duration::ZERO)
    }

    fn handle_deadline(&mut self, _: Duration) -> Result<(), Self::Error> {
        Ok(())
    }
}

#[tokio::test]
async fn a_machine_that_waits_for_its_owner_does_not_spin() {
    for input in [&[][..], &[1]] {
        let (mut peer, io) = duplex(64);
        peer.write_all(input).await.unwrap();
        let mut framed = Framed::new(io, Late, Instant::now());
        let mut turns = 0;
        let spin = async {
            loop {
                framed.turn().await.unwrap();
                turns += 1;
            }
        };
        let ended: Result<(), _> = timeout(Duration::from_millis(200), spin).await;
        assert!(ended.is_err() && turns < 40, "{turns} turns");
    }
}
