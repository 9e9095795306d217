//! `spark sonoff diy` against a double of a device in DIY mode: it answers with what the library says, gets the image in ranges and
//! reports how that ended.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

#[path = "common/sonoff.rs"]
mod common;

use common::{spark, vector};
use core::time::Duration;
use mdns_sd::{IfKind, ServiceDaemon, ServiceInfo};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use spark_ota::sonoff::DeviceId;
use spark_ota::sonoff::diy::{DiyAnswer, DiyCall, DiyError, DiyInfo, DiyReport, DiyRequest, SERVICE};
use spark_ota::sonoff::http::{Request, ResponseHead};
use spark_ota::sonoff::upgrade::UrlParts;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

/// What the double does.
#[derive(Clone, Copy)]
struct Habits {
    locked: bool,
    /// It tells its id, and wants to see it.
    tells_id: bool,
    /// `data` is a JSON text, as in 3.3.
    data_as_text: bool,
    unlock: Option<DiyError>,
    flash: Flash,
}

#[derive(Clone, Copy, PartialEq)]
enum Flash {
    /// Answers 0, downloads, reports this.
    Reports(DiyReport),
    /// Downloads so many ranges, then answers with this.
    Fails(DiyError, u32),
    /// Answers 0, downloads so many ranges, reports that it is done.
    Claims(u32),
    /// Answers with this, whatever it is, downloads so many ranges, reports that it is done if there was one.
    Says(&'static str, u32),
    /// Answers 0, asks for the whole image, reads nothing of it, reports that it is done.
    Ignores,
}

const NEW: Habits = Habits {
    locked: false,
    tells_id: true,
    data_as_text: false,
    unlock: None,
    flash: Flash::Reports(DiyReport::Done),
};

#[derive(Default)]
struct Seen {
    calls: Vec<(String, Option<String>, Instant)>,
    image: Vec<u8>,
    wanted: String,
}

struct Double {
    address: String,
    seen: Arc<Mutex<Seen>>,
}

impl Double {
    fn new(habits: Habits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let kept = Arc::clone(&seen);
        let locked = Arc::new(Mutex::new(habits.locked));
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (seen, locked) = (Arc::clone(&kept), Arc::clone(&locked));
                thread::spawn(move || answer(socket.unwrap(), habits, &seen, &locked));
            }
        });
        Self { address, seen }
    }

    fn paths(&self) -> Vec<String> {
        self.seen.lock().unwrap().calls.iter().map(|(path, ..)| path.clone()).collect()
    }
}

fn answer(mut socket: TcpStream, habits: Habits, seen: &Mutex<Seen>, locked: &Mutex<bool>) {
    let mut received = Vec::new();
    let (path, body) = loop {
        let mut buffer = [0; 1024];
        let count = socket.read(&mut buffer).unwrap();
        if count == 0 {
            return;
        }
        received.extend_from_slice(&buffer[..count]);
        if let Some((request, _)) = Request::parse(&received).unwrap() {
            assert_eq!(request.head.method, "POST");
            break (request.head.path.clone(), request.body.to_vec());
        }
    };
    let request = DiyRequest::parse(&path, &body).unwrap();
    let id = request.device_id.map(|id| id.to_string());
    seen.lock().unwrap().calls.push((path, id.clone(), Instant::now()));
    let known = DeviceId::new("1000abcdef").unwrap();
    let mut result = match &request.call {
        DiyCall::Info => Ok(DiyInfo {
            ota_unlock: Some(!*locked.lock().unwrap()),
            device_id: habits.tells_id.then_some(known),
            ssid: Some("home\u{1b}[31m".to_owned()),
            ..DiyInfo::default()
        }),
        DiyCall::OtaUnlock => match habits.unlock {
            Some(error) => Err(error),
            None => {
                *locked.lock().unwrap() = false;
                Ok(DiyInfo::default())
            }
        },
        DiyCall::OtaFlash(_) if *locked.lock().unwrap() => Err(DiyError::Locked),
        DiyCall::OtaFlash(image) => {
            seen.lock().unwrap().wanted = image.sha256sum().to_owned();
            match habits.flash {
                Flash::Fails(error, ranges) => {
                    download(image.download_url(), ranges, seen);
                    Err(error)
                }
                _ => Ok(DiyInfo::default()),
            }
        }
        other => panic!("{other:?}"),
    };
    if id.is_some_and(|id| id != "1000abcdef") {
        result = Err(DiyError::NotFound);
    }
    let ok = result.is_ok();
    let mut bytes = DiyAnswer { seq: Some(2), result }.to_http().unwrap();
    if habits.data_as_text {
        let (head, start) = ResponseHead::parse(&bytes).unwrap().unwrap();
        assert_eq!(head.status, 200);
        let mut value: Value = serde_json::from_slice(&bytes[start..]).unwrap();
        value["data"] = json!(value["data"].to_string());
        let json = value.to_string();
        bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{json}", json.len()).into_bytes();
    }
    if let (Flash::Says(words, _), DiyCall::OtaFlash(_)) = (habits.flash, &request.call) {
        bytes = words.as_bytes().to_vec();
    }
    socket.write_all(&bytes).unwrap();
    drop(socket);
    let DiyCall::OtaFlash(image) = request.call else { return };
    if !ok {
        return;
    }
    let (ranges, report) = match habits.flash {
        Flash::Reports(report) => (u32::MAX, Some(report)),
        Flash::Claims(ranges) => (ranges, Some(DiyReport::Done)),
        Flash::Says(_, ranges) => (ranges, (ranges > 0).then_some(DiyReport::Done)),
        Flash::Ignores => {
            ask_and_leave(image.download_url());
            (0, Some(DiyReport::Done))
        }
        Flash::Fails(..) => (u32::MAX, None),
    };
    let server = download(image.download_url(), ranges, seen);
    if let Some(report) = report {
        let mut socket = TcpStream::connect(server).unwrap();
        let json = report.to_json();
        let head = format!(
            "POST /api/device/otaFlash HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            json.len()
        );
        socket.write_all(format!("{head}{json}").as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

/// The system takes the image, and nobody reads it.
fn ask_and_leave(url: &str) {
    let parts = UrlParts::new(url).unwrap();
    let mut socket = TcpStream::connect((parts.host, parts.port)).unwrap();
    socket.write_all(format!("GET {} HTTP/1.0\r\n\r\n", parts.path).as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(500));
    drop(socket);
    thread::sleep(Duration::from_millis(500));
}

/// Gets the image over one connection, 4096 bytes at a time; gives the server's address.
fn download(url: &str, ranges: u32, seen: &Mutex<Seen>) -> (String, u16) {
    let parts = UrlParts::new(url).unwrap();
    let server = (parts.host.to_owned(), parts.port);
    if ranges == 0 {
        return server;
    }
    let mut socket = TcpStream::connect(&server).unwrap();
    let (mut at, mut image) = (0, Vec::new());
    for _ in 0..ranges {
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: dl.itead.cn\r\nRange: bytes={at}-{}\r\n\r\n",
            parts.path,
            at + 4095
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut received = Vec::new();
        let (head, start, length) = loop {
            let mut buffer = [0; 5120];
            let count = socket.read(&mut buffer).unwrap();
            assert_ne!(count, 0);
            received.extend_from_slice(&buffer[..count]);
            if let Some((head, start)) = ResponseHead::parse(&received).unwrap() {
                let length = head.content_length().unwrap().unwrap();
                if received.len() >= start + length {
                    break (head, start, length);
                }
            }
        };
        assert_eq!(head.status, 206);
        let total: usize = head.header("Content-Range").unwrap().split('/').nth(1).unwrap().parse().unwrap();
        image.extend_from_slice(&received[start..start + length]);
        at += 4096;
        if image.len() == total {
            break;
        }
    }
    seen.lock().unwrap().image = image;
    server
}

fn diy(arguments: &[&str]) -> Output {
    spark(&["diy"]).args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn device_tells_of_itself() {
    for data_as_text in [false, true] {
        let double = Double::new(Habits { data_as_text, ..NEW });
        let output = diy(&["info", &double.address, "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&told["device_id"], &told["ota_unlock"]), (&json!("1000abcdef"), &json!(true)));
        let text = String::from_utf8(diy(&["info", &double.address]).stdout).unwrap();
        assert!(text.contains("unlocked") && text.contains("1000abcdef"), "{text}");
        // No terminal obeys the name of a network.
        assert!(text.contains(r"home\u{1b}[31m") && !text.contains('\u{1b}'), "{text}");
    }
}

/// Names and values of a TXT record.
type Texts<'a> = &'a [(&'a str, &'a str)];

/// Announces devices on the loopback interface only, never in a real network.
fn announce(devices: &[(&str, u16, Texts<'_>)]) -> ServiceDaemon {
    let daemon = ServiceDaemon::new().unwrap();
    daemon.disable_interface(IfKind::All).unwrap();
    daemon.enable_interface(IfKind::LoopbackV4).unwrap();
    for (id, port, texts) in devices {
        let (name, host) = (format!("eWeLink_{id}"), format!("eWeLink_{id}.local."));
        let service = ServiceInfo::new(SERVICE, &name, &host, "127.0.0.1", *port, *texts).unwrap();
        daemon.register(service).unwrap();
    }
    daemon
}

#[test]
fn devices_are_found_by_what_they_announce() {
    let find = |seconds: &str, more: &[&str]| {
        diy(&[&["find", "--interface", "127.0.0.1", "--timeout", seconds], more].concat())
    };
    let none = find("1", &[]);
    assert_eq!((none.status.code(), none.stdout.len()), (Some(69), 0), "{}", stderr(&none));
    for word in ["multicast", "DIY mode", "jumper", "in this network"] {
        assert!(stderr(&none).contains(word), "{word}: {}", stderr(&none));
    }

    let diy_plug = [
        ("txtvers", "1"),
        ("id", "1000abcdef"),
        ("type", "diy_plug"),
        ("data1", r#"{"switch":"on","otaUnl"#),
        ("data2", r#"ock":true}"#),
    ];
    let lan =
        [("id", "1000000001"), ("type", "plug"), ("encrypt", "true"), ("iv", "aXY="), ("data1", "c2VjcmV0")];
    // As a newer device announces itself; and one with an id that no terminal should get.
    let untold = [("id", "1000000002"), ("type", "diy_plug"), ("data1", r#"{"switch":"on","rssi":-40}"#)];
    let odd = [("id", "\u{1b}[31m"), ("type", "\u{1b}[31m")];
    let daemon = announce(&[
        ("1000abcdef", 8081, &diy_plug),
        ("1000000001", 8081, &lan),
        ("1000000002", 18081, &untold),
        ("1000000003", 8081, &odd),
    ]);
    let output = find("8", &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let told: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let device = |id: &str, port: u16, kind: Option<&str>, mode: &str, ota_unlock: Option<bool>| {
        let address = format!("127.0.0.1:{port}");
        json!({ "device_id": id, "address": address, "type": kind, "mode": mode, "ota_unlock": ota_unlock })
    };
    let expected = [
        device("1000000001", 8081, Some("plug"), "lan", None),
        device("1000000002", 18081, Some("diy_plug"), "diy", None),
        device("1000000003", 8081, None, "unknown", None),
        device("1000abcdef", 8081, Some("diy_plug"), "diy", Some(true)),
    ];
    assert_eq!(told, expected);

    let output = find("8", &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let wanted = ["LAN mode, encrypted", "diy info 127.0.0.1:18081", "mode not told", "updates unlocked"];
    assert_eq!(lines.len(), wanted.len(), "{text}");
    for (line, wanted) in lines.iter().zip(wanted) {
        assert!(line.contains(wanted) && line.starts_with("1000"), "{wanted}: {line}");
    }
    assert!(!text.contains('\u{1b}') && !text.contains("c2VjcmV0"), "{text}");
    daemon.shutdown().unwrap();

    let output = diy(&["find", "--interface", "203.0.113.1"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("203.0.113.1") && stderr(&output).contains("127.0.0.1"));
}

#[test]
fn id_is_learnt_or_given_and_never_empty() {
    let double = Double::new(Habits { locked: true, ..NEW });
    assert_eq!(diy(&["unlock", &double.address]).status.code(), Some(0));
    let ids: Vec<_> = double.seen.lock().unwrap().calls.iter().map(|(_, id, _)| id.clone()).collect();
    assert_eq!(ids, [None, Some("1000abcdef".to_owned())]);
    let double = Double::new(Habits { locked: true, tells_id: false, ..NEW });
    assert_eq!(diy(&["unlock", &double.address]).status.code(), Some(0));
    assert!(double.seen.lock().unwrap().calls.iter().all(|(_, id, _)| id.is_none()));
    let output = diy(&["info", &double.address, "--id", "1000000000"]);
    assert_eq!(output.status.code(), Some(76));
    assert!(stderr(&output).contains("another deviceid") && stderr(&output).contains("--id"));
}

#[test]
fn unlocking_is_not_asked_for_twice_and_its_failures_have_words() {
    let double = Double::new(NEW);
    let output = diy(&["unlock", &double.address, "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["unlocked"], &told["was_unlocked"]), (&json!(true), &json!(true)));
    assert_eq!(double.paths(), ["/zeroconf/info"]);
    for (error, words) in [
        (DiyError::UnlockRefused, "vendor's app"),
        (DiyError::VendorUnreachable, "the internet"),
        (DiyError::NotDiy, "DIY mode"),
    ] {
        let double = Double::new(Habits { locked: true, unlock: Some(error), ..NEW });
        let output = diy(&["unlock", &double.address]);
        assert_eq!(output.status.code(), Some(76));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
}

#[test]
fn image_is_sent_checked_and_confirmed() {
    let file = vector("image_arduino.bin");
    let content = std::fs::read(&file).unwrap();
    let double = Double::new(NEW);
    let output = diy(&["flash", &double.address, &file, "--port", "0", "--json"]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["served"], &told["confirmed"]), (&json!(true), &json!(true)));
    let seen = double.seen.lock().unwrap();
    assert!(seen.image == content);
    assert_eq!(seen.wanted, hex::encode(Sha256::digest(&content)));
    let [(_, _, first), (_, _, second)] = &seen.calls[..] else { panic!("{:?}", seen.calls) };
    assert!(second.duration_since(*first) >= Duration::from_millis(195), "calls are paced");
}

#[test]
fn report_of_a_device_decides() {
    let file = vector("image_arduino.bin");
    for (report, words) in [
        (DiyReport::Download, "the download failed (404)"),
        (DiyReport::Digest, "do not power-cycle"),
        (DiyReport::Request, "the request was wrong (406)"),
        (DiyReport::Internal, "the device failed (410)"),
    ] {
        let double = Double::new(Habits { flash: Flash::Reports(report), ..NEW });
        let output = diy(&["flash", &double.address, &file, "--port", "0"]);
        assert_eq!(output.status.code(), Some(76));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
}

#[test]
fn download_that_fails_says_how_far_it_came() {
    let file = vector("image_arduino.bin");
    for (error, ranges, words) in [
        (DiyError::NotDownloadable, 0, "it never asked for http://127.0.0.1:"),
        (DiyError::Timeout, 3, "it asked 3 times and got 12288 bytes"),
        (DiyError::Digest, 100, "do not power-cycle"),
        (DiyError::TooLarge, 1, "smaller image"),
    ] {
        let double = Double::new(Habits { flash: Flash::Fails(error, ranges), ..NEW });
        let output = diy(&["flash", &double.address, &file, "--port", "0"]);
        assert_eq!(output.status.code(), Some(76));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
}

#[test]
fn nothing_is_sent_for_what_a_device_would_not_take() {
    let double = Double::new(NEW);
    let folder = tempfile::tempdir().unwrap();
    let mut qio = std::fs::read(vector("image_arduino.bin")).unwrap();
    qio[2] = 0;
    let mut damaged = std::fs::read(vector("image_arduino.bin")).unwrap();
    damaged[5000] ^= 1;
    let long = vec![0; 17 << 20];
    for (name, content, words) in [
        ("qio.bin", qio, "flash mode"),
        ("damaged.bin", damaged, "checksum"),
        ("v2.bin", std::fs::read(vector("image_user2-0x81000.bin")).unwrap(), "v1"),
        ("text.bin", b"no image".to_vec(), "text.bin"),
        ("long.bin", long, "more than"),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let output = diy(&["flash", &double.address, path.to_str().unwrap(), "--port", "0"]);
        assert_eq!(output.status.code(), Some(65), "{name}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{name}: {}", stderr(&output));
    }
    assert!(double.paths().is_empty());
    // Locked: it is told before anything is offered.
    let double = Double::new(Habits { locked: true, ..NEW });
    let output = diy(&["flash", &double.address, &vector("image_arduino.bin"), "--port", "0"]);
    assert_eq!(output.status.code(), Some(76));
    assert!(stderr(&output).contains("spark sonoff diy unlock"), "{}", stderr(&output));
    assert_eq!(double.paths(), ["/zeroconf/info"]);
}

#[test]
fn what_is_no_device_is_told() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = diy(&["info", &free]);
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert_eq!(diy(&["info", "host:0"]).status.code(), Some(64));
    for (said, code) in [
        (&b"SSH-2.0-x\r\n\r\n"[..], 76),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", 76),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{", 76),
        (b"", 69),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answers = thread::spawn(move || {
            // The first one is only looked at.
            drop(listener.accept().unwrap());
            let (mut socket, _) = listener.accept().unwrap();
            let mut buffer = [0; 1024];
            assert_ne!(socket.read(&mut buffer).unwrap(), 0);
            socket.write_all(said).unwrap();
        });
        let output = diy(&["info", &address]);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        answers.join().unwrap();
    }
}

#[test]
fn device_that_is_content_without_the_image_is_not_believed() {
    let file = vector("image_arduino.bin");
    for (ranges, code, words) in [
        (0, 69, "of which 0 bytes of 106528 were sent; it never asked for http://127.0.0.1:"),
        (3, 76, "of which 12288 bytes of 106528 were sent; it asked 3 times"),
        (26, 76, "of which 106496 bytes of 106528 were sent"),
    ] {
        for options in [&["--json"][..], &[]] {
            let double = Double::new(Habits { flash: Flash::Claims(ranges), ..NEW });
            let output = diy(&[&["flash", &double.address, &file, "--port", "0"], options].concat());
            assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
            assert!(stderr(&output).contains(words), "{}", stderr(&output));
            assert!(!stderr(&output).contains("firewall") && output.stdout.is_empty());
        }
    }
}

/// After it was told to get the image only what it does counts: an image server that goes away leaves it with half of one.
#[test]
fn device_whose_answer_is_odd_or_lost_gets_its_image() {
    let file = vector("image_arduino.bin");
    for words in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\n{\"seq\":1,\"error\":0,\"data\":\"ok\"}",
        "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"seq\":1,",
        "what?",
    ] {
        let double = Double::new(Habits { flash: Flash::Says(words, u32::MAX), ..NEW });
        let output = diy(&["flash", &double.address, &file, "--port", "0"]);
        assert!(output.status.success(), "{words}: {}", stderr(&output));
        assert_eq!(double.seen.lock().unwrap().image, std::fs::read(&file).unwrap());
    }
    // One that was not told after all never begins.
    let double = Double::new(Habits { flash: Flash::Says("", 0), ..NEW });
    let output = diy(&["flash", &double.address, &file, "--port", "0"]);
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert!(stderr(&output).contains("closes without an answer; waiting whether"), "{}", stderr(&output));
}

/// What the system has taken for a device is not what the device has got.
#[test]
fn image_that_nobody_reads_is_not_written() {
    let double = Double::new(Habits { flash: Flash::Ignores, ..NEW });
    let output = diy(&["flash", &double.address, &vector("image_arduino.bin"), "--port", "0"]);
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert!(stderr(&output).contains("of which 0 bytes of 106528 were sent; it asked 1 times"));
}

#[test]
fn firewall_is_suspected_only_where_it_may_be_one() {
    let file = vector("image_arduino.bin");
    for (error, suspected) in [
        (DiyError::NotDownloadable, true),
        (DiyError::Timeout, true),
        (DiyError::TooLarge, false),
        (DiyError::Other(999), false),
        (DiyError::Parameters, false),
    ] {
        let double = Double::new(Habits { flash: Flash::Fails(error, 0), ..NEW });
        let output = diy(&["flash", &double.address, &file, "--port", "0"]);
        assert_eq!(output.status.code(), Some(76));
        let said = stderr(&output);
        assert!(said.contains("it never asked for") && said.contains("firewall") == suspected, "{said}");
    }
}

#[test]
fn what_is_no_address_of_a_device_is_a_matter_of_usage() {
    for place in ["http://127.0.0.1:8081", "http://127.0.0.1", "::1", "[::1]:8081", "a b", "127.0.0.1/", ""] {
        let output = diy(&["info", place]);
        assert_eq!(output.status.code(), Some(64), "{place}: {}", stderr(&output));
        assert!(stderr(&output).contains("no address of a device"), "{}", stderr(&output));
    }
}
