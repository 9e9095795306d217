//! What happens to a device, as lines for a person or as JSON for a program.

use super::life::Note;
use super::run;
use crate::ui;
use coap_spark::diagnosis::{ROWS, Row};
use coap_spark::handshake::DeviceId;
use serde_json::{Map, Value, json};
use spark_sim::{End, Happening, Receiver, Started};

/// Where lines go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Report {
    /// Lines for a person, on standard error.
    Text,
    /// One JSON object a line, on standard output.
    Json,
}

impl Report {
    /// Tells it.
    pub fn tell(self, id: DeviceId, note: &Note<'_>) {
        match self {
            Self::Text => {
                if let Some(text) = text(note) {
                    ui::say(format_args!("{id}: {text}"));
                }
            }
            Self::Json => {
                // A full disk ends nothing here: the device goes on.
                let _ = ui::print(json_line(id, note));
            }
        }
    }
}

/// The row for a connection that was not made.
fn unreachable() -> Option<&'static Row> {
    ROWS.iter().copied().find(|row| row.code == "cloud-unreachable")
}

fn text(note: &Note<'_>) -> Option<String> {
    Some(match note {
        Note::Started(Started::Running) => "the application runs".to_owned(),
        Note::Started(Started::SafeMode) => "safe mode: the application does not run".to_owned(),
        Note::Started(Started::DfuMode) => "DFU mode: the bootloader waits for a host".to_owned(),
        Note::Started(other) => format!("does not start: {other:?}"),
        Note::Connecting(address) => format!("connecting to {address}"),
        Note::CannotConnect(address, error) => format!("cannot connect to {address}: {error}; trying again"),
        Note::Online(run::Note::Happening(happening)) => happening.to_string(),
        // The person has asked for them.
        Note::Online(run::Note::Published { .. }) | Note::Left => return None,
        Note::Online(run::Note::NotPublished { name, error }) => format!("event {name} not sent: {error}"),
        Note::Ended(end) => match end.diagnosis() {
            Some(row) => format!("{end}\n  {}\n  first: {}", row.meaning, row.action),
            None => end.to_string(),
        },
    })
}

fn json_line(id: DeviceId, note: &Note<'_>) -> Value {
    let (happening, fields) = match note {
        Note::Started(started) => ("started", json!({ "mode": mode(*started) })),
        Note::Connecting(address) => ("connecting", json!({ "address": address })),
        Note::CannotConnect(_, error) => {
            ("disconnected", json!({ "reason": error.to_string(), "diagnosis": diagnosis(unreachable()) }))
        }
        Note::Online(run::Note::Published { name, data, id }) => {
            ("event-published", json!({ "name": name, "data": data, "message_id": id }))
        }
        Note::Online(run::Note::NotPublished { name, error }) => {
            ("event-refused", json!({ "name": name, "reason": error.to_string() }))
        }
        Note::Online(run::Note::Happening(happening)) => happened(happening),
        Note::Ended(end) if end.is_reset() => {
            ("reset", json!({ "reason": end.to_string(), "code": code(end) }))
        }
        Note::Ended(end) => (
            "disconnected",
            json!({ "reason": end.to_string(), "code": code(end), "diagnosis": diagnosis(end.diagnosis()) }),
        ),
        Note::Left => {
            ("disconnected", json!({ "reason": "the device left", "code": "left", "diagnosis": null }))
        }
    };
    let mut line = Map::new();
    line.insert("device_id".to_owned(), id.to_string().into());
    line.insert("happening".to_owned(), happening.into());
    if let Value::Object(fields) = fields {
        line.extend(fields);
    }
    Value::Object(line)
}

pub(super) const fn mode(started: Started) -> &'static str {
    match started {
        Started::Running => "running",
        Started::SafeMode => "safe-mode",
        Started::DfuMode => "dfu-mode",
        Started::Dead => "dead",
        _ => "power-lost",
    }
}

const fn code(end: &End) -> &'static str {
    match end {
        End::Reset => "update",
        End::Reboot => "reboot",
        End::EnterSafeMode => "safe-mode",
        End::EnterDfuMode => "dfu-mode",
        End::NetworkReset => "network-reset",
        End::Left => "left",
        End::PowerLost => "power-lost",
        End::UpdateStalled => "update-stalled",
        End::Handshake(_) => "handshake",
        End::Connection(_) => "session",
        End::Closed => "closed",
        _ => "protocol",
    }
}

fn diagnosis(row: Option<&Row>) -> Value {
    row.map_or(Value::Null, |row| json!({ "code": row.code, "meaning": row.meaning, "action": row.action }))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn happened(happening: &Happening) -> (&'static str, Value) {
    match happening {
        Happening::Connected => ("connected", json!({})),
        Happening::Described => ("described", json!({})),
        Happening::FunctionCalled { name, argument, result } => {
            ("function-called", json!({ "name": lossy(name), "argument": lossy(argument), "result": result }))
        }
        Happening::VariableRead { name, found } => {
            ("variable-read", json!({ "name": lossy(name), "found": found }))
        }
        Happening::Event(event) => (
            "event-received",
            json!({
                "name": event.name,
                "data": event.data.as_deref().map(lossy),
                "public": event.public,
                "ttl": event.ttl,
                "receiver": match event.receiver {
                    Receiver::Application(_) => "application",
                    Receiver::System => "system",
                    _ => "nobody",
                },
            }),
        ),
        Happening::Signal { on } => ("signal", json!({ "on": on })),
        Happening::Time(seconds) => ("time", json!({ "unix_seconds": seconds })),
        Happening::KeyChange => ("key-change", json!({})),
        Happening::ClaimSettled => ("claim-settled", json!({})),
        Happening::Acknowledged(id) => ("acknowledged", json!({ "message_id": id })),
        Happening::Refused(id) => ("refused", json!({ "message_id": id })),
        Happening::Unanswered(id) => ("unanswered", json!({ "message_id": id })),
        Happening::UpdateBegan => ("update", json!({ "state": "began" })),
        Happening::UpdateEnded => ("update", json!({ "state": "ended" })),
        Happening::ChunkLost(index) => ("chunk-lost", json!({ "index": index })),
        other => ("trouble", json!({ "reason": other.to_string() })),
    }
}
