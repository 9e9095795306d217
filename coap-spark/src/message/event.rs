//! Events and subscriptions.

use super::name::Name;
use super::{DecodeError, EncodeError};
use crate::coap::{Message, OptionNumber, WriteError, Writer};
use crate::handshake::DeviceId;

/// An event, published or delivered.
///
/// | part | on the wire |
/// |---|---|
/// | letter | `e` public, `E` private |
/// | name | Uri-Path: one option from devices, one a segment from servers; none for an empty name |
/// | ttl | Max-Age: 3 bytes from devices; the shortest, or always 4 bytes, from servers |
/// | data | payload |
///
/// What the system itself says and hears has names of its own, see [`SystemEvent`](super::SystemEvent).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// Its name, up to 63 bytes (64 since 0.8.0).
    pub name: Name<'a>,
    /// Letter `e` instead of `E`.
    pub public: bool,
    /// Time to live in seconds, up to 16,777,215. Devices leave it out when it is 60, so absent means 60, see
    /// [`Event::ttl`]; the Brewskey server reads absent as 0. `Some(0)` is sent as it is. Devices pass it over.
    pub max_age: Option<u32>,
    /// Data, up to 255 bytes (622 since 0.8.0).
    ///
    /// `None` was published without data, `Some(&[])` with an empty string: a device then sends a payload marker with
    /// nothing behind it. That is read, but never emitted: both are sent without a marker.
    pub data: Option<&'a [u8]>,
}

/// What an absent ttl means, in seconds.
const DEFAULT_TTL: u32 = 60;
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

    /// Time to live in seconds: 60 if the message does not say.
    #[must_use]
    pub const fn ttl(&self) -> u32 {
        match self.max_age {
            Some(age) => age,
            None => DEFAULT_TTL,
        }
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
    /// All public events, the "firehose": neither query nor payload. Needs a name.
    All,
    /// Events of the owner's devices (query `u`).
    MyDevices,
    /// Events of one device: its id as 24 hex digits in the payload.
    Device(DeviceId),
    /// A payload that is no device id, as it was sent.
    DeviceText(&'a [u8]),
}

/// A subscription: a prefix of event names, always with letter `e`, also for private events.
///
/// A device matches byte by byte and with case: the prefix begins the name. It has room for 4 subscriptions of the
/// application and stores 12 characters of a device id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribe<'a> {
    /// The prefix, up to 63 bytes. Devices may leave it empty for [`Scope::MyDevices`]; both JavaScript servers refuse
    /// an empty one.
    pub prefix: Name<'a>,
    /// Whose events.
    pub scope: Scope<'a>,
}

impl<'a> Subscribe<'a> {
    /// Everybody's events without a prefix: firmware refuses to send this, a server should refuse it with 4.00.
    #[must_use]
    pub fn is_unnamed_firehose(&self) -> bool {
        matches!(self.scope, Scope::All) && self.prefix.is_empty()
    }

    pub(super) fn decode(message: &Message<'a>) -> Self {
        let scope = match (message.values(OptionNumber::URI_QUERY).next(), message.payload()) {
            (Some(b"u"), _) => Scope::MyDevices,
            (_, Some(text)) if !text.is_empty() => {
                let id = core::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
                id.map_or(Scope::DeviceText(text), Scope::Device)
            }
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
            Scope::Device(id) => writer.payload(&hex(id)),
            Scope::DeviceText(text) => writer.payload(text),
        }
    }
}

fn hex(DeviceId(id): DeviceId) -> [u8; 2 * DeviceId::LEN] {
    let mut text = [0; 2 * DeviceId::LEN];
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(id) {
        *pair = [byte >> 4, byte & 15].map(|digit| digit + if digit < 10 { b'0' } else { b'a' - 10 });
    }
    text
}
