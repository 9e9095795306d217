//! Writes a device key into the DCT of a Photon and reads it back: the host machines of this crate against its device
//! machine, in memory. With a real Photon only `Bus` differs: it would call a USB stack.

use core::time::Duration;

use spark_dfu::{
    SetupPacket,
    descriptor::Description,
    device::{Device, Memory, Profile, Work},
    host::{
        Clock, Connect, ControlTransfer, Download, Element, EraseMode, Leave, Link, Plan, TransferFailure,
        WriteOptions, drive,
    },
    layout::MemoryLayout,
};

/// Offset of the TCP device key in the application part of the DCT.
const DEVICE_KEY: u32 = 34;

struct Dct([u8; 16384]);

impl Memory for Dct {
    fn read(&mut self, _alternate: u8, address: u32, out: &mut [u8]) -> usize {
        let from =
            usize::try_from(address).ok().and_then(|address| self.0.get(address..)).unwrap_or_default();
        let len = from.len().min(out.len());
        out[..len].copy_from_slice(&from[..len]);
        len
    }

    fn estimate(&self, _work: &Work<'_>) -> Duration {
        Duration::from_millis(500)
    }
}

/// A cable, a Photon and a clock.
struct Bus {
    device: Device<'static, [u8; 4096]>,
    dct: Dct,
    now: Duration,
}

impl Bus {
    fn transfer(
        &mut self,
        setup: SetupPacket,
        output: &[u8],
        input: &mut [u8],
    ) -> Result<usize, TransferFailure> {
        let answer = self.device.control(self.now, &mut self.dct, &setup.to_bytes(), output, input);
        let len = answer.map_err(|_| TransferFailure::Stalled)?;
        while let Some(work) = self.device.work(self.now) {
            if let Work::Program { address, data, .. } = work {
                let start = usize::try_from(address).unwrap_or(usize::MAX);
                self.dct.0[start..][..data.len()].copy_from_slice(data);
            }
            self.device.work_done(self.now, Ok(())).map_err(|_| TransferFailure::Stalled)?;
        }
        Ok(len)
    }
}

impl ControlTransfer for Bus {
    fn control_out(&mut self, setup: SetupPacket, data: &[u8]) -> Result<(), TransferFailure> {
        self.transfer(setup, data, &mut []).map(|_| ())
    }

    fn control_in(&mut self, setup: SetupPacket, buffer: &mut [u8]) -> Result<usize, TransferFailure> {
        self.transfer(setup, &[], buffer)
    }
}

impl Clock for Bus {
    fn now(&mut self) -> Duration {
        self.now
    }

    fn wait_until(&mut self, until: Duration) {
        self.now = self.now.max(until);
    }
}

fn main() -> Result<(), Box<dyn core::error::Error>> {
    let device =
        Device::new(Description::photon("33002c000447343339373536"), Profile::PHOTON_2_3_1, [0; 4096])?;
    let mut bus = Bus { device, dct: Dct([0xFF; 16384]), now: Duration::ZERO };
    let key: Vec<u8> = (0..=255_u8).cycle().take(610).collect();

    let layout = MemoryLayout::parse(Description::PHOTON_ALTERNATES[1].as_bytes())?;
    let options = WriteOptions { erase: EraseMode::None, verify: true, ..WriteOptions::DEFAULT };
    let plan = Plan::write(&layout, DEVICE_KEY, key.len(), options)?;
    let image = Element { address: DEVICE_KEY, data: &key };
    let mut buffer = [0; 4096];
    let mut show = |progress| println!("{progress:?}");

    bus.control_out(SetupPacket::set_interface(0, 1), &[])?;
    drive(&mut Connect::new(Link::PHOTON), &mut bus, &mut buffer, &mut show)?;
    drive(&mut Download::new(Link::PHOTON, &plan, image, [0; 4096])?, &mut bus, &mut buffer, &mut show)?;
    let mut leave = Leave::new(Link::PHOTON, Some(DEVICE_KEY));
    drive(&mut leave, &mut bus, &mut buffer, &mut show)?;
    println!("the key is in place; the device left: {:?}", leave.outcome());
    assert_eq!(bus.dct.0[34..][..610], key);
    Ok(())
}
