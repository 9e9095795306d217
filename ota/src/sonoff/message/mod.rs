//! The JSON messages of the WebSocket, both directions, both ends.
//!
//! | who | message | answer |
//! |---|---|---|
//! | device | `register`, `date`, `update`, `query` | [`ServerMessage`] without an action |
//! | server | `update`, `upgrade`, `redirect`, `notify`, `restart`, `queryDev` | [`DeviceBody::Result`] or [`DeviceBody::State`] with the same `sequence` |
//!
//! A server reads with [`DeviceMessage::parse`], tolerantly: names in any order, numbers also in quotes. A device reads with
//! a streaming parser that takes the first occurrence of a name anywhere in the message; [`Reading`] is a model of it, and
//! [`ServerMessage::parse`] is built on it. What a server emits is what that reader understands: no name twice, never
//! `{}`, `[]`, `null`, `true` or `false`.
//!
//! # Source
//! Firmware of the IoTgo 2.0 generation; recorded sessions of SonOTA@40dba7c and simple-sonoff-server@53227a0.

mod date;
mod device;
mod parameters;
mod reading;
mod server;

pub use super::json::FieldProblem;
pub use date::Date;
pub use device::{DeviceBody, DeviceMessage, Register, Update};
pub use parameters::{Parameters, ParametersError};
pub use reading::{EntryReading, Reading, Trouble};
pub use server::{Entry, ServerBody, ServerMessage, Upgrade};

use super::json::{Fields, Writer, required};
use super::text::Text;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde_json::Value;

/// Channels of a switch at the most; no device has more than four.
const OUTLETS: usize = 8;
/// Images in `binList`; there are two slots.
const ENTRIES: usize = 4;
/// Names in a `query`.
const NAMES: usize = 16;

/// Why bytes are not a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum MessageError {
    /// Longer than any end sends.
    #[error("a message of {length} bytes, and at most {limit} are taken")]
    TooLong {
        /// Bytes.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// No JSON.
    #[error("not JSON at column {column}")]
    NotJson {
        /// Where, from 1.
        column: usize,
    },
    /// JSON, but not an object.
    #[error("the message is no JSON object")]
    NotAnObject,
    /// Neither a request nor an answer.
    #[error("the message has neither an action nor a result")]
    NoKind,
    /// A field.
    #[error("the field {field} cannot be used")]
    Field {
        /// Its name.
        field: &'static str,
        /// Why.
        #[source]
        problem: FieldProblem,
    },
}

/// Why a message cannot be sent: the other end would not take it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Unsendable {
    /// Too long.
    #[error("the message would have {length} bytes, and the other end takes {limit}")]
    TooLong {
        /// Bytes.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A list that is empty, which devices have trouble with, or longer than what reads it.
    #[error("the list {field} has {count} elements, and must have 1 to {limit}")]
    Elements {
        /// Its name.
        field: &'static str,
        /// Its length.
        count: usize,
        /// The limit.
        limit: usize,
    },
}

/// The message, if it has no more than `limit` bytes.
pub(crate) fn within(limit: usize, json: String) -> Result<String, Unsendable> {
    let length = json.len();
    if length > limit { Err(Unsendable::TooLong { length, limit }) } else { Ok(json) }
}

fn elements(field: &'static str, count: usize, limit: usize) -> Result<(), Unsendable> {
    if (1..=limit).contains(&count) { Ok(()) } else { Err(Unsendable::Elements { field, count, limit }) }
}

fn in_field<T>(field: &'static str, found: Result<T, FieldProblem>) -> Result<T, MessageError> {
    found.map_err(|problem| MessageError::Field { field, problem })
}

/// The object that the bytes are.
pub(crate) fn object(json: &[u8], limit: usize) -> Result<Value, MessageError> {
    if json.len() > limit {
        return Err(MessageError::TooLong { length: json.len(), limit });
    }
    let value: Value =
        serde_json::from_slice(json).map_err(|error| MessageError::NotJson { column: error.column() })?;
    if value.is_object() { Ok(value) } else { Err(MessageError::NotAnObject) }
}

/// State of a relay.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "a relay has no other")]
pub enum Switch {
    /// `"off"`.
    Off,
    /// `"on"`.
    On,
}

impl Switch {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
        }
    }

    /// By its word.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        match text {
            "off" => Some(Self::Off),
            "on" => Some(Self::On),
            _ => None,
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// States of all relays of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[allow(clippy::exhaustive_enums, reason = "devices have one form or the other")]
pub enum Switches {
    /// `switch`: the device has one.
    One(Switch),
    /// `switches`: state and number of each, 1 to 8.
    Several(Vec<(Switch, u8)>),
}

impl Switches {
    fn check(&self) -> Result<(), Unsendable> {
        match self {
            Self::One(_) => Ok(()),
            Self::Several(outlets) => elements("switches", outlets.len(), OUTLETS),
        }
    }

    fn write(&self, writer: Writer) -> Writer {
        match self {
            Self::One(switch) => writer.text("switch", switch.as_str()),
            Self::Several(outlets) => writer
                .open("switches", '[')
                .each(outlets, |writer, (switch, outlet)| {
                    writer.open_element().text("switch", switch.as_str()).number("outlet", *outlet).close('}')
                })
                .close(']'),
        }
    }

    fn read(fields: Fields<'_>) -> Result<Option<Self>, FieldProblem> {
        let word = |fields: Fields<'_>| match fields.str("switch")? {
            Some(text) => Switch::from_text(text).map(Some).ok_or(FieldProblem::Kind),
            None => Ok(None),
        };
        let Some(list) = fields.get("switches") else { return Ok(word(fields)?.map(Self::One)) };
        let list = list.as_array().ok_or(FieldProblem::Kind)?;
        match list.len() {
            0 => return Ok(None),
            1..=OUTLETS => {}
            _ => return Err(FieldProblem::TooMany { limit: OUTLETS }),
        }
        let outlet = |value: &Value| {
            let fields = Fields(value.as_object().ok_or(FieldProblem::Kind)?);
            Ok((required(word(fields))?, required(fields.number("outlet"))?))
        };
        list.iter().map(outlet).collect::<Result<_, _>>().map(Self::Several).map(Some)
    }
}

/// Names of what a `query` asks for.
type Names = Vec<Text<20>>;

#[cfg(test)]
mod tests;
