//! The typed table of all fields of `application_dct_t`.

use crate::kind::{Kind, names};

/// One field of the application section: name, place and first firmware version that has it.
///
/// The offset is counted from the start of the application section, which is also the address in the DFU
/// alternate setting 1 of Photon, P1 and Electron. Offsets never moved between versions; new fields were carved
/// out of reserved space.
///
/// ```
/// use spark_dct::Field;
/// let key = Field::by_name("server_public_key").ok_or("unknown field")?;
/// assert_eq!((key.offset(), key.len()), (2082, 768));
/// # Ok::<(), &'static str>(())
/// ```
///
/// # Source
/// `device-os@v0.4.0..v2.3.1`: `application_dct_t`, compiled for a 32-bit target at 18 tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Field {
    name: &'static str,
    offset: u16,
    len: u16,
    since: FirmwareVersion,
    #[cfg_attr(feature = "serde", serde(skip))]
    kind: Kind,
    secret: bool,
    erased: &'static str,
}

#[allow(clippy::len_without_is_empty, reason = "no field is empty")]
impl Field {
    /// The field of that name, spelled as in the firmware's newest header.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Field> {
        Self::ALL.iter().copied().find(|field| field.name == name)
    }

    /// The field that holds byte `offset` of the application section.
    #[must_use]
    pub fn at(offset: usize) -> Option<Field> {
        Self::ALL.iter().copied().find(|field| field.range().contains(&offset))
    }

    /// Name as in the firmware's newest header.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// First byte, counted from the start of the application section.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset as usize
    }

    /// Length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// First byte after the field.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.offset() + self.len()
    }

    /// Byte range in the application section.
    #[must_use]
    pub const fn range(&self) -> core::ops::Range<usize> {
        self.offset()..self.end()
    }

    /// First firmware release in which the field has this meaning. See [`exists_in`](Self::exists_in) for the one field
    /// that went away for two releases.
    #[must_use]
    pub const fn since(&self) -> FirmwareVersion {
        self.since
    }

    /// What kind of value the field holds.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the bytes give access to something: private keys, passwords, the claim code. Do not log them.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        self.secret
    }

    /// What FF in all bytes means to the firmware.
    #[must_use]
    pub const fn erased_meaning(&self) -> &'static str {
        self.erased
    }

    /// Name up to and without the release given, where it was another one: `device_code` was `device_id` before v0.5.4.
    #[must_use]
    pub const fn former_name(&self) -> Option<(&'static str, FirmwareVersion)> {
        if self.offset == 1852 { Some(("device_id", FirmwareVersion::new(0, 5, 4))) } else { None }
    }

    /// Whether a release knows the field. Not the same as `since() <= version`: `ext_low_speed_clock_disable` came with
    /// v2.0.2, is missing in v2.1.0 and v2.2.0, and came back with v2.3.0.
    #[must_use]
    pub fn exists_in(&self, version: FirmwareVersion) -> bool {
        self.next_in(version) == version
    }

    /// The first release from `version` on that knows the field.
    #[must_use]
    pub fn next_in(&self, version: FirmwareVersion) -> FirmwareVersion {
        let hole = FirmwareVersion::new(2, 1, 0)..FirmwareVersion::new(2, 3, 0);
        match version.max(self.since) {
            version if self.offset == 8166 && hole.contains(&version) => hole.end,
            version => version,
        }
    }

    /// The first release that no longer reads the field on Photon, P1 and Electron: from v0.7.0 on the flags of `system_flags` are
    /// in registers of the microcontroller. Of these bytes only an old value of the watchdog is still read, once.
    #[must_use]
    pub const fn unread_since(&self) -> Option<FirmwareVersion> {
        if self.offset == 0 { Some(FirmwareVersion::new(0, 7, 0)) } else { None }
    }

    /// The row of [`ALL`](Self::ALL), which has every value of this type.
    pub(crate) const fn in_table(self) -> &'static Field {
        let mut row = Self::ALL;
        while let [field, rest @ ..] = row {
            if field.offset == self.offset {
                return field;
            }
            row = rest;
        }
        &Field::SYSTEM_FLAGS
    }

    /// Whether the field is only a gap that no firmware reads: `unused`, `reserved1`, `padding`, `reserved2`.
    #[must_use]
    pub const fn is_gap(&self) -> bool {
        matches!(self.offset, 1658 | 2018 | 2850 | 8170)
    }
}

/// A release of the firmware, as in `v0.6.4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FirmwareVersion {
    /// First number.
    pub major: u8,
    /// Second number.
    pub minor: u8,
    /// Third number.
    pub patch: u8,
}

impl FirmwareVersion {
    /// `major.minor.patch`.
    #[must_use]
    pub const fn new(major: u8, minor: u8, patch: u8) -> Self {
        Self { major, minor, patch }
    }
}

impl core::fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

macro_rules! secret {
    (secret) => {
        true
    };
    (open) => {
        false
    };
}

macro_rules! fields {
    ($($(#[$doc:meta])* $konst:ident = $name:literal @ $offset:literal + $len:literal since ($a:literal, $b:literal, $c:literal), $kind:expr, $secret:ident, erased $erased:literal;)*) => {
        impl Field {
            $(
                $(#[$doc])*
                pub const $konst: Field = Field {
                    name: $name,
                    offset: $offset,
                    len: $len,
                    since: FirmwareVersion::new($a, $b, $c),
                    kind: $kind,
                    secret: secret!($secret),
                    erased: $erased,
                };
            )*

            /// Every field in the order of its offset, gaps included: they cover 0..8391 without overlap.
            pub const ALL: &'static [Field] = &[$(Field::$konst),*];
        }
    };
}

fields! {
    /// 32 bytes of flags shared with the bootloader, see [`SystemFlags`](crate::system_flags::SystemFlags). Erased:
    /// nothing requested, all features on. Unused from v0.7.0 on, where RTC backup registers hold the flags.
    SYSTEM_FLAGS = "system_flags" @ 0 + 32 since (0, 4, 0),
        Kind::Record, open, erased "nothing requested, all features on";
    /// u16, little-endian; no code interprets it.
    VERSION = "version" @ 32 + 2 since (0, 4, 0),
        Kind::dec(&[]), open, erased "unset";
    /// RSA-1024 PKCS#1 DER of the device. Firmware reads and writes only the first
    /// [612](crate::app::DEVICE_PRIVATE_KEY_READ) bytes. Erased (first byte FF): no key, the device generates one.
    DEVICE_PRIVATE_KEY = "device_private_key" @ 34 + 1216 since (0, 4, 0),
        Kind::Padded { room: 612, pad: 0xFF }, secret, erased "no key: the device generates one";
    /// 162-byte SPKI followed by 00 (not FF): a cache that the firmware recomputes from the private key.
    DEVICE_PUBLIC_KEY = "device_public_key" @ 1250 + 384 since (0, 4, 0),
        Kind::Padded { room: 384, pad: 0x00 }, open, erased "not cached: recomputed from the private key";
    /// Address configuration, see [`IpConfig`](crate::ip_config::IpConfig). Erased: not set. v0.4.0 to v0.4.4 had
    /// an obsolete server address of 128 bytes here.
    IP_CONFIG = "ip_config" @ 1634 + 24 since (0, 4, 5),
        Kind::Record, open, erased "unset, the device uses DHCP";
    /// Reserved.
    UNUSED = "unused" @ 1658 + 95 since (0, 4, 6),
        Kind::Bytes, open, erased "not read";
    /// A5: apply the update held in the update region. Erased: nothing to do.
    OTA_UPDATE_FLAG = "ota_update_flag" @ 1753 + 1 since (1, 2, 1),
        Kind::hex(names::OTA_UPDATE_FLAG), open, erased "no update waits";
    /// u32 of switches, bit set = on, so that erased = all on. Bit 0: keep reset info; bit 1 (v2.0.0): LED overridden.
    FEATURE_FLAGS = "feature_flags" @ 1754 + 4 since (0, 6, 0),
        Kind::hex(&[]), open, erased "all features on";
    /// Two ASCII letters and a revision, see `App::country_code`. Erased or 00: not set, the firmware uses the limits of Japan.
    COUNTRY_CODE = "country_code" @ 1758 + 4 since (0, 5, 1),
        Kind::Country, open, erased "not set: the limits of Japan apply";
    /// 63 characters without terminator. Cleared by one 00 in the first byte. Erased: none.
    CLAIM_CODE = "claim_code" @ 1762 + 63 since (0, 4, 0),
        Kind::Text, secret, erased "none";
    /// ASCII `'1'` (31): claimed. Anything else, erased and binary 1 included: not claimed.
    CLAIMED = "claimed" @ 1825 + 1 since (0, 4, 0),
        Kind::Claimed, open, erased "not claimed";
    /// Length byte (at most 25) and characters of the soft-AP name. Erased: unset, the firmware writes its default.
    SSID_PREFIX = "ssid_prefix" @ 1826 + 26 since (0, 4, 0),
        Kind::TextAfterLength { max: 25 }, open, erased "unset: the firmware generates and stores its default";
    /// Soft-AP suffix of 6 characters, may end early with 00. Named `device_id` until v0.5.3. Erased: unset.
    DEVICE_CODE = "device_code" @ 1852 + 6 since (0, 4, 0),
        Kind::Text, open, erased "unset: the firmware generates one";
    /// Free text.
    VERSION_STRING = "version_string" @ 1858 + 32 since (0, 4, 0),
        Kind::Text, open, erased "unset";
    /// Host names that the soft-AP's name server answers, separated by NUL. Erased: default names.
    DNS_RESOLVE = "dns_resolve" @ 1890 + 128 since (0, 4, 6),
        Kind::Names, open, erased "the default names";
    /// Reserved.
    RESERVED1 = "reserved1" @ 2018 + 64 since (0, 4, 6),
        Kind::Bytes, open, erased "not read";
    /// Server key region, see [`ServerKeyRegion`](crate::ServerKeyRegion): RSA-2048 SPKI of 294 bytes, server
    /// address at +384. Erased: no key, no session.
    SERVER_PUBLIC_KEY = "server_public_key" @ 2082 + 768 since (0, 4, 0),
        Kind::Record, open, erased "no key and no address: no session";
    /// Two bytes of padding.
    PADDING = "padding" @ 2850 + 2 since (0, 4, 0),
        Kind::Bytes, open, erased "not read";
    /// Five records of pending module copies, see [`FlashModule`](crate::flash_module::FlashModule). Erased: all free.
    FLASH_MODULES = "flash_modules" @ 2852 + 100 since (0, 4, 0),
        Kind::Record, open, erased "all slots free";
    /// Twelve u16, little-endian. Erased: FFFF each, no product.
    PRODUCT_STORE = "product_store" @ 2952 + 24 since (0, 4, 0),
        Kind::Record, open, erased "no product";
    /// 0 internal, 1 external, 3 automatic. Erased: unset.
    ANTENNA_SELECTION = "antenna_selection" @ 2976 + 1 since (0, 4, 6),
        Kind::dec(names::ANTENNA), open, erased "unset";
    /// Electron only. Erased: UDP; anything else: TCP.
    CLOUD_TRANSPORT = "cloud_transport" @ 2977 + 1 since (0, 4, 9),
        Kind::hex(names::TRANSPORT), open, erased "UDP";
    /// EC SPKI of 91 bytes; which bytes really land here depends on the version. Erased: recomputed.
    ALT_DEVICE_PUBLIC_KEY = "alt_device_public_key" @ 2978 + 128 since (0, 4, 9),
        Kind::Padded { room: 128, pad: 0xFF }, open, erased "not cached";
    /// SEC1 EC private key for UDP, 121 bytes and FF. Erased: none.
    ALT_DEVICE_PRIVATE_KEY = "alt_device_private_key" @ 3106 + 192 since (0, 4, 9),
        Kind::Padded { room: 192, pad: 0xFF }, secret, erased "no key: the device generates one";
    /// EC SPKI of the server for UDP, 91 bytes and FF. Erased: none.
    ALT_SERVER_PUBLIC_KEY = "alt_server_public_key" @ 3298 + 192 since (0, 4, 9),
        Kind::Padded { room: 192, pad: 0xFF }, open, erased "no key: no session over UDP";
    /// Server address for UDP, see [`ServerAddress`](crate::ServerAddress). Erased: none, and no default exists.
    ALT_SERVER_ADDRESS = "alt_server_address" @ 3490 + 128 since (0, 4, 9),
        Kind::Address, open, erased "no address, and UDP has no default";
    /// Copy of the microcontroller's unique id. Erased: not yet copied.
    DEVICE_ID = "device_id" @ 3618 + 12 since (0, 6, 0),
        Kind::Bytes, open, erased "not yet copied";
    /// Low two bits `10`: the P1's WLAN sleep clock is off. Any other value, erased included: on.
    RADIO_FLAGS = "radio_flags" @ 3630 + 1 since (0, 6, 1),
        Kind::hex(names::RADIO), open, erased "the WLAN sleep clock is on";
    /// The bootloader's mirror of the mode button, made for one microcontroller: copy verbatim.
    MODE_BUTTON_MIRROR = "mode_button_mirror" @ 3631 + 32 since (0, 6, 1),
        Kind::Bytes, open, erased "no valid record";
    /// The bootloader's mirror of four LEDs of 24 bytes, made for one microcontroller: copy verbatim.
    LED_MIRROR = "led_mirror" @ 3663 + 96 since (0, 6, 1),
        Kind::Record, open, erased "no valid record";
    /// Serialized LED theme. Erased: default theme.
    LED_THEME = "led_theme" @ 3759 + 64 since (0, 6, 1),
        Kind::Bytes, open, erased "the default theme";
    /// WPA Enterprise settings. Erased: none.
    EAP_CONFIG = "eap_config" @ 3823 + 4296 since (0, 7, 0),
        Kind::Record, secret, erased "no WPA Enterprise settings";
    /// "Mobile secret", ASCII. Erased: none.
    DEVICE_SECRET = "device_secret" @ 8119 + 15 since (1, 4, 1),
        Kind::Text, secret, erased "none";
    /// Power management settings. Erased: defaults.
    POWER_CONFIG = "power_config" @ 8134 + 32 since (1, 5, 0),
        Kind::Record, open, erased "defaults";
    /// FA17D15E (u32): the external low speed clock is disabled. Erased: not. Missing in v2.1.0 and v2.2.0.
    EXT_LOW_SPEED_CLOCK_DISABLE = "ext_low_speed_clock_disable" @ 8166 + 4 since (2, 0, 2),
        Kind::hex(names::LOW_SPEED_CLOCK), open, erased "not disabled";
    /// Reserved.
    RESERVED2 = "reserved2" @ 8170 + 221 since (0, 7, 0),
        Kind::Bytes, open, erased "not read";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_covers_the_structure_without_gap_or_overlap() {
        let mut next = 0;
        for field in Field::ALL {
            assert_eq!(field.offset(), next, "{}", field.name());
            assert!(field.len() > 0);
            next = field.end();
        }
        assert_eq!(next, crate::app::LEN);
    }

    #[test]
    fn every_offset_finds_its_field_and_every_name_is_unique() {
        for field in Field::ALL {
            assert_eq!(Field::at(field.offset()), Some(*field));
            assert_eq!(Field::at(field.end() - 1), Some(*field));
            assert_eq!(Field::by_name(field.name()), Some(*field));
        }
        assert_eq!(Field::at(crate::app::LEN), None);
        assert_eq!(Field::by_name("server_pubic_key"), None);
    }

    #[test]
    fn one_field_has_a_hole_in_its_history() {
        let field = Field::EXT_LOW_SPEED_CLOCK_DISABLE;
        let known = |a, b, c| field.exists_in(FirmwareVersion::new(a, b, c));
        assert_eq!(field.next_in(FirmwareVersion::new(2, 1, 0)), FirmwareVersion::new(2, 3, 0));
        assert_eq!(field.next_in(FirmwareVersion::new(1, 0, 0)), field.since());
        assert!(!known(2, 0, 1) && known(2, 0, 2) && !known(2, 1, 0) && !known(2, 2, 0) && known(2, 3, 0));
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(FirmwareVersion::new(0, 10, 0) > FirmwareVersion::new(0, 9, 9));
    }
}
