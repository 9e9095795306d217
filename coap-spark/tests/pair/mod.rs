//! A server and a device with a wire between them, under a clock that only the test moves.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    reason = "each test file uses its part of it"
)]

use coap_spark::coap::{Code, Token, Type};
use coap_spark::connection::{
    Answers, DeviceConnection, Profile, Request, RequestKind, ServerConnection, ServerPolicy,
};
use coap_spark::message::{Envelope, Event, FromDevice, FromServer, Hello, HelloFlags, Name, Response};
use coap_spark::session::{Sealer, SessionKeys};
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

/// Sends requests, and says which message answered which: id of the request, whether it is the answer.
pub struct Asked {
    pub pair: Pair,
    pub answers: Vec<(u16, RequestKind, bool)>,
}

impl Asked {
    pub fn of(profile: Profile) -> Self {
        Self { pair: Pair::up(profile), answers: Vec::new() }
    }

    pub fn request(&mut self, body: FromServer<'_>) -> u16 {
        let mut out = [0; 1024];
        let sent = self.pair.server.request(self.pair.now, body, &mut out).unwrap();
        self.pair.to_device.extend(sent.bytes);
        sent.id
    }

    /// The device gets all, without answering.
    pub fn device_takes(&mut self) -> Vec<Request> {
        let mut requests = Vec::new();
        for byte in core::mem::take(&mut self.pair.to_device) {
            self.pair.device.handle_input(self.pair.now, &[byte]).unwrap();
            if let Some(message) = self.pair.device.poll_message() {
                requests.extend(Request::of(&message));
            }
        }
        requests
    }

    pub fn server_takes(&mut self) {
        for byte in core::mem::take(&mut self.pair.to_server) {
            self.pair.server.handle_input(self.pair.now, &[byte]).unwrap();
            if let Some(Answers { id, kind, is_answer, .. }) =
                self.pair.server.poll_message().and_then(|message| message.answers)
            {
                self.answers.push((id, kind, is_answer));
            }
        }
        // Replies of the server, so that it takes more.
        let mut out = [0; 64];
        while let Some(frame) = self.pair.server.poll_output(&mut out).unwrap() {
            self.pair.to_device.extend(frame);
        }
    }

    pub fn reply(&mut self, request: Request, code: Code) {
        let mut out = [0; 1024];
        let response = Response { code, payload: b"x" };
        let frames = self.pair.device.reply(request, response, &mut out).unwrap();
        self.pair.to_server.extend(frames);
    }
}

/// A device that writes its messages by hand: ids and tokens as the test says.
pub struct ByHand {
    pub sealer: Sealer,
    pub id: u16,
}

impl ByHand {
    /// With a server that has taken its Hello.
    pub fn connected(policy: ServerPolicy) -> (Self, ServerConnection, Duration) {
        let now = Duration::from_secs(1000);
        let mut server: ServerConnection = ServerConnection::new(&keys(), policy, 1, now);
        let mut device = Self { sealer: Sealer::new(&keys()), id: 0x1000 };
        let hello = FromDevice::Hello(Hello::new(6, 1, HelloFlags(2), 6));
        let frame = device.next(Type::NonConfirmable, hello);
        server.handle_input(now, &frame).unwrap();
        server.poll_message().unwrap();
        server.poll_output(&mut [0; 64]).unwrap().unwrap();
        (device, server, now)
    }

    /// With the next id.
    pub fn next(&mut self, kind: Type, body: FromDevice<'_>) -> Vec<u8> {
        self.id = self.id.wrapping_add(1);
        self.say(kind, self.id, Token::EMPTY, body)
    }

    pub fn say(&mut self, kind: Type, id: u16, token: Token, body: FromDevice<'_>) -> Vec<u8> {
        let (mut plain, mut out) = ([0; 1024], [0; 1024]);
        let plain = Envelope { kind, id, token, body }.encode_into(&mut plain).unwrap();
        self.sealer.seal(plain, &mut out).unwrap().to_vec()
    }
}

/// A private event.
pub const fn event<'a>(name: &'a str, data: &'a [u8]) -> Event<'a> {
    Event { name: Name::new(name), public: false, max_age: None, data: Some(data) }
}
