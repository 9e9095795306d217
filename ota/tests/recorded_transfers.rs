//! Recorded transfers of device-os 0.4.9 and 2.3.1 and of both JavaScript servers, replayed through our receiver
//! and our sender over real connections.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

use coap_spark::connection::{DeviceConnection, Profile as LinkProfile, ServerConnection, ServerPolicy};
use coap_spark::message::{Envelope, FromDevice, FromServer};
use coap_spark::session::{Opener, Sealer, SessionKeys};
use core::time::Duration;
use serde_json::Value;
use spark_ota::coap::{Datagrams, Download, DownloadError, Ids, Target, Upload};
use spark_ota::transfer::{Options, Plan, Profile, ResetCause, ResultForm, Success};

const OTA_REGION: u64 = 0x080c_0000;
const OTA_LEN: u32 = 0x4_0000;

fn load(name: &str) -> Value {
    let path = format!("{}/tests/vectors/session/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn keys(salt: u8) -> SessionKeys {
    // The salt's first two bytes are the id before the device's first one: 0x0100.
    let mut keys = [9; 40];
    keys[32] = u8::from(salt == 0);
    keys[33] = u8::from(salt != 0);
    SessionKeys::new(keys)
}

/// The log of one side: what it was given, and what it did and said.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Said(String),
    Saved { address: u64, data: Vec<u8> },
    Finished(u64),
}

#[derive(Default)]
struct Recorder {
    fail_check: bool,
    fail_prepare: bool,
    /// Up to 0.6.4 the firmware validates as a part of the end.
    tells_validation: bool,
    log: Vec<Entry>,
}

impl Target for Recorder {
    fn check(&mut self, _: &Plan) -> bool {
        !self.fail_check
    }

    fn prepare(&mut self, _: &Plan) -> bool {
        !self.fail_prepare
    }

    fn save(&mut self, offset: u32, data: &[u8]) -> bool {
        self.log.push(Entry::Saved { address: OTA_REGION + u64::from(offset), data: data.to_vec() });
        true
    }

    fn validate(&mut self, _: &Plan) -> bool {
        if self.tells_validation {
            self.log.push(Entry::Finished(3));
        }
        true
    }

    fn apply(&mut self, _: &Plan) {
        self.log.push(Entry::Finished(1));
    }

    fn reset(&mut self, _: &Plan, cause: ResetCause) {
        panic!("{cause:?}");
    }
}

/// What is under the transfer: the TCP session with its frames, or datagrams.
#[allow(clippy::large_enum_variant, reason = "one for each test")]
enum Link {
    Tcp { connection: Box<DeviceConnection<800>>, to_device: Sealer, from_device: Opener },
    Udp(Datagrams),
}

struct DeviceUnderTest {
    link: Link,
    download: Download,
    target: Recorder,
    now: Duration,
}

impl DeviceUnderTest {
    fn new(tag: &str) -> Self {
        let (link, profile, order) = match tag {
            "0.4.9-tcp" => (LinkProfile::V0_7_0, Profile::S1, 0),
            // What makes the JSON was not part of the recorded firmware.
            _ => (LinkProfile::V2_3_1, Profile { result: ResultForm::None, ..Profile::C4 }, 1),
        };
        let keys = keys(order);
        let now = Duration::from_secs(1);
        let link = if tag.ends_with("tcp") {
            Link::Tcp {
                connection: Box::new(DeviceConnection::new(&keys, link, now)),
                to_device: Sealer::new(&keys),
                from_device: Opener::new(&keys),
            }
        } else {
            Link::Udp(Datagrams::new(Ids { id: 0x0101, token: 1 }))
        };
        let target = Recorder { tells_validation: tag != "0.4.9-tcp", ..Recorder::default() };
        Self { link, download: Download::new(profile, OTA_LEN), target, now }
    }

    fn receives(&mut self, coap: &[u8]) -> Result<(), DownloadError> {
        let mut frames = Vec::new();
        let mut send = |frame: &[u8]| frames.push(frame.to_vec());
        let Self { link, download, target, now } = self;
        let mut copy = coap.to_vec();
        if let Link::Tcp { connection, to_device, .. } = link {
            let mut frame = [0; 1024];
            let frame = to_device.seal(coap, &mut frame).unwrap();
            assert_eq!(connection.handle_input(*now, frame), Ok(frame.len()));
            // The message borrows the connection; a device copies it out or decodes it from its own buffer.
            let Some(message) = connection.poll_message() else { return Ok(()) };
            let mut out = [0; 1024];
            copy = message.encode_into(&mut out).unwrap().to_vec();
        }
        let message = Envelope::<FromServer<'_>>::decode(&copy).unwrap();
        let result = match link {
            Link::Tcp { connection, .. } => {
                download.handle_message(*now, &message, &mut **connection, target, &mut send)
            }
            Link::Udp(link) => download.handle_message(*now, &message, link, target, &mut send),
        };
        self.note(frames);
        result.map(|_| ())
    }

    fn waits(&mut self, time: Duration) {
        self.now += time;
        let mut frames = Vec::new();
        let mut send = |frame: &[u8]| frames.push(frame.to_vec());
        let Self { link, download, target, now } = self;
        match link {
            Link::Tcp { connection, .. } => {
                download.handle_deadline(*now, &mut **connection, target, &mut send)
            }
            Link::Udp(link) => download.handle_deadline(*now, link, target, &mut send),
        }
        .unwrap();
        self.note(frames);
    }

    /// Puts what was said before what was done.
    fn note(&mut self, frames: Vec<Vec<u8>>) {
        let did = core::mem::take(&mut self.target.log);
        for frame in frames {
            let said = match &mut self.link {
                Link::Tcp { from_device, .. } => {
                    let mut body = frame[2..].to_vec();
                    let len = from_device.open_in_place(&mut body).unwrap();
                    hex::encode(&body[..len])
                }
                Link::Udp(_) => hex::encode(frame),
            };
            self.target.log.push(Entry::Said(said));
        }
        self.target.log.extend(did);
    }
}

/// What the recording says, in the form of our log: words first, then deeds, for each thing that came in.
fn replay(name: &str, tag: &str) {
    let json = load(&format!("{name}.device-os-{tag}"));
    let image = bytes(&json["image_hex"]);
    let mut device = DeviceUnderTest::new(tag);
    let log = json["log"].as_array().unwrap();
    for (at, entry) in log.iter().enumerate() {
        match entry["from"].as_str().unwrap() {
            "fixture" => {
                let command = entry["cmd"].as_str().unwrap();
                device.target.fail_check = command == "fail 1";
                device.target.fail_prepare = command == "fail0 1";
            }
            "clock" => device.waits(Duration::from_millis(entry["advance_ms"].as_u64().unwrap())),
            "server" if entry["lost"] == true => {}
            "server" => {
                let sent = entry.get("corrupted_to").unwrap_or(&entry["hex"]);
                device.receives(&bytes(sent)).unwrap();
            }
            _ => continue,
        }
        let next = log[at + 1..]
            .iter()
            .take_while(|entry| !matches!(entry["from"].as_str(), Some("server" | "clock" | "fixture")));
        let (mut words, mut deeds) = (Vec::new(), Vec::new());
        for entry in next {
            if let Some(said) = entry["hex"].as_str() {
                words.push(Entry::Said(said.to_owned()));
            } else if let Some(save) = entry.get("save") {
                let address = save["address"].as_u64().unwrap();
                let mut data = bytes(&save["data"]);
                // Firmware writes the padding of the last chunk behind the image; ours does not.
                let start = usize::try_from(address - OTA_REGION).unwrap();
                if name != "begin-empty-payload" {
                    data.truncate(image.len() - start);
                }
                deeds.push(Entry::Saved { address, data });
            } else if let Some(finish) = entry.get("finish") {
                deeds.push(Entry::Finished(finish["flags"].as_u64().unwrap()));
            }
        }
        if name == "chunk-without-begin" {
            // Idle firmware finishes an update that never was; ours only answers.
            deeds.retain(|deed| !matches!(deed, Entry::Finished(_)));
        }
        words.extend(deeds);
        let ours: Vec<Entry> = device.target.log.drain(..).collect();
        assert_eq!(ours, words, "{name} {tag}, entry {at}: {entry}");
    }
}

macro_rules! replays {
    ($($test:ident: $name:literal;)*) => {
        $(
            #[test]
            fn $test() {
                replay($name, "0.4.9-tcp");
                replay($name, "2.3.1-tcp");
                replay($name, "2.3.1-udp");
            }
        )*
    };
}

replays! {
    receiver_takes_a_slow_image: "slow-ok";
    receiver_asks_for_a_damaged_slow_chunk_again: "slow-bad-crc-then-resend";
    receiver_takes_an_unpadded_tail: "slow-512-unpadded-tail";
    receiver_takes_a_fast_image: "fast-ok";
    receiver_repairs_lost_and_damaged_fast_chunks: "fast-lost-and-corrupt-recovered";
    receiver_asks_again_after_silence_where_firmware_does: "fast-missing-then-silence";
    receiver_refuses_in_the_form_of_its_generation: "begin-refused-by-check";
    receiver_that_cannot_prepare_says_nothing: "begin-acked-then-refused";
    receiver_fills_in_its_defaults: "begin-empty-payload";
    idle_receiver_reacts_as_its_generation: "chunk-without-begin";
}

/// Our sender against the recorded device answers: what it sends is what the recorded server sent.
fn sender_replay(name: &str, options: Options) -> (Vec<String>, Vec<String>, bool) {
    let json = load(name);
    let image = bytes(&json["image_hex"]);
    let keys = keys(0);
    let mut connection = ServerConnection::<1024>::new(&keys, ServerPolicy::DEFAULT, 0, Duration::ZERO);
    let (mut from_device, mut from_server) = (Sealer::new(&keys), Opener::new(&keys));
    let mut out = [0; 1024];
    let hello = from_device.seal(&[0x50, 2, 1, 0, 0xb1, b'h'], &mut out).unwrap().to_vec();
    connection.handle_input(Duration::ZERO, &hello).unwrap();
    connection.poll_message().unwrap();
    let mut upload = Upload::new(&image, options).unwrap();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut open = |frame: &[u8]| {
        let mut body = frame[2..].to_vec();
        let len = from_server.open_in_place(&mut body).unwrap();
        hex::encode(&body[..len])
    };
    open(connection.poll_output(&mut out).unwrap().unwrap());
    for entry in json["log"].as_array().unwrap() {
        match entry["from"].as_str().unwrap() {
            "server" => theirs.push(entry["hex"].as_str().unwrap().to_owned()),
            "device" => {
                // One byte less than the longest message of 256-byte chunks takes nothing from the transfer.
                upload.poll_send(Duration::ZERO, &mut connection, &mut out[..289]).unwrap_err();
                while let Some(frame) =
                    upload.poll_send(Duration::ZERO, &mut connection, &mut out[..290]).unwrap()
                {
                    ours.push(open(frame));
                }
                let frame = from_device.seal(&bytes(&entry["hex"]), &mut out).unwrap().to_vec();
                connection.handle_input(Duration::ZERO, &frame).unwrap();
                if let Some(message) = connection.poll_message() {
                    let mut copy = [0; 1024];
                    let copy = message.encode_into(&mut copy).unwrap().to_vec();
                    let message = Envelope::<FromDevice<'_>>::decode(&copy).unwrap();
                    let _ = upload.handle_message(Duration::ZERO, &message);
                }
                while let Some(frame) = connection.poll_output(&mut out).unwrap() {
                    ours.push(open(frame));
                }
            }
            _ => {}
        }
    }
    while let Some(frame) = upload.poll_send(Duration::ZERO, &mut connection, &mut out).unwrap() {
        ours.push(open(frame));
    }
    (ours, theirs, upload.outcome() == Some(Ok(Success { by_device: false, confirmed: false })))
}

#[test]
fn sender_sends_what_the_recorded_servers_sent() {
    let options = Options { chunk_size: 256, ..Options::DEFAULT };
    let slow = Options { offer_fast: false, ..options };
    for (name, options) in [
        ("e2e-brewskey-slow", slow),
        ("e2e-brewskey-fast", options),
        ("e2e-particle-slow", slow),
        ("e2e-particle-slow-crc-resend", slow),
    ] {
        let (ours, theirs, success) = sender_replay(name, options);
        // Ids and tokens start elsewhere; everything behind them is compared.
        let tail = |text: &String| (text[..4].to_owned(), text[10..].to_owned());
        let (ours, theirs): (Vec<_>, Vec<_>) =
            (ours.iter().map(tail).collect(), theirs.iter().map(tail).collect());
        assert_eq!(ours, theirs, "{name}");
        assert!(success, "{name}");
    }
}

/// The Brewskey server reports success although two chunks are missing. Ours sees the answer and repairs.
#[test]
fn sender_does_not_take_a_lossy_transfer_for_a_success() {
    let options = Options { chunk_size: 256, ..Options::DEFAULT };
    let (ours, theirs, success) = sender_replay("e2e-brewskey-fast-loss-not-recovered", options);
    assert!(!success);
    let chunks = |list: &[String]| {
        list.iter().filter(|text| text.starts_with("4102") && text[10..].starts_with("b16344")).count()
    };
    assert_eq!(chunks(&theirs), 7, "it never sends one again");
    assert!(chunks(&ours) >= 7 + 2, "{ours:#?}");
}

/// Both ends of these recordings are genuine; here ours stands in for the device.
#[test]
fn receiver_answers_both_javascript_servers_as_the_firmware_did() {
    for name in [
        "e2e-brewskey-slow",
        "e2e-brewskey-fast",
        "e2e-brewskey-fast-loss-not-recovered",
        "e2e-particle-slow",
        "e2e-particle-slow-crc-resend",
        "e2e-particle-fast-requested-but-flag-zero",
    ] {
        let json = load(name);
        let mut device = DeviceUnderTest::new("0.4.9-tcp");
        let (mut theirs, mut log) = (Vec::new(), Vec::new());
        for entry in json["log"].as_array().unwrap() {
            match entry["from"].as_str().unwrap() {
                "server" if entry["lost"] == true => {}
                "server" => {
                    let sent = entry.get("corrupted_to").unwrap_or(&entry["hex"]);
                    device.receives(&bytes(sent)).unwrap();
                    log.append(&mut device.target.log);
                }
                "device" => theirs.push(entry["hex"].as_str().unwrap().to_owned()),
                _ => {}
            }
        }
        if name == "e2e-brewskey-fast-loss-not-recovered" {
            // This server waits for more than three seconds and then sends nothing.
            device.waits(Duration::from_millis(3001));
            log.append(&mut device.target.log);
        }
        let (mut ours, mut image) = (Vec::new(), vec![0xff; bytes(&json["image_hex"]).len()]);
        for entry in log {
            match entry {
                Entry::Said(said) => ours.push(said),
                Entry::Saved { address, data } => {
                    let start = usize::try_from(address - OTA_REGION).unwrap();
                    image[start..start + data.len()].copy_from_slice(&data);
                }
                Entry::Finished(_) => {}
            }
        }
        assert_eq!(ours, theirs, "{name}");
        let whole = image == bytes(&json["image_hex"]);
        assert_eq!(whole, name != "e2e-brewskey-fast-loss-not-recovered", "{name}");
    }
}

/// The server of 2017 was told to use fast mode and offers none. Ours offers it, and takes the device's no for an answer.
#[test]
fn sender_that_shall_be_fast_offers_it() {
    let options = Options { chunk_size: 256, ..Options::DEFAULT };
    let (ours, theirs, success) = sender_replay("e2e-particle-fast-requested-but-flag-zero", options);
    let flags = |list: &[String]| list[0].split("b175ff").nth(1).unwrap()[..2].to_owned();
    assert_eq!((flags(&theirs), flags(&ours)), ("00".to_owned(), "01".to_owned()));
    assert!(success);
    assert_eq!(ours.len(), theirs.len());
}
