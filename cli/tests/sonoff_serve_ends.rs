//! How `spark sonoff serve` ends: never while a device writes its final image, unless somebody insists.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

use core::time::Duration;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Instant;
use tokio::net::TcpSocket;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ota/tests/vectors/sonoff/images");
/// Longer than anything here takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server, whose output goes to files. It is killed when it is dropped.
struct Server {
    child: Child,
    folder: tempfile::TempDir,
}

impl Server {
    /// With the images of SonOTA. Its output may have so many blocks.
    fn start(blocks: u32, options: &[&str]) -> Self {
        let images = ["image_user1-0x01000.bin", "image_user2-0x81000.bin", "--final", "image_arduino.bin"];
        Self::serve(blocks, &[&images, options].concat())
    }

    fn serve(blocks: u32, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| std::fs::File::create(folder.path().join(name)).unwrap();
        // What is written beyond a limit is an error, and not a signal. Under nohup the tests ignore what the server should not.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec env --default-signal=HUP \"$0\" \"$@\"");
        let child = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_spark"), "sonoff", "serve"])
            .args(if arguments.contains(&"--listen") { &[][..] } else { &["--listen", "127.0.0.1"] })
            .args(["--port", "0", "--http-port", "0", "--json", "--no-tls"])
            .args(arguments)
            .current_dir(VECTORS)
            .stdout(Stdio::from(file("out")))
            .stderr(Stdio::from(file("err")))
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn said(&self) -> Vec<Value> {
        let text = self.read("out");
        text.split_inclusive('\n').filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Where it listens: for devices, for images.
    fn addresses(&self) -> [String; 2] {
        until("it listens", || {
            let said = self.said();
            let listening = said.iter().filter(|said| said["event"] == "listening");
            let found: Vec<_> = listening.map(|said| said["address"].as_str().unwrap().to_owned()).collect();
            found.try_into().ok()
        })
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its exit code, after its own end.
    fn end(&mut self) -> Option<i32> {
        until("it ends", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks again and again.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// A device that gets the final image, and takes it as slowly as it likes.
struct Writing(TcpStream);

impl Writing {
    fn new(images: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let socket = runtime.block_on(async {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            socket.connect(images.parse().unwrap()).await.unwrap().into_std().unwrap()
        });
        socket.set_nonblocking(false).unwrap();
        let mut writing = Self(socket);
        writing.0.write_all(b"GET /ota/image_arduino.bin HTTP/1.0\r\n\r\n").unwrap();
        writing.0.read_exact(&mut [0; 1000]).unwrap();
        // The server sees in the kernel's table what has not arrived.
        sleep(Duration::from_secs(1));
        writing
    }

    /// Takes the rest.
    fn finish(mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        let image = std::fs::read(format!("{VECTORS}/image_arduino.bin")).unwrap();
        assert!(image.ends_with(&rest) && rest.len() > image.len() - 1000, "{} bytes", rest.len());
    }
}

#[test]
fn interrupted_server_waits_for_the_final_image_and_ends_then() {
    let mut server = Server::start(100, &[]);
    let [_, images] = server.addresses();
    let device = Writing::new(&images);
    server.signal("INT");
    until("it says so, with --json too", || server.read("err").contains("interrupt again").then_some(()));
    sleep(Duration::from_secs(2));
    assert!(server.is_running());
    device.finish();
    assert_eq!(server.end(), Some(0));
}

#[test]
fn terminal_that_goes_away_does_not_break_a_final_image_off() {
    let mut server = Server::start(100, &[]);
    let [_, images] = server.addresses();
    let device = Writing::new(&images);
    // The shell says so, and then the system.
    for _ in 0..2 {
        server.signal("HUP");
        sleep(Duration::from_secs(1));
        assert!(server.is_running());
    }
    // Nor is what comes then the second one.
    server.signal("TERM");
    sleep(Duration::from_secs(1));
    assert!(server.is_running());
    device.finish();
    assert_eq!(server.end(), Some(0));
    let mut server = Server::start(100, &[]);
    server.addresses();
    server.signal("HUP");
    assert_eq!(server.end(), Some(0));
}

#[test]
fn who_insists_is_obeyed() {
    let mut server = Server::start(100, &[]);
    let [_, images] = server.addresses();
    let device = Writing::new(&images);
    server.signal("TERM");
    until("it says so", || server.read("err").contains("interrupt again").then_some(()));
    assert!(server.is_running());
    server.signal("TERM");
    assert_eq!(server.end(), Some(0));
    drop(device);
}

#[test]
fn output_that_cannot_be_written_does_not_break_a_final_image_off() {
    let mut server = Server::start(16, &[]);
    let [_, images] = server.addresses();
    let device = Writing::new(&images);
    // Each is told, until there is no place any more.
    for _ in 0..300 {
        let mut socket = TcpStream::connect(&images).unwrap();
        socket.write_all(b"GET /nothing HTTP/1.0\r\n\r\n").unwrap();
        let _ = socket.read_to_end(&mut Vec::new());
    }
    until("it says so", || server.read("err").contains("standard output").then_some(()));
    sleep(Duration::from_secs(1));
    server.signal("INT");
    sleep(Duration::from_secs(1));
    assert!(server.is_running(), "{}", server.read("err"));
    device.finish();
    assert_eq!(server.end(), Some(74));
}

/// What it says when it does not even start.
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let mut server = Server::serve(100, arguments);
    (server.end(), server.read("err"))
}

#[test]
fn final_stage_that_would_be_a_dead_end_is_refused() {
    let (code, said) =
        refused(&["image_user1-0x01000.bin", "--running", "2", "--final", "image_arduino.bin"]);
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("give user2.bin too"), "{said}");
}

#[test]
fn what_is_said_at_the_start_is_in_the_objects_too() {
    let server = Server::start(100, &["--address", "203.0.113.1"]);
    server.addresses();
    let warned = |words: &str| {
        let is = |said: &Value| {
            let text = said["text"].as_str().unwrap_or_default();
            said["event"] == "warning" && said["device"].is_null() && text.contains(words)
        };
        assert!(server.said().iter().any(is), "{words}: {}", server.read("out"));
    };
    warned("no address that a device can reach");
    warned("203.0.113.1 is no address of this computer");
    warned("the final stage asks at port 8080");
    // Programs that do not tell their slot.
    use spark_ota::esp8266::{FlashMode, FlashParameters, ImageBuilder};
    let parameters = FlashParameters { mode: FlashMode::Dout, ..FlashParameters::SONOFF };
    let segments = [(0x4010_0000, &[1; 300][..])];
    let folder = tempfile::tempdir().unwrap();
    let paths = [1, 2].map(|fill| {
        let code = vec![fill; 8000];
        let image = ImageBuilder::v2(parameters, 0x4010_0004, &code).segments(&segments);
        let path = folder.path().join(format!("{fill}.bin"));
        std::fs::write(&path, image.build().unwrap()).unwrap();
        path.display().to_string()
    });
    let server = Server::serve(100, &[&paths[0], &paths[1]]);
    server.addresses();
    let said = server.read("out");
    assert!(said.contains("slots-by-order") && said.contains("unknown-slot"), "{said}");
}

#[test]
fn state_is_told_in_the_words_of_the_devices() {
    let server = Server::start(100, &[]);
    let [devices, _] = server.addresses();
    let mut device = Command::new(env!("CARGO_BIN_EXE_spark"))
        .args(["sonoff", "device", "--plain", "--server", &devices, "--give-up-after", "60"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let state = until("a state", || server.said().into_iter().find(|said| said["event"] == "state"));
    let _ = device.kill();
    device.wait().unwrap();
    assert_eq!(state["switch"], "off", "{state}");
    assert!(state.get("switches").is_none() && state["device"].is_string(), "{state}");
}

#[test]
fn address_that_is_not_here_is_a_matter_of_listen() {
    let images = ["image_user1-0x01000.bin", "image_user2-0x81000.bin"];
    let (code, said) = refused(&[&images[..], &["--listen", "203.0.113.1"]].concat());
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("address of this computer with --listen") && !said.contains("--port"), "{said}");
}

#[test]
fn devices_are_not_told_an_address_that_they_cannot_use() {
    let images = ["image_user1-0x01000.bin", "image_user2-0x81000.bin", "--listen", "::1"];
    let (code, said) = refused(&images);
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("would be told ::1") && said.contains("--address"), "{said}");
}
