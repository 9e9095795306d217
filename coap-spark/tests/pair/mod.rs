//! A server and a device with a wire between them, under a clock that only the test moves.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    reason = "each test file uses its part of it"
)]

use coap_spark::coap::{Code, Type};
use coap_spark::connection::{DeviceConnection, Profile, Request, ServerConnection, ServerPolicy};
use coap_spark::message::{FromDevice, FromServer, Hello, HelloFlags, Response};
use coap_spark::session::SessionKeys;
use core::time::Duration;

pub fn keys() -> SessionKeys {
    SessionKeys::new(core::array::from_fn(|i| u8::try_from(i * 5).unwrap()))
}

/// Both ends, and the bytes on their way.
pub struct Pair {
    pub server: ServerConnection<1024>,
    pub device: DeviceConnection<800>,
    pub now: Duration,
    pub to_server: Vec<u8>,
    pub to_device: Vec<u8>,
}

impl Pair {
    /// The device's Hello is on its way.
    pub fn new(profile: Profile) -> Self {
        Self::with_policy(profile, ServerPolicy::DEFAULT)
    }

    pub fn with_policy(profile: Profile, policy: ServerPolicy) -> Self {
        let now = Duration::from_secs(1000);
        let mut pair = Self {
            server: ServerConnection::new(&keys(), policy, 0xfffe, now),
            device: DeviceConnection::new(&keys(), profile, now),
            now,
            to_server: Vec::new(),
            to_device: Vec::new(),
        };
        let flags = if profile == Profile::V0_7_0 { 0 } else { 2 };
        let hello = FromDevice::Hello(Hello::new(6, 3, HelloFlags(flags), 6));
        pair.device_sends(Type::NonConfirmable, hello);
        pair
    }

    pub fn up(profile: Profile) -> Self {
        let mut pair = Self::new(profile);
        pair.run();
        assert!(pair.server.is_up() && pair.device.is_up());
        pair
    }

    pub fn device_sends(&mut self, kind: Type, body: FromDevice<'_>) {
        let mut out = [0; 1024];
        self.to_server.extend(self.device.send(kind, body, &mut out).unwrap().bytes);
    }

    pub fn server_sends(&mut self, body: FromServer<'_>) {
        let mut out = [0; 1024];
        self.to_device.extend(self.server.send(body, &mut out).unwrap().bytes);
    }

    /// Moves bytes both ways, one at a time, until nothing moves; what each end saw as text.
    pub fn run(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        let mut out = [0; 1024];
        while !self.to_server.is_empty() || !self.to_device.is_empty() {
            for byte in core::mem::take(&mut self.to_server) {
                assert_eq!(self.server.handle_input(self.now, &[byte]), Ok(1));
                if let Some(message) = self.server.poll_message() {
                    seen.push(format!("server: {:?}", message.body));
                }
                while let Some(frame) = self.server.poll_output(&mut out).unwrap() {
                    self.to_device.extend(frame);
                }
            }
            for byte in core::mem::take(&mut self.to_device) {
                assert_eq!(self.device.handle_input(self.now, &[byte]), Ok(1));
                let message = self.device.poll_message();
                let request = message.as_ref().and_then(|message| Request::of(message));
                if let Some(message) = message {
                    seen.push(format!("device: {:?}", message.body));
                }
                if let Some(request) = request {
                    let response = Response { code: Code::CONTENT, payload: b"answer" };
                    self.to_server.extend(self.device.reply(request, response, &mut out).unwrap());
                }
                while let Some(frame) = self.device.poll_output(self.now, &mut out).unwrap() {
                    self.to_server.extend(frame);
                }
            }
        }
        seen
    }
}
