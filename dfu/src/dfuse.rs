//! ST DfuSe on the wire: commands in block 0, and where a data block goes.

use crate::error::BufferTooSmall;

/// Block number of commands.
pub const COMMAND_BLOCK: u16 = 0;
/// First block number that carries data; block 1 is reserved.
pub const FIRST_DATA_BLOCK: u16 = 2;
/// Command code of [`Command::SetAddress`].
pub const SET_ADDRESS: u8 = 0x21;
/// Command code of [`Command::ErasePage`] and [`Command::MassErase`].
pub const ERASE: u8 = 0x41;
/// Command code of [`Command::ReadUnprotect`].
pub const READ_UNPROTECT: u8 = 0x92;
/// Command code of [`Command::GetCommands`].
pub const GET_COMMANDS: u8 = 0x00;

/// A DfuSe command, the payload of DNLOAD with block number 0.
///
/// | bytes | meaning |
/// |---|---|
/// | `21` address (4, little-endian) | set the address pointer |
/// | `41` address (4, little-endian) | erase the page that holds the address |
/// | `41` | mass erase |
/// | `92` | read unprotect: erases all, the device disconnects |
/// | `00` | get commands: the reply is read with UPLOAD of block 0 |
///
/// ```
/// use spark_dfu::dfuse::Command;
/// let mut out = [0; Command::MAX_LEN];
/// assert_eq!(Command::SetAddress(0x080A_0000).encode_into(&mut out)?, [0x21, 0x00, 0x00, 0x0A, 0x08]);
/// # Ok::<(), spark_dfu::BufferTooSmall>(())
/// ```
///
/// # Source
/// ST AN3156, section 4; UM0391.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Command {
    /// Set the address pointer.
    SetAddress(u32),
    /// Erase the page that contains the address.
    ErasePage(u32),
    /// Erase everything.
    MassErase,
    /// Remove the read protection, which erases everything.
    ReadUnprotect,
    /// Ask for the list of commands.
    GetCommands,
}

impl Command {
    /// Length of the longest command in bytes.
    pub const MAX_LEN: usize = 5;

    /// Decodes the payload of a DNLOAD of block 0.
    ///
    /// # Errors
    /// [`CommandError`] for an empty payload, an unknown code, or a length the code does not have.
    pub const fn parse(payload: &[u8]) -> Result<Self, CommandError> {
        match *payload {
            [SET_ADDRESS, a, b, c, d] => Ok(Self::SetAddress(u32::from_le_bytes([a, b, c, d]))),
            [ERASE, a, b, c, d] => Ok(Self::ErasePage(u32::from_le_bytes([a, b, c, d]))),
            [ERASE] => Ok(Self::MassErase),
            [READ_UNPROTECT] => Ok(Self::ReadUnprotect),
            [GET_COMMANDS] => Ok(Self::GetCommands),
            [] => Err(CommandError::Empty),
            [code @ (SET_ADDRESS | ERASE | READ_UNPROTECT | GET_COMMANDS), ..] => {
                Err(CommandError::Length { code, len: payload.len() })
            }
            [code, ..] => Err(CommandError::Unknown { code }),
        }
    }

    /// Length of the encoded command: 1 or 5.
    #[must_use]
    pub const fn encoded_len(self) -> usize {
        match self {
            Self::SetAddress(_) | Self::ErasePage(_) => 5,
            _ => 1,
        }
    }

    /// Encodes the command at the start of `out`.
    ///
    /// # Errors
    /// [`BufferTooSmall`]; [`Self::MAX_LEN`] always suffices.
    pub fn encode_into(self, out: &mut [u8]) -> Result<&[u8], BufferTooSmall> {
        let (needed, available) = (self.encoded_len(), out.len());
        let target = out.get_mut(..needed).ok_or(BufferTooSmall { needed, available })?;
        for (to, from) in target.iter_mut().zip(self.to_array()) {
            *to = from;
        }
        Ok(target)
    }

    /// The command followed by zeros up to [`Self::MAX_LEN`].
    pub(crate) const fn to_array(self) -> [u8; Self::MAX_LEN] {
        let (code, address) = match self {
            Self::SetAddress(address) => (SET_ADDRESS, address),
            Self::ErasePage(address) => (ERASE, address),
            Self::MassErase => (ERASE, 0),
            Self::ReadUnprotect => (READ_UNPROTECT, 0),
            Self::GetCommands => (GET_COMMANDS, 0),
        };
        let [a, b, c, d] = address.to_le_bytes();
        [code, a, b, c, d]
    }
}

/// A contiguous piece of an image: what a DfuSe file consists of, and what a host writes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "an address and its bytes")]
pub struct Element<'a> {
    /// Address of the first byte; `dwElementAddress` in a file.
    pub address: u32,
    /// The bytes; `dwElementSize` in a file is their number.
    pub data: &'a [u8],
}

/// Without the bytes: they may be a private key.
impl core::fmt::Debug for Element<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Element").field("address", &self.address).field("len", &self.data.len()).finish()
    }
}

/// The payload of block 0 is no DfuSe command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Nothing there.
    #[error("a DfuSe command has at least one byte")]
    Empty,
    /// The code is known but not with this length.
    #[error("DfuSe command {code:#04x} cannot be {len} bytes long")]
    Length {
        /// The command code.
        code: u8,
        /// Bytes of the payload.
        len: usize,
    },
    /// The code is not known.
    #[error("DfuSe command {code:#04x} is unknown")]
    Unknown {
        /// The command code.
        code: u8,
    },
}

/// The address of a data block, `None` for blocks 0 and 1.
///
/// `transfer_size` is the device's own `wTransferSize`, not the length of this block. The sum may exceed 32 bits.
///
/// ```
/// use spark_dfu::dfuse::block_address;
/// assert_eq!(block_address(0x0802_0000, 4, 4096), Some(0x0802_2000));
/// assert_eq!(block_address(0x0802_0000, 1, 4096), None);
/// ```
///
/// # Source
/// ST AN3156, section 4.2: pointer + (wBlockNum - 2) * wTransferSize.
#[must_use]
pub const fn block_address(pointer: u32, block: u16, transfer_size: u16) -> Option<u64> {
    match block.checked_sub(FIRST_DATA_BLOCK) {
        Some(blocks) => Some(pointer as u64 + blocks as u64 * transfer_size as u64),
        None => None,
    }
}

/// How many bytes one address pointer reaches: blocks 2 to 65535. Beyond that the pointer has to be set anew.
#[must_use]
pub const fn reach(transfer_size: u16) -> u64 {
    (u16::MAX - FIRST_DATA_BLOCK + 1) as u64 * transfer_size as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    const COMMANDS: [(Command, &[u8]); 5] = [
        (Command::SetAddress(34), &hex!("21 22000000")),
        (Command::ErasePage(0x0802_0000), &hex!("41 00000208")),
        (Command::MassErase, &hex!("41")),
        (Command::ReadUnprotect, &hex!("92")),
        (Command::GetCommands, &hex!("00")),
    ];

    #[test]
    fn commands_have_the_bytes_of_the_note() {
        for (command, bytes) in COMMANDS {
            assert_eq!(command.encode_into(&mut [0; 5]).unwrap(), bytes);
            assert_eq!(Command::parse(bytes), Ok(command));
            let needed = bytes.len();
            let error = BufferTooSmall { needed, available: needed - 1 };
            assert_eq!(command.encode_into(&mut [0; 5][..needed - 1]), Err(error));
        }
    }

    #[test]
    fn wrong_lengths_and_codes_are_told_apart() {
        assert_eq!(Command::parse(&[]), Err(CommandError::Empty));
        assert_eq!(Command::parse(&hex!("21 2200")), Err(CommandError::Length { code: 0x21, len: 3 }));
        assert_eq!(Command::parse(&hex!("92 00")), Err(CommandError::Length { code: 0x92, len: 2 }));
        assert_eq!(Command::parse(&hex!("7F")), Err(CommandError::Unknown { code: 0x7F }));
    }

    #[test]
    fn one_pointer_reaches_the_last_block_and_not_further() {
        assert_eq!(reach(4096), 65534 * 4096);
        assert_eq!(block_address(0, 65535, 4096), Some(reach(4096) - 4096));
        assert_eq!(block_address(u32::MAX, 65535, 65535), Some(0xFFFF_FFFF + 65533 * 65535));
    }

    proptest! {
        #[test]
        fn what_parses_encodes_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..8)) {
            if let Ok(command) = Command::parse(&bytes) {
                let mut out = [0; 5];
                prop_assert_eq!(command.encode_into(&mut out).unwrap(), &bytes[..]);
            }
        }
    }
}
