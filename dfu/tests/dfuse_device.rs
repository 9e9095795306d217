//! DfuSe devices: optional commands, protection, overlapping maps, Microsoft's descriptors, the Core and nRF52840.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bench;

use bench::{Bench, dfuse};
use hex_literal::hex;
use spark_dfu::{
    SetupPacket, State, Status,
    descriptor::{Commands, Description},
    device::{Device, DeviceError, Profile, Stall, Work},
};

const OK: (State, Status) = (State::DnloadIdle, Status::Ok);

fn with_commands(commands: Commands) -> Bench {
    Bench::new(Description { commands, ..dfuse() }, Profile::STRICT)
}

#[test]
fn the_list_of_commands_is_what_the_description_supports() {
    assert_eq!(with_commands(Commands::ALL).upload(0, 64).unwrap(), hex!("00 21 41 92"));
    assert_eq!(with_commands(Commands::NONE).upload(0, 64).unwrap(), hex!("00 21 41"));
    assert_eq!(Bench::new(dfuse(), Profile::PHOTON_2_3_1).upload(0, 64).unwrap(), hex!("00 21 41"));
}

#[test]
fn mass_erase_and_read_unprotect_are_work_where_supported() {
    let mut bench = with_commands(Commands::ALL);
    bench.request(SetupPacket::set_interface(0, 1)).unwrap();
    assert_eq!(bench.whole_dnload(0, &[0x41]), OK);
    assert_eq!(bench.whole_dnload(0, &[0x92]), OK);
    assert_eq!(bench.ram.log, ["MassErase { alternate: 1 }", "ReadUnprotect { alternate: 1 }"]);
    for command in [0x41, 0x92] {
        let mut bench = with_commands(Commands::NONE);
        assert_eq!(bench.whole_dnload(0, &[command]), (State::Error, Status::StalledPacket));
        assert_eq!(bench.ram.log, [""; 0]);
    }
}

#[test]
fn read_protection_answers_err_vendor_with_a_text_until_it_is_taken_away() {
    let page = hex!("41 00100000");
    for attempt in 0..5 {
        let mut bench = with_commands(Commands::ALL);
        bench.ram.protected = true;
        assert_eq!(bench.whole_dnload(0, &hex!("21 00100000")), OK, "the pointer may be set");
        match attempt {
            0 => drop(bench.whole_dnload(0, &page)),
            1 => drop(bench.whole_dnload(0, &[0x41])),
            2 => drop(bench.whole_dnload(2, &[1])),
            3 => {
                bench.request(SetupPacket::abort(0)).unwrap();
                assert_eq!(bench.upload(2, 64), Err(Stall));
            }
            _ => {
                assert_eq!(bench.whole_dnload(0, &[0x92]), OK);
                assert_eq!(bench.whole_dnload(2, &[1]), OK);
                continue;
            }
        }
        let reply = bench.reply();
        assert_eq!((reply.state, reply.status, reply.string_index), (State::Error, Status::Vendor, 8));
        let text = bench.request(SetupPacket::get_descriptor(3, 8, 0x0409, 255)).unwrap();
        let mut utf8 = [0; 40];
        assert_eq!(spark_dfu::descriptor::decode_string(&text, &mut utf8), Ok("read protection"));
        assert_eq!(bench.ram.log, [""; 0]);
    }
}

#[test]
fn overlapping_segments_open_nothing_that_one_of_them_closes() {
    // Everything may be written by the first segment; the second protects 64 bytes in it.
    let description =
        Description { alternates: &["@x/0x1000/3*256 g/0x1140/1*64 a", "@y/0/1*1 g"], ..dfuse() };
    assert!(matches!(
        Device::new(description, Profile::STRICT, [0_u8; 64]).err(),
        Some(DeviceError::Layout { alternate: 1, .. })
    ));
    let description = Description { alternates: &["@x/0x1000/3*256 g/0x1140/1*64 a"], ..description };
    let at = |pointer: u32, data: &[u8]| {
        let mut bench = Bench::new(description, Profile::STRICT);
        let [a, b, c, d] = pointer.to_le_bytes();
        bench.whole_dnload(0, &[0x21, a, b, c, d]);
        bench.whole_dnload(2, data)
    };
    assert_eq!(at(0x1100, &[0; 64]), OK);
    assert_eq!(at(0x1101, &[0; 64]), (State::Error, Status::Write), "the last byte is protected");
    assert_eq!(at(0x1140, &[0; 1]), (State::Error, Status::Write));
    assert_eq!(at(0x1180, &[0; 64]), OK);
    let erase = |address: [u8; 2]| {
        let mut bench = Bench::new(description, Profile::STRICT);
        bench.whole_dnload(0, &[0x41, address[0], address[1], 0, 0])
    };
    assert_eq!(erase([0x00, 0x11]), (State::Error, Status::Erase), "the page holds protected bytes");
    assert_eq!(erase([0x00, 0x12]), OK);
}

#[test]
fn windows_finds_winusb() {
    let mut bench = Bench::new(dfuse(), Profile::PHOTON_2_3_1);
    let os = bench.request(SetupPacket::get_descriptor(3, 0xEE, 0, 18)).unwrap();
    assert_eq!(os, hex!("12 03 4D00 5300 4600 5400 3100 3000 3000 EE 00"));
    let ask = |length| SetupPacket { request_type: 0xC0, request: 0xEE, value: 0, index: 4, length };
    assert_eq!(bench.request(ask(16)).unwrap(), hex!("28000000 0001 0400 01 00000000000000"));
    assert_eq!(bench.request(ask(40)).unwrap()[16..26], hex!("00 01 57494E5553420000"));
    for wrong in [
        SetupPacket { index: 5, ..ask(40) },
        SetupPacket { request: 0xED, ..ask(40) },
        SetupPacket { request_type: 0x40, ..ask(0) },
    ] {
        assert_eq!(bench.request(wrong), Err(Stall));
    }
    let mut without =
        Bench::new(Description { microsoft_vendor_code: None, ..dfuse() }, Profile::PHOTON_0_5_3);
    assert_eq!(without.request(SetupPacket::get_descriptor(3, 0xEE, 0, 18)), Err(Stall));
    assert_eq!(without.request(ask(40)), Err(Stall));
}

#[test]
fn errors_of_the_device_itself_are_shown_until_cleared() {
    for status in [Status::Firmware, Status::PowerOnReset, Status::Vendor] {
        let mut bench = Bench::new(dfuse(), Profile::STRICT);
        bench.device.report_error(status);
        assert_eq!(bench.poll(), (State::Error, status));
        bench.request(SetupPacket::clr_status(0)).unwrap();
        assert_eq!(bench.poll(), (State::Idle, Status::Ok));
    }
}

#[test]
fn the_core_chooses_memory_by_address_and_reports_no_failures() {
    let description = Description { functional: dfuse().functional, ..Description::core("1") };
    let mut bench = Bench::new(description, Profile::CORE);
    assert_eq!(bench.device.pointer(), 0x0800_5000);
    for setting in 0..=3 {
        assert_eq!(bench.request(SetupPacket::set_interface(0, setting)), Ok(vec![]));
    }
    assert_eq!(bench.request(SetupPacket::set_interface(0, 4)), Err(Stall));
    bench.request(SetupPacket::set_interface(0, 1)).unwrap();
    let fails = |bench: &mut Bench, block: u16, data: &[u8]| {
        bench.dnload(block, data).unwrap();
        let announced = bench.reply();
        assert_eq!((announced.state, announced.status), (State::DnBusy, Status::Ok));
        let work = bench.device.work(bench.now).map(|work| format!("{work:?}"));
        bench.device.work_done(bench.now, Err(Status::Erase)).unwrap();
        assert_eq!(bench.poll(), OK);
        (work, announced.poll_timeout.as_millis())
    };
    let internal = "Erase { alternate: 0, address: 134258688 }".to_owned();
    assert_eq!(fails(&mut bench, 0, &hex!("41 00A00008")).0, Some(internal));
    fails(&mut bench, 0, &hex!("21 00200000"));
    let external = "Program { alternate: 1, address: 8192, len: 1 }".to_owned();
    assert_eq!(fails(&mut bench, 2, &[1]), (Some(external), 30), "the swapped constants of the SPI flash");
    assert_eq!(fails(&mut bench, 0, &hex!("41 00200000")).1, 20);
    // Unknown commands and addresses of no memory do nothing.
    assert_eq!(fails(&mut bench, 0, &[0x7F]).0, None);
    assert_eq!(fails(&mut bench, 0, &hex!("41 00000090")).0, None);
}

#[test]
fn the_nrf52840_has_codes_of_its_own() {
    let cases: [(u16, &[u8], Status); 6] = [
        (0, &[0x41], Status::Target),
        (0, &[0x92], Status::Unknown),
        (0, &[0x7F], Status::StalledPacket),
        (1, &[0], Status::Target),
        (2, &[0; 65], Status::Unknown),
        (2, &[1], Status::Unknown),
    ];
    for (block, data, status) in cases {
        let mut bench = Bench::new(dfuse(), Profile::NRF52840);
        bench.dnload(0, &hex!("21 00100000")).unwrap();
        assert_eq!(bench.reply().state, State::DnBusy);
        assert_eq!(bench.device.state(), State::DnloadIdle, "without another GETSTATUS");
        if bench.dnload(block, data).is_ok() {
            let reply = bench.reply();
            assert!(reply.poll_timeout.is_zero());
            if bench.device.work(bench.now).is_some() {
                bench.device.work_done(bench.now, Err(Status::Program)).unwrap();
            }
        }
        assert_eq!(bench.poll(), (State::Error, status), "block {block}, {data:?}");
    }
    let mut bench = Bench::new(dfuse(), Profile::NRF52840);
    assert_eq!(bench.upload(0, 3).unwrap().len(), 3);
    assert_eq!(bench.device.state(), State::Idle);
}

#[test]
fn the_nrf52840_leaves_by_dfu_manifest_and_then_wait_reset() {
    let mut bench = Bench::new(dfuse(), Profile::NRF52840);
    bench.dnload(2, &[]).unwrap();
    assert_eq!((bench.poll().0, bench.poll().0), (State::Manifest, State::ManifestWaitReset));
    let at = bench.device.next_deadline().unwrap();
    assert_eq!(at - bench.now, core::time::Duration::from_millis(500));
    assert!(matches!(bench.device.work(at), Some(Work::Leave { .. })));
}
