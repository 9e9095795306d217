//! A server for Sonoff devices out of the library's parts, on one port of the loopback: enough to test devices with.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code, each file uses its part of it"
)]

use core::time::Duration;
use sha2::{Digest, Sha256};
use spark_cli::sonoff::tls::{Acceptor, Stream};
use spark_ota::sonoff::device::final_stage::{FINAL_PATH, USER2_PATH};
use spark_ota::sonoff::dispatch::{self, DispatchAnswer, DispatchRequest};
use spark_ota::sonoff::frame::{End, Frame, FrameReader, PONG, server_text};
use spark_ota::sonoff::http::{Request, answer, status_response};
use spark_ota::sonoff::message::{Date, DeviceBody, DeviceMessage, ServerBody, ServerMessage};
use spark_ota::sonoff::upgrade::{Candidate, Format, Offer, Registered, Slot};
use spark_ota::sonoff::{ApiKey, DeviceId, Sequences, ServerName, handshake};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

pub const USER1: &str = "/ota/user1.bin";
pub const USER2: &str = "/ota/user2.bin";

/// How images are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// As fast as it goes.
    Fast,
    /// The first whole one as fast as it goes, others slowly.
    SlowAtLast,
    /// Half of it, and then the connection is closed.
    Half,
}

/// What devices have said and asked, in their order.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub fn count(&self, text: &str) -> usize {
        self.lines().iter().filter(|line| line.starts_with(text)).count()
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub log: Log,
    _runtime: tokio::runtime::Runtime,
}

struct Shared {
    port: u16,
    files: BTreeMap<&'static str, Vec<u8>>,
    sending: Sending,
    log: Log,
}

impl Server {
    /// Offers two images for an upgrade and two for the final stage.
    pub fn new(acceptor: Acceptor, upgrade: [Vec<u8>; 2], last: [Vec<u8>; 2], sending: Sending) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let ([user1, user2], [last2, last]) = (upgrade, last);
        let files = [(USER1, user1), (USER2, user2), (USER2_PATH, last2), (FINAL_PATH, last)].into();
        let log = Log::default();
        let shared = Arc::new(Shared { port: address.port(), files, sending, log: log.clone() });
        runtime.spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor.accept(socket).await {
                        Ok(stream) => {
                            if let Some((version, _)) = stream.tls() {
                                shared.log.add(format!("tls {version}"));
                            }
                            // The device goes when it likes.
                            let _ = shared.serve(stream).await;
                        }
                        Err(failure) => shared.log.add(format!("failure {}", failure.code())),
                    }
                });
            }
        });
        Self { address, log, _runtime: runtime }
    }
}

impl Shared {
    async fn serve(&self, mut stream: Stream) -> std::io::Result<()> {
        let mut received = Vec::new();
        loop {
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
            let parsed = Request::parse(&received)
                .unwrap()
                .map(|(request, used)| (request.head.clone(), request.body.to_vec(), used));
            let Some((head, body, used)) = parsed else { continue };
            received.drain(..used);
            if head.path == dispatch::PATH {
                let request = DispatchRequest::from_json(&body).unwrap();
                self.log.add(format!("dispatch {}", request.rom_version));
                let answer =
                    DispatchAnswer::Server { ip: ServerName::new("127.0.0.1").unwrap(), port: self.port };
                stream.write_all(&answer.to_http()).await?;
            } else if head.path == handshake::PATH {
                stream.write_all(&handshake::answer(&head).unwrap()).await?;
                return self.websocket(stream).await;
            } else {
                let Some(file) = self.files.get(head.path.as_str()) else {
                    stream.write_all(&status_response(404)).await?;
                    continue;
                };
                let range = head.header("Range").unwrap_or("whole");
                let earlier = self.log.count(&format!("get {} whole", head.path));
                self.log.add(format!("get {} {range}", head.path));
                let found = answer(&head, u32::try_from(file.len()).unwrap(), "image.bin");
                let body = &file[found.body.start as usize..found.body.end as usize];
                stream.write_all(&found.head).await?;
                match self.sending {
                    Sending::Half if head.path == FINAL_PATH => {
                        stream.write_all(&body[..body.len() / 2]).await?;
                        return stream.shutdown().await;
                    }
                    Sending::SlowAtLast if earlier > 0 => {
                        for piece in body.chunks(1400) {
                            stream.write_all(piece).await?;
                            tokio::time::sleep(Duration::from_millis(80)).await;
                        }
                    }
                    _ => stream.write_all(body).await?,
                }
                if !found.keep {
                    return stream.shutdown().await;
                }
            }
        }
    }

    async fn websocket(&self, mut stream: Stream) -> std::io::Result<()> {
        let mut frames = FrameReader::new(End::Device);
        let mut sequences = Sequences::new();
        let mut registered = None;
        let mut offered = false;
        let mut buffer = [0; 2048];
        loop {
            let count = stream.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            assert_eq!(frames.handle_input(&buffer[..count]), count);
            while let Some(frame) = frames.next_frame().unwrap() {
                let Frame::Text(json) = frame else {
                    stream.write_all(&PONG).await?;
                    continue;
                };
                let message = DeviceMessage::parse(&json).unwrap();
                let mut bodies = Vec::new();
                let mut upgrade = false;
                match &message.body {
                    DeviceBody::Register(register) => {
                        self.log.add(format!("register {}", register.rom_version));
                        registered = Some(Registered {
                            model: register.model,
                            rom_version: register.rom_version,
                            dated: true,
                            upgrading: false,
                            address: None,
                        });
                        bodies.push(ServerBody::Registered { hb_interval: 145 });
                    }
                    DeviceBody::Date => {
                        bodies.push(ServerBody::Date { date: Date::from_unix_milliseconds(0) });
                    }
                    DeviceBody::Update(_) => {
                        bodies.push(ServerBody::Answer { error: 0 });
                        upgrade = !core::mem::replace(&mut offered, true);
                    }
                    DeviceBody::Query { .. } => bodies.push(ServerBody::NothingKnown),
                    DeviceBody::Result { error: code, .. } | DeviceBody::UpgradeState { code, .. } => {
                        self.log.add(format!("result {code}"));
                        // Once more, on the same socket.
                        upgrade = *code == 404 && self.log.count("result 404") < 2;
                    }
                    _ => {}
                }
                if upgrade
                    && let Some(registered) = &registered
                    && let Some(body) = self.offer(registered)
                {
                    bodies.push(body);
                }
                for body in bodies {
                    let request = matches!(body, ServerBody::Upgrade(_));
                    let message = ServerMessage {
                        device_id: DeviceId::new(message.device_id.as_str()).unwrap(),
                        api_key: ApiKey::from_random([7; 16]),
                        sequence: request.then(|| sequences.next(0)),
                        body,
                    };
                    stream.write_all(&server_text(&message.to_json().unwrap()).unwrap()).await?;
                }
            }
        }
    }

    /// What is refused, because the device has it, is not offered.
    fn offer(&self, registered: &Registered) -> Option<ServerBody> {
        let candidates = Slot::ALL.map(|slot| {
            let path = if slot == Slot::User1 { USER1 } else { USER2 };
            let file = &self.files[path];
            Candidate {
                slot,
                url: format!("http://127.0.0.1:{}{path}", self.port),
                digest: hex::encode(Sha256::digest(file)),
                size: u32::try_from(file.len()).unwrap(),
                format: Format::V2,
                linked_for: Some(slot),
            }
        });
        let offer = Offer::new(registered.model.as_str(), candidates.to_vec());
        offer.check(registered).ok().map(|checked| ServerBody::Upgrade(checked.upgrade))
    }
}
