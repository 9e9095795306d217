//! A device brought into any state, and what has come out of it.

use core::time::Duration;
use sha2::{Digest, Sha256};
use spark_ota::sonoff::device::{Device, Identity, Link, Output, Profile};
use spark_ota::sonoff::dispatch::DispatchAnswer;
use spark_ota::sonoff::frame::{Decoded, End, Frame, decode, server_text};
use spark_ota::sonoff::http::{RequestHead, answer};
use spark_ota::sonoff::message::{
    Date, DeviceBody, DeviceMessage, Entry, ServerBody, ServerMessage, Upgrade,
};
use spark_ota::sonoff::provisioning::Access;
use spark_ota::sonoff::upgrade::Slot;
use spark_ota::sonoff::{ApiKey, DeviceId, Model, Sequence, ServerName, Text, Version, handshake, limits};

pub(crate) const NOW: Duration = Duration::ZERO;
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MODEL: &str = "ITA-GZ1-GL";

pub(crate) fn factory_key() -> ApiKey {
    ApiKey::new("11111111-2222-4333-8444-555555555555").unwrap()
}

pub(crate) fn session_key() -> ApiKey {
    ApiKey::from_random([7; 16])
}

pub(crate) fn access() -> Access {
    Access::new("testnet", "secret-123", "192.168.77.10", 8443).unwrap()
}

pub(crate) fn identity() -> Identity {
    Identity {
        device_id: DeviceId::new("1000abcdef").unwrap(),
        factory_key: factory_key(),
        model: Model::new(MODEL).unwrap(),
        rom_version: Version::new("1.5.5").unwrap(),
        running: Slot::User1,
    }
}

pub(crate) fn image() -> Vec<u8> {
    (0..10_000u32).map(|i| (i * 7 % 251) as u8).collect()
}

/// A device and what has come out of it.
pub(crate) struct Bench {
    pub(crate) device: Device,
    pub(crate) now: Duration,
    pub(crate) outputs: Vec<Output>,
}

impl Bench {
    pub(crate) fn new(device: Device) -> Self {
        let mut bench = Self { device, now: NOW, outputs: Vec::new() };
        bench.drain();
        bench
    }

    pub(crate) fn drain(&mut self) {
        while let Some(output) = self.device.poll_output() {
            self.outputs.push(output);
        }
    }

    pub(crate) fn input(&mut self, link: Link, bytes: &[u8]) {
        self.device.handle_input(self.now, link, bytes);
        self.drain();
    }

    pub(crate) fn connected(&mut self, link: Link) {
        self.device.connected(self.now, link);
        self.drain();
    }

    pub(crate) fn closed(&mut self, link: Link) {
        self.device.closed(self.now, link);
        self.drain();
    }

    /// To the next deadline.
    pub(crate) fn tick(&mut self) -> Duration {
        let deadline = self.device.next_deadline().expect("a deadline");
        self.device.handle_deadline(deadline.saturating_sub(Duration::from_millis(1)));
        assert_eq!(self.device.poll_output(), None, "too early");
        let waited = deadline.saturating_sub(self.now);
        self.now = self.now.max(deadline);
        self.device.handle_deadline(self.now);
        self.drain();
        waited
    }

    pub(crate) fn send(&mut self, sequence: Option<&str>, body: ServerBody) {
        let message = ServerMessage {
            device_id: identity().device_id,
            api_key: session_key(),
            sequence: sequence.map(|text| Sequence::new(text).unwrap()),
            body,
        };
        self.send_json(&message.to_json().unwrap());
    }

    pub(crate) fn send_json(&mut self, json: &str) {
        self.input(Link::WebSocket, &server_text(json).unwrap());
    }

    /// Messages that were sent since the last call.
    pub(crate) fn said(&mut self) -> Vec<DeviceBody> {
        let mut said = Vec::new();
        for output in core::mem::take(&mut self.outputs) {
            if let Output::Send { link: Link::WebSocket, bytes } = &output
                && let Ok(Decoded::Frame { frame: Frame::Text(json), .. }) = decode(End::Device, bytes)
            {
                said.push(DeviceMessage::parse(&json).unwrap().body);
            }
        }
        said
    }

    pub(crate) fn take(&mut self) -> Vec<Output> {
        core::mem::take(&mut self.outputs)
    }

    pub(crate) fn gets(&mut self) -> Vec<RequestHead> {
        self.take()
            .into_iter()
            .filter_map(|output| match output {
                Output::Send { link: Link::Download, bytes } => {
                    Some(RequestHead::parse(&bytes).unwrap().unwrap().0)
                }
                _ => None,
            })
            .collect()
    }
}

pub(crate) fn joining(profile: Profile) -> Bench {
    Bench::new(Device::with_access(NOW, identity(), profile, access()))
}

pub(crate) fn dispatching(profile: Profile) -> Bench {
    let mut bench = joining(profile);
    bench.device.joined(NOW, true);
    bench.drain();
    bench.connected(Link::Dispatch);
    bench
}

pub(crate) fn opening(profile: Profile) -> Bench {
    let mut bench = dispatching(profile);
    assert_eq!(bench.tick(), limits::DISPATCH_DELAY);
    let server = DispatchAnswer::Server { ip: ServerName::new("192.168.77.11").unwrap(), port: 443 };
    bench.input(Link::Dispatch, &server.to_http());
    bench.connected(Link::WebSocket);
    bench
}

pub(crate) fn registering(profile: Profile) -> Bench {
    let mut bench = opening(profile);
    let (head, _) = RequestHead::parse(&handshake::request()).unwrap().unwrap();
    bench.input(Link::WebSocket, &handshake::answer(&head).unwrap());
    bench
}

pub(crate) fn dating(profile: Profile) -> Bench {
    let mut bench = registering(profile);
    bench.send(None, ServerBody::Registered { hb_interval: 145 });
    bench
}

pub(crate) fn ready(profile: Profile) -> Bench {
    let mut bench = dating(profile);
    bench.send(None, ServerBody::Date { date: Date::from_unix_milliseconds(0) });
    bench.said();
    bench
}

pub(crate) fn entry(slot: Slot) -> Entry {
    Entry {
        name: Text::new(slot.file_name()).unwrap(),
        download_url: Text::new(&format!("http://192.168.77.10:8080/ota/{}", slot.file_name())).unwrap(),
        digest: Text::new(&hex::encode(Sha256::digest(image()))).unwrap(),
    }
}

pub(crate) fn upgrade() -> Upgrade {
    Upgrade {
        model: Model::new(MODEL).unwrap(),
        version: Version::new("9.9.9").unwrap(),
        auto_restart: Some(true),
        bin_list: Slot::ALL.map(entry).to_vec(),
    }
}

pub(crate) fn upgrading(profile: Profile) -> Bench {
    let mut bench = ready(profile);
    bench.send(Some("7"), ServerBody::Upgrade(upgrade()));
    bench.tick();
    bench.connected(Link::Download);
    bench
}

/// Answers the request for a chunk as our server does it.
pub(crate) fn serve(bench: &mut Bench, get: &RequestHead) {
    let image = image();
    let answer = answer(get, u32::try_from(image.len()).unwrap(), "user2.bin");
    let body = &image[answer.body.start as usize..answer.body.end as usize];
    let bytes = [&answer.head[..], body].concat();
    bench.input(Link::Download, &bytes);
}

pub(crate) fn verifying(profile: Profile) -> Bench {
    let mut bench = upgrading(profile);
    for _ in 0..3 {
        let gets = bench.gets();
        serve(&mut bench, &gets[0]);
    }
    bench
}

pub(crate) fn hashed(bench: &mut Bench) {
    bench.device.hashed(bench.now, Sha256::digest(image()).into());
    bench.drain();
}

pub(crate) fn rebooting(profile: Profile) -> Bench {
    let mut bench = verifying(profile);
    hashed(&mut bench);
    bench
}

pub(crate) fn off() -> Bench {
    let mut bench = rebooting(Profile::RANGES);
    bench.tick();
    bench
}

pub(crate) fn pairing() -> Bench {
    Bench::new(Device::pairing(NOW, identity(), Profile::RANGES))
}

pub(crate) fn result(error: u16, sequence: Option<&str>) -> DeviceBody {
    DeviceBody::Result { error, sequence: sequence.map(|text| Text::new(text).unwrap()) }
}
