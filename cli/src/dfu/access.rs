//! Reading and writing a DfuSe device by address: what the commands for keys and configuration stand on.

use super::candidate::Candidate;
use super::find::{in_dfu_mode, prepare};
use super::finish;
use super::journal::JournalFile;
use super::options::DfuseTarget;
use super::port::Port;
use super::progress::{Bars, keep_going};
use super::table;
use super::write::write;
use super::{DeviceOptions, impossible, job_failed};
use crate::exit::{Code, Failure};
use crate::ui::Ui;
use spark_dfu::host::{
    Download, Element, EraseMode, Plan, ReadPlan, Span, Upload, WriteOptions, drive_while,
};
use spark_sim::usb::UsbPort;

/// A device in DFU mode.
pub struct Access<'p> {
    port: &'p mut dyn Port,
    device: Candidate,
    ui: Ui,
}

/// What goes over the cable may be a private key.
impl core::fmt::Debug for Access<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Access").field("device", &self.device).finish_non_exhaustive()
    }
}

impl<'p> Access<'p> {
    /// A simulated Photon.
    pub fn to_photon(port: &'p mut UsbPort<'_>, ui: &Ui) -> Access<'p> {
        Self::over(port, ui)
    }

    /// A line for the person at the device.
    pub(crate) fn note(&self, text: impl core::fmt::Display) {
        self.ui.note(text);
    }

    /// A device in DFU mode behind any port.
    pub(crate) fn over(port: &'p mut dyn Port, ui: &Ui) -> Access<'p> {
        let device = port.candidate();
        Access { port, device, ui: ui.clone() }
    }

    /// USB ids and serial number.
    pub(crate) const fn device(&self) -> &Candidate {
        &self.device
    }

    /// Reads `len` bytes.
    ///
    /// # Errors
    /// [`Failure`] that says what the device did.
    pub fn read(&mut self, alternate: u8, address: u32, len: usize) -> Result<Vec<u8>, Failure> {
        let memory = self.device.memory(alternate).ok_or_else(|| self.no_memory(alternate))?;
        let target = DfuseTarget { alternate, name: &memory.name };
        let layout = memory.layout().ok_or_else(|| self.no_map(alternate))?;
        let plan = ReadPlan::new(&layout, address, len).map_err(|error| impossible(&error, &target))?;
        let link = self.device.link;
        prepare(self.port, link, alternate)?;
        let mut data = vec![0; len];
        let mut upload = Upload::new(link, &plan, &mut data).map_err(|error| impossible(&error, &target))?;
        let mut bars = Bars::new(&self.ui, None);
        let mut block = vec![0; usize::from(link.block_size())];
        drive_while(&mut upload, self.port, &mut block, |progress| bars.take(progress), keep_going)
            .map_err(|error| job_failed(&error))?;
        Ok(data)
    }

    /// Writes, then reads back and compares. What else is in a page that has to be erased is kept.
    ///
    /// # Errors
    /// [`Failure`]; what was written so far stays.
    pub fn write(&mut self, alternate: u8, address: u32, data: &[u8]) -> Result<(), Failure> {
        self.put(alternate, address, data, true)
    }

    /// As [`write`](Self::write), but what else is in those pages is erased: faster, where nothing else belongs there.
    pub(crate) fn replace(&mut self, alternate: u8, address: u32, data: &[u8]) -> Result<(), Failure> {
        self.put(alternate, address, data, false)
    }

    /// Whether the memory map of the device allows that many bytes to be written there.
    pub(crate) fn check(&self, alternate: u8, address: u32, len: usize) -> Result<(), Failure> {
        let memory = self.device.memory(alternate).ok_or_else(|| self.no_memory(alternate))?;
        let target = DfuseTarget { alternate, name: &memory.name };
        let layout = memory.layout().ok_or_else(|| self.no_map(alternate))?;
        Plan::write(&layout, address, len, self.options(alternate, false))
            .map_err(|error| impossible(&error, &target))?;
        self.check_table(alternate, address, len)
    }

    /// What the memory map allows may still end behind the fields of the configuration table.
    fn check_table(&self, alternate: u8, address: u32, len: usize) -> Result<(), Failure> {
        let span = Span { address, len: u32::try_from(len).unwrap_or(u32::MAX) };
        table::check(&self.device, alternate, &[span])
    }

    fn options(&self, alternate: u8, keep: bool) -> WriteOptions {
        let void = self.device.link.quirks.erase_is_void(alternate);
        WriteOptions {
            erase: if void { EraseMode::None } else { EraseMode::Pages },
            keep_partial_pages: keep && !void,
            verify: true,
            ..WriteOptions::DEFAULT
        }
    }

    fn put(&mut self, alternate: u8, address: u32, data: &[u8], keep: bool) -> Result<(), Failure> {
        let memory = self.device.memory(alternate).ok_or_else(|| self.no_memory(alternate))?;
        let target = DfuseTarget { alternate, name: &memory.name };
        let layout = memory.layout().ok_or_else(|| self.no_map(alternate))?;
        let link = self.device.link.with_alternate(alternate);
        let plan = Plan::write(&layout, address, data.len(), self.options(alternate, keep))
            .map_err(|error| impossible(&error, &target))?;
        self.check_table(alternate, address, data.len())?;
        prepare(self.port, link, alternate)?;
        let buffer = vec![0; plan.buffer_len(link.block_size())];
        let download = Download::new(link, &plan, Element { address, data }, buffer)
            .map_err(|error| impossible(&error, &target))?;
        let bars = Bars::new(&self.ui, Some(&plan));
        write(download, link, self.port, bars, (&mut JournalFile::open(None, 0)?, 0, 0)).map(|_| ())
    }

    /// Leaves DFU mode and starts the firmware.
    ///
    /// # Errors
    /// [`Failure`] if the device refuses.
    pub fn leave(&mut self) -> Result<(), Failure> {
        let link = self.device.link;
        finish::leave(&self.ui, self.port, link, None).map(|_| ())
    }

    fn no_memory(&self, alternate: u8) -> Failure {
        Failure::new(
            Code::Unavailable,
            format_args!("{} has no alternate setting {alternate}", self.device),
            "see `spark dfu list` for what it has; is it the right kind of device?",
        )
    }

    fn no_map(&self, alternate: u8) -> Failure {
        Failure::new(
            Code::Io,
            format_args!("the memory map of alternate setting {alternate} of {} cannot be read", self.device),
            "report it with the output of `spark dfu list --json`",
        )
    }
}

/// Opens the device that the options choose, in DFU mode, and works with it.
pub(crate) fn access<T>(
    options: &DeviceOptions,
    work: impl FnOnce(&mut Access<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    in_dfu_mode(options, |port, device, _| {
        if !device.link.is_dfuse() {
            return Err(Failure::new(
                Code::Unavailable,
                format_args!("{device} speaks plain DFU, which knows no addresses"),
                "choose a Photon, P1, Electron, Core or one of their successors with -d, -p or -S",
            ));
        }
        work(&mut Access { port, device: device.clone(), ui: options.ui() })
    })
}
