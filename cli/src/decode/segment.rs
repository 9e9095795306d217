//! From a captured packet to a TCP segment.

use etherparse::{EtherType, LaxNetSlice, LaxSlicedPacket, TransportSlice};
use pcap_file::DataLink;
use std::net::{IpAddr, SocketAddr};

/// A TCP segment.
#[derive(Debug)]
pub(super) struct Segment<'a> {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) seq: u32,
    /// What the sender has received.
    pub(super) ack: Option<u32>,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) reset: bool,
    pub(super) payload: &'a [u8],
}

/// What a packet is.
#[derive(Debug)]
pub(super) enum Packet<'a> {
    Tcp(Segment<'a>),
    /// One part of a fragmented IP packet.
    Fragment,
    /// Something else, or cut before the end of its headers.
    Other,
    /// The link layer is not known here.
    UnknownLink,
}

/// Ethernet type of what follows the 4-byte address family of BSD loopback: the IP version says it as well.
const NULL_HEADER: usize = 4;
const SLL_HEADER: usize = 16;
const SLL2_HEADER: usize = 20;

/// Finds the segment in a packet of this link layer.
pub(super) fn parse(link: DataLink, packet: &[u8]) -> Packet<'_> {
    let sliced = match link {
        DataLink::ETHERNET => LaxSlicedPacket::from_ethernet(packet).ok(),
        DataLink::RAW | DataLink::IPV4 | DataLink::IPV6 => LaxSlicedPacket::from_ip(packet).ok(),
        // 12 and 14 are what some systems write for raw IP.
        DataLink::Unknown(12 | 14) => LaxSlicedPacket::from_ip(packet).ok(),
        DataLink::NULL | DataLink::LOOP => {
            packet.get(NULL_HEADER..).and_then(|ip| LaxSlicedPacket::from_ip(ip).ok())
        }
        DataLink::LINUX_SLL => cooked(packet, SLL_HEADER, 14),
        DataLink::LINUX_SLL2 | DataLink::Unknown(276) => cooked(packet, SLL2_HEADER, 0),
        _ => return Packet::UnknownLink,
    };
    let Some(sliced) = sliced else { return Packet::Other };
    let (from, to, fragmented) = match &sliced.net {
        Some(LaxNetSlice::Ipv4(ip)) => (
            IpAddr::from(ip.header().source()),
            IpAddr::from(ip.header().destination()),
            ip.payload().fragmented,
        ),
        Some(LaxNetSlice::Ipv6(ip)) => (
            IpAddr::from(ip.header().source()),
            IpAddr::from(ip.header().destination()),
            ip.payload().fragmented,
        ),
        _ => return Packet::Other,
    };
    if fragmented {
        return Packet::Fragment;
    }
    let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { return Packet::Other };
    Packet::Tcp(Segment {
        from: SocketAddr::new(from, tcp.source_port()),
        to: SocketAddr::new(to, tcp.destination_port()),
        seq: tcp.sequence_number(),
        ack: tcp.ack().then(|| tcp.acknowledgment_number()),
        syn: tcp.syn(),
        fin: tcp.fin(),
        reset: tcp.rst(),
        payload: tcp.payload(),
    })
}

/// Linux's cooked captures: the Ethernet type is in the header.
fn cooked(packet: &[u8], header: usize, type_at: usize) -> Option<LaxSlicedPacket<'_>> {
    let (head, rest) = packet.split_at_checked(header)?;
    let (kind, _) = head.get(type_at..)?.split_first_chunk::<2>()?;
    Some(LaxSlicedPacket::from_ether_type(EtherType(u16::from_be_bytes(*kind)), rest))
}
