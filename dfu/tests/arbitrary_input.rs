//! Neither side panics or runs on, whatever the other one sends.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use core::time::Duration;

use common::PhotonMemory;
use proptest::prelude::*;
use spark_dfu::{
    SetupPacket, Status,
    descriptor::Description,
    device::{Device, Profile},
    host::{
        Action, Connect, Detach, Download, Element, EraseMode, GetCommands, GetState, Input, Leave, Link,
        Machine, Plan, ReadPlan, Special, Upload, Verify, WriteOptions, plain,
    },
    layout::MemoryLayout,
    quirk::Quirks,
};

#[derive(Debug, Clone)]
enum Answer {
    Ack,
    Bytes(Vec<u8>),
    Status([u8; 6]),
    Fail(u8),
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        4 => Just(Answer::Ack),
        1 => proptest::collection::vec(any::<u8>(), 0..20).prop_map(Answer::Bytes),
        6 => (0_u8..2, 0_u8..12).prop_map(|(status, state)| Answer::Status([status, 1, 0, 0, state, 0])),
        1 => (0_u8..3).prop_map(Answer::Fail),
    ]
}

fn feed(machine: &mut dyn Machine, answers: &[Answer]) {
    let mut now = Duration::ZERO;
    for answer in answers {
        let input = match (machine.action(), answer) {
            (Action::Finished, _) => break,
            (Action::Wait { until }, _) => {
                now = until;
                Input::TimeReached
            }
            (_, Answer::Ack) => Input::OutDone,
            (_, Answer::Bytes(bytes)) => Input::InDone(bytes),
            (_, Answer::Status(bytes)) => Input::InDone(bytes),
            (_, Answer::Fail(0)) => Input::Stalled,
            (_, Answer::Fail(1)) => Input::TimedOut,
            (_, Answer::Fail(_)) => Input::Disconnected,
        };
        if machine.handle(now, input).is_err() {
            assert_eq!(machine.action(), Action::Finished);
        }
    }
}

proptest! {
    #[test]
    fn host_machines_survive_any_answers(answers in proptest::collection::vec(answer(), 0..80)) {
        let layout = MemoryLayout::parse(Description::PHOTON_ALTERNATES[0].as_bytes()).unwrap();
        let image = Element { address: 0x0802_0000, data: &[7; 40] };
        let mut buffer = [0; 40];
        for quirks in [Quirks::NONE, Quirks::PHOTON, Quirks::STM32H743] {
            let link = Link { transfer_size: 16, ..Link::PHOTON }.with_quirks(quirks);
            feed(&mut Connect::new(link), &answers);
            for erase in [EraseMode::Pages, EraseMode::None, EraseMode::Mass] {
                for all in [false, true] {
                    let options =
                        WriteOptions { erase, keep_partial_pages: all, skip_equal: all, verify: all, force: all, will_reset: false };
                    let plan = Plan::write(&layout, image.address, image.data.len(), options).unwrap();
                    let room = vec![0; plan.buffer_len(16)];
                    feed(&mut Download::new(link, &plan, image, room).unwrap(), &answers);
                }
            }
            let plan = ReadPlan::new(&layout, image.address, image.data.len()).unwrap();
            feed(&mut Upload::new(link, &plan, &mut buffer).unwrap(), &answers);
            feed(&mut Verify::new(link, &plan, image.data).unwrap(), &answers);
            feed(&mut Leave::new(link, Some(0)), &answers);
            feed(&mut Detach::new(link), &answers);
            feed(&mut Special::mass_erase(link).unwrap(), &answers);
            feed(&mut Special::read_unprotect(link), &answers);
            feed(&mut GetState::new(link), &answers);
            feed(&mut GetCommands::new(link), &answers);
            feed(&mut plain::Download::new(link, image.data, 40, [0; 16]).unwrap(), &answers);
            feed(&mut plain::Upload::new(link, &mut buffer).unwrap(), &answers);
        }
    }

    #[test]
    fn the_device_survives_any_requests(
        profile in 0_usize..6,
        plain: bool,
        requests in proptest::collection::vec(
            (any::<bool>(), any::<[u8; 8]>(), 0_u8..8, 0_u16..4, 0_u16..9, any::<[u8; 8]>(), 0_u8..12),
            0..60,
        ),
    ) {
        let profile = [
            Profile::STRICT,
            Profile::TOLERANT,
            Profile::PHOTON_0_5_3,
            Profile::PHOTON_2_3_1,
            Profile::CORE,
            Profile::NRF52840,
        ][profile];
        let mut description = Description::photon("1");
        if plain {
            description.functional.dfu_version = 0x0110;
        }
        let mut device = Device::new(description, profile, vec![0; 4096]).unwrap();
        let mut memory = PhotonMemory::new();
        let mut now = Duration::ZERO;
        for (wild, bytes, code, value, length, data, after) in requests {
            let request_type = if matches!(code, 2 | 3 | 5) { 0xA1 } else { 0x21 };
            let tame = SetupPacket { request_type, request: code, value, index: 0, length };
            let setup = if wild { bytes } else { tame.to_bytes() };
            let output = data.get(..usize::from(length)).unwrap_or(&data);
            let mut input = vec![0; 4096];
            if let Ok(len) = device.control(now, &mut memory, &setup, output, &mut input) {
                prop_assert!(len <= usize::from(SetupPacket::from_bytes(setup).length));
            }
            match after {
                0 => device.bus_reset(),
                1 => now += Duration::from_millis(300),
                2 => drop(device.work_done(now, Err(Status::Erase))),
                3..6 => drop(device.work_done(now, Ok(()))),
                _ => {}
            }
            let _ = device.work(now);
        }
    }
}
