//! Our host against usbd-dfu, and against our own device behind two foreign USB stacks.

use std::time::Duration;

use dfu_peers::embassy_class::{Dfu, Shared};
use dfu_peers::ep0::{Ep0, Host};
use dfu_peers::ram::{BASE, Ram, dfuse};
use dfu_peers::usb_device_class::DfuClass;
use dfu_peers::usbd_device::Flash;
use embassy_usb::Handler as _;
use embassy_usb::control::{InResponse, OutResponse, Request};
use embassy_usb::types::{InterfaceNumber, StringIndex};
use spark_dfu::SetupPacket;
use spark_dfu::descriptor::{Configuration, FunctionalDescriptor, Mode, decode_string};
use spark_dfu::device::{Device, Profile};
use spark_dfu::host::{
    Clock, Connect, ControlTransfer, Download, Element, EraseMode, HostError, Leave, LeaveOutcome, Link,
    Machine, Plan, ReadPlan, TransferFailure, Upload, WriteOptions, drive,
};
use spark_dfu::layout::MemoryLayout;

const LAYOUT: &[u8] = b"@Flash/0x08000000/64*1Kg";

fn link(transfer_size: u16) -> Link {
    Link { transfer_size, ..Link::new(0, &FunctionalDescriptor::PHOTON) }
}

/// Compare, erase, write and verify what differs; read back; leave.
fn job<T: ControlTransfer + Clock>(
    bus: &mut T,
    transfer_size: u16,
    address: u32,
    image: &[u8],
) -> Result<LeaveOutcome, HostError> {
    let layout = MemoryLayout::parse(LAYOUT).unwrap();
    let options = WriteOptions { skip_equal: true, verify: true, ..WriteOptions::DEFAULT };
    let plan = Plan::write(&layout, address, image.len(), options).unwrap();
    let link = link(transfer_size);
    let mut run = |machine: &mut dyn Machine| drive(machine, bus, &mut [0; 256], |_| {});
    run(&mut Connect::new(link))?;
    let element = Element { address, data: image };
    run(&mut Download::new(link, &plan, element, [0; 256]).unwrap())?;
    let plan = ReadPlan::new(&layout, address, image.len()).unwrap();
    let mut read = vec![0; image.len()];
    run(&mut Upload::new(link, &plan, &mut read).unwrap())?;
    assert_eq!(read, image);
    let mut leave = Leave::new(link, Some(address));
    run(&mut leave)?;
    Ok(leave.outcome().unwrap())
}

fn image() -> Vec<u8> {
    (0..10_000_usize).map(|i| (13 * i + 5).to_le_bytes()[0]).collect()
}

/// What an operating system reads first: the configuration and the interface strings.
fn enumerate<T: ControlTransfer>(bus: &mut T) -> (usize, u16, String) {
    let mut bytes = [0; 128];
    let len = bus.control_in(SetupPacket::get_descriptor(2, 0, 0, 128), &mut bytes).unwrap();
    let configuration = Configuration::parse(&bytes[..len]).unwrap();
    let alternates: Vec<_> = configuration.alternates().collect();
    assert!(alternates.iter().all(|alternate| alternate.mode == Mode::Dfu));
    let size = configuration.functional_descriptor().unwrap().transfer_size;
    let mut text = [0; 255];
    let setup = SetupPacket::get_descriptor(3, alternates[0].string_index, 0x0409, 255);
    let len = bus.control_in(setup, &mut text).unwrap();
    let name = decode_string(&text[..len], &mut [0; 255]).unwrap().to_owned();
    (alternates.len(), size, name)
}

#[test]
fn usbd_dfu_is_written_verified_read_and_left() {
    let mut bus = Host::<usbd_dfu::DFUClass<Ep0, Flash>>::new(
        |bus| usbd_dfu::DFUClass::new(bus, Flash::default()),
        |_, _| {},
    );
    let (alternates, transfer_size, name) = enumerate(&mut bus);
    assert_eq!((alternates, transfer_size, name.as_bytes()), (1, 128, LAYOUT));
    let image = image();
    let outcome = job(&mut bus, transfer_size, BASE + 0x1000, &image);
    assert!(outcome.is_ok(), "{outcome:?}");
    let flash = bus.class.release();
    assert_eq!(flash.bytes[0x1000..0x1000 + image.len()], image);
    assert!(flash.bytes[..0x1000].iter().all(|byte| *byte == 0x5A));
    assert!(flash.bytes[0x1000 + 10 * 1024..].iter().all(|byte| *byte == 0x5A));
    assert!(flash.manifested);
}

#[test]
fn usbd_dfu_tells_our_host_why_it_refuses() {
    let mut bus = Host::<usbd_dfu::DFUClass<Ep0, Flash>>::new(
        |bus| usbd_dfu::DFUClass::new(bus, Flash::default()),
        |_, _| {},
    );
    let layout = MemoryLayout::parse(LAYOUT).unwrap();
    let options = WriteOptions { erase: EraseMode::None, ..WriteOptions::DEFAULT };
    let plan = Plan::write(&layout, BASE, 256, options).unwrap();
    let image = Element { address: BASE, data: &[0xFF; 256] };
    let mut download = Download::new(link(128), &plan, image, [0; 128]).unwrap();
    let result = drive(&mut download, &mut bus, &mut [0; 256], |_| {});
    assert!(matches!(result, Err(HostError::Refused { .. })), "flash that is not erased: {result:?}");
    // And it can be used again.
    assert_eq!(drive(&mut Connect::new(link(128)), &mut bus, &mut [0; 256], |_| {}), Ok(()));
}

type Ours = DfuClass<'static, [u8; 256], Ram>;

fn work(class: &mut Ours, now: Duration) {
    while let Some(work) = class.device.work(now) {
        let result = class.memory.perform(&work);
        let _ = class.device.work_done(now, result);
    }
}

fn no_time() -> Duration {
    Duration::ZERO
}

#[test]
fn our_device_works_as_a_class_of_usb_device() {
    for profile in [Profile::STRICT, Profile::TOLERANT, Profile::PHOTON_2_3_1] {
        let device = Device::new(dfuse(256), profile, [0; 256]).unwrap();
        let mut bus = Host::new(|bus| DfuClass::new(bus, device, Ram::new(BASE), no_time), work);
        let (alternates, transfer_size, name) = enumerate(&mut bus);
        assert_eq!((alternates, transfer_size, name.as_bytes()), (1, 256, LAYOUT));
        let image = image();
        let outcome = job(&mut bus, transfer_size, BASE + 0x2000, &image);
        assert!(matches!(outcome, Ok(LeaveOutcome::Answered(_))), "{outcome:?}");
        assert_eq!(bus.class.memory.bytes[0x2000..0x2000 + image.len()], image);
        bus.wait_until(Duration::from_secs(1));
        assert!(bus.class.memory.left);
    }
}

/// embassy's stack calls the handler like this.
struct Embassy<'s> {
    handler: Dfu<'s, 'static, Ram>,
    shared: &'s Shared<'static, Ram>,
    now: Duration,
}

impl ControlTransfer for Embassy<'_> {
    fn control_out(&mut self, setup: SetupPacket, data: &[u8]) -> Result<(), TransferFailure> {
        let answer = self.handler.control_out(Request::parse(&setup.to_bytes()), data);
        self.shared.work(Ram::perform);
        if answer == Some(OutResponse::Accepted) { Ok(()) } else { Err(TransferFailure::Stalled) }
    }

    fn control_in(&mut self, setup: SetupPacket, buffer: &mut [u8]) -> Result<usize, TransferFailure> {
        let answer = match self.handler.control_in(Request::parse(&setup.to_bytes()), buffer) {
            Some(InResponse::Accepted(bytes)) => Ok(bytes.len()),
            _ => Err(TransferFailure::Stalled),
        };
        self.shared.work(Ram::perform);
        answer
    }
}

impl Clock for Embassy<'_> {
    fn now(&mut self) -> Duration {
        self.now
    }

    fn wait_until(&mut self, until: Duration) {
        self.now = self.now.max(until);
        self.shared.work(Ram::perform);
    }
}

#[test]
fn our_device_works_as_a_handler_of_embassy_usb() {
    let device = Device::new(dfuse(256), Profile::TOLERANT, [0; 1024]).unwrap();
    let shared = Shared::new(device, Ram::new(BASE), no_time);
    let mut handler = Dfu::at(&shared, InterfaceNumber(3), StringIndex(4));
    assert_eq!(handler.get_string(StringIndex(4), 0x0409), std::str::from_utf8(LAYOUT).ok());
    assert_eq!(handler.get_string(StringIndex(5), 0x0409), None);
    // A request to another interface is none of its business.
    let other = SetupPacket::abort(0).to_bytes();
    assert_eq!(handler.control_out(Request::parse(&other), &[]), None);
    let handler = Dfu::at(&shared, InterfaceNumber(0), StringIndex(4));
    let image = image();
    let mut bus = Embassy { handler, shared: &shared, now: Duration::ZERO };
    let outcome = job(&mut bus, 256, BASE + 0x400, &image);
    assert!(matches!(outcome, Ok(LeaveOutcome::Answered(_))), "{outcome:?}");
    shared.with_memory(|ram| assert_eq!(ram.bytes[0x400..0x400 + image.len()], image));
}
