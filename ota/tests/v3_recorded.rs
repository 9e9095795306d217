//! Recorded v3 transfers of device-os 6.2.0, replayed through our receiver and our sender.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

use coap_spark::coap::{Message, ParseOptions};
use core::cell::RefCell;
use core::time::Duration;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use spark_ota::coap::Ids;
use spark_ota::coap::v3::{Download, FromDevice, FromServer, Handled, Target, Upload};
use spark_ota::v3::{Failure, Finish, Options, Plan, Rejection, Start};

const NAMES: [&str; 6] =
    ["v3-ok", "v3-gap-and-duplicate", "v3-delayed-ack", "v3-resume", "v3-errors", "v3-cancel"];

fn load(name: &str) -> Value {
    let path = format!("{}/tests/vectors/v3/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn parse(coap: &[u8]) -> Message<'_> {
    Message::parse(coap, ParseOptions::STRICT).unwrap()
}

/// What the device did, in the words of the recording.
struct Recorder<'l> {
    log: &'l RefCell<Vec<Value>>,
    there: u32,
    image: Vec<u8>,
}

impl Target for Recorder<'_> {
    fn begin(&mut self, start: &Start) -> Result<u32, Rejection> {
        let there = if start.sha256.is_some() { self.there } else { 0 };
        self.log.borrow_mut().push(json!({ "start": {
            "file_size": start.file_size, "sha256": start.sha256.map(hex::encode).unwrap_or_default(),
            "flags": u8::from(start.discard) | u8::from(start.sha256.is_none()) << 1,
            "module_function": start.module_function.map_or(-1, i32::from), "result": 0, "resume_at": there,
        } }));
        Ok(there)
    }

    fn save(&mut self, offset: u32, data: &[u8]) -> bool {
        let start = usize::try_from(offset).unwrap();
        if self.image.len() < start + data.len() {
            self.image.resize(start + data.len(), 0);
        }
        self.image[start..start + data.len()].copy_from_slice(data);
        let saved = json!({ "offset": offset, "size": data.len(), "data": hex::encode(data) });
        self.log.borrow_mut().push(json!({ "save": saved }));
        true
    }

    fn validate(&mut self, _: &Plan) -> Result<(), Rejection> {
        self.log.borrow_mut().push(json!({ "finish": { "flags": 4, "result": 0 } }));
        Ok(())
    }

    fn apply(&mut self, _: &Plan) {
        self.log.borrow_mut().push(json!({ "finish": { "flags": 0, "result": 0 } }));
    }

    fn cancel(&mut self, discard: bool) {
        self.log.borrow_mut().push(json!({ "finish": { "flags": 8 | u8::from(discard), "result": 0 } }));
    }
}

#[test]
fn receiver_does_and_says_what_the_firmware_did_and_said() {
    for name in NAMES {
        let recorded = load(name);
        let log = RefCell::new(Vec::new());
        let mut target = Recorder { log: &log, there: 0, image: Vec::new() };
        let mut download = Download::new(1136, 1 << 20);
        let mut ids = Ids { id: 0x0201, token: 0 };
        let mut now = Duration::from_secs(1);
        let entries = recorded["log"].as_array().unwrap();
        let mut compared = 0;
        for (at, entry) in entries.iter().enumerate() {
            let mut send = |coap: &[u8]| log.borrow_mut().push(json!({ "hex": hex::encode(coap) }));
            match entry["from"].as_str().unwrap() {
                "fixture" => {
                    let command = entry["cmd"].as_str().unwrap();
                    target.there = command.strip_prefix("resume ").unwrap().parse().unwrap();
                    let there = usize::try_from(target.there).unwrap();
                    target.image = bytes(&recorded["image_hex"])[..there].to_vec();
                }
                "clock" => {
                    now += Duration::from_millis(entry["advance_ms"].as_u64().unwrap());
                    download.handle_deadline(now, &mut ids, &mut target, &mut send).unwrap();
                }
                "server" => {
                    let coap = bytes(&entry["hex"]);
                    let result =
                        download.handle_message(now, &parse(&coap), &mut ids, &mut target, &mut send);
                    assert!(result.unwrap(), "{name}, entry {at}");
                }
                _ => continue,
            }
            let next = entries[at + 1..].iter();
            let theirs: Vec<Value> = next
                .take_while(|entry| !matches!(entry["from"].as_str(), Some("server" | "clock" | "fixture")))
                .filter(|entry| entry["from"] != "device-state")
                .map(|entry| {
                    let mut entry = entry.as_object().unwrap().clone();
                    entry.retain(|key, _| ["hex", "start", "save", "finish"].contains(&key.as_str()));
                    if let Some(save) = entry.get_mut("save") {
                        save.as_object_mut().unwrap().remove("contiguous");
                    }
                    entry.into()
                })
                .collect();
            assert_eq!(core::mem::take(&mut *log.borrow_mut()), theirs, "{name}, entry {at}: {entry}");
            compared += theirs.len();
        }
        assert!(compared >= 5, "{name}");
        if !matches!(name, "v3-errors" | "v3-cancel") {
            assert_eq!(target.image, bytes(&recorded["image_hex"]), "{name}");
        }
    }
}

/// Every message of both ends reads and writes the same.
#[test]
fn recorded_messages_read_and_write_the_same() {
    let mut count = 0;
    for name in NAMES {
        for entry in load(name)["log"].as_array().unwrap() {
            let Some(coap) = entry.get("hex").map(bytes) else { continue };
            let message = parse(&coap);
            let mut out = [0; 1200];
            let written = if entry["from"] == "server" {
                let Some(body) = FromServer::decode(&message).unwrap() else { continue };
                body.encode_into(message.id(), message.token(), &mut out).unwrap()
            } else {
                let Some(body) = FromDevice::decode(&message).unwrap() else { continue };
                body.encode_into(message.kind(), message.id(), message.token(), &mut out).unwrap()
            };
            assert_eq!(written, coap, "{name}: {}", hex::encode(&coap));
            count += 1;
        }
    }
    assert!(count > 60, "{count}");
}

/// The server's side: given the recorded answers, it sends what they answer.
fn sends(name: &str) -> (Vec<String>, Vec<String>, Option<Result<(), Failure>>) {
    let recorded = load(name);
    let image = bytes(&recorded["image_hex"]);
    let options = Options {
        resumable: name != "v3-cancel",
        module_function: (name == "v3-cancel").then_some(5),
        ..Options::DEFAULT
    };
    let mut upload = Upload::new(&image, options).unwrap();
    let mut ids = Ids { id: 1, token: 0x31 };
    let (mut ours, mut theirs, mut out) = (Vec::new(), Vec::new(), [0; 1200]);
    // Everything that is due goes out before the next answer comes.
    for entry in recorded["log"].as_array().unwrap() {
        while let Some(coap) = upload.poll_send(Duration::ZERO, &mut ids, &mut out).unwrap() {
            ours.push(hex::encode(coap));
        }
        match entry["from"].as_str().unwrap() {
            "server" => theirs.push(entry["hex"].as_str().unwrap().to_owned()),
            "device" => {
                let coap = bytes(&entry["hex"]);
                if let Handled::Acknowledge(id) = upload.handle_message(Duration::ZERO, &parse(&coap)) {
                    // The recorded server acknowledges the last answer only.
                    if upload.outcome() == Some(Ok(())) {
                        ours.push(format!("6000{id:04x}"));
                    }
                }
            }
            _ => {}
        }
    }
    (ours, theirs, upload.outcome())
}

#[test]
fn sender_sends_what_was_recorded() {
    for name in ["v3-ok", "v3-delayed-ack", "v3-resume"] {
        let (ours, theirs, outcome) = sends(name);
        assert_eq!(outcome, Some(Ok(())), "{name}");
        // Message ids are given in another order.
        let tail = |list: &[String]| -> Vec<String> {
            list.iter()
                .map(|coap| if coap.starts_with("6000") { coap.clone() } else { coap[8..].to_owned() })
                .collect()
        };
        assert_eq!(tail(&ours), tail(&theirs), "{name}");
    }
}

/// The recorded server sends 2 and 4 late, and 5 twice. Ours sends in order, hears that what it sent later is there, and
/// sends those two again.
#[test]
fn sender_understands_bitmaps() {
    let (ours, theirs, outcome) = sends("v3-gap-and-duplicate");
    assert_eq!(outcome, Some(Ok(())));
    let chunks = |list: &[String]| list.iter().filter(|coap| coap[8..].starts_with("b143")).count();
    assert_eq!((chunks(&theirs), chunks(&ours)), (7, 8));
    let sent =
        |end: &str| ours.iter().filter(|coap| coap[8..].starts_with(&format!("b143e106e9{end}ff"))).count();
    assert_eq!(["01", "02", "03", "04", "05", "06"].map(sent), [1, 2, 1, 2, 1, 1]);
}

#[test]
fn start_of_an_image_carries_its_hash() {
    let mut count = 0;
    for name in NAMES {
        let recorded = load(name);
        let sha256: [u8; 32] = Sha256::digest(bytes(&recorded["image_hex"])).into();
        for entry in recorded["log"].as_array().unwrap().iter().filter(|entry| entry["from"] == "server") {
            let coap = bytes(&entry["hex"]);
            let Ok(Some(FromServer::Start(start))) = FromServer::decode(&parse(&coap)) else { continue };
            assert!(start.sha256.is_none_or(|found| found == sha256), "{name}");
            count += usize::from(start.sha256.is_some());
        }
    }
    assert!(count >= 4);
}

#[test]
fn cancelled_transfer_is_told_to_the_device() {
    let image = vec![7; 1024];
    let options = Options { resumable: false, module_function: Some(5), ..Options::DEFAULT };
    let mut upload = Upload::new(&image, options).unwrap();
    let (mut ids, mut out) = (Ids { id: 1, token: 0x31 }, [0; 1200]);
    upload.poll_send(Duration::ZERO, &mut ids, &mut out).unwrap().unwrap();
    let answer = hex::decode("4141020131e206f8010040").unwrap();
    assert_eq!(upload.handle_message(Duration::ZERO, &parse(&answer)), Handled::Acknowledge(0x201));
    upload.poll_send(Duration::ZERO, &mut ids, &mut out).unwrap().unwrap();
    upload.cancel(true);
    let finish = upload.poll_send(Duration::ZERO, &mut ids, &mut out).unwrap().unwrap();
    assert_eq!(hex::encode(finish), "4102000332b146e006fd40");
    let body = FromServer::decode(&parse(finish)).unwrap();
    assert_eq!(body, Some(FromServer::Finish(Finish { cancel: true, discard: true })));
    let answer = hex::decode("4144020232").unwrap();
    assert_eq!(upload.handle_message(Duration::ZERO, &parse(&answer)), Handled::Acknowledge(0x202));
    assert_eq!(upload.outcome(), Some(Err(Failure::Cancelled)));
}

#[test]
fn refusals_and_resets_end_the_transfer() {
    let image = vec![7; 1024];
    let (mut ids, mut out) = (Ids { id: 1, token: 0x31 }, [0; 1200]);
    let start = |ids: &mut Ids, out: &mut [u8]| {
        let mut upload = Upload::new(&image, Options::DEFAULT).unwrap();
        upload.poll_send(Duration::ZERO, ids, out).unwrap().unwrap();
        upload
    };
    let mut upload = start(&mut ids, &mut out);
    let refusal = hex::decode("61a3000131ff7b7d").unwrap();
    assert_eq!(upload.handle_message(Duration::ZERO, &parse(&refusal)), Handled::Taken);
    assert_eq!(upload.outcome(), Some(Err(Failure::Refused { code: 0xa3 })));

    ids = Ids { id: 1, token: 0x31 };
    let mut upload = start(&mut ids, &mut out);
    let answer = hex::decode("4141020131e206f8010040").unwrap();
    let _ = upload.handle_message(Duration::ZERO, &parse(&answer));
    let chunk = upload.poll_send(Duration::ZERO, &mut ids, &mut out).unwrap().unwrap();
    let id = parse(chunk).id();
    upload.handle_reset(Duration::ZERO, id.wrapping_add(7));
    assert_eq!(upload.outcome(), None, "of something else");
    upload.handle_reset(Duration::ZERO, id);
    assert_eq!(upload.outcome(), Some(Err(Failure::Reset)));
}

#[test]
fn damaged_messages_are_errors_or_other_messages_and_never_panic() {
    for name in NAMES {
        for entry in load(name)["log"].as_array().unwrap() {
            let Some(coap) = entry.get("hex").map(bytes) else { continue };
            for len in 0..coap.len().min(90) {
                let Ok(message) = Message::parse(&coap[..len], ParseOptions::SPARK) else { continue };
                let _ = (FromServer::decode(&message), FromDevice::decode(&message));
            }
        }
    }
}
