//! What a host machine has to know about the device it talks to.

use super::Policy;
use crate::{
    descriptor::{Attributes, FunctionalDescriptor},
    quirk::Quirks,
};

/// The device as a host sees it: one value that every machine takes.
///
/// ```
/// use spark_dfu::{descriptor::FunctionalDescriptor, host::Link, quirk::Quirks};
/// let link = Link::new(0, &FunctionalDescriptor::PHOTON).with_quirks(Quirks::PHOTON);
/// assert_eq!(link.transfer_size, 4096);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "meant for struct update")]
pub struct Link {
    /// `bInterfaceNumber`, the wIndex of all requests.
    pub interface: u8,
    /// The alternate setting that is selected. Machines do not select it, but some quirks are about single memories.
    pub alternate: u8,
    /// `wTransferSize`: most bytes of one block.
    pub transfer_size: u16,
    /// Most bytes that are sent or asked for in one transfer, if the transport or a person wants fewer than
    /// `wTransferSize`. Block numbers still count in units of `wTransferSize`, so smaller blocks cost a SET_ADDRESS each.
    pub max_block: u16,
    /// `bmAttributes`.
    pub attributes: Attributes,
    /// `wDetachTimeOut` in milliseconds.
    pub detach_timeout_ms: u16,
    /// `bcdDFUVersion`.
    pub dfu_version: u16,
    /// How the device differs from the standard.
    pub quirks: Quirks,
    /// Limits on waiting.
    pub policy: Policy,
}

impl Link {
    /// Photon, P1 and Electron.
    pub const PHOTON: Self = Self { quirks: Quirks::PHOTON, ..Self::new(0, &FunctionalDescriptor::PHOTON) };

    /// A device without quirks, by its functional descriptor.
    #[must_use]
    pub const fn new(interface: u8, functional: &FunctionalDescriptor) -> Self {
        Self {
            interface,
            alternate: 0,
            transfer_size: functional.transfer_size,
            max_block: u16::MAX,
            attributes: functional.attributes,
            detach_timeout_ms: functional.detach_timeout_ms,
            dfu_version: functional.dfu_version,
            quirks: Quirks::NONE,
            policy: Policy::DEFAULT,
        }
    }

    /// The same device with quirks; a wrong `bcdDFUVersion` is corrected.
    #[must_use]
    pub const fn with_quirks(self, quirks: Quirks) -> Self {
        let dfu_version = match quirks.dfu_version {
            Some(version) => version,
            None => self.dfu_version,
        };
        Self { dfu_version, quirks, ..self }
    }

    /// The same device with other limits.
    #[must_use]
    pub const fn with_policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// The same device with another alternate setting selected.
    #[must_use]
    pub const fn with_alternate(self, alternate: u8) -> Self {
        Self { alternate, ..self }
    }

    /// Bytes of a full block; a multiple of what the device needs, if that is possible.
    #[must_use]
    pub const fn block_size(&self) -> u16 {
        let size = if self.max_block < self.transfer_size { self.max_block } else { self.transfer_size };
        match size.checked_rem(self.quirks.write_multiple) {
            Some(rest) if rest < size => size - rest,
            _ => size,
        }
    }

    /// Whether the device speaks DfuSe: `bcdDFUVersion` is 0x011A.
    #[must_use]
    pub const fn is_dfuse(&self) -> bool {
        self.dfu_version == FunctionalDescriptor::DFUSE_VERSION
    }
}
