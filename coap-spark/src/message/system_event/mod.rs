//! What the events of the system mean, in both directions.
//!
//! All are private and live for 60 s. The constants are their names; [`SystemEvent`] reads and writes their data.
//!
//! # Source
//! device-os@v2.3.1: `system/src/system_cloud_internal.cpp`; srv-P and srv-B for what servers publish.

mod names;
mod words;

pub use names::*;
pub use words::{DeviceStatus, FlashStatus, LastReset, ResetRequest};

use super::{EncodeError, Event, Name};
use crate::coap::WriteError;
use words::{SEPARATOR, decimal};

/// An event of the system.
///
/// | name | from | variant | data |
/// |---|---|---|---|
/// | `spark/device/claim/code` | device | [`ClaimCode`](Self::ClaimCode) | up to 63 characters |
/// | `spark/device/ident/0` | device | [`Identifier`](Self::Identifier) | text |
/// | `spark/hardware/max_binary` | device | [`MaxBinary`](Self::MaxBinary) | decimal |
/// | `spark/hardware/ota_chunk_size` | device | [`OtaChunkSize`](Self::OtaChunkSize) | decimal |
/// | `spark/device/safemode` | device | [`SafeMode`](Self::SafeMode) | empty |
/// | `spark/device/last_reset` | device | [`LastReset`](Self::LastReset) | word or number |
/// | `spark/device/ota_result` | device | [`OtaResult`](Self::OtaResult) | JSON |
/// | `spark/device/key/error` | device | [`KeyErrors`](Self::KeyErrors) | decimal bit set |
/// | `spark/…-version` | device | [`SubsystemVersion`](Self::SubsystemVersion) | text |
/// | `spark/device/name`, `ip`, `random` | both | [`DeviceName`](Self::DeviceName), … | question, then answer |
/// | `particle/device/updates/enabled` | device | [`UpdatesEnabled`](Self::UpdatesEnabled) | `true`, `false` |
/// | `particle/device/updates/forced` | both | [`UpdatesForced`](Self::UpdatesForced) | `true`, `false` |
/// | `particle/device/updates/pending` | server | [`UpdatesPending`](Self::UpdatesPending) | `true`, `false` |
/// | `spark/device/claim/…` | server | [`Claimed`](Self::Claimed) | any |
/// | `spark/device/reset` | server | [`Reset`](Self::Reset) | word |
/// | `spark/device/key/restore…` | server | [`KeyRestore`](Self::KeyRestore) | any |
/// | `spark/status` | about a device | [`Status`](Self::Status) | word |
/// | `spark/flash/status` | about a device | [`FlashStatus`](Self::FlashStatus) | word |
/// | `spark/device/app-hash` | about a device | [`AppHash`](Self::AppHash) | text |
/// | `spark/safe-mode-updater/updating` | about a device | [`SafeModeUpdating`](Self::SafeModeUpdating) | module index |
///
/// Data that is not of this form, and all other names, are [`Other`](Self::Other).
///
/// ```
/// use coap_spark::message::system_event::{self, ResetRequest, SystemEvent};
/// use coap_spark::message::{Event, Name};
///
/// let name = Name::new(system_event::RESET);
/// let event = Event { name, public: false, max_age: None, data: Some(b"safe mode") };
/// assert_eq!(SystemEvent::of(&event), SystemEvent::Reset(ResetRequest::SafeMode));
///
/// let event = SystemEvent::MaxBinary(393_216);
/// let mut data = [0; SystemEvent::DATA_LEN];
/// let event = event.to_event(&mut data)?;
/// assert!(event.name == "spark/hardware/max_binary" && event.data == Some(b"393216"));
/// # Ok::<(), coap_spark::message::EncodeError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SystemEvent<'a> {
    /// The claim code from the setup: who sends it becomes a device of its owner. Up to 63 characters.
    ClaimCode(&'a [u8]),
    /// Hardware identifier of a cellular device.
    Identifier(&'a [u8]),
    /// Size of the OTA region in bytes.
    MaxBinary(u32),
    /// The chunk size that the device would like, in bytes.
    OtaChunkSize(u32),
    /// The application does not run because modules are missing. The data is empty.
    SafeMode(&'a [u8]),
    /// Why the device restarted.
    LastReset(LastReset<'a>),
    /// JSON with the result of an update.
    OtaResult(&'a [u8]),
    /// Which keys are bad, as a bit set of the device's own.
    KeyErrors(u32),
    /// Version of a part of the hardware that has firmware of its own.
    SubsystemVersion {
        /// `spark/` and the part, ending in `-version`.
        name: Name<'a>,
        /// Its version.
        version: &'a [u8],
    },
    /// The device's name. A device asks with empty data; the answer goes to a subscription of the application.
    /// The Brewskey server answers [`SystemEvent::DeviceIp`] with this one too.
    DeviceName(&'a [u8]),
    /// The device's public address; asked and answered like the name.
    DeviceIp(&'a [u8]),
    /// Random bytes; asked and answered like the name.
    DeviceRandom(&'a [u8]),
    /// The device takes updates.
    UpdatesEnabled(bool),
    /// Updates are forced on the device.
    UpdatesForced(bool),
    /// An update waits.
    UpdatesPending(bool),
    /// The claim is settled.
    Claimed {
        /// `spark/device/claim/` and more.
        name: Name<'a>,
        /// Any.
        data: Option<&'a [u8]>,
    },
    /// The device is to restart.
    Reset(ResetRequest<'a>),
    /// The device is to restore its server key.
    KeyRestore {
        /// `spark/device/key/restore` and perhaps more.
        name: Name<'a>,
        /// Any.
        data: Option<&'a [u8]>,
    },
    /// A device came or went.
    Status(DeviceStatus<'a>),
    /// An update goes on.
    FlashStatus(FlashStatus<'a>),
    /// Hash of a device's application.
    AppHash(&'a [u8]),
    /// An update of system modules begins: index of the module.
    SafeModeUpdating(u32),
    /// Any other event.
    Other {
        /// Its name.
        name: Name<'a>,
        /// Its data.
        data: Option<&'a [u8]>,
    },
}

/// Which names are the system's; it depends on the firmware. They have a rate limit of their own on a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SystemNames {
    /// Names that begin with `spark` in upper or lower case: up to 1.5.1.
    SparkInAnyCase,
    /// Names that begin with `spark` or `particle` exactly: since 1.5.2.
    SparkOrParticle,
}

impl Name<'_> {
    /// Whether an application may not publish this name, and the system's rate limit counts it.
    #[must_use]
    pub fn is_system(&self, names: SystemNames) -> bool {
        match names {
            SystemNames::SparkInAnyCase => {
                let mut bytes = self.bytes();
                PREFIX.bytes().all(|byte| bytes.next().is_some_and(|b| b.eq_ignore_ascii_case(&byte)))
            }
            SystemNames::SparkOrParticle => self.starts_with(PREFIX) || self.starts_with(PARTICLE_PREFIX),
        }
    }
}

/// A claim code is up to 63 base64 characters.
const MAX_CLAIM_CODE: u32 = 63;

impl<'a> SystemEvent<'a> {
    /// A buffer of this length is enough for [`SystemEvent::to_event`] with all that devices say.
    pub const DATA_LEN: usize = 64;

    /// What an event means. Public or private and the ttl do not matter.
    #[must_use]
    pub fn of(event: &Event<'a>) -> Self {
        let Event { name, data: given, .. } = *event;
        let data = given.unwrap_or_default();
        let typed = || {
            let mut joined = [0; 64];
            Some(match core::str::from_utf8(name.join_into(&mut joined)?).ok()? {
                CLAIM_CODE => Self::ClaimCode(Some(data).filter(|data| data.len() <= 63)?),
                IDENTIFIER => Self::Identifier(data),
                MAX_BINARY => Self::MaxBinary(decimal(data)?),
                OTA_CHUNK_SIZE => Self::OtaChunkSize(decimal(data)?),
                SAFE_MODE => Self::SafeMode(data),
                LAST_RESET => Self::LastReset(LastReset::from_data(data)?),
                OTA_RESULT => Self::OtaResult(data),
                KEY_ERROR => Self::KeyErrors(decimal(data)?),
                DEVICE_NAME => Self::DeviceName(data),
                DEVICE_IP => Self::DeviceIp(data),
                DEVICE_RANDOM => Self::DeviceRandom(data),
                UPDATES_ENABLED => Self::UpdatesEnabled(flag(data)?),
                UPDATES_FORCED => Self::UpdatesForced(flag(data)?),
                UPDATES_PENDING => Self::UpdatesPending(flag(data)?),
                RESET => Self::Reset(ResetRequest::from_data(data)),
                STATUS => Self::Status(DeviceStatus::from_data(data)),
                FLASH_STATUS => Self::FlashStatus(FlashStatus::from_data(data)),
                APP_HASH => Self::AppHash(data),
                SAFE_MODE_UPDATING => Self::SafeModeUpdating(decimal(data)?),
                version => {
                    let part = version.strip_prefix("spark/")?.strip_suffix("-version")?;
                    if part.is_empty() || part.contains('/') {
                        return None;
                    }
                    Self::SubsystemVersion { name, version: data }
                }
            })
        };
        let by_prefix = || {
            if name == CLAIM_CODE {
                None
            } else if name.starts_with(CLAIM_PREFIX) {
                Some(Self::Claimed { name, data: given })
            } else {
                name.starts_with(KEY_RESTORE).then_some(Self::KeyRestore { name, data: given })
            }
        };
        typed().or_else(by_prefix).unwrap_or(Self::Other { name, data: given })
    }

    /// Whether a device that hears this clears its claim code.
    #[must_use]
    pub fn clears_claim_code(&self) -> bool {
        self.name().starts_with(CLAIM_PREFIX)
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> Name<'a> {
        Name::new(match self {
            Self::ClaimCode(_) => CLAIM_CODE,
            Self::Identifier(_) => IDENTIFIER,
            Self::MaxBinary(_) => MAX_BINARY,
            Self::OtaChunkSize(_) => OTA_CHUNK_SIZE,
            Self::SafeMode(_) => SAFE_MODE,
            Self::LastReset(_) => LAST_RESET,
            Self::OtaResult(_) => OTA_RESULT,
            Self::KeyErrors(_) => KEY_ERROR,
            Self::DeviceName(_) => DEVICE_NAME,
            Self::DeviceIp(_) => DEVICE_IP,
            Self::DeviceRandom(_) => DEVICE_RANDOM,
            Self::UpdatesEnabled(_) => UPDATES_ENABLED,
            Self::UpdatesForced(_) => UPDATES_FORCED,
            Self::UpdatesPending(_) => UPDATES_PENDING,
            Self::Reset(_) => RESET,
            Self::Status(_) => STATUS,
            Self::FlashStatus(_) => FLASH_STATUS,
            Self::AppHash(_) => APP_HASH,
            Self::SafeModeUpdating(_) => SAFE_MODE_UPDATING,
            Self::SubsystemVersion { name, .. }
            | Self::Claimed { name, .. }
            | Self::KeyRestore { name, .. }
            | Self::Other { name, .. } => return *name,
        })
    }

    /// The event that says this: private, without a ttl, which means 60 s. Numbers and composed words are written to
    /// `out`, all else is borrowed.
    ///
    /// # Errors
    /// [`EncodeError::TooLarge`] for a claim code above 63 characters, [`WriteError::BufferTooSmall`].
    pub fn to_event<'b>(&self, out: &'b mut [u8]) -> Result<Event<'b>, EncodeError>
    where
        'a: 'b,
    {
        let data = match *self {
            Self::ClaimCode(code) if code.len() > 63 => {
                let (field, limit, found) = ("claim code", MAX_CLAIM_CODE, code.len());
                return Err(EncodeError::TooLarge { field, limit, found });
            }
            Self::ClaimCode(data)
            | Self::Identifier(data)
            | Self::SafeMode(data)
            | Self::OtaResult(data)
            | Self::DeviceName(data)
            | Self::DeviceIp(data)
            | Self::DeviceRandom(data)
            | Self::AppHash(data)
            | Self::SubsystemVersion { version: data, .. } => Some(data),
            Self::MaxBinary(number)
            | Self::OtaChunkSize(number)
            | Self::KeyErrors(number)
            | Self::SafeModeUpdating(number) => Some(join(&[digits(number, &mut [0; 10])], out)?),
            Self::LastReset(LastReset { reason, detail }) => {
                let mut number = [0; 10];
                let reason = match reason.name() {
                    Some(name) => name.as_bytes(),
                    None => digits(reason.number(), &mut number),
                };
                let separator = if detail.is_some() { SEPARATOR } else { &[] };
                Some(join(&[reason, separator, detail.unwrap_or_default()], out)?)
            }
            Self::UpdatesEnabled(flag) | Self::UpdatesForced(flag) | Self::UpdatesPending(flag) => {
                Some(if flag { &b"true"[..] } else { b"false" })
            }
            Self::Reset(word) => Some(word.data()),
            Self::Status(word) => Some(word.data()),
            Self::FlashStatus(word) => Some(word.data()),
            Self::Claimed { data, .. } | Self::KeyRestore { data, .. } | Self::Other { data, .. } => data,
        };
        Ok(Event { name: self.name(), public: false, max_age: None, data })
    }
}

fn flag(data: &[u8]) -> Option<bool> {
    match data {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

fn digits(mut number: u32, out: &mut [u8; 10]) -> &[u8] {
    let mut at = out.len();
    for place in out.iter_mut().rev() {
        let [digit, ..] = (number % 10).to_le_bytes();
        *place = b'0' + digit;
        at -= 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.get(at..).unwrap_or_default()
}

fn join<'b>(parts: &[&[u8]], out: &'b mut [u8]) -> Result<&'b [u8], EncodeError> {
    let needed = parts.iter().map(|part| part.len()).sum();
    let available = out.len();
    let out = out.get_mut(..needed).ok_or(WriteError::BufferTooSmall { needed, available })?;
    out.iter_mut().zip(parts.iter().copied().flatten()).for_each(|(to, byte)| *to = *byte);
    Ok(out)
}

#[cfg(test)]
mod tests;
