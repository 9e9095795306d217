//! Finding DFU interfaces.

use alloc::{string::String, vec::Vec};
use core::{fmt, num::NonZeroU8, time::Duration};

use nusb::{DeviceInfo, MaybeFuture};

use super::{UsbDevice, UsbError};
use crate::{
    descriptor::{self, Configuration, FunctionalDescriptor, Mode},
    host::Link,
    quirk::{LayoutFix, Quirks, gigadevice_layout},
};

/// For descriptors; they come at once or never.
const DESCRIPTOR_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a device is plugged in: the bus and the ports of the hubs in between. It stays the same when the device detaches
/// and comes back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PortPath {
    bus: String,
    ports: Vec<u8>,
}

/// `1-2.4`, as Linux and dfu-util write it.
impl fmt::Display for PortPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.bus)?;
        for (number, port) in self.ports.iter().enumerate() {
            write!(f, "{}{port}", if number == 0 { '-' } else { '.' })?;
        }
        Ok(())
    }
}

/// One alternate setting of a DFU interface.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// `bAlternateSetting`.
    pub alternate: u8,
    /// The interface string; with DfuSe the memory layout, corrected where the device's own is known to be wrong. `None`
    /// if there is none or it could not be read.
    pub name: Option<String>,
}

/// A DFU interface of a device on a bus.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Found {
    pub(super) info: DeviceInfo,
    /// `idVendor`.
    pub id_vendor: u16,
    /// `idProduct`.
    pub id_product: u16,
    /// `bcdDevice`.
    pub bcd_device: u16,
    /// Serial number.
    pub serial_number: Option<String>,
    /// Where it is plugged in.
    pub path: PortPath,
    /// Number on the bus.
    pub device_address: u8,
    /// `bConfigurationValue`.
    pub configuration: u8,
    /// `bInterfaceNumber`.
    pub interface: u8,
    /// Run-time or DFU mode.
    pub mode: Mode,
    /// The functional descriptor; the DFU 1.0 form with wTransferSize 0 if the device has none.
    pub functional: FunctionalDescriptor,
    /// What is known about the device.
    pub quirks: Quirks,
    /// The alternate settings in ascending order.
    pub memories: Vec<Memory>,
}

impl Found {
    /// Opens the device and claims the interface, with alternate setting 0.
    ///
    /// # Errors
    /// [`UsbError`].
    pub fn open(&self) -> Result<UsbDevice, UsbError> {
        UsbDevice::open(self)
    }

    /// What the host machines need to know.
    #[must_use]
    pub const fn link(&self) -> Link {
        let link = Link::new(self.interface, &self.functional).with_quirks(self.quirks);
        Link { max_block: super::device::MAX_BLOCK, ..link }
    }
}

/// All DFU interfaces of all devices that can be opened. Others are left out: many a computer has a Bluetooth controller
/// with a DFU interface that only root may open.
///
/// # Errors
/// [`UsbError`] if the system cannot list devices, or if it knows of a DFU interface but lets this user open none.
pub fn list() -> Result<Vec<Found>, UsbError> {
    let mut all = Vec::new();
    let devices = match nusb::list_devices().wait() {
        Ok(devices) => devices,
        // ENOENT: a Linux without USB has no folder of USB devices.
        Err(error) if cfg!(target_os = "linux") && error.os_error() == Some(2) => return Ok(all),
        Err(error) => return Err(error.into()),
    };
    let mut refused = None;
    for info in devices {
        let certain =
            info.interfaces().any(|interface| interface.class() == 0xFE && interface.subclass() == 1);
        match interfaces_of(&info) {
            Ok(found) => all.extend(found),
            Err(error) if certain && error != UsbError::Disconnected => refused = Some(error),
            Err(_) => {}
        }
    }
    match refused {
        Some(error) if all.is_empty() => Err(error),
        _ => Ok(all),
    }
}

/// The DFU interfaces of one device.
fn interfaces_of(info: &DeviceInfo) -> Result<Vec<Found>, UsbError> {
    // Where the system lists interfaces, a device without a DFU one need not be opened.
    let mut interfaces = info.interfaces().peekable();
    if interfaces.peek().is_some()
        && !interfaces.any(|interface| interface.class() == 0xFE && interface.subclass() == 1)
    {
        return Ok(Vec::new());
    }
    let device = info.open().wait()?;
    let Ok(active) = device.active_configuration() else { return Ok(Vec::new()) };
    let Ok(configuration) = Configuration::parse(active.as_bytes()) else { return Ok(Vec::new()) };
    let (id_vendor, id_product) = (info.vendor_id(), info.product_id());
    let bcd_device = info.device_version();
    let quirks = Quirks::of(id_vendor, id_product, bcd_device);
    let serial_number = serial_number(info, &device, &quirks);
    let functional = configuration
        .functional_descriptor()
        .or_else(|| {
            let raw =
                device.get_descriptor(descriptor::DFU_FUNCTIONAL, 0, 0, DESCRIPTOR_TIMEOUT).wait().ok()?;
            FunctionalDescriptor::parse(&raw).ok()
        })
        .unwrap_or(FunctionalDescriptor::UNKNOWN);
    let mut all: Vec<Found> = Vec::new();
    for alternate in configuration.alternates_with(&quirks) {
        let own = match NonZeroU8::new(alternate.string_index) {
            Some(index) => string(&device, index)?,
            None => None,
        };
        let corrected = match quirks.layout {
            LayoutFix::GigaDevice if alternate.setting == 0 => {
                serial_number.as_deref().and_then(gigadevice_layout).map(String::from)
            }
            _ => None,
        };
        let memory = Memory { alternate: alternate.setting, name: corrected.or(own) };
        if let Some(found) = all
            .iter_mut()
            .find(|found| found.interface == alternate.interface && found.mode == alternate.mode)
        {
            found.memories.push(memory);
            continue;
        }
        all.push(Found {
            info: info.clone(),
            id_vendor,
            id_product,
            bcd_device,
            serial_number: serial_number.clone(),
            path: path(info),
            device_address: info.device_address(),
            configuration: configuration.value(),
            interface: alternate.interface,
            mode: alternate.mode,
            functional,
            quirks,
            memories: alloc::vec![memory],
        });
    }
    for found in &mut all {
        found.memories.sort_by_key(|memory| memory.alternate);
    }
    Ok(all)
}

fn path(info: &DeviceInfo) -> PortPath {
    // nusb pads the number of a bus on Linux with zeros; sysfs and other programs do not.
    #[cfg(target_os = "linux")]
    let bus = alloc::format!("{}", info.busnum());
    #[cfg(not(target_os = "linux"))]
    let bus = info.bus_id().into();
    PortPath { bus, ports: info.port_chain().into() }
}

/// `None` if the device has none, or sends something else.
fn string(device: &nusb::Device, index: NonZeroU8) -> Result<Option<String>, UsbError> {
    use nusb::{
        GetDescriptorError::Transfer,
        transfer::TransferError::{Disconnected, Fault, Unknown},
    };
    let get = |kind, index, language| device.get_descriptor(kind, index, language, DESCRIPTOR_TIMEOUT).wait();
    match get(descriptor::STRING, index.get(), 0x0409) {
        Ok(raw) => Ok(descriptor::decode_string_owned(&raw).ok()),
        // Without its names it would look like a broken device instead of one that was pulled out.
        Err(Transfer(Disconnected)) => Err(UsbError::Disconnected),
        Err(Transfer(Fault | Unknown(_))) if get(descriptor::DEVICE, 0, 0).is_err() => {
            Err(UsbError::Disconnected)
        }
        Err(_) => Ok(None),
    }
}

fn serial_number(info: &DeviceInfo, device: &nusb::Device, quirks: &Quirks) -> Option<String> {
    if quirks.serial_is_utf8 {
        let index = device.device_descriptor().serial_number_string_index()?;
        let raw =
            device.get_descriptor(descriptor::STRING, index.get(), 0x0409, DESCRIPTOR_TIMEOUT).wait().ok()?;
        return String::from_utf8(raw.get(2..)?.into()).ok();
    }
    info.serial_number().map(String::from)
}
