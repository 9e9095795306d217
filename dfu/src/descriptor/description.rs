//! The descriptors a device sends, generated from one value.

use super::{CONFIGURATION, DEVICE, FunctionalDescriptor, INTERFACE, STRING};
use crate::error::BufferTooSmall;

/// Everything a DFU-mode device tells about itself: one configuration, one interface, one alternate setting a memory.
///
/// String indexes: 1 manufacturer, 2 product, 3 serial number, 4 configuration, 5 interface, and
/// [`FIRST_ALTERNATE_STRING`](Self::FIRST_ALTERNATE_STRING) + n for alternate n.
///
/// # Source
/// USB 2.0, section 9.6; index scheme of device-os@v0.5.3: platform/MCU/STM32F2xx/STM32_USB_Device_Driver.
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
    /// One memory-layout string an alternate setting; at least one, at most 249.
    pub alternates: &'a [&'a str],
    /// The functional descriptor that all alternates share.
    pub functional: FunctionalDescriptor,
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

    /// A Photon in DFU mode, 2b04:d006.
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
            alternates: &Self::PHOTON_ALTERNATES,
            functional: FunctionalDescriptor::PHOTON,
        }
    }

    /// The layout string of an alternate setting.
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
        9 + 9 * self.alternates.len() + FunctionalDescriptor::ENCODED_LEN
    }

    /// The configuration descriptor, all alternates, and the functional descriptor after the last.
    ///
    /// # Errors
    /// [`BufferTooSmall`]; [`Self::configuration_len`] tells the size.
    pub fn configuration_descriptor<'o>(&self, out: &'o mut [u8]) -> Result<&'o [u8], BufferTooSmall> {
        Prefix::fill(out, |prefix| self.put_configuration(prefix))
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
        match self.string(index) {
            Some(text) => Prefix::fill(out, |prefix| put_string(prefix, text)).map(Some),
            None => Ok(None),
        }
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
        put_string(&mut prefix, self.string(index)?);
        Some(prefix.written())
    }

    fn string(&self, index: u8) -> Option<&'a str> {
        match index {
            // Read as UTF-16 this is 0x0409, the language list.
            0 => Some("\u{0409}"),
            1 => Some(self.manufacturer),
            2 => Some(self.product),
            3 => Some(self.serial_number),
            4 | 5 => Some("DFU"),
            _ => self.alternate(index.checked_sub(Self::FIRST_ALTERNATE_STRING)?),
        }
    }

    fn put_configuration(&self, prefix: &mut Prefix<'_>) {
        let total = u16::try_from(self.configuration_len()).unwrap_or(u16::MAX);
        let [t0, t1] = total.to_le_bytes();
        // Self-powered with 100 mA from the bus, as ST's class code declares it.
        prefix.put(&[9, CONFIGURATION, t0, t1, 1, 1, 4, 0xC0, 50]);
        for (number, _) in (0..=u8::MAX).zip(self.alternates) {
            let name = Self::FIRST_ALTERNATE_STRING.saturating_add(number);
            prefix.put(&[9, INTERFACE, 0, number, 0, 0xFE, 0x01, 0x02, name]);
        }
        prefix.put(&self.functional.to_bytes());
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
    fn small_buffers_are_an_error_or_a_prefix() {
        let photon = Description::photon("7");
        let error = BufferTooSmall { needed: 36, available: 35 };
        assert_eq!(photon.configuration_descriptor(&mut [0; 35]), Err(error));
        let mut head = [0; 4];
        assert_eq!(photon.configuration_prefix(&mut head), 4);
        assert_eq!(head, hex!("09 02 2400"));
    }
}
