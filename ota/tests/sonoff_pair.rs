//! The device against a server made of this crate's parts, under a virtual clock, over a network that cuts bytes into
//! pieces and breaks connections.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

use core::time::Duration;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use spark_ota::sonoff::device::{Device, Identity, Link, Output, Profile, State};
use spark_ota::sonoff::dispatch::{DispatchAnswer, DispatchRequest};
use spark_ota::sonoff::frame::{End, Frame, FrameReader, PONG, server_text};
use spark_ota::sonoff::http::{Pace, Pacer, Request, Routes, answer};
use spark_ota::sonoff::message::{Date, DeviceBody, DeviceMessage, ServerBody, ServerMessage};
use spark_ota::sonoff::provisioning::Access;
use spark_ota::sonoff::upgrade::{Candidate, Format, Offer, Registered, Slot};
use spark_ota::sonoff::{ApiKey, DeviceId, Model, Sequences, ServerName, Version, handshake};

const PATH: &str = "/ota/user2.bin";

struct Server {
    image: Vec<u8>,
    routes: Routes<()>,
    frames: FrameReader,
    is_open: bool,
    sequences: Sequences,
    registered: Option<Registered>,
    offered: bool,
    results: Vec<u16>,
    paced: Option<(Pacer, Vec<u8>)>,
}

impl Server {
    fn new(image: Vec<u8>) -> Self {
        let mut routes = Routes::new();
        routes.add(PATH, ()).unwrap();
        Self {
            image,
            routes,
            frames: FrameReader::new(End::Device),
            is_open: false,
            sequences: Sequences::new(),
            registered: None,
            offered: false,
            results: Vec::new(),
            paced: None,
        }
    }

    fn opened(&mut self) {
        (self.frames, self.is_open, self.offered) = (FrameReader::new(End::Device), false, false);
    }

    fn say(&mut self, request: bool, body: ServerBody) -> Vec<u8> {
        let message = ServerMessage {
            device_id: DeviceId::new("1000abcdef").unwrap(),
            api_key: ApiKey::from_random([7; 16]),
            sequence: request.then(|| self.sequences.next(0)),
            body,
        };
        server_text(&message.to_json().unwrap()).unwrap()
    }

    /// What it answers to what a device sends at once.
    fn asked(&mut self, link: Link, bytes: &[u8], old: bool) -> Vec<u8> {
        match link {
            Link::Dispatch => {
                let (request, _) = Request::parse(bytes).unwrap().unwrap();
                DispatchRequest::from_json(request.body).unwrap();
                DispatchAnswer::Server { ip: ServerName::new("192.168.77.10").unwrap(), port: 443 }.to_http()
            }
            Link::Download => {
                let (request, _) = Request::parse(bytes).unwrap().unwrap();
                self.routes.find(&request.head.path).unwrap();
                let found = answer(&request.head, u32::try_from(self.image.len()).unwrap(), "user2.bin");
                if old {
                    self.paced = Some((Pacer::new(found.body.end, Pace::SLOW), found.head));
                    return Vec::new();
                }
                let body = &self.image[found.body.start as usize..found.body.end as usize];
                [&found.head[..], body].concat()
            }
            _ if !self.is_open => {
                self.is_open = true;
                let (request, _) = Request::parse(bytes).unwrap().unwrap();
                handshake::answer(&request.head).unwrap()
            }
            _ => {
                let mut said = Vec::new();
                assert_eq!(self.frames.handle_input(bytes), bytes.len());
                while let Some(frame) = self.frames.next_frame().unwrap() {
                    match frame {
                        Frame::Text(json) => said.extend(self.message(&DeviceMessage::parse(&json).unwrap())),
                        _ => said.extend(PONG),
                    }
                }
                said
            }
        }
    }

    fn message(&mut self, message: &DeviceMessage) -> Vec<u8> {
        match &message.body {
            DeviceBody::Register(register) => {
                self.registered = Some(Registered {
                    model: register.model,
                    rom_version: register.rom_version,
                    dated: false,
                    upgrading: false,
                    address: None,
                });
                self.say(false, ServerBody::Registered { hb_interval: 145 })
            }
            DeviceBody::Date => {
                self.registered.as_mut().unwrap().dated = true;
                self.say(false, ServerBody::Date { date: Date::from_unix_milliseconds(0) })
            }
            DeviceBody::Update(_) => {
                let mut said = self.say(false, ServerBody::Answer { error: 0 });
                if !core::mem::replace(&mut self.offered, true) {
                    let candidates = Slot::ALL.map(|slot| Candidate {
                        slot,
                        url: format!("http://192.168.77.10:8080{PATH}"),
                        digest: hex::encode(Sha256::digest(&self.image)),
                        size: u32::try_from(self.image.len()).unwrap(),
                        format: Format::V2,
                        linked_for: Some(slot),
                    });
                    let offer = Offer::new("ITA-GZ1-GL", candidates.to_vec());
                    let checked = offer.check(self.registered.as_ref().unwrap()).unwrap();
                    said.extend(self.say(true, ServerBody::Upgrade(checked.upgrade)));
                }
                said
            }
            DeviceBody::Query { .. } => self.say(false, ServerBody::NothingKnown),
            DeviceBody::Result { error: code, .. } | DeviceBody::UpgradeState { code, .. } => {
                self.results.push(*code);
                Vec::new()
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Where the network breaks: the number of the answer, and how many bytes of it get through.
type Breaks = Vec<(u8, u16)>;

fn run(profile: Profile, length: usize, breaks: &Breaks, piece: usize) -> (Vec<u16>, bool, Duration) {
    let image: Vec<u8> = (0..length).map(|i| u8::try_from(i * 31 % 253).unwrap()).collect();
    let identity = Identity {
        device_id: DeviceId::new("1000abcdef").unwrap(),
        factory_key: ApiKey::from_random([9; 16]),
        model: Model::new("ITA-GZ1-GL").unwrap(),
        rom_version: Version::new("1.5.5").unwrap(),
        running: Slot::User1,
    };
    let access = Access::new("testnet", "secret-123", "192.168.77.10", 443).unwrap();
    let mut now = Duration::ZERO;
    let mut device = Device::with_access(now, identity, profile, access);
    let mut server = Server::new(image.clone());
    let mut flash = vec![0; 512 * 1024];
    let old = profile == Profile::OLD;
    let mut answers = 0;
    let mut deliver = |device: &mut Device, now, link, bytes: &[u8]| {
        let broken = breaks.iter().find(|(at, _)| u16::from(*at) == answers);
        answers += 1;
        let through = broken.map_or(bytes.len(), |(_, through)| usize::from(*through) % (bytes.len() + 1));
        for part in bytes[..through].chunks(piece) {
            device.handle_input(now, link, part);
        }
        if broken.is_some() {
            device.closed(now, link);
        }
    };
    for _ in 0..5000 {
        while let Some(output) = device.poll_output() {
            match output {
                Output::Join(_) => device.joined(now, true),
                Output::Connect { link, .. } => {
                    if link == Link::WebSocket {
                        server.opened();
                    }
                    device.connected(now, link);
                }
                Output::Send { link, bytes } => {
                    let said = server.asked(link, &bytes, old);
                    deliver(&mut device, now, link, &said);
                }
                Output::Close(Link::Download) => server.paced = None,
                Output::Erase { address } => {
                    let at = (address - Slot::User2.flash_offset()) as usize;
                    flash[at..at + 4096].fill(0xff);
                }
                Output::Write { address, data } => {
                    let at = (address - Slot::User2.flash_offset()) as usize;
                    flash[at..at + 4096].copy_from_slice(&data);
                }
                Output::Hash { length, .. } => {
                    device.hashed(now, Sha256::digest(&flash[..length as usize]).into());
                }
                Output::Reboot(slot) => {
                    assert_eq!(slot, Slot::User2);
                    return (server.results, flash[..image.len()] == image, now);
                }
                Output::Close(_) | Output::Switch(_) => {}
                other => panic!("{other:?}"),
            }
        }
        if device.state() == State::Ready && server.results.last().is_some_and(|code| *code != 0) {
            return (server.results, false, now);
        }
        let pace = server.paced.as_ref().and_then(|(pacer, _)| pacer.next_deadline());
        let deadline = device.next_deadline().into_iter().chain(pace).min().expect("something to wait for");
        now = now.max(deadline);
        if let Some((pacer, head)) = &mut server.paced
            && let Some(part) = pacer.poll(now)
        {
            let body = &image[part.start as usize..part.end as usize];
            let bytes = [&core::mem::take(head)[..], body].concat();
            deliver(&mut device, now, Link::Download, &bytes);
        }
        device.handle_deadline(now);
    }
    panic!("no end: {:?} {:?}", device.state(), server.results);
}

#[test]
fn every_generation_is_upgraded_over_a_good_network() {
    for (profile, length, within) in [
        (Profile::OLD, 104_276, 30),
        (Profile::RANGES, 104_276, 6),
        (Profile::LATER, 104_276, 6),
        (Profile::RANGES, 1, 6),
        (Profile::RANGES, 4096, 6),
        (Profile::LATER, 471_040, 6),
    ] {
        let (results, good, time) = run(profile, length, &Vec::new(), 1400);
        let expected: &[u16] = if profile == Profile::LATER { &[0, 0] } else { &[0] };
        assert_eq!((&results[..], good), (expected, true), "{profile:?} {length}");
        assert!(time.as_secs() <= within, "{time:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_success_is_always_a_right_image_and_a_failure_is_told(
        choice in 0usize..3,
        length in 1usize..40_000,
        breaks in proptest::collection::vec((0u8..40, any::<u16>()), 0..6),
        piece in 1usize..3000,
    ) {
        let profile = [Profile::OLD, Profile::RANGES, Profile::LATER][choice];
        let (results, good, _) = run(profile, length, &breaks, piece);
        prop_assert!(good || results.last() == Some(&404), "{:?}", results);
        // Three times it goes on where it was.
        prop_assert!(good || profile == Profile::OLD || breaks.len() > 3, "{:?}", results);
    }
}
