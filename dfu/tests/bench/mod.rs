//! A small device of any description and profile, driven request by request.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "tests; every binary uses another part")]

use core::time::Duration;

use spark_dfu::{
    SetupPacket, State, Status, StatusReply,
    descriptor::{Attributes, Commands, Description, FunctionalDescriptor},
    device::{Device, Memory, Profile, Stall, Work},
};

/// Two memories: 768 bytes at 0x1000, the last 256 of them read-only, and 512 bytes at 0.
pub const ALTERNATES: &[&str] = &["@flash/0x1000/2*256 g,1*256 a", "@config/0x0/1*512 e"];
pub const TRANSFER: u16 = 64;

/// DfuSe with everything.
pub fn dfuse() -> Description<'static> {
    Description {
        alternates: ALTERNATES,
        functional: FunctionalDescriptor {
            attributes: Attributes(0x0B),
            transfer_size: TRANSFER,
            ..FunctionalDescriptor::PHOTON
        },
        commands: Commands::ALL,
        vendor_error: "read protection",
        ..Description::photon("1")
    }
}

/// Plain DFU 1.1, not manifestation tolerant, waits for resets.
pub fn plain() -> Description<'static> {
    with_attributes(
        Description {
            functional: FunctionalDescriptor {
                dfu_version: FunctionalDescriptor::VERSION_1_1,
                ..dfuse().functional
            },
            alternates: &["flash", "config"],
            ..dfuse()
        },
        0x03,
    )
}

pub fn with_attributes(description: Description<'static>, attributes: u8) -> Description<'static> {
    let functional = FunctionalDescriptor { attributes: Attributes(attributes), ..description.functional };
    Description { functional, ..description }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ram {
    pub memories: [Vec<u8>; 2],
    pub base: [u32; 2],
    pub protected: bool,
    /// A plain image has at least this many bytes.
    pub least: u64,
    pub log: Vec<String>,
    pub left: bool,
}

impl Ram {
    pub fn perform(&mut self, work: &Work<'_>) -> Result<(), Status> {
        self.log.push(format!("{work:?}"));
        match *work {
            Work::Program { alternate, address, data } => {
                let alternate = usize::from(alternate);
                let at = usize::try_from(address - self.base[alternate]).unwrap();
                let target = self.memories[alternate].get_mut(at..at + data.len());
                target.ok_or(Status::Address)?.copy_from_slice(data);
            }
            Work::Erase { alternate, address } => {
                let alternate = usize::from(alternate);
                let at = usize::try_from(address - self.base[alternate]).unwrap() & !0xFF;
                self.memories[alternate][at..at + 256].fill(0xFF);
            }
            Work::MassErase { alternate } => self.memories[usize::from(alternate)].fill(0xFF),
            Work::ReadUnprotect { .. } => {
                self.memories.iter_mut().for_each(|memory| memory.fill(0xFF));
                self.protected = false;
            }
            Work::Leave { .. } => self.left = true,
            _ => {}
        }
        Ok(())
    }
}

impl Memory for Ram {
    fn read(&mut self, alternate: u8, address: u32, out: &mut [u8]) -> usize {
        let alternate = usize::from(alternate);
        let at = usize::try_from(address - self.base[alternate]).unwrap();
        let from = self.memories[alternate].get(at..).unwrap_or_default();
        let len = from.len().min(out.len());
        out[..len].copy_from_slice(&from[..len]);
        len
    }

    fn estimate(&self, work: &Work<'_>) -> Duration {
        Duration::from_millis(if matches!(work, Work::Program { .. }) { 20 } else { 300 })
    }

    fn protected(&self, _: u8) -> bool {
        self.protected
    }

    fn complete(&self, _: u8, len: u64) -> bool {
        len >= self.least
    }
}

#[derive(Clone)]
pub struct Bench {
    pub device: Device<'static, Vec<u8>>,
    pub ram: Ram,
    pub now: Duration,
}

impl Bench {
    pub fn new(description: Description<'static>, profile: Profile) -> Self {
        let device = Device::new(description, profile, vec![0; usize::from(TRANSFER)]).unwrap();
        let base = if device.protocol() == spark_dfu::device::Protocol::Plain { 0 } else { 0x1000 };
        let fill = |len: usize| (0..len).map(|i| u8::try_from((31 * i + 7) & 255).unwrap()).collect();
        let ram = Ram {
            memories: [fill(768), fill(512)],
            base: [base, 0],
            protected: false,
            least: 0,
            log: Vec::new(),
            left: false,
        };
        Self { device, ram, now: Duration::from_secs(1) }
    }

    pub fn send(&mut self, setup: SetupPacket, output: &[u8]) -> Result<Vec<u8>, Stall> {
        let mut input = vec![0; 4096];
        let len = self.device.control(self.now, &mut self.ram, &setup.to_bytes(), output, &mut input)?;
        input.truncate(len);
        Ok(input)
    }

    pub fn dnload(&mut self, block: u16, data: &[u8]) -> Result<Vec<u8>, Stall> {
        self.send(SetupPacket::dnload(0, block, u16::try_from(data.len()).unwrap()), data)
    }

    pub fn upload(&mut self, block: u16, len: u16) -> Result<Vec<u8>, Stall> {
        self.send(SetupPacket::upload(0, block, len), &[])
    }

    pub fn request(&mut self, setup: SetupPacket) -> Result<Vec<u8>, Stall> {
        self.send(setup, &[])
    }

    pub fn reply(&mut self) -> StatusReply {
        StatusReply::parse(&self.send(SetupPacket::get_status(0), &[]).unwrap()).unwrap()
    }

    pub fn poll(&mut self) -> (State, Status) {
        let reply = self.reply();
        (reply.state, reply.status)
    }

    /// Does all work that is due.
    pub fn work(&mut self) {
        while let Some(work) = self.device.work(self.now) {
            let result = self.ram.perform(&work);
            let _ = self.device.work_done(self.now, result);
        }
    }

    /// DNLOAD and GETSTATUS until the block is done.
    pub fn whole_dnload(&mut self, block: u16, data: &[u8]) -> (State, Status) {
        self.dnload(block, data).unwrap();
        self.poll();
        self.work();
        self.poll()
    }

    pub fn state(&self) -> (State, Status) {
        (self.device.state(), self.device.status())
    }
}
