//! Simulated devices, a server, and a network between them that can break, under one virtual clock.

use core::net::IpAddr;
use core::time::Duration;
use sha2::{Digest, Sha256};
use spark_ota::esp8266::Slot;
use spark_ota::sonoff::device::{Device, Identity, Link, Output as DeviceOutput, Profile};
use spark_ota::sonoff::provisioning::Access;
use spark_ota::sonoff::server::{
    Config, ConnectionId, Event, Files, Output, Policy, Report, Role, Service, Stage,
};
use spark_ota::sonoff::upgrade::{Candidate, Format, Offer, Warning};
use spark_ota::sonoff::{ApiKey, DeviceId, Model, Version};
use std::collections::BTreeMap;

pub(crate) const HOST: &str = "192.168.77.10";
pub(crate) const MODEL: &str = "ITA-GZ1-GL";
pub(crate) const OLD_VERSION: &str = "1.5.5";

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// The port of the images is closed.
    Firewall,
    /// The connection of the download breaks within the answer with this number, from 0.
    DownloadBreaks { answer: usize },
    /// The WebSocket breaks at this answer.
    SocketBreaks { answer: usize },
    /// Everything breaks at this answer, and nothing can be reached for that long.
    Wifi { answer: usize, outage: Duration },
    /// A byte of this answer is another one.
    Damage { answer: usize },
    /// The device starts the old image again.
    DoesNotBoot,
    /// The images are linked for each other's slot, and nobody has noticed.
    WrongSlot,
    /// The device closes its WebSocket when it is offered an upgrade, so many times.
    ClosesOnOffer { times: usize },
}

struct Node {
    device: Device,
    profile: Profile,
    access: Access,
    address: IpAddr,
    links: BTreeMap<ConnectionId, Link>,
    flash: Vec<u8>,
    answers: usize,
    outage_until: Duration,
    closed_on_offer: usize,
}

pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) service: Service,
    pub(crate) images: [Vec<u8>; 2],
    pub(crate) faults: Vec<Fault>,
    pub(crate) reports: Vec<Report>,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) auto_restart: Option<bool>,
    nodes: Vec<Node>,
    offered: Vec<DeviceId>,
    keys: u8,
}

pub(crate) fn image(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i * 31 % 253).unwrap()).collect()
}

pub(crate) fn device_id(number: usize) -> DeviceId {
    DeviceId::new(&format!("1000abcd{number:02x}")).unwrap()
}

pub(crate) fn identity(number: usize) -> Identity {
    Identity {
        device_id: device_id(number),
        factory_key: ApiKey::from_random([0x40 + u8::try_from(number).unwrap(); 16]),
        model: Model::new(MODEL).unwrap(),
        rom_version: Version::new(OLD_VERSION).unwrap(),
        running: if number.is_multiple_of(2) { Slot::User1 } else { Slot::User2 },
    }
}

pub(crate) fn path(slot: Slot) -> String {
    format!("/ota/{}", slot.file_name())
}

impl World {
    pub(crate) fn new(policy: Policy, length: usize, faults: &[Fault]) -> Self {
        let mut images = [image(length), image(length + 1)];
        // What a boot stage looks at here.
        for (slot, image) in Slot::ALL.into_iter().zip(&mut images) {
            let slot = if faults.contains(&Fault::WrongSlot) { slot.other() } else { slot };
            if let Some(first) = image.first_mut() {
                *first = slot.number();
            }
        }
        let mut files = Files::new();
        for (slot, image) in Slot::ALL.into_iter().zip(&images) {
            files.add(&path(slot), Role::Upgrade(slot), u32::try_from(image.len()).unwrap()).unwrap();
        }
        let config = Config { policy, ..Config::default() };
        Self {
            now: Duration::from_secs(7),
            service: Service::new(config, files, 1_795_232_913_130),
            images,
            faults: faults.to_vec(),
            reports: Vec::new(),
            warnings: Vec::new(),
            auto_restart: Some(true),
            nodes: Vec::new(),
            offered: Vec::new(),
            keys: 0,
        }
    }

    pub(crate) fn add_device(&mut self, profile: Profile) -> DeviceId {
        let number = self.nodes.len();
        let access = Access::new("testnet", "secret-123", HOST, 8443).unwrap();
        self.nodes.push(Node {
            device: Device::with_access(self.now, identity(number), profile, access.clone()),
            profile,
            access,
            address: [192, 168, 77, 20 + u8::try_from(number).unwrap()].into(),
            links: BTreeMap::new(),
            flash: vec![0xff; 1 << 20],
            answers: 0,
            outage_until: Duration::ZERO,
            closed_on_offer: 0,
        });
        device_id(number)
    }

    pub(crate) fn offer(&self) -> Offer {
        let candidates = Slot::ALL.into_iter().zip(&self.images).map(|(slot, image)| Candidate {
            slot,
            url: format!("http://{HOST}:8080{}", path(slot)),
            digest: hex::encode(Sha256::digest(image)),
            size: u32::try_from(image.len()).unwrap(),
            format: Format::V2,
            linked_for: Some(slot),
        });
        Offer::new(MODEL, candidates.collect())
    }

    fn key(&mut self) -> ApiKey {
        self.keys += 1;
        ApiKey::from_random([self.keys; 16])
    }

    pub(crate) fn stage(&self, device: &DeviceId) -> Option<Stage> {
        self.service.session(device).and_then(|session| session.stage().cloned())
    }

    pub(crate) fn events(&self, device: &DeviceId) -> Vec<Event> {
        let of = |report: &Report| match report {
            Report::Device { device_id, event } if device_id == device => Some(event.clone()),
            _ => None,
        };
        self.reports.iter().filter_map(of).collect()
    }

    pub(crate) fn flash(&self, number: usize) -> &[u8] {
        &self.nodes[number].flash
    }

    /// Until every upgrade has come to an end, or the time is over.
    pub(crate) fn run(&mut self, limit: Duration) {
        let end = self.now + limit;
        while self.now < end {
            self.settle();
            let ids: Vec<_> = (0..self.nodes.len()).map(device_id).collect();
            if ids.iter().all(|id| self.stage(id).is_some_and(|stage| stage.is_end())) {
                return;
            }
            let devices = self.nodes.iter().filter_map(|node| node.device.next_deadline());
            let next = devices.chain(self.service.next_deadline()).min().unwrap_or(end);
            self.now = self.now.max(next.min(end));
            for number in 0..self.nodes.len() {
                let now = self.now;
                self.nodes[number].device.handle_deadline(now);
            }
            self.service.handle_deadline(self.now);
        }
    }

    /// For some time more.
    pub(crate) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.settle();
            let devices = self.nodes.iter().filter_map(|node| node.device.next_deadline());
            let next = devices.chain(self.service.next_deadline()).min().unwrap_or(end);
            self.now = self.now.max(next.min(end));
            for node in &mut self.nodes {
                node.device.handle_deadline(self.now);
            }
            self.service.handle_deadline(self.now);
        }
        self.settle();
    }

    /// Until nobody has anything to say.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut quiet = true;
            for number in 0..self.nodes.len() {
                while let Some(output) = self.nodes[number].device.poll_output() {
                    quiet = false;
                    self.device_says(number, output);
                }
            }
            while let Some(id) = self.service.poll_connection() {
                quiet = false;
                self.service_says(id);
            }
            while let Some(report) = self.service.poll_report() {
                quiet = false;
                self.told(report);
            }
            if quiet {
                return;
            }
        }
        panic!("no end");
    }

    fn told(&mut self, report: Report) {
        if let Report::Device { device_id, event: Event::Ready } = &report
            && !self.offered.contains(device_id)
        {
            self.offered.push(*device_id);
            let offer = Offer { auto_restart: self.auto_restart, ..self.offer() };
            let warnings = self.service.offer(self.now, device_id, &offer).unwrap();
            self.warnings.extend(warnings);
        }
        self.reports.push(report);
    }

    fn connection(&self, number: usize, link: Link) -> Option<ConnectionId> {
        self.nodes[number].links.iter().find(|(_, found)| **found == link).map(|(id, _)| *id)
    }

    /// Both ends hear that a connection is gone.
    pub(crate) fn cut(&mut self, number: usize, link: Link) {
        if let Some(id) = self.connection(number, link) {
            self.nodes[number].links.remove(&id);
            self.service.closed(self.now, id, false);
            self.nodes[number].device.closed(self.now, link);
        }
    }

    fn device_says(&mut self, number: usize, output: DeviceOutput) {
        let now = self.now;
        match output {
            DeviceOutput::Join(_) => {
                let joined = now >= self.nodes[number].outage_until;
                self.nodes[number].device.joined(now, joined);
            }
            DeviceOutput::Connect { link, host, port, .. } => {
                assert_eq!(host, HOST);
                let is_image = link == Link::Download;
                assert_eq!(port, if is_image { 8080 } else { 8443 });
                let node = &mut self.nodes[number];
                if now < node.outage_until || is_image && self.faults.contains(&Fault::Firewall) {
                    return node.device.closed(now, link);
                }
                let address = node.address;
                let key = self.key();
                let id = self.service.connected(now, address, key, HOST, 8443).unwrap();
                self.nodes[number].links.insert(id, link);
                self.nodes[number].device.connected(now, link);
            }
            DeviceOutput::Send { link, bytes } => {
                if let Some(id) = self.connection(number, link) {
                    self.service.handle_input(now, id, &bytes);
                }
            }
            DeviceOutput::Close(link) => {
                if let Some(id) = self.connection(number, link) {
                    self.nodes[number].links.remove(&id);
                    self.service.closed(now, id, true);
                }
            }
            DeviceOutput::Switch(_) => {}
            DeviceOutput::Erase { address } => {
                let at = address as usize;
                self.nodes[number].flash[at..at + 4096].fill(0xff);
            }
            DeviceOutput::Write { address, data } => {
                let at = address as usize;
                self.nodes[number].flash[at..at + data.len()].copy_from_slice(&data);
            }
            DeviceOutput::Hash { address, length } => {
                let node = &mut self.nodes[number];
                let digest = Sha256::digest(&node.flash[address as usize..][..length as usize]);
                node.device.hashed(now, digest.into());
            }
            DeviceOutput::Reboot(slot) => {
                for link in [Link::Dispatch, Link::WebSocket, Link::Download] {
                    self.cut(number, link);
                }
                let node = &mut self.nodes[number];
                let mut identity = node.device.identity().clone();
                let fits = node.flash[slot.flash_offset() as usize] == slot.number();
                if fits && !self.faults.contains(&Fault::DoesNotBoot) {
                    (identity.running, identity.rom_version) = (slot, Version::new("9.9.9").unwrap());
                }
                node.device = Device::with_access(now, identity, node.profile, node.access.clone());
            }
            other => panic!("{other:?}"),
        }
    }

    fn service_says(&mut self, id: ConnectionId) {
        while let Some(output) = self.service.poll_output(self.now, id) {
            let number = (0..self.nodes.len()).find(|number| self.nodes[*number].links.contains_key(&id));
            match output {
                Output::Send(bytes) => {
                    if let Some(number) = number {
                        self.deliver(number, id, &bytes);
                    }
                }
                Output::SendFile { file, range } => {
                    let bytes = self.images[file.index()][range.start as usize..range.end as usize].to_vec();
                    if let Some(number) = number {
                        self.answer(number, id, bytes);
                    }
                }
                Output::Finish | Output::Close => {
                    if let Some(number) = number
                        && let Some(link) = self.nodes[number].links.remove(&id)
                    {
                        if output == Output::Finish {
                            self.service.closed(self.now, id, true);
                        }
                        self.nodes[number].device.closed(self.now, link);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn deliver(&mut self, number: usize, id: ConnectionId, bytes: &[u8]) {
        let Some(link) = self.nodes[number].links.get(&id).copied() else { return };
        let is_offer = link == Link::WebSocket
            && bytes.windows(7).any(|word| word == b"upgrade")
            && bytes.windows(7).any(|word| word == b"binList");
        if is_offer {
            let times = self.faults.iter().find_map(|fault| match fault {
                Fault::ClosesOnOffer { times } => Some(*times),
                _ => None,
            });
            let node = &mut self.nodes[number];
            node.closed_on_offer += 1;
            if times.is_some_and(|times| node.closed_on_offer <= times) {
                return self.cut(number, Link::WebSocket);
            }
        }
        self.nodes[number].device.handle_input(self.now, link, bytes);
    }

    /// Bytes of an image, through what can happen to them.
    fn answer(&mut self, number: usize, id: ConnectionId, mut bytes: Vec<u8>) {
        let node = &mut self.nodes[number];
        let answer = node.answers;
        node.answers += 1;
        for fault in self.faults.clone() {
            match fault {
                Fault::DownloadBreaks { answer: at } if at == answer => {
                    self.deliver(number, id, &bytes[..bytes.len() / 2]);
                    return self.cut(number, Link::Download);
                }
                Fault::SocketBreaks { answer: at } if at == answer => self.cut(number, Link::WebSocket),
                Fault::Wifi { answer: at, outage } if at == answer => {
                    self.nodes[number].outage_until = self.now + outage;
                    self.cut(number, Link::Download);
                    return self.cut(number, Link::WebSocket);
                }
                Fault::Damage { answer: at } if at == answer => bytes[0] ^= 1,
                _ => {}
            }
        }
        self.deliver(number, id, &bytes);
    }
}
