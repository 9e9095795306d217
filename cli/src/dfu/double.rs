//! Devices that are no Photon, for tests: a DFU device machine over plain memory.

use super::candidate::Candidate;
use super::port::Port;
use crate::exit::{Code, Failure, chain};
use core::time::Duration;
use spark_dfu::SetupPacket;
use spark_dfu::descriptor::Description;
use spark_dfu::device::{Device, Memory, Profile, Work};
use spark_dfu::host::{Clock, ControlTransfer, TransferFailure};
use std::collections::BTreeSet;

pub(crate) const SERIAL: &str = "0123456789abcdef01234567";
const SPI_PAGE: usize = 4096;

/// What is behind alternate setting 1.
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    /// Pages that were erased; empty for a table, which is rewritten as a whole.
    pub(crate) erased: BTreeSet<usize>,
    is_table: bool,
}

/// A device in DFU mode.
pub(crate) struct Double {
    device: Device<'static, [u8; 4096]>,
    description: Description<'static>,
    pub(crate) content: Content,
    now: Duration,
}

impl Double {
    /// A Core: keys in SPI flash, with pages that have to be erased.
    pub(crate) fn core() -> Self {
        Self::new(Description::core(SERIAL), Profile::CORE, 0x8_0000, false)
    }

    /// An Electron: keys for TCP and UDP in a table.
    pub(crate) fn electron() -> Self {
        let description = Description { id_product: 0xD00A, ..Description::photon(SERIAL) };
        Self::new(description, Profile::PHOTON_2_3_1, 0x4000, true)
    }

    /// Some other maker's DfuSe device.
    pub(crate) fn stranger() -> Self {
        let description =
            Description { id_vendor: 0x0483, id_product: 0xDF11, ..Description::photon(SERIAL) };
        Self::new(description, Profile::STRICT, 0x4000, true)
    }

    fn new(description: Description<'static>, profile: Profile, len: usize, is_table: bool) -> Self {
        Self {
            device: Device::new(description, profile, [0; 4096]).unwrap(),
            description,
            content: Content { bytes: vec![0xFF; len], erased: BTreeSet::new(), is_table },
            now: Duration::ZERO,
        }
    }

    fn control(&mut self, setup: &[u8; 8], data: &[u8], out: &mut [u8]) -> Result<usize, TransferFailure> {
        let answer = self.device.control(self.now, &mut self.content, setup, data, out);
        while let Some(work) = self.device.work(self.now) {
            self.content.perform(&work);
            self.device.work_done(self.now, Ok(())).map_err(|_| TransferFailure::Stalled)?;
        }
        answer.map_err(|_| TransferFailure::Stalled)
    }
}

impl Content {
    fn perform(&mut self, work: &Work<'_>) {
        match *work {
            Work::Erase { alternate: 1, address } if !self.is_table => {
                let page = usize::try_from(address).unwrap() / SPI_PAGE;
                self.erased.insert(page);
                self.bytes[page * SPI_PAGE..][..SPI_PAGE].fill(0xFF);
            }
            Work::Program { alternate: 1, address, data } => {
                let cells = self.bytes.iter_mut().skip(usize::try_from(address).unwrap());
                for (cell, byte) in cells.zip(data) {
                    *cell = if self.is_table { *byte } else { *cell & byte };
                }
            }
            _ => {}
        }
    }
}

impl Memory for Content {
    fn read(&mut self, alternate: u8, address: u32, out: &mut [u8]) -> usize {
        let from = self.bytes.get(usize::try_from(address).unwrap()..).unwrap_or_default();
        let len = if alternate == 1 { from.len().min(out.len()) } else { 0 };
        out[..len].copy_from_slice(&from[..len]);
        len
    }

    fn estimate(&self, _: &Work<'_>) -> Duration {
        Duration::from_millis(20)
    }
}

impl ControlTransfer for Double {
    fn control_out(&mut self, setup: SetupPacket, data: &[u8]) -> Result<(), TransferFailure> {
        self.control(&setup.to_bytes(), data, &mut []).map(|_| ())
    }

    fn control_in(&mut self, setup: SetupPacket, buffer: &mut [u8]) -> Result<usize, TransferFailure> {
        self.control(&setup.to_bytes(), &[], buffer)
    }
}

impl Clock for Double {
    fn now(&mut self) -> Duration {
        self.now
    }

    fn wait_until(&mut self, until: Duration) {
        self.now = self.now.max(until);
    }
}

impl Port for Double {
    fn select(&mut self, alternate: u8) -> Result<(), Failure> {
        self.control_out(SetupPacket::set_interface(0, alternate), &[])
            .map_err(|error| Failure::new(Code::Io, chain(&error), "report this"))
    }

    fn candidate(&self) -> Candidate {
        Candidate::of_description(&self.description, "double")
    }
}
