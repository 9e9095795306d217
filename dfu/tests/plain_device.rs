//! Plain DFU 1.0 and 1.1 devices: block numbers, offsets, manifestation, uploads.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bench;

use core::time::Duration;

use bench::{Bench, plain, with_attributes};
use proptest::prelude::*;
use spark_dfu::{
    SetupPacket, State, Status,
    descriptor::{Description, FunctionalDescriptor},
    device::{Device, Memory, Profile, Stall, Work},
};

const PROFILES: [Profile; 2] = [Profile::STRICT, Profile::TOLERANT];

fn download(bench: &mut Bench, image: &[u8]) {
    for (number, block) in (0..).zip(image.chunks(64)) {
        assert_eq!(bench.whole_dnload(number, block), (State::DnloadIdle, Status::Ok));
    }
}

#[test]
fn an_image_goes_from_offset_zero_and_is_manifested() {
    for profile in PROFILES {
        for attributes in [0x03, 0x07] {
            let mut bench = Bench::new(with_attributes(plain(), attributes), profile);
            let image: Vec<u8> = (0..200).map(|i: u8| i ^ 0x5A).collect();
            download(&mut bench, &image);
            assert_eq!(bench.device.image_offset(), 200);
            bench.dnload(4, &[]).unwrap();
            let reply = bench.reply();
            assert_eq!((reply.state, reply.poll_timeout), (State::Manifest, Duration::from_millis(300)));
            bench.work();
            assert_eq!(bench.ram.memories[0][..200], image);
            assert_eq!(bench.ram.log.last().unwrap(), "Manifest { alternate: 0, len: 200 }");
            if attributes == 0x07 {
                assert_eq!(bench.poll(), (State::Idle, Status::Ok));
                assert_eq!(bench.device.next_deadline(), None);
            } else {
                assert_eq!(bench.poll(), (State::ManifestWaitReset, Status::Ok));
                assert_eq!(bench.device.work(bench.now + Duration::from_secs(99)), None);
                bench.device.bus_reset();
                bench.work();
                assert!(bench.ram.left);
            }
        }
    }
}

#[test]
fn a_device_that_can_detach_leaves_without_a_reset() {
    let mut bench = Bench::new(with_attributes(plain(), 0x0B), Profile::STRICT);
    download(&mut bench, &[1]);
    bench.dnload(1, &[]).unwrap();
    bench.poll();
    bench.work();
    assert_eq!(bench.poll(), (State::ManifestWaitReset, Status::Ok));
    assert!(!bench.ram.left);
    bench.now = bench.device.next_deadline().unwrap();
    bench.work();
    assert!(bench.ram.left);
}

#[test]
fn blocks_out_of_order_are_errors_and_abort_starts_over() {
    for (first, second) in [(1, None), (0, Some(0)), (0, Some(2))] {
        let mut bench = Bench::new(plain(), Profile::STRICT);
        let mut result = bench.dnload(first, &[1]);
        if let Some(second) = second {
            bench.poll();
            bench.work();
            bench.poll();
            result = bench.dnload(second, &[2]);
        }
        assert_eq!((result, bench.state()), (Err(Stall), (State::Error, Status::StalledPacket)));
        bench.request(SetupPacket::clr_status(0)).unwrap();
        assert_eq!(bench.whole_dnload(0, &[3; 64]), (State::DnloadIdle, Status::Ok));
        bench.request(SetupPacket::abort(0)).unwrap();
        assert_eq!((bench.device.image_offset(), bench.state().0), (0, State::Idle));
        assert_eq!(bench.whole_dnload(0, &[4]), (State::DnloadIdle, Status::Ok));
        assert_eq!(bench.ram.memories[0][..2], [4, 3]);
    }
}

struct Sink(u64);

impl Memory for Sink {
    fn read(&mut self, _: u8, address: u32, out: &mut [u8]) -> usize {
        out.fill(address.to_le_bytes()[0]);
        out.len()
    }

    fn estimate(&self, _: &Work<'_>) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn block_numbers_wrap_and_the_offset_goes_on() {
    let functional = FunctionalDescriptor { transfer_size: 1, ..plain().functional };
    let mut device = Device::new(Description { functional, ..plain() }, Profile::STRICT, [0_u8; 1]).unwrap();
    let (mut sink, mut input) = (Sink(0), [0; 6]);
    for number in 0..=65_536_u32 {
        let block = u16::try_from(number & 0xFFFF).unwrap();
        let setup = SetupPacket::dnload(0, block, 1).to_bytes();
        device.control(Duration::ZERO, &mut sink, &setup, &[7], &mut input).unwrap();
        for _ in 0..2 {
            let setup = SetupPacket::get_status(0).to_bytes();
            device.control(Duration::ZERO, &mut sink, &setup, &[], &mut input).unwrap();
            if let Some(Work::Program { address, .. }) = device.work(Duration::ZERO) {
                assert_eq!(address, number);
                sink.0 += 1;
                device.work_done(Duration::ZERO, Ok(())).unwrap();
            }
        }
    }
    assert_eq!((sink.0, device.image_offset()), (65_537, 65_537));
}

#[test]
fn an_upload_counts_blocks_and_ends_with_a_short_frame() {
    let mut bench = Bench::new(plain(), Profile::STRICT);
    bench.request(SetupPacket::set_interface(0, 1)).unwrap();
    let mut read = Vec::new();
    for block in 0..=8 {
        let frame = bench.upload(block, 64).unwrap();
        assert_eq!(frame.len(), if block < 8 { 64 } else { 0 }, "an exact multiple ends with an empty frame");
        read.extend(frame);
    }
    assert_eq!((read, bench.device.state()), (bench.ram.memories[1].clone(), State::Idle));
    // A new upload starts at the beginning.
    assert_eq!(bench.upload(0, 16).unwrap(), bench.ram.memories[1][..16]);
    assert_eq!(bench.upload(2, 16), Err(Stall));
    assert_eq!(bench.state(), (State::Error, Status::StalledPacket));
}

#[test]
fn a_download_after_an_upload_starts_at_zero() {
    let mut bench = Bench::new(plain(), Profile::STRICT);
    bench.ram.memories[0].truncate(100);
    assert_eq!(bench.upload(0, 64).unwrap().len(), 64);
    assert_eq!(bench.upload(1, 64).unwrap().len(), 36);
    assert_eq!(bench.whole_dnload(0, &[9]), (State::DnloadIdle, Status::Ok));
    assert_eq!(bench.ram.memories[0][0], 9);
}

#[test]
fn dfu_1_0_uploads_ignore_the_block_number() {
    let functional =
        FunctionalDescriptor { dfu_version: FunctionalDescriptor::VERSION_1_0, ..plain().functional };
    let mut bench = Bench::new(Description { functional, ..plain() }, Profile::STRICT);
    assert_eq!(bench.upload(0, 64).unwrap(), bench.ram.memories[0][..64]);
    assert_eq!(bench.upload(0, 64).unwrap(), bench.ram.memories[0][64..128]);
    assert_eq!(bench.upload(2, 64).unwrap(), bench.ram.memories[0][128..192]);
    let descriptor = bench.request(SetupPacket::from_bytes([0x81, 6, 0, 0x21, 0, 0, 9, 0])).unwrap();
    assert_eq!(descriptor, functional.to_bytes_1_0());
}

#[test]
fn an_image_that_is_too_short_is_not_done() {
    let mut bench = Bench::new(plain(), Profile::STRICT);
    bench.ram.least = 2;
    assert_eq!(bench.whole_dnload(0, &[1]), (State::DnloadIdle, Status::Ok));
    assert_eq!(bench.dnload(1, &[]), Err(Stall));
    assert_eq!(bench.poll(), (State::Error, Status::NotDone));
}

#[test]
fn failures_of_work_and_of_manifestation_have_their_status() {
    let mut bench = Bench::new(plain(), Profile::STRICT);
    bench.ram.memories[0].clear();
    assert_eq!(bench.whole_dnload(0, &[1]), (State::Error, Status::Address));
    for status in [Status::Verify, Status::Firmware, Status::Program] {
        let mut bench = Bench::new(plain(), Profile::STRICT);
        download(&mut bench, &[1]);
        bench.dnload(1, &[]).unwrap();
        bench.poll();
        assert!(matches!(bench.device.work(bench.now), Some(Work::Manifest { .. })));
        bench.device.work_done(bench.now, Err(status)).unwrap();
        assert_eq!(bench.poll(), (State::Error, status));
        assert_eq!(bench.device.next_deadline(), None);
    }
}

#[test]
fn a_manifestation_that_takes_longer_is_polled_again() {
    let mut bench = Bench::new(plain(), Profile::STRICT);
    download(&mut bench, &[1]);
    bench.dnload(1, &[]).unwrap();
    bench.poll();
    bench.now += Duration::from_millis(100);
    let reply = bench.reply();
    assert_eq!((reply.state, reply.poll_timeout), (State::Manifest, Duration::from_millis(200)));
    bench.now += Duration::from_secs(9);
    let reply = bench.reply();
    assert_eq!((reply.state, reply.poll_timeout), (State::Manifest, Device::<Vec<u8>>::OVERDUE_POLL));
    bench.work();
    assert_eq!(bench.poll().0, State::ManifestWaitReset);
}

#[test]
fn names_of_alternates_need_not_be_layout_strings() {
    assert!(Device::new(plain(), Profile::STRICT, [0_u8; 64]).is_ok());
    let dfuse =
        FunctionalDescriptor { dfu_version: FunctionalDescriptor::DFUSE_VERSION, ..plain().functional };
    let refused = Description { functional: dfuse, ..plain() };
    assert!(Device::new(refused, Profile::STRICT, [0_u8; 64]).is_err());
}

proptest! {
    #[test]
    fn any_image_survives_download_and_upload(
        image in proptest::collection::vec(any::<u8>(), 1..768),
        tolerant: bool,
        chunk in 1_usize..=64,
    ) {
        let mut bench = Bench::new(with_attributes(plain(), 0x07), PROFILES[usize::from(tolerant)]);
        bench.ram.memories[0].truncate(image.len());
        for (number, block) in (0..).zip(image.chunks(chunk)) {
            prop_assert_eq!(bench.whole_dnload(number, block), (State::DnloadIdle, Status::Ok));
        }
        bench.dnload(0, &[]).unwrap();
        bench.poll();
        bench.work();
        prop_assert_eq!(bench.poll(), (State::Idle, Status::Ok));
        let mut read = Vec::new();
        for number in 0.. {
            let frame = bench.upload(number, 64).unwrap();
            read.extend_from_slice(&frame);
            if frame.len() < 64 {
                break;
            }
        }
        prop_assert_eq!(read, image);
    }
}
