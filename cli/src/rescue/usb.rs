//! The USB part of the rescue: read, judge, back up, write, read back. Works on any [`ControlTransfer`].

use super::report::{Damage, Finding, Write};
use crate::exit::{Code, Failure, chain};
use crate::files;
use crate::ui::Ui;
use core::time::Duration;
use spark_dct::ServerKeyRegion;
use spark_dct::segment::{Platform, Segment};
use spark_dfu::SetupPacket;
use spark_dfu::descriptor::Description;
use spark_dfu::host::{
    Clock, Connect, ControlTransfer, Download, Element, EraseMode, Leave, LeaveOutcome, Link, Plan, Progress,
    ReadPlan, Upload, WriteOptions, drive,
};
use spark_dfu::layout::MemoryLayout;
use spark_keys::{DeviceKey, Finding as KeyFinding, Report as KeyReport, check::check_with_candidates};

/// A Photon in DFU mode on a bus.
pub struct Usb<'b, B> {
    bus: &'b mut B,
    buffer: Vec<u8>,
    selected: Option<u8>,
}

/// What goes over the cable may be a private key.
impl<B> core::fmt::Debug for Usb<'_, B> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Usb").field("selected", &self.selected).finish_non_exhaustive()
    }
}

impl<'b, B: ControlTransfer + Clock> Usb<'b, B> {
    /// A host on this bus.
    pub fn new(bus: &'b mut B) -> Self {
        Self { bus, buffer: vec![0; usize::from(Link::PHOTON.transfer_size)], selected: None }
    }

    /// Reads `len` bytes.
    ///
    /// # Errors
    /// [`Failure`] that says what the device did.
    pub fn read(&mut self, alternate: u8, address: u32, len: usize) -> Result<Vec<u8>, Failure> {
        let layout = layout(alternate)?;
        let plan = ReadPlan::new(&layout, address, len).map_err(|error| refused(&error))?;
        self.select(alternate)?;
        let mut data = vec![0; len];
        let mut upload = Upload::new(Link::PHOTON, &plan, &mut data).map_err(|error| failed(&error))?;
        drive(&mut upload, self.bus, &mut self.buffer, |_| ()).map_err(|error| failed(&error))?;
        Ok(data)
    }

    /// Writes, then reads back and compares.
    ///
    /// # Errors
    /// [`Failure`]; what was written so far stays.
    pub fn write(
        &mut self,
        alternate: u8,
        address: u32,
        data: &[u8],
        erase: EraseMode,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Failure> {
        let layout = layout(alternate)?;
        let options = WriteOptions { erase, verify: true, ..WriteOptions::DEFAULT };
        let plan = Plan::write(&layout, address, data.len(), options).map_err(|error| refused(&error))?;
        self.select(alternate)?;
        let block = vec![0; plan.buffer_len(Link::PHOTON.transfer_size)];
        let mut download =
            Download::new(Link::PHOTON.with_alternate(alternate), &plan, Element { address, data }, block)
                .map_err(|error| failed(&error))?;
        drive(&mut download, self.bus, &mut self.buffer, on_progress).map_err(|error| failed(&error))
    }

    /// Leaves DFU mode and starts the firmware.
    ///
    /// # Errors
    /// [`Failure`] if the device refuses.
    pub fn leave(&mut self) -> Result<LeaveOutcome, Failure> {
        let mut leave = Leave::new(Link::PHOTON, None);
        drive(&mut leave, self.bus, &mut self.buffer, |_| ()).map_err(|error| failed(&error))?;
        leave.outcome().ok_or_else(|| {
            Failure::new(Code::Protocol, "the device did not leave DFU mode", "press its RESET button")
        })
    }

    /// Time on the bus.
    pub fn elapsed(&mut self) -> Duration {
        self.bus.now()
    }

    fn select(&mut self, alternate: u8) -> Result<(), Failure> {
        if self.selected != Some(alternate) {
            let setup = SetupPacket::set_interface(Link::PHOTON.interface, alternate);
            self.bus.control_out(setup, &[]).map_err(|error| {
                Failure::new(
                    Code::Unavailable,
                    format_args!("the device does not take alternate setting {alternate}: {error}"),
                    "check that it is a Photon in DFU mode (blinking yellow)",
                )
            })?;
            self.selected = Some(alternate);
        }
        let mut connect = Connect::new(Link::PHOTON);
        drive(&mut connect, self.bus, &mut self.buffer, |_| ()).map_err(|error| failed(&error))
    }
}

fn layout(alternate: u8) -> Result<MemoryLayout<'static>, Failure> {
    let text = Description::PHOTON_ALTERNATES.get(usize::from(alternate)).copied().unwrap_or_default();
    MemoryLayout::parse(text.as_bytes()).map_err(|error| refused(&error))
}

fn refused(error: &dyn core::error::Error) -> Failure {
    Failure::new(Code::Data, chain(error), "nothing was written; report this")
}

fn failed(error: &dyn core::error::Error) -> Failure {
    let next = "leave the device plugged in and start again: nothing that was read is lost";
    Failure::new(Code::Io, format_args!("DFU failed: {}", chain(error)), next)
}

/// The two fields that a rescue cares about.
#[derive(Clone)]
pub struct Fields {
    /// 612 bytes.
    pub device_key: Vec<u8>,
    /// 512 bytes: server key and address.
    pub server_key: Vec<u8>,
}

impl core::fmt::Debug for Fields {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Fields(secret)")
    }
}

/// Where they are.
///
/// # Errors
/// [`Failure`] if the table of segments lacks one, which it does not.
pub fn segment(name: &str) -> Result<Segment, Failure> {
    Platform::Photon.segment(name).ok_or_else(|| {
        Failure::new(Code::Software, format_args!("the Photon has no segment {name}"), "report this")
    })
}

/// Reads both fields.
///
/// # Errors
/// [`Failure`].
pub fn read_fields<B: ControlTransfer + Clock>(usb: &mut Usb<'_, B>) -> Result<Fields, Failure> {
    let mut read = |name| -> Result<Vec<u8>, Failure> {
        let segment = segment(name)?;
        let len = segment.size.and_then(|size| usize::try_from(size).ok()).unwrap_or_default();
        usb.read(segment.alternate, segment.address, len)
    };
    Ok(Fields { device_key: read("tcpPrivateKey")?, server_key: read("tcpServerKey")? })
}

/// Says what is wrong with each field. `candidates`: the two key files that the owner still has.
#[must_use]
pub fn diagnose(fields: &Fields, candidates: (&[u8], &[u8])) -> Vec<Damage> {
    let report: KeyReport = check_with_candidates(&fields.device_key, candidates.0, candidates.1);
    let mut damages = Vec::new();
    if !report.is_clean() {
        damages.push(Damage {
            field: "device private key".to_owned(),
            findings: report.findings().map(|finding| describe(&finding)).collect(),
        });
    }
    let lost = ServerKeyRegion::parse(&fields.server_key);
    if lost.is_ok_and(|region| region.is_lost()) {
        damages.push(Damage {
            field: "server public key and address".to_owned(),
            findings: vec![Finding {
                code: "server-key-region-lost".to_owned(),
                what: "key and address are erased; the device logs `type:255`".to_owned(),
                device: "connects to the default address and is dropped there (error -19)".to_owned(),
                next: "write the server's public key with its address".to_owned(),
            }],
        });
    }
    damages
}

fn describe(finding: &KeyFinding) -> Finding {
    Finding {
        code: finding.code().to_owned(),
        what: finding.to_string(),
        device: finding.device().to_owned(),
        next: finding.next_step().to_owned(),
    }
}

/// Writes both fields and leaves DFU mode. The order matters: the device is of no use to any server until both are
/// there, and it leaves DFU mode only then.
///
/// # Errors
/// [`Failure`]; the old contents are in the backup.
pub fn repair<B: ControlTransfer + Clock>(
    usb: &mut Usb<'_, B>,
    key: &DeviceKey,
    region: &[u8],
    ui: &Ui,
) -> Result<Vec<Write>, Failure> {
    let mut writes = Vec::new();
    for (name, field, data) in [
        ("tcpPrivateKey", "device private key", &key.as_field()[..]),
        ("tcpServerKey", "server public key and address", region),
    ] {
        let segment = segment(name)?;
        segment.check_write(data.len()).map_err(|error| refused(&error))?;
        let bar = ui.bar(field, u64::try_from(data.len()).unwrap_or(u64::MAX));
        usb.write(segment.alternate, segment.address, data, EraseMode::None, &mut |progress| {
            if let Progress::Written { done, .. } = progress {
                bar.set_position(done);
            }
        })?;
        bar.finish_and_clear();
        writes.push(Write {
            field: field.to_owned(),
            alternate: segment.alternate,
            address: segment.address,
            bytes: data.len(),
            written_sha256: files::sha256(data),
            device_sha256: String::new(),
        });
    }
    // Each write was compared as it was made; once more now that both are there, for the second could have harmed the first.
    let fields = read_fields(usb)?;
    for (write, content) in writes.iter_mut().zip([&fields.device_key, &fields.server_key]) {
        write.device_sha256 = files::sha256(content);
    }
    usb.leave()?;
    Ok(writes)
}
