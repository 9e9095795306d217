//! The 128-byte server address block.

mod deviation;
mod firmware;

pub use deviation::{Deviation, deviations};
pub use firmware::{FirmwareAddress, FirmwareHost, FirmwareParser};

use core::net::Ipv4Addr;

/// Length of the block.
pub const LEN: usize = 128;
/// Longest domain that every firmware resolves.
pub const MAX_DOMAIN: usize = 63;
/// Port of the TCP protocol (Core, Photon, P1) when the block names none.
pub const DEFAULT_PORT_TCP: u16 = 5683;
/// Port of the UDP protocol (Electron, Gen 3) when the block names none.
pub const DEFAULT_PORT_UDP: u16 = 5684;
/// Where a TCP device connects when its address is erased or unreadable.
pub const DEFAULT_DOMAIN_TCP: &str = "device.spark.io";
/// Size of the firmware's own buffer for an expanded name.
pub const EXPANDED_CAPACITY: usize = 96;

/// Where the port is in the block; see also [`KeyAlgorithm::server_port_at`](crate::segment::KeyAlgorithm::server_port_at).
pub const PORT_AT: usize = 66;

/// Server address of a device: host and port.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 1 | type: 0 IPv4, 1 domain, anything else (normally FF) none |
/// | 1 | 1 | length of the value; ignored for IPv4 |
/// | 2 | 64 | value: four octets in dotted order, or the domain without terminator |
/// | 66 | 2 | port, **big-endian**; 0000 and FFFF mean the default |
/// | 68 | 60 | FF |
///
/// ```
/// use spark_dct::ServerAddress;
/// let address = ServerAddress::domain("cloud.example.org", Some(5683))?;
/// let mut block = [0; 128];
/// address.encode_into(&mut block);
/// assert_eq!(ServerAddress::parse(&block)?, Some(address));
/// # Ok::<(), spark_dct::server_address::AddressError>(())
/// ```
///
/// # Source
/// `device-os@v0.4.0..v1.0.0: hal/shared/parse_server_address.h`, `particle-cli: src/cmd/keys.js`. Where they
/// disagree this crate accepts only what both understand: the firmware lets a domain of 64 to 126 bytes run into
/// the port, this parser reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ServerAddress<'a> {
    host: Host<'a>,
    port: Option<u16>,
}

/// Host of a [`ServerAddress`]. The set is closed: the block knows no third type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[allow(clippy::exhaustive_enums, reason = "the block's type byte has exactly two meanings")]
pub enum Host<'a> {
    /// Type 0.
    Ipv4(Ipv4Addr),
    /// Type 1: 1 to 63 bytes of ASCII, may contain `$id`.
    Domain(&'a str),
}

impl<'a> ServerAddress<'a> {
    /// An IPv4 address; `port` `None` means the default of the protocol.
    #[must_use]
    pub const fn ipv4(address: Ipv4Addr, port: Option<u16>) -> Self {
        Self { host: Host::Ipv4(address), port: normal_port(port) }
    }

    /// A domain; `port` `None` means the default of the protocol.
    ///
    /// # Errors
    /// [`AddressError::EmptyDomain`] and [`AddressError::DomainLength`] unless it has 1 to 63 bytes,
    /// [`AddressError::DomainCharacter`] for a byte that is not printable ASCII.
    pub fn domain(domain: &'a str, port: Option<u16>) -> Result<Self, AddressError> {
        let domain = check_domain(domain.as_bytes())?;
        Ok(Self { host: Host::Domain(domain), port: normal_port(port) })
    }

    /// Reads `host` or `host:port`. A host of digits and dots only has to be an IPv4 address: the host tool takes
    /// `256.1.2` for 0.1.2.0 where this is an error.
    ///
    /// ```
    /// use spark_dct::{Host, ServerAddress};
    /// let address = ServerAddress::from_text("192.168.1.5:8080")?;
    /// assert_eq!((address.host(), address.port()), (Host::Ipv4([192, 168, 1, 5].into()), Some(8080)));
    /// # Ok::<(), spark_dct::server_address::AddressError>(())
    /// ```
    ///
    /// # Errors
    /// [`AddressError::Port`] unless the port is 1 to 65534, [`AddressError::Ipv4`], and as [`domain`](Self::domain).
    pub fn from_text(text: &'a str) -> Result<Self, AddressError> {
        let (host, port) = match text.rsplit_once(':') {
            None => (text, None),
            Some((host, port)) => {
                let digits = port.bytes().all(|byte| byte.is_ascii_digit());
                let port = port.parse().ok().filter(|port| digits && matches!(port, 1..=65534));
                (host, Some(port.ok_or(AddressError::Port)?))
            }
        };
        if !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return host.parse().map(|host| Self::ipv4(host, port)).map_err(|_| AddressError::Ipv4);
        }
        if let Some(at) = host.bytes().position(|byte| byte == b':') {
            return Err(AddressError::DomainCharacter { at, byte: b':' });
        }
        Self::domain(host, port)
    }

    /// Reads a block: `None` when it holds no address (erased, or an unknown type byte).
    ///
    /// # Errors
    /// [`AddressError::EmptyDomain`], [`AddressError::DomainOverPort`] from 64 to 126, [`AddressError::DomainLengthByte`] above,
    /// and [`AddressError::DomainCharacter`]. The raw bytes of the value stay available through [`raw_value`].
    pub fn parse(block: &'a [u8; LEN]) -> Result<Option<Self>, AddressError> {
        let port = normal_port(Some(u16::from_be_bytes([block[PORT_AT], block[PORT_AT + 1]])));
        match block[0] {
            0 => Ok(Some(Self::ipv4(Ipv4Addr::new(block[2], block[3], block[4], block[5]), port))),
            1 => match block[1] {
                length @ 64..=126 => Err(AddressError::DomainOverPort { length }),
                length @ 127.. => Err(AddressError::DomainLengthByte { length }),
                _ => {
                    let domain = check_domain(raw_value(block))?;
                    Ok(Some(Self { host: Host::Domain(domain), port }))
                }
            },
            _ => Ok(None),
        }
    }

    /// Host.
    #[must_use]
    pub const fn host(&self) -> Host<'a> {
        self.host
    }

    /// Port as stored, `None` for "default of the protocol".
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// Port to connect to, with the default of the protocol, for instance [`DEFAULT_PORT_TCP`].
    #[must_use]
    pub const fn port_or(&self, default: u16) -> u16 {
        match self.port {
            Some(port) => port,
            None => default,
        }
    }

    /// Writes a whole block: FF where nothing is said, port FFFF when it is the default.
    pub fn encode_into(&self, block: &mut [u8; LEN]) {
        *block = [0xFF; LEN];
        let (kind, value): (u8, &[u8]) = match &self.host {
            Host::Ipv4(address) => (0, &address.octets()),
            Host::Domain(domain) => (1, domain.as_bytes()),
        };
        block[0] = kind;
        // both constructors keep the value below 64 bytes
        block[1] = u8::try_from(value.len()).unwrap_or(0);
        for (slot, byte) in block[2..PORT_AT].iter_mut().zip(value) {
            *slot = *byte;
        }
        if let Some(port) = self.port {
            [block[PORT_AT], block[PORT_AT + 1]] = port.to_be_bytes();
        }
    }
}

/// 0 and FFFF both mean "default".
const fn normal_port(port: Option<u16>) -> Option<u16> {
    match port {
        Some(0 | 0xFFFF) | None => None,
        Some(port) => Some(port),
    }
}

fn check_domain(bytes: &[u8]) -> Result<&str, AddressError> {
    if bytes.is_empty() {
        return Err(AddressError::EmptyDomain);
    }
    if bytes.len() > MAX_DOMAIN {
        return Err(AddressError::DomainLength { length: bytes.len() });
    }
    if let Some((at, byte)) = bytes.iter().copied().enumerate().find(|(_, b)| !b.is_ascii_graphic()) {
        return Err(AddressError::DomainCharacter { at, byte });
    }
    core::str::from_utf8(bytes).map_err(|_| AddressError::DomainCharacter { at: 0, byte: 0 })
}

/// The value bytes that the length byte claims, at most the 126 bytes that follow it: for showing a block that
/// [`ServerAddress::parse`] refuses.
#[must_use]
pub fn raw_value(block: &[u8; LEN]) -> &[u8] {
    let [_, length, rest @ ..] = block;
    rest.get(..usize::from(*length)).unwrap_or(rest)
}

/// Puts `device_id` (24 hexadecimal digits) in place of every `$id`, as the firmware does before the name look-up.
///
/// `device_id` is the 12-byte id as it is stored; it appears in lower-case hexadecimal digits. The firmware's own
/// buffer has [`EXPANDED_CAPACITY`] bytes.
///
/// # Errors
/// [`AddressError::BufferTooSmall`] with the length that is needed.
pub fn expand_id<'b>(domain: &str, device_id: &[u8; 12], out: &'b mut [u8]) -> Result<&'b str, AddressError> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let available = out.len();
    let needed = domain.len() + domain.matches("$id").count() * (24 - 3);
    let target = out.get_mut(..needed).ok_or(AddressError::BufferTooSmall { needed, available })?;
    let mut slots = target.iter_mut();
    let mut put = |byte: u8| {
        if let Some(slot) = slots.next() {
            *slot = byte;
        }
    };
    for (index, part) in domain.split("$id").enumerate() {
        if index > 0 {
            for byte in device_id {
                put(DIGITS[usize::from(byte >> 4)]);
                put(DIGITS[usize::from(byte & 0x0F)]);
            }
        }
        part.bytes().for_each(&mut put);
    }
    // pieces of a `str` and ASCII digits are UTF-8 again
    Ok(core::str::from_utf8(target).unwrap_or(""))
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum AddressError {
    /// A domain without a character.
    #[error("server domain is empty; devices take names of 1 to 63 bytes")]
    EmptyDomain,
    /// A name that is too long to be stored.
    #[error("server domain has {length} bytes where devices take 1 to 63; use a shorter name")]
    DomainLength {
        /// Length found.
        length: usize,
    },
    /// A stored name of 64 to 126 bytes: firmware takes bytes of it for the port.
    #[error(
        "server domain has {length} bytes and runs over the port; devices take 1 to 63, so write a shorter name"
    )]
    DomainOverPort {
        /// The length byte.
        length: u8,
    },
    /// A stored length of 127 and more: firmware finds no address.
    #[error(
        "server domain has the length byte {length}, which devices take for no address; write the address again"
    )]
    DomainLengthByte {
        /// The length byte.
        length: u8,
    },
    /// A byte of the domain is not printable ASCII.
    #[error("server domain has the byte {byte:#04x} at position {at}; use letters, digits, '-', '.' and $id")]
    DomainCharacter {
        /// Position in the domain.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// A text of digits and dots that is no IPv4 address.
    #[error(
        "host of digits and dots is no IPv4 address; write four numbers from 0 to 255 with dots between them"
    )]
    Ipv4,
    /// Not a port.
    #[error("port is not a number from 1 to 65534; leave it out for the default of the protocol")]
    Port,
    /// The expanded name does not fit.
    #[error("expanded server name needs {needed} bytes but the buffer has {available}; give a larger buffer")]
    BufferTooSmall {
        /// Bytes needed.
        needed: usize,
        /// Bytes available.
        available: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(kind: u8, length: u8, value: &[u8], port: [u8; 2]) -> [u8; LEN] {
        let mut block = [0xFF; LEN];
        block[0] = kind;
        block[1] = length;
        block[66..68].copy_from_slice(&port);
        block[2..2 + value.len()].copy_from_slice(value);
        block
    }

    #[test]
    fn addresses_map_to_their_bytes_both_ways() {
        let cases = [
            (
                ServerAddress::ipv4(Ipv4Addr::new(192, 168, 1, 5), Some(8080)),
                block(0, 4, &[192, 168, 1, 5], [0x1F, 0x90]),
            ),
            (
                ServerAddress::ipv4(Ipv4Addr::new(10, 0, 0, 1), None),
                block(0, 4, &[10, 0, 0, 1], [0xFF, 0xFF]),
            ),
            (ServerAddress::domain("a", None).unwrap(), block(1, 1, b"a", [0xFF, 0xFF])),
            (
                ServerAddress::domain("$id.example.org", Some(1)).unwrap(),
                block(1, 15, b"$id.example.org", [0, 1]),
            ),
        ];
        for (value, bytes) in cases {
            let mut out = [0; LEN];
            value.encode_into(&mut out);
            assert_eq!(out, bytes);
            assert_eq!(ServerAddress::parse(&bytes), Ok(Some(value)));
        }
    }

    #[test]
    fn domain_of_63_is_accepted_and_longer_ones_are_reported_with_their_raw_bytes() {
        let name = [b'a'; 126];
        let ok = block(1, 63, &name[..63], [0xFF; 2]);
        assert!(ServerAddress::parse(&ok).unwrap().is_some());
        for length in [0u8, 64, 65, 126, 127, 200, 255] {
            let bad = block(1, length, &name, [b'a'; 2]);
            let error = match length {
                0 => AddressError::EmptyDomain,
                1..=126 => AddressError::DomainOverPort { length },
                _ => AddressError::DomainLengthByte { length },
            };
            assert_eq!(ServerAddress::parse(&bad), Err(error));
            assert_eq!(raw_value(&bad).len(), usize::from(length).min(126));
        }
        assert_eq!(ServerAddress::domain("", None), Err(AddressError::EmptyDomain));
        let long = "a".repeat(64);
        assert_eq!(ServerAddress::domain(&long, None), Err(AddressError::DomainLength { length: 64 }));
    }

    #[test]
    fn port_zero_and_ffff_mean_the_default() {
        for port in [[0, 0], [0xFF, 0xFF]] {
            let bytes = block(0, 4, &[1, 2, 3, 4], port);
            let address = ServerAddress::parse(&bytes).unwrap().unwrap();
            assert_eq!(address.port(), None);
            assert_eq!(address.port_or(DEFAULT_PORT_TCP), 5683);
        }
    }

    #[test]
    fn unknown_types_are_no_address() {
        for kind in 2..=255 {
            assert_eq!(ServerAddress::parse(&block(kind, 4, &[1, 2, 3, 4], [0, 1])), Ok(None));
        }
    }

    #[test]
    fn space_and_control_characters_are_reported_with_position() {
        assert_eq!(
            ServerAddress::domain("a b", None),
            Err(AddressError::DomainCharacter { at: 1, byte: b' ' })
        );
    }

    #[test]
    fn id_is_expanded_wherever_it_stands() {
        let id = [0x33, 0, 0x2C, 0, 4, 0x47, 0x34, 0x33, 0x39, 0x37, 0x35, 0x36];
        let mut out = [0; EXPANDED_CAPACITY];
        assert_eq!(
            expand_id("$id.udp.particle.io", &id, &mut out),
            Ok("33002c000447343339373536.udp.particle.io")
        );
        assert_eq!(expand_id("plain.org", &id, &mut out), Ok("plain.org"));
        assert_eq!(expand_id("%id.org", &id, &mut out), Ok("%id.org"));
        let mut small = [0; 23];
        assert_eq!(
            expand_id("$id", &id, &mut small),
            Err(AddressError::BufferTooSmall { needed: 24, available: 23 })
        );
    }

    proptest! {
        #[test]
        fn any_block_is_read_without_panic_and_what_parses_survives_a_round_trip(raw in proptest::collection::vec(any::<u8>(), LEN), kind in 0u8..3) {
            let mut raw: [u8; LEN] = raw.try_into().unwrap();
            raw[0] = kind;
            if let Ok(Some(address)) = ServerAddress::parse(&raw) {
                let mut out = [0; LEN];
                address.encode_into(&mut out);
                prop_assert_eq!(ServerAddress::parse(&out), Ok(Some(address)));
            }
        }
    }
}
