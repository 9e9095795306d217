//! Wi-Fi configuration: 844 bytes from 6704 of a sector.

mod access_point;
mod security;
mod soft_ap;

pub use access_point::{AccessPoint, Ssid};
pub use security::WifiSecurity;
pub use soft_ap::SoftAp;

use super::SectionError;

/// View of the Wi-Fi configuration.
///
/// | offset | size | content |
/// |---|---|---|
/// | 0 | 1 | device configured |
/// | 1 | 605 | five [`AccessPoint`] of 121 bytes, **unaligned** |
/// | 606 | 2 | padding |
/// | 608 | 112 | soft-AP, see [`SoftAp`] |
/// | 720 | 112 | configuration AP, see [`SoftAp`] |
/// | 832 | 4 | country |
/// | 836 | 6 | MAC address |
/// | 842 | 2 | padding |
///
/// Integers are little-endian.
///
/// # Source
/// `device-os@v0.5.0: platform_dct.h` (`platform_dct_wifi_config_t`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct WifiConfig<'a> {
    raw: &'a [u8; WifiConfig::LEN],
}

impl<'a> WifiConfig<'a> {
    /// Length in bytes.
    pub const LEN: usize = 844;
    /// Where it is in a sector.
    pub const OFFSET: usize = 6704;
    /// Number of access points that are stored.
    pub const ACCESS_POINTS: usize = 5;
    const SOFT_AP_AT: usize = 608;
    const CONFIG_AP_AT: usize = 720;

    /// Looks at the bytes; every content is accepted.
    #[must_use]
    pub const fn new(raw: &'a [u8; WifiConfig::LEN]) -> Self {
        Self { raw }
    }

    /// The bytes. They hold network keys: **secret.**
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8; WifiConfig::LEN] {
        self.raw
    }

    /// Whether the device has been configured. Erased: no.
    #[must_use]
    pub const fn is_configured(&self) -> bool {
        self.raw[0] == 1
    }

    /// A stored access point, 0 to 4; `None` when there is no such slot.
    #[must_use]
    pub fn access_point(&self, slot: usize) -> Option<AccessPoint> {
        let at = access_point_at(slot)?;
        self.raw.get(at..).and_then(<[u8]>::first_chunk).map(AccessPoint::decode)
    }

    /// The device's own network.
    #[must_use]
    pub fn soft_ap(&self) -> SoftAp {
        SoftAp::decode(self.part(Self::SOFT_AP_AT))
    }

    /// The device's own network for configuration.
    #[must_use]
    pub fn config_ap(&self) -> SoftAp {
        SoftAp::decode(self.part(Self::CONFIG_AP_AT))
    }

    /// Country as the radio's driver has it.
    #[must_use]
    pub fn country(&self) -> u32 {
        u32::from_le_bytes(*self.part(832))
    }

    /// MAC address.
    #[must_use]
    pub fn mac_address(&self) -> &'a [u8; 6] {
        self.part(836)
    }

    fn part<const N: usize>(&self, at: usize) -> &'a [u8; N] {
        self.raw.get(at..).and_then(<[u8]>::first_chunk).unwrap_or(const { &[0xFF; N] })
    }
}

fn access_point_at(slot: usize) -> Option<usize> {
    (slot < WifiConfig::ACCESS_POINTS).then(|| 1 + slot * AccessPoint::LEN)
}

impl core::fmt::Debug for WifiConfig<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WifiConfig").field("is_configured", &self.is_configured()).finish_non_exhaustive()
    }
}

/// Editor of the Wi-Fi configuration. Bytes outside of what is set never change.
pub struct WifiConfigMut<'a> {
    raw: &'a mut [u8; WifiConfig::LEN],
}

impl<'a> WifiConfigMut<'a> {
    /// Takes the bytes for editing. In a sector with a version record call
    /// [`SectorMut::seal`](super::SectorMut::seal) afterwards.
    #[must_use]
    pub const fn new(raw: &'a mut [u8; WifiConfig::LEN]) -> Self {
        Self { raw }
    }

    /// The configuration as it is now.
    #[must_use]
    pub const fn view(&self) -> WifiConfig<'_> {
        WifiConfig { raw: self.raw }
    }

    /// Sets whether the device has been configured.
    pub fn set_configured(&mut self, configured: bool) {
        self.put(0, &[u8::from(configured)]);
    }

    /// Stores an access point.
    ///
    /// # Errors
    /// [`SectionError::Slot`] when there is no such slot.
    pub fn set_access_point(&mut self, slot: usize, value: &AccessPoint) -> Result<(), SectionError> {
        let at = access_point_at(slot).ok_or(SectionError::Slot { slot })?;
        self.put(at, &value.encode());
        Ok(())
    }

    /// Erases a stored access point.
    ///
    /// # Errors
    /// [`SectionError::Slot`] when there is no such slot.
    pub fn clear_access_point(&mut self, slot: usize) -> Result<(), SectionError> {
        let at = access_point_at(slot).ok_or(SectionError::Slot { slot })?;
        self.put(at, &[0xFF; AccessPoint::LEN]);
        Ok(())
    }

    /// Sets the device's own network.
    pub fn set_soft_ap(&mut self, value: &SoftAp) {
        self.put(WifiConfig::SOFT_AP_AT, &value.encode());
    }

    /// Sets the device's own network for configuration.
    pub fn set_config_ap(&mut self, value: &SoftAp) {
        self.put(WifiConfig::CONFIG_AP_AT, &value.encode());
    }

    /// Sets the country as the radio's driver has it.
    pub fn set_country(&mut self, country: u32) {
        self.put(832, &country.to_le_bytes());
    }

    /// Sets the MAC address.
    pub fn set_mac_address(&mut self, address: [u8; 6]) {
        self.put(836, &address);
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.raw.iter_mut().skip(at).zip(bytes).for_each(|(slot, byte)| *slot = *byte);
    }
}

impl core::fmt::Debug for WifiConfigMut<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.view().fmt(f)
    }
}
