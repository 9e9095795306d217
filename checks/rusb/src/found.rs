//! Finding the interface.

use std::time::Duration;

use rusb::{Device, UsbContext};
use spark_dfu::descriptor::{
    CONFIGURATION, Configuration, DEVICE, FunctionalDescriptor, Mode, STRING, decode_string_owned,
};
use spark_dfu::host::Link;
use spark_dfu::quirk::Quirks;

/// For descriptors; they come at once or never.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Linux takes no more in one control transfer.
const MAX_BLOCK: u16 = 4096;

/// The first DFU interface of a device.
#[derive(Debug)]
pub struct Found<T: UsbContext> {
    /// To be opened.
    pub device: Device<T>,
    /// `idVendor`.
    pub id_vendor: u16,
    /// `idProduct`.
    pub id_product: u16,
    /// `bInterfaceNumber`.
    pub interface: u8,
    /// Run-time or DFU mode.
    pub mode: Mode,
    /// The strings of the alternate settings in ascending order: with DfuSe the memory layouts.
    pub memories: Vec<String>,
    /// What the host machines need to know.
    pub link: Link,
}

impl<T: UsbContext> Found<T> {
    /// Looks for a DFU interface in the descriptors of a device.
    ///
    /// # Errors
    /// libusb's; `NotFound` if there is no such interface.
    pub fn of(device: &Device<T>) -> rusb::Result<Self> {
        let handle = device.open()?;
        let descriptor = |kind: u8, index: u8, language: u16| {
            let value = u16::from_be_bytes([kind, index]);
            let mut bytes = vec![0; usize::from(MAX_BLOCK)];
            let len = handle.read_control(0x80, 6, value, language, &mut bytes, TIMEOUT)?;
            bytes.truncate(len);
            rusb::Result::Ok(bytes)
        };
        let ids = descriptor(DEVICE, 0, 0)?;
        let field = |at| ids.get(at..at + 2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
        let (id_vendor, id_product, bcd_device) = (field(8), field(10), field(12));
        let raw = descriptor(CONFIGURATION, 0, 0)?;
        let configuration = Configuration::parse(&raw).map_err(|_| rusb::Error::NotFound)?;
        let quirks = Quirks::of(id_vendor, id_product, bcd_device);
        let mut alternates: Vec<_> = configuration.alternates_with(&quirks).collect();
        alternates.sort_by_key(|alternate| alternate.setting);
        let first = *alternates.first().ok_or(rusb::Error::NotFound)?;
        alternates.retain(|alternate| alternate.interface == first.interface);
        let name = |index| decode_string_owned(&descriptor(STRING, index, 0x0409).ok()?).ok();
        let memories =
            alternates.iter().map(|alternate| name(alternate.string_index).unwrap_or_default()).collect();
        let functional = configuration.functional_descriptor().unwrap_or(FunctionalDescriptor::UNKNOWN);
        let link = Link::new(first.interface, &functional).with_quirks(quirks);
        Ok(Self {
            device: device.clone(),
            id_vendor,
            id_product,
            interface: first.interface,
            mode: first.mode,
            memories,
            link: Link { max_block: MAX_BLOCK, ..link },
        })
    }

    /// The first DFU interface of all devices.
    ///
    /// # Errors
    /// libusb's; `NotFound` if there is none.
    pub fn first(context: &T) -> rusb::Result<Self> {
        context.devices()?.iter().find_map(|device| Self::of(&device).ok()).ok_or(rusb::Error::NotFound)
    }
}
