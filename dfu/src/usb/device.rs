//! One open DFU interface.

use core::time::Duration;
use std::{thread::sleep, time::Instant};

use nusb::{
    MaybeFuture,
    transfer::{ControlIn, ControlOut, ControlType, Recipient, TransferError},
};

use super::{Found, PortPath, UsbError, list};
use crate::{
    descriptor::Mode,
    host::{Clock, ControlTransfer, Link, TransferFailure},
    request::{Kind, SetupPacket},
};

/// Linux takes no more in one control transfer.
pub(super) const MAX_BLOCK: u16 = if cfg!(target_os = "linux") { 4096 } else { u16::MAX };

/// How often a device that detached is looked for.
const SEARCH_INTERVAL: Duration = Duration::from_millis(100);

/// An open DFU interface: the transport and the clock of [`drive`](crate::host::drive).
///
/// Transfers time out after 5 s, since some devices erase inside a request.
pub struct UsbDevice {
    found: Found,
    /// `None` while the device is away.
    open: Option<Open>,
    timeout: Duration,
    start: Instant,
}

struct Open {
    device: nusb::Device,
    interface: nusb::Interface,
}

impl core::fmt::Debug for UsbDevice {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("UsbDevice")
            .field("path", &self.found.path)
            .field("is_open", &self.open.is_some())
            .finish_non_exhaustive()
    }
}

impl UsbDevice {
    pub(super) fn open(found: &Found) -> Result<Self, UsbError> {
        let open = Some(Open::new(found)?);
        Ok(Self { found: found.clone(), open, timeout: Duration::from_secs(5), start: Instant::now() })
    }

    /// What was opened; after a detach, what was found then.
    #[must_use]
    pub const fn found(&self) -> &Found {
        &self.found
    }

    /// What the host machines need to know.
    #[must_use]
    pub const fn link(&self) -> Link {
        self.found.link()
    }

    /// Changes the time-out of control transfers.
    pub const fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Selects an alternate setting, that is, a memory.
    ///
    /// # Errors
    /// [`UsbError`].
    pub fn select(&mut self, alternate: u8) -> Result<(), UsbError> {
        let open = self.open.as_ref().ok_or(UsbError::Disconnected)?;
        Ok(open.interface.set_alt_setting(alternate).wait()?)
    }

    fn interface(&self) -> Result<&nusb::Interface, TransferFailure> {
        self.open.as_ref().map(|open| &open.interface).ok_or(TransferFailure::Disconnected)
    }

    fn reopen(&mut self, path: &PortPath) -> Option<()> {
        let found = list().ok()?.into_iter().find(|found| found.path == *path && found.mode == Mode::Dfu)?;
        self.open = Some(Open::new(&found).ok()?);
        self.found = found;
        Some(())
    }
}

impl Open {
    fn new(found: &Found) -> Result<Self, UsbError> {
        let device = found.info.open().wait()?;
        let interface = device.detach_and_claim_interface(found.interface).wait()?;
        Ok(Self { device, interface })
    }
}

fn kind(setup: SetupPacket) -> Result<(ControlType, Recipient), TransferFailure> {
    let kind = match setup.kind() {
        Kind::Standard => ControlType::Standard,
        Kind::Class => ControlType::Class,
        Kind::Vendor => ControlType::Vendor,
        Kind::Reserved => return Err(TransferFailure::Unsupported),
    };
    let recipient = match setup.request_type & 0x1F {
        0 => Recipient::Device,
        1 => Recipient::Interface,
        2 => Recipient::Endpoint,
        _ => Recipient::Other,
    };
    Ok((kind, recipient))
}

impl ControlTransfer for UsbDevice {
    fn control_out(&mut self, setup: SetupPacket, data: &[u8]) -> Result<(), TransferFailure> {
        let (control_type, recipient) = kind(setup)?;
        let SetupPacket { request, value, index, .. } = setup;
        let transfer = ControlOut { control_type, recipient, request, value, index, data };
        self.interface()?.control_out(transfer, self.timeout).wait().map_err(failure)
    }

    fn control_in(&mut self, setup: SetupPacket, buffer: &mut [u8]) -> Result<usize, TransferFailure> {
        let (control_type, recipient) = kind(setup)?;
        let SetupPacket { request, value, index, length, .. } = setup;
        let transfer = ControlIn { control_type, recipient, request, value, index, length };
        let data = self.interface()?.control_in(transfer, self.timeout).wait().map_err(failure)?;
        let target = buffer.get_mut(..data.len()).ok_or(TransferFailure::Unsupported)?;
        target.copy_from_slice(&data);
        Ok(data.len())
    }

    fn reset_bus(&mut self) -> Result<(), TransferFailure> {
        let Open { device, interface } = self.open.take().ok_or(TransferFailure::Disconnected)?;
        drop(interface);
        match device.reset().wait() {
            Ok(()) => Ok(()),
            // A device that comes back as another one is lost to the reset that made it so.
            Err(error)
                if matches!(error.kind(), nusb::ErrorKind::Disconnected | nusb::ErrorKind::NotFound) =>
            {
                Err(TransferFailure::Disconnected)
            }
            Err(_) => Err(TransferFailure::Unsupported),
        }
    }

    /// Looks for a DFU-mode interface at the port where the device was; its ids may be others.
    fn find_again(&mut self, until: Duration) -> Result<bool, TransferFailure> {
        self.open = None;
        let path = self.found.path.clone();
        loop {
            if self.reopen(&path).is_some() {
                return Ok(true);
            }
            if self.now() >= until {
                return Ok(false);
            }
            sleep(SEARCH_INTERVAL);
        }
    }
}

fn failure(error: TransferError) -> TransferFailure {
    match error {
        TransferError::Stall => TransferFailure::Stalled,
        TransferError::Cancelled => TransferFailure::TimedOut,
        TransferError::InvalidArgument => TransferFailure::Unsupported,
        // A device that leaves in the middle of a transfer shows as a fault first.
        TransferError::Disconnected | TransferError::Fault | TransferError::Unknown(_) => {
            TransferFailure::Disconnected
        }
    }
}

impl Clock for UsbDevice {
    fn now(&mut self) -> Duration {
        self.start.elapsed()
    }

    fn wait_until(&mut self, until: Duration) {
        sleep(until.saturating_sub(self.start.elapsed()));
    }
}
