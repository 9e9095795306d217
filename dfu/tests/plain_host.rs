//! DFU 1.0 and 1.1 hosts against scripted devices: downloads, uploads, detaching, questions, special commands, quirks.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "common/script.rs"]
mod script;

use core::time::Duration;

use hex_literal::hex;
use script::{
    ABORT, CLRSTATUS,
    Turn::{self, Find, In, NoStatus, Out, Reset, Status as St, Wait},
    finished, play,
};
use spark_dfu::{
    SetupPacket, State, Status,
    descriptor::{Attributes, FunctionalDescriptor},
    host::{
        Action, Detach, DetachOutcome, Download, Element, GetCommands, GetState, HostError, Input, Link,
        Machine, Plan, PlanError, Policy, Progress, Special, SpecialOutcome, Step, WriteOptions, plain,
    },
    layout::MemoryLayout,
    quirk::Quirks,
};

const TOLERANT: u8 = 0x07;
const NOT_TOLERANT: u8 = 0x03;
const WILL_DETACH: u8 = 0x0B;

fn link(attributes: u8, dfu_version: u16) -> Link {
    Link::new(
        0,
        &FunctionalDescriptor {
            attributes: Attributes(attributes),
            detach_timeout_ms: 5000,
            transfer_size: 4,
            dfu_version,
        },
    )
}

fn download(attributes: u8, image: &[u8]) -> plain::Download<&[u8], [u8; 4]> {
    plain::Download::new(link(attributes, 0x0110), image, image.len(), [0; 4]).unwrap()
}

const fn dnload(block: u16, len: u16) -> Turn<'static> {
    Out(SetupPacket::dnload(0, block, len), Input::OutDone)
}

fn idle() -> Turn<'static> {
    St(hex!("00 000000 05 00"))
}

#[test]
fn blocks_count_from_zero_and_the_end_is_told() {
    let mut machine = download(TOLERANT, b"abcdef");
    let turns = [
        dnload(0, 4),
        St(hex!("00 0A0000 03 00")),
        Wait(10),
        idle(),
        dnload(1, 2),
        St(hex!("00 000000 04 00")),
        Wait(2),
        idle(),
        dnload(2, 0),
        St(hex!("00 000000 06 00")),
        Wait(2),
        St(hex!("00 640000 07 00")),
        Wait(100),
        St(hex!("00 000000 02 00")),
    ];
    assert_eq!(play(&mut machine, &turns), Ok(()));
    assert!(finished(&machine));
    assert_eq!((machine.outcome(), machine.written()), (Some(plain::Manifested::Idle), 6));
}

#[test]
fn block_numbers_wrap_from_65535_to_0() {
    let image = vec![7; 65_537 * 4];
    let mut machine = download(TOLERANT, &image);
    for block in 0..65_537_u32 {
        let number = u16::try_from(block & 0xFFFF).unwrap();
        assert_eq!(play(&mut machine, &[dnload(number, 4), idle()]), Ok(()));
    }
    assert_eq!(play(&mut machine, &[dnload(1, 0), St(hex!("00 000000 02 00"))]), Ok(()));
    assert_eq!(machine.written(), 262_148);
}

/// Downloads four bytes up to the zero-length DNLOAD, then plays on.
fn manifest(attributes: u8, turns: &[Turn<'_>]) -> Result<Option<plain::Manifested>, HostError> {
    let mut machine = download(attributes, b"abcd");
    play(&mut machine, &[dnload(0, 4), idle(), dnload(1, 0)]).unwrap();
    play(&mut machine, turns)?;
    assert!(finished(&machine));
    Ok(machine.outcome())
}

#[test]
fn manifestation_ends_in_idle_a_reset_or_silence() {
    let idle = St(hex!("00 000000 02 00"));
    assert_eq!(manifest(TOLERANT, &[idle]), Ok(Some(plain::Manifested::Idle)));
    let wait_reset = || St(hex!("00 000000 08 00"));
    let reset = manifest(NOT_TOLERANT, &[wait_reset(), Reset(Input::BusReset)]);
    assert_eq!(reset, Ok(Some(plain::Manifested::Reset)));
    let by_itself = manifest(NOT_TOLERANT, &[wait_reset(), Reset(Input::Disconnected)]);
    assert_eq!(by_itself, Ok(Some(plain::Manifested::Reset)));
    let impossible = manifest(NOT_TOLERANT, &[wait_reset(), Reset(Input::Unsupported)]);
    assert_eq!(impossible, Ok(Some(plain::Manifested::NeedsReset)));
    for silence in [Input::Stalled, Input::TimedOut] {
        let turns = [St(hex!("00 0A0000 07 00")), Wait(10), NoStatus(silence), Reset(Input::BusReset)];
        assert_eq!(manifest(NOT_TOLERANT, &turns), Ok(Some(plain::Manifested::Reset)));
    }
    let gone = manifest(NOT_TOLERANT, &[NoStatus(Input::Disconnected)]);
    assert_eq!(gone, Ok(Some(plain::Manifested::Disconnected)));
}

#[test]
fn manifestation_fails_with_the_devices_reason() {
    let failed = manifest(TOLERANT, &[St(hex!("02 000000 0A 00")), Out(CLRSTATUS, Input::OutDone)]);
    let Err(HostError::Refused { place, state, status }) = failed else { panic!("{failed:?}") };
    assert_eq!((place.step, state, status), (Step::Manifest, State::Error, Status::File));
    // A tolerant device has no reason to be silent.
    let turns = [NoStatus(Input::Stalled), St(hex!("0A 000000 0A 00")), Out(CLRSTATUS, Input::OutDone)];
    let failed = manifest(TOLERANT, &turns);
    assert!(matches!(failed, Err(HostError::Refused { status: Status::Firmware, .. })), "{failed:?}");
    assert!(matches!(
        manifest(NOT_TOLERANT, &[St(hex!("00 000000 08 00")), Reset(Input::TimedOut)]),
        Err(HostError::TimedOut { .. })
    ));
}

#[test]
fn a_refused_block_is_named_with_block_and_offset() {
    let mut machine = download(TOLERANT, b"abcdef");
    let turns = [
        dnload(0, 4),
        idle(),
        Out(SetupPacket::dnload(0, 1, 2), Input::Stalled),
        St(hex!("03 000000 0A 00")),
        Out(CLRSTATUS, Input::OutDone),
    ];
    let Err(HostError::Refused { place, status, .. }) = play(&mut machine, &turns) else { panic!() };
    assert_eq!((place.step, place.block, place.address), (Step::Write, 1, 4));
    assert_eq!((status, machine.outcome(), finished(&machine)), (Status::Write, None, true));
}

#[test]
fn a_cancelled_download_ends_behind_the_block_that_was_begun() {
    let mut machine = download(TOLERANT, b"abcdef");
    play(&mut machine, &[dnload(0, 4)]).unwrap();
    machine.cancel();
    let turns = [St(hex!("00 050000 04 00")), Wait(5), idle(), Out(ABORT, Input::OutDone)];
    play(&mut machine, &turns).unwrap();
    let result = play(&mut machine, &[St(hex!("00 000000 02 00"))]);
    assert!(matches!(result, Err(HostError::Cancelled { .. })), "{result:?}");
    assert!(finished(&machine) && machine.written() == 4);
}

#[test]
fn downloads_check_their_parts_before_anything_is_sent() {
    let new = |len, transfer_size| {
        let link = Link { transfer_size, ..link(TOLERANT, 0x0110) };
        plain::Download::new(link, &b"abcd"[..], len, [0; 4]).map(|_| ())
    };
    assert_eq!(new(4, 4), Ok(()));
    assert_eq!(new(0, 4), Err(PlanError::Empty));
    assert_eq!(new(4, 0), Err(PlanError::NoTransferSize));
    assert_eq!(new(4, 5), Err(PlanError::BufferTooSmall { needed: 5, available: 4 }));
    assert_eq!(new(5, 4), Ok(()), "the image is read block by block");
    let none = plain::Download::new(link(TOLERANT, 0x0110), &b""[..], 4, [0; 4]).map(|_| ());
    assert_eq!(none, Err(PlanError::UnreadableImage { address: 0 }));
}

const fn upload(block: u16) -> SetupPacket {
    SetupPacket::upload(0, block, 4)
}

#[test]
fn uploads_end_with_a_short_frame_that_may_be_empty() {
    let mut buffer = [0; 8];
    let mut machine = plain::Upload::new(link(TOLERANT, 0x0110), &mut buffer).unwrap();
    let turns = [In(upload(0), Input::InDone(b"abcd")), In(upload(1), Input::InDone(b"ef"))];
    play(&mut machine, &turns).unwrap();
    assert!(finished(&machine) && machine.received() == 6);
    let mut machine = plain::Upload::new(link(TOLERANT, 0x0110), &mut buffer).unwrap();
    let turns = [
        In(upload(0), Input::InDone(b"abcd")),
        In(upload(1), Input::InDone(b"efgh")),
        In(upload(2), Input::InDone(b"")),
    ];
    play(&mut machine, &turns).unwrap();
    assert!(finished(&machine) && machine.received() == 8);
    assert_eq!(&buffer, b"abcdefgh");
}

#[test]
fn an_upload_that_is_taken_block_by_block_fits_any_buffer() {
    let mut buffer = [0; 4];
    let mut machine = plain::Upload::new(link(TOLERANT, 0x0110), &mut buffer).unwrap();
    for (block, data) in [(0, b"abcd"), (1, b"efgh"), (2, b"ijkl")] {
        play(&mut machine, &[In(upload(block), Input::InDone(data))]).unwrap();
        assert_eq!(machine.take_received(), data);
    }
    let done = machine.handle(Duration::ZERO, Input::InDone(b"m")).unwrap();
    assert_eq!(done, Some(Progress::Read { done: 13, total: None }));
    assert!(finished(&machine) && machine.received() == 1);
    assert_eq!(machine.take_received(), b"m");
    assert_eq!(machine.take_received(), b"");
}

#[test]
fn uploads_that_do_not_fit_are_ended_and_said() {
    let mut buffer = [0; 6];
    let mut machine = plain::Upload::new(link(TOLERANT, 0x0110), &mut buffer).unwrap();
    let turns = [
        In(upload(0), Input::InDone(b"abcd")),
        In(upload(1), Input::InDone(b"efgh")),
        Out(ABORT, Input::OutDone),
        St(hex!("00 000000 02 00")),
    ];
    assert_eq!(play(&mut machine, &turns), Err(HostError::UploadTooLong { capacity: 6 }));
    let mut machine = plain::Upload::new(link(TOLERANT, 0x0110), &mut buffer).unwrap();
    let turns = [In(upload(0), Input::Stalled), St(hex!("0F 000000 0A 00")), Out(CLRSTATUS, Input::OutDone)];
    assert!(matches!(play(&mut machine, &turns), Err(HostError::Refused { .. })));
}

#[test]
fn a_cancelled_upload_goes_back_to_idle() {
    let mut buffer = [0; 64];
    let mut machine = plain::Upload::new(link(TOLERANT, 0x0110), &mut buffer).unwrap();
    machine.cancel();
    let turns = [In(upload(0), Input::InDone(b"abcd")), Out(ABORT, Input::OutDone)];
    play(&mut machine, &turns).unwrap();
    let result = play(&mut machine, &[St(hex!("00 000000 02 00"))]);
    assert!(matches!(result, Err(HostError::Cancelled { .. })));
}

const fn detach(ms: u16, input: Input<'static>) -> Turn<'static> {
    Out(SetupPacket::detach(0, ms), input)
}

#[test]
fn a_device_that_will_not_detach_itself_gets_a_bus_reset() {
    let mut machine = Detach::new(link(NOT_TOLERANT, 0x0110));
    let turns = [
        St(hex!("00 000000 00 00")),
        detach(1000, Input::OutDone),
        Reset(Input::BusReset),
        Find(10_000, Input::Found),
    ];
    assert_eq!(play(&mut machine, &turns), Ok(()));
    assert_eq!(machine.outcome(), Some(DetachOutcome::Detached));
    assert!(finished(&machine));
}

#[test]
fn a_device_that_detaches_itself_is_waited_for() {
    for answer in [Input::OutDone, Input::Disconnected, Input::TimedOut] {
        let mut machine = Detach::new(link(WILL_DETACH, 0x0110));
        // Many applications stall GETSTATUS.
        let turns = [NoStatus(Input::Stalled), detach(1000, answer), Find(10_000, Input::Found)];
        assert_eq!(play(&mut machine, &turns), Ok(()));
        assert_eq!(machine.outcome(), Some(DetachOutcome::Detached));
    }
    // DFU 1.0 has no such bit.
    let mut machine = Detach::new(link(WILL_DETACH, 0x0100));
    let turns = [St(hex!("00 000000 00 00")), detach(1000, Input::OutDone), Reset(Input::BusReset)];
    assert_eq!(play(&mut machine, &turns), Ok(()));
}

#[test]
fn the_timeout_of_detach_is_not_longer_than_the_device_can_wait() {
    let short = Link { detach_timeout_ms: 255, ..link(WILL_DETACH, 0x0110) };
    let turns = [NoStatus(Input::TimedOut), detach(255, Input::OutDone)];
    assert_eq!(play(&mut Detach::new(short), &turns), Ok(()));
}

#[test]
fn detaching_knows_when_nothing_is_to_do_and_when_it_failed() {
    let mut machine = Detach::new(link(WILL_DETACH, 0x0110));
    assert_eq!(play(&mut machine, &[St(hex!("00 000000 02 00"))]), Ok(()));
    assert_eq!(machine.outcome(), Some(DetachOutcome::AlreadyInDfuMode(State::Idle)));
    let mut detaching = Detach::new(link(WILL_DETACH, 0x0110));
    assert_eq!(play(&mut detaching, &[St(hex!("00 000000 01 00")), Reset(Input::BusReset)]), Ok(()));
    let result = |turns: &[Turn<'_>]| play(&mut Detach::new(link(NOT_TOLERANT, 0x0110)), turns);
    let app = || St(hex!("00 000000 00 00"));
    assert!(matches!(result(&[app(), detach(1000, Input::Stalled)]), Err(HostError::Stalled { .. })));
    assert!(matches!(result(&[NoStatus(Input::Disconnected)]), Err(HostError::Disconnected { .. })));
    let turns = [app(), detach(1000, Input::OutDone), Reset(Input::Unsupported)];
    assert!(matches!(result(&turns), Err(HostError::ResetUnsupported { .. })));
    let turns =
        [app(), detach(1000, Input::OutDone), Reset(Input::BusReset), Find(10_000, Input::TimeReached)];
    assert_eq!(result(&turns), Err(HostError::NotFoundAgain));
}

#[test]
fn state_and_commands_can_be_asked_for() {
    let mut machine = GetState::new(Link::PHOTON);
    assert_eq!(play(&mut machine, &[In(SetupPacket::get_state(0), Input::InDone(&[9]))]), Ok(()));
    assert_eq!(machine.state(), Some(State::UploadIdle));
    let mut machine = GetState::new(Link::PHOTON);
    let result = play(&mut machine, &[In(SetupPacket::get_state(0), Input::InDone(&[9, 9]))]);
    assert!(matches!(result, Err(HostError::FrameLength { expected: 1, found: 2, .. })));

    let mut machine = GetCommands::new(Link::PHOTON);
    let turns = [
        In(SetupPacket::upload(0, 0, 16), Input::InDone(&hex!("00 21 41 92"))),
        Out(ABORT, Input::OutDone),
        St(hex!("00 000000 02 00")),
    ];
    assert_eq!(play(&mut machine, &turns), Ok(()));
    let commands = machine.commands().unwrap();
    assert_eq!(commands.codes(), hex!("00 21 41 92"));
    assert!(commands.has(0x92) && !commands.has(0x93));
}

const MASS_ERASE: Turn<'static> = Out(SetupPacket::dnload(0, 0, 1), Input::OutDone);

#[test]
fn mass_erase_waits_as_announced_unless_the_device_is_known_to_understate() {
    let stm32 = Link::PHOTON.with_quirks(Quirks::STM32);
    for (link, announced, waited) in [
        (Link::PHOTON, hex!("00 640000 04 00"), 100),
        (stm32, hex!("00 640000 04 00"), 35_000),
        (stm32, hex!("00 650000 04 00"), 101),
    ] {
        let mut machine = Special::mass_erase(link).unwrap();
        let turns = [
            MASS_ERASE,
            St(announced),
            Wait(waited),
            St(hex!("00 000000 05 00")),
            Out(ABORT, Input::OutDone),
            St(hex!("00 000000 02 00")),
        ];
        assert_eq!(play(&mut machine, &turns), Ok(()));
        assert_eq!(machine.outcome(), Some(SpecialOutcome::Done));
    }
    let turns = [MASS_ERASE, St(hex!("04 000000 0A 00")), Out(CLRSTATUS, Input::OutDone)];
    let failed = play(&mut Special::mass_erase(stm32).unwrap(), &turns);
    assert!(matches!(failed, Err(HostError::Refused { status: Status::Erase, .. })));
}

#[test]
fn read_unprotect_succeeds_when_the_device_goes_away() {
    let command = || Out(SetupPacket::dnload(0, 0, 1), Input::OutDone);
    let busy = || St(hex!("00 F40100 04 00"));
    for turns in [
        vec![command(), NoStatus(Input::Disconnected)],
        vec![command(), NoStatus(Input::TimedOut)],
        vec![command(), busy(), Wait(500), NoStatus(Input::Disconnected)],
        vec![command(), busy(), Wait(500), busy(), Wait(500), NoStatus(Input::TimedOut)],
        vec![command(), NoStatus(Input::Stalled), NoStatus(Input::Disconnected)],
    ] {
        let mut machine = Special::read_unprotect(Link::PHOTON);
        assert_eq!(machine.action(), Action::Out { setup: SetupPacket::dnload(0, 0, 1), data: &[0x92] });
        assert_eq!(play(&mut machine, &turns), Ok(()));
        assert_eq!(machine.outcome(), Some(SpecialOutcome::Disconnects));
        assert!(finished(&machine));
    }
    // A device that still answers when its time is over has done nothing; a Photon stalls first.
    for turns in [
        vec![command(), busy(), Wait(500), idle()],
        vec![command(), NoStatus(Input::Stalled), idle()],
        vec![command(), busy(), Wait(500), NoStatus(Input::Stalled), St(hex!("00 000000 03 00"))],
    ] {
        let mut machine = Special::read_unprotect(Link::PHOTON);
        assert!(matches!(play(&mut machine, &turns), Err(HostError::Refused { .. })));
        assert_eq!(machine.outcome(), None);
    }
    let mut machine = Special::read_unprotect(Link::PHOTON);
    let turns = [command(), St(hex!("0F 000000 0A 00")), Out(CLRSTATUS, Input::OutDone)];
    assert!(matches!(play(&mut machine, &turns), Err(HostError::Refused { .. })));
    let mut machine = Special::read_unprotect(Link::PHOTON);
    let early = play(&mut machine, &[Out(SetupPacket::dnload(0, 0, 1), Input::Disconnected)]);
    assert!(matches!(early, Err(HostError::Disconnected { .. })), "it went away before it took the command");
}

fn page_download(link: Link) -> Download<'static, Element<'static>, [u8; 4096]> {
    let layout = MemoryLayout::parse(b"@x/0x0/4*1Kg").unwrap();
    let plan = Plan::write(&layout, 0, 4, WriteOptions::DEFAULT).unwrap();
    Download::new(link, &plan, Element { address: 0, data: b"abcd" }, [0; 4096]).unwrap()
}

const ERASE: Turn<'static> = Out(SetupPacket::dnload(0, 0, 5), Input::OutDone);

#[test]
fn an_h743_that_stays_busy_is_freed_by_two_clrstatus() {
    let busy = || St(hex!("00 0A0000 04 00"));
    let free = || Out(CLRSTATUS, Input::OutDone);
    let h7 = Link::PHOTON.with_quirks(Quirks::STM32H743);
    let mut machine = page_download(h7);
    let turns = [
        ERASE,
        busy(),
        Wait(10),
        busy(),
        free(),
        St(hex!("0E 000000 0A 00")),
        free(),
        St(hex!("00 000000 02 00")),
        Out(SetupPacket::dnload(0, 0, 5), Input::OutDone),
    ];
    assert_eq!(play(&mut machine, &turns), Ok(()));
    // Other devices are asked on.
    let mut machine = page_download(Link::PHOTON.with_quirks(Quirks::STM32));
    assert_eq!(play(&mut machine, &[ERASE, busy(), Wait(10), busy(), Wait(10), busy()]), Ok(()));
    let mut machine = page_download(h7);
    let stuck = [ERASE, busy(), Wait(10), busy(), free(), busy(), free(), busy()];
    assert!(matches!(play(&mut machine, &stuck), Err(HostError::Refused { state: State::DnBusy, .. })));
}

#[test]
fn bogus_poll_times_are_replaced() {
    let quirks = Quirks::of(0x1D50, 0x5119, 0);
    let mut machine = page_download(Link::PHOTON.with_quirks(quirks));
    let turns = [ERASE, St(hex!("00 FFFFFF 04 00")), Wait(5), St(hex!("00 000000 05 00"))];
    assert_eq!(play(&mut machine, &turns), Ok(()));
}

#[test]
fn wrong_versions_are_corrected_by_the_table() {
    let maple = link(WILL_DETACH, 0x0101).with_quirks(Quirks::of(0x1EAF, 0x0003, 0x0200));
    assert_eq!(maple.dfu_version, 0x0110);
    assert!(!maple.is_dfuse() && Link::PHOTON.is_dfuse());
    let patient = Policy { reenumeration: Duration::from_secs(30), ..Policy::DEFAULT };
    let mut machine = Detach::new(maple.with_policy(patient));
    let turns = [NoStatus(Input::Stalled), detach(1000, Input::OutDone), Find(30_000, Input::Found)];
    assert_eq!(play(&mut machine, &turns), Ok(()));
}
