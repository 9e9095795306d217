//! `spark sonoff serve` and `spark sonoff device` as programs, against each other over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

#[path = "common/sonoff.rs"]
mod common;

use common::{KEY, Lines, image, spark, vector};
use serde_json::Value;
use spark_ota::esp8266::Slot;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};

struct Folder(tempfile::TempDir);

impl Folder {
    /// With user1.bin and user2.bin of about this length.
    fn new(len: usize) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for slot in Slot::ALL {
            std::fs::write(folder.path(slot.file_name()), image(slot, len)).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A server on free ports.
const LISTENING: [&str; 8] =
    ["serve", "--no-tls", "--listen", "127.0.0.1", "--port", "0", "--http-port", "0"];

/// A running server. It is killed when it is dropped.
struct Server {
    child: Child,
    lines: Lines,
    devices: String,
    images: String,
    said: Vec<Value>,
}

impl Server {
    fn start(folder: &Folder, options: &[&str]) -> Self {
        let mut child = spark(&LISTENING)
            .arg("--json")
            // In the wrong order: they tell their slot.
            .args([folder.path("user2.bin"), folder.path("user1.bin")])
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = Lines::of(&mut child);
        let mut server =
            Self { child, lines, devices: String::new(), images: String::new(), said: Vec::new() };
        server.devices =
            server.until(|said| said["event"] == "listening")["address"].as_str().unwrap().to_owned();
        server.images =
            server.until(|said| said["event"] == "listening")["address"].as_str().unwrap().to_owned();
        server
    }

    /// Reads what it says up to this.
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        for said in self.lines.by_ref() {
            self.said.push(said.clone());
            if wanted(&said) {
                return said;
            }
        }
        panic!("it has ended: {:#?}", self.said);
    }

    fn stage(&mut self, stage: &str) -> Value {
        self.until(|said| said["stage"] == stage)
    }

    /// Its exit code, after its own end.
    fn end(mut self) -> Option<i32> {
        self.lines.by_ref().for_each(drop);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn device(server: &Server, options: &[&str]) -> Child {
    spark(&["device", "--plain", "--server", &server.devices])
        .args(if options.contains(&"--give-up-after") { &[][..] } else { &["--give-up-after", "90"] })
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn ended(device: Child, code: i32) -> Output {
    let output = device.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn every_generation_gets_its_image_from_either_slot() {
    let folder = Folder::new(20_000);
    for (profile, running) in [("ranges", "user1"), ("ranges", "user2"), ("later", "user1"), ("old", "user2")]
    {
        let mut server = Server::start(&folder, &["--once"]);
        let device = device(
            &server,
            &["--profile", profile, "--running", running, "--id", "1000abcdef", "--key", KEY],
        );
        server.stage("installed");
        ended(device, 0);
        let whole = server.said.iter().any(|said| said["event"] == "requested" && said["paced"] == true);
        assert_eq!(whole, profile == "old");
        let names: Vec<_> = server.said.iter().filter_map(|said| said["file"].as_str()).collect();
        let expected = if running == "user1" { "user2.bin" } else { "user1.bin" };
        assert!(!names.is_empty() && names.iter().all(|name| *name == expected), "{names:?}");
        let said = serde_json::to_string(&server.said).unwrap();
        assert!(!said.contains(KEY) && !said.contains("apikey"), "a key was told");
        assert_eq!(server.end(), Some(0));
    }
}

#[test]
fn several_devices_at_once_and_one_of_them_loses_its_connection() {
    let folder = Folder::new(60_000);
    let mut server = Server::start(&folder, &[]);
    let devices: Vec<_> = (0..6)
        .map(|number| {
            let id = format!("10000000a{number}");
            let options = ["--id", &id, "--lose-after", "9000"];
            device(&server, if number == 0 { &options } else { &options[..2] })
        })
        .collect();
    for _ in &devices {
        server.stage("installed");
    }
    for device in devices {
        ended(device, 0);
    }
}

#[test]
fn image_that_does_not_start_is_found_out() {
    let folder = Folder::new(20_000);
    let mut server = Server::start(&folder, &[]);
    let device = device(&server, &["--new-rom-version", "1.5.5", "--rom-version", "1.5.5"]);
    server.stage("installed");
    let failed = server.stage("failed");
    assert_eq!(failed["failure"], "did-not-boot");
    assert!(failed["advice"].as_str().unwrap().contains("slot"), "{failed}");
    let _ = device.wait_with_output();
}

#[test]
fn final_stage_ends_with_the_last_byte() {
    let folder = Folder::new(20_000);
    let last = vector("image_arduino.bin");
    for running in ["user1", "user2"] {
        let mut server = Server::start(&folder, &["--once", "--final", &last]);
        let images = server.images.clone();
        let device =
            device(&server, &["--running", running, "--final-stage", "--hurry", "--final-server", &images]);
        server.stage("installed");
        server.stage("final");
        server.stage("done");
        ended(device, 0);
        assert_eq!(server.end(), Some(0));
    }
}

/// The beginning of an answer, for a peer that takes only little at once.
#[cfg(target_os = "linux")]
fn begin_final(server: &Server) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.images.parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let mut socket = TcpStream::from(socket);
    socket.write_all(b"GET /ota/image_arduino.bin HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(socket.read(&mut [0; 12]).unwrap(), 12);
    // Nothing more is asked for: from here on only what is acknowledged tells how far it is.
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    socket
}

/// When the server says that the final image has arrived.
#[cfg(target_os = "linux")]
fn arrival(mut server: Server) -> std::sync::mpsc::Receiver<std::time::Instant> {
    let (told, arrival) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        server.until(|said| said["event"] == "final-image-arrived");
        told.send(std::time::Instant::now()).unwrap();
    });
    arrival
}

#[cfg(target_os = "linux")]
#[test]
fn slow_final_image_has_arrived_with_its_last_byte_and_not_with_the_last_write() {
    use std::time::{Duration, Instant};

    let folder = Folder::new(20_000);
    let last = vector("image_arduino.bin");
    let server = Server::start(&folder, &["--final", &last]);
    let mut socket = begin_final(&server);
    let arrival = arrival(server);
    std::thread::sleep(Duration::from_millis(1500));
    let taken = Instant::now();
    std::io::copy(&mut socket, &mut std::io::sink()).unwrap();
    let arrived = arrival.recv_timeout(Duration::from_secs(10)).expect("it was told");
    assert!(arrived > taken, "told {:?} before", taken - arrived);
}

#[cfg(target_os = "linux")]
#[test]
fn final_image_that_is_left_in_the_middle_has_not_arrived() {
    let folder = Folder::new(20_000);
    let last = vector("image_arduino.bin");
    let mut server = Server::start(&folder, &["--final", &last]);
    let socket = begin_final(&server);
    std::thread::sleep(std::time::Duration::from_millis(200));
    // What it has not read makes this a reset.
    drop(socket);
    // Somebody else comes later.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let mut socket = TcpStream::connect(&server.images).unwrap();
    socket.write_all(b"GET /nothing HTTP/1.0\r\n\r\n").unwrap();
    server.until(|said| said["event"] == "rejected");
    assert!(server.said.iter().any(|said| said["event"] == "requested"));
    assert!(server.said.iter().all(|said| said["event"] != "final-image-arrived"), "{:?}", server.said);
}

#[test]
fn device_of_another_opinion_about_versions_is_told_why() {
    let folder = Folder::new(20_000);
    let mut server = Server::start(&folder, &["--once", "--as", "1.5.5"]);
    let device = device(&server, &["--rom-version", "2.0.4", "--give-up-after", "3"]);
    let refused = server.until(|said| said["event"] == "refused");
    assert!(refused["text"].as_str().unwrap().contains("not newer"), "{refused}");
    ended(device, 69);
    assert_eq!(server.end(), Some(76));
}

#[test]
fn bad_images_are_not_served() {
    let folder = Folder::new(20_000);
    let serve = |images: &[&str], options: &[&str]| {
        let output = spark(&LISTENING)
            .args(images.iter().map(|name| folder.path(name)))
            .args(options)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let mut damaged = image(Slot::User2, 20_000);
    damaged[300] ^= 1;
    std::fs::write(folder.path("damaged.bin"), damaged).unwrap();
    std::fs::write(folder.path("text.bin"), "not an image").unwrap();
    std::fs::write(folder.path("long.bin"), image(Slot::User2, 480_000)).unwrap();
    for (images, options, code, words) in [
        (&["user1.bin"][..], &[][..], 64, "--running"),
        (&["user1.bin", "user1.bin"], &[], 65, "same"),
        (&["user1.bin", "damaged.bin"], &[], 65, "crc"),
        (&["user1.bin", "text.bin"], &[], 65, "text.bin"),
        (&["user1.bin", "long.bin"], &[], 65, "too-long"),
        (&["user1.bin", "none.bin"], &[], 66, "none.bin"),
        (&["user1.bin"], &["--running", "1"], 65, "slot"),
        (&["user1.bin", "user2.bin"], &["--final", "/dev/null"], 65, "/dev/null"),
    ] {
        let (found, said) = serve(images, options);
        assert_eq!(found, Some(code), "{images:?} {options:?}: {said}");
        assert!(said.to_lowercase().contains(words), "{images:?} {options:?}: {said}");
    }
}

#[test]
fn nothing_but_the_table_is_read() {
    let folder = Folder::new(20_000);
    std::fs::write(folder.path("secret.txt"), "secret").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("/etc/passwd", folder.path("link.bin")).unwrap();
    let server = Server::start(&folder, &[]);
    let ask = |path: &str| {
        let mut socket = TcpStream::connect(&server.images).unwrap();
        write!(socket, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[9..12]).into_owned()
    };
    let outside = folder.path("user1.bin").display().to_string();
    for path in [
        "/secret.txt",
        "/ota/secret.txt",
        "/ota/link.bin",
        "/ota/../secret.txt",
        "/ota/%2e%2e/secret.txt",
        "/ota/%2e%2e%2fuser1.bin",
        "/ota/./user1.bin",
        "//ota/user1.bin",
        "/etc/passwd",
        &outside,
    ] {
        assert_eq!(ask(path), "404", "{path}");
    }
    assert_eq!(ask("/ota/user1.bin"), "200");
}

#[cfg(unix)]
fn terminate(child: &Child) {
    assert!(std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn interrupted_before_its_device_has_come_is_no_success() {
    let folder = Folder::new(20_000);
    for (options, code) in [(&["--once"][..], 69), (&[], 0)] {
        let server = Server::start(&folder, options);
        terminate(&server.child);
        assert_eq!(server.end(), Some(code), "{options:?}");
    }
}

#[cfg(unix)]
#[test]
fn output_that_nobody_reads_stops_nothing() {
    let folder = Folder::new(20_000);
    let mut server = Server::start(&folder, &[]);
    // More than a pipe holds.
    let mut socket = TcpStream::connect(&server.images).unwrap();
    let mut answers = [0; 4096];
    for _ in 0..2000 {
        socket.write_all(b"GET /nothing HTTP/1.1\r\n\r\n").unwrap();
        assert!(socket.read(&mut answers).unwrap() > 0);
    }
    let mut socket = TcpStream::connect(&server.images).unwrap();
    socket.write_all(b"GET /ota/user1.bin HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK") && answer.len() > 20_000);
    terminate(&server.child);
    for _ in 0..100 {
        if server.child.try_wait().unwrap().is_some() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("it does not end");
}

#[test]
fn unsigned_downloads_are_refused_if_that_is_wanted() {
    let folder = Folder::new(20_000);
    let mut server = Server::start(&folder, &["--check-sign", "--once"]);
    for query in ["", "?deviceid=1000abcdef&ts=1&sign=0", "?deviceid="] {
        let mut socket = TcpStream::connect(&server.images).unwrap();
        write!(socket, "GET /ota/user2.bin{query} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 403"), "{query}: {answer}");
    }
    let device = device(&server, &[]);
    server.stage("installed");
    ended(device, 0);
}

#[test]
fn what_devices_could_not_be_told_is_refused_at_the_start() {
    let folder = Folder::new(20_000);
    let long = "n".repeat(51);
    for options in [
        ["--address", ""],
        ["--address", &long],
        ["--address", "my host"],
        ["--address", "http://x"],
        ["--address", "192.168.1.10:8443"],
        ["--as", ""],
    ] {
        let output = spark(&["serve", "--no-tls"])
            .args([folder.path("user1.bin"), folder.path("user2.bin")])
            .args(options)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{options:?}: {said}");
        assert!(said.contains("devices cannot be told"), "{said}");
    }
}
