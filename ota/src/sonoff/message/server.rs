//! What a server says.

use super::{
    Date, ENTRIES, EntryReading, MessageError, NAMES, Parameters, Reading, Switch, Switches, Unsendable,
    elements, in_field, within,
};
use crate::sonoff::json::{FieldProblem, Writer};
use crate::sonoff::limits;
use crate::sonoff::secret::ApiKey;
use crate::sonoff::text::{DeviceId, Model, Sequence, ServerName, Text, Version};
use alloc::string::String;
use alloc::vec::Vec;

/// A message to a device.
///
/// ```
/// use spark_ota::sonoff::message::{ServerBody, ServerMessage};
/// use spark_ota::sonoff::{ApiKey, DeviceId};
///
/// let message = ServerMessage {
///     device_id: DeviceId::new("1000abcdef")?,
///     api_key: ApiKey::from_random([7; 16]),
///     sequence: None,
///     body: ServerBody::Registered { hb_interval: 145 },
/// };
/// assert_eq!(
///     message.to_json()?,
///     concat!(
///         r#"{"error":0,"deviceid":"1000abcdef","apikey":"07070707-0707-4707-8707-070707070707","#,
///         r#""config":{"hb":1,"hbInterval":145}}"#
///     )
/// );
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerMessage {
    /// `deviceid`: a message with another one than its own is dropped by a device.
    pub device_id: DeviceId,
    /// `apikey`: the session key.
    pub api_key: ApiKey,
    /// `sequence` of a request, unique on this connection; answers have none. See [`Sequences`](crate::sonoff::Sequences).
    pub sequence: Option<Sequence>,
    /// The rest.
    pub body: ServerBody,
}

/// What the message is about.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ServerBody {
    /// Answer with a code and nothing else: 0 to an `update`, 400 to what was not understood. 404 with the factory key
    /// makes a device register again.
    Answer {
        /// The code.
        error: u16,
    },
    /// Answer with 404, which with the factory key makes a device register again after this time.
    RegisterAgain {
        /// `regInterval`: seconds, 15 without.
        reg_interval: u16,
    },
    /// Answer to `register`. From here on the session key counts, which must differ from the factory key.
    Registered {
        /// Seconds between signs of life, for which 145 is usual.
        hb_interval: u16,
    },
    /// Answer to `date`.
    Date {
        /// Now.
        date: Date,
    },
    /// Answer to `query`: nothing known of it (`params` 0), with which every device goes on.
    NothingKnown,
    /// Answer to `query`: what is known.
    Known(Parameters),
    /// `update`: switch relays.
    Update {
        /// To these states.
        switches: Switches,
    },
    /// `upgrade`. What must be checked before it is sent is in [`upgrade`](crate::sonoff::upgrade).
    Upgrade(Upgrade),
    /// `redirect`: go to another server.
    Redirect {
        /// Its name or address.
        ip: ServerName,
        /// Its port.
        port: u16,
    },
    /// `notify`: another interval for signs of life.
    Notify {
        /// In seconds.
        hb_interval: u16,
    },
    /// `restart` into the image that was stored; later firmware.
    Restart,
    /// `queryDev`: ask for the device's state; later firmware.
    QueryDevice {
        /// Names of what is asked for, at least one.
        params: Vec<Text<20>>,
    },
    /// Another action.
    Unknown {
        /// Its name.
        action: Text<32>,
    },
}

/// Parameters of `upgrade`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upgrade {
    /// `model`: that of the device, byte for byte.
    pub model: Model,
    /// `version`: newer than the device's by [`Version::is_newer_than`].
    pub version: Version,
    /// `autoRestart`: whether a device of the later generation reboots by itself. It wants to be told; others need not.
    pub auto_restart: Option<bool>,
    /// `binList`: an image for each slot.
    pub bin_list: Vec<Entry>,
}

/// An image in `binList`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// `name`: `user1.bin` or `user2.bin`.
    pub name: Text<{ limits::ENTRY_NAME }>,
    /// `downloadUrl`.
    pub download_url: Text<{ limits::URL }>,
    /// `digest`: SHA-256 in lower case.
    pub digest: Text<{ limits::DIGEST }>,
}

impl ServerMessage {
    /// The JSON, compact.
    ///
    /// # Errors
    /// [`Unsendable`].
    pub fn to_json(&self) -> Result<String, Unsendable> {
        let (id, key) = (self.device_id.as_str(), self.api_key.expose());
        let answer =
            |error: u16| Writer::object().number("error", error).text("deviceid", id).text("apikey", key);
        let action = |action: &str| {
            Writer::object()
                .text("action", action)
                .text("deviceid", id)
                .text("apikey", key)
                .text("userAgent", "app")
                .with(self.sequence.as_ref(), |writer, sequence| writer.text("sequence", sequence.as_str()))
                .number("ts", 0)
                .text("from", "app")
        };
        let writer = match &self.body {
            ServerBody::Answer { error } => answer(*error),
            ServerBody::RegisterAgain { reg_interval } => answer(404).number("regInterval", *reg_interval),
            ServerBody::Registered { hb_interval } => {
                answer(0).open("config", '{').number("hb", 1).number("hbInterval", *hb_interval).close('}')
            }
            ServerBody::Date { date } => answer(0).text("date", date.as_str()),
            ServerBody::NothingKnown => answer(0).number("params", 0),
            ServerBody::Known(parameters) => answer(0).raw("params", parameters.as_json()),
            ServerBody::Update { switches } => {
                switches.check()?;
                switches.write(action("update").open("params", '{')).close('}')
            }
            ServerBody::Upgrade(upgrade) => {
                elements("binList", upgrade.bin_list.len(), ENTRIES)?;
                upgrade.write(action("upgrade").open("params", '{')).close('}')
            }
            ServerBody::Redirect { ip, port } => {
                action("redirect").text("IP", ip.as_str()).number("port", *port)
            }
            ServerBody::Notify { hb_interval } => {
                action("notify").text("cmd", "config").number("hb", 1).number("hbInterval", *hb_interval)
            }
            ServerBody::Restart => action("restart"),
            ServerBody::QueryDevice { params } => {
                elements("params", params.len(), NAMES)?;
                action("queryDev")
                    .open("params", '[')
                    .each(params, |writer, name| writer.element(name.as_str()))
                    .close(']')
            }
            ServerBody::Unknown { action: name } => action(name.as_str()),
        };
        within(limits::SERVER_MESSAGE, writer.finish())
    }

    /// Reads a message as a device does, by [`Reading`].
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn parse(json: &[u8]) -> Result<Self, MessageError> {
        let reading = Reading::new(json)?;
        let key = in_field("apikey", reading.text("apikey").ok_or(FieldProblem::Missing))?;
        Ok(Self {
            device_id: required(reading, "deviceid")?,
            api_key: in_field("apikey", ApiKey::cut(key).map_err(FieldProblem::Text))?,
            sequence: optional(reading, "sequence")?,
            body: body(reading, json)?,
        })
    }
}

fn optional<const MAX: usize>(
    reading: Reading<'_>,
    name: &'static str,
) -> Result<Option<Text<MAX>>, MessageError> {
    match reading.text(name) {
        Some(text) => in_field(name, Text::new(text).map(Some).map_err(FieldProblem::Text)),
        None => Ok(None),
    }
}

fn required<const MAX: usize>(reading: Reading<'_>, name: &'static str) -> Result<Text<MAX>, MessageError> {
    in_field(name, optional(reading, name)?.ok_or(FieldProblem::Missing))
}

fn number<T: TryFrom<i64>>(reading: Reading<'_>, name: &'static str) -> Result<T, MessageError> {
    let number = reading.number(name).and_then(|number| T::try_from(number).ok());
    in_field(name, number.ok_or(FieldProblem::NotNumber))
}

fn body(reading: Reading<'_>, json: &[u8]) -> Result<ServerBody, MessageError> {
    let Some(action) = optional::<32>(reading, "action")? else {
        if !reading.has("error") {
            return Err(MessageError::NoKind);
        }
        let error: u16 = number(reading, "error")?;
        return Ok(if error == 404 && reading.has("regInterval") {
            ServerBody::RegisterAgain { reg_interval: number(reading, "regInterval")? }
        } else if error != 0 {
            ServerBody::Answer { error }
        } else if reading.has("hbInterval") {
            ServerBody::Registered { hb_interval: number(reading, "hbInterval")? }
        } else if let Some(date) = reading.text("date") {
            ServerBody::Date { date: in_field("date", Date::new(date).map_err(FieldProblem::Text))? }
        } else if reading.has("params") {
            // What is known of nothing, or cannot be read, is nothing.
            Parameters::of_answer(json).map_or(ServerBody::NothingKnown, ServerBody::Known)
        } else {
            ServerBody::Answer { error }
        });
    };
    Ok(match action.as_str() {
        "update" => ServerBody::Update { switches: in_field("params", switches(reading))? },
        "upgrade" => ServerBody::Upgrade(Upgrade::read(reading)?),
        "redirect" => ServerBody::Redirect { ip: required(reading, "IP")?, port: number(reading, "port")? },
        "notify" => ServerBody::Notify { hb_interval: number(reading, "hbInterval")? },
        "restart" => ServerBody::Restart,
        "queryDev" => {
            let names = reading.list("params").map(|name| Text::new(name).map_err(FieldProblem::Text));
            let params: Vec<_> = in_field("params", names.take(NAMES + 1).collect())?;
            match params.len() {
                0 => return in_field("params", Err(FieldProblem::Missing)),
                1..=NAMES => ServerBody::QueryDevice { params },
                _ => return in_field("params", Err(FieldProblem::TooMany { limit: NAMES })),
            }
        }
        _ => ServerBody::Unknown { action },
    })
}

fn switches(reading: Reading<'_>) -> Result<Switches, FieldProblem> {
    let word = |text: &str| Switch::from_text(text).ok_or(FieldProblem::Kind);
    if !reading.has("switches") {
        let switch = reading.text("switch").ok_or(FieldProblem::Missing)?;
        return Ok(Switches::One(word(switch)?));
    }
    let mut outlets = Vec::new();
    for object in reading.objects("switches") {
        if outlets.len() == super::OUTLETS {
            return Err(FieldProblem::TooMany { limit: super::OUTLETS });
        }
        let outlet = object.number("outlet").and_then(|outlet| u8::try_from(outlet).ok());
        let switch = object.text("switch").ok_or(FieldProblem::Missing)?;
        outlets.push((word(switch)?, outlet.ok_or(FieldProblem::NotNumber)?));
    }
    if outlets.is_empty() { Err(FieldProblem::Missing) } else { Ok(Switches::Several(outlets)) }
}

impl Upgrade {
    fn write(&self, writer: Writer) -> Writer {
        writer
            .open("binList", '[')
            .each(&self.bin_list, |writer, entry| {
                writer
                    .open_element()
                    .text("downloadUrl", entry.download_url.as_str())
                    .text("digest", entry.digest.as_str())
                    .text("name", entry.name.as_str())
                    .close('}')
            })
            .close(']')
            .text("model", self.model.as_str())
            .text("version", self.version.as_str())
            .with(self.auto_restart, |writer, restart| writer.number("autoRestart", i64::from(restart)))
    }

    fn read(reading: Reading<'_>) -> Result<Self, MessageError> {
        let entry = |entry: EntryReading<'_>| {
            Ok(Entry {
                name: field("name", entry.name)?,
                download_url: field("downloadUrl", entry.download_url)?,
                digest: field("digest", entry.digest)?,
            })
        };
        let bin_list: Vec<_> = reading.entries().take(ENTRIES + 1).map(entry).collect::<Result<_, _>>()?;
        in_field(
            "binList",
            match bin_list.len() {
                0 => Err(FieldProblem::Missing),
                1..=ENTRIES => Ok(()),
                _ => Err(FieldProblem::TooMany { limit: ENTRIES }),
            },
        )?;
        let auto_restart = match reading.has("autoRestart") {
            true => Some(number::<i64>(reading, "autoRestart")? != 0),
            false => None,
        };
        Ok(Self {
            model: required(reading, "model")?,
            version: required(reading, "version")?,
            auto_restart,
            bin_list,
        })
    }
}

fn field<const MAX: usize>(name: &'static str, found: Option<&str>) -> Result<Text<MAX>, MessageError> {
    let found = found.ok_or(FieldProblem::Missing);
    in_field(name, found.and_then(|text| Text::new(text).map_err(FieldProblem::Text)))
}
