//! Our host against our device under a virtual clock: whole jobs, and every fault at every transfer.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use core::time::Duration;

use common::{Bus, FLASH_BASE, Fault, OneStep, PhotonMemory, pattern};
use proptest::prelude::*;
use spark_dfu::{
    State,
    descriptor::{Description, FunctionalDescriptor},
    device::{Device, Profile},
    host::{
        Connect, Download, Element, EraseMode, HostError, Leave, LeaveOutcome, Link, Machine, Plan, Progress,
        ReadPlan, Upload, Verify, WriteOptions, drive,
    },
    layout::MemoryLayout,
};

/// Quirks that suit every profile.
const LINK: Link = Link::new(0, &FunctionalDescriptor::PHOTON);

const PROFILES: [Profile; 3] = [Profile::STRICT, Profile::PHOTON_0_5_3, Profile::PHOTON_2_3_1];

fn bus(profile: Profile) -> Bus<'static> {
    Bus::new(Device::new(Description::photon("1"), profile, vec![0; 4096]).unwrap())
}

fn layout(alternate: usize) -> MemoryLayout<'static> {
    MemoryLayout::parse(Description::PHOTON_ALTERNATES[alternate].as_bytes()).unwrap()
}

fn run(bus: &mut Bus<'_>, machine: &mut dyn Machine) -> Result<Vec<Progress>, HostError> {
    let mut progress = Vec::new();
    drive(machine, bus, &mut [0; 4096], |step| progress.push(step))?;
    Ok(progress)
}

/// Connect, write with read-back, verify, leave.
fn job(bus: &mut Bus<'_>, alternate: u8, address: u32, image: &[u8]) -> Result<LeaveOutcome, HostError> {
    let layout = layout(usize::from(alternate));
    let erase = if alternate == 0 { EraseMode::Pages } else { EraseMode::None };
    let options = WriteOptions { erase, ..WriteOptions::DEFAULT };
    let plan = Plan::write(&layout, address, image.len(), options).unwrap();
    let element = Element { address, data: image };
    run(bus, &mut Connect::new(LINK))?;
    run(bus, &mut Download::new(LINK, &plan, element, [0; 4096]).unwrap())?;
    let plan = ReadPlan::new(&layout, address, image.len()).unwrap();
    run(bus, &mut Verify::new(LINK, &plan, image).unwrap())?;
    let mut read = vec![0; image.len()];
    run(bus, &mut Upload::new(LINK, &plan, &mut read).unwrap())?;
    assert_eq!(read, image);
    let mut leave = Leave::new(LINK, Some(address));
    run(bus, &mut leave)?;
    Ok(leave.outcome().unwrap())
}

#[test]
fn a_whole_job_succeeds_with_every_profile_and_work_time() {
    for profile in PROFILES {
        for work_time in
            [None, Some(Duration::ZERO), Some(Duration::from_millis(15)), Some(Duration::from_secs(3))]
        {
            let image = pattern(31, 7, 140_000);
            let mut bus = bus(profile);
            bus.work_time = work_time;
            let outcome = job(&mut bus, 0, 0x0802_0000, &image);
            let answer = if profile == Profile::STRICT { State::Manifest } else { State::DnloadIdle };
            assert_eq!(outcome, Ok(LeaveOutcome::Answered(answer)));
            assert_eq!(bus.memory.erased, [0x0802_0000, 0x0804_0000]);
            let untouched = PhotonMemory::new();
            assert_eq!(bus.memory.flash[..0x2_0000], untouched.flash[..0x2_0000]);
            assert_eq!(bus.memory.flash[0x2_0000..][..140_000], image);
            assert_eq!(bus.memory.flash[0x6_0000..], untouched.flash[0x6_0000..]);
            assert_eq!(bus.memory.dct, untouched.dct);
            let end = bus.now + Duration::from_secs(1);
            spark_dfu::host::Clock::wait_until(&mut bus, end);
            assert_eq!(bus.memory.left, Some(0x0802_0000));
        }
    }
}

#[test]
fn a_device_key_lands_in_the_dct_and_its_neighbours_survive() {
    for profile in PROFILES {
        let key = pattern(31, 7, 610);
        let mut bus = bus(profile);
        bus.select(1);
        job(&mut bus, 1, 34, &key).unwrap();
        let mut expected = PhotonMemory::new().dct;
        expected[34..][..610].copy_from_slice(&key);
        assert_eq!(bus.memory.dct, expected);
        assert!(bus.memory.erased.is_empty());
        assert!(bus.memory.dct_erased.is_empty(), "the plan has no erases");
    }
}

#[test]
fn verify_names_the_first_address_that_differs() {
    let mut bus = bus(Profile::PHOTON_2_3_1);
    let mut image = bus.memory.flash[0xA_0000..][..10_000].to_vec();
    image[5000] ^= 1;
    image[9000] ^= 1;
    let plan = ReadPlan::new(&layout(0), 0x080A_0000, image.len()).unwrap();
    let result = run(&mut bus, &mut Verify::new(LINK, &plan, &image).unwrap());
    let (address, expected) = (0x080A_0000 + 5000, image[5000]);
    assert_eq!(result, Err(HostError::Mismatch { address, expected, found: expected ^ 1 }));
    assert_eq!(run(&mut bus, &mut Connect::new(LINK)), Ok(vec![]));
    assert_eq!(bus.device.state(), State::Idle);
}

#[test]
fn writing_over_a_page_that_was_not_erased_fails_with_every_profile() {
    for profile in PROFILES {
        let mut bus = bus(profile);
        let image = [0xFF; 8];
        let options = WriteOptions { erase: EraseMode::None, ..WriteOptions::DEFAULT };
        let layout = layout(0);
        let plan = Plan::write(&layout, 0x080A_0000, image.len(), options).unwrap();
        let element = Element { address: 0x080A_0000, data: &image };
        let result = run(&mut bus, &mut Download::new(LINK, &plan, element, [0; 4096]).unwrap());
        assert!(
            matches!(result, Err(HostError::Refused { place, .. }) if place.address == 0x080A_0000),
            "{result:?}"
        );
    }
}

#[test]
fn long_uploads_set_the_pointer_anew_before_block_numbers_wrap() {
    let mut description = Description::photon("1");
    description.functional.transfer_size = 8;
    let device = Device::new(description, Profile::STRICT, vec![0; 8]).unwrap();
    let mut bus = Bus::new(device);
    bus.transfers = 0;
    let len = 65534 * 8 + 20;
    let plan = ReadPlan::new(&layout(0), FLASH_BASE + 0x2_0000, len).unwrap();
    let mut read = vec![0; len];
    let mut upload = Upload::new(Link { transfer_size: 8, ..LINK }, &plan, &mut read).unwrap();
    loop {
        // The bus bounds the number of transfers; this job needs more than most.
        bus.transfers = 0;
        bus.log.truncate(0);
        match upload.action() {
            spark_dfu::host::Action::Finished => break,
            spark_dfu::host::Action::In { setup } if setup.request == 2 => {
                assert!(setup.value >= 2);
                let mut frame = vec![0; usize::from(setup.length)];
                let len = spark_dfu::host::ControlTransfer::control_in(&mut bus, setup, &mut frame).unwrap();
                upload.handle(Duration::ZERO, spark_dfu::host::Input::InDone(&frame[..len])).unwrap();
            }
            _ => {
                let mut one = OneStep(&mut upload, false);
                drive(&mut one, &mut bus, &mut [0; 8], |_| {}).unwrap();
            }
        }
    }
    assert_eq!(read, bus.memory.flash[0x2_0000..][..len]);
}

#[test]
fn every_fault_at_every_transfer_ends_in_success_or_a_typed_error() {
    let image = pattern(31, 7, 9000);
    for profile in PROFILES {
        let mut clean = bus(profile);
        clean.work_time = Some(Duration::from_millis(30));
        job(&mut clean, 0, 0x080A_0000, &image).unwrap();
        for fault in [Fault::Stall, Fault::LostReply, Fault::Timeout, Fault::Reset, Fault::Disconnect] {
            for at in 1..=clean.transfers {
                let mut bus = bus(profile);
                bus.work_time = Some(Duration::from_millis(30));
                bus.faults = vec![(at, fault)];
                let outcome = job(&mut bus, 0, 0x080A_0000, &image);
                if outcome.is_ok() {
                    let written = &bus.memory.flash[0xA_0000..][..9000];
                    assert_eq!(written, image, "{fault:?} at {at}: success means that the image is there");
                }
                // After a failure a new job succeeds, unless the device is gone or on its way out.
                let leaving = bus.device.next_deadline().is_some();
                if outcome.is_err() && !bus.gone && bus.memory.left.is_none() && !leaving {
                    let again = job(&mut bus, 0, 0x080A_0000, &image);
                    // GETSTATUS after a lost zero-length DNLOAD makes the device leave, as it must.
                    let left = bus.device.next_deadline().is_some() || bus.memory.left.is_some();
                    assert!(again.is_ok() || left, "{fault:?} at {at}: {outcome:?}, then {again:?}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_mix_of_faults_ends(
        faults in proptest::collection::vec(
            (1_usize..60, prop_oneof![
                Just(Fault::Stall), Just(Fault::LostReply), Just(Fault::Timeout), Just(Fault::Reset),
            ]),
            0..6,
        ),
        profile in 0_usize..3,
        work_ms in 0_u64..2000,
    ) {
        let image = pattern(31, 7, 9000);
        let mut bus = bus(PROFILES[profile]);
        bus.work_time = Some(Duration::from_millis(work_ms));
        bus.faults = faults;
        for _ in 0..4 {
            if job(&mut bus, 0, 0x080A_0000, &image).is_ok() {
                prop_assert_eq!(&bus.memory.flash[0xA_0000..][..9000], &image[..]);
                break;
            }
        }
    }
}
