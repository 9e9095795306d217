//! What known hosts send, replayed against a tolerant device: each host's own order, wLengths and demands.
//!
//! Sources: dfu-util@0.11 src/dfuse.c, dfu_load.c, main.c; dfu-core@0.11.1; micropython@master tools/pydfu.py;
//! webdfu@1.0.5; particle-usb@4.1.0; as noted in runs of the programs themselves.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bench;

use bench::{Bench, dfuse, plain};
use hex_literal::hex;
use spark_dfu::{
    SetupPacket, State, Status, StatusReply,
    device::{Profile, Stall, Work},
};

const POINTER: [u8; 5] = hex!("21 00100000");

fn tolerant() -> Bench {
    Bench::new(dfuse(), Profile::TOLERANT)
}

/// DNLOAD, then exactly dfuDNBUSY and dfuDNLOAD-IDLE: dfu-util demands the first, pydfu both.
fn command(bench: &mut Bench, block: u16, data: &[u8]) {
    bench.dnload(block, data).unwrap();
    assert_eq!(bench.poll(), (State::DnBusy, Status::Ok));
    bench.work();
    assert_eq!(bench.poll(), (State::DnloadIdle, Status::Ok));
}

fn abort_to_idle(bench: &mut Bench) {
    bench.request(SetupPacket::abort(0)).unwrap();
    assert_eq!(bench.poll(), (State::Idle, Status::Ok));
}

fn leaves(bench: &mut Bench) {
    assert_eq!(bench.poll(), (State::Manifest, Status::Ok));
    bench.now = bench.device.next_deadline().unwrap();
    assert!(matches!(bench.device.work(bench.now), Some(Work::Leave { .. })));
}

#[test]
fn dfu_util_downloads_uploads_and_leaves() {
    let mut bench = tolerant();
    command(&mut bench, 0, &hex!("41 00100000"));
    for (address, byte) in [(0x00, 1), (0x40, 2)] {
        command(&mut bench, 0, &[0x21, address, 0x10, 0, 0]);
        command(&mut bench, 2, &[byte; 64]);
    }
    // Upload: the pointer has to survive ABORT.
    command(&mut bench, 0, &POINTER);
    abort_to_idle(&mut bench);
    assert_eq!(bench.upload(2, 64).unwrap(), [1; 64]);
    assert_eq!(bench.upload(3, 64).unwrap(), [2; 64]);
    abort_to_idle(&mut bench);
    // Leave: SET_ADDRESS, DNLOAD block 2 without data, one GETSTATUS.
    command(&mut bench, 0, &POINTER);
    bench.dnload(2, &[]).unwrap();
    leaves(&mut bench);
}

#[test]
fn dfu_util_detaches_in_dfu_mode_and_resets() {
    for mut bench in [tolerant(), Bench::new(plain(), Profile::TOLERANT)] {
        bench.request(SetupPacket::detach(0, 1000)).unwrap();
        bench.request(SetupPacket::from_bytes(hex!("00 09 0100 0000 0000"))).unwrap();
        assert_eq!(bench.device.work(bench.now), None, "SET_CONFIGURATION is no reset");
        bench.device.bus_reset();
        assert!(matches!(bench.device.work(bench.now), Some(Work::Leave { .. })));
    }
    // The resets of an enumeration alone do not end DFU mode, and a transfer takes the DETACH back.
    let mut bench = tolerant();
    bench.device.bus_reset();
    bench.request(SetupPacket::detach(0, 1000)).unwrap();
    command(&mut bench, 0, &POINTER);
    abort_to_idle(&mut bench);
    bench.device.bus_reset();
    assert_eq!(bench.device.work(bench.now), None);
}

#[test]
fn dfu_core_asks_for_long_status_replies_and_leaves_with_the_next_block() {
    let mut bench = tolerant();
    let long = SetupPacket { length: 64, ..SetupPacket::get_status(0) };
    bench.dnload(0, &hex!("41 00100000")).unwrap();
    for (len, state) in [(4096, State::DnBusy), (64, State::DnloadIdle), (6, State::DnloadIdle)] {
        let reply = bench.request(SetupPacket { length: len, ..long }).unwrap();
        assert_eq!(StatusReply::parse(&reply).unwrap().state, state);
        bench.work();
    }
    command(&mut bench, 0, &POINTER);
    command(&mut bench, 2, &[7; 64]);
    command(&mut bench, 3, &[8; 10]);
    assert_eq!(bench.ram.memories[0][..74], [[7; 64].as_slice(), &[8; 10]].concat());
    bench.dnload(4, &[]).unwrap();
    leaves(&mut bench);
}

/// pydfu starts with up to four rounds of GETSTATUS: ABORT in dfuDNLOAD-IDLE and dfuUPLOAD-IDLE, else CLRSTATUS.
#[test]
fn pydfu_finds_its_way_to_idle_from_every_state_at_rest() {
    for state in [State::Idle, State::DnloadSync, State::DnloadIdle, State::UploadIdle, State::Error] {
        let mut bench = tolerant();
        match state {
            State::DnloadSync => drop(bench.dnload(0, &POINTER)),
            State::DnloadIdle => command(&mut bench, 0, &POINTER),
            State::UploadIdle => drop(bench.upload(0, 3)),
            State::Error => bench.device.report_error(Status::Program),
            _ => {}
        }
        assert_eq!(bench.device.state(), state);
        for _ in 0..4 {
            let request = match bench.poll().0 {
                State::Idle => break,
                State::DnloadIdle | State::UploadIdle => SetupPacket::abort(0),
                _ => SetupPacket::clr_status(0),
            };
            bench.request(request).unwrap();
        }
        assert_eq!(bench.state(), (State::Idle, Status::Ok), "from {state}");
    }
}

#[test]
fn pydfu_leaves_with_block_zero() {
    let mut bench = tolerant();
    command(&mut bench, 0, &[0x41]);
    command(&mut bench, 0, &POINTER);
    command(&mut bench, 2, &[3; 64]);
    command(&mut bench, 0, &POINTER);
    bench.dnload(0, &[]).unwrap();
    leaves(&mut bench);
}

#[test]
fn webdfu_asks_for_the_state_and_aborts_in_an_error() {
    let mut bench = tolerant();
    let state = |bench: &mut Bench| bench.request(SetupPacket::get_state(0)).unwrap();
    assert_eq!(state(&mut bench), [2]);
    command(&mut bench, 0, &POINTER);
    assert_eq!(state(&mut bench), [5]);
    abort_to_idle(&mut bench);
    assert_eq!(bench.upload(2, 64).unwrap().len(), 64);
    assert_eq!(state(&mut bench), [9]);
    // A wrong alternate: errTARGET, ABORT is acknowledged, the error is still to be seen, CLRSTATUS clears it.
    bench.request(SetupPacket::abort(0)).unwrap();
    bench.request(SetupPacket::set_interface(0, 1)).unwrap();
    bench.dnload(0, &hex!("41 00100000")).unwrap();
    assert_eq!(bench.poll(), (State::Error, Status::Target));
    bench.request(SetupPacket::abort(0)).unwrap();
    assert_eq!(state(&mut bench), [10]);
    bench.request(SetupPacket::clr_status(0)).unwrap();
    assert_eq!(bench.poll(), (State::Idle, Status::Ok));
}

#[test]
fn particle_usb_clears_the_status_of_an_idle_download() {
    let mut bench = tolerant();
    // It asks for strings twice, first one byte, and for four bytes of the configuration; its vendor probe may stall.
    let length = bench.request(SetupPacket::get_descriptor(3, 3, 0x0409, 1)).unwrap()[0];
    let serial = bench.request(SetupPacket::get_descriptor(3, 3, 0x0409, u16::from(length))).unwrap();
    assert_eq!(serial, hex!("04 03 3100"));
    assert_eq!(bench.request(SetupPacket::get_descriptor(2, 0, 0, 4)).unwrap().len(), 4);
    assert_eq!(bench.request(SetupPacket::from_bytes(hex!("C0 50 0000 1E00 0100"))), Err(Stall));
    // doUpload after a download without leave: CLRSTATUS because the state is not dfuIDLE.
    command(&mut bench, 0, &POINTER);
    command(&mut bench, 2, &[6; 64]);
    bench.request(SetupPacket::clr_status(0)).unwrap();
    assert_eq!(bench.poll(), (State::Idle, Status::Ok));
    command(&mut bench, 0, &POINTER);
    bench.request(SetupPacket::abort(0)).unwrap();
    assert_eq!(bench.upload(2, 64).unwrap(), [6; 64]);
    // Leave: block 2 without ABORT.
    bench.request(SetupPacket::abort(0)).unwrap();
    command(&mut bench, 0, &POINTER);
    bench.dnload(2, &[]).unwrap();
    leaves(&mut bench);
}

#[test]
fn impatient_hosts_do_not_disturb_work_that_is_under_way() {
    let mut bench = tolerant();
    bench.dnload(0, &hex!("41 00100000")).unwrap();
    assert_eq!(bench.poll().0, State::DnBusy);
    assert!(bench.device.work(bench.now).is_some());
    // The trick for STM32H743: CLRSTATUS twice in dfuDNBUSY.
    for request in [SetupPacket::clr_status(0), SetupPacket::clr_status(0), SetupPacket::abort(0)] {
        bench.request(request).unwrap();
        assert_eq!(bench.poll(), (State::DnBusy, Status::Ok));
    }
    bench.device.work_done(bench.now, Ok(())).unwrap();
    assert_eq!(bench.poll(), (State::DnloadIdle, Status::Ok));
}

#[test]
fn a_plain_host_downloads_with_the_next_block_number_at_the_end() {
    for profile in [Profile::STRICT, Profile::TOLERANT] {
        let mut bench = Bench::new(plain(), profile);
        for block in 0..3 {
            assert_eq!(bench.whole_dnload(block, &[9; 64]), (State::DnloadIdle, Status::Ok));
        }
        bench.dnload(3, &[]).unwrap();
        assert_eq!(bench.poll().0, State::Manifest);
        bench.work();
        assert_eq!(bench.poll().0, State::ManifestWaitReset);
        bench.device.bus_reset();
        assert!(matches!(bench.device.work(bench.now), Some(Work::Leave { .. })));
    }
}
