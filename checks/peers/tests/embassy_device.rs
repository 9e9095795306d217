//! embassy-usb's DFU class as device. Our plain host is to take the place of `download` here.

use std::time::Duration;

use dfu_peers::embassy_device::Embassy;
use spark_dfu::host::{Clock, ControlTransfer, TransferFailure};
use spark_dfu::{SetupPacket, State, Status, StatusReply};

fn status(bus: &mut Embassy) -> Result<StatusReply, TransferFailure> {
    let mut reply = [0; 6];
    bus.control_in(SetupPacket::get_status(0), &mut reply)?;
    let reply = StatusReply::parse(&reply).unwrap();
    let until = bus.now() + reply.poll_timeout;
    bus.wait_until(until);
    Ok(reply)
}

/// The way of every plain host: blocks from number 0, GETSTATUS after each, an empty block at the end.
fn download(bus: &mut Embassy, image: &[u8], size: usize) -> Result<StatusReply, TransferFailure> {
    let mut block = 0;
    for data in image.chunks(size) {
        bus.control_out(SetupPacket::dnload(0, block, data.len() as u16), data)?;
        assert_eq!(status(bus)?.state, State::DnloadIdle);
        block = block.wrapping_add(1);
    }
    bus.control_out(SetupPacket::dnload(0, block, 0), &[])?;
    status(bus)
}

#[test]
fn an_image_arrives_and_the_class_restarts() {
    let image: Vec<u8> = (0..50_000_usize).map(|i| (7 * i).to_le_bytes()[0]).collect();
    for tolerant in [true, false] {
        let mut bus = Embassy::new(tolerant);
        let reply = download(&mut bus, &image, 256).unwrap();
        assert_eq!(reply.status, Status::Ok);
        assert_eq!(reply.state, if tolerant { State::Idle } else { State::Manifest });
        assert!(reply.poll_timeout == Duration::from_millis(50), "always");
        let log = bus.log();
        assert_eq!(log.borrow().image, image);
        assert!(log.borrow().finished);
        assert_eq!(log.borrow().reset, !tolerant);
    }
}

#[test]
fn its_block_numbers_do_not_wrap() {
    let mut bus = Embassy::new(true);
    let image = vec![0; 65_537];
    assert_eq!(download(&mut bus, &image, 1), Err(TransferFailure::Stalled));
    assert_eq!(bus.log().borrow().image.len(), 65_536);
    assert_eq!(status(&mut bus).unwrap().state, State::Error);
}
