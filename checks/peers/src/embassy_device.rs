//! embassy-usb's DFU class as a device: its handler called directly, without an executor.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use embassy_usb::Handler as _;
use embassy_usb::class::dfu::consts::{DfuAttributes, Status};
use embassy_usb::class::dfu::dfu_mode::{DfuState, Handler};
use embassy_usb::control::{InResponse, OutResponse, Request};
use spark_dfu::SetupPacket;
use spark_dfu::host::{Clock, ControlTransfer, TransferFailure};

/// What the class wrote.
#[derive(Debug, Default)]
pub struct Log {
    /// The image so far.
    pub image: Vec<u8>,
    /// The image was ended.
    pub finished: bool,
    /// The class asked for a reset into the new image.
    pub reset: bool,
}

/// Takes an image of up to 100 000 bytes.
#[derive(Debug, Clone, Default)]
pub struct Firmware {
    /// What came, shared with the test.
    pub log: Rc<RefCell<Log>>,
}

impl Handler for Firmware {
    fn start(&mut self) -> Result<(), Status> {
        *self.log.borrow_mut() = Log::default();
        Ok(())
    }

    fn write(&mut self, data: &[u8]) -> Result<(), Status> {
        let mut log = self.log.borrow_mut();
        log.image.extend(data);
        if log.image.len() > 100_000 { Err(Status::ErrAddress) } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<(), Status> {
        self.log.borrow_mut().finished = true;
        Ok(())
    }

    fn system_reset(&mut self) {
        self.log.borrow_mut().reset = true;
    }
}

/// The device on a cable with a virtual clock. Plain DFU 1.1, no upload; the transfer size is the test's choice.
pub struct Embassy {
    state: DfuState<Firmware>,
    firmware: Firmware,
    now: Duration,
}

impl Embassy {
    /// A device in dfuIDLE. Without manifestation tolerance it detaches by itself after the download.
    #[must_use]
    pub fn new(tolerant: bool) -> Self {
        let firmware = Firmware::default();
        let end = if tolerant { DfuAttributes::MANIFESTATION_TOLERANT } else { DfuAttributes::WILL_DETACH };
        let state = DfuState::new(firmware.clone(), DfuAttributes::CAN_DOWNLOAD | end);
        Self { state, firmware, now: Duration::ZERO }
    }

    /// What came.
    #[must_use]
    pub fn log(&self) -> Rc<RefCell<Log>> {
        self.firmware.log.clone()
    }

    fn check(&self) -> Result<(), TransferFailure> {
        if self.firmware.log.borrow().reset { Err(TransferFailure::Disconnected) } else { Ok(()) }
    }
}

impl ControlTransfer for Embassy {
    fn control_out(&mut self, setup: SetupPacket, data: &[u8]) -> Result<(), TransferFailure> {
        self.check()?;
        match self.state.control_out(Request::parse(&setup.to_bytes()), data) {
            Some(OutResponse::Accepted) => Ok(()),
            _ => Err(TransferFailure::Stalled),
        }
    }

    fn control_in(&mut self, setup: SetupPacket, buffer: &mut [u8]) -> Result<usize, TransferFailure> {
        self.check()?;
        let mut own = [0; 64];
        match self.state.control_in(Request::parse(&setup.to_bytes()), &mut own) {
            Some(InResponse::Accepted(bytes)) => {
                let len = bytes.len().min(buffer.len());
                buffer[..len].copy_from_slice(&bytes[..len]);
                Ok(len)
            }
            _ => Err(TransferFailure::Stalled),
        }
    }
}

impl Clock for Embassy {
    fn now(&mut self) -> Duration {
        self.now
    }

    fn wait_until(&mut self, until: Duration) {
        self.now = self.now.max(until);
    }
}
