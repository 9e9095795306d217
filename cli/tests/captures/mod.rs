//! Recorded sessions, and capture files made of them. Nothing here is shared with the reader under test.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    reason = "test code, each file uses its part of it"
)]

use coap_spark::session::{Sealer, SessionKeys};
use serde_json::Value;
use std::path::PathBuf;

pub const CLIENT: [u8; 4] = [10, 0, 0, 2];
const SERVER: [u8; 4] = [10, 0, 0, 1];

fn vectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../coap-spark/tests/vectors")
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

#[derive(Clone)]
pub struct Frame {
    pub wire: Vec<u8>,
    pub plaintext: Vec<u8>,
}

/// A session of the reference implementations.
#[derive(Clone)]
pub struct Recording {
    pub name: String,
    pub session: String,
    pub nonce: Vec<u8>,
    pub identity: Vec<u8>,
    pub session_message: Vec<u8>,
    pub from_device: Vec<Frame>,
    pub from_server: Vec<Frame>,
    /// Whose frame is next.
    pub order: Vec<bool>,
}

impl Recording {
    pub fn load(name: &str) -> Self {
        let json: Value = serde_json::from_slice(&std::fs::read(vectors().join(name)).unwrap()).unwrap();
        let mut recording = Self {
            name: name.to_owned(),
            session: json["session_hex"].as_str().unwrap().to_owned(),
            nonce: bytes(&json["server_nonce_hex"]),
            identity: bytes(&json["device_rsa_message_hex"]),
            session_message: bytes(&json["server_session_message_hex"]),
            from_device: Vec::new(),
            from_server: Vec::new(),
            order: Vec::new(),
        };
        for message in
            json["messages"].as_array().unwrap().iter().filter(|message| message["dir"].is_string())
        {
            let frame = Frame { wire: bytes(&message["wire_hex"]), plaintext: bytes(&message["coap_hex"]) };
            let from_device = message["dir"] == "device_to_server";
            if from_device { &mut recording.from_device } else { &mut recording.from_server }.push(frame);
            recording.order.push(from_device);
        }
        recording
    }

    pub fn all() -> Vec<Self> {
        let mut names: Vec<String> = std::fs::read_dir(vectors())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("session_"))
            .collect();
        names.sort();
        assert!(names.len() >= 11, "{names:?}");
        names.iter().map(|name| Self::load(name)).collect()
    }

    /// The same messages under other session bytes.
    pub fn sealed_with(&self, session: [u8; 40]) -> Self {
        let mut other = self.clone();
        other.session = hex::encode(session);
        for frames in [&mut other.from_device, &mut other.from_server] {
            let mut sealer = Sealer::new(&SessionKeys::new(session));
            for frame in frames {
                let mut out = vec![0; frame.plaintext.len() + 64];
                frame.wire = sealer.seal(&frame.plaintext, &mut out).unwrap().to_vec();
            }
        }
        other
    }
}

/// Files with the recorded keys.
pub struct KeyFiles {
    _folder: tempfile::TempDir,
    pub server: PathBuf,
    pub server_public: PathBuf,
    pub other_server: PathBuf,
    pub device: PathBuf,
}

pub fn keys() -> KeyFiles {
    let json: Value = serde_json::from_slice(&std::fs::read(vectors().join("keys.json")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let other = spark_keys::rsa_backend::generate_server_key(&mut rand::rng()).unwrap();
    let other = spark_keys::rsa_backend::private_key_pem(&other).unwrap();
    KeyFiles {
        server: write("server.pem", json["server_private_pem"].as_str().unwrap().as_bytes()),
        server_public: write("server.pub.der", &bytes(&json["server_public_der_hex"])),
        other_server: write("other.pem", other.as_bytes()),
        device: write("device.pem", json["device_private_pem"].as_str().unwrap().as_bytes()),
        _folder: folder,
    }
}

/// A TCP segment.
#[derive(Clone, Debug)]
pub struct Segment {
    pub from_client: bool,
    pub client_port: u16,
    pub server_port: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub payload: Vec<u8>,
    /// It carries part of a frame.
    pub is_frame: bool,
    /// Bytes of the payload that the capture has.
    pub kept: usize,
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// A whole connection, each message in segments of `size` bytes, each acknowledged.
pub fn conversation(recording: &Recording, size: usize) -> Vec<Segment> {
    let mut out = Vec::new();
    let (mut client, mut server) = (1000_u32, 5000_u32);
    let mut add = |from_client: bool, flags: u8, payload: &[u8], is_frame: bool| {
        let (seq, ack) = if from_client { (client, server) } else { (server, client) };
        out.push(Segment {
            from_client,
            client_port: 49152,
            server_port: 5683,
            seq,
            ack: if flags & ACK == 0 { 0 } else { ack },
            flags,
            payload: payload.to_vec(),
            is_frame,
            kept: payload.len(),
        });
        let used = u32::try_from(payload.len()).unwrap() + u32::from(flags & (SYN | FIN) != 0);
        if from_client {
            client = client.wrapping_add(used);
        } else {
            server = server.wrapping_add(used);
        }
    };
    add(true, SYN, &[], false);
    add(false, SYN | ACK, &[], false);
    add(true, ACK, &[], false);
    let mut say = |from_client: bool, message: &[u8], is_frame: bool| {
        for part in message.chunks(size) {
            add(from_client, ACK, part, is_frame);
            add(!from_client, ACK, &[], false);
        }
    };
    say(false, &recording.nonce, false);
    say(true, &recording.identity, false);
    say(false, &recording.session_message, false);
    let (mut device, mut server_frames) = (recording.from_device.iter(), recording.from_server.iter());
    for &from_device in &recording.order {
        let frame = if from_device { device.next() } else { server_frames.next() };
        say(from_device, &frame.unwrap().wire, true);
    }
    add(true, FIN | ACK, &[], false);
    add(false, FIN | ACK, &[], false);
    add(true, ACK, &[], false);
    out
}

/// Forms of capture files.
#[derive(Clone, Copy, Debug)]
pub enum Format {
    Micros,
    MicrosBig,
    Nanos,
    NanosBig,
    NgMicros,
    NgNanos,
    NgBig,
    NgOldPackets,
}

impl Format {
    pub const ALL: [Self; 8] = [
        Self::Micros,
        Self::MicrosBig,
        Self::Nanos,
        Self::NanosBig,
        Self::NgMicros,
        Self::NgNanos,
        Self::NgBig,
        Self::NgOldPackets,
    ];

    fn is_big(self) -> bool {
        matches!(self, Self::MicrosBig | Self::NanosBig | Self::NgBig)
    }

    fn u16(self, value: u16) -> [u8; 2] {
        if self.is_big() { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn u32(self, value: u32) -> [u8; 4] {
        if self.is_big() { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let padding = body.len().next_multiple_of(4) - body.len();
        let len = u32::try_from(12 + body.len() + padding).unwrap();
        [&self.u32(kind)[..], &self.u32(len), body, &[0; 3][..padding], &self.u32(len)].concat()
    }
}

/// Link layers.
#[derive(Clone, Copy, Debug)]
pub enum Link {
    Ethernet,
    EthernetVlan,
    EthernetIpv6,
    LinuxSll,
    LinuxSll2,
    Raw,
    RawIpv6,
    Null,
    /// One that is not read.
    Wireless,
}

impl Link {
    pub const ALL: [Self; 8] = [
        Self::Ethernet,
        Self::EthernetVlan,
        Self::EthernetIpv6,
        Self::LinuxSll,
        Self::LinuxSll2,
        Self::Raw,
        Self::RawIpv6,
        Self::Null,
    ];

    fn number(self) -> u32 {
        match self {
            Self::Ethernet | Self::EthernetVlan | Self::EthernetIpv6 => 1,
            Self::LinuxSll => 113,
            Self::LinuxSll2 => 276,
            Self::Raw | Self::RawIpv6 => 101,
            Self::Null => 0,
            Self::Wireless => 105,
        }
    }

    fn is_v6(self) -> bool {
        matches!(self, Self::EthernetIpv6 | Self::RawIpv6)
    }

    fn wrap(self, ip: &[u8]) -> Vec<u8> {
        let kind: [u8; 2] = if self.is_v6() { [0x86, 0xdd] } else { [0x08, 0x00] };
        let mut packet = match self {
            Self::Ethernet | Self::EthernetIpv6 => [&[2; 12][..], &kind, ip].concat(),
            Self::EthernetVlan => [&[2; 12][..], &[0x81, 0x00, 0x00, 0x07], &kind, ip].concat(),
            Self::LinuxSll => [&[0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0][..], &kind, ip].concat(),
            Self::LinuxSll2 => [&kind[..], &[0; 18], ip].concat(),
            Self::Raw | Self::RawIpv6 | Self::Wireless => ip.to_vec(),
            Self::Null => [&[2, 0, 0, 0][..], ip].concat(),
        };
        // Short frames are filled up on the wire.
        if matches!(self, Self::Ethernet) && packet.len() < 60 {
            packet.resize(60, 0);
        }
        packet
    }
}

fn ip_packet(segment: &Segment, v6: bool) -> Vec<u8> {
    let (from_port, to_port) = if segment.from_client {
        (segment.client_port, segment.server_port)
    } else {
        (segment.server_port, segment.client_port)
    };
    let mut tcp = Vec::new();
    tcp.extend(from_port.to_be_bytes());
    tcp.extend(to_port.to_be_bytes());
    tcp.extend(segment.seq.to_be_bytes());
    tcp.extend(segment.ack.to_be_bytes());
    // 12 bytes of options, as almost every segment has today.
    tcp.extend([0x80, segment.flags, 0x10, 0, 0, 0, 0, 0]);
    tcp.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1]);
    tcp.extend(&segment.payload);
    let len = u16::try_from(tcp.len()).unwrap();
    let (from, to) = if segment.from_client { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
    let mut ip = if v6 {
        let mut ip = vec![0x60, 0, 0, 0];
        ip.extend(len.to_be_bytes());
        ip.extend([6, 64]);
        for address in [from, to] {
            ip.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            ip.extend(address);
        }
        ip
    } else {
        let mut ip = vec![0x45, 0];
        ip.extend((len + 20).to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        ip.extend(from);
        ip.extend(to);
        ip
    };
    ip.extend(tcp);
    ip
}

/// A capture file.
pub fn capture(segments: &[Segment], format: Format, link: Link) -> Vec<u8> {
    let packets = segments.iter().map(|segment| {
        let mut packet = link.wrap(&ip_packet(segment, link.is_v6()));
        let original = packet.len();
        packet.truncate(original - (segment.payload.len() - segment.kept));
        (packet, u32::try_from(original).unwrap())
    });
    let mut file = Vec::new();
    let nanos = matches!(format, Format::Nanos | Format::NanosBig | Format::NgNanos | Format::NgBig);
    let is_ng = matches!(format, Format::NgMicros | Format::NgNanos | Format::NgBig | Format::NgOldPackets);
    if is_ng {
        let section = [&format.u32(0x1a2b_3c4d)[..], &format.u16(1), &format.u16(0), &[0xff; 8]].concat();
        file.extend(format.block(0x0a0d_0d0a, &section));
        let mut interface = format.u16(u16::try_from(link.number()).unwrap()).to_vec();
        interface.extend([0, 0]);
        interface.extend(format.u32(262_144));
        if nanos {
            // if_tsresol: 10^-9
            interface.extend([&format.u16(9)[..], &format.u16(1), &[9, 0, 0, 0], &[0; 4]].concat());
        }
        file.extend(format.block(1, &interface));
        // A block that nobody needs to know.
        file.extend(format.block(0x0bad_0bad, &[1, 2, 3, 4]));
    } else {
        file.extend(format.u32(if nanos { 0xa1b2_3c4d } else { 0xa1b2_c3d4 }));
        file.extend([&format.u16(2)[..], &format.u16(4), &[0; 8]].concat());
        file.extend(format.u32(65_535));
        file.extend(format.u32(link.number()));
    }
    for (number, (packet, original)) in (0_u32..).zip(packets) {
        let kept = u32::try_from(packet.len()).unwrap();
        let fraction = number * 10 * if nanos { 1000 } else { 1 };
        if is_ng {
            let ticks =
                1_700_000_000 * if nanos { 1_000_000_000_u64 } else { 1_000_000 } + u64::from(fraction);
            let [high, low] = [ticks >> 32, ticks & 0xffff_ffff].map(|half| u32::try_from(half).unwrap());
            let is_old = matches!(format, Format::NgOldPackets);
            let interface =
                if is_old { [format.u16(0), format.u16(0xffff)].concat() } else { format.u32(0).to_vec() };
            let mut body = [&interface[..], &format.u32(high), &format.u32(low)].concat();
            body.extend(format.u32(kept));
            body.extend(format.u32(original));
            body.extend(&packet);
            file.extend(format.block(if is_old { 2 } else { 6 }, &body));
        } else {
            file.extend(format.u32(1_700_000_000));
            file.extend(format.u32(fraction));
            file.extend(format.u32(kept));
            file.extend(format.u32(original));
            file.extend(&packet);
        }
    }
    file
}
