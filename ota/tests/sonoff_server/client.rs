//! Connections to a service, byte for byte.

use core::time::Duration;
use serde_json::Value;
use spark_ota::esp8266::Slot;
use spark_ota::sonoff::frame::{Decoded, End, Frame, decode, device_text};
use spark_ota::sonoff::server::{Config, ConnectionId, Event, FileId, Files, Output, Report, Role, Service};
use spark_ota::sonoff::upgrade::{Candidate, Format, Offer};
use spark_ota::sonoff::{ApiKey, DeviceId, handshake};
use std::collections::HashMap;

pub(crate) const HOST: &str = "192.168.77.10";
pub(crate) const MODEL: &str = "ITA-GZ1-GL";
pub(crate) const FACTORY_KEY: &str = "11111111-2222-4333-8444-555555555555";
pub(crate) const SESSION_KEY: &str = "07070707-0707-4707-8707-070707070707";
pub(crate) const ID: &str = "1000abcdef";
pub(crate) const LENGTH: u32 = 10_000;

/// What was sent over a connection.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sent {
    Bytes(Vec<u8>),
    File(FileId, core::ops::Range<u32>),
    Finish,
    Close,
}

pub(crate) struct Bench {
    pub(crate) service: Service,
    pub(crate) now: Duration,
    pub(crate) reports: Vec<Report>,
    sent: HashMap<ConnectionId, Vec<Sent>>,
}

pub(crate) fn id() -> DeviceId {
    DeviceId::new(ID).unwrap()
}

impl Bench {
    pub(crate) fn new(config: Config) -> Self {
        let mut files = Files::new();
        for slot in Slot::ALL {
            files.add(&format!("/ota/{}", slot.file_name()), Role::Upgrade(slot), LENGTH).unwrap();
        }
        for role in [Role::FinalUser2, Role::FinalImage] {
            files.add(role.final_path().unwrap(), role, LENGTH).unwrap();
        }
        Self::with_files(config, files, 1_795_232_913_130)
    }

    pub(crate) fn with_files(config: Config, files: Files, unix_milliseconds: u64) -> Self {
        Self {
            service: Service::new(config, files, unix_milliseconds),
            now: Duration::ZERO,
            reports: Vec::new(),
            sent: HashMap::new(),
        }
    }

    pub(crate) fn connect_from(&mut self, peer: [u8; 4], key: &str) -> ConnectionId {
        self.service.connected(self.now, peer.into(), ApiKey::new(key).unwrap(), HOST, 8443).unwrap()
    }

    pub(crate) fn connect(&mut self) -> ConnectionId {
        self.connect_from([192, 168, 77, 20], SESSION_KEY)
    }

    /// What is sent over this connection until there is nothing to do, without waiting. What is sent over others is kept.
    pub(crate) fn drain(&mut self, connection: ConnectionId) -> Vec<Sent> {
        let mut next = Some(connection);
        while let Some(id) = next {
            while let Some(output) = self.service.poll_output(self.now, id) {
                self.sent.entry(id).or_default().push(match output {
                    Output::Send(bytes) => Sent::Bytes(bytes),
                    Output::SendFile { file, range } => Sent::File(file, range),
                    Output::Finish => Sent::Finish,
                    Output::Close => Sent::Close,
                    other => panic!("{other:?}"),
                });
            }
            next = self.service.poll_connection();
        }
        while let Some(report) = self.service.poll_report() {
            self.reports.push(report);
        }
        self.sent.remove(&connection).unwrap_or_default()
    }

    pub(crate) fn input(&mut self, connection: ConnectionId, bytes: &[u8]) -> Vec<Sent> {
        self.service.handle_input(self.now, connection, bytes);
        self.drain(connection)
    }

    /// Answers to a request over a connection of its own, with what follows.
    pub(crate) fn ask(&mut self, request: &str) -> (u16, Vec<Sent>) {
        let connection = self.connect();
        let sent = self.input(connection, request.as_bytes());
        let status = match sent.first() {
            Some(Sent::Bytes(bytes)) => String::from_utf8_lossy(&bytes[9..12]).parse().unwrap(),
            other => panic!("{other:?}"),
        };
        (status, sent)
    }

    pub(crate) fn websocket(&mut self) -> ConnectionId {
        let connection = self.connect();
        let sent = self.input(connection, &handshake::request());
        assert!(
            matches!(&sent[..], [Sent::Bytes(bytes)] if bytes.starts_with(handshake::SWITCHING.as_bytes()))
        );
        connection
    }

    /// Says JSON over a WebSocket, and gives what is said to it.
    pub(crate) fn say(&mut self, connection: ConnectionId, json: &str) -> Vec<Value> {
        let sent = self.input(connection, &device_text(json, [0; 4]).unwrap());
        messages(&sent)
    }

    pub(crate) fn register(&mut self, connection: ConnectionId, rom_version: &str) -> Vec<Value> {
        self.say(
            connection,
            &format!(
                r#"{{"userAgent":"device","apikey":"{FACTORY_KEY}","deviceid":"{ID}","action":"register","version":2,"romVersion":"{rom_version}","model":"{MODEL}","ts":970}}"#
            ),
        )
    }

    pub(crate) fn act(&mut self, connection: ConnectionId, rest: &str) -> Vec<Value> {
        self.say(
            connection,
            &format!(r#"{{"userAgent":"device","apikey":"{SESSION_KEY}","deviceid":"{ID}",{rest}}}"#),
        )
    }

    /// A device that is ready.
    pub(crate) fn ready(&mut self) -> ConnectionId {
        let connection = self.websocket();
        self.register(connection, "1.5.5");
        self.act(connection, r#""action":"date""#);
        self.act(connection, r#""action":"update","params":{"switch":"off"}"#);
        connection
    }

    /// Offers the images, and gives the number of the request.
    pub(crate) fn offer(&mut self, connection: ConnectionId) -> String {
        let warnings = self.service.offer(self.now, &id(), &offer()).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        sequence(&messages(&self.drain(connection)))
    }

    pub(crate) fn get(&mut self, slot: Slot, range: Option<(u32, u32)>) -> Vec<Sent> {
        let range =
            range.map_or_else(String::new, |(first, last)| format!("Range: bytes={first}-{last}\r\n"));
        let request = format!(
            "GET /ota/{}?deviceid={ID}&ts=1&sign={} HTTP/1.1\r\nHost: dl.itead.cn\r\n{range}\r\n",
            slot.file_name(),
            "0".repeat(64)
        );
        self.ask(&request).1
    }

    pub(crate) fn pass(&mut self, connection: ConnectionId, time: Duration) -> Vec<Sent> {
        let end = self.now + time;
        let mut sent = Vec::new();
        while let Some(deadline) = self.service.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.service.handle_deadline(self.now);
            sent.extend(self.drain(connection));
        }
        self.now = end;
        sent
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.reports.iter().filter_map(|report| report.event().cloned()).collect()
    }
}

pub(crate) fn offer() -> Offer {
    let candidates = Slot::ALL.map(|slot| Candidate {
        slot,
        url: format!("http://{HOST}:8080/ota/{}", slot.file_name()),
        digest: "ab".repeat(32),
        size: LENGTH,
        format: Format::V2,
        linked_for: Some(slot),
    });
    Offer::new(MODEL, candidates.to_vec())
}

pub(crate) fn messages(sent: &[Sent]) -> Vec<Value> {
    let text = |sent: &Sent| match sent {
        Sent::Bytes(bytes) => match decode(End::Server, bytes) {
            Ok(Decoded::Frame { frame: Frame::Text(json), used }) if used == bytes.len() => {
                Some(serde_json::from_slice(&json).unwrap())
            }
            _ => None,
        },
        _ => None,
    };
    sent.iter().filter_map(text).collect()
}

pub(crate) fn sequence(messages: &[Value]) -> String {
    let upgrade = messages.iter().find(|message| message["action"] == "upgrade").unwrap();
    upgrade["sequence"].as_str().unwrap().to_owned()
}
