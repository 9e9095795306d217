//! Hello: the first message in each direction.

use super::DecodeError;
use crate::handshake::DeviceId;

/// What a device can and did, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct HelloFlags(pub u8);

impl HelloFlags {
    /// The firmware update before this connection succeeded.
    pub const OTA_SUCCEEDED: Self = Self(0x01);
    /// Diagnostics (metrics in Describe), since 0.8.0.
    pub const DIAGNOSTICS: Self = Self(0x02);
    /// Immediate updates, since 1.2.1.
    pub const IMMEDIATE_UPDATES: Self = Self(0x04);
    /// Goodbye messages, since 2.0.0.
    pub const GOODBYE: Self = Self(0x10);
    /// Describe sent by the device itself, since 2.0.0 where enabled.
    pub const DEVICE_INITIATED_DESCRIBE: Self = Self(0x20);
    /// Compressed updates, since 2.0.0 where enabled.
    pub const COMPRESSED_OTA: Self = Self(0x40);

    /// Updates by protocol v3, since 3.0.0 on the third generation.
    pub const PROTOCOL_V3: Self = Self(0x80);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Payload of a device's Hello, all big-endian.
///
/// | off | size | field |
/// |---|---|---|
/// | 0 | 2 | product id; the platform id where the application set none |
/// | 2 | 2 | product firmware version |
/// | 4 | 1 | 0 |
/// | 5 | 1 | flags |
/// | 6 | 2 | platform id |
/// | 8 | 2 + 12 | length and device id, UDP devices only |
///
/// Payloads of 0, 4, 6 and 8 bytes occur; missing fields read as `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Hello {
    /// Product id and product firmware version.
    pub product: Option<(u16, u16)>,
    /// Flags.
    pub flags: Option<HelloFlags>,
    /// Platform id: 0 Core, 6 Photon, 8 P1, 10 Electron.
    pub platform_id: Option<u16>,
    /// Device id of a UDP device.
    pub device_id: Option<DeviceId>,
}

impl Hello {
    /// Longest payload.
    pub(super) const MAX_LEN: usize = 22;

    /// What a TCP device sends.
    #[must_use]
    pub const fn new(product_id: u16, product_version: u16, flags: HelloFlags, platform_id: u16) -> Self {
        Self {
            product: Some((product_id, product_version)),
            flags: Some(flags),
            platform_id: Some(platform_id),
            device_id: None,
        }
    }

    pub(super) fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut hello = Self::default();
        let field = DecodeError::Field {
            field: "Hello payload",
            expected: "0, 4, 6, 8 or, with a device id, 22",
            found: payload.len(),
        };
        let Some((&[a, b, c, d], rest)) = payload.split_first_chunk::<4>() else {
            return if payload.is_empty() { Ok(hello) } else { Err(field) };
        };
        hello.product = Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])));
        let Some((&[_, flags], rest)) = rest.split_first_chunk::<2>() else {
            return if rest.is_empty() { Ok(hello) } else { Err(field) };
        };
        hello.flags = Some(HelloFlags(flags));
        let Some((platform, rest)) = rest.split_first_chunk::<2>() else {
            return if rest.is_empty() { Ok(hello) } else { Err(field) };
        };
        hello.platform_id = Some(u16::from_be_bytes(*platform));
        if let Some((len, rest)) = rest.split_first_chunk::<2>()
            && usize::from(u16::from_be_bytes(*len)) == DeviceId::LEN
            && let Some((id, _)) = rest.split_first_chunk()
        {
            hello.device_id = Some(DeviceId(*id));
        }
        Ok(hello)
    }

    /// Missing fields end the payload.
    pub(super) fn encode_into<'b>(&self, out: &'b mut [u8; Self::MAX_LEN]) -> &'b [u8] {
        let mut bytes = [0; Self::MAX_LEN];
        let mut len = 0;
        let mut put = |part: &[u8]| {
            if let Some(to) = bytes.get_mut(len..len + part.len()) {
                to.copy_from_slice(part);
                len += part.len();
            }
        };
        if let Some((id, version)) = self.product {
            put(&id.to_be_bytes());
            put(&version.to_be_bytes());
            if let Some(flags) = self.flags {
                put(&[0, flags.0]);
                if let Some(platform) = self.platform_id {
                    put(&platform.to_be_bytes());
                    if let Some(device_id) = self.device_id {
                        put(&[0, 12]);
                        put(&device_id.0);
                    }
                }
            }
        }
        *out = bytes;
        out.get(..len).unwrap_or_default()
    }
}
