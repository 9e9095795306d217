//! Every request and a USB reset in every state, for every table but the recorded one, against rows written by hand.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bench;

use bench::{Bench, dfuse, plain};
use hex_literal::hex;
use spark_dfu::{
    SetupPacket, State, Status,
    device::{Event, Profile, Protocol, Stall, Work},
};

const STATES: [State; 9] = [
    State::Idle,
    State::DnloadSync,
    State::DnBusy,
    State::DnloadIdle,
    State::ManifestSync,
    State::Manifest,
    State::ManifestWaitReset,
    State::UploadIdle,
    State::Error,
];

/// A bench in a state, or `None` where the profile never is in it.
fn in_state(make: fn() -> Bench, state: State) -> Option<Bench> {
    let mut bench = make();
    let write = |bench: &mut Bench| {
        let block = if bench.device.protocol() == Protocol::Plain { 0 } else { 2 };
        bench.dnload(block, &[0x55; 8]).unwrap();
    };
    if bench.device.protocol() == Protocol::DfuSe {
        assert_eq!(bench.whole_dnload(0, &hex!("21 00100000")), (State::DnloadIdle, Status::Ok));
        bench.request(SetupPacket::abort(0)).unwrap();
    }
    match state {
        State::DnloadSync => write(&mut bench),
        State::DnBusy => {
            write(&mut bench);
            bench.poll();
        }
        State::DnloadIdle | State::ManifestSync | State::Manifest | State::ManifestWaitReset => {
            write(&mut bench);
            bench.poll();
            bench.work();
            bench.poll();
            if state != State::DnloadIdle {
                bench.dnload(9, &[]).unwrap();
            }
            if matches!(state, State::Manifest | State::ManifestWaitReset) {
                bench.poll();
            }
            if state == State::ManifestWaitReset && bench.device.state() == State::Manifest {
                bench.now = bench.device.next_deadline().unwrap_or(bench.now);
                bench.work();
            }
        }
        State::UploadIdle => {
            let block = if bench.device.protocol() == Protocol::Plain { 0 } else { 2 };
            assert_eq!(bench.upload(block, 64).unwrap().len(), 64);
        }
        State::Error => bench.device.report_error(Status::File),
        _ => {}
    }
    (bench.device.state() == state).then_some(bench)
}

fn send(bench: &mut Bench, event: Event) -> Result<Vec<u8>, Stall> {
    let plain = bench.device.protocol() == Protocol::Plain;
    let second = matches!(bench.device.state(), State::DnloadIdle | State::UploadIdle);
    let block = if plain { u16::from(second) } else { 2 };
    match event {
        Event::Detach => bench.request(SetupPacket::detach(0, 5)),
        Event::Dnload => bench.dnload(block, &[1, 2, 3]),
        Event::DnloadEnd => bench.dnload(77, &[]),
        Event::Upload => bench.upload(block, 64),
        Event::UploadNothing => bench.upload(block, 0),
        Event::GetStatus => bench.request(SetupPacket::get_status(0)),
        Event::ClrStatus => bench.request(SetupPacket::clr_status(0)),
        Event::GetState => bench.request(SetupPacket::get_state(0)),
        Event::Abort => bench.request(SetupPacket::abort(0)),
        Event::Other => bench.request(SetupPacket::from_bytes(hex!("21 07 0000 0000 0000"))),
        Event::Reset => {
            bench.device.bus_reset();
            Ok(Vec::new())
        }
        Event::Elapsed => unreachable!("time is no request"),
    }
}

/// Cells: `s` stall without a change; `E` stall and dfuERROR; `.` acknowledged without a change; a number: this state, status OK (`2k`: kept);
/// `r` a reply without a change, `r4` a reply and this state; `U` acknowledged and errUNKNOWN; `u` errUSBR; `L` work to leave. A row of `-` is a state
/// that the profile does not stay in.
fn check(name: &str, make: fn() -> Bench, rows: [&str; 9]) {
    for (state, row) in STATES.into_iter().zip(rows) {
        let cells: Vec<_> = row.split_whitespace().collect();
        if cells == ["-"] {
            assert!(in_state(make, state).is_none(), "{name}: {state}");
            continue;
        }
        assert_eq!(cells.len(), 11, "{name}: {state}");
        for (event, cell) in Event::ALL.into_iter().zip(cells) {
            let at = format!("{name}: {event} in {state}");
            let mut bench = in_state(make, state).unwrap_or_else(|| panic!("{at}: not reached"));
            let before = bench.state();
            let illegal = bench.device.profile().statuses.illegal_request;
            let result = send(&mut bench, event);
            let after = bench.state();
            match cell {
                "s" => assert_eq!((result, after), (Err(Stall), before), "{at}"),
                "E" => assert_eq!((result, after), (Err(Stall), (State::Error, illegal)), "{at}"),
                "." => assert_eq!((result, after), (Ok(vec![]), before), "{at}"),
                "r" => {
                    assert!(result.is_ok_and(|reply| !reply.is_empty()), "{at}");
                    assert_eq!(after, before, "{at}");
                }
                "U" => {
                    assert_eq!((result, after), (Ok(vec![]), (State::Error, Status::Unknown)), "{at}");
                }
                "2k" => assert_eq!((result, after), (Ok(vec![]), (State::Idle, before.1)), "{at}"),
                "u" => assert_eq!(after, (State::Error, Status::UsbReset), "{at}"),
                "L" => assert!(matches!(bench.device.work(bench.now), Some(Work::Leave { .. })), "{at}"),
                other => {
                    let reply = other.strip_prefix('r');
                    let code = reply.unwrap_or(other).parse().unwrap();
                    assert_eq!(after, (State::from_code(code), Status::Ok), "{at}");
                    // UPLOAD of nothing is a reply of nothing.
                    if event != Event::UploadNothing {
                        assert_eq!(result.map(|reply| reply.is_empty()), Ok(reply.is_none()), "{at}");
                    }
                }
            }
        }
    }
}

#[test]
fn plain_dfu_by_the_standard() {
    check(
        "STRICT, plain",
        || Bench::new(plain(), Profile::STRICT),
        [
            // DETACH DNLOAD 0 UPLOAD 0 GETSTATUS CLRSTATUS GETSTATE ABORT other reset
            "E 3 E r9 r9 r E r 2 E 2",
            "E E E E E r4 E r 2 E u",
            "E E E E E r E r E E u",
            "E 3 6 E E r E r 2 E u",
            "E E E E E r7 E r 2 E u",
            "E E E E E r E r E E u",
            "s s s s s r s r s s L",
            "E E E r9 r9 r E r 2 E 2",
            "s s s s s r 2 r s s .",
        ],
    );
}

#[test]
fn plain_dfu_tolerant() {
    check(
        "TOLERANT, plain",
        || Bench::new(plain(), Profile::TOLERANT),
        [
            ". 3 E r9 r9 r 2 r 2 s 2",
            ". E E E E r4 2 r 2 s u",
            ". E E E E r . r . s u",
            ". 3 6 E E r 2 r 2 s u",
            ". E E E E r7 2 r 2 s u",
            ". E E E E r . r . s u",
            ". s s s s r . r . s L",
            ". E E r9 r9 r 2 r 2 s 2",
            ". s s s s r 2 r . s .",
        ],
    );
}

#[test]
fn dfuse_by_the_standard() {
    check(
        "STRICT, DfuSe",
        || Bench::new(dfuse(), Profile::STRICT),
        [
            "E 3 6 r9 r9 r E r 2 E 2",
            "E E E E E r4 E r 2 E u",
            "E E E E E r E r E E u",
            "E 3 6 E E r E r 2 E u",
            "E E E E E r7 E r 2 E u",
            "E E E E E r E r E E L",
            "s s s s s r s r s s L",
            "E E E r9 r9 r E r 2 E 2",
            "s s s s s r 2 r s s .",
        ],
    );
}

#[test]
fn dfuse_tolerant() {
    check(
        "TOLERANT, DfuSe",
        || Bench::new(dfuse(), Profile::TOLERANT),
        [
            ". 3 6 r9 r9 r 2 r 2 s 2",
            ". E E E E r4 2 r 2 s u",
            ". E E E E r . r . s u",
            ". 3 6 E E r 2 r 2 s u",
            ". E E E E r7 2 r 2 s u",
            ". E E E E r . r . s L",
            ". s s s s r . r . s L",
            ". E E r9 r9 r 2 r 2 s 2",
            ". s s s s r 2 r . s .",
        ],
    );
}

#[test]
fn nrf52840() {
    check(
        "NRF52840",
        || Bench::new(dfuse(), Profile::NRF52840),
        [
            ". 3 6 r9 r9 r E r 2 E 2",
            ". E E E E r4 E r 2 E u",
            ". E E E E r E E E E u",
            ". 3 6 E E r E r 2 E u",
            ". E E E E r8 E r 2 E u",
            "-",
            ". s s s s r s E E s L",
            ". E E r9 r9 r E r 2 E 2",
            ". s s s s r 2 r E s .",
        ],
    );
}

#[test]
fn core() {
    let make = || {
        let mut bench = Bench::new(
            spark_dfu::descriptor::Description {
                alternates: &["@x/0x08000000/1*256 g", "@y/0x00000000/8*1Kg"],
                ..dfuse()
            },
            Profile::CORE,
        );
        bench.ram.base = [0x0800_0000, 0];
        bench.ram.memories[1].resize(8192, 0);
        bench
    };
    check(
        "CORE",
        make,
        [
            "s 3 6 r9 2 r U r 2 s 2",
            "s s s s 2 r4 U r 2 s 2",
            "s s s s s r s r s s 2",
            "s 3 6 s 2 r U r 2 s 2",
            "s s s s 2 r8 U r 2 s 2",
            "-",
            "s s s s 2 r U r . s 2",
            "s s s r9 2 r U r 2 s 2",
            "s s s s 2k r 2 r . s 2",
        ],
    );
}
