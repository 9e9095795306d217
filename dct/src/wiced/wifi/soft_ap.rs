//! The device's own network.

use super::super::SectionError;
use super::access_point::{padded_key, take};
use super::{Ssid, WifiSecurity};

/// Settings of the device's own network.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 33 | [`Ssid`] |
/// | 33 | 3 | padding |
/// | 36 | 4 | [`WifiSecurity`] |
/// | 40 | 1 | channel |
/// | 41 | 1 | length of the key |
/// | 42 | 64 | key |
/// | 106 | 2 | padding |
/// | 108 | 4 | CA1BDF58 when the settings are valid |
///
/// Integers are little-endian. `Debug` leaves out the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SoftAp {
    /// Name of the network.
    pub ssid: Ssid,
    /// Protection.
    pub security: WifiSecurity,
    /// Channel.
    pub channel: u8,
    /// [`VALID`](Self::VALID) when the settings are valid.
    pub details_valid: u32,
    key_length: u8,
    key: [u8; 64],
    padding: ([u8; 3], [u8; 2]),
}

impl SoftAp {
    /// Length in bytes.
    pub const LEN: usize = 112;
    /// `details_valid` of valid settings.
    pub const VALID: u32 = 0xCA1B_DF58;

    /// Valid settings.
    ///
    /// # Errors
    /// [`SectionError::Ssid`], [`SectionError::Key`].
    pub fn new(ssid: &[u8], security: WifiSecurity, channel: u8, key: &[u8]) -> Result<Self, SectionError> {
        let (key_length, key) = padded_key(key)?;
        let details_valid = Self::VALID;
        let padding = ([0; 3], [0; 2]);
        Ok(Self { ssid: Ssid::new(ssid)?, security, channel, details_valid, key_length, key, padding })
    }

    /// Reads the settings; every content is accepted.
    #[must_use]
    pub fn decode(raw: &[u8; Self::LEN]) -> Self {
        Self {
            ssid: Ssid { length: raw[0], bytes: take(raw, 1) },
            security: WifiSecurity(u32::from_le_bytes(take(raw, 36))),
            channel: raw[40],
            details_valid: u32::from_le_bytes(take(raw, 108)),
            key_length: raw[41],
            key: take(raw, 42),
            padding: (take(raw, 33), take(raw, 106)),
        }
    }

    /// Writes the settings; padding as it was read.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut raw = [0; Self::LEN];
        let parts: [(usize, &[u8]); 9] = [
            (0, &[self.ssid.length]),
            (1, &self.ssid.bytes),
            (33, &self.padding.0),
            (36, &self.security.0.to_le_bytes()),
            (40, &[self.channel]),
            (41, &[self.key_length]),
            (42, &self.key),
            (106, &self.padding.1),
            (108, &self.details_valid.to_le_bytes()),
        ];
        for (at, bytes) in parts {
            raw.iter_mut().skip(at).zip(bytes).for_each(|(slot, byte)| *slot = *byte);
        }
        raw
    }

    /// Whether firmware takes the settings.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.details_valid == Self::VALID
    }

    /// The key, `None` when its length byte is above 64. **Secret.**
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.key.get(..usize::from(self.key_length))
    }
}

impl core::fmt::Debug for SoftAp {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SoftAp")
            .field("ssid", &self.ssid)
            .field("security", &self.security)
            .field("channel", &self.channel)
            .field("is_valid", &self.is_valid())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_at_their_offsets() {
        let raw = SoftAp::new(b"Photon-ABCD", WifiSecurity::OPEN, 6, b"").unwrap().encode();
        assert_eq!(raw[..12], *b"\x0bPhoton-ABCD");
        assert_eq!((raw[40], raw[41]), (6, 0));
        assert_eq!(raw[108..], [0x58, 0xDF, 0x1B, 0xCA]);
        assert!(SoftAp::decode(&raw).is_valid());
        assert!(!SoftAp::decode(&[0xFF; SoftAp::LEN]).is_valid());
    }

    proptest! {
        #[test]
        fn any_settings_survive_a_round_trip(raw in proptest::collection::vec(any::<u8>(), SoftAp::LEN)) {
            let raw: [u8; SoftAp::LEN] = raw.try_into().unwrap();
            prop_assert_eq!(SoftAp::decode(&raw).encode(), raw);
        }
    }
}
