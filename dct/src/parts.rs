//! The parts of the fields that consist of parts.

use crate::field::{Field, FirmwareVersion};
use crate::kind::{Kind, names};

/// One part of a field: its place in the field and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) struct Part {
    pub(crate) name: &'static str,
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

const fn part(name: &'static str, offset: u16, len: u16, kind: Kind) -> Part {
    Part { name, offset, len, kind, secret: false, since: None }
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
    part("header", 0, 4, Kind::hex(&[])),
    part("bootloader_version", 4, 2, Kind::dec(&[])),
    part("nvmem_spark_reset", 6, 2, Kind::hex(names::REQUESTED)),
    part("flash_ota_update", 8, 2, Kind::hex(names::FLASH_UPDATE)),
    part("ota_flashed_status", 10, 2, Kind::hex(names::UPDATE_STATUS)),
    part("factory_reset", 12, 2, Kind::hex(names::FACTORY_RESET)),
    part("iwdg_enable", 14, 2, Kind::hex(names::WATCHDOG)),
    part("dfu_on_no_firmware", 16, 1, Kind::dec(&[])),
    part("factory_reset_done", 17, 1, Kind::hex(names::RESET_DONE)),
    part("startup_mode", 18, 1, Kind::hex(names::STARTUP_MODE)),
    part("features_enabled", 19, 1, Kind::Features).since(0, 4, 5),
    part("rcc_csr", 20, 4, Kind::hex(&[])),
    part("reserved", 24, 8, Kind::Bytes),
];

const IP_CONFIG: &[Part] = &[
    part("mode", 0, 1, Kind::dec(names::IP_MODE)),
    part("padding", 1, 3, Kind::Bytes),
    part("host", 4, 4, Kind::Ipv4),
    part("netmask", 8, 4, Kind::Ipv4),
    part("gateway", 12, 4, Kind::Ipv4),
    part("dns1", 16, 4, Kind::Ipv4),
    part("dns2", 20, 4, Kind::Ipv4),
];

const FEATURE_FLAGS: &[Part] =
    &[part("reset_info", 0, 4, Kind::bit(0)), part("led_overridden", 0, 4, Kind::bit(1)).since(2, 0, 0)];

const SERVER_PUBLIC_KEY: &[Part] = &[
    part("key", 0, 294, Kind::Bytes),
    part("gap", 294, 90, Kind::Bytes),
    part("address", 384, 128, Kind::Address),
    part("tail", 512, 256, Kind::Bytes),
];

macro_rules! modules {
    ($($slot:literal @ $base:literal),*) => {
        &[$(
            part($slot, $base, 20, Kind::Record),
            part(concat!($slot, ".magic"), $base, 2, Kind::hex(names::SLOT_MAGIC)),
            part(concat!($slot, ".source_device"), $base + 2, 1, Kind::dec(names::FLASH_DEVICE)),
            part(concat!($slot, ".destination_device"), $base + 3, 1, Kind::dec(names::FLASH_DEVICE)),
            part(concat!($slot, ".source_address"), $base + 4, 4, Kind::hex(&[])),
            part(concat!($slot, ".destination_address"), $base + 8, 4, Kind::hex(&[])),
            part(concat!($slot, ".length"), $base + 12, 4, Kind::dec(&[])),
            part(concat!($slot, ".flags"), $base + 16, 1, Kind::hex(&[])),
            part(concat!($slot, ".module_function"), $base + 17, 1, Kind::dec(&[])),
            part(concat!($slot, ".reserved"), $base + 18, 2, Kind::Bytes),
        )*]
    };
}

const FLASH_MODULES: &[Part] = modules!["0" @ 0, "1" @ 20, "2" @ 40, "3" @ 60, "4" @ 80];

const PRODUCT_STORE: &[Part] = &[
    part("0", 0, 2, Kind::dec(&[])),
    part("1", 2, 2, Kind::dec(&[])),
    part("2", 4, 2, Kind::dec(&[])),
    part("3", 6, 2, Kind::dec(&[])),
    part("4", 8, 2, Kind::dec(&[])),
    part("5", 10, 2, Kind::dec(&[])),
    part("6", 12, 2, Kind::dec(&[])),
    part("7", 14, 2, Kind::dec(&[])),
    part("8", 16, 2, Kind::dec(&[])),
    part("9", 18, 2, Kind::dec(&[])),
    part("10", 20, 2, Kind::dec(&[])),
    part("11", 22, 2, Kind::dec(&[])),
];

const LED_MIRROR: &[Part] = &[
    part("0", 0, 24, Kind::Bytes),
    part("1", 24, 24, Kind::Bytes),
    part("2", 48, 24, Kind::Bytes),
    part("3", 72, 24, Kind::Bytes),
];

const EAP_CONFIG: &[Part] = &[
    part("type", 0, 1, Kind::dec(names::EAP_TYPE)),
    part("inner_identity", 1, 65, Kind::Counted { room: 64, text: true }),
    part("outer_identity", 66, 65, Kind::Counted { room: 64, text: true }),
    part("security_key", 131, 65, Kind::Counted { room: 64, text: true }).secret(),
    part("ca_certificate", 196, 4098, Kind::Counted { room: 4096, text: false }),
    part("padding", 4294, 2, Kind::Bytes),
];

const POWER_CONFIG: &[Part] = &[
    part("flags", 0, 4, Kind::hex(&[])),
    part("flags.pmic_detection", 0, 4, Kind::power_bit(0)),
    part("flags.disabled", 0, 4, Kind::power_bit(8)),
    part("flags.use_vin_settings_with_usb_host", 0, 4, Kind::power_bit(9)),
    part("version", 4, 1, Kind::dec(&[])),
    part("size", 5, 1, Kind::dec(&[])),
    part("vin_min_mv", 6, 2, Kind::dec(&[])),
    part("vin_max_ma", 8, 2, Kind::dec(&[])),
    part("charge_ma", 10, 2, Kind::dec(&[])),
    part("termination_mv", 12, 2, Kind::dec(&[])),
    part("reserved", 14, 18, Kind::Bytes),
];
