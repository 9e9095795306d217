//! A session of the cloud and a scripted device, beside each other in memory.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code, each file uses its part of it"
)]

use coap_spark::coap::{Code, Type};
use coap_spark::connection::{DeviceConnection, Profile, Request, ServerConnection, ServerPolicy};
use coap_spark::handshake::DeviceId;
use coap_spark::message::{
    Envelope, FromDevice, FromServer, Hello, HelloFlags, Name, Response, Scope, Subscribe,
};
use coap_spark::session::SessionKeys;
use core::time::Duration;
use spark_cli::cloud::Event;
use spark_cli::cloud::catalogue::Catalogue;
use spark_cli::cloud::session::{Session, SessionOptions};
use spark_cli::synthetic;
use std::sync::Arc;

pub const HELLO: FromDevice<'static> = FromDevice::Hello(Hello::new(6, 1, HelloFlags(0), 6));

/// A scripted device beside the session.
pub struct Pair {
    pub session: Session,
    pub device: DeviceConnection<800>,
    pub now: Duration,
}

impl Pair {
    pub fn new() -> Self {
        let keys = SessionKeys::new([5; 40]);
        let now = Duration::ZERO;
        let connection = ServerConnection::new(&keys, ServerPolicy::DEFAULT, 1, now);
        let catalogue = Arc::new(Catalogue::new(synthetic::small(true).unwrap()));
        let session = Session::new(DeviceId([1; 12]), connection, catalogue, SessionOptions::default());
        let mut pair = Self { session, device: DeviceConnection::new(&keys, Profile::V2_3_1, now), now };
        pair.says(Type::NonConfirmable, HELLO);
        pair
    }

    pub fn says(&mut self, kind: Type, body: FromDevice<'_>) {
        let mut out = [0; 1024];
        let frame = self.device.send(kind, body, &mut out).unwrap().bytes.to_vec();
        self.session.handle_input(self.now, 1_500_000_000, &frame).unwrap();
    }

    /// What the server sends, in words; Describe is answered with `describe` if there is one.
    pub fn hears(&mut self, describe: Option<&str>) -> Vec<String> {
        let mut heard = Vec::new();
        let mut out = [0; 2048];
        while let Some(frame) = self.session.poll_send(self.now, &mut out).unwrap() {
            let frame = frame.to_vec();
            assert_eq!(self.device.handle_input(self.now, &frame), Ok(frame.len()));
            let mut buffer = [0; 800];
            let Some(message) = self.device.take_message(&mut buffer) else { continue };
            heard.push(words(&message));
            if let (Some(request), Some(describe)) = (Request::of(&message), describe) {
                let response = Response { code: Code::CONTENT, payload: describe.as_bytes() };
                let mut reply = [0; 2048];
                let frames = self.device.reply(request, response, &mut reply).unwrap().to_vec();
                self.session.handle_input(self.now, 0, &frames).unwrap();
            }
        }
        heard
    }

    pub fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.session.poll_event()).collect()
    }

    pub fn subscribes(&mut self, prefix: &str, scope: Scope<'_>) -> Vec<String> {
        let subscribe = Subscribe { prefix: Name::new(prefix), scope };
        self.says(Type::Confirmable, FromDevice::Subscribe(subscribe));
        self.hears(None)
    }
}

pub fn words(message: &Envelope<FromServer<'_>>) -> String {
    match message.body {
        FromServer::Event(event) => {
            let data = event.data.map(<[u8]>::escape_ascii).map(|data| data.to_string());
            format!("event {} {:?} ttl {:?}", event.name, data, event.max_age)
        }
        FromServer::Response(response) => {
            format!("response {} {}", response.code, response.payload.escape_ascii())
        }
        FromServer::UpdateBegin(begin) => format!("update begin {}", begin.file_length),
        other => format!("{other:?}"),
    }
}

/// A device that lacks system part 2 of 1404.
pub const OUTDATED: &str = r#"{"p":6,"m":[{"s":16384,"l":"m","vc":30,"vv":30,"f":"b","n":"0","v":1005,"d":[]},{"s":262144,"l":"m","vc":30,"vv":30,"f":"s","n":"1","v":2202,"d":[]},{"s":262144,"l":"m","vc":30,"vv":30,"f":"s","n":"2","v":207,"d":[]},{"s":131072,"l":"m","vc":30,"vv":26,"f":"u","n":"1","v":6,"d":[{"f":"s","n":"2","v":1404}]}]}"#;
