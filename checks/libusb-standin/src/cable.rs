//! One USB cable with one device, and a clock of its own.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use crate::devices::Kind;
use crate::store::Store;
use spark_dfu::device::{Device, Failures, Runtime, RuntimeWork, Stall, Work};
use spark_dfu::{SetupPacket, Status};

/// Why a transfer brought nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The device stalled.
    Stall,
    /// The device is gone, or another one came in its place.
    Gone,
}

/// Work under way: when it ends, and how.
type Begun = Option<(Duration, Result<(), Status>)>;

enum Attached {
    Nothing,
    Runtime(Runtime<'static>),
    Dfu(Box<Device<'static, Vec<u8>>>, Begun),
}

/// The cable.
pub struct Cable {
    kind: Kind,
    store: Store,
    folder: PathBuf,
    log: Option<fs::File>,
    now: Duration,
    attached: Attached,
    generation: u8,
}

/// A transfer takes this long.
const TRANSFER_TIME: Duration = Duration::from_millis(1);

impl Cable {
    /// Plugs a device in, with the memories and the mode it had before.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn plug(kind: Kind, folder: PathBuf, log: Option<PathBuf>) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let log = log.map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose()?;
        let store = Store::open(&folder, kind.memories, kind.dfu.alternates)?;
        let starts_in_dfu = fs::read_to_string(folder.join("mode")).is_ok_and(|mode| mode == "dfu");
        let (now, attached) = (Duration::ZERO, Attached::Nothing);
        let mut cable = Self { kind, store, folder, log, now, attached, generation: 0 };
        cable.attach(starts_in_dfu || kind.runtime.is_none());
        Ok(cable)
    }

    /// Number of the attachment, `None` while nothing is attached.
    pub fn generation(&self) -> Option<u8> {
        (!matches!(self.attached, Attached::Nothing)).then_some(self.generation)
    }

    /// One control transfer with the device of a generation.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn control(
        &mut self,
        generation: u8,
        setup: SetupPacket,
        output: &[u8],
        input: &mut [u8],
    ) -> Result<usize, Failure> {
        self.now += TRANSFER_TIME;
        if let Attached::Dfu(_, Some((until, _))) = self.attached
            && self.kind.deaf_at_work
        {
            self.now = self.now.max(until);
        }
        self.settle();
        let result = self.transfer(generation, setup, output, input);
        let mut line = format!("\"setup\":\"{}\"", hex(&setup.to_bytes()));
        if !output.is_empty() {
            let _ = write!(line, ",\"out\":\"{}\"", hex(output));
        }
        match &result {
            Ok(len) if *len > 0 => {
                let _ = write!(line, ",\"in\":\"{}\"", hex(&input[..*len]));
            }
            Ok(_) => {}
            Err(Failure::Stall) => line.push_str(",\"error\":\"stall\""),
            Err(Failure::Gone) => line.push_str(",\"error\":\"gone\""),
        }
        self.write_log(&line);
        self.settle();
        result
    }

    fn transfer(
        &mut self,
        generation: u8,
        setup: SetupPacket,
        output: &[u8],
        input: &mut [u8],
    ) -> Result<usize, Failure> {
        if self.generation() != Some(generation) {
            return Err(Failure::Gone);
        }
        let bytes = setup.to_bytes();
        match &mut self.attached {
            Attached::Nothing => Err(Failure::Gone),
            Attached::Runtime(device) => {
                device.control(self.now, &bytes, input).map_err(|Stall| Failure::Stall)
            }
            Attached::Dfu(device, _) => {
                let len = device.control(self.now, &mut self.store, &bytes, output, input);
                let len = len.map_err(|Stall| Failure::Stall)?;
                if device.profile().failures == Failures::Stall {
                    // This firmware works inside the transfer, and stalls it when the work fails.
                    while let Some(work) = device.work(self.now) {
                        if matches!(work, Work::Leave { .. }) {
                            break;
                        }
                        let result = self.store.perform(&work);
                        device.work_done(self.now, result).map_err(|Stall| Failure::Stall)?;
                    }
                }
                Ok(len)
            }
        }
    }

    /// A USB reset by the host. `false` if another device came of it.
    ///
    /// # Errors
    /// [`Failure::Gone`].
    pub fn reset(&mut self, generation: u8) -> Result<bool, Failure> {
        self.settle();
        if self.generation() != Some(generation) {
            return Err(Failure::Gone);
        }
        self.write_log("\"event\":\"bus reset\"");
        match &mut self.attached {
            Attached::Nothing => {}
            Attached::Runtime(device) => {
                device.bus_reset(self.now);
                self.settle();
            }
            // A device that leaves now still answers the host's look at its descriptors.
            Attached::Dfu(device, _) => device.bus_reset(),
        }
        Ok(self.generation() == Some(generation))
    }

    /// Lets time pass. Where the host sleeps, the log says so.
    pub fn pass(&mut self, time: Duration, host_sleeps: bool) {
        if host_sleeps {
            self.write_log(&format!("\"event\":\"sleep\",\"slept\":{}", time.as_millis()));
        }
        self.now += time;
        self.settle();
    }

    /// Ends work whose time has come, begins what is due, and re-attaches where the device says so.
    pub fn settle(&mut self) {
        loop {
            let next = match &mut self.attached {
                Attached::Nothing => return,
                Attached::Runtime(device) => match device.work() {
                    Some(RuntimeWork::Detach | RuntimeWork::EnterDfuMode) => Some(true),
                    _ => return,
                },
                Attached::Dfu(device, begun) => {
                    if let Some((until, result)) = *begun {
                        if until > self.now {
                            return;
                        }
                        *begun = None;
                        let _ = device.work_done(self.now, result);
                    }
                    let Some(work) = device.work(self.now) else { return };
                    let line = format!("\"event\":\"work\",\"work\":\"{work:?}\"");
                    match work {
                        Work::Leave { .. } => {
                            self.write_log(&line);
                            Some(false)
                        }
                        Work::ReadUnprotect { .. } => {
                            let _ = self.store.perform(&work);
                            self.write_log(&line);
                            Some(true)
                        }
                        work => {
                            use spark_dfu::device::Memory;
                            let until = self.now + self.store.estimate(&work);
                            *begun = Some((until, self.store.perform(&work)));
                            self.write_log(&line);
                            None
                        }
                    }
                }
            };
            match next {
                Some(true) => self.attach(true),
                Some(false) if self.kind.runtime.is_some() => self.attach(false),
                Some(false) => {
                    self.attached = Attached::Nothing;
                    self.write_log("\"event\":\"detached\"");
                    return;
                }
                None => {}
            }
        }
    }

    /// Attaches the device in a mode; a host then configures it.
    fn attach(&mut self, dfu: bool) {
        self.generation = self.generation.wrapping_add(1);
        self.attached = match self.kind.runtime {
            Some(description) if !dfu => Attached::Runtime(Runtime::new(description)),
            _ => {
                let size = usize::from(self.kind.dfu.functional.transfer_size);
                match Device::new(self.kind.dfu, self.kind.profile, vec![0; size]) {
                    Ok(device) => Attached::Dfu(Box::new(device), None),
                    Err(_) => Attached::Nothing,
                }
            }
        };
        let mode = if dfu { "dfu" } else { "runtime" };
        let _ = fs::write(self.folder.join("mode"), mode);
        self.write_log(&format!("\"event\":\"attached\",\"mode\":\"{mode}\""));
    }

    fn write_log(&mut self, fields: &str) {
        if let Some(log) = &mut self.log {
            let _ = writeln!(log, "{{\"ms\":{},{fields}}}", self.now.as_millis());
        }
    }
}

/// The first 32 bytes; long blocks would only fill the disk.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(32).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
