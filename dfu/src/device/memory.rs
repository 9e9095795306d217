//! What the device machine needs from the memory behind it.

use core::time::Duration;

/// Memory that the device reads at once and that says how long changes take.
///
/// Reading happens inside [`Device::control`](super::Device::control), because UPLOAD has to be answered at once.
/// Erasing and programming do not: they leave as [`Work`].
pub trait Memory {
    /// Copies memory from `address` of an alternate setting into `out`, up to its length or to the end of what is
    /// readable, and returns the number of bytes copied.
    fn read(&mut self, alternate: u8, address: u32, out: &mut [u8]) -> usize;

    /// How long the work will take at most. It becomes bwPollTimeout, in milliseconds up to 4.6 hours; hosts wait that
    /// long.
    fn estimate(&self, work: &Work<'_>) -> Duration;
}

/// Work that the owner of the memory does after the reply that announced it was sent.
///
/// With [`Rules::Strict`](super::Rules) the whole range is inside the memory map and has the access it needs. With
/// [`Rules::Stm32`](super::Rules) only its first byte is: check the rest and end the work with an error.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Work<'a> {
    /// Erase the page that contains the address.
    Erase {
        /// Alternate setting.
        alternate: u8,
        /// Any address of the page.
        address: u32,
    },
    /// Erase all of the alternate setting.
    MassErase {
        /// Alternate setting.
        alternate: u8,
    },
    /// Write the data.
    Program {
        /// Alternate setting.
        alternate: u8,
        /// Where the first byte goes.
        address: u32,
        /// The bytes, at most wTransferSize.
        data: &'a [u8],
    },
    /// Leave DFU mode: detach from the bus and start the application.
    Leave {
        /// The address pointer, by DfuSe the start of the application. Particle's bootloaders ignore it.
        address: u32,
    },
}

/// Without the data: it may be a private key.
impl core::fmt::Debug for Work<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Erase { alternate, address } => {
                f.debug_struct("Erase").field("alternate", alternate).field("address", address).finish()
            }
            Self::MassErase { alternate } => {
                f.debug_struct("MassErase").field("alternate", alternate).finish()
            }
            Self::Program { alternate, address, data } => f
                .debug_struct("Program")
                .field("alternate", alternate)
                .field("address", address)
                .field("len", &data.len())
                .finish(),
            Self::Leave { address } => f.debug_struct("Leave").field("address", address).finish(),
        }
    }
}
