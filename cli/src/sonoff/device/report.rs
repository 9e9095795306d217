//! What a simulated device tells: lines for a person, or one JSON object a line. Never a key or a password.

use crate::ui;
use serde_json::{Map, Value};
use spark_ota::sonoff::DeviceId;
use spark_ota::sonoff::device::Link;
use spark_ota::sonoff::frame::{Decoded, End, Frame, decode};
use spark_ota::sonoff::http::RequestHead;
use spark_ota::sonoff::message::{DeviceBody, DeviceMessage};
use spark_ota::sonoff::upgrade::UpgradeCode;

/// Where lines go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub(super) id: DeviceId,
    pub(super) json: bool,
}

impl Report {
    /// `fields` is an object.
    pub(super) fn tell(&self, text: impl core::fmt::Display, happening: &str, fields: Value) {
        if !self.json {
            return ui::say(format_args!("{}: {text}", self.id));
        }
        let mut line = Map::new();
        line.insert("device_id".to_owned(), self.id.to_string().into());
        line.insert("happening".to_owned(), happening.into());
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        // A full disk ends nothing here: the device goes on.
        let _ = ui::print(Value::Object(line));
    }
}

pub(super) const fn name(link: Link) -> &'static str {
    match link {
        Link::AccessPoint => "access-point",
        Link::Dispatch => "dispatch",
        Link::WebSocket => "websocket",
        Link::Download => "download",
        _ => "other",
    }
}

/// A message of the device in a few words, with what is said of its result.
pub(super) struct Said {
    pub(super) message: &'static str,
    pub(super) code: Option<u16>,
}

impl Said {
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let Ok(Decoded::Frame { frame: Frame::Text(json), .. }) = decode(End::Device, bytes) else {
            return None;
        };
        let (message, code) = match DeviceMessage::parse(&json).ok()?.body {
            DeviceBody::Register(_) => ("register", None),
            DeviceBody::Date => ("date", None),
            DeviceBody::Update(_) => ("update", None),
            DeviceBody::Query { .. } => ("query", None),
            DeviceBody::UpgradeState { code, .. } => ("upgrade-state", Some(code)),
            DeviceBody::Result { error, .. } => ("result", Some(error)),
            _ => return None,
        };
        Some(Self { message, code })
    }

    pub(super) fn text(&self) -> String {
        match self.code {
            Some(code) if code != 0 => format!("says {}: {}", self.message, UpgradeCode::new(code)),
            Some(_) => format!("says {}: 0", self.message),
            None => format!("says {}", self.message),
        }
    }
}

/// Path and range of a request; what is behind the path holds a signature.
pub(super) fn asked(bytes: &[u8]) -> Option<(String, Option<String>)> {
    let (head, _) = RequestHead::parse(bytes).ok()??;
    let range = head.header("Range").map(str::to_owned);
    Some((head.path, range))
}
