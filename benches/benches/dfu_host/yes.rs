//! A device that says yes to everything, so that what is measured is the host: our machine, dfu-core, and a loop.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "two binaries use it, each a part")]

use core::cell::RefCell;
use core::time::Duration;
use dfu_core::functional_descriptor::FunctionalDescriptor as CoreDescriptor;
use dfu_core::memory_layout::MemoryLayout as CoreLayout;
use dfu_core::synchronous::DfuSync;
use dfu_core::{DfuIo, DfuProtocol};
use spark_benches::LAYOUT;
use spark_dfu::descriptor::FunctionalDescriptor;
use spark_dfu::host::{
    Clock, ControlTransfer, Download, Element, Link, Plan, TransferFailure, WriteOptions, drive,
};
use spark_dfu::layout::MemoryLayout;
use spark_dfu::{SetupPacket, State};

pub const START: u32 = 0x0802_0000;
pub const BLOCK: usize = 1024;

/// Keeps the state that GETSTATUS has to show, counts blocks, adds up their bytes.
#[derive(Debug, Default)]
pub struct Yes {
    state: u8,
    pub transfers: u64,
    pub blocks: u64,
    pub sum: u64,
}

impl Yes {
    fn out(&mut self, request: u8, value: u16, data: &[u8]) {
        self.transfers += 1;
        self.state = match (request, data.is_empty()) {
            (1, false) => State::DnloadSync.code(),
            (1, true) => State::ManifestSync.code(),
            _ => State::Idle.code(),
        };
        if request == 1 && value >= 2 && !data.is_empty() {
            self.blocks += 1;
            self.sum += u64::from(data[0]) + u64::from(data[data.len() - 1]);
        }
    }

    fn status(&mut self) -> [u8; 6] {
        self.transfers += 1;
        self.state = match self.state {
            3 => 4,
            4 => 5,
            6 => 7,
            other => other,
        };
        [0, 0, 0, 0, self.state, 0]
    }
}

pub struct Ours(pub Yes);

impl ControlTransfer for Ours {
    fn control_out(&mut self, setup: SetupPacket, data: &[u8]) -> Result<(), TransferFailure> {
        self.0.out(setup.request, setup.value, data);
        Ok(())
    }

    fn control_in(&mut self, _: SetupPacket, buffer: &mut [u8]) -> Result<usize, TransferFailure> {
        buffer[..6].copy_from_slice(&self.0.status());
        Ok(6)
    }
}

impl Clock for Ours {
    fn now(&mut self) -> Duration {
        Duration::ZERO
    }

    fn wait_until(&mut self, _: Duration) {}
}

/// Erases, writes and goes back to dfuIDLE. No quirk, so that each page costs its SET_ADDRESS.
pub fn ours(image: &[u8]) -> Yes {
    let layout = MemoryLayout::parse(LAYOUT).unwrap();
    let plan = Plan::write(&layout, START, image.len(), WriteOptions::DEFAULT).unwrap();
    let mut link = Link { transfer_size: 1024, ..Link::new(0, &FunctionalDescriptor::PHOTON) };
    // Waiting is not what is measured.
    link.quirks.holds_status = true;
    let mut bus = Ours(Yes::default());
    let element = Element { address: START, data: image };
    let mut machine = Download::new(link, &plan, element, [0; BLOCK]).unwrap();
    drive(&mut machine, &mut bus, &mut [0; 64], |_| ()).unwrap();
    bus.0
}

/// The same transfers by hand: no states, no errors, no limits.
pub fn naive(image: &[u8]) -> Yes {
    let mut yes = Yes::default();
    let command = |yes: &mut Yes, code: u8, address: u32| {
        let [a, b, c, d] = address.to_le_bytes();
        yes.out(1, 0, &[code, a, b, c, d]);
        while yes.status()[4] != 5 {}
    };
    for (page, pages) in (0_u32..).zip(image.chunks(0x2_0000)) {
        let address = START + page * 0x2_0000;
        command(&mut yes, 0x41, address);
        command(&mut yes, 0x21, address);
        for (block, data) in (2..).zip(pages.chunks(BLOCK)) {
            yes.out(1, block, data);
            while yes.status()[4] != 5 {}
        }
    }
    yes.out(6, 0, &[]);
    yes.status();
    yes
}

pub struct Core<'y> {
    yes: &'y RefCell<Yes>,
    protocol: DfuProtocol<CoreLayout>,
    functional: CoreDescriptor,
}

impl DfuIo for Core<'_> {
    type Read = usize;
    type Write = usize;
    type Reset = ();
    type Error = CoreError;
    type MemoryLayout = CoreLayout;

    fn read_control(&self, _: u8, _: u8, _: u16, buffer: &mut [u8]) -> Result<usize, CoreError> {
        buffer[..6].copy_from_slice(&self.yes.borrow_mut().status());
        Ok(6)
    }

    fn write_control(&self, _: u8, request: u8, value: u16, buffer: &[u8]) -> Result<usize, CoreError> {
        self.yes.borrow_mut().out(request, value, buffer);
        Ok(buffer.len())
    }

    fn usb_reset(self) -> Result<(), CoreError> {
        Ok(())
    }

    fn protocol(&self) -> &DfuProtocol<CoreLayout> {
        &self.protocol
    }

    fn functional_descriptor(&self) -> &CoreDescriptor {
        &self.functional
    }
}

/// What dfu-core demands of a transport's error.
#[derive(Debug)]
pub struct CoreError(#[allow(dead_code, reason = "shown when a benchmark fails")] String);

impl From<dfu_core::Error> for CoreError {
    fn from(error: dfu_core::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<std::io::Error> for CoreError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// dfu-core erases, writes and leaves.
pub fn dfu_core(image: &[u8]) -> Yes {
    let yes = RefCell::new(Yes { state: State::Idle.code(), ..Yes::default() });
    let functional = FunctionalDescriptor { transfer_size: 1024, ..FunctionalDescriptor::PHOTON };
    let functional = CoreDescriptor::from_bytes(&functional.to_bytes()).unwrap().unwrap();
    let text = core::str::from_utf8(LAYOUT).unwrap();
    let protocol = DfuProtocol::new(text, functional.dfu_version).unwrap();
    let mut host = DfuSync::new(Core { yes: &yes, protocol, functional });
    host.override_address(START);
    drop(host.download_from_slice(image).unwrap());
    yes.into_inner()
}
