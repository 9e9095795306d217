//! Frames and messages of devices, and whose connection it is.

use super::Service;
use crate::sonoff::frame::{Frame, PONG, server_text};
use crate::sonoff::message::{DeviceBody, DeviceMessage, ServerBody, ServerMessage};
use crate::sonoff::secret::ApiKey;
use crate::sonoff::server::connection::{ConnectionId, Kind, Output};
use crate::sonoff::server::report::Rejection;
use crate::sonoff::server::session::SILENCE;
use crate::sonoff::text::DeviceId;
use core::time::Duration;

impl Service {
    pub(super) fn frames(&mut self, now: Duration, id: ConnectionId) {
        loop {
            let Some((connection, _)) = self.connections.get_mut(&id) else { return };
            let Kind::WebSocket { frames, .. } = &mut connection.kind else { return };
            match frames.next_frame() {
                Ok(None) => return,
                Ok(Some(Frame::Text(json))) => self.message(now, id, &json),
                Ok(Some(Frame::Ping)) => {
                    connection.outputs.push_back(Output::Send(PONG.to_vec()));
                    self.list(id);
                }
                Ok(Some(Frame::Close { .. })) => {
                    self.drop_websocket(now, id);
                    return;
                }
                Ok(Some(_)) => {}
                Err(error) => {
                    self.reject(id, Rejection::Frame(error));
                    self.drop_websocket(now, id);
                    return;
                }
            }
        }
    }

    pub(super) fn message(&mut self, now: Duration, id: ConnectionId, json: &[u8]) {
        let message = match DeviceMessage::parse(json) {
            Ok(message) => message,
            Err(error) => {
                self.reject(id, Rejection::Message(error));
                return self.answer_unreadable(id);
            }
        };
        let unix = self.unix(now);
        let Some((connection, _)) = self.connections.get_mut(&id) else { return };
        let (peer, session_key) = (connection.peer, connection.session_key.clone());
        let Kind::WebSocket { device_id, .. } = &mut connection.kind else { return };
        if let Some(device_id) = device_id.filter(|device_id| *device_id != message.device_id) {
            return self.reject(id, Rejection::OtherDevice { device_id });
        }
        let is_register = matches!(message.body, DeviceBody::Register(_));
        let claimed = message.device_id;
        if device_id.is_none() && is_register {
            let Some(known) = self.known(now, claimed, &session_key) else {
                self.reject(id, Rejection::TooManyDevices);
                return self.drop_websocket(now, id);
            };
            if !known.session.admits(&message.api_key) {
                self.reject(id, Rejection::WrongKey { device_id: claimed });
                return self.drop_websocket(now, id);
            }
            // The newest connection is the device's, with a key of its own.
            known.session.set_session_key(session_key.clone());
            let before = known.connection.replace(id);
            if let Some(before) = before {
                known.session.closed(now);
                self.settle_away(claimed);
                if let Some((connection, _)) = self.connections.get_mut(&before) {
                    connection.close();
                }
                self.list(before);
            }
            if let Some((connection, _)) = self.connections.get_mut(&id)
                && let Kind::WebSocket { device_id, .. } = &mut connection.kind
            {
                *device_id = Some(claimed);
            }
        }
        let is_its_own = self.sessions.get(&claimed).is_some_and(|known| known.connection == Some(id));
        if !is_its_own {
            // Before `register`: an answer that every firmware passes over.
            return self.answer_stranger(id, &session_key, claimed);
        }
        if let Some(known) = self.sessions.get_mut(&claimed) {
            known.seen = now;
            known.session.handle_message(now, unix, Some(peer), &message);
        }
        self.alive(now, id);
        self.settle(claimed);
    }

    /// A sign of life.
    pub(super) fn alive(&mut self, now: Duration, id: ConnectionId) {
        let Some((connection, _)) = self.connections.get_mut(&id) else { return };
        if let Kind::WebSocket { device_id: Some(device_id), .. } = &connection.kind {
            let known = self.sessions.get(device_id);
            connection.alive(now, known.map_or(SILENCE, |known| known.session.silence()));
        }
    }

    /// A device that has registered hears that its message was not understood.
    pub(super) fn answer_unreadable(&mut self, id: ConnectionId) {
        let Some((connection, _)) = self.connections.get(&id) else { return };
        if let Kind::WebSocket { device_id: Some(device_id), .. } = connection.kind {
            let session_key = connection.session_key.clone();
            self.answer_stranger(id, &session_key, device_id);
        }
    }

    pub(super) fn answer_stranger(&mut self, id: ConnectionId, session_key: &ApiKey, device_id: DeviceId) {
        let body = ServerBody::Answer { error: 400 };
        let message = ServerMessage { device_id, api_key: session_key.clone(), sequence: None, body };
        let frame = message.to_json().ok().and_then(|json| server_text(&json).ok());
        if let Some((connection, _)) = self.connections.get_mut(&id) {
            connection.outputs.extend(frame.map(Output::Send));
        }
        self.list(id);
    }

    /// Tells that a device has gone, without its last words.
    pub(super) fn settle_away(&mut self, device_id: DeviceId) {
        let connection = self.sessions.get_mut(&device_id).and_then(|known| known.connection.take());
        self.settle(device_id);
        if let Some(known) = self.sessions.get_mut(&device_id) {
            known.connection = connection;
        }
    }

    pub(super) fn drop_websocket(&mut self, now: Duration, id: ConnectionId) {
        self.forget(now, id);
        if let Some((connection, _)) = self.connections.get_mut(&id) {
            connection.close();
        }
        self.list(id);
    }

    /// A connection is the WebSocket of a device no more.
    pub(super) fn forget(&mut self, now: Duration, id: ConnectionId) {
        let Some((connection, _)) = self.connections.get(&id) else { return };
        let Kind::WebSocket { device_id: Some(device_id), .. } = connection.kind else { return };
        if let Some(known) = self.sessions.get_mut(&device_id).filter(|known| known.connection == Some(id)) {
            known.connection = None;
            known.seen = now;
            known.session.closed(now);
            self.settle(device_id);
        }
    }
}
