//! Events and subscriptions.

use super::name::Name;
use super::{DecodeError, EncodeError};
use crate::coap::{Message, OptionNumber, WriteError, Writer};

/// Names of the system events that devices and servers exchange. All are private with a ttl of 60 s.
pub mod system_event {
    /// Device: the application does not run because modules are missing; act on Describe.
    pub const SAFE_MODE: &str = "spark/device/safemode";
    /// Device: claim code from the setup, up to 63 characters.
    pub const CLAIM_CODE: &str = "spark/device/claim/code";
    /// Device: size of the OTA region in decimal.
    pub const MAX_BINARY: &str = "spark/hardware/max_binary";
    /// Device: the chunk size it would like, in decimal.
    pub const OTA_CHUNK_SIZE: &str = "spark/hardware/ota_chunk_size";
    /// Device: why it restarted.
    pub const LAST_RESET: &str = "spark/device/last_reset";
    /// Device: JSON with the result of an update.
    pub const OTA_RESULT: &str = "spark/device/ota_result";
    /// Server: an update of system modules begins; the data is the module index.
    pub const SAFE_MODE_UPDATING: &str = "spark/safe-mode-updater/updating";
    /// Prefix of all system events. Device OS 0.8 and later also subscribes to `particle`.
    pub const PREFIX: &str = "spark";
}

/// An event, published or delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// Its name, up to 63 bytes (64 since 0.8.0).
    pub name: Name<'a>,
    /// Letter `e` instead of `E`.
    pub public: bool,
    /// Time to live in seconds, up to 16,777,215; absent means 60.
    pub max_age: Option<u32>,
    /// Data, up to 255 bytes (622 since 0.8.0); `Some(&[])` is sent like `None`.
    pub data: Option<&'a [u8]>,
}

/// Largest ttl: devices have three bytes for it.
const MAX_TTL: u32 = 0xff_ffff;

impl<'a> Event<'a> {
    pub(super) fn decode(message: &Message<'a>, public: bool) -> Result<Self, DecodeError> {
        let max_age = match message.values(OptionNumber::MAX_AGE).next() {
            None => None,
            Some(value) if value.len() <= 4 => {
                Some(value.iter().fold(0u32, |age, &byte| age << 8 | u32::from(byte)))
            }
            Some(value) => {
                let (expected, found) = ("at most 4 bytes", value.len());
                return Err(DecodeError::Field { field: "Max-Age", expected, found });
            }
        };
        Ok(Self { name: Name::of(message), public, max_age, data: message.payload() })
    }

    pub(super) const fn letter(&self) -> u8 {
        if self.public { b'e' } else { b'E' }
    }

    /// As firmware does: the whole name in one option, three bytes of ttl.
    pub(super) fn write_from_device<'b>(&self, mut writer: Writer<'b>) -> Result<&'b [u8], EncodeError> {
        self.name.write_whole(&mut writer)?;
        if let Some(age) = self.checked_age()? {
            let [_, ttl @ ..] = age.to_be_bytes();
            writer.option(OptionNumber::MAX_AGE, &ttl)?;
        }
        Ok(writer.payload(self.data.unwrap_or_default())?)
    }

    /// As servers do: a segment an option, the shortest ttl.
    pub(super) fn write_from_server<'b>(&self, mut writer: Writer<'b>) -> Result<&'b [u8], EncodeError> {
        self.name.write_split(&mut writer)?;
        if let Some(age) = self.checked_age()? {
            let bytes = age.to_be_bytes();
            let zeros = usize::try_from(age.leading_zeros() / 8).unwrap_or(0);
            writer.option(OptionNumber::MAX_AGE, bytes.get(zeros..).unwrap_or_default())?;
        }
        Ok(writer.payload(self.data.unwrap_or_default())?)
    }

    fn checked_age(&self) -> Result<Option<u32>, EncodeError> {
        match self.max_age {
            Some(age) if age > MAX_TTL => Err(EncodeError::TooLarge {
                field: "ttl of an event",
                limit: MAX_TTL,
                found: usize::try_from(age).unwrap_or(usize::MAX),
            }),
            age => Ok(age),
        }
    }
}

/// Whose events a device wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Scope<'a> {
    /// All public events; needs a name.
    All,
    /// Events of the owner's devices (query `u`).
    MyDevices,
    /// Events of one device: its id as it was sent (24 hex digits).
    Device(&'a [u8]),
}

/// A subscription: a prefix of event names, always with letter `e`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribe<'a> {
    /// The prefix, up to 63 bytes.
    pub prefix: Name<'a>,
    /// Whose events.
    pub scope: Scope<'a>,
}

impl<'a> Subscribe<'a> {
    pub(super) fn decode(message: &Message<'a>) -> Self {
        let scope = match (message.values(OptionNumber::URI_QUERY).next(), message.payload()) {
            (Some(b"u"), _) => Scope::MyDevices,
            (_, Some(id)) if !id.is_empty() => Scope::Device(id),
            _ => Scope::All,
        };
        Self { prefix: Name::of(message), scope }
    }

    pub(super) fn write<'b>(&self, mut writer: Writer<'b>) -> Result<&'b [u8], WriteError> {
        self.prefix.write_whole(&mut writer)?;
        match self.scope {
            Scope::All => Ok(writer.finish()),
            Scope::MyDevices => {
                writer.option(OptionNumber::URI_QUERY, b"u")?;
                Ok(writer.finish())
            }
            Scope::Device(id) => writer.payload(id),
        }
    }
}
