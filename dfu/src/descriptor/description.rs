//! The descriptors a device sends, generated from one value.

use super::{CONFIGURATION, DEVICE, FunctionalDescriptor, INTERFACE, Mode, STRING, microsoft};
use crate::{dfuse, error::BufferTooSmall, layout::MemoryLayout};

/// The DfuSe commands beyond get commands, set address and page erase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_structs, reason = "DfuSe has these two")]
pub struct Commands {
    /// `41` alone: erase the whole alternate setting.
    pub mass_erase: bool,
    /// `92`: erase everything and take the read protection away.
    pub read_unprotect: bool,
}

impl Commands {
    /// Neither.
    pub const NONE: Self = Self { mass_erase: false, read_unprotect: false };
    /// Both.
    pub const ALL: Self = Self { mass_erase: true, read_unprotect: true };

    /// What both know.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            mass_erase: self.mass_erase && other.mass_erase,
            read_unprotect: self.read_unprotect && other.read_unprotect,
        }
    }

    /// The reply to UPLOAD of block 0, and how many of its bytes count.
    ///
    /// # Source
    /// ST AN3156, section 4.3: the list of supported command codes; mass erase has no code of its own.
    #[must_use]
    pub const fn reply(self) -> ([u8; 4], usize) {
        let all = [dfuse::GET_COMMANDS, dfuse::SET_ADDRESS, dfuse::ERASE, dfuse::READ_UNPROTECT];
        (all, if self.read_unprotect { 4 } else { 3 })
    }
}

/// Everything a DFU device tells about itself: one configuration, one interface, and in DFU mode one alternate setting
/// a memory. A device with a run-time mode has two of these, one a mode; vendor and product id often differ.
///
/// String indexes: 1 manufacturer, 2 product, 3 serial number, 4 configuration, 5 interface,
/// [`FIRST_ALTERNATE_STRING`](Self::FIRST_ALTERNATE_STRING) + n for alternate n, one more for `vendor_error`, and 0xEE
/// for Microsoft's.
///
/// # Source
/// USB 2.0, section 9.6; USB DFU 1.1, section 4; index scheme of device-os@v0.5.3:
/// platform/MCU/STM32F2xx/STM32_USB_Device_Driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "meant to be written as a literal by device authors")]
pub struct Description<'a> {
    /// `bcdUSB`, 0x0200 for USB 2.0.
    pub bcd_usb: u16,
    /// `idVendor`.
    pub id_vendor: u16,
    /// `idProduct`.
    pub id_product: u16,
    /// `bcdDevice`.
    pub bcd_device: u16,
    /// Manufacturer, string 1.
    pub manufacturer: &'a str,
    /// Product, string 2.
    pub product: &'a str,
    /// Serial number, string 3. Some hosts refuse a device that has none.
    pub serial_number: &'a str,
    /// Run-time or DFU mode: the protocol of the interface descriptor.
    pub mode: Mode,
    /// `bInterfaceNumber`. A bootloader has one interface, 0; the run-time mode is often part of a composite device.
    pub interface: u8,
    /// The names of the memories, one an alternate setting, at most [`MAX_ALTERNATES`](Self::MAX_ALTERNATES): in DfuSe
    /// memory-layout strings, in plain DFU any text. Run-time mode needs none.
    pub alternates: &'a [&'a str],
    /// The functional descriptor that all alternates share. With version 1.0 it is sent in the seven-byte form.
    pub functional: FunctionalDescriptor,
    /// Optional DfuSe commands, as far as the profile knows them.
    pub commands: Commands,
    /// The vendor code of Microsoft's descriptors, which make Windows load WinUSB; `None` leaves them out.
    pub microsoft_vendor_code: Option<u8>,
    /// The text that iString points to with errVENDOR; empty for none.
    pub vendor_error: &'a str,
}

impl<'a> Description<'a> {
    /// Index of the string of alternate 0.
    pub const FIRST_ALTERNATE_STRING: u8 = 6;
    /// Length of the device descriptor in bytes.
    pub const DEVICE_LEN: usize = 18;

    /// The alternates of Photon, P1 and Electron: internal flash and DCT.
    ///
    /// # Source
    /// device-os@v0.4.9..v2.3.1: platform/MCU/STM32F2xx/STM32_USB_Device_Driver/inc/usbd_flash_if.h, usbd_dct_if.h.
    pub const PHOTON_ALTERNATES: [&'static str; 2] = [
        "@Internal Flash   /0x08000000/03*016Ka,01*016Kg,01*064Kg,07*128Kg",
        "@DCT Flash   /0x00000000/01*016Kg",
    ];

    /// The alternates of the Spark Core: internal flash and SPI flash, with the NULs that it sends.
    ///
    /// # Source
    /// device-os@v0.4.9..v1.0.0: bootloader/src/core/usb_desc.c.
    pub const CORE_ALTERNATES: [&'static str; 2] = [
        "@Internal Flash  /0x08000000/20*001Ka,108*001Kg\0",
        "@SPI Flash : SST25x/0x00000000/512*04Kg\0\0\0\0\0\0\0\0\0",
    ];

    /// The alternates of Argon, Boron and Xenon: internal flash, DCD and external flash.
    ///
    /// # Source
    /// device-os@v2.3.1: bootloader/src/nRF52840/usbd_dfu_mal.h.
    pub const NRF52840_ALTERNATES: [&'static str; 3] = [
        "@Internal Flash   /0x00000000/1*004Ka,47*004Kg,192*004Kg,4*004Kg,4*004Kg,8*004Ka",
        "@DCD Flash   /0x00000000/1*016Ke",
        "@External Flash   /0x80000000/1024*004Kg",
    ];

    /// The most alternate settings: their strings lie between index 6 and Microsoft's 0xEE, and one is kept for
    /// `vendor_error`.
    pub const MAX_ALTERNATES: usize = 231;

    /// A Photon in DFU mode, 2b04:d006, with a bootloader from v0.6.0 on (older ones have no Microsoft descriptors).
    ///
    /// The manufacturer and product texts are ours; ids, version, alternates and functional descriptor are the
    /// device's.
    #[must_use]
    pub const fn photon(serial_number: &'a str) -> Self {
        Self {
            bcd_usb: 0x0200,
            id_vendor: 0x2B04,
            id_product: 0xD006,
            bcd_device: 0x0250,
            manufacturer: "Particle",
            product: "Photon DFU Mode",
            serial_number,
            mode: Mode::Dfu,
            interface: 0,
            alternates: &Self::PHOTON_ALTERNATES,
            functional: FunctionalDescriptor::PHOTON,
            commands: Commands { mass_erase: true, read_unprotect: false },
            microsoft_vendor_code: Some(microsoft::PARTICLE_VENDOR_CODE),
            vendor_error: "",
        }
    }

    /// A Spark Core in DFU mode, 1d50:607f. The texts are ours.
    #[must_use]
    pub const fn core(serial_number: &'a str) -> Self {
        Self {
            bcd_usb: 0x0100,
            id_vendor: 0x1D50,
            id_product: 0x607F,
            bcd_device: 0x0200,
            manufacturer: "Spark Devices",
            product: "CORE DFU Mode",
            alternates: &Self::CORE_ALTERNATES,
            functional: FunctionalDescriptor { transfer_size: 1024, ..FunctionalDescriptor::PHOTON },
            commands: Commands::NONE,
            microsoft_vendor_code: None,
            ..Self::photon(serial_number)
        }
    }

    /// The name of an alternate setting: in DfuSe its layout string.
    #[must_use]
    pub fn alternate(&self, number: u8) -> Option<&'a str> {
        self.alternates.get(usize::from(number)).copied()
    }

    /// The device descriptor. `bMaxPacketSize0` is 64.
    #[must_use]
    pub const fn device_descriptor(&self) -> [u8; 18] {
        let [u0, u1] = self.bcd_usb.to_le_bytes();
        let [v0, v1] = self.id_vendor.to_le_bytes();
        let [p0, p1] = self.id_product.to_le_bytes();
        let [d0, d1] = self.bcd_device.to_le_bytes();
        [18, DEVICE, u0, u1, 0, 0, 0, 64, v0, v1, p0, p1, d0, d1, 1, 2, 3, 1]
    }

    /// Length of the configuration descriptor with all that follows it.
    #[must_use]
    pub const fn configuration_len(&self) -> usize {
        let functional = if self.functional.dfu_version == FunctionalDescriptor::VERSION_1_0 { 7 } else { 9 };
        let interfaces = match self.mode {
            Mode::Runtime => 1,
            Mode::Dfu => self.alternates.len(),
        };
        9 + 9 * interfaces + functional
    }

    /// The configuration descriptor, all alternates, and the functional descriptor after the last, where all known
    /// devices place it.
    ///
    /// # Errors
    /// [`BufferTooSmall`]; [`Self::configuration_len`] tells the size.
    pub fn configuration_descriptor<'o>(&self, out: &'o mut [u8]) -> Result<&'o [u8], BufferTooSmall> {
        Prefix::fill(out, |prefix| self.put_configuration(prefix))
    }

    /// The descriptors of the DFU interface alone, for the configuration descriptor of a composite device: what
    /// [`Self::configuration_descriptor`] has behind its first nine bytes.
    ///
    /// # Errors
    /// [`BufferTooSmall`].
    pub fn interface_descriptors<'o>(&self, out: &'o mut [u8]) -> Result<&'o [u8], BufferTooSmall> {
        Prefix::fill(out, |prefix| self.put_interfaces(prefix))
    }

    /// A string descriptor; index 0 lists the languages (US English). `None` if there is no such string.
    ///
    /// Text beyond 126 UTF-16 units is cut, since `bLength` is one byte.
    ///
    /// # Errors
    /// [`BufferTooSmall`]; 254 bytes always suffice.
    pub fn string_descriptor<'o>(
        &self,
        index: u8,
        out: &'o mut [u8],
    ) -> Result<Option<&'o [u8]>, BufferTooSmall> {
        if !self.has_string(index) {
            return Ok(None);
        }
        Prefix::fill(out, |prefix| self.put_string(prefix, index)).map(Some)
    }

    /// [`Self::configuration_descriptor`] as a new vector.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn configuration_descriptor_to_vec(&self) -> alloc::vec::Vec<u8> {
        let mut bytes = alloc::vec![0; self.configuration_len()];
        self.put_configuration(&mut Prefix::new(&mut bytes));
        bytes
    }

    /// Writes as much of the configuration descriptor as fits; returns the bytes written.
    pub(crate) fn configuration_prefix(&self, out: &mut [u8]) -> usize {
        let mut prefix = Prefix::new(out);
        self.put_configuration(&mut prefix);
        prefix.written()
    }

    /// Writes as much of a string descriptor as fits; returns the bytes written.
    pub(crate) fn string_prefix(&self, index: u8, out: &mut [u8]) -> Option<usize> {
        let mut prefix = Prefix::new(out);
        self.put_string(&mut prefix, index);
        self.has_string(index).then_some(prefix.written())
    }

    /// The iString of a reply with errVENDOR; 0 if there is no text.
    pub(crate) fn vendor_error_index(&self) -> u8 {
        let last = u8::try_from(self.alternates.len()).unwrap_or(u8::MAX);
        if self.vendor_error.is_empty() { 0 } else { last.saturating_add(Self::FIRST_ALTERNATE_STRING) }
    }

    /// The highest setting that exists.
    pub(crate) fn max_setting(&self) -> u8 {
        u8::try_from(self.alternates.len().saturating_sub(1)).unwrap_or(u8::MAX)
    }

    /// Checks what a DFU-mode device needs from its alternates. `Err` holds the first with a bad layout string.
    pub(crate) fn bad_layout(&self) -> Option<(u8, crate::layout::LayoutError)> {
        (0..=u8::MAX).zip(self.alternates).find_map(|(number, text)| {
            MemoryLayout::parse(text.as_bytes()).err().map(|error| (number, error))
        })
    }

    fn has_string(&self, index: u8) -> bool {
        self.string(index).is_some()
            || (index == microsoft::STRING_INDEX && self.microsoft_vendor_code.is_some())
    }

    fn put_string(&self, prefix: &mut Prefix<'_>, index: u8) {
        match (self.microsoft_vendor_code, self.string(index)) {
            (Some(code), _) if index == microsoft::STRING_INDEX => prefix.put(&microsoft::os_string(code)),
            (_, Some(text)) => put_string(prefix, text),
            _ => {}
        }
    }

    fn string(&self, index: u8) -> Option<&'a str> {
        match index {
            // Read as UTF-16 this is 0x0409, the language list.
            0 => Some("\u{0409}"),
            1 => Some(self.manufacturer),
            2 => Some(self.product),
            3 => Some(self.serial_number),
            4 | 5 => Some("DFU"),
            _ if index == self.vendor_error_index() => Some(self.vendor_error),
            _ => self.alternate(index.checked_sub(Self::FIRST_ALTERNATE_STRING)?),
        }
    }

    fn put_configuration(&self, prefix: &mut Prefix<'_>) {
        let total = u16::try_from(self.configuration_len()).unwrap_or(u16::MAX);
        let [t0, t1] = total.to_le_bytes();
        // Self-powered with 100 mA from the bus, as ST's class code declares it.
        prefix.put(&[9, CONFIGURATION, t0, t1, 1, 1, 4, 0xC0, 50]);
        self.put_interfaces(prefix);
    }

    fn put_interfaces(&self, prefix: &mut Prefix<'_>) {
        match self.mode {
            Mode::Runtime => prefix.put(&[9, INTERFACE, self.interface, 0, 0, 0xFE, 0x01, 0x01, 5]),
            Mode::Dfu => {
                for (number, _) in (0..=u8::MAX).zip(self.alternates) {
                    let name = Self::FIRST_ALTERNATE_STRING.saturating_add(number);
                    prefix.put(&[9, INTERFACE, self.interface, number, 0, 0xFE, 0x01, 0x02, name]);
                }
            }
        }
        prefix.put(self.functional.wire(&mut [0; 9]));
    }
}

fn put_string(prefix: &mut Prefix<'_>, text: &str) {
    let units = text.encode_utf16().take(126);
    let length = u8::try_from(2 + 2 * units.clone().count()).unwrap_or(254);
    prefix.put(&[length, STRING]);
    for unit in units {
        prefix.put(&unit.to_le_bytes());
    }
}

/// Keeps the first bytes of what is put and counts the rest: hosts often ask for less than a whole descriptor.
struct Prefix<'o> {
    out: &'o mut [u8],
    total: usize,
}

impl<'o> Prefix<'o> {
    fn new(out: &'o mut [u8]) -> Self {
        Self { out, total: 0 }
    }

    fn fill(out: &'o mut [u8], put: impl FnOnce(&mut Prefix<'_>)) -> Result<&'o [u8], BufferTooSmall> {
        let mut prefix = Prefix::new(&mut *out);
        put(&mut prefix);
        let needed = prefix.total;
        let available = out.len();
        out.get(..needed).ok_or(BufferTooSmall { needed, available })
    }

    fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(target) = self.out.get_mut(self.total) {
                *target = *byte;
            }
            self.total = self.total.saturating_add(1);
        }
    }

    fn written(&self) -> usize {
        self.total.min(self.out.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    #[test]
    fn photon_descriptors_have_the_bytes_of_the_device() {
        let photon = Description::photon("33002c000447343339373536");
        assert_eq!(photon.device_descriptor(), hex!("12 01 0002 00 00 00 40  042B 06D0 5002  01 02 03 01"));
        let mut out = [0; 64];
        assert_eq!(
            photon.configuration_descriptor(&mut out).unwrap(),
            hex!(
                "09 02 2400 01 01 04 C0 32  09 04 00 00 00 FE 01 02 06  09 04 00 01 00 FE 01 02 07
                  09 21 0B FF00 0010 1A01"
            )
        );
    }

    #[test]
    fn strings_are_utf_16_and_the_list_ends() {
        let photon = Description::photon("7");
        let mut out = [0; 254];
        assert_eq!(photon.string_descriptor(0, &mut out).unwrap(), Some(&hex!("04 03 0904")[..]));
        assert_eq!(photon.string_descriptor(3, &mut out).unwrap(), Some(&hex!("04 03 3700")[..]));
        let dct = photon.string_descriptor(7, &mut out).unwrap().unwrap();
        let mut text = [0; 80];
        assert_eq!(super::super::decode_string(dct, &mut text), Ok("@DCT Flash   /0x00000000/01*016Kg"));
        assert_eq!(photon.string_descriptor(8, &mut out), Ok(None));
    }

    #[test]
    fn run_time_and_dfu_1_0_have_their_own_forms() {
        let functional = FunctionalDescriptor {
            dfu_version: FunctionalDescriptor::VERSION_1_0,
            ..FunctionalDescriptor::PHOTON
        };
        let runtime =
            Description { mode: Mode::Runtime, interface: 2, functional, ..Description::photon("7") };
        let mut out = [0; 64];
        let bytes = runtime.configuration_descriptor(&mut out).unwrap();
        assert_eq!(bytes, hex!("09 02 1900 01 01 04 C0 32  09 04 02 00 00 FE 01 01 05  07 21 0B FF00 0010"));
        assert_eq!(bytes.len(), runtime.configuration_len());
        let bytes = bytes[9..].to_vec();
        assert_eq!(runtime.interface_descriptors(&mut out).unwrap(), bytes);
        let found = super::super::Configuration::parse(runtime.configuration_descriptor(&mut out).unwrap());
        let found = found.unwrap().alternates().next().unwrap();
        assert_eq!((found.interface, found.mode), (2, Mode::Runtime));
    }

    #[test]
    fn a_core_sends_strings_of_98_bytes() {
        let mut out = [0; 254];
        for index in [6, 7] {
            assert_eq!(Description::core("7").string_descriptor(index, &mut out).unwrap().unwrap().len(), 98);
        }
        assert_eq!(Description::core("7").string_descriptor(0xEE, &mut out), Ok(None));
    }

    #[test]
    fn extra_strings_are_there_when_asked_for() {
        let photon = Description { vendor_error: "locked", ..Description::photon("7") };
        let mut out = [0; 254];
        assert_eq!(photon.string_descriptor(0xEE, &mut out).unwrap().unwrap().len(), 18);
        let index = photon.vendor_error_index();
        let bytes = photon.string_descriptor(index, &mut out).unwrap().unwrap();
        assert_eq!((index, bytes), (8, &hex!("0E 03 6C00 6F00 6300 6B00 6500 6400")[..]));
        assert_eq!(Commands::ALL.reply(), ([0x00, 0x21, 0x41, 0x92], 4));
        assert_eq!(Commands::NONE.reply().1, 3);
    }

    #[test]
    fn small_buffers_are_an_error_or_a_prefix() {
        let photon = Description::photon("7");
        let error = BufferTooSmall { needed: 36, available: 35 };
        assert_eq!(photon.configuration_descriptor(&mut [0; 35]), Err(error));
        let mut head = [0; 4];
        assert_eq!(photon.configuration_prefix(&mut head), 4);
        assert_eq!(head, hex!("09 02 2400"));
    }
}
