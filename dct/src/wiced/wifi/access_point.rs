//! A stored access point.

use super::super::SectionError;
use super::WifiSecurity;

/// One of the five stored access points.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 33 | [`Ssid`] |
/// | 33 | 6 | BSSID |
/// | 39 | 2 | signal strength, signed |
/// | 41 | 4 | highest rate |
/// | 45 | 1 | kind of network |
/// | 46 | 4 | [`WifiSecurity`] |
/// | 50 | 1 | channel |
/// | 51 | 1 | band: 0 = 5 GHz, 1 = 2.4 GHz |
/// | 52 | 4 | a pointer of the scanner, meaningless |
/// | 56 | 1 | length of the key |
/// | 57 | 64 | key |
///
/// Integers are little-endian and **unaligned**. `Debug` leaves out the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AccessPoint {
    /// Name of the network.
    pub ssid: Ssid,
    /// Address of the access point.
    pub bssid: [u8; 6],
    /// Signal strength at the scan, in dBm.
    pub rssi: i16,
    /// Highest rate, in kbit/s.
    pub max_rate: u32,
    /// Kind of network, raw.
    pub bss_type: u8,
    /// Protection.
    pub security: WifiSecurity,
    /// Channel.
    pub channel: u8,
    /// 0 = 5 GHz, 1 = 2.4 GHz.
    pub band: u8,
    /// Kept as found.
    pub next: u32,
    key_length: u8,
    key: [u8; 64],
}

impl AccessPoint {
    /// Length in bytes.
    pub const LEN: usize = 121;

    /// A network and its key; everything that only a scan knows is 0.
    ///
    /// # Errors
    /// [`SectionError::Ssid`], [`SectionError::Key`].
    pub fn new(ssid: &[u8], security: WifiSecurity, key: &[u8]) -> Result<Self, SectionError> {
        let mut value = Self {
            ssid: Ssid::new(ssid)?,
            bssid: [0; 6],
            rssi: 0,
            max_rate: 0,
            bss_type: 0,
            security,
            channel: 0,
            band: 0,
            next: 0,
            key_length: 0,
            key: [0; 64],
        };
        value.set_key(key)?;
        Ok(value)
    }

    /// Reads an entry; every content is accepted.
    #[must_use]
    pub fn decode(raw: &[u8; Self::LEN]) -> Self {
        Self {
            ssid: Ssid { length: raw[0], bytes: take(raw, 1) },
            bssid: take(raw, 33),
            rssi: i16::from_le_bytes(take(raw, 39)),
            max_rate: u32::from_le_bytes(take(raw, 41)),
            bss_type: raw[45],
            security: WifiSecurity(u32::from_le_bytes(take(raw, 46))),
            channel: raw[50],
            band: raw[51],
            next: u32::from_le_bytes(take(raw, 52)),
            key_length: raw[56],
            key: take(raw, 57),
        }
    }

    /// Writes an entry.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut raw = [0; Self::LEN];
        let parts: [(usize, &[u8]); 12] = [
            (0, &[self.ssid.length]),
            (1, &self.ssid.bytes),
            (33, &self.bssid),
            (39, &self.rssi.to_le_bytes()),
            (41, &self.max_rate.to_le_bytes()),
            (45, &[self.bss_type]),
            (46, &self.security.0.to_le_bytes()),
            (50, &[self.channel]),
            (51, &[self.band]),
            (52, &self.next.to_le_bytes()),
            (56, &[self.key_length]),
            (57, &self.key),
        ];
        for (at, bytes) in parts {
            raw.iter_mut().skip(at).zip(bytes).for_each(|(slot, byte)| *slot = *byte);
        }
        raw
    }

    /// Whether the slot is in use: it has a name of 1 to 32 bytes.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.ssid.as_bytes().is_some_and(|ssid| !ssid.is_empty())
    }

    /// The key, `None` when its length byte is above 64. **Secret.**
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.key.get(..usize::from(self.key_length))
    }

    /// Sets the key and fills the rest with 00.
    ///
    /// # Errors
    /// [`SectionError::Key`] above 64 bytes.
    pub fn set_key(&mut self, key: &[u8]) -> Result<(), SectionError> {
        (self.key_length, self.key) = padded_key(key)?;
        Ok(())
    }
}

pub(super) fn padded_key(key: &[u8]) -> Result<(u8, [u8; 64]), SectionError> {
    let mut padded = [0; 64];
    let error = SectionError::Key { length: key.len() };
    padded.get_mut(..key.len()).ok_or(error)?.copy_from_slice(key);
    Ok((u8::try_from(key.len()).map_err(|_| error)?, padded))
}

pub(super) fn take<const N: usize>(raw: &[u8], at: usize) -> [u8; N] {
    *raw.get(at..).and_then(<[u8]>::first_chunk).unwrap_or(const { &[0xFF; N] })
}

impl core::fmt::Debug for AccessPoint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AccessPoint")
            .field("ssid", &self.ssid)
            .field("bssid", &self.bssid)
            .field("security", &self.security)
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

/// Name of a network: a length byte and 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ssid {
    pub(super) length: u8,
    pub(super) bytes: [u8; 32],
}

impl Ssid {
    /// A name, with 00 behind it.
    ///
    /// # Errors
    /// [`SectionError::Ssid`] above 32 bytes.
    pub fn new(name: &[u8]) -> Result<Self, SectionError> {
        let mut bytes = [0; 32];
        let error = SectionError::Ssid { length: name.len() };
        bytes.get_mut(..name.len()).ok_or(error)?.copy_from_slice(name);
        Ok(Self { length: u8::try_from(name.len()).map_err(|_| error)?, bytes })
    }

    /// The name, `None` when the length byte is above 32 (erased, for one).
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        self.bytes.get(..usize::from(self.length))
    }
}

impl core::fmt::Debug for Ssid {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.as_bytes() {
            Some(name) => write!(f, "\"{}\"", name.escape_ascii()),
            None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use proptest::prelude::*;

    #[test]
    fn fields_are_at_their_unaligned_offsets() {
        let mut entry = AccessPoint::new(b"home", WifiSecurity::WPA2_AES, b"password").unwrap();
        entry.bssid = [1, 2, 3, 4, 5, 6];
        entry.rssi = -70;
        entry.max_rate = 0x0102_0304;
        (entry.channel, entry.band) = (11, 1);
        let raw = entry.encode();
        assert_eq!(raw[..5], *b"\x04home");
        assert_eq!(raw[33..45], [1, 2, 3, 4, 5, 6, 0xBA, 0xFF, 4, 3, 2, 1]);
        assert_eq!(raw[46..52], [4, 0, 0x40, 0, 11, 1]);
        assert_eq!(raw[56..65], *b"\x08password");
        assert!(entry.is_used());
        assert!(!format!("{entry:?}").contains("password"));
    }

    #[test]
    fn erased_entry_is_not_used_and_has_neither_name_nor_key() {
        let entry = AccessPoint::decode(&[0xFF; AccessPoint::LEN]);
        assert!(!entry.is_used());
        assert_eq!((entry.ssid.as_bytes(), entry.key()), (None, None));
    }

    #[test]
    fn oversize_names_and_keys_are_refused() {
        assert_eq!(Ssid::new(&[b'x'; 33]), Err(SectionError::Ssid { length: 33 }));
        let error = AccessPoint::new(b"x", WifiSecurity::OPEN, &[0; 65]).unwrap_err();
        assert_eq!(error, SectionError::Key { length: 65 });
        assert!(AccessPoint::new(&[b'x'; 32], WifiSecurity::OPEN, &[0; 64]).is_ok());
    }

    proptest! {
        #[test]
        fn any_entry_survives_a_round_trip(raw in proptest::collection::vec(any::<u8>(), AccessPoint::LEN)) {
            let raw: [u8; AccessPoint::LEN] = raw.try_into().unwrap();
            prop_assert_eq!(AccessPoint::decode(&raw).encode(), raw);
        }
    }
}
