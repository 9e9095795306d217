//! WebSocket frames as devices send and take them, both ends.
//!
//! | from | frames |
//! |---|---|
//! | device | whole text messages of at most 1024 bytes, and empty pings, masked; the mask is zero |
//! | server | whole text messages, not masked, at most 2048 bytes with their header; `8a 00` for a ping |
//!
//! Fragments, binary messages and extensions are not used. A device ignores pings of a server, and a close frame means
//! nothing to it: a server just closes the connection, and does not test with pings whether a device is there.
//!
//! # Source
//! RFC 6455; firmware of the IoTgo 2.0 generation.

use super::limits;
use super::secret::Hidden;
use alloc::vec::Vec;
use core::fmt;

/// Answer to every ping of a device.
pub const PONG: [u8; 2] = [0x8a, 0];

/// Payload of a control frame, RFC 6455.
const CONTROL: usize = 125;

/// Who has sent a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "there are two ends")]
pub enum End {
    /// The device: frames are masked, with any key.
    Device,
    /// The server: frames are not masked.
    Server,
}

impl End {
    /// Bytes of a text message.
    #[must_use]
    pub const fn limit(self) -> usize {
        match self {
            Self::Device => limits::DEVICE_MESSAGE,
            Self::Server => limits::SERVER_MESSAGE,
        }
    }
}

/// A whole message.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame {
    /// A text, not yet known to be UTF-8.
    Text(Vec<u8>),
    /// A ping. It is answered with [`PONG`], whatever is in it.
    Ping,
    /// A pong.
    Pong,
    /// The other end closes. Close the connection.
    Close {
        /// Why, if it was told.
        code: Option<u16>,
    },
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.debug_tuple("Text").field(&Hidden(text)).finish(),
            Self::Ping => f.write_str("Ping"),
            Self::Pong => f.write_str("Pong"),
            Self::Close { code } => f.debug_struct("Close").field("code", code).finish(),
        }
    }
}

/// Why a frame was refused. The connection is of no use any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FrameError {
    /// Bits that an extension would use.
    #[error("reserved bits are set in a frame, and no extension was agreed on")]
    Reserved,
    /// A message in several frames, or a control frame in parts.
    #[error("a message came in fragments")]
    Fragment,
    /// A binary message.
    #[error("a binary message came")]
    Binary,
    /// Another code of RFC 6455.
    #[error("a frame with the unknown code {opcode:#x} came")]
    Opcode {
        /// The code.
        opcode: u8,
    },
    /// A device has to mask.
    #[error("a frame of the device is not masked")]
    NotMasked,
    /// A server must not.
    #[error("a frame of the server is masked")]
    Masked,
    /// Longer than any end sends; also every 64-bit length.
    #[error("a frame of {length} bytes, and at most {limit} are taken")]
    TooLong {
        /// Bytes of its payload.
        length: u64,
        /// The limit.
        limit: usize,
    },
}

/// What was found at the start of some bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums, reason = "a frame is there or not")]
pub enum Decoded {
    /// A frame.
    Frame {
        /// The frame.
        frame: Frame,
        /// Bytes that it has taken.
        used: usize,
    },
    /// Not yet.
    NeedMore {
        /// So many bytes in all before there can be more to find.
        at_least: usize,
    },
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Close,
    Ping,
    Pong,
}

/// Reads one frame.
///
/// ```
/// use spark_ota::sonoff::frame::{Decoded, Frame, End, decode};
///
/// let ping = [0x89, 0x80, 0, 0, 0, 0];
/// assert_eq!(decode(End::Device, &ping)?, Decoded::Frame { frame: Frame::Ping, used: 6 });
/// assert_eq!(decode(End::Device, &ping[..3])?, Decoded::NeedMore { at_least: 6 });
/// # Ok::<(), spark_ota::sonoff::frame::FrameError>(())
/// ```
///
/// # Errors
/// [`FrameError`], as soon as the bytes show it.
pub fn decode(end: End, input: &[u8]) -> Result<Decoded, FrameError> {
    let need = |at_least| Ok(Decoded::NeedMore { at_least });
    let Some(&first) = input.first() else { return need(2) };
    let kind = kind(first)?;
    let Some(&second) = input.get(1) else { return need(2) };
    let masked = second & 0x80 != 0;
    match end {
        End::Device if !masked => return Err(FrameError::NotMasked),
        End::Server if masked => return Err(FrameError::Masked),
        _ => {}
    }
    let limit = if matches!(kind, Kind::Text) { end.limit() } else { CONTROL };
    let too_long = |length| FrameError::TooLong { length, limit };
    let (length, header) = match second & 0x7f {
        126 => match input.get(2..).and_then(<[u8]>::first_chunk) {
            Some(bytes) => (usize::from(u16::from_be_bytes(*bytes)), 4),
            None => return need(4),
        },
        127 => match input.get(2..).and_then(<[u8]>::first_chunk) {
            Some(bytes) => return Err(too_long(u64::from_be_bytes(*bytes))),
            None => return need(10),
        },
        short => (usize::from(short), 2),
    };
    if length > limit {
        return Err(too_long(length as u64));
    }
    let start = if masked { header + 4 } else { header };
    let Some(payload) = input.get(start..start + length) else { return need(start + length) };
    let mut payload = payload.to_vec();
    if let Some(mask) = input.get(header..start).and_then(<[u8]>::first_chunk::<4>) {
        apply(*mask, &mut payload);
    }
    let frame = match kind {
        Kind::Text => Frame::Text(payload),
        Kind::Ping => Frame::Ping,
        Kind::Pong => Frame::Pong,
        Kind::Close => Frame::Close { code: payload.first_chunk().copied().map(u16::from_be_bytes) },
    };
    Ok(Decoded::Frame { frame, used: start + length })
}

/// What the first byte of a frame says.
fn kind(first: u8) -> Result<Kind, FrameError> {
    if first & 0x70 != 0 {
        return Err(FrameError::Reserved);
    }
    let last = first & 0x80 != 0;
    match first & 0x0f {
        1 | 8..=10 if !last => Err(FrameError::Fragment),
        0 => Err(FrameError::Fragment),
        1 => Ok(Kind::Text),
        2 => Err(FrameError::Binary),
        8 => Ok(Kind::Close),
        9 => Ok(Kind::Ping),
        10 => Ok(Kind::Pong),
        opcode => Err(FrameError::Opcode { opcode }),
    }
}

fn apply(mask: [u8; 4], payload: &mut [u8]) {
    for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Puts frames together out of bytes as they come. It keeps at most one frame, some 2 KiB.
#[derive(Clone)]
pub struct FrameReader {
    end: End,
    buffer: Vec<u8>,
    failed: Option<FrameError>,
}

impl fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameReader")
            .field("end", &self.end)
            .field("buffer", &Hidden(&self.buffer))
            .field("failed", &self.failed)
            .finish()
    }
}

impl FrameReader {
    /// A reader for frames of that end.
    #[must_use]
    pub const fn new(end: End) -> Self {
        Self { end, buffer: Vec::new(), failed: None }
    }

    /// Takes bytes, as many as fit, and tells how many that were. Then call [`FrameReader::next_frame`] until it gives
    /// `None`, and go on with the rest.
    pub fn handle_input(&mut self, bytes: &[u8]) -> usize {
        let room = (self.end.limit() + 8).saturating_sub(self.buffer.len());
        let part = bytes.get(..room).unwrap_or(bytes);
        self.buffer.extend_from_slice(part);
        part.len()
    }

    /// The next whole frame; `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`], from then on always the same.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match decode(self.end, &self.buffer) {
            Ok(Decoded::Frame { frame, used }) => {
                self.buffer.drain(..used);
                Ok(Some(frame))
            }
            Ok(Decoded::NeedMore { .. }) => Ok(None),
            Err(error) => {
                self.failed = Some(error);
                self.buffer = Vec::new();
                Err(error)
            }
        }
    }

    /// A frame has begun and is not complete.
    #[must_use]
    pub fn is_within_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The end of the connection that it reads from.
    #[must_use]
    pub const fn end(&self) -> End {
        self.end
    }
}

fn header(first: u8, length: usize, mask: bool, limit: usize) -> Result<Vec<u8>, FrameError> {
    let too_long = FrameError::TooLong { length: length as u64, limit };
    if length > limit {
        return Err(too_long);
    }
    let mask = if mask { 0x80 } else { 0 };
    let mut frame = Vec::with_capacity(length + 8);
    frame.push(first);
    match u8::try_from(length) {
        Ok(short @ ..126) => frame.push(mask | short),
        _ => {
            frame.push(mask | 126);
            frame.extend(u16::try_from(length).map_err(|_| too_long)?.to_be_bytes());
        }
    }
    Ok(frame)
}

/// A text message of the server.
///
/// # Errors
/// [`FrameError::TooLong`] for more than 2044 bytes, with which a device's buffer would not do.
pub fn server_text(text: &str) -> Result<Vec<u8>, FrameError> {
    let mut frame = header(0x81, text.len(), false, limits::SERVER_MESSAGE)?;
    frame.extend_from_slice(text.as_bytes());
    Ok(frame)
}

/// A text message of the device. Devices use the mask 0, RFC 6455 wants a random one.
///
/// # Errors
/// [`FrameError::TooLong`] for more than 1024 bytes.
pub fn device_text(text: &str, mask: [u8; 4]) -> Result<Vec<u8>, FrameError> {
    let mut frame = header(0x81, text.len(), true, limits::DEVICE_MESSAGE)?;
    frame.extend(mask);
    let start = frame.len();
    frame.extend_from_slice(text.as_bytes());
    apply(mask, frame.get_mut(start..).unwrap_or_default());
    Ok(frame)
}

/// A ping of the device.
#[must_use]
pub const fn device_ping(mask: [u8; 4]) -> [u8; 6] {
    [0x89, 0x80, mask[0], mask[1], mask[2], mask[3]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::{format, vec};
    use hex_literal::hex;
    use proptest::prelude::*;

    fn frame(end: End, bytes: &[u8]) -> Frame {
        match decode(end, bytes) {
            Ok(Decoded::Frame { frame, used }) if used == bytes.len() => frame,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_each_kind_of_frame_is() {
        assert_eq!(frame(End::Device, &hex!("8182 01020304 6060")), Frame::Text(b"ab".to_vec()));
        assert_eq!(frame(End::Device, &hex!("8982 00000000 6162")), Frame::Ping);
        assert_eq!(frame(End::Device, &device_ping([9; 4])), Frame::Ping);
        assert_eq!(frame(End::Server, &PONG), Frame::Pong);
        assert_eq!(frame(End::Server, &hex!("8802 03e8")), Frame::Close { code: Some(1000) });
        assert_eq!(frame(End::Device, &hex!("8881 00000000 03")), Frame::Close { code: None });
    }

    #[test]
    fn what_no_end_sends_is_refused_at_its_first_bytes() {
        let too_long = |length, limit| FrameError::TooLong { length, limit };
        for (end, bytes, expected) in [
            (End::Device, &hex!("c1")[..], FrameError::Reserved),
            (End::Device, &hex!("01"), FrameError::Fragment),
            (End::Device, &hex!("00"), FrameError::Fragment),
            (End::Device, &hex!("80"), FrameError::Fragment),
            (End::Device, &hex!("09"), FrameError::Fragment),
            (End::Device, &hex!("82"), FrameError::Binary),
            (End::Device, &hex!("83"), FrameError::Opcode { opcode: 3 }),
            (End::Device, &hex!("8b"), FrameError::Opcode { opcode: 11 }),
            (End::Device, &hex!("8100"), FrameError::NotMasked),
            (End::Server, &hex!("8180"), FrameError::Masked),
            (End::Device, &hex!("81fe0401"), too_long(1025, 1024)),
            (End::Server, &hex!("817e07fd"), too_long(2045, 2044)),
            (End::Device, &hex!("89fe007e"), too_long(126, 125)),
            (End::Server, &hex!("817f0000000000000001"), too_long(1, 2044)),
            (End::Device, &hex!("81ffffffffffffffffff"), too_long(u64::MAX, 1024)),
        ] {
            assert_eq!(decode(end, bytes), Err(expected), "{bytes:02x?}");
            let mut reader = FrameReader::new(end);
            reader.handle_input(bytes);
            assert_eq!(reader.next_frame(), Err(expected));
            reader.handle_input(&PONG);
            assert_eq!(reader.next_frame(), Err(expected), "it stays so");
        }
    }

    #[test]
    fn longest_messages_pass_and_longer_ones_are_not_sent() {
        let text = "x".repeat(limits::SERVER_MESSAGE);
        let bytes = server_text(&text).unwrap();
        assert_eq!(bytes.len(), limits::SERVER_FRAME);
        assert_eq!(frame(End::Server, &bytes), Frame::Text(text.clone().into_bytes()));
        let error = FrameError::TooLong { length: 2045, limit: 2044 };
        assert_eq!(server_text(&format!("{text}x")), Err(error));
        let text = "x".repeat(limits::DEVICE_MESSAGE);
        let bytes = device_text(&text, [1, 2, 3, 4]).unwrap();
        assert_eq!(frame(End::Device, &bytes), Frame::Text(text.clone().into_bytes()));
        let error = FrameError::TooLong { length: 1025, limit: 1024 };
        assert_eq!(device_text(&format!("{text}x"), [0; 4]), Err(error));
    }

    #[test]
    fn lengths_change_their_form_at_126() {
        assert_eq!(server_text(&"x".repeat(125)).unwrap()[..2], hex!("817d"));
        assert_eq!(server_text(&"x".repeat(126)).unwrap()[..4], hex!("817e007e"));
        assert_eq!(server_text(&"x".repeat(300)).unwrap()[..4], hex!("817e012c"));
    }

    #[test]
    fn every_truncation_needs_more_and_says_how_much() {
        for bytes in [device_text("{}", [5; 4]).unwrap(), device_text(&"y".repeat(200), [5; 4]).unwrap()] {
            for end in 0..bytes.len() {
                let Ok(Decoded::NeedMore { at_least }) = decode(End::Device, &bytes[..end]) else {
                    panic!("cut at {end}")
                };
                assert!(at_least > end && at_least <= bytes.len());
            }
        }
    }

    proptest! {
        #[test]
        fn frames_come_out_however_the_bytes_come_in(
            texts in proptest::collection::vec(("[a-z]{0,200}", any::<[u8; 4]>()), 1..8),
            piece in 1usize..300,
        ) {
            let mut bytes = Vec::new();
            for (text, mask) in &texts {
                bytes.extend(device_text(text, *mask).unwrap());
                bytes.extend(device_ping(*mask));
            }
            let mut reader = FrameReader::new(End::Device);
            let mut found = vec![];
            for piece in bytes.chunks(piece) {
                let mut rest = piece;
                while !rest.is_empty() {
                    let used = reader.handle_input(rest);
                    prop_assert!(used > 0);
                    rest = &rest[used..];
                    while let Some(frame) = reader.next_frame().unwrap() {
                        found.push(frame);
                    }
                }
            }
            prop_assert!(!reader.is_within_frame());
            let expected: Vec<Frame> = texts
                .iter()
                .flat_map(|(text, _)| [Frame::Text(String::clone(text).into_bytes()), Frame::Ping])
                .collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>, server: bool) {
            let end = if server { End::Server } else { End::Device };
            if let Ok(Decoded::Frame { used, .. }) = decode(end, &bytes) {
                prop_assert!(used <= bytes.len());
            }
        }
    }
}
