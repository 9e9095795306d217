//! Whoever connects to a server and is no honest device. Each kind from an address of its own.
#![allow(unreachable_pub, reason = "a module of an example")]
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a tool for measurements"
)]

use coap_spark::handshake::DeviceId;
use coap_spark::handshake::device::AwaitNonce;
use coap_spark::session::Sealer;
use rand::RngExt;
use rsa::{RsaPrivateKey, RsaPublicKey};
use socket2::{Domain, Socket, Type};
use spark_keys::{DeviceKey, rsa_backend};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Silent connections at once, and how long each lasts.
const SILENT: usize = 300;
const SILENT_TIME: Duration = Duration::from_secs(3);
/// Connections that send a byte a second.
const SLOW: usize = 60;

/// What strangers need.
#[derive(Clone)]
pub struct Victim {
    pub address: SocketAddr,
    pub server_key: RsaPublicKey,
    /// A key that the server knows, and devices that have it.
    pub key: [u8; 162],
    pub private: RsaPrivateKey,
    pub known: Vec<DeviceId>,
    /// A key that it does not know.
    pub other: [u8; 162],
}

impl Victim {
    pub fn new(
        address: SocketAddr,
        server_key: RsaPublicKey,
        key: &DeviceKey,
        known: Vec<DeviceId>,
        other: &DeviceKey,
    ) -> Self {
        let view = spark_keys::RsaPrivateKeyView::parse(key.as_der()).unwrap();
        let private = rsa_backend::to_rsa_private(&view).unwrap();
        Self { address, server_key, key: key.public_key(), private, known, other: other.public_key() }
    }

    fn open(&self, from: u8) -> std::io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::new(127, 0, 1, from), 0).into())?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.connect_timeout(&self.address.into(), Duration::from_secs(5))?;
        Ok(socket.into())
    }

    /// As a device with this id and this key until the server's answer; `None` if there is none.
    fn identify(
        &self,
        from: u8,
        id: DeviceId,
        key: &[u8; 162],
    ) -> std::io::Result<(TcpStream, Option<Sealer>)> {
        let mut socket = self.open(from)?;
        let (mut nonce, mut message) = ([0; 40], [0; 384]);
        let mut waiting = AwaitNonce::start(Duration::ZERO);
        socket.read_exact(&mut nonce)?;
        waiting.push(&nonce);
        let (waiting, job) = waiting.complete(id, Some(key)).unwrap();
        let (mut waiting, identity) =
            waiting.resume(job.run(&self.server_key, &mut rand::rng()), Duration::ZERO).unwrap();
        socket.write_all(&identity)?;
        if socket.read_exact(&mut message).is_err() {
            return Ok((socket, None));
        }
        waiting.push(&message);
        let (waiting, job) = waiting.complete().unwrap();
        let session = waiting.resume(job.run(&self.private, &self.server_key, &mut rand::rng()));
        Ok((socket, session.ok().map(|session| Sealer::new(&session))))
    }

    /// Connects and says nothing.
    pub fn silent(&self, over: &AtomicBool) {
        let mut sockets = Vec::new();
        let pause = SILENT_TIME / u32::try_from(SILENT).unwrap();
        while !over.load(Ordering::Relaxed) {
            if sockets.len() >= SILENT {
                sockets.remove(0);
            }
            sockets.extend(self.open(1));
            std::thread::sleep(pause);
        }
    }

    /// Sends an identity of a byte a second.
    pub fn slow(&self, over: &AtomicBool) {
        let mut sockets: Vec<TcpStream> = Vec::new();
        while !over.load(Ordering::Relaxed) {
            sockets.retain_mut(|socket| socket.write_all(&[0x5a]).is_ok());
            while sockets.len() < SLOW
                && let Ok(socket) = self.open(2)
            {
                sockets.push(socket);
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// Random bytes, and identities that break off.
    pub fn garbage(&self, over: &AtomicBool) {
        let mut rng = rand::rng();
        while !over.load(Ordering::Relaxed) {
            if let Ok(mut socket) = self.open(3) {
                let mut bytes = [0; 300];
                rng.fill(&mut bytes);
                // It may be closed already.
                let _ = socket.write_all(&bytes[..rng.random_range(0..=300)]);
                if rng.random() {
                    let _ = socket.shutdown(std::net::Shutdown::Write);
                    let _ = socket.read_to_end(&mut Vec::new());
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Devices that nobody knows offer keys.
    pub fn unknown(&self, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            let _ = self.identify(4, DeviceId(rand::rng().random()), &self.other);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Known devices with a wrong key.
    pub fn wrong_key(&self, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            let _ = self.identify(5, self.pick(), &self.other);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Known devices that send nonsense after the handshake, before or after Hello.
    pub fn malformed(&self, over: &AtomicBool) {
        const HELLO: [u8; 15] = [0x50, 2, 0, 7, 0xb1, b'h', 0xff, 0, 6, 0, 1, 0, 0, 0, 6];
        let mut rng = rand::rng();
        while !over.load(Ordering::Relaxed) {
            if let Ok((mut socket, Some(mut sealer))) = self.identify(6, self.pick(), &self.key) {
                let mut out = [0; 64];
                let mut bytes = sealer.seal(&HELLO, &mut out).unwrap().to_vec();
                match rng.random_range(0..4) {
                    0 => bytes[0] = 0xff,
                    1 => bytes[17] ^= 1,
                    2 => bytes.truncate(9),
                    // A good Hello, then a length that no frame has.
                    _ => bytes.extend([0xff; 40]),
                }
                let _ = socket.write_all(&bytes);
                let _ = socket.shutdown(std::net::Shutdown::Write);
                let _ = socket.read_to_end(&mut Vec::new());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn pick(&self) -> DeviceId {
        self.known[rand::rng().random_range(0..self.known.len())]
    }
}
