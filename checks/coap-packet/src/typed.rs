//! Typed messages both ways.

use crate::{Fields, Random};
use coap_spark::coap::{Code, Token, Type};
use coap_spark::handshake::DeviceId;
use coap_spark::message::describe::DescribeFlags;
use coap_spark::message::{
    Chunk, CloudReason, Envelope, Event, FromDevice, FromServer, Goodbye, Hello, HelloFlags, Indices, Name,
    Response, Scope, Store, Subscribe, UpdateBegin,
};
use serde_json::Value;
use std::error::Error;

const PATH: u16 = 11;
const MAX_AGE: u16 = 14;
const QUERY: u16 = 15;
const NO_RESPONSE: u16 = 258;

type Options = Vec<(u16, Vec<u8>)>;

fn name(random: &mut Random, len: usize) -> String {
    (0..=random.below(len)).map(|_| char::from(random.pick(b"abcxyz019_"))).collect()
}

/// One to four segments.
fn event_name(random: &mut Random) -> String {
    let segments: Vec<String> = (0..=random.below(4)).map(|_| name(random, 14)).collect();
    segments.join("/")
}

fn letter(letter: u8) -> (u16, Vec<u8>) {
    (PATH, vec![letter])
}

fn event_letter(public: bool) -> (u16, Vec<u8>) {
    letter(if public { b'e' } else { b'E' })
}

fn token(random: &mut Random) -> Token {
    Token::byte(random.byte())
}

fn response(random: &mut Random) -> (Code, Vec<u8>) {
    let code = random.pick(&[Code::CHANGED, Code::CONTENT, Code::BAD_REQUEST, Code::NOT_FOUND, Code(0xa3)]);
    let len = random.below(30);
    (code, random.bytes(len))
}

/// A message of a device, and what has to be on the wire.
pub(crate) fn from_device(random: &mut Random) -> Result<(Vec<u8>, Fields), Box<dyn Error>> {
    use Type::{Acknowledgement as Ack, Confirmable as Con, NonConfirmable as Non, Reset};
    let (text, data) = (event_name(random), random.below(40));
    let (data, answer, flags) = (random.bytes(data), response(random), random.byte());
    let (public, age) = (random.below(2) == 0, random.below(0x100_0000) as u32);
    let indices: Vec<u16> = (0..random.below(40)).map(|_| random.word()).collect();
    let (mut missed, mut token_used) = ([0; 80], Token::EMPTY);
    let id: [u8; 12] = random.bytes(12).try_into().map_err(|_| "12 bytes")?;
    let hello = Hello::new(random.word(), random.word(), HelloFlags(flags), random.word());
    let mut hello_bytes = Vec::new();
    if let (Some((product, version)), Some(platform)) = (hello.product, hello.platform_id) {
        hello_bytes =
            [product.to_be_bytes(), version.to_be_bytes(), [0, flags], platform.to_be_bytes()].concat();
    }

    let (kind, body, code, options, payload): (Type, FromDevice<'_>, Code, Options, Vec<u8>) =
        match random.below(13) {
            0 => (Non, FromDevice::Hello(hello), Code::POST, vec![letter(b'h')], hello_bytes),
            1 => {
                let hello = Hello { device_id: Some(DeviceId(id)), ..hello };
                let payload = [&hello_bytes[..], &[0, 12], &id].concat();
                (Con, FromDevice::Hello(hello), Code::POST, vec![letter(b'h')], payload)
            }
            2 => {
                let body = FromDevice::DescribePost { flags: DescribeFlags(flags), payload: &data };
                let options = vec![letter(b'd'), (QUERY, vec![flags])];
                (Con, body, Code::POST, options, data.clone())
            }
            3 | 4 => {
                let max_age = Some(age).filter(|_| public);
                let event = Event { name: Name::new(&text), public, max_age, data: Some(&data) };
                let mut options = vec![event_letter(public), (PATH, text.clone().into_bytes())];
                // Always three bytes.
                options.extend(max_age.map(|age| (MAX_AGE, age.to_be_bytes()[1..].to_vec())));
                (random.pick(&[Con, Non]), FromDevice::Event(event), Code::POST, options, data.clone())
            }
            5 => {
                let scope = random.pick(&[Scope::All, Scope::MyDevices, Scope::Device(DeviceId(id))]);
                let mut options = vec![letter(b'e'), (PATH, text.clone().into_bytes())];
                let mut payload = vec![];
                match scope {
                    Scope::MyDevices => options.push((QUERY, b"u".to_vec())),
                    Scope::Device(id) => payload = id.to_string().into_bytes(),
                    _ => {}
                }
                let body = FromDevice::Subscribe(Subscribe { prefix: Name::new(&text), scope });
                (Con, body, Code::GET, options, payload)
            }
            6 => {
                token_used = token(random);
                (Con, FromDevice::TimeRequest, Code::GET, vec![letter(b't')], vec![])
            }
            7 => {
                let list = Indices::encode_into(indices.iter().copied(), &mut missed);
                let payload = indices.iter().flat_map(|index| index.to_be_bytes()).collect();
                (Con, FromDevice::ChunkMissed(list), Code::GET, vec![letter(b'c')], payload)
            }
            8 => (Non, FromDevice::UpdateDone(&data), Code::PUT, vec![letter(b'u')], data.clone()),
            9 => {
                let mut options = vec![letter(b'x')];
                options.extend(public.then(|| (NO_RESPONSE, vec![])));
                let goodbye = Goodbye {
                    cloud_reason: Some(CloudReason::Sleep),
                    sleep_seconds: Some(age),
                    ..Goodbye::default()
                };
                // Flags, the reason, the seconds in groups of seven bits.
                let mut payload = vec![0x05, 6];
                let mut rest = age;
                while rest >= 0x80 {
                    payload.push(rest.to_le_bytes()[0] | 0x80);
                    rest >>= 7;
                }
                payload.push(rest.to_le_bytes()[0]);
                let body = FromDevice::Goodbye { no_response: public, goodbye };
                (Non, body, Code::POST, options, payload)
            }
            10 => {
                token_used = token(random);
                let body = FromDevice::Response(Response { code: answer.0, payload: &answer.1 });
                (random.pick(&[Con, Non, Ack]), body, answer.0, vec![], answer.1.clone())
            }
            11 => (Con, FromDevice::Ping, Code::EMPTY, vec![], vec![]),
            _ => {
                let (kind, body) = if public { (Ack, FromDevice::Ack) } else { (Reset, FromDevice::Reset) };
                (kind, body, Code::EMPTY, vec![], vec![])
            }
        };
    let envelope = Envelope { kind, id: random.word(), token: token_used, body };
    let mut out = [0; 1024];
    let bytes = envelope.encode_into(&mut out)?.to_vec();
    let token = token_used.as_bytes().to_vec();
    Ok((bytes, Fields { kind, code, id: envelope.id, token, options, payload }))
}

/// A message of a server, and what has to be on the wire.
pub(crate) fn from_server(random: &mut Random) -> Result<(Vec<u8>, Fields), Box<dyn Error>> {
    use Type::{Acknowledgement as Ack, Confirmable as Con, NonConfirmable as Non, Reset};
    let (text, function, data) = (event_name(random), name(random, 64), random.below(40));
    let (data, answer, flag) = (random.bytes(data), response(random), random.below(2) == 0);
    let begin = UpdateBegin {
        flags: random.byte(),
        chunk_size: random.word(),
        file_length: random.below(1 << 32) as u32,
        store: Store(random.byte()),
        address: random.below(1 << 32) as u32,
    };
    let begin_bytes = [
        &[begin.flags][..],
        &begin.chunk_size.to_be_bytes(),
        &begin.file_length.to_be_bytes(),
        &[begin.store.0],
        &begin.address.to_be_bytes(),
    ]
    .concat();
    let argument = name(random, 60).into_bytes();
    let mut used = token(random);

    let (kind, body, code, options, payload): (Type, FromServer<'_>, Code, Options, Vec<u8>) =
        match random.below(15) {
            0 => {
                used = Token::EMPTY;
                (Non, FromServer::Hello, Code::POST, vec![letter(b'h')], vec![])
            }
            1 => {
                let flags = Some(random.byte()).filter(|_| flag);
                let mut options = vec![letter(b'd')];
                options.extend(flags.map(|flags| (QUERY, vec![flags])));
                (Con, FromServer::Describe { flags: flags.map(DescribeFlags) }, Code::GET, options, vec![])
            }
            2 | 3 => {
                let argument = if flag { &argument[..] } else { &[] };
                let options =
                    vec![letter(b'f'), (PATH, function.clone().into_bytes()), (QUERY, argument.to_vec())];
                let body = FromServer::FunctionCall { name: function.as_bytes(), argument };
                (Con, body, Code::POST, options, vec![])
            }
            4 => {
                let options = vec![letter(b'v'), (PATH, function.clone().into_bytes())];
                let body = FromServer::VariableRequest { name: function.as_bytes() };
                (Con, body, Code::GET, options, vec![])
            }
            5 | 6 => {
                used = Token::EMPTY;
                let age = random.pick(&[0, 1, 255, 256, 60, 65_536, 0xff_ffff]);
                let max_age = Some(age).filter(|_| flag);
                let event = Event { name: Name::new(&text), public: flag, max_age, data: Some(&data) };
                let mut options = vec![event_letter(flag)];
                options.extend(text.split('/').map(|segment| (PATH, segment.as_bytes().to_vec())));
                // As few bytes as the number needs, none for 0.
                let bytes = |age: u32| age.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
                options.extend(max_age.map(|age| (MAX_AGE, bytes(age))));
                (Non, FromServer::Event(event), Code::POST, options, data.clone())
            }
            7 => {
                let options = vec![letter(b's'), (QUERY, vec![u8::from(flag)])];
                (Con, FromServer::Signal { on: flag }, Code::PUT, options, vec![])
            }
            8 => {
                used = Token::EMPTY;
                let (kind, body) = if flag { (Con, FromServer::Ping) } else { (Non, FromServer::SocketPing) };
                (kind, body, Code::EMPTY, vec![], vec![])
            }
            9 => {
                let mut options = vec![letter(b'k')];
                options.extend(flag.then(|| (QUERY, vec![1])));
                (Con, FromServer::KeyChange { discard_session: flag }, Code::PUT, options, vec![])
            }
            10 if flag => (Con, FromServer::UpdateBegin(begin), Code::POST, vec![letter(b'u')], begin_bytes),
            10 => (Con, FromServer::SaveBegin(begin), Code::POST, vec![letter(b's')], begin_bytes),
            11 => {
                let index = Some(random.word()).filter(|_| flag);
                let chunk = Chunk { crc: begin.address, index, data: &data };
                let mut options = vec![letter(b'c'), (QUERY, begin.address.to_be_bytes().to_vec())];
                options.extend(index.map(|index| (QUERY, index.to_be_bytes().to_vec())));
                (Con, FromServer::Chunk(chunk), Code::POST, options, data.clone())
            }
            12 => (Con, FromServer::UpdateDone, Code::PUT, vec![letter(b'u')], vec![]),
            13 => {
                let body = FromServer::Response(Response { code: answer.0, payload: &answer.1 });
                (Ack, body, answer.0, vec![], answer.1.clone())
            }
            _ => {
                used = Token::EMPTY;
                let (kind, body) = if flag { (Ack, FromServer::Ack) } else { (Reset, FromServer::Reset) };
                (kind, body, Code::EMPTY, vec![], vec![])
            }
        };
    let envelope = Envelope { kind, id: random.word(), token: used, body };
    let mut out = [0; 1024];
    let bytes = envelope.encode_into(&mut out)?.to_vec();
    let token = used.as_bytes().to_vec();
    Ok((bytes, Fields { kind, code, id: envelope.id, token, options, payload }))
}

/// Whether a message that coap-packet made is the one that it says.
pub(crate) fn check(typed: &Value, bytes: &[u8]) -> Result<(), String> {
    let text = |field: &str| typed[field].as_str().unwrap_or_default();
    let data = |field: &str| hex::decode(text(field)).unwrap_or_default();
    let flag = |field: &str| typed[field].as_bool().unwrap_or_default();
    let (kind, from) = (text("kind"), text("from"));
    let good = if from == "server" {
        match (kind, Envelope::<FromServer<'_>>::decode(bytes).map_err(|error| error.to_string())?.body) {
            ("function", FromServer::FunctionCall { name, argument }) => {
                name == text("name").as_bytes() && argument == text("argument").as_bytes()
            }
            ("variable", FromServer::VariableRequest { name }) => name == text("name").as_bytes(),
            ("describe", FromServer::Describe { flags }) => {
                flags.map(|flags| u64::from(flags.0)) == typed["flags"].as_u64()
            }
            ("signal", FromServer::Signal { on }) => on == flag("on"),
            ("publish", FromServer::Event(event)) => {
                let data = data("data");
                event.name == text("name")
                    && event.public == flag("open")
                    && event.max_age.map(u64::from) == typed["age"].as_u64()
                    && event.data.unwrap_or_default() == data
            }
            _ => false,
        }
    } else {
        match (kind, Envelope::<FromDevice<'_>>::decode(bytes).map_err(|error| error.to_string())?.body) {
            ("event", FromDevice::Event(event)) => {
                let data = data("data");
                event.name == text("name")
                    && event.public == flag("open")
                    && event.data == Some(&data[..])
                    && event.max_age.is_none()
            }
            ("subscribe", FromDevice::Subscribe(subscribe)) => {
                subscribe.prefix == text("name") && subscribe.scope == Scope::MyDevices
            }
            ("hello", FromDevice::Hello(hello)) => {
                let payload = data("payload");
                let [p0, p1, v0, v1, _, flags, platform @ ..] = &payload[..] else {
                    return Err("8 bytes".into());
                };
                hello.product == Some((u16::from_be_bytes([*p0, *p1]), u16::from_be_bytes([*v0, *v1])))
                    && hello.flags == Some(HelloFlags(*flags))
                    && hello.platform_id.map(u16::to_be_bytes).is_some_and(|id| id == platform)
                    && hello.device_id.is_none()
            }
            ("time", FromDevice::TimeRequest) => true,
            _ => false,
        }
    };
    if good { Ok(()) } else { Err(format!("not the {kind} of a {from}")) }
}
