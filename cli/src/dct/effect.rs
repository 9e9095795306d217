//! What firmware makes of values that are set: some it never reads.

use super::value::Assignment;
use crate::exit::{Code, Failure};
use core::fmt;
use serde::Serialize;
use spark_dct::recovery::Target;
use spark_dct::segment::Platform;
use spark_dct::server_address::{DEFAULT_DOMAIN_TCP, DEFAULT_PORT_TCP, FirmwareParser};
use spark_dct::{App, Entry, Field, FirmwareVersion, Host, Kind, ServerAddress, dcd, wiced};
use spark_keys::BundledKey;

/// A value without the effect that one would expect.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Warning {
    name: &'static str,
    message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "warning: {}: {}", self.name, self.message)
    }
}

/// Who reads the table, as far as that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reads {
    /// Whether it is an Electron.
    is_electron: Option<bool>,
    /// Whether it keeps its flags in registers once its firmware is new enough.
    has_registers: bool,
    /// The oldest release that it can be.
    from: Option<FirmwareVersion>,
    /// The very release.
    version: Option<FirmwareVersion>,
}

impl Reads {
    pub(super) fn in_file(target: Option<Target>, version: Option<FirmwareVersion>) -> Self {
        let is_electron = target.map(|target| matches!(target, Target::Dcd(_)));
        Self { is_electron, has_registers: true, from: version.or_else(|| oldest(target?)), version }
    }

    pub(super) fn in_device(
        platform: Platform,
        target: Option<Target>,
        version: Option<FirmwareVersion>,
    ) -> Self {
        let is_electron = match platform {
            Platform::Photon | Platform::P1 => Some(false),
            Platform::Electron => Some(true),
            _ => None,
        };
        Self { is_electron, has_registers: is_electron.is_some(), ..Self::in_file(target, version) }
    }

    /// What has no effect, or another one.
    ///
    /// # Errors
    /// A port for firmware that connects to its own one in any case.
    pub(super) fn check(self, assignments: &[Assignment], app: App<'_>) -> Result<Vec<Warning>, Failure> {
        let entries = assignments.iter().map(Assignment::entry).collect::<Result<Vec<_>, _>>()?;
        entries.iter().try_for_each(|entry| self.check_port(*entry, app))?;
        let of_entries = entries.iter().filter_map(|entry| self.unread(*entry));
        let touched = |field| entries.iter().any(|entry| entry.field() == field);
        let power = touched(Field::POWER_CONFIG).then(|| power(app)).flatten();
        let server = touched(Field::SERVER_PUBLIC_KEY).then(|| server(app)).flatten();
        let of_fields = power.into_iter().chain(server);
        Ok(of_entries
            .map(|(entry, message)| Warning { name: entry.name(), message })
            .chain(of_fields.map(|(name, message)| Warning { name, message: message.to_owned() }))
            .collect())
    }

    fn unread(self, entry: Entry) -> Option<(Entry, String)> {
        let field = entry.field();
        let message = match (field.unread_since(), self.from) {
            (Some(since), Some(from)) if self.has_registers && from >= since => format!(
                "a Photon, P1 or Electron does not read it from {since} on, where registers of its processor hold these flags"
            ),
            _ if field == Field::CLOUD_TRANSPORT && self.is_electron == Some(false) => {
                "only an Electron reads it".to_owned()
            }
            _ => return None,
        };
        Some((entry, message))
    }

    /// Firmware before v0.4.8 has no place for a port.
    fn check_port(self, entry: Entry, app: App<'_>) -> Result<(), Failure> {
        let Some(version) =
            self.version.filter(|version| FirmwareParser::of_firmware(*version) == FirmwareParser::V0_4_0)
        else {
            return Ok(());
        };
        let is_address = entry.kind() == Kind::Address;
        let place = if entry == Entry::of(Field::SERVER_PUBLIC_KEY) {
            Entry::parts(entry.field()).find(|part| part.kind() == Kind::Address)
        } else {
            is_address.then_some(entry)
        };
        let block = place.and_then(|place| app.entry_bytes(place)).and_then(<[u8]>::first_chunk);
        let port =
            block.and_then(|block| ServerAddress::parse(block).ok().flatten()).and_then(|it| it.port());
        match port {
            None | Some(DEFAULT_PORT_TCP) => Ok(()),
            Some(port) => Err(Failure::new(
                Code::Usage,
                format_args!(
                    "{entry}: firmware {version} connects to port {DEFAULT_PORT_TCP}, never to {port}"
                ),
                "leave the port out and let the server listen there, or update the device first",
            )),
        }
    }
}

/// The oldest release of a generation that the marks in the flash tell from others.
fn oldest(target: Target) -> Option<FirmwareVersion> {
    let is_new =
        matches!(target, Target::Wiced(wiced::Generation::V0_7_0) | Target::Dcd(dcd::Generation::V2));
    is_new.then(|| FirmwareVersion::new(0, 7, 0))
}

/// Flags, version and size of the power settings depend on each other.
fn power(app: App<'_>) -> Option<(&'static str, &'static str)> {
    let config = app.power_config()?;
    if !config.is_taken() {
        let message = "without version and size firmware takes its defaults; set power_config.version=0 and power_config.size=32, too";
        return Some((Field::POWER_CONFIG.name(), message));
    }
    let message = "beside version and size, erased flags count as set: the power management is off; set power_config.flags=0x000000ff";
    (config.flags == u32::MAX).then_some((Field::POWER_CONFIG.name(), message))
}

/// A key of one's own goes with an address of one's own.
fn server(app: App<'_>) -> Option<(&'static str, &'static str)> {
    let key = app.server_public_key()?;
    let address = app.server_address().ok().flatten()?;
    let of_vendor = address.host() == Host::Domain(DEFAULT_DOMAIN_TCP);
    let message = "the address is the vendor's and the key is not: the device cannot connect";
    (of_vendor && BundledKey::of_spki(key).is_none()).then_some((Field::SERVER_PUBLIC_KEY.name(), message))
}
