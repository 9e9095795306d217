//! Who gets a place, and for how long, over real sockets.

use super::*;
use crate::sonoff::serve::notes::Notes;
use crate::sonoff::tls::{HANDSHAKE, HandshakeFailure};
use clap::Parser;
use std::path::PathBuf;
use tokio::sync::mpsc::UnboundedReceiver;

const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ota/tests/vectors/sonoff/images");
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// For what comes without a deadline.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    args: Args,
}

struct World {
    server: Arc<Server>,
    address: SocketAddr,
    news: UnboundedReceiver<News>,
    _ends: UnboundedReceiver<End>,
}

impl World {
    async fn new(places: usize, acceptor: Acceptor) -> Self {
        let paths = ["image_user1-0x01000.bin", "image_user2-0x81000.bin"]
            .map(|name| PathBuf::from(format!("{IMAGES}/{name}")));
        let images = Images::load(&paths, None, None, &Notes::new(true)).unwrap();
        let args = Program::parse_from(["serve", "user1.bin", "user2.bin"]).args;
        let ((told, news), (ends, _ends)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let mut server = Server::new(images, &args, 8080, told, ends);
        server.places = Places::new(places);
        let server = Arc::new(server);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(Arc::clone(&server).accept(listener, acceptor));
        tokio::spawn(Arc::clone(&server).keep_time());
        Self { server, address, news, _ends }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Waits until so many places are taken.
    async fn taken(&self, count: usize, patience: Duration) {
        let started = Instant::now();
        while self.server.places.count() != count {
            let found = self.server.places.count();
            assert!(started.elapsed() < patience, "{found} places are taken, and not {count}");
            sleep(LOOK).await;
        }
    }
}

fn acceptors() -> Vec<Acceptor> {
    vec![
        Acceptor::plain(),
        #[cfg(feature = "openssl")]
        Acceptor::new().unwrap(),
    ]
}

/// A range of the image for slot 1, over a connection that stays.
async fn range(socket: &mut TcpStream, first: usize) -> Vec<u8> {
    let last = first + 4095;
    let request = format!("GET /ota/user1.bin HTTP/1.1\r\nRange: bytes={first}-{last}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    loop {
        let head = answer.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
        if let Some(body) = head.and_then(|head| answer.get(head..)).filter(|body| body.len() == 4096) {
            return body.to_vec();
        }
        assert_ne!(timeout(PATIENCE, socket.read_buf(&mut answer)).await.unwrap().unwrap(), 0);
    }
}

/// Whether it was closed, without a byte.
async fn is_closed(socket: &mut TcpStream) -> bool {
    matches!(timeout(PATIENCE, socket.read(&mut [0; 1])).await, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn places_are_taken_before_the_first_byte_and_freed_at_the_end() {
    for acceptor in acceptors() {
        let world = World::new(8, acceptor).await;
        let (first, second) = (world.connect().await, world.connect().await);
        world.taken(2, PATIENCE).await;
        drop(first);
        world.taken(1, PATIENCE).await;
        drop(second);
        world.taken(0, PATIENCE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn silence_frees_the_place_and_is_called_so() {
    for acceptor in acceptors() {
        let mut world = World::new(8, acceptor).await;
        let _silent = [world.connect().await, world.connect().await];
        world.taken(2, HANDSHAKE / 2).await;
        let started = Instant::now();
        world.taken(0, HANDSHAKE + LOOK).await;
        assert!(started.elapsed() > HANDSHAKE / 2);
        for _ in 0..2 {
            let told = world.news.try_recv().unwrap();
            assert!(matches!(told, News::NoTls { failure: HandshakeFailure::Silent, .. }));
        }
        assert!(world.news.try_recv().is_err());
    }
}

#[tokio::test]
async fn who_says_nothing_gives_way_and_who_downloads_does_not() {
    let mut world = World::new(3, Acceptor::plain()).await;
    let image = std::fs::read(format!("{IMAGES}/image_user1-0x01000.bin")).unwrap();
    let mut downloading = world.connect().await;
    assert_eq!(range(&mut downloading, 0).await, &image[..4096]);
    let mut silent = world.connect().await;
    world.taken(2, PATIENCE).await;
    // It has begun to ask, and goes on too late.
    let mut slow = world.connect().await;
    slow.write_all(b"GET /ota/us").await.unwrap();
    world.taken(3, PATIENCE).await;
    let mut second = world.connect().await;
    assert_eq!(range(&mut second, 4096).await, &image[4096..8192]);
    assert!(is_closed(&mut silent).await);
    let mut third = world.connect().await;
    assert_eq!(range(&mut third, 8192).await, &image[8192..12_288]);
    assert!(is_closed(&mut slow).await);
    // Now all have asked: the next one has to wait.
    let fourth = world.connect().await;
    assert!(timeout(Duration::from_millis(200), fourth.readable()).await.is_err());
    for (socket, first) in [(&mut downloading, 4096), (&mut second, 8192), (&mut third, 0)] {
        assert_eq!(range(socket, first).await, &image[first..first + 4096]);
    }
    drop(second);
    let mut fourth = fourth;
    assert_eq!(range(&mut fourth, 0).await, &image[..4096]);
    let mut gave_way = 0;
    while let Ok(told) = world.news.try_recv() {
        gave_way += usize::from(matches!(told, News::GaveWay { places: 3, .. }));
    }
    assert_eq!(gave_way, 2);
}

/// Takes a piece every five seconds: each in time, all of them not.
#[tokio::test(start_paused = true)]
async fn slow_peer_has_the_time_of_a_download_and_no_more() {
    let bytes = vec![7; 100_000];
    for (limit, is_sent) in [(limits::DOWNLOAD, false), (Duration::from_secs(1000), true)] {
        let (mut writer, mut reader) = tokio::io::duplex(1000);
        tokio::spawn(async move {
            let mut piece = [0; 1000];
            while reader.read(&mut piece).await.unwrap() != 0 {
                sleep(Duration::from_secs(5)).await;
            }
        });
        let started = Instant::now();
        let sent = send_within(limit, &mut writer, &bytes).await;
        assert_eq!(sent.is_ok(), is_sent, "{sent:?}");
        assert!(is_sent || (limit..limit + LOOK).contains(&started.elapsed()));
    }
}

#[tokio::test(start_paused = true)]
async fn peer_that_takes_nothing_is_gone() {
    let (mut writer, _reader) = tokio::io::duplex(1000);
    let started = Instant::now();
    let sent = send(&mut writer, &[7; 5000], WRITING).await;
    assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!((WRITING..WRITING + LOOK).contains(&started.elapsed()));
}

/// The goodbye of TLS is bytes, for which a peer that takes nothing leaves no room.
#[cfg(feature = "openssl")]
#[tokio::test(start_paused = true)]
async fn goodbye_over_tls_has_a_deadline() {
    use crate::sonoff::tls::{Connector, Knows, Version};

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let acceptor = Acceptor::new().unwrap();
    let connector = Connector::new(Knows { max: Version::Tls12, pins_certificate: false }).unwrap();
    let address = listener.local_addr().unwrap();
    let (ours, device) =
        tokio::join!(async { acceptor.accept(listener.accept().await.unwrap().0).await }, async {
            connector.connect(TcpStream::connect(address).await.unwrap()).await
        });
    let (mut ours, _device) = (ours.unwrap(), device.unwrap());
    // Until the system takes no more, also after what was on its way.
    let below = socket2::SockRef::from(ours.tcp());
    let mut refused = 0;
    while refused < 50 {
        refused = if below.send(&[0; 65536]).is_ok() { 0 } else { refused + 1 };
        std::thread::sleep(LOOK);
    }
    let started = Instant::now();
    timeout(WRITING * 2, finish(&mut ours)).await.expect("it waits for ever");
    assert!((WRITING..WRITING + LOOK).contains(&started.elapsed()), "{:?}", started.elapsed());
}
