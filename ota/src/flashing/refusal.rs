//! Why files are not written.

use crate::module::{ExtensionError, ModuleError, ModuleFunction, ModuleKey, platform_name};
use core::fmt;

/// Why these files cannot be written to this device. `file` is the place of a file in the list, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is nothing to write.
    #[error("there is nothing to write")]
    Nothing,
    /// There are too many modules.
    #[error("there are more than {limit} modules")]
    TooMany {
        /// Allowed.
        limit: usize,
    },
    /// A file is no module.
    #[error("it is no module")]
    NotAModule {
        /// The file.
        file: usize,
        /// Why not.
        #[source]
        error: ModuleError,
    },
    /// A file has something beside its modules that is no padding: a damaged module, or one that does not belong there.
    #[error("what is at {offset:#x} of it is no good module")]
    Unknown {
        /// The file.
        file: usize,
        /// Where it is.
        offset: usize,
    },
    /// A prefix is to be dropped, and where it ends cannot be told.
    #[error("where the prefix of the {key} ends cannot be told, and it is to be dropped")]
    Prefix {
        /// The file.
        file: usize,
        /// The module.
        key: ModuleKey,
        /// Why not.
        #[source]
        error: ExtensionError,
    },
    /// A module was never given its checksums.
    #[error("the {key} was never finalised: its build did not put in the checksums")]
    NotFinalised {
        /// The file.
        file: usize,
        /// The module.
        key: ModuleKey,
    },
    /// The CRC of a module is wrong.
    #[error("the CRC of the {key} is {stored:08x} and should be {computed:08x}")]
    Crc {
        /// The file.
        file: usize,
        /// The module.
        key: ModuleKey,
        /// As stored.
        stored: u32,
        /// As it should be.
        computed: u32,
    },
    /// A module is for another platform.
    #[error("the {key} is for {}, not for {}", Platform(*found), Platform(*expected))]
    Platform {
        /// The file.
        file: usize,
        /// The module.
        key: ModuleKey,
        /// Platform id of the module.
        found: u16,
        /// Platform id of the device.
        expected: u16,
    },
    /// A compressed or encrypted module: no device unpacks it where it is written to.
    #[error("the {key} is compressed or encrypted")]
    Packed {
        /// The file.
        file: usize,
        /// The module.
        key: ModuleKey,
    },
    /// Where such modules lie, USB does not reach.
    #[error("modules of this kind ({function}) cannot be written over USB")]
    NotOverUsb {
        /// The file.
        file: usize,
        /// What it is for.
        function: ModuleFunction,
    },
    /// The platform has no such module.
    #[error("{} has no {key}", Platform(*platform_id))]
    NoPlace {
        /// The file.
        file: usize,
        /// The module.
        key: ModuleKey,
        /// Platform id of the device.
        platform_id: u16,
    },
    /// The module is built for an address where the platform has no such module.
    #[error("the {key} is built for {start:#010x}, where the device has none")]
    StartAddress {
        /// The file.
        file: usize,
        /// The module.
        key: ModuleKey,
        /// Its start address.
        start: u32,
    },
    /// Only an application can be the copy for the factory reset.
    #[error("only an application can be the copy for the factory reset, not this ({function})")]
    Factory {
        /// The file.
        file: usize,
        /// What it is for.
        function: ModuleFunction,
    },
    /// A module is longer than its place.
    #[error("the {key} has {len} bytes; there is room for {room}")]
    TooLong {
        /// The file.
        file: usize,
        /// The module.
        key: ModuleKey,
        /// Bytes to write.
        len: usize,
        /// Bytes of the place.
        room: u32,
    },
    /// Two modules would be written to the same place.
    #[error("both the {first} and the {second} would be written to {address:#010x}")]
    Overlap {
        /// The file of the second one.
        file: usize,
        /// The one that comes first.
        first: ModuleKey,
        /// The other one.
        second: ModuleKey,
        /// The first address that both have.
        address: u32,
    },
    /// A whole system was asked for, and a module of it is missing.
    #[error("the {key} is missing for a whole system")]
    Incomplete {
        /// What is missing.
        key: ModuleKey,
    },
    /// A whole system was asked for on a platform whose system comes with the application.
    #[error("{} has no system of its own; write its firmware as a file", Platform(*platform_id))]
    NoSystem {
        /// Platform id of the device.
        platform_id: u16,
    },
}

impl Refusal {
    /// The file that it is about.
    #[must_use]
    pub const fn file(&self) -> Option<usize> {
        Some(match self {
            Self::NotAModule { file, .. }
            | Self::Unknown { file, .. }
            | Self::Prefix { file, .. }
            | Self::NotFinalised { file, .. }
            | Self::Crc { file, .. }
            | Self::Platform { file, .. }
            | Self::Packed { file, .. }
            | Self::NotOverUsb { file, .. }
            | Self::NoPlace { file, .. }
            | Self::StartAddress { file, .. }
            | Self::Factory { file, .. }
            | Self::TooLong { file, .. }
            | Self::Overlap { file, .. } => *file,
            Self::Nothing | Self::TooMany { .. } | Self::Incomplete { .. } | Self::NoSystem { .. } => {
                return None;
            }
        })
    }
}

/// A platform by its name, if it has one.
pub(super) struct Platform(pub(super) u16);

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match platform_name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "platform {}", self.0),
        }
    }
}
