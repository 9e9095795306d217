//! Recorded sessions of device-os 0.4.9, 0.6.1, 0.7.0 and 2.3.1 with both JavaScript servers, replayed through our
//! server side and through our device side with the recorded keys and randomness.
//!
//! Every byte that our side emits must be the recorded one. Where it is not, [`DIFFERENCES`] says which and why.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod common;

use coap_spark::coap::Type;
use coap_spark::connection::{
    DeviceConnection, IdCheck, Profile, Request, RequestKind, ServerConnection, ServerPolicy,
};
use coap_spark::handshake::{DeviceId, device, server};
use coap_spark::message::{Envelope, FromDevice, FromServer, Response};
use coap_spark::session::{Opener, Sealer, SessionKeys};
use common::{Keys, Replayed, array, bytes, recorded_padding, rng, vector};
use core::time::Duration;
use serde_json::Value;
use std::collections::BTreeMap;

const SERVERS: [&str; 2] = ["brewskey", "particle"];
const DEVICES: [&str; 4] = ["v0.4.9", "v0.6.1", "v0.7.0", "v2.3.1"];
const NOW: Duration = Duration::ZERO;

/// How often our side differs from the recording, by recording and reason.
const DIFFERENCES: [(&str, &str, usize); 26] = [
    ("particle v0.4.9", HELLO_TOKEN, 1),
    ("particle v0.6.1", HELLO_TOKEN, 1),
    ("particle v0.7.0", HELLO_TOKEN, 1),
    ("particle v2.3.1", HELLO_TOKEN, 1),
    ("particle v0.4.9", REQUEST_TOKEN, 7),
    ("particle v0.6.1", REQUEST_TOKEN, 7),
    ("particle v0.7.0", REQUEST_TOKEN, 7),
    ("particle v2.3.1", REQUEST_TOKEN, 7),
    ("brewskey v0.4.9", MAX_AGE, 1),
    ("brewskey v0.6.1", MAX_AGE, 1),
    ("brewskey v0.7.0", MAX_AGE, 1),
    ("brewskey v2.3.1", MAX_AGE, 1),
    ("particle v0.4.9", ACK_TOKEN, 2),
    ("particle v0.6.1", ACK_TOKEN, 3),
    ("particle v0.7.0", ACK_TOKEN, 3),
    ("particle v2.3.1", ACK_TOKEN, 2),
    ("particle v0.4.9", ACK_OF_NON, 2),
    ("particle v0.6.1", ACK_OF_NON, 1),
    ("particle v0.7.0", ACK_OF_NON, 1),
    ("particle v2.3.1", ACK_OF_NON, 1),
    ("brewskey v2.3.1", ACK_OF_DESCRIBE, 1),
    ("particle v2.3.1", ACK_OF_DESCRIBE, 1),
    ("brewskey v0.4.9", SECOND_DESCRIBE, 1),
    ("particle v0.4.9", SECOND_DESCRIBE, 1),
    ("particle v2.3.1", SIGNAL_ACK_ID, 1),
    ("brewskey v2.3.1", RANDOM_TOKEN, 1),
];

const HELLO_TOKEN: &str = "the particle-iot server puts a token on its NON Hello";
const REQUEST_TOKEN: &str = "the particle-iot server's tokens are one ahead: its Hello has used the first";
const MAX_AGE: &str = "the Brewskey server writes Max-Age in 4 bytes, ours in as few as it needs";
const ACK_TOKEN: &str =
    "the particle-iot server puts a token on empty acknowledgements, which RFC 7252 forbids";
const ACK_OF_NON: &str = "the particle-iot server acknowledges NON events, which nobody waits for";
const ACK_OF_DESCRIBE: &str =
    "both servers leave the confirmable Describe answer without acknowledgement, ours sends it";
const SECOND_DESCRIBE: &str = "0.4.9 sends a second Describe answer whose message id is memory garbage";
const SIGNAL_ACK_ID: &str = "2.3.1 acknowledges Signal with an id of its own instead of the request's";

const RANDOM_TOKEN: &str = "2.x starts its tokens at a random value, which the recording does not tell";

struct Session {
    json: Value,
}

impl Session {
    fn load(server: &str, device: &str) -> Self {
        Self { json: vector(&format!("session_{server}_{device}.json")) }
    }

    fn keys(&self) -> SessionKeys {
        SessionKeys::new(array(&self.json["session_hex"]))
    }

    fn device_id(&self) -> DeviceId {
        self.json["device_id"].as_str().unwrap().parse().unwrap()
    }

    /// Frames in order: from the device?, wire bytes, plaintext.
    fn frames(&self) -> impl Iterator<Item = (bool, Vec<u8>, Vec<u8>)> {
        let messages = self.json["messages"].as_array().unwrap().iter();
        messages.filter(|message| message["dir"].is_string()).map(|message| {
            let from_device = message["dir"] == "device_to_server";
            (from_device, bytes(&message["wire_hex"]), bytes(&message["coap_hex"]))
        })
    }
}

fn for_every_session(mut check: impl FnMut(&str, &str, &Session)) {
    for server in SERVERS {
        for device in DEVICES {
            check(server, device, &Session::load(server, device));
        }
    }
}

#[test]
fn server_handshake_emits_the_recorded_bytes() {
    let keys = Keys::recorded();
    for_every_session(|name, tag, session| {
        let mut waiting = server::AwaitIdentity::start(array(&session.json["server_nonce_hex"]), NOW);
        assert_eq!(waiting.push(&bytes(&session.json["device_rsa_message_hex"])), 256);
        let (waiting, job) = waiting.complete().unwrap();
        let identified = waiting.resume(job.run(&keys.server, &mut rng(1))).unwrap();
        assert_eq!(identified.device_id(), session.device_id());
        assert_eq!(identified.offered_key(), Some(&keys.device_spki));

        let expected = bytes(&session.json["server_session_message_hex"]);
        let mut randomness = Replayed::new(recorded_padding(&keys.device, &expected[..128]));
        let (waiting, job) = identified.accept(session.keys());
        let accepted = waiting.resume(job.run(&keys.device_public, &keys.server, &mut randomness)).unwrap();
        assert_eq!(accepted.message[..], expected, "{name} {tag}");
    });
}

#[test]
fn device_handshake_emits_the_recorded_bytes() {
    let keys = Keys::recorded();
    for_every_session(|name, tag, session| {
        let mut waiting = device::AwaitNonce::start(NOW);
        assert_eq!(waiting.push(&bytes(&session.json["server_nonce_hex"])), 40);
        let (waiting, job) = waiting.complete(session.device_id(), Some(&keys.device_spki)).unwrap();
        let expected = bytes(&session.json["device_rsa_message_hex"]);
        let mut randomness = Replayed::new(recorded_padding(&keys.server, &expected));
        let (mut waiting, sent) = waiting.resume(job.run(&keys.server_public, &mut randomness), NOW).unwrap();
        assert_eq!(sent[..], expected, "{name} {tag}");

        assert_eq!(waiting.push(&bytes(&session.json["server_session_message_hex"])), 384);
        let (waiting, job) = waiting.complete().unwrap();
        let session_keys = waiting.resume(job.run(&keys.device, &keys.server_public, &mut rng(1))).unwrap();
        assert_eq!(session_keys.as_bytes(), session.keys().as_bytes());
    });
}

#[test]
fn frames_of_both_directions_seal_and_open_to_the_recorded_bytes() {
    for_every_session(|name, tag, session| {
        let keys = session.keys();
        let mut sealers = [Sealer::new(&keys), Sealer::new(&keys)];
        let mut openers = [Opener::new(&keys), Opener::new(&keys)];
        for (from_device, wire, plain) in session.frames() {
            let mut out = [0; 2048];
            let sealed = sealers[usize::from(from_device)].seal(&plain, &mut out).unwrap();
            assert_eq!(sealed, wire, "{name} {tag}");
            let mut body = wire[2..].to_vec();
            let len = openers[usize::from(from_device)].open_in_place(&mut body).unwrap();
            assert_eq!(body[..len], plain);
        }
    });
}

/// What our side emitted, opened again.
struct Emitted {
    opener: Opener,
    messages: Vec<Vec<u8>>,
}

impl Emitted {
    fn new(keys: &SessionKeys) -> Self {
        Self { opener: Opener::new(keys), messages: Vec::new() }
    }

    fn take(&mut self, mut wire: &[u8]) {
        while let Some((prefix, rest)) = wire.split_first_chunk::<2>() {
            let (body, rest) = rest.split_at(usize::from(u16::from_be_bytes(*prefix)));
            let mut body = body.to_vec();
            let len = self.opener.open_in_place(&mut body).unwrap();
            body.truncate(len);
            self.messages.push(body);
            wire = rest;
        }
    }
}

type Differences = BTreeMap<(String, &'static str), usize>;

fn expected_differences(of_server: bool) -> Differences {
    let server_side = [HELLO_TOKEN, REQUEST_TOKEN, MAX_AGE, ACK_TOKEN, ACK_OF_NON, ACK_OF_DESCRIBE];
    let mine = DIFFERENCES.into_iter().filter(|(_, why, _)| server_side.contains(why) == of_server);
    mine.map(|(name, why, count)| ((name.to_owned(), why), count)).collect()
}

#[test]
fn server_connection_emits_the_recorded_messages() {
    assert_eq!(replay_server(|_| ServerPolicy::DEFAULT), expected_differences(true));
}

#[test]
fn server_connection_with_their_policies_differs_in_what_is_never_emitted_only() {
    let policy = |name: &str| match name {
        "brewskey" => ServerPolicy::BREWSKEY,
        _ => ServerPolicy::PARTICLE,
    };
    let expected = [
        ("brewskey v0.4.9", MAX_AGE, 1),
        ("brewskey v0.6.1", MAX_AGE, 1),
        ("brewskey v0.7.0", MAX_AGE, 1),
        ("brewskey v2.3.1", MAX_AGE, 1),
        ("particle v0.4.9", ACK_TOKEN, 4),
        ("particle v0.6.1", ACK_TOKEN, 4),
        ("particle v0.7.0", ACK_TOKEN, 4),
        ("particle v2.3.1", ACK_TOKEN, 3),
    ];
    let expected: Differences =
        expected.into_iter().map(|(name, why, count)| ((name.to_owned(), why), count)).collect();
    assert_eq!(replay_server(policy), expected);
}

fn replay_server(policy: impl Fn(&str) -> ServerPolicy) -> Differences {
    let mut differences = Differences::new();
    for_every_session(|name, tag, session| {
        let keys = session.keys();
        let first_id = 0x2001;
        // Strict about ids but for the firmware that breaks them.
        let policy = ServerPolicy {
            ids: if tag == "v2.3.1" { IdCheck::DEFAULT } else { IdCheck::Strict },
            ..policy(name)
        };
        // With another policy than the recorded server's, the device answered other tokens than ours.
        let same_tokens = policy.hello_token == (name == "particle");
        let mut connection = ServerConnection::<1024>::new(&keys, policy, first_id, NOW);
        let mut emitted = Emitted::new(&keys);
        let mut note = |why| *differences.entry((format!("{name} {tag}"), why)).or_default() += 1;
        for (from_device, wire, plain) in session.frames() {
            let mut out = [0; 1024];
            if from_device {
                assert_eq!(connection.handle_input(NOW, &wire), Ok(wire.len()));
                if let Some(message) = connection.poll_message() {
                    if same_tokens && matches!(message.body, FromDevice::Response(_) | FromDevice::Ack) {
                        assert!(message.answers.is_some(), "{name} {tag}: {message:?}");
                    }
                    let again = message.encode_into(&mut out).unwrap();
                    assert_eq!(again, plain, "{name} {tag}: what was read is what was sent");
                } else {
                    assert!(matches!(decode_device(&plain).body, FromDevice::Ping));
                }
                let describe = decode_device(&plain);
                while let Some(frame) = connection.poll_output(&mut out).unwrap() {
                    let frame = frame.to_vec();
                    emitted.take(&frame);
                    if describe.kind == Type::Confirmable && matches!(describe.body, FromDevice::Response(_))
                    {
                        // Nothing of the kind is recorded.
                        assert_eq!(decode_server(&emitted.messages.pop().unwrap()).id, describe.id);
                        note(ACK_OF_DESCRIBE);
                    }
                }
                continue;
            }
            let recorded = decode_server(&plain);
            match recorded.body {
                FromServer::Hello | FromServer::Ack => {}
                FromServer::Response(response) => {
                    let frame = connection.respond(recorded.id, recorded.token, response, &mut out).unwrap();
                    emitted.take(frame);
                }
                body => {
                    let sent = match RequestKind::of(&body) {
                        Some(_) => connection.request(NOW, body, &mut out),
                        None => connection.send(body, &mut out),
                    };
                    emitted.take(sent.unwrap().bytes);
                }
            }
            if matches!(recorded.body, FromServer::Ack) {
                let position = emitted.messages.iter().position(|m| decode_server(m).id == recorded.id);
                match position.map(|at| emitted.messages.remove(at)) {
                    Some(ours) if ours == plain => {}
                    Some(ours) => {
                        assert_eq!((&plain[..1], &plain[4..]), (&[0x61][..], &[0][..]));
                        assert_eq!((&ours[0], &ours[1..]), (&0x60, &plain[1..4]));
                        note(ACK_TOKEN);
                    }
                    None => {
                        let caller_answers = connection.acknowledge(recorded.id, &mut out).unwrap().to_vec();
                        emitted.take(&caller_answers);
                        let ours = emitted.messages.pop().unwrap();
                        let asked = session.frames().find(|(from_device, _, p)| {
                            *from_device
                                && p[2..4] == plain[2..4]
                                && !matches!(decode_device(p).kind, Type::Acknowledgement)
                        });
                        if asked.is_some_and(|(_, _, p)| decode_device(&p).kind == Type::NonConfirmable) {
                            note(ACK_OF_NON);
                        } else {
                            assert_eq!(ours[1..], plain[1..4]);
                            note(ACK_TOKEN);
                        }
                    }
                }
                continue;
            }
            let ours = emitted.messages.remove(0);
            if let Some(why) = difference(&ours, &plain) {
                note(why);
            }
        }
        assert!(emitted.messages.is_empty(), "{name} {tag}: {:?}", emitted.messages);
        assert!(!same_tokens || connection.waiting().count() == 0, "{name} {tag}: everything was answered");
    });
    differences
}

/// Why our message is not the recorded one, `None` if it is. Anything else than the known differences fails.
fn difference(ours: &[u8], recorded: &[u8]) -> Option<&'static str> {
    if ours == recorded {
        return None;
    }
    let (a, b) = (decode_server(ours), decode_server(recorded));
    assert_eq!((a.kind, a.id, a.body), (b.kind, b.id, b.body), "the same message");
    if matches!(a.body, FromServer::Hello) {
        assert_eq!((a.token.as_byte(), b.token.as_byte()), (None, Some(1)));
        return Some(HELLO_TOKEN);
    }
    if matches!(a.body, FromServer::Event(_)) {
        // 31 3c here, 34 00 00 00 3c there
        let position = ours.windows(2).position(|pair| pair == [0x31, 60]).unwrap();
        assert_eq!(ours[..position], recorded[..position]);
        assert_eq!(recorded[position..position + 5], [0x34, 0, 0, 0, 60]);
        assert_eq!(ours[position + 2..], recorded[position + 5..]);
        return Some(MAX_AGE);
    }
    assert_eq!(a.token.as_byte().unwrap() + 1, b.token.as_byte().unwrap());
    assert_eq!((&ours[..4], &ours[5..]), (&recorded[..4], &recorded[5..]), "nothing but the token differs");
    Some(REQUEST_TOKEN)
}

#[test]
fn device_connection_emits_the_recorded_messages() {
    let mut differences = Differences::new();
    for_every_session(|name, tag, session| {
        let keys = session.keys();
        let profile = match tag {
            "v2.3.1" => Profile::V2_3_1,
            "v0.4.9" => Profile::V0_4_9,
            _ => Profile::V0_7_0,
        };
        let mut connection = DeviceConnection::<800>::new(&keys, profile, NOW);
        let mut emitted = Emitted::new(&keys);
        let mut note = |why| *differences.entry((format!("{name} {tag}"), why)).or_default() += 1;
        let mut requests: Vec<Request> = Vec::new();

        for (from_device, wire, plain) in session.frames() {
            let mut out = [0; 2048];
            if !from_device {
                assert_eq!(connection.handle_input(NOW, &wire), Ok(wire.len()));
                assert_eq!(connection.poll_output(NOW, &mut out).unwrap(), None, "nothing is owed");
                let message = connection.poll_message().unwrap();
                assert_eq!(message.envelope, decode_server(&plain));
                requests.extend(Request::of(&message));
                continue;
            }
            let recorded = decode_device(&plain);
            if is_second_describe(tag, &plain) {
                note(SECOND_DESCRIBE);
                continue;
            }
            let frame = match recorded.body {
                // The acknowledgement that begins our two-frame answer; the answer is the next recorded message.
                FromDevice::Ack => {
                    let request = requests.iter().find(|request| request.id == recorded.id).copied().unwrap();
                    let answer = session
                        .frames()
                        .filter(|(from_device, _, p)| *from_device && decode_device(p).token == request.token)
                        .find_map(|(_, _, p)| match decode_device(&p).body {
                            FromDevice::Response(r) => Some((r.code, r.payload.to_vec())),
                            _ => None,
                        });
                    let (code, payload) = answer.unwrap();
                    connection.reply(request, Response { code, payload: &payload }, &mut out).unwrap()
                }
                FromDevice::Response(response) => {
                    let request = requests.iter().find(|r| r.token == recorded.token).copied().unwrap();
                    if !emitted.messages.is_empty() {
                        assert_eq!(emitted.messages.remove(0), plain, "{name} {tag}: second frame");
                        continue;
                    }
                    connection.reply(request, response, &mut out).unwrap()
                }
                body => connection.send(recorded.kind, body, &mut out).unwrap().bytes,
            };
            emitted.take(frame);
            let ours = emitted.messages.remove(0);
            if ours != plain {
                assert_eq!(tag, "v2.3.1");
                if matches!(recorded.body, FromDevice::TimeRequest) {
                    assert_eq!((&ours[..4], &ours[5..]), (&plain[..4], &plain[5..]));
                    note(RANDOM_TOKEN);
                } else {
                    assert_eq!((&ours[..2], &ours[4..]), (&plain[..2], &plain[4..]));
                    note(SIGNAL_ACK_ID);
                }
            }
        }
        assert!(emitted.messages.is_empty());
    });
    assert_eq!(differences, expected_differences(false));
}

/// 0.4.9 answers Describe twice; the second answer's id is whatever was in its buffer.
fn is_second_describe(tag: &str, plain: &[u8]) -> bool {
    tag == "v0.4.9" && plain[..2] == [0x61, 0x45] && plain[5..].starts_with(b"\xff{") && plain[2] != 0x20
}

fn decode_device(plain: &[u8]) -> Envelope<FromDevice<'_>> {
    Envelope::<FromDevice<'_>>::decode(plain).unwrap()
}

fn decode_server(plain: &[u8]) -> Envelope<FromServer<'_>> {
    Envelope::<FromServer<'_>>::decode(plain).unwrap()
}
