//! dfu-core 0.11 as host, our device.

use dfu_core::synchronous::DfuSync;
use dfu_peers::core_host::{Cable, Error, plug};
use dfu_peers::ram::{BASE, dfuse, plain};
use spark_dfu::State;
use spark_dfu::device::{Profile, Rules};

fn image(len: usize) -> Vec<u8> {
    (0..len).map(|i| (31 * i + 7).to_le_bytes()[0]).collect()
}

#[test]
fn dfuse_download_is_in_memory_byte_by_byte_and_the_device_leaves() {
    for profile in [Profile::STRICT, Profile::TOLERANT, Profile::PHOTON_0_5_3, Profile::PHOTON_2_3_1] {
        for len in [1, 1024, 10_000] {
            let plugged = plug(dfuse(1024), profile, BASE).unwrap();
            let mut host = DfuSync::new(Cable::open(&plugged).unwrap());
            let before = plugged.borrow().ram.bytes.clone();
            let image = image(len);
            host.override_address(BASE + 0x2000);
            let result = host.download_from_slice(&image).map(|left| left.is_some());
            if profile.rules == Rules::Stm32 {
                // The Photon leaves with dfuDNLOAD-IDLE, which dfu-core takes for a failure.
                let state = dfu_core::State::DfuDnloadIdle;
                let failure = matches!(
                    &result,
                    Err(Error::Core(dfu_core::Error::InvalidState { got, .. })) if *got == state
                );
                assert!(failure, "{len}: {result:?}");
            } else {
                assert!(matches!(result, Ok(true)), "{:?}, {len}: {result:?}", profile.rules);
            }
            let plugged = &mut *plugged.borrow_mut();
            assert_eq!(plugged.ram.bytes[0x2000..0x2000 + len], image, "{:?}, {len}", profile.rules);
            let erased = 0x2000 + len.div_ceil(1024) * 1024;
            assert!(plugged.ram.bytes[0x2000 + len..erased].iter().all(|byte| *byte == 0xFF));
            assert_eq!(plugged.ram.bytes[..0x2000], before[..0x2000]);
            assert_eq!(plugged.ram.bytes[erased..], before[erased..]);
            plugged.wait();
            assert!(plugged.ram.left, "{:?}, {len}: {}", profile.rules, plugged.state());
        }
    }
}

#[test]
fn plain_download_is_manifested() {
    for profile in [Profile::STRICT, Profile::TOLERANT] {
        for (attributes, len) in [(0x03, 5000), (0x07, 4096), (0x0B, 1)] {
            let plugged = plug(plain(1024, attributes), profile, 0).unwrap();
            let host = DfuSync::new(Cable::open(&plugged).unwrap());
            let image = image(len);
            let result = host.download_from_slice(&image).map(|left| left.is_some());
            // dfu-core resets the bus only of a device that is neither tolerant nor detaches.
            let stays = attributes & 0x0C != 0;
            assert_eq!(result.as_ref().ok(), Some(&stays), "{attributes:#x}: {result:?}");
            let plugged = &mut *plugged.borrow_mut();
            assert_eq!(plugged.ram.bytes[..len], image);
            assert_eq!(plugged.ram.manifested, [len as u64], "{attributes:#x}: {result:?}");
            plugged.wait();
            assert_eq!(plugged.ram.left, attributes & 4 == 0, "{attributes:#x}: {result:?}");
        }
    }
}

#[test]
fn a_device_that_is_in_an_error_is_cleared_first() {
    let plugged = plug(dfuse(1024), Profile::STRICT, BASE).unwrap();
    let host = |address| {
        let mut host = DfuSync::new(Cable::open(&plugged).unwrap());
        host.override_address(address);
        host
    };
    // Outside the map: dfu-core refuses to go there itself, or the device does.
    assert!(host(BASE - 4).download_from_slice(&[1; 8]).is_err());
    let _ = host(BASE).download_from_slice(&[2; 8]);
    assert_eq!(plugged.borrow().ram.bytes[..8], [2; 8]);
}

#[test]
fn dfu_1_0_is_unknown_to_it() {
    let mut description = plain(1024, 0x03);
    description.functional.dfu_version = 0x0100;
    let plugged = plug(description, Profile::STRICT, 0).unwrap();
    assert!(matches!(Cable::open(&plugged), Err(Error::Core(dfu_core::Error::UnknownProtocol))));
    assert_eq!(plugged.borrow().state(), State::Idle);
}
