//! The server's end of `coap-spark` in memory.

use super::{KEYS, application, configured, system, whole};
use coap_spark::coap::{Code, Token, Type};
use coap_spark::connection::{ServerConnection, ServerPolicy};
use coap_spark::handshake::server::{AwaitIdentity, answer};
use coap_spark::message::{
    CloudReason, FromDevice, FromServer, Hello, ResetReason, Response, Scope, Subscribe,
};
use coap_spark::session::SessionKeys;
use core::time::Duration;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use rsa::RsaPublicKey;
use spark_keys::{DeviceKey, RsaPublicKeyView, rsa_backend};
use spark_sim::{Client, Photon, Started};

const NOW: Duration = Duration::ZERO;

/// What the device said in a session.
#[derive(Clone, PartialEq, Debug)]
pub enum Heard {
    Hello(Hello),
    Event { kind: Type, name: String, data: String, public: bool, ttl: u32 },
    Subscribe { prefix: String, mine: bool },
    Time,
    Goodbye { cloud: Option<CloudReason>, reset: Option<ResetReason> },
    Ack { id: u16 },
    Response { kind: Type, id: u16, token: Token, code: Code, payload: Vec<u8> },
    Other,
}

impl Heard {
    /// A private event as it is published without more.
    pub fn event(name: &str, data: &str) -> Self {
        let (name, data) = (name.to_owned(), data.to_owned());
        Self::Event { kind: Type::NonConfirmable, name, data, public: false, ttl: 60 }
    }
}

/// How the handshake went at the server.
pub struct Opened {
    pub session: Option<SessionKeys>,
    pub offered: Option<[u8; 162]>,
}

fn public(spki: &[u8]) -> RsaPublicKey {
    rsa_backend::to_rsa_public(&RsaPublicKeyView::parse_spki(spki).unwrap()).unwrap()
}

pub fn recorded(key: &DeviceKey) -> RsaPublicKey {
    public(&key.public_key())
}

/// The handshake, with the record of this device's key or, without one, with the key that it offers.
pub fn shake_hands(client: &mut Client<'_>, record: Option<&RsaPublicKey>) -> Opened {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let nonce = core::array::from_fn(|at| u8::try_from(at).unwrap() ^ 0x5a);
    let secret = core::array::from_fn(|at| u8::try_from(at).unwrap().wrapping_mul(37));
    let mut waiting = AwaitIdentity::start(nonce, NOW);
    client.handle_input(NOW, waiting.nonce());
    let Some(identity) = client.poll_output() else { return Opened { session: None, offered: None } };
    assert_eq!(waiting.push(&identity), identity.len());
    let mut offered = None;
    let look_up = |id, key: Option<&[u8; 162]>| {
        assert_eq!(id, super::ID);
        offered = key.copied();
        record.cloned().or_else(|| key.map(|key| public(key)))
    };
    let Ok(accepted) = answer(waiting, &KEYS.server, look_up, SessionKeys::new(secret), &mut rng) else {
        client.handle_close();
        return Opened { session: None, offered };
    };
    client.handle_input(NOW, &accepted.message);
    Opened { session: Some(accepted.session), offered }
}

/// A session in memory; the network delivers at once.
pub struct Cloud {
    pub connection: ServerConnection,
    /// The clock of both ends.
    pub now: Duration,
    /// Is refused when the device subscribes to it.
    pub refused: &'static str,
}

impl Cloud {
    pub fn open(client: &mut Client<'_>, session: &SessionKeys) -> (Self, Vec<Heard>) {
        Self::refusing(client, session, "nothing")
    }

    /// Refuses one subscription.
    pub fn refusing(
        client: &mut Client<'_>,
        session: &SessionKeys,
        refused: &'static str,
    ) -> (Self, Vec<Heard>) {
        let connection = ServerConnection::new(session, ServerPolicy::DEFAULT, 1000, NOW);
        let mut cloud = Self { connection, now: NOW, refused };
        let heard = cloud.exchange(client);
        assert!(cloud.connection.is_up() && client.is_up());
        (cloud, heard)
    }

    /// Carries bytes both ways until both are silent.
    pub fn exchange(&mut self, client: &mut Client<'_>) -> Vec<Heard> {
        let mut heard = Vec::new();
        while let Some(bytes) = client.poll_output() {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let used = self.connection.handle_input(self.now, rest).unwrap();
                rest = &rest[used..];
                let mut out = [0; 1024];
                let mut buffer = [0; 1024];
                if let Some(message) = self.connection.take_message(&mut buffer) {
                    let (kind, id, token) = (message.kind, message.id, message.token);
                    heard.push(match message.body {
                        FromDevice::Hello(hello) => Heard::Hello(hello),
                        FromDevice::Event(event) => Heard::Event {
                            kind,
                            name: event.name.to_string(),
                            data: String::from_utf8_lossy(event.data.unwrap_or_default()).into_owned(),
                            public: event.public,
                            ttl: event.ttl(),
                        },
                        FromDevice::Subscribe(Subscribe { prefix, scope }) => {
                            Heard::Subscribe { prefix: prefix.to_string(), mine: scope == Scope::MyDevices }
                        }
                        FromDevice::TimeRequest => Heard::Time,
                        FromDevice::Goodbye { goodbye, .. } => {
                            Heard::Goodbye { cloud: goodbye.cloud_reason, reset: goodbye.reset_reason }
                        }
                        FromDevice::Ack => Heard::Ack { id },
                        FromDevice::Response(Response { code, payload }) => {
                            Heard::Response { kind, id, token, code, payload: payload.to_vec() }
                        }
                        _ => Heard::Other,
                    });
                    let time = 1_500_000_000_u32.to_be_bytes();
                    let response = match message.body {
                        FromDevice::TimeRequest => Some(Response::content(&time)),
                        FromDevice::Subscribe(Subscribe { prefix, .. }) if prefix == self.refused => {
                            Some(Response::REFUSED)
                        }
                        FromDevice::Subscribe(_) => Some(Response { code: Code::EMPTY, payload: &[] }),
                        _ => None,
                    };
                    if let Some(response) = response {
                        let bytes = self.connection.respond(id, token, response, &mut out).unwrap();
                        client.handle_input(self.now, bytes);
                    }
                }
                while let Some(frame) = self.connection.poll_output(&mut out).unwrap() {
                    client.handle_input(self.now, frame);
                }
            }
        }
        heard
    }

    /// Sends a request: its id, its token, what came of it.
    pub fn ask(&mut self, client: &mut Client<'_>, body: FromServer<'_>) -> (u16, Token, Vec<Heard>) {
        let mut out = [0; 1024];
        let sent = self.connection.send(body, &mut out).unwrap();
        let (id, token) = (sent.id, sent.token);
        client.handle_input(self.now, sent.bytes);
        (id, token, self.exchange(client))
    }

    /// Code and payload of the answer to a call, which every generation sends behind the acknowledgement.
    pub fn call(&mut self, client: &mut Client<'_>, name: &[u8], argument: &[u8]) -> (Code, Vec<u8>) {
        let (id, token, heard) = self.ask(client, FromServer::FunctionCall { name, argument });
        let [Heard::Ack { id: to }, Heard::Response { kind, token: of, code, payload, .. }] = &heard[..]
        else {
            panic!("{heard:?}")
        };
        assert_eq!((*to, *kind, *of), (id, Type::NonConfirmable, token));
        (*code, payload.clone())
    }
}

pub fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(7)
}

pub fn connected(photon: &mut Photon, visit: impl FnOnce(&mut Client<'_>, &mut Cloud, Vec<Heard>)) {
    let mut rng = rng();
    let mut client = Client::connect(photon, &mut rng, NOW);
    let opened = shake_hands(&mut client, Some(&recorded(&KEYS.device)));
    assert_eq!(client.end(), None);
    let (mut cloud, heard) = Cloud::open(&mut client, &opened.session.unwrap());
    visit(&mut client, &mut cloud, heard);
    assert_eq!(client.end(), None);
}

pub fn healthy(version: u16) -> Photon {
    let mut photon = configured(&whole(version), Some(&KEYS.device), Some(&KEYS.server));
    assert_eq!(photon.power_on(), Started::Running);
    photon
}

pub fn in_safe_mode(version: u16) -> Photon {
    let mut modules = system(version);
    modules.push((super::APPLICATION, application(6, version + 1)));
    let mut photon = configured(&modules, Some(&KEYS.device), Some(&KEYS.server));
    assert_eq!(photon.power_on(), Started::SafeMode);
    photon
}
