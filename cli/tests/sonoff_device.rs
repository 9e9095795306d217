//! `spark sonoff device` against a server over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

#[path = "common/sonoff.rs"]
mod common;
mod sonoff_server;

use common::{KEY, image, pairing, spark};
use serde_json::{Value, json};
use sonoff_server::{Sending, Server};
use spark_cli::sonoff::tls::Acceptor;
use spark_ota::esp8266::Slot;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

fn vector(name: &str) -> Vec<u8> {
    std::fs::read(common::vector(name)).unwrap()
}

fn both(len: usize) -> [Vec<u8>; 2] {
    Slot::ALL.map(|slot| image(slot, len))
}

fn last() -> [Vec<u8>; 2] {
    [image(Slot::User2, 8000), vector("image_arduino.bin")]
}

fn server(upgrade: [Vec<u8>; 2], sending: Sending) -> Server {
    Server::new(Acceptor::plain(), upgrade, last(), sending)
}

struct Told {
    code: Option<i32>,
    lines: Vec<Value>,
    stderr: String,
}

impl Told {
    fn all(&self, happening: &str) -> Vec<&Value> {
        self.lines.iter().filter(|line| line["happening"] == happening).collect()
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = spark(&["device", "--id", "1000abcdef", "--key", KEY]);
    if !arguments.contains(&"--give-up-after") {
        command.args(["--give-up-after", "60"]);
    }
    command.args(arguments);
    command
}

/// Runs a device to its end.
fn device(server: &Server, arguments: &[&str]) -> Told {
    let address = server.address.to_string();
    let output = command(arguments).args(["--server", &address, "--json"]).output().unwrap();
    told(&output)
}

fn told(output: &std::process::Output) -> Told {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!text.contains(KEY) && !stderr.contains(KEY), "{text}{stderr}");
    assert!(!text.contains("sign=") && !text.contains("password"), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["device_id"] == "1000abcdef"));
    Told { code: output.status.code(), lines, stderr }
}

#[test]
fn it_installs_an_image_and_comes_back_with_the_new_version() {
    for (profile, running, path, results) in [
        ("ranges", "user1", "/ota/user2.bin", &["result 0"][..]),
        ("ranges", "user2", "/ota/user1.bin", &["result 0"]),
        ("later", "user1", "/ota/user2.bin", &["result 0", "result 0"]),
    ] {
        let server = server(both(20_000), Sending::Fast);
        let arguments = ["--profile", profile, "--running", running, "--plain", "--new-rom-version", "3.1.4"];
        let told = device(&server, &arguments);
        assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""), "{:?}", server.log.lines());
        assert_eq!(told.lines.last().unwrap()["happening"], "done");
        let booted = told.all("booted")[0];
        assert_eq!((&booted["boots"], &booted["rom_version"]), (&json!(true), &json!("3.1.4")));
        let log = server.log.lines();
        assert_eq!(log.last().unwrap(), "register 3.1.4");
        let first = format!("get {path} bytes=0-4095");
        assert!(log.contains(&first) && server.log.count("get") == 5, "{log:?}");
        let heard: Vec<_> = log.iter().filter(|line| line.starts_with("result")).collect();
        assert_eq!(heard, results);
    }
}

#[test]
fn old_downloader_fails_at_full_speed_and_takes_the_same_image_slowly() {
    let server = server(both(20_000), Sending::SlowAtLast);
    let told = device(&server, &["--profile", "old", "--plain"]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert_eq!(server.log.count("get /ota/user2.bin whole"), 2);
    let codes: Vec<_> = told.all("said").iter().filter_map(|line| line["code"].as_u64()).collect();
    assert_eq!(codes, [404, 0]);
}

#[test]
fn lost_download_is_continued() {
    let server = server(both(20_000), Sending::Fast);
    let told = device(&server, &["--plain", "--lose-after", "9000"]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    let lost: Vec<_> = told.all("closed").iter().map(|line| line["reason"].clone()).collect();
    assert!(lost.contains(&json!("lost on purpose")), "{lost:?}");
    assert_eq!(server.log.count("get /ota/user2.bin bytes=8192-12287"), 2);
}

#[test]
fn slow_network_takes_its_time_for_every_answer_and_nothing_else() {
    let server = server(both(20_000), Sending::Fast);
    let began = std::time::Instant::now();
    let told = device(&server, &["--plain", "--latency", "150"]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    // Connection and answer of the dispatch, the WebSocket, two messages, connection and five ranges; the first half again.
    let answers = 2 + 2 + 2 + 1 + 5 + 2 + 2 + 1;
    assert!(began.elapsed().as_millis() >= answers * 150, "{:?}", began.elapsed());
    assert_eq!(server.log.count("get"), 5);
}

#[test]
fn image_that_does_not_start_brings_the_old_version_back() {
    let mut wrong = both(20_000);
    wrong[1] = wrong[0].clone();
    let arguments = ["--plain", "--rom-version", "1.5.5"];
    let wrong_slot = server(wrong, Sending::Fast);
    let told = device(&wrong_slot, &arguments);
    assert_eq!(told.code, Some(65), "{}", told.stderr);
    assert!(told.stderr.contains("does not start") && told.stderr.contains("spark sonoff check"));
    assert_eq!(told.all("booted")[0]["boots"], false);
    let log = wrong_slot.log.lines();
    assert!(log.contains(&"result 0".to_owned()), "{log:?}");
    assert_eq!(wrong_slot.log.count("register 1.5.5"), 2);

    let good = server(both(20_000), Sending::Fast);
    let told = device(&good, &["--plain", "--boots", "nothing"]);
    assert_eq!(told.code, Some(65), "{}", told.stderr);
    assert_eq!(good.log.count("register 1.5.5"), 2);
}

#[test]
fn it_goes_through_the_final_stage_from_either_slot() {
    let folder = tempfile::tempdir().unwrap();
    for (running, gets) in [
        ("user1", &["/ota/image_arduino.bin whole"][..]),
        ("user2", &["/ota/image_user2-0x81000.bin whole", "/ota/image_arduino.bin whole"]),
    ] {
        let server = server(both(20_000), Sending::Fast);
        let picture = folder.path().join(running);
        let address = server.address.to_string();
        let arguments = ["--plain", "--final-stage", "--hurry", "--running", running];
        let places = ["--final-server", &address, "--flash", picture.to_str().unwrap()];
        let told = device(&server, &[&arguments[..], &places].concat());
        assert_eq!(told.code, Some(0), "{}", told.stderr);
        let log = server.log.lines();
        let ours: Vec<_> = log
            .iter()
            .filter_map(|line| line.strip_prefix("get "))
            .filter(|get| get.starts_with("/ota/image"))
            .collect();
        assert_eq!(ours, gets);
        // Somebody who looks for the server says nothing.
        assert_eq!(server.log.count("failure silent"), gets.len());
        let flash = std::fs::read(&picture).unwrap();
        let image = vector("image_arduino.bin");
        assert_eq!((flash.len(), &flash[..image.len()]), (1 << 20, &image[..]));
        assert_eq!(told.lines.last().unwrap()["length"], image.len());
    }
}

#[test]
fn final_image_that_breaks_off_leaves_it_waiting() {
    let server = server(both(20_000), Sending::Half);
    let address = server.address.to_string();
    let told = device(&server, &["--plain", "--final-stage", "--hurry", "--final-server", &address]);
    assert_eq!(told.code, Some(74), "{}", told.stderr);
    assert!(told.stderr.contains("waits for ever"), "{}", told.stderr);
}

#[test]
fn final_image_that_does_not_start_is_told() {
    // E2A takes it: status, length and first byte are good.
    let mut broken = vector("image_arduino.bin");
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    let server = Server::new(Acceptor::plain(), both(8000), [Vec::new(), broken], Sending::Fast);
    let address = server.address.to_string();
    let told = device(&server, &["--plain", "--final-stage", "--hurry", "--final-server", &address]);
    assert_eq!(told.code, Some(65), "{}", told.stderr);
    assert!(told.stderr.contains("serial port"), "{}", told.stderr);
}

#[test]
fn access_point_takes_a_server_and_closes() {
    let server = server(both(8000), Sending::Fast);
    let (mut child, address, said) = pairing(command(&["--plain", "--json"]));
    let ask = |request: &str| {
        let mut socket = TcpStream::connect(&address).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 1024];
        let count = socket.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..count]).into_owned()
    };
    assert!(ask("GET /device HTTP/1.1\r\n\r\n").contains(KEY), "the device tells its key there");
    let json = format!(
        r#"{{"version":4,"ssid":"testnet","password":"secret-123","serverName":"127.0.0.1","port":{}}}"#,
        server.address.port()
    );
    let length = json.len();
    let answer = ask(&format!("POST /ap HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{json}"));
    assert!(answer.ends_with(r#"{"error":0}"#), "{answer}");
    let rest = said.rest();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
    assert!(rest.contains(r#""ssid":"testnet""#) && !rest.contains("secret-123") && !rest.contains(KEY));
    assert!(TcpStream::connect(&address).is_err());
}

#[test]
fn what_stops_it_is_told() {
    // Nobody listens there: the port was just free.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let run = |arguments: &[&str]| {
        let output = command(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = run(&["--plain", "--server", &free, "--give-up-after", "2"]);
    assert_eq!(code, Some(69), "{text}");
    assert!(text.contains("asks for its server; last: dispatch: "), "{text}");
    for arguments in [
        &["--server", "nowhere"][..],
        &["--server", "host:0"],
        &["--id", "1000abcdef0"],
        &["--key", "short"],
        &["--server", "host:1", "--ap", "127.0.0.1:0"],
        &["--lose-after", "0"],
    ] {
        let arguments = [&["--plain"], arguments].concat();
        assert_eq!(run(&arguments).0, Some(64), "{arguments:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("short.bin");
    std::fs::write(&path, b"short").unwrap();
    let (code, text) = run(&["--plain", "--server", &free, "--flash", path.to_str().unwrap()]);
    assert_eq!(code, Some(65), "{text}");
    assert_eq!(std::fs::read(&path).unwrap(), b"short");
}

#[cfg(not(feature = "openssl"))]
#[test]
fn without_tls_it_says_how_to_do_without() {
    let output = command(&["--server", "127.0.0.1:1"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{text}");
    assert!(text.contains("--features openssl") && text.contains("--plain"), "{text}");
}

#[cfg(feature = "openssl")]
#[test]
fn every_version_of_tls_leads_to_an_installed_image() {
    let acceptor = Acceptor::new().unwrap();
    for (max, version) in [("1.0", "TLSv1"), ("1.1", "TLSv1.1"), ("1.2", "TLSv1.2")] {
        let server = Server::new(acceptor.clone(), both(8000), last(), Sending::Fast);
        let told = device(&server, &["--tls-max", max]);
        assert_eq!(told.code, Some(0), "{}", told.stderr);
        // Dispatch and WebSocket, before and after.
        let tls: Vec<_> = server.log.lines().into_iter().filter(|line| line.starts_with("tls")).collect();
        assert_eq!(tls, vec![format!("tls {version}"); 4]);
        let connected = told.all("connected");
        assert_eq!(connected[0]["tls"]["version"], version);
        // Images come without.
        let download = connected.iter().find(|line| line["link"] == "download").unwrap();
        assert_eq!(download["tls"], Value::Null);
    }
}

#[cfg(feature = "openssl")]
#[test]
fn pinned_firmware_goes_at_the_certificate() {
    let server = Server::new(Acceptor::new().unwrap(), both(8000), last(), Sending::Fast);
    let told = device(&server, &["--profile", "pinned", "--give-up-after", "2"]);
    assert_eq!(told.code, Some(69), "{}", told.stderr);
    assert!(told.stderr.contains("certificate is not the vendor's"), "{}", told.stderr);
    assert_eq!(server.log.lines()[0], "failure certificate-refused");
    assert_eq!(told.all("closed")[0]["code"], "certificate-pinned");
}

#[test]
fn flash_that_could_not_be_kept_is_told_before_the_update() {
    let server = server(both(8000), Sending::Fast);
    let told = device(&server, &["--plain", "--flash", "/not/there/flash.bin"]);
    assert_eq!(told.code, Some(74), "{}", told.stderr);
    assert!(told.stderr.contains("cannot write /not/there/flash.bin"), "{}", told.stderr);
    assert!(told.lines.is_empty() && server.log.lines().is_empty(), "{:?}", told.lines);
}
