//! The cloud on a real port: many devices at once, enrolment, and peers that break the rules.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

use coap_spark::handshake::DeviceId;
use coap_spark::handshake::device::AwaitNonce;
use core::time::Duration;
use rsa::RsaPublicKey;
#[cfg(feature = "openssl")]
use spark_cli::cloud::BackEnd;
use spark_cli::cloud::catalogue::Catalogue;
use spark_cli::cloud::folder::Folder;
use spark_cli::cloud::manage::{AcceptArgs, accept};
use spark_cli::cloud::session::SessionOptions;
use spark_cli::cloud::{Cloud, Enrolment, Event, Options};
use spark_cli::device::run;
use spark_cli::{photons, synthetic};
use spark_keys::{DeviceKey, rsa_backend};
use spark_sim::{End, Photon, Started};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::sync::broadcast;

struct Running {
    _runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
    path: PathBuf,
    address: SocketAddr,
    server_key: [u8; 294],
    events: broadcast::Receiver<Event>,
}

impl Running {
    fn start(enrolment: Enrolment, catalogue: Catalogue) -> Self {
        Self::with(Options::new(enrolment, SessionOptions::default()), catalogue)
    }

    fn with(options: Options, catalogue: Catalogue) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().to_path_buf();
        let (folder, new) = Folder::open(&path, &mut rand::rng()).unwrap();
        assert!(new && !Folder::open(&path, &mut rand::rng()).unwrap().1, "the key is made once");
        let server_key = rsa_backend::server_spki(folder.server_key().unwrap().as_public_key()).unwrap();
        let cloud = Cloud::new(folder, catalogue, options).unwrap();
        let events = cloud.subscribe();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(cloud.serve(listener));
        Self { _runtime: runtime, _folder: temporary, path, address, server_key, events }
    }

    fn device(&self, outdated: bool) -> (Photon, [u8; 162]) {
        let (photon, key) = photons::healthy(&self.server_key, outdated, &mut rand::rng()).unwrap();
        (photon, key.public_key())
    }

    /// The next event that `wanted` picks something out of.
    fn wait<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            match self.events.try_recv() {
                Ok(event) => {
                    if let Some(found) = wanted(&event) {
                        return found;
                    }
                }
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
            assert!(started.elapsed() < Duration::from_secs(60), "the event does not come");
        }
    }

    fn refusal(&mut self) -> String {
        self.wait(|event| match event {
            Event::Refused { reason, .. } => Some(reason.clone()),
            _ => None,
        })
    }
}

/// What an operator does: accepts the key that the device offered.
fn accept_offered(folder: &std::path::Path, id: DeviceId) {
    accept(&AcceptArgs { id: Some(id), fingerprint: None, data: folder.to_path_buf(), json: false }).unwrap();
}

fn connect(photon: &mut Photon, address: SocketAddr) -> Option<End> {
    run::connect(photon, &address.to_string(), &AtomicBool::new(false), &mut |_| ()).unwrap()
}

#[test]
fn forty_devices_are_updated_at_once() {
    let mut running = Running::start(Enrolment::FirstUse, Catalogue::new(synthetic::new_system().unwrap()));
    let stop = AtomicBool::new(false);
    let mut devices: Vec<Photon> = (0..40).map(|_| running.device(true).0).collect();
    let address = running.address.to_string();
    let mut waiting: BTreeSet<_> = devices.iter().map(Photon::id).collect();
    std::thread::scope(|scope| {
        for photon in &mut devices {
            let (stop, address) = (&stop, &address);
            scope.spawn(move || {
                photon.power_on();
                while !stop.load(Ordering::Relaxed) {
                    if run::connect(photon, address, stop, &mut |_| ()).unwrap() == Some(End::Reset) {
                        photon.start();
                    }
                }
            });
        }
        while !waiting.is_empty() {
            let id = running.wait(|event| match event {
                Event::UpToDate { device } => Some(*device),
                Event::CannotUpdate { reason, .. } | Event::Refused { reason, .. } => panic!("{reason}"),
                _ => None,
            });
            waiting.remove(&id);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(devices.iter().all(Photon::application_runs));
}

/// With the feature, all other tests of this file run on it.
#[cfg(feature = "openssl")]
#[test]
fn openssl_is_the_default_where_it_is_built_in_and_rsa_can_be_chosen() {
    let mut options = Options::new(Enrolment::FirstUse, SessionOptions::default());
    assert_eq!(options.back_end, BackEnd::Openssl);
    options.back_end = BackEnd::Rsa;
    let mut running = Running::with(options, Catalogue::default());
    let (mut photon, _) = running.device(false);
    photon.power_on();
    let (stop, address) = (AtomicBool::new(false), running.address.to_string());
    std::thread::scope(|scope| {
        scope.spawn(|| run::connect(&mut photon, &address, &stop, &mut |_| ()).unwrap());
        running.wait(|event| matches!(event, Event::Described { .. }).then_some(()));
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn unknown_device_gets_in_once_its_key_is_accepted() {
    let mut running = Running::start(Enrolment::Manual, Catalogue::default());
    let (mut photon, _) = running.device(false);
    assert_eq!(photon.power_on(), Started::Running);
    assert!(
        matches!(connect(&mut photon, running.address), Some(End::Handshake(failure)) if failure.protocol_error() == Some(26))
    );
    assert!(running.refusal().starts_with("unknown device, its key is "));
    accept_offered(&running.path, photon.id());
    let stop = AtomicBool::new(false);
    let mut events = running.events.resubscribe();
    std::thread::scope(|scope| {
        scope.spawn(|| run::connect(&mut photon, &running.address.to_string(), &stop, &mut |_| ()));
        let started = Instant::now();
        while !matches!(events.try_recv(), Ok(Event::UpToDate { .. })) {
            assert!(started.elapsed() < Duration::from_secs(20));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let device = Folder::open_existing(&running.path).unwrap().store().device(photon.id()).unwrap().unwrap();
    assert_eq!((device.platform_id, device.connections, device.claimed), (Some(6), 1, true));
    assert!(device.describe.is_some());
}

#[test]
fn changed_key_is_refused_and_said_so() {
    let mut running = Running::start(Enrolment::FirstUse, Catalogue::default());
    let (mut photon, _) = running.device(false);
    let (_, other_key) = running.device(false);
    let (folder, _) = Folder::open(&running.path, &mut rand::rng()).unwrap();
    folder.enrol(photon.id(), &other_key).unwrap();
    photon.power_on();
    assert!(matches!(connect(&mut photon, running.address), Some(End::Handshake(_))));
    assert!(running.refusal().starts_with("key changed"));
    let recorded = folder.device_key(photon.id()).unwrap().unwrap().1;
    assert_eq!(recorded, other_key, "the record stays");
}

/// Connects until the device is up to date.
fn come_up(running: &mut Running, photon: &mut Photon) {
    photon.power_on();
    let (address, stop) = (running.address.to_string(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| run::connect(photon, &address, &stop, &mut |_| ()));
        running.wait(|event| matches!(event, Event::UpToDate { .. }).then_some(()));
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn staged_key_and_recorded_key_both_get_in_until_the_staged_one_was_used() {
    let mut running = Running::start(Enrolment::Manual, Catalogue::default());
    let (mut photon, old_key) = running.device(false);
    let (other, new_key) = running.device(false);
    // The same device with another key.
    let mut renewed = Photon::new(photon.id(), other.flash().clone());
    let (folder, _) = Folder::open(&running.path, &mut rand::rng()).unwrap();
    let record = || folder.device_key(photon.id()).unwrap().unwrap().1;
    folder.enrol(photon.id(), &old_key).unwrap();
    folder.stage(photon.id(), &new_key).unwrap();

    let id = photon.id();
    come_up(&mut running, &mut photon.clone());
    assert_eq!(record(), old_key);
    assert_eq!(folder.next_key(id).unwrap().unwrap().1, new_key, "the write may still be under way");

    come_up(&mut running, &mut renewed);
    assert_eq!(record(), new_key);
    assert!(folder.next_key(id).unwrap().is_none());
    photon.power_on();
    assert!(matches!(connect(&mut photon, running.address), Some(End::Handshake(_))), "the old key is out");
}

/// Steps 1 to 3 of a device that does not offer its key; `true` if it gets a session.
fn handshake_without_offer(address: SocketAddr, server: &RsaPublicKey, key: &DeviceKey) -> bool {
    let view = spark_keys::RsaPrivateKeyView::parse(key.as_der()).unwrap();
    let private = rsa_backend::to_rsa_private(&view).unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    let mut waiting = AwaitNonce::start(Duration::ZERO);
    let mut nonce = [0; 40];
    socket.read_exact(&mut nonce).unwrap();
    waiting.push(&nonce);
    let id = "53ff6d065072534212345667".parse().unwrap();
    let (waiting, job) = waiting.complete(id, None).unwrap();
    let (mut waiting, identity) = waiting.resume(job.run(server, &mut rand::rng()), Duration::ZERO).unwrap();
    socket.write_all(&identity).unwrap();
    let mut message = [0; 384];
    socket.read_exact(&mut message).unwrap();
    waiting.push(&message);
    let (waiting, job) = waiting.complete().unwrap();
    waiting.resume(job.run(&private, server, &mut rand::rng())).is_ok()
}

#[test]
fn device_that_offers_no_key_gets_in_with_either_of_two() {
    let running = Running::start(Enrolment::Manual, Catalogue::default());
    let [old, new] = [(); 2].map(|()| rsa_backend::generate_device_key(&mut rand::rng()).unwrap());
    let (folder, _) = Folder::open(&running.path, &mut rand::rng()).unwrap();
    let id = "53ff6d065072534212345667".parse().unwrap();
    folder.enrol(id, &old.public_key()).unwrap();
    folder.stage(id, &new.public_key()).unwrap();
    let server = folder.server_key().unwrap().to_public_key();
    for key in [&old, &new] {
        // Each connection is a guess; a device connects again until it gets in.
        assert!((0..64).any(|_| handshake_without_offer(running.address, &server, key)));
    }
}

#[test]
fn device_with_another_servers_key_is_dropped() {
    let mut running = Running::start(Enrolment::FirstUse, Catalogue::default());
    let other = Running::start(Enrolment::FirstUse, Catalogue::default());
    let (mut photon, _) = other.device(false);
    photon.power_on();
    let end = connect(&mut photon, running.address);
    assert!(matches!(end, Some(End::Handshake(failure)) if failure.protocol_error() == Some(26)));
    assert!(running.refusal().contains("the message was rejected"));
}

/// Sends bytes after the nonce and waits for the server to close.
fn closes_after(address: SocketAddr, bytes: &[u8], hang_up: bool) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut nonce = [0; 40];
    socket.read_exact(&mut nonce).unwrap();
    socket.write_all(bytes).unwrap();
    if hang_up {
        socket.shutdown(std::net::Shutdown::Write).unwrap();
    }
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = socket.read_to_end(&mut rest);
    assert!(rest.is_empty(), "not a word to a stranger");
}

#[test]
fn garbage_and_cut_identities_end_in_a_closed_connection() {
    let mut running = Running::start(Enrolment::FirstUse, Catalogue::default());
    closes_after(running.address, &[0x5a; 256], false);
    assert!(running.refusal().contains("the message was rejected"));
    closes_after(running.address, &[0xff; 300], false);
    assert!(running.refusal().contains("the message was rejected"));
    for len in [0, 1, 40, 255] {
        closes_after(running.address, &[0x5a; 255][..len], true);
        assert!(running.refusal().contains("closed the connection"), "{len}");
    }
}

/// A device that does the handshake right and then sends this instead of Hello.
fn closes_first_frame(running: &mut Running, damage: impl FnOnce(&mut Vec<u8>)) -> String {
    first_frame(running, damage, true).1
}

fn first_frame(
    running: &mut Running,
    damage: impl FnOnce(&mut Vec<u8>),
    hang_up: bool,
) -> (TcpStream, String) {
    use coap_spark::handshake::device::AwaitNonce;
    use coap_spark::session::Sealer;
    let key = rsa_backend::generate_device_key(&mut rand::rng()).unwrap();
    let view = spark_keys::RsaPrivateKeyView::parse(key.as_der()).unwrap();
    let private = rsa_backend::to_rsa_private(&view).unwrap();
    let folder = Folder::open(&running.path, &mut rand::rng()).unwrap().0;
    let server = folder.server_key().unwrap().to_public_key();
    let mut socket = TcpStream::connect(running.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut waiting = AwaitNonce::start(Duration::ZERO);
    let mut nonce = [0; 40];
    socket.read_exact(&mut nonce).unwrap();
    waiting.push(&nonce);
    let id = DeviceId([3; 12]);
    folder.enrol(id, &key.public_key()).unwrap();
    let (waiting, job) = waiting.complete(id, Some(&key.public_key())).unwrap();
    let (mut waiting, identity) = waiting.resume(job.run(&server, &mut rand::rng()), Duration::ZERO).unwrap();
    socket.write_all(&identity).unwrap();
    let mut message = [0; 384];
    socket.read_exact(&mut message).unwrap();
    waiting.push(&message);
    let (waiting, job) = waiting.complete().unwrap();
    let session = waiting.resume(job.run(&private, &server, &mut rand::rng())).unwrap();
    let mut out = [0; 64];
    let hello = [0x50, 2, 0, 7, 0xb1, b'h', 0xff, 0, 6, 0, 1, 0, 0, 0, 6];
    let mut frame = Sealer::new(&session).seal(&hello, &mut out).unwrap().to_vec();
    damage(&mut frame);
    socket.write_all(&frame).unwrap();
    if hang_up {
        socket.shutdown(std::net::Shutdown::Write).unwrap();
    }
    let _ = socket.read_to_end(&mut Vec::new());
    let reason = running.wait(|event| match event {
        Event::Offline { reason, .. } | Event::Refused { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    (socket, reason)
}

#[test]
fn damaged_first_frames_end_in_a_closed_connection() {
    let mut running = Running::start(Enrolment::Manual, Catalogue::default());
    let reason = closes_first_frame(&mut running, |_| ());
    assert_eq!(reason, "the device closed the connection", "an undamaged one is fine");
    let reason = closes_first_frame(&mut running, |frame| frame[1] = 0);
    assert!(reason.contains("does not decrypt"), "{reason}");
    let reason = closes_first_frame(&mut running, |frame| frame[17] ^= 1);
    assert!(reason.contains("waiting for Hello"), "{reason}");
    let reason = closes_first_frame(&mut running, |frame| frame.truncate(9));
    assert_eq!(reason, "the device closed the connection");
}

#[test]
fn strangers_that_say_nothing_or_stop_half_way_are_given_up() {
    let mut options = Options::new(Enrolment::FirstUse, SessionOptions::default());
    options.limits.identity_timeout = Duration::from_millis(300);
    let mut running = Running::with(options, Catalogue::default());
    for said in [0, 255] {
        let started = Instant::now();
        closes_after(running.address, &vec![0x5a; said], false);
        assert!(started.elapsed() >= Duration::from_millis(300));
        assert!(running.refusal().contains("time ran out"), "{said}");
    }
}

#[test]
fn device_that_falls_silent_is_given_up() {
    let mut options =
        Options::new(Enrolment::Manual, SessionOptions { update: false, ..SessionOptions::default() });
    options.policy.idle_timeout = Duration::from_millis(300);
    let mut running = Running::with(options, Catalogue::default());
    let (socket, reason) = first_frame(&mut running, |_| (), false);
    assert!(reason.starts_with("nothing heard from the peer for"), "{reason}");
    drop(socket);
}

#[test]
fn session_bytes_are_written_down_only_where_they_were_asked_for() {
    let log = tempfile::tempdir().unwrap();
    let path = log.path().join("sessions");
    let mut options = Options::new(Enrolment::FirstUse, SessionOptions::default());
    options.session_log = Some(path.clone());
    let mut running = Running::with(options, Catalogue::default());
    let (mut photon, _) = running.device(false);
    come_up(&mut running, &mut photon.clone());
    come_up(&mut running, &mut photon);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 2 && lines[0] != lines[1], "{text}");
    assert!(lines.iter().all(|line| hex::decode(line).unwrap().len() == 40));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn new_connection_of_a_device_ends_its_old_one() {
    let mut running = Running::start(Enrolment::Manual, Catalogue::default());
    let (mut photon, key) = running.device(false);
    let (folder, _) = Folder::open(&running.path, &mut rand::rng()).unwrap();
    folder.enrol(photon.id(), &key).unwrap();
    let mut again = photon.clone();
    photon.power_on();
    again.power_on();
    let (address, stop) = (running.address.to_string(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| run::connect(&mut photon, &address, &stop, &mut |_| ()).unwrap());
        running.wait(|event| matches!(event, Event::UpToDate { .. }).then_some(()));
        let second = scope.spawn(|| run::connect(&mut again, &address, &stop, &mut |_| ()).unwrap());
        assert_eq!(first.join().unwrap(), Some(End::Closed));
        let reason = running.wait(|event| match event {
            Event::Offline { reason, .. } => Some(reason.clone()),
            _ => None,
        });
        assert_eq!(reason, "the device has connected anew");
        stop.store(true, Ordering::Relaxed);
        assert_eq!(second.join().unwrap(), None, "the newer one stays");
    });
}
