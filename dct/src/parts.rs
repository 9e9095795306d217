//! The parts of the fields that consist of parts.

use crate::field::{Field, FirmwareVersion};
use crate::kind::{Kind, names};

/// One part of a field: its place in the field and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// With the name of the field before it.
    pub(crate) whole_name: &'static str,
    pub(crate) offset: u16,
    pub(crate) len: u16,
    pub(crate) kind: Kind,
    pub(crate) secret: bool,
    pub(crate) since: Option<FirmwareVersion>,
}

impl Part {
    const fn secret(mut self) -> Part {
        self.secret = true;
        self
    }

    const fn since(mut self, major: u8, minor: u8, patch: u8) -> Part {
        self.since = Some(FirmwareVersion::new(major, minor, patch));
        self
    }
}

macro_rules! part {
    ($field:literal, $($name:literal)+; $offset:expr, $len:expr, $kind:expr) => {
        Part {
            name: concat!($($name),+),
            whole_name: concat!($field, "." $(, $name)+),
            offset: $offset,
            len: $len,
            kind: $kind,
            secret: false,
            since: None,
        }
    };
}

/// The parts of a field; empty where it is one value.
pub(crate) const fn of(field: Field) -> &'static [Part] {
    match field.offset() {
        0 => SYSTEM_FLAGS,
        1634 => IP_CONFIG,
        1754 => FEATURE_FLAGS,
        2082 => SERVER_PUBLIC_KEY,
        2852 => FLASH_MODULES,
        2952 => PRODUCT_STORE,
        3663 => LED_MIRROR,
        3823 => EAP_CONFIG,
        8134 => POWER_CONFIG,
        _ => &[],
    }
}

const SYSTEM_FLAGS: &[Part] = &[
    part!("system_flags", "header"; 0, 4, Kind::hex(&[])),
    part!("system_flags", "bootloader_version"; 4, 2, Kind::dec(&[])),
    part!("system_flags", "nvmem_spark_reset"; 6, 2, Kind::hex(names::REQUESTED)),
    part!("system_flags", "flash_ota_update"; 8, 2, Kind::hex(names::FLASH_UPDATE)),
    part!("system_flags", "ota_flashed_status"; 10, 2, Kind::hex(names::UPDATE_STATUS)),
    part!("system_flags", "factory_reset"; 12, 2, Kind::hex(names::FACTORY_RESET)),
    part!("system_flags", "iwdg_enable"; 14, 2, Kind::hex(names::WATCHDOG)),
    part!("system_flags", "dfu_on_no_firmware"; 16, 1, Kind::dec(&[])),
    part!("system_flags", "factory_reset_done"; 17, 1, Kind::hex(names::RESET_DONE)),
    part!("system_flags", "startup_mode"; 18, 1, Kind::hex(names::STARTUP_MODE)),
    part!("system_flags", "features_enabled"; 19, 1, Kind::Features).since(0, 4, 5),
    part!("system_flags", "rcc_csr"; 20, 4, Kind::hex(&[])),
    part!("system_flags", "reserved"; 24, 8, Kind::Bytes),
];

const IP_CONFIG: &[Part] = &[
    part!("ip_config", "mode"; 0, 1, Kind::dec(names::IP_MODE)),
    part!("ip_config", "padding"; 1, 3, Kind::Bytes),
    part!("ip_config", "host"; 4, 4, Kind::Ipv4),
    part!("ip_config", "netmask"; 8, 4, Kind::Ipv4),
    part!("ip_config", "gateway"; 12, 4, Kind::Ipv4),
    part!("ip_config", "dns1"; 16, 4, Kind::Ipv4),
    part!("ip_config", "dns2"; 20, 4, Kind::Ipv4),
];

const FEATURE_FLAGS: &[Part] = &[
    part!("feature_flags", "reset_info"; 0, 4, Kind::bit(0)),
    part!("feature_flags", "led_overridden"; 0, 4, Kind::bit(1)).since(2, 0, 0),
];

const SERVER_PUBLIC_KEY: &[Part] = &[
    part!("server_public_key", "key"; 0, 294, Kind::Bytes),
    part!("server_public_key", "gap"; 294, 90, Kind::Bytes),
    part!("server_public_key", "address"; 384, 128, Kind::Address),
    part!("server_public_key", "tail"; 512, 256, Kind::Bytes),
];

macro_rules! modules {
    ($($slot:literal @ $base:literal),*) => {
        &[$(
            part!("flash_modules", $slot; $base, 20, Kind::Record),
            part!("flash_modules", $slot ".magic"; $base, 2, Kind::hex(names::SLOT_MAGIC)),
            part!("flash_modules", $slot ".source_device"; $base + 2, 1, Kind::dec(names::FLASH_DEVICE)),
            part!("flash_modules", $slot ".destination_device"; $base + 3, 1, Kind::dec(names::FLASH_DEVICE)),
            part!("flash_modules", $slot ".source_address"; $base + 4, 4, Kind::hex(&[])),
            part!("flash_modules", $slot ".destination_address"; $base + 8, 4, Kind::hex(&[])),
            part!("flash_modules", $slot ".length"; $base + 12, 4, Kind::dec(&[])),
            part!("flash_modules", $slot ".flags"; $base + 16, 1, Kind::hex(&[])),
            part!("flash_modules", $slot ".module_function"; $base + 17, 1, Kind::dec(&[])),
            part!("flash_modules", $slot ".reserved"; $base + 18, 2, Kind::Bytes),
        )*]
    };
}

const FLASH_MODULES: &[Part] = modules!["0" @ 0, "1" @ 20, "2" @ 40, "3" @ 60, "4" @ 80];

const PRODUCT_STORE: &[Part] = &[
    part!("product_store", "0"; 0, 2, Kind::dec(&[])),
    part!("product_store", "1"; 2, 2, Kind::dec(&[])),
    part!("product_store", "2"; 4, 2, Kind::dec(&[])),
    part!("product_store", "3"; 6, 2, Kind::dec(&[])),
    part!("product_store", "4"; 8, 2, Kind::dec(&[])),
    part!("product_store", "5"; 10, 2, Kind::dec(&[])),
    part!("product_store", "6"; 12, 2, Kind::dec(&[])),
    part!("product_store", "7"; 14, 2, Kind::dec(&[])),
    part!("product_store", "8"; 16, 2, Kind::dec(&[])),
    part!("product_store", "9"; 18, 2, Kind::dec(&[])),
    part!("product_store", "10"; 20, 2, Kind::dec(&[])),
    part!("product_store", "11"; 22, 2, Kind::dec(&[])),
];

const LED_MIRROR: &[Part] = &[
    part!("led_mirror", "0"; 0, 24, Kind::Bytes),
    part!("led_mirror", "1"; 24, 24, Kind::Bytes),
    part!("led_mirror", "2"; 48, 24, Kind::Bytes),
    part!("led_mirror", "3"; 72, 24, Kind::Bytes),
];

const EAP_CONFIG: &[Part] = &[
    part!("eap_config", "type"; 0, 1, Kind::dec(names::EAP_TYPE)),
    part!("eap_config", "inner_identity"; 1, 65, Kind::Counted { room: 64, text: true }),
    part!("eap_config", "outer_identity"; 66, 65, Kind::Counted { room: 64, text: true }),
    part!("eap_config", "security_key"; 131, 65, Kind::Counted { room: 64, text: true }).secret(),
    part!("eap_config", "ca_certificate"; 196, 4098, Kind::Counted { room: 4096, text: false }),
    part!("eap_config", "padding"; 4294, 2, Kind::Bytes),
];

const POWER_CONFIG: &[Part] = &[
    part!("power_config", "flags"; 0, 4, Kind::hex(&[])),
    part!("power_config", "flags.pmic_detection"; 0, 4, Kind::power_bit(0)),
    part!("power_config", "flags.disabled"; 0, 4, Kind::power_bit(8)),
    part!("power_config", "flags.use_vin_settings_with_usb_host"; 0, 4, Kind::power_bit(9)),
    part!("power_config", "version"; 4, 1, Kind::dec(&[])),
    part!("power_config", "size"; 5, 1, Kind::dec(&[])),
    part!("power_config", "vin_min_mv"; 6, 2, Kind::dec(&[])),
    part!("power_config", "vin_max_ma"; 8, 2, Kind::dec(&[])),
    part!("power_config", "charge_ma"; 10, 2, Kind::dec(&[])),
    part!("power_config", "termination_mv"; 12, 2, Kind::dec(&[])),
    part!("power_config", "reserved"; 14, 18, Kind::Bytes),
];
