//! Our plain host against our plain device under a virtual clock, from the application to the new firmware, with a fault at
//! every transfer.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bench;

use core::time::Duration;

use bench::{Bench, plain, with_attributes};
use spark_dfu::{
    SetupPacket, State,
    descriptor::FunctionalDescriptor,
    device::{Profile, Runtime, RuntimeWork},
    host::{
        Clock, Connect, ControlTransfer, Detach, DetachOutcome, HostError, Link, Machine, TransferFailure,
        drive, plain,
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The request never reaches the device.
    Stall,
    /// Neither does this one, and the host hears nothing.
    Timeout,
    /// The request reaches the device, the host hears nothing.
    LostReply,
    /// The cable is out from now on.
    Disconnect,
}

/// A cable with a device that is first its application and then in DFU mode.
struct Bus {
    runtime: Option<Runtime<'static>>,
    bench: Bench,
    fault: Option<(usize, Fault)>,
    transfers: usize,
    gone: bool,
}

impl Bus {
    fn new(attributes: u8, profile: Profile) -> Self {
        let description = with_attributes(plain(), attributes);
        let (runtime, bench) = (Some(Runtime::new(description)), Bench::new(description, profile));
        Self { runtime, bench, fault: None, transfers: 0, gone: false }
    }

    /// What the device does by itself.
    fn settle(&mut self) {
        if let Some(runtime) = &mut self.runtime {
            if matches!(runtime.work(), Some(RuntimeWork::Detach | RuntimeWork::EnterDfuMode)) {
                self.runtime = None;
            }
        } else {
            self.bench.work();
        }
    }

    fn transfer(
        &mut self,
        setup: SetupPacket,
        output: &[u8],
        input: &mut [u8],
    ) -> Result<usize, TransferFailure> {
        self.transfers += 1;
        assert!(self.transfers < 500, "the host never ends");
        let fault = self.fault.filter(|(at, _)| *at == self.transfers).map(|(_, fault)| fault);
        match fault {
            Some(Fault::Stall) => return Err(TransferFailure::Stalled),
            Some(Fault::Timeout) => return Err(TransferFailure::TimedOut),
            Some(Fault::Disconnect) => self.gone = true,
            Some(Fault::LostReply) | None => {}
        }
        self.settle();
        if self.gone || self.bench.ram.left {
            return Err(TransferFailure::Disconnected);
        }
        let now = self.bench.now;
        let answer = match &mut self.runtime {
            Some(runtime) => runtime.control(now, &setup.to_bytes(), input),
            None => self.bench.device.control(now, &mut self.bench.ram, &setup.to_bytes(), output, input),
        };
        if fault == Some(Fault::LostReply) {
            return Err(TransferFailure::TimedOut);
        }
        answer.map_err(|_| TransferFailure::Stalled)
    }
}

impl ControlTransfer for Bus {
    fn control_out(&mut self, setup: SetupPacket, data: &[u8]) -> Result<(), TransferFailure> {
        self.transfer(setup, data, &mut []).map(|_| ())
    }

    fn control_in(&mut self, setup: SetupPacket, buffer: &mut [u8]) -> Result<usize, TransferFailure> {
        self.transfer(setup, &[], buffer)
    }

    fn reset_bus(&mut self) -> Result<(), TransferFailure> {
        match &mut self.runtime {
            Some(runtime) => runtime.bus_reset(self.bench.now),
            None => self.bench.device.bus_reset(),
        }
        self.settle();
        Ok(())
    }

    fn find_again(&mut self, _: Duration) -> Result<bool, TransferFailure> {
        self.settle();
        Ok(self.runtime.is_none() && !self.gone)
    }
}

impl Clock for Bus {
    fn now(&mut self) -> Duration {
        self.bench.now
    }

    fn wait_until(&mut self, until: Duration) {
        self.bench.now = self.bench.now.max(until);
        self.settle();
    }
}

fn image() -> Vec<u8> {
    (0..300_u16).map(|at| (at * 7).to_le_bytes()[0] ^ 0x35).collect()
}

fn link(attributes: u8) -> Link {
    let description = with_attributes(plain(), attributes);
    Link::new(0, &FunctionalDescriptor { ..description.functional })
}

fn run(bus: &mut Bus, machine: &mut dyn Machine) -> Result<(), HostError> {
    drive(machine, bus, &mut [0; 64], |_| ())
}

/// Out of the application, an image, and whatever the device does with it.
fn update(bus: &mut Bus, attributes: u8) -> Result<(DetachOutcome, plain::Manifested), HostError> {
    let (link, image) = (link(attributes), image());
    let mut detach = Detach::new(link);
    run(bus, &mut detach)?;
    run(bus, &mut Connect::new(link))?;
    let mut download = plain::Download::new(link, &image[..], image.len(), [0; 64]).unwrap();
    run(bus, &mut download)?;
    Ok((detach.outcome().unwrap(), download.outcome().unwrap()))
}

/// Manifestation tolerant or not, detaching by itself or not.
const ATTRIBUTES: [u8; 4] = [0x03, 0x07, 0x0B, 0x0F];
const PROFILES: [Profile; 2] = [Profile::STRICT, Profile::TOLERANT];

#[test]
fn a_device_is_updated_from_its_application_whatever_it_tolerates() {
    for attributes in ATTRIBUTES {
        for profile in PROFILES {
            let mut bus = Bus::new(attributes, profile);
            let (detached, manifested) = update(&mut bus, attributes).unwrap();
            assert_eq!(detached, DetachOutcome::Detached, "{attributes:#x}");
            let tolerant = attributes & 4 != 0;
            assert_eq!(manifested == plain::Manifested::Idle, tolerant, "{attributes:#x}: {manifested:?}");
            assert_eq!(bus.bench.ram.memories[0][..300], image());
            assert_eq!(bus.bench.ram.left, !tolerant, "{attributes:#x}");
            let mut read = vec![0; 2000];
            if tolerant {
                let mut upload = plain::Upload::new(link(attributes), &mut read).unwrap();
                run(&mut bus, &mut upload).unwrap();
                assert!(upload.received() >= 300);
                assert_eq!(read[..300], image());
                assert_eq!(bus.bench.device.state(), State::Idle);
            }
        }
    }
}

#[test]
fn every_fault_at_every_transfer_ends_in_success_or_a_typed_error() {
    for attributes in ATTRIBUTES {
        for profile in PROFILES {
            let mut clean = Bus::new(attributes, profile);
            update(&mut clean, attributes).unwrap();
            for fault in [Fault::Stall, Fault::Timeout, Fault::LostReply, Fault::Disconnect] {
                for at in 1..=clean.transfers {
                    let mut bus = Bus::new(attributes, profile);
                    bus.fault = Some((at, fault));
                    let outcome = update(&mut bus, attributes);
                    let there = bus.bench.ram.memories[0][..300] == image();
                    assert!(
                        outcome.is_err() || there,
                        "{attributes:#x}, {fault:?} at {at}: success without the image"
                    );
                    // After a failure the whole way can be gone again, unless the device is away.
                    if outcome.is_err() && !bus.gone && !bus.bench.ram.left {
                        bus.reset_bus().unwrap();
                        let again = update(&mut bus, attributes);
                        let done = bus.bench.ram.memories[0][..300] == image() || bus.bench.ram.left;
                        assert!(
                            again.is_ok() && done || bus.bench.ram.left,
                            "{attributes:#x}, {fault:?} at {at}: {outcome:?}, then {again:?}"
                        );
                    }
                }
            }
        }
    }
}
