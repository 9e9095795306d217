//! Hundreds of Sonoff devices download at once from one `spark sonoff serve`.
//!
//! ```text
//! cargo build --release --bin spark
//! cargo run --release -p spark-cloud-benches --bin sonoff_load -- [--devices 200] [--length 240000]
//! ```
//!
//! Each device has its WebSocket and a connection for the image, which it asks for in ranges of 4096 bytes, one after the other
//! as devices do; without the pauses in which a real one writes its flash. The server has a process of its own. Ends with 1
//! if an image did not arrive as it is, or a device was not taken for upgraded. Needs Linux for its view of the server.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a tool for measurements"
)]

#[path = "../process.rs"]
mod process;

use clap::Parser;
use process::{Process, mib, percentile};
use serde_json::Value;
use spark_ota::esp8266::{FlashMode, FlashParameters, ImageBuilder, Slot};
use spark_ota::sonoff::frame::{Decoded, End, Frame, decode, device_text};
use spark_ota::sonoff::http::ResponseHead;
use spark_ota::sonoff::message::{DeviceBody, DeviceMessage, Register, ServerBody, ServerMessage, Update};
use spark_ota::sonoff::{ApiKey, DeviceId, Model, Version, handshake};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;

const CHUNK: usize = 4096;

#[derive(Parser, Debug)]
struct Args {
    /// Devices.
    #[arg(long, default_value_t = 200)]
    devices: usize,
    /// Bytes of irom code in each image.
    #[arg(long, default_value_t = 240_000)]
    length: usize,
    /// The program; otherwise the one in the same target folder.
    #[arg(long)]
    spark: Option<PathBuf>,
}

fn main() {
    let args = Args::parse();
    let program = process::program_for_many(args.spark.as_deref());
    let place = tempfile::tempdir().unwrap();
    let images = Slot::ALL.map(|slot| image(slot, args.length));
    let paths = Slot::ALL.map(|slot| place.path().join(slot.file_name()));
    for (path, image) in paths.iter().zip(&images) {
        std::fs::write(path, image).unwrap();
    }
    let serve = Serve::start(&program, &paths, args.devices);
    let empty = serve.process.memory();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let [_, user2] = images;
    let started = Instant::now();
    let results = runtime.block_on(load(args.devices, &serve, Arc::from(user2.as_slice())));
    let total = started.elapsed();
    let mut times: Vec<Duration> = Vec::new();
    let mut failures = Vec::new();
    for result in results {
        match result {
            Ok(ranges) => times.extend(ranges),
            Err(failure) => failures.push(failure),
        }
    }
    let installed = serve.installed();
    if installed != args.devices {
        failures.push(format!("{installed} devices were taken for upgraded, of {}", args.devices));
    }
    times.sort_unstable();
    let bytes = user2.len() * args.devices;
    println!("{} devices, {} bytes each, {} ranges", args.devices, user2.len(), times.len());
    println!(
        "all at once in {:.2} s, {:.0} MiB/s",
        total.as_secs_f64(),
        bytes as f64 / total.as_secs_f64() / 1048576.0
    );
    let at = |part| percentile(&times, part).as_secs_f64() * 1000.0;
    println!("a range: p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms", at(0.5), at(0.99), at(1.0));
    println!(
        "memory of the server: {:.1} MiB before, {:.1} MiB at most, processor time {:.2} s",
        mib(empty),
        mib(serve.process.most_memory()),
        serve.process.processor_time().as_secs_f64()
    );
    drop(serve);
    if !failures.is_empty() {
        failures.truncate(5);
        println!("FAILED: {}", failures.join("; "));
        std::process::exit(1);
    }
}

/// An image with code that calls itself, as a real one does.
fn image(slot: Slot, length: usize) -> Vec<u8> {
    let mut code = vec![7; length];
    for (at, word) in (0..400_u32).zip(code.as_chunks_mut::<4>().0) {
        *word = (slot.link_address() + at * 8).to_le_bytes();
    }
    let parameters = FlashParameters { mode: FlashMode::Dout, ..FlashParameters::SONOFF };
    ImageBuilder::v2(parameters, 0x4010_0004, &code)
        .segments(&[(0x4010_0000, &[1; 300][..])])
        .build()
        .unwrap()
}

struct Serve {
    process: Process,
    /// How many devices have the image, told when it is all of them or one has failed.
    installed: mpsc::Receiver<usize>,
    devices: SocketAddr,
    images: SocketAddr,
}

impl Serve {
    fn start(program: &Path, images: &[PathBuf], devices: usize) -> Self {
        let mut child = Command::new(program)
            .args([
                "sonoff",
                "serve",
                "--no-tls",
                "--listen",
                "127.0.0.1",
                "--port",
                "0",
                "--http-port",
                "0",
                "--json",
            ])
            .args(images)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut address = || {
            loop {
                let mut line = String::new();
                lines.read_line(&mut line).unwrap();
                let said: Value = serde_json::from_str(&line).expect("the server has started");
                // Before that it says what may be wrong with images and addresses.
                if said["event"] == "listening" {
                    break said["address"].as_str().unwrap().parse().unwrap();
                }
            }
        };
        let (listening, images) = (address(), address());
        let (told, installed) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = told.send(read(&mut lines, devices));
            // Or the server would wait for its reader.
            let _ = std::io::copy(&mut lines, &mut std::io::sink());
        });
        Self { process: Process(child), installed, devices: listening, images }
    }

    fn installed(&self) -> usize {
        self.installed.recv_timeout(Duration::from_secs(30)).unwrap_or_default()
    }
}

/// Reads what the server says until so many devices have the image.
fn read(lines: &mut BufReader<ChildStdout>, devices: usize) -> usize {
    let mut installed = 0;
    let mut line = String::new();
    while installed < devices && lines.read_line(&mut line).unwrap_or_default() != 0 {
        let said: Value = serde_json::from_str(&line).unwrap();
        installed += usize::from(said["stage"] == "installed");
        if said["stage"] == "failed" {
            println!("{said}");
            break;
        }
        line.clear();
    }
    installed
}

async fn load(devices: usize, serve: &Serve, image: Arc<[u8]>) -> Vec<Result<Vec<Duration>, String>> {
    let together = Arc::new(Barrier::new(devices));
    let tasks: Vec<_> = (0..devices)
        .map(|number| {
            let (addresses, image) = ((serve.devices, serve.images), Arc::clone(&image));
            let together = Arc::clone(&together);
            tokio::spawn(async move { Device::new(number).live(addresses, &image, &together).await })
        })
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap_or_else(|error| Err(error.to_string())));
    }
    results
}

struct Device {
    id: DeviceId,
    key: ApiKey,
}

/// A WebSocket of a device.
struct Socket {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Socket {
    async fn say(&mut self, device: &Device, key: &ApiKey, body: DeviceBody) -> std::io::Result<()> {
        let message = DeviceMessage { device_id: device.id, api_key: key.clone(), body };
        self.stream.write_all(&device_text(&message.to_json().unwrap(), [0; 4]).unwrap()).await
    }

    async fn hear(&mut self) -> std::io::Result<ServerMessage> {
        loop {
            if let Ok(Decoded::Frame { frame: Frame::Text(json), used }) = decode(End::Server, &self.received)
            {
                self.received.drain(..used);
                return ServerMessage::parse(&json).map_err(std::io::Error::other);
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl Device {
    fn new(number: usize) -> Self {
        let id = DeviceId::new(&format!("1000{number:06x}")).unwrap();
        Self { id, key: ApiKey::from_random(rand::random()) }
    }

    async fn live(
        self,
        addresses: (SocketAddr, SocketAddr),
        image: &[u8],
        together: &Barrier,
    ) -> Result<Vec<Duration>, String> {
        let ready = self.register(addresses.0).await;
        // Also who has failed, or the others would wait.
        together.wait().await;
        let (mut socket, key, upgrade) = ready.map_err(|error| format!("{}: {error}", self.id))?;
        let found =
            self.download(addresses.1, image).await.map_err(|error| format!("{}: {error}", self.id))?;
        let result = DeviceBody::Result { error: 0, sequence: upgrade.sequence };
        socket.say(&self, &key, result).await.map_err(|error| error.to_string())?;
        Ok(found)
    }

    async fn register(&self, address: SocketAddr) -> std::io::Result<(Socket, ApiKey, ServerMessage)> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&handshake::request()).await?;
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut received).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut socket = Socket { stream, received: Vec::new() };
        let register = Register {
            rom_version: Version::new("1.5.5").unwrap(),
            model: Model::new("ITA-GZ1-GL").unwrap(),
            version: Some(2),
            ts: Some(970),
        };
        socket.say(self, &self.key, DeviceBody::Register(register)).await?;
        let key = socket.hear().await?.api_key;
        socket.say(self, &key, DeviceBody::Date).await?;
        socket.hear().await?;
        socket.say(self, &key, DeviceBody::Update(Update::default())).await?;
        loop {
            let message = socket.hear().await?;
            if matches!(message.body, ServerBody::Upgrade(_)) {
                return Ok((socket, key, message));
            }
        }
    }

    async fn download(&self, address: SocketAddr, image: &[u8]) -> std::io::Result<Vec<Duration>> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (mut times, mut received) = (Vec::new(), Vec::new());
        for (number, chunk) in image.chunks(CHUNK).enumerate() {
            let first = number * CHUNK;
            let request = format!(
                "GET /ota/user2.bin?deviceid={}&ts=1&sign={} HTTP/1.1\r\nHost: dl.itead.cn\r\nRange: bytes={first}-{}\r\n\r\n",
                self.id,
                "0".repeat(64),
                first + chunk.len() - 1
            );
            let started = Instant::now();
            stream.write_all(request.as_bytes()).await?;
            received.clear();
            let body = loop {
                if let Ok(Some((head, used))) = ResponseHead::parse(&received)
                    && received.len() >= used + chunk.len()
                {
                    if head.status != 206 {
                        return Err(std::io::Error::other(format!("status {}", head.status)));
                    }
                    break &received[used..];
                }
                if stream.read_buf(&mut received).await? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            };
            times.push(started.elapsed());
            if body != chunk {
                return Err(std::io::Error::other("the image is another one"));
            }
        }
        Ok(times)
    }
}
