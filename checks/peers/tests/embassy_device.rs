//! Our plain host against embassy-usb's DFU class.

use dfu_peers::embassy_device::Embassy;
use spark_dfu::descriptor::{Attributes, FunctionalDescriptor};
use spark_dfu::host::plain::{Download, Manifested};
use spark_dfu::host::{Connect, HostError, Link, Machine, Progress, drive};
use spark_dfu::{State, Status};

/// Bits 0, 2 and 3 of bmAttributes: it downloads, and then tolerates manifestation or detaches.
fn link(tolerant: bool, transfer_size: u16) -> Link {
    let attributes = Attributes(0x01 | if tolerant { 0x04 } else { 0x08 });
    Link::new(
        0,
        &FunctionalDescriptor { attributes, detach_timeout_ms: 1000, transfer_size, dfu_version: 0x0110 },
    )
}

fn run(bus: &mut Embassy, machine: &mut dyn Machine) -> Result<Option<Progress>, HostError> {
    let mut last = None;
    drive(machine, bus, &mut [0; 256], |progress| last = Some(progress))?;
    Ok(last)
}

#[test]
fn an_image_arrives_and_the_class_restarts() {
    let image: Vec<u8> = (0..50_000_usize).map(|i| (7 * i).to_le_bytes()[0]).collect();
    for (tolerant, expected) in [(true, Manifested::Idle), (false, Manifested::Disconnected)] {
        let (mut bus, link) = (Embassy::new(tolerant), link(tolerant, 256));
        run(&mut bus, &mut Connect::new(link)).unwrap();
        let mut download = Download::new(link, &image[..], image.len(), [0; 256]).unwrap();
        let progress = run(&mut bus, &mut download).unwrap();
        assert_eq!(progress, Some(Progress::Written { done: 50_000, total: 50_000 }));
        assert_eq!(download.outcome(), Some(expected));
        let log = bus.log();
        assert_eq!(log.borrow().image, image);
        assert!(log.borrow().finished);
        assert_eq!(log.borrow().reset, !tolerant);
    }
}

#[test]
fn its_refusal_of_too_long_an_image_is_told() {
    let (mut bus, link) = (Embassy::new(true), link(true, 256));
    let image = vec![0; 100_001];
    let result = run(&mut bus, &mut Download::new(link, &image[..], image.len(), [0; 256]).unwrap());
    let Err(HostError::Refused { place, state, status }) = result else { panic!("{result:?}") };
    assert_eq!((place.block, state, status), (390, State::Error, Status::Address));
    assert!(run(&mut bus, &mut Connect::new(link)).is_ok(), "and it can be used again");
}

#[test]
fn its_block_numbers_do_not_wrap() {
    let (mut bus, link) = (Embassy::new(true), link(true, 1));
    let image = vec![0; 65_537];
    let result = run(&mut bus, &mut Download::new(link, &image[..], image.len(), [0; 1]).unwrap());
    let Err(HostError::Refused { place, .. }) = result else { panic!("{result:?}") };
    assert_eq!((place.block, place.address), (0, 65_536));
    assert_eq!(bus.log().borrow().image.len(), 65_536);
}
