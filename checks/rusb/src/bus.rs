//! The adapter.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rusb::{Device, DeviceHandle, UsbContext};
use spark_dfu::SetupPacket;
use spark_dfu::descriptor::Mode;
use spark_dfu::host::{Clock, ControlTransfer, TransferFailure};

use crate::Found;

/// Some devices erase inside a request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often a device that detached is looked for.
const SEARCH_INTERVAL: Duration = Duration::from_millis(100);

/// A DFU interface, claimed, with one of its alternate settings: the transport and the clock of
/// [`drive`](spark_dfu::host::drive).
#[derive(Debug)]
pub struct Bus<T: UsbContext> {
    handle: DeviceHandle<T>,
    interface: u8,
    alternate: u8,
    start: Instant,
}

impl<T: UsbContext> Bus<T> {
    /// Opens a device and claims an interface of it.
    ///
    /// # Errors
    /// libusb's.
    pub fn open(device: &Device<T>, interface: u8, alternate: u8) -> rusb::Result<Self> {
        let handle = device.open()?;
        handle.claim_interface(interface)?;
        // Even 0: who had the interface before may have left another one selected.
        handle.set_alternate_setting(interface, alternate)?;
        Ok(Self { handle, interface, alternate, start: Instant::now() })
    }
}

impl<T: UsbContext> ControlTransfer for Bus<T> {
    fn control_out(&mut self, setup: SetupPacket, data: &[u8]) -> Result<(), TransferFailure> {
        let SetupPacket { request_type, request, value, index, .. } = setup;
        let sent = self.handle.write_control(request_type, request, value, index, data, TIMEOUT);
        sent.map(|_| ()).map_err(failure)
    }

    fn control_in(&mut self, setup: SetupPacket, buffer: &mut [u8]) -> Result<usize, TransferFailure> {
        let SetupPacket { request_type, request, value, index, .. } = setup;
        self.handle.read_control(request_type, request, value, index, buffer, TIMEOUT).map_err(failure)
    }

    fn reset_bus(&mut self) -> Result<(), TransferFailure> {
        self.handle.reset().map_err(failure)?;
        // libusb releases the interface for the reset and claims it again, so the alternate setting is lost.
        self.handle.set_alternate_setting(self.interface, self.alternate).map_err(failure)
    }

    fn find_again(&mut self, until: Duration) -> Result<bool, TransferFailure> {
        let place = place(&self.handle.device());
        loop {
            let devices = self.handle.context().devices().map_err(failure)?;
            for device in devices.iter().filter(|device| self::place(device) == place) {
                if let Ok(found) = Found::of(&device)
                    && found.mode == Mode::Dfu
                    && let Ok(again) = Self::open(&device, found.interface, 0)
                {
                    *self = Self { start: self.start, ..again };
                    return Ok(true);
                }
            }
            if self.now() >= until {
                return Ok(false);
            }
            sleep(SEARCH_INTERVAL);
        }
    }
}

impl<T: UsbContext> Clock for Bus<T> {
    fn now(&mut self) -> Duration {
        self.start.elapsed()
    }

    fn wait_until(&mut self, until: Duration) {
        sleep(until.saturating_sub(self.start.elapsed()));
    }
}

/// A device that leaves in the middle of a transfer shows as `NoDevice` or `Io`, one that a reset changed as `NotFound`.
fn failure(error: rusb::Error) -> TransferFailure {
    match error {
        rusb::Error::Pipe => TransferFailure::Stalled,
        rusb::Error::Timeout => TransferFailure::TimedOut,
        rusb::Error::NotSupported | rusb::Error::InvalidParam => TransferFailure::Unsupported,
        _ => TransferFailure::Disconnected,
    }
}

/// Where a device is plugged in; that stays the same when it detaches.
fn place<T: UsbContext>(device: &Device<T>) -> (u8, Vec<u8>) {
    (device.bus_number(), device.port_numbers().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_libusb_has_its_failure() {
        use TransferFailure::{Disconnected, Stalled, TimedOut, Unsupported};
        for (error, expected) in [
            (rusb::Error::Pipe, Stalled),
            (rusb::Error::Timeout, TimedOut),
            (rusb::Error::NotSupported, Unsupported),
            // More than Linux takes in one control transfer.
            (rusb::Error::InvalidParam, Unsupported),
            (rusb::Error::NoDevice, Disconnected),
            (rusb::Error::NotFound, Disconnected),
            (rusb::Error::Io, Disconnected),
            (rusb::Error::Other, Disconnected),
        ] {
            assert_eq!(failure(error), expected, "{error:?}");
        }
    }
}
