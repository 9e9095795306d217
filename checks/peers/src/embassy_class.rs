//! Our device as a class of embassy-usb: the adapter to copy into a firmware.
//!
//! The handler lives in the USB task; [`Shared::work`] is called by the task that owns the flash. Both share the device
//! through a cell (on more than one executor take a blocking mutex instead).

use core::cell::RefCell;
use core::time::Duration;

use embassy_usb::control::{InResponse, OutResponse, Request};
use embassy_usb::driver::{Direction, Driver};
use embassy_usb::types::{InterfaceNumber, StringIndex};
use embassy_usb::{Builder, Handler};
use spark_dfu::device::{Device, Memory, Stall, Work};
use spark_dfu::{SetupPacket, Status};

/// The device and its memory, shared by the USB task and the flash task.
pub struct Shared<'d, M> {
    inner: RefCell<(Device<'d, [u8; 1024]>, M)>,
    clock: fn() -> Duration,
}

impl<'d, M: Memory> Shared<'d, M> {
    /// A device over a memory; `clock` tells the time since any fixed start.
    pub fn new(device: Device<'d, [u8; 1024]>, memory: M, clock: fn() -> Duration) -> Self {
        Self { inner: RefCell::new((device, memory)), clock }
    }

    /// For the flash task: does what is due. Call it when a transfer has ended and at the device's next deadline.
    pub fn work(&self, perform: impl Fn(&mut M, &Work<'_>) -> Result<(), Status>) {
        let (device, memory) = &mut *self.inner.borrow_mut();
        while let Some(work) = device.work((self.clock)()) {
            let result = perform(memory, &work);
            // The transfer is over, so there is nothing left to stall.
            let _ = device.work_done((self.clock)(), result);
        }
    }

    /// Looks at the memory.
    pub fn with_memory<T>(&self, look: impl FnOnce(&M) -> T) -> T {
        look(&self.inner.borrow().1)
    }
}

/// The handler for [`Builder::handler`].
pub struct Dfu<'s, 'd, M> {
    shared: &'s Shared<'d, M>,
    interface: InterfaceNumber,
    first_string: StringIndex,
}

impl<'s, 'd: 's, M: Memory> Dfu<'s, 'd, M> {
    /// Adds the interface with its alternates and the functional descriptor.
    pub fn new<'b, D: Driver<'b>>(builder: &mut Builder<'b, D>, shared: &'s Shared<'d, M>) -> Self {
        let description = *shared.inner.borrow().0.description();
        let first_string = builder.string();
        for _ in description.alternates.iter().skip(1) {
            builder.string(); // indexes are given in sequence
        }
        let mut function = builder.function(0xFE, 0x01, 0x02);
        let mut interface = function.interface();
        let number = interface.interface_number();
        let last = description.alternates.len().saturating_sub(1);
        for (at, number) in (0_u8..).take(description.alternates.len()).enumerate() {
            let name = StringIndex(first_string.0 + number);
            let mut alternate = interface.alt_setting(0xFE, 0x01, 0x02, Some(name));
            if at == last {
                let [_, kind, rest @ ..] = description.functional.to_bytes();
                alternate.descriptor(kind, &rest);
            }
        }
        Self::at(shared, number, first_string)
    }

    /// For descriptors that were added in another way.
    pub fn at(shared: &'s Shared<'d, M>, interface: InterfaceNumber, first_string: StringIndex) -> Self {
        Self { shared, interface, first_string }
    }

    fn control(&self, setup: SetupPacket, data: &[u8], buffer: &mut [u8]) -> Result<usize, Stall> {
        let (device, memory) = &mut *self.shared.inner.borrow_mut();
        device.control((self.shared.clock)(), memory, &setup.to_bytes(), data, buffer)
    }

    /// `None` for a request to another interface.
    fn setup_of(&self, request: &Request) -> Option<SetupPacket> {
        let direction = if request.direction == Direction::In { 0x80 } else { 0 };
        let request_type = direction | (request.request_type as u8) << 5 | request.recipient as u8;
        let Request { request, value, index, length, .. } = *request;
        let ours = request_type & 0x7F == 0x21 && index == u16::from(u8::from(self.interface));
        // The machine knows its interface by its own number.
        let index = u16::from(self.shared.inner.borrow().0.description().interface);
        ours.then_some(SetupPacket { request_type, request, value, index, length })
    }
}

impl<M: Memory> Handler for Dfu<'_, '_, M> {
    fn reset(&mut self) {
        self.shared.inner.borrow_mut().0.bus_reset();
    }

    fn set_alternate_setting(&mut self, interface: InterfaceNumber, setting: u8) {
        if interface == self.interface {
            let _ = self.control(SetupPacket::set_interface(0, setting), &[], &mut []);
        }
    }

    fn control_out(&mut self, request: Request, data: &[u8]) -> Option<OutResponse> {
        let setup = self.setup_of(&request)?;
        let answer = self.control(setup, data, &mut []);
        Some(if answer.is_ok() { OutResponse::Accepted } else { OutResponse::Rejected })
    }

    fn control_in<'a>(&'a mut self, request: Request, buffer: &'a mut [u8]) -> Option<InResponse<'a>> {
        let setup = self.setup_of(&request)?;
        match self.control(setup, &[], buffer) {
            Ok(len) => buffer.get(..len).map(InResponse::Accepted),
            Err(Stall) => Some(InResponse::Rejected),
        }
    }

    fn get_string(&mut self, index: StringIndex, _language: u16) -> Option<&str> {
        let alternate = index.0.checked_sub(self.first_string.0)?;
        self.shared.inner.borrow().0.description().alternate(alternate)
    }
}
