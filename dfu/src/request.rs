//! Setup packets: the 8 bytes that start every control transfer, and the seven DFU requests in them.

/// One of the seven class requests of DFU.
///
/// # Source
/// USB DFU 1.1, table 3.2; the set is the same in DFU 1.0 and 1.1a (DfuSe).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "DFU 1.1 table 3.2 closes the set")]
pub enum Request {
    /// `DFU_DETACH`: leave the run-time application.
    #[doc(alias = "DFU_DETACH")]
    Detach,
    /// `DFU_DNLOAD`: host to device, one block.
    #[doc(alias = "DFU_DNLOAD")]
    Dnload,
    /// `DFU_UPLOAD`: device to host, one block.
    #[doc(alias = "DFU_UPLOAD")]
    Upload,
    /// `DFU_GETSTATUS`: six bytes, see [`StatusReply`](crate::StatusReply).
    #[doc(alias = "DFU_GETSTATUS")]
    GetStatus,
    /// `DFU_CLRSTATUS`: leave dfuERROR.
    #[doc(alias = "DFU_CLRSTATUS")]
    ClrStatus,
    /// `DFU_GETSTATE`: one byte, never changes the state.
    #[doc(alias = "DFU_GETSTATE")]
    GetState,
    /// `DFU_ABORT`: back to dfuIDLE.
    #[doc(alias = "DFU_ABORT")]
    Abort,
}

impl Request {
    /// All seven requests in the order of their codes.
    pub const ALL: [Self; 7] = [
        Self::Detach,
        Self::Dnload,
        Self::Upload,
        Self::GetStatus,
        Self::ClrStatus,
        Self::GetState,
        Self::Abort,
    ];

    /// The request with this `bRequest` code, `None` above 6.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Detach,
            1 => Self::Dnload,
            2 => Self::Upload,
            3 => Self::GetStatus,
            4 => Self::ClrStatus,
            5 => Self::GetState,
            6 => Self::Abort,
            _ => return None,
        })
    }

    /// The `bRequest` code, 0 to 6.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Detach => 0,
            Self::Dnload => 1,
            Self::Upload => 2,
            Self::GetStatus => 3,
            Self::ClrStatus => 4,
            Self::GetState => 5,
            Self::Abort => 6,
        }
    }

    /// The direction of the data stage.
    #[must_use]
    pub const fn direction(self) -> Direction {
        match self {
            Self::Upload | Self::GetStatus | Self::GetState => Direction::In,
            _ => Direction::Out,
        }
    }
}

/// Direction of a control transfer's data stage, as the host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "one bit of bmRequestType")]
pub enum Direction {
    /// Host to device.
    Out,
    /// Device to host.
    In,
}

/// Who defines the request: bits 5 and 6 of `bmRequestType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "two bits of bmRequestType")]
pub enum Kind {
    /// Chapter 9 of the USB specification.
    Standard,
    /// A class specification; DFU here.
    Class,
    /// The vendor.
    Vendor,
    /// Not assigned.
    Reserved,
}

/// Codes of the standard requests that matter to DFU.
///
/// # Source
/// USB 2.0, table 9-4.
pub mod standard {
    /// `GET_STATUS`, two bytes.
    pub const GET_STATUS: u8 = 0;
    /// `SET_ADDRESS`; most USB peripherals handle it themselves.
    pub const SET_ADDRESS: u8 = 5;
    /// `GET_DESCRIPTOR`; type in the high byte of `wValue`, index in the low one.
    pub const GET_DESCRIPTOR: u8 = 6;
    /// `GET_CONFIGURATION`, one byte.
    pub const GET_CONFIGURATION: u8 = 8;
    /// `SET_CONFIGURATION`.
    pub const SET_CONFIGURATION: u8 = 9;
    /// `GET_INTERFACE`, one byte.
    pub const GET_INTERFACE: u8 = 10;
    /// `SET_INTERFACE`; selects the alternate setting, which in DFU mode names the memory.
    pub const SET_INTERFACE: u8 = 11;
}

/// The eight bytes that start a control transfer.
///
/// | offset | size | field | |
/// |---|---|---|---|
/// | 0 | 1 | `bmRequestType` | bit 7 direction, bits 5..6 kind, bits 0..4 recipient |
/// | 1 | 1 | `bRequest` | |
/// | 2 | 2 | `wValue` | little-endian; block number for DNLOAD and UPLOAD |
/// | 4 | 2 | `wIndex` | little-endian; interface number |
/// | 6 | 2 | `wLength` | little-endian; bytes of the data stage |
///
/// ```
/// use spark_dfu::SetupPacket;
/// let setup = SetupPacket::dnload(0, 2, 610);
/// assert_eq!(setup.to_bytes(), [0x21, 0x01, 0x02, 0x00, 0x00, 0x00, 0x62, 0x02]);
/// assert_eq!(SetupPacket::from_bytes(setup.to_bytes()), setup);
/// ```
///
/// # Source
/// USB 2.0, section 9.3; USB DFU 1.1, table 3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_structs, reason = "the USB specification fixes the five fields")]
pub struct SetupPacket {
    /// `bmRequestType`.
    pub request_type: u8,
    /// `bRequest`.
    pub request: u8,
    /// `wValue`.
    pub value: u16,
    /// `wIndex`.
    pub index: u16,
    /// `wLength`.
    pub length: u16,
}

impl SetupPacket {
    /// Decodes a packet; every eight bytes are one.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        let [request_type, request, v0, v1, i0, i1, l0, l1] = bytes;
        Self {
            request_type,
            request,
            value: u16::from_le_bytes([v0, v1]),
            index: u16::from_le_bytes([i0, i1]),
            length: u16::from_le_bytes([l0, l1]),
        }
    }

    /// Encodes the packet.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        let [v0, v1] = self.value.to_le_bytes();
        let [i0, i1] = self.index.to_le_bytes();
        let [l0, l1] = self.length.to_le_bytes();
        [self.request_type, self.request, v0, v1, i0, i1, l0, l1]
    }

    /// The direction bit. With `wLength` 0 it says nothing about data.
    #[must_use]
    pub const fn direction(self) -> Direction {
        if self.request_type & 0x80 == 0 { Direction::Out } else { Direction::In }
    }

    /// Who defines the request.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match (self.request_type >> 5) & 3 {
            0 => Kind::Standard,
            1 => Kind::Class,
            2 => Kind::Vendor,
            _ => Kind::Reserved,
        }
    }

    /// The DFU request in this packet: class, recipient interface, a known code and the right direction.
    #[must_use]
    pub fn dfu_request(self) -> Option<Request> {
        let request = Request::from_code(self.request)?;
        let fits = self.kind() == Kind::Class
            && self.request_type & 0x1F == 1
            && self.direction() == request.direction();
        fits.then_some(request)
    }

    /// A DFU class request to an interface.
    #[must_use]
    pub const fn dfu(request: Request, interface: u8, value: u16, length: u16) -> Self {
        let request_type = match request.direction() {
            Direction::Out => 0x21,
            Direction::In => 0xA1,
        };
        Self { request_type, request: request.code(), value, index: interface as u16, length }
    }

    /// `DFU_DETACH` with a time-out in milliseconds.
    #[must_use]
    pub const fn detach(interface: u8, timeout_ms: u16) -> Self {
        Self::dfu(Request::Detach, interface, timeout_ms, 0)
    }

    /// `DFU_DNLOAD` of `length` bytes; 0 ends a download, in DfuSe it leaves DFU mode.
    #[must_use]
    pub const fn dnload(interface: u8, block: u16, length: u16) -> Self {
        Self::dfu(Request::Dnload, interface, block, length)
    }

    /// `DFU_UPLOAD` of up to `length` bytes.
    #[must_use]
    pub const fn upload(interface: u8, block: u16, length: u16) -> Self {
        Self::dfu(Request::Upload, interface, block, length)
    }

    /// `DFU_GETSTATUS`.
    #[must_use]
    pub const fn get_status(interface: u8) -> Self {
        Self::dfu(Request::GetStatus, interface, 0, 6)
    }

    /// `DFU_CLRSTATUS`.
    #[must_use]
    pub const fn clr_status(interface: u8) -> Self {
        Self::dfu(Request::ClrStatus, interface, 0, 0)
    }

    /// `DFU_GETSTATE`.
    #[must_use]
    pub const fn get_state(interface: u8) -> Self {
        Self::dfu(Request::GetState, interface, 0, 1)
    }

    /// `DFU_ABORT`.
    #[must_use]
    pub const fn abort(interface: u8) -> Self {
        Self::dfu(Request::Abort, interface, 0, 0)
    }

    /// Standard `SET_INTERFACE`: selects the alternate setting, that is, the memory.
    #[must_use]
    pub const fn set_interface(interface: u8, alternate: u8) -> Self {
        Self {
            request_type: 0x01,
            request: standard::SET_INTERFACE,
            value: alternate as u16,
            index: interface as u16,
            length: 0,
        }
    }

    /// Standard `GET_DESCRIPTOR` to the device. `language` is 0 except for strings.
    #[must_use]
    pub const fn get_descriptor(kind: u8, index: u8, language: u16, length: u16) -> Self {
        Self {
            request_type: 0x80,
            request: standard::GET_DESCRIPTOR,
            value: u16::from_le_bytes([index, kind]),
            index: language,
            length,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    #[test]
    fn requests_have_the_bytes_of_the_standard() {
        let cases: [(SetupPacket, [u8; 8]); 9] = [
            (SetupPacket::detach(0, 1000), hex!("21 00 E803 0000 0000")),
            (SetupPacket::dnload(1, 2, 4096), hex!("21 01 0200 0100 0010")),
            (SetupPacket::upload(0, 3, 4096), hex!("A1 02 0300 0000 0010")),
            (SetupPacket::get_status(0), hex!("A1 03 0000 0000 0600")),
            (SetupPacket::clr_status(0), hex!("21 04 0000 0000 0000")),
            (SetupPacket::get_state(0), hex!("A1 05 0000 0000 0100")),
            (SetupPacket::abort(0), hex!("21 06 0000 0000 0000")),
            (SetupPacket::set_interface(0, 1), hex!("01 0B 0100 0000 0000")),
            (SetupPacket::get_descriptor(3, 6, 0x0409, 255), hex!("80 06 0603 0904 FF00")),
        ];
        for (packet, bytes) in cases {
            assert_eq!(packet.to_bytes(), bytes);
            assert_eq!(SetupPacket::from_bytes(bytes), packet);
        }
    }

    #[test]
    fn a_dfu_request_needs_class_interface_and_direction() {
        for request in Request::ALL {
            let packet = SetupPacket::dfu(request, 0, 0, 0);
            assert_eq!(packet.dfu_request(), Some(request));
            for bit in 0..8 {
                let other = SetupPacket { request_type: packet.request_type ^ (1 << bit), ..packet };
                assert_eq!(other.dfu_request(), None, "{other:?}");
            }
        }
        assert_eq!(SetupPacket::from_bytes(hex!("21 07 0000 0000 0000")).dfu_request(), None);
    }
}
