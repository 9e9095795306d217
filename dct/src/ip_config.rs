//! Address configuration of the Wi-Fi interface.

use core::net::Ipv4Addr;

/// The `ip_config` field.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 1 | mode: 0 DHCP, 1 static, FF unset |
/// | 1 | 3 | padding |
/// | 4 | 4 | host |
/// | 8 | 4 | netmask |
/// | 12 | 4 | gateway |
/// | 16 | 4 | first name server, 0 = none |
/// | 20 | 4 | second name server, 0 = none |
///
/// In flash the **last octet of an address comes first**: 192.168.0.5 is `05 00 A8 C0`. The firmware's header
/// says "network order" but its code copies a little-endian u32; this crate follows the code.
///
/// # Source
/// `device-os@v0.4.5..v2.3.1`: `static_ip_config_t` and its use in the Photon's network code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct IpConfig {
    /// How the device gets its address.
    pub mode: IpMode,
    /// Bytes 1 to 3, kept as found.
    pub padding: [u8; 3],
    /// Own address.
    pub host: Ipv4Addr,
    /// Network mask.
    pub netmask: Ipv4Addr,
    /// Gateway.
    pub gateway: Ipv4Addr,
    /// First name server; 0.0.0.0 is skipped.
    pub dns1: Ipv4Addr,
    /// Second name server; 0.0.0.0 is skipped.
    pub dns2: Ipv4Addr,
}

/// Length of the field.
pub const LEN: usize = 24;

/// How the device gets its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum IpMode {
    /// 0: DHCP.
    Dhcp,
    /// 1: the addresses of the field.
    Static,
    /// FF: never set, the firmware uses DHCP.
    Unset,
    /// Any other value.
    Other(u8),
}

impl IpConfig {
    /// Reads the field; every content is accepted.
    #[must_use]
    pub const fn decode(raw: &[u8; LEN]) -> Self {
        IpConfig {
            mode: match raw[0] {
                0 => IpMode::Dhcp,
                1 => IpMode::Static,
                0xFF => IpMode::Unset,
                other => IpMode::Other(other),
            },
            padding: [raw[1], raw[2], raw[3]],
            host: Ipv4Addr::new(raw[7], raw[6], raw[5], raw[4]),
            netmask: Ipv4Addr::new(raw[11], raw[10], raw[9], raw[8]),
            gateway: Ipv4Addr::new(raw[15], raw[14], raw[13], raw[12]),
            dns1: Ipv4Addr::new(raw[19], raw[18], raw[17], raw[16]),
            dns2: Ipv4Addr::new(raw[23], raw[22], raw[21], raw[20]),
        }
    }

    /// Writes the field.
    #[must_use]
    pub const fn encode(&self) -> [u8; LEN] {
        let mode = match self.mode {
            IpMode::Dhcp => 0,
            IpMode::Static => 1,
            IpMode::Unset => 0xFF,
            IpMode::Other(other) => other,
        };
        let [p0, p1, p2] = self.padding;
        let h = self.host.octets();
        let n = self.netmask.octets();
        let g = self.gateway.octets();
        let a = self.dns1.octets();
        let b = self.dns2.octets();
        [
            mode, p0, p1, p2, h[3], h[2], h[1], h[0], n[3], n[2], n[1], n[0], g[3], g[2], g[1], g[0], a[3],
            a[2], a[1], a[0], b[3], b[2], b[1], b[0],
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    #[test]
    fn last_octet_comes_first() {
        let value = IpConfig {
            mode: IpMode::Static,
            padding: [0xFF; 3],
            host: Ipv4Addr::new(192, 168, 0, 5),
            netmask: Ipv4Addr::new(255, 255, 255, 0),
            gateway: Ipv4Addr::new(192, 168, 0, 1),
            dns1: Ipv4Addr::new(8, 8, 4, 4),
            dns2: Ipv4Addr::UNSPECIFIED,
        };
        let bytes = hex!("01 FFFFFF 0500A8C0 00FFFFFF 0100A8C0 04040808 00000000");
        assert_eq!(value.encode(), bytes);
        assert_eq!(IpConfig::decode(&bytes), value);
    }

    #[test]
    fn erased_field_is_unset() {
        assert_eq!(IpConfig::decode(&[0xFF; LEN]).mode, IpMode::Unset);
    }

    proptest! {
        #[test]
        fn any_field_survives_a_round_trip(raw: [u8; LEN]) {
            prop_assert_eq!(IpConfig::decode(&raw).encode(), raw);
        }
    }
}
