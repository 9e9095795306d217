//! What the device machine needs from the memory behind it.

use core::time::Duration;

/// Memory that the device reads at once and that says how long changes take.
///
/// Reading happens inside [`Device::control`](super::Device::control), because UPLOAD has to be answered at once.
/// Erasing and programming do not: they leave as [`Work`].
pub trait Memory {
    /// Copies memory from `address` of an alternate setting into `out`, up to its length or to the end of what is
    /// readable, and returns the number of bytes copied. In plain DFU `address` counts from the start of the image, and
    /// fewer bytes than asked for end the upload.
    fn read(&mut self, alternate: u8, address: u32, out: &mut [u8]) -> usize;

    /// How long the work will take at most. It becomes bwPollTimeout, in milliseconds up to 4.6 hours; hosts wait that
    /// long.
    fn estimate(&self, work: &Work<'_>) -> Duration;

    /// Whether an alternate setting is read-protected now. Every DfuSe read, write and erase then fails with errVENDOR
    /// until [`Work::ReadUnprotect`] is done.
    fn protected(&self, alternate: u8) -> bool {
        let _ = alternate;
        false
    }

    /// Whether a plain download of `len` bytes may end here; `false` answers errNOTDONE.
    fn complete(&self, alternate: u8, len: u64) -> bool {
        let _ = (alternate, len);
        true
    }
}

/// Work that the owner of the memory does after the reply that announced it was sent.
///
/// In DfuSe the whole range is inside the memory map and has the access it needs, if the profile
/// [checks the range](super::Profile::checks_range); else only its first byte is: check the rest and end the work with
/// an error. In plain DFU there is no map: addresses count from the start of the image, and where the memory ends the
/// work ends with [`Status::Address`](crate::Status::Address).
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
    /// Erase all of the alternate setting, take its read protection away, disconnect and restart in DFU mode.
    ReadUnprotect {
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
    /// A plain download has ended: check the image and make it the one that runs. A failure becomes dfuERROR, for
    /// instance with [`Status::Verify`](crate::Status::Verify) or [`Status::Firmware`](crate::Status::Firmware).
    Manifest {
        /// Alternate setting.
        alternate: u8,
        /// Bytes of the image.
        len: u64,
    },
    /// Leave DFU mode: detach from the bus and start the application. A device that cannot, because the application is
    /// damaged, ends this with [`Status::Firmware`](crate::Status::Firmware).
    Leave {
        /// The address pointer, by DfuSe the start of the application. Particle's bootloaders ignore it; 0 in plain DFU.
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
            Self::ReadUnprotect { alternate } => {
                f.debug_struct("ReadUnprotect").field("alternate", alternate).finish()
            }
            Self::Program { alternate, address, data } => f
                .debug_struct("Program")
                .field("alternate", alternate)
                .field("address", address)
                .field("len", &data.len())
                .finish(),
            Self::Manifest { alternate, len } => {
                f.debug_struct("Manifest").field("alternate", alternate).field("len", len).finish()
            }
            Self::Leave { address } => f.debug_struct("Leave").field("address", address).finish(),
        }
    }
}
