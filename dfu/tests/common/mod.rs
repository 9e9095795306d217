//! A Photon's memory and a bus for tests.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "tests; every binary uses another part")]

use core::time::Duration;

use spark_dfu::{
    SetupPacket, Status,
    device::{Device, Memory, Stall, Work},
    host::{Action, Clock, ControlTransfer, HostError, Input, Machine, Progress, TransferFailure},
};

pub const FLASH_BASE: u32 = 0x0800_0000;

pub fn crc32(bytes: &[u8]) -> u32 {
    crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(bytes)
}

/// Position-dependent test data, by the rule of the vectors: byte i = (a*i+b) mod 256.
pub fn pattern(a: usize, b: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((a * i + b) & 255).unwrap()).collect()
}

/// 1 MiB of NOR flash on alternate 0 and 16 KiB of DCT on alternate 1, filled by the rule of the vectors.
#[derive(Clone, PartialEq, Eq)]
pub struct PhotonMemory {
    pub flash: Vec<u8>,
    pub dct: Vec<u8>,
    pub erased: Vec<u32>,
    pub dct_erased: Vec<u32>,
    pub left: Option<u32>,
}

impl PhotonMemory {
    pub fn new() -> Self {
        static FRESH: std::sync::OnceLock<PhotonMemory> = std::sync::OnceLock::new();
        FRESH.get_or_init(Self::fill).clone()
    }

    fn fill() -> Self {
        let low = |value: usize| u8::try_from(value & 255).unwrap();
        Self {
            flash: (0..1 << 20).map(|i: usize| 0xA5 ^ low(i) ^ low(i >> 8)).collect(),
            dct: (0..16384).map(|i: usize| low(7 * i + 3)).collect(),
            erased: Vec::new(),
            dct_erased: Vec::new(),
            left: None,
        }
    }

    pub fn perform(&mut self, work: &Work<'_>) -> Result<(), Status> {
        match *work {
            Work::Erase { alternate: 1, address } => {
                self.dct_erased.push(address); // only noted: the DCT is written without erasing
                Ok(())
            }
            Work::Erase { alternate: 0, address } => {
                let offset =
                    usize::try_from(address.checked_sub(FLASH_BASE).ok_or(Status::Address)?).unwrap();
                if !(0x2_0000..1 << 20).contains(&offset) {
                    return Err(Status::Erase);
                }
                self.erased.push(address);
                self.flash[offset & !0x1_FFFF..][..0x2_0000].fill(0xFF);
                Ok(())
            }
            Work::Program { alternate: 1, address, data } => {
                let offset = usize::try_from(address).unwrap();
                self.dct.get_mut(offset..offset + data.len()).ok_or(Status::Address)?.copy_from_slice(data);
                Ok(())
            }
            Work::Program { alternate: 0, address, data } => {
                let offset =
                    usize::try_from(address.checked_sub(FLASH_BASE).ok_or(Status::Address)?).unwrap();
                if offset < 0x2_0000 {
                    return Err(Status::Write);
                }
                let cells = self.flash.get_mut(offset..offset + data.len()).ok_or(Status::Address)?;
                for (cell, byte) in cells.iter_mut().zip(data) {
                    *cell &= byte; // NOR flash: programming only clears bits
                }
                if cells == data { Ok(()) } else { Err(Status::Verify) }
            }
            Work::Leave { address } => {
                self.left = Some(address);
                Ok(())
            }
            _ => Err(Status::Unknown),
        }
    }
}

impl Memory for PhotonMemory {
    fn read(&mut self, alternate: u8, address: u32, out: &mut [u8]) -> usize {
        let (memory, base) = if alternate == 0 { (&self.flash, FLASH_BASE) } else { (&self.dct, 0) };
        let Some(offset) = address.checked_sub(base) else { return 0 };
        let from = memory.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let len = from.len().min(out.len());
        out[..len].copy_from_slice(&from[..len]);
        len
    }

    fn estimate(&self, work: &Work<'_>) -> Duration {
        match work {
            Work::Erase { .. } | Work::MassErase { .. } => Duration::from_millis(800),
            _ => Duration::from_millis(20),
        }
    }
}

/// Does all due work at once; the firmware's stall is handed through.
pub fn work_off<B: AsRef<[u8]> + AsMut<[u8]>>(
    device: &mut Device<'_, B>,
    memory: &mut PhotonMemory,
    now: Duration,
) -> Result<(), Stall> {
    while let Some(work) = device.work(now) {
        let result = memory.perform(&work);
        device.work_done(now, result)?;
    }
    Ok(())
}

/// What goes wrong on the bus at one transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request never reaches the device; the host sees a stall.
    Stall,
    /// The request reaches the device, the host sees nothing.
    LostReply,
    /// The request never reaches the device, the host sees nothing.
    Timeout,
    /// A bus reset before the request.
    Reset,
    /// The device is gone from now on.
    Disconnect,
}

/// Host controller, device and clock in one; time moves only when the host waits, and when work is done.
pub struct Bus<'d> {
    pub device: Device<'d, Vec<u8>>,
    pub memory: PhotonMemory,
    pub now: Duration,
    /// How long work takes; `None` does it before the GETSTATUS transfer ends, as Particle's firmware does.
    pub work_time: Option<Duration>,
    pub faults: Vec<(usize, Fault)>,
    pub transfers: usize,
    pub gone: bool,
    pub log: Vec<SetupPacket>,
    /// When the work that was begun ends, and how. The flash goes on with it whatever the bus does.
    begun: Option<(Duration, Result<(), Status>)>,
}

impl<'d> Bus<'d> {
    pub fn new(device: Device<'d, Vec<u8>>) -> Self {
        Self {
            device,
            memory: PhotonMemory::new(),
            now: Duration::ZERO,
            work_time: None,
            faults: Vec::new(),
            transfers: 0,
            gone: false,
            log: Vec::new(),
            begun: None,
        }
    }

    pub fn select(&mut self, alternate: u8) {
        self.control_out(SetupPacket::set_interface(0, alternate), &[]).unwrap();
    }

    fn transfer(
        &mut self,
        setup: SetupPacket,
        output: &[u8],
        input: &mut [u8],
    ) -> Result<usize, TransferFailure> {
        self.transfers += 1;
        assert!(self.transfers < 20_000, "the host never ends");
        self.log.push(setup);
        let number = self.transfers;
        let fault = self.faults.iter().find(|(at, _)| *at == number).map(|(_, fault)| *fault);
        match fault {
            Some(Fault::Stall) => return Err(TransferFailure::Stalled),
            Some(Fault::Timeout) => return Err(TransferFailure::TimedOut),
            Some(Fault::Reset) => self.device.bus_reset(),
            Some(Fault::Disconnect) => self.gone = true,
            _ => {}
        }
        self.settle();
        if self.gone || self.memory.left.is_some() {
            return Err(TransferFailure::Disconnected);
        }
        let bytes = setup.to_bytes();
        let result = self.device.control(self.now, &mut self.memory, &bytes, output, input);
        let result = result.and_then(|len| match self.work_time {
            None => work_off(&mut self.device, &mut self.memory, self.now).map(|()| len),
            Some(time) => {
                if self.begun.is_none()
                    && let Some(work) = self.device.work(self.now)
                {
                    self.begun = Some((self.now + time, self.memory.perform(&work)));
                }
                Ok(len)
            }
        });
        if fault == Some(Fault::LostReply) {
            return Err(TransferFailure::TimedOut);
        }
        result.map_err(|Stall| TransferFailure::Stalled)
    }

    /// Ends work whose time has come, and does what is due at a deadline.
    fn settle(&mut self) {
        if let Some((until, result)) = self.begun
            && until <= self.now
        {
            self.begun = None;
            let _ = self.device.work_done(self.now, result);
        }
        if self.begun.is_none() && self.device.next_deadline().is_some_and(|at| at <= self.now) {
            let _ = work_off(&mut self.device, &mut self.memory, self.now);
        }
    }
}

impl ControlTransfer for Bus<'_> {
    fn control_out(&mut self, setup: SetupPacket, data: &[u8]) -> Result<(), TransferFailure> {
        self.transfer(setup, data, &mut [0; 64]).map(|_| ())
    }

    fn control_in(&mut self, setup: SetupPacket, buffer: &mut [u8]) -> Result<usize, TransferFailure> {
        self.transfer(setup, &[], buffer)
    }
}

impl Clock for Bus<'_> {
    fn now(&mut self) -> Duration {
        self.now
    }

    fn wait_until(&mut self, until: Duration) {
        self.now = self.now.max(until);
        self.settle();
    }
}

/// Shows one action of a machine, then ends.
pub struct OneStep<'m>(pub &'m mut dyn Machine, pub bool);

impl Machine for OneStep<'_> {
    fn action(&self) -> Action<'_> {
        if self.1 { Action::Finished } else { self.0.action() }
    }

    fn handle(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        self.1 = true;
        self.0.handle(now, input)
    }

    fn cancel(&mut self) {
        self.0.cancel();
    }
}
