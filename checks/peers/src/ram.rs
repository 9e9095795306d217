//! The memory of our devices in these tests.

use std::time::Duration;

use spark_dfu::Status;
use spark_dfu::descriptor::{Attributes, Description, FunctionalDescriptor};
use spark_dfu::device::{Memory, Work};

/// 64 KiB of flash in pages of 1 KiB, where plain images lie at address 0.
#[derive(Debug, Clone)]
pub struct Ram {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Address of the first one.
    pub base: u32,
    /// The device was told to leave DFU mode.
    pub left: bool,
    /// Lengths of the images that were manifested.
    pub manifested: Vec<u64>,
}

/// Base address of the DfuSe memory.
pub const BASE: u32 = 0x0800_0000;

/// A DfuSe device over this memory.
#[must_use]
pub fn dfuse(transfer_size: u16) -> Description<'static> {
    Description {
        alternates: &["@Flash/0x08000000/64*1Kg"],
        functional: FunctionalDescriptor { transfer_size, ..FunctionalDescriptor::PHOTON },
        ..Description::photon("1")
    }
}

/// A plain DFU 1.1 device over this memory.
#[must_use]
pub fn plain(transfer_size: u16, attributes: u8) -> Description<'static> {
    Description {
        alternates: &["Flash"],
        functional: FunctionalDescriptor {
            attributes: Attributes(attributes),
            transfer_size,
            dfu_version: FunctionalDescriptor::VERSION_1_1,
            ..FunctionalDescriptor::PHOTON
        },
        ..Description::photon("1")
    }
}

impl Ram {
    /// Memory with a pattern that is no erased flash.
    #[must_use]
    pub fn new(base: u32) -> Self {
        let bytes = (0..65_536_usize).map(|i| (i ^ (i >> 8)).to_le_bytes()[0]).collect();
        Self { bytes, base, left: false, manifested: Vec::new() }
    }

    /// Does a work item.
    ///
    /// # Errors
    /// The status for the host.
    pub fn perform(&mut self, work: &Work<'_>) -> Result<(), Status> {
        let index = |address: u32| {
            let at = address.checked_sub(self.base).ok_or(Status::Address)?;
            usize::try_from(at).map_err(|_| Status::Address)
        };
        match *work {
            Work::Erase { address, .. } => {
                let at = index(address)? & !0x3FF;
                self.bytes.get_mut(at..at + 1024).ok_or(Status::Address)?.fill(0xFF);
            }
            Work::Program { address, data, .. } => {
                let at = index(address)?;
                let plain = self.base == 0;
                let cells = self.bytes.get_mut(at..at + data.len()).ok_or(Status::Address)?;
                for (cell, byte) in cells.iter_mut().zip(data) {
                    *cell = if plain { *byte } else { *cell & byte };
                }
                if cells != data {
                    return Err(Status::Verify);
                }
            }
            Work::Manifest { len, .. } => self.manifested.push(len),
            Work::Leave { .. } => self.left = true,
            _ => return Err(Status::Unknown),
        }
        Ok(())
    }
}

impl Memory for Ram {
    fn read(&mut self, _: u8, address: u32, out: &mut [u8]) -> usize {
        let at = address.checked_sub(self.base).and_then(|at| usize::try_from(at).ok());
        let from = at.and_then(|at| self.bytes.get(at..)).unwrap_or_default();
        let len = from.len().min(out.len());
        out[..len].copy_from_slice(&from[..len]);
        len
    }

    fn estimate(&self, _: &Work<'_>) -> Duration {
        Duration::from_millis(1)
    }
}
