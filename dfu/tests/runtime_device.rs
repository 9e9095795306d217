//! The run-time device: appIDLE, appDETACH, and the way into DFU mode.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bench;

use core::time::Duration;

use bench::{plain, with_attributes};
use hex_literal::hex;
use proptest::prelude::*;
use spark_dfu::{
    SetupPacket, State, StatusReply,
    descriptor::{Configuration, Description, FunctionalDescriptor, Mode},
    device::{Event, Runtime, RuntimeWork, Stall},
};

const NOW: Duration = Duration::from_secs(7);

/// wDetachTimeOut is 255 ms.
fn runtime(attributes: u8) -> Runtime<'static> {
    Runtime::new(with_attributes(plain(), attributes))
}

fn send(device: &mut Runtime<'_>, now: Duration, setup: SetupPacket) -> Result<Vec<u8>, Stall> {
    let mut input = [0; 256];
    device.control(now, &setup.to_bytes(), &mut input).map(|len| input[..len].to_vec())
}

fn request(event: Event) -> SetupPacket {
    match event {
        Event::Detach => SetupPacket::detach(0, 1000),
        Event::Dnload => SetupPacket::dnload(0, 0, 3),
        Event::DnloadEnd => SetupPacket::dnload(0, 0, 0),
        Event::Upload => SetupPacket::upload(0, 0, 64),
        Event::UploadNothing => SetupPacket::upload(0, 0, 0),
        Event::GetStatus => SetupPacket::get_status(0),
        Event::ClrStatus => SetupPacket::clr_status(0),
        Event::GetState => SetupPacket::get_state(0),
        Event::Abort => SetupPacket::abort(0),
        _ => SetupPacket::from_bytes(hex!("21 09 0000 0000 0000")),
    }
}

#[test]
fn every_request_in_both_states() {
    let requests = Event::ALL.into_iter().filter(|event| !matches!(event, Event::Reset | Event::Elapsed));
    for event in requests {
        for state in [State::AppIdle, State::AppDetach] {
            let mut device = runtime(0x03);
            if state == State::AppDetach {
                send(&mut device, NOW, SetupPacket::detach(0, 1000)).unwrap();
            }
            let result = send(&mut device, NOW, request(event));
            let replies = matches!(event, Event::GetStatus | Event::GetState);
            let detaches = event == Event::Detach && state == State::AppIdle;
            assert_eq!(result.is_ok(), replies || detaches, "{event} in {state}");
            let after = match (replies, detaches) {
                (true, _) => state,
                (_, true) => State::AppDetach,
                _ => State::AppIdle,
            };
            assert_eq!(device.state(), after, "{event} in {state}");
            assert_eq!(device.work(), None, "{event} in {state}");
            assert_eq!(device.next_deadline().is_some(), after == State::AppDetach, "{event} in {state}");
        }
    }
}

#[test]
fn a_reset_within_the_time_leads_to_dfu_mode_and_later_does_not() {
    for (wanted, after, enters) in
        [(1000, 254, true), (1000, 255, false), (100, 99, true), (100, 100, false), (0, 0, false)]
    {
        let mut device = runtime(0x03);
        send(&mut device, NOW, SetupPacket::detach(0, wanted)).unwrap();
        device.bus_reset(NOW + Duration::from_millis(after));
        assert_eq!(device.work(), enters.then_some(RuntimeWork::EnterDfuMode), "{wanted} ms, {after} ms");
    }
    let mut device = runtime(0x03);
    device.bus_reset(NOW);
    assert_eq!((device.work(), device.state()), (None, State::AppIdle));
}

#[test]
fn will_detach_needs_no_reset_and_dfu_1_0_has_no_such_bit() {
    let mut device = runtime(0x0B);
    send(&mut device, NOW, SetupPacket::detach(0, 1000)).unwrap();
    assert_eq!((device.work(), device.next_deadline()), (Some(RuntimeWork::Detach), None));
    let description = with_attributes(plain(), 0x0B);
    let functional =
        FunctionalDescriptor { dfu_version: FunctionalDescriptor::VERSION_1_0, ..description.functional };
    let mut device = Runtime::new(Description { functional, ..description });
    send(&mut device, NOW, SetupPacket::detach(0, 1000)).unwrap();
    assert_eq!((device.work(), device.next_deadline()), (None, Some(NOW + Duration::from_millis(255))));
}

#[test]
fn an_illegal_request_takes_a_detach_back_and_run_time_ends_with_the_reset() {
    let mut device = runtime(0x0B);
    send(&mut device, NOW, SetupPacket::detach(0, 1000)).unwrap();
    assert_eq!(send(&mut device, NOW, SetupPacket::abort(0)), Err(Stall));
    assert_eq!((device.work(), device.state()), (None, State::AppIdle));
    send(&mut device, NOW, SetupPacket::detach(0, 1000)).unwrap();
    device.bus_reset(NOW);
    assert_eq!(send(&mut device, NOW, SetupPacket::get_descriptor(1, 0, 0, 18)), Err(Stall));
    assert_eq!(device.work(), Some(RuntimeWork::EnterDfuMode));
}

#[test]
fn the_timer_ends_in_app_idle() {
    let mut device = runtime(0x03);
    send(&mut device, NOW, SetupPacket::detach(0, 1000)).unwrap();
    let reply = send(&mut device, NOW, SetupPacket::get_status(0)).unwrap();
    assert_eq!(StatusReply::parse(&reply).unwrap().state, State::AppDetach);
    let late = device.next_deadline().unwrap();
    assert_eq!(send(&mut device, late, SetupPacket::get_state(0)), Ok(vec![0]));
}

#[test]
fn it_shows_run_time_descriptors_with_one_setting() {
    let mut device = runtime(0x0B);
    let bytes = send(&mut device, NOW, SetupPacket::get_descriptor(2, 0, 0, 255)).unwrap();
    let configuration = Configuration::parse(&bytes).unwrap();
    let found: Vec<_> = configuration.alternates().collect();
    assert_eq!((found.len(), found[0].mode, found[0].string_index), (1, Mode::Runtime, 5));
    assert_eq!(send(&mut device, NOW, SetupPacket::set_interface(0, 0)), Ok(vec![]));
    assert_eq!(send(&mut device, NOW, SetupPacket::set_interface(0, 1)), Err(Stall));
    let os = send(&mut device, NOW, SetupPacket::get_descriptor(3, 0xEE, 0, 255)).unwrap();
    assert_eq!(os, hex!("12 03 4D00 5300 4600 5400 3100 3000 3000 EE 00"));
}

#[test]
fn in_a_composite_device_only_its_own_interface_counts() {
    let mut device = Runtime::new(Description { interface: 2, ..plain() });
    assert_eq!(send(&mut device, NOW, SetupPacket::detach(0, 5)), Err(Stall));
    assert_eq!(device.state(), State::AppIdle);
    send(&mut device, NOW, SetupPacket::detach(2, 5)).unwrap();
    assert_eq!(device.state(), State::AppDetach);
}

proptest! {
    #[test]
    fn any_setup_packets_leave_it_in_a_run_time_state(
        packets in proptest::collection::vec((any::<bool>(), any::<[u8; 8]>(), 0_u8..7, any::<u8>()), 0..40),
    ) {
        let mut device = runtime(0x03);
        let mut now = NOW;
        for (wild, bytes, code, pause) in packets {
            let tame = [if matches!(code, 2 | 3 | 5) { 0xA1 } else { 0x21 }, code, 9, 0, 0, 0, bytes[6], 0];
            let setup = if wild { bytes } else { tame };
            let mut input = [0; 64];
            if let Ok(len) = device.control(now, &setup, &mut input) {
                prop_assert!(len <= usize::from(SetupPacket::from_bytes(setup).length).min(64));
            }
            prop_assert!(matches!(device.state(), State::AppIdle | State::AppDetach));
            match pause {
                0..30 => device.bus_reset(now),
                _ => now += Duration::from_millis(u64::from(pause)),
            }
        }
    }
}
