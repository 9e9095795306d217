//! Where host tools find keys, flags and firmware over DFU, per platform.

use crate::entry::Entry;
use crate::field::{Field, FirmwareVersion};

/// A named region of a device's DFU address space.
///
/// In the DCT alternate setting (1) of Photon, P1, Duo and Electron an address is a byte of the application
/// section of the current sector, never of the raw flash. Only a write's start address is checked by the device:
/// use [`check_write`](Self::check_write) first, an oversize key overwrites the field behind it.
///
/// ```
/// use spark_dct::segment::Platform;
/// let key = Platform::Photon.segment("tcpServerKey").ok_or("no such segment")?;
/// assert_eq!((key.alternate, key.address, key.size), (1, 2082, Some(512)));
/// # Ok::<(), &'static str>(())
/// ```
///
/// # Source
/// `particle-cli` device tables of v1.8.0, v1.21.0, v1.29.0, v2.0.0 and current, loaded and compared; see
/// [`HostTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Segment {
    /// Name as in the host tool's table, or that of the [`Entry`].
    pub name: &'static str,
    /// Alternate setting.
    pub alternate: u8,
    /// First address.
    pub address: u32,
    /// Bytes; `None` where the table gives none.
    pub size: Option<u32>,
    /// Where the server address block starts, relative to the segment (server keys only).
    pub server_address_at: Option<u32>,
    /// Every write has to be a multiple of this many bytes, filled up with 00: 2 for the Core, else 1. The host tool
    /// calls it `writePadding`; before v1.8.0 it padded files for every device, in place.
    pub write_padding: u8,
    /// Whether an erase through this segment does nothing and always succeeds: the configuration table of Photon, P1,
    /// Electron and Duo. A host need not send one, and must not take its success for anything.
    pub erase_is_void: bool,
}

/// Alternate setting of the configuration table; on the Core, of the external flash.
pub const DCT_ALTERNATE: u8 = 1;
/// Name string of that alternate setting on Photon, P1, Electron (three spaces in it).
pub const DCT_LAYOUT: &str = "@DCT Flash   /0x00000000/01*016Kg";
/// Addresses from here on are refused there. Only the **start** address of a block is checked.
pub const DCT_ADDRESS_END: u32 = 0x4000;
/// Transfer size of these devices: every block is one write of the whole table, that is one change of sectors.
pub const DCT_TRANSFER_SIZE: usize = 4096;

/// A write that fits, ready for a DFU planner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PlannedWrite {
    /// Alternate setting.
    pub alternate: u8,
    /// First address.
    pub address: u32,
    /// Bytes of data.
    pub len: usize,
    /// Bytes to send: the data, and 00 behind it.
    pub padded_len: usize,
    /// Whether the host has to erase first.
    pub erase: bool,
    /// Whether the host has to read back to know that it was stored: there is no verification behind the device's "OK".
    pub read_back: bool,
}

/// Algorithm of the keys in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum KeyAlgorithm {
    /// RSA, for TCP.
    Rsa,
    /// EC P-256, for UDP.
    Ec,
}

impl Segment {
    /// Algorithm of the DER key that the segment holds, `None` where it holds something else.
    #[must_use]
    pub fn key_algorithm(&self) -> Option<KeyAlgorithm> {
        match self.name {
            "tcpServerKey" | "tcpPrivateKey" | "serverKey" | "privateKey" => Some(KeyAlgorithm::Rsa),
            "udpServerKey" | "udpPrivateKey" => Some(KeyAlgorithm::Ec),
            _ => None,
        }
    }

    /// Whether `length` bytes fit.
    ///
    /// # Errors
    /// [`SegmentError::TooLong`].
    pub fn check_write(&self, length: usize) -> Result<(), SegmentError> {
        match self.size {
            Some(size) if usize::try_from(size).is_ok_and(|size| length > size) => {
                Err(SegmentError::TooLong { segment: self.name, length, size })
            }
            _ => Ok(()),
        }
    }

    /// Where a field is on a platform, `None` where DFU does not reach it: everything but the two keys on the Core.
    ///
    /// A field that the host tool has a segment for comes with that segment's name and size, so that the device's key has
    /// 612 bytes and the server key its region of 512; other fields come under their own name.
    ///
    /// ```
    /// use spark_dct::Field;
    /// use spark_dct::segment::{Platform, Segment};
    /// let claimed = Segment::for_field(Platform::Photon, Field::CLAIMED).ok_or("not reachable")?;
    /// assert_eq!((claimed.alternate, claimed.address, claimed.size), (1, 1825, Some(1)));
    /// let core = Segment::for_field(Platform::Core, Field::DEVICE_PRIVATE_KEY).ok_or("not reachable")?;
    /// assert_eq!((core.address, core.write_padding, core.erase_is_void), (0x2000, 2, false));
    /// # Ok::<(), &'static str>(())
    /// ```
    #[must_use]
    pub fn for_field(platform: Platform, field: Field) -> Option<Segment> {
        let named = match field {
            Field::SERVER_PUBLIC_KEY => platform.segment("tcpServerKey"),
            Field::DEVICE_PRIVATE_KEY => platform.segment("tcpPrivateKey"),
            Field::ALT_SERVER_PUBLIC_KEY => platform.segment("udpServerKey"),
            Field::ALT_DEVICE_PRIVATE_KEY => platform.segment("udpPrivateKey"),
            Field::CLOUD_TRANSPORT => platform.segment("transport"),
            Field::OTA_UPDATE_FLAG => platform.segment("otaFlag"),
            _ => None,
        };
        match named {
            None if platform != Platform::Core => Some(Segment {
                name: field.name(),
                alternate: DCT_ALTERNATE,
                address: to_u32(field.offset()),
                size: Some(to_u32(field.len())),
                server_address_at: None,
                write_padding: 1,
                erase_is_void: platform.erase_is_void(DCT_ALTERNATE),
            }),
            named => named,
        }
    }

    /// Where a part of a field is, as [`for_field`](Self::for_field): `server_public_key.address` is at 2466, on the
    /// Core at 1180 (hexadecimal).
    #[must_use]
    pub fn for_entry(platform: Platform, entry: Entry) -> Option<Segment> {
        let whole = Segment::for_field(platform, entry.field())?;
        if entry.part_name().is_none() {
            return Some(whole);
        }
        let at = to_u32(entry.offset() - entry.field().offset());
        Some(Segment {
            name: entry.name(),
            address: whole.address + at,
            size: Some(to_u32(entry.len())),
            server_address_at: None,
            ..whole
        })
    }

    /// Where all bytes of an entry are in the configuration table, under the entry's own name; `None` on the Core, which has
    /// none. The segments of the host tool are shorter than two fields: 612 of 1216 bytes of the device's key, 512 of 768 of
    /// the server's.
    ///
    /// ```
    /// use spark_dct::Entry;
    /// use spark_dct::segment::{Platform, Segment};
    /// let key = Entry::by_name("server_public_key").ok_or("no such entry")?;
    /// let segment = Segment::in_table(Platform::Photon, key).ok_or("no table")?;
    /// assert_eq!((segment.alternate, segment.address, segment.size), (1, 2082, Some(768)));
    /// # Ok::<(), &'static str>(())
    /// ```
    #[must_use]
    pub fn in_table(platform: Platform, entry: Entry) -> Option<Segment> {
        (platform != Platform::Core).then(|| Segment {
            name: entry.name(),
            alternate: DCT_ALTERNATE,
            address: to_u32(entry.offset()),
            size: Some(to_u32(entry.len())),
            server_address_at: None,
            write_padding: 1,
            erase_is_void: platform.erase_is_void(DCT_ALTERNATE),
        })
    }

    /// The entry of that name, if that is its place, or the field at the address.
    fn entry(&self) -> Option<Entry> {
        let at = usize::try_from(self.address).ok()?;
        let named = Entry::by_name(self.name).filter(|entry| entry.offset() == at);
        named.or_else(|| Field::at(at).map(Entry::of))
    }

    /// Checks a write and says how to do it. `firmware` is the release on the device, where it is known: a field, or a part of one,
    /// that it does not have is refused, since the bytes there belong to something else or to nobody.
    ///
    /// # Errors
    /// [`SegmentError::TooLong`] with the padding counted; [`SegmentError::NotInFirmware`].
    pub fn plan_write(
        &self,
        length: usize,
        firmware: Option<FirmwareVersion>,
    ) -> Result<PlannedWrite, SegmentError> {
        let padding = usize::from(self.write_padding.max(1));
        let padded_len = length.next_multiple_of(padding);
        self.check_write(padded_len)?;
        // on the Core the same alternate setting is something else, and its padding tells
        if let (Some(version), DCT_ALTERNATE, 1) = (firmware, self.alternate, self.write_padding)
            && let Some(entry) = self.entry()
            && !entry.exists_in(version)
        {
            let since = entry.next_in(version);
            return Err(SegmentError::NotInFirmware { field: entry.name(), since, version });
        }
        Ok(PlannedWrite {
            alternate: self.alternate,
            address: self.address,
            len: length,
            padded_len,
            erase: !self.erase_is_void,
            read_back: self.erase_is_void,
        })
    }
}

fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Why a write to a segment is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SegmentError {
    /// The data would run over the field behind the segment.
    #[error("{length} bytes do not fit into segment {segment} of {size} bytes; check the file's form")]
    TooLong {
        /// Name of the segment.
        segment: &'static str,
        /// Bytes to write.
        length: usize,
        /// Bytes that fit.
        size: u32,
    },
    /// The firmware does not have the field.
    #[error(
        "firmware {version} does not have field {field}, which comes with {since}; update the device first"
    )]
    NotInFirmware {
        /// Name of the field.
        field: &'static str,
        /// First release from that one on that has it.
        since: FirmwareVersion,
        /// Release on the device.
        version: FirmwareVersion,
    },
}

/// A platform, as far as its DFU address space is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Platform {
    /// 1d50:607f
    Core,
    /// 2b04:d006
    Photon,
    /// 2b04:d008
    P1,
    /// 2b04:d00a
    Electron,
    /// 2b04:d058, from host tool tables only
    Duo,
    /// 2b04:d00c Argon, d00d Boron, d00e Xenon, d016 to d018 their SoMs
    Gen3,
}

impl Platform {
    /// The platform with that USB id in DFU mode.
    #[must_use]
    pub const fn from_usb_id(id_vendor: u16, id_product: u16) -> Option<Self> {
        match (id_vendor, id_product) {
            (0x1D50, 0x607F) => Some(Platform::Core),
            (0x2B04, 0xD006) => Some(Platform::Photon),
            (0x2B04, 0xD008) => Some(Platform::P1),
            (0x2B04, 0xD00A) => Some(Platform::Electron),
            (0x2B04, 0xD058) => Some(Platform::Duo),
            (0x2B04, 0xD00C..=0xD00E | 0xD016..=0xD018) => Some(Platform::Gen3),
            _ => None,
        }
    }

    /// Whether an alternate setting is the configuration table: addresses there are bytes of the application section, and
    /// writes have to end with its fields, see [`Generation::check_write`](crate::wiced::Generation::check_write).
    #[must_use]
    pub const fn is_table(self, alternate: u8) -> bool {
        alternate == DCT_ALTERNATE && !matches!(self, Platform::Core)
    }

    /// Whether erasing in an alternate setting does nothing and succeeds.
    const fn erase_is_void(self, alternate: u8) -> bool {
        self.is_table(alternate)
    }

    /// All segments of the platform, as the newest table that knows each has it.
    #[must_use]
    pub const fn segments(self) -> &'static [Segment] {
        match self {
            Platform::Core => CORE,
            Platform::Photon | Platform::P1 => PHOTON,
            Platform::Electron => ELECTRON,
            Platform::Duo => DUO,
            Platform::Gen3 => GEN3,
        }
    }

    /// The segment of that name.
    #[must_use]
    pub fn segment(self, name: &str) -> Option<Segment> {
        self.segments().iter().copied().find(|segment| segment.name == name)
    }
}

/// A release of the host tool whose table differs from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(non_camel_case_types, reason = "the variants are release numbers")]
#[non_exhaustive]
pub enum HostTable {
    /// v1.8.0: `serverKey` and `privateKey`, 420 bytes for the server key, Electron's application at 08020000.
    V1_8_0,
    /// v1.21.0 and v1.29.0: keys of both protocols, server key of 512 bytes.
    V1_21_0,
    /// v2.0.0: Gen 3, update region and flag.
    V2_0_0,
    /// Today: only the keys, the same for all later generations.
    Current,
}

impl HostTable {
    /// The segments that this release of the host tool has for a platform; none where it does not know the platform.
    pub fn segments(self, platform: Platform) -> impl Iterator<Item = Segment> {
        let list = match (self, platform) {
            (HostTable::V1_8_0, Platform::Core) => CORE_V1_8_0,
            (HostTable::V1_8_0, Platform::Photon | Platform::P1) => PHOTON_V1_8_0,
            (HostTable::V1_8_0, Platform::Electron) => ELECTRON_V1_8_0,
            (HostTable::V1_8_0, _) | (HostTable::V1_21_0, Platform::Gen3) => &[],
            // the present table has one list for them all
            (HostTable::Current, Platform::Duo) => PHOTON,
            (_, platform) => platform.segments(),
        };
        list.iter().copied().filter_map(move |segment| match self {
            HostTable::V1_21_0 if matches!(segment.name, "otaRegion" | "otaFlag") => None,
            HostTable::V1_21_0 if segment.name == "userFirmware" => Some(Segment { size: None, ..segment }),
            HostTable::Current if !segment.name.ends_with("Key") => None,
            _ => Some(segment),
        })
    }
}

const fn area(name: &'static str, alternate: u8, address: u32, size: Option<u32>) -> Segment {
    let erase_is_void = alternate == DCT_ALTERNATE;
    Segment { name, alternate, address, size, server_address_at: None, write_padding: 1, erase_is_void }
}

const fn server_key(name: &'static str, address: u32, size: u32, server_address_at: u32) -> Segment {
    Segment { server_address_at: Some(server_address_at), ..area(name, DCT_ALTERNATE, address, Some(size)) }
}

const fn core(segment: Segment) -> Segment {
    Segment { write_padding: 2, erase_is_void: false, ..segment }
}

const TCP_SERVER_KEY: Segment = server_key("tcpServerKey", 2082, 512, 384);
const TCP_PRIVATE_KEY: Segment = area("tcpPrivateKey", 1, 34, Some(612));
const UDP_SERVER_KEY: Segment = server_key("udpServerKey", 3298, 320, 192);
const UDP_PRIVATE_KEY: Segment = area("udpPrivateKey", 1, 3106, Some(192));
const OTA_FLAG: Segment = area("otaFlag", 1, 1753, Some(1));

const CORE: &[Segment] = &[
    core(server_key("tcpServerKey", 0x1000, 2048, 384)),
    core(area("tcpPrivateKey", 1, 0x2000, Some(1024))),
    core(area("factoryReset", 1, 0x2_0000, None)),
    core(area("userFirmware", 0, 0x0800_5000, None)),
];

const CORE_V1_8_0: &[Segment] = &[
    core(area("serverKey", 1, 0x1000, Some(2048))),
    core(area("privateKey", 1, 0x2000, Some(1024))),
    core(area("factoryReset", 1, 0x2_0000, None)),
    core(area("userFirmware", 0, 0x0800_5000, None)),
];

const PHOTON_V1_8_0: &[Segment] = &[
    area("serverKey", 1, 2082, Some(420)),
    area("privateKey", 1, 34, Some(612)),
    area("factoryReset", 0, 0x080E_0000, None),
    area("userFirmware", 0, 0x080A_0000, None),
    area("SystemFirmwareOne", 0, 0x0802_0000, None),
    area("SystemFirmwareTwo", 0, 0x0806_0000, None),
];

const ELECTRON_V1_8_0: &[Segment] = &[
    area("serverKey", 1, 2082, Some(420)),
    area("privateKey", 1, 34, Some(612)),
    area("factoryReset", 0, 0x080E_0000, None),
    area("userFirmware", 0, 0x0802_0000, None),
];

const PHOTON: &[Segment] = &[
    TCP_SERVER_KEY,
    TCP_PRIVATE_KEY,
    UDP_SERVER_KEY,
    UDP_PRIVATE_KEY,
    area("factoryReset", 0, 0x080E_0000, None),
    area("userFirmware", 0, 0x080A_0000, Some(131_072)),
    area("systemFirmwareOne", 0, 0x0802_0000, None),
    area("systemFirmwareTwo", 0, 0x0806_0000, None),
    area("otaRegion", 0, 0x080C_0000, None),
    OTA_FLAG,
];

const ELECTRON: &[Segment] = &[
    TCP_SERVER_KEY,
    TCP_PRIVATE_KEY,
    UDP_SERVER_KEY,
    UDP_PRIVATE_KEY,
    area("transport", 1, 2977, Some(1)),
    area("systemFirmwareOne", 0, 0x0802_0000, None),
    area("systemFirmwareTwo", 0, 0x0804_0000, None),
    area("systemFirmwareThree", 0, 0x0806_0000, None),
    area("otaRegion", 0, 0x080C_0000, None),
    OTA_FLAG,
    area("userFirmware", 0, 0x0808_0000, None),
    area("factoryReset", 0, 0x080A_0000, None),
];

const DUO: &[Segment] = &[
    TCP_SERVER_KEY,
    TCP_PRIVATE_KEY,
    area("factoryReset", 2, 0x14_0000, None),
    area("userFirmware", 0, 0x080C_0000, None),
    area("systemFirmwareOne", 0, 0x0802_0000, None),
    area("systemFirmwareTwo", 0, 0x0804_0000, None),
];

const GEN3: &[Segment] = &[
    TCP_SERVER_KEY,
    TCP_PRIVATE_KEY,
    UDP_SERVER_KEY,
    UDP_PRIVATE_KEY,
    area("userFirmware", 0, 0x000D_4000, None),
    area("systemFirmwareOne", 0, 0x0003_0000, None),
    area("otaRegion", 2, 0x8028_9000, None),
    OTA_FLAG,
    area("radioStack", 0, 0x1000, None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn photon_segments_lie_in_their_fields() {
        for (segment, field) in [
            ("tcpServerKey", Field::SERVER_PUBLIC_KEY),
            ("tcpPrivateKey", Field::DEVICE_PRIVATE_KEY),
            ("udpPrivateKey", Field::ALT_DEVICE_PRIVATE_KEY),
            ("udpServerKey", Field::ALT_SERVER_PUBLIC_KEY),
            ("otaFlag", Field::OTA_UPDATE_FLAG),
        ] {
            let segment = Platform::Photon.segment(segment).unwrap();
            assert_eq!(segment.alternate, 1);
            assert_eq!(segment.address as usize, field.offset());
        }
        let udp = Platform::P1.segment("udpServerKey").unwrap();
        assert_eq!(
            (udp.address + udp.server_address_at.unwrap()) as usize,
            Field::ALT_SERVER_ADDRESS.offset()
        );
    }

    #[test]
    fn pkcs8_key_of_634_bytes_does_not_fit_the_private_key_segment() {
        let segment = Platform::Photon.segment("tcpPrivateKey").unwrap();
        assert_eq!(segment.check_write(612), Ok(()));
        assert_eq!(
            segment.check_write(634),
            Err(SegmentError::TooLong { segment: "tcpPrivateKey", length: 634, size: 612 })
        );
    }

    #[test]
    fn odd_key_is_padded_for_the_core_only() {
        let core = Segment::for_field(Platform::Core, Field::DEVICE_PRIVATE_KEY).unwrap();
        let plan = core.plan_write(609, None).unwrap();
        assert_eq!((plan.address, plan.len, plan.padded_len, plan.erase), (0x2000, 609, 610, true));
        let photon = Segment::for_field(Platform::Photon, Field::DEVICE_PRIVATE_KEY).unwrap();
        let plan = photon.plan_write(609, None).unwrap();
        assert_eq!((plan.address, plan.padded_len, plan.erase, plan.read_back), (34, 609, false, true));
        assert!(core.plan_write(1023, None).is_ok());
        assert!(matches!(core.plan_write(1025, None), Err(SegmentError::TooLong { length: 1026, .. })));
    }

    #[test]
    fn every_field_has_a_place_on_devices_with_a_table() {
        for platform in [Platform::Photon, Platform::P1, Platform::Electron, Platform::Duo, Platform::Gen3] {
            for field in Field::ALL {
                let segment = Segment::for_field(platform, *field).unwrap();
                assert_eq!(
                    (segment.alternate, segment.address as usize),
                    (1, field.offset()),
                    "{}",
                    field.name()
                );
                // the UDP server key's segment spans the address field behind it
                let room = if *field == Field::ALT_SERVER_PUBLIC_KEY { 320 } else { field.len() };
                assert!(segment.size.unwrap() as usize <= room, "{}", field.name());
                assert!(segment.erase_is_void);
            }
        }
        let core: alloc::vec::Vec<_> =
            Field::ALL.iter().filter_map(|field| Segment::for_field(Platform::Core, *field)).collect();
        assert_eq!(core.len(), 2);
    }

    #[test]
    fn every_entry_has_all_of_its_bytes_in_the_table() {
        for platform in [Platform::Photon, Platform::P1, Platform::Electron, Platform::Duo, Platform::Gen3] {
            for entry in Entry::leaves().chain(Field::ALL.iter().copied().map(Entry::from)) {
                let segment = Segment::in_table(platform, entry).unwrap();
                assert_eq!((segment.alternate, segment.address as usize), (1, entry.offset()), "{entry}");
                assert!(segment.check_write(entry.len()).is_ok() && segment.erase_is_void, "{entry}");
                assert!(segment.check_write(entry.len() + 1).is_err(), "{entry}");
            }
        }
        assert_eq!(Segment::in_table(Platform::Core, Field::CLAIMED.into()), None);
    }

    #[test]
    fn address_of_the_server_has_its_place_on_every_platform() {
        let entry = Entry::by_name("server_public_key.address").unwrap();
        let at = |platform| Segment::for_entry(platform, entry).map(|s| (s.alternate, s.address, s.size));
        assert_eq!(at(Platform::Photon), Some((1, 2466, Some(128))));
        assert_eq!(at(Platform::Core), Some((1, 0x1180, Some(128))));
        assert_eq!(Segment::for_entry(Platform::Core, Entry::by_name("ip_config.host").unwrap()), None);
    }

    #[test]
    fn fields_that_the_firmware_does_not_have_are_not_written() {
        let secret = Segment::for_field(Platform::Photon, Field::DEVICE_SECRET).unwrap();
        let old = FirmwareVersion::new(0, 6, 4);
        assert!(matches!(secret.plan_write(15, Some(old)), Err(SegmentError::NotInFirmware { .. })));
        assert!(secret.plan_write(15, Some(FirmwareVersion::new(1, 4, 1))).is_ok());
        assert!(secret.plan_write(15, None).is_ok());
        let core = Segment::for_field(Platform::Core, Field::DEVICE_PRIVATE_KEY).unwrap();
        assert!(core.plan_write(612, Some(old)).is_ok());
    }

    #[test]
    fn parts_that_the_firmware_does_not_have_are_not_written() {
        for (name, before, since) in [
            ("system_flags.features_enabled", (0, 4, 4), (0, 4, 5)),
            ("feature_flags.led_overridden", (1, 5, 2), (2, 0, 0)),
            ("ext_low_speed_clock_disable", (2, 1, 0), (2, 3, 0)),
        ] {
            let version = |(major, minor, patch)| FirmwareVersion::new(major, minor, patch);
            let (before, since) = (version(before), version(since));
            let entry = Entry::by_name(name).unwrap();
            for segment in
                [Segment::in_table, Segment::for_entry].map(|of| of(Platform::Photon, entry).unwrap())
            {
                assert_eq!(segment.name, name);
                assert_eq!(
                    segment.plan_write(entry.len(), Some(before)),
                    Err(SegmentError::NotInFirmware { field: name, since, version: before })
                );
                assert!(segment.plan_write(entry.len(), Some(since)).is_ok(), "{name}");
            }
        }
        let other = Segment::in_table(Platform::Photon, Entry::by_name("feature_flags.reset_info").unwrap());
        assert!(other.unwrap().plan_write(4, Some(FirmwareVersion::new(1, 5, 2))).is_ok());
    }

    #[test]
    fn unknown_usb_ids_have_no_platform() {
        assert_eq!(Platform::from_usb_id(0x2B04, 0xD006), Some(Platform::Photon));
        assert_eq!(Platform::from_usb_id(0x2B04, 0xC006), None);
        assert_eq!(Platform::from_usb_id(0x0483, 0xDF11), None);
    }
}
