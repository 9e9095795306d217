//! Where host tools find keys, flags and firmware over DFU, per platform.

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
/// `particle-cli` device tables of v1.21.0, v1.29.0, v2.0.0 and current, loaded and compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Segment {
    /// Name as in the host tool's table.
    pub name: &'static str,
    /// Alternate setting.
    pub alternate: u8,
    /// First address.
    pub address: u32,
    /// Bytes; `None` where the table gives none.
    pub size: Option<u32>,
    /// Where the server address block starts, relative to the segment (server keys only).
    pub server_address_at: Option<u32>,
}

impl Segment {
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

    /// All segments of the platform.
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

const fn area(name: &'static str, alternate: u8, address: u32, size: Option<u32>) -> Segment {
    Segment { name, alternate, address, size, server_address_at: None }
}

const fn server_key(name: &'static str, address: u32, size: u32, server_address_at: u32) -> Segment {
    Segment { name, alternate: 1, address, size: Some(size), server_address_at: Some(server_address_at) }
}

const TCP_SERVER_KEY: Segment = server_key("tcpServerKey", 2082, 512, 384);
const TCP_PRIVATE_KEY: Segment = area("tcpPrivateKey", 1, 34, Some(612));
const UDP_SERVER_KEY: Segment = server_key("udpServerKey", 3298, 320, 192);
const UDP_PRIVATE_KEY: Segment = area("udpPrivateKey", 1, 3106, Some(192));
const OTA_FLAG: Segment = area("otaFlag", 1, 1753, Some(1));

const CORE: &[Segment] = &[
    server_key("tcpServerKey", 0x1000, 2048, 384),
    area("tcpPrivateKey", 1, 0x2000, Some(1024)),
    area("factoryReset", 1, 0x2_0000, None),
    area("userFirmware", 0, 0x0800_5000, None),
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
    use crate::field::Field;

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
    fn unknown_usb_ids_have_no_platform() {
        assert_eq!(Platform::from_usb_id(0x2B04, 0xD006), Some(Platform::Photon));
        assert_eq!(Platform::from_usb_id(0x2B04, 0xC006), None);
        assert_eq!(Platform::from_usb_id(0x0483, 0xDF11), None);
    }
}
