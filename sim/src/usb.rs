//! The bootloader's USB side: a Photon in DFU mode as one function, "setup packet and OUT data give IN data or a stall".

use crate::config;
use crate::flash::{BASE, Flash, SIZE};
use core::time::Duration;
use spark_dct::wiced::Generation;
use spark_dfu::descriptor::Description;
use spark_dfu::device::{Device, DeviceError, Memory, Profile, Work};
use spark_dfu::host::{Clock, ControlTransfer, TransferFailure};
use spark_dfu::{SetupPacket, Status};

/// The bootloader refuses to touch anything below: itself, the configuration and what lies between.
const WRITABLE_FROM: u32 = 0x0802_0000;
/// Alternate setting of the internal flash.
pub const INTERNAL_FLASH: u8 = 0;
/// Alternate setting of the configuration table: addresses are offsets in its application section.
pub const CONFIGURATION: u8 = 1;
/// Offsets that the configuration alternate claims to have.
const CONFIGURATION_SIZE: u32 = 0x4000;

/// A cable to a Photon in DFU mode, with a virtual clock: waiting costs nothing.
///
/// It ends when the device leaves DFU mode, when the power fails, or when it is dropped (the cable is pulled).
pub struct UsbPort<'p> {
    device: Device<'p, [u8; 4096]>,
    memory: BootMemory<'p>,
    now: Duration,
    gone: bool,
}

/// What goes over the cable may be a private key.
impl core::fmt::Debug for UsbPort<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("UsbPort")
            .field("state", &self.device.state())
            .field("now", &self.now)
            .field("gone", &self.gone)
            .finish_non_exhaustive()
    }
}

impl<'p> UsbPort<'p> {
    pub(crate) fn new(
        flash: &'p mut Flash,
        serial: &'p str,
        configuration: Option<Generation>,
    ) -> Result<Self, DeviceError> {
        Ok(Self {
            device: Device::new(Description::photon(serial), Profile::PHOTON_2_3_1, [0; 4096])?,
            memory: BootMemory { flash, configuration },
            now: Duration::ZERO,
            gone: false,
        })
    }

    /// One control transfer.
    ///
    /// # Errors
    /// [`TransferFailure`]: a stall, or the device is gone.
    pub fn control(
        &mut self,
        setup: &[u8; 8],
        out_data: &[u8],
        in_data: &mut [u8],
    ) -> Result<usize, TransferFailure> {
        self.run_work()?;
        if self.gone {
            return Err(TransferFailure::Disconnected);
        }
        let answer = self.device.control(self.now, &mut self.memory, setup, out_data, in_data);
        // As on the chip, the work begins behind the reply; a failure stalls that reply after all.
        self.run_work()?;
        answer.map_err(|_| TransferFailure::Stalled)
    }

    /// A USB bus reset.
    pub fn bus_reset(&mut self) {
        self.device.bus_reset();
    }

    /// The device left DFU mode or lost its power.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        self.gone
    }

    /// Virtual time since the cable was plugged in.
    #[must_use]
    pub const fn elapsed(&self) -> Duration {
        self.now
    }

    fn run_work(&mut self) -> Result<(), TransferFailure> {
        while let Some(work) = self.device.work(self.now) {
            if matches!(work, Work::Leave { .. }) {
                self.gone = true;
                return Ok(());
            }
            let result = self.memory.perform(&work);
            if !self.memory.flash.is_powered() {
                self.gone = true;
                return Err(TransferFailure::Disconnected);
            }
            if self.device.work_done(self.now, result).is_err() {
                return Err(TransferFailure::Stalled);
            }
        }
        Ok(())
    }
}

impl ControlTransfer for UsbPort<'_> {
    fn control_out(&mut self, setup: SetupPacket, data: &[u8]) -> Result<(), TransferFailure> {
        self.control(&setup.to_bytes(), data, &mut []).map(|_| ())
    }

    fn control_in(&mut self, setup: SetupPacket, buffer: &mut [u8]) -> Result<usize, TransferFailure> {
        self.control(&setup.to_bytes(), &[], buffer)
    }
}

impl Clock for UsbPort<'_> {
    fn now(&mut self) -> Duration {
        self.now
    }

    fn wait_until(&mut self, until: Duration) {
        self.now = self.now.max(until);
        // The device leaves when its time has come, whether it is asked or not. A failure shows in the next transfer.
        let _ = self.run_work();
    }
}

/// What the bootloader's two alternates show of the chip.
#[derive(Debug)]
struct BootMemory<'p> {
    flash: &'p mut Flash,
    /// The generation of the code that serves the configuration; `None` if that code, which lives in system part 2
    /// since 0.7.0, is missing or broken.
    configuration: Option<Generation>,
}

impl Memory for BootMemory<'_> {
    fn read(&mut self, alternate: u8, address: u32, out: &mut [u8]) -> usize {
        let (table, stored);
        let from = if alternate == INTERNAL_FLASH {
            let rest = (BASE + SIZE).saturating_sub(address);
            let len = usize::try_from(rest).unwrap_or_default().min(out.len());
            stored = self.flash.read(address, len).unwrap_or_default();
            &stored
        } else if let Some(generation) = self.configuration {
            table = config::read(self.flash, generation);
            usize::try_from(address).ok().and_then(|at| table.get(at..)).unwrap_or_default()
        } else {
            &[]
        };
        let len = from.len().min(out.len());
        out[..len].copy_from_slice(&from[..len]);
        len
    }

    fn estimate(&self, work: &Work<'_>) -> Duration {
        match work {
            Work::Erase { alternate: INTERNAL_FLASH, .. } => Duration::from_secs(1),
            Work::Program { alternate: INTERNAL_FLASH, .. } => Duration::from_millis(50),
            Work::Program { .. } => Duration::from_millis(500),
            _ => Duration::ZERO,
        }
    }
}

impl BootMemory<'_> {
    fn perform(&mut self, work: &Work<'_>) -> Result<(), Status> {
        match *work {
            Work::Erase { alternate: INTERNAL_FLASH, address } if address >= WRITABLE_FROM => {
                self.flash.erase_sector(address).map_err(|_| Status::Erase)
            }
            Work::Program { alternate: INTERNAL_FLASH, address, data } if address >= WRITABLE_FROM => {
                // The chip programs words; the tail is filled up with FF, which changes nothing.
                self.flash.program(address, data).map_err(|_| Status::Program)?;
                let written = self.flash.read(address, data.len());
                if written.as_deref() == Some(data) { Ok(()) } else { Err(Status::Verify) }
            }
            // A no-op that reports success: neighbours of a field survive an erase command.
            Work::Erase { alternate: CONFIGURATION, address } if address < CONFIGURATION_SIZE => Ok(()),
            Work::Program { alternate: CONFIGURATION, address, data } if address < CONFIGURATION_SIZE => {
                let generation = self.configuration.ok_or(Status::Write)?;
                let offset = usize::try_from(address).map_err(|_| Status::Address)?;
                config::write(self.flash, generation, offset, data).map_err(|_| Status::Write)
            }
            _ => Err(Status::Address),
        }
    }
}
