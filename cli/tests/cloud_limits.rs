//! What strangers, devices and clients may cost a cloud: each limit holds, is counted, and is no burden for others.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

use coap_spark::connection::{EventLimit, Profile};
use coap_spark::handshake::DeviceId;
use coap_spark::message::{self, FromDevice, FromServer, Hello, HelloFlags, Name, Scope, Subscribe};
use coap_spark::tokio::{DeviceIdentity, DeviceStream, Event as Heard};
use core::num::NonZeroU32;
use core::time::Duration;
use rsa::{RsaPrivateKey, RsaPublicKey};
use socket2::{Domain, Socket, Type};
use spark_cli::cloud::catalogue::Catalogue;
use spark_cli::cloud::folder::Folder;
use spark_cli::cloud::session::{Call, MAX_SUBSCRIPTIONS, SessionOptions};
use spark_cli::cloud::store::MAX_STRANGERS;
use spark_cli::cloud::{Cloud, Enrolment, Event, Options, api};
use spark_keys::{RsaPrivateKeyView, rsa_backend};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{broadcast, watch};

const HELLO: Hello = Hello::new(6, 0, HelloFlags(0), 6);
/// The device that is enrolled.
const ID: DeviceId = DeviceId([7; 12]);
/// Whatever is waited for comes much sooner.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keys are made once: it takes a while.
struct Keys {
    device: Arc<RsaPrivateKey>,
    public: [u8; 162],
    other: [u8; 162],
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let [device, other] = [(); 2].map(|()| rsa_backend::generate_device_key(&mut rand::rng()).unwrap());
        let view = RsaPrivateKeyView::parse(device.as_der()).unwrap();
        Keys {
            device: Arc::new(rsa_backend::to_rsa_private(&view).unwrap()),
            public: device.public_key(),
            other: other.public_key(),
        }
    })
}

struct Running {
    runtime: Runtime,
    _folder: tempfile::TempDir,
    cloud: Arc<Cloud>,
    address: SocketAddr,
    api: SocketAddr,
    token: String,
    server_key: Arc<RsaPublicKey>,
    events: broadcast::Receiver<Event>,
    stop_api: watch::Sender<bool>,
    answering: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(set: impl FnOnce(&mut Options)) -> Self {
        let mut options =
            Options::new(Enrolment::Manual, SessionOptions { update: false, ..SessionOptions::default() });
        set(&mut options);
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path(), &mut rand::rng()).unwrap().0;
        folder.enrol(ID, &keys().public).unwrap();
        let server_key = Arc::new(folder.server_key().unwrap().to_public_key());
        let token = folder.token().unwrap().to_string();
        let cloud = Cloud::new(folder, Catalogue::default(), options).unwrap();
        let events = cloud.subscribe();
        let runtime = Runtime::new().unwrap();
        let bind = || runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let (listener, interface) = (bind(), bind());
        let (address, api) = (listener.local_addr().unwrap(), interface.local_addr().unwrap());
        runtime.spawn(Arc::clone(&cloud).serve(listener));
        let (stop_api, stops) = watch::channel(false);
        let answering = runtime.spawn({
            let (cloud, token) = (Arc::clone(&cloud), token.clone());
            async move { api::serve(cloud, interface, &token, stops).await }
        });
        Self {
            runtime,
            _folder: temporary,
            cloud,
            address,
            api,
            token,
            server_key,
            events,
            stop_api,
            answering,
        }
    }

    fn identity(&self, id: DeviceId, public_key: [u8; 162]) -> DeviceIdentity<RsaPrivateKey, RsaPublicKey> {
        DeviceIdentity {
            id,
            public_key: Some(public_key),
            device_key: Arc::clone(&keys().device),
            server_key: Arc::clone(&self.server_key),
        }
    }

    /// Connects as the device that is enrolled.
    async fn try_device(&self) -> Option<DeviceStream<tokio::net::TcpStream>> {
        let socket = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let identity = self.identity(ID, keys().public);
        DeviceStream::connect(socket, identity, HELLO, Profile::V2_3_1, rand::rng).await.ok()
    }

    /// The same, with the server's Hello heard.
    fn device(&self) -> DeviceStream<tokio::net::TcpStream> {
        self.runtime.block_on(async {
            let mut device = self.try_device().await.expect("the device gets in");
            let Ok(Heard::Message(message)) = device.next().await else { panic!("a message") };
            assert!(matches!(message.body, FromServer::Hello));
            device
        })
    }

    /// How often this was counted.
    fn counted(&self, name: &str) -> u64 {
        let text = self.cloud.metrics_text();
        let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        values.map(|value| value.parse::<u64>().unwrap()).sum()
    }

    fn refused(&self, cause: &str) -> u64 {
        self.counted(&format!("spark_cloud_refused_total{{cause=\"{cause}\"}}"))
    }

    /// Waits until it was counted so often.
    fn await_count(&self, name: &str, count: u64) {
        let started = Instant::now();
        while self.counted(name) < count {
            assert!(started.elapsed() < PATIENCE, "{name}: {}", self.cloud.metrics_text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn await_refused(&self, cause: &str, count: u64) {
        self.await_count(&format!("spark_cloud_refused_total{{cause=\"{cause}\"}}"), count);
    }

    /// The enrolled device answers a ping.
    fn ping(&self) -> Duration {
        let started = Instant::now();
        self.runtime.block_on(self.cloud.call(ID, Call::Ping)).expect("the device answers");
        started.elapsed()
    }

    /// Sends a request and gives the socket.
    fn request(&self, head: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.api).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let token = &self.token;
        write!(socket, "{head}\r\nHost: cloud\r\nAuthorization: Bearer {token}\r\n\r\n").unwrap();
        socket
    }
}

/// From an address of its own, 127.0.0.`last`.
fn open_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

/// The server takes the connection: its nonce comes.
fn is_taken(socket: &mut TcpStream) -> bool {
    socket.read_exact(&mut [0; 40]).is_ok()
}

/// Stays connected in the background; the stream itself acknowledges pings.
fn stay(handle: &Handle, mut device: DeviceStream<tokio::net::TcpStream>) -> tokio::task::JoinHandle<()> {
    handle.spawn(async move { while device.next().await.is_ok() {} })
}

#[test]
fn connections_above_the_limit_are_closed_at_once() {
    let running = Running::start(|options| options.limits.connections = 3);
    let device = running.device();
    let _staying = stay(running.runtime.handle(), device);
    let mut open: Vec<TcpStream> = (0..5).map(|_| open_from(1, running.address)).collect();
    let taken = open.iter_mut().map(is_taken).collect::<Vec<_>>();
    assert_eq!(taken, [true, true, false, false, false]);
    running.await_refused("connections-full", 3);
    running.ping();
    drop(open);
    // Places come back.
    let started = Instant::now();
    while !is_taken(&mut open_from(1, running.address)) {
        assert!(started.elapsed() < PATIENCE);
    }
}

#[test]
fn slow_strangers_give_up_their_places_to_an_honest_device() {
    let running = Running::start(|options| {
        options.limits.half_open = 4;
        options.limits.half_open_grace = Duration::from_millis(200);
        options.limits.identity_timeout = PATIENCE;
    });
    let over = core::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sockets: Vec<TcpStream> = Vec::new();
            while !over.load(core::sync::atomic::Ordering::Relaxed) {
                sockets.retain_mut(|socket| socket.write_all(&[0x5a]).is_ok());
                while sockets.len() < 8 {
                    sockets.push(open_from(2, running.address));
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        running.await_refused("evicted", 2);
        let _staying = stay(running.runtime.handle(), running.device());
        running.ping();
        over.store(true, core::sync::atomic::Ordering::Relaxed);
    });
    assert!(running.cloud.metrics_text().contains("spark_cloud_connections_half_open "));
}

#[test]
fn rates_are_kept_for_each_address_and_for_all() {
    let two = NonZeroU32::new(2).unwrap();
    let running = Running::start(|options| options.limits.accepts_per_address = two);
    let taken = (0..12).filter(|_| is_taken(&mut open_from(2, running.address))).count();
    assert!((8..12).contains(&taken), "a burst of four seconds: {taken}");
    assert_eq!(running.refused("address-rate"), 12 - taken as u64);
    // Another address is not concerned.
    let _staying = stay(running.runtime.handle(), running.device());
    running.ping();

    let running = Running::start(|options| options.limits.accepts = two);
    let taken = (2..14).filter(|last| is_taken(&mut open_from(*last, running.address))).count();
    assert!((8..12).contains(&taken), "{taken}");
    assert_eq!(running.refused("rate"), 12 - taken as u64);
}

#[test]
fn full_queue_of_work_refuses_and_is_free_again() {
    let running = Running::start(|options| options.limits.work_queue = 1);
    let mut sockets: Vec<TcpStream> = (0..20).map(|_| open_from(1, running.address)).collect();
    assert!(sockets.iter_mut().all(is_taken));
    for socket in &mut sockets {
        socket.write_all(&[0x5a; 256]).unwrap();
    }
    for mut socket in sockets {
        // A reset is an end, too.
        let _ = socket.read_to_end(&mut Vec::new());
    }
    assert!(running.refused("busy") > 0, "{}", running.cloud.metrics_text());
    running.device();
}

#[test]
fn time_for_the_identity_is_for_all_of_it() {
    let running = Running::start(|options| options.limits.identity_timeout = Duration::from_millis(400));
    let mut socket = open_from(1, running.address);
    let started = Instant::now();
    assert!(is_taken(&mut socket));
    while socket.write_all(&[0x5a]).is_ok() {
        assert!(started.elapsed() < PATIENCE, "a byte now and then keeps nobody connected");
        std::thread::sleep(Duration::from_millis(20));
    }
    running.await_refused("no-identity", 1);
}

#[test]
fn silent_device_is_given_up() {
    let running = Running::start(|options| options.policy.idle_timeout = Duration::from_millis(500));
    let _device = running.device();
    running.await_count("spark_cloud_ended_total{cause=\"session-silent\"}", 1);
}

#[test]
fn frame_above_the_limit_ends_the_connection() {
    let running = Running::start(|_| ());
    let device = running.device();
    let mut socket = device.into_parts().io.into_std().unwrap();
    socket.set_nonblocking(false).unwrap();
    socket.write_all(&[0xff; 2]).unwrap();
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest);
    running.await_count("spark_cloud_ended_total{cause=\"malformed\"}", 1);
}

fn event<'e>(name: &'e str, data: &'e [u8]) -> message::Event<'e> {
    message::Event { name: Name::new(name), public: false, max_age: None, data: Some(data) }
}

#[test]
fn events_that_are_too_long_or_too_many_are_dropped_and_counted() {
    let mut running = Running::start(|options| {
        options.session.max_event = 100;
        options.policy.event_limit = Some(EventLimit { events: 5, per: Duration::from_secs(3600) });
    });
    let mut device = running.device();
    running.runtime.block_on(async {
        // Firmware holds events back by itself; this one does not.
        let mut events = vec![event("long", &[b'x'; 101])];
        events.extend([event("many", &[b'x'; 100]); 20]);
        for event in events {
            device.send(coap_spark::coap::Type::NonConfirmable, FromDevice::Event(event)).await.unwrap();
        }
    });
    running.await_count("spark_cloud_events_dropped_total", 17);
    assert_eq!(running.counted("spark_cloud_events_total"), 4, "the long one counts as one of five");
    let _staying = stay(running.runtime.handle(), device);
    running.ping();
    let mut told = (0, 0);
    while let Ok(event) = running.events.try_recv() {
        match event {
            Event::EventDropped { limit: 100, .. } => told.0 += 1,
            Event::Trouble { .. } => told.1 += 1,
            _ => {}
        }
    }
    assert_eq!(told, (1, 1), "each kind is told once");
}

#[test]
fn subscriptions_above_the_limit_are_refused() {
    let running = Running::start(|_| ());
    let mut device = running.device();
    let (acknowledged, refused) = running.runtime.block_on(async {
        let (mut acknowledged, mut refused) = (0, 0);
        for at in 0..MAX_SUBSCRIPTIONS + 4 {
            let prefix = format!("prefix{at}");
            let id = device
                .subscribe(Subscribe { prefix: Name::new(&prefix), scope: Scope::MyDevices })
                .await
                .unwrap();
            loop {
                let Heard::Message(message) = device.next().await.unwrap() else { panic!("an answer") };
                if message.answers.is_none_or(|answers| answers.id != id) {
                    continue;
                }
                match message.body {
                    FromServer::Response(response) if response.is_refusal() => refused += 1,
                    _ => acknowledged += 1,
                }
                break;
            }
        }
        (acknowledged, refused)
    });
    assert_eq!((acknowledged, refused), (MAX_SUBSCRIPTIONS, 4));
    running.await_count("spark_cloud_subscriptions_refused_total", 4);
}

#[test]
fn stranger_above_the_limit_takes_the_place_of_the_first() {
    let running = Running::start(|_| ());
    let filled = running.cloud.store().change_now(|transaction| {
        (0..MAX_STRANGERS).try_for_each(|at| {
            let mut id = [0; 12];
            id[..8].copy_from_slice(&at.to_be_bytes());
            transaction.update_device(DeviceId(id), |device| device.offer(&keys().other, 1 + at))
        })
    });
    filled.unwrap();
    let known = running.cloud.store().devices().unwrap().len();
    let offered = running.runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(running.address).await.unwrap();
        let identity = running.identity(DeviceId([0xee; 12]), keys().other);
        DeviceStream::<_>::connect(socket, identity, HELLO, Profile::V2_3_1, rand::rng).await.err()
    });
    assert!(offered.is_some());
    running.await_refused("device-unknown", 1);
    let devices = running.cloud.store().devices().unwrap();
    assert_eq!(devices.len(), known);
    let is_there = |id| devices.iter().any(|(known, _)| *known == DeviceId(id));
    assert!(is_there([0xee; 12]) && !is_there([0; 12]), "the first has gone");
    running.device();
}

#[test]
fn storm_of_handshakes_does_not_delay_who_is_connected() {
    const STORM: usize = 300;
    let running = Running::start(|options| {
        options.limits.accepts_per_address = NonZeroU32::new(10_000).unwrap();
    });
    let _staying = stay(running.runtime.handle(), running.device());
    let sockets: Vec<TcpStream> = (0..STORM)
        .map(|_| {
            let mut socket = open_from(2, running.address);
            socket.write_all(&[0x5a; 256]).unwrap();
            socket
        })
        .collect();
    let ended = || {
        running
            .cloud
            .metrics_text()
            .lines()
            .filter_map(|line| {
                line.strip_prefix("spark_cloud_refused_total{")?.rsplit_once(' ')?.1.parse::<usize>().ok()
            })
            .sum::<usize>()
    };
    let mut times = Vec::new();
    while ended() < STORM {
        times.push(running.ping());
    }
    drop(sockets);
    times.sort_unstable();
    assert!(times.len() >= 10, "the storm lasted {} pings", times.len());
    let late = times[(times.len() - 1) * 99 / 100];
    assert!(late < Duration::from_secs(1), "{late:?} of {} pings", times.len());
}

#[test]
fn bodies_above_the_limit_are_refused() {
    let running = Running::start(|_| ());
    let length = 9 << 20;
    let mut socket = running.request(&format!(
        "POST /v1/devices/events HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}"
    ));
    // The answer may come before all is sent.
    let _ = socket.write_all(&vec![b'x'; length]);
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 413 "), "{line}");
}

#[test]
fn client_that_sends_its_head_slowly_is_cut_off() {
    let running = Running::start(|_| ());
    let mut socket = TcpStream::connect(running.api).unwrap();
    let started = Instant::now();
    socket.write_all(b"GET /health HTTP/1.1\r\nX: ").unwrap();
    while socket.write_all(b"x").is_ok() {
        assert!(started.elapsed() < PATIENCE, "a byte now and then keeps nobody connected");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The lines of a stream after its head.
fn stream(running: &Running, path: &str) -> (String, BufReader<TcpStream>) {
    let mut lines = BufReader::new(running.request(&format!("GET {path} HTTP/1.1")));
    let mut status = String::new();
    lines.read_line(&mut status).unwrap();
    (status, lines)
}

#[test]
fn event_streams_have_an_end_and_do_not_hold_up_a_stop() {
    const STREAMS: usize = 256;
    let running = Running::start(|_| ());
    let open: Vec<_> = (0..STREAMS).map(|_| stream(&running, "/v1/events")).collect();
    assert!(open.iter().all(|(status, _)| status.starts_with("HTTP/1.1 200 ")));
    let (status, _) = stream(&running, "/v1/events");
    assert!(status.starts_with("HTTP/1.1 429 "), "{status}");
    let _staying = stay(running.runtime.handle(), running.device());

    let started = Instant::now();
    running.runtime.block_on(async {
        running.cloud.stop(Duration::from_secs(10)).await;
        running.stop_api.send(true).unwrap();
        running.answering.await.unwrap();
    });
    for (_, mut lines) in open {
        let _ = lines.read_to_end(&mut Vec::new());
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn name_with_line_breaks_stays_one_line_of_a_stream() {
    let running = Running::start(|_| ());
    let mut device = running.device();
    let (_, mut lines) = stream(&running, "/v1/events");
    running.runtime.block_on(async {
        device.publish(event("a\nevent: spark/forged\ndata: x\n\n", b"1"), false).await.unwrap();
        device.publish(event("last", b"a\r\nb"), false).await.unwrap();
    });
    let (mut read, mut line) = (Vec::new(), String::new());
    while !line.starts_with("event: last") && !line.starts_with("event:last") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "{read:?}");
        read.push(line.clone());
    }
    lines.read_line(&mut line).unwrap();
    assert!(line.contains(r"a\r\nb"), "{line:?}");
    let names = read.iter().filter(|line| line.starts_with("event:")).collect::<Vec<_>>();
    assert!(
        !names.iter().any(|name| name.trim_start_matches("event:").trim().starts_with("spark/forged")),
        "{names:?}"
    );
    assert!(!read.iter().any(|line| line.trim_end() == "data: x"), "{read:?}");
}
