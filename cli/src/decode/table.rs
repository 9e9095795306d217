//! The connections of a capture.

use super::connection::Connection;
use super::record::{Record, What};
use super::segment::{Packet, Segment, parse};
use super::{Known, Speaker};
use core::time::Duration;
use pcap_file::DataLink;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

/// Connections that are followed at the same time, some 200 KiB each at the very most.
const MAX_CONNECTIONS: usize = 1024;
/// Ports that are named when none fits.
const MAX_PORTS: usize = 8;

type Key = (SocketAddr, SocketAddr);

/// Sorts packets by connection.
pub(super) struct Table {
    ports: Vec<u16>,
    connections: HashMap<Key, Slot>,
    packets: u64,
    at: Option<Duration>,
    fragments: u64,
    unknown_links: BTreeSet<u32>,
    other_ports: BTreeSet<u16>,
    found: u64,
}

struct Slot {
    /// When it had its latest packet.
    latest: u64,
    /// `None` when it is over: what is still sent then is repeated.
    connection: Option<Connection>,
}

impl Table {
    /// Servers listen on these ports.
    pub(super) fn new(ports: Vec<u16>) -> Self {
        Self {
            ports,
            connections: HashMap::new(),
            packets: 0,
            at: None,
            fragments: 0,
            unknown_links: BTreeSet::new(),
            other_ports: BTreeSet::new(),
            found: 0,
        }
    }

    /// Takes a packet.
    pub(super) fn packet(
        &mut self,
        at: Option<Duration>,
        link: DataLink,
        bytes: &[u8],
        known: &Known,
        out: &mut Vec<Record>,
    ) {
        self.packets += 1;
        self.at = at;
        match parse(link, bytes) {
            Packet::Tcp(segment) => self.segment(&segment, known, out),
            Packet::Fragment => self.fragments += 1,
            Packet::UnknownLink => drop(self.unknown_links.insert(link.into())),
            Packet::Other => {}
        }
    }

    fn segment(&mut self, segment: &Segment<'_>, known: &Known, out: &mut Vec<Record>) {
        let to_server = self.ports.contains(&segment.to.port());
        let from_server = self.ports.contains(&segment.from.port());
        let speaker = match (to_server, from_server) {
            (true, false) => Speaker::Device,
            (false, true) => Speaker::Server,
            (true, true) if self.connections.contains_key(&(segment.to, segment.from)) => Speaker::Server,
            (true, true) => Speaker::Device,
            (false, false) => {
                if segment.syn && segment.ack.is_none() && self.other_ports.len() < MAX_PORTS {
                    self.other_ports.insert(segment.to.port());
                }
                return;
            }
        };
        let key = match speaker {
            Speaker::Device => (segment.from, segment.to),
            Speaker::Server => (segment.to, segment.from),
        };
        let begins = segment.syn && segment.ack.is_none() && speaker == Speaker::Device;
        let is_new = match self.connections.get(&key) {
            None => segment.syn || !segment.payload.is_empty(),
            Some(Slot { connection: Some(connection), .. }) => begins && !connection.began_with(segment.seq),
            Some(_) => begins,
        };
        if is_new {
            self.open(key, segment.syn, known, out);
        }
        let latest = self.packets;
        let Some(slot) = self.connections.get_mut(&key) else { return };
        slot.latest = latest;
        let Some(connection) = &mut slot.connection else { return };
        connection.handle(speaker, segment, self.at, known, out);
        if (segment.reset || connection.is_over())
            && let Some(connection) = slot.connection.take()
        {
            connection.end(self.at, known, out);
        }
    }

    fn open(&mut self, key: Key, at_start: bool, known: &Known, out: &mut Vec<Record>) {
        self.found += 1;
        let oldest = self.connections.iter().min_by_key(|(_, slot)| slot.latest).map(|(key, _)| *key);
        let replaced = if self.connections.contains_key(&key) {
            Some(key)
        } else {
            oldest.filter(|_| self.connections.len() >= MAX_CONNECTIONS)
        };
        if let Some(old) =
            replaced.and_then(|key| self.connections.remove(&key)).and_then(|slot| slot.connection)
        {
            old.end(self.at, known, out);
        }
        let connection = Connection::new(key.0, key.1, at_start, known);
        out.push(connection.opened(self.at));
        self.connections.insert(key, Slot { latest: self.packets, connection: Some(connection) });
    }

    /// The capture is at its end.
    pub(super) fn end(&mut self, known: &Known, out: &mut Vec<Record>) {
        let mut rest: Vec<Slot> = self.connections.drain().map(|(_, slot)| slot).collect();
        rest.sort_by_key(|slot| slot.latest);
        for connection in rest.into_iter().filter_map(|slot| slot.connection) {
            connection.end(self.at, known, out);
        }
        let mut trouble = |code, message, next| {
            let what = What::Trouble { code, message, next, offset: None };
            out.push(Record { at: None, connection: None, speaker: None, what });
        };
        if !self.unknown_links.is_empty() {
            let links = list(&self.unknown_links);
            let next = "capture on Ethernet, Linux cooked, loopback or raw IP";
            trouble("unknown-link", format!("packets of link type {links} cannot be read"), Some(next));
        }
        if self.fragments > 0 {
            let message = format!("{} fragments of IP packets were not put together", self.fragments);
            trouble("fragments", message, None);
        }
        if self.found == 0 {
            let others = if self.other_ports.is_empty() {
                String::new()
            } else {
                format!("; connections to other ports begin in it: {}", list(&self.other_ports))
            };
            let message = format!(
                "none of the {} packets belongs to a TCP connection to port {}{others}",
                self.packets,
                list(&self.ports)
            );
            trouble("no-connection", message, Some("give the server's port with --port"));
        }
    }
}

fn list<'a, T: ToString + 'a>(items: impl IntoIterator<Item = &'a T>) -> String {
    items.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
