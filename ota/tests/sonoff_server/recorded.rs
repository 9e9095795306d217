//! What a device has said to other servers, said to this one.

use super::client::{Bench, Sent, id, messages};
use serde_json::Value;
use sha2::{Digest, Sha256};
use spark_ota::esp8266::Slot;
use spark_ota::sonoff::server::{Config, ConnectionId, Event, Failure, Files, Policy, Role, Stage};
use spark_ota::sonoff::upgrade::{Candidate, Offer};

fn file(path: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/vectors/sonoff/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn records(name: &str) -> Vec<Value> {
    let session: Value = serde_json::from_slice(&file(&format!("sessions/{name}.json"))).unwrap();
    session["records"].as_array().unwrap().clone()
}

fn text<'a>(record: &'a Value, name: &str) -> &'a str {
    record[name].as_str().unwrap_or_else(|| panic!("{name} in {record}"))
}

const IMAGES: [&str; 2] = ["image_user1-0x01000.bin", "image_user2-0x81000.bin"];

struct Replay {
    bench: Bench,
    images: Vec<Vec<u8>>,
    /// Path of the images in the recording.
    folder: &'static str,
    socket: Option<ConnectionId>,
    offered: bool,
    upgrades: Vec<Value>,
    downloads: usize,
}

impl Replay {
    /// A server that gives its requests the recorded numbers: they are the time of day.
    fn new(folder: &'static str, policy: Policy, first_sequence: u64) -> Self {
        let mut files = Files::new();
        let images: Vec<_> = IMAGES.iter().map(|name| file(&format!("images/{name}"))).collect();
        for ((slot, name), image) in Slot::ALL.into_iter().zip(IMAGES).zip(&images) {
            let length = u32::try_from(image.len()).unwrap();
            files.add(&format!("{folder}/{name}"), Role::Upgrade(slot), length).unwrap();
        }
        let config = Config { policy, check_sign: true, ..Config::default() };
        let bench = Bench::with_files(config, files, first_sequence);
        Self { bench, images, folder, socket: None, offered: false, upgrades: Vec::new(), downloads: 0 }
    }

    fn offer(&mut self) {
        let candidates = Slot::ALL.into_iter().zip(IMAGES).zip(&self.images).map(|((slot, name), image)| {
            Candidate::of(slot, format!("http://192.168.77.10:8080{}/{name}", self.folder), image)
        });
        let offer = Offer {
            version: "23.42.5".into(),
            auto_restart: None,
            ..Offer::new("ITA-GZ1-GL", candidates.collect())
        };
        self.bench.service.offer(self.bench.now, &id(), &offer).unwrap();
    }

    /// Says what was recorded, and compares what is said back.
    fn follow(&mut self, records: &[Value]) {
        let mut expected: Vec<Value> = Vec::new();
        let mut said: Vec<Value> = Vec::new();
        let mut is_asked = false;
        for record in records {
            match text(record, "step") {
                "dispatch" => {
                    if let Some(socket) = self.socket.take() {
                        self.bench.service.closed(self.bench.now, socket, true);
                    }
                    let (status, sent) = self.bench.ask(text(record, "device_request_text"));
                    assert_eq!(status, 200);
                    let Sent::Bytes(bytes) = &sent[0] else { panic!() };
                    let answer = String::from_utf8(bytes.clone()).unwrap();
                    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
                    let recorded: Value = serde_json::from_str(text(record, "server_response_body")).unwrap();
                    assert_eq!((&body["error"], &body["IP"]), (&recorded["error"], &recorded["IP"]));
                    assert!(body["port"].is_u64());
                }
                "ws_open" => {
                    let key = records.iter().find_map(|record| {
                        record["json"]["config"]
                            .is_object()
                            .then(|| text(&record["json"], "apikey").to_owned())
                    });
                    let key = key.unwrap_or_else(|| "111111111-1111-1111-1111-11111111111".to_owned());
                    let socket = self.bench.connect_from([192, 168, 77, 20], &key);
                    let sent = self.bench.input(socket, &spark_ota::sonoff::handshake::request());
                    let Sent::Bytes(answer) = &sent[0] else { panic!() };
                    let accept = ": q1/L5gx6qdQ7y3UWgO/Tah/zXBA=\r\n";
                    assert!(text(record, "server_response_head").contains(accept));
                    assert!(String::from_utf8_lossy(answer).contains(accept));
                    self.socket = Some(socket);
                }
                "ws_tx" => {
                    let socket = self.socket.unwrap();
                    is_asked = record["json"]["action"].is_string();
                    let sent = self.bench.input(socket, &hex::decode(text(record, "frame_hex")).unwrap());
                    said.extend(messages(&sent));
                    if self.bench.service.session(&id()).unwrap().is_ready() && !self.offered {
                        self.offered = true;
                        self.offer();
                        said.extend(messages(&self.bench.drain(socket)));
                    }
                }
                // The relays are left in peace, and an acknowledgement is not answered.
                "ws_rx" if record["opcode"] == 1 && record["json"].get("action").is_none() && is_asked => {
                    expected.push(record["json"].clone());
                }
                "get" | "slow_get" if text(record, "device_request_text").starts_with("GET ") => {
                    self.download(record)
                }
                _ => {}
            }
        }
        self.compare(&expected, said);
    }

    fn compare(&mut self, expected: &[Value], said: Vec<Value>) {
        let (upgrades, said): (Vec<_>, Vec<_>) =
            said.into_iter().partition(|said| said["action"] == "upgrade");
        self.upgrades.extend(upgrades);
        assert_eq!(said.len(), expected.len(), "{said:#?} for {expected:#?}");
        for (said, recorded) in said.iter().zip(expected) {
            let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            let common = names(recorded);
            assert!(common.iter().all(|name| said.get(name).is_some()), "{said} for {recorded}");
            for name in ["error", "deviceid"] {
                assert_eq!(said[name], recorded[name], "{said} for {recorded}");
            }
        }
    }

    fn download(&mut self, record: &Value) {
        let connection = self.bench.connect();
        let mut sent = self.bench.input(connection, text(record, "device_request_text").as_bytes());
        let seconds = record["total_s"].as_f64().unwrap_or_default();
        sent.extend(self.bench.pass(connection, core::time::Duration::from_secs_f64(seconds + 1.0)));
        let mut body = Vec::new();
        for sent in &sent {
            if let Sent::File(file, range) = sent {
                body.extend_from_slice(&self.images[file.index()][range.start as usize..range.end as usize]);
            }
        }
        let recorded = text(record, "server_response_head");
        if recorded.starts_with("HTTP/1.1 206") || record["digest_ok"] == true {
            let digest = hex::encode(Sha256::digest(&body));
            assert_eq!(digest, text(record, "body_sha256"));
            let Sent::Bytes(head) = &sent[0] else { panic!() };
            let head = String::from_utf8(head.clone()).unwrap();
            assert_eq!(head.lines().next(), recorded.lines().next());
            for name in ["Content-Length: ", "Content-Range: "] {
                let line = |head: &str| head.lines().find(|line| line.starts_with(name)).map(str::to_owned);
                assert_eq!(line(&head), line(recorded));
            }
        }
        self.downloads += 1;
    }

    fn stage(&self) -> Stage {
        self.bench.service.session(&id()).unwrap().stage().unwrap().clone()
    }
}

/// The recorded upgrade, with its number.
fn upgrade(records: &[Value]) -> (Value, u64) {
    let found = records.iter().find(|record| record["json"]["action"] == "upgrade").unwrap();
    let message = found["json"].clone();
    let sequence = text(&message, "sequence").parse().unwrap();
    (message, sequence)
}

fn same_upgrade(ours: &Value, recorded: &Value) {
    for name in ["action", "deviceid", "apikey", "userAgent", "sequence", "ts"] {
        assert_eq!(ours[name], recorded[name], "{name}");
    }
    for name in ["model", "version", "binList"] {
        assert_eq!(ours["params"][name], recorded["params"][name], "{name}");
    }
}

#[test]
fn device_with_ranges_is_upgraded() {
    let mut records = records("session_range");
    let end = records.iter().position(|record| record["step"] == "digest").unwrap() + 2;
    records.truncate(end);
    let (recorded, sequence) = upgrade(&records);
    let mut replay = Replay::new("/ota", Policy::ONCE, sequence);
    replay.follow(&records);
    assert_eq!((replay.downloads, replay.upgrades.len()), (26, 1));
    same_upgrade(&replay.upgrades[0], &recorded);
    assert_eq!(replay.stage(), Stage::Installed { version: None });
}

#[test]
fn old_device_is_upgraded_by_what_it_says_to_a_slow_server() {
    let records = records("session_slowstream");
    let (recorded, sequence) = upgrade(&records);
    let mut replay = Replay::new("/slowota", Policy::ONCE, sequence);
    replay.follow(&records);
    same_upgrade(&replay.upgrades[0], &recorded);
    assert_eq!((replay.downloads, replay.stage()), (1, Stage::Installed { version: None }));
}

#[test]
fn old_device_that_is_overrun_is_offered_it_again_on_the_same_socket() {
    let records = records("session_404_then_slow");
    let second = records.iter().rposition(|record| record["step"] == "dispatch").unwrap();
    let (_, sequence) = upgrade(&records);
    let mut replay =
        Replay::new("/ota", Policy { attempts: 1, full_speed_first: true, ..Policy::ONCE }, sequence);
    replay.follow(&records[..second]);
    let events = replay.bench.events();
    assert!(events.contains(&Event::Retry { failure: Failure::Overrun }), "{events:?}");
    assert_eq!(replay.upgrades.len(), 2);
    assert_ne!(replay.upgrades[0]["sequence"], replay.upgrades[1]["sequence"]);
    assert_eq!(replay.stage(), Stage::Offered);
}

#[test]
fn old_device_that_comes_again_is_served_slowly() {
    let records = records("session_404_then_slow");
    let second = records.iter().rposition(|record| record["step"] == "dispatch").unwrap();
    let (recorded, sequence) = upgrade(&records[second..]);
    // Its second life alone: SonOTA knows from the first that it has to be slow.
    let mut replay = Replay::new("/slowota", Policy::ONCE, sequence);
    replay.follow(&records[second..]);
    same_upgrade(&replay.upgrades[0], &recorded);
    assert_eq!((replay.downloads, replay.stage()), (1, Stage::Installed { version: None }));
}

#[test]
fn recorded_requests_of_the_final_stage_are_answered_with_the_whole_file() {
    let records = records("session_range");
    let image = file("images/image_arduino.bin");
    let mut files = Files::new();
    let role = Role::FinalImage;
    files.add(role.final_path().unwrap(), role, u32::try_from(image.len()).unwrap()).unwrap();
    let mut bench = Bench::with_files(Config::default(), files, 0);
    let found: Vec<_> = records.iter().filter(|record| record["step"] == "final_get").collect();
    assert!(!found.is_empty());
    for record in found {
        let (status, sent) = bench.ask(text(record, "device_request_text"));
        let recorded = text(record, "server_response_head");
        assert!(recorded.starts_with("HTTP/1.1 200 OK"));
        let Sent::Bytes(head) = &sent[0] else { panic!() };
        let length = format!("\r\nContent-Length: {}\r\n", image.len());
        assert!(recorded.contains(&length) && String::from_utf8_lossy(head).contains(&length));
        let mut place = 0;
        for sent in &sent[1..sent.len() - 1] {
            let Sent::File(_, range) = sent else { panic!("{sent:?}") };
            assert_eq!(core::mem::replace(&mut place, range.end), range.start);
        }
        assert_eq!(usize::try_from(place).unwrap(), image.len());
        assert_eq!(sent.last(), Some(&Sent::Finish));
        assert_eq!(status, 200);
    }
}

#[test]
fn device_that_talks_to_a_cloud_substitute_gets_the_same_answers() {
    let records = records("session_simple_sonoff_server");
    let mut replay = Replay::new("/ota", Policy::ONCE, 1_795_232_913_130);
    replay.follow(&records);
    assert_eq!(replay.upgrades.len(), 1);
}
