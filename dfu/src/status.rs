//! Status codes (`bStatus`) and the six-byte reply to GETSTATUS.

use core::{fmt, time::Duration};

use crate::state::State;

/// `bStatus`: why the last operation failed, or that it did not.
///
/// # Source
/// USB DFU 1.1, section 6.1.2; DfuSe meanings from ST AN3156.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Status {
    /// `OK` (0x00).
    Ok,
    /// `errTARGET` (0x01): the file is not for this device; in DfuSe, a bad address.
    #[doc(alias = "errTARGET")]
    Target,
    /// `errFILE` (0x02): a vendor check of the file failed.
    #[doc(alias = "errFILE")]
    File,
    /// `errWRITE` (0x03): the memory cannot be written.
    #[doc(alias = "errWRITE")]
    Write,
    /// `errERASE` (0x04): erasing failed.
    #[doc(alias = "errERASE")]
    Erase,
    /// `errCHECK_ERASED` (0x05): the erase check failed.
    #[doc(alias = "errCHECK_ERASED")]
    CheckErased,
    /// `errPROG` (0x06): programming failed.
    #[doc(alias = "errPROG")]
    Program,
    /// `errVERIFY` (0x07): the written memory differs.
    #[doc(alias = "errVERIFY")]
    Verify,
    /// `errADDRESS` (0x08): the address is out of range.
    #[doc(alias = "errADDRESS")]
    Address,
    /// `errNOTDONE` (0x09): the zero-length DNLOAD came too early.
    #[doc(alias = "errNOTDONE")]
    NotDone,
    /// `errFIRMWARE` (0x0A): the run-time firmware is corrupt.
    #[doc(alias = "errFIRMWARE")]
    Firmware,
    /// `errVENDOR` (0x0B): see `iString`; in DfuSe, read protection is active.
    #[doc(alias = "errVENDOR")]
    Vendor,
    /// `errUSBR` (0x0C): an unexpected USB reset.
    #[doc(alias = "errUSBR")]
    UsbReset,
    /// `errPOR` (0x0D): an unexpected power-on reset.
    #[doc(alias = "errPOR")]
    PowerOnReset,
    /// `errUNKNOWN` (0x0E).
    #[doc(alias = "errUNKNOWN")]
    Unknown,
    /// `errSTALLEDPKT` (0x0F): the device stalled a request it did not expect.
    #[doc(alias = "errSTALLEDPKT")]
    StalledPacket,
    /// A value the standard does not assign.
    Other(u8),
}

impl Status {
    /// Decodes `bStatus`.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            0x00 => Self::Ok,
            0x01 => Self::Target,
            0x02 => Self::File,
            0x03 => Self::Write,
            0x04 => Self::Erase,
            0x05 => Self::CheckErased,
            0x06 => Self::Program,
            0x07 => Self::Verify,
            0x08 => Self::Address,
            0x09 => Self::NotDone,
            0x0A => Self::Firmware,
            0x0B => Self::Vendor,
            0x0C => Self::UsbReset,
            0x0D => Self::PowerOnReset,
            0x0E => Self::Unknown,
            0x0F => Self::StalledPacket,
            other => Self::Other(other),
        }
    }

    /// Encodes `bStatus`.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0x00,
            Self::Target => 0x01,
            Self::File => 0x02,
            Self::Write => 0x03,
            Self::Erase => 0x04,
            Self::CheckErased => 0x05,
            Self::Program => 0x06,
            Self::Verify => 0x07,
            Self::Address => 0x08,
            Self::NotDone => 0x09,
            Self::Firmware => 0x0A,
            Self::Vendor => 0x0B,
            Self::UsbReset => 0x0C,
            Self::PowerOnReset => 0x0D,
            Self::Unknown => 0x0E,
            Self::StalledPacket => 0x0F,
            Self::Other(code) => code,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "OK",
            Self::Target => "errTARGET",
            Self::File => "errFILE",
            Self::Write => "errWRITE",
            Self::Erase => "errERASE",
            Self::CheckErased => "errCHECK_ERASED",
            Self::Program => "errPROG",
            Self::Verify => "errVERIFY",
            Self::Address => "errADDRESS",
            Self::NotDone => "errNOTDONE",
            Self::Firmware => "errFIRMWARE",
            Self::Vendor => "errVENDOR",
            Self::UsbReset => "errUSBR",
            Self::PowerOnReset => "errPOR",
            Self::Unknown => "errUNKNOWN",
            Self::StalledPacket => "errSTALLEDPKT",
            Self::Other(code) => return write!(f, "status {code:#04x}"),
        })
    }
}

/// The reply to GETSTATUS.
///
/// | offset | size | field | |
/// |---|---|---|---|
/// | 0 | 1 | `bStatus` | |
/// | 1 | 3 | `bwPollTimeout` | little-endian milliseconds, up to 16 777 215 (4.6 hours) |
/// | 4 | 1 | `bState` | the state the device enters *after* this reply |
/// | 5 | 1 | `iString` | string index, meaningful with errVENDOR |
///
/// ```
/// use spark_dfu::{State, Status, StatusReply};
/// let reply = StatusReply::parse(&[0x00, 0xF4, 0x01, 0x00, 0x04, 0x00])?;
/// assert_eq!((reply.status, reply.state), (Status::Ok, State::DnBusy));
/// assert_eq!(reply.poll_timeout.as_millis(), 500);
/// # Ok::<(), spark_dfu::StatusReplyError>(())
/// ```
///
/// # Source
/// USB DFU 1.1, section 6.1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_structs, reason = "the standard fixes the fields")]
pub struct StatusReply {
    /// `bStatus`.
    pub status: Status,
    /// `bwPollTimeout`: wait this long before the next GETSTATUS.
    pub poll_timeout: Duration,
    /// `bState`.
    pub state: State,
    /// `iString`.
    pub string_index: u8,
}

impl StatusReply {
    /// Length of the reply in bytes.
    pub const ENCODED_LEN: usize = 6;
    /// The longest time the 24-bit field can say.
    pub const MAX_POLL_TIMEOUT: Duration = Duration::from_millis(0xFF_FFFF);

    /// Decodes a reply of exactly six bytes.
    ///
    /// # Errors
    /// [`StatusReplyError`] if the length differs; every content decodes.
    pub const fn parse(input: &[u8]) -> Result<Self, StatusReplyError> {
        let &[status, p0, p1, p2, state, string_index] = input else {
            return Err(StatusReplyError { len: input.len() });
        };
        Ok(Self {
            status: Status::from_code(status),
            poll_timeout: Duration::from_millis(u32::from_le_bytes([p0, p1, p2, 0]) as u64),
            state: State::from_code(state),
            string_index,
        })
    }

    /// Encodes the reply; a poll time-out is rounded up to whole milliseconds and cut to [`Self::MAX_POLL_TIMEOUT`].
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::ENCODED_LEN] {
        let ms = self.poll_timeout.min(Self::MAX_POLL_TIMEOUT).as_nanos().div_ceil(1_000_000);
        let [p0, p1, p2, _] = u32::try_from(ms).unwrap_or(0xFF_FFFF).to_le_bytes();
        [self.status.code(), p0, p1, p2, self.state.code(), self.string_index]
    }
}

/// A reply to GETSTATUS was not six bytes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the device answered GETSTATUS with {len} bytes instead of 6")]
pub struct StatusReplyError {
    /// Bytes that arrived.
    pub len: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    #[test]
    fn poll_timeout_is_cut_to_24_bits_and_rounded_up() {
        let reply = |poll_timeout| StatusReply {
            status: Status::Ok,
            poll_timeout,
            state: State::DnBusy,
            string_index: 0,
        };
        assert_eq!(reply(Duration::MAX).to_bytes(), hex!("00 FFFFFF 04 00"));
        assert_eq!(reply(Duration::from_nanos(1_000_001)).to_bytes(), hex!("00 020000 04 00"));
        assert_eq!(reply(Duration::from_micros(1001)).to_bytes(), hex!("00 020000 04 00"));
    }

    #[test]
    fn other_lengths_are_refused() {
        let bytes = [0_u8; 16];
        for len in (0..=16).filter(|&len| len != 6) {
            assert_eq!(StatusReply::parse(&bytes[..len]), Err(StatusReplyError { len }));
        }
    }

    proptest! {
        #[test]
        fn every_six_bytes_survive_decoding_and_encoding(bytes: [u8; 6]) {
            prop_assert_eq!(StatusReply::parse(&bytes).unwrap().to_bytes(), bytes);
        }
    }
}
