//! Where the transfers go: real USB, or a simulated Photon.

use super::DeviceOptions;
use super::candidate::Candidate;
use crate::exit::{Code, Failure, chain};
use crate::files;
use crate::photons;
use coap_spark::handshake::DeviceId;
use core::time::Duration;
use spark_dfu::SetupPacket;
use spark_dfu::descriptor::Description;
use spark_dfu::host::{Clock, ControlTransfer, TransferFailure};
use spark_dfu::usb::{self, UsbDevice, UsbError};
use spark_keys::bundled::PARTICLE_RSA_SPKI;
use spark_sim::usb::UsbPort;
use spark_sim::{Flash, Photon};
use std::fs;
use std::path::Path;

/// An open DFU interface.
pub(crate) trait Port: ControlTransfer + Clock {
    /// Selects a memory.
    fn select(&mut self, alternate: u8) -> Result<(), Failure>;

    /// The device as it is now: after a detach it is another one.
    fn candidate(&self) -> Candidate;
}

impl Port for UsbDevice {
    fn select(&mut self, alternate: u8) -> Result<(), Failure> {
        Self::select(self, alternate).map_err(|error| usb_failed(&error))
    }

    fn candidate(&self) -> Candidate {
        Candidate::of_usb(self.found())
    }
}

/// Serial number of the simulated Photon.
const VIRTUAL_SERIAL: &str = "000000000000000000000001";

impl Port for UsbPort<'_> {
    fn select(&mut self, alternate: u8) -> Result<(), Failure> {
        let setup = SetupPacket::set_interface(0, alternate);
        self.control_out(setup, &[]).map_err(|failure: TransferFailure| {
            Failure::new(Code::Io, chain(&failure), format_args!("it has no alternate setting {alternate}"))
        })
    }

    fn candidate(&self) -> Candidate {
        virtual_candidate()
    }
}

fn virtual_candidate() -> Candidate {
    Candidate::of_description(&Description::photon(VIRTUAL_SERIAL), "virtual")
}

/// The devices to choose from.
pub(super) fn all(options: &DeviceOptions) -> Result<Vec<Candidate>, Failure> {
    if options.r#virtual.is_some() {
        return Ok(vec![virtual_candidate()]);
    }
    let found = usb::list().map_err(|error| usb_failed(&error))?;
    Ok(found.iter().map(Candidate::of_usb).collect())
}

/// Opens the interface of a candidate and works with it.
pub(super) fn open<T>(
    options: &DeviceOptions,
    candidate: &Candidate,
    work: impl FnOnce(&mut dyn Port) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if let Some(file) = &options.r#virtual {
        return on_virtual(file.as_deref(), work);
    }
    let found = usb::list().map_err(|error| usb_failed(&error))?;
    let same = |found: &&usb::Found| {
        let other = Candidate::of_usb(found);
        other.path == candidate.path
            && other.mode == candidate.mode
            && other.link.interface == candidate.link.interface
    };
    let found = found.iter().find(same).ok_or_else(|| usb_failed(&UsbError::Disconnected))?;
    work(&mut found.open().map_err(|error| usb_failed(&error))?)
}

fn on_virtual<T>(
    file: Option<&Path>,
    work: impl FnOnce(&mut dyn Port) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut photon = load(file)?;
    let before = photon.flash().contents();
    let mut port =
        photon.dfu().map_err(|error| Failure::new(Code::Software, chain(&error), "report this"))?;
    let result = work(&mut port);
    // What was written stays, also after a failure, as on a chip. It holds keys.
    if let Some(path) = file
        && (photon.flash().contents() != before || !path.exists())
    {
        files::write_secret(path, &photon.flash().contents())?;
    }
    result
}

/// The Photon of a file, or a new healthy one.
fn load(file: Option<&Path>) -> Result<Photon, Failure> {
    let mut id = [0; 12];
    id[11] = 1;
    let stored = match file.map(fs::read) {
        None => None,
        Some(Ok(contents)) => Some(contents),
        Some(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => None,
        Some(Err(error)) => return Err(Failure::reading(file.unwrap_or(Path::new("")), &error)),
    };
    if let (Some(contents), Some(path)) = (stored, file) {
        let flash = Flash::with_contents(&contents).ok_or_else(|| {
            Failure::new(
                Code::Data,
                format_args!(
                    "{} is no flash of a simulated Photon: it has {} bytes",
                    path.display(),
                    contents.len()
                ),
                "give a file that this option made, or a new name",
            )
        })?;
        return Ok(Photon::new(DeviceId(id), flash));
    }
    // As it leaves the factory: with the vendor's server key.
    Ok(photons::healthy(&PARTICLE_RSA_SPKI, false, &mut rand::rng())?.0)
}

/// USB itself failed.
pub(super) fn usb_failed(error: &UsbError) -> Failure {
    Failure::new(Code::Io, chain(error), "see `spark dfu list`; `--virtual` needs no USB")
}

/// Waits a moment before devices are looked for again.
pub(super) fn pause() {
    std::thread::sleep(Duration::from_millis(200));
}
