//! What known devices do differently from the standard, as values in one table.
//!
//! [`Quirks::of`] looks a device up by its ids; a caller may change any field afterwards. What is harmless to every
//! device needs no entry, since the host machines always do it: they judge dfuIDLE by bState alone (a Photon keeps an old
//! bStatus there), send CLRSTATUS to unknown states (a Photon's 15), end uploads by the planned length (a Photon sends no
//! short frame), take dfuDNLOAD-IDLE, dfuMANIFEST, silence or a disconnect as an answer to leaving, wait for the times
//! that a Photon announces the wrong way round, and never use a block of more than wTransferSize bytes.

use core::time::Duration;

use crate::{descriptor::FunctionalDescriptor, layout::ParseOptions};

/// How one kind of device differs. [`Quirks::NONE`] is the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "meant for struct update from a constant")]
pub struct Quirks {
    /// The erase command leaves the address pointer at the erased address, so no SET_ADDRESS is needed before the page
    /// is written.
    pub erase_sets_pointer: bool,
    /// SET_ADDRESS before every block, which is always block 2, as dfu-util does. Without it blocks are numbered on.
    pub address_every_block: bool,
    /// What erased memory reads as, where that is known. Blocks that consist of it are not written after an erase.
    pub erased_byte: Option<u8>,
    /// One bit an alternate setting (bit 0 for alternate 0): its layout string says erasable, but erasing does nothing and
    /// writing needs none.
    pub erase_is_void: u8,
    /// The device takes the mass erase command, says OK and erases nothing.
    pub mass_erase_is_void: bool,
    /// How often GETSTATUS may stall or time out while the device is busy, before it counts. Particle's bootloaders need
    /// 0: theirs stall exactly once when flash work failed, and say OK afterwards.
    pub busy_retries: u32,
    /// bwPollTimeout is bogus: wait this long instead.
    pub poll_timeout: Option<Duration>,
    /// The device answers GETSTATUS only when its work is done, so asking again at once floods nothing:
    /// [`Policy::busy_floor`](crate::host::Policy::busy_floor) does not count.
    pub holds_status: bool,
    /// A mass erase that announces exactly 100 ms takes this long.
    pub mass_erase: Option<Duration>,
    /// The device says dfuDNBUSY for ever after an erase that is done: two CLRSTATUS free it.
    pub stuck_after_erase: bool,
    /// bcdDFUVersion is wrong: this is the real one.
    pub dfu_version: Option<u16>,
    /// bInterfaceProtocol is wrong.
    pub protocol: Protocol,
    /// Images are filled up with 0xFF to a multiple of this many bytes; 1 for none.
    pub write_multiple: u16,
    /// How to correct the memory-layout strings.
    pub layout: LayoutFix,
    /// The serial number string is UTF-8 instead of UTF-16.
    pub serial_is_utf8: bool,
}

/// Which wrong values of bInterfaceProtocol mean DFU mode. Protocol 0 with bcdDFUVersion 0x011A always does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Protocol {
    /// None: 1 is run-time, 2 is DFU mode.
    Standard,
    /// 1 means DFU mode.
    OneIsDfuMode,
    /// 0 means DFU mode if the configuration has a single interface.
    ZeroIsDfuModeIfSingle,
}

/// What is wrong with the memory-layout strings of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LayoutFix {
    /// Nothing.
    None,
    /// Pages are 1 KiB and their number is in the serial number: see [`gigadevice_layout`].
    GigaDevice,
    /// The letter of "Device Feature" is wrong on some: see
    /// [`ParseOptions::device_feature`](crate::layout::ParseOptions::device_feature).
    DeviceFeature,
}

impl Quirks {
    /// A device by the book.
    pub const NONE: Self = Self {
        erase_sets_pointer: false,
        address_every_block: false,
        erased_byte: None,
        erase_is_void: 0,
        mass_erase_is_void: false,
        busy_retries: 0,
        poll_timeout: None,
        holds_status: false,
        mass_erase: None,
        stuck_after_erase: false,
        dfu_version: None,
        protocol: Protocol::Standard,
        write_multiple: 1,
        layout: LayoutFix::None,
        serial_is_utf8: false,
    };

    /// Photon, P1, Electron and Duo. Alternate 1 is the DCT, which is written without erasing.
    pub const PHOTON: Self = Self {
        erase_sets_pointer: true,
        erased_byte: Some(0xFF),
        erase_is_void: 0b10,
        holds_status: true,
        ..Self::NONE
    };

    /// Core: internal flash and SPI flash, both with real pages; programs half-words.
    pub const CORE: Self = Self {
        erase_sets_pointer: true,
        erased_byte: Some(0xFF),
        mass_erase_is_void: true,
        write_multiple: 2,
        ..Self::NONE
    };

    /// Argon, Boron, Xenon and other nRF52840 boards of Particle.
    pub const NRF52840: Self = Self { erased_byte: Some(0xFF), ..Self::NONE };

    /// ROMs of STM32, which all have the same ids: what the F405 and the L4 need and no other minds. Erased memory reads
    /// as 0 on L0 and L1.
    pub const STM32: Self = Self {
        busy_retries: 3,
        mass_erase: Some(Duration::from_secs(35)),
        layout: LayoutFix::DeviceFeature,
        ..Self::NONE
    };

    /// ROM of the STM32H743 revision V. Choose it by hand: the ids do not tell, and the C5 stalls what the H7 needs.
    pub const STM32H743: Self = Self { stuck_after_erase: true, ..Self::STM32 };

    /// ROM of GigaDevice's GD32.
    pub const GD32: Self = Self { layout: LayoutFix::GigaDevice, serial_is_utf8: true, ..Self::NONE };

    const FIVE_MS: Self = Self { poll_timeout: Some(Duration::from_millis(5)), ..Self::NONE };

    /// The quirks of a device by its ids: the first entry of [`TABLE`] that fits, else [`Quirks::NONE`].
    ///
    /// ```
    /// use spark_dfu::quirk::Quirks;
    /// assert_eq!(Quirks::of(0x2B04, 0xD006, 0x0250), Quirks::PHOTON);
    /// assert_eq!(Quirks::of(0x1234, 0x5678, 0), Quirks::NONE);
    /// ```
    #[must_use]
    pub fn of(id_vendor: u16, id_product: u16, bcd_device: u16) -> Self {
        TABLE
            .iter()
            .find(|entry| entry.fits(id_vendor, id_product, bcd_device))
            .map_or(Self::NONE, |e| e.quirks)
    }

    /// How the device's memory-layout strings are read.
    #[must_use]
    pub const fn layout_options(&self) -> ParseOptions {
        ParseOptions { device_feature: matches!(self.layout, LayoutFix::DeviceFeature), ..ParseOptions::WILD }
    }

    /// Whether erasing is void on an alternate setting.
    #[must_use]
    pub const fn erase_is_void(&self, alternate: u8) -> bool {
        alternate < 8 && self.erase_is_void >> alternate & 1 != 0
    }

    /// bcdDFUVersion as it should be.
    #[must_use]
    pub fn dfu_version_of(&self, functional: &FunctionalDescriptor) -> u16 {
        self.dfu_version.unwrap_or(functional.dfu_version)
    }
}

impl Default for Quirks {
    fn default() -> Self {
        Self::NONE
    }
}

/// Devices that one row of [`TABLE`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a row of a table")]
pub struct Entry {
    /// What people call it.
    pub name: &'static str,
    /// `idVendor`.
    pub id_vendor: u16,
    /// `idProduct`, first and last.
    pub id_product: (u16, u16),
    /// `bcdDevice`; `None` for any.
    pub bcd_device: Option<u16>,
    /// How they differ.
    pub quirks: Quirks,
    /// Where that is known from.
    pub source: &'static str,
}

impl Entry {
    const fn new(name: &'static str, ids: (u16, u16, u16), quirks: Quirks, source: &'static str) -> Self {
        Self { name, id_vendor: ids.0, id_product: (ids.1, ids.2), bcd_device: None, quirks, source }
    }

    const fn with_bcd_device(self, bcd_device: u16) -> Self {
        Self { bcd_device: Some(bcd_device), ..self }
    }

    fn fits(&self, id_vendor: u16, id_product: u16, bcd_device: u16) -> bool {
        self.id_vendor == id_vendor
            && (self.id_product.0..=self.id_product.1).contains(&id_product)
            && self.bcd_device.is_none_or(|wanted| wanted == bcd_device)
    }
}

const PARTICLE: &str = "device-os@v0.4.9..v2.3.1: platform/MCU/STM32F2xx/STM32_USB_Device_Driver";
const DFU_UTIL: &str = "dfu-util@0.11: src/quirks.c";

/// All known devices; the first entry that fits counts.
#[rustfmt::skip]
pub const TABLE: &[Entry] = &[
    Entry::new("Photon", (0x2B04, 0xD006, 0xD006), Quirks::PHOTON, PARTICLE),
    Entry::new("P1", (0x2B04, 0xD008, 0xD008), Quirks::PHOTON, PARTICLE),
    Entry::new("Electron", (0x2B04, 0xD009, 0xD00A), Quirks::PHOTON, PARTICLE),
    Entry::new("Duo", (0x2B04, 0xD058, 0xD058), Quirks::PHOTON, PARTICLE),
    Entry::new("Particle Gen 3", (0x2B04, 0xD00C, 0xD01A), Quirks::NRF52840,
        "device-os@v2.3.1: bootloader/src/nRF52840/usbd_dfu.cpp"),
    Entry::new("Core", (0x1D50, 0x607F, 0x607F), Quirks::CORE,
        "device-os@v0.5.3: bootloader/src/core; particle-cli@v1.20.1: writePadding 2"),
    Entry::new("STM32 ROM", (0x0483, 0xDF11, 0xDF11), Quirks::STM32,
        "dfu-util@0.11: src/dfuse.c (F405 since 0.9, L4 since 0.10); fwupd PR 1944 (F745)"),
    Entry::new("GD32 ROM", (0x28E9, 0x0189, 0x0189), Quirks::GD32, DFU_UTIL),
    Entry::new("NXP LPC", (0x1FC9, 0x000C, 0x000C),
        Quirks { protocol: Protocol::OneIsDfuMode, ..Quirks::NONE }, "dfu-util@0.11: src/dfu_util.c"),
    Entry::new("Jabra", (0x0B0E, 0, 0xFFFF),
        Quirks { protocol: Protocol::ZeroIsDfuModeIfSingle, ..Quirks::NONE }, "dfu-util@0.11: src/dfu_util.c"),
    Entry::new("Leaflabs Maple", (0x1EAF, 0x0003, 0x0003),
        Quirks { dfu_version: Some(0x0110), ..Quirks::NONE }, DFU_UTIL).with_bcd_device(0x0200),
    Entry::new("Openmoko FreeRunner", (0x1D50, 0x5117, 0x5126), Quirks::FIVE_MS, DFU_UTIL),
    Entry::new("FIC FreeRunner", (0x1457, 0x5117, 0x5126), Quirks::FIVE_MS, DFU_UTIL),
    Entry::new("OpenPCD", (0x16C0, 0x076B, 0x076C), Quirks::FIVE_MS, DFU_UTIL),
    Entry::new("OpenPICC", (0x16C0, 0x0762, 0x0762), Quirks::FIVE_MS, DFU_UTIL),
    Entry::new("M-Audio Transit", (0x0763, 0x2806, 0x2806), Quirks::FIVE_MS, DFU_UTIL),
    Entry::new("Siemens AG", (0x0908, 0x02C4, 0x02C5), Quirks::FIVE_MS, DFU_UTIL).with_bcd_device(0),
];

/// The memory layout of a GD32 by its serial number, for alternate 0: `3??J`, whose third character counts the 1 KiB
/// pages. `None` if the serial number is of another form; the device's own string is all there is then.
///
/// ```
/// use spark_dfu::quirk::gigadevice_layout;
/// assert_eq!(gigadevice_layout("3CBJ"), Some("@Internal Flash  /0x08000000/128*001Kg"));
/// assert_eq!(gigadevice_layout("FFFF"), None);
/// ```
///
/// # Source
/// dfu-util@0.11: src/quirks.c.
#[must_use]
pub fn gigadevice_layout(serial_number: &str) -> Option<&'static str> {
    let &[b'3', _, size, b'J'] = serial_number.as_bytes() else { return None };
    Some(match size {
        b'B' => "@Internal Flash  /0x08000000/128*001Kg",
        b'8' => "@Internal Flash  /0x08000000/64*001Kg",
        b'6' => "@Internal Flash  /0x08000000/32*001Kg",
        b'4' => "@Internal Flash  /0x08000000/16*001Kg",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::MemoryLayout;

    #[test]
    fn every_entry_is_found_by_its_own_ids_and_names_its_source() {
        for entry in TABLE {
            let bcd_device = entry.bcd_device.unwrap_or(0x1234);
            for id_product in [entry.id_product.0, entry.id_product.1] {
                assert_eq!(
                    Quirks::of(entry.id_vendor, id_product, bcd_device),
                    entry.quirks,
                    "{}",
                    entry.name
                );
            }
            assert!(entry.source.contains('@') && entry.id_product.0 <= entry.id_product.1, "{}", entry.name);
        }
    }

    #[test]
    fn device_feature_of_an_stm32_can_be_written_whatever_its_letter() {
        let text = b"@Device Feature/0xFFFF0000/01*004 a";
        let access = |quirks: Quirks| {
            let layout = MemoryLayout::parse_with(text, quirks.layout_options()).unwrap();
            layout.segment_at(0xFFFF_0000).unwrap().access
        };
        assert!(access(Quirks::STM32).writeable() && !access(Quirks::NONE).writeable());
    }

    #[test]
    fn bcd_device_counts_where_it_is_given() {
        assert_eq!(Quirks::of(0x1EAF, 0x0003, 0x0200).dfu_version, Some(0x0110));
        assert_eq!(Quirks::of(0x1EAF, 0x0003, 0x0201), Quirks::NONE);
        assert_eq!(Quirks::of(0x0908, 0x02C4, 1), Quirks::NONE);
    }

    #[test]
    fn erasing_is_void_on_the_alternates_of_the_mask_only() {
        assert!(!Quirks::PHOTON.erase_is_void(0) && Quirks::PHOTON.erase_is_void(1));
        assert!(!Quirks::PHOTON.erase_is_void(2) && !Quirks::PHOTON.erase_is_void(8));
    }

    #[test]
    fn gigadevice_layouts_have_the_pages_of_the_serial_number() {
        for (serial, pages) in [("3CBJ", 128), ("3x8J", 64), ("3x6J", 32), ("3x4J", 16)] {
            let layout = MemoryLayout::parse(gigadevice_layout(serial).unwrap().as_bytes()).unwrap();
            let segment = layout.segments().next().unwrap();
            assert_eq!((segment.pages, segment.page_size), (pages, 1024));
        }
        for serial in ["", "3xBK", "4xBJ", "3xBJJ", "3x5J", "3\u{e4}J"] {
            assert_eq!(gigadevice_layout(serial), None);
        }
    }
}
