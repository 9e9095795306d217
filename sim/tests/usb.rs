//! The simulated bootloader in DFU mode, driven by the host machines of `spark-dfu`.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod common;

use common::{
    APPLICATION, BOOTLOADER, KEYS, PART1, PART2, application, configured, damage, fields, flash_at, part2,
    pattern, photon_with, system, whole,
};
use core::time::Duration;
use spark_dct::wiced::SECTOR_ADDRESSES;
use spark_dct::{App, Field};
use spark_dfu::descriptor::Description;
use spark_dfu::host::{
    Clock, Connect, ControlTransfer, Download, Element, EraseMode, HostError, Leave, LeaveOutcome, Link,
    Plan, PlanError, ReadPlan, TransferFailure, Upload, WriteOptions, drive,
};
use spark_dfu::layout::MemoryLayout;
use spark_dfu::{SetupPacket, State};
use spark_sim::usb::{CONFIGURATION, INTERNAL_FLASH, UsbPort};
use spark_sim::{Photon, PowerCut, Started};

const INTERFACE: u8 = 0;

fn layout(alternate: u8) -> MemoryLayout<'static> {
    MemoryLayout::parse(Description::PHOTON_ALTERNATES[usize::from(alternate)].as_bytes()).unwrap()
}

fn select(port: &mut UsbPort<'_>, alternate: u8) -> Result<(), HostError> {
    port.control_out(SetupPacket::set_interface(INTERFACE, alternate), &[]).unwrap();
    drive(&mut Connect::new(Link::PHOTON), port, &mut [0; 4096], |_| ())
}

fn read(port: &mut UsbPort<'_>, alternate: u8, address: u32, len: usize) -> Result<Vec<u8>, HostError> {
    let layout = layout(alternate);
    let plan = ReadPlan::new(&layout, address, len).unwrap();
    select(port, alternate)?;
    let mut data = vec![0; len];
    let mut upload = Upload::new(Link::PHOTON, &plan, &mut data).unwrap();
    drive(&mut upload, port, &mut [0; 4096], |_| ())?;
    Ok(data)
}

/// Writes by this layout, which need not be the device's own, and reads back.
fn write_by(
    layout: &MemoryLayout<'_>,
    port: &mut UsbPort<'_>,
    alternate: u8,
    address: u32,
    data: &[u8],
) -> Result<(), HostError> {
    let erase = if alternate == INTERNAL_FLASH { EraseMode::Pages } else { EraseMode::None };
    let options = WriteOptions { erase, verify: true, ..WriteOptions::DEFAULT };
    let plan = Plan::write(layout, address, data.len(), options).unwrap();
    select(port, alternate)?;
    let image = Element { address, data };
    let mut download = Download::new(Link::PHOTON, &plan, image, [0; 4096]).unwrap();
    drive(&mut download, port, &mut [0; 4096], |_| ())
}

fn write(port: &mut UsbPort<'_>, alternate: u8, address: u32, data: &[u8]) -> Result<(), HostError> {
    write_by(&layout(alternate), port, alternate, address, data)
}

fn offset(field: Field) -> u32 {
    u32::try_from(field.offset()).unwrap()
}

fn healthy(version: u16) -> Photon {
    configured(&whole(version), Some(&KEYS.device), Some(&KEYS.server))
}

#[test]
fn field_of_the_configuration_reads_back_and_its_neighbours_survive() {
    for version in [11, 108, 207, 1002, 1512, 2202] {
        let mut photon = healthy(version);
        let before = fields(&photon);
        let key = Field::DEVICE_PRIVATE_KEY;
        let new = pattern(612, version.into());
        let mut port = photon.dfu().unwrap();
        assert_eq!(read(&mut port, CONFIGURATION, offset(key), 612).unwrap(), KEYS.device.as_field());
        write(&mut port, CONFIGURATION, offset(key), &new).unwrap();
        assert_eq!(read(&mut port, CONFIGURATION, offset(key), 612).unwrap(), new);
        assert!(!port.is_gone());
        let mut expected = before;
        expected[key.offset()..key.offset() + 612].copy_from_slice(&new);
        assert!(fields(&photon) == expected, "{version}: a neighbour changed");
        assert_eq!(photon.power_on(), Started::Running, "{version}");
        assert!(fields(&photon) == expected, "{version}: not kept without power");
    }
}

#[test]
fn many_writes_of_one_field_keep_the_last() {
    for version in [108, 2202] {
        let mut photon = healthy(version);
        let before = fields(&photon);
        let mut port = photon.dfu().unwrap();
        for round in 0..20 {
            let code = pattern(6, round);
            write(&mut port, CONFIGURATION, offset(Field::DEVICE_CODE), &code).unwrap();
            assert_eq!(read(&mut port, CONFIGURATION, offset(Field::DEVICE_CODE), 6).unwrap(), code);
        }
        let mut expected = before;
        let at = Field::DEVICE_CODE.offset();
        expected[at..at + 6].copy_from_slice(&pattern(6, 19));
        assert!(fields(&photon) == expected, "{version}");
    }
}

#[test]
fn write_to_a_chip_without_configuration_makes_one() {
    for version in [108, 2202] {
        let mut photon = photon_with(&whole(version));
        write(&mut photon.dfu().unwrap(), CONFIGURATION, offset(Field::CLAIMED), b"1").unwrap();
        assert!(App::new(&photon.configuration()).unwrap().claimed(), "{version}");
    }
}

#[test]
fn flash_below_the_system_is_refused_and_unchanged() {
    let everything = MemoryLayout::parse(b"@Flash/0x08000000/04*016Kg,01*064Kg,07*128Kg").unwrap();
    for address in [BOOTLOADER, SECTOR_ADDRESSES[0], SECTOR_ADDRESSES[1], 0x0800_c000, 0x0801_0000] {
        let mut photon = healthy(2202);
        let before = photon.flash().contents().to_vec();
        let mut port = photon.dfu().unwrap();
        let refused = write_by(&everything, &mut port, INTERNAL_FLASH, address, &pattern(5000, 1));
        assert!(matches!(refused, Err(HostError::Refused { .. })), "{address:#x}: {refused:?}");
        assert!(!port.is_gone());
        read(&mut port, INTERNAL_FLASH, PART1, 100).unwrap();
        assert!(photon.flash().contents() == before, "{address:#x}: flash changed");
    }
}

#[test]
fn host_does_not_even_ask_for_the_bootloader() {
    let refused = Plan::write(&layout(INTERNAL_FLASH), BOOTLOADER, 4, WriteOptions::DEFAULT);
    assert_eq!(refused, Err(PlanError::NotWriteable { address: BOOTLOADER }));
}

#[test]
fn all_flash_can_be_read() {
    let mut photon = healthy(2202);
    let expected = photon.flash().contents().to_vec();
    let mut port = photon.dfu().unwrap();
    assert!(read(&mut port, INTERNAL_FLASH, BOOTLOADER, expected.len()).unwrap() == expected);
}

#[test]
fn module_written_over_usb_runs() {
    let mut photon = configured(&system(2202), None, None);
    assert_eq!(photon.power_on(), Started::SafeMode);
    let image = application(6, 2202);
    let mut port = photon.dfu().unwrap();
    write(&mut port, INTERNAL_FLASH, APPLICATION, &image).unwrap();
    assert_eq!(flash_at(&photon, APPLICATION, &image), image);
    assert_eq!(photon.start(), Started::Running);
}

#[test]
fn broken_system_part_2_takes_the_configuration_away_until_it_is_written_again() {
    for version in [207, 2202] {
        let mut photon = healthy(version);
        let before = fields(&photon);
        damage(&mut photon, PART2);
        assert_eq!(photon.power_on(), Started::DfuMode);
        let flash = photon.flash().contents().to_vec();

        let mut port = photon.dfu().unwrap();
        let failed = write(&mut port, CONFIGURATION, offset(Field::CLAIMED), b"0");
        assert!(matches!(failed, Err(HostError::Refused { .. })), "{version}: {failed:?}");
        assert!(!port.is_gone());
        assert!(photon.flash().contents() == flash, "{version}: flash changed");

        let mut port = photon.dfu().unwrap();
        let image = part2(version);
        write(&mut port, INTERNAL_FLASH, PART2, &image).unwrap();
        assert_eq!(photon.start(), Started::Running, "{version}");
        assert!(fields(&photon) == before, "{version}");
        write(&mut photon.dfu().unwrap(), CONFIGURATION, offset(Field::CLAIMED), b"0").unwrap();
        assert!(!App::new(&photon.configuration()).unwrap().claimed(), "{version}");
    }
}

#[test]
fn port_is_gone_after_leaving() {
    let mut photon = healthy(2202);
    for start in [None, Some(APPLICATION)] {
        let mut port = photon.dfu().unwrap();
        select(&mut port, INTERNAL_FLASH).unwrap();
        let mut leave = Leave::new(Link::PHOTON, start);
        drive(&mut leave, &mut port, &mut [0; 4096], |_| ()).unwrap();
        let outcome = leave.outcome().unwrap();
        let is_known = matches!(
            outcome,
            LeaveOutcome::Answered(State::DnloadIdle | State::Manifest) | LeaveOutcome::Disconnected
        );
        assert!(is_known, "{outcome:?}");
        // It answers first and goes a moment later.
        port.wait_until(port.elapsed() + Duration::from_secs(1));
        let setup = SetupPacket::set_interface(INTERFACE, 0);
        assert_eq!(port.control_out(setup, &[]), Err(TransferFailure::Disconnected));
        assert!(port.is_gone());
        assert_eq!(photon.start(), Started::Running);
    }
}

#[test]
fn power_cut_during_a_write_of_the_configuration_leaves_the_old_or_the_new_field() {
    for version in [207, 2202] {
        let healthy = healthy(version);
        let old = fields(&healthy);
        let key = Field::DEVICE_PRIVATE_KEY;
        let data = KEYS.other.as_field();
        let mut new = old.clone();
        new[key.offset()..key.offset() + data.len()].copy_from_slice(data);
        for torn in [false, true] {
            let mut outcomes = [0, 0];
            for after in 0.. {
                let mut photon = healthy.clone();
                photon.cut_power(PowerCut { after, torn });
                let mut port = photon.dfu().unwrap();
                if write(&mut port, CONFIGURATION, offset(key), data).is_ok() {
                    break;
                }
                assert!(port.is_gone(), "{version}, {after}, {torn}");
                let setup = SetupPacket::set_interface(INTERFACE, 0);
                assert_eq!(port.control_out(setup, &[]), Err(TransferFailure::Disconnected));
                assert_eq!(photon.power_on(), Started::Running, "{version}, {after}, {torn}");
                let found = fields(&photon);
                assert!(found == old || found == new, "{version}: neither after {after}, torn {torn}");
                outcomes[usize::from(found == new)] += 1;
            }
            assert!(outcomes[0] > 10, "{version}: {outcomes:?}");
        }
    }
}

#[test]
fn power_cut_during_a_write_of_the_flash_is_cured_by_writing_again() {
    let healthy = healthy(2202);
    let image = part2(2203);
    for torn in [false, true] {
        for after in 0.. {
            let mut photon = healthy.clone();
            photon.cut_power(PowerCut { after, torn });
            let mut port = photon.dfu().unwrap();
            if write(&mut port, INTERNAL_FLASH, PART2, &image).is_ok() {
                assert!(after > 1);
                break;
            }
            assert!(port.is_gone());
            photon.power_on();
            let mut port = photon.dfu().unwrap();
            write(&mut port, INTERNAL_FLASH, PART2, &image).unwrap();
            assert_eq!(flash_at(&photon, PART2, &image), image);
        }
    }
}
