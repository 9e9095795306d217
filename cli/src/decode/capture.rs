//! Capture files: pcap in both byte orders and both resolutions of time, and pcapng.

use core::time::Duration;
use pcap_file::pcap::PcapParser;
use pcap_file::pcapng::PcapNgParser;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::{DataLink, Endianness, TsResolution};
use std::io::{self, Read};

/// Longest packet or block that is taken; capture programs stop at 256 KiB.
const MAX_RECORD: usize = 4 * 1024 * 1024;
/// Interfaces of one pcapng section.
const MAX_INTERFACES: usize = 1024;

const PCAP_HEADER: usize = 24;
const PCAP_RECORD: usize = 16;
const BLOCK_HEAD: usize = 8;
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Bytes that tell a capture file from others.
pub(super) const MAGIC_LEN: usize = 4;

/// The forms of capture files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Pcap,
    PcapNg,
}

impl Form {
    /// The form that a file's first bytes tell.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        match *head.first_chunk::<MAGIC_LEN>()? {
            [0xa1, 0xb2, 0xc3, 0xd4] | [0xd4, 0xc3, 0xb2, 0xa1] => Some(Self::Pcap),
            [0xa1, 0xb2, 0x3c, 0x4d] | [0x4d, 0x3c, 0xb2, 0xa1] => Some(Self::Pcap),
            [0x0a, 0x0d, 0x0d, 0x0a] => Some(Self::PcapNg),
            _ => None,
        }
    }
}

/// One packet.
#[derive(Debug)]
pub(super) struct Captured<'a> {
    /// Since 1970; not all forms have it.
    pub(super) at: Option<Duration>,
    pub(super) link: DataLink,
    pub(super) bytes: &'a [u8],
}

/// Why a capture ends before its end.
#[derive(Debug)]
pub(super) enum CaptureError {
    /// It cannot be read.
    Io(io::Error),
    /// It ends inside a record, as it does when it is copied while it is written.
    Cut { offset: u64 },
    /// It is damaged.
    Damaged { offset: u64, what: String },
}

impl From<io::Error> for CaptureError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

enum Parser {
    Pcap(PcapParser),
    PcapNg(Box<PcapNgParser>),
}

/// Reads a capture record by record: one of them is in memory at a time.
pub(super) struct Capture<R> {
    input: R,
    parser: Parser,
    record: Vec<u8>,
    /// Of the next record.
    offset: u64,
}

impl<R: Read> Capture<R> {
    /// Reads the file's header.
    pub(super) fn open(mut input: R, form: Form) -> Result<Self, CaptureError> {
        let mut record = Vec::new();
        let parser = match form {
            Form::Pcap => {
                if !fill(&mut input, &mut record, PCAP_HEADER)? {
                    return Err(CaptureError::Cut { offset: 0 });
                }
                Parser::Pcap(PcapParser::new(&record).map_err(|error| damaged(0, &error))?.1)
            }
            Form::PcapNg => {
                // A section's byte order is behind its length.
                if !fill(&mut input, &mut record, BLOCK_HEAD + 4)? {
                    return Err(CaptureError::Cut { offset: 0 });
                }
                let len = section_len(&record, 0)?;
                if !fill(&mut input, &mut record, len)? {
                    return Err(CaptureError::Cut { offset: 0 });
                }
                Parser::PcapNg(Box::new(PcapNgParser::new(&record).map_err(|error| damaged(0, &error))?.1))
            }
        };
        let offset = record.len() as u64;
        Ok(Self { input, parser, record, offset })
    }

    /// The next packet; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Captured<'_>>, CaptureError> {
        match &self.parser {
            Parser::Pcap(_) => self.next_pcap(),
            Parser::PcapNg(_) => self.next_pcapng(),
        }
    }

    fn next_pcap(&mut self) -> Result<Option<Captured<'_>>, CaptureError> {
        let Parser::Pcap(parser) = &self.parser else { return Ok(None) };
        let header = parser.header();
        let offset = self.offset;
        self.record.clear();
        if !fill(&mut self.input, &mut self.record, PCAP_RECORD)? {
            return if self.record.is_empty() { Ok(None) } else { Err(CaptureError::Cut { offset }) };
        }
        let len = number(&self.record, 8, header.endianness).unwrap_or_default();
        let len = checked_len(len, PCAP_RECORD, offset)?;
        if !fill(&mut self.input, &mut self.record, len)? {
            return Err(CaptureError::Cut { offset });
        }
        self.offset += len as u64;
        // Not the checked form, which refuses packets that were longer than the capture's limit.
        let (_, packet) = parser.next_raw_packet(&self.record).map_err(|error| damaged(offset, &error))?;
        let nanos = match header.ts_resolution {
            TsResolution::MicroSecond => u64::from(packet.ts_frac) * 1000,
            TsResolution::NanoSecond => u64::from(packet.ts_frac),
        };
        let at = Duration::from_secs(packet.ts_sec.into()) + Duration::from_nanos(nanos);
        let bytes = self.record.get(PCAP_RECORD..).unwrap_or_default();
        Ok(Some(Captured { at: Some(at), link: header.datalink, bytes }))
    }

    fn next_pcapng(&mut self) -> Result<Option<Captured<'_>>, CaptureError> {
        loop {
            let Parser::PcapNg(parser) = &mut self.parser else { return Ok(None) };
            let offset = self.offset;
            self.record.clear();
            if !fill(&mut self.input, &mut self.record, BLOCK_HEAD + 4)? {
                return if self.record.is_empty() { Ok(None) } else { Err(CaptureError::Cut { offset }) };
            }
            // A section reads the same in both byte orders.
            let kind = number(&self.record, 0, parser.section().endianness).unwrap_or_default();
            let len = if kind == SECTION {
                section_len(&self.record, offset)?
            } else {
                let len = number(&self.record, 4, parser.section().endianness).unwrap_or_default();
                checked_len(len, 0, offset)?
            };
            if len < BLOCK_HEAD + 4 {
                return Err(CaptureError::Damaged { offset, what: format!("a block of {len} bytes") });
            }
            if !fill(&mut self.input, &mut self.record, len)? {
                return Err(CaptureError::Cut { offset });
            }
            self.offset += len as u64;
            if kind == INTERFACE && parser.interfaces().len() >= MAX_INTERFACES {
                let what = format!("more than {MAX_INTERFACES} interfaces");
                return Err(CaptureError::Damaged { offset, what });
            }
            // Raw, since options of packets that are against the standard are no reason to lose the packet.
            parser.next_raw_block(&self.record).map_err(|error| damaged(offset, &error))?;
            if matches!(kind, OLD_PACKET | SIMPLE_PACKET | ENHANCED_PACKET) {
                break;
            }
        }
        let Parser::PcapNg(parser) = &self.parser else { return Ok(None) };
        let offset = self.offset - self.record.len() as u64;
        packet_of(parser, &self.record).map(Some).ok_or_else(|| CaptureError::Damaged {
            offset,
            what: "a packet without its interface, or longer than its block".to_owned(),
        })
    }
}

/// The packet in one of the three kinds of blocks that have one.
fn packet_of<'a>(parser: &PcapNgParser, block: &'a [u8]) -> Option<Captured<'a>> {
    let order = parser.section().endianness;
    let body = block.get(BLOCK_HEAD..block.len().checked_sub(4)?)?;
    let (interface, stamped, len, data) = match number(block, 0, order)? {
        ENHANCED_PACKET => (number(body, 0, order)?, true, number(body, 12, order)?, body.get(20..)?),
        OLD_PACKET => (half(body, order)?.into(), true, number(body, 12, order)?, body.get(20..)?),
        _ => {
            let data = body.get(4..)?;
            // The interface's limit may have cut it; what is there counts.
            let snap = parser.interfaces().first()?.snaplen;
            let snap = if snap == 0 { u32::MAX } else { snap };
            let there = u32::try_from(data.len()).unwrap_or(u32::MAX);
            (0, false, number(body, 0, order)?.min(snap).min(there), data)
        }
    };
    let interface = parser.interfaces().get(usize::try_from(interface).ok()?)?;
    let mut resolution = 6;
    let mut begin = 0;
    for option in &interface.options {
        match option {
            InterfaceDescriptionOption::IfTsResol(value) => resolution = *value,
            InterfaceDescriptionOption::IfTsOffset(value) => begin = *value,
            _ => {}
        }
    }
    let at = if stamped {
        let ticks = u64::from(number(body, 4, order)?) << 32 | u64::from(number(body, 8, order)?);
        time(ticks, resolution).and_then(|time| time.checked_add(Duration::from_secs(begin)))
    } else {
        None
    };
    Some(Captured { at, link: interface.linktype, bytes: data.get(..usize::try_from(len).ok()?)? })
}

/// Ticks of a negative power of 10, or of 2 if the high bit is set. Finer than a nanosecond is cut.
fn time(ticks: u64, resolution: u8) -> Option<Duration> {
    let exponent = u32::from(resolution & 0x7f);
    let base = if resolution & 0x80 == 0 { 10_u128 } else { 2 };
    let per_second = base.checked_pow(exponent)?;
    let ticks = u128::from(ticks);
    let seconds = u64::try_from(ticks / per_second).ok()?;
    let nanos = (ticks % per_second).checked_mul(1_000_000_000)? / per_second;
    Some(Duration::new(seconds, u32::try_from(nanos).ok()?))
}

/// The length of a section header, whose own byte order counts.
fn section_len(block: &[u8], offset: u64) -> Result<usize, CaptureError> {
    let order = match number(block, BLOCK_HEAD, Endianness::Big) {
        Some(0x1a2b_3c4d) => Endianness::Big,
        Some(0x4d3c_2b1a) => Endianness::Little,
        _ => {
            return Err(CaptureError::Damaged {
                offset,
                what: "a section without its byte order".to_owned(),
            });
        }
    };
    let len = checked_len(number(block, 4, order).unwrap_or_default(), 0, offset)?;
    if len < BLOCK_HEAD + 4 {
        return Err(CaptureError::Damaged { offset, what: format!("a section header of {len} bytes") });
    }
    Ok(len)
}

fn checked_len(len: u32, head: usize, offset: u64) -> Result<usize, CaptureError> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > MAX_RECORD {
        return Err(CaptureError::Damaged { offset, what: format!("a record of {len} bytes") });
    }
    Ok(head + len)
}

fn number(bytes: &[u8], at: usize, order: Endianness) -> Option<u32> {
    let bytes = *bytes.get(at..)?.first_chunk::<4>()?;
    Some(match order {
        Endianness::Big => u32::from_be_bytes(bytes),
        Endianness::Little => u32::from_le_bytes(bytes),
    })
}

fn half(bytes: &[u8], order: Endianness) -> Option<u16> {
    let bytes = *bytes.first_chunk::<2>()?;
    Some(match order {
        Endianness::Big => u16::from_be_bytes(bytes),
        Endianness::Little => u16::from_le_bytes(bytes),
    })
}

fn damaged(offset: u64, error: &dyn core::fmt::Display) -> CaptureError {
    CaptureError::Damaged { offset, what: error.to_string() }
}

/// Reads until `record` has `len` bytes; `false` if the input ends before.
fn fill(input: &mut impl Read, record: &mut Vec<u8>, len: usize) -> io::Result<bool> {
    let missing = len.saturating_sub(record.len());
    let read = input.by_ref().take(missing as u64).read_to_end(record)?;
    Ok(read == missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_every_resolution_are_read() {
        let micros = 1_700_000_000_123_456;
        let expected = Some(Duration::new(1_700_000_000, 123_456_000));
        assert_eq!(time(micros, 6), expected);
        assert_eq!(time(micros * 1000, 9), expected);
        assert_eq!(time(3 << 10 | 512, 0x80 | 10), Some(Duration::from_millis(3500)));
        assert_eq!(time(7, 0), Some(Duration::from_secs(7)));
        for resolution in 0..=255 {
            let _ = time(u64::MAX, resolution);
        }
    }

    #[test]
    fn random_bytes_behind_a_magic_number_end_in_an_error_or_at_the_end() {
        for magic in [[0xa1, 0xb2, 0xc3, 0xd4], [0x4d, 0x3c, 0xb2, 0xa1], [0x0a, 0x0d, 0x0d, 0x0a]] {
            let form = Form::of(&magic).unwrap();
            let mut state = 1_u64;
            for _ in 0..2000 {
                let mut bytes = magic.to_vec();
                bytes.extend((0..96).map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    // Mostly small numbers, so that lengths fit.
                    state.to_be_bytes()[0] & state.to_be_bytes()[1] & 0x1f
                }));
                if let Ok(mut capture) = Capture::open(&bytes[..], form) {
                    while let Ok(Some(_)) = capture.next() {}
                }
            }
        }
    }
}
