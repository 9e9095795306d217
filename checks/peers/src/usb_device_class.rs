//! Our device as a class of usb-device: the adapter to copy into a firmware.

use core::time::Duration;

use spark_dfu::SetupPacket;
use spark_dfu::device::{Device, Memory, Stall};
use usb_device::class_prelude::*;
use usb_device::control::Request;
use usb_device::{LangID, UsbDirection};

/// Most alternates of this adapter; usb-device wants their string indexes beforehand.
const ALTERNATES: usize = 4;

/// The class. Between two polls the firmware takes work from `device` and does it on `memory`.
pub struct DfuClass<'d, B, M> {
    /// The machine.
    pub device: Device<'d, B>,
    /// What it reads.
    pub memory: M,
    clock: fn() -> Duration,
    interface: InterfaceNumber,
    names: [StringIndex; ALTERNATES],
}

impl<'d, B: AsRef<[u8]> + AsMut<[u8]>, M: Memory> DfuClass<'d, B, M> {
    /// A class for a device with up to four alternates.
    pub fn new<U: UsbBus>(
        allocator: &UsbBusAllocator<U>,
        device: Device<'d, B>,
        memory: M,
        clock: fn() -> Duration,
    ) -> Self {
        let names = core::array::from_fn(|_| allocator.string());
        Self { device, memory, clock, interface: allocator.interface(), names }
    }

    fn control(&mut self, setup: SetupPacket, data: &[u8], buffer: &mut [u8]) -> Result<usize, Stall> {
        self.device.control((self.clock)(), &mut self.memory, &setup.to_bytes(), data, buffer)
    }

    /// `None` for a request to another interface.
    fn setup_of(&self, request: &Request) -> Option<SetupPacket> {
        let direction = if request.direction == UsbDirection::In { 0x80 } else { 0 };
        let request_type = direction | (request.request_type as u8) << 5 | request.recipient as u8;
        let Request { request, value, index, length, .. } = *request;
        let ours = request_type & 0x7F == 0x21 && index == u16::from(u8::from(self.interface));
        // The machine knows its interface by its own number.
        let index = u16::from(self.device.description().interface);
        ours.then_some(SetupPacket { request_type, request, value, index, length })
    }
}

impl<'d, B, M, U> UsbClass<U> for DfuClass<'d, B, M>
where
    B: AsRef<[u8]> + AsMut<[u8]>,
    M: Memory,
    U: UsbBus,
{
    fn get_configuration_descriptors(&self, writer: &mut DescriptorWriter) -> usb_device::Result<()> {
        let description = self.device.description();
        for (setting, (_, name)) in (0..).zip(description.alternates.iter().zip(self.names)) {
            writer.interface_alt(self.interface, setting, 0xFE, 0x01, 0x02, Some(name))?;
        }
        let [_, kind, rest @ ..] = description.functional.to_bytes();
        writer.write(kind, &rest)
    }

    fn get_string(&self, index: StringIndex, _language: LangID) -> Option<&str> {
        let mut named = self.names.iter().zip(self.device.description().alternates);
        named.find(|(name, _)| **name == index).map(|(_, text)| *text)
    }

    fn reset(&mut self) {
        self.device.bus_reset();
    }

    fn get_alt_setting(&mut self, interface: InterfaceNumber) -> Option<u8> {
        (interface == self.interface).then(|| self.device.alternate())
    }

    fn set_alt_setting(&mut self, interface: InterfaceNumber, setting: u8) -> bool {
        interface == self.interface
            && self.control(SetupPacket::set_interface(0, setting), &[], &mut []).is_ok()
    }

    fn control_out(&mut self, transfer: ControlOut<U>) {
        let Some(setup) = self.setup_of(transfer.request()) else { return };
        // A failure to answer is the stack's to report.
        let _ = match self.control(setup, transfer.data(), &mut []) {
            Ok(_) => transfer.accept(),
            Err(Stall) => transfer.reject(),
        };
    }

    fn control_in(&mut self, transfer: ControlIn<U>) {
        let Some(setup) = self.setup_of(transfer.request()) else { return };
        // usb-device has room for 256 bytes at most.
        let mut buffer = [0; 256];
        let _ = match self.control(setup, &[], &mut buffer) {
            Ok(len) => transfer.accept_with(&buffer[..len]),
            Err(Stall) => transfer.reject(),
        };
    }
}
