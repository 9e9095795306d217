//! The strict device, cell by cell: every request in every DFU-mode state.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use core::time::Duration;

use common::PhotonMemory;
use hex_literal::hex;
use spark_dfu::{
    SetupPacket, State, Status, StatusReply,
    descriptor::{Attributes, Description, FunctionalDescriptor},
    device::{Device, DeviceError, Profile, Stall, Work},
};

const NOW: Duration = Duration::from_secs(1);

struct Bench {
    device: Device<'static, Vec<u8>>,
    memory: PhotonMemory,
}

impl Bench {
    fn new() -> Self {
        let device = Device::new(Description::photon("1"), Profile::STRICT, vec![0; 4096]).unwrap();
        Self { device, memory: PhotonMemory::new() }
    }

    fn send_at(&mut self, now: Duration, setup: SetupPacket, output: &[u8]) -> Result<Vec<u8>, Stall> {
        let mut input = vec![0; 4096];
        let len = self.device.control(now, &mut self.memory, &setup.to_bytes(), output, &mut input)?;
        input.truncate(len);
        Ok(input)
    }

    fn send(&mut self, setup: SetupPacket, output: &[u8]) -> Result<Vec<u8>, Stall> {
        self.send_at(NOW, setup, output)
    }

    fn command(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Stall> {
        self.send(SetupPacket::dnload(0, 0, u16::try_from(bytes.len()).unwrap()), bytes)
    }

    fn status(&mut self) -> StatusReply {
        StatusReply::parse(&self.send(SetupPacket::get_status(0), &[]).unwrap()).unwrap()
    }

    fn state_and_status(&mut self) -> (State, Status) {
        let reply = self.status();
        (reply.state, reply.status)
    }

    /// Erases 0x080A0000 up to the work item.
    fn erasing() -> Self {
        let mut bench = Self::new();
        bench.command(&hex!("41 00000A08")).unwrap();
        assert_eq!(bench.status().state, State::DnBusy);
        bench
    }

    /// A bench in a state.
    fn in_state(state: State) -> Self {
        let mut bench = Self::new();
        match state {
            State::Idle => {}
            State::DnloadSync => drop(bench.command(&hex!("21 00000A08"))),
            State::DnBusy => bench = Self::erasing(),
            State::DnloadIdle => {
                drop(bench.command(&hex!("21 00000A08")));
                assert_eq!(bench.status().state, State::DnBusy);
                assert_eq!(bench.status().state, State::DnloadIdle);
            }
            State::ManifestSync => drop(bench.send(SetupPacket::dnload(0, 2, 0), &[])),
            State::Manifest => {
                drop(bench.send(SetupPacket::dnload(0, 2, 0), &[]));
                assert_eq!(bench.status().state, State::Manifest);
            }
            State::ManifestWaitReset => {
                bench = Self::in_state(State::Manifest);
                assert!(bench.device.work(NOW + Profile::STRICT.leave_delay).is_some());
                bench.device.work_done(NOW + Profile::STRICT.leave_delay, Ok(())).unwrap();
            }
            State::UploadIdle => {
                drop(bench.command(&hex!("21 00000A08")));
                bench.status();
                drop(bench.send(SetupPacket::abort(0), &[]));
                assert_eq!(bench.send(SetupPacket::upload(0, 2, 8), &[]).unwrap().len(), 8);
            }
            State::Error => assert_eq!(bench.send(SetupPacket::detach(0, 1), &[]), Err(Stall)),
            other => panic!("{other}"),
        }
        assert_eq!(bench.device.state(), state);
        bench
    }
}

use Expected::{Error, Goes, Replies, Stays};

#[derive(Debug, Clone, Copy)]
enum Expected {
    /// Stall, dfuERROR, errSTALLEDPKT.
    Error,
    /// Stall, nothing changes.
    Stays,
    /// Acknowledged, then this state.
    Goes(State),
    /// IN data of this length, then this state.
    Replies(usize, State),
}

#[test]
fn every_request_in_every_state_does_what_the_standard_says() {
    let requests: [(&str, SetupPacket, &[u8]); 11] = [
        ("DETACH", SetupPacket::detach(0, 5), &[]),
        ("DNLOAD", SetupPacket::dnload(0, 0, 5), &hex!("21 00000A08")),
        ("DNLOAD 0", SetupPacket::dnload(0, 7, 0), &[]),
        ("UPLOAD commands", SetupPacket::upload(0, 0, 3), &[]),
        ("UPLOAD commands, short frame", SetupPacket::upload(0, 0, 4), &[]),
        ("UPLOAD 0 bytes", SetupPacket::upload(0, 0, 0), &[]),
        ("GETSTATUS", SetupPacket::get_status(0), &[]),
        ("CLRSTATUS", SetupPacket::clr_status(0), &[]),
        ("GETSTATE", SetupPacket::get_state(0), &[]),
        ("ABORT", SetupPacket::abort(0), &[]),
        ("unknown", SetupPacket::from_bytes(hex!("21 07 0000 0000 0000")), &[]),
    ];
    use State::{
        DnBusy, DnloadIdle, DnloadSync, Error as Er, Idle, Manifest, ManifestSync, ManifestWaitReset,
        UploadIdle,
    };
    let idle = Goes(Idle);
    let store = Goes(DnloadSync);
    let leave = Goes(ManifestSync);
    let table: [(State, [Expected; 11]); 9] = [
        (
            Idle,
            [
                Error,
                store,
                leave,
                Replies(3, UploadIdle),
                Replies(3, Idle),
                Replies(0, UploadIdle),
                Replies(6, Idle),
                Error,
                Replies(1, Idle),
                idle,
                Error,
            ],
        ),
        (
            DnloadSync,
            [
                Error,
                Error,
                Error,
                Error,
                Error,
                Error,
                Replies(6, DnloadSync),
                Error,
                Replies(1, DnloadSync),
                idle,
                Error,
            ],
        ),
        (
            DnBusy,
            [
                Error,
                Error,
                Error,
                Error,
                Error,
                Error,
                Replies(6, DnBusy),
                Error,
                Replies(1, DnBusy),
                Error,
                Error,
            ],
        ),
        (
            DnloadIdle,
            [
                Error,
                store,
                leave,
                Error,
                Error,
                Error,
                Replies(6, DnloadIdle),
                Error,
                Replies(1, DnloadIdle),
                idle,
                Error,
            ],
        ),
        (
            ManifestSync,
            [
                Error,
                Error,
                Error,
                Error,
                Error,
                Error,
                Replies(6, Manifest),
                Error,
                Replies(1, ManifestSync),
                idle,
                Error,
            ],
        ),
        (
            Manifest,
            [
                Error,
                Error,
                Error,
                Error,
                Error,
                Error,
                Replies(6, Manifest),
                Error,
                Replies(1, Manifest),
                Error,
                Error,
            ],
        ),
        (
            ManifestWaitReset,
            [
                Stays,
                Stays,
                Stays,
                Stays,
                Stays,
                Stays,
                Replies(6, ManifestWaitReset),
                Stays,
                Replies(1, ManifestWaitReset),
                Stays,
                Stays,
            ],
        ),
        (
            UploadIdle,
            [
                Error,
                Error,
                Error,
                Replies(3, UploadIdle),
                Replies(3, Idle),
                Replies(0, UploadIdle),
                Replies(6, UploadIdle),
                Error,
                Replies(1, UploadIdle),
                idle,
                Error,
            ],
        ),
        (Er, [Stays, Stays, Stays, Stays, Stays, Stays, Replies(6, Er), idle, Replies(1, Er), Stays, Stays]),
    ];
    for (state, row) in table {
        for ((name, setup, output), expected) in requests.into_iter().zip(row) {
            let mut bench = Bench::in_state(state);
            let pointer = bench.device.pointer();
            let at = format!("{name} in {state}");
            let result = bench.send(setup, output);
            match expected {
                Error => {
                    assert_eq!(result, Err(Stall), "{at}");
                    assert_eq!(
                        (bench.device.state(), bench.device.status()),
                        (Er, Status::StalledPacket),
                        "{at}"
                    );
                    assert_eq!(bench.device.work(NOW), None, "{at}");
                }
                Stays => {
                    assert_eq!((result, bench.device.state()), (Err(Stall), state), "{at}");
                }
                Goes(next) => assert_eq!((result, bench.device.state()), (Ok(vec![]), next), "{at}"),
                Replies(len, next) => {
                    assert_eq!(
                        (result.map(|bytes| bytes.len()), bench.device.state()),
                        (Ok(len), next),
                        "{at}"
                    );
                }
            }
            // Only the GETSTATUS that executes SET_ADDRESS moves the pointer; ABORT in particular does not.
            let executes = (state, name) == (DnloadSync, "GETSTATUS");
            assert_eq!(bench.device.pointer() == pointer, !executes, "{at}");
        }
    }
}

#[test]
fn failures_get_their_own_status_before_any_work_is_handed_out() {
    let cases: [(&str, u16, &[u8], Status); 9] = [
        ("pointer outside the map", 0, &hex!("21 00001008"), Status::Target),
        ("erase outside the map", 0, &hex!("41 00000009"), Status::Target),
        ("erase of a read-only page", 0, &hex!("41 00000008"), Status::Erase),
        ("read unprotect", 0, &hex!("92"), Status::StalledPacket),
        ("unknown command", 0, &hex!("7F"), Status::StalledPacket),
        ("command of a wrong length", 0, &hex!("21 0000"), Status::StalledPacket),
        ("block 1", 1, &hex!("00"), Status::Target),
        ("write outside the map", 2, &hex!("00"), Status::Address),
        ("block far outside", 65535, &hex!("00"), Status::Address),
    ];
    for (what, block, data, status) in cases {
        let mut bench = Bench::new();
        let len = u16::try_from(data.len()).unwrap();
        bench.send(SetupPacket::dnload(0, block, len), data).unwrap();
        assert_eq!(bench.state_and_status(), (State::Error, status), "{what}");
        assert_eq!(bench.device.work(NOW), None, "{what}");
        bench.send(SetupPacket::clr_status(0), &[]).unwrap();
        assert_eq!(bench.state_and_status(), (State::Idle, Status::Ok), "{what}");
    }
    let mut bench = Bench::new();
    bench.command(&hex!("21 00000008")).unwrap();
    assert_eq!((bench.status().state, bench.status().state), (State::DnBusy, State::DnloadIdle));
    bench.send(SetupPacket::dnload(0, 2, 1), &[0]).unwrap();
    assert_eq!(bench.state_and_status(), (State::Error, Status::Write));
}

#[test]
fn failed_work_is_reported_and_the_first_status_is_kept() {
    let mut bench = Bench::erasing();
    bench.device.work_done(NOW, Err(Status::Erase)).unwrap();
    assert_eq!(bench.state_and_status(), (State::Error, Status::Erase));
    assert_eq!(bench.command(&hex!("21 00000A08")), Err(Stall));
    assert_eq!(bench.state_and_status(), (State::Error, Status::Erase));
    let mut bench = Bench::erasing();
    bench.device.work_done(NOW, Err(Status::Ok)).unwrap();
    assert_eq!(bench.state_and_status(), (State::Error, Status::Unknown));
}

#[test]
fn poll_time_is_the_estimate_and_then_what_is_left_of_it() {
    let mut bench = Bench::new();
    bench.command(&hex!("41 00000A08")).unwrap();
    assert_eq!(bench.status().poll_timeout, Duration::from_millis(800));
    let later = NOW + Duration::from_millis(300);
    let reply = bench.send_at(later, SetupPacket::get_status(0), &[]).unwrap();
    assert_eq!(reply, hex!("00 F40100 04 00"));
    let late = NOW + Duration::from_secs(9);
    let reply = bench.send_at(late, SetupPacket::get_status(0), &[]).unwrap();
    assert_eq!(reply, hex!("00 0A0000 04 00"));
    assert_eq!(bench.device.work(late), Some(Work::Erase { alternate: 0, address: 0x080A_0000 }));
    bench.device.work_done(late, Ok(())).unwrap();
    assert_eq!(bench.status().state, State::DnloadIdle);
}

#[test]
fn uploads_end_with_a_short_frame_at_the_end_of_memory() {
    let mut bench = Bench::new();
    bench.command(&hex!("21 FEFF0F08")).unwrap();
    bench.status();
    bench.send(SetupPacket::abort(0), &[]).unwrap();
    let tail = bench.memory.flash[0xF_FFFE..].to_vec();
    assert_eq!(bench.send(SetupPacket::upload(0, 2, 8), &[]).unwrap(), tail);
    assert_eq!(bench.device.state(), State::Idle);
    assert_eq!(bench.send(SetupPacket::upload(0, 3, 8), &[]), Err(Stall));
    assert_eq!(bench.state_and_status(), (State::Error, Status::Address));
}

#[test]
fn uploads_that_fill_the_last_frame_end_with_an_empty_one() {
    let mut bench = Bench::new();
    bench.command(&hex!("21 F8FF0F08")).unwrap();
    bench.status();
    bench.send(SetupPacket::abort(0), &[]).unwrap();
    let tail = bench.memory.flash[0xF_FFF8..].to_vec();
    let whole = bench.send(SetupPacket::upload(0, 2, 8), &[]).unwrap();
    assert_eq!((whole, bench.device.state()), (tail, State::UploadIdle));
    // The next block begins a wTransferSize later, which is not the end: a short pointer is set anew.
    assert_eq!(bench.send(SetupPacket::upload(0, 3, 8), &[]), Err(Stall));

    let mut bench = Bench::new();
    bench.command(&hex!("21 00F00F08")).unwrap();
    bench.status();
    bench.send(SetupPacket::abort(0), &[]).unwrap();
    assert_eq!(bench.send(SetupPacket::upload(0, 2, 4096), &[]).unwrap().len(), 4096);
    assert_eq!(bench.send(SetupPacket::upload(0, 3, 4096), &[]).unwrap(), []);
    assert_eq!(bench.device.state(), State::Idle);
}

#[test]
fn end_of_forgotten_work_does_not_end_other_work() {
    let mut bench = Bench::new();
    let now = Duration::from_secs(5);
    let page = hex!("41 00000A08");
    bench.send_at(now, SetupPacket::dnload(0, 0, 5), &page).unwrap();
    bench.send_at(now, SetupPacket::get_status(0), &[]).unwrap();
    assert!(matches!(bench.device.work(now), Some(Work::Erase { .. })), "begun");
    bench.device.bus_reset();
    assert_eq!(bench.device.state(), State::Error);
    bench.send_at(now, SetupPacket::clr_status(0), &[]).unwrap();
    let next = hex!("41 00000C08");
    bench.send_at(now, SetupPacket::dnload(0, 0, 5), &next).unwrap();
    bench.send_at(now, SetupPacket::get_status(0), &[]).unwrap();
    assert_eq!(bench.device.work(now), None, "the first erase is still under way");
    bench.device.work_done(now, Ok(())).unwrap();
    assert_eq!(bench.device.state(), State::DnBusy, "the end of the first is not that of the second");
    assert!(matches!(bench.device.work(now), Some(Work::Erase { address: 0x080C_0000, .. })));
}

#[test]
fn lengths_beyond_the_transfer_size_or_the_data_are_errors() {
    for (setup, data) in [
        (SetupPacket::dnload(0, 2, 4097), vec![0; 4097]),
        (SetupPacket::dnload(0, 2, 5), vec![0; 4]),
        (SetupPacket::upload(0, 2, 4097), vec![]),
    ] {
        let mut bench = Bench::new();
        assert_eq!(bench.send(setup, &data), Err(Stall));
        assert_eq!(bench.state_and_status(), (State::Error, Status::StalledPacket));
    }
}

#[test]
fn bus_reset_ends_in_a_defined_state_everywhere() {
    for (state, after, status) in [
        (State::Idle, State::Idle, Status::Ok),
        (State::DnloadSync, State::Error, Status::UsbReset),
        (State::DnBusy, State::Error, Status::UsbReset),
        (State::DnloadIdle, State::Error, Status::UsbReset),
        (State::ManifestSync, State::Error, Status::UsbReset),
        (State::Manifest, State::Manifest, Status::Ok),
        (State::ManifestWaitReset, State::ManifestWaitReset, Status::Ok),
        (State::UploadIdle, State::Idle, Status::Ok),
        (State::Error, State::Error, Status::StalledPacket),
    ] {
        let mut bench = Bench::in_state(state);
        bench.device.bus_reset();
        assert_eq!((bench.device.state(), bench.device.status()), (after, status), "{state}");
        assert_eq!((bench.device.pointer(), bench.device.alternate()), (0, 0), "{state}");
        let leaves = matches!(bench.device.work(NOW), Some(Work::Leave { .. }));
        assert_eq!(leaves, matches!(state, State::Manifest | State::ManifestWaitReset), "{state}");
        if !leaves {
            bench.device.work_done(NOW, Err(Status::Erase)).unwrap();
        }
        assert_eq!(bench.device.status(), status, "late result of forgotten work, {state}");
    }
}

#[test]
fn a_device_that_cannot_leave_says_why() {
    for state in [State::Manifest, State::ManifestWaitReset] {
        let mut bench = Bench::in_state(state);
        bench.device.bus_reset();
        assert!(bench.device.work(NOW).is_some());
        bench.device.work_done(NOW, Err(Status::Firmware)).unwrap();
        assert_eq!(bench.state_and_status(), (State::Error, Status::Firmware));
        assert_eq!(bench.device.next_deadline(), None);
    }
}

#[test]
fn a_tolerant_device_comes_back_to_idle_after_manifestation() {
    let mut description = Description::photon("1");
    description.functional.attributes = Attributes(0x0F);
    let mut device = Device::new(description, Profile::STRICT, vec![0; 4096]).unwrap();
    let mut memory = PhotonMemory::new();
    let mut send = |device: &mut Device<'_, Vec<u8>>, now, setup: SetupPacket| {
        let mut input = [0; 6];
        device.control(now, &mut memory, &setup.to_bytes(), &[], &mut input).map(|_| input[4])
    };
    send(&mut device, NOW, SetupPacket::dnload(0, 0, 0)).unwrap();
    assert_eq!(send(&mut device, NOW, SetupPacket::get_status(0)), Ok(7));
    let later = device.next_deadline().unwrap();
    assert_eq!(device.work(later), Some(Work::Leave { address: 0 }));
    device.work_done(later, Ok(())).unwrap();
    assert_eq!(send(&mut device, later, SetupPacket::get_status(0)), Ok(2));
    assert_eq!(device.work(later), None);
    assert_eq!(device.next_deadline(), None);
}

#[test]
fn standard_requests_enumerate_the_device_without_touching_the_dfu_state() {
    let mut bench = Bench::in_state(State::DnloadIdle);
    assert_eq!(bench.send(SetupPacket::get_descriptor(1, 0, 0, 64), &[]).unwrap().len(), 18);
    assert_eq!(bench.send(SetupPacket::get_descriptor(2, 0, 0, 4), &[]).unwrap(), hex!("09 02 2400"));
    assert_eq!(bench.send(SetupPacket::get_descriptor(2, 0, 0, 255), &[]).unwrap().len(), 36);
    assert_eq!(bench.send(SetupPacket::get_descriptor(3, 7, 0x0409, 1), &[]).unwrap(), hex!("44"));
    assert_eq!(bench.send(SetupPacket::get_descriptor(3, 8, 0x0409, 255), &[]), Err(Stall));
    let functional = bench.send(SetupPacket::from_bytes(hex!("81 06 0021 0000 0900")), &[]).unwrap();
    assert_eq!(functional, FunctionalDescriptor::PHOTON.to_bytes());
    assert_eq!(bench.send(SetupPacket::set_interface(0, 1), &[]), Ok(vec![]));
    assert_eq!(bench.send(SetupPacket::set_interface(0, 2), &[]), Err(Stall));
    assert_eq!(bench.send(SetupPacket::set_interface(1, 0), &[]), Err(Stall));
    assert_eq!(bench.send(SetupPacket::from_bytes(hex!("81 0A 0000 0000 0100")), &[]).unwrap(), [1]);
    assert_eq!(bench.send(SetupPacket::from_bytes(hex!("80 00 0000 0000 0200")), &[]).unwrap(), [1, 0]);
    assert_eq!(bench.send(SetupPacket::from_bytes(hex!("C0 50 0000 1E00 1000")), &[]), Err(Stall));
    assert_eq!(bench.device.state(), State::DnloadIdle);
    // dfu-core asks for GETSTATUS with wLength 4096.
    let long = SetupPacket { length: 4096, ..SetupPacket::get_status(0) };
    assert_eq!(bench.send(long, &[]).unwrap().len(), 6);
}

#[test]
fn impossible_descriptions_are_refused() {
    let photon = Description::photon("1");
    let error = DeviceError::BlockBufferTooSmall { needed: 4096, available: 4095 };
    assert_eq!(Device::new(photon, Profile::STRICT, vec![0; 4095]).err(), Some(error));
    let empty = Description { alternates: &[], ..photon };
    let error = DeviceError::Alternates { count: 0 };
    assert_eq!(Device::new(empty, Profile::STRICT, vec![0; 4096]).err(), Some(error));
    let broken = Description { alternates: &["@x/0x0/1*1Kg", "x"], ..photon };
    let error = Device::new(broken, Profile::STRICT, vec![0; 4096]).err();
    assert!(matches!(error, Some(DeviceError::Layout { alternate: 1, .. })));
}
