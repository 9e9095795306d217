//! Kinds of values that fields and their parts hold.

use crate::power_config;

/// What a field or a part of one holds, and so which text stands for it.
///
/// | kind | text |
/// |---|---|
/// | `Record` | hexadecimal digits of all bytes; better use its parts |
/// | `Bytes` | hexadecimal digits of all bytes |
/// | `Padded` | hexadecimal digits, at most `room` bytes; padding is added and taken away |
/// | `Text`, `TextAfterLength`, `Counted` with `text` | the text itself, `\xNN` and `\\` for other bytes |
/// | `Counted` without `text` | hexadecimal digits |
/// | `Names` | names separated by commas |
/// | `Number` | a name from the list, or a number, decimal or `0x…` |
/// | `Bit` | `on` or `off` |
/// | `Claimed` | `true` or `false` |
/// | `Features` | `all`, `none`, or names joined by `+` |
/// | `Ipv4` | dotted octets |
/// | `Country` | two letters, `/`, one hexadecimal digit |
/// | `Address` | `host` or `host:port` |
///
/// In place of each, `unset` stands for erased (FF in all bytes), and `0x` with digits for **all** bytes stands for
/// exactly these, where something else than the kind is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Kind {
    /// Consists of parts.
    Record,
    /// Opaque bytes.
    Bytes,
    /// Bytes at the front of the field and padding behind them, up to `room`. What follows `room` is left alone.
    Padded {
        /// Bytes that firmware reads and writes.
        room: u16,
        /// Padding: FF, or 00 for the cached public key.
        pad: u8,
    },
    /// Text that ends with the field or at the first 00 or FF.
    Text,
    /// One length byte and the text.
    TextAfterLength {
        /// Longest text.
        max: u8,
    },
    /// `room` bytes and behind them the length that is used: one byte, or a little-endian u16 where `room` is above 255.
    /// Not terminated.
    Counted {
        /// Bytes available.
        room: u16,
        /// Whether the bytes are text.
        text: bool,
    },
    /// Texts that end with 00, one after the other.
    Names,
    /// Little-endian integer of 1, 2 or 4 bytes.
    Number {
        /// Whether numbers are shown in hexadecimal.
        hex: bool,
        /// Numbers that have names.
        names: &'static [Name],
    },
    /// One bit of a little-endian integer.
    Bit {
        /// Number of the bit.
        bit: u8,
        /// Whether the bit is 0 for on.
        inverted: bool,
        /// What an erased integer stands for, where firmware does not take its bits for what they are: the switch is unset then,
        /// and one that is set begins from here.
        default: Option<u32>,
    },
    /// ASCII `'1'` (31) and nothing else is true; binary 1 is **not**.
    Claimed,
    /// Start modes, see [`EnabledFeatures`](crate::system_flags::EnabledFeatures).
    Features,
    /// IPv4 address, **last octet first**.
    Ipv4,
    /// See [`CountryCode`](crate::app::CountryCode).
    Country,
    /// See [`ServerAddress`](crate::ServerAddress).
    Address,
}

impl Kind {
    pub(crate) const fn dec(names: &'static [Name]) -> Kind {
        Kind::Number { hex: false, names }
    }

    pub(crate) const fn hex(names: &'static [Name]) -> Kind {
        Kind::Number { hex: true, names }
    }

    /// A switch of an integer that is read as it is, also when erased.
    pub(crate) const fn bit(bit: u8) -> Kind {
        Kind::Bit { bit, inverted: false, default: None }
    }

    /// A switch of `power_config.flags`.
    pub(crate) const fn power_bit(bit: u8) -> Kind {
        Kind::Bit { bit, inverted: bit < 8, default: Some(power_config::DEFAULT_FLAGS) }
    }

    /// Order of the bytes of a number, `None` where there is no number.
    #[must_use]
    pub const fn byte_order(&self) -> Option<ByteOrder> {
        match self {
            Kind::Number { .. } | Kind::Bit { .. } | Kind::Counted { .. } => Some(ByteOrder::Little),
            Kind::Ipv4 => Some(ByteOrder::ReversedOctets),
            Kind::Address => Some(ByteOrder::BigPort),
            _ => None,
        }
    }

    /// One word for tables: `bytes`, `text`, `number`, …
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Kind::Record => "record",
            Kind::Bytes | Kind::Padded { .. } | Kind::Counted { text: false, .. } => "bytes",
            Kind::Text | Kind::TextAfterLength { .. } | Kind::Counted { text: true, .. } => "text",
            Kind::Names => "names",
            Kind::Number { .. } => "number",
            Kind::Bit { .. } => "switch",
            Kind::Claimed => "bool",
            Kind::Features => "features",
            Kind::Ipv4 => "ipv4",
            Kind::Country => "country",
            Kind::Address => "address",
        }
    }
}

/// Order of the bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ByteOrder {
    /// Least significant byte first.
    Little,
    /// An IPv4 address with its last octet first, against what the firmware's header says.
    ReversedOctets,
    /// A server address: octets in dotted order, port with its most significant byte first.
    BigPort,
}

/// A number that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Name {
    /// The name.
    pub name: &'static str,
    /// The number.
    pub number: u32,
}

/// The lists of names.
pub(crate) mod names {
    use super::Name;

    const fn name(name: &'static str, number: u32) -> Name {
        Name { name, number }
    }

    pub(crate) const OTA_UPDATE_FLAG: &[Name] = &[name("apply", 0xA5), name("none", 0xFF)];
    pub(crate) const ANTENNA: &[Name] = &[name("internal", 0), name("external", 1), name("auto", 3)];
    pub(crate) const TRANSPORT: &[Name] = &[name("udp", 0xFF), name("tcp", 0)];
    pub(crate) const RADIO: &[Name] = &[name("sleep_clock_off", 0xFE), name("sleep_clock_on", 0xFF)];
    pub(crate) const LOW_SPEED_CLOCK: &[Name] =
        &[name("disabled", 0xFA17_D15E), name("not_disabled", 0xFFFF_FFFF)];
    pub(crate) const REQUESTED: &[Name] = &[name("requested", 1), name("none", 0xFFFF)];
    pub(crate) const FLASH_UPDATE: &[Name] =
        &[name("apply", 0x0005), name("restore", 0x5000), name("none", 0xFFFF)];
    pub(crate) const UPDATE_STATUS: &[Name] = &[name("success", 1), name("none", 0)];
    pub(crate) const FACTORY_RESET: &[Name] = &[name("requested", 0xAAAA), name("none", 0xFFFF)];
    pub(crate) const WATCHDOG: &[Name] = &[name("on", 0xD001), name("off", 0xFFFF)];
    pub(crate) const RESET_DONE: &[Name] = &[name("done", 0x5A), name("none", 0xFF)];
    pub(crate) const STARTUP_MODE: &[Name] = &[name("safe_mode", 1), name("normal", 0)];
    pub(crate) const IP_MODE: &[Name] = &[name("dhcp", 0), name("static", 1)];
    pub(crate) const SLOT_MAGIC: &[Name] =
        &[name("used", 0xABCD), name("factory", 0x0FAC), name("free", 0xFFFF)];
    pub(crate) const FLASH_DEVICE: &[Name] = &[name("internal", 0), name("serial", 1)];
    pub(crate) const EAP_TYPE: &[Name] = &[name("tls", 13), name("peap", 25)];
}
