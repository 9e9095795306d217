//! A Sonoff and its server, in memory: dispatch, WebSocket, an upgrade in ranges, and the restart with the new version.
//!
//! Whoever has sockets puts them in the place of the table of connections.

use core::error::Error;
use core::time::Duration;
use sha2::{Digest, Sha256};
use spark_ota::esp8266::Slot;
use spark_ota::sonoff::device::{Device, Identity, Link, Output as DeviceOutput, Profile};
use spark_ota::sonoff::provisioning::Access;
use spark_ota::sonoff::server::{Config, ConnectionId, Event, Files, Output, Report, Role, Service};
use spark_ota::sonoff::upgrade::{Candidate, Format, Offer};
use spark_ota::sonoff::{ApiKey, DeviceId, Model, Version};
use std::collections::HashMap;

const HOST: &str = "192.168.77.10";
const MODEL: &str = "ITA-GZ1-GL";

struct World {
    now: Duration,
    service: Service,
    device: Device,
    /// Where sockets would be.
    connections: HashMap<ConnectionId, Link>,
    images: [Vec<u8>; 2],
    flash: Vec<u8>,
    restarted: Option<Slot>,
}

impl World {
    fn connection(&self, link: Link) -> Option<ConnectionId> {
        self.connections.iter().find(|(_, found)| **found == link).map(|(id, _)| *id)
    }

    fn device(&mut self, output: DeviceOutput) -> Result<(), Box<dyn Error>> {
        let now = self.now;
        match output {
            DeviceOutput::Join(_) => self.device.joined(now, true),
            DeviceOutput::Connect { link, .. } => {
                let key = ApiKey::from_random([7; 16]);
                let id = self.service.connected(now, [192, 168, 77, 20].into(), key, HOST, 8443)?;
                self.connections.insert(id, link);
                self.device.connected(now, link);
            }
            DeviceOutput::Send { link, bytes } => {
                if let Some(id) = self.connection(link) {
                    self.service.handle_input(now, id, &bytes);
                }
            }
            DeviceOutput::Close(link) => {
                if let Some(id) = self.connection(link) {
                    self.connections.remove(&id);
                    self.service.closed(now, id, true);
                }
            }
            DeviceOutput::Erase { address } => {
                let at = usize::try_from(address)?;
                self.flash.get_mut(at..at + 4096).ok_or("beyond the flash")?.fill(0xff);
            }
            DeviceOutput::Write { address, data } => {
                let at = usize::try_from(address)?;
                let place = self.flash.get_mut(at..at + data.len());
                place.ok_or("beyond the flash")?.copy_from_slice(&data);
            }
            DeviceOutput::Hash { address, length } => {
                let (at, length) = (usize::try_from(address)?, usize::try_from(length)?);
                let written = self.flash.get(at..at + length).ok_or("beyond the flash")?;
                self.device.hashed(now, Sha256::digest(written).into());
            }
            DeviceOutput::Reboot(slot) => self.restarted = Some(slot),
            _ => {}
        }
        Ok(())
    }

    fn server(&mut self, id: ConnectionId, output: Output) -> Result<(), Box<dyn Error>> {
        let Some(link) = self.connections.get(&id).copied() else { return Ok(()) };
        match output {
            Output::Send(bytes) => self.device.handle_input(self.now, link, &bytes),
            Output::SendFile { file, range } => {
                let range = usize::try_from(range.start)?..usize::try_from(range.end)?;
                let image = self.images.get(file.index()).and_then(|image| image.get(range));
                let bytes = image.ok_or("beyond the image")?.to_vec();
                self.device.handle_input(self.now, link, &bytes);
            }
            _ => {
                self.connections.remove(&id);
                self.service.closed(self.now, id, true);
                self.device.closed(self.now, link);
            }
        }
        Ok(())
    }

    /// Until the device restarts.
    fn run(&mut self, offer: &Offer) -> Result<Slot, Box<dyn Error>> {
        loop {
            let mut quiet = true;
            while let Some(output) = self.device.poll_output() {
                quiet = false;
                self.device(output)?;
            }
            while let Some(id) = self.service.poll_connection() {
                quiet = false;
                while let Some(output) = self.service.poll_output(self.now, id) {
                    self.server(id, output)?;
                }
            }
            while let Some(report) = self.service.poll_report() {
                quiet = false;
                let Report::Device { device_id, event } = report else { continue };
                println!("{:7.3} s  {device_id}  {event:?}", self.now.as_secs_f64());
                if event == Event::Ready {
                    self.service
                        .offer(self.now, &device_id, offer)
                        .map_err(|refusals| format!("{refusals:?}"))?;
                }
            }
            if let Some(slot) = self.restarted {
                return Ok(slot);
            }
            if quiet {
                let next = self.device.next_deadline().into_iter().chain(self.service.next_deadline()).min();
                self.now = next.ok_or("nothing is to come")?;
                self.device.handle_deadline(self.now);
                self.service.handle_deadline(self.now);
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let images = [1_u8, 2].map(|number| vec![number; 20_000]);
    let mut files = Files::new();
    let mut candidates = Vec::new();
    for (slot, image) in Slot::ALL.into_iter().zip(&images) {
        let path = format!("/ota/{}", slot.file_name());
        let size = u32::try_from(image.len())?;
        files.add(&path, Role::Upgrade(slot), size)?;
        candidates.push(Candidate {
            slot,
            url: format!("http://{HOST}:8080{path}"),
            digest: Sha256::digest(image).iter().map(|byte| format!("{byte:02x}")).collect(),
            size,
            format: Format::V2,
            linked_for: Some(slot),
        });
    }
    let identity = Identity {
        device_id: DeviceId::new("1000abcdef")?,
        factory_key: ApiKey::new("11111111-2222-4333-8444-555555555555")?,
        model: Model::new(MODEL)?,
        rom_version: Version::new("1.5.5")?,
        running: Slot::User1,
    };
    let access = Access::new("testnet", "secret-123", HOST, 8443)?;
    let mut world = World {
        now: Duration::ZERO,
        service: Service::new(Config::default(), files, 1_795_232_913_130),
        device: Device::with_access(Duration::ZERO, identity, Profile::RANGES, access),
        connections: HashMap::new(),
        images,
        flash: vec![0xff; 1 << 20],
        restarted: None,
    };
    let slot = world.run(&Offer::new(MODEL, candidates))?;
    let at = usize::try_from(slot.flash_offset())?;
    let written = world.flash.get(at..at + 20_000).ok_or("beyond the flash")?;
    if Some(written) != world.images.get(1).map(Vec::as_slice) {
        return Err("the flash has another image".into());
    }
    println!("{:7.3} s  it restarts from {}", world.now.as_secs_f64(), slot.file_name());
    Ok(())
}
