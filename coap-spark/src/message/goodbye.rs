//! Goodbye: a device says why it leaves (Device OS 2.0.0 and later).

use super::reason::{CloudReason, NetworkReason, ResetReason};
use super::{DecodeError, EncodeError};
use crate::coap::WriteError;

/// Payload of Goodbye: unsigned LEB128 integers (seven bits a byte, the lowest first), as many as the flags say.
///
/// | order | flag | field |
/// |---|---|---|
/// | 1 | | flags |
/// | 2 | 01 | why it leaves the cloud |
/// | 3 | 02 | why it resets |
/// | 4 | 04 | how long it sleeps, in seconds |
/// | 5 | 08 | why it leaves the network |
/// | 6 | others | unknown, kept as they are |
///
/// On TCP the message is non-confirmable with option No-Response; where the device waits for an acknowledgement it is
/// confirmable without. Devices leave out what is 0. A missing payload reads as no field at all.
///
/// ```
/// use coap_spark::message::{CloudReason, Goodbye};
///
/// let goodbye = Goodbye::decode(&[0x05, 0x06, 0x90, 0x1c])?;
/// assert_eq!((goodbye.cloud_reason, goodbye.sleep_seconds), (Some(CloudReason::Sleep), Some(3600)));
/// assert_eq!(goodbye.encode_into(&mut [0; 25])?, [0x05, 0x06, 0x90, 0x1c]);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
///
/// # Source
/// device-os@v2.3.1: `communication/src/messages.cpp`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Goodbye<'a> {
    /// Why it leaves the cloud.
    pub cloud_reason: Option<CloudReason>,
    /// Why it resets.
    pub reset_reason: Option<ResetReason>,
    /// How long it sleeps, in seconds; 4,294,967,295 occurs.
    pub sleep_seconds: Option<u32>,
    /// Why it leaves the network.
    pub network_reason: Option<NetworkReason>,
    /// Flags other than the four of the table; their fields are in `rest`.
    pub other_flags: u32,
    /// What follows the known fields.
    pub rest: &'a [u8],
}

/// Why a payload is not one of Goodbye. Offsets count from the first byte of the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GoodbyeError {
    /// The flags promise a field, the payload ends before or inside it.
    #[error("{field} at byte {offset} of a Goodbye payload is cut off")]
    Truncated {
        /// Which one.
        field: &'static str,
        /// Where it starts.
        offset: usize,
    },
    /// An integer of more than 32 bits or five bytes.
    #[error("{field} at byte {offset} of a Goodbye payload is above 32 bits")]
    Overflow {
        /// Which one.
        field: &'static str,
        /// Where it starts.
        offset: usize,
    },
}

const CLOUD: u32 = 0x01;
const RESET: u32 = 0x02;
const SLEEP: u32 = 0x04;
const NETWORK: u32 = 0x08;

impl<'a> Goodbye<'a> {
    /// Longest payload that devices build: five integers of five bytes, 34 bytes with the message around them.
    pub const MAX_LEN: usize = 25;

    /// Reads a payload. Integers may be longer than needed, up to five bytes.
    ///
    /// # Errors
    /// [`GoodbyeError`].
    pub fn decode(payload: &'a [u8]) -> Result<Self, GoodbyeError> {
        if payload.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader { payload, rest: payload };
        let flags = reader.integer("flags")?;
        let mut field = |flag, name| (flags & flag != 0).then(|| reader.integer(name)).transpose();
        Ok(Self {
            cloud_reason: field(CLOUD, "cloud reason")?.map(CloudReason::from),
            reset_reason: field(RESET, "reset reason")?.map(ResetReason::from),
            sleep_seconds: field(SLEEP, "sleep duration")?,
            network_reason: field(NETWORK, "network reason")?.map(NetworkReason::from),
            other_flags: flags & !(CLOUD | RESET | SLEEP | NETWORK),
            rest: reader.rest,
        })
    }

    /// Emits the payload, each integer as short as it can be.
    ///
    /// # Errors
    /// [`EncodeError::TooLarge`] above [`Goodbye::MAX_LEN`], which only `rest` can cause;
    /// [`WriteError::BufferTooSmall`].
    pub fn encode_into<'b>(&self, out: &'b mut [u8]) -> Result<&'b [u8], EncodeError> {
        let fields = [
            (CLOUD, self.cloud_reason.map(CloudReason::number)),
            (RESET, self.reset_reason.map(ResetReason::number)),
            (SLEEP, self.sleep_seconds),
            (NETWORK, self.network_reason.map(NetworkReason::number)),
        ];
        let own = CLOUD | RESET | SLEEP | NETWORK;
        let flags = fields.iter().fold(self.other_flags & !own, |all, (flag, value)| {
            all | if value.is_some() { *flag } else { 0 }
        });
        let integers = || core::iter::once(flags).chain(fields.iter().filter_map(|(_, value)| *value));
        let needed = integers().map(integer_len).sum::<usize>() + self.rest.len();
        if needed > Self::MAX_LEN {
            let (field, limit) = ("Goodbye payload", 25);
            return Err(EncodeError::TooLarge { field, limit, found: needed });
        }
        let available = out.len();
        let out = out
            .get_mut(..needed)
            .ok_or(EncodeError::Write(WriteError::BufferTooSmall { needed, available }))?;
        let mut bytes = out.iter_mut();
        for integer in integers() {
            let mut left = integer;
            for to in bytes.by_ref().take(integer_len(integer)) {
                let [low, ..] = left.to_le_bytes();
                left >>= 7;
                *to = low & 0x7f | if left == 0 { 0 } else { 0x80 };
            }
        }
        bytes.zip(self.rest).for_each(|(to, byte)| *to = *byte);
        Ok(out)
    }
}

const fn integer_len(value: u32) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        0x20_0000..=0x0fff_ffff => 4,
        _ => 5,
    }
}

struct Reader<'a> {
    payload: &'a [u8],
    rest: &'a [u8],
}

impl Reader<'_> {
    fn integer(&mut self, field: &'static str) -> Result<u32, GoodbyeError> {
        let offset = self.payload.len() - self.rest.len();
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let (&byte, rest) = self.rest.split_first().ok_or(GoodbyeError::Truncated { field, offset })?;
            self.rest = rest;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(GoodbyeError::Overflow { field, offset })
    }
}

impl From<GoodbyeError> for DecodeError {
    fn from(error: GoodbyeError) -> Self {
        Self::Goodbye(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    #[test]
    fn payloads_of_devices_read_and_write_the_same() {
        let all = Goodbye {
            cloud_reason: Some(CloudReason::SystemReset),
            reset_reason: Some(ResetReason::User),
            sleep_seconds: Some(3600),
            network_reason: Some(NetworkReason::User),
            ..Goodbye::default()
        };
        let error = Goodbye { cloud_reason: Some(CloudReason::Error), ..Goodbye::default() };
        let forever = Goodbye { sleep_seconds: Some(u32::MAX), ..all };
        let unknown = Goodbye { other_flags: 0x110, rest: &[1, 0x85], ..error };
        for (value, bytes) in [
            (error, &hex!("01 01")[..]),
            (all, &hex!("0f 05 8c01 901c 02")),
            (forever, &hex!("0f 05 8c01 ffffffff0f 02")),
            (unknown, &hex!("9102 01 01 85")),
            (Goodbye::default(), &hex!("00")),
        ] {
            assert_eq!(Goodbye::decode(bytes), Ok(value));
            assert_eq!(value.encode_into(&mut [0; Goodbye::MAX_LEN]), Ok(bytes));
            assert!(value.encode_into(&mut [0; Goodbye::MAX_LEN][..bytes.len() - 1]).is_err());
        }
        assert_eq!(Goodbye::decode(&[]), Ok(Goodbye::default()));
    }

    #[test]
    fn every_cut_of_a_payload_names_the_field() {
        let bytes = hex!("0f 05 8c01 ffffffff0f 02");
        for (len, (field, offset)) in [
            (1, ("cloud reason", 1)),
            (2, ("reset reason", 2)),
            (3, ("reset reason", 2)),
            (4, ("sleep duration", 4)),
            (8, ("sleep duration", 4)),
            (9, ("network reason", 9)),
        ] {
            assert_eq!(Goodbye::decode(&bytes[..len]), Err(GoodbyeError::Truncated { field, offset }));
        }
    }

    #[test]
    fn integer_above_32_bits_is_an_error_and_a_long_one_is_not() {
        for bytes in [hex!("04 ffffffff10"), hex!("04 ffffffff8f"), hex!("04 8080808080")] {
            let (field, offset) = ("sleep duration", 1);
            assert_eq!(Goodbye::decode(&bytes), Err(GoodbyeError::Overflow { field, offset }));
        }
        assert_eq!(Goodbye::decode(&hex!("04 8580808000")).unwrap().sleep_seconds, Some(5));
    }

    #[test]
    fn more_than_devices_build_is_not_sent() {
        let goodbye = Goodbye { rest: &[0; 25], ..Goodbye::default() };
        let error = EncodeError::TooLarge { field: "Goodbye payload", limit: 25, found: 26 };
        assert_eq!(goodbye.encode_into(&mut [0; 64]), Err(error));
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(
            cloud: Option<u32>, reset: Option<u32>, sleep: Option<u32>, network: Option<u32>,
        ) {
            let goodbye = Goodbye {
                cloud_reason: cloud.map(CloudReason::from),
                reset_reason: reset.map(ResetReason::from),
                sleep_seconds: sleep,
                network_reason: network.map(NetworkReason::from),
                ..Goodbye::default()
            };
            let mut out = [0; Goodbye::MAX_LEN];
            let bytes = goodbye.encode_into(&mut out).unwrap();
            prop_assert_eq!(Goodbye::decode(bytes), Ok(goodbye));
        }

        #[test]
        fn any_bytes_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(goodbye) = Goodbye::decode(&bytes) {
                let mut out = [0; Goodbye::MAX_LEN];
                if let Ok(again) = goodbye.encode_into(&mut out) {
                    prop_assert_eq!(Goodbye::decode(again), Ok(goodbye));
                }
            }
        }
    }
}
