//! `spark-ota`: the server of the Sonoff protocol.

use crate::input::Input;
use core::time::Duration;
use spark_ota::esp8266::Slot;
use spark_ota::sonoff::frame::{Decoded, End, Frame, decode, device_ping, device_text};
use spark_ota::sonoff::http::ResponseHead;
use spark_ota::sonoff::message::{DeviceBody, DeviceMessage, Register, ServerBody, ServerMessage, Update};
use spark_ota::sonoff::server::{
    Config, ConnectionId, Event, Files, Output, Policy, Report, Role, Service, Stage,
};
use spark_ota::sonoff::upgrade::{Candidate, Format, Offer};
use spark_ota::sonoff::{ApiKey, DeviceId, Model, Sequence, Version, handshake, limits};
use std::collections::BTreeMap;

/// Bytes of the images.
const LENGTH: u32 = 6000;
const DEVICES: usize = 3;

struct Device {
    id: DeviceId,
    factory_key: ApiKey,
    session_key: ApiKey,
    sequence: Option<Sequence>,
    /// Bytes of each image that were sent to anybody after the last offer.
    given: [Vec<bool>; 2],
}

/// What a server does, checked.
struct Watched {
    service: Service,
    now: Duration,
    /// Open connections, and which device speaks on each.
    connections: BTreeMap<ConnectionId, Link>,
    devices: Vec<Device>,
    keys: u8,
}

#[derive(Clone, Copy)]
struct Link {
    device: usize,
    is_websocket: bool,
}

impl Watched {
    fn drain(&mut self) {
        let mut steps = 0;
        loop {
            let mut quiet = true;
            while let Some(id) = self.service.poll_connection() {
                quiet = false;
                while let Some(output) = self.service.poll_output(self.now, id) {
                    steps += 1;
                    assert!(steps < 20_000, "outputs do not end");
                    self.output(id, output);
                }
            }
            while let Some(report) = self.service.poll_report() {
                quiet = false;
                self.report(&report);
            }
            if quiet {
                return;
            }
        }
    }

    fn output(&mut self, id: ConnectionId, output: Output) {
        let link = self.connections.get(&id).copied();
        match output {
            Output::Send(bytes)
                if link.is_some_and(|link| link.is_websocket) && bytes.first() != Some(&b'H') =>
            {
                assert!(bytes.len() <= limits::SERVER_FRAME);
                match decode(End::Server, &bytes) {
                    Ok(Decoded::Frame { frame: Frame::Text(json), used }) => {
                        assert_eq!(used, bytes.len());
                        let message = ServerMessage::parse(&json).expect("a server's own message");
                        self.said(&message);
                    }
                    Ok(Decoded::Frame { frame: Frame::Pong, .. }) => {}
                    other => panic!("no frame: {other:?}"),
                }
            }
            Output::Send(bytes) => {
                let (head, used) = ResponseHead::parse(&bytes).expect("a head").expect("all of it");
                assert!(head.status != 206 || used <= limits::DOWNLOAD_HEAD);
            }
            Output::SendFile { file, range } => {
                let (role, length) = self.service.files().describe(file).expect("a file");
                assert!(range.start < range.end && range.end <= length);
                if let Role::Upgrade(slot) = role {
                    // Without an id in the request the address of the device counts.
                    for device in &mut self.devices {
                        let given = &mut device.given[usize::from(slot.number()) - 1];
                        given[range.start as usize..range.end as usize].fill(true);
                    }
                }
            }
            Output::Finish => {}
            _ => drop(self.connections.remove(&id)),
        }
    }

    fn said(&mut self, message: &ServerMessage) {
        let device = self.devices.iter_mut().find(|device| device.id == message.device_id);
        let Some(device) = device else { return };
        if let ServerBody::Registered { .. } = message.body {
            device.session_key = message.api_key.clone();
        }
        if let ServerBody::Upgrade(upgrade) = &message.body {
            assert!(message.sequence.is_some() && message.sequence != device.sequence);
            assert_eq!(upgrade.bin_list.len(), 2);
            device.sequence = message.sequence;
            device.given.iter_mut().for_each(|given| given.fill(false));
        }
    }

    fn report(&self, report: &Report) {
        let Report::Device { device_id, event: Event::Stage(stage) } = report else { return };
        let device = self.devices.iter().find(|device| device.id == *device_id).expect("a known device");
        if matches!(stage, Stage::Served | Stage::Installed { .. } | Stage::Done { .. }) {
            let whole = device.given.iter().any(|given| given.iter().all(|byte| *byte));
            assert!(whole, "{stage:?}, and not all was sent");
        }
    }

    fn message(&mut self, connection: ConnectionId, body: DeviceBody) {
        let Some(link) = self.connections.get(&connection) else { return };
        let device = &self.devices[link.device];
        let is_register = matches!(body, DeviceBody::Register(_));
        let key = if is_register { &device.factory_key } else { &device.session_key };
        let message = DeviceMessage { device_id: device.id, api_key: key.clone(), body };
        let frame = device_text(&message.to_json().expect("short"), [0; 4]).expect("short");
        self.service.handle_input(self.now, connection, &frame);
    }
}

fn device(number: usize) -> Device {
    let seed = u8::try_from(number).unwrap_or_default();
    Device {
        id: DeviceId::new(&format!("100000000{number}")).expect("an id"),
        factory_key: ApiKey::from_random([0x80 + seed; 16]),
        session_key: ApiKey::from_random([0; 16]),
        sequence: None,
        given: [vec![false; LENGTH as usize], vec![false; LENGTH as usize]],
    }
}

fn offer() -> Offer {
    let candidates = Slot::ALL.map(|slot| Candidate {
        slot,
        url: format!("http://192.168.77.10:8080/{}", slot.file_name()),
        digest: "0a".repeat(32),
        size: LENGTH,
        format: Format::V2,
        linked_for: Some(slot),
    });
    Offer::new("M", candidates.to_vec())
}

fn service(choice: u8) -> Service {
    let mut files = Files::new();
    for slot in Slot::ALL {
        files.add(&format!("/{}", slot.file_name()), Role::Upgrade(slot), LENGTH).expect("a file");
    }
    for role in [Role::FinalUser2, Role::FinalImage] {
        files.add(role.final_path().expect("a path"), role, LENGTH).expect("a file");
    }
    let policy = Policy {
        attempts: 1 + (choice & 3),
        full_speed_first: choice & 4 != 0,
        final_stage: choice & 2 != 0,
    };
    let config = Config {
        policy,
        check_sign: false,
        max_connections: 6,
        max_devices: if choice & 8 == 0 { 8 } else { 2 },
    };
    Service::new(config, files, 1_795_232_913_130)
}

/// Any events in any order, of devices and of strangers: whatever is sent is what a device understands, files are sent only as
/// far as they go, an image is never called served that was not, and no deadline stands still.
pub fn server(data: &[u8]) {
    let mut input = Input::new(data);
    let mut watched = Watched {
        service: service(input.byte()),
        now: Duration::ZERO,
        connections: BTreeMap::new(),
        devices: (0..DEVICES).map(device).collect(),
        keys: 0,
    };
    let mut current = None;
    while !input.is_empty() {
        let now = watched.now;
        let action = input.byte();
        let some = current.filter(|id| watched.connections.contains_key(id));
        match (action, some) {
            (0, _) => {
                let choice = input.byte();
                watched.keys = watched.keys.wrapping_add(1);
                let key = ApiKey::from_random([watched.keys; 16]);
                let number = usize::from(choice) % DEVICES;
                let peer = [192, 168, 77, 20 + (choice & 3)].into();
                if let Ok(id) = watched.service.connected(now, peer, key, "192.168.77.10", 8443) {
                    let is_websocket = choice & 0x80 != 0;
                    watched.connections.insert(id, Link { device: number, is_websocket });
                    if is_websocket {
                        watched.service.handle_input(now, id, &handshake::request());
                    }
                    current = Some(id);
                }
            }
            (1, _) => {
                let number = usize::from(input.byte());
                current = watched.connections.keys().nth(number % watched.connections.len().max(1)).copied();
            }
            (2, _) => {
                if let Some(deadline) = watched.service.next_deadline() {
                    watched.now = now.max(deadline);
                    watched.service.handle_deadline(watched.now);
                }
            }
            (3, _) => {
                watched.now += Duration::from_millis(u64::from(input.word()) * 4);
                watched.service.handle_deadline(watched.now);
            }
            (4, _) => {
                let id = watched.devices[usize::from(input.byte()) % DEVICES].id;
                if watched.service.offer(now, &id, &offer()).is_ok() {
                    let session = watched.service.session(&id).expect("a device that was offered something");
                    assert!(session.is_upgrading() && !session.is_ready());
                }
            }
            (5, Some(id)) => {
                let orderly = input.byte() & 1 == 0;
                watched.service.closed(now, id, orderly);
                watched.connections.remove(&id);
            }
            (6, Some(id)) => watched.service.handle_input(now, id, input.block()),
            (7, Some(id)) => {
                let rom_version = if input.byte() & 1 == 0 { "1.5.5" } else { "9.9.9" };
                let rom_version = Version::new(rom_version).expect("a version");
                let model = Model::new("M").expect("a model");
                let register = Register { rom_version, model, version: Some(2), ts: Some(7) };
                watched.message(id, DeviceBody::Register(register));
            }
            (8, Some(id)) => watched.message(id, DeviceBody::Date),
            (9, Some(id)) => watched.message(id, DeviceBody::Update(Update::default())),
            (10, Some(id)) => watched.message(id, DeviceBody::Query { params: Vec::new() }),
            (11 | 12, Some(id)) => {
                let code = [0, 400, 404, 406, 409, 410, 411, 7][usize::from(input.byte() & 7)];
                let device = watched.connections.get(&id).map_or(0, |link| link.device);
                let sequence = watched.devices[device].sequence;
                let body = if action == 11 {
                    DeviceBody::Result { error: code, sequence }
                } else {
                    DeviceBody::UpgradeState { code, sequence }
                };
                watched.message(id, body);
            }
            (13, Some(id)) => {
                let (choice, first) = (input.byte(), u32::from(input.word()));
                let device = watched.connections.get(&id).map_or(0, |link| link.device);
                let path =
                    ["/user1.bin", "/user2.bin", "/ota/image_arduino.bin", "/ota/image_user2-0x81000.bin"]
                        [usize::from(choice & 3)];
                let range = if choice & 4 == 0 {
                    format!("Range: bytes={first}-{}\r\n", first + u32::from(choice) * 64)
                } else {
                    String::new()
                };
                let query = if choice & 8 == 0 {
                    format!("?deviceid={}", watched.devices[device].id)
                } else {
                    String::new()
                };
                let version = if choice & 16 == 0 { "1.1" } else { "1.0" };
                let request = format!("GET {path}{query} HTTP/{version}\r\n{range}\r\n");
                watched.service.handle_input(now, id, request.as_bytes());
            }
            (14, Some(id)) => watched.service.handle_input(now, id, &device_ping([0; 4])),
            _ => {}
        }
        watched.drain();
        if let Some(deadline) = watched.service.next_deadline().filter(|deadline| *deadline <= watched.now) {
            watched.service.handle_deadline(watched.now);
            watched.drain();
            let next = watched.service.next_deadline();
            assert!(
                next.is_none_or(|next| next > watched.now),
                "{deadline:?} stands still at {:?}",
                watched.now
            );
        }
    }
}
