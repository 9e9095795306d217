//! `spark-ota`: the Sonoff protocol, both ends.

use crate::input::Input;
use core::time::Duration;
use spark_ota::sonoff::device::{Device, Identity, Link, Output, Profile, State};
use spark_ota::sonoff::dispatch::{DispatchAnswer, DispatchRequest};
use spark_ota::sonoff::diy::{DiyAnnouncement, DiyAnswer, DiyReport, DiyRequest};
use spark_ota::sonoff::frame::{Decoded, End, Frame, FrameReader, decode, device_text, server_text};
use spark_ota::sonoff::http::{
    DownloadQuery, RangeRequest, Request, RequestHead, ResponseHead, Routes, answer,
};
use spark_ota::sonoff::message::{
    Date, DeviceMessage, Entry, Reading, ServerBody, ServerMessage, Switch, Switches, Upgrade,
};
use spark_ota::sonoff::provisioning::{ANSWER, Access, ApRequest, DeviceInfo, Provisioning};
use spark_ota::sonoff::upgrade::{Slot, UrlParts};
use spark_ota::sonoff::{ApiKey, DeviceId, Model, Sequence, ServerName, Text, Version, handshake, limits};

const NOW: Duration = Duration::ZERO;

fn access() -> Access {
    Access::new("net", "password", "192.168.77.10", 8443).expect("good settings")
}

/// JSON of any kind: what is read survives being written and read again.
pub fn message(data: &[u8]) {
    if let Ok(message) = DeviceMessage::parse(data) {
        // An `update` with several switches may be longer when it is written with all its names.
        if let Ok(json) = message.to_json() {
            assert_eq!(DeviceMessage::parse(json.as_bytes()), Ok(message));
        }
    }
    if let Ok(reading) = Reading::new(data) {
        for name in ["apikey", "params", "error", "\u{e4}"] {
            assert!(reading.text(name).is_none() || reading.has(name));
            assert!(reading.number(name).is_none() || reading.text(name).is_none());
        }
        let _ = (
            reading.trouble(),
            reading.repeated(),
            reading.entries().count(),
            reading.list("params").count(),
        );
    }
    if let Ok(message) = ServerMessage::parse(data)
        && let Ok(json) = message.to_json()
    {
        let reading = Reading::new(json.as_bytes()).expect("own JSON");
        assert_eq!(reading.trouble(), None, "{json}");
        let again = ServerMessage::parse(json.as_bytes()).expect("own JSON");
        assert_eq!(again.body, message.body);
        assert_eq!((again.device_id, &again.api_key), (message.device_id, &message.api_key));
    }
    if let Ok(request) = DispatchRequest::from_json(data) {
        assert_eq!(DispatchRequest::from_json(request.to_json().as_bytes()), Ok(request));
    }
    if let Ok(info) = DeviceInfo::from_json(data) {
        assert_eq!(DeviceInfo::from_json(info.to_json().as_bytes()), Ok(info));
    }
    if let Ok(answer) = DiyAnswer::parse(data)
        && let Ok(json) = answer.to_json()
    {
        assert_eq!(DiyAnswer::parse(json.as_bytes()), Ok(answer));
    }
    for path in ["/zeroconf/info", "/zeroconf/ota_flash", "/zeroconf/switch"] {
        if let Ok(request) = DiyRequest::parse(path, data) {
            assert_eq!(DiyRequest::parse(path, request.to_json().as_bytes()), Ok(request));
        }
    }
    let announced = DiyAnnouncement::parse(data);
    assert!(
        !announced.ota_unlock().unwrap_or_default() || announced.is_diy() == Some(true),
        "unlocked, and not in DIY mode"
    );
    if let Ok(report) = DiyReport::parse(data) {
        assert_eq!(DiyReport::parse(report.to_json().as_bytes()), Ok(report));
    }
}

/// A first byte for the end and the size of pieces, then bytes of frames: pieces make no difference.
pub fn frame(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let end = if choice & 1 == 0 { End::Device } else { End::Server };
    let bytes = input.rest();
    let mut whole = Vec::new();
    let mut rest = bytes;
    let failure = loop {
        match decode(end, rest) {
            Ok(Decoded::Frame { frame, used }) => {
                assert!(used >= 2);
                if let Frame::Text(text) = &frame {
                    assert!(text.len() <= end.limit());
                    if let Ok(text) = core::str::from_utf8(text) {
                        let again = match end {
                            End::Device => device_text(text, [choice; 4]),
                            End::Server => server_text(text),
                        };
                        let again = again.expect("it was not too long");
                        let used = again.len();
                        assert_eq!(decode(end, &again), Ok(Decoded::Frame { frame: frame.clone(), used }));
                    }
                }
                whole.push(frame);
                rest = &rest[used..];
            }
            Ok(Decoded::NeedMore { at_least }) => {
                assert!(at_least > rest.len());
                break None;
            }
            Err(error) => break Some(error),
        }
    };
    let mut reader = FrameReader::new(end);
    let mut found = Vec::new();
    let mut failed = None;
    'pieces: for piece in bytes.chunks(usize::from(choice >> 1) + 1) {
        let mut rest = piece;
        while !rest.is_empty() {
            let used = reader.handle_input(rest);
            assert!(used > 0, "stuck");
            rest = &rest[used..];
            loop {
                match reader.next_frame() {
                    Ok(Some(frame)) => found.push(frame),
                    Ok(None) => break,
                    Err(error) => {
                        failed = Some(error);
                        break 'pieces;
                    }
                }
            }
        }
    }
    assert_eq!((found, failed), (whole, failure));
}

/// Heads, ranges, queries, URLs, and both ends of provisioning.
pub fn http(data: &[u8]) {
    let mut input = Input::new(data);
    let length = input.long();
    let bytes = input.rest();
    if let Ok(Some((request, used))) = Request::parse(bytes) {
        assert!(used <= bytes.len() && used >= request.body.len());
    }
    if let Ok(Some((head, used))) = RequestHead::parse(bytes) {
        assert!(used <= limits::REQUEST_HEAD.min(bytes.len()));
        let found = answer(&head, length, &head.path);
        let (response, whole) = ResponseHead::parse(&found.head).expect("own head").expect("all of it");
        assert_eq!((response.status, whole), (found.status, found.head.len()));
        assert!(found.body.start <= found.body.end && found.body.end <= length);
        let told = response.content_length().expect("own length").expect("a length");
        assert!(found.body.is_empty() || told == found.body.len());
        assert!(found.status != 206 || found.head.len() <= limits::DOWNLOAD_HEAD);
        if let RangeRequest::Part(part) = RangeRequest::new(head.header("Range"), length) {
            assert!(!part.is_empty() && part.end <= length);
        }
        let _ = handshake::answer(&head);
        let query = DownloadQuery::parse(head.query.as_deref().unwrap_or_default());
        assert!(!query.is_signed_by(&ApiKey::from_random([1; 16])), "nobody knows that key");
        let mut routes = Routes::new();
        if routes.add(&head.path, ()).is_ok() {
            assert!(routes.find(&head.path).is_some() && routes.find("/").is_some() == (head.path == "/"));
        }
    }
    if let Ok(text) = core::str::from_utf8(bytes) {
        if let Ok(parts) = UrlParts::new(text) {
            assert!(text.len() <= limits::URL && parts.host.len() <= limits::URL_HOST);
            assert!(text.starts_with("http://") && text.ends_with(parts.path) && text.contains(parts.host));
        }
        let _ = RangeRequest::new(Some(text), length);
    }
    for as_text in [false, true] {
        if let Ok(Some(answer)) = DispatchAnswer::read(bytes, as_text) {
            assert_eq!(DispatchAnswer::read(&answer.to_http(), false), Ok(Some(answer)));
        }
    }
    let _ = ApRequest::find(bytes);
    let mut client = Provisioning::new(NOW, access());
    client.poll_output();
    client.connected(NOW);
    client.poll_output();
    for piece in bytes.chunks(100) {
        client.handle_input(NOW, piece);
        while client.poll_output().is_some() {}
    }
    client.handle_deadline(NOW + ANSWER);
    assert!(client.outcome().is_some() && client.next_deadline().is_none());
}

const PROFILES: [Profile; 4] = [Profile::OLD, Profile::RANGES, Profile::LATER, Profile::PINNED];
const LINKS: [Link; 4] = [Link::AccessPoint, Link::Dispatch, Link::WebSocket, Link::Download];

/// What a device does, checked.
struct Watched {
    device: Device,
    now: Duration,
    erased: Option<u32>,
    gets: Vec<RequestHead>,
    hash: bool,
    rebooted: bool,
}

impl Watched {
    fn drain(&mut self) {
        let mut steps = 0;
        while let Some(output) = self.device.poll_output() {
            steps += 1;
            assert!(steps < 10_000, "outputs do not end");
            assert!(!self.rebooted, "it goes on after the reboot");
            let slot = self.device.identity().running.other();
            let inside = |address: u32, length: u32| {
                address >= slot.flash_offset()
                    && address + length <= slot.flash_offset() + limits::IMAGE.next_multiple_of(4096)
            };
            match output {
                Output::Send { link: Link::WebSocket, bytes } if bytes.first() == Some(&0x81) => {
                    let Ok(Decoded::Frame { frame: Frame::Text(json), used }) = decode(End::Device, &bytes)
                    else {
                        panic!("no frame: {bytes:02x?}")
                    };
                    assert_eq!(used, bytes.len());
                    let message = DeviceMessage::parse(&json).expect("a device's own message");
                    assert_eq!(message.device_id, self.device.identity().device_id);
                }
                Output::Send { link: Link::Download, bytes } => {
                    let (head, used) = RequestHead::parse(&bytes).expect("a head").expect("all of it");
                    assert_eq!(used, bytes.len());
                    let query = DownloadQuery::parse(head.query.as_deref().expect("a query"));
                    assert!(query.is_signed_by(&self.device.identity().factory_key));
                    self.gets = vec![head];
                }
                Output::Erase { address } => {
                    assert!(inside(address, 4096) && address % 4096 == 0);
                    self.erased = Some(address);
                }
                Output::Write { address, data } => {
                    assert_eq!((self.erased.take(), data.len()), (Some(address), 4096));
                }
                Output::Hash { address, length } => {
                    assert!(address == slot.flash_offset() && (1..=limits::IMAGE).contains(&length));
                    self.hash = true;
                }
                Output::Reboot(to) => {
                    assert_eq!(to, slot);
                    self.rebooted = true;
                }
                _ => {}
            }
        }
        assert!(self.device.state() != State::Off || self.device.next_deadline().is_none());
    }
}

fn frame_of(device: &Device, body: ServerBody) -> Vec<u8> {
    let message = ServerMessage {
        device_id: device.identity().device_id,
        api_key: ApiKey::from_random([7; 16]),
        sequence: Some(Sequence::new("7").expect("a text")),
        body,
    };
    server_text(&message.to_json().expect("short")).expect("short")
}

fn upgrade() -> Upgrade {
    let entry = |slot: Slot| Entry {
        name: Text::new(slot.file_name()).expect("a name"),
        download_url: Text::new("http://192.168.77.10:8080/a").expect("a URL"),
        digest: Text::new("66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925")
            .expect("a digest"),
    };
    Upgrade {
        model: Model::new("M").expect("a model"),
        version: Version::new("9.9.9").expect("a version"),
        auto_restart: Some(true),
        bin_list: Slot::ALL.map(entry).to_vec(),
    }
}

/// Any events in any order: a device writes only where it may, says only what it should, and always has an end to wait
/// for.
pub fn device(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let running = if choice & 4 == 0 { Slot::User1 } else { Slot::User2 };
    let identity = Identity {
        device_id: DeviceId::new("1000abcdef").expect("an id"),
        factory_key: ApiKey::from_random([9; 16]),
        model: Model::new("M").expect("a model"),
        rom_version: Version::new("1.5.5").expect("a version"),
        running,
    };
    let profile = PROFILES[usize::from(choice & 3)];
    let device = match choice & 8 {
        0 => Device::with_access(NOW, identity, profile, access()),
        _ => Device::pairing(NOW, identity, profile),
    };
    let mut watched =
        Watched { device, now: NOW, erased: None, gets: Vec::new(), hash: false, rebooted: false };
    watched.drain();
    while !input.is_empty() {
        let now = watched.now;
        let device = &mut watched.device;
        let socket = |device: &mut Device, body| {
            let bytes = frame_of(device, body);
            device.handle_input(now, Link::WebSocket, &bytes);
        };
        match input.byte() {
            0 => {
                if let Some(deadline) = device.next_deadline() {
                    watched.now = now.max(deadline);
                    device.handle_deadline(watched.now);
                }
            }
            1 => {
                watched.now += Duration::from_millis(u64::from(input.word()) * 4);
                device.handle_deadline(watched.now);
            }
            2 => device.joined(now, input.byte() & 1 == 0),
            3 => device.connected(now, LINKS[usize::from(input.byte() & 3)]),
            4 => device.closed(now, LINKS[usize::from(input.byte() & 3)]),
            5 => {
                let link = LINKS[usize::from(input.byte() & 3)];
                device.handle_input(now, link, input.block());
            }
            6 => {
                let server = DispatchAnswer::Server { ip: ServerName::new("a").expect("a name"), port: 443 };
                device.handle_input(now, Link::Dispatch, &server.to_http());
            }
            7 => {
                let answer = format!("{}\r\n\r\n", handshake::SWITCHING);
                device.handle_input(now, Link::WebSocket, answer.as_bytes());
            }
            8 => socket(device, ServerBody::Registered { hb_interval: input.byte().into() }),
            9 => socket(device, ServerBody::Date { date: Date::from_unix_milliseconds(0) }),
            10 => socket(device, ServerBody::Answer { error: input.word() }),
            11 => socket(device, ServerBody::Upgrade(upgrade())),
            12 => socket(device, ServerBody::Restart),
            13 => socket(device, ServerBody::Update { switches: Switches::One(Switch::On) }),
            14 => {
                let ip = ServerName::new("b").expect("a name");
                socket(device, ServerBody::Redirect { ip, port: 1 });
            }
            15 => {
                // The image is all zeros; its length may change between answers.
                let length = u32::from(input.word()) * 8;
                if let Some(get) = watched.gets.pop() {
                    let found = answer(&get, length, "");
                    let body = vec![0; found.body.len()];
                    device.handle_input(now, Link::Download, &[&found.head[..], &body].concat());
                }
            }
            16 => {
                let length = usize::from(input.byte());
                device.handle_input(now, Link::Download, &vec![0; length * 16]);
            }
            17 if watched.hash => {
                watched.hash = false;
                let digest = if input.byte() & 1 == 0 {
                    *b"\x66\x68\x7a\xad\xf8\x62\xbd\x77\x6c\x8f\xc1\x8b\x8e\x9f\x8e\x20\x08\x97\x14\x85\x6e\xe2\x33\xb3\x90\x2a\x59\x1d\x0d\x5f\x29\x25"
                } else {
                    [0; 32]
                };
                device.hashed(now, digest);
            }
            18 => device.flash_failed(now),
            19 => device.handle_input(now, Link::WebSocket, &[0x8a, 0]),
            _ => {}
        }
        watched.drain();
    }
    // Without anything from outside it never stops at one point of time.
    let mut same = 0;
    for _ in 0..200 {
        let Some(deadline) = watched.device.next_deadline() else { break };
        same = if deadline <= watched.now { same + 1 } else { 0 };
        assert!(same < 20, "time stands still");
        watched.now = watched.now.max(deadline);
        watched.device.handle_deadline(watched.now);
        watched.drain();
    }
}
