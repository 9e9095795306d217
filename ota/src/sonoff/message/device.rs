//! What a device says.

use super::{MessageError, NAMES, Names, Switches, Unsendable, elements, in_field, object, within};
use crate::sonoff::json::{FieldProblem, Fields, Writer, required};
use crate::sonoff::limits;
use crate::sonoff::secret::ApiKey;
use crate::sonoff::text::{DeviceId, Model, Sequence, Text, Version};
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::{Map, Value};

/// A message of a device.
///
/// ```
/// use spark_ota::sonoff::message::{DeviceBody, DeviceMessage};
///
/// let json = br#"{"userAgent":"device","apikey":"11111111-2222-4333-8444-555555555555","deviceid":"1000abcdef",
///     "action":"register","version":2,"romVersion":"1.5.5","model":"ITA-GZ1-GL","ts":970}"#;
/// let message = DeviceMessage::parse(json)?;
/// assert_eq!(message.device_id, "1000abcdef");
/// let DeviceBody::Register(register) = message.body else { panic!() };
/// assert_eq!((register.rom_version.as_str(), register.model.as_str()), ("1.5.5", "ITA-GZ1-GL"));
/// # Ok::<(), spark_ota::sonoff::message::MessageError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceMessage {
    /// `deviceid`.
    pub device_id: DeviceId,
    /// `apikey`: the factory key in `register`, the session key afterwards.
    pub api_key: ApiKey,
    /// The rest.
    pub body: DeviceBody,
}

/// What the message is about.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DeviceBody {
    /// `register`: the first one on a connection.
    Register(Register),
    /// `date`: the device wants to know the time.
    Date,
    /// `update`: its state.
    Update(Update),
    /// `update` with an `upgradeState`: how an upgrade ended that was acknowledged before its download.
    UpgradeState {
        /// 0, or what failed.
        code: u16,
        /// `d_seq`: `sequence` of the upgrade.
        sequence: Option<Sequence>,
    },
    /// `query`: the device asks for what it is set to; an empty list means everything.
    Query {
        /// In practice `timers`.
        params: Vec<Text<20>>,
    },
    /// Acknowledgement or result of a request with this `sequence`.
    Result {
        /// 0, or what failed.
        error: u16,
        /// That of the request; `redirect` and `notify` are answered without.
        sequence: Option<Sequence>,
    },
    /// Answer to `queryDev`: what was asked for.
    State {
        /// That of the request.
        sequence: Option<Sequence>,
        /// The state.
        state: Update,
    },
    /// Another action. It is answered with `error` 400, which every device ignores.
    Unknown {
        /// Its name.
        action: Text<32>,
    },
}

/// `register`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Register {
    /// `romVersion`: the firmware.
    pub rom_version: Version,
    /// `model`.
    pub model: Model,
    /// `version` of the protocol: 2.
    pub version: Option<u32>,
    /// `ts`: some number, not a time.
    pub ts: Option<i64>,
}

/// State of a device in `update`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Update {
    /// `switch` or `switches`.
    pub switches: Option<Switches>,
    /// `fwVersion`.
    pub fw_version: Option<Version>,
    /// `rssi` in dBm, negative.
    pub rssi: Option<i32>,
    /// `staMac`: address in the home network.
    pub sta_mac: Option<Text<17>>,
    /// `startup`: `on`, `off`, `keep` or `stay`.
    pub startup: Option<Text<8>>,
    /// `power` in watts, as text.
    pub power: Option<Text<16>>,
}

impl DeviceMessage {
    /// Reads a message. Fields that it does not know are passed over.
    ///
    /// # Errors
    /// [`MessageError`]. A server answers with `error` 400 if it knows the device, and goes on.
    pub fn parse(json: &[u8]) -> Result<Self, MessageError> {
        let value = object(json, limits::DEVICE_MESSAGE)?;
        let empty = Map::new();
        let fields = Fields(value.as_object().unwrap_or(&empty));
        let api_key = in_field("apikey", required(fields.str("apikey")))?;
        Ok(Self {
            device_id: in_field("deviceid", required(fields.text("deviceid")))?,
            api_key: in_field("apikey", ApiKey::cut(api_key).map_err(FieldProblem::Text))?,
            body: body(fields)?,
        })
    }

    /// The JSON as a device writes it.
    ///
    /// # Errors
    /// [`Unsendable`].
    pub fn to_json(&self) -> Result<String, Unsendable> {
        let common = |writer: Writer| {
            writer
                .text("userAgent", "device")
                .text("apikey", self.api_key.expose())
                .text("deviceid", self.device_id.as_str())
        };
        let writer = Writer::object();
        let action = |action: &str| common(Writer::object()).text("action", action);
        let writer = match &self.body {
            DeviceBody::Register(register) => action("register")
                .with(register.version, |writer, version| writer.number("version", version))
                .text("romVersion", register.rom_version.as_str())
                .text("model", register.model.as_str())
                .with(register.ts, |writer, ts| writer.number("ts", ts)),
            DeviceBody::Date => action("date"),
            DeviceBody::Update(update) => update.write(action("update").open("params", '{'))?.close('}'),
            DeviceBody::UpgradeState { code, sequence } => action("update")
                .open("params", '{')
                .number("upgradeState", *code)
                .close('}')
                .with(sequence.as_ref(), |writer, sequence| writer.text("d_seq", sequence.as_str())),
            DeviceBody::Query { params } => {
                // Of a device an empty list is understood.
                elements("params", params.len().max(1), NAMES)?;
                action("query")
                    .open("params", '[')
                    .each(params, |writer, name| writer.element(name.as_str()))
                    .close(']')
            }
            DeviceBody::State { sequence, state } => {
                let writer = common(writer.number("error", 0))
                    .with(sequence.as_ref(), |writer, sequence| writer.text("sequence", sequence.as_str()));
                state.write(writer.open("params", '{'))?.close('}')
            }
            DeviceBody::Result { error, sequence } => common(writer.number("error", *error))
                .with(sequence.as_ref(), |writer, sequence| writer.text("sequence", sequence.as_str())),
            DeviceBody::Unknown { action: name } => action(name.as_str()),
        };
        within(limits::DEVICE_MESSAGE, writer.finish())
    }
}

fn body(fields: Fields<'_>) -> Result<DeviceBody, MessageError> {
    let Some(action) = in_field("action", fields.str("action"))? else {
        let Some(error) = in_field("error", fields.number("error"))? else {
            return Err(MessageError::NoKind);
        };
        let printed = in_field("sequence", fields.printed("sequence"))?;
        let sequence = printed.map(|text| Text::new(&text)).transpose().map_err(FieldProblem::Text);
        let sequence = in_field("sequence", sequence)?;
        return Ok(match fields.get("params").and_then(Value::as_object) {
            Some(params) if error == 0 => DeviceBody::State { sequence, state: Update::read(Fields(params)) },
            _ => DeviceBody::Result { error, sequence },
        });
    };
    Ok(match action {
        "register" => DeviceBody::Register(Register {
            rom_version: in_field("romVersion", required(fields.text("romVersion")))?,
            model: in_field("model", required(fields.text("model")))?,
            // What a server can do without is not a reason to refuse a device.
            version: fields.number("version").ok().flatten(),
            ts: fields.number("ts").ok().flatten(),
        }),
        "date" => DeviceBody::Date,
        "update" => {
            let empty = Map::new();
            let params = Fields(fields.get("params").and_then(Value::as_object).unwrap_or(&empty));
            match in_field("upgradeState", params.number("upgradeState"))? {
                Some(code) => {
                    DeviceBody::UpgradeState { code, sequence: in_field("d_seq", fields.text("d_seq"))? }
                }
                None => DeviceBody::Update(Update::read(params)),
            }
        }
        "query" => DeviceBody::Query { params: names(fields.get("params")) },
        action => {
            DeviceBody::Unknown { action: in_field("action", Text::new(action).map_err(FieldProblem::Text))? }
        }
    })
}

/// What cannot be read is left out: whatever a device asks for, it goes on when it hears that nothing is known of it.
fn names(params: Option<&Value>) -> Names {
    let name = |value: &Value| value.as_str().and_then(|name| Text::new(name).ok());
    match params {
        Some(Value::Array(list)) => list.iter().filter_map(name).take(NAMES).collect(),
        Some(value) => name(value).into_iter().collect(),
        None => Names::new(),
    }
}

impl Update {
    /// What cannot be read is left out: a device in an unusual state is still one.
    fn read(params: Fields<'_>) -> Self {
        let printed = params.printed("power").ok().flatten();
        Self {
            switches: Switches::read(params).ok().flatten(),
            fw_version: params.text("fwVersion").ok().flatten(),
            rssi: params.number("rssi").ok().flatten(),
            sta_mac: params.text("staMac").ok().flatten(),
            startup: params.text("startup").ok().flatten(),
            // Values that were not measured are empty.
            power: printed.and_then(|text| Text::new(&text).ok()),
        }
    }

    fn write(&self, writer: Writer) -> Result<Writer, Unsendable> {
        self.switches.as_ref().map_or(Ok(()), Switches::check)?;
        let text = |name| move |writer: Writer, text: &str| writer.text(name, text);
        Ok(writer
            .with(self.switches.as_ref(), |writer, switches| switches.write(writer))
            .with(self.fw_version.as_ref().map(Text::as_str), text("fwVersion"))
            .with(self.rssi, |writer, rssi| writer.number("rssi", rssi))
            .with(self.sta_mac.as_ref().map(Text::as_str), text("staMac"))
            .with(self.startup.as_ref().map(Text::as_str), text("startup"))
            .with(self.power.as_ref().map(Text::as_str), text("power")))
    }
}
