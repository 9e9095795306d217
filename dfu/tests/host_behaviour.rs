//! What the host sends in answer to scripted devices.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "common/script.rs"]
mod script;

use core::time::Duration;

use hex_literal::hex;
use script::{
    ABORT, CLRSTATUS,
    Turn::{self, NoStatus, Out, Status as St, Wait},
    finished, play,
};
use spark_dfu::{
    SetupPacket, State, Status,
    host::{
        Action, Connect, Download, Element, EraseMode, HostError, Input, Leave, LeaveOutcome, Link, Machine,
        Plan, Policy, ReadPlan, Step, Upload, WriteOptions,
    },
    layout::MemoryLayout,
    quirk::Quirks,
};

fn connect() -> Connect {
    Connect::new(Link::PHOTON)
}

#[test]
fn connect_looks_at_the_state_and_repairs_an_old_status_in_idle_by_abort() {
    let mut machine = connect();
    let turns = [St(hex!("0E 000000 02 00")), Out(ABORT, Input::OutDone), St(hex!("00 320000 02 00"))];
    assert_eq!(play(&mut machine, &turns), Ok(()));
    assert!(finished(&machine));
    let mut stubborn = connect();
    let turns = [St(hex!("0E 000000 02 00")), Out(ABORT, Input::Stalled), St(hex!("0E 000000 02 00"))];
    assert_eq!(play(&mut stubborn, &turns), Ok(()));
    assert!(finished(&stubborn));
}

#[test]
fn connect_clears_state_15_twice() {
    let mut machine = connect();
    let turns = [
        St(hex!("00 000000 0F 00")),
        Out(CLRSTATUS, Input::OutDone),
        St(hex!("0E 000000 0A 00")),
        Out(CLRSTATUS, Input::OutDone),
        St(hex!("00 000000 02 00")),
    ];
    assert_eq!(play(&mut machine, &turns), Ok(()));
    assert!(finished(&machine));
    let turns = [
        St(hex!("00 000000 0F 00")),
        Out(CLRSTATUS, Input::OutDone),
        St(hex!("00 000000 0F 00")),
        Out(CLRSTATUS, Input::OutDone),
        St(hex!("00 000000 0F 00")),
    ];
    let mut machine = connect();
    assert_eq!(play(&mut machine, &turns), Err(HostError::NotIdle { state: State::Unknown(15) }));
    assert!(finished(&machine));
}

#[test]
fn connect_aborts_transfers_waits_for_busy_devices_and_names_run_time_mode() {
    for state in [3, 5, 6, 9] {
        let mut machine = connect();
        let turns = [St([0, 0, 0, 0, state, 0]), Out(ABORT, Input::OutDone), St(hex!("00 000000 02 00"))];
        assert_eq!(play(&mut machine, &turns), Ok(()));
        assert!(finished(&machine));
    }
    let mut machine = connect();
    let turns =
        [St(hex!("00 F40100 04 00")), Wait(500), St(hex!("00 000000 05 00")), Out(ABORT, Input::OutDone)];
    assert_eq!(play(&mut machine, &turns), Ok(()));
    for (code, state) in [(0, State::AppIdle), (1, State::AppDetach)] {
        let result = play(&mut connect(), &[St([0, 0, 0, 0, code, 0])]);
        assert_eq!(result, Err(HostError::RuntimeMode { state }));
    }
}

#[test]
fn connect_gives_up_on_a_device_that_stays_in_error_or_stalls() {
    let mut turns = Vec::new();
    for _ in 0..=Policy::DEFAULT.max_connect_requests {
        turns.push(St(hex!("0E 000000 0A 00")));
        turns.push(Out(CLRSTATUS, Input::OutDone));
    }
    assert_eq!(play(&mut connect(), &turns), Err(HostError::NotIdle { state: State::Error }));
    let stall = || NoStatus(Input::Stalled);
    let result = play(&mut connect(), &[stall(), stall(), stall()]);
    assert!(matches!(result, Err(HostError::Stalled { .. })));
}

const DCT: WriteOptions = WriteOptions { erase: EraseMode::None, ..WriteOptions::DEFAULT };

fn download(policy: Policy) -> Download<'static, Element<'static>, [u8; 4096]> {
    download_with(Link::PHOTON.with_quirks(Quirks::NONE).with_policy(policy))
}

fn download_with(link: Link) -> Download<'static, Element<'static>, [u8; 4096]> {
    let layout = MemoryLayout::parse(b"@DCT Flash   /0x00000000/01*016Kg").unwrap();
    let plan = Plan::write(&layout, 34, 4, DCT).unwrap();
    let image = Element { address: 34, data: b"\x01\x02\x03\x04" };
    Download::new(link, &plan, image, [0; 4096]).unwrap()
}

const SET: Turn<'static> = Out(SetupPacket::dnload(0, 0, 5), Input::OutDone);
const DATA: Turn<'static> = Out(SetupPacket::dnload(0, 2, 4), Input::OutDone);

#[test]
fn download_waits_after_busy_replies_only() {
    let mut machine = download(Policy::DEFAULT);
    let turns = [
        SET,
        St(hex!("00 010000 04 00")),
        Wait(2),                     // 1 ms is below the floor
        St(hex!("00 010000 05 00")), // the stale 1 ms costs nothing
        DATA,
        St(hex!("00 000000 04 00")),
        Wait(2),
        St(hex!("00 2C0100 03 00")),
        Wait(300),
        St(hex!("00 2C0100 05 00")),
        Out(ABORT, Input::OutDone),
        St(hex!("00 2C0100 02 00")),
    ];
    assert_eq!(play(&mut machine, &turns), Ok(()));
    assert!(finished(&machine));
    assert_eq!(machine.written(), 4);
}

#[test]
fn a_device_that_holds_getstatus_until_it_is_done_is_asked_at_once() {
    let mut machine = download_with(Link::PHOTON);
    let turns = [SET, St(hex!("00 000000 05 00")), DATA, St(hex!("00 000000 04 00"))];
    assert_eq!(play(&mut machine, &turns), Ok(()));
    // `play` ends each turn at second 100.
    assert_eq!(machine.action(), Action::Wait { until: Duration::from_secs(100) });
}

#[test]
fn poll_timeouts_are_capped_and_counted() {
    let policy = Policy { max_wait: Duration::from_millis(100), max_polls: 3, ..Policy::DEFAULT };
    let busy = || St(hex!("00 FFFFFF 04 00"));
    let turns = [SET, busy(), Wait(100), busy(), Wait(100), busy(), Wait(100), busy()];
    let result = play(&mut download(policy), &turns);
    assert!(matches!(result, Err(HostError::BusyTooLong { polls: 4, .. })), "{result:?}");
    let policy =
        Policy { max_busy: Duration::from_millis(150), max_wait: Duration::from_millis(100), ..policy };
    let turns = [SET, busy(), Wait(100), busy(), Wait(100), busy()];
    let result = play(&mut download(policy), &turns);
    assert!(matches!(result, Err(HostError::BusyTooLong { polls: 3, .. })), "{result:?}");
}

#[test]
fn a_stall_is_explained_by_getstatus_and_cleared_only_in_error() {
    let turns = [
        SET,
        St(hex!("00 000000 05 00")),
        Out(SetupPacket::dnload(0, 2, 4), Input::Stalled),
        St(hex!("08 000000 0A 00")),
        Out(CLRSTATUS, Input::OutDone),
    ];
    let Err(HostError::Refused { place, state, status }) = play(&mut download(Policy::DEFAULT), &turns)
    else {
        panic!()
    };
    assert_eq!((place.step, place.block, place.address), (Step::Write, 2, 34));
    assert_eq!((state, status), (State::Error, Status::Address));
    // A Photon stalls GETSTATUS once when its flash failed, and says OK afterwards: still a failure.
    let mut machine = download(Policy::DEFAULT);
    let turns =
        [SET, St(hex!("00 000000 04 00")), Wait(2), NoStatus(Input::Stalled), St(hex!("00 000000 05 00"))];
    let Err(HostError::Refused { state, status, .. }) = play(&mut machine, &turns) else { panic!() };
    assert_eq!((state, status), (State::DnloadIdle, Status::Ok));
    assert!(finished(&machine));
}

#[test]
fn retries_while_busy_are_a_choice() {
    let link = Link::PHOTON.with_quirks(Quirks { busy_retries: 1, ..Quirks::NONE });
    let turns = [
        SET,
        St(hex!("00 320000 04 00")),
        Wait(50),
        NoStatus(Input::Stalled),
        Wait(50),
        St(hex!("00 000000 05 00")),
        DATA,
    ];
    assert_eq!(play(&mut download_with(link), &turns), Ok(()));
}

#[test]
fn wrong_inputs_and_malformed_replies_are_typed_errors() {
    let result =
        play(&mut download(Policy::DEFAULT), &[Out(SetupPacket::dnload(0, 0, 5), Input::TimeReached)]);
    assert!(matches!(result, Err(HostError::UnexpectedInput { .. })));
    let result = play(&mut download(Policy::DEFAULT), &[SET, NoStatus(Input::InDone(&[0; 5]))]);
    assert!(matches!(result, Err(HostError::BadReply { .. })));
    let layout = MemoryLayout::parse(b"@DCT Flash   /0x00000000/01*016Kg").unwrap();
    let plan = ReadPlan::new(&layout, 0, 8).unwrap();
    let mut buffer = [0; 8];
    let mut upload = Upload::new(Link::PHOTON, &plan, &mut buffer).unwrap();
    let turns = [SET, St(hex!("00 000000 05 00")), Out(ABORT, Input::OutDone), St(hex!("00 000000 02 00"))];
    play(&mut upload, &turns).unwrap();
    assert_eq!(upload.action(), Action::In { setup: SetupPacket::upload(0, 2, 8) });
    let result = upload.handle(Duration::ZERO, Input::InDone(&[0; 7]));
    assert!(matches!(result, Err(HostError::FrameLength { expected: 8, found: 7, .. })));
}

fn leave(last: &[Turn<'_>]) -> Result<Option<LeaveOutcome>, HostError> {
    let mut machine = Leave::new(Link::PHOTON, Some(0x080A_0000));
    let zero = Out(SetupPacket::dnload(0, 2, 0), Input::OutDone);
    let turns =
        [Out(ABORT, Input::OutDone), St(hex!("00 000000 02 00")), SET, St(hex!("00 000000 05 00")), zero];
    play(&mut machine, &turns).unwrap();
    play(&mut machine, last)?;
    assert!(finished(&machine));
    Ok(machine.outcome())
}

#[test]
fn leaving_succeeds_whichever_way_the_device_goes() {
    for state in [2, 5, 7, 8] {
        let outcome = Some(LeaveOutcome::Answered(State::from_code(state)));
        assert_eq!(leave(&[St([0, 1, 0, 0, state, 0])]), Ok(outcome));
    }
    assert_eq!(leave(&[NoStatus(Input::Disconnected)]), Ok(Some(LeaveOutcome::Disconnected)));
    assert_eq!(leave(&[NoStatus(Input::Stalled)]), Ok(Some(LeaveOutcome::Unanswered)));
    assert_eq!(leave(&[NoStatus(Input::TimedOut)]), Ok(Some(LeaveOutcome::Unanswered)));
    let slow = [St(hex!("00 0A0000 06 00")), Wait(10), St(hex!("00 000000 07 00"))];
    assert_eq!(leave(&slow), Ok(Some(LeaveOutcome::Answered(State::Manifest))));
}

#[test]
fn an_answer_that_is_no_way_of_leaving_is_a_refusal() {
    for reply in
        [hex!("00 000000 09 00"), hex!("00 000000 4D 00"), hex!("0B 000000 05 00"), hex!("0B 000000 02 00")]
    {
        assert!(matches!(leave(&[St(reply)]), Err(HostError::Refused { .. })), "{reply:?}");
    }
}

#[test]
fn connect_takes_no_answer_while_it_waits() {
    for input in [Input::InDone(&hex!("00 000000 02 00")), Input::Stalled, Input::OutDone] {
        let mut machine = connect();
        machine.handle(Duration::ZERO, Input::InDone(&hex!("00 640000 04 00"))).unwrap();
        assert!(matches!(machine.action(), Action::Wait { .. }));
        let result = machine.handle(Duration::ZERO, input);
        assert!(matches!(result, Err(HostError::UnexpectedInput { .. })), "{input:?}: {result:?}");
    }
}

#[test]
fn leaving_fails_when_the_device_refuses_or_goes_too_early() {
    let refused = leave(&[St(hex!("0A 000000 0A 00")), Out(CLRSTATUS, Input::OutDone)]);
    assert!(matches!(refused, Err(HostError::Refused { status: Status::Firmware, .. })));
    let mut machine = Leave::new(Link::PHOTON, None);
    let turns = [
        Out(ABORT, Input::OutDone),
        St(hex!("00 000000 02 00")),
        Out(SetupPacket::dnload(0, 2, 0), Input::Stalled),
        St(hex!("09 000000 0A 00")),
        Out(CLRSTATUS, Input::OutDone),
    ];
    assert!(matches!(play(&mut machine, &turns), Err(HostError::Refused { status: Status::NotDone, .. })));
    let outcome = LeaveOutcome::Refused { state: State::Error, status: Status::NotDone };
    assert_eq!(machine.outcome(), Some(outcome));
    let mut machine = Leave::new(Link::PHOTON, None);
    let turns = [
        Out(ABORT, Input::OutDone),
        St(hex!("00 000000 02 00")),
        Out(SetupPacket::dnload(0, 2, 0), Input::Disconnected),
    ];
    assert!(matches!(play(&mut machine, &turns), Err(HostError::Disconnected { .. })));
    assert_eq!(machine.outcome(), None);
}
