//! The presence announcement that a device multicasts in clear text.

use super::{DecodeError, letter};
use crate::coap::{Code, Message, ParseOptions, Type};
use crate::handshake::DeviceId;

/// "Here I am", to a multicast address, outside of any session.
///
/// | off | size | field |
/// |---|---|---|
/// | 0 | 4 | `50 02 00 00`: NON POST, message id 0 |
/// | 4 | 3 | `b1 68 ff`: `/h` and the payload marker |
/// | 7 | 12 | device id |
///
/// It looks like a Hello, but is none: the payload is the bare id.
///
/// # Source
/// device-os@v2.3.1: `communication/src/messages.cpp`; the encoder exists in all versions since 0.4.9. The vector
/// `presence_announcement` was made by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PresenceAnnouncement {
    /// Who is there.
    pub device_id: DeviceId,
}

const HEAD: [u8; 7] = [0x50, 0x02, 0, 0, 0xb1, b'h', 0xff];

impl PresenceAnnouncement {
    /// Length of the datagram.
    pub const LEN: usize = HEAD.len() + DeviceId::LEN;

    /// Reads a datagram. The message id may be any.
    ///
    /// # Errors
    /// [`DecodeError::Coap`] if it is no CoAP, [`DecodeError::Field`] if it is another message.
    pub fn decode(datagram: &[u8]) -> Result<Self, DecodeError> {
        let message = Message::parse(datagram, ParseOptions::STRICT)?;
        let is_hello = message.kind() == Type::NonConfirmable
            && message.code() == Code::POST
            && letter(&message) == Some(b'h');
        let payload = message.payload().filter(|_| is_hello).unwrap_or_default();
        let device_id = super::value::exact("device id of a presence announcement", "12", payload)?;
        Ok(Self { device_id: DeviceId(device_id) })
    }

    /// The datagram.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut datagram = [0; Self::LEN];
        let bytes = HEAD.iter().chain(&self.device_id.0);
        datagram.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
        datagram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    #[test]
    fn announcement_of_a_device_reads_and_writes_the_same() {
        let datagram = hex!("50020000b168ff 53ff6d065072534212345667");
        let announcement = PresenceAnnouncement::decode(&datagram).unwrap();
        assert_eq!(announcement.device_id, "53ff6d065072534212345667".parse().unwrap());
        assert_eq!(announcement.encode(), datagram);
    }

    #[test]
    fn every_cut_and_every_other_message_is_an_error() {
        let datagram = hex!("50020000b168ff 53ff6d065072534212345667");
        for len in 0..datagram.len() {
            assert!(PresenceAnnouncement::decode(&datagram[..len]).is_err(), "{len}");
        }
        for (at, byte) in [(0, 0x40), (1, 1), (5, b'e')] {
            let mut other = datagram;
            other[at] = byte;
            assert!(matches!(PresenceAnnouncement::decode(&other), Err(DecodeError::Field { found: 0, .. })));
        }
    }
}
