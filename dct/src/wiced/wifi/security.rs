//! The word that says how a network is protected.

/// Security of a network: a set of bits.
///
/// | bits | meaning |
/// |---|---|
/// | 00000000 | open |
/// | 00000001 | WEP |
/// | 00008001 | WEP with shared authentication |
/// | 00200000 | WPA |
/// | 00400000 | WPA2 |
/// | + 2, + 4 | TKIP, AES |
/// | 02000000 | enterprise |
/// | 10000000 | WPS |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WifiSecurity(pub u32);

impl WifiSecurity {
    /// No protection.
    pub const OPEN: WifiSecurity = WifiSecurity(0);
    /// WEP.
    pub const WEP: WifiSecurity = WifiSecurity(1);
    /// WEP with shared authentication.
    pub const WEP_SHARED: WifiSecurity = WifiSecurity(0x8001);
    /// WPA with TKIP.
    pub const WPA_TKIP: WifiSecurity = WifiSecurity(0x0020_0002);
    /// WPA with AES.
    pub const WPA_AES: WifiSecurity = WifiSecurity(0x0020_0004);
    /// WPA2 with AES.
    pub const WPA2_AES: WifiSecurity = WifiSecurity(0x0040_0004);
    /// WPA2 with TKIP.
    pub const WPA2_TKIP: WifiSecurity = WifiSecurity(0x0040_0002);
    /// WPA2 with AES and TKIP.
    pub const WPA2_MIXED: WifiSecurity = WifiSecurity(0x0040_0006);

    const fn has(self, bits: u32) -> bool {
        self.0 & bits != 0
    }

    /// Whether it is WPA.
    #[must_use]
    pub const fn is_wpa(self) -> bool {
        self.has(0x0020_0000)
    }

    /// Whether it is WPA2.
    #[must_use]
    pub const fn is_wpa2(self) -> bool {
        self.has(0x0040_0000)
    }

    /// Whether user names or certificates are asked for (`eap_config`).
    #[must_use]
    pub const fn is_enterprise(self) -> bool {
        self.has(0x0200_0000)
    }
}

/// `open`, `wpa2-aes`, `wpa2-aes+tkip`, …; hexadecimal digits for what has no name.
impl core::fmt::Display for WifiSecurity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        const KNOWN: u32 = 0x0260_0006;
        match *self {
            WifiSecurity::OPEN => return f.write_str("open"),
            WifiSecurity::WEP => return f.write_str("wep"),
            WifiSecurity::WEP_SHARED => return f.write_str("wep-shared"),
            WifiSecurity(0x1000_0000) => return f.write_str("wps"),
            WifiSecurity(bits) if bits & !KNOWN != 0 || bits & 0x0060_0000 == 0 => {
                return write!(f, "{bits:#010x}");
            }
            _ => {}
        }
        let name = match (self.is_wpa(), self.is_wpa2()) {
            (true, true) => "wpa+wpa2",
            (true, false) => "wpa",
            _ => "wpa2",
        };
        let cipher = match (self.has(4), self.has(2)) {
            (true, true) => "-aes+tkip",
            (true, false) => "-aes",
            (false, true) => "-tkip",
            (false, false) => "",
        };
        write!(f, "{name}{}{cipher}", if self.is_enterprise() { "-enterprise" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn words_have_names() {
        for (word, name) in [
            (0, "open"),
            (1, "wep"),
            (0x8001, "wep-shared"),
            (0x0020_0002, "wpa-tkip"),
            (0x0040_0004, "wpa2-aes"),
            (0x0040_0006, "wpa2-aes+tkip"),
            (0x0240_0004, "wpa2-enterprise-aes"),
            (0x1000_0000, "wps"),
            (0xFFFF_FFFF, "0xffffffff"),
            (4, "0x00000004"),
        ] {
            assert_eq!(WifiSecurity(word).to_string(), name);
        }
    }
}
