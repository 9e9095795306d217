//! A USB peripheral in memory with nothing but a control endpoint of 64 bytes, and the host's end of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use spark_dfu::SetupPacket;
use spark_dfu::host::{Clock, ControlTransfer, TransferFailure};
use usb_device::UsbDirection;
use usb_device::bus::PollResult;
use usb_device::class_prelude::*;
use usb_device::device::{UsbDevice, UsbDeviceBuilder, UsbVidPid};
use usb_device::endpoint::EndpointAddress;

const PACKET: usize = 64;

/// What lies on the wire.
#[derive(Default)]
struct Wire {
    reset: bool,
    /// A packet for the device, and whether it is SETUP.
    to_device: Option<(Vec<u8>, bool)>,
    to_host: Option<Vec<u8>>,
    sent: bool,
    stalled: bool,
}

/// The peripheral. Clones share it.
#[derive(Clone, Default)]
pub struct Ep0 {
    wire: Arc<Mutex<Wire>>,
}

impl Ep0 {
    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UsbBus for Ep0 {
    fn alloc_ep(
        &mut self,
        direction: UsbDirection,
        address: Option<EndpointAddress>,
        _: EndpointType,
        _: u16,
        _: u8,
    ) -> usb_device::Result<EndpointAddress> {
        match address {
            Some(address) if address.index() == 0 => Ok(EndpointAddress::from_parts(0, direction)),
            _ => Err(UsbError::EndpointOverflow),
        }
    }

    fn enable(&mut self) {}

    fn reset(&self) {
        *self.wire() = Wire::default();
    }

    fn set_device_address(&self, _: u8) {}

    fn write(&self, _: EndpointAddress, data: &[u8]) -> usb_device::Result<usize> {
        let mut wire = self.wire();
        if wire.to_host.is_some() {
            return Err(UsbError::WouldBlock);
        }
        wire.to_host = Some(data.to_vec());
        Ok(data.len())
    }

    fn read(&self, _: EndpointAddress, buffer: &mut [u8]) -> usb_device::Result<usize> {
        let (packet, _) = self.wire().to_device.take().ok_or(UsbError::WouldBlock)?;
        buffer.get_mut(..packet.len()).ok_or(UsbError::BufferOverflow)?.copy_from_slice(&packet);
        Ok(packet.len())
    }

    fn set_stalled(&self, _: EndpointAddress, stalled: bool) {
        self.wire().stalled = stalled;
    }

    fn is_stalled(&self, _: EndpointAddress) -> bool {
        self.wire().stalled
    }

    fn suspend(&self) {}

    fn resume(&self) {}

    fn poll(&self) -> PollResult {
        let mut wire = self.wire();
        if std::mem::take(&mut wire.reset) {
            return PollResult::Reset;
        }
        let sent = std::mem::take(&mut wire.sent);
        let (out, setup) = match &wire.to_device {
            None => (false, false),
            Some((_, setup)) => (!setup, *setup),
        };
        if !(sent || out || setup) {
            return PollResult::None;
        }
        PollResult::Data { ep_out: out.into(), ep_in_complete: sent.into(), ep_setup: setup.into() }
    }
}

/// A device of usb-device with one class, seen from the host. Time is virtual.
pub struct Host<C: 'static> {
    ep0: Ep0,
    device: UsbDevice<'static, Ep0>,
    /// The class.
    pub class: C,
    /// What the firmware's main loop does between two polls.
    idle: fn(&mut C, Duration),
    now: Duration,
}

impl<C: UsbClass<Ep0>> Host<C> {
    /// Builds the device and enumerates it.
    ///
    /// # Panics
    /// If the stack does not take its own parameters.
    pub fn new(class: impl FnOnce(&'static UsbBusAllocator<Ep0>) -> C, idle: fn(&mut C, Duration)) -> Self {
        let ep0 = Ep0::default();
        let allocator: &'static _ = Box::leak(Box::new(UsbBusAllocator::new(ep0.clone())));
        let class = class(allocator);
        let device = UsbDeviceBuilder::new(allocator, UsbVidPid(0x2B04, 0xD0DF))
            .max_packet_size_0(64)
            .expect("64 is a legal size")
            .build();
        let mut host = Self { ep0, device, class, idle, now: Duration::ZERO };
        host.reset();
        host
    }

    /// A USB reset and what a host sends after it.
    pub fn reset(&mut self) {
        self.ep0.wire().reset = true;
        self.poll();
        let setup = SetupPacket { request_type: 0, request: 5, value: 7, index: 0, length: 0 };
        let _ = self.control_out(setup, &[]);
        let setup = SetupPacket { request: 9, value: 1, ..setup };
        let _ = self.control_out(setup, &[]);
    }

    fn poll(&mut self) {
        while self.device.poll(&mut [&mut self.class]) {}
    }

    fn send(&mut self, packet: &[u8], setup: bool) -> Result<(), TransferFailure> {
        {
            let mut wire = self.ep0.wire();
            if setup {
                wire.stalled = false;
                wire.to_host = None;
            }
            wire.to_device = Some((packet.to_vec(), setup));
        }
        self.poll();
        if self.ep0.wire().stalled { Err(TransferFailure::Stalled) } else { Ok(()) }
    }

    fn receive(&mut self) -> Result<Vec<u8>, TransferFailure> {
        let packet = {
            let mut wire = self.ep0.wire();
            if wire.stalled {
                return Err(TransferFailure::Stalled);
            }
            wire.sent = wire.to_host.is_some();
            wire.to_host.take()
        };
        self.poll();
        packet.ok_or(TransferFailure::TimedOut)
    }

    fn work(&mut self) {
        (self.idle)(&mut self.class, self.now);
        self.poll();
    }
}

impl<C: UsbClass<Ep0>> ControlTransfer for Host<C> {
    fn control_out(&mut self, setup: SetupPacket, data: &[u8]) -> Result<(), TransferFailure> {
        self.send(&setup.to_bytes(), true)?;
        for packet in data.chunks(PACKET) {
            self.send(packet, false)?;
        }
        self.receive()?;
        self.work();
        Ok(())
    }

    fn control_in(&mut self, setup: SetupPacket, buffer: &mut [u8]) -> Result<usize, TransferFailure> {
        self.send(&setup.to_bytes(), true)?;
        let mut len = 0;
        loop {
            let packet = self.receive()?;
            let room = buffer.get_mut(len..len + packet.len()).ok_or(TransferFailure::Disconnected)?;
            room.copy_from_slice(&packet);
            len += packet.len();
            if packet.len() < PACKET || len == usize::from(setup.length) {
                break;
            }
        }
        let _ = self.send(&[], false);
        self.work();
        Ok(len)
    }
}

impl<C: UsbClass<Ep0>> Clock for Host<C> {
    fn now(&mut self) -> Duration {
        self.now
    }

    fn wait_until(&mut self, until: Duration) {
        self.now = self.now.max(until);
        self.work();
    }
}
