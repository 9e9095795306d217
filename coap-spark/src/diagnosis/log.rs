//! Log lines of devices and servers.
//!
//! [`read`] takes one line with whatever stands around it (time stamp, level, category, colours, a JSON object behind)
//! in any case. It looks at the first [`MAX_LINE`] bytes and allocates nothing.
//!
//! ```
//! use coap_spark::diagnosis::log;
//!
//! let line = "0000039715 [system] WARN: Cloud handshake failed, code=-220";
//! let found = log::read(line).unwrap();
//! assert_eq!(found.number.unwrap().code(), -220);
//! assert!(found.rows().any(|row| row.code == "dropped-after-identity"));
//!
//! let line = "HAL_FLASH_Read_ServerAddress() = type:255,domain:,ip: 0.0.0.0, port: 0";
//! let found = log::read(line).unwrap();
//! assert_eq!(found.address.unwrap().kind, 255);
//! assert!(found.rows().any(|row| row.code == "address-lost"));
//! ```

use super::code::{Number, SocketError};
use super::{End, FailurePoint, ProtocolError, ROWS, Row, table as t};
use crate::handshake::DeviceId;
use core::net::Ipv4Addr;

/// Bytes of a line that are looked at. The longest of the known lines has less than a fifth of that.
pub const MAX_LINE: usize = 1024;

/// What was recognised in a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finding<'a> {
    /// The words that gave it away, in lower case.
    pub phrase: &'static str,
    /// Which end logs this.
    pub end: End,
    /// The number in the line, if the phrase has one.
    pub number: Option<Number>,
    /// The first 24 hex digits in the line.
    pub device: Option<DeviceId>,
    /// The server address, from the line that shows it.
    pub address: Option<LoggedAddress<'a>>,
    candidates: &'static [&'static Row],
    narrow: Narrow,
}

/// What the number does to the candidates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Narrow {
    /// Nothing: it says how, not where.
    Never,
    /// Those it fits are left, all if it fits none.
    IfAny,
    /// Those it fits are left.
    Always,
}

impl Finding<'_> {
    /// The rows that the line may stand for: of the phrase's rows those that fit the number, if any do.
    ///
    /// None for a line that is known and says nothing bad, or has a number that belongs to no row.
    pub fn rows(&self) -> impl Iterator<Item = &'static Row> + Clone + use<> {
        let (candidates, number) = (self.candidates, self.number);
        let fits = move |row: &Row| number.is_some_and(|number| row.has(number, None));
        let narrow = match self.narrow {
            Narrow::Never => false,
            Narrow::IfAny => candidates.iter().any(|row| fits(row)),
            Narrow::Always => true,
        };
        candidates.iter().copied().filter(move |row| !narrow || fits(row))
    }

    /// Where the device's connection stopped, if all rows agree on it.
    #[must_use]
    pub fn point(&self) -> Option<FailurePoint> {
        let mut points = self.rows().map(|row| match row.points {
            [point] => Some(*point),
            _ => None,
        });
        let first = points.next()??;
        points.all(|point| point == Some(first)).then_some(first)
    }
}

/// The server address as a device logs it before it connects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoggedAddress<'a> {
    /// The type byte: 0 an IPv4 address, 1 a domain, anything else (255 when erased) none.
    pub kind: u8,
    /// The domain; may contain `$id`. Empty for other types.
    pub domain: &'a str,
    /// The address. With a domain these are bytes of the domain and mean nothing.
    pub ip: Option<Ipv4Addr>,
    /// The port; 0 and 65535 mean the default.
    pub port: Option<u16>,
}

impl<'a> LoggedAddress<'a> {
    /// `type:1,domain:device.spark.io,ip: 105.118.101.100, port: 65535`, from behind `type:`.
    fn read(text: &'a str) -> Option<Self> {
        let kind = u8::try_from(number_at(text)?).ok()?;
        let field = |name| find(text, name).map(|(_, rest)| rest.trim_start());
        let domain = match (field("domain:"), find(text, ",ip:")) {
            (Some(rest), Some((end, _))) => {
                let start = text.len() - rest.len();
                text.get(start..end).unwrap_or_default().trim()
            }
            _ => "",
        };
        let digits = |c: char| !c.is_ascii_digit() && c != '.';
        let ip = field("ip:").and_then(|rest| rest.split(digits).next()?.parse().ok());
        let port = field("port:").and_then(number_at).and_then(|port| u16::try_from(port).ok());
        Some(Self { kind, domain, ip, port })
    }

    /// No address is stored, or one that leads nowhere.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match self.kind {
            0 => self.ip.is_some_and(|ip| ip.is_unspecified()),
            1 => self.domain.is_empty(),
            _ => true,
        }
    }
}

/// What the number behind a phrase counts.
#[derive(Clone, Copy)]
enum Reads {
    Nothing,
    Socket,
    /// The same at a step that the line does not name.
    SocketAnywhere,
    /// 6 or 8; up to 0.7.0 any number may stand there and means nothing.
    KeyError,
    Protocol,
    /// The rows are those of the number.
    Code,
    Library,
    Blinks,
    Length,
    Seconds,
    /// Behind the phrase `type:` is looked for.
    Address,
}

struct Pattern {
    /// In lower case. Apostrophes are left out: they come in three kinds.
    phrase: &'static str,
    end: End,
    reads: Reads,
    rows: &'static [&'static Row],
}

const fn device(phrase: &'static str, reads: Reads, rows: &'static [&'static Row]) -> Pattern {
    Pattern { phrase, end: End::Device, reads, rows }
}

const fn server(phrase: &'static str, reads: Reads, rows: &'static [&'static Row]) -> Pattern {
    Pattern { phrase, end: End::Server, reads, rows }
}

/// The first that fits counts, so the special ones come before the general ones.
static PATTERNS: &[Pattern] = &[
    device("could not receive nonce", Reads::Socket, &[&t::NO_NONCE]),
    device("rsa encrypt error", Reads::Library, &[&t::SERVER_KEY_UNUSABLE]),
    device("unable to receive key", Reads::Socket, &[&t::DROPPED_AFTER_IDENTITY, &t::SILENT_AFTER_IDENTITY]),
    device("could not set key", Reads::KeyError, &[&t::DEVICE_KEY_MISMATCH, &t::SERVER_KEY_MISMATCH]),
    device("decryption failed with code", Reads::Library, &[&t::DEVICE_KEY_MISMATCH]),
    device("signature validation failed", Reads::Nothing, &[&t::SERVER_KEY_MISMATCH]),
    device("could not send hello", Reads::Nothing, &[&t::HELLO_NOT_SENT]),
    device(
        "could not receive hello response",
        Reads::Protocol,
        &[&t::NO_SERVER_HELLO, &t::LOST_BEFORE_HELLO, &t::SERVER_FRAME_GARBLED],
    ),
    device("cloud handshake failed, code=", Reads::Code, &ROWS),
    device("handshake failed with code", Reads::Code, &ROWS),
    device("event loop error", Reads::Code, &ROWS),
    device("unable to parse negotiated pub key", Reads::Nothing, &[&t::DTLS_SERVER_KEY]),
    device("receive error", Reads::SocketAnywhere, WHILE_RECEIVING),
    device("bytes recieved error", Reads::SocketAnywhere, WHILE_RECEIVING),
    device(
        "receive timeout",
        Reads::Nothing,
        &[&t::NO_NONCE, &t::SILENT_AFTER_IDENTITY, &t::NO_SERVER_HELLO],
    ),
    device("read_serveraddress", Reads::Address, &[]),
    device("unable to resolve ip", Reads::Nothing, &[&t::NO_INTERNET]),
    device("internet test failed", Reads::Nothing, &[&t::NO_INTERNET]),
    device("cloud not reachable", Reads::Nothing, &[&t::CLOUD_UNREACHABLE]),
    device("handling cloud error", Reads::Blinks, UNCONNECTED),
    device("cloud socket connection failed", Reads::SocketAnywhere, UNCONNECTED),
    device("connection failed to", Reads::Nothing, UNCONNECTED),
    device("disconnecting cloud due to inactivity", Reads::Nothing, &[&t::SESSION_SILENT]),
    server("nonces didn", Reads::Nothing, &[&t::IDENTITY_REJECTED]),
    server("plaintext was too small", Reads::Length, &[&t::IDENTITY_REJECTED]),
    server("handshake data was too small", Reads::Length, &[&t::IDENTITY_REJECTED]),
    server("handshake data decryption failed", Reads::Nothing, &[&t::IDENTITY_REJECTED]),
    server("handshake decryption error", Reads::Nothing, &[&t::IDENTITY_REJECTED]),
    server("pkcs decoding error", Reads::Nothing, &[&t::IDENTITY_REJECTED]),
    server("read_coreid timed out", Reads::Nothing, &[&t::NO_IDENTITY]),
    server("onsocketdata called, but no data", Reads::Nothing, &[&t::NO_IDENTITY]),
    server("failed handling find key for core", Reads::Nothing, &[&t::RECORD_UNUSABLE]),
    server("find key for core", Reads::Nothing, &[&t::DEVICE_UNKNOWN]),
    server("no public key found for device", Reads::Nothing, &[&t::DEVICE_UNKNOWN]),
    server("key passed to device during handshake", Reads::Nothing, &[&t::DEVICE_KEY_DIFFERS]),
    // The newer server compares keys by reading both: the offered one is no SubjectPublicKeyInfo.
    server("failed to match tag", Reads::Nothing, &[&t::DEVICE_KEY_DIFFERS]),
    server("wrong device public key", Reads::Nothing, &[&t::HELLO_GARBLED]),
    server("get_hello timed out", Reads::Nothing, &[&t::HELLO_MISSING]),
    server("failed to parse hello", Reads::Nothing, &[&t::HELLO_GARBLED, &t::NOT_HELLO]),
    server(
        "handshake did not complete in",
        Reads::Seconds,
        &[&t::NO_IDENTITY, &t::HELLO_MISSING, &t::HELLO_GARBLED],
    ),
    // A Ping of old firmware that came before the server's Hello: harmless.
    server("recovering from early data", Reads::Nothing, &[]),
    server("bad counter", Reads::Nothing, &[&t::BAD_COUNTER]),
    server("decryption failed", Reads::Nothing, &[&t::IDENTITY_REJECTED]),
    // Last: servers begin their own reasons with the same words.
    device("handshake failed", Reads::Code, &ROWS),
    device(", error=", Reads::Code, &ROWS),
];

/// Rows of which the end of a connection may be the cause.
const WHILE_RECEIVING: &[&Row] =
    &[&t::NO_NONCE, &t::DROPPED_AFTER_IDENTITY, &t::SILENT_AFTER_IDENTITY, &t::LOST_BEFORE_HELLO];
const LOST: &[&Row] = &[&t::ADDRESS_LOST];
const UNCONNECTED: &[&Row] = &[&t::NO_INTERNET, &t::CLOUD_UNREACHABLE];

/// Recognises a log line; `None` for a line that says nothing about a failing connection, or is unknown.
///
/// Work is bounded by [`MAX_LINE`] times the number of known phrases.
#[must_use]
pub fn read(line: &str) -> Option<Finding<'_>> {
    let line = line.get(..line.floor_char_boundary(MAX_LINE)).unwrap_or(line);
    PATTERNS.iter().find_map(|pattern| pattern.read(line))
}

impl Pattern {
    fn read<'a>(&self, line: &'a str) -> Option<Finding<'a>> {
        let (_, rest) = find(line, self.phrase)?;
        let mut finding = Finding {
            phrase: self.phrase,
            end: self.end,
            number: None,
            device: device_id(line),
            address: None,
            candidates: self.rows,
            narrow: Narrow::IfAny,
        };
        let number = number_at(rest);
        finding.number = match self.reads {
            Reads::Nothing => None,
            Reads::Socket => number.and_then(SocketError::from_code).map(Number::Socket),
            Reads::SocketAnywhere => {
                finding.narrow = Narrow::Never;
                number.and_then(SocketError::from_code).map(Number::Socket)
            }
            Reads::KeyError => number
                .filter(|number| matches!(number, 6 | 8) && find(line, "sparkprotocol").is_none())
                .map(Number::of_code),
            Reads::Protocol => number
                .and_then(|number| u32::try_from(number).ok())
                .map(|number| Number::Protocol(ProtocolError::from_code(number))),
            Reads::Code => {
                finding.narrow = Narrow::Always;
                Some(Number::of_code(number?))
            }
            Reads::Library => number.map(Number::Library),
            Reads::Blinks => number.map(Number::Blinks),
            Reads::Length => number.map(Number::Length),
            Reads::Seconds => number.map(Number::Seconds),
            Reads::Address => {
                let address = LoggedAddress::read(find(rest, "type:")?.1)?;
                finding.address = Some(address);
                if address.is_lost() {
                    finding.candidates = LOST;
                }
                None
            }
        };
        Some(finding)
    }
}

/// Where ASCII words begin, in any case, and what follows them.
fn find<'a>(text: &'a str, words: &str) -> Option<(usize, &'a str)> {
    let at = text.as_bytes().windows(words.len()).position(|window| {
        // Words are ASCII, so what equals them begins and ends at character boundaries.
        window.eq_ignore_ascii_case(words.as_bytes())
    })?;
    Some((at, text.get(at + words.len()..)?))
}

/// The decimal number that comes next, behind spaces and punctuation.
fn number_at(text: &str) -> Option<i32> {
    let text = text.trim_start_matches([' ', ':', ',', '=', '(', '\t']);
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let end = digits.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    let number: i32 = digits.get(..end)?.parse().ok()?;
    Some(sign * number)
}

/// The first run of exactly 24 hex digits.
fn device_id(line: &str) -> Option<DeviceId> {
    line.split(|c: char| !c.is_ascii_alphanumeric()).find_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn every_phrase_is_found_by_its_own_pattern() {
        for pattern in PATTERNS {
            let upper = pattern.phrase.chars().any(|c| c.is_ascii_uppercase() || !c.is_ascii());
            assert!(!upper && !pattern.phrase.contains('\''), "{}", pattern.phrase);
            let line = format!("[x] ä {} 1, type:1", pattern.phrase.to_ascii_uppercase());
            assert_eq!(read(&line).map(|found| found.phrase), Some(pattern.phrase));
        }
    }

    #[test]
    fn numbers_are_read_behind_punctuation_and_up_to_their_range() {
        let cases = [(" -19", -19), (": 7", 7), ("=26)", 26), (", 8 x", 8), ("(853):", 853), ("\t0", 0)];
        for (text, number) in cases {
            assert_eq!(number_at(text), Some(number), "{text}");
        }
        for text in ["", "-", "x1", " - 1", "99999999999", "--1"] {
            assert_eq!(number_at(text), None, "{text}");
        }
    }
}
