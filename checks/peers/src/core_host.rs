//! dfu-core's view of our device: its I/O trait over one function.

use std::cell::RefCell;
use std::time::Duration;

use crate::ram::Ram;
use dfu_core::functional_descriptor::FunctionalDescriptor;
use dfu_core::memory_layout::MemoryLayout;
use dfu_core::{DfuIo, DfuProtocol};
use spark_dfu::descriptor::Description;
use spark_dfu::device::{Device, DeviceError, Profile, Stall};
use spark_dfu::{SetupPacket, State};

/// Why dfu-core stopped.
#[derive(Debug)]
pub enum Error {
    /// The device stalled.
    Stall,
    /// It is gone.
    Gone,
    /// dfu-core itself.
    Core(dfu_core::Error),
    /// Demanded by dfu-core's own transports.
    Io(std::io::Error),
    /// Our device could not be built.
    Device(DeviceError),
}

impl From<dfu_core::Error> for Error {
    fn from(error: dfu_core::Error) -> Self {
        Self::Core(error)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// What hangs on the cable.
pub struct Plugged {
    device: Device<'static, Vec<u8>>,
    /// The memory behind the device.
    pub ram: Ram,
    /// A clock that jumps: dfu-core sleeps by itself, so every transfer finds the announced time over.
    now: Duration,
}

impl Plugged {
    fn control(&mut self, setup: SetupPacket, output: &[u8], input: &mut [u8]) -> Result<usize, Error> {
        self.now += Duration::from_millis(2);
        self.work();
        if self.ram.left {
            return Err(Error::Gone);
        }
        let bytes = setup.to_bytes();
        let result = self.device.control(self.now, &mut self.ram, &bytes, output, input);
        let result = result.map_err(|Stall| Error::Stall)?;
        self.work();
        Ok(result)
    }

    fn work(&mut self) {
        while let Some(work) = self.device.work(self.now) {
            let result = self.ram.perform(&work);
            let _ = self.device.work_done(self.now, result);
        }
    }

    /// State of the device.
    #[must_use]
    pub fn state(&self) -> State {
        self.device.state()
    }

    /// Lets the time of a pending leave come.
    pub fn wait(&mut self) {
        self.now += Duration::from_secs(1);
        self.work();
    }
}

/// The transport for dfu-core.
pub struct Cable<'p> {
    plugged: &'p RefCell<Plugged>,
    protocol: DfuProtocol<MemoryLayout>,
    functional: FunctionalDescriptor,
}

/// Plugs a device in.
///
/// # Errors
/// [`Error::Device`].
pub fn plug(
    description: Description<'static>,
    profile: Profile,
    base: u32,
) -> Result<RefCell<Plugged>, Error> {
    let block = vec![0; usize::from(description.functional.transfer_size)];
    let device = Device::new(description, profile, block).map_err(Error::Device)?;
    Ok(RefCell::new(Plugged { device, ram: Ram::new(base), now: Duration::ZERO }))
}

impl<'p> Cable<'p> {
    /// Opens the device as dfu-core's transports do: by functional descriptor and interface string.
    ///
    /// # Errors
    /// [`Error::Core`] for a version or a string that dfu-core does not take.
    pub fn open(plugged: &'p RefCell<Plugged>) -> Result<Self, Error> {
        let description = *plugged.borrow().device.description();
        let functional = FunctionalDescriptor::from_bytes(&description.functional.to_bytes());
        let functional = functional.and_then(Result::ok).ok_or(Error::Gone)?;
        let protocol = DfuProtocol::new(description.alternates[0], functional.dfu_version)?;
        Ok(Self { plugged, protocol, functional })
    }
}

impl DfuIo for Cable<'_> {
    type Read = usize;
    type Write = usize;
    type Reset = ();
    type Error = Error;
    type MemoryLayout = MemoryLayout;

    fn read_control(
        &self,
        request_type: u8,
        request: u8,
        value: u16,
        buffer: &mut [u8],
    ) -> Result<usize, Error> {
        let length = u16::try_from(buffer.len()).unwrap_or(u16::MAX);
        // dfu-core leaves the direction bit to its transports.
        let setup = SetupPacket { request_type: request_type | 0x80, request, value, index: 0, length };
        self.plugged.borrow_mut().control(setup, &[], buffer)
    }

    fn write_control(
        &self,
        request_type: u8,
        request: u8,
        value: u16,
        buffer: &[u8],
    ) -> Result<usize, Error> {
        let length = u16::try_from(buffer.len()).unwrap_or(u16::MAX);
        let setup = SetupPacket { request_type, request, value, index: 0, length };
        self.plugged.borrow_mut().control(setup, buffer, &mut []).map(|_| buffer.len())
    }

    fn usb_reset(self) -> Result<(), Error> {
        let mut plugged = self.plugged.borrow_mut();
        plugged.device.bus_reset();
        plugged.work();
        Ok(())
    }

    fn protocol(&self) -> &DfuProtocol<MemoryLayout> {
        &self.protocol
    }

    fn functional_descriptor(&self) -> &FunctionalDescriptor {
        &self.functional
    }
}
